"""The Binance dialect: spot, and USDⓈ-M futures. Their paths differ, so one origin serves both.

Written from the venue's documents (`binance/binance-spot-api-docs`, and the pages of
https://developers.binance.com/docs/derivatives/usds-margined-futures), sharing no code with the
client.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from masscancel.sim.dialect import Reply, Request, Route, StreamRoute, json_reply
from masscancel.sim.orders import Account, Order, Status

if TYPE_CHECKING:
    import random

    from masscancel.sim.engine import Engine

CONDITIONAL: Final = frozenset(
    {"stop", "stop_market", "take_profit", "take_profit_market", "trailing_stop_market"}
)
"""The `order_type` of futures' orders that live in the algo book; others are in the ordinary one.
On spot there is one book for all."""

_ROOTS: Final = {"spot": "/api/v3", "usdm": "/fapi/v1"}
_DEFAULT_WINDOW_MS: Final = 5_000
_MAX_WINDOW_MS: Final = 60_000
_AHEAD_MS: Final = 1_000
_STATUSES: Final = {
    Status.NEW: "NEW",
    Status.PARTIALLY_FILLED: "PARTIALLY_FILLED",
    Status.FILLED: "FILLED",
    Status.CANCELED: "CANCELED",
    Status.REJECTED: "REJECTED",
}
_ALGO_STATUSES: Final = _STATUSES | {
    Status.PARTIALLY_FILLED: "TRIGGERED",
    Status.FILLED: "FINISHED",
}
"""What a conditional order has become; a fill is that of the order it was triggered into."""
_KEPT: Final = (
    *("symbol", "orderId", "orderListId", "price", "origQty", "executedQty", "origQuoteOrderQty"),
    *("cummulativeQuoteQty", "timeInForce", "type", "side", "selfTradePreventionMode"),
)
"""What a cancelled order's row has of a listed one's."""
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,3})?")
_LEGAL: Final = re.compile(r"[A-Z0-9_.\-\u0080-\U0010ffff]{1,50}")


class Refusal(Exception):  # a refused request is an answer, not a failure of ours
    """The venue says no."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class _Call(msgspec.Struct, frozen=True):
    """A request that has been let in: whose it is, and its parameters."""

    engine: Engine
    request: Request
    account: Account
    category: str
    fields: Mapping[str, str]


_Action = Callable[[_Call], Any]


def signature(secret: str, payload: str) -> str:
    """Sign as the documents say: lower-case hex of HMAC-SHA256, the key being the secret as text.

    The payload is the query string and the body, as they are sent, one right after the other.
    """
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


