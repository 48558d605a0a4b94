"""OKX's replies: rows with odd values, pages, answers about each order, errors, and any bytes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from masscancel import (
    OpenOrder,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.venues.toolkit import Answer
from okx_support import (
    ALGO,
    BTC,
    EMPTY,
    ETH,
    ORDER,
    SPREAD,
    SPREAD_ORDER,
    batch,
    cancelling,
    good,
    ids_of,
    listing,
    orders,
    query_of,
    reads,
    told,
)


def listed(book: str, *rows: Any) -> Any:
    """What a listing of one book comes to."""
    drive = listing("account", None, book)
    drive.rest(good(*rows))
    return drive.value


# Rows.


def test_the_documents_rows() -> None:
    """As they stand there: prices of the market, of triggers, below zero."""
    (order,) = listed("ordinary", ORDER)
    assert order == OpenOrder(
        order_id="1752588852617379840",
        symbol=BTC,
        side="buy",
        price=Decimal("13013.5"),
        quantity=Decimal("0.001"),
        filled_quantity=Decimal(0),
        order_type="post_only",
        status="live",
        book="ordinary",
    )
    (algo,) = listed("conditional", ALGO)
    assert (algo.order_id, algo.book, algo.price) == ("algo:1753184812254216192", "conditional", 0)
    (oco,) = listed("conditional", {**ALGO, "ordType": "oco", "tpOrdPx": "-1", "slOrdPx": "5"})
    assert (oco.order_type, oco.book, oco.price) == ("oco", "conditional", 5)
    (spread,) = listed("spread", SPREAD_ORDER)
    assert (spread.order_id, spread.symbol) == ("spread:312269865356374016", SPREAD)
    assert (spread.price, spread.filled_quantity) == (-999, 1)


@pytest.mark.parametrize(
    "odd",
    [
        {"px": ""},
        {"px": None},
        {"px": 13013.5},
        {"sz": ""},
        {"sz": 1},
        {"accFillSz": ""},
        {"ordId": 1752588852617379840},
        {"instType": None},
        {"state": "partially_filled"},
        {"side": "SELL"},
        {"somethingNew": {"a": []}},
    ],
)
def test_odd_values_are_read(odd: dict[str, Any]) -> None:
    """Nothing for a number, numbers that are no text, an id that is one, what is new."""
    (order,) = listed("ordinary", {**ORDER, **odd})
    assert order.order_id == ORDER["ordId"]


@pytest.mark.parametrize(
    "sick",
    [
        {"side": "both"},
        {"side": None},
        {"sz": "many"},
        {"px": "NaN"},
        {"sz": []},
        {"ordType": 7},
        {"state": None},
    ],
)
def test_what_is_only_shown_keeps_no_order_alive(sick: dict[str, Any]) -> None:
    """A row that can't be shown is cancelled all the same, and its listing proves nothing."""
    assert isinstance(listed("ordinary", ORDER, {**ORDER, "ordId": "5", **sick}), ProtocolError)
    drive = cancelling("account", None, "ordinary")
    drive.rest(good(ORDER, {**ORDER, "ordId": "5", **sick}))
    (call,) = drive.calls
    assert ids_of(call) == [ORDER["ordId"], "5"]


@pytest.mark.parametrize("lost", [{"ordId": ""}, {"ordId": None}, {"instId": ""}, {"instId": 5}])
def test_a_row_without_a_key(lost: dict[str, Any]) -> None:
    """The others are cancelled; that it is there is an error, and no listing is a proof."""
    assert isinstance(listed("ordinary", ORDER, {**ORDER, **lost}), ProtocolError)
    drive = cancelling("account", None, "ordinary")
    drive.rest(good(ORDER, {**ORDER, **lost}))
    drive.rest(told(ORDER["ordId"]))
    with pytest.raises(ProtocolError, match="1 of its rows") as caught:
        drive.result()
    assert "orders of ordinary that the listing may lack" in str(caught.value.__notes__)


