"""The books of OKX, what their listings show, and the meanings of all other replies.

Each ``read_...`` raises :class:`~masscancel.VenueError` where the venue refused, and
:class:`~masscancel.ProtocolError` where the reply is no answer to what was asked.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from masscancel import errors
from masscancel.calls import Reply, Slices, Stamp
from masscancel.errors import MassCancelError, ProtocolError, VenueError
from masscancel.models import KeyInfo, OpenOrder, OrderState, Permission
from masscancel.venues import toolkit
from masscancel.venues.toolkit import NOTHING_OPEN, Answer, Page

#: "a maximum of 100": a page that has fewer is the last.
PAGE: Final = 100
#: Times before this are in seconds, such as the sample's of ``triggerTime``; later ones in ms.
_MILLISECONDS: Final = 10**11

# Refusals.

#: What each code means ("Error Code"), in a reply and, of an order that is to be cancelled, in its
#: ``sCode``. A code that is not here is never success.
_KINDS: Final = toolkit.kinds_of(
    (errors.AuthenticationError, (50008, 50067, 50100, 50101, *range(50103, 50110), 50111)),
    (errors.AuthenticationError, (50113, 50114, 50119)),
    (errors.PermissionDenied, (50007, 50012, 50027, 50029, 50030, 50035, 50041, 50051, 50052)),
    (errors.PermissionDenied, (50059, 50060, 50110, 50118, 50120, 50121, 50122, 51024)),
    (errors.StampRefused, (50102, 50112)),
    (errors.RateLimited, (50011, 50040, 50061)),
    # 50004 and 51149: it "does not mean that the request was successful or failed".
    (errors.VenueUnavailable, (50001, 50004, 50013, 50026, 51149)),
    (errors.InvalidRequest, (50000, 50002, 50005, 50006, 50014, 50015, 50016, 50024, 50025)),
    (errors.InvalidRequest, (50038, 50115, *range(51000, 51004), 51010, 51015, 51407, 51408)),
)
#: The order is gone, or on its way out. One that was triggered is an ordinary order now.
_GONE: Final = frozenset(map(str, (51400, 51401, 51402, 51405, 51410, 51412, 51416, 51603)))
#: "Cancellation timed out", or "The order has been triggered": one code for both.
_LATE_OR_TRIGGERED: Final = "51412"
#: "Your IP is not included in your API key's IP whitelist".
FOREIGN_ADDRESS: Final = frozenset[int | str]({"50110"})
#: The order "has been filled, canceled or does not exist"; "Order does not exist".
_NOT_THERE: Final = frozenset({"51400", "51603"})
#: "Order does not exist."
_NO_ORDER: Final = "51603"
#: The site has no such feature: "API endpoint is inactive", "unavailable in demo trading"; or it
#: has no such path at all.
_NOT_OFFERED: Final = frozenset({"50005", "50038"})
_NO_PATH: Final = frozenset({404, 410})
#: The codes of an answer that tells of each order: all were accepted, none, or some.
_TELLS_OF_EACH: Final = frozenset({"0", "1", "2"})
_NO_DATA: Final = frozenset({b"", b"[]", b"null"})


class _Envelope(msgspec.Struct):
    code: str | int
    msg: str | None = None
    data: msgspec.Raw = msgspec.Raw()


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def _kind(code: str, text: str | None) -> type[VenueError] | None:
    if code == _LATE_OR_TRIGGERED and "triggered" not in (text or ""):
        return errors.VenueUnavailable
    return _KINDS.get(int(code)) if code.isdecimal() else None


def _refusal(answers: frozenset[str], envelope: _Envelope) -> toolkit.Refusal | None:
    code = str(envelope.code)
    if code == "0" or (code in answers and bytes(envelope.data).strip() not in _NO_DATA):
        return None
    return toolkit.Refusal(kind=_kind(code, envelope.msg), code=code, message=envelope.msg or "")


def _data(reply: Reply, now_ms: int, answers: frozenset[str] = frozenset()) -> msgspec.Raw:
    """The data of a reply that is no refusal: its code is 0, or one of those that answer, too."""
    return toolkit.open_envelope(_ENVELOPE, reply, now_ms, partial(_refusal, answers)).data


def _is_absent(error: VenueError, book: "Book") -> bool:
    """Whether the venue itself says that the site has no such book, and so nothing open in it."""
    missing = error.code in _NOT_OFFERED or error.http_status in _NO_PATH
    return book is SPREADS and error.code is not None and missing


# Books, and the rows of their listings.


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A book, and how it is asked. Its paths follow ``/api/v5/``.

    Attributes:
        name: the book's name; of algo orders, the venue's word for their type.
        prefix: what its ids begin with here: the venue counts each kind by itself.
        symbol: what its rows, and the query of its listing, call a symbol.
        id: what its rows, and its cancel, call an id.
        listing: the path of its listing.
        query: what that is always asked for.
        older: what a further page is asked for with.
        cancel: the path of its cancel.
        batch: how many orders that takes.
        order: the path that tells of one order.
    """

    name: str
    prefix: str = ""
    symbol: str = "instId"
    id: str = "ordId"
    listing: str = "trade/orders-pending"
    query: str = ""
    older: str = "after"
    cancel: str = "trade/cancel-batch-orders"
    batch: int = 20
    order: str = "trade/order"


