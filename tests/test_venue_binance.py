"""Binance: requests, replies and flows without a socket, then against the simulated exchange."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from masscancel import (
    Ack,
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    InvalidRequest,
    MassCancelError,
    OpenOrder,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    SessionPool,
    Target,
    VenueError,
    VenueUnavailable,
    cancel_many,
)
from masscancel.errors import StampRefused
from masscancel.sim import (
    HELD,
    Account,
    Answer,
    Drop,
    EffectDelay,
    Script,
    SimulatedExchange,
    What,
)
from masscancel.sim import (
    Reply as SimReply,
)
from masscancel.sim import (
    Request as SimRequest,
)
from masscancel.sim.binance import BinanceDialect
from masscancel.sim.binance import signature as sim_signature
from masscancel.sim.dialect import Moment
from masscancel.venue import Call, Flow, Reply, Request, Stamp
from masscancel.venues.binance import Binance, signature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

T = TypeVar("T")

DATA = Path(__file__).parent / "data" / "binance"
VECTORS: list[dict[str, str]] = json.loads((DATA / "vectors.json").read_bytes())
CCXT: dict[str, Any] = json.loads((DATA / "ccxt_requests.json").read_bytes())
CCXT_REQUESTS: dict[str, dict[str, Any]] = {each["call"]: each for each in CCXT["requests"]}

NOW = 1_700_000_000_000
STAMP = Stamp(NOW)
CREDENTIALS = Credentials("key", "secret")
VENUE = Binance()
BTC, ETH = "BTCUSDT", "ETHUSDT"
SCOPES = [("spot", BTC), ("spot", None), ("usdm", BTC), ("usdm", None)]
UNKNOWN_ORDER = (DATA / "error_cancel_rejected_unknown_order.json").read_bytes()
DONE = (DATA / "usdm_delete_allOpenOrders.json").read_bytes()


def sample(name: str) -> bytes:
    """A sample of the documents."""
    return (DATA / f"{name}.json").read_bytes()


def begin(flow: Flow[Any]) -> Sequence[Call[Any]]:
    """The first calls of a flow."""
    return next(flow)


def end(flow: Flow[T], results: Sequence[Any]) -> T:
    """Send a flow its last results; what it returns."""
    with pytest.raises(StopIteration) as stop:
        flow.send(results)
    value: T = stop.value.value
    return value


def signed(call: Call[Any], stamp: Stamp = STAMP) -> Request:
    """The call as it is written."""
    return call.sign(call, CREDENTIALS, stamp)


def decoded(call: Call[Any], body: bytes, status: int = 200, **headers: str) -> Any:
    """What the call makes of a reply."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return call.decode(Reply(status, named, body), STAMP)


def refused(
    call: Call[Any], body: bytes | str | dict[str, Any], status: int = 400, **headers: str
) -> MassCancelError:
    """The error that the call makes of a reply."""
    if isinstance(body, dict):
        body = json.dumps(body)
    with pytest.raises(MassCancelError) as caught:
        decoded(call, body.encode() if isinstance(body, str) else body, status, **headers)
    return caught.value


def cancel_call(category: str, symbol: str = BTC) -> Call[Any]:
    """The (first) cancel of a symbol."""
    return begin(VENUE.cancel_all(category, symbol, None))[0]


def described(call: Call[Any]) -> tuple[str, str, str]:
    """Method, path, and the symbol that is asked for."""
    request = signed(call)
    query = dict(parse_qsl(request.target.partition("?")[2]))
    return request.method, request.target.partition("?")[0], query.get("symbol", "")


def row(symbol: str, order_id: int = 1) -> dict[str, Any]:
    """An order of the ordinary book, as it is listed."""
    listed: dict[str, Any] = json.loads(sample("spot_openOrders"))[0]
    return listed | {"symbol": symbol, "orderId": order_id}


def algo_row(symbol: str, algo_id: int = 1) -> dict[str, Any]:
    """A conditional order, as it is listed."""
    listed: dict[str, Any] = json.loads(sample("usdm_openAlgoOrders"))[0]
    return listed | {"symbol": symbol, "algoId": algo_id}


def listing(call: Call[Any], *rows: dict[str, Any]) -> Any:
    """What a listing's call makes of these rows."""
    return decoded(call, json.dumps(rows).encode())


# The value.


def test_default_hosts_and_testnets() -> None:
    """Production by default; a testnet is one argument away."""
    assert VENUE.origin("spot") == "https://api.binance.com"
    assert VENUE.origin("usdm") == "https://fapi.binance.com"
    testnet = Binance(usdm_url="https://demo-fapi.binance.com/")
    assert testnet.origin("usdm") == "https://demo-fapi.binance.com"
    assert Binance(spot_url="http://127.0.0.1:8080").origin("spot") == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    "options",
    [
        {"spot_url": "http://api.binance.com"},
        {"usdm_url": "http://fapi.binance.com"},
        {"spot_url": "https://api.binance.com/api/v3"},
        {"usdm_url": ""},
        {"recv_window_ms": 0},
        {"recv_window_ms": 60_001},
        {"recv_window_ms": True},
        {"recv_window_ms": 5000.5},
        {"recv_window_ms": "5000"},
    ],
)
def test_unusable_settings_are_refused(options: dict[str, Any]) -> None:
    """Clear text, more than an origin, a window that the venue would not take."""
    with pytest.raises(ConfigurationError):
        Binance(**options)


def test_nothing_has_to_be_found_out() -> None:
    """The venue is ready as it is."""
    assert VENUE.ready()
    with pytest.raises(StopIteration) as stop:
        next(VENUE.prepare())
    assert stop.value.value is VENUE


def test_abilities() -> None:
    """No cancel without a symbol is one call; only futures have a switch, by symbol."""
    assert {name: each.whole_account for name, each in VENUE.abilities.items()} == {
        "spot": "a call per symbol",
        "usdm": "a call per symbol",
    }
    assert (VENUE.abilities["spot"].switch, VENUE.abilities["usdm"].switch) == (None, "symbol")


# Scopes.

BAD_SCOPES = [
    ("cash", None),
    ("Spot", None),
    ("", None),
    (None, None),
    (["spot"], None),
    *[
        (category, symbol)
        for category in ("spot", "usdm")
        for symbol in (
            *("", "BTC/USDT", "btcusdt", "BTCUSDt", "BTC-USDT", "BTC USDT", "BTCUSDT&symbol=X"),
            *("BTCUSDT\n", "BTC%55SDT", "\u3000", "BTC\u200bUSDT", "\ud800", "A" * 51, 1, b"BTC"),
        )
    ],
]


@pytest.mark.parametrize(("category", "symbol"), BAD_SCOPES)
def test_bad_scopes_send_nothing(category: Any, symbol: Any) -> None:
    """A category or symbol that can't be one is refused before there is a call."""
    for flow in (
        VENUE.cancel_all(category, symbol, None),
        VENUE.open_orders(category, symbol),
        VENUE.switch(category, symbol, 1000),
    ):
        with pytest.raises(ScopeError):
            next(flow)
    if symbol is None:
        with pytest.raises(ScopeError):
            VENUE.origin(category)


@given(st.text(max_size=60))
def test_whatever_is_taken_for_a_symbol_is_sent_as_it_is(symbol: str) -> None:
    """Any text is refused as a scope, or travels percent-encoded and comes out the same."""
    try:
        call = cancel_call("spot", symbol)
    except ScopeError:
        return
    target = signed(call).target
    assert target.isascii()
    assert [name for name, _ in parse_qsl(target.partition("?")[2])] == [
        *("timestamp", "symbol", "recvWindow", "signature")
    ]
    assert described(call)[2] == symbol


@pytest.mark.parametrize(
    "symbol", [BTC, "BTCUSDT_250926", "1000SATSUSDT", "币安人生USDT", "\uff11\uff12\uff13USDT"]
)
def test_symbols_of_every_kind(symbol: str) -> None:
    """Digits, delivery dates, and letters beyond ASCII, which spot's and futures' documents use."""
    for category in ("spot", "usdm"):
        assert described(cancel_call(category, symbol))[2] == symbol


