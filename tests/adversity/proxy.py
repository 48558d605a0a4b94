"""A small proxy that cuts the wire: between a client and a server, as it is told, while it runs.

Each direction of each connection is treated by a plain function that gets a chunk and the wire, and
does with them what it likes::

    async with Proxy(exchange.port) as proxy:
        proxy.down = trickle(0.001)      # replies come a byte at a time from now on
        proxy.down = reset_after(20)     # 20 bytes of the reply, then a RST
        proxy.black_hole()               # packets vanish on every wire there is; none is closed
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, TypeAlias

from peers import reset

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Wire:
    """One connection through the proxy: the client's side and the server's."""

    def __init__(
        self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        #: Treatments of this wire alone, in place of the proxy's.
        self.up: Treatment | None = None
        self.down: Treatment | None = None
        self.bytes_up = 0
        self.bytes_down = 0
        self.client_has_gone = False

    def reset(self) -> None:
        """RST to both sides."""
        reset(self.client.transport)
        reset(self.server.transport)

    def finish(self) -> None:
        """FIN to both sides, once what was written is out."""
        self.client.close()
        self.server.close()

    def half_close(self) -> None:
        """FIN to the client, which may still write."""
        self.client.write_eof()


Treatment: TypeAlias = "Callable[[bytes, Wire, asyncio.StreamWriter], Awaitable[None]]"


async def forward(chunk: bytes, wire: Wire, to: asyncio.StreamWriter) -> None:
    """Hand on as it comes."""
    to.write(chunk)


async def drop(chunk: bytes, wire: Wire, to: asyncio.StreamWriter) -> None:
    """Swallow: a black hole in this direction."""


def delay(seconds: float) -> Treatment:
    """Hand every chunk on so much later."""

    async def treat(chunk: bytes, wire: Wire, to: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        to.write(chunk)

    return treat


def trickle(seconds: float) -> Treatment:
    """Hand on a byte at a time, so many seconds apart."""

    async def treat(chunk: bytes, wire: Wire, to: asyncio.StreamWriter) -> None:
        for byte in chunk:
            to.write(bytes([byte]))
            await asyncio.sleep(seconds)

    return treat


def reset_after(count: int) -> Treatment:
    """Hand on so many bytes of a chunk, then end the wire by RST."""

    async def treat(chunk: bytes, wire: Wire, to: asyncio.StreamWriter) -> None:
        to.write(chunk[:count])
        await to.drain()
        await asyncio.sleep(0)
        wire.reset()

    return treat


def finish_after(count: int) -> Treatment:
    """Hand on so many bytes of a chunk, then end the wire by FIN."""

    async def treat(chunk: bytes, wire: Wire, to: asyncio.StreamWriter) -> None:
        to.write(chunk[:count])
        wire.finish()

    return treat


class Proxy:
    """Listens on loopback and forwards to a port there: an async context manager."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()
        #: How wires are treated that have no treatment of their own; may be set at any time.
        self.up: Treatment = forward
        self.down: Treatment = forward
        self.wires: list[Wire] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
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
        return f"http://127.0.0.1:{self.port}"

    def black_hole(self) -> None:
        """From now on packets vanish on every wire there is; none is closed. New wires work."""
        for wire in self.wires:
            wire.up = wire.down = drop

    def cut(self) -> None:
        """RST on every wire there is."""
        for wire in self.wires:
            wire.reset()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds; looks whenever something passes or ends here."""
        async with asyncio.timeout(10):
            while not condition():
                self._stirred.clear()
                await self._stirred.wait()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back, server = await asyncio.open_connection("127.0.0.1", self._upstream)
        wire = Wire(self, writer, server)
        self.wires.append(wire)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, wire, up=True))
                group.create_task(self._pump(back, wire, up=False))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            for side in (writer, server):
                side.transport.abort()
            self._tasks.discard(task)
            self._stirred.set()

    async def _pump(self, reader: asyncio.StreamReader, wire: Wire, *, up: bool) -> None:
        to = wire.server if up else wire.client
        while chunk := await reader.read(65536):
            if up:
                wire.bytes_up += len(chunk)
                treat = wire.up or self.up
            else:
                wire.bytes_down += len(chunk)
                treat = wire.down or self.down
            self._stirred.set()
            await treat(chunk, wire, to)
        wire.client_has_gone = wire.client_has_gone or up
        self._stirred.set()
        if (wire.up if up else wire.down) is not drop and to.can_write_eof():
            to.write_eof()
