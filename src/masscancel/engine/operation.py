"""An operation: what one public call is doing, by when, and what it has tried."""

import time
from itertools import chain
from random import getrandbits
from typing import Any, Final

import msgspec

from masscancel.calls import Precedence, Scope
from masscancel.engine.attempt import LiveAttempt
from masscancel.engine.gate import OrderGate
from masscancel.errors import MassCancelError, NotFlat
from masscancel.events import (
    AttemptEnded,
    AttemptSent,
    CallEnded,
    CallStarted,
    Publisher,
    current_kill,
)
from masscancel.models import Ack, Attempt, Confirmation, Via
from masscancel.transport.limiter import Limiter, Ticket

__all__ = ["TOO_LATE", "Operation", "What"]

#: Of what was never tried.
TOO_LATE: Final = "the time was up before anything could be sent"


class What(msgspec.Struct, frozen=True, gc=False):
    """An operation for people, such as ``cancel_all cash BTC/USDT on ascendex [mm-1]``."""

    name: str
    scope: Scope
    account: str
    venue: str = ""

    def __str__(self) -> str:
        where = f" on {self.venue}" if self.venue else ""
        return f"{self.name} {self.scope}{where} [{self.account}]"


class Operation:
    """One public call while it goes on.

    Args:
        name: the method, such as ``cancel_all``.
        scope: what it covers.
        venue: the venue's name.
        account: the account's label, or what stands for it.
        deadline: when its time is up, in the loop's time.
        gate: the gate that learns of each attempt to cancel.
        via: which way a cancel goes, where its venue has more than one.
        limiters: where requests that cancel, and others, wait for a place; ``None`` for a call of
            its own, whose cancels never queue.
        place: a place that is held already, for the first request.
    """

    __slots__ = (
        "_attempts",
        "_events",
        "_part_of",
        "_place",
        "_started_at",
        "account",
        "deadline",
        "fresh",
        "gate",
        "id",
        "limiters",
        "name",
        "precedence",
        "scope",
        "venue",
        "via",
    )

    def __init__(
        self,
        name: str,
        scope: Scope,
        venue: str,
        account: str,
        deadline: float,
        *,
        gate: OrderGate | None = None,
        via: Via = "rest",
        limiters: tuple[Limiter, Limiter] | None = None,
        place: Ticket | None = None,
    ) -> None:
        self.id = ""
        self.name = name
        self.scope = scope
        self.venue = venue
        self.account = account
        self.deadline = deadline
        self.gate = gate
        self.via = via
        self.limiters = limiters
        #: Whether requests want a connection of their own, where one can be had.
        self.fresh = False
        #: What it goes before. In one that cancels, what does not is needed by what does.
        self.precedence = Precedence.OTHER
        self._place = place
        self._events: Publisher | None = None
        self._part_of: Operation | None = None
        self._attempts: list[LiveAttempt] = []
        self._started_at = 0.0

    def within(self, deadline: float) -> "Operation":
        """A part of this operation with a deadline of its own; its attempts are this one's, too."""
        part = Operation(
            *(self.name, self.scope, self.venue, self.account, min(deadline, self.deadline)),
            gate=self.gate,
            via=self.via,
            limiters=self.limiters,
            place=self.take_place(),
        )
        part._part_of = self  # of the same kind
        part.id, part._events = self.id, self._events  # likewise
        return part

    def take_place(self) -> Ticket | None:
        """The place that is held for the first request; only once."""
        place, self._place = self._place, None
        return place

    # Attempts.

    def begin(self, attempt: LiveAttempt) -> None:
        """Take note of an attempt, and tell the gate, before it leaves."""
        self._note(attempt)
        if attempt.call.cancels and self.gate is not None:
            self.gate.register(attempt)

    def _note(self, attempt: LiveAttempt) -> None:
        self._attempts.append(attempt)
        if self._part_of is not None:
            self._part_of._note(attempt)  # noqa: SLF001  # of the same kind
        else:
            attempt.number = len(self._attempts)

    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts so far, oldest first."""
        return tuple([attempt.freeze() for attempt in self._attempts])

    def describe(self, error: MassCancelError) -> None:
        """Tell an error whose it is, and what had been tried."""
        what = What(self.name, self.scope, self.account, self.venue)
        error.describe(self.attempts(), context=what)

    def _may_have_executed(self, error: BaseException | None) -> bool:
        if isinstance(error, MassCancelError):
            return error.may_have_executed
        return error is not None and any(each.fate == "unknown" for each in self._attempts)

    # Events. Where nobody listens, none is made.

    def started(self, events: Publisher, now: float) -> None:
        """Publish the beginning."""
        self._events, self._started_at = events, now
        self.id = f"{getrandbits(64):016x}"
        kill = current_kill()
        events.publish(
            CallStarted(
                call_id=self.id,
                name=self.name,
                venue=self.venue,
                account=self.account,
                scope=self.scope,
                timeout=self.deadline - now,
                kill_id="" if kill is None else kill.id,
            )
        )

    def sent(self, attempt: LiveAttempt) -> None:
        """Publish that an attempt is stamped and about to be written."""
        if self._events is not None:
            self._events.publish(
                AttemptSent(
                    call_id=self.id,
                    attempt=attempt.number,
                    path=attempt.path,
                    origin=attempt.call.origin,
                    cancels=attempt.call.cancels,
                    sent_at_ms=attempt.sent_at_ms,
                )
            )

    def ended(self, attempt: LiveAttempt, error: MassCancelError | None) -> None:
        """Publish what has become of an attempt."""
        if self._events is not None:
            stamped_at = attempt.stamped_at
            self._events.publish(
                AttemptEnded(
                    call_id=self.id,
                    attempt=attempt.number,
                    path=attempt.path,
                    origin=attempt.call.origin,
                    cancels=attempt.call.cancels,
                    fate=attempt.fate,
                    error="" if error is None else type(error).__name__,
                    reason="" if error is None else str(error),
                    http_status=attempt.http_status,
                    elapsed=time.monotonic() - stamped_at if stamped_at else 0.0,
                )
            )

    def finished(
        self, outcome: str, now: float, error: BaseException | None = None, value: object = None
    ) -> None:
        """Publish the end. Of what its caller has ended, an attempt may be carried out still."""
        if self._events is not None:
            self._events.publish(
                CallEnded(
                    call_id=self.id,
                    name=self.name,
                    venue=self.venue,
                    account=self.account,
                    scope=self.scope,
                    ok=error is None,
                    outcome=outcome,
                    error="" if error is None else type(error).__name__,
                    may_have_executed=self._may_have_executed(error),
                    attempts=len(self._attempts),
                    elapsed=now - self._started_at,
                    **_orders(error if value is None else value),
                )
            )


def _orders(result: object) -> dict[str, Any]:
    """What a result says of books and orders, as fields of :class:`CallEnded`."""
    match result:
        case Ack():
            return {
                "books": result.books,
                "left_out": result.left_out,
                "cancelled": result.cancelled,
                "received_at_ms": result.timestamp_ms,
            }
        case Confirmation():
            seen = [*(ack.cancelled for ack in result.acks), result.cancelled]
            named = [ids for ids in seen if ids is not None]
            times = [ack.timestamp_ms for ack in result.acks if ack.timestamp_ms is not None]
            return {
                "books": result.books,
                "left_out": result.left_out,
                "cancelled": tuple(dict.fromkeys(chain(*named))) if named else None,
                "filled": result.filled,
                "received_at_ms": times[0] if times else None,
            }
        case NotFlat():
            return {"residual": tuple(order.order_id for order in result.residual)}
    return {}
