"""The dialer: what it opens, what it refuses, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from masscancel.errors import ConfigurationError, NotSent
from masscancel.transport.connection import Connection
from masscancel.transport.dialer import Dialer, default_context
from masscancel.transport.failures import is_exhausted, why
from masscancel.transport.resolver import Address, Resolver
from transport_support import LOOPS, OK, Loop, answer, reply_of, server_context, serving, trusting

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "venue.example"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority of our own."""
    return trustme.CA()


def at(*ports: int, hosts: tuple[str, ...] = ("127.0.0.1",)) -> Resolver:
    """A resolver that finds ports of loopback, one after another; the last one stays."""
    left = [*ports]

    def lookup(_: str, __: int, **___: Any) -> list[Address]:
        port = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    return Resolver(lookup=lookup)


async def dial(dialer: Dialer, origin: str) -> Connection:
    """Open a connection."""
    return await dialer.dial(origin, lambda: Connection(origin))


def unused_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


# TLS.


@LOOPS
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls(run: Loop, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    """A request leaves at once; the tickets that come with TLS 1.3 are no answer to it."""

    async def main() -> None:
        context = server_context(authority.issue_cert(HOST))
        context.minimum_version = context.maximum_version = version
        async with serving(answer, context) as port:
            dialer = Dialer(resolver=at(port), ssl_context=trusting(authority))
            connection = await dial(dialer, f"https://{HOST}")
            for _ in range(3):
                assert (await reply_of(connection)).body == b"{}"
            assert connection.usable()
            connection.close()

    run(main())


@LOOPS
@pytest.mark.parametrize("wrong", ["authority", "name", "expired"])
def test_a_certificate_that_does_not_fit_is_refused(
    run: Loop, authority: trustme.CA, wrong: str
) -> None:
    """Nothing was sent, and the reason is said."""
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    cert = {
        "authority": lambda: trustme.CA().issue_cert(HOST),
        "name": lambda: authority.issue_cert("other.example"),
        "expired": lambda: authority.issue_cert(
            HOST, not_before=long_ago, not_after=long_ago + dt.timedelta(days=1)
        ),
    }[wrong]()

    async def main() -> None:
        async with serving(answer, server_context(cert)) as port:
            dialer = Dialer(resolver=at(port), ssl_context=trusting(authority))
            with pytest.raises(NotSent, match="certificate not accepted") as caught:
                await dial(dialer, f"https://{HOST}")
            assert not caught.value.may_have_executed
            assert not caught.value.exhausted

    run(main())


@pytest.mark.parametrize("setting", ["check_hostname", "verify_mode"])
def test_certificates_are_always_verified(setting: str) -> None:
    """A context that does not verify is refused."""
    context = ssl.create_default_context()
    context.check_hostname = False
    if setting == "verify_mode":
        context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ConfigurationError):
        Dialer(ssl_context=context)


