"""Leave to send: places for requests in flight, and turns of a key whose nonces have an order.

Both are asked for with a ticket, which is held at once or calls back when it is. Releasing a ticket
gives back what it holds, or leaves the queue.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from masscancel.calls import Precedence

__all__ = ["Limiter", "Ticket", "Turn", "turns_of"]


class Ticket:
    """A place that somebody holds, or waits for.

    Args:
        give_back: is called when a place that was held is released.
        ready: is called when the place has been handed over.
    """

    __slots__ = ("_give_back", "_ready", "held")

    def __init__(
        self, give_back: Callable[[], object], ready: Callable[[], object] | None = None
    ) -> None:
        self.held = False
        self._give_back: Callable[[], object] | None = give_back
        self._ready = ready

    @property
    def wanted(self) -> bool:
        """Whether the place is still held or waited for."""
        return self._give_back is not None

    def grant(self) -> None:
        """Hand the place over to who waits for it."""
        self.held = True
        if self._ready is not None:
            self._ready()

    def release(self) -> None:
        """Give the place back, or wait no longer. Idempotent."""
        give_back, self._give_back, self._ready = self._give_back, None, None
        if give_back is not None and self.held:
            give_back()


def _nobody() -> bool:
    return False


class Limiter:
    """So many places for requests in flight, taken in turn.

    Args:
        places: how many.
        start_next: is offered each free place before those who wait; whether it took the place. So
            a fan-out asks everybody once before it asks anybody twice.
    """

    __slots__ = ("_free", "_handing_over", "_returned", "_start_next", "_waiting")

    def __init__(self, places: int, start_next: Callable[[], bool] = _nobody) -> None:
        self._free = places
        self._returned = 0  # places that are being handed over
        self._handing_over = False
        self._start_next = start_next
        self._waiting: deque[Ticket] = deque()

    def start_one(self) -> bool:
        """Offer a free place to who goes first; whether it was taken."""
        if not self._free:
            return False
        self._free -= 1  # first: who takes it may want another at once
        if self._start_next():
            return True
        self._free += 1
        return False

    def held(self) -> Ticket:
        """A ticket for the place that is being offered to ``start_next``."""
        ticket = Ticket(self._give_back)
        ticket.held = True
        return ticket

    def acquire(self, ready: Callable[[], object]) -> Ticket:
        """Take a place, now if one is free; otherwise ``ready`` is called when it is held."""
        if self._free:
            self._free -= 1
            return self.held()
        ticket = Ticket(self._give_back, ready)
        self._waiting.append(ticket)
        return ticket

    def _give_back(self) -> None:
        """Take a place back, or hand it over to who is next.

        Who gets it may give it back at once, since a limit or a ban leaves it nothing to send, and
        so may the next one: one after another, not one within another.
        """
        self._returned += 1
        if self._handing_over:
            return
        self._handing_over = True
        try:
            while self._returned:
                self._returned -= 1
                self._hand_over()
        finally:
            self._handing_over = False

    def _hand_over(self) -> None:
        """Let somebody have a place, or keep it free."""
        if self._start_next():
            return
        while self._waiting:
            ticket = self._waiting.popleft()
            if ticket.wanted:
                ticket.grant()
                return
        self._free += 1


#: How long the next nonce waits for the answer to the one before it, in seconds.
PATIENCE: Final = 0.5


class Turn(Ticket):
    """The turn to write the next nonce of a key.

    Args:
        patience: how long the next nonce waits for the answer to this one, in seconds.
        give_back: as for any ticket.
        ready: as for any ticket.
    """

    __slots__ = ("_patience", "_timer")

    def __init__(
        self,
        patience: float,
        give_back: Callable[[], object],
        ready: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(give_back, ready)
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None

    def written(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the next nonce wait for this one's answer, but not for ever."""
        self._timer = loop.call_later(self._patience, super().release)

    def release(self) -> None:
        """Let the next one write. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        super().release()


class Turns:
    """Lets the nonces of one key arrive in order: one at a time, cancels first.

    Nobody waits for what comes later in precedence: the nonce of a cancel is greater than those of
    the listings that left before it, so at worst one of them is refused and asks again.
    """

    __slots__ = ("_again", "_busy", "_handing_over", "_patience", "_waiting")

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._again = self._handing_over = False
        self._busy: set[Precedence] = set()
        self._waiting: dict[Precedence, deque[Turn]] = {each: deque() for each in Precedence}

    def acquire(self, ready: Callable[[], object], precedence: Precedence) -> Turn:
        """Take the turn, now if it is free; otherwise ``ready`` is called when it is held."""

        def give_back() -> None:
            self._busy.discard(precedence)
            self._hand_over()

        if self._is_free(precedence):
            turn = Turn(self._patience, give_back)
            turn.held = True
            self._busy.add(precedence)
        else:
            turn = Turn(self._patience, give_back, ready)
            self._waiting[precedence].append(turn)
        return turn

    def _is_free(self, precedence: Precedence) -> bool:
        return all(busy > precedence for busy in self._busy)

    def _hand_over(self) -> None:
        """Grant the turn; who gets it may give it back at once, as a :class:`Limiter`'s place."""
        self._again = True
        if self._handing_over:
            return
        self._handing_over = True
        try:
            while self._again:
                self._again = False
                self._grant()
        finally:
            self._handing_over = False

    def _grant(self) -> None:
        """Grant the turn to the next in precedence."""
        for precedence, queue in self._waiting.items():
            while queue and self._is_free(precedence):
                turn = queue.popleft()
                if turn.wanted:
                    self._busy.add(precedence)
                    turn.grant()


_TURNS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Turns]]] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop, api_key: str, patience: float = PATIENCE) -> Turns:
    """The turns of a key: all pools of a loop share them, as they share the key's nonces.

    Args:
        loop: which one.
        api_key: whose they are.
        patience: how long a nonce waits for the answer to the one before it, in seconds; counts for
            the first who asks.
    """
    turns = _TURNS.setdefault(loop, {})
    if api_key not in turns:
        turns[api_key] = Turns(patience)
    return turns[api_key]
