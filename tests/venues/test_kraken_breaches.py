"""Kraken: what failed once, by hand; flows, whose parts go on side by side, answered one by one."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from flows_support import Part, value_of
from masscancel.calls import Call, Flow, Reply, Scope, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import (
    ConfigurationError,
    MassCancelError,
    NotSent,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    VenueUnavailable,
)
from masscancel.venues.kraken import Kraken

DATA = Path(__file__).parent.parent / "data" / "kraken"
NOW, KEYS, VENUE = 1616492376594, Credentials("key", "c2VjcmV0"), Kraken()
DOWN = {"error": ["EService:Unavailable"]}
PAIRS = json.loads((DATA / "spot_asset_pairs_XBTUSD.json").read_bytes())
AAPLX = {"altname": "AAPLxUSD", "wsname": "AAPLx/USD"}
TOKENIZED = {"error": [], "result": {"AAPLxUSD": AAPLX}}
CONTRACTS = {"result": "success", "instruments": [{"symbol": "PF_XBTUSD"}]}
NONE_OPEN = {"result": "success", "cancelStatus": {"status": "noOrdersToCancel"}}
NO_PAIR = {"error": ["EQuery:Unknown asset pair"]}


class Talk:
    """A flow that is answered by hand, in any order."""

    def __init__(self, flow: Flow[Any]) -> None:
        self.root = Part(flow)

    @property
    def asked(self) -> list[str]:
        """What is under way: the last part of the path, and the body without its nonce."""
        return [asked(part.part) for part in self.root.calls()]

    @property
    def value(self) -> Any:
        """The flow's value, or its error."""
        assert self.root.done
        return self.root.value

    def answer(self, name: str, answer: Any) -> "Talk":
        """Answer the first call under way that begins so: with JSON, a reply, or an error."""
        (part, *_) = [part for part in self.root.calls() if asked(part.part).startswith(name)]
        part.end(answer if isinstance(answer, MassCancelError) else decoded(part.part, answer))
        self.root.settle()
        return self


def asked(call: Call[Any]) -> str:
    """What a call asks for, in short."""
    request = call.sign(call, KEYS, Stamp(NOW, nonce=7))
    body = request.body.decode().replace("nonce=7", "").replace('"nonce":"7",', "")
    return f"{request.target.rpartition('/')[2]} {body.lstrip('&')}".strip()


def decoded(call: Call[Any], answer: Any) -> Any:
    """A call's value, however many pieces it is decoded in, or its error."""
    reply = answer if isinstance(answer, Reply) else Reply(200, {}, json.dumps(answer).encode())
    try:
        return value_of(call, reply, Stamp(NOW))
    except MassCancelError as error:
        return error


def order(pair: Any = "XBTUSD", **more: Any) -> dict[str, Any]:
    """A row of spot's listing."""
    about: dict[str, Any] = {
        "pair": pair,
        "type": "buy",
        "ordertype": "limit",
        "price": "1",
        "price2": "0",
    }
    return {"status": "open", "descr": about, "vol": "2", "vol_exec": "0.5"} | more


def listing(*rows: Any) -> dict[str, Any]:
    """A listing of spot, ids O0, O1 and so on."""
    return {"error": [], "result": {"open": {f"O{n}": row for n, row in enumerate(rows)}}}


def count(number: int) -> dict[str, Any]:
    """Spot's answer to a cancel."""
    return {"error": [], "result": {"count": number}}


def cancel(symbol: str | None, category: str = "spot", venue: Kraken = VENUE) -> Talk:
    """A cancel-all that has begun."""
    venue.check_scope(Scope(category, symbol))
    return Talk(venue.cancel_all(Scope(category, symbol), None))


def listed(symbol: str | None, category: str = "spot", venue: Kraken = VENUE) -> Talk:
    """A listing that has begun."""
    return Talk(venue.open_orders(Scope(category, symbol)))


def prepared(*categories: str, **answers: Any) -> Kraken:
    """A venue that was entered, with these answers."""
    talk = Talk(VENUE.prepare(categories))
    if "spot" in categories:
        talk.answer("AssetPairs?aclass", answers.get("tokenized", TOKENIZED))
        talk.answer("AssetPairs", answers.get("pairs", PAIRS))
    if "futures" in categories:
        talk.answer("instruments", answers.get("contracts", CONTRACTS))
    return talk.value  # type: ignore[no-any-return]


# --- names are known on entry (rows 8 and 9) ------------------------------------------------------


def test_entry_looks_names_up_once() -> None:
    """Of the categories in use, for a few seconds at most; nothing of it is in repr or equality."""
    assert Talk(VENUE.prepare(["futures"])).asked == ["instruments?contractType=all"]
    talk = Talk(VENUE.prepare(["spot", "futures"]))
    tokenized, contracts = "AssetPairs?aclass_base=tokenized_asset", "instruments?contractType=all"
    assert talk.asked == ["AssetPairs", tokenized, contracts]
    assert Talk(VENUE.prepare([])).value is VENUE
    assert all(part.part.time_limit and not part.part.cancels for part in talk.root.calls())
    venue = prepared("spot", "futures")
    assert (VENUE.ready(), venue.ready()) == (False, True)
    assert (repr(venue), venue, hash(venue)) == (repr(VENUE), VENUE, hash(VENUE))
    assert "found" not in repr(venue)


@pytest.mark.parametrize("symbol", ["XBT/USD", "XXBTZUSD", "XBTUSD"])
def test_a_known_pair_is_cancelled_after_one_listing(symbol: str) -> None:
    """However it is spelled; and nothing open needs no look-up either."""
    venue = prepared("spot")
    talk = cancel(symbol, venue=venue)
    assert talk.asked == ["OpenOrders"]
    talk.answer("OpenOrders", listing(order("ETHUSD"), order()))
    assert talk.asked == ["CancelOrder txid=O1"]
    assert talk.answer("CancelOrder", count(1)).value.status == "count 1"
    talk = cancel(symbol, venue=venue).answer("OpenOrders", listing(order("ETHUSD")))
    assert talk.value.status == "nothing open"
    assert listed(symbol, venue=venue).answer("OpenOrders", listing(order())).value[0].side == "buy"


def test_entry_does_not_fail_for_names() -> None:
    """Then they are not known; nor are they asked for again by a twin in a hurry."""
    for failure in (DOWN, NotSent("no"), Reply(403, {}, b"<html>")):
        venue = prepared("spot", "futures", pairs=failure, tokenized=failure, contracts=failure)
        assert venue.ready()
        assert cancel("XBT/USD", venue=venue).asked == ["OpenOrders"]
    found = prepared("spot", tokenized=DOWN).found.pairs or {}
    assert {*found} == {"XXBTZUSD", "XBTUSD", "XBT/USD"}
    assert cancel("AAPLx/USD", venue=prepared("spot")).asked == ["OpenOrders"]


def test_a_pair_that_is_not_known_is_cancelled_without_the_list_of_pairs() -> None:
    """``XBT/USD`` can only be ``XBTUSD``; the list is not even asked for."""
    talk = cancel("XBT/USD").answer("OpenOrders", listing(order(), order("ETHUSD"), order()))
    assert talk.asked == ['CancelOrderBatch {"orders":["O0","O2"]}']
    assert talk.answer("CancelOrderBatch", count(2)).value.status == "count 2"


def test_a_name_is_never_widened() -> None:
    """``USD/TUSD`` is not ``USDT/USD``, though both are ``USDTUSD`` without the slash."""
    talk = cancel("USD/TUSD")
    assert talk.asked == ["OpenOrders", "AssetPairs?pair=USD%2FTUSD"]
    talk.answer("OpenOrders", listing(order("USDTUSD")))
    assert talk.asked == ["AssetPairs?pair=USD%2FTUSD"]
    talk.answer("AssetPairs", NO_PAIR)
    assert isinstance(talk.answer("AssetPairs", NO_PAIR).value, ScopeError)


def test_a_failed_look_up_is_named_and_never_nothing_open() -> None:
    """Neither is a name that entry did not find: it may have been listed since."""
    for venue in (VENUE, prepared("spot")):
        talk = cancel("NEW/USD", venue=venue).answer("OpenOrders", listing(order()))
        assert isinstance(talk.answer("AssetPairs", DOWN).value, VenueUnavailable)
    names = {"error": [], "result": {"NEWUSD": {"altname": "NEWUSD", "wsname": "NEW/USD"}}}
    talk = cancel("NEW/USD", venue=prepared("spot")).answer("OpenOrders", listing(order()))
    assert talk.answer("AssetPairs", names).value.status == "nothing open"


def test_a_pair_that_was_listed_since_entry_is_cancelled_without_a_look_up() -> None:
    """As one is of which entry could find out nothing: its name says what it is listed by."""
    for venue in (VENUE, prepared("spot")):
        talk = cancel("NEW/USD", venue=venue)
        assert talk.asked == ["OpenOrders"]
        talk.answer("OpenOrders", listing(order(), order("NEWUSD")))
        assert talk.asked == ["CancelOrder txid=O1"]
    names = {"error": [], "result": {"X": {"altname": "XBTUSD", "wsname": "X/BTUSD"}}}
    talk = cancel("XBT/USD", venue=prepared("spot", pairs=names))
    assert talk.asked == ["OpenOrders", "AssetPairs?pair=XBT%2FUSD"]  # the name is another pair's


def test_an_ack_of_futures_stands() -> None:
    """Nothing is asked after it, nor beside it where the contract was listed on entry."""
    for venue in (VENUE, prepared("futures"), prepared("futures", contracts=DOWN)):
        talk = cancel("pf_xbtusd", "futures", venue).answer("cancelallorders", NONE_OPEN)
        assert talk.value.status == "noOrdersToCancel"


@pytest.mark.parametrize(
    "failure", [DOWN, NotSent("no"), Reply(503, {}, b""), Reply(200, {}, b"{")]
)
def test_a_contract_that_was_not_listed_on_entry(failure: Any) -> None:
    """It is cancelled all the same; the list is asked beside, for a second, and may say no."""
    venue = prepared("futures")
    talk = cancel("PF_NEWUSD", "futures", venue)
    assert talk.asked == ["cancelallorders?symbol=PF_NEWUSD", "instruments?contractType=all"]
    assert talk.root.calls()[1].part.time_limit == 1.0
    talk.answer("instruments", failure).answer("cancelallorders", NONE_OPEN)
    assert talk.value.status == "noOrdersToCancel"
    talk = cancel("PF_NEWUSD", "futures", venue).answer("cancelallorders", NONE_OPEN)
    assert isinstance(talk.answer("instruments", CONTRACTS).value, ScopeError)
    done = {"result": "success", "cancelStatus": {"status": "cancelled"}}
    talk = cancel("PF_NEWUSD", "futures", venue).answer("cancelallorders", done)
    assert talk.answer("instruments", CONTRACTS).value.status == "cancelled"
    empty = {"result": "success", "openOrders": []}
    talk = listed("PF_NEWUSD", "futures", venue).answer("openorders", empty)
    assert talk.answer("instruments", failure).value == []


# --- rows that can't be read (rows 7 and 47) ------------------------------------------------------

NO_TYPE: dict[str, Any] = {"pair": "XBTUSD", "type": "both", "ordertype": None, "price": []}
ODD = [
    *(order(**wrong) for wrong in ({"vol": None}, {"status": None}, {"vol": "NaN"})),
    order() | {"descr": NO_TYPE},
    {"descr": {"pair": "XBTUSD"}},
]


@pytest.mark.parametrize("row", ODD)
def test_a_cancel_needs_an_id_and_a_pair(row: dict[str, Any]) -> None:
    """A listing that can't be read whole proves nothing, but is enough to cancel."""
    rows = listing(order("ETHUSD"), row, order())
    talk = cancel("XBTUSD").answer("OpenOrders", rows)
    assert talk.asked == ['CancelOrderBatch {"orders":["O1","O2"]}']
    assert talk.answer("CancelOrderBatch", count(2)).value.status == "count 2"
    assert isinstance(listed("XBTUSD").answer("OpenOrders", rows).value, ProtocolError)


@pytest.mark.parametrize("row", [order(None), {}, "no row", order() | {"descr": None}])
def test_an_order_whose_pair_is_not_told_is_named(row: Any) -> None:
    """The others are cancelled, and it is no success; nor is it nothing open."""
    talk = cancel("XBTUSD").answer("OpenOrders", listing(row, order()))
    assert talk.asked == ["CancelOrder txid=O1"]
    error = talk.answer("CancelOrder", count(1)).value
    assert "1 of the open orders were left alone" in error.message
    talk = cancel("XBT/USD", venue=prepared("spot")).answer("OpenOrders", listing(row))
    assert isinstance(talk.value, ProtocolError)


def test_a_side_of_futures_may_be_unknown() -> None:
    """As documented since May 2026; what is no side at all is still refused."""
    row = {"order_id": "x", "symbol": "PF_XBTUSD", "side": "unknown", "orderType": "unknown"}
    talk = listed(None, "futures").answer("openorders", {"result": "success", "openOrders": [row]})
    (read,) = talk.value
    assert (read.side, read.order_type, read.book) == ("unknown", "unknown", "ordinary")
    rows = {"result": "success", "openOrders": [row | {"side": "both"}]}
    assert isinstance(listed(None, "futures").answer("openorders", rows).value, ProtocolError)


def test_a_batch_waits_for_no_other() -> None:
    """One that is refused as a whole is mended while another hangs."""
    talk = cancel("XBTUSD").answer("OpenOrders", listing(*[order()] * 60))
    assert len(talk.asked) == 2
    talk.answer("CancelOrderBatch", {"error": ["EOrder:Unknown order"]})
    talk.answer("OpenOrders", listing(order(), order()))
    assert talk.asked[0] == 'CancelOrderBatch {"orders":["O0","O1"]}'
    talk.answer("CancelOrderBatch", count(2)).answer("CancelOrderBatch", count(10))
    assert talk.value.status == "count 12"


