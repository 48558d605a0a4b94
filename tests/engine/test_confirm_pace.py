"""The pace of a proof: what is done when, and how often at most."""

import pytest

from confirm_support import DEADLINE, POLICY, SETTLE, order, proof, update
from masscancel.engine.proof import Do, Proof, Step
from masscancel.models import OpenOrder


@pytest.mark.parametrize("started", [0.0, 100.0])
def test_what_is_to_be_done_is_to_be_done_now(started: float) -> None:
    """A step that is no wait says the present; whatever the clock began at."""
    now = started
    begun = Proof(settle=SETTLE, deadline=started + DEADLINE)
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
    assert until == [0.05, 0.15, 0.35, POLICY.sweep_again]
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


def next_sweep(begun: Proof, now: float) -> float:
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
    begun = Proof(settle=9.97, deadline=110.0)
    begun.sweeping(100.0)
    begun.listed(100.0, 100.0 + took, [])
    close = 110.0 - POLICY.last_listing - kept
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
    close = DEADLINE - POLICY.last_listing
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
    proof = Proof(settle=0.25, deadline=timeout)
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
    begun = Proof(settle=9.0, deadline=DEADLINE)
    assert not begun.is_closing(0.0)
    begun.sweeping(1.0)
    begun.swept(1.5)
    begun.listed(1.5, 1.75, [])
    close = DEADLINE - POLICY.last_listing - 0.75
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
    assert begun.step(2 * POLICY.sweep_again) == Step(Do.LIST, 2 * POLICY.sweep_again)


def test_a_slow_sweep_is_repeated_half_a_second_after_its_end() -> None:
    """Unless an order showed while it was on its way, which it has not covered."""
    begun = proof(streamed=True)
    begun.listed(0.0, 0.0, [order()])
    begun.sweeping(0.0)
    begun.swept(1.0)
    assert next_sweep(begun, 1.0) == pytest.approx(1.0 + POLICY.sweep_again)
    begun.sweeping(2.0)
    begun.updated(update("open", "late"), 2.5)
    begun.swept(3.0)
    assert begun.step(3.0) == Step(Do.SWEEP, 3.0)


def test_a_flat_scope_needs_no_sweep_that_came_too_late() -> None:
    """An order that no sweep covered, and that is gone from two listings, is no reason to go on."""
    begun = proof(swept=False, deadline=1.0)
    begun.sweeping(0.0)
    begun.swept(0.6)  # so slow that there is no time for another
    begun.listed(0.6, 0.61, [order()])
    begun.listed(0.62, 0.63, [])
    begun.listed(0.63 + SETTLE, 0.64 + SETTLE, [])
    assert begun.step(0.64 + SETTLE).do is Do.DONE
