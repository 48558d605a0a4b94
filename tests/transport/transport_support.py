"""What the tests of the transport share: a transport without a socket, servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import uvloop
from aiohttp import http_parser

from masscancel.calls import Reply, Request
from masscancel.errors import MassCancelError
from masscancel.transport import parser
from masscancel.transport.connection import Connection

if TYPE_CHECKING:
    import trustme

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Loop: TypeAlias = Callable[[Any], Any]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CANCEL = Request("DELETE", "/orders", {"x-key": "k"})

#: Run a coroutine on either kind of event loop.
LOOPS = pytest.mark.parametrize(
    "run", [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]
)


@pytest.fixture(
    params=[
        pytest.param("HttpResponseParserC", id="compiled"),
        pytest.param("HttpResponseParserPy", id="python"),
    ],
)
def heads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse heads with either of aiohttp's parsers."""
    kind = getattr(http_parser, request.param, None)
    if kind is None:
        pytest.skip("aiohttp has no compiled parser here")
    monkeypatch.setattr(parser, "HttpResponseParser", kind)


class FakeTransport(asyncio.Transport):
    """A transport that keeps what is written, and goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.waiting = 0
        self.aborted = False
        self.closed = False

    def write(self, data: Any) -> None:
        """Keep what is written."""
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        """Say how much waits, as the test has it."""
        return self.waiting

    def is_closing(self) -> bool:
        """Whether it was ended."""
        return self.aborted or self.closed

    def abort(self) -> None:
        """Keep that it was."""
        self.aborted = True

    def close(self) -> None:
        """Keep that it was."""
        self.closed = True


class Seen:
    """A connection over a transport without a socket, and what it said to its owner."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.transport = FakeTransport()
        self.connection = Connection(
            "http://127.0.0.1:80",
            on_idle=lambda _: self.events.append("idle"),
            on_closed=lambda _: self.events.append("closed"),
        )
        self.connection.connection_made(self.transport)

    def send(self, max_reply: int = 65_536) -> None:
        """Send a cancel."""
        self.connection.send(CANCEL, max_reply=max_reply, on_end=self.events.append)

    def receive(self, *segments: bytes) -> None:
        """Let segments arrive."""
        for segment in segments:
            self.connection.data_received(segment)

    @property
    def reply(self) -> Reply:
        """The one reply."""
        (reply,) = (event for event in self.events if isinstance(event, Reply))
        return reply

    @property
    def error(self) -> MassCancelError:
        """The one error."""
        (error,) = (event for event in self.events if isinstance(event, MassCancelError))
        return error


@asynccontextmanager
async def serving(
    handler: Handler, tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Serve on a port of loopback; end every connection afterwards."""
    tasks: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError
            ):
                await handler(reader, writer)
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(handle, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in [*tasks]:
            task.cancel()
        if tasks:
            await asyncio.wait([*tasks])
        await asyncio.sleep(0)


async def request_head(reader: asyncio.StreamReader) -> bytes:
    """Read the head of a request."""
    return await reader.readuntil(b"\r\n\r\n")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request."""
    while True:
        await request_head(reader)
        writer.write(OK)


async def reply_of(
    connection: Connection, request: Request = CANCEL, *, max_reply: int = 65_536
) -> Reply:
    """Send a request and wait for its reply."""
    ended: asyncio.Future[Reply | MassCancelError] = asyncio.get_running_loop().create_future()
    connection.send(request, max_reply=max_reply, on_end=ended.set_result)
    result = await ended
    if isinstance(result, MassCancelError):
        raise result
    return result


def server_context(cert: trustme.LeafCert) -> ssl.SSLContext:
    """Serve TLS with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Trust one authority only."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def frame(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0) -> bytes:
    """Encode one frame of a server."""
    length = len(payload)
    first = bytes([(0x80 if fin else 0) | reserved | opcode])
    if length < 126:
        return first + bytes([length]) + payload
    if length < 65_536:
        return first + b"\x7e" + length.to_bytes(2, "big") + payload
    return first + b"\x7f" + length.to_bytes(8, "big") + payload
