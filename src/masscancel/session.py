"""The session pool: warm connections, clocks and nonces, and what each failure of aiohttp means.

This is the only place where REST meets the network. What stands behind each setting was measured:

- aiohttp resends an idempotent request once after a disconnect, with the old signature. We own the
  retries, so a middleware turns that disconnect into an error that aiohttp does not act on.
- Bytes that arrive on an idle connection would be taken for the next request's response. An idle
  connection is watched, and closed when it receives anything.
- Nobody queues behind a connection limit: the connector has none. ``connections`` bounds, with a
  semaphore of ours, what is not a directly awaited cancel.
- Verification of certificates can't be switched off.
"""

import asyncio
import logging
import random
import select
import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import abc as aiohttp_abc
from aiohttp import client_exceptions
from yarl import URL

from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
)
from masscancel.retry import RetryBudget
from masscancel.venue import SMALL_REPLY, Probe, Reply, Request, Stamp

__all__ = ["SessionPool"]

log = logging.getLogger("masscancel")

T = TypeVar("T")

#: How far a clock may be off before it has been measured: further than venues accept.
UNMEASURED_SKEW_MS: Final = 30_000
#: Added to half the round trip: venues' machines do not agree to the millisecond either.
CLOCK_MARGIN_MS: Final = 1_000

#: The year 3000: no clock is further ahead.
_LATEST_MS: Final = 32_503_680_000_000

_KEEPALIVE: Final = 60.0
_DNS_TTL: Final = 60
_DNS_PATIENCE: Final = 0.5
_HAPPY_EYEBALLS: Final = 0.03
_DEAD_PEER_MS: Final = 2_000
_CLOSE: Final = 0.5


async def finish(work: Coroutine[Any, Any, T]) -> tuple[T, bool]:
    """Wait for a coroutine to its end, whatever is cancelled meanwhile.

    Returns:
        Its value, and whether the waiting task was asked to cancel in the meantime: whoever calls
        this must see to that.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    return task.result(), cancelled


async def through(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine to its end; a cancellation meanwhile is raised only then."""
    value, cancelled = await finish(work)
    if cancelled:
        raise asyncio.CancelledError
    return value


class Clock:
    """One origin's clock: how far it is ahead of this machine's, as well as it is known."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=8)  # (round trip, offset), in ms
        self._offset_ms = 0.0
        self._skew_ms = UNMEASURED_SKEW_MS
        #: When it was last measured, by ``time.monotonic``.
        self.measured_at = float("-inf")

    def add(self, sent_ms: float, received_ms: float, venue_ms: int) -> None:
        """Take a sample: the local time before and after, the venue's time in between."""
        trip = max(0.0, received_ms - sent_ms)
        self._samples.append((trip, venue_ms - (sent_ms + received_ms) / 2))
        trip, self._offset_ms = min(self._samples)
        self._skew_ms = int(trip / 2) + CLOCK_MARGIN_MS
        self.measured_at = time.monotonic()

    def forget(self) -> None:
        """The venue disagrees: what was measured does not hold any more."""
        self._samples.clear()

    def stamp(self, nonce: int = 0) -> Stamp:
        """The venue's time now."""
        return Stamp(int(time.time() * 1000 + self._offset_ms), self._skew_ms, nonce)


class Nonces:
    """Per key, numbers that only grow: ticks since the epoch, or one more than the last.

    One table serves the whole process, so that pools and event loops may share a key.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._accepted: dict[str, int] = {}
        self._lock = threading.Lock()

    def next(self, api_key: str, per_second: int) -> int:
        """A number greater than all before it for the key."""
        with self._lock:
            nonce = max(self._last.get(api_key, 0) + 1, time.time_ns() * per_second // 10**9)
            self._last[api_key] = nonce
        return nonce

    def accept(self, api_key: str, nonce: int) -> None:
        """The venue has accepted this one, and none before it any more."""
        with self._lock:
            self._accepted[api_key] = max(self._accepted.get(api_key, 0), nonce)

    def superseded(self, api_key: str, nonce: int) -> bool:
        """Whether the venue has accepted a later one."""
        return self._accepted.get(api_key, 0) > nonce


NONCES: Final = Nonces()


class Sending:
    """One request on its way: where it has got to, and what kind of connection it wants."""

    __slots__ = ("connecting", "fresh", "reused", "transport")

    def __init__(self, *, fresh: bool = False) -> None:
        self.fresh = fresh
        self.connecting = False
        self.reused = False
        self.transport: asyncio.Transport | None = None

    def abort(self) -> None:
        """End the connection at once: TLS would wait for the peer's goodbye."""
        if self.transport is not None:
            self.transport.abort()


