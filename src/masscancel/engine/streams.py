"""Streams: authenticated websockets that stay up, tell of orders, and carry cancels.

One websocket per URL that the categories in use need. It is opened by whoever first watches a
category or cancels on it, and from then on kept: login, subscriptions, both sides' pings, a new
connection when it drops. Messages are handled in the connection's own callback. What reaches a
consumer is bounded: one that does not keep up is told of a gap, and never holds up the others.
"""

import asyncio
import logging
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable
from copy import copy
from typing import Any, Final
from weakref import WeakSet

from masscancel.calls import (
    Answered,
    Ended,
    Greeting,
    LoggedIn,
    Pinged,
    Stamp,
    StreamDialect,
    StreamEvent,
    StreamMessage,
    Subscribed,
    Updated,
)
from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
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
from masscancel.redaction import redact, redact_text
from masscancel.transport.pool import SessionPool
from masscancel.transport.websocket import WebSocket
from masscancel.venues.base import Venue

__all__ = ["PendingMessage", "Streams", "Watch"]

log = logging.getLogger("masscancel")

#: What may be a signature, in a login.
_SIGNATURES: Final = re.compile(r"[A-Za-z0-9+/=_-]{32,}")

OnAnswer = Callable[[Ack | MassCancelError], object]


class Watch:
    """One consumer's view of a category: an async iterator of updates and gaps."""

    def __init__(self, account_category: str, backlog: int = 10_000) -> None:
        self.account_category = account_category
        self._backlog = backlog
        self._items: deque[OrderUpdate | Gap] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        #: Why nothing more will come, where that is an error.
        self.error: MassCancelError | None = None
        #: Called when something arrives.
        self.on_news: Callable[[], object] = self._arrived.set

    def push(self, update: OrderUpdate) -> None:
        """Keep an update for the consumer; too many of them become a gap."""
        if len(self._items) >= self._backlog:
            self.gap("the consumer did not keep up")
            return
        self._items.append(update)
        self.on_news()

    def gap(self, reason: str) -> None:
        """Tell the consumer that updates may be missing, from here back to the last one."""
        self._items.clear()
        self._items.append(Gap(account_category=self.account_category, reason=reason))
        self.on_news()

    def end(self, error: MassCancelError | None = None) -> None:
        """Tell the consumer that nothing more will come."""
        self._ended = True
        self.error = error
        self.on_news()

    def drain(self) -> list[OrderUpdate | Gap]:
        """Take what has arrived."""
        items = [*self._items]
        self._items.clear()
        return items

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> OrderUpdate | Gap:
        while not self._items:
            if self.error is not None:
                raise self.error
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
            ConfigurationError: the venue has no stream for it.
        """
        return self._socket(account_category).watch(account_category)

    async def log_in(self, account_category: str, deadline: float) -> None:
        """Open a category's stream, and wait until it is subscribed to.

        Raises:
            VenueError: the login or the subscription was refused.
            DeadlineExceeded: it is not up by then, in the loop's time; it says what went wrong.
        """
        await self._socket(account_category).log_in(account_category, deadline)

    def trusted(self, account_category: str) -> Watch | None:
        """The same, if a stream is up and subscribed to the category already; opens nothing."""
        for socket in self._sockets.values():
            if account_category in socket.trusted:
                return socket.watch(account_category)
        return None

    def send(
        self,
        message: StreamMessage,
        on_stamped: Callable[[Stamp, int], object],
        on_answer: OnAnswer,
    ) -> "PendingMessage":
        """Write a cancel-all: at once if the stream is up, otherwise as soon as it is.

        Args:
            message: what.
            on_stamped: is called with the stamp and its expiry when it is about to be written.
            on_answer: is called once, with the Ack or with what went wrong; not after
                :meth:`PendingMessage.abandon`.

        Raises:
            ConfigurationError: the venue has no stream for the category.
            NotSent: the client has been left.
        """
        pending = PendingMessage(message, on_stamped, on_answer)
        self._socket(message.scope.account_category).send(pending)
        return pending

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


class PendingMessage:
    """A cancel on a stream that has not been answered."""

    __slots__ = ("_on_answer", "_on_stamped", "message", "socket", "stamp")

    def __init__(
        self,
        message: StreamMessage,
        on_stamped: Callable[[Stamp, int], object],
        on_answer: OnAnswer,
    ) -> None:
        self.message = message
        self.stamp: Stamp | None = None
        self.socket: _Socket | None = None
        self._on_stamped = on_stamped
        self._on_answer: OnAnswer | None = on_answer

    def encode(self, stamp: Stamp) -> str:
        """The message, stamped, as it is about to be written."""
        self.stamp = stamp
        self._on_stamped(stamp, stamp.time_ms + self.message.lifetime_ms)
        return self.message.encode(stamp)

    def answer(self, result: Ack | MassCancelError) -> None:
        """Hand the answer over, or what came in its place."""
        on_answer, self._on_answer = self._on_answer, None
        if on_answer is not None:
            on_answer(result)

    def abandon(self) -> None:
        """Let nobody wait for the answer any more."""
        self._on_answer = None
        if self.socket is not None:
            self.socket.forget(self)

    def fits(self, ack: Ack) -> bool:
        """Whether an Ack is for the same scope, and not from before the request.

        With the request's own id, a clock may be off by as much as the venue lets it.
        """
        message, stamp = self.message, self.stamp
        if stamp is None:
            return False
        skew_ms = stamp.skew_ms
        if ack.request_id == message.request_id:
            skew_ms = max(skew_ms, message.lifetime_ms)
        return (
            ack.account_category == message.scope.account_category
            and ack.symbol == (message.scope.symbol or "")
            and (ack.timestamp_ms is None or ack.timestamp_ms >= stamp.time_ms - skew_ms)
        )


def wait_after(wait: float, lived: float, reconnect: tuple[float, float]) -> float:
    """The wait before a new connection, at most: it doubles, unless the last one lived for long.

    One that is accepted, logged in and ended at once is no success.

    Args:
        wait: the one before, 0 at first. Seconds.
        lived: for how long the last connection was of use, in seconds.
        reconnect: the shortest and the longest wait, in seconds.
    """
    shortest, longest = reconnect
    return shortest if lived > longest else min(max(2 * wait, shortest), longest)


class _Socket:
    """One websocket, and the task that keeps it."""

    def __init__(
        self, dialect: StreamDialect, credentials: Credentials, venue: Venue, pool: SessionPool
    ) -> None:
        self._loop = pool.loop
        self._settings = pool.streams
        self._dialect = dialect
        self._credentials = credentials
        self._venue = venue
        self._pool = pool
        self._websocket: WebSocket | None = None
        self._watches: defaultdict[str, WeakSet[Watch]] = defaultdict(WeakSet)
        self._queued: list[PendingMessage] = []  # until the stream is up
        self._sent: list[PendingMessage] = []
        self._early: list[bytes] = []  # what came before the opening had returned
        self._heard = 0
        self._up_since: float | None = None
        self._asked_to_log_in = False
        #: What no word of the venue's may show.
        self._secrets = {*credentials.secrets}
        self._logged_in: asyncio.Future[None] = self._loop.create_future()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._refused: MassCancelError | None = None
        self._is_up = False
        #: The categories whose updates are complete from their subscription's answer on.
        self.trusted: set[str] = set()
        self._news = asyncio.Event()  # for who waits for a login
        self._problem = "no answer came"  # of late
        self._keeper = self._loop.create_task(self._keep())

    # What consumers and cancels do with it.

    def watch(self, account_category: str) -> Watch:
        """A new consumer of a category."""
        watch = Watch(account_category, self._settings.backlog)
        new = account_category not in self._watches
        self._watches[account_category].add(watch)
        if self._refused is not None:
            watch.end(copy(self._refused))
        elif new and self._is_up:
            self._write(self._dialect.subscribe(account_category))
        return watch

    async def log_in(self, account_category: str, deadline: float) -> None:
        """Wait until a category is subscribed to; see :meth:`Streams.log_in`."""
        watch = self.watch(account_category)
        watch.on_news = self._news.set
        try:
            async with asyncio.timeout_at(deadline):
                while account_category not in self.trusted:
                    if watch.error is not None:
                        raise watch.error
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"the stream is not up: {self._problem}") from None

    def send(self, pending: PendingMessage) -> None:
        """Write a cancel-all now, or as soon as the stream is up."""
        pending.socket = self
        if self._refused is not None:
            pending.answer(copy(self._refused))
        elif self._is_up:
            self._write_pending(pending)
        else:
            self._queued.append(pending)

    def _write_pending(self, pending: PendingMessage) -> None:
        self._sent.append(pending)
        text = pending.encode(self._stamp())
        if not self._write(text) and pending in self._sent:
            self._sent.remove(pending)
            pending.answer(OutcomeUnknown("the stream broke: a message could not be written"))

    def forget(self, pending: PendingMessage) -> None:
        """Take an answer that comes late for nobody's: not for the next message's either."""
        if pending in self._queued:
            self._queued.remove(pending)
        if pending in self._sent:
            self._sent.remove(pending)
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
                self._problem = str(problem)
                log.debug("%s: %s", self._dialect.url, problem)
                await self._measure()
            except (AuthenticationError, PermissionDenied) as problem:
                self._refused = problem.with_traceback(None)
            except (MassCancelError, _Dropped) as problem:
                self._problem = str(problem)
                log.debug("%s: %s", self._dialect.url, problem)
                await self._drop(str(problem))
            finally:
                await self._drop("the stream was closed")
            up = 0.0 if self._up_since is None else self._loop.time() - self._up_since
            wait = wait_after(wait, up, self._settings.reconnect)
            await asyncio.sleep(self._settings.jitter(wait))
        for watch in self._consumers():
            watch.end(copy(self._refused))
        queued, self._queued = self._queued, []
        for pending in queued:
            pending.answer(copy(self._refused))

    async def _live(self) -> None:
        """Open, log in, subscribe, then ping until the connection ends.

        Raises:
            MassCancelError: it could not be opened, or the login was refused.
            _Dropped: it ended.
        """
        self._heard = 0
        self._up_since = None
        self._asked_to_log_in = False
        self._logged_in = self._loop.create_future()
        self._broken = self._loop.create_future()
        pinger: asyncio.Task[None] | None = None
        try:
            self._websocket = await self._open()
            early, self._early = self._early, []
            for message in early:
                self._received(message)
            ends: set[asyncio.Future[None]] = {self._broken}
            done, _ = await asyncio.wait(
                (*ends, self._logged_in),
                timeout=self._settings.patience,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:
                raise _Dropped("no login in time")
            if self._logged_in.done():
                self._logged_in.result()
                self._come_up()
                pinger = self._loop.create_task(self._ping())
                ends.add(pinger)
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            if pinger is not None:
                pinger.cancel()
                await asyncio.wait((pinger,))
            for future in (self._logged_in, self._broken):
                if not future.cancel():
                    future.exception()

    def _come_up(self) -> None:
        """Subscribe, and write what has been waiting for the stream."""
        for category in [*self._watches]:
            self._write(self._dialect.subscribe(category))
        self._up_since = self._loop.time()
        self._is_up = not self._broken.done()
        while self._queued and self._is_up:
            self._write_pending(self._queued.pop(0))

    async def _open(self) -> WebSocket:
        """Log in with the upgrade; where that is refused, connect without, and send a message."""
        url = self._dialect.url
        headers = self._dialect.login_headers(self._credentials, self._stamp())
        self._secrets = {*self._credentials.secrets, *headers.values()}
        self._early.clear()
        options: dict[str, Any] = {
            "on_message": self._received,
            "on_closed": self._break,
            "max_message": self._settings.max_message,
        }
        try:
            return await self._pool.open_websocket(url, headers, **options)
        except VenueError as refused:
            log.debug("%s: %s", url, refused)
        return await self._pool.open_websocket(url, {}, **options)

    async def _drop(self, reason: str) -> None:
        """Replace the connection: nobody may count on it any more."""
        self._is_up = False
        for category in self.trusted:
            for watch in self._watches[category]:
                watch.gap(reason)
        self.trusted.clear()
        sent, self._sent = self._sent, []
        for pending in sent:
            pending.answer(OutcomeUnknown(f"the stream broke: {reason}"))
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            await websocket.close(self._settings.close)

    def _break(self, reason: str) -> None:
        """Have the connection replaced; nothing more is written on it from this very moment."""
        self._is_up = False
        if not self._broken.done():
            self._broken.set_exception(_Dropped(reason))

    async def _measure(self) -> None:
        probe = self._venue.probe(self._dialect.clock_origin)
        measuring = self._pool.measure(probe, since=time.monotonic())
        await asyncio.wait((measuring,), timeout=self._settings.patience)

    def _stamp(self) -> Stamp:
        return self._pool.stamp(self._dialect.clock_origin)

    # Writing.

    def _write(self, text: str) -> bool:
        """Write a message at once; whether that could be done."""
        try:
            if self._websocket is not None:
                self._websocket.send(text)
                return True
        except NotSent as problem:
            self._break(problem.message)
        return False

    async def _ping(self) -> None:
        """Keep the session alive, and notice when it is not."""
        heard, silent = self._heard, 0
        while silent < self._settings.silent_pings:
            await asyncio.sleep(self._settings.ping)
            silent = silent + 1 if self._heard == heard else 0
            heard = self._heard
            self._write(self._dialect.ping())
        raise _Dropped("nothing was heard for too long")

    # Listening.

    def _received(self, message: bytes) -> None:
        """Take a message, in the connection's own callback."""
        if self._websocket is None:
            self._early.append(message)
            return
        self._heard += 1
        try:
            for event in self._dialect.parse(message):
                self._handle(event)
        except (MassCancelError, _Dropped) as problem:
            self._break(str(problem))

    def _handle(self, event: StreamEvent) -> None:
        match event:
            case Answered():
                self._answered(event)
            case Updated(update):
                for watch in [*self._watches.get(update.account_category, ())]:
                    watch.push(update)
            case Pinged(answer):
                self._write(answer)
            case Greeting(logged_in):
                if logged_in:
                    self._login_ended(None)
                elif not self._asked_to_log_in:
                    self._asked_to_log_in = True
                    text = self._dialect.login(self._credentials, self._stamp())
                    self._secrets.update(_SIGNATURES.findall(text))
                    self._write(text)
            case LoggedIn(error):
                self._login_ended(error)
            case Subscribed(category, None):
                if category in self._watches:
                    self.trusted.add(category)
                    self._news.set()
            case Subscribed(category, VenueError() as error):
                redact(error, self._secrets)
                for watch in self._watches.pop(category, ()):
                    if category in self.trusted:
                        watch.gap("the venue ended the subscription")
                    watch.end(copy(error))
                self.trusted.discard(category)
            case Ended(reason):
                raise _Dropped(one_line(short(redact_text(reason, self._secrets))))

    def _login_ended(self, error: VenueError | None) -> None:
        if error is not None:
            redact(error, self._secrets)
        if self._logged_in.done():
            if error is not None:
                raise _Dropped("the venue ended the login")
            return
        if error is None:
            self._logged_in.set_result(None)
        else:
            self._logged_in.set_exception(error)

    def _answered(self, answered: Answered) -> None:
        """Hand an answer to who waits: by its id, or to the first it fits where it has none."""
        result, request_id = answered.result, answered.request_id
        pending: PendingMessage | None
        if request_id:
            pending = next((p for p in self._sent if p.message.request_id == request_id), None)
        elif isinstance(result, Ack):
            pending = next((p for p in self._sent if p.fits(result)), None)
        else:  # a refusal without an id may be of anything: it is passed on, and proves nothing
            pending = self._sent[0] if len(self._sent) == 1 else None
            result.may_have_executed = True
        if pending is None:
            return
        self._sent.remove(pending)
        if isinstance(result, VenueError):
            redact(result, self._secrets)
            pending.answer(result)
        elif pending.fits(result):
            pending.answer(result)
        else:
            pending.answer(ProtocolError("the answer on the stream is not for what was asked"))
