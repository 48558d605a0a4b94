"""The pool itself: a session of aiohttp's for each kind of connection, and what runs beside."""

import asyncio
import logging
import random
import ssl
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from masscancel.alarms import Alarms
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    MassCancelError,
    NotSent,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
)
from masscancel.lanes import Lane
from masscancel.retry import RetryBudget
from masscancel.session.clock import NONCES, TURNS, Clock, Turn, Turns
from masscancel.session.connections import (
    SENDING,
    Connector,
    LastKnownAddresses,
    NoCookies,
    NoneOpen,
    Response,
    Sending,
    UnitedRequest,
    Wants,
)
from masscancel.session.failures import translate, why
from masscancel.shield import through
from masscancel.venue import SMALL_REPLY, Probe, Reply, Request, Stamp

__all__ = ["SessionPool", "Written"]

log = logging.getLogger("masscancel")

#: The year 3000: no clock is further ahead.
_LATEST_MS: Final = 32_503_680_000_000

_KEEPALIVE: Final = 60.0
_CLOSE: Final = 0.5


class Written:
    """A request that has been written, whose reply can be awaited.

    Args:
        origin: where it went.
        response: what aiohttp calls the other side of it.
        sending: whose connection it is on.
        max_reply: the most bytes to read.
    """

    __slots__ = ("_max_reply", "_origin", "_parts", "_response", "_sending", "_size")

    def __init__(
        self, origin: str, response: aiohttp.ClientResponse, sending: Sending, max_reply: int
    ) -> None:
        self._origin = origin
        self._response = response
        self._sending = sending
        self._max_reply = max_reply
        self._parts: list[bytes] = []
        self._size = 0

    async def reply(self) -> Reply:
        """Read the reply whole. If this is cancelled, it may be awaited again, or aborted.

        Raises:
            OutcomeUnknown: the connection failed.
            ProtocolError: the reply is no HTTP, or too large.
        """
        response = self._response
        error: MassCancelError
        try:
            if isinstance(response, Response) and not response.answered:
                await response.answer()
            if (response.content_length or 0) <= self._max_reply:
                body = await self._body(response.content)
                if body is not None:
                    return Reply(response.status, response.headers, body)
            error = ProtocolError(
                f"the reply of {self._origin} is larger than {self._max_reply} bytes"
            )
        except Exception as problem:  # noqa: BLE001  # every failure becomes one of ours
            error = translate(problem, self._origin)
        self.abort()
        raise error

    async def _body(self, content: aiohttp.StreamReader) -> bytes | None:
        """The whole body; ``None`` if it is larger than the limit."""
        limit = self._max_reply
        while self._size <= limit:
            part = await content.read(limit + 1)
            self._parts.append(part)
            self._size += len(part)
            if content.at_eof():
                return b"".join(self._parts) if self._size <= limit else None
        return None

    def abort(self) -> None:
        """Give it up, and its connection with it, unless that has gone back to the pool."""
        if self._response.connection is not None:  # otherwise, it may be another's by now
            self._sending.abort()
        self._response.close()