# Requests.


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_published_vectors(vector: dict[str, str]) -> None:
    """Client and simulator both sign as the documents do; each vector cites its page."""
    assert signature(vector["secret"], vector["payload"]) == vector["signature"]
    assert sim_signature(vector["secret"], vector["payload"]) == vector["signature"]


UNWARNED = "[warnWithoutSymbol=False]"
COUNTDOWN = "binanceusdm.fapiPrivatePostCountdownCancelAll"

#: ccxt's call, ours, and which of our calls in flight together: ccxt has a call for each book.
AS_CCXT: list[tuple[str, str, tuple[Any, ...], int]] = [
    ('binance.cancel_all_orders("BTC/USDT")', "cancel_all", ("spot", BTC, None), 0),
    ('binance.cancel_all_orders("币安人生/USDT")', "cancel_all", ("spot", "币安人生USDT", None), 0),
    (
        'binance.cancel_all_orders("BTC/USDT", {"recvWindow": 5000})',
        *("cancel_all", ("spot", BTC, None), 0),
    ),
    ('binance.fetch_open_orders("BTC/USDT")', "open_orders", ("spot", BTC), 0),
    (
        "binance.fetch_open_orders() [options.fetchOpenOrders.warnWithoutSymbol=False]",
        *("open_orders", ("spot", None), 0),
    ),
    ('binanceusdm.cancel_all_orders("BTC/USDT:USDT")', "cancel_all", ("usdm", BTC, None), 1),
    (
        'binanceusdm.cancel_all_orders("BTC/USDT:USDT", {"trigger": True})',
        *("cancel_all", ("usdm", BTC, None), 0),
    ),
    ('binanceusdm.fetch_open_orders("BTC/USDT:USDT")', "open_orders", ("usdm", BTC), 1),
    (
        'binanceusdm.fetch_open_orders("BTC/USDT:USDT", None, None, {"trigger": True})',
        *("open_orders", ("usdm", BTC), 0),
    ),
    (f"binanceusdm.fetch_open_orders() {UNWARNED}", "open_orders", ("usdm", None), 1),
    (
        f'binanceusdm.fetch_open_orders(None, None, None, {{"trigger": True}}) {UNWARNED}',
        *("open_orders", ("usdm", None), 0),
    ),
    (
        f'{COUNTDOWN}({{"symbol": "BTCUSDT", "countdownTime": 60000}})',
        *("switch", ("usdm", BTC, 60_000), 0),
    ),
    (
        f'{COUNTDOWN}({{"symbol": "BTCUSDT", "countdownTime": 0}})',
        *("switch", ("usdm", BTC, 0), 0),
    ),
]


@pytest.mark.parametrize(("name", "method", "scope", "number"), AS_CCXT)
def test_requests_equal_those_of_ccxt(
    name: str, method: str, scope: tuple[Any, ...], number: int
) -> None:
    """Method, URL, headers and body, signature and all, are byte for byte what ccxt sends.

    With its window, which is 10 s by default; ours is the venue's own default of 5 s.
    """
    venue = Binance(recv_window_ms=5_000 if "recvWindow" in name else 10_000)
    theirs = CCXT_REQUESTS[name]
    call = begin(getattr(venue, method)(*scope))[number]
    ours = call.sign(call, CREDENTIALS, Stamp(CCXT["milliseconds"]))
    assert ours.method == theirs["method"]
    assert call.origin + ours.target == theirs["url"]
    assert ours.headers == theirs["headers"]
    assert ours.body.decode() == (theirs["body"] or "")


def test_every_request_of_ccxt_is_compared() -> None:
    """The fixtures hold nothing that is left out, but for the clocks, which come next."""
    assert set(CCXT_REQUESTS) - {name for name, *_ in AS_CCXT} == {
        "binance.fetch_time()",
        "binanceusdm.fetch_time()",
    }


@pytest.mark.parametrize(
    ("category", "name", "data"),
    [("spot", "binance", "spot_time"), ("usdm", "binanceusdm", "usdm_time")],
)
def test_each_host_has_a_clock(category: str, name: str, data: str) -> None:
    """The probe is ccxt's request, and reads the documents' sample."""
    theirs = CCXT_REQUESTS[f"{name}.fetch_time()"]
    probe = VENUE.probe(VENUE.origin(category))
    request = probe.request(NOW)
    assert (request.method, probe.origin + request.target) == (theirs["method"], theirs["url"])
    assert not request.headers
    assert probe.decode(Reply(200, {}, sample(data))) == 1499827319559
    with pytest.raises(ProtocolError):
        probe.decode(Reply(200, {}, b"{}"))
    with pytest.raises(RateLimited):
        probe.decode(Reply(429, {}, sample("error_rate_limit_banned")))


def test_a_request_says_when_it_expires() -> None:
    """That is its timestamp and the window, beyond which the venue refuses it."""
    for venue in (VENUE, Binance(recv_window_ms=60_000)):
        request = signed(begin(venue.cancel_all("spot", BTC, None))[0])
        assert request.expires_at_ms == NOW + venue.recv_window_ms


def test_no_repr_shows_what_was_signed() -> None:
    """Neither the call nor the request shows key, secret or signature."""
    for flow in (VENUE.cancel_all("spot", BTC, None), VENUE.switch("usdm", BTC, 1000)):
        (call,) = begin(flow)
        request = signed(call)
        signature_sent = (request.target + request.body.decode()).rpartition("=")[2]
        shown = f"{call!r} {request!r}"
        for hidden in (signature_sent, "'key'", "'secret'"):
            assert hidden not in shown


# Replies: the documents' samples.


def test_spot_listing() -> None:
    """The documents' sample, as our value."""
    flow = VENUE.open_orders("spot", "LTCBTC")
    (call,) = begin(flow)
    assert described(call) == ("GET", "/api/v3/openOrders", "LTCBTC")
    assert end(flow, [decoded(call, sample("spot_openOrders"))]) == [
        OpenOrder(
            order_id="1",
            symbol="LTCBTC",
            side="buy",
            price=Decimal("0.1"),
            quantity=Decimal("1.0"),
            filled_quantity=Decimal("0.0"),
            order_type="LIMIT",
            status="NEW",
        )
    ]


def test_futures_listing_has_both_books() -> None:
    """Ordinary and conditional orders of the documents' samples, asked for together."""
    flow = VENUE.open_orders("usdm", None)
    calls = begin(flow)
    assert [described(call) for call in calls] == [
        ("GET", "/fapi/v1/openAlgoOrders", ""),
        ("GET", "/fapi/v1/openOrders", ""),
    ]
    bodies = [sample("usdm_openAlgoOrders"), sample("usdm_openOrders")]
    conditional, ordinary = end(
        flow, [decoded(call, body) for call, body in zip(calls, bodies, strict=True)]
    )
    assert (ordinary.order_id, ordinary.symbol, ordinary.side) == ("1917641", BTC, "buy")
    assert (ordinary.order_type, ordinary.quantity) == ("TRAILING_STOP_MARKET", Decimal("0.40"))
    assert conditional == OpenOrder(
        order_id="algo:2148627",
        symbol="BNBUSDT",
        side="sell",
        price=Decimal(750),
        quantity=Decimal("0.01"),
        filled_quantity=Decimal(0),
        order_type="TAKE_PROFIT",
        status="NEW",
    )


def test_ids_of_the_two_books_do_not_collide() -> None:
    """An order and a conditional order of the same number are two."""
    flow = VENUE.open_orders("usdm", BTC)
    conditional, ordinary = begin(flow)
    orders = end(flow, [listing(conditional, algo_row(BTC, 7)), listing(ordinary, row(BTC, 7))])
    assert len({order.order_id for order in orders}) == 2


def test_a_conditional_order_may_have_no_quantity() -> None:
    """One that closes the position has none, or zero."""
    call = begin(VENUE.open_orders("usdm", BTC))[0]
    closing = algo_row(BTC) | {"closePosition": True, "price": None}
    for quantity in (None, "", "0"):
        (order,) = listing(call, closing | {"quantity": quantity}).orders
        assert order.quantity == order.price == order.filled_quantity == 0


