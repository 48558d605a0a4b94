"""The shapes of KuCoin's replies, and their meanings, refusals first.

Sources: "Request" and "Rate Limit" of ``Kucoin/kucoin-api-docs``, the tables of codes of ccxt, each
endpoint's own page, the examples of the official SDK's specification, and the replies recorded in
``JKorf/Kucoin.Net``. Each ``read_...`` gets a reply and its payload, and raises
:class:`~masscancel.ProtocolError` where that is no answer to what was asked.
"""

import re
from collections.abc import Mapping
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
from masscancel.models import OpenOrder, OrderState
from masscancel.venues.toolkit import (
    NOTHING_OPEN,
    Answer,
    Page,
    Refusal,
    RowDecoder,
    check_fresh,
    decimal,
    decode_json,
    header_number,
    is_true,
    kinds_of,
    open_envelope,
    side,
    whole,
    why_stale,
)

# The envelope, and refusals. Codes that are not here are a plain ``VenueError``.

#: The window of all pools, in seconds.
WINDOW: Final = 30.0
#: What the headers tell of one pool: its size, what is left of it, and the ms until it is full.
POOL_HEADERS: Final = ("gw-ratelimit-limit", "gw-ratelimit-remaining", "gw-ratelimit-reset")

_SUCCESS: Final = "200000"
_TWO_MEANINGS: Final = "200002"
NO_SUCH_PATH: Final = "404000"

#: "Order not exist".
_GONE: Final = frozenset({"102436", "126043", "100004", "order_not_exist"})
#: What each code means ("Errors"); one that is not here is never taken for success.
_KINDS: Final[Mapping[str, type[VenueError]]] = kinds_of(
    (AuthenticationError, ("400001", "400003", "400004", "400005")),
    (PermissionDenied, ("400006", "400007", "411100", "400500", "40010")),
    (PermissionDenied, ("200009", "130201", "112010")),
    (StampRefused, ("400002",)),
    (RateLimited, ("429000", "1015")),
    (InvalidRequest, ("400100", "404000", "415000")),
    (InvalidRequest, ("900001", "100003", "400600", "600203")),  # the symbol
    (VenueError, _GONE),
    (VenueError, ("126010", "300002")),  # the pair's cancels are suspended
    (VenueUnavailable, ("102428",)),  # it is being processed
    (VenueUnavailable, ("500000", "230005", "126038", "126039")),
)
#: "The requested ip address is not in the api whitelist".
FOREIGN_ADDRESS: Final = frozenset[int | str]({"400006"})
#: The wait that some limits come with, in s: an endpoint is blocked for 10, an address for 30.
_WAITS: Final = {_TWO_MEANINGS: 10.0, "1015": 30.0}
#: The text of what stands before the venue, where it blocks an address.
_BLOCKED: Final = b"error code: 1015"
_GONE_TEXT: Final = re.compile(r"order[ _]?not[ _]?exist", re.IGNORECASE)
_LIMIT_TEXT: Final = re.compile(r"too many|too frequent|rate.?limit", re.IGNORECASE)
_SUSPENDED_TEXT: Final = re.compile(r"suspen|cancel", re.IGNORECASE)
#: What a peer that repeats the headers must not put into our errors: 32 bytes in Base64.
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/]{43}=?")


class _Envelope(msgspec.Struct):
    """Every reply."""

    code: str | int
    data: msgspec.Raw = msgspec.Raw()
    msg: Any = None


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def open_reply(reply: Reply, now_ms: int, *, futures: bool) -> msgspec.Raw:
    """The payload, if the reply says success."""
    try:
        return open_envelope(_ENVELOPE, reply, now_ms, partial(_refused, futures=futures)).data
    except RateLimited as error:
        if error.retry_after is None and _BLOCKED in reply.body[:64]:
            error.retry_after = _WAITS["1015"]
        if error.retry_after is None:  # no header of HTTP's: the venue's own
            reset_ms = header_number(reply, POOL_HEADERS[2])
            error.retry_after = None if reset_ms is None else min(reset_ms / 1000, WINDOW)
        error.of_key = error.code in ("429000", _TWO_MEANINGS)  # counted by the user's id
        raise


def _refused(envelope: _Envelope, *, futures: bool) -> Refusal | None:
    code, text = str(envelope.code), clean(envelope.msg or "")
    if code == _SUCCESS:
        return None
    kind = _KINDS.get(code)
    if code == _TWO_MEANINGS:  # "cancel for this pair suspended", or blocked for a while
        limited = bool(_LIMIT_TEXT.search(text)) or (futures and not _SUSPENDED_TEXT.search(text))
        kind = RateLimited if limited else VenueError
    wait = _WAITS.get(code) if kind is RateLimited else None
    return Refusal(kind=kind, code=clean(code), message=text, retry_after=wait)


