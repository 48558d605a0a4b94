"""Kraken, whatever is answered: a value or one of our errors, and never more than was said."""

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kraken_support import BTC, DATA, PERP, outcome, reply, result
from masscancel import Ack, MassCancelError
from masscancel.calls import Reply

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
