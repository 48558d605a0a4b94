"""AscendEX, driven by hand: no socket, no clock, only values in and values out.

The samples under `data/ascendex` are the documents' own (`ascendex/ascendex-pro-api`,
`ascendex/ascendex-futures-pro-api-v2`), but for `ack_live`, a reply seen live on 2024-06-28 (ccxt,
pull request 22926), and `ack_futures`, which ccxt's adapter quoted.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import re
import string
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masscancel import (
    Ack,
    AscendEX,
    AuthenticationError,
    ConfigurationError,
    Credentials,
    InvalidRequest,
    MassCancelError,
    OpenOrder,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    VenueError,
    VenueUnavailable,
)
from masscancel.errors import StampRefused
from masscancel.venue import Call, Reply, Request, Stamp
from masscancel.venues.ascendex.wire import signature

if TYPE_CHECKING:
    from collections.abc import Generator

DATA = Path(__file__).parent / "data" / "ascendex"
VECTORS: list[dict[str, Any]] = json.loads((DATA / "vectors.json").read_bytes())

KEY, SECRET = "k3y-of-the-account", "s3cret-of-the-account"
CREDENTIALS = Credentials(KEY, SECRET)
VENUE = AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test", account_group=6)
NOW = 1_700_000_000_000
STAMP = Stamp(NOW, skew_ms=1_000)
ID = "0123456789abcdef0123456789abcdef"
SYMBOLS = {"cash": "BTC/USDT", "margin": "BTC/USDT", "futures": "BTC-PERP"}


def sample(name: str) -> Any:
    """One of the sample replies."""
    return json.loads((DATA / f"{name}.json").read_bytes())


def only_call(flow: Generator[Any, Any, Any]) -> Call[Any]:
    """The single call that a flow wants first."""
    (call,) = next(flow)
    assert isinstance(call, Call)
    return call


def outcome(flow: Generator[Any, Any, Any], result: object) -> Any:
    """What a flow returns once its call has that result."""
    with pytest.raises(StopIteration) as stop:
        flow.send([result])
    return stop.value.value


def cancel(
    category: str = "cash", symbol: str | None = None, request_id: str | None = ID
) -> Call[Any]:
    """The call that cancels this scope."""
    return only_call(VENUE.cancel_all(category, symbol, request_id))


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    """A reply with this body: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def decoded(call: Call[Any], body: object, *, stamp: Stamp = STAMP, status: int = 200) -> Any:
    """What the call makes of a reply; our errors as values, and any other is the test's failure.

    An error of ours never drags another along, whose frames might hold what was signed.
    """
    try:
        return call.decode(reply(body, status), stamp)
    except MassCancelError as problem:
        error = problem
    if (error.__context__, error.__cause__) != (None, None):
        pytest.fail(f"{error!r} drags {error.__context__!r} along")
    return error


def acknowledgement(
    category: str = "cash", symbol: str | None = None, **changes: Any
) -> dict[str, Any]:
    """A good Ack of this scope; changes go to `data`, those that begin with `info_` to its info."""
    info: dict[str, Any] = {
        "id": ID,
        "orderId": "",
        "orderType": "NULL_VAL",
        "symbol": symbol or "",
        "timestamp": NOW,
    }
    data: dict[str, Any] = {
        "ac": category.upper(),
        "accountId": "csh1",
        "action": "cancel-all",
        "info": info,
        "status": "Ack",
    }
    for name, value in changes.items():
        part, key = (info, name.removeprefix("info_")) if name.startswith("info_") else (data, name)
        if value is ...:
            del part[key]
        else:
            part[key] = value
    return {"code": 0, "data": data}


# The signer


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["signature"][:8])
def test_published_signatures(vector: dict[str, Any]) -> None:
    """The three vectors of the exchange's own documents and demos."""
    made = signature(vector["secret"], vector["timestamp"], vector["api_path"])
    assert made == vector["signature"]


def test_there_are_three_published_signatures() -> None:
    """None was lost on the way."""
    assert len(VECTORS) == 3


def expected_signature(timestamp: str, api_path: str) -> str:
    """The signature by the documents' words, written a second time."""
    message = f"{timestamp}+{api_path}".encode()
    return base64.b64encode(hmac.new(SECRET.encode(), message, hashlib.sha256).digest()).decode()


@given(timestamp=st.integers(0, 10**16), path=st.text(string.ascii_lowercase + "/"))
def test_a_signature_is_base64_of_hmac_sha256(timestamp: int, path: str) -> None:
    """For any timestamp and path, on one line."""
    assert signature(SECRET, timestamp, path) == expected_signature(str(timestamp), path)


# Requests

REQUESTS = [
    ("cash", "v1/cash/order", "order"),
    ("margin", "v1/margin/order", "order"),
    ("futures", "v2/futures/order", "v2/futures/order"),
]


def check_signed(request: Request, api_path: str, stamp: Stamp) -> None:
    """The three headers, by the documents' words."""
    headers = dict(request.headers)
    headers.pop("Content-Type", None)
    assert headers == {
        "x-auth-key": KEY,
        "x-auth-timestamp": str(stamp.time_ms),
        "x-auth-signature": expected_signature(str(stamp.time_ms), api_path),
    }
    assert request.expires_at_ms == stamp.time_ms + 30_000


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
    assert call.acts
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
    call = only_call(VENUE.open_orders(category, symbol))
    query = f"?symbol={SYMBOLS[category].replace('/', '%2F')}" if scoped else ""
    assert (call.method, call.origin) == ("GET", "https://venue.test")
    assert call.path == f"/6/api/pro/{path}/open{query}"
    assert not call.acts
    assert call.max_reply > cancel().max_reply

    request = call.sign(call, CREDENTIALS, STAMP)
    assert (request.method, request.target, request.body) == ("GET", call.path, b"")
    assert "Content-Type" not in request.headers
    check_signed(request, f"{api_path}/open", STAMP)


def test_the_request_of_prepare() -> None:
    """`GET /api/pro/v1/info`, without a group, signed as `info`."""
    venue = AscendEX(rest_url="http://127.0.0.1:8080", stream_url="ws://127.0.0.1:8080")
    call = only_call(venue.prepare())
    assert (call.method, call.origin, call.path) == (
        "GET",
        "http://127.0.0.1:8080",
        "/api/pro/v1/info",
    )
    assert not call.acts
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
    assert only_call(venue.cancel_all("cash", None, None)).path.startswith("/0/api/pro/")


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


