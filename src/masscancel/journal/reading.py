"""Reading a journal: its rows, those of one kill or account, and whether the chain holds."""

import sqlite3
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from masscancel.errors import ConfigurationError
from masscancel.journal.chain import Checker, Head, Row, Verdict
from masscancel.journal.store import read

__all__ = ["Selection", "rows", "verify"]

_LEAST: Final = -(2**63)  # who tampers may use any number
#: Of so many calls, what was last begun, the account and the kill are known.
_CALLS: Final = 100_000


def rows(path: str | Path, after: int = 0) -> Iterator[Row]:
    """Read a journal's rows in order, up to the last that there is now.

    Args:
        path: its file.
        after: the number after which to begin.

    Raises:
        ConfigurationError: there is no such file, or it is no journal.
    """
    path = _existing(path)
    try:
        for stored in read(path, after):
            if stored[1]:  # else it stands for those before
                yield Row.of(stored)
    except sqlite3.Error as error:
        problem = f"{path} can't be read as a journal: {error}"
    else:
        return
    raise ConfigurationError(problem)


def verify(path: str | Path, head: Head | None = None) -> Verdict:
    """Check that every row follows from the one before.

    Args:
        path: the journal's file.
        head: what :meth:`Journal.head` was at some time, as kept elsewhere. Without it, rows that
            were cut off the end, and a chain that was made anew, can't be found.

    Returns:
        What was found; never raises for what somebody has done to the file.

    Raises:
        ConfigurationError: there is no such file.
    """
    path = _existing(path)
    checker = Checker(head)
    try:
        for stored in read(path, _LEAST):
            checker.feed(stored)
    except sqlite3.Error as error:
        checker.broken(f"rows can't be read: {error}")
    return checker.verdict()


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(f"there is no journal at {path}")
    return path


class Selection:
    """Chooses rows, in their order: a call's rows go with its account, and with its kill.

    Args:
        account: the label of the account, or a pattern such as ``"mm-*"``; ``None`` for all.
        kind: the kind of event, such as ``"CallEnded"``, ``None`` for all.
        kill: the kill's id, or the first digits of it; ``None`` for all.
        since_ms: not before, ms since the epoch.
        until_ms: not after, ms since the epoch.
    """

    def __init__(
        self,
        *,
        account: str | None = None,
        kind: str | None = None,
        kill: str | None = None,
        since_ms: float = float("-inf"),
        until_ms: float = float("inf"),
    ) -> None:
        self._account = account
        self._kind = None if kind is None else kind.lower()
        self._kill = kill
        self._times = since_ms, until_ms
        self._calls: dict[str, tuple[str, str]] = {}  # account and kill of those under way

    def takes(self, row: Row) -> bool:
        """Whether a row is chosen; each is to be shown to this, in order."""
        event = row.event
        call = str(event.get("call_id"))
        account, kill = str(event.get("account")), str(event.get("kill_id"))
        if row.kind == "CallStarted":
            self._calls[call] = account, kill
            if len(self._calls) > _CALLS:
                del self._calls[next(iter(self._calls))]
        elif "call_id" in event:
            account, kill = self._calls.get(call, (account, kill))
        return (
            (self._account is None or fnmatchcase(account, self._account))
            and self._kind in (None, row.kind.lower())
            and (self._kill is None or kill.startswith(self._kill))
            and (row.time_ms is None or self._times[0] <= row.time_ms <= self._times[1])
        )
