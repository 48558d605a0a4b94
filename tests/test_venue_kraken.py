"""Kraken: published vectors, sample replies, ccxt's requests, flows by hand, and end to end."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from masscancel import (
    Ack,
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    InvalidRequest,
    MassCancelError,
    OpenOrder,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    ScopeError,
    SessionPool,
    Target,
    VenueError,
    VenueUnavailable,
    cancel_many,
)
from masscancel.errors import StampRefused
from masscancel.sim import HELD, Account, Answer, Delay, EffectDelay, Hold, SimulatedExchange
from masscancel.sim.dialect import Moment, Router
from masscancel.sim.dialect import Request as SimRequest
from masscancel.sim.engine import Engine
from masscancel.sim.kraken import PAIRS, KrakenDialect
from masscancel.venue import Call, Flow, Reply, Request, Stamp
from masscancel.venues.kraken import Kraken, futures, spot

DATA = Path(__file__).parent / "data" / "kraken"
VECTORS = json.loads((DATA / "vectors.json").read_bytes())
CCXT = json.loads((DATA / "ccxt_requests.json").read_bytes())
NOW = 1616492376594
STAMP = Stamp(NOW, nonce=NOW)
SECRET = CCXT["secret_b64"]
KEYS = Credentials("key", SECRET)
VENUE = Kraken()
BTC = "XBTUSD"
PERP = "PF_XBTUSD"
IDS = ["OQCLML-BW3P3-BUCMWZ", "OB5VMB-B4U2U-DK2WRW"]
UNKNOWN_ORDER = {"error": ["EOrder:Unknown order"]}


def sample(name: str) -> bytes:
    """A reply of the documents."""
    return (DATA / f"{name}.json").read_bytes()


def reply(value: Any, status: int = 200, **headers: str) -> Reply:
    """A reply with that JSON, or those bytes."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Reply(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def result(value: Any) -> dict[str, Any]:
    """A successful reply of spot."""
    return {"error": [], "result": value}


def order(pair: str = BTC, **descr: str) -> dict[str, Any]:
    """A row of spot's listing."""
    about = {"pair": pair, "type": "buy", "ordertype": "limit", "price": "1", "price2": "0"}
    return {"status": "open", "descr": about | descr, "vol": "2", "vol_exec": "0.5"}


def listing(*pairs: str) -> dict[str, Any]:
    """A listing of spot with an order of each pair, ids O0, O1 and so on."""
    return result({"open": {f"O{n}": order(pair) for n, pair in enumerate(pairs)}})


def decoded(call: Call[Any], answer: Reply) -> Any:
    """A call's value, or its error."""
    try:
        return call.decode(answer, STAMP)
    except MassCancelError as error:
        return error


def signed(call: Call[Any], stamp: Stamp = STAMP) -> Request:
    """The request that a call becomes."""
    return call.sign(call, KEYS, stamp)


def asked(call: Call[Any]) -> str:
    """What a call asks for, in short: its path's last part, its query and body, no nonce."""
    request = signed(call)
    body = request.body.replace(b"nonce=%d" % NOW, b"").replace(b'"nonce":"%d",' % NOW, b"")
    return f"{request.target.rpartition('/')[2]} {body.decode().lstrip('&')}".strip()


class Talk:
    """A flow that is answered by hand; remembers what it asked, round by round."""

    def __init__(self, flow: Flow[Any]) -> None:
        self.flow = flow
        self.rounds: list[list[str]] = []
        self.value: Any = None
        self._calls: Sequence[Call[Any]] = ()
        self._step(lambda: next(flow))

    def answer(self, *answers: Any) -> "Talk":
        """Answer the calls of one round: with JSON, bytes, a reply, or an error as it is."""
        results = [
            answer
            if isinstance(answer, MassCancelError)
            else decoded(call, answer if isinstance(answer, Reply) else reply(answer))
            for call, answer in zip(self._calls, answers, strict=True)
        ]
        self._step(lambda: self.flow.send(results))
        return self

    def _step(self, step: Any) -> None:
        self._calls = ()
        try:
            self._calls = step()
        except StopIteration as stop:
            self.value = stop.value
        else:
            self.rounds.append([asked(call) for call in self._calls])


def cancel(category: str = "spot", symbol: str | None = None) -> Talk:
    """A cancel-all that has begun."""
    return Talk(VENUE.cancel_all(category, symbol, None))


def listed(category: str = "spot", symbol: str | None = None) -> Talk:
    """A listing that has begun."""
    return Talk(VENUE.open_orders(category, symbol))


# --- settings -------------------------------------------------------------------------------------


def test_default_hosts() -> None:
    """Each category has a host of its own, which is one argument away from another."""
    assert VENUE.origin("spot") == "https://api.kraken.com"
    assert VENUE.origin("futures") == "https://futures.kraken.com"
    assert Kraken(futures_url="https://host:8443/").origin("futures") == "https://host:8443"
    assert VENUE.ready()


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


def test_nothing_has_to_be_found_out() -> None:
    """Preparing asks nothing."""
    assert Talk(VENUE.prepare()).value is VENUE


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
    for flow in (VENUE.cancel_all(category, symbol, None), VENUE.open_orders(category, symbol)):
        with pytest.raises(ScopeError):
            next(flow)


@given(st.sampled_from(["spot", "futures"]), st.text(max_size=80))
def test_what_gets_into_a_request_is_a_symbol(category: str, symbol: str) -> None:
    """Any text is refused, or asked for as it is, and as nothing else."""
    try:
        calls = next(VENUE.cancel_all(category, symbol, None))
    except ScopeError:
        return
    query = parse_qs(urlsplit(calls[-1].path).query)
    name = {"spot": "pair", "futures": "symbol"}[category]
    if category == "spot" and "/" not in symbol:
        assert query == {}
    else:
        assert query == {name: [symbol if category == "spot" else symbol.upper()]}


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
    (call,) = next(VENUE.cancel_all(category, None, None))
    with pytest.raises(ConfigurationError, match="base64") as caught:
        call.sign(call, Credentials("key", secret), STAMP)
    assert secret not in caught.value.message
    assert caught.value.__context__ is None


def test_a_nonce_does_not_expire() -> None:
    """Neither side says until when a request could be carried out."""
    for category in VENUE.abilities:
        (call,) = next(VENUE.cancel_all(category, None, None))
        assert signed(call).expires_at_ms is None


def test_futures_send_no_nonce() -> None:
    """It is optional there; without one the order of arrival does not matter."""
    (call,) = next(VENUE.cancel_all("futures", None, None))
    assert call.nonces_per_second == 0
    assert "Nonce" not in signed(call).headers


def test_no_repr_shows_what_was_signed() -> None:
    """Neither of a call nor of a request."""
    for category in VENUE.abilities:
        (call,) = next(VENUE.cancel_all(category, None, None))
        shown = repr(call) + repr(signed(call))
        assert not any(value in shown for value in (SECRET, *signed(call).headers.values()))


# --- the requests of ccxt -------------------------------------------------------------------------


def first(flow: Flow[Any], *answers: Any) -> Call[Any]:
    """The first call of the round that follows these answers, one to a round."""
    calls = next(flow)
    for answer in answers:
        calls = flow.send([decoded(calls[0], reply(answer))])
    return calls[0]


def of_ids(*ids: str) -> Call[Any]:
    """The first call after a listing of these orders."""
    rows = {order_id: order() for order_id in ids}
    return first(VENUE.cancel_all("spot", BTC, None), result({"open": rows}))


def clock(category: str) -> tuple[str, str]:
    """Method and URL of a probe."""
    probe = VENUE.probe(VENUE.origin(category))
    return probe.request(NOW).method, probe.origin + probe.request(NOW).target


