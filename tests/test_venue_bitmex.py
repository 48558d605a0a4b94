"""BitMEX: published vectors, recorded replies, ccxt's requests, flows by hand, and end to end."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
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
    NotSent,
    OpenOrder,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    ScopeError,
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
    Engine,
    OnCancel,
    Script,
    SimulatedExchange,
    What,
)
from masscancel.sim import bitmex as sim
from masscancel.sim.bitmex import BitMEXDialect
from masscancel.sim.dialect import Moment
from masscancel.sim.dialect import Reply as SimReply
from masscancel.sim.dialect import Request as SimRequest
from masscancel.venue import Call, Reply, Stamp
from masscancel.venues.bitmex import LAST_PAGE, PAGES, PAST_PAGES, READINGS, BitMEX
from support import cold_pool

DATA = Path(__file__).parent / "data" / "bitmex"
VENUE = BitMEX(rest_url="https://host")
NOW = 1_700_000_000_000
STAMP = Stamp(NOW)
KEYS = Credentials("key", "secret")


def sample(name: str) -> Any:
    """A recorded reply, as a value."""
    return json.loads((DATA / f"{name}.json").read_bytes())


def reply(value: Any, status: int = 200, **headers: str) -> Reply:
    """A reply with that JSON, or those bytes."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Reply(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def first(flow: Generator[Any, Any, Any]) -> Call[Any]:
    """The only call that a flow begins with."""
    (call,) = next(flow)
    assert isinstance(call, Call)
    return call


def then(flow: Generator[Any, Any, Any], *results: Any) -> Any:
    """Answer a flow that has begun, call after call; its value, or its next call."""
    step = None
    try:
        for result in results:
            (step,) = flow.send([result])
    except StopIteration as stop:
        return stop.value
    return step


def cancel(symbol: str | None = None) -> Call[Any]:
    """The call of a cancel-all."""
    return first(VENUE.cancel_all("account", symbol, None))


def listing(symbol: str | None = None) -> Call[Any]:
    """The first call of a listing."""
    return first(VENUE.open_orders("account", symbol))


def switch(timeout_ms: int) -> Call[Any]:
    """The call that arms the switch."""
    return first(VENUE.switch("account", None, timeout_ms))


def check() -> Call[Any]:
    """The call that asks whether a symbol exists."""
    flow = VENUE.open_orders("account", "XBTUSD")
    next(flow)
    call = then(flow, [])
    assert isinstance(call, Call)
    return call


def refusal(call: Call[Any], answer: Reply) -> MassCancelError:
    """The error that an answer is."""
    with pytest.raises(MassCancelError) as caught:
        call.decode(answer, STAMP)
    return caught.value


# --- signing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", sample("vectors"), ids=lambda vector: vector["path"])
def test_published_vectors(vector: dict[str, Any]) -> None:
    """The page about keys publishes three requests; client and simulator each sign them so."""
    venue = BitMEX(rest_url="https://host", expires_seconds=6)
    call = msgspec.structs.replace(
        first(venue.cancel_all("account", None, None)),
        method=vector["verb"],
        path=vector["path"],
        body=vector["data"].encode(),
    )
    stamp = Stamp((vector["expires"] - 6) * 1000 + 999)
    request = call.sign(call, Credentials(vector["api_key"], vector["secret"]), stamp)
    assert request.headers["api-signature"] == vector["signature"]
    assert request.headers["api-key"] == vector["api_key"]
    assert request.headers["api-expires"] == str(vector["expires"])
    assert request.expires_at_ms == vector["expires"] * 1000
    assert (
        sim.signature(
            vector["secret"],
            vector["verb"],
            vector["path"],
            str(vector["expires"]),
            vector["data"].encode(),
        )
        == vector["signature"]
    )


def test_expiry_is_the_end_of_what_the_venue_admits() -> None:
    """Seconds on the wire, milliseconds in the attempt, taken from the stamp at each signing."""
    venue = BitMEX(rest_url="https://host", expires_seconds=30)
    call = first(venue.cancel_all("account", None, None))
    request = call.sign(call, KEYS, Stamp(NOW + 1_500))
    assert request.headers["api-expires"] == "1700000031"
    assert request.expires_at_ms == 1_700_000_031_000


def test_content_type_goes_with_a_body() -> None:
    """A body that is not called JSON would be read as a form, and the symbol be lost."""
    assert cancel("XBTUSD").sign(cancel("XBTUSD"), KEYS, STAMP).headers["Content-Type"] == (
        "application/json"
    )
    assert "Content-Type" not in cancel().sign(cancel(), KEYS, STAMP).headers


def later_page(symbol: str | None) -> Call[Any]:
    """The second page of a listing whose first is full."""
    flow = VENUE.open_orders("account", symbol)
    next(flow)
    page = then(flow, [order(number, symbol or "XBTUSD") for number in range(500)])
    assert isinstance(page, Call)
    return page


#: What ccxt is asked to do, and the call of ours that is the same.
SAME: dict[str, Callable[[], Call[Any]]] = {
    "cancel_all_orders()": cancel,
    "cancel_all_orders('BTC/USD:BTC')": partial(cancel, "XBTUSD"),
    "cancel_all_orders('BTC/USDT')": partial(cancel, "XBT_USDT"),
    "fetch_open_orders(None, None, 500)": listing,
    "fetch_open_orders('BTC/USD:BTC', None, 500)": partial(listing, "XBTUSD"),
    "fetch_open_orders('BTC/USDT', None, 500)": partial(listing, "XBT_USDT"),
    "fetch_open_orders('BTC/USD:BTC', None, 500, {'start': 499})": partial(later_page, "XBTUSD"),
    "cancel_all_orders_after(0)": partial(switch, 0),
    "privatePostOrderCancelAllAfter({'timeout': 60000})": partial(switch, 60_000),
    "publicGetInstrument({'symbol': 'XBTUSD', 'columns': '[\"symbol\"]'})": check,
}
#: What ccxt builds otherwise, and why.
DIFFERENT: dict[str, tuple[Callable[[], Call[Any]], str]] = {
    "fetch_open_orders()": (listing, "ccxt leaves the count to the default of 100"),
    "fetch_open_orders('BTC/USD:BTC')": (partial(listing, "XBTUSD"), "likewise"),
    "fetch_open_orders('BTC/USD:BTC', None, 500, {'start': 500})": (
        partial(later_page, "XBTUSD"),
        "our pages overlap by one order, so that it shows when the listing has moved",
    ),
    "cancel_all_orders_after(60000)": (
        partial(switch, 60_000),
        "ccxt divides by 1000 and sends 60; the documents have the timeout in ms",
    ),
}


