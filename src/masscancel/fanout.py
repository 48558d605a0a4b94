"""Many targets at once, one outcome each."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Final

from masscancel.client import check_settle, check_timeout
from masscancel.errors import (
    ConfigurationError,
    DeadlineExceeded,
    MassCancelError,
    OutcomeUnknown,
)
from masscancel.gate import OrderGate
from masscancel.job import TOO_LATE, Job
from masscancel.lanes import Held, Lane
from masscancel.models import Ack, Confirmation, FanOutReport, Outcome, Target

__all__ = ["cancel_as_completed", "cancel_many"]


#: The time between the two listings of a proof, if nothing else is said; in seconds.
SETTLE: Final = 0.25


async def cancel_many(
    targets: Iterable[Target],
    *,
    concurrency: int = 64,
    timeout: float = 10.0,
    confirm: bool = False,
    settle: float = SETTLE,
    gate: OrderGate | None = None,
    on_outcome: Callable[[Outcome], object] | None = None,
) -> FanOutReport:
    """Cancel every target at once; report what became of each.

    No target disturbs another: one that hangs, is refused or fails has its own outcome, and the
    others go on. A target that could not be started in time fails with ``DeadlineExceeded``.

    Args:
        targets: which clients and scopes; :meth:`Target.product` makes many in one line.
        concurrency: how many requests of this fan-out may be in flight.
        timeout: seconds from now, for all of them together.
        confirm: whether to prove each target flat, as ``cancel_all_and_confirm`` does.
        settle: the time between the two listings of such a proof, in seconds.
        gate: is shut before anything is sent, and stays so until every attempt is resolved.
        on_outcome: a plain function that is called with each outcome as it ends. What it raises
            first reaches you when every target has its outcome.

    Returns:
        The outcomes in the order of the targets. ``raise_for_failures()`` raises an
        ``ExceptionGroup`` of those that failed.

    Raises:
        ConfigurationError: an argument can't be used; nothing was sent.
    """
    outcomes: dict[int, Outcome] = {}
    broken: list[Exception] = []

    def note(index: int, outcome: Outcome) -> None:
        outcomes[index] = outcome
        try:
            if on_outcome is not None:
                on_outcome(outcome)
        except Exception as error:  # noqa: BLE001  # first the cancels, then the callback's bug
            broken.append(error)

    fan_out = _FanOut(targets, concurrency, timeout, confirm, settle, gate, note)
    async with fan_out.running():
        await fan_out.ended.wait()
    if broken:
        raise broken[0]
    return FanOutReport(tuple(outcomes[index] for index in sorted(outcomes)), fan_out.elapsed())


@asynccontextmanager
async def cancel_as_completed(
    targets: Iterable[Target],
    *,
    concurrency: int = 64,
    timeout: float = 10.0,
    confirm: bool = False,
    settle: float = SETTLE,
    gate: OrderGate | None = None,
) -> AsyncIterator[AsyncIterator[Outcome]]:
    """Cancel every target at once; hand each outcome over as it ends.

    An async context manager around an async iterator. Leaving it early ends what is under way.

    Args:
        targets: as for :func:`cancel_many`.
        concurrency: as for :func:`cancel_many`.
        timeout: as for :func:`cancel_many`.
        confirm: as for :func:`cancel_many`.
        settle: as for :func:`cancel_many`.
        gate: as for :func:`cancel_many`.

    Raises:
        ConfigurationError: an argument can't be used; nothing was sent.

    Example:
        >>> async with cancel_as_completed(targets) as outcomes:
        ...     async for outcome in outcomes:
        ...         print(outcome.target, outcome.ok)
    """
    ended: asyncio.Queue[Outcome] = asyncio.Queue()

    def note(_: int, outcome: Outcome) -> None:
        ended.put_nowait(outcome)

    fan_out = _FanOut(targets, concurrency, timeout, confirm, settle, gate, note)
    async with fan_out.running():
        yield fan_out.as_they_end(ended)


class _FanOut:
    """The targets, a task each, which starts when there is a place for its first request.

    So those that wait cost nothing. None waits for the second request of another.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        concurrency: int,
        timeout: float,
        confirm: bool,
        settle: float,
        gate: OrderGate | None,
        note: Callable[[int, Outcome], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        self._deadline = self._began_at + check_timeout(timeout)
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError(f"concurrency must be a positive integer, not {concurrency!r}")
        self._settle = check_settle(settle, timeout) if confirm else None
        self._targets = list(targets)
        for target in self._targets:
            if not isinstance(target, Target):
                raise ConfigurationError(f"targets must be of Target, not {type(target).__name__}")
        self._gate = gate
        self._lane = Lane(concurrency, self._start_next)
        self._context = copy_context()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting = enumerate(self._targets)
        self._note = note
        self._left = len(self._targets)
        #: Set when every target has its outcome.
        self.ended = asyncio.Event()

    def elapsed(self) -> float:
        """Seconds since the call."""
        return self._loop.time() - self._began_at

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start every target in turn; on the way out, end those that are still under way."""
        if self._gate is not None:
            self._gate.shut()
        timer = self._loop.call_at(self._deadline, self._give_up)
        self._lane.offer()
        if not self._targets:
            self.ended.set()
        try:
            yield
        finally:
            timer.cancel()
            self._waiting, self._note = enumerate(()), _ignore
            unfinished = [*self._tasks]
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished)

    def _start_next(self) -> bool:
        """Start the next target, for which a place is held; whether there is one left."""
        following = next(self._waiting, None)
        if following is None:
            return False
        index, target = following
        lane = Held(self._lane)
        task = self._loop.create_task(self._cancel(target, lane), context=self._context.copy())
        task.add_done_callback(partial(self._done, index, target, lane), context=self._context)
        self._tasks.add(task)
        return True

    def _give_up(self) -> None:
        """It is too late for those that have not been started."""
        call = "cancel_all" if self._settle is None else "cancel_all_and_confirm"
        for index, target in self._waiting:
            client, error = target.client, DeadlineExceeded(TOO_LATE)
            words = call, target.account_category, target.symbol, client.venue.name, client.label
            Job(words, self._deadline).describe(error)
            self._end(index, target, error)

    async def as_they_end(self, outcomes: asyncio.Queue[Outcome]) -> AsyncIterator[Outcome]:
        """So many outcomes as there are targets."""
        for _ in self._targets:
            yield await outcomes.get()

    async def _cancel(self, target: Target, lane: Held) -> Ack | Confirmation | MassCancelError:
        try:
            return await target.client._cancel_target(  # noqa: SLF001  # a friend
                target.account_category,
                target.symbol,
                deadline=self._deadline,
                lane=lane,
                settle=self._settle,
                gate=self._gate,
            )
        except MassCancelError as problem:
            return problem
        except Exception as problem:  # noqa: BLE001  # whatever it is, the others go on
            error = MassCancelError(f"{type(problem).__name__}: {problem}", may_have_executed=True)
            error.__cause__ = problem
            return error

    def _done(self, index: int, target: Target, lane: Held, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        lane.forfeit()
        if task.cancelled():  # this target alone, or the whole
            self._end(index, target, OutcomeUnknown("the task of this target was cancelled"))
        else:
            self._end(index, target, task.result())

    def _end(
        self, index: int, target: Target, result: Ack | Confirmation | MassCancelError
    ) -> None:
        acks = result.acks if isinstance(result, Confirmation) else (result,)
        outcome = Outcome(
            target=target,
            ack=acks[-1] if acks and isinstance(acks[-1], Ack) else None,
            confirmation=result if isinstance(result, Confirmation) else None,
            error=result if isinstance(result, MassCancelError) else None,
            elapsed=self.elapsed(),
        )
        self._note(index, outcome)
        self._left -= 1
        if not self._left:
            self.ended.set()


def _ignore(_: int, __: Outcome) -> None:
    """Nobody asks any more."""
