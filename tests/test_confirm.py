"""The proof, purely: listings, updates and time in, the next step out."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from masscancel.confirm import LAST_LISTING, SWEEP_AGAIN, Confirming, Do, Step
from masscancel.models import OpenOrder, OrderState, OrderUpdate

SETTLE, DEADLINE = 0.25, 10.0


def order(order_id: str = "a") -> OpenOrder:
    """An order of a listing."""
    return OpenOrder(
        order_id=order_id,
        symbol="BTC/USDT",
        side="buy",
        price=Decimal(1),
        quantity=Decimal(1),
        filled_quantity=Decimal(0),
        order_type="Limit",
        status="New",
    )


def update(state: OrderState, order_id: str = "a") -> OrderUpdate:
    """An order's change."""
    return OrderUpdate(
        account_category="cash",
        order_id=order_id,
        symbol="BTC/USDT",
        side="buy",
        price=Decimal(1),
        quantity=Decimal(1),
        filled_quantity=Decimal(0),
        order_type="Limit",
        status=state,
        state=state,
    )


def proof(*, swept: bool = True, **options: Any) -> Confirming:
    """A proof that begins at 0, with its first sweep sent and acknowledged."""
    begun = Confirming(**{"settle": SETTLE, "deadline": DEADLINE} | options)
    if swept:
        begun.sweeping(0.0)
    return begun


def test_sweeps_first() -> None:
    """Before anything else; then lists, at once."""
    begun = proof(swept=False)
    assert begun.step(0.0).do is Do.SWEEP
    begun.sweeping(0.0)
    assert begun.step(0.01).do is Do.LIST


def test_two_empty_listings_are_proof() -> None:
    """At least ``settle`` from the end of the first to the beginning of the second."""
    begun = proof()
    begun.listed(0.0, 0.125, [])
    step = begun.step(0.125)
    assert (step.do, step.until) == (Do.WAIT, 0.375)
    assert begun.step(0.375).do is Do.LIST
    begun.listed(0.375, 0.5, [])
    assert begun.step(0.5).do is Do.DONE


def test_too_close_is_no_proof() -> None:
    """The time that a listing takes does not count, whenever the venue read it."""
    begun = proof()
    begun.listed(0.0, 0.3, [])
    begun.listed(0.4, 5.0, [])
    assert begun.step(5.0).do is Do.LIST
    begun.listed(5.0, 5.1, [])
    assert begun.step(5.1).do is Do.DONE


@pytest.mark.parametrize(
    "happens",
    [
        lambda begun: begun.updated(update("open"), 0.2),
        lambda begun: begun.missed(0.2),
        lambda begun: begun.gated(under_way=1, arrived=0),
        lambda begun: begun.gated(under_way=0, arrived=1),
        lambda begun: begun.explained("a", "open", 0.2),
        lambda begun: begun.listed(0.15, 0.2, [order()]),
        lambda begun: begun.sweeping(0.2),
    ],
    ids=["opened", "gap", "under way", "arrived", "open by its status", "listed", "swept"],
)
def test_what_starts_it_anew(happens: Callable[[Confirming], object]) -> None:
    """After any of these, one more empty listing is no proof; two are."""
    begun = proof(streamed=True)
    begun.listed(0.0, 0.1, [])
    happens(begun)
    begun.listed(0.4, 0.45, [])
    assert begun.step(0.45).do is not Do.DONE
    begun.sweeping(0.5)
    begun.gated(under_way=0, arrived=0)
    begun.listed(0.5, 0.55, [])
    begun.listed(0.9, 0.95, [])
    assert begun.step(0.95).do is Do.DONE


@pytest.mark.parametrize(
    "happens",
    [
        lambda begun: begun.updated(update("open"), 0.5),
        lambda begun: begun.missed(0.5),
        lambda begun: begun.gated(under_way=1, arrived=0),
        lambda begun: begun.gated(under_way=0, arrived=1),
    ],
    ids=["opened", "gap", "under way", "arrived"],
)
def test_news_after_the_second_listing_counts(happens: Callable[[Confirming], object]) -> None:
    """What is known before the step is taken goes before the proof."""
    begun = proof(streamed=True)
    begun.listed(0.0, 0.1, [])
    begun.listed(0.4, 0.5, [])
    happens(begun)
    assert begun.step(0.5).do is not Do.DONE