@pytest.mark.parametrize("recorded", sample("ccxt_requests")["requests"], ids=lambda r: r["call"])
def test_requests_are_those_of_ccxt(recorded: dict[str, Any]) -> None:
    """Method, URL, body, expiry and signature are equal, or it is said why not.

    ccxt also sends a Content-Type where there is no body, which is not signed.
    """
    make, why = DIFFERENT.get(recorded["call"], (None, ""))
    call = (make or SAME[recorded["call"]])()
    request = call.sign(call, KEYS, STAMP)
    ours = (
        request.method,
        f"https://www.bitmex.com{request.target}",
        request.body.decode() or None,
        request.headers["api-expires"],
        request.headers["api-signature"],
    )
    theirs = tuple(recorded[name] for name in ("method", "url", "body", "expires", "signature"))
    assert (ours != theirs) if why else (ours == theirs)


def test_every_request_of_ccxt_is_compared() -> None:
    """No recorded request is forgotten, and none is claimed that was not recorded."""
    recorded = {request["call"] for request in sample("ccxt_requests")["requests"]}
    assert recorded == SAME.keys() | DIFFERENT.keys()


# --- the value, and its scopes --------------------------------------------------------------------


def test_there_is_no_default_host() -> None:
    """The exchange has closed: nobody's key goes to whoever has its name now."""
    with pytest.raises(TypeError, match="rest_url"):
        BitMEX()  # type: ignore[call-arg]  # the missing host is the point


@pytest.mark.parametrize(
    "options",
    [
        {"rest_url": "http://www.example.com"},
        {"rest_url": "https://www.example.com/api/v1"},
        {"rest_url": "https://host", "expires_seconds": 1},
        {"rest_url": "https://host", "expires_seconds": 3601},
        {"rest_url": "https://host", "expires_seconds": 5.0},
        {"rest_url": "https://host", "expires_seconds": True},
    ],
)
def test_what_the_venue_can_not_be_made_of(options: dict[str, Any]) -> None:
    """Clear text to another machine, a path, or a window that is no whole number of seconds."""
    with pytest.raises(ConfigurationError):
        BitMEX(**options)


def test_the_venue_knows_all_it_needs() -> None:
    """Nothing is asked on entry; one origin serves the only category."""
    assert VENUE.ready()
    assert then_nothing(VENUE.prepare()) is VENUE
    assert VENUE.origin("account") == "https://host"
    assert list(VENUE.abilities) == ["account"]
    with pytest.raises(ScopeError, match="there are: account"):
        VENUE.origin("cash")


def then_nothing(flow: Generator[Any, Any, Any]) -> Any:
    """The value of a flow that asks for nothing."""
    with pytest.raises(StopIteration) as stop:
        next(flow)
    return stop.value.value


FLOWS: list[Callable[[Any, Any], Generator[Any, Any, Any]]] = [
    lambda category, symbol: VENUE.cancel_all(category, symbol, None),
    VENUE.open_orders,
    lambda category, symbol: VENUE.switch(category, symbol, 60_000),
]


@pytest.mark.parametrize("flow", FLOWS, ids=["cancel_all", "open_orders", "switch"])
@pytest.mark.parametrize(
    ("category", "symbol"),
    [
        *[(category, None) for category in ("cash", "", "ACCOUNT", None, 7)],
        *[
            ("account", symbol)
            for symbol in (
                "",
                " ",
                "BTC/USD",
                "xbtusd",
                ".BXBT",
                "XBT:quarterly",
                "XBTUSD\n",
                'XBT","filter":"{}',
                "XBT__USDT",
                "_XBT",
                "XB",
                "X" * 33,
                7,
                b"XBTUSD",
            )
        ],
    ],
)
def test_a_bad_scope_sends_nothing(
    flow: Callable[[Any, Any], Generator[Any, Any, Any]], category: Any, symbol: Any
) -> None:
    """It is refused before a call is made of it; an empty symbol does not mean all."""
    with pytest.raises(ScopeError):
        next(flow(category, symbol))


@pytest.mark.parametrize("symbol", ["XBTUSD", "XBTZ26", "XBT_USDT", "P_FTXZ26", "XBT7D_U105"])
def test_symbols_travel_in_the_body(symbol: str) -> None:
    """Every kind of symbol that the exchange has had."""
    assert json.loads(cancel(symbol).body) == {"symbol": symbol}


@given(st.text(max_size=40))
def test_no_text_smuggles_anything_into_a_request(symbol: str) -> None:
    """Whatever is given, it is refused or is exactly the symbol of the body and of the query."""
    try:
        call = cancel(symbol)
    except ScopeError:
        return
    assert json.loads(call.body) == {"symbol": symbol}
    assert f"?symbol={symbol}&count=500&" in listing(symbol).path


# --- understanding --------------------------------------------------------------------------------


def test_the_recorded_reply_counts_only_what_was_cancelled() -> None:
    """An order that ended meanwhile is listed as Rejected: it is not counted, and no error."""
    body = (DATA / "cancel_all.json").read_bytes()
    ack, named = cancel().decode(reply(body), STAMP)
    assert ack == Ack(
        account_category="account",
        account_id="0",
        status="1 Canceled, 1 Rejected",
        raw=body,
    )
    assert named == {"XBTUSD", None}
    ack, _ = cancel("XBTUSD").decode(reply(body), STAMP)
    assert (ack.symbol, ack.status) == ("XBTUSD", "1 Canceled, 1 Rejected")


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([], "nothing open"),
        ([{"orderID": "a", "ordStatus": "PendingCancel"}], "1 PendingCancel"),
        ([{"orderID": "a"}, {"orderID": "b", "ordStatus": None}], "2 unknown"),
        ([{"orderID": "a", "ordStatus": "Canceled"}] * 2, "1 Canceled"),
    ],
)
def test_the_status_never_claims_more_than_the_rows(rows: list[Any], status: str) -> None:
    """Only what says Canceled is counted so, and once; the words are the venue's own."""
    ack, _ = cancel().decode(reply(rows), STAMP)
    assert (ack.status, ack.timestamp_ms, ack.request_id) == (status, None, "")


def test_an_account_is_named_only_if_it_is_one() -> None:
    """Orders of two accounts leave it open whose they are."""
    rows = [{"orderID": "a", "account": 1}, {"orderID": "b", "account": 2}]
    assert cancel().decode(reply(rows), STAMP)[0].account_id == ""
    assert cancel().decode(reply(rows[:1]), STAMP)[0].account_id == "1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[",
        b"{}",
        b"null",
        b'{"error":{"message":"no","name":"HTTPError"}}',
        b"[[]]",
        b"[{}]",
        b'[{"orderID":""}]',
        b'[{"orderID":7}]',
        b'[{"orderID":"a","ordStatus":"Canceled; all is well"}]',
        b'[{"orderID":"a","ordStatus":"Canceled","symbol":"ETHUSD"}]',
        b'[{"orderID":"a","ordStatus":"Rejected","symbol":"ETHUSD"}]',
        b'[{"orderID":"a","ordStatus":"Canceled"}]',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_acknowledgement_of_a_symbol(body: bytes) -> None:
    """It may have been carried out, and is asked again: nothing is taken for an Ack but one."""
    error = refusal(cancel("XBTUSD"), reply(body))
    assert isinstance(error, ProtocolError)
    assert error.may_have_executed


