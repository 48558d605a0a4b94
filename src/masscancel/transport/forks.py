"""Whether this process is a fork of the one in which something was made."""

import os
from typing import Any

from masscancel.errors import ConfigurationError

__all__ = ["check_not_forked", "forks"]

_forks = 0


def _count() -> None:
    global _forks  # noqa: PLW0603  # one number for the process
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)


def forks() -> int:
    """The number of forks from the first process to this one. Costs no system call."""
    return _forks


def check_not_forked(made_at: int, what: Any) -> None:
    """Refuse what was made before a fork: its connections and its event loop are the parent's.

    Args:
        made_at: what :func:`forks` was when it was made.
        what: what is used, for people.

    Raises:
        ConfigurationError: this is a forked child.
    """
    if made_at != _forks:
        raise ConfigurationError(
            f"{what!r} belongs to the process that this one was forked from: make one of its own, "
            "or start processes with the method 'spawn'"
        )
