"""What venues share: origins, envelopes and refusals, numbers, times."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masscancel.calls import Call, Reply
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.venues.toolkit import (
    SLICE,
    Refusal,
    ask,
    batches,
    check_names,
    check_origin,
    decimal,
    decode_json,
    every,
    http_date,
    is_whole,
    kind_by_prefix,
    merged,
    milliseconds,
    one,
    open_envelope,
    retry_after,
    side,
    unsigned,
)

pytestmark = pytest.mark.unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable

NOW_MS = 784_111_777_000 - 5_000  # five seconds before RFC 9110's own example


def reply(body: object = b"", status: int = 200, **headers: str) -> Reply:
    """A reply: bytes as they are, anything else as JSON; `_` in a header's name stands for `-`."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): v for name, v in headers.items()}, raw)


def outcome_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The value, or our error as a value, which never drags another along."""
    try:
        return function(*args, **kwargs)
    except MassCancelError as error:
        problem = error
    assert (problem.__context__, problem.__cause__) == (None, None)
    assert str(problem).isprintable()
    return problem


# Origins.


@pytest.mark.parametrize(
    ("given", "normalized"),
    [
        ("https://ascendex.com", "https://ascendex.com"),
        ("HTTPS://AscendEX.com:8443/", "https://ascendex.com:8443"),
        ("https://localhost", "https://localhost"),
        ("https://10.0.0.7:9000", "https://10.0.0.7:9000"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("HTTP://127.1.2.3:80/", "http://127.1.2.3:80"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_has_one_spelling(given: str, normalized: str) -> None:
    """Encrypted anywhere, in clear text to loopback addresses; for websockets alike."""
    assert check_origin(given, name="rest_url", scheme="http") == normalized
    assert check_origin(normalized, name="rest_url", scheme="http") == normalized
    given, normalized = (url.lower().replace("http", "ws") for url in (given, normalized))
    assert check_origin(given, name="stream_url", scheme="ws") == normalized


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:1", "localhost.", "localhost.evil.com", "notlocalhost",
        "ascendex.com", "10.0.0.7", "192.168.1.1:8080", "0", "127.1", "2130706433",
        "127.0.0.1.evil.com", "127.0.0.999", "127.0.0.1.", "127.0.0.1evil.com", "[::]", "[::2]",
        "[::ffff:10.0.0.7]", "[::1].evil.com",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_clear_text_goes_to_loopback_addresses_only(scheme: str, host: str) -> None:
    """Whatever the host resembles; a name, even `localhost`, may lead anywhere."""
    with pytest.raises(ConfigurationError, match="some_url"):
        check_origin(f"{scheme}://{host}", name="some_url", scheme=scheme)


def test_the_message_about_localhost_says_what_to_do() -> None:
    """Encrypt, or name the address."""
    with pytest.raises(ConfigurationError) as caught:
        check_origin("http://localhost:8080", name="rest_url", scheme="http")
    message = str(caught.value)
    assert "rest_url would send keys to localhost in clear text: use https://" in message
    assert "127.0.0.1" in message


@pytest.mark.parametrize(
    "url",
    [
        "", "ascendex.com", "//ascendex.com", "https:/ascendex.com", "https://", "https:///api",
        "https://:443", "ftp://ascendex.com", "ws://127.0.0.1", "wss://ascendex.com",
        "https://ascendex.com/api", "https://ascendex.com//", "https://ascendex.com?a=b",
        "https://ascendex.com/#x", "https://user:s3cret@ascendex.com", "https://@ascendex.com",
        "http://127.0.0.1:80@evil.com", "http://evil.com#@127.0.0.1", "http://evil.com\\@127.0.0.1",
        "https://ascendex.com:port", "https://ascendex.com:65536", "https://ascendex.com:0",
        "https://ascendex.com:4_43", " https://ascendex.com", "https://ascendex.com\n",
        "https://ascendex.com\r\nHost: evil.com", "https://ascendex.com\0", "https://äscendex.com",
        "https://ascendex.com:٤٤٣", "https://ascendex。com", "https://[::1", "https://::1",
        "https://[not-an-address]", "https://evil.com[::1]", "https://a%2fb.com",
        "https://*.ascendex.com", "https://ascendex..com", b"https://ascendex.com", None, 443,
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_origin_is_refused(url: Any) -> None:
    """Nothing but scheme, host and port; what was given, perhaps a password, is not repeated."""
    error = outcome_of(check_origin, url, name="rest_url", scheme="http")
    assert isinstance(error, ConfigurationError)
    assert "rest_url" in str(error)
    assert "s3cret" not in str(error)


@given(st.text() | st.from_regex(r"https?://[\w.:@/?#\[\]%\\\"<-]{0,30}"))
def test_any_text_is_an_origin_or_a_configuration_error(text: str) -> None:
    """Nothing else is raised; in clear text, only to a loopback address."""
    origin = outcome_of(check_origin, text, name="rest_url", scheme="http")
    if not isinstance(origin, ConfigurationError):
        scheme, _, rest = origin.partition("://")
        assert not set(rest) & set("/?#@\\ \t\r\n\"'<>%")
        assert scheme == "https" or rest.startswith(("127.", "["))


# Flows.


def test_one_and_every() -> None:
    """Values are returned, falsy ones too; the first error is raised with a count of the rest."""
    assert one([[]]) == []
    assert (every([]), every([3, 0])) == ([], [3, 0])
    first, second = NotSent("a"), OutcomeUnknown("b")
    for function, results in ((one, [first]), (every, [1, first, 2, second, 3])):
        with pytest.raises(NotSent) as caught:
            function(results)
        assert caught.value is first
    assert first.__notes__ == ["2 of 5 calls failed, 3 succeeded"]
    for wrong in ([], [1, 2]):
        with pytest.raises(ValueError, match="values to unpack"):
            one(wrong)


def test_ask_makes_a_single_call() -> None:
    """A flow of one step; a public request carries nothing of the account."""
    call: Call[int] = Call(
        method="GET",
        origin="https://venue.test",
        path="/time",
        sign=unsigned,
        decode=lambda *_: 5,
        cancels=False,
    )
    flow = ask(call)
    assert next(flow) == [call]
    with pytest.raises(StopIteration) as stop:
        flow.send([5])
    assert stop.value.value == 5
    request = call.sign(call, None, None)  # type: ignore[arg-type]  # neither is looked at
    assert (request.method, request.target, dict(request.headers)) == ("GET", "/time", {})


def test_batches_lose_nothing() -> None:
    """In order, the last one shorter; and their answers are one again."""
    assert batches("abcde", 2) == ["ab", "cd", "e"]
    assert batches([], 2) == []
    assert merged([{"a": 1}, {}, {"b": 2}]) == {"a": 1, "b": 2}


def test_the_longest_known_beginning_counts() -> None:
    """An error's text may go on after it."""
    kinds = {"EAPI:": VenueError, "EAPI:Invalid key": AuthenticationError}
    assert kind_by_prefix("EAPI:Invalid key, or so", kinds) is AuthenticationError
    assert kind_by_prefix("EAPI:Else", kinds) is VenueError
    assert kind_by_prefix("EOrder", kinds) is None


