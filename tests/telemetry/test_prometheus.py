"""Prometheus: what its own parser reads of the text, beside what the exchange saw."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from masscancel import ConfigurationError, OrderGate, SessionPool, subscribe
from masscancel.events import GateShut, OriginBlocked, SwitchFired
from masscancel.sim import Answer, SimulatedExchange
from masscancel.telemetry.prometheus import CONTENT_TYPE, Prometheus
from support import SECRETS, account_of, client_of
from telemetry_support import ended, trouble


def families(metrics: Prometheus) -> dict[str, Metric]:
    """What Prometheus' parser reads, by name."""
    return {each.name: each for each in text_string_to_metric_families(metrics.text())}


def values(metrics: Prometheus, name: str, **labels: str) -> list[float]:
    """The values of the samples of a name that have these labels."""
    return [
        sample.value
        for family in families(metrics).values()
        for sample in family.samples
        if sample.name == name and sample.labels.items() >= labels.items()
    ]


def test_there_is_a_name_for_everything() -> None:
    """Nothing has happened: each metric has its name, its kind and a sentence, and no sample."""
    found = families(Prometheus())
    assert {name: (each.type, each.samples) for name, each in found.items()} == {
        "masscancel_call_duration_seconds": ("histogram", []),
        "masscancel_attempts": ("counter", []),
        "masscancel_attempt_duration_seconds": ("histogram", []),
        "masscancel_origin_blocks": ("counter", []),
        "masscancel_gate_changes": ("counter", []),
        "masscancel_switch_fired": ("counter", []),
    }
    assert all(each.documentation.endswith(".") for each in found.values())
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


@pytest.mark.asyncio
async def test_what_the_exchange_saw(exchange: SimulatedExchange) -> None:
    """Requests to cancel, by their status; calls, by account and outcome."""
    metrics = Prometheus()
    exchange.faults.add(Answer(503), operation="cancel-all", times=2)
    async with client_of(exchange, account_of(exchange)) as client:
        client.pool.subscribe(metrics)
        for _ in range(3):
            await client.cancel_all("cash")
        await client.open_orders("cash")
    cancels = {"masscancel_cancels": "true"}
    status = "http_response_status_code"
    attempts = "masscancel_attempts_total"
    assert values(metrics, attempts, **cancels, **{status: "503"}) == [2]
    assert values(metrics, attempts, **cancels, **{status: "200"}) == [3]
    assert sum(values(metrics, attempts, **cancels)) == len(exchange.operations("cancel-all"))
    labels = {"masscancel_account": "group-0", "masscancel_outcome": "ok"}
    calls = "masscancel_call_duration_seconds_count"
    assert values(metrics, calls, masscancel_operation="cancel_all", **labels) == [3]
    assert values(metrics, calls, masscancel_operation="open_orders", **labels) == [1]


@pytest.mark.asyncio
async def test_histograms_add_up(exchange: SimulatedExchange) -> None:
    """Buckets only grow, and the last has all; the sum is that of the times."""
    metrics, times = Prometheus(), []

    def listen(event: Any) -> None:
        metrics(event)
        if type(event).__name__ == "CallEnded":
            times.append(event.elapsed)

    await trouble(exchange, listen)
    family = families(metrics)["masscancel_call_duration_seconds"]
    series: dict[frozenset[Any], list[float]] = {}
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            key = frozenset({(k, v) for k, v in sample.labels.items() if k != "le"})
            series.setdefault(key, []).append(sample.value)
    counts = values(metrics, f"{family.name}_count")
    assert [bucket[-1] for bucket in series.values()] == counts
    assert all(bucket == sorted(bucket) for bucket in series.values())
    assert sum(counts) == len(times)
    assert sum(values(metrics, f"{family.name}_sum")) == pytest.approx(sum(times))
    unknown = values(metrics, f"{family.name}_count", masscancel_outcome="unknown")
    assert sum(unknown) >= 1  # the one at its deadline


