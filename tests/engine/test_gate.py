"""The order gate: shut at once, waited for, and opened only when no late cancel can kill orders."""

import asyncio
import time
from typing import Any

import pytest

from masscancel import (
    ConfigurationError,
    DeadlineExceeded,
    Halted,
    MassCancelError,
    PermissionDenied,
    ScopeError,
)
from masscancel.engine.gate import OrderGate
from masscancel.sim import Drop, Hang, Hold, SimulatedExchange
from support import DENIED, UNKNOWN_KEY, account_of, client_of

pytestmark = pytest.mark.asyncio


class Attempt:
    """An attempt to cancel, as a gate sees it."""

    def __init__(
        self, *, expires_at: float | None = None, expires_at_ms: int | None = None
    ) -> None:
        self.resolved = False
        self.expires_at = expires_at
        self.expires_at_ms = expires_at_ms


class Clock:
    """A gate's clock, in the test's hand."""

    now = 100.0

    def __call__(self) -> float:
        """The time that the test sets."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock for the gate."""
    return Clock()


async def test_open_gate_lets_orders_pass() -> None:
    """Orders are counted while they are inside, and when they have left."""
    gate = OrderGate()
    async with gate.order(), gate.order():
        assert (gate.under_way, gate.arrived, gate.is_shut) == (2, 0, False)
    assert (gate.under_way, gate.arrived) == (0, 2)


async def test_shut_gate_lets_none_pass() -> None:
    """Nothing of the block is run; those inside are not disturbed."""
    gate = OrderGate()
    async with gate.order():
        gate.shut()
        gate.shut()
        ran = False
        with pytest.raises(Halted):
            async with gate.order():
                ran = True
        assert not ran
        assert gate.under_way == 1
    assert gate.is_shut
    assert gate.arrived == 1


