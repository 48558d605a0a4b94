"""Binance: what failed once, by hand: books that are sick, odd rows, large listings, limits."""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from flows_support import NOW, Drive, calls_of, decoded, taken
from masscancel.calls import Call, Flow, Reply, Scope, Spent, Stamp
from masscancel.errors import (
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    VenueError,
    VenueUnavailable,
)
from masscancel.venues.binance import Binance
from masscancel.venues.toolkit import SLICE

if TYPE_CHECKING:
    from collections.abc import Mapping

VENUE = Binance()
SPOT, USDM = Scope("spot"), Scope("usdm")
BTC, ETH, LTC = "BTCUSDT", "ETHUSDT", "LTCUSDT"
DONE = b'{"code":200,"msg":"The operation of cancel all open order is done."}'
NOTHING = b'{"code":-2011,"msg":"Unknown order sent."}'
ROW: dict[str, Any] = {
    "orderId": 1,
    "symbol": BTC,
    "side": "BUY",
    "origQty": "1.0",
    "price": "0.1",
    "executedQty": "0.0",
    "type": "LIMIT",
    "status": "NEW",
}
ALGO_ROW: dict[str, Any] = {
    "algoId": 7,
    "symbol": BTC,
    "side": "SELL",
    "quantity": "0.01",
    "price": "750",
    "orderType": "TAKE_PROFIT",
    "algoStatus": "NEW",
}


def listing_call(scope: Scope = SPOT) -> Call[Any]:
    """The (first) listing that a cancel begins with."""
    return calls_of(VENUE.cancel_all(scope, None))[0]


# Row 6: a sick book keeps nothing else alive.


@pytest.mark.parametrize("sick", ["openAlgoOrders", "openOrders"])
@pytest.mark.parametrize("fate", ["hangs", "503", "429", "unreadable", "cached"])
def test_a_sick_book_holds_up_nothing(sick: str, fate: str) -> None:
    """Both books of what the other listing shows are cancelled at once; then the sick is named."""
    drive = Drive(VENUE.cancel_all(USDM, None))
    well, row = ("openOrders", ROW) if sick == "openAlgoOrders" else ("openAlgoOrders", ALGO_ROW)
    drive.answer(well, [row, row | {"symbol": ETH}])
    assert drive.cancels() == [
        f"{path} {symbol}" for symbol in (BTC, ETH) for path in ("algoOpenOrders", "allOpenOrders")
    ]
    drive.all_cancelled(DONE)
    assert drive.value is None
    (call,) = drive.calls
    error = {
        "hangs": OutcomeUnknown("no answer"),
        "503": decoded(call, b"<html>", 503),
        "429": decoded(call, {"code": -1003, "msg": "Too many requests"}, 429, Retry_After="3"),
        "unreadable": decoded(call, b"[{"),
        "cached": ProtocolError("the listing proves nothing: it comes from a cache"),
    }[fate]
    drive.answer(sick, error)
    with pytest.raises(type(error)) as caught:
        drive.ack()
    book = "algo" if sick == "openAlgoOrders" else "ordinary"
    assert caught.value is error
    assert f"not acknowledged: the book {book}, which could not be listed" in error.__notes__


def test_each_symbol_and_book_is_cancelled_once() -> None:
    """What the listing of one book has begun, that of the other does not repeat."""
    drive = Drive(VENUE.cancel_all(USDM, None))
    drive.answer("openOrders", [ROW, ROW])
    assert drive.cancels() == [f"algoOpenOrders {BTC}", f"allOpenOrders {BTC}"]
    drive.answer("openAlgoOrders", [ALGO_ROW, ALGO_ROW | {"symbol": ETH}])
    assert len(drive.cancels()) == 4
    drive.all_cancelled(DONE)
    ack = drive.ack()
    assert (ack.status, ack.cancelled, ack.raw) == ("done", None, b"\n".join([DONE] * 4))


def test_nothing_open_takes_every_listing() -> None:
    """The Ack that says so holds the bytes of all of them."""
    drive = Drive(VENUE.cancel_all(USDM, None))
    drive.answer("openAlgoOrders", [])
    assert drive.value is None
    drive.answer("openOrders", [])
    ack = drive.ack()
    assert (ack.status, ack.raw, ack.cancelled) == ("nothing open", b"[]\n[]", None)


def test_what_failed_is_named_by_symbol_and_book() -> None:
    """On whichever error is raised; the others' success stays countable."""
    drive = Drive(VENUE.cancel_all(USDM, None))
    drive.answer("openOrders", [ROW, ROW | {"symbol": ETH}])
    drive.answer("openAlgoOrders", [])
    closed = {"code": -2011, "msg": "Market is closed."}
    drive.answer("algoOpenOrders", closed, BTC, 400)
    drive.answer("allOpenOrders", b"<html>", ETH, 502)
    drive.all_cancelled(DONE)
    with pytest.raises(VenueError, match="Market is closed") as caught:
        drive.ack()
    assert caught.value.__notes__ == [
        f"not acknowledged: {BTC} (algo), {ETH} (ordinary)",
        "2 failed; of 5 calls, 3 succeeded",
    ]