AS_CCXT: list[tuple[str, Call[Any]]] = [
    ("kraken.cancel_all_orders()", first(VENUE.cancel_all("spot", None, None))),
    ("kraken.cancel_orders([2 ids])", of_ids(*IDS)),
    ("kraken.cancel_order(id)", of_ids(IDS[0])),
    ("kraken.fetch_open_orders()", first(VENUE.open_orders("spot", None))),
    ("kraken.fetch_open_orders('BTC/USD')", first(VENUE.open_orders("spot", BTC))),
    ("kraken.cancel_all_orders_after(60000)", first(VENUE.switch("spot", None, 60_000))),
    ("kraken.cancel_all_orders_after(0)", first(VENUE.switch("spot", None, 0))),
    (
        "kraken.publicGetAssetPairs({'pair':'XBTUSD'})",
        first(VENUE.open_orders("spot", BTC), listing()),
    ),
    ("krakenfutures.cancel_all_orders()", first(VENUE.cancel_all("futures", None, None))),
    (
        "krakenfutures.cancel_all_orders('BTC/USD:USD')",
        first(VENUE.cancel_all("futures", PERP, None)),
    ),
    ("krakenfutures.fetch_open_orders()", first(VENUE.open_orders("futures", None))),
    ("krakenfutures.cancel_all_orders_after(60000)", first(VENUE.switch("futures", None, 60_000))),
    ("krakenfutures.cancel_all_orders_after(0)", first(VENUE.switch("futures", None, 0))),
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


# --- sample replies -------------------------------------------------------------------------------


def test_spot_cancel_all() -> None:
    """The sample tells a count, and nothing else."""
    talk = cancel().answer(sample("spot_cancel_all"))
    assert talk.rounds == [["CancelAll"]]
    assert talk.value == Ack(
        account_category="spot", status="count 4", raw=sample("spot_cancel_all")
    )


def test_spot_says_that_orders_are_pending_cancellation() -> None:
    """Then the status does."""
    assert cancel().answer(result({"count": 2, "pending": True})).value.status == "count 2, pending"


def test_spot_open_orders() -> None:
    """The price is the limit, not the average; names are the pair's altname."""
    orders = listed().answer(sample("spot_open_orders")).value
    assert [o.order_id for o in orders] == IDS
    assert orders[0] == OpenOrder(
        order_id=IDS[0],
        symbol="XBTUSD",
        side="buy",
        price=Decimal("30010.0"),
        quantity=Decimal("1.25"),
        filled_quantity=Decimal("0.375"),
        order_type="limit",
        status="open",
    )


@pytest.mark.parametrize(
    ("descr", "price"),
    [
        ({"ordertype": "limit", "price": "5"}, "5"),
        ({"ordertype": "stop-loss", "price": "5"}, "0"),
        ({"ordertype": "market", "price": "0"}, "0"),
        ({"ordertype": "stop-loss-limit", "price": "5", "price2": "6.5"}, "6.5"),
        ({"ordertype": "take-profit-limit", "price": "5", "price2": "#1%"}, "0"),
        ({"ordertype": "trailing-stop-limit", "price": "+5%", "price2": "+1"}, "0"),
    ],
)
def test_the_limit_price_of_each_type(descr: dict[str, str], price: str) -> None:
    """A trigger is no limit, and a limit that is relative to one is not known yet."""
    (one,) = listed().answer(result({"open": {"O": order(**descr)}})).value
    assert one.price == Decimal(price)


def test_spot_numbers_may_come_as_numbers() -> None:
    """They are documented as text; a listing is not to fail over that."""
    row = order() | {"vol": 2, "vol_exec": 0.5}
    row["descr"] |= {"price": 30010}
    (one,) = listed().answer(result({"open": {"O": row}})).value
    assert (one.price, one.quantity, one.filled_quantity) == (30010, 2, Decimal("0.5"))


@pytest.mark.parametrize("row", [order(type="hold"), order() | {"vol": "much"}])
def test_spot_rows_that_make_no_sense(row: dict[str, Any]) -> None:
    """They can't be listed; they can be cancelled, which needs their ids only."""
    with pytest.raises(ProtocolError):
        listed().answer(result({"open": {"O0": row}}))
    talk = cancel("spot", BTC).answer(result({"open": {"O0": row}}))
    assert talk.rounds[1:] == [["CancelOrder txid=O0"]]


def test_futures_cancel_all() -> None:
    """The sample tells what was cancelled, and when the request was received."""
    talk = cancel("futures").answer(sample("futures_cancel_all"))
    assert talk.rounds == [["cancelallorders"]]
    assert talk.value == Ack(
        account_category="futures",
        status="cancelled",
        timestamp_ms=1564675057518,
        raw=sample("futures_cancel_all"),
    )
    assert cancel("futures").answer(sample("futures_cancel_all_with_stop")).value.status


def test_futures_open_orders() -> None:
    """The whole size is what is filled and what is not."""
    orders = listed("futures").answer(sample("futures_open_orders")).value
    assert len(orders) == 7
    assert orders[0] == OpenOrder(
        order_id="59302619-41d2-4f0b-941f-7e7914760ad3",
        symbol="PI_XBTUSD",
        side="sell",
        price=Decimal(10640),
        quantity=Decimal(304),
        filled_quantity=Decimal(0),
        order_type="lmt",
        status="untouched",
    )


def test_futures_stop_orders_are_listed() -> None:
    """A stop has no limit price; its contract may be spelled in lower case."""
    (stop,) = listed("futures", "FI_XBTUSD_230728").answer(sample("futures_open_orders_stop")).value
    assert (stop.order_type, stop.price, stop.quantity) == ("stop", 0, 1)


@pytest.mark.parametrize(
    "row",
    [
        {"side": "hold"},
        {"filledSize": "NaN"},
        {"unfilledSize": "1e999999"},
        {"limitPrice": "1e-999999"},
    ],
)
def test_futures_rows_that_make_no_sense(row: dict[str, Any]) -> None:
    """They are an error of ours, whatever the numbers."""
    whole = {"order_id": "x", "symbol": PERP, "side": "buy", "filledSize": 1, "unfilledSize": 1}
    with pytest.raises(ProtocolError):
        listed("futures").answer({"result": "success", "openOrders": [whole | row]})


@pytest.mark.parametrize(
    ("category", "body", "at_ms"),
    [
        ("spot", sample("spot_time"), 1688669448000),
        ("futures", sample("futures_instruments"), 1656408544243),
        ("futures", sample("futures_error_api_limit"), 1456393553818),
        ("futures", b'{"serverTime": "2016-02-25T09:45:53.818"}', 1456393553818),
    ],
)
def test_each_host_has_a_clock(category: str, body: bytes, at_ms: int) -> None:
    """Spot counts seconds; futures tell the time even with an error."""
    assert VENUE.probe(VENUE.origin(category)).decode(reply(body)) == at_ms


@pytest.mark.parametrize("category", ["spot", "futures"])
def test_what_is_no_clock_is_refused(category: str) -> None:
    """A reply without a time, or with what is none."""
    bodies: list[Any] = [{}, {"error": [], "result": {}}, {"serverTime": "noon"}]
    for body in bodies:
        with pytest.raises(ProtocolError):
            VENUE.probe(VENUE.origin(category)).decode(reply(body))


# --- errors ---------------------------------------------------------------------------------------

SPOT_ERRORS: list[tuple[str, type[VenueError], bool]] = [
    ("EAPI:Invalid key", AuthenticationError, False),
    ("EAPI:Invalid signature", AuthenticationError, False),
    ("EAPI:Invalid nonce", StampRefused, False),
    ("EAPI:Rate limit exceeded", RateLimited, False),
    ("EAPI:Bad request", InvalidRequest, False),
    ("EAccount:Invalid permissions", PermissionDenied, False),
    ("EAuth:Account temporary disabled", PermissionDenied, False),
    ("EAuth:Account unconfirmed", PermissionDenied, False),
    ("EAuth:Rate limit exceeded", RateLimited, False),
    ("EAuth:Too many requests", RateLimited, False),
    ("EDatabase:Internal error", VenueUnavailable, True),
    ("EGeneral:Internal error", VenueUnavailable, True),
    ("EGeneral:Internal error:5", VenueUnavailable, True),
    ("EGeneral:Invalid arguments", InvalidRequest, False),
    ("EGeneral:Invalid arguments:Index unavailable", InvalidRequest, False),
    ("EGeneral:Permission denied", PermissionDenied, False),
    ("EGeneral:Temporary lockout", RateLimited, False),
    ("EGeneral:Too many requests", RateLimited, False),
    ("EGeneral:Unknown method", InvalidRequest, False),
    ("EOrder:Domain rate limit exceeded", RateLimited, False),
    ("EOrder:Rate limit exceeded", RateLimited, False),
    ("EQuery:Unknown asset pair", InvalidRequest, False),
    ("EService:Busy", VenueUnavailable, True),
    ("EService:Deadline elapsed", VenueUnavailable, True),
    ("EService:Market in cancel_only mode", VenueUnavailable, True),
    ("EService:Timeout", VenueUnavailable, True),
    ("EService:Unavailable", VenueUnavailable, True),
    ("EService: Throttled: 1616492380", RateLimited, False),
    ("ESession:Invalid session", AuthenticationError, False),
    ("ETrade:Invalid request", InvalidRequest, False),
    ("ETrade:User Locked", PermissionDenied, False),
    ("EOrder:Unknown order", VenueError, True),
    ("EWeather:Rain", VenueError, True),
]
FUTURES_ERRORS: list[tuple[str, type[VenueError], bool]] = [
    ("accountInactive", PermissionDenied, False),
    ("apiLimitExceeded", RateLimited, False),
    ("authenticationError", AuthenticationError, False),
    ("contractNotFound", InvalidRequest, False),
    ("insufficientPrivileges", PermissionDenied, False),
    ("invalidAccount", PermissionDenied, False),
    ("invalidAmount", InvalidRequest, False),
    ("invalidArgument", InvalidRequest, False),
    ("invalidArgument: symbol", InvalidRequest, False),
    ("invalidUnit", InvalidRequest, False),
    ("Json Parse Error", InvalidRequest, False),
    ("marketUnavailable", VenueUnavailable, True),
    ("nonceBelowThreshold", StampRefused, False),
    ("nonceDuplicate", StampRefused, False),
    ("notFound", InvalidRequest, False),
    ("requiredArgumentMissing", InvalidRequest, False),
    ("Server Error", VenueUnavailable, True),
    ("Unavailable", VenueUnavailable, True),
    ("unknownError", VenueUnavailable, True),
    ("itRains", VenueError, True),
]


def refused(category: str, value: Any, status: int = 200, **headers: str) -> Any:
    """The error that a cancel-all ends with when it is answered so."""
    with pytest.raises(MassCancelError) as caught:
        cancel(category).answer(reply(value, status, **headers))
    return caught.value


@pytest.mark.parametrize(("text", "kind", "executed"), SPOT_ERRORS)
def test_every_error_of_spot_has_its_meaning(
    text: str, kind: type[VenueError], *, executed: bool
) -> None:
    """Errors come in a list, at HTTP 200; what nobody knows may mean that it was done."""
    error = refused("spot", {"error": [text]})
    assert type(error) is kind
    assert error.may_have_executed is executed
    assert text.replace(": ", ":") in str(error)
    assert str(error.code) in text.replace(": ", ":")


@pytest.mark.parametrize(("text", "kind", "executed"), FUTURES_ERRORS)
def test_every_error_of_futures_has_its_meaning(
    text: str, kind: type[VenueError], *, executed: bool
) -> None:
    """Alone, and in a list; what nobody knows may mean that it was done."""
    for body in ({"error": text}, {"errors": [text]}):
        error = refused("futures", {"result": "error"} | body)
        assert type(error) is kind
        assert error.may_have_executed is executed
        assert error.code == text


def test_samples_of_refusals() -> None:
    """Those of the documents."""
    assert type(refused("spot", sample("spot_error_invalid_key"))) is AuthenticationError
    assert type(refused("futures", sample("futures_error_api_limit"))) is RateLimited


def test_futures_errors_with_numbers() -> None:
    """The parser's refusals have a code and a message; so has what no page mentions."""
    error = refused(
        "futures", {"result": "error", "errors": [{"code": 11, "message": "Bad Request"}]}
    )
    assert (type(error), error.code, error.message) == (InvalidRequest, 11, "Bad Request")
    error = refused("futures", {"result": "error", "errors": [{"message": "no"}]})
    assert (type(error), error.code) == (VenueError, "no")
    error = refused("futures", {"result": "error"})
    assert (type(error), error.code) == (VenueError, "result error")


def test_of_several_errors_the_one_that_leaves_most_open() -> None:
    """A refusal beside a failure does not say that nothing was done."""
    error = refused("spot", {"error": ["EGeneral:Invalid arguments", "EService:Busy"]})
    assert type(error) is VenueUnavailable
    assert error.message == "EGeneral:Invalid arguments; EService:Busy"


def test_a_warning_is_no_error() -> None:
    """A text that begins with W stands beside a result."""
    assert cancel().answer({"error": ["WGeneral:Soon"], "result": {"count": 1}}).value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("EService:Throttled: 1616492380", 3.406),
        ("EService:Throttled:1616492000", 0.0),
        ("EService:Throttled", None),
        ("EAPI:Rate limit exceeded", None),
        ("EGeneral:Temporary lockout", 900.0),
    ],
)
def test_how_long_to_wait(text: str, seconds: float | None) -> None:
    """As the error says; minutes after a lockout, which every further request prolongs."""
    assert refused("spot", {"error": [text]}).retry_after == pytest.approx(seconds)


