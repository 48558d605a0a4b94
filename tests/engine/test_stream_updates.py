"""Order updates on the stream: who follows them, gaps, and the end."""

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from masscancel import InvalidRequest
from masscancel.models import Gap, OrderUpdate
from masscancel.sim import Action, Answer, Drop, Hang, Hold, Ignore, SimulatedExchange
from masscancel.transport.settings import StreamSettings
from stream_support import BTC, UPDATE, cancel, done, following, stream_of
from support import QUICK_STREAMS, SECRETS, streaming_client


@pytest.mark.asyncio
async def test_overflow_is_a_gap(exchange: SimulatedExchange) -> None:
    """A consumer that does not keep up loses updates and is told; another one loses none."""
    async with stream_of(exchange, streams=replace(QUICK_STREAMS, backlog=5)) as (account, client):
        quick = await following(exchange, client, account)
        slow = client.order_updates("cash")
        for _ in range(8):  # each is taken by one of them before the next comes
            order = exchange.place(account, "cash", BTC)
            update = await anext(quick)
            assert isinstance(update, OrderUpdate)
            assert update.order_id == order.order_id
        items = [await anext(slow) for _ in range(3)]
        assert isinstance(items[0], Gap)
        assert all(isinstance(item, OrderUpdate) for item in items[1:])
        assert items[-1] == update


@pytest.mark.asyncio
async def test_two_consumers_see_the_same(exchange: SimulatedExchange) -> None:
    """Every consumer gets every update."""
    async with stream_of(exchange) as (account, client):
        one = await following(exchange, client, account)
        two = client.order_updates("cash")
        ids = [exchange.place(account, "cash", BTC).order_id for _ in range(4)]
        for updates in (one, two):
            assert [getattr(await anext(updates), "order_id", None) for _ in ids] == ids
        assert len(exchange.operations("stream")) == 1
        assert len(exchange.operations("subscribe")) == 1


@pytest.mark.asyncio
async def test_categories_share_a_stream_by_its_url(exchange: SimulatedExchange) -> None:
    """Cash and margin on one, futures on another; each consumer sees its own category only."""
    async with stream_of(exchange, watch=("cash", "margin", "futures")) as (account, client):
        await exchange.until(lambda: done(exchange, "subscribe") == 3)
        margin = client.order_updates("margin")
        await client.cancel_all("cash", via="stream")
        exchange.place(account, "cash", BTC)
        order = exchange.place(account, "margin", BTC)
        update = await anext(aiter(margin))
        assert isinstance(update, OrderUpdate)
        assert update.order_id == order.order_id
    assert len(exchange.operations("stream")) == 2


@pytest.mark.asyncio
async def test_refused_subscription_is_told_each_time(exchange: SimulatedExchange) -> None:
    """A category that the account does not have: every consumer is told so."""
    account = exchange.add_account("k", "s", categories=("cash",))
    async with streaming_client(exchange, account) as client:
        for _ in range(2):
            with pytest.raises(InvalidRequest):
                async with asyncio.timeout(1):
                    await anext(aiter(client.order_updates("margin")))


@pytest.mark.asyncio
async def test_unasked_updates_do_not_spoil_a_category(exchange: SimulatedExchange) -> None:
    """An update of a category that nobody follows yet does not keep it from being subscribed."""
    async with stream_of(exchange) as (account, client):
        cash = await following(exchange, client, account)
        exchange.push(json.dumps(UPDATE | {"ac": "MARGIN"}).encode())
        exchange.place(account, "cash", BTC)
        await anext(cash)  # so the other has been read
        async with asyncio.timeout(1):
            margin = client.order_updates("margin")
            await exchange.until(lambda: done(exchange, "subscribe") == 2, timeout=1)
            exchange.place(account, "margin", BTC)
            assert isinstance(await anext(aiter(margin)), OrderUpdate)


@pytest.mark.asyncio
async def test_a_venue_in_trouble_is_not_hammered(exchange: SimulatedExchange) -> None:
    """Logins that fail again and again wait longer each time."""
    waits: list[float] = []

    def draw(longest: float) -> float:
        waits.append(longest)
        return 0.0

    streams = StreamSettings(jitter=draw)
    busy = json.dumps({"m": "auth", "id": "login", "code": 200002, "err": "too many"}).encode()
    for number in (1, 3, 5, 7):  # the upgrade with headers is refused, the one without is not
        exchange.faults.add(Answer(401), operation="stream", nth=number)
    exchange.faults.add(Answer(body=busy), operation="auth", times=None)
    async with stream_of(exchange, streams=streams) as (_, client):
        updates = client.order_updates("cash")
        await exchange.until(lambda: len(exchange.operations("auth")) >= 4)
        del updates
    assert waits[:3] == [0.1, 0.2, 0.4]


@pytest.mark.asyncio
async def test_leaving_ends_iterations_and_tasks(exchange: SimulatedExchange) -> None:
    """When the client is left, iterations end, and nothing of ours is running."""
    before = asyncio.all_tasks()
    async with stream_of(exchange) as (account, client):
        updates = await following(exchange, client, account)

        async def collect() -> list[Any]:
            return [item async for item in updates]

        collecting = asyncio.create_task(collect())
    assert all(isinstance(item, Gap) for item in await collecting)
    left = {t for t in asyncio.all_tasks() - before if "/sim/" not in str(t.get_coro())}
    assert not [t for t in left if "masscancel" in repr(t) and "sim" not in repr(t)]


@pytest.mark.asyncio
async def test_close_that_is_never_answered(exchange: SimulatedExchange) -> None:
    """A peer that never answers our close does not keep the client."""
    exchange.faults.add(Ignore(), operation="close", times=None)
    async with asyncio.timeout(5):
        async with stream_of(exchange) as (account, client):
            await following(exchange, client, account)
    await exchange.until(lambda: exchange.operations("close"))
    exchange.release("close")


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Hang(), Answer(503), Drop(), Answer(200, b"hello")])
async def test_upgrades_that_fail_at_first(exchange: SimulatedExchange, fault: Action) -> None:
    """Whatever becomes of an upgrade, another one follows."""
    exchange.faults.add(fault, operation="stream", times=1 if isinstance(fault, Hang) else 3)
    async with asyncio.timeout(8):
        async with stream_of(exchange) as (account, client):
            if isinstance(fault, Hang):
                updates = client.order_updates("cash")
                await exchange.until(lambda: exchange.waiting)
                exchange.release()
                del updates
            await following(exchange, client, account)


@pytest.mark.asyncio
async def test_cancel_waits_for_the_stream(exchange: SimulatedExchange) -> None:
    """A cancel on a stream that is not up yet leaves as soon as it is."""
    exchange.faults.add(Hold("login"), operation="stream")
    async with stream_of(exchange) as (account, client):
        calling = cancel(client)
        await exchange.until(lambda: "login" in exchange.waiting)
        assert not exchange.operations("cancel-all")
        exchange.release("login")
        await calling
        assert not exchange.open_orders(account, "cash")


@pytest.mark.asyncio
async def test_nothing_secret_is_logged(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """Logins, drops and refusals leave no secret in the log."""
    caplog.set_level("DEBUG", "masscancel")
    exchange.faults.add(Answer(401), operation="stream")
    exchange.faults.add(Drop(), operation="auth")
    async with stream_of(exchange) as (account, client):
        await following(exchange, client, account)
    for secret in SECRETS:
        assert secret not in caplog.text
