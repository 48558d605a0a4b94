"""KuCoin, on the way out: signatures, paths, parameters, costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flows_support import Drive, calls_of, decoded
from masscancel import (
    ConfigurationError,
    Credentials,
    ProtocolError,
    RateLimited,
    ScopeError,
)
from masscancel.calls import Call, Reply, Scope, Spent, Stamp
from masscancel.venues.kucoin import KuCoin, signature
from masscancel.venues.kucoin.replies import POOL_HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterable

VENUE = KuCoin()
BTC, XBT = "BTC-USDT", "XBTUSDTM"
MARGIN = "/api/v3/hf/margin"
KEYS = Credentials("test_api_key", "test_api_secret", passphrase="test_passphrase")
NOW = 1_700_000_000_000


def answer(data: Any) -> dict[str, Any]:
    """A reply that says success."""
    return {"code": "200000", "data": data}


def cancels(category: str, symbol: str | None = None, *books: str) -> list[Call[Any]]:
    """The calls that a cancel begins with."""
    scope = Scope(category, symbol, books or None)
    VENUE.check_scope(scope)
    return calls_of(VENUE.cancel_all(scope, None))


def said(calls: Iterable[Call[Any]]) -> list[str]:
    """Method and target of each."""
    return [f"{call.method} {call.path}" for call in calls]


def call_to(path: str, calls: Iterable[Call[Any]]) -> Call[Any]:
    """The call to a path."""
    return next(call for call in calls if call.path.partition("?")[0] == path)


# --- requests -------------------------------------------------------------------------------------


def test_the_documents_signatures() -> None:
    """The example of "Signing a Message", and those of the official SDK's signer."""
    text = b'1547015186532POST/api/v1/deposit-addresses{"currency":"BTC"}'
    published = "7QP/oM0ykidMdrfNEUmng8eZjg/ZvPafjIqmxiVfYu4="
    assert signature("f03a5284-5c39-4aaa-9b20-dea10bdcf8e3", text) == published
    plain = signature("test_api_secret", b"test_plain")
    assert plain == "jie/gxS38wLFFaBwl/cAzFbAzlI8MIny96jSXrB+iP4="


@pytest.mark.parametrize(
    ("category", "symbol", "path", "sign"),
    [
        (
            "spot",
            None,
            "/api/v1/hf/orders/cancelAll",
            "xblBINRzEYteKPcf25CoHEi2m9qmgsjGum0yAKEBHjU=",
        ),
        ("spot", BTC, "/api/v1/hf/orders", "mInCC/c7HJXedbmeeron+ESi/+yus+Q8VOkRubOHNBw="),
        ("futures", None, "/api/v1/stopOrders", "STujMsrbcl4ER5UsVfJd2JwdYztmRAz8BYDmsm2E2o8="),
    ],
)
def test_requests_are_those_of_the_official_sdk(
    category: str, symbol: str | None, path: str, sign: str
) -> None:
    """Its headers, at its time; the query is signed, the passphrase by itself, no body."""
    call = call_to(path, cancels(category, symbol))
    request = call.sign(call, KEYS, Stamp(NOW))
    assert request.headers == {
        "KC-API-KEY": "test_api_key",
        "KC-API-SIGN": sign,
        "KC-API-TIMESTAMP": str(NOW),
        "KC-API-PASSPHRASE": "Ikr9KjwgA4urCb5Az1TNKgQELW10z84iOq+wsZsRRz0=",
        "KC-API-KEY-VERSION": "3",
    }
    assert (request.method, request.target, request.body) == ("DELETE", call.path, b"")
    assert request.expires_at_ms == NOW + 5_000
    shown = f"{call!r} {request!r}"
    assert not [each for each in request.headers.values() if len(each) > 20 and each in shown]


#: What ccxt 4.5.90 sends for the same scopes, with the key "key", the secret "secret" and the
#: passphrase "phrase", at `NOW`; and its signature.
AS_CCXT = {
    "/api/v1/hf/orders/cancelAll": "bL5ghpKzMsh6sgwwfYB94p841rpnUE9BtrBM0MMDqiE=",
    f"/api/v1/hf/orders?symbol={BTC}": "Q2FLbzdMIajdR0jw8frCtAWSnam3eTKf/pjRvFp2SMY=",
    f"{MARGIN}/orders?symbol={BTC}&tradeType=MARGIN_TRADE": (
        "86eW/mQpWDSZSL6rBpEoWTQqN4r9EzCxLm50C9mSRfQ="
    ),
    f"{MARGIN}/stop-order/cancel?symbol={BTC}&tradeType=MARGIN_TRADE": (
        "/ElWQNUirzrukXuUcmoPrZc/K3oli5UCM+sHaDnaOkI="
    ),
    f"{MARGIN}/orders?symbol={BTC}&tradeType=MARGIN_ISOLATED_TRADE": (
        "PzwzXQ7yLzhRYYFn4DgdG4Zti9vU9iVG3hVvTJJ7hv4="
    ),
    "/api/v1/orders": "WorGjiaz/R2klVNA+xwR8Qf804UIIgo2CfRB9/0kbbE=",
    "/api/v1/stopOrders": "UAh/Sgnxrxt5nZXTyWHhjxN3v/Q/gteJbQjfiOnV/j4=",
    f"/api/v1/stopOrders?symbol={XBT}": "AvE/Jr7bdviXu6NfkUBjFH8Fp+6MITNvuNAUmBYSYFQ=",
}


