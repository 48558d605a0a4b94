"""One attempt: one signed writing of a call, by REST or on a stream, and what becomes of it.

An attempt is driven by callbacks: nothing stands between an answer and who waits for it, and an
attempt that nobody waits for any more still learns what became of it.
"""

import time
from collections.abc import Callable, Generator
from typing import Any, ClassVar, Final

from masscancel.calls import Call, Reply, Request, Stamp, StreamMessage
from masscancel.credentials import Credentials
from masscancel.engine.slices import Decoding, decode_in_turn
from masscancel.engine.streams import PendingMessage, Streams
from masscancel.errors import (
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    ProtocolError,
    RateLimited,
)
from masscancel.models import Ack, Attempt, Fate, Path
from masscancel.redaction import redact, secrets_in
from masscancel.transport.borrowed import BorrowedConnection
from masscancel.transport.clock import NONCES
from masscancel.transport.connection import Connection
from masscancel.transport.host import Waiter
from masscancel.transport.ledger import LEDGER
from masscancel.transport.limiter import Turn
from masscancel.transport.pool import SessionPool

__all__ = ["LiveAttempt", "RestAttempt", "StreamAttempt"]

_RESOLVED: Final = frozenset({"answered", "refused", "not sent"})

OnEnd = Callable[["LiveAttempt", Any], object]


class LiveAttempt:
    """One attempt while it is under way.

    Args:
        call: what is attempted.
        credentials: who signs it.
        on_end: is called once with the attempt, and its value, its error, or what this process has
            raised in place of them, such as MemoryError; never after :meth:`abandon`.
        on_sent: is called with the attempt when it is stamped and about to be written.
    """

    __slots__ = (
        "_credentials",
        "_local_sent_at_ms",
        "_on_end",
        "_on_sent",
        "_sent_at_ms",
        "call",
        "expires_at",
        "expires_at_ms",
        "fate",
        "http_status",
        "number",
        "stamped_at",
    )

    path: ClassVar[Path]

    def __init__(
        self,
        call: Call[Any],
        credentials: Credentials,
        on_end: OnEnd,
        on_sent: Callable[["LiveAttempt"], object],
    ) -> None:
        self.call = call
        self.number = 0
        self.fate: Fate = "open"
        self.stamped_at = 0.0
        self.http_status: int | None = None
        self.expires_at: float | None = None
        self.expires_at_ms: int | None = None
        self._credentials = credentials
        self._on_end: OnEnd | None = on_end
        self._on_sent: Callable[[LiveAttempt], object] | None = on_sent
        self._sent_at_ms: int | None = None
        self._local_sent_at_ms = 0

    def start(self) -> None:
        """Stamp, sign and write it, as soon as there is a connection."""
        raise NotImplementedError

    @property
    def reached(self) -> bool:
        """Whether the attempt may have reached the venue."""
        return self._sent_at_ms is not None

    @property
    def resolved(self) -> bool:
        """Whether the venue can't carry it out later."""
        return self.fate in _RESOLVED

    @property
    def sent_at_ms(self) -> int:
        """The venue's time of the stamp, in ms; without one, this machine's time now."""
        return self._sent_at_ms or _now_ms()

    def abandon(self) -> None:
        """Let nobody wait for it any more, nor for its connection. Idempotent."""
        self._on_end = self._on_sent = None
        if self.fate == "open":
            self.fate = "unknown" if self.reached else "not sent"
            self._abort()

    def freeze(self) -> Attempt:
        """Make the value of what is known of the attempt now."""
        local_ms = self._local_sent_at_ms or _now_ms()
        return Attempt(
            path=self.path,
            sent_at_ms=self._sent_at_ms or local_ms,
            fate=self.fate,
            expires_at_ms=self.expires_at_ms,
            acts=self.call.cancels,
            local_sent_at_ms=local_ms,
        )

    def _abort(self) -> None:
        """End what it waits for."""
        raise NotImplementedError

    def _stamp(self, stamp: Stamp, expires_at_ms: int | None) -> None:
        """Note that it is stamped and signed, and about to be written."""
        self.stamped_at, self._local_sent_at_ms = time.monotonic(), _now_ms()
        self._sent_at_ms = stamp.time_ms
        if expires_at_ms is not None:
            lifetime_ms = expires_at_ms - stamp.time_ms + stamp.skew_ms
            self.expires_at = self.stamped_at + lifetime_ms / 1000
            self.expires_at_ms = expires_at_ms
        if self._on_sent is not None:
            self._on_sent(self)

    def _succeed(self, value: Any) -> None:
        self.fate = "answered"
        self._end(value)

    def _fail(self, error: MassCancelError) -> None:
        redact(error, self._secrets())
        if not self.reached or isinstance(error, NotSent):
            self.fate = "not sent"
        else:
            self.fate = "unknown" if error.may_have_executed else "refused"
        self._end(error)

    def _crash(self, problem: BaseException) -> None:
        """Hand a failure of this process to who waits, such as a secret that can't sign."""
        if isinstance(problem, MassCancelError):
            self._fail(problem)
        else:
            self.fate = "not sent"
            self._end(problem)

    def _end(self, result: Any) -> None:
        on_end, self._on_end, self._on_sent = self._on_end, None, None
        if on_end is not None:
            on_end(self, result)

    def _secrets(self) -> list[str]:
        """List the secrets that no error may show."""
        return [*self._credentials.secrets]


