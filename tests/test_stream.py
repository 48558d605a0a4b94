"""The stream: AscendEX's messages without a socket, then the real one against the exchange."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from masscancel import (
    AscendEX,
    AuthenticationError,
    Client,
    Credentials,
    InvalidRequest,
    MassCancelError,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    VenueError,
    VenueUnavailable,
)
from masscancel.errors import StampRefused
from masscancel.gate import OrderGate
from masscancel.models import Ack, Gap, OrderUpdate
from masscancel.sim import (
    Account,
    Action,
    Answer,
    AscendEXDialect,
    Disconnected,
    Drop,
    DuplicateAck,
    ForeignId,
    Hang,
    Hold,
    HugeBody,
    Ignore,
    LateAck,
    Redirect,
    SimulatedExchange,
    Truncate,
    WithoutId,
)
from masscancel.venue import (
    Answered,
    Ended,
    Greeting,
    LoggedIn,
    Pinged,
    Stamp,
    StreamEvent,
    Subscribed,
    Updated,
)
from masscancel.venues.ascendex.stream import AscendEXStream, encode_cancel_all
from support import SECRETS, account_of, client_of, venue_of

BTC, ETH = "BTC/USDT", "ETH/USDT"
V1 = AscendEXStream(url="ws://x/0/api/pro/v1/stream", api_path="stream", clock_origin="http://x")
V2 = AscendEXStream(url="ws://x/0/api/pro/v2/stream", api_path="v2/stream", clock_origin="http://x")
LOGIN = Credentials("the-key", "the-secret")


def meaning(message: dict[str, Any]) -> StreamEvent | None:
    """The one event of a message, if any."""
    events = V1.parse(json.dumps(message).encode())
    assert len(events) <= 1
    return events[0] if events else None


# --- without a socket -----------------------------------------------------------------------------

ACK = {
    "m": "order",
    "accountId": "cshF5SlR9ukAXoDOuXbND4dVpBMw9gzH",
    "ac": "CASH",
    "action": "cancel-all",
    "status": "Ack",
    "info": {
        "symbol": BTC,
        "orderType": "NULL_VAL",
        "timestamp": 1608133910000,
        "id": "abc123",
        "orderId": "",
    },
}
ROW = {
    "s": BTC,
    "sn": 8159711,
    "sd": "Buy",
    "ap": "0",
    "cfq": "0.25",
    "p": "7000.5",
    "q": "1",
    "ot": "Limit",
    "orderId": "a1",
    "st": "PartiallyFilled",
    "t": 1576019215402,
}
UPDATE = {"m": "order", "accountId": "csh1", "ac": "CASH", "data": ROW}
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
    cancel = json.loads(encode_cancel_all("cash", BTC, "id1", stamp))
    assert cancel == {
        "op": "req",
        "id": "id1",
        "action": "cancel-All",
        "account": "cash",
        "args": {"id": "id1", "time": 1608133910000, "symbol": BTC},
    }
    futures = json.loads(encode_cancel_all("futures", None, "id1", stamp))
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


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes(message: bytes) -> None:
    """Bytes that mean nothing are not understood, and that is all."""
    check_only_events_or_protocol_error(message)


ODD = ["NaN", "1e999999", "-0", "Infinity", "", "0x1", "9" * 50, "cancel-all"]
LEAVES: Any = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON: Any = LEAVES | st.sampled_from(ODD) | st.lists(LEAVES, max_size=2) | st.just({"a": [{}]})


@settings(max_examples=400)
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
        b'{"m":"error","info":"\\ud800"}',
        b'{"m":"ping"' + b" " * 1000,
    ],
)
def test_nonsense(message: bytes) -> None:
    """Each of these is not understood."""
    with pytest.raises(ProtocolError):
        V1.parse(message)


# --- on a socket ----------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect and give up soon, so that a test takes no long time."""
    monkeypatch.setattr("masscancel.stream.RECONNECT", (0.001, 0.01))
    monkeypatch.setattr("masscancel.stream.CLOSE", 0.05)


SOCKET = [pytest.mark.asyncio, pytest.mark.usefixtures("quick")]


def on_socket(test: Any) -> Any:
    """Mark a test that uses sockets."""
    for mark in SOCKET:
        test = mark(test)
    return test


