"""A stream's connection: logged in, kept up, left when it is silent or talks nonsense."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from masscancel import (
    AscendEX,
    AuthenticationError,
    Client,
    Credentials,
    MassCancelError,
    SessionPool,
)
from masscancel.models import Gap, OrderUpdate
from masscancel.sim import (
    Action,
    Answer,
    AscendEXDialect,
    Disconnected,
    Hang,
    HugeBody,
    Redirect,
    SimulatedExchange,
    Truncate,
)
from stream_support import BTC, LOGIN, UPDATE, done, following, stream_of
from support import QUICK_STREAMS, account_of, venue_of


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["cash", "margin", "futures"])
@pytest.mark.parametrize("greeting", ["op", "m"])
@pytest.mark.parametrize("refuse_headers", [False, True])
async def test_login(category: str, greeting: Any, refuse_headers: bool) -> None:
    """By headers; where those are refused, by the message; under either greeting."""
    async with SimulatedExchange(AscendEXDialect(greeting=greeting)) as exchange:
        if refuse_headers:
            exchange.faults.add(Answer(401), operation="stream")
        async with stream_of(exchange) as (account, client):
            updates = await following(exchange, client, account, category)
            order = exchange.open_orders(account, category)[0]
            exchange.engine.fill(order.order_id, now_ms=exchange.now_ms)
            update = await anext(updates)
        assert (update.order_id, update.state) == (order.order_id, "filled")
        assert update.account_category == category
        assert len(exchange.operations("auth")) == refuse_headers
        upgrades = exchange.operations("stream")
        assert all(f"/v{2 if category == 'futures' else 1}/" in r.raw_path for r in upgrades)


@pytest.mark.asyncio
async def test_refused_login_ends_the_iteration() -> None:
    """Bad keys: the consumer is told, now and later, and the stream is not tried for ever."""
    async with SimulatedExchange() as exchange:
        account = account_of(exchange)
        credentials = Credentials(account.api_key, "wrong-secret")
        async with (
            SessionPool(streams=QUICK_STREAMS) as pool,
            Client(credentials, venue=venue_of(exchange, 0), pool=pool) as client,
        ):
            for _ in range(2):
                with pytest.raises(AuthenticationError) as caught:
                    await anext(aiter(client.order_updates("cash")))
                assert "wrong-secret" not in str(caught.value)
            with pytest.raises(AuthenticationError):
                await client.cancel_all("cash", via="stream")
        assert len(exchange.operations("auth")) == 1


@pytest.mark.asyncio
async def test_refusal_is_told_to_each_call_by_itself() -> None:
    """Two calls that a refused login fails have an error each, with their own context."""
    async with SimulatedExchange() as exchange:
        account = account_of(exchange)
        credentials = Credentials(account.api_key, "wrong-secret")
        async with (
            SessionPool(streams=QUICK_STREAMS) as pool,
            Client(credentials, venue=venue_of(exchange, 0), pool=pool) as client,
        ):
            errors = await asyncio.gather(
                client.cancel_all("cash", via="stream"),
                client.cancel_all("margin", via="stream"),
                return_exceptions=True,
            )
        contexts = [error.context for error in errors if isinstance(error, MassCancelError)]
        assert [context.rpartition(" [")[0] for context in contexts] == [
            "cancel_all cash on ascendex",
            "cancel_all margin on ascendex",
        ]


@pytest.mark.asyncio
async def test_skewed_clock_is_measured() -> None:
    """A clock 60 s off: the login is refused once, measured, and repeated."""
    async with SimulatedExchange(skew_ms=60_000) as exchange, stream_of(exchange) as (_, client):
        ack = await client.cancel_all("cash", via="stream")
        assert ack.attempts[-1].path == "stream"
        assert abs(ack.attempts[-1].sent_at_ms - exchange.now_ms - 60_000) < 5_000
        here = ack.attempts[-1].local_sent_at_ms
        assert here is not None
        assert abs(ack.attempts[-1].sent_at_ms - here - 60_000) < 1_000


@pytest.mark.asyncio
async def test_pings_are_answered(exchange: SimulatedExchange) -> None:
    """The venue's ping is answered with a pong of the documents' kind."""
    async with stream_of(exchange) as (account, client):
        await following(exchange, client, account)
        for round_ in range(3):
            exchange.ping_streams()
            await exchange.until(lambda: done(exchange, "pong") > round_)  # noqa: B023  # awaited
        assert len(exchange.streams) == 1


@pytest.mark.asyncio
async def test_own_pings(exchange: SimulatedExchange) -> None:
    """The client pings by itself."""
    often = replace(QUICK_STREAMS, ping=0.005, silent_pings=100)
    async with stream_of(exchange, streams=often) as (account, client):
        await following(exchange, client, account)
        await exchange.until(lambda: done(exchange, "ping") >= 3)
        assert len(exchange.operations("stream")) == 1


@pytest.mark.asyncio
async def test_frozen_peer_is_noticed(exchange: SimulatedExchange) -> None:
    """A peer that says nothing any more is left, and the consumer is told."""
    often = replace(QUICK_STREAMS, ping=0.05)
    async with stream_of(exchange, streams=often) as (account, client):
        updates = await following(exchange, client, account)
        exchange.faults.add(Hang(), operation="ping")
        item = await anext(updates)
        assert isinstance(item, Gap)
        assert item.account_category == "cash"
        await exchange.until(lambda: done(exchange, "subscribe") >= 2)
        exchange.place(account, "cash", BTC)
        assert isinstance(await anext(updates), OrderUpdate)


@pytest.mark.asyncio
@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("end", ["wire", "notice"])
async def test_reconnects(exchange: SimulatedExchange, reset: bool, end: str) -> None:
    """After a drop: a Gap, a new login, a new subscription, and updates again."""
    async with stream_of(exchange) as (account, client):
        updates = await following(exchange, client, account)
        if end == "wire":
            exchange.streams[0].end(reset=reset)
        else:
            exchange.faults.add(Disconnected(), operation="order-update")
            exchange.place(account, "cash", BTC)
        while not isinstance(item := await anext(updates), Gap):
            pass
        assert item.reason
        await exchange.until(lambda: done(exchange, "subscribe") == 2)
        order = exchange.place(account, "cash", BTC)
        update = await anext(updates)
        assert isinstance(update, OrderUpdate)
        assert update.order_id == order.order_id
        assert len({r.connection for r in exchange.operations("stream")}) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "spoil",
    [
        b"nonsense",
        b"\x81\x02\xff\xfe",
        b"[" * 1000,
        b'{"m":"order","ac":"CASH","data":{}}',
    ],
    ids=["not json", "not UTF-8", "deep", "no fields"],
)
async def test_nonsense_replaces_the_connection(exchange: SimulatedExchange, spoil: bytes) -> None:
    """What can't be understood may have been an update: a Gap, and a new connection."""
    async with stream_of(exchange) as (account, client):
        updates = await following(exchange, client, account)
        exchange.push(spoil)
        assert isinstance(await anext(updates), Gap)
        await exchange.until(lambda: done(exchange, "subscribe") == 2)
        exchange.place(account, "cash", BTC)
        assert isinstance(await anext(updates), OrderUpdate)


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [HugeBody(2**21), Truncate()], ids=["huge", "cut"])
async def test_messages_that_are_not_taken(exchange: SimulatedExchange, fault: Action) -> None:
    """A message of 2 MiB, or one that breaks off: a Gap, and a new connection."""
    async with stream_of(exchange) as (account, client):
        updates = await following(exchange, client, account)
        exchange.faults.add(fault, operation="order-update")
        exchange.place(account, "cash", BTC)
        assert isinstance(await anext(updates), Gap)
        await exchange.until(lambda: done(exchange, "subscribe") == 2)


