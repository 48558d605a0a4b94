"""The KuCoin dialect: spot, cross and isolated margin, and futures of a classic account.

Written from the venue's documents (`Kucoin/kucoin-api-docs`, and the specification of
`Kucoin/kucoin-universal-sdk`), sharing no code with the client. The paths of its two hosts differ,
so one origin serves both. Where the documents are silent, this is what it does: the legs of OCO
orders are among the stop orders, and go with them; ended OCO orders stay listed; a stop order that
was cancelled is told of as `CANCELLED`, as the legs of OCO orders are.
"""

from __future__ import annotations

import base64
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

STOPS: Final = frozenset({"stop", "limit_stop", "market_stop"})
"""The `order_type` of orders in the stop book; `oco` is in the OCO book, any other is ordinary."""

_TRADE_TYPES: Final = {
    "TRADE": "spot",
    "MARGIN_TRADE": "margin",
    "MARGIN_ISOLATED_TRADE": "isolated",
}
_WINDOW_MS: Final = 5_000
_LARGEST_PAGE: Final = 1_000
_NUMBER: Final = re.compile(r"[0-9]{1,6}")
_MARGIN: Final = "/api/v3/hf/margin"


class Refusal(Exception):  # a refused request is an answer, not a failure of ours
    """The venue says no."""

    def __init__(self, code: str, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class _Call(msgspec.Struct, frozen=True):
    """A request that has been let in: whose it is, and what it asks for in its query."""

    engine: Engine
    request: Request
    account: Account
    category: str

    @property
    def query(self) -> dict[str, str]:
        return self.request.query


_Action = Callable[[_Call], Any]


def signature(secret: str, text: str) -> str:
    """Sign as the documents say: Base64 of HMAC-SHA256, the key being the secret as text."""
    return base64.b64encode(
        hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    ).decode()


class KuCoinDialect:
    """KuCoin, as its documents describe it.

    `symbols` are those that exist (None: every one). Cancels of the `suspended` ones fail: within
    a success where everything is cancelled, with a code of their own where one symbol is.
    `largest_page` is the most that a page holds, whatever is asked for. `mode` is
    what kind the accounts are.
    """

    name: Final = "kucoin"
    categories: Final[Mapping[str, str]] = {
        "spot": "spt",
        "margin": "mgn",
        "isolated": "iso",
        "futures": "fut",
    }

    def __init__(
        self,
        *,
        symbols: Iterable[str] | None = None,
        suspended: Iterable[str] = (),
        largest_page: int = _LARGEST_PAGE,
        mode: str = "CLASSIC",
    ) -> None:
        self.symbols = None if symbols is None else frozenset(symbols)
        self.suspended = frozenset(suspended)
        self.largest_page = largest_page
        self.mode = mode
        self._switches: dict[str, object] = {}  # the latest of each account id

    # --- the dialect ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Offer what a cancel-all needs, on each of its books."""
        spot, margin, futures = "spot", "", "futures"  # margin: as the trade type says
        return [
            Route("GET", "/api/v1/timestamp", "clock", _clock),
            self._route("GET", spot, "/api/ua/v1/account/mode", "info", self._mode),
            self._route("GET", spot, "/api/v1/user/api-key", "info", self._key),
            # ordinary orders
            self._route("DELETE", spot, "/api/v1/hf/orders/cancelAll", "cancel-all", self._all),
            self._route("DELETE", spot, "/api/v1/hf/orders", "cancel-all", self._one),
            self._route("DELETE", margin, f"{_MARGIN}/orders", "cancel-all", self._one),
            self._route("DELETE", futures, "/api/v1/orders", "cancel-all", self._ids),
            self._route("DELETE", futures, "/api/v3/orders", "cancel-all", self._ids_of_one),
            self._route("GET", spot, "/api/v1/hf/orders/active/symbols", "symbols", self._active),
            *(
                self._route("DELETE", each, f"{path}/client-order/{{id}}", "cancel-order", action)
                for action in [self._client_order]
                for each, path in (
                    (spot, "/api/v1/hf/orders"),
                    ("any", f"{_MARGIN}/orders"),
                    (futures, "/api/v1/orders"),
                )
            ),
            self._list(spot, "/api/v1/hf/orders/active", self._orders),
            self._route("GET", margin, f"{_MARGIN}/order/active/symbols", "symbols", self._active),
            self._list(margin, f"{_MARGIN}/orders/active", self._orders),
            self._list(futures, "/api/v1/orders", self._futures_page),
            # stop orders
            self._route("DELETE", margin, "/api/v1/stop-order/cancel", "cancel-all", self._stops),
            self._route(
                "DELETE", margin, f"{_MARGIN}/stop-order/cancel", "cancel-all", self._all_stops
            ),
            self._route("DELETE", futures, "/api/v1/stopOrders", "cancel-all", self._all_stops),
            self._list(margin, "/api/v1/stop-order", self._stop_page),
            self._list(margin, f"{_MARGIN}/stop-orders", self._stop_page),
            self._list(futures, "/api/v1/stopOrders", self._futures_stop_page),
            # OCO orders
            self._route("DELETE", spot, "/api/v3/oco/orders", "cancel-all", self._ocos),
            self._route("DELETE", margin, f"{_MARGIN}/oco-order/cancel", "cancel-all", self._ocos),
            self._list(spot, "/api/v3/oco/orders", self._oco_page),
            self._list(margin, f"{_MARGIN}/oco-orders", self._oco_page),
            # one order
            self._state(spot, "/api/v1/hf/orders/{id}", _order_row),
            self._state("any", f"{_MARGIN}/orders/{{id}}", _order_row),
            self._state("any", "/api/v1/stop-order/{id}", _stop_row),
            self._state(spot, "/api/v3/oco/order/{id}", _oco_row),
            self._state("any", f"{_MARGIN}/oco-order/detail/orderId", _oco_row),
            self._state(futures, "/api/v1/orders/{id}", _order_row),
            # the switch
            self._route("POST", spot, "/api/v1/hf/orders/dead-cancel-all", "switch", self._switch),
            self._route("POST", spot, "/api/ua/v1/dcp/set", "switch", self._switch),
        ]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer none."""
        return []

    def api_key(self, request: Request) -> str:
        """Tell the key that the request claims."""
        return request.headers.get("kc-api-key", "")

    def unknown(self, _request: Request) -> Reply:
        """Answer that there is no such path."""
        return json_reply({"code": "404000", "msg": "Url Not Found"}, 404)

    def order_id(self, _rng: random.Random, serial: int) -> str:
        """Make an id of 24 hexadecimal digits."""
        return f"{0x5C35C02703AA673C << 32 | serial:024x}"

    # --- letting requests in --------------------------------------------------------------------

    def _route(
        self, method: str, category: str, path: str, operation: str, action: _Action
    ) -> Route:
        return Route(method, path, operation, partial(self._answer, category, action))

    def _list(self, category: str, path: str, action: _Action) -> Route:
        return self._route("GET", category, path, "open-orders", action)

    def _state(self, category: str, path: str, row: Callable[[Order], dict[str, Any]]) -> Route:
        return self._route("GET", category, path, "order-status", partial(self._named, row))

    def _answer(self, category: str, action: _Action, engine: Engine, request: Request) -> Reply:
        try:
            account = _authenticate(engine, request)
            category = category or self._by_trade_type(request)
            self._check(account, category, request)
            data = action(_Call(engine, request, account, category))
            return json_reply({"code": "200000", "data": data})
        except Refusal as refusal:
            body = {"code": refusal.code, "msg": refusal.message}
            return json_reply(body, refusal.status)

    def _check(self, account: Account, category: str, request: Request) -> None:
        """Check what the key may do, and that the symbol exists."""
        needed = "view" if request.method == "GET" else "trade"
        known = category == "any" or category in account.ids
        if not known or needed not in account.permissions:
            raise Refusal("400007", "Access denied--> Require more permission.", 403)
        symbol = request.query.get("symbol")
        if symbol is not None and self.symbols is not None and symbol not in self.symbols:
            raise Refusal("900001", f"The symbol {symbol} does not exist.")

    def _by_trade_type(self, request: Request) -> str:
        """The category that a trade type stands for; of spot's stop orders it is optional."""
        asked = request.query.get("tradeType")
        if asked is None and request.path.startswith("/api/v1/stop-order"):
            return "spot"
        category = _TRADE_TYPES.get(asked or "")
        if category is None or (category == "spot" and request.path.startswith(_MARGIN)):
            raise Refusal("400100", "tradeType is invalid", 400)
        return category

    # --- cancels --------------------------------------------------------------------------------

    def _cancel(self, call: _Call, book: Callable[[Order], bool], *, of: str | None) -> list[Order]:
        """Take in a cancel of a book; the orders that it reaches."""
        moment = call.request.moment
        cancel = call.engine.cancel_all(
            call.account,
            call.category,
            of,
            now_ms=moment.now_ms,
            effect_delay_ms=moment.effect_delay_ms,
            only=lambda order: book(order) and order.symbol not in self.suspended,
        )
        found = (call.engine.order(order_id) for order_id in cancel.order_ids)
        return [order for order in found if order is not None]

    def _all(self, call: _Call) -> dict[str, Any]:
        listed = {order.symbol for order in _open(call, _is_ordinary)}
        self._cancel(call, _is_ordinary, of=None)
        failed = [
            {"symbol": symbol, "error": "can't cancel, system timeout"}
            for symbol in sorted(listed & self.suspended)
        ]
        return {"succeedSymbols": sorted(listed - self.suspended), "failedSymbols": failed}

    def _one(self, call: _Call) -> str:
        symbol = _needed(call, "symbol")
        if symbol in self.suspended:
            raise Refusal("200002", "The order cancel for this pair suspended")
        self._cancel(call, _is_ordinary, of=symbol)
        return "success"

    def _client_order(self, call: _Call) -> dict[str, Any]:
        """Cancel the order that the client has given an id."""
        symbol, client_id = _needed(call, "symbol"), call.request.params["id"]
        categories = [call.category] if call.category != "any" else ["margin", "isolated"]
        for category in categories:
            for order in call.engine.open_orders(call.account, category, symbol):
                if order.client_id == client_id:
                    call.engine.cancel(order.order_id, now_ms=call.request.moment.now_ms)
                    return {"clientOid": client_id}
        if call.category == "futures":
            raise Refusal("100004", "order cannot be canceled.")
        raise Refusal("400100", "order_not_exist_or_not_allow_to_cancel", 400)

    def _ids(self, call: _Call) -> dict[str, Any]:
        found = self._cancel(call, _is_ordinary, of=call.query.get("symbol"))
        return {"cancelledOrderIds": [order.order_id for order in found]}

    def _ids_of_one(self, call: _Call) -> dict[str, Any]:
        _needed(call, "symbol")
        return self._ids(call)

    def _stops(self, call: _Call) -> dict[str, Any]:
        ids = call.query["orderIds"].split(",") if "orderIds" in call.query else None

        def reaches(order: Order) -> bool:
            if ids is not None:
                return _is_stop(order) and order.order_id in ids
            return not _is_ordinary(order)

        found = self._cancel(call, reaches, of=call.query.get("symbol"))
        return {"cancelledOrderIds": [leg for order in found for leg in _legs(order)]}

    def _all_stops(self, call: _Call) -> dict[str, Any]:
        """Cancel stop orders where no ids are documented: there, they narrow nothing."""
        found = self._cancel(call, _is_stop, of=call.query.get("symbol"))
        return {"cancelledOrderIds": [order.order_id for order in found]}

    def _ocos(self, call: _Call) -> dict[str, Any]:
        found = self._cancel(call, _is_oco, of=call.query.get("symbol"))
        return {"cancelledOrderIds": [leg for order in found for leg in _legs(order)]}

    # --- listings -------------------------------------------------------------------------------

    def _active(self, call: _Call) -> dict[str, Any]:
        symbols = sorted({order.symbol for order in _open(call, _is_ordinary)})
        size = {} if call.category == "spot" else {"symbolSize": len(symbols)}
        return {**size, "symbols": symbols}

    def _orders(self, call: _Call) -> list[dict[str, Any]]:
        symbol = _needed(call, "symbol")
        return [_order_row(order) for order in _open(call, _is_ordinary, symbol)]

    def _futures_page(self, call: _Call) -> dict[str, Any]:
        if call.query.get("status", "done") == "done":
            return self._page(call, [])
        orders = _open(call, _is_ordinary, call.query.get("symbol"))
        return self._page(call, [_order_row(order) for order in orders])

    def _futures_stop_page(self, call: _Call) -> dict[str, Any]:
        orders = _open(call, _is_stop, call.query.get("symbol"))
        return self._page(call, [_order_row(order) | {"stop": "down"} for order in orders])

    def _stop_page(self, call: _Call) -> dict[str, Any]:
        symbol = call.query.get("symbol")
        rows = [_stop_row(order) for order in _open(call, _is_stop, symbol)]
        for order in _open(call, _is_oco, symbol):
            for leg, kind in zip(_legs(order), ("l_l_o", "l_s_o"), strict=True):
                rows.append(_stop_row(order) | {"id": leg, "stop": kind})
        return self._page(call, rows)

    def _oco_page(self, call: _Call) -> dict[str, Any]:
        """OCO orders, those that have ended among them."""
        account_id, symbol = call.account.ids[call.category], call.query.get("symbol")
        orders = [
            order
            for order in call.engine.orders()
            if order.account_id == account_id
            and _is_oco(order)
            and order.status is not Status.PENDING
            and symbol in (None, order.symbol)
        ]
        return self._page(call, [_oco_row(order) for order in orders])

    def _page(self, call: _Call, rows: list[dict[str, Any]]) -> dict[str, Any]:
        number, size = (
            call.query.get(name, default)
            for name, default in (("currentPage", "1"), ("pageSize", "50"))
        )
        if (
            not _NUMBER.fullmatch(number)
            or not _NUMBER.fullmatch(size)
            or int(size) > _LARGEST_PAGE
        ):
            raise Refusal("400100", "pageSize is invalid", 400)
        page, least = int(number), min(int(size), self.largest_page)
        return {
            "currentPage": page,
            "pageSize": least,
            "totalNum": len(rows),
            "totalPage": -(-len(rows) // least),
            "items": rows[(page - 1) * least : page * least],
        }

    # --- one order, the key, the switch ---------------------------------------------------------

    def _named(self, row: Callable[[Order], dict[str, Any]], call: _Call) -> dict[str, Any]:
        order = call.engine.order(call.request.params.get("id") or call.query.get("orderId", ""))
        if (
            order is None
            or order.account_id not in call.account.ids.values()
            or order.status is Status.PENDING
        ):
            raise Refusal("400100", "order not exist", 400)
        return row(order)

    def _mode(self, _call: _Call) -> dict[str, Any]:
        return {"selfAccountMode": self.mode, "unifiedSubAccount": [], "classicSubAccount": []}

    def _key(self, call: _Call) -> dict[str, Any]:
        words = {"spot": "Spot", "margin": "Margin", "futures": "Futures"}
        may = [word for category, word in words.items() if category in call.account.ids]
        permission = ",".join(["General", *(may if "trade" in call.account.permissions else ())])
        bound = call.account.extra.get("addresses")
        addresses = {"ipWhitelist": bound.replace(" ", ",")} if bound else {}
        key = {"apiKey": call.account.api_key, "apiVersion": 3, "permission": permission}
        return key | addresses

    def _switch(self, call: _Call) -> dict[str, Any]:
        """Arm the switch of spot's, or of all futures' ordinary orders; nothing else is told."""
        asked = msgspec.json.decode(call.request.body, type=dict[str, Any])
        category = {"FUTURES": "futures", "SPOT": "spot"}.get(asked.get("tradeType", "SPOT"), "")
        timeout = asked.get("timeout")
        if category not in call.account.ids or not isinstance(timeout, int):
            raise Refusal("400100", "tradeType or timeout is invalid", 400)
        if timeout != -1 and not 5 <= timeout <= 86_400:  # noqa: PLR2004  # as documented
            raise Refusal("400100", "timeout is invalid", 400)
        engine, account, token = call.engine, call.account, object()
        self._switches[account.ids[category]] = token

        def fire() -> None:
            if self._switches.get(account.ids[category]) is token:
                engine.cancel_all(account, category, now_ms=engine.now_ms, only=_is_ordinary)

        now_s = call.request.moment.venue_ms // 1000
        if timeout == -1:
            return {"currentTime": now_s, "systemTime": now_s, "triggerTime": 0}
        engine.schedule(timeout * 1000, fire)
        return {"currentTime": now_s, "systemTime": now_s, "triggerTime": now_s + timeout}


def _authenticate(engine: Engine, request: Request) -> Account:
    """Tell whose request this is; check its time, its signature and its passphrase."""
    headers = request.headers
    names = ("kc-api-key", "kc-api-sign", "kc-api-timestamp", "kc-api-passphrase")
    if not all(headers.get(name) for name in names):
        raise Refusal("400001", "Please check the header of your request for KC-API-KEY.", 401)
    account = engine.accounts.get(headers["kc-api-key"])
    if account is None:
        raise Refusal("400003", "KC-API-KEY not exists", 401)
    timestamp = headers["kc-api-timestamp"]
    on_time = (
        timestamp.isascii()
        and timestamp.isdigit()
        and (abs(request.moment.venue_ms - int(timestamp)) < _WINDOW_MS)
    )
    if not on_time:
        raise Refusal("400002", "KC-API-TIMESTAMP Invalid", 401)
    text = timestamp + request.method + request.raw_path + request.body.decode("latin-1")
    expected = signature(account.api_secret, text)
    if not hmac.compare_digest(headers["kc-api-sign"].encode(), expected.encode()):
        raise Refusal("400005", "Invalid KC-API-SIGN", 401)
    phrase = signature(account.api_secret, account.extra.get("passphrase", ""))
    if headers.get("kc-api-key-version") not in ("2", "3") or not hmac.compare_digest(
        headers["kc-api-passphrase"].encode(), phrase.encode()
    ):
        raise Refusal("400004", "Invalid KC-API-PASSPHRASE", 401)
    return account


def _needed(call: _Call, name: str) -> str:
    value = call.query.get(name, "")
    if not value:
        raise Refusal("400100", f"{name} can not be empty", 400)
    return value


def _clock(_engine: Engine, request: Request) -> Reply:
    return json_reply({"code": "200000", "data": request.moment.venue_ms})


def _open(call: _Call, book: Callable[[Order], bool], symbol: str | None = None) -> list[Order]:
    orders = call.engine.open_orders(call.account, call.category, symbol)
    return [order for order in orders if book(order)]


def _is_stop(order: Order) -> bool:
    return order.order_type.lower() in STOPS


def _is_oco(order: Order) -> bool:
    return order.order_type.lower() == "oco"


def _is_ordinary(order: Order) -> bool:
    return not _is_stop(order) and not _is_oco(order)


def _legs(order: Order) -> list[str]:
    """The ids by which a cancel names an order: of an OCO order, those of its two legs."""
    return [f"vs9{order.order_id}{leg}" for leg in "12"] if _is_oco(order) else [order.order_id]


def _plain(number: Decimal) -> str:
    return format(number, "f")


def _order_row(order: Order) -> dict[str, Any]:
    """Show an ordinary order, or any of futures, whose sizes are numbers of contracts."""
    row: dict[str, Any] = {
        "id": order.order_id,
        "symbol": order.symbol,
        "type": "limit",
        "side": order.side,
        "price": _plain(order.price),
        "stp": "",
        "timeInForce": "GTC",
        "clientOid": order.client_id,
        "tags": None,
        "cancelExist": order.status is Status.CANCELED,
        "createdAt": order.placed_ms,
    }
    if order.category == "futures":
        return row | {
            "size": int(order.quantity),
            "dealSize": int(order.filled_quantity),
            "filledSize": int(order.filled_quantity),
            "value": "0",
            "stop": "",
            "stopPriceType": "",
            "closeOrder": False,
            "reduceOnly": order.reduce_only,
            "isActive": order.status.is_open,
            "status": "open" if order.status.is_open else "done",
        }
    return row | {
        "opType": "DEAL",
        "size": _plain(order.quantity),
        "funds": "0",
        "dealSize": _plain(order.filled_quantity),
        "remainSize": _plain(order.quantity - order.filled_quantity),
        "active": order.status.is_open,
        "inOrderBook": order.status.is_open,
        "tradeType": _trade_type(order),
    }


def _stop_row(order: Order) -> dict[str, Any]:
    """Show a stop order of spot or margin; its numbers have twenty places."""
    status = {Status.CANCELED: "CANCELLED", Status.FILLED: "TRIGGERED"}.get(order.status, "NEW")
    return {
        "id": order.order_id,
        "symbol": order.symbol,
        "userId": "60fe4956c43cbc0006562c2c",
        "status": status,
        "type": "limit",
        "side": order.side,
        "price": f"{order.price:.20f}",
        "size": f"{order.quantity:.20f}",
        "funds": None,
        "stp": None,
        "orderTime": order.placed_ms * 1_000_000,
        "tradeType": _trade_type(order),
        "createdAt": order.placed_ms,
        "stop": "loss",
        "stopTriggerTime": None,
        "stopPrice": "10.00000000000000000000",
    }


def _oco_row(order: Order) -> dict[str, Any]:
    """Show an OCO order, which has neither side nor size."""
    status = {Status.CANCELED: "CANCELLED", Status.FILLED: "DONE"}.get(order.status, "NEW")
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "clientOid": order.client_id,
        "orderTime": order.placed_ms,
        "status": status,
    }


def _trade_type(order: Order) -> str:
    return next(name for name, category in _TRADE_TYPES.items() if category == order.category)
