"""Gate's requests: settings, symbols, signatures, what ccxt builds, and every book."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flows_support import calls_of
from gate_support import (
    BTC,
    CCXT,
    CLASSIC,
    DATA,
    NOW,
    OPTION,
    UNIFIED,
    UNKNOWN,
    asked,
    cancels,
    listings,
    signed,
)
from masscancel import (
    ConfigurationError,
    ScopeError,
)
from masscancel.calls import Call, Scope, Stamp
from masscancel.sim import Request as SimRequest
from masscancel.sim.gate import signature as sim_signature
from masscancel.venues.gate import Gate, signature

ORDINARY, STOP = ("ordinary",), ("stop",)

# Settings and scopes.


@pytest.mark.parametrize(
    "options",
    [
        {"rest_url": "http://api.gateio.ws"},
        {"rest_url": "https://api.gateio.ws/api/v4"},
        {"stream_url": "https://api.gateio.ws"},
        {"unified": 1},
        {"recv_window_ms": 0},
        {"recv_window_ms": 60_001},
        {"recv_window_ms": True},
    ],
)
def test_unusable_settings_are_refused(options: dict[str, Any]) -> None:
    """Clear text, more than an origin, a window that the venue would not take."""
    with pytest.raises(ConfigurationError):
        Gate(**options)


@pytest.mark.parametrize(
    ("category", "good", "bad"),
    [
        ("spot", ["BTC_USDT", "1INCH_USDT", "币安人生_USDT"], ["BTCUSDT", "BTC/USDT", "btc_usdt"]),
        ("usdt", ["BTC_USDT"], ["BTC_USD", "BTCUSDT", "BTC_USDT_20261225", "BTC-PERP"]),
        ("btc", ["BTC_USD"], ["BTC_USDT", "XBTUSD"]),
        ("options", [OPTION, "ETH_USDT-20261225-2500.5-P"], ["BTC_USDT", "BTC-25DEC26-100000-C"]),
    ],
)
def test_symbols(category: str, good: list[str], bad: list[str]) -> None:
    """Another spelling is refused before there is a call, with one that would be right."""
    for symbol in good:
        CLASSIC.check_scope(Scope(category, symbol))
    for symbol in bad:
        with pytest.raises(ScopeError, match=CLASSIC.abilities[category].symbols.example):
            CLASSIC.check_scope(Scope(category, symbol))


# Requests.


@pytest.mark.parametrize(
    "vector", json.loads((DATA / "vectors.json").read_bytes()), ids=lambda v: v["name"]
)
def test_published_vectors(vector: dict[str, str]) -> None:
    """Client and simulator both sign as the documents do."""
    words = (vector["method"], vector["path"], vector["query"])
    body, timestamp = vector["body"].encode(), vector["timestamp"]
    assert signature(vector["secret"], *words, body, timestamp) == vector["signature"]
    request = SimRequest(
        method=words[0],
        raw_path=f"{words[1]}?{words[2]}".rstrip("?"),
        headers={"timestamp": timestamp},
        body=body,
    )
    assert sim_signature(vector["secret"], request) == vector["signature"]


def ours() -> list[Call[Any]]:
    """The calls that ccxt makes, too, in the order of the fixtures."""
    spot, futures = [Scope("spot"), Scope("spot", BTC)], [Scope("usdt"), Scope("usdt", BTC)]
    return [
        cancels("spot", books=ORDINARY)[0],
        cancels("spot", BTC, books=ORDINARY)[0],
        cancels("spot", venue=UNIFIED, books=ORDINARY)[1],
        cancels("spot", BTC, books=STOP)[0],
        listings("spot", books=ORDINARY).calls[0],
        listings("spot", books=STOP).calls[0],
        *calls_of(CLASSIC.switch(spot[1], 30_000)),
        cancels("usdt", books=ORDINARY)[0],
        cancels("usdt", BTC, books=ORDINARY)[0],
        cancels("btc", "BTC_USD", books=STOP)[0],
        listings("usdt", books=ORDINARY).calls[0],
        listings("usdt", books=STOP).calls[0],
        *calls_of(CLASSIC.switch(futures[0], 30_000)),
        *cancels("options"),
        *calls_of(CLASSIC.switch(Scope("options"), 0)),
    ]


@pytest.mark.parametrize("number", range(len(CCXT["requests"])))
def test_requests_equal_those_of_ccxt(number: int) -> None:
    """Method, URL, signature and body are byte for byte what ccxt sends; two headers are added."""
    theirs, call = CCXT["requests"][number], ours()[number]
    request = signed(call)
    assert (request.method, call.origin + request.target) == (theirs["method"], theirs["url"])
    assert request.body.decode() == (theirs["body"] or "")
    assert theirs["headers"].items() <= request.headers.items()
    more = request.headers.keys() - theirs["headers"].keys()
    assert more <= {"x-gate-exptime", "X-Gate-Size-Decimal"}


def test_the_query_is_signed_before_it_is_percent_encoded() -> None:
    """As the documents say; only names beyond ASCII show it."""
    request = signed(cancels("spot", "币安人生_USDT", books=ORDINARY)[0])
    assert request.target.isascii()
    query = "currency_pair=币安人生_USDT"
    headers = request.headers
    expected = signature("secret", "DELETE", "/api/v4/spot/orders", query, b"", "1700000000")
    assert (headers["Timestamp"], headers["SIGN"]) == ("1700000000", expected)


def test_what_expires() -> None:
    """Ordinary cancels by a header, with the clock's doubt allowed for; others with their time."""
    stamp = Stamp(NOW, skew_ms=700)
    stop, _, _, ordinary = (signed(call, stamp) for call in cancels("spot"))
    assert ordinary.headers["x-gate-exptime"] == str(NOW + 5_700)
    assert ordinary.expires_at_ms == NOW + 5_700
    assert "x-gate-exptime" not in stop.headers
    assert stop.expires_at_ms == NOW // 1000 * 1000 + 61_000
    assert not [call for call in cancels("options") if "x-gate-exptime" in signed(call).headers]


