"""Websockets on loopback, against a server that says exactly what the test wants."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    NotSent,
    PermissionDenied,
    RateLimited,
    VenueError,
)
from masscancel.transport.dialer import Dialer
from masscancel.transport.frames import BINARY, CLOSE, PING, PONG, TEXT
from masscancel.transport.websocket import WebSocket, open_websocket
from transport_support import LOOPS, Loop, frame, request_head, server_context, serving, trusting

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Server:
    """A server's side: accepts the upgrade with what is to come behind it, then does as told."""

    def __init__(self, behind: bytes = b"", *, extra: bytes = b"", wrong_key: bool = False) -> None:
        self.behind = behind
        self.extra = extra
        self.wrong_key = wrong_key
        self.head = b""
        self.opened: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.get_running_loop().create_future()
        )

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Accept, and stay."""
        self.head = await request_head(reader)
        (key,) = (
            line.partition(b": ")[2]
            for line in self.head.split(b"\r\n")
            if line.startswith(b"Sec-WebSocket-Key")
        )
        digest = hashlib.sha1((b"x" if self.wrong_key else key) + MAGIC).digest()  # noqa: S324
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: "
            + base64.b64encode(digest)
            + b"\r\n"
            + self.extra
            + b"\r\n"
            + self.behind
        )
        self.opened.set_result((reader, writer))
        await asyncio.Event().wait()


class Owner:
    """What a websocket tells its owner."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.reasons: list[str] = []
        self.closed = asyncio.Event()

    def on_closed(self, reason: str) -> None:
        """Keep the reason."""
        self.reasons.append(reason)
        self.closed.set()

    async def open(
        self,
        port: int,
        dialer: Dialer | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        max_message: int = 1_000_000,
        url: str = "ws://127.0.0.1:{}/stream?key=1",
    ) -> WebSocket:
        """Open a websocket."""
        return await open_websocket(
            dialer or Dialer(),
            url.format(port),
            headers or {},
            on_message=self.messages.put_nowait,
            on_closed=self.on_closed,
            max_message=max_message,
        )


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one short frame of the client."""
    first, second = await reader.readexactly(2)
    assert second & 0x80
    length = second & 0x7F
    if length == 126:
        length = int.from_bytes(await reader.readexactly(2), "big")
    mask = await reader.readexactly(4)
    payload = await reader.readexactly(length)
    return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


@LOOPS
@pytest.mark.parametrize("tls", [False, True])
def test_messages_go_both_ways(run: Loop, tls: bool) -> None:
    """Texts are written at once, and texts and binaries handed over as bytes."""
    authority = trustme.CA()

    async def main() -> None:
        server, owner = Server(), Owner()
        context = server_context(authority.issue_cert("127.0.0.1")) if tls else None
        async with serving(server.handle, context) as port:
            websocket = await owner.open(
                port,
                Dialer(ssl_context=trusting(authority)),
                headers={"x-key": "k"},
                url=f"{'wss' if tls else 'ws'}://127.0.0.1:{{}}/stream?key=1",
            )
            reader, writer = await server.opened
            assert websocket.is_open
            websocket.send("hé" * 100)
            assert await read_frame(reader) == (TEXT, ("hé" * 100).encode())
            writer.write(frame(TEXT, b"1") + frame(BINARY, b"2") + frame(TEXT, b"3"))
            assert [await owner.messages.get() for _ in range(3)] == [b"1", b"2", b"3"]
            websocket.abort()
            await asyncio.sleep(0)
        assert server.head.startswith(b"GET /stream?key=1 HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"\r\nx-key: k\r\n" in server.head
        assert b"Sec-WebSocket-Extensions" not in server.head
        assert owner.reasons == ["closed here"]

    run(main())


@LOOPS
def test_what_comes_with_the_answer_is_of_the_websocket(run: Loop) -> None:
    """Frames in the segment of the 101 are not lost."""

    async def main() -> None:
        server, owner = Server(frame(TEXT, b"first") + frame(TEXT, b"second")[:3]), Owner()
        async with serving(server.handle) as port:
            websocket = await owner.open(port)
            assert owner.messages.get_nowait() == b"first"
            _, writer = await server.opened
            writer.write(frame(TEXT, b"second")[3:])
            assert await owner.messages.get() == b"second"
            websocket.abort()

    run(main())


@pytest.mark.asyncio
async def test_a_ping_is_answered_at_once() -> None:
    """With what it holds; the owner need not know."""
    server, owner = Server(frame(PING, b"p1")), Owner()
    async with serving(server.handle) as port:
        websocket = await owner.open(port)
        reader, _ = await server.opened
        assert await read_frame(reader) == (PONG, b"p1")
        assert owner.messages.empty()
        websocket.abort()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("wire", "code", "reason"),
    [
        (frame(TEXT, b"x" * 101), 1009, "larger than 100 bytes"),
        (frame(TEXT, b"\xff"), 1007, "not UTF-8"),
        (frame(7, b""), 1002, "no known kind"),
        (frame(CLOSE, (1001).to_bytes(2, "big") + b"their words"), 1001, r"closed it \(1001\)"),
        (frame(CLOSE, b""), 1000, r"closed it \(1000\)"),
    ],
)
async def test_the_end_is_answered_and_told_once(wire: bytes, code: int, reason: str) -> None:
    """The peer gets a close frame, the owner the reason, without the peer's words."""
    server, owner = Server(), Owner()
    async with serving(server.handle) as port:
        websocket = await owner.open(port, max_message=100)
        reader, writer = await server.opened
        writer.write(frame(TEXT, b"good") + wire + frame(TEXT, b"late"))
        await owner.closed.wait()
        assert owner.messages.get_nowait() == b"good"
        assert owner.messages.empty()
        assert await read_frame(reader) == (CLOSE, code.to_bytes(2, "big"))
        assert await reader.read() == b""
        with pytest.raises(NotSent):
            websocket.send("x")
        websocket.abort()
        await websocket.close()
    (told,) = owner.reasons
    assert re.search(reason, told)
    assert "their words" not in told


