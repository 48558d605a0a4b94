"""Kraken's requests: settings, scopes, signatures, and what ccxt builds."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from flows_support import calls_of
from kraken_support import (
    BTC,
    CCXT,
    DATA,
    IDS,
    NOW,
    PERP,
    SECRET,
    STAMP,
    VENUE,
    Talk,
    account_of,
    client_of,
    dialect_of,
    listing,
    order,
    result,
    signed,
)
from masscancel import ConfigurationError, Credentials, ScopeError
from masscancel.calls import Call, Flow, Scope
from masscancel.sim import SimulatedExchange
from masscancel.sim.kraken import KrakenDialect
from masscancel.venues.kraken import Kraken, futures, spot

VECTORS = json.loads((DATA / "vectors.json").read_bytes())


# --- settings -------------------------------------------------------------------------------------


def test_default_hosts() -> None:
    """Each category has a host of its own, which is one argument away from another."""
    assert VENUE.origin("spot") == "https://api.kraken.com"
    assert VENUE.origin("futures") == "https://futures.kraken.com"
    assert Kraken(futures_url="https://host:8443/").origin("futures") == "https://host:8443"


@pytest.mark.parametrize(
    "options",
    [
        {"spot_url": "http://api.kraken.com"},
        {"futures_url": "https://futures.kraken.com/derivatives"},
        {"spot_url": None},
        {"nonce_unit": "s"},
        {"nonce_unit": None},
        {"nonce_unit": ["ms"]},
    ],
)
def test_unusable_settings_are_refused(options: dict[str, Any]) -> None:
    """What is no origin, would send keys in clear text, or is no unit, makes no venue."""
    with pytest.raises(ConfigurationError):
        Kraken(**options)


def test_names_are_found_out_for_the_categories_in_use() -> None:
    """Preparing for none asks nothing."""
    assert not VENUE.ready()
    talk = Talk(VENUE.prepare(()))
    assert (talk.rounds, talk.value) == ([], VENUE)
    assert Talk(VENUE.prepare(["futures"])).rounds == [["instruments?contractType=all"]]


def test_abilities() -> None:
    """Spot cancels one symbol by ids; both have a switch of the whole account."""
    assert VENUE.abilities["spot"].one_symbol == "a call per batch of ids"
    assert VENUE.abilities["futures"].one_symbol == "one call"
    assert {ability.switch for ability in VENUE.abilities.values()} == {"account"}


@pytest.mark.parametrize(
    ("unit", "digits"), [("ms", 13), ("us", 16), ("ns", 19)], ids=["ms", "us", "ns"]
)
@pytest.mark.asyncio
async def test_nonces_count_in_the_unit(kraken: SimulatedExchange, unit: Any, digits: int) -> None:
    """A key's nonces are the time since the epoch, in the unit that it is used with."""
    account = account_of(kraken, f"counts-{unit}")
    async with client_of(kraken, account, nonce_unit=unit) as client:
        await client.cancel_all("spot")
    assert [len(str(seen.nonce)) for seen in dialect_of(kraken).nonces] == [digits]


# --- scopes ---------------------------------------------------------------------------------------


BAD_SCOPES: list[tuple[Any, Any]] = [
    ("cash", None),
    ("Spot", None),
    (None, None),
    ([], None),
    ("spot", ""),
    ("spot", "XBT/"),
    ("spot", "/USD"),
    ("spot", "XBT/USD/EUR"),
    ("spot", "XBTUSD,ETHUSD"),
    ("spot", "XBTUSD\n"),
    ("spot", "XBT USD"),
    ("spot", "XBTUSD&count=1"),
    ("spot", "ХBTUSD"),  # noqa: RUF001  # a Cyrillic letter
    ("spot", 1),
    ("futures", ""),
    ("futures", "XBT/USD"),
    ("futures", "XBTUSD"),
    ("futures", "PF_"),
    ("futures", "PF_XBTUSD&symbol=PF_ETHUSD"),
    ("futures", "PF_XBTUSD\r\nX: y"),
    ("futures", b"PF_XBTUSD"),
]


