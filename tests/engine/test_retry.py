"""When to send again: what each failure leads to, Retry-After, stamps, patience."""

from __future__ import annotations

import inspect
import re

import pytest

from masscancel import (
    AuthenticationError,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    RetryPolicy,
    VenueError,
    VenueUnavailable,
)
from masscancel.engine import retry
from masscancel.engine.retry import Retry
from masscancel.errors import StampRefused
from masscancel.transport.ledger import RetryBudget
from retry_support import POLICY, TWICE, make


def sent_at(retry: Retry, *, until: float, step: float = 0.01) -> list[float]:
    """When attempts leave that nobody answers, looking every step; in seconds."""
    steps = range(round(until / step))
    return [round(n * step, 6) for n in steps if retry.due(n * step)]


# What a failed attempt leads to: the table of the docstring, row by row.


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


def test_refused_nonces_are_backed_off_from() -> None:
    """A key's nonces may be used up by others, again and again: once at once, then later each."""
    decisions = Retry(
        POLICY,
        RetryBudget(),
        started=0.0,
        deadline=60.0,
        urgent=True,
        endless_stamps=True,
        draw=lambda: 1.0,
    )
    now, waits = 0.0, []
    for _ in range(6):
        now = max(now, decisions.next_send)
        assert decisions.due(now)
        now += 0.2
        assert decisions.again(StampRefused(1), now)
        waits.append(decisions.next_send - now)
    assert waits[0] == 0.0
    assert waits[1:] == sorted(waits[1:])
    assert waits[1] > 0


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
