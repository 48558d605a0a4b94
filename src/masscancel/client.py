"""The client: a venue, credentials and a session pool, joined. It drives the venue's flows."""

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec.structs import replace

from masscancel.credentials import Credentials
from masscancel.errors import (
    ConfigurationError,
    DeadlineExceeded,
    MassCancelError,
    NotSent,
    NotSentInTime,
    StampRefused,
    TransportError,
    UnansweredInTime,
    VenueError,
)
from masscancel.models import Ack, Attempt, Fate, OpenOrder
from masscancel.retry import Retry, RetryPolicy
from masscancel.session import Sending, SessionPool
from masscancel.venue import Call, Flow, Request, Venue

__all__ = ["Client"]

log = logging.getLogger("masscancel")

T = TypeVar("T")


class Lanes:
    """The places that bounded requests pass through: a fan-out's own, then the pool's."""

    def __init__(self, *lanes: asyncio.Semaphore) -> None:
        self._lanes = lanes

    async def enter(self, deadline: float) -> bool:
        """Wait for a place in each; false, with none held, if the deadline (loop time) comes."""
        held = []
        try:
            async with asyncio.timeout_at(deadline):
                for lane in self._lanes:
                    await lane.acquire()
                    held.append(lane)
        except BaseException as stopped:
            for lane in held:
                lane.release()
            if isinstance(stopped, TimeoutError):
                return False
            raise
        return True

    def leave(self, _: object = None) -> None:
        """Give the places back."""
        for lane in self._lanes:
            lane.release()