def test_spot_cancel_answers_with_orders_and_order_lists() -> None:
    """The documents' sample has both; the Ack keeps its bytes and claims no time of receipt."""
    flow = VENUE.cancel_all("spot", BTC, "an-id")
    (call,) = begin(flow)
    assert described(call) == ("DELETE", "/api/v3/openOrders", BTC)
    assert call.acts
    assert call.repeatable
    body = sample("spot_delete_openOrders")
    assert end(flow, [decoded(call, body)]) == Ack(
        account_category="spot", status="CANCELED", symbol=BTC, raw=body
    )


def test_futures_cancel_reaches_both_books_together() -> None:
    """The documents' samples; each book says that it is done and not what."""
    flow = VENUE.cancel_all("usdm", BTC, None)
    calls = begin(flow)
    assert [described(call) for call in calls] == [
        ("DELETE", "/fapi/v1/algoOpenOrders", BTC),
        ("DELETE", "/fapi/v1/allOpenOrders", BTC),
    ]
    bodies = [sample("usdm_delete_algoOpenOrders"), sample("usdm_delete_allOpenOrders")]
    ack = end(flow, [decoded(call, body) for call, body in zip(calls, bodies, strict=True)])
    assert ack == Ack(account_category="usdm", status="done", symbol=BTC, raw=b"\n".join(bodies))


def test_a_code_of_success_may_be_text() -> None:
    """Futures' 200 has been seen as a string."""
    call = cancel_call("usdm")
    assert decoded(call, b'{"code":"200","msg":"done"}').status == "done"


@pytest.mark.parametrize("category", ["spot", "usdm"])
@pytest.mark.parametrize("full_stop", [True, False])
def test_no_such_order_means_flat(category: str, *, full_stop: bool) -> None:
    """The documents' -2011, with its full stop as on spot or without as on futures, is an Ack."""
    body = UNKNOWN_ORDER if full_stop else UNKNOWN_ORDER.replace(b"sent.", b"sent")
    flow = VENUE.cancel_all(category, BTC, None)
    calls = begin(flow)
    ack = end(flow, [decoded(call, body, 400) for call in calls])
    assert (ack.status, ack.symbol) == ("nothing open", BTC)
    assert ack.raw == b"\n".join([body] * len(calls))


def test_spot_may_answer_that_it_cancelled_nothing() -> None:
    """An empty list of what was cancelled is an answer too."""
    flow = VENUE.cancel_all("spot", BTC, None)
    (call,) = begin(flow)
    assert end(flow, [decoded(call, b"[]")]).status == "nothing open"


CANCELLED = json.loads(sample("spot_delete_openOrders"))
SPOT_ROW, ORDER_LIST = CANCELLED[0], CANCELLED[2]


@pytest.mark.parametrize(
    ("category", "body"),
    [
        ("spot", b""),
        ("spot", b"null"),
        ("spot", b"<html>"),
        ("spot", b"{}"),
        ("spot", DONE),
        ("spot", sample("spot_delete_openOrders")[:-20]),
        ("spot", [1]),
        ("spot", [{}]),
        ("spot", [SPOT_ROW | {"symbol": ETH}]),
        ("spot", [SPOT_ROW, SPOT_ROW | {"symbol": ETH}]),
        ("spot", [SPOT_ROW | {"status": "NEW"}]),
        ("spot", [SPOT_ROW | {"status": "PARTIALLY_FILLED"}]),
        ("spot", [row(BTC)]),  # a listing
        ("spot", [ORDER_LIST | {"symbol": ETH}]),
        ("spot", [ORDER_LIST | {"orderReports": []}]),
        ("spot", [ORDER_LIST | {"orderReports": [{"symbol": ETH, "status": "CANCELED"}]}]),
        ("spot", [ORDER_LIST | {"orderReports": [{"symbol": BTC, "status": "NEW"}]}]),
        ("spot", [ORDER_LIST | {"status": "NEW"}]),  # whatever its reports say
        ("usdm", b""),
        ("usdm", b"{}"),
        ("usdm", b"[]"),
        ("usdm", {"code": 0, "msg": ""}),
        ("usdm", {"code": 201, "msg": "done"}),
        ("usdm", {"msg": "The operation of cancel all open order is done."}),
        ("usdm", sample("spot_time")),
    ],
)
def test_what_is_no_answer_to_the_cancel_is_refused(category: str, body: Any) -> None:
    """Another shape, another symbol, or orders that are live: the outcome is unknown."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = refused(cancel_call(category), content, 200)
    assert type(error) is ProtocolError
    assert error.may_have_executed


@pytest.mark.parametrize(
    "rows",
    [
        b"",
        b"{}",
        b"null",
        DONE,
        [row(ETH)],
        [row(BTC), row("")],
        [row(BTC) | {"side": "HOLD"}],
        [row(BTC) | {"origQty": "much"}],
        [row(BTC) | {"price": "NaN"}],
        [{name: value for name, value in row(BTC).items() if name != "orderId"}],
        [algo_row(BTC)],
    ],
)
def test_what_is_no_listing_of_the_scope_is_refused(rows: Any) -> None:
    """Another shape or symbol, or numbers that are none."""
    content = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    for category in ("spot", "usdm"):
        call = begin(VENUE.open_orders(category, BTC))[-1]  # the ordinary book
        assert type(refused(call, content, 200)) is ProtocolError


def test_an_order_without_a_symbol_can_not_be_cancelled() -> None:
    """A listing of everything that has such an order is refused as well."""
    for call in begin(VENUE.open_orders("usdm", None)):
        for listed in (row(""), algo_row("")):
            assert type(refused(call, json.dumps([listed]), 200)) is ProtocolError


# Refusals.

REFUSALS: list[tuple[str, int, int, str, type[MassCancelError], bool]] = [
    # category, HTTP status, code, sentence, error, may have been carried out
    ("spot", 400, -1000, "An unknown error occurred", VenueUnavailable, True),
    ("spot", 400, -1001, "Internal error", VenueUnavailable, True),
    ("spot", 401, -1002, "You are not authorized", PermissionDenied, False),
    ("spot", 400, -1003, "Too many requests queued.", RateLimited, False),
    ("spot", 400, -1006, "Execution status unknown.", VenueUnavailable, True),
    ("spot", 400, -1007, "Timeout waiting for response", VenueUnavailable, True),
    ("spot", 400, -1008, "Server is currently overloaded", VenueUnavailable, False),
    ("spot", 400, -1013, "Filter failure", InvalidRequest, False),
    ("spot", 400, -1014, "Unsupported order combination.", InvalidRequest, False),
    ("spot", 400, -1015, "Too many new orders.", RateLimited, False),
    ("spot", 400, -1016, "This service is no longer available.", VenueUnavailable, False),
    ("spot", 400, -1020, "This operation is not supported.", InvalidRequest, False),
    ("spot", 400, -1021, "outside of the recvWindow.", StampRefused, False),
    ("spot", 400, -1022, "Signature is not valid.", AuthenticationError, False),
    ("spot", 400, -1100, "Illegal characters", InvalidRequest, False),
    ("spot", 400, -1102, "Mandatory parameter", InvalidRequest, False),
    ("spot", 400, -1121, "Invalid symbol.", InvalidRequest, False),
    ("spot", 400, -1131, "recvWindow must be less than 60000", InvalidRequest, False),
    ("spot", 401, -2008, "Invalid Api-Key ID.", AuthenticationError, False),
    ("spot", 401, -2014, "API-key format invalid.", AuthenticationError, False),
    ("spot", 401, -2015, "Invalid API-key", AuthenticationError, False),
    ("spot", 400, -9999, "Never heard of", VenueError, False),
    ("spot", 200, -9999, "Never heard of", VenueError, False),
    ("spot", 200, -1121, "Invalid symbol.", InvalidRequest, False),
    # the matching engine's
    ("spot", 400, -2011, "Market is closed.", VenueError, False),
    ("spot", 400, -2011, "This action is disabled on this account.", PermissionDenied, False),
    ("spot", 400, -2011, "This account may not place or cancel orders.", PermissionDenied, False),
    ("spot", 400, -2011, "Rest API trading is not enabled.", PermissionDenied, False),
    ("spot", 400, -2011, "This symbol is restricted for this account.", PermissionDenied, False),
    ("spot", 400, -2011, "Order was not canceled due to restrictions.", VenueError, False),
    ("spot", 400, -1010, "This action is disabled on this account.", PermissionDenied, False),
    # "the execution status is UNKNOWN", whatever else is said
    ("spot", 500, -1121, "Invalid symbol.", VenueUnavailable, True),
    ("spot", 502, -2011, "Unknown order sent.", VenueUnavailable, True),
    ("spot", 503, -1008, "Server is currently overloaded", VenueUnavailable, True),
    ("spot", 503, -1001, "Service Unavailable.", VenueUnavailable, True),
    ("spot", 429, -2011, "Unknown order sent.", RateLimited, False),
    # what only futures have
    ("usdm", 400, -1004, "not on the white list", PermissionDenied, False),
    ("spot", 400, -1004, "not documented here", VenueError, False),
    ("usdm", 400, -1005, "No such IP has been white listed", PermissionDenied, False),
    ("usdm", 400, -1011, "This IP cannot access this route.", PermissionDenied, False),
    ("usdm", 401, -1099, "Not found, unauthenticated", AuthenticationError, False),
    ("usdm", 400, -1109, "Invalid account.", PermissionDenied, False),
    ("spot", 400, -1109, "an issue of the request", InvalidRequest, False),
    ("usdm", 400, -2012, "Batch cancel failure.", VenueUnavailable, True),
    ("usdm", 400, -2017, "API Keys are locked", AuthenticationError, False),
    ("usdm", 400, -4109, "Inactive account", PermissionDenied, False),
    ("usdm", 400, -5028, "outside of the ME recvWindow.", StampRefused, False),
    ("usdm", 400, -1121, "Invalid symbol.", InvalidRequest, False),
    ("usdm", 400, -2011, "Market is closed.", VenueError, False),
    ("usdm", 408, -1007, "Timeout waiting for response", VenueUnavailable, True),
    ("usdm", 500, -1000, "Request occur unknown error.", VenueUnavailable, True),
    ("usdm", 503, -1000, "Unknown error, please check your request", VenueUnavailable, True),
    ("usdm", 503, -1000, "Service Unavailable.", VenueUnavailable, False),
    (
        *("usdm", 503, -1001),
        *("Internal error; unable to process your request. Please try again.",),
        *(VenueUnavailable, False),
    ),
    ("usdm", 500, -1000, "Service Unavailable.", VenueUnavailable, True),
    ("usdm", 503, -1008, "Request throttled", VenueUnavailable, False),
    ("usdm", 502, -1008, "Request throttled", VenueUnavailable, True),
]


@pytest.mark.parametrize(("category", "status", "code", "text", "kind", "executed"), REFUSALS)
def test_every_code_has_its_meaning(
    category: str,
    status: int,
    code: int,
    text: str,
    kind: type[MassCancelError],
    *,
    executed: bool,
) -> None:
    """Type, code, sentence and HTTP status, and whether it may have been carried out."""
    calls = [*begin(VENUE.cancel_all(category, BTC, None))]
    calls += [*begin(VENUE.open_orders(category, None))]
    for call in calls:
        error = refused(call, {"code": code, "msg": text}, status)
        assert type(error) is kind
        assert isinstance(error, VenueError)
        assert (error.code, error.message, error.http_status) == (code, text, status)
        assert error.may_have_executed is executed


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("error_bad_symbol", 400, InvalidRequest),
        ("error_bad_key", 401, AuthenticationError),
        ("usdm_error_bad_key_seen", 401, AuthenticationError),
        ("error_cancel_rejected_restrictions", 400, VenueError),
        ("error_rate_limit_banned", 418, RateLimited),
        ("usdm_error_throttled", 503, VenueUnavailable),
    ],
)
def test_samples_of_refusals(name: str, status: int, kind: type[MassCancelError]) -> None:
    """The documents' own samples, and one that was seen."""
    assert type(refused(cancel_call("usdm"), sample(name), status)) is kind


