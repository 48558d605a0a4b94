"""Websockets: open them, and pass on their messages from the event loop's own callback."""

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from masscancel.calls import Reply
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    MassCancelError,
    NotSent,
    PermissionDenied,
    RateLimited,
    VenueError,
)
from masscancel.transport.connection import Connection
from masscancel.transport.dialer import Dialer
from masscancel.transport.encoding import encode_head, host_header
from masscancel.transport.failures import not_sent, why
from masscancel.transport.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameError,
    FrameReader,
    encode_frame,
)

__all__ = ["WebSocket", "open_websocket"]

#: Bytes that may wait in this process before a peer is taken for one that reads nothing.
_MOST_UNSENT: Final = 65_536
#: Frames that are handled before anything else may run.
_BATCH: Final = 512
#: How long a connection may take to end by itself, in seconds.
_GOODBYE: Final = 1.0
_SWITCHING: Final = range(101, 102)
_REFUSAL: Final = 65_536
_URL: Final = re.compile(r"(wss?://[^/?#]+)(/[!\"$-~]*)?")
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3

_OnMessage: TypeAlias = Callable[[bytes], None]
_OnClosed: TypeAlias = Callable[[str], None]


class WebSocket(asyncio.Protocol):
    """An open websocket, made by :func:`open_websocket`.

    Args:
        layers: the transports, uppermost first.
        on_message: is called with each text or binary message.
        on_closed: is called once, with the reason, when it has ended, whoever ended it.
        max_message: the largest message, in bytes.
    """

    def __init__(
        self,
        layers: tuple[asyncio.Transport, ...],
        *,
        on_message: _OnMessage,
        on_closed: _OnClosed,
        max_message: int,
    ) -> None:
        self._layers = layers
        self._transport = layers[0]
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_closed = on_closed
        self._reader = FrameReader(max_message)
        self._open = True
        self._pausing = False
        self._goodbye: asyncio.Future[None] | None = None
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether the websocket can be written to."""
        return self._open and self._goodbye is None

    def send(self, text: str) -> None:
        """Write a text, before this returns.

        Raises:
            NotSent: it is not open, or the peer reads nothing; nothing was written.
        """
        if not self.is_open or self._transport.is_closing():
            raise NotSent("the websocket is not open")
        if self._is_stuck():
            raise NotSent("the websocket's peer reads nothing")
        self._transport.write(encode_frame(TEXT, text.encode()))

    async def close(self, timeout: float = _GOODBYE) -> None:
        """Say goodbye, and end it when the peer has said so, too, or the time is up.

        Args:
            timeout: in seconds.
        """
        if not self._open:
            return
        if self._goodbye is None:
            self._goodbye = self._loop.create_future()
            if not self._is_stuck():
                self._transport.write(encode_frame(CLOSE, (1000).to_bytes(2, "big")))
        try:
            await asyncio.wait((self._goodbye,), timeout=timeout)
        finally:
            self.abort()

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()
        self._ended("closed here")

    # The event loop's side.

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        if not self._open:
            return
        self._reader.feed(data)
        if not self._pausing:
            self._handle_frames()

    def eof_received(self) -> None:
        """Take the end of the stream."""
        self._ended("the connection was closed")

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self._ended("the connection was closed" if exc is None else why(exc))

    def _handle_frames(self) -> None:
        """Handle the frames that are there; many of them in more than one piece of work."""
        for _ in range(_BATCH):
            try:
                frame = self._reader.next()
            except FrameError as error:
                self._leave(error.code, f"the peer breaks the protocol: {error.reason}")
                return
            if frame is None:
                return
            self._handle(*frame)
            if not self._open:
                return
        self._pausing = True
        self._transport.pause_reading()
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._pausing = False
        if self._open:
            self._handle_frames()
        if self._open and not self._pausing:
            self._transport.resume_reading()

    def _handle(self, opcode: int, payload: bytes) -> None:
        if opcode in (TEXT, BINARY):
            if self._goodbye is None:
                self._on_message(payload)
        elif opcode == PING:
            if self._is_stuck():
                self._transport.abort()
                self._ended("the peer reads nothing")
            elif self._goodbye is None:
                self._transport.write(encode_frame(PONG, payload))
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") or 1000
            self._leave(code, f"the peer closed it ({code})")

    def _leave(self, code: int, reason: str) -> None:
        """Tell the peer why, and end the connection as soon as that is written."""
        if self._goodbye is None and not self._is_stuck():
            self._transport.write(encode_frame(CLOSE, code.to_bytes(2, "big")))
        self._transport.close()
        self._loop.call_later(_GOODBYE, self._transport.abort)
        self._ended(reason)

    def _is_stuck(self) -> bool:
        waiting = sum(layer.get_write_buffer_size() for layer in self._layers)
        return waiting > _MOST_UNSENT

    def _ended(self, reason: str) -> None:
        if not self._open:
            return
        self._open = False
        if self._goodbye is not None and not self._goodbye.done():
            self._goodbye.set_result(None)
        self._on_closed(reason)


async def open_websocket(
    dialer: Dialer,
    url: str,
    headers: Mapping[str, str],
    *,
    on_message: _OnMessage,
    on_closed: _OnClosed,
    max_message: int,
) -> WebSocket:
    """Open a websocket on a connection of its own, within the dialer's ``connect_timeout``.

    Messages that come with the answer are passed on before this returns.

    Args:
        dialer: what opens the connection.
        url: where to.
        headers: of the upgrade request, beside those that it must have.
        on_message: is called with each text or binary message.
        on_closed: is called once, with the reason, when it has ended, whoever ended it; not if this
            function raises.
        max_message: the largest message to be read, in bytes.

    Raises:
        VenueError: it was refused, or redirected, which is not followed.
        NotSent: there is no connection, or no answer on it: nothing was asked yet.
        ConfigurationError: the URL or a header can't be used.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigurationError("the URL of a websocket is such as wss://host/path")
    origin, target = found[1], found[2] or "/"
    upgrade = _Upgrade(on_message, on_closed, max_message)
    request = upgrade.encode(origin, target, headers)
    connection: Connection | None = None
    error: MassCancelError
    try:
        async with asyncio.timeout(dialer.connect_timeout):
            connection = await dialer.dial(origin, lambda: Connection(origin))
            result = await upgrade.ask(connection, request)
    except TimeoutError as problem:
        error = not_sent(origin, problem)
    else:
        if isinstance(result, WebSocket):
            return result
        error = result
    finally:
        if upgrade.websocket is None and connection is not None:
            connection.abort()
    raise error


