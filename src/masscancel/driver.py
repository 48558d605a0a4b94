"""The driver: takes a venue's flow to its end, one signed attempt after, or beside, another."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from masscancel.attempt import ByRest, OnStream, Try
from masscancel.credentials import Credentials
from masscancel.errors import (
    DeadlineExceeded,
    MassCancelError,
    NotSent,
    NotSentInTime,
    StampRefused,
    TransportError,
    UnansweredInTime,
)
from masscancel.gate import OrderGate
from masscancel.models import Attempt, Via
from masscancel.retry import Retry, RetryPolicy
from masscancel.session import NoneOpen, SessionPool, Turn
from masscancel.stream import Streams
from masscancel.venue import Call, Flow, Venue

__all__ = ["Driver", "Job", "Lanes"]

log = logging.getLogger("masscancel")

T = TypeVar("T")


class Lanes:
    """The places that bounded requests pass through: a fan-out's own, then the pool's."""

    def __init__(self, *lanes: asyncio.Semaphore) -> None:
        self._lanes = lanes

    async def enter(self) -> None:
        """Wait for a place in each."""
        held = []
        try:
            for lane in self._lanes:
                await lane.acquire()
                held.append(lane)
        except BaseException:
            for lane in held:
                lane.release()
            raise

    def leave(self) -> None:
        """Give the places back."""
        for lane in self._lanes:
            lane.release()


class _Places:
    """The places that one attempt holds."""

    def __init__(self, lanes: Lanes | None = None, turn: Turn | None = None) -> None:
        self._lanes = lanes
        self.turn = turn

    def leave(self) -> None:
        """Give them back. Once for each that entered."""
        if self._lanes is not None:
            self._lanes.leave()
        if self.turn is not None:
            self.turn.leave()


_NOWHERE: Final = _Places()


class Job:
    """What one public call is doing.

    Args:
        words: the call, the category and symbol of its scope, the venue's name, the label.
        deadline: when its time is up, in the loop's time.
        lanes: where its requests wait for their turn; ``None`` if they never queue.
        gate: what learns of each attempt to cancel.
        via: which way a cancel goes, where its venue has more than one.
        urgent: whether it is there to cancel; its listings then are as urgent as its cancels.
    """

    def __init__(
        self,
        words: tuple[str, object, object, str, str],
        deadline: float,
        lanes: Lanes | None = None,
        gate: OrderGate | None = None,
        via: Via = "rest",
        *,
        urgent: bool = True,
    ) -> None:
        self._words = words
        self.urgent = urgent
        self.via = via
        self.deadline = deadline
        self.lanes = lanes
        self.gate = gate
        self._whole: Job | None = None
        self._tries: list[Try] = []

    def within(self, deadline: float) -> "Job":
        """A part of this job, with a deadline of its own; its attempts are this job's, too."""
        part = Job(
            self._words,
            min(deadline, self.deadline),
            self.lanes,
            self.gate,
            self.via,
            urgent=self.urgent,
        )
        part._whole = self  # of the same kind
        return part

    @property
    def what(self) -> str:
        """Its words for errors, such as ``cancel_all cash BTC/USDT on ascendex [mm-1]``."""
        call, account_category, symbol, venue, label = self._words
        scope = [str(word) for word in (account_category, symbol) if word not in (None, "")]
        said = [call, *(word for word in scope if word.isprintable()), "on", venue]
        return " ".join([*said, f"[{label}]"] if label else said)

    def begin(self, attempt: Try) -> None:
        """Take note of an attempt, before it is made."""
        self._note(attempt)
        if attempt.call.acts and self.gate is not None:
            self.gate.register(attempt)

    def _note(self, attempt: Try) -> None:
        self._tries.append(attempt)
        if self._whole is not None:
            self._whole._note(attempt)  # noqa: SLF001  # of the same kind

    def attempts(self) -> tuple[Attempt, ...]:
        """What has been tried so far, oldest first."""
        return tuple(attempt.freeze() for attempt in self._tries)

    def describe(self, error: MassCancelError) -> None:
        """Tell an error whose it is, and what had been tried."""
        error.describe(self.attempts(), context=self.what)


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
        self._credentials = credentials
        self._venue = venue
        self._pool = pool
        self._streams = streams
        self._policy = policy

    async def run(self, flow: Flow[T], job: Job) -> T:
        """Take a flow to its end. Its error, if any, learns here what had been tried."""
        try:
            calls = next(flow)
            while True:
                calls = flow.send(await self._perform_all(calls, job))
        except StopIteration as stop:
            value: T = stop.value
            return value
        except MassCancelError as error:
            job.describe(error)
            raise
        finally:
            flow.close()

    async def _perform_all(self, calls: Sequence[Call[Any]], job: Job) -> Sequence[Any]:
        if len(calls) == 1:
            return [await self._perform(calls[0], job)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._perform(call, job)) for call in calls]
        return [task.result() for task in tasks]

    async def _perform(self, call: Call[Any], job: Job) -> Any:
        """Send one call, again if need be, until it is answered or it is clear that it won't be.

        Returns its value or its final error.
        """
        loop = asyncio.get_running_loop()
        if call.limit is not None:
            job = job.within(loop.time() + call.limit)
        if not self._pool.keeps_warm(call.origin):
            self._pool.keep_warm(self._venue.probe(call.origin))
        retry = Retry(
            self._policy,
            self._pool.budget(call.origin),
            started=loop.time(),
            deadline=job.deadline,
            urgent=call.acts,
            repeatable=call.repeatable,
            patience=self._policy.hedge if job.via == "both" and call.saying is not None else None,
            stamp_refusals=self._policy.nonce_refusals if call.nonces_per_second else None,
        )
        race = _Race(loop)
        errors: list[MassCancelError] = []
        try:
            while (now := loop.time()) < job.deadline:
                if now >= retry.next_send:
                    await self._start(call, job, retry, race, errors)
                elif not race.running and retry.next_send >= job.deadline:
                    break
                for attempt, result in await race.wait(min(retry.next_send, job.deadline)):
                    if not isinstance(result, MassCancelError):
                        self._pool.leave_to_answer(race.leave(), job.deadline)
                        return result
                    errors.append(result)
                    log.debug("%s: attempt %d: %s", job.what, retry.sends, result)
                    if attempt.path == "stream" and job.via == "both":
                        again = retry.next_send < job.deadline  # the other path goes on by itself
                    else:
                        again = retry.again(result, loop.time())
                    timed = not call.nonces_per_second  # a nonce has nothing to do with the clock
                    if again and timed and isinstance(result, StampRefused):
                        await self._pool.measure(
                            self._venue.probe(call.origin),
                            since=attempt.stamped_at,
                            deadline=job.deadline,
                        )
                    if not again and not race.running:
                        return _verdict(errors)
            if race.running or not errors:
                errors.append(_out_of_time(call, race.running, errors))
            return _verdict(errors)
        finally:
            retry.done()
            await race.abandon()

    async def _start(
        self, call: Call[Any], job: Job, retry: Retry, race: "_Race", errors: list[MassCancelError]
    ) -> None:
        """Start the attempt that is due, if the budget allows, once there is a place for it."""
        loop = asyncio.get_running_loop()
        if job.lanes is not None or call.nonces_per_second:
            await race.abandon()  # it gives its place up to others, or to its own next nonce
        places = await self._enter(call, job)
        if places is None or not retry.due(loop.time()):
            if places is not None:
                places.leave()
            return
        until = min(retry.next_send, job.deadline)
        saying = call.saying if job.via != "rest" else None
        if saying is not None and (job.via == "stream" or retry.sends == 1):
            said = OnStream(call, self._credentials, saying, self._streams)
            job.begin(said)
            if job.via == "stream":
                await race.launch(said, places, until)
                return
            race.start(said, _NOWHERE)
            retry.beside()
        # On a fresh connection, if there is trouble on those there are.
        lost = bool(errors) and isinstance(errors[-1], TransportError)
        beside = any(other.path == "rest" for other in race.running)
        fresh = lost or beside
        written = ByRest(call, self._credentials, self._pool, fresh=fresh, turn=places.turn)
        job.begin(written)
        await race.launch(written, places, until)

    async def _enter(self, call: Call[Any], job: Job) -> "_Places | None":
        """Wait for the key's turn, where nonces have an order, and for a place in the lanes."""
        if not call.nonces_per_second and job.lanes is None:
            return _NOWHERE
        turn = None
        try:
            async with asyncio.timeout_at(job.deadline):
                if call.nonces_per_second:
                    turn = await self._pool.turn(self._credentials.api_key, urgent=job.urgent)
                if job.lanes is not None:
                    await job.lanes.enter()
        except BaseException as stopped:
            if turn is not None:
                turn.leave()
            if isinstance(stopped, TimeoutError):
                return None
            raise
        return _Places(job.lanes, turn)


