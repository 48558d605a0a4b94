"""Binance's requests: settings, scopes, signatures, and what ccxt builds."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_support import (
    BTC,
    CREDENTIALS,
    DATA,
    NOW,
    VENUE,
    cancel_call,
    described,
    sample,
    signed,
)
from flows_support import calls_of
from masscancel import ConfigurationError, ProtocolError, RateLimited, ScopeError
from masscancel.calls import Reply, Scope, Stamp
from masscancel.sim.binance import signature as sim_signature
from masscancel.venues.binance import Binance, signature

VECTORS: list[dict[str, str]] = json.loads((DATA / "vectors.json").read_bytes())
CCXT: dict[str, Any] = json.loads((DATA / "ccxt_requests.json").read_bytes())
CCXT_REQUESTS: dict[str, dict[str, Any]] = {each["call"]: each for each in CCXT["requests"]}


# The value.


def test_default_hosts_and_testnets() -> None:
    """Production by default; a testnet is one argument away."""
    assert VENUE.origin("spot") == "https://api.binance.com"
    assert VENUE.origin("usdm") == "https://fapi.binance.com"
    testnet = Binance(usdm_url="https://demo-fapi.binance.com/")
    assert testnet.origin("usdm") == "https://demo-fapi.binance.com"
    assert Binance(spot_url="http://127.0.0.1:8080").origin("spot") == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    "options",
    [
        {"spot_url": "http://api.binance.com"},
        {"usdm_url": "http://fapi.binance.com"},
        {"spot_url": "https://api.binance.com/api/v3"},
        {"usdm_url": ""},
        {"recv_window_ms": 0},
        {"recv_window_ms": 60_001},
        {"recv_window_ms": True},
        {"recv_window_ms": 5000.5},
        {"recv_window_ms": "5000"},
    ],
)
def test_unusable_settings_are_refused(options: dict[str, Any]) -> None:
    """Clear text, more than an origin, a window that the venue would not take."""
    with pytest.raises(ConfigurationError):
        Binance(**options)


def test_nothing_has_to_be_found_out() -> None:
    """The venue is ready as it is."""
    assert VENUE.ready()
    with pytest.raises(StopIteration) as stop:
        next(VENUE.prepare(()))
    assert stop.value.value is VENUE


def test_abilities() -> None:
    """No cancel without a symbol is one call; only futures have a switch, by symbol."""
    assert {name: each.whole_account for name, each in VENUE.abilities.items()} == {
        "spot": "a call per symbol",
        "usdm": "a call per symbol",
    }
    assert (VENUE.abilities["spot"].switch, VENUE.abilities["usdm"].switch) == (None, "symbol")


# Scopes.


BAD_SCOPES = [
    ("cash", None),
    ("Spot", None),
    ("", None),
    (None, None),
    (["spot"], None),
    *[
        (category, symbol)
        for category in ("spot", "usdm")
        for symbol in (
            *("", "BTC/USDT", "btcusdt", "BTCUSDt", "BTC-USDT", "BTC USDT", "BTCUSDT&symbol=X"),
            *("BTCUSDT\n", "BTC%55SDT", "\u3000", "BTC\u200bUSDT", "\ud800", "A" * 51, 1, b"BTC"),
        )
    ],
]


@pytest.mark.parametrize(("category", "symbol"), BAD_SCOPES)
def test_bad_scopes_send_nothing(category: Any, symbol: Any) -> None:
    """A category or symbol that can't be one is refused before there is a call."""
    with pytest.raises(ScopeError):
        VENUE.check_scope(Scope(category, symbol))
    if symbol is None:
        with pytest.raises(ScopeError):
            VENUE.origin(category)
        with pytest.raises(ScopeError):
            next(VENUE.switch(Scope(category), 1000))


@given(st.text(max_size=60))
def test_whatever_is_taken_for_a_symbol_is_sent_as_it_is(symbol: str) -> None:
    """Any text is refused as a scope, or travels percent-encoded and comes out the same."""
    try:
        call = cancel_call("spot", symbol)
    except ScopeError:
        return
    target = signed(call).target
    assert target.isascii()
    assert [name for name, _ in parse_qsl(target.partition("?")[2])] == [
        *("timestamp", "symbol", "recvWindow", "signature")
    ]
    assert described(call)[2] == symbol


@pytest.mark.parametrize(
    "symbol", [BTC, "BTCUSDT_250926", "1000SATSUSDT", "币安人生USDT", "\uff11\uff12\uff13USDT"]
)
def test_symbols_of_every_kind(symbol: str) -> None:
    """Digits, delivery dates, and letters beyond ASCII, which spot's and futures' documents use."""
    for category in ("spot", "usdm"):
        assert described(cancel_call(category, symbol))[2] == symbol


# Requests.


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_published_vectors(vector: dict[str, str]) -> None:
    """Client and simulator both sign as the documents do; each vector cites its page."""
    assert signature(vector["secret"], vector["payload"]) == vector["signature"]
    assert sim_signature(vector["secret"], vector["payload"]) == vector["signature"]


UNWARNED = "[warnWithoutSymbol=False]"
COUNTDOWN = "binanceusdm.fapiPrivatePostCountdownCancelAll"