@pytest.mark.parametrize(("category", "symbol"), BAD_SCOPES)
def test_bad_scopes_send_nothing(category: Any, symbol: Any) -> None:
    """What is no category, or can't be a symbol, is refused before anything is asked."""
    with pytest.raises(ScopeError):
        VENUE.check_scope(Scope(category, symbol))


@given(st.sampled_from(["spot", "futures"]), st.text(max_size=80))
def test_what_gets_into_a_request_is_a_symbol(category: str, symbol: str) -> None:
    """Any text is refused, or asked for as it is, and as nothing else."""
    try:
        VENUE.check_scope(Scope(category, symbol))
    except ScopeError:
        return
    calls = calls_of(VENUE.cancel_all(Scope(category, symbol), None))
    query = parse_qs(urlsplit(calls[-1].path).query)
    if category == "futures":
        assert query == {"symbol": [symbol.upper()]}
    elif query:  # looked up at once: what is guessed otherwise compares with the listing alone
        assert query == {"pair": [symbol]}


# --- signatures -----------------------------------------------------------------------------------


def test_published_vector() -> None:
    """The vector of "Spot REST Authentication"."""
    (vector,) = VECTORS["spot"]
    assert vector["signature"] == spot.signature(
        vector["secret"], vector["path"], vector["nonce"], vector["payload"].encode()
    )


@pytest.mark.parametrize("vector", VECTORS["derived"], ids=lambda v: f"{v['kind']} {v['note']}")
def test_derived_vectors(vector: dict[str, str]) -> None:
    """Signatures that were computed apart from this library; futures have no published one."""
    secret, path, payload, nonce = (vector[key] for key in ("secret", "path", "payload", "nonce"))
    if vector["kind"] == "spot":
        made = spot.signature(secret, path, nonce, payload.encode())
    else:
        made = futures.signature(secret, path, payload, nonce)
    assert made == vector["signature"]


@pytest.mark.parametrize("category", ["spot", "futures"])
@pytest.mark.parametrize("secret", ["not-base64!", "YWJj=ZGVm", "abc", "="])
def test_a_secret_that_is_not_base64(category: str, secret: str) -> None:
    """It is refused when a call is signed, and not repeated."""
    (call,) = calls_of(VENUE.cancel_all(Scope(category, None), None))
    with pytest.raises(ConfigurationError, match="base64") as caught:
        call.sign(call, Credentials("key", secret), STAMP)
    assert secret not in caught.value.message
    assert caught.value.__context__ is None


def test_a_nonce_does_not_expire() -> None:
    """Neither side says until when a request could be carried out."""
    for category in VENUE.abilities:
        (call,) = calls_of(VENUE.cancel_all(Scope(category, None), None))
        assert signed(call).expires_at_ms is None


def test_futures_send_no_nonce() -> None:
    """It is optional there; without one the order of arrival does not matter."""
    (call,) = calls_of(VENUE.cancel_all(Scope("futures", None), None))
    assert call.nonces_per_second == 0
    assert "Nonce" not in signed(call).headers


def test_no_repr_shows_what_was_signed() -> None:
    """Neither of a call nor of a request."""
    for category in VENUE.abilities:
        (call,) = calls_of(VENUE.cancel_all(Scope(category, None), None))
        shown = repr(call) + repr(signed(call))
        assert not any(value in shown for value in (SECRET, *signed(call).headers.values()))


# --- the requests of ccxt -------------------------------------------------------------------------


def first(flow: Flow[Any], *answers: Any) -> Call[Any]:
    """The first call of the round that follows these answers, one to a round."""
    talk = Talk(flow)
    for answer in answers:
        talk.answer(answer)
    call: Call[Any] = talk.root.calls()[0].part
    return call


def of_ids(*ids: str) -> Call[Any]:
    """The first call after a listing of these orders."""
    rows = {order_id: order() for order_id in ids}
    return first(VENUE.cancel_all(Scope("spot", BTC), None), result({"open": rows}))


