"""One attempt: one signed writing of a call, by REST or on a stream, and what becomes of it."""

import time
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl

from masscancel.credentials import Credentials
from masscancel.errors import MassCancelError, NotSent, OutcomeUnknown, ProtocolError
from masscancel.models import Ack, Attempt, Fate, Path
from masscancel.scrub import scrub
from masscancel.session import NONCES, Sending, SessionPool, Turn, Wants, Written
from masscancel.stream import Asked, Streams
from masscancel.venue import Call, Reply, Request, Saying, Stamp

__all__ = ["ByRest", "OnStream", "Try"]

#: No signature is shorter, in a query or a form.
_SIGNATURE: Final = 32
_RESOLVED: Final = frozenset({"answered", "refused", "not sent"})


class Try:
    """One attempt while it is under way.

    Args:
        call: what is attempted.
        credentials: who signs it.
        wants: the kind of connection.
    """

    __slots__ = (
        "_credentials",
        "_pending",
        "_sent_at_ms",
        "call",
        "expires_at",
        "expires_at_ms",
        "fate",
        "sending",
        "stamped_at",
    )

    path: ClassVar[Path]

    def __init__(self, call: Call[Any], credentials: Credentials, wants: Wants = "warm") -> None:
        self.call = call
        self.sending = Sending(wants)
        self.fate: Fate = "open"
        self.stamped_at = 0.0
        self.expires_at: float | None = None
        self._credentials = credentials
        self._pending: Written | Asked | None = None
        self.expires_at_ms: int | None = None
        self._sent_at_ms: int | None = None

    async def result(self) -> Any:
        """Stamp, sign, write and understand, once.

        If this is cancelled while it waits for the reply, it may be awaited again.

        Returns:
            The value or the error.

        Raises:
            NoneOpen: it was to leave at once, and there is no open connection.
        """
        try:
            if self._pending is None:
                if self.reached:
                    raise OutcomeUnknown("the request could not be written in time")
                self._pending = await self._write()
            value = self._understand(await self._pending.reply())
        except MassCancelError as problem:
            error = problem
        else:
            self.fate, self._pending = "answered", None  # a gate may keep this for long
            return value
        self._pending = None
        self.fate = _fate(error) if self.reached else "not sent"
        scrub(error, self._secrets())
        return error

    async def _write(self) -> Written | Asked:
        """Stamp, sign and write."""
        raise NotImplementedError

    def _understand(self, reply: Any) -> Any:
        """The value in what has been answered."""
        raise NotImplementedError

    def _secrets(self) -> list[str]:
        """What no error may show."""
        return [self._credentials.api_secret, self._credentials.api_key]

    @property
    def reached(self) -> bool:
        """Whether it may have reached the venue."""
        return self._sent_at_ms is not None and not self.sending.connecting

    @property
    def resolved(self) -> bool:
        """Whether the venue can't carry it out later."""
        return self.fate in _RESOLVED

    def written(self, stamp: Stamp, expires_at_ms: int | None) -> None:
        """It is stamped and signed, and about to be written."""
        self.stamped_at = time.monotonic()
        self._sent_at_ms = stamp.time_ms
        if expires_at_ms is not None:
            lifetime_ms = expires_at_ms - stamp.time_ms + stamp.skew_ms
            self.expires_at = self.stamped_at + lifetime_ms / 1000
            self.expires_at_ms = expires_at_ms

    def end(self) -> None:
        """Nobody waits for it any more, nor for its connection. Idempotent."""
        if self.fate == "open":
            self.fate = "unknown" if self.reached else "not sent"
        if self._pending is not None:
            self._pending.abort()

    def freeze(self) -> Attempt:
        """What is known of it now."""
        return Attempt(
            path=self.path,
            sent_at_ms=self._sent_at_ms or int(time.time() * 1000),
            fate=self.fate,
            expires_at_ms=self.expires_at_ms,
            acts=self.call.acts,
        )


class ByRest(Try):
    """An attempt by REST.

    Args:
        call: what is attempted.
        credentials: who signs it.
        pool: where to send.
        wants: the kind of connection.
        turn: the key's turn, where nonces have an order.
    """

    __slots__ = ("_pool", "_request", "_stamp", "_superseded", "_turn")

    path = "rest"

    def __init__(
        self,
        call: Call[Any],
        credentials: Credentials,
        pool: SessionPool,
        wants: Wants,
        turn: Turn | None,
    ) -> None:
        super().__init__(call, credentials, wants)
        self._pool = pool
        self._turn = turn
        self._stamp: Stamp
        self._request: Request | None = None
        self._superseded = _never

    @property
    def resolved(self) -> bool:
        """Whether the venue can't carry it out later."""
        return super().resolved or self._superseded()

    async def _write(self) -> Written:
        call, api_key = self.call, self._credentials.api_key
        stamp = self._stamp = self._pool.stamp(call.origin, api_key, call.nonces_per_second)
        request = self._request = call.sign(call, self._credentials, stamp)
        self.written(stamp, request.expires_at_ms)
        if self._turn is not None:
            self._superseded = partial(NONCES.superseded, api_key, stamp.nonce)
            self._turn.written()
        return await self._pool.write(call.origin, request, self.sending, max_reply=call.max_reply)

    def _understand(self, reply: Reply) -> Any:
        try:
            value = self.call.decode(reply, self._stamp)
        except ProtocolError:
            # It may be the answer to another request: then all that follow on it are.
            self.sending.abort()
            raise
        if self._turn is not None:
            NONCES.accept(self._credentials.api_key, self._stamp.nonce)
        return value

    def _secrets(self) -> list[str]:
        secrets = super()._secrets()
        if (request := self._request) is not None:
            secrets += [value for name, value in request.headers.items() if name != "Content-Type"]
            signed = f"{request.target.partition('?')[2]}&{request.body.decode('latin-1')}"
            secrets += [value for _, value in parse_qsl(signed) if len(value) >= _SIGNATURE]
        return secrets


class OnStream(Try):
    """An attempt on the account's stream.

    Args:
        call: what is attempted.
        credentials: who is logged in.
        saying: how it is said.
        streams: where.
    """

    __slots__ = ("_saying", "_streams")

    path = "stream"

    def __init__(
        self, call: Call[Any], credentials: Credentials, saying: Saying, streams: Streams
    ) -> None:
        super().__init__(call, credentials)
        self._saying = saying
        self._streams = streams

    async def _write(self) -> Asked:
        return await self._streams.ask(self._saying, self.written, at_once=self.sending.at_once)

    def _understand(self, reply: Ack) -> Ack:
        return reply


def _never() -> bool:
    return False


def _fate(error: MassCancelError) -> Fate:
    if isinstance(error, NotSent):
        return "not sent"
    return "unknown" if error.may_have_executed else "refused"
