"""aiohttp's connections, requests and responses, as the pool wants them."""

import asyncio
import inspect
import logging
import select
import socket
from collections.abc import Awaitable
from contextvars import ContextVar
from http.cookies import SimpleCookie
from typing import Any, Final, Literal, TypeAlias

import aiohttp
from aiohttp import abc as aiohttp_abc
from aiohttp import hdrs
from aiohttp.http import StreamWriter
from yarl import URL

from masscancel.session.failures import why

__all__ = [
    "SENDING",
    "Connector",
    "LastKnownAddresses",
    "NoCookies",
    "NoneOpen",
    "Response",
    "Sending",
    "UnitedRequest",
    "Wants",
]

log = logging.getLogger("masscancel")

DNS_TTL: Final = 60
_DNS_PATIENCE: Final = 0.5
_HAPPY_EYEBALLS: Final = 0.03
_DEAD_PEER_MS: Final = 2_500
_HEADERS: Final = {hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: "masscancel"}


#: What kind of connection is wanted.
Wants: TypeAlias = Literal["warm", "other", "fresh"]


class Sending:
    """One request on its way: where it has got to, and what kind of connection it wants.

    Attributes:
        wants: ``"warm"``, one of those that are kept warm for what is urgent; ``"other"``, so as
            not to take one of these; or ``"fresh"``, one of its own, since others have just failed.
        at_once: it wants one that is open, or none: see :class:`NoneOpen`.
        connecting: there is no connection yet, so that nothing can have been written.
        reused: its connection had been open.
        transport: its connection, once there is one.
    """

    __slots__ = ("at_once", "connecting", "reused", "transport", "wants")

    def __init__(self, wants: Wants = "warm") -> None:
        self.wants = wants
        self.at_once = False
        self.connecting = False
        self.reused = False
        self.transport: asyncio.Transport | None = None

    def abort(self) -> None:
        """End the connection at once: TLS would wait for the peer's goodbye."""
        if self.transport is not None:
            self.transport.abort()


#: What is being sent by this task.
SENDING: Final[ContextVar[Sending | None]] = ContextVar("masscancel_sending", default=None)


class NoneOpen(Exception):  # no failure: who asks for it handles it
    """No connection is open, and the request was not to wait for a new one."""


