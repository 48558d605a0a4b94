"""Every venue: the proof that a scope is flat, and the gate."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from every_venue_support import QUICK, answered, every_market, every_scope, symbol_of
from flows_support import calls_of
from masscancel import Halted, NotFlat, OrderGate, Unproven
from masscancel.calls import Scope
from masscancel.sim import HELD, Answer, Drop, OnCancel, Script
from support import SWEEPS_OFTEN
from venues_support import SETTLE, Desk, Market, desk_of

STAYS = Script(on_cancel=OnCancel.IGNORE)
FILLS = Script(on_cancel=OnCancel.FILL)
LATE = Script(ack_delay_ms=HELD)


@pytest_asyncio.fixture
async def desk(market: Market) -> AsyncIterator[Desk]:
    """A client of a filled account; what stays listed there is swept again soon."""
    async with desk_of(market, options={"retry": QUICK, "proof": SWEEPS_OFTEN}) as opened:
        yield opened


# --- proof ----------------------------------------------------------------------------------------


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_late_order_is_swept(desk: Desk, scope: str) -> None:
    """One that is acknowledged after the first sweep is found, and swept."""
    symbol = symbol_of(desk.market, scope)
    late = desk.place(desk.market.symbols[0], LATE)

    async def surface() -> None:
        await desk.exchange.until(lambda: answered(desk, *desk.market.acting))
        swept_at = len(desk.exchange.requests)
        await desk.exchange.until(
            lambda: any(
                each.operation == "open-orders" and each.answer == "answered"
                for each in desk.exchange.requests[swept_at:]
            )
        )
        desk.exchange.engine.acknowledge(late.order_id, now_ms=desk.exchange.now_ms)

    surfacing = asyncio.create_task(surface())
    proof = await desk.client.cancel_all_and_confirm(desk.category, symbol, settle=SETTLE)
    await surfacing
    assert desk.open(symbol) == []
    assert proof.sweeps >= 2
    order = desk.exchange.engine.order(late.order_id)
    assert order is not None
    assert order.status.is_final


@every_market
@every_scope
@pytest.mark.asyncio
async def test_an_order_that_never_cancels(desk: Desk, scope: str) -> None:
    """Every type of it is in the residual, by its id, when the time is up."""
    symbol = symbol_of(desk.market, scope)
    stays = [
        desk.place(desk.market.symbols[0], STAYS, order_type=each) for each in desk.market.orders
    ]
    with pytest.raises(NotFlat) as caught:
        await desk.client.cancel_all_and_confirm(desk.category, symbol, timeout=0.3, settle=SETTLE)
    residual = {order.order_id for order in caught.value.residual}
    assert residual == {desk.id_of(order) for order in stays}
    assert caught.value.may_have_executed


@every_market
@every_scope
@pytest.mark.asyncio
async def test_effects_that_lag(desk: Desk, scope: str) -> None:
    """The proof waits for what the Ack does not say."""
    symbol = symbol_of(desk.market, scope)
    desk.exchange.engine.effect_delay_ms = 30
    proof = await desk.client.cancel_all_and_confirm(desk.category, symbol, settle=SETTLE)
    assert desk.open(symbol) == []
    assert proof.acks
    assert not proof.streamed


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_list_that_can_not_be_read(desk: Desk, scope: str) -> None:
    """Nothing is proven without it, whatever has been acknowledged."""
    symbol = symbol_of(desk.market, scope)
    desk.fault(Answer(503, b""), acting=False, times=None)
    with pytest.raises(Unproven):
        await desk.client.cancel_all_and_confirm(desk.category, symbol, timeout=0.1, settle=SETTLE)


@every_market
@every_scope
@pytest.mark.asyncio
async def test_fills_on_the_way_out(desk: Desk, scope: str) -> None:
    """What was listed, and then filled under the cancel, is reported as filled."""
    symbol = symbol_of(desk.market, scope)
    expected = {desk.id_of(order) for order in desk.open(symbol)}
    fills = desk.place(desk.market.symbols[0], FILLS)
    desk.exchange.engine.effect_delay_ms = HELD  # until the orders have been listed
    await desk.client.cancel_all(desk.category, symbol)
    await desk.client.open_orders(desk.category, symbol)
    once = len(answered(desk, "open-orders"))  # a sweep, which may list, and a listing

    async def let_go() -> None:
        await desk.exchange.until(lambda: len(answered(desk, "open-orders")) >= 2 * once)
        desk.exchange.engine.effect_delay_ms = 0

    letting = asyncio.create_task(let_go())
    proof = await desk.client.cancel_all_and_confirm(desk.category, symbol, settle=SETTLE)
    await letting
    assert proof.filled == (fills.order_id,)
    assert proof.cancelled is not None
    assert set(proof.cancelled) == expected
    assert desk.open(symbol) == []


@every_market
@every_scope
@pytest.mark.asyncio
async def test_the_gate(desk: Desk, scope: str) -> None:
    """It is shut at once, and what is under way through it is waited for, and swept."""
    symbol, gate = symbol_of(desk.market, scope), OrderGate()
    order = desk.place(desk.market.symbols[0], LATE)
    arriving = asyncio.Event()

    async def send() -> None:
        async with gate.order():
            await arriving.wait()

    sending = asyncio.create_task(send())
    await asyncio.sleep(0)
    proving = asyncio.create_task(
        desk.client.cancel_all_and_confirm(desk.category, symbol, settle=SETTLE, gate=gate)
    )
    await desk.exchange.until(lambda: len(answered(desk, "open-orders")) >= 3)
    assert gate.is_shut
    assert not proving.done()
    desk.exchange.engine.acknowledge(order.order_id, now_ms=desk.exchange.now_ms)
    arriving.set()
    await proving
    await sending
    assert desk.open(symbol) == []
    assert gate.is_shut
    gate.reopen()  # every attempt has been answered
    assert not gate.is_shut


@every_market
@pytest.mark.asyncio
async def test_the_gate_stays_shut_while_a_cancel_may_be_about(desk: Desk) -> None:
    """An attempt that was never answered may yet arrive, unless its nonce has been passed."""
    gate = OrderGate()
    desk.fault(Drop())
    await desk.client.cancel_all(desk.category, desk.market.symbols[0], gate=gate)
    (call, *_) = calls_of(desk.client.venue.cancel_all(Scope(desk.category), None))
    if call.nonces_per_second:
        gate.reopen()
        assert not gate.is_shut
        return
    with pytest.raises(Halted) as caught:
        gate.reopen()
    assert gate.is_shut
    assert (caught.value.until is not None) is desk.market.stamped
