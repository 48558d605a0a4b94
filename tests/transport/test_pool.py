"""The session pool: settings, connections shared and kept warm, what twins have, TLS."""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme

from masscancel import AscendEX, Client, ConfigurationError, Credentials, NotSent, SessionPool
from masscancel.calls import Probe
from masscancel.sim import Answer, Drop, SimulatedExchange
from masscancel.transport.settings import StreamSettings
from support import account_of, client_of, cold_pool, raw_server


@pytest.mark.parametrize(
    "options",
    [
        {"connections": 0},
        {"connections": "64"},
        {"warm": -1},
        {"burst": -1},
        {"dns_ttl": -1},
        {"dns_patience": 0},
        {"proxy": "nonsense"},
        {"family": 77},
        {"warm_interval": 0},
        {"connect_timeout": -1.0},
        {"connect_timeout": float("nan")},
        {"ssl_context": False},
        {"ssl_context": True},
        {"ssl_context": ssl._create_unverified_context()},  # noqa: S323  # refusing it is the point
    ],
)
def test_bad_options(options: dict[str, Any]) -> None:
    """Out of range is refused; verification can't be switched off, by a typo or on purpose."""
    with pytest.raises(ConfigurationError):
        SessionPool(**options)


def test_context_that_checks_no_host_names() -> None:
    """A context that verifies certificates for any name is refused as well."""
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ConfigurationError):
        SessionPool(ssl_context=context)


@pytest.mark.asyncio
async def test_closed_pool_says_not_sent(exchange: SimulatedExchange) -> None:
    """A call through a pool that has been closed is NotSent; closing twice is harmless."""
    pool = cold_pool()
    async with pool:
        assert pool.is_open
        with pytest.raises(ConfigurationError):
            await pool.__aenter__()
        async with client_of(exchange, account_of(exchange), pool=pool) as client:
            await pool.close()
            await pool.close()
            with pytest.raises(NotSent):
                await client.cancel_all("cash", timeout=0.1)
    assert not pool.is_open


@pytest.mark.asyncio
async def test_a_shared_pool_outlives_its_clients(exchange: SimulatedExchange) -> None:
    """Many clients use one pool's connections; leaving one closes none of them."""
    accounts = [account_of(exchange, number) for number in range(3)]
    async with cold_pool() as pool:
        for account in accounts:
            async with client_of(exchange, account, pool=pool) as client:
                await client.cancel_all("cash")
        assert len({request.connection for request in exchange.requests}) == 1
        assert len(exchange.connections) == 1
    await exchange.until(lambda: not exchange.connections)


@pytest.mark.asyncio
async def test_connections_are_warm_before_they_are_needed(exchange: SimulatedExchange) -> None:
    """Entering opens connections in the background; a cancel then finds one."""
    account = account_of(exchange)
    async with SessionPool(warm=3) as pool, client_of(exchange, account, pool=pool) as client:
        await exchange.until(lambda: len(exchange.operations("clock")) == 3)
        await exchange.until(lambda: all(r.answer == "answered" for r in exchange.requests))
        await asyncio.sleep(0)
        await client.cancel_all("cash")
        assert exchange.connections_opened == 3
    assert "clock" not in {r.operation for r in exchange.requests if r.header("x-auth-key")}


def test_without_an_event_loop_of_asyncio() -> None:
    """Under trio or in plain code, the error says what runs it."""
    with pytest.raises(ConfigurationError, match="runs on asyncio"):
        SessionPool().__aenter__().send(None)


@pytest.mark.asyncio
async def test_warmth_goes_on(exchange: SimulatedExchange) -> None:
    """The connections are used again and again, and replaced when they have died."""
    account = account_of(exchange)
    pool = SessionPool(warm=2, warm_interval=0.01)
    async with pool, client_of(exchange, account, pool=pool):
        await exchange.until(lambda: len(exchange.operations("clock")) >= 6)
        assert exchange.connections_opened == 2
        exchange.drop_connections()
        await exchange.until(lambda: exchange.connections_opened >= 4)


@pytest.mark.asyncio
async def test_warmth_costs_no_more_than_the_pool_and_the_venue_allow() -> None:
    """Rounds are as far apart as either asks for: the pool's interval, or that of the probe."""
    rounds: Counter[bytes] = Counter()
    enough = asyncio.Event()

    def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        rounds[request.split()[1]] += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if rounds[b"/often"] >= 8 and len(rounds) == 3:
            enough.set()

    def probe(address: str, path: str, interval: float) -> Probe:
        return Probe(
            origin=f"http://{address}", path=path, interval=interval, decode=lambda _: 10**12
        )

    async with (
        raw_server(answer) as one,
        raw_server(answer) as other,
        SessionPool(warm=1, warm_interval=0.01) as eager,
        SessionPool(warm=1, warm_interval=60.0) as calm,
    ):
        eager.keep_warm(probe(one, "/often", 0.01))
        eager.keep_warm(probe(other, "/the-venue-is-calm", 60.0))
        calm.keep_warm(probe(one, "/the-pool-is-calm", 0.01))
        async with asyncio.timeout(10):
            await enough.wait()
    assert (rounds[b"/the-venue-is-calm"], rounds[b"/the-pool-is-calm"]) == (1, 1)


