"""Gate's replies: the documents' samples, odd values, every refusal, and whatever arrives."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows_support import Drive, calls_of, decoded
from gate_support import (
    BTC,
    CLASSIC,
    ETH,
    NOW,
    UNKNOWN,
    answer_all,
    cancels,
    listings,
    sample,
)
from masscancel import (
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Call, Reply, Scope, Stamp
from masscancel.errors import StampRefused
from masscancel.venues.gate import Gate

ORDINARY, STOP = ("ordinary",), ("stop",)


def answer(call: Call[Any], reply: Any, status: int = 200, **headers: str) -> Any:
    """What a call makes of a reply."""
    return decoded(call, reply, status, **headers)


def row(order_id: int, **more: Any) -> dict[str, Any]:
    """A row of the answer to a cancel of spot."""
    return {"id": str(order_id), "currency_pair": BTC, "succeeded": True} | more


def test_the_answer_of_spot() -> None:
    """Told are those that it says are cancelled; one that was filled is gone; others failed."""
    (call,) = cancels("spot", BTC, books=ORDINARY)
    rows = [
        row(1, label="", message="", status="cancelled", finish_as="cancelled"),
        row(2),
        *sample("spot_delete_orders"),
        row(3, succeeded=False, label="ORDER_NOT_FOUND", message="Order not found"),
        row(4, succeeded=False, label="CANCEL_FAIL", message="Order cancel failed"),
        row(5, succeeded=False, label="INTERNAL"),
    ]
    found = answer(call, rows)
    assert found.cancelled == ("1", "2")
    assert {name: type(error) for name, error in found.failed.items()} == {
        "4": VenueError,
        "5": VenueUnavailable,
    }
    drive = Drive(CLASSIC.cancel_all(Scope("spot", BTC, ORDINARY), None)).round(found)
    with pytest.raises(VenueError, match="Order cancel failed") as caught:
        drive.result()
    assert "not acknowledged: 4, 5" in caught.value.__notes__


@pytest.mark.parametrize(
    ("rows", "cancelled", "failed", "status"),
    [
        ([{"id": 7, "status": "finished", "finish_as": "cancelled"}], ("7",), [], "cancelled"),
        ([{"id": 7, "status": "finished", "finish_as": "filled"}], (), [], "nothing open"),
        ([{"id": 7, "status": "open"}], (), ["7"], "nothing open"),
        ([{"id": 7}], None, [], "accepted"),
        ([{"id": 7, "status": "some day", "contract": BTC}], (), ["7"], "nothing open"),
        ([], (), [], "nothing open"),
    ],
)
def test_the_answer_of_futures(rows: Any, cancelled: Any, failed: list[str], status: str) -> None:
    """An order that it shows as open was not cancelled; one without a state is not told."""
    (call,) = cancels("usdt", BTC, books=ORDINARY)
    found = answer(call, rows)
    assert (found.cancelled, [*found.failed], found.status) == (cancelled, failed, status)


def test_an_ack_says_no_more_than_its_answers() -> None:
    """Cancelled, if each says so; rows that name no order are no answer."""
    done: Any = [{"id": 7, "status": "finished", "finish_as": "cancelled"}]
    drive = Drive(CLASSIC.cancel_all(Scope("usdt", BTC, ("stop", "ordinary")), None))
    stop, ordinary = drive.calls
    drive.round(answer(stop, done), answer(ordinary, [{"id": 8}]))
    assert (drive.ack().status, drive.ack().cancelled) == ("accepted", None)
    for call in cancels("usdt", BTC):
        nameless: list[Any] = [[{}], [{"id": None, "status": "finished"}]]
        for rows in nameless:
            found = answer(call, {"orders": rows} if call.method == "POST" else rows)
            assert isinstance(found, ProtocolError)


@pytest.mark.parametrize("status", ["unknown", "invalid", "failed", "expired", ""])
def test_what_is_listed_as_open_is_open(status: str) -> None:
    """Whatever its status may mean, but for the words of an order that has ended."""
    row = {"id": 1, "contract": BTC, "size": "1"}
    drive = listings("usdt", books=ORDINARY)
    answer_all(drive, [row | {"status": each} for each in ("finished", "cancelled", status)])
    (order,) = drive.result()
    assert order.status == (status or "open")


def test_the_samples_of_the_answers() -> None:
    """Of price-triggered orders, by ids of their own; of trailing ones, which may stand as open."""
    orders = answer(cancels("usdt", books=ORDINARY)[0], sample("futures_delete_orders"))
    assert orders.cancelled == ("15675394",)
    triggers = answer(cancels("usdt", books=STOP)[0], sample("futures_price_orders"))
    assert triggers.cancelled == ("stop:1283293",)
    unsaid = answer(cancels("spot", books=STOP)[0], sample("spot_price_orders"))
    assert (unsaid.cancelled, unsaid.failed) == (None, {})
    trail = cancels("usdt", books=("trail",))[0]
    found = answer(trail, sample("futures_trail_stop_all"))
    assert (found.cancelled, found.failed) == (None, {})
    wrapped = {"code": 0, "message": "ok", "data": sample("futures_trail_stop_all")}
    assert answer(trail, wrapped).cancelled is None
    assert isinstance(answer(trail, {"code": 1, "message": "no"}), VenueError)
    assert answer(trail, {"orders": None}).status == "nothing open"
    for nothing in (b"{}", b'{"code":0,"data":{}}', b"[]"):
        assert isinstance(answer(trail, nothing), ProtocolError)


@pytest.mark.parametrize("call", [*cancels("spot", BTC), *cancels("usdt", BTC)])
def test_an_answer_about_another_symbol_is_none(call: Call[Any]) -> None:
    """Whatever the name of a symbol is in a book, or where it stands."""
    for named in ({"currency_pair": ETH}, {"contract": ETH}, {"initial": {"contract": ETH}}):
        rows: Any = [{"id": 1, "status": "finished", "finish_as": "cancelled"} | named]
        found = answer(call, {"orders": rows} if call.method == "POST" else rows)
        assert isinstance(found, ProtocolError)


def test_listings() -> None:
    """The documents' samples, of every book."""
    drive = listings("spot")
    bodies = {"open_orders": "spot_open_orders", "price_orders": "spot_price_orders"}
    drive.round(
        *[
            answer(call, sample(bodies[name]) if (name := last(call)) in bodies else [])
            for call in drive.calls
        ]
    )
    stop, ordinary = drive.result()  # what two listings show is one order
    assert (stop.order_id, stop.symbol, stop.book) == ("stop:1283293", "GT_USDT", "stop")
    assert (stop.side, stop.price, stop.quantity) == ("buy", Decimal("2.15"), Decimal(2))
    assert (ordinary.order_id, ordinary.symbol) == ("12332324", "ETH_BTC")
    assert (ordinary.quantity, ordinary.filled_quantity) == (1, Decimal("0.5"))
    drive = listings("usdt", books=("trail",))
    answer_all(drive, sample("futures_trail_stop_all"))
    (trail,) = drive.result()  # the other one is finished
    assert (trail.order_id, trail.side, trail.quantity) == ("trail:123456789", "buy", 10)


