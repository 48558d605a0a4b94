"""Bitget's requests and what its replies mean: no socket, no exchange."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitget_support import (
    BTC,
    CLASSIC,
    FUTURES,
    NOW,
    STAMP,
    UNIFIED,
    described,
    good,
    lists,
    play,
    signed,
    spot,
)
from flows_support import calls_of, decoded
from masscancel import (
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Call, Reply, Scope
from masscancel.errors import StampRefused
from masscancel.sim.bitget import signature as sim_signature
from masscancel.venues.bitget import Bitget
from masscancel.venues.bitget.wire import Wire, signature

#: Computed with the official SDK's ``sign`` and ``pre_hash``; ccxt 4.5.90 has the same.
VECTORS = {
    'POST/api/v2/mix/order/cancel-all-orders{"productType":"USDT-FUTURES"}': (
        "NZYQ1k4mb61k1xJ6LvDWBhf8Zn7z78A6T5jK63e4uDo="
    ),
    'POST/api/v3/trade/cancel-symbol-order{"category":"SPOT"}': (
        "D5bT3UoKbIvsJiEJ6pMyap/eaBoTYXF6r76oK2xKlHo="
    ),
    "GET/api/v2/mix/order/orders-pending?limit=100&productType=USDT-FUTURES": (
        "zl3D5mClie07LQl+TXIEjC4L8eKlnMFbMtyHM0MIc9Q="
    ),
}


@pytest.mark.parametrize("text", VECTORS)
def test_signature_vectors(text: str) -> None:
    """Client and simulator sign time, method, path, query and body as the SDK does."""
    assert signature("test_api_secret", f"{NOW}{text}") == VECTORS[text]
    assert sim_signature("test_api_secret", f"{NOW}{text}") == VECTORS[text]


def test_the_requests_themselves_are_signed_so() -> None:
    """Body and sorted query as they are sent; passphrase and time stand beside."""
    keys = Credentials("key", "test_api_secret", passphrase="phrase")
    query = {"productType": "USDT-FUTURES", "limit": "100"}
    calls = [
        calls_of(CLASSIC.cancel_all(Scope(FUTURES, books=("ordinary",)), None))[0],
        calls_of(UNIFIED.cancel_all(Scope("spot"), None))[0],
        Wire("https://api.bitget.com").get("/api/v2/mix/order/orders-pending", query, lambda *_: 0),
    ]
    requests = [call.sign(call, keys, STAMP) for call in calls]
    assert [each.headers["ACCESS-SIGN"] for each in requests] == [*VECTORS.values()]
    assert requests[0].headers == {
        "ACCESS-KEY": "key",
        "ACCESS-SIGN": VECTORS[next(iter(VECTORS))],
        "ACCESS-TIMESTAMP": str(NOW),
        "ACCESS-PASSPHRASE": "phrase",
        "Content-Type": "application/json",
        "locale": "en-US",
    }
    assert {each.expires_at_ms for each in requests} == {NOW + 30_000}
    assert "phrase" not in repr(requests) + repr(calls)


def test_a_symbol_is_encoded_in_the_query_and_signed_as_it_is() -> None:
    """``$ALTUSDT``: percent-encoded on the wire, not in what is signed."""
    call = calls_of(CLASSIC.open_orders(Scope("spot", "$ALTUSDT", ("ordinary",))))[0]
    request = signed(call)
    query = "limit=100&symbol=$ALTUSDT&tpslType=normal"
    assert request.target == f"{call.path}?{query.replace('$', '%24')}"
    assert request.headers["ACCESS-SIGN"] == signature("secret", f"{NOW}GET{call.path}?{query}")


def test_a_missing_passphrase_is_told_before_anything_is_sent() -> None:
    """A key of three parts of which two are given."""
    with pytest.raises(ConfigurationError, match="passphrase"):
        Client(Credentials("key", "secret"), venue=CLASSIC)


@pytest.mark.parametrize("options", [{"rest_url": "http://api.bitget.com"}, {"unified": "yes"}])
def test_unusable_settings_are_refused(options: dict[str, Any]) -> None:
    """Clear text; a kind of account that is none."""
    with pytest.raises(ConfigurationError):
        Bitget(**options)


@pytest.mark.parametrize(
    ("symbol", "right"),
    [
        ("BTC/USDT", BTC),
        ("BTC-USDT", BTC),
        ("btcusdt", BTC),
        ("BTC_USDT", BTC),
        ("BTCUSDT_UMCBL", BTC),
        ("BTCUSDT_SPBL", BTC),
        ("BTCUSD_SDMCBL", "BTCUSD"),
        ("BTC/USDT:USDT", BTC),
    ],
)
def test_another_venues_spelling_gets_the_right_one(symbol: str, right: str) -> None:
    """Nothing is sent; the error has the spelling of this venue."""
    for venue in (CLASSIC, UNIFIED):
        with pytest.raises(ScopeError, match=f"write '{right}'"):
            venue.check_scope(Scope("spot", symbol))
        venue.check_scope(Scope("spot", right))


@pytest.mark.parametrize("symbol", ["BTCUSDT\n", "", "B", "BTC USDT", "A" * 60, 5, "\ud800USDT"])
def test_bad_symbols_are_refused(symbol: Any) -> None:
    """What can't be a symbol gets near no request."""
    with pytest.raises(ScopeError):
        CLASSIC.check_scope(Scope("spot", symbol))


