"""Bybit over real sockets: books, settle coins, pages, the cap of a call; what failed is named."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from masscancel import (
    Client,
    Credentials,
    NotFlat,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    VenueUnavailable,
)
from masscancel.sim import HELD, Answer, Drop, EffectDelay, Hang, SimulatedExchange
from masscancel.sim.bybit import BybitDialect, signature
from masscancel.sim.dialect import Moment
from masscancel.sim.dialect import Request as SimRequest
from masscancel.venues.bybit import Bybit
from venues_support import unlimited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from masscancel.calls import Limit
    from masscancel.sim import Account, Order

#: Tries once: no attempt follows in the last ``base`` seconds of a call.
ONCE = RetryPolicy(base=60.0)
SPOT_TYPES = ("limit", "stop", "tpsl", "oco", "bidirectional")


class Desk:
    """A client of an account, and the exchange that is the judge."""

    def __init__(
        self, exchange: SimulatedExchange, account: Account, client: Client[Bybit]
    ) -> None:
        self.exchange, self.account, self.client = exchange, account, client

    def place(self, category: str, *symbols: str, order_type: str = "limit") -> list[Order]:
        """Put orders into a book."""
        return [
            self.exchange.place(self.account, category, symbol, order_type=order_type)
            for symbol in symbols
        ]

    def left(self, category: str) -> set[tuple[str, str]]:
        """Symbol and type of what is open."""
        self.exchange.advance()
        found = self.exchange.open_orders(self.account, category)
        return {(order.symbol, order.order_type) for order in found}

    def asked(self, field: str) -> list[str]:
        """A field of the cancels that arrived, in order."""
        bodies = [json.loads(each.body) for each in self.exchange.operations("cancel-all")]
        return sorted(str(body.get(field)) for body in bodies)


class Minutes(Bybit, frozen=True, kw_only=True):
    """The rates of a second in a minute, which a test does not outlast."""

    def limits(self, origin: str) -> Sequence[Limit]:
        """As documented, but for the length."""
        return [replace(limit, seconds=60.0) for limit in super().limits(origin)]


@asynccontextmanager
async def desk_of(
    dialect: BybitDialect | None = None, *, real_rates: bool = False, **options: Any
) -> AsyncIterator[Desk]:
    """An entered client of an account that is flat."""
    async with SimulatedExchange(dialect or BybitDialect()) as exchange:
        account = exchange.add_account("a-key", "a-secret")
        venue = (Minutes if real_rates else Bybit)(rest_url=exchange.rest_url)
        client = Client(
            Credentials("a-key", "a-secret"),
            venue=venue,
            rates=None if real_rates else unlimited(venue),
            **options,
        )
        async with client:
            yield Desk(exchange, account, client)


# What is cancelled.


@pytest.mark.asyncio
@pytest.mark.parametrize("bare", [False, True])
async def test_every_book_of_spot(bare: bool) -> None:
    """Conditional orders too, each by its own filter; a symbol's cancel leaves another's alone."""
    async with desk_of(BybitDialect(bare=bare)) as desk:
        for order_type in SPOT_TYPES:
            desk.place("spot", "BTCUSDT", "ETHUSDT", order_type=order_type)
        ack = await desk.client.cancel_all("spot", "BTCUSDT")
        assert ack.status == ("accepted" if bare else "5 accepted")
        assert desk.left("spot") == {("ETHUSDT", order_type) for order_type in SPOT_TYPES}
        listed = await desk.client.open_orders("spot")
        assert {order.book for order in listed} == set(Bybit.abilities["spot"].books)
        await desk.client.cancel_all("spot")
        assert desk.left("spot") == set()


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "linear", "inverse", "option"])
async def test_protective_stops_can_be_kept(category: str) -> None:
    """What is left out is not touched, and a proof is about the rest."""
    symbol = {"spot": "BTCUSDT", "linear": "BTCPERP", "inverse": "BTCUSD"}.get(
        category, "BTC-26DEC25-100000-C"
    )
    async with desk_of() as desk:
        for order_type in ("limit", "stop"):
            desk.place(category, symbol, order_type=order_type)
        proof = await desk.client.cancel_all_and_confirm(category, books=("ordinary",), settle=0.02)
        assert (proof.books, desk.left(category)) == (("ordinary",), {(symbol, "stop")})
        assert [o.book for o in await desk.client.open_orders(category)] == ["stop"]


@pytest.mark.asyncio
async def test_every_settle_coin() -> None:
    """Of linear USDT, USDC, and what the list of instruments has beside them on entry."""
    async with SimulatedExchange(BybitDialect()) as exchange:
        account = exchange.add_account("a-key", "a-secret")
        for symbol in ("BTCUSDT", "BTCPERP", "BTC-26DEC25", "BTCUSDE"):
            exchange.place(account, "linear", symbol)
        credentials, venue = Credentials("a-key", "a-secret"), Bybit(rest_url=exchange.rest_url)
        async with Client(credentials, venue=venue, categories=["linear"]) as client:
            assert len(await client.open_orders("linear")) == 4
            ack = await client.cancel_all("linear")
            assert ack.status == "4 accepted"
        exchange.advance()
        assert exchange.open_orders(account, "linear") == []


# Pages and caps.


@pytest.mark.asyncio
async def test_500_a_call() -> None:
    """Which 500 is up to the venue: a call is repeated until it names fewer."""
    async with desk_of() as desk:
        desk.place("linear", *["BTCUSDT"] * 1203)
        ack = await desk.client.cancel_all("linear", "BTCUSDT")
        assert (ack.status, len(desk.asked("symbol"))) == ("1203 accepted", 3)
        assert desk.left("linear") == set()


@pytest.mark.asyncio
async def test_an_ack_says_if_more_may_be_open() -> None:
    """Where the same 500 are named again, nothing is known of others; a proof goes on."""
    async with desk_of() as desk:
        desk.place("linear", *["BTCUSDT"] * 700)
        desk.exchange.faults.add(EffectDelay(HELD), operation="cancel-all", times=None)
        ack = await desk.client.cancel_all("linear")
        assert ack.status == "500 accepted, 500 a call: more may be open"
        assert desk.asked("settleCoin") == ["USDC", "USDT", "USDT"]
        desk.exchange.faults.clear()
        proof = await desk.client.cancel_all_and_confirm("linear", settle=0.02)
        assert proof.sweeps
        assert desk.left("linear") == set()


@pytest.mark.asyncio
async def test_pages_of_inverse() -> None:
    """A page is cancelled beside the listing of the next, whose cursor may name what is gone."""
    symbols = [f"A{number}USD" for number in range(130)]
    async with desk_of() as desk:
        desk.place("inverse", *symbols, *symbols)
        assert len(await desk.client.open_orders("inverse")) == 260
        await desk.client.cancel_all("inverse")
        assert desk.left("inverse") == set()
        assert desk.asked("symbol") == sorted(symbols)


@pytest.mark.asyncio
async def test_a_sick_page() -> None:
    """What the others show is cancelled, and listed again; the error says that more may be open."""
    async with desk_of(retry=ONCE) as desk:
        desk.place("inverse", *["ETHUSD"] * 60, *["BTCUSD"] * 60)
        desk.exchange.faults.add(Answer(503), path="cursor=", times=None)
        with pytest.raises(VenueUnavailable) as caught:
            await desk.client.cancel_all("inverse")
        assert "orders that could not be listed" in str(caught.value.__notes__)
        assert desk.left("inverse") == set()
        desk.place("inverse", *["ETHUSD"] * 60)
        with pytest.raises(VenueUnavailable):
            await desk.client.open_orders("inverse")


# What fails.


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("category", "sick", "types"),
    [("spot", "OcoOrder", SPOT_TYPES), ("linear", "USDC", ("limit", "stop"))],
)
@pytest.mark.parametrize("trouble", ["hangs", "fails", "lies", "refused", "is lost"])
async def test_a_sick_book_costs_the_others_nothing(
    category: str, sick: str, types: tuple[str, ...], trouble: str
) -> None:
    """All but the orders of one book or coin are gone, and it is named."""
    symbols = ("BTCUSDT", "BTCPERP") if category == "linear" else ("BTCUSDT",)
    actions: dict[str, tuple[Any, type[Exception]]] = {
        "hangs": (Hang(), OutcomeUnknown),
        "fails": (Answer(200, b'{"retCode":10016,"retMsg":"Server error."}'), VenueUnavailable),
        "lies": (Answer(200, b'{"retCode":0,"result":{}}'), ProtocolError),
        "refused": (Answer(200, b'{"retCode":10005,"retMsg":"no"}'), PermissionDenied),
        "is lost": (Drop(), OutcomeUnknown),
    }
    action, error = actions[trouble]
    async with desk_of(retry=ONCE) as desk:
        for order_type in types:
            desk.place(category, *symbols, order_type=order_type)
        desk.exchange.faults.add(action, body=sick, times=None)
        with pytest.raises(error) as caught:
            await desk.client.cancel_all(category, timeout=0.4)
        assert f"not acknowledged: {sick}" in caught.value.__notes__
        kept = {("BTCUSDT", "oco")} if category == "spot" else {("BTCPERP", each) for each in types}
        assert desk.left(category) == kept


@pytest.mark.asyncio
async def test_no_proof_while_a_coin_has_an_order() -> None:
    """Though all that USDT has is gone."""
    async with desk_of() as desk:
        desk.place("linear", "BTCUSDT", "BTCPERP")
        desk.exchange.faults.add(Answer(503), body="USDC", times=None)
        with pytest.raises(NotFlat) as caught:
            await desk.client.cancel_all_and_confirm("linear", timeout=0.4, settle=0.02)
        assert [order.symbol for order in caught.value.residual] == ["BTCPERP"]


@pytest.mark.asyncio
async def test_the_documented_rates_are_kept() -> None:
    """Twenty cancels of spot in a second are all that the venue takes, and all that are sent."""
    async with desk_of(BybitDialect(limited=True), real_rates=True) as desk:
        for _ in range(4):
            await desk.client.cancel_all("spot", "BTCUSDT")
        with pytest.raises(RateLimited):
            await desk.client.cancel_all("spot", "BTCUSDT", timeout=5.0)
        assert len(desk.asked("category")) == 20


@pytest.mark.asyncio
async def test_whether_a_key_can_cancel() -> None:
    """The venue tells; nothing is cancelled for it."""
    async with desk_of() as desk:
        desk.exchange.add_account("reads", "a-secret", permissions=["view"])
        assert await desk.client.can_cancel("linear") == "yes"
        credentials = Credentials("reads", "a-secret")
        async with Client(credentials, venue=desk.client.venue) as reads:
            assert await reads.can_cancel("spot") == "no"
            with pytest.raises(PermissionDenied):
                await reads.cancel_all("spot")
        assert not desk.exchange.operations("cancel-all")[5:]


# The simulator itself.

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 0),
        ({"body": b'{"category":"linear"}'}, 10001),
        ({"body": b'{"category":"inverse"}'}, 10001),
        ({"body": b'{"category":"cash"}'}, 10001),
        ({"body": b'{"category":"spot","orderFilter":"tpslorder"}'}, 170201),
        ({"body": b'{"category":"spot","symbol":"XBTUSD"}'}, 170121),
        ({"body": b"category=spot"}, 10001),
        ({"secret": "another"}, 10004),
        ({"key": "nobody"}, 10003),
        ({"time": NOW + 999}, 0),
        ({"time": NOW + 1_000}, 10002),
        ({"time": NOW - 5_000}, 0),
        ({"time": NOW - 5_001}, 10002),
        ({"time": NOW - 5_001, "window": "9000"}, 0),
    ],
)
def test_the_simulator_checks_every_part(change: dict[str, Any], code: int) -> None:
    """Time, window, signature over the bytes as sent, scope and filter."""
    dialect = BybitDialect(symbols=["BTCUSDT"])
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.add_account("a-key", "a-secret")
    parts = {
        "key": "a-key",
        "time": NOW,
        "window": "5000",
        "body": b'{"category":"spot"}',
        **change,
    }
    text = f"{parts['time']}{parts['key']}{parts['window']}{parts['body'].decode()}"
    headers = {
        "x-bapi-api-key": parts["key"],
        "x-bapi-timestamp": str(parts["time"]),
        "x-bapi-recv-window": parts["window"],
        "x-bapi-sign": signature(parts.get("secret", "a-secret"), text),
        "content-type": "application/json",
    }
    request = SimRequest(
        method="POST",
        raw_path="/v5/order/cancel-all",
        headers=headers,
        body=parts["body"],
        moment=Moment(now_ms=NOW),
    )
    (route,) = [each for each in dialect.routes() if each.template == request.path]
    assert json.loads(route.handler(exchange.engine, request).body)["retCode"] == code
