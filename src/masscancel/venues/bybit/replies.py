"""The shapes of Bybit's replies, and their meanings.

Sources: as in the package; of refusals "Error Codes", of their pace "Rate Limit Rules". Each
``decode_...`` raises :class:`~masscancel.VenueError` where the venue refused, and
:class:`~masscancel.ProtocolError` where the reply is no answer to what was asked.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

import msgspec

from masscancel import errors
from masscancel.calls import Reply, Scope, Slices, Stamp
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, Permission
from masscancel.venues import toolkit
from masscancel.venues.toolkit import NOTHING_OPEN, Page

#: The most orders of linear or inverse that a cancel-all cancels, picked at random.
CANCELLED_AT_MOST: Final = 500
#: The largest page of a listing.
PAGE: Final = 50
#: The books, and the ``orderFilter`` of each. Conditional ones are written first: an order that is
#: triggered in between is in the ordinary book then, which comes last.
FUTURES_FILTERS: Final = {"stop": "StopOrder", "ordinary": "Order"}
SPOT_FILTERS: Final = {
    "stop": "StopOrder",
    "tpsl": "tpslOrder",
    "oco": "OcoOrder",
    "bidirectional": "BidirectionalTpslOrder",
    "ordinary": "Order",
}
#: What "403, access too frequent" asks for, in seconds: "wait for at least 10 minutes".
_BAN: Final = 600.0
#: A limit's reset that is later than this, in seconds, is none: the windows are of a second.
_LATEST_RESET: Final = 60.0

#: An order that is gone, in an answer about single orders.
_GONE: Final = frozenset({110001, 110008, 110010, 170139, 170142, 170143, 170190, 170213})
#: "Order does not exist".
_NOT_THERE: Final = frozenset({110001, 170213})
#: "Unmatched IP, please check your API key's bound IP addresses".
FOREIGN_ADDRESS: Final = frozenset[int | str]({10010})
#: What a key is bound to that is not.
_ANYWHERE: Final = "*"
_TOO_MANY_VISITS: Final = 10006
#: What each documented code means; one that is missing here is never taken for success.
_KINDS: Final = toolkit.kinds_of(
    (errors.AuthenticationError, (10003, 10004, 10007, 33004, -2015)),
    (errors.PermissionDenied, (10005, 10008, 10009, 10010, 10024, 10027, 10028, 100028, 3100197)),
    (errors.StampRefused, (10002, -1)),
    (errors.RateLimited, (_TOO_MANY_VISITS, 10018, 10403, 10429, 429, 30035, 170222)),
    (errors.InvalidRequest, (10001, 10017, 10029, 170105, 170121, 170130, 170201, 181000, 181001)),
    # "Timeout", "server error": the outcome is unknown. "Processing": likewise, try later.
    (errors.VenueUnavailable, (10000, 10016, 170001, 170007, 170032, 170147, 170150, 170234)),
    (errors.VenueUnavailable, (110079, 170191, 170212)),
    (errors.VenueUnavailable, _GONE),
)

_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Number = str | float | None  # numbers are text, "" for none


class _Fate(msgspec.Struct, gc=False):
    """What became of one order, beside its id, where a success is one of some orders only."""

    code: int = 0
    msg: str | None = None


class _Fates(msgspec.Struct):
    fates: tuple[_Fate, ...] = msgspec.field(name="list", default=())


class _Envelope(msgspec.Struct, rename="camel"):
    """What every reply has."""

    ret_code: int
    ret_msg: str | None = None
    result: msgspec.Raw = msgspec.Raw()
    ret_ext_info: _Fates | None = None
    time: int | None = None


class _Listing(msgspec.Struct, rename="camel"):
    """A page."""

    rows: msgspec.Raw = msgspec.field(name="list")
    next_page_cursor: str | None = None
    category: str | None = None


class _Cancelled(msgspec.Struct):
    """The answer to a cancel-all; spot's has been seen without a list, others without success."""

    rows: msgspec.Raw = msgspec.field(name="list", default=msgspec.Raw())
    success: Any = None


class _Id(msgspec.Struct, rename="camel", gc=False):
    order_id: _Name | int


class _Listed(msgspec.Struct, gc=False):
    """The part of an order that a cancel needs."""

    symbol: _Name


