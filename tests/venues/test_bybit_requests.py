"""Bybit's requests and replies: signatures, scopes, pages, refusals, odd values."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows_support import NOW, Drive, calls_of, decoded, value_of
from masscancel import (
    Ack,
    AuthenticationError,
    ConfigurationError,
    Credentials,
    InvalidRequest,
    MassCancelError,
    OpenOrder,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Call, Reply, Request, Scope, Spent, Stamp
from masscancel.errors import StampRefused
from masscancel.sim.bybit import signature as sim_signature
from masscancel.venues.bybit import Bybit

VENUE = Bybit(settle_coins=())
CREDENTIALS = Credentials("test_api_key", "test_api_secret")
CATEGORIES = ("spot", "linear", "inverse", "option")
ROW = {
    "orderId": "fd4300ae-7847-404e-b947-b46980a4d140",
    "symbol": "ETHUSDT",
    "price": "1600.00",
    "qty": "0.10",
    "side": "Buy",
    "orderStatus": "New",
    "cumExecQty": "0.00",
    "orderType": "Limit",
    "stopOrderType": "UNKNOWN",
    "triggerDirection": 0,
}


def signed(call: Call[Any]) -> Request:
    """The call as it is written."""
    return call.sign(call, CREDENTIALS, Stamp(NOW))


def asked(call: Call[Any]) -> dict[str, str]:
    """What a call asks for."""
    request = signed(call)
    query = request.target.partition("?")[2]
    return json.loads(request.body) if request.body else dict(parse_qsl(query))


def cancel(category: str = "linear", symbol: str | None = "BTCUSDT") -> Call[Any]:
    """The first call of a cancel."""
    return calls_of(VENUE.cancel_all(Scope(category, symbol), None))[0]


def listing(category: str = "spot", symbol: str | None = None) -> Call[Any]:
    """The first page of a listing."""
    return calls_of(VENUE.open_orders(Scope(category, symbol)))[0]


def said(result: Any, code: int = 0, **more: Any) -> bytes:
    """A reply of the venue."""
    envelope = {"retCode": code, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": NOW}
    return json.dumps(envelope | more).encode()


def page(*rows: dict[str, Any], cursor: str | None = "", **more: Any) -> bytes:
    """A page of a listing."""
    return said({"category": "spot", "nextPageCursor": cursor, "list": rows} | more)


# Requests.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"category":"linear","settleCoin":"USDT"}',
            "25411461546a62b165713f476b532d77d59d5ea3cd8f4370d2341b8da7065fe2",
        ),
        (
            "category=linear&settleCoin=USDT&limit=50",
            "cba338b4906af1585d991ad97904190e6513b98b0b4ddac06dad555db8cfc809",
        ),
    ],
)
def test_vectors(text: str, expected: str) -> None:
    """What pybit 5.17.0 and ccxt 4.5.90 sign: ours is the very request; the simulator agrees."""
    call = cancel(symbol=None) if text.startswith("{") else listing("linear")
    request = signed(call)
    assert request.headers["X-BAPI-SIGN"] == expected
    assert (request.body.decode() or request.target.partition("?")[2]) == text
    assert sim_signature("test_api_secret", f"{NOW}test_api_key5000{text}") == expected
    assert request.expires_at_ms == NOW + 5_001  # at the very end of its window it is still taken
    assert ("Content-Type" in request.headers) is bool(request.body)


#: ccxt 4.5.90's own, but for filters: it cancels one coin and one book.
AS_CCXT: list[tuple[str, str | None, list[dict[str, str]]]] = [
    (
        "spot",
        "BTCUSDT",
        [
            {"symbol": "BTCUSDT", "category": "spot", "orderFilter": word}
            for word in (
                *("StopOrder", "tpslOrder", "OcoOrder", "BidirectionalTpslOrder"),
                "Order",
            )
        ],
    ),
    ("linear", "BTCUSDT", [{"symbol": "BTCUSDT", "category": "linear"}]),
    (
        "linear",
        None,
        [{"category": "linear", "settleCoin": coin} for coin in ("USDT", "USDC")],
    ),
    ("inverse", "BTCUSD", [{"symbol": "BTCUSD", "category": "inverse"}]),
    ("option", None, [{"category": "option"}]),
]


@pytest.mark.parametrize(("category", "symbol", "bodies"), AS_CCXT)
def test_what_is_cancelled(category: str, symbol: str | None, bodies: list[dict[str, str]]) -> None:
    """Each book of spot, each coin of linear, all at once; everything else by one call."""
    calls = calls_of(VENUE.cancel_all(Scope(category, symbol), None))
    assert [asked(call) for call in calls] == bodies
    assert {(call.method, call.path) for call in calls} == {("POST", "/v5/order/cancel-all")}
    assert all(call.cancels and call.repeatable for call in calls)


def test_books() -> None:
    """A book that is left out is in no call; it is listed by the filter that cancels it."""
    for category in CATEGORIES:
        scope = Scope(category, "BTCUSDT", ("ordinary",))
        for flow in (VENUE.cancel_all(scope, None), VENUE.open_orders(scope)):
            (call,) = calls_of(flow)
            assert asked(call)["orderFilter"] == "Order"
    scope = Scope("linear", None, ("stop", "ordinary"))
    assert all("orderFilter" not in asked(call) for call in calls_of(VENUE.open_orders(scope)))
    for bad in (("oco",), ()):
        with pytest.raises(ScopeError, match="some of: ordinary, stop"):
            VENUE.check_scope(Scope("linear", None, bad))


@pytest.mark.parametrize(
    ("category", "good", "bad"),
    [
        ("spot", ["BTCUSDT", "1INCHUSDT", "币安人生USDT"], ["BTC-USDT", "btcusdt", "BTC/USDT"]),
        ("linear", ["BTCPERP", "BTC-26DEC25", "1000PEPEUSDT"], ["BTC-USDT-SWAP", "BTC_USDT"]),
        ("inverse", ["BTCUSD", "BTCUSDZ25"], ["BTC-USD", "PF_XBTUSD"]),
        ("option", ["BTC-26DEC25-100000-C", "XRP-1JAN26-0.5-P-USDT"], ["BTCUSDT", "BTC-C"]),
    ],
)
def test_symbols(category: str, good: list[str], bad: list[str]) -> None:
    """Another venue's spelling is refused with an example of the right one."""
    for symbol in good:
        VENUE.check_scope(Scope(category, symbol))
        assert asked(cancel(category, symbol))["symbol"] == symbol
        assert asked(listing(category, symbol))["symbol"] == symbol
    for symbol in bad:
        with pytest.raises(ScopeError, match="look like") as caught:
            VENUE.check_scope(Scope(category, symbol))
        assert VENUE.abilities[category].symbols.example in str(caught.value)


