"""Retries, whatever happens: properties of histories that are drawn."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masscancel import (
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    RetryPolicy,
    VenueUnavailable,
)
from masscancel.engine.retry import Retry
from masscancel.errors import StampRefused
from masscancel.transport.ledger import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
from retry_support import TWICE, make

NEVER = float("inf")


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
