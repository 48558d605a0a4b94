"""The helpers that every venue is written with, and what a venue's values show."""

from __future__ import annotations

import io
import re
import time
from decimal import Decimal
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import rich.console
from hypothesis import given
from hypothesis import strategies as st

from masscancel import (
    AuthenticationError,
    ConfigurationError,
    Credentials,
    InvalidRequest,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Call, Probe, Reply, Request, Stamp
from masscancel.venues.base import Abilities
from masscancel.venues.toolkit import (
    Refusal,
    check_origin,
    decimal,
    decode_json,
    every,
    foreign_error,
    one,
    refusal_error,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def reply(body: bytes = b"", status: int = 200, **headers: str) -> Reply:
    """A reply with these headers; `_` in their names stands for `-`."""
    return Reply(status, {name.replace("_", "-"): v for name, v in headers.items()}, body)


def outcome_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The value, or our error as a value; any other exception is a failure of the test."""
    try:
        return function(*args, **kwargs)
    except MassCancelError as error:
        return error


# Origins


@pytest.mark.parametrize(
    ("given", "normalized"),
    [
        ("https://ascendex.com", "https://ascendex.com"),
        ("https://ascendex.com/", "https://ascendex.com"),
        ("https://ascendex.com:8443", "https://ascendex.com:8443"),
        ("https://ascendex.com:8443/", "https://ascendex.com:8443"),
        ("HTTPS://AscendEX.com", "https://ascendex.com"),
        ("https://api-test.ascendex-sandbox.com", "https://api-test.ascendex-sandbox.com"),
        ("https://localhost", "https://localhost"),
        ("https://10.0.0.7:9000", "https://10.0.0.7:9000"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.1.2.3:80", "http://127.1.2.3:80"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_taken_and_normalized(given: str, normalized: str) -> None:
    """Encrypted anywhere, in clear text on loopback; one spelling per origin."""
    assert check_origin(given, name="rest_url", scheme="http") == normalized
    assert check_origin(normalized, name="rest_url", scheme="http") == normalized


@pytest.mark.parametrize(
    "url",
    [
        "http://ascendex.com",
        "http://10.0.0.7",
        "http://192.168.1.1:8080",
        "http://0.0.0.0",
        "http://0",
        "http://127.1",
        "http://2130706433",
        "http://127.0.0.1.evil.com",
        "http://127.0.0.999",
        "http://127.0.0.1.",
        "http://127.0.0.1evil.com",
        "http://localhost",
        "HTTP://LOCALHOST:8080",
        "http://localhost.evil.com",
        "http://evil-localhost",
        "http://localhost.",
        "http://notlocalhost",
        "http://[::]",
        "http://[::2]",
        "http://[::ffff:10.0.0.7]",
        "http://[::1].evil.com",
        "HTTP://ascendex.com",
    ],
)
def test_clear_text_is_refused_beyond_loopback(url: str) -> None:
    """Whatever the address resembles, only loopback is spoken to in clear text."""
    with pytest.raises(ConfigurationError, match="rest_url"):
        check_origin(url, name="rest_url", scheme="http")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ascendex.com",
        "//ascendex.com",
        "https:ascendex.com",
        "https:/ascendex.com",
        "https://",
        "https:///api",
        "https://:443",
        "ftp://ascendex.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "ws://127.0.0.1",
        "wss://ascendex.com",
        "https://ascendex.com/api",
        "https://ascendex.com//",
        "https://ascendex.com?symbol=BTC",
        "https://ascendex.com/#x",
        "https://ascendex.com/;x",
        "https://user@ascendex.com",
        "https://user:password@ascendex.com",
        "https://@ascendex.com",
        "https://:@ascendex.com",
        "http://127.0.0.1@evil.com",
        "http://127.0.0.1:80@evil.com",
        "http://evil.com#@127.0.0.1",
        "http://evil.com?@127.0.0.1",
        "http://evil.com\\@127.0.0.1",
        "https://ascendex.com\\.evil.com",
        "https://ascendex.com:port",
        "https://ascendex.com:-1",
        "https://ascendex.com:65536",
        "https://ascendex.com:0",
        "https://ascendex.com:80:80",
        "https://ascendex.com: 443",
        "https://ascendex.com:4_43",
        " https://ascendex.com",
        "https://ascendex.com ",
        "https://ascend ex.com",
        "https://ascendex.com\n",
        "https://ascendex.com\r\nHost: evil.com",
        "https://ascendex\t.com",
        "https://ascendex.com\0",
        "https://äscendex.com",
        "https://ascendex.com:٤٤٣",
        "https://ascendex。com",
        "https://[::1",
        "https://::1",
        "https://[not-an-address]",
        "https://[::1]evil.com",
        "https://evil.com[::1]",
        "https://a%2fb.com",
        "https://a%00.com",
        "https://<host>",
        'https://a"b.com',
        "https://a,b.com",
        "https://a;b.com",
        "https://*.ascendex.com",
        "https://ascendex..com",
        "https://.",
        b"https://ascendex.com",
        None,
        443,
        ["https://ascendex.com"],
    ],
    ids=ascii,
)
def test_what_is_no_origin_is_refused(url: Any) -> None:
    """Nothing but scheme, host and port: no path, query, user, blank, or half an address."""
    with pytest.raises(ConfigurationError, match="rest_url"):
        check_origin(url, name="rest_url", scheme="http")


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("wss://ascendex.com", True),
        ("ws://127.0.0.1:8080", True),
        ("ws://[::1]", True),
        ("ws://ascendex.com", False),
        ("http://127.0.0.1", False),
        ("https://ascendex.com", False),
    ],
)
def test_a_websocket_origin_has_schemes_of_its_own(url: str, *, fine: bool) -> None:
    """`wss`, and `ws` on loopback."""
    if fine:
        assert check_origin(url, name="stream_url", scheme="ws") == url
    else:
        with pytest.raises(ConfigurationError, match="stream_url"):
            check_origin(url, name="stream_url", scheme="ws")


def test_a_refused_url_is_not_repeated_with_its_password() -> None:
    """Someone put credentials into the URL: the message does not spread them."""
    with pytest.raises(ConfigurationError) as caught:
        check_origin("https://me:s3cret@ascendex.com", name="rest_url", scheme="http")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


@given(st.text() | st.from_regex(re.compile(r"https?://[\w.:@/?#\[\]%\\\"<-]{0,30}", re.ASCII)))
def test_any_text_is_an_origin_or_a_configuration_error(text: str) -> None:
    """Nothing else is raised; what is taken stays as it is when it is checked again."""
    origin = outcome_of(check_origin, text, name="rest_url", scheme="http")
    if isinstance(origin, ConfigurationError):
        assert origin.__context__ is None
        return
    scheme, _, rest = origin.partition("://")
    assert scheme in ("http", "https")
    assert not set(rest) & set("/?#@\\ \t\r\n\"'<>%")
    assert check_origin(origin, name="rest_url", scheme="http") == origin
    if scheme == "http":
        assert rest.startswith(("127.", "[::1]"))


# Results of calls


def test_one_is_the_result_or_its_error() -> None:
    """A value is returned, even a falsy one; an error is raised as it is."""
    assert one([[]]) == []
    assert one([0]) == 0
    refused = AuthenticationError(1)
    with pytest.raises(AuthenticationError) as caught:
        one([refused])
    assert caught.value is refused


@pytest.mark.parametrize("results", [[], [1, 2]])
def test_one_is_for_exactly_one(results: list[int]) -> None:
    """A driver that sends back more or less has a bug, which is not hidden."""
    with pytest.raises(ValueError, match="values to unpack"):
        one(results)


def test_every_is_all_results_in_order() -> None:
    """None at all is fine: an account without orders needs no cancel."""
    assert every([]) == []
    assert every([3, 1, 2]) == [3, 1, 2]


def test_every_raises_the_first_error_with_a_count_of_the_rest() -> None:
    """A partial success is said to be one."""
    first, second = NotSent("a"), OutcomeUnknown("b")
    with pytest.raises(NotSent) as caught:
        every([1, first, 2, second, 3])
    assert caught.value is first
    assert caught.value.__notes__ == ["2 of 5 calls failed, 3 succeeded"]


# Bodies


class Clock(msgspec.Struct):
    """What the decoder of these tests wants."""

    now: int


CLOCK = msgspec.json.Decoder(Clock)


def test_a_body_is_decoded() -> None:
    """Unknown fields are ignored."""
    assert decode_json(CLOCK, reply(b'{"now": 5, "then": {"a": [1, null]}}')) == Clock(5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"5",
        b'"now"',
        b"{",
        b"{}",
        b'{"now":',
        b'{"now": 5',
        b'{"now": 5}{"now": 5}',
        b'{"now": 5},',
        b'{"now": "5"}',
        b'{"now": 5.5}',
        b'{"now": true}',
        b'{"now": null}',
        b'{"now": NaN}',
        b'{"now": 1e999}',
        b'{"now": ' + b"9" * 5_000 + b"}",
        b'{"now": "\xff"}',
        b'{"now": 5, "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b"[" * 20_000,
        b'\xef\xbb\xbf{"now": 5}',
        '{"now": 5}'.encode("utf-16"),
        b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
        b"\x1f\x8b\x08\x00",
        b"\0" * 100,
        b'{"now": 4, "now": 5}',
        b'{"then": {"a": 1, "b": 2, "a": 1}, "now": 5}',
        b'{"now": 4, "n\\u006fw": 5}',
    ],
    ids=lambda body: ascii(body[:24]),
)
def test_a_body_that_is_not_what_was_expected_is_a_protocol_error(body: bytes) -> None:
    """With what is known of it, in one short line, and no trace of a decoder's own error."""
    with pytest.raises(ProtocolError) as caught:
        decode_json(CLOCK, reply(body, 502, Content_Type="text/html"))
    error = caught.value
    assert error.may_have_executed
    assert f"HTTP 502, {len(body)} bytes of text/html" in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 300
    assert error.__context__ is None
    assert error.__cause__ is None


@given(st.binary())
def test_any_bytes_are_decoded_or_a_protocol_error(body: bytes) -> None:
    """Nothing else comes out."""
    assert isinstance(outcome_of(decode_json, CLOCK, reply(body)), Clock | ProtocolError)


# Numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7105", Decimal(7105)),
        ("0.0083", Decimal("0.0083")),
        ("0.10", Decimal("0.1")),
        ("1E-8", Decimal("0.00000001")),
        ("-1.5", Decimal("-1.5")),
        ("", Decimal(0)),
        (None, Decimal(0)),
    ],
)
def test_a_number_as_text(text: str | None, number: Decimal) -> None:
    """Exactly as written; nothing is zero."""
    assert decimal(text) == number