def done(exchange: SimulatedExchange, operation: str, answer: str = "answered") -> int:
    """How many requests of the operation were answered so."""
    return sum(r.answer == answer for r in exchange.operations(operation))


async def following(
    exchange: SimulatedExchange, client: Client, account: Account, category: str = "cash"
) -> Any:
    """A consumer of a category that is subscribed to, for sure."""
    before = done(exchange, "subscribe")
    updates = client.order_updates(category)
    if not before:
        await exchange.until(lambda: done(exchange, "subscribe") > before)
    exchange.place(account, category, "BTC-PERP" if category == "futures" else BTC)
    assert isinstance(await anext(updates), OrderUpdate)
    return updates


@asynccontextmanager
async def stream_of(
    exchange: SimulatedExchange, **options: Any
) -> AsyncIterator[tuple[Account, Client]]:
    """An account and its entered client, whose stream is opened by nobody yet."""
    account = account_of(exchange)
    async with client_of(exchange, account, **options) as client:
        yield account, client


def cancel(client: Client, symbol: str | None = None, **options: Any) -> asyncio.Task[Ack]:
    """A cancel-all on the stream, as a task."""
    return asyncio.create_task(client.cancel_all("cash", symbol, via="stream", **options))


@on_socket
@pytest.mark.parametrize("category", ["cash", "margin", "futures"])
@pytest.mark.parametrize("greeting", ["op", "m"])
@pytest.mark.parametrize("refuse_headers", [False, True])
async def test_login(category: str, greeting: Any, refuse_headers: bool) -> None:
    """By headers; where those are refused, by the message; under either greeting."""
    async with SimulatedExchange(AscendEXDialect(greeting=greeting)) as exchange:
        if refuse_headers:
            exchange.faults.add(Answer(401), operation="stream")
        async with stream_of(exchange) as (account, client):
            updates = await following(exchange, client, account, category)
            order = exchange.open_orders(account, category)[0]
            exchange.engine.fill(order.order_id, now_ms=exchange.now_ms)
            update = await anext(updates)
        assert (update.order_id, update.state) == (order.order_id, "filled")
        assert update.account_category == category
        assert len(exchange.operations("auth")) == refuse_headers
        upgrades = exchange.operations("stream")
        assert all(f"/v{2 if category == 'futures' else 1}/" in r.raw_path for r in upgrades)


@on_socket
async def test_refused_login_ends_the_iteration() -> None:
    """Bad keys: the consumer is told, now and later, and the stream is not tried for ever."""
    async with SimulatedExchange() as exchange:
        account = account_of(exchange)
        credentials = Credentials(account.api_key, "wrong-secret")
        async with Client(credentials, venue=venue_of(exchange, 0)) as client:
            for _ in range(2):
                with pytest.raises(AuthenticationError) as caught:
                    await anext(aiter(client.order_updates("cash")))
                assert "wrong-secret" not in str(caught.value)
            with pytest.raises(AuthenticationError):
                await client.cancel_all("cash", via="stream")
        assert len(exchange.operations("auth")) == 1


@on_socket
async def test_refusal_is_told_to_each_call_by_itself() -> None:
    """Two calls that a refused login fails have an error each, with their own context."""
    async with SimulatedExchange() as exchange:
        account = account_of(exchange)
        credentials = Credentials(account.api_key, "wrong-secret")
        async with Client(credentials, venue=venue_of(exchange, 0)) as client:
            errors = await asyncio.gather(
                client.cancel_all("cash", via="stream"),
                client.cancel_all("margin", via="stream"),
                return_exceptions=True,
            )
        contexts = [error.context for error in errors if isinstance(error, MassCancelError)]
        assert contexts == ["cancel_all cash on ascendex", "cancel_all margin on ascendex"]


@on_socket
async def test_skewed_clock_is_measured() -> None:
    """A clock 60 s off: the login is refused once, measured, and repeated."""
    async with SimulatedExchange(skew_ms=60_000) as exchange, stream_of(exchange) as (_, client):
        ack = await client.cancel_all("cash", via="stream")
        assert ack.attempts[-1].path == "stream"
        assert abs(ack.attempts[-1].sent_at_ms - exchange.now_ms - 60_000) < 5_000


