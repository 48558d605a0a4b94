"""When to send again: the decisions alone, with clocks and draws made by hand."""

from __future__ import annotations

import heapq
import inspect
import re
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masscancel import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    ScopeError,
    VenueError,
    VenueUnavailable,
    retry,
)
from masscancel.errors import NotSentInTime, StampRefused, UnansweredInTime
from masscancel.retry import Retry, RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POLICY = RetryPolicy()
NEVER = float("inf")


def make(
    *,
    policy: RetryPolicy = POLICY,
    budget: RetryBudget | None = None,
    started: float = 0.0,
    deadline: float = 5.0,
    urgent: bool = True,
    repeatable: bool = True,
    patience: float | None = None,
    draw: Callable[[], float] = lambda: 0.5,
) -> Retry:
    """Decisions for one call, by default with half of every draw."""
    return Retry(
        policy,
        budget or RetryBudget(),
        started=started,
        deadline=deadline,
        urgent=urgent,
        repeatable=repeatable,
        patience=patience,
        draw=draw,
    )


def sent_at(retry: Retry, *, until: float, step: float = 0.01) -> list[float]:
    """When attempts leave that nobody answers, looking every step; in seconds."""
    steps = range(round(until / step))
    return [round(n * step, 6) for n in steps if retry.due(n * step)]


# What a failed attempt leads to: the table of the docstring, row by row.

TWICE = [  # the error, what happens if the call may be repeated, and if it may not
    (NotSent("x"), True, True),
    (NotSentInTime("x"), True, True),
    (OutcomeUnknown("x"), True, False),
    (UnansweredInTime("x"), True, False),
    (ProtocolError("x"), True, False),
    (VenueUnavailable(510001), True, False),
    (VenueUnavailable(510001, retry_after=0.2), True, False),
    (RateLimited(200002), True, True),
    (RateLimited(200002, retry_after=0.2), True, True),
    (StampRefused(100011), True, True),
    (VenueError(999999), False, False),
    (AuthenticationError(200001), False, False),
    (PermissionDenied(200015), False, False),
    (InvalidRequest(100008), False, False),
    (ConfigurationError("x"), False, False),
    (ScopeError("x"), False, False),
    (DeadlineExceeded("x"), False, False),
    (MassCancelError("x"), False, False),
]


def test_the_table_of_the_docstring_has_no_row_that_is_not_tried() -> None:
    """Every error that the docstring's table names is in the table of this test."""
    table = inspect.cleandoc(retry.__doc__ or "").split("=" * 30)
    named = {name for name in re.findall(r"``(\w+)``", "".join(table)) if name[0].isupper()}
    named -= {"RetryBudget"}
    assert named >= {"NotSent", "OutcomeUnknown", "StampRefused"}
    assert named <= {type(error).__name__ for error, *_ in TWICE}


@pytest.mark.parametrize("repeatable", [True, False], ids=["repeatable", "once"])
@pytest.mark.parametrize(
    ("error", "again", "again_if_once"), TWICE, ids=lambda v: v if isinstance(v, bool) else repr(v)
)
def test_what_a_failed_attempt_leads_to(
    error: MassCancelError, *, again: bool, again_if_once: bool, repeatable: bool
) -> None:
    """Another attempt or none, as the docstring's table says; if none, none leaves later."""
    decisions = make(repeatable=repeatable)
    assert decisions.due(0.0)
    expected = again if repeatable else again_if_once
    assert decisions.again(error, 0.01) is expected
    later = [now for now in (0.01, 0.1, 0.5, 1.0, 2.0, 4.9) if decisions.due(now)]
    assert bool(later) is expected


