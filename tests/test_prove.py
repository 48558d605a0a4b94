"""Confirming over sockets: what the exchange executed is the judge of every proof."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masscancel import (
    AuthenticationError,
    Client,
    ConfigurationError,
    DeadlineExceeded,
    MassCancelError,
    NotFlat,
    PermissionDenied,
    RetryPolicy,
    ScopeError,
    Target,
    Unproven,
    cancel_many,
)
from masscancel.gate import OrderGate
from masscancel.sim import (
    HELD,
    Account,
    Action,
    Answer,
    Drop,
    EffectDelay,
    Hang,
    Hold,
    Ignore,
    OnCancel,
    Order,
    Script,
    SimulatedExchange,
    What,
)
from support import account_of, client_of

pytestmark = pytest.mark.asyncio

BTC = "BTC/USDT"
SETTLE = 0.03
STAYS = Script(on_cancel=OnCancel.IGNORE)
WATCHED = pytest.mark.parametrize("watch", [(), ("cash",)], ids=["rest", "watched"])
REFUSED = Answer(429, b"{}", (("Retry-After", "60"),))


@pytest.fixture
def sweeps_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays listed is swept again soon, so that a test takes no long time."""
    monkeypatch.setattr("masscancel.confirm.SWEEP_AGAIN", 0.05)


@asynccontextmanager
async def trader(
    exchange: SimulatedExchange, account: Account, watch: tuple[str, ...] = ()
) -> AsyncIterator[Client]:
    """An entered client whose watched categories are followed already."""
    async with client_of(exchange, account, watch=watch) as client:
        for category in watch:
            # What was subscribed to is trusted once the answer is read: a change shows that it is.
            updates = client.order_updates(category)
            await exchange.until(lambda: answered(exchange, "subscribe"))
            exchange.place(account, category, "XRP/USDT")
            await anext(updates)
        yield client


def answered(exchange: SimulatedExchange, operation: str) -> list[Any]:
    """The requests of an operation that have an answer."""
    return [r for r in exchange.operations(operation) if r.answer == "answered"]


def open_ids(exchange: SimulatedExchange, account: Account, category: str = "cash") -> set[str]:
    """The ids of what is open, as the exchange knows it."""
    return {order.order_id for order in exchange.open_orders(account, category)}


async def surface(exchange: SimulatedExchange, order: Order, when: Callable[[], object]) -> None:
    """Have an order acknowledged when something has happened."""
    await exchange.until(when)
    exchange.engine.acknowledge(order.order_id, now_ms=exchange.now_ms)
    exchange.advance()


async def take_effect_after_a_listing(exchange: SimulatedExchange) -> None:
    """What is held back happens when the open orders have been listed once."""
    await exchange.until(lambda: answered(exchange, "open-orders"))
    exchange.engine.take_effect(now_ms=exchange.now_ms)
    exchange.advance()


@WATCHED
async def test_confirms_a_flat_scope(exchange: SimulatedExchange, watch: tuple[str, ...]) -> None:
    """One sweep and two listings prove the scope flat, and nothing else is touched."""
    account = account_of(exchange)
    async with trader(exchange, account, watch) as client:
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=5.0)
    assert not open_ids(exchange, account)
    assert len(open_ids(exchange, account, "margin")) == 2
    assert proof.sweeps == len(proof.acks) == len(exchange.operations("cancel-all")) == 1
    assert (proof.settle, proof.streamed) == (SETTLE, bool(watch))
    assert len(exchange.operations("open-orders")) == 2
    assert proof.acks[0].attempts[0].fate == "answered"
    assert proof.elapsed >= SETTLE


async def test_one_symbol(exchange: SimulatedExchange) -> None:
    """A scope of one symbol is proven by listings of that symbol; the other stays."""
    account = account_of(exchange)
    async with trader(exchange, account, ("cash",)) as client:
        other = exchange.place(account, "cash", "ETH/USDT", script=STAYS)
        proof = await client.cancel_all_and_confirm("cash", BTC, settle=SETTLE)
    assert proof.streamed
    assert not exchange.open_orders(account, "cash", BTC)
    assert other.order_id in open_ids(exchange, account)
    assert proof.cancelled is not None
    symbols = {order.symbol for i in proof.cancelled if (order := exchange.engine.order(i))}
    assert symbols == {BTC}


