"""Lanes: what bounds the requests in flight, and who goes first."""

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Held", "Lane", "Lanes"]


def _nobody() -> bool:
    return False


class Lane:
    """So many places, taken in turn.

    ``asyncio.Semaphore`` has one queue only: there, the second requests of those who have begun
    would keep others from their first.

    Args:
        places: how many.
        ahead: is offered each free place before those who wait; whether it took it.
    """

    def __init__(self, places: int, ahead: Callable[[], bool] = _nobody) -> None:
        self._free = places
        self._ahead = ahead
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def crowded(self) -> bool:
        """Whether one would have to wait for a place."""
        return self._free == 0

    def offer(self) -> None:
        """Offer every free place to who goes ahead."""
        while self._free:
            self._free -= 1  # first: who takes it may want another at once
            if not self._ahead():
                self._free += 1
                return

    def take(self) -> None:
        """Take a place that is free."""
        self._free -= 1

    async def enter(self) -> None:
        """Take a place; wait for it if need be."""
        if self._free:
            self._free -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():  # the place was handed over all the same
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back, or hand it over to who is next."""
        if self._ahead():
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1


class Held:
    """A lane in which a place has been taken for whoever enters first.

    Args:
        lane: which one.
    """

    __slots__ = ("_lane", "_unused")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._unused = True

    @property
    def crowded(self) -> bool:
        """Whether one would have to wait for a place."""
        return self._lane.crowded and not self._unused

    def take(self) -> None:
        """Take the place that is held, or another that is free."""
        if self._unused:
            self._unused = False
        else:
            self._lane.take()

    async def enter(self) -> None:
        """Take the place that is held, or another; wait for it if need be."""
        if self._unused:
            self._unused = False
        else:
            await self._lane.enter()

    def leave(self) -> None:
        """Give a place back."""
        self._lane.leave()

    def forfeit(self) -> None:
        """Give the place back that was held, if nobody has entered."""
        if self._unused:
            self._unused = False
            self._lane.leave()


class Lanes:
    """Some lanes, one after the other: a fan-out's own, then the pool's."""

    __slots__ = ("_lanes",)

    def __init__(self, *lanes: Lane | Held) -> None:
        self._lanes = lanes

    @property
    def crowded(self) -> bool:
        """Whether one would have to wait for a place in any of them."""
        return any(lane.crowded for lane in self._lanes)

    def take(self) -> None:
        """Take a place in each, where they are not crowded."""
        for lane in self._lanes:
            lane.take()

    async def enter(self) -> None:
        """Wait for a place in each."""
        entered = []
        try:
            for lane in self._lanes:
                await lane.enter()
                entered.append(lane)
        except BaseException:
            for lane in entered:
                lane.leave()
            raise

    def leave(self) -> None:
        """Give the places back."""
        for lane in self._lanes:
            lane.leave()
