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

from masscancel.calls import Limit, Precedence, Spent
from masscancel.models import RateLeft

__all__ = ["LEDGER", "Ledger", "RetryBudget"]

#: The share of a limit up to which each may spend.
SHARES: Final = {
    Precedence.CANCEL: 1.0,
    Precedence.NEEDED: 0.9,
    Precedence.AGAIN: 0.75,
    Precedence.OTHER: 0.5,
    Precedence.PROBE: 0.25,
    Precedence.SPARE: 0.1,
}
#: A window is counted in so many slots.
_SLOTS: Final = 60
#: Requests take longer on their way at one time than at another, in seconds.
_MARGIN: Final = 0.1
#: So much of a window is taken to have passed when the venue says that it is used up.
_WINDOW_PASSED: Final = 0.75

Owner = tuple[str, str]  # origin and key; the key is "" for a limit of the origin


class _Waiting:
    """The requests that wait for a limit to have room."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        #: What each spends, in the order in which they came.
        self.waiting: dict[Reservation, float] = {}

    def wanted_before(self, room: "Reservation") -> float:
        """How much is spent by those that go before; cancels wait for nobody here."""
        total, earlier = 0.0, True
        for other, cost in self.waiting.items():
            earlier = earlier and other is not room
            if other.precedence < room.precedence + earlier and other is not room:
                total += cost
        return total


class _Window(_Waiting):
    """The spending of one limit, past and planned, in a window that slides."""

    __slots__ = ("_spent", "_told")

    def __init__(self) -> None:
        super().__init__()
        self._spent: list[list[float]] = []  # [end of the slot, cost], in order
        self._told: list[float] = []  # the one of them that stands for what others have spent

    def earliest(self, cost: float, now: float, limit: Limit, share: float) -> float:
        """The time to spend so much at: no window of the limit's length then holds too much."""
        spent, seconds = self._spent, limit.seconds + _MARGIN
        while spent and spent[0][0] <= now - seconds:
            del spent[0]
        if share == 1.0:  # what a header says of others stops no cancel
            spent = [entry for entry in spent if entry is not self._told]
        room = max(limit.amount * share - cost, 0.0)
        total = sum(entry[1] for entry in spent)
        at = now
        for end, entry_cost in spent:
            if total <= room:
                break
            total -= entry_cost
            at = max(at, end + seconds)
        return at

    def spend(self, cost: float, at: float, limit: Limit) -> None:
        """Count so much at a time; less than nothing takes back what was counted then."""
        slot = limit.seconds / _SLOTS
        end = (at // slot + 1) * slot
        place = bisect_right(self._spent, [end, math.inf])
        if place and self._spent[place - 1][0] == end:
            self._spent[place - 1][1] += cost
        elif cost > 0:
            insort(self._spent, [end, cost])

    def set_spent(self, told: Spent, now: float, limit: Limit) -> None:
        """Count what others have spent, by what the venue says, until the venue's window ends.

        What a header says holds up what no cancel needs, and stops no cancel: the number may be
        absurd. Where it is right, the venue refuses by itself.
        """
        start = now + min(max(told.ends_in, 0.0), limit.seconds) - limit.seconds - _MARGIN
        ours = [entry for entry in self._spent if entry is not self._told]
        slot = limit.seconds / _SLOTS
        began = now - limit.seconds if math.isinf(told.ends_in) else start
        counted = sum(cost for end, cost in ours if began < end <= now + slot)
        others = min(told.amount, limit.amount * SHARES[Precedence.AGAIN]) - counted
        if not self._told or self._told[0] + limit.seconds <= now or others > self._told[1]:
            self._told = [start, max(0.0, others)]
        self._spent = ours
        insort(ours, self._told)

    def spent(self, now: float, limit: Limit) -> float:
        """How much has been spent within the window that ends now."""
        return sum(cost for end, cost in self._spent if end > now - limit.seconds)

    def fill(self, now: float, limit: Limit) -> None:
        """Take it that the limit is used up. Nobody knows when its window began: some time ago."""
        self.spend(limit.amount, now - limit.seconds * _WINDOW_PASSED, limit)


class _Counter(_Waiting):
    """A counter that rises by what is spent and falls all the time, down to nothing."""

    __slots__ = ("_at", "_level")

    def __init__(self) -> None:
        super().__init__()
        self._level = 0.0
        self._at = -math.inf  # when it is, or will be, at that level

    def spent(self, now: float, limit: Limit) -> float:
        """The level."""
        return self._level_at(now, limit)

    def _level_at(self, now: float, limit: Limit) -> float:
        return max(0.0, self._level - (now - self._at) * limit.amount / limit.seconds)

    def earliest(self, cost: float, now: float, limit: Limit, share: float) -> float:
        """The time to spend so much at: the counter then does not rise above the limit."""
        room = max(limit.amount * share - cost, 0.0)
        return now + max(0.0, self._level_at(now, limit) - room) * limit.seconds / limit.amount

    def spend(self, cost: float, at: float, limit: Limit) -> None:
        """Count so much at a time; less than nothing takes back what was counted."""
        self._level, self._at = max(0.0, self._level_at(at, limit) + cost), at

    def set_spent(self, told: Spent, now: float, limit: Limit) -> None:
        """Go by what the venue says, where that is more than what was counted here."""
        if told.amount > self._level_at(now, limit):
            self._level, self._at = told.amount, now

    def fill(self, now: float, limit: Limit) -> None:
        """Take it that the limit is used up."""
        self.set_spent(Spent(limit.amount), now, limit)


_Spending = tuple[_Window | _Counter, float, Limit]


class Reservation:
    """Room in the ledger for one request, or a place among those that wait for it.

    Attributes:
        precedence: what it goes before.
        wait: how long it has to wait, in seconds; 0 if it may leave now.
        counted: whether it is counted already, from when it may leave on; if not, it asks again
            then.
    """

    __slots__ = ("_at", "_ledger", "_spending", "counted", "precedence", "wait")

    def __init__(self, ledger: "Ledger", precedence: Precedence) -> None:
        self.precedence = precedence
        self.wait = 0.0
        self.counted = False
        self._ledger = ledger
        self._at = 0.0
        self._spending: Sequence[_Spending] = ()

    def settle(self, now: float, at: float, spending: Sequence[_Spending], *, count: bool) -> None:
        """Count what is spent at a time, or wait for it; without anything, for nothing more."""
        if count or not spending:
            self._take_back()
        self.wait, self._at, self._spending, self.counted = at - now, at, spending, count
        for window, cost, limit in spending:
            if count:
                window.spend(cost, at, limit)
            else:
                window.waiting[self] = cost

    def give_back(self) -> None:
        """Take back what was counted, or wait no longer: the request was not sent."""
        self._ledger.give_back(self._take_back)

    def _take_back(self) -> None:
        for window, cost, limit in self._spending:
            if self.counted:
                window.spend(-cost, self._at, limit)
            else:
                window.waiting.pop(self, None)
        self._spending = ()


class Ledger:
    """Limits, bans and lockouts, by origin and by key.

    Args:
        clock: the time in seconds, which only moves forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[Owner, str], _Window | _Counter] = {}
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
        again: Reservation | None = None,
    ) -> Reservation:
        """Find out how long a request has to wait; it is counted from when it may leave on.

        A cancel that has to wait is counted at once. Whatever else has to wait keeps its place, and
        asks again then.

        Args:
            origin: where it goes.
            api_key: who sends it.
            costs: what it spends, by the limits' names.
            limits: the origin's limits.
            precedence: what it goes before.
            within: what would have to wait so long, in seconds, neither counts nor waits.
            again: what it has waited with.
        """
        now, share = self._clock(), SHARES[precedence]
        probes = precedence >= Precedence.PROBE
        room = again or Reservation(self, precedence)
        with self._lock:
            at = max(now, self._blocked_until(origin, api_key, probes=probes))
            spending: dict[_Window | _Counter, _Spending] = {}  # limits of one name share a window
            for limit in limits:
                for part, cost in _parts_of(limit, costs):
                    window = self._window(limit, origin, api_key, part)
                    before = window.wanted_before(room)
                    allowed = share if limit.of_cancels or probes else 1.0
                    at = max(at, window.earliest(cost + before, now, limit, allowed))
                    if before and cost + before > limit.amount * allowed:
                        at = max(at, now + limit.seconds)  # those before take all that there is
                    spending[window] = window, cost, limit
            cancels = precedence is Precedence.CANCEL
            kept = tuple(spending.values()) if at - now < within else ()
            room.settle(now, at, kept, count=at <= now or cancels)
        return room

    def give_back(self, take_back: Callable[[], object]) -> None:
        """Take back what a reservation has counted."""
        with self._lock:
            take_back()

    def _window(
        self, limit: Limit, origin: str, api_key: str, part: str = ""
    ) -> _Window | _Counter:
        owner = (origin, api_key if limit.per == "key" else "")
        name = f"{limit.name}:{part}"
        window = self._windows.get((owner, name))
        if window is None:
            window = self._windows[owner, name] = _Counter() if limit.decays else _Window()
        return window

    def note_spent(
        self, origin: str, api_key: str, spent: Mapping[str, Spent], limits: Iterable[Limit]
    ) -> None:
        """Take what the venue's headers say has been spent, by others too."""
        now = self._clock()
        with self._lock:
            for limit in limits:
                if limit.name in spent:
                    self._window(limit, origin, api_key).set_spent(spent[limit.name], now, limit)

    def left(self, origin: str, api_key: str, limits: Iterable[Limit]) -> list[RateLeft]:
        """Tell what is left of limits; of one that is counted in parts, in the fullest of them."""
        now, found = self._clock(), []
        with self._lock:
            for limit in limits:
                owner = (origin, api_key if limit.per == "key" else "")
                name = f"{limit.name}:"
                spent = max(
                    (
                        window.spent(now, limit)
                        for (of, key), window in self._windows.items()
                        if of == owner and key.startswith(name)
                    ),
                    default=0.0,
                )
                found.append(
                    RateLeft(
                        name=limit.name,
                        left=max(0.0, limit.amount - spent),
                        amount=limit.amount,
                        seconds=limit.seconds,
                        of_cancels=limit.of_cancels,
                    )
                )
        return found

    def refused(
        self, origin: str, api_key: str, costs: Mapping[str, float], limits: Iterable[Limit]
    ) -> None:
        """Take it that a limit is used up, since the venue says so and not for how long.

        Nor which: it is the one of which most has been spent, or else the shortest. To take it of
        all of them would have a cancel wait for the longest, a minute's, where a second's was full.
        """
        now = self._clock()
        with self._lock:
            windows = [
                (limit, self._window(limit, origin, api_key, part))
                for limit in limits
                for part, _ in _parts_of(limit, costs)
            ]
            fullest = max(
                windows,
                key=lambda each: (each[1].spent(now, each[0]) / each[0].amount, -each[0].seconds),
                default=None,
            )
            if fullest is not None:
                limit, window = fullest
                window.fill(now, limit)

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

    def _blocked_until(self, origin: str, api_key: str, *, probes: bool = False) -> float:
        """When the last ban ends; clocks are not read while any key is locked out."""
        blocked, now = self._blocked, self._clock()
        until = -math.inf
        owners = {(origin, ""), (origin, api_key)} & blocked.keys()
        if probes:
            owners = {owner for owner in blocked if owner[0] == origin}
        for owner in owners:
            if blocked[owner] <= now:
                del blocked[owner]
            else:
                until = max(until, blocked[owner])
        return until


def _parts_of(limit: Limit, costs: Mapping[str, float]) -> list[tuple[str, float]]:
    """The costs that a limit counts: each of its parts, such as an instrument, by itself."""
    named = [(*name.partition(":"), cost) for name, cost in costs.items() if cost]
    return [(part, cost) for name, _, part, cost in named if name == limit.name]


LEDGER: Final = Ledger()


def affordable(limits: Sequence[Limit], costs: Mapping[str, float], share: float) -> float:
    """The requests a second that spend a share of every limit at most; infinite without limits."""
    rates = [
        share * limit.amount / limit.seconds / costs[limit.name]
        for limit in limits
        if costs.get(limit.name)
    ]
    return min(rates, default=math.inf)


class Streak:
    """Failures in a row, of all the calls that go on side by side; what is long ago is forgotten.

    All times are seconds of any clock that only moves forward.
    """

    __slots__ = ("_latest", "_length")

    #: After so many seconds without a failure nothing is known any more.
    _FORGOTTEN: Final = 10.0

    def __init__(self) -> None:
        self._length = 0
        self._latest = -math.inf

    def failed(self, now: float) -> int:
        """Count a failure; tell how many there have been."""
        self._length = self._length + 1 if now - self._latest < self._FORGOTTEN else 1
        self._latest = now
        return self._length

    def end(self) -> None:
        """The venue has answered."""
        self._length = 0


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
        #: The failures in a row, of calls that cancel and of others.
        self.failures = {True: Streak(), False: Streak()}

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

    def answered(self, origin: str, api_key: str, *, cancels: bool) -> None:
        """A call has been answered: whatever failed before has passed."""
        budget = self._budgets.get((origin, api_key))
        if budget is not None:
            budget.failures[cancels].end()