# Envelopes and refusals.


class Envelope(msgspec.Struct):
    """What the replies of these tests have."""

    code: int
    data: msgspec.Raw = msgspec.Raw()


ENVELOPE = msgspec.json.Decoder(Envelope)
KINDS = {1: PermissionDenied, 2: StampRefused, 3: VenueUnavailable}
PAGE = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"


def refused(envelope: Envelope) -> Refusal | None:
    """Success is 0."""
    return Refusal(kind=KINDS.get(envelope.code), code=envelope.code) if envelope.code else None


def opened(answer: Reply) -> Any:
    """The envelope of a reply, or the error that it is."""
    return outcome_of(open_envelope, ENVELOPE, answer, NOW_MS, refused)


def test_an_envelope_of_success_is_returned() -> None:
    """Unknown fields are ignored; the payload is decoded later, from its own bytes."""
    envelope = opened(reply(b'{"code": 0, "more": [1], "data": {"now":  5}}'))
    assert bytes(envelope.data) == b'{"now":  5}'


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 429, 500, 503])
@pytest.mark.parametrize("code", KINDS)
def test_the_venues_code_goes_before_the_status(code: int, status: int) -> None:
    """A proxy may change a status; it does not invent a code."""
    error = opened(reply({"code": code}, status, Retry_After="3"))
    assert type(error) is KINDS[code]
    assert (error.code, error.http_status, error.retry_after) == (code, status, 3.0)
    assert error.may_have_executed is (code == 3)


