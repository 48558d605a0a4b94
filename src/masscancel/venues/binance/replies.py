"""The shapes of Binance's replies, and their meanings.

Each ``decode_...`` raises :class:`~masscancel.VenueError` where the venue refused, and
:class:`~masscancel.ProtocolError` where the reply is no answer to what was asked.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Final, Literal

import msgspec

from masscancel.calls import Reply, Slices, Stamp
from masscancel.errors import ProtocolError, VenueError
from masscancel.models import KeyInfo, OpenOrder, OrderState, Permission
from masscancel.venues.binance.refusals import check_accepted, is_nothing_open
from masscancel.venues.toolkit import (
    NOTHING_OPEN,
    OK,
    Answer,
    RowDecoder,
    batches,
    check_fresh,
    decimal,
    decode_json,
    finish,
    is_readable,
    is_true,
    readable,
    side,
    whole,
    why_stale,
)

#: What the ids of conditional orders begin with here: theirs and those of orders are counted apart.
ALGO: Final = "algo:"
#: HTTP's own word for a path that there is not.
_NO_PATH: Final = 404
#: So many rows of an answer are looked at in a piece.
_TOGETHER: Final = 2_000

_Symbol = Annotated[str, msgspec.Meta(min_length=1)]


class Listing(msgspec.Struct, frozen=True):
    """The open orders of one book, as a cancel needs them.

    Attributes:
        symbols: each symbol once.
        nameless: how many orders there are whose symbol can't be read.
        problem: what is wrong with the first of those, for people.
        doubt: why there may be orders that it does not have, for people; ``""`` if it has all.
        raw: the bytes of the reply.
    """

    symbols: tuple[str, ...]
    nameless: int
    problem: str
    doubt: str
    raw: bytes


class _Listed(msgspec.Struct, gc=False):
    """The part of an open order that a cancel needs."""

    symbol: _Symbol


class _Named(msgspec.Struct, rename="camel"):
    """The name of a row that can't be read whole."""

    symbol: Any = None
    order_id: Any = None
    algo_id: Any = None

    def __str__(self) -> str:
        order_id = self.order_id if self.algo_id is None else self.algo_id
        return f"{order_id!s:.40} of {self.symbol!s:.40}"


class _OrderRow(msgspec.Struct, rename="camel", gc=False):
    """An order of the ordinary book; on spot, stop orders too."""

    order_id: int
    symbol: _Symbol
    side: Literal["BUY", "SELL"]
    orig_qty: str
    price: str | None = None
    executed_qty: str | None = None
    type: str = ""
    status: str = ""
    reduce_only: Any = None
    close_position: Any = None


class _AlgoRow(msgspec.Struct, rename="camel", gc=False):
    """A conditional order of futures. One that closes the position has no quantity."""

    algo_id: int
    symbol: _Symbol
    side: Literal["BUY", "SELL"]
    quantity: str | None = None
    price: str | None = None
    order_type: str = ""
    algo_status: str = ""
    reduce_only: Any = None
    close_position: Any = None


class _State(msgspec.Struct, rename="camel"):
    """The state of an order of the ordinary book."""

    order_id: int
    status: str


class _AlgoState(msgspec.Struct, rename="camel"):
    """The state of a conditional order."""

    algo_id: int
    algo_status: str


class _Report(msgspec.Struct, rename="camel", gc=False):
    """An order that spot cancelled; its id decides nothing, and may be anything."""

    symbol: str
    status: str = ""
    order_id: Any = None

    def reports(self) -> "tuple[_Report, ...]":
        """The orders that it tells of."""
        return (self,)

    @property
    def told_id(self) -> str | None:
        """The order's id, if it can be read."""
        text = str(self.order_id)
        told = type(self.order_id) in (int, str) and is_readable(text)
        return text if text and told else None


class _CancelRow(_Report, rename="camel", gc=False):
    """The same, or an order list with a report for each of its orders."""

    order_reports: tuple[_Report, ...] = ()

    def reports(self) -> tuple[_Report, ...]:
        """The orders of the list, or itself."""
        if self.order_reports and not self.status:
            return self.order_reports
        return (self, *self.order_reports)


