"""The parts of a stamp: one clock for each origin, and nonces for each key.

A venue's time is counted by this machine's monotonic clock from when it was last measured, so that
a step of the wall clock changes nothing. The wall clock serves until then.
"""

import threading
import time
from collections import deque
from typing import Final

import msgspec

from masscancel.calls import Stamp

__all__ = ["NONCES", "Clock", "ClockReading", "Nonces"]

#: How far a clock may be off before it has been measured: further than venues accept.
UNMEASURED_SKEW_MS: Final = 30_000
#: Added to half the round trip: venues' machines do not agree to the millisecond either.
CLOCK_MARGIN_MS: Final = 1_000


def monotonic_ms() -> float:
    """This machine's monotonic clock, in ms."""
    return time.monotonic() * 1000


class ClockReading(msgspec.Struct, frozen=True):
    """One reading of a venue's clock.

    Attributes:
        ahead_ms: how far it is ahead of this machine's wall clock.
        trip_ms: how long the question took; the other is uncertain by half of that.
    """

    ahead_ms: float
    trip_ms: float


class Clock:
    """One origin's clock: how far it is ahead of this machine's, as well as that is known."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=8)  # (round trip, offset), in ms
        self._offset_ms: float | None = None  # to the monotonic clock; None for the wall clock's
        self._skew_ms = UNMEASURED_SKEW_MS
        self._refused_ms: float | None = None  # an offset that the venue did not accept ...
        self._instead: tuple[float | None, int] = (
            None,
            UNMEASURED_SKEW_MS,
        )  # ... and what goes first
        #: When it was last measured, by ``time.monotonic``.
        self.measured_at = float("-inf")

    def add(self, sent_ms: float, received_ms: float, venue_ms: int) -> None:
        """Take a sample: the monotonic time before and after, the venue's time in between."""
        trip = max(0.0, received_ms - sent_ms)
        self._samples.append((trip, venue_ms - (sent_ms + received_ms) / 2))
        trip, offset = min(self._samples)
        self._offset_ms, self._skew_ms = offset, int(trip / 2) + CLOCK_MARGIN_MS
        refused = self._refused_ms
        if refused is not None and abs(offset - refused) < CLOCK_MARGIN_MS:
            # It says again what the venue has just refused: its date is next, or our own clock.
            self._offset_ms, self._skew_ms = self._instead
        self.measured_at = time.monotonic()

    def forget(self, date_ms: int | None = None) -> None:
        """Drop what was measured, since the venue disagrees.

        Until the clock has been measured again, its own date will do, which is to the second.
        """
        self._refused_ms = self._offset_ms if self._samples else None
        self._instead = None, UNMEASURED_SKEW_MS
        self._samples.clear()
        if date_ms is not None:
            self._instead = date_ms + 500 - monotonic_ms(), 2 * CLOCK_MARGIN_MS
            self._offset_ms, self._skew_ms = self._instead

    @property
    def is_measured(self) -> bool:
        """Whether it goes by a measurement, and not by the wall clock or a refusal's date."""
        return bool(self._samples)

    def now_ms(self) -> float:
        """The venue's time."""
        offset = self._offset_ms
        return time.time() * 1000 if offset is None else time.monotonic() * 1000 + offset

    def stamp(self, api_key: str = "", nonces_per_second: int = 0) -> Stamp:
        """The venue's time now, and a nonce for the key if it wants one."""
        now_ms = self.now_ms()
        nonce = NONCES.next(api_key, now_ms, nonces_per_second) if nonces_per_second else 0
        return Stamp(int(now_ms), self._skew_ms, nonce)


class Nonces:
    """Per key, numbers that only grow: ticks of the venue's time, or one more than the last.

    One table serves the whole process, so that pools and event loops may share a key.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._accepted: dict[str, int] = {}
        self._lock = threading.Lock()

    def next(self, api_key: str, now_ms: float, per_second: int) -> int:
        """A number greater than all before it for the key."""
        ticks = int(now_ms * 1_000_000) * per_second // 10**9
        with self._lock:
            nonce = max(self._last.get(api_key, 0) + 1, ticks)
            self._last[api_key] = nonce
        return nonce

    def accept(self, api_key: str, nonce: int) -> None:
        """Note that the venue has accepted this one, and none before it any more."""
        with self._lock:
            self._accepted[api_key] = max(self._accepted.get(api_key, 0), nonce)

    def superseded(self, api_key: str, nonce: int) -> bool:
        """Whether the venue has accepted a later one."""
        return self._accepted.get(api_key, 0) > nonce


NONCES: Final = Nonces()