@pytest.mark.parametrize("category", ["spot", "futures"])
@pytest.mark.parametrize(
    ("status", "kind", "executed"),
    [
        (403, PermissionDenied, False),
        (404, InvalidRequest, False),
        (429, RateLimited, False),
        (502, VenueUnavailable, True),
        (520, VenueUnavailable, True),
        (302, ProtocolError, True),
        (200, ProtocolError, True),
    ],
)
def test_what_stands_before_kraken_speaks_html(
    category: str, status: int, kind: type[MassCancelError], *, executed: bool
) -> None:
    """Another status is not Kraken's own; a 5xx leaves the outcome open."""
    error = refused(category, b"<html>", status, Retry_After="7")
    assert type(error) is kind
    assert error.may_have_executed is executed
    assert getattr(error, "retry_after", 7) == 7


@pytest.mark.parametrize("category", ["spot", "futures"])
def test_an_error_goes_before_the_status(category: str) -> None:
    """And success with another status is none."""
    wrong: dict[str, Any] = {"error": ["EAPI:Invalid key"]}
    if category == "futures":
        wrong = {"result": "error", "error": "authenticationError"}
    assert type(refused(category, wrong, 500)) is AuthenticationError
    right = sample("spot_cancel_all" if category == "spot" else "futures_cancel_all")
    assert type(refused(category, right, 503)) is VenueUnavailable


@pytest.mark.parametrize(
    ("category", "body"),
    [
        ("spot", {}),
        ("spot", []),
        ("spot", {"error": []}),
        ("spot", {"error": [], "result": None}),
        ("spot", {"error": [], "result": {"pending": True}}),
        ("spot", {"error": [], "result": {"count": -1}}),
        ("spot", {"error": "none", "result": {"count": 1}}),
        ("futures", {}),
        ("futures", {"result": "success"}),
        ("futures", {"result": "success", "cancelStatus": {}}),
        ("futures", {"result": "success", "cancelStatus": {"status": "unknown"}}),
        (
            "futures",
            {
                "result": "success",
                "cancelStatus": {"status": "cancelled", "cancelOnly": PERP},
            },
        ),
        (
            "futures",
            {
                "result": "success",
                "cancelStatus": {"status": "cancelled", "receivedTime": "noon"},
            },
        ),
    ],
)
def test_what_is_no_answer_to_a_cancel_all(category: str, body: Any) -> None:
    """It is never taken for an Ack."""
    assert type(refused(category, body)) is ProtocolError


# --- spot, one pair: a listing, then cancels by id ------------------------------------------------


def test_the_listed_name_needs_no_look_up() -> None:
    """Orders of the pair are cancelled by id, those of others left alone."""
    talk = cancel("spot", BTC).answer(listing(BTC, "ETHUSD", BTC))
    assert talk.rounds == [["OpenOrders"], ['CancelOrderBatch {"orders":["O0","O2"]}']]
    talk.answer(result({"count": 2}))
    assert talk.value == Ack(
        account_category="spot",
        symbol=BTC,
        status="count 2",
        raw=json.dumps(result({"count": 2})).encode(),
    )


