"""Binance over real sockets: what the exchange executed is the judge."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import pytest_asyncio

from masscancel import (
    AuthenticationError,
    Client,
    Credentials,
    InvalidRequest,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    SessionPool,
    Target,
    cancel_many,
)
from masscancel.calls import Flow, Scope, Stamp
from masscancel.sim import HELD, Account, Answer, Drop, EffectDelay, Script, SimulatedExchange, What
from masscancel.sim.binance import BinanceDialect
from masscancel.venues.binance import Binance
from masscancel.venues.toolkit import every

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from masscancel import Ack
from binance_support import BTC, ETH, order_of
from flows_support import Drive, value_of

T = TypeVar("T")
SCOPES = [("spot", BTC), ("spot", None), ("usdm", BTC), ("usdm", None)]


@pytest_asyncio.fixture
async def binance() -> AsyncIterator[SimulatedExchange]:
    """Both sides of the venue at one origin; their paths differ."""
    async with SimulatedExchange(BinanceDialect(symbols=[BTC, ETH, "币安人生USDT"])) as exchange:
        yield exchange


def account_of(exchange: SimulatedExchange, number: int = 0) -> Account:
    """An account with orders in both categories and, on futures, both books."""
    account = exchange.add_account(f"a-key-{number}", f"a-secret-{number}")
    for category in ("spot", "usdm"):
        for symbol in (BTC, BTC, ETH, "币安人生USDT"):
            exchange.place(account, category, symbol, price="7289.1", quantity="0.5")
    exchange.place(account, "usdm", BTC, side="sell", order_type="stop_market")
    exchange.place(account, "usdm", ETH, order_type="take_profit")
    exchange.place(account, "spot", ETH, order_type="stop_loss_limit")
    return account


def client_of(exchange: SimulatedExchange, account: Account, **options: Any) -> Client[Binance]:
    """A client of the account, whose pool opens no connection by itself."""
    return Client(
        Credentials(account.api_key, account.api_secret),
        venue=Binance(spot_url=exchange.rest_url, usdm_url=exchange.rest_url),
        **options,
    )


def left(exchange: SimulatedExchange, account: Account) -> set[tuple[str, str]]:
    """Category and symbol of what is open."""
    return {
        (category, order.symbol)
        for category in ("spot", "usdm")
        for order in exchange.open_orders(account, category)
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(("category", "symbol"), [*SCOPES, ("usdm", "币安人生USDT")])
async def test_cancels_exactly_the_scope(
    binance: SimulatedExchange, category: str, symbol: str | None
) -> None:
    """The right orders are gone, conditional ones too, and no others; then there is nothing."""
    account, bystander = account_of(binance), account_of(binance, 1)
    before = left(binance, account)
    async with client_of(binance, account) as client:
        ack = await client.cancel_all(category, symbol)
        assert left(binance, account) == {
            each for each in before if each[0] != category or symbol not in (None, each[1])
        }
        assert await client.open_orders(category, symbol) == []
        again = await client.cancel_all(category, symbol)
    assert left(binance, bystander) == before
    assert (ack.account_category, ack.symbol) == (category, symbol or "")
    assert ack.status == ("CANCELED" if category == "spot" else "done")
    assert {attempt.fate for attempt in ack.attempts} == {"answered"}
    if category == "spot" or symbol is None:  # of one symbol, futures say "done" all the same
        assert again.status == "nothing open"
    else:
        assert again.status == "done"


@pytest.mark.asyncio
async def test_futures_may_answer_flat_with_an_error_too() -> None:
    """Its documents do not say; a -2011 of either book, or of both, is an Ack."""
    async with SimulatedExchange(BinanceDialect(flat_is_an_error=True)) as exchange:
        account = exchange.add_account()
        exchange.place(account, "usdm", BTC)
        async with client_of(exchange, account) as client:
            first = await client.cancel_all("usdm", BTC)
            second = await client.cancel_all("usdm", BTC)
    assert (first.status, second.status) == ("done", "nothing open")


@pytest.mark.asyncio
async def test_lists_both_books(binance: SimulatedExchange) -> None:
    """The listing is the exchange's, by category and by symbol."""
    account = account_of(binance)
    async with client_of(binance, account) as client:
        spot = await client.open_orders("spot")
        usdm = await client.open_orders("usdm", BTC)
    assert [order.order_id for order in spot] == [
        order.order_id for order in binance.open_orders(account, "spot")
    ]
    assert [(o.order_id.startswith("algo:"), o.side, o.order_type) for o in usdm] == [
        (True, "sell", "STOP_MARKET"),
        (False, "buy", "LIMIT"),
        (False, "buy", "LIMIT"),
    ]
    assert (usdm[1].price, usdm[1].quantity) == (Decimal("7289.1"), Decimal("0.5"))


