"""OpenTelemetry: what a real SDK's exporters read of calls, attempts, failures, times."""

import asyncio
import json
import socket
import threading
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from masscancel import (
    AscendEX,
    Client,
    ConfigurationError,
    Credentials,
    DeadlineExceeded,
    InvalidRequest,
    NotSent,
    RetryPolicy,
    Target,
    cancel_many,
)
from masscancel.events import AttemptEnded
from masscancel.sim import Answer, Hang, SimulatedExchange
from masscancel.telemetry.otel import OpenTelemetry
from support import SECRETS, account_of, client_of, cold_pool
from telemetry_support import TELLTALE, attempt_ended, ended, sent, started, trouble

_NS = 1_000_000_000


class Collector:
    """A whole SDK in memory, and our listener in front of it."""

    def __init__(self, *, sampler: Sampler = ALWAYS_ON, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.listener = OpenTelemetry(self.provider, meters, **options)
        self.tracer = self.provider.get_tracer("the strategy's own")

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """The spans that have ended, in the order of their beginning; of one name, or all."""
        found = [span for span in self.exporter.get_finished_spans() if name in span.name]
        return sorted(found, key=lambda span: span.start_time or 0)

    def points(self, name: str) -> list[Any]:
        """The data points of a metric."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def facts(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes."""
    return {**(span.attributes or {})}


def seconds(span: ReadableSpan) -> float:
    """How long a span took."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / _NS


@pytest.fixture
def collector() -> Collector:
    """An SDK in memory."""
    return Collector()


@pytest.mark.asyncio
async def test_a_call_and_its_attempts(exchange: SimulatedExchange, collector: Collector) -> None:
    """A span of the call, the caller's own its parent; within it one of each attempt."""
    exchange.faults.add(Answer(503), operation="cancel-all")
    async with client_of(exchange, account_of(exchange)) as client:
        client.pool.subscribe(collector.listener)
        with collector.tracer.start_as_current_span("strategy") as own:
            await client.cancel_all("cash", "BTC/USDT")
    [call] = collector.spans("cancel_all")
    first, second = collector.spans("attempt")
    assert call.name == "cancel_all ascendex"
    assert call.parent is not None
    assert call.parent.span_id == own.get_span_context().span_id
    assert (
        facts(call).items()
        >= {
            "masscancel.operation": "cancel_all",
            "masscancel.venue": "ascendex",
            "masscancel.account": "group-0",
            "masscancel.account_category": "cash",
            "masscancel.symbol": "BTC/USDT",
            "masscancel.outcome": "acknowledged",
            "masscancel.call.attempts": 2,
        }.items()
    )
    assert call.status.status_code is StatusCode.UNSET
    host, port = exchange.rest_url.removeprefix("http://").split(":")
    for number, attempt in enumerate((first, second), 1):
        assert attempt.parent is not None
        assert attempt.parent.span_id == call.context.span_id
        assert attempt.kind is SpanKind.CLIENT
        assert facts(attempt)["masscancel.attempt.number"] == number
        assert facts(attempt)["server.address"] == host
        assert facts(attempt)["server.port"] == int(port)
    assert first.status.status_code is StatusCode.ERROR
    assert "503" in (first.status.description or "")
    assert facts(first)["error.type"] == "VenueUnavailable"
    assert [facts(each)["http.response.status_code"] for each in (first, second)] == [503, 200]
    assert second.status.status_code is StatusCode.UNSET
    assert "error.type" not in facts(second)


@pytest.mark.asyncio
async def test_the_times_are_right(exchange: SimulatedExchange, collector: Collector) -> None:
    """An attempt begins when it leaves and ends when it is answered, within its call."""
    ends: list[float] = []
    exchange.faults.add(Answer(503), operation="cancel-all")
    async with client_of(exchange, account_of(exchange)) as client:
        client.pool.subscribe(collector.listener)
        client.pool.subscribe(lambda event: ends.append(getattr(event, "elapsed", 0.0)))
        await client.cancel_all("cash")
    [call] = collector.spans("cancel_all")
    first, second = collector.spans("attempt")
    times = [
        *(call.start_time, first.start_time, first.end_time),
        *(second.start_time, second.end_time, call.end_time),
    ]
    assert times == sorted(times, key=lambda each: each or 0)
    # started, sent, ended, sent, ended, ended: the same times by the events' own clock
    assert seconds(first) == pytest.approx(ends[2], abs=0.05)
    assert seconds(second) == pytest.approx(ends[4], abs=0.05)
    assert seconds(call) == pytest.approx(ends[5], abs=0.05)


@pytest.mark.asyncio
async def test_callers_keep_their_own(exchange: SimulatedExchange, collector: Collector) -> None:
    """Of fan-outs side by side, each target's call is in the trace of who asked for it."""
    client = client_of(exchange, account_of(exchange))
    parents: dict[str, int] = {}

    async def desk(category: str) -> None:
        with collector.tracer.start_as_current_span(category) as own:
            parents[category] = own.get_span_context().span_id
            targets = Target.product([client], [category], ["A/B", "C/D"])
            await cancel_many(targets)

    async with client:
        client.pool.subscribe(collector.listener)
        await asyncio.gather(desk("cash"), desk("margin"))
    calls = collector.spans("cancel_all")
    assert len(calls) == 4
    for call in calls:
        assert call.parent is not None
        assert call.parent.span_id == parents[str(facts(call)["masscancel.account_category"])]
    assert {facts(call)["masscancel.symbol"] for call in calls} == {"A/B", "C/D"}


@pytest.mark.asyncio
async def test_failures(exchange: SimulatedExchange, collector: Collector) -> None:
    """Refused, or at the deadline: errors, with the class and what is known."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        client.pool.subscribe(collector.listener)
        exchange.faults.add(TELLTALE, operation="cancel-all")
        with pytest.raises(InvalidRequest):
            await client.cancel_all("cash")
        exchange.faults.add(Hang(), operation="cancel-all")
        with pytest.raises(DeadlineExceeded):
            await client.cancel_all("cash", timeout=0.05)
    refused, late = collector.spans("cancel_all")
    assert [each.status.status_code for each in (refused, late)] == [StatusCode.ERROR] * 2
    assert facts(refused)["error.type"] == "InvalidRequest"
    assert facts(late)["error.type"] == "UnansweredInTime"
    assert facts(refused)["masscancel.may_have_executed"] is False
    assert facts(late)["masscancel.may_have_executed"] is True
    assert "may have been carried out" in (late.status.description or "")
    attempts = collector.spans("attempt")
    assert [facts(each)["error.type"] for each in attempts] == ["InvalidRequest", "unknown"]
    assert attempts[1].status.status_code is StatusCode.ERROR


@pytest.mark.asyncio
async def test_what_never_left(collector: Collector) -> None:
    """An attempt without a connection has a span, too, and no place among the times."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        here = f"127.0.0.1:{port}"
        venue = AscendEX(rest_url=f"http://{here}", stream_url=f"ws://{here}", account_group=0)
        key = Credentials(*SECRETS)
        async with cold_pool() as pool, Client(key, venue=venue, pool=pool) as client:
            pool.subscribe(collector.listener)
            with pytest.raises(NotSent):
                await client.cancel_all("cash", timeout=0.05)
    attempts = collector.spans("attempt")
    assert attempts
    assert {facts(each)["masscancel.fate"] for each in attempts} == {"not sent"}
    assert {facts(each)["server.port"] for each in attempts} == {port}
    assert sum(point.value for point in collector.points("masscancel.attempts")) == len(attempts)
    assert collector.points("masscancel.attempt.duration") == []


def children(collector: Collector, call: ReadableSpan) -> list[ReadableSpan]:
    """The spans of a call's attempts."""
    return [
        span
        for span in collector.spans("attempt")
        if span.parent is not None and span.parent.span_id == call.context.span_id
    ]


@pytest.mark.asyncio
async def test_no_attempt_is_missing(exchange: SimulatedExchange, collector: Collector) -> None:
    """However calls end, each attempt has its span; one that lost a race ends after its call."""
    await trouble(exchange, collector.listener)
    lost = asyncio.Event()

    def listen(event: Any) -> None:
        collector.listener(event)
        if isinstance(event, AttemptEnded) and event.fate == "unknown":
            lost.set()

    exchange.faults.add(Hang(), operation="cancel-all")
    quick = RetryPolicy(patience=0.01)
    async with client_of(exchange, account_of(exchange, 1), retry=quick) as client:
        client.pool.subscribe(listen)
        await client.cancel_all("cash", timeout=0.3)
        async with asyncio.timeout(10):
            await lost.wait()
    calls = collector.spans("ascendex")
    assert len(calls) == 11
    for call in calls:
        attempts = children(collector, call)
        assert len(attempts) == facts(call).get("masscancel.call.attempts", 0)
    loser, winner = children(collector, calls[-1])
    assert (facts(loser)["error.type"], facts(winner)["masscancel.fate"]) == ("unknown", "answered")
    assert (loser.end_time or 0) > (calls[-1].end_time or 0)


def test_what_never_ends_is_bounded() -> None:
    """Of too much that goes on, the oldest ends as an error; what follows of it is ignored."""
    collector = Collector(most_open=10)
    for number in range(30):
        collector.listener(started(f"call-{number}"))
    lost = collector.spans()
    assert [facts(span)["masscancel.call.id"] for span in lost] == [f"call-{n}" for n in range(20)]
    assert {facts(span)["error.type"] for span in lost} == {"lost"}
    assert {span.status.status_code for span in lost} == {StatusCode.ERROR}
    for event in (sent("call-0"), attempt_ended("call-0"), ended("call-0"), sent("of nobody")):
        collector.listener(event)
    assert len(collector.spans()) == 20
    for number in range(20, 30):
        collector.listener(ended(f"call-{number}"))
    assert [each.status.status_code for each in collector.spans()[20:]] == [StatusCode.UNSET] * 10
    with pytest.raises(ConfigurationError, match="most_open"):
        OpenTelemetry(most_open=0)


@pytest.mark.asyncio
async def test_metrics(exchange: SimulatedExchange, collector: Collector) -> None:
    """Calls and attempts are counted as the exchange saw them, in buckets of milliseconds."""
    exchange.faults.add(Answer(503), operation="cancel-all", times=2)
    async with client_of(exchange, account_of(exchange)) as client:
        client.pool.subscribe(collector.listener)
        for _ in range(3):
            await client.cancel_all("cash")
    [calls] = collector.points("masscancel.call.duration")
    assert calls.count == 3
    assert (calls.explicit_bounds[0], calls.explicit_bounds[-1]) == (0.0005, 30.0)
    assert facts(calls) == {
        "masscancel.operation": "cancel_all",
        "masscancel.venue": "ascendex",
        "masscancel.account": "group-0",
        "masscancel.outcome": "ok",
    }
    attempts = collector.points("masscancel.attempts")
    by_status = {facts(each)["http.response.status_code"]: each.value for each in attempts}
    assert by_status == {503: 2, 200: 3}
    assert sum(by_status.values()) == len(exchange.operations("cancel-all"))


@pytest.mark.asyncio
async def test_nothing_secret(exchange: SimulatedExchange, collector: Collector) -> None:
    """Whatever goes wrong, and whatever the venue repeats of what it was told."""
    await trouble(exchange, collector.listener)
    spans = [span.to_json() for span in collector.spans()]
    data = collector.reader.get_metrics_data()
    assert data is not None
    text = "".join([*spans, data.to_json()])
    assert "300012" in text
    assert not any(secret in text for secret in SECRETS)
    keys = {key for span in spans for key in json.loads(span)["attributes"]}
    assert {"error.type", "server.address", "http.response.status_code"} <= keys
    ours = {key for key in keys if not key.startswith("masscancel.")}
    assert ours == {"error.type", "server.address", "server.port", "http.response.status_code"}


def test_threads() -> None:
    """Threads that publish at once lose nothing."""
    collector = Collector()

    def work(name: int) -> None:
        for number in range(200):
            call = f"{name}-{number}"
            for event in (started(call), sent(call), attempt_ended(call), ended(call)):
                collector.listener(event)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(collector.spans("attempt")) == len(collector.spans("cancel_all")) == 1600
    [calls] = collector.points("masscancel.call.duration")
    assert calls.count == 1600


def test_what_is_not_sampled_is_counted() -> None:
    """Where the SDK wants no span, there is none; the metrics are as ever."""
    collector = Collector(sampler=ALWAYS_OFF)
    for event in (started(), sent(), attempt_ended(), ended()):
        collector.listener(event)
    assert collector.spans() == []
    [calls] = collector.points("masscancel.call.duration")
    assert calls.count == 1