def clean(text: Any) -> str:
    """A peer's words without anything that may be a signature."""
    return _SIGNATURE.sub("***", str(text))


def is_gone(error: VenueError) -> bool:
    """Whether a cancel or a question was refused because there is no such order any more.

    400100 is "parameter error" as well: its text decides.
    """
    return error.code in _GONE or (error.code == "400100" and says_gone(error.message))


def says_gone(text: str) -> bool:
    """Whether a text says that there is no such order."""
    return bool(_GONE_TEXT.search(text))


# Answers to cancels.


class _Ids(msgspec.Struct, rename="camel"):
    """What was cancelled; of OCO orders, their legs."""

    cancelled_order_ids: list[Any] | None


class _Failed(msgspec.Struct):
    symbol: str
    error: Any = ""


class _Symbols(msgspec.Struct, rename="camel"):
    """What became of a cancel of everything, symbol by symbol; one may be in both lists."""

    succeed_symbols: list[Any] | None
    failed_symbols: list[_Failed | str] | None = None


_WORD: Final = msgspec.json.Decoder(str)
_CANCELLED: Final = msgspec.json.Decoder(_Ids)
_BY_SYMBOL: Final = msgspec.json.Decoder(_Symbols)


def read_word(reply: Reply, _: Stamp, data: msgspec.Raw) -> Answer:
    """``"success"``: not a word of what."""
    word = decode_json(_WORD, reply, data)
    if word != "success":
        raise ProtocolError("the reply is no answer to a cancel: it does not say success")
    return Answer(raw=reply.body, status=word)


def read_ids(reply: Reply, _: Stamp, data: msgspec.Raw) -> Answer:
    """``cancelledOrderIds``; ids that can't be told cost no Ack."""
    ids = decode_json(_CANCELLED, reply, data).cancelled_order_ids
    told = ids is not None and all(type(each) in (str, int) for each in ids)
    return Answer(
        raw=reply.body,
        status=NOTHING_OPEN if ids == [] else "cancelled" if told else "received",
        cancelled=tuple(map(str, ids or ())) if told else None,
    )


def read_symbols(reply: Reply, _: Stamp, data: msgspec.Raw) -> Answer:
    """``failedSymbols`` inside of a success: those are named, and may have been cancelled."""
    found = decode_json(_BY_SYMBOL, reply, data)
    rows = [row if isinstance(row, _Failed) else _Failed(row) for row in found.failed_symbols or ()]
    failed = {
        clean(row.symbol): _failure(clean(row.error or "can't cancel"))
        for row in rows
        if not says_gone(str(row.error))
    }
    done = found.succeed_symbols or failed
    return Answer(raw=reply.body, status="received" if done else NOTHING_OPEN, failed=failed)


def _failure(text: str) -> VenueError:
    kind = VenueUnavailable if "timeout" in text.lower() or "busy" in text.lower() else VenueError
    return kind(None, "failedSymbols", text, may_have_executed=True)


# Listings.


class OrderRow(msgspec.Struct, rename="camel", gc=False):
    """An order of the ordinary or of the stop book; one at market may have funds for a size."""

    id: str
    symbol: str
    side: str
    type: str = ""
    price: str | int | float | None = None
    size: str | int | float | None = None
    deal_size: str | int | float | None = None
    filled_size: str | int | float | None = None
    status: str | None = None
    stop: str | None = None
    trade_type: str | None = None
    reduce_only: Any = None
    close_order: Any = None


class OcoRow(msgspec.Struct, rename="camel", gc=False):
    """An OCO order, which is listed without side and size."""

    order_id: str
    symbol: str
    status: str | None = None


class OrderKey(msgspec.Struct, rename="camel", gc=False):
    """The part of a paged order that a cancel needs."""

    id: str
    symbol: str
    stop: str | None = None
    trade_type: str | None = None

    def is_of(self, trade_type: str, symbol: str | None) -> bool:
        """Whether it is of a trade type and of a symbol, if one is given; and no OCO order's."""
        return (
            self.stop not in _LEGS
            and (not trade_type or self.trade_type in (None, trade_type))
            and symbol in (None, self.symbol)
        )


class _Listed(msgspec.Struct, rename="camel"):
    """A page of a listing."""

    current_page: int
    page_size: int
    total_num: int
    total_page: int
    items: msgspec.Raw


class _Active(msgspec.Struct, rename="camel"):
    """The symbols that have open orders, and how many they are."""

    symbols: list[Any] | None
    symbol_size: int | None = None