@WATCHED
async def test_late_order_leads_to_another_sweep(
    exchange: SimulatedExchange, watch: tuple[str, ...]
) -> None:
    """An order that is acknowledged after the first sweep is found, swept, and then it is over."""
    account = account_of(exchange)
    async with trader(exchange, account, watch) as client:
        late = exchange.place(account, "cash", BTC, script=Script(ack_delay_ms=HELD))
        swept = asyncio.create_task(
            surface(exchange, late, lambda: answered(exchange, "open-orders"))
        )
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
        await swept
    assert not open_ids(exchange, account)
    assert proof.sweeps == 2
    assert proof.cancelled is not None
    assert late.order_id in proof.cancelled


@pytest.mark.usefixtures("sweeps_often")
@WATCHED
async def test_orders_that_never_cancel(
    exchange: SimulatedExchange, watch: tuple[str, ...]
) -> None:
    """At the time limit: exactly the residual orders, after more than one sweep."""
    account = account_of(exchange)
    async with trader(exchange, account, watch) as client:
        stuck = {exchange.place(account, "cash", BTC, script=STAYS).order_id for _ in range(3)}
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.3)
    assert {order.order_id for order in caught.value.residual} == stuck
    assert open_ids(exchange, account) == stuck
    assert caught.value.may_have_executed
    sweeps = [attempt for attempt in caught.value.attempts if attempt.acts]
    assert len(sweeps) == len(exchange.operations("cancel-all")) >= 2
    assert caught.value.context == "cancel_all_and_confirm cash on ascendex [group-0]"


@pytest.mark.usefixtures("sweeps_often")
async def test_residual_is_of_the_latest_listing(exchange: SimulatedExchange) -> None:
    """What has ended since is not named."""
    account = account_of(exchange)
    stuck = exchange.place(account, "cash", BTC, script=STAYS)
    gone = exchange.place(account, "cash", BTC, script=STAYS)
    async with trader(exchange, account) as client:

        async def fill() -> None:
            await exchange.until(lambda: answered(exchange, "open-orders"))
            exchange.engine.fill(gone.order_id, now_ms=exchange.now_ms)

        filling = asyncio.create_task(fill())
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.3)
        await filling
    assert [order.order_id for order in caught.value.residual] == [stuck.order_id]


@WATCHED
async def test_an_ack_is_no_proof(exchange: SimulatedExchange, watch: tuple[str, ...]) -> None:
    """Acknowledged, and nothing is cancelled, ever: never a Confirmation."""
    account = account_of(exchange)
    async with trader(exchange, account, watch) as client:
        expected = open_ids(exchange, account)
        exchange.faults.add(EffectDelay(HELD), operation="cancel-all", times=None)
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.3)
    assert {order.order_id for order in caught.value.residual} == expected


@WATCHED
async def test_effects_that_lag(exchange: SimulatedExchange, watch: tuple[str, ...]) -> None:
    """The Ack is out, the cancel takes effect after a listing: proven only then."""
    account = account_of(exchange)
    async with trader(exchange, account, watch) as client:
        exchange.faults.add(EffectDelay(HELD), operation="cancel-all", times=None)

        lag = asyncio.create_task(take_effect_after_a_listing(exchange))
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
        await lag
    assert not open_ids(exchange, account)
    cancelled = {r.order_id for r in exchange.log if r.what is What.CANCELLED}
    assert proof.cancelled is not None
    assert set(proof.cancelled) == cancelled


@pytest.mark.parametrize(
    "fault",
    [
        Answer(403, b"{}"),
        Answer(500, b"oops"),
        Answer(502, b"<html>bad gateway</html>", (("Content-Type", "text/html"),)),
        Answer(200, b"<html>maintenance</html>"),
        Answer(200, b'{"code":0,"data":null}'),
        Answer(200, b'{"code":100101,"reason":"UNKNOWN_ERROR"}'),
        Hang(),
        Drop(),
        REFUSED,
    ],
    ids=["403", "500", "502", "html", "null", "code", "hang", "drop", "429"],
)
async def test_a_list_that_cannot_be_read(exchange: SimulatedExchange, fault: Action) -> None:
    """The scope is flat, and that can't be seen: never a Confirmation."""
    account = account_of(exchange)
    exchange.faults.add(fault, operation="open-orders", times=None)
    async with trader(exchange, account) as client:
        with pytest.raises(Unproven) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.4)
    assert not open_ids(exchange, account)
    assert caught.value.may_have_executed
    assert isinstance(caught.value.__cause__, MassCancelError)