@pytest.mark.parametrize(
    ("error", "longest"),
    [
        (NotSent("x"), [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (OutcomeUnknown("x"), [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (RateLimited(1), [0.5, 1.0, 1.0, 1.0]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("drawn", [0.0, 0.25, 0.999])
def test_the_wait_is_drawn_between_nothing_and_a_bound_that_doubles(
    error: MassCancelError, longest: list[float], drawn: float
) -> None:
    """Full jitter: the draw times base, twice base, four times base, and never more than cap."""
    policy = RetryPolicy(early_window=0.0)
    decisions = make(policy=policy, deadline=100.0, draw=lambda: drawn)
    now = 10.0
    for bound in longest:
        assert decisions.due(now)
        assert decisions.again(error, now)
        assert decisions.next_send == pytest.approx(now + drawn * bound)
        now = decisions.next_send


def test_the_wait_is_never_more_than_the_time_that_is_left() -> None:
    """A bound that has grown past the deadline does not lose the last attempts to a draw."""
    policy = RetryPolicy(cap=60.0, base=8.0)
    decisions = make(policy=policy, deadline=10.0, draw=lambda: 0.999)
    assert decisions.due(0.0)
    assert decisions.again(NotSent("x"), 1.0)
    assert decisions.next_send < 10.0


def test_no_retry_follows_a_failure_in_the_last_moments() -> None:
    """With less than `base` left, waiting is over at once: no answer could come."""
    decisions = make(deadline=5.0)
    assert decisions.due(0.0)
    assert not decisions.again(NotSent("x"), 4.96)
    assert not decisions.due(4.999)


def test_a_retry_follows_as_long_as_base_is_left() -> None:
    """Exactly `base` is enough; and so close to the end, the wait is drawn from what is left."""
    policy = RetryPolicy(base=0.25, early_window=0.0)
    decisions = make(policy=policy, deadline=1.0)
    for now in (0.0, 0.0, 0.0, 0.75):
        assert decisions.due(max(now, decisions.next_send))
        if now < 0.75:
            assert decisions.again(NotSent("x"), 0.0)
    assert decisions.again(NotSent("x"), 0.75)
    assert decisions.next_send == pytest.approx(0.75 + 0.5 * 0.25)


def test_nothing_leaves_before_it_is_due() -> None:
    """Not early, and once per decision."""
    decisions = make()
    assert decisions.due(0.0)
    assert not decisions.due(0.0)
    assert decisions.again(NotSent("x"), 0.01)
    assert not decisions.due(0.01)
    assert not decisions.due(0.0349)
    assert decisions.due(0.0351)
    assert decisions.sends == 2


def test_nothing_leaves_at_the_deadline() -> None:
    """A call whose time is up from the start sends nothing."""
    assert not make(started=5.0, deadline=5.0).due(5.0)
    assert not make(started=0.0, deadline=5.0).due(6.0)


# Retry-After


@pytest.mark.parametrize("kind", [RateLimited, VenueUnavailable])
def test_not_before_retry_after(kind: type[VenueError]) -> None:
    """What the venue asks for is waited, however little was drawn."""
    decisions = make(draw=lambda: 0.0)
    assert decisions.due(0.0)
    assert decisions.again(kind(1, retry_after=2.0), 0.5)
    assert not decisions.due(2.49)
    assert decisions.due(2.5)


def test_retry_after_zero_is_no_reason_to_skip_the_jitter() -> None:
    """A thousand clients told "now" still spread."""
    decisions = make(draw=lambda: 0.5)
    assert decisions.due(0.0)
    assert decisions.again(RateLimited(1, retry_after=0.0), 0.0)
    assert decisions.next_send == pytest.approx(0.25)


@pytest.mark.parametrize("asked", [4.9, 5.0, 60.0, 999_999_999.0])
def test_retry_after_beyond_the_deadline_ends_the_call_at_once(asked: float) -> None:
    """Waiting would not help, and asking sooner would be rude."""
    decisions = make(deadline=5.0)
    assert decisions.due(0.0)
    assert not decisions.again(RateLimited(1, retry_after=asked), 5.0 - 4.9)
    assert not decisions.due(4.99)


def test_retry_after_holds_whatever_another_attempt_ends_with() -> None:
    """Two attempts in flight: one is told to wait, the other's failure does not shorten that."""
    decisions = make(deadline=60.0, draw=lambda: 0.0)
    assert decisions.due(0.0)
    assert decisions.due(1.0)
    assert decisions.again(RateLimited(1, retry_after=10.0), 1.1)
    decisions.again(NotSent("x"), 1.2)
    assert not decisions.due(11.0)
    assert decisions.due(11.1)


# Refused stamps


def test_a_refused_stamp_is_answered_once_and_without_a_wait() -> None:
    """The clock has been measured by then; a second refusal is final."""
    decisions = make()
    assert decisions.due(0.0)
    assert decisions.again(StampRefused(100011), 0.2)
    assert decisions.due(0.2)
    assert not decisions.again(StampRefused(100011), 0.4)


def test_as_many_stamp_refusals_as_the_policy_allows() -> None:
    """Where nonces are many, more than one may be refused."""
    decisions = make(policy=RetryPolicy(stamp_refusals=3))
    answers = []
    for now in (0.0, 0.2, 0.4, 0.6):
        assert decisions.due(now)
        answers.append(decisions.again(StampRefused(1), now + 0.1))
    assert answers == [True, True, True, False]


def test_as_many_stamp_refusals_as_the_call_allows() -> None:
    """In place of the policy's: a key's nonces may be used up by others, again and again."""
    decisions = Retry(
        POLICY, RetryBudget(), started=0.0, deadline=5.0, urgent=True, stamp_refusals=2
    )
    answers = []
    for now in (0.0, 0.2, 0.4):
        assert decisions.due(now)
        answers.append(decisions.again(StampRefused(1), now + 0.1))
    assert answers == [True, True, False]


def test_a_call_may_be_repeated_unless_it_is_said_that_it_may_not() -> None:
    """As cancel-all and listings may."""
    decisions = Retry(POLICY, RetryBudget(), started=0.0, deadline=5.0, urgent=True)
    assert decisions.due(0.0)
    assert decisions.again(OutcomeUnknown("x"), 0.1)


# Patience


def test_patience_doubles() -> None:
    """Unanswered, another leaves beside it after 1 s, then 2 s, then 4 s."""
    decisions = make(deadline=40.0)
    assert sent_at(decisions, until=40.0, step=0.5) == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]


def test_what_may_not_be_repeated_is_sent_once_and_waited_for() -> None:
    """However long it takes: an unknown outcome may be a success."""
    decisions = make(deadline=40.0, repeatable=False)
    assert sent_at(decisions, until=40.0, step=0.5) == [0.0]


def test_patience_doubles_for_as_long_as_a_float_can_say() -> None:
    """Days of silence overflow nothing."""
    decisions = make(policy=RetryPolicy(patience=1e-9), deadline=1e18)
    now = 0.0
    for _ in range(200):
        decisions.due(now)
        now = max(now, decisions.next_send)
    assert decisions.sends == 200


def test_impatience_keeps_to_the_early_limit_too() -> None:
    """At most `early_sends` leave in the first `early_window`, whatever makes them leave."""
    decisions = make(policy=RetryPolicy(patience=0.01))
    assert len(sent_at(decisions, until=0.1, step=0.001)) == 3


def test_an_attempt_on_another_path_counts_as_a_send() -> None:
    """Sent on the stream and over REST at once: two of the early sends have left."""
    decisions = make(patience=0.01)
    assert decisions.due(0.0)
    decisions.beside()
    assert decisions.sends == 2
    assert len(sent_at(decisions, until=0.1, step=0.001)) == 1


def test_a_patience_of_the_calls_own() -> None:
    """In place of the policy's, and doubled as that is."""
    decisions = make(deadline=40.0, patience=2.0)
    assert sent_at(decisions, until=40.0, step=0.5) == [0.0, 2.0, 6.0, 14.0, 30.0]


def test_a_final_refusal_is_final_while_another_attempt_is_under_way() -> None:
    """One of two attempts is refused for its key: no third follows while the other is awaited."""
    decisions = make(deadline=60.0)
    assert decisions.due(0.0)
    assert decisions.due(1.0)
    assert not decisions.again(AuthenticationError(200001), 1.1)
    assert decisions.next_send >= 60.0
    assert [now for now in (1.1, 3.0, 10.0, 59.0) if decisions.due(now)] == []


def test_a_final_refusal_outlives_the_failure_of_another_attempt() -> None:
    """The other attempt fails later, in a way that alone would be tried again."""
    decisions = make(deadline=60.0)
    assert decisions.due(0.0)
    assert decisions.due(1.0)
    assert not decisions.again(AuthenticationError(200001), 1.1)
    assert not decisions.again(OutcomeUnknown("x"), 1.2)
    assert [now for now in (1.2, 3.0, 10.0, 59.0) if decisions.due(now)] == []


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


# Whatever happens: a call is played through, as its driver would, on a clock made by hand.


class Played:
    """What became of a call."""

    def __init__(self) -> None:
        self.sends: list[float] = []
        self.failures: list[tuple[float, MassCancelError, bool]] = []


def play(
    decisions: Retry, fates: Sequence[tuple[float, MassCancelError]], *, deadline: float
) -> Played:
    """Let each attempt fail after so long, with this error; those beyond the last hang for ever."""
    played = Played()
    pending: list[tuple[float, int, MassCancelError]] = []
    order = count()
    now = 0.0
    for _ in range(10_000):
        if now >= deadline:
            return played
        if decisions.due(now):
            played.sends.append(now)
            if len(played.sends) <= len(fates):
                latency, error = fates[len(played.sends) - 1]
                heapq.heappush(pending, (now + latency, next(order), error))
        while pending and pending[0][0] <= now:
            _, _, error = heapq.heappop(pending)
            played.failures.append((now, error, decisions.again(error, now)))
        upcoming = pending[0][0] if pending else NEVER
        now = max(now, min(upcoming, deadline, decisions.next_send))
    pytest.fail("the call does not come to an end")


errors_of_attempts = st.one_of(
    st.sampled_from([error for error, *_ in TWICE]),
    st.builds(RateLimited, st.just(1), retry_after=st.floats(0, 10)),
    st.builds(VenueUnavailable, st.just(1), retry_after=st.floats(0, 10)),
)
latencies = st.one_of(st.just(0.0), st.floats(0, 0.1), st.floats(0, 5))
fates_of_attempts = st.lists(st.tuples(latencies, errors_of_attempts), max_size=12)
policies = st.builds(
    RetryPolicy,
    base=st.sampled_from([0.0, 0.001, 0.05, 0.5]),
    cap=st.sampled_from([0.0, 0.01, 1.0, 30.0]),
    early_sends=st.integers(1, 5),
    early_window=st.sampled_from([0.0, 0.1, 1.0]),
    patience=st.sampled_from([0.001, 0.01, 0.1, 1.0, 100.0]),
    stamp_refusals=st.integers(0, 3),
)
draws = st.randoms(use_true_random=False).map(lambda source: source.random)
budgets = st.builds(
    RetryBudget, capacity=st.sampled_from([1, 4, 128]), rate=st.sampled_from([0.1, 2.0, 64.0])
)
calls_played = given(
    policy=policies,
    budget=budgets,
    fates=fates_of_attempts,
    deadline=st.sampled_from([0.05, 0.5, 5.0]),
    urgent=st.booleans(),
    repeatable=st.booleans(),
    draw=draws,
)


@calls_played
def test_nothing_is_sent_at_or_after_the_deadline(
    fates: list[Any], deadline: float, **options: Any
) -> None:
    """Whatever fails, however often; and the call comes to an end."""
    played = play(make(deadline=deadline, **options), fates, deadline=deadline)
    assert played.sends[0] == 0.0
    assert all(at < deadline for at in played.sends)


@calls_played
def test_the_early_limit_holds_whatever_fails(
    fates: list[Any], deadline: float, policy: RetryPolicy, **options: Any
) -> None:
    """At most `early_sends` in the first `early_window`."""
    played = play(make(policy=policy, deadline=deadline, **options), fates, deadline=deadline)
    early = [at for at in played.sends if at < policy.early_window]
    assert len(early) <= policy.early_sends


@given(fates=fates_of_attempts, draw=draws)
@example(fates=[(0.0, NotSent("x"))] * 12, draw=lambda: 0.0)
@example(fates=[(0.0, StampRefused(1))] * 12, draw=lambda: 0.0)
@example(fates=[(0.001, OutcomeUnknown("x"))] * 12, draw=lambda: 0.0)
def test_three_in_the_first_tenth_of_a_second_at_most(
    fates: list[Any], draw: Callable[[], float]
) -> None:
    """The default policy, whatever the errors."""
    played = play(make(draw=draw), fates, deadline=5.0)
    assert len([at for at in played.sends if at < 0.1]) <= 3


@calls_played
def test_retry_after_is_honoured_whatever_else_fails(
    fates: list[Any], deadline: float, **options: Any
) -> None:
    """No attempt leaves in the time that the venue asked for."""
    played = play(make(deadline=deadline, **options), fates, deadline=deadline)
    for at, error, again in played.failures:
        asked = getattr(error, "retry_after", None)
        if again and asked and not isinstance(error, StampRefused):
            early = [send for send in played.sends if at < send < at + asked - 1e-9]
            assert early == []


@calls_played
def test_no_more_is_no_more(fates: list[Any], deadline: float, **options: Any) -> None:
    """Once it was said that no attempt will follow, none does."""
    played = play(make(deadline=deadline, **options), fates, deadline=deadline)
    said = [at for at, _, again in played.failures if not again]
    assert [send for send in played.sends if said and send > said[0]] == []


@given(
    capacity=st.integers(1, 10),
    rate=st.sampled_from([1.0, 10.0, 64.0]),
    fates=fates_of_attempts,
    draws_of_calls=st.lists(draws, min_size=1, max_size=30),
)
@example(capacity=2, rate=10.0, fates=[(0.6, NotSent("x"))], draws_of_calls=[lambda: 0.0] * 30)
@example(
    capacity=2,
    rate=10.0,
    fates=[(0.6, RateLimited(1, retry_after=2.0))],
    draws_of_calls=[lambda: 0.0] * 30,
)
def test_all_retries_of_an_origin_keep_to_the_budget(
    capacity: int, rate: float, fates: list[Any], draws_of_calls: list[Callable[[], float]]
) -> None:
    """In any span of time, no more leave than the bucket held and what dripped in meanwhile.

    Many calls have the same misfortune at the same time.
    """
    budget = RetryBudget(capacity=capacity, rate=rate)
    calls = [
        make(policy=RetryPolicy(patience=0.5), budget=budget, draw=draw) for draw in draws_of_calls
    ]
    retries = sorted(at for played in play_together(calls, fates) for at in played.sends[1:])
    for first, since in enumerate(retries):
        for last in range(first, len(retries)):
            allowed = capacity + rate * (retries[last] - since + STEP)
            assert last - first + 1 <= allowed + 1e-6


STEP = 0.02  # seconds; so closely is the time looked at


def play_together(
    calls: Sequence[Retry], fates: Sequence[tuple[float, MassCancelError]]
) -> list[Played]:
    """Play calls at the same time, in 200 steps; all have the same fates."""
    games = [(call, Played()) for call in calls]
    pending: list[tuple[float, Retry, MassCancelError]] = []
    for step in range(200):
        now = step * STEP
        for failed in [entry for entry in pending if entry[0] <= now]:
            pending.remove(failed)
            failed[1].again(failed[2], now)
        for call, played in games:
            if call.due(now):
                played.sends.append(now)
                if len(played.sends) <= len(fates):
                    latency, error = fates[len(played.sends) - 1]
                    pending.append((now + latency, call, error))
    return [played for _, played in games]
