"""One connection: without a socket where segments matter, and on loopback where the kernel does."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from masscancel.calls import Reply, Request
from masscancel.errors import ConfigurationError, NotSent, OutcomeUnknown, ProtocolError
from masscancel.transport.connection import Connection
from masscancel.transport.dialer import Dialer
from transport_support import (
    CANCEL,
    LOOPS,
    OK,
    FakeTransport,
    Loop,
    Seen,
    answer,
    heads,
    reply_of,
    request_head,
    serving,
)

__all__ = ["heads"]


def test_a_request_is_written_in_one_piece_before_send_returns() -> None:
    """Head and body in one write."""
    seen = Seen()
    request = Request("POST", "/a", {"x-key": "k"}, b'{"a":1}')
    seen.connection.send(request, max_reply=10, on_end=seen.events.append)
    (written,) = seen.transport.written
    assert written.startswith(b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    assert written.endswith(b'x-key: k\r\n\r\n{"a":1}')


@pytest.mark.usefixtures("heads")
def test_the_reply_is_handed_over_before_the_connection_is_idle() -> None:
    """So whoever finds that a reply is another's ends the connection before anybody uses it."""
    seen = Seen()
    seen.send()
    assert not seen.connection.usable()
    seen.receive(OK[:20], OK[20:])
    assert seen.events == [seen.reply, "idle"]
    assert (seen.reply.status, seen.reply.body) == (200, b"{}")
    assert seen.connection.usable()
    assert seen.connection.reused
    seen.send()
    seen.receive(OK)
    assert [type(event) for event in seen.events] == [Reply, str, Reply, str]


def test_another_request_can_be_sent_from_within_the_answer() -> None:
    """The callback runs when everything about the request before is over."""
    seen = Seen()
    seen.connection.send(CANCEL, max_reply=10, on_end=lambda _: seen.send())
    seen.receive(OK)
    assert len(seen.transport.written) == 2
    seen.receive(OK)
    assert seen.reply.body == b"{}"


def test_one_request_at_a_time() -> None:
    """A second is refused before anything is written."""
    seen = Seen()
    seen.send()
    with pytest.raises(NotSent):
        seen.send()
    assert len(seen.transport.written) == 1


def test_nothing_is_written_of_a_request_that_cannot_be() -> None:
    """The connection stays as it was."""
    seen = Seen()
    bad = Request("DELETE", "/a", {"x-key": "k\r\nx: y"})
    with pytest.raises(ConfigurationError):
        seen.connection.send(bad, max_reply=10, on_end=seen.events.append)
    assert seen.transport.written == []
    assert seen.connection.usable()


@pytest.mark.parametrize("answered", [False, True])
def test_bytes_that_nobody_asked_for_end_an_idle_connection(answered: bool) -> None:
    """They are not the reply to the next request, on a fresh connection or on a reused one."""
    seen = Seen()
    if answered:
        seen.send()
        seen.receive(OK)
        seen.events.clear()
    seen.receive(OK)
    assert seen.events == ["closed"]
    assert seen.transport.aborted
    with pytest.raises(NotSent):
        seen.send()


def test_a_byte_behind_the_reply_ends_the_connection() -> None:
    """The reply counts; the connection is not used again."""
    seen = Seen()
    seen.send()
    seen.receive(OK + b"H")
    assert seen.events == ["closed", seen.reply]
    assert seen.transport.aborted


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_a_reply_may_end_its_connection(wire: bytes) -> None:
    """The reply counts; the connection has ended before it is handed over."""
    seen = Seen()
    seen.send()
    seen.receive(wire)
    assert seen.events == ["closed", seen.reply]


def test_the_end_of_the_stream_right_behind_a_reply_ends_the_connection() -> None:
    """The reply counts, and the connection is not used again."""
    seen = Seen()
    seen.send()
    seen.receive(OK)
    seen.connection.eof_received()
    seen.connection.connection_lost(None)
    assert seen.events == [seen.reply, "idle", "closed"]