async def test_silence_of_the_stream_is_no_proof(exchange: SimulatedExchange) -> None:
    """Updates say that all is cancelled; without a listing, that is not enough."""
    account = account_of(exchange)
    async with trader(exchange, account, ("cash",)) as client:
        exchange.faults.add(Answer(500), operation="open-orders", times=None)
        with pytest.raises(Unproven):
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.3)


async def test_a_list_that_can_be_read_again(exchange: SimulatedExchange) -> None:
    """Listings that fail for a while only delay the proof."""
    account = account_of(exchange)
    exchange.faults.add(Answer(403, b"{}"), operation="open-orders", times=2)
    async with trader(exchange, account) as client:
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
    assert proof.sweeps >= 1
    assert len(exchange.operations("open-orders")) == 4


@pytest.mark.usefixtures("sweeps_often")
async def test_a_list_read_only_before_the_last_sweep_proves_nothing(
    exchange: SimulatedExchange,
) -> None:
    """Orders were listed, then swept again, then nothing could be read: Unproven, not NotFlat."""
    account = account_of(exchange)
    late = exchange.place(account, "cash", BTC, script=STAYS)
    async with trader(exchange, account) as client:

        async def go_dark() -> None:
            await exchange.until(lambda: answered(exchange, "open-orders"))
            exchange.faults.add(Answer(403, b"{}"), operation="open-orders", times=None)

        dark = asyncio.create_task(go_dark())
        with pytest.raises(Unproven):
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.3)
        await dark
    assert open_ids(exchange, account) == {late.order_id}
    assert len(exchange.operations("cancel-all")) >= 2


@WATCHED
async def test_fills_on_the_way_out(exchange: SimulatedExchange, watch: tuple[str, ...]) -> None:
    """What fills instead of being cancelled is reported as such, by updates or by its status."""
    account = account_of(exchange)
    async with trader(exchange, account, watch) as client:
        fills = exchange.place(account, "cash", BTC, script=Script(on_cancel=OnCancel.FILL))
        if not watch:  # it has to have been listed, to be missed
            exchange.faults.add(EffectDelay(HELD), operation="cancel-all")

        lag = asyncio.create_task(take_effect_after_a_listing(exchange))
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
        await lag
    assert proof.filled == (fills.order_id,)
    assert proof.cancelled is not None
    assert fills.order_id not in proof.cancelled
    assert bool(exchange.operations("order-status")) is not bool(watch)


async def test_what_cannot_be_observed_is_none(exchange: SimulatedExchange) -> None:
    """Without updates and with nothing ever listed, how orders ended is not known."""
    account = account_of(exchange)
    async with trader(exchange, account) as client:
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
    assert (proof.cancelled, proof.filled) == (None, None)


async def test_status_that_cannot_be_read_is_no_obstacle(exchange: SimulatedExchange) -> None:
    """How orders ended is an extra: without it the proof stands, and says None."""
    account = account_of(exchange)
    exchange.faults.add(EffectDelay(HELD), operation="cancel-all")
    exchange.faults.add(Answer(403, b"{}"), operation="order-status", times=None)
    async with trader(exchange, account) as client:
        lag = asyncio.create_task(take_effect_after_a_listing(exchange))
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
        await lag
    assert (proof.cancelled, proof.filled) == (None, None)
    assert exchange.operations("order-status")


async def test_status_that_hangs_does_not_hold_up_a_sweep(exchange: SimulatedExchange) -> None:
    """While it is asked how orders ended, an order that shows is swept all the same."""
    account = account_of(exchange)
    exchange.faults.add(EffectDelay(HELD), operation="cancel-all")
    exchange.faults.add(Hang(), operation="order-status", times=None)
    async with trader(exchange, account) as client:
        late = exchange.place(account, "cash", BTC, script=Script(ack_delay_ms=HELD))
        proving = asyncio.create_task(client.cancel_all_and_confirm("cash", settle=SETTLE))
        await exchange.until(lambda: answered(exchange, "open-orders"))
        exchange.engine.take_effect(now_ms=exchange.now_ms)
        await exchange.until(lambda: exchange.operations("order-status"))
        await surface(exchange, late, lambda: True)
        await exchange.until(lambda: not open_ids(exchange, account), timeout=1.0)
        await proving