def test_there_are_no_default_hosts() -> None:
    """The exchange has closed: a default would send keys to whoever owns the name."""
    make: Any = AscendEX
    for urls in ({}, {"rest_url": "https://venue.test"}, {"stream_url": "wss://venue.test"}):
        with pytest.raises(TypeError):
            make(**urls)


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
    for flow in (venue.cancel_all("cash", None, None), venue.open_orders("cash", None)):
        with pytest.raises(ConfigurationError, match="account group"):
            next(flow)


def test_prepare_returns_the_venue_that_knows_its_group() -> None:
    """The value itself stays as it was."""
    venue = AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test")
    flow = venue.prepare()
    group = decoded(only_call(flow), sample("account_info"))
    assert group == 0
    ready = outcome(flow, 7)
    assert ready == msgspec.structs.replace(venue, account_group=7)
    assert ready.ready()
    assert not venue.ready()


@pytest.mark.parametrize("start", [VENUE.prepare, lambda: VENUE.open_orders("cash", None)])
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
    flow = VENUE.cancel_all("cash", None, ID)
    ack = decoded(only_call(flow), acknowledgement())
    assert outcome(flow, ack) is ack
    flow = VENUE.cancel_all("cash", None, ID)
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
        next(VENUE.switch("cash", None, 1_000))
    with pytest.raises(ScopeError, match="category"):
        next(VENUE.switch("spot", None, 1_000))


# Scopes