def test_rows_of_others_are_left_alone() -> None:
    """Whatever a listing shows beside what it was asked for: named, and never cancelled."""
    others = ({**ORDER, "instId": ETH}, {**ORDER, "instType": "MARGIN"})
    for other in others:
        drive = cancelling("spot", BTC, "ordinary")
        drive.rest(good({**ORDER, "ordId": "5"}, other))
        assert [ids_of(call) for call in drive.calls] == [["5"]]
        drive.rest(told("5"))
        with pytest.raises(ProtocolError, match="not what was asked for") as caught:
            drive.result()
        assert other["ordId"] not in str(caught.value.__notes__)
        drive = listing("spot", BTC, "ordinary")
        drive.rest(good(other))
        assert isinstance(drive.value, ProtocolError)


def test_a_cache_proves_nothing() -> None:
    """A listing with an age is none; what it shows is cancelled, and that it is one is told."""
    proof = listing("spot", None, "ordinary").calls[0]
    assert isinstance(reads(proof, good(), Age="7"), ProtocolError)
    assert "cache" in reads(cancelling("spot", None, "ordinary").calls[0], good(), Age="7").problem


# Pages.


@pytest.mark.parametrize("book", ["ordinary", "trigger", "spread"])
def test_pages_are_listed_to_the_last(book: str) -> None:
    """A full page is followed by what is older than its oldest, whatever order it comes in."""
    row = {"ordinary": ORDER, "trigger": ALGO, "spread": SPREAD_ORDER}[book]
    drive = listing("account", None, book)
    drive.rest(good(*reversed(orders(100, 5_000, row))))
    (call,) = drive.calls
    assert query_of(call)["endId" if book == "spread" else "after"] == "5000"
    drive.rest(good(*orders(100, 4_900, row)))
    drive.rest(good())
    assert len(drive.result()) == 200


def test_a_page_that_leads_back_is_no_end() -> None:
    """A listing that shows the same page again and again is an error, not a proof."""
    drive = listing("spot", None, "ordinary")
    for _ in range(2):
        drive.rest(good(*orders(100)))
    assert isinstance(drive.value, ProtocolError)
    drive = cancelling("spot", None, "ordinary")
    drive.rest(good(*orders(100)))
    drive.reply("after", good(*orders(100)))
    assert len(drive.calls) == 10
    assert not any("GET" in each for each in drive.shown)
    drive.accept()
    with pytest.raises(ProtocolError, match="without end"):
        drive.result()


def test_parts_go_on_alone() -> None:
    """A hung book, a hung page and a hung batch hold up none of the others, and are named."""
    drive = cancelling("swap", None, "ordinary", "trigger", "twap")
    row = {**ORDER, "instType": "SWAP"}
    drive.reply("orders-pending?instType", good(*orders(100, 5_000, row)))
    hung = drive.calls[0]
    drive.reply("after=5000", good(*orders(100, 4_900, row)))
    drive.reply("after=4900", good({**row, "ordId": "7"}))
    drive.reply("twap", good({**ALGO, "instType": "SWAP", "ordType": "twap"}))
    cancels = [call for call in drive.calls if call.method == "POST"]
    assert len(cancels) == 12
    for part in [each for each in drive.root.calls() if each.part.method == "POST"]:
        ids, key = ids_of(part.part), "algoId" if "algos" in part.part.path else "ordId"
        late = VenueUnavailable(None, "", "", 503)
        part.end(late if part.part is hung else reads(part.part, told(*ids, key=key)))
    drive.root.settle()
    assert drive.value is None
    drive.reply("trigger", VenueUnavailable(None, "", "", 503))
    with pytest.raises(VenueUnavailable) as caught:
        drive.result()
    notes = str(caught.value.__notes__)
    assert f"{ids_of(hung)[0]}, " in notes
    assert "orders of trigger that could not be listed" in notes
    assert "2 failed; of 13 calls" in notes


# Answers about each order.


def test_an_accepted_cancel_is_not_said_to_be_done() -> None:
    """The venue accepts; whether the orders are cancelled, its answer does not say."""
    drive = batch()
    drive.accept()
    ack = drive.ack()
    assert (ack.status, ack.cancelled, ack.symbol) == ("accepted", None, "")
    drive = listing("spot")
    drive.rest(EMPTY)
    assert drive.result() == []
    drive = cancelling("spot")
    drive.rest(EMPTY)
    assert (drive.ack().status, drive.ack().cancelled) == ("nothing open", ())