@pytest.mark.parametrize(
    ("status", "kind", "executed"),
    [
        (302, ProtocolError, True),
        (400, InvalidRequest, False),
        (403, RateLimited, False),
        (404, InvalidRequest, False),
        (408, VenueUnavailable, True),
        (418, RateLimited, False),
        (429, RateLimited, False),
        (500, VenueUnavailable, True),
        (503, VenueUnavailable, True),
    ],
)
def test_a_gateway_speaks_html(status: int, kind: type[MassCancelError], *, executed: bool) -> None:
    """Without a code the HTTP status decides; 403 is the firewall's, and passes."""
    for category in ("spot", "usdm"):
        error = refused(cancel_call(category), b"<html>Service Unavailable.</html>", status)
        assert type(error) is kind
        assert error.may_have_executed is executed


def test_how_long_to_wait() -> None:
    """The header in seconds; else the end of the ban, which the sentence dates in ms."""
    call = cancel_call("spot")
    banned = {"code": -1003, "msg": f"Way too much; IP banned until {NOW + 90_500}. Please use"}

    def wait(body: dict[str, Any], status: int, **headers: str) -> float | None:
        error = refused(call, body, status, **headers)
        assert isinstance(error, VenueError)
        return error.retry_after

    assert wait(banned, 418, Retry_After="7") == 7
    assert wait(banned, 418) == 90.5
    assert wait({"code": -1003, "msg": f"IP banned until {NOW - 1}."}, 429) == 0
    assert wait({"code": -1003, "msg": "Too many requests"}, 429) is None
    assert wait({"code": -1003, "msg": "Too many requests"}, 403, Retry_After="2") == 2
    assert (
        wait({"code": -1003, "msg": "IP banned until " + "9" * 30}, 418)
        == (10**16 - 1 - NOW) / 1000
    )


def test_an_echoed_signature_stays_out_of_the_error() -> None:
    """A peer may repeat the query; what was signed is not repeated by us."""
    call = cancel_call("spot")
    target = signed(call).target
    sent = target.rpartition("=")[2]
    error = refused(call, {"code": -1104, "msg": f"Not all were read: {target}"})
    assert isinstance(error, VenueError)
    assert sent not in f"{error} {error.message} {error.args}"


# Flows: everything, without a symbol.


def test_everything_on_spot_is_a_cancel_per_listed_symbol() -> None:
    """Each symbol once, in the order of the listing, all in flight together."""
    flow = VENUE.cancel_all("spot", None, None)
    (call,) = begin(flow)
    assert described(call) == ("GET", "/api/v3/openOrders", "")
    assert not call.acts
    cancels = flow.send([listing(call, row(BTC, 1), row(ETH, 2), row(BTC, 3), row("币USDT", 4))])
    assert [described(each) for each in cancels] == [
        ("DELETE", "/api/v3/openOrders", symbol) for symbol in (BTC, ETH, "币USDT")
    ]
    bodies = [
        sample("spot_delete_openOrders"),
        UNKNOWN_ORDER,
        json.dumps([SPOT_ROW | {"symbol": "币USDT"}]).encode(),
    ]
    statuses = [200, 400, 200]
    ack = end(flow, list(map(decoded, cancels, bodies, statuses)))
    assert ack == Ack(account_category="spot", status="CANCELED", raw=b"\n".join(bodies))


def test_everything_on_futures_is_both_books_of_each_listed_symbol() -> None:
    """Whichever book a symbol is found in, since a conditional order may become an ordinary one."""
    flow = VENUE.cancel_all("usdm", None, None)
    conditional, ordinary = begin(flow)
    cancels = flow.send([listing(conditional, algo_row(BTC)), listing(ordinary, row(ETH))])
    assert [described(each) for each in cancels] == [
        ("DELETE", f"/fapi/v1/{path}", symbol)
        for symbol in (BTC, ETH)
        for path in ("algoOpenOrders", "allOpenOrders")
    ]
    ack = end(flow, [decoded(each, DONE) for each in cancels])
    assert ack == Ack(account_category="usdm", status="done", raw=b"\n".join([DONE] * 4))