def flows(category: Any, symbol: Any) -> list[Any]:
    """Everything that takes a scope."""
    return [
        VENUE.cancel_all(category, symbol, ID),
        VENUE.open_orders(category, symbol),
        VENUE.switch(category, symbol, 0),
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
    assert call.saying is not None
    message = json.loads(call.saying.encode(Stamp(1)))
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
        next(VENUE.cancel_all("cash", None, request_id))


@given(st.text(max_size=40) | st.from_regex(r"\w[\w-]*\w"))
def test_any_text_is_an_id_or_a_configuration_error(request_id: str) -> None:
    """Exactly the documents' pattern, in ASCII."""
    fine = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*[A-Za-z0-9_]", request_id)
    if fine and len(request_id) <= 32:
        assert json.loads(cancel(request_id=request_id).body)["id"] == request_id
    else:
        with pytest.raises(ConfigurationError):
            cancel(request_id=request_id)


# Acknowledgements


def test_the_documented_ack() -> None:
    """Every field of the mission's page."""
    body = sample("ack_documented")
    call = cancel(request_id=body["data"]["info"]["id"])
    ack = decoded(call, body, stamp=Stamp(1_574_118_495_400))
    assert ack == Ack(
        account_category="cash",
        account_id="cshQtyfq8XLAA9kcf19h8bXHbAwwoqDo",
        action="cancel-all",
        status="Ack",
        symbol="",
        request_id="2bmYvi7lyTrneMzpcJcf2D7Pe9V1P9wy",
        timestamp_ms=1_574_118_495_462,
        raw=json.dumps(body).encode(),
    )


def test_the_live_ack() -> None:
    """Empty strings where nothing was sent: the id is then not known to have been echoed."""
    ack = decoded(cancel(), sample("ack_live"), stamp=Stamp(1_719_608_152_000))
    assert (ack.account_id, ack.request_id) == ("cshV7spM19RCPgezgG4rg2rj3dWuhlv7", "")
    assert (ack.status, ack.timestamp_ms) == ("Ack", 1_719_608_152_101)


def test_the_live_ack_of_futures() -> None:
    """Neither status nor timestamp nor id."""
    ack = decoded(cancel("futures", "BTC-PERP"), sample("ack_futures"))
    assert ack.account_id == "fut2ODPhGiY71Pl4vtXnOZ00ssgD7QGn"
    assert (ack.account_category, ack.symbol, ack.action) == ("futures", "BTC-PERP", "cancel-all")
    assert (ack.request_id, ack.timestamp_ms) == ("", None)


@pytest.mark.parametrize("symbol", [None, "BTC-PERP"])
def test_the_documented_ack_of_futures(symbol: str | None) -> None:
    """`code` alone: nothing is made up beside it."""
    ack = decoded(cancel("futures", symbol), sample("ack_futures_documented"))
    assert (ack.account_category, ack.symbol) == ("futures", symbol or "")
    assert (ack.account_id, ack.request_id, ack.timestamp_ms) == ("", "", None)


@pytest.mark.parametrize("category", SYMBOLS)
@pytest.mark.parametrize("scoped", [False, True], ids=["all", "symbol"])
def test_the_full_shape_in_every_category(category: str, *, scoped: bool) -> None:
    """An Ack of exactly this scope, with unknown fields ignored wherever they stand."""
    symbol = SYMBOLS[category] if scoped else None
    body = acknowledgement(category, symbol, more={"a": [1]}, info_more=None)
    body["more"] = "…"
    ack = decoded(cancel(category, symbol), body)
    assert (ack.account_category, ack.symbol, ack.request_id) == (category, symbol or "", ID)
    assert (ack.account_id, ack.timestamp_ms) == ("csh1", NOW)
    assert ack.raw == json.dumps(body).encode()


def test_category_and_account_may_stand_beside_the_code() -> None:
    """As some of the venue's replies have it."""
    body = acknowledgement(ac=..., accountId=...) | {"ac": "CASH", "accountId": "csh2"}
    assert decoded(cancel(), body).account_id == "csh2"


@pytest.mark.parametrize("category", ["cash", "margin"])
@pytest.mark.parametrize("name", ["ack_futures", "ack_futures_documented"])
def test_only_futures_may_be_terse(category: str, name: str) -> None:
    """Elsewhere, what the documents promise must be there."""
    assert isinstance(decoded(cancel(category), sample(name)), ProtocolError)


NO_ACKS: list[tuple[str, object]] = [
    ("nothing", b""),
    ("blanks", b" \r\n"),
    ("a page", b"<!DOCTYPE html><html><body>Just a moment...</body></html>"),
    ("text", b"OK"),
    ("null", None),
    ("true", True),
    ("a number", 0),
    ("a text", "Ack"),
    ("a list", [acknowledgement()]),
    ("an empty object", {}),
    ("no code", {"data": acknowledgement()["data"]}),
    ("code null", acknowledgement() | {"code": None}),
    ("code false", acknowledgement() | {"code": False}),
    ("code as text", acknowledgement() | {"code": "0"}),
    ("code as float", acknowledgement() | {"code": 0.0}),
    ("no data", {"code": 0}),
    ("data null", {"code": 0, "data": None}),
    ("data empty", {"code": 0, "data": {}}),
    ("data a list", {"code": 0, "data": [acknowledgement()["data"]]}),
    ("data a text", {"code": 0, "data": "Ack"}),
    ("data escaped", {"code": 0, "data": json.dumps(acknowledgement()["data"])}),
    ("truncated", json.dumps(acknowledgement()).encode()[:-1]),
    ("cut in half", json.dumps(acknowledgement()).encode()[:90]),
    ("two replies", json.dumps(acknowledgement()).encode() * 2),
    ("a reply and a page", json.dumps(acknowledgement()).encode() + b"<html>"),
    ("UTF-16", json.dumps(acknowledgement()).encode("utf-16")),
    ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
    ("another action", acknowledgement(action="cancel-order")),
    ("no action", acknowledgement(action=...)),
    ("an empty action", acknowledgement(action="")),
    ("the action of the websocket", acknowledgement(action="cancel-All")),
    ("no status", acknowledgement(status=...)),
    ("an empty status", acknowledgement(status="")),
    ("status null", acknowledgement(status=None)),
    ("status done", acknowledgement(status="DONE")),
    ("status in small letters", acknowledgement(status="ack")),
    ("another category", acknowledgement(ac="MARGIN")),
    ("the category in small letters", acknowledgement(ac="cash")),
    ("no category", acknowledgement(ac=...)),
    ("an empty category", acknowledgement(ac="")),
    ("another symbol", acknowledgement(info_symbol="ETH/USDT")),
    ("no symbol", acknowledgement(info_symbol=...)),
    ("another id", acknowledgement(info_id="fedcba9876543210fedcba9876543210")),
    ("the id in capitals", acknowledgement(info_id=ID.upper())),
    ("the id with a blank", acknowledgement(info_id=f"{ID} ")),
    ("no timestamp", acknowledgement(info_timestamp=...)),
    ("timestamp null", acknowledgement(info_timestamp=None)),
    ("timestamp as text", acknowledgement(info_timestamp=str(NOW))),
    ("timestamp as float", acknowledgement(info_timestamp=NOW + 0.5)),
    ("timestamp true", acknowledgement(info_timestamp=True)),
    ("timestamp in seconds", acknowledgement(info_timestamp=NOW // 1000)),
    ("timestamp zero", acknowledgement(info_timestamp=0)),
    ("timestamp negative", acknowledgement(info_timestamp=-NOW)),
    ("a timestamp before the request", acknowledgement(info_timestamp=NOW - 30_001)),
    ("no info", acknowledgement(info=...)),
    ("info a list", acknowledgement(info=[])),
    ("an order update", {"m": "order", "ac": "CASH", "data": {"st": "Canceled"}}),
    ("an open order listing", sample("open_orders_cash")),
    ("account info", sample("account_info")),
    ("the clock", sample("exchange_info")),
]


@pytest.mark.parametrize("body", [body for _, body in NO_ACKS], ids=[name for name, _ in NO_ACKS])
def test_what_is_no_acknowledgement_is_refused(body: object) -> None:
    """HTTP 200 and no Ack of this request: the outcome is unknown, and the text is one line."""
    error = decoded(cancel(), body)
    assert type(error) is ProtocolError
    assert error.may_have_executed
    assert str(error).isprintable()


WHY_NOT: list[tuple[str, object, str]] = [
    ("cash", {"code": 0}, "it has no data"),
    ("futures", {"code": 0, "info": "In its own words."}, "it has a text of its own"),
    ("cash", acknowledgement(status="DONE"), "it has another status"),
    ("cash", acknowledgement(action="place"), "it has another action"),
    ("cash", acknowledgement(ac="MARGIN"), "it has another account category"),
    ("cash", acknowledgement(info_symbol="ETH/USDT"), "it has another symbol"),
    ("cash", acknowledgement(info_id="another"), "it has the id of another request"),
    ("cash", acknowledgement(info_timestamp=...), "it has no timestamp"),
    ("cash", acknowledgement(info_timestamp=1), "it has a timestamp before the request's"),
]
OUTER: dict[str, dict[str, Any]] = {
    "status": {"status": "DONE"},
    "action": {"action": "place"},
    "ac": {"ac": "MARGIN"},
    "accountId": {"accountId": "another"},
    "symbol": {"info": {"symbol": "ETH/USDT"}},
    "id": {"info": {"id": "another"}},
    "timestamp": {"info": {"timestamp": 1}},
}
WHY_NOT += [
    ("cash", acknowledgement() | outer, f"contradicts itself about its {name}")
    for name, outer in OUTER.items()
]


@pytest.mark.parametrize(("category", "body", "why"), WHY_NOT, ids=[row[2] for row in WHY_NOT])
def test_why_it_is_no_acknowledgement(category: str, body: object, why: str) -> None:
    """The error says what is wrong with it, for whoever has to find out."""
    error = decoded(cancel(category), body)
    assert type(error) is ProtocolError
    assert error.message.endswith(why)


def test_what_the_outer_info_says_counts() -> None:
    """An id and a timestamp may stand there alone."""
    inner = acknowledgement(info_id=..., info_timestamp=...)
    ack = decoded(cancel(), inner | {"info": {"id": ID, "timestamp": NOW}})
    assert (ack.request_id, ack.timestamp_ms) == (ID, NOW)


def test_an_err_that_asks_to_wait_until_a_date() -> None:
    """The date is compared with the venue's time when it was asked."""
    later = reply(
        acknowledgement(status="Err"), Retry_After=formatdate(NOW / 1000 + 60, usegmt=True)
    )
    with pytest.raises(VenueError) as caught:
        cancel().decode(later, STAMP)
    assert caught.value.retry_after == pytest.approx(60, abs=1)


@pytest.mark.parametrize("symbol", ["BTC/USDT", "ETH/USDT"])
@pytest.mark.parametrize("echoed", ["", "BTC/USDT", "ETH/USDT", "btc/usdt", "BTC/USDT "])
def test_the_symbol_that_was_asked_for_and_no_other(symbol: str, echoed: str) -> None:
    """An Ack of another symbol, or of the whole account, is not of this request."""
    result = decoded(cancel("cash", symbol), acknowledgement(info_symbol=echoed))
    assert isinstance(result, Ack if echoed == symbol else ProtocolError)


@pytest.mark.parametrize(
    ("late_ms", "skew_ms", "fine"),
    [(0, 0, True), (1, 0, True), (-1, 0, False), (-1_000, 1_000, True), (-1_001, 1_000, False),
     (-30_000, 30_000, True), (-30_001, 30_000, False), (60_000, 0, True)],
)  # fmt: skip
def test_the_timestamp_is_not_older_than_the_send_less_the_skew(
    late_ms: int, skew_ms: int, *, fine: bool
) -> None:
    """To the millisecond: an older one belongs to an earlier request."""
    body = acknowledgement(info_timestamp=NOW + late_ms, info_id="")
    result = decoded(cancel(), body, stamp=Stamp(NOW, skew_ms=skew_ms))
    assert isinstance(result, Ack if fine else ProtocolError)


@pytest.mark.parametrize(("late_ms", "fine"), [(-1_001, True), (-30_000, True), (-30_001, False)])
def test_with_its_own_id_the_timestamp_may_be_as_old_as_the_window(
    late_ms: int, *, fine: bool
) -> None:
    """The venue's machines, or a clock that has stepped, differ; the id is the request's alone."""
    body = acknowledgement(info_timestamp=NOW + late_ms)
    result = decoded(cancel(), body, stamp=Stamp(NOW, skew_ms=1_000))
    assert isinstance(result, Ack if fine else ProtocolError)


FUTURES_NO_ACKS: list[tuple[str, object]] = [
    ("another category", {"code": 0, "data": {"ac": "CASH", "action": "cancel-all"}}),
    ("another category at the top", {"code": 0, "ac": "CASH"}),
    ("no action", {"code": 0, "data": {"ac": "FUTURES"}}),
    ("another action", {"code": 0, "data": {"ac": "FUTURES", "action": "place-order"}}),
    ("another status", {"code": 0, "data": {"action": "cancel-all", "status": "DONE"}}),
    ("an empty status", {"code": 0, "data": {"action": "cancel-all", "status": ""}}),
    ("data null", {"code": 0, "data": None}),
    ("data empty", {"code": 0, "data": {}}),
    ("another symbol", acknowledgement("futures", "ETH-PERP")),
    ("all symbols", acknowledgement("futures")),
    ("another id", acknowledgement("futures", "BTC-PERP", info_id="another")),
    ("an old timestamp", acknowledgement("futures", "BTC-PERP", info_timestamp=NOW - 30_001)),
    ("the reply to a cancelled order", {"code": 0, "data": {"meta": {"action": "cancel-order"}}}),
    ("a listing", sample("open_orders_futures")),
]


@pytest.mark.parametrize(
    "body", [body for _, body in FUTURES_NO_ACKS], ids=[name for name, _ in FUTURES_NO_ACKS]
)
def test_what_futures_say_is_held_against_the_request(body: object) -> None:
    """Terse is fine; what is there must be right."""
    assert type(decoded(cancel("futures", "BTC-PERP"), body)) is ProtocolError


CONTRADICTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("two categories", "cash", acknowledgement() | {"ac": "MARGIN"}),
    ("two categories, futures", "futures", sample("ack_futures") | {"ac": "CASH"}),
    ("another action at the top", "futures", {"code": 0, "action": "place-order"}),
    ("another status at the top", "futures", {"code": 0, "status": "DONE"}),
    ("another symbol at the top", "futures", {"code": 0, "info": {"symbol": "ETH-PERP"}}),
    (
        "an error code in the info",
        "futures",
        acknowledgement("futures", "BTC-PERP", status=..., info_code=300020),
    ),
    (
        "a reason in the info, as futures put it",
        "futures",
        acknowledgement("futures", "BTC-PERP", status=..., info_reason="TRADING_RESTRICTED"),
    ),
]


@pytest.mark.parametrize(
    ("category", "body"),
    [entry[1:] for entry in CONTRADICTIONS],
    ids=[entry[0] for entry in CONTRADICTIONS],
)
def test_what_contradicts_itself_is_no_acknowledgement(category: str, body: dict[str, Any]) -> None:
    """One part says Ack and another does not: it is not taken for one."""
    symbol = "BTC-PERP" if category == "futures" else None
    assert isinstance(decoded(cancel(category, symbol), body), MassCancelError)


# Refusals

#: The reference page's table of codes, with what it says that a client should do.
ACCOUNT = (AuthenticationError, PermissionDenied)
CODES: list[tuple[int, str, type[VenueError] | tuple[type[VenueError], ...]]] = [
    (100001, "INVALID_HTTP_INPUT", InvalidRequest),
    (100002, "DATA_NOT_AVAILABLE", InvalidRequest),
    (100003, "KEY_CONFLICT", InvalidRequest),
    (100004, "INVALID_REQUEST_DATA", InvalidRequest),
    (100005, "INVALID_WS_REQUEST_DATA", InvalidRequest),
    (100006, "INVALID_ARGUMENT", InvalidRequest),
    (100008, "SYMBOL_ERROR", InvalidRequest),
    (100009, "AUTHORIZATION_NEEDED", AuthenticationError),
    (100010, "INVALID_OPERATION", InvalidRequest),
    (100011, "INVALID_TIMESTAMP", StampRefused),
    (100012, "INVALID_STR_FORMAT", InvalidRequest),
    (100013, "INVALID_NUM_FORMAT", InvalidRequest),
    (100101, "UNKNOWN_ERROR", VenueUnavailable),
    (150001, "INVALID_JSON_FORMAT", InvalidRequest),
    (200001, "AUTHENTICATION_FAILED", AuthenticationError),
    (200002, "TOO_MANY_ATTEMPTS", RateLimited),
    (200003, "ACCOUNT_NOT_FOUND", ACCOUNT),
    (200004, "ACCOUNT_NOT_SETUP", ACCOUNT),
    (200005, "ACCOUNT_ALREADY_EXIST", ACCOUNT),
    (200006, "ACCOUNT_ERROR", ACCOUNT),
    (200010, "PASSWORD_ERROR", ACCOUNT),
    (200014, "RESTRICTED_ACCOUNT", PermissionDenied),
    (200015, "PERMISSION_DENIED", PermissionDenied),
    (300006, "INVALID_ORDER_ID", InvalidRequest),
    (300012, "INVALID_PRODUCT", InvalidRequest),
    (300019, "", InvalidRequest),
    (300020, "TRADING_RESTRICTED", PermissionDenied),
    (300021, "TRADING_DISABLED", PermissionDenied),
    (500000, "", VenueUnavailable),
    (510000, "", VenueUnavailable),
    (510001, "SERVER_ERROR", VenueUnavailable),
    (519999, "", VenueUnavailable),
    (900001, "HUMAN_CHALLENGE", PermissionDenied),
    # no code of the documents', or one of which they say nothing to a client
    (1, "", VenueError),
    (-1, "", VenueError),
    (100000, "", VenueError),
    (300011, "INVALID_BALANCE", VenueError),
    (310001, "INVALID_MARGIN_BALANCE", VenueError),
    (499999, "", VenueError),
    (520000, "", VenueError),
    (900002, "", VenueError),
    (2**70, "", VenueError),
]


def refusals(code: int, reason: str) -> dict[str, object]:
    """The same refusal in each shape that a venue's `no` has."""
    said = {"code": code, "reason": reason, "message": "In its own words."}
    return {
        "bare": said,
        "with Err": said | {"status": "Err", "ac": "CASH", "accountId": "csh1", "info": {"id": ID}},
        "with a list": said | {"status": "Err", "info": [{"code": 300004}]},
        "with data": said | {"data": acknowledgement()["data"]},
        "Err in data": acknowledgement(status="Err", info=said),
    }


@pytest.mark.parametrize(("code", "reason", "kind"), CODES, ids=[str(row[0]) for row in CODES])
@pytest.mark.parametrize("shape", refusals(1, ""))
def test_what_each_code_means(code: int, reason: str, kind: Any, shape: str) -> None:
    """The type by the code, at HTTP 200 too; code, reason and message are kept."""
    error = decoded(cancel(), refusals(code, reason)[shape])
    assert type(error) in (kind if isinstance(kind, tuple) else (kind,))
    assert (error.code, error.reason, error.http_status) == (code, reason, 200)
    assert "In its own words." in str(error)
    assert error.may_have_executed is (type(error) is VenueUnavailable)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize(
    ("code", "kind"),
    [(200001, AuthenticationError), (100011, StampRefused), (510001, VenueUnavailable)],
)
def test_the_code_goes_before_the_http_status(status: int, code: int, kind: type[Any]) -> None:
    """Whatever HTTP status the venue puts its code under."""
    error = decoded(cancel(), {"code": code, "reason": "WHY"}, status=status)
    assert type(error) is kind
    assert error.http_status == status


@pytest.mark.parametrize("where", ["top", "data"])
@pytest.mark.parametrize(
    "said", [{}, {"reason": "WHY"}, {"reason": "WHY", "errorMsg": "In its own words."}]
)
@pytest.mark.parametrize("category", ["cash", "futures"])
def test_an_err_without_a_code_is_a_refusal_still(
    category: str, said: dict[str, str], where: str
) -> None:
    """The venue said no: that is known, and nothing was carried out."""
    error = decoded(
        cancel(category),
        {"code": 0, "status": "Err", **said}
        if where == "top"
        else acknowledgement(category, status="Err", info=said),
    )
    assert isinstance(error, VenueError)
    assert not error.may_have_executed
    assert error.reason == said.get("reason", "")


@pytest.mark.parametrize(
    ("name", "code", "reason", "message"),
    [
        ("error_place_order", 300011, "INVALID_BALANCE", "Not Enough Account Balance"),
        ("error_cancel_order", 300006, "INVALID_ORDER_ID", "Invalid Client Order Id"),
        ("error_batch", 300013, "INVALID_BATCH_ORDER", "Batch Order failed"),
    ],
)
@pytest.mark.parametrize("category", SYMBOLS)
def test_the_documents_own_errors(
    category: str, name: str, code: int, reason: str, message: str
) -> None:
    """Each arrives with HTTP 200, and is a VenueError with what the venue said."""
    error = decoded(cancel(category), sample(name))
    assert isinstance(error, VenueError)
    assert (error.code, error.reason, error.http_status) == (code, reason, 200)
    assert message in str(error)


def test_what_a_refusal_says_in_its_info_is_kept() -> None:
    """Where the top says no more than that it is one; and nothing is made up."""
    info = {"code": 300020, "reason": "TRADING_RESTRICTED", "message": "In its own words."}
    error = decoded(cancel(), {"code": 0, "status": "Err", "info": info})
    assert type(error) is PermissionDenied
    assert (error.code, error.reason, error.message) == tuple(info.values())
    error = decoded(cancel(), {"code": 0, "status": "Err"})
    assert (error.code, error.reason, error.message) == (None, "", "")


PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ProtocolError),
        (307, ProtocolError),
        (400, InvalidRequest),
        (401, AuthenticationError),
        (403, PermissionDenied),
        (404, InvalidRequest),
        (429, RateLimited),
        (500, VenueUnavailable),
        (502, VenueUnavailable),
        (503, VenueUnavailable),
        (520, VenueUnavailable),
        (524, VenueUnavailable),
    ],
)
@pytest.mark.parametrize("body", [PAGE, b"", b"{}", b"[]", acknowledgement(), {"code": 0}])
def test_an_http_error_without_a_code(status: int, kind: type[Any], body: object) -> None:
    """A proxy's page, nothing at all, or even an Ack: the status says what it is."""
    for call in (cancel(), cancel("futures"), only_call(VENUE.open_orders("cash", None))):
        assert type(decoded(call, body, status=status)) is kind


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206])
def test_only_http_200_acknowledges(status: int) -> None:
    """Another 2xx is not what the documents promise."""
    assert type(decoded(cancel(), acknowledgement(), status=status)) is ProtocolError