class _Clock(msgspec.Struct, rename="camel"):
    server_time: int


class _Countdown(msgspec.Struct, rename="camel"):
    symbol: str
    countdown_time: int


#: Spot's orders that wait for a price ("enums.md", "Order types").
_STOPS: Final = frozenset({"STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"})


def _futures_order(row: _OrderRow, book: str = "ordinary") -> OpenOrder:
    return OpenOrder(
        order_id=str(row.order_id),
        symbol=readable(row.symbol),
        side=side(row.side),
        price=_decimal(row, row.price),
        quantity=_decimal(row, row.orig_qty),
        filled_quantity=_decimal(row, row.executed_qty),
        order_type=row.type,
        status=row.status,
        book=book,
        reduce_only=_only_reduces(row),
    )


def _spot_order(row: _OrderRow) -> OpenOrder:
    return _futures_order(row, "stop" if row.type in _STOPS else "ordinary")


def _algo_order(row: _AlgoRow) -> OpenOrder:
    return OpenOrder(
        order_id=f"{ALGO}{row.algo_id}",
        symbol=readable(row.symbol),
        side=side(row.side),
        price=_decimal(row, row.price),
        quantity=_decimal(row, row.quantity),
        filled_quantity=decimal(None),
        order_type=row.order_type,
        status=row.algo_status,
        book="algo",
        reduce_only=_only_reduces(row),
    )


def _only_reduces(row: _OrderRow | _AlgoRow) -> bool:
    """Whether an order is to reduce its position, or to close it ("New Order")."""
    return is_true(row.reduce_only) or is_true(row.close_position)


def _decimal(row: _OrderRow | _AlgoRow, text: str | None) -> Decimal:
    try:
        return decimal(text)
    except ProtocolError as error:
        order_id = row.algo_id if isinstance(row, _AlgoRow) else row.order_id
        raise ProtocolError(f"{error.message}: the order {order_id} of {row.symbol}") from None


_SYMBOLS: Final = RowDecoder(_Listed, msgspec.Raw, convert=lambda row: readable(row.symbol))
_SPOT_ORDERS: Final = RowDecoder(_OrderRow, _Named, convert=_spot_order)
_FUTURES_ORDERS: Final = RowDecoder(_OrderRow, _Named, convert=_futures_order)
_ALGO_ORDERS: Final = RowDecoder(_AlgoRow, _Named, convert=_algo_order)
#: Of a row that can't be read whole, symbol and status are enough for an Ack.
_CANCELLED: Final = RowDecoder(_CancelRow, _Report)


class _Key(msgspec.Struct, rename="camel"):
    """What a key may do; what is missing is not known."""

    ip_restrict: bool | None = None
    enable_spot_and_margin_trading: bool | None = None
    enable_futures: bool | None = None
    trading_authority_expiration_time: int | None = None


_KEY: Final = msgspec.json.Decoder(_Key)
_STATE: Final = msgspec.json.Decoder(_State)
_ALGO_STATE: Final = msgspec.json.Decoder(_AlgoState)
_CLOCK: Final = msgspec.json.Decoder(_Clock)
_COUNTDOWN: Final = msgspec.json.Decoder(_Countdown, strict=False)  # its number is a string

#: An order of one of these is not cancelled ("enums.md").
_LIVE: Final = frozenset({"", "NEW", "PENDING_NEW", "PARTIALLY_FILLED"})
#: What an order's status means; one that is not here is open ("enums.md", "Order Status").
_STATES: Final[Mapping[str, OrderState]] = {
    "FILLED": "filled",
    "CANCELED": "cancelled",
    "EXPIRED": "cancelled",
    "EXPIRED_IN_MATCH": "cancelled",
    "REJECTED": "rejected",
}
#: The same for a conditional order ("Event: Algo Order Update"). ``FINISHED`` says that the order
#: it was triggered into "has been filled or canceled": which of them is not known.
_ALGO_STATES: Final[Mapping[str, OrderState | None]] = {
    "CANCELED": "cancelled",
    "EXPIRED": "cancelled",
    "REJECTED": "rejected",
    "FINISHED": None,
}
#: "Order does not exist."
_NO_SUCH_ORDER: Final = -2013

