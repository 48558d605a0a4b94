"""The executor: takes a venue's flow to its end, one signed attempt after, or beside, another.

The first attempt of a call is optimistic: what it needs is made, and nothing else. A retry policy,
a second attempt and a verdict come into being when the first fails or is slow.
"""

import asyncio
import logging
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from masscancel.calls import Call, Flow, Limit, Reply
from masscancel.credentials import Credentials
from masscancel.engine.attempt import LiveAttempt, RestAttempt, StreamAttempt
from masscancel.engine.operation import TOO_LATE, Operation
from masscancel.engine.retry import Retry, RetryPolicy
from masscancel.engine.streams import Streams
from masscancel.errors import (
    DeadlineExceeded,
    MassCancelError,
    NotSent,
    NotSentInTime,
    OutcomeUnknown,
    RateLimited,
    StampRefused,
    UnansweredInTime,
    VenueError,
)
from masscancel.transport.ledger import LEDGER
from masscancel.transport.limiter import Limiter, Ticket, Turn, turns_of
from masscancel.transport.pool import SessionPool
from masscancel.transport.timers import Timer
from masscancel.venues.base import Venue

__all__ = ["Executor"]

log = logging.getLogger("masscancel")

T = TypeVar("T")


class Executor:
    """Executes flows for one account.

    Args:
        credentials: what to sign with.
        venue: whose flows these are.
        pool: where to send.
        streams: where to write what goes on a stream.
        policy: how persistent to be.
        rates: amounts in place of the venue's documented limits, by their names.
    """

    def __init__(
        self,
        credentials: Credentials,
        venue: Venue,
        pool: SessionPool,
        streams: Streams,
        policy: RetryPolicy,
        rates: Mapping[str, float],
    ) -> None:
        self.credentials = credentials
        self.venue = venue
        self.pool = pool
        self.streams = streams
        self.policy = policy
        self._rates = rates
        self._limits: dict[str, Sequence[Limit]] = {}
        #: Where what does not cancel waits for a place, by origin.
        self._places: dict[str, Limiter] = {}

    async def run(self, flow: Flow[T], operation: Operation) -> T:
        """Take a flow to its end. Its error, if any, learns here what had been tried."""
        try:
            return await self._drive(flow, operation)
        except MassCancelError as error:
            operation.describe(error)
            if isinstance(error, NotSent) and error.may_have_executed:
                told = _sent_in_part(error)
                operation.describe(told)
                raise told from error
            raise

    async def _drive(self, flow: Flow[T], operation: Operation) -> T:
        try:
            parts = next(flow)
            while True:
                if len(parts) == 1 and isinstance(parts[0], Call):
                    results: Sequence[Any] = (await self._one(parts[0], operation),)
                else:
                    results = await self._side_by_side(parts, operation)
                parts = flow.send(results)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            flow.close()

    async def _one(self, call: Call[T], operation: Operation) -> T | MassCancelError:
        """The result of a single call."""
        execution = _Execution(self, call, operation)
        try:
            execution.begin()
            result: T | MassCancelError = await execution.result()
        except BaseException:
            execution.abandon()
            raise
        return result

    async def _side_by_side(
        self, parts: Sequence[Call[Any] | Flow[Any]], operation: Operation
    ) -> Sequence[Any]:
        """The result of each part, in their order; the first requests leave in this order, too."""
        started: list[_Execution | asyncio.Task[Any]] = []
        try:
            for part in parts:
                if isinstance(part, Generator):
                    flow = self._drive_to_result(part, operation)
                    started.append(self.pool.loop.create_task(flow))
                else:
                    execution = _Execution(self, part, operation)
                    started.append(execution)
                    execution.begin()
            return [
                await (each if isinstance(each, asyncio.Task) else each.result())
                for each in started
            ]
        except BaseException:
            await _stop(started)
            raise

    async def _drive_to_result(self, flow: Flow[T], operation: Operation) -> T | MassCancelError:
        try:
            return await self._drive(flow, operation)
        except MassCancelError as error:
            return error

    def limits(self, origin: str) -> Sequence[Limit]:
        """The limits of an origin: as documented, or as the account states."""
        limits = self._limits.get(origin)
        if limits is None:
            limits = self._limits[origin] = [
                replace(limit, amount=self._rates.get(limit.name, limit.amount))
                for limit in self.venue.limits(origin)
            ]
        return limits

    def keep_warm(self, origin: str) -> None:
        """Keep connections to an origin warm from now on."""
        self.pool.keep_warm(self.venue.probe(origin), self.limits(origin))

    def places(self, origin: str) -> Limiter:
        """The places of this account's requests to an origin that do not cancel."""
        limiter = self._places.get(origin)
        if limiter is None:
            limiter = self._places[origin] = Limiter(self.pool.connections)
        return limiter


