"""The Bybit dialect: spot, linear, inverse and option, of a unified account.

Written from the venue's documents (https://bybit-exchange.github.io/docs/v5), sharing no code with
the client.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

import msgspec

from masscancel.sim.dialect import JSON_HEADERS, Reply, Request, Route, StreamRoute, json_reply
from masscancel.sim.orders import Account, Order, Status

if TYPE_CHECKING:
    import random
    from decimal import Decimal

    from masscancel.sim.engine import Engine

_WORDS: Final = {
    "stop": ("StopOrder", "Stop"),
    "tpsl": ("tpslOrder", "tpslOrder"),
    "oco": ("OcoOrder", "OcoOrder"),
    "bidirectional": ("BidirectionalTpslOrder", "BidirectionalTpslOrder"),
}
"""The `order_type` of orders that wait for a price, their filter, and how a listing calls them.
Those behind the first are spot's; every other type is an active order's."""
_ACTIVE: Final = ("Order", "UNKNOWN")
_FILTERS: Final = {
    "spot": ("Order", *(word for word, _ in _WORDS.values())),
    "linear": ("Order", "StopOrder"),
    "inverse": ("Order", "StopOrder"),
    "option": ("Order", "StopOrder"),
}
_STATUSES: Final = {
    Status.NEW: "New",
    Status.PARTIALLY_FILLED: "PartiallyFilled",
    Status.FILLED: "Filled",
    Status.CANCELED: "Cancelled",
    Status.REJECTED: "Rejected",
}
_RATES: Final = {"spot": 20, "linear": 10, "inverse": 10, "option": 1}
"""Cancel-alls of a key within a second; linear and inverse share theirs."""
_LISTINGS: Final = 50
_MOST: Final = 500
_AHEAD_MS: Final = 1_000
_WHOLE: Final = re.compile(r"[0-9]{1,15}")
_SYMBOL: Final = re.compile(r"[A-Z0-9.\-\u0080-\U0010ffff]{2,60}")


class Refusal(Exception):  # a refused request is an answer, not a failure of ours
    """The venue says no."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Call(msgspec.Struct, frozen=True):
    """A request that has been let in: whose it is, and what it asks for."""

    engine: Engine
    request: Request
    account: Account
    fields: Mapping[str, Any]

    @property
    def category(self) -> str:
        """The category that it is about."""
        category = self.fields.get("category")
        if category not in _FILTERS:
            raise Refusal(10001, "params error: category is illegal")
        return str(category)

    def text(self, name: str) -> str:
        """A parameter; "" where it is not given."""
        value = self.fields.get(name)
        if not isinstance(value, str | None):
            raise Refusal(10001, f"params error: {name} is illegal")
        return value or ""


_Action = Callable[[_Call], Any]