def clock(category: str) -> tuple[str, str]:
    """Method and URL of a probe."""
    probe = VENUE.probe(VENUE.origin(category))
    return probe.request(NOW).method, probe.origin + probe.request(NOW).target


AS_CCXT: list[tuple[str, Call[Any]]] = [
    ("kraken.cancel_all_orders()", first(VENUE.cancel_all(Scope("spot", None), None))),
    ("kraken.cancel_orders([2 ids])", of_ids(*IDS)),
    ("kraken.cancel_order(id)", of_ids(IDS[0])),
    ("kraken.fetch_open_orders()", first(VENUE.open_orders(Scope("spot", None)))),
    ("kraken.fetch_open_orders('BTC/USD')", first(VENUE.open_orders(Scope("spot", BTC)))),
    ("kraken.cancel_all_orders_after(60000)", first(VENUE.switch(Scope("spot", None), 60_000))),
    ("kraken.cancel_all_orders_after(0)", first(VENUE.switch(Scope("spot", None), 0))),
    (
        "kraken.publicGetAssetPairs({'pair':'XBTUSD'})",
        first(VENUE.open_orders(Scope("spot", BTC)), listing()),
    ),
    ("krakenfutures.cancel_all_orders()", first(VENUE.cancel_all(Scope("futures", None), None))),
    (
        "krakenfutures.cancel_all_orders('BTC/USD:USD')",
        first(VENUE.cancel_all(Scope("futures", PERP), None)),
    ),
    ("krakenfutures.fetch_open_orders()", first(VENUE.open_orders(Scope("futures", None)))),
    (
        "krakenfutures.cancel_all_orders_after(60000)",
        first(VENUE.switch(Scope("futures", None), 60_000)),
    ),
    ("krakenfutures.cancel_all_orders_after(0)", first(VENUE.switch(Scope("futures", None), 0))),
]

#: What this library does otherwise, and why.
NOT_AS_CCXT = {
    "kraken.cancel_all_orders('BTC/USD')": "ccxt drops the symbol and cancels everything",
    "kraken.cancel_orders([1 id])": "ccxt sends a batch of one; CancelOrder is sure to take one",
    "kraken.fetch_time()": "compared below: a probe is no call",
    "krakenfutures.publicGetInstruments()": "ccxt leaves contractType out, and with it options",
}


@pytest.mark.parametrize(("name", "call"), AS_CCXT, ids=[name for name, _ in AS_CCXT])
def test_requests_equal_those_of_ccxt(name: str, call: Call[Any]) -> None:
    """Method, URL, body and signature. ccxt names a content type even where there is no content."""
    theirs = next(request for request in CCXT["requests"] if request["call"] == name)
    ours = signed(call)
    assert (ours.method, call.origin + ours.target) == (theirs["method"], theirs["url"])
    assert ours.body == (theirs["body"] or "").encode()
    headers = dict(theirs["headers"])
    if not ours.body:
        headers.pop("Content-Type", None)
    assert ours.headers == headers


def test_every_request_of_ccxt_is_compared() -> None:
    """None is left out without a reason."""
    names = {request["call"] for request in CCXT["requests"]}
    assert names == {name for name, _ in AS_CCXT} | set(NOT_AS_CCXT)


def test_the_clock_of_spot_is_asked_as_ccxt_does() -> None:
    """Spot has a request for the time; futures have none, and a ticker serves."""
    theirs = next(r for r in CCXT["requests"] if r["call"] == "kraken.fetch_time()")
    assert clock("spot") == (theirs["method"], theirs["url"])
    assert clock("futures")[1].startswith("https://futures.kraken.com/derivatives/api/v3/")


@pytest_asyncio.fixture
async def kraken() -> AsyncIterator[SimulatedExchange]:
    """A simulated Kraken that listens on loopback, spot and futures on one port."""
    async with SimulatedExchange(KrakenDialect()) as running:
        yield running