def last(call: Call[Any]) -> str:
    """The last word of a path."""
    return call.path.partition("?")[0].rpartition("/")[2]


@pytest.mark.parametrize(
    ("size", "left", "side", "quantity", "filled"),
    [
        ("-3", "-1", "sell", "3", "2"),
        (-3, -3, "sell", "3", "0"),
        ("0.5", None, "buy", "0.5", "0"),
        ("0", "0", "unknown", "0", "0"),
    ],
)
def test_sizes_are_signed(size: Any, left: Any, side: str, quantity: str, filled: str) -> None:
    """A negative one sells; 0 closes the position."""
    drive = listings("usdt", books=ORDINARY)
    listed = {"id": 1, "contract": BTC, "size": size, "left": left, "price": "0"}
    answer_all(drive, [listed])
    (order,) = drive.result()
    assert (order.side, order.quantity) == (side, Decimal(quantity))
    assert (order.filled_quantity, order.order_type) == (Decimal(filled), "market")


def test_a_trigger_that_closes_the_position() -> None:
    """It has no size, and a side all the same; of two sizes, the one with decimals counts."""
    drive = listings("usdt", books=STOP)
    rows = [
        {"id": 1, "initial": {"contract": BTC, "size": 0}, "order_type": "close-long-position"},
        {"id": 2, "initial": {"contract": BTC, "size": 1, "amount": "-1.5"}, "status": "inactive"},
    ]
    answer_all(drive, rows)
    closing, sized = drive.result()
    assert (closing.side, closing.quantity) == ("sell", 0)
    assert (sized.side, sized.quantity, sized.status) == ("sell", Decimal("1.5"), "inactive")


