"""Flat or not flat: a pure state machine. Listings and order events go in, the next step comes out.

The scope is flat when two listings of it, at least ``settle`` apart, were both empty, no order
update in between opened an order in it, and no order of the gate was unresolved. "Apart" is from
the end of the first to the beginning of the second, so that whatever the venue read them at, the
two readings are at least so far apart. A sweep, an order that shows, a gap in the updates that
were watched: each starts the proof anew.

When another sweep is due: at first; whenever an order shows that was not known when the last one
was sent, since that one has not covered it; when an order of the gate has just been resolved; and
every ``sweep_again`` seconds while orders stay. Towards the deadline there are no more sweeps, but
one last listing: what is left must be known.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto

import msgspec

from masscancel.models import OpenOrder, OrderState, OrderUpdate

__all__ = ["Do", "Proof", "ProofPolicy", "Step"]


class ProofPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The policy by which a confirmation sweeps and lists. All times are in seconds.

    Attributes:
        sweep_again: how long orders may stay listed after a sweep before it is repeated; it doubles
            while the same orders stay ...
        sweep_again_most: ... up to this.
        list_again: the wait before an unfinished scope is listed again: it doubles from the first
            of these up to the second.
        last_listing: what is kept at the end, beside the time of the longest sweep and listing so
            far, or twice that of the listing ...
        last_share: ... up to this share of the whole time.
        twice_in: what new orders lead to, happens twice within this time at most.
        explain: how long it may take to find out how orders ended.
    """

    sweep_again: float = 0.5
    sweep_again_most: float = 4.0
    list_again: tuple[float, float] = (0.05, 0.8)
    last_listing: float = 0.05
    last_share: float = 0.25
    twice_in: float = 0.1
    explain: float = 1.0


class Do(Enum):
    """A kind of step of a proof."""

    SWEEP = auto()  # cancel everything in the scope
    LIST = auto()  # list the scope
    WAIT = auto()  # until the step's time, or something happens
    DONE = auto()  # the scope is flat


class Step(msgspec.Struct, frozen=True):
    """The next step of a proof, and when it is due at the latest.

    Attributes:
        do: what.
        until: for ``WAIT``, the time; otherwise now.
    """

    do: Do
    until: float