def test_a_rate_limit_says_how_long_to_wait() -> None:
    """The header counts with the venue's code as without."""
    for body in (PAGE, {"code": 200002, "reason": "TOO_MANY_ATTEMPTS"}):
        with pytest.raises(RateLimited) as caught:
            cancel().decode(reply(body, 429, Retry_After="3"), STAMP)
        assert caught.value.retry_after == 3.0


@pytest.mark.parametrize("body", [PAGE, {"code": 200002}, {"code": 0, "data": {}}])
def test_a_rate_limit_may_name_the_time_to_come_back(body: object) -> None:
    """By the venue's clock, not by this machine's, whatever was asked."""
    until = formatdate(NOW / 1000 + 7, usegmt=True)
    for call in (
        cancel(),
        list_orders(),
        only_call(VENUE.order_states("cash", orders("a1"))),
        only_call(VENUE.prepare()),
    ):
        with pytest.raises(RateLimited) as caught:
            call.decode(reply(body, 429, Retry_After=until), STAMP)
        assert caught.value.retry_after == 7.0
    with pytest.raises(RateLimited):
        VENUE.probe(VENUE.rest_url).decode(reply(body, 429, Retry_After=until))


def test_a_rate_limit_inside_of_a_reply_may_name_it_too() -> None:
    """Its code stands in the info of the data."""
    body = acknowledgement(status="Err", info={"code": 200002})
    until = formatdate(NOW / 1000 + 7, usegmt=True)
    with pytest.raises(RateLimited) as caught:
        cancel().decode(reply(body, Retry_After=until), STAMP)
    assert caught.value.retry_after == 7.0


