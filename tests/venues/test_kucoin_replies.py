"""KuCoin, on the way back: what its replies mean, and what can't be understood."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows_support import Drive, calls_of, decoded
from masscancel import (
    Ack,
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Call, Scope
from masscancel.errors import StampRefused
from masscancel.venues.kucoin import KuCoin
from masscancel.venues.toolkit import Answer

VENUE = KuCoin()
BTC, XBT = "BTC-USDT", "XBTUSDTM"


def answer(data: Any) -> dict[str, Any]:
    """A reply that says success."""
    return {"code": "200000", "data": data}


def cancels(category: str, symbol: str | None = None) -> list[Call[Any]]:
    """The calls that a cancel begins with."""
    return calls_of(VENUE.cancel_all(Scope(category, symbol), None))


def listings(category: str) -> list[Call[Any]]:
    """The calls that a listing begins with."""
    return calls_of(VENUE.open_orders(Scope(category)))


# --- refusals -------------------------------------------------------------------------------------

SPOT, FUTURES = cancels("spot", BTC)[2], cancels("futures", XBT)[1]
KINDS = [
    ("400001", AuthenticationError),
    ("400003", AuthenticationError),
    ("400004", AuthenticationError),
    ("400005", AuthenticationError),
    ("400002", StampRefused),
    ("400006", PermissionDenied),
    ("400007", PermissionDenied),
    ("411100", PermissionDenied),
    ("112010", PermissionDenied),
    ("429000", RateLimited),
    (1015, RateLimited),
    ("400100", InvalidRequest),
    ("900001", InvalidRequest),
    ("126010", VenueError),
    ("102428", VenueUnavailable),
    ("500000", VenueUnavailable),
    ("230005", VenueUnavailable),
    ("123456", VenueError),
]


@pytest.mark.parametrize(("code", "kind"), KINDS)
@pytest.mark.parametrize("status", [200, 400, 401])
def test_the_code_goes_before_the_status(code: Any, kind: type[VenueError], status: int) -> None:
    """Whatever status a documented code comes with, at 200 too; an unknown one may be anything."""
    error = decoded(SPOT, {"code": code, "msg": "no"}, status)
    if code == "123456" and status == 401:
        kind = AuthenticationError
    assert type(error) is kind
    assert (error.code, error.http_status) == (str(code), status)
    if (code, status) == ("123456", 200):
        assert error.may_have_executed


@pytest.mark.parametrize(
    ("call", "text", "kind"),
    [
        (SPOT, "The order cancel for this pair suspended", VenueError),
        (SPOT, "", VenueError),
        (SPOT, "Too many requests in a short period of time", RateLimited),
        (FUTURES, "", RateLimited),
        (FUTURES, "Too many requests", RateLimited),
        (FUTURES, "cancel suspended", VenueError),
    ],
)
def test_one_code_has_two_meanings(call: Call[Any], text: str, kind: type[VenueError]) -> None:
    """200002 is a pair whose cancels are suspended, or a path that is blocked for 10 s."""
    error = decoded(call, {"code": "200002", "msg": text})
    assert type(error) is kind
    assert error.retry_after == (10.0 if kind is RateLimited else None)


def test_a_limit_says_how_long_and_for_whom() -> None:
    """The pool's own header, in ms, and the key's; a block of the address is everybody's."""
    limited = decoded(SPOT, {"code": "429000", "msg": "x"}, 429, **{"gw-ratelimit-reset": "2500"})
    assert (limited.retry_after, limited.of_key) == (2.5, True)
    blocked = decoded(SPOT, b"error code: 1015", 429)
    assert (type(blocked), blocked.retry_after, blocked.of_key) == (RateLimited, 30.0, False)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("400100", "order_not_exist_or_not_allow_to_cancel"),
        ("400100", "order not exist."),
        ("102436", "x"),
        ("100004", "x"),
        ("order_not_exist", "order_not_exist"),
    ],
)
def test_what_is_gone_already_is_no_failure(code: str, text: str) -> None:
    """By its code, or by the text of the code that stands for all bad parameters."""
    assert decoded(SPOT, {"code": code, "msg": text}, 400).status == "nothing open"


