"""Rows, piece by piece: what is read, what is not, and what proves nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from masscancel.calls import Reply, Stamp
from masscancel.errors import MassCancelError, ProtocolError
from masscancel.venues.toolkit import (
    SLICE,
    RowDecoder,
    Rows,
    check_fresh,
    decimal,
    finish,
    whole,
)

pytestmark = pytest.mark.unmeasured

if TYPE_CHECKING:
    from collections.abc import Generator

STAMP = Stamp(1_700_000_000_900)  # 14 November 2023, 22:13:20.9
UNMEASURED = Stamp(STAMP.time_ms, skew_ms=30_000)
PAGE = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"


def reply(body: object) -> Reply:
    """A reply: bytes as they are, anything else as JSON."""
    return Reply(200, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def outcome_of(function: Any, *args: Any) -> Any:
    """The value, or our error as a value, which never drags another along."""
    try:
        return function(*args)
    except MassCancelError as error:
        problem = error
    assert (problem.__context__, problem.__cause__) == (None, None)
    return problem


class Row(msgspec.Struct):
    """A row as it is documented."""

    id: int
    text: str
    inner: list[dict[str, str]] = []


class Key(msgspec.Struct):
    """What a cancel needs."""

    id: int


ROWS: RowDecoder[Any, Any] = RowDecoder(Row, Key)
NAMED: RowDecoder[Any, Any] = RowDecoder(Row, Key, named=True)


def drive(slices: Generator[None, None, Any]) -> tuple[Any, int]:
    """What slices return, and how many there were."""
    for count in range(1, 10_000):
        try:
            next(slices)
        except StopIteration as stop:
            return stop.value, count
    raise AssertionError("it does not end")


def take(decoder: RowDecoder[Any, Any], body: bytes) -> Any:
    """All rows of a body, or the error that it is."""
    return outcome_of(lambda: drive(decoder.decode(reply(body)))[0])


nasty = st.sampled_from(
    ['},{"', '}, {"id":1}', '"},{"', "}]", "[{", "\\", '\\"', "é", "\U0001f600"]
)
texts = st.lists(nasty | st.text(max_size=5), max_size=6).map("".join)
rows: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"text": texts}, optional={"inner": st.lists(st.dictionaries(texts, texts, max_size=2))}
)
odd_rows: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"text": st.none() | st.integers() | st.just([{"a": {}}])}
)


@given(
    patterns=st.lists(rows | odd_rows, min_size=1, max_size=6),
    offset=st.integers(0, 3_000),
    comma=st.sampled_from([",", ", ", " ,\r\n\t"]),
    named=st.booleans(),
)
def test_piece_by_piece_is_the_same_as_at_once(
    patterns: list[dict[str, Any]], offset: int, comma: str, *, named: bool
) -> None:
    """Wherever the cuts fall: in strings, in nested objects, between rows; none lost, in order."""
    listed: list[dict[str, Any]] = [{"id": 0, "text": "x" * offset}]
    size = 0
    while size < 3 * SLICE:
        row = {"id": len(listed), **patterns[len(listed) % len(patterns)], "pad": "p" * 300}
        size += len(json.dumps(row))
        listed.append(row)
    value = {f"n{row['id']}": row for row in listed} if named else listed
    body = json.dumps(value, separators=(comma, ":")).encode()
    found, count = drive((NAMED if named else ROWS).decode(reply(body)))
    expected = [row for row in listed if isinstance(row["text"], str)]
    odd = [row["id"] for row in listed if not isinstance(row["text"], str)]
    whole_rows = [row for _, row in found.whole] if named else found.whole
    keys = [key for _, key in found.keys] if named else found.keys
    assert whole_rows == [Row(row["id"], row["text"], row.get("inner", [])) for row in expected]
    assert [key.id for key in keys] == odd
    assert bool(found.problem) is bool(odd)
    assert count > 2


@pytest.mark.parametrize(
    "text", ["x" * 50, '},{"' * 2_000, "\\" * 40_000], ids=["plain", "cuts", "long"]
)
def test_no_piece_is_large(text: str) -> None:
    """Between two turns of the event loop few rows are decoded and converted."""
    converted: list[int] = []
    decoder: RowDecoder[Any, Any] = RowDecoder(
        Row, Key, convert=lambda row: converted.append(row.id)
    )
    one_row = len(json.dumps({"id": 100, "text": text}))
    body = [{"id": number, "text": text} for number in range(12 * SLICE // one_row)]
    most, before = 0, 0
    for _ in decoder.decode(reply(body)):
        most, before = max(most, len(converted) - before), len(converted)
    assert converted == [*range(len(body))]
    assert 0 < most * one_row <= 2 * SLICE + one_row


@pytest.mark.parametrize(
    "odd",
    [
        b'{"id": 2}',
        b'{"id": 2, "text": null}',
        b'{"id": 2, "text": "NaN"}',
        b'{"id": 2, "text": "\\ud800"}',
        b'{"id": 2, "text": "a", "inner": 5}',
    ],
)
@pytest.mark.parametrize("many", [1, 4_000])
def test_an_odd_row_costs_nothing_to_the_others(many: int, odd: bytes) -> None:
    """What a cancel needs of it is there; the listing is no proof, and says what is wrong."""
    decoder: RowDecoder[Any, Any] = RowDecoder(Row, Key, convert=lambda row: (row.id, number(row)))
    good = b'{"id": 1, "text": "1.5"' + b" " * 60 + b"}"
    found = take(decoder, b"[" + b",".join([*[good] * many, odd, *[good] * many]) + b"]")
    assert found.keys == [Key(2)] or (b"ud800" in odd and not found.keys[1:])
    assert found.whole.count((1, Decimal("1.5"))) == 2 * many
    with pytest.raises(ProtocolError, match="a row of the listing can't be understood: "):
        whole(found)


def number(row: Row) -> Decimal:
    """Its text as a number."""
    return decimal(row.text)


def test_a_listing_without_odd_rows_is_whole() -> None:
    """An empty one, too, if it is one explicitly."""
    assert whole(take(ROWS, b' [{"id": 1, "text": "a"}] ')) == [Row(1, "a")]
    assert whole(take(ROWS, b"[ ]")) == []
    assert whole(take(NAMED, b"{}")) == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[", b"{", b"]", b"{}", b"null", b"5", b'""', b"[}", b"[]]", b"[] []", b"[,]", PAGE,
        b'[{"id": 1}', b'[{"id": 1},]', b'[{"id": NaN, "text": ""}]', b'[{"text": "a"}]', b"[null]",
        b'[{"id": "1", "text": "a"}]', b'[{"id": 1, "text": "a"}]]', b"[" + b"[" * 20_000,
    ],
    ids=lambda body: ascii(body[:20]),
)  # fmt: skip
def test_what_is_no_listing_is_never_an_empty_one(body: bytes) -> None:
    """Nor is one with a row of which not even the key can be read."""
    assert type(take(ROWS, body)) is ProtocolError


@given(st.binary() | st.lists(rows | odd_rows).map(lambda value: json.dumps(value).encode()[1:]))
def test_any_bytes_are_rows_or_a_protocol_error(body: bytes) -> None:
    """Nothing else comes out."""
    assert isinstance(take(ROWS, b"[" + body), Rows | ProtocolError)


GARBAGE = [
    b"",
    b",",
    b"}",
    b"{",
    b"]",
    b'"',
    b"nul",
    b'{"id": 1',
    b'"a": "b',
    b'{"id":,}',
    b"[[[",
    b":",
]
INNER: list[Any] = [[], [{"a": '},{"id'}], [{"id": "x"}, {"id": "y"}]]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(("pad", "times"), [(10, 200), (SLICE // 3, 8)])
def test_rows_around_what_is_no_json_are_salvaged(pad: int, times: int, *, named: bool) -> None:
    """Whatever stands in place of one, at most its neighbours are lost; none is made up."""
    draw = Random(pad)
    decoder: RowDecoder[Any, Any] = RowDecoder(Row, msgspec.Raw, named=named)
    for _ in range(times):
        count = draw.randint(20, 30)
        listed = [
            {"id": n, "text": "t", "inner": draw.choice(INNER), "pad": "p" * pad}
            for n in range(count)
        ]
        texts = [json.dumps(row).encode() for row in listed]
        if named:
            texts = [b'"n%d": %s' % (n, text) for n, text in enumerate(texts)]
        at = draw.randrange(1, 10)
        texts[at] = texts[at][: draw.randint(0, len(texts[at]) - 1)] + draw.choice(GARBAGE)
        body = (b"{%s}" if named else b"[%s]") % b",".join(texts)
        if is_json(body):
            continue
        assert type(take(decoder, body)) is ProtocolError
        found, _ = drive(decoder.decode(reply(body), salvage=True))
        ids = {row.id for row in ([row for _, row in found.whole] if named else found.whole)}
        assert found.broken
        assert {*range(count)} - {at - 1, at, at + 1} <= ids <= {*range(count)} - {at}


def is_json(body: bytes) -> bool:
    """Whether it is, after all."""
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def test_what_is_salvaged_proves_nothing() -> None:
    """Where nothing can be read, it is no listing at all."""
    found = drive(ROWS.decode(reply(b'[{"id": 1, "text": "a"}, {"id" 2}]'), salvage=True))[0]
    assert (found.whole, found.broken) == ([Row(1, "a")], True)
    for body in (b"[", b"[{", b"[nothing]", b'[{"id" 2}]', PAGE):
        assert type(outcome_of(drive, ROWS.decode(reply(body), salvage=True))) is ProtocolError


def test_small_listings_are_finished_at_once() -> None:
    """Large ones are left to be taken in slices."""
    small, large = reply([]), reply(b"[" + b" " * SLICE + b"]")
    assert finish(ROWS.decode(small), small) == Rows([], [])
    slices: Any = finish(ROWS.decode(large), large)
    assert drive(slices)[0] == Rows([], [])


CACHED = [
    {"Age": "1"}, {"Age": "030"}, {"Age": "soon"}, {"Age": "0"}, {"age": ""},
    {"Warning": '110 - "Response is Stale"'}, {"Warning": '199 a "x, 214 y", 111 a "no"'},
    {"Warning": "113 - guessed"}, {"Date": "Tue, 14 Nov 2023 22:13:18 GMT"},
    {"X-Cache": "HIT"}, {"X-Cache": "MISS, HIT"},
    {"X-Cache": "Hit from cloudfront"}, {"X-Cache": "TCP_MEM_HIT from a.test"},
    {"X-Cache-Status": "STALE"}, {"X-Proxy-Cache": "hit"}, {"CF-Cache-Status": "UPDATING"},
    {"Cache-Status": "Edge; hit; ttl=30"},
    {"X-Nginx-Cache": "HIT"}, {"X-LiteSpeed-Cache": "hit"}, {"CDN-Cache": "HIT"},
    {"Akamai-Cache-Status": "Hit from child"}, {"X-Cache-Remote": "TCP_HIT from a.test"},
    {"X-Rack-Cache": "fresh"}, {"X-Cache-Hits": "0, 2"}, {"X-Varnish": "1026 1024"},
    {"Server-Timing": "edge; dur=1, cdn-cache; desc=HIT"},
]  # fmt: skip
FRESH = [
    {}, {"X-Cache": "MISS from hit.test"}, {"Warning": '199 a.test "since 9:00, 110 of them"'},
    {"Warning": "214 - gzip"}, {"Date": "Tue, 14 Nov 2023 22:13:19 GMT"}, {"Date": "today"},
    {"CF-Cache-Status": "DYNAMIC"}, {"X-Cache": "RefreshHit from cloudfront"},
    {"Cache-Status": "Edge; fwd=stale"},
    {"X-Cache": "Miss from cloudfront"}, {"X-Cache-Hits": "0, 0"}, {"X-Varnish": "1026"},
    {"X-Cache-Lookup": "HIT from squid.test:3128"}, {"Server-Timing": "cdn-cache; desc=MISS"},
    {"Cache-Control": "stale-while-revalidate=30, hit"}, {"CDN-Cache-Control": "max-age=30"},
    {"X-Served-By": "cache-fra-etou8220, hit"},
]  # fmt: skip


@pytest.mark.parametrize("headers", CACHED, ids=str)
def test_a_listing_out_of_a_cache_proves_nothing(headers: dict[str, str]) -> None:
    """RFC 9111 section 5.1, RFC 9211, and what is in use; a refusal is left to be read as one.

    An age of nought says that the reply was stored; a date before the request, that it was made
    for another.
    """
    assert type(outcome_of(check_fresh, Reply(200, headers, b"[]"), STAMP)) is ProtocolError
    check_fresh(Reply(429, headers, PAGE), STAMP)


@pytest.mark.parametrize("headers", FRESH, ids=str)
def test_a_listing_of_now_is_fresh(headers: dict[str, str]) -> None:
    """Caches that have asked the venue say so in many words."""
    check_fresh(Reply(200, headers, b"[]"), STAMP)


def test_a_date_is_as_good_as_the_clock() -> None:
    """It contradicts none that was never measured, nor by less than it may be off."""
    reply = Reply(200, {"Date": "Tue, 14 Nov 2023 22:13:15 GMT"}, b"[]")
    check_fresh(reply, Stamp(STAMP.time_ms, skew_ms=4_000))
    assert "date" in outcome_of(check_fresh, reply, STAMP).message
    check_fresh(Reply(200, {"Date": "Tue, 14 Nov 2023 20:00:00 GMT"}, b"[]"), UNMEASURED)


def test_of_several_headers_each_counts() -> None:
    """One of each cache on the way."""
    headers = CIMultiDict([("X-Cache", "MISS"), ("X-Cache", "HIT")])
    assert "cache" in outcome_of(check_fresh, Reply(200, headers, b"[]"), STAMP).message