def test_a_websocket_name_is_looked_up_beside_the_listing() -> None:
    """Both in flight together, as soon as the spelling tells."""
    talk = cancel("spot", "XBT/USD").answer(
        listing("ETHUSD", BTC), sample(f"spot_asset_pairs_{BTC}")
    )
    assert talk.rounds == [
        ["OpenOrders", "AssetPairs?pair=XBT%2FUSD"],
        ["CancelOrder txid=O1"],
    ]


def test_a_key_of_the_list_is_looked_up_when_nothing_matches() -> None:
    """``XXBTZUSD`` is ``XBTUSD``."""
    talk = cancel("spot", "XXBTZUSD").answer(listing(BTC)).answer(sample(f"spot_asset_pairs_{BTC}"))
    assert talk.rounds[1:] == [["AssetPairs?pair=XXBTZUSD"], ["CancelOrder txid=O0"]]


def test_a_listing_that_matches_stands_without_a_look_up() -> None:
    """Should orders ever be listed by the other name, a failed look-up keeps nobody waiting."""
    talk = cancel("spot", "XBT/USD").answer(listing("XBT/USD"), RateLimited("EAPI"))
    assert talk.rounds[1:] == [["CancelOrder txid=O0"]]


def test_nothing_open_is_an_ack_that_says_so() -> None:
    """It holds the listing's bytes; the pair was looked up."""
    empty = listing("ETHUSD")
    talk = cancel("spot", BTC).answer(empty).answer(sample(f"spot_asset_pairs_{BTC}"))
    assert talk.value == Ack(
        account_category="spot", symbol=BTC, status="nothing open", raw=json.dumps(empty).encode()
    )
    assert listed("spot", BTC).answer(empty).answer(sample(f"spot_asset_pairs_{BTC}")).value == []


def test_tokenized_pairs_have_a_list_of_their_own() -> None:
    """The list of pairs leaves them out unless asked for them."""
    talk = cancel("spot", "AAPLx/USD").answer(
        listing("AAPLxUSD"), sample("spot_asset_pairs_unknown")
    )
    assert talk.rounds[1] == ["AssetPairs?pair=AAPLx%2FUSD&aclass_base=tokenized_asset"]
    talk.answer(result({"AAPLxUSD": {"altname": "AAPLxUSD", "wsname": "AAPLx/USD"}}))
    assert talk.rounds[2] == ["CancelOrder txid=O0"]


@pytest.mark.parametrize("begin", [cancel, listed])
def test_an_unknown_pair_is_no_success(begin: Any) -> None:
    """Nothing matches, and neither list of pairs has it."""
    unknown = sample("spot_asset_pairs_unknown")
    talk = begin("spot", "XBTUSX").answer(listing(BTC)).answer(unknown)
    with pytest.raises(ScopeError, match="XBTUSX"):
        talk.answer(unknown)


def test_a_name_that_only_the_venue_understands_is_refused() -> None:
    """Kraken takes BTC for XBT where it is asked, and lists XBT: the error tells the names."""
    with pytest.raises(ScopeError, match="XBT/USD or XBTUSD or XXBTZUSD"):
        cancel("spot", "BTC/USD").answer(listing(BTC), sample(f"spot_asset_pairs_{BTC}"))


def test_a_failed_look_up_or_listing_is_never_nothing_open() -> None:
    """Its error is the flow's."""
    with pytest.raises(VenueUnavailable):
        cancel("spot", BTC).answer(listing()).answer({"error": ["EService:Busy"]})
    with pytest.raises(PermissionDenied):
        cancel("spot", BTC).answer({"error": ["EGeneral:Permission denied"]})


