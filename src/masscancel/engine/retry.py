"""Decisions when to send again: pure, with the clock handed in.

What a failed attempt leads to:

==================================  ===========================================================
the attempt ended with              what happens, within the deadline
==================================  ===========================================================
a value                             it is returned; attempts still on their way are left alone
``NotSent``                         another attempt, on a fresh connection
``OutcomeUnknown``                  likewise, if the call may be repeated (cancel-all may)
``ProtocolError``                   likewise
``VenueUnavailable``                likewise, not before ``Retry-After``
``RateLimited``                     another attempt, not before ``Retry-After``
``StampRefused``                    the clock is measured, then one more attempt
any other ``VenueError``            it is raised: asking again would not help
no answer for ``patience`` seconds  another attempt beside it; the first answer counts
==================================  ===========================================================

The wait before another attempt is drawn evenly between nothing and ``base * 2**n`` seconds, and
never more than ``cap`` or the time that is left ("full jitter"); none follows in the last ``base``
seconds. Of many calls of one key that fail and fail, each waits longer, up to three times ``cap``,
and a new one does not begin as if nothing were wrong, until one is answered. At most
``early_sends`` leave in the first ``early_window`` seconds, and all sends but the first of each
call share a :class:`RetryBudget` per origin. An attempt that could not leave before the deadline,
or a ``Retry-After`` beyond it, ends the call at once: waiting would not help.

tenacity and stamina decide when a *function* is called again, one call at a time. Here a second
attempt runs beside the first, all calls share a budget, and an answer's own words count; with them
this module would be no shorter, and it would need a clock and a sleep of its own.
"""

import random
from collections.abc import Callable
from typing import Final

import msgspec

from masscancel.errors import MassCancelError, RateLimited, StampRefused
from masscancel.transport.ledger import RetryBudget

__all__ = ["Retry", "RetryPolicy"]


#: After so many failures of others the longest wait is twice as long, and so on, up to a multiple.
_MANY: Final = 16
_LONGER: Final = 3.0


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The persistence of a client. All times are in seconds.

    Attributes:
        base: the first wait is at most this long.
        cap: no wait is longer, unless the venue asks for it.
        rate_limited_base: in place of ``base`` where a rate limit came without ``Retry-After``.
        early_sends: at most so many sends ...
        early_window: ... in the first so many seconds of a call.
        patience: how long one attempt may stay unanswered before another is sent beside it; it
            doubles with each.
        hedge: the same where a call was sent on the stream and by REST at once.
        stamp_refusals: how many refused timestamps are answered with a new one. Of refused nonces
            there may be any number: another process may use the key, too.
    """

    base: float = 0.05
    cap: float = 1.0
    rate_limited_base: float = 0.5
    early_sends: int = 3
    early_window: float = 0.1
    patience: float = 1.0
    hedge: float = 0.01
    stamp_refusals: int = 1


class Retry:
    """The decisions for one call.

    Args:
        policy: how persistent.
        budget: shared by all calls to the origin.
        started: now, in seconds of any clock that only moves forward.
        deadline: when it is too late to send, by the same clock.
        urgent: whether the call cancels something.
        repeatable: whether it may be sent again when its outcome is unknown.
        cancels: whether it cancels by itself: failures in a row are counted apart.
        patience: in place of the policy's, in seconds.
        endless_stamps: whether refused stamps are backed off from like anything else, since they
            are nonces.
        draw: an even draw from [0, 1).
    """

    __slots__ = (
        "_budget",
        "_deadline",
        "_draw",
        "_endless_stamps",
        "_failures",
        "_not_before",
        "_patience",
        "_policy",
        "_refusals",
        "_refused",
        "_repeatable",
        "_reserved",
        "_started",
        "_streak",
        "_urgent",
        "next_send",
        "sends",
    )

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        *,
        started: float,
        deadline: float,
        urgent: bool,
        repeatable: bool = True,
        cancels: bool = True,
        patience: float | None = None,
        endless_stamps: bool = False,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._patience = policy.patience if patience is None else patience
        self._budget = budget
        self._started = started
        self._deadline = deadline
        self._urgent = urgent
        self._repeatable = repeatable
        self._streak = budget.failures[cancels]
        self._draw = draw
        self._failures = 0
        self._refusals = 0
        self._endless_stamps = endless_stamps
        self._reserved = False  # a token of the budget, which comes at ``next_send``
        self._not_before = started
        self._refused = False
        self.sends = 0
        #: When the next attempt may leave; at or past the deadline if none will.
        self.next_send = started

    def due(self, now: float) -> bool:
        """Whether an attempt should leave now. If so, it is taken to have left."""
        if now < self.next_send or now >= self._deadline:
            return False
        if self.sends and not self._reserved:
            wait = self._budget.take(now, urgent=self._urgent, latest=self._deadline)
            if wait is None:
                self._give_up()
                return False
            if wait > 0:
                self._reserved = True
                self.next_send = now + wait
                return False
        self._reserved = False
        patience = self._patience * _doubled(self.sends)
        self.sends += 1
        self.next_send = self._not_early(now + patience) if self._repeatable else self._deadline
        return True

    def beside(self) -> None:
        """An attempt leaves on another path, together with the first."""
        self.sends += 1

    def again(self, error: MassCancelError, now: float) -> bool:
        """Whether another attempt will follow this failure; sets when."""
        if self.next_send >= self._deadline and self._refused:
            return False
        self.done()
        wait = self._wait(error, now)
        if wait is None:
            self._give_up()
            return False
        self._not_before = max(self._not_before, now + (error.retry_after or 0.0))
        self.next_send = max(self._not_early(now + wait), self._not_before)
        return self.next_send < self._deadline

    def done(self) -> None:
        """No attempt will leave at the time that was planned: a token for it is given back."""
        if self._reserved:
            self._reserved = False
            self._budget.give_back(self.next_send)

    def plan_nothing(self) -> None:
        """Plan no further attempt, unless one that is under way fails."""
        self.done()
        self.next_send = self._deadline

    def _give_up(self) -> None:
        self._refused = True
        self.next_send = self._deadline

    def _not_early(self, at: float) -> float:
        if self.sends < self._policy.early_sends:
            return at
        return max(at, self._started + self._policy.early_window)

    def _wait(self, error: MassCancelError, now: float) -> float | None:
        if isinstance(error, StampRefused):
            self._refusals += 1
            if self._refusals <= self._policy.stamp_refusals:
                return 0.0
            if not self._endless_stamps:
                return None
        if not error.worth_retrying or (error.venue_may_have_acted and not self._repeatable):
            return None
        policy, left = self._policy, self._deadline - now
        if left < policy.base:
            return None
        self._failures += 1
        others = max(0, self._streak.failed(now) - self._failures)
        base = policy.rate_limited_base if isinstance(error, RateLimited) else policy.base
        cap = policy.cap * min(1 + others / _MANY, _LONGER)
        return self._draw() * min(cap, left, base * _doubled(max(self.sends - 1, others // 4)))


def _doubled(times: int) -> float:
    """Two to that power; bounded, since a float is."""
    return 2.0 ** min(times, 32)