def test_listings_read_as_recorded() -> None:
    """A limit order; the documents' own rows; a spot order that waits for its trigger."""
    assert listing("XBTUSD").decode(reply(sample("orders")), STAMP) == [
        OpenOrder(
            order_id="550e8400-e29b-41d4-a716-446655440001",
            symbol="XBTUSD",
            side="buy",
            price=Decimal(98000),
            quantity=Decimal(100),
            filled_quantity=Decimal(0),
            order_type="Limit",
            status="New",
        )
    ]
    fixture = listing().decode(reply(sample("orders_fixture")), STAMP)
    assert [(order.symbol, order.price) for order in fixture] == [
        ("XBTUSD", Decimal("11390.5")),
        ("XBTZ20", Decimal("11968.5")),
        ("XBTUSD", Decimal("11390.5")),
    ]
    (spot,) = listing("XBT_USDT").decode(reply(sample("orders_conditional_spot")), STAMP)
    assert (spot.order_type, spot.price, spot.quantity) == ("LimitIfTouched", 36000, 10000)


def test_numbers_are_read_digit_for_digit() -> None:
    """A price has passed through no float; what has no price or no quantity has zero."""
    body = b'[{"orderID":"a","symbol":"XBTUSD","side":"Sell","price":98950.500000000004}]'
    (order,) = listing().decode(reply(body), STAMP)
    assert str(order.price) == "98950.500000000004"
    assert (order.side, order.quantity, order.filled_quantity) == ("sell", 0, 0)
    assert (order.order_type, order.status) == ("", "")


@pytest.mark.parametrize(
    "row",
    [
        {"symbol": "XBTUSD", "side": "Buy"},
        {"orderID": "a", "side": "Buy"},
        {"orderID": "a", "symbol": "XBTUSD"},
        {"orderID": "a", "symbol": "XBTUSD", "side": ""},
        {"orderID": "a", "symbol": "XBTUSD", "side": "Buy", "price": "NaN"},
        {"orderID": "a", "symbol": "XBTUSD", "side": "Buy", "orderQty": "many"},
        {"orderID": "a", "symbol": "XBTZ26", "side": "Buy"},
    ],
)
def test_what_is_no_listing_of_a_symbol(row: dict[str, Any]) -> None:
    """An order without an id, a symbol or a side, a number that is none, another symbol."""
    assert isinstance(refusal(listing("XBTUSD"), reply([row])), ProtocolError)


def test_the_clock_is_read_in_milliseconds() -> None:
    """From the root of the API; a number out of range is no clock."""
    probe = VENUE.probe("https://host")
    assert (probe.origin, probe.path) == ("https://host", "/api/v1")
    assert probe.decode(reply(sample("api_root"))) == 1554709447283
    for body in (b'{"timestamp":-1}', b'{"timestamp":1e18}', b'{"timestamp":"now"}', b"[]"):
        with pytest.raises(ProtocolError):
            probe.decode(reply(body))
    with pytest.raises(ProtocolError):
        probe.decode(reply(b'{"timestamp":%d}' % 10**400))


def test_the_switch_tells_when_it_fires() -> None:
    """In ms since the epoch, by the venue's clock; nothing once it is disarmed."""
    assert switch(100).decode(reply(sample("cancel_all_after_rest")), STAMP) == 1712653316660
    armed, disarmed = sample("cancel_all_after_ws")
    assert switch(60_000).decode(reply(armed), STAMP) == 1441203583536
    assert switch(0).decode(reply(disarmed), STAMP) is None
    assert switch(0).decode(reply({"now": armed["now"]}), STAMP) is None
    assert switch(0).decode(reply(armed | {"cancelTime": armed["now"]}), STAMP) is None


@pytest.mark.parametrize(
    ("timeout_ms", "changes"),
    [
        (60_000, {"cancelTime": 0}),
        (60_000, {"cancelTime": ""}),
        (60_000, {"cancelTime": "soon"}),
        (60_000, {"cancelTime": "2015-09-02T14:19:43.536"}),
        (60_000, {"cancelTime": 1441203583536}),
        (60_000, {"now": None}),
        (60_000, {"cancelTime": "2015-09-02T14:18:43.596Z"}),
        (60_000_000, {}),
        (0, {}),
    ],
)
def test_a_switch_that_is_not_set_as_asked(timeout_ms: int, changes: dict[str, Any]) -> None:
    """No time, a time without a zone, one of another length (60 ms for 60 s), or still armed."""
    answer = sample("cancel_all_after_ws")[0] | changes
    assert isinstance(refusal(switch(timeout_ms), reply(answer)), ProtocolError)


@pytest.mark.parametrize("timeout_ms", [-1, 1.5, True, "60000"])
def test_a_bad_timeout_sends_nothing(timeout_ms: Any) -> None:
    """Whole milliseconds, 0 or more."""
    with pytest.raises(ConfigurationError):
        switch(timeout_ms)


def test_the_switch_covers_the_account_only() -> None:
    """For one symbol it would cancel more than was asked for."""
    with pytest.raises(ScopeError, match="covers the account"):
        next(VENUE.switch("account", "XBTUSD", 60_000))


# --- errors ---------------------------------------------------------------------------------------


def error(message: str, name: str = "HTTPError") -> dict[str, Any]:
    """An error's body."""
    return {"error": {"message": message, "name": name}}


@pytest.mark.parametrize("call", [cancel(), listing(), switch(5_000), check()])
@pytest.mark.parametrize(
    ("status", "body", "kind", "executed"),
    [
        (400, sample("error_expired"), StampRefused, False),
        (401, sample("error_expired"), StampRefused, False),
        (400, sample("error_unknown_symbol"), ScopeError, False),
        (400, error("Invalid ordStatus"), InvalidRequest, False),
        (400, error("Invalid amount", "ValidationError"), InvalidRequest, False),
        (401, sample("error_invalid_api_key"), AuthenticationError, False),
        (401, sample("error_signature"), AuthenticationError, False),
        (400, error("Signature not valid"), AuthenticationError, False),
        (401, error("Authorization Required"), AuthenticationError, False),
        (401, b"", AuthenticationError, False),
        (401, error("This key is disabled."), PermissionDenied, False),
        (403, error("Access Denied"), PermissionDenied, False),
        (403, error("Account is restricted"), PermissionDenied, False),
        (403, b"<html>banned</html>", PermissionDenied, False),
        (404, error("Not Found"), InvalidRequest, False),
        (429, sample("error_rate_limit"), RateLimited, False),
        (429, {"error": "Rate limit exceeded, retry in 29 seconds."}, RateLimited, False),
        (429, b"", RateLimited, False),
        (403, error("Rate limit exceeded, retry in 1 seconds."), RateLimited, False),
        (503, sample("error_overloaded"), VenueUnavailable, False),
        (503, error("Service unavailable"), VenueUnavailable, True),
        (503, b"<html>", VenueUnavailable, True),
        (500, sample("error_overloaded"), VenueUnavailable, True),
        (500, sample("error_signature"), VenueUnavailable, True),
        (502, b"<html>", VenueUnavailable, True),
        (520, b"", VenueUnavailable, True),
        (302, b"", ProtocolError, True),
        (200, sample("error_signature"), ProtocolError, True),
        (204, b"", ProtocolError, True),
    ],
)
def test_errors(
    call: Call[Any], status: int, body: Any, kind: type[MassCancelError], *, executed: bool
) -> None:
    """The sentence tells where it is known, else the status; and whether it may have been done."""
    found = refusal(call, reply(body, status))
    assert type(found) is kind
    assert found.may_have_executed is executed
    if isinstance(found, VenueError):
        assert found.http_status == status