def plan(kind: str, **more: str) -> str:
    """A cancel of a type of plan."""
    body = {"productType": "USDT-FUTURES", **more, "planType": kind}
    return f"POST v2/mix/order/cancel-plan-order {json.dumps(body, separators=(',', ':'))}"


PLANS = ("normal_plan", "loss_plan", "pos_loss", "profit_plan", "pos_profit", "moving_plan")
UNFILLED = "GET v2/spot/trade/unfilled-orders?limit=100"
TRACKS = "GET v2/mix/order/orders-plan-pending?limit=100&planType=track_plan&productType="
STRATEGIES = "GET v3/trade/unfilled-strategy-orders?category="
SINCE = NOW - 89 * 86_400_000
ASKED = {
    ("classic", "spot", None, None): [
        "POST v2/spot/trade/batch-cancel-plan-order {}",
        f"{UNFILLED}&tpslType=normal",
        f"{UNFILLED}&tpslType=tpsl",
    ],
    ("classic", "spot", BTC, None): [
        'POST v2/spot/trade/cancel-symbol-order {"symbol":"BTCUSDT"}',
        'POST v2/spot/trade/batch-cancel-plan-order {"symbolList":["BTCUSDT"]}',
        f"{UNFILLED}&symbol=BTCUSDT&tpslType=tpsl",
    ],
    # The cancel of a symbol might reach TP/SL orders, which are to stay.
    ("classic", "spot", BTC, "ordinary"): [f"{UNFILLED}&symbol=BTCUSDT&tpslType=normal"],
    ("classic", "spot", None, "stop"): [
        "POST v2/spot/trade/batch-cancel-plan-order {}",
        f"{UNFILLED}&tpslType=tpsl",
    ],
    ("classic", FUTURES, None, None): [
        'POST v2/mix/order/cancel-all-orders {"productType":"USDT-FUTURES"}',
        *(plan(each) for each in PLANS),
        f"{TRACKS}USDT-FUTURES",
    ],
    ("classic", FUTURES, BTC, None): [
        'POST v2/mix/order/batch-cancel-orders {"productType":"USDT-FUTURES","symbol":"BTCUSDT"}',
        *(plan(each, symbol=BTC) for each in PLANS),
        f"{TRACKS}USDT-FUTURES&symbol=BTCUSDT",
    ],
    ("classic", "usdc-futures", "BTCPERP", "ordinary"): [
        'POST v2/mix/order/batch-cancel-orders {"productType":"USDC-FUTURES","symbol":"BTCPERP"}'
    ],
    ("classic", "margin", BTC, None): [
        f"GET v2/margin/crossed/open-orders?limit=100&startTime={SINCE}&symbol=BTCUSDT",
        f"GET v2/margin/isolated/open-orders?limit=500&startTime={SINCE}&symbol=BTCUSDT",
    ],
    ("unified", "margin", None, None): [
        'POST v3/trade/cancel-symbol-order {"category":"MARGIN"}',
        f"{STRATEGIES}MARGIN&type=tpsl",
        f"{STRATEGIES}MARGIN&type=trigger",
    ],
    ("unified", FUTURES, BTC, "ordinary"): [
        'POST v3/trade/cancel-symbol-order {"category":"USDT-FUTURES","symbol":"BTCUSDT"}'
    ],
}