class _Row(_Listed, rename="camel", gc=False):
    """An order."""

    order_id: _Name
    side: str
    qty: _Number
    price: _Number = None
    cum_exec_qty: _Number = None
    order_type: str | None = None
    order_status: str | None = None
    stop_order_type: str | None = None
    reduce_only: Any = None


class _State(msgspec.Struct, rename="camel"):
    order_id: str
    order_status: str


class _Coin(msgspec.Struct, rename="camel", gc=False):
    settle_coin: str


class _Time(msgspec.Struct, rename="camel"):
    time_nano: int


class _Key(msgspec.Struct, rename="camel"):
    read_only: int | None = None
    permissions: Mapping[str, Any] = {}
    ips: tuple[str, ...] | None = None
    expired_at: Any = None


class Accepted(toolkit.Answer, frozen=True, kw_only=True):
    """The answer to a cancel-all.

    Attributes:
        ids: the orders that it names; the cancels of those that did not fail are accepted.
        tells: whether it has a list of them.
        more: whether there may be more of them, which it could not cancel.
    """

    ids: tuple[str, ...] = ()
    tells: bool = True
    more: bool = False


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope, strict=False)
_LISTING: Final = msgspec.json.Decoder(_Listing)
_CANCELLED: Final = msgspec.json.Decoder(_Cancelled)
_TIME: Final = msgspec.json.Decoder(_Time, strict=False)
_KEY: Final = msgspec.json.Decoder(_Key)
_IDS: Final = toolkit.RowDecoder(_Id, msgspec.Raw, convert=lambda row: str(row.order_id))
_SYMBOLS: Final = toolkit.RowDecoder(
    _Listed, msgspec.Raw, convert=lambda row: toolkit.readable(row.symbol)
)
_ROWS: Final = toolkit.RowDecoder(_Row, msgspec.Raw)
_STATES: Final = msgspec.json.Decoder(list[_State])
_COINS: Final = toolkit.RowDecoder(_Coin, msgspec.Raw, convert=lambda row: row.settle_coin)

#: What an order's status means; one that is not here is open ("Enums Definitions", orderStatus).
_ENDS: Final[Mapping[str, OrderState]] = {
    "Filled": "filled",
    "Cancelled": "cancelled",
    "PartiallyFilledCanceled": "cancelled",
    "Deactivated": "cancelled",
    "Rejected": "rejected",
}
#: What a key must be allowed, in each category ("Get API Key Information").
_RIGHTS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "spot": (("Spot", "SpotTrade"),),
    "linear": (("ContractTrade", "Order"), ("Options", "OptionsTrade")),
    "inverse": (("ContractTrade", "Order"),),
    "option": (("Options", "OptionsTrade"),),
}


def _result(reply: Reply, now_ms: int, *, acts: bool = False) -> _Envelope:
    """Read what every reply has.

    Raises:
        VenueError: the venue refused.
        ProtocolError: the reply is no reply of Bybit.
    """
    if reply.status == 403 and b"access too frequent" in reply.body[:4096].lower():  # noqa: PLR2004
        message = "the address has been banned for too many requests"
        raise errors.RateLimited(None, "", message, reply.status, retry_after=_BAN)
    return toolkit.open_envelope(_ENVELOPE, reply, now_ms, partial(_refusal, reply, now_ms, acts))


def _refusal(reply: Reply, now_ms: int, acts: bool, envelope: _Envelope) -> toolkit.Refusal | None:
    code = envelope.ret_code
    if code == 0:
        return None
    wait = None
    reset_ms = toolkit.header_number(reply, "X-Bapi-Limit-Reset-Timestamp")
    # The limits are of single requests: a listing that is refused holds up no cancel of the key.
    if code == _TOO_MANY_VISITS and acts and reset_ms is not None:
        wait = (reset_ms - (envelope.time or now_ms)) / 1000
    return toolkit.Refusal(
        kind=_KINDS.get(code),
        code=code,
        message=envelope.ret_msg or "",
        retry_after=wait if wait is not None and 0 < wait <= _LATEST_RESET else None,
        of_key=code == _TOO_MANY_VISITS,
    )


