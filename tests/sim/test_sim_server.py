"""The simulated exchange over real sockets: the server, its records, and AscendEX's REST side."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from masscancel.sim import (
    HELD,
    Account,
    AscendEXDialect,
    OnCancel,
    Script,
    SimulatedExchange,
    Status,
    What,
)
from masscancel.sim.ascendex_wire import signature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

BTC = "BTC/USDT"


class Caller:
    """A client that signs by hand: one account at one exchange."""

    def __init__(
        self, http: aiohttp.ClientSession, exchange: SimulatedExchange, account: Account
    ) -> None:
        self.http = http
        self.exchange = exchange
        self.account = account
        self.skew_ms = 0

    def headers(self, api_path: str) -> dict[str, str]:
        """Make the three headers."""
        stamp = str(int(time.time() * 1000) + self.skew_ms)
        return {
            "x-auth-key": self.account.api_key,
            "x-auth-timestamp": stamp,
            "x-auth-signature": signature(self.account.api_secret, stamp, api_path),
        }

    async def ask(
        self,
        method: str,
        path: str,
        api_path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a signed request and decode the answer."""
        async with self.http.request(
            method,
            self.exchange.rest_url + path,
            headers=self.headers(api_path),
            data=body if isinstance(body, bytes | None) else msgspec.json.encode(body),
            params=query,
            allow_redirects=False,
        ) as response:
            answer: dict[str, Any] = msgspec.json.decode(await response.read())
            return answer

    async def order(
        self, method: str, what: str, body: object = None, *, category: str = "cash", **query: str
    ) -> dict[str, Any]:
        """Send a signed request about orders; `what` follows `order`."""
        if category == "futures":
            path, api_path = "v2/futures/order", "v2/futures/order"
        else:
            path, api_path = f"v1/{category}/order", "order"
        path = f"/{self.account.group}/api/pro/{path}{what}"
        return await self.ask(method, path, api_path + what, body, query)


@pytest_asyncio.fixture
async def exchange() -> AsyncIterator[SimulatedExchange]:
    """Run an exchange; nothing that it started may be left behind."""
    async with SimulatedExchange() as running:
        yield running
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest_asyncio.fixture
async def caller(exchange: SimulatedExchange) -> AsyncIterator[Caller]:
    """Open an account in group 6, and a client for it."""
    account = exchange.add_account("key", "secret", group=6)
    async with aiohttp.ClientSession() as http:
        yield Caller(http, exchange, account)


@pytest.mark.asyncio
async def test_cancel_all_answers_with_the_documented_ack(
    exchange: SimulatedExchange, caller: Caller
) -> None:
    """The Ack echoes id and symbol and has the server's time; the orders of the scope are gone."""
    exchange.place(caller.account, "cash", BTC)
    exchange.place(caller.account, "cash", "ETH/USDT")
    exchange.place(caller.account, "margin", BTC)
    before = int(time.time() * 1000)
    answer = await caller.order("DELETE", "/all", {"symbol": BTC, "id": "request-1"})
    stamp = answer["data"]["info"].pop("timestamp")
    assert before <= stamp <= time.time() * 1000
    assert answer == {
        "code": 0,
        "data": {
            "ac": "CASH",
            "accountId": caller.account.ids["cash"],
            "action": "cancel-all",
            "info": {"id": "request-1", "orderId": "", "orderType": "NULL_VAL", "symbol": BTC},
            "status": "Ack",
        },
    }
    assert [o.symbol for o in exchange.open_orders(caller.account, "cash")] == ["ETH/USDT"]
    assert len(exchange.open_orders(caller.account, "margin")) == 1
    answer = await caller.order("DELETE", "/all", category="margin")
    assert answer["data"]["info"]["symbol"] == answer["data"]["info"]["id"] == ""
    assert exchange.open_orders(caller.account, "margin") == []
    assert [r.what for r in exchange.log].count(What.CANCELLED) == 2


@pytest.mark.asyncio
async def test_the_live_and_documented_shapes_can_be_chosen() -> None:
    """Live Acks have empty strings; a futures Ack has neither status nor time, or is bare."""
    for live in (False, True):
        dialect = AscendEXDialect(live_acks=live, documented_futures=not live)
        async with SimulatedExchange(dialect) as exchange, aiohttp.ClientSession() as http:
            caller = Caller(http, exchange, exchange.add_account())
            exchange.place(caller.account, "futures", "BTC-PERP")
            answer = await caller.order("DELETE", "/all")
            assert answer["data"]["info"]["orderType"] == ("" if live else "NULL_VAL")
            answer = await caller.order(
                "DELETE", "/all", {"symbol": "BTC-PERP"}, category="futures"
            )
            assert exchange.open_orders(caller.account, "futures") == []
            data = {
                "ac": "FUTURES",
                "accountId": caller.account.ids["futures"],
                "action": "cancel-all",
                "info": {"symbol": "BTC-PERP"},
            }
            assert answer == ({"code": 0, "data": data} if live else {"code": 0})


