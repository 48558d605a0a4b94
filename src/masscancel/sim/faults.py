"""Scripted faults, as data: which requests they strike, and what becomes of those.

A `Fault` is an action and what it matches; a `FaultPlan` decides, purely, which actions apply to a
request. Nothing here does any I/O: the server plays the actions (`wire.py`, `stream.py`).
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from masscancel.sim.dialect import Request

_MIB = 2**20


# --- what happens to a request before it is executed; several may apply ---------------------------


class Delay(msgspec.Struct, frozen=True):
    """The request waits `seconds` of real time before it is executed."""

    seconds: float


class Hold(msgspec.Struct, frozen=True):
    """The request waits, before it is executed, until `SimulatedExchange.release(tag)`.

    It is executed then even if its client has long gone.
    """

    tag: str = ""


class Skew(msgspec.Struct, frozen=True):
    """For this request the venue's clock is another `ms` ahead."""

    ms: int


class EffectDelay(msgspec.Struct, frozen=True):
    """The cancel in this request takes effect `ms` after its receipt.

    With `HELD` it is acknowledged, and nothing is cancelled until `Engine.take_effect`, if ever.
    """

    ms: int


# --- what happens to the reply; the first that matches wins ---------------------------------------
# `executed` says whether the request is carried out first.


class Hang(msgspec.Struct, frozen=True):
    """Never answered, until the exchange closes or `SimulatedExchange.release(tag)` drops it."""

    executed: bool = False
    tag: str = ""


class Drop(msgspec.Struct, frozen=True):
    """The connection ends without a reply: by a reset (RST), or by an orderly close (FIN)."""

    executed: bool = False
    reset: bool = True


class Answer(msgspec.Struct, frozen=True):
    """This answer is given instead of the venue's own."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    executed: bool = False


class Redirect(msgspec.Struct, frozen=True):
    """The client is sent elsewhere."""

    location: str
    status: int = 307
    executed: bool = False


class Trickle(msgspec.Struct, frozen=True):
    """The body comes a byte at a time, `interval` seconds apart.

    With `forever` the reply announces a body without end, and never completes one.
    """

    interval: float = 0.01
    forever: bool = False
    executed: bool = True


class Truncate(msgspec.Struct, frozen=True):
    """The connection closes after `keep` bytes of the body (None: half of it)."""

    keep: int | None = None
    executed: bool = True


class TwoContentLengths(msgspec.Struct, frozen=True):
    """The reply has two Content-Length headers that differ."""

    executed: bool = True


class HugeBody(msgspec.Struct, frozen=True):
    """The reply is well-formed JSON padded to `size` bytes."""

    size: int = 5 * _MIB
    executed: bool = True


class GzipBomb(msgspec.Struct, frozen=True):
    """The reply is a few KiB of gzip that unpack to `size` bytes."""

    size: int = 64 * _MIB
    executed: bool = True


class Unsolicited(msgspec.Struct, frozen=True):
    """The reply is given, and `after` seconds later `data` arrives on the then idle connection.

    None for `data` is a copy of the reply.
    """

    data: bytes | None = None
    after: float = 0.0
    executed: bool = True


class DuplicateReply(msgspec.Struct, frozen=True):
    """The reply is given twice, in one burst."""

    executed: bool = True


# --- meant for messages on a stream ---------------------------------------------------------------
# On REST `Ignore` hangs, `Disconnected` drops, `LateAck` answers late, and the others do nothing.
# Of the endings above, a stream plays `Hang` (it freezes), `Drop`, `Answer`, `Truncate`, `HugeBody`
# and `DuplicateReply`.


class Ignore(msgspec.Struct, frozen=True):
    """The message is silently ignored (`executed`: carried out, and never answered)."""

    executed: bool = False


class WithoutId(msgspec.Struct, frozen=True):
    """The answer comes without the id of its request."""

    executed: bool = True


class ForeignId(msgspec.Struct, frozen=True):
    """An answer with another request's id comes first; the own one follows if `then_own`."""

    request_id: str = "somebody-elses-request"
    then_own: bool = False
    executed: bool = True


class DuplicateAck(msgspec.Struct, frozen=True):
    """The answer comes twice."""

    executed: bool = True


class LateAck(msgspec.Struct, frozen=True):
    """The request is executed at once; its answer waits for `SimulatedExchange.release(tag)`."""

    tag: str = "ack"
    executed: bool = True


