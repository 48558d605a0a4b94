"""What Kraken's spot side answers: its replies as values, its errors as ours."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec

from masscancel.errors import (
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.models import OpenOrder, OrderState
from masscancel.venue import Reply, Stamp, decimal, decode_json, http_error
from masscancel.venues.kraken.wire import fires_at, known, refusal

#: "Temporary lockout" lasts some minutes, and each further request prolongs it.
LOCKOUT_S: Final = 900.0

_NUMBER: Final = re.compile(r"\d{1,32}(\.\d{1,32})?", re.ASCII)
_THROTTLED: Final = re.compile(r"EService:Throttled:(\d{9,11})", re.ASCII)
_UNKNOWN_PAIR: Final = "EQuery:Unknown asset pair"
_UNKNOWN_ORDER: Final = "EOrder:Unknown order"

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
    count: Annotated[int, msgspec.Meta(ge=0)]
    pending: bool = False


class _Descr(msgspec.Struct):
    pair: str
    type: str = ""
    ordertype: str = ""
    price: str | float | None = None
    price2: str | float | None = None


class Row(msgspec.Struct):
    """One open order, with what a cancel and a listing need of it."""

    descr: _Descr
    status: str = ""
    vol: str | float | None = None
    vol_exec: str | float | None = None


class _Open(msgspec.Struct):
    open: dict[str, Row]


class _Status(msgspec.Struct):
    status: str


class _Pair(msgspec.Struct):
    altname: str
    wsname: str | None = None


class _Switch(msgspec.Struct, rename="camel"):
    current_time: str
    trigger_time: str


class _Time(msgspec.Struct):
    unixtime: int


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_COUNT: Final = msgspec.json.Decoder(_Count)
_OPEN: Final = msgspec.json.Decoder(_Open)
_PAIRS: Final = msgspec.json.Decoder(dict[str, _Pair])
_STATUSES: Final = msgspec.json.Decoder(dict[str, _Status])
_SWITCH: Final = msgspec.json.Decoder(_Switch)
_TIME: Final = msgspec.json.Decoder(_Time)


class Cancelled(msgspec.Struct, frozen=True):
    """An answer to a cancel.

    Attributes:
        raw: the reply's bytes.
        count: how many orders it says it cancelled.
        pending: whether it says that they are still about to be.
        refused: whether an order in it was gone, and nothing is said of the others.
    """

    raw: bytes
    count: int = 0
    pending: bool = False
    refused: bool = False


class Listing(msgspec.Struct, frozen=True):
    """Open orders by id, and the bytes of the reply that listed them."""

    rows: Mapping[str, Row]
    raw: bytes

    def of(self, spellings: set[str]) -> "Listing | None":
        """Those of one pair; ``None`` if there are none."""
        rows = {key: row for key, row in self.rows.items() if row.descr.pair in spellings}
        return Listing(rows, self.raw) if rows else None


def _answer(reply: Reply, now_ms: int, tolerated: tuple[str, ...] = ()) -> _Envelope:
    """The envelope, if it says success, or nothing but errors that are tolerated.

    A word that begins with W is a warning beside a result.
    """
    error: MassCancelError | None = None
    try:
        envelope = decode_json(_ENVELOPE, reply)
    except ProtocolError as unreadable:
        if reply.status == 200:  # noqa: PLR2004  # anything else is not Kraken itself
            raise
        error = http_error(reply, now_ms)
        error.add_note(unreadable.message)
    else:
        faults = [text.replace(": ", ":") for text in envelope.error if text[:1] != "W"]
        if reply.status == 200 and all(text.startswith(tolerated) for text in faults):  # noqa: PLR2004
            return msgspec.structs.replace(envelope, error=faults)
        error = _refusal(reply, now_ms, faults) if faults else http_error(reply, now_ms)
    raise error


def _refusal(reply: Reply, now_ms: int, faults: Sequence[str]) -> MassCancelError:
    """The error for a list of them: the first, unless another leaves the outcome open."""
    kinds = [_KINDS.get(known(text, _KINDS) or "") for text in faults]
    at = next((i for i, kind in enumerate(kinds) if kind in (VenueUnavailable, None)), 0)
    text = faults[at]
    code = ":".join(text.split(":")[:2])
    message = "; ".join(faults) if len(faults) > 1 else text if text != code else ""
    error = refusal(reply, now_ms, code, message, kinds[at])
    if isinstance(error, RateLimited) and error.retry_after is None:
        if throttled := _THROTTLED.match(text):
            error.retry_after = max(0.0, int(throttled[1]) - now_ms / 1000)
        elif "lockout" in text:
            error.retry_after = LOCKOUT_S
    return error


def _result(decoder: "msgspec.json.Decoder[Any]", envelope: _Envelope, reply: Reply) -> Any:
    """The envelope's result, decoded."""
    return decode_json(decoder, reply, envelope.result)


