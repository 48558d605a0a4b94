"""The simulated streams: logins, updates, cancels, pings."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from masscancel.sim import HELD, AscendEXDialect, Script, SimulatedExchange
from masscancel.sim.ascendex_wire import signature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
from sim_stream_support import BTC, Desk, Talk

PERP = "BTC-PERP"


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
async def test_login_by_upgrade_headers(desk: Desk) -> None:
    """A good signature opens an authenticated session; a bad one refuses the upgrade."""
    talk = await desk.connect()
    assert [s.session.api_key for s in desk.exchange.streams] == ["key"]
    await talk.socket.close()
    await desk.exchange.until(lambda: not desk.exchange.streams)
    for headers in (
        desk.headers("v2/stream"),
        desk.headers() | {"x-auth-key": "other"},
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await desk.http.ws_connect(desk.url(), headers=headers)
        assert caught.value.status == 401
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await desk.http.ws_connect(desk.url().replace("/6/", "/7/"), headers=desk.headers())
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await desk.http.ws_connect(desk.exchange.stream_url + "/nowhere")
    assert caught.value.status == 404
    upgrades = desk.exchange.operations("stream")
    assert [(r.answer, r.status) for r in upgrades] == [
        ("upgraded", 101),
        ("answered", 401),
        ("answered", 401),
        ("answered", 401),
    ]


@pytest.mark.asyncio
async def test_login_by_message(desk: Desk) -> None:
    """Before the login nothing private is told; a bad login says why, and may be tried again."""
    talk = Talk(await desk.http.ws_connect(desk.url()))
    assert await talk.hear() == {"op": "connected", "type": "unauth"}
    refused = await talk.ask(op="sub", id="s", ch="order:cash")
    assert refused == {
        "m": "error",
        "id": "s",
        "code": 100009,
        "reason": "AUTHORIZATION_NEEDED",
        "info": "Authorization is required",
    }
    stamp, sig = desk.signed()
    bad = await talk.ask(op="auth", id="a", t=int(stamp), key="key", sig="wrong")
    assert bad == {"m": "auth", "id": "a", "code": 200001, "err": "Signature does not match"}
    assert (await talk.ask(op="auth", t=int(stamp), key=5, sig=sig))["code"] == 100009
    good = await talk.ask(op="auth", id="b", t=int(stamp), key="key", sig=sig)
    assert good == {"m": "auth", "id": "b", "code": 0}
    assert (await talk.ask(op="sub", id="s", ch="order:cash"))["code"] == 0
    assert [r.operation for r in desk.exchange.requests][1:] == [
        "subscribe",
        "auth",
        "auth",
        "auth",
        "subscribe",
    ]
    assert desk.exchange.requests[-1].method == "WS"


@pytest.mark.asyncio
async def test_order_updates_of_what_is_subscribed_to(desk: Desk) -> None:
    """Each change of an acknowledged order is told, by category or by account id, until unsub."""
    talk = await desk.connect()
    ids = desk.account.ids
    assert await talk.ask(op="sub", id="1", ch="order:cash") == {
        "m": "sub",
        "id": "1",
        "ch": "order:cash",
        "code": 0,
    }
    assert (await talk.ask(op="sub", ch=f"order:{ids['margin']}"))["code"] == 0
    desk.exchange.place(desk.account, "futures", PERP)
    order = desk.exchange.place(desk.account, "margin", BTC, price="7.50", quantity="2")
    update = await talk.hear()
    assert update == {
        "m": "order",
        "accountId": ids["margin"],
        "ac": "MARGIN",
        "data": {
            "s": BTC,
            "sn": order.sequence,
            "orderId": order.order_id,
            "st": "New",
            "sd": "Buy",
            "p": "7.50",
            "q": "2",
            "cfq": "0",
            "ap": "0",
            "ot": "Limit",
            "t": order.changed_ms,
            "err": "",
            "ei": "NULL_VAL",
            "sp": "",
            "fa": "USDT",
            "cf": "0",
        },
    }
    desk.exchange.engine.fill(order.order_id, now_ms=desk.exchange.now_ms)
    filled = (await talk.hear())["data"]
    assert (filled["st"], filled["cfq"], filled["ap"]) == ("Filled", "2", "7.50")
    gone = await talk.ask(op="unsub", id="2", ch="order:cash")
    assert gone == {"m": "unsub", "id": "2", "ch": "order:cash", "code": 0}
    desk.exchange.place(desk.account, "cash", BTC)
    assert (await talk.ask(op="ping"))["m"] == "pong"
    for bad in ("order:futures", "order:nobody", "depth:BTC/USDT", None):
        assert (await talk.ask(op="sub", ch=bad))["info"] == f"Invalid channel: {bad}"


@pytest.mark.asyncio
async def test_updates_come_by_themselves_when_they_fall_due(desk: Desk) -> None:
    """The loop's timer pushes an acknowledgement that lags, and so does a cancel that lags."""
    talk = await desk.connect()
    await talk.ask(op="sub", ch="order:cash")
    desk.exchange.place(desk.account, "cash", BTC, script=Script(ack_delay_ms=2))
    assert (await talk.hear())["data"]["st"] == "New"
    desk.exchange.engine.effect_delay_ms = 2
    await talk.cancel_all()
    assert [("action" in m, "data" in m) for m in [await talk.hear() for _ in range(3)]] == [
        (True, False),
        (False, True),
        (False, True),
    ]