class Disconnected(msgspec.Struct, frozen=True):
    """The session ends with the venue's own notice of it."""

    executed: bool = False


Modifier: TypeAlias = Delay | Hold | Skew | EffectDelay
Ending: TypeAlias = (
    Hang
    | Drop
    | Answer
    | Redirect
    | Trickle
    | Truncate
    | TwoContentLengths
    | HugeBody
    | GzipBomb
    | Unsolicited
    | DuplicateReply
    | Ignore
    | WithoutId
    | ForeignId
    | DuplicateAck
    | LateAck
    | Disconnected
)
Action: TypeAlias = Modifier | Ending


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An action, and the requests it strikes: those that match every field that is set.

    `operation` is the dialect's name for what is asked ("cancel-all"), `method` the HTTP method
    ("WS" for a message on a stream), `path` a regular expression searched for in the raw path and
    query, `body` one searched for in the body, `api_key` the account. Of the requests that match,
    `nth` strikes only the n-th (1 is the first), `probability` a random share of them, and `times`
    only so many (None: every one).
    """

    action: Action
    operation: str | None = None
    method: str | None = None
    path: str | None = None
    body: str | None = None
    api_key: str | None = None
    nth: int | None = None
    probability: float = 1.0
    times: int | None = 1


class Decision(msgspec.Struct, frozen=True):
    """The actions that apply to one request: modifiers in the plan's order, and how it ends."""

    modifiers: tuple[Modifier, ...] = ()
    ending: Ending | None = None

    @property
    def actions(self) -> tuple[Action, ...]:
        """All of them."""
        return self.modifiers if self.ending is None else (*self.modifiers, self.ending)

    @property
    def executed(self) -> bool:
        """Whether the request is carried out."""
        return self.ending is None or self.ending.executed


class _Armed:
    """A fault with its counters."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.matched = 0
        self.applied = 0

    def strikes(self, request: Request, rng: random.Random) -> bool:
        fault = self.fault
        if (
            fault.operation not in (None, request.operation)
            or fault.method not in (None, request.method)
            or fault.api_key not in (None, request.api_key)
            or (fault.path is not None and not re.search(fault.path, request.raw_path))
            or (fault.body is not None and not re.search(fault.body.encode(), request.body))
        ):
            return False
        self.matched += 1
        if fault.nth not in (None, self.matched) or self.applied == fault.times:
            return False
        return fault.probability >= 1 or rng.random() < fault.probability


class FaultPlan:
    """The faults of one exchange, in the order they were added. Deterministic under its seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._armed: list[_Armed] = []

    def __iter__(self) -> Iterator[Fault]:
        return iter([armed.fault for armed in self._armed])

    def add(
        self,
        action: Action,
        *,
        operation: str | None = None,
        method: str | None = None,
        path: str | None = None,
        body: str | None = None,
        api_key: str | None = None,
        nth: int | None = None,
        probability: float = 1.0,
        times: int | None = 1,
    ) -> Fault:
        """Add a fault, with the fields of `Fault`, and return it. It strikes once unless told."""
        fault = Fault(
            action=action,
            operation=operation,
            method=method,
            path=path,
            body=body,
            api_key=api_key,
            nth=nth,
            probability=probability,
            times=times,
        )
        self._armed.append(_Armed(fault))
        return fault

    def remove(self, fault: Fault) -> None:
        """Take one fault out again; harmless if it is not there."""
        self._armed = [armed for armed in self._armed if armed.fault is not fault]

    def clear(self) -> None:
        """Take every fault out."""
        self._armed.clear()

    def decide(self, request: Request) -> Decision:
        """Say what happens to a request, and count it. Of several endings the oldest wins."""
        modifiers: list[Modifier] = []
        ending: Ending | None = None
        for armed in self._armed:
            action = armed.fault.action
            if not armed.strikes(request, self._random):
                continue
            if isinstance(action, Delay | Hold | Skew | EffectDelay):
                modifiers.append(action)
            elif ending is None:
                ending = action
            else:
                continue
            armed.applied += 1
        return Decision(tuple(modifiers), ending)

    def applied(self, fault: Fault) -> int:
        """How often a fault has struck; 0 if it is not in the plan."""
        return next((a.applied for a in self._armed if a.fault is fault), 0)
