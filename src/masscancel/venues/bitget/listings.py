"""The listings of Bitget's open orders, page by page, as each book's own page describes them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from masscancel.calls import Call, Flow, Reply, Slices, Stamp
from masscancel.errors import MassCancelError, ProtocolError
from masscancel.models import OpenOrder
from masscancel.venues.bitget.wire import Wire, data_of, name_of
from masscancel.venues.toolkit import (
    NOTHING_OPEN,
    Answer,
    Page,
    Part,
    RowDecoder,
    Rows,
    act_on_pages,
    check_fresh,
    decimal,
    decode_json,
    every_page,
    finish,
    is_true,
    why_stale,
)

__all__ = ["Key", "Listing", "cancel_listed", "list_orders"]

#: So many orders are cancelled by id in a request: spot's and futures' most; margin documents none.
BATCH: Final = 50


class Row(msgspec.Struct, rename="camel", gc=False):
    """An open order, in whichever listing. Numbers are strings; some are ``null`` or empty."""

    order_id: str | int
    symbol: str
    side: str | None = None
    price: str | float | None = None
    price_avg: str | float | None = None
    execute_price: str | float | None = None
    size: str | float | None = None
    qty: str | float | None = None
    base_size: str | float | None = None
    base_volume: str | float | None = None
    cum_exec_qty: str | float | None = None
    order_type: str | None = None
    plan_type: str | None = None
    status: str | None = None
    plan_status: str | None = None
    order_status: str | None = None
    reduce_only: Any = None


class Key(msgspec.Struct, frozen=True, gc=False):
    """The part of an open order that a cancel needs.

    Attributes:
        order_id: its id.
        symbol: its symbol, ``""`` where that can't be read.
        client_id: its client's id, by which some failures name it.
    """

    order_id: str
    symbol: str
    client_id: str = ""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A listing: how it is asked for, and where in its reply what stands.

    Attributes:
        path: its path.
        query: what it is asked for with, beside symbol and page.
        rows: the name of the rows in ``data``; ``""`` where ``data`` is the rows (strategies': by
            the sample; by the table beside it, they are its ``list``: either is read).
        cursor: what a page is asked for with; ``""`` if there are no pages.
        size: the most rows of a page, which is asked for; 0 where none is documented.
        by_symbol: whether it takes a symbol.
        since_ms: how far back it is to go, in ms, where it has to be told.
        book: the book of its orders.
        price, quantity, filled, kind, status: the fields of a row that hold these; the kind may be
            a word of its own, the same for all.
        tells_side: whether its rows have a side.
    """

    path: str
    query: Mapping[str, str] = {}
    rows: str = ""
    cursor: str = "idLessThan"
    size: int = 100
    by_symbol: bool = True
    since_ms: int = 0
    book: str = "ordinary"
    price: str = "price"
    quantity: str = "size"
    filled: str = "base_volume"
    kind: str = "order_type"
    status: str = "status"
    tells_side: bool = True

    def order(self, row: Row) -> OpenOrder:
        """A row as a value.

        Raises:
            ProtocolError: its side or a number of it can't be read.
        """
        if row.order_id == "" or row.symbol == "":
            raise ProtocolError("the reply can't be understood: an order has no id or no symbol")
        try:
            return OpenOrder(
                order_id=str(row.order_id),
                symbol=spelled(row.symbol),
                side=self._side(row.side),
                price=decimal(getattr(row, self.price, None)),
                quantity=decimal(getattr(row, self.quantity)),
                filled_quantity=decimal(getattr(row, self.filled, None)),
                order_type=str(getattr(row, self.kind, self.kind) or ""),
                status=getattr(row, self.status) or "",
                book=self.book,
                reduce_only=is_true(row.reduce_only),
            )
        except ProtocolError as error:
            name = f"the order {row.order_id} of {row.symbol}"
            raise ProtocolError(f"{error.message}: {name}") from None

    def _side(self, word: str | None) -> Any:
        """The side; margin has sides such as ``liquidation-buy``, with a misprint in one."""
        if word is None and not self.tells_side:
            return "unknown"
        last = (word or "").rpartition("-")[2].lower()
        for side in ("buy", "sell"):
            if last.startswith(side):
                return side
        raise ProtocolError("the reply can't be understood: a side in it is neither buy nor sell")

    def page(
        self, wire: Wire, decode: Callable[..., Any], symbol: str | None, cursor: str
    ) -> Call[Any]:
        """Ask for a page."""
        query = dict(self.query)
        if self.size:
            query["limit"] = str(self.size)
        if symbol is not None and self.by_symbol:
            query["symbol"] = symbol
        if cursor:
            query[self.cursor] = cursor
        return wire.get(self.path, query, partial(decode, listing=self), since_ms=self.since_ms)

    def next(self, data: "_Data | None", ids: Sequence[str], count: int) -> tuple[str, str]:
        """What the next page is asked for with, and what is wrong with the listing.

        Documented is a cursor, not where it ends: a listing goes on until a page is empty, unless
        it says that there is no next one. Where no cursor is given, pages go on before the least
        id; v3's, which has no such way, may be cut if it is full.
        """
        if not self.cursor or not count or (data is not None and data.next_flag is False):
            cut = not self.cursor and 0 < self.size <= count
            return "", "it is full and may be cut" if cut else ""
        if data is not None and data.cursor:
            return str(data.cursor), ""
        if self.cursor == "cursor":
            return "", "it is full and may be cut" if count >= self.size else ""
        if not ids:
            return "", "no id to go on from can be read"
        return (min(ids, key=int) if all(map(_is_number, ids)) else ids[-1]), ""