@pytest.mark.parametrize("count", [1, 2, 50, 51, 101, 225])
def test_batches_hold_fifty_at_most(count: int) -> None:
    """In flight together; a single order is cancelled by itself; the raw replies are joined."""
    talk = cancel("spot", BTC).answer(listing(*[BTC] * count))
    sizes = [1 if call.startswith("CancelOrder ") else call.count('"O') for call in talk.rounds[1]]
    assert sizes == [50] * (count // 50) + ([count % 50] if count % 50 else [])
    ids = [f"O{n}" for n in range(count)]
    assert all(any(repr(i)[1:-1] in call for call in talk.rounds[1]) for i in ids)
    talk.answer(*[result({"count": size}) for size in sizes])
    assert talk.value.status == f"count {count}"
    assert len(talk.value.raw.split(b"\n")) == len(sizes)


def test_an_order_that_has_gone_is_no_error() -> None:
    """It was filled, or somebody else cancelled it, or its cancel is on the way."""
    for word in ("EOrder:Unknown order", "EOrder:Cancel pending"):
        talk = cancel("spot", BTC).answer(listing(BTC)).answer({"error": [word], "result": {}})
        assert talk.value.status == "count 0"


def test_a_batch_that_counts_beside_the_error_was_carried_out() -> None:
    """What was there has been cancelled."""
    talk = cancel("spot", BTC).answer(listing(BTC, BTC))
    talk.answer(UNKNOWN_ORDER | {"result": {"count": 1}})
    assert talk.value.status == "count 1"


def test_a_batch_that_is_refused_as_a_whole_is_sent_without_what_has_gone() -> None:
    """Another listing tells what has."""
    talk = cancel("spot", BTC).answer(listing(BTC, BTC, BTC)).answer(UNKNOWN_ORDER)
    talk.answer(result({"open": {"O0": order(), "O2": order()}}))
    talk.answer(result({"count": 2}))
    assert talk.rounds[2:] == [["OpenOrders"], ['CancelOrderBatch {"orders":["O0","O2"]}']]
    assert talk.value.status == "count 2"


def test_a_batch_of_which_everything_has_gone_is_not_sent_again() -> None:
    """The listing says so."""
    talk = cancel("spot", BTC).answer(listing(BTC, BTC)).answer(UNKNOWN_ORDER).answer(listing())
    assert talk.value.status == "count 0"


@pytest.mark.parametrize("again", [listing(BTC, BTC, BTC), RateLimited("EAPI")])
def test_where_no_listing_helps_the_batch_is_halved(again: Any) -> None:
    """One that lags, or can't be had: in the end each order has been asked for by itself."""
    talk = cancel("spot", BTC).answer(listing(BTC, BTC, BTC)).answer(UNKNOWN_ORDER).answer(again)
    assert talk.rounds[-1] == ["CancelOrder txid=O0", 'CancelOrderBatch {"orders":["O1","O2"]}']
    talk.answer(result({"count": 1}), UNKNOWN_ORDER).answer(again)
    talk.answer(UNKNOWN_ORDER, result({"count": 1}))
    assert talk.value.status == "count 2"


def test_a_failed_batch_fails_the_whole_after_all_have_been_sent() -> None:
    """The error says how many failed; a batch that can be mended is."""
    talk = cancel("spot", BTC).answer(listing(*[BTC] * 102))
    busy = {"error": ["EService:Busy"]}
    talk.answer(busy, UNKNOWN_ORDER, result({"count": 2}))
    talk.answer(listing(*[BTC] * 52))
    assert talk.rounds[-1] == ['CancelOrderBatch {"orders":["O50","O51"]}']
    with pytest.raises(VenueUnavailable) as caught:
        talk.answer(result({"count": 2}))
    assert caught.value.__notes__ == ["1 of 4 calls failed, 3 succeeded"]


# --- futures, one contract ------------------------------------------------------------------------

NO_ORDERS = {"result": "success", "cancelStatus": {"status": "noOrdersToCancel"}}


def test_futures_with_a_symbol() -> None:
    """One call; the contract is sent in upper case, as it is listed, and must be echoed."""
    done = {"status": "cancelled", "cancelOnly": PERP}
    talk = cancel("futures", "pf_xbtusd").answer({"result": "success", "cancelStatus": done})
    assert talk.rounds == [["cancelallorders?symbol=PF_XBTUSD"]]
    assert (talk.value.symbol, talk.value.timestamp_ms) == ("pf_xbtusd", None)
    with pytest.raises(ProtocolError, match="all"):
        cancel("futures", PERP).answer(sample("futures_cancel_all"))


def test_a_contract_with_nothing_open_is_looked_up() -> None:
    """Known, the answer stands."""
    talk = cancel("futures", "fi_xbtusd_220930").answer(NO_ORDERS)
    assert talk.rounds[1] == ["instruments?contractType=all"]
    assert talk.answer(sample("futures_instruments")).value.status == "noOrdersToCancel"
    talk = listed("futures", PERP).answer(sample("futures_open_orders"))
    assert talk.answer(sample("futures_instruments")).value == []


@pytest.mark.parametrize("begin", [cancel, listed])
def test_an_unknown_contract_is_no_success(begin: Any) -> None:
    """The venue cancels nothing of it, and says success."""
    answer = NO_ORDERS | {"openOrders": []}
    with pytest.raises(ScopeError, match="PF_XBTUSX"):
        begin("futures", "PF_XBTUSX").answer(answer).answer(sample("futures_instruments"))


def test_nothing_open_anywhere_needs_no_look_up() -> None:
    """Without a symbol there is none to check."""
    assert len(cancel("futures").answer(NO_ORDERS).rounds) == 1
    assert len(listed("futures").answer({"result": "success", "openOrders": []}).rounds) == 1


# --- what has become of orders --------------------------------------------------------------------


def orders_of(*ids: str) -> list[OpenOrder]:
    """Orders with these ids."""
    return [
        OpenOrder(
            order_id=order_id,
            symbol=BTC,
            side="buy",
            price=Decimal(1),
            quantity=Decimal(1),
            filled_quantity=Decimal(0),
            order_type="limit",
            status="open",
        )
        for order_id in ids
    ]


def states(category: str, *ids: str) -> Talk:
    """A question after orders that has begun."""
    return Talk(VENUE.order_states(category, orders_of(*ids)))


def test_what_has_become_of_spot_orders() -> None:
    """Asked for by batches of ids; what the venue does not know is left out."""
    talk = states("spot", *[f"O{n}" for n in range(51)])
    assert [call.count("O") - 1 for call in talk.rounds[0]] == [50, 1]
    talk.answer(sample("spot_query_orders"), UNKNOWN_ORDER)
    assert talk.value == dict.fromkeys(("OBCMZD-JIEE7-77TH3F", "OMMDB2-FSB6Z-7W3HPO"), "filled")
    words = {"A": "canceled", "B": "expired", "C": "open", "D": "pending"}
    answer = result({order_id: {"status": word} for order_id, word in words.items()})
    assert states("spot", *words).answer(answer).value == {
        "A": "cancelled",
        "B": "cancelled",
        "C": "open",
        "D": "open",
    }


def test_what_has_become_of_futures_orders() -> None:
    """The ids are repeated in the query."""
    words = {"A": "FULLY_EXECUTED", "B": "CANCELLED", "C": "REJECTED", "D": "TRIGGER_PLACED"}
    talk = states("futures", *words)
    assert talk.rounds == [["status?orderIds=A&orderIds=B&orderIds=C&orderIds=D"]]
    rows = [{"order": {"orderId": key}, "status": word} for key, word in words.items()]
    talk.answer({"result": "success", "orders": rows})
    assert talk.value == {"A": "filled", "B": "cancelled", "C": "rejected", "D": "open"}


@pytest.mark.parametrize("category", ["spot", "futures"])
def test_a_question_after_orders_may_fail(category: str) -> None:
    """Its error is the flow's; no orders are no question."""
    with pytest.raises(VenueUnavailable):
        states(category, "A").answer(reply(b"", 503))
    assert states(category).answer().value == {}


def test_there_is_no_stream() -> None:
    """Of either category; others do not exist."""
    assert [VENUE.stream(category) for category in VENUE.abilities] == [None, None]
    with pytest.raises(ScopeError):
        VENUE.stream("margin")


# --- the switch -----------------------------------------------------------------------------------


def switch(category: str, timeout_ms: Any, symbol: str | None = None) -> Talk:
    """A dead man's switch that has been asked for."""
    return Talk(VENUE.switch(category, symbol, timeout_ms))


def test_the_switch_tells_when_it_fires() -> None:
    """In ms since the epoch; the samples."""
    talk = switch("spot", 60_000).answer(sample("spot_cancel_all_orders_after"))
    assert (talk.rounds, talk.value) == ([["CancelAllOrdersAfter timeout=60"]], 1679679776000)
    talk = switch("futures", 60_000).answer(sample("futures_cancel_all_orders_after"))
    assert (talk.rounds, talk.value) == ([["cancelallordersafter?timeout=60"]], 1529427143839)


def test_the_switch_is_disarmed_with_nought() -> None:
    """Futures answer "0"; what spot answers is not documented, a time that has come will do."""
    off = sample("futures_cancel_all_orders_after_disarmed")
    assert switch("futures", 0).answer(off).value is None
    now = {"currentTime": "2023-03-24T17:41:56Z", "triggerTime": "2023-03-24T17:41:56Z"}
    for answer in (now, now | {"triggerTime": "0"}, now | {"triggerTime": ""}):
        assert switch("spot", 0).answer(result(answer)).value is None


def test_the_switch_is_not_taken_for_what_it_was_not_asked() -> None:
    """Armed is not off, and off is not armed."""
    with pytest.raises(ProtocolError):
        switch("spot", 0).answer(sample("spot_cancel_all_orders_after"))
    with pytest.raises(ProtocolError):
        switch("futures", 60_000).answer(sample("futures_cancel_all_orders_after_disarmed"))
    with pytest.raises(ProtocolError):
        switch("spot", 60_000).answer(result({"currentTime": "", "triggerTime": "soon"}))


@pytest.mark.parametrize("category", ["spot", "futures"])
@pytest.mark.parametrize("timeout_ms", [1, 999, 1500, -1000, 2**32 * 1000, 1.0, True, "1000", None])
def test_the_switch_is_not_rounded(category: str, timeout_ms: Any) -> None:
    """Rounding half a second down would disarm it."""
    with pytest.raises(ConfigurationError):
        switch(category, timeout_ms)


def test_the_longest_switch() -> None:
    """Spot takes less than a day, futures what fits 32 bits."""
    assert switch("spot", 86_399_000).rounds == [["CancelAllOrdersAfter timeout=86399"]]
    with pytest.raises(ConfigurationError):
        switch("spot", 86_400_000)
    assert switch("futures", 86_400_000).rounds == [["cancelallordersafter?timeout=86400"]]


@pytest.mark.parametrize("category", ["spot", "futures"])
def test_the_switch_covers_the_whole_account(category: str) -> None:
    """A symbol is refused by name."""
    with pytest.raises(ScopeError, match="whole account"):
        switch(category, 60_000, BTC if category == "spot" else PERP)


# --- whatever is answered -------------------------------------------------------------------------

FLOWS = [
    ("cancel_all", "spot", None),
    ("cancel_all", "spot", BTC),
    ("cancel_all", "spot", "XBT/USD"),
    ("cancel_all", "futures", None),
    ("cancel_all", "futures", PERP),
    ("open_orders", "spot", None),
    ("open_orders", "spot", "XXBTZUSD"),
    ("open_orders", "futures", "PI_XBTUSD"),
    ("states", "spot", None),
    ("states", "futures", None),
    ("switch", "spot", 60_000),
    ("switch", "spot", 0),
    ("switch", "futures", 60_000),
]
SAMPLES = [json.loads(file.read_bytes()) for file in sorted(DATA.glob("[sf]*_*.json"))]
STATUSES = st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 404, 429, 500, 502, 520])
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["EOrder:Unknown order", "EQuery:Unknown asset pair", "1e999999", BTC, "0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A sample with one of its parts replaced, or taken out, or its text cut or spoilt."""
    value = json.loads(json.dumps(draw(st.sampled_from(SAMPLES))))
    at: Any = value
    while isinstance(at, dict | list) and at:
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if draw(st.booleans()) or not isinstance(at[key], dict | list):
            if draw(st.booleans()):
                at[key] = draw(JSON_VALUES)
            else:
                del at[key]
            break
        at = at[key]
    text = json.dumps(value).encode()
    cut = draw(st.integers(0, len(text)) | st.just(len(text)) | st.just(len(text)))
    return text[:cut]


def outcome(what: str, category: str, about: Any, answers: Iterable[Reply]) -> Any:
    """What a flow comes to when each of its calls gets the next answer."""
    flow: Flow[Any]
    if what == "cancel_all":
        flow = VENUE.cancel_all(category, about, None)
    elif what == "open_orders":
        flow = VENUE.open_orders(category, about)
    elif what == "states":
        flow = VENUE.order_states(category, orders_of("A", "B"))
    else:
        flow = VENUE.switch(category, None, about)
    left = iter(answers)
    try:
        calls = next(flow)
        while True:
            calls = flow.send([decoded(call, next(left)) for call in calls])
    except StopIteration as stop:
        return stop.value
    except MassCancelError as error:
        return error


def check_outcome(flow: tuple[str, str, Any], answers: Iterable[Reply]) -> None:
    """It is what the flow promises, or one of our errors."""
    value = outcome(*flow, answers)
    if isinstance(value, MassCancelError):
        assert len(value.message) < 1000
    elif flow[0] == "switch":
        assert value is None or isinstance(value, int)
    else:
        promised = {"cancel_all": Ack, "open_orders": list, "states": dict}
        assert isinstance(value, promised[flow[0]])


def ever(*answers: Reply) -> Iterable[Reply]:
    """The answers, and then the last one again and again."""
    yield from answers
    while True:
        yield answers[-1]


@given(st.sampled_from(FLOWS), st.binary(max_size=200), STATUSES)
def test_arbitrary_replies(flow: tuple[str, str, Any], body: bytes, status: int) -> None:
    """Whatever bytes come, a flow ends with its value or one of our errors."""
    check_outcome(flow, ever(reply(body, status)))


@given(st.sampled_from(FLOWS), st.lists(st.tuples(mutations(), STATUSES), min_size=1, max_size=4))
def test_mutated_replies(flow: tuple[str, str, Any], answers: list[tuple[bytes, int]]) -> None:
    """Likewise for replies that are nearly right, in any order."""
    check_outcome(flow, ever(*[reply(body, status) for body, status in answers]))


@given(st.lists(JSON_VALUES, min_size=1, max_size=3), st.sampled_from(FLOWS))
def test_arbitrary_results(values: list[Any], flow: tuple[str, str, Any]) -> None:
    """Likewise for envelopes that hold anything."""
    check_outcome(flow, ever(*[reply(result(value)) for value in values]))


def test_deep_and_long_replies() -> None:
    """Neither breaks the decoder; an endless text is cut."""
    for flow in FLOWS:
        check_outcome(flow, ever(reply(b"[" * 50_000)))
        check_outcome(flow, ever(reply({"error": ["EOdd:" + "x" * 100_000]})))


# --- against the engine, without a socket ---------------------------------------------------------


class Floor:
    """A simulated Kraken that is driven by hand: calls are signed, routed and decoded."""

    def __init__(self, **options: Any) -> None:
        self.dialect = KrakenDialect(**options)
        self.engine = Engine(new_order_id=self.dialect.order_id)
        self.account = self.engine.add_account("key", SECRET, categories=self.dialect.categories)
        self.now_ms = NOW
        self.paths: list[str] = []
        self._router = Router(self.dialect.routes(), ())
        self._nonce = NOW

    def place(self, category: str, symbol: str, count: int = 1) -> list[str]:
        """Put orders into the book, acknowledged; returns their ids."""
        ids = [
            self.engine.place(
                self.account,
                category,
                symbol,
                side="buy",
                price=Decimal(1),
                quantity=Decimal(1),
                now_ms=self.now_ms,
            ).order_id
            for _ in range(count)
        ]
        self.engine.advance(self.now_ms)
        return ids

    def book(self, category: str = "spot") -> list[str]:
        """The symbols of what is open, one for each order."""
        self.engine.advance(self.now_ms)
        return [order.symbol for order in self.engine.open_orders(self.account, category)]

    def perform(self, call: Call[Any]) -> Any:
        """Carry a call out; its value, or its error."""
        self._nonce += 1
        request = call.sign(call, KEYS, Stamp(self.now_ms, nonce=self._nonce))
        self.paths.append(request.target.partition("?")[0])
        return decoded(call, self.handle(request))

    def handle(self, request: Request) -> Reply:
        """Answer a request, as the server does: what has fallen due comes first."""
        self.engine.advance(self.now_ms)
        raw = SimRequest(
            method=request.method,
            raw_path=request.target,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=request.body,
            moment=Moment(now_ms=self.now_ms),
        )
        if found := self._router.route(raw.method, raw.path):
            raw = msgspec.structs.replace(raw, params=found[1])
            answer = found[0].handler(self.engine, raw)
        else:
            answer = self.dialect.unknown(raw)
        return Reply(answer.status, dict(answer.headers), answer.body)

    def run(self, flow: Flow[Any]) -> Any:
        """Take a flow to its end."""
        try:
            return self.go_on(flow, next(flow))
        except StopIteration as stop:
            return stop.value

    def go_on(self, flow: Flow[Any], calls: Sequence[Call[Any]]) -> Any:
        """Take a flow that has begun to its end."""
        try:
            while True:
                calls = flow.send([self.perform(call) for call in calls])
        except StopIteration as stop:
            return stop.value

    def cancel(self, symbol: str | None, category: str = "spot") -> Ack:
        """Cancel a scope."""
        ack = self.run(VENUE.cancel_all(category, symbol, None))
        assert isinstance(ack, Ack)
        return ack


NAMES = {name: pair for pair in PAIRS for name in (pair.key, pair.altname, pair.wsname)}


@given(
    st.dictionaries(st.sampled_from([pair.altname for pair in PAIRS]), st.integers(1, 60)),
    st.sampled_from([*NAMES, "BTC/USD", "DOGE/USD", "XBTUSX", "XBT/USDX"]),
    st.booleans(),
)
def test_spot_with_a_symbol_never_sends_cancel_all(
    book: dict[str, int], symbol: str, refuse_stale: bool
) -> None:
    """Whatever is open and however the pair is spelled: exactly its orders go, or nothing does."""
    floor = Floor(refuse_stale=refuse_stale)
    for altname, count in book.items():
        floor.place("spot", altname, count)
    if symbol in NAMES:
        floor.cancel(symbol)
        gone = NAMES[symbol].altname
        assert sorted(floor.book()) == sorted(
            s for s, n in book.items() for _ in range(n) if s != gone
        )
    else:
        with pytest.raises(ScopeError):
            floor.cancel(symbol)
        assert len(floor.book()) == sum(book.values())
    assert not [path for path in floor.paths if path.endswith("CancelAll")]


@pytest.mark.parametrize("refuse_stale", [False, True])
def test_orders_that_go_between_listing_and_cancel(*, refuse_stale: bool) -> None:
    """Those that are left are cancelled, whether a stale batch is refused or not."""
    floor = Floor(refuse_stale=refuse_stale)
    ids = floor.place("spot", BTC, 60)
    flow = VENUE.cancel_all("spot", BTC, None)
    calls = flow.send([floor.perform(call) for call in next(flow)])
    for order_id in (ids[3], ids[55]):
        floor.engine.cancel(order_id, now_ms=NOW)
    floor.engine.advance(NOW)
    assert floor.go_on(flow, calls).status == "count 58"
    assert floor.book() == []


@pytest.mark.parametrize(("category", "symbol"), [("spot", BTC), ("futures", PERP)])
def test_the_simulator_tells_what_has_become_of_orders(category: str, symbol: str) -> None:
    """Cancelled, filled or open; futures forget what has ended."""
    floor = Floor()
    floor.place(category, symbol, 3)
    orders = floor.run(VENUE.open_orders(category, None))
    cancelled, filled, still_open = (one.order_id for one in orders)
    floor.engine.cancel(cancelled, now_ms=NOW)
    floor.engine.fill(filled, now_ms=NOW)
    told = floor.run(VENUE.order_states(category, orders))
    assert told == {cancelled: "cancelled", filled: "filled", still_open: "open"}
    floor.now_ms += 5001
    told = floor.run(VENUE.order_states(category, orders))
    assert len(told) == {"spot": 3, "futures": 1}[category]
    assert floor.run(VENUE.order_states(category, orders_of("nobody's"))) == {}


def test_the_simulated_switch_fires() -> None:
    """It cancels everything of the account when its time has come, and not when it is off."""
    for category, symbol in (("spot", BTC), ("futures", PERP)):
        floor = Floor()
        floor.place(category, symbol)
        assert floor.run(VENUE.switch(category, None, 60_000)) // 1000 == NOW // 1000 + 60
        assert floor.run(VENUE.switch(category, None, 0)) is None
        floor.now_ms += 60_000
        assert floor.run(VENUE.open_orders(category, None))
        floor.run(VENUE.switch(category, None, 1000))
        floor.now_ms += 1000
        assert floor.run(VENUE.open_orders(category, None)) == []
        assert floor.dialect.switches == {}


@pytest.mark.parametrize(
    ("path", "body", "content_type", "error"),
    [
        ("OpenOrders", b"nonce=0", "", "EAPI:Invalid nonce"),
        ("OpenOrders", b"nonce=x", "", "EAPI:Invalid nonce"),
        ("OpenOrders", b"", "", "EAPI:Invalid nonce"),
        ("OpenOrders", b"nonce=%d" % 2**64, "", "EAPI:Invalid nonce"),
        ("OpenOrders", b"{", "application/json", "EAPI:Bad request"),
        ("CancelOrderBatch", b"nonce=7&orders=a", "", "EAPI:Bad request"),
        (
            "CancelOrderBatch",
            b'{"nonce":7,"orders":[]}',
            "application/json",
            "EGeneral:Invalid arguments:orders",
        ),
        ("CancelAllOrdersAfter", b"nonce=7", "", "EGeneral:Invalid arguments:timeout"),
        (
            "CancelAllOrdersAfter",
            b"nonce=7&timeout=86400",
            "",
            "EGeneral:Invalid arguments:timeout",
        ),
    ],
)
def test_the_simulator_refuses_what_kraken_does(
    path: str, body: bytes, content_type: str, error: str
) -> None:
    """Each request is signed as it should be."""
    floor = Floor()
    fields = json.loads(body) if content_type and body != b"{" else parse_qs(body.decode())
    nonce = str(fields["nonce"]) if isinstance(fields.get("nonce"), int) else ""
    nonce = nonce or (fields["nonce"][0] if fields.get("nonce") else "")
    target = f"/0/private/{path}"
    headers = {
        "API-Key": "key",
        "API-Sign": spot.signature(SECRET, target, nonce, body),
        "Content-Type": content_type,
    }
    answer = floor.handle(Request("POST", target, headers, body))
    assert json.loads(answer.body) == {"error": [error]}


@pytest.mark.parametrize(
    ("method", "target", "status", "error"),
    [
        ("POST", "/0/private/Nothing", 200, ["EGeneral:Unknown method"]),
        ("POST", "/derivatives/api/v3/nothing", 404, "notFound"),
        ("GET", "/derivatives/api/v3/tickers/PF_NOUSD", 200, "notFound"),
        ("GET", "/derivatives/api/v3/openorders", 200, "authenticationError"),
        ("POST", "/derivatives/api/v3/cancelallordersafter?timeout=x", 200, "invalidArgument"),
    ],
)
def test_the_simulator_refuses_what_does_not_exist(
    method: str, target: str, status: int, error: Any
) -> None:
    """Each side in its own words."""
    path, _, query = target.partition("?")
    headers = {"APIKey": "key", "Authent": futures.signature(SECRET, path, query)}
    answer = Floor().handle(Request(method, target, headers if query else {}))
    assert (answer.status, json.loads(answer.body)["error"]) == (status, error)


def test_the_simulator_has_public_lists() -> None:
    """All pairs when asked for none, and a ticker that tells the time."""
    floor = Floor()
    pairs = json.loads(floor.handle(Request("GET", "/0/public/AssetPairs", {})).body)["result"]
    assert "XXBTZUSD" in pairs
    assert "AAPLxUSD" not in pairs
    probe = VENUE.probe(VENUE.origin("futures"))
    assert probe.decode(floor.handle(probe.request(0))) == NOW


def test_the_simulator_accepts_no_signature_for_a_secret_that_is_not_base64() -> None:
    """No client could make one."""
    floor = Floor()
    floor.engine.add_account("other", "odd", categories=["spot"])
    answer = floor.handle(Request("POST", "/0/private/CancelAll", {"API-Key": "other"}, b"nonce=1"))
    assert json.loads(answer.body) == {"error": ["EAPI:Invalid signature"]}


# --- over real sockets ----------------------------------------------------------------------------


@pytest_asyncio.fixture
async def kraken() -> AsyncIterator[SimulatedExchange]:
    """A simulated Kraken that listens on loopback, spot and futures on one port."""
    async with SimulatedExchange(KrakenDialect()) as running:
        yield running


def dialect_of(exchange: SimulatedExchange) -> KrakenDialect:
    """What the exchange speaks."""
    assert isinstance(exchange.dialect, KrakenDialect)
    return exchange.dialect


def account_of(exchange: SimulatedExchange, name: str, **options: Any) -> Account:
    """An account with orders of two pairs and two contracts, as far as it has the category."""
    secret = b64encode(f"the secret of {name}".encode()).decode()
    account = exchange.add_account(f"key-of-{name}", secret, **options)
    for category, symbols in {"spot": (BTC, "ETHUSD"), "futures": (PERP, "PF_ETHUSD")}.items():
        for symbol in symbols * (category in account.ids):
            exchange.place(account, category, symbol)
            exchange.place(account, category, symbol, order_type="stop-loss")
    return account


def client_of(exchange: SimulatedExchange, account: Account, **options: Any) -> Client:
    """A client of the account, not entered yet."""
    venue: dict[str, Any] = {"futures_url": exchange.rest_url}
    venue |= {key: options.pop(key) for key in ("nonce_unit", "futures_url") if key in options}
    return Client(
        Credentials(account.api_key, account.api_secret),
        venue=Kraken(spot_url=exchange.rest_url, **venue),
        **options,
    )


def open_symbols(exchange: SimulatedExchange, account: Account, category: str) -> list[str]:
    """The symbols of what is open in truth."""
    return [order.symbol for order in exchange.open_orders(account, category)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("category", "symbol", "left"),
    [
        ("spot", None, []),
        ("spot", BTC, ["ETHUSD"] * 2),
        ("spot", "XBT/USD", ["ETHUSD"] * 2),
        ("spot", "XXBTZUSD", ["ETHUSD"] * 2),
        ("futures", None, []),
        ("futures", PERP, ["PF_ETHUSD"] * 2),
    ],
)
async def test_cancel_all(
    kraken: SimulatedExchange, category: str, symbol: str | None, left: list[str]
) -> None:
    """The scope's orders go, stop orders too; nothing else does."""
    account = account_of(kraken, "one")
    other = {"spot": "futures", "futures": "spot"}[category]
    async with client_of(kraken, account) as client:
        assert len(await client.open_orders(category, symbol)) == 4 - len(left)
        ack = await client.cancel_all(category, symbol)
        assert await client.open_orders(category, symbol) == []
    assert (ack.account_category, ack.symbol) == (category, symbol or "")
    assert ack.status == (f"count {4 - len(left)}" if category == "spot" else "cancelled")
    assert open_symbols(kraken, account, category) == left
    assert len(kraken.open_orders(account, other)) == 4


@pytest.mark.asyncio
async def test_only_the_host_of_the_category_is_touched(kraken: SimulatedExchange) -> None:
    """A key serves one of the two, and the other never hears of it."""
    async with SimulatedExchange(KrakenDialect()) as other:
        account = account_of(kraken, "spot", categories=["spot"])
        async with client_of(kraken, account, futures_url=other.rest_url) as client:
            await client.cancel_all("spot")
            await client.cancel_all("spot", "XBT/USD")
        assert (other.requests, other.connections_opened) == ([], 0)


@pytest.mark.asyncio
async def test_a_key_of_the_other_side_is_refused_once(kraken: SimulatedExchange) -> None:
    """Futures do not know a key of spot, nor spot one of futures."""
    for name, category in (("spot", "futures"), ("futures", "spot")):
        account = account_of(kraken, name, categories=[name])
        async with client_of(kraken, account) as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.cancel_all(category)
        assert len(caught.value.attempts) == 1
        assert not caught.value.may_have_executed


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "futures"])
async def test_a_wrong_secret_is_refused_once_and_shown_nowhere(
    kraken: SimulatedExchange, category: str
) -> None:
    """One request, and neither secret nor signature in what is raised."""
    account = account_of(kraken, "wrong")
    keys = Credentials(account.api_key, SECRET)
    venue = Kraken(spot_url=kraken.rest_url, futures_url=kraken.rest_url)
    async with Client(keys, venue=venue) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.cancel_all(category)
    (request,) = kraken.operations("cancel-all")
    signature = request.header("api-sign") or request.header("authent")
    assert signature
    assert not any(word in repr(caught.value) + str(caught.value) for word in (SECRET, signature))


