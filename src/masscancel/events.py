"""Events as frozen values: listeners learn of calls, attempts, blocks, gates and switches.

A listener is a plain function of one event. It is called where the event happens, from any thread,
and may not block; what it raises is logged and harms nothing. Logging is the first listener: INFO
for what a person wants to read after a kill, DEBUG for each attempt. Nothing in an event is secret.
"""

import logging
from collections.abc import Callable
from typing import Final

from masscancel.calls import Scope
from masscancel.models import Fate, Path, Value

__all__ = [
    "AttemptEnded",
    "AttemptSent",
    "CallEnded",
    "CallStarted",
    "Event",
    "GateOpened",
    "GateShut",
    "Listener",
    "OriginBlocked",
    "Publisher",
    "SwitchFired",
    "subscribe",
]

log = logging.getLogger("masscancel")


class Event(Value, frozen=True, kw_only=True, tag=True):
    """Anything that happens."""

    @property
    def level(self) -> int:
        """The level at which it is logged."""
        return logging.DEBUG


class CallStarted(Event, frozen=True, kw_only=True):
    """A public call has begun.

    Attributes:
        call_id: what its other events carry, too.
        name: the method, such as ``cancel_all``.
        venue: the venue's name.
        account: the label of the account, or 8 hex digits of its key's SHA-256.
        scope: what it covers.
        timeout: the time it has, in seconds.
    """

    call_id: str
    name: str
    venue: str
    account: str
    scope: Scope
    timeout: float


class AttemptSent(Event, frozen=True, kw_only=True):
    """One writing of a request is about to leave, signed.

    Attributes:
        call_id: whose it is.
        attempt: its number within the call, from 1.
        path: ``"rest"`` or ``"stream"``.
        origin: where it goes.
        cancels: whether it cancels anything.
        sent_at_ms: its stamp, in the venue's time, ms since the epoch.
    """

    call_id: str
    attempt: int
    path: Path
    origin: str
    cancels: bool
    sent_at_ms: int


class AttemptEnded(Event, frozen=True, kw_only=True):
    """An attempt has ended; that may be after its call, if it lost a race.

    Of an attempt that was never stamped, this is the only event.

    Attributes:
        call_id: whose it is.
        attempt: its number within the call, from 1.
        path: as in :class:`AttemptSent`.
        origin: likewise.
        cancels: likewise.
        fate: as in :class:`~masscancel.Attempt`.
        error: the name of the error's class, ``""`` if there is none.
        reason: what went wrong, in a sentence; ``""`` if nothing.
        http_status: the status of the HTTP reply; ``None`` without one.
        elapsed: from when it was stamped, in seconds; 0 where it never was.
    """

    call_id: str
    attempt: int
    path: Path
    origin: str
    cancels: bool
    fate: Fate
    error: str = ""
    reason: str = ""
    http_status: int | None = None
    elapsed: float


class CallEnded(Event, frozen=True, kw_only=True):
    """A public call has ended.

    Attributes:
        call_id: whose end it is.
        name: the method, such as ``cancel_all``.
        venue: the venue's name.
        account: as in :class:`CallStarted`.
        scope: what it covered.
        ok: whether it returned a value.
        outcome: that value in a word, such as ``"acknowledged"``, or the error's sentence.
        error: the name of the error's class, ``""`` if there is none.
        may_have_executed: whether something may have been carried out that no answer tells of.
        attempts: how many there were.
        elapsed: from its beginning, in seconds.
    """

    call_id: str
    name: str
    venue: str
    account: str
    scope: Scope
    ok: bool
    outcome: str
    error: str = ""
    may_have_executed: bool = False
    attempts: int
    elapsed: float

    @property
    def level(self) -> int:
        """What a person wants to read after a kill: anything but a listing that came back."""
        if not self.ok:
            return logging.WARNING
        return logging.DEBUG if self.name in ("look", "open_orders") else logging.INFO

    def __str__(self) -> str:
        sent = f"{self.attempts} sent, {self.elapsed:.3f} s"
        if not self.ok:
            return f"{self.outcome} ({sent})"
        return f"{self.name} {self.scope} on {self.venue} [{self.account}]: {self.outcome}, {sent}"


class OriginBlocked(Event, frozen=True, kw_only=True):
    """A venue wants nothing more for a while; everybody in the process waits.

    Attributes:
        origin: who.
        account: the one account that is meant, ``""`` for all.
        seconds: for how long from now.
        reason: the venue's word.
    """

    origin: str
    account: str
    seconds: float
    reason: str

    @property
    def level(self) -> int:
        """A warning."""
        return logging.WARNING

    def __str__(self) -> str:
        who = f"{self.origin} [{self.account}]" if self.account else self.origin
        return f"{who} asks to wait {self.seconds:.1f} s: {self.reason}"


class _GateEvent(Event, frozen=True, kw_only=True):
    """A gate has changed."""

    gate: str

    @property
    def level(self) -> int:
        """A person wants to read it."""
        return logging.INFO

    def __str__(self) -> str:
        return f"the gate {self.gate}: {type(self).__name__}"


class GateShut(_GateEvent, frozen=True, kw_only=True):
    """A gate lets no further order pass.

    Attributes:
        gate: its name.
    """


class GateOpened(_GateEvent, frozen=True, kw_only=True):
    """A gate lets orders pass again.

    Attributes:
        gate: its name.
    """


class SwitchFired(Event, frozen=True, kw_only=True):
    """A dead man's switch has fired.

    Attributes:
        targets: what it cancels, for people.
        silent_for: how long no beat had come, in seconds.
    """

    targets: tuple[str, ...]
    silent_for: float

    @property
    def level(self) -> int:
        """A warning."""
        return logging.WARNING

    def __str__(self) -> str:
        silence = f"{self.silent_for:.1f} s of silence"
        return f"the dead man's switch fires after {silence}: {', '.join(self.targets)}"


Listener = Callable[[Event], object]


class Publisher:
    """Tells listeners what happens: its own, and those of the whole process.

    Args:
        parent: whose listeners are told, too; ``None`` for that of the process itself.
    """

    __slots__ = ("_listeners", "_parent")

    def __init__(self, parent: "Publisher | None" = None) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._parent = parent

    @property
    def active(self) -> bool:
        """Whether anybody listens; who asks first makes no event for nobody."""
        return bool(self._listeners) or (
            self._parent.active if self._parent is not None else log.isEnabledFor(logging.INFO)
        )

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a listener with every event from now on.

        Returns:
            What ends that. May be called more than once.
        """
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Tell everybody, in turn."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # a listener's bug is no reason to stop a cancel
                log.exception("a listener has failed")
        if self._parent is not None:
            self._parent.publish(event)
        else:
            _log(event)


def _log(event: Event) -> None:
    """Log an event as it reads; it is the record's one argument, for formatters."""
    log.log(event.level, "%s", event)


#: The listeners of the whole process.
PROCESS: Final = Publisher()


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call a listener with every event of this process from now on.

    Args:
        listener: a plain function of one event. It is called from any thread and may not block.

    Returns:
        What ends that.

    Example:
        >>> unsubscribe = masscancel.subscribe(print)
    """
    return PROCESS.subscribe(listener)