class BinanceDialect:
    """Binance, as its documents describe it.

    `symbols` are those that exist (None: every well-formed one). Futures answer a cancel with 200
    where nothing is open (`flat_is_an_error` makes it -2011, as on spot: the documents do not say).
    """

    name: Final = "binance"
    categories: Final[Mapping[str, str]] = {"spot": "spt", "usdm": "usd"}

    def __init__(
        self, *, symbols: Iterable[str] | None = None, flat_is_an_error: bool = False
    ) -> None:
        self.symbols = None if symbols is None else frozenset(symbols)
        self.flat_is_an_error = flat_is_an_error
        self._countdowns: dict[tuple[str, str], object] = {}  # the latest of each book and symbol

    # --- the dialect ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Offer what a cancel-all needs. Both books of futures share the operations' names."""
        return [
            *(Route("GET", f"{root}/time", "clock", _clock) for root in _ROOTS.values()),
            *(Route("GET", f"{root}/ping", "ping", _ping) for root in _ROOTS.values()),
            self._route("GET", "spot", "openOrders", "open-orders", self._spot_orders),
            self._route("DELETE", "spot", "openOrders", "cancel-all", self._cancel_spot),
            self._route("GET", "usdm", "openOrders", "open-orders", self._usdm_orders),
            self._route("GET", "usdm", "openAlgoOrders", "open-orders", self._algo_orders),
            self._route("DELETE", "usdm", "allOpenOrders", "cancel-all", self._cancel_usdm),
            self._route("DELETE", "usdm", "algoOpenOrders", "cancel-all", self._cancel_algo),
            self._route("POST", "usdm", "countdownCancelAll", "switch", self._countdown),
            Route("GET", "/sapi/v1/account/apiRestrictions", "key", self._key),
            self._route("DELETE", "spot", "order", "cancel-order", self._cancel_one),
            self._route("DELETE", "usdm", "order", "cancel-order", self._cancel_one),
            self._route("GET", "spot", "order", "order-status", self._spot_order),
            self._route("GET", "usdm", "order", "order-status", self._usdm_order),
            self._route("GET", "usdm", "algoOrder", "order-status", self._algo_order),
        ]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer none."""
        return []

    def api_key(self, request: Request) -> str:
        """Tell the key that the request claims."""
        return request.headers.get("x-mbx-apikey", "")

    def unknown(self, _request: Request) -> Reply:
        """Answer 404, which is the gateway's, not the venue's."""
        page = b"<html><body><h2>404 Not found</h2></body></html>"
        return Reply(404, page, (("Content-Type", "text/html"),))

    def order_id(self, _rng: random.Random, serial: int) -> str:
        """Make an id, which is a number."""
        return str(8_886_000_000 + serial)

    # --- letting requests in --------------------------------------------------------------------

    def _route(
        self, method: str, category: str, path: str, operation: str, action: _Action
    ) -> Route:
        handler = partial(self._answer, category, action)
        return Route(method, f"{_ROOTS[category]}/{path}", operation, handler)

    def _answer(self, category: str, action: _Action, engine: Engine, request: Request) -> Reply:
        try:
            account = _authenticate(engine, request, category)
            fields = request.form | request.query  # of a name in both, the query counts
            return json_reply(action(_Call(engine, request, account, category, fields)))
        except Refusal as refusal:
            body = {"code": refusal.code, "msg": refusal.message}
            return json_reply(body, refusal.status)

    def _symbol(self, call: _Call) -> str:
        symbol = call.fields.get("symbol", "")
        if not symbol:
            raise Refusal(-1102, _missing("symbol"))
        if not _LEGAL.fullmatch(symbol):
            raise Refusal(-1100, "Illegal characters found in parameter 'symbol'.")
        if self.symbols is not None and symbol not in self.symbols:
            raise Refusal(-1121, "Invalid symbol.")
        return symbol

    # --- orders ---------------------------------------------------------------------------------

    def _open(self, call: _Call, *, algo: bool | None = None) -> list[Order]:
        """List the orders of a book, and of a symbol if one is asked for."""
        symbol = self._symbol(call) if "symbol" in call.fields else None
        orders = call.engine.open_orders(call.account, call.category, symbol)
        return [order for order in orders if algo is None or _is_conditional(order) is algo]

    def _spot_orders(self, call: _Call) -> list[dict[str, Any]]:
        return [_spot_row(order, call) for order in self._open(call)]

    def _usdm_orders(self, call: _Call) -> list[dict[str, Any]]:
        return [_usdm_row(order, call) for order in self._open(call, algo=False)]

    def _algo_orders(self, call: _Call) -> list[dict[str, Any]]:
        return [_algo_row(order, call) for order in self._open(call, algo=True)]

    def _spot_order(self, call: _Call) -> dict[str, Any]:
        return _spot_row(self._named(call, "orderId", symbol=self._symbol(call)), call)

    def _usdm_order(self, call: _Call) -> dict[str, Any]:
        order = self._named(call, "orderId", symbol=self._symbol(call), algo=False)
        return _usdm_row(order, call)

    def _algo_order(self, call: _Call) -> dict[str, Any]:
        return _algo_row(self._named(call, "algoId", algo=True), call)

    def _named(
        self, call: _Call, parameter: str, *, symbol: str | None = None, algo: bool | None = None
    ) -> Order:
        """Find the order that is asked for, in its symbol and book, whatever has become of it."""
        order_id = call.fields.get(parameter, "")
        if not _WHOLE.fullmatch(order_id):
            raise Refusal(-1102, _missing(parameter))
        order = call.engine.order(order_id)
        if (
            order is None
            or order.account_id != call.account.ids[call.category]
            or order.status is Status.PENDING
            or symbol not in (None, order.symbol)
            or algo not in (None, _is_conditional(order))
        ):
            raise Refusal(-2013, "Order does not exist.")
        return order

    def _cancel_spot(self, call: _Call) -> list[dict[str, Any]]:
        moment = call.request.moment
        cancel = call.engine.cancel_all(
            call.account,
            "spot",
            self._symbol(call),
            now_ms=moment.now_ms,
            effect_delay_ms=moment.effect_delay_ms,
        )
        if not cancel.order_ids:
            raise Refusal(-2011, "Unknown order sent.")
        reached = (call.engine.order(order_id) for order_id in cancel.order_ids)
        return [_cancelled_row(order, call) for order in reached if order is not None]

    def _cancel_one(self, call: _Call) -> dict[str, Any]:
        """Cancel one order, by its id or the client's; what has neither names none."""
        symbol, order_id = self._symbol(call), call.fields.get("orderId", "")
        client_id = call.fields.get("origClientOrderId", "")
        if not order_id and not client_id:
            raise Refusal(-1102, "Param 'origClientOrderId' or 'orderId' must be sent.")
        for order in call.engine.open_orders(call.account, call.category, symbol):
            if order_id == order.order_id or (not order_id and client_id == order.client_id):
                call.engine.cancel(order.order_id, now_ms=call.request.moment.now_ms)
                return (_spot_row if call.category == "spot" else _usdm_row)(order, call)
        raise Refusal(-2011, "Unknown order sent.")

    def _key(self, engine: Engine, request: Request) -> Reply:
        """Tell what the key may do, on all sides, and from where."""
        account = engine.accounts.get(self.api_key(request))
        try:
            _authenticate(engine, request, next(iter(account.ids), "spot") if account else "spot")
        except Refusal as refusal:
            return json_reply({"code": refusal.code, "msg": refusal.message}, refusal.status)
        assert account is not None  # noqa: S101  # for the type checker: it was let in
        trades = "trade" in account.permissions
        return json_reply(
            {
                "ipRestrict": bool(account.extra.get("addresses")),
                "createTime": 1_698_645_219_000,
                "enableReading": True,
                "enableWithdrawals": False,
                "enableInternalTransfer": False,
                "enableMargin": False,
                "enableFutures": trades and "usdm" in account.ids,
                "permitsUniversalTransfer": False,
                "enableVanillaOptions": False,
                "enableSpotAndMarginTrading": trades and "spot" in account.ids,
                "enablePortfolioMarginTrading": False,
            }
        )

    def _cancel_usdm(self, call: _Call) -> dict[str, Any]:
        return self._cancel_book(call, algo=False)

    def _cancel_algo(self, call: _Call) -> dict[str, Any]:
        return self._cancel_book(call, algo=True)

    def _cancel_book(self, call: _Call, *, algo: bool) -> dict[str, Any]:
        moment = call.request.moment
        cancel = call.engine.cancel_all(
            call.account,
            "usdm",
            self._symbol(call),
            now_ms=moment.now_ms,
            effect_delay_ms=moment.effect_delay_ms,
            only=partial(_of_book, algo=algo),
        )
        if not cancel.order_ids and self.flat_is_an_error:
            raise Refusal(-2011, "Unknown order sent.")
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def _countdown(self, call: _Call) -> dict[str, Any]:
        """Arm the switch of a symbol; it leaves the algo book alone, nothing else is documented."""
        symbol = self._symbol(call)
        asked = call.fields.get("countdownTime", "")
        if not _WHOLE.fullmatch(asked):
            raise Refusal(-1102, _missing("countdownTime"))
        engine, account = call.engine, call.account
        book, token = (account.ids["usdm"], symbol), object()
        self._countdowns[book] = token

        def fire() -> None:
            if self._countdowns.get(book) is token:
                del self._countdowns[book]
                only = partial(_of_book, algo=False)
                engine.cancel_all(account, "usdm", symbol, now_ms=engine.now_ms, only=only)

        if int(asked):
            engine.schedule(int(asked), fire)
        else:
            del self._countdowns[book]
        return {"symbol": symbol, "countdownTime": asked}