@pytest.mark.parametrize("category", ["spot", "usdm"])
def test_nothing_open_is_an_ack_that_says_so(category: str) -> None:
    """No cancel is sent, and the Ack holds the bytes of the listings."""
    flow = VENUE.cancel_all(category, None, None)
    calls = begin(flow)
    ack = end(flow, [decoded(call, b"[]") for call in calls])
    raw = b"\n".join([b"[]"] * len(calls))
    assert ack == Ack(account_category=category, status="nothing open", raw=raw)


def test_a_failed_cancel_fails_the_whole_and_names_its_symbol() -> None:
    """An error of one symbol is raised, not hidden behind the others' success."""
    flow = VENUE.cancel_all("spot", None, None)
    (call,) = begin(flow)
    cancels = flow.send([listing(call, row(BTC), row(ETH, 2), row("LTCBTC", 3))])
    error = refused(cancels[1], {"code": -2011, "msg": "Market is closed."})
    with pytest.raises(VenueError, match="Market is closed") as caught:
        flow.send([decoded(cancels[0], b"[]"), error, decoded(cancels[2], b"[]")])
    assert caught.value is error
    assert error.__notes__ == [
        f"not acknowledged: {ETH}",
        "1 of 4 calls failed, 3 succeeded",
    ]


def test_a_failed_listing_does_not_keep_the_other_book_from_being_cancelled() -> None:
    """What is listed is cancelled; then the error of the other listing is raised."""
    flow = VENUE.cancel_all("usdm", None, None)
    conditional, ordinary = begin(flow)
    error = refused(conditional, {"code": -1020, "msg": "This operation is not supported."})
    cancels = flow.send([error, listing(ordinary, row(BTC))])
    assert {described(each)[2] for each in cancels} == {BTC}
    with pytest.raises(InvalidRequest):
        flow.send([decoded(each, DONE) for each in cancels])


def test_a_failed_listing_is_never_nothing_open() -> None:
    """With one book empty and the other unread, nothing is claimed."""
    flow = VENUE.cancel_all("usdm", None, None)
    conditional, ordinary = begin(flow)
    with pytest.raises(VenueUnavailable):
        flow.send([refused(conditional, b"", 502), listing(ordinary)])
    listed = VENUE.open_orders("usdm", None)
    conditional, ordinary = begin(listed)
    with pytest.raises(VenueUnavailable):
        listed.send([refused(conditional, b"", 502), listing(ordinary)])


# The switch.


def order_of(order_id: str, symbol: str = BTC) -> OpenOrder:
    """An order that was open."""
    return OpenOrder(
        order_id=order_id,
        symbol=symbol,
        side="buy",
        price=Decimal(1),
        quantity=Decimal(1),
        filled_quantity=Decimal(0),
        order_type="LIMIT",
        status="NEW",
    )


def asked_for(call: Call[Any]) -> str:
    """Path and parameters of a question after an order."""
    path, _, query = signed(call).target.partition("?")
    fields = dict(parse_qsl(query))
    named = [f"{name}={fields[name]}" for name in ("symbol", "orderId", "algoId") if name in fields]
    return f"{path} {' '.join(named)}"


def test_what_has_become_of_orders_is_asked_one_by_one() -> None:
    """Of each book at its own endpoint, by its own id, together; nothing is cancelled by it."""
    calls = begin(
        VENUE.order_states("spot", [order_of("1", "LTCBTC"), order_of("2", "币安人生USDT")])
    )
    assert [asked_for(call) for call in calls] == [
        "/api/v3/order symbol=LTCBTC orderId=1",
        "/api/v3/order symbol=币安人生USDT orderId=2",
    ]
    calls = begin(VENUE.order_states("usdm", [order_of("1"), order_of("algo:2146760")]))
    assert [asked_for(call) for call in calls] == [
        "/fapi/v1/order symbol=BTCUSDT orderId=1",
        "/fapi/v1/algoOrder algoId=2146760",
    ]
    assert {(call.method, call.acts) for call in calls} == {("GET", False)}
    assert decoded(calls[1], sample("usdm_algoOrder")) == "cancelled"
    (call,) = begin(VENUE.order_states("spot", [order_of("1", "LTCBTC")]))
    assert decoded(call, sample("spot_order")) == "open"


@pytest.mark.parametrize(
    ("order_id", "status", "state"),
    [
        ("1", "FILLED", "filled"),
        ("1", "CANCELED", "cancelled"),
        ("1", "EXPIRED", "cancelled"),
        ("1", "EXPIRED_IN_MATCH", "cancelled"),
        ("1", "REJECTED", "rejected"),
        ("1", "PARTIALLY_FILLED", "open"),
        ("1", "SOMETHING_NEW", "open"),
        ("algo:1", "CANCELED", "cancelled"),
        ("algo:1", "EXPIRED", "cancelled"),
        ("algo:1", "REJECTED", "rejected"),
        ("algo:1", "TRIGGERED", "open"),
        ("algo:1", "SOMETHING_NEW", "open"),
        ("algo:1", "FINISHED", None),
    ],
)
def test_what_each_status_means(order_id: str, status: str, state: str | None) -> None:
    """Of a conditional order that was triggered and has ended, it is not known how."""
    flow = VENUE.order_states("usdm", [order_of(order_id)])
    (call,) = begin(flow)
    body = {"orderId": 1, "status": status, "algoId": 1, "algoStatus": status}
    result = decoded(call, json.dumps(body).encode())
    assert result == state
    assert end(flow, [result]) == ({} if state is None else {order_id: state})


def test_an_order_that_the_venue_knows_no_more() -> None:
    """It is left out; any other refusal, and an answer about another order, is an error."""
    (call,) = begin(VENUE.order_states("usdm", [order_of("1")]))
    gone = b'{"code":-2013,"msg":"Order does not exist."}'
    assert decoded(call, gone, 400) is None
    assert isinstance(refused(call, {"code": -1003, "msg": "Too many"}, 429), RateLimited)
    other = {"orderId": 2, "status": "FILLED"}
    assert isinstance(refused(call, other, 200), ProtocolError)
    (call,) = begin(VENUE.order_states("usdm", [order_of("algo:1")]))
    assert isinstance(refused(call, {"algoId": 2, "algoStatus": "CANCELED"}, 200), ProtocolError)
    assert isinstance(refused(call, other | {"orderId": 1}, 200), ProtocolError)


def test_very_many_orders_are_not_all_asked_for() -> None:
    """They come eight together, and the last of them are left out: unknown, not gone."""
    orders = [order_of(str(number)) for number in range(100)]
    flow = VENUE.order_states("spot", orders)
    rounds = [begin(flow)]
    while len(rounds) < 8:
        rounds.append(flow.send(["filled"] * len(rounds[-1])))
    states = end(flow, ["filled"] * len(rounds[-1]))
    assert {len(calls) for calls in rounds} == {8}
    assert states == {str(number): "filled" for number in range(64)}


def test_a_question_after_orders_may_fail() -> None:
    """Its error is the flow's; no orders are no question; the category is one of Binance's."""
    flow = VENUE.order_states("spot", [order_of("1"), order_of("2")])
    begin(flow)
    with pytest.raises(RateLimited):
        flow.send(["filled", RateLimited(-1003)])
    with pytest.raises(StopIteration) as stop:
        next(VENUE.order_states("spot", []))
    assert stop.value.value == {}
    with pytest.raises(ScopeError):
        next(VENUE.order_states("margin", []))


def test_there_is_no_stream() -> None:
    """Of either category; others do not exist."""
    for category in VENUE.abilities:
        VENUE.stream(category)
    with pytest.raises(ScopeError):
        VENUE.stream("margin")


def test_the_switch_of_futures() -> None:
    """The documents' sample; it fires that long after the request's stamp, or not at all."""
    flow = VENUE.switch("usdm", BTC, 100_000)
    (call,) = begin(flow)
    assert end(flow, [decoded(call, sample("usdm_countdownCancelAll"))]) == NOW + 100_000
    flow = VENUE.switch("usdm", BTC, 0)
    (call,) = begin(flow)
    assert end(flow, [decoded(call, b'{"symbol":"BTCUSDT","countdownTime":"0"}')]) is None