def test_an_error_keeps_the_words_of_the_venue() -> None:
    """Its name is the reason, its sentence the text; there are no codes."""
    found = refusal(cancel(), reply(sample("error_signature"), 401))
    assert isinstance(found, AuthenticationError)
    assert (found.code, found.reason, found.message) == (None, "HTTPError", "Signature not valid.")


@pytest.mark.parametrize(
    ("status", "body", "headers", "wait"),
    [
        (429, sample("error_rate_limit"), {"Retry_After": "7"}, 7.0),
        (429, sample("error_rate_limit"), {}, 1.0),
        (429, {"error": "Rate limit exceeded, retry in 29 seconds."}, {}, 29.0),
        (429, error("Rate limit exceeded"), {}, None),
        (503, sample("error_overloaded"), {}, 0.5),
        (503, sample("error_overloaded"), {"Retry_After": "2"}, 2.0),
        (503, error("Service unavailable"), {"Retry_After": "2"}, 2.0),
    ],
)
def test_how_long_the_venue_asks_to_wait(
    status: int, body: Any, headers: dict[str, str], wait: float | None
) -> None:
    """By its header, else by its sentence; half a second at least where it is overloaded."""
    found = refusal(cancel(), reply(body, status, **headers))
    assert isinstance(found, VenueError)
    assert found.retry_after == wait


# --- flows, by hand -------------------------------------------------------------------------------


def order(number: int, symbol: str = "XBTUSD") -> OpenOrder:
    """An open order."""
    zero = Decimal(0)
    return OpenOrder(
        order_id=str(number),
        symbol=symbol,
        side="buy",
        price=zero,
        quantity=zero,
        filled_quantity=zero,
        order_type="Limit",
        status="New",
    )


ACK = Ack(account_category="account", symbol="XBTUSD")


def test_a_cancel_is_one_call() -> None:
    """DELETE, repeatable, and with room for a reply that lists every order."""
    flow = VENUE.cancel_all("account", None, "an-id")
    call = first(flow)
    assert (call.method, call.path, call.body) == ("DELETE", "/api/v1/order/all", b"")
    assert call.acts
    assert call.repeatable
    assert call.max_reply >= 5_000 * 700  # five thousand orders, as long as those recorded
    assert then(flow, (ACK, set())) is ACK


def test_a_symbol_that_was_seen_is_not_asked_for() -> None:
    """A reply with an order of the symbol proves that there is such a symbol."""
    flow = VENUE.cancel_all("account", "XBTUSD", None)
    next(flow)
    assert then(flow, (ACK, {"XBTUSD"})) is ACK


def test_a_symbol_without_orders_is_looked_up_after_the_cancel() -> None:
    """An empty answer might mean that there is no such symbol: that is never a silent success."""
    flow = VENUE.cancel_all("account", "XBT", None)
    next(flow)
    asked = then(flow, (ACK, set()))
    assert not asked.acts
    assert asked.path == "/api/v1/instrument?symbol=XBT&columns=%5B%22symbol%22%5D"
    assert asked.decode(reply([{"symbol": "XBTZ26"}]), STAMP) is False
    assert asked.decode(reply([]), STAMP) is False
    assert asked.decode(reply([{"symbol": "XBTZ26"}, {"symbol": "XBT"}]), STAMP) is True
    with pytest.raises(ScopeError, match="no symbol 'XBT'"):
        then(flow, False)


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (True, True),
        (NotSent("no connection"), True),
        (InvalidRequest(http_status=404), True),
        (ScopeError("unknown"), False),
    ],
)
def test_what_was_acknowledged_stays_so_unless_the_symbol_is_refused(
    answer: Any, *, known: bool
) -> None:
    """A check that fails takes nothing back: the venue refuses unknown symbols by itself."""
    cancelling = VENUE.cancel_all("account", "XBTUSD", None)
    reading = VENUE.open_orders("account", "XBTUSD")
    next(cancelling)
    next(reading)
    if known:
        assert then(cancelling, (ACK, set()), answer) is ACK
        assert then(reading, [], answer) == []
    else:
        with pytest.raises(ScopeError):
            then(cancelling, (ACK, set()), answer)
        with pytest.raises(ScopeError):
            then(reading, [], answer)


def test_errors_of_calls_are_errors_of_flows() -> None:
    """Each flow raises what its call ended with."""
    for flow in (
        VENUE.cancel_all("account", "XBTUSD", None),
        VENUE.open_orders("account", "XBTUSD"),
        VENUE.switch("account", None, 5_000),
    ):
        next(flow)
        with pytest.raises(NotSent):
            then(flow, NotSent("no connection"))


def serve(book: list[list[int]], size: int = 500) -> tuple[Any, list[str]]:
    """Read a listing from a venue whose book is another at each request; value and paths.

    The last book stays.
    """
    flow = VENUE.open_orders("account", None)
    paths: list[str] = []
    call: Any = first(flow)
    while isinstance(call, Call):
        start = int(call.path.partition("&start=")[2] or "0")
        numbers = book[min(len(paths), len(book) - 1)]
        paths.append(call.path)
        call = then(flow, [order(number) for number in numbers[start : start + size]])
    return call, paths


def ids(orders: list[OpenOrder]) -> list[int]:
    """Their numbers."""
    return [int(order.order_id) for order in orders]


@pytest.mark.parametrize("size", [500, 100])
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 499, 500, 501, 999, 1_000, 1_300])
def test_a_listing_is_read_to_its_last_page(count: int, size: int) -> None:
    """Each order once, in the venue's order, also where it gives shorter pages than asked for."""
    orders, paths = serve([list(range(count))], size)
    assert ids(orders) == list(range(count))
    assert (len(paths) == 1) == (count < LAST_PAGE)


def test_orders_that_end_between_pages_hide_no_others() -> None:
    """They move the rest forward, over the edge of a page: the listing is read anew."""
    before, after = list(range(1_000)), list(range(10, 1_000))
    orders, paths = serve([before, after])
    assert ids(orders) == after
    starts = [path.partition("&start=")[2] for path in paths]
    assert starts == ["", "499", "", "499", "989"]