def _algo(name: str, types: str = "") -> Book:
    return Book(
        name=name,
        prefix="algo:",
        id="algoId",
        listing="trade/orders-algo-pending",
        query=f"ordType={types or name}",
        cancel="trade/cancel-algos",
        batch=10,
        order="trade/order-algo",
    )


ORDINARY: Final = Book(name="ordinary")
ALGOS: Final = (
    _algo("conditional", "conditional,oco"),  # no other two types can be asked for together
    *map(_algo, ("trigger", "move_order_stop", "chase", "iceberg", "twap", "smart_iceberg")),
)
SPREADS: Final = Book(
    name="spread",
    prefix="spread:",
    symbol="sprdId",
    listing="sprd/orders-pending",
    older="endId",
    cancel="sprd/mass-cancel",
    order="sprd/order",
)
BOOKS: Final = {book.name: book for book in (ORDINARY, *ALGOS, SPREADS)}

_Number = str | float | None  # numbers are text, "" for none


class _Key(msgspec.Struct, rename="camel", gc=False):
    """What a cancel needs of a row."""

    inst_id: str = ""
    sprd_id: str = ""
    ord_id: str | int | None = None
    algo_id: str | int | None = None
    inst_type: Any = None


class _Row(_Key, rename="camel", gc=False):
    """What is shown of it, too."""

    side: str = ""
    sz: _Number = None
    acc_fill_sz: _Number = None
    px: _Number = None
    ord_px: _Number = None  # one of these is the price of an algo order
    sl_ord_px: _Number = None
    tp_ord_px: _Number = None
    ord_type: str = ""
    state: str = ""
    reduce_only: Any = None


class Found(msgspec.Struct, frozen=True, gc=False):
    """A row of a listing.

    Attributes:
        symbol: the instrument, or the spread.
        id: the venue's id.
        type: the type of the instrument, if it can be read.
        order: the order, if the row is read whole.
    """

    symbol: str
    id: str
    type: str
    order: OpenOrder | None = None


def _found(book: Book, row: _Key) -> Found:
    symbol = toolkit.readable(row.sprd_id or row.inst_id)
    order_id = toolkit.readable(_id_of(book, row))
    if not (symbol and order_id):
        raise ProtocolError("a row lacks its symbol or its id")
    return Found(symbol, order_id, row.inst_type if isinstance(row.inst_type, str) else "")


def _id_of(book: Book, row: Any) -> str:
    return str((row.algo_id if book.id == "algoId" else row.ord_id) or "")


def _shown(book: Book, row: _Row) -> Found:
    prices = [row.px]
    if book.id == "algoId":
        prices = [each for each in (row.ord_px, row.sl_ord_px, row.tp_ord_px) if each != _AT_MARKET]
    found = _found(book, row)
    order = OpenOrder(
        order_id=f"{book.prefix}{found.id}",
        symbol=found.symbol,
        side=toolkit.side(row.side),
        price=toolkit.decimal(next((each for each in prices if each), None)),
        quantity=toolkit.decimal(row.sz),
        filled_quantity=toolkit.decimal(row.acc_fill_sz),
        order_type=row.ord_type,
        status=row.state,
        book=book.name,
        reduce_only=toolkit.is_true(row.reduce_only),
    )
    return msgspec.structs.replace(found, order=order)


#: What algo orders have for a price at the market.
_AT_MARKET: Final = "-1"
#: The rows of each book as they are listed, and as far as a cancel needs them.
_SHOWN: Final = {
    name: toolkit.RowDecoder(_Row, msgspec.Raw, convert=partial(_shown, book))
    for name, book in BOOKS.items()
}
_FOUND: Final = {
    name: toolkit.RowDecoder(_Key, msgspec.Raw, convert=partial(_found, book))
    for name, book in BOOKS.items()
}


