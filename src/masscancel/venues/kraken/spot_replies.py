"""The answers of Kraken's spot side: its replies as values, its errors as ours."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec

from masscancel.calls import Reply, Slices, Stamp
from masscancel.errors import (
    AuthenticationError,
    InvalidRequest,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.models import KeyInfo, OpenOrder, OrderState
from masscancel.venues.kraken.wire import fires_at
from masscancel.venues.toolkit import (
    OK,
    Refusal,
    RowDecoder,
    Rows,
    check_fresh,
    decimal,
    decode_json,
    kind_by_prefix,
    open_envelope,
    readable,
    side,
    sliced,
    text_of,
    told_by_refusal,
    wait_until,
    whole,
    whole_of,
    why_stale,
)

#: "Temporary lockout" lasts some minutes, and each further request prolongs it: in seconds. Of a
#: throttle, which has an end of its own, no more is believed.
LOCKOUT_S: Final = 900.0

_UNIX: Final = re.compile(r"\d{1,12}", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,32}(\.\d{1,32})?", re.ASCII)
_THROTTLED: Final = re.compile(r"EService:Throttled:(\d{9,20})", re.ASCII)
_UNKNOWN_PAIR: Final = "EQuery:Unknown asset pair"
_UNKNOWN_ORDER: Final = "EOrder:Unknown order"

#: What is before the rows of a listing: no error.
_OPENING: Final = re.compile(
    rb'\s*\{\s*"error"\s*:\s*\[\s*\]\s*,\s*"result"\s*:\s*\{\s*"open"\s*:\s*(?=\{)'
)

#: What an order's status means; one that is not here is open, or pending.
_STATES: Final[Mapping[str, OrderState]] = {
    "closed": "filled",
    "canceled": "cancelled",
    "expired": "cancelled",
}

#: What each error means to a caller, by how its text begins ("Error messages", "Rate limits", and
#: the support page "API error messages"). The longest match counts; others are a ``VenueError``.
_KINDS: Final[Mapping[str, type[VenueError]]] = {
    "EAPI:Invalid key": AuthenticationError,
    "EAPI:Invalid signature": AuthenticationError,
    "EAPI:Invalid nonce": StampRefused,
    "EAPI:Rate limit exceeded": RateLimited,
    "EAPI:Bad request": InvalidRequest,
    "EAccount:Invalid permissions": PermissionDenied,
    "EAuth:Account temporary disabled": PermissionDenied,
    "EAuth:Account unconfirmed": PermissionDenied,
    "EAuth:Rate limit exceeded": RateLimited,
    "EAuth:Too many requests": RateLimited,
    "EDatabase": VenueUnavailable,
    "EGeneral:Internal error": VenueUnavailable,
    "EGeneral:Invalid arguments": InvalidRequest,
    "EGeneral:Permission denied": PermissionDenied,
    "EGeneral:Temporary lockout": RateLimited,
    "EGeneral:Too many requests": RateLimited,
    "EGeneral:Unknown method": InvalidRequest,
    "EOrder:Domain rate limit exceeded": RateLimited,
    "EOrder:Rate limit exceeded": RateLimited,
    "EQuery:Invalid asset pair": InvalidRequest,
    "EQuery:Unknown asset pair": InvalidRequest,
    "EService": VenueUnavailable,
    "EService:Throttled": RateLimited,
    "ESession:Invalid session": AuthenticationError,
    "ETrade:Invalid request": InvalidRequest,
    "ETrade:User Locked": PermissionDenied,
}


class _Envelope(msgspec.Struct):
    """Every reply. Errors come in a list, at HTTP 200."""

    error: list[str]
    result: msgspec.Raw = msgspec.Raw()


class _Count(msgspec.Struct):
    """What a cancel is answered with. The count is there; it decides nothing, nor its type."""

    count: Any
    pending: Any = None


class _Descr(msgspec.Struct):
    pair: str
    type: str
    ordertype: str
    price: str | int | float | None = None
    price2: str | int | float | None = None


class _Row(msgspec.Struct):
    """One open order, as it is documented; numbers may come as numbers, too."""

    descr: _Descr
    status: str
    vol: str | int | float
    vol_exec: str | int | float


class _KeyDescr(msgspec.Struct):
    pair: str


class _Key(msgspec.Struct):
    """The part of an open order that a cancel needs, beside its id."""

    descr: _KeyDescr


class _Open(msgspec.Struct):
    open: msgspec.Raw


class _Status(msgspec.Struct):
    status: str


class _Names(msgspec.Struct):
    altname: str
    wsname: str | None = None


class _Switch(msgspec.Struct, rename="camel"):
    current_time: str
    trigger_time: str


class _KeyInfo(msgspec.Struct, rename="camel"):
    permissions: tuple[str, ...]
    ip_allowlist: tuple[str, ...] | None = None
    valid_until: Any = None


class _Time(msgspec.Struct):
    unixtime: int


class Pair(msgspec.Struct, frozen=True):
    """A pair by its names: the key in Kraken's list, ``XBTUSD``, ``XBT/USD``.

    Orders are listed by ``altname``.
    """

    key: str
    altname: str
    wsname: str

    @property
    def listed_as(self) -> frozenset[str]:
        """The names that its orders may be listed by; the key may be another pair's altname."""
        return frozenset((self.altname, self.wsname))


