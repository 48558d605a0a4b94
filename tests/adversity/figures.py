"""What the scripts of this directory share: what a time limit is measured against, and progress."""

from __future__ import annotations

import asyncio
import sys
from typing import Self


async def bare(due: float) -> float:
    """By how much a bare `asyncio.timeout_at` of that time (loop's) is late, in ms."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(due):
            await loop.create_future()
    except TimeoutError:
        pass
    return (loop.time() - due) * 1000


class Ticker:
    """How long the loop was held up at worst, in ms, while this was entered.

    Args:
        interval: how often it looks, in seconds.
    """

    def __init__(self, interval: float = 0.001) -> None:
        self._interval = interval

    async def __aenter__(self) -> Self:
        self.worst = 0.0
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(self._interval)
            self.worst = max(self.worst, (loop.time() - before - self._interval) * 1000)


def show_progress(text: str = "") -> None:
    """Say on one line of the terminal how far it has got; nothing clears it. A pipe is spared."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)  # noqa: T201  # a script's