@pytest.mark.parametrize("code", ["51400", "51401", "51402", "51405", "51410", "51416", "51603"])
def test_what_is_gone_is_no_failure(code: str) -> None:
    """One of three, all three, or the only one, whose code may be that of the reply."""
    drive = batch()
    drive.rest(told("5", "6", "7", o6=code))
    assert drive.ack().status == "accepted"
    drive = batch()
    drive.rest(told("5", "6", "7", o5=code, o6=code, o7=code))
    assert (drive.ack().status, drive.ack().cancelled) == ("nothing open", None)
    drive = batch(1)
    drive.rest({"code": code, "msg": "gone", "data": []})
    assert drive.ack().status == "nothing open"


def test_a_code_with_two_meanings() -> None:
    """51412: it was triggered, and is gone; or its cancel timed out, which is unknown."""
    triggered = "The order has been triggered and can't be canceled."
    for text, fine in (
        (triggered, True),
        ("Cancellation timed out, please try again later.", False),
        ("", False),
    ):
        reply = told("5", "6", "7", o6="51412")
        reply["data"][1]["sMsg"] = text
        drive = batch()
        drive.rest(reply)
        assert (drive.value is not None) is fine
        assert [ids_of(call) for call in drive.calls] == ([] if fine else [["6"]])


def test_what_is_left_is_named() -> None:
    """Partial failure within HTTP 200, with the code that says so, or another."""
    for code in ("2", "0", "1"):
        drive = batch()
        drive.rest({**told("5", "6", "7", o5="51404", o7="59999"), "code": code})
        with pytest.raises(VenueError) as caught:
            drive.result()
        assert caught.value.code == "51404"
        assert "not acknowledged: 5, 7" in str(caught.value.__notes__)


def test_what_could_not_be_seen_to_is_sent_again() -> None:
    """By itself, until the time is up: the venue was busy, or does not tell of it."""
    missing = told("5", "7")
    for reply in (told("5", "6", "7", o6="50011"), told("5", "6", "7", o6="51149"), missing):
        drive = batch()
        drive.rest(reply)
        (call,) = drive.calls
        assert ids_of(call) == ["6"]
        again = reads(call, told("6", o6="50011"))
        assert isinstance(again, RateLimited)  # which the engine tries again
        assert not again.may_have_executed
        drive.rest(told("6"))
        assert drive.ack().status == "accepted"
    drive = batch()
    drive.rest(told("5", "6", "7", o5="51149", o6="51149", o7="51404"))
    (call,) = drive.calls
    again = reads(call, told("5", "6", o6="50011"))
    assert again.may_have_executed  # of one of them
    drive.reply("cancel", again)
    with pytest.raises(VenueError) as caught:
        drive.result()
    assert "not acknowledged: 5, 6, 7" in str(caught.value.__notes__)


@pytest.mark.parametrize(
    "reply",
    [
        good(),
        told("5", "6", "8"),
        told("5", "6", "7", "8"),
        told("5", "5", "6"),
        good({"ordId": "5"}),
        {"code": "0", "msg": ""},
        {"code": "0", "msg": "", "data": {}},
        {"code": None, "msg": "", "data": []},
        good({"result": True}),
    ],
)
def test_an_answer_about_something_else(reply: Any) -> None:
    """Is none: what was asked for may have been carried out, or not."""
    error = reads(batch().calls[0], reply)
    assert isinstance(error, ProtocolError)
    assert error.may_have_executed


def test_an_answer_without_ids_goes_by_place() -> None:
    """Where each order has its row; ids and codes may be numbers."""
    rows: list[dict[str, Any]] = [
        {"ordId": "", "sCode": 0},
        {"ordId": 6, "sCode": "51404"},
        {"sCode": "0"},
    ]
    answer = reads(batch().calls[0], good(*rows, code="2"))
    assert isinstance(answer, Answer)
    assert [*answer.failed] == ["6"]


def test_spreads_are_cancelled_by_one_call() -> None:
    """It is received, or it is not; none to cancel is no failure."""
    (call,) = cancelling("account", None, "spread").calls
    assert reads(call, good({"result": True})).status == "accepted"
    gone = {"code": "51405", "msg": "you don't have any pending orders", "data": []}
    assert reads(call, gone).status == "nothing open"
    assert type(reads(call, good({"result": False}))) is VenueError
    assert isinstance(reads(call, good({"result": "yes"})), ProtocolError)
