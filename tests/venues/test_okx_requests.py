"""OKX's requests: settings, scopes, signatures, and what each call asks for and costs."""

from __future__ import annotations

from typing import Any

import pytest

from flows_support import calls_of
from masscancel import Client, ConfigurationError, Credentials, MassCancelError, ScopeError
from masscancel.calls import Scope, Stamp
from masscancel.sim.dialect import Moment
from masscancel.sim.dialect import Request as SimRequest
from masscancel.sim.okx import signature as sim_signature
from masscancel.venues import OKX
from masscancel.venues.okx import signature
from okx_support import (
    ALGO,
    BTC,
    CREDENTIALS,
    NOW,
    ORDER,
    SPREAD,
    STAMP,
    SWAP,
    VENUE,
    Driven,
    cancelling,
    good,
    listing,
    orders,
    reads,
    shown,
)

ALGO_TYPES = (
    *("conditional,oco", "trigger", "move_order_stop", "chase"),
    *("iceberg", "twap", "smart_iceberg"),
)
TIME = "2023-11-14T22:13:20.000Z"

#: Made with the official SDK's ``okx.utils.sign`` (python-okx 0.4.4), and equal to ccxt's.
VECTORS = [
    (
        "GET",
        "/api/v5/trade/orders-pending?instType=SPOT&limit=100",
        "",
        "F7EIrl3PUfkSuwpzMVxfaUYoLanP1hkb74IS6oMsrWE=",
    ),
    (
        "POST",
        "/api/v5/trade/cancel-batch-orders",
        '[{"instId":"BTC-USDT","ordId":"1"},{"instId":"ETH-USDT-SWAP","ordId":"2"}]',
        "lrpoHd4weQoebyzhOKNHO4dJ+ejELQ48rdKEX+1mI0E=",
    ),
    (
        "POST",
        "/api/v5/trade/cancel-all-after",
        '{"timeOut":"10"}',
        "HJy3LBbS0+DJtWczSBKmOSzIG0rMfQDnijwG20WwwSU=",
    ),
]


def called(path: str, body: str) -> Any:
    """The call of ours that makes a request."""
    if path.endswith("after"):
        (call,) = calls_of(VENUE.switch(Scope("account"), 10_000))
    elif body:
        drive = cancelling("account", None, "ordinary")
        rows = [{"ordId": "1"}, {"ordId": "2", "instId": "ETH-USDT-SWAP", "instType": "SWAP"}]
        drive.reply("orders-pending", good(*({**ORDER, **row} for row in rows)))
        (call,) = drive.calls
    else:
        (call,) = listing("spot", None, "ordinary").calls
    return call


@pytest.mark.parametrize(("method", "path", "body", "expected"), VECTORS)
def test_vectors(method: str, path: str, body: str, expected: str) -> None:
    """Our own requests, byte for byte; the simulator signs alike."""
    call = called(path, body)
    request = call.sign(call, CREDENTIALS, STAMP)
    assert (request.method, request.target, request.body.decode()) == (method, path, body)
    assert request.headers == {
        "OK-ACCESS-KEY": "key",
        "OK-ACCESS-SIGN": expected,
        "OK-ACCESS-TIMESTAMP": TIME,
        "OK-ACCESS-PASSPHRASE": "phrase",
        "Content-Type": "application/json",
    }
    assert request.expires_at_ms == NOW + 30_000
    theirs = SimRequest(method=method, raw_path=path, body=body.encode(), moment=Moment())
    assert sim_signature("test_api_secret", TIME, theirs) == expected
    assert signature("test_api_secret", f"{TIME}{method}{path}{body}".encode()) == expected


def test_the_time_has_milliseconds() -> None:
    """Three digits of them, whatever they are; a demo key says so in a header."""
    (call,) = calls_of(OKX(demo=True).switch(Scope("account"), 0))
    headers = call.sign(call, CREDENTIALS, Stamp(NOW + 7)).headers
    assert headers["OK-ACCESS-TIMESTAMP"] == "2023-11-14T22:13:20.007Z"
    assert headers["x-simulated-trading"] == "1"


def test_no_passphrase_is_said_at_once() -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match="OKX has a passphrase"):
        Client(Credentials("key", "secret"), venue=VENUE)


@pytest.mark.parametrize(
    "options",
    [{"rest_url": "http://openapi.okx.com"}, {"rest_url": "https://www.okx.com/api/v5"}],
)
def test_unusable_settings_are_refused(options: dict[str, Any]) -> None:
    """Clear text, more than an origin."""
    with pytest.raises(ConfigurationError):
        OKX(**options)


SYMBOLS = {
    "spot": ["BTC-USDT", "1INCH-USDT"],
    "margin": ["BTC-USDT", "1INCH-USDT"],
    "swap": [SWAP, "BTC-USD_UM-SWAP"],
    "futures": ["BTC-USD-261225", "BTC-USD_UM-261225"],
    "option": ["BTC-USD-261225-60000-C", "ETH-USD_UM-261225-1200.5-P"],
}
SYMBOLS["account"] = [symbol for some in SYMBOLS.values() for symbol in some]