def test_settings() -> None:
    """Production by default; no window that is none, no clear text."""
    assert VENUE.origin("option") == "https://api.bybit.com"
    options: list[dict[str, Any]] = [{"rest_url": "http://api.bybit.com"}, {"recv_window_ms": 0}]
    for bad in options:
        with pytest.raises(ConfigurationError):
            Bybit(**bad)


def test_other_settle_coins_are_found_on_entry() -> None:
    """Page after page; nobody asks where they are given, or are not needed."""
    rows = [{"symbol": "BTCUSDT", "settleCoin": "USDT"}, {"symbol": "BTCEUR", "settleCoin": "EUR"}]
    for categories in ((), ("spot", "linear")):
        drive = Drive(Bybit().prepare(categories))
        for cursor in ("next", ""):
            (call,) = drive.calls
            assert call.time_limit
            reply = said({"category": "linear", "list": rows, "nextPageCursor": cursor})
            drive.round(decoded(call, reply))
        found = drive.result()
        assert found.ready()
        coins = [asked(call)["settleCoin"] for call in calls_of(found.open_orders(Scope("linear")))]
        assert coins == ["USDT", "USDC", "EUR"]
    venue = Bybit()
    assert Drive(venue.prepare(["spot"])).result() is venue
    assert VENUE.ready()


