"""The parser of replies, without a socket, on both of aiohttp's parsers of heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from masscancel.errors import ProtocolError
from masscancel.transport.parser import (
    LARGEST_HEAD,
    LARGEST_UNFRAMED,
    MOST_INTERIM,
    ReplyParser,
)
from transport_support import OK, heads

if TYPE_CHECKING:
    from masscancel.calls import Reply

pytestmark = pytest.mark.usefixtures("heads")
__all__ = ["heads"]

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def parse(wire: bytes, *, max_reply: int = 65_536, step: int = 0) -> ReplyParser:
    """Parse, in segments of a size."""
    parser = ReplyParser()
    parser.begin(max_reply)
    parse_on(parser, wire, step=step)
    return parser


def parse_on(parser: ReplyParser, wire: bytes, *, step: int = 0) -> Reply | None:
    """Parse, and return the last result."""
    reply = None
    for at in range(0, len(wire), step or len(wire)):
        reply = parser.feed(wire[at : at + (step or len(wire))]) or reply
    return reply


def reply_to(wire: bytes, *, max_reply: int = 65_536, step: int = 0) -> Reply:
    """Parse a reply that is complete."""
    parser = ReplyParser()
    parser.begin(max_reply)
    reply = parse_on(parser, wire, step=step)
    assert reply is not None
    assert parser.done
    return reply


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(
    "wire",
    [
        HEAD + b'Content-Length: 7\r\n\r\n{"a":1}',
        CHUNKED + b'3\r\n{"a\r\n4;ext=1\r\n":1}\r\n0\r\n\r\n',
        CHUNKED + b'7 \r\n{"a":1}\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n',
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b'Content-Length: 7\r\n\r\n{"a":1}',
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED + b'7\r\n{"a":1}\r\n0\r\n\r\n',
    ],
    ids=["length", "chunks", "trailers", "100", "103"],
)
def test_a_reply_is_the_same_however_it_is_cut(wire: bytes, step: int) -> None:
    """Length, chunks, trailers and interim replies, in segments of any size."""
    reply = reply_to(wire, step=step)
    assert (reply.status, reply.body) == (200, b'{"a":1}')


def test_headers_are_case_insensitive() -> None:
    """The headers are found by any spelling, without the space around their values."""
    reply = reply_to(HEAD + b"RETRY-After:  7 \r\nContent-Length: 0\r\n\r\n")
    assert reply.headers["retry-after"] == "7"


def test_one_parser_parses_one_reply_after_another() -> None:
    """Nothing of a reply is left in the next."""
    parser = ReplyParser()
    wires = {
        HEAD + b"Content-Length: 2\r\n\r\n{}": b"{}",
        CHUNKED + b"3\r\n[1]\r\n0\r\n\r\n": b"[1]",
        HEAD + b"Content-Length: 0\r\n\r\n": b"",
    }
    for step in (0, 7):
        for wire, body in wires.items():
            parser.begin(10)
            reply = parse_on(parser, wire, step=step)
            assert reply is not None
            assert (reply.body, parser.rest, parser.keep_alive) == (body, b"", True)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize(
    "framing", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_204_and_304_have_no_body(status: bytes, framing: bytes) -> None:
    """They end with their head, whatever it says about a body."""
    parser = ReplyParser()
    parser.begin(100)
    reply = parser.feed(b"HTTP/1.1 " + status + b"\r\n" + framing + b"\r\n")
    assert reply is not None
    assert reply.body == b""
    assert parser.keep_alive


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_keep_alive_is_what_the_head_says(head: bytes, keep_alive: bool) -> None:
    """HTTP/1.0 ends the connection unless it says otherwise; HTTP/1.1 the other way round."""
    assert parse(head + b"Content-Length: 2\r\n\r\n{}").keep_alive is keep_alive


def test_what_comes_behind_the_reply_is_kept_apart() -> None:
    """Further bytes are not of the reply, in one segment or in another."""
    parser = parse(OK + b"HTTP/1.1 200 OK\r\n")
    assert parser.rest == b"HTTP/1.1 200 OK\r\n"
    parser = parse(CHUNKED + b"2\r\n{}\r\n0\r\n\r\nmore")
    assert parser.rest == b"more"
    assert parser.feed(b"!") is None
    assert parser.rest == b"more!"


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (b'{"a":1}', True),
        (b"[]\n", True),
        (b'{"a":', False),
        (b'{"a":1}{', False),
        (b"12", False),
        (b"null", False),
        (b"", False),
        (b"<html>", False),
        (b"[" * 100_000, False),
    ],
)
def test_a_body_that_ends_with_the_connection_must_be_complete_json(
    body: bytes, counts: bool
) -> None:
    """A complete document is an answer; what may have been cut is none."""
    parser = parse(HEAD + b"\r\n" + body, max_reply=1_000_000)
    reply = parser.feed_eof()
    assert (reply is not None) is counts
    if reply is not None:
        assert reply.body == body
        assert not parser.keep_alive


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200",
        HEAD + b"Content-Length: 7\r\n\r\n{}",
        CHUNKED + b"2\r\n{}\r\n",
        CHUNKED + b"2\r\n{}\r\n0\r\n",
    ],
    ids=["nothing", "head", "length", "chunks", "last chunk"],
)
def test_a_reply_that_was_cut_is_none(wire: bytes) -> None:
    """A reply with a length or chunks does not end with the connection, even where JSON does."""
    assert parse(wire or b"H").feed_eof() is None


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        HEAD + b"Content-Length: 2\nX: 1\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nX: 1\rY: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nX: 1\r\n folded\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nX: 1\r\n\tfolded\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nX: \0\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nX Y: 1\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
        HEAD + b"Content-Length: -2\r\n\r\n{}",
        HEAD + b"Content-Length: +2\r\n\r\n{}",
        HEAD + b"Content-Length: 0x2\r\n\r\n{}",
        HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\n{}",
        HEAD + b"Content-Length: \xb2\r\n\r\n{}",
        HEAD + b"Content-Length:\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: identity\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        CHUNKED + b"2\r\n{}x\r\n0\r\n\r\n",
        CHUNKED + b"x\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"2;a\nb\r\n{}\r\n0\r\n\r\n",
        CHUNKED + b"2;" + b"a" * 300,
        CHUNKED + b"1" * 20 + b"\r\n",
    ],
)
def test_what_is_not_valid_http_is_refused(wire: bytes) -> None:
    """Nothing that two readers may understand differently is taken for an answer."""
    with pytest.raises(ProtocolError) as caught:
        parse(wire)
    assert caught.value.may_have_executed


def test_identity_is_no_compression() -> None:
    """A reply may say that it is not compressed."""
    wire = HEAD + b"Content-Encoding: Identity\r\nContent-Length: 2\r\n\r\n{}"
    assert reply_to(wire).body == b"{}"


@pytest.mark.parametrize(
    "wire",
    [
        HEAD + b"Content-Length: 11\r\n\r\n",
        HEAD + b"Content-Length: 999999999999999\r\n\r\n",
        CHUNKED + b"b\r\n",
        CHUNKED + b"6\r\n123456\r\n5\r\n",
        HEAD + b"\r\n" + b"x" * 11,
    ],
    ids=["length", "absurd length", "chunk", "chunks", "until the end"],
)
def test_a_body_is_bounded(wire: bytes) -> None:
    """A reply that is too large is refused as soon as that is known."""
    with pytest.raises(ProtocolError, match="larger than 10 bytes"):
        parse(wire, max_reply=10)


def test_the_largest_body_is_allowed() -> None:
    """The bound is the most that may come."""
    body = b"x" * 10
    wire = HEAD + b"Content-Length: 10\r\n\r\n" + body
    assert reply_to(wire, max_reply=10).body == body
    wire = CHUNKED + b"a\r\n" + body + b"\r\n0\r\n\r\n"
    assert reply_to(wire, max_reply=10).body == body


@pytest.mark.parametrize(
    "wire",
    [
        HEAD + b"X: " + b"x" * (LARGEST_HEAD + 1),
        HEAD + b"X: 1\r\n" * (LARGEST_HEAD // 6) + b"\r\n",
        HEAD + b"X: 1\r\n" * 1_000 + b"Content-Length: 0\r\n\r\n",
        HEAD + b"X: " + b"x" * 10_000 + b"\r\nContent-Length: 0\r\n\r\n",
        CHUNKED + b"0\r\n" + b"X: 1\r\n" * (LARGEST_HEAD // 5) + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MOST_INTERIM + 1),
        CHUNKED + b"1\r\nx\r\n" * 2_000,
    ],
    ids=["no end", "head", "headers", "header", "trailers", "interim", "chunks"],
)
@pytest.mark.parametrize("step", [0, 1_000])
def test_everything_else_is_bounded_too(wire: bytes, step: int) -> None:
    """Heads, trailers, interim replies and chunks are bounded in size and number."""
    with pytest.raises(ProtocolError):
        parse(wire, step=step)


def test_a_body_without_a_length_is_bounded_whatever_is_allowed() -> None:
    """The JSON of such a body is checked in one piece, so that it must not be large."""
    with pytest.raises(ProtocolError, match="too large"):
        parse(HEAD + b"\r\n" + b"x" * (LARGEST_UNFRAMED + 1), max_reply=10**9)


@pytest.mark.parametrize("step", [65_536, 262_144])
def test_a_large_body_comes_whole(step: int) -> None:
    """Some megabytes, by length and in chunks."""
    body = bytes(range(256)) * 16_384
    wire = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert reply_to(wire, max_reply=len(body), step=step).body == body
    chunks = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    wire = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in chunks)
    assert reply_to(wire + b"0\r\n\r\n", max_reply=len(body), step=step).body == body


def test_a_switch_ends_with_its_head() -> None:
    """Where it was asked for, another protocol begins right behind the head."""
    parser = ReplyParser()
    parser.begin(10, range(101, 102))
    head = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    reply = parser.feed(head + b"\x81\x00")
    assert reply is not None
    assert (reply.status, parser.rest) == (101, b"\x81\x00")


def test_no_text_repeats_what_the_peer_said() -> None:
    """The peer's words are not in an error: they may be anything."""
    with pytest.raises(ProtocolError) as caught:
        parse(HEAD + b"Bad Header Of Theirs: 1\r\n\r\n")
    assert "Theirs" not in str(caught.value)