@pytest.mark.parametrize(
    ("elapsed", "below"), [(0.0005, 0.0005), (0.0006, 0.001), (0.05, 0.05), (31.0, float("inf"))]
)
def test_a_bucket_includes_its_bound(elapsed: float, below: float) -> None:
    """The first bucket that counts a time is the one whose bound is not below it."""
    metrics = Prometheus()
    metrics(ended(elapsed=elapsed))
    samples = families(metrics)["masscancel_call_duration_seconds"].samples
    buckets = [(float(each.labels["le"]), each.value) for each in samples if "le" in each.labels]
    assert next(bound for bound, count in buckets if count) == below


@pytest.fixture
def process_wide() -> Iterator[Prometheus]:
    """What the whole process publishes during the test."""
    metrics = Prometheus()
    unsubscribe = subscribe(metrics)
    yield metrics
    unsubscribe()


def test_gates_switches_and_blocks(process_wide: Prometheus) -> None:
    """What happens beside calls; a name of a user's may be anything."""
    odd = 'de"sk\\one\ntwo'
    gate = OrderGate(odd)
    gate.shut()
    gate.reopen()
    gate.shut()
    changes = "masscancel_gate_changes_total"
    assert values(process_wide, changes, masscancel_gate=odd, masscancel_gate_state="shut") == [2]
    assert values(process_wide, changes, masscancel_gate=odd, masscancel_gate_state="open") == [1]
    process_wide(SwitchFired(targets=("spot [mm]",), silent_for=15.0))
    process_wide(OriginBlocked(origin="https://v.test", account="", seconds=60.0, reason="slow"))
    assert values(process_wide, "masscancel_switch_fired_total") == [1]
    blocks = values(
        process_wide, "masscancel_origin_blocks_total", server_address="v.test", server_port="443"
    )
    assert blocks == [1]


def test_series_are_bounded() -> None:
    """A label with ever new values ends in one series, and nothing is lost."""
    metrics = Prometheus(most_series=3)
    for number in range(10):
        metrics(GateShut(gate=f"gate-{number}"))
    metrics(GateShut(gate="gate-0"))
    changes = "masscancel_gate_changes_total"
    assert values(metrics, changes, otel_metric_overflow="true") == [7]
    assert values(metrics, changes, masscancel_gate="gate-0") == [2]
    assert sum(values(metrics, changes)) == 11
    assert len(values(metrics, changes)) == 4
    with pytest.raises(ConfigurationError, match="most_series"):
        Prometheus(most_series=0)


@pytest.mark.asyncio
async def test_nothing_secret(exchange: SimulatedExchange) -> None:
    """Whatever goes wrong, and whatever the venue repeats; no id, no symbol, no sentence."""
    metrics = Prometheus()
    await trouble(exchange, metrics)
    text = metrics.text()
    assert "InvalidRequest" in text
    assert not any(secret in text for secret in SECRETS)
    labels = {
        name for each in families(metrics).values() for s in each.samples for name in s.labels
    }
    assert labels == {
        *("error_type", "http_response_status_code", "le", "server_address", "server_port"),
        *("masscancel_account", "masscancel_cancels", "masscancel_fate", "masscancel_operation"),
        *("masscancel_outcome", "masscancel_path", "masscancel_venue"),
    }


def test_threads() -> None:
    """Threads that count at once, while others read, lose nothing."""
    metrics = Prometheus()

    def work() -> None:
        for _ in range(500):
            metrics(ended())
        metrics.text()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(metrics, "masscancel_call_duration_seconds_count") == [4000]


@pytest.mark.asyncio
async def test_one_pool_or_all() -> None:
    """A listener of a pool counts only what is of that pool."""
    async with SimulatedExchange() as exchange, SessionPool() as one, SessionPool() as two:
        account = account_of(exchange)
        metrics = Prometheus()
        one.subscribe(metrics)
        for pool in (one, two):
            async with client_of(exchange, account, pool=pool) as client:
                await client.cancel_all("cash")
    assert values(metrics, "masscancel_call_duration_seconds_count") == [1]