@pytest.mark.parametrize("state", ["filled", "cancelled", "rejected"])
def test_ends_do_not_start_it_anew(state: OrderState) -> None:
    """An order that ends opens nothing."""
    begun = proof(streamed=True)
    begun.listed(0.0, 0.1, [])
    begun.updated(update(state), 0.2)
    begun.listed(0.4, 0.5, [])
    assert begun.step(0.5).do is Do.DONE


def test_unreadable_listing_proves_nothing_and_spoils_nothing() -> None:
    """It is asked again after a wait that grows; the first empty one still counts."""
    begun = proof()
    begun.listed(0.0, 0.1, [])
    begun.unreadable(0.4, 0.45)
    waits = []
    now = 0.45
    for _ in range(7):
        step = begun.step(now)
        assert step.do is Do.WAIT
        waits.append(step.until - now)
        now = step.until
        begun.unreadable(now, now)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(0.8)
    begun.listed(now, now, [])
    assert begun.step(now).do is Do.DONE


def test_order_that_shows_is_swept_at_once() -> None:
    """One that was not known when the last sweep was sent has not been covered by it."""
    begun = proof()
    begun.listed(0.0, 0.1, [order("late")])
    assert begun.step(0.1).do is Do.SWEEP
    begun.sweeping(0.1)
    begun.listed(0.1, 0.2, [order("late")])
    assert begun.step(0.2).do is Do.WAIT


def test_order_that_an_update_shows_is_swept_at_once() -> None:
    """Likewise where the stream tells of it; its end is no reason."""
    begun = proof(streamed=True)
    begun.updated(update("cancelled", "old"), 0.05)
    assert begun.step(0.05).do is Do.LIST
    begun.updated(update("open", "late"), 0.1)
    assert begun.step(0.1).do is Do.SWEEP


def test_orders_that_stay_are_swept_again() -> None:
    """Every half a second, while they are listed."""
    begun = proof()
    begun.listed(0.0, 0.05, [order()])
    begun.sweeping(0.1)
    begun.listed(0.1, 0.15, [order()])
    assert begun.step(0.1 + SWEEP_AGAIN - 0.01).do is not Do.SWEEP
    assert begun.step(0.1 + SWEEP_AGAIN).do is Do.SWEEP


def test_order_of_the_gate_that_arrived_is_swept() -> None:
    """Even if no listing shows it; nothing is proven before."""
    begun = proof()
    begun.gated(under_way=1, arrived=0)
    begun.listed(0.0, 0.1, [])
    begun.gated(under_way=0, arrived=1)
    assert begun.step(0.1).do is Do.SWEEP


def test_last_listing_is_kept_time_for() -> None:
    """Towards the end there is no sweep more, but one listing."""
    begun = proof()
    begun.listed(0.0, 0.1, [order()])
    begun.sweeping(0.1)
    begun.listed(0.1, 0.2, [order()])
    close = DEADLINE - LAST_LISTING - 0.2
    step = begun.step(close)
    assert step.do is Do.LIST
    begun.listed(close, close + 0.1, [order()])
    assert begun.step(close + 0.1).do is Do.WAIT
    assert begun.step(close + 0.1).until <= DEADLINE


def test_last_listing_may_complete_the_proof() -> None:
    """An empty one before it still counts."""
    begun = proof(deadline=1.0)
    begun.listed(0.0, 0.7, [])
    begun.listed(0.96, 0.98, [])
    assert begun.step(0.98).do is Do.DONE


def test_first_sweep_goes_before_the_last_listing() -> None:
    """However little time there is."""
    begun = proof(swept=False, deadline=0.01, settle=0.0)
    assert begun.step(0.0).do is Do.SWEEP