class _Race:
    """The attempts of one call that are under way, side by side."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bell: asyncio.Future[None] | None = None
        self._ended: list[tuple[Try, Any]] = []
        self._crash: BaseException | None = None
        self.running: dict[Try, asyncio.Task[None]] = {}

    async def launch(self, attempt: Try, places: _Places, until: float) -> None:
        """Make an attempt: in this very task, while there is nothing else to be done.

        That is so if no other is under way and its connection is open, until the time (loop's) for
        another comes. A task costs a turn of the event loop, and a tenth of the whole call.
        """
        sending = attempt.sending
        sending.at_once = not (self.running or sending.fresh)
        if sending.at_once:
            try:
                async with asyncio.timeout_at(until):
                    await self._run(attempt)
            except (NoneOpen, TimeoutError):
                sending.at_once = False
            except BaseException:
                attempt.end()
                places.leave()
                raise
            else:
                places.leave()
                return
        self.start(attempt, places)

    def start(self, attempt: Try, places: _Places) -> None:
        """Make an attempt, or go on with it, in a task of its own."""
        task = self._loop.create_task(self._run(attempt))
        task.add_done_callback(partial(self._done, attempt, places))
        self.running[attempt] = task

    async def _run(self, attempt: Try) -> None:
        result = await attempt.result()
        self.running.pop(attempt, None)
        self._ended.append((attempt, result))
        self._ring()

    def _done(self, attempt: Try, places: _Places, task: asyncio.Task[None]) -> None:
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

    async def wait(self, until: float) -> Sequence[tuple[Try, Any]]:
        """Wait until an attempt ends or the time (loop's) comes; returns those that ended."""
        if not self._ended and self._crash is None:
            self._bell = self._loop.create_future()
            timer = self._loop.call_at(until, self._ring)
            try:
                await self._bell
            finally:
                timer.cancel()
        if self._crash is not None:
            raise self._crash
        ended, self._ended = self._ended, []
        return ended

    def leave(self) -> Iterable[asyncio.Task[None]]:
        """Let go of what still runs: somebody else will see to its end."""
        tasks = [*self.running.values()]
        for attempt, task in self.running.items():
            if not attempt.reached:  # there is nothing to answer
                attempt.end()
                task.cancel()
        self.running.clear()
        return tasks

    async def abandon(self) -> None:
        """End what still runs, and note what is known of it."""
        if not self.running:
            return
        for attempt, task in self.running.items():
            attempt.end()
            task.cancel()
        await asyncio.wait(self.leave())


def _out_of_time(
    call: Call[Any], running: Iterable[Try], errors: Sequence[MassCancelError]
) -> MassCancelError:
    attempts = list(running)
    if any(attempt.reached for attempt in attempts):
        said = f"; before, {errors[-1].args[0]}" if errors else ""
        return UnansweredInTime(f"no answer from {call.origin} within the time{said}")
    if attempts:
        return NotSentInTime(f"no connection to {call.origin} within the time")
    return DeadlineExceeded("the time was up before anything could be sent")


def _verdict(errors: Sequence[MassCancelError]) -> MassCancelError:
    """The error that speaks for all: the last, unless it hides that an attempt may have arrived."""
    verdict = errors[-1]
    if isinstance(verdict, NotSent):
        verdict = next((e for e in reversed(errors) if not isinstance(e, NotSent)), verdict)
    return verdict
