"""AscendEX's requests: signatures, settings, scopes, and the ids of requests."""

from __future__ import annotations

import json
import re
import string
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masscancel import AscendEX, AuthenticationError, ConfigurationError, OutcomeUnknown, ScopeError
from masscancel.calls import Scope, Stamp
from masscancel.venues.ascendex.wire import signature

if TYPE_CHECKING:
    from collections.abc import Generator
from ascendex_support import (
    CREDENTIALS,
    DATA,
    ID,
    KEY,
    NOW,
    REQUESTS,
    SECRET,
    STAMP,
    SYMBOLS,
    VENUE,
    acknowledgement,
    cancel,
    check_signed,
    decoded,
    expected_signature,
    only_call,
    reply,
    sample,
)

pytestmark = pytest.mark.unmeasured

VECTORS: list[dict[str, Any]] = json.loads((DATA / "vectors.json").read_bytes())


def outcome(flow: Generator[Any, Any, Any], result: object) -> Any:
    """What a flow returns once its call has that result."""
    with pytest.raises(StopIteration) as stop:
        flow.send([result])
    return stop.value.value


# The signer


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["signature"][:8])
def test_published_signatures(vector: dict[str, Any]) -> None:
    """The three vectors of the exchange's own documents and demos."""
    made = signature(vector["secret"], vector["timestamp"], vector["api_path"])
    assert made == vector["signature"]


def test_there_are_three_published_signatures() -> None:
    """None was lost on the way."""
    assert len(VECTORS) == 3


@given(timestamp=st.integers(0, 10**16), path=st.text(string.ascii_lowercase + "/"))
def test_a_signature_is_base64_of_hmac_sha256(timestamp: int, path: str) -> None:
    """For any timestamp and path, on one line."""
    assert signature(SECRET, timestamp, path) == expected_signature(str(timestamp), path)


# Requests


@pytest.mark.parametrize(("category", "path", "api_path"), REQUESTS)
@pytest.mark.parametrize("scoped", [False, True], ids=["all", "symbol"])
def test_the_request_of_cancel_all(
    category: str, path: str, api_path: str, *, scoped: bool
) -> None:
    """Method, origin, path, body and headers; `order/all` is signed, not the URL path."""
    symbol = SYMBOLS[category] if scoped else None
    call = cancel(category, symbol)
    assert (call.method, call.origin) == ("DELETE", "https://venue.test")
    assert call.path == f"/6/api/pro/{path}/all"
    assert call.cancels
    assert call.repeatable
    assert call.nonces_per_second == 0

    request = call.sign(call, CREDENTIALS, STAMP)
    assert (request.method, request.target) == (call.method, call.path)
    assert json.loads(request.body) == {"id": ID} | ({"symbol": symbol} if scoped else {})
    assert request.headers["Content-Type"] == "application/json"
    check_signed(request, f"{api_path}/all", STAMP)


@pytest.mark.parametrize(("category", "path", "api_path"), REQUESTS)
@pytest.mark.parametrize("scoped", [False, True], ids=["all", "symbol"])
def test_the_request_of_open_orders(
    category: str, path: str, api_path: str, *, scoped: bool
) -> None:
    """A GET without a body; the symbol is in the query, which is not signed."""
    symbol = SYMBOLS[category] if scoped else None
    call = only_call(VENUE.open_orders(Scope(category, symbol)))
    query = f"?symbol={SYMBOLS[category].replace('/', '%2F')}" if scoped else ""
    assert (call.method, call.origin) == ("GET", "https://venue.test")
    assert call.path == f"/6/api/pro/{path}/open{query}"
    assert not call.cancels
    assert call.max_reply > cancel().max_reply

    request = call.sign(call, CREDENTIALS, STAMP)
    assert (request.method, request.target, request.body) == ("GET", call.path, b"")
    assert "Content-Type" not in request.headers
    check_signed(request, f"{api_path}/open", STAMP)


def test_the_request_of_prepare() -> None:
    """`GET /api/pro/v1/info`, without a group, signed as `info`."""
    venue = AscendEX(rest_url="http://127.0.0.1:8080", stream_url="ws://127.0.0.1:8080")
    call = only_call(venue.prepare(["cash"]))
    assert (call.method, call.origin, call.path) == (
        "GET",
        "http://127.0.0.1:8080",
        "/api/pro/v1/info",
    )
    assert not call.cancels
    request = call.sign(call, CREDENTIALS, STAMP)
    assert (request.target, request.body) == ("/api/pro/v1/info", b"")
    check_signed(request, "info", STAMP)