@pytest.mark.parametrize(("target", "sign"), AS_CCXT.items())
def test_requests_equal_those_of_ccxt(target: str, sign: str) -> None:
    """Path, query and signature, byte for byte; it says that its keys have version 2."""
    venue, keys = KuCoin(key_version=2), Credentials("key", "secret", passphrase="phrase")
    scopes: list[tuple[str, str | None]] = [(category, None) for category in venue.abilities]
    scopes += [("spot", BTC), ("margin", BTC), ("isolated", BTC), ("futures", XBT)]
    calls = [call for each in scopes for call in calls_of(venue.cancel_all(Scope(*each), None))]
    (call,) = [call for call in calls if call.path == target]
    headers = call.sign(call, keys, Stamp(NOW)).headers
    assert (headers["KC-API-SIGN"], headers["KC-API-KEY-VERSION"]) == (sign, "2")


CROSS = f"symbol={BTC}&tradeType=MARGIN_TRADE"
ISOLATED = f"symbol={BTC}&tradeType=MARGIN_ISOLATED_TRADE"
OF_SCOPES = {
    ("spot",): "/api/v1/stop-order/cancel?tradeType=TRADE /api/v3/oco/orders "
    "/api/v1/hf/orders/cancelAll",
    ("spot", BTC): f"/api/v1/stop-order/cancel?symbol={BTC}&tradeType=TRADE "
    f"/api/v3/oco/orders?symbol={BTC} /api/v1/hf/orders?symbol={BTC}",
    ("spot", None, "ordinary"): "/api/v1/hf/orders/cancelAll",
    ("spot", BTC, "oco"): f"/api/v3/oco/orders?symbol={BTC}",
    ("isolated", BTC, "oco", "ordinary"): f"{MARGIN}/oco-order/cancel?{ISOLATED} "
    f"{MARGIN}/orders?{ISOLATED}",
    ("margin", BTC, "stop", "oco"): f"/api/v1/stop-order/cancel?{CROSS} "
    f"{MARGIN}/stop-order/cancel?{CROSS} {MARGIN}/oco-order/cancel?{CROSS}",
    ("futures",): "/api/v1/stopOrders /api/v1/orders",
    ("futures", XBT): f"/api/v1/stopOrders?symbol={XBT} /api/v3/orders?symbol={XBT}",
}


@pytest.mark.parametrize(("scope", "expected"), OF_SCOPES.items())
def test_every_book_is_cancelled_at_once(scope: tuple[Any, ...], expected: str) -> None:
    """In one step, conditional orders first; parameters in the query, none in a body."""
    calls = cancels(*scope)
    assert said(calls) == [f"DELETE {path}" for path in expected.split()]
    assert all(call.cancels and not call.body for call in calls)


def test_margin_cancels_its_other_books_beside_the_listing() -> None:
    """Only the ordinary orders need one; then a call per symbol leaves, and nothing else waits."""
    drive = Drive(VENUE.cancel_all(Scope("margin"), None))
    assert [call.method for call in drive.calls] == ["DELETE", "DELETE", "DELETE", "GET"]
    drive.answer(
        "symbols?tradeType=MARGIN_TRADE", answer({"symbolSize": 2, "symbols": [BTC, "1-2"]})
    )
    assert said(drive.calls)[3:] == [
        f"DELETE {MARGIN}/orders?symbol={symbol}&tradeType=MARGIN_TRADE" for symbol in (BTC, "1-2")
    ]


def test_what_a_whole_account_costs() -> None:
    """Of pools that belong to keys: 815 of futures' 2000, 36 of spot's 4000."""
    for category, pool, cost in (("futures", "futures", 815), ("spot", "spot", 36)):
        calls = cancels(category)
        assert sum(call.costs[pool] for call in calls) == cost
        (limit,) = [each for each in VENUE.limits(calls[0].origin) if each.name == pool]
        assert (limit.per, limit.seconds) == ("key", 30.0)


