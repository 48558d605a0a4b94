"""The proof and its limits: gates, times, refusals, storms, many at once."""

import asyncio
import contextlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masscancel import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    MassCancelError,
    NotFlat,
    PermissionDenied,
    RateLimited,
    RetryPolicy,
    ScopeError,
    Target,
    Unproven,
    cancel_many,
)
from masscancel.engine.gate import OrderGate
from masscancel.sim import HELD, Action, Answer, Drop, Hold, OnCancel, Script, SimulatedExchange
from prove_support import BTC, REFUSED, SETTLE, STAYS, answered, open_ids, trader
from support import (
    DENIED,
    SWEEPS_OFTEN,
    UNKNOWN_KEY,
    account_of,
    client_of,
    cold_pool,
)

pytestmark = pytest.mark.asyncio


async def test_gate_is_shut_at_once_and_waited_for(exchange: SimulatedExchange) -> None:
    """No proof while an order is on its way through the gate; it is swept when it has arrived."""
    account = account_of(exchange)
    gate = OrderGate()
    order = exchange.place(account, "cash", BTC, script=Script(ack_delay_ms=HELD))
    arriving = asyncio.Event()

    async def send() -> None:
        async with gate.order():
            await arriving.wait()

    async with trader(exchange, account) as client:
        sending = asyncio.create_task(send())
        await asyncio.sleep(0)
        proving = asyncio.create_task(
            client.cancel_all_and_confirm("cash", settle=SETTLE, gate=gate)
        )
        await exchange.until(lambda: len(answered(exchange, "open-orders")) >= 4)
        assert gate.is_shut
        assert not proving.done()
        exchange.engine.acknowledge(order.order_id, now_ms=exchange.now_ms)
        arriving.set()
        proof = await proving
        await sending
    assert proof.sweeps == 2
    assert not open_ids(exchange, account)
    assert gate.is_shut
    gate.reopen()


async def test_gate_that_is_never_left(exchange: SimulatedExchange) -> None:
    """An order that stays on its way allows no proof."""
    account = account_of(exchange)
    gate = OrderGate()
    async with trader(exchange, account) as client, gate.order():
        with pytest.raises(DeadlineExceeded):
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.3, gate=gate)


async def test_without_settle_a_gate_makes_no_storm_of_listings(
    exchange: SimulatedExchange,
) -> None:
    """With nothing to settle, listings have a pause between them while orders are under way."""
    account = account_of(exchange)
    gate = OrderGate()
    async with trader(exchange, account) as client, gate.order():
        with pytest.raises(MassCancelError):
            await client.cancel_all_and_confirm("cash", settle=0, timeout=0.5, gate=gate)
    assert len(exchange.operations("open-orders")) < 20


@settings(max_examples=12)
@given(settle_ms=st.integers(0, 60), late_ms=st.none() | st.integers(0, 60))
async def test_settle_is_respected(settle_ms: int, late_ms: int | None) -> None:
    """As the exchange saw them, the last two listings were at least ``settle`` apart."""
    async with SimulatedExchange() as exchange:
        account = account_of(exchange)
        if late_ms is not None:
            exchange.place(account, "cash", BTC, script=Script(ack_delay_ms=late_ms))
        async with trader(exchange, account) as client:
            await client.cancel_all_and_confirm("cash", settle=settle_ms / 1000)
        first, second = exchange.operations("open-orders")[-2:]
        assert second.at - first.at >= settle_ms / 1000 - 0.001  # two clocks are compared
        if late_ms is None or late_ms < settle_ms:
            assert not open_ids(exchange, account)


@pytest.mark.parametrize("settle", [1.0, 2.0, -0.1, float("nan"), float("inf"), "1", True])
async def test_settle_that_cannot_work(exchange: SimulatedExchange, settle: Any) -> None:
    """A settle that leaves no time for a proof, or is none at all, is refused before any send."""
    account = account_of(exchange)
    async with trader(exchange, account) as client:
        with pytest.raises(ConfigurationError):
            await client.cancel_all_and_confirm("cash", timeout=1.0, settle=settle)
        with pytest.raises(ConfigurationError):
            await cancel_many([Target(client, "cash")], timeout=1.0, confirm=True, settle=settle)
    assert not exchange.operations("cancel-all")


