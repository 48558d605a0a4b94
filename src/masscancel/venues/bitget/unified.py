"""Unified accounts, by the API v3.

Sources: "Cancel All Orders", "Get Open Orders", "Get Order Details", "Cancel Strategy Order",
"Unfilled Strategy Orders" and "History Strategy Orders" of https://www.bitget.com/api-doc/uta. That
strategy orders exist on spot and margin, and are of two types, is of the official page's later
text and of the SDK ``tiagosiebler/bitget-api``.

One call cancels the ordinary orders of a category, or of a symbol in it. Strategy orders (TP/SL,
triggers) are in a book of their own, listed by category, and cancelled one by one.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from masscancel.calls import Call, Flow, Scope
from masscancel.models import OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues.bitget.listings import Key, Listing, cancel_listed, list_orders
from masscancel.venues.bitget.parts import Step, has_book, orders_of, parts_of
from masscancel.venues.bitget.wire import (
    Wire,
    decode_done,
    decode_list,
    decode_states,
)
from masscancel.venues.toolkit import Answer, Part

_CANCEL: Final = "/api/v3/trade/cancel-symbol-order"
_CANCEL_ORDER: Final = "/api/v3/trade/cancel-order"
_CANCEL_STRATEGY: Final = "/api/v3/trade/cancel-strategy-order"
_ORDERS: Final = "/api/v3/trade/unfilled-orders"
_STRATEGIES: Final = "/api/v3/trade/unfilled-strategy-orders"
_ORDER: Final = "/api/v3/trade/order-info"
_HISTORY: Final = "/api/v3/trade/history-strategy-orders"

#: How many requests a second each path takes, of one account.
RATES: Final = {
    _CANCEL: 5,
    _CANCEL_ORDER: 10,
    _CANCEL_STRATEGY: 10,
    _ORDERS: 20,
    _STRATEGIES: 20,
    _ORDER: 20,
    _HISTORY: 20,
}

#: What a listing of strategy orders is asked for; without one of them, it is not documented which.
_TYPES: Final = ("tpsl", "trigger")


class Unified(msgspec.Struct, frozen=True):
    """The flows of a unified account.

    Attributes:
        wire: the way to the venue.
    """

    wire: Wire

    def cancel(self, scope: Scope) -> Flow[list[Part]]:
        """One call for the ordinary book; the strategies one by one, after their listings."""
        steps: list[Step] = []
        if has_book(scope, "ordinary"):
            body = {"category": scope.account_category.upper()}
            if scope.symbol is not None:
                body["symbol"] = scope.symbol
            steps.append(("ordinary orders", self.wire.cancel(_CANCEL, body, decode_list)))
        if has_book(scope, "stop"):
            steps += [
                ("orders", cancel_listed(self.wire, listing, scope.symbol, self._cancels))
                for listing in _strategies(scope)
            ]
        return (yield from parts_of(steps))

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """The listings of a scope's books, side by side."""
        listings = [_ordinary(scope)] if has_book(scope, "ordinary") else []
        listings += _strategies(scope) if has_book(scope, "stop") else []
        flows = [list_orders(self.wire, listing, scope.symbol) for listing in listings]
        return (yield from orders_of(flows))

    def states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> list[Call[Mapping[str, OrderState]]]:
        """A request per ordinary order, and one per type of strategy for all of them."""
        ordinary = [order.order_id for order in orders if order.book == "ordinary"]
        calls = [
            self.wire.get(_ORDER, {"orderId": name}, partial(decode_states, ids=(name,)))
            for name in ordinary
        ]
        ids = [order.order_id for order in orders if order.book != "ordinary"]
        for kind in _TYPES if ids else ():
            query = {"category": account_category.upper(), "type": kind, "limit": "100"}
            calls.append(self.wire.get(_HISTORY, query, partial(decode_states, ids=ids)))
        return calls

    def try_cancel(self, account_category: str, symbol: str, token: str) -> Call[Permission]:
        """``cancel-order`` of a client's id."""
        del symbol  # is not asked for
        body = {"clientOid": token, "category": account_category.upper()}
        return self.wire.try_cancel(_CANCEL_ORDER, body)

    def _cancels(self, keys: Sequence[Key]) -> list[tuple[Sequence[str], Call[Answer]]]:
        return [
            (
                (key.order_id,),
                self.wire.cancel(_CANCEL_STRATEGY, {"orderId": key.order_id}, decode_done),
            )
            for key in keys
        ]


def _ordinary(scope: Scope) -> Listing:
    return Listing(
        path=_ORDERS,
        query={"category": scope.account_category.upper()},
        rows="list",
        cursor="cursor",
        quantity="qty",
        filled="cum_exec_qty",
        status="order_status",
    )


def _strategies(scope: Scope) -> list[Listing]:
    return [
        Listing(
            path=_STRATEGIES,
            query={"category": scope.account_category.upper(), "type": kind},
            cursor="",
            size=0,
            by_symbol=False,
            book="stop",
            price="",
            quantity="qty",
            filled="",
            kind=kind,
            tells_side=False,
        )
        for kind in _TYPES
    ]