@pytest.mark.unmeasured
def test_very_many_names_are_cut() -> None:
    """A note stays readable."""
    drive = Drive(VENUE.cancel_all(SPOT, None))
    drive.answer("openOrders", [ROW | {"symbol": f"S{number}USDT"} for number in range(300)])
    for name in drive.cancels():
        drive.answer("openOrders", VenueUnavailable(), name.split()[1])
    with pytest.raises(VenueUnavailable) as caught:
        drive.ack()
    assert caught.value.__notes__[0].endswith("S49USDT and 250 more")


# Books that are left out.


@pytest.mark.parametrize(
    ("book", "listing", "cancel"),
    [("algo", "openAlgoOrders", "algoOpenOrders"), ("ordinary", "openOrders", "allOpenOrders")],
)
def test_futures_books_can_be_left_out(book: str, listing: str, cancel: str) -> None:
    """Of the other one nothing is listed, and nothing cancelled."""
    for symbol in (None, BTC):
        scope = Scope("usdm", symbol, (book,))
        VENUE.check_scope(scope)
        (listed,) = calls_of(VENUE.open_orders(scope))
        assert listed.path == f"/fapi/v1/{listing}"
        drive = Drive(VENUE.cancel_all(scope, None))
        if symbol is None:
            drive.answer(listing, [ROW if book == "ordinary" else ALGO_ROW])
        assert drive.cancels() == [f"{cancel} {BTC}"]
        drive.all_cancelled(DONE)
        assert drive.ack().status == "done"


def test_spot_can_leave_nothing_out() -> None:
    """One call cancels stop orders, too; the native switch covers both books, or is refused."""
    VENUE.check_scope(Scope("spot", None, ("ordinary", "stop")))
    for scope in (Scope("spot", None, ("ordinary",)), Scope("usdm", None, ("stop",))):
        with pytest.raises(ScopeError):
            VENUE.check_scope(scope)
    with pytest.raises(ScopeError):
        next(VENUE.switch(Scope("usdm", BTC, ("ordinary",)), 1_000))