@LOOPS
@pytest.mark.parametrize("how", ["end", "abort"])
def test_a_connection_that_ends_is_told_once(run: Loop, how: str) -> None:
    """With or without the end of the stream."""

    async def main() -> None:
        server, owner = Server(), Owner()
        async with serving(server.handle) as port:
            websocket = await owner.open(port)
            _, writer = await server.opened
            if how == "end":
                writer.write_eof()
            else:
                writer.transport.abort()
            await owner.closed.wait()
            await asyncio.sleep(0)
            assert not websocket.is_open
        assert owner.reasons == ["the connection was closed"]

    run(main())


@LOOPS
def test_closing_waits_for_the_peers_goodbye(run: Loop) -> None:
    """And for no message that is still on its way."""

    async def main() -> None:
        server, owner = Server(), Owner()
        async with serving(server.handle) as port:
            websocket = await owner.open(port)
            reader, writer = await server.opened
            closing = asyncio.create_task(websocket.close(timeout=60.0))
            assert await read_frame(reader) == (CLOSE, (1000).to_bytes(2, "big"))
            assert not websocket.is_open
            writer.write(frame(TEXT, b"late") + frame(CLOSE, (1000).to_bytes(2, "big")))
            await closing
            assert owner.messages.empty()
        assert owner.reasons == ["the peer closed it (1000)"]

    run(main())


@LOOPS
def test_closing_is_bounded(run: Loop) -> None:
    """A peer that goes on talking, and never says goodbye."""

    async def main() -> None:
        server, owner = Server(), Owner()
        async with serving(server.handle) as port:
            websocket = await owner.open(port)
            _, writer = await server.opened
            writer.write(frame(TEXT, b"x") * 100)
            await websocket.close(timeout=0.01)
        assert owner.reasons == ["closed here"]

    run(main())


@LOOPS
def test_a_peer_that_reads_nothing_is_noticed(run: Loop) -> None:
    """What is written does not pile up without limit."""

    async def main() -> None:
        server, owner = Server(), Owner()
        async with serving(server.handle) as port:
            websocket = await owner.open(port)
            _, writer = await server.opened
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's
            text = "x" * 1_000_000
            with pytest.raises(NotSent, match="reads nothing"):  # noqa: PT012  # until it is full
                for _ in range(100):
                    websocket.send(text)
                    await asyncio.sleep(0)
            websocket.abort()

    run(main())


