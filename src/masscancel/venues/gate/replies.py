"""The shapes of Gate's replies, and their meanings: rows, refusals ("Error Handling"), the rest.

Each ``decode_...`` raises :class:`~masscancel.VenueError` where the venue refused, and
:class:`~masscancel.ProtocolError` where the reply is no answer to what was asked.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec

from masscancel import errors
from masscancel.calls import Reply, Slices, Stamp
from masscancel.models import OpenOrder, OrderState, Permission
from masscancel.venues import toolkit
from masscancel.venues.toolkit import NOTHING_OPEN, OK, Answer, Page, RowDecoder

#: Rows of a page: the default, and the most that listings of spot and of chasing orders take.
PAGE: Final = 100
#: So many rows of an answer are looked at in a piece.
_TOGETHER: Final = 2_000

# Refusals.

#: "label list", and ccxt's ``AUTHENTICATION_FAILED`` and ``CLIENT_ID_NOT_FOUND``. What is missing
#: here is a plain ``VenueError``, or what its HTTP status says.
_KINDS: Final = toolkit.kinds_of(
    (errors.AuthenticationError, ("INVALID_KEY", "INVALID_SIGNATURE", "INVALID_CREDENTIALS")),
    (errors.AuthenticationError, ("AUTHENTICATION_FAILED", "MISSING_REQUIRED_HEADER")),
    (errors.PermissionDenied, ("IP_FORBIDDEN", "READ_ONLY", "FORBIDDEN", "ACCOUNT_LOCKED")),
    (errors.PermissionDenied, ("SUB_ACCOUNT_LOCKED", "ACCOUNT_EXCEPTION", "USER_NOT_FOUND")),
    (errors.StampRefused, ("REQUEST_EXPIRED",)),
    (errors.RateLimited, ("TOO_MANY_REQUESTS", "TOO_FAST")),
    (errors.InvalidRequest, ("INVALID_PARAM_VALUE", "INVALID_PROTOCOL", "INVALID_ARGUMENT")),
    (errors.InvalidRequest, ("INVALID_REQUEST_BODY", "MISSING_REQUIRED_PARAM", "BAD_REQUEST")),
    (errors.InvalidRequest, ("INVALID_CONTENT_TYPE", "NOT_ACCEPTABLE", "METHOD_NOT_ALLOWED")),
    (errors.InvalidRequest, ("NOT_FOUND", "INVALID_CURRENCY", "INVALID_CURRENCY_PAIR")),
    (errors.InvalidRequest, ("CONTRACT_NOT_FOUND", "ORDER_NOT_OWNED", "MARGIN_NOT_SUPPORTED")),
    (errors.VenueUnavailable, ("INTERNAL", "SERVER_ERROR", "INTERNAL_SERVER_ERROR")),
    (errors.VenueUnavailable, ("TOO_BUSY", "SERVER_TIMEOUT")),
)
#: "Request IP not in whitelist".
FOREIGN_ADDRESS: Final = frozenset[int | str]({"IP_FORBIDDEN"})
#: What there is nothing left to cancel of.
_GONE: Final = frozenset(
    {"ORDER_NOT_FOUND", "ORDER_CLOSED", "ORDER_CANCELLED", "ORDER_FINISHED", "CLIENT_ID_NOT_FOUND"}
)
#: "User has no futures account": so there is no order either. Each settle coin has its own.
NO_ACCOUNT: Final = "USER_NOT_FOUND"
#: No window of a limit is longer than this, in seconds.
_LONGEST_RESET: Final = 10.0
#: Times of more digits are in ms, others in seconds.
_SECONDS: Final = 10**11


class _Data(msgspec.Struct):
    orders: msgspec.Raw = msgspec.Raw()
    order: msgspec.Raw = msgspec.Raw()


class _Envelope(_Data):
    """An object: a refusal, if it has a label; some endpoints for trailing orders have a code."""

    label: str = ""
    message: Any = None
    detail: Any = None
    code: int | str = 0
    data: _Data | None = None


class _Fault(_Envelope, kw_only=True):
    """The same beside another HTTP status than 200: what has no label there is not Gate's."""

    label: str


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_FAULT: Final = msgspec.json.Decoder(_Fault)


