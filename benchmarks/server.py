"""A loopback server that speaks just enough AscendEX, fast enough not to be the bottleneck.

One hand-written asyncio protocol, on uvloop where it is installed: HTTP/1.1 and, after an upgrade,
RFC 6455, in clear text and with TLS. Every cancel-all's signature is checked and its symbol and id
are echoed, so that no contender gets away with less. ``/control`` sets faults and reads counters.

Prints its ports, then serves until its standard input ends.
"""

import asyncio
import base64
import functools
import hashlib
import hmac
import random
import ssl
import sys
import time
from collections import Counter
from typing import Any

import msgspec
import trustme
from common import SECRET, pin

try:
    import uvloop
except ImportError:  # a slower server; the report says which it was
    uvloop = None  # type: ignore[assignment]

_WS_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class Settings(msgspec.Struct):
    """What ``/control`` sets. Times are in seconds.

    Attributes:
        stall_share: the share of cancel-alls that are answered ``stall`` later.
        stall: how much later.
        hold_listings: how long a listing of open orders takes.
    """

    stall_share: float = 0.0
    stall: float = 0.0
    hold_listings: float = 0.0


class Control(msgspec.Struct):
    """A command on ``/control``; answered with the counters since the last ``reset``."""

    settings: Settings | None = None
    reset: bool = False


class Body(msgspec.Struct):
    """A cancel-all's body, or its arguments on the stream."""

    id: str = ""
    symbol: str = ""


class Saying(msgspec.Struct):
    """A message on the stream."""

    op: str
    id: str = ""
    action: str = ""
    account: str = ""
    ch: str = ""
    args: Body | None = None


_CONTROL = msgspec.json.Decoder(Control)
_BODY = msgspec.json.Decoder(Body)
_SAYING = msgspec.json.Decoder(Saying)