class _Upgrade:
    """One attempt to change the protocol of a connection.

    Attributes:
        websocket: what came of it.
    """

    def __init__(self, on_message: _OnMessage, on_closed: _OnClosed, max_message: int) -> None:
        self._on_message = on_message
        self._on_closed = on_closed
        self._max_message = max_message
        self._key = base64.b64encode(secrets.token_bytes(16))
        self._given_up = False
        self.websocket: WebSocket | None = None

    def encode(self, origin: str, target: str, headers: Mapping[str, str]) -> bytes:
        """Encode the request."""
        extra = (
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {self._key.decode()}",
        )
        return encode_head(f"GET {target} HTTP/1.1", host_header(origin), headers, extra)

    async def ask(self, connection: Connection, request: bytes) -> WebSocket | MassCancelError:
        """Write the request and wait for what comes of it."""
        ended: asyncio.Future[WebSocket | MassCancelError]
        ended = asyncio.get_running_loop().create_future()

        def end(result: Reply | MassCancelError) -> None:
            outcome = self._take(connection, result)
            if not ended.done():
                ended.set_result(outcome)

        try:
            connection.write(request, max_reply=_REFUSAL, on_end=end, switch=_SWITCHING)
            return await ended
        except BaseException:
            if self.websocket is not None:  # nobody gets it
                self._given_up = True
                self.websocket.abort()
            raise

    def _take(
        self, connection: Connection, result: Reply | MassCancelError
    ) -> WebSocket | MassCancelError:
        """Take the answer; the frames begin right behind it."""
        if isinstance(result, MassCancelError):
            return NotSent(f"the websocket was not opened: {result.message}")
        if result.status not in _SWITCHING:
            kind = {401: AuthenticationError, 403: PermissionDenied, 429: RateLimited}
            return kind.get(result.status, VenueError)(
                message="the websocket was refused", http_status=result.status
            )
        if not self._fits(result):
            return NotSent(f"{connection.origin} could not be reached: it opened no websocket")
        layers, rest = connection.take_over()
        self.websocket = WebSocket(
            layers,
            on_message=self._on_message,
            on_closed=self._ended,
            max_message=self._max_message,
        )
        if rest:
            self.websocket.data_received(rest)
        return self.websocket

    def _ended(self, reason: str) -> None:
        if not self._given_up:
            self._on_closed(reason)

    def _fits(self, reply: Reply) -> bool:
        """Whether the answer is one to this very request, with nothing that was not asked for."""
        digest = hashlib.sha1(self._key + _MAGIC, usedforsecurity=False).digest()
        return (
            reply.headers.get("Upgrade", "").lower() == "websocket"
            and "upgrade" in reply.headers.get("Connection", "").lower()
            and reply.headers.get("Sec-WebSocket-Accept") == base64.b64encode(digest).decode()
            and "Sec-WebSocket-Extensions" not in reply.headers
            and "Sec-WebSocket-Protocol" not in reply.headers
        )
