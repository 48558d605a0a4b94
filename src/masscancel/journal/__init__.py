"""The journal: who, why, when, what, in a file that shows whether somebody has changed it.

A :class:`Journal` is a listener of events. Its rows are chained by SHA-256; its head, kept
elsewhere, tells whether the end was cut off or the chain was made anew. It needs SQLite, which
comes with Python.
"""

from masscancel.journal.chain import Head, Row, Verdict
from masscancel.journal.reading import Selection, rows, verify
from masscancel.journal.recorder import EventsLost, Journal, JournalOpened, default_path
from masscancel.journal.store import SegmentEnded, SegmentRetired

__all__ = [
    "EventsLost",
    "Head",
    "Journal",
    "JournalOpened",
    "Row",
    "SegmentEnded",
    "SegmentRetired",
    "Selection",
    "Verdict",
    "default_path",
    "rows",
    "verify",
]