OrdersDecoder = Callable[..., list[OpenOrder] | Slices[list[OpenOrder]]]


def decode_symbols(
    reply: Reply, stamp: Stamp, *, account_category: str, sure: bool = False
) -> Listing | Slices[Listing]:
    """The symbols that have open orders; of an order nothing else is needed.

    A listing that may lack an order serves to cancel what it has, unless it is to be ``sure``.
    """
    return finish(_symbols(reply, stamp, account_category, sure=sure), reply)


def _symbols(reply: Reply, stamp: Stamp, account_category: str, *, sure: bool) -> Slices[Listing]:
    check_accepted(reply, stamp.time_ms, account_category)
    if sure:
        check_fresh(reply, stamp)
    rows = yield from _SYMBOLS.decode(reply, salvage=not sure)
    return Listing(
        symbols=tuple(dict.fromkeys(rows.whole)),
        nameless=len(rows.keys),
        problem=rows.problem,
        doubt=why_stale(reply, stamp) or ("a part of it is no JSON" if rows.broken else ""),
        raw=reply.body,
    )


def _decode_orders(
    decoder: RowDecoder[Any, _Named],
    reply: Reply,
    stamp: Stamp,
    *,
    account_category: str,
    symbol: str | None,
) -> list[OpenOrder] | Slices[list[OpenOrder]]:
    return finish(_orders(decoder, reply, stamp, account_category, symbol), reply)


decode_spot_orders: Final[OrdersDecoder] = partial(_decode_orders, _SPOT_ORDERS)
decode_futures_orders: Final[OrdersDecoder] = partial(_decode_orders, _FUTURES_ORDERS)
decode_algo_orders: Final[OrdersDecoder] = partial(_decode_orders, _ALGO_ORDERS)


def _orders(
    decoder: RowDecoder[Any, _Named],
    reply: Reply,
    stamp: Stamp,
    account_category: str,
    symbol: str | None,
) -> Slices[list[OpenOrder]]:
    check_accepted(reply, stamp.time_ms, account_category)
    check_fresh(reply, stamp)
    rows = yield from decoder.decode(reply)
    if rows.keys:
        raise ProtocolError(
            f"{len(rows.keys)} rows of the listing can't be understood, at first the order "
            f"{rows.keys[0]}: {rows.problem}"
        )
    orders: list[OpenOrder] = whole(rows)
    if symbol is not None and set(map(attrgetter("symbol"), orders)) - {symbol}:
        raise ProtocolError(f"the reply lists other symbols than {symbol!r}")
    return orders


def decode_state(
    reply: Reply, stamp: Stamp, *, account_category: str, order_id: str
) -> OrderState | None:
    """Read the state of an order of the ordinary book; ``None`` if the venue knows it no more."""
    state: _State | None = _known(_STATE, reply, stamp, account_category)
    if state is None:
        return None
    _check_about(str(state.order_id), order_id)
    return _STATES.get(state.status, "open")


def decode_algo_state(
    reply: Reply, stamp: Stamp, *, account_category: str, order_id: str
) -> OrderState | None:
    """Read the state of a conditional order; ``None`` if that is not known, or not any more."""
    state: _AlgoState | None = _known(_ALGO_STATE, reply, stamp, account_category)
    if state is None:
        return None
    _check_about(f"{ALGO}{state.algo_id}", order_id)
    return _ALGO_STATES.get(state.algo_status, "open")


def _known(
    decoder: "msgspec.json.Decoder[Any]", reply: Reply, stamp: Stamp, account_category: str
) -> Any:
    """The reply about an order, decoded; ``None`` where there is no such order."""
    try:
        return _value(decoder, reply, stamp.time_ms, account_category)
    except VenueError as error:
        if error.code == _NO_SUCH_ORDER and error.http_status in (OK, 400):
            return None
        raise


def _check_about(named: str, order_id: str) -> None:
    if named != order_id:
        raise ProtocolError(f"the reply is about the order {named}, not {order_id:.40}")