@pytest.mark.asyncio
async def test_only_http_1_1_is_offered(authority: trustme.CA) -> None:
    """A server that prefers HTTP/2 speaks HTTP/1.1."""
    own = default_context.__wrapped__()  # one of its own, that may be changed
    authority.configure_trust(own)
    context = server_context(authority.issue_cert(HOST))
    context.set_alpn_protocols(["h2", "http/1.1"])
    chosen: list[str | None] = []

    async def see(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chosen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answer(reader, writer)

    async with serving(see, context) as port:
        dialer = Dialer(resolver=at(port), ssl_context=own)
        connection = await dial(dialer, f"https://{HOST}")
        assert (await reply_of(connection)).body == b"{}"
        connection.close()
    assert chosen == ["http/1.1"]


@pytest.mark.asyncio
async def test_a_peer_that_chooses_another_protocol_is_refused(authority: trustme.CA) -> None:
    """A context of the user's may offer it."""
    context = server_context(authority.issue_cert(HOST))
    context.set_alpn_protocols(["h2"])
    own = trusting(authority)
    own.set_alpn_protocols(["h2"])
    async with serving(answer, context) as port:
        with pytest.raises(NotSent, match=r"HTTP/1\.1"):
            await dial(Dialer(resolver=at(port), ssl_context=own), f"https://{HOST}")


@pytest.mark.asyncio
async def test_a_peer_that_speaks_with_its_handshake_is_refused(authority: trustme.CA) -> None:
    """Its bytes come in one segment with the end of the handshake: they answer nothing."""
    peers: list[Any] = []

    class Eager(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            peers.append(transport)
            transport.write(OK)

    context = server_context(authority.issue_cert(HOST))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the server ends the handshake
    server = await asyncio.get_running_loop().create_server(Eager, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    dialer = Dialer(resolver=at(port), ssl_context=trusting(authority))
    with pytest.raises(NotSent, match="spoke before it was asked"):
        await dial(dialer, f"https://{HOST}")
    server.close()
    peers[0].abort()
    await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_server_without_tls_is_refused(authority: trustme.CA) -> None:
    """TLS is not left out."""

    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with serving(plain) as port:
        dialer = Dialer(resolver=at(port), ssl_context=trusting(authority))
        with pytest.raises(NotSent):
            await dial(dialer, f"https://{HOST}")


# TCP.


@LOOPS
def test_a_peer_that_has_spoken_is_refused(run: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are there when the connection is opened answer nothing."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            sock = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
            with peer:
                peer.sendall(OK)
                sock.setblocking(False)

                async def connected(*_: Any, **__: Any) -> socket.socket:
                    return sock

                monkeypatch.setattr("aiohappyeyeballs.start_connection", connected)
                with pytest.raises(NotSent, match="spoke before it was asked"):
                    await dial(Dialer(), "http://127.0.0.1:1")
                await asyncio.sleep(0)
            assert sock.fileno() == -1

    run(main())


@LOOPS
def test_a_port_that_nothing_listens_on(run: Loop) -> None:
    """The reason is the system's."""

    async def main() -> None:
        with pytest.raises(NotSent, match="Connection refused") as caught:
            await dial(Dialer(), f"http://127.0.0.1:{unused_port()}")
        assert not caught.value.exhausted
        assert not caught.value.may_have_executed

    run(main())


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_a_machine_that_can_open_no_more_is_named(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller may then do with the connections that are open; the addresses stay known."""

    def fail(*_: Any, **__: Any) -> socket.socket:
        raise OSError(code, "no more")

    resolver = at(1, 2)
    await resolver.resolve(HOST, 443)
    monkeypatch.setattr(socket, "socket", fail)
    with pytest.raises(NotSent) as caught:
        await dial(Dialer(resolver=resolver), f"http://{HOST}")
    monkeypatch.undo()
    assert caught.value.exhausted
    assert (await resolver.resolve(HOST, 443))[0][4][1] == 1


@pytest.mark.asyncio
async def test_dead_addresses_do_not_keep_from_the_living() -> None:
    """Every address of the name is tried."""
    async with serving(answer) as port:
        resolver = at(port, hosts=("127.0.0.2", "127.0.0.3", "127.0.0.1"))
        connection = await dial(Dialer(resolver=resolver), f"http://{HOST}")
        assert (await reply_of(connection)).body == b"{}"
        connection.close()


@pytest.mark.asyncio
async def test_a_name_that_has_moved_is_found() -> None:
    """Addresses that could not be reached are looked up again."""
    async with serving(answer) as port:
        dialer = Dialer(resolver=at(unused_port(), port))
        with pytest.raises(NotSent):
            await dial(dialer, f"http://{HOST}")
        (await dial(dialer, f"http://{HOST}")).close()


@pytest.mark.asyncio
async def test_a_name_that_is_not_found() -> None:
    """The reason is the name service's."""

    def lookup(*_: Any, **__: Any) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NotSent, match="Name or service not known"):
        await dial(Dialer(resolver=Resolver(lookup=lookup)), f"https://{HOST}")


@LOOPS
def test_the_time_to_connect_is_bounded(run: Loop, authority: trustme.CA) -> None:
    """A peer that takes the connection and says nothing."""

    async def main() -> None:
        async def silent(*_: Any) -> None:
            await asyncio.Event().wait()

        async with serving(silent) as port:
            dialer = Dialer(
                resolver=at(port), ssl_context=trusting(authority), connect_timeout=0.05
            )
            with pytest.raises(NotSent, match="no connection in time"):
                await dial(dialer, f"https://{HOST}")

    run(main())


@pytest.mark.asyncio
async def test_what_is_not_encrypted_stays_on_this_machine() -> None:
    """Whatever the name says: its addresses decide."""
    resolver = at(80, hosts=("127.0.0.1", "192.0.2.1"))
    with pytest.raises(ConfigurationError, match="use https"):
        await dial(Dialer(resolver=resolver), "http://localhost")


@pytest.mark.asyncio
async def test_ipv6() -> None:
    """An address in brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with serving(answer, host="::1") as port:
        origin = f"http://[::1]:{port}"
        connection = await dial(Dialer(), origin)
        assert (await reply_of(connection)).body == b"{}"
        connection.close()
        with pytest.raises(NotSent):
            await dial(Dialer(family=socket.AF_INET), origin)


@LOOPS
def test_the_source_address_is_the_one_that_was_asked_for(run: Loop) -> None:
    """Keys may be bound to an address."""
    peers: list[str] = []

    async def see(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        await answer(reader, writer)

    async def main() -> None:
        async with serving(see) as port:
            for local in ("127.0.0.2", ("127.0.0.3", 0)):
                connection = await dial(Dialer(local_addr=local), f"http://127.0.0.1:{port}")
                await reply_of(connection)
                connection.close()

    run(main())
    assert peers == ["127.0.0.2", "127.0.0.3"]


@pytest.mark.parametrize(
    "settings",
    [
        {"local_addr": "venue.example"},
        {"local_addr": ("127.0.0.1", "x")},
        {"connect_timeout": 0.0},
        {"dead_peer": -1.0},
        {"family": 77},
        {"ssl_context": True},
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(settings: dict[str, Any]) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigurationError):
        Dialer(**settings)


class Ticketed(Connection):
    """A connection for which the kernel holds something that is TLS's own."""

    __slots__ = ("unread",)

    def __init__(self, origin: str, unread: int) -> None:
        super().__init__(origin)
        self.unread = unread

    @property
    def has_unread(self) -> bool:
        """Whether the event loop has yet to read it: for so many turns."""
        self.unread -= 1
        return self.unread >= 0


@pytest.mark.asyncio
async def test_what_is_tls_own_is_read_before_a_connection_is_used() -> None:
    """But a peer that does not stop sending is not waited for."""
    async with serving(answer) as port:
        origin = f"http://127.0.0.1:{port}"
        connection = await Dialer().dial(origin, lambda: Ticketed(origin, 3))
        assert connection.usable()
        connection.close()
        with pytest.raises(NotSent, match="spoke before"):
            await Dialer().dial(origin, lambda: Ticketed(origin, 1_000))


class Open(Connection):
    """A connection that shows its socket."""

    __slots__ = ("sock",)

    def start(self, transport: asyncio.Transport, *under: asyncio.Transport) -> None:
        """Keep the socket."""
        super().start(transport, *under)
        self.sock = (transport, *under)[-1].get_extra_info("socket")


@LOOPS
def test_dead_peers_are_noticed_and_nothing_is_held_back(run: Loop) -> None:
    """The options of the socket, where the platform has them."""

    async def main() -> None:
        async with serving(answer) as port:
            origin = f"http://127.0.0.1:{port}"
            connection = await Dialer(dead_peer=1.5).dial(origin, lambda: Open(origin))
            assert isinstance(connection, Open)
            option = connection.sock.getsockopt
            assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500
            connection.close()

    run(main())


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("127.0.0.2", "127.0.0.1")])
def test_whoever_gives_up_leaves_no_socket_open(
    run: Loop,
    tls: bool,
    hosts: tuple[str, ...],
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancelled after any number of turns of the event loop, until it comes too late."""
    context = server_context(authority.issue_cert(HOST)) if tls else None

    async def give_up(dialer: Dialer, made: list[socket.socket], turns: int) -> bool:
        origin = f"{'https' if tls else 'http'}://{HOST}"
        task = asyncio.create_task(dial(dialer, origin))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, Connection):
            result.abort()
        for _ in range(10):
            await asyncio.sleep(0)
        assert [sock for sock in made if sock.fileno() != -1] == []
        return isinstance(result, Connection)

    async def main() -> None:
        async with serving(answer, context) as port:
            dialer = Dialer(resolver=at(port, hosts=hosts), ssl_context=trusting(authority))
            await dialer.resolver.resolve(HOST, 443 if tls else 80)
            made = _sockets(monkeypatch)
            turns = 0
            while not await give_up(dialer, made, turns):
                turns += 1
            monkeypatch.undo()
            assert turns

    run(main())


def _sockets(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Every socket that the dialer makes from now on."""
    made: list[socket.socket] = []
    make: Callable[..., socket.socket] = Dialer._socket  # every socket is made there

    def keep(dialer: Dialer, address: Address) -> socket.socket:
        made.append(make(dialer, address))
        return made[-1]

    monkeypatch.setattr(Dialer, "_socket", keep)
    return made


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('::1', 1)"), "refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "not known"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] (_ssl.c:1)"), "TLS failed"),
        (TimeoutError(), "no connection in time"),
        (OSError(None, "no thread is left"), "no thread is left"),
        (ConnectionResetError(), "the connection was closed"),
        (OSError("Multiple exceptions: ..."), "no address answered"),
        (RuntimeError("their words"), "RuntimeError"),
    ],
)
def test_reasons_are_in_the_systems_words(problem: Exception, reason: str) -> None:
    """Neither in a peer's, nor in those that asyncio puts in place of the system's."""
    assert reason in why(problem)
    assert "their words" not in why(problem)
    assert "call failed" not in why(problem)
    assert not is_exhausted(problem)
