"""The order gate: what a strategy passes through to send an order, so that a kill can shut it."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from masscancel.errors import ConfigurationError, DeadlineExceeded, Halted
from masscancel.events import PROCESS, GateOpened, GateShut
from masscancel.transport.forks import check_not_forked, forks

__all__ = ["OrderGate"]


#: So many attempts are kept before those that are resolved are dropped.
_FEW = 64


class Pending(Protocol):
    """An attempt to cancel, as far as the gate needs to know it."""

    @property
    def resolved(self) -> bool:
        """Whether the venue has answered, or the attempt never reached it."""

    @property
    def expires_at(self) -> float | None:
        """When the attempt expires at the venue (``time.monotonic``); ``None`` if unknown."""

    @property
    def expires_at_ms(self) -> int | None:
        """The same, in the venue's time, ms since the epoch."""


class OrderGate:
    """Shut by a kill before its cancel leaves; opened again by :meth:`reopen` and nothing else.

    Belongs to one event loop. A strategy sends each of its orders inside :meth:`order`::

        async with gate.order():
            await exchange.place(...)

    The block stands for the time in which an order may be on its way without being in any listing:
    leave it when the venue has acknowledged or refused the order. A block that raises counts as an
    order that may be live.

    Args:
        name: how events and logs call it.
        clock: the time in seconds, which only moves forward.
    """

    def __init__(self, name: str = "gate", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._made_at = forks()
        self._shut = False
        self._under_way = 0
        self._arrived = 0
        self._attempts: list[Pending] = []
        self._sweep_at = _FEW
        self._listeners: set[Callable[[], object]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __repr__(self) -> str:
        state = "shut" if self._shut else "open"
        return f"OrderGate({state}, {self._under_way} orders under way)"

    @property
    def is_shut(self) -> bool:
        """Whether no order may pass."""
        return self._shut

    @property
    def under_way(self) -> int:
        """The number of orders inside their blocks."""
        return self._under_way

    @property
    def arrived(self) -> int:
        """The number of blocks left since the gate was made, however they ended."""
        return self._arrived

    @asynccontextmanager
    async def order(self) -> AsyncIterator[None]:
        """Pass through with one order.

        Raises:
            Halted: the gate is shut; nothing of the block is run.
            ConfigurationError: the gate is another process's, which this one was forked from.
        """
        check_not_forked(self._made_at, self)
        if self._shut:
            raise Halted("the gate is shut: no order may be sent")
        self._under_way += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            self._arrived += 1
            if not self._under_way:
                self._empty.set()
            for listener in tuple(self._listeners):
                listener()

    def shut(self) -> None:
        """Let no further order pass, from this very moment. Idempotent; sends nothing."""
        if not self._shut:
            self._shut = True
            if PROCESS.active:
                PROCESS.publish(GateShut(gate=self._name))

    async def drained(self, timeout: float = 5.0) -> None:
        """Wait until every order that had passed has left its block.

        Args:
            timeout: seconds from now.

        Raises:
            DeadlineExceeded: some are still inside; the gate is as it was.
            ConfigurationError: the timeout is not a positive number.
        """
        if not timeout > 0:
            raise ConfigurationError(f"timeout must be positive, not {timeout!r}")
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            pass
        else:
            return
        raise DeadlineExceeded(f"{self._under_way} orders are still under way through the gate")

    def reopen(self) -> None:
        """Let orders pass again.

        Raises:
            Halted: an attempt to cancel may still be carried out, and would kill new orders:
                ``until`` says when the last of them expires, in the venue's time. Or orders of
                before are still under way. The gate stays shut.
        """
        if self._under_way:
            raise Halted(f"{self._under_way} orders are still under way through the gate")
        self._attempts = self._unresolved()
        if self._attempts:
            ends = [attempt.expires_at_ms for attempt in self._attempts]
            known = [end for end in ends if end is not None]
            raise Halted(
                f"{len(self._attempts)} attempts to cancel may still be carried out, and would "
                "cancel new orders",
                until=max(known) if len(known) == len(ends) else None,
            )
        if self._shut:
            self._shut = False
            if PROCESS.active:
                PROCESS.publish(GateOpened(gate=self._name))

    def unresolved_for(self) -> float:
        """The time for which an attempt to cancel may still be carried out, in seconds.

        Returns:
            0 if none may, infinity if that is not known.
        """
        now = self._clock()
        ends = [attempt.expires_at for attempt in self._unresolved()]
        return max((math.inf if end is None else end - now for end in ends), default=0.0)

    def _unresolved(self) -> list[Pending]:
        """The attempts that may still be carried out."""
        now = self._clock()
        return [
            attempt
            for attempt in self._attempts
            if not attempt.resolved and (attempt.expires_at is None or attempt.expires_at > now)
        ]

    # What a cancel does with it.

    def register(self, attempt: Pending) -> None:
        """Stay shut until an attempt to cancel, which leaves now, is resolved or expired."""
        if len(self._attempts) >= self._sweep_at:  # a gate may be shut for days
            self._attempts = self._unresolved()
            self._sweep_at = max(_FEW, 2 * len(self._attempts))
        self._attempts.append(attempt)

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call a listener whenever an order leaves its block.

        Returns:
            What ends that.
        """
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)