@pytest.mark.parametrize("failure", [ProtocolError("no"), None])
def test_settle_coins_that_are_not_known(failure: ProtocolError | None) -> None:
    """Looked up beside what needs none of them; without them, nothing is said to be all."""
    venue = Drive(Bybit().prepare(["linear"])).round(ProtocolError("no")).result()
    assert not venue.ready()
    rows: dict[str, Any] = {"category": "linear", "list": [], "nextPageCursor": ""}
    done = said({"list": [{"orderId": "a"}], "success": "1"})
    for flow, reply in (
        (venue.cancel_all(Scope("linear"), None), done),
        (venue.open_orders(Scope("linear")), said(rows)),
    ):
        drive = Drive(flow)
        *others, look_up = drive.calls
        assert [asked(call)["settleCoin"] for call in others] == ["USDT", "USDC"]
        drive.round(
            *[decoded(call, reply) for call in others], failure or decoded(look_up, said(rows))
        )
        assert isinstance(drive.value, ProtocolError)
    drive = Drive(venue.cancel_all(Scope("linear"), None))
    drive.round(*[decoded(call, done) for call in drive.calls[:2]], ProtocolError("no"))
    assert "not acknowledged: orders settled in other coins" in drive.value.__notes__
    rows["list"] = [{"settleCoin": coin} for coin in ("USDT", "EUR")]
    drive = Drive(venue.cancel_all(Scope("linear"), None))
    *others, look_up = drive.calls
    drive.round(*[decoded(call, done) for call in others], decoded(look_up, said(rows)))
    (call,) = drive.calls
    assert asked(call)["settleCoin"] == "EUR"
    assert drive.round(decoded(call, done)).ack().status == "1 accepted"


def test_a_cursor_is_read_as_it_was_written() -> None:
    """Its ``%`` is encoded once more, in the query that is signed and sent."""
    drive = Drive(VENUE.open_orders(Scope("spot")))
    drive.round(decoded(drive.calls[0], page(ROW, cursor="page_args%3Dfd43%26")))
    (call,) = drive.calls
    assert asked(call)["cursor"] == "page_args%3Dfd43%26"
    assert "cursor=page_args%253Dfd43%2526" in signed(call).target
    drive.round(decoded(call, page(cursor="again")))
    assert [order.order_id for order in drive.result()] == [ROW["orderId"]]


def test_a_cursor_whose_order_is_gone() -> None:
    """What follows a page may have been cut: the listing is begun again."""
    drive = Drive(VENUE.cancel_all(Scope("inverse"), None))
    full = [ROW | {"symbol": "AUSD", "orderId": str(number)} for number in range(50)]
    done = said({"list": [{"orderId": "0"}], "success": "1"})
    drive.round(decoded(drive.calls[0], page(*full, cursor="49", category="inverse")))
    cancelling, following = drive.calls
    assert (asked(cancelling)["symbol"], asked(following)["cursor"]) == ("AUSD", "49")
    empty = page(category="inverse")
    drive.round(decoded(cancelling, done), decoded(following, empty))
    (again,) = drive.calls
    assert "cursor" not in asked(again)
    drive.round(decoded(again, page(ROW | {"symbol": "BUSD"}, cursor="b", category="inverse")))
    cancelling, following = drive.calls
    assert asked(cancelling)["symbol"] == "BUSD"
    drive.round(decoded(cancelling, done), decoded(following, empty))
    assert drive.ack().status == "1 accepted"