@pytest.mark.asyncio
async def test_a_secret_that_is_not_base64_sends_nothing(kraken: SimulatedExchange) -> None:
    """It is our error, before anything is written."""
    venue = Kraken(spot_url=kraken.rest_url, futures_url=kraken.rest_url)
    async with Client(Credentials("key", "no-base64"), venue=venue) as client:
        with pytest.raises(ConfigurationError) as caught:
            await client.cancel_all("spot")
    assert "no-base64" not in str(caught.value)
    assert kraken.operations("cancel-all") == []


@pytest.mark.asyncio
async def test_a_key_that_may_not_cancel(kraken: SimulatedExchange) -> None:
    """It may list; one that may only cancel can't cancel one symbol, which needs the listing."""
    viewer = account_of(kraken, "viewer", permissions=["view"])
    canceller = account_of(kraken, "canceller", permissions=["trade"])
    async with client_of(kraken, viewer) as client:
        assert len(await client.open_orders("spot")) == 4
        for category in ("spot", "futures"):
            with pytest.raises(PermissionDenied):
                await client.cancel_all(category)
    async with client_of(kraken, canceller) as client:
        with pytest.raises(PermissionDenied):
            await client.cancel_all("spot", BTC)
        assert (await client.cancel_all("spot")).status == "count 4"


