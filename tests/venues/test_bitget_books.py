"""Bitget's books: pages, what is left of a cancel, and both kinds of account."""

from typing import Any

import pytest

from bitget_support import (
    BTC,
    CLASSIC,
    ETH,
    FLAT,
    FUTURES,
    UNIFIED,
    WRONG,
    good,
    ids_in,
    lists,
    pages,
    play,
    spot,
)
from masscancel import (
    Ack,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    ScopeError,
    VenueUnavailable,
)
from masscancel.calls import Scope
from masscancel.venues.bitget import Bitget, Found

BUSY = VenueUnavailable("45001", "", "Unknown error", 400)
NORMAL = "GET v2/spot/trade/unfilled-orders?limit=100&tpslType=normal"
TPSL = "GET v2/spot/trade/unfilled-orders?limit=100&tpslType=tpsl"
BY_ID = "POST v2/spot/trade/batch-cancel-order"
STRATEGIES = "GET v3/trade/unfilled-strategy-orders?category=SPOT&type="
ORDINARY = ("ordinary",)


def told(error: Any) -> str:
    """The error with its notes."""
    assert isinstance(error, MassCancelError), error
    return " ".join([error.summary, *getattr(error, "__notes__", ())])


def acked(ids: list[str]) -> Any:
    """Answers a cancel by id: these are cancelled."""
    return lambda _: lists(*ids)


# --- pages ----------------------------------------------------------------------------------------


def test_a_page_is_cancelled_beside_the_listing_of_the_next() -> None:
    """By fifty; the next page begins before the least id, however the rows stand."""
    first, second = spot(*range(300, 200, -1)), spot(*range(150, 200))
    left = [first, second, []]
    answers = {
        NORMAL.replace("limit", "idLessThan=150&limit"): good([]),
        NORMAL.replace("limit", "idLessThan=201&limit"): lambda _: good(left[1]),
        NORMAL: good(first),
        BY_ID: lambda what: lists(*ids_in([what], "POST")[0]),
    }
    ack, asked = play(CLASSIC.cancel_all(Scope("spot", books=ORDINARY), None), answers)
    assert isinstance(ack, Ack)
    assert ack.cancelled is not None
    assert set(ack.cancelled) == {str(number) for number in (*range(150, 200), *range(201, 301))}
    assert [len(ids) for ids in ids_in(asked, BY_ID)] == [50, 50, 50]
    assert asked.index(next(a for a in asked if a.startswith(BY_ID))) == 1


PAGED: list[tuple[Any, Scope, str, Any, str]] = [
    (
        CLASSIC,
        Scope("spot", BTC, ORDINARY),
        "GET v2/spot/trade/unfilled-orders",
        list,
        "idLessThan=5",
    ),
    (
        *(CLASSIC, Scope(FUTURES), "GET v2/mix/order/orders-pending"),
        lambda rows: {"entrustedList": rows or None, "endId": rows[-1]["orderId"] if rows else ""},
        "idLessThan=5",
    ),
    (
        *(CLASSIC, Scope("margin", BTC), "GET v2/margin/crossed/open-orders"),
        lambda rows: {
            "orderList": rows,
            "maxId": "9",
            "minId": rows[-1]["orderId"] if rows else None,
        },
        "idLessThan=5",
    ),
    (
        *(UNIFIED, Scope("spot", books=ORDINARY), "GET v3/trade/unfilled-orders"),
        lambda rows: {"list": rows, "cursor": "c5" if rows else None},
        "cursor=c5",
    ),
]


@pytest.mark.parametrize(("venue", "scope", "path", "shape", "cursor"), PAGED)
def test_listings_go_on_until_a_page_is_empty(
    venue: Any, scope: Scope, path: str, shape: Any, cursor: str
) -> None:
    """A short page is no end: none of the documents says so."""
    more = {"qty": "1", "baseSize": "1", "price": "1"}
    served = pages(spot(6, 5, **more), shape=shape)
    if scope.account_category == FUTURES:  # live first, then partially filled
        empty = good({"entrustedList": None, "endId": None})
        answers = {path: lambda what: served(what) if "status=live" in what else empty}
    else:
        answers = {path: served}
    orders, asked = play(venue.open_orders(scope), answers)
    assert [order.order_id for order in orders] == ["6", "5"]
    mine = [each for each in asked if each.startswith(path) and "partially" not in each]
    assert len(mine) == 2
    assert cursor in mine[1]