@toolkit.sliced
def read_page(
    reply: Reply,
    stamp: Stamp,
    *,
    book: Book,
    kind: str,
    symbol: str | None,
    picked: bool,
    whole: bool,
) -> Slices[Page[Found]]:
    """Read a page of a listing.

    Args:
        reply: the reply.
        stamp: of its attempt.
        book: whose listing it is.
        kind: the type of instruments that was asked for, ``""`` for any; no others are in the page.
        symbol: their symbol, ``None`` for any.
        picked: whether the listing can't be asked for the type, so that it shows others, too.
        whole: whether a page that can't be understood to the last row is an error.
    """
    try:
        data = _data(reply, stamp.time_ms)
    except VenueError as error:
        if _is_absent(error, book):
            return Page([], raw=reply.body)
        raise
    yield
    rows = yield from (_SHOWN if whole else _FOUND)[book.name].decode(reply, data)
    shown: list[Found] = rows.whole
    # One whose type can't be read is what was asked for.
    kinds = {kind} if picked else {kind, ""}
    mine = [
        found
        for found in shown
        if (not kind or found.type in kinds) and symbol in (None, found.symbol)
    ]
    problem = toolkit.why_stale(reply, stamp)
    if rows.problem:
        problem = f"{len(rows.keys)} of its rows can't be understood: {rows.problem}"
    elif len(mine) < len(shown) and not picked:
        problem = f"{len(shown) - len(mine)} of its rows are not what was asked for"
    if whole and problem:
        raise ProtocolError(f"the listing can't be understood; {problem}")
    is_last = len(shown) + len(rows.keys) < PAGE
    return Page(mine, "" if is_last else _oldest(shown), reply.body, problem)


def _oldest(shown: Sequence[Found]) -> str:
    """The id that older rows come after; ids grow with time."""
    if all(found.id.isdecimal() for found in shown):
        return min((found.id for found in shown), key=int, default="")
    return shown[-1].id


# Answers.


class _Told(msgspec.Struct, rename="camel"):  # of one order
    s_code: str | int
    s_msg: str | None = None
    ord_id: str | int | None = None
    algo_id: str | int | None = None


class _Result(msgspec.Struct):
    result: bool


class _Clock(msgspec.Struct):
    ts: str | int


class _Switch(msgspec.Struct, rename="camel"):
    trigger_time: str | int


class _Config(msgspec.Struct):
    perm: str | None = None
    ip: str | None = None


_TOLD: Final = msgspec.json.Decoder(list[_Told])
_RESULT: Final = msgspec.json.Decoder(tuple[_Result])
_CLOCK: Final = msgspec.json.Decoder(tuple[_Clock])
_SWITCH: Final = msgspec.json.Decoder(tuple[_Switch])
_TRIED: Final = msgspec.json.Decoder(tuple[_Told, ...])
_CONFIG: Final = msgspec.json.Decoder(tuple[_Config])
_STATE: Final = msgspec.json.Decoder(list[_Row])


def read_cancelled(
    reply: Reply, stamp: Stamp, *, book: Book, ids: Sequence[str], insist: bool
) -> Answer:
    """Read what is said of each order of a batch; ``sCode`` 0 says that its cancel is accepted.

    Args:
        reply: the reply.
        stamp: of its attempt.
        book: whose orders they are.
        ids: the orders, as they were named.
        insist: whether one that could not be seen to this time is an error of the whole, so that
            it is sent again.
    """
    try:
        data = _data(reply, stamp.time_ms, _TELLS_OF_EACH)
    except VenueError as error:
        if len(ids) == 1 and _is_gone(error):
            return Answer(raw=reply.body, status=NOTHING_OPEN)
        raise
    rows: list[_Told] = toolkit.decode_json(_TOLD, reply, data)
    told = dict(_by_id(rows, book, ids))
    failures = [(order_id, _failure(told.get(order_id), reply, stamp.time_ms)) for order_id in ids]
    failed = {f"{book.prefix}{order_id}": why for order_id, why in failures if why is not None}
    again = next((why for why in failed.values() if why.worth_retrying), None)
    if insist and again is not None:
        again.may_have_executed |= len(failed) < len(ids)
        raise again
    accepted = any(str(row.s_code) == "0" for row in rows)
    status = "accepted" if accepted or failed else NOTHING_OPEN
    return Answer(raw=reply.body, status=status, failed=failed)


def _by_id(rows: Sequence[_Told], book: Book, ids: Sequence[str]) -> Sequence[tuple[str, _Told]]:
    """The rows by their ids; one without an id is known by its place, if every order has a row."""
    named = [_id_of(book, row) for row in rows]
    if len(rows) == len(ids):
        named = [name or order_id for name, order_id in zip(named, ids, strict=True)]
    pairs = [*zip(named, rows, strict=True)]
    if not rows or len({name for name, _ in pairs} & {*ids}) < len(pairs):
        raise ProtocolError("the reply is not about the orders that were to be cancelled")
    return pairs