@on_socket
async def test_pings_are_answered(exchange: SimulatedExchange) -> None:
    """The venue's ping is answered with a pong of the documents' kind."""
    async with stream_of(exchange) as (account, client):
        await following(exchange, client, account)
        for round_ in range(3):
            exchange.ping_streams()
            await exchange.until(lambda: done(exchange, "pong") > round_)  # noqa: B023  # awaited
        assert len(exchange.streams) == 1


@on_socket
async def test_own_pings(exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client pings by itself."""
    monkeypatch.setattr("masscancel.stream.PING", 0.005)
    async with stream_of(exchange) as (account, client):
        await following(exchange, client, account)
        await exchange.until(lambda: done(exchange, "ping") >= 3)
        assert len(exchange.operations("stream")) == 1


@on_socket
async def test_frozen_peer_is_noticed(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that says nothing any more is left, and the consumer is told."""
    async with stream_of(exchange) as (account, client):
        monkeypatch.setattr("masscancel.stream.PING", 0.01)
        exchange.faults.add(Hang(), operation="ping")
        updates = client.order_updates("cash")
        item = await anext(updates)
        assert isinstance(item, Gap)
        assert item.account_category == "cash"
        await exchange.until(lambda: done(exchange, "subscribe") >= 2)
        exchange.place(account, "cash", BTC)
        assert isinstance(await anext(updates), OrderUpdate)


@on_socket
@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("end", ["wire", "notice"])
async def test_reconnects(exchange: SimulatedExchange, reset: bool, end: str) -> None:
    """After a drop: a Gap, a new login, a new subscription, and updates again."""
    async with stream_of(exchange) as (account, client):
        updates = await following(exchange, client, account)
        if end == "wire":
            exchange.streams[0].end(reset=reset)
        else:
            exchange.faults.add(Disconnected(), operation="order-update")
            exchange.place(account, "cash", BTC)
        while not isinstance(item := await anext(updates), Gap):
            pass
        assert item.reason
        await exchange.until(lambda: done(exchange, "subscribe") == 2)
        order = exchange.place(account, "cash", BTC)
        update = await anext(updates)
        assert isinstance(update, OrderUpdate)
        assert update.order_id == order.order_id
        assert len({r.connection for r in exchange.operations("stream")}) == 2


@on_socket
@pytest.mark.parametrize(
    "spoil",
    [
        b"nonsense",
        b"\x81\x02\xff\xfe",
        b"[" * 1000,
        b'{"m":"order","ac":"CASH","data":{}}',
    ],
    ids=["not json", "not UTF-8", "deep", "no fields"],
)
async def test_nonsense_replaces_the_connection(exchange: SimulatedExchange, spoil: bytes) -> None:
    """What can't be understood may have been an update: a Gap, and a new connection."""
    async with stream_of(exchange) as (account, client):
        updates = await following(exchange, client, account)
        exchange.push(spoil)
        assert isinstance(await anext(updates), Gap)
        await exchange.until(lambda: done(exchange, "subscribe") == 2)
        exchange.place(account, "cash", BTC)
        assert isinstance(await anext(updates), OrderUpdate)


@on_socket
@pytest.mark.parametrize("fault", [HugeBody(2**21), Truncate()], ids=["huge", "cut"])
async def test_messages_that_are_not_taken(exchange: SimulatedExchange, fault: Action) -> None:
    """A message of 2 MiB, or one that breaks off: a Gap, and a new connection."""
    async with stream_of(exchange) as (account, client):
        updates = await following(exchange, client, account)
        exchange.faults.add(fault, operation="order-update")
        exchange.place(account, "cash", BTC)
        assert isinstance(await anext(updates), Gap)
        await exchange.until(lambda: done(exchange, "subscribe") == 2)


@on_socket
async def test_binary_frames_are_read() -> None:
    """A message in a binary frame means the same; other frames of the protocol mean nothing."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.ping()
        await socket.send_bytes(b'{"m":"connected","type":"auth"}')
        async for message in socket:
            asked = json.loads(message.data)
            if asked["op"] == "sub":
                about = {"m": "sub", "id": asked["id"], "ch": asked["ch"], "code": 0}
                await socket.send_bytes(json.dumps(about).encode())
                await socket.send_bytes(json.dumps(UPDATE).encode())
        return socket

    async with small_server(serve) as origin:
        venue = AscendEX(rest_url=f"http://{origin}", stream_url=f"ws://{origin}", account_group=0)
        async with Client(LOGIN, venue=venue) as client:
            update = await anext(aiter(client.order_updates("cash")))
            assert isinstance(update, OrderUpdate)
            assert update.order_id == "a1"


@asynccontextmanager
async def small_server(serve: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """A server of one's own; yields its host and port."""
    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


@on_socket
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirected_upgrade_is_refused(exchange: SimulatedExchange, status: int) -> None:
    """A redirect is not followed, and the login headers are never seen elsewhere."""
    seen: list[Any] = []

    async def serve(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(status=404)

    async with small_server(serve) as origin, stream_of(exchange) as (account, client):
        exchange.faults.add(
            Redirect(f"http://{origin}/stream", status), operation="stream", times=3
        )
        await following(exchange, client, account)
    assert len(exchange.operations("stream")) == 4
    assert not seen


@on_socket
async def test_ack_by_its_id(exchange: SimulatedExchange) -> None:
    """On the stream alone: acknowledged, executed, and nothing went by REST."""
    async with stream_of(exchange) as (account, client):
        ack = await client.cancel_all("cash", BTC, via="stream", request_id="kill_1")
        assert (ack.request_id, ack.symbol, ack.account_category) == ("kill_1", BTC, "cash")
        assert [(a.path, a.fate) for a in ack.attempts] == [("stream", "answered")]
        assert not exchange.open_orders(account, "cash", BTC)
        assert exchange.open_orders(account, "cash", ETH)
    assert {r.method for r in exchange.operations("cancel-all")} == {"WS"}


@on_socket
@pytest.mark.parametrize("echo", ["message", "args"])
@pytest.mark.parametrize("category", ["cash", "margin", "futures"])
async def test_either_id_comes_back(echo: Any, category: str) -> None:
    """Whichever of the two ids the venue echoes, the Ack is known by it."""
    async with (
        SimulatedExchange(AscendEXDialect(echo=echo)) as exchange,
        stream_of(exchange) as (account, client),
    ):
        ack = await client.cancel_all(category, via="stream", request_id="one-id")
        assert ack.request_id == "one-id"
        assert not exchange.open_orders(account, category)


@on_socket
async def test_acks_out_of_order(exchange: SimulatedExchange) -> None:
    """Each call gets its own Ack, in whatever order they come."""
    exchange.faults.add(LateAck("first"), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        first = cancel(client, BTC, request_id="first")
        await exchange.until(lambda: "first" in exchange.waiting)
        second = await cancel(client, BTC, request_id="second")
        assert not first.done()
        exchange.release("first")
        assert (await first).request_id == "first"
        assert second.request_id == "second"


@on_socket
async def test_ack_without_an_id(exchange: SimulatedExchange) -> None:
    """It is taken for the request of that scope, never for one of another."""
    exchange.faults.add(LateAck("btc"), operation="cancel-all")
    exchange.faults.add(WithoutId(), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        btc = cancel(client, BTC)
        await exchange.until(lambda: "btc" in exchange.waiting)
        eth = await cancel(client, ETH)
        assert (eth.symbol, eth.request_id) == (ETH, "")
        assert not btc.done()
        exchange.release("btc")
        assert (await btc).symbol == BTC


@on_socket
async def test_refusal_without_an_id_is_not_taken_for_another_request(
    exchange: SimulatedExchange,
) -> None:
    """With two requests on their way, a refusal that names neither refuses neither."""
    exchange.faults.add(LateAck("btc"), operation="cancel-all")
    refusal = {"m": "error", "id": "", "code": 100005, "reason": "INVALID_WS_REQUEST_DATA"}
    exchange.faults.add(Answer(body=json.dumps(refusal).encode()), operation="cancel-all")
    async with stream_of(exchange) as (account, client):
        btc = cancel(client, BTC)
        await exchange.until(lambda: "btc" in exchange.waiting)
        eth = cancel(client, ETH, timeout=0.2)
        with pytest.raises(MassCancelError):
            await eth
        exchange.release("btc")
        (result,) = await asyncio.gather(btc, return_exceptions=True)
        assert not exchange.open_orders(account, "cash", BTC)
        assert isinstance(result, Ack) or (
            isinstance(result, MassCancelError) and result.may_have_executed
        )


@on_socket
async def test_foreign_and_duplicate_acks_are_ignored(exchange: SimulatedExchange) -> None:
    """An Ack with another id is nobody's; a second one changes nothing."""
    exchange.faults.add(ForeignId(then_own=True), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        assert (await cancel(client, request_id="mine")).request_id == "mine"
        exchange.faults.add(DuplicateAck(), operation="cancel-all")
        assert (await cancel(client, request_id="twice")).request_id == "twice"
        assert (await cancel(client, request_id="third")).request_id == "third"
        assert len(exchange.operations("stream")) == 1


@on_socket
async def test_only_a_foreign_ack(exchange: SimulatedExchange) -> None:
    """Nothing but another request's Ack: the outcome is unknown."""
    exchange.faults.add(ForeignId(), operation="cancel-all", times=None)
    async with stream_of(exchange) as (_, client):
        with pytest.raises(OutcomeUnknown) as caught:
            await cancel(client, timeout=0.1)
        assert caught.value.may_have_executed


@on_socket
@pytest.mark.parametrize(
    "wrong",
    [
        {"ac": "MARGIN"},
        {"info": ACK["info"] | {"id": "mine", "symbol": ETH}},  # type: ignore[operator]  # a dict
        {"info": ACK["info"] | {"id": "mine", "timestamp": 1}},  # type: ignore[operator]  # a dict
    ],
    ids=["category", "symbol", "time"],
)
async def test_ack_of_another_scope_is_refused(
    exchange: SimulatedExchange, wrong: dict[str, Any]
) -> None:
    """The right id on an answer to something else is no Ack."""
    info = ACK["info"] | {"id": "mine", "timestamp": exchange.now_ms}  # type: ignore[operator]
    body = json.dumps(ACK | {"info": info} | wrong).encode()
    exchange.faults.add(Answer(body=body), operation="cancel-all", times=None)
    async with stream_of(exchange, retry=RetryPolicy(early_sends=1)) as (_, client):
        with pytest.raises(MassCancelError) as caught:
            await cancel(client, BTC, request_id="mine", timeout=0.15)
        assert caught.value.may_have_executed


@on_socket
async def test_ignored_request_replaces_the_socket(exchange: SimulatedExchange) -> None:
    """Silence until the time is up: unknown, and the next request goes on another connection."""
    exchange.faults.add(Ignore(), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        with pytest.raises(OutcomeUnknown):
            await cancel(client, timeout=0.1)
        ack = await cancel(client)
        ignored, served = exchange.operations("cancel-all")
        assert ignored.connection != served.connection
        assert ack.attempts[0].fate == "answered"


@on_socket
async def test_late_ack_is_never_the_next_requests(exchange: SimulatedExchange) -> None:
    """An Ack without an id that comes too late finds its socket gone."""
    exchange.faults.add(LateAck("late"), operation="cancel-all")
    exchange.faults.add(Ignore(), operation="cancel-all", times=None)
    async with stream_of(exchange) as (_, client):
        first = cancel(client)
        await exchange.until(lambda: "late" in exchange.waiting)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = cancel(client, timeout=0.3)
        exchange.release("late")
        info = ACK["info"] | {"id": "", "symbol": "", "timestamp": exchange.now_ms}  # type: ignore[operator]
        exchange.push(json.dumps(ACK | {"info": info}).encode())  # on every open socket
        await exchange.until(lambda: len(exchange.operations("cancel-all")) == 2)
        with pytest.raises(OutcomeUnknown):
            await second
        one, two = exchange.operations("cancel-all")[:2]
        assert one.connection != two.connection


@on_socket
async def test_next_request_never_leaves_on_a_socket_to_be_replaced(
    exchange: SimulatedExchange,
) -> None:
    """Given up and asked again in the same moment: the second one waits for the new socket."""
    exchange.faults.add(LateAck("late"), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        first = cancel(client)
        await exchange.until(lambda: "late" in exchange.waiting)
        first.cancel()
        second = await cancel(client)
        assert [attempt.fate for attempt in second.attempts] == ["answered"]
        one, two = exchange.operations("cancel-all")
        assert one.connection != two.connection


@on_socket
async def test_sent_again_on_the_stream_and_both_are_answered(exchange: SimulatedExchange) -> None:
    """A slow answer leads to a second message; both are answered, and so both are resolved."""
    gate = OrderGate()
    exchange.faults.add(LateAck("slow"), operation="cancel-all", times=2)
    async with stream_of(exchange, retry=RetryPolicy(patience=0.02)) as (_, client):
        calling = cancel(client, gate=gate)
        await exchange.until(lambda: exchange.waiting.count("slow") == 2)
        exchange.release("slow")
        await calling
        await client.cancel_all("cash", via="stream")  # what was said before has been read by now
        gate.reopen()


@on_socket
async def test_request_ids_of_the_callers_own(exchange: SimulatedExchange) -> None:
    """A caller's id is never mistaken for one of the stream's own."""
    async with stream_of(exchange) as (_, client):
        for request_id in ("login", "sub-cash"):
            refusal = {"m": "error", "id": request_id, "code": 100005, "reason": "X"}
            exchange.faults.add(Answer(body=json.dumps(refusal).encode()), operation="cancel-all")
            with pytest.raises(InvalidRequest):
                await cancel(client, request_id=request_id, timeout=0.2)


@on_socket
async def test_drop_while_waiting(exchange: SimulatedExchange) -> None:
    """The stream breaks before the answer: said again on a new one, with both fates told."""
    exchange.faults.add(Drop(executed=True), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        ack = await cancel(client)
        assert [a.fate for a in ack.attempts] == ["unknown", "answered"]


@on_socket
async def test_typed_refusal(exchange: SimulatedExchange) -> None:
    """What the venue says no to is raised at once, as what it is."""
    exchange.faults.add(
        Answer(body=json.dumps({"m": "error", "id": "mine", "code": 100008}).encode()),
        operation="cancel-all",
    )
    async with stream_of(exchange) as (_, client):
        with pytest.raises(InvalidRequest) as caught:
            await cancel(client, request_id="mine")
        assert not caught.value.may_have_executed
        assert [a.fate for a in caught.value.attempts] == ["refused"]


@on_socket
async def test_overflow_is_a_gap(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer that does not keep up loses updates and is told; another one loses none."""
    monkeypatch.setattr("masscancel.stream.BACKLOG", 5)
    async with stream_of(exchange) as (account, client):
        quick = await following(exchange, client, account)
        slow = client.order_updates("cash")
        for _ in range(8):  # each is taken by one of them before the next comes
            order = exchange.place(account, "cash", BTC)
            update = await anext(quick)
            assert isinstance(update, OrderUpdate)
            assert update.order_id == order.order_id
        items = [await anext(slow) for _ in range(3)]
        assert isinstance(items[0], Gap)
        assert all(isinstance(item, OrderUpdate) for item in items[1:])
        assert items[-1] == update


@on_socket
async def test_two_consumers_see_the_same(exchange: SimulatedExchange) -> None:
    """Every consumer gets every update."""
    async with stream_of(exchange) as (account, client):
        one = await following(exchange, client, account)
        two = client.order_updates("cash")
        ids = [exchange.place(account, "cash", BTC).order_id for _ in range(4)]
        for updates in (one, two):
            assert [getattr(await anext(updates), "order_id", None) for _ in ids] == ids
        assert len(exchange.operations("stream")) == 1
        assert len(exchange.operations("subscribe")) == 1


@on_socket
async def test_categories_share_a_stream_by_its_url(exchange: SimulatedExchange) -> None:
    """Cash and margin on one, futures on another; each consumer sees its own category only."""
    async with stream_of(exchange, watch=("cash", "margin", "futures")) as (account, client):
        await exchange.until(lambda: done(exchange, "subscribe") == 3)
        margin = client.order_updates("margin")
        await client.cancel_all("cash", via="stream")
        exchange.place(account, "cash", BTC)
        order = exchange.place(account, "margin", BTC)
        update = await anext(aiter(margin))
        assert isinstance(update, OrderUpdate)
        assert update.order_id == order.order_id
    assert len(exchange.operations("stream")) == 2


@on_socket
async def test_refused_subscription_is_told_each_time(exchange: SimulatedExchange) -> None:
    """A category that the account does not have: every consumer is told so."""
    account = exchange.add_account("k", "s", categories=("cash",))
    async with client_of(exchange, account) as client:
        for _ in range(2):
            with pytest.raises(InvalidRequest):
                async with asyncio.timeout(1):
                    await anext(aiter(client.order_updates("margin")))


@on_socket
async def test_unasked_updates_do_not_spoil_a_category(exchange: SimulatedExchange) -> None:
    """An update of a category that nobody follows yet does not keep it from being subscribed."""
    async with stream_of(exchange) as (account, client):
        cash = await following(exchange, client, account)
        exchange.push(json.dumps(UPDATE | {"ac": "MARGIN"}).encode())
        exchange.place(account, "cash", BTC)
        await anext(cash)  # so the other has been read
        async with asyncio.timeout(1):
            margin = client.order_updates("margin")
            await exchange.until(lambda: done(exchange, "subscribe") == 2, timeout=1)
            exchange.place(account, "margin", BTC)
            assert isinstance(await anext(aiter(margin)), OrderUpdate)


@on_socket
async def test_a_venue_in_trouble_is_not_hammered(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logins that fail again and again wait longer each time."""
    waits: list[float] = []

    class Draw:
        """Notes what it is multiplied with."""

        def __mul__(self, wait: float) -> float:
            waits.append(wait)
            return 0.0

    class Draws:
        """Stands for the module `random`."""

        random = Draw

    monkeypatch.setattr("masscancel.stream.random", Draws)
    monkeypatch.setattr("masscancel.stream.RECONNECT", (0.1, 5.0))
    busy = json.dumps({"m": "auth", "id": "login", "code": 200002, "err": "too many"}).encode()
    for number in (1, 3, 5, 7):  # the upgrade with headers is refused, the one without is not
        exchange.faults.add(Answer(401), operation="stream", nth=number)
    exchange.faults.add(Answer(body=busy), operation="auth", times=None)
    async with stream_of(exchange) as (_, client):
        updates = client.order_updates("cash")
        await exchange.until(lambda: len(exchange.operations("auth")) >= 4)
        del updates
    assert waits[:3] == [0.1, 0.2, 0.4]


@on_socket
async def test_leaving_ends_iterations_and_tasks(exchange: SimulatedExchange) -> None:
    """When the client is left, iterations end, and nothing of ours is running."""
    before = asyncio.all_tasks()
    async with stream_of(exchange) as (account, client):
        updates = await following(exchange, client, account)

        async def collect() -> list[Any]:
            return [item async for item in updates]

        collecting = asyncio.create_task(collect())
    assert all(isinstance(item, Gap) for item in await collecting)
    left = {t for t in asyncio.all_tasks() - before if "/sim/" not in str(t.get_coro())}
    assert not [t for t in left if "masscancel" in repr(t) and "sim" not in repr(t)]


@on_socket
async def test_close_that_is_never_answered(exchange: SimulatedExchange) -> None:
    """A peer that never answers our close does not keep the client."""
    exchange.faults.add(Ignore(), operation="close", times=None)
    async with asyncio.timeout(5):
        async with stream_of(exchange) as (account, client):
            await following(exchange, client, account)
    await exchange.until(lambda: exchange.operations("close"))
    exchange.release("close")


@on_socket
@pytest.mark.parametrize("fault", [Hang(), Answer(503), Drop(), Answer(200, b"hello")])
async def test_upgrades_that_fail_at_first(exchange: SimulatedExchange, fault: Action) -> None:
    """Whatever becomes of an upgrade, another one follows."""
    exchange.faults.add(fault, operation="stream", times=1 if isinstance(fault, Hang) else 3)
    async with asyncio.timeout(8):
        async with stream_of(exchange) as (account, client):
            if isinstance(fault, Hang):
                updates = client.order_updates("cash")
                await exchange.until(lambda: exchange.waiting)
                exchange.release()
                del updates
            await following(exchange, client, account)


@on_socket
async def test_cancel_waits_for_the_stream(exchange: SimulatedExchange) -> None:
    """A cancel on a stream that is not up yet leaves as soon as it is."""
    exchange.faults.add(Hold("login"), operation="stream")
    async with stream_of(exchange) as (account, client):
        calling = cancel(client)
        await exchange.until(lambda: "login" in exchange.waiting)
        assert not exchange.operations("cancel-all")
        exchange.release("login")
        await calling
        assert not exchange.open_orders(account, "cash")


@on_socket
async def test_nothing_secret_is_logged(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """Logins, drops and refusals leave no secret in the log."""
    caplog.set_level("DEBUG", "masscancel")
    exchange.faults.add(Answer(401), operation="stream")
    exchange.faults.add(Drop(), operation="auth")
    async with stream_of(exchange) as (account, client):
        await following(exchange, client, account)
    for secret in SECRETS:
        assert secret not in caplog.text
