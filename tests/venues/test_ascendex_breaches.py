"""What failed once on AscendEX, or on its like: by hand, through the venue's public methods."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from ascendex_support import (
    NOW,
    SYMBOLS,
    VENUE,
    acknowledgement,
    cancel,
    decoded,
    list_orders,
    only_call,
    orders,
    reply,
    sample,
)
from masscancel import (
    Ack,
    AscendEX,
    ConfigurationError,
    ProtocolError,
    RateLimited,
    ScopeError,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Answered, Scope, Stamp, Updated

CACHED = [{"Age": "30"}, {"X_Cache": "HIT"}, {"CF_Cache_Status": "STALE"}]


def listing(*changes: dict[str, Any]) -> dict[str, Any]:
    """A listing of the documents' own row with these changes."""
    row = sample("open_orders_cash")["data"][0]
    return {"code": 0, "ac": "CASH", "data": [row | change for change in changes]}


def take(call: Any, body: Any, **headers: str) -> Any:
    """What a call makes of a reply with headers; slices are taken, an error is raised."""
    value = call.decode(reply(body, 200, **headers), Stamp(NOW, 1_000))
    while hasattr(value, "send"):
        try:
            next(value)
        except StopIteration as stop:
            return stop.value
    return value


# Row 40: a cache in front of the venue.


@pytest.mark.parametrize("headers", CACHED, ids=str)
@pytest.mark.parametrize("category", SYMBOLS)
def test_a_listing_out_of_a_cache_proves_nothing(category: str, headers: dict[str, str]) -> None:
    """Nor does what became of an order; an empty list least of all."""
    status = only_call(VENUE.order_states(category, orders("a1")))
    for call in (list_orders(category), list_orders(category, SYMBOLS[category]), status):
        with pytest.raises(ProtocolError, match="cache"):
            take(call, {"code": 0, "data": []}, **headers)
    assert take(list_orders(category), {"code": 0, "data": []}, X_Cache="MISS") == []


@pytest.mark.parametrize("headers", CACHED, ids=str)
def test_a_refusal_with_the_headers_of_a_cache_is_a_refusal(headers: dict[str, str]) -> None:
    """Its status says what to do."""
    with pytest.raises(RateLimited):
        list_orders().decode(reply(b"<html>", 429, **headers), Stamp(NOW))


# Row 16: what is not the venue's own says nothing of the key.


@pytest.mark.parametrize("status", [400, 401, 403, 404])
@pytest.mark.parametrize("body", [b"", b"<html>Forbidden</html>", b'{"message": "Forbidden"}'])
def test_a_cdn_says_nothing_of_the_key(status: int, body: bytes) -> None:
    """It is asked again; the venue's own refusal is not."""
    assert type(decoded(cancel(), body, status=status)) is VenueUnavailable
    own = decoded(cancel(), {"code": 200001, "reason": "AUTHENTICATION_FAILED"}, status=status)
    assert not isinstance(own, VenueUnavailable)


# Truth.


@pytest.mark.parametrize("status", [201, 202, 400, 403, 429, 503])
def test_an_ack_under_another_status_may_have_been_carried_out(status: int) -> None:
    """It contradicts itself: no Ack, and no promise that nothing happened."""
    error = decoded(cancel(), acknowledgement(), status=status)
    assert isinstance(error, ProtocolError if status < 400 else VenueError)
    assert error.may_have_executed


@pytest.mark.parametrize(
    ("said", "may_have_executed"),
    [
        ({"code": 424242}, True),
        ({"code": 424242, "status": "Err"}, False),
        ({"code": 0, "status": "Err"}, False),
        ({"code": 300020, "status": "Err"}, False),
        ({"code": 510001, "status": "Err"}, True),
        ({"code": 300020, "status": "Ack"}, True),
    ],
    ids=str,
)
def test_what_a_refusal_says_of_what_was_done(
    said: dict[str, Any], *, may_have_executed: bool
) -> None:
    """`Err` says that nothing was; an unknown code may mean anything; `Ack` beside a code, too."""
    assert decoded(cancel(), said).may_have_executed is may_have_executed
    (event,) = VENUE.stream("cash").parse(
        json.dumps(
            {"m": "order", "action": "cancel-all", "ac": "CASH", "info": {"id": "x"}} | said
        ).encode()
    )
    assert isinstance(event, Answered)
    assert isinstance(event.result, VenueError)
    assert event.result.may_have_executed is may_have_executed


def test_an_ack_does_not_tell_what_is_cancelled() -> None:
    """Only that the request was received."""
    ack = decoded(cancel(), acknowledgement())
    assert isinstance(ack, Ack)
    assert ack.cancelled is None


# Books.