class Exchange:
    """What all connections share."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.counts: Counter[str] = Counter()
        self.arrivals: list[int] = []
        self.draw = random.Random(7).random  # noqa: S311  # the same stalls in every run

    def control(self, command: Control) -> dict[str, Any]:
        """Carry a command out; tell the counters."""
        if command.settings is not None:
            self.settings = command.settings
        told = {"counts": dict(self.counts), "arrivals": self.arrivals[-1000:]}
        if command.reset:
            self.counts.clear()
            self.arrivals.clear()
        return told

    def cancel(self) -> float:
        """Count a cancel-all; returns after how long to answer it."""
        self.arrivals.append(time.monotonic_ns())
        self.counts["cancel"] += 1
        if self.settings.stall_share and self.draw() < self.settings.stall_share:
            self.counts["stalled"] += 1
            return self.settings.stall
        return 0.0


@functools.lru_cache(maxsize=4096)
def _mac(timestamp: bytes, api_path: bytes) -> bytes:
    mac = hmac.digest(SECRET.encode(), timestamp + b"+" + api_path, "sha256")
    return base64.b64encode(mac)


def _header(head: bytes, name: bytes) -> bytes:
    """A header's value; names come in any case."""
    start = head.lower().find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._buffer = b""
        self._websocket_group: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport
        if transport.get_extra_info("ssl_object") is not None:
            self._exchange.counts["handshakes"] += 1

    def data_received(self, data: bytes) -> None:
        """Take whole requests or frames off the buffer."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer:
            took = self._frame() if self._websocket_group is not None else self._request()
            if not took:
                return
            self._buffer = self._buffer[took:]

    # REST.

    def _request(self) -> int:
        """Answer one request, if it is there whole; returns its length."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return 0
        head = buffer[:end]
        length = int(_header(head, b"content-length") or 0)
        took = end + 4 + length
        if len(buffer) < took:
            return 0
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        self._answer(method, target.partition(b"?")[0], head, buffer[end + 4 : took])
        return took

    def _answer(self, method: bytes, path: bytes, head: bytes, body: bytes) -> None:
        exchange = self._exchange
        if method == b"DELETE":
            self._cancel(path, head, body)
        elif path.endswith(b"/exchange-info"):
            exchange.counts["clock"] += 1
            self._reply(b'{"code":0,"data":{"requestReceiveAt":%d}}' % (time.time() * 1000))
        elif path.endswith(b"/order/open"):
            exchange.counts["open"] += 1
            self._reply(b'{"ac":"CASH","code":0,"data":[]}', exchange.settings.hold_listings)
        elif path.endswith(b"/stream"):
            self._upgrade(path, head)
        elif path == b"/control":
            self._reply(msgspec.json.encode(exchange.control(_CONTROL.decode(body))))
        else:
            self._reply(b'{"code":100001,"message":"no such path"}')

    def _cancel(self, path: bytes, head: bytes, body: bytes) -> None:
        _, group, _, _, _, category, _ = path.split(b"/", 6)
        asked = _BODY.decode(body) if body else Body()
        signed = _mac(_header(head, b"x-auth-timestamp"), b"order/all")
        if _header(head, b"x-auth-signature") != signed:
            self._exchange.counts["refused"] += 1
            self._reply(b'{"code":200001,"message":"Signature does not match"}')
            return
        delay = self._exchange.cancel()
        self._reply(
            b'{"code":0,"data":{"ac":"%s","accountId":"account-%s","action":"cancel-all","info":'
            b'{"id":"%s","orderId":"","orderType":"","symbol":"%s","timestamp":%d},'
            b'"status":"Ack"}}'
            % (
                category.upper(),
                group,
                asked.id.encode(),
                asked.symbol.encode(),
                time.time() * 1000,
            ),
            delay,
        )

    def _reply(self, body: bytes, delay: float = 0.0) -> None:
        self._write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body),
            delay,
        )

    def _write(self, data: bytes, delay: float) -> None:
        if delay:
            asyncio.get_running_loop().call_later(delay, self._write, data, 0.0)
        elif not self._transport.is_closing():
            self._transport.write(data)

    # The stream.

    def _upgrade(self, path: bytes, head: bytes) -> None:
        token = hashlib.sha1(_header(head, b"sec-websocket-key") + _WS_GUID)  # noqa: S324  # RFC 6455
        self._websocket_group = path.split(b"/")[1].decode()
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % base64.b64encode(token.digest())
        )
        signed = _mac(_header(head, b"x-auth-timestamp"), b"stream")
        kind = "auth" if _header(head, b"x-auth-signature") == signed else "unauth"
        self._say({"m": "connected", "type": kind})

    def _frame(self) -> int:
        """Take one masked frame, if it is there whole; returns its length."""
        buffer = self._buffer
        if len(buffer) < 6:
            return 0
        length = buffer[1] & 0x7F
        start = 6
        if length == 126:
            length = int.from_bytes(buffer[2:4], "big")
            start = 8
        assert length < 1 << 16, "no client says so much"
        took = start + length
        if len(buffer) < took:
            return 0
        mask = buffer[start - 4 : start] * (length // 4 + 1)
        masked = int.from_bytes(buffer[start:took], "big")
        payload = (masked ^ int.from_bytes(mask[:length], "big")).to_bytes(length, "big")
        opcode = buffer[0] & 0x0F
        if opcode == _TEXT:
            self._heard(payload)
        elif opcode == _PING:
            self._send_frame(_PONG, payload, 0.0)
        elif opcode == _CLOSE:
            self._send_frame(_CLOSE, payload[:2], 0.0)
            self._transport.close()
        return took

    def _heard(self, payload: bytes) -> None:
        said = _SAYING.decode(payload)
        if said.op == "req" and said.args is not None:
            assert self._websocket_group is not None
            delay = self._exchange.cancel()
            text = b'{"m":"order","accountId":"account-%s","ac":"%s","action":"cancel-all",' % (
                self._websocket_group.encode(),
                said.account.upper().encode(),
            )
            text += b'"status":"Ack","info":{"symbol":"%s","orderId":"","id":"%s",' % (
                said.args.symbol.encode(),
                said.args.id.encode(),
            )
            self._send_frame(_TEXT, text + b'"timestamp":%d}}' % (time.time() * 1000), delay)
        elif said.op == "ping":
            self._say({"m": "pong", "code": 0})
        elif said.op == "sub":
            self._say({"m": "sub", "id": said.id, "ch": said.ch, "code": 0})
        elif said.op == "auth":
            self._say({"m": "auth", "id": said.id, "code": 0})

    def _say(self, message: dict[str, Any]) -> None:
        self._send_frame(_TEXT, msgspec.json.encode(message), 0.0)

    def _send_frame(self, opcode: int, payload: bytes, delay: float) -> None:
        length = len(payload)
        size = bytes((length,)) if length < 126 else b"\x7e" + length.to_bytes(2, "big")
        self._write(bytes((0x80 | opcode,)) + size + payload, delay)


async def serve() -> None:
    """Listen on free ports, say which, and serve until standard input ends."""
    exchange = Exchange()
    loop = asyncio.get_running_loop()
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ports = []
    for tls in (None, context):
        server = await loop.create_server(
            lambda: Connection(exchange), "127.0.0.1", 0, backlog=2048, ssl=tls
        )
        ports.append(server.sockets[0].getsockname()[1])
    hello = {
        "port": ports[0],
        "tls_port": ports[1],
        "authority": authority.cert_pem.bytes().decode(),
        "uvloop": uvloop is not None,
    }
    print(msgspec.json.encode(hello).decode(), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve, on the core whose number is the argument, if there is one."""
    pin(int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] != "None" else None)
    if uvloop is not None:
        uvloop.run(serve())
    else:
        asyncio.run(serve())


if __name__ == "__main__":
    main()
