"""What Binance's replies look like, and what they mean."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from masscancel.errors import ProtocolError, VenueError
from masscancel.models import OpenOrder, OrderState
from masscancel.venue import Reply, Stamp, decimal, decode_json
from masscancel.venues.binance.refusals import Sentence, is_nothing_open, refusal, sentence

__all__ = [
    "ALGO",
    "NOTHING_OPEN",
    "Answer",
    "Listing",
    "decode_algo_orders",
    "decode_algo_state",
    "decode_cancelled",
    "decode_clock",
    "decode_countdown",
    "decode_done",
    "decode_orders",
    "decode_state",
]

#: What the ids of conditional orders begin with here: theirs and those of orders are counted apart.
ALGO: Final = "algo:"
#: The Ack's status where there was nothing to cancel.
NOTHING_OPEN: Final = "nothing open"


class Listing(msgspec.Struct, frozen=True):
    """The open orders of one book, and the bytes that said so."""

    orders: list[OpenOrder]
    raw: bytes


class Answer(msgspec.Struct, frozen=True):
    """What one cancel was answered: the venue's word for it, and the bytes."""

    status: str
    raw: bytes


class _OrderRow(msgspec.Struct, rename="camel"):
    """An order of the ordinary book; on spot, stop orders too."""

    order_id: int
    symbol: str
    side: Literal["BUY", "SELL"]
    orig_qty: str
    price: str | None = None
    executed_qty: str | None = None
    type: str = ""
    status: str = ""

    def order(self) -> OpenOrder:
        return OpenOrder(
            order_id=str(self.order_id),
            symbol=self.symbol,
            side="buy" if self.side == "BUY" else "sell",
            price=decimal(self.price),
            quantity=decimal(self.orig_qty),
            filled_quantity=decimal(self.executed_qty),
            order_type=self.type,
            status=self.status,
        )


class _AlgoRow(msgspec.Struct, rename="camel"):
    """A conditional order of futures. One that closes the position has no quantity."""

    algo_id: int
    symbol: str
    side: Literal["BUY", "SELL"]
    quantity: str | None = None
    price: str | None = None
    order_type: str = ""
    algo_status: str = ""

    def order(self) -> OpenOrder:
        return OpenOrder(
            order_id=f"{ALGO}{self.algo_id}",
            symbol=self.symbol,
            side="buy" if self.side == "BUY" else "sell",
            price=decimal(self.price),
            quantity=decimal(self.quantity),
            filled_quantity=decimal(None),
            order_type=self.order_type,
            status=self.algo_status,
        )


class _State(msgspec.Struct, rename="camel"):
    """What has become of an order of the ordinary book."""

    order_id: int
    status: str


class _AlgoState(msgspec.Struct, rename="camel"):
    """What has become of a conditional order."""

    algo_id: int
    algo_status: str


class _CancelReport(msgspec.Struct):
    """An order that spot cancelled."""

    symbol: str
    status: str = ""


class _CancelRow(msgspec.Struct, rename="camel"):
    """The same, or an order list with a report for each of its orders."""

    symbol: str
    status: str = ""
    order_reports: list[_CancelReport] = []

    def reports(self) -> list[_CancelReport]:
        if self.order_reports and not self.status:
            return self.order_reports
        return [_CancelReport(self.symbol, self.status), *self.order_reports]


class _Clock(msgspec.Struct, rename="camel"):
    server_time: int


class _Countdown(msgspec.Struct, rename="camel"):
    symbol: str
    countdown_time: int


_ORDERS: Final = msgspec.json.Decoder(list[_OrderRow])
_ALGO_ORDERS: Final = msgspec.json.Decoder(list[_AlgoRow])
_STATE: Final = msgspec.json.Decoder(_State)
_ALGO_STATE: Final = msgspec.json.Decoder(_AlgoState)
_CANCELLED: Final = msgspec.json.Decoder(list[_CancelRow])
_DONE: Final = msgspec.json.Decoder(Sentence, strict=False)  # the code has been seen as a string
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
#: What futures' own answer to a cancel has for a code, beside the HTTP status.
_OK: Final = 200


def decode_orders(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str | None
) -> Listing:
    """The open orders of the ordinary book.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing of this scope.
    """
    return _listing(_ORDERS, reply, stamp, account_category, symbol)


def decode_algo_orders(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str | None
) -> Listing:
    """The open orders of the conditional book.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing of this scope.
    """
    return _listing(_ALGO_ORDERS, reply, stamp, account_category, symbol)