def test_slow_listing_leaves_time_for_sweeps() -> None:
    """A listing that took a third of the time does not end all sweeps."""
    begun = proof()
    begun.unreadable(0.0, 3.3)
    begun.listed(3.4, 3.5, [])
    begun.gated(under_way=0, arrived=1)
    assert begun.step(3.6).do is Do.SWEEP


def test_failed_sweep_is_not_repeated_at_once() -> None:
    """A sweep that fails in no time would be sent as fast as it fails."""
    begun = proof()
    begun.listed(0.0, 0.1, [order()])
    begun.sweeping(0.1)
    begun.sweep_failed(0.1)
    assert begun.step(0.1).do is Do.LIST


def test_failed_sweep_is_repeated_where_nothing_can_be_listed() -> None:
    """Not knowing what is open is no reason to leave it so."""
    begun = proof()
    begun.sweep_failed(0.0)
    begun.unreadable(0.0, 0.1)
    done = []
    now = 0.1
    while now < 3.0:
        step = begun.step(now)
        done.append(step.do)
        if step.do is Do.LIST:
            begun.unreadable(now, now + 0.01)
            now += 0.01
        elif step.do is Do.WAIT:
            now = step.until
        else:
            break
    assert done[-1] is Do.SWEEP


def test_gate_without_settle_does_not_list_without_pause() -> None:
    """While an order is under way, listings have a pause between them."""
    begun = proof(settle=0.0)
    begun.gated(under_way=1, arrived=0)
    begun.listed(0.0, 0.1, [])
    begun.gated(under_way=1, arrived=0)
    assert begun.step(0.1).do is Do.WAIT


def test_ends_are_told_by_updates() -> None:
    """Watched throughout: every order that ended, by how it ended."""
    begun = proof(streamed=True)
    begun.updated(update("cancelled", "a"), 0.1)
    begun.updated(update("filled", "b"), 0.1)
    begun.updated(update("rejected", "c"), 0.1)
    assert begun.ended("cancelled") == ("a",)
    assert begun.ended("filled") == ("b",)


def test_ends_are_asked_for_without_updates() -> None:
    """What was listed and is not any more is unexplained, until somebody says."""
    begun = proof()
    assert begun.ended("filled") is None
    begun.listed(0.0, 0.1, [order("a"), order("b")])
    assert not begun.unexplained
    begun.listed(0.2, 0.3, [])
    ids = {each.order_id for each in begun.unexplained}
    assert ids == {"a", "b"}
    assert begun.ended("filled") is None
    begun.explained("a", "filled", 0.4)
    begun.explained("b", "cancelled", 0.4)
    assert not begun.unexplained
    assert begun.ended("filled") == ("a",)
    assert begun.ended("cancelled") == ("b",)


def test_stale_end_is_taken_back() -> None:
    """An order that is listed after all has not ended."""
    begun = proof(streamed=True)
    begun.updated(update("cancelled"), 0.1)
    begun.listed(0.1, 0.2, [order()])
    assert begun.ended("cancelled") == ()
    begun.listed(0.3, 0.4, [])
    assert [gone.order_id for gone in begun.unexplained] == ["a"]
    assert begun.ended("cancelled") is None


def test_gap_ends_the_claim_to_have_watched() -> None:
    """A proof with a gap says that it was not streamed throughout."""
    begun = proof(streamed=True)
    assert begun.streamed
    begun.missed(0.1)
    assert not begun.streamed
    assert begun.ended("cancelled") is None


def test_what_was_listed_since_the_sweep() -> None:
    """That tells NotFlat from Unproven."""
    begun = proof()
    assert not begun.listed_since_sweep
    begun.listed(0.0, 0.1, [order()])
    assert begun.listed_since_sweep
    begun.sweeping(0.2)
    begun.unreadable(0.2, 0.3)
    assert not begun.listed_since_sweep
    assert [left.order_id for left in begun.residual] == ["a"]


