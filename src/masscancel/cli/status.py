"""Exit statuses: what each means, and which error leads to which."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Self

from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    MassCancelError,
    NotFlat,
    PermissionDenied,
    ScopeError,
    TransportError,
    Unproven,
)

__all__ = ["EPILOG", "GUARD_EPILOG", "GuardStatus", "Known", "Status", "status_of"]


class _Told(IntEnum):
    """Exit statuses that say what they mean: ``meaning`` is what the help says of each."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:  # how an enum learns it
        status = int.__new__(cls, value)
        status._value_ = value
        status.meaning = meaning
        return status


class Status(_Told):
    """What a command ends with."""

    DONE = 0, "done; a cancel is acknowledged, or confirmed if that was asked for"
    FAILED = 1, "the venue said no, or anything that is not below"
    USAGE = 2, "an option, a setting or the scope can't be used; nothing was sent"
    UNKNOWN = 3, "the cancel may have been carried out: list the orders to know"
    NOT_SENT = 4, "the network failed or the time was up; nothing was cancelled"
    DENIED = 5, "the venue refused the key, the signature or the permission"
    NOT_FLAT = 6, "--confirm: the time was up, and the orders listed are open"
    UNPROVEN = 7, "--confirm: the time was up, and no listing could be read"
    INTERRUPTED = 130, "stopped by Ctrl-C; the last line says what is known"


class GuardStatus(_Told):
    """What ``guard`` ends with, beside its command's own status."""

    STALLED = 124, "the command stalled and was ended; all is confirmed flat"
    NOT_FLAT = 125, "not confirmed flat, or the command won't die: orders may be live"
    NO_EXEC = 126, "the command could not be started"
    NOT_FOUND = 127, "the command was not found"


def _table(statuses: Iterable[_Told]) -> str:
    return "\n".join(f"  {status.value:>3}  {status.meaning}" for status in statuses)


#: The table of exit statuses, for the help.
EPILOG: Final = "Exit status:\n" + _table(Status)

_BEFORE: Final = (Status.FAILED, Status.USAGE, Status.NOT_SENT, Status.DENIED, Status.INTERRUPTED)
#: The same for ``guard``.
GUARD_EPILOG: Final = (
    "Exit status: the command's own, 128+N if signal N ended it, and all is\nconfirmed flat; or\n"
    + _table(GuardStatus)
    + "\nIf the line on standard error says that the command was not started:\n"
    + _table(_BEFORE)
)


def status_of(error: MassCancelError) -> Status:
    """The status that an error ends a command with. What is known for certain goes first."""
    if isinstance(error, NotFlat):
        return Status.NOT_FLAT
    if isinstance(error, Unproven):
        return Status.UNPROVEN
    if error.may_have_executed:
        return Status.UNKNOWN
    if isinstance(error, ConfigurationError | ScopeError):
        return Status.USAGE
    if isinstance(error, AuthenticationError | PermissionDenied):
        return Status.DENIED
    if isinstance(error, TransportError | DeadlineExceeded):
        return Status.NOT_SENT
    return Status.FAILED


class Known:
    """What can be said of a command that is stopped now."""

    def __init__(self) -> None:
        self.words = "nothing was sent"
        self.may_have_executed = False
        #: Whether the command came to its own end: its status counts, whatever it is.
        self.is_over = False

    def sending(self) -> None:
        """From here on, a cancel may be on its way."""
        self.words = "the cancel may have been carried out: list the open orders to know"
        self.may_have_executed = True

    def done(self, words: str) -> None:
        """What was on its way has come to an end that is known."""
        self.words = words
        self.may_have_executed = False