ODD_ROWS = [
    {"id": 1, "contract": BTC, "size": "NaN"},
    {"id": 1, "contract": BTC, "size": {}},
    {"id": None, "contract": BTC, "size": "1"},
    {"contract": BTC, "size": "1"},
    {"id": 1, "size": "1"},
    {"id": 1, "contract": ETH, "size": "1"},
    "x",
]


@pytest.mark.parametrize("odd", ODD_ROWS, ids=str)
def test_an_odd_row_is_no_proof(odd: Any) -> None:
    """A listing of a symbol with a row that can't be read, or of another symbol, is an error."""
    drive = listings("usdt", BTC, books=ORDINARY)
    answer_all(drive, [{"id": 2, "contract": BTC, "size": "1"}, odd])
    with pytest.raises(ProtocolError):
        drive.result()


@pytest.mark.parametrize(
    ("label", "status", "kind"),
    [
        ("INVALID_KEY", 401, AuthenticationError),
        ("INVALID_SIGNATURE", 400, AuthenticationError),
        ("READ_ONLY", 200, PermissionDenied),
        ("IP_FORBIDDEN", 403, PermissionDenied),
        ("REQUEST_EXPIRED", 403, StampRefused),
        ("ORDER_EXPIRED", 400, StampRefused),
        ("TOO_MANY_REQUESTS", 400, RateLimited),
        ("CONTRACT_NOT_FOUND", 404, InvalidRequest),
        ("INVALID_PARAM_VALUE", 500, InvalidRequest),
        ("TOO_BUSY", 400, VenueUnavailable),
        ("SERVER_TIMEOUT", 200, VenueUnavailable),
        ("NEVER_HEARD_OF", 500, VenueUnavailable),
        ("NEVER_HEARD_OF", 403, PermissionDenied),
        ("NEVER_HEARD_OF", 400, VenueError),
    ],
)
def test_refusals(label: str, status: int, kind: type[VenueError]) -> None:
    """The label goes before the HTTP status; what is not documented is never a success."""
    for call in (*cancels("usdt"), *cancels("spot"), *listings("options").calls):
        for text in ("message", "detail"):
            error = answer(call, {"label": label, text: "why"}, status)
            assert (type(error), error.code, error.message) == (kind, label, "why")


@pytest.mark.parametrize(
    ("venue", "label", "advised"),
    [
        (UNKNOWN, "INVALID_PARAM_VALUE", True),
        (UNKNOWN, "FORBIDDEN", True),
        (UNKNOWN, "INVALID_KEY", False),
        (CLASSIC, "INVALID_PARAM_VALUE", False),
    ],
)
def test_what_helps_where_the_kind_of_account_is_not_known(
    venue: Gate, label: str, advised: bool
) -> None:
    """A refusal that may be of the kind says so, of a cancel and of a listing."""
    scope = Scope("spot", books=STOP)
    for flow in (venue.cancel_all(scope, None), venue.open_orders(scope)):
        drive = Drive(flow)
        answer_all(drive, {"label": label})
        with pytest.raises(VenueError) as caught:
            drive.result()
        assert ("set unified" in str(caught.value)) is advised


