"""KuCoin's books: the paths, the costs and the replies of each, by account category.

Costs are the weights of each endpoint's page, in the official SDK's specification.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from masscancel.calls import Reply, Stamp
from masscancel.venues.kucoin.replies import (
    NO_SUCH_PATH,
    OcoRow,
    OrderRow,
    oco_order,
    open_order,
    read_ids,
    read_symbols,
    read_word,
)
from masscancel.venues.toolkit import Answer, RowDecoder


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A set of orders behind one pair of paths.

    Attributes:
        name: which of the category's books it is, or is part of.
        query: what its requests always ask for, such as ``tradeType=TRADE``.
        listing: the path of its listing; of one symbol if ``symbols`` is given, else in pages.
        list_query: what only the listing asks for.
        page_size: the largest page.
        symbols: the path of the symbols that have orders, where a listing takes one.
        rows: what a listing's rows mean.
        legs: how many orders a row stands for, by which the venue may count them.
        has_legs: whether the legs of OCO orders may be among its orders.
        cancel: the path of its cancel, of one symbol.
        cancel_everything: the path of its cancel without a symbol; ``""`` if there is none.
        read, read_everything: the answers to these.
        state: from the id and the symbol to the path that tells of one order.
        absent: the codes by which the venue says that there is no such thing; given where its own
            specification lacks the path.
        costs: of its listing, its cancel, its cancel of everything, and a question.
    """

    name: str
    query: str = ""
    listing: str
    list_query: str = ""
    page_size: int = 500
    symbols: str = ""
    rows: RowDecoder[Any, Any]
    legs: int = 1
    has_legs: bool = False
    cancel: str
    cancel_everything: str = ""
    read: Callable[[Reply, Stamp, msgspec.Raw], Answer] = read_ids
    read_everything: Callable[[Reply, Stamp, msgspec.Raw], Answer] = read_ids
    state: str
    absent: frozenset[str] = frozenset()
    costs: tuple[int, int, int, int]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an account category.

    Attributes:
        url: the setting that says where it is.
        pool: the limit that its requests spend of.
        books: in the order in which they are asked: a stop order that is triggered in between moves
            to the ordinary book, which comes after it then.
        permission: the venue's word for what a key needs.
        switch: path and body of its dead man's switch, which the spot host serves.
    """

    url: str
    pool: str
    books: tuple[Book, ...]
    permission: str
    switch: tuple[str, Mapping[str, str]] = ("", {})

    def books_of(self, names: tuple[str, ...] | None) -> list[Book]:
        """The books that a scope is about."""
        return [book for book in self.books if names is None or book.name in names]

    @property
    def futures(self) -> bool:
        """Whether the codes are those of futures."""
        return self.pool == "futures"


def _rows(book: str, trade_type: str) -> RowDecoder[Any, Any]:
    convert = partial(open_order, book=book, trade_type=trade_type)
    return RowDecoder(OrderRow, msgspec.Raw, convert=convert)


def _stops(trade_type: str) -> Book:
    """The stop orders of the official specification, by trade type: without one, all of them."""
    return Book(
        name="stop",
        query=f"tradeType={trade_type}",
        listing="/api/v1/stop-order",
        rows=_rows("stop", trade_type),
        has_legs=True,
        cancel="/api/v1/stop-order/cancel",
        cancel_everything="/api/v1/stop-order/cancel",
        state="/api/v1/stop-order/{id}",
        costs=(8, 3, 3, 3),
    )


def _margin(trade_type: str, *refusals: str) -> Side:
    """Margin of a kind; ``refusals`` are codes by which its own stop path says it has no such."""
    api = "/api/v3/hf/margin"
    return Side(
        url="spot_url",
        pool="spot",
        permission="Margin",
        books=(
            _stops(trade_type),
            Book(
                name="stop",
                query=f"tradeType={trade_type}",
                listing=f"{api}/stop-orders",
                rows=_rows("stop", trade_type),
                has_legs=True,
                cancel=f"{api}/stop-order/cancel",
                cancel_everything=f"{api}/stop-order/cancel",
                state=f"{api}/stop-order/orderId?orderId={{id}}",
                absent=frozenset({NO_SUCH_PATH, *refusals}),
                costs=(8, 3, 3, 3),
            ),
            Book(
                name="oco",
                query=f"tradeType={trade_type}",
                listing=f"{api}/oco-orders",
                rows=RowDecoder(OcoRow, msgspec.Raw, convert=oco_order),
                legs=2,
                cancel=f"{api}/oco-order/cancel",
                cancel_everything=f"{api}/oco-order/cancel",
                state=f"{api}/oco-order/detail/orderId?orderId={{id}}",
                absent=frozenset({NO_SUCH_PATH}),
                costs=(2, 3, 3, 2),
            ),
            Book(
                name="ordinary",
                query=f"tradeType={trade_type}",
                listing=f"{api}/orders/active",
                symbols=f"{api}/order/active/symbols",
                rows=_rows("ordinary", trade_type),
                cancel=f"{api}/orders",
                read=read_word,
                state=f"{api}/orders/{{id}}?symbol={{symbol}}",
                costs=(4, 5, 5, 5),
            ),
        ),
    )


SIDES: Final[Mapping[str, Side]] = {
    "spot": Side(
        url="spot_url",
        pool="spot",
        permission="Spot",
        books=(
            _stops("TRADE"),
            Book(
                name="oco",
                listing="/api/v3/oco/orders",
                rows=RowDecoder(OcoRow, msgspec.Raw, convert=oco_order),
                legs=2,
                cancel="/api/v3/oco/orders",
                cancel_everything="/api/v3/oco/orders",
                state="/api/v3/oco/order/{id}",
                costs=(2, 3, 3, 2),
            ),
            Book(
                name="ordinary",
                listing="/api/v1/hf/orders/active",
                symbols="/api/v1/hf/orders/active/symbols",
                rows=_rows("ordinary", "TRADE"),
                cancel="/api/v1/hf/orders",
                cancel_everything="/api/v1/hf/orders/cancelAll",
                read=read_word,
                read_everything=read_symbols,
                state="/api/v1/hf/orders/{id}?symbol={symbol}",
                costs=(2, 2, 30, 2),
            ),
        ),
        switch=("/api/v1/hf/orders/dead-cancel-all", {}),
    ),
    "margin": _margin("MARGIN_TRADE"),
    # ccxt's page: this path "does not support isolated margin"; the official one does.
    "isolated": _margin("MARGIN_ISOLATED_TRADE", "400100"),
    "futures": Side(
        url="futures_url",
        pool="futures",
        permission="Futures",
        books=(
            Book(
                name="stop",
                listing="/api/v1/stopOrders",
                page_size=1000,
                rows=_rows("stop", ""),
                cancel="/api/v1/stopOrders",
                cancel_everything="/api/v1/stopOrders",
                state="/api/v1/orders/{id}",
                costs=(6, 15, 15, 5),
            ),
            Book(
                name="ordinary",
                listing="/api/v1/orders",
                list_query="status=active",  # without it: those that are done
                page_size=1000,
                rows=_rows("ordinary", ""),
                cancel="/api/v3/orders",
                cancel_everything="/api/v1/orders",
                state="/api/v1/orders/{id}",
                costs=(2, 10, 800, 5),
            ),
        ),
        switch=("/api/ua/v1/dcp/set", {"tradeType": "FUTURES"}),
    ),
}