class _Idle(asyncio.Protocol):
    """Stands in for a connection's protocol while it is idle: whatever arrives, closes it.

    One for each connection, for as long as that lives.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.protocol: Any = transport.get_protocol()
        self._poll = None
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def watch(self) -> None:
        """The connection goes back to the pool: watch it, unless it is not to be used again."""
        if not (self.transport.is_closing() or self.protocol.should_close):
            self.transport.set_protocol(self)

    def wake(self) -> bool:
        """The connection is wanted; whether it may be used, since nothing has arrived on it.

        The kernel may hold something for it that the event loop has yet to tell of.
        """
        self.transport.set_protocol(self.protocol)
        return not self.transport.is_closing() and not (self._poll and self._poll.poll(0))

    def data_received(self, data: bytes) -> None:
        log.debug("%d bytes on an idle connection: closing it", len(data))
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()


class Connector(aiohttp.TCPConnector):
    """aiohttp's connector without its limit, which watches idle connections.

    Raises:
        NoneOpen: from :meth:`connect`, for a request that wants no new connection.
    """

    def __init__(self, resolver: aiohttp_abc.AbstractResolver, **options: Any) -> None:
        super().__init__(
            limit=0,
            ttl_dns_cache=DNS_TTL,
            resolver=resolver,
            happy_eyeballs_delay=_HAPPY_EYEBALLS,
            socket_factory=_socket,
            **options,
        )

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Any:
        """A connection for the request, open and silent."""
        sending = SENDING.get() or Sending()
        sending.connecting = True
        while True:
            connection: Any = await super().connect(req, traces, timeout)
            transport = connection.transport
            idle = transport.get_protocol()
            if not isinstance(idle, _Idle):
                idle = _Idle(transport)
                await self._listen(connection)
            elif idle.wake():
                sending.reused = True
            else:
                connection.close()
                continue
            connection.add_callback(idle.watch)
            sending.transport = transport
            sending.connecting = False
            return connection

    async def _listen(self, connection: Any) -> None:
        """Refuse a new connection on which the peer speaks before it was asked anything.

        What has arrived is not an answer, but aiohttp would take it for one. It is read within two
        turns of the event loop; the kernel alone can't tell it from what TLS says for itself.
        """
        protocol = connection.protocol
        silent = False
        try:
            for _ in range(2):
                await asyncio.sleep(0)
            silent = not protocol.should_close
        finally:
            if not silent:
                connection.close()
        if not silent:
            raise aiohttp.ClientConnectionError("it spoke before it was asked, or hung up")

    async def _create_connection(self, *args: Any) -> Any:
        sending = SENDING.get()
        if sending is not None and sending.at_once:
            raise NoneOpen
        return await super()._create_connection(*args)


class NoCookies(aiohttp.DummyCookieJar):
    """Has no cookies, and makes no new empty jar of them for every request."""

    def __init__(self) -> None:
        super().__init__()
        self._none: SimpleCookie = SimpleCookie()

    def filter_cookies(self, request_url: URL) -> SimpleCookie:
        """None of them."""
        del request_url
        return self._none


class UnitedRequest(aiohttp.ClientRequest):
    """aiohttp's request, which writes its body together with its head, before anything else runs.

    aiohttp starts a task for the body, so that on Python 3.11 the request leaves a turn of the
    event loop later. What this does not know is left to aiohttp.
    """

    DEFAULT_HEADERS = _HEADERS

    _bytes: bytes | None = None

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """Take the body, as it is."""
        if type(body) is bytes and _RESPONSE_IS_KNOWN:
            self._bytes = body
            self.headers["Content-Length"] = str(len(body))
        else:
            super().update_body_from_data(body, _stacklevel)

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        """Write all of it."""
        if self._bytes is None:
            return await super().send(conn)
        writer = StreamWriter(conn.protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write_eof(self._bytes)
        self.response: Any = self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )
        return self.response


#: Whether aiohttp's response is made as it was in 3.14; a test says when it no longer is.
_RESPONSE_IS_KNOWN: Final = {
    *("writer", "continue100", "timer", "request_info", "traces", "loop", "session"),
    "stream_writer",
} == set(inspect.getfullargspec(aiohttp.ClientResponse.__init__).kwonlyargs)


class Response(aiohttp.ClientResponse):
    """aiohttp's response, which lets aiohttp return as soon as the request is written.

    Who wants the answer awaits it here. So aiohttp learns of no disconnect, and sends nothing
    again. A websocket's upgrade is answered within aiohttp; it is not redirected, since that would
    take the login headers elsewhere.
    """

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Take the connection on which the answer will come."""
        if "Upgrade" not in self.request_info.headers:
            self._closed = False
            self._connection = connection
            return self
        try:
            await super().start(connection)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as problem:
            lost = aiohttp.ClientConnectionError(why(problem))
        else:
            if not 300 <= self.status < 400:  # noqa: PLR2004  # RFC 9110 section 15.4
                return self
            lost = aiohttp.ClientConnectionError(f"redirected, HTTP {self.status}")
        raise lost

    @property
    def answered(self) -> bool:
        """Whether the status and the headers are there."""
        return self.status is not None

    def answer(self) -> Awaitable[object]:
        """Wait for the status and the headers; again, if that was cancelled."""
        return super().start(self._connection)  # type: ignore[arg-type]  # since `start`


class LastKnownAddresses(aiohttp_abc.AbstractResolver):
    """Resolves names; when the name service is down or slow, with what it said last."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()
        self._last: dict[tuple[str, int, int], list[aiohttp_abc.ResolveResult]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp_abc.ResolveResult]:
        """The addresses of a host."""
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
        """End it."""
        await self._resolver.close()


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices a dead peer within seconds, where the platform can.

    Linux counts no keep-alive probes once there is a TCP_USER_TIMEOUT: an idle connection ends when
    a probe is unanswered and nothing has come for so long. Two are sent in that time, so that one
    may be lost in a glitch, and not every warm connection with it.
    """
    family, kind, proto = address[:3]
    sock = socket.socket(family, kind, proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_USER_TIMEOUT", _DEAD_PEER_MS),
        ("TCP_KEEPIDLE", 1),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock
