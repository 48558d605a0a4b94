"""Kraken's flows: one pair, one contract, what has become of orders, the switch."""

import json
from typing import Any

import pytest

from kraken_support import (
    BTC,
    PERP,
    VENUE,
    Talk,
    cancel,
    listed,
    listing,
    order,
    orders_of,
    reply,
    result,
    sample,
)
from masscancel import (
    Ack,
    ConfigurationError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Scope
from masscancel.errors import StampRefused

UNKNOWN_ORDER = {"error": ["EOrder:Unknown order"]}


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


def test_a_websocket_name_that_says_what_is_listed_needs_no_look_up() -> None:
    """``XBT/USD`` can only be ``XBTUSD``; it is looked up where none of it is listed."""
    talk = cancel("spot", "XBT/USD").answer(listing("ETHUSD", BTC))
    assert talk.rounds == [["OpenOrders"], ["CancelOrder txid=O1"]]
    talk = cancel("spot", "XBT/USD").answer(listing("ETHUSD"))
    assert talk.rounds == [["OpenOrders"], ["AssetPairs?pair=XBT%2FUSD"]]
    assert talk.answer(sample(f"spot_asset_pairs_{BTC}")).value.status == "nothing open"


def test_any_other_websocket_name_is_looked_up_beside_the_listing() -> None:
    """Both in flight together, as soon as the spelling tells."""
    pairs = result({"XBTMATIC": {"altname": "XBTMATIC", "wsname": "XBT/MATIC"}})
    talk = cancel("spot", "XBT/MATIC").answer(listing("ETHUSD", "XBTMATIC"), pairs)
    assert talk.rounds == [
        ["OpenOrders", "AssetPairs?pair=XBT%2FMATIC"],
        ["CancelOrder txid=O1"],
    ]


def test_a_key_of_the_list_is_looked_up_beside_the_listing() -> None:
    """``XXBTZUSD`` is ``XBTUSD``, and no order is ever listed by it."""
    talk = cancel("spot", "XXBTZUSD").answer(listing(BTC), sample(f"spot_asset_pairs_{BTC}"))
    assert talk.rounds[0][1:] == ["AssetPairs?pair=XXBTZUSD"]
    assert talk.rounds[1:] == [["CancelOrder txid=O0"]]


def test_a_listing_that_matches_stands_without_a_look_up() -> None:
    """Should orders ever be listed by the other name, a failed look-up keeps nobody waiting."""
    for name, *look_up in (("XBT/USD",), ("XBT/MATIC", RateLimited("EAPI"))):
        talk = cancel("spot", name).answer(listing(name), *look_up)
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
    unknown = sample("spot_asset_pairs_unknown")
    talk = cancel("spot", "AAPLx/MATIC").answer(listing("AAPLxMATIC", BTC), unknown)
    assert talk.rounds[1] == ["AssetPairs?pair=AAPLx%2FMATIC&aclass_base=tokenized_asset"]
    talk.answer(result({"AAPLxMATIC": {"altname": "AAPLxMATIC", "wsname": "AAPLx/MATIC"}}))
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
        cancel("spot", "BTC/USD").answer(listing(BTC)).answer(sample(f"spot_asset_pairs_{BTC}"))


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
    left = ", ".join(f"O{n}" for n in range(50))
    assert caught.value.__notes__[0] == f"not acknowledged: {left}"


@pytest.mark.parametrize(
    "word", ["EGeneral:Invalid arguments", "EOrder:Invalid order", "ENew:Word"]
)
def test_a_batch_that_one_id_spoils_is_halved_at_once(word: str) -> None:
    """In the end the others are cancelled, and what is spoiled stands alone and is named."""
    talk = cancel("spot", BTC).answer(listing(*[BTC] * 5)).answer({"error": [word]})
    assert talk.rounds[2] == [
        'CancelOrderBatch {"orders":["O0","O1"]}',
        'CancelOrderBatch {"orders":["O2","O3","O4"]}',
    ]
    talk.answer(result({"count": 2}), {"error": [word]})
    assert talk.rounds[3] == ["CancelOrder txid=O2", 'CancelOrderBatch {"orders":["O3","O4"]}']
    with pytest.raises(VenueError) as caught:
        talk.answer({"error": [word]}, result({"count": 2}))
    assert caught.value.__notes__ == ["not acknowledged: O2", "1 parts failed; 2 were answered"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [("EGeneral:Permission denied", PermissionDenied), ("EAPI:Invalid nonce", StampRefused)],
)
def test_a_batch_that_is_refused_for_the_key_is_not_halved(error: str, kind: Any) -> None:
    """No part of it would fare better; all of it is named."""
    talk = cancel("spot", BTC).answer(listing(*[BTC] * 60))
    with pytest.raises(kind) as caught:
        talk.answer({"error": [error]}, {"error": [error]})
    assert caught.value.__notes__[0].endswith("O49 and 10 more")


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


def test_an_ack_of_a_contract_stands_and_an_empty_listing_is_looked_up() -> None:
    """Nothing is asked after a cancel; a listing that has none of the contract is no answer yet."""
    talk = cancel("futures", "fi_xbtusd_220930").answer(NO_ORDERS)
    assert talk.value.status == "noOrdersToCancel"
    assert len(talk.rounds) == 1
    talk = listed("futures", PERP).answer(sample("futures_open_orders"))
    assert talk.rounds[1] == ["instruments?contractType=all"]
    assert talk.answer(sample("futures_instruments")).value == []


def test_an_unknown_contract_is_no_success() -> None:
    """The venue cancels nothing of it, and says success; the list is asked beside the cancel."""
    contracts = sample("futures_instruments")
    entered = Talk(VENUE.prepare(["futures"])).answer(contracts).value
    talk = cancel("futures", "PF_XBTUSX", venue=entered)
    with pytest.raises(ScopeError, match="PF_XBTUSX"):
        talk.answer(NO_ORDERS, contracts)
    empty = {"result": "success", "openOrders": []}
    talk = listed("futures", "PF_XBTUSX").answer(empty)
    with pytest.raises(ScopeError, match="PF_XBTUSX"):
        talk.answer(contracts)
    with pytest.raises(ScopeError, match="PF_XBTUSX"):
        listed("futures", "PF_XBTUSX", venue=entered).answer(empty).answer(contracts)


def test_nothing_open_anywhere_needs_no_look_up() -> None:
    """Without a symbol there is none to check."""
    assert len(cancel("futures").answer(NO_ORDERS).rounds) == 1
    assert len(listed("futures").answer({"result": "success", "openOrders": []}).rounds) == 1


# --- what has become of orders --------------------------------------------------------------------


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
    return Talk(VENUE.switch(Scope(category, symbol), timeout_ms))


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
    """A symbol is refused by name, and so is a book."""
    symbol = BTC if category == "spot" else PERP
    for scope in (Scope(category, symbol), Scope(category, None, ("ordinary",))):
        with pytest.raises(ScopeError, match="whole account"):
            next(VENUE.switch(scope, 60_000))