class Proof:
    """The proof of one scope. All times are seconds of one clock that only moves forward.

    Args:
        settle: how far apart the two listings must be.
        deadline: when the time is up.
        streamed: whether order updates of the scope are watched from now on.
        policy: how often to sweep and to list.
    """

    def __init__(
        self,
        *,
        settle: float,
        deadline: float,
        streamed: bool = False,
        policy: ProofPolicy | None = None,
    ) -> None:
        self._policy = policy or ProofPolicy()
        self._settle = settle
        self._deadline = deadline
        self._longest_listing = 0.0
        self._longest_sweep = 0.0
        self._started: float | None = None
        self._list_tried = False
        self._last_listed = False
        self._sweep_due = True
        self._swept = False
        self._sweep_failed = False
        self._sweep_again_at = float("-inf")
        self._sweep_began = float("-inf")
        self._sweeps = deque([float("-inf")] * 2, maxlen=2)  # when the last two began
        self._listings = deque([float("-inf")] * 2, maxlen=2)
        self._sweep_wait = self._policy.list_again[0]
        self._sweep_interval = self._policy.sweep_again
        self._under_way = False
        self._list_at = float("-inf")
        self._wait, self._longest_wait = self._policy.list_again
        self._empty_at: float | None = None
        self._flat = False
        self._covered: set[str] = set()  # known when the last sweep was sent
        self._seen: dict[str, OpenOrder | OrderUpdate] = {}
        self._ended: dict[str, OrderState] = {}
        self.streamed = streamed
        #: Whether a listing could be read since the last sweep.
        self.listed_since_sweep = False
        #: The latest listing that could be read.
        self.residual: tuple[OpenOrder, ...] = ()

    def step(self, now: float) -> Step:
        """Decide what to do now."""
        if not self._swept:
            return Step(Do.SWEEP, now)
        if self._flat:
            return Step(Do.DONE, now)
        close = self._close(now)
        if now >= close:
            if self._last_listed and now < self._list_at:
                return Step(Do.WAIT, min(self._list_at, self._deadline))
            return Step(Do.LIST, now)
        # What is open is listed again before it is swept again, however slow the venue is.
        wanted = self._sweep_due or (self._list_tried and (self.residual or self._sweep_failed))
        again = self._sweep_again_at if wanted else close
        if now >= again:
            return Step(Do.SWEEP, now)
        if now >= self._list_at:
            return Step(Do.LIST, now)
        return Step(Do.WAIT, min(self._list_at, again, close))

    @property
    def would_close(self) -> bool:
        """Whether the next listing, if it is empty, is the second of the proof."""
        return self._empty_at is not None

    def is_closing(self, now: float) -> bool:
        """Whether only the last listing is left to do."""
        return now >= self._close(now)

    def sweeping(self, now: float) -> None:
        """A cancel-all of the scope is being sent."""
        if self._sweep_due:  # for what was not covered: what follows is quick again
            self._wait = self._policy.list_again[0]
            self._sweep_interval = self._policy.sweep_again
        else:
            longest = self._policy.sweep_again_most
            self._sweep_interval = min(2 * self._sweep_interval, longest)
        self._swept = True
        self._sweep_due = False
        self._sweep_failed = False
        self._sweep_began = now
        self._sweeps.append(now)
        self._sweep_again_at = now + self._sweep_interval
        self._list_tried = False
        self._covered = set(self._seen)
        self.listed_since_sweep = False
        self._empty_at, self._flat = None, False
        self._list_at = now

    def swept(self, now: float) -> None:
        """Note that the sweep was acknowledged."""
        self._longest_sweep = max(self._longest_sweep, now - self._sweep_began)
        self._sweep_failed = False
        self._sweep_wait = self._policy.list_again[0]
        if not self._sweep_due:
            self._sweep_again_at = max(self._sweep_again_at, now + self._sweep_interval)

    def sweep_failed(self, now: float, wait: float = 0.0) -> None:
        """Note that the sweep failed: it is repeated after ``wait`` seconds at the earliest."""
        self._sweep_failed = True
        self._sweep_again_at = now + max(wait, self._sweep_wait)
        self._sweep_wait = min(2 * self._sweep_wait, self._policy.list_again[1])

    def listed(self, began: float, ended: float, orders: Iterable[OpenOrder]) -> None:
        """A listing that began and ended then showed these open orders."""
        self.residual = tuple(orders)
        self.listed_since_sweep = True
        self._note_listing(began, ended)
        if self.residual:
            for order in self.residual:
                self._show(order)
            self._empty_at = None
            self._flat = False
            self._list_at = ended + self._wait
            self._wait = min(2 * self._wait, self._longest_wait)
        elif self._empty_at is None:
            self._empty_at = ended
            self._sweep_failed = False
            self._list_at = ended + self._settle
            if self._under_way:  # there is nothing to prove yet
                self._list_at = ended + max(self._settle, self._wait)
                self._wait = min(2 * self._wait, self._longest_wait)
        elif began - self._empty_at >= self._settle:
            self._flat = True
        else:
            self._list_at = self._empty_at + self._settle

    def unreadable(self, began: float, ended: float) -> None:
        """A listing that began and ended then could not be read."""
        self._note_listing(began, ended)
        self._list_at = max(self._list_at, ended + self._wait)
        self._wait = min(2 * self._wait, self._longest_wait)

    def updated(self, update: OrderUpdate, now: float) -> None:
        """An order of the scope has changed."""
        if update.is_open:
            known = update.order_id in self._covered
            self._show(update)
            self._empty_at, self._flat = None, False
            if not known:
                self._start_anew(max(now, self._listings[0] + self._policy.twice_in))
            return
        self._seen.setdefault(update.order_id, update)
        self._ended[update.order_id] = update.state
        if self.residual and all(order.order_id in self._ended for order in self.residual):
            self._list_at = min(self._list_at, now)

    def missed(self, now: float) -> None:
        """Updates may have been missed: what was proven until now does not count."""
        self.streamed = False
        self._start_anew(now)

    def gated(self, *, under_way: int, arrived: int) -> None:
        """So many orders are on their way through the gate; so many have arrived since."""
        self._under_way = under_way > 0
        if arrived:
            self._need_sweep()
        if arrived or under_way:
            self._empty_at, self._flat = None, False

    def explained(self, order_id: str, state: OrderState, now: float) -> None:
        """Note what became of an order that is listed no more. If it is open, nothing is proven."""
        if state == "open":
            self._empty_at, self._flat = None, False
            self._list_at = max(self._list_at, now + self._wait)
            self._wait = min(2 * self._wait, self._longest_wait)
        else:
            self._ended.setdefault(order_id, state)

    @property
    def unexplained(self) -> tuple[OpenOrder | OrderUpdate, ...]:
        """Orders that were seen, are listed no more, and whose end is not known."""
        listed = {order.order_id for order in self.residual}
        gone = self._seen.keys() - self._ended.keys() - listed
        return tuple(self._seen[order_id] for order_id in sorted(gone))

    def ended(self, state: OrderState) -> tuple[str, ...] | None:
        """Ids of the orders that ended so; ``None`` if that could not be observed.

        With updates watched throughout, that is all of them; otherwise those that were listed.
        """
        if (self.streamed or self._seen) and not self.unexplained:
            return tuple(sorted(i for i, ended in self._ended.items() if ended == state))
        return None

    def _show(self, order: OpenOrder | OrderUpdate) -> None:
        """An order is open in the scope."""
        self._ended.pop(order.order_id, None)
        self._seen[order.order_id] = order
        if order.order_id not in self._covered:
            self._need_sweep()

    def _need_sweep(self) -> None:
        """Plan a sweep at once for orders that the last one did not cover, unless that one failed.

        Or unless it is the third in a row: somebody goes on trading, and no storm will stop that.
        """
        self._sweep_due = True
        if not self._sweep_failed:
            self._sweep_again_at = self._sweeps[0] + self._policy.twice_in

    def _close(self, now: float) -> float:
        """From when on there are no more sweeps, so that the last listing has its time."""
        if self._started is None:
            self._started = now
        share = self._policy.last_share * (self._deadline - self._started)
        listing = min(2 * self._longest_listing, share)
        sweep_and_listing = self._longest_sweep + self._longest_listing
        return self._deadline - self._policy.last_listing - max(listing, sweep_and_listing)

    def _note_listing(self, began: float, ended: float) -> None:
        self._list_tried = True
        self._listings.append(began)
        self._last_listed = began >= self._close(began)
        self._longest_listing = max(self._longest_listing, ended - began)

    def _start_anew(self, now: float) -> None:
        self._empty_at = None
        self._flat = False
        self._wait = self._policy.list_again[0]
        self._list_at = now