def test_a_cancel_of_all_futures_that_finds_no_room() -> None:
    """It is made symbol by symbol then; what the venue itself limits stays an error."""
    drive = Drive(VENUE.cancel_all(Scope("futures", None, ("ordinary",)), None))
    drive.round(RateLimited(None, "", "no room"))
    rows = [{"id": str(n), "symbol": symbol} for n, symbol in enumerate((XBT, "ETHUSDTM", XBT))]
    listed = {"currentPage": 1, "pageSize": 9, "totalNum": 3, "totalPage": 1, "items": rows}
    drive.round(decoded(drive.calls[0], answer(listed)))
    assert said(drive.calls) == [f"DELETE /api/v3/orders?symbol={s}" for s in (XBT, "ETHUSDTM")]
    ids = [answer({"cancelledOrderIds": [each]}) for each in "ab"]
    replies = zip(drive.calls, ids, strict=True)
    assert drive.round(*(decoded(*each) for each in replies)).ack().cancelled == ("a", "b")
    limited = Drive(VENUE.cancel_all(Scope("futures", None, ("ordinary",)), None))
    error = RateLimited(429, "", "no room")
    assert limited.round(error).round(RateLimited(None, "", "again")).value is error


def test_what_the_headers_say_is_spent() -> None:
    """By the part of the window that is left; the pool is told by its size, if that is known."""

    def spent(*told: str) -> Any:
        headers = dict(zip(POOL_HEADERS, told, strict=False))
        return VENUE.spent(VENUE.spot_url, Reply(200, headers, b""))

    assert spent("4000", "3900", "30000") == {"spot": Spent(100.0, 30.0)}
    assert spent("4000", "3000", "15000") == {"spot": Spent(1000.0, 15.0)}
    for told in (("2000", "1900", "9"), ("16000", "9", "9"), ("x", "1", "1"), ("4000", "9"), ()):
        assert spent(*told) == {}


@pytest.mark.parametrize(
    ("category", "symbol"),
    [("spot", each) for each in ("BTCUSDT", "BTC/USDT", "btc-usdt", "BTC_USDT", "BTC-USDT-SWAP")]
    + [("futures", each) for each in ("BTC-USDT", "BTCUSDT", "PF_XBTUSD", "xbtusdtm")],
)
def test_another_venues_spelling(category: str, symbol: str) -> None:
    """It is refused before anything is sent, with the right one."""
    with pytest.raises(ScopeError, match=r"look like (BTC-USDT|XBTUSDTM)"):
        VENUE.check_scope(Scope(category, symbol))
    for right in (XBT, "XBTUSDM", "XBTMZ26"):
        VENUE.check_scope(Scope("futures", right))


def test_settings_are_checked() -> None:
    """Keys have version 2 or 3; a unified account is refused, whoever says that it is one."""
    for version in (1, 4, True, "3"):
        with pytest.raises(ConfigurationError, match="key_version"):
            KuCoin(key_version=version)  # type: ignore[arg-type]
    entered = Drive(VENUE.prepare(())).round("CLASSIC").result()
    assert entered.ready()
    assert entered == KuCoin(unified=False)
    unsure = Drive(VENUE.prepare(())).round(ProtocolError("not now")).result()
    assert (unsure, unsure.ready()) == (VENUE, False)
    with pytest.raises(ConfigurationError, match="unified account"):
        KuCoin(unified=True)


def test_the_switch_says_what_it_is_about() -> None:
    """All symbols of spot; all of futures, at the host that serves it. Off is -1."""
    (spot,) = calls_of(VENUE.switch(Scope("spot"), 60_000))
    (futures,) = calls_of(VENUE.switch(Scope("futures"), 0))
    assert said([spot, futures]) == [
        "POST /api/v1/hf/orders/dead-cancel-all",
        "POST /api/ua/v1/dcp/set",
    ]
    assert json.loads(spot.body) == {"timeout": 60}
    assert json.loads(futures.body) == {"tradeType": "FUTURES", "timeout": -1}
    assert futures.origin == VENUE.spot_url
    request = spot.sign(spot, KEYS, Stamp(NOW))
    assert (request.body, request.headers["Content-Type"]) == (spot.body, "application/json")
    armed = answer({"currentTime": 1_700_000_000, "triggerTime": 1_700_000_060})
    assert decoded(spot, armed) == 1_700_000_060_000
    assert isinstance(decoded(futures, armed), ProtocolError)
    for off in (None, {}, {"systemTime": 1_700_000_000, "triggerTime": 0}):
        assert decoded(futures, answer(off)) is None
        assert isinstance(decoded(spot, answer(off)), ProtocolError)
    for scope in (Scope("margin"), Scope("spot", BTC), Scope("spot", None, ("ordinary",))):
        with pytest.raises(ScopeError, match="switch"):
            next(VENUE.switch(scope, 60_000))
