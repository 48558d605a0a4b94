"""Measures: what of an event is counted, and how it is told apart. Pure.

The attributes of a measure have few values: accounts by their labels, or 8 hex digits of the key's
SHA-256; never a symbol, an order, a request or a sentence.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from masscancel.events import (
    AttemptEnded,
    CallEnded,
    Event,
    GateOpened,
    GateShut,
    OriginBlocked,
    SwitchFired,
)
from masscancel.telemetry.attributes import Attributes, error_type, server

__all__ = ["INSTRUMENTS", "Instrument", "measures"]

#: Upper bounds of what takes from half a millisecond to half a minute. Seconds.
_BUCKETS: Final = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)


class Instrument(msgspec.Struct, frozen=True):
    """An instrument: a histogram if it has buckets, otherwise a counter.

    Attributes:
        name: in OpenTelemetry's spelling.
        unit: by UCUM, such as ``s``.
        description: for people.
        buckets: upper bounds, in that unit.
    """

    name: str
    unit: str
    description: str
    buckets: tuple[float, ...] = ()


_CALLS: Final = Instrument(
    "masscancel.call.duration", "s", "Time from a public call to its end.", _BUCKETS
)
_ATTEMPTS: Final = Instrument(
    "masscancel.attempts", "{attempt}", "Requests, by what became of them."
)
_ATTEMPT_TIME: Final = Instrument(
    "masscancel.attempt.duration", "s", "Time from a request's stamp to its end.", _BUCKETS
)
_BLOCKS: Final = Instrument(
    "masscancel.origin.blocks", "{block}", "How often a venue asked everybody to wait."
)
_GATES: Final = Instrument("masscancel.gate.changes", "{change}", "Gates shut and opened.")
_SWITCHES: Final = Instrument(
    "masscancel.switch.fired", "{switch}", "Dead man's switches that have fired."
)

INSTRUMENTS: Final = (_CALLS, _ATTEMPTS, _ATTEMPT_TIME, _BLOCKS, _GATES, _SWITCHES)


def measures(event: Event) -> Iterator[tuple[Instrument, float, Attributes]]:
    """What an event adds to which instrument; attributes are always in the same order."""
    match event:
        case CallEnded():
            yield _CALLS, event.elapsed, _of_call(event)
        case AttemptEnded():
            attributes = _of_attempt(event)
            yield _ATTEMPTS, 1, attributes
            if event.elapsed:  # it was stamped
                yield _ATTEMPT_TIME, event.elapsed, attributes
        case OriginBlocked():
            yield _BLOCKS, 1, {**server(event.origin)}
        case GateShut() | GateOpened():
            state = "shut" if isinstance(event, GateShut) else "open"
            yield _GATES, 1, {"masscancel.gate": event.gate, "masscancel.gate.state": state}
        case SwitchFired():
            yield _SWITCHES, 1, {}


def _of_call(event: CallEnded) -> Attributes:
    outcome = "ok" if event.ok else "unknown" if event.may_have_executed else "failed"
    return {
        "masscancel.operation": event.name,
        "masscancel.venue": event.venue,
        "masscancel.account": event.account,
        "masscancel.outcome": outcome,
    } | _error(event)


def _of_attempt(event: AttemptEnded) -> Attributes:
    status = {} if event.http_status is None else {"http.response.status_code": event.http_status}
    return {
        **server(event.origin),
        "masscancel.path": event.path,
        "masscancel.cancels": event.cancels,
        "masscancel.fate": event.fate,
        **status,
        **_error(event),
    }


def _error(event: Event) -> Attributes:
    kind = error_type(event)
    return {"error.type": kind} if kind else {}
