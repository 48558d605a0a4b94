"""The shapes of Gate's replies, and their meanings.

Each ``decode_...`` raises :class:`~masscancel.VenueError` where the venue refused, and
:class:`~masscancel.ProtocolError` where the reply is no answer to what was asked.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from masscancel import errors
from masscancel.calls import Reply, Slices, Stamp
from masscancel.models import OpenOrder, OrderState, Permission
from masscancel.venues import toolkit
from masscancel.venues.gate.refusals import (
    FOREIGN_ADDRESS,
    GONE,
    check_accepted,
    is_absent,
    is_nothing_open,
    kind_of,
)
from masscancel.venues.toolkit import OK, Answer, Page, RowDecoder

#: Rows of a page: the default, and the most that listings of spot and of chasing orders take.
PAGE: Final = 100
#: RFC 9110 section 15.5.5.
_NOT_FOUND: Final = 404
#: So many rows of an answer are looked at in a piece.
_TOGETHER: Final = 2_000

#: What ``finish_as``, or else ``status``, says of an order that has ended; ``None``: not how. A
#: trigger that has fired has become another order.
_ENDS: Final[Mapping[str, OrderState | None]] = {
    "filled": "filled",
    "closed": "filled",
    "failed": "rejected",
    "finish": None,
    "finished": None,
    "succeeded": None,
    "unknown": None,
    "COMPLETED": None,
    "EXPIRED": "cancelled",
    "TERMINATED": "cancelled",
    "cancelled": "cancelled",
    "expired": "cancelled",
    "invalid": "cancelled",
    "ioc": "cancelled",
    "poc": "cancelled",
    "fok": "cancelled",
    "stp": "cancelled",
    "small": "cancelled",
    "liquidated": "cancelled",
    "auto_deleveraged": "cancelled",
    "reduce_only": "cancelled",
    "position_closed": "cancelled",
    "reduce_out": "cancelled",
    "mmp_cancelled": "cancelled",
    "liquidate_cancelled": "cancelled",
    "depth_not_enough": "cancelled",
    "trader_not_enough": "cancelled",
    "price_protect_cancelled": "cancelled",
}

_Id = int | str
_Number = str | int | float | None


class _Spot(msgspec.Struct, gc=False):
    """An order of spot. A market buy's amount is in quote currency."""

    id: _Id
    currency_pair: str
    side: str
    amount: _Number
    left: _Number = None
    filled_amount: _Number = None
    price: _Number = None
    type: str | None = None
    status: str | None = None

    def convert(self) -> OpenOrder | None:
        amount, filled = self.amount, toolkit.decimal(self.filled_amount)
        if self.filled_amount is None and self.left is not None:
            filled = toolkit.decimal(amount) - toolkit.decimal(self.left)
        more = {"filled_quantity": filled, "order_type": self.type or ""}
        side = toolkit.side(self.side)
        return _order(self, "ordinary", self.currency_pair, side, amount, self.price, **more)


class _Pair(msgspec.Struct):
    """The orders of one pair; ``total`` is of the pair or of the page, the document says both."""

    orders: list[_Spot]
    total: int = 0

    def convert(self) -> tuple[int, list[OpenOrder | None]]:
        return self.total, [order.convert() for order in self.orders]


class _Contract(msgspec.Struct, gc=False):
    """An order of futures or options: positive sizes buy, 0 closes the position."""

    id: _Id
    contract: str
    size: _Number
    left: _Number = None
    price: _Number = None
    status: str | None = None
    is_reduce_only: Any = None
    is_close: Any = None

    def convert(self) -> OpenOrder | None:
        left = self.size if self.left is None else self.left
        filled = abs(toolkit.decimal(self.size)) - abs(toolkit.decimal(left))
        kind = "limit" if toolkit.decimal(self.price) else "market"
        more = {"filled_quantity": filled, "order_type": kind}
        return _order(self, "ordinary", self.contract, "", self.size, self.price, **more)


