"""Open connections: name, TCP, proxy, TLS."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from functools import cache
from typing import Final, TypeAlias, cast

import aiohappyeyeballs

from masscancel.calls import Reply
from masscancel.errors import ConfigurationError, MassCancelError, NotSent
from masscancel.transport.connection import Connection
from masscancel.transport.encoding import split_origin
from masscancel.transport.failures import is_exhausted, not_sent
from masscancel.transport.proxy import Proxy, environment_proxy
from masscancel.transport.resolver import Address, Resolver

__all__ = ["Dialer", "default_context"]

_HAPPY_EYEBALLS: Final = 0.03
_ALPN: Final = "http/1.1"
_SETTLE: Final = 16
_TUNNEL: Final = range(200, 300)
_AUTHENTICATION: Final = 407
_REFUSAL: Final = 65_536
_CLEAR_TEXT: Final = "what is not encrypted goes to this machine only: use https"

_Layers: TypeAlias = tuple[asyncio.Transport, ...]


class Dialer:
    """Opens connections to any origin.

    Args:
        resolver: what resolves names; one of its own by default.
        ssl_context: for certificates of your own authority. It must verify certificates and host
            names.
        proxy: ``http://user:password@host:port``, ``https://...``, ``"env"`` to go by
            ``HTTPS_PROXY`` and ``NO_PROXY``, or ``None`` to use none.
        local_addr: the source address, or the address and port.
        family: ``socket.AF_INET`` or ``AF_INET6`` to use only such addresses.
        connect_timeout: how long it may take in all, in seconds.
        dead_peer: after how long without a sign a peer is taken for dead, in seconds.

    Attributes:
        connect_timeout: as given.
        resolver: as given.

    Raises:
        ConfigurationError: a setting can't be used.
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        local_addr: str | tuple[str, int] | None = None,
        family: int = socket.AF_UNSPEC,
        connect_timeout: float = 3.0,
        dead_peer: float = 2.5,
    ) -> None:
        if ssl_context is not None and not (
            isinstance(ssl_context, ssl.SSLContext)
            and ssl_context.verify_mode == ssl.CERT_REQUIRED
            and ssl_context.check_hostname
        ):
            raise ConfigurationError("ssl_context must verify certificates and host names")
        if not (connect_timeout > 0 and dead_peer > 0):
            raise ConfigurationError("connect_timeout and dead_peer must be positive seconds")
        if family not in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6):
            raise ConfigurationError("family must be AF_INET, AF_INET6 or AF_UNSPEC")
        if proxy is not None and proxy != "env":
            Proxy(proxy)  # refused here, if it can't be used
        self.resolver = resolver or Resolver()
        self._ssl_context = ssl_context or default_context()
        self._proxy = proxy
        self._in_environment: dict[str, Proxy | None] = {}
        self._local = None if local_addr is None else _local_address(local_addr)
        self._family = self._local[0] if self._local and not family else family
        self.connect_timeout = connect_timeout
        self._dead_peer_ms = round(dead_peer * 1000)

    def close(self) -> None:
        """Wait for no name any more."""
        self.resolver.close()

    async def dial(self, origin: str, make_connection: Callable[[], Connection]) -> Connection:
        """Open a connection to an origin; nothing has arrived on it.

        Args:
            origin: such as ``https://host:8443``.
            make_connection: makes what the connection is; called at most once.

        Raises:
            NotSent: it could not be opened; ``exhausted`` where this machine can open no more.
            ConfigurationError: the proxy wants other credentials, or the origin can't be used.
        """
        scheme, host, port = split_origin(origin)
        tls_host = host if scheme in ("https", "wss") else None
        proxy = self.proxy_of(origin)
        error: MassCancelError
        try:
            async with asyncio.timeout(self.connect_timeout):
                addresses = await self._addresses(host, port, tls_host, proxy)
                if proxy is not None:
                    layers = await self._tunnel(proxy, addresses, f"{_bare(host)}:{port}")
                    return await self._inside(layers, tls_host, make_connection())
                return await self._connect(addresses, tls_host, make_connection())
        except MassCancelError:
            raise
        except (OSError, RuntimeError) as problem:  # uvloop raises these, too
            if not is_exhausted(problem):
                self.resolver.forget(host if proxy is None else proxy.host)
            error = not_sent(origin, problem)
        if self.ignored_proxy(origin) is not None:
            error.args = (f'{error.message}; HTTPS_PROXY is set, but only proxy="env" uses it',)
            error.message = error.args[0]
        raise error

    async def find(self, origin: str) -> list[Address]:
        """Look up where a connection to an origin goes to: its addresses, or those of its proxy.

        Raises:
            MassCancelError: there are none, or the proxy can't be used.
        """
        scheme, host, port = split_origin(origin)
        tls_host = host if scheme in ("https", "wss") else None
        try:
            async with asyncio.timeout(self.connect_timeout):
                return await self._addresses(host, port, tls_host, self.proxy_of(origin))
        except OSError as problem:
            raise not_sent(origin, problem) from None

    # Which proxy.

    def proxy_of(self, origin: str) -> Proxy | None:
        """The proxy on the way to an origin.

        Raises:
            ConfigurationError: what the environment names is none.
        """
        if self._proxy == "env":
            return self._environment_proxy(origin)
        return None if self._proxy is None else Proxy(self._proxy)

    def ignored_proxy(self, origin: str) -> Proxy | None:
        """The proxy that the environment names for an origin, and that is not used."""
        if self._proxy is not None:
            return None
        try:
            return self._environment_proxy(origin)
        except ConfigurationError:
            self._in_environment[origin] = None
            return None

    def _environment_proxy(self, origin: str) -> Proxy | None:
        """Return the proxy that the environment names: read once, since that takes milliseconds."""
        if origin not in self._in_environment:
            _, host, port = split_origin(origin)
            self._in_environment[origin] = environment_proxy(host, port)
        return self._in_environment[origin]

    # TCP.

    async def _addresses(
        self, host: str, port: int, tls_host: str | None, proxy: Proxy | None
    ) -> list[Address]:
        """Find out where to connect to: the host, or the proxy on the way to it."""
        if proxy is not None:
            if tls_host is None and not _is_loopback(host):
                raise ConfigurationError(_CLEAR_TEXT)
            return await self.resolver.resolve(proxy.host, proxy.port, self._family)
        addresses = await self.resolver.resolve(host, port, self._family)
        if tls_host is None and not all(_is_loopback(found[4][0]) for found in addresses):
            raise ConfigurationError(_CLEAR_TEXT)
        return addresses

    async def _connect(
        self, addresses: list[Address], tls_host: str | None, connection: Connection
    ) -> Connection:
        """Connect by TCP, and by TLS on top of it where there is to be TLS."""
        sock = await aiohappyeyeballs.start_connection(
            addresses,
            local_addr_infos=[self._local] if self._local else None,
            happy_eyeballs_delay=_HAPPY_EYEBALLS,
            socket_factory=self._socket,
        )
        loop = asyncio.get_running_loop()
        protocol = connection if tls_host is None else _Placeholder()
        try:
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        except BaseException:
            connection.abort()
            sock.close()
            raise
        if tls_host is None:
            return await _settle(connection, (transport,))
        return await self._encrypt((transport,), tls_host, connection)

    def _socket(self, address: Address) -> socket.socket:
        """Make a socket that notices a dead peer within seconds, where the platform can.

        Linux counts no keep-alive probes once there is a TCP_USER_TIMEOUT: an idle connection ends
        when a probe is unanswered and nothing has come for so long. Two are sent in that time, so
        that one may be lost in a glitch, and not every warm connection with it.
        """
        family, kind, proto = address[:3]
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                ("TCP_NODELAY", 1),
                ("TCP_USER_TIMEOUT", self._dead_peer_ms),
                ("TCP_KEEPIDLE", 1),
                ("TCP_KEEPINTVL", 1),
                ("TCP_KEEPCNT", 3),
            ):
                if hasattr(socket, option):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        except BaseException:
            sock.close()
            raise
        return sock

    # A proxy.

    async def _tunnel(self, proxy: Proxy, addresses: list[Address], target: str) -> _Layers:
        """Ask a proxy for a tunnel to a target; return its transports, which do not read yet."""
        to_proxy = Connection(proxy.origin)
        await self._connect(addresses, proxy.host if proxy.tls else None, to_proxy)
        ended: asyncio.Future[Reply | MassCancelError] = asyncio.get_running_loop().create_future()
        inside: _Layers = ()
        rest = b""

        def end(result: Reply | MassCancelError) -> None:
            nonlocal inside, rest
            if isinstance(result, Reply) and result.status in _TUNNEL:
                inside, rest = to_proxy.take_over()
                inside[0].pause_reading()  # what comes now is for who is inside
            if not ended.done():
                ended.set_result(result)

        opened = False
        try:
            to_proxy.write(
                proxy.connect_request(target), max_reply=_REFUSAL, on_end=end, switch=_TUNNEL
            )
            result = await ended
            opened = bool(inside) and not rest
        finally:
            if not opened:
                to_proxy.abort()
                for layer in inside:
                    layer.abort()
        if opened:
            return inside
        if isinstance(result, Reply) and result.status == _AUTHENTICATION:
            raise ConfigurationError(f"the proxy {proxy.origin} wants other credentials (HTTP 407)")
        if rest:
            reason = "it spoke before it was asked"
        else:
            reason = f"HTTP {result.status}" if isinstance(result, Reply) else result.message
        raise NotSent(f"{target}: the proxy {proxy.origin} opened no tunnel: {reason}")

    async def _inside(
        self, layers: _Layers, tls_host: str | None, connection: Connection
    ) -> Connection:
        """Use a tunnel, by TLS inside where there is to be TLS."""
        if tls_host is not None:
            return await self._encrypt(layers, tls_host, connection)
        layers[0].set_protocol(connection)
        layers[0].resume_reading()
        return await _settle(connection, layers)

    # TLS.

    async def _encrypt(self, layers: _Layers, host: str, connection: Connection) -> Connection:
        """Put TLS on top of the transports, and the connection on top of that."""
        encrypted: asyncio.Transport | None = None
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                layers[0],
                connection,
                self._ssl_context,
                server_hostname=host,
                ssl_handshake_timeout=self.connect_timeout,
            )
            _check_tls(encrypted, connection.origin)
        except BaseException:
            connection.abort()
            for layer in (encrypted, *layers):
                if layer is not None:
                    layer.abort()
            raise
        return await _settle(connection, (cast("asyncio.Transport", encrypted), *layers))