def signature(secret: str, text: str) -> str:
    """Sign as the documents say: lower-case hex of HMAC-SHA256, the key being the secret."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def settle_coin(category: str, symbol: str) -> str:
    """Tell what a contract is settled in, from its name."""
    if category == "inverse":
        return re.sub(r"USD([HMUZ][0-9]{2})?$", "", symbol)
    tether = "USDT" in symbol if category == "linear" else symbol.endswith("-USDT")
    other = re.search(r"(?:USD[ET]?|EUR)$", symbol) if category == "linear" else None
    return "USDT" if tether else other[0] if other else "USDC"


class BybitDialect:
    """Bybit, as its documents describe it.

    `symbols` are those that exist (None: every well-formed one). `limited` has it refuse what is
    beyond the documented rates of a key. `bare` has spot's cancels answered without a list, as has
    been seen.
    """

    name: Final = "bybit"
    categories: Final[Mapping[str, str]] = {
        "spot": "spt",
        "linear": "lin",
        "inverse": "inv",
        "option": "opt",
    }

    def __init__(
        self, *, symbols: Iterable[str] | None = None, limited: bool = False, bare: bool = False
    ) -> None:
        self.symbols = None if symbols is None else frozenset(symbols)
        self.limited = limited
        self.bare = bare
        self._seen: dict[tuple[str, str], deque[int]] = {}  # the last second of a key and endpoint

    # --- the dialect ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Offer what a cancel-all needs."""
        return [
            Route("GET", "/v5/market/time", "clock", _clock),
            Route("GET", "/v5/market/instruments-info", "instruments", self._instruments),
            self._route("POST", "cancel-all", "/v5/order/cancel-all", self._cancel_all),
            self._route("POST", "cancel-order", "/v5/order/cancel", self._cancel_one),
            self._route("GET", "open-orders", "/v5/order/realtime", self._realtime),
            self._route("GET", "order-status", "/v5/order/history", self._history),
            self._route("GET", "key", "/v5/user/query-api", _key),
        ]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer none."""
        return []

    def api_key(self, request: Request) -> str:
        """Tell the key that the request claims."""
        return request.headers.get("x-bapi-api-key", "")

    def unknown(self, _request: Request) -> Reply:
        """Answer 404, which is the gateway's."""
        return Reply(404, b"404 page not found", (("Content-Type", "text/plain"),))

    def order_id(self, _rng: random.Random, serial: int) -> str:
        """Make an id."""
        return str(uuid.UUID(int=0xFD4300AE_7847_404E_B947_000000000000 + serial))

    # --- letting requests in --------------------------------------------------------------------

    def _route(self, method: str, operation: str, path: str, action: _Action) -> Route:
        def answer(engine: Engine, request: Request) -> Reply:
            try:
                account, fields = _authenticate(engine, request)
                call = _Call(engine, request, account, fields)
                headers = self._spend(call, operation)
                result, code, message = action(call), 0, "OK"
            except Refusal as refusal:
                headers = getattr(refusal, "headers", ())
                result, code, message = {}, refusal.code, refusal.message
            reply = json_reply(_envelope(request, result, code, message))
            return Reply(reply.status, reply.body, (*JSON_HEADERS, *headers))

        return Route(method, path, operation, answer)

    def _spend(self, call: _Call, operation: str) -> tuple[tuple[str, str], ...]:
        """Count a request of the endpoint, and tell what is left of the second."""
        limit, endpoint = _LISTINGS, operation
        if operation == "cancel-all":
            limit, endpoint = _RATES[call.category], f"{operation} {_RATES[call.category]}"
        now_ms = call.request.moment.now_ms
        seen = self._seen.setdefault((call.account.api_key, endpoint), deque())
        while seen and seen[0] <= now_ms - 1000:
            seen.popleft()
        refused = self.limited and len(seen) >= limit
        if not refused:
            seen.append(now_ms)
        resets_ms = call.request.moment.skew_ms + (seen[0] + 1000 if refused else now_ms)
        headers = (
            ("X-Bapi-Limit", str(limit)),
            ("X-Bapi-Limit-Status", str(max(0, limit - len(seen)))),
            ("X-Bapi-Limit-Reset-Timestamp", str(resets_ms)),
        )
        if refused:
            refusal = Refusal(10006, "Too many visits!")
            refusal.headers = headers  # type: ignore[attr-defined]  # only this one has any
            raise refusal
        return headers

    # --- orders ---------------------------------------------------------------------------------

    def _scope(self, call: _Call, *, listing: bool) -> Callable[[Order], bool]:
        """Find out which orders are asked about: of more than one scope, the narrowest counts."""
        category = call.category
        symbol, base, coin = (call.text(name) for name in ("symbol", "baseCoin", "settleCoin"))
        word = call.text("orderFilter")
        if word and word not in _FILTERS[category]:
            raise Refusal(170201 if category == "spot" else 10001, "Invalid orderFilter parameter.")
        if category == "spot" and not word and not listing:
            word = "Order"
        scoped = symbol or base or coin
        if not scoped and (category == "linear" or (category == "inverse" and not listing)):
            raise Refusal(10001, "params error: symbol or settleCoin or baseCoin should be given")
        if symbol:
            self._check(category, symbol)

        def covers(order: Order) -> bool:
            if word and _words(order)[0] != word:
                return False
            if symbol:
                return order.symbol == symbol
            if base:
                return order.symbol.startswith(base)
            return not coin or settle_coin(category, order.symbol) == coin

        return covers

    def _check(self, category: str, symbol: str) -> None:
        known = self.symbols is None or symbol in self.symbols
        if not known or not _SYMBOL.fullmatch(symbol):
            spot = category == "spot"
            raise Refusal(
                170121 if spot else 10001, "Invalid symbol." if spot else "symbol invalid"
            )

    def _cancel_one(self, call: _Call) -> dict[str, Any]:
        """Take one order in to be cancelled, by its id or the client's."""
        symbol, order_id, link = (call.text(name) for name in ("symbol", "orderId", "orderLinkId"))
        if "trade" not in call.account.permissions:
            raise Refusal(10005, "Permission denied, please check your API key permissions.")
        if not symbol or not (order_id or link):
            raise Refusal(10001, "params error: orderId or orderLinkId is required")
        self._check(call.category, symbol)
        for order in call.engine.open_orders(call.account, call.category, symbol):
            if order_id == order.order_id or (not order_id and link == order.client_id):
                call.engine.cancel(order.order_id, now_ms=call.request.moment.now_ms)
                return {"orderId": order.order_id, "orderLinkId": order.client_id}
        code = 170213 if call.category == "spot" else 110001
        raise Refusal(code, "Order does not exist.")

    def _cancel_all(self, call: _Call) -> dict[str, Any]:
        """Take orders in to be cancelled; of futures some 500, no matter which."""
        category, covers = call.category, self._scope(call, listing=False)
        if "trade" not in call.account.permissions:
            raise Refusal(10005, "Permission denied, please check your API key permissions.")
        moment = call.request.moment
        found = [o for o in call.engine.open_orders(call.account, category) if covers(o)]
        if category in ("linear", "inverse"):  # neither the oldest nor the newest
            found = sorted(found, key=lambda order: order.order_id[::-1])[:_MOST]
        ids = {order.order_id for order in found}
        call.engine.cancel_all(
            call.account,
            category,
            call.text("symbol") or None,
            now_ms=moment.now_ms,
            effect_delay_ms=moment.effect_delay_ms,
            only=lambda order: order.order_id in ids,
        )
        if self.bare and category == "spot":
            return {"success": "1"}
        rows = [{"orderId": o.order_id, "orderLinkId": o.client_id} for o in found]
        return {"list": rows, "success": "1"}

    def _realtime(self, call: _Call) -> dict[str, Any]:
        """List what is open, newest first; or one order, whatever has become of it."""
        category = call.category
        if order_id := call.text("orderId"):
            return _page(category, _named(call, order_id), call)
        covers = self._scope(call, listing=True)
        orders = call.engine.open_orders(call.account, category)
        return _page(category, [order for order in reversed(orders) if covers(order)], call)

    def _history(self, call: _Call) -> dict[str, Any]:
        found = _named(call, call.text("orderId"))
        return _page(call.category, [order for order in found if order.status.is_final], call)

    def _instruments(self, engine: Engine, request: Request) -> Reply:
        """List some contracts: those that there always are, and what orders there are in."""
        category = request.query.get("category", "")
        traded = {order.symbol for order in engine.orders() if order.category == category}
        traded |= {"BTCUSDT", "BTCPERP"} if category == "linear" else set()
        rows = [
            {"symbol": symbol, "status": "Trading", "settleCoin": settle_coin(category, symbol)}
            for symbol in sorted(traded)
        ]
        result = {"category": category, "list": rows, "nextPageCursor": ""}
        return json_reply(_envelope(request, result))


