"""The encoding of requests."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from masscancel.calls import Request
from masscancel.errors import ConfigurationError
from masscancel.transport.encoding import encode_request, host_header, split_origin

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "venue.example"


def encode(
    method: str = "DELETE",
    target: str = "/a",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Encode a request."""
    return encode_request(Request(method, target, headers or {}, body), HOST)


def test_a_request_is_written_as_it_is() -> None:
    """The whole head, byte for byte."""
    request = Request("DELETE", "/orders?symbol=BTC%2FUSDT", {"x-key": "k", "x-sign": "s="})
    assert encode_request(request, HOST) == (
        b"DELETE /orders?symbol=BTC%2FUSDT HTTP/1.1\r\n"
        b"Host: venue.example\r\n"
        b"User-Agent: masscancel\r\n"
        b"Accept-Encoding: identity\r\n"
        b"x-key: k\r\n"
        b"x-sign: s=\r\n"
        b"\r\n"
    )


def test_a_body_comes_right_behind_its_head() -> None:
    """One piece, with the length of the body in bytes."""
    written = encode("POST", body='{"a":"é"}'.encode())
    assert written.endswith(b'Content-Length: 10\r\n\r\n{"a":"\xc3\xa9"}')


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [
        ("GET", b"", None),
        ("DELETE", b"", None),
        ("DELETE", b"{}", b"2"),
        ("POST", b"", b"0"),
        ("PUT", b"", b"0"),
        ("PATCH", b"", b"0"),
    ],
)
def test_a_length_is_said_where_a_body_is_expected(
    method: str, body: bytes, expected: bytes | None
) -> None:
    """Some servers refuse a POST without one."""
    lines = encode(method, body=body).split(b"\r\n")
    lengths = [line.partition(b": ")[2] for line in lines if line.startswith(b"Content-Length")]
    assert lengths == ([] if expected is None else [expected])


def test_a_listing_is_not_to_be_answered_from_a_cache() -> None:
    """A GET says so; what acts need not."""
    assert b"\r\nCache-Control: no-cache\r\n" in encode("GET")
    assert b"Cache-Control" not in encode("DELETE")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://venue.example", "venue.example"),
        ("https://venue.example:443", "venue.example"),
        ("https://Venue.Example:8443", "venue.example:8443"),
        ("http://127.0.0.1:80", "127.0.0.1"),
        ("http://127.0.0.1:443", "127.0.0.1:443"),
        ("wss://venue.example", "venue.example"),
        ("ws://[::1]:8080", "[::1]:8080"),
        ("https://[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_host_has_a_port_only_where_it_is_not_the_schemes_own(origin: str, expected: str) -> None:
    """IPv6 addresses are in brackets."""
    assert host_header(origin) == expected


def test_an_origin_is_split() -> None:
    """The host comes without brackets, as the resolver wants it."""
    assert split_origin("https://[::1]:8443") == ("https", "::1", 8443)
    assert split_origin("wss://venue.example") == ("wss", "venue.example", 443)


@pytest.mark.parametrize(
    "origin",
    [
        "venue.example",
        "ftp://venue.example",
        "https://",
        "https://venue.example/",
        "https://user:pw@venue.example",
        "https://venue.example:65536",
        "https://venue.example\r\n",
        "https://vénue.example",
    ],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    """Nothing can be put into Host by way of it."""
    with pytest.raises(ConfigurationError):
        host_header(origin)


@pytest.mark.parametrize("bad", ["\r\nX: 1", "\n", "\r", "\0", "\n\r", "€", "\ud800"])
def test_what_would_break_the_head_is_refused(bad: str) -> None:
    """Line breaks, NUL and what latin-1 has no byte for; the value is in no text and no frame."""
    secret = f"s3cret{bad}"
    with pytest.raises(ConfigurationError) as caught:
        encode(headers={"x-sign": secret})
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown
    assert caught.value.__context__ is None
    with pytest.raises(ConfigurationError):
        encode(headers={f"x-{bad}": "1"})
    with pytest.raises(ConfigurationError):
        encode(target=f"/{secret}")
    with pytest.raises(ConfigurationError):
        encode(method=f"GET{bad}")


@pytest.mark.parametrize(
    "target", ["", "a", "https://other.example/", "/a b", "/a\tb", "/é", "/#a"]
)
def test_a_target_begins_with_a_slash_and_holds_no_space(target: str) -> None:
    """Anything else would be another request than the one that was signed."""
    with pytest.raises(ConfigurationError):
        encode(target=target)


@pytest.mark.parametrize(
    "name", ["Host", "content-length", "Transfer-Encoding", "connection", "Expect", "a b", "a:", ""]
)
def test_what_the_connection_says_itself_is_not_said_twice(name: str) -> None:
    """Two lengths or hosts are read differently by different peers."""
    with pytest.raises(ConfigurationError):
        encode(headers={name: "1"})


def test_latin_1_is_written() -> None:
    """One byte a character."""
    assert b"\r\nx-label: \xe9\r\n" in encode(headers={"x-label": "é"})
