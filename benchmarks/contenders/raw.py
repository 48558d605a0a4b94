"""The floor: a hand-written asyncio protocol that can do this one thing and trusts everything."""

import asyncio
import base64
import os
import time
from binascii import b2a_base64
from collections import deque
from collections.abc import Sequence
from hmac import digest
from typing import Any

import msgspec
from common import SECRET, Where, key_of

_KEY = SECRET.encode()
_DECODE = msgspec.json.Decoder().decode


def _sign(path: str) -> tuple[str, str]:
    timestamp = str(int(time.time() * 1000))
    mac = digest(_KEY, f"{timestamp}+{path}".encode(), "sha256")
    return timestamp, b2a_base64(mac, newline=False).decode()


class _Rest(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes]
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        start = self._buffer.find(b"Content-Length: ") + 16
        length = int(self._buffer[start : self._buffer.find(b"\r\n", start)])
        if len(self._buffer) >= end + 4 + length:
            self.answer.set_result(self._buffer[end + 4 : end + 4 + length])
            self._buffer = self._buffer[end + 4 + length :]


class Raw:
    """REST."""

    async def open(self, where: Where) -> None:
        """Connect as calls come."""
        self._loop = asyncio.get_running_loop()
        self._port = where.port
        self._idle: list[_Rest] = []
        self._head = (
            f"DELETE /0/api/pro/v1/cash/order/all HTTP/1.1\r\nHost: 127.0.0.1:{where.port}\r\n"
            f"Content-Type: application/json\r\nx-auth-key: {key_of(0)}\r\nx-auth-timestamp: "
        )

    async def call(self, symbol: str) -> None:
        """Cancel one symbol."""
        if self._idle:
            connection = self._idle.pop()
        else:
            _, connection = await self._loop.create_connection(_Rest, "127.0.0.1", self._port)
        timestamp, signature = _sign("order/all")
        body = f'{{"symbol":"{symbol}"}}'
        connection.answer = self._loop.create_future()
        connection.transport.write(
            f"{self._head}{timestamp}\r\nx-auth-signature: {signature}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        answer = _DECODE(await connection.answer)
        self._idle.append(connection)
        assert answer["code"] == 0

    async def burst(self, symbols: Sequence[str]) -> None:
        """Cancel all of them at once."""
        await asyncio.gather(*map(self.call, symbols))

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._idle:
            connection.transport.close()


class _Stream(asyncio.Protocol):
    """A websocket's client side, as little of it as it takes."""

    def __init__(self) -> None:
        self._buffer = b""
        self._upgraded = False
        self.ready = asyncio.get_running_loop().create_future()
        self.asked: deque[asyncio.Future[bytes]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._upgraded = True
            self._buffer = self._buffer[end + 4 :]
        while len(self._buffer) >= 2:
            length, start = self._buffer[1], 2
            if length == 126:
                length, start = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < start + length:
                return
            message = self._buffer[start : start + length]
            self._buffer = self._buffer[start + length :]
            if self.ready.done():
                self.asked.popleft().set_result(message)
            else:
                self.ready.set_result(message)

    def say(self, message: bytes) -> None:
        """Write one masked text frame."""
        length = len(message)
        mask = os.urandom(4)
        pad = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        masked = (int.from_bytes(message, "big") ^ pad).to_bytes(length, "big")
        size = bytes((0x80 | length,)) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
        self.transport.write(b"\x81" + size + mask + masked)


class RawStream:
    """Websocket."""

    async def open(self, where: Where) -> None:
        """Connect and log in."""
        self._loop = asyncio.get_running_loop()
        _, self._stream = await self._loop.create_connection(_Stream, "127.0.0.1", where.port)
        timestamp, signature = _sign("stream")
        self._stream.transport.write(
            (
                f"GET /0/api/pro/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{where.port}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
                f"x-auth-key: {key_of(0)}\r\nx-auth-timestamp: {timestamp}\r\n"
                f"x-auth-signature: {signature}\r\n\r\n"
            ).encode()
        )
        assert _DECODE(await self._stream.ready)["type"] == "auth"

    async def call(self, symbol: str) -> None:
        """Cancel one symbol; answers come in order."""
        answer = self._loop.create_future()
        self._stream.asked.append(answer)
        now = int(time.time() * 1000)
        self._stream.say(
            b'{"op":"req","action":"cancel-All","account":"cash","args":{"time":%d,"symbol":"%s"}}'
            % (now, symbol.encode())
        )
        assert _DECODE(await answer)["status"] == "Ack"

    async def burst(self, symbols: Sequence[str]) -> None:
        """Cancel all of them at once."""
        await asyncio.gather(*map(self.call, symbols))

    async def close(self) -> None:
        """Close the connection."""
        self._stream.transport.close()
