"""The prover: sweeps and lists a scope, as ``confirm`` says, until it is flat."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from masscancel.calls import Precedence
from masscancel.engine.operation import TOO_LATE, Operation
from masscancel.engine.proof import Do, Proof, ProofPolicy
from masscancel.engine.streams import Watch
from masscancel.errors import (
    DeadlineExceeded,
    MassCancelError,
    NotFlat,
    StampRefused,
    Unproven,
    VenueError,
)
from masscancel.models import Ack, Confirmation, Gap, OpenOrder, OrderState, OrderUpdate

__all__ = ["Prover"]

log = logging.getLogger("masscancel")

Order = OpenOrder | OrderUpdate

#: So many sweeps go on beside each other at most; the oldest gives way to a further one.
_SWEEPS: Final = 2


class Prover:
    """Proves one scope of one client flat.

    Args:
        operation: whose deadline, lanes, gate and attempts these are.
        settle: the time between the two listings, in seconds.
        policy: how often to sweep and to list.
        books: those that the scope covers, and those that it leaves out.
        sweep: cancels everything in the scope, within a operation.
        list_orders: lists the scope, within a operation.
        find_states: finds out what has become of orders, within a operation.
        watch: the category's order updates, if they can be trusted from here on.
    """

    def __init__(
        self,
        operation: Operation,
        *,
        settle: float,
        policy: ProofPolicy,
        books: tuple[tuple[str, ...], tuple[str, ...]],
        sweep: Callable[[Operation], Coroutine[Any, Any, Ack]],
        list_orders: Callable[[Operation], Coroutine[Any, Any, list[OpenOrder]]],
        find_states: Callable[
            [Sequence[Order], Operation], Coroutine[Any, Any, Mapping[str, OrderState]]
        ],
        watch: Watch | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._operation = operation
        self._settle = settle
        self._policy = policy
        self._sweep_once = sweep
        self._list_once = list_orders
        self._find_states = find_states
        self._watch = watch
        self._books = books
        self._proof = Proof(
            settle=settle,
            deadline=operation.deadline,
            streamed=watch is not None,
            policy=policy,
        )
        self._asked_about: Sequence[Order] = ()
        self._ask_again = False
        self._explaining: asyncio.Task[None] | None = None
        self._sweeps: list[asyncio.Task[Ack]] = []  # that are under way, oldest first
        self._listing: asyncio.Task[list[OpenOrder]] | None = None
        self._listing_began = 0.0
        self._dropped: set[asyncio.Task[Any]] = set()
        self._acks: list[Ack] = []
        self._may_have_swept = False
        self._last_error: MassCancelError | None = None
        self._arrived = operation.gate.arrived if operation.gate is not None else 0
        self._news = asyncio.Event()

    async def prove(self) -> Confirmation:
        """Sweep and list until the scope is flat.

        Raises:
            NotFlat: the time was up and orders were still listed.
            Unproven: the time was up and no listing since the last sweep could be read.
            DeadlineExceeded: the time was up between the two listings.
            MassCancelError: the first sweep was refused for good.
        """
        started = self._loop.time()
        gate = self._operation.gate
        unlisten = gate.listen(self._tell_news) if gate is not None else None
        if self._watch is not None:
            self._watch.on_news = self._news.set
        try:
            while (now := self._loop.time()) < self._operation.deadline:
                self._take_news(now)
                step = self._proof.step(now)
                if step.do in (Do.WAIT, Do.DONE) and self._explaining is None:
                    self._explain_beside(now)
                if step.do is Do.SWEEP:
                    await self._sweep(now)
                elif step.do is Do.LIST:
                    await self._list(now)
                elif step.do is Do.WAIT:
                    await self._wait(step.until)
                elif self._explaining is None:
                    return self._confirmation(now - started)
                else:  # it is flat; how orders ended is worth a moment
                    await self._wait(self._operation.deadline)
        finally:
            if unlisten is not None:
                unlisten()
            beside = self._explaining, self._listing, *self._sweeps, *self._dropped
            tasks = [task for task in beside if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise self._not_proven()  # now that it is known what became of each attempt

    def _tell_news(self) -> None:
        """Something has happened; perhaps in another thread, whose gate this is."""
        self._loop.call_soon_threadsafe(self._news.set)

    def _take_news(self, now: float) -> None:
        """Tell the proof what has happened since the last step."""
        self._news.clear()
        for task in [sweep for sweep in self._sweeps if sweep.done()]:
            self._take_sweep(task)
        if self._listing is not None and self._listing.done():
            self._take_listing(self._listing)
        for item in self._watch.drain() if self._watch is not None else ():
            if isinstance(item, Gap):
                self._proof.missed(now)
            elif self._covers(item):
                self._proof.updated(item, now)
        gate = self._operation.gate
        if gate is not None:
            arrived, self._arrived = gate.arrived - self._arrived, gate.arrived
            self._proof.gated(under_way=gate.under_way, arrived=arrived)

    def _covers(self, update: OrderUpdate) -> bool:
        """Whether an update is about an order in the scope."""
        symbol, (books, left_out) = self._operation.scope.symbol, self._books
        in_books = update.book in books or update.book not in left_out
        return symbol in (None, update.symbol) and in_books

    async def _sweep(self, now: float) -> None:
        """Sweep. One that is slow goes on beside what follows: its answer is not thrown away."""
        self._proof.sweeping(now)
        if self._listing is not None:  # what it shows may be of before
            self._drop(self._listing)
            self._listing = None
        if len(self._sweeps) == _SWEEPS:
            self._drop(self._sweeps.pop(0))
        work = self._sweep_once(self._operation.within(self._operation.deadline))
        task = self._loop.create_task(work)
        self._sweeps.append(task)
        if await self._ends(task, now):
            self._take_sweep(task)
        else:
            self._proof.sweep_failed(self._loop.time())

    def _drop(self, task: asyncio.Task[Any]) -> None:
        """Stop waiting for a sweep or a listing."""
        task.cancel()
        self._dropped.add(task)

    def _take_sweep(self, task: asyncio.Task[Ack]) -> None:
        is_latest = task is self._sweeps[-1]
        self._sweeps.remove(task)
        now = self._loop.time()
        try:
            self._acks.append(task.result())
        except MassCancelError as error:
            outlasts = (error.retry_after or 0.0) >= self._operation.deadline - now
            if not self._may_have_swept and (outlasts or _is_final(error)):
                self._operation.describe(error)
                raise
            if is_latest:
                self._proof.sweep_failed(now, error.retry_after or 0.0)
            self._note(error)
            self._may_have_swept |= error.may_have_executed
        else:
            if is_latest:
                self._proof.swept(now)
            self._may_have_swept = True

    async def _list(self, now: float) -> None:
        if self._listing is None:
            part = self._operation.within(self._operation.deadline)
            # A reply that was held back on the connection of the first listing must not be taken
            # for the second.
            part.fresh = self._proof.would_close
            # A proof that is nearly there goes before one that has yet to begin.
            part.precedence = Precedence.NEEDED if part.fresh else Precedence.AGAIN
            self._listing = self._loop.create_task(self._list_once(part))
            self._listing_began = now
        if await self._ends(self._listing, now):
            self._take_listing(self._listing)
        else:
            self._proof.unreadable(now, self._loop.time())

    def _take_listing(self, task: asyncio.Task[list[OpenOrder]]) -> None:
        self._listing = None
        began, now = self._listing_began, self._loop.time()
        try:
            orders = task.result()
        except MassCancelError as error:
            self._proof.unreadable(began, now)
            self._note(error)
        else:
            self._proof.listed(began, now, orders)
            if self._ask_again:  # an order was open still: once a listing, it is asked about
                self._asked_about, self._ask_again = (), False

    def _explain_beside(self, now: float) -> None:
        """Find out, beside all else, how orders ended that are listed no more."""
        gone = self._proof.unexplained
        if gone and gone != self._asked_about:
            self._asked_about = gone
            self._explaining = self._loop.create_task(self._explain(gone, now))

    async def _explain(self, gone: Sequence[Order], now: float) -> None:
        """Ask how they ended; it is no matter if that fails."""
        limit = min(self._policy.explain, (self._operation.deadline - now) / 3)
        try:
            states = await self._find_states(gone, self._operation.within(now + limit))
        except MassCancelError as error:
            self._note(error)
        except Exception:  # it is not what matters here: the proof goes on
            log.exception("how orders ended could not be found out")
        else:
            for order_id, state in states.items():
                self._proof.explained(order_id, state, self._loop.time())
                self._ask_again |= state == "open"
        finally:
            self._explaining = None
            self._news.set()

    def _note(self, error: MassCancelError) -> None:
        """Keep the last error; one of what could not even be sent hides none that says more."""
        if error.attempts or self._last_error is None:
            self._last_error = error
        log.debug("%s", error)

    async def _wait(self, until: float) -> None:
        timer = self._loop.call_at(until, self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    async def _ends(self, task: asyncio.Task[Any], now: float) -> bool:
        """Whether a sweep or listing ends soon. If not, it goes on while others follow."""
        left = self._operation.deadline - now
        soon = None if self._proof.is_closing(now) else max(left / 3, min(1.0, left / 2))
        await asyncio.wait((task,), timeout=soon)
        if not task.done():
            task.add_done_callback(self._set_news)
        return task.done()

    def _set_news(self, _: object) -> None:
        self._news.set()

    def _confirmation(self, elapsed: float) -> Confirmation:
        return Confirmation(
            acks=tuple(self._acks),
            sweeps=len(self._acks),
            cancelled=self._proof.ended("cancelled"),
            filled=self._proof.ended("filled"),
            settle=self._settle,
            streamed=self._proof.streamed,
            elapsed=elapsed,
            books=self._books[0],
            left_out=self._books[1],
        )

    def _not_proven(self) -> MassCancelError:
        proof = self._proof
        error: MassCancelError
        if not self._operation.attempts():
            error = DeadlineExceeded(TOO_LATE)
        elif not proof.listed_since_sweep:
            last = self._last_error
            why = f" ({last.message or type(last).__name__})" if last is not None else ""
            error = Unproven(f"the time was up, and the open orders could not be listed{why}")
        elif proof.residual:
            count = len(proof.residual)
            error = NotFlat(
                f"the time was up, and {count} order{'s are' if count > 1 else ' is'} still open",
                residual=proof.residual,
            )
        else:
            error = DeadlineExceeded("the time was up before the scope could be listed twice")
        error.__cause__ = self._last_error
        if self._last_error is not None:
            error.retry_after = self._last_error.retry_after
        self._operation.describe(error)
        return error


def _is_final(error: MassCancelError) -> bool:
    """Whether a first sweep that fails with this error ends the proof: going on would not help.

    Of what the venue refused at last, an attempt before may have been carried out.
    """
    if isinstance(error, VenueError) and error.may_have_executed:
        return False
    passes = error.worth_retrying and not isinstance(error, StampRefused)
    return not (passes or isinstance(error, DeadlineExceeded))