def _envelope(request: Request, result: Any, code: int = 0, message: str = "OK") -> dict[str, Any]:
    return {
        "retCode": code,
        "retMsg": message,
        "result": result,
        "retExtInfo": {},
        "time": request.moment.venue_ms,
    }


def _authenticate(engine: Engine, request: Request) -> tuple[Account, Mapping[str, Any]]:
    """Tell whose request this is; check its time and its signature; read what it asks for."""
    names = ("api-key", "timestamp", "recv-window", "sign")
    key, timestamp, window, sign = (request.headers.get(f"x-bapi-{name}", "") for name in names)
    account = engine.accounts.get(key)
    if account is None:
        raise Refusal(10003, "API key is invalid.")
    window = window or "5000"
    if not _WHOLE.fullmatch(timestamp) or not _WHOLE.fullmatch(window):
        raise Refusal(10001, "params error: timestamp or recv_window is illegal")
    venue_ms, sent_ms = request.moment.venue_ms, int(timestamp)
    if not venue_ms - int(window) <= sent_ms < venue_ms + _AHEAD_MS:
        told = f"req_timestamp[{sent_ms}],server_timestamp[{venue_ms}],recv_window[{window}]"
        raise Refusal(10002, f"invalid request, please check your server timestamp: {told}")
    sent = request.body.decode("utf-8", "replace")
    text = f"{timestamp}{key}{window}{sent if request.method == 'POST' else request.query_string}"
    if not hmac.compare_digest(signature(account.api_secret, text).encode(), sign.encode()):
        raise Refusal(10004, f"error sign! origin_string[{text}]")
    if "view" not in account.permissions:
        raise Refusal(10005, "Permission denied, please check your API key permissions.")
    if request.method == "GET":
        return account, request.query
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refusal(10001, "params error: the content type is not JSON")
    try:
        fields = json.loads(sent)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise Refusal(10001, "params error: the body is no object")
    return account, fields


