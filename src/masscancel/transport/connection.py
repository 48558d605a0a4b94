"""One HTTP/1.1 connection: one request in flight, exactly one reply for it."""

import asyncio
import logging
import select
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from masscancel.calls import Reply, Request
from masscancel.errors import MassCancelError, NotSent, OutcomeUnknown, ProtocolError
from masscancel.transport.encoding import encode_request, host_header
from masscancel.transport.failures import why
from masscancel.transport.parser import NO_SWITCH, ReplyParser

__all__ = ["Connection", "OnEnd"]

log = logging.getLogger("masscancel")

OnEnd: TypeAlias = Callable[[Reply | MassCancelError], None]
_Listener: TypeAlias = Callable[["Connection"], None]


def _nothing(_: "Connection") -> None:
    pass


class Connection(asyncio.Protocol):
    """One connection to an origin, made by a dialer.

    Whatever arrives while no reply is awaited ends the connection: such bytes are never taken for
    the reply to the next request.

    Args:
        origin: where it goes, such as ``https://host:8443``.
        on_idle: is called with the connection each time that it may be used again.
        on_closed: is called with the connection once, when it has ended, whoever ended it.

    Attributes:
        origin: where it goes.
        reused: whether it has answered before.
    """

    __slots__ = (
        "_answering",
        "_host",
        "_layers",
        "_on_closed",
        "_on_end",
        "_on_idle",
        "_open",
        "_parser",
        "_poll",
        "_switch",
        "_transport",
        "origin",
        "reused",
    )

    def __init__(
        self, origin: str, *, on_idle: _Listener = _nothing, on_closed: _Listener = _nothing
    ) -> None:
        self.origin = origin
        self.reused = False
        self._host = host_header(origin)
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._parser = ReplyParser()
        self._switch = NO_SWITCH
        self._on_end: OnEnd | None = None
        self._answering = False
        self._open = True
        self._poll: Callable[[int], list[Any]] | None = None
        self._transport: asyncio.Transport | None = None
        self._layers: tuple[asyncio.Transport, ...] = ()

    # The owner's side.

    def start(self, transport: asyncio.Transport, *under: asyncio.Transport) -> None:
        """Begin to use a transport; TLS is one that has others under it. The dialer does this."""
        self._transport = transport
        self._layers = (transport, *under)
        sock = self._layers[-1].get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0 and hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock.fileno(), select.POLLIN)
            self._poll = poll.poll

    @property
    def is_closing(self) -> bool:
        """Whether the connection has ended."""
        return not self._open

    @property
    def is_idle(self) -> bool:
        """Whether the connection is open and no reply is awaited; see also :meth:`usable`."""
        return (
            self._open
            and self._on_end is None
            and self._transport is not None
            and not self._transport.is_closing()
        )

    @property
    def has_unread(self) -> bool:
        """Whether the kernel holds something for it that the event loop has yet to read."""
        return self._poll is not None and bool(self._poll(0))

    @property
    def written_whole(self) -> bool:
        """Whether nothing of what was written still waits in this process."""
        return not any(layer.get_write_buffer_size() for layer in self._layers)

    def usable(self) -> bool:
        """Tell whether a request may be sent: open, idle, and nothing has arrived."""
        return self.is_idle and not self.has_unread

    def send(self, request: Request, *, max_reply: int, on_end: OnEnd) -> None:
        """Write a request, before this returns, in one piece.

        Args:
            request: what.
            max_reply: the most bytes of the reply's body.
            on_end: is called once, from the event loop, with the reply, or with the error:
                ``OutcomeUnknown`` if the connection broke, ``ProtocolError`` if the reply can't be
                one. After that the connection is idle, unless it has ended.

        Raises:
            ConfigurationError: the request can't be written; nothing was.
            NotSent: the connection is not usable; nothing was written.
        """
        self.write(encode_request(request, self._host), max_reply=max_reply, on_end=on_end)

    def write(
        self, data: bytes, *, max_reply: int, on_end: OnEnd, switch: range = NO_SWITCH
    ) -> None:
        """Write an encoded request, as :meth:`send` does.

        Args:
            data: the request.
            max_reply: as for :meth:`send`.
            on_end: as for :meth:`send`.
            switch: statuses with which the peer changes the protocol, as was asked. The connection
                is then neither idle nor closed: whoever asked takes the transport over with
                :meth:`take_over`, within ``on_end``.

        Raises:
            NotSent: the connection is not usable; nothing was written.
        """
        if not self.usable() or self._transport is None:
            raise NotSent(f"the connection to {self.origin} is not usable")
        self._on_end = on_end
        self._switch = switch
        self._answering = False
        self._parser.begin(max_reply, switch)
        self._transport.write(data)

    def take_over(self) -> tuple[tuple[asyncio.Transport, ...], bytes]:
        """Give the transports away, uppermost first, and what came behind the head."""
        layers, self._layers, self._transport = self._layers, (), None
        self._open = False
        self._poll = None
        return layers, self._parser.rest

    def abort(self) -> None:
        """End the connection now, without TLS's goodbye. ``on_end`` is not called any more."""
        self._on_end = None
        self._end()

    def lose(self, reason: str) -> None:
        """End the connection now; who waits for a reply on it is told why there won't be one."""
        if self._on_end is None:
            self._end()
        else:
            self._fail(OutcomeUnknown(f"{self.origin} gave no usable answer: {reason}"))

    def close(self) -> None:
        """End an idle connection, with TLS's goodbye, for which nobody waits."""
        if self.is_idle and self._transport is not None:
            self._transport.close()
        self.abort()

    # The event loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to use the transport, which has none under it."""
        self.start(cast("asyncio.Transport", transport))  # uvloop's are of no such class

    def data_received(self, data: bytes) -> None:
        """Take a reply, or end the connection."""
        if self._on_end is None:
            log.debug("%d bytes that nobody asked for: the connection ends", len(data))
            self._end()
            return
        if not self._answering:
            self._answering = True
            if not self.written_whole:
                self._fail(ProtocolError("a reply began before the request had left"))
                return
        try:
            reply = self._parser.feed(data)
        except ProtocolError as error:
            self._fail(error)
            return
        if reply is not None:
            self._answer(reply)

    def eof_received(self) -> None:
        """Take the end of the stream: a reply without a length may end with it."""
        self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self._finish(exc)

    def _answer(self, reply: Reply) -> None:
        on_end = self._on_end
        self._on_end = None
        switched = reply.status in self._switch
        may_stay = self._parser.keep_alive and not self._parser.rest and self._open
        if not (switched or may_stay):
            self._end()
        if on_end is not None:
            on_end(reply)  # first: whoever finds that the reply is another's ends the connection
        if switched:
            self._end()  # unless somebody took over
        elif self._open:
            self.reused = True
            if self._on_end is None:  # unless the next request was sent from within the answer
                self._on_idle(self)

    def _fail(self, error: MassCancelError) -> None:
        on_end = self._on_end
        self._on_end = None
        self._end()
        if on_end is not None:
            on_end(error)

    def _finish(self, exc: Exception | None) -> None:
        if self._on_end is None:
            self._end()
            return
        reply = self._parser.feed_eof() if exc is None else None
        if reply is not None:
            self._answer(reply)
            return
        if exc is None:
            reason = "the reply was cut short" if self._answering else "the connection was closed"
        else:
            reason = why(exc)
        self._fail(OutcomeUnknown(f"{self.origin} gave no usable answer: {reason}"))

    def _end(self) -> None:
        """End the connection once, and say so."""
        if not self._open:
            return
        self._open = False
        self._poll = None
        if self._transport is not None:
            self._transport.abort()
        self._transport, self._layers = None, ()  # a ring of garbage each, in asyncio
        self._on_closed(self)