@pytest.mark.parametrize("category", ["spot", "futures"])
def test_a_large_listing_is_read_in_pieces(category: str) -> None:
    """Between which the event loop can do something else."""
    futures_row: Any = {
        "order_id": "x" * 36,
        "symbol": "PF_XBTUSD",
        "side": "buy",
        "pad": "p" * 200,
    }
    rows = {"result": "success", "openOrders": [futures_row] * 2000}
    if category == "spot":
        rows = listing(*[order("XBTUSD", pad="p" * 200)] * 2000)
    (part,) = listed(None, category).root.calls()
    pieces = part.part.decode(Reply(200, {}, json.dumps(rows).encode()), Stamp(NOW))
    assert isinstance(pieces, Generator)
    assert len([*pieces]) > 2
    assert len(decoded(part.part, rows)) == 2000


# --- what is told ---------------------------------------------------------------------------------


def test_books_are_told_by_type() -> None:
    """They can't be left out of a cancel."""
    types = ["limit", "stop-loss", "take-profit-limit", "trailing-stop", "iceberg"]
    rows = [order() | {"descr": order()["descr"] | {"ordertype": word}} for word in types]
    orders = listed(None).answer("OpenOrders", listing(*rows)).value
    assert [o.book for o in orders] == ["ordinary", "stop", "stop", "stop", "ordinary"]
    for category in VENUE.abilities:
        with pytest.raises(ScopeError, match="stop"):
            VENUE.check_scope(Scope(category, None, ("ordinary",)))


@pytest.mark.parametrize(
    ("rows", "ids"), [([{"order_id": "a"}, {"order_id": "b"}], ("a", "b")), ([], ()), (None, None)]
)
def test_the_ids_that_an_answer_tells(rows: Any, ids: Any) -> None:
    """Those that can't be read cost no Ack."""
    status = {"status": "cancelled", "cancelledOrders": rows}
    answer = {"result": "success", "cancelStatus": status}
    assert cancel(None, "futures").answer("cancelallorders", answer).value.cancelled == ids
    assert cancel(None).answer("CancelAll", count(1)).value.cancelled is None


# --- what is not Kraken's own word; caches; limits (rows 16, 40 and 30) ---------------------------


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("category", ["spot", "futures"])
def test_a_page_says_nothing_of_the_key(category: str, status: int) -> None:
    """A CDN's page is worth another try."""
    page = Reply(status, {"Content-Type": "text/html"}, b"<html>")
    assert isinstance(cancel(None, category).answer("", page).value, VenueUnavailable)
    own: Any = {"error": ["EGeneral:Permission denied"]}
    if category == "futures":
        own = {"result": "error", "error": "insufficientPrivileges"}
    assert isinstance(cancel(None, category).answer("", own).value, PermissionDenied)


@pytest.mark.parametrize("headers", [{"Age": "12"}, {"X-Cache": "Hit from cloudfront"}])
@pytest.mark.parametrize("category", ["spot", "futures"])
def test_a_listing_out_of_a_cache_proves_nothing(category: str, headers: dict[str, str]) -> None:
    """It may be of the time before the order was sent."""
    rows = listing() if category == "spot" else {"result": "success", "openOrders": []}
    for more, proven in ((headers, False), ({"Age": "0"}, False), ({"X-Cache": "MISS"}, True)):
        talk = listed(None, category).answer("", Reply(200, more, json.dumps(rows).encode()))
        assert isinstance(talk.value, list) is proven


def test_a_lockout_lasts_a_quarter_of_an_hour() -> None:
    """Which every further request would prolong."""
    error = listed(None).answer("", {"error": ["EGeneral:Temporary lockout"]}).value
    assert (type(error), error.retry_after) == (RateLimited, 900.0)


def test_limits_are_the_documented_ones() -> None:
    """Each where it belongs; the tier is the lowest unless told."""
    told = [(limit.name, limit.amount, limit.per) for limit in VENUE.limits(VENUE.spot_url)]
    assert told == [("counter", 15, "key"), ("public", 3, "origin")]
    (counter, _) = Kraken(tier="pro").limits(VENUE.spot_url)
    assert (counter.amount, counter.seconds) == (20, 20.0)
    (limit,) = VENUE.limits(VENUE.futures_url)
    assert (limit.amount, limit.seconds, limit.per) == (500, 10.0, "key")
    with pytest.raises(ConfigurationError):
        Kraken(tier="vip")  # type: ignore[arg-type]


def test_every_call_has_its_cost() -> None:
    """Cancels by id count in the matching engine alone, which refuses none."""
    by_id = cancel("XBTUSD").answer("OpenOrders", listing(order()))
    talks = [cancel(None), listed(None), by_id, cancel(None, "futures"), listed(None, "futures")]
    costs = [talk.root.calls()[0].part.costs for talk in talks]
    assert costs[:3] == [{"counter": 1}, {"counter": 1}, {}]
    assert costs[3:] == [{"derivatives": 25}, {"derivatives": 2}]
    assert VENUE.probe(VENUE.spot_url).costs == {"public": 1}