def test_the_end_of_the_book_may_vanish() -> None:
    """Then the next page does not even begin."""
    assert ids(serve([list(range(500)), [1, 2]])[0]) == [1, 2]


def test_orders_that_open_between_pages_are_listed_too() -> None:
    """New ones are at the end, so nothing moves."""
    orders, paths = serve([list(range(700)), list(range(900))])
    assert ids(orders) == list(range(900))
    assert len(paths) == 3


def test_a_listing_that_never_rests_is_not_claimed() -> None:
    """After a few readings it is an error, not a list with holes."""
    books = [list(range(number, number + 1_000)) for number in range(20)]
    with pytest.raises(ProtocolError, match="changed while"):
        serve(books)
    assert len(books) > READINGS * 2


def test_a_listing_without_end_is_given_up() -> None:
    """A bounded number of pages is read."""
    book = range(PAGES * 100)
    with pytest.raises(ProtocolError, match="pages"):
        serve([list(book)], 100)


def test_a_venue_that_ignores_the_start_is_found_out() -> None:
    """The same page again and again is not the whole book."""
    flow = VENUE.open_orders("account", None)
    next(flow)
    page = [order(number) for number in range(500)]
    with pytest.raises(ProtocolError):
        then(flow, *[page] * (2 * READINGS))


# --- nothing but an Ack or one of our errors ------------------------------------------------------

