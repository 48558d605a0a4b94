"""What the tests of the journal share: journals, children, an attacker's hand."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import connect
from typing import Any, Final

import masscancel
from masscancel.events import GateShut
from masscancel.journal import Journal, Row, rows

#: Seconds, for what would never end.
PATIENCE: Final = 60.0


@contextmanager
def recording(path: Path, **options: Any) -> Iterator[Journal]:
    """Have what happens in the process written down, without waiting for more to come."""
    with Journal(path, linger=0, **options) as journal:
        unsubscribe = masscancel.subscribe(journal)
        yield journal
        unsubscribe()


def written(path: Path, count: int, **options: Any) -> Path:
    """A journal with so many rows of gates, behind the row that says who writes."""
    with Journal(path, linger=0, **options) as journal:
        for number in range(count):
            journal(GateShut(gate=f"gate {number}"))
            if number % 10 == 9:
                assert journal.flush(PATIENCE)
        assert journal.flush(PATIENCE)
    return path


def kinds(path: Path) -> list[str]:
    """The kinds of a journal's rows."""
    return [row.kind for row in rows(path)]


def gates(path: Path) -> list[str]:
    """The gates that a journal tells of."""
    return [row.event["gate"] for row in rows(path) if row.kind == "GateShut"]


def of_kind(path: Path, kind: str) -> list[Row]:
    """The rows of one kind."""
    return [row for row in rows(path) if row.kind == kind]


def tamper(path: Path, *statements: str) -> None:
    """Change the file as somebody does who may write it, and knows SQL."""
    with closing(connect(path, isolation_level=None)) as connection:
        for trigger in ("no_DELETE", "no_UPDATE"):
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            connection.execute(statement)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of who writes, as another process may."""
    with closing(connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def until_problem(journal: Journal) -> None:
    """Wait until the journal says that something is wrong."""
    for _ in range(int(PATIENCE / 0.01)):
        if journal.problem:
            return
        time.sleep(0.01)
    raise AssertionError("nothing is wrong")


def child(script: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    """Start a process that runs a script, with pipes."""
    return subprocess.Popen(  # noqa: S603  # our own script
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