_sending: ContextVar[Sending | None] = ContextVar("masscancel_sending", default=None)


class _Idle(asyncio.Protocol):
    """Stands in for a connection's protocol while it is idle: whatever arrives, closes it."""

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        self.transport = transport
        self.protocol = protocol

    def data_received(self, data: bytes) -> None:
        log.debug("%d bytes on an idle connection: closing it", len(data))
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()


class _Connector(aiohttp.TCPConnector):
    """aiohttp's connector, which watches idle connections and says when it has one to give."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Any:
        sending = _sending.get() or Sending()
        sending.connecting = True
        while True:
            connection: Any = await super().connect(req, traces, timeout)
            transport = connection.transport
            idle = transport.get_protocol()
            if isinstance(idle, _Idle):
                transport.set_protocol(idle.protocol)
                if _has_news(transport):
                    connection.close()
                    continue
                sending.reused = True
            connection.add_callback(_watcher(connection))
            sending.transport = transport
            sending.connecting = False
            return connection


def _watcher(connection: Any) -> Callable[[], None]:
    """Once the connection goes back to the pool, watch it."""

    def watch() -> None:
        protocol, transport = connection.protocol, connection.transport
        if transport is not None and not (transport.is_closing() or protocol.should_close):
            transport.set_protocol(_Idle(transport, protocol))

    return watch


def _has_news(transport: asyncio.Transport) -> bool:
    """Whether the kernel holds something for a connection that nobody has asked anything on."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _LastKnownAddresses(aiohttp_abc.AbstractResolver):
    """Resolves names; when the name service is down or slow, with what it said last."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()
        self._last: dict[tuple[str, int, int], list[aiohttp_abc.ResolveResult]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp_abc.ResolveResult]:
        key = host, port, family
        last = self._last.get(key)
        try:
            async with asyncio.timeout(_DNS_PATIENCE if last else None):
                self._last[key] = await self._resolver.resolve(host, port, family)
        except (OSError, TimeoutError, RuntimeError):  # no new thread while the process ends
            if last is None:
                raise
            log.debug("the name service does not answer for %s: using the last addresses", host)
        return self._last[key]

    async def close(self) -> None:
        await self._resolver.close()


class Turn:
    """Leave to write the next nonce of a key: until it is left, or the patience is over."""

    def __init__(self, lock: asyncio.Lock, patience: float) -> None:
        self._lock: asyncio.Lock | None = lock
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None

    def written(self) -> None:
        """The nonce is on its way: the next one waits for its answer, but not for ever."""
        self._timer = asyncio.get_running_loop().call_later(self._patience, self.leave)

    def leave(self, _: object = None) -> None:
        """Let the next one write. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class Turns:
    """Lets the nonces of one key arrive in order: one at a time, cancels first.

    The next attempt leaves when the one before it is answered, or has not been for ``patience``
    seconds. A cancel waits for other cancels only: its nonce is greater than those of the listings
    that left before it, so at worst one of them is refused and asks again.
    """

    def __init__(self, patience: float = 0.5) -> None:
        self._patience = patience
        self._cancels = asyncio.Lock()
        self._others = asyncio.Lock()

    async def take(self, *, urgent: bool) -> Turn:
        """Wait for the turn; what is stamped before it is left goes out in order."""
        lock = self._cancels if urgent else self._others
        await lock.acquire()
        turn = Turn(lock, self._patience)
        if not urgent:
            try:
                async with self._cancels:
                    pass
            except BaseException:
                turn.leave()
                raise
        return turn


