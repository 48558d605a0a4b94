"""Many targets at once, one outcome each."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from itertools import product
from types import TracebackType
from typing import Any, Final, Protocol, Self, runtime_checkable

import msgspec

from masscancel.arguments import check_settle, check_timeout, scope_of
from masscancel.calls import Scope
from masscancel.engine.gate import OrderGate
from masscancel.engine.operation import TOO_LATE, What
from masscancel.errors import (
    ConfigurationError,
    DeadlineExceeded,
    MassCancelError,
    OutcomeUnknown,
)
from masscancel.events import PROCESS, Kill, join_kill
from masscancel.models import Ack, Confirmation
from masscancel.transport.limiter import Limiter, Ticket

__all__ = [
    "Cancellable",
    "FanOutReport",
    "Outcome",
    "Target",
    "cancel_as_completed",
    "cancel_many",
]

log = logging.getLogger("masscancel")

#: How many targets are started, or logged, in one turn of the loop: some milliseconds' work.
_STARTS: Final = 16
#: How many of those that could not be started are ended in one.
_ENDS: Final = 512
#: How long it takes to end a target that hangs, in seconds, on a machine that has other work, too.
_ENDING: Final = 100e-6


@runtime_checkable
class Cancellable(Protocol):
    """The part of a client that a target needs; anything may have it, as ``Client`` does."""

    @property
    def account(self) -> str:
        """The name that tells the account apart from others."""

    def origin(self, account_category: str) -> str:
        """The origin of a category's requests: those of one client to one origin wait in turn."""

    def check_scope(self, scope: Scope, *, proven_within: float | None = None) -> None:
        """Check that a scope could be cancelled; sends nothing.

        Args:
            scope: what is to be cancelled.
            proven_within: the time in which it is to be proven flat, in seconds, if it is.

        Raises:
            ScopeError: there is no such scope.
            ConfigurationError: the client is not ready to be used, or the time is too short.
        """

    async def warm(self, account_category: str) -> None:
        """Have ready from now on what a cancel will need; wait until the first of it is there.

        Such as open connections. Whoever calls this limits the time; nothing that the network does
        is raised.
        """

    def before_close(
        self, holder: object, finish: Callable[[], Coroutine[Any, Any, None]] | None
    ) -> None:
        """Have something done before the client closes; ``None`` when it is done already."""

    async def cancel(
        self,
        scope: Scope,
        *,
        deadline: float,
        confirm: bool,
        settle: float | None,
        gate: OrderGate | None,
        limiters: tuple[Limiter, Limiter],
        place: Ticket,
    ) -> Ack | Confirmation:
        """Cancel every open order in a scope.

        Args:
            scope: what to cancel.
            deadline: when the time is up, in the event loop's time.
            confirm: whether to prove the scope flat.
            settle: the time between the two listings of the proof, ``None`` for the venue's own.
            gate: learns of each attempt.
            limiters: where requests that cancel, and others, wait for a place.
            place: the place of the first request, which is held already; to be released when that
                request has been answered, or has not been for long.

        Raises:
            MassCancelError: it could not be done, or not for certain.
        """