# The decoder, against anything


def loads(body: bytes) -> Any:
    """JSON, whatever the text in it: it is not looked at where nobody asks for it."""
    return json.loads(body.decode(errors="replace"))


def really_acknowledges(body: bytes, category: str, symbol: str, stamp: Stamp) -> bool:
    """Whether bytes are an Ack of this request: by the reference page, and another parser."""
    try:
        envelope = loads(body)
    except ValueError:
        return False
    if not isinstance(envelope, dict) or envelope.get("status") == "Err":
        return False
    if envelope.get("code") != 0 or type(envelope["code"]) is not int:
        return False
    futures = category == "futures"
    named = {envelope.get("ac")} - {None, ""}
    if "data" not in envelope:
        return (
            futures
            and named <= {"FUTURES"}
            and envelope.get("action") in (None, "cancel-all")
            and envelope.get("status") in (None, "Ack")
        )
    data = envelope["data"]
    if not isinstance(data, dict) or data.get("action") != "cancel-all":
        return False
    info = data.get("info") or {}
    if not isinstance(info, dict):
        return False
    named |= {data.get("ac")} - {None, ""}
    status = data.get("status")
    time = info.get("timestamp")
    return (
        (status == "Ack" or (futures and status is None))
        and (named == {category.upper()} or (futures and not named))
        and (info.get("symbol") == symbol or (futures and info.get("symbol") is None))
        and info.get("id") in (None, "", ID)
        and not info.get("code")
        and not info.get("reason")
        and (type(time) is int or (futures and time is None))
        and (time is None or time >= stamp.time_ms - stamp.skew_ms)
    )