class _Put(msgspec.Struct):
    side: str
    amount: _Number
    price: _Number = None
    type: str | None = None


class _SpotTrigger(msgspec.Struct):
    """A price-triggered order of spot. The documents' sample has the status ``""``."""

    id: _Id
    market: str
    put: _Put
    status: str | None = None

    def convert(self) -> OpenOrder | None:
        put, side = self.put, toolkit.side(self.put.side)
        more = {"order_type": put.type or ""}
        return _order(self, "stop", self.market, side, put.amount, put.price, **more)


class _Pov(msgspec.Struct):
    """An order that takes a share of the volume (POV), for hours or days."""

    id: _Id
    currency_pair: str
    side: str
    amount: _Number
    limit_price: _Number = None
    status: str | None = None

    def convert(self) -> OpenOrder | None:
        side = toolkit.side(self.side)
        return _order(
            self, "pov", self.currency_pair, side, self.amount, self.limit_price, order_type="pov"
        )


class _Initial(msgspec.Struct):
    contract: str
    size: _Number = None
    amount: _Number = None
    price: _Number = None
    is_reduce_only: Any = None
    is_close: Any = None
    reduce_only: Any = None
    close: Any = None


class _Trigger(msgspec.Struct):
    """A price-triggered order of futures; of ``size`` and ``amount``, the latter counts."""

    id: _Id
    initial: _Initial
    status: str | None = None
    order_type: str | None = None

    def convert(self) -> OpenOrder | None:
        initial, kind = self.initial, self.order_type or ""
        size = initial.size if initial.amount in (None, "") else initial.amount
        closes = kind.startswith(("close-", "plan-close-"))
        side = ("sell" if "-long-" in kind else "buy") if closes else ""
        return _order(self, "stop", initial.contract, side, size, initial.price, order_type=kind)


class _Auto(msgspec.Struct):
    """A trailing or a chasing order."""

    id: _Id
    contract: str
    amount: _Number
    fill_amount: _Number = None
    activation_price: _Number = None
    price_limit: _Number = None
    status: str | None = None
    reduce_only: Any = None
    is_reduce_only: Any = None


def _auto(book: str, row: _Auto) -> OpenOrder | None:
    price = row.activation_price if row.price_limit is None else row.price_limit
    filled = abs(toolkit.decimal(row.fill_amount))
    more = {"filled_quantity": filled, "order_type": book}
    return _order(row, book, row.contract, "", row.amount, price, **more)


def _order(
    row: Any, book: str, symbol: str, side: str, size: _Number, price: _Number, **more: Any
) -> OpenOrder | None:
    """The order of a row, unless the row says that it has ended.

    Raises:
        ProtocolError: a number in it is none.
    """
    quantity = toolkit.decimal(size)
    if not side:
        side = "unknown" if not quantity else "buy" if quantity > 0 else "sell"
    if row.status in _ENDS:
        return None
    return OpenOrder(
        reduce_only=_only_reduces(getattr(row, "initial", row)),
        order_id=f"{_PREFIXES[book]}{row.id}",
        symbol=symbol,
        side=side,  # type: ignore[arg-type]  # one of three
        price=toolkit.decimal(price),
        quantity=abs(quantity),
        filled_quantity=more.pop("filled_quantity", toolkit.decimal(None)),
        status=row.status or "open",
        book=book,
        **more,
    )


def _only_reduces(row: Any) -> bool:
    """Whether an order says that it reduces or closes its position; books spell that apart."""
    names = ("is_reduce_only", "reduce_only", "is_close", "close")
    return any(toolkit.is_true(getattr(row, name, None)) for name in names)


#: The books count their ids apart.
_PREFIXES: Final = {
    "ordinary": "",
    "stop": "stop:",
    "trail": "trail:",
    "chase": "chase:",
    "pov": "pov:",
}


