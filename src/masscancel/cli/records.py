"""The journal that a command writes to: opened on entry, and its head said at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from masscancel import ConfigurationError, subscribe
from masscancel.cli.render import complain, remark
from masscancel.journal import Journal, default_path

__all__ = ["JournalFile", "NoJournal", "Record", "journal_for"]

#: How long a command waits for its journal on entry and at the end, at most, in seconds.
_PATIENCE: Final = 1.0

JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Where to write down what happens; see 'masscancel journal'.",
        show_default="in the user's state folder",
    ),
]
NoJournal = Annotated[bool, typer.Option("--no-journal", help="Write nothing of it down.")]


class Record:
    """What a command writes down, if anything.

    Args:
        journal: the journal, ``None`` for none.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal

    def check(self) -> None:
        """Say now if nothing can be written, where nothing is at stake yet."""
        if self._journal is not None and not self._journal.flush(_PATIENCE):
            why = self._journal.problem or "it takes long"
            complain(f"journal: {self._journal.path} is not written: {why}; going on without")

    def end(self) -> dict[str, Any]:
        """Write what is left, for a second at most, and end. Idempotent.

        Returns:
            Where the journal is, its head, and what is wrong, if anything, as data for JSON.
        """
        if self._journal is None:
            return {"path": None, "head": None, "problem": None}
        whole = self._journal.close(_PATIENCE)
        head = self._journal.head()
        return {
            "path": str(self._journal.path),
            "head": None if head is None else str(head),
            "problem": None if whole else self._journal.problem or "it took too long",
        }

    def say(self) -> dict[str, Any]:
        """End, and say the head: kept elsewhere, it shows later whether the journal is whole."""
        fields = self.end()
        if fields["problem"]:
            complain(f"journal: {fields['path']} is not whole: {fields['problem']}")
        elif fields["head"]:
            remark(f"journal: head {fields['head']}")
        return fields


@contextmanager
def journal_for(file: Path | None, *, no_journal: bool) -> Iterator[Record]:
    """Write down what happens in the block; whatever is wrong with that stops nothing.

    Args:
        file: the journal's file, ``None`` for that in the user's state folder.
        no_journal: write nothing; that is said aloud.

    Raises:
        ConfigurationError: both options are given.
    """
    if no_journal:
        if file is not None:
            raise ConfigurationError("--journal and --no-journal contradict each other")
        remark("journal: none is written, as --no-journal says")
        yield Record(None)
        return
    try:
        journal = Journal(file or default_path())
    except ConfigurationError as error:  # there is no place for it
        complain(f"journal: none is written: {error}")
        yield Record(None)
        return
    unsubscribe = subscribe(journal)
    record = Record(journal)
    try:
        yield record
    finally:
        unsubscribe()
        record.end()
