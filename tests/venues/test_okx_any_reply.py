"""OKX's refusals, code by code, and whatever else may arrive: a value or one of our errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows_support import calls_of
from masscancel import (
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Reply, Scope
from masscancel.errors import StampRefused
from okx_support import (
    ALGO,
    ORDER,
    SPREAD_ORDER,
    VENUE,
    batch,
    cancelling,
    good,
    listing,
    reads,
    told,
)

# Errors.


@pytest.mark.parametrize(
    ("code", "status", "kind", "unknown"),
    [
        ("50113", 401, AuthenticationError, False),
        ("50105", 401, AuthenticationError, False),
        ("50101", 401, AuthenticationError, False),
        ("50110", 401, PermissionDenied, False),
        ("50120", 200, PermissionDenied, False),
        ("50102", 401, StampRefused, False),
        ("50011", 200, RateLimited, False),
        ("50011", 429, RateLimited, False),
        ("50061", 200, RateLimited, False),
        ("50013", 429, VenueUnavailable, True),
        ("50004", 400, VenueUnavailable, True),
        ("50001", 503, VenueUnavailable, True),
        ("50026", 500, VenueUnavailable, True),
        ("51001", 200, InvalidRequest, False),
        ("51000", 400, InvalidRequest, False),
        ("59999", 200, VenueError, True),
        ("59999", 400, VenueError, False),
        ("1", 200, VenueError, True),
        ("2", 200, VenueError, True),
        ("-1", 200, VenueError, True),
    ],
)
def test_the_code_goes_before_the_status(
    code: str, status: int, kind: type[VenueError], unknown: bool
) -> None:
    """Each by the table; a code that is not in it is never success."""
    calls = [batch().calls[0], listing("spot").calls[0], cancelling("account").calls[-1]]
    for call in calls:
        for body in ({"code": code, "msg": "said", "data": []}, {"code": int(code), "msg": "said"}):
            error = reads(call, body, status)
            assert type(error) is kind
            assert (error.code, error.may_have_executed) == (code, unknown)


def test_what_is_not_the_venues_own() -> None:
    """A proxy's page says nothing of the key; success under another status contradicts itself."""
    call = batch().calls[0]
    assert isinstance(reads(call, b"<html>", 403), VenueUnavailable)
    assert isinstance(reads(call, b"{}", 429, Retry_After="3"), RateLimited)
    assert isinstance(reads(call, told("5", "6", "7"), 500), VenueUnavailable)
    assert reads(call, told("5", "6", "7"), 500).may_have_executed


# Anything.

CALLS = [
    (batch().calls[0], told("5", "6", "7", o6="51400")),
    (listing("spot").calls[0], good(ORDER)),
    (cancelling("account").calls[1], good({**ALGO, "instType": ""})),
    (listing("account").calls[-1], good(SPREAD_ORDER)),
    (cancelling("account").calls[-1], good({"result": True})),
    (calls_of(VENUE.switch(Scope("account"), 10_000))[0], good({"triggerTime": "1700000010"})),
    (calls_of(VENUE.key_info(("spot",)))[0], good({"perm": "trade"})),
]
STATUSES = st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 408, 429, 500, 503])


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Any, bytes]:
    """A call, and a good reply to it with some bytes replaced, inserted or cut out."""
    call, reply = draw(st.sampled_from(CALLS))
    good_bytes = json.dumps(reply).encode()
    start = draw(st.integers(0, len(good_bytes)))
    stop = draw(st.integers(start, min(len(good_bytes), start + 20)))
    return call, good_bytes[:start] + draw(st.binary(max_size=8)) + good_bytes[stop:]


@given(damaged() | st.tuples(st.sampled_from([call for call, _ in CALLS]), st.binary()), STATUSES)
def test_whatever_arrives(call_and_body: tuple[Any, bytes], status: int) -> None:
    """A value or one of our errors; never a value with another status than 200."""
    value = reads(*call_and_body, status)
    if status != 200:
        assert isinstance(value, MassCancelError)


def test_deep_and_large_replies() -> None:
    """Nesting without end is a reply that can't be understood."""
    for call, _ in CALLS:
        for body in (b"[" * 100_000, b'{"code":' * 100_000, b'{"code":"0","data":[[' * 100_000):
            assert isinstance(reads(call, body), ProtocolError)


def test_the_clock() -> None:
    """In ms, as text."""
    decode = VENUE.probe(VENUE.rest_url).decode
    assert decode(Reply(200, {}, b'{"code":"0","msg":"","data":[{"ts":"1597026383085"}]}')) == (
        1_597_026_383_085
    )
    for body in (b'{"code":"0","data":[{"ts":"soon"}]}', b'{"code":"0","data":[]}', b"{}"):
        with pytest.raises(ProtocolError):
            decode(Reply(200, {}, body))
