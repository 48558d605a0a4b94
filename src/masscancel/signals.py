"""The signals of the process, while blocks are guarded.

What ends the process is taken over, held until the last guarded block has been left, and then
delivered again, so that the process ends with the status it would have had. What the program sees
to itself stays as it is: a signal that is ignored, or handled by the event loop. The first Ctrl-C
under ``asyncio.run`` only cancels the main task; that is let through at once.
"""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Iterable
from functools import partial
from types import FrameType
from typing import Any, Final, Protocol

__all__ = ["SIGNALS", "Guard"]

log = logging.getLogger("masscancel")


class Guard(Protocol):
    """A guarded block, as far as signals matter to it."""

    def alert(self) -> None:
        """A signal has come that ends the block in its own way."""

    def interrupt(self) -> None:
        """A signal has come that is held: end the block."""


class _Signals:
    """All guarded blocks of the main thread share one set of handlers."""

    def __init__(self) -> None:
        self._guards: dict[Guard, tuple[frozenset[int], asyncio.AbstractEventLoop]] = {}
        self._before: dict[int, Any] = {}
        self._let_through: set[int] = set()
        self._held: list[int] = []

    def add(self, guard: Guard, signals: Iterable[int]) -> None:
        """Take the signals over for a block, where they would end the process."""
        if threading.current_thread() is not threading.main_thread():
            log.debug("signals can't be taken over outside the main thread")
            return
        numbers = frozenset(signals)
        self._guards[guard] = numbers, asyncio.get_running_loop()
        for number in numbers - self._before.keys():
            before = signal.getsignal(number)
            if before not in (None, signal.SIG_IGN) and not _is_of_a_loop(before):
                self._before[number] = signal.signal(number, self._arrived)
        if numbers.intersection(self._held):  # it came while another block was being left
            guard.interrupt()

    def remove(self, guard: Guard) -> None:
        """The block has been left; after the last one, deliver what was held."""
        if self._guards.pop(guard, None) is not None and not self._guards:
            self.deliver()

    def deliver(self) -> None:
        """Put the handlers back, where they are still ours, and deliver what was held."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            if signal.getsignal(number) == self._arrived:
                signal.signal(number, handler)
        held, self._held = self._held, []
        self._let_through.clear()
        # What kills goes first: a handler may raise, and the rest would be lost.
        for number in sorted(set(held), key=lambda n: before.get(n) is not signal.SIG_DFL):
            signal.raise_signal(number)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        """Python's handler: runs in the main thread, between any two instructions."""
        before = self._before.get(number)
        wanting = [
            (guard, loop) for guard, (numbers, loop) in self._guards.items() if number in numbers
        ]
        if before is not None and _is_of_a_runner(before) and number not in self._let_through:
            self._let_through.add(number)
            for guard, loop in wanting:
                _soon(loop, guard.alert)
            before(number, frame)
            return
        self._held.append(number)
        for guard, loop in wanting:
            _soon(loop, guard.interrupt)


def _soon(loop: asyncio.AbstractEventLoop, callback: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has been closed under the block
        loop.call_soon_threadsafe(callback)


def _is_of_a_runner(handler: Any) -> bool:
    """Whether it is ``asyncio.Runner``'s, which cancels the main task at first."""
    return isinstance(handler, partial) and handler.func.__module__ == "asyncio.runners"


def _is_of_a_loop(handler: Any) -> bool:
    """Whether it stands in for a handler that was given to the event loop."""
    module = getattr(handler, "__module__", None) or type(handler).__module__
    return module == "asyncio.unix_events" or module.partition(".")[0] == "uvloop"


SIGNALS: Final = _Signals()
