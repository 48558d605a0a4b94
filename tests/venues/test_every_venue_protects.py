"""Every venue: the exit, the dead man's switch, and many targets at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
import pytest_asyncio

from every_venue_support import QUICK, answered, every_market, every_scope, symbol_of
from masscancel import DeadMansSwitch, NotSent, ScopeError, cancel_many, cancel_on_exit
from masscancel.sim import Hold
from support import SWEEPS_OFTEN
from venues_support import MARKETS, SETTLE, Desk, Ledger, Market, desk_of


@pytest_asyncio.fixture
async def desk(market: Market) -> AsyncIterator[Desk]:
    """A client of a filled account; what stays listed there is swept again soon."""
    async with desk_of(market, options={"retry": QUICK, "proof": SWEEPS_OFTEN}) as opened:
        yield opened


@pytest.fixture
def settles_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listings of a proof that nobody gives a time for are close together."""
    for where in ("masscancel.protection.on_exit", "masscancel.protection.dead_man"):
        monkeypatch.setattr(f"{where}.cancel_many", partial(cancel_many, settle=SETTLE))


# --- protection -----------------------------------------------------------------------------------


@every_market
@every_scope
@pytest.mark.asyncio
async def test_cancel_on_exit(desk: Desk, scope: str, settles_soon: None) -> None:
    """An exception in the block: the scope is flat, and the exception goes on."""
    symbol = symbol_of(desk.market, scope)
    expected = {order.order_id for order in desk.open(symbol)}
    before = Ledger(desk.exchange)
    guard = cancel_on_exit(desk.target(symbol), signals=())
    with pytest.raises(ZeroDivisionError):
        async with guard:
            raise ZeroDivisionError
    assert before - Ledger(desk.exchange) == expected
    assert guard.report is not None
    assert guard.report.all_ok


def has_switch(market: Market, scope: str) -> bool:
    """Whether the venue has a dead man's switch of its own for the scope."""
    return market.abilities.switch in ("account" if scope == "whole" else "symbol", "both")


@every_market
@every_scope
@pytest.mark.asyncio
async def test_the_dead_mans_switch_fires(desk: Desk, scope: str, settles_soon: None) -> None:
    """Without a beat the scope is proven flat; the venue's own is used where it fits exactly."""
    symbol = symbol_of(desk.market, scope)
    expected = {order.order_id for order in desk.open(symbol)}
    before, loop, fired = Ledger(desk.exchange), asyncio.get_running_loop(), asyncio.Event()
    switch = DeadMansSwitch(
        desk.target(symbol),
        timeout=0.05,
        on_fire=lambda _: loop.call_soon_threadsafe(fired.set),
    )
    async with switch:
        assert switch.kind == ("native" if has_switch(desk.market, scope) else "emulated")
        async with asyncio.timeout(10):
            await fired.wait()
    assert switch.fired
    assert switch.report is not None
    assert switch.report.all_ok
    assert before - Ledger(desk.exchange) == expected
    assert len(answered(desk, "switch")) >= (2 if has_switch(desk.market, scope) else 0)


@every_market
@every_scope
@pytest.mark.asyncio
async def test_the_dead_mans_switch_is_disarmed(market: Market, scope: str) -> None:
    """After a good end nothing is cancelled, not even by the venue, much later."""
    ahead = 0.0
    async with desk_of(market, clock=lambda: time.time() + ahead) as desk:
        before = Ledger(desk.exchange)
        async with DeadMansSwitch(desk.target(symbol_of(market, scope)), timeout=30) as switch:
            assert switch.beat()
            await switch.disarm()
        assert not switch.fired
        ahead = 3600
        assert not before - Ledger(desk.exchange)
        assert not desk.acting()


def venue_ms(desk: Desk) -> int:
    """The time by the venue's own clock."""
    return desk.exchange.now_ms + desk.exchange.skew_ms