def test_the_probe() -> None:
    """Unsigned; `requestTime` is required by the documents. The reply is the server's clock."""
    probe = VENUE.probe(VENUE.origin("cash"))
    request = probe.request(1_640_052_379_050)
    assert (probe.origin, request.method) == ("https://venue.test", "GET")
    assert request.target == "/api/pro/v1/exchange-info?requestTime=1640052379050"
    assert not request.headers
    assert probe.decode(reply(sample("exchange_info"))) == 1_640_052_379_063


def test_a_call_is_signed_anew_each_time() -> None:
    """Two attempts of one call: another timestamp and signature, the same id."""
    call = cancel()
    first = call.sign(call, CREDENTIALS, STAMP)
    second = call.sign(call, CREDENTIALS, Stamp(NOW + 1))
    assert first.headers["x-auth-signature"] != second.headers["x-auth-signature"]
    assert first.body == second.body


def test_what_is_signed_shows_no_secret() -> None:
    """Neither the call nor the request has anything of the account in its repr."""
    call = cancel()
    request = call.sign(call, CREDENTIALS, STAMP)
    for text in (repr(call), repr(request), repr(VENUE)):
        assert SECRET not in text
        assert KEY not in text
        assert request.headers["x-auth-signature"] not in text


def test_group_zero_is_a_group() -> None:
    """The documents' own sample has it."""
    venue = msgspec.structs.replace(VENUE, account_group=0)
    assert venue.ready()
    assert only_call(venue.cancel_all(Scope("cash"), None)).path.startswith("/0/api/pro/")


@pytest.mark.parametrize("category", SYMBOLS)
def test_one_origin_serves_every_category(category: str) -> None:
    """So one set of connections is kept warm."""
    assert VENUE.origin(category) == "https://venue.test"
    assert set(VENUE.abilities) == set(SYMBOLS)


# The venue's value


def test_urls_are_normalized_and_checked() -> None:
    """Both, and with the name of the one that is wrong."""
    venue = AscendEX(rest_url="HTTPS://Venue.Test/", stream_url="WSS://Venue.Test:443/")
    assert (venue.rest_url, venue.stream_url) == ("https://venue.test", "wss://venue.test:443")
    with pytest.raises(ConfigurationError, match="rest_url"):
        AscendEX(rest_url="http://venue.test", stream_url="wss://venue.test")
    with pytest.raises(ConfigurationError, match="stream_url"):
        AscendEX(rest_url="https://venue.test", stream_url="https://venue.test")


@pytest.mark.parametrize(
    "urls", [{}, {"rest_url": "https://venue.test"}, {"stream_url": "wss://venue.test"}]
)
def test_there_are_no_default_hosts(urls: Any) -> None:
    """The exchange has closed: a default would send keys to whoever owns the name."""
    with pytest.raises(ConfigurationError, match="no default hosts"):
        AscendEX(**urls)


@pytest.mark.parametrize("group", [-1, True, 6.0, "6", "", "../6", float("nan"), [6]])
def test_a_group_is_a_non_negative_integer(group: Any) -> None:
    """It stands in the URL path, so it can be nothing else."""
    with pytest.raises(ConfigurationError, match="account_group"):
        AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test", account_group=group)


def test_a_venue_is_a_frozen_value() -> None:
    """Equal by its fields, and nobody changes where keys are sent."""
    assert msgspec.structs.replace(VENUE) == VENUE
    with pytest.raises(AttributeError):
        VENUE.rest_url = "https://evil.test"  # type: ignore[misc]  # that is the point


def test_without_a_group_nothing_is_sent() -> None:
    """Flows that need the group say so before they yield."""
    venue = AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test")
    assert not venue.ready()
    for flow in (venue.cancel_all(Scope("cash"), None), venue.open_orders(Scope("cash"))):
        with pytest.raises(ConfigurationError, match="account group"):
            next(flow)


def test_prepare_returns_the_venue_that_knows_its_group() -> None:
    """The value itself stays as it was."""
    venue = AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test")
    flow = venue.prepare(["cash"])
    group = decoded(only_call(flow), sample("account_info"))
    assert group == 0
    ready = outcome(flow, 7)
    assert ready == msgspec.structs.replace(venue, account_group=7)
    assert ready.ready()
    assert not venue.ready()


@pytest.mark.parametrize(
    "start", [lambda: VENUE.prepare(["cash"]), lambda: VENUE.open_orders(Scope("cash"))]
)
def test_the_error_of_the_only_call_is_the_error_of_the_flow(start: Any) -> None:
    """As it is, so that what it knows is not lost."""
    flow = start()
    next(flow)
    unknown = OutcomeUnknown("x")
    with pytest.raises(OutcomeUnknown) as caught:
        flow.send([unknown])
    assert caught.value is unknown