@pytest.mark.parametrize("category", SYMBOLS)
def test_symbols(category: str) -> None:
    """Each category's own are taken; other venues' spellings are refused with the right one."""
    for symbol in SYMBOLS[category]:
        VENUE.check_scope(Scope(category, symbol))
    others = {symbol for some in SYMBOLS.values() for symbol in some} - {*SYMBOLS[category]}
    for symbol in (*others, "BTCUSDT", "BTC/USDT", "btc-usdt", "BTC_USDT", "XBT/USD:BTC"):
        with pytest.raises(ScopeError, match="look like BTC-USD"):
            VENUE.check_scope(Scope(category, symbol))


def test_every_book_is_asked() -> None:
    """Algo orders by type; spreads with the account alone, by one call and no listing."""
    algos = [f"GET trade/orders-algo-pending?ordType={each}" for each in ALGO_TYPES]
    assert cancelling("account").shown == [
        "GET trade/orders-pending?limit=100",
        *(f"{algo}&limit=100" for algo in algos),
        "POST sprd/mass-cancel {}",
    ]
    assert listing("account").shown[-1] == "GET sprd/orders-pending?limit=100"
    for category in ("spot", "margin", "swap", "futures"):
        kind = f"instType={category.upper()}"
        assert cancelling(category).shown == [
            f"GET trade/orders-pending?{kind}&limit=100",
            *(f"{algo}&{kind}&limit=100" for algo in algos),
        ]


def test_options_are_picked_from_all_algo_orders() -> None:
    """Their listing can't be asked for the type, so that others are in it; those are left alone."""
    option = SYMBOLS["option"][0]
    drive = cancelling("option", option)
    assert drive.shown[0] == f"GET trade/orders-pending?instType=OPTION&instId={option}&limit=100"
    assert drive.shown[1].endswith(f"?ordType=conditional,oco&instId={option}&limit=100")
    drive = cancelling("option", None, "conditional")
    mine = {**ALGO, "instId": option, "instType": "OPTION", "algoId": "7"}
    drive.reply("conditional", good(ALGO, mine, {**ALGO, "instType": None, "algoId": "8"}))
    assert drive.shown == [f'POST trade/cancel-algos [{{"instId":"{option}","algoId":"7"}}]']
    drive.rest(good({"algoId": "7", "sCode": "0", "sMsg": ""}))
    assert drive.ack().status == "accepted"


def test_one_symbol() -> None:
    """A symbol is asked for by its id, a spread in its own book, and nothing of it elsewhere."""
    assert cancelling("account", SWAP).shown[0] == (
        f"GET trade/orders-pending?instId={SWAP}&limit=100"
    )
    assert not any("sprd" in each for each in cancelling("account", SWAP).shown)
    assert cancelling("account", SPREAD).shown == [f'POST sprd/mass-cancel {{"sprdId":"{SPREAD}"}}']
    for spread in (SPREAD, "BTC-USD_UM-SWAP_BTC-USD_UM-261225", "BTC-USDC_BTC-USDT"):
        assert listing("account", spread).shown == [
            f"GET sprd/orders-pending?sprdId={spread}&limit=100"
        ]
    for symbol in SYMBOLS["account"]:
        assert not any("sprd" in each for each in listing("account", symbol).shown)


def test_books_are_left_out() -> None:
    """Only the books that are named are asked."""
    assert len(cancelling("swap", None, "ordinary").shown) == 1
    (call,) = cancelling("swap", None, "trigger").shown
    assert "ordType=trigger&" in call
    with pytest.raises(ScopeError, match="books must be"):
        VENUE.check_scope(Scope("swap", None, ("spread",)))


def test_batches_and_their_costs() -> None:
    """20 of one kind and 10 of the other; counted by instrument, by family, and one by itself."""
    drive = cancelling("account", None, "ordinary", "trigger")
    rows = [*orders(22), {**ORDER, "instId": SYMBOLS["option"][0], "ordId": "9"}]
    drive.reply("orders-pending?", good(*rows))
    drive.reply("trigger", good(*orders(11, row=ALGO)))
    assert [(call.path.rpartition("/")[2], dict(call.costs)) for call in drive.calls] == [
        ("cancel-batch-orders", {"trade/cancel-batch-orders:BTC-USDT": 20}),
        (
            "cancel-batch-orders",
            {"trade/cancel-batch-orders:BTC-USDT": 2, "trade/cancel-batch-orders:BTC-USD": 1},
        ),
        ("cancel-algos", {"trade/cancel-algos:BTC-USDT": 10}),
        ("cancel-algos", {"trade/cancel-algos:BTC-USDT": 1}),
    ]
    drive = cancelling("spot", BTC, "ordinary")
    drive.reply("orders-pending", good(ORDER))
    assert drive.calls[0].costs == {"trade/cancel-order:BTC-USDT": 1}
    assert all(call.cancels for call in drive.calls)


