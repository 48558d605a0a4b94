"""The processes that descend from this one: adopted, found, reaped, where the system has it.

Linux hands a process whose parent has ended to process 1, or to the nearest ancestor that wants
such orphans. Where there is no ``/proc``, nothing is found.
"""

import ctypes
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Descendant", "adopt_orphans", "descendants", "reap"]

_PR_SET_CHILD_SUBREAPER: Final = 36
_PROC: Final = Path("/proc")
#: Where these stand in ``/proc/<pid>/stat``, after the name.
_PARENT, _GROUP, _THREADS, _STARTED = 1, 2, 17, 19


class Descendant(msgspec.Struct, frozen=True):
    """A living process that descends from this one.

    Attributes:
        pid: its process id.
        group: its process group.
        parent: the process id of its parent.
        started: when it was started, in the system's own unit: ids are used again.
    """

    pid: int
    group: int
    parent: int
    started: int

    @property
    def key(self) -> tuple[int, int]:
        """The key that tells the process from every other."""
        return self.pid, self.started

    @property
    def command(self) -> str:
        """The command line for people, ``?`` if that can't be read any more."""
        with suppress(OSError):
            words = (_PROC / str(self.pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            return shlex.join(word.decode(errors="replace") for word in words if word) or "?"
        return "?"


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, as process 1 is. Linux only."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(*, apart_from: Collection[tuple[int, int]] = ()) -> list[Descendant]:
    """The living processes that descend from this one, children before theirs.

    Args:
        apart_from: the keys of those that are left out, with all that descends from them.
    """
    if not (_has_children() and _sees_itself()):
        return []
    by_parent: dict[int, list[Descendant]] = {}
    for each in _processes():
        by_parent.setdefault(each.parent, []).append(each)
    found: list[Descendant] = []
    parents = [os.getpid()]
    while parents:
        for each in by_parent.pop(parents.pop(), ()):
            if each.key not in apart_from:
                found.append(each)
                parents.append(each.pid)
    return found


def reap(mine: int, ended: Callable[[], object]) -> None:
    """Reap the children that have ended, so that none stays a zombie.

    Args:
        mine: the one child that has an owner in this process, ...
        ended: ... who reaps it by this.
    """
    if not hasattr(os, "waitid"):  # macOS: nobody adopts there
        ended()
        return
    seen = False
    with suppress(ChildProcessError):
        while (one := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if one.si_pid == mine and not seen:
                seen = True  # whoever has that id from then on is another
                ended()
            else:
                os.waitpid(one.si_pid, 0)


def _has_children() -> bool:
    """Whether there is any child at all, which costs less than to look for them."""
    if not hasattr(os, "waitid"):
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _sees_itself() -> bool:
    """Whether ``/proc`` is about the same ids: in a new namespace, it may be of the old one."""
    try:
        return (_PROC / "self").readlink().name == str(os.getpid())
    except OSError:
        return False


def _processes() -> Iterator[Descendant]:
    """Every living process of this machine that can be seen."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
                # "pid (name) state parent group ...": the name may hold anything
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                has_ended = fields[0] in (b"Z", b"X") and int(fields[_THREADS]) <= 1
                if not has_ended:
                    ids = int(entry.name), int(fields[_GROUP]), int(fields[_PARENT])
                    yield Descendant(*ids, int(fields[_STARTED]))