def _authenticate(engine: Engine, request: Request, category: str) -> Account:
    """Tell whose request this is; check its time, its signature and what the key may do."""
    key = request.headers.get("x-mbx-apikey", "")
    if not key:
        raise Refusal(-2014, "API-key format invalid.", 401)
    fields = request.form | request.query
    account = engine.accounts.get(key)
    needed = "view" if request.method == "GET" else "trade"
    if account is None or category not in account.ids or needed not in account.permissions:
        caller = f", request ip: {request.remote}" if category == "usdm" else "."
        raise Refusal(-2015, f"Invalid API-key, IP, or permissions for action{caller}", 401)
    _check_time(fields, request.moment.venue_ms)
    if not fields.get("signature"):
        raise Refusal(-1102, _missing("signature"))
    sent = request.query_string + request.body.decode("latin-1")
    payload, _, signed = sent.rpartition("&signature=")  # it is the last
    expected = signature(account.api_secret, payload)
    if not sent.isascii() or not hmac.compare_digest(signed.lower().encode(), expected.encode()):
        raise Refusal(-1022, "Signature for this request is not valid.")
    return account


def _check_time(fields: Mapping[str, str], venue_ms: int) -> None:
    """Check `timestamp` against `recvWindow`, both in ms, as "Timing security" has it."""
    timestamp, window = fields.get("timestamp", ""), fields.get("recvWindow")
    if not _WHOLE.fullmatch(timestamp):
        raise Refusal(-1102, _missing("timestamp"))
    if window is not None and not _MILLISECONDS.fullmatch(window):
        raise Refusal(-1102, _missing("recvWindow"))
    window_ms = Decimal(_DEFAULT_WINDOW_MS if window is None else window)
    if window_ms > _MAX_WINDOW_MS:
        raise Refusal(-1131, f"recvWindow must be less than {_MAX_WINDOW_MS}")
    if int(timestamp) >= venue_ms + _AHEAD_MS:
        raise Refusal(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if venue_ms - int(timestamp) > window_ms:
        raise Refusal(-1021, "Timestamp for this request is outside of the recvWindow.")


def _missing(name: str) -> str:
    return f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


def _clock(_engine: Engine, request: Request) -> Reply:
    return json_reply({"serverTime": request.moment.venue_ms})


def _ping(_engine: Engine, _request: Request) -> Reply:
    return json_reply({})


def _is_conditional(order: Order) -> bool:
    return order.order_type.lower() in CONDITIONAL


def _of_book(order: Order, *, algo: bool) -> bool:
    """Tell whether a futures order is in that book."""
    return _is_conditional(order) is algo


def _plain(number: Decimal) -> str:
    return format(number, "f")


def _spot_row(order: Order, call: _Call) -> dict[str, Any]:
    """Show an order as spot's `GET /api/v3/openOrders` does."""
    skew_ms = call.request.moment.skew_ms
    return {
        "symbol": order.symbol,
        "orderId": int(order.order_id),
        "orderListId": -1,
        "clientOrderId": order.client_id or f"x-{order.order_id}",
        "price": _plain(order.price),
        "origQty": _plain(order.quantity),
        "executedQty": _plain(order.filled_quantity),
        "cummulativeQuoteQty": _plain(order.filled_quantity * order.price),
        "status": _STATUSES[order.status],
        "timeInForce": "GTC",
        "type": order.order_type.upper(),
        "side": order.side.upper(),
        "stopPrice": "0.0",
        "icebergQty": "0.0",
        "time": order.placed_ms + skew_ms,
        "updateTime": order.changed_ms + skew_ms,
        "isWorking": True,
        "origQuoteOrderQty": "0.000000",
        "workingTime": order.placed_ms + skew_ms,
        "selfTradePreventionMode": "NONE",
    }


def _cancelled_row(order: Order, call: _Call) -> dict[str, Any]:
    """Show an order as spot's `DELETE /api/v3/openOrders` does."""
    row = _spot_row(order, call)
    return {name: row[name] for name in _KEPT} | {
        "origClientOrderId": row["clientOrderId"],
        "clientOrderId": f"c-{order.order_id}",
        "transactTime": call.request.moment.venue_ms,
        "status": "CANCELED",
    }


def _usdm_row(order: Order, call: _Call) -> dict[str, Any]:
    """Show an order as futures' `GET /fapi/v1/openOrders` does."""
    skew_ms = call.request.moment.skew_ms
    return {
        "avgPrice": _plain(order.price) if order.filled_quantity else "0.00000",
        "clientOrderId": order.client_id or f"x-{order.order_id}",
        "cumQuote": _plain(order.filled_quantity * order.price),
        "executedQty": _plain(order.filled_quantity),
        "orderId": int(order.order_id),
        "origQty": _plain(order.quantity),
        "origType": order.order_type.upper(),
        "price": _plain(order.price),
        "reduceOnly": order.reduce_only,
        "side": order.side.upper(),
        "positionSide": "BOTH",
        "status": _STATUSES[order.status],
        "stopPrice": "0",
        "closePosition": False,
        "symbol": order.symbol,
        "time": order.placed_ms + skew_ms,
        "timeInForce": "GTC",
        "type": order.order_type.upper(),
        "updateTime": order.changed_ms + skew_ms,
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "NONE",
        "goodTillDate": 0,
    }


def _algo_row(order: Order, call: _Call) -> dict[str, Any]:
    """Show an order as futures' `GET /fapi/v1/openAlgoOrders` does."""
    skew_ms = call.request.moment.skew_ms
    return {
        "algoId": int(order.order_id),
        "clientAlgoId": order.client_id or f"x-{order.order_id}",
        "algoType": "CONDITIONAL",
        "orderType": order.order_type.upper(),
        "symbol": order.symbol,
        "side": order.side.upper(),
        "positionSide": "BOTH",
        "timeInForce": "GTC",
        "quantity": _plain(order.quantity),
        "algoStatus": _ALGO_STATUSES[order.status],
        "actualOrderId": "",
        "actualPrice": "0.00000",
        "triggerPrice": _plain(order.price),
        "price": _plain(order.price),
        "icebergQuantity": None,
        "tpTriggerPrice": "0.000",
        "tpPrice": "0.000",
        "slTriggerPrice": "0.000",
        "slPrice": "0.000",
        "tpOrderType": "",
        "selfTradePreventionMode": "NONE",
        "workingType": "CONTRACT_PRICE",
        "priceMatch": "NONE",
        "closePosition": False,
        "priceProtect": False,
        "reduceOnly": order.reduce_only,
        "createTime": order.placed_ms + skew_ms,
        "updateTime": order.changed_ms + skew_ms,
        "triggerTime": 0,
        "goodTillDate": 0,
    }