class KeyPage(Page[Key], frozen=True):
    """A page, as a cancel needs it.

    Attributes:
        problem: what is wrong with it, for people: there may be orders that it does not show.
    """

    problem: str = ""


class _Data(msgspec.Struct, rename="camel"):
    """The part of ``data`` that says where the rows are, and how it goes on."""

    list: msgspec.Raw = msgspec.Raw()
    order_list: msgspec.Raw = msgspec.Raw()
    entrusted_list: msgspec.Raw = msgspec.Raw()
    v3_cursor: str | int | None = msgspec.field(default=None, name="cursor")
    end_id: str | int | None = None
    id_less_than: str | int | None = None
    min_id: str | int | None = None
    next_flag: bool | None = None

    @property
    def cursor(self) -> str | int | None:
        return self.v3_cursor or self.end_id or self.id_less_than or self.min_id


class _KeyRow(msgspec.Struct, rename="camel", gc=False):
    order_id: str | int
    symbol: Any = None
    client_oid: Any = None

    def key(self) -> Key:
        if self.order_id == "":
            raise ProtocolError("the reply can't be understood: an order has no id")
        return Key(str(self.order_id), spelled(self.symbol), str(self.client_oid or ""))


class _Named(msgspec.Struct, rename="camel"):
    """The name of a row that can't be read whole."""

    order_id: Any = None
    symbol: Any = None


_DATA: Final = msgspec.json.Decoder(_Data)
_ROWS: Final = RowDecoder(Row, _Named)
_KEYS: Final = RowDecoder(_KeyRow, msgspec.Raw, convert=_KeyRow.key)


def spelled(symbol: Any) -> str:
    """A symbol as it is asked for: samples have some in lower case (``btcusdt``)."""
    text = symbol if isinstance(symbol, str) else ""
    return text.upper() if text.islower() else text


def is_of(symbol: str | None, found: str) -> bool:
    """Whether a listed symbol is the one that is meant, whatever the case it is listed in."""
    return symbol is None or found.casefold() == symbol.casefold()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _read(
    decoder: RowDecoder[Any, Any], reply: Reply, stamp: Stamp, listing: Listing
) -> Slices[tuple[Rows[Any, Any], _Data | None]]:
    """The rows of a page, and what stands beside them.

    Raises:
        ProtocolError: they are not there; no rows at all are an empty list, on futures ``null``.
    """
    part = data_of(reply, stamp.time_ms)
    if decoder is _ROWS:
        check_fresh(reply, stamp)
    data: _Data | None = None
    if listing.rows or bytes(memoryview(part)[:1]) == b"{":
        data = decode_json(_DATA, reply, part)
        part = getattr(data, listing.rows or "list")
        if listing.rows == "entrusted_list" and bytes(part) == b"null":
            return Rows([], []), data
    return (yield from decoder.decode(reply, part)), data


