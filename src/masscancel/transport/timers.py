"""Time limits of many on one timer of the event loop, and what can wait until there is time."""

import asyncio
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

__all__ = ["Chores", "Timer", "Timers"]

#: So many cancelled timers may wait in the heap before it is cleared.
_CLUTTER: Final = 1024
#: How long timers that are due together are run in one turn of the loop, in seconds.
_PIECE: Final = 0.01


class Chores:
    """Work that can wait, done a little at a time: closing a thousand sockets takes 0.1 s.

    Args:
        loop: where.
    """

    __slots__ = ("_handle", "_loop", "_waiting")

    #: The wait before the first, and between two pieces of work, and how long a piece is. Seconds.
    _FIRST: Final = 0.05
    _BETWEEN: Final = 0.002
    _PIECE: Final = 0.002

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], object]] = deque()
        self._handle: asyncio.TimerHandle | None = None

    def add(self, chore: Callable[[], object]) -> None:
        """Do something when there is time."""
        self._waiting.append(chore)
        if self._handle is None:
            self._handle = self._loop.call_later(self._FIRST, self._work)

    def finish(self) -> None:
        """Do all that is left, now."""
        if self._handle is not None:
            self._handle.cancel()
        while self._waiting:
            self._waiting.popleft()()

    def _work(self) -> None:
        self._handle = None
        until = self._loop.time() + self._PIECE
        while self._waiting and self._loop.time() < until:
            self._waiting.popleft()()
        if self._waiting:
            self._handle = self._loop.call_later(self._BETWEEN, self._work)


class Timer:
    """One time limit: what is called when it is reached, unless it is cancelled before."""

    __slots__ = ("_callback", "_timers", "when")

    def __init__(self, timers: "Timers", when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self._timers = timers
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Forget it. Idempotent."""
        if self._callback is not None:
            self._callback = None
            self._timers.note_cancelled()

    @property
    def cancelled(self) -> bool:
        """Whether nothing will be called."""
        return self._callback is None

    def run(self) -> None:
        """Call what was to be called."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Timers:
    """The time limits of one event loop.

    ``loop.call_at`` gives each a handle and a context of its own. In a burst these cost a tenth of
    a call, and nearly all are cancelled. Here there is one, for the earliest.

    Args:
        loop: which one.
    """

    __slots__ = ("_cancelled", "_handle", "_heap", "_loop", "_serial", "_wakes_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = count()
        self._handle: asyncio.TimerHandle | None = None
        self._wakes_at = float("inf")
        self._cancelled = 0

    def __len__(self) -> int:
        """The number of timers kept, cancelled ones included."""
        return len(self._heap)

    def at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call something at a time, in the loop's time.

        That is a turn of the loop later, so that what has arrived by then counts, and is first.
        """
        timer = Timer(self, when, callback)
        heappush(self._heap, (when, next(self._serial), timer))
        if when < self._wakes_at:
            self._wake_at(when)
        return timer

    def note_cancelled(self) -> None:
        """Keep the heap from filling up with what nobody waits for."""
        self._cancelled += 1
        if self._cancelled > _CLUTTER and self._cancelled > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if not entry[2].cancelled]
            heapify(self._heap)
            self._cancelled = 0

    def finish(self) -> None:
        """Call everything now: the time is up for all."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._wakes_at = None, float("inf")
        heap, self._heap = self._heap, []
        for _, _, timer in sorted(heap):
            timer.run()

    def _wake_at(self, when: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wakes_at = when
        self._handle = self._loop.call_at(when, self._loop.call_soon, self._run_due)

    def _run_due(self) -> None:
        self._handle, self._wakes_at = None, float("inf")
        now, newest = self._loop.time(), next(self._serial)
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].cancelled):
            if self._heap[0][1] > newest:  # set by one of these: a turn later, as said in `at`
                break
            heappop(self._heap)[2].run()
            if self._loop.time() > now + _PIECE:  # what these have caused goes before the rest
                break
        if self._heap and self._heap[0][0] < self._wakes_at:
            self._wake_at(self._heap[0][0])