async def test_time_that_is_too_short_still_cancels(exchange: SimulatedExchange) -> None:
    """However little time there is, the cancel is sent before anything else."""
    account = account_of(exchange)
    async with trader(exchange, account) as client:
        with contextlib.suppress(MassCancelError):
            await client.cancel_all_and_confirm("cash", timeout=0.05, settle=0.04)
        await exchange.until(lambda: not open_ids(exchange, account), timeout=0.5)
    assert exchange.operations("cancel-all")


async def test_refusal_for_good_is_raised(exchange: SimulatedExchange) -> None:
    """A first sweep that the venue refuses for good ends the call at once, with its attempts."""
    account = account_of(exchange)
    exchange.faults.add(DENIED, operation="cancel-all")
    async with trader(exchange, account) as client:
        with pytest.raises(PermissionDenied) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE)
    assert [attempt.fate for attempt in caught.value.attempts] == ["refused"]
    assert not caught.value.may_have_executed
    assert not exchange.operations("open-orders")


async def test_bad_scope(exchange: SimulatedExchange) -> None:
    """A scope that the venue does not have is refused before anything is sent."""
    account = account_of(exchange)
    async with trader(exchange, account) as client:
        with pytest.raises(ScopeError):
            await client.cancel_all_and_confirm("cash", "BTC-PERP")
    assert not exchange.operations("cancel-all", "open-orders")


async def test_a_refused_sweep_is_the_last_request(exchange: SimulatedExchange) -> None:
    """Where the venue asks for a minute, nothing more is sent to it, listings included."""
    account = account_of(exchange)
    exchange.place(account, "cash", BTC, script=STAYS)
    async with (
        cold_pool() as pool,
        client_of(exchange, account, proof=SWEEPS_OFTEN, pool=pool) as client,
    ):

        async def refuse() -> None:
            await exchange.until(lambda: answered(exchange, "cancel-all"))
            exchange.faults.add(REFUSED, operation="cancel-all", times=None)

        refusing = asyncio.create_task(refuse())
        with pytest.raises((NotFlat, Unproven)):
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.5)
        await refusing
    assert len(exchange.operations("cancel-all")) == 2
    assert exchange.requests[-1].status == 429


async def test_a_refused_first_sweep_is_the_last_request(exchange: SimulatedExchange) -> None:
    """Where the first one is refused for longer than there is time, that is told at once."""
    account = account_of(exchange)
    exchange.faults.add(REFUSED, operation="cancel-all", times=None)
    async with (
        cold_pool() as pool,
        client_of(exchange, account, proof=SWEEPS_OFTEN, pool=pool) as client,
    ):
        with pytest.raises(RateLimited) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.5)
    assert caught.value.retry_after == 60
    assert not caught.value.may_have_executed
    assert [request.status for request in exchange.requests] == [429]


@pytest.mark.parametrize(
    "first", [None, Drop(executed=True), Drop()], ids=["acked", "lost", "gone"]
)
async def test_no_later_refusal_ends_what_a_sweep_may_have_begun(
    exchange: SimulatedExchange, first: Action | None
) -> None:
    """Once a sweep may have been carried out, the listings have the last word, whatever follows."""
    account = account_of(exchange)
    stuck = exchange.place(account, "cash", BTC, script=STAYS)
    if first is not None:
        exchange.faults.add(first, operation="cancel-all", nth=1)
    exchange.faults.add(Answer(429, b"{}"), operation="cancel-all", nth=2)
    for number in range(3, 100):
        exchange.faults.add(DENIED, operation="cancel-all", nth=number)
    once = RetryPolicy(base=60.0)  # each sweep is one request
    async with client_of(exchange, account, retry=once, proof=SWEEPS_OFTEN) as client:
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.5)
    assert stuck.order_id in {order.order_id for order in caught.value.residual}
    assert len(exchange.operations("cancel-all")) >= 3
    assert caught.value.may_have_executed