class Client:
    """One account at one venue.

    An async context manager. Entering it opens connections in the background and does not wait
    for the network, unless the venue has to be asked for something that a cancel needs, such as
    AscendEX for the account group.

    Args:
        credentials: whose account.
        venue: which exchange, and where, such as ``AscendEX(rest_url=..., stream_url=...)``.
        pool: an entered pool to share with other clients; by default the client has its own.
        categories: the account categories it will use, so that connections to their hosts are
            opened on entry. By default, that is done where one host serves all of the venue's.
        retry: how persistent to be.
        entry_timeout: how long entering may take where the venue has to be asked, in seconds.

    Raises:
        ConfigurationError: an argument is of the wrong kind.

    Example:
        >>> async with Client(credentials, venue=venue) as client:
        ...     ack = await client.cancel_all("cash", "BTC/USDT")
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        venue: Venue,
        pool: SessionPool | None = None,
        categories: Iterable[str] | None = None,
        retry: RetryPolicy | None = None,
        entry_timeout: float = 10.0,
    ) -> None:
        if not isinstance(credentials, Credentials):
            raise ConfigurationError("credentials must be Credentials")
        self._credentials = credentials
        self._venue = venue
        self._explicit = categories is not None
        self._categories = tuple(venue.abilities if categories is None else categories)
        self._policy = retry or RetryPolicy()
        self._entry_timeout = check_timeout(entry_timeout)
        self._pool = pool or SessionPool()
        self._owns_pool = pool is None
        self._entered = False

    def __repr__(self) -> str:
        return f"Client({self._venue.name}, label={self.label!r})"

    @property
    def label(self) -> str:
        """The credentials' label: how the account is told apart."""
        return self._credentials.label

    @property
    def venue(self) -> Venue:
        """The venue; once entered, with what had to be found out."""
        return self._venue

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError(f"{self!r} is entered already")
        if self._owns_pool:
            await self._pool.__aenter__()
        elif not self._pool.is_open:
            raise ConfigurationError("enter the session pool before the clients that share it")
        self._entered = True
        try:
            if not self._venue.ready():
                job = _Job("enter the account", self._deadline(self._entry_timeout))
                self._venue = await self._drive(self._venue.prepare(), job)
            for origin in self._origins():
                self._pool.keep_warm(self._venue.probe(origin))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered = False
        if self._owns_pool:
            await self._pool.close()

    def _origins(self) -> set[str]:
        """The origins that are sure to be used."""
        origins = {self._venue.origin(category) for category in self._categories}
        return origins if self._explicit or len(origins) == 1 else set()

    async def cancel_all(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        request_id: str | None = None,
        timeout: float = 5.0,
    ) -> Ack:
        """Ask the venue to cancel every open order in the scope.

        The Ack says that the request was received. It does not say that anything was cancelled,
        and orders that were sent but not yet acknowledged when it arrived are not.

        Never queues behind other requests. Sent again within the time limit, with a new timestamp
        and signature each, while the outcome is unknown: cancelling twice is harmless.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            symbol: one symbol, such as ``"BTC/USDT"``; ``None`` for all.
            request_id: an id for the venue to echo, where it does; made up if not given.
            timeout: seconds from now, covering every retry.

        Raises:
            ScopeError: the venue has no such scope; nothing was sent.
            ConfigurationError: another argument can't be used; nothing was sent.
            VenueError: the venue said no; see its subclasses.
            NotSent: nothing reached the venue within the time.
            OutcomeUnknown: something may have, and no answer came back.
            ProtocolError: the only answers could not be understood.
        """
        deadline = self._deadline(timeout)
        return await self._acknowledge(account_category, symbol, request_id, deadline)

    async def open_orders(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        timeout: float = 5.0,
    ) -> list[OpenOrder]:
        """List the open orders in the scope, as the venue says them now.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            symbol: one symbol, ``None`` for all.
            timeout: seconds from now, covering every retry.

        Raises:
            MassCancelError: as :meth:`cancel_all` does; nothing is changed by a listing.
        """
        what = _what("open_orders", account_category, symbol)
        job = _Job(what, self._deadline(timeout), Lanes(self._pool.lane))
        return await self._drive(self._venue.open_orders(account_category, symbol), job)

    async def _cancel_target(
        self,
        account_category: str,
        symbol: str | None,
        *,
        deadline: float,
        lane: asyncio.Semaphore,
    ) -> Ack:
        """What a fan-out does with one target: bounded by its own lane and the pool's."""
        lanes = Lanes(lane, self._pool.lane)
        return await self._acknowledge(account_category, symbol, None, deadline, lanes)

    async def _acknowledge(
        self,
        account_category: str,
        symbol: str | None,
        request_id: str | None,
        deadline: float,
        lanes: Lanes | None = None,
    ) -> Ack:
        job = _Job(_what("cancel_all", account_category, symbol), deadline, lanes)
        flow = self._venue.cancel_all(account_category, symbol, request_id)
        ack = await self._drive(flow, job)
        return replace(ack, attempts=job.attempts())

    # Driving flows.

    def _deadline(self, timeout: float) -> float:
        return asyncio.get_running_loop().time() + check_timeout(timeout)

    async def _drive(self, flow: Flow[T], job: "_Job") -> T:
        """Run a flow to its end. Its error, if any, learns here what had been tried."""
        try:
            if not self._entered:
                raise ConfigurationError(f"enter {self!r} first: async with Client(...) as client")
            calls = next(flow)
            while True:
                calls = flow.send(await self._perform_all(calls, job))
        except StopIteration as stop:
            value: T = stop.value
            return value
        except MassCancelError as error:
            context = f"{job.what} on {self._venue.name}"
            error.describe(
                job.attempts(), context=f"{context} [{self.label}]" if self.label else context
            )
            raise
        finally:
            flow.close()

    async def _perform_all(self, calls: Sequence[Call[Any]], job: "_Job") -> Sequence[Any]:
        if len(calls) == 1:
            return [await self._perform(calls[0], job)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._perform(call, job)) for call in calls]
        return [task.result() for task in tasks]

    async def _perform(self, call: Call[T], job: "_Job") -> T | MassCancelError:
        """Send one call, again if need be, until it is answered or it is clear that it won't be."""
        loop = asyncio.get_running_loop()
        self._pool.keep_warm(self._venue.probe(call.origin))
        retry = Retry(
            self._policy,
            self._pool.budget(call.origin),
            started=loop.time(),
            deadline=job.deadline,
            urgent=call.acts,
            repeatable=call.repeatable,
        )
        running: dict[asyncio.Task[Any], _Try] = {}
        errors: list[MassCancelError] = []
        try:
            while (now := loop.time()) < job.deadline:
                if retry.due(now):
                    if job.lanes is not None:
                        await _abandon(running)  # it gives its place up to others
                        if not await job.lanes.enter(job.deadline):
                            break
                    # On a fresh connection, if what there was has just failed or does not answer.
                    lost = bool(errors) and isinstance(errors[-1], TransportError)
                    attempt = job.open(call, fresh=lost or bool(running))
                    task = loop.create_task(self._attempt(call, attempt))
                    if job.lanes is not None:
                        task.add_done_callback(job.lanes.leave)
                    running[task] = attempt
                elif not running and retry.next_send >= job.deadline:
                    break
                wait = min(retry.next_send, job.deadline) - now
                if not running:
                    await asyncio.sleep(wait)
                    continue
                done, _ = await asyncio.wait(
                    running, timeout=wait, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    attempt = running.pop(task)
                    result: T | MassCancelError = task.result()
                    if not isinstance(result, MassCancelError):
                        self._pool.leave_to_answer(running, job.deadline)
                        running = {}
                        return result
                    errors.append(result)
                    log.debug("%s: attempt %d: %s", job.what, retry.sends, result)
                    again = retry.again(result, loop.time())
                    if again and isinstance(result, StampRefused):
                        probe = self._venue.probe(call.origin)
                        await self._pool.measure(
                            probe, since=attempt.stamped_at, deadline=job.deadline
                        )
                    if not again and not running:
                        return _verdict(errors)
            if running or not errors:
                errors.append(_out_of_time(call, running.values()))
            return _verdict(errors)
        finally:
            await _abandon(running)

    async def _attempt(self, call: Call[Any], attempt: "_Try") -> Any:
        """Stamp, sign, write and understand, once."""
        credentials, pool = self._credentials, self._pool
        request: Request | None = None
        ordered = call.nonces_per_second > 0
        turn = pool.turn(credentials.api_key, urgent=call.acts) if ordered else nullcontext()
        try:
            async with turn:
                stamp = pool.stamp(call.origin, credentials.api_key, call.nonces_per_second)
                request = call.sign(call, credentials, stamp)
                attempt.written(stamp.time_ms, request.expires_at_ms)
                reply = await pool.send(
                    call.origin, request, max_reply=call.max_reply, sending=attempt.sending
                )
            value = call.decode(reply, stamp)
        except MassCancelError as problem:
            error = problem
        else:
            attempt.fate = "answered"
            return value
        attempt.fate = _fate(error)
        _scrub(error, credentials, request)
        return error


class _Try:
    """One attempt while it is under way."""

    def __init__(self, *, acts: bool, fresh: bool) -> None:
        self.sending = Sending(fresh=fresh)
        self.fate: Fate = "open"
        self.stamped_at = time.monotonic()
        self._acts = acts
        self._sent_at_ms: int | None = None
        self._expires_at_ms: int | None = None

    @property
    def reached(self) -> bool:
        """Whether it may have reached the venue."""
        return self._sent_at_ms is not None and not self.sending.connecting

    def written(self, sent_at_ms: int, expires_at_ms: int | None) -> None:
        """It is stamped and signed, and goes to the pool."""
        self.stamped_at = time.monotonic()
        self._sent_at_ms = sent_at_ms
        self._expires_at_ms = expires_at_ms

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        if self.fate == "open":
            self.fate = "unknown" if self.reached else "not sent"

    def freeze(self) -> Attempt:
        return Attempt(
            path="rest",
            sent_at_ms=self._sent_at_ms or int(time.time() * 1000),
            fate=self.fate,
            expires_at_ms=self._expires_at_ms,
            acts=self._acts,
        )


class _Job:
    """What one public call is doing: its words for errors, its deadline, lanes and attempts."""

    def __init__(self, what: str, deadline: float, lanes: Lanes | None = None) -> None:
        self.what = what
        self.deadline = deadline
        self.lanes = lanes
        self._tries: list[_Try] = []

    def open(self, call: Call[Any], *, fresh: bool) -> _Try:
        attempt = _Try(acts=call.acts, fresh=fresh)
        self._tries.append(attempt)
        return attempt

    def attempts(self) -> tuple[Attempt, ...]:
        return tuple(attempt.freeze() for attempt in self._tries)


async def _abandon(running: "dict[asyncio.Task[Any], _Try]") -> None:
    """End attempts that nobody waits for, and note what is known of them."""
    if not running:
        return
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    for attempt in running.values():
        attempt.give_up()
    running.clear()


def _fate(error: MassCancelError) -> Fate:
    if isinstance(error, NotSent):
        return "not sent"
    return "unknown" if error.may_have_executed else "refused"


def _scrub(error: MassCancelError, credentials: Credentials, request: Request | None) -> None:
    """Take what is secret out of what a peer said, and the frames that saw it off the error."""
    secrets = [credentials.api_secret, credentials.api_key]
    if request is not None:
        secrets += [value for name, value in request.headers.items() if name != "Content-Type"]

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    error.args = (clean(error.message),)
    if isinstance(error, VenueError):
        error.reason, error.text = clean(error.reason), clean(error.text)
    error.with_traceback(None)


def _out_of_time(call: Call[Any], running: Iterable[_Try]) -> MassCancelError:
    attempts = list(running)
    if any(attempt.reached for attempt in attempts):
        return UnansweredInTime(f"no answer from {call.origin} within the time")
    if attempts:
        return NotSentInTime(f"no connection to {call.origin} within the time")
    return DeadlineExceeded("the time was up before anything could be sent")


def _verdict(errors: Sequence[MassCancelError]) -> MassCancelError:
    """The error that speaks for all: the last, unless it hides that an attempt may have arrived."""
    verdict = errors[-1]
    if isinstance(verdict, NotSent):
        verdict = next((e for e in reversed(errors) if not isinstance(e, NotSent)), verdict)
    return verdict


def _what(call: str, account_category: object, symbol: object) -> str:
    words = [str(word) for word in (call, account_category, symbol) if word not in (None, "")]
    return " ".join(word for word in words if word.isprintable())


def check_timeout(timeout: object) -> float:
    """Check a time limit, in seconds.

    Raises:
        ConfigurationError: it is not a positive, finite number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ConfigurationError(f"timeout must be a number of seconds, not {timeout!r}")
    if not (math.isfinite(timeout) and timeout > 0):
        raise ConfigurationError(f"timeout must be positive and finite, not {timeout!r}")
    return float(timeout)