def _page(category: str, orders: list[Order], call: _Call) -> dict[str, Any]:
    """Show a page; a cursor names the last order of the one before, percent-encoded."""
    limit = call.text("limit") or "20"
    if not _WHOLE.fullmatch(limit) or not 1 <= int(limit) <= 50:  # noqa: PLR2004  # documented
        raise Refusal(10001, "params error: limit is illegal")
    start = 0
    if cursor := call.text("cursor"):
        last = re.fullmatch(r"page_args=([^&]+)&symbol=6&", unquote(cursor))
        if last is None:
            raise Refusal(10001, "params error: cursor is illegal")
        start = next((1 + n for n, o in enumerate(orders) if o.order_id == last[1]), len(orders))
    shown = orders[start : start + int(limit)]
    more = f"page_args={shown[-1].order_id}&symbol=6&" if shown else ""
    rows = [_row(order, category, call) for order in shown]
    return {"category": category, "list": rows, "nextPageCursor": quote(more, safe="")}


def _named(call: _Call, order_id: str) -> list[Order]:
    """Find an order, open or not, if it is the account's and of the category."""
    order = call.engine.order(order_id)
    mine = call.account.ids.get(call.category)
    if order is None or order.account_id != mine or order.status is Status.PENDING:
        return []
    return [order]


def _words(order: Order) -> tuple[str, str]:
    return _WORDS.get(order.order_type.lower(), _ACTIVE)


def _plain(number: Decimal) -> str:
    return format(number, "f")


def _row(order: Order, category: str, call: _Call) -> dict[str, Any]:
    """Show an order as a listing does, odd values and all."""
    skew_ms, waits = call.request.moment.skew_ms, _words(order) != _ACTIVE
    status = "Untriggered" if waits and order.status is Status.NEW else _STATUSES[order.status]
    return {
        "orderId": order.order_id,
        "orderLinkId": order.client_id,
        "blockTradeId": "",
        "symbol": order.symbol,
        "price": _plain(order.price),
        "qty": _plain(order.quantity),
        "side": order.side.capitalize(),
        "isLeverage": "0" if category == "spot" else "",
        "positionIdx": 0,
        "orderStatus": status,
        "cancelType": "UNKNOWN",
        "rejectReason": "EC_NoError",
        "avgPrice": "",
        "leavesQty": _plain(order.quantity - order.filled_quantity),
        "cumExecQty": _plain(order.filled_quantity) if order.filled_quantity else "",
        "timeInForce": "GTC",
        "orderType": "Market" if order.order_type == "market" else "Limit",
        "stopOrderType": _words(order)[1],
        "triggerPrice": _plain(order.price) if waits else "",
        "triggerDirection": 1 if waits else 0,
        "reduceOnly": order.reduce_only,
        "closeOnTrigger": False,
        "smpGroup": 0,
        "createdTime": str(order.placed_ms + skew_ms),
        "updatedTime": str(order.changed_ms + skew_ms),
    }


def _clock(_engine: Engine, request: Request) -> Reply:
    now_ms = request.moment.venue_ms
    result = {"timeSecond": str(now_ms // 1000), "timeNano": f"{now_ms}000000"}
    return json_reply(_envelope(request, result))


def _key(call: _Call) -> dict[str, Any]:
    """Tell what the key may do."""
    trades = "trade" in call.account.permissions
    rights = {"ContractTrade": ["Order"], "Spot": ["SpotTrade"], "Options": ["OptionsTrade"]}
    return {
        "apiKey": call.account.api_key,
        "readOnly": 0 if trades else 1,
        "secret": "",
        "permissions": rights if trades else {group: [] for group in rights},
        "ips": call.account.extra.get("addresses", "*").split(),
        "uta": 1,
    }