def test_a_listing_that_says_that_it_ends() -> None:
    """Spot's plans tell whether there is a next page."""
    data = {"nextFlag": False, "idLessThan": "1", "orderList": spot(3, executePrice="1")}
    answers = {"GET v2/spot/trade/current-plan-order": good(data)}
    orders, asked = play(CLASSIC.open_orders(Scope("spot", books=("stop",))), answers)
    assert [(order.order_id, order.book) for order in orders] == [("3", "stop")]
    assert len(asked) == 2  # and TP/SL


def test_a_page_that_comes_again_is_no_proof() -> None:
    """Its orders are cancelled; then the error names the pages that can't be had."""
    answers = {NORMAL.replace("limit", "idLessThan=1&limit"): good(spot(1)), NORMAL: good(spot(1))}
    answers[BY_ID] = lists("1")
    error, asked = play(CLASSIC.cancel_all(Scope("spot", books=ORDINARY), None), answers)
    assert "pages without end" in told(error)
    assert ids_in(asked, BY_ID)
    error, _ = play(CLASSIC.open_orders(Scope("spot", books=ORDINARY)), answers)
    assert type(error) is ProtocolError


@pytest.mark.parametrize(
    ("venue", "path", "data"),
    [
        (CLASSIC, "GET v2/margin/isolated", {"orderList": spot(*range(500), baseSize="1")}),
        (UNIFIED, "GET v3/trade/unfilled-orders", {"list": spot(*range(100), qty="1")}),
    ],
)
def test_a_full_page_without_a_way_on_may_be_cut(venue: Any, path: str, data: Any) -> None:
    """It proves nothing; what it shows is cancelled all the same."""
    answers = {
        path: good(data),
        "POST v2/margin/isolated": lambda w: lists(*ids_in([w], "POST")[0]),
    }
    scope = Scope("margin", BTC, ORDINARY)
    error, _ = play(venue.open_orders(scope), answers)
    assert "may be cut" in told(error)
    if venue is CLASSIC:
        error, asked = play(venue.cancel_all(scope, None), answers)
        assert "may be cut" in told(error)
        assert sum(map(len, ids_in(asked, "POST v2/margin/isolated"))) == 500


# --- what is left ---------------------------------------------------------------------------------


def test_a_sick_book_costs_the_others_nothing() -> None:
    """Each of spot's books in turn: the others are cancelled, and it is named."""
    sick = {
        "POST v2/spot/trade/batch-cancel-plan-order": "plan orders",
        NORMAL: "orders that could not be listed (v2/spot/trade/unfilled-orders normal)",
        TPSL: "orders that could not be listed (v2/spot/trade/unfilled-orders tpsl)",
    }
    for path, name in sick.items():
        served = {
            "POST v2/spot/trade/batch-cancel-plan-order": lists("9"),
            NORMAL: pages(spot(1), shape=list),
            TPSL: pages(spot(2), shape=list),
            NORMAL.replace("limit", "idLessThan=1&limit"): good([]),
            TPSL.replace("limit", "idLessThan=2&limit"): good([]),
            BY_ID: lambda what: lists(*ids_in([what], "POST")[0]),
        }
        error, asked = play(CLASSIC.cancel_all(Scope("spot"), None), {**served, path: BUSY})
        assert f"not acknowledged: {name}" in told(error)
        cancelled = [each for ids in ids_in(asked, BY_ID) for each in ids]
        assert cancelled == [i for i, p in (("1", NORMAL), ("2", TPSL)) if p != path]


