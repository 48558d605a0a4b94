"""Binance's flows: everything, what has become of orders, the switch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest

from binance_support import (
    BTC,
    DONE,
    ETH,
    NOW,
    SPOT_ROW,
    UNKNOWN_ORDER,
    VENUE,
    algo_row,
    decoded,
    described,
    listing,
    order_of,
    refused,
    row,
    sample,
    signed,
)
from flows_support import Drive, calls_of
from masscancel import (
    Ack,
    ConfigurationError,
    InvalidRequest,
    ProtocolError,
    RateLimited,
    ScopeError,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Scope

if TYPE_CHECKING:
    from masscancel.calls import Call

# Flows: everything, without a symbol.


def test_everything_on_spot_is_a_cancel_per_listed_symbol() -> None:
    """Each symbol once, in the order of the listing, all in flight together."""
    drive = Drive(VENUE.cancel_all(Scope("spot", None), None))
    (call,) = drive.calls
    assert described(call) == ("GET", "/api/v3/openOrders", "")
    assert not call.cancels
    cancels = drive.round(
        listing(call, row(BTC, 1), row(ETH, 2), row(BTC, 3), row("币USDT", 4))
    ).calls
    assert [described(each) for each in cancels] == [
        ("DELETE", "/api/v3/openOrders", symbol) for symbol in (BTC, ETH, "币USDT")
    ]
    bodies = [
        sample("spot_delete_openOrders"),
        UNKNOWN_ORDER,
        json.dumps([SPOT_ROW | {"symbol": "币USDT"}]).encode(),
    ]
    statuses = [200, 400, 200]
    ack = drive.round(*list(map(decoded, cancels, bodies, statuses))).result()
    assert ack == Ack(
        account_category="spot",
        status="CANCELED",
        raw=b"\n".join(bodies),
        cancelled=("11", "13", "20", "21", "11"),
    )


def test_everything_on_futures_is_both_books_of_each_listed_symbol() -> None:
    """Whichever book a symbol is found in, since a conditional order may become an ordinary one."""
    drive = Drive(VENUE.cancel_all(Scope("usdm", None), None))
    conditional, ordinary = drive.calls
    cancels = drive.round(listing(conditional, algo_row(BTC)), listing(ordinary, row(ETH))).calls
    assert [described(each) for each in cancels] == [
        ("DELETE", f"/fapi/v1/{path}", symbol)
        for symbol in (BTC, ETH)
        for path in ("algoOpenOrders", "allOpenOrders")
    ]
    ack = drive.round(*[decoded(each, DONE) for each in cancels]).result()
    assert ack == Ack(account_category="usdm", status="done", raw=b"\n".join([DONE] * 4))


@pytest.mark.parametrize("category", ["spot", "usdm"])
def test_nothing_open_is_an_ack_that_says_so(category: str) -> None:
    """No cancel is sent, and the Ack holds the bytes of the listings."""
    drive = Drive(VENUE.cancel_all(Scope(category, None), None))
    calls = drive.calls
    ack = drive.round(*[decoded(call, b"[]") for call in calls]).result()
    raw = b"\n".join([b"[]"] * len(calls))
    assert ack == Ack(
        account_category=category,
        status="nothing open",
        raw=raw,
        cancelled=() if category == "spot" else None,
    )


def test_a_failed_cancel_fails_the_whole_and_names_its_symbol() -> None:
    """An error of one symbol is raised, not hidden behind the others' success."""
    drive = Drive(VENUE.cancel_all(Scope("spot", None), None))
    (call,) = drive.calls
    cancels = drive.round(listing(call, row(BTC), row(ETH, 2), row("LTCBTC", 3))).calls
    error = refused(cancels[1], {"code": -2011, "msg": "Market is closed."})
    with pytest.raises(VenueError, match="Market is closed") as caught:
        drive.round(decoded(cancels[0], b"[]"), error, decoded(cancels[2], b"[]")).result()
    assert caught.value is error
    assert error.__notes__ == [
        f"not acknowledged: {ETH}",
        "1 failed; of 3 calls, 2 succeeded",
    ]


def test_a_failed_listing_does_not_keep_the_other_book_from_being_cancelled() -> None:
    """What is listed is cancelled; then the error of the other listing is raised."""
    drive = Drive(VENUE.cancel_all(Scope("usdm", None), None))
    conditional, ordinary = drive.calls
    error = refused(conditional, {"code": -1020, "msg": "This operation is not supported."})
    cancels = drive.round(error, listing(ordinary, row(BTC))).calls
    assert {described(each)[2] for each in cancels} == {BTC}
    with pytest.raises(InvalidRequest):
        drive.round(*[decoded(each, DONE) for each in cancels]).result()


def test_a_failed_listing_is_never_nothing_open() -> None:
    """With one book empty and the other unread, nothing is claimed."""
    drive = Drive(VENUE.cancel_all(Scope("usdm", None), None))
    conditional, ordinary = drive.calls
    with pytest.raises(VenueUnavailable):
        drive.round(refused(conditional, b"", 502), listing(ordinary)).result()
    drive = Drive(VENUE.open_orders(Scope("usdm", None)))
    conditional, ordinary = drive.calls
    with pytest.raises(VenueUnavailable):
        drive.round(refused(conditional, b"", 502), listing(ordinary)).result()