@pytest.mark.parametrize(
    "reply",
    [
        {"symbol": ETH, "countdownTime": "100000"},
        {"symbol": BTC, "countdownTime": "0"},
        {"symbol": BTC},
        {"code": 200, "msg": "done"},
    ],
)
def test_the_switch_is_not_taken_for_armed_by_another_answer(reply: dict[str, Any]) -> None:
    """Symbol and time are the ones that were asked for."""
    (call,) = begin(VENUE.switch("usdm", BTC, 100_000))
    assert type(refused(call, reply, 200)) is ProtocolError


@pytest.mark.parametrize(("category", "symbol"), [("spot", None), ("spot", BTC), ("usdm", None)])
def test_no_other_scope_has_a_switch(category: str, symbol: str | None) -> None:
    """Refused by name, never approximated."""
    with pytest.raises(ScopeError, match="switch"):
        next(VENUE.switch(category, symbol, 1000))


@pytest.mark.parametrize("timeout_ms", [-1, 1.5, True, "1000", None])
def test_the_switch_wants_whole_milliseconds(timeout_ms: Any) -> None:
    """Anything else is refused before there is a call."""
    with pytest.raises(ConfigurationError):
        next(VENUE.switch("usdm", BTC, timeout_ms))


# Whatever arrives.

CALLS: list[tuple[Call[Any], bytes]] = [
    (cancel_call("spot"), sample("spot_delete_openOrders")),
    (cancel_call("usdm"), DONE),
    (begin(VENUE.open_orders("spot", None))[0], sample("spot_openOrders")),
    (begin(VENUE.open_orders("usdm", None))[0], sample("usdm_openAlgoOrders")),
    (begin(VENUE.open_orders("usdm", None))[1], sample("usdm_openOrders")),
    (begin(VENUE.switch("usdm", BTC, 100_000))[0], sample("usdm_countdownCancelAll")),
]
STATUSES = st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 408, 418, 429, 500, 503])
SENTENCES = st.builds(
    lambda code, text: json.dumps({"code": code, "msg": text}).encode(),
    st.integers() | st.integers(-5100, 300) | st.sampled_from([-2011, -1003, 200]),
    st.text() | st.sampled_from(["Unknown order sent.", "IP banned until 1", "Market is closed."]),
)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[Call[Any], bytes]:
    """A call, and a good reply to it with some bytes replaced, inserted or cut out."""
    call, good = draw(st.sampled_from(CALLS))
    start = draw(st.integers(0, len(good)))
    stop = draw(st.integers(start, min(len(good), start + 20)))
    return call, good[:start] + draw(st.binary(max_size=8)) + good[stop:]


def outcome(call: Call[Any], body: bytes, status: int) -> str:
    """The name of what a reply leads to; anything but a value or an error of ours is raised."""
    try:
        return type(decoded(call, body, status)).__name__
    except MassCancelError as error:
        return type(error).__name__


@given(st.sampled_from(CALLS), st.binary() | SENTENCES, STATUSES)
def test_arbitrary_replies(
    call_and_sample: tuple[Call[Any], bytes], body: bytes, status: int
) -> None:
    """Whatever bytes come with whatever status: a value, or one of our errors."""
    value = outcome(call_and_sample[0], body, status)
    if status not in (200, 400):
        assert value not in ("Answer", "Listing", "int")


@given(mutations(), STATUSES)
def test_mutated_replies(mutated: tuple[Call[Any], bytes], status: int) -> None:
    """The same for good replies that were damaged on the way."""
    call, body = mutated
    value = outcome(call, body, status)
    if status != 200:
        assert value not in ("Answer", "Listing", "int")


def test_deep_and_large_replies() -> None:
    """Nesting without end is a reply that can't be understood."""
    for call, _ in CALLS:
        for body in (b"[" * 100_000, b'{"code":' * 100_000, b'[{"orderReports":' * 100_000):
            assert outcome(call, body, 200) == "ProtocolError"
            assert outcome(call, body, 400) == "InvalidRequest"


# Against the simulated exchange, over real sockets.


@pytest_asyncio.fixture
async def binance() -> AsyncIterator[SimulatedExchange]:
    """Both sides of the venue at one origin; their paths differ."""
    async with SimulatedExchange(BinanceDialect(symbols=[BTC, ETH, "币安人生USDT"])) as exchange:
        yield exchange


def account_of(exchange: SimulatedExchange, number: int = 0) -> Account:
    """An account with orders in both categories and, on futures, both books."""
    account = exchange.add_account(f"a-key-{number}", f"a-secret-{number}")
    for category in ("spot", "usdm"):
        for symbol in (BTC, BTC, ETH, "币安人生USDT"):
            exchange.place(account, category, symbol, price="7289.1", quantity="0.5")
    exchange.place(account, "usdm", BTC, side="sell", order_type="stop_market")
    exchange.place(account, "usdm", ETH, order_type="take_profit")
    exchange.place(account, "spot", ETH, order_type="stop_loss_limit")
    return account


def client_of(exchange: SimulatedExchange, account: Account, **options: Any) -> Client:
    """A client of the account, whose pool opens no connection by itself."""
    return Client(
        Credentials(account.api_key, account.api_secret),
        venue=Binance(spot_url=exchange.rest_url, usdm_url=exchange.rest_url),
        **options,
    )


