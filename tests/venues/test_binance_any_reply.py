"""Binance, whatever arrives: a value or one of our errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from binance_support import BTC, DONE, VENUE, cancel_call, decoded, sample
from flows_support import calls_of
from masscancel import MassCancelError
from masscancel.calls import Scope

if TYPE_CHECKING:
    from masscancel.calls import Call

CALLS: list[tuple[Call[Any], bytes]] = [
    (cancel_call("spot"), sample("spot_delete_openOrders")),
    (cancel_call("usdm"), DONE),
    (calls_of(VENUE.open_orders(Scope("spot", None)))[0], sample("spot_openOrders")),
    (calls_of(VENUE.open_orders(Scope("usdm", None)))[0], sample("usdm_openAlgoOrders")),
    (calls_of(VENUE.open_orders(Scope("usdm", None)))[1], sample("usdm_openOrders")),
    (calls_of(VENUE.switch(Scope("usdm", BTC), 100_000))[0], sample("usdm_countdownCancelAll")),
]

STATUSES = st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 408, 418, 429, 500, 503])

SENTENCES = st.builds(
    lambda code, text: json.dumps({"code": code, "msg": text}).encode(),
    st.integers() | st.integers(-5100, 300) | st.sampled_from([-2011, -1003, 200]),
    st.text() | st.sampled_from(["Unknown order sent.", "IP banned until 1", "Market is closed."]),
)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[Call[Any], bytes]:
    """A call, and a good reply to it with some bytes replaced, inserted or cut out."""
    call, good = draw(st.sampled_from(CALLS))
    start = draw(st.integers(0, len(good)))
    stop = draw(st.integers(start, min(len(good), start + 20)))
    return call, good[:start] + draw(st.binary(max_size=8)) + good[stop:]


def outcome(call: Call[Any], body: bytes, status: int) -> str:
    """The name of what a reply leads to; anything but a value or an error of ours is raised."""
    try:
        return type(decoded(call, body, status)).__name__
    except MassCancelError as error:
        return type(error).__name__


@given(st.sampled_from(CALLS), st.binary() | SENTENCES, STATUSES)
def test_arbitrary_replies(
    call_and_sample: tuple[Call[Any], bytes], body: bytes, status: int
) -> None:
    """Whatever bytes come with whatever status: a value, or one of our errors."""
    value = outcome(call_and_sample[0], body, status)
    if status not in (200, 400):
        assert value not in ("Answer", "list", "int")


@given(mutations(), STATUSES)
def test_mutated_replies(mutated: tuple[Call[Any], bytes], status: int) -> None:
    """The same for good replies that were damaged on the way."""
    call, body = mutated
    value = outcome(call, body, status)
    if status != 200:
        assert value not in ("Answer", "list", "int")


def test_deep_and_large_replies() -> None:
    """Nesting without end is a reply that can't be understood."""
    for call, _ in CALLS:
        for body in (b"[" * 100_000, b'{"code":' * 100_000, b'[{"orderReports":' * 100_000):
            assert outcome(call, body, 200) == "ProtocolError"
            assert outcome(call, body, 400) == "VenueUnavailable"
