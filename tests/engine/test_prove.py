"""The proof: what is flat is confirmed, and what is not, never is."""

import asyncio
from collections.abc import Callable

import pytest

from masscancel import MassCancelError, NotFlat, Unproven
from masscancel.engine.proof import ProofPolicy
from masscancel.sim import (
    HELD,
    Action,
    Answer,
    Drop,
    EffectDelay,
    Hang,
    Ignore,
    OnCancel,
    Order,
    Script,
    SimulatedExchange,
    What,
)
from prove_support import BTC, REFUSED, SETTLE, STAYS, answered, open_ids, trader
from support import DENIED, SWEEPS_OFTEN, account_of

pytestmark = pytest.mark.asyncio
WATCHED = pytest.mark.parametrize("watch", [(), ("cash",)], ids=["rest", "watched"])


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


@WATCHED
async def test_orders_that_never_cancel(
    exchange: SimulatedExchange, watch: tuple[str, ...]
) -> None:
    """At the time limit: exactly the residual orders, after more than one sweep."""
    account = account_of(exchange)
    async with trader(exchange, account, watch, proof=SWEEPS_OFTEN) as client:
        stuck = {exchange.place(account, "cash", BTC, script=STAYS).order_id for _ in range(3)}
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("cash", settle=SETTLE, timeout=0.3)
    assert {order.order_id for order in caught.value.residual} == stuck
    assert open_ids(exchange, account) == stuck
    assert caught.value.may_have_executed
    sweeps = [attempt for attempt in caught.value.attempts if attempt.acts]
    assert len(sweeps) == len(exchange.operations("cancel-all")) >= 2
    assert caught.value.context == "cancel_all_and_confirm cash on ascendex [group-0]"


async def test_residual_is_of_the_latest_listing(exchange: SimulatedExchange) -> None:
    """What has ended since is not named."""
    account = account_of(exchange)
    stuck = exchange.place(account, "cash", BTC, script=STAYS)
    gone = exchange.place(account, "cash", BTC, script=STAYS)
    async with trader(exchange, account, proof=SWEEPS_OFTEN) as client:

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
        DENIED,
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
    exchange.faults.add(DENIED, operation="open-orders", times=2)
    async with trader(exchange, account) as client:
        proof = await client.cancel_all_and_confirm("cash", settle=SETTLE)
    assert proof.sweeps >= 1
    assert len(exchange.operations("open-orders")) == 4


async def test_a_list_read_only_before_the_last_sweep_proves_nothing(
    exchange: SimulatedExchange,
) -> None:
    """Orders were listed, then swept again, then nothing could be read: Unproven, not NotFlat."""
    account = account_of(exchange)
    late = exchange.place(account, "cash", BTC, script=STAYS)
    async with trader(exchange, account, proof=SWEEPS_OFTEN) as client:

        async def go_dark() -> None:
            await exchange.until(lambda: answered(exchange, "open-orders"))
            exchange.faults.add(DENIED, operation="open-orders", times=None)

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
    exchange.faults.add(DENIED, operation="order-status", times=None)
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
    async with trader(exchange, account, proof=ProofPolicy(explain=0.3)) as client:
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