def test_end_of_all_that_was_listed_is_a_reason_to_list() -> None:
    """When updates say that every residual order has ended, the next listing need not wait."""
    begun = proof(streamed=True)
    begun.updated(update("open"), 0.0)
    begun.sweeping(0.0)
    begun.listed(0.0, 0.1, [order()])
    assert begun.step(0.1).do is Do.WAIT
    begun.updated(update("cancelled"), 0.11)
    assert begun.step(0.11).do is Do.LIST


@pytest.mark.parametrize("started", [0.0, 100.0])
def test_what_is_to_be_done_is_to_be_done_now(started: float) -> None:
    """A step that is no wait says the present; whatever the clock began at."""
    now = started
    begun = Confirming(settle=SETTLE, deadline=started + DEADLINE)
    assert begun.listed_since_sweep is False
    assert begun.step(now) == Step(Do.SWEEP, now)
    begun.sweeping(now)
    assert begun.step(now) == Step(Do.LIST, now)
    begun.listed(now, now, [order()])
    assert begun.step(now) == Step(Do.SWEEP, now)
    begun.sweeping(now)
    begun.listed(now, now, [])
    assert begun.step(now) == Step(Do.WAIT, now + SETTLE)
    assert begun.step(now + SETTLE) == Step(Do.LIST, now + SETTLE)
    begun.listed(now + SETTLE, now + SETTLE, [])
    assert begun.step(now + SETTLE) == Step(Do.DONE, now + SETTLE)


def test_what_is_listed_again_and_again_is_listed_less_often() -> None:
    """The pause doubles from 0.05 s; the sweep that is due meanwhile does not wait for it."""
    begun = proof()
    begun.listed(0.0, 0.0, [order()])
    begun.sweeping(0.0)
    now, until = 0.0, []
    for _ in range(4):
        begun.listed(now, now, [order()])
        step = begun.step(now)
        assert step.do is Do.WAIT
        until.append(round(step.until, 6))
        now = step.until
    assert until == [0.05, 0.15, 0.35, SWEEP_AGAIN]
    assert begun.step(now).do is Do.SWEEP


def test_while_an_order_is_in_the_gate_it_is_listed_less_often() -> None:
    """The pause doubles up to 0.8 s; with nothing in the gate there is none but ``settle``."""
    begun = proof(settle=0.0)
    now, pauses = 0.0, []
    for _ in range(6):
        begun.gated(under_way=1, arrived=0)
        begun.listed(now, now, [])
        step = begun.step(now)
        assert step.do is Do.WAIT
        pauses.append(round(step.until - now, 6))
        now = step.until
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 0.8]
    begun = proof(settle=0.0)
    begun.gated(under_way=0, arrived=0)
    begun.listed(0.0, 0.1, [])
    assert begun.step(0.1).do is Do.LIST


def next_sweep(begun: Confirming, now: float) -> float:
    """When the next sweep is due, while listings show an order that stays."""
    while (step := begun.step(now)).do is not Do.SWEEP:
        if step.do is Do.LIST:
            begun.listed(now, now, [order()])
        now = step.until
    return now


def test_sweeps_that_fail_are_further_and_further_apart() -> None:
    """The pause doubles from 0.05 s up to 0.8 s; an Ack takes it back; a ``wait`` is waited."""
    begun = proof(swept=False, deadline=60.0)
    now, pauses = 0.0, []
    for acknowledged in (False,) * 6 + (True, False):
        begun.sweeping(now)
        if acknowledged:
            begun.swept(now)
            begun.listed(now, now, [order()])
            now = next_sweep(begun, now)
            continue
        begun.sweep_failed(now)
        due = next_sweep(begun, now)
        pauses.append(round(due - now, 6))
        now = due
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 0.8, 0.05]
    begun.sweeping(now)
    begun.sweep_failed(now, 3.0)
    assert next_sweep(begun, now) == pytest.approx(now + 3.0)


