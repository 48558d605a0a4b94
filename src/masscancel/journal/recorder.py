"""The recorder: a listener that has a thread of its own write down what happens."""

import atexit
import logging
import os
import platform
import sqlite3
import sys
import threading
import time
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self

import msgspec
from msgspec.structs import asdict

from masscancel.errors import ConfigurationError
from masscancel.events import Event, KillEnded
from masscancel.journal.chain import Head, Verdict
from masscancel.journal.reading import verify
from masscancel.journal.store import Store, fork_is_wanted, opened, was_forked_open

__all__ = ["EventsLost", "Journal", "JournalOpened", "default_path"]

log = logging.getLogger("masscancel")

#: So many rows are written in one transaction, at most.
_BATCH: Final = 256
#: How long to wait before writing is tried again: it doubles from the first to the second. Seconds.
_AGAIN: Final = (0.1, 5.0)
#: How often to look whether the queue has room again, in seconds.
_LOOK: Final = 0.005
#: How long the end of the interpreter waits for all journals, at most, in seconds.
_AT_EXIT: Final = 2.0
#: How much longer a thread may take that is in the middle of something. Seconds.
_GRACE: Final = 0.1


class JournalOpened(Event, frozen=True, kw_only=True):
    """A process has begun to write.

    Attributes:
        program: what it runs.
    """

    program: str


class EventsLost(Event, frozen=True, kw_only=True):
    """More has happened than the queue could hold while nothing could be written.

    Attributes:
        count: how many events are not in the journal, before this row.
    """

    count: int