def _failure(row: _Told | None, reply: Reply, now_ms: int) -> MassCancelError | None:
    """The error of one order; ``None`` if its cancel was accepted, or it is gone."""
    if row is None:
        return ProtocolError("the reply does not tell of this order")
    code, text = str(row.s_code), row.s_msg or ""
    if code == "0":
        return None
    refusal = toolkit.Refusal(kind=_kind(code, text), code=code, message=text)
    error = toolkit.refusal_error(reply, now_ms, refusal)
    return None if _is_gone(error) else error


def _is_gone(error: MassCancelError) -> bool:
    late = isinstance(error, errors.VenueUnavailable)
    return isinstance(error, VenueError) and error.code in _GONE and not late


def read_spreads_cancelled(reply: Reply, stamp: Stamp) -> Answer:
    """Read whether a cancel of spreads "has been successfully received and will be processed"."""
    try:
        (told,) = toolkit.decode_json(_RESULT, reply, _data(reply, stamp.time_ms))
    except VenueError as error:
        if _is_gone(error) or _is_absent(error, SPREADS):
            return Answer(raw=reply.body, status=NOTHING_OPEN, cancelled=())
        raise
    if not told.result:
        raise VenueError(None, "", "the cancel of spreads was not accepted", reply.status)
    return Answer(raw=reply.body, status="accepted")


#: What a state means; one that is not here is open. Of an algo order that was triggered, it is not
#: known what became of its order.
_STATES: Final[Mapping[str, OrderState | None]] = {
    "filled": "filled",
    "canceled": "cancelled",
    "mmp_canceled": "cancelled",
    "order_failed": "rejected",
    "effective": None,
    "partially_effective": None,
    "partially_failed": None,
}


def read_state(reply: Reply, stamp: Stamp, *, book: Book, order_id: str) -> OrderState | None:
    """Read what has become of an order; ``None`` if that is not known, or not any more."""
    try:
        rows = toolkit.decode_json(_STATE, reply, _data(reply, stamp.time_ms))
    except VenueError as error:
        if error.code == _NO_ORDER:
            return None
        raise
    for row in rows:
        if _id_of(book, row) != order_id:
            raise ProtocolError("the reply is about another order")
        return _STATES.get(row.state, "open")
    return None


def read_switch(reply: Reply, stamp: Stamp, *, timeout_ms: int) -> int | None:
    """Read when the switch fires, ms since the epoch; ``None`` if it is off.

    The sample has seconds where other times are in ms: either is taken for what it must be.
    """
    (switch,) = toolkit.decode_json(_SWITCH, reply, _data(reply, stamp.time_ms))
    fires_at = _whole(switch.trigger_time)
    if bool(fires_at) is not bool(timeout_ms):
        raise ProtocolError(f"the switch was set to {timeout_ms} ms, and the reply says otherwise")
    return (fires_at if fires_at > _MILLISECONDS else fires_at * 1000) or None


def read_key(reply: Reply, stamp: Stamp, *, categories: Sequence[str]) -> KeyInfo:
    """Read what a key may do: ``perm`` is such as ``read_only,trade``."""
    (config,) = toolkit.decode_json(_CONFIG, reply, _data(reply, stamp.time_ms))
    may: Permission = "unknown"
    if config.perm:
        may = "yes" if "trade" in config.perm.split(",") else "no"
    addresses = None if config.ip is None else tuple(filter(None, config.ip.split(",")))
    return KeyInfo(cancels=dict.fromkeys(categories, may), addresses=addresses)


def _check_tried(reply: Reply, stamp: Stamp) -> None:
    """Raise what became of the one order that a cancel named."""
    for order in toolkit.decode_json(_TRIED, reply, _data(reply, stamp.time_ms, _TELLS_OF_EACH)):
        if (code := str(order.s_code)) != "0":
            kind = _kind(code, order.s_msg) or VenueError
            raise kind(code, "", order.s_msg or "")


#: Reads what became of the cancel of an order that can't exist.
read_tried: Final = toolkit.told_by_refusal(
    _check_tried,
    unknown_order=lambda error: error.code in _NOT_THERE,
    foreign_address=FOREIGN_ADDRESS,
)


def read_clock(reply: Reply) -> int:
    """Read the venue's time, ms since the epoch."""
    (clock,) = toolkit.decode_json(_CLOCK, reply, _data(reply, 0))
    return _whole(clock.ts)


def _whole(value: str | int) -> int:
    """A whole number that may be text.

    Raises:
        ProtocolError: it is none.
    """
    text = str(value)
    if not (text.isascii() and text.isdigit()):
        raise ProtocolError("the reply can't be understood: a time in it is none")
    return int(text[:18])
