"""Exit statuses: what each means, and which error leads to which."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Self

from masscancel.calls import Scope
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
from masscancel.events import AttemptEnded, AttemptSent, CallStarted, Event

__all__ = [
    "DOCTOR_EPILOG",
    "EPILOG",
    "GUARD_EPILOG",
    "KILL_EPILOG",
    "STATUSES_ELSEWHERE",
    "DoctorStatus",
    "GuardStatus",
    "KillStatus",
    "Known",
    "Status",
    "status_of",
    "worst_of",
]


class _Explained(IntEnum):
    """Exit statuses that say what they mean: ``meaning`` is what the help says of each."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:  # how an enum learns it
        status = int.__new__(cls, value)
        status._value_ = value
        status.meaning = meaning
        return status


class Status(_Explained):
    """The exit status of a command."""

    DONE = 0, "done; a cancel is acknowledged, or confirmed if that was asked for"
    FAILED = 1, "the venue said no, or anything that is not below"
    USAGE = 2, "an option, a setting or the scope can't be used; nothing was sent"
    UNKNOWN = 3, "the cancel may have been carried out: list the orders to know"
    NOT_SENT = 4, "the network failed or the time was up; nothing was cancelled"
    DENIED = 5, "the venue refused the key, the signature or the permission"
    NOT_FLAT = 6, "--confirm: the time was up, and the orders listed are open"
    UNPROVEN = 7, "--confirm: the time was up, and no listing could be read"
    DECLINED = 8, "you did not say yes when you were asked; nothing was sent"
    INTERRUPTED = 130, "stopped by Ctrl-C; the last line says what is known"


class GuardStatus(_Explained):
    """The exit status of ``guard``, where it is not that of the guarded command."""

    LEFT = 123, "--leave-descendants: confirmed flat, but processes live on"
    STALLED = 124, "the command stalled and was ended; all is confirmed flat"
    NOT_FLAT = 125, "not confirmed flat, or the command won't die: orders may be live"
    NO_EXEC = 126, "the command could not be started"
    NOT_FOUND = 127, "the command was not found"


class KillStatus(_Explained):
    """The exit status of ``kill``."""

    FLAT = 0, "every row is proven flat; with --dry-run: every row was listed"
    USAGE = 2, "an option can't be used, or matches no account; nothing was sent"
    NOT_FLAT = 3, "a row is not proven flat: refused, unreadable, or orders are open"
    UNKNOWN = 4, "a row is unknown: its cancel may have been carried out (before 3)"
    DECLINED = 8, "you did not say yes when you were asked; nothing was sent"


class DoctorStatus(_Explained):
    """The exit status of ``doctor``."""

    WELL = 0, "nothing would fail"
    USAGE = 2, "an option can't be used, or matches no account; the file is not right"
    FAILS = 3, "something would fail"
    UNKNOWN = 4, "something can't be known (before 3)"


def _table(statuses: Iterable[_Explained]) -> str:
    return "\n".join(f"  {status.value:>3}  {status.meaning}" for status in statuses)


#: The table of exit statuses. It stands once, in the help of the whole.
EPILOG: Final = (
    "Exit status:\n"
    + _table(Status)
    + "\nOf several scopes, the first of 6, 7, 3, 5, 4, 1 that one of them ended with."
)
#: What the help of a command says of them.
STATUSES_ELSEWHERE: Final = "'masscancel --help' has the table of exit statuses."

_PERHAPS: Final = "the cancel may have been carried out: list the open orders to know"

#: Of several scopes, the first of these that one of them ended with.
_GRAVEST_FIRST: Final = (
    Status.NOT_FLAT,
    Status.UNPROVEN,
    Status.UNKNOWN,
    Status.DENIED,
    Status.NOT_SENT,
    Status.FAILED,
)