class Cancelled(msgspec.Struct, frozen=True):
    """An answer to a cancel.

    Attributes:
        raw: the reply's bytes.
        count: how many orders it says it cancelled; ``None`` where that can't be read.
        pending: whether it says that they are still about to be.
        refused: whether an order in it was gone, and nothing is said of the others.
    """

    raw: bytes
    count: int | None = 0
    pending: bool = False
    refused: bool = False


class Listing(msgspec.Struct, frozen=True):
    """Open orders, as a cancel needs them.

    Attributes:
        rows: the orders that can be cancelled, by id.
        lost: how many there are of which not even the pair can be read.
        problem: what is wrong with the first of those.
        doubt: why there may be orders that it does not have, for people; ``""`` if it has all.
        raw: the bytes of the reply.
    """

    rows: list[tuple[str, _Key]]
    lost: int
    problem: str
    doubt: str
    raw: bytes

    def of(self, names: frozenset[str]) -> list[str]:
        """The ids of the orders of one pair."""
        return [order_id for order_id, row in self.rows if row.descr.pair in names]


_TRIGGERED: Final = ("stop-loss", "take-profit", "trailing-stop")


def _open_order(item: tuple[str, _Row]) -> OpenOrder:
    """A row of the listing.

    Raises:
        ProtocolError: it has no side, or its quantity is no number.
    """
    order_id, row = item
    return OpenOrder(
        order_id=readable(order_id),
        symbol=readable(row.descr.pair),
        side=side(row.descr.type),
        price=_limit_price(row.descr),
        quantity=decimal(row.vol),
        filled_quantity=decimal(row.vol_exec),
        order_type=row.descr.ordertype,
        status=row.status,
        book="stop" if row.descr.ordertype.startswith(_TRIGGERED) else "ordinary",
    )


def _by_id(item: tuple[str, _Key]) -> tuple[str, _Key]:
    """An order as a cancel needs it: both its id and its pair can be read."""
    order_id, row = item
    readable(order_id)
    readable(row.descr.pair)
    return item