@pytest.mark.parametrize(
    ("reply", "status", "unified"),
    [
        ({"mode": "classic"}, 200, False),
        ({"mode": "portfolio", "settings": {}}, 200, True),
        ({"mode": "something new"}, 200, None),
        ({"label": "USER_NOT_FOUND"}, 400, False),
        ({"label": "INVALID_PARAM_VALUE"}, 400, False),
        ({"label": "NEVER_HEARD_OF"}, 400, False),
        ({"label": "FORBIDDEN"}, 403, None),
        ({"label": "READ_ONLY"}, 403, None),
        ({"label": "NOT_FOUND"}, 404, None),
        ({"label": "TOO_BUSY"}, 500, None),
        (b"<html>404</html>", 404, None),
    ],
)
def test_the_kind_of_account(reply: Any, status: int, unified: bool | None) -> None:
    """Classic is what says so, or has no mode to ask for; not what the key may not ask for."""
    drive = Drive(UNKNOWN.prepare(()))
    drive.round(answer(drive.calls[0], reply, status))
    assert (drive.result().unified, drive.result().ready()) == (unified, unified is not None)


def test_nothing_to_cancel_is_no_failure() -> None:
    """Neither orders that are gone nor a futures account that was never opened."""
    for call in cancels("usdt"):
        for label in ("ORDER_NOT_FOUND", "USER_NOT_FOUND"):
            assert answer(call, {"label": label}, 400).status == "nothing open"
        assert isinstance(answer(call, {"label": "ORDER_NOT_FOUND"}, 500), VenueError)
    drive = listings("btc")
    drive.round(*[answer(each, {"label": "USER_NOT_FOUND"}, 400) for each in drive.calls])
    assert drive.result() == []
    (options,) = cancels("options")
    assert isinstance(answer(options, {"label": "USER_NOT_FOUND"}, 400), PermissionDenied)
    assert answer(options, {"label": "CANCEL_FAIL"}, 400).may_have_executed


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X_Gate_RateLimit_Reset_Timestamp": str(NOW // 1000 + 3)}, 2.877),
        ({"X_Gate_RateLimit_Reset_Timestamp": str(NOW + 3000)}, 3.0),
        ({"X_Gate_RateLimit_Reset_Timestamp": str(NOW + 3_000_000)}, 10.0),
        ({"X_Gate_RateLimit_Reset_Timestamp": "soon"}, None),
        ({"X_Gate_RateLimit_Reset_Timestamp": str(NOW + 3000), "Retry_After": "7"}, 7.0),
    ],
)
def test_a_limit_binds_the_key_until_it_resets(headers: dict[str, str], expected: Any) -> None:
    """In seconds or ms; a limit that only something before the venue tells binds everybody."""
    (call,) = cancels("options")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = b'{"label":"TOO_MANY_REQUESTS"}'
    with pytest.raises(RateLimited) as caught:
        call.decode(Reply(429, named, body), Stamp(NOW))
    assert caught.value.retry_after == pytest.approx(expected)
    assert caught.value.of_key
    foreign = answer(call, b"<html>slow down</html>", 429)
    assert (type(foreign), foreign.of_key) == (RateLimited, False)


# Whatever arrives.

CALLS = [
    *((call, sample("spot_delete_orders")) for call in cancels("spot")),
    *((call, sample("futures_trail_stop_all")) for call in cancels("usdt")),
    *((call, sample("spot_open_orders")) for call in listings("spot").calls),
    *((call, sample("spot_countdown")) for call in calls_of(CLASSIC.switch(Scope("btc"), 5000))),
]
STATUSES = st.sampled_from([200, 200, 201, 202, 204, 302, 400, 401, 403, 404, 429, 500, 503])


@given(st.sampled_from(CALLS), st.binary(max_size=8), st.floats(0, 1), STATUSES)
def test_any_reply(
    call_and_sample: tuple[Call[Any], Any], noise: bytes, where: float, status: int
) -> None:
    """A value or one of our errors; beside another status than 200 never a success."""
    call, good = call_and_sample
    text = json.dumps(good).encode()
    at = int(where * len(text))
    value = decoded(call, text[:at] + noise + text[at + len(noise) :], status)
    if status != 200:
        assert isinstance(value, MassCancelError)
