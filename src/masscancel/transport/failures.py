"""Say why a connection failed, in the system's words."""

import errno
import os
import socket
import ssl
from typing import Final

from masscancel.errors import NotSent

__all__ = ["is_exhausted", "not_sent", "why"]

#: This machine has no file descriptor, no port or no memory left for a connection.
_EXHAUSTED: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
)

_MAKE_ROOM: Final = "this process needs room for a connection: see its limit of open files"
_CHECK_THE_WAY: Final = "check the venue's URL, and the network, firewall and proxy on the way"


def not_sent(origin: str, problem: BaseException) -> NotSent:
    """Make the error for an origin that could not be reached."""
    error = NotSent(f"{origin} could not be reached: {why(problem)}")
    error.exhausted = is_exhausted(problem)
    error.advice = _MAKE_ROOM if error.exhausted else _CHECK_THE_WAY
    return error


def is_exhausted(problem: BaseException) -> bool:
    """Tell whether it is this machine that can open no further connection."""
    return isinstance(problem, OSError) and problem.errno in _EXHAUSTED


def why(problem: BaseException) -> str:
    """Give the reason, in the system's words where there are any, never in those of a peer."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"certificate not accepted, {problem.verify_message}"
    if isinstance(problem, ssl.SSLError):
        reason = getattr(problem, "reason", None)  # there is none on one that asyncio made
        return f"TLS failed, {reason}" if reason else "TLS failed"
    if isinstance(problem, OSError) and problem.errno is None and problem.strerror:
        return problem.strerror
    if isinstance(problem, TimeoutError) and problem.errno is None:
        return "no connection in time"
    if isinstance(problem, OSError) and problem.errno is not None:
        if isinstance(problem, socket.gaierror):  # codes of its own
            return problem.strerror or "the name can't be resolved"
        return os.strerror(problem.errno)  # asyncio puts words of its own in place of these
    if isinstance(problem, ConnectionError):
        return "the connection was closed"
    if isinstance(problem, OSError):
        return "no address answered"
    return type(problem).__name__