def test_a_row_that_can_not_be_read_is_named_and_the_others_are_cancelled() -> None:
    """Of a row, a cancel needs id and symbol alone; what else is odd is no matter."""
    rows = [*spot(1, side=7, size=None), *spot(2, orderId=None), *spot(3, priceAvg={})]
    answers = {
        NORMAL: good(rows),
        NORMAL.replace("limit", "idLessThan=1&limit"): good([]),
        BY_ID: lists("1", "3"),
    }
    error, asked = play(CLASSIC.cancel_all(Scope("spot", books=ORDINARY), None), answers)
    assert ids_in(asked, BY_ID) == [["1", "3"]]
    assert "1 of its orders can't be read" in told(error)


def test_an_order_that_the_answer_does_not_name_is_left() -> None:
    """Nor is it cancelled because others are; a failure may name an order by its client's id."""
    rows = [*spot(1), *spot(2), *spot(3, clientOid="mine")]
    answers = {NORMAL: good(rows), NORMAL.replace("limit", "idLessThan=1&limit"): good([])}
    data = {"successList": [{"orderId": "1"}], "failureList": [{"clientOid": "mine"}]}
    data["failureList"][0]["errorMsg"] = "notExistend"
    scope = Scope("spot", books=ORDINARY)
    error, _ = play(CLASSIC.cancel_all(scope, None), answers | {BY_ID: good(data)})
    assert "not acknowledged: 2" in told(error)
    gone = ({"code": "43001", "msg": "The order does not exist", "data": None}, 400)
    error, _ = play(CLASSIC.cancel_all(scope, None), answers | {BY_ID: gone})
    assert "not acknowledged: 1, 2, 3" in told(error)  # one of them, perhaps


def test_a_symbol_never_touches_another() -> None:
    """Strategies are listed by category, and a venue that ignores the symbol is taken so."""
    rows = [*spot(1), *spot(2, symbol=ETH), *spot(3, symbol=None)]
    answers = {f"{STRATEGIES}tpsl": good(rows), TPSL.replace("limit", "symbol"): good(rows)}
    error, asked = play(UNIFIED.cancel_all(Scope("spot", BTC), None), answers)
    assert ids_in(asked, "POST v3/trade/cancel-strategy-order") == [["1"]]
    assert "not acknowledged: 3" in told(error)
    path = "GET v2/spot/trade/unfilled-orders?limit=100&symbol=BTCUSDT&tpslType=tpsl"
    answers = {path: good(rows[:2]), path.replace("limit", "idLessThan=1&limit"): good([])}
    ack, asked = play(CLASSIC.cancel_all(Scope("spot", BTC), None), answers | {BY_ID: lists("1")})
    assert ids_in(asked, BY_ID) == [["1"]]
    assert isinstance(ack, Ack)


def test_strategies_go_one_by_one_and_one_that_fails_is_named() -> None:
    """One that is gone already is no failure; the rows may stand in a list of that name."""
    bodies: dict[str, Any] = {
        '{"orderId":"1"}': good(None),
        '{"orderId":"2"}': ({"code": "25597", "msg": "does not exist", "data": None}, 400),
        '{"orderId":"3"}': BUSY,
    }
    answers: dict[str, Any] = {f"{STRATEGIES}trigger": good({"list": spot(1, 2, 3)})}
    answers["POST v3/trade/cancel-strategy-order"] = lambda what: bodies[what.split(" ")[-1]]
    error, _ = play(UNIFIED.cancel_all(Scope("spot"), None), answers)
    assert "not acknowledged: 3" in told(error)
    assert type(error) is VenueUnavailable


# --- both kinds of account ------------------------------------------------------------------------


def play_kind(flow: Any, *versions: str, answers: dict[str, Any] | None = None) -> Any:
    """Take a flow to its end at an account that is refused by an API, whatever is asked of it."""
    refused = {
        path: (WRONG[version], 400) for path in FLAT for version in versions if version in path
    }
    return play(flow, (answers or {}) | refused)


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("category", ["spot", FUTURES])
def test_where_the_kind_is_not_known_both_are_asked(version: str, category: str) -> None:
    """The refusal of the wrong API is no failure; the other's answer is the Ack."""
    for symbol in (None, BTC):
        scope = Scope(category, symbol)
        ack, asked = play_kind(Bitget().cancel_all(scope, None), version)
        assert isinstance(ack, Ack)
        assert {each.split()[1][:2] for each in asked} == {"v2", "v3"}
        assert play_kind(Bitget().open_orders(scope), version)[0] == []