class SessionPool:
    """Warm connections, shared by any number of clients of one event loop.

    An async context manager. It is one pool of its own, apart from any other traffic of the
    program.

    Args:
        connections: how many requests may be in flight, a directly awaited ``cancel_all`` apart,
            which never queues.
        warm: how many connections to each origin are kept open while idle.
        warm_interval: how often they are used to stay so, in seconds.
        connect_timeout: how long one attempt may take to connect, TLS included, in seconds.
        ssl_context: a context of your own, such as for a private certificate authority. It must
            verify certificates and host names.

    Raises:
        ConfigurationError: an argument is out of range, or the context does not verify.
    """

    def __init__(
        self,
        *,
        connections: int = 64,
        warm: int = 3,
        warm_interval: float = 7.0,
        connect_timeout: float = 3.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if not isinstance(connections, int) or connections < 1:
            raise ConfigurationError("connections must be a positive integer")
        if not isinstance(warm, int) or warm < 0:
            raise ConfigurationError("warm must be a whole number, 0 or more")
        if not (warm_interval > 0 and connect_timeout > 0):
            raise ConfigurationError("warm_interval and connect_timeout must be positive seconds")
        if ssl_context is not None and not (
            isinstance(ssl_context, ssl.SSLContext)
            and ssl_context.verify_mode == ssl.CERT_REQUIRED
            and ssl_context.check_hostname
        ):
            raise ConfigurationError("ssl_context must verify certificates and host names")
        self._warm = warm
        self._warm_interval = warm_interval
        self._connect_timeout = connect_timeout
        self._ssl_context = ssl_context
        self._connections = connections
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sessions: dict[Wants, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        if self.is_open:
            raise ConfigurationError("the session pool is open already")
        #: Whose it is. To ask for the running one costs a system call, up to Python 3.11.
        self.loop = asyncio.get_running_loop()
        self._keepers: set[str] = set()
        self._measuring: dict[str, asyncio.Task[None]] = {}
        self._clocks: defaultdict[str, Clock] = defaultdict(Clock)
        self._budgets: defaultdict[str, RetryBudget] = defaultdict(RetryBudget)
        #: The time limits of what is awaited in a caller's own task.
        self.alarms = Alarms(self.loop)
        #: What bounds the requests in flight.
        self.lane = Lane(self._connections)
        resolver = LastKnownAddresses()
        self._sessions = {
            "warm": self._open_session(resolver, keepalive_timeout=_KEEPALIVE),
            "other": self._open_session(resolver, keepalive_timeout=_KEEPALIVE),
            "fresh": self._open_session(resolver, force_close=True),
        }
        return self

    def _open_session(self, resolver: LastKnownAddresses, **options: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=Connector(resolver, ssl=self._ssl_context or True, **options),
            cookie_jar=NoCookies(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
            auto_decompress=False,
            request_class=UnitedRequest,
            response_class=Response,
        )

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def twin(self) -> "SessionPool":
        """A pool with the same settings, not entered yet, for another event loop."""
        return SessionPool(
            connections=self._connections,
            warm=self._warm,
            warm_interval=self._warm_interval,
            connect_timeout=self._connect_timeout,
            ssl_context=self._ssl_context,
        )

    @property
    def is_open(self) -> bool:
        """Whether the pool has been entered and not been closed."""
        return bool(self._sessions)

    async def close(self) -> None:
        """End what runs in the background, then close the connections. Idempotent.

        A cancellation does not stop it half way; it is raised afterwards.
        """
        await through(self._close())

    async def _close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for session in sessions.values():
            if session.connector is not None:
                await session.connector.close(abort_ssl=True)
            await session.close()

    # What a client needs beside sending.

    def stamp(self, origin: str, api_key: str = "", nonces_per_second: int = 0) -> Stamp:
        """The origin's time now, and a nonce for the key if one is asked for."""
        nonce = NONCES.next(api_key, nonces_per_second) if nonces_per_second else 0
        return self._clocks[origin].stamp(nonce)

    async def turn(self, api_key: str, *, urgent: bool) -> Turn:
        """Wait for the key's turn, so that its nonces arrive in order; cancels are urgent."""
        turns = TURNS.setdefault(asyncio.get_running_loop(), defaultdict(Turns))
        return await turns[api_key].take(urgent=urgent)

    def budget(self, origin: str) -> RetryBudget:
        """What all retries to the origin draw from."""
        return self._budgets[origin]

    def leave_to_answer(self, tasks: Iterable[asyncio.Task[Any]], deadline: float) -> None:
        """Keep attempts that lost a race alive until they are answered or the deadline comes."""
        for task in tasks:
            timer = self.loop.call_at(deadline, task.cancel)
            task.add_done_callback(partial(_cancel_timer, timer))
            self._keep(task)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Clocks and warmth.

    def keeps_warm(self, origin: str) -> bool:
        """Whether connections to the origin are kept warm, or none are to be."""
        return origin in self._keepers or not self._warm

    def keep_warm(self, probe: Probe) -> None:
        """Open connections to the origin in the background, keep them warm, read its clock."""
        if self.is_open and not self.keeps_warm(probe.origin):
            self._keepers.add(probe.origin)
            self._keep(asyncio.create_task(self._keep_warm(probe)))

    async def _keep_warm(self, probe: Probe) -> None:
        cold = True
        while True:
            if cold:
                reused = await asyncio.gather(*(self._probe(probe) for _ in range(self._warm)))
            else:  # one at a time, so that a cancel finds the others idle
                reused = [await self._probe(probe) for _ in range(self._warm)]
            cold = not all(reused)
            interval = max(self._warm_interval, probe.interval)
            await asyncio.sleep(interval * random.uniform(0.8, 1.2))  # noqa: S311  # jitter

    async def _probe(self, probe: Probe) -> bool:
        """Read the clock once; whether an open connection served."""
        sending = Sending()
        before = time.time() * 1000
        try:
            async with asyncio.timeout(self._connect_timeout):
                reply = await self.send(probe.origin, probe.request(int(before)), sending=sending)
            venue_ms = probe.decode(reply)
            if not 0 < venue_ms < _LATEST_MS:
                raise ProtocolError("no time that a clock may show")
        except TimeoutError:
            log.debug("%s does not tell the time: no answer", probe.origin)
            return False
        except MassCancelError as error:
            log.debug("%s does not tell the time: %s", probe.origin, error)
            sending.abort()  # what came may be the answer to another request
            return False
        self._clocks[probe.origin].add(before, time.time() * 1000, venue_ms)
        return sending.reused

    async def measure(
        self, probe: Probe, *, since: float, deadline: float, date_ms: int | None = None
    ) -> None:
        """Measure the origin's clock, unless that was done after ``since`` (``time.monotonic``).

        Any number of callers share one measurement. Gives up at the deadline, in the loop's time,
        and goes by ``date_ms`` then, the venue's time now, to the second, if that is known.
        """
        clock = self._clocks[probe.origin]
        if clock.measured_at > since:
            return
        task = self._measuring.get(probe.origin)
        if task is None:
            clock.forget(date_ms)
            task = asyncio.create_task(self._measure(probe))
            self._measuring[probe.origin] = task
            task.add_done_callback(lambda _: self._measuring.pop(probe.origin, None))
            self._keep(task)
        await asyncio.wait((task,), timeout=max(0.0, deadline - self.loop.time()))

    async def _measure(self, probe: Probe) -> None:
        clock = self._clocks[probe.origin]
        before = clock.measured_at
        for _ in range(3):
            await self._probe(probe)
            if clock.measured_at > before:
                return

    # Sending.

    async def open_websocket(
        self, url: str, headers: Mapping[str, str], *, max_message: int
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a websocket on a connection of its own.

        Args:
            url: where to.
            headers: of the upgrade request.
            max_message: the largest message to be read, in bytes.

        Raises:
            VenueError: the upgrade was refused.
            NotSent: there is no connection, or no answer on it: nothing was asked yet.
        """
        if not self.is_open:
            raise NotSent("the session pool is not open")
        session = self._sessions["fresh"]  # its connection is none that is kept warm for cancels
        error: MassCancelError
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await session.ws_connect(
                    URL(url, encoded=True),
                    headers=headers,
                    compress=0,
                    max_msg_size=max_message,
                    autoping=True,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE),
                )
        except aiohttp.WSServerHandshakeError as problem:
            kind = {401: AuthenticationError, 403: PermissionDenied, 429: RateLimited}
            error = kind.get(problem.status, VenueError)(
                message="the websocket was refused", http_status=problem.status
            )
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            error = NotSent(f"{url.partition('?')[0]} could not be reached: {why(problem)}")
        raise error

    async def write(
        self, origin: str, request: Request, sending: Sending, *, max_reply: int = SMALL_REPLY
    ) -> Written:
        """Write a request exactly once.

        Args:
            origin: where to.
            request: what.
            sending: what connection it wants; is told how far the request gets.
            max_reply: the most bytes to read of the reply.

        Returns:
            What the reply is awaited with.

        Raises:
            NotSent: nothing reached the venue.
            OutcomeUnknown: the connection failed while it was written.
            NoneOpen: it was to leave at once, and no connection is open.
        """
        session = self._sessions.get(sending.wants)
        if session is None:
            raise NotSent("the session pool is not open")
        token = SENDING.set(sending)
        error: MassCancelError
        try:
            response = await session.request(
                request.method,
                _url(origin, request.target),
                headers=request.headers,
                data=request.body or None,
                allow_redirects=False,
            )
            return Written(origin, response, sending, max_reply)
        except NoneOpen:
            raise
        except Exception as problem:  # noqa: BLE001  # every failure becomes one of ours
            error = translate(problem, origin, connecting=sending.connecting)
            sending.abort()
        except BaseException:
            sending.abort()
            raise
        finally:
            SENDING.reset(token)
        raise error

    async def send(
        self,
        origin: str,
        request: Request,
        *,
        max_reply: int = SMALL_REPLY,
        sending: Sending | None = None,
    ) -> Reply:
        """Write a request exactly once, and read its reply whole; as those two do, which see."""
        written = await self.write(origin, request, sending or Sending(), max_reply=max_reply)
        try:
            return await written.reply()
        except BaseException:
            written.abort()
            raise


def _cancel_timer(timer: asyncio.TimerHandle, _: asyncio.Task[Any]) -> None:
    timer.cancel()


@lru_cache(maxsize=1024)
def _origin_url(url: str) -> URL:
    return URL(url, encoded=True)


def _url(origin: str, target: str) -> URL:
    """The URL, byte for byte. Those without a query recur, so they are kept."""
    if "?" in target:
        return URL(origin + target, encoded=True)
    return _origin_url(origin + target)
