"""Events as frozen values: listeners learn of calls, attempts, blocks, gates and switches.

A listener is a plain function of one event. It is called where the event happens, from any thread,
and may not block; what it raises is logged and harms nothing. Logging is the first listener: INFO
for what a person wants to read after a kill, DEBUG for each attempt. Nothing in an event is secret.
"""

import logging
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from masscancel.calls import Scope

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


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Anything that happens."""


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
    path: Literal["rest", "stream"]
    origin: str
    cancels: bool
    sent_at_ms: int


class AttemptEnded(Event, frozen=True, kw_only=True):
    """An attempt has ended.

    Attributes:
        call_id: whose it is.
        attempt: its number within the call, from 1.
        fate: as in :class:`~masscancel.Attempt`.
        error: what went wrong, ``""`` if nothing.
        elapsed: from when it was stamped, in seconds; 0 where it never was.
    """

    call_id: str
    attempt: int
    fate: str
    error: str
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


class GateShut(Event, frozen=True, kw_only=True):
    """A gate lets no further order pass.

    Attributes:
        gate: its name.
    """

    gate: str


class GateOpened(Event, frozen=True, kw_only=True):
    """A gate lets orders pass again.

    Attributes:
        gate: its name.
    """

    gate: str


class SwitchFired(Event, frozen=True, kw_only=True):
    """A dead man's switch has fired.

    Attributes:
        targets: what it cancels, for people.
        silent_for: how long no beat had come, in seconds.
    """

    targets: tuple[str, ...]
    silent_for: float


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
    """Write an event to the log, in a sentence."""
    match event:
        case CallEnded(ok=True):
            level = logging.INFO if event.name not in ("look", "open_orders") else logging.DEBUG
            log.log(
                level,
                "%s %s on %s [%s]: %s, %d sent, %.3f s",
                *(event.name, event.scope, event.venue, event.account),
                *(event.outcome, event.attempts, event.elapsed),
            )
        case CallEnded():
            log.warning("%s (%d sent, %.3f s)", event.outcome, event.attempts, event.elapsed)
        case OriginBlocked():
            log.warning(
                "%s%s asks to wait %.1f s: %s",
                event.origin,
                f" [{event.account}]" if event.account else "",
                *(event.seconds, event.reason),
            )
        case SwitchFired():
            log.warning(
                "the dead man's switch fires after %.1f s of silence: %s",
                event.silent_for,
                ", ".join(event.targets),
            )
        case GateShut() | GateOpened():
            log.info("the gate %s: %s", event.gate, type(event).__name__)
        case _:
            log.debug("%s", event)


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