@LOOPS
def test_a_flood_of_small_messages_lets_others_run(run: Loop) -> None:
    """None is lost, and each piece of work is bounded."""

    async def main() -> None:
        flood = frame(TEXT, b"1") * 5_000 + frame(TEXT, b"end")
        server, owner = Server(flood), Owner()
        async with serving(server.handle) as port:
            websocket = await owner.open(port)
            assert owner.messages.qsize() < 5_000
            while await owner.messages.get() != b"end":
                pass
            websocket.send("still open")
            reader, writer = await server.opened
            assert await read_frame(reader) == (TEXT, b"still open")
            writer.write(frame(TEXT, b"more"))
            assert await owner.messages.get() == b"more"
            websocket.abort()

    run(main())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (403, PermissionDenied),
        (429, RateLimited),
        (302, VenueError),
        (200, VenueError),
        (503, VenueError),
    ],
)
async def test_a_refusal_is_the_venues(status: int, kind: type[VenueError]) -> None:
    """A redirect is one: the login headers go nowhere else."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(
            b"HTTP/1.1 %d Theirs\r\nLocation: http://x/\r\nContent-Length: 2\r\n\r\nno" % status
        )
        await reader.read()

    owner = Owner()
    async with serving(refuse) as port:
        with pytest.raises(VenueError) as caught:
            await owner.open(port)
    assert type(caught.value) is kind
    assert caught.value.http_status == status
    assert caught.value.message == "the websocket was refused"
    assert owner.reasons == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "server",
    [
        {"wrong_key": True},
        {"extra": b"Sec-WebSocket-Extensions: permessage-deflate\r\n"},
        {"extra": b"Sec-WebSocket-Protocol: other\r\n"},
    ],
)
async def test_an_answer_that_does_not_fit_opens_nothing(server: dict[str, Any]) -> None:
    """It is none to this request, or agrees to what nobody asked for."""
    owner = Owner()
    async with serving(Server(**server).handle) as port:
        with pytest.raises(NotSent, match="opened no websocket"):
            await owner.open(port)
    assert owner.reasons == []


@LOOPS
def test_opening_is_bounded(run: Loop) -> None:
    """A peer that does not answer the upgrade; the connection ends."""

    async def main() -> None:
        gone = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_head(reader)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            gone.set()

        async with serving(silent) as port:
            with pytest.raises(NotSent, match="in time"):
                await Owner().open(port, Dialer(connect_timeout=0.05))
            await gone.wait()

    run(main())


@pytest.mark.asyncio
async def test_a_peer_that_hangs_up_opens_nothing() -> None:
    """Nothing was asked of the venue yet."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)

    async with serving(hang_up) as port:
        with pytest.raises(NotSent) as caught:
            await Owner().open(port)
        assert not caught.value.may_have_executed


@LOOPS
def test_whoever_gives_up_while_opening_hears_nothing(run: Loop) -> None:
    """Cancelled after any number of turns; no connection stays open."""

    async def main() -> None:
        for turns in range(25):
            server, owner = Server(), Owner()
            async with serving(server.handle) as port:
                task = asyncio.create_task(owner.open(port))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                (result,) = await asyncio.gather(task, return_exceptions=True)
                if isinstance(result, WebSocket):
                    result.abort()
                else:
                    assert owner.reasons == []

    run(main())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1/", {}),
        ("ws://127.0.0.1/a b", {}),
        ("ws://127.0.0.1/\r\nx: y", {}),
        ("ws://user@127.0.0.1/", {}),
        ("ws://127.0.0.1/", {"x": "s3cret\r\n"}),
        ("ws://127.0.0.1/", {"Sec-WebSocket-Key": "x"}),
        ("ws://127.0.0.1/", {"Upgrade": "x"}),
    ],
)
async def test_what_cannot_be_written_is_refused(url: str, headers: dict[str, str]) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigurationError) as caught:
        await Owner().open(0, url=url.replace("{", "{{"), headers=headers)
    assert "s3cret" not in str(caught.value)