@pytest.mark.asyncio
async def test_an_unknown_symbol_cancels_nothing(kraken: SimulatedExchange) -> None:
    """``BTC/USD`` against ``XBTUSD``, and a contract that does not exist."""
    account = account_of(kraken, "typo")
    async with client_of(kraken, account) as client:
        for category, symbol in (("spot", "BTC/USD"), ("spot", "NOUSD"), ("futures", "PF_NOUSD")):
            with pytest.raises(ScopeError):
                await client.cancel_all(category, symbol)
            with pytest.raises(ScopeError):
                await client.open_orders(category, symbol)
    assert [len(kraken.open_orders(account, c)) for c in ("spot", "futures")] == [4, 4]


@pytest.mark.asyncio
async def test_pending_cancels_are_only_acknowledged(kraken: SimulatedExchange) -> None:
    """The Ack says that they are pending, and the orders are still there."""
    dialect_of(kraken).pending = True
    account = account_of(kraken, "pending")
    kraken.faults.add(EffectDelay(HELD), operation="cancel-all")
    async with client_of(kraken, account) as client:
        assert (await client.cancel_all("spot")).status == "count 4, pending"
        assert len(await client.open_orders("spot")) == 4


@pytest.mark.asyncio
async def test_a_refused_nonce_is_followed_by_a_greater_one(kraken: SimulatedExchange) -> None:
    """A refusal is not an execution; the next nonce is accepted."""
    account = account_of(kraken, "nonce")
    refusal = Answer(200, b'{"error":["EAPI:Invalid nonce"]}')
    kraken.faults.add(refusal, operation="cancel-all")
    async with client_of(kraken, account) as client:
        ack = await client.cancel_all("spot")
    assert [attempt.fate for attempt in ack.attempts] == ["refused", "answered"]
    sent = [int(parse_qs(r.body.decode())["nonce"][0]) for r in kraken.operations("cancel-all")]
    assert sent == sorted(set(sent))