async def test_a_sweep_that_was_lost_and_then_refused_may_have_been_carried_out(
    exchange: SimulatedExchange,
) -> None:
    """Both in one call, which ends with the refusal: the listings still say what is the case."""
    account = account_of(exchange)
    exchange.faults.add(Drop(executed=True), operation="cancel-all", nth=1)
    exchange.faults.add(DENIED, operation="cancel-all", times=None)
    async with trader(exchange, account) as client:
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
    assert not open_ids(exchange, account)
    assert proof.acks == ()


async def test_failed_sweep_is_repeated_where_nothing_can_be_listed(
    exchange: SimulatedExchange,
) -> None:
    """A cancel that never got through is sent again, although no listing asks for it."""
    account = account_of(exchange)
    failing = exchange.faults.add(Drop(), operation="cancel-all", times=None)
    exchange.faults.add(DENIED, operation="open-orders", times=None)
    async with trader(exchange, account, proof=SWEEPS_OFTEN) as client:

        async def recover() -> None:
            await exchange.until(lambda: exchange.operations("open-orders"))
            exchange.faults.remove(failing)

        recovering = asyncio.create_task(recover())
        with pytest.raises(Unproven):
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=1.0)
        await recovering
    assert not open_ids(exchange, account)


async def test_lost_ack_of_the_sweep(exchange: SimulatedExchange) -> None:
    """The cancel was executed and its reply lost: proven all the same, without a second effect."""
    account = account_of(exchange)
    exchange.faults.add(Drop(executed=True), operation="cancel-all")
    async with trader(exchange, account) as client:
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
    assert [attempt.fate for attempt in proof.acks[0].attempts] == ["unknown", "answered"]


async def test_stale_listing_is_waited_out(exchange: SimulatedExchange) -> None:
    """A list that lags behind the book by less than ``settle`` leads to no false proof."""
    account = account_of(exchange)
    exchange.engine.listing_lag_ms = 40
    late = exchange.place(account, "cash", BTC, script=Script(ack_delay_ms=20))
    async with trader(exchange, account) as client:
        proof = await client.cancel_all_and_confirm("cash", settle=0.08)
    assert proof.sweeps >= 2
    assert late.order_id not in open_ids(exchange, account)


async def test_an_order_that_stays_open_unlisted_makes_no_storm(
    exchange: SimulatedExchange,
) -> None:
    """Listed once, then no more, and open by its status: no proof, and asked about at a pace."""
    account = account_of(exchange)
    exchange.place(account, "cash", BTC, script=Script(on_cancel=OnCancel.IGNORE))
    nothing = Answer(200, b'{"code":0,"ac":"CASH","data":[]}')
    for number in range(2, 200):
        exchange.faults.add(nothing, operation="open-orders", nth=number)
    async with trader(exchange, account) as client:
        with pytest.raises(MassCancelError):
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=1.0)
    asked = len(exchange.operations("order-status"))
    assert 0 < asked <= len(exchange.operations("open-orders"))


async def test_other_category_on_the_same_stream_is_no_matter(
    exchange: SimulatedExchange,
) -> None:
    """Updates of margin do not disturb the proof of cash."""
    account = account_of(exchange)
    async with trader(exchange, account, ("cash",)) as client:
        margin = client.order_updates("margin")
        await exchange.until(lambda: len(answered(exchange, "subscribe")) == 2)

        async def disturb() -> None:
            await exchange.until(lambda: answered(exchange, "open-orders"))
            exchange.place(account, "margin", BTC)

        disturbing = asyncio.create_task(disturb())
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
        await disturbing
        await anext(margin)
    assert proof.sweeps == 1
    assert len(exchange.operations("open-orders")) == 2