def _limit_price(descr: _Descr) -> Decimal:
    """The limit price: the first price of a limit order, the second of one with a trigger.

    Zero where there is none, or none yet: it may be written relative to a trigger, as ``+5%``.
    """
    price = str(descr.price2 if descr.ordertype.endswith("-limit") else descr.price)
    plain = descr.ordertype in ("limit", "iceberg", "stop-loss-limit", "take-profit-limit")
    return Decimal(price) if plain and _NUMBER.fullmatch(price) else Decimal(0)


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_COUNT: Final = msgspec.json.Decoder(_Count)
_OPEN: Final = msgspec.json.Decoder(_Open)
_ORDERS: Final = RowDecoder(_Row, _Key, named=True, convert=_open_order)
#: What can't be read is counted.
_KEYS: Final = RowDecoder(_Key, msgspec.Raw, named=True, convert=_by_id)
_PAIRS: Final = RowDecoder(_Names, msgspec.Raw, named=True)
_STATUSES: Final = msgspec.json.Decoder(dict[str, _Status])
_SWITCH: Final = msgspec.json.Decoder(_Switch)
_TIME: Final = msgspec.json.Decoder(_Time)
_KEY_INFO: Final = msgspec.json.Decoder(_KeyInfo)
#: "Create & modify orders", "Cancel & close orders": either will do for a cancel.
_MAY_CANCEL: Final = frozenset({"modify-trades", "close-trades"})


def _answer(reply: Reply, now_ms: int, tolerated: tuple[str, ...] = ()) -> _Envelope:
    """The envelope, if it says success, or nothing but errors that are tolerated."""
    return open_envelope(_ENVELOPE, reply, now_ms, partial(_refused, now_ms, tolerated))


def _faults(envelope: _Envelope) -> list[str]:
    """The errors in it; a word that begins with W is a warning beside a result."""
    return [text.replace(": ", ":") for text in envelope.error if text[:1] != "W"]


def _refused(now_ms: int, tolerated: tuple[str, ...], envelope: _Envelope) -> Refusal | None:
    """Make the refusal of a list of errors: the first, unless another leaves the outcome open."""
    faults = _faults(envelope)
    if all(text.startswith(tolerated) for text in faults):
        return None
    kinds = [kind_by_prefix(text, _KINDS) for text in faults]
    at = next((i for i, kind in enumerate(kinds) if kind in (VenueUnavailable, None)), 0)
    text, wait, locked_out = faults[at], None, False
    if throttled := _THROTTLED.match(text):
        wait = wait_until(int(throttled[1]) * 1000, now_ms, LOCKOUT_S)
    elif locked_out := text.startswith("EGeneral:Temporary lockout"):
        wait = LOCKOUT_S
    code = ":".join(text.split(":")[:2])
    message = "; ".join(faults) if len(faults) > 1 else text if text != code else ""
    return Refusal(kind=kinds[at], code=code, message=message, retry_after=wait, of_key=locked_out)


def _result(decoder: "msgspec.json.Decoder[Any]", envelope: _Envelope, reply: Reply) -> Any:
    """The envelope's result, decoded."""
    return decode_json(decoder, reply, envelope.result)


def decode_cancelled(reply: Reply, stamp: Stamp, *, tolerated: tuple[str, ...] = ()) -> Cancelled:
    """Read how many orders a cancel says it cancelled.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer to a cancel.
    """
    envelope = _answer(reply, stamp.time_ms, tolerated)
    result = _Count(0)
    try:
        result = _result(_COUNT, envelope, reply)
    except ProtocolError:
        if not _faults(envelope):
            raise
    count = whole_of(result.count)
    if count is not None and count < 0:
        count = None
    refused = bool(_faults(envelope)) and not count
    return Cancelled(reply.body, count, result.pending is True, refused)


@sliced
def decode_listing(reply: Reply, stamp: Stamp) -> Slices[Listing]:
    """The open orders, as far as a cancel needs them.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing.
    """
    broken = None
    try:
        result = _open_result(reply, stamp)
    except ProtocolError as error:
        broken = error
    yield
    if broken is None:
        rows = yield from _KEYS.decode(reply, result)
    elif (opening := _OPENING.match(reply.body)) and reply.status == OK:
        rows = yield from _KEYS.decode(reply, reply.body[opening.end() :], salvage=True)
    else:
        raise broken
    doubt = why_stale(reply, stamp) or ("a part of it is no JSON" if broken else "")
    return Listing(rows.whole, len(rows.keys), rows.problem, doubt, reply.body)