@pytest.mark.asyncio
async def test_ready_acks_tell_of_acceptance_first() -> None:
    """With `ack: ready` in the login, `Ready` comes before `New`; the other greeting, too."""
    async with (
        SimulatedExchange(AscendEXDialect(greeting="m")) as exchange,
        aiohttp.ClientSession() as http,
    ):
        desk = Desk(exchange, http)
        talk = Talk(await http.ws_connect(desk.url()))
        assert await talk.hear() == {"m": "connected", "type": "unauth"}
        stamp, sig = desk.signed()
        login = await talk.ask(op="auth", t=int(stamp), key="key", sig=sig, ack="ready")
        assert login["ack"] == "ready"
        await talk.ask(op="sub", ch="order:cash")
        exchange.place(desk.account, "cash", BTC)
        assert [(await talk.hear())["data"]["st"] for _ in range(2)] == ["Ready", "New"]


@pytest.mark.asyncio
async def test_cancel_all_is_acknowledged_before_it_takes_effect(desk: Desk) -> None:
    """First the Ack, with the id echoed, then the update; un-acked orders are left alone."""
    talk = await desk.connect()
    await talk.ask(op="sub", ch="order:cash")
    late = desk.exchange.place(desk.account, "cash", BTC, script=Script(ack_delay_ms=HELD))
    before = int(time.time() * 1000)
    await talk.cancel_all("abc1", args={"symbol": BTC, "id": "other", "time": before})
    ack = await talk.hear()
    assert before <= ack["info"].pop("timestamp") <= time.time() * 1000
    assert ack == {
        "m": "order",
        "accountId": desk.account.ids["cash"],
        "ac": "CASH",
        "action": "cancel-all",
        "status": "Ack",
        "info": {"symbol": BTC, "orderType": "NULL_VAL", "id": "abc1", "orderId": ""},
    }
    assert (await talk.hear())["data"]["st"] == "Canceled"
    assert desk.left == 0
    desk.exchange.engine.acknowledge(late.order_id, now_ms=desk.exchange.now_ms)
    assert desk.left == 1
    await talk.say(op="req", action="cancel-all", account=desk.account.ids["cash"])
    assert (await talk.hear())["data"]["st"] == "New"
    assert (await talk.hear())["info"]["id"] == ""
    assert desk.left == 0
    received = desk.exchange.operations("cancel-all")
    assert [(r.executed, r.answer) for r in received] == [(True, "answered")] * 2


@pytest.mark.asyncio
async def test_a_bad_cancel_all_is_refused_in_the_shape_of_an_ack(desk: Desk) -> None:
    """`status` is `Err`, and code, reason and message are under `info`."""
    talk = await desk.connect()
    await talk.cancel_all("abc1", args={"symbol": "X"})
    refused = await talk.hear()
    assert refused["status"] == "Err"
    assert refused["info"] == {
        "symbol": "X",
        "reason": "SYMBOL_ERROR",
        "code": 100008,
        "id": "abc1",
        "message": "Invalid symbol: X",
    }
    await talk.cancel_all("-")
    assert (await talk.hear())["info"]["code"] == 300006
    await talk.cancel_all(args={"time": 1})
    assert (await talk.hear())["info"]["code"] == 100011
    assert desk.left == 1
    for message, code in (
        ({"op": "req", "id": "x", "action": "cancel-all"}, 100005),
        ({"op": "req", "action": "cancel-all", "account": "futures"}, 100005),
        ({"op": "req", "action": "dance", "account": "cash"}, 100005),
        ({"op": "req", "action": "cancel-all", "account": "cash", "args": 5}, 100005),
        ({"op": "sing"}, 100005),
    ):
        answer = await talk.ask(**message)
        assert (answer["m"], answer["code"]) == ("error", code)
    await talk.socket.send_bytes(b"{")
    assert (await talk.hear())["code"] == 150001
    assert desk.exchange.requests[-1].operation == ""
    viewer = desk.exchange.add_account("viewer", "secret", group=6, permissions=("view",))
    stamp = str(int(time.time() * 1000))
    sig = signature("secret", stamp, "stream")
    assert (await talk.ask(op="auth", t=stamp, key="viewer", sig=sig))["code"] == 0
    await talk.cancel_all()
    assert (await talk.hear())["info"]["code"] == 200015
    assert desk.exchange.push(b"{}", api_key=viewer.api_key) == 1
    assert desk.exchange.push(b"{}", api_key="key") == 0


@pytest.mark.asyncio
async def test_the_inner_id_can_be_the_one_that_is_echoed() -> None:
    """The documents leave open which id comes back."""
    async with (
        SimulatedExchange(AscendEXDialect(echo="args")) as exchange,
        aiohttp.ClientSession() as http,
    ):
        talk = await Desk(exchange, http).connect()
        await talk.cancel_all("outer", args={"id": "inner"})
        assert (await talk.hear())["info"]["id"] == "inner"