class Target(msgspec.Struct, frozen=True):
    """One client and one scope: what a fan-out cancels.

    Attributes:
        client: an entered :class:`~masscancel.Client`, or anything else that is cancellable.
        account_category: such as ``"cash"``.
        symbol: one symbol, or ``None`` for all.
        books: the books to cancel, such as ``("ordinary",)``; ``None`` for every book.
    """

    client: Cancellable
    account_category: str
    symbol: str | None = None
    books: tuple[str, ...] | None = None

    @classmethod
    def product(
        cls,
        clients: Iterable[Cancellable],
        account_categories: Iterable[str],
        symbols: Iterable[str | None] = (None,),
    ) -> list[Self]:
        """Every client with every category with every symbol, in that order.

        >>> Target.product(clients, ["spot", "usdm"], ["BTCUSDT", "ETHUSDT"])
        """
        return [cls(*each) for each in product(clients, account_categories, symbols)]

    @property
    def scope(self) -> Scope:
        """The scope to cancel there.

        Raises:
            ConfigurationError: the books are a string.
        """
        return scope_of(self.account_category, self.symbol, self.books)

    def to_dict(self) -> dict[str, Any]:
        """The target as plain data for JSON; nothing in it is secret."""
        scope = Scope(self.account_category, self.symbol, self.books)
        return {"account": self.client.account, **scope.to_dict()}

    def __str__(self) -> str:
        scope = Scope(self.account_category, self.symbol, self.books)
        return f"{scope} [{self.client.account}]"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one target: an Ack, a Confirmation or an error.

    Attributes:
        target: the target.
        ack: the venue's acknowledgement, the last one if there were several sweeps.
        confirmation: the proof, where one was asked for and reached.
        error: why not, otherwise.
        elapsed: from the fan-out's call to this outcome, in seconds.
    """

    target: Target
    ack: Ack | None = None
    confirmation: Confirmation | None = None
    error: MassCancelError | None = None
    elapsed: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the target was acknowledged, or confirmed where that was asked for."""
        return self.error is None and (self.ack is not None or self.confirmation is not None)

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain data for JSON; nothing in it is secret."""
        return {
            **self.target.to_dict(),
            "ok": self.ok,
            "ack": None if self.ack is None else self.ack.to_dict(),
            "confirmation": None if self.confirmation is None else self.confirmation.to_dict(),
            "error": None if self.error is None else self.error.to_dict(),
            "elapsed": self.elapsed,
        }


class FanOutReport(msgspec.Struct, frozen=True):
    """The outcomes of a fan-out, in the order of its targets.

    Attributes:
        outcomes: one per target.
        elapsed: the whole fan-out, in seconds.
    """

    outcomes: tuple[Outcome, ...]
    elapsed: float

    @property
    def succeeded(self) -> tuple[Outcome, ...]:
        """The outcomes without an error."""
        return tuple(outcome for outcome in self.outcomes if outcome.ok)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The outcomes with an error."""
        return tuple(outcome for outcome in self.outcomes if not outcome.ok)

    @property
    def all_ok(self) -> bool:
        """Whether no target failed; true of an empty fan-out."""
        return all(outcome.ok for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON; nothing in it is secret."""
        return {
            "all_ok": self.all_ok,
            "elapsed": self.elapsed,
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }

    def raise_for_failures(self) -> None:
        """Raise the errors of the targets that failed, if any.

        Raises:
            ExceptionGroup: holds each :class:`~masscancel.MassCancelError`, in the targets' order.
        """
        errors = [outcome.error for outcome in self.outcomes if outcome.error is not None]
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {len(self.outcomes)} targets failed", errors)


async def cancel_many(
    targets: Target | Iterable[Target],
    *,
    concurrency: int = 64,
    timeout: float = 10.0,
    confirm: bool = False,
    settle: float | None = None,
    gate: OrderGate | None = None,
    on_outcome: Callable[[Outcome], object] | None = None,
) -> FanOutReport:
    """Cancel every target at once; report what became of each.

    No target disturbs another: one that hangs, is refused or fails has its own outcome, and the
    others go on. A target that could not be started in time fails with ``DeadlineExceeded``. Each
    failure is logged at ERROR, too: a report may be dropped unread.

    Args:
        targets: a target, or many; :meth:`Target.product` makes many in one line.
        concurrency: how many requests of one client may wait for an answer from one origin. One
            that has not been answered within the client's patience counts no longer.
        timeout: seconds from now, for all of them together. A crowd is given up a little sooner,
            a second for ten thousand targets, so that each has its outcome by then.
        confirm: whether to prove each target flat, as ``cancel_all_and_confirm`` does.
        settle: the time between the two listings of such a proof, in seconds; ``None`` for each
            venue's own.
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


class cancel_as_completed:  # noqa: N801  # reads as what it does: async for ... in
    """Cancel every target at once; hand each outcome over as it ends.

    An async iterator, or an async context manager around one. Leaving it early ends what is under
    way: within ``async with`` at once; a bare ``async for`` that is broken off ends it when the
    iterator is dropped.

    Args:
        targets: as for :func:`cancel_many`.
        concurrency: as for :func:`cancel_many`.
        timeout: as for :func:`cancel_many`; it counts from when the iteration begins.
        confirm: as for :func:`cancel_many`.
        settle: as for :func:`cancel_many`.
        gate: as for :func:`cancel_many`.

    Raises:
        ConfigurationError: an argument can't be used; nothing was sent.

    Example:
        >>> async for outcome in cancel_as_completed(targets):
        ...     print(outcome.target, outcome.ok)
    """

    def __init__(
        self,
        targets: Target | Iterable[Target],
        *,
        concurrency: int = 64,
        timeout: float = 10.0,
        confirm: bool = False,
        settle: float | None = None,
        gate: OrderGate | None = None,
    ) -> None:
        self._ended: deque[Outcome] = deque()
        self._news = asyncio.Event()
        options = concurrency, timeout, confirm, settle, gate, self._note
        self._fan_out = _FanOut(targets, *options)
        self._running = self._fan_out.running()
        self._iterator: AsyncIterator[Outcome] | None = None

    def _note(self, _: int, outcome: Outcome) -> None:
        self._ended.append(outcome)
        self._news.set()

    async def __aenter__(self) -> AsyncIterator[Outcome]:
        await self._running.__aenter__()
        return self._outcomes()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._running.__aexit__(None, None, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        if self._iterator is None:
            self._iterator = self._run_and_hand_over()
        return await anext(self._iterator)

    async def _run_and_hand_over(self) -> AsyncIterator[Outcome]:
        async with self as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def _outcomes(self) -> AsyncIterator[Outcome]:
        for _ in range(self._fan_out.size):
            while not self._ended:
                self._news.clear()
                await self._news.wait()
            yield self._ended.popleft()


class _FanOut:
    """The targets, a task each, which starts when there is a place for its first request.

    So those that wait cost nothing. None waits for the second request of another, and none for a
    place of another client or origin.
    """

    def __init__(
        self,
        targets: Target | Iterable[Target],
        concurrency: int,
        timeout: float,
        confirm: bool,
        settle: float | None,
        gate: OrderGate | None,
        note: Callable[[int, Outcome], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        check_timeout(timeout)
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError(f"concurrency must be a positive integer, not {concurrency!r}")
        if confirm:
            check_settle(settle, timeout)
        self._targets = list_targets(targets)
        #: A crowd is given up a little early, so that all of it has its outcomes in time.
        self._deadline = self._began_at + timeout - min(len(self._targets) * _ENDING, timeout / 10)
        self._concurrency = concurrency
        self._confirm = confirm
        self._settle = settle
        self._gate = gate
        self._context = copy_context()
        self._kill: Kill | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._note = note
        self._left = len(self._targets)
        self._queues: dict[tuple[int, str], _Queue] = {}  # by client and origin
        self._filling: deque[Limiter] = deque()
        self._unstarted: deque[tuple[int, Target]] = deque()  # when the time was up
        self._failures: deque[tuple[Target, MassCancelError]] = deque()  # that are not logged yet
        #: Set when every target has its outcome.
        self.ended = asyncio.Event()

    @property
    def size(self) -> int:
        """The number of targets."""
        return len(self._targets)

    def elapsed(self) -> float:
        """Seconds since the call."""
        return self._loop.time() - self._began_at

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start every target in turn; on the way out, end those that are still under way."""
        self._began_at = self._loop.time()
        if self._gate is not None:
            self._gate.shut()
        if not self._left:  # as to check the arguments alone
            self.ended.set()
            yield
            return
        self._kill, is_new = self._context.run(join_kill, what=in_words(self._targets))
        problem = None
        try:
            async with self._under_way():
                yield
        except BaseException as raised:
            problem = raised
            raise
        finally:
            if is_new:
                self._kill.end(problem)

    @asynccontextmanager
    async def _under_way(self) -> AsyncIterator[None]:
        timer = self._loop.call_at(self._deadline, self._give_up)
        self._sort()
        self._filling.extend(queue.limiters[0] for queue in self._queues.values())
        self._fill()
        try:
            yield
        finally:
            timer.cancel()
            self._log_failures()
            self._note = _ignore
            self._filling.clear()
            self._unstarted.clear()
            for queue in self._queues.values():
                queue.waiting.clear()
            unfinished = [*self._tasks]
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished)
            for queue in self._queues.values():
                del queue.limiters  # which refer to it: only the collector would find them
            self._queues.clear()

    def _sort(self) -> None:
        """Put each target into the queue of its client and origin."""
        for index, target in enumerate(self._targets):
            try:
                origin = target.client.origin(target.account_category)
            except MassCancelError as error:  # no such category
                self._end(index, target, error)
                continue
            except Exception as problem:  # noqa: BLE001  # whatever it is, the others go on
                self._end(index, target, _wrapped(problem))
                continue
            owner = id(target.client), origin
            queue = self._queues.get(owner)
            if queue is None:
                queue = self._queues[owner] = _Queue(self._concurrency, self._start)
            queue.waiting.append((index, target))

    def _fill(self) -> None:
        """Start targets in turn, so that no client waits for the first requests of another.

        So many in a turn of the loop, which does other work in between.
        """
        for _ in range(_STARTS):
            if not self._filling:
                return
            limiter = self._filling.popleft()
            if limiter.start_one():
                self._filling.append(limiter)
        self._loop.call_soon(self._fill)

    def _start(self, queue: "_Queue", index: int, target: Target) -> None:
        """Start a target, for which a place is held."""
        place = queue.limiters[0].held()
        work = self._cancel(target, queue, place)
        task = self._loop.create_task(work, context=self._context.copy())
        task.add_done_callback(partial(self._done, index, target, place), context=self._context)
        self._tasks.add(task)

    def _give_up(self) -> None:
        """Give up those that have not been started: it is too late."""
        for queue in self._queues.values():
            self._unstarted.extend(queue.waiting)
            queue.waiting.clear()
        self._end_unstarted()

    def _end_unstarted(self) -> None:
        """End those that were given up, some in a turn of the loop."""
        name = "cancel_all_and_confirm" if self._confirm else "cancel_all"
        for _ in range(min(len(self._unstarted), _ENDS)):
            index, target = self._unstarted.popleft()
            error = DeadlineExceeded(TOO_LATE)
            scope = Scope(target.account_category, target.symbol, target.books)
            error.describe((), context=What(name, scope, target.client.account))
            self._end(index, target, error)
        if self._unstarted:
            self._loop.call_soon(self._end_unstarted)

    async def _cancel(
        self, target: Target, queue: "_Queue", place: Ticket
    ) -> Ack | Confirmation | MassCancelError:
        try:
            return await target.client.cancel(
                target.scope,
                deadline=self._deadline,
                confirm=self._confirm,
                settle=self._settle,
                gate=self._gate,
                limiters=queue.limiters,
                place=place,
            )
        except MassCancelError as problem:
            _forget_frames(problem)
            return problem
        except Exception as problem:  # noqa: BLE001  # whatever it is, the others go on
            return _wrapped(problem)

    def _done(self, index: int, target: Target, place: Ticket, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        place.release()
        if task.cancelled():  # this target alone, or the whole
            self._end(index, target, OutcomeUnknown("the task of this target was cancelled"))
        else:
            self._end(index, target, task.result())

    def _end(
        self, index: int, target: Target, result: Ack | Confirmation | MassCancelError
    ) -> None:
        now = self._loop.time()
        elapsed = now - self._began_at
        if isinstance(result, MassCancelError):
            outcome = Outcome(target=target, error=result, elapsed=elapsed)
            if self._note is not _ignore:
                self._failures.append((target, result))
                if now < self._deadline:
                    self._log_failures()
        else:
            proof = result if isinstance(result, Confirmation) else None
            acks = (result,) if isinstance(result, Ack) else result.acks
            ack = acks[-1] if acks else None
            outcome = Outcome(target=target, ack=ack, confirmation=proof, elapsed=elapsed)
        self._publish(outcome, "acknowledged" if outcome.confirmation is None else "proven flat")
        self._note(index, outcome)
        self._left -= 1
        if not self._left:
            self.ended.set()

    def _publish(self, outcome: Outcome, word: str) -> None:
        """Publish what has become of a target."""
        target, error = outcome.target, outcome.error
        if self._kill is not None and PROCESS.active:
            self._kill.target_ended(
                target.client.account,
                Scope(target.account_category, target.symbol, target.books),
                word if error is None else error.message,
                error="" if error is None else type(error).__name__,
                may_have_executed=error is not None and error.may_have_executed,
                elapsed=outcome.elapsed,
            )

    def _log_failures(self) -> None:
        """Log failures; those of a crowd that is late, some in a turn of the loop."""
        for _ in range(min(len(self._failures), _STARTS)):
            log.error("%s: the cancel failed: %s", *self._failures.popleft())
        if self._failures:
            self._loop.call_soon(self._log_failures)


class _Queue:
    """The targets of one client and origin that have not been started, and who may send when."""

    __slots__ = ("_start", "limiters", "waiting")

    def __init__(self, concurrency: int, start: "Callable[[_Queue, int, Target], None]") -> None:
        self._start = start
        self.waiting: deque[tuple[int, Target]] = deque()
        #: For requests that cancel, and for others.
        self.limiters = Limiter(concurrency, self._start_next), Limiter(concurrency)

    def _start_next(self) -> bool:
        if not self.waiting:
            return False
        self._start(self, *self.waiting.popleft())
        return True


def list_targets(targets: Target | Iterable[Target]) -> list[Target]:
    """One target or many, as a list.

    Raises:
        ConfigurationError: something else is among them.
    """
    found: list[Any] = [targets]
    if not isinstance(targets, Target):
        if not isinstance(targets, Iterable):
            raise ConfigurationError(f"targets must be of Target, not {type(targets).__name__}")
        found = [*targets]
    for target in found:
        if not isinstance(target, Target):
            raise ConfigurationError(f"targets must be of Target, not {type(target).__name__}")
    for client in {type(target.client): target.client for target in found}.values():
        if not isinstance(client, Cancellable):
            raise ConfigurationError(
                f"the client of a target can't be {type(client).__name__}: give a Client"
            )
    return found


def in_words(targets: Sequence[Target]) -> str:
    """Say what targets are: the only one, or how many."""
    return str(targets[0]) if len(targets) == 1 else f"{len(targets)} targets"


def _wrapped(problem: Exception) -> MassCancelError:
    """Make the error of a failure that is none of ours."""
    error = MassCancelError(f"{type(problem).__name__}: {problem}", may_have_executed=True)
    error.__cause__ = problem
    return error


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what an error's frames hold: a report of thousands would keep all of it."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _ignore(_: int, __: Outcome) -> None:
    """Nobody asks any more."""