@cache
def default_context() -> ssl.SSLContext:
    """Make the context for the system's authorities, once: to load them takes tens of ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols([_ALPN])
    return context


class _Placeholder(asyncio.Protocol):
    """The protocol under TLS until that begins: the peer has nothing to say by then."""

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """End the connection."""
        del data
        self._transport.abort()


def _check_tls(transport: asyncio.Transport | None, origin: str) -> None:
    if transport is None:  # asyncio's way to say that it was closed meanwhile
        raise ConnectionResetError
    if transport.get_extra_info("ssl_object").selected_alpn_protocol() not in (None, _ALPN):
        raise NotSent(f"{origin} chose to speak something else than HTTP/1.1")


async def _settle(connection: Connection, layers: _Layers) -> Connection:
    """Begin to use the transports, and see that nothing has arrived.

    What the kernel holds is read first: it may be TLS's own, such as its tickets.
    """
    usable = False
    try:
        connection.start(*layers)
        for _ in range(_SETTLE):
            if connection.is_closing or not connection.has_unread:
                break
            await asyncio.sleep(0)
        usable = connection.usable()
    finally:
        if not usable:
            connection.abort()
            for layer in layers:
                layer.abort()
    if not usable:
        raise NotSent(f"{connection.origin} spoke before it was asked anything, or hung up")
    return connection


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _bare(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _local_address(given: str | tuple[str, int]) -> Address:
    host, port = (given, 0) if isinstance(given, str) else given
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, TypeError, ValueError):
        raise ConfigurationError("local_addr must be an address, or (address, port)") from None
    return found[0]
