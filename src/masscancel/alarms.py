"""Time limits that are hardly ever reached: many of them on one timer of the event loop."""

import asyncio
import math
from types import TracebackType

__all__ = ["Alarm", "Alarms"]


class Alarms:
    """The limits of one event loop.

    ``asyncio.timeout`` gives each a timer of its own. In a burst these cost a tenth of a call, and
    nearly all are cancelled. Here there is one, for the earliest.

    Args:
        loop: which one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._earliest = math.inf
        self._set: set[Alarm] = set()

    def at(self, when: float) -> "Alarm":
        """A limit, in the loop's time, for a ``with`` block that awaits something."""
        return Alarm(self, when)

    def set(self, alarm: "Alarm") -> None:
        """See that it rings."""
        self._set.add(alarm)
        if alarm.when < self._earliest:
            self._arm(alarm.when)

    def clear(self, alarm: "Alarm") -> None:
        """It is not to ring any more. The timer may come too early, then, and does no harm."""
        self._set.discard(alarm)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._earliest = when
        # A turn later: what has arrived by then counts, and is first.
        self._timer = self.loop.call_at(when, self.loop.call_soon, self._ring)

    def _ring(self) -> None:
        self._timer, self._earliest = None, math.inf
        now = self.loop.time()
        for alarm in [alarm for alarm in self._set if alarm.when <= now]:
            self._set.discard(alarm)
            alarm.ring()
        if self._set:
            self._arm(min(alarm.when for alarm in self._set))


class Alarm:
    """One limit: the block is cancelled when it is reached, and raises ``TimeoutError`` instead.

    As in ``asyncio.timeout``, a cancellation from elsewhere stays one.
    """

    __slots__ = ("_alarms", "_cancelling", "_rang", "_task", "when")

    def __init__(self, alarms: Alarms, when: float) -> None:
        self.when = when
        self._alarms = alarms
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._rang = False

    def ring(self) -> None:
        """The time has come."""
        if self._task is not None:
            self._rang = True
            self._task.cancel()

    def __enter__(self) -> None:
        task = asyncio.current_task(self._alarms.loop)
        if task is None:
            raise RuntimeError("this client was entered in another event loop, or this is no task")
        self._task, self._cancelling = task, task.cancelling()
        self._alarms.set(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._alarms.clear(self)
        if self._rang and self._task is not None:
            ours = self._task.uncancel() <= self._cancelling
            if ours and exc_type is asyncio.CancelledError:
                raise TimeoutError from exc
