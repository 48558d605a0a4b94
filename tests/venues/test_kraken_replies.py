"""Kraken's replies: what the documents' samples, and every error, mean."""

import json
from decimal import Decimal
from typing import Any

import pytest

from kraken_support import BTC, IDS, PERP, VENUE, cancel, listed, order, reply, result, sample
from masscancel import (
    Ack,
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    OpenOrder,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.errors import StampRefused

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
    told = json.loads(sample("futures_cancel_all"))["cancelStatus"]["cancelledOrders"]
    assert talk.value == Ack(
        account_category="futures",
        status="cancelled",
        timestamp_ms=1564675057518,
        raw=sample("futures_cancel_all"),
        cancelled=tuple(row["order_id"] for row in told),
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
        reduce_only=True,
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
        ("EService:Throttled:1616493276", 899.406),
        ("EService:Throttled:99999999999", 900.0),
        ("EService:Throttled:1616492380000", 900.0),
        ("EService:Throttled", None),
        ("EAPI:Rate limit exceeded", None),
        ("EGeneral:Temporary lockout", 900.0),
    ],
)
def test_how_long_to_wait(text: str, seconds: float | None) -> None:
    """As the error says; minutes after a lockout, which every further request prolongs.

    An end that lies beyond that is told, and not waited for.
    """
    error = refused("spot", {"error": [text]})
    assert error.retry_after == pytest.approx(seconds)
    assert text.replace(": ", ":") in str(error)


@pytest.mark.parametrize("category", ["spot", "futures"])
@pytest.mark.parametrize(
    ("status", "kind", "executed"),
    [
        (401, VenueUnavailable, True),
        (403, VenueUnavailable, True),
        (404, VenueUnavailable, True),
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
    assert error.retry_after == (None if kind is ProtocolError else 7)


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
    ],
)
def test_what_is_no_answer_to_a_cancel_all(category: str, body: Any) -> None:
    """It is never taken for an Ack."""
    assert type(refused(category, body)) is ProtocolError