async def _stop(started: "Sequence[_Execution | asyncio.Task[Any]]") -> None:
    """End what was going on side by side, since nobody waits for it any more."""
    tasks = [each for each in started if isinstance(each, asyncio.Task)]
    for task in tasks:
        task.cancel()
    for each in started:
        if isinstance(each, _Execution):
            each.abandon()
    if tasks:
        await asyncio.wait(tasks)


class _Execution:
    """One call, sent again if need be, until it is answered or it is clear that it won't be.

    Driven by callbacks: of its attempts, of what it waits for before it may send, of one timer.

    Args:
        executor: whose account it is for.
        call: what is to be sent.
        operation: what it is a part of.
    """

    __slots__ = (
        "_asking",
        "_call",
        "_deadline",
        "_errors",
        "_executor",
        "_gave_up",
        "_loop",
        "_operation",
        "_place",
        "_refusal",
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

    def __init__(self, executor: Executor, call: Call[Any], operation: Operation) -> None:
        self._executor = executor
        self._call = call
        self._operation = operation
        self._loop = executor.pool.loop
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
        self._wait: Timer | None = None  # for the ledger
        self._timer: Timer | None = None
        self._result: Any = None  # a tuple, once there is one
        self._waiter: asyncio.Future[None] | None = None

    # What the executor does with it.

    def begin(self) -> None:
        """Send the first attempt, or wait for leave to."""
        pool, origin = self._executor.pool, self._call.origin
        if not pool.keeps_warm(origin):
            self._executor.keep_warm(origin)
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
        policy = self._executor.policy
        both = self._operation.via == "both" and self._call.on_stream is not None
        return policy.hedge if both else policy.patience

    def _ask(self) -> None:
        """Ask for leave to send: a place, the key's turn, room in the ledger. Then send."""
        self._asking = True
        call = self._call
        if self._place is None and (limiter := self._limiter()) is not None:
            self._place = self._operation.take_place() or limiter.acquire(self._ask)
        if self._place is not None and not self._place.held:
            return
        if self._turn is None and call.nonces_per_second:
            turns = turns_of(self._loop, self._executor.credentials.api_key)
            self._turn = turns.acquire(self._ask, cancels=call.cancels)
        if self._turn is not None and not self._turn.held:
            return
        wait = self._ledger_wait()
        if wait <= 0:
            self._send()
        elif self._loop.time() + wait >= self._deadline:
            self._blocked(wait)
        else:
            counted = call.cancels and call.costs
            after = self._send if counted else self._ask
            self._wait = self._executor.pool.timers.at(self._loop.time() + wait, after)

    def _limiter(self) -> Limiter | None:
        """The limiter in which the call waits for a place; a direct cancel waits in none."""
        operation, call = self._operation, self._call
        if operation.limiters is not None:
            cancels, others = operation.limiters
            return cancels if call.cancels else others
        return None if call.cancels else self._executor.places(call.origin)

    def _ledger_wait(self) -> float:
        """The wait that the origin, or a limit, asks for, in seconds."""
        call, executor = self._call, self._executor
        api_key = executor.credentials.api_key
        if not call.costs:
            return LEDGER.blocked_for(call.origin, api_key)
        return LEDGER.reserve(
            call.origin,
            api_key,
            call.costs,
            executor.limits(call.origin),
            cancels=call.cancels,
            within=self._deadline - self._loop.time(),
        )

    def _blocked(self, wait: float) -> None:
        """Nothing may be sent in time: end the call, unless an attempt is still on its way."""
        self._stop_asking()
        origin = self._call.origin
        why = f"{origin} allows no further request within the time"
        self._errors.append(RateLimited(message=why, retry_after=wait))
        if self._running:  # its answer is waited for; nothing else is due before
            self._retry_now().plan_nothing()
            self._wake_at(self._deadline)
        else:
            self._finish(_verdict(self._errors))

    def _send(self) -> None:
        """Send an attempt: the first, or another after or beside those before."""
        self._asking = False
        call, executor, operation = self._call, self._executor, self._operation
        first = self._sent_at is None
        if first:
            self._sent_at = self._loop.time()
        elif not self._retry_now().due(self._loop.time()):
            self._stop_asking()
            self._advance()
            return
        message = call.on_stream if operation.via != "rest" else None
        attempts: list[LiveAttempt] = []
        if message is not None and (first or operation.via == "stream"):
            attempts.append(
                StreamAttempt(
                    *(call, executor.credentials, self._ended, operation.sent),
                    *(message, executor.streams),
                )
            )
        if message is None or operation.via == "both":
            attempts.append(
                RestAttempt(
                    *(call, executor.credentials, self._ended, operation.sent, executor.pool),
                    self._turn,
                    self._note_spent if call.costs else None,
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
            self._finish(result)

    def _note_spent(self, reply: Reply) -> None:
        """Go by what the venue says has been spent of its limits."""
        executor, origin = self._executor, self._call.origin
        if spent := executor.venue.spent(origin, reply):
            key = executor.credentials.api_key
            LEDGER.note_spent(origin, key, spent, executor.limits(origin))

    def _note_refusal(self, error: VenueError) -> None:
        executor = self._executor
        key, account = executor.credentials.api_key, executor.credentials.account
        executor.pool.note_refusal(self._call.origin, key, error, account)

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
        if not self._executor.pool.is_open:
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
        pool = self._executor.pool
        probe = self._executor.venue.probe(self._call.origin)
        measuring = pool.measure(probe, since=attempt.stamped_at, date_ms=refused.date_ms)
        self._stale = measuring
        measuring.add_done_callback(self._measured)
        pool.timers.at(self._loop.time() + self._executor.policy.patience, self._measured)

    def _measured(self, _: object = None) -> None:
        """Go on: the clock has been measured, or that takes too long."""
        if self._stale is not None:
            self._stale = None
            self._advance()

    def _retry_now(self) -> Retry:
        """The retry that decides on further attempts, as if it had been there at first."""
        retry = self._retry
        if retry is None:
            executor, call = self._executor, self._call
            retry = self._retry = Retry(
                executor.policy,
                executor.pool.budgets.of(call.origin, executor.credentials.api_key),
                started=self._sent_at or self._loop.time(),
                deadline=self._deadline,
                urgent=call.cancels,
                repeatable=call.repeatable,
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
        if now >= self._deadline or not self._executor.pool.is_open:
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
        self._timer = self._executor.pool.timers.at(when, self._advance)

    # The end.

    def _finish(self, result: Any) -> None:
        """End with a value or an error; attempts that are still on their way may be answered."""
        self._result = (result,)
        if self._timer is not None:
            self._timer.cancel()
        if self._retry is not None:
            self._retry.done()
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
                self._executor.pool.timers.at(self._deadline, attempt.abandon)
            else:
                attempt.abandon()
        self._running.clear()

    def _give_up_running(self) -> None:
        for attempt in self._running:
            self._gave_up |= attempt.reached
            attempt.abandon()
            self._operation.ended(attempt, None)
        self._running.clear()

    def _stop_asking(self) -> None:
        """Give back what was held to send, or wait for it no longer."""
        self._asking = False
        for ticket in (self._place, self._turn):
            if ticket is not None:
                ticket.release()
        self._place = self._turn = None
        if self._wait is not None:
            self._wait.cancel()

    def _late(self) -> MassCancelError:
        """The time is up: what is known."""
        reached = any(attempt.reached for attempt in self._running)
        waiting = bool(self._running) and not reached
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
        elif not self._executor.pool.is_open:
            error = NotSent("the session pool is not open")
        else:
            error = DeadlineExceeded(TOO_LATE)
        error.__cause__ = before
        return error


def _sent_in_part(error: NotSent) -> OutcomeUnknown:
    """Make the error of a call of which one part was not sent, while others were."""
    kind = UnansweredInTime if isinstance(error, DeadlineExceeded) else OutcomeUnknown
    told = kind(f"a part was not sent: {error.summary}")
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    return told


def _verdict(errors: Sequence[MassCancelError]) -> MassCancelError:
    """The error that speaks for all: the last, unless it hides that an attempt may have arrived.

    A refusal that ended the call goes before it, whatever came of what was still under way: it
    says what there is to mend. That others may have been carried out, each error says anyhow.
    """
    verdict = errors[-1]
    if isinstance(verdict, NotSent):
        verdict = next((e for e in reversed(errors) if not isinstance(e, NotSent)), verdict)
    return verdict
