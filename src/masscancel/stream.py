"""Streams: authenticated websockets that stay up, tell of orders, and carry cancels.

One websocket per URL that the categories in use need. It is opened by whoever first watches a
category or cancels on it, and from then on kept: login, subscriptions, both sides' pings, a new
connection when it drops. A reader always drains it. What reaches a consumer is bounded: one that
does not keep up is told of a gap, and never holds up the others.
"""

import asyncio
import logging
import random
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Final
from weakref import WeakSet

import aiohttp

from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    StampRefused,
    VenueError,
    one_line,
    short,
)
from masscancel.models import Ack, Gap, OrderUpdate
from masscancel.scrub import masked, scrub
from masscancel.session import NoneOpen, SessionPool
from masscancel.venue import (
    Answered,
    Ended,
    Greeting,
    LoggedIn,
    Pinged,
    Saying,
    Stamp,
    StreamDialect,
    StreamEvent,
    Subscribed,
    Updated,
    Venue,
)

__all__ = ["Asked", "Streams", "Watch"]

log = logging.getLogger("masscancel")

#: The largest message to be read, in bytes.
MAX_MESSAGE: Final = 1024 * 1024
#: How many updates wait for a consumer before it is told of a gap instead.
BACKLOG: Final = 10_000
#: How long a login or a write may take, in seconds.
PATIENCE: Final = 3.0
#: What may be a signature, in a login.
_SIGNATURES: Final = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
#: How long a close may take, in seconds.
CLOSE: Final = 0.5
#: How often we ping, in seconds ...
PING: Final = 5.0
#: ... and how many pings in a row may find that nothing was heard.
SILENT_PINGS: Final = 2
#: The wait before a new connection: between nothing and this, doubling up to the second. Seconds.
RECONNECT: Final = (0.1, 5.0)


class Watch:
    """One consumer's view of a category: an async iterator of updates and gaps."""

    def __init__(self, account_category: str) -> None:
        self.account_category = account_category
        self._items: deque[OrderUpdate | Gap] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._error: MassCancelError | None = None
        #: Called when something arrives.
        self.on_news: Callable[[], object] = self._arrived.set

    def push(self, update: OrderUpdate) -> None:
        """An update for the consumer; too many of them become a gap."""
        if len(self._items) >= BACKLOG:
            self.gap("the consumer did not keep up")
            return
        self._items.append(update)
        self.on_news()

    def gap(self, reason: str) -> None:
        """From here on back to the last update, some may be missing."""
        self._items.clear()
        self._items.append(Gap(account_category=self.account_category, reason=reason))
        self.on_news()

    def end(self, error: MassCancelError | None = None) -> None:
        """Nothing more will come."""
        self._ended = True
        self._error = error
        self.on_news()

    def drain(self) -> list[OrderUpdate | Gap]:
        """What has arrived and not been taken yet."""
        items = [*self._items]
        self._items.clear()
        return items

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> OrderUpdate | Gap:
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._items.popleft()


class Streams:
    """A client's websockets.

    Args:
        credentials: who logs in.
        venue: whose streams these are.
        pool: what opens connections, and knows the venue's time.
    """

    def __init__(self, credentials: Credentials, venue: Venue, pool: SessionPool) -> None:
        self._credentials = credentials
        self._venue = venue
        self._pool = pool
        self._sockets: dict[str, _Socket] = {}  # by their URLs ...
        self._of_category: dict[str, _Socket] = {}  # ... and by the categories in use
        self._closed = False

    def watch(self, account_category: str) -> Watch:
        """Follow a category's order updates, on a stream that is opened if need be.

        Raises:
            ScopeError: the venue has no such category.
            ConfigurationError: it has no stream for it.
        """
        return self._socket(account_category).watch(account_category)

    def trusted(self, account_category: str) -> Watch | None:
        """The same, if a stream is up and subscribed to it already; opens nothing."""
        for socket in self._sockets.values():
            if account_category in socket.trusted:
                return socket.watch(account_category)
        return None

    async def ask(
        self, saying: Saying, written: Callable[[Stamp, int], None], *, at_once: bool
    ) -> "Asked":
        """Say a cancel-all as soon as the stream is up.

        Args:
            saying: what.
            written: is called with the stamp and its expiry when it is about to be written.
            at_once: whether it is to be said now or not at all.

        Returns:
            What its answer is awaited with.

        Raises:
            OutcomeUnknown: the stream dropped while it was said.
            NotSent: the client has been left.
            NoneOpen: it was to be said at once, and the stream is not up.
            VenueError: the login was refused.
        """
        socket = self._socket(saying.account_category)
        if at_once and not socket.ready.is_set():
            raise NoneOpen
        return await socket.ask(saying, written)

    def _socket(self, account_category: str) -> "_Socket":
        if (known := self._of_category.get(account_category)) is not None:
            return known
        if self._closed:
            raise NotSent("the client has been left")
        dialect = self._venue.stream(account_category)
        if dialect is None:
            raise ConfigurationError(f"{self._venue.name} has no stream for {account_category}")
        socket = self._sockets.get(dialect.url)
        if socket is None:
            socket = _Socket(dialect, self._credentials, self._venue, self._pool)
            self._sockets[dialect.url] = socket
        self._of_category[account_category] = socket
        return socket

    async def close(self) -> None:
        """End every stream; its consumers' iterations end."""
        self._closed = True
        sockets = [*self._sockets.values()]
        self._sockets.clear()
        self._of_category.clear()
        await asyncio.gather(*(socket.close() for socket in sockets))


