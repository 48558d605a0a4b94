"""Structured logs: one JSON object of each record, with all that an event says."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from masscancel import OrderGate
from masscancel.events import Publisher
from masscancel.sim import SimulatedExchange
from masscancel.telemetry.logs import JsonFormatter
from support import SECRETS, account_of, client_of
from telemetry_support import ended, trouble


class Log(io.StringIO):
    """A handler's stream, read as JSON lines."""

    @property
    def records(self) -> list[dict[str, Any]]:
        """Each line's object."""
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    """All that masscancel logs during the test."""
    stream = Log()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("masscancel")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.asyncio
async def test_each_event_is_an_object(exchange: SimulatedExchange, log: Log) -> None:
    """By the names that spans have; the call's id ties them together."""
    async with client_of(exchange, account_of(exchange)) as client:
        await client.cancel_all("cash", "BTC/USDT")
    records = [each for each in log.records if "masscancel.call.id" in each]
    assert [(each["event.name"], each["level"]) for each in records] == [
        ("masscancel.call_started", "DEBUG"),
        ("masscancel.attempt_sent", "DEBUG"),
        ("masscancel.attempt_ended", "DEBUG"),
        ("masscancel.call_ended", "INFO"),
    ]
    assert len({each["masscancel.call.id"] for each in records}) == 1
    assert (
        records[2].items()
        >= {
            "http.response.status_code": 200,
            "masscancel.cancels": True,
            "masscancel.fate": "answered",
            "server.address": "127.0.0.1",
            "server.port": int(exchange.rest_url.rpartition(":")[2]),
        }.items()
    )
    assert (
        records[3].items()
        >= {
            "logger": "masscancel",
            "masscancel.account": "group-0",
            "masscancel.account_category": "cash",
            "masscancel.operation": "cancel_all",
            "masscancel.outcome": "acknowledged",
            "masscancel.symbol": "BTC/USDT",
            "masscancel.venue": "ascendex",
        }.items()
    )
    assert records[3]["message"].startswith("cancel_all cash BTC/USDT on ascendex [group-0]: ack")
    assert records[3]["timestamp"].endswith("+00:00")


@pytest.mark.asyncio
async def test_nothing_secret(exchange: SimulatedExchange, log: Log) -> None:
    """Whatever goes wrong; and a venue's line breaks make no line of their own."""
    await trouble(exchange, lambda _: None)
    assert not any(secret in log.getvalue() for secret in SECRETS)
    refused = [each for each in log.records if each.get("error.type") == "InvalidRequest"]
    assert {each["event.name"] for each in refused} == {
        "masscancel.attempt_ended",
        "masscancel.call_ended",
    }
    assert log.getvalue().isascii()


def test_what_is_empty_is_left_out(log: Log) -> None:
    """A reader need not tell nothing from an empty word."""
    Publisher(None).publish(ended(account="", error="NotFlat", ok=False))
    [record] = log.records
    assert record["error.type"] == "NotFlat"
    assert "masscancel.account" not in record


def test_other_records(log: Log) -> None:
    """What is no event is an object, too, with its traceback if it has one."""

    def broken(_: object) -> None:
        raise LookupError("a bug")

    publisher = Publisher()
    publisher.subscribe(broken)
    publisher.publish(ended())
    failure, end = log.records
    assert (failure["message"], failure["level"]) == ("a listener has failed", "ERROR")
    assert (failure["exception.type"], failure["exception.message"]) == ("LookupError", "a bug")
    assert "Traceback" in failure["exception.stacktrace"]
    assert "event.name" not in failure
    assert end["event.name"] == "masscancel.call_ended"


def test_gates(log: Log) -> None:
    """A gate is named."""
    OrderGate("desk").shut()
    [record] = log.records
    assert (record["event.name"], record["masscancel.gate"]) == ("masscancel.gate_shut", "desk")
    assert record["message"] == "the gate desk: GateShut"
