"""The files of a journal: rows are added to one SQLite database, and read from it and its segments.

When the database has enough rows, they are copied into a file of their own beside it, a segment,
and the database goes on from the last of them. Who writes holds SQLite's own lock meanwhile
(``BEGIN IMMEDIATE``), so that several processes write one chain, and a process that is killed
leaves a chain that is whole.
"""

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from masscancel.events import Event
from masscancel.journal.chain import ANCHOR, START, Head, StoredRow, link

__all__ = [
    "SegmentEnded",
    "SegmentRetired",
    "Store",
    "fork_is_wanted",
    "opened",
    "read",
    "was_forked_open",
]

_VERSION: Final = 1
_TABLE: Final = (
    "CREATE TABLE journal (number INTEGER PRIMARY KEY, text TEXT NOT NULL, hash TEXT NOT NULL)"
)
_TRIGGER: Final = (
    "CREATE TRIGGER no_{0} BEFORE {0} ON journal "
    "BEGIN SELECT RAISE(ABORT, 'a journal is only added to'); END"
)
#: So many rows in a statement: SQLite before 3.32 takes 999 values in one.
_AT_ONCE: Final = 300
#: So many rows are read at once; nobody who writes waits for who reads.
_PAGE: Final = 1000
#: How long to wait for another process that writes, in seconds; then it is tried again.
_BUSY: Final = 1.0
#: How long a fork waits for a write to end, at most, in seconds.
_FORK_WAITS: Final = 0.05


class SegmentEnded(Event, frozen=True, kw_only=True):
    """The rows up to here have been moved into a file of their own.

    Attributes:
        first: the first of them.
        last: the last of them.
        hash: the last one's hash.
        file: the name of their file, beside the journal's.
    """

    first: int
    last: int
    hash: str
    file: str


class SegmentRetired(Event, frozen=True, kw_only=True):
    """The oldest segment is removed: there were more than are to be kept.

    Attributes:
        first: its first row.
        last: its last row.
        hash: the last one's hash.
        file: the name of its file.
    """

    first: int
    last: int
    hash: str
    file: str


class Segment(msgspec.Struct, frozen=True, order=True):
    """A file with the rows of before, and which these are, as its name says."""

    first: int
    last: int
    path: Path

    def fields(self, head: Head) -> dict[str, Any]:
        """The segment, and the last hash of its rows, as fields of an event."""
        return {
            "first": self.first,
            "last": self.last,
            "hash": head.hash,
            "file": self.path.name,
        }


# SQLite must not be carried into a forked child, whose locks would be the parent's in name only: a
# fork waits a moment for who writes or reads, and who wants to write or read for the fork.

_open: Final[set[object]] = set()
_forking = _forked_open = False


def fork_is_wanted() -> bool:
    """Whether a fork waits for the database to be closed."""
    return _forking


def was_forked_open() -> bool:
    """Whether this process was forked in the middle of a write, so that SQLite can't be used."""
    return _forked_open


def _before_fork() -> None:
    global _forking  # noqa: PLW0603  # one for the process
    _forking = True
    until = time.monotonic() + _FORK_WAITS
    while _open and time.monotonic() < until:
        time.sleep(0.001)


def _after_fork_in_parent() -> None:
    global _forking  # noqa: PLW0603  # likewise
    _forking = False


def _after_fork_in_child() -> None:
    global _forking, _forked_open  # likewise
    _forking, _forked_open = False, _forked_open or bool(_open)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


@contextmanager
def _in_use() -> Iterator[None]:
    """Use SQLite, but not while the process is forked."""
    while _forking:
        time.sleep(0.001)
    _open.add(mark := object())
    try:
        yield
    finally:
        _open.discard(mark)


@contextmanager
def opened(path: Path) -> Iterator["Store"]:
    """Open a journal to write, and make it if there is none; only its owner may read it.

    Raises:
        OSError: it can't be made.
        sqlite3.Error: it can't be opened.
    """
    with _in_use():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):  # to open one that exists would end SQLite's own locks
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(path, timeout=_BUSY, isolation_level=None)) as connection:
            yield Store(path, connection)


