"""Classic accounts, by the API v2: spot, margin and futures are three families of their own.

Sources, at https://www.bitget.com/api-doc. Spot: "Cancel Order by Symbol", "Batch Cancel Orders",
"Get Current Orders", "Get Order Info", "Cancel Plan Orders in Batch", "Get Current Plan Orders",
"Get History Plan Orders". Futures: "Cancel All Orders", "Batch Cancel", "Get Pending Orders", "Get
Order Detail", "Cancel Trigger Order", "Get Pending Trigger Order", "Get History Trigger Order".
Margin, crossed and isolated: "Current Orders", "Batch Cancel Orders", "History Orders"; "Get
Support Currencies".

- Spot has ordinary orders, TP/SL orders in the same listing under another type, and plans
  (triggers) with a cancel-all of their own. Whether the cancel of a symbol reaches TP/SL is not
  documented: it is sent where both books are meant; where TP/SL are to stay, ordinary orders go by
  id.
- Futures cancel a plan type at a time, and the default is but one of them; trailing stops
  (``track_plan``) are listed but not among the documented types to cancel: they go by id.
- A plan that is triggered while its cancel is on its way becomes an ordinary order, and may do so
  after those were cancelled: the Ack does not exclude that, two listings of both books do.
- Margin has neither an account-wide cancel nor an account-wide listing: every pair is listed,
  crossed and isolated, and cancelled by id. That takes a tenth of a second for each pair.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec

from masscancel.calls import Call, Flow, Reply, Scope, Stamp
from masscancel.errors import MassCancelError
from masscancel.models import OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues.bitget.listings import BATCH, Key, Listing, cancel_listed, list_orders
from masscancel.venues.bitget.parts import Step, has_book, orders_of, parts_of
from masscancel.venues.bitget.wire import (
    Wire,
    data_of,
    decode_lists,
    decode_states,
    decode_symbol,
)
from masscancel.venues.toolkit import Answer, Part, batches, decode_json, one

_SPOT: Final = "/api/v2/spot/trade"
_MIX: Final = "/api/v2/mix/order"
_MARGIN: Final = "/api/v2/margin"
_PAIRS: Final = f"{_MARGIN}/currencies"
_MODES: Final = ("crossed", "isolated")

#: How many requests a second each path takes, of one account.
RATES: Final = {
    f"{_SPOT}/cancel-symbol-order": 5,
    f"{_SPOT}/batch-cancel-order": 10,
    f"{_SPOT}/unfilled-orders": 20,
    f"{_SPOT}/orderInfo": 20,
    f"{_SPOT}/batch-cancel-plan-order": 5,
    f"{_SPOT}/current-plan-order": 20,
    f"{_SPOT}/history-plan-order": 20,
    f"{_MIX}/cancel-all-orders": 10,
    f"{_MIX}/batch-cancel-orders": 10,
    f"{_MIX}/orders-pending": 10,
    f"{_MIX}/detail": 10,
    f"{_MIX}/cancel-plan-order": 10,
    f"{_MIX}/orders-plan-pending": 10,
    f"{_MIX}/orders-plan-history": 10,
    **{
        f"{_MARGIN}/{mode}/{what}": 10
        for mode in _MODES
        for what in ("open-orders", "batch-cancel-order", "history-orders")
    },
    **{f"{root}/cancel-order": 10 for root in (_SPOT, _MIX, f"{_MARGIN}/crossed")},
    _PAIRS: 10,
}

#: The plan types that a cancel is documented to take.
PLANS: Final = (
    "normal_plan",
    "loss_plan",
    "pos_loss",
    "profit_plan",
    "pos_profit",
    "moving_plan",
)
_TRACK: Final = "track_plan"
#: What a listing of plans is asked for; the last stands for all that are no triggers of their own.
_PLAN_LISTINGS: Final = ("normal_plan", _TRACK, "profit_loss")

#: Margin listings want to be told how far they go back; what is older than this is not seen. A
#: history's longest span is 90 days; that of open orders is not documented.
_MARGIN_SINCE_MS: Final = 89 * 86_400_000

_NORMAL: Final = Listing(
    path=f"{_SPOT}/unfilled-orders",
    query={"tpslType": "normal"},
    price="price_avg",  # the names of order price and fill price are swapped on spot
)
_TPSL: Final = msgspec.structs.replace(_NORMAL, query={"tpslType": "tpsl"}, book="stop")
_SPOT_PLANS: Final = Listing(
    path=f"{_SPOT}/current-plan-order",
    rows="order_list",
    book="stop",
    price="execute_price",
    filled="",
)


class Classic(msgspec.Struct, frozen=True):
    """The flows of a classic account.

    Attributes:
        wire: the way to the venue.
        pairs: the pairs of margin; ``None`` if they are not known.
    """

    wire: Wire
    pairs: tuple[str, ...] | None

    def has(self, scope: Scope) -> bool:
        """Whether there are such books: margin has no stop orders."""
        return scope.account_category != "margin" or has_book(scope, "ordinary")

    def cancel(self, scope: Scope) -> Flow[list[Part]]:
        """Cancel every book of a scope; those that need no listing leave first."""
        if scope.account_category == "spot":
            return (yield from parts_of(self._cancel_spot(scope)))
        if scope.account_category == "margin":
            return (yield from self._cancel_margin(scope))
        return (yield from parts_of(self._cancel_futures(scope)))

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """The listings of a scope's books, side by side."""
        if scope.account_category == "margin":
            symbols = one([(yield from self._symbols(scope))])
            flows = [
                list_orders(self.wire, _margin(mode), symbol)
                for symbol in symbols
                for mode in _MODES
            ]
        else:
            futures = scope.account_category != "spot"
            listings = _futures(scope) if futures else [_NORMAL, _TPSL, _SPOT_PLANS]
            flows = [
                list_orders(self.wire, listing, scope.symbol)
                for listing in listings
                if has_book(scope, listing.book)
            ]
        return (yield from orders_of(flows))

    def find_pairs(self, time_limit: float | None = None) -> Call[tuple[str, ...]]:
        """Ask for the pairs of margin."""
        return self.wire.ask(_PAIRS, _decode_pairs, time_limit)

    def states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> list[Call[Mapping[str, OrderState]]]:
        """A request per order; of spot's plans also one per symbol, since they have no page."""
        calls = []
        for order in orders:
            query = {"orderId": order.order_id}
            symbol = {"symbol": order.symbol}
            if account_category == "spot":
                calls.append(self._ask(f"{_SPOT}/orderInfo", query, orders))
            elif account_category == "margin":
                query |= symbol
                for mode in _MODES:
                    path = f"{_MARGIN}/{mode}/history-orders"
                    calls.append(self._ask(path, query, orders, since_ms=_MARGIN_SINCE_MS))
            elif order.book == "ordinary":
                query |= symbol | _product(account_category)
                calls.append(self._ask(f"{_MIX}/detail", query, orders))
            else:
                kind = order.order_type
                query |= symbol | _product(account_category)
                query["planType"] = kind if kind in _PLAN_LISTINGS else "profit_loss"
                calls.append(self._ask(f"{_MIX}/orders-plan-history", query, orders))
        if account_category == "spot":
            for name in sorted({order.symbol for order in orders if order.book == "stop"}):
                query = {"symbol": name, "limit": "100"}
                calls.append(self._ask(f"{_SPOT}/history-plan-order", query, orders))
        return calls

    def try_cancel(self, account_category: str, symbol: str, token: str) -> Call[Permission]:
        """``cancel-order`` of a client's id, in the family of the category."""
        root = {"spot": _SPOT, "margin": f"{_MARGIN}/crossed"}.get(account_category, _MIX)
        body = {"symbol": symbol, "clientOid": token}
        body |= _product(account_category) if root == _MIX else {}
        return self.wire.try_cancel(f"{root}/cancel-order", body)

    # --- the families ---------------------------------------------------------------------------

    def _cancel_spot(self, scope: Scope) -> list[Step]:
        steps: list[Step] = []
        by_id: list[Listing] = []
        symbol, stops = scope.symbol, has_book(scope, "stop")
        if has_book(scope, "ordinary"):
            if symbol is None or not stops:
                by_id.append(_NORMAL)
            else:
                decode = partial(decode_symbol, symbol=symbol)
                call = self.wire.cancel(f"{_SPOT}/cancel-symbol-order", {"symbol": symbol}, decode)
                steps.append((f"ordinary orders of {symbol}", call))
        if stops:
            by_id.append(_TPSL)
            plans = {} if symbol is None else {"symbolList": [symbol]}
            call = self.wire.cancel(f"{_SPOT}/batch-cancel-plan-order", plans, decode_lists)
            steps.append(("plan orders", call))
        for listing in by_id:
            flow = cancel_listed(self.wire, listing, symbol, self._cancel_on_spot)
            steps.append(("orders", flow))
        return steps

    def _cancel_futures(self, scope: Scope) -> list[Step]:
        steps: list[Step] = []
        body = _product(scope.account_category)
        if scope.symbol is not None:
            body["symbol"] = scope.symbol
        if has_book(scope, "ordinary"):
            what = "cancel-all-orders" if scope.symbol is None else "batch-cancel-orders"
            call = self.wire.cancel(f"{_MIX}/{what}", body, decode_lists)
            steps.append(("ordinary orders", call))
        if has_book(scope, "stop"):
            path = f"{_MIX}/cancel-plan-order"
            for plan in PLANS:
                call = self.wire.cancel(path, {**body, "planType": plan}, decode_lists)
                steps.append((f"orders of {plan}", call))
            cancels = partial(self._cancel_tracks, scope)
            flow = cancel_listed(self.wire, _plans(scope, _TRACK), scope.symbol, cancels)
            steps.append((f"orders of {_TRACK}", flow))
        return steps

    def _cancel_margin(self, scope: Scope) -> Flow[list[Part]]:
        symbols = yield from self._symbols(scope)
        if isinstance(symbols, MassCancelError):
            return [Part([symbols], ["margin orders, whose pairs could not be listed"])]
        steps: list[Step] = []
        for symbol in symbols:
            for mode in _MODES:
                cancels = partial(self._cancel_on_margin, mode, symbol)
                flow = cancel_listed(self.wire, _margin(mode), symbol, cancels)
                steps.append((f"{mode} orders of {symbol}", flow))
        return (yield from parts_of(steps))

    def _symbols(self, scope: Scope) -> Flow[Sequence[str] | MassCancelError]:
        """The pairs of a scope of margin; what entry could not find out is asked for now."""
        if scope.symbol is not None:
            return [scope.symbol]
        if self.pairs is not None:
            return self.pairs
        (pairs,) = yield [self.find_pairs()]
        found: Sequence[str] | MassCancelError = pairs
        return found

    # --- cancels by id --------------------------------------------------------------------------

    def _cancel_on_spot(self, keys: Sequence[Key]) -> list[tuple[Sequence[str], Call[Answer]]]:
        path = f"{_SPOT}/batch-cancel-order"
        return [
            self._by_id(
                path,
                some,
                {
                    "batchMode": "multiple",
                    "orderList": [{"symbol": k.symbol, "orderId": k.order_id} for k in some],
                },
            )
            for some in batches(keys, BATCH)
        ]

    def _cancel_on_margin(
        self, mode: str, symbol: str, keys: Sequence[Key]
    ) -> list[tuple[Sequence[str], Call[Answer]]]:
        path = f"{_MARGIN}/{mode}/batch-cancel-order"
        return [
            self._by_id(path, some, {"symbol": symbol, "orderIdList": _ids(some)})
            for some in batches(keys, BATCH)
        ]

    def _cancel_tracks(
        self, scope: Scope, keys: Sequence[Key]
    ) -> list[tuple[Sequence[str], Call[Answer]]]:
        path = f"{_MIX}/cancel-plan-order"
        body = {**_product(scope.account_category), "planType": _TRACK}
        symbol = attrgetter("symbol")
        return [
            self._by_id(path, some, {**body, "symbol": name, "orderIdList": _ids(some)})
            for name, group in groupby(sorted(keys, key=symbol), symbol)
            for some in batches(list(group), BATCH)
        ]

    def _by_id(
        self, path: str, keys: Sequence[Key], body: Mapping[str, Any]
    ) -> tuple[Sequence[str], Call[Answer]]:
        asked = {key.order_id: key.client_id for key in keys}
        return tuple(asked), self.wire.cancel(path, body, partial(decode_lists, asked=asked))

    def _ask(
        self,
        path: str,
        query: Mapping[str, str],
        orders: Sequence[OpenOrder | OrderUpdate],
        **more: Any,
    ) -> Call[Mapping[str, OrderState]]:
        ids = [order.order_id for order in orders]
        return self.wire.get(path, query, partial(decode_states, ids=ids), **more)