@pytest.mark.asyncio
async def test_orders_are_placed_listed_queried_and_cancelled(
    exchange: SimulatedExchange, caller: Caller
) -> None:
    """One order's whole life over REST."""
    placed = await caller.order(
        "POST",
        "",
        {
            "id": "my-order",
            "time": int(time.time() * 1000),
            "symbol": BTC,
            "orderPrice": "7289.10",
            "orderQty": "0.5",
            "orderType": "limit",
            "side": "sell",
            "respInst": "ACCEPT",
        },
    )
    assert placed["data"]["status"] == "ACCEPT"
    row = placed["data"]["info"]
    order_id = row["orderId"]
    assert (row["price"], row["orderQty"], row["side"]) == ("7289.10", "0.5", "Sell")
    assert (row["status"], row["orderType"], row["cumFilledQty"]) == ("New", "Limit", "0")
    listed = await caller.order("GET", "/open", symbol=BTC)
    assert listed == {
        "code": 0,
        "ac": "CASH",
        "accountId": caller.account.ids["cash"],
        "data": [row],
    }
    assert (await caller.order("GET", "/open", symbol="ETH/USDT"))["data"] == []
    one = await caller.order("GET", "/status", orderId=order_id)
    assert one["data"] == row
    many = await caller.order("GET", "/status", orderId=f"{order_id},unknown")
    assert many["data"] == [row]
    assert (await caller.order("GET", "/status", orderId="unknown"))["code"] == 300006
    ack = await caller.order("DELETE", "", {"orderId": order_id, "symbol": BTC, "id": "cc"})
    assert ack["data"]["info"]["orderId"] == order_id
    gone = await caller.order("GET", "/status", orderId=order_id)
    assert gone["data"]["status"] == "Canceled"
    again = await caller.order("DELETE", "", {"orderId": order_id, "symbol": BTC})
    assert (again["code"], again["message"]) == (300019, "Trying to cancel non-open order")
    assert (await caller.order("DELETE", "", {"symbol": BTC}))["code"] == 300006


@pytest.mark.asyncio
async def test_futures_rows_and_replies_have_their_own_form(caller: Caller) -> None:
    """Futures v2: `avgFilledPx`, `meta` and `order`, and no account beside the listing."""
    body = {"symbol": "BTC-PERP", "orderPrice": "9500", "orderQty": "0.1", "side": "buy"}
    placed = await caller.order("POST", "", body | {"orderType": "limit"}, category="futures")
    assert placed["data"]["meta"] == {"action": "place-order", "id": "", "respInst": "ACK"}
    order_id = placed["data"]["order"]["orderId"]
    listed = await caller.order("GET", "/open", category="futures")
    assert listed.keys() == {"code", "data"}
    assert listed["data"][0]["avgFilledPx"] == "0"
    assert "avgPx" not in listed["data"][0]
    one = await caller.order("GET", "/status", category="futures", orderId=order_id)
    assert one["ac"] == "FUTURES"
    cancel = {"orderId": order_id, "symbol": "BTC-PERP"}
    cancelled = await caller.order("DELETE", "", cancel, category="futures")
    assert cancelled["data"]["meta"]["action"] == "cancel-order"
    assert (await caller.order("GET", "/open", category="futures"))["data"] == []


@pytest.mark.asyncio
async def test_an_order_without_acknowledgement_is_not_shown(
    exchange: SimulatedExchange, caller: Caller
) -> None:
    """Placing answers with an Ack; listing, status and cancel do not know the order yet."""
    exchange.engine.default_script = Script(ack_delay_ms=HELD)
    body = {"symbol": BTC, "orderPrice": "1", "orderQty": "1", "side": "buy"}
    placed = await caller.order("POST", "", body | {"orderType": "limit", "respInst": "DONE"})
    assert placed["data"]["status"] == "Ack"
    order_id = placed["data"]["info"]["orderId"]
    assert (await caller.order("GET", "/open"))["data"] == []
    assert (await caller.order("GET", "/status", orderId=order_id))["code"] == 300006
    await caller.order("DELETE", "/all")
    exchange.engine.acknowledge(order_id, now_ms=exchange.now_ms)
    assert [o.order_id for o in exchange.open_orders(caller.account, "cash")] == [order_id]