class Store:
    """An open database, to which rows are added.

    Args:
        path: its file.
        connection: to it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        connection.text_factory = bytes
        if self._value("PRAGMA journal_mode") != b"wal":
            self._value("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if self._value("PRAGMA user_version") == 0:
            with self._writing():
                if self._value("PRAGMA user_version") == 0:  # no other process has been faster
                    connection.execute(_TABLE)
                    connection.execute(_TRIGGER.format("DELETE"))
                    connection.execute(_TRIGGER.format("UPDATE"))
                    connection.execute(f"PRAGMA user_version = {_VERSION}")
        if (version := self._value("PRAGMA user_version")) != _VERSION:
            raise sqlite3.DatabaseError(f"it is of version {version}, not {_VERSION}")

    def append(self, texts: Sequence[bytes]) -> Head:
        """Add rows to the chain, all or none; the head with them."""
        with self._writing():
            return self._append(texts)

    def roll(self, most: int, keep: int, text_of: Callable[[Event], bytes]) -> None:
        """Move the rows into a segment if there are so many, and remove the oldest segments.

        Args:
            most: how many rows the database has, at most.
            keep: how many segments are kept.
            text_of: makes the text of a row that says so.
        """
        if self._size() < most:
            return
        with self._writing():
            if self._size() < most:  # another process has been faster
                return
            head = self._head()
            first = head.count - self._size() + 1
            segment = Segment(first, head.count, _segment_path(self._path, first, head.count))
            _copy(self._path, segment.path)
            self._connection.execute("DROP TRIGGER no_DELETE")
            self._connection.execute("DELETE FROM journal")
            self._connection.execute(_TRIGGER.format("DELETE"))
            self._insert([(head.count, ANCHOR, head.hash)])
            segments = segments_of(self._path)
            too_old = segments[: max(len(segments) - keep, 0)]
            self._append(
                [
                    text_of(SegmentEnded(**segment.fields(head))),
                    *(text_of(SegmentRetired(**old.fields(_last(old.path)))) for old in too_old),
                ]
            )
        for old in too_old:
            old.path.unlink(missing_ok=True)

    def _append(self, texts: Sequence[bytes]) -> Head:
        head = self._head()
        rows = []
        for text in texts:
            head = link(head, text)
            rows.append((head.count, text, head.hash))
        self._insert(rows)
        return head

    def _insert(self, rows: Sequence[tuple[int, bytes, str]]) -> None:
        """Write rows, many in a statement: between two, another thread may have the interpreter."""
        for at in range(0, len(rows), _AT_ONCE):
            some = rows[at : at + _AT_ONCE]
            places = ",".join(["(?,CAST(? AS TEXT),?)"] * len(some))
            values = [value for row in some for value in row]
            self._connection.execute(f"INSERT INTO journal VALUES {places}", values)  # noqa: S608

    def _head(self) -> Head:
        return _last_row(self._connection)

    def _size(self) -> int:
        """How many rows there are, without what stands for those of before."""
        least = self._value("SELECT min(number) FROM journal WHERE text != ''")
        return 0 if least is None else self._head().count - int(least) + 1

    def _value(self, question: str) -> Any:
        (value,) = self._connection.execute(question).fetchone()
        return value

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock of who writes; what is written counts whole, or not at all."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def segments_of(path: Path) -> list[Segment]:
    """The segments of a journal, the oldest first."""
    pattern = re.compile(rf"{re.escape(path.stem)}-(\d{{12}})-(\d{{12}}){re.escape(path.suffix)}")
    found = ((pattern.fullmatch(each.name), each) for each in path.parent.iterdir())
    return sorted(Segment(int(match[1]), int(match[2]), each) for match, each in found if match)


def _segment_path(path: Path, first: int, last: int) -> Path:
    return path.with_name(f"{path.stem}-{first:012}-{last:012}{path.suffix}")


def _copy(source: Path, target: Path) -> None:
    """Copy a whole database into a file of its own, so that it is there whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(part)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _last_row(connection: sqlite3.Connection) -> Head:
    """The head of what a database holds."""
    found = connection.execute("SELECT number, hash FROM journal ORDER BY number DESC LIMIT 1")
    row = found.fetchone()
    return START if row is None else Head(row[0], row[1].decode())


def _last(path: Path) -> Head:
    with _read_only(path) as connection:
        return _last_row(connection)


# Reading.


def read(path: Path, after: int) -> Iterator[StoredRow]:
    """Read the rows with a greater number, in order, up to the last that there is now.

    Raises:
        sqlite3.Error: the file can't be read, or not from here on.
    """
    while page := _page(path, after):
        yield from page
        after = page[-1][0]


def _page(path: Path, after: int) -> list[StoredRow]:
    """Some rows: of the first segment that has any, else of the database."""
    for segment in segments_of(path):
        if segment.last > after and (page := _fetch(segment.path, after)):
            return page
    page = _fetch(path, after)
    if page and page[0][0] > after + 1:  # perhaps they have been moved this very moment
        for segment in segments_of(path):
            if segment.last > after and (moved := _fetch(segment.path, after)):
                return moved
    return page


def _fetch(path: Path, after: int) -> list[StoredRow]:
    question = "SELECT number, text, hash FROM journal WHERE number > ? ORDER BY number LIMIT ?"
    with _read_only(path) as connection:
        page: list[StoredRow] = connection.execute(question, (after, _PAGE)).fetchall()
    if not all(isinstance(number, int) for number, _, _ in page):
        raise sqlite3.DatabaseError("a row has no number")
    return page


@contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to read it; where nothing can be written, as it is on the disk."""
    uri = f"file:{quote(str(path))}?mode=ro"
    with _in_use():
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            if not path.exists():
                raise
            connection = sqlite3.connect(f"{uri}&immutable=1", uri=True)
        connection.text_factory = bytes
        with closing(connection):
            yield connection
