"""Bitget over real sockets: what the exchange executed is the judge."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote

import pytest

from bitget_support import BTC, FUTURES, NOW
from masscancel import AuthenticationError, Client, Credentials, NotFlat, SessionPool
from masscancel.sim import (
    Answer,
    BitgetDialect,
    Moment,
    OnCancel,
    Request,
    Script,
    SimulatedExchange,
)
from masscancel.sim.bitget import signature
from masscancel.venues.bitget import Bitget

#: A key that may not list: it is not asked again, and says nothing of the kind of account.
DENIED: Final = Answer(400, b'{"code":"40014","msg":"Incorrect permissions"}')


@asynccontextmanager
async def desk(**options: Any) -> AsyncIterator[Any]:
    """An exchange, an account of it, and a function that makes a client, to be entered."""
    async with SimulatedExchange(BitgetDialect(**options)) as exchange, SessionPool(warm=0) as pool:
        account = exchange.add_account(extra={"passphrase": "phrase"})

        def client(phrase: str = "phrase", **settings: Any) -> Client[Bitget]:
            keys = Credentials(account.api_key, account.api_secret, passphrase=phrase)
            at = Bitget(rest_url=exchange.rest_url, **settings)
            return Client(keys, venue=at, pool=pool, categories=["spot"])

        yield exchange, account, client


def left(exchange: SimulatedExchange, account: Any, category: str = "spot") -> set[str]:
    """The types of order that are open."""
    return {order.order_type for order in exchange.open_orders(account, category)}


@pytest.mark.asyncio
@pytest.mark.parametrize("symbol", [None, BTC])
@pytest.mark.parametrize(
    ("unified", "types", "book", "stays"),
    [
        (False, ("limit", "tpsl", "plan"), "ordinary", {"tpsl", "plan"}),
        (False, ("limit", "tpsl", "plan"), "stop", {"limit"}),
        (True, ("limit", "tpsl", "trigger"), "ordinary", {"tpsl", "trigger"}),
        (True, ("limit", "tpsl", "trigger"), "stop", {"limit"}),
    ],
)
async def test_a_book_that_is_left_out_stays(
    symbol: str | None, unified: bool, types: tuple[str, ...], book: str, stays: set[str]
) -> None:
    """TP/SL too, at a venue whose cancel of a symbol reaches them; the proof is of the book."""
    async with desk(unified=unified, sweeps_tpsl=True) as (exchange, account, client):
        for order_type in types:
            exchange.place(account, "spot", BTC, order_type=order_type)
        async with client() as entered:
            assert entered.venue.unified is unified  # as entry has found out
            proof = await entered.cancel_all_and_confirm("spot", symbol, books=(book,), settle=0.02)
        assert (proof.books, len(proof.left_out)) == ((book,), 1)
        assert left(exchange, account) == stays


@pytest.mark.asyncio
@pytest.mark.parametrize("unified", [False, True])
async def test_a_cancel_goes_on_without_what_entry_could_not_have(unified: bool) -> None:
    """Neither API could be asked on entry: nothing else is asked before the cancels."""
    async with desk(unified=unified) as (exchange, account, client):
        exchange.place(account, "spot", BTC)
        exchange.place(account, "spot", BTC, order_type="trigger" if unified else "plan")
        exchange.faults.add(DENIED, operation="open-orders", times=None)
        async with client() as entered:
            assert entered.venue.unified is None
            exchange.faults.clear()
            ack = await entered.cancel_all("spot", BTC)
        assert ack.status != "nothing open"
        assert left(exchange, account) == set()


@pytest.mark.asyncio
async def test_a_proof_is_not_given_while_a_book_has_an_order() -> None:
    """A trailing stop that does not cancel is told, though all else is flat."""
    async with desk() as (exchange, account, client):
        stays = Script(on_cancel=OnCancel.IGNORE)
        exchange.place(account, FUTURES, BTC)
        exchange.place(account, FUTURES, BTC, order_type="track_plan", script=stays)
        async with client(unified=False) as entered:
            with pytest.raises(NotFlat) as caught:
                await entered.cancel_all_and_confirm(FUTURES, timeout=1.5, settle=0.02)
        assert [order.order_type for order in caught.value.residual] == ["track_plan"]


@pytest.mark.asyncio
@pytest.mark.parametrize("unified", [False, True])
async def test_an_order_that_is_filled_in_part_is_listed(unified: bool) -> None:
    """Classic futures list it under a state of its own."""
    async with desk(unified=unified) as (exchange, account, client):
        orders = [exchange.place(account, FUTURES, BTC) for _ in range(2)]
        exchange.engine.fill(orders[0].order_id, Decimal("0.25"), now_ms=exchange.now_ms)
        async with client(unified=unified) as entered:
            listed = {o.order_id: o.filled_quantity for o in await entered.open_orders(FUTURES)}
        assert listed == {orders[0].order_id: Decimal("0.25"), orders[1].order_id: Decimal(0)}


@pytest.mark.asyncio
async def test_a_wrong_passphrase_and_permissions() -> None:
    """A wrong third part is the venue's refusal; what a classic key may do, the venue tells."""
    async with desk() as (exchange, account, client):
        exchange.place(account, "spot", BTC)
        async with client(phrase="another", unified=False) as entered:
            with pytest.raises(AuthenticationError) as caught:
                await entered.cancel_all("spot")
            assert "another" not in str(caught.value)
        async with client(unified=False) as entered:
            assert await entered.can_cancel("spot") == "yes"
        assert left(exchange, account) == {"limit"}


