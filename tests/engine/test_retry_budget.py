"""The budget that all retries to an origin share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masscancel import (
    AuthenticationError,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    RetryPolicy,
    VenueUnavailable,
)
from masscancel.engine.retry import Retry
from masscancel.transport.ledger import RetryBudget, RetryBudgets

if TYPE_CHECKING:
    from collections.abc import Sequence
from retry_support import POLICY, make

# The budget


def test_the_budget_starts_full_and_fills_at_its_rate() -> None:
    """As many at once as it holds, then one every 1/rate seconds, by waiting."""
    budget = RetryBudget(capacity=4, rate=2)
    waits = [budget.take(0.0, urgent=True) for _ in range(8)]
    assert waits == [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0]
    assert budget.take(2.0, urgent=True) == pytest.approx(0.5)


def test_the_usual_budget() -> None:
    """128 at once, then 64 a second."""
    budget = RetryBudget()
    waits = [budget.take(0.0, urgent=True) for _ in range(130)]
    assert waits == [0.0] * 128 + [1 / 64, 2 / 64]


def test_a_token_that_would_come_just_too_late_is_not_taken() -> None:
    """Nothing may leave at the deadline itself; whoever comes next does not pay for it."""
    budget = RetryBudget(capacity=1, rate=2)
    assert budget.take(0.0, urgent=True) == 0.0
    assert budget.take(0.0, urgent=True, latest=0.5) is None
    assert budget.take(0.0, urgent=True, latest=0.51) == 0.5


def test_a_call_that_never_began_has_no_token_to_give_back() -> None:
    """Its first send would have been free."""
    budget = RetryBudget(capacity=2, rate=1)
    assert [budget.take(0.0, urgent=True) for _ in range(2)] == [0.0, 0.0]
    make(budget=budget).done()
    assert budget.take(0.0, urgent=True) == 1.0


def test_an_idle_budget_holds_no_more_than_its_capacity() -> None:
    """A quiet night does not buy a storm in the morning."""
    budget = RetryBudget(capacity=4, rate=2)
    budget.take(0.0, urgent=True)
    waits = [budget.take(1_000_000.0, urgent=True) for _ in range(6)]
    assert waits == [0.0, 0.0, 0.0, 0.0, 0.5, 1.0]


def test_reads_get_none_of_the_last_half() -> None:
    """What is left belongs to cancels; a refused read takes nothing."""
    budget = RetryBudget(capacity=8, rate=1)
    reads = [budget.take(0.0, urgent=False) for _ in range(20)]
    assert reads == [0.0] * 4 + [None] * 16
    cancels = [budget.take(0.0, urgent=True) for _ in range(5)]
    assert cancels == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_a_clock_that_stands_still_or_goes_back_buys_nothing() -> None:
    """The clock only moves forward; if it does not, no token is made of it."""
    budget = RetryBudget(capacity=2, rate=1)
    assert [budget.take(5.0, urgent=True) for _ in range(2)] == [0.0, 0.0]
    assert budget.take(4.0, urgent=True) == pytest.approx(1.0)


def test_the_first_send_of_a_call_is_free() -> None:
    """An empty budget never holds up what has not been tried."""
    budget = RetryBudget(capacity=1, rate=0.001)
    for _ in range(50):
        budget.take(0.0, urgent=True)
    assert make(budget=budget).due(0.0)


def test_a_cancel_waits_for_its_token_and_then_leaves() -> None:
    """The second send waits until its token has dripped in, and is not charged again."""
    budget = RetryBudget(capacity=1, rate=2)
    budget.take(0.0, urgent=True)
    decisions = make(budget=budget, draw=lambda: 0.0)
    assert decisions.due(0.0)
    assert decisions.again(NotSent("x"), 0.0)
    assert not decisions.due(0.0)
    assert decisions.next_send == pytest.approx(0.5)
    assert decisions.due(0.5)
    assert budget.take(1.0, urgent=True) == pytest.approx(0.0)


def test_a_read_without_a_token_is_not_sent_again() -> None:
    """It ends: nothing follows up to the deadline."""
    budget = RetryBudget(capacity=1, rate=0.001)
    decisions = make(budget=budget, urgent=False, draw=lambda: 0.0)
    assert decisions.due(0.0)
    assert decisions.again(NotSent("x"), 0.0)
    assert not decisions.due(0.0)
    assert decisions.next_send >= 5.0


def test_a_read_that_was_refused_a_token_does_not_leave_without_one() -> None:
    """Impatience asks in vain; the failure that follows asks again, and is refused again."""
    budget = RetryBudget(capacity=1, rate=0.001)
    decisions = make(budget=budget, urgent=False, draw=lambda: 0.0, deadline=60.0)
    assert decisions.due(0.0)
    assert not decisions.due(1.0)
    decisions.again(NotSent("x"), 1.1)
    assert [now for now in (1.1, 1.2, 5.0, 59.0) if decisions.due(now)] == []


def test_a_token_that_is_waited_for_does_not_shorten_a_retry_after() -> None:
    """It is given up; another is asked for when the venue's time has come."""
    budget = RetryBudget(capacity=1, rate=2)
    budget.take(0.0, urgent=True)
    decisions = make(budget=budget, draw=lambda: 0.0, deadline=60.0, patience=0.1)
    assert decisions.due(0.0)
    assert not decisions.due(0.1)
    assert decisions.again(RateLimited(1, retry_after=10.0), 0.2)
    assert [now for now in (0.2, 0.5, 1.0, 5.0, 10.1) if decisions.due(now)] == []
    assert decisions.due(10.2)


