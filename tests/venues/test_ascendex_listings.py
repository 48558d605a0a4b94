"""AscendEX's listings, what became of orders, the account group and the clock."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masscancel import (
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    OpenOrder,
    ProtocolError,
    VenueError,
)

if TYPE_CHECKING:
    from collections.abc import Generator
from ascendex_support import (
    CREDENTIALS,
    PAGE,
    REQUESTS,
    STAMP,
    VENUE,
    acknowledgement,
    check_signed,
    decoded,
    json_values,
    list_orders,
    loads,
    only_call,
    orders,
    reply,
    sample,
)

pytestmark = pytest.mark.unmeasured


def listing(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A listing of these rows, each the documents' own with changes."""
    row = sample("open_orders_cash")["data"][0]
    return {"code": 0, "ac": "CASH", "data": [row | changes for changes in rows], **more}


def test_the_documented_listing() -> None:
    """Prices and quantities are exact."""
    assert decoded(list_orders(), sample("open_orders_cash")) == [
        OpenOrder(
            order_id="s16ef21882ea0866943712034f36d83",
            symbol="BTC/USDT",
            side="buy",
            price=Decimal(7105),
            quantity=Decimal("0.0083"),
            filled_quantity=Decimal(0),
            order_type="Limit",
            status="New",
        )
    ]


def test_the_documented_listing_of_futures() -> None:
    """Another set of fields, the same order."""
    (order,) = decoded(list_orders("futures", "BTC-PERP"), sample("open_orders_futures"))
    assert (order.symbol, order.side, order.price) == ("BTC-PERP", "buy", Decimal(9500))
    assert (order.quantity, order.filled_quantity) == (Decimal("0.1"), Decimal(0))


def test_rows_keep_their_order_and_their_sides() -> None:
    """Every row is a row, in the venue's order, also twice the same."""
    rows: list[dict[str, Any]] = [
        {"orderId": "1", "side": "Sell", "cumFilledQty": "0.001", "status": "PartiallyFilled"},
        {"orderId": "2", "symbol": "ETH/USDT", "price": "", "orderType": "StopMarket"},
        {"orderId": "2", "symbol": "ETH/USDT", "price": None},
    ]
    first, second, third = decoded(list_orders(), listing(*rows))
    assert (first.order_id, first.side, first.status) == ("1", "sell", "PartiallyFilled")
    assert first.filled_quantity == Decimal("0.001")
    assert (second.symbol, second.price, second.order_type) == ("ETH/USDT", 0, "StopMarket")
    assert (third.order_id, third.price) == ("2", 0)


def test_an_empty_listing_is_empty() -> None:
    """And it takes an explicit empty list to be one."""
    assert decoded(list_orders(), {"code": 0, "data": []}) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        PAGE,
        {},
        {"code": 0},
        {"code": 0, "data": None},
        {"code": 0, "data": {}},
        {"code": 0, "data": ""},
        {"code": 0, "data": [None]},
        {"code": 0, "data": [[]]},
        {"code": 0, "data": [{}]},
        {"data": []},
        listing(ac="MARGIN"),
        listing({"orderId": None}),
        listing({"orderId": 5}),
        listing({"symbol": None}),
        listing({"side": "Hold"}),
        listing({"side": "\x1b[2J"}),
        listing({"side": None}),
        listing({"orderQty": None}),
        listing({"orderQty": "many"}),
        listing({"orderQty": "NaN"}),
        listing({"price": "Infinity"}),
        listing({"cumFilledQty": "x"}),
        listing({"price": 7105}),
        json.dumps(listing({})).encode()[:-1],
        acknowledgement(),
        sample("account_info"),
    ],
    ids=lambda body: (body if isinstance(body, bytes) else json.dumps(body).encode())[:40],
)
def test_what_is_no_listing_is_never_an_empty_one(body: object) -> None:
    """A listing that can't be read is not "no open orders"."""
    error = decoded(list_orders(), body)
    assert type(error) is ProtocolError
    assert str(error).isprintable()


def test_a_listing_of_one_symbol_holds_no_other() -> None:
    """A venue that ignored the filter answered another question."""
    body = listing({}, {"symbol": "ETH/USDT"})
    assert len(decoded(list_orders(), body)) == 2
    error = decoded(list_orders("cash", "BTC/USDT"), body)
    assert type(error) is ProtocolError
    assert error.message == "the reply lists other symbols than 'BTC/USDT'"


def test_a_listing_of_another_category_says_so() -> None:
    """It answers another question."""
    error = decoded(list_orders(), listing(ac="MARGIN"))
    assert type(error) is ProtocolError
    assert error.message == "the reply lists the account category 'MARGIN'"


@pytest.mark.parametrize("code", [200001, 200015, 510001, 999999])
def test_a_refused_listing_is_an_error(code: int) -> None:
    """With HTTP 200 and even with an empty list beside it."""
    error = decoded(list_orders(), {"code": code, "reason": "WHY", "data": []})
    assert isinstance(error, VenueError)
    assert (error.code, error.reason) == (code, "WHY")


@given(st.binary() | json_values.map(lambda value: json.dumps({"code": 0, "data": value}).encode()))
def test_any_bytes_are_a_listing_or_one_of_our_errors(body: bytes) -> None:
    """Only a reply with a list has orders, as many as it has rows."""
    result = decoded(list_orders(), body)
    if isinstance(result, list):
        assert len(loads(body)["data"]) == len(result)
    else:
        assert isinstance(result, VenueError | ProtocolError)


