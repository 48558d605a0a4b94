"""Cancel on exit: the cancel that goes out however a block ends.

What was measured: on SIGTERM and on a second Ctrl-C, ``try``/``finally`` and a single
``asyncio.shield`` send nothing. Here the cancel runs in a task of its own that is waited for
through every cancellation, and started again if somebody cancels that, too.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import Any, Final, Self

from masscancel.arguments import check_timeout
from masscancel.engine.gate import OrderGate
from masscancel.errors import ConfigurationError, DeadlineExceeded
from masscancel.events import killing
from masscancel.fanout import (
    Cancellable,
    FanOutReport,
    Outcome,
    Target,
    cancel_many,
    in_words,
    list_targets,
)
from masscancel.protection.signals import SIGNALS
from masscancel.protection.twins import twins_of
from masscancel.transport.forks import check_not_forked, forks
from masscancel.transport.waiting import finish

__all__ = ["cancel_on_exit"]

log = logging.getLogger("masscancel")

#: The time for one more try where the event loop was held up for all of it, in seconds.
GRACE: Final = 1.0
#: An event loop has three descriptors; a few connections.
_SPARE: Final = 6
#: How long an entry waits for connections at most, in seconds.
WARMTH: Final = 1.0
#: What ends a program from outside: Ctrl-C, ``kill``, and a terminal or a session that is closed.
SIGNALS_BY_DEFAULT: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_UNCATCHABLE: Final = frozenset({signal.SIGKILL, signal.SIGSTOP})


class cancel_on_exit:  # noqa: N801  # reads as what it does: async with cancel_on_exit(...)
    """However the block ends, cancel every target, and prove it flat.

    An async context manager. A return, an exception, a cancellation, a timeout around it, Ctrl-C
    once or more, SIGTERM, both: the targets are cancelled concurrently within ``timeout``, and then
    the original exception or cancellation goes on, with a note of what failed, if anything did.
    Where the block simply returned, failures are raised as an ``ExceptionGroup``.

    On the first signal the gate is shut and a first cancel leaves at once, while the block is being
    cancelled; the proof follows when the block has ended. A signal that would have ended the
    process is held until then and delivered again, so that the process ends with the status it
    would have had. It is delivered after another ``timeout`` even if the block does not end.
    Where the event loop stands still, a thread cancels in its place. Signals that the program
    ignores, or handles through its event loop, are left alone. Signals can be taken over in the
    main thread only; elsewhere, all else holds. A forked child has the signals of before.

    Entering waits for a connection to each target's origin, a second at most: later, there may be
    no descriptor left for one.

    Args:
        targets: a target, or many, of any clients. If a client is left before the block, since that
            is in another task, the cancel goes out and is proven before the client closes.
        confirm: whether to prove each target flat; otherwise an Ack is enough.
        timeout: seconds for the cancel, from the end of the block.
        gate: is shut before anything is sent.
        signals: which signals end the block; by default SIGINT, SIGTERM and SIGHUP.

    Attributes:
        report: what became of the targets, once the block has been left.

    Raises:
        ConfigurationError: an argument can't be used; on entering, a client is not entered, or the
            guard has been before.
        ScopeError: on entering, a target's venue has no such scope.
    """

    def __init__(
        self,
        targets: Target | Iterable[Target],
        *,
        confirm: bool = True,
        timeout: float = 10.0,
        gate: OrderGate | None = None,
        signals: Iterable[int] = SIGNALS_BY_DEFAULT,
    ) -> None:
        self._targets = check_targets(targets)
        self._confirm = confirm
        self._timeout = check_timeout(timeout)
        self._gate = gate
        self._signals = _check_signals(signals)
        self._task: asyncio.Task[Any] | None = None
        self._inside = False
        self._entered_at = 0  # how many forks had been made by then
        self._first_cancel: asyncio.Task[FanOutReport] | None = None
        self._last_resort: asyncio.Task[None] | None = None
        self._interruptions = 0
        self._spare: list[int] = []  # descriptors
        self._early: asyncio.Task[tuple[FanOutReport, bool]] | None = None
        self.report: FanOutReport | None = None

    async def __aenter__(self) -> Self:
        self._task, task = asyncio.current_task(), self._task
        if self._task is None or task is not None:
            raise ConfigurationError("cancel_on_exit guards one block, in a task")
        check_scopes(self._targets, proven_within=self._timeout if self._confirm else None)
        self._entered_at = forks()
        self._inside = True
        for client in self._clients():
            client.before_close(self, self._finish_early)
        SIGNALS.add(self, self._signals)
        self._spare_descriptors()
        await warm_up(self._targets)  # last: the block is guarded by now, whatever happens
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        assert self._task is not None  # noqa: S101  # for the type checker: it was entered
        check_not_forked(self._entered_at, self)
        self._inside = False
        ours = isinstance(exc, asyncio.CancelledError) and (
            0 < self._interruptions == self._task.cancelling()
        )
        if self._gate is not None:
            self._gate.shut()
        try:
            if self._early is not None:  # a client has been left already
                await asyncio.wait((self._early,))
                self.report, cancelled = self._early.result()
            else:
                self.report, cancelled = await self._cancel()
        finally:
            for _ in range(self._interruptions):
                self._task.uncancel()
            for client in self._clients():
                client.before_close(self, None)
            self._free_descriptors()
            SIGNALS.remove(self)
        onto = None if ours else exc
        if onto is None and cancelled:
            onto = asyncio.CancelledError()
        if onto is None:
            self.report.raise_for_failures()
        else:
            note_failures(self.report, onto, "the cancel on exit")
            if onto is not exc:
                raise onto
        # A cancellation by a signal has had its way when whoever handles the signal has been told.
        return ours

    def _spare_descriptors(self) -> None:
        """Hold what a thread will need for an event loop and a connection."""
        with suppress(OSError):
            while len(self._spare) < _SPARE:
                self._spare.append(os.open(os.devnull, os.O_RDONLY))

    def _free_descriptors(self) -> None:
        while self._spare:
            os.close(self._spare.pop())

    def _clients(self) -> list[Cancellable]:
        return [*{id(target.client): target.client for target in self._targets}.values()]

    async def _finish_early(self) -> None:
        """A client is being left while the block, in another task, is not: cancel now or never."""
        if self._gate is not None:
            self._gate.shut()
        if self._early is None:
            self._early = asyncio.create_task(self._cancel())
        await asyncio.wait((self._early,))

    def alert(self) -> None:
        """A signal has come: shut the gate, and let a first cancel leave."""
        if not self._inside:
            return
        if self._gate is not None:
            self._gate.shut()
        if self._first_cancel is None:
            self._first_cancel = asyncio.create_task(self._cancel_many(confirm=False))

    def interrupt(self) -> None:
        """A signal has come and is held: do so, and end the block."""
        self.alert()
        if not self._inside or self._task is None:
            return
        self._interruptions += 1
        self._task.cancel("interrupted by a signal")
        if self._last_resort is None:
            self._last_resort = asyncio.create_task(self._outlast())

    async def _outlast(self) -> None:
        """The block has had its time and does not end: prove what can be, let the signal go."""
        await asyncio.sleep(self._timeout)
        await self._cancel_many(confirm=self._confirm)
        SIGNALS.give_up(self)

    def rescue(self) -> None:
        """Cancel from another thread with twin clients: the event loop stands still."""
        if self._gate is not None:
            self._gate.shut()
        self._free_descriptors()
        try:
            asyncio.run(self._rescue())
        except Exception:
            log.exception("the cancel of a loop that stands still has failed")

    async def _rescue(self) -> None:
        async with twins_of(self._targets) as targets:
            why = "cancel_on_exit: the event loop stands still"
            with killing(why, what=in_words(targets)):
                await cancel_many(targets, timeout=self._timeout, confirm=self._confirm)

    async def _cancel(self) -> tuple[FanOutReport, bool]:
        """Cancel, whatever is cancelled meanwhile; the report, and whether this task was."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        cancelled = held_up = False
        for task in (self._last_resort, self._first_cancel):
            if task is not None:
                task.cancel()
        while True:
            left = max(deadline - loop.time(), 0.001)
            work, again = await finish(self._cancel_many(confirm=self._confirm, timeout=left))
            cancelled = cancelled or again
            if work.cancelled():
                continue  # who ends the loop cancels all of its tasks, this one too: once more
            report = work.result()
            if held_up or not all(map(_was_not_tried, report.outcomes)):
                return report, cancelled
            # The loop was held up for so long that the time was over before it began: once more.
            held_up, deadline = True, loop.time() + min(self._timeout, GRACE)

    async def _cancel_many(self, *, confirm: bool, timeout: float | None = None) -> FanOutReport:
        timeout = self._timeout if timeout is None else timeout
        why = "a signal" if self._inside else "the block has ended"
        with killing(f"cancel_on_exit: {why}", what=in_words(self._targets)):
            return await cancel_many(
                self._targets,
                timeout=timeout,
                confirm=confirm,
                gate=self._gate,
            )