def test_a_policy_is_a_frozen_value_of_named_fields() -> None:
    """One may serve any number of clients."""
    anyhow: Any = RetryPolicy
    with pytest.raises(TypeError):
        anyhow(0.05)
    with pytest.raises(AttributeError):
        POLICY.base = 1.0  # type: ignore[misc]  # that is the point
    assert RetryPolicy() == POLICY


@pytest.mark.parametrize("ending", ["answered", "refused", "failed"])
def test_a_token_that_is_not_needed_any_more_goes_back(ending: str) -> None:
    """While a call waits for its token, its first attempt is answered, refused or fails."""
    budget = RetryBudget(capacity=2, rate=1)
    assert [budget.take(0.0, urgent=True) for _ in range(2)] == [0.0, 0.0]
    decisions = make(budget=budget, deadline=60.0, patience=0.5)
    assert decisions.due(0.0)
    assert not decisions.due(0.5)
    if ending == "answered":
        decisions.done()
    else:
        decisions.again(AuthenticationError(1) if ending == "refused" else NotSent("x"), 0.5)
    assert budget.take(0.5, urgent=True) == pytest.approx(0.5)
    decisions.done()
    assert budget.take(0.5, urgent=True) == pytest.approx(1.5)


def test_a_token_that_goes_back_is_the_next_one_to_be_had() -> None:
    """The earliest first: whoever asks leaves in the place of one who gave up.

    Not together with the last of those who wait, after a time in which nobody left.
    """
    budget = RetryBudget(capacity=1, rate=1)
    assert [budget.take(0.0, urgent=True) for _ in range(5)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    for at in (3.0, 1.0, 2.0):
        budget.give_back(at)
    assert [budget.take(0.5, urgent=True) for _ in range(4)] == [0.5, 1.5, 2.5, 4.5]


def test_reads_may_have_what_went_back() -> None:
    """As soon as it has dripped in, and half of what the bucket holds is left."""
    budget = RetryBudget(capacity=2, rate=1)
    assert [budget.take(0.0, urgent=True) for _ in range(4)] == [0.0, 0.0, 1.0, 2.0]
    for at in (1.0, 2.0):
        budget.give_back(at)
    assert [budget.take(now, urgent=False) for now in (0.0, 1.0, 2.0, 2.0)] == [None, None, 0, None]


def test_a_token_that_went_back_is_lost_when_the_bucket_would_have_overflowed() -> None:
    """It counts as any that dripped in: for as long as the bucket takes to fill."""
    for now, waits in ((2.0, [0.0, 0.0, 1.0]), (2.5, [0.0, 0.5, 1.5])):
        budget = RetryBudget(capacity=2, rate=1)
        assert [budget.take(0.0, urgent=True) for _ in range(4)] == [0.0, 0.0, 1.0, 2.0]
        for at in (2.0, 1.0):
            budget.give_back(at)
        assert [budget.take(now, urgent=True) for _ in range(3)] == waits


def test_a_token_that_may_come_too_late_stays_where_it_is() -> None:
    """Whoever can't use the one that went back leaves it to others; a read, to cancels."""
    budget = RetryBudget(capacity=2, rate=1)
    assert [budget.take(0.0, urgent=True) for _ in range(4)] == [0.0, 0.0, 1.0, 2.0]
    budget.give_back(1.0)
    assert budget.take(0.0, urgent=True, latest=1.0) is None
    assert budget.take(0.0, urgent=False) is None
    assert budget.take(0.0, urgent=True, latest=1.1) == 1.0


@given(
    capacity=st.integers(1, 4),
    story=st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0, 2.5]), st.none() | st.integers(0, 9))),
)
@example(capacity=1, story=[(0.0, None)] * 4 + [(0.0, 0), (0.0, None)])
def test_whoever_gives_a_token_back_no_more_leave_than_the_bucket_allows(
    capacity: int, story: list[tuple[float, int | None]]
) -> None:
    """In any span of time: what it held, and what dripped in. And nobody waits longer for it.

    Each step, after so many seconds, somebody asks for a token, or one of those who wait gives up.
    """
    budget, without = (RetryBudget(capacity=capacity, rate=1) for _ in range(2))
    waiting: list[float] = []
    left: list[float] = []
    now = 0.0
    for pause, who in story:
        now += pause
        left += [at for at in waiting if at <= now]
        waiting = [at for at in waiting if at > now]
        if who is None:
            wait, longest = budget.take(now, urgent=True), without.take(now, urgent=True)
            assert wait is not None
            assert longest is not None
            assert wait <= longest + 1e-6
            waiting.append(now + wait)
        elif waiting:
            budget.give_back(waiting.pop(who % len(waiting)))
    left = sorted(left + waiting)
    for first, since in enumerate(left):
        for number, until in enumerate(left[first:], start=1):
            assert number <= capacity + (until - since) + 1e-6