def decode_cancelled(reply: Reply, stamp: Stamp, *, tolerated: tuple[str, ...] = ()) -> Cancelled:
    """How many orders a cancel says it cancelled.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer to a cancel.
    """
    envelope = _answer(reply, stamp.time_ms, tolerated)
    result = _Count(0)
    try:
        result = _result(_COUNT, envelope, reply)
    except ProtocolError:
        if not envelope.error:
            raise
    refused = bool(envelope.error) and not result.count
    return Cancelled(reply.body, result.count, result.pending, refused)


def decode_listing(reply: Reply, stamp: Stamp) -> Listing:
    """The open orders.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing.
    """
    result: _Open = _result(_OPEN, _answer(reply, stamp.time_ms), reply)
    return Listing(result.open, reply.body)


def decode_pairs(reply: Reply, stamp: Stamp) -> list[set[str]]:
    """For each pair that the venue found, its spellings; none if it knows no such pair.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no list of pairs.
    """
    envelope = _answer(reply, stamp.time_ms, (_UNKNOWN_PAIR,))
    if envelope.error:
        return []
    pairs: dict[str, _Pair] = _result(_PAIRS, envelope, reply)
    return [{key, pair.altname, pair.wsname or key} for key, pair in pairs.items()]


def decode_states(reply: Reply, stamp: Stamp) -> Mapping[str, OrderState]:
    """What has become of orders, by id.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer about orders.
    """
    envelope = _answer(reply, stamp.time_ms, (_UNKNOWN_ORDER,))
    if envelope.error:
        return {}
    rows: dict[str, _Status] = _result(_STATUSES, envelope, reply)
    return {order_id: _STATES.get(row.status, "open") for order_id, row in rows.items()}


def decode_switch(reply: Reply, stamp: Stamp, *, timeout_ms: int) -> int | None:
    """When the switch fires, ms since the epoch.

    Raises:
        VenueError: the venue refused.
        ProtocolError: the reply does not say what was asked for.
    """
    result: _Switch = _result(_SWITCH, _answer(reply, stamp.time_ms), reply)
    return fires_at(timeout_ms, result.trigger_time, result.current_time)


def decode_clock(reply: Reply) -> int:
    """``Time``, in ms since the epoch; it counts whole seconds.

    Raises:
        VenueError: the venue refused.
        ProtocolError: there is no clock in it.
    """
    result: _Time = _result(_TIME, _answer(reply, 0), reply)
    return result.unixtime * 1000


def open_order(order_id: str, row: Row) -> OpenOrder:
    """A row of the listing.

    Raises:
        ProtocolError: it has no side, or its quantity is no number.
    """
    if row.descr.type not in ("buy", "sell"):
        raise ProtocolError(f"the reply can't be understood: side {row.descr.type!r}")
    return OpenOrder(
        order_id=order_id,
        symbol=row.descr.pair,
        side="buy" if row.descr.type == "buy" else "sell",
        price=_limit_price(row.descr),
        quantity=_number(row.vol),
        filled_quantity=_number(row.vol_exec),
        order_type=row.descr.ordertype,
        status=row.status,
    )


def _limit_price(descr: _Descr) -> Decimal:
    """The limit price: the first price of a limit order, the second of one with a trigger.

    Zero where there is none, or none yet: it may be written relative to a trigger, as ``+5%``.
    """
    price = str(descr.price2 if descr.ordertype.endswith("-limit") else descr.price)
    plain = descr.ordertype in ("limit", "iceberg", "stop-loss-limit", "take-profit-limit")
    return Decimal(price) if plain and _NUMBER.fullmatch(price) else Decimal(0)


def _number(value: str | float | None) -> Decimal:
    """A quantity: text as documented, or a plain number."""
    return decimal(None if value is None else str(value))
