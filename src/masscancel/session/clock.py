"""What a stamp is made of: one clock for each origin, and nonces for each key, in order."""

import asyncio
import threading
import time
from collections import defaultdict, deque
from typing import Final
from weakref import WeakKeyDictionary

from masscancel.venue import Stamp

__all__ = ["NONCES", "TURNS", "Clock", "Nonces", "Turn", "Turns"]

#: How far a clock may be off before it has been measured: further than venues accept.
UNMEASURED_SKEW_MS: Final = 30_000
#: Added to half the round trip: venues' machines do not agree to the millisecond either.
CLOCK_MARGIN_MS: Final = 1_000


class Clock:
    """One origin's clock: how far it is ahead of this machine's, as well as it is known."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=8)  # (round trip, offset), in ms
        self._offset_ms = 0.0
        self._skew_ms = UNMEASURED_SKEW_MS
        self._refused_ms: float | None = None  # an offset that the venue did not accept ...
        self._instead = 0.0, UNMEASURED_SKEW_MS  # ... and what goes before it
        #: When it was last measured, by ``time.monotonic``.
        self.measured_at = float("-inf")

    def add(self, sent_ms: float, received_ms: float, venue_ms: int) -> None:
        """Take a sample: the local time before and after, the venue's time in between."""
        trip = max(0.0, received_ms - sent_ms)
        self._samples.append((trip, venue_ms - (sent_ms + received_ms) / 2))
        trip, self._offset_ms = min(self._samples)
        self._skew_ms = int(trip / 2) + CLOCK_MARGIN_MS
        refused = self._refused_ms
        if refused is not None and abs(self._offset_ms - refused) < CLOCK_MARGIN_MS:
            # It says again what the venue has just refused: its date is next, or our own clock.
            self._offset_ms, self._skew_ms = self._instead
        self.measured_at = time.monotonic()

    def forget(self, date_ms: int | None = None) -> None:
        """The venue disagrees: what was measured does not hold any more.

        Until the clock has been measured again, its own date will do, which is to the second.
        """
        self._refused_ms = self._offset_ms if self._samples else None
        self._instead = 0.0, UNMEASURED_SKEW_MS
        self._samples.clear()
        if date_ms is not None:
            self._instead = date_ms + 500 - time.time() * 1000, 2 * CLOCK_MARGIN_MS
            self._offset_ms, self._skew_ms = self._instead

    def stamp(self, nonce: int = 0) -> Stamp:
        """The venue's time now."""
        return Stamp(int(time.time() * 1000 + self._offset_ms), self._skew_ms, nonce)


class Nonces:
    """Per key, numbers that only grow: ticks since the epoch, or one more than the last.

    One table serves the whole process, so that pools and event loops may share a key.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._accepted: dict[str, int] = {}
        self._lock = threading.Lock()

    def next(self, api_key: str, per_second: int) -> int:
        """A number greater than all before it for the key."""
        with self._lock:
            nonce = max(self._last.get(api_key, 0) + 1, time.time_ns() * per_second // 10**9)
            self._last[api_key] = nonce
        return nonce

    def accept(self, api_key: str, nonce: int) -> None:
        """The venue has accepted this one, and none before it any more."""
        with self._lock:
            self._accepted[api_key] = max(self._accepted.get(api_key, 0), nonce)

    def superseded(self, api_key: str, nonce: int) -> bool:
        """Whether the venue has accepted a later one."""
        return self._accepted.get(api_key, 0) > nonce


NONCES: Final = Nonces()


class Turn:
    """Leave to write the next nonce of a key: until it is left, or the patience is over."""

    def __init__(self, lock: asyncio.Lock, patience: float) -> None:
        self._lock: asyncio.Lock | None = lock
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None

    def written(self) -> None:
        """The nonce is on its way: the next one waits for its answer, but not for ever."""
        self._timer = asyncio.get_running_loop().call_later(self._patience, self.leave)

    def leave(self, _: object = None) -> None:
        """Let the next one write. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class Turns:
    """Lets the nonces of one key arrive in order: one at a time, cancels first.

    The next attempt leaves when the one before it is answered, or has not been for ``patience``
    seconds. A cancel waits for other cancels only: its nonce is greater than those of the listings
    that left before it, so at worst one of them is refused and asks again.
    """

    def __init__(self, patience: float = 0.5) -> None:
        self._patience = patience
        self._cancels = asyncio.Lock()
        self._others = asyncio.Lock()

    async def take(self, *, urgent: bool) -> Turn:
        """Wait for the turn; what is stamped before it is left goes out in order."""
        lock = self._cancels if urgent else self._others
        await lock.acquire()
        turn = Turn(lock, self._patience)
        if not urgent:
            try:
                async with self._cancels:
                    pass
            except BaseException:
                turn.leave()
                raise
        return turn


#: By event loop and key: all pools of a loop share a key's turns, as they share its nonces.
TURNS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, defaultdict[str, Turns]]] = (
    WeakKeyDictionary()
)
