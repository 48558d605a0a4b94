"""Exit statuses: what each means, and which error leads to which."""

from enum import IntEnum
from typing import Final, Self

from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    MassCancelError,
    PermissionDenied,
    ScopeError,
    TransportError,
)

__all__ = ["EPILOG", "Known", "Status", "status_of"]


class Status(IntEnum):
    """What a command ends with. ``meaning`` is what the help says of it."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:  # noqa: D102  # how an enum learns
        status = int.__new__(cls, value)
        status._value_ = value
        status.meaning = meaning
        return status

    DONE = 0, "done; for a cancel: the venue has acknowledged it"
    FAILED = 1, "the venue said no, or anything that is not below"
    USAGE = 2, "an option, a setting or the scope can't be used; nothing was sent"
    UNKNOWN = 3, "the cancel may have been carried out: list the orders to know"
    NOT_SENT = 4, "the network failed or the time was up; nothing was cancelled"
    DENIED = 5, "the venue refused the key, the signature or the permission"
    INTERRUPTED = 130, "stopped by Ctrl-C; the last line says what is known"


#: The table of exit statuses, for the help.
EPILOG: Final = "Exit status:\n" + "\n".join(
    f"  {status.value:>3}  {status.meaning}" for status in Status
)


def status_of(error: MassCancelError) -> Status:
    """The status that an error ends a command with. What may have been done goes first."""
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

    def sending(self) -> None:
        """From here on, a cancel may be on its way."""
        self.words = "the cancel may have been carried out: list the open orders to know"
        self.may_have_executed = True

    def done(self, words: str) -> None:
        """What was on its way has come to an end that is known."""
        self.words = words
        self.may_have_executed = False