def test_limits_are_read_from_headers() -> None:
    """By their amount, since a reply does not say of which limit it is."""
    names = {limit.name for limit in VENUE.limits(VENUE.rest_url)}
    for call in (*map(cancel, CATEGORIES), listing()):
        assert call.costs.keys() <= names
        assert call.costs["requests"] == 1

    def spent(amount: str, left: str) -> Any:
        headers = {"X-Bapi-Limit": amount, "X-Bapi-Limit-Status": left}
        return VENUE.spent(VENUE.rest_url, Reply(200, headers, b""))

    assert spent("10", "7") == {"cancels of futures": Spent(3, 1.0)}
    assert spent("50", "0") == {"listings": Spent(50, 1.0)}
    assert [spent(*each) for each in (("", ""), ("33", "1"), ("10", "11"), ("ten", "1"))] == [
        {}
    ] * 4


# Replies.


def test_accepted_is_not_cancelled() -> None:
    """An Ack says how many are accepted; which are cancelled, it does not. Spot may list none."""
    ids = {"list": [{"orderId": "a", "orderLinkId": ""}, {"orderId": 7}], "success": "1"}
    for result, status in (
        (ids, "2 accepted"),
        ({"list": [{"orderId": "a"}]}, "1 accepted"),  # without `success`: inverse, UTA 1.0
        ({"list": [], "success": "1"}, "nothing open"),
        ({"success": "1"}, "accepted"),
    ):
        for ext in (b"{}", b"null"):
            drive = Drive(VENUE.cancel_all(Scope("option"), None))
            reply = said(result).replace(b'"retExtInfo": {}', b'"retExtInfo": ' + ext)
            ack = drive.round(decoded(drive.calls[0], reply)).ack()
            assert (ack.status, ack.cancelled, ack.raw) == (status, None, reply)


def test_an_ack_without_a_list() -> None:
    """Of futures it may be about 500 of them alone, and says so; of options it is about all."""
    for category, more in (("inverse", ", 500 a call: more may be open"), ("option", "")):
        drive = Drive(VENUE.cancel_all(Scope(category, "BTCUSD"), None))
        ack = drive.round(decoded(drive.calls[0], said({"success": "1"}))).ack()
        assert ack.status == f"accepted{more}"


def test_success_with_failures_in_it() -> None:
    """What is left is named, with or without its id; what is gone already is no failure."""
    rows = [{"orderId": name} for name in "abc"]
    fates = [{"code": 0}, {"code": 110001, "msg": "gone"}, {"code": 110079, "msg": "processing"}]
    for more, left in (([], "c"), ([{"code": 170145, "msg": "no"}], "c, order 4, which has no id")):
        drive = Drive(VENUE.cancel_all(Scope("linear", "BTCUSDT"), None))
        reply = said({"list": rows, "success": "1"}, retExtInfo={"list": [*fates, *more]})
        with pytest.raises(VenueUnavailable, match="processing") as caught:
            drive.round(decoded(drive.calls[0], reply)).ack()
        assert f"not acknowledged: {left}" in caught.value.__notes__


def test_a_failure_among_500() -> None:
    """It stops nothing: the call is repeated for what it could not be about."""
    drive = Drive(VENUE.cancel_all(Scope("linear", "BTCUSDT"), None))
    rows = [{"orderId": str(number)} for number in range(500)]
    failed = {"list": [{"code": 170145, "msg": "no"}, *[{"code": 0}] * 499]}
    drive.round(decoded(drive.calls[0], said({"list": rows, "success": "1"}, retExtInfo=failed)))
    drive.round(decoded(drive.calls[0], said({"list": [{"orderId": "a"}], "success": "1"})))
    assert "not acknowledged: 0" in drive.value.__notes__


@pytest.mark.parametrize(
    "result",
    [{}, None, [], {"list": None}, {"list": [{}]}, {"list": [{"orderId": ""}]}, {"list": "a"}],
)
def test_no_answer_to_a_cancel(result: Any) -> None:
    """Success of nothing in particular is none."""
    assert isinstance(decoded(cancel(), said(result)), ProtocolError)


