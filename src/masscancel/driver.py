"""The driver: takes a venue's flow to its end, one signed attempt after, or beside, another."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from masscancel.attempt import ByRest, OnStream, Try
from masscancel.credentials import Credentials
from masscancel.errors import (
    DeadlineExceeded,
    MassCancelError,
    NotSent,
    NotSentInTime,
    ProtocolError,
    StampRefused,
    TransportError,
    UnansweredInTime,
    VenueError,
)
from masscancel.job import NOWHERE, TOO_LATE, Job, Places
from masscancel.retry import Retry, RetryPolicy
from masscancel.session import NoneOpen, SessionPool, Wants
from masscancel.stream import Streams
from masscancel.venue import Call, Flow, Venue

__all__ = ["Driver"]

log = logging.getLogger("masscancel")

T = TypeVar("T")


class Driver:
    """Drives flows for one account.

    Args:
        credentials: what to sign with.
        venue: whose flows these are.
        pool: where to send.
        streams: where to say what goes on a stream.
        policy: how persistent to be.
    """

    def __init__(
        self,
        credentials: Credentials,
        venue: Venue,
        pool: SessionPool,
        streams: Streams,
        policy: RetryPolicy,
    ) -> None:
        self.credentials = credentials
        self.venue = venue
        self.pool = pool
        self.streams = streams
        self.policy = policy

    async def run(self, flow: Flow[T], job: Job) -> T:
        """Take a flow to its end. Its error, if any, learns here what had been tried."""
        try:
            calls = next(flow)
            while True:
                results: Sequence[Any]
                if len(calls) == 1:
                    results = [await _Pursuit(self, calls[0], job).run()]
                else:
                    results = await self._side_by_side(calls, job)
                calls = flow.send(results)
        except StopIteration as stop:
            value: T = stop.value
            return value
        except MassCancelError as error:
            job.describe(error)
            raise
        finally:
            flow.close()

    async def _side_by_side(self, calls: Sequence[Call[Any]], job: Job) -> Sequence[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_Pursuit(self, call, job).run()) for call in calls]
        return [task.result() for task in tasks]


class _Pursuit:
    """One call, sent again if need be, until it is answered or it is clear that it won't be.

    Args:
        driver: whose account it is for.
        call: what is to be sent.
        job: what it is a part of.
    """

    __slots__ = (
        "_bell",
        "_call",
        "_crash",
        "_driver",
        "_ended",
        "_errors",
        "_gave_up",
        "_job",
        "_loop",
        "_refusal",
        "_retry",
        "_running",
        "_stale",
        "_stale_since",
    )

    def __init__(self, driver: Driver, call: Call[Any], job: Job) -> None:
        self._loop = loop = driver.pool.loop
        now = loop.time()
        self._driver = driver
        self._call = call
        self._job = job = job if call.limit is None else job.within(now + call.limit)
        policy, both = driver.policy, job.via == "both" and call.saying is not None
        self._retry = Retry(
            policy,
            driver.pool.budget(call.origin),
            started=now,
            deadline=job.deadline,
            urgent=call.acts,
            repeatable=call.repeatable,
            patience=policy.hedge if both else None,
            stamp_refusals=policy.nonce_refusals if call.nonces_per_second else None,
        )
        self._running: dict[Try, asyncio.Task[None]] = {}
        self._ended: list[tuple[Try, Any]] = []
        self._errors: list[MassCancelError] = []
        self._refusal: VenueError | None = None  # which ended it, while others were under way
        self._stale: tuple[Try, StampRefused] | None = None  # whose stamp the venue refused
        self._stale_since = 0.0
        self._bell: asyncio.Future[None] | None = None
        self._crash: BaseException | None = None
        self._gave_up = False  # an attempt that may have arrived

    async def run(self) -> Any:
        """Its value or its final error."""
        retry, deadline = self._retry, self._job.deadline
        pool, origin = self._driver.pool, self._call.origin
        if not pool.keeps_warm(origin):
            pool.keep_warm(self._driver.venue.probe(origin))
        try:
            while (now := self._loop.time()) < deadline:
                if now >= retry.next_send:
                    if (due := await self._prepare()) is not None:
                        await self._make(*due)
                elif not self._running and retry.next_send >= deadline:
                    break
                if not self._ended:
                    await self._wait(min(retry.next_send, deadline))
                while self._ended:
                    attempt, result = self._ended.pop(0)
                    if not isinstance(result, MassCancelError):
                        pool.leave_to_answer(self._leave(), deadline)
                        return result
                    if not self._goes_on(attempt, result):
                        return self._refusal or _verdict(self._errors)
            if self._running or not self._errors:
                self._errors.append(self._out_of_time())
            return self._refusal or _verdict(self._errors)
        finally:
            retry.done()
            if self._running:
                await self._abandon()

    # Sending.

    async def _prepare(self) -> tuple[Try, Places] | None:
        """The attempt that is due, if the budget allows, once there is a place for it."""
        call, job, retry, driver = self._call, self._job, self._retry, self._driver
        places: Places | None = NOWHERE
        if job.lanes is not None or call.nonces_per_second:
            if self._running:  # it gives its place up to others, or to its own next nonce
                await self._abandon()
            if job.lanes is None or job.lanes.crowded or call.nonces_per_second:
                places = await self._enter()
            else:
                job.lanes.take()
                places = Places(job.lanes)
        if places is None:
            return None
        if not retry.due(self._loop.time()):
            places.leave()
            return None
        saying = call.saying if job.via != "rest" else None
        if saying is not None and (job.via == "stream" or retry.sends == 1):
            said = OnStream(call, driver.credentials, saying, driver.streams)
            if job.via == "stream":
                return said, places
            job.begin(said)
            self._start(said, NOWHERE)
            retry.beside()
        wants: Wants = "warm" if job.urgent else "other"
        if (self._errors or self._running) and self._is_in_trouble():
            wants = "fresh"
        return ByRest(call, driver.credentials, driver.pool, wants, places.turn), places

    def _is_in_trouble(self) -> bool:
        """Whether the connections there are may be broken, and a new one can be had."""
        last = self._errors[-1] if self._errors else None
        if isinstance(last, NotSent) and last.exhausted:
            return False
        lost = isinstance(last, TransportError | ProtocolError)
        return lost or any(other.path == "rest" for other in self._running)

    async def _enter(self) -> Places | None:
        """Wait for the key's turn, where nonces have an order, and for a place in the lanes."""
        job, turn = self._job, None
        try:
            async with asyncio.timeout_at(job.deadline):
                if self._call.nonces_per_second:
                    api_key = self._driver.credentials.api_key
                    turn = await self._driver.pool.turn(api_key, urgent=job.urgent)
                if job.lanes is not None:
                    await job.lanes.enter()
        except BaseException as stopped:
            if turn is not None:
                turn.leave()
            if isinstance(stopped, TimeoutError):
                return None
            raise
        return Places(job.lanes, turn)

    async def _make(self, attempt: Try, places: Places) -> None:
        """Make an attempt: in this very task, while there is nothing else to be done.

        That is so if no other is under way and its connection is open, until the time for another
        comes. A task costs a turn of the event loop, and a tenth of the whole call.
        """
        self._job.begin(attempt)
        sending = attempt.sending
        alone = not self._running and self._stale is None
        sending.at_once = alone and sending.wants != "fresh"
        if sending.at_once:
            try:
                with self._driver.pool.alarms.at(min(self._retry.next_send, self._job.deadline)):
                    self._ended.append((attempt, await attempt.result()))
            except NoneOpen:
                sending.at_once = False
            except TimeoutError:
                sending.at_once = False
                if self._loop.time() >= self._job.deadline:  # there is nobody to go on for
                    self._gave_up |= attempt.reached
                    attempt.end()
                    places.leave()
                    self._errors.append(self._out_of_time())
                    return
            except BaseException as stopped:
                attempt.end()
                places.leave()
                stopped.with_traceback(None)  # aiohttp's frames hold what was signed
                raise
            else:
                places.leave()
                return
        self._start(attempt, places)

    def _start(self, attempt: Try, places: Places) -> None:
        """Make an attempt, or go on with it, in a task of its own."""
        task = self._loop.create_task(self._run(attempt))
        task.add_done_callback(partial(self._done, attempt, places))
        if not task.done():  # an eager task may be
            self._running[attempt] = task

    async def _run(self, attempt: Try) -> None:
        if self._stale is not None and not attempt.stamped_at:
            await self._set_clock(*self._stale)
        result = await attempt.result()
        self._running.pop(attempt, None)
        self._ended.append((attempt, result))
        self._ring()

    async def _set_clock(self, attempt: Try, refused: StampRefused) -> None:
        """Measure the clock, unless that was done since: no longer than an answer may take."""
        driver = self._driver
        await driver.pool.measure(
            driver.venue.probe(self._call.origin),
            since=attempt.stamped_at,
            deadline=min(self._job.deadline, self._loop.time() + driver.policy.patience),
            date_ms=refused.date_ms,
        )

    def _done(self, attempt: Try, places: Places, task: asyncio.Task[None]) -> None:
        places.leave()
        if task.cancelled():
            attempt.end()
        elif (crash := task.exception()) is not None:
            attempt.end()
            self._crash = crash
            self._ring()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    # Waiting.

    async def _wait(self, until: float) -> None:
        """Wait until an attempt ends or the time (loop's) comes."""
        if self._crash is None:
            self._bell = self._loop.create_future()
            timer = self._loop.call_at(until, self._ring)
            try:
                await self._bell
            finally:
                timer.cancel()
        if self._crash is not None:
            raise self._crash

    def _goes_on(self, attempt: Try, error: MassCancelError) -> bool:
        """An attempt has failed: whether another follows, or is still under way."""
        retry, job, call = self._retry, self._job, self._call
        self._errors.append(error)
        log.debug("%s: attempt %d: %s", job.what, retry.sends, error)
        timed = not call.nonces_per_second  # a nonce has nothing to do with the clock
        stale = error if timed and isinstance(error, StampRefused) else None
        known = stale is not None and attempt.stamped_at < self._stale_since  # it had left by then
        if known or (attempt.path == "stream" and job.via == "both"):
            again = retry.next_send < job.deadline  # others go on by themselves
        else:
            again = retry.again(error, self._loop.time())
            if not again and isinstance(error, VenueError):
                self._refusal = self._refusal or error
        if stale is not None and not known:
            self._stale, self._stale_since = (attempt, stale), time.monotonic()
        return again or bool(self._running or self._ended)

    def _leave(self) -> Iterable[asyncio.Task[None]]:
        """Let go of what still runs: somebody else will see to its end."""
        tasks = [*self._running.values()]
        for attempt, task in self._running.items():
            if not attempt.reached:  # there is nothing to answer
                attempt.end()
                task.cancel()
        self._running.clear()
        return tasks

    async def _abandon(self) -> None:
        """End what still runs, and note what is known of it."""
        for attempt, task in self._running.items():
            self._gave_up |= attempt.reached
            attempt.end()
            task.cancel()
        await asyncio.wait(self._leave())

    def _out_of_time(self) -> MassCancelError:
        origin, running = self._call.origin, [*self._running]
        before = _verdict(self._errors) if self._errors else None
        said = f"; before, {before._what()}" if before else ""  # noqa: SLF001  # a friend
        error: MassCancelError
        if self._gave_up or any(attempt.reached for attempt in running):
            error = UnansweredInTime(f"no answer from {origin} within the time{said}")
        elif running:
            error = NotSentInTime(f"no connection to {origin} within the time{said}")
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
