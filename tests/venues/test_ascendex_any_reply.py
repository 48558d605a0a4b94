"""AscendEX's decoder, against anything: an Ack is one by a second reading, too."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from ascendex_support import ID, NOW, STAMP, acknowledgement, cancel, decoded, json_values, loads
from masscancel import Ack, ProtocolError, VenueError

if TYPE_CHECKING:
    from masscancel.calls import Stamp


def really_acknowledges(body: bytes, category: str, symbol: str, stamp: Stamp) -> bool:
    """Whether bytes are an Ack of this request: by the reference page, and another parser."""
    try:
        envelope = loads(body)
    except ValueError:
        return False
    if not isinstance(envelope, dict) or envelope.get("status") == "Err":
        return False
    if envelope.get("code") != 0 or type(envelope["code"]) is not int:
        return False
    futures = category == "futures"
    named = {envelope.get("ac")} - {None, ""}
    if "data" not in envelope:
        return (
            futures
            and named <= {"FUTURES"}
            and envelope.get("action") in (None, "cancel-all")
            and envelope.get("status") in (None, "Ack")
        )
    data = envelope["data"]
    if not isinstance(data, dict) or data.get("action") != "cancel-all":
        return False
    info = data.get("info") or {}
    if not isinstance(info, dict):
        return False
    named |= {data.get("ac")} - {None, ""}
    status = data.get("status")
    time = info.get("timestamp")
    return (
        (status == "Ack" or (futures and status is None))
        and (named == {category.upper()} or (futures and not named))
        and (info.get("symbol") == symbol or (futures and info.get("symbol") is None))
        and info.get("id") in (None, "", ID)
        and not info.get("code")
        and not info.get("reason")
        and (type(time) is int or (futures and time is None))
        and (time is None or time >= stamp.time_ms - stamp.skew_ms)
    )


def check_decoded(body: bytes, category: str, symbol: str | None) -> None:
    """An Ack of exactly this request, or one of our errors; and an Ack only if it really is one."""
    result = decoded(cancel(category, symbol), body)
    if isinstance(result, Ack):
        assert really_acknowledges(body, category, symbol or "", STAMP)
        assert (result.account_category, result.symbol) == (category, symbol or "")
        assert result.request_id in ("", ID)
        assert result.raw == body
    else:
        assert isinstance(result, VenueError | ProtocolError)
        assert str(result)


scopes = st.sampled_from(
    [("cash", None), ("cash", "BTC/USDT"), ("margin", "BTC/USDT"), ("futures", None),
     ("futures", "BTC-PERP")]
)  # fmt: skip

good_bodies = st.builds(lambda scope: json.dumps(acknowledgement(*scope)).encode(), scopes)


@given(scope=scopes, body=st.binary())
def test_any_bytes_are_refused(scope: tuple[str, str | None], body: bytes) -> None:
    """Nothing but our errors comes out of noise."""
    check_decoded(body, *scope)


@given(scope=scopes, value=json_values)
def test_any_json_is_refused(scope: tuple[str, str | None], value: object) -> None:
    """As `code`'s neighbour, as `data`, as `info`, as the whole."""
    for body in (value, {"code": 0, "data": value}, acknowledgement(*scope, info=value)):
        check_decoded(json.dumps(body).encode(), *scope)


@given(scope=scopes, body=good_bodies, edits=st.data())
def test_mutated_bytes(scope: tuple[str, str | None], body: bytes, edits: st.DataObject) -> None:
    """Bytes of a good reply are dropped, replaced, inserted, doubled; or it is cut short."""
    for _ in range(edits.draw(st.integers(1, 3))):
        start = edits.draw(st.integers(0, len(body)))
        stop = edits.draw(st.integers(start, min(len(body), start + 4)))
        body = body[:start] + edits.draw(st.binary(max_size=4)) + body[stop:]
    check_decoded(body, *scope)


@given(scope=scopes, body=good_bodies, length=st.integers(0, 300))
def test_a_truncated_reply(scope: tuple[str, str | None], body: bytes, length: int) -> None:
    """Cut anywhere, it is no Ack; whole, it is one if it is of this scope."""
    check_decoded(body[:length], *scope)
    if length < len(body):
        assert type(decoded(cancel(*scope), body[:length])) is ProtocolError


REMOVED = object()

values = st.sampled_from(
    [REMOVED, None, True, False, 0, 1, -1, 0.0, "", "0", "Ack", "ACK", "Err", "DONE", "CASH",
     "cash", "MARGIN", "FUTURES", "cancel-all",
     "cancel-order", "BTC/USDT", "ETH/USDT", "BTC-PERP", ID,
     ID[:-1], 200001, 510001, NOW, NOW + 5, NOW - 1_000, NOW - 1_001, 2**64, [], {}, {"id": ID}]
)  # fmt: skip

places = st.sampled_from(
    [("code",), ("status",), ("ac",), ("accountId",), ("reason",), ("message",), ("data",),
     ("data", "ac"), ("data", "accountId"), ("data", "action"), ("data", "status"),
     ("data", "info"), ("data", "code"), ("data", "info", "id"), ("data", "info", "symbol"),
     ("data", "info", "timestamp"), ("data", "info", "code"), ("data", "info", "reason")]
)  # fmt: skip


@given(asked=scopes, answered=scopes, edits=st.lists(st.tuples(places, values), max_size=3))
def test_mutated_fields(asked: Any, answered: Any, edits: list[Any]) -> None:
    """Fields of a good reply, to this or another request, are changed, added or removed."""
    body: Any = copy.deepcopy(acknowledgement(*answered))
    for place, value in edits:
        part = body
        for key in place[:-1]:
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict):
            part[place[-1]] = copy.deepcopy(value)
            if value is REMOVED:
                del part[place[-1]]
    check_decoded(json.dumps(body).encode(), *asked)
