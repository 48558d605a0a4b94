"""The stream of AscendEX, without a socket: what its messages mean."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masscancel import (
    AuthenticationError,
    InvalidRequest,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import (
    Answered,
    Ended,
    Greeting,
    LoggedIn,
    Pinged,
    Scope,
    Stamp,
    StreamEvent,
    Subscribed,
    Updated,
)
from masscancel.errors import StampRefused
from masscancel.models import Ack, OrderUpdate
from masscancel.venues.ascendex.stream import AscendEXStream, encode_cancel_all
from stream_support import ACK, BTC, LOGIN, ROW, UPDATE

pytestmark = pytest.mark.unmeasured

V1 = AscendEXStream(url="ws://x/0/api/pro/v1/stream", api_path="stream", clock_origin="http://x")
V2 = AscendEXStream(url="ws://x/0/api/pro/v2/stream", api_path="v2/stream", clock_origin="http://x")


def meaning(message: dict[str, Any]) -> StreamEvent | None:
    """The one event of a message, if any."""
    events = V1.parse(json.dumps(message).encode())
    assert len(events) <= 1
    return events[0] if events else None


# --- without a socket -----------------------------------------------------------------------------


MESSAGES: list[dict[str, Any]] = [
    ACK,
    ACK | {"status": "Err", "info": {"id": "abc123", "code": 100008, "reason": "SYMBOL_ERROR"}},
    UPDATE,
    {"m": "futures-order", "a": "fut1", "ac": "FUTURES"} | ROW,
    {"m": "order", "action": "cancel-all", "ac": "FUTURES", "code": 0, "id": "f1", "info": {}},
    {"m": "error", "id": "x", "code": 100005, "reason": "INVALID_WS_REQUEST_DATA", "info": "no"},
    {"m": "auth", "id": "login", "code": 0},
    {"m": "auth", "id": "login", "code": 200006, "err": "no such account"},
    {"m": "sub", "id": "sub-cash", "ch": "order:cash", "code": 0},
    {"m": "ping", "hp": 3},
    {"m": "pong", "code": 0, "ts": 1, "hp": 2},
    {"op": "connected", "type": "auth"},
    {"m": "connected", "type": "unauth"},
    {"m": "disconnected", "code": 100005, "reason": "INVALID_WS_REQUEST_DATA", "info": "missing"},
    {"m": "balance", "accountId": "csh1", "ac": "CASH", "data": {"a": "USDT", "tb": "1"}},
]


@pytest.mark.parametrize("field", ["op", "m"])
def test_both_greetings(field: str) -> None:
    """The field that says "connected" has been seen under two names."""
    assert meaning({field: "connected", "type": "auth"}) == Greeting(logged_in=True)
    assert meaning({field: "connected", "type": "unauth"}) == Greeting(logged_in=False)


def test_ack() -> None:
    """An Ack carries the scope, the id, the server's time, and its own bytes."""
    event = meaning(ACK)
    assert isinstance(event, Answered)
    assert isinstance(event.result, Ack)
    assert event.request_id == event.result.request_id == "abc123"
    assert (event.result.account_category, event.result.symbol) == ("cash", BTC)
    assert event.result.timestamp_ms == 1608133910000
    assert event.result.account_id == "cshF5SlR9ukAXoDOuXbND4dVpBMw9gzH"
    assert json.loads(event.result.raw) == ACK


def test_ack_of_futures() -> None:
    """It has a code and an id at the top, and no status."""
    event = meaning(
        {"m": "order", "action": "cancel-all", "ac": "FUTURES", "code": 0, "id": "f1"}
        | {"info": {"symbol": "BTC-PERP"}}
    )
    assert isinstance(event, Answered)
    assert isinstance(event.result, Ack)
    assert (event.request_id, event.result.symbol) == ("f1", "BTC-PERP")


def test_ack_that_says_little() -> None:
    """What an Ack leaves out is empty; whether it fits what was asked is for others to say."""
    event = meaning({"m": "order", "action": "cancel-all", "status": "Ack"})
    assert isinstance(event, Answered)
    ack = event.result
    assert isinstance(ack, Ack)
    assert event.request_id == ack.request_id == ""
    assert (ack.account_category, ack.account_id, ack.symbol) == ("", "", "")
    assert ack.timestamp_ms is None


def told(error: object) -> tuple[type[VenueError], int | str | None, str, str]:
    """What an error tells: its kind, the code, the reason, the sentence."""
    assert isinstance(error, VenueError)
    return type(error), error.code, error.reason, error.message


FUTURES = {"m": "order", "action": "cancel-all", "ac": "FUTURES"}


