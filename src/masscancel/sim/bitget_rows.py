"""The rows of Bitget's listings, with the odd values that the documents' samples have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from masscancel.sim.orders import Order, Status

if TYPE_CHECKING:
    from decimal import Decimal

STATUSES: Final = {
    Status.NEW: "live",
    Status.PARTIALLY_FILLED: "partially_filled",
    Status.FILLED: "filled",
    Status.CANCELED: "cancelled",
    Status.REJECTED: "reject",
}


def plain(number: Decimal) -> str:
    """Write a number as the venue does."""
    return format(number, "f")


def named(order_id: str) -> dict[str, str]:
    """Name an order by both of its ids."""
    return {"orderId": order_id, "clientOid": f"c-{order_id}"}


def spot_row(order: Order, kind: str) -> dict[str, Any]:
    """Show an order of spot; `priceAvg` is its price, and the symbol is in lower case."""
    return named(order.order_id) | {
        "userId": "**********",
        "symbol": order.symbol.lower(),
        "priceAvg": plain(order.price),
        "size": plain(order.quantity),
        "orderType": "limit",
        "side": order.side,
        "status": STATUSES[order.status],
        "basePrice": "0",
        "baseVolume": plain(order.filled_quantity),
        "quoteVolume": "0",
        "enterPointSource": "WEB",
        "presetTakeProfitPrice": "70000",
        "executeTakeProfitPrice": "",
        "cTime": str(order.placed_ms),
        "tpslType": kind,
        "triggerPrice": plain(order.price) if kind == "tpsl" else None,
    }


def plan_row(order: Order, status: str) -> dict[str, Any]:
    """Show a trigger order of spot or of futures."""
    return named(order.order_id) | {
        "planType": "amount" if order.order_type == "plan" else order.order_type,
        "symbol": order.symbol,
        "size": plain(order.quantity),
        "price": "",
        "executePrice": "" if order.order_type == "track_plan" else plain(order.price),
        "callbackRatio": "",
        "triggerPrice": plain(order.price),
        "triggerType": "mark_price",
        "planStatus": status,
        "status": status,
        "side": order.side,
        "posSide": "long",
        "orderType": "limit",
        "cTime": str(order.placed_ms),
        "uTime": "",
    }


def mix_row(order: Order) -> dict[str, Any]:
    """Show an ordinary order of futures."""
    return named(order.order_id) | {
        "symbol": order.symbol.lower(),
        "size": plain(order.quantity),
        "baseVolume": plain(order.filled_quantity),
        "fee": "",
        "price": plain(order.price),
        "priceAvg": "",
        "status": STATUSES[order.status],
        "side": order.side,
        "force": "gtc",
        "totalProfits": "",
        "posSide": "long",
        "marginCoin": "usdt",
        "reduceOnly": "YES" if order.reduce_only else "NO",
        "orderType": "limit",
        "cTime": str(order.placed_ms),
    }


def margin_row(order: Order) -> dict[str, Any]:
    """Show an order of margin; `size` is what has been filled."""
    return named(order.order_id) | {
        "symbol": order.symbol,
        "orderType": "limit",
        "loanType": "normal",
        "price": plain(order.price),
        "side": order.side,
        "status": STATUSES[order.status].replace("partially_filled", "partial_fill"),
        "baseSize": plain(order.quantity),
        "quoteSize": plain(order.quantity * order.price),
        "priceAvg": "0",
        "size": plain(order.filled_quantity),
        "amount": "0",
        "force": "gtc",
        "cTime": str(order.placed_ms),
    }


def unified_row(order: Order) -> dict[str, Any]:
    """Show an ordinary order of a unified account."""
    return named(order.order_id) | {
        "category": order.category.upper(),
        "symbol": order.symbol,
        "orderType": "limit",
        "side": order.side,
        "price": plain(order.price),
        "qty": plain(order.quantity),
        "amount": "0",
        "cumExecQty": plain(order.filled_quantity),
        "cumExecValue": "0",
        "avgPrice": "0",
        "timeInForce": "gtc",
        "orderStatus": STATUSES[order.status].replace("live", "new"),
        "posSide": "",
        "reduceOnly": "YES" if order.reduce_only else "NO",
        "feeDetail": [{"feeCoin": None, "fee": None}],
        "createdTime": str(order.placed_ms),
    }


def strategy_row(order: Order) -> dict[str, Any]:
    """Show a strategy order; one of the type `tpsl` has no side."""
    row = named(order.order_id) | {
        "category": order.category.upper(),
        "symbol": order.symbol,
        "qty": plain(order.quantity),
        "posSide": "long",
        "tpTriggerBy": "market",
        "takeProfit": plain(order.price),
        "stopLoss": "",
        "tpOrderType": "market",
        "status": "pending" if order.status.is_open else STATUSES[order.status],
        "createdTime": str(order.placed_ms),
    }
    return row if order.order_type == "tpsl" else row | {"side": order.side}
