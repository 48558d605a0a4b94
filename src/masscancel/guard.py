"""Protection: the cancel that fires without being asked.

What was measured: on SIGTERM and on a second Ctrl-C, ``try``/``finally`` and a single
``asyncio.shield`` send nothing. Here the cancel runs in a task of its own that is waited for
through every cancellation, and signals are taken over while a block is guarded: they are delivered
again, to whoever had them before, when the cancel is through.
"""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Iterable, Sequence
from types import FrameType, TracebackType
from typing import Any, Final, Self

from masscancel.client import check_timeout
from masscancel.errors import ConfigurationError
from masscancel.fanout import cancel_many
from masscancel.gate import OrderGate
from masscancel.models import FanOutReport, Target
from masscancel.session import finish

__all__ = ["cancel_on_exit"]

log = logging.getLogger("masscancel")


class cancel_on_exit:  # noqa: N801  # reads as what it does: async with cancel_on_exit(...)
    """However the block ends, cancel every target, and prove it flat.

    An async context manager. A return, an exception, a cancellation, a timeout around it, Ctrl-C
    once or more, SIGTERM, both: the targets are cancelled concurrently within ``timeout``, and then
    the original exception or cancellation goes on, with a note of what failed, if anything did.
    Where the block simply returned, failures are raised as an ``ExceptionGroup``.

    On the first signal the gate is shut and a first cancel leaves at once, while the block is being
    cancelled; the proof follows when the block has ended. Every signal that came is then delivered
    again, so that the process ends with the status it would have had. Signals can be taken over in
    the main thread only; elsewhere, all else holds.

    Args:
        targets: a target, or many, of any clients; they must stay entered until the block is left.
        confirm: whether to prove each target flat; otherwise an Ack is enough.
        timeout: seconds for the cancel, from the end of the block.
        gate: is shut before anything is sent.
        signals: which signals end the block.

    Attributes:
        report: what became of the targets, once the block has been left.

    Raises:
        ConfigurationError: an argument can't be used.
    """

    def __init__(
        self,
        targets: Target | Iterable[Target],
        *,
        confirm: bool = True,
        timeout: float = 10.0,
        gate: OrderGate | None = None,
        signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
    ) -> None:
        self._targets = check_targets(targets)
        self._confirm = confirm
        self._timeout = check_timeout(timeout)
        self._gate = gate
        self._signals = tuple(signals)
        self._task: asyncio.Task[Any] | None = None
        self._first_cancel: asyncio.Task[FanOutReport] | None = None
        self._interrupted = 0
        self.report: FanOutReport | None = None

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None or self._task is not None:
            raise ConfigurationError("cancel_on_exit guards one block, in a task")
        self._task = task
        _SIGNALS.add(self, self._signals)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cancelled = False
        try:
            if self._gate is not None:
                self._gate.shut()
            report, cancelled = await finish(self._cancel())
            self.report = report
        finally:
            self._task, task = None, self._task
            for _ in range(self._interrupted):
                assert task is not None  # noqa: S101  # for the type checker: it was entered
                task.uncancel()
            _SIGNALS.remove(self)
        self._tell(report, exc)
        if exc is None and cancelled:
            raise asyncio.CancelledError

    def interrupt(self) -> None:
        """A signal has come: shut the gate, let a first cancel leave, and end the block."""
        if self._task is None:
            return
        if self._gate is not None:
            self._gate.shut()
        if self._first_cancel is None:
            self._first_cancel = asyncio.create_task(self._cancel_many(confirm=False))
        self._interrupted += 1
        self._task.cancel("interrupted by a signal")

    async def _cancel(self) -> FanOutReport:
        """The cancel at the end; the one that a signal started is part of it."""
        try:
            return await self._cancel_many(confirm=self._confirm)
        finally:
            if self._first_cancel is not None:
                await asyncio.wait((self._first_cancel,))

    async def _cancel_many(self, *, confirm: bool) -> FanOutReport:
        return await cancel_many(
            self._targets, timeout=self._timeout, confirm=confirm, gate=self._gate
        )

    def _tell(self, report: FanOutReport, exc: BaseException | None) -> None:
        """Lose no failure: raise it, or attach it to what is on its way."""
        if report.all_ok:
            return
        for outcome in report.failed:
            log.error("%s: not cancelled for certain: %s", outcome.target, outcome.error)
        if exc is None:
            report.raise_for_failures()
        else:
            failures = "\n".join(f"  {outcome.error}" for outcome in report.failed)
            exc.add_note(f"and the cancel on exit failed:\n{failures}")


def check_targets(targets: Target | Iterable[Target]) -> list[Target]:
    """One target or many, as a list.

    Raises:
        ConfigurationError: there are none, or something else is among them.
    """
    found = [targets] if isinstance(targets, Target) else list(targets)
    if not found or not all(isinstance(target, Target) for target in found):
        raise ConfigurationError("give one Target or more: there is nothing else to cancel")
    return found


class _Signals:
    """The signals of the process, shared by all blocks that are guarded at a time."""

    def __init__(self) -> None:
        self._guards: dict[cancel_on_exit, asyncio.AbstractEventLoop] = {}
        self._before: dict[signal.Signals, Any] = {}
        self._came: list[signal.Signals] = []

    def add(self, guard: cancel_on_exit, signals: Iterable[signal.Signals]) -> None:
        """Take the signals over, if that has not been done for another block."""
        self._guards[guard] = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            log.debug("signals can't be taken over outside the main thread")
            return
        for number in signals:
            if number not in self._before:
                self._before[number] = signal.signal(number, self._arrived)

    def remove(self, guard: cancel_on_exit) -> None:
        """After the last block, put the handlers back and deliver what came."""
        self._guards.pop(guard, None)
        if self._guards:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        came, self._came = self._came, []
        for number in dict.fromkeys(came):
            signal.raise_signal(number)

    def _arrived(self, number: int, _: FrameType | None) -> None:
        self._came.append(signal.Signals(number))
        for guard, loop in self._guards.items():
            with contextlib.suppress(RuntimeError):  # its loop has been closed under it
                loop.call_soon_threadsafe(guard.interrupt)


_SIGNALS: Final = _Signals()