@sliced
def decode_sure_listing(reply: Reply, stamp: Stamp) -> Slices[Listing]:
    """The same, of a listing that has every order.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing, or may lack an order.
    """
    check_fresh(reply, stamp)
    rows = yield from _open_rows(_KEYS, reply, stamp)
    return Listing(rows.whole, len(rows.keys), rows.problem, "", reply.body)


@sliced
def decode_open_orders(reply: Reply, stamp: Stamp) -> Slices[list[OpenOrder]]:
    """The open orders, every one of them.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing, it comes from a cache, or a row of it can't be read.
    """
    check_fresh(reply, stamp)
    return whole((yield from _open_rows(_ORDERS, reply, stamp)))


def _open_rows(decoder: RowDecoder[Any, Any], reply: Reply, stamp: Stamp) -> Slices[Rows[Any, Any]]:
    result = _open_result(reply, stamp)
    yield
    return (yield from decoder.decode(reply, result))


def _open_result(reply: Reply, stamp: Stamp) -> msgspec.Raw:
    """The part of a listing that is the rows, as it came."""
    result: _Open = _result(_OPEN, _answer(reply, stamp.time_ms), reply)
    return result.open


@sliced
def decode_pairs(reply: Reply, stamp: Stamp) -> Slices[list[Pair]]:
    """The pairs that the venue found; none if it knows no such pair.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no list of pairs.
    """
    envelope = _answer(reply, stamp.time_ms, (_UNKNOWN_PAIR,))
    if _faults(envelope):
        return []
    rows = yield from _PAIRS.decode(reply, envelope.result)
    return [Pair(key, names.altname, names.wsname or key) for key, names in rows.whole]


def index(pairs: Iterable[Pair]) -> dict[str, frozenset[str]]:
    """From each spelling to the names of the pair that it means.

    A name that orders are listed by goes before a key of the list.
    """
    pairs = list(pairs)
    names = {pair.key: pair.listed_as for pair in pairs}
    names |= {pair.wsname: pair.listed_as for pair in pairs}
    return names | {pair.altname: pair.listed_as for pair in pairs}


def decode_states(reply: Reply, stamp: Stamp) -> Mapping[str, OrderState]:
    """Read what has become of orders, by id.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer about orders.
    """
    envelope = _answer(reply, stamp.time_ms, (_UNKNOWN_ORDER,))
    if _faults(envelope):
        return {}
    rows: dict[str, _Status] = _result(_STATUSES, envelope, reply)
    return {order_id: _STATES.get(row.status, "open") for order_id, row in rows.items()}


def decode_switch(reply: Reply, stamp: Stamp, *, timeout_ms: int) -> int | None:
    """Read when the switch fires, ms since the epoch.

    Raises:
        VenueError: the venue refused.
        ProtocolError: the reply does not say what was asked for.
    """
    result: _Switch = _result(_SWITCH, _answer(reply, stamp.time_ms), reply)
    return fires_at(timeout_ms, result.trigger_time, result.current_time)


def decode_key(reply: Reply, stamp: Stamp) -> KeyInfo:
    """Read what a key may do.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer about a key.
    """
    key: _KeyInfo = _result(_KEY_INFO, _answer(reply, stamp.time_ms), reply)
    until = text_of(key.valid_until)
    return KeyInfo(
        cancels={"spot": "no" if _MAY_CANCEL.isdisjoint(key.permissions) else "yes"},
        addresses=key.ip_allowlist,
        expires_at_ms=int(until) * 1000 or None if _UNIX.fullmatch(until) else None,
    )


#: Reads what became of the cancel of an order that can't exist.
decode_tried: Final = told_by_refusal(
    lambda reply, stamp: _answer(reply, stamp.time_ms),
    unknown_order=lambda error: error.code == _UNKNOWN_ORDER,
)


def decode_clock(reply: Reply) -> int:
    """``Time``, in ms since the epoch; it counts whole seconds.

    Raises:
        VenueError: the venue refused.
        ProtocolError: there is no clock in it.
    """
    result: _Time = _result(_TIME, _answer(reply, 0), reply)
    return result.unixtime * 1000