@pytest.mark.parametrize(
    "text", ["NaN", "sNaN", "Infinity", "-inf", "x", "1,5", "0x10", "1e9999999999999999999"]
)
def test_what_is_no_finite_number_is_a_protocol_error(text: str) -> None:
    """A NaN would compare to nothing, for ever."""
    with pytest.raises(ProtocolError) as caught:
        decimal(text)
    assert caught.value.__context__ is None


@given(st.text() | st.from_regex(r"-?\d+(\.\d+)?([eE][+-]?\d{1,4})?"))
def test_any_text_is_a_finite_number_or_a_protocol_error(text: str) -> None:
    """Nothing else comes out."""
    number = outcome_of(decimal, text)
    assert isinstance(number, ProtocolError) or number.is_finite()


# Retry-After

NOW_MS = 784_111_777_000 - 5_000  # five seconds before RFC 9110's own example


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("007", 7.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 5.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 5.0),
        ("Sun Nov  6 08:49:37 1994", 5.0),
        ("Sun, 06 Nov 1994 08:49:31 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("1e3", None),
        ("0x10", None),
        ("nan", None),
        ("inf", None),
        ("\N{SUPERSCRIPT TWO}", None),
        ("\N{ARABIC-INDIC DIGIT THREE}", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_retry_after_in_both_forms(
    monkeypatch: pytest.MonkeyPatch, zone: str, header: str, seconds: float | None
) -> None:
    """Seconds, or a date in one of the three forms of RFC 9110 section 5.6.7, all in GMT."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retry_after(reply(status=429, Retry_After=header), NOW_MS) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


def test_no_retry_after_is_none() -> None:
    """The header is missing."""
    assert retry_after(reply(status=429), NOW_MS) is None


def test_an_absurd_retry_after_is_no_longer_than_the_longest_ban() -> None:
    """Thousands of digits are not counted out."""
    assert retry_after(reply(status=429, Retry_After="9" * 10_000), NOW_MS) == 3 * 86_400


@given(st.text() | st.integers().map(str) | st.datetimes().map(format_datetime))
def test_any_retry_after_is_a_wait_or_nothing(header: str) -> None:
    """Never negative, never an exception."""
    seconds = retry_after(reply(status=429, Retry_After=header), NOW_MS)
    assert seconds is None or 0 <= seconds < float("inf")


# What an HTTP status means


@pytest.mark.parametrize(
    ("status", "kind", "with_code"),
    [
        (100, ProtocolError, VenueError),
        (200, ProtocolError, VenueError),
        (204, ProtocolError, VenueError),
        (302, ProtocolError, VenueError),
        (307, ProtocolError, VenueError),
        (400, VenueUnavailable, VenueError),
        (401, VenueUnavailable, AuthenticationError),
        (403, VenueUnavailable, PermissionDenied),
        (404, VenueUnavailable, VenueError),
        (408, VenueUnavailable, VenueUnavailable),
        (409, VenueUnavailable, VenueError),
        (418, RateLimited, RateLimited),
        (429, RateLimited, RateLimited),
        (500, VenueUnavailable, VenueUnavailable),
        (502, VenueUnavailable, VenueUnavailable),
        (503, VenueUnavailable, VenueUnavailable),
        (504, VenueUnavailable, VenueUnavailable),
        (520, VenueUnavailable, VenueUnavailable),
        (599, VenueUnavailable, VenueUnavailable),
    ],
)
def test_what_a_status_means(
    status: int, kind: type[MassCancelError], with_code: type[MassCancelError]
) -> None:
    """To what is not the venue's own, and to a code of its own that is not known."""
    assert type(foreign_error(reply(status=status), NOW_MS)) is kind
    error = refusal_error(reply(status=status), NOW_MS, Refusal(code=7))
    assert type(error) is with_code
    unavailable = with_code is VenueUnavailable
    assert error.may_have_executed is (unavailable or status == 200)


@pytest.mark.parametrize("status", [400, 404, 409])
def test_a_refusal_without_a_code_is_of_the_request(status: int) -> None:
    """The venue itself has said no, and the status says to what."""
    error = refusal_error(reply(status=status), NOW_MS, Refusal(message="no"))
    assert type(error) is InvalidRequest


@pytest.mark.parametrize("status", [200, 302, 400, 401, 429, 500])
def test_what_the_venues_code_says_goes_before_the_status(status: int) -> None:
    """A proxy may change a status; it does not invent a code."""
    refusal = Refusal(kind=PermissionDenied, code="X", reason="WHY", message="A sentence.")
    error = refusal_error(reply(status=status, Retry_After="3"), NOW_MS, refusal)
    assert isinstance(error, PermissionDenied)
    assert (error.code, error.reason, error.http_status) == ("X", "WHY", status)
    assert error.retry_after == 3.0
    assert "A sentence." in str(error)


def test_a_plain_status_keeps_retry_after() -> None:
    """A rate limiter in front of the venue speaks in headers only."""
    error = foreign_error(reply(status=429, Retry_After="2"), NOW_MS)
    assert isinstance(error, RateLimited)
    assert (error.code, error.reason, error.http_status, error.retry_after) == (None, "", 429, 2.0)


@pytest.mark.parametrize(
    "kind", [Call, Probe, Reply, Request, Stamp, Abilities], ids=lambda kind: kind.__name__
)
def test_what_a_venue_is_made_of_is_frozen(kind: type[msgspec.Struct]) -> None:
    """A call that is being signed can't become another."""
    assert kind.__struct_config__.frozen


# What values show

SECRET = "s3cret-signature"


def by_rich(value: object) -> str:
    """What rich prints of a value."""
    file = io.StringIO()
    rich.console.Console(file=file, width=200).print(value)
    return file.getvalue()


@pytest.mark.parametrize("show", [repr, str, by_rich, lambda value: repr([value])])
def test_a_request_shows_nothing_that_was_signed(show: Any) -> None:
    """Neither headers, nor body, nor query, where some venues put the signature."""
    headers: Mapping[str, str] = {"x-auth-signature": SECRET}
    request = Request("DELETE", f"/order/all?signature={SECRET}", headers, SECRET.encode(), 1)
    text = show(request)
    assert SECRET not in text
    assert "DELETE /order/all" in text


@pytest.mark.parametrize("show", [repr, str, by_rich, lambda value: repr([value])])
def test_a_reply_shows_its_size_and_not_its_body(show: Any) -> None:
    """A peer may echo what it was sent."""
    text = show(Reply(200, {"x-echo": SECRET}, SECRET.encode()))
    assert SECRET not in text
    assert f"HTTP 200, {len(SECRET)} bytes" in text


def test_a_call_holds_no_credentials() -> None:
    """It is signed when it is written, and the same call can be signed again."""

    def sign(call: Call[Any], credentials: Credentials, stamp: Stamp) -> Request:
        return Request(call.method, call.path, {"key": f"{credentials.api_secret}{stamp.time_ms}"})

    call: Call[None] = Call(
        method="DELETE",
        origin="https://venue.test",
        path="/order/all",
        sign=sign,
        decode=lambda *_: None,
        cancels=True,
    )
    first = call.sign(call, Credentials("key", SECRET), Stamp(1))
    second = call.sign(call, Credentials("key", SECRET), Stamp(2))
    assert (first.headers["key"], second.headers["key"]) == (f"{SECRET}1", f"{SECRET}2")
    assert SECRET not in repr(call)
    assert (call.body, call.repeatable, call.nonces_per_second) == (b"", True, 0)


def test_a_probe_is_a_plain_request_with_the_time_of_this_machine() -> None:
    """Unsigned: nothing of an account goes with it; `{now_ms}` is filled in where it stands."""
    probe = Probe(origin="https://venue.test", path="/time?at={now_ms}", decode=lambda _: 0)
    request = probe.request(1_700_000_000_123)
    assert (request.method, request.target) == ("GET", "/time?at=1700000000123")
    assert (dict(request.headers), request.body) == ({}, b"")