_BEFORE: Final = (Status.FAILED, Status.USAGE, Status.NOT_SENT, Status.DENIED, Status.INTERRUPTED)
#: The same for ``guard``.
GUARD_EPILOG: Final = (
    "Exit status: the command's own, 128+N if signal N ended it, and all is\nconfirmed flat; or\n"
    + _table(GuardStatus)
    + "\nIf the line on standard error says that the command was not started:\n"
    + _table(_BEFORE)
)

#: The same for ``doctor``.
DOCTOR_EPILOG: Final = "Exit status:\n" + _table(DoctorStatus)

#: The same for ``kill``.
KILL_EPILOG: Final = "Exit status:\n" + _table(KillStatus)


def status_of(error: MassCancelError) -> Status:
    """The status that an error ends a command with. What is known for certain goes first."""
    if isinstance(error, NotFlat):
        return Status.NOT_FLAT
    if isinstance(error, Unproven):
        is_harmless = error.attempts and not error.may_have_executed
        return Status.NOT_SENT if is_harmless else Status.UNPROVEN
    if error.may_have_executed:
        return Status.UNKNOWN
    if isinstance(error, ConfigurationError | ScopeError):
        return Status.USAGE
    if isinstance(error, AuthenticationError | PermissionDenied):
        return Status.DENIED
    if isinstance(error, TransportError | DeadlineExceeded):
        return Status.NOT_SENT
    return Status.FAILED


def worst_of(statuses: Iterable[Status]) -> Status:
    """Choose the status for several scopes: the gravest; usage only if all of them."""
    found = {*statuses}
    if len(found) == 1:
        return found.pop()
    if not found:
        return Status.DONE
    return next((each for each in _GRAVEST_FIRST if each in found), Status.FAILED)


class Known:
    """The knowledge about a command that may be stopped now: its own words, or its events."""

    def __init__(self) -> None:
        #: Whether the command came to its own end: its status counts, whatever it is.
        self.is_over = False
        #: Whether standard output is to hold a JSON object, whatever happens.
        self.as_json = False
        self._said: tuple[str, bool] | None = None
        self._scopes: dict[str, Scope] = {}
        self._fates: dict[tuple[str, int], str] = {}

    def sending(self) -> None:
        """From here on, a cancel may be on its way."""
        self._said = _PERHAPS, True

    def done(self, words: str) -> None:
        """Note that the cancels on their way have come to an end that is known."""
        self._said = words, False

    def note(self, event: Event) -> None:
        """Learn from an event what becomes of the cancels."""
        match event:
            case CallStarted():
                self._scopes[event.call_id] = event.scope
            case AttemptSent(cancels=True):
                self._fates[event.call_id, event.attempt] = "sent"
            case AttemptEnded() if (event.call_id, event.attempt) in self._fates:
                self._fates[event.call_id, event.attempt] = event.fate

    @property
    def words(self) -> str:
        """Say for people what is known."""
        if self._said is not None:
            return self._said[0]
        fates = {*self._fates.values()} - {"not sent"}
        if fates - {"answered", "refused"}:
            return _PERHAPS
        if "answered" in fates:
            return "the venue has acknowledged what was sent: list the open orders to know"
        return "the venue refused what was sent" if fates else "nothing was sent"

    @property
    def may_have_executed(self) -> bool:
        """Whether a cancel may have been carried out that nobody knows of yet."""
        return self._said[1] if self._said is not None else self.has_sent(None)

    def is_answered(self, scope: Scope) -> bool:
        """Whether a cancel of this scope was acknowledged, whatever else is not known."""
        return any(
            fate == "answered" and self._scopes.get(call_id) == scope
            for (call_id, _), fate in self._fates.items()
        )

    def has_sent(self, scope: Scope | None) -> bool:
        """Whether a cancel of this scope, or of any, may have been carried out."""
        return any(
            fate not in ("not sent", "refused") and scope in (None, self._scopes.get(call_id))
            for (call_id, _), fate in self._fates.items()
        )