def check_decoded(body: bytes, category: str, symbol: str | None) -> None:
    """An Ack of exactly this request, or one of our errors; and an Ack only if it really is one."""
    result = decoded(cancel(category, symbol), body)
    if isinstance(result, Ack):
        assert really_acknowledges(body, category, symbol or "", STAMP)
        assert (result.account_category, result.symbol) == (category, symbol or "")
        assert result.request_id in ("", ID)
        assert result.raw == body
    else:
        assert isinstance(result, VenueError | ProtocolError)
        assert str(result)


scopes = st.sampled_from(
    [("cash", None), ("cash", "BTC/USDT"), ("margin", "BTC/USDT"), ("futures", None),
     ("futures", "BTC-PERP")]
)  # fmt: skip
good_bodies = st.builds(lambda scope: json.dumps(acknowledgement(*scope)).encode(), scopes)


@given(scope=scopes, body=st.binary())
def test_any_bytes_are_refused(scope: tuple[str, str | None], body: bytes) -> None:
    """Nothing but our errors comes out of noise."""
    check_decoded(body, *scope)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@given(scope=scopes, value=json_values)
def test_any_json_is_refused(scope: tuple[str, str | None], value: object) -> None:
    """As `code`'s neighbour, as `data`, as `info`, as the whole."""
    for body in (value, {"code": 0, "data": value}, acknowledgement(*scope, info=value)):
        check_decoded(json.dumps(body).encode(), *scope)


@given(scope=scopes, body=good_bodies, edits=st.data())
def test_mutated_bytes(scope: tuple[str, str | None], body: bytes, edits: st.DataObject) -> None:
    """Bytes of a good reply are dropped, replaced, inserted, doubled; or it is cut short."""
    for _ in range(edits.draw(st.integers(1, 3))):
        start = edits.draw(st.integers(0, len(body)))
        stop = edits.draw(st.integers(start, min(len(body), start + 4)))
        body = body[:start] + edits.draw(st.binary(max_size=4)) + body[stop:]
    check_decoded(body, *scope)


@given(scope=scopes, body=good_bodies, length=st.integers(0, 300))
def test_a_truncated_reply(scope: tuple[str, str | None], body: bytes, length: int) -> None:
    """Cut anywhere, it is no Ack; whole, it is one if it is of this scope."""
    check_decoded(body[:length], *scope)
    if length < len(body):
        assert type(decoded(cancel(*scope), body[:length])) is ProtocolError


