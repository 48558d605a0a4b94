"""AscendEX's acknowledgements: what is one, and what is none."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

import pytest

from ascendex_support import (
    ID,
    NOW,
    STAMP,
    SYMBOLS,
    acknowledgement,
    cancel,
    decoded,
    reply,
    sample,
)
from masscancel import Ack, MassCancelError, ProtocolError, VenueError
from masscancel.calls import Stamp

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
