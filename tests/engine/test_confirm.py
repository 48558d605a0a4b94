"""Flat or not flat, as pure decisions: what is proof, and what starts it anew."""

from collections.abc import Callable

import pytest

from confirm_support import DEADLINE, POLICY, order, proof, update
from masscancel.engine.proof import Do, Proof
from masscancel.models import OrderState


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
def test_what_starts_it_anew(happens: Callable[[Proof], object]) -> None:
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
def test_news_after_the_second_listing_counts(happens: Callable[[Proof], object]) -> None:
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
    assert begun.step(0.1 + POLICY.sweep_again - 0.01).do is not Do.SWEEP
    assert begun.step(0.1 + POLICY.sweep_again).do is Do.SWEEP


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
    close = DEADLINE - POLICY.last_listing - 0.2
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