@pytest.mark.asyncio
async def test_one_fan_out_over_both_sides(binance: SimulatedExchange) -> None:
    """Accounts and categories together leave nothing."""
    accounts = [account_of(binance, number) for number in range(5)]
    async with SessionPool() as pool:
        clients = [client_of(binance, account, pool=pool) for account in accounts]
        for client in clients:
            await client.__aenter__()
        report = await cancel_many(Target.product(clients, ["spot", "usdm"]))
    report.raise_for_failures()
    assert not any(left(binance, account) for account in accounts)


@pytest.mark.asyncio
async def test_a_cancel_of_one_symbol_is_one_request_per_book(
    binance: SimulatedExchange,
) -> None:
    """No listing comes before it, and parameters are in the query."""
    account = account_of(binance)
    async with client_of(binance, account) as client:
        await client.cancel_all("spot", BTC)
        await client.cancel_all("usdm", BTC)
    sent = [r for r in binance.requests if r.operation != "clock"]
    assert sorted((r.method, r.raw_path.partition("?")[0], r.body) for r in sent) == [
        ("DELETE", "/api/v3/openOrders", b""),
        ("DELETE", "/fapi/v1/algoOpenOrders", b""),
        ("DELETE", "/fapi/v1/allOpenOrders", b""),
    ]


@pytest.mark.asyncio
async def test_orders_that_are_not_acknowledged_are_left(binance: SimulatedExchange) -> None:
    """As everywhere, a cancel-all does not reach what the venue has not taken in yet."""
    account = account_of(binance)
    late = binance.place(account, "usdm", BTC, script=Script(ack_delay_ms=HELD))
    async with client_of(binance, account) as client:
        await client.cancel_all("usdm", BTC)
    binance.engine.acknowledge(late.order_id, now_ms=binance.now_ms)
    assert [o.order_id for o in binance.open_orders(account, "usdm", BTC)] == [late.order_id]


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_the_effect_may_follow_the_ack(binance: SimulatedExchange, category: str) -> None:
    """An Ack is no proof: here the orders are still there when it comes."""
    account = account_of(binance)
    binance.faults.add(EffectDelay(HELD), operation="cancel-all", times=None)
    async with client_of(binance, account) as client:
        await client.cancel_all(category)
    assert (category, BTC) in left(binance, account)


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_a_wrong_secret_is_refused_once(binance: SimulatedExchange, category: str) -> None:
    """It is not tried again, nothing is cancelled, and no secret is told."""
    account = account_of(binance)
    before = left(binance, account)
    credentials = Credentials(account.api_key, "not-its-secret")
    venue = Binance(spot_url=binance.rest_url, usdm_url=binance.rest_url)
    async with Client(credentials, venue=venue) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.cancel_all(category)
    assert caught.value.code == -1022
    assert not caught.value.may_have_executed
    assert len(binance.operations("open-orders")) == (1 if category == "spot" else 2)
    assert left(binance, account) == before
    assert "not-its-secret" not in repr(caught.value)


@pytest.mark.asyncio
async def test_a_key_that_may_only_read_is_refused(binance: SimulatedExchange) -> None:
    """The venue does not say whether it is the key, the address or the permission."""
    account = binance.add_account(permissions=["view"])
    binance.place(account, "spot", BTC)
    async with client_of(binance, account) as client:
        assert len(await client.open_orders("spot")) == 1
        with pytest.raises(AuthenticationError, match="permissions"):
            await client.cancel_all("spot")
    assert left(binance, account) == {("spot", BTC)}


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_an_unknown_symbol_is_never_a_silent_success(
    binance: SimulatedExchange, category: str
) -> None:
    """The venue refuses it, to a cancel and to a listing."""
    account = account_of(binance)
    before = left(binance, account)
    async with client_of(binance, account) as client:
        for call in (client.cancel_all, client.open_orders):
            with pytest.raises(InvalidRequest, match="Invalid symbol") as caught:
                await call(category, "XBTUSD")
            assert not caught.value.may_have_executed
    assert left(binance, account) == before