@toolkit.sliced
def decode_cancelled(reply: Reply, stamp: Stamp, *, capped: bool) -> Slices[Accepted]:
    """Read the answer to a cancel-all: that it is accepted, and of which orders.

    Args:
        reply: the reply.
        stamp: of its attempt.
        capped: whether it may be about a part of the orders alone.

    Raises:
        VenueUnavailable: it says that it failed (``success`` "0"), and not how far it got.
        ProtocolError: it is no answer to a cancel-all.
    """
    envelope = _result(reply, stamp.time_ms, acts=True)
    answer = toolkit.decode_json(_CANCELLED, reply, envelope.result)
    if answer.success not in (None, 1, "1"):
        raise errors.VenueUnavailable(0, "", f"success {answer.success!s:.20}", reply.status)
    if not bytes(answer.rows):
        if answer.success is None:
            raise errors.ProtocolError("the reply is no answer to a cancel-all")
        return Accepted(raw=reply.body, status="accepted", tells=False, more=capped)
    ids: list[str] = toolkit.whole((yield from _IDS.decode(reply, answer.rows)))
    fates = envelope.ret_ext_info.fates if envelope.ret_ext_info else ()
    names = ids + [f"order {1 + number}, which has no id" for number in range(len(ids), len(fates))]
    return Accepted(
        raw=reply.body,
        status="accepted" if ids else NOTHING_OPEN,
        ids=tuple(ids),
        failed={
            name: _KINDS.get(fate.code, errors.VenueError)(fate.code, "", fate.msg or "")
            for name, fate in zip(names, fates, strict=False)
            if fate.code and fate.code not in _GONE
        },
        more=capped and len(ids) >= CANCELLED_AT_MOST,
    )


def tell(ack: Ack, answers: Sequence[Accepted]) -> Ack:
    """Have an Ack say how many cancels were accepted; which are done, the answers do not say."""
    if ack.status == NOTHING_OPEN:
        return ack
    count = len({order_id for each in answers for order_id in each.ids})
    status = f"{count} accepted" if all(each.tells for each in answers) else "accepted"
    if any(each.more for each in answers):
        status += f", {CANCELLED_AT_MOST} a call: more may be open"
    return msgspec.structs.replace(ack, status=status)


@toolkit.sliced
def decode_page(
    reply: Reply, stamp: Stamp, *, scope: Scope, word: str | None
) -> Slices[Page[OpenOrder]]:
    """Read a page of a listing: orders, each of the scope; one that may lack some is none.

    Args:
        reply: the reply.
        stamp: of its attempt.
        scope: what was asked for.
        word: the filter, if it was asked for one.
    """
    listing = _listing(reply, stamp.time_ms, scope.account_category)
    rows: list[_Row] = toolkit.whole((yield from _ROWS.decode(reply, listing.rows)))
    if problem := _doubt(reply, stamp, listing, len(rows)):
        raise errors.ProtocolError(f"the listing proves nothing: {problem}")
    if scope.symbol is not None and {row.symbol for row in rows} - {scope.symbol}:
        raise errors.ProtocolError(f"the reply lists other symbols than {scope.symbol!r}")
    orders = [_order(row, scope.account_category, word) for row in rows]
    return Page(orders, _next(listing, len(rows)), reply.body)


@toolkit.sliced
def decode_symbols(reply: Reply, stamp: Stamp, *, category: str) -> Slices[Page[str]]:
    """Read the symbols of a page, to cancel them, whatever else is to be said of it."""
    listing = _listing(reply, stamp.time_ms, category)
    rows = yield from _SYMBOLS.decode(reply, listing.rows)
    count = len(rows.whole) + len(rows.keys)
    problem = _doubt(reply, stamp, listing, count)
    if rows.keys:
        problem = f"{len(rows.keys)} orders whose symbol can't be read: {rows.problem}"
    return Page(rows.whole, _next(listing, count), reply.body, problem)


def _listing(reply: Reply, now_ms: int, category: str) -> _Listing:
    listing = toolkit.decode_json(_LISTING, reply, _result(reply, now_ms).result)
    if listing.category not in (None, "", category):
        raise errors.ProtocolError(f"the listing is of another category than {category}")
    return listing


def _next(listing: _Listing, count: int) -> str:
    """The cursor of the next page; behind a page that is empty it leads nowhere."""
    return (listing.next_page_cursor or "") if count else ""