@pytest.mark.asyncio
async def test_a_lockout_is_not_asked_again(kraken: SimulatedExchange) -> None:
    """Each further request would prolong it."""
    account = account_of(kraken, "locked")
    refusal = Answer(200, b'{"error":["EGeneral:Temporary lockout"]}')
    kraken.faults.add(refusal, operation="cancel-all", times=None)
    async with client_of(kraken, account) as client:
        with pytest.raises(RateLimited):
            await client.cancel_all("spot", timeout=60)
    assert len(kraken.operations("cancel-all")) == 1


@pytest.mark.asyncio
async def test_many_accounts_of_both_sides_at_once(kraken: SimulatedExchange) -> None:
    """In one fan-out, with one that is refused."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(SessionPool())
        targets = []
        for n in range(6):
            account = account_of(kraken, f"many-{n}")
            client = await stack.enter_async_context(client_of(kraken, account, pool=pool))
            targets += Target.product([client], ["spot"], [BTC, "ETH/USD"])
            targets += Target.product([client], ["futures"])
        targets.append(Target(client, "spot", "NOUSD"))
        report = await cancel_many(targets)
    assert [type(outcome.error) for outcome in report.failed] == [ScopeError]
    assert [o for o in kraken.engine.orders() if o.status.is_open] == []


# --- nonces arrive in order -----------------------------------------------------------------------


def slow_half(exchange: SimulatedExchange) -> None:
    """Every other request takes a while to be looked at, so that what is not in order shows."""
    exchange.faults.add(Delay(0.005), path="/0/private/", probability=0.5, times=None)


def assert_in_order(exchange: SimulatedExchange, at_least: int) -> None:
    """No nonce was refused, and each was greater than the one before it."""
    seen = list(dialect_of(exchange).nonces)
    nonces = [nonce.nonce for nonce in seen]
    assert len(nonces) >= at_least
    assert all(nonce.accepted for nonce in seen)
    assert nonces == sorted(set(nonces))


async def twenty(clients: Sequence[Client], symbol: str | None) -> list[Ack]:
    """Twenty cancel-alls at once, from the clients in turn."""
    return await asyncio.gather(
        *(clients[n % len(clients)].cancel_all("spot", symbol, timeout=30) for n in range(20))
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("symbol", [None, BTC, "XBT/USD"])
@pytest.mark.parametrize("pools", [1, 2])
async def test_nonces_of_two_clients_arrive_in_order(
    kraken: SimulatedExchange, symbol: str | None, pools: int
) -> None:
    """They share a key, over many connections: of one pool, or of one each."""
    account = account_of(kraken, "shared")
    slow_half(kraken)
    async with SessionPool() as pool, SessionPool() as another:
        clients = [
            client_of(kraken, account, pool=pool),
            client_of(kraken, account, pool=another if pools == 2 else pool),
        ]
        async with clients[0], clients[1]:
            acks = await twenty(clients, symbol)
    assert len(acks) == 20
    assert_in_order(kraken, 20)
    assert open_symbols(kraken, account, "spot") == (["ETHUSD"] * 2 if symbol else [])


@pytest.mark.asyncio
async def test_an_unanswered_nonce_gives_way_to_the_next(kraken: SimulatedExchange) -> None:
    """Attempts of one call never overtake each other: the first is given up before the second."""
    account = account_of(kraken, "turns")
    kraken.faults.add(Hold("first"), operation="cancel-all", nth=1)
    async with client_of(kraken, account, retry=RetryPolicy(patience=0.01)) as client:
        ack = await client.cancel_all("spot")
    *given_up, last = (attempt.fate for attempt in ack.attempts)
    assert set(given_up) == {"unknown"}
    assert last == "answered"
    connections = [each.connection for each in kraken.operations("cancel-all")]
    assert len({*connections}) == len(connections) == len(ack.attempts)