@pytest.mark.asyncio
async def test_open_orders_are_listed(desk: Desk) -> None:
    """All of an account, or of some symbols, with the short names of updates."""
    talk = await desk.connect()
    order = desk.exchange.place(desk.account, "cash", "ETH/USDT")

    async def listed(**args: str) -> Any:
        return await talk.ask(op="req", id="o", action="open-order", account="cash", args=args)

    everything = await listed()
    assert (everything["m"], everything["id"], everything["ac"]) == ("open-order", "o", "CASH")
    assert len(everything["data"]) == len((await listed(symbols="*"))["data"]) == 2
    assert len((await listed(symbols="BTC/USDT,ETH/USDT"))["data"]) == 2
    (row,) = (await listed(symbols="ETH/USDT"))["data"]
    assert (row["orderId"], row["s"], row["st"]) == (order.order_id, "ETH/USDT", "New")
    assert (await listed(symbols="ETH"))["code"] == 100008
    bad = await talk.ask(op="req", action="open-order", account="cash", args={"symbols": 5})
    assert bad["code"] == 100008
    assert (await talk.ask(op="req", action="futures-open-orders"))["code"] == 100005


@pytest.mark.asyncio
async def test_futures_have_a_stream_of_their_own(desk: Desk) -> None:
    """Version 2: fields at the top, REST names in the listing, code and id beside the Ack."""
    talk = await desk.connect("v2")
    assert (await talk.ask(op="sub", id="1", ch="futures-order"))["code"] == 0
    assert (await talk.ask(op="sub", ch="order:cash"))["code"] == 100005
    order = desk.exchange.place(desk.account, "futures", PERP)
    update = await talk.hear()
    assert (update["m"], update["a"]) == ("futures-order", desk.account.ids["futures"])
    assert (update["orderId"], update["st"], update["ac"]) == (order.order_id, "New", "FUTURES")
    listed = await talk.ask(op="req", id="2", action="futures-open-orders", args={"symbol": PERP})
    assert (listed["m"], listed["code"], listed["id"]) == ("futures-open-orders", 0, "2")
    assert listed["data"][0]["avgFilledPx"] == "0"
    cancel = {"op": "req", "action": "cancel-all", "ac": "futures", "id": "33"}
    bad = await talk.ask(**cancel, args={"symbol": BTC})
    assert bad["code"] == 300012
    assert bad["info"] == {
        "symbol": BTC,
        "reason": "INVALID_PRODUCT",
        "errorMsg": f"Invalid symbol: {BTC}",
    }
    ack = await talk.ask(**cancel)
    assert ack == {
        "m": "order",
        "action": "cancel-all",
        "ac": "FUTURES",
        "code": 0,
        "id": "33",
        "info": {"symbol": ""},
    }
    assert (await talk.hear())["st"] == "Canceled"
    assert (await talk.ask(op="req", action="cancel-all", ac="cash"))["code"] == 100005


@pytest.mark.asyncio
async def test_silent_clients_lose_health_and_are_dropped(desk: Desk) -> None:
    """Two pings in a row without a word from the client, and the session ends with a notice."""
    talk = await desk.connect()
    desk.exchange.ping_streams()
    assert await talk.hear() == {"m": "ping", "hp": 3}
    await talk.say(op="pong")
    await desk.exchange.until(lambda: desk.exchange.requests[-1].answer == "answered")
    for health in (3, 2):
        desk.exchange.ping_streams()
        assert await talk.hear() == {"m": "ping", "hp": health}
    desk.exchange.ping_streams()
    notice = await talk.hear()
    assert (notice["m"], notice["code"]) == ("disconnected", 100005)
    assert "missing pong" in notice["info"]
    assert await talk.hear() is None
    assert talk.socket.closed
    await desk.exchange.until(lambda: not desk.exchange.streams)


@pytest.mark.asyncio
async def test_a_clients_own_ping_keeps_the_venue_quiet(desk: Desk) -> None:
    """The pong has the venue's time; no ping comes for half a minute."""
    desk.exchange.skew_ms = 10_000
    talk = await desk.connect()
    pong = await talk.ask(op="ping")
    assert pong["ts"] > time.time() * 1000 + 5_000
    assert (pong["m"], pong["code"], pong["hp"]) == ("pong", 0, 3)
    for _ in range(5):
        desk.exchange.ping_streams()
    assert (await talk.ask(op="ping"))["m"] == "pong"


@pytest.mark.asyncio
async def test_pings_can_run_by_the_loops_timer() -> None:
    """With an interval, a client that says nothing is pinged twice and dropped, by itself."""
    async with (
        SimulatedExchange(ping_interval=0.001) as exchange,
        aiohttp.ClientSession() as http,
    ):
        talk = await Desk(exchange, http).connect()
        heard = [(await talk.hear())["m"] for _ in range(3)]
        assert heard == ["ping", "ping", "disconnected"]
        await exchange.until(lambda: not exchange.streams)