def test_every_cost_has_a_limit() -> None:
    """Whatever a call costs is something that is limited."""
    limits = {limit.name: limit for limit in VENUE.limits(VENUE.rest_url)}
    flows = [cancelling("account"), listing("account"), Driven(VENUE.key_info(("spot",)))]
    flows += [Driven(VENUE.switch(Scope("account"), 0))]
    calls = [call for flow in flows for call in flow.calls]
    assert {name for call in calls for name in call.costs} <= limits.keys()
    assert limits["trade/orders-algo-pending"].amount == 20
    assert limits["public/time"].per == "origin"
    assert VENUE.probe(VENUE.rest_url).costs == {"public/time": 1}


@pytest.mark.parametrize(
    ("reply", "status", "absent"),
    [
        ({"code": "50038", "msg": "unavailable in demo trading", "data": []}, 200, True),
        ({"code": "50005", "msg": "inactive", "data": []}, 410, True),
        ({"code": "404", "msg": "Not Found", "data": {}}, 404, True),
        ({"code": "50030", "msg": "no permission", "data": []}, 200, False),
        (b"<html>404</html>", 404, False),
        (b"", 503, False),
    ],
)
def test_a_site_without_spreads(reply: Any, status: int, absent: bool) -> None:
    """Nothing is open where the venue itself has no such book; a proxy's 404 says nothing.

    Of other books the same words are a refusal.
    """
    assert VENUE.ready()
    for flow in (cancelling("account", None, "spread"), listing("account", None, "spread")):
        (call,) = flow.calls
        value = reads(call, reply, status)
        assert isinstance(value, MassCancelError) is not absent
        if absent:
            flow.reply("sprd", reply, status)
            assert flow.value == [] or flow.ack().status == "nothing open"
    assert isinstance(reads(listing("account").calls[0], reply, status), MassCancelError)


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        ("1700000010", NOW + 10_000),
        (1_700_000_010, NOW + 10_000),
        (str(NOW + 10_500), NOW + 10_500),
    ],
)
def test_the_switch(trigger: str | int, expected: int) -> None:
    """Its time is in seconds in the sample, perhaps in ms: either is understood."""
    (call,) = calls_of(VENUE.switch(Scope("account"), 10_000))
    assert call.cancels
    row = {"triggerTime": trigger, "tag": "", "ts": "1700000000"}
    assert reads(call, good(row)) == expected
    off = {**row, "triggerTime": "0"}
    assert "says otherwise" in str(reads(call, good(off)))
    (call,) = calls_of(VENUE.switch(Scope("account"), 0))
    assert not call.cancels
    assert reads(call, good(off)) is None
    assert "says otherwise" in str(reads(call, good(row)))


@pytest.mark.parametrize(
    ("scope", "timeout_ms"),
    [
        (Scope("spot"), 60_000),
        (Scope("account", BTC), 60_000),
        (Scope("account", None, ("ordinary",)), 60_000),
        (Scope("account"), 9_000),
        (Scope("account"), 121_000),
        (Scope("account"), 10_500),
    ],
)
def test_what_the_switch_can_not_do(scope: Scope, timeout_ms: int) -> None:
    """Anything but the whole account is refused by name, as are times that it does not take."""
    with pytest.raises((ScopeError, ConfigurationError), match="switch"):
        next(VENUE.switch(scope, timeout_ms))


def test_what_has_become_of_orders() -> None:
    """Each kind has its own question; what is gone from the venue's memory is left out."""
    drive = listing("account", None, "ordinary", "conditional", "spread")
    for asked, row in (("trade/orders-pending", ORDER), ("algo", ALGO)):
        drive.reply(asked, good(row))
    drive.reply("sprd", good({"sprdId": SPREAD, "ordId": "3", "side": "sell", "sz": "1"}))
    found = drive.result()
    states = Driven(VENUE.order_states("account", found))
    assert states.shown == [
        f"GET trade/order?instId={BTC}&ordId={ORDER['ordId']}",
        f"GET trade/order-algo?algoId={ALGO['algoId']}",
        "GET sprd/order?ordId=3",
    ]
    states.reply("trade/order?", good({**ORDER, "state": "mmp_canceled"}))
    states.reply("order-algo", good({**ALGO, "state": "effective"}))
    states.reply("sprd", {"code": "51603", "msg": "Order does not exist.", "data": []})
    assert states.result() == {ORDER["ordId"]: "cancelled"}


@pytest.mark.parametrize(
    ("perm", "expected"),
    [("read_only,withdraw,trade", "yes"), ("read_only", "no"), ("", "unknown"), (None, "unknown")],
)
def test_whether_a_key_may_cancel(perm: str | None, expected: str) -> None:
    """As the account's configuration says."""
    (call,) = calls_of(VENUE.key_info(("spot",)))
    assert shown(call) == "GET account/config"
    assert reads(call, good({"perm": perm})).cancels == {"spot": expected}