@pytest.mark.parametrize(("took", "kept"), [(0.0, 0.0), (0.5, 1.0), (2.0, 2.5)])
def test_so_much_is_kept_for_the_last_listing(took: float, kept: float) -> None:
    """Twice what one took, and a quarter of the whole time at most; wherever the clock began."""
    begun = Confirming(settle=9.97, deadline=110.0)
    begun.sweeping(100.0)
    begun.listed(100.0, 100.0 + took, [])
    close = 110.0 - LAST_LISTING - kept
    step = begun.step(103.0)
    assert step.do is Do.WAIT
    assert step.until == pytest.approx(close)
    close = step.until
    assert begun.step(close) == Step(Do.LIST, close)
    begun.listed(close, close, [order()])
    step = begun.step(close)
    assert step.do is Do.WAIT
    assert step.until == pytest.approx(close + 0.05)
    assert begun.step(step.until) == Step(Do.LIST, step.until)


def test_a_wait_ends_where_the_last_listing_begins() -> None:
    """Neither a listing nor a sweep that is due later holds it up."""
    close = DEADLINE - LAST_LISTING
    begun = proof()
    begun.listed(close - 0.01, close - 0.01, [order()])
    begun.sweeping(close - 0.01)
    begun.listed(close - 0.01, close - 0.01, [order()])
    step = begun.step(close - 0.01)
    assert (step.do, step.until) == (Do.WAIT, close)


def test_a_listing_that_came_too_soon_is_repeated_when_it_counts() -> None:
    """And not before."""
    begun = proof()
    begun.listed(0.0, 0.1, [])
    begun.listed(0.2, 0.3, [])
    assert begun.step(0.3) == Step(Do.WAIT, 0.35)


def test_update_of_an_order_that_was_swept_changes_no_times() -> None:
    """It is on its way out: it fills a little, and the next listing comes when it would have."""
    begun = proof(swept=False, streamed=True)
    begun.updated(update("open"), 0.0)
    begun.sweeping(0.0)
    begun.listed(0.0, 0.1, [order()])
    due = begun.step(0.1)
    begun.updated(update("open"), 0.11)
    assert begun.step(0.11) == due
    assert due.do is Do.WAIT


def test_update_of_an_order_that_was_swept_is_no_proof_either() -> None:
    """Open is open, though it was covered by the sweep."""
    begun = proof(swept=False, streamed=True)
    begun.updated(update("open"), 0.0)
    begun.sweeping(0.0)
    begun.listed(0.0, 0.1, [])
    begun.listed(0.4, 0.5, [])
    assert begun.step(0.5).do is Do.DONE
    begun.updated(update("open"), 0.5)
    assert begun.step(0.5).do is not Do.DONE


def test_order_that_shows_after_a_sweep_that_failed_is_listed_at_once() -> None:
    """The sweep has to wait; knowing what is there has not."""
    begun = proof(streamed=True)
    begun.sweep_failed(0.0, 5.0)
    begun.listed(0.0, 0.0, [order()])
    begun.updated(update("open", "late"), 0.01)
    assert begun.step(0.01) == Step(Do.LIST, 0.01)


def test_orders_that_never_end_lead_to_no_storm() -> None:
    """A bot goes on trading: two sweeps leave at once, the third 0.1 s after the first."""
    begun = proof(streamed=True)
    now, sweeps, listings = 0.0, [], []
    for number in range(1000):
        now += 0.001
        begun.updated(update("open", str(number)), now)
        match begun.step(now).do:
            case Do.SWEEP:
                begun.sweeping(now)
                begun.swept(now)
                sweeps.append(now)
            case Do.LIST:
                begun.listed(now, now, [])
                listings.append(now)
            case _:
                pass
    assert sweeps[0] == 0.001
    assert len(sweeps) <= 20
    assert len(listings) <= 60


def test_order_that_is_open_by_its_status_is_looked_for_less_and_less_often() -> None:
    """No listing showed it: the pause before the next one doubles, up to 0.8 s."""
    begun = proof(settle=0.0)
    begun.listed(0.0, 0.0, [])
    now, pauses = 0.0, []
    for _ in range(6):
        begun.explained("a", "open", now)
        step = begun.step(now)
        assert step.do is Do.WAIT
        pauses.append(round(step.until - now, 6))
        now = step.until
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 0.8]


