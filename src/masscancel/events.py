"""Events as frozen values: listeners learn of calls, attempts, blocks, gates and switches.

A listener is a plain function of one event. It is called where the event happens, from any thread,
and may not block; what it raises is logged and harms nothing. Logging is the first listener: INFO
for what a person wants to read after a kill, DEBUG for each attempt. Nothing in an event is secret.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from random import getrandbits
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
    "Kill",
    "KillEnded",
    "KillStarted",
    "Listener",
    "OriginBlocked",
    "Publisher",
    "SwitchFired",
    "TargetEnded",
    "current_kill",
    "join_kill",
    "killing",
    "subscribe",
]

log = logging.getLogger("masscancel")


class Event(Value, frozen=True, kw_only=True, tag=True, gc=False):
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
        kill_id: the kill that it is a part of, ``""`` if it is none.
    """

    call_id: str
    name: str
    venue: str
    account: str
    scope: Scope
    timeout: float
    kill_id: str = ""


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
        books: the books that it covered, as far as an Ack or a Confirmation says so.
        left_out: the books of the category that it left out, likewise.
        cancelled: ids of orders that an answer or a proof says are cancelled; ``None`` where
            neither tells.
        filled: ids of orders that were seen to fill on the way out; ``None`` likewise.
        residual: ids of orders that were still open when the time was up.
        received_at_ms: when the venue says that it received the cancel, in its own time, ms since
            the epoch; ``None`` where it does not say.
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
    books: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    cancelled: tuple[str, ...] | None = None
    filled: tuple[str, ...] | None = None
    residual: tuple[str, ...] = ()
    received_at_ms: int | None = None

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


class KillStarted(Event, frozen=True, kw_only=True):
    """A kill has begun: the cancel of one target or many, for one reason.

    Attributes:
        kill_id: what its other events carry, too.
        reason: why, in the words of whoever kills; ``""`` if nothing was said.
        actor: who, in the words of whoever kills; ``""`` for the user of this process.
        what: what it covers, for people; ``""`` if nothing was said.
    """

    kill_id: str
    reason: str
    actor: str
    what: str

    @property
    def level(self) -> int:
        """What a person wants to read."""
        return logging.INFO

    def __str__(self) -> str:
        what = f": {self.what}" if self.what else ""
        reason = f"; {self.reason}" if self.reason else ""
        actor = f"; by {self.actor}" if self.actor else ""
        return f"kill {self.kill_id} begins{what}{reason}{actor}"


class TargetEnded(Event, frozen=True, kw_only=True):
    """One target of a kill has its outcome. A call that was made for it has ended before.

    Attributes:
        kill_id: whose target it is.
        account: as in :class:`CallStarted`.
        scope: what was to be cancelled.
        ok: whether it was acknowledged, or proven flat where that was asked for.
        outcome: in a word, such as ``"acknowledged"``, or what went wrong.
        error: the name of the error's class, ``""`` if there is none.
        may_have_executed: whether something may have been carried out that no answer tells of.
        elapsed: from the beginning of the kill, or of the fan-out within it, in seconds.
    """

    kill_id: str
    account: str
    scope: Scope
    ok: bool
    outcome: str
    error: str = ""
    may_have_executed: bool = False
    elapsed: float


class KillEnded(Event, frozen=True, kw_only=True):
    """A kill has ended.

    Attributes:
        kill_id: whose end it is.
        targets: how many targets have their outcome.
        failed: how many of them failed.
        unknown: of how many something may have been carried out that no answer tells of.
        error: the name of the exception that ended it, ``""`` if none did.
        elapsed: from its beginning, in seconds.
    """

    kill_id: str
    targets: int
    failed: int
    unknown: int
    error: str = ""
    elapsed: float

    @property
    def level(self) -> int:
        """What a person wants to read."""
        return logging.INFO

    def __str__(self) -> str:
        counts = f"{self.targets} targets, {self.failed} failed, {self.unknown} of them unknown"
        ended = f"; ended by {self.error}" if self.error else ""
        return f"kill {self.kill_id} has ended: {counts}, {self.elapsed:.3f} s{ended}"


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


class Kill:
    """One kill while it goes on: publishes what becomes of each target, and how many there were.

    Args:
        reason: why.
        actor: who.
        what: what it covers, for people.
    """

    __slots__ = ("_began_at", "_failed", "_targets", "_unknown", "id")

    def __init__(self, reason: str = "", *, actor: str = "", what: str = "") -> None:
        self.id = f"{getrandbits(64):016x}"
        self._targets = self._failed = self._unknown = 0
        self._began_at = time.monotonic()
        if PROCESS.active:
            PROCESS.publish(KillStarted(kill_id=self.id, reason=reason, actor=actor, what=what))

    def target_ended(
        self,
        account: str,
        scope: Scope,
        outcome: str,
        *,
        error: str = "",
        may_have_executed: bool = False,
        elapsed: float,
    ) -> None:
        """Publish what has become of a target; a fan-out does so by itself.

        Args:
            account: the account's label.
            scope: what was to be cancelled there.
            outcome: in a word, or what went wrong.
            error: the name of the error's class, ``""`` if there is none.
            may_have_executed: whether something may have been carried out nevertheless.
            elapsed: since it was begun, in seconds.
        """
        self._targets += 1
        self._failed += bool(error)
        self._unknown += may_have_executed
        if PROCESS.active:
            PROCESS.publish(
                TargetEnded(
                    kill_id=self.id,
                    account=account,
                    scope=scope,
                    ok=not error,
                    outcome=outcome,
                    error=error,
                    may_have_executed=may_have_executed,
                    elapsed=elapsed,
                )
            )

    def end(self, problem: BaseException | None = None) -> None:
        """Publish the end."""
        if PROCESS.active:
            PROCESS.publish(
                KillEnded(
                    kill_id=self.id,
                    targets=self._targets,
                    failed=self._failed,
                    unknown=self._unknown,
                    error="" if problem is None else type(problem).__name__,
                    elapsed=time.monotonic() - self._began_at,
                )
            )


_current: Final[ContextVar[Kill | None]] = ContextVar("masscancel_kill", default=None)


def current_kill() -> Kill | None:
    """The kill that what runs here is a part of, if any."""
    return _current.get()


def join_kill(reason: str = "", *, actor: str = "", what: str = "") -> tuple[Kill, bool]:
    """The kill that what runs here is a part of, or a new one, which all that follows is.

    Returns:
        The kill, and whether it is new: then it is the caller who ends it.
    """
    kill = _current.get()
    if kill is not None:
        return kill, False
    kill = Kill(reason, actor=actor, what=what)
    _current.set(kill)
    return kill, True


@contextmanager
def killing(reason: str = "", *, actor: str = "", what: str = "") -> Iterator[Kill]:
    """Make one kill of all that is cancelled within the block, and say why and who.

    Every call and every fan-out of the block, and of tasks that are started in it, carries the
    kill's id in its events. A fan-out outside of such a block is a kill of its own, without a
    reason. Within another such block, this one is a part of it.

    Args:
        reason: why, such as ``"drawdown limit"``.
        actor: who, such as ``"risk-engine"``; ``""`` for the user of this process.
        what: what it covers, for people.

    Example:
        >>> with masscancel.killing("drawdown limit", actor="risk-engine"):
        ...     report = await masscancel.cancel_many(targets, confirm=True)
    """
    kill, is_new = join_kill(reason, actor=actor, what=what)
    problem = None
    try:
        yield kill
    except BaseException as raised:
        problem = raised
        raise
    finally:
        if is_new:
            _current.set(None)
            kill.end(problem)