@pytest.mark.parametrize("problem", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
async def test_block_that_raises_has_arrived(problem: type[BaseException]) -> None:
    """Its order may be live: it counts, its listeners hear of it, and the exception passes."""
    gate = OrderGate()
    heard: list[int] = []
    gate.listen(lambda: heard.append(gate.under_way))
    with pytest.raises(problem):
        async with gate.order():
            raise problem
    assert (gate.under_way, gate.arrived, heard) == (0, 1, [0])


async def test_drained_waits_for_all() -> None:
    """It returns when the last block is left, and at once where there is none."""
    gate = OrderGate()
    await gate.drained(0.01)
    doors = [asyncio.Event(), asyncio.Event()]

    async def order(door: asyncio.Event) -> None:
        async with gate.order():
            await door.wait()

    orders = [asyncio.create_task(order(door)) for door in doors]
    await asyncio.sleep(0)
    gate.shut()
    draining = asyncio.create_task(gate.drained(10))
    doors[0].set()
    await orders[0]
    assert not draining.done()
    doors[1].set()
    await draining
    await orders[1]


async def test_drained_gives_up() -> None:
    """At its time limit it says how many are inside, and changes nothing."""
    gate = OrderGate()
    async with gate.order():
        with pytest.raises(DeadlineExceeded, match="1 order"):
            await gate.drained(0.001)
        with pytest.raises(TimeoutError):
            await gate.drained(0.001)
        assert not gate.is_shut
        assert gate.under_way == 1


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
async def test_drained_needs_time(timeout: float) -> None:
    """A time limit that is none is refused."""
    with pytest.raises(ConfigurationError):
        await OrderGate().drained(timeout)


async def test_reopen_lets_orders_pass_again() -> None:
    """Where nothing was sent, nothing has to be waited for; an open gate may be reopened."""
    gate = OrderGate()
    gate.reopen()
    gate.shut()
    gate.reopen()
    async with gate.order():
        assert not gate.is_shut


async def test_reopen_waits_for_orders_under_way() -> None:
    """While an order of before is inside, the gate stays shut."""
    gate = OrderGate()
    async with gate.order():
        gate.shut()
        with pytest.raises(Halted) as caught:
            gate.reopen()
        assert caught.value.until is None
        assert gate.is_shut
    gate.reopen()
    assert not gate.is_shut


async def test_reopen_waits_for_answers(clock: Clock) -> None:
    """Each attempt has to be resolved; until the last is, the gate stays shut."""
    gate = OrderGate(clock=clock)
    attempts = [Attempt(), Attempt(expires_at=130.0, expires_at_ms=5_000)]
    gate.shut()
    for attempt in attempts:
        gate.register(attempt)
    for attempt in attempts:
        with pytest.raises(Halted):
            gate.reopen()
        assert gate.is_shut
        attempt.resolved = True
    gate.reopen()
    assert not gate.is_shut


async def test_reopen_after_expiry(clock: Clock) -> None:
    """Past its expiry an attempt can't be carried out; `until` is when the last one expires."""
    gate = OrderGate(clock=clock)
    gate.shut()
    gate.register(Attempt(expires_at=130.0, expires_at_ms=31_000))
    gate.register(Attempt(expires_at=120.0, expires_at_ms=21_000))
    with pytest.raises(Halted) as caught:
        gate.reopen()
    assert caught.value.until == 31_000
    clock.now = 129.999
    with pytest.raises(Halted):
        gate.reopen()
    clock.now = 130.0
    gate.reopen()


async def test_until_is_unknown_where_any_expiry_is(clock: Clock) -> None:
    """An attempt that never expires has to be answered, and no time can be told."""
    gate = OrderGate(clock=clock)
    gate.shut()
    gate.register(Attempt(expires_at=120.0, expires_at_ms=21_000))
    endless = Attempt()
    gate.register(endless)
    clock.now = 1e9
    with pytest.raises(Halted) as caught:
        gate.reopen()
    assert caught.value.until is None
    endless.resolved = True
    gate.reopen()


async def test_unlisten() -> None:
    """Who does not listen any more hears nothing."""
    gate = OrderGate()
    heard: list[str] = []

    def listener() -> None:
        heard.append("left")

    unlisten = gate.listen(listener)
    unlisten()
    unlisten()
    async with gate.order():
        pass
    assert not heard


async def test_repr_says_how_it_stands() -> None:
    """Open or shut, and how many are inside."""
    gate = OrderGate()
    async with gate.order():
        gate.shut()
        assert repr(gate) == "OrderGate(shut, 1 orders under way)"


# --- what a cancel does with it -------------------------------------------------------------------


async def test_cancel_all_shuts_before_it_sends(exchange: SimulatedExchange) -> None:
    """The gate is shut from the very call on, and nothing but `reopen` opens it again."""
    account = account_of(exchange)
    gate = OrderGate()
    exchange.faults.add(Hold("held"), operation="cancel-all")
    async with client_of(exchange, account) as client:
        calling = asyncio.create_task(client.cancel_all("cash", gate=gate))
        await exchange.until(lambda: "held" in exchange.waiting)
        assert gate.is_shut
        with pytest.raises(Halted):
            gate.reopen()
        exchange.release("held")
        await calling
        assert gate.is_shut
        gate.reopen()


async def test_lost_reply_keeps_it_shut(exchange: SimulatedExchange, clock: Clock) -> None:
    """An attempt that may be executed later keeps the gate shut until it can't be any more."""
    account = account_of(exchange)
    gate = OrderGate(clock=clock)
    exchange.faults.add(Drop(), operation="cancel-all")
    async with client_of(exchange, account) as client:
        ack = await client.cancel_all("cash", gate=gate)
    lost, answered = ack.attempts
    assert (lost.fate, answered.fate) == ("unknown", "answered")
    with pytest.raises(Halted) as caught:
        gate.reopen()
    assert caught.value.until == lost.expires_at_ms
    clock.now = time.monotonic() + 29
    with pytest.raises(Halted):
        gate.reopen()
    clock.now += 62  # the window, and as much for a clock that has not been measured
    gate.reopen()


async def test_cancelled_call_keeps_it_shut(exchange: SimulatedExchange) -> None:
    """A call that is given up on while the venue holds its request does so, too."""
    account = account_of(exchange)
    gate = OrderGate()
    exchange.faults.add(Hold("held"), operation="cancel-all")
    async with client_of(exchange, account) as client:
        calling = asyncio.create_task(client.cancel_all("cash", gate=gate))
        await exchange.until(lambda: "held" in exchange.waiting)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        with pytest.raises(Halted):
            gate.reopen()
        order = exchange.place(account, "cash", "BTC/USDT")
        exchange.release("held")  # the venue executes it, and kills the new order
        await exchange.until(
            lambda: (
                order.order_id not in {o.order_id for o in exchange.open_orders(account, "cash")}
            )
        )


@pytest.mark.parametrize("fault", [DENIED, UNKNOWN_KEY])
async def test_refusal_resolves(exchange: SimulatedExchange, fault: Any) -> None:
    """What the venue refused will not be carried out; the gate stays shut, and may be reopened."""
    account = account_of(exchange)
    gate = OrderGate()
    exchange.faults.add(fault, operation="cancel-all")
    async with client_of(exchange, account) as client:
        with pytest.raises(MassCancelError):
            await client.cancel_all("cash", gate=gate)
    assert gate.is_shut
    gate.reopen()


async def test_bad_scope_shuts_all_the_same(exchange: SimulatedExchange) -> None:
    """A kill with a wrong scope still keeps orders from leaving."""
    account = account_of(exchange)
    gate = OrderGate()
    async with client_of(exchange, account) as client:
        with pytest.raises(ScopeError):
            await client.cancel_all("nonsense", gate=gate)
    assert gate.is_shut
    gate.reopen()


async def test_listings_are_no_attempts(exchange: SimulatedExchange) -> None:
    """A listing that hangs does not keep the gate shut: it can't kill anything."""
    account = account_of(exchange)
    gate = OrderGate()
    exchange.faults.add(Hang(), operation="open-orders", times=None)
    async with client_of(exchange, account) as client:
        with pytest.raises(MassCancelError):
            await client.cancel_all_and_confirm("cash", gate=gate, timeout=0.2, settle=0.01)
    gate.reopen()


async def test_refused_confirmation_shuts(exchange: SimulatedExchange) -> None:
    """Whatever becomes of a confirmation, its gate is shut."""
    account = account_of(exchange)
    gate = OrderGate()
    exchange.faults.add(DENIED, operation="cancel-all")
    async with client_of(exchange, account) as client:
        with pytest.raises(PermissionDenied):
            await client.cancel_all_and_confirm("cash", gate=gate)
    assert gate.is_shut
    with pytest.raises(Halted):
        async with gate.order():
            pass