STATUSES = st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 404, 408, 429, 500, 503])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["orderID", "symbol", "ordStatus", "error", "message", "side", "now"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
SAMPLES = st.sampled_from(
    [path.read_bytes() for path in sorted(DATA.glob("*.json")) if path.stat().st_size < 3_000]
)
CALLS = [
    *(cancel(), cancel("XBTUSD"), listing(), listing("XBTUSD"), switch(60_000), switch(0), check()),
    first(VENUE.order_states("account", [order(1)])),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A recorded reply with a few bytes changed, left out or put in."""
    body = bytearray(draw(SAMPLES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(body)


@given(
    call=st.sampled_from(CALLS),
    status=STATUSES,
    body=st.binary(max_size=64) | damaged() | JSON_VALUES.map(msgspec.json.encode),
    wait=st.none() | st.text(max_size=12),
)
def test_any_reply_is_a_value_or_one_of_our_errors(
    call: Call[Any], status: int, body: bytes, wait: str | None
) -> None:
    """Arbitrary bytes, arbitrary JSON and damaged replies; only a 200 is ever a success."""
    headers = {} if wait is None else {"Retry-After": wait}
    for decode in (lambda r: call.decode(r, STAMP), VENUE.probe("https://host").decode):
        try:
            decode(Reply(status, headers, body))
        except MassCancelError:
            continue
        assert status == 200


ROWS = st.lists(
    st.fixed_dictionaries(
        {"orderID": st.sampled_from("abc")},
        optional={
            "symbol": st.sampled_from(["XBTUSD", "XBTUSD", "ETHUSD", "", None]),
            "ordStatus": st.sampled_from(
                ["Canceled", "Canceled", "Rejected", "PendingCancel", None]
            ),
        },
    ),
    max_size=4,
)


@given(ROWS)
def test_an_ack_never_covers_more_than_its_rows(rows: list[dict[str, Any]]) -> None:
    """Of one symbol there is no cancelled order of another; none is counted that is not."""
    try:
        ack, _ = cancel("XBTUSD").decode(reply(rows), STAMP)
    except ProtocolError:
        wrong = [row for row in rows if row.get("symbol") != "XBTUSD"]
        assert any(row.get("symbol") or row.get("ordStatus") == "Canceled" for row in wrong)
        return
    assert all(row.get("symbol") in ("XBTUSD", None, "") for row in rows)
    cancelled = {row["orderID"] for row in rows if row.get("ordStatus") == "Canceled"}
    counts = dict(part.split(" ")[::-1] for part in ack.status.split(", "))
    assert int(counts.get("Canceled", 0)) <= len(cancelled)
    assert all(row["symbol"] == "XBTUSD" for row in rows if row.get("ordStatus") == "Canceled")


# --- the simulator --------------------------------------------------------------------------------


class Desk:
    """A dialect with an engine, and requests that are signed by hand; no socket."""

    def __init__(self, **options: Any) -> None:
        self.dialect = BitMEXDialect(**options)
        self.engine = Engine(new_order_id=self.dialect.order_id)
        self.account = self.engine.add_account("key", "secret", categories=("account",))
        self.moment = Moment(now_ms=NOW)

    def place(self, symbol: str = "XBTUSD", **options: Any) -> str:
        """Put an order into the book; its id."""
        order = self.engine.place(
            self.account,
            "account",
            symbol,
            side="buy",
            price=Decimal("1.5"),
            quantity=Decimal(1),
            now_ms=NOW,
            **options,
        )
        self.engine.advance(NOW)
        return order.order_id

    def ask(
        self, method: str, target: str, body: bytes = b"", **changes: str | None
    ) -> tuple[int, Any]:
        """Send a signed request, some of its headers changed; status and answer."""
        expires = changes.get("api_expires") or str(NOW // 1000 + 5)
        headers: dict[str, str | None] = {
            "api-key": "key",
            "api-expires": expires,
            "api-signature": sim.signature("secret", method, target, expires, body),
            "content-type": "application/json" if body else None,
        }
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        self.engine.advance(self.moment.now_ms)
        request = SimRequest(
            method=method,
            raw_path=target,
            headers={name: value for name, value in headers.items() if value is not None},
            body=body,
            moment=self.moment,
        )
        handler = next(
            (
                route.handler
                for route in self.dialect.routes()
                if (route.method, route.template) == (method, request.path)
            ),
            lambda _, request: self.dialect.unknown(request),
        )
        answer = handler(self.engine, request)
        assert isinstance(answer, SimReply)
        return answer.status, json.loads(answer.body)


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"api_key": None}, 401, "Authorization Required"),
        ({"api_expires": ""}, 401, "Authorization Required"),
        ({"api_signature": None}, 401, "Authorization Required"),
        ({"api_key": "other"}, 401, "Invalid API Key."),
        ({"api_signature": "00"}, 401, "Signature not valid."),
        ({"api_expires": f"{NOW // 1000 - 1}"}, 400, "This request has expired"),
        ({"api_expires": "1700000009.5"}, 400, "This request has expired"),
    ],
)
def test_the_simulator_lets_nobody_else_in(
    changes: dict[str, str | None], status: int, message: str
) -> None:
    """Every part is needed, and all belong together; an expiry counts if it is signed."""
    desk = Desk()
    desk.place()
    found, answer = desk.ask("DELETE", "/api/v1/order/all", b"", **changes)
    assert found == status
    assert answer["error"]["message"].startswith(message)
    assert len(desk.engine.open_orders(desk.account, "account")) == 1


def test_the_simulator_checks_body_and_query() -> None:
    """A signature of another body or query is no signature of this one."""
    desk = Desk()
    expires = str(NOW // 1000 + 5)
    other = sim.signature("secret", "DELETE", "/api/v1/order/all", expires, b"{}")
    assert desk.ask("DELETE", "/api/v1/order/all", api_signature=other)[0] == 401
    other = sim.signature("secret", "GET", "/api/v1/order", expires, b"")
    assert desk.ask("GET", "/api/v1/order?count=1", api_signature=other)[0] == 401


def test_the_simulator_reads_a_body_as_what_it_says_it_is() -> None:
    """JSON that does not say so is a form without a symbol: it cancels the whole account."""
    desk = Desk()
    desk.place("XBTUSD")
    desk.place("ETHUSD")
    _, rows = desk.ask("DELETE", "/api/v1/order/all", b"symbol=ETHUSD", content_type=None)
    assert [(row["symbol"], row["ordStatus"]) for row in rows] == [("ETHUSD", "Canceled")]
    desk.place("ETHUSD")
    body = b'{"symbol":"XBTUSD"}'
    _, rows = desk.ask("DELETE", "/api/v1/order/all", body, content_type="text/plain")
    assert {row["symbol"] for row in rows} == {"XBTUSD", "ETHUSD"}


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("DELETE", "/api/v1/order/all", b'{"symbol":"XBT"}'),
        ("DELETE", "/api/v1/order/all", b'{"symbol":"BTCUSD"}'),
        ("DELETE", "/api/v1/order/all", b"{"),
        ("GET", "/api/v1/order?symbol=BTCUSD", b""),
        ("GET", "/api/v1/order?filter=open", b""),
        ("GET", "/api/v1/order?count=0", b""),
        ("GET", "/api/v1/order?count=-1", b""),
        ("GET", "/api/v1/order?start=x", b""),
        ("POST", "/api/v1/order/cancelAllAfter", b"{}"),
        ("POST", "/api/v1/order/cancelAllAfter", b'{"timeout":-1}'),
    ],
)
def test_the_simulator_refuses_what_makes_no_sense(method: str, target: str, body: bytes) -> None:
    """Unknown symbols, and values that are none, are HTTP 400."""
    status, answer = Desk().ask(method, target, body)
    assert (status, set(answer)) == (400, {"error"})


def test_the_simulator_knows_no_other_endpoint() -> None:
    """HTTP 404."""
    assert Desk().ask("GET", "/api/v1/chat")[0] == 404


def test_the_simulator_wants_permission() -> None:
    """A key that may only look can't cancel."""
    desk = Desk()
    desk.engine.add_account("looker", "secret", categories=("account",), permissions=("view",))
    assert desk.ask("GET", "/api/v1/order", api_key="looker")[0] == 200
    assert desk.ask("DELETE", "/api/v1/order/all", api_key="looker")[0] == 403


def test_the_simulator_pages_and_filters() -> None:
    """By count and start, newest first if asked; without the filter, ended orders too."""
    desk = Desk(max_count=3)
    placed = [desk.place() for _ in range(5)]
    is_open = "filter=%7B%22open%22%3Atrue%7D"

    def listed(query: str) -> list[str]:
        return [row["orderID"] for row in desk.ask("GET", f"/api/v1/order?{query}")[1]]

    assert listed(f"{is_open}&count=2") == placed[:2]
    assert listed(f"{is_open}&count=500&start=1") == placed[1:4]
    assert listed(f"{is_open}&reverse=true") == placed[:1:-1]
    desk.ask("DELETE", "/api/v1/order/all")
    assert listed(is_open) == []
    assert listed("start=3&symbol=xbtusd") == placed[3:]


def test_the_simulator_reads_a_series_as_its_next_contract() -> None:
    """The documented trap: XBT is XBTZ26, not XBTUSD."""
    desk = Desk()
    order_id = desk.place("XBTZ26", order_type="Stop")
    desk.place("XBTUSD")
    (row,) = desk.ask("GET", "/api/v1/order?symbol=XBT&filter=%7B%22open%22%3Atrue%7D")[1]
    assert (row["orderID"], row["symbol"]) == (order_id, "XBTZ26")
    assert (row["price"], row["stopPx"], row["workingIndicator"]) == (None, 1.5, False)
    found = desk.ask("GET", "/api/v1/instrument?symbol=XBT")[1]
    assert [row["symbol"] for row in found] == ["XBTZ26"]
    assert desk.ask("GET", "/api/v1/instrument?symbol=BTCUSD")[1] == []
    assert "XBTUSD" in {row["symbol"] for row in desk.ask("GET", "/api/v1/instrument")[1]}


def test_the_simulated_switch_fires_once_and_on_time() -> None:
    """A renewal replaces the timer, 0 stops it, and what fires is a cancel of the account."""
    desk = Desk()
    path = "/api/v1/order/cancelAllAfter"

    def left(at_ms: int) -> int:
        desk.engine.advance(at_ms)
        return len(desk.engine.open_orders(desk.account, "account"))

    desk.place("XBTUSD")
    desk.place("ETHUSD")
    assert desk.ask("POST", path, b'{"timeout":1000}')[1]["cancelTime"].endswith("21.000Z")
    desk.moment = Moment(now_ms=NOW + 900)
    desk.ask("POST", path, b'{"timeout":1000}')
    assert left(NOW + 1_899) == 2
    assert left(NOW + 1_900) == 0
    desk.place("XBTUSD")
    assert left(NOW + 9_000) == 1
    desk.moment = Moment(now_ms=NOW + 9_000)
    later = "1700000020"
    desk.ask("POST", path, b"timeout=1000", content_type="a form", api_expires=later)
    _, disarmed = desk.ask("POST", path, b'{"timeout":0}', api_expires=later)
    assert disarmed["cancelTime"] == 0
    assert left(NOW + 99_000) == 1


# --- end to end -----------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def exchange() -> AsyncIterator[SimulatedExchange]:
    """A simulated BitMEX on loopback, whose pages hold 100 orders at most."""
    async with SimulatedExchange(BitMEXDialect(max_count=100)) as running:
        yield running


def venue_of(exchange: SimulatedExchange) -> BitMEX:
    """Where the exchange listens."""
    return BitMEX(rest_url=exchange.rest_url)


@asynccontextmanager
async def trader(
    exchange: SimulatedExchange, account: Account, secret: str = "", **options: Any
) -> AsyncIterator[Client]:
    """A client of the account that opens no connection by itself."""
    credentials = Credentials(account.api_key, secret or account.api_secret)
    async with (
        cold_pool() as pool,
        Client(credentials, venue=venue_of(exchange), pool=pool, **options) as client,
    ):
        yield client


def left(exchange: SimulatedExchange, account: Account) -> list[str]:
    """The symbols of what is open."""
    return [order.symbol for order in exchange.open_orders(account, "account")]


@pytest.mark.asyncio
async def test_cancel_everything(exchange: SimulatedExchange) -> None:
    """Stops, spot and derivatives of the account are gone; another account is untouched."""
    account = exchange.add_account(categories={"account": "395724"})
    other = exchange.add_account()
    for symbol, order_type in (("XBTUSD", "limit"), ("XBT_USDT", "Stop"), ("XBTZ26", "StopLimit")):
        exchange.place(account, "account", symbol, order_type=order_type)
    exchange.place(other, "account", "XBTUSD")
    async with trader(exchange, account) as client:
        ack = await client.cancel_all("account")
        assert await client.open_orders("account") == []
    assert (ack.status, ack.account_id, ack.symbol) == ("3 Canceled", "395724", "")
    assert [attempt.fate for attempt in ack.attempts] == ["answered"]
    assert left(exchange, account) == []
    assert left(exchange, other) == ["XBTUSD"]


@pytest.mark.asyncio
async def test_cancel_one_symbol(exchange: SimulatedExchange) -> None:
    """The others stay. The second time there is nothing, and the symbol is looked up."""
    account = exchange.add_account()
    exchange.place(account, "account", "XBTUSD")
    exchange.place(account, "account", "XBTUSDT")
    async with trader(exchange, account) as client:
        ack = await client.cancel_all("account", "XBTUSD")
        assert (ack.status, len(ack.attempts)) == ("1 Canceled", 1)
        assert left(exchange, account) == ["XBTUSDT"]
        ack = await client.cancel_all("account", "XBTUSD")
        assert (ack.status, len(ack.attempts)) == ("nothing open", 2)
        assert await client.open_orders("account", "XBTUSD") == []
        (order,) = await client.open_orders("account", "XBTUSDT")
    assert (order.side, order.price, order.status) == ("buy", Decimal(1), "New")
    assert left(exchange, account) == ["XBTUSDT"]


@pytest.mark.asyncio
async def test_an_unknown_symbol_is_refused(exchange: SimulatedExchange) -> None:
    """By the venue, once; nothing is cancelled, and nothing is said to be."""
    account = exchange.add_account()
    exchange.place(account, "account", "XBTUSD")
    async with trader(exchange, account) as client:
        for ask in (client.cancel_all, client.open_orders):
            with pytest.raises(ScopeError) as caught:
                await ask("account", "BTCUSD")
            assert not caught.value.may_have_executed
    assert len(exchange.requests) == 2
    assert left(exchange, account) == ["XBTUSD"]


@pytest.mark.asyncio
async def test_a_series_is_no_symbol(exchange: SimulatedExchange) -> None:
    """The venue lists its next contract for it; an empty list of that is not one of the series."""
    account = exchange.add_account()
    exchange.place(account, "account", "XBTUSD")
    once = RetryPolicy(base=60.0)  # so that no later attempt is cut short by the deadline
    async with trader(exchange, account, retry=once) as client:
        with pytest.raises(ScopeError, match="no symbol 'XBT'"):
            await client.open_orders("account", "XBT")
        exchange.place(account, "account", "XBTZ26")
        with pytest.raises(ProtocolError, match="other symbols"):
            await client.open_orders("account", "XBT")


@pytest.mark.asyncio
async def test_a_venue_that_accepts_an_unknown_symbol(exchange: SimulatedExchange) -> None:
    """Should it answer with an empty list instead of a refusal, that is no success either."""
    account = exchange.add_account()
    exchange.faults.add(Answer(200, b"[]"), operation="cancel-all")
    async with trader(exchange, account) as client:
        with pytest.raises(ScopeError, match="no symbol 'BTCUSD'"):
            await client.cancel_all("account", "BTCUSD")


@pytest.mark.asyncio
async def test_a_listing_of_many_pages(exchange: SimulatedExchange) -> None:
    """Every order is in it once, though the venue gives a fifth of what a page is asked to hold."""
    account = exchange.add_account()
    placed = [exchange.place(account, "account", "XBTUSD").order_id for _ in range(350)]
    async with trader(exchange, account) as client:
        orders = await client.open_orders("account", "XBTUSD")
        assert len(exchange.operations("open-orders")) == 4
        ack = await client.cancel_all("account")
    assert [order.order_id for order in orders] == placed
    assert ack.status == "350 Canceled"


@pytest.mark.asyncio
async def test_an_ack_says_what_was_not_cancelled(exchange: SimulatedExchange) -> None:
    """One fills on its way out, one is still pending; the Ack claims neither."""
    account = exchange.add_account()
    exchange.place(account, "account", "XBTUSD", script=Script(on_cancel=OnCancel.FILL))
    exchange.place(account, "account", "XBTUSD")
    late = Script(ack_delay_ms=HELD)
    unseen = exchange.place(account, "account", "XBTUSD", script=late)
    async with trader(exchange, account) as client:
        ack = await client.cancel_all("account", "XBTUSD")
        assert ack.status == "1 Canceled, 1 Rejected"
        exchange.engine.acknowledge(unseen.order_id, now_ms=exchange.now_ms)
        exchange.faults.add(EffectDelay(HELD), operation="cancel-all")
        ack = await client.cancel_all("account", "XBTUSD")
        assert ack.status == "1 PendingCancel"
        assert len(await client.open_orders("account")) == 1


@pytest.mark.asyncio
async def test_a_wrong_secret_is_told_at_once(exchange: SimulatedExchange) -> None:
    """One request, and neither key nor secret in the words."""
    account = exchange.add_account("a-key", "a-secret")
    exchange.place(account, "account", "XBTUSD")
    async with trader(exchange, account, "another-secret") as client:
        with pytest.raises(AuthenticationError, match="Signature not valid") as caught:
            await client.cancel_all("account")
    assert len(exchange.requests) == 1
    assert not caught.value.may_have_executed
    assert left(exchange, account) == ["XBTUSD"]
    assert "a-key" not in str(caught.value)
    assert "another-secret" not in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize("skew_ms", [95_000, -95_000])
async def test_a_clock_that_is_off(exchange: SimulatedExchange, skew_ms: int) -> None:
    """Behind, it is measured once the venue refuses; ahead, nothing is refused."""
    account = exchange.add_account()
    exchange.place(account, "account", "XBTUSD")
    exchange.skew_ms = skew_ms
    async with trader(exchange, account) as client:
        ack = await client.cancel_all("account")
    assert ack.status == "1 Canceled"
    fates = [attempt.fate for attempt in ack.attempts]
    assert fates == (["refused", "answered"] if skew_ms > 0 else ["answered"])
    sent = exchange.operations("cancel-all")[-1].header("api-expires")
    assert ack.attempts[-1].expires_at_ms == int(sent or "") * 1000


@pytest.mark.asyncio
async def test_a_lost_reply_is_asked_for_again(exchange: SimulatedExchange) -> None:
    """The first attempt did it; the second finds nothing, and claims nothing."""
    account = exchange.add_account()
    exchange.place(account, "account", "XBTUSD")
    exchange.faults.add(Drop(executed=True), operation="cancel-all")
    async with trader(exchange, account) as client:
        ack = await client.cancel_all("account")
    assert [attempt.fate for attempt in ack.attempts] == ["unknown", "answered"]
    assert ack.status == "nothing open"
    assert [record.what for record in exchange.log].count(What.CANCEL_ALL_RECEIVED) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "kind", "executed"),
    [
        (
            Answer(503, (DATA / "error_overloaded.json").read_bytes(), (("Retry-After", "9"),)),
            VenueUnavailable,
            False,
        ),
        (Answer(503, b"<html>", (("Retry-After", "9"),)), VenueUnavailable, True),
        (
            Answer(429, (DATA / "error_rate_limit.json").read_bytes(), (("Retry-After", "9"),)),
            RateLimited,
            False,
        ),
        (Answer(403, b'{"error":{"message":"Access Denied","name":"E"}}'), PermissionDenied, False),
    ],
)
async def test_refusals_over_the_wire(
    exchange: SimulatedExchange, answer: Answer, kind: type[MassCancelError], *, executed: bool
) -> None:
    """A wait beyond the time ends the call; what is known of the outcome is said."""
    account = exchange.add_account()
    exchange.place(account, "account", "XBTUSD")
    exchange.faults.add(answer, operation="cancel-all", times=None)
    async with trader(exchange, account) as client:
        with pytest.raises(kind) as caught:
            await client.cancel_all("account", timeout=2.0)
    assert caught.value.may_have_executed is executed
    assert len(exchange.requests) == 1
    assert left(exchange, account) == ["XBTUSD"]