def test_order_that_is_open_by_its_status_brings_no_listing_forward() -> None:
    """One that was to come later still does."""
    begun = proof()
    begun.listed(0.0, 0.1, [])
    due = begun.step(0.1)
    begun.explained("a", "open", 0.1)
    assert begun.step(0.1) == due == Step(Do.WAIT, 0.1 + SETTLE)


@pytest.mark.parametrize("listed", [[], [order("a"), order("b")]], ids=["none", "two"])
def test_end_of_another_order_is_no_reason_to_list(listed: list[OpenOrder]) -> None:
    """Where nothing was listed, or some of it stays, the next listing comes when it would have."""
    begun = proof(streamed=True)
    for each in ("a", "b"):
        begun.updated(update("open", each), 0.0)
    begun.sweeping(0.0)
    begun.listed(0.0, 0.0, listed)
    due = begun.step(0.0)
    assert due.do is Do.WAIT
    begun.updated(update("cancelled", "a"), 0.01)
    assert begun.step(0.01) == due


def test_flags_are_plain() -> None:
    """What others read is true or false."""
    begun = proof(streamed=True)
    assert begun.listed_since_sweep is False
    begun.listed(0.0, 0.1, [])
    assert begun.listed_since_sweep is True
    begun.missed(0.1)
    assert begun.streamed is False


@pytest.mark.parametrize("delay", [0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("timeout", [5.0, 10.0])
def test_a_slow_venue_is_listed_after_its_last_sweep(delay: float, timeout: float) -> None:
    """An order that never cancels is known at the end, however long each request takes."""
    proof = Confirming(settle=0.25, deadline=timeout)
    immortal = order("1")
    now, sweeps = 0.0, 0
    while now < timeout:
        step = proof.step(now)
        if step.do is Do.SWEEP:
            proof.sweeping(now)
            now += delay
            proof.swept(now)
            sweeps += 1
        elif step.do is Do.LIST:
            began, now = now, now + delay
            if now < timeout:
                proof.listed(began, now, [immortal])
        else:
            now = max(now + 0.001, step.until)
    assert proof.listed_since_sweep
    assert proof.residual == (immortal,)
    assert sweeps > 1


def test_time_is_kept_for_a_sweep_and_the_listing_after_it() -> None:
    """As long as the longest of each took; before that, nothing is closing."""
    begun = Confirming(settle=9.0, deadline=DEADLINE)
    assert not begun.is_closing(0.0)
    begun.sweeping(1.0)
    begun.swept(1.5)
    begun.listed(1.5, 1.75, [])
    close = DEADLINE - LAST_LISTING - 0.75
    step = begun.step(2.0)
    assert step.do is Do.WAIT
    assert step.until == pytest.approx(close)
    assert begun.is_closing(step.until)
    assert not begun.is_closing(step.until - 0.01)


def test_what_stays_is_listed_before_it_is_swept_again() -> None:
    """However long the sweep took: it may have done its work."""
    begun = proof()
    begun.listed(0.0, 0.0, [order()])
    begun.sweeping(0.0)
    assert begun.step(2 * SWEEP_AGAIN) == Step(Do.LIST, 2 * SWEEP_AGAIN)


def test_a_slow_sweep_is_repeated_half_a_second_after_its_end() -> None:
    """Unless an order showed while it was on its way, which it has not covered."""
    begun = proof(streamed=True)
    begun.listed(0.0, 0.0, [order()])
    begun.sweeping(0.0)
    begun.swept(1.0)
    assert next_sweep(begun, 1.0) == pytest.approx(1.0 + SWEEP_AGAIN)
    begun.sweeping(2.0)
    begun.updated(update("open", "late"), 2.5)
    begun.swept(3.0)
    assert begun.step(3.0) == Step(Do.SWEEP, 3.0)