def test_the_book_of_an_order() -> None:
    """On spot by the order's type, on futures by the listing that has it."""
    (spot,) = calls_of(VENUE.open_orders(SPOT))
    kinds = ["LIMIT", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"]
    orders = decoded(spot, [ROW | {"type": kind} for kind in [*kinds, "LIMIT_MAKER"]])
    assert [order.book for order in orders] == ["ordinary", *["stop"] * 4, "ordinary"]
    algo, ordinary = calls_of(VENUE.open_orders(USDM))
    assert [order.book for order in decoded(algo, [ALGO_ROW])] == ["algo"]
    assert [order.book for order in decoded(ordinary, [ROW | {"type": "STOP"}])] == ["ordinary"]


# Row 7: odd rows.

ODD: list[dict[str, Any]] = [
    {"price": 0.1},
    {"origQty": None},
    {"type": None},
    {"status": None},
    {"side": "BOTH"},
    {"orderId": "12"},
    {"price": "NaN"},
    {"origQty": "NaN"},
]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_an_odd_row_is_cancelled_and_proves_nothing(odd: dict[str, Any]) -> None:
    """The cancel needs the symbol alone; a listing for callers says what is wrong."""
    drive = Drive(VENUE.cancel_all(SPOT, None))
    rows = [ROW, ROW | {"symbol": ETH} | odd, ROW | {"symbol": LTC}]
    drive.answer("openOrders", rows)
    assert drive.cancels() == [f"openOrders {symbol}" for symbol in (BTC, ETH, LTC)]
    drive.all_cancelled(b"[]")
    assert drive.ack().status == "nothing open"
    (call,) = calls_of(VENUE.open_orders(SPOT))
    error = decoded(call, rows)
    assert type(error) is ProtocolError
    assert ETH in error.message


@pytest.mark.parametrize("odd", [{"symbol": ""}, {"symbol": None}, {"symbol": 5}, None, 5, "row"])
def test_a_row_without_a_symbol_is_no_ack(odd: Any) -> None:
    """The others are cancelled all the same."""
    drive = Drive(VENUE.cancel_all(SPOT, None))
    drive.answer("openOrders", [ROW, ROW | odd if isinstance(odd, dict) else odd])
    drive.all_cancelled(b"[]")
    with pytest.raises(ProtocolError, match="1 orders whose symbol can't be read") as caught:
        drive.ack()
    assert "not acknowledged: 1 orders" in caught.value.__notes__[0]


@pytest.mark.parametrize("body", [b"", b"[", b" [ ", b"{}", b"null", DONE, b'[{"symbol":"A"}'])
def test_what_is_no_listing(body: bytes) -> None:
    """It is never taken for an empty one."""
    for scope in (SPOT, USDM):
        read = decoded(listing_call(scope), body)
        assert type(read) is ProtocolError or (read.symbols == ("A",) and read.doubt)
        assert type(decoded(calls_of(VENUE.open_orders(scope))[0], body)) is ProtocolError


# Row 10: very many orders.


def bytes_of(rows: list[dict[str, Any]]) -> bytes:
    """A large reply; its rows are as long as those of the documents."""
    return json.dumps([row | {"clientOrderId": "x" * 300} for row in rows]).encode()


@pytest.mark.unmeasured
def test_a_large_listing_is_decoded_in_slices() -> None:
    """20,000 orders, 10 MB: both for a cancel and for a caller, one of them odd."""
    rows = [ROW | {"orderId": n, "symbol": f"S{n % 500}USDT"} for n in range(20_000)]
    body = bytes_of(rows)
    assert len(body) > 9_000_000
    call = listing_call()
    assert call.max_reply > len(body)
    listed, lasted = taken(call.decode(Reply(200, {}, body), Stamp(NOW)))
    assert len(listed.symbols) == 500
    assert len(lasted) > len(body) / SLICE / 2
    (caller,) = calls_of(VENUE.open_orders(SPOT))
    orders, lasted = taken(caller.decode(Reply(200, {}, body), Stamp(NOW)))
    assert [order.order_id for order in orders] == [str(n) for n in range(20_000)]
    assert len(lasted) > len(body) / SLICE / 2
    rows[12_345] |= {"note": "\udc00"}
    listed, lasted = taken(call.decode(Reply(200, {}, bytes_of(rows)), Stamp(NOW)))
    assert (len(listed.symbols), listed.nameless) == (500, 0)
    assert len(lasted) > len(body) / SLICE / 2


def test_a_large_answer_is_decoded_in_slices() -> None:
    """Spot repeats every order that it cancelled."""
    (call,) = calls_of(VENUE.cancel_all(Scope("spot", BTC), None))
    rows = [ROW | {"orderId": n, "status": "CANCELED"} for n in range(20_000)]
    answer, lasted = taken(call.decode(Reply(200, {}, bytes_of(rows)), Stamp(NOW)))
    assert answer.cancelled == tuple(str(n) for n in range(20_000))
    assert len(lasted) > 50


# Row 48: what the answer says is cancelled.


def test_spot_tells_what_is_cancelled() -> None:
    """Ids of orders and of the orders of lists, of several symbols; none where nothing was open."""
    drive = Drive(VENUE.cancel_all(SPOT, None))
    drive.answer("openOrders", [ROW | {"symbol": symbol} for symbol in (BTC, ETH, LTC)])
    gone = {"symbol": BTC, "orderId": 11, "status": "CANCELED"}
    reports = [gone | {"orderId": 12}, gone | {"orderId": 13, "status": "FILLED"}]
    drive.answer("openOrders", [gone, {"symbol": BTC, "orderReports": reports}], BTC)
    drive.answer("openOrders", [gone | {"symbol": ETH, "orderId": "21"}], ETH)
    drive.answer("openOrders", NOTHING, LTC, 400)
    ack = drive.ack()
    assert (ack.status, ack.cancelled) == ("CANCELED", ("11", "12", "21"))


@pytest.mark.parametrize("order_id", [None, "missing"])
def test_an_answer_without_ids_is_an_ack_that_does_not_tell(order_id: Any) -> None:
    """Ids decide nothing."""
    drive = Drive(VENUE.cancel_all(Scope("spot", BTC), None))
    row = {"symbol": BTC, "status": "CANCELED", "orderId": order_id}
    drive.answer("openOrders", [{k: v for k, v in row.items() if v != "missing"}], BTC)
    assert (drive.ack().status, drive.ack().cancelled) == ("CANCELED", None)


# Rows 16, 30 to 32, 40, 41: limits, bans, caches, delays.


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", VenueUnavailable),
        (403, b"<html>Request blocked</html>", VenueUnavailable),
        (403, b'{"message":"Forbidden"}', VenueUnavailable),
        (404, b"<html>", VenueUnavailable),
        (418, b"", RateLimited),
        (403, b'{"code":0,"msg":"WAF"}', RateLimited),
        (401, b'{"code":-1002,"msg":"You are not authorized"}', PermissionDenied),
    ],
)
def test_what_is_not_binance_s_says_nothing_of_the_key(
    status: int, body: bytes, kind: type[VenueError]
) -> None:
    """It is of a kind that is asked again."""
    for scope in (SPOT, USDM, Scope("spot", BTC), Scope("usdm", BTC)):
        for call in calls_of(VENUE.cancel_all(scope, None)):
            assert type(decoded(call, body, status)) is kind


