"""Lines on standard output that hold nobody up, whether somebody reads them or not."""

import json
import os
import queue
import select
import threading
import time
from typing import Any, Final

__all__ = ["JsonLines", "Lines"]

_STDOUT: Final = 1
#: How long to wait in the end for who reads slowly. Seconds.
_PATIENCE: Final = 1.0


class Lines:
    """Writes lines from a thread: a full pipe blocks no cancel."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="lines", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Write a line, soon."""
        self._lines.put(line.encode(errors="backslashreplace") + b"\n")

    def close(self) -> None:
        """Wait for what is still to be written, but not for long."""
        self._lines.put(None)
        self._thread.join(_PATIENCE)

    def _write(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                while line:
                    try:
                        line = line[os.write(_STDOUT, line) :]
                    except BlockingIOError:  # whoever shares it does not want to wait
                        select.select((), (_STDOUT,), ())
        except OSError:
            pass  # nobody reads


class JsonLines:
    """Writes a JSON object on each line.

    Args:
        wanted: whether anything is to be written at all.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._lines = Lines() if wanted else None

    def say(self, event: str, **fields: Any) -> None:
        """Write an event, with the time at which it is said, in ms since the epoch."""
        if self._lines is not None:
            record = {"event": event, "time_ms": time.time_ns() // 1_000_000, **fields}
            # ASCII alone, so that nothing steers a terminal or turns a line around
            self._lines.write(json.dumps(record, default=str))

    def close(self) -> None:
        """Wait for what is still to be written, but not for long."""
        if self._lines is not None:
            self._lines.close()
