"""Waiting that no cancellation cuts short."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["finish", "run_to_end"]

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T]) -> tuple[asyncio.Task[T], bool]:
    """Wait for a coroutine to its end, whatever is cancelled meanwhile.

    Returns:
        Its task, done, and whether the waiting task was asked to cancel in the meantime: whoever
        calls this must see to that.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    return task, cancelled


async def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine to its end; a cancellation meanwhile is raised only then."""
    task, cancelled = await finish(work)
    value = task.result()
    if cancelled:
        raise asyncio.CancelledError
    return value