REMOVED = object()
values = st.sampled_from(
    [REMOVED, None, True, False, 0, 1, -1, 0.0, "", "0", "Ack", "ACK", "Err", "DONE", "CASH",
     "cash", "MARGIN", "FUTURES", "cancel-all",
     "cancel-order", "BTC/USDT", "ETH/USDT", "BTC-PERP", ID,
     ID[:-1], 200001, 510001, NOW, NOW + 5, NOW - 1_000, NOW - 1_001, 2**64, [], {}, {"id": ID}]
)  # fmt: skip
places = st.sampled_from(
    [("code",), ("status",), ("ac",), ("accountId",), ("reason",), ("message",), ("data",),
     ("data", "ac"), ("data", "accountId"), ("data", "action"), ("data", "status"),
     ("data", "info"), ("data", "code"), ("data", "info", "id"), ("data", "info", "symbol"),
     ("data", "info", "timestamp"), ("data", "info", "code"), ("data", "info", "reason")]
)  # fmt: skip


@given(asked=scopes, answered=scopes, edits=st.lists(st.tuples(places, values), max_size=3))
def test_mutated_fields(asked: Any, answered: Any, edits: list[Any]) -> None:
    """Fields of a good reply, to this or another request, are changed, added or removed."""
    body: Any = copy.deepcopy(acknowledgement(*answered))
    for place, value in edits:
        part = body
        for key in place[:-1]:
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict):
            part[place[-1]] = copy.deepcopy(value)
            if value is REMOVED:
                del part[place[-1]]
    check_decoded(json.dumps(body).encode(), *asked)


# Listings


def listing(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A listing of these rows, each the documents' own with changes."""
    row = sample("open_orders_cash")["data"][0]
    return {"code": 0, "ac": "CASH", "data": [row | changes for changes in rows], **more}


def list_orders(category: str = "cash", symbol: str | None = None) -> Call[Any]:
    """The call that lists this scope."""
    return only_call(VENUE.open_orders(category, symbol))


def test_the_documented_listing() -> None:
    """Prices and quantities are exact."""
    assert decoded(list_orders(), sample("open_orders_cash")) == [
        OpenOrder(
            order_id="s16ef21882ea0866943712034f36d83",
            symbol="BTC/USDT",
            side="buy",
            price=Decimal(7105),
            quantity=Decimal("0.0083"),
            filled_quantity=Decimal(0),
            order_type="Limit",
            status="New",
        )
    ]


def test_the_documented_listing_of_futures() -> None:
    """Another set of fields, the same order."""
    (order,) = decoded(list_orders("futures", "BTC-PERP"), sample("open_orders_futures"))
    assert (order.symbol, order.side, order.price) == ("BTC-PERP", "buy", Decimal(9500))
    assert (order.quantity, order.filled_quantity) == (Decimal("0.1"), Decimal(0))


def test_rows_keep_their_order_and_their_sides() -> None:
    """Every row is a row, in the venue's order, also twice the same."""
    rows: list[dict[str, Any]] = [
        {"orderId": "1", "side": "Sell", "cumFilledQty": "0.001", "status": "PartiallyFilled"},
        {"orderId": "2", "symbol": "ETH/USDT", "price": "", "orderType": "StopMarket"},
        {"orderId": "2", "symbol": "ETH/USDT", "price": None},
    ]
    first, second, third = decoded(list_orders(), listing(*rows))
    assert (first.order_id, first.side, first.status) == ("1", "sell", "PartiallyFilled")
    assert first.filled_quantity == Decimal("0.001")
    assert (second.symbol, second.price, second.order_type) == ("ETH/USDT", 0, "StopMarket")
    assert (third.order_id, third.price) == ("2", 0)


def test_an_empty_listing_is_empty() -> None:
    """And it takes an explicit empty list to be one."""
    assert decoded(list_orders(), {"code": 0, "data": []}) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        PAGE,
        {},
        {"code": 0},
        {"code": 0, "data": None},
        {"code": 0, "data": {}},
        {"code": 0, "data": ""},
        {"code": 0, "data": [None]},
        {"code": 0, "data": [[]]},
        {"code": 0, "data": [{}]},
        {"data": []},
        listing(ac="MARGIN"),
        listing({"orderId": None}),
        listing({"orderId": 5}),
        listing({"symbol": None}),
        listing({"side": "Hold"}),
        listing({"side": "\x1b[2J"}),
        listing({"side": None}),
        listing({"orderQty": None}),
        listing({"orderQty": "many"}),
        listing({"orderQty": "NaN"}),
        listing({"price": "Infinity"}),
        listing({"cumFilledQty": "x"}),
        listing({"price": 7105}),
        json.dumps(listing({})).encode()[:-1],
        acknowledgement(),
        sample("account_info"),
    ],
    ids=lambda body: (body if isinstance(body, bytes) else json.dumps(body).encode())[:40],
)
def test_what_is_no_listing_is_never_an_empty_one(body: object) -> None:
    """A listing that can't be read is not "no open orders"."""
    error = decoded(list_orders(), body)
    assert type(error) is ProtocolError
    assert str(error).isprintable()


def test_a_listing_of_one_symbol_holds_no_other() -> None:
    """A venue that ignored the filter answered another question."""
    body = listing({}, {"symbol": "ETH/USDT"})
    assert len(decoded(list_orders(), body)) == 2
    error = decoded(list_orders("cash", "BTC/USDT"), body)
    assert type(error) is ProtocolError
    assert error.message == "the reply lists other symbols than 'BTC/USDT'"


def test_a_listing_of_another_category_says_so() -> None:
    """It answers another question."""
    error = decoded(list_orders(), listing(ac="MARGIN"))
    assert type(error) is ProtocolError
    assert error.message == "the reply lists the account category 'MARGIN'"


@pytest.mark.parametrize("code", [200001, 200015, 510001, 999999])
def test_a_refused_listing_is_an_error(code: int) -> None:
    """With HTTP 200 and even with an empty list beside it."""
    error = decoded(list_orders(), {"code": code, "reason": "WHY", "data": []})
    assert isinstance(error, VenueError)
    assert (error.code, error.reason) == (code, "WHY")


@given(st.binary() | json_values.map(lambda value: json.dumps({"code": 0, "data": value}).encode()))
def test_any_bytes_are_a_listing_or_one_of_our_errors(body: bytes) -> None:
    """Only a reply with a list has orders, as many as it has rows."""
    result = decoded(list_orders(), body)
    if isinstance(result, list):
        assert len(loads(body)["data"]) == len(result)
    else:
        assert isinstance(result, VenueError | ProtocolError)