class _State(msgspec.Struct, rename="camel"):
    """What an order has become, as each of the endpoints says it."""

    active: bool | None = None
    is_active: bool | None = None
    cancel_exist: bool | None = None
    status: str | None = None


#: The legs of OCO orders, as their ``stop`` says.
_LEGS: Final = frozenset({"l_l_o", "l_s_o", "e_l_o", "e_s_o"})
_OCO_ENDED: Final = frozenset({"DONE", "CANCELLED"})
_LISTED: Final = msgspec.json.Decoder(_Listed)
_ACTIVE: Final = msgspec.json.Decoder(_Active)
_STATE: Final = msgspec.json.Decoder(_State | None)
_KEYS: Final = RowDecoder(OrderKey, msgspec.Raw)


def open_order(row: OrderRow, *, book: str, trade_type: str) -> OpenOrder:
    """A row as it is listed.

    Args:
        row: the row.
        book: the book that is listed.
        trade_type: what its orders say; ``""`` if they say nothing.

    Raises:
        ProtocolError: a number in it is none, or it is of another kind of account.
    """
    if trade_type and row.trade_type not in (None, trade_type):
        raise ProtocolError("the reply can't be understood: an order is of another trade type")
    filled = row.deal_size if row.filled_size is None else row.filled_size
    return OpenOrder(
        order_id=row.id,
        symbol=row.symbol,
        side=side(row.side),
        price=decimal(row.price),
        quantity=decimal(row.size),
        filled_quantity=decimal(filled),
        order_type=row.type,
        status=row.status or "active",
        book="oco" if row.stop in _LEGS else book,
        reduce_only=is_true(row.reduce_only) or is_true(row.close_order),
    )


def oco_order(row: OcoRow) -> OpenOrder | None:
    """An OCO order; ``None`` for one that has ended."""
    if row.status in _OCO_ENDED:
        return None
    nothing = decimal(None)
    return OpenOrder(
        order_id=row.order_id,
        symbol=row.symbol,
        side="unknown",
        price=nothing,
        quantity=nothing,
        filled_quantity=nothing,
        order_type="oco",
        status=row.status or "",
        book="oco",
    )


def read_page(
    reply: Reply,
    stamp: Stamp,
    data: msgspec.Raw,
    *,
    rows: RowDecoder[Any, Any],
    number: int,
    legs: int,
) -> Slices[Page[OpenOrder]]:
    """A page of open orders, and which one is next.

    Args:
        reply: the reply.
        stamp: when it was asked for.
        data: its payload.
        rows: what the rows mean.
        number: the page that was asked for, from 1.
        legs: how many orders a row may be counted as.

    Raises:
        ProtocolError: it is another page, or holds fewer orders than it says.
    """
    check_fresh(reply, stamp)
    page, items, is_last = _page(reply, data, number)
    found = yield from rows.decode(reply, items)
    _check_count(page, len(found.whole) + len(found.keys), legs)
    orders = [order for order in whole(found) if order is not None]
    return Page(orders, "" if is_last else str(number + 1), reply.body)


def read_keys(
    reply: Reply, stamp: Stamp, data: msgspec.Raw, *, number: int
) -> Slices[Page[OrderKey]]:
    """A page of orders, for a cancel."""
    page, items, is_last = _page(reply, data, number)
    found = yield from _KEYS.decode(reply, items)
    _check_count(page, len(found.whole) + len(found.keys), 1)
    problem = why_stale(reply, stamp) or found.problem
    return Page(found.whole, "" if is_last else str(number + 1), reply.body, problem)


def _page(reply: Reply, data: msgspec.Raw, number: int) -> tuple[_Listed, msgspec.Raw, bool]:
    page = decode_json(_LISTED, reply, data)
    if page.current_page != number:
        raise ProtocolError(f"the reply is page {page.current_page}, not {number}")
    if page.page_size < 1 or page.total_num < 0:
        raise ProtocolError("the reply is no page of a listing")
    is_last = number >= page.total_page and number * page.page_size >= page.total_num
    none = page.total_num == 0 and bytes(page.items) == b"null"
    return page, msgspec.Raw(b"[]") if none else page.items, is_last


def _check_count(page: _Listed, count: int, legs: int) -> None:
    """Check that a page holds as many orders as it has to, by its own words."""
    before = (page.current_page - 1) * page.page_size
    expected = min(page.page_size, page.total_num - before)
    if count * legs < expected:
        raise ProtocolError(f"the listing is cut: {count} orders on a page of {expected}")


