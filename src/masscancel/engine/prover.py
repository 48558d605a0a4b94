"""The prover: sweeps and lists a scope, as ``confirm`` says, until it is flat."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

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
        sweep: Callable[[Operation], Awaitable[Ack]],
        list_orders: Callable[[Operation], Awaitable[list[OpenOrder]]],
        find_states: Callable[[Sequence[Order], Operation], Awaitable[Mapping[str, OrderState]]],
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
            raise self._not_proven()
        finally:
            if unlisten is not None:
                unlisten()
            if self._explaining is not None:
                self._explaining.cancel()
                await asyncio.wait((self._explaining,))

    def _tell_news(self) -> None:
        """Something has happened; perhaps in another thread, whose gate this is."""
        self._loop.call_soon_threadsafe(self._news.set)

    def _take_news(self, now: float) -> None:
        """Tell the proof what has happened since the last step."""
        self._news.clear()
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
        self._proof.sweeping(now)
        try:
            self._acks.append(await self._sweep_once(self._part(now)))
        except MassCancelError as error:
            if not self._may_have_swept and _is_final(error):
                self._operation.describe(error)
                raise
            self._proof.sweep_failed(self._loop.time(), error.retry_after or 0.0)
            self._note(error)
            self._may_have_swept |= error.may_have_executed
        else:
            self._proof.swept(self._loop.time())
            self._may_have_swept = True

    async def _list(self, now: float) -> None:
        closing = self._proof.is_closing(now)
        part = self._operation.within(self._operation.deadline) if closing else self._part(now)
        # A reply that was held back on the connection of the first listing must not be taken for
        # the second.
        part.fresh = self._proof.would_close
        try:
            orders = await self._list_once(part)
        except MassCancelError as error:
            self._proof.unreadable(now, self._loop.time())
            self._note(error)
        else:
            self._proof.listed(now, self._loop.time(), orders)
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
        self._last_error = error
        log.debug("%s", error)

    async def _wait(self, until: float) -> None:
        timer = self._loop.call_at(until, self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    def _part(self, now: float) -> Operation:
        """One sweep or listing: it may not take all of the time, so that others can follow."""
        left = self._operation.deadline - now
        return self._operation.within(now + max(left / 3, min(1.0, left / 2)))

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
            why = f" ({self._last_error.message})" if self._last_error is not None else ""
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
