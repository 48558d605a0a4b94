"""The session pool: connections, clocks, nonces, names, TLS, and what each failure means."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from masscancel import (
    AscendEX,
    Client,
    ConfigurationError,
    Credentials,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    ProtocolError,
    SessionPool,
)
from masscancel.session import Clock, Nonces, Turns, connections, translate
from masscancel.sim import Drop, SimulatedExchange
from masscancel.venue import Probe, Request
from support import account_of, client_of, cold_pool, raw_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = Request("GET", "/", {})


def test_aiohttp_makes_its_responses_as_it_did() -> None:
    """If not, requests leave as aiohttp writes them, a turn later: see `UnitedRequest`."""
    assert connections._RESPONSE_IS_KNOWN


@pytest.mark.parametrize(
    "options",
    [
        {"connections": 0},
        {"connections": "64"},
        {"warm": -1},
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
async def test_closed_pool_says_not_sent() -> None:
    """Sending through a pool that is not open is NotSent; closing twice is harmless."""
    pool = cold_pool()
    with pytest.raises(NotSent):
        await pool.send("http://127.0.0.1:9", GET)
    async with pool:
        assert pool.is_open
        with pytest.raises(ConfigurationError):
            await pool.__aenter__()
    await pool.close()
    assert not pool.is_open
    with pytest.raises(NotSent):
        await pool.send("http://127.0.0.1:9", GET)


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
async def test_requests_look_as_they_should() -> None:
    """No compression, no cookies, a name, and the body with its length."""
    seen: list[bytes] = []

    def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n"))

    async with raw_server(answer) as address, cold_pool() as pool:
        request = Request("DELETE", "/a%2Fb?c=%20d", {"x-one": "1"}, b"{}")
        for _ in range(2):
            reply = await pool.send(f"http://{address}", request)
            assert (reply.status, reply.body) == (200, b"ok")
    head = seen[1].decode().lower()
    assert head.startswith("delete /a%2fb?c=%20d http/1.1\r\n")
    assert "accept-encoding: identity" in head
    assert "cookie" not in head
    assert "content-length: 2" in head


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", OutcomeUnknown),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 70_000, ProtocolError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ProtocolError),
        (b"", OutcomeUnknown),
    ],
)
async def test_replies_that_are_none(said: bytes, error: type[MassCancelError]) -> None:
    """Cut short, contradictory, endless, not HTTP, nothing at all: unknown, and bounded."""

    def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with raw_server(answer) as address, cold_pool() as pool:
        with pytest.raises(error) as caught:
            await pool.send(f"http://{address}", GET)
    assert caught.value.may_have_executed
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.asyncio
async def test_two_replies_in_one_burst_are_one() -> None:
    """What follows a reply is dropped with its connection, and never taken for the next one's."""
    answers = iter((OK + OK.replace(b"ok", b"no"), OK))

    def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(next(answers))

    async with raw_server(answer) as address, cold_pool() as pool:
        for _ in range(2):
            assert (await pool.send(f"http://{address}", GET)).body == b"ok"


@pytest.mark.asyncio
async def test_interim_replies_are_passed_over() -> None:
    """A 100 Continue is no answer."""

    def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)

    async with raw_server(answer) as address, cold_pool() as pool:
        assert (await pool.send(f"http://{address}", GET)).body == b"ok"


@pytest.mark.asyncio
async def test_why_there_is_no_connection() -> None:
    """In the system's words: refused is not timed out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        async with cold_pool() as pool:
            with pytest.raises(NotSent, match=os.strerror(errno.ECONNREFUSED)):
                await pool.send(f"http://127.0.0.1:{taken.getsockname()[1]}", GET)


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


class Names:
    """A name service for the tests: answers, fails, or hangs."""

    def __init__(self) -> None:
        self.mode = "answers"
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        """One address, or the trouble of the day."""
        self.asked += 1
        if self.mode == "fails":
            raise OSError(None, "no name service")
        if self.mode == "hangs":
            await asyncio.Event().wait()
        return [
            {
                "hostname": host,
                "host": "127.0.0.1",
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Replaces the system's name service, and lets no answer be kept."""
    service = Names()
    monkeypatch.setattr("masscancel.session.connections.aiohttp.ThreadedResolver", lambda: service)
    monkeypatch.setattr("masscancel.session.connections.DNS_TTL", 0)
    monkeypatch.setattr("masscancel.session.connections._DNS_PATIENCE", 0.01)
    return service


@pytest.mark.asyncio
@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_last_known_addresses_serve_when_names_do_not(names: Names, trouble: str) -> None:
    """A name service that is down or hangs does not matter once it has answered."""

    def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        writer.close()

    async with raw_server(answer) as address, cold_pool() as pool:
        origin = f"http://venue.test:{address.rpartition(':')[2]}"
        assert (await pool.send(origin, GET)).body == b"ok"
        names.mode = trouble
        assert (await pool.send(origin, GET)).body == b"ok"
        assert names.asked == 2