class RestAttempt(LiveAttempt):
    """An attempt by REST.

    Args:
        call: as for any.
        credentials: as for any.
        on_end: as for any.
        on_sent: as for any.
        pool: where to send.
        turn: the key's turn, where nonces have an order.
        on_reply: is called with the origin and its reply, before that is understood: its headers
            may tell what has been spent of the venue's limits.
        fresh: whether it wants a new connection, since others have just failed.
    """

    __slots__ = (
        "_connection",
        "_decoding",
        "_fresh",
        "_nonce",
        "_on_reply",
        "_pool",
        "_request",
        "_signed",
        "_turn",
        "_waiter",
    )

    path = "rest"

    def __init__(
        self,
        call: Call[Any],
        credentials: Credentials,
        on_end: OnEnd,
        on_sent: Callable[[LiveAttempt], object],
        pool: SessionPool,
        turn: Turn | None = None,
        on_reply: Callable[[str, Reply], object] | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        super().__init__(call, credentials, on_end, on_sent)
        self._pool = pool
        self._turn = turn
        self._on_reply = on_reply
        self._fresh = fresh
        self._nonce = 0
        self._signed: Stamp | None = None
        self._request: Request | None = None
        self._connection: Connection | BorrowedConnection | None = None
        self._waiter: Waiter | None = None
        self._decoding: Decoding | None = None

    @property
    def resolved(self) -> bool:
        """Whether the venue can't carry it out later."""
        if self.fate in _RESOLVED:
            return True
        return bool(self._nonce) and NONCES.superseded(self._credentials.api_key, self._nonce)

    def start(self) -> None:
        """Stamp, sign and write it at once on a connection that is idle, or on the next one."""
        call = self.call
        try:
            host = self._pool.host(call.origin)
        except NotSent as error:
            self._fail(error)
            return
        connection = None if self._fresh else host.take(cancels=call.cancels)
        if connection is not None:
            self._write(connection)
        else:
            self._waiter = host.wait(self._connected, cancels=call.cancels, fresh=self._fresh)

    def _connected(self, result: Connection | BorrowedConnection | MassCancelError) -> None:
        self._waiter = None
        if isinstance(result, MassCancelError):
            self._fail(result)
        else:
            self._write(result)

    def _write(self, connection: Connection | BorrowedConnection) -> None:
        call, credentials = self.call, self._credentials
        if (wait := LEDGER.blocked_for(call.origin, credentials.api_key)) > 0:
            # A ban that another has met while this one waited for its turn or connection.
            self._pool.host(call.origin).give_back(connection, cancels=call.cancels)
            why = f"{call.origin} allows no further request"
            self._fail(RateLimited(message=why, retry_after=wait))
            return
        stamp = self._pool.stamp(call.origin, credentials.api_key, call.nonces_per_second)
        try:
            request = call.sign(call, credentials, stamp)
        except BaseException as problem:  # noqa: BLE001  # whoever waits for it is told
            self._pool.host(call.origin).give_back(connection, cancels=call.cancels)
            problem.with_traceback(None)  # its frames hold the secret
            self._crash(problem)
            return
        self._signed, self._request, self._nonce = stamp, request, stamp.nonce
        self._stamp(stamp, request.expires_at_ms)
        if self._turn is not None:
            self._turn.written(self._pool.loop)
        self._connection = connection
        try:
            connection.send(request, max_reply=call.max_reply, on_end=self._answered)
        except MassCancelError as error:  # something has arrived meanwhile, or it can't be encoded
            self._connection = self._sent_at_ms = None
            connection.abort()
            self._fail(error)

    def _answered(self, result: Reply | MassCancelError) -> None:
        connection, self._connection = self._connection, None
        if isinstance(result, MassCancelError):
            self._fail(result)
            return
        self.http_status = result.status
        if self._on_reply is not None:
            self._on_reply(self.call.origin, result)
        assert self._signed is not None  # noqa: S101  # for the type checker: it was written
        try:
            value = self.call.decode(result, self._signed)
        except ProtocolError as error:
            # It may be the answer to another request: then all that follow on it are.
            if connection is not None:
                connection.abort()
            self._fail(error)
        except Exception as problem:  # noqa: BLE001  # a bug in a venue must not stop the others
            self._accept(problem)
        else:
            if isinstance(value, Generator):
                self._decoding = Decoding(value, self._accept)
                decode_in_turn(self._pool.loop, self._decoding)
            else:
                self._accept(value)

    def _accept(self, value: Any) -> None:
        """Take the value of a reply, or why it has none."""
        if isinstance(value, MassCancelError):
            self._fail(value)
        elif isinstance(value, Exception):
            self._fail(_bug(value))
        else:
            if self._nonce:
                NONCES.accept(self._credentials.api_key, self._nonce)
            self._succeed(value)

    def _abort(self) -> None:
        if self._waiter is not None:
            self._waiter.cancel()
        if self._connection is not None:
            self._pool.chores.add(self._end_connection)
        if self._decoding is not None:
            self._decoding.abandon()

    def _end_connection(self) -> None:
        """End the connection, unless the answer has come after all: it may be another's by now."""
        if self._connection is not None:
            self._connection.abort()

    def _secrets(self) -> list[str]:
        secrets, request = super()._secrets(), self._request
        if request is not None:
            secrets += secrets_in(request.headers, request.target, request.body)
        return secrets


class StreamAttempt(LiveAttempt):
    """An attempt on the account's stream.

    Args:
        call: as for any.
        credentials: as for any.
        on_end: as for any.
        on_sent: as for any.
        message: the call, as a message.
        streams: where.
    """

    __slots__ = ("_message", "_pending", "_streams")

    path = "stream"

    def __init__(
        self,
        call: Call[Any],
        credentials: Credentials,
        on_end: OnEnd,
        on_sent: Callable[[LiveAttempt], object],
        message: StreamMessage,
        streams: Streams,
    ) -> None:
        super().__init__(call, credentials, on_end, on_sent)
        self._message = message
        self._streams = streams
        self._pending: PendingMessage | None = None

    def start(self) -> None:
        """Write it at once if the stream is up, otherwise as soon as it is."""
        try:
            self._pending = self._streams.send(self._message, self._stamp, self._answered)
        except MassCancelError as error:
            self._fail(error)

    def _answered(self, result: Ack | MassCancelError) -> None:
        if isinstance(result, MassCancelError):
            self._fail(result)
        else:
            self._succeed(result)

    def _abort(self) -> None:
        if self._pending is not None:
            self._pending.abandon()


def _now_ms() -> int:
    """Read this machine's clock, in ms."""
    return int(time.time() * 1000)


def _bug(problem: Exception) -> MassCancelError:
    """Make the error of a bug in a venue's code. The bug's own frames hold what was signed."""
    return OutcomeUnknown(f"the reply could not be understood: {type(problem).__name__}")