@pytest.mark.asyncio
@pytest.mark.parametrize("skew_ms", [-95_000, 95_000])
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_clocks_that_are_apart(category: str, skew_ms: int) -> None:
    """A refused timestamp is answered with a measured one, either way."""
    async with SimulatedExchange(BinanceDialect(), skew_ms=skew_ms) as exchange:
        account = account_of(exchange)
        async with (
            SessionPool(warm=0) as pool,
            client_of(exchange, account, pool=pool) as client,
        ):
            ack = await client.cancel_all(category, BTC)
        assert (category, BTC) not in left(exchange, account)
    assert "refused" in {attempt.fate for attempt in ack.attempts}


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_a_lost_reply_is_asked_for_again(binance: SimulatedExchange, category: str) -> None:
    """The repeat finds nothing to cancel, which is success; both attempts are told."""
    account = account_of(binance)
    binance.faults.add(Drop(executed=True), operation="cancel-all")
    async with client_of(binance, account) as client:
        ack = await client.cancel_all(category, BTC)
    assert ack.status == ("nothing open" if category == "spot" else "done")
    assert "unknown" in {attempt.fate for attempt in ack.attempts}
    assert (category, BTC) not in left(binance, account)


@pytest.mark.asyncio
async def test_a_ban_that_outlasts_the_deadline_ends_the_call(
    binance: SimulatedExchange,
) -> None:
    """Nothing more is sent into a ban; the error says how long it lasts."""
    account = account_of(binance)
    until = int(time.time() * 1000) + 120_000
    body = f'{{"code":-1003,"msg":"Way too much request weight used; IP banned until {until}."}}'
    binance.faults.add(Answer(418, body.encode()), operation="cancel-all", times=None)
    async with client_of(binance, account) as client:
        with pytest.raises(RateLimited) as caught:
            await client.cancel_all("spot", BTC)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 60
    assert len(binance.operations("cancel-all")) == 1


@pytest.mark.asyncio
async def test_more_orders_than_a_small_reply_holds(binance: SimulatedExchange) -> None:
    """Spot repeats every order that it cancels."""
    account = binance.add_account()
    for _ in range(300):
        binance.place(account, "spot", BTC)
    async with client_of(binance, account) as client:
        ack = await client.cancel_all("spot", BTC)
    assert len(ack.raw) > 64 * 1024
    assert not left(binance, account)


class BothSides(Binance, frozen=True):
    """One cancel that reaches two hosts."""

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """The symbol on both sides, futures first."""
        sides = ("usdm", "spot")
        parts = [Binance.cancel_all(self, Scope(side, scope.symbol), request_id) for side in sides]
        acks: list[Ack] = every((yield parts))
        return acks[0]


@pytest.mark.asyncio
async def test_a_part_that_is_not_sent_hides_no_other(binance: SimulatedExchange) -> None:
    """One host can't be reached, the other has cancelled: that is no NotSent."""
    account = account_of(binance)
    venue = BothSides(spot_url=binance.rest_url, usdm_url="http://127.0.0.1:9")
    credentials = Credentials(account.api_key, account.api_secret)
    async with Client(credentials, venue=venue, categories=["spot"]) as client:
        with pytest.raises(OutcomeUnknown, match="a part was not sent") as caught:
            await client.cancel_all("spot", BTC, timeout=0.3)
    assert not isinstance(caught.value, NotSent)
    assert caught.value.may_have_executed
    assert "answered" in {attempt.fate for attempt in caught.value.attempts}
    assert ("spot", BTC) not in left(binance, account)


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_the_proof_covers_both_books(binance: SimulatedExchange, category: str) -> None:
    """A scope is flat when nothing is listed, conditional orders included."""
    account = account_of(binance)
    async with client_of(binance, account) as client:
        confirmation = await client.cancel_all_and_confirm(category, settle=0.001)
    assert confirmation.sweeps == 1
    assert {listed for listed, _ in left(binance, account)} == {"spot", "usdm"} - {category}


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_a_cancel_reaches_what_a_stale_listing_does_not_show(
    binance: SimulatedExchange, category: str
) -> None:
    """Listings may lag behind the matching engine; cancels of a symbol do not go by them."""
    account = account_of(binance)
    binance.engine.listing_lag_ms = 3_600_000
    async with client_of(binance, account) as client:
        assert await client.open_orders(category, BTC) == []
        ack = await client.cancel_all(category, BTC)
        binance.engine.listing_lag_ms = 0
        assert await client.open_orders(category, BTC) == []
    assert ack.status != "nothing open"