def _ids(keys: Sequence[Key]) -> list[dict[str, str]]:
    return [{"orderId": key.order_id} for key in keys]


def _product(account_category: str) -> dict[str, str]:
    return {"productType": account_category.upper()}


def _futures(scope: Scope) -> list[Listing]:
    """Ordinary orders in each of their two states: without one, it is not clear that both are."""
    ordinary = [
        Listing(
            path=f"{_MIX}/orders-pending",
            query={**_product(scope.account_category), "status": status},
            rows="entrusted_list",
        )
        for status in ("live", "partially_filled")
    ]
    return [*ordinary, *(_plans(scope, plan) for plan in _PLAN_LISTINGS)]


def _plans(scope: Scope, plan: str) -> Listing:
    return Listing(
        path=f"{_MIX}/orders-plan-pending",
        query={**_product(scope.account_category), "planType": plan},
        rows="entrusted_list",
        book="stop",
        price="execute_price",
        filled="",
        kind="plan_type",
        status="plan_status",
    )


def _margin(mode: str) -> Listing:
    """Crossed has pages; isolated names no parameter for them, so that a full page may be cut."""
    pages = mode == "crossed"
    return Listing(
        path=f"{_MARGIN}/{mode}/open-orders",
        rows="order_list",
        cursor="idLessThan" if pages else "",
        size=100 if pages else 500,
        since_ms=_MARGIN_SINCE_MS,
        quantity="base_size",
        filled="size",
    )


class _Pair(msgspec.Struct):
    symbol: str


_PAIR_ROWS: Final = msgspec.json.Decoder(tuple[_Pair, ...])


def _decode_pairs(reply: Reply, stamp: Stamp) -> tuple[str, ...]:
    rows: tuple[_Pair, ...] = decode_json(_PAIR_ROWS, reply, data_of(reply, stamp.time_ms))
    return tuple(row.symbol for row in rows)
