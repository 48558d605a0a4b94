"""The execution of one call: one signed attempt after, or beside, another.

The first attempt is optimistic: what it needs is made, and nothing else. A retry policy, a second
attempt and a verdict come into being when the first fails or is slow.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from masscancel.calls import Call, Precedence
from masscancel.engine.account import Account
from masscancel.engine.attempt import LiveAttempt, RestAttempt, StreamAttempt
from masscancel.engine.operation import TOO_LATE, Operation
from masscancel.engine.retry import Retry
from masscancel.errors import (
    DeadlineExceeded,
    MassCancelError,
    NotSent,
    NotSentInTime,
    RateLimited,
    StampRefused,
    UnansweredInTime,
    VenueError,
)
from masscancel.transport.ledger import LEDGER, Reservation
from masscancel.transport.limiter import Limiter, Ticket, Turn, turns_of
from masscancel.transport.timers import Timer

__all__ = ["Execution"]


class Execution:
    """One call, sent again if need be, until it is answered or it is clear that it won't be.

    Driven by callbacks: of its attempts, of what it waits for before it may send, of one timer.

    Args:
        account: whom it is for.
        call: what is to be sent.
        operation: what it is a part of.
    """

    __slots__ = (
        "_account",
        "_asking",
        "_call",
        "_deadline",
        "_errors",
        "_gave_up",
        "_loop",
        "_operation",
        "_place",
        "_refusal",
        "_reservation",
        "_result",
        "_retry",
        "_running",
        "_sent_at",
        "_stale",
        "_stale_since",
        "_timer",
        "_turn",
        "_wait",
        "_waiter",
    )

    def __init__(self, account: Account, call: Call[Any], operation: Operation) -> None:
        self._account = account
        self._call = call
        self._operation = operation
        self._loop = account.pool.loop
        self._deadline = operation.deadline
        if call.time_limit is not None:
            self._deadline = min(self._deadline, self._loop.time() + call.time_limit)
        self._sent_at: float | None = None  # when the first attempt was sent
        self._retry: Retry | None = None  # made when the first attempt fails or is slow
        self._running: list[LiveAttempt] = []
        self._errors: list[MassCancelError] = []
        self._refusal: VenueError | None = None  # which ended it, while others were under way
        self._stale: asyncio.Future[None] | None = None  # the clock is being measured
        self._stale_since = 0.0
        self._gave_up = False  # an attempt that may have arrived
        self._asking = False  # for leave to send
        self._place: Ticket | None = None
        self._turn: Turn | None = None
        self._reservation: Reservation | None = None  # in the ledger, until it is sent
        self._wait: Timer | None = None  # for it
        self._timer: Timer | None = None
        self._result: Any = None  # a tuple, once there is one
        self._waiter: asyncio.Future[None] | None = None

    # What the executor does with it.

    def begin(self) -> None:
        """Send the first attempt, or wait for leave to."""
        pool, origin = self._account.pool, self._call.origin
        if not pool.keeps_warm(origin):
            self._account.keep_warm(origin)
        if self._loop.time() >= self._deadline:
            self._finish(DeadlineExceeded(TOO_LATE))
            return
        self._ask()
        if self._result is None and self._timer is None:
            sent_at = self._sent_at
            slow_at = self._deadline if sent_at is None else sent_at + self._patience()
            self._wake_at(min(slow_at, self._deadline))

    async def result(self) -> Any:
        """Wait for the value of the call, or its final error."""
        if self._result is None:
            self._waiter = self._loop.create_future()
            await self._waiter
        (value,) = self._result
        if isinstance(value, BaseException) and not isinstance(value, MassCancelError):
            raise value
        return value

    def abandon(self) -> None:
        """End what still runs: nobody waits for it."""
        if self._result is None:
            self._give_up_running()
            self._finish(None)

    # Sending.

    def _patience(self) -> float:
        policy = self._account.policy
        both = self._operation.via == "both" and self._call.on_stream is not None
        return policy.hedge if both else policy.patience

    @property
    def _precedence(self) -> Precedence:
        precedence = self._operation.precedence
        if precedence is Precedence.CANCEL and not self._call.cancels:
            precedence = Precedence.NEEDED
        if precedence is Precedence.NEEDED and self._sent_at is not None:
            precedence = Precedence.AGAIN
        return precedence

    def _ask(self) -> None:
        """Ask for leave to send: a place, room in the ledger, the key's turn. Then send."""
        self._asking = True
        if self._place is None and (limiter := self._limiter()) is not None:
            self._place = self._operation.take_place() or limiter.acquire(self._ask_ledger)
        if self._place is None or self._place.held:
            self._ask_ledger()

    def _limiter(self) -> Limiter | None:
        """The limiter in which the call waits for a place; a direct cancel waits in none."""
        operation, call = self._operation, self._call
        if operation.limiters is not None:
            cancels, others = operation.limiters
            return cancels if call.cancels else others
        alone = self._precedence >= Precedence.OTHER
        return self._account.places(call.origin) if alone else None

    def _ask_ledger(self) -> None:
        wait = self._ledger_wait()
        if wait <= 0:
            self._ask_turn()
        elif self._loop.time() + wait >= self._deadline:
            self._blocked(wait)
        else:
            counted = self._reservation is not None and self._reservation.counted
            after = self._ask_turn if counted else self._ask_ledger
            self._wait = self._account.pool.timers.at(self._loop.time() + wait, after)

    def _ask_turn(self) -> None:
        if self._call.nonces_per_second:
            turns = turns_of(self._loop, self._account.credentials.api_key)
            self._turn = turns.acquire(self._send, self._precedence)
        if self._turn is None or self._turn.held:
            self._send()

    def _ledger_wait(self) -> float:
        """The wait that the origin, or a limit, asks for, in seconds."""
        call, account = self._call, self._account
        api_key = account.credentials.api_key
        if not call.costs:
            return LEDGER.blocked_for(call.origin, api_key)
        self._reservation = LEDGER.reserve(
            call.origin,
            api_key,
            call.costs,
            account.limits(call.origin),
            precedence=self._precedence,
            within=self._deadline - self._loop.time(),
            again=self._reservation,
        )
        return self._reservation.wait

    def _blocked(self, wait: float) -> None:
        """Nothing may be sent in time: end the call, unless an attempt is still on its way."""
        self._stop_asking()
        if not self._errors:  # otherwise there is more to say than this
            why = f"{self._call.origin} allows no further request within the time"
            self._errors.append(RateLimited(message=why, retry_after=wait))
        if self._running:  # its answer is waited for; nothing else is due before
            self._retry_now().plan_nothing()
            self._wake_at(self._deadline)
        else:
            self._finish(_verdict(self._errors))

    def _send(self) -> None:
        """Send an attempt: the first, or another after or beside those before."""
        self._asking = False
        call, account, operation = self._call, self._account, self._operation
        first = self._sent_at is None
        if first:
            self._sent_at = self._loop.time()
        elif not self._retry_now().due(self._loop.time()):
            self._stop_asking()
            self._advance()
            return
        self._reservation = None
        message = call.on_stream if operation.via != "rest" else None
        attempts: list[LiveAttempt] = []
        if message is not None and (first or operation.via == "stream"):
            attempts.append(
                StreamAttempt(
                    *(call, account.credentials, self._ended, operation.sent),
                    *(message, account.streams),
                )
            )
        if message is None or operation.via == "both":
            attempts.append(
                RestAttempt(
                    *(call, account.credentials, self._ended, operation.sent, account.pool),
                    self._turn,
                    account.note_spent if call.costs else None,
                    fresh=self._wants_fresh(first=first),
                )
            )
        for attempt in attempts:
            operation.begin(attempt)
            self._running.append(attempt)
        for attempt in attempts:
            attempt.start()

    def _wants_fresh(self, *, first: bool) -> bool:
        """Whether to use a new connection: those there are may be broken, and one can be had."""
        if first:
            return self._operation.fresh
        last = self._errors[-1] if self._errors else None
        if isinstance(last, NotSent) and (last.exhausted or self._operation.fresh):
            return False
        running = any(attempt.path == "rest" for attempt in self._running)
        return running or (last is not None and last.connection_suspect)

    # What happens.

    def _ended(self, attempt: LiveAttempt, result: Any) -> None:
        """Take the value or the error of an attempt."""
        call = self._call
        if attempt in self._running:
            self._running.remove(attempt)
        if not self._running:
            self._stop_asking()
        error = result if isinstance(result, MassCancelError) else None
        self._operation.ended(attempt, error)
        if self._result is not None:
            return
        if isinstance(result, MassCancelError):
            if isinstance(result, VenueError):
                self._note_refusal(result)
            self._failed(attempt, result)
        else:
            key = self._account.credentials.api_key
            self._account.pool.budgets.answered(call.origin, key, cancels=call.cancels)
            self._finish(result)

    def _note_refusal(self, error: VenueError) -> None:
        keys = self._account.credentials
        pool = self._account.pool
        pool.note_refusal(self._call.origin, keys.api_key, error, keys.account)
        if isinstance(error, RateLimited) and error.retry_after is None:
            origin = self._call.origin
            limits = self._account.limits(origin)
            LEDGER.refused(origin, keys.api_key, self._call.costs, limits)

    def _failed(self, attempt: LiveAttempt, error: MassCancelError) -> None:
        """Decide whether another attempt follows, or one is still under way."""
        retry, call = self._retry_now(), self._call
        self._errors.append(error)
        timed = not call.nonces_per_second  # a nonce has nothing to do with the clock
        stale = error if timed and isinstance(error, StampRefused) else None
        known = stale is not None and attempt.stamped_at < self._stale_since  # it had left by then
        if known or (attempt.path == "stream" and self._operation.via == "both"):
            again = retry.next_send < self._deadline  # others go on by themselves
        else:
            again = retry.again(error, self._loop.time())
            if not again and isinstance(error, VenueError):
                self._refusal = self._refusal or error
        if not self._account.pool.is_open:
            again = False
        elif stale is not None and not known:
            self._measure_clock(attempt, stale)
        if again or self._running:
            self._advance()
        else:
            self._finish(self._refusal or _verdict(self._errors))

    def _measure_clock(self, attempt: LiveAttempt, refused: StampRefused) -> None:
        """Measure the clock before the next attempt, unless that was done since."""
        self._stale_since = time.monotonic()
        pool = self._account.pool
        probe = self._account.venue.probe(self._call.origin)
        measuring = pool.measure(probe, since=attempt.stamped_at, date_ms=refused.date_ms)
        self._stale = measuring
        measuring.add_done_callback(self._measured)
        if refused.date_ms is not None:  # that date will do; a measurement would be better
            soon = self._loop.time() + self._account.policy.patience / 4
            pool.timers.at(soon, self._measured)

    def _measured(self, _: object = None) -> None:
        """Go on: the clock has been measured, can't be, or is known well enough."""
        if self._stale is not None:
            self._stale = None
            self._advance()

    def _retry_now(self) -> Retry:
        """The retry that decides on further attempts, as if it had been there at first."""
        retry = self._retry
        if retry is None:
            account, call = self._account, self._call
            retry = self._retry = Retry(
                account.policy,
                account.pool.budgets.of(call.origin, account.credentials.api_key),
                started=self._sent_at or self._loop.time(),
                deadline=self._deadline,
                urgent=self._precedence < Precedence.OTHER,
                repeatable=call.repeatable,
                cancels=call.cancels,
                patience=self._patience(),
                endless_stamps=bool(call.nonces_per_second),
            )
            retry.due(self._sent_at or self._loop.time())
            if self._operation.via == "both" and call.on_stream is not None:
                retry.beside()
        return retry

    def _advance(self) -> None:
        """Do what is due: give up at the deadline, send another attempt, or wait for the time."""
        if self._result is not None:
            return
        now = self._loop.time()
        if now >= self._deadline or not self._account.pool.is_open:
            self._finish(self._late())
            return
        if self._asking or self._sent_at is None or self._stale is not None:
            self._wake_at(self._deadline)
            return
        retry = self._retry_now()
        if now >= retry.next_send:
            self._stop_asking()  # one that is slow keeps neither a place nor the key's turn
            self._wake_at(self._deadline)
            self._ask()
        if self._result is None and not self._asking:
            self._wake_at(min(retry.next_send, self._deadline))

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._account.pool.timers.at(when, self._advance)

    # The end.

    def _finish(self, result: Any) -> None:
        """End with a value or an error; attempts that are still on their way may be answered."""
        self._result = (result,)
        if self._timer is not None:
            self._timer.cancel()
        if self._retry is not None:
            self._retry.done()
        if self._running:
            if isinstance(result, BaseException) or result is None:
                self._give_up_running()
            else:
                self._leave_running()
        self._stop_asking()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _leave_running(self) -> None:
        """Let attempts that lost a race go on until the deadline, so that their fate is known."""
        for attempt in self._running:
            if attempt.reached:
                self._account.pool.timers.at(self._deadline, partial(self._abandon, attempt))
            else:
                self._abandon(attempt)
        self._running.clear()

    def _give_up_running(self) -> None:
        for attempt in self._running:
            self._gave_up |= attempt.reached
            self._abandon(attempt)
        self._running.clear()

    def _abandon(self, attempt: LiveAttempt) -> None:
        """Give an attempt up, unless it has ended, and tell that."""
        if attempt.fate == "open":
            attempt.abandon()
            self._operation.ended(attempt, None)

    def _stop_asking(self) -> None:
        """Give back what was held to send, or wait for it no longer."""
        self._asking = False
        if self._place is not None:
            self._place.release()
            self._place = None
        if self._turn is not None:
            self._turn.release()
            self._turn = None
        if self._wait is not None:
            self._wait.cancel()
        if self._reservation is not None:
            self._reservation.give_back()
            self._reservation = None

    def _late(self) -> MassCancelError:
        """The time is up: what is known."""
        waiting = bool(self._running)
        self._give_up_running()
        before = _verdict(self._errors) if self._errors else None
        if self._refusal is not None:
            return self._refusal
        also = f"; before, {before.summary}" if before else ""
        error: MassCancelError
        if self._gave_up or (waiting and before is not None and before.may_have_executed):
            error = UnansweredInTime(f"no answer from {self._call.origin} within the time{also}")
        elif waiting:
            error = NotSentInTime(f"no connection to {self._call.origin} within the time{also}")
        elif before is not None:
            return before
        elif not self._account.pool.is_open:
            error = NotSent("the session pool is not open")
        else:
            error = DeadlineExceeded(TOO_LATE)
        error.__cause__ = before
        return error


def _verdict(errors: Sequence[MassCancelError]) -> MassCancelError:
    """The error that speaks for all: the last, unless it hides that an attempt may have arrived.

    A refusal that ended the call goes before it, whatever came of what was still under way: it
    says what there is to mend. That others may have been carried out, each error says anyhow.
    """
    verdict = errors[-1]
    if isinstance(verdict, NotSent):
        verdict = next((e for e in reversed(errors) if not isinstance(e, NotSent)), verdict)
    return verdict