#: By event loop and key: all pools of a loop share a key's turns, as they share its nonces.
_TURNS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, defaultdict[str, Turns]]] = (
    WeakKeyDictionary()
)


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
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self.is_open:
            raise ConfigurationError("the session pool is open already")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._keepers: set[str] = set()
        self._measuring: dict[str, asyncio.Task[None]] = {}
        self._clocks: defaultdict[str, Clock] = defaultdict(Clock)
        self._budgets: defaultdict[str, RetryBudget] = defaultdict(RetryBudget)
        #: What bounds the requests in flight.
        self.lane = asyncio.Semaphore(self._connections)
        resolver = _LastKnownAddresses()
        self._session = self._open_session(resolver, keepalive_timeout=_KEEPALIVE)
        # For attempts that want a connection of their own, since others have just failed.
        self._fresh = self._open_session(resolver, force_close=True)
        return self

    def _open_session(
        self, resolver: aiohttp_abc.AbstractResolver, **options: Any
    ) -> aiohttp.ClientSession:
        connector = _Connector(
            limit=0,
            ttl_dns_cache=_DNS_TTL,
            resolver=resolver,
            happy_eyeballs_delay=_HAPPY_EYEBALLS,
            socket_factory=_socket,
            ssl=self._ssl_context or True,
            **options,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "masscancel"},
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout),
            auto_decompress=False,
            middlewares=(_send_once,),
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
        return self._session is not None and not self._session.closed

    async def close(self) -> None:
        """End what runs in the background, then close the connections. Idempotent.

        A cancellation does not stop it half way; it is raised afterwards.
        """
        if self._session is not None:
            await through(self._close(self._session, self._fresh))

    async def _close(self, *sessions: aiohttp.ClientSession) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for session in sessions:
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
        turns = _TURNS.setdefault(asyncio.get_running_loop(), defaultdict(Turns))
        return await turns[api_key].take(urgent=urgent)

    def budget(self, origin: str) -> RetryBudget:
        """What all retries to the origin draw from."""
        return self._budgets[origin]

    def leave_to_answer(self, tasks: Iterable[asyncio.Task[Any]], deadline: float) -> None:
        """Keep attempts that lost a race alive until they are answered or the deadline comes."""
        loop = asyncio.get_running_loop()
        for task in tasks:
            timer = loop.call_at(deadline, task.cancel)
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
        if not self.keeps_warm(probe.origin):
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
        except (MassCancelError, TimeoutError) as error:
            log.debug("%s does not tell the time: %s", probe.origin, error)
            return False
        self._clocks[probe.origin].add(before, time.time() * 1000, venue_ms)
        return sending.reused

    async def measure(self, probe: Probe, *, since: float, deadline: float) -> None:
        """Measure the origin's clock, unless that was done after ``since`` (``time.monotonic``).

        Any number of callers share one measurement. Gives up at the deadline, in the loop's time.
        """
        clock = self._clocks[probe.origin]
        if clock.measured_at > since:
            return
        task = self._measuring.get(probe.origin)
        if task is None:
            clock.forget()
            task = asyncio.create_task(self._measure(probe))
            self._measuring[probe.origin] = task
            task.add_done_callback(lambda _: self._measuring.pop(probe.origin, None))
            self._keep(task)
        await asyncio.wait((task,), timeout=max(0.0, deadline - asyncio.get_running_loop().time()))

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
        error: MassCancelError
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._fresh.ws_connect(  # not one that is kept warm for cancels
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
            error = NotSent(f"{url.partition('?')[0]} could not be reached: {_why(problem)}")
        raise error

    async def send(
        self,
        origin: str,
        request: Request,
        *,
        max_reply: int = SMALL_REPLY,
        sending: Sending | None = None,
    ) -> Reply:
        """Write a request exactly once and read its reply whole.

        Args:
            origin: where to.
            request: what.
            max_reply: the most bytes to read.
            sending: is told how far the request gets.

        Raises:
            NotSent: nothing reached the venue.
            OutcomeUnknown: the connection failed after it may have.
            ProtocolError: the reply is no HTTP, or too large.
        """
        session = self._session
        if session is None or session.closed:
            raise NotSent("the session pool is not open")
        sending = sending or Sending()
        if sending.fresh:
            session = self._fresh
        token = _sending.set(sending)
        response: aiohttp.ClientResponse | None = None
        complete = False
        error: MassCancelError
        try:
            response = await session.request(
                request.method,
                _url(origin, request.target),
                headers=request.headers,
                data=request.body or None,
                allow_redirects=False,
            )
            if (response.content_length or 0) <= max_reply:
                body = await _read(response.content, max_reply)
                if body is not None:
                    complete = True
                    return Reply(response.status, response.headers, body)
            error = ProtocolError(f"the reply of {origin} is larger than {max_reply} bytes")
        except Exception as problem:  # noqa: BLE001  # every failure becomes one of ours
            error = translate(problem, origin, connecting=sending.connecting)
        finally:
            _sending.reset(token)
            if not complete:
                if response is not None:
                    response.close()
                sending.abort()
        raise error


def _cancel_timer(timer: asyncio.TimerHandle, _: asyncio.Task[Any]) -> None:
    timer.cancel()


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send no request again that aiohttp would: after a disconnect, or a websocket's redirect."""
    try:
        response = await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as problem:
        lost = aiohttp.ClientConnectionError(_why(problem))
    else:
        if 300 <= response.status < 400 and "Upgrade" in request.headers:  # noqa: PLR2004
            # A websocket would follow, and take the login headers elsewhere.
            response.close()
            lost = aiohttp.ClientConnectionError(f"redirected, HTTP {response.status}")
        else:
            return response
    raise lost


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes | None:
    """The whole body; ``None`` if it is larger than the limit."""
    body = await content.read(limit + 1)
    if content.at_eof():
        return body if len(body) <= limit else None
    buffer = bytearray(body)
    while len(buffer) <= limit:
        buffer += await content.read(limit + 1)
        if content.at_eof():
            return bytes(buffer) if len(buffer) <= limit else None
    return None


@lru_cache(maxsize=1024)
def _origin_url(url: str) -> URL:
    return URL(url, encoded=True)


def _url(origin: str, target: str) -> URL:
    """The URL, byte for byte. Those without a query recur, so they are kept."""
    if "?" in target:
        return URL(origin + target, encoded=True)
    return _origin_url(origin + target)


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices a dead peer within seconds, where the platform can."""
    family, kind, proto = address[:3]
    sock = socket.socket(family, kind, proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_USER_TIMEOUT", _DEAD_PEER_MS),
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock


#: What each of aiohttp's client exceptions means, by the nearest class.
MEANING: Final[Mapping[type[BaseException], type[MassCancelError]]] = {
    # no connection was made
    aiohttp.ClientConnectorError: NotSent,
    aiohttp.ClientConnectorDNSError: NotSent,
    aiohttp.ClientConnectorSSLError: NotSent,
    aiohttp.ClientConnectorCertificateError: NotSent,
    aiohttp.ClientSSLError: NotSent,
    aiohttp.ClientProxyConnectionError: NotSent,
    client_exceptions.UnixClientConnectorError: NotSent,
    aiohttp.ConnectionTimeoutError: NotSent,
    aiohttp.ServerFingerprintMismatch: NotSent,
    aiohttp.InvalidURL: NotSent,
    aiohttp.InvalidUrlClientError: NotSent,
    aiohttp.NonHttpUrlClientError: NotSent,
    # a connection broke under the request
    aiohttp.ClientError: OutcomeUnknown,
    aiohttp.ClientConnectionError: OutcomeUnknown,
    aiohttp.ClientConnectionResetError: OutcomeUnknown,
    aiohttp.ClientOSError: OutcomeUnknown,
    aiohttp.ServerConnectionError: OutcomeUnknown,
    aiohttp.ServerDisconnectedError: OutcomeUnknown,
    aiohttp.ServerTimeoutError: OutcomeUnknown,
    aiohttp.SocketTimeoutError: OutcomeUnknown,
    aiohttp.ClientPayloadError: OutcomeUnknown,
    client_exceptions.UploadAbortedError: OutcomeUnknown,
    # what came back is not what HTTP allows, or not what was asked for
    aiohttp.ClientResponseError: ProtocolError,
    aiohttp.ContentTypeError: ProtocolError,
    aiohttp.WSServerHandshakeError: ProtocolError,
    aiohttp.ClientHttpProxyError: ProtocolError,
    aiohttp.TooManyRedirects: ProtocolError,
    aiohttp.RedirectClientError: ProtocolError,
    aiohttp.InvalidUrlRedirectClientError: ProtocolError,
    aiohttp.NonHttpUrlRedirectClientError: ProtocolError,
    aiohttp.WSMessageTypeError: ProtocolError,
    # aiohttp does not wrap everything
    OSError: OutcomeUnknown,
    Exception: OutcomeUnknown,
}


def translate(problem: Exception, origin: str, *, connecting: bool = False) -> MassCancelError:
    """Our error for one of aiohttp's or the system's. Its text holds nothing of the request.

    Args:
        problem: what was raised.
        origin: where the request was going.
        connecting: whether no connection had been had yet, so that nothing can have been written.
    """
    meaning = next(MEANING[kind] for kind in type(problem).__mro__ if kind in MEANING)
    if connecting:
        meaning = NotSent
    what = "could not be reached" if meaning is NotSent else "gave no usable answer"
    return meaning(f"{origin} {what}: {_why(problem)}")


def _why(problem: BaseException) -> str:
    """The reason, in the system's words where there are any, never in those of a peer."""
    cause = getattr(problem, "os_error", problem)
    certificate = getattr(problem, "certificate_error", None)
    if isinstance(certificate, ssl.SSLCertVerificationError):
        return f"certificate not accepted, {certificate.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed, {cause.reason}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if type(problem) is aiohttp.ClientConnectionError and problem.args:
        return str(problem.args[0])
    return _WORDS.get(type(problem), type(problem).__name__)


_WORDS: Final[Mapping[type[BaseException], str]] = {
    aiohttp.ConnectionTimeoutError: "no connection in time",
    aiohttp.ServerDisconnectedError: "the connection was closed",
    aiohttp.ClientPayloadError: "the reply was cut short",
    aiohttp.ClientResponseError: "the reply is not valid HTTP",
}