# --- the simulator itself -------------------------------------------------------------------------

PATH: Final = "/api/v2/spot/trade/batch-cancel-order"
MANY: Final = [{"symbol": BTC, "orderId": str(number)} for number in range(51)]


def answer_of(method: str, target: str, body: Any = None, **changed: str) -> tuple[int, Any]:
    """The status of what the dialect answers to a request that is signed by hand, and its code."""
    dialect = BitgetDialect(symbols=[BTC])
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.add_account("a-key", "a-secret", extra={"passphrase": "phrase"})
    content = b"" if body is None else json.dumps(body).encode()
    headers = {
        "access-key": "a-key",
        "access-timestamp": str(NOW),
        "access-passphrase": "phrase",
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    text = f"{headers['access-timestamp']}{method}{unquote(target)}{content.decode()}"
    headers = {"access-sign": signature("a-secret", text)} | headers
    moment = Moment(now_ms=NOW)
    request = Request(method=method, raw_path=target, headers=headers, body=content, moment=moment)
    for route in dialect.routes():
        if (route.method, route.template) == (method, request.path):
            reply = route.handler(exchange.engine, request)
            return reply.status, json.loads(reply.body)["code"]
    return dialect.unknown(request).status, "40404"


@pytest.mark.parametrize(
    ("asked", "changed", "code"),
    [
        (("GET", "/api/v2/spot/trade/unfilled-orders?symbol=%42TCUSDT"), {}, "00000"),
        (("GET", "/api/v2/spot/trade/unfilled-orders?symbol=XBTUSD"), {}, "40034"),
        (("GET", "/api/v2/spot/trade/unfilled-orders"), {"access_sign": "AAAA"}, "40009"),
        (("GET", "/api/v2/spot/trade/unfilled-orders"), {"access_sign": ""}, "40003"),
        (("GET", "/api/v2/spot/trade/unfilled-orders"), {"access_passphrase": "no"}, "40012"),
        (("GET", "/api/v2/spot/trade/unfilled-orders"), {"access_key": "nobody"}, "40006"),
        (
            ("GET", "/api/v2/spot/trade/unfilled-orders"),
            {"access_timestamp": str(NOW - 30_001)},
            "40008",
        ),
        (
            ("GET", "/api/v2/spot/trade/unfilled-orders"),
            {"access_timestamp": str(NOW + 30_000)},
            "00000",
        ),
        (("GET", "/api/v3/trade/unfilled-orders?category=SPOT"), {}, "25245"),
        (("GET", "/api/v2/mix/order/orders-plan-pending?productType=USDT-FUTURES"), {}, "40019"),
        (("GET", "/api/v2/margin/crossed/open-orders?symbol=BTCUSDT"), {}, "40019"),
        (("POST", PATH, {"batchMode": "multiple", "orderList": MANY}), {}, "40058"),
        (("POST", PATH, {"orderList": MANY[:1]}), {}, "40019"),
        (
            (
                *("POST", "/api/v2/mix/order/cancel-plan-order"),
                {"productType": "USDT-FUTURES", "planType": "track_plan"},
            ),
            {},
            "40020",
        ),
        (("POST", "/api/v2/mix/order/cancel-all-orders", {"productType": "X"}), {}, "40020"),
        (("GET", "/api/v2/nothing"), {}, "40404"),
    ],
)
def test_the_simulator_checks_every_part(
    asked: tuple[Any, ...], changed: dict[str, str], code: str
) -> None:
    """Signature, time, passphrase, kind of account, and what each path needs at least."""
    status, found = answer_of(*asked, **changed)
    assert found == code
    assert (status == 200) is (code == "00000")