# --- answers --------------------------------------------------------------------------------------

WHOLE = cancels("spot")[2]


def test_failures_within_a_success_are_named() -> None:
    """A symbol may be in both lists; that of an order which is gone is none."""
    gone = {"symbol": "A-B", "error": "order_not_exist"}
    rows = [{"symbol": BTC, "error": "can't cancel, system timeout"}, "ETH-USDT", gone]
    replies = [{"cancelledOrderIds": ["1"]}, {"cancelledOrderIds": []}]
    drive = Drive(VENUE.cancel_all(Scope("spot"), None))
    values = [decoded(c, answer(r)) for c, r in zip(drive.calls[:2], replies, strict=True)]
    data = {"succeedSymbols": [BTC, "A-B"], "failedSymbols": rows}
    error = drive.round(*values, decoded(drive.calls[2], answer(data))).value
    assert isinstance(error, VenueUnavailable)
    assert error.may_have_executed
    assert f"not acknowledged: {BTC}, ETH-USDT" in str(error.__notes__)


@pytest.mark.parametrize(
    "data", [{}, None, "success", {"failedSymbols": []}, [], {"succeedSymbols": 1}]
)
def test_what_is_no_answer_to_a_cancel_of_everything(data: Any) -> None:
    """It needs the list of what was cancelled; where that is empty, nothing was open."""
    assert isinstance(decoded(WHOLE, answer(data)), ProtocolError)
    nothing = decoded(WHOLE, answer({"succeedSymbols": None, "failedSymbols": []}))
    assert (nothing.status, nothing.cancelled) == ("nothing open", None)


def test_what_the_ack_tells() -> None:
    """Of futures every id; of spot nothing, since its ordinary orders are not named."""
    drive = Drive(VENUE.cancel_all(Scope("futures"), None))
    values = [
        decoded(call, answer({"cancelledOrderIds": ids}))
        for call, ids in zip(drive.calls, (["a"], ["b", 3]), strict=True)
    ]
    ack = drive.round(*values).ack()
    assert (ack.cancelled, ack.status) == (("a", "b", "3"), "cancelled")
    for told in ([None], None):  # they can't be told, which costs no Ack
        odd = decoded(FUTURES, answer({"cancelledOrderIds": told}))
        assert (odd.cancelled, odd.status) == (None, "received")
    spot = Drive(VENUE.cancel_all(Scope("spot", BTC), None))
    ids, word = answer({"cancelledOrderIds": ["a"]}), answer("success")
    replies = zip(spot.calls, (ids, ids, word), strict=True)
    assert spot.round(*(decoded(call, reply) for call, reply in replies)).ack().cancelled is None
    assert isinstance(decoded(SPOT, answer("later")), ProtocolError)


@pytest.mark.parametrize(
    ("words", "category", "expected"),
    [
        ("General,Spot", "spot", "yes"),
        ("General, Spot", "futures", "no"),
        ("General,Trade", "margin", "unknown"),
        ("", "spot", "unknown"),
    ],
)
def test_permissions(words: str, category: str, expected: str) -> None:
    """As the key's own page says; the words of older keys leave it open."""
    drive = Drive(VENUE.key_info((category,)))
    value = decoded(drive.calls[0], answer({"permission": words, "apiVersion": 3}))
    assert drive.round(value).result().cancels == {category: expected}


CALLS = [*cancels("spot"), *cancels("futures", XBT), *listings("margin"), *listings("futures")]
WORDS = st.sampled_from(["200000", "400100", "200002", 200, None])


@given(
    st.sampled_from(CALLS),
    st.binary()
    | st.builds(
        lambda code, data: json.dumps({"code": code, "data": data}).encode(),
        WORDS,
        st.none() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()),
    ),
    st.sampled_from([200, 200, 201, 302, 400, 401, 429, 500]),
)
def test_any_reply(call: Call[Any], body: bytes, status: int) -> None:
    """Whatever arrives: a value or one of our errors, and no success under another status."""
    value = decoded(call, body, status)
    assert isinstance(value, MassCancelError | Answer) or status == 200
    if status != 200:
        assert isinstance(value, MassCancelError) or value.status == "nothing open"
    assert not isinstance(value, Ack)