def _accepted(reply: Reply, now_ms: int) -> _Data:
    """The object that a reply is, or that it has; empty for rows; if the venue did not refuse."""
    if reply.status == OK and reply.body[:64].lstrip().startswith(b"["):
        return _Data()
    decoder: msgspec.json.Decoder[Any] = _ENVELOPE if reply.status == OK else _FAULT
    refused = partial(_refusal, reply, now_ms)
    envelope: _Envelope = toolkit.open_envelope(decoder, reply, now_ms, refused)
    return envelope if envelope.data is None else envelope.data


def _refusal(reply: Reply, now_ms: int, envelope: _Envelope) -> toolkit.Refusal | None:
    if reply.status == OK and not envelope.label and envelope.code in (0, "0", ""):
        return None
    label, message = envelope.label, envelope.message or envelope.detail
    kind = _kind_of(label)
    return toolkit.Refusal(
        kind=kind,
        code=label or envelope.code,
        message=message if isinstance(message, str) else "",
        retry_after=_reset_after(reply, now_ms) if kind is errors.RateLimited else None,
        of_key=kind is errors.RateLimited,  # "counted against each sub-account"
        may_have_executed=True if label == "CANCEL_FAIL" else None,  # it does not say of which
    )


def _kind_of(label: str) -> type[errors.VenueError] | None:
    """The error that a label means; ``None`` if it is not documented."""
    return errors.StampRefused if "EXPIRED" in label.upper() else _KINDS.get(label)


def _reset_after(reply: Reply, now_ms: int) -> float | None:
    """How long until the limit resets, in seconds, unless ``Retry-After`` says it, too."""
    until = toolkit.header_number(reply, "X-Gate-RateLimit-Reset-Timestamp")
    if until is None or toolkit.retry_after(reply, now_ms) is not None:
        return None
    until_ms = until if until > _SECONDS else until * 1000
    return toolkit.wait_until(until_ms, now_ms, _LONGEST_RESET)


def _is_nothing_open(error: errors.VenueError, absent: str) -> bool:
    """Whether there was nothing to cancel, or there is no such book, as its label says."""
    if error.code in _GONE:
        return (error.http_status or 0) < 500  # noqa: PLR2004  # RFC 9110, 15.6
    return bool(absent) and error.code == absent and error.http_status in (400, 401, 403, 404)


# Rows. No two kinds of orders mean different things by a name.

_Number = str | int | float | None

#: What ``finish_as``, or else ``status``, says of an order that has ended; of another word it is
#: not known how. A trigger that has fired has become another order.
_ENDS: Final[Mapping[str, OrderState]] = {
    "filled": "filled",
    "closed": "filled",
    "failed": "rejected",
    **dict.fromkeys(("cancelled", "expired", "invalid", "EXPIRED", "TERMINATED"), "cancelled"),
    **dict.fromkeys(("ioc", "poc", "fok", "stp", "small", "liquidated"), "cancelled"),
    **dict.fromkeys(("auto_deleveraged", "reduce_only", "reduce_out"), "cancelled"),
    **dict.fromkeys(("position_closed", "mmp_cancelled", "liquidate_cancelled"), "cancelled"),
    **dict.fromkeys(("depth_not_enough", "trader_not_enough"), "cancelled"),
    "price_protect_cancelled": "cancelled",
}
_ENDED: Final = frozenset({"finish", "finished", "succeeded", "unknown", "COMPLETED", *_ENDS})
#: What a listing of open orders calls an order that has ended since.
_CLOSED: Final = frozenset({"closed", "cancelled", "finished"})


class _Inner(msgspec.Struct, gc=False):
    """The order that a price-triggered one becomes."""

    contract: str | None = None
    side: str | None = None
    amount: _Number = None
    size: _Number = None
    price: _Number = None
    type: str | None = None
    is_reduce_only: Any = None
    reduce_only: Any = None
    is_close: Any = None
    close: Any = None

    @property
    def reduces(self) -> bool:
        """Whether it says that it reduces or closes its position; books spell that apart."""
        words = (self.is_reduce_only, self.reduce_only, self.is_close, self.close)
        return any(map(toolkit.is_true, words))