@given(edits=st.data(), rows=st.integers(0, 3))
def test_a_mutated_listing_loses_no_order(edits: st.DataObject, rows: int) -> None:
    """Whatever bytes are changed: as many orders as rows, with their ids, or an error."""
    body = json.dumps(listing(*({"orderId": str(number)} for number in range(rows)))).encode()
    start = edits.draw(st.integers(0, len(body)))
    stop = edits.draw(st.integers(start, min(len(body), start + 4)))
    body = body[:start] + edits.draw(st.binary(max_size=4)) + body[stop:]
    result = decoded(list_orders(), body)
    if isinstance(result, list):
        listed = [row["orderId"] for row in loads(body)["data"]]
        assert [order.order_id for order in result] == listed
    else:
        assert isinstance(result, VenueError | ProtocolError)


# What became of orders


def orders(*ids: str) -> list[OpenOrder]:
    """Open orders with these ids."""
    (order,) = list_orders().decode(reply(sample("open_orders_cash")), STAMP)
    return [msgspec.structs.replace(order, order_id=each) for each in ids]


@pytest.mark.parametrize(("category", "path", "api_path"), REQUESTS)
def test_the_request_of_order_states(category: str, path: str, api_path: str) -> None:
    """A GET with the ids in the query, escaped, not signed."""
    call = only_call(VENUE.order_states(category, orders("a1", "b/2&c")))
    assert (call.method, call.acts) == ("GET", False)
    assert call.path == f"/6/api/pro/{path}/status?orderId=a1,b%2F2%26c"
    check_signed(call.sign(call, CREDENTIALS, STAMP), f"{api_path}/status", STAMP)


def test_many_orders_are_asked_about_in_parts() -> None:
    """None twice, none left out; the parts may be in flight together."""
    ids = [f"id{number}" for number in range(45)]
    flow = VENUE.order_states("cash", orders(*ids))
    calls = next(flow)
    asked = [call.path.partition("?orderId=")[2].split(",") for call in calls]
    assert [each for part in asked for each in part] == ids
    assert len(calls) > 1
    assert max(len(call.path) for call in calls) < 2_000
    states = outcome_of_many(flow, [dict.fromkeys(part, "filled") for part in asked])
    assert states == dict.fromkeys(ids, "filled")


def outcome_of_many(flow: Generator[Any, Any, Any], results: list[Any]) -> Any:
    """What a flow returns once its calls have these results."""
    with pytest.raises(StopIteration) as stop:
        flow.send(results)
    return stop.value.value


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("New", "open"),
        ("PartiallyFilled", "open"),
        ("Filled", "filled"),
        ("Canceled", "cancelled"),
        ("Rejected", "rejected"),
        ("Something new", "open"),
    ],
)
def test_what_a_status_says(status: str, state: str) -> None:
    """One id is answered with an object, several with a list; an unknown status is not flat."""
    row = sample("open_orders_cash")["data"][0] | {"orderId": "a1", "status": status}
    call = only_call(VENUE.order_states("cash", orders("a1")))
    assert decoded(call, {"code": 0, "ac": "CASH", "data": row}) == {"a1": state}
    assert decoded(call, {"code": 0, "ac": "CASH", "data": [row]}) == {"a1": state}
    assert type(decoded(call, {"code": 0, "ac": "MARGIN", "data": row})) is ProtocolError
    assert type(decoded(call, {"code": 0})) is ProtocolError
    assert type(decoded(call, {"code": 300006})) is InvalidRequest


# The account group, the clock


@pytest.mark.parametrize(
    ("group", "value"), [(0, 0), (6, 6), ("6", 6), ("0", 0), (123456789, 123456789)]
)
def test_the_group_in_the_account_info(group: object, value: int) -> None:
    """As a number, or as digits."""
    body = {"code": 0, "data": {"accountGroup": group, "email": "someone@venue.test"}}
    assert decoded(only_call(VENUE.prepare()), body) == value


@pytest.mark.parametrize(
    "group",
    [None, "", " 6", "6 ", "-1", -1, True, 6.5, "six", "6/../7", "../6", "6?x", "²", "٣", [6], {},
     "9" * 5_000],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_what_is_no_group_is_refused(group: object) -> None:
    """It will stand in the path of every URL: digits, and nothing that resembles them."""
    body = {"code": 0, "data": {"accountGroup": group}}
    assert type(decoded(only_call(VENUE.prepare()), body)) is ProtocolError


def test_a_refused_account_info_is_an_error() -> None:
    """A wrong secret shows when the client is entered."""
    error = decoded(only_call(VENUE.prepare()), {"code": 200001, "reason": "AUTHENTICATION_FAILED"})
    assert type(error) is AuthenticationError


@given(
    st.binary()
    | json_values.map(lambda v: json.dumps({"code": 0, "data": v}).encode())
    | json_values.map(
        lambda v: json.dumps(
            {"code": 0, "data": {"accountGroup": v, "requestReceiveAt": v}}
        ).encode()
    )
)
def test_any_bytes_are_a_group_and_a_clock_or_one_of_our_errors(body: bytes) -> None:
    """Nothing else comes out, and a group is never negative."""
    group = decoded(only_call(VENUE.prepare()), body)
    assert isinstance(group, MassCancelError) or (type(group) is int and group >= 0)
    try:
        clock = VENUE.probe(VENUE.rest_url).decode(reply(body))
    except MassCancelError:
        return
    assert type(clock) is int


@pytest.mark.parametrize(
    "body",
    [
        b"",
        PAGE,
        {"code": 0},
        {"code": 0, "data": {}},
        {"code": 0, "data": {"requestReceiveAt": None}},
        {"code": 0, "data": {"requestReceiveAt": "1640052379063"}},
        {"code": 100001, "reason": "INVALID_HTTP_INPUT"},
    ],
)
def test_what_tells_no_time_is_refused(body: object) -> None:
    """The clock stays as it was measured before."""
    with pytest.raises((ProtocolError, VenueError)):
        VENUE.probe(VENUE.rest_url).decode(reply(body))