@pytest.mark.asyncio
async def test_many_accounts_at_once(exchange: SimulatedExchange) -> None:
    """A fan-out over accounts and symbols; the one whose key may only look fails by itself."""
    accounts = [exchange.add_account() for _ in range(4)]
    accounts.append(exchange.add_account(permissions=("view",)))
    for account in accounts:
        exchange.place(account, "account", "XBTUSD")
        exchange.place(account, "account", "ETHUSD")
    venue = venue_of(exchange)
    async with cold_pool() as pool, asyncio.TaskGroup() as group:
        clients = [
            Client(Credentials(a.api_key, a.api_secret), venue=venue, pool=pool) for a in accounts
        ]
        for client in clients:
            group.create_task(client.__aenter__())
        await asyncio.sleep(0)
        report = await cancel_many(Target.product(clients, ["account"], ["XBTUSD", "ETHUSD"]))
    assert [outcome.ok for outcome in report.outcomes] == [True] * 8 + [False] * 2
    assert {type(outcome.error) for outcome in report.failed} == {PermissionDenied}
    assert [len(left(exchange, account)) for account in accounts] == [0, 0, 0, 0, 2]


@pytest.mark.asyncio
async def test_the_clock_is_read_over_the_wire(exchange: SimulatedExchange) -> None:
    """A pool that warms its connections asks for it by itself, unsigned."""
    account = exchange.add_account()
    venue = venue_of(exchange)
    credentials = Credentials(account.api_key, account.api_secret)
    async with Client(credentials, venue=venue), asyncio.timeout(10):
        await exchange.until(lambda: any(r.status == 200 for r in exchange.operations("clock")))
    assert all(not asked.api_key for asked in exchange.operations("clock"))