def test_a_cancel_that_failed() -> None:
    """``success`` 0 is asked again: it does not say how far it got."""
    for word in ("0", 0, "fail"):
        error = decoded(cancel(), said({"list": [], "success": word}))
        assert isinstance(error, VenueUnavailable)
        assert error.may_have_executed


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, AuthenticationError) for code in (10003, 10004, 10007, 33004, -2015)),
        *((code, PermissionDenied) for code in (10005, 10009, 10010, 10024, 10027, 10028)),
        *((code, StampRefused) for code in (10002, -1)),
        *((code, RateLimited) for code in (10006, 429, 30035, 170222)),
        *((code, InvalidRequest) for code in (10001, 10029, 170121, 170201)),
        *((code, VenueUnavailable) for code in (10000, 10016, 170007, 170147, 110079, 110001)),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_refusals(code: int, kind: type[VenueError], status: int) -> None:
    """The venue's code goes before the HTTP status."""
    error = decoded(cancel(), said({}, code), status)
    assert (error.code, type(error)) == (code, kind)
    assert error.may_have_executed is (kind is VenueUnavailable)


def test_refusals_that_may_mean_anything() -> None:
    """One that is not documented, or not of a cancel-all, may have been carried out in part."""
    for code in (110095, 999, "999"):
        error = decoded(cancel(), said({}, 0, retCode=code))
        assert (error.code, type(error), error.may_have_executed) == (int(code), VenueError, True)


def test_pace() -> None:
    """A limit of the key ends when the header says; a listing's holds up no cancel of the key."""

    def refused(call: Call[Any], until_ms: int) -> Any:
        headers = {"X-Bapi-Limit-Reset-Timestamp": str(until_ms)}
        with pytest.raises(RateLimited) as caught:
            value_of(call, Reply(200, headers, said({}, 10006)), Stamp(NOW))
        return caught.value

    error = refused(cancel(), NOW + 700)
    assert (error.retry_after, error.of_key) == (pytest.approx(0.7), True)
    assert refused(listing(), NOW + 700).retry_after is None
    assert refused(cancel(), 9 * NOW).retry_after is None
    banned = decoded(cancel(), b"403, access too frequent", 403)
    assert (type(banned), banned.retry_after, banned.of_key) == (RateLimited, 600, False)
    assert isinstance(decoded(cancel(), b"<html>US</html>", 403), VenueUnavailable)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"price": "", "qty": "", "cumExecQty": ""}, (0, "ordinary")),
        ({"orderStatus": "Untriggered", "stopOrderType": "Stop"}, (1600, "stop")),
        ({"stopOrderType": "OcoOrder", "orderStatus": "New"}, (1600, "oco")),
        ({"stopOrderType": "tpslOrder"}, (1600, "tpsl")),
        ({"stopOrderType": None, "price": 1600, "orderType": None}, (1600, "ordinary")),
    ],
)
def test_odd_rows_that_are_read(change: dict[str, Any], expected: tuple[int, str]) -> None:
    """Empty numbers, numbers that are none of text; the kind of an order tells its book."""
    (order,) = decoded(listing(), page(ROW | change)).rows
    assert (order.price, order.book) == expected