@pytest.mark.parametrize("how", ["end of stream", "connection lost"])
@pytest.mark.parametrize(("body", "whole"), [(b'{"a":1}', True), (b'{"a":', False)])
def test_a_body_without_a_length_ends_with_the_connection(
    how: str, body: bytes, whole: bool
) -> None:
    """TLS that ends without its goodbye comes as a lost connection, without an error."""
    seen = Seen()
    seen.send()
    seen.receive(b"HTTP/1.1 200 OK\r\n\r\n" + body)
    if how == "end of stream":
        seen.connection.eof_received()
    seen.connection.connection_lost(None)
    assert seen.events[0] == "closed"
    if whole:
        assert seen.reply.body == body
    else:
        assert isinstance(seen.error, OutcomeUnknown)
        assert "cut short" in seen.error.message


def test_a_reset_is_no_end_of_a_body() -> None:
    """What came before it may have been cut, complete JSON or not."""
    seen = Seen()
    seen.send()
    seen.receive(b"HTTP/1.1 200 OK\r\n\r\n{}")
    seen.connection.connection_lost(ConnectionResetError(104, "a peer's words"))
    assert isinstance(seen.error, OutcomeUnknown)
    assert "Connection reset" in seen.error.message


@pytest.mark.parametrize("arrived", [b"", OK[:-1]])
def test_a_connection_that_breaks_leaves_the_outcome_unknown(arrived: bytes) -> None:
    """Once, however the end is told."""
    seen = Seen()
    seen.send()
    if arrived:
        seen.receive(arrived)
    seen.connection.eof_received()
    seen.connection.connection_lost(None)
    assert seen.events == ["closed", seen.error]
    assert isinstance(seen.error, OutcomeUnknown)
    assert seen.error.may_have_executed


@pytest.mark.usefixtures("heads")
@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"nonsense",
    ],
)
def test_what_is_no_reply_ends_the_connection(wire: bytes) -> None:
    """The error is handed over once, after the connection has ended."""
    seen = Seen()
    seen.send(max_reply=10)
    seen.receive(wire)
    seen.connection.connection_lost(None)
    assert seen.events == ["closed", seen.error]
    assert isinstance(seen.error, ProtocolError)
    assert seen.transport.aborted


def test_a_redirect_is_a_reply() -> None:
    """Nobody follows it."""
    seen = Seen()
    seen.send()
    seen.receive(b"HTTP/1.1 307 Gone\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n")
    assert (seen.reply.status, len(seen.transport.written)) == (307, 1)