async def run(exchange: SimulatedExchange, account: Account, flow: Generator[Any, Any, Any]) -> Any:
    """The value of a flow that no public call has yet, each call sent once."""
    credentials = Credentials(account.api_key, account.api_secret)
    step: Any = first(flow)
    async with cold_pool() as pool:
        while isinstance(step, Call):
            stamp = Stamp(exchange.now_ms)
            request = step.sign(step, credentials, stamp)
            answer = await pool.send(step.origin, request, max_reply=step.max_reply)
            step = then(flow, step.decode(answer, stamp))
    return step


@pytest.mark.asyncio
async def test_the_switch_over_the_wire(exchange: SimulatedExchange) -> None:
    """Armed, it says when it fires and does; disarmed, it does not."""
    account = exchange.add_account()
    exchange.place(account, "account", "XBTUSD")

    async def set_to(timeout_ms: int) -> Any:
        flow = venue_of(exchange).switch("account", None, timeout_ms)
        return await run(exchange, account, flow)

    before = exchange.now_ms
    fires_at_ms = await set_to(60_000)
    assert before + 60_000 <= fires_at_ms <= exchange.now_ms + 60_000
    assert await set_to(0) is None
    exchange.engine.advance(before + 600_000)
    assert len(exchange.engine.open_orders(account, "account")) == 1
    await set_to(60_000)
    exchange.engine.advance(exchange.engine.now_ms + 60_001)
    assert exchange.engine.open_orders(account, "account") == []


@pytest.mark.asyncio
async def test_what_has_become_of_orders(exchange: SimulatedExchange) -> None:
    """Cancelled, filled or still open, each by its own status; an unknown one is left out."""
    account = exchange.add_account()
    for _ in range(150):
        exchange.place(account, "account", "XBTUSD")
    late = Script(on_cancel=OnCancel.FILL)
    exchange.place(account, "account", "XBTUSD", script=late)
    async with trader(exchange, account) as client:
        orders = await client.open_orders("account")
        await client.cancel_all("account")
        exchange.place(account, "account", "XBTUSD")
        (still_open,) = await client.open_orders("account")
    asked = [*orders, still_open, order(0)]
    states = await run(exchange, account, venue_of(exchange).order_states("account", asked))
    assert states == {
        **{order.order_id: "cancelled" for order in orders[:150]},
        orders[150].order_id: "filled",
        still_open.order_id: "open",
    }
    assert len(exchange.operations("open-orders")) == 2 + 1 + 2


def test_past_orders_are_searched_in_bounds() -> None:
    """No further than needed, nor than a few pages; not at all where nothing is asked."""
    assert then_nothing(VENUE.order_states("account", [])) == {}
    flow = VENUE.order_states("account", [order(1), order(2, "ETHUSD")])
    call = first(flow)
    assert call.path == "/api/v1/order?count=500&reverse=true&start=0"
    assert not call.acts
    page = {str(number): "filled" for number in range(100, 600)}
    call = then(flow, page)
    assert call.path.endswith("start=500")
    assert then(flow, page | {"1": "cancelled", "2": "open"}) == {"1": "cancelled", "2": "open"}
    flow = VENUE.order_states("account", [order(1)])
    assert first(flow).path == "/api/v1/order?symbol=XBTUSD&count=500&reverse=true&start=0"
    assert then(flow, *[page] * PAST_PAGES) == {}
    with pytest.raises(ScopeError):
        next(VENUE.order_states("cash", [order(1)]))


def test_there_is_no_stream() -> None:
    """What a venue can't do is said, as data and by the call."""
    assert VENUE.stream("account") is None  # type: ignore[func-returns-value]  # that it is None
    assert not VENUE.abilities["account"].stream
    with pytest.raises(ScopeError):
        VENUE.stream("cash")
