"""The ways to the venues, and their clocks: each is gone once, however many accounts have it."""

import asyncio
from typing import Final, Self

import msgspec

from masscancel.calls import Probe
from masscancel.errors import DeadlineExceeded, MassCancelError, RateLimited
from masscancel.transport.clock import ClockReading
from masscancel.transport.pool import SessionPool
from masscancel.transport.reach import Reach

__all__ = ["Way", "Ways"]

#: How long to wait for leave to read a clock, in seconds.
_PATIENCE: Final = 0.5
#: The time that is kept for the end, in seconds.
_RESERVE: Final = 0.1


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """The way to an origin, and its clock; ``None`` for what is not known."""

    reach: Reach | None = None
    reading: ClockReading | None = None
    error: MassCancelError | None = None  # why the clock can't be read

    @property
    def is_open(self) -> bool:
        """Whether there is one, as far as is known."""
        return self.reach is None or self.reach.error is None


class Ways:
    """The ways to origins, until the time is up.

    Args:
        timeout: seconds from now.

    Attributes:
        deadline: when it is up, in the loop's time.
    """

    def __init__(self, timeout: float) -> None:
        self.deadline = asyncio.get_running_loop().time() + timeout
        self._tasks: dict[tuple[SessionPool, str], asyncio.Task[Way]] = {}

    def left(self) -> float:
        """The time for questions that is left, in seconds; less than nothing if it is up."""
        return self.deadline - _RESERVE - asyncio.get_running_loop().time()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def to(self, pool: SessionPool, probe: Probe) -> Way:
        """Go the way to the origin of a probe, and read its clock."""
        key = pool, probe.origin
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._go(pool, probe))
        return await asyncio.shield(self._tasks[key])

    async def _go(self, pool: SessionPool, probe: Probe) -> Way:
        reach: Reach | None = None
        error: MassCancelError
        try:
            async with asyncio.timeout_at(self.deadline - _RESERVE):
                reach = await pool.reach(probe.origin)
                if reach is not None and reach.error is not None:
                    return Way(reach=reach)
                return Way(reach=reach, reading=await pool.read_clock(probe, patience=_PATIENCE))
        except RateLimited:  # the venue's clock is measured later, and then again and again
            return Way(reach=reach)
        except TimeoutError:
            error = DeadlineExceeded("no answer within the time")
        except MassCancelError as problem:
            error = problem.with_traceback(None)
        return Way(reach=reach, error=error)