@given(edits=st.data(), rows=st.integers(0, 3))
def test_a_mutated_listing_loses_no_order(edits: st.DataObject, rows: int) -> None:
    """Whatever bytes are changed: as many orders as rows, with their ids, or an error."""
    body = json.dumps(listing(*({"orderId": str(number)} for number in range(rows)))).encode()
    start = edits.draw(st.integers(0, len(body)))
    stop = edits.draw(st.integers(start, min(len(body), start + 4)))
    body = body[:start] + edits.draw(st.binary(max_size=4)) + body[stop:]
    result = decoded(list_orders(), body)
    if isinstance(result, list):
        listed = [row["orderId"] for row in loads(body)["data"]]
        assert [order.order_id for order in result] == listed
    else:
        assert isinstance(result, VenueError | ProtocolError)


# What became of orders


@pytest.mark.parametrize(("category", "path", "api_path"), REQUESTS)
def test_the_request_of_order_states(category: str, path: str, api_path: str) -> None:
    """A GET with the ids in the query, escaped, not signed."""
    call = only_call(VENUE.order_states(category, orders("a1", "b/2&c")))
    assert (call.method, call.cancels) == ("GET", False)
    assert call.path == f"/6/api/pro/{path}/status?orderId=a1,b%2F2%26c"
    check_signed(call.sign(call, CREDENTIALS, STAMP), f"{api_path}/status", STAMP)


def test_many_orders_are_asked_about_in_parts() -> None:
    """None twice, none left out; the parts may be in flight together."""
    ids = [f"id{number}" for number in range(45)]
    flow = VENUE.order_states("cash", orders(*ids))
    calls: Any = next(flow)
    asked = [call.path.partition("?orderId=")[2].split(",") for call in calls]
    assert [each for part in asked for each in part] == ids
    assert len(calls) > 1
    assert max(len(call.path) for call in calls) < 2_000
    states = outcome_of_many(flow, [dict.fromkeys(part, "filled") for part in asked])
    assert states == dict.fromkeys(ids, "filled")


def outcome_of_many(flow: Generator[Any, Any, Any], results: list[Any]) -> Any:
    """What a flow returns once its calls have these results."""
    with pytest.raises(StopIteration) as stop:
        flow.send(results)
    return stop.value.value


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("New", "open"),
        ("PartiallyFilled", "open"),
        ("Filled", "filled"),
        ("Canceled", "cancelled"),
        ("Rejected", "rejected"),
        ("Something new", "open"),
    ],
)
def test_what_a_status_says(status: str, state: str) -> None:
    """One id is answered with an object, several with a list; an unknown status is not flat."""
    row = sample("open_orders_cash")["data"][0] | {"orderId": "a1", "status": status}
    call = only_call(VENUE.order_states("cash", orders("a1")))
    assert decoded(call, {"code": 0, "ac": "CASH", "data": row}) == {"a1": state}
    assert decoded(call, {"code": 0, "ac": "CASH", "data": [row]}) == {"a1": state}
    assert type(decoded(call, {"code": 0, "ac": "MARGIN", "data": row})) is ProtocolError
    assert type(decoded(call, {"code": 0})) is ProtocolError
    assert type(decoded(call, {"code": 300006})) is InvalidRequest


# The account group, the clock


@pytest.mark.parametrize(
    ("group", "value"), [(0, 0), (6, 6), ("6", 6), ("0", 0), (123456789, 123456789)]
)
def test_the_group_in_the_account_info(group: object, value: int) -> None:
    """As a number, or as digits."""
    body = {"code": 0, "data": {"accountGroup": group, "email": "someone@venue.test"}}
    assert decoded(only_call(VENUE.prepare(["cash"])), body) == value


@pytest.mark.parametrize(
    "group",
    [None, "", " 6", "6 ", "-1", -1, True, 6.5, "six", "6/../7", "../6", "6?x", "²", "٣", [6], {},
     "9" * 5_000],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_what_is_no_group_is_refused(group: object) -> None:
    """It will stand in the path of every URL: digits, and nothing that resembles them."""
    body = {"code": 0, "data": {"accountGroup": group}}
    assert type(decoded(only_call(VENUE.prepare(["cash"])), body)) is ProtocolError


def test_a_refused_account_info_is_an_error() -> None:
    """A wrong secret shows when the client is entered."""
    error = decoded(
        only_call(VENUE.prepare(["cash"])), {"code": 200001, "reason": "AUTHENTICATION_FAILED"}
    )
    assert type(error) is AuthenticationError


@given(
    st.binary()
    | json_values.map(lambda v: json.dumps({"code": 0, "data": v}).encode())
    | json_values.map(
        lambda v: json.dumps(
            {"code": 0, "data": {"accountGroup": v, "requestReceiveAt": v}}
        ).encode()
    )
)
def test_any_bytes_are_a_group_and_a_clock_or_one_of_our_errors(body: bytes) -> None:
    """Nothing else comes out, and a group is never negative."""
    group = decoded(only_call(VENUE.prepare(["cash"])), body)
    assert isinstance(group, MassCancelError) or (type(group) is int and group >= 0)
    try:
        clock = VENUE.probe(VENUE.rest_url).decode(reply(body))
    except MassCancelError:
        return
    assert type(clock) is int


@pytest.mark.parametrize(
    "body",
    [
        b"",
        PAGE,
        {"code": 0},
        {"code": 0, "data": {}},
        {"code": 0, "data": {"requestReceiveAt": None}},
        {"code": 0, "data": {"requestReceiveAt": "1640052379063"}},
        {"code": 100001, "reason": "INVALID_HTTP_INPUT"},
    ],
)
def test_what_tells_no_time_is_refused(body: object) -> None:
    """The clock stays as it was measured before."""
    with pytest.raises((ProtocolError, VenueError)):
        VENUE.probe(VENUE.rest_url).decode(reply(body))