@pytest.mark.parametrize("wire", [OK, b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_reply_that_begins_before_the_request_has_left_is_none(wire: bytes) -> None:
    """It can't be the answer to what the peer has not read."""
    seen = Seen()
    seen.send()
    seen.transport.waiting = 1
    assert not seen.connection.written_whole
    seen.receive(wire)
    assert seen.events == ["closed", seen.error]
    assert isinstance(seen.error, ProtocolError)
    assert "before the request had left" in seen.error.message


def test_what_waits_under_tls_has_not_left_either() -> None:
    """Every layer may hold something back."""
    seen, under = Seen(), FakeTransport()
    seen.connection.start(seen.transport, under)
    assert seen.connection.written_whole
    under.waiting = 1
    assert not seen.connection.written_whole


def test_a_transport_that_is_closing_is_not_usable() -> None:
    """The event loop may tell the connection a turn later."""
    seen = Seen()
    seen.transport.closed = True
    assert not seen.connection.usable()


def test_abort_says_nothing_to_who_gave_up() -> None:
    """The owner hears that the connection has ended, once; the request's owner hears nothing."""
    seen = Seen()
    seen.send()
    seen.connection.abort()
    assert seen.events == ["closed"]
    seen.receive(OK)
    seen.connection.connection_lost(None)
    seen.connection.abort()
    assert seen.events == ["closed"]
    assert seen.connection.is_closing


def test_close_ends_an_idle_connection_with_a_goodbye() -> None:
    """TLS says goodbye; nobody waits for the peer's."""
    seen = Seen()
    seen.connection.close()
    assert seen.transport.closed
    assert seen.transport.aborted
    assert seen.events == ["closed"]


def test_nobody_who_asked_for_another_protocol_takes_it_over() -> None:
    """The connection ends then: it is of no use to HTTP."""
    seen = Seen()
    seen.connection.write(
        b"GET / HTTP/1.1\r\n\r\n",
        max_reply=10,
        on_end=seen.events.append,
        switch=range(101, 102),
    )
    seen.receive(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    assert seen.events == [seen.reply, "closed"]


# On loopback.


async def dial(port: int, dialer: Dialer | None = None) -> Connection:
    """Open a connection."""
    origin = f"http://127.0.0.1:{port}"
    return await (dialer or Dialer()).dial(origin, lambda: Connection(origin))


@LOOPS
def test_requests_and_replies_over_a_socket(run: Loop) -> None:
    """One connection, one reply for each request."""

    async def main() -> None:
        async with serving(answer) as port:
            connection = await dial(port)
            for _ in range(3):
                assert (await reply_of(connection)).body == b"{}"
            assert connection.usable()
            connection.close()
            assert connection.is_closing

    run(main())


@LOOPS
@pytest.mark.parametrize("what", ["bytes", "end"])
def test_what_only_the_kernel_knows_makes_a_connection_unusable(run: Loop, what: str) -> None:
    """Bytes, or the end of the stream, that the event loop has not read yet."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            connection = await dial(server.getsockname()[1])
            peer, _ = server.accept()
            with peer:
                peer.setblocking(False)
                assert connection.usable()
                if what == "bytes":
                    peer.sendall(OK)
                else:
                    peer.shutdown(socket.SHUT_WR)
                # Loopback delivers within the call: nothing of this loop has run since.
                assert not connection.usable()
                with pytest.raises(NotSent):
                    connection.send(CANCEL, max_reply=10, on_end=lambda _: None)
                connection.abort()
                assert await _received(peer) == b""

    run(main())


async def _received(peer: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(peer, 1)
    except ConnectionResetError:
        return b""


@LOOPS
def test_a_large_body_that_the_peer_does_not_read_is_never_answered(run: Loop) -> None:
    """The reply comes while most of the request still waits: no Ack, and the connection ends."""

    async def main() -> None:
        async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's
            writer.write(OK)
            await asyncio.Event().wait()

        async def after_the_head(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await request_head(reader)
            await early(reader, writer)

        async with serving(after_the_head) as port:
            connection = await dial(port)
            request = Request("POST", "/", {}, b"x" * 64_000_000)
            with pytest.raises(ProtocolError, match="before the request had left"):
                await reply_of(connection, request)
            assert connection.is_closing

    run(main())


@LOOPS
def test_a_large_body_that_is_read_is_answered(run: Loop) -> None:
    """A request that does not fit into the kernel's buffer leaves in several steps."""

    async def main() -> None:
        async def reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_head(reader)
            await reader.readexactly(16_000_000)
            writer.write(OK)
            await asyncio.Event().wait()

        async with serving(reads) as port:
            connection = await dial(port)
            request = Request("POST", "/", {}, b"x" * 16_000_000)
            assert (await reply_of(connection, request)).body == b"{}"
            assert connection.written_whole
            connection.abort()

    run(main())


@LOOPS
def test_a_large_reply_comes_whole(run: Loop) -> None:
    """A listing of some megabytes is neither held back nor cut."""

    async def main() -> None:
        body = b"[" + b"1," * 4_000_000 + b"1]"

        async def lists(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            await asyncio.Event().wait()

        async with serving(lists) as port:
            connection = await dial(port)
            assert (await reply_of(connection, max_reply=len(body))).body == body
            connection.abort()

    run(main())


@LOOPS
def test_a_peer_that_resets_leaves_the_outcome_unknown(run: Loop) -> None:
    """The reason is the system's."""

    async def main() -> None:
        async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_head(reader)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

        closed: list[Any] = []
        async with serving(resets) as port:
            origin = f"http://127.0.0.1:{port}"
            connection = await Dialer().dial(
                origin, lambda: Connection(origin, on_closed=closed.append)
            )
            with pytest.raises(OutcomeUnknown, match="reset"):
                await reply_of(connection)
        assert closed == [connection]

    run(main())
