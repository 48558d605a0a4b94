"""Everything that can go wrong, as one tree.

::

    MassCancelError
    ├── ConfigurationError       a setting or argument is unusable; also a ValueError
    ├── ScopeError               the venue has no such scope; also a ValueError
    ├── VenueError               the venue answered, and the answer is no
    │   ├── AuthenticationError  the venue does not accept the key or the signature
    │   ├── PermissionDenied     the venue knows the key; the key may not do this
    │   ├── RateLimited          too many requests; ``retry_after`` in seconds, if told
    │   ├── InvalidRequest       the venue does not accept the request as it is
    │   │   └── StampRefused     its timestamp or nonce, to be exact
    │   └── VenueUnavailable     the venue failed while answering: the outcome is unknown
    ├── TransportError
    │   ├── NotSent              nothing reached the venue
    │   └── OutcomeUnknown       it may have reached the venue; no answer came back
    ├── ProtocolError            an answer that can't be understood: the outcome is unknown
    ├── DeadlineExceeded         the time was up; also a TimeoutError
    ├── NotFlat                  the time was up and orders are still open: ``residual``
    ├── Unproven                 the time was up and the open orders could not be listed
    └── Halted                   the gate is shut

An attempt that the deadline cut short is both ``DeadlineExceeded`` and what is known about it:
``NotSent`` or ``OutcomeUnknown``. Catch whichever matters to you. What the attempts before it came
to is its ``__cause__``. Where the venue has refused one for good, that refusal is raised instead,
since it says what there is to mend; ``may_have_executed`` still counts the others.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from masscancel.models import Attempt, OpenOrder, plain

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "DeadlineExceeded",
    "Halted",
    "InvalidRequest",
    "MassCancelError",
    "NotFlat",
    "NotSent",
    "OutcomeUnknown",
    "PermissionDenied",
    "ProtocolError",
    "RateLimited",
    "ScopeError",
    "StampRefused",
    "TransportError",
    "Unproven",
    "VenueError",
    "VenueUnavailable",
]

_LONGEST: Final = 300
_UNRESOLVED: Final = frozenset({"answered", "unknown", "open"})


class MassCancelError(Exception):
    """The root: catch this to catch everything that masscancel raises.

    Attributes:
        attempts: what was tried, oldest first; empty if nothing was.
        may_have_executed: true if any attempt may have been carried out by the venue, whatever the
            last one saw; false where nothing reached the venue or the venue refused.
        message: what went wrong, without the context, the attempts and the advice.
        context: whose call it was and what it asked for, such as ``cancel_all cash BTC/USDT``;
            empty where none is known.
        retry_after: how long the venue asks to wait, in seconds; ``None`` if it did not say.
    """

    #: What to do about it, for people.
    advice: str = ""
    #: Whether asking again may help.
    worth_retrying: ClassVar[bool] = False
    #: Whether the request may have been carried out, where nobody knows better.
    venue_may_have_acted: ClassVar[bool] = False
    #: Whether the connection it happened on, and others like it, may be broken.
    connection_suspect: ClassVar[bool] = False
    #: The attributes that its class adds to the plain data.
    facts: ClassVar[tuple[str, ...]] = ()

    retry_after: float | None = None
    #: Whether ``retry_after`` binds the key alone, and not everybody at the origin.
    of_key: bool = False

    def __init__(self, message: str, *, may_have_executed: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.attempts: tuple[Attempt, ...] = ()
        if may_have_executed is None:
            may_have_executed = self.venue_may_have_acted
        self.may_have_executed = may_have_executed
        self._context: object = ""

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data for JSON; nothing in it is secret."""
        common = ("summary", "context", "advice", "may_have_executed", "retry_after", "attempts")
        written = {name: plain(getattr(self, name)) for name in (*common, *self.facts)}
        return {"type": type(self).__name__, "text": str(self), **written}

    def describe(self, attempts: Iterable[Attempt], *, context: object) -> None:
        """Say whose error this is and what had been tried. Called once, by the client.

        Args:
            attempts: the attempts, oldest first.
            context: what :attr:`context` will say; text is made of it when somebody reads it.
        """
        self.attempts = tuple(attempts)
        self._context = context
        self.may_have_executed = False
        for attempt in self.attempts:
            if attempt.acts and attempt.fate in _UNRESOLVED:
                self.may_have_executed = True

    @property
    def context(self) -> str:
        """Whose call it was and what it asked for."""
        return str(self._context)

    def __str__(self) -> str:
        what, context = self.summary, self.context
        parts = [f"{context}: {what}" if context else what]
        if self.attempts:
            fates = Counter(attempt.fate for attempt in self.attempts)
            told = ", ".join(f"{count} {fate}" for fate, count in fates.items())
            parts.append(f"attempts: {told}")
        if self.may_have_executed:
            parts.append("the cancel may have been carried out: list the open orders to know")
        elif self.attempts and any(attempt.acts for attempt in self.attempts):
            parts.append("nothing was cancelled by this call")
        if self.advice:
            parts.append(self.advice)
        return one_line("; ".join(parts))

    @property
    def summary(self) -> str:
        """Say in a few words what went wrong."""
        return str(self.args[0])