def decode_cancelled(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str
) -> Answer | Slices[Answer]:
    """Spot's answer to a cancel: what it cancelled, each of the symbol and none of it live."""
    return finish(_cancelled(reply, stamp.time_ms, account_category, symbol), reply)


def _cancelled(reply: Reply, now_ms: int, account_category: str, symbol: str) -> Slices[Answer]:
    try:
        check_accepted(reply, now_ms, account_category)
    except VenueError as error:
        if is_nothing_open(error):
            return Answer(raw=reply.body, status=NOTHING_OPEN, cancelled=())
        raise
    rows = yield from _CANCELLED.decode(reply)
    ids: list[str | None] = []
    for some in batches([*rows.whole, *rows.keys], _TOGETHER):
        reports = [report for row in some for report in row.reports()]
        if {named.symbol for named in (*some, *reports)} - {symbol}:
            raise ProtocolError(f"the reply is about other symbols than {symbol!r}")
        if not _LIVE.isdisjoint(readable(report.status) for report in reports):
            raise ProtocolError("the reply is no answer to a cancel: it has orders that are live")
        ids += [each.told_id for each in reports if _STATES.get(each.status) == "cancelled"]
        yield
    told = tuple(order_id for order_id in ids if order_id is not None)
    tells = len(told) == len(ids) and not rows.keys
    status = "CANCELED" if rows.whole or rows.keys else NOTHING_OPEN
    return Answer(raw=reply.body, status=status, cancelled=told if tells else None)


def decode_done(
    reply: Reply,
    stamp: Stamp,
    *,
    account_category: str,
    symbol: str,  # noqa: ARG001  # the answer names none
) -> Answer:
    """Futures' answer to a cancel: that it is done, and not a word of what."""
    try:
        code = check_accepted(reply, stamp.time_ms, account_category).code
    except VenueError as error:
        if is_nothing_open(error):
            return Answer(raw=reply.body, status=NOTHING_OPEN)
        raise
    if code != OK:  # a code of its own, which is the same number
        raise ProtocolError(f"the reply is no answer to a cancel: it has the code {code}")
    return Answer(raw=reply.body, status="done")


def decode_countdown(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str, timeout_ms: int
) -> int | None:
    """Read when the switch fires at the earliest, ms since the epoch; ``None`` if disarmed."""
    armed: _Countdown = _value(_COUNTDOWN, reply, stamp.time_ms, account_category)
    if (armed.symbol, armed.countdown_time) != (symbol, timeout_ms):
        raise ProtocolError(
            f"the reply sets {armed.countdown_time} ms for {armed.symbol!r}, "
            f"not {timeout_ms} ms for {symbol!r}"
        )
    return stamp.time_ms + timeout_ms if timeout_ms else None


def decode_key(
    reply: Reply, stamp: Stamp, *, account_category: str, categories: tuple[str, ...]
) -> KeyInfo:
    """Read what a key may do. Testnets have no such path: nothing is known there."""
    if reply.status == _NO_PATH:
        return KeyInfo(cancels=dict.fromkeys(categories, "unknown"))
    key: _Key = _value(_KEY, reply, stamp.time_ms, account_category)
    may = {"spot": key.enable_spot_and_margin_trading, "usdm": key.enable_futures}
    words: Mapping[bool | None, Permission] = {True: "yes", False: "no", None: "unknown"}
    return KeyInfo(
        cancels={category: words[may[category]] for category in categories},
        addresses=() if key.ip_restrict is False else None,
        expires_at_ms=key.trading_authority_expiration_time,
    )


def decode_clock(reply: Reply) -> int:
    """The server's clock, ms since the epoch; spot and futures say it alike."""
    clock: _Clock = _value(_CLOCK, reply, 0, "spot")
    return clock.server_time


def _value(
    decoder: "msgspec.json.Decoder[Any]", reply: Reply, now_ms: int, account_category: str
) -> Any:
    """A reply that is one value, if the venue did not refuse."""
    check_accepted(reply, now_ms, account_category)
    return decode_json(decoder, reply, reply.body)
