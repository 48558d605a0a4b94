"""Binance's replies: what the documents' samples, and every refusal, mean."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from binance_support import (
    BTC,
    DONE,
    ETH,
    NOW,
    ORDER_LIST,
    SPOT_ROW,
    UNKNOWN_ORDER,
    VENUE,
    algo_row,
    cancel_call,
    decoded,
    described,
    listing,
    refused,
    row,
    sample,
    signed,
)
from flows_support import Drive, calls_of
from masscancel import (
    Ack,
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    OpenOrder,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Scope
from masscancel.errors import StampRefused

# Replies: the documents' samples.


def test_spot_listing() -> None:
    """The documents' sample, as our value."""
    drive = Drive(VENUE.open_orders(Scope("spot", "LTCBTC")))
    (call,) = drive.calls
    assert described(call) == ("GET", "/api/v3/openOrders", "LTCBTC")
    assert drive.round(decoded(call, sample("spot_openOrders"))).result() == [
        OpenOrder(
            order_id="1",
            symbol="LTCBTC",
            side="buy",
            price=Decimal("0.1"),
            quantity=Decimal("1.0"),
            filled_quantity=Decimal("0.0"),
            order_type="LIMIT",
            status="NEW",
            book="ordinary",
        )
    ]


def test_futures_listing_has_both_books() -> None:
    """Ordinary and conditional orders of the documents' samples, asked for together."""
    drive = Drive(VENUE.open_orders(Scope("usdm", None)))
    calls = drive.calls
    assert [described(call) for call in calls] == [
        ("GET", "/fapi/v1/openAlgoOrders", ""),
        ("GET", "/fapi/v1/openOrders", ""),
    ]
    bodies = [sample("usdm_openAlgoOrders"), sample("usdm_openOrders")]
    conditional, ordinary = drive.round(
        *[decoded(call, body) for call, body in zip(calls, bodies, strict=True)]
    ).result()
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
        book="algo",
    )


def test_ids_of_the_two_books_do_not_collide() -> None:
    """An order and a conditional order of the same number are two."""
    drive = Drive(VENUE.open_orders(Scope("usdm", BTC)))
    conditional, ordinary = drive.calls
    orders = drive.round(
        listing(conditional, algo_row(BTC, 7)), listing(ordinary, row(BTC, 7))
    ).result()
    assert len({order.order_id for order in orders}) == 2


def test_a_conditional_order_may_have_no_quantity() -> None:
    """One that closes the position has none, or zero."""
    call = calls_of(VENUE.open_orders(Scope("usdm", BTC)))[0]
    closing = algo_row(BTC) | {"closePosition": True, "price": None}
    for quantity in (None, "", "0"):
        (order,) = listing(call, closing | {"quantity": quantity})
        assert order.quantity == order.price == order.filled_quantity == 0


def test_spot_cancel_answers_with_orders_and_order_lists() -> None:
    """The documents' sample has both; the Ack keeps its bytes and claims no time of receipt."""
    drive = Drive(VENUE.cancel_all(Scope("spot", BTC), "an-id"))
    (call,) = drive.calls
    assert described(call) == ("DELETE", "/api/v3/openOrders", BTC)
    assert call.cancels
    assert call.repeatable
    body = sample("spot_delete_openOrders")
    assert drive.round(decoded(call, body)).result() == Ack(
        account_category="spot",
        status="CANCELED",
        symbol=BTC,
        raw=body,
        cancelled=("11", "13", "20", "21"),
    )


def test_futures_cancel_reaches_both_books_together() -> None:
    """The documents' samples; each book says that it is done and not what."""
    drive = Drive(VENUE.cancel_all(Scope("usdm", BTC), None))
    calls = drive.calls
    assert [described(call) for call in calls] == [
        ("DELETE", "/fapi/v1/algoOpenOrders", BTC),
        ("DELETE", "/fapi/v1/allOpenOrders", BTC),
    ]
    bodies = [sample("usdm_delete_algoOpenOrders"), sample("usdm_delete_allOpenOrders")]
    ack = drive.round(
        *[decoded(call, body) for call, body in zip(calls, bodies, strict=True)]
    ).result()
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
    drive = Drive(VENUE.cancel_all(Scope(category, BTC), None))
    calls = drive.calls
    ack = drive.round(*[decoded(call, body, 400) for call in calls]).result()
    assert (ack.status, ack.symbol) == ("nothing open", BTC)
    assert ack.raw == b"\n".join([body] * len(calls))


def test_spot_may_answer_that_it_cancelled_nothing() -> None:
    """An empty list of what was cancelled is an answer too."""
    drive = Drive(VENUE.cancel_all(Scope("spot", BTC), None))
    (call,) = drive.calls
    assert drive.round(decoded(call, b"[]")).result().status == "nothing open"


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
        call = calls_of(VENUE.open_orders(Scope(category, BTC)))[-1]  # the ordinary book
        assert type(refused(call, content, 200)) is ProtocolError


def test_an_order_without_a_symbol_can_not_be_cancelled() -> None:
    """A listing of everything that has such an order is refused as well."""
    for call in calls_of(VENUE.open_orders(Scope("usdm", None))):
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
    ("spot", 200, -9999, "Never heard of", VenueError, True),
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
    calls = [*calls_of(VENUE.cancel_all(Scope(category, BTC), None))]
    calls += [*calls_of(VENUE.open_orders(Scope(category, None)))]
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
        (400, VenueUnavailable, True),
        (401, VenueUnavailable, True),
        (403, VenueUnavailable, True),
        (404, VenueUnavailable, True),
        (408, VenueUnavailable, True),
        (418, RateLimited, False),
        (429, RateLimited, False),
        (500, VenueUnavailable, True),
        (503, VenueUnavailable, True),
    ],
)
def test_a_gateway_speaks_html(status: int, kind: type[MassCancelError], *, executed: bool) -> None:
    """It says nothing of the key or the request: only a limit is certain to have done nothing."""
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
    assert wait({"code": -1003, "msg": "IP banned until " + "9" * 30}, 418) == 3 * 86_400


def test_an_echoed_signature_stays_out_of_the_error() -> None:
    """A peer may repeat the query; what was signed is not repeated by us."""
    call = cancel_call("spot")
    target = signed(call).target
    sent = target.rpartition("=")[2]
    error = refused(call, {"code": -1104, "msg": f"Not all were read: {target}"})
    assert isinstance(error, VenueError)
    assert sent not in f"{error} {error.message} {error.args}"
