"""Parse HTTP/1.1 replies: heads with aiohttp's parser, bodies here.

The only module that touches aiohttp's parser, the compiled one or the one in Python. It is given
one whole head at a time and no body, so that it needs no stream, no flow control and no event loop,
and so that the size of everything is bounded here.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp.hdrs import CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser

from masscancel.calls import Reply
from masscancel.errors import ProtocolError

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

__all__ = ["LARGEST_HEAD", "LARGEST_UNFRAMED", "MOST_INTERIM", "NO_SWITCH", "ReplyParser"]

#: Bytes of one head, and of the trailers.
LARGEST_HEAD: Final = 65_536
#: Bytes of a body that ends with the connection: its JSON is checked in one piece.
LARGEST_UNFRAMED: Final = 8 * 1024 * 1024
#: How many 1xx replies may come before the reply.
MOST_INTERIM: Final = 8
#: No status ends HTTP on the connection.
NO_SWITCH: Final = range(0)

_MAX_LINE: Final = 8_190
_MAX_HEADERS: Final = 128
_MAX_DIGITS: Final = 15
_MAX_CHUNK_LINE: Final = 256
_FREE_CHUNKS: Final = 1_024
_SMALLEST_CHUNK: Final = 64
_NO_BODY: Final = frozenset({204, 304})
_SWITCHING: Final = 101
_OK: Final = 200
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_JSON: Final = msgspec.json.Decoder(msgspec.Raw)

# What the next bytes are.
_HEAD, _LENGTH, _CHUNK_LINE, _CHUNK, _CHUNK_END, _TRAILERS, _UNTIL_EOF, _DONE = range(8)


class _NoFlow:
    """Stands for the protocol that aiohttp's parser in Python would pause."""

    connected = True

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self, *, resume_parser: bool = True) -> None:
        """Do nothing."""


_PROTOCOL: Final[Any] = _NoFlow()
_LOOP: Final[Any] = object()  # aiohttp asks for the running loop where there is none