@pytest.mark.parametrize(
    ("message", "request_id", "expected"),
    [
        (
            ACK | {"status": "Err", "info": {"id": "a", "code": 100008, "message": "no"}},
            "a",
            (InvalidRequest, 100008, "", "no"),
        ),
        (ACK | {"status": "Err", "info": {"id": "a"}}, "a", (VenueError, None, "", "")),
        (ACK | {"code": 300020, "reason": "X"}, "abc123", (PermissionDenied, 300020, "X", "")),
        (
            FUTURES
            | {"code": 300012, "id": "b"}
            | {"info": {"symbol": "", "reason": "INVALID_PRODUCT", "errorMsg": "no"}},
            "b",
            (InvalidRequest, 300012, "INVALID_PRODUCT", "no"),
        ),
        (
            {"m": "error", "id": "c", "code": 100005, "reason": "X", "info": "no"},
            "c",
            (InvalidRequest, 100005, "X", "no"),
        ),
        ({"m": "error", "code": 100005, "info": {"a": 1}}, "", (InvalidRequest, 100005, "", "")),
        ({"m": "error", "id": 7, "code": 424242}, "7", (VenueError, 424242, "", "")),
    ],
)
def test_refusals(message: dict[str, Any], request_id: str, expected: Any) -> None:
    """An error in any of its shapes is one of ours, never an Ack, and tells what it says."""
    event = meaning(message)
    assert isinstance(event, Answered)
    assert told(event.result) == expected
    assert event.request_id == request_id


@pytest.mark.parametrize(
    "message",
    [
        *(ACK | {"status": status} for status in (None, "", "Done", "ack")),
        ACK | {"status": None, "code": 0},
        FUTURES | {"id": "f1", "info": {}},
        FUTURES | {"id": "f1", "info": {}, "status": "Done"},
    ],
)
def test_unknown_status_is_no_ack(message: dict[str, Any]) -> None:
    """What is neither an Ack nor an error is not understood: a bare code is enough of futures."""
    with pytest.raises(ProtocolError) as caught:
        V1.parse(json.dumps(message).encode())
    assert caught.value.message == "a message of the stream can't be understood"


def test_update() -> None:
    """An update's short names, in words; the numbers are exact."""
    event = meaning(UPDATE)
    assert event == Updated(
        OrderUpdate(
            account_category="cash",
            order_id="a1",
            symbol=BTC,
            side="buy",
            price=Decimal("7000.5"),
            quantity=Decimal(1),
            filled_quantity=Decimal("0.25"),
            order_type="Limit",
            status="PartiallyFilled",
            state="open",
            timestamp_ms=1576019215402,
        )
    )


def test_update_that_says_little() -> None:
    """A sell order; what is left out is empty, or nothing."""
    event = meaning(UPDATE | {"data": {"s": BTC, "orderId": "a1", "st": "New", "sd": "SELL"}})
    assert isinstance(event, Updated)
    update = event.update
    assert (update.side, update.order_type, update.timestamp_ms) == ("sell", "", None)
    assert update.price == update.quantity == update.filled_quantity == 0


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("New", "open"),
        ("Ready", "open"),
        ("PartiallyFilled", "open"),
        ("Filled", "filled"),
        ("Canceled", "cancelled"),
        ("Rejected", "rejected"),
        ("Whatever", "open"),
    ],
)
def test_states(status: str, state: str) -> None:
    """A status that is not known counts as open."""
    event = meaning({"m": "futures-order", "ac": "FUTURES"} | ROW | {"st": status})
    assert isinstance(event, Updated)
    assert event.update.state == state
    assert event.update.account_category == "futures"


def test_login_answers() -> None:
    """Only code 0 is a login."""
    assert meaning({"m": "auth", "id": "login", "code": 0}) == LoggedIn(None)
    assert meaning({"m": "auth", "id": "login", "code": 0, "reason": "X"}) == LoggedIn(None)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"code": 200006, "err": "no"}, (AuthenticationError, 200006, "", "no")),
        ({"code": 123456, "reason": "X"}, (AuthenticationError, 123456, "", "X")),
        ({"code": 100011}, (StampRefused, 100011, "", "")),
        ({"code": 200002}, (RateLimited, 200002, "", "")),
        ({"code": 510001}, (VenueUnavailable, 510001, "", "")),
    ],
)
def test_refused_logins(said: dict[str, Any], expected: Any) -> None:
    """It was not accepted, unless the reason passes: a clock that is off, a venue in trouble."""
    event = meaning({"m": "auth", "id": "login"} | said)
    assert isinstance(event, LoggedIn)
    assert told(event.error) == expected


def test_a_login_refused_as_an_error() -> None:
    """The id says that it was the login."""
    asked = json.loads(V1.login(LOGIN, Stamp(1)))["id"]
    event = meaning({"m": "error", "id": asked, "code": 200001, "reason": "X", "info": "no"})
    assert isinstance(event, LoggedIn)
    assert told(event.error) == (AuthenticationError, 200001, "X", "no")


def test_login_without_a_code_is_none() -> None:
    """An answer that says why not, and no code, is no login."""
    refused = meaning({"m": "auth", "id": "login", "err": "signature does not match"})
    assert isinstance(refused, LoggedIn)
    assert isinstance(refused.error, AuthenticationError)