def decode_keys(reply: Reply, stamp: Stamp, *, listing: Listing) -> KeyPage | Slices[KeyPage]:
    """Read a page as far as a cancel needs it."""
    return finish(_keys(reply, stamp, listing), reply)


def _keys(reply: Reply, stamp: Stamp, listing: Listing) -> Slices[KeyPage]:
    rows, data = yield from _read(_KEYS, reply, stamp, listing)
    count = len(rows.whole) + len(rows.keys)
    cursor, problem = listing.next(data, [key.order_id for key in rows.whole], count)
    problem = problem or why_stale(reply, stamp)
    if rows.problem:
        problem = f"{len(rows.keys)} of its orders can't be read: {rows.problem}"
    return KeyPage(rows.whole, cursor, reply.body, problem)


def decode_orders(
    reply: Reply, stamp: Stamp, *, listing: Listing
) -> Page[OpenOrder] | Slices[Page[OpenOrder]]:
    """Read a page whole, as a proof needs it."""
    return finish(_orders(reply, stamp, listing), reply)


def _orders(reply: Reply, stamp: Stamp, listing: Listing) -> Slices[Page[OpenOrder]]:
    rows, data = yield from _read(_ROWS, reply, stamp, listing)
    if rows.keys:
        first = rows.keys[0]
        raise ProtocolError(
            f"{len(rows.keys)} rows of the listing can't be understood, at first the order "
            f"{first.order_id!s:.40} of {first.symbol!s:.40}: {rows.problem}"
        )
    orders = [listing.order(row) for row in rows.whole]
    cursor, problem = listing.next(data, [each.order_id for each in orders], len(orders))
    if problem or rows.problem:
        raise ProtocolError(f"the listing proves nothing: {problem or rows.problem}")
    return Page(orders, cursor, reply.body)


def list_orders(wire: Wire, listing: Listing, symbol: str | None) -> Flow[list[OpenOrder]]:
    """List every order of a listing, to its last page.

    Raises:
        MassCancelError: a page could not be had, or not be read whole.
    """
    page = partial(listing.page, wire, decode_orders, symbol)
    orders: list[OpenOrder] = yield from every_page(page)
    return [order for order in orders if is_of(symbol, order.symbol)]


#: Makes the cancels of some orders, each with the ids that are in it.
Cancels = Callable[[Sequence[Key]], Iterable[tuple[Sequence[str], Call[Answer]]]]


def cancel_listed(
    wire: Wire, listing: Listing, symbol: str | None, cancels: Cancels
) -> Flow[list[Part]]:
    """List orders and cancel them by id, each page's beside the listing of the next."""
    page = partial(listing.page, wire, decode_keys, symbol)
    parts = yield from act_on_pages(page, partial(_cancel_page, symbol, cancels))
    where = " ".join((name_of(listing.path), *listing.query.values(), symbol or "")).rstrip()
    return [
        Part(part.results, [f"{each} ({where})" if " " in each else each for each in part.left])
        for part in parts
    ]


def _cancel_page(symbol: str | None, cancels: Cancels, page: Page[Key]) -> Flow[Part]:
    """Cancel what a page shows of a symbol; nothing whose symbol is another's or can't be read."""
    keys = [key for key in page.rows if is_of(symbol, key.symbol)]
    asked = list(cancels(keys))
    results: list[Answer | MassCancelError] = []
    left: list[str] = []
    if asked:
        results += yield [call for _, call in asked]
    for (ids, _), result in zip(asked, results, strict=True):
        left += ids if isinstance(result, MassCancelError) else ()
    lost = [key.order_id for key in page.rows if not key.symbol and symbol is not None]
    problem = page.problem if isinstance(page, KeyPage) else ""
    if lost or problem:
        why = problem or "symbols in it can't be read"
        results.append(ProtocolError(f"the listing proves nothing: {why}"))
        left += lost or ["orders that the listing does not show"]
    if not results:
        results.append(Answer(raw=page.raw, status=NOTHING_OPEN, cancelled=()))
    return Part(results, left)