def left(exchange: SimulatedExchange, account: Account) -> set[tuple[str, str]]:
    """Category and symbol of what is open."""
    return {
        (category, order.symbol)
        for category in ("spot", "usdm")
        for order in exchange.open_orders(account, category)
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(("category", "symbol"), [*SCOPES, ("usdm", "币安人生USDT")])
async def test_cancels_exactly_the_scope(
    binance: SimulatedExchange, category: str, symbol: str | None
) -> None:
    """The right orders are gone, conditional ones too, and no others; then there is nothing."""
    account, bystander = account_of(binance), account_of(binance, 1)
    before = left(binance, account)
    async with client_of(binance, account) as client:
        ack = await client.cancel_all(category, symbol)
        assert left(binance, account) == {
            each for each in before if each[0] != category or symbol not in (None, each[1])
        }
        assert await client.open_orders(category, symbol) == []
        again = await client.cancel_all(category, symbol)
    assert left(binance, bystander) == before
    assert (ack.account_category, ack.symbol) == (category, symbol or "")
    assert ack.status == ("CANCELED" if category == "spot" else "done")
    assert {attempt.fate for attempt in ack.attempts} == {"answered"}
    if category == "spot" or symbol is None:  # of one symbol, futures say "done" all the same
        assert again.status == "nothing open"
    else:
        assert again.status == "done"


@pytest.mark.asyncio
async def test_futures_may_answer_flat_with_an_error_too() -> None:
    """Its documents do not say; a -2011 of either book, or of both, is an Ack."""
    async with SimulatedExchange(BinanceDialect(flat_is_an_error=True)) as exchange:
        account = exchange.add_account()
        exchange.place(account, "usdm", BTC)
        async with client_of(exchange, account) as client:
            first = await client.cancel_all("usdm", BTC)
            second = await client.cancel_all("usdm", BTC)
    assert (first.status, second.status) == ("done", "nothing open")


@pytest.mark.asyncio
async def test_lists_both_books(binance: SimulatedExchange) -> None:
    """The listing is the exchange's, by category and by symbol."""
    account = account_of(binance)
    async with client_of(binance, account) as client:
        spot = await client.open_orders("spot")
        usdm = await client.open_orders("usdm", BTC)
    assert [order.order_id for order in spot] == [
        order.order_id for order in binance.open_orders(account, "spot")
    ]
    assert [(o.order_id.startswith("algo:"), o.side, o.order_type) for o in usdm] == [
        (True, "sell", "STOP_MARKET"),
        (False, "buy", "LIMIT"),
        (False, "buy", "LIMIT"),
    ]
    assert (usdm[1].price, usdm[1].quantity) == (Decimal("7289.1"), Decimal("0.5"))


@pytest.mark.asyncio
async def test_one_fan_out_over_both_sides(binance: SimulatedExchange) -> None:
    """Accounts and categories together leave nothing."""
    accounts = [account_of(binance, number) for number in range(5)]
    async with SessionPool() as pool:
        clients = [client_of(binance, account, pool=pool) for account in accounts]
        for client in clients:
            await client.__aenter__()
        report = await cancel_many(Target.product(clients, ["spot", "usdm"]))
    report.raise_for_failures()
    assert not any(left(binance, account) for account in accounts)


@pytest.mark.asyncio
async def test_a_cancel_of_one_symbol_is_one_request_per_book(
    binance: SimulatedExchange,
) -> None:
    """No listing comes before it, and parameters are in the query."""
    account = account_of(binance)
    async with client_of(binance, account) as client:
        await client.cancel_all("spot", BTC)
        await client.cancel_all("usdm", BTC)
    sent = [r for r in binance.requests if r.operation != "clock"]
    assert sorted((r.method, r.raw_path.partition("?")[0], r.body) for r in sent) == [
        ("DELETE", "/api/v3/openOrders", b""),
        ("DELETE", "/fapi/v1/algoOpenOrders", b""),
        ("DELETE", "/fapi/v1/allOpenOrders", b""),
    ]


@pytest.mark.asyncio
async def test_orders_that_are_not_acknowledged_are_left(binance: SimulatedExchange) -> None:
    """As everywhere, a cancel-all does not reach what the venue has not taken in yet."""
    account = account_of(binance)
    late = binance.place(account, "usdm", BTC, script=Script(ack_delay_ms=HELD))
    async with client_of(binance, account) as client:
        await client.cancel_all("usdm", BTC)
    binance.engine.acknowledge(late.order_id, now_ms=binance.now_ms)
    assert [o.order_id for o in binance.open_orders(account, "usdm", BTC)] == [late.order_id]


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_the_effect_may_follow_the_ack(binance: SimulatedExchange, category: str) -> None:
    """An Ack is no proof: here the orders are still there when it comes."""
    account = account_of(binance)
    binance.faults.add(EffectDelay(HELD), operation="cancel-all", times=None)
    async with client_of(binance, account) as client:
        await client.cancel_all(category)
    assert (category, BTC) in left(binance, account)


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_a_wrong_secret_is_refused_once(binance: SimulatedExchange, category: str) -> None:
    """It is not tried again, nothing is cancelled, and no secret is told."""
    account = account_of(binance)
    before = left(binance, account)
    credentials = Credentials(account.api_key, "not-its-secret")
    venue = Binance(spot_url=binance.rest_url, usdm_url=binance.rest_url)
    async with Client(credentials, venue=venue) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.cancel_all(category)
    assert caught.value.code == -1022
    assert not caught.value.may_have_executed
    assert len(binance.operations("open-orders")) == (1 if category == "spot" else 2)
    assert left(binance, account) == before
    assert "not-its-secret" not in repr(caught.value)


@pytest.mark.asyncio
async def test_a_key_that_may_only_read_is_refused(binance: SimulatedExchange) -> None:
    """The venue does not say whether it is the key, the address or the permission."""
    account = binance.add_account(permissions=["view"])
    binance.place(account, "spot", BTC)
    async with client_of(binance, account) as client:
        assert len(await client.open_orders("spot")) == 1
        with pytest.raises(AuthenticationError, match="permissions"):
            await client.cancel_all("spot")
    assert left(binance, account) == {("spot", BTC)}


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_an_unknown_symbol_is_never_a_silent_success(
    binance: SimulatedExchange, category: str
) -> None:
    """The venue refuses it, to a cancel and to a listing."""
    account = account_of(binance)
    before = left(binance, account)
    async with client_of(binance, account) as client:
        for call in (client.cancel_all, client.open_orders):
            with pytest.raises(InvalidRequest, match="Invalid symbol") as caught:
                await call(category, "XBTUSD")
            assert not caught.value.may_have_executed
    assert left(binance, account) == before


@pytest.mark.asyncio
@pytest.mark.parametrize("skew_ms", [-95_000, 95_000])
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_clocks_that_are_apart(category: str, skew_ms: int) -> None:
    """A refused timestamp is answered with a measured one, either way."""
    async with SimulatedExchange(BinanceDialect(), skew_ms=skew_ms) as exchange:
        account = account_of(exchange)
        async with (
            SessionPool(warm=0) as pool,
            client_of(exchange, account, pool=pool) as client,
        ):
            ack = await client.cancel_all(category, BTC)
        assert (category, BTC) not in left(exchange, account)
    assert "refused" in {attempt.fate for attempt in ack.attempts}


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_a_lost_reply_is_asked_for_again(binance: SimulatedExchange, category: str) -> None:
    """The repeat finds nothing to cancel, which is success; both attempts are told."""
    account = account_of(binance)
    binance.faults.add(Drop(executed=True), operation="cancel-all")
    async with client_of(binance, account) as client:
        ack = await client.cancel_all(category, BTC)
    assert ack.status == ("nothing open" if category == "spot" else "done")
    assert "unknown" in {attempt.fate for attempt in ack.attempts}
    assert (category, BTC) not in left(binance, account)


@pytest.mark.asyncio
async def test_a_ban_that_outlasts_the_deadline_ends_the_call(
    binance: SimulatedExchange,
) -> None:
    """Nothing more is sent into a ban; the error says how long it lasts."""
    account = account_of(binance)
    until = int(time.time() * 1000) + 120_000
    body = f'{{"code":-1003,"msg":"Way too much request weight used; IP banned until {until}."}}'
    binance.faults.add(Answer(418, body.encode()), operation="cancel-all", times=None)
    async with client_of(binance, account) as client:
        with pytest.raises(RateLimited) as caught:
            await client.cancel_all("spot", BTC)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 60
    assert len(binance.operations("cancel-all")) == 1


@pytest.mark.asyncio
async def test_more_orders_than_a_small_reply_holds(binance: SimulatedExchange) -> None:
    """Spot repeats every order that it cancels."""
    account = binance.add_account()
    for _ in range(300):
        binance.place(account, "spot", BTC)
    async with client_of(binance, account) as client:
        ack = await client.cancel_all("spot", BTC)
    assert len(ack.raw) > 64 * 1024
    assert not left(binance, account)


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_the_proof_covers_both_books(binance: SimulatedExchange, category: str) -> None:
    """A scope is flat when nothing is listed, conditional orders included."""
    account = account_of(binance)
    async with client_of(binance, account) as client:
        confirmation = await client.cancel_all_and_confirm(category, settle=0.001)
    assert confirmation.sweeps == 1
    assert {listed for listed, _ in left(binance, account)} == {"spot", "usdm"} - {category}


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "usdm"])
async def test_a_cancel_reaches_what_a_stale_listing_does_not_show(
    binance: SimulatedExchange, category: str
) -> None:
    """Listings may lag behind the matching engine; cancels of a symbol do not go by them."""
    account = account_of(binance)
    binance.engine.listing_lag_ms = 3_600_000
    async with client_of(binance, account) as client:
        assert await client.open_orders(category, BTC) == []
        ack = await client.cancel_all(category, BTC)
        binance.engine.listing_lag_ms = 0
        assert await client.open_orders(category, BTC) == []
    assert ack.status != "nothing open"


@pytest.mark.asyncio
async def test_a_cancel_of_a_book_may_be_held_back(binance: SimulatedExchange) -> None:
    """The exchange logs a cancel-all per book, of its orders only, and lets each go when told."""
    account = account_of(binance)
    binance.faults.add(EffectDelay(HELD), operation="cancel-all", times=None)
    async with client_of(binance, account) as client:
        await client.cancel_all("usdm", BTC)
        received = [each for each in binance.log if each.what is What.CANCEL_ALL_RECEIVED]
        books = [{binance.engine.order(i).order_type for i in r.order_ids} for r in received]  # type: ignore[union-attr]
        assert sorted(map(sorted, books)) == [["limit"], ["stop_market"]]
        assert ("usdm", BTC) in left(binance, account)
        binance.engine.take_effect(now_ms=binance.now_ms)
    assert ("usdm", BTC) not in left(binance, account)
    assert ("usdm", ETH) in left(binance, account)