def test_cancel_all_returns_its_ack_or_raises_its_error() -> None:
    """One call, one result."""
    flow = VENUE.cancel_all(Scope("cash"), ID)
    ack = decoded(only_call(flow), acknowledgement())
    assert outcome(flow, ack) is ack
    flow = VENUE.cancel_all(Scope("cash"), ID)
    next(flow)
    refused = AuthenticationError(200001)
    with pytest.raises(AuthenticationError) as caught:
        flow.send([refused])
    assert caught.value is refused


@pytest.mark.parametrize("category", SYMBOLS)
def test_what_the_venue_can_do(category: str) -> None:
    """One call for any scope, an Ack that says received, a stream, and no switch."""
    can = VENUE.abilities[category]
    assert (can.whole_account, can.one_symbol, can.ack) == ("one call", "one call", "received")
    assert can.echoes_id is (category != "futures")
    assert can.stream
    assert can.stop_orders
    assert can.switch is None


def test_the_venue_has_no_switch_of_its_own() -> None:
    """Refused by name, and before that a bad scope is."""
    with pytest.raises(ScopeError, match="switch"):
        next(VENUE.switch(Scope("cash"), 1_000))
    with pytest.raises(ScopeError, match="category"):
        next(VENUE.switch(Scope("spot"), 1_000))


# Scopes


def checked(method: Any, category: Any, symbol: Any, *more: Any) -> Any:
    """The engine checks the scope before a flow begins."""
    VENUE.check_scope(Scope(category, symbol))
    yield from method(Scope(category, symbol), *more)


def flows(category: Any, symbol: Any) -> list[Any]:
    """Everything that takes a scope."""
    return [
        checked(VENUE.cancel_all, category, symbol, ID),
        checked(VENUE.open_orders, category, symbol),
        checked(VENUE.switch, category, symbol, 0),
    ]


@pytest.mark.parametrize(
    "category",
    ["", "spot", "CASH", "Cash", "cash ", " cash", "cash\n", "cash/../margin", "ca$h", "futures/",
     "\N{CYRILLIC SMALL LETTER ES}ash",
     b"cash", None, 0, True, 1.5, ["cash"], {"cash"}, object, ("cash", "BTC/USDT")],
    ids=ascii,
)  # fmt: skip
def test_a_bad_category_yields_nothing(category: Any) -> None:
    """Refused before there is a call; the message lists those there are, on one line."""
    for flow in flows(category, None):
        with pytest.raises(ScopeError, match="cash, margin, futures") as caught:
            next(flow)
        assert str(caught.value).isprintable()
        assert caught.value.__context__ is None
    with pytest.raises(ScopeError):
        VENUE.origin(category)


BAD_SYMBOLS: list[Any] = [
    "", " ", "/", "BTC", "BTC/", "/USDT", "BTCUSDT", "BTC-USDT", "BTC//USDT", "BTC/USDT/ETH",
    "btc/usdt", "BTC/usdt", "BTC/USDT ", " BTC/USDT", "BTC /USDT", "BTC/USDT\n", "BTC/USDT\r\n",
    "BTC/USDT\0", "BTC/USDT\t", "BTC/USDT,ETH/USDT", "BTC/USDT?x=1", "BTC/USDT#", "BTC/USDT&a=b",
    "BTC%2FUSDT", "BTC/US%44T", 'BTC/USDT"', "BTC/USDT'", "BTC/USDT\\", "BTC/USDT;", "BTC/USDT+",
    "../all", "./BTC", "*", "*/*", "BTC/*", "all", "null", "None",
    "\N{CYRILLIC CAPITAL LETTER VE}TC/USDT",
    "BTC\N{FRACTION SLASH}USDT",
    "BTC/USDT\N{ZERO WIDTH SPACE}", "\N{FULLWIDTH LATIN CAPITAL LETTER B}TC/USDT", "BTC/USDT\ud800",
    "A" * 33 + "/USDT", "BTC/" + "A" * 33, "A" * 100_000, b"BTC/USDT", 0, 1, False, True, 0.5,
    ["BTC/USDT"], ("BTC/USDT",), {"symbol": "BTC/USDT"}, 3.5,
]  # fmt: skip


@pytest.mark.parametrize("symbol", BAD_SYMBOLS, ids=lambda value: ascii(value)[:24])
@pytest.mark.parametrize("category", SYMBOLS)
def test_a_bad_symbol_yields_nothing(category: str, symbol: Any) -> None:
    """Refused before there is a call, and never taken for "all"."""
    for flow in flows(category, symbol):
        with pytest.raises(ScopeError) as caught:
            next(flow)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("category", "symbol"),
    [("cash", "BTC-PERP"), ("margin", "BTC-PERP"), ("futures", "BTC/USDT"), ("futures", "BTC"),
     ("futures", "BTC-perp"), ("futures", "-PERP"), ("futures", "BTC-PERP-PERP"),
     ("futures", "BTC-PERP\n"), ("futures", "BTC/USDT-PERP")],
)  # fmt: skip
def test_a_symbol_of_another_category_yields_nothing(category: str, symbol: str) -> None:
    """Spot pairs are not contracts; the message shows what symbols look like."""
    for flow in flows(category, symbol):
        with pytest.raises(ScopeError, match=SYMBOLS[category]):
            next(flow)