@pytest.mark.parametrize(("kind", "category", "symbol", "book"), ASKED)
def test_what_a_cancel_asks_first(kind: str, category: str, symbol: Any, book: Any) -> None:
    """Every book at once, cancels before listings; a symbol in every request that takes one."""
    venue = CLASSIC if kind == "classic" else UNIFIED
    scope = Scope(category, symbol, (book,) if book else None)
    calls = calls_of(venue.cancel_all(scope, None))
    assert [described(call) for call in calls] == ASKED[kind, category, symbol, book]
    assert all(call.cancels is (call.method == "POST") for call in calls)
    limits = {limit.name for limit in venue.limits(venue.rest_url)}
    assert all(set(call.costs) <= limits and len(call.costs) == 2 for call in calls)


# --- replies --------------------------------------------------------------------------------------

CANCEL = calls_of(CLASSIC.cancel_all(Scope(FUTURES, BTC), None))[0]
CANCEL_V3 = calls_of(UNIFIED.cancel_all(Scope(FUTURES, BTC), None))[0]


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("40009", 400, AuthenticationError),
        ("40012", 400, AuthenticationError),
        ("40037", 200, AuthenticationError),
        ("40014", 400, PermissionDenied),
        ("40018", 403, PermissionDenied),
        ("40085", 400, PermissionDenied),
        ("40008", 400, StampRefused),
        ("429", 429, RateLimited),
        (429, 200, RateLimited),
        ("40034", 400, InvalidRequest),
        ("25100", 400, InvalidRequest),
        ("40010", 400, VenueUnavailable),  # timed out: nobody knows
        ("25001", 200, VenueUnavailable),
        ("45001", 400, VenueUnavailable),
        ("40009", 500, AuthenticationError),  # the code goes before the status
        ("87654", 400, VenueError),
        ("87654", 200, VenueError),
        ("0", 200, VenueError),
        ("", 200, VenueError),
    ],
)
def test_codes(code: Any, status: int, kind: type[MassCancelError]) -> None:
    """By the table; what is not in it is no success, and at 200 may have been carried out."""
    for call in (CANCEL, CANCEL_V3):
        body = {"code": code, "msg": "no", "data": {"list": [], "successList": []}}
        error = decoded(call, body, status, Date="Tue, 14 Nov 2023 22:13:20 GMT")
        assert type(error) is kind
        if kind is VenueUnavailable or (kind is VenueError and status == 200):
            assert error.may_have_executed
        if isinstance(error, StampRefused):
            assert error.date_ms == NOW


@pytest.mark.parametrize("code", ["22001", "31054", "43001", "43025", "40768", "25204", "24056"])
@pytest.mark.parametrize("status", [200, 400])
def test_nothing_open_is_no_failure(code: str, status: int) -> None:
    """Where no order is named, one that does not exist means that there is none."""
    for call in (CANCEL, CANCEL_V3):
        answer = decoded(call, {"code": code, "msg": "", "data": None}, status)
        assert (answer.status, answer.cancelled) == ("nothing open", ())
        assert isinstance(decoded(call, {"code": code, "msg": "", "data": None}, 500), VenueError)


def test_v2_tells_what_is_cancelled_and_what_is_not() -> None:
    """Those that are gone are no failure, by code or by the samples' own words; others are."""
    failed = {
        "2": {"errorMsg": "notExistend"},
        "3": {"errorMsg": "whatever", "errorCode": "43001"},
        "4": {"errorMsg": "Order Cancelled"},
        "5": {"errorMsg": "duplicate clientOrderId"},
        "6": {"errorMsg": "order does not exist", "errorCode": "40010"},
    }
    answer = decoded(CANCEL, lists("1", failed=failed))
    assert answer.cancelled == ("1",)
    assert [*answer.failed] == ["5", "6"]
    assert type(answer.failed["6"]) is VenueUnavailable
    error, _ = play(
        CLASSIC.cancel_all(Scope(FUTURES), None),
        {"POST v2/mix/order/cancel-all-orders": lists("1", failed=failed)},
    )
    assert "duplicate clientOrderId" in error.summary
    assert "not acknowledged: 5, 6" in error.__notes__


@pytest.mark.parametrize("data", [None, {}, [], {"successList": []}, {"list": {}}, "success"])
def test_success_without_what_was_asked_is_none(data: Any) -> None:
    """The code alone does not say what became of the orders."""
    for call in (CANCEL, CANCEL_V3):
        assert type(decoded(call, good(data))) is ProtocolError


