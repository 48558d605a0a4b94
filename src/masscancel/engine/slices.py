"""Large listings, decoded slice by slice: one in a turn of the loop, however many there are."""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final
from weakref import WeakKeyDictionary

from masscancel.errors import ProtocolError

__all__ = ["Decoding", "decode_in_turn"]


class Decoding:
    """The decoding of one listing.

    Args:
        slices: decodes a slice at each step, and returns the value.
        on_end: is called with the value, or with what was raised instead; not after
            :meth:`abandon`.
    """

    __slots__ = ("_on_end", "_slices")

    def __init__(self, slices: Generator[None, None, Any], on_end: Callable[[Any], object]) -> None:
        self._slices = slices
        self._on_end: Callable[[Any], object] | None = on_end

    def step(self) -> bool:
        """Decode a slice; whether there are more."""
        if self._on_end is None:
            return False
        try:
            next(self._slices)
        except StopIteration as stop:
            self._on_end(stop.value)
        except Exception as problem:  # noqa: BLE001  # handed to who waits
            self._on_end(problem)
        except BaseException:
            self._on_end(ProtocolError("the listing was not read to its end"))
            raise
        else:
            return True
        return False

    def abandon(self) -> None:
        """Decode no further: nobody waits for it."""
        self._on_end = None
        self._slices.close()


class _Turns:
    """Those that are being decoded in one event loop, in turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way: deque[Decoding] = deque()
        self._scheduled = False

    def add(self, decoding: Decoding) -> None:
        """Begin at the next turn of the loop, or when it is this one's turn."""
        self._under_way.append(decoding)
        self._schedule()

    def _schedule(self) -> None:
        if self._under_way and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._scheduled = False
        decoding = self._under_way.popleft()
        try:
            if decoding.step():
                self._under_way.append(decoding)
        finally:  # a signal's handler may raise here; the others go on
            self._schedule()


_TURNS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns]] = WeakKeyDictionary()


def decode_in_turn(loop: asyncio.AbstractEventLoop, decoding: Decoding) -> None:
    """Decode a listing beside others, none of which the event loop stands still for."""
    if loop not in _TURNS:
        _TURNS[loop] = _Turns(loop)
    _TURNS[loop].add(decoding)
