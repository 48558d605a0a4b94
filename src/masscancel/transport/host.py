"""The connections to one origin: those that are idle, those that are being made, who waits for one.

A connection that was made for cancels is kept for cancels; listings have connections of their own.
A dial is nobody's own: whoever has waited longest gets the connection that is there first, a cancel
before all others.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Protocol

from masscancel.errors import MassCancelError, NotSent
from masscancel.transport.connection import Connection

__all__ = ["Host", "Waiter"]

log = logging.getLogger("masscancel")

#: How long a connection may have been idle to be used again, in seconds: venues close theirs later.
KEEP_ALIVE: Final = 55.0

#: How many connections that are not for cancels are kept idle: as many as a fan-out uses at once.
MOST_IDLE: Final = 64

#: How many are kept for cancels where nobody has declared more: of a kill's connections, those
#: beyond list what is left, so that a proof needs few of its own.
MOST_RESERVED: Final = 16

#: After so long a dial is not counted on for who begins to wait only now, in seconds.
SLOW_DIAL: Final = 0.25
#: So many dials that are not slow go on at a time: a thousand would hold the event loop up.
_DIALS: Final = 64
#: So many begin in one turn of the loop: some milliseconds' work.
_DIALS_AT_ONCE: Final = 16

_NOT_OPEN: Final = "the session pool is not open"

MakeConnection = Callable[[], Connection]
Ready = Callable[[Connection | MassCancelError], object]


class Dial(Protocol):
    """Makes a connection, or raises NotSent."""

    def __call__(
        self, origin: str, make_connection: MakeConnection
    ) -> Coroutine[Any, Any, Connection]: ...


class Waiter:
    """Somebody who waits for a connection.

    Args:
        ready: is called with the connection, or with why there is none.
        fresh: whether it must be a new one, since others have just failed.
        on_end: is called once, when the waiter waits no longer.
    """

    __slots__ = ("_on_end", "_ready", "fresh")

    def __init__(self, ready: Ready, *, fresh: bool, on_end: Callable[[], object]) -> None:
        self._ready: Ready | None = ready
        self._on_end = on_end
        self.fresh = fresh

    @property
    def waiting(self) -> bool:
        """Whether the waiter has got nothing yet, and still wants a connection."""
        return self._ready is not None

    def cancel(self) -> None:
        """Wait no longer."""
        self._end()

    def give(self, result: Connection | MassCancelError) -> None:
        """Hand over what was waited for."""
        if (ready := self._end()) is not None:
            ready(result)

    def _end(self) -> Ready | None:
        ready, self._ready = self._ready, None
        if ready is not None:
            self._on_end()
        return ready


class Host:
    """The connections to one origin.

    Args:
        origin: which one.
        dial: what makes a connection.
        may_open: whether the process may open another.
        loop: whose they are.
        reserved: how many connections are kept for cancels at least; those beyond serve anybody.
    """

    def __init__(
        self,
        origin: str,
        dial: Dial,
        may_open: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
        reserved: int = MOST_RESERVED,
    ) -> None:
        self.origin = origin
        self._dial = dial
        self._may_open = may_open
        self._loop = loop
        self._reserved = reserved
        self._idle: dict[bool, list[tuple[float, Connection]]] = {True: [], False: []}
        self._waiting: dict[bool, deque[Waiter]] = {True: deque(), False: deque()}
        self._wanted = 0  # of those, who still wait
        self._dials: dict[asyncio.Task[None], float] = {}  # when each began
        self._dialed_at = float("-inf")  # the latest
        self._dial_later: asyncio.TimerHandle | None = None
        self._exhausted = False
        self._closed = False
        #: All that are open.
        self.open: set[Connection] = set()
        #: Called when one that was idle has been closed.
        self.on_lost: Callable[[], object] = _ignore
        #: Set while nobody waits for a connection.
        self.calm = asyncio.Event()
        self.calm.set()

    def take(self, *, cancels: bool) -> Connection | None:
        """An idle connection that may be used, if there is one."""
        stack = self._idle[cancels]
        for at in range(len(stack) - 1, -1, -1):
            # One on which something has arrived is left alone: TLS has things to say for itself,
            # and anything else ends it.
            if stack[at][1].usable():
                return stack.pop(at)[1]
        return self.take(cancels=False) if cancels and self._idle[False] else None

    def take_oldest(self) -> Connection | None:
        """The connection for cancels that has been idle for longest, if there is one."""
        stack = self._idle[True]
        at = next((at for at, (_, each) in enumerate(stack) if each.usable()), None)
        return None if at is None else stack.pop(at)[1]

    def give_back(self, connection: Any, *, cancels: bool) -> None:
        """Take a connection back on which nothing was sent."""
        self._offer(cancels, connection)

    @property
    def size(self) -> int:
        """The number of connections that are open, or about to be."""
        return len(self.open) + len(self._dials)

    def idle_for_cancels(self) -> int:
        """The number of connections that are idle, and kept for cancels."""
        return len(self._idle[True])

    def wait(
        self,
        ready: Ready,
        *,
        cancels: bool,
        fresh: bool = False,
    ) -> Waiter:
        """Call ``ready`` with a connection as soon as there is one, or with why there is none."""
        waiter = Waiter(ready, fresh=fresh, on_end=self._one_less)
        self._wanted += 1
        self.calm.clear()
        if self._closed:
            waiter.give(NotSent(_NOT_OPEN))
            return waiter
        self._waiting[cancels].append(waiter)
        # Those under way may be of before, when nothing could be reached, and hang on.
        slow = self._loop.time() - self._dialed_at > SLOW_DIAL
        self._dial_more(cancels=cancels, at_least=len(self._dials) + 1 if slow else 0)
        return waiter

    def _dial_more(self, *, cancels: bool, at_least: int = 0) -> None:
        """Make a connection for everybody who waits, as far as the process may open them."""
        wanted, now = max(self._wanted, at_least), self._loop.time()
        if len(self._dials) >= wanted:
            return
        quick = 0
        for began in reversed(self._dials.values()):  # the latest first
            if quick == _DIALS or now - began >= SLOW_DIAL:
                break
            quick += 1
        most = len(self._dials) + _DIALS_AT_ONCE
        while len(self._dials) < wanted and not self._closed:
            if self.size and (self._exhausted or not self._may_open()):
                self._exhausted = True  # whoever waits gets what is idle, or becomes so
                self._loop.call_soon(self._hand_out_idle)
                return
            if len(self._dials) >= most or quick >= _DIALS:
                if self._dial_later is None:
                    wait = SLOW_DIAL if quick >= _DIALS else 0.0
                    self._dial_later = self._loop.call_later(wait, self._dial_for_all)
                return
            task = self._loop.create_task(self._connect(cancels=cancels))
            self._dialed_at = self._dials[task] = now
            quick += 1
            task.add_done_callback(self._dialed)

    def _dial_for_all(self) -> None:
        """Go on dialling for those who wait."""
        if self._dial_later is not None:
            self._dial_later.cancel()
            self._dial_later = None
        for cancels in (True, False):
            if self._waiting[cancels]:
                self._dial_more(cancels=cancels)

    def _one_less(self) -> None:
        """One who waited has got a connection, or wants none any more."""
        self._wanted -= 1
        if not self._wanted:
            self.calm.set()
            for queue in self._waiting.values():
                queue.clear()

    async def _connect(self, *, cancels: bool) -> None:
        try:
            connection = await self.dial(cancels=cancels)
        except MassCancelError as error:
            self._failed(error)
        else:
            self._exhausted = False
            self._offer(cancels, connection, fresh=True)

    async def dial(self, *, cancels: bool) -> Connection:
        """Make a connection, which goes back to this host whenever it is idle.

        Raises:
            NotSent: there is none to be had.
        """
        offer = partial(self._offer, cancels)
        make = partial(Connection, self.origin, on_idle=offer, on_closed=self._forget)
        connection = await self._dial(self.origin, make)
        self.open.add(connection)
        return connection

    def _dialed(self, task: asyncio.Task[None]) -> None:
        self._dials.pop(task, None)
        if self._dial_later is not None and self._dial_later.when() > self._loop.time():
            self._dial_for_all()
        if not task.cancelled() and (crash := task.exception()) is not None:
            log.error("a connection could not be made", exc_info=crash)
            self._failed(NotSent(f"{self.origin} could not be reached: {type(crash).__name__}"))

    def _failed(self, error: MassCancelError) -> None:
        """A dial has failed: tell who has waited longest, unless others can serve them all."""
        if isinstance(error, NotSent) and error.exhausted and (self.open or len(self._dials) > 1):
            self._exhausted = True  # likewise
            self._hand_out_idle()
            return
        if (waiter := self._next_waiter(fresh=True)) is not None:
            waiter.give(error)
        self._dial_for_all()

    def _hand_out_idle(self) -> None:
        for cancels in (True, False):
            while self._wanted and (connection := self.take(cancels=cancels)) is not None:
                self._offer(cancels, connection)

    def _offer(self, cancels: bool, connection: Connection, *, fresh: bool = False) -> None:
        """Hand a connection to who has waited longest, or keep it."""
        waiter = None
        cancels = cancels and len(self._idle[True]) < self._reserved
        if self._wanted:
            anybody = not cancels or fresh or self._exhausted
            waiter = self._next_waiter(fresh=fresh, anybody=anybody)
        if waiter is not None:
            waiter.give(connection)
        elif self._closed:
            connection.abort()
        else:
            if not cancels and len(self._idle[False]) >= MOST_IDLE:
                self._idle[False].pop(0)[1].abort()
            self._idle[cancels].append((self._loop.time(), connection))

    def _next_waiter(self, *, fresh: bool, anybody: bool = True) -> Waiter | None:
        """Choose the next waiter: a cancel first; a connection for cancels serves no other."""
        for kind in (True, False) if anybody else (True,):
            queue = self._waiting[kind]
            while queue and not queue[0].waiting:
                queue.popleft()
            for at, waiter in enumerate(queue):
                if waiter.waiting and (fresh or not waiter.fresh or self._exhausted):
                    del queue[at]
                    return waiter
        return None

    def _forget(self, connection: Connection) -> None:
        """A connection has been closed; its descriptor is free."""
        self.open.discard(connection)
        self._exhausted = False
        for stack in self._idle.values():
            for entry in stack:
                if entry[1] is connection:
                    stack.remove(entry)
                    self.on_lost()
                    break
        self._dial_for_all()

    def close_old(self) -> None:
        """Close what has been idle for so long that the venue may be about to."""
        before = self._loop.time() - KEEP_ALIVE
        for stack in self._idle.values():
            while stack and stack[0][0] < before:
                stack.pop(0)[1].abort()

    async def close(self) -> None:
        """End every connection, and the dials under way; whoever waits for them is told."""
        self._closed = True
        self.on_lost = _ignore
        if self._dial_later is not None:
            self._dial_later.cancel()
        for task in self._dials:
            task.cancel()
        if self._dials:
            await asyncio.wait([*self._dials])
        for connection in [*self.open]:
            connection.lose("the session pool was closed")
        for queue in self._waiting.values():
            for waiter in [*queue]:
                waiter.give(NotSent(_NOT_OPEN))


def _ignore() -> None:
    """Nobody asks."""