@pytest.mark.asyncio
async def test_a_market_order_fills_at_once(caller: Caller) -> None:
    """`DONE` waits for the fill."""
    body = {"symbol": BTC, "orderQty": "1", "side": "buy", "orderType": "market"}
    done = await caller.order("POST", "", body | {"respInst": "DONE"})
    assert done["data"]["info"]["status"] == "Filled"
    assert done["data"]["info"]["avgPx"] == "1"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 150001),
        ([], 100004),
        ({"symbol": ""}, 100008),
        ({"symbol": "BTCUSDT"}, 100008),
        ({"id": "-"}, 300006),
        ({"time": 1}, 100011),
    ],
)
async def test_a_bad_cancel_all_is_refused_in_the_envelope(
    exchange: SimulatedExchange, caller: Caller, body: object, code: int
) -> None:
    """An error arrives with HTTP 200, and nothing is cancelled."""
    exchange.place(caller.account, "cash", BTC)
    answer = await caller.order("DELETE", "/all", body)
    assert answer.pop("message")
    assert answer.pop("reason")
    assert answer == {
        "code": code,
        "status": "Err",
        "action": "cancel-all",
        "ac": "CASH",
        "accountId": caller.account.ids["cash"],
    }
    assert exchange.requests[-1].status == 200
    assert len(exchange.open_orders(caller.account, "cash")) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"orderType": "stop"}, 300005),
        ({"side": "hold"}, 300003),
        ({"orderPrice": "0"}, 300001),
        ({"orderQty": "x"}, 300002),
        ({"symbol": "X"}, 100008),
    ],
)
async def test_a_bad_order_is_refused(caller: Caller, change: dict[str, str], code: int) -> None:
    """Each field has its code."""
    body = {
        "symbol": BTC,
        "orderPrice": "1",
        "orderQty": "1",
        "side": "buy",
        "orderType": "limit",
    }
    assert (await caller.order("POST", "", body | change))["code"] == code


@pytest.mark.asyncio
async def test_who_is_not_let_in(exchange: SimulatedExchange, caller: Caller) -> None:
    """Wrong secrets, groups, categories and permissions are refused; nothing is executed."""
    ask = caller.ask
    path = "/6/api/pro/v1/cash/order/all"
    assert (await ask("DELETE", path, "order"))["code"] == 200001
    assert (await ask("DELETE", path.replace("6", "7"), "order/all"))["code"] == 200003
    wrong = path.replace("cash", "futures")
    assert (await ask("DELETE", wrong, "order/all"))["code"] == 100006
    caller.account = exchange.add_account(categories=("cash",), permissions=("view",))
    assert (await caller.order("GET", "/open"))["data"] == []
    assert (await caller.order("GET", "/open", symbol="x"))["code"] == 100008
    assert (await caller.order("DELETE", "/all"))["code"] == 200015
    assert (await caller.order("GET", "/open", category="margin"))["code"] == 200004
    assert exchange.log == []


@pytest.mark.asyncio
@pytest.mark.parametrize("skew_ms", [-95_000, 95_000])
async def test_the_venues_clock_can_be_off(
    exchange: SimulatedExchange, caller: Caller, skew_ms: int
) -> None:
    """A stamp by our clock is refused, one by the venue's is accepted, and its clock shows it."""
    exchange.skew_ms = skew_ms
    assert (await caller.order("DELETE", "/all"))["code"] == 100011
    clock = (await caller.ask("GET", "/api/pro/v1/exchange-info", "", query={"requestTime": "0"}))[
        "data"
    ]
    assert abs(clock["requestReceiveAt"] - time.time() * 1000 - skew_ms) < 30_000
    assert clock["latency"] == clock["requestReceiveAt"]
    caller.skew_ms = skew_ms
    assert (await caller.order("DELETE", "/all"))["code"] == 0


@pytest.mark.asyncio
async def test_account_info_clock_and_limits(exchange: SimulatedExchange, caller: Caller) -> None:
    """The group comes from account info; v2 adds futures; clock and limits need no signature."""
    info = (await caller.ask("GET", "/api/pro/v1/info", "info"))["data"]
    assert info["accountGroup"] == 6
    assert info["cashAccount"] == [caller.account.ids["cash"]]
    assert "futuresAccount" not in info
    info = (await caller.ask("GET", "/api/pro/v2/account/info", "v2/account/info"))["data"]
    assert info["futuresAccount"] == [caller.account.ids["futures"]]
    refused = await caller.ask("GET", "/api/pro/v1/info", "order")
    assert (refused["code"], refused["action"]) == (200001, "info")
    assert (await caller.ask("GET", "/api/pro/v1/exchange-info", ""))["code"] == 100006
    limits = await caller.ask("GET", "/api/pro/v2/risk-limit-info", "")
    assert limits["data"]["ip"] == "127.0.0.1"
    assert limits["data"]["webSocket"]["status"]["isBanned"] is False
    assert (await caller.ask("GET", "/nowhere", ""))["reason"] == "INVALID_HTTP_INPUT"
    assert [r.operation for r in exchange.requests[-3:]] == ["clock", "limits", ""]
    assert exchange.requests[-1].status == 404