@pytest.mark.parametrize(
    ("order_type", "book"),
    [("Limit", "ordinary"), ("Market", "ordinary"), ("", "ordinary"), ("StopLimit", "stop"),
     ("StopMarket", "stop"), ("stop_market", "stop")],
)  # fmt: skip
def test_a_rows_book_is_told_by_its_type(order_type: str, book: str) -> None:
    """In a listing and in an update."""
    (order,) = decoded(list_orders(), listing({"orderType": order_type}))
    row = {"s": "BTC/USDT", "orderId": "a", "st": "New", "sd": "Buy", "ot": order_type}
    message = json.dumps({"m": "order", "ac": "CASH", "data": row}).encode()
    (event,) = VENUE.stream("cash").parse(message)
    assert isinstance(event, Updated)
    assert order.book == event.update.book == book


@pytest.mark.parametrize("category", SYMBOLS)
def test_one_call_cancels_both_books(category: str) -> None:
    """So neither can be left out, and that is refused by name."""
    VENUE.check_scope(Scope(category, None, ("ordinary", "stop")))
    with pytest.raises(ScopeError, match="can't leave out the book stop"):
        VENUE.check_scope(Scope(category, None, ("ordinary",)))


# Rows 7 and 10: odd rows, large listings.


@pytest.mark.parametrize(
    "odd",
    [{"side": "Hold"}, {"price": "NaN"}, {"price": 7105}, {"orderQty": None}, {"orderId": None},
     {"status": None}, {"price": "1e99"}, {"symbol": "\ud800"}],
    ids=str,
)  # fmt: skip
def test_an_odd_row_is_named_and_proves_nothing(odd: dict[str, Any]) -> None:
    """Not an empty listing, not a shorter one."""
    error = decoded(list_orders(), listing({}, odd))
    assert type(error) is ProtocolError
    assert "can't be understood" in str(error)


def test_a_cancel_looks_at_no_row() -> None:
    """One call for any scope: no listing goes before it."""
    for scope in (Scope("cash"), Scope("futures", "BTC-PERP")):
        call = only_call(VENUE.cancel_all(scope, None))
        assert (call.method, call.cancels) == ("DELETE", True)


@pytest.mark.unmeasured
def test_20_000_orders_are_read_in_slices() -> None:
    """Each of them a small part of the work, and together the same as at once."""
    row = sample("open_orders_cash")["data"][0]
    body = listing(*({"orderId": f"{number}", "pad": "p" * 150} for number in range(20_000)))
    slices = list_orders().decode(reply(body), Stamp(NOW))
    spent: list[float] = []
    found: list[Any] = []
    while not found:
        began = time.thread_time()
        try:
            next(slices)
        except StopIteration as stop:
            found = stop.value
        spent.append(time.thread_time() - began)
    assert [order.order_id for order in found] == [f"{number}" for number in range(20_000)]
    assert {order.symbol for order in found} == {row["symbol"]}
    assert len(spent) > 50
    assert sorted(spent)[-2] < sum(spent) / 10  # all but one, whatever the machine is busy with


# The account group.


def test_the_group_is_found_out_on_entry() -> None:
    """Without it no cancel can be written: `prepare` asks, whatever the categories."""
    venue = AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test")
    assert not venue.ready()
    flow = venue.prepare(["cash", "futures"])
    call = only_call(flow)
    assert (call.path, call.cancels) == ("/api/pro/v1/info", False)
    with pytest.raises(StopIteration) as stop:
        flow.send([decoded(call, {"code": 0, "data": {"accountGroup": "6"}})])
    assert stop.value.value == VENUE


@pytest.mark.parametrize("group", [True, -1, 10**9, 6.0, "6"])
def test_a_group_is_a_whole_number(group: Any) -> None:
    """It stands in the path of every request."""
    with pytest.raises(ConfigurationError, match="account_group"):
        AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test", account_group=group)


# The stream.


def test_the_message_on_the_stream_has_the_same_scope() -> None:
    """What answers it is recognised by it."""
    scope = Scope("margin", "BTC/USDT")
    message = only_call(VENUE.cancel_all(scope, "an-id")).on_stream
    assert message is not None
    assert (message.scope, message.request_id, message.lifetime_ms) == (scope, "an-id", 30_000)
    assert json.loads(message.encode(Stamp(5))) == {
        "op": "req",
        "id": "an-id",
        "action": "cancel-All",
        "account": "margin",
        "args": {"id": "an-id", "time": 5, "symbol": "BTC/USDT"},
    }


def test_a_side_that_is_none_is_not_sold() -> None:
    """An update that can't be understood is a gap, not a guess."""
    row = {"s": "BTC/USDT", "orderId": "a", "st": "New", "sd": "Hold"}
    with pytest.raises(ProtocolError):
        VENUE.stream("cash").parse(json.dumps({"m": "order", "ac": "CASH", "data": row}).encode())