@pytest.mark.asyncio
async def test_what_has_become_of_orders(binance: SimulatedExchange) -> None:
    """The exchange tells it of either book, and of no order of another symbol, book or account."""
    account, stranger = account_of(binance), account_of(binance, 1)
    keys = Credentials(account.api_key, account.api_secret)
    venue = Binance(spot_url=binance.rest_url, usdm_url=binance.rest_url)
    limit, stop = (binance.place(account, "usdm", BTC, order_type=t) for t in ("limit", "stop"))
    theirs = binance.place(stranger, "usdm", BTC)
    binance.engine.fill(limit.order_id, now_ms=binance.now_ms)
    binance.engine.cancel(stop.order_id, now_ms=binance.now_ms)
    binance.advance()
    asked = [
        order_of(limit.order_id),
        order_of(limit.order_id, ETH),
        order_of(f"algo:{limit.order_id}"),
        order_of(f"algo:{stop.order_id}"),
        order_of(stop.order_id),
        order_of(theirs.order_id),
    ]
    async with SessionPool(warm=0) as pool:
        found = []
        for order in asked:
            (call,) = next(venue.order_states("usdm", [order]))
            stamp = Stamp(binance.now_ms)
            found.append(
                call.decode(await pool.send(call.origin, call.sign(call, keys, stamp)), stamp)
            )
    assert found == ["filled", None, None, "cancelled", None, None]


async def performed(exchange: SimulatedExchange, account: Account, flow: Flow[T]) -> T:
    """Take a flow of single calls to its end over a socket, without retries."""
    credentials = Credentials(account.api_key, account.api_secret)
    async with SessionPool(warm=0) as pool:
        (call,) = next(flow)
        stamp = Stamp(exchange.now_ms)
        reply = await pool.send(call.origin, call.sign(call, credentials, stamp))
    return end(flow, [call.decode(reply, stamp)])


@pytest.mark.asyncio
async def test_the_switch_fires_renews_and_disarms() -> None:
    """It cancels the ordinary orders of its symbol when it was not renewed in time."""
    now = time.time()
    async with SimulatedExchange(BinanceDialect(), clock=lambda: now) as exchange:
        account = account_of(exchange)
        venue = Binance(usdm_url=exchange.rest_url)

        async def arm(timeout_ms: int) -> int | None:
            return await performed(exchange, account, venue.switch("usdm", BTC, timeout_ms))

        def ordinary() -> int:
            orders = exchange.open_orders(account, "usdm", BTC)
            return sum(order.order_type == "limit" for order in orders)

        assert await arm(60_000) == exchange.now_ms + 60_000
        now += 50
        assert ordinary() == 2
        assert await arm(60_000) == exchange.now_ms + 60_000
        now += 50
        assert ordinary() == 2  # renewed
        assert await arm(0) is None
        now += 100
        assert ordinary() == 2  # disarmed
        await arm(60_000)
        now += 61
        assert ordinary() == 0
        assert ("usdm", ETH) in left(exchange, account)
        assert len(exchange.open_orders(account, "usdm", BTC)) == 1  # the conditional one


# The simulator itself: what it must not let in.


def asked(
    dialect: BinanceDialect,
    exchange: SimulatedExchange,
    target: str,
    *,
    method: str = "DELETE",
    body: bytes = b"",
    key: str = "a-key-0",
) -> SimReply:
    """What the dialect answers to a request that arrives at `NOW`."""
    request = SimRequest(
        method=method,
        raw_path=target,
        headers={"x-mbx-apikey": key} if key else {},
        body=body,
        remote="192.0.2.1",
        moment=Moment(now_ms=NOW),
    )
    for route in dialect.routes():
        if (route.method, route.template) == (method, request.path):
            return route.handler(exchange.engine, request)
    return dialect.unknown(request)


def by_hand(query: str, path: str = "/api/v3/openOrders", of: str = "a-secret-0") -> str:
    """A target that is signed by hand."""
    return f"{path}?{query}&signature={sim_signature(of, query)}"


GOOD = f"symbol={BTC}&timestamp={NOW}"


@pytest.mark.parametrize(
    ("target", "code", "status"),
    [
        (by_hand(GOOD), 0, 200),
        (by_hand(GOOD) + "0", -1022, 400),
        (by_hand(GOOD).replace(BTC, ETH), -1022, 400),
        (by_hand(GOOD, of="another"), -1022, 400),
        (f"/api/v3/openOrders?signature={sim_signature('a-secret-0', GOOD)}&{GOOD}", -1022, 400),
        (f"/api/v3/openOrders?{GOOD}", -1102, 400),
        (by_hand(f"symbol={BTC}"), -1102, 400),
        (by_hand(f"symbol={BTC}&timestamp=soon"), -1102, 400),
        (by_hand(f"symbol={BTC}&timestamp={NOW - 5_000}"), 0, 200),
        (by_hand(f"symbol={BTC}&timestamp={NOW - 5_001}"), -1021, 400),
        (by_hand(f"symbol={BTC}&timestamp={NOW + 999}"), 0, 200),
        (by_hand(f"symbol={BTC}&timestamp={NOW + 1_000}"), -1021, 400),
        (by_hand(f"{GOOD}&recvWindow=60000"), 0, 200),
        (by_hand(f"{GOOD}&recvWindow=60001"), -1131, 400),
        (by_hand(f"{GOOD}&recvWindow=long"), -1102, 400),
        (by_hand(f"symbol={BTC}&timestamp={NOW - 7_000}&recvWindow=7000.5"), 0, 200),
        (by_hand(f"timestamp={NOW}"), -1102, 400),
        (by_hand(f"symbol=btc&timestamp={NOW}"), -1100, 400),
        (by_hand(f"symbol=XBTUSD&timestamp={NOW}"), -1121, 400),
        (by_hand(f"symbol=%E5%B8%81USDT&timestamp={NOW}"), -1121, 400),
        (by_hand(f"symbol=币USDT&timestamp={NOW}"), -1022, 400),
    ],
)
def test_the_simulator_checks_every_part(target: str, code: int, status: int) -> None:
    """Time, window, signature over the bytes as sent, and symbol: as the documents have them."""
    dialect = BinanceDialect(symbols=[BTC, ETH])
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.place(exchange.add_account("a-key-0", "a-secret-0"), "spot", BTC)
    reply = asked(dialect, exchange, target)
    assert reply.status == status
    answer = json.loads(reply.body)
    assert (answer["code"] if isinstance(answer, dict) else 0) == code


def test_the_simulator_knows_keys_and_paths() -> None:
    """No key, a key that is nobody's, one without futures, and an address that does not exist."""
    dialect = BinanceDialect()
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.add_account("a-key-0", "a-secret-0", categories=["spot"])
    futures = by_hand(GOOD, "/fapi/v1/allOpenOrders")

    def refusal(target: str, **options: Any) -> tuple[int, int, str]:
        reply = asked(dialect, exchange, target, **options)
        answer = json.loads(reply.body)
        return reply.status, answer["code"], answer["msg"]

    assert refusal(by_hand(GOOD), key="")[:2] == (401, -2014)
    assert refusal(by_hand(GOOD), key="nobody")[:2] == (401, -2015)
    assert refusal(futures)[:2] == (401, -2015)
    assert refusal(futures)[2].endswith("request ip: 192.0.2.1")
    assert asked(dialect, exchange, by_hand(GOOD, "/api/v3/allOpenOrders")).status == 404
    assert asked(dialect, exchange, "/api/v3/ping", method="GET").body == b"{}"


def test_the_simulator_takes_forms_and_prefers_the_query() -> None:
    """The signature covers the query and then the body; of a name in both, the query counts."""
    dialect = BinanceDialect()
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.add_account("a-key-0", "a-secret-0")
    path = "/fapi/v1/countdownCancelAll"

    def arm(query: str, form: str) -> Any:
        form += f"&signature={sim_signature('a-secret-0', query + form)}"
        target = f"{path}?{query}" if query else path
        return json.loads(asked(dialect, exchange, target, method="POST", body=form.encode()).body)

    armed = {"symbol": BTC, "countdownTime": "100"}
    assert arm("", f"{GOOD}&countdownTime=100") == armed
    assert arm(f"symbol={BTC}", f"symbol={ETH}&timestamp={NOW}&countdownTime=100") == armed
    assert arm("", f"{GOOD}&countdownTime=soon")["code"] == -1102