@pytest.mark.parametrize(
    ("category", "symbol"),
    [("cash", "BTC/USDT"), ("margin", "ETH/BTC"), ("cash", "1INCH/USDT"), ("cash", "$AAVE/USDT"),
     ("cash", "A/B"), ("cash", "T.V/USDT"), ("futures", "BTC-PERP"), ("futures", "1000SHIB-PERP")],
)  # fmt: skip
def test_real_symbols_pass(category: str, symbol: str) -> None:
    """As the venue writes them, to the letter, in the body."""
    assert json.loads(cancel(category, symbol).body)["symbol"] == symbol


near_symbols = st.builds(
    lambda symbol, at, what: symbol[: at % len(symbol)] + what + symbol[at % len(symbol) :],
    st.sampled_from(["BTC/USDT", "BTC-PERP"]),
    st.integers(0, 8),
    st.text(max_size=3) | st.sampled_from(["\n", "\r", " ", "?", "#", "%", '"', "\\", "/", "-"]),
)

texts = st.text() | near_symbols | st.text(string.ascii_uppercase + string.digits + "$._/-PER")


@given(category=st.sampled_from(sorted(SYMBOLS)), symbol=texts)
@example(category="futures", symbol="BTC-PERP")
@example(category="cash", symbol="BTC/USDT")
def test_any_text_is_a_symbol_or_a_scope_error(category: str, symbol: str) -> None:
    """What passes is two short words of capitals, digits, `$`, `.`, `_` in the category's form."""
    for flow in flows(category, symbol)[:2]:
        try:
            call = only_call(flow)
        except ScopeError:
            continue
        base, separator, quote = symbol.partition("-" if category == "futures" else "/")
        assert separator
        assert quote == "PERP" or category != "futures"
        for word in (base, quote):
            assert 1 <= len(word) <= 32
            assert set(word) <= set(string.ascii_uppercase + string.digits + "$._")
        assert re.fullmatch(r"[A-Za-z0-9/._?=%$-]+", call.path)
        request = call.sign(call, CREDENTIALS, STAMP)
        path = request.target.partition("?")[0]
        start = "v2/futures" if category == "futures" else "order/"
        check_signed(request, path[path.index(start) :], STAMP)


@given(category=st.text() | st.sampled_from(sorted(SYMBOLS)).map(lambda c: c + "\n"))
def test_any_other_text_is_no_category(category: str) -> None:
    """Three words pass, and nothing that only resembles them."""
    for flow in flows(category, None)[:2]:
        if category in SYMBOLS:
            assert only_call(flow).path.split("/")[5] in (category, "futures")
        else:
            with pytest.raises(ScopeError):
                next(flow)


# Request ids


def test_no_id_where_none_is_given() -> None:
    """Neither by REST nor on the stream: a venue draws no lots."""
    call = cancel(request_id=None)
    assert "id" not in json.loads(call.body)
    assert call.on_stream is not None
    message = json.loads(call.on_stream.encode(Stamp(1)))
    assert "id" not in message
    assert "id" not in message["args"]


@pytest.mark.parametrize("request_id", ["ab", "a-b", "a_b", "__", "A" * 32, "0-9", ID])
def test_an_id_of_ones_own(request_id: str) -> None:
    """Sent as it is, if it is what the documents allow."""
    assert json.loads(cancel(request_id=request_id).body)["id"] == request_id


@pytest.mark.parametrize(
    "request_id",
    ["", "a", "-a", "a-", "-", "a b", "a\n", "ab\n", "a.b", "a/b", "é-é", "٣٣", "A" * 33,
     b"ab", 12, True, ["ab"]],
    ids=ascii,
)  # fmt: skip
def test_a_bad_id_yields_nothing(request_id: Any) -> None:
    """2 to 32 of a small alphabet: refused before there is a call, and never replaced."""
    with pytest.raises(ConfigurationError, match="request_id"):
        next(VENUE.cancel_all(Scope("cash"), request_id))


@given(st.text(max_size=40) | st.from_regex(r"\w[\w-]*\w"))
def test_any_text_is_an_id_or_a_configuration_error(request_id: str) -> None:
    """Exactly the documents' pattern, in ASCII."""
    fine = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*[A-Za-z0-9_]", request_id)
    if fine and len(request_id) <= 32:
        assert json.loads(cancel(request_id=request_id).body)["id"] == request_id
    else:
        with pytest.raises(ConfigurationError):
            cancel(request_id=request_id)
