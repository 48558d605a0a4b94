"""What a phase of the soak leaves: tasks, sockets, memory. Reads /proc, so it is for Linux."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import tracemalloc
from pathlib import Path
from typing import Final

#: The exchange remembers what it was asked, and so does this file.
NOT_OURS: Final = [
    tracemalloc.Filter(inclusive=False, filename_pattern=f"*{name}")
    for name in (
        "/masscancel/sim/*.py",
        "/aiohttp/web_*.py",
        "/soak.py",
        "/soak_*.py",
        "/tracemalloc.py",
    )
]


class Left:
    """What there is of tasks, sockets and memory, when nothing should be going on."""

    def __init__(self) -> None:
        gc.collect()
        self.tasks = {task for task in asyncio.all_tasks() if not task.done()}
        self.sockets = sum(is_socket(fd) for fd in Path("/proc/self/fd").iterdir())
        taken = tracemalloc.take_snapshot().filter_traces(NOT_OURS)
        self.objects = len(gc.get_objects())
        self.heap_kib = sum(trace.size for trace in taken.traces) // 1024
        self.c_heap_kib = c_heap() // 1024
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rss_kib = pages * os.sysconf("SC_PAGE_SIZE") // 1024


class MallocInfo(ctypes.Structure):
    """What glibc's `mallinfo2` fills in, as far as it matters here."""

    _fields_ = (
        ("_before", ctypes.c_size_t * 4),
        ("mapped", ctypes.c_size_t),
        ("_between", ctypes.c_size_t * 2),
        ("used", ctypes.c_size_t),
        ("_after", ctypes.c_size_t * 2),
    )


def c_heap() -> int:
    """How many bytes C has allocated, which tracemalloc does not see; 0 where glibc is older.

    Its own tables are among them, and those of the exchange. What is resident is more: it has what
    is free between these, too.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = MallocInfo
    info = mallinfo()
    return int(info.used + info.mapped)


def is_socket(descriptor: Path) -> bool:
    """Whether a descriptor of this process is a socket."""
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except OSError:  # that of the listing itself
        return False
