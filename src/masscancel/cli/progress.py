"""A line that moves while a command waits, on a terminal; nothing in a pipe."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from masscancel.cli.verbosity import is_verbose
from masscancel.events import AttemptEnded, AttemptSent, Event

__all__ = ["Progress"]

_PATIENCE: Final = 0.3  # seconds; what is over by then needs no line


class Progress:
    """The progress of a command: a listener of events, and a line on a terminal.

    Args:
        words: what it does, such as ``cancelling``.
        deadline: when its time is up, by :func:`time.monotonic`.
    """

    def __init__(self, words: str, deadline: float) -> None:
        self._words = words
        self._deadline = deadline
        self._attempts: set[tuple[str, int]] = set()
        self._fate = "under way"

    def note(self, event: Event) -> None:
        """Count an attempt, and keep the last one's fate."""
        match event:
            case AttemptSent():
                self._attempts.add((event.call_id, event.attempt))
                self._fate = "under way"
            case AttemptEnded():
                self._attempts.add((event.call_id, event.attempt))
                self._fate = event.fate

    def __str__(self) -> str:
        left = max(self._deadline - time.monotonic(), 0.0)
        count = len(self._attempts)
        tried = f"attempt {count}, {self._fate}" if count else "connecting"
        return f"{self._words}: {tried}, {left:.0f} s left"

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it on standard error, where somebody watches, if it takes longer than a moment."""
        console = Console(stderr=True, highlight=False)
        if not sys.stderr.isatty() or console.is_dumb_terminal or is_verbose():
            yield
            return
        spinner = Spinner("dots")

        def line() -> Spinner:
            spinner.update(text=Text(str(self), "dim"))
            return spinner

        live = Live(
            console=console,
            get_renderable=line,
            refresh_per_second=10,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        start = asyncio.get_running_loop().call_later(_PATIENCE, live.start)
        try:
            yield
        finally:
            start.cancel()
            live.stop()