class _End(msgspec.Struct):
    """The end of an order, in the answer to a cancel, or asked for by its id."""

    id: _Id | None = None
    succeeded: bool | None = None
    label: str | None = None
    message: str | None = None
    error_label: str | None = None
    status: str | None = None
    finish_as: str | None = None
    reason: str | None = None
    currency_pair: str | None = None
    contract: str | None = None
    market: str | None = None
    initial: _Initial | None = None

    @property
    def symbol(self) -> str | None:
        named = self.contract or self.market or self.currency_pair
        return self.initial.contract if self.initial is not None else named

    @property
    def state(self) -> OrderState | None:
        """How it has ended, ``None`` if it does not say; or ``"open"``."""
        if self.finish_as and self.finish_as != "open":
            return _ENDS.get(self.finish_as)
        if self.status == "finished" and "cancel" in (self.reason or "").lower():
            return "cancelled"
        return _ENDS.get(self.status, "open") if self.status else "open"


class _Clock(msgspec.Struct):
    server_time: int


class _Countdown(msgspec.Struct, rename="camel"):
    trigger_time: int


class _Mode(msgspec.Struct):
    mode: str


class _Detail(msgspec.Struct):
    """What names a key among others: whose it is, and what it is bound to."""

    user_id: int
    ip_whitelist: tuple[str, ...] = ()
    currency_pairs: list[str] = []


class _Permitted(msgspec.Struct):
    name: str
    read_only: bool


class _Key(_Detail, kw_only=True):
    perms: list[_Permitted] = []


_CLOCK: Final = msgspec.json.Decoder(_Clock)
_COUNTDOWN: Final = msgspec.json.Decoder(_Countdown, strict=False)  # a string in the sample
_MODE: Final = msgspec.json.Decoder(_Mode)
_DETAIL: Final = msgspec.json.Decoder(_Detail)
_KEYS: Final = msgspec.json.Decoder(list[_Key])
_END: Final = msgspec.json.Decoder(_End)
_ENDED: Final = RowDecoder(_End, msgspec.Raw)

PAIRS: Final = RowDecoder(_Pair, msgspec.Raw, convert=_Pair.convert)
SPOT: Final = RowDecoder(_Spot, msgspec.Raw, convert=_Spot.convert)
SPOT_TRIGGERS: Final = RowDecoder(_SpotTrigger, msgspec.Raw, convert=_SpotTrigger.convert)
POVS: Final = RowDecoder(_Pov, msgspec.Raw, convert=_Pov.convert)
CONTRACTS: Final = RowDecoder(_Contract, msgspec.Raw, convert=_Contract.convert)
TRIGGERS: Final = RowDecoder(_Trigger, msgspec.Raw, convert=_Trigger.convert)
TRAILS: Final = RowDecoder(_Auto, msgspec.Raw, convert=partial(_auto, "trail"))
CHASES: Final = RowDecoder(_Auto, msgspec.Raw, convert=partial(_auto, "chase"))


def _rows_of(reply: Reply, now_ms: int, *, wrapped: bool) -> msgspec.Raw | bytes:
    """The rows that a reply is, or that its object has; an empty list may be ``null`` there."""
    envelope = check_accepted(reply, now_ms)
    if not wrapped:
        return reply.body
    orders = envelope.orders if envelope.data is None else envelope.data.orders
    if not bytes(orders):
        raise errors.ProtocolError("the reply can't be understood: it has no orders")
    return b"[]" if bytes(orders) == b"null" else orders


