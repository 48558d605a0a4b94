"""The chain of a journal, without I/O: each row is linked to the one before by SHA-256.

A row's hash is that of ``<hash of the row before> <its number> <its text>``; before the first row
stand 64 zeros. So whoever changes, removes or swaps rows breaks a link, and whoever makes all links
anew changes the last hash: the head, which is to be kept elsewhere.
"""

import re
from hashlib import sha256
from typing import Any, Final

import msgspec

from masscancel.errors import ConfigurationError

__all__ = ["ANCHOR", "START", "Checker", "Head", "Row", "StoredRow", "Verdict", "link"]

#: So many problems are named; of the others, how many.
_SHOWN: Final = 20
_HEAD: Final = re.compile(r"(\d{1,18}):([0-9a-f]{64})")

#: A row as it is stored: its number, its text, its hash. Who tampers may store anything.
StoredRow = tuple[int, Any, Any]


class Head(msgspec.Struct, frozen=True):
    """The end of a chain at some time: how many rows it had, and the hash of the last.

    Attributes:
        count: how many rows there have ever been.
        hash: the last one's hash, 64 hex digits.
    """

    count: int
    hash: str

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Read it as ``str`` writes it.

        Raises:
            ConfigurationError: it is none.
        """
        match = _HEAD.fullmatch(text.strip().lower())
        if match is None:
            raise ConfigurationError("a head is COUNT:HASH, a number and 64 hex digits")
        return cls(int(match[1]), match[2])


#: The text of the row that stands for all before it, where these are in another file.
ANCHOR: Final = b""
#: The head of a chain without rows.
START: Final = Head(0, "0" * 64)


def link(head: Head, text: bytes) -> Head:
    """The head of a chain to which a row with this text is added."""
    number = head.count + 1
    linked = b"%b %d %b" % (head.hash.encode(), number, text)
    return Head(number, sha256(linked).hexdigest())


class Row(msgspec.Struct, frozen=True):
    """One row of a journal.

    Attributes:
        number: from 1.
        time_ms: when it happened by this machine's clock, ms since the epoch; ``None`` if the row
            can't be read.
        actor: who wrote it: user, host and process id, or what the program gave.
        kind: what happened: the name of the event's class, such as ``"CallEnded"``.
        event: the event's fields.
        hash: what chains the row to those before.
    """

    number: int
    time_ms: int | None
    actor: str
    kind: str
    event: dict[str, Any]
    hash: str

    @classmethod
    def of(cls, stored: StoredRow) -> "Row":
        """Read a stored row, whatever has become of it."""
        number, text, digest = stored
        shown = digest.decode(errors="replace") if isinstance(digest, bytes) else str(digest)
        try:
            read = msgspec.json.decode(text, type=_Text)
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
            return cls(number, None, "", "Unreadable", {}, shown)
        event = dict(read.event)
        return cls(number, read.time_ms, read.actor, str(event.pop("type", "")), event, shown)

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data for JSON; nothing in it is secret."""
        return msgspec.structs.asdict(self)


class _Text(msgspec.Struct):
    """What the text of a row holds."""

    time_ms: int
    actor: str
    event: dict[str, Any]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification has found.

    Attributes:
        first: the number of the first row that is there, 0 if none is.
        head: the head of what is there.
        problems: what is wrong, a sentence each; empty if every link holds.
        against: the head that it was held against, ``None`` if none was given: then nothing is
            known of rows that were cut off the end, or of a chain that was made anew.
    """

    first: int
    head: Head
    problems: tuple[str, ...]
    against: Head | None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, as far as ``against`` lets one know."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain data for JSON."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return {"ok": self.ok, **fields}

    def __str__(self) -> str:
        """Say it for people, in a line."""
        if self.problems:
            return "; ".join(self.problems)
        rows = f"rows {self.first} to {self.head.count}" if self.first else "there are no rows"
        if self.against is None:
            return (
                f"{rows}: every link holds; whether rows were cut off the end, or the whole chain "
                "was made anew, can't be known without a head"
            )
        added = self.head.count - self.against.count
        more = f", and {added} more since" if added else ""
        return f"{rows}: every link holds, and the head is in it{more}"


class Checker:
    """Checks the rows of a chain, one after the other.

    Args:
        against: the head that the chain has had, as far as it is known.
    """

    def __init__(self, against: Head | None) -> None:
        self._against = against
        self._head = START
        self._first = 0
        self._anchor: Head | None = None  # the last of the rows that were retired
        self._retired: set[tuple[object, object]] = set()
        self._problems: list[str] = []
        self._found = 0

    def feed(self, stored: StoredRow) -> None:
        """Check the next row, in the order of their numbers."""
        number, text, digest = stored
        head = Head(number, digest.decode() if _is_hash(digest) else "")
        if not self._first and number > 0:
            self._first = number
            if number > 1 and text == ANCHOR:  # what was before has been retired
                self._first, self._anchor = number + 1, head
                self._take(head, text)
                return
        expected = self._head.count + 1
        if number > expected:
            missing = f"row {expected} is" if number == expected + 1 else None
            self._find(f"{missing or f'rows {expected} to {number - 1} are'} missing")
        elif number < expected:
            self._find(f"row {number} is none of the chain")
            return
        elif not isinstance(text, bytes) or link(self._head, text) != head:
            self._find(f"row {number} does not follow from the one before: one was changed")
        self._take(head, text)

    def _take(self, head: Head, text: object) -> None:
        self._head = head
        against = self._against
        if against is not None and head.count == against.count and head.hash != against.hash:
            self._find(f"row {head.count} is not that of the head: the chain was made anew")
        if isinstance(text, bytes) and b'"SegmentRetired"' in text:
            row = Row.of((head.count, text, b""))
            if row.kind == "SegmentRetired":
                self._retired.add((row.event.get("last"), row.event.get("hash")))

    def broken(self, problem: str) -> None:
        """Take note that rows can't be read."""
        self._find(problem)

    def verdict(self) -> Verdict:
        """What was found, when all rows have been fed."""
        anchor, against = self._anchor, self._against
        if anchor is not None and (anchor.count, anchor.hash) not in self._retired:
            gone = f"rows 1 to {anchor.count} are missing"
            self._find(f"{gone}, and no row says that they have been retired")
        if against is not None and against.count > self._head.count:
            self._find(
                f"the head has {against.count} rows, and there are {self._head.count}: "
                "the end was cut off"
            )
        elif against is not None and anchor is not None and against.count < anchor.count:
            self._find(f"the head is of row {against.count}, which has been retired")
        problems = self._problems
        if self._found > _SHOWN:
            problems = [*problems, f"and {self._found - _SHOWN} more"]
        return Verdict(
            first=self._first, head=self._head, problems=tuple(problems), against=against
        )

    def _find(self, problem: str) -> None:
        self._found += 1
        if len(self._problems) < _SHOWN:
            self._problems.append(problem)


def _is_hash(digest: object) -> bool:
    return isinstance(digest, bytes) and re.fullmatch(rb"[0-9a-f]{64}", digest) is not None