class _Dropped(Exception):  # never leaves this module
    """The connection is to be replaced."""


class Asked:
    """A cancel that has been said, whose answer can be awaited."""

    __slots__ = ("_answer", "_bell", "_socket", "_stamp", "saying")

    def __init__(self, socket: "_Socket", saying: Saying, stamp: Stamp) -> None:
        self.saying = saying
        self._socket = socket
        self._stamp = stamp
        self._answer: Ack | MassCancelError | None = None
        self._bell: asyncio.Future[None] | None = None

    async def reply(self) -> Ack:
        """Wait for the answer. If this is cancelled, it may be awaited again, or aborted.

        Raises:
            OutcomeUnknown: the stream dropped before the answer.
            VenueError: the venue refused.
        """
        while self._answer is None:
            self._bell = self._socket.loop.create_future()
            await self._bell
        if isinstance(self._answer, Ack):
            return self._answer
        raise self._answer

    def answered(self, answer: Ack | MassCancelError) -> None:
        """Its answer has come, or is not to be had any more."""
        self._answer = answer
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def abort(self) -> None:
        """Nobody waits for the answer any more."""
        if self._answer is None:
            self._socket.forget(self)

    def fits(self, ack: Ack) -> bool:
        """Whether an Ack is for the same scope, and not from before the request.

        With the request's own id, a clock may be off by as much as the venue lets it.
        """
        skew_ms = self._stamp.skew_ms
        if ack.request_id == self.saying.request_id:
            skew_ms = max(skew_ms, self.saying.lifetime_ms)
        return (
            ack.account_category == self.saying.account_category
            and ack.symbol == self.saying.symbol
            and (ack.timestamp_ms is None or ack.timestamp_ms >= self._stamp.time_ms - skew_ms)
        )


def wait_after(wait: float, lived: float) -> float:
    """The wait before a new connection, at most: it doubles, unless the last one lived for long.

    One that is accepted, logged in and ended at once is no success.

    Args:
        wait: the one before, 0 at first. Seconds.
        lived: for how long the last connection was of use, in seconds.
    """
    shortest, longest = RECONNECT
    return shortest if lived > longest else min(max(2 * wait, shortest), longest)