# The switch.


def asked_for(call: Call[Any]) -> str:
    """Path and parameters of a question after an order."""
    path, _, query = signed(call).target.partition("?")
    fields = dict(parse_qsl(query))
    named = [f"{name}={fields[name]}" for name in ("symbol", "orderId", "algoId") if name in fields]
    return f"{path} {' '.join(named)}"


def test_what_has_become_of_orders_is_asked_one_by_one() -> None:
    """Of each book at its own endpoint, by its own id, together; nothing is cancelled by it."""
    calls = calls_of(
        VENUE.order_states("spot", [order_of("1", "LTCBTC"), order_of("2", "币安人生USDT")])
    )
    assert [asked_for(call) for call in calls] == [
        "/api/v3/order symbol=LTCBTC orderId=1",
        "/api/v3/order symbol=币安人生USDT orderId=2",
    ]
    calls = calls_of(VENUE.order_states("usdm", [order_of("1"), order_of("algo:2146760")]))
    assert [asked_for(call) for call in calls] == [
        "/fapi/v1/order symbol=BTCUSDT orderId=1",
        "/fapi/v1/algoOrder algoId=2146760",
    ]
    assert {(call.method, call.cancels) for call in calls} == {("GET", False)}
    assert decoded(calls[1], sample("usdm_algoOrder")) == "cancelled"
    (call,) = calls_of(VENUE.order_states("spot", [order_of("1", "LTCBTC")]))
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
    drive = Drive(VENUE.order_states("usdm", [order_of(order_id)]))
    (call,) = drive.calls
    body = {"orderId": 1, "status": status, "algoId": 1, "algoStatus": status}
    result = decoded(call, json.dumps(body).encode())
    assert result == state
    assert drive.round(result).result() == ({} if state is None else {order_id: state})


def test_an_order_that_the_venue_knows_no_more() -> None:
    """It is left out; any other refusal, and an answer about another order, is an error."""
    (call,) = calls_of(VENUE.order_states("usdm", [order_of("1")]))
    gone = b'{"code":-2013,"msg":"Order does not exist."}'
    assert decoded(call, gone, 400) is None
    assert isinstance(refused(call, {"code": -1003, "msg": "Too many"}, 429), RateLimited)
    other = {"orderId": 2, "status": "FILLED"}
    assert isinstance(refused(call, other, 200), ProtocolError)
    (call,) = calls_of(VENUE.order_states("usdm", [order_of("algo:1")]))
    assert isinstance(refused(call, {"algoId": 2, "algoStatus": "CANCELED"}, 200), ProtocolError)
    assert isinstance(refused(call, other | {"orderId": 1}, 200), ProtocolError)


def test_very_many_orders_are_not_all_asked_for() -> None:
    """They come eight together, and the last of them are left out: unknown, not gone."""
    orders = [order_of(str(number)) for number in range(100)]
    drive = Drive(VENUE.order_states("spot", orders))
    rounds = [drive.calls]
    while len(rounds) < 8:
        rounds.append(drive.round(*["filled"] * len(rounds[-1])).calls)
    states = drive.round(*["filled"] * len(rounds[-1])).result()
    assert {len(calls) for calls in rounds} == {8}
    assert states == {str(number): "filled" for number in range(64)}


def test_a_question_after_orders_may_fail() -> None:
    """Its error is the flow's; no orders are no question; the category is one of Binance's."""
    drive = Drive(VENUE.order_states("spot", [order_of("1"), order_of("2")]))
    with pytest.raises(RateLimited):
        drive.round("filled", RateLimited(-1003)).result()
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
    drive = Drive(VENUE.switch(Scope("usdm", BTC), 100_000))
    (call,) = drive.calls
    assert drive.round(decoded(call, sample("usdm_countdownCancelAll"))).result() == NOW + 100_000
    drive = Drive(VENUE.switch(Scope("usdm", BTC), 0))
    (call,) = drive.calls
    assert drive.round(decoded(call, b'{"symbol":"BTCUSDT","countdownTime":"0"}')).result() is None


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
    (call,) = calls_of(VENUE.switch(Scope("usdm", BTC), 100_000))
    assert type(refused(call, reply, 200)) is ProtocolError


@pytest.mark.parametrize(("category", "symbol"), [("spot", None), ("spot", BTC), ("usdm", None)])
def test_no_other_scope_has_a_switch(category: str, symbol: str | None) -> None:
    """Refused by name, never approximated."""
    with pytest.raises(ScopeError, match="switch"):
        next(VENUE.switch(Scope(category, symbol), 1000))


@pytest.mark.parametrize("timeout_ms", [-1, 1.5, 1_500, 86_401_000, True, "1000", None])
def test_the_switch_wants_whole_seconds(timeout_ms: Any) -> None:
    """Anything else is refused before there is a call."""
    with pytest.raises(ConfigurationError):
        next(VENUE.switch(Scope("usdm", BTC), timeout_ms))
