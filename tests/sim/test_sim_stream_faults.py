"""The simulated streams' faults: what they can be made to do."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio

from masscancel.sim import (
    HELD,
    Action,
    Answer,
    Delay,
    Disconnected,
    Drop,
    DuplicateAck,
    EffectDelay,
    ForeignId,
    Hang,
    Hold,
    HugeBody,
    Ignore,
    LateAck,
    Redirect,
    SimulatedExchange,
    Skew,
    Truncate,
    Unsolicited,
    What,
    WithoutId,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
from sim_stream_support import BTC, Desk


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    """Run an exchange with one cash order; nothing that it started may be left behind."""
    async with SimulatedExchange() as exchange, aiohttp.ClientSession() as http:
        desk = Desk(exchange, http)
        exchange.place(desk.account, "cash", BTC)
        yield desk
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
@pytest.mark.parametrize("executed", [False, True])
async def test_a_cancel_all_can_be_silently_ignored(desk: Desk, *, executed: bool) -> None:
    """Nothing is answered; others are."""
    talk = await desk.connect()
    desk.exchange.faults.add(Ignore(executed=executed), operation="cancel-all")
    await talk.cancel_all()
    assert (await talk.ask(op="ping"))["m"] == "pong"
    assert desk.left == (0 if executed else 1)
    assert desk.exchange.operations("cancel-all")[0].answer == "Ignore"


@pytest.mark.asyncio
@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_websocket_drops_before_or_after_executing(
    desk: Desk, *, executed: bool, reset: bool
) -> None:
    """The connection ends without an Ack."""
    talk = await desk.connect()
    desk.exchange.faults.add(Drop(executed=executed, reset=reset), operation="cancel-all")
    await talk.cancel_all()
    assert await talk.hear() is None
    assert desk.left == (0 if executed else 1)
    await desk.exchange.until(lambda: not desk.exchange.streams)


@pytest.mark.asyncio
async def test_acks_without_id_with_a_foreign_one_and_twice(desk: Desk) -> None:
    """What a matcher of acks must live with."""
    talk = await desk.connect()

    async def ids(fault: Action, count: int) -> list[str]:
        desk.exchange.faults.add(fault, operation="cancel-all")
        await talk.cancel_all("abc1")
        return [(await talk.hear())["info"]["id"] for _ in range(count)]

    assert await ids(WithoutId(), 1) == [""]
    assert await ids(ForeignId("zz"), 1) == ["zz"]
    assert await ids(ForeignId("zz", then_own=True), 2) == ["zz", "abc1"]
    assert await ids(DuplicateAck(), 2) == ["abc1", "abc1"]
    assert await ids(Unsolicited(), 1) == ["abc1"]  # means nothing on a stream
    futures = await desk.connect("v2")
    desk.exchange.faults.add(ForeignId("zz"), operation="cancel-all")
    assert (await futures.ask(op="req", id="a1", action="cancel-all", ac="futures"))["id"] == "zz"


@pytest.mark.asyncio
async def test_late_and_held_acks_come_out_of_order(desk: Desk) -> None:
    """A late ack was executed long before; a held request is executed when released."""
    talk = await desk.connect()
    desk.exchange.faults.add(LateAck(), operation="cancel-all")
    await talk.cancel_all("first")
    await desk.exchange.until(lambda: desk.exchange.waiting)
    assert desk.left == 0
    desk.exchange.place(desk.account, "cash", BTC)
    desk.exchange.faults.add(Hold("held"), operation="cancel-all")
    await talk.cancel_all("second")
    await desk.exchange.until(lambda: "held" in desk.exchange.waiting)
    await talk.cancel_all("third", args={"symbol": "ETH/USDT"})
    assert (await talk.hear())["info"]["id"] == "third"
    assert desk.left == 1
    desk.exchange.release("held")
    assert (await talk.hear())["info"]["id"] == "second"
    assert desk.left == 0
    desk.exchange.release("ack")
    assert (await talk.hear())["info"]["id"] == "first"


@pytest.mark.asyncio
async def test_a_held_request_is_executed_after_its_websocket_has_gone(desk: Desk) -> None:
    """What was given up may be carried out later, as over REST."""
    talk = await desk.connect()
    desk.exchange.faults.add(Hold(), operation="cancel-all")
    await talk.cancel_all()
    await desk.exchange.until(lambda: desk.exchange.waiting)
    await talk.socket.close()
    await desk.exchange.until(lambda: not desk.exchange.streams)
    assert desk.left == 1
    desk.exchange.release()
    await desk.exchange.until(lambda: desk.exchange.operations("cancel-all")[0].executed)
    assert desk.left == 0


def tag_waits(exchange: SimulatedExchange, tag: str) -> bool:
    """Tell whether something waits under a tag."""
    return tag in exchange.waiting


@pytest.mark.asyncio
async def test_closing_ends_what_a_stream_keeps_waiting(desk: Desk) -> None:
    """Held requests, late acks and delays end with the exchange; the client gets a close frame."""
    talk = await desk.connect()
    for fault, tag in ((Hold(), ""), (LateAck(), "ack"), (Delay(3600), "delay")):
        desk.exchange.faults.add(fault, operation="cancel-all")
        await talk.cancel_all()
        await desk.exchange.until(partial(tag_waits, desk.exchange, tag))
    await desk.exchange.close()
    message = await talk.socket.receive()
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)


@pytest.mark.asyncio
async def test_modifiers_apply_to_messages(desk: Desk) -> None:
    """Another clock, and an Ack that nothing follows."""
    talk = await desk.connect()
    desk.exchange.faults.add(Skew(40_000), operation="cancel-all")
    desk.exchange.faults.add(EffectDelay(HELD), operation="cancel-all")
    now = int(time.time() * 1000)
    await talk.cancel_all(args={"time": now + 40_000})
    assert (await talk.hear())["info"]["timestamp"] > now + 30_000
    assert desk.left == 1
    assert desk.exchange.log[-1].what is What.CANCEL_ALL_RECEIVED


@pytest.mark.asyncio
async def test_the_venue_can_disconnect_answer_nonsense_or_flood(desk: Desk) -> None:
    """Its notice ends the session; any bytes can be pushed; an answer can be padded."""
    talk = await desk.connect()
    desk.exchange.faults.add(Answer(body=b'"nonsense"'), operation="ping")
    assert await talk.ask(op="ping") == "nonsense"
    desk.exchange.faults.add(HugeBody(2**17), operation="ping")
    assert (await talk.ask(op="ping"))["m"] == "pong"
    for _ in range(1000):
        assert desk.exchange.push(b'{"m":"ping","hp":3}') == 1
    assert [(await talk.hear())["m"] for _ in range(1000)] == ["ping"] * 1000
    desk.exchange.faults.add(Disconnected(), operation="ping")
    assert (await talk.ask(op="ping"))["m"] == "disconnected"
    assert await talk.hear() is None
    await desk.exchange.until(lambda: not desk.exchange.streams)
    assert desk.exchange.push(b"{}") == 0


@pytest.mark.asyncio
async def test_a_frozen_peer_neither_reads_nor_writes(desk: Desk) -> None:
    """After a `Hang` the session is deaf and dumb until it is released, which drops it."""
    talk = await desk.connect()
    await talk.ask(op="sub", ch="order:cash")
    desk.exchange.faults.add(Hang(tag="freeze"), operation="cancel-all")
    await talk.cancel_all()
    await desk.exchange.until(lambda: desk.exchange.waiting)
    desk.exchange.place(desk.account, "cash", BTC)
    await talk.say(op="ping")
    assert desk.exchange.release("freeze") == 1
    assert await talk.hear() is None
    assert [r.operation for r in desk.exchange.requests][-1] == "cancel-all"


@pytest.mark.asyncio
@pytest.mark.parametrize("keep", [None, 1])
@pytest.mark.parametrize("size", [10, 1000])
async def test_a_message_can_be_cut_in_the_middle(desk: Desk, keep: int | None, size: int) -> None:
    """The connection ends within a frame; what came of it is no message."""
    talk = await desk.connect()
    desk.exchange.faults.add(Truncate(keep), operation="subscribe")
    assert await talk.ask(op="sub", ch="order:cash", id="x" * size) is None


@pytest.mark.asyncio
async def test_order_updates_can_be_withheld(desk: Desk) -> None:
    """The Ack comes, the update does not; or the connection ends in its place."""
    talk = await desk.connect()
    await talk.ask(op="sub", ch="order:cash")
    withheld = desk.exchange.faults.add(Ignore(), operation="order-update", times=None)
    await talk.cancel_all()
    assert (await talk.hear())["status"] == "Ack"
    assert desk.left == 0
    assert (await talk.ask(op="ping"))["m"] == "pong"
    assert desk.exchange.faults.applied(withheld) == 1
    desk.exchange.faults.clear()
    desk.exchange.faults.add(Drop(), operation="order-update")
    desk.exchange.place(desk.account, "cash", BTC)
    assert await talk.hear() is None


@pytest.mark.asyncio
async def test_a_close_can_go_unanswered(desk: Desk) -> None:
    """The exchange keeps the connection until it closes itself."""
    desk.exchange.faults.add(Ignore(), operation="close")
    socket = await desk.http.ws_connect(desk.url(), timeout=aiohttp.ClientWSTimeout(ws_close=0))
    await socket.receive()
    closing = asyncio.create_task(socket.close())
    await desk.exchange.until(lambda: desk.exchange.waiting)
    assert desk.exchange.waiting == ["close"]
    assert desk.exchange.release("close") == 1
    await closing
    await desk.exchange.until(lambda: not desk.exchange.streams)


@pytest.mark.asyncio
async def test_any_ending_spoils_an_upgrade(desk: Desk) -> None:
    """Redirects, other answers and drops strike the upgrade as they do any request."""
    for fault in (Redirect("http://127.0.0.1:1/"), Answer(503)):
        desk.exchange.faults.add(fault, operation="stream")
        with pytest.raises(aiohttp.ClientError):
            await desk.http.ws_connect(desk.url(), headers=desk.headers())
    # twice, because aiohttp repeats a GET on a connection that it has used before
    desk.exchange.faults.add(Drop(executed=True), operation="stream", times=2)
    with pytest.raises(aiohttp.ClientConnectionError):
        await desk.http.ws_connect(desk.url(), headers=desk.headers())
    assert desk.exchange.streams == []


@pytest.mark.asyncio
async def test_a_client_that_never_reads_is_dropped() -> None:
    """The queue of a stream is bounded."""
    async with SimulatedExchange(backlog=3) as exchange, aiohttp.ClientSession() as http:
        talk = await Desk(exchange, http).connect()
        for _ in range(10):
            exchange.push(b"{}")
        while await talk.hear() is not None:
            pass
        await exchange.until(lambda: not exchange.streams)
