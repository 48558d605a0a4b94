"""Rows of the matrix about the websocket that want a wire to be cut, or more than one message."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from masscancel import Ack, AscendEX, Client, Credentials, OutcomeUnknown, SessionPool
from masscancel.models import Gap, OrderUpdate
from masscancel.sim import (
    Account,
    Action,
    Answer,
    Disconnected,
    Drop,
    Hang,
    Ignore,
    SimulatedExchange,
    Truncate,
)
from masscancel.transport.settings import StreamSettings
from proxy import Proxy, Treatment, drop, finish_after, forward, reset_after
from support import QUICK_STREAMS, account_of

pytestmark = [pytest.mark.unmeasured, pytest.mark.asyncio]

BTC = "BTC/USDT"
PING = b'{"m":"ping","hp":3}'


class Scene:
    """A client whose wires go through a proxy, and whose stream is followed."""

    def __init__(
        self, exchange: SimulatedExchange, account: Account, client: Client[Any], proxy: Proxy
    ) -> None:
        self.exchange = exchange
        self.account = account
        self.client = client
        self.proxy = proxy
        self.updates = aiter(client.order_updates("cash"))

    async def subscribed(self, times: int = 1) -> None:
        """Wait until the exchange has seen so many subscriptions, and they tell of orders."""
        await self.exchange.until(
            lambda: (
                sum(r.answer == "answered" for r in self.exchange.operations("subscribe")) >= times
            )
        )
        order = self.exchange.place(self.account, "cash", BTC)
        while True:
            update = await anext(self.updates)
            if isinstance(update, OrderUpdate) and update.order_id == order.order_id:
                return

    async def gap(self) -> Gap:
        """The next gap."""
        while not isinstance(item := await anext(self.updates), Gap):
            pass
        return item

    def open(self) -> int:
        """How many orders are open, in truth."""
        return len(self.exchange.open_orders(self.account, "cash"))


@asynccontextmanager
async def proxied(warm: int = 0, streams: StreamSettings = QUICK_STREAMS) -> AsyncIterator[Scene]:
    """A client that has a stream and so many idle connections, all through a proxy."""
    async with (
        SimulatedExchange() as exchange,
        Proxy(exchange.port) as proxy,
        SessionPool(warm=warm, streams=streams) as pool,
    ):
        account = account_of(exchange)
        venue = AscendEX(
            rest_url=proxy.rest_url,
            stream_url=f"ws://127.0.0.1:{proxy.port}",
            account_group=account.group,
        )
        credentials = Credentials(account.api_key, account.api_secret)
        async with Client(credentials, venue=venue, pool=pool) as client:
            scene = Scene(exchange, account, client, proxy)
            await scene.subscribed()
            yield scene


DIRECTIONS: dict[str, tuple[Treatment, Treatment]] = {
    "both": (drop, drop),
    "what we say": (drop, forward),
    "what we hear": (forward, drop),
}


@pytest.mark.parametrize("vanishes", DIRECTIONS)
async def test_a_stream_in_a_black_hole(vanishes: str) -> None:
    """Rows: black hole, frozen peer. No RST tells of it; the pings do, and consumers are told."""
    async with proxied(streams=replace(QUICK_STREAMS, ping=0.05)) as scene:
        for wire in scene.proxy.wires:
            wire.up, wire.down = DIRECTIONS[vanishes]
        gap = await scene.gap()
        assert (gap.account_category, gap.reason) == ("cash", "nothing was heard for too long")
        await scene.subscribed(2)


@pytest.mark.parametrize("vanishes", DIRECTIONS)
async def test_a_cancel_in_a_black_hole(vanishes: str) -> None:
    """Row: black hole. On the stream alone it is unknown in time, and the next one gets through."""
    async with proxied() as scene:
        for wire in scene.proxy.wires:
            wire.up, wire.down = DIRECTIONS[vanishes]
        with pytest.raises(OutcomeUnknown) as caught:
            await scene.client.cancel_all("cash", via="stream", timeout=0.1)
        assert caught.value.may_have_executed
        assert {attempt.path for attempt in caught.value.attempts} == {"stream"}
        assert isinstance(await scene.client.cancel_all("cash", via="stream"), Ack)
        assert scene.open() == 0


async def test_both_paths_in_a_black_hole() -> None:
    """Row: a parallel path still gets through. A hedge leaves on a connection of its own."""
    async with proxied(warm=3) as scene:
        before = len(scene.proxy.wires)
        scene.proxy.black_hole()
        ack = await scene.client.cancel_all("cash", via="both", timeout=5.0)
        assert scene.open() == 0
        assert ack.attempts[-1].path == "rest"
        assert len(scene.proxy.wires) > before


async def test_a_new_stream_takes_no_connection_that_was_there() -> None:
    """Row: black hole, of every wire there is. The idle ones tell nothing of it, so none is used.

    Nor does a stream take away what is kept warm for cancels.
    """
    async with proxied(warm=3) as scene:
        await scene.exchange.until(lambda: len(scene.exchange.operations("clock")) >= 3)
        scene.proxy.black_hole()
        with pytest.raises(OutcomeUnknown):
            await scene.client.cancel_all("cash", via="stream", timeout=0.1)
        ack = await scene.client.cancel_all("cash", via="stream", timeout=2.0)
        assert [attempt.fate for attempt in ack.attempts] == ["answered"]


@pytest.mark.parametrize("cut", [reset_after, finish_after])
@pytest.mark.parametrize("after", [0, 1, 3, 40])
async def test_an_ack_that_breaks_off(cut: Any, after: int) -> None:
    """Row: dropped mid-message. Executed, its Ack cut at any byte: said again on a new wire."""
    async with proxied() as scene:
        for wire in scene.proxy.wires:
            wire.down = cut(after)
        ack = await scene.client.cancel_all("cash", via="stream")
        assert [attempt.fate for attempt in ack.attempts] == ["unknown", "answered"]
        assert scene.open() == 0
        one, two = scene.exchange.operations("cancel-all")
        assert one.executed
        assert one.connection != two.connection
        assert (await scene.gap()).account_category == "cash"


@pytest.mark.parametrize("fault", [Truncate(), Disconnected(), Drop(), Drop(reset=False)], ids=repr)
async def test_a_session_that_ends_instead_of_an_answer(fault: Action) -> None:
    """Rows: ``disconnected``, dropped mid-message. The first is unknown, and it is said again."""
    async with proxied() as scene:
        scene.exchange.faults.add(fault, operation="cancel-all")
        ack = await scene.client.cancel_all("cash", via="stream")
        assert [attempt.fate for attempt in ack.attempts] == ["unknown", "answered"]
        assert scene.open() == 0


async def test_the_wire_is_cut_between_the_ack_and_the_updates() -> None:
    """Row: drop between Ack and updates. Silence proves nothing; the listings do."""
    async with proxied() as scene:
        scene.exchange.faults.add(Drop(), operation="order-update")
        before = scene.exchange.operations("open-orders")
        confirmation = await scene.client.cancel_all_and_confirm("cash", settle=0.02)
        assert not confirmation.streamed
        assert len(scene.exchange.operations("open-orders")) >= len(before) + 2
        assert scene.open() == 0
        assert (await scene.gap()).account_category == "cash"


@pytest.mark.parametrize("fault", [Ignore(), Ignore(executed=True), Hang()], ids=repr)
async def test_a_silent_stream_leaves_it_to_rest(fault: Action) -> None:
    """Rows: silent ignore, frozen peer. The other path answers."""
    async with proxied() as scene:
        scene.exchange.faults.add(fault, operation="cancel-all", method="WS", times=None)
        ack = await scene.client.cancel_all("cash", via="both")
        assert "rest" in {a.path for a in ack.attempts if a.fate == "answered"}
        assert scene.open() == 0


async def test_a_flood_of_the_venues_pings() -> None:
    """Row: ping flood. A cancel is said and answered in its midst; each ping has its pong."""
    async with proxied() as scene:
        for _ in range(1_000):
            scene.exchange.push(PING)
        ack = await scene.client.cancel_all("cash", via="stream")
        assert ack.attempts[0].fate == "answered"
        assert scene.open() == 0
        await scene.exchange.until(lambda: len(scene.exchange.operations("pong")) == 1_000)
        assert len(scene.exchange.operations("stream")) == 1


async def test_a_flood_of_the_protocols_pings() -> None:
    """Row: ping flood. WebSocket's own pings are answered and hold nothing up either."""
    pongs: list[bytes] = []
    answered = asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        if "Upgrade" not in request.headers:
            return web.Response(status=404)
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await socket.send_bytes(b'{"m":"connected","type":"auth"}')
        async for message in socket:
            if message.type is web.WSMsgType.PONG:
                pongs.append(message.data)
                if len(pongs) == 500:
                    answered.set()
            elif (asked := json.loads(message.data))["op"] == "req":
                for _ in range(500):
                    await socket.ping(b"x" * 125)
                answer = {
                    "m": "order",
                    "ac": "CASH",
                    "action": "cancel-all",
                    "status": "Ack",
                    "info": {"id": asked["id"], "symbol": "", "timestamp": asked["args"]["time"]},
                }
                await socket.send_str(json.dumps(answer))
        return socket

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = "{}:{}".format(*runner.addresses[0][:2])
    venue = AscendEX(rest_url=f"http://{host}", stream_url=f"ws://{host}", account_group=0)
    try:
        async with (
            SessionPool(streams=QUICK_STREAMS) as pool,
            Client(Credentials("key", "secret"), venue=venue, pool=pool) as client,
        ):
            ack = await client.cancel_all("cash", via="stream")
            assert [attempt.fate for attempt in ack.attempts] == ["answered"]
            async with asyncio.timeout(5):
                await answered.wait()
    finally:
        await runner.cleanup()


async def test_a_peer_that_never_answers_a_close_of_a_cut_wire() -> None:
    """Row: never answers a close. In a black hole, leaving the client is bounded all the same."""
    async with asyncio.timeout(5):
        async with proxied() as scene:
            scene.proxy.black_hole()
            scene.exchange.faults.add(Ignore(), operation="close", times=None)


async def test_an_upgrade_that_is_never_answered() -> None:
    """Row: black hole, on the upgrade. REST is not held up by it, and the stream comes later."""
    async with proxied() as scene:
        scene.exchange.faults.add(Hang(), operation="stream")
        scene.exchange.faults.add(Answer(503), operation="stream")
        scene.exchange.streams[0].end(reset=False)
        await scene.exchange.until(lambda: scene.exchange.waiting)
        assert isinstance(await scene.client.cancel_all("cash"), Ack)
        assert isinstance(await scene.client.cancel_all("cash", via="both"), Ack)
        assert scene.open() == 0
        scene.exchange.release()
        await scene.subscribed(2)