@pytest.mark.asyncio
async def test_requests_and_connections_are_recorded(
    exchange: SimulatedExchange, caller: Caller
) -> None:
    """The record holds what came and on which connection; its repr shows no secrets."""
    await caller.order("DELETE", "/all", {"id": "abc"})
    await caller.order("GET", "/open", symbol=BTC)
    first, second = exchange.requests
    assert exchange.operations("open-orders") == [second]
    assert exchange.operations() == [first, second]
    assert (first.method, first.operation, first.api_key) == ("DELETE", "cancel-all", "key")
    assert first.raw_path == "/6/api/pro/v1/cash/order/all"
    assert second.raw_path == "/6/api/pro/v1/cash/order/open?symbol=BTC/USDT"
    assert first.body == b'{"id":"abc"}'
    assert first.header("X-Auth-Key") == "key"
    assert first.header("nothing") is None
    assert (first.answer, first.status, first.executed) == ("answered", 200, True)
    assert first.connection == second.connection == exchange.connections_opened == 1
    assert exchange.connections == [1]
    assert exchange.drop_connections(reset=False) == 1
    await caller.order("GET", "/open")
    assert exchange.requests[-1].connection == exchange.connections_opened == 2
    assert exchange.connections == [2]
    assert "x-auth" not in repr(exchange.requests)
    assert "'key'" not in repr(exchange.requests)


@pytest.mark.asyncio
async def test_what_is_under_way_happens_by_itself(
    exchange: SimulatedExchange, caller: Caller
) -> None:
    """The loop's timer advances the engine when an event falls due, without any request."""
    done = asyncio.Event()
    exchange.engine.listen(lambda order: done.set() if order.status is Status.FILLED else None)
    script = Script(ack_delay_ms=20, fill_delay_ms=1, on_cancel=OnCancel.FILL)
    order = exchange.place(caller.account, "cash", BTC, script=script, price=Decimal(3))
    assert order.status is Status.PENDING
    async with asyncio.timeout(10):
        await done.wait()


@pytest.mark.asyncio
async def test_the_clock_can_be_injected() -> None:
    """Time is what the clock says: a cancel that lags takes effect when the test says so."""
    now = 1_700_000_000.0
    async with (
        SimulatedExchange(clock=lambda: now, effect_delay_ms=500) as exchange,
        aiohttp.ClientSession() as http,
    ):
        caller = Caller(http, exchange, exchange.add_account())
        caller.skew_ms = int(now * 1000) - int(time.time() * 1000)
        exchange.place(caller.account, "cash", BTC)
        answer = await caller.order("DELETE", "/all")
        assert answer["data"]["info"]["timestamp"] == now * 1000
        assert len(exchange.open_orders(caller.account, "cash")) == 1
        now += 0.5
        exchange.advance()
        assert exchange.engine.now_ms == 1_700_000_000_500
        assert exchange.open_orders(caller.account, "cash") == []
        assert exchange.log[-1].time_ms == 1_700_000_000_500


@pytest.mark.asyncio
async def test_only_listed_symbols_exist() -> None:
    """A dialect with a list of symbols refuses the others; its errors can have an HTTP status."""
    dialect = AscendEXDialect(symbols=[BTC], error_status=400)
    async with SimulatedExchange(dialect) as exchange, aiohttp.ClientSession() as http:
        caller = Caller(http, exchange, exchange.add_account())
        assert (await caller.order("DELETE", "/all", {"symbol": BTC}))["code"] == 0
        assert (await caller.order("DELETE", "/all", {"symbol": "XX/USDT"}))["code"] == 100008
        assert exchange.requests[-1].status == 400


@pytest.mark.asyncio
async def test_it_can_be_closed_twice_and_used_without_listening() -> None:
    """The book works without a socket; what is remembered of requests is bounded."""
    exchange = SimulatedExchange(history=2)
    account = exchange.add_account()
    exchange.place(account, "cash", BTC)
    assert len(exchange.open_orders(account, "cash")) == 1
    await exchange.close()
    async with exchange, aiohttp.ClientSession() as http:
        assert exchange.rest_url == f"http://127.0.0.1:{exchange.port}"
        assert exchange.stream_url == f"ws://127.0.0.1:{exchange.port}"
        for _ in range(10):
            async with http.get(exchange.rest_url) as response:
                assert response.status == 404
        assert len(exchange.requests) <= 4
    await exchange.close()