@pytest.mark.asyncio
async def test_dead_peers_are_noticed_on_every_connection(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept, fresh after a failure, of a websocket: each is told to look after its peer itself."""
    sockets: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def watched(sock: socket.socket, address: Any) -> None:
        await connect(sock, address)
        sockets.append(sock.dup())  # its options are the same, and it outlives the other

    monkeypatch.setattr(loop, "sock_connect", watched)
    exchange.faults.add(Drop(), operation="cancel-all", nth=1)
    try:
        async with cold_pool() as pool, client_of(exchange, account_of(exchange), pool=pool) as one:
            ack = await one.cancel_all("cash")
            assert [attempt.fate for attempt in ack.attempts] == ["unknown", "answered"]
            await one.cancel_all("cash", via="stream")
        assert len(sockets) == 3
        for sock in sockets:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            for option, value in DEAD_PEER.items():
                if (number := getattr(socket, option, None)) is not None:
                    assert sock.getsockopt(socket.IPPROTO_TCP, number) == value, option
    finally:
        for sock in sockets:
            sock.close()


#: What a socket is told, where the platform knows it: 2.5 s without an acknowledgement (in ms) are
#: its end. While it is idle, two probes leave in that time: one alone may be lost in a glitch.
DEAD_PEER = {
    "TCP_USER_TIMEOUT": 2_500,
    "TCP_KEEPIDLE": 1,
    "TCP_KEEPINTVL": 1,
    "TCP_KEEPCNT": 3,
}


@pytest.mark.asyncio
async def test_a_kill_of_the_declared_size_needs_no_handshake(exchange: SimulatedExchange) -> None:
    """With ``burst=``, so many cancels at once find so many connections."""
    account = account_of(exchange)
    async with SessionPool(burst=16) as pool, client_of(exchange, account, pool=pool) as client:
        await exchange.until(lambda: len(exchange.operations("clock")) == 16)
        await exchange.until(lambda: all(r.answer == "answered" for r in exchange.requests))
        await asyncio.sleep(0)
        assert pool.warmth(exchange.rest_url) == 16
        await asyncio.gather(*(client.cancel_all("cash") for _ in range(16)))
        assert exchange.connections_opened == 16


@pytest.mark.asyncio
async def test_a_warm_connection_that_is_lost_is_replaced_at_once(
    exchange: SimulatedExchange,
) -> None:
    """Not only at the next round, which may be a minute away."""
    pool = SessionPool(warm=2, warm_interval=600.0)
    async with pool, client_of(exchange, account_of(exchange), pool=pool):
        await exchange.until(lambda: len(exchange.operations("clock")) == 2)
        exchange.drop_connections()
        await exchange.until(lambda: len(exchange.connections) == 2)


@pytest.mark.asyncio
async def test_probes_keep_to_a_ban(exchange: SimulatedExchange) -> None:
    """Once a venue has asked for a minute, no probe is sent to it either."""
    pool = SessionPool(warm=2, warm_interval=0.01)
    account = account_of(exchange)
    async with pool, client_of(exchange, account, pool=pool) as client:
        exchange.faults.add(Answer(429, headers=(("Retry-After", "60"),)), operation="cancel-all")
        with contextlib.suppress(Exception):
            await client.cancel_all("cash", timeout=0.2)
        await exchange.until(lambda: all(r.answer != "open" for r in exchange.requests))
        before = len(exchange.requests)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert len(exchange.requests) <= before + 1  # one that was on its way


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


@contextlib.asynccontextmanager
async def tls_server(cert: trustme.LeafCert) -> AsyncIterator[int]:
    """A TLS server that answers any request with an empty listing; yields its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    cert.configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                body = b'{"code":0,"data":[]}'
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A context that trusts the tests' authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def list_over_tls(port: int, context: ssl.SSLContext | None) -> list[Any]:
    """List open orders from the TLS server."""
    venue = AscendEX(
        rest_url=f"https://127.0.0.1:{port}", stream_url="wss://127.0.0.1:9", account_group=1
    )
    pool = SessionPool(warm=0, ssl_context=context)
    async with pool, Client(Credentials("k", "s"), venue=venue, pool=pool) as client:
        return await client.open_orders("cash", timeout=0.5)


@pytest.mark.asyncio
async def test_tls_with_an_authority_of_ones_own(authority: trustme.CA) -> None:
    """A private authority is trusted through a context, and only through it."""
    async with tls_server(authority.issue_cert("127.0.0.1")) as port:
        assert await list_over_tls(port, trusting(authority)) == []
        with pytest.raises(NotSent, match="certificate"):
            await list_over_tls(port, None)


@pytest.mark.asyncio
async def test_tls_with_a_wrong_certificate(authority: trustme.CA) -> None:
    """Another host's certificate is refused before anything is sent."""
    async with tls_server(authority.issue_cert("elsewhere.test")) as port:
        with pytest.raises(NotSent, match="certificate"):
            await list_over_tls(port, trusting(authority))


def test_a_twin_has_the_same_settings() -> None:
    """Every setting of a pool is the twin's, too: the switch and the guards work with twins."""
    settings: dict[str, Any] = {
        "connections": 5,
        "warm": 1,
        "burst": 7,
        "warm_interval": 2.0,
        "connect_timeout": 1.0,
        "ssl_context": ssl.create_default_context(),
        "proxy": "http://127.0.0.1:3128",
        "local_addr": "127.0.0.1",
        "family": socket.AF_INET,
        "streams": StreamSettings(ping=1.0),
        "dns_ttl": 1.0,
        "dns_patience": 0.1,
    }
    assert SessionPool(**settings).twin().settings == settings | {"session": None}
