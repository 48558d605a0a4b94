"""The ledger: what has been spent of every documented limit, and who wants nothing for a while.

One serves the whole process, since limits and bans belong to origins and keys, whoever asks. Within
a limit, cancels go first: whatever else there is gets a share of it only, the clock's readings the
least. All times are seconds of ``time.monotonic``.
"""

import math
import threading
import time
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final

from masscancel.calls import Limit, Precedence

__all__ = ["LEDGER", "Ledger", "RetryBudget"]

#: The share of a limit up to which each may spend.
SHARES: Final = {
    Precedence.CANCEL: 1.0,
    Precedence.NEEDED: 0.9,
    Precedence.AGAIN: 0.75,
    Precedence.OTHER: 0.5,
    Precedence.PROBE: 0.25,
}
#: A window is counted in so many slots.
_SLOTS: Final = 60

Owner = tuple[str, str]  # origin and key; the key is "" for a limit of the origin


class _Window:
    """The spending of one limit, past and planned, in a window that slides."""

    __slots__ = ("_amount", "_seconds", "_slot", "_spent")

    def __init__(self, limit: Limit) -> None:
        self._amount = limit.amount
        self._seconds = limit.seconds
        self._slot = limit.seconds / _SLOTS
        self._spent: list[list[float]] = []  # [end of the slot, cost], in order

    def earliest(self, cost: float, now: float, share: float) -> float:
        """The time to spend so much at: no window of the limit's length then holds too much."""
        spent = self._spent
        while spent and spent[0][0] <= now - self._seconds:
            del spent[0]
        room = max(self._amount * share - cost, 0.0)
        total = sum(entry[1] for entry in spent)
        at = now
        for end, entry_cost in spent:
            if total <= room:
                break
            total -= entry_cost
            at = max(at, end + self._seconds)
        return at

    def spend(self, cost: float, at: float) -> None:
        """Count so much at a time."""
        end = (at // self._slot + 1) * self._slot
        place = bisect_right(self._spent, [end, math.inf])
        if place and self._spent[place - 1][0] == end:
            self._spent[place - 1][1] += cost
        else:
            insort(self._spent, [end, cost])

    def set_spent(self, amount: float, now: float) -> None:
        """Go by what the venue says, where that is more than what was counted here."""
        counted = sum(entry[1] for entry in self._spent if entry[0] <= now + self._slot)
        if amount > counted:
            self.spend(amount - counted, now)


class _Counter:
    """A counter that rises by what is spent and falls all the time, down to nothing."""

    __slots__ = ("_amount", "_at", "_level", "_rate")

    def __init__(self, limit: Limit) -> None:
        self._amount = limit.amount
        self._rate = limit.amount / limit.seconds
        self._level = 0.0
        self._at = -math.inf  # when it is, or will be, at that level

    def _level_at(self, now: float) -> float:
        return max(0.0, self._level - (now - self._at) * self._rate)

    def earliest(self, cost: float, now: float, share: float) -> float:
        """The time to spend so much at: the counter then does not rise above the limit."""
        room = max(self._amount * share - cost, 0.0)
        return now + max(0.0, self._level_at(now) - room) / self._rate

    def spend(self, cost: float, at: float) -> None:
        """Count so much at a time."""
        self._level, self._at = self._level_at(at) + cost, at

    def set_spent(self, amount: float, now: float) -> None:
        """Go by what the venue says, where that is more than what was counted here."""
        if amount > self._level_at(now):
            self._level, self._at = amount, now


class Ledger:
    """Limits, bans and lockouts, by origin and by key.

    Args:
        clock: the time in seconds, which only moves forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[Owner, str, float], _Window | _Counter] = {}
        self._blocked: dict[Owner, float] = {}

    def reserve(
        self,
        origin: str,
        api_key: str,
        costs: Mapping[str, float],
        limits: Iterable[Limit],
        *,
        precedence: Precedence,
        within: float = math.inf,
    ) -> float:
        """Find out how long a request has to wait, and count it from then on.

        What may not leave now and does not cancel is not counted: it asks again then.

        Args:
            origin: where it goes.
            api_key: who sends it.
            costs: what it spends, by the limits' names.
            limits: the origin's limits.
            precedence: what it goes before.
            within: nothing is counted that would have to wait longer, in seconds.

        Returns:
            The wait, in seconds; 0 if it may leave now.
        """
        now, share = self._clock(), SHARES[precedence]
        needed = precedence is not Precedence.PROBE
        with self._lock:
            at = max(now, self._blocked_until(origin, api_key))
            windows = [
                (
                    self._window(limit, origin, api_key),
                    costs[limit.name],
                    1.0 if needed and not limit.of_cancels else share,
                )
                for limit in limits
                if costs.get(limit.name)
            ]
            for window, cost, allowed in windows:
                at = max(at, window.earliest(cost, now, allowed))
            if at <= now or (precedence is Precedence.CANCEL and at - now < within):
                for window, cost, _ in windows:
                    window.spend(cost, at)
        return at - now

    def _window(self, limit: Limit, origin: str, api_key: str) -> _Window | _Counter:
        owner = (origin, api_key if limit.per == "key" else "")
        key = (owner, limit.name, limit.amount)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = (_Counter if limit.decays else _Window)(limit)
        return window

    def note_spent(
        self, origin: str, api_key: str, spent: Mapping[str, float], limits: Iterable[Limit]
    ) -> None:
        """Take what the venue's headers say has been spent; it goes before what was counted."""
        now = self._clock()
        with self._lock:
            for limit in limits:
                if limit.name in spent:
                    self._window(limit, origin, api_key).set_spent(spent[limit.name], now)

    def clear(self) -> None:
        """Forget everything, such as between two tests whose servers had the same port."""
        with self._lock:
            self._windows.clear()
            self._blocked.clear()

    def block(self, origin: str, api_key: str, seconds: float) -> None:
        """Send nothing for a while: to an origin, or from one key to it.

        Args:
            origin: where to.
            api_key: from whom; ``""`` for everybody.
            seconds: for how long from now.
        """
        until = self._clock() + seconds
        with self._lock:
            owner = (origin, api_key)
            self._blocked[owner] = max(until, self._blocked.get(owner, until))

    def blocked_for(self, origin: str, api_key: str = "") -> float:
        """The wait that bans ask for, in seconds; 0 if there is none."""
        if not self._blocked:
            return 0.0
        with self._lock:
            return max(0.0, self._blocked_until(origin, api_key) - self._clock())

    def _blocked_until(self, origin: str, api_key: str) -> float:
        blocked, now = self._blocked, self._clock()
        until = -math.inf
        for owner in {(origin, ""), (origin, api_key)} & blocked.keys():
            if blocked[owner] <= now:
                del blocked[owner]
            else:
                until = max(until, blocked[owner])
        return until


LEDGER: Final = Ledger()


def affordable(limits: Sequence[Limit], costs: Mapping[str, float], share: float) -> float:
    """The requests a second that spend a share of every limit at most; infinite without limits."""
    rates = [
        share * limit.amount / limit.seconds / costs[limit.name]
        for limit in limits
        if costs.get(limit.name)
    ]
    return min(rates, default=math.inf)


class RetryBudget:
    """A bucket of tokens that all sends but the first of each call draw from.

    So a thousand clients in trouble make a stream of retries, not a storm. Cancels may draw on
    tokens that have yet to drip in, by waiting for them. Other calls get none of the last half.

    A token has a time at which it drips in. Whoever does not need it any more gives back that very
    one, and whoever asks next gets the earliest that was given back: so no two leave on one token,
    and nobody waits for a late one while an early one is left over.

    Args:
        capacity: how many tokens the bucket holds; it starts full.
        rate: how many drip in per second.
    """

    def __init__(self, capacity: float = 128, rate: float = 64) -> None:
        self._capacity = capacity
        self._rate = rate
        self._tokens = float(capacity)  # that nobody has had; below 0, so many were taken ahead
        self._counted_at: float | None = None
        self._given_back: list[float] = []  # when they drip in, or did: a heap

    def take(self, now: float, *, urgent: bool, latest: float = math.inf) -> float | None:
        """Take a token: the seconds to wait for it, or ``None`` if there is none to have.

        Args:
            now: the time, in seconds of any clock that only moves forward.
            urgent: whether the call cancels something.
            latest: a token that would come only then is not taken.
        """
        if self._counted_at is not None:
            dripped = max(0.0, now - self._counted_at) * self._rate
            self._tokens = min(self._capacity, self._tokens + dripped)
        self._counted_at = now
        given_back = self._given_back
        while given_back and given_back[0] < now - (self._capacity - 1) / self._rate:
            heappop(given_back)  # the bucket has filled up since
        at = given_back[0] if given_back else now + (1 - self._tokens) / self._rate
        left = self._tokens + len(given_back) - 1
        if at >= latest or (not urgent and left < self._capacity / 2):
            return None
        if given_back:
            heappop(given_back)
        else:
            self._tokens -= 1
        return max(0.0, at - now)

    def give_back(self, at: float) -> None:
        """Give back the token that was waited for, and comes at that time."""
        heappush(self._given_back, at)


class RetryBudgets:
    """The budgets of one event loop, by origin and key: one account can't use up another's."""

    def __init__(self) -> None:
        self._budgets: defaultdict[Owner, RetryBudget] = defaultdict(RetryBudget)

    def of(self, origin: str, api_key: str) -> RetryBudget:
        """The budget that a key's retries to an origin draw from."""
        return self._budgets[origin, api_key]