@every_market
@every_scope
@pytest.mark.asyncio
async def test_the_venues_own_switch(market: Market, scope: str) -> None:
    """It fires with nobody there; renewed it waits; another scope than its own is refused."""
    ahead = 0.0
    async with desk_of(market, clock=lambda: time.time() + ahead) as desk:
        before, symbol = Ledger(desk.exchange), symbol_of(market, scope)
        asked_on_entry = len(desk.exchange.requests)
        expected = {o.order_id for o in desk.open(symbol) if o.order_type not in market.apart}
        arm = partial(desk.client.set_switch, market.category, symbol)
        if not has_switch(market, scope):
            with pytest.raises(ScopeError):
                await arm(timeout_ms=60_000)
            assert len(desk.exchange.requests) == asked_on_entry
            return
        for _ in range(2):
            fires_at_ms = await arm(timeout_ms=60_000)
            assert fires_at_ms is not None
            assert abs(fires_at_ms - 60_000 - venue_ms(desk)) < 5000
            ahead += 40
            assert not before - Ledger(desk.exchange)
            desk.exchange.skew_ms -= 40_000  # the venue's clock is what it was
        ahead += 40
        assert before - Ledger(desk.exchange) == expected
        desk.place(market.symbols[0])
        ahead += 3600
        assert desk.open(market.symbols[0])  # it fires once


# --- many at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("down", "confirm"),
    [("ascendex", False), ("binance", False), ("kraken", True), ("okx", False)],
)
@pytest.mark.asyncio
async def test_all_venues_in_one_call_with_one_of_them_down(down: str, confirm: bool) -> None:
    """All scopes of those that are up are cancelled; of the other's, nothing was sent."""
    one_each = {market.name: market for market in MARKETS}.values()
    async with AsyncExitStack() as stack:
        desks = [await stack.enter_async_context(desk_of(market)) for market in one_each]
        before = [Ledger(desk.exchange) for desk in desks]
        for desk in desks:
            if desk.market.name == down:
                await desk.exchange.close()
        targets = [desk.target(each) for desk in desks for each in (None, desk.market.symbols[0])]
        report = await cancel_many(
            targets, timeout=3 if confirm else 1.5, confirm=confirm, settle=SETTLE
        )
        markets = [desk.market.name for desk in desks for _ in range(2)]
        for outcome, market in zip(report.outcomes, markets, strict=True):
            assert outcome.ok is (market != down), outcome
            if outcome.error is not None:
                causes = (outcome.error, outcome.error.__cause__)
                assert any(isinstance(cause, NotSent) for cause in causes)
                assert not outcome.error.may_have_executed
        for desk, ledger in zip(desks, before, strict=True):
            gone = ledger - Ledger(desk.exchange)
            assert len(gone) == (0 if desk.market.name == down else 2 * len(desk.market.orders))


@pytest.mark.parametrize(
    "market",
    [
        each
        for each in MARKETS
        if each.abilities.whole_account == "a call per symbol" and "whole" in each.lists_first
    ],
    ids=str,
)
@pytest.mark.asyncio
async def test_concurrency_bounds_requests_of_a_target_that_makes_many(desk: Desk) -> None:
    """Of a cancel per symbol and book, never more than ``concurrency`` are with the venue."""
    symbols = [f"S{number}USDT" for number in range(6)]
    desk.exchange.dialect.symbols = frozenset(symbols)  # type: ignore[attr-defined]  # of this one
    for order in desk.open():
        desk.exchange.engine.cancel(order.order_id, now_ms=desk.exchange.now_ms)
    desk.exchange.advance()
    for symbol in symbols:
        desk.place(symbol)
    desk.fault(Hold("all"), times=None)
    expected = len(symbols) * (2 if desk.market.apart else 1)

    def arrived(count: int) -> bool:
        return len(desk.acting()) >= count and len(desk.exchange.waiting) >= 3

    running = asyncio.create_task(cancel_many([desk.target()], concurrency=3))
    for count in range(3, expected + 1, 3):
        await desk.exchange.until(partial(arrived, count))
        assert (len(desk.acting()), len(desk.exchange.waiting)) == (count, 3)
        desk.exchange.release("all")
    report = await running
    assert report.all_ok
    assert desk.open() == []


@every_market
@pytest.mark.asyncio
async def test_one_place_is_enough(desk: Desk) -> None:
    """With a single place, every target is cancelled and proven, one request after the other."""
    targets = [desk.target(each) for each in (None, *desk.market.symbols)]
    report = await cancel_many(targets, concurrency=1, confirm=True, settle=SETTLE)
    assert report.all_ok
    assert desk.open() == []