class _Row(_Inner, gc=False):
    """An order of whatever kind, in a listing, in the answer to a cancel, or asked for by its id.

    Positive sizes buy, and 0 closes the position, but where there is a side. Where there is an
    ``amount`` beside a ``size``, it counts.
    """

    id: int | str | None = None
    currency_pair: str | None = None
    market: str | None = None
    put: _Inner | None = None
    initial: _Inner | None = None
    left: _Number = None
    filled_amount: _Number = None
    fill_amount: _Number = None
    limit_price: _Number = None
    price_limit: _Number = None
    activation_price: _Number = None
    order_type: str | None = None
    status: str | None = None
    finish_as: str | None = None
    reason: str | None = None
    succeeded: bool | None = None
    label: str | None = None
    error_label: str | None = None
    message: str | None = None

    @property
    def symbol(self) -> str:
        inner = self.initial.contract if self.initial is not None else None
        return inner or self.contract or self.market or self.currency_pair or ""

    @property
    def state(self) -> OrderState | None:
        """How it has ended, ``None`` if it does not say; or ``"open"``."""
        if self.finish_as and self.finish_as != "open":
            return _ENDS.get(self.finish_as)
        if self.status == "finished" and "cancel" in (self.reason or "").lower():
            return "cancelled"
        return _ENDS.get(self.status or "") if self.status in _ENDED else "open"


class _Pair(msgspec.Struct):
    """The orders of one pair; ``total`` is of the pair or of the page, the document says both."""

    orders: list[_Row]
    total: int = 0


def _name(book: str, order_id: int | str) -> str:
    """The id of an order: the books count theirs apart."""
    return str(order_id) if book == "ordinary" else f"{book}:{order_id}"


def _order(book: str, row: _Row) -> OpenOrder | None:
    """The order of a row, unless the row says that it has ended.

    Raises:
        ProtocolError: it lacks an id or a symbol, or a number in it is none.
    """
    if row.id is None or not row.symbol:
        raise errors.ProtocolError("the reply can't be understood: an order has no id or no symbol")
    inner = row.put or row.initial or row
    size = toolkit.decimal(inner.size if inner.amount in (None, "") else inner.amount)
    prices = (inner.price, row.limit_price, row.price_limit, row.activation_price)
    price = toolkit.decimal(next((each for each in prices if each is not None), None))
    filled = row.fill_amount if row.filled_amount is None else row.filled_amount
    if filled is None and row.left is not None:
        filled = str(abs(size) - abs(toolkit.decimal(row.left)))
    kind = inner.type or row.order_type or ("" if book == "ordinary" else book)
    side: Literal["buy", "sell", "unknown"]
    if inner.side:
        side = toolkit.side(inner.side)
    elif kind.startswith(("close-", "plan-close-")):
        side = "sell" if "-long-" in kind else "buy"
    else:
        side = "unknown" if not size else "buy" if size > 0 else "sell"
    if row.status in _CLOSED:
        return None
    return OpenOrder(
        order_id=toolkit.readable(_name(book, row.id)),
        symbol=toolkit.readable(row.symbol),
        side=side,
        price=price,
        quantity=abs(size),
        filled_quantity=abs(toolkit.decimal(filled)),
        order_type=kind or ("limit" if price else "market"),
        status=row.status or "open",
        book=book,
        reduce_only=inner.reduces,
    )


def _pair(pair: _Pair) -> tuple[int, list[OpenOrder | None]]:
    return pair.total, [_order("ordinary", row) for row in pair.orders]


_ROWS: Final = {
    book: RowDecoder(_Row, msgspec.Raw, convert=partial(_order, book))
    for book in ("ordinary", "stop", "trail", "chase", "pov")
}
_PAIRS: Final = RowDecoder(_Pair, msgspec.Raw, convert=_pair)
_ANSWER: Final = RowDecoder(_Row, msgspec.Raw)
_ROW: Final = msgspec.json.Decoder(_Row)


def _rows_of(reply: Reply, now_ms: int, *, wrapped: bool) -> msgspec.Raw | bytes:
    """The rows that a reply is, or that its object has; an empty list may be ``null`` there."""
    orders = _accepted(reply, now_ms).orders
    if not wrapped:
        return reply.body
    if not bytes(orders):
        raise errors.ProtocolError("the reply can't be understood: it has no orders")
    return b"[]" if bytes(orders) == b"null" else orders