def _doubt(reply: Reply, stamp: Stamp, listing: _Listing, count: int) -> str:
    """Why a page may lack orders, for people."""
    if listing.next_page_cursor is None and count >= PAGE:
        return "it may have been cut: a full page has no cursor"
    return toolkit.why_stale(reply, stamp)


def _order(row: _Row, category: str, word: str | None) -> OpenOrder:
    """An order as it is listed; its book is that of the filter, or else what its kind suggests."""
    filters = SPOT_FILTERS if category == "spot" else FUTURES_FILTERS
    if word is None:
        kind = row.stop_order_type or ""
        waits = row.order_status == "Untriggered" or kind not in ("", "UNKNOWN")
        word = "StopOrder" if waits else "Order"
        word = kind if category == "spot" and kind in filters.values() else word
    return OpenOrder(
        order_id=toolkit.readable(row.order_id),
        symbol=toolkit.readable(row.symbol),
        side=toolkit.side(row.side),
        price=toolkit.decimal(row.price),
        quantity=toolkit.decimal(row.qty),
        filled_quantity=toolkit.decimal(row.cum_exec_qty),
        order_type=row.order_type or "",
        status=row.order_status or "",
        book=next(book for book, each in filters.items() if each == word),
        reduce_only=toolkit.is_true(row.reduce_only),
    )


@toolkit.sliced
def decode_coins(reply: Reply, stamp: Stamp) -> Slices[Page[str]]:
    """Read the settle coins of a page of instruments, as far as they have one."""
    listing = _listing(reply, stamp.time_ms, "linear")
    coins = yield from _COINS.decode(reply, listing.rows)
    found = dict.fromkeys(coin for coin in coins.whole if coin)
    return Page([*found], _next(listing, len(coins.whole)), reply.body)


def decode_state(reply: Reply, stamp: Stamp, *, order_id: str) -> OrderState | None:
    """Read what became of an order; ``None`` where it is not listed."""
    listing = toolkit.decode_json(_LISTING, reply, _result(reply, stamp.time_ms).result)
    states = toolkit.decode_json(_STATES, reply, listing.rows)
    if not states:
        return None
    if [state.order_id for state in states] != [order_id]:
        raise errors.ProtocolError(f"the reply is about other orders than {order_id:.40}")
    return _ENDS.get(states[0].order_status, "open")


def decode_key(reply: Reply, stamp: Stamp, *, categories: Sequence[str]) -> KeyInfo:
    """Read what a key may do, and from where; a key that is bound to addresses does not expire."""
    key = toolkit.decode_json(_KEY, reply, _result(reply, stamp.time_ms).result)
    addresses = None if key.ips is None else tuple(each for each in key.ips if each != _ANYWHERE)
    return KeyInfo(
        cancels={category: _may_cancel(key, category) for category in categories},
        addresses=addresses,
        expires_at_ms=None if addresses else _date(key.expired_at),
    )


def _may_cancel(key: _Key, category: str) -> Permission:
    """Judge whether a key may trade; a right that is not documented as this one leaves it open."""
    if key.read_only == 1:
        return "no"
    has = [right in (key.permissions.get(group) or ()) for group, right in _RIGHTS[category]]
    if key.read_only == 0 and all(has):
        return "yes"
    may_be = key.read_only != 0 or any(has) or key.permissions.get("Derivatives")
    return "unknown" if may_be else "no"


def _date(text: object) -> int | None:
    """A date that is for people alone, ms since the epoch; ``None`` if it can't be read."""
    try:
        at_ms = toolkit.milliseconds(toolkit.text_of(text))
    except errors.ProtocolError:
        return None
    return at_ms if at_ms > 0 else None


#: Reads what became of the cancel of an order that can't exist.
decode_tried: Final = toolkit.told_by_refusal(
    lambda reply, stamp: _result(reply, stamp.time_ms),
    unknown_order=lambda error: error.code in _NOT_THERE,
    foreign_address=FOREIGN_ADDRESS,
)


def decode_clock(reply: Reply) -> int:
    """Read the venue's clock, ms since the epoch."""
    result = _result(reply, 0).result
    return toolkit.decode_json(_TIME, reply, result).time_nano // 1_000_000