def test_a_storm_is_spread_at_the_rate() -> None:
    """A hundred calls fail at once: their retries leave one by one as the tokens drip in."""
    budget = RetryBudget(capacity=10, rate=20)
    calls = [make(budget=budget, deadline=100.0, draw=lambda: 0.0) for _ in range(100)]
    for call in calls:
        assert call.due(0.0)
        assert call.again(NotSent("x"), 0.0)
    assert spread(calls, until=4.5, step=0.05) == [10] + [1] * 89


def test_a_storm_that_was_queued_by_impatience_is_spread_too() -> None:
    """A hundred calls hang, ask for tokens, and fail all at once while they wait for them.

    A failure does not let a call leave before the token that it waits for has dripped in.
    """
    budget = RetryBudget(capacity=10, rate=20)
    calls = [make(budget=budget, deadline=100.0, draw=lambda: 0.0) for _ in range(100)]
    for call in calls:
        assert call.due(0.0)
    beside = sum(call.due(1.0) for call in calls)
    assert beside == 10
    for call in calls:
        call.again(OutcomeUnknown("x"), 1.1)
    assert sum(call.due(1.2) for call in calls) <= 0.2 * 20


def test_tokens_that_came_too_late_are_not_owed_by_those_who_come_after() -> None:
    """A thousand calls give up at their deadline; the next cancel does not wait for their sake.

    Of the 128 + 64 tokens of the first second, those that could be used are; at the end of the
    second, what nobody can use any more is not charged.
    """
    budget = RetryBudget(capacity=128, rate=64)
    calls = [make(budget=budget, deadline=1.0, draw=lambda: 0.0) for _ in range(1000)]
    for call in calls:
        assert call.due(0.0)
        assert call.again(OutcomeUnknown("x"), 0.01)
    sent = sum(spread(calls, until=1.0, step=0.01))
    assert 128 <= sent <= 128 + 64
    wait = budget.take(2.0, urgent=True)
    assert wait is not None
    assert wait <= 0.1


def spread(calls: Sequence[Retry], *, until: float, step: float) -> list[int]:
    """How many attempts leave at each step, looking at every call."""
    return [sum(call.due(n * step) for call in calls) for n in range(round(until / step))]


# Failures in a row


def waits_of(budget: RetryBudget, *, at: float, **options: Any) -> list[float]:
    """The waits of a call that begins at a time, and whose first three attempts fail."""
    call = make(budget=budget, started=at, deadline=at + 30.0, draw=lambda: 1.0, **options)
    waits = []
    now = at
    for _ in range(3):
        assert call.due(now)
        assert call.again(OutcomeUnknown("x"), now)
        waits.append(call.next_send - now)
        now = call.next_send
    return waits


def fail(budget: RetryBudget, times: int, *, at: float) -> None:
    """So many calls of the key fail once."""
    for _ in range(times):
        call = make(budget=budget, started=at, deadline=at + 30.0)
        assert call.due(at)
        assert call.again(VenueUnavailable(None, http_status=403), at)


ALONE = [0.05, 0.1, 0.2]


def test_calls_side_by_side_wait_longer_together() -> None:
    """A firewall's page for thirty cancels and their sweeps: not each of them begins afresh."""
    budget = RetryBudget()
    assert waits_of(budget, at=0.0) == pytest.approx(ALONE)
    fail(budget, 6, at=1.0)
    some = waits_of(budget, at=1.0)
    fail(budget, 60, at=1.0)
    many = waits_of(budget, at=1.0)
    assert ALONE < some < many
    assert max(many) == pytest.approx(3 * RetryPolicy().cap)


def test_an_answer_ends_it() -> None:
    """One to a call of the same kind: a listing that is answered says nothing of cancels."""
    budgets = RetryBudgets()
    budget = budgets.of("https://venue", "key")
    fail(budget, 60, at=1.0)
    budgets.answered("https://venue", "key", cancels=False)
    budgets.answered("https://elsewhere", "key", cancels=True)
    assert waits_of(budget, at=1.0) > ALONE
    assert waits_of(budget, at=1.0, cancels=False) == pytest.approx(ALONE)
    budgets.answered("https://venue", "key", cancels=True)
    assert waits_of(budget, at=1.0) == pytest.approx(ALONE)


def test_what_was_long_ago_is_forgotten() -> None:
    """The first retry of the next kill is not held up by what failed in the one before."""
    budget = RetryBudget()
    fail(budget, 60, at=1.0)
    assert waits_of(budget, at=1.5) > ALONE
    assert waits_of(budget, at=60.0) == pytest.approx(ALONE)