@toolkit.sliced
def decode_page(
    reply: Reply,
    stamp: Stamp,
    *,
    book: str,
    by_pair: bool,
    before: int,
    symbol: str | None,
    wrapped: bool,
    absent: str,
) -> Slices[Page[OpenOrder]]:
    """Read a page of a listing.

    "Increment ... until the records' length is shorter than the limit"; where a total says that
    there are more, the page is cut, and the listing no proof.

    Args:
        reply: the reply.
        stamp: of its attempt.
        book: whose listing it is.
        by_pair: whether the rows are pairs, each of which has a page of its own.
        before: how many rows there are before it, of each pair.
        symbol: what was asked for; ``None`` for all.
        wrapped: whether the rows are in an object.
        absent: the label that says that there is no such book.
    """
    try:
        text = _rows_of(reply, stamp.time_ms, wrapped=wrapped)
    except errors.VenueError as error:
        if error.code not in _GONE and _is_nothing_open(error, absent):
            return Page([], raw=reply.body)
        raise
    toolkit.check_fresh(reply, stamp)
    decoder = _PAIRS if by_pair else _ROWS[book]
    groups = toolkit.whole((yield from decoder.decode(reply, text)))
    if not by_pair:
        groups = [(toolkit.header_number(reply, "X-Pagination-Total") or 0, groups)]
    counts = [(total, len(orders)) for total, orders in groups]
    if any(count < PAGE and total > before + count for total, count in counts):
        raise errors.ProtocolError("the listing is cut: it has fewer orders than it says")
    orders = [order for _, some in groups for order in some if order is not None]
    if symbol is not None and {order.symbol for order in orders} - {symbol}:
        raise errors.ProtocolError(f"the reply lists other symbols than {symbol!r}")
    more = any(count >= PAGE for _, count in counts)
    return Page(orders, str(before + PAGE) if more else "", reply.body)


@toolkit.sliced
def decode_answer(
    reply: Reply, stamp: Stamp, *, book: str, symbol: str | None, wrapped: bool, absent: str
) -> Slices[Answer]:
    """Read what became of the orders of a cancel: "success is determined by the order list".

    Args: as of :func:`decode_page`.
    """
    try:
        text = _rows_of(reply, stamp.time_ms, wrapped=wrapped)
    except errors.VenueError as error:
        if _is_nothing_open(error, absent):
            return Answer(raw=reply.body, status=NOTHING_OPEN, cancelled=())
        raise
    rows = yield from _ANSWER.decode(reply, text)
    if rows.problem:
        raise errors.ProtocolError(f"the reply is no answer to a cancel: {rows.problem}")
    cancelled: list[str] = []
    failed: dict[str, errors.MassCancelError] = {}
    tells = True
    for some in toolkit.batches(rows.whole, _TOGETHER):
        if symbol is not None and {row.symbol for row in some} - {symbol, ""}:
            raise errors.ProtocolError(f"the reply is about other symbols than {symbol!r}")
        for row in some:
            if row.id is None:
                raise errors.ProtocolError("the reply is no answer to a cancel: a row has no id")
            fate = _fate(row, wrapped=wrapped)
            if isinstance(fate, errors.VenueError):
                failed[_name(book, row.id)] = fate
            elif fate == "cancelled":
                cancelled.append(_name(book, row.id))
            tells = tells and fate is not None
        yield
    told = tuple(cancelled) if tells else None
    status = "accepted" if told is None else "cancelled" if told else NOTHING_OPEN
    return Answer(raw=reply.body, status=status, cancelled=told, failed=failed)


def _fate(row: _Row, *, wrapped: bool) -> str | errors.VenueError | None:
    """What a row says: ``"cancelled"``, ``"gone"``, an error; ``None`` where it does not tell.

    A trailing order stands as ``open`` in the very sample of "Termination successful"; it, what has
    no status at all, and what is being cancelled is neither cancelled nor a failure.
    """
    label = row.label or row.error_label or ""
    if label in _GONE:
        return "gone"
    if row.succeeded is False or label:
        kind = _kind_of(label) or errors.VenueError
        return kind(label or None, "", row.message or row.reason or "not cancelled", OK)
    if row.state != "open":
        return "cancelled" if row.state == "cancelled" else "gone"
    if row.succeeded:
        return None if row.status else "cancelled"
    if wrapped or row.status in (None, "", "CANCELING"):
        return None
    return errors.VenueError(None, "", f"the answer shows the order as {row.status:.20}", OK)


def decode_state(reply: Reply, stamp: Stamp, *, order_id: str) -> OrderState | None:
    """Read what has become of an order; ``None`` if the venue knows it no more, or not how."""
    try:
        order = bytes(_accepted(reply, stamp.time_ms).order)
    except errors.VenueError as error:
        if _is_nothing_open(error, ""):
            return None
        raise
    row = toolkit.decode_json(_ROW, reply, order or reply.body)
    if str(row.id) != order_id:
        raise errors.ProtocolError(f"the reply is about the order {row.id!s:.40}, not {order_id}")
    return row.state