#: ccxt's call, ours, and which of our calls in flight together: ccxt has a call for each book.
AS_CCXT: list[tuple[str, str, tuple[Any, ...], int]] = [
    ('binance.cancel_all_orders("BTC/USDT")', "cancel_all", ("spot", BTC, None), 0),
    ('binance.cancel_all_orders("币安人生/USDT")', "cancel_all", ("spot", "币安人生USDT", None), 0),
    (
        'binance.cancel_all_orders("BTC/USDT", {"recvWindow": 5000})',
        *("cancel_all", ("spot", BTC, None), 0),
    ),
    ('binance.fetch_open_orders("BTC/USDT")', "open_orders", ("spot", BTC), 0),
    (
        "binance.fetch_open_orders() [options.fetchOpenOrders.warnWithoutSymbol=False]",
        *("open_orders", ("spot", None), 0),
    ),
    ('binanceusdm.cancel_all_orders("BTC/USDT:USDT")', "cancel_all", ("usdm", BTC, None), 1),
    (
        'binanceusdm.cancel_all_orders("BTC/USDT:USDT", {"trigger": True})',
        *("cancel_all", ("usdm", BTC, None), 0),
    ),
    ('binanceusdm.fetch_open_orders("BTC/USDT:USDT")', "open_orders", ("usdm", BTC), 1),
    (
        'binanceusdm.fetch_open_orders("BTC/USDT:USDT", None, None, {"trigger": True})',
        *("open_orders", ("usdm", BTC), 0),
    ),
    (f"binanceusdm.fetch_open_orders() {UNWARNED}", "open_orders", ("usdm", None), 1),
    (
        f'binanceusdm.fetch_open_orders(None, None, None, {{"trigger": True}}) {UNWARNED}',
        *("open_orders", ("usdm", None), 0),
    ),
    (
        f'{COUNTDOWN}({{"symbol": "BTCUSDT", "countdownTime": 60000}})',
        *("switch", ("usdm", BTC, 60_000), 0),
    ),
    (
        f'{COUNTDOWN}({{"symbol": "BTCUSDT", "countdownTime": 0}})',
        *("switch", ("usdm", BTC, 0), 0),
    ),
]


@pytest.mark.parametrize(("name", "method", "scope", "number"), AS_CCXT)
def test_requests_equal_those_of_ccxt(
    name: str, method: str, scope: tuple[Any, ...], number: int
) -> None:
    """Method, URL, headers and body, signature and all, are byte for byte what ccxt sends.

    With its window, which is 10 s by default; ours is the venue's own default of 5 s.
    """
    venue = Binance(recv_window_ms=5_000 if "recvWindow" in name else 10_000)
    theirs = CCXT_REQUESTS[name]
    category, symbol, *more = scope
    call = calls_of(getattr(venue, method)(Scope(category, symbol), *more))[number]
    ours = call.sign(call, CREDENTIALS, Stamp(CCXT["milliseconds"]))
    assert ours.method == theirs["method"]
    assert call.origin + ours.target == theirs["url"]
    assert ours.headers == theirs["headers"]
    assert ours.body.decode() == (theirs["body"] or "")


def test_every_request_of_ccxt_is_compared() -> None:
    """The fixtures hold nothing that is left out, but for the clocks, which come next."""
    assert set(CCXT_REQUESTS) - {name for name, *_ in AS_CCXT} == {
        "binance.fetch_time()",
        "binanceusdm.fetch_time()",
    }


@pytest.mark.parametrize(
    ("category", "name", "data"),
    [("spot", "binance", "spot_time"), ("usdm", "binanceusdm", "usdm_time")],
)
def test_each_host_has_a_clock(category: str, name: str, data: str) -> None:
    """The probe is ccxt's request, and reads the documents' sample."""
    theirs = CCXT_REQUESTS[f"{name}.fetch_time()"]
    probe = VENUE.probe(VENUE.origin(category))
    request = probe.request(NOW)
    assert (request.method, probe.origin + request.target) == (theirs["method"], theirs["url"])
    assert not request.headers
    assert probe.decode(Reply(200, {}, sample(data))) == 1499827319559
    with pytest.raises(ProtocolError):
        probe.decode(Reply(200, {}, b"{}"))
    with pytest.raises(RateLimited):
        probe.decode(Reply(429, {}, sample("error_rate_limit_banned")))


def test_a_request_says_when_it_expires() -> None:
    """That is its timestamp and the window, beyond which the venue refuses it."""
    for venue in (VENUE, Binance(recv_window_ms=60_000)):
        request = signed(calls_of(venue.cancel_all(Scope("spot", BTC), None))[0])
        assert request.expires_at_ms == NOW + venue.recv_window_ms


def test_no_repr_shows_what_was_signed() -> None:
    """Neither the call nor the request shows key, secret or signature."""
    for flow in (
        VENUE.cancel_all(Scope("spot", BTC), None),
        VENUE.switch(Scope("usdm", BTC), 1000),
    ):
        (call,) = calls_of(flow)
        request = signed(call)
        signature_sent = (request.target + request.body.decode()).rpartition("=")[2]
        shown = f"{call!r} {request!r}"
        for hidden in (signature_sent, "'key'", "'secret'"):
            assert hidden not in shown