TRIGGERS = "DELETE /spot/price_orders?account="
AUTO = "/futures/usdt/autoorder/v1"


@pytest.mark.parametrize(
    ("venue", "symbol", "expected"),
    [
        (CLASSIC, None, [f"{TRIGGERS}normal", f"{TRIGGERS}margin", "DELETE /spot/pov_orders"]),
        (UNIFIED, None, [f"{TRIGGERS}unified", "DELETE /spot/pov_orders"]),
        (
            UNKNOWN,
            None,
            [
                *(TRIGGERS + kind for kind in ("normal", "margin", "unified")),
                "DELETE /spot/pov_orders",
            ],
        ),
    ],
)
def test_every_book_of_spot_in_every_account(
    venue: Gate, symbol: str | None, expected: list[str]
) -> None:
    """A unified account's orders are cancelled by that name, too; so are they where it may be."""
    orders = ["DELETE /spot/orders"]
    if venue is not CLASSIC:
        orders.append("DELETE /spot/orders?account=unified")
    assert asked(cancels("spot", symbol, venue=venue)) == [*expected, *orders]


def test_every_book_of_futures() -> None:
    """Four, of which what may become an ordinary order goes first; a symbol narrows each."""
    assert asked(cancels("usdt")) == [
        "DELETE /futures/usdt/price_orders",
        f"POST {AUTO}/trail/stop_all {{}}",
        f"POST {AUTO}/chase/stop_all {{}}",
        "DELETE /futures/usdt/orders",
    ]
    body = '{"contract":"BTC_USDT"}'
    assert asked(cancels("usdt", BTC)) == [
        "DELETE /futures/usdt/price_orders?contract=BTC_USDT",
        f"POST {AUTO}/trail/stop_all {body}",
        f"POST {AUTO}/chase/stop_all {body}",
        "DELETE /futures/usdt/orders?contract=BTC_USDT",
    ]
    assert asked(cancels("usdt", books=("chase",))) == [f"POST {AUTO}/chase/stop_all {{}}"]


def test_every_cost_has_its_limit() -> None:
    """What a call spends is of a limit that the venue documents."""
    limits = {limit.name for limit in CLASSIC.limits(CLASSIC.rest_url)}
    for category in CLASSIC.abilities:
        calls = [*cancels(category), *listings(category).calls]
        calls += calls_of(CLASSIC.switch(Scope(category), 60_000))
        calls += calls_of(CLASSIC.key_info((category,)))
        for call in [*calls, *(calls_of(UNKNOWN.prepare(())) if category == "spot" else ())]:
            assert len(call.costs) == 1
            assert call.costs.keys() <= limits, call.path