def note_failures(report: FanOutReport, onto: BaseException, what: str) -> None:
    """Attach what failed to an exception that goes on."""
    if report.failed:
        failures = "\n".join(f"  {outcome.error}" for outcome in report.failed)
        onto.add_note(f"and {what} failed:\n{failures}")


def _was_not_tried(outcome: Outcome) -> bool:
    return isinstance(outcome.error, DeadlineExceeded) and not outcome.error.attempts


def check_targets(targets: Target | Iterable[Target]) -> list[Target]:
    """One target or many, as a list.

    Raises:
        ConfigurationError: there are none, or something else is among them.
    """
    found = list_targets(targets)
    if not found:
        raise ConfigurationError("give one Target or more: there is nothing else to cancel")
    return found


def check_scopes(targets: Iterable[Target], *, proven_within: float | None = None) -> None:
    """Find out now what would be wrong later.

    Args:
        targets: what is to be cancelled.
        proven_within: the time in which each is to be proven flat, in seconds, if it is.

    Raises:
        ConfigurationError: a target's client is not entered, or the time is too short.
        ScopeError: its venue has no such scope.
    """
    for target in targets:
        target.client.check_scope(target.scope, proven_within=proven_within)


async def warm_up(targets: Iterable[Target]) -> None:
    """Have ready what a cancel will need.

    When the time comes, this process may have no descriptor left for a connection: one to each
    origin is waited for here, though not for long. A cancellation meanwhile ends the waiting, and
    is raised where this task waits next.
    """
    categories = {(id(each.client), each.account_category): each for each in targets}.values()
    task = asyncio.current_task()
    try:
        async with asyncio.timeout(WARMTH):
            begun = [each.client.warm(each.account_category) for each in categories]
            await asyncio.gather(*filter(isawaitable, begun))  # one may have nothing to wait for
    except TimeoutError:
        pass
    except asyncio.CancelledError as cancellation:  # is for what is guarded, which then cancels
        if task is not None:
            task.uncancel()
            task.cancel(*cancellation.args)


def _check_signals(signals: Iterable[int]) -> tuple[signal.Signals, ...]:
    try:
        found = tuple(signal.Signals(number) for number in signals)
    except (TypeError, ValueError):
        found = (signal.SIGKILL,)
    if _UNCATCHABLE.intersection(found):
        raise ConfigurationError(f"signals must be signals that can be caught, not {signals!r}")
    return found