@pytest.mark.parametrize(
    ("status", "kind", "may_have_executed"),
    [
        (200, VenueError, True),
        (400, VenueError, False),
        (401, AuthenticationError, False),
        (403, PermissionDenied, False),
        (429, RateLimited, False),
        (499, VenueUnavailable, True),
        (500, VenueUnavailable, True),
    ],
)
def test_a_code_that_is_not_documented(
    status: int, kind: type[Any], *, may_have_executed: bool
) -> None:
    """The status says what it is; at HTTP 200 it may even mean that it was carried out."""
    error = opened(reply({"code": 99}, status))
    assert type(error) is kind
    assert error.may_have_executed is may_have_executed


@pytest.mark.parametrize("status", [201, 302, 400, 403, 429, 500])
def test_success_under_another_status_is_none(status: int) -> None:
    """It contradicts itself: it may have been carried out, and is no answer."""
    error = opened(reply({"code": 0}, status))
    assert isinstance(error, ProtocolError if status < 400 else VenueError)
    assert error.may_have_executed


@pytest.mark.parametrize("body", [PAGE, b"", b"{}", b"[]", b'{"code": 1', b'{"code": "1"}'])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, ProtocolError),
        (204, ProtocolError),
        (302, ProtocolError),
        (400, VenueUnavailable),
        (401, VenueUnavailable),
        (403, VenueUnavailable),
        (418, RateLimited),
        (429, RateLimited),
        (503, VenueUnavailable),
    ],
)
def test_a_foreign_reply_says_nothing_of_the_key(status: int, kind: type[Any], body: bytes) -> None:
    """What is not the venue's own JSON is a proxy's or a CDN's: asking again may help."""
    error = opened(reply(body, status, Retry_After="2"))
    assert type(error) is kind
    if kind is not ProtocolError:
        assert (error.code, error.retry_after) == (None, 2.0)


def test_a_refused_stamp_tells_the_venues_time() -> None:
    """To the second, from its `Date`."""
    error = opened(reply({"code": 2}, Date="Sun, 06 Nov 1994 08:49:37 GMT"))
    assert error.date_ms == NOW_MS + 5_000


@pytest.mark.parametrize(
    "body",
    [
        b"null", b'{"code":', b'{"code": 0}{"code": 0}', b'{"code": 0},', b'{"code": 0.5}',
        b'{"code": true}', b'{"code": NaN}', b'{"code": 1e999}', b'{"code": ' + b"9" * 5_000 + b"}",
        b'{"code": "\xff"}', b"[" * 20_000, b'\xef\xbb\xbf{"code": 0}', b"\x1f\x8b\x08\x00",
        b'{"code": 1, "code": 0}', b'{"code": 1, "c\\u006fde": 0}',
        b'{"code": 0, "x": {"a":1,"a":2}}',
    ],
    ids=lambda body: ascii(body[:24]),
)  # fmt: skip
def test_a_body_that_is_not_what_was_expected(body: bytes) -> None:
    """One short line of what is known of it; nothing of what it says."""
    error = opened(reply(body, Content_Type="text/html; charset=x"))
    assert type(error) is ProtocolError
    assert error.may_have_executed
    assert f"HTTP 200, {len(body)} bytes of text/html" in str(error)
    assert len(str(error)) < 300


@given(st.binary())
def test_any_bytes_are_decoded_or_a_protocol_error(body: bytes) -> None:
    """Nothing else comes out."""
    assert isinstance(outcome_of(decode_json, ENVELOPE, reply(body)), Envelope | ProtocolError)