def read_page(
    reply: Reply,
    stamp: Stamp,
    *,
    rows: RowDecoder[Any, Any],
    before: int,
    symbol: str | None,
    wrapped: bool,
    absent: str,
) -> Slices[Page[OpenOrder]]:
    """Read a page of a listing, before which there are so many rows (of each pair).

    "Increment ... until the records' length is shorter than the limit"; where a total says that
    there are more, the page is cut, and the listing no proof.
    """
    try:
        text = _rows_of(reply, stamp.time_ms, wrapped=wrapped)
    except errors.VenueError as error:
        if is_absent(error, absent):
            return Page([], raw=reply.body)
        raise
    toolkit.check_fresh(reply, stamp)
    groups = toolkit.whole((yield from rows.decode(reply, text)))
    if rows is not PAIRS:
        total = reply.headers.get("X-Pagination-Total", "").strip()
        groups = [(int(total[:9]) if total.isascii() and total.isdigit() else 0, groups)]
    counts = [(total, len(orders)) for total, orders in groups]
    if any(count < PAGE and total > before + count for total, count in counts):
        raise errors.ProtocolError("the listing is cut: it has fewer orders than it says")
    orders = [order for _, some in groups for order in some if order is not None]
    if symbol is not None and {order.symbol for order in orders} - {symbol}:
        raise errors.ProtocolError(f"the reply lists other symbols than {symbol!r}")
    more = any(count >= PAGE for _, count in counts)
    return Page(orders, str(before + PAGE) if more else "", reply.body)


def read_answer(
    reply: Reply, stamp: Stamp, *, book: str, symbol: str | None, wrapped: bool, absent: str
) -> Slices[Answer]:
    """Read what became of the orders of a cancel: "success is determined by the order list"."""
    try:
        text = _rows_of(reply, stamp.time_ms, wrapped=wrapped)
    except errors.VenueError as error:
        if is_nothing_open(error) or is_absent(error, absent):
            return Answer(raw=reply.body, status=toolkit.NOTHING_OPEN, cancelled=())
        raise
    rows = yield from _ENDED.decode(reply, text)
    if rows.problem:
        raise errors.ProtocolError(f"the reply is no answer to a cancel: {rows.problem}")
    cancelled: list[str] = []
    failed: dict[str, errors.MassCancelError] = {}
    tells = True
    for some in toolkit.batches(rows.whole, _TOGETHER):
        if symbol is not None and {row.symbol for row in some} - {symbol, None}:
            raise errors.ProtocolError(f"the reply is about other symbols than {symbol!r}")
        for row in some:
            name = "an order without an id" if row.id is None else f"{_PREFIXES[book]}{row.id}"
            fate = _fate(row, wrapped=wrapped)
            if isinstance(fate, errors.VenueError):
                failed[name] = fate
            elif fate == "cancelled" and row.id is not None:
                cancelled.append(name)
            tells = tells and fate is not None and row.id is not None
        yield
    status = "cancelled" if rows.whole else toolkit.NOTHING_OPEN
    told = tuple(cancelled) if tells else None
    return Answer(raw=reply.body, status=status, cancelled=told, failed=failed)


def _fate(row: _End, *, wrapped: bool) -> str | errors.VenueError | None:
    """What a row says: ``"cancelled"``, ``"gone"``, an error; ``None`` where it does not tell.

    A trailing order stands as ``open`` in the very sample of "Termination successful"; it, what has
    no status at all, and what is being cancelled is neither cancelled nor a failure.
    """
    label = row.label or row.error_label or ""
    if label in GONE:
        return "gone"
    if row.succeeded is False or label:
        kind = kind_of(label) or errors.VenueError
        return kind(label or None, "", row.message or row.reason or "not cancelled", OK)
    state = row.state
    if state != "open":
        return "cancelled" if state == "cancelled" else "gone"
    if row.succeeded:
        return None if row.status else "cancelled"
    if wrapped or row.status in (None, "", "CANCELING"):
        return None
    return errors.VenueError(None, "", f"the answer shows the order as {row.status:.20}", OK)


def decode_state(reply: Reply, stamp: Stamp, *, order_id: str) -> OrderState | None:
    """Read what has become of an order; ``None`` if the venue knows it no more, or not how."""
    try:
        envelope = check_accepted(reply, stamp.time_ms)
    except errors.VenueError as error:
        if is_nothing_open(error):
            return None
        raise
    order = bytes(envelope.order if envelope.data is None else envelope.data.order)
    end = toolkit.decode_json(_END, reply, order or reply.body)
    if str(end.id) != order_id:
        raise errors.ProtocolError(f"the reply is about the order {end.id!s:.40}, not {order_id}")
    return end.state