async def test_stream_drops_midway(exchange: SimulatedExchange) -> None:
    """A drop between the Ack and its updates: proven from listings alone, and it says so."""
    account = account_of(exchange)
    async with trader(exchange, account, ("cash",)) as client:
        exchange.faults.add(Drop(), operation="order-update")
        exchange.faults.add(Hang(), operation="stream", times=None)
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
    assert not proof.streamed
    assert not open_ids(exchange, account)
    assert len(exchange.operations("open-orders")) >= 2


async def test_withheld_updates_do_no_harm(exchange: SimulatedExchange) -> None:
    """A stream that tells nothing is not taken for proof, nor for orders that stay."""
    account = account_of(exchange)
    async with trader(exchange, account, ("cash",)) as client:
        exchange.faults.add(Ignore(), operation="order-update", times=None)
        stuck = exchange.place(account, "cash", BTC, script=STAYS)
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.3)
    assert [order.order_id for order in caught.value.residual] == [stuck.order_id]


async def test_update_between_the_listings_starts_the_proof_anew(
    exchange: SimulatedExchange,
) -> None:
    """An order that opens and ends between two empty listings is seen on the stream, and counts."""
    account = account_of(exchange)
    async with trader(exchange, account, ("cash",)) as client:

        async def flash() -> None:
            await exchange.until(lambda: answered(exchange, "open-orders"))
            order = exchange.place(account, "cash", BTC)
            exchange.engine.fill(order.order_id, now_ms=exchange.now_ms)

        flashing = asyncio.create_task(flash())
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
        await flashing
    assert proof.sweeps == 2
    assert proof.filled is not None
    assert len(proof.filled) == 1


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
    exchange.faults.add(Answer(403, b"{}"), operation="cancel-all")
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


@pytest.mark.usefixtures("sweeps_often")
async def test_refused_sweeps_make_no_storm(exchange: SimulatedExchange) -> None:
    """Where the second sweep is refused, the next ones wait their time."""
    account = account_of(exchange)
    exchange.place(account, "cash", BTC, script=STAYS)
    async with trader(exchange, account) as client:

        async def refuse() -> None:
            await exchange.until(lambda: answered(exchange, "cancel-all"))
            exchange.faults.add(REFUSED, operation="cancel-all", times=None)

        refusing = asyncio.create_task(refuse())
        with pytest.raises(NotFlat):
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.5)
        await refusing
    assert len(exchange.operations("cancel-all")) < 20


@pytest.mark.usefixtures("sweeps_often")
async def test_refused_first_sweep_makes_no_storm(exchange: SimulatedExchange) -> None:
    """Likewise where the first one is told to wait."""
    account = account_of(exchange)
    exchange.faults.add(REFUSED, operation="cancel-all", times=None)
    async with trader(exchange, account) as client:
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.5)
    assert not caught.value.may_have_executed
    assert len(caught.value.residual) == 2
    assert len(exchange.operations("cancel-all")) < 20


@pytest.mark.usefixtures("sweeps_often")
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
        exchange.faults.add(Answer(403, b"{}"), operation="cancel-all", nth=number)
    once = RetryPolicy(base=60.0)  # each sweep is one request
    async with client_of(exchange, account, retry=once) as client:
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
    exchange.faults.add(Answer(403, b"{}"), operation="cancel-all", times=None)
    async with trader(exchange, account) as client:
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
    assert not open_ids(exchange, account)
    assert proof.acks == ()


@pytest.mark.usefixtures("sweeps_often")
async def test_failed_sweep_is_repeated_where_nothing_can_be_listed(
    exchange: SimulatedExchange,
) -> None:
    """A cancel that never got through is sent again, although no listing asks for it."""
    account = account_of(exchange)
    failing = exchange.faults.add(Drop(), operation="cancel-all", times=None)
    exchange.faults.add(Answer(403, b"{}"), operation="open-orders", times=None)
    async with trader(exchange, account) as client:

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


@pytest.mark.usefixtures("sweeps_often")
async def test_many_confirmed(exchange: SimulatedExchange) -> None:
    """Each target has its own proof, or its own reason why there is none."""
    good, bad, stuck = (account_of(exchange, number) for number in range(3))
    residue = exchange.place(stuck, "cash", BTC, script=STAYS)
    exchange.faults.add(Answer(401, b"{}"), api_key=bad.api_key, operation="cancel-all", times=None)
    async with (
        client_of(exchange, good) as one,
        client_of(exchange, bad) as two,
        client_of(exchange, stuck) as three,
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