class ReplyParser:
    """Parses one reply after another; knows no socket.

    Attributes:
        keep_alive: whether the connection may be used again, once a reply is complete.
        rest: what came behind the reply; never part of another one.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_headers",
        "_heads",
        "_interim",
        "_left",
        "_max_reply",
        "_scanned",
        "_state",
        "_status",
        "_switch",
        "keep_alive",
        "rest",
    )

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body = bytearray()
        self._heads = HttpResponseParser(
            _PROTOCOL,
            _LOOP,
            LARGEST_HEAD,
            max_line_size=_MAX_LINE,
            max_headers=_MAX_HEADERS,
            max_field_size=_MAX_LINE,
            response_with_body=False,
            auto_decompress=False,
        )
        self.begin(0)

    def begin(self, max_reply: int, switch: range = NO_SWITCH) -> None:
        """Expect the next reply.

        Args:
            max_reply: the most bytes of body.
            switch: statuses after whose head the connection is no longer HTTP's: ``rest`` is then
                of the other protocol.
        """
        self._state = _HEAD
        self._max_reply = max_reply
        self._switch = switch
        if self._buffer:
            self._buffer = bytearray()
        if self._body:
            self._body = bytearray()
        self._scanned = 0
        self._left = 0
        self._chunks = 0
        self._interim = 0
        self._status = 0
        self._headers: CIMultiDictProxy[str] | None = None
        self.keep_alive = False
        self.rest = b""

    @property
    def done(self) -> bool:
        """Whether the reply is complete."""
        return self._state == _DONE

    def feed(self, data: bytes) -> Reply | None:
        """Parse what has arrived; return the reply once it is complete.

        Raises:
            ProtocolError: it is not valid HTTP, or too large.
        """
        if self._state == _HEAD:
            if self._buffer:
                self._buffer += data
                data = b""
            return self._feed_head(data)
        if self._state == _LENGTH:
            return self._feed_length(data)
        if self._state == _UNTIL_EOF:
            self._feed_until_eof(data)
            return None
        if self._state == _DONE:
            self.rest += data
            return None
        self._buffer += data
        return self._feed_chunks()

    def feed_eof(self) -> Reply | None:
        """Return the reply if it ends with the connection and is whole; ``None`` if it is cut.

        Only an object or an array of JSON shows where it ends.
        """
        if self._state != _UNTIL_EOF or not self._body.startswith((b"{", b"[")):
            return None
        body = bytes(self._body)
        try:
            _JSON.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return None
        return self._complete(body, b"")

    # The head.

    def _feed_head(self, data: bytes) -> Reply | None:
        """Parse the head, from ``data`` if nothing had come before, else from the buffer."""
        found: bytes | bytearray = data or self._buffer
        while True:
            end = found.find(b"\r\n\r\n", max(0, self._scanned - 3))
            if end > LARGEST_HEAD or (end < 0 and len(found) > LARGEST_HEAD):
                raise _bad("its head is too large")
            if end < 0:
                self._wait_for_head(found)
                return None
            head, rest = bytes(found[: end + 4]), bytes(found[end + 4 :])
            if found is self._buffer:
                self._buffer = bytearray()
            self._scanned = 0
            status = self._parse_head(head)
            if status >= _OK or status in self._switch:
                return self._begin_body(rest)
            self._skip_interim(status)
            found = rest

    def _wait_for_head(self, found: bytes | bytearray) -> None:
        """Keep the beginning of a head, if it is one."""
        if not b"HTTP/1.".startswith(bytes(found[:7])):
            raise _bad("it does not begin as one")
        if found.find(b"\n\n", max(0, self._scanned - 1)) >= 0:
            raise _bad("its lines do not end as HTTP's do")
        if found is not self._buffer:
            self._buffer = bytearray(found)
        self._scanned = len(found)

    def _skip_interim(self, status: int) -> None:
        self._interim += 1
        if status == _SWITCHING:
            raise _bad("it changes the protocol, unasked")
        if self._interim > MOST_INTERIM:
            raise _bad("too many interim replies")

    def _parse_head(self, head: bytes) -> int:
        """Let aiohttp parse one head; return its status."""
        lines = head.count(b"\n")
        if not lines == head.count(b"\r\n") == head.count(b"\r") or b"\0" in head:
            raise _bad("stray control characters in its head")
        if b"\n " in head or b"\n\t" in head:
            raise _bad("a folded header")
        try:
            messages, _, behind = self._heads.feed_data(head)
        except (HttpProcessingError, ValueError):
            messages, behind = [], b""
        if len(messages) != 1 or behind:
            raise _bad("its head can't be parsed")
        message = messages[0][0]
        if message.version[0] != 1:
            raise _bad("not HTTP/1")
        if message.version[1] == 0 and TRANSFER_ENCODING in message.headers:
            raise _bad("chunks in HTTP/1.0")
        self._status = message.code
        self._headers = message.headers
        self.keep_alive = not message.should_close
        return message.code

    # The body.

    def _begin_body(self, rest: bytes) -> Reply | None:
        """Find out how the body ends, and take what is there of it."""
        assert self._headers is not None  # noqa: S101  # for the type checker: it has been parsed
        headers = self._headers
        lengths = headers.getall(CONTENT_LENGTH, ())
        codings = headers.getall(TRANSFER_ENCODING, ())
        if self._status in self._switch or self._status in _NO_BODY:
            return self._complete(b"", rest)
        encoding = headers.get(CONTENT_ENCODING)
        if encoding is not None and encoding.lower() != "identity":
            raise _bad("compressed, though nobody asked for that")
        if codings:
            if lengths or len(codings) > 1 or codings[0].lower() != "chunked":
                raise _bad("it is framed in more than one way")
            self._state = _CHUNK_LINE
            self._buffer += rest
            return self._feed_chunks()
        if not lengths:
            self.keep_alive = False
            self._state = _UNTIL_EOF
            self._feed_until_eof(rest)
            return None
        length = lengths[0]
        if len(lengths) > 1 or not (length.isascii() and length.isdigit()):
            raise _bad("its length is not one number")
        self._left = int(length) if len(length) <= _MAX_DIGITS else self._max_reply + 1
        self._check_size(self._left)
        if len(rest) == self._left:  # in one segment, as nearly all are
            return self._complete(rest, b"")
        self._state = _LENGTH
        return self._feed_length(rest)

    def _feed_length(self, data: bytes) -> Reply | None:
        self._left -= len(data)
        if self._left > 0:
            self._body += data
            return None
        end = len(data) + self._left
        self._body += data[:end]
        return self._complete(bytes(self._body), data[end:])

    def _feed_until_eof(self, data: bytes) -> None:
        self._check_size(len(self._body) + len(data))
        if len(self._body) + len(data) > LARGEST_UNFRAMED:
            raise _bad("too large for one without a length")
        self._body += data

    def _feed_chunks(self) -> Reply | None:
        """Take the chunks that are there, whole or in part."""
        buffer, at = self._buffer, 0
        while True:
            if self._state == _CHUNK:
                piece = buffer[at : at + self._left]
                self._body += piece
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._state = _CHUNK_END
            if self._state == _CHUNK_END:
                if len(buffer) - at < 2:  # noqa: PLR2004  # CR and LF
                    break
                if buffer[at : at + 2] != b"\r\n":
                    raise _bad("a chunk is longer than it says")
                at += 2
                self._state = _CHUNK_LINE
            if self._state == _TRAILERS:
                return self._feed_trailers(at)
            end = buffer.find(b"\r\n", at, at + _MAX_CHUNK_LINE)
            if end < 0:
                if len(buffer) - at >= _MAX_CHUNK_LINE:
                    raise _bad("a chunk's first line is too long")
                break
            self._begin_chunk(buffer[at:end])
            at = end + 2
        del buffer[:at]
        return None

    def _begin_chunk(self, line: bytearray) -> None:
        """Read the length of a chunk; what stands behind a semicolon means nothing here."""
        size, _, extension = line.partition(b";")
        digits = size.rstrip(b" \t")
        if not (0 < len(digits) <= _MAX_DIGITS and _HEX.issuperset(digits)):
            raise _bad("a chunk's length is no number")
        if b"\n" in extension or b"\r" in extension:
            raise _bad("a chunk's length is no number")
        self._left = int(digits, 16)
        self._check_size(len(self._body) + self._left)
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + len(self._body) // _SMALLEST_CHUNK:
            raise _bad("cut into too many chunks")
        self._state = _CHUNK if self._left else _TRAILERS
        self._scanned = 0

    def _feed_trailers(self, at: int) -> Reply | None:
        """Skip the trailers: nothing here reads them."""
        buffer = self._buffer
        del buffer[:at]
        if buffer.startswith(b"\r\n"):
            return self._complete(bytes(self._body), bytes(buffer[2:]))
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end > LARGEST_HEAD or (end < 0 and len(buffer) > LARGEST_HEAD):
            raise _bad("its trailers are too large")
        self._scanned = len(buffer)
        if end < 0:
            return None
        return self._complete(bytes(self._body), bytes(buffer[end + 4 :]))

    def _check_size(self, size: int) -> None:
        if size > self._max_reply:
            raise ProtocolError(f"the reply is larger than {self._max_reply} bytes")

    def _complete(self, body: bytes, rest: bytes) -> Reply:
        assert self._headers is not None  # noqa: S101  # for the type checker: it has been parsed
        reply = Reply(self._status, self._headers, body)
        self._state = _DONE
        self._headers = None
        self.rest = rest
        return reply


def _bad(reason: str) -> ProtocolError:
    return ProtocolError(f"the reply is not valid HTTP: {reason}")