def decode_switch(reply: Reply, stamp: Stamp, *, timeout_ms: int) -> int | None:
    """Read when the switch fires, ms since the epoch; ``None`` if it won't."""
    check_accepted(reply, stamp.time_ms)
    at = toolkit.decode_json(_COUNTDOWN, reply, reply.body).trigger_time
    in_ms = at - stamp.time_ms
    off_ms = stamp.skew_ms + _LEAST_SWITCH_MS - 1
    if timeout_ms and not abs(in_ms - timeout_ms) <= off_ms + _LATE_MS:
        raise errors.ProtocolError(f"the reply sets the switch to {in_ms} ms, not {timeout_ms} ms")
    if not timeout_ms and in_ms > off_ms:
        raise errors.ProtocolError("the switch was to be off, and the reply says that it is armed")
    return at if timeout_ms else None


#: The least that a switch is set to, and how long its request may have been on its way, in ms.
_LEAST_SWITCH_MS: Final = 5_000
_LATE_MS: Final = 60_000


def decode_clock(reply: Reply) -> int:
    """``server_time``, ms since the epoch."""
    check_accepted(reply, 0)
    return toolkit.decode_json(_CLOCK, reply, reply.body).server_time


def decode_mode(reply: Reply, stamp: Stamp) -> bool | None:
    """Read whether the account is unified; ``None`` for a mode that is not documented, or none."""
    if reply.status == _NOT_FOUND:
        return None
    check_accepted(reply, stamp.time_ms)
    mode = toolkit.decode_json(_MODE, reply, reply.body).mode
    known = {"multi_currency": True, "portfolio": True, "single_currency": True, "classic": False}
    return known.get(mode)


def decode_offered(reply: Reply, stamp: Stamp) -> bool:
    """Read whether there is such an endpoint here: 404 says that there is none, whoever says it."""
    if reply.status == _NOT_FOUND:
        return False
    check_accepted(reply, stamp.time_ms)
    return True


def decode_detail(reply: Reply, stamp: Stamp) -> _Detail:
    """Read what names the key that asks."""
    check_accepted(reply, stamp.time_ms)
    return toolkit.decode_json(_DETAIL, reply, reply.body)


def decode_keys(reply: Reply, stamp: Stamp) -> Sequence[_Key]:
    """Read what the keys of the account may do."""
    check_accepted(reply, stamp.time_ms)
    return toolkit.decode_json(_KEYS, reply, reply.body)


def permission(detail: _Detail, keys: Sequence[_Key], needed: str) -> Permission:
    """Judge what the key may do: certain where all that can be it may do the same."""
    same = [
        key
        for key in keys
        if key.user_id == detail.user_id
        and set(key.ip_whitelist) == set(detail.ip_whitelist)
        and set(key.currency_pairs) == set(detail.currency_pairs)
    ]
    may = {any(each.name == needed and not each.read_only for each in key.perms) for key in same}
    if len(may) != 1:
        return "unknown"
    return "yes" if may.pop() else "no"


class _Tried(msgspec.Struct):
    """What became of the one order of a batch; futures say it in the message."""

    succeeded: bool
    label: str = ""
    message: str = ""


_TRIED: Final = msgspec.json.Decoder(tuple[_Tried, ...])


def _check_tried(reply: Reply, stamp: Stamp) -> None:
    check_accepted(reply, stamp.time_ms)
    for order in toolkit.decode_json(_TRIED, reply, reply.body):
        label = order.label or order.message
        if not order.succeeded:
            raise (kind_of(label) or errors.VenueError)(label, "", order.message)


#: Reads what became of the cancel of an order that can't exist.
decode_tried: Final = toolkit.told_by_refusal(
    _check_tried,
    unknown_order=lambda error: error.code == "ORDER_NOT_FOUND",
    foreign_address=FOREIGN_ADDRESS,
)