def short(text: str) -> str:
    """A peer's words, as far as they fit into a message."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def one_line(text: str) -> str:
    """Keep what a peer says from breaking out of its line, in a log or on a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


class ConfigurationError(MassCancelError, ValueError):
    """A setting or an argument can't be used; nothing was sent."""


class ScopeError(MassCancelError, ValueError):
    """The venue has no such category or symbol, or can't cancel by it; nothing was cancelled.

    Nothing was even sent, unless only the venue's own list could tell that there is no such symbol.
    """


class VenueError(MassCancelError):
    """The venue answered with an error.

    Attributes:
        code: the venue's own code, ``None`` where it gave none.
        reason: the venue's short word for it, such as ``AUTHENTICATION_FAILED``; may be empty.
        message: the venue's sentence for people; may be empty.
        http_status: the status of the HTTP reply, ``None`` on a stream.
    """

    facts: ClassVar[tuple[str, ...]] = ("code", "reason", "http_status")

    def __init__(  # one place for what every venue can say
        self,
        code: int | str | None = None,
        reason: str = "",
        message: str = "",
        http_status: int | None = None,
        *,
        retry_after: float | None = None,
        may_have_executed: bool | None = None,
    ) -> None:
        super().__init__(message or reason or "refused", may_have_executed=may_have_executed)
        self.code = code
        self.reason = reason
        self.message = message
        self.http_status = http_status
        self.retry_after = retry_after

    @property
    def summary(self) -> str:
        """Say in a few words what the venue said; secrets have been redacted before it is cut."""
        parts = (self.code, self.reason)
        said = " ".join(short(str(part)) for part in parts if part not in (None, ""))
        if self.message and self.message != self.reason:
            said = f"{said}: {short(self.message)}" if said else short(self.message)
        if self.http_status is not None and self.http_status != 200:  # noqa: PLR2004  # HTTP's own
            said = f"{said} (HTTP {self.http_status})" if said else f"HTTP {self.http_status}"
        if self.retry_after is not None:
            said = f"{said}, and asks to wait {self.retry_after:g} s"
        return said or "refused"


class AuthenticationError(VenueError):
    """The venue does not accept the key or the signature. Never retried."""

    advice = "check the API key and secret, and that they belong to this venue"


class PermissionDenied(VenueError):
    """The venue knows the key, and the key or the account may not do this. Never retried."""

    advice = "check the key's permissions, its address list and the state of the account"


class RateLimited(VenueError):
    """Too many requests. Retried within the deadline, as ``retry_after`` (seconds) allows."""

    worth_retrying = True
    advice = "wait before asking again"


class InvalidRequest(VenueError):
    """The venue does not accept the request as it is. Never retried."""


class StampRefused(InvalidRequest):
    """The venue refused the timestamp or the nonce. Stamped anew and tried again.

    A timestamp once, a nonce for as long as there is time.

    Attributes:
        date_ms: its time when it refused, to the second, ms since the epoch; ``None`` if unknown.
    """

    facts = (*InvalidRequest.facts, "date_ms")
    worth_retrying = True
    date_ms: int | None = None

    advice = "check the clock of this machine, and that nothing else uses the key's nonces"


class VenueUnavailable(VenueError):
    """The venue failed while it answered (HTTP 5xx, a system error): the outcome is unknown."""

    worth_retrying = True
    venue_may_have_acted = True


class TransportError(MassCancelError):
    """The network failed."""

    worth_retrying = True
    connection_suspect = True


class NotSent(TransportError):
    """Nothing reached the venue: no connection, no name, no TLS, no time."""

    #: Whether it is this machine that can open no further connection.
    exhausted: bool = False


class OutcomeUnknown(TransportError):
    """The request may have reached the venue, and no answer came: neither success nor failure."""

    venue_may_have_acted = True


class ProtocolError(MassCancelError):
    """An answer came back that can't be understood, so the outcome is unknown."""

    worth_retrying = True
    venue_may_have_acted = True
    connection_suspect = True


class DeadlineExceeded(MassCancelError, TimeoutError):
    """The time was up."""


class NotSentInTime(NotSent, DeadlineExceeded):
    """The time was up before anything reached the venue."""


class UnansweredInTime(OutcomeUnknown, DeadlineExceeded):
    """The time was up before the venue's answer came."""


class NotFlat(MassCancelError):
    """The time was up and orders are still open.

    Attributes:
        residual: the open orders of the latest listing that could be read.
    """

    facts = ("residual",)
    advice = "these orders are live: cancel them by other means"

    def __init__(self, message: str, *, residual: Iterable[OpenOrder] = ()) -> None:
        super().__init__(message)
        self.residual = tuple(residual)


class Unproven(MassCancelError):
    """The time was up and no listing since the last sweep could be read: nothing is proven."""

    advice = "list the open orders by other means"


class Halted(MassCancelError):
    """The gate is shut.

    Attributes:
        until: the time by which every attempt has resolved or expired, in ms since the epoch;
            ``None`` if that is not known.
    """

    facts = ("until",)

    def __init__(self, message: str, *, until: int | None = None) -> None:
        super().__init__(message)
        self.until = until