def test_a_failure_of_the_right_one_is_the_error() -> None:
    """However many refusals there are beside it."""
    path = "POST v3/trade/cancel-symbol-order"
    error, _ = play_kind(Bitget().cancel_all(Scope("spot"), None), "v2", answers={path: BUSY})
    assert error is BUSY


def test_an_account_that_is_of_the_other_kind_by_now() -> None:
    """It has been upgraded since entry: the other API is spoken after the refusal."""
    ack, asked = play_kind(CLASSIC.cancel_all(Scope("spot", BTC), None), "v2")
    assert isinstance(ack, Ack)
    assert asked[-1].startswith("GET v3")
    assert play_kind(CLASSIC.open_orders(Scope("spot", BTC)), "v2")[0] == []


def test_refused_by_both() -> None:
    """That is no success."""
    for flow in (Bitget().cancel_all(Scope("spot"), None), Bitget().open_orders(Scope("spot"))):
        error, _ = play_kind(flow, "v2", "v3")
        assert type(error) is PermissionDenied


def test_stops_of_classic_margin_are_refused_by_name() -> None:
    """A classic account has none there, which the other API says; an upgraded one has."""
    scope = Scope("margin", BTC, ("stop",))
    for venue in (CLASSIC, Bitget()):
        for flow in (venue.cancel_all(scope, None), venue.open_orders(scope)):
            error, _ = play_kind(flow, "v3")
            assert isinstance(error, ScopeError)
    for venue in (CLASSIC, UNIFIED, Bitget()):
        rows = good([{"orderId": "1", "symbol": BTC, "qty": "1"}])
        orders, _ = play(venue.open_orders(scope), {"GET v3/trade/unfilled-strategy-orders": rows})
        assert [order.book for order in orders] == ["stop"]
        ack, _ = play_kind(venue.cancel_all(scope, None), "v2")
        assert isinstance(ack, Ack)


@pytest.mark.parametrize(
    ("classic", "unified", "kind"),
    [
        (good([]), (WRONG["v3"], 400), False),
        ((WRONG["v2"], 400), good({"list": []}), True),
        (BUSY, good({"list": []}), True),
        (BUSY, (WRONG["v3"], 400), False),
        ((WRONG["v2"], 400), BUSY, True),
        (BUSY, BUSY, None),
        (good([]), good({"list": []}), None),  # one of them is wrong: both are asked
    ],
)
def test_entry_finds_the_kind_out(classic: Any, unified: Any, kind: bool | None) -> None:
    """As far as it can be had; what can't be had is no failure, and is not asked again."""
    pairs = good([{"symbol": BTC}, {"symbol": ETH}])
    answers = {"GET v2/spot/trade": classic, "GET v3": unified, "GET v2/margin/currencies": pairs}
    answers["GET v2/spot/trade/unfilled-orders"] = classic
    answers["GET v3/trade/unfilled-orders"] = unified
    venue, asked = play(Bitget().prepare(["spot", "margin"]), answers)
    assert venue.unified is kind
    assert venue.found == Found(asked=True, pairs=(BTC, ETH))
    assert venue.ready()
    assert len(asked) == 3


def test_margin_goes_pair_by_pair() -> None:
    """Those of entry; where they could not be had, they are asked for; if not then, it is named."""
    found = Bitget(unified=False, found=Found(asked=True, pairs=(BTC, ETH)))
    ack, asked = play(found.cancel_all(Scope("margin"), None))
    assert isinstance(ack, Ack)
    assert len(asked) == 4
    pairs = {"GET v2/margin/currencies": good([{"symbol": BTC}])}
    assert len(play(CLASSIC.cancel_all(Scope("margin"), None), pairs)[1]) == 3
    error, _ = play(CLASSIC.cancel_all(Scope("margin"), None), {"GET v2/margin/currencies": BUSY})
    assert "margin orders, whose pairs could not be listed" in told(error)
    error, _ = play(CLASSIC.open_orders(Scope("margin")), {"GET v2/margin/currencies": BUSY})
    assert error is BUSY