@pytest.mark.parametrize(
    "reply",
    [
        page(ROW | {"side": "None"}),
        page(ROW | {"orderId": ""}),
        page(ROW | {"qty": "NaN"}),
        page(ROW, *[{"symbol": "BTCUSDT"}]),
        page(*[ROW | {"orderId": str(number)} for number in range(50)], cursor=None),
        page(ROW, category="linear"),
        said({"list": None}),
        said({}),
    ],
)
def test_what_is_no_listing(reply: bytes) -> None:
    """A row that can't be read, a page that may be cut, another category: no proof."""
    assert isinstance(decoded(listing(), reply), ProtocolError)
    assert isinstance(decoded(listing(symbol="BTCUSDT"), page(ROW)), ProtocolError)
    assert isinstance(decoded(listing(), page(), Age="7"), ProtocolError)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Filled", "filled"),
        *((word, "cancelled") for word in ("Cancelled", "PartiallyFilledCanceled", "Deactivated")),
        ("Rejected", "rejected"),
        *((word, "open") for word in ("New", "Triggered", "Untriggered", "Else")),
    ],
)
def test_states(status: str, expected: str) -> None:
    """By id; what the one has forgotten, the other may know; an unknown status is open."""
    (order,) = decoded(listing(), page(ROW)).rows
    drive = Drive(VENUE.order_states("spot", [order]))
    drive.round(decoded(drive.calls[0], page()))
    assert (drive.calls[0].path, asked(drive.calls[0])["orderId"]) == (
        "/v5/order/history",
        order.order_id,
    )
    assert isinstance(decoded(drive.calls[0], page(ROW | {"orderId": "b"})), ProtocolError)
    drive.round(decoded(drive.calls[0], page(ROW | {"orderStatus": status})))
    assert drive.result() == {order.order_id: expected}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"readOnly": 1}, "no"),
        ({"readOnly": 0, "permissions": {"Spot": ["SpotTrade"]}}, "no"),
        ({"readOnly": 0, "permissions": {"ContractTrade": ["Order"]}}, "unknown"),  # USDT alone
        ({"readOnly": 0, "permissions": {"Derivatives": ["DerivativesTrade"]}}, "unknown"),
        (
            {
                "readOnly": 0,
                "permissions": {"ContractTrade": ["Order"], "Options": ["OptionsTrade"]},
            },
            "yes",
        ),
        ({}, "unknown"),
    ],
)
def test_permissions(key: dict[str, Any], expected: str) -> None:
    """Of linear both its rights are needed: USDC contracts go by that of options."""
    drive = Drive(VENUE.key_info(("linear",)))
    info = drive.round(decoded(drive.calls[0], said(key))).result()
    assert info.cancels == {"linear": expected}


#: A good reply to each kind of call.
GOOD: list[tuple[Call[Any], bytes]] = [
    (cancel(), said({"list": [{"orderId": "a", "orderLinkId": "b"}], "success": "1"})),
    (listing(), page(ROW)),
    (calls_of(VENUE.cancel_all(Scope("inverse"), None))[0], page(ROW, category="inverse")),
    (calls_of(VENUE.key_info(("spot",)))[0], said({"readOnly": 0, "permissions": {}})),
]
STATUSES = st.sampled_from([200, 200, 201, 302, 400, 401, 403, 404, 429, 500, 503])


@given(st.data(), STATUSES)
def test_whatever_arrives(data: st.DataObject, status: int) -> None:
    """Any bytes, or a good reply that was damaged: a value, or one of our errors."""
    call, good = data.draw(st.sampled_from(GOOD))
    start = data.draw(st.integers(0, len(good)))
    stop = data.draw(st.integers(start, min(len(good), start + 20)))
    damaged = good[:start] + data.draw(st.binary(max_size=8)) + good[stop:]
    body = data.draw(st.sampled_from([damaged, good]) | st.binary())
    value = decoded(call, body, status)
    assert status == 200 or isinstance(value, MassCancelError)
    assert not isinstance(value, Ack | OpenOrder)


def test_the_clock() -> None:
    """Nanoseconds, as text."""
    probe = VENUE.probe(VENUE.rest_url)
    reply = said({"timeSecond": "1688639403", "timeNano": "1688639403423213947"})
    assert probe.decode(Reply(200, {}, reply)) == 1688639403423
    with pytest.raises(ProtocolError):
        probe.decode(Reply(200, {}, said({})))