class Journal:
    """A listener that writes every event into a file, chained, from a thread of its own.

    Writing happens beside the cancel and never before it: the listener puts an event into a queue
    and returns. A disk that is full or read-only, a database that is locked, a network file system
    that hangs: they delay and stop nothing. It is logged, ``problem`` says it, and writing is tried
    again; meanwhile the queue holds what happens, and what does not fit is counted: a row
    :class:`EventsLost` says how many. Several processes may write one file.

    A forked child writes rows of its own into the same file. At the end of the interpreter, what is
    in the queue is still written, for two seconds at most.

    Args:
        path: the file. It is made if it is not there, with its folder; only its owner may read it.
        actor: who writes; ``""`` for user, host and process id.
        limit: how many events the queue holds.
        segment: after so many rows, they are moved into a segment: a file beside this one.
        keep: how many segments are kept; the oldest beyond that are removed, and a row says so.
        linger: how long to wait for more before a write, in seconds: at first, the cancels leave.

    Raises:
        ConfigurationError: a number can't be used.

    Example:
        >>> journal = Journal("kills.sqlite")
        >>> unsubscribe = masscancel.subscribe(journal)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        actor: str = "",
        limit: int = 100_000,
        segment: int = 100_000,
        keep: int = 50,
        linger: float = 0.02,
    ) -> None:
        if min(limit, segment, keep) < 1 or not 0 <= linger <= 1:
            raise ConfigurationError("limit, segment and keep are 1 at least, linger 0 to 1 s")
        self.path = Path(path).absolute()
        #: What is wrong with writing, for people; ``""`` if nothing is.
        self.problem = ""
        self._given_actor = actor
        self._user = f"{_user()}@{platform.node()}"
        self._limit = limit
        self._segment = segment
        self._keep = keep
        self._linger = linger
        self._closed = False
        self._begin()
        _journals.add(self)
        self._start()

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r})"

    def _begin(self) -> None:
        """Begin with nothing, as a forked child does: what is in the queue, its parent writes."""
        self._queue: SimpleQueue[tuple[int, Event] | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()  # a signal's handler may come in between
        self._closing = threading.Event()
        self._deadline = 0.0
        self._ended = False
        self._texts: list[bytes] = []  # that are to be written next
        self._kills: list[str] = []  # whose end is among them
        self._flushed: list[threading.Event] = []  # who waits until they are written
        self._head: Head | None = None
        self._no_segment = ""  # why none could be begun
        #: How many events the queue could not hold, as far as that has been noticed.
        self.lost = 0
        self._lost_written = 0
        self._overflow = False
        self._dropped = count()
        self._looked = 0  # how often that was looked at, which counts, too
        self._actor = _json(self._given_actor or f"{self._user}:{os.getpid()}")

    def __call__(self, event: Event) -> None:
        """Have an event written. Never waits, and never raises."""
        if self._closed:
            return
        if self._queue.qsize() < self._limit:
            self._queue.put((time.time_ns(), event))
        else:
            next(self._dropped)
            self._overflow = True
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None or self._closed:
                return
            if was_forked_open():
                self._fail("this process was forked while its parent wrote; it writes nothing")
                return
            thread = threading.Thread(target=self._run, name="masscancel-journal", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError as error:  # there can be no more threads
                self._thread = None
                self._fail(str(error))

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait until all that has happened before is written.

        Args:
            timeout: seconds from now; it blocks the calling thread for so long at most.

        Returns:
            Whether it is.
        """
        thread = self._thread
        if thread is None or not thread.is_alive():
            return not self._left
        until = time.monotonic() + timeout
        while self._queue.qsize() >= self._limit and time.monotonic() < until:
            time.sleep(_LOOK)
        written = threading.Event()
        if self._queue.qsize() < self._limit:
            self._queue.put(written)
        return written.wait(max(until - time.monotonic(), 0.0))

    @property
    def _left(self) -> int:
        """How many events are not written yet."""
        return self._queue.qsize() + len(self._texts)

    def head(self, timeout: float = 1.0) -> Head | None:
        """The head of the chain, after all that has happened before; keep it elsewhere.

        Args:
            timeout: as for :meth:`flush`. If that is not enough, the last head that is known.

        Returns:
            The head; ``None`` if nothing has been written.
        """
        self.flush(timeout)
        return self._head

    def verify(self, head: Head | None = None) -> Verdict:
        """Check the file, as :func:`masscancel.journal.verify` does, after a :meth:`flush`."""
        self.flush()
        return verify(self.path, head)

    def close(self, timeout: float = _AT_EXIT) -> bool:
        """Write what is left, and end the thread. Idempotent.

        Args:
            timeout: seconds from now; it blocks the calling thread for so long at most.

        Returns:
            Whether all was written.
        """
        was_closed, self._closed = self._closed, True
        _journals.discard(self)
        thread = self._thread
        if thread is not None and not was_closed:
            self._deadline = time.monotonic() + timeout
            self._queue.put(None)
            self._closing.set()
            thread.join(timeout + _GRACE)
        if left := self._left:
            why = self.problem or "the time was up"
            log.error("the journal %s lacks the last %d events: %s", self.path, left, why)
        return not left

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # In the thread.

    def _run(self) -> None:
        program = Path(sys.argv[0]).name if sys.argv else ""
        self._texts.append(self._now(JournalOpened(program=program)))
        while True:
            self._wait_for_more()
            self._write()
            if self._ended:
                return
            self._take(wait=True)

    def _wait_for_more(self) -> None:
        """Let more come together: each write costs the thread of the cancels a little."""
        if self._left < _BATCH:
            self._closing.wait(self._linger)

    def _take(self, *, wait: bool = False) -> bool:
        """Take events from the queue, some at a time; whether there is anything to write."""
        while len(self._texts) < _BATCH and not self._ended:
            try:
                item = self._queue.get(wait)
            except Empty:
                break
            wait = False
            if item is None:
                self._ended = True
            elif isinstance(item, threading.Event):
                self._flushed.append(item)
            else:
                self._texts.append(self._text(*item))
                if isinstance(item[1], KillEnded):
                    self._kills.append(item[1].kill_id)
        self._count_lost()
        if self.lost > self._lost_written:
            self._texts.append(self._now(EventsLost(count=self.lost - self._lost_written)))
            self._lost_written = self.lost
        if not self._texts:
            self._told()
        return bool(self._texts)

    def _count_lost(self) -> None:
        if self._overflow:
            self._overflow = False
            self.lost = next(self._dropped) - self._looked
            self._looked += 1
            log.error("the journal %s has lost %d events so far", self.path, self.lost)

    def _write(self) -> None:
        """Write until nothing is left; while it can't be done, try again and again."""
        again = _AGAIN[0]
        while self._texts or self._take():
            try:
                with opened(self.path) as store:
                    while (self._texts or self._take()) and not fork_is_wanted():
                        self._head = store.append(self._texts)
                        self._wrote()
                        self._roll(store)
                        again = _AGAIN[0]
                        self._wait_for_more()
            except Exception as error:  # noqa: BLE001  # whatever it is, nothing else may end
                self._fail(str(error) or type(error).__name__)
                self._count_lost()
                left = self._deadline - time.monotonic()
                if not self._closing.is_set():
                    self._closing.wait(again)
                elif left > 0:
                    time.sleep(min(again, left))
                else:
                    self._ended = True
                    return
                again = min(2 * again, _AGAIN[1])

    def _wrote(self) -> None:
        if self.problem:
            log.info("the journal %s is written again", self.path)
            self.problem = ""
        for kill in self._kills:
            log.info("the journal's head after kill %s is %s", kill, self._head)
        self._texts.clear()
        self._kills.clear()
        self._told()

    def _told(self) -> None:
        """Tell who waits that all before is written."""
        while self._flushed:
            self._flushed.pop().set()

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            log.warning("the journal %s can't be written, nothing waits: %s", self.path, problem)

    def _roll(self, store: Store) -> None:
        """Begin a new segment, if it is time. Rows are written whether that succeeds or not."""
        try:
            store.roll(self._segment, self._keep, self._now)
        except (sqlite3.Error, OSError) as error:
            if str(error) != self._no_segment:
                self._no_segment = str(error)
                log.warning("the journal %s can't begin a segment: %s", self.path, error)

    def _now(self, event: Event) -> bytes:
        return self._text(time.time_ns(), event)

    def _text(self, time_ns: int, event: Event) -> bytes:
        """The text of a row: what happened, when, and who writes."""
        body = _json(event)
        return b'{"time_ms":%d,"actor":%b,"event":%b}' % (time_ns // 1_000_000, self._actor, body)

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        self.problem = ""
        self._begin()


def _json(value: object) -> bytes:
    """A value as JSON; what can't be written so, such as half a character, as Python shows it."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError):
        pass
    if isinstance(value, Event):
        fields = {name: msgspec.Raw(_json(each)) for name, each in asdict(value).items()}
        return msgspec.json.encode({"type": type(value).__name__, **fields})
    text = value if isinstance(value, str) else repr(value)
    return msgspec.json.encode(text.encode("ascii", "backslashreplace").decode())


def _user() -> str:
    """The user's name, and who has become it by sudo."""
    try:
        import pwd  # noqa: PLC0415  # not on every system

        name = pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        name = str(getattr(os, "getuid", lambda: "?")())
    before = os.environ.get("SUDO_USER", "")
    return f"{before} as {name}" if before else name


def default_path() -> Path:
    """The journal of the user: ``masscancel/journal.sqlite`` in the folder for states.

    Raises:
        ConfigurationError: the user has no home folder.
    """
    folder = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not folder.is_absolute():  # as its specification says
        try:
            folder = Path.home() / ".local" / "state"
        except RuntimeError:
            problem = "the user has no home folder for a journal: set XDG_STATE_HOME"
            raise ConfigurationError(problem) from None
    return folder / "masscancel" / "journal.sqlite"


#: The journals that are open.
_journals: Final[set[Journal]] = set()


def _close_all() -> None:
    until = time.monotonic() + _AT_EXIT
    for journal in [*_journals]:
        journal.close(max(until - time.monotonic(), 0.0))


def _after_fork() -> None:
    for journal in [*_journals]:
        journal.after_fork()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