# The rest.


class _Clock(msgspec.Struct):
    server_time: int


class _Countdown(msgspec.Struct, rename="camel"):
    trigger_time: int


class _Mode(msgspec.Struct):
    mode: str


class _Detail(msgspec.Struct):
    """What names a key among others: whose it is, and what it is bound to."""

    user_id: int
    ip_whitelist: tuple[str, ...] | None = None
    currency_pairs: tuple[str, ...] | None = None

    def names(self, key: "_Key") -> bool:
        """Whether it may be of this key."""
        bound = ({*(key.ip_whitelist or ())}, {*(key.currency_pairs or ())})
        mine = ({*(self.ip_whitelist or ())}, {*(self.currency_pairs or ())})
        return key.user_id == self.user_id and bound == mine


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
_UNIFIED: Final = {
    "multi_currency": True,
    "portfolio": True,
    "single_currency": True,
    "classic": False,
}
_OF_ACCOUNT: Final = (errors.VenueError, errors.InvalidRequest)
#: The least that a switch is set to, and how long its request may have been on its way, in ms.
_LEAST_SWITCH_MS: Final = 5_000
_LATE_MS: Final = 60_000


def decode_switch(reply: Reply, stamp: Stamp, *, timeout_ms: int) -> int | None:
    """Read when the switch fires, ms since the epoch; ``None`` if it won't."""
    _accepted(reply, stamp.time_ms)
    at = toolkit.decode_json(_COUNTDOWN, reply, reply.body).trigger_time
    in_ms = at - stamp.time_ms
    off_ms = stamp.skew_ms + _LEAST_SWITCH_MS - 1
    if timeout_ms and not abs(in_ms - timeout_ms) <= off_ms + _LATE_MS:
        raise errors.ProtocolError(f"the reply sets the switch to {in_ms} ms, not {timeout_ms} ms")
    if not timeout_ms and in_ms > off_ms:
        raise errors.ProtocolError("the switch was to be off, and the reply says that it is armed")
    return at if timeout_ms else None


def decode_clock(reply: Reply) -> int:
    """``server_time``, ms since the epoch."""
    _accepted(reply, 0)
    return toolkit.decode_json(_CLOCK, reply, reply.body).server_time


def decode_mode(reply: Reply, stamp: Stamp) -> bool | None:
    """Read whether the account is unified; ``None`` for a mode that is not documented.

    A classic account may have the mode ``classic``, or none to be asked for: a refusal that is
    neither of the key nor of the path.
    """
    try:
        _accepted(reply, stamp.time_ms)
    except errors.VenueError as error:
        of_account = error.code == NO_ACCOUNT or type(error) in _OF_ACCOUNT
        if of_account and error.code not in (None, "NOT_FOUND", "METHOD_NOT_ALLOWED"):
            return False
        raise
    return _UNIFIED.get(toolkit.decode_json(_MODE, reply, reply.body).mode)


def decode_detail(reply: Reply, stamp: Stamp) -> _Detail:
    """Read what names the key that asks."""
    _accepted(reply, stamp.time_ms)
    return toolkit.decode_json(_DETAIL, reply, reply.body)


def decode_keys(reply: Reply, stamp: Stamp) -> Sequence[_Key]:
    """Read what the keys of the account may do."""
    _accepted(reply, stamp.time_ms)
    return toolkit.decode_json(_KEYS, reply, reply.body)


def permission(detail: _Detail, keys: Sequence[_Key], needed: str) -> Permission:
    """Judge what the key may do: certain where all that can be it may do the same."""
    same = [key.perms for key in keys if detail.names(key)]
    may = {any(each.name == needed and not each.read_only for each in perms) for perms in same}
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
    _accepted(reply, stamp.time_ms)
    for order in toolkit.decode_json(_TRIED, reply, reply.body):
        label = order.label or order.message
        if not order.succeeded:
            raise (_kind_of(label) or errors.VenueError)(label, "", order.message)


#: Reads what became of the cancel of an order that can't exist.
decode_tried: Final = toolkit.told_by_refusal(
    _check_tried,
    unknown_order=lambda error: error.code == "ORDER_NOT_FOUND",
    foreign_address=FOREIGN_ADDRESS,
)