FILLER = json.dumps([{"name": "x" * 90}] * (SLICE // 80)).encode()


def test_a_payload_that_stands_twice_in_a_large_reply_is_refused() -> None:
    """Of two lists of rows msgspec takes the last; other names are not looked at there."""
    large = b'{"code": 0, "data": ' + FILLER
    assert isinstance(opened(reply(large + b"}")), Envelope)
    assert isinstance(opened(reply(large + b', "x": 1, "x": 2}')), Envelope)
    for name in (b'"data"', b'"data" \n'):
        assert isinstance(opened(reply(large + b", " + name + b": []}")), ProtocolError)


@given(
    st.recursive(st.integers() | st.text(), lambda c: st.dictionaries(st.text(), c) | st.lists(c))
)
def test_names_that_stand_once_each_are_fine(value: Any) -> None:
    """Any JSON that Python writes is, whatever its names hold."""
    check_names(json.dumps(value).encode())


# Numbers, sides, times.


@pytest.mark.parametrize(
    ("value", "number"),
    [("7105", "7105"), ("0.0083", "0.0083"), ("1E-8", "0.00000001"), ("-1.5", "-1.5"), (0.1, "0.1"),
     (5, "5"), ("", "0"), (None, "0"), ("1e32", "1e32")],
)  # fmt: skip
def test_a_number(value: Any, number: str) -> None:
    """Exactly as written; nothing is zero."""
    assert decimal(value) == Decimal(number)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "-inf", "x", "1,5", "0x10", "1e33", "1e-999999"])
def test_what_is_no_number_of_a_price_or_quantity(text: str) -> None:
    """A NaN would compare to nothing, for ever."""
    assert type(outcome_of(decimal, text)) is ProtocolError


@given(st.text() | st.floats() | st.from_regex(r"-?\d+(\.\d+)?([eE][+-]?\d{1,4})?"))
def test_anything_is_a_finite_number_or_a_protocol_error(value: Any) -> None:
    """Nothing else comes out."""
    number = outcome_of(decimal, value)
    assert isinstance(number, ProtocolError) or number.is_finite()


def test_sides() -> None:
    """However they are spelled; no other word is one."""
    assert [side(word) for word in ("Buy", "BUY", "b", "sell", "S")] == ["buy"] * 3 + ["sell"] * 2
    for word in ("", "both", "unknown", "buy "):
        assert type(outcome_of(side, word)) is ProtocolError


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 11])
def test_a_whole_number_is_an_int_within_its_bounds(value: object) -> None:
    """And no bool."""
    assert not is_whole(value, 0, 10)
    assert is_whole(0, 0, 10)


def test_times() -> None:
    """RFC 3339, to the ms; in UTC where no zone is named."""
    for text in (
        "1994-11-06T08:49:32.5Z",
        "1994-11-06T09:49:32.500999+01:00",
        "1994-11-06T08:49:32.5",
    ):
        assert milliseconds(text) == NOW_MS + 500
    for wrong in (None, "", "soon", "1994-13-01T00:00:00Z", "\ud800"):
        assert type(outcome_of(milliseconds, wrong)) is ProtocolError


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0.0), (" 7 ", 7.0), ("007", 7.0), ("9" * 5_000, 3 * 86_400.0), ("", None), ("-1", None),
     ("1.5", None), ("1e3", None), ("\N{ARABIC-INDIC DIGIT THREE}", None), ("soon", None),
     ("Sun, 06 Nov 1994 08:49:37 GMT", 5.0), ("Sunday, 06-Nov-94 08:49:37 GMT", 5.0),
     ("Sun Nov  6 08:49:37 1994", 5.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 3 * 86_400.0),
     ("Sun, 99 Nov 1994 08:49:37 GMT", None)],
    ids=lambda value: ascii(value)[:24],
)  # fmt: skip
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_retry_after(
    monkeypatch: pytest.MonkeyPatch, zone: str, header: str, seconds: float | None
) -> None:
    """Seconds, or a date in one of the three forms of RFC 9110 section 5.6.7, all in GMT."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retry_after(reply(status=429, Retry_After=header), NOW_MS) == seconds
        assert http_date(header) == (NOW_MS + 5_000 if seconds == 5 else http_date(header))
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text() | st.integers().map(str) | st.datetimes().map(format_datetime))
def test_any_retry_after_is_a_wait_or_nothing(header: str) -> None:
    """Never negative, never an exception."""
    seconds = retry_after(reply(status=429, Retry_After=header), NOW_MS)
    assert seconds is None or 0 <= seconds < float("inf")