def test_how_long_a_ban_lasts() -> None:
    """By the header, in HTML too; else by the end that the sentence has."""
    banned = {"code": -1003, "msg": f"IP banned until {NOW + 90_500}. Please use"}
    for body, headers, wait in (
        (banned, {}, 90.5),
        (banned, {"Retry_After": "7"}, 7),
        ({"code": -1003, "msg": f"banned until {10**15}"}, {}, 3 * 86_400),
        (b"<html>", {"Retry_After": "60"}, 60),
    ):
        error = decoded(listing_call(), body, 418, **headers)
        assert isinstance(error, RateLimited)
        assert error.retry_after == wait


@pytest.mark.parametrize(("category", "weight"), [("spot", 6_000), ("usdm", 2_400)])
def test_documented_limits(category: str, weight: int) -> None:
    """So much weight a minute and address; on spot, so many requests in five."""
    limits = {limit.name: limit for limit in VENUE.limits(VENUE.origin(category))}
    of_minute = limits["weight" if category == "spot" else "usdm_weight"]
    assert (of_minute.amount, of_minute.seconds) == (weight, 60)
    assert {limit.per for limit in limits.values()} == {"origin"}
    assert ("requests" in limits) == (category == "spot")
    assert VENUE.limits("https://elsewhere.example") == ()


def costs(flow: Flow[Any]) -> list[Mapping[str, float]]:
    """What the first calls of a flow cost."""
    return [call.costs for call in calls_of(flow)]


def test_what_each_call_costs() -> None:
    """By the documents; each name is that of a limit."""
    one, of, usdm = Scope("spot", BTC), Scope("usdm", BTC), [{"usdm_weight": 1}]
    (order,) = decoded(calls_of(VENUE.open_orders(SPOT))[0], [ROW])
    assert costs(VENUE.cancel_all(SPOT, None)) == [{"weight": 80, "requests": 1}]
    assert costs(VENUE.open_orders(SPOT)) == [{"weight": 80, "requests": 1}]
    assert costs(VENUE.open_orders(one)) == [{"weight": 6, "requests": 1}]
    assert costs(VENUE.cancel_all(one, None)) == [{"weight": 1, "requests": 1}]
    assert costs(VENUE.order_states("spot", [order])) == [{"weight": 4, "requests": 1}]
    assert costs(VENUE.cancel_all(USDM, None)) == [{"usdm_weight": 40}] * 2
    assert costs(VENUE.open_orders(of)) == costs(VENUE.cancel_all(of, None)) == usdm * 2
    assert costs(VENUE.order_states("usdm", [order])) == usdm
    assert costs(VENUE.switch(of, 1_000)) == [{"usdm_weight": 10}]
    assert VENUE.probe(VENUE.spot_url).costs == {"weight": 1, "requests": 1}
    assert VENUE.probe(VENUE.usdm_url).costs == usdm[0]


@pytest.mark.parametrize(
    ("header", "amount"),
    [("123", 123), (" 7 ", 7), ("9" * 400, None), ("", None), ("-1", None), ("1e3", None),
     ("NaN", None), ("\u00b2", None)],
)  # fmt: skip
def test_what_has_been_spent(header: str, amount: float | None) -> None:
    """The venue's own count, which includes what other programs spend; what is no number is none.

    Its minute ends by its own clock, as far as the reply tells that.
    """
    for date, ends_in in (("Tue, 14 Nov 2023 22:13:58 GMT", 2), ("today", inf)):
        reply = Reply(200, {"X-MBX-USED-WEIGHT-1M": header, "Date": date}, b"[]")
        for url, name in ((VENUE.spot_url, "weight"), (VENUE.usdm_url, "usdm_weight")):
            spent = {} if amount is None else {name: Spent(amount, ends_in)}
            assert VENUE.spent(url, reply) == spent


@pytest.mark.parametrize("headers", [{"Age": "3"}, {"X_Cache": "HIT"}])
def test_a_listing_out_of_a_cache_proves_nothing(headers: dict[str, Any]) -> None:
    """Neither to a caller nor to a cancel, which would take it for nothing open."""
    for scope in (SPOT, USDM):
        for call in calls_of(VENUE.open_orders(scope)):
            assert isinstance(decoded(call, [], **headers), ProtocolError)
        for call in calls_of(VENUE.cancel_all(scope, None)):
            assert decoded(call, [], **headers).doubt == "it comes from a cache"


def test_a_proof_outlasts_a_listing_that_lags() -> None:
    """By 400 ms, that is."""
    assert {ability.settle for ability in VENUE.abilities.values()} == {0.5}