class _Socket:
    """One websocket, and the task that keeps it."""

    def __init__(
        self, dialect: StreamDialect, credentials: Credentials, venue: Venue, pool: SessionPool
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._dialect = dialect
        self._credentials = credentials
        self._venue = venue
        self._pool = pool
        self._websocket: aiohttp.ClientWebSocketResponse | None = None
        self._watches: defaultdict[str, WeakSet[Watch]] = defaultdict(WeakSet)
        self._asked: list[Asked] = []
        self._saying: set[asyncio.Task[None]] = set()
        self._heard = 0
        self._up_since: float | None = None
        self._asked_to_log_in = False
        #: What no word of the venue's may show.
        self._secrets = {credentials.api_secret, credentials.api_key}
        self._logged_in: asyncio.Future[None] = self.loop.create_future()
        self._broken: asyncio.Future[None] = self.loop.create_future()
        self._refused: MassCancelError | None = None
        #: Set while requests can be said, and when it is clear that they never will.
        self.ready = asyncio.Event()
        #: The categories whose updates are complete from their subscription's answer on.
        self.trusted: set[str] = set()
        self._keeper = self.loop.create_task(self._keep())

    # What consumers and cancels do with it.

    def watch(self, account_category: str) -> Watch:
        """A new consumer of a category."""
        watch = Watch(account_category)
        new = account_category not in self._watches
        self._watches[account_category].add(watch)
        if self._refused is not None:
            watch.end(copy(self._refused))
        elif new and self.ready.is_set():
            self._say_soon(self._dialect.subscribe(account_category))
        return watch

    async def ask(self, saying: Saying, written: Callable[[Stamp, int], None]) -> Asked:
        """Say a cancel-all as soon as the stream is up."""
        await self.ready.wait()
        if self._refused is not None:
            raise copy(self._refused)
        stamp = self._stamp()
        asked = Asked(self, saying, stamp)
        self._asked.append(asked)
        try:
            written(stamp, stamp.time_ms + saying.lifetime_ms)
            await self._write(saying.encode(stamp))
        except _Dropped as problem:
            self.forget(asked)
            asked.answered(OutcomeUnknown(f"the stream broke: {problem}"))
        except BaseException:
            self.forget(asked)
            raise
        return asked

    def forget(self, asked: Asked) -> None:
        """Nobody waits for an answer any more; what comes must not be taken for the next one's."""
        if asked in self._asked:
            self._asked.remove(asked)
            self._break("a request was not answered in time")

    async def close(self) -> None:
        """End it; its consumers' iterations end."""
        self._keeper.cancel()
        await asyncio.wait((self._keeper,))
        for watch in self._consumers():
            watch.end()

    def _consumers(self) -> list[Watch]:
        return [watch for watches in self._watches.values() for watch in watches]

    # Keeping it up.

    async def _keep(self) -> None:
        wait = 0.0
        while self._refused is None:
            try:
                await self._live()
            except StampRefused as problem:
                log.debug("%s: %s", self._dialect.url, problem)
                await self._measure()
            except (AuthenticationError, PermissionDenied) as problem:
                self._refused = problem.with_traceback(None)
            except (MassCancelError, _Dropped) as problem:
                log.debug("%s: %s", self._dialect.url, problem)
                await self._drop(str(problem))
            finally:
                await self._drop("the stream was closed")
            wait = wait_after(
                wait, 0.0 if self._up_since is None else self.loop.time() - self._up_since
            )
            await asyncio.sleep(random.random() * wait)  # noqa: S311  # jitter
        for watch in self._consumers():
            watch.end(copy(self._refused))
        self.ready.set()

    async def _live(self) -> None:
        """Open, log in, subscribe, then read and ping until the connection ends.

        Raises:
            MassCancelError: it could not be opened, or the login was refused.
            _Dropped: it ended.
        """
        self._heard = 0
        self._up_since = None
        self._asked_to_log_in = False
        self._logged_in = self.loop.create_future()
        self._broken = self.loop.create_future()
        self._websocket = await self._open()
        reader = self.loop.create_task(self._read(self._websocket))
        pinger = self.loop.create_task(self._ping())
        ends = (reader, pinger, self._broken)
        try:
            done, _ = await asyncio.wait(
                (*ends, self._logged_in), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise _Dropped("no login in time")
            if self._logged_in.done():
                self._logged_in.result()
                for category in [*self._watches]:
                    await self._say(self._dialect.subscribe(category))
                self._up_since = self.loop.time()
                self.ready.set()
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            for task in (reader, pinger, *self._saying):
                task.cancel()
            await asyncio.gather(reader, pinger, *self._saying, return_exceptions=True)
            for future in (self._logged_in, self._broken):
                if not future.cancel():
                    future.exception()

    async def _open(self) -> aiohttp.ClientWebSocketResponse:
        """Log in with the upgrade; where that is refused, connect without, and say it instead."""
        url = self._dialect.url
        headers = self._dialect.login_headers(self._credentials, self._stamp())
        self._secrets = {self._credentials.api_secret, self._credentials.api_key, *headers.values()}
        try:
            return await self._pool.open_websocket(url, headers, max_message=MAX_MESSAGE)
        except VenueError as refused:
            log.debug("%s: %s", url, refused)
        return await self._pool.open_websocket(url, {}, max_message=MAX_MESSAGE)

    async def _drop(self, reason: str) -> None:
        """The connection is gone, or has to go: nobody may count on it any more."""
        self.ready.clear()
        for category in self.trusted:
            for watch in self._watches[category]:
                watch.gap(reason)
        self.trusted.clear()
        asked, self._asked = self._asked, []
        for one in asked:
            one.answered(OutcomeUnknown(f"the stream broke: {reason}"))
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            with suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(CLOSE):
                    await websocket.close()

    def _break(self, reason: str) -> None:
        """Have the connection replaced; nothing more is said on it from this very moment."""
        self.ready.clear()
        if not self._broken.done():
            self._broken.set_exception(_Dropped(reason))

    async def _measure(self) -> None:
        probe = self._venue.probe(self._dialect.clock_origin)
        now = time.monotonic()
        await self._pool.measure(probe, since=now, deadline=self.loop.time() + PATIENCE)

    def _stamp(self) -> Stamp:
        return self._pool.stamp(self._dialect.clock_origin)

    # Speaking.

    async def _say(self, text: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._write(text)
        except TimeoutError:
            lost = _Dropped("a message could not be written in time")
        else:
            return
        self._break(str(lost))
        raise lost

    async def _write(self, text: str) -> None:
        if self._websocket is None:
            raise _Dropped("it is not up")
        try:
            await self._websocket.send_str(text)
        except (aiohttp.ClientError, OSError) as problem:
            lost = _Dropped(f"a message could not be written, {type(problem).__name__}")
        else:
            return
        self._break(str(lost))
        raise lost

    def _say_soon(self, text: str) -> None:
        """Say it without making the reader wait."""

        async def say() -> None:
            with suppress(_Dropped):
                await self._say(text)

        task = self.loop.create_task(say())
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def _ping(self) -> None:
        """Keep the session alive, and notice when it is not."""
        heard, silent = self._heard, 0
        while silent < SILENT_PINGS:
            await asyncio.sleep(PING)
            silent = silent + 1 if self._heard == heard else 0
            heard = self._heard
            self._say_soon(self._dialect.ping())
        raise _Dropped("nothing was heard for too long")

    # Listening.

    async def _read(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Take every message, until there are no more. Never waits for anybody."""
        while True:
            message = await websocket.receive()
            self._heard += 1
            if message.type is aiohttp.WSMsgType.TEXT:
                data: bytes = message.data.encode()
            elif message.type is aiohttp.WSMsgType.BINARY:
                data = message.data
            else:
                raise _Dropped("the connection has ended")
            for event in self._dialect.parse(data):
                self._handle(event)

    def _handle(self, event: StreamEvent) -> None:
        match event:
            case Answered():
                self._answered(event)
            case Updated(update):
                for watch in self._watches.get(update.account_category, ()):
                    watch.push(update)
            case Pinged(answer):
                self._say_soon(answer)
            case Greeting(logged_in):
                if logged_in:
                    self._login_ended(None)
                elif not self._asked_to_log_in:
                    self._asked_to_log_in = True
                    text = self._dialect.login(self._credentials, self._stamp())
                    self._secrets.update(_SIGNATURES.findall(text))
                    self._say_soon(text)
            case LoggedIn(error):
                self._login_ended(error)
            case Subscribed(category, None):
                if category in self._watches:
                    self.trusted.add(category)
            case Subscribed(category, VenueError() as error):
                scrub(error, self._secrets)
                for watch in self._watches.pop(category, ()):
                    if category in self.trusted:
                        watch.gap("the venue ended the subscription")
                    watch.end(copy(error))
                self.trusted.discard(category)
            case Ended(reason):
                raise _Dropped(one_line(short(masked(reason, self._secrets))))

    def _login_ended(self, error: VenueError | None) -> None:
        if error is not None:
            scrub(error, self._secrets)
        if self._logged_in.done():
            if error is not None:
                raise _Dropped("the venue ended the login")
            return
        if error is None:
            self._logged_in.set_result(None)
        else:
            self._logged_in.set_exception(error)

    def _answered(self, answered: Answered) -> None:
        """Hand an answer to who asked: by its id, or to the first it fits where it has none."""
        result, request_id = answered.result, answered.request_id
        if request_id:
            asked = next((a for a in self._asked if a.saying.request_id == request_id), None)
        elif isinstance(result, Ack):
            asked = next((a for a in self._asked if a.fits(result)), None)
        else:  # a refusal without an id may be of anything: it is told, and proves nothing
            asked = self._asked[0] if len(self._asked) == 1 else None
            result.may_have_executed = True
        if asked is None:
            return
        self._asked.remove(asked)
        if isinstance(result, VenueError):
            scrub(result, self._secrets)
            asked.answered(result)
        elif asked.fits(result):
            asked.answered(result)
        else:
            wrong = ProtocolError("the answer on the stream is not for what was asked")
            asked.answered(wrong)