@pytest.mark.asyncio
async def test_a_cancel_of_a_book_may_be_held_back(binance: SimulatedExchange) -> None:
    """The exchange logs a cancel-all per book, of its orders only, and lets each go when told."""
    account = account_of(binance)
    binance.faults.add(EffectDelay(HELD), operation="cancel-all", times=None)
    async with client_of(binance, account) as client:
        await client.cancel_all("usdm", BTC)
        received = [each for each in binance.log if each.what is What.CANCEL_ALL_RECEIVED]
        books = [{binance.engine.order(i).order_type for i in r.order_ids} for r in received]  # type: ignore[union-attr]
        assert sorted(map(sorted, books)) == [["limit"], ["stop_market"]]
        assert ("usdm", BTC) in left(binance, account)
        binance.engine.take_effect(now_ms=binance.now_ms)
    assert ("usdm", BTC) not in left(binance, account)
    assert ("usdm", ETH) in left(binance, account)


@pytest.mark.asyncio
async def test_what_has_become_of_orders(binance: SimulatedExchange) -> None:
    """The exchange tells it of either book, and of no order of another symbol, book or account."""
    account, stranger = account_of(binance), account_of(binance, 1)
    venue = Binance(spot_url=binance.rest_url, usdm_url=binance.rest_url)
    limit, stop = (binance.place(account, "usdm", BTC, order_type=t) for t in ("limit", "stop"))
    theirs = binance.place(stranger, "usdm", BTC)
    binance.engine.fill(limit.order_id, now_ms=binance.now_ms)
    binance.engine.cancel(stop.order_id, now_ms=binance.now_ms)
    binance.advance()
    asked = [
        order_of(limit.order_id),
        order_of(limit.order_id, ETH),
        order_of(f"algo:{limit.order_id}"),
        order_of(f"algo:{stop.order_id}"),
        order_of(stop.order_id),
        order_of(theirs.order_id),
    ]
    states = [
        await performed(binance, account, venue.order_states("usdm", [order])) for order in asked
    ]
    found = [state.get(order.order_id) for state, order in zip(states, asked, strict=True)]
    assert found == ["filled", None, None, "cancelled", None, None]


async def performed(exchange: SimulatedExchange, account: Account, flow: Flow[T]) -> T:
    """Take a flow of one call to its end over a socket, without retries."""
    drive, replied = Drive(flow), asyncio.get_running_loop().create_future()
    (call,), stamp = drive.calls, Stamp(exchange.now_ms)
    request = call.sign(call, Credentials(account.api_key, account.api_secret), stamp)
    async with SessionPool(warm=0) as pool:
        connection = await pool.host(call.origin).dial(cancels=call.cancels)
        connection.send(request, max_reply=call.max_reply, on_end=replied.set_result)
        value: T = drive.round(value_of(call, await replied, stamp)).result()
    return value


@pytest.mark.asyncio
async def test_the_switch_fires_renews_and_disarms() -> None:
    """It cancels the ordinary orders of its symbol when it was not renewed in time."""
    now = time.time()
    async with SimulatedExchange(BinanceDialect(), clock=lambda: now) as exchange:
        account = account_of(exchange)
        venue = Binance(usdm_url=exchange.rest_url)

        async def arm(timeout_ms: int) -> int | None:
            return await performed(exchange, account, venue.switch(Scope("usdm", BTC), timeout_ms))

        def ordinary() -> int:
            orders = exchange.open_orders(account, "usdm", BTC)
            return sum(order.order_type == "limit" for order in orders)

        assert await arm(60_000) == exchange.now_ms + 60_000
        now += 50
        assert ordinary() == 2
        assert await arm(60_000) == exchange.now_ms + 60_000
        now += 50
        assert ordinary() == 2  # renewed
        assert await arm(0) is None
        now += 100
        assert ordinary() == 2  # disarmed
        await arm(60_000)
        now += 61
        assert ordinary() == 0
        assert ("usdm", ETH) in left(exchange, account)
        assert len(exchange.open_orders(account, "usdm", BTC)) == 1  # the conditional one


@pytest.mark.asyncio
async def test_accounts_on_one_address_are_cancelled_at_once(binance: SimulatedExchange) -> None:
    """The listings that cancels begin with may spend nearly all of an address's weight."""
    async with SessionPool() as pool, AsyncExitStack() as stack:
        accounts = [account_of(binance, number) for number in range(24)]  # 80 of 2,400 for each
        targets = [
            Target(await stack.enter_async_context(client_of(binance, each, pool=pool)), "usdm")
            for each in accounts
        ]
        report = await cancel_many(targets, timeout=5)
        assert report.all_ok
        for account in accounts:
            assert not binance.open_orders(account, "usdm")
