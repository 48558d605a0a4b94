"""Encode and parse the frames of a websocket (RFC 6455), without extensions; knows no socket."""

import secrets
from typing import Final

__all__ = [
    "BINARY",
    "CLOSE",
    "PARTIAL",
    "PING",
    "PONG",
    "TEXT",
    "FrameError",
    "FrameReader",
    "encode_frame",
]

#: A frame of a message that is not complete yet.
PARTIAL: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_DATA: Final = frozenset({PARTIAL, TEXT, BINARY})
_CONTROL: Final = frozenset({CLOSE, PING, PONG})
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
_FIN: Final = 0x80
_RESERVED: Final = 0x70
_OPCODE: Final = 0x0F
_MASK: Final = 0x80
_LENGTH: Final = 0x7F
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127
_MAX_CONTROL: Final = 125


class FrameError(Exception):
    """The peer breaks the protocol, or a bound.

    Attributes:
        code: what the peer is told, such as 1002.
        reason: what was wrong, in words of ours.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameReader:
    """Parses what a server sends.

    Args:
        max_message: the largest message, all its frames together, in bytes.
    """

    __slots__ = ("_at", "_buffer", "_kind", "_max_message", "_message")

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._buffer = bytearray()
        self._at = 0
        self._kind = PARTIAL  # of the message that is not complete yet
        self._message = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def next(self) -> tuple[int, bytes] | None:
        """Return the next message or control frame; ``PARTIAL`` for a part; ``None`` for no more.

        Raises:
            FrameError: the peer breaks the protocol; nothing can be parsed after that.
        """
        buffer, at = self._buffer, self._at
        there = len(buffer) - at
        if there < 2:  # noqa: PLR2004  # the shortest frame
            return None
        first, length = buffer[at], buffer[at + 1]
        self._check(first, length)
        head = 2
        if length >= _TWO_BYTES:
            head = 4 if length == _TWO_BYTES else 10
            if there < head:
                return None
            length = int.from_bytes(buffer[at + 2 : at + head], "big")
        opcode = first & _OPCODE
        if opcode in _DATA and length + len(self._message) > self._max_message:
            raise FrameError(1009, f"a message is larger than {self._max_message} bytes")
        if there < head + length:
            return None
        start = at + head
        self._at = start + length
        payload = bytes(buffer[start : self._at])
        return self._take(first, opcode, payload)

    def _check(self, first: int, second: int) -> None:
        """Check the two bytes that every frame begins with."""
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise FrameError(1002, "a frame uses an extension that nobody agreed to")
        if second & _MASK:
            raise FrameError(1002, "a frame of the server is masked")
        if opcode in _CONTROL:
            if not first & _FIN or second & _LENGTH > _MAX_CONTROL:
                raise FrameError(1002, "a control frame is in parts, or too long")
        elif opcode not in _DATA:
            raise FrameError(1002, "a frame is of no known kind")
        elif (opcode == PARTIAL) != bool(self._kind):
            raise FrameError(1002, "the parts of a message are out of order")

    def _take(self, first: int, opcode: int, payload: bytes) -> tuple[int, bytes]:
        """Take a whole frame."""
        if opcode in _CONTROL:
            if opcode == CLOSE:
                _check_close(payload)
            return opcode, payload
        if not first & _FIN:
            self._kind = self._kind or opcode
            self._message += payload
            return PARTIAL, b""
        if self._kind:
            opcode, self._kind = self._kind, PARTIAL
            self._message += payload
            payload, self._message = bytes(self._message), bytearray()
        if opcode == TEXT and not payload.isascii():
            _check_utf8(payload)
        return opcode, payload


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """Encode one whole frame of a client, masked."""
    length = len(payload)
    if length < _TWO_BYTES:
        head = bytes((_FIN | opcode, _MASK | length))
    elif length < 0x1_0000:  # noqa: PLR2004  # what two bytes hold
        head = bytes((_FIN | opcode, _MASK | _TWO_BYTES)) + length.to_bytes(2, "big")
    else:
        head = bytes((_FIN | opcode, _MASK | _EIGHT_BYTES)) + length.to_bytes(8, "big")
    mask = secrets.token_bytes(4)
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    masked = int.from_bytes(payload, "big") ^ key
    return head + mask + masked.to_bytes(length, "big")


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    if int.from_bytes(payload[:2], "big") not in _CLOSE_CODES:  # one byte is none of them
        raise FrameError(1002, "a close frame has no valid code")
    _check_utf8(payload[2:])


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        valid = False
    else:
        valid = True
    if not valid:  # raised here, so that the error does not hold the message
        raise FrameError(1007, "a text is not UTF-8")