@pytest.mark.asyncio
async def test_an_unknown_name_is_not_sent(names: Names) -> None:
    """Without a last address, a name that does not resolve means that nothing was sent."""
    names.mode = "fails"
    async with cold_pool() as pool:
        with pytest.raises(NotSent):
            await pool.send("http://venue.test:1", GET)


@pytest.mark.asyncio
async def test_a_hanging_connect_is_bounded(names: Names) -> None:
    """An attempt gives up on connecting in its own time, and nothing was sent."""
    names.mode = "hangs"
    async with SessionPool(warm=0, connect_timeout=0.02) as pool:
        with pytest.raises(NotSent, match="in time"):
            await pool.send("http://venue.test:1", GET)


def test_clock_prefers_the_quickest_sample() -> None:
    """Of several readings the one with the shortest round trip counts."""
    clock = Clock()
    unmeasured = clock.stamp()
    assert unmeasured.skew_ms == 30_000
    assert abs(unmeasured.time_ms - time.time() * 1000) < 1_000
    now = time.time() * 1000
    clock.add(now, now + 10, int(now + 5) + 50_000)
    clock.add(now, now + 900, int(now + 450) + 50_400)
    stamp = clock.stamp()
    assert abs(stamp.time_ms - (time.time() * 1000 + 50_000)) < 1_000
    assert stamp.skew_ms == 1_005


@given(st.lists(st.sampled_from([10**3, 10**6, 10**9]), min_size=2, max_size=50))
def test_nonces_only_grow(units: list[int]) -> None:
    """Whatever the unit and however fast, each nonce is greater than all before it for the key."""
    nonces = Nonces()
    unit = units[0]
    drawn = [nonces.next("a", unit) for _ in units]
    assert drawn == sorted(set(drawn))
    assert nonces.next("b", unit) <= time.time_ns() * unit // 10**9


def test_nonces_only_grow_across_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that share a key draw no number twice, even where the clock stands still."""
    nonces = Nonces()
    started = threading.Barrier(4)

    def now() -> int:
        time.sleep(0)  # lets another thread run
        return 10**18

    def draw(_: int) -> list[int]:
        started.wait()
        return [nonces.next("key", 1_000) for _ in range(200)]

    monkeypatch.setattr(time, "time_ns", now)
    with ThreadPoolExecutor(4) as threads:
        drawn = [*threads.map(draw, range(4))]
    assert all(sorted(each) == each for each in drawn)
    everything = sorted(number for each in drawn for number in each)
    assert everything == [*range(10**12, 10**12 + 800)]


@pytest.mark.asyncio
async def test_turns_are_taken_in_order_cancels_first() -> None:
    """One at a time; a cancel waits for cancels only; a listing waits for both."""
    turns = Turns(patience=60)
    went: list[str] = []
    gates = {name: asyncio.Event() for name in ("list-1", "list-2", "cancel-1", "cancel-2")}

    async def take(name: str) -> None:
        turn = await turns.take(urgent=name.startswith("cancel"))
        went.append(name)
        await gates[name].wait()
        turn.leave()

    tasks = []
    for name in gates:
        tasks.append(asyncio.create_task(take(name)))
        await asyncio.sleep(0)
    assert went == ["list-1", "cancel-1"]
    for gate in gates.values():
        gate.set()
    await asyncio.gather(*tasks)
    assert sorted(went[2:]) == ["cancel-2", "list-2"]


@pytest.mark.asyncio
async def test_a_turn_that_is_not_answered_passes_on() -> None:
    """An attempt that hangs holds the next up for ``patience`` only."""
    turns = Turns(patience=0.01)
    first = await turns.take(urgent=True)
    first.written()
    second = await turns.take(urgent=True)
    first.leave()  # too late: it is the second's turn
    waiting = asyncio.create_task(turns.take(urgent=True))
    await asyncio.sleep(0)
    assert not waiting.done()
    second.leave()
    (await waiting).leave()


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), OutcomeUnknown),
        (aiohttp.ServerDisconnectedError(), OutcomeUnknown),
        (aiohttp.ClientPayloadError("x-auth-signature: abc"), OutcomeUnknown),
        (aiohttp.ConnectionTimeoutError("https://host/?signature=abc"), NotSent),
        (aiohttp.InvalidURL("https://host/?signature=abc"), NotSent),
        (ValueError("signature=abc"), OutcomeUnknown),
    ],
)
def test_translation_repeats_nothing_of_the_request(
    problem: Exception, error: type[MassCancelError]
) -> None:
    """The kind of error is by what is known, and its text is ours or the system's."""
    translated = translate(problem, "https://host")
    assert type(translated) is error
    assert "abc" not in str(translated)
    assert isinstance(translate(problem, "https://host", connecting=True), NotSent)
