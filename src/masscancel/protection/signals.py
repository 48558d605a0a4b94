"""The signals of the process, while blocks are guarded.

What ends the process is taken over, held until the last guarded block has been left, and then
delivered again, so that the process ends with the status it would have had. What the program sees
to itself stays as it is: a signal that is ignored, or handled by the event loop. The first Ctrl-C
under ``asyncio.run`` only cancels the main task; that is let through at once.

Python runs a signal's handler between any two instructions of the main thread, also where that
waits in ``time.sleep``, in a lock or in a socket. Where the event loop stands still there, a thread
cancels in its place. Out of reach is code that holds the GIL.
"""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType
from typing import Any, Final, Protocol

__all__ = ["SIGNALS", "Guard"]

log = logging.getLogger("masscancel")

#: How long an event loop may take to notice a signal before a thread cancels in its place. Seconds.
MOMENT: Final = 0.5
#: What does not end a process by default.
_HARMLESS: Final = frozenset(
    getattr(signal, name)
    for name in ("SIGCHLD", "SIGCONT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH")
    if hasattr(signal, name)
)


class Guard(Protocol):
    """A guarded block, as far as signals matter to it."""

    def alert(self) -> None:
        """Shut and cancel: a signal has come that ends the block in its own way."""

    def interrupt(self) -> None:
        """End the block: a signal has come that is held."""

    def rescue(self) -> None:
        """Cancel from another thread, since the event loop stands still. Blocks; never raises."""


class _Signals:
    """All guarded blocks of the main thread share one set of handlers."""

    def __init__(self) -> None:
        self._guards: dict[Guard, tuple[frozenset[int], asyncio.AbstractEventLoop]] = {}
        self._before: dict[int, Any] = {}
        self._let_through: set[int] = set()
        self._held: list[int] = []
        self._out_of_time: set[Guard] = set()
        self._rescuing = False
        self._forking = threading.local()  # the mask of each thread that forks
        self._overdue = False  # a thread has cancelled: the next signal is delivered at once

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
        """Forget a block that has been left; after the last one, deliver what was held."""
        self._out_of_time.discard(guard)
        if self._guards.pop(guard, None) is not None and not self._guards:
            self.deliver()

    def give_up(self, guard: Guard) -> None:
        """Wait no longer for a block that does not end; the last that still has time decides."""
        self._out_of_time.add(guard)
        if self._out_of_time.issuperset(self._guards):
            status = self._deliver()
            if status:  # an exception would wait for the block, which does not end
                os._exit(status)

    def deliver(self) -> None:
        """Put the handlers back, where they are still ours, and deliver what was held.

        Raises:
            SystemExit: delivering it again does not end the process, as it would have to: process 1
                of a container gets no signal that it does not handle.
        """
        if status := self._deliver():
            raise SystemExit(status)

    def _deliver(self) -> int:
        """Do so; with what status the process has to end, if no signal has ended it."""
        before = self._put_back()
        held, self._held = self._held, []
        # What kills goes first: a handler may raise, and the rest would be lost.
        for number in sorted(set(held), key=lambda n: before.get(n) is not signal.SIG_DFL):
            signal.raise_signal(number)
            if before.get(number) is signal.SIG_DFL and number not in _HARMLESS:
                return 128 + number
        return 0

    def _put_back(self) -> dict[int, Any]:
        before, self._before = self._before, {}
        for number, handler in before.items():
            if signal.getsignal(number) == self._arrived:
                signal.signal(number, handler)
        self._let_through.clear()
        self._overdue = False
        return before

    def hold_for_fork(self) -> None:
        """Block what was taken over: Python forgets in the child what came before ``forget``."""
        self._forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._before)

    def forked(self) -> None:
        """Let it come again."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._forking.mask)

    def forget(self) -> None:
        """Forget everything: this is a forked child, whose parent's blocks are none of its own."""
        self._put_back()
        self._held.clear()
        self._guards.clear()
        self._out_of_time.clear()
        self._rescuing = False
        self.forked()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        """Python's handler: runs in the main thread, between any two instructions."""
        if self._overdue:
            self._held.append(number)
            self.deliver()
            return
        before = self._before.get(number)
        wanting = [
            (guard, loop) for guard, (numbers, loop) in self._guards.items() if number in numbers
        ]
        lets_through = _is_of_a_runner(before) and number not in self._let_through
        if not lets_through:
            self._held.append(number)
        for guard, loop in wanting:
            _soon(loop, guard.alert if lets_through else guard.interrupt)
        self._watch_over(wanting, number)
        if lets_through and before is not None:
            self._let_through.add(number)
            before(number, frame)

    def _watch_over(
        self, wanting: list[tuple[Guard, asyncio.AbstractEventLoop]], number: int
    ) -> None:
        """Have a thread see to it that the loops notice."""
        if not wanting or self._rescuing:
            return
        noticed = {loop: threading.Event() for _, loop in wanting}
        for loop, event in noticed.items():
            _soon(loop, event.set)
        self._rescuing = True
        work = partial(self._rescue, wanting, noticed, number)
        threading.Thread(target=work, name="masscancel-rescue", daemon=True).start()

    def _rescue(
        self,
        wanting: list[tuple[Guard, asyncio.AbstractEventLoop]],
        noticed: dict[asyncio.AbstractEventLoop, threading.Event],
        number: int,
    ) -> None:
        """Cancel in place of loops that stand still; then have the signal delivered."""
        try:
            for event in noticed.values():
                event.wait(MOMENT)
            stuck = [guard for guard, loop in wanting if not noticed[loop].is_set()]
            threads = [threading.Thread(target=guard.rescue, daemon=True) for guard in stuck]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            self._rescuing = False
        still = any(not event.is_set() for event in noticed.values())
        if stuck and still and number in self._held:
            self._overdue = True
            os.kill(os.getpid(), number)


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has been closed under the block
        loop.call_soon_threadsafe(callback)


def _is_of_a_runner(handler: Any) -> bool:
    """Whether the handler is ``asyncio.Runner``'s, which cancels the main task at first."""
    return isinstance(handler, partial) and handler.func.__module__ == "asyncio.runners"


def _is_of_a_loop(handler: Any) -> bool:
    """Whether the handler stands in for one that was given to the event loop."""
    module = getattr(handler, "__module__", None) or type(handler).__module__
    return module == "asyncio.unix_events" or module.partition(".")[0] == "uvloop"


SIGNALS: Final = _Signals()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=SIGNALS.hold_for_fork,
        after_in_parent=SIGNALS.forked,
        after_in_child=SIGNALS.forget,
    )