def read_orders(
    reply: Reply, stamp: Stamp, data: msgspec.Raw, *, rows: RowDecoder[Any, Any], symbol: str
) -> Slices[list[OpenOrder]]:
    """The open orders of one symbol, which are not paged.

    Raises:
        ProtocolError: they are of another symbol.
    """
    check_fresh(reply, stamp)
    orders: list[OpenOrder] = whole((yield from rows.decode(reply, data)))
    check_symbol(orders, symbol)
    return orders


def check_symbol(orders: list[OpenOrder], symbol: str | None) -> None:
    """Check that a listing is about one symbol, if one was asked for.

    Raises:
        ProtocolError: it shows another one.
    """
    if symbol is not None and any(order.symbol != symbol for order in orders):
        raise ProtocolError(f"the reply lists other symbols than {symbol!r}")


def read_active(reply: Reply, stamp: Stamp, data: msgspec.Raw) -> Page[str]:
    """The symbols that have open orders, as far as they can be read.

    Raises:
        ProtocolError: it is no list of symbols.
    """
    active = decode_json(_ACTIVE, reply, data)
    if active.symbols is None and active.symbol_size != 0:
        raise ProtocolError("the reply can't be understood: it has no list of symbols")
    listed = active.symbols or []
    symbols = tuple(dict.fromkeys(each for each in listed if isinstance(each, str) and each))
    problem = why_stale(reply, stamp)
    if any(not isinstance(each, str) or not each for each in listed):
        problem = "a symbol with open orders can't be read"
    elif active.symbol_size is not None and active.symbol_size > len(symbols):
        problem = f"{active.symbol_size} symbols have open orders, and {len(symbols)} are listed"
    return Page(symbols, raw=reply.body, problem=problem)


def read_state(reply: Reply, _: Stamp, data: msgspec.Raw) -> OrderState | None:
    """What has become of an order; ``None`` if that is not known.

    A stop order that was triggered goes on as another order. Neither is it documented that stop
    orders are kept once they are cancelled, nor that they are not.
    """
    state = decode_json(_STATE, reply, data) if bytes(data).strip() else None
    if state is None:
        return None
    active = state.is_active if state.active is None else state.active
    if active is None:
        return _STATUSES.get(state.status or "")
    if active:
        return "open"
    return "cancelled" if state.cancel_exist else "filled"


#: What the status of a stop or an OCO order means.
_STATUSES: Final[Mapping[str, OrderState]] = {"NEW": "open", "CANCELLED": "cancelled"}


class _Armed(msgspec.Struct, rename="camel"):
    """The switch, in s; ``currentTime`` on spot's path, ``systemTime`` on the other."""

    current_time: int | None = None
    system_time: int | None = None
    trigger_time: int | None = None


class _Key(msgspec.Struct, rename="camel"):
    permission: str = ""
    ip_whitelist: str | None = None


class _Mode(msgspec.Struct, rename="camel"):
    self_account_mode: str


_ARMED: Final = msgspec.json.Decoder(_Armed | None)
_KEY: Final = msgspec.json.Decoder(_Key)
_MODE: Final = msgspec.json.Decoder(_Mode)
_TIME: Final = msgspec.json.Decoder(int)


def read_switch(reply: Reply, _: Stamp, data: msgspec.Raw, *, seconds: int) -> int | None:
    """Read when the switch fires, ms since the epoch; ``None`` if it is off.

    Raises:
        ProtocolError: the reply does not say what was asked for.
    """
    armed = (decode_json(_ARMED, reply, data) if bytes(data).strip() else None) or _Armed()
    current = armed.system_time if armed.current_time is None else armed.current_time
    at = armed.trigger_time or 0
    if seconds and (current is None or at <= current):
        raise ProtocolError("the switch was to be armed, and the reply says that it is off")
    if not seconds and at > (current or 0):
        raise ProtocolError("the switch was to be off, and the reply says that it is armed")
    return at * 1000 if seconds else None


def read_key(
    reply: Reply, _: Stamp, data: msgspec.Raw
) -> tuple[frozenset[str], tuple[str, ...] | None]:
    """The words for what the key may do, such as ``Spot``, and the addresses that it is bound to.

    There are none, or no field, where it is bound to none.
    """
    key = decode_json(_KEY, reply, data)
    return frozenset(_words(key.permission)), tuple(_words(key.ip_whitelist or ""))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def read_mode(reply: Reply, _: Stamp, data: msgspec.Raw) -> str:
    """What kind the account is: ``CLASSIC`` or ``UNIFIED``."""
    return decode_json(_MODE, reply, data).self_account_mode


def decode_clock(reply: Reply) -> int:
    """The server's clock, ms since the epoch."""
    return decode_json(_TIME, reply, open_reply(reply, 0, futures=False))