def test_other_messages() -> None:
    """Subscriptions, pings and the end; what does not matter is nothing."""
    assert meaning({"m": "sub", "id": "x", "ch": "order:cash", "code": 0}) == Subscribed("cash")
    assert meaning({"m": "sub", "ch": "futures-order", "code": 0}) == Subscribed("futures")
    asked = json.loads(V1.subscribe("margin"))["id"]
    refused = meaning({"m": "error", "id": asked, "code": 100005, "info": "no"})
    assert isinstance(refused, Subscribed)
    assert refused.account_category == "margin"
    assert isinstance(refused.error, InvalidRequest)
    denied = meaning({"m": "sub", "ch": "order:cash", "code": 100009, "err": "no"})
    assert isinstance(denied, Subscribed)
    assert told(denied.error) == (AuthenticationError, 100009, "", "no")
    assert meaning({"m": "sub", "code": 0}) == Subscribed("")
    ping = meaning({"m": "ping", "hp": 3})
    assert isinstance(ping, Pinged)
    assert json.loads(ping.answer) == {"op": "pong"}
    assert meaning(MESSAGES[-2]) == Ended("INVALID_WS_REQUEST_DATA")
    assert meaning({"m": "disconnected"}) == Ended("disconnected")
    nothing = {"m": "order", "ac": "CASH"}
    for message in (MESSAGES[-1], {"m": "pong", "code": 0}, {"m": "trades"}, nothing, {}):
        assert meaning(message) is None


def test_what_is_said() -> None:
    """The messages are those of the documents; the id stands in both places."""
    stamp = Stamp(1608133910000)
    cancel = json.loads(encode_cancel_all(Scope("cash", BTC), "id1", stamp))
    assert cancel == {
        "op": "req",
        "id": "id1",
        "action": "cancel-All",
        "account": "cash",
        "args": {"id": "id1", "time": 1608133910000, "symbol": BTC},
    }
    futures = json.loads(encode_cancel_all(Scope("futures"), "id1", stamp))
    assert futures["ac"] == "futures"
    assert "account" not in futures
    assert "symbol" not in futures["args"]
    margin = json.loads(V1.subscribe("margin"))
    assert (margin["op"], margin["ch"]) == ("sub", "order:margin")
    assert json.loads(V2.subscribe("futures"))["ch"] == "futures-order"
    assert json.loads(V1.ping()) == {"op": "ping"}


def test_login_signs_the_published_vector() -> None:
    """The same signature in the headers and in the message, over another path for v2."""
    login = json.loads(V1.login(LOGIN, Stamp(1)))
    assert login["op"] == "auth"
    assert (login["t"], login["key"]) == (1, "the-key")
    assert V1.login_headers(LOGIN, Stamp(1))["x-auth-signature"] == login["sig"]
    assert json.loads(V2.login(LOGIN, Stamp(1)))["sig"] != login["sig"]
    assert "the-secret" not in V1.login(LOGIN, Stamp(1))


def check_only_events_or_protocol_error(message: bytes) -> None:
    """Nothing but events or a ProtocolError comes of any message."""
    try:
        events = V1.parse(message)
    except ProtocolError:
        return
    kinds = Greeting | LoggedIn | Subscribed | Answered | Updated | Pinged | Ended
    assert all(isinstance(event, kinds) for event in events)


@given(st.binary(max_size=200))
def test_any_bytes(message: bytes) -> None:
    """Bytes that mean nothing are not understood, and that is all."""
    check_only_events_or_protocol_error(message)


ODD = ["NaN", "1e999999", "-0", "Infinity", "", "0x1", "9" * 50, "cancel-all"]
LEAVES: Any = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON: Any = LEAVES | st.sampled_from(ODD) | st.lists(LEAVES, max_size=2) | st.just({"a": [{}]})


@given(st.sampled_from(MESSAGES), st.data())
def test_mutated_messages(message: dict[str, Any], data: st.DataObject) -> None:
    """Real messages with a field replaced, taken out, or cut short."""
    mutated: dict[str, Any] = json.loads(json.dumps(message))
    part: dict[str, Any] = mutated
    inner = [key for key, value in mutated.items() if isinstance(value, dict)]
    deeper: bool = data.draw(st.booleans())
    if inner and deeper:
        part = mutated[data.draw(st.sampled_from(inner))]
    if part:
        key = data.draw(st.sampled_from(sorted(part)))
        if data.draw(st.booleans()):
            part[key] = data.draw(JSON)
        else:
            del part[key]
    whole = json.dumps(mutated).encode()
    keep = data.draw(st.integers(0, len(whole)) | st.just(len(whole)))
    check_only_events_or_protocol_error(whole[:keep])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"null",
        b"[]",
        b'"order"',
        b"\xff\xfe",
        b'{"m":"\xff"}',
        b"[" * 100_000,
        b'{"m":"order","data":' + b"[" * 100_000,
        b'{"m":"order","ac":"CASH","data":{"s":"B","orderId":"1","st":"New","sd":"Buy","p":"x"}}',
        b'{"m":"ping"' + b" " * 1000,
    ],
)
def test_nonsense(message: bytes) -> None:
    """Each of these is not understood."""
    with pytest.raises(ProtocolError):
        V1.parse(message)
