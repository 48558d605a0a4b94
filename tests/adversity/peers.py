"""Peers of the tests' own: a server that says what it is told, and ports where nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable


class Seen(NamedTuple):
    """A request as it arrived."""

    connection: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """The header's value, empty if it is not there."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return ""


def reset(transport: asyncio.BaseTransport) -> None:
    """End a connection by RST instead of FIN."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert isinstance(transport, asyncio.Transport)
    transport.abort()


class Peer:
    """A server on loopback: an async context manager that records whatever arrives.

    `answer` gets each request and the writer of its connection, and writes what it likes. It may be
    a coroutine function. `greet`, if given, gets the writer of every new connection first.
    """

    def __init__(
        self,
        answer: Callable[[Seen, asyncio.StreamWriter], Any],
        *,
        greet: Callable[[asyncio.StreamWriter], Any] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._answer = answer
        self._greet = greet
        self._tls = tls
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stirred = asyncio.Event()
        self.seen: list[Seen] = []
        self.accepted = 0
        self.open: set[int] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        if self._tasks:
            await asyncio.wait([*self._tasks])
        await self._server.wait_closed()

    @property
    def rest_url(self) -> str:
        """Its origin."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds; looks whenever something arrives or ends here."""
        async with asyncio.timeout(10):
            while not condition():
                self._stirred.clear()
                await self._stirred.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        number = self.accepted
        self.open.add(number)
        try:
            if self._greet is not None:
                await _finished(self._greet(writer))
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                seen = Seen(number, head, body)
                self.seen.append(seen)
                self._stirred.set()
                await _finished(self._answer(seen, writer))
        except (EOFError, OSError, asyncio.CancelledError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.transport.abort() if task.cancelling() else writer.close()
            self.open.discard(number)
            self._tasks.discard(task)
            self._stirred.set()


async def _finished(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


def http(
    body: bytes, *headers: str, status: str = "200 OK", length: int | str | None = None
) -> bytes:
    """A reply as it goes over the wire; `length` is what it claims of its body."""
    lines = [f"HTTP/1.1 {status}", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def ack(seen: Seen, *, info: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A true acknowledgement of the request, apart from the changes."""
    asked = json.loads(seen.body) if seen.body else {}
    data: dict[str, Any] = {
        "ac": "CASH",
        "accountId": "a-cash-account",
        "action": "cancel-all",
        "status": "Ack",
        "info": {
            "id": asked.get("id", ""),
            "orderId": "",
            "orderType": "",
            "symbol": asked.get("symbol", ""),
            "timestamp": int(time.time() * 1000),
        }
        | (info or {}),
    }
    return {"code": 0, "data": data | changes}


def ack_bytes(seen: Seen, **changes: Any) -> bytes:
    """The body of `ack`."""
    return json.dumps(ack(seen, **changes)).encode()


@contextlib.asynccontextmanager
async def full_backlog() -> AsyncIterator[int]:
    """A port on which connecting hangs: its queue is full and nobody accepts (Linux)."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)  # the socket module's own
            connecting = asyncio.create_task(loop.sock_connect(sock, listening.getsockname()))
            done, _ = await asyncio.wait({connecting}, timeout=0.02)
            stack.callback(connecting.cancel)
            if not done:
                break
        yield listening.getsockname()[1]


@contextlib.contextmanager
def free_port() -> Any:
    """A port on which nobody listens, and that nobody takes meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.asynccontextmanager
async def frozen_port() -> AsyncIterator[int]:
    """A port that accepts connections, and neither reads nor writes on them."""
    loop = asyncio.get_running_loop()
    taken: list[socket.socket] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        listening.setblocking(False)  # the socket module's own

        async def accept() -> None:
            while True:
                taken.append((await loop.sock_accept(listening))[0])

        accepting = asyncio.create_task(accept())
        try:
            yield listening.getsockname()[1]
        finally:
            accepting.cancel()
            await asyncio.wait({accepting})
            for sock in taken:
                sock.close()