@pytest.mark.asyncio
async def test_binary_frames_are_read() -> None:
    """A message in a binary frame means the same; other frames of the protocol mean nothing."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.ping()
        await socket.send_bytes(b'{"m":"connected","type":"auth"}')
        async for message in socket:
            asked = json.loads(message.data)
            if asked["op"] == "sub":
                about = {"m": "sub", "id": asked["id"], "ch": asked["ch"], "code": 0}
                await socket.send_bytes(json.dumps(about).encode())
                await socket.send_bytes(json.dumps(UPDATE).encode())
        return socket

    async with small_server(serve) as origin:
        venue = AscendEX(rest_url=f"http://{origin}", stream_url=f"ws://{origin}", account_group=0)
        async with (
            SessionPool(streams=QUICK_STREAMS) as pool,
            Client(LOGIN, venue=venue, pool=pool) as client,
        ):
            update = await anext(aiter(client.order_updates("cash")))
            assert isinstance(update, OrderUpdate)
            assert update.order_id == "a1"


@asynccontextmanager
async def small_server(serve: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """A server of one's own; yields its host and port."""
    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirected_upgrade_is_refused(exchange: SimulatedExchange, status: int) -> None:
    """A redirect is not followed, and the login headers are never seen elsewhere."""
    seen: list[Any] = []

    async def serve(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(status=404)

    async with small_server(serve) as origin, stream_of(exchange) as (account, client):
        exchange.faults.add(
            Redirect(f"http://{origin}/stream", status), operation="stream", times=3
        )
        await following(exchange, client, account)
    assert len(exchange.operations("stream")) == 4
    assert not seen