def _listing(
    decoder: "msgspec.json.Decoder[Any]",
    reply: Reply,
    stamp: Stamp,
    account_category: str,
    symbol: str | None,
) -> Listing:
    rows: list[_OrderRow | _AlgoRow] = _success(decoder, reply, stamp.time_ms, account_category)
    if symbol is not None and any(row.symbol != symbol for row in rows):
        raise ProtocolError(f"the reply lists other symbols than {symbol!r}")
    if not all(row.symbol for row in rows):
        raise ProtocolError("the reply lists an order without a symbol")
    return Listing([row.order() for row in rows], reply.body)


def decode_state(
    reply: Reply, stamp: Stamp, *, account_category: str, order_id: str
) -> OrderState | None:
    """What has become of an order of the ordinary book; ``None`` if the venue knows it no more.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is not about this order.
    """
    state: _State | None = _known(_STATE, reply, stamp, account_category)
    if state is None:
        return None
    _check_about(str(state.order_id), order_id)
    return _STATES.get(state.status, "open")


def decode_algo_state(
    reply: Reply, stamp: Stamp, *, account_category: str, order_id: str
) -> OrderState | None:
    """What has become of a conditional order; ``None`` if that is not known, or not any more.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is not about this order.
    """
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
        return _success(decoder, reply, stamp.time_ms, account_category)
    except VenueError as error:
        if error.code == _NO_SUCH_ORDER and error.http_status in (200, 400):
            return None
        raise


def _check_about(named: str, order_id: str) -> None:
    if named != order_id:
        raise ProtocolError(f"the reply is about the order {named}, not {order_id:.40}")


def decode_cancelled(reply: Reply, stamp: Stamp, *, account_category: str, symbol: str) -> Answer:
    """Spot's answer to a cancel: what it cancelled, each of the symbol and none of it live.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer to this cancel.
    """
    try:
        rows: list[_CancelRow] = _success(_CANCELLED, reply, stamp.time_ms, account_category)
    except VenueError as error:
        if is_nothing_open(error):
            return Answer(NOTHING_OPEN, reply.body)
        raise
    reports = [report for row in rows for report in row.reports()]
    if ({row.symbol for row in rows} | {report.symbol for report in reports}) - {symbol}:
        raise ProtocolError(f"the reply is about other symbols than {symbol!r}")
    if any(report.status in _LIVE for report in reports):
        raise ProtocolError("the reply is no answer to a cancel: it has orders that are live")
    return Answer("CANCELED" if rows else NOTHING_OPEN, reply.body)


def decode_done(
    reply: Reply,
    stamp: Stamp,
    *,
    account_category: str,
    symbol: str,  # noqa: ARG001  # the answer names none
) -> Answer:
    """Futures' answer to a cancel: that it is done, and not a word of what.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer to a cancel.
    """
    try:
        said: Sentence = _success(_DONE, reply, stamp.time_ms, account_category)
    except VenueError as error:
        if is_nothing_open(error):
            return Answer(NOTHING_OPEN, reply.body)
        raise
    if said.code != _OK:
        raise ProtocolError(f"the reply is no answer to a cancel: it has the code {said.code}")
    return Answer("done", reply.body)


def decode_countdown(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str, timeout_ms: int
) -> int | None:
    """When the switch will fire at the earliest, ms since the epoch; ``None`` if disarmed.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer to this request.
    """
    armed: _Countdown = _success(_COUNTDOWN, reply, stamp.time_ms, account_category)
    if (armed.symbol, armed.countdown_time) != (symbol, timeout_ms):
        raise ProtocolError(
            f"the reply sets {armed.countdown_time} ms for {armed.symbol!r}, "
            f"not {timeout_ms} ms for {symbol!r}"
        )
    return stamp.time_ms + timeout_ms if timeout_ms else None


def decode_clock(reply: Reply) -> int:
    """The server's clock, ms since the epoch; spot and futures say it alike.

    Raises:
        VenueError: the venue refused.
        ProtocolError: there is no clock in it.
    """
    clock: _Clock = _success(_CLOCK, reply, 0, "spot")
    return clock.server_time


def _success(
    decoder: "msgspec.json.Decoder[Any]", reply: Reply, now_ms: int, account_category: str
) -> Any:
    """The reply, decoded, if the venue did not refuse.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is not what was expected.
    """
    said = sentence(reply)
    if reply.status == 200 and (said is None or said.code >= 0):  # noqa: PLR2004  # HTTP's own
        return decode_json(decoder, reply)
    raise refusal(reply, said, now_ms, account_category)