async def test_many_confirmed(exchange: SimulatedExchange) -> None:
    """Each target has its own proof, or its own reason why there is none."""
    good, bad, stuck = (account_of(exchange, number) for number in range(3))
    residue = exchange.place(stuck, "cash", BTC, script=STAYS)
    exchange.faults.add(UNKNOWN_KEY, api_key=bad.api_key, operation="cancel-all", times=None)
    async with (
        client_of(exchange, good, proof=SWEEPS_OFTEN) as one,
        client_of(exchange, bad, proof=SWEEPS_OFTEN) as two,
        client_of(exchange, stuck, proof=SWEEPS_OFTEN) as three,
    ):
        report = await cancel_many(
            [
                Target(one, "cash"),
                Target(two, "cash"),
                Target(three, "cash"),
                Target(one, "margin"),
            ],
            confirm=True,
            settle=SETTLE,
            timeout=0.5,
        )
    flat, refused, residual, margin = report.outcomes
    for outcome in (flat, margin):
        assert outcome.confirmation is not None
        assert outcome.ack == outcome.confirmation.acks[-1]
    assert isinstance(refused.error, AuthenticationError)
    assert isinstance(residual.error, NotFlat)
    assert [order.order_id for order in residual.error.residual] == [residue.order_id]
    assert not open_ids(exchange, good)
    assert not open_ids(exchange, good, "margin")


async def test_many_confirmed_through_one_place(exchange: SimulatedExchange) -> None:
    """With one request in flight at a time, every target is still proven."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        report = await cancel_many(
            Target.product([client], ["cash", "margin", "futures"]),
            confirm=True,
            settle=SETTLE,
            concurrency=1,
        )
    report.raise_for_failures()
    assert all(outcome.confirmation is not None for outcome in report.outcomes)


async def test_cancelled_call_leaves_nothing_behind(exchange: SimulatedExchange) -> None:
    """A confirmation that is cancelled ends at once, and leaves no task."""
    account = account_of(exchange)
    exchange.faults.add(Hold("list"), operation="open-orders", times=None)
    async with trader(exchange, account, ("cash",)) as client:
        before = asyncio.all_tasks()
        proving = asyncio.create_task(client.cancel_all_and_confirm("cash", settle=SETTLE))
        await exchange.until(lambda: "list" in exchange.waiting)
        proving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await proving
        ours = {t for t in asyncio.all_tasks() - before if "masscancel/sim" not in repr(t)}
        assert not {t for t in ours if "masscancel" in repr(t)}
        exchange.release("list")


async def test_no_listing_overlaps_another(exchange: SimulatedExchange) -> None:
    """The exchange sees sweeps and listings one after the other, in order."""
    account = account_of(exchange)
    async with trader(exchange, account) as client:
        await client.cancel_all_and_confirm("cash", settle=SETTLE)
    ours = exchange.operations("cancel-all", "open-orders")
    assert [r.operation for r in ours] == ["cancel-all", "open-orders", "open-orders"]
    assert all(a.at <= b.at for a, b in pairwise(ours))


async def test_slow_answers_are_waited_for(exchange: SimulatedExchange) -> None:
    """A sweep and a listing that take most of the time count when they are answered after all."""
    account = account_of(exchange)
    exchange.faults.add(Hold("sweep"), operation="cancel-all", nth=1)
    exchange.faults.add(Hold("list"), operation="open-orders", nth=2)
    async with client_of(exchange, account) as client:
        proving = asyncio.create_task(
            client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=1.5)
        )
        await exchange.until(lambda: exchange.operations("open-orders"))
        exchange.release("sweep")
        await exchange.until(lambda: "list" in exchange.waiting)
        await asyncio.sleep(0)
        exchange.release("list")
        confirmation = await proving
    assert len(confirmation.acks) == len(exchange.operations("cancel-all")) == 1
    assert len(exchange.operations("open-orders")) == 3


async def test_what_was_never_sent_was_not_carried_out(exchange: SimulatedExchange) -> None:
    """Nobody listens any more: whatever is still waiting when the time is up has not been sent."""
    account = account_of(exchange)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        await exchange.close()
        for _ in range(5):
            with pytest.raises(MassCancelError) as caught:
                await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.2)
            assert {attempt.fate for attempt in caught.value.attempts} == {"not sent"}
            assert not caught.value.may_have_executed