def test_v3_says_which_failed_and_of_the_others_not_that_they_are_gone() -> None:
    """Codes of success are missing, empty or short; the sample is of one gone already."""
    rows = [
        {"orderId": "1", "clientOid": "a"},
        {"orderId": "2", "clientOid": "b", "code": "", "msg": ""},
        {"orderId": "3", "clientOid": "c", "code": "0", "msg": "Success"},
        {"orderId": "4", "clientOid": "d", "code": "24056", "msg": "notExisted"},
        {"orderId": "5", "clientOid": "e", "code": "25003", "msg": "Concurrent operation"},
    ]
    answer = decoded(CANCEL_V3, good({"list": rows}))
    assert answer.cancelled is None
    assert [*answer.failed] == ["5"]
    assert decoded(CANCEL_V3, good({"list": []})).cancelled == ()


@pytest.mark.parametrize(
    ("odd", "field", "value"),
    [
        ({"priceAvg": ""}, "price", Decimal(0)),
        ({"priceAvg": None}, "price", Decimal(0)),
        ({"size": 2}, "quantity", Decimal(2)),
        ({"orderId": 7}, "order_id", "7"),
        ({"symbol": "rNVDAUSDT"}, "symbol", "rNVDAUSDT"),
        ({}, "symbol", BTC),
        ({}, "price", Decimal("34829.12")),
        ({"side": "liquidation-buy"}, "side", "buy"),
        ({"side": "systemRepay-selll"}, "side", "sell"),
    ],
)
def test_odd_values_of_a_row(odd: dict[str, Any], field: str, value: Any) -> None:
    """Lower-case symbols, numbers as numbers, nothing where a price would be."""
    call = calls_of(CLASSIC.open_orders(Scope("spot")))[0]
    (order,) = decoded(call, good(spot(7, **odd))).rows
    assert getattr(order, field) == value


@pytest.mark.parametrize(
    "odd", [{"side": "long"}, {"size": "NaN"}, {"orderId": ""}, {"orderId": None}, {"symbol": None}]
)
def test_a_row_that_can_not_be_read_proves_nothing(odd: dict[str, Any]) -> None:
    """Nor is it left out."""
    call = calls_of(CLASSIC.open_orders(Scope("spot")))[0]
    assert type(decoded(call, good([*spot(1), *spot(2, **odd)]))) is ProtocolError


def test_a_cached_listing_proves_nothing() -> None:
    """It says nothing of the orders of now."""
    for venue in (CLASSIC, UNIFIED):
        call = calls_of(venue.open_orders(Scope("spot")))[0]
        body = good([]) if venue is CLASSIC else good({"list": [], "cursor": None})
        assert type(decoded(call, body, Age="3")) is ProtocolError


def test_the_clock() -> None:
    """Its number is a string; a refusal is no time."""
    probe = CLASSIC.probe(CLASSIC.rest_url)
    body = json.dumps(good({"serverTime": "1688008631614"})).encode()
    assert probe.decode(Reply(200, {}, body)) == 1688008631614
    for wrong in (b"{}", b'{"code":"00000","data":{}}', b'{"code":"00000","data":null}'):
        with pytest.raises(ProtocolError):
            probe.decode(Reply(200, {}, wrong))
    assert probe.request(NOW).target == "/api/v2/public/time"


EVERY: list[Call[Any]] = [
    CANCEL,
    CANCEL_V3,
    *calls_of(CLASSIC.cancel_all(Scope("spot", BTC), None)),
    *calls_of(CLASSIC.open_orders(Scope(FUTURES))),
    *calls_of(CLASSIC.open_orders(Scope("margin", BTC))),
    *calls_of(UNIFIED.open_orders(Scope("spot"))),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["orderId", "symbol", "code", "list", "successList", "orderList"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(EVERY), JSON, st.sampled_from([200, 200, 302, 400, 403, 429, 500]))
def test_whatever_arrives_is_a_value_or_one_of_our_errors(
    call: Call[Any], data: Any, status: int
) -> None:
    """And never a value beside another status than success, but for what is documented as one."""
    found = decoded(call, good(data), status)
    assert isinstance(found, MassCancelError) or status == 200
    decoded(call, data, status)
    decoded(call, json.dumps(good(data)).encode()[:-3], status)
