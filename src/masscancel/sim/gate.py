"""The Gate dialect (API v4): spot with its accounts, perpetual futures by settle coin, options.

Written from the venue's documents (https://www.gate.com/docs/developers/apiv4), sharing no code
with the client. What they leave open is played the harder way: a listing without `account=` shows
the account `spot` alone, a cancel without it leaves a unified account's orders, and a
price-triggered order wants the account that it has.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from masscancel.sim.dialect import JSON_HEADERS, Reply, Request, Route, StreamRoute, json_reply
from masscancel.sim.orders import Account, Order, Status

if TYPE_CHECKING:
    import random

    from masscancel.sim.engine import Engine

MODE: Final = "mode"
"""What an account's `extra` has its mode under: `classic` (the default), `portfolio` and such; or
`hidden`, for a classic one whose key may not ask."""
MARGIN: Final = ("margin", "margin_stop")
"""The `order_type` of spot's orders of the isolated margin account; others have the main one."""
_BOOKS: Final = {"margin_stop": "stop"} | {name: name for name in ("stop", "pov", "trail", "chase")}
"""The book that an `order_type` is in, where it is not the ordinary one."""
_ROOT: Final = "/api/v4"
_SETTLES: Final = ("usdt", "btc")
_STALE_MS: Final = 60_000
_LEAST_COUNTDOWN: Final = 5
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class Refusal(Exception):  # a refused request is an answer, not a failure of ours
    """The venue says no."""

    def __init__(self, label: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.label = label
        self.message = message
        self.status = status


class _Call(msgspec.Struct, frozen=True):
    """A request that has been let in: whose it is, what it is about, and its parameters."""

    engine: Engine
    request: Request
    account: Account
    category: str
    book: str
    fields: Mapping[str, Any]

    @property
    def unified(self) -> bool:
        """Whether the account is a unified one."""
        return self.account.extra.get(MODE, "classic") not in ("classic", "hidden")

    def kind(self, order: Order) -> str:
        """Tell the account that an order of spot has."""
        if order.order_type in MARGIN:
            return "margin"
        return "unified" if self.unified else "normal" if self.book == "stop" else "spot"


_Action = Callable[[_Call], Any]


def signature(secret: str, request: Request) -> str:
    """Sign as the documents say: five lines, the last of them the time; HMAC-SHA512, in hex."""
    body = hashlib.sha512(request.body).hexdigest()
    lines = [request.method, request.path, unquote(request.query_string), body]
    text = "\n".join([*lines, request.headers.get("timestamp", "")])
    return hmac.new(secret.encode(), text.encode(), hashlib.sha512).hexdigest()


class GateDialect:
    """Gate, as its documents describe it.

    `symbols` are those that exist (None: every one), `pov` is whether there are POV orders of spot.
    """

    name: Final = "gate"
    categories: Final[Mapping[str, str]] = {
        "spot": "gts",
        "usdt": "gtu",
        "btc": "gtb",
        "options": "gto",
    }

    def __init__(self, *, symbols: Iterable[str] | None = None, pov: bool = True) -> None:
        self.pov = pov
        self.symbols = None if symbols is None else frozenset(symbols)
        self._countdowns: dict[tuple[str, str], object] = {}  # the latest of each scope

    # --- the dialect ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Offer what a cancel-all needs. The books share the operations' names."""
        spot, options = "/spot", "/options"
        routes = [
            Route("GET", f"{_ROOT}/spot/time", "clock", _clock),
            self._route("GET", "spot", "ordinary", "/unified/unified_mode", "mode", _mode),
            self._route("GET", "spot", "ordinary", "/account/detail", "info", _detail),
            self._route("GET", "spot", "ordinary", "/account/main_keys", "info", self._keys),
            self._route(
                "GET", "spot", "ordinary", f"{spot}/open_orders", "open-orders", self._pairs
            ),
            *self._book("spot", "ordinary", f"{spot}/orders"),
            *self._book("spot", "stop", f"{spot}/price_orders"),
            *self._book("options", "ordinary", f"{options}/orders"),
        ]
        for category, path in (
            ("spot", f"{spot}/cancel_batch_orders"),
            *((each, f"/futures/{each}/batch_cancel_orders") for each in _SETTLES),
        ):
            routes.append(
                self._route("POST", category, "ordinary", path, "cancel-order", self._batch)
            )
        if self.pov:
            routes += self._book("spot", "pov", f"{spot}/pov_orders")
        for settle in _SETTLES:
            root = f"/futures/{settle}"
            routes += self._book(settle, "ordinary", f"{root}/orders")
            routes += self._book(settle, "stop", f"{root}/price_orders")
            for book in ("trail", "chase"):
                path = f"{root}/autoorder/v1/{book}"
                routes += [
                    self._route("GET", settle, book, f"{path}/list", "open-orders", self._list),
                    self._route("POST", settle, book, f"{path}/stop_all", "cancel-all", self._stop),
                    self._route("GET", settle, book, f"{path}/detail", "order-status", self._order),
                ]
        for category, path in (("spot", spot), ("options", options)):
            routes.append(self._countdown_route(category, path))
        return [*routes, *(self._countdown_route(each, f"/futures/{each}") for each in _SETTLES)]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer none."""
        return []

    def api_key(self, request: Request) -> str:
        """Tell the key that the request claims."""
        return request.headers.get("key", "")

    def unknown(self, _request: Request) -> Reply:
        """Answer 404."""
        return json_reply({"label": "NOT_FOUND", "message": "Request URL not exists"}, 404)

    def order_id(self, _rng: random.Random, serial: int) -> str:
        """Make an id, which is a number."""
        return str(18_524_544_000 + serial)

    # --- letting requests in --------------------------------------------------------------------

    def _book(self, category: str, book: str, path: str) -> list[Route]:
        return [
            self._route("GET", category, book, path, "open-orders", self._list),
            self._route("DELETE", category, book, path, "cancel-all", self._cancel),
            self._route("GET", category, book, f"{path}/{{id}}", "order-status", self._order),
        ]

    def _countdown_route(self, category: str, root: str) -> Route:
        path = f"{root}/countdown_cancel_all"
        return self._route("POST", category, "ordinary", path, "switch", self._countdown)

    def _route(
        self, method: str, category: str, book: str, path: str, operation: str, action: _Action
    ) -> Route:
        handler = partial(self._answer, category, book, action)
        return Route(method, f"{_ROOT}{path}", operation, handler)

    def _answer(
        self, category: str, book: str, action: _Action, engine: Engine, request: Request
    ) -> Reply:
        try:
            account = _authenticate(engine, request, category)
            fields: dict[str, Any] = dict(request.query)
            if request.method == "POST":
                body = msgspec.json.decode(request.body, type=dict[str, Any] | list[Any])
                fields = body if isinstance(body, dict) else {"list": body}
            answer = action(_Call(engine, request, account, category, book, fields))
        except msgspec.DecodeError:
            refusal = {"label": "INVALID_REQUEST_BODY", "message": "Invalid request body"}
            return json_reply(refusal, 400)
        except Refusal as refused:
            body = {"label": refused.label, "message": refused.message}
            return json_reply(body, refused.status)
        return answer if isinstance(answer, Reply) else json_reply(answer)

    def _symbol(self, call: _Call) -> str | None:
        """Read the symbol that is asked for; it must be one."""
        name = "market" if call.book == "stop" else "currency_pair"
        name = name if call.category == "spot" else "contract"
        symbol = call.fields.get(name)
        if symbol is None:
            return None
        if self.symbols is not None and symbol not in self.symbols:
            if call.category == "spot":
                raise Refusal("INVALID_CURRENCY_PAIR", f"Invalid currency pair {symbol}")
            raise Refusal("CONTRACT_NOT_FOUND", "contract not found")
        return str(symbol)

    # --- orders ---------------------------------------------------------------------------------

    def _open(self, call: _Call, kinds: Iterable[str] | None = None) -> list[Order]:
        """List the orders of a book: of a symbol, and of accounts, if they are asked for."""
        orders = call.engine.open_orders(call.account, call.category, self._symbol(call))
        return [
            order
            for order in orders
            if _book_of(order) == call.book and (kinds is None or call.kind(order) in kinds)
        ]

    def _pairs(self, call: _Call) -> list[dict[str, Any]]:
        """Page within each pair; a pair that has orders is on every page."""
        _page([], call, most=100)
        pairs: dict[str, list[Order]] = {}
        for order in self._open(call, [call.fields.get("account", "spot")]):
            pairs.setdefault(order.symbol, []).append(order)
        found = []
        for symbol, orders in pairs.items():
            shown = [_spot_row(order, call) for order in _page(orders, call, most=100)]
            found.append({"currency_pair": symbol, "total": len(shown), "orders": shown})
        return found

    def _list(self, call: _Call) -> Any:
        chases, spot = call.book == "chase", call.category == "spot"
        if call.book in ("trail", "chase"):
            if call.fields.get("is_finished") != "false" or (
                chases and "sort_by" not in call.fields
            ):
                raise Refusal("INVALID_PARAM_VALUE", "sort_by is required")
        elif call.fields.get("status") != "open":
            raise Refusal("INVALID_PARAM_VALUE", "status must be open")
        pair_needed = spot and call.book == "ordinary"
        if pair_needed and "currency_pair" not in call.fields:
            raise Refusal("MISSING_REQUIRED_PARAM", "Missing required parameter: currency_pair")
        orders = self._open(call, self._accounts(call))
        rows = [_row(order, call) for order in _page(orders, call, most=1000 - 900 * pair_needed)]
        if call.book in ("trail", "chase"):
            return {"orders": rows}
        total = ("X-Pagination-Total", str(len(orders)))
        return Reply(200, msgspec.json.encode(rows), (*JSON_HEADERS, *([] if spot else [total])))

    def _accounts(self, call: _Call) -> list[str] | None:
        """Choose the accounts that a request is about; None for all."""
        account = call.fields.get("account")
        if call.category != "spot" or call.book == "pov":
            return None
        if call.book == "stop":
            if (account == "unified") is not call.unified:
                raise Refusal("INVALID_PARAM_VALUE", "Unified account must be set to `unified`")
            return [account or "normal"]
        if account is not None:
            return [account]
        cancels = call.request.method == "DELETE"
        return ["spot", "margin"] if call.unified and cancels else None

    def _cancel(self, call: _Call) -> Any:
        expires = call.request.headers.get("x-gate-exptime", "")
        now_ms = call.request.moment.venue_ms
        if expires and (not _WHOLE.fullmatch(expires) or now_ms > int(expires)):
            raise Refusal("REQUEST_EXPIRED", "gateway: request expired")
        return [_ended(_row(order, call), call) for order in self._reach(call)]

    def _batch(self, call: _Call) -> list[dict[str, Any]]:
        """Cancel the orders that a list names; an empty one names none."""
        told = []
        for each in call.fields.get("list", ()):
            order_id = each.get("id", "") if isinstance(each, dict) else str(each)
            order = call.engine.order(order_id)
            mine = order is not None and order.account_id == call.account.ids[call.category]
            found = mine and call.engine.cancel(order_id, now_ms=call.request.moment.now_ms)
            row = {"id": order_id, "succeeded": bool(found), "message": ""}
            if not found:
                spot = call.category == "spot"
                row |= {"label": "ORDER_NOT_FOUND"} if spot else {"message": "ORDER_NOT_FOUND"}
            told.append(row)
        return told

    def _stop(self, call: _Call) -> Any:
        return {"orders": [_ended(_row(order, call), call) for order in self._reach(call)]}

    def _reach(self, call: _Call) -> list[Order]:
        """Cancel what a request is about."""
        moment, kinds = call.request.moment, self._accounts(call)

        def only(order: Order) -> bool:
            return _book_of(order) == call.book and (kinds is None or call.kind(order) in kinds)

        cancel = call.engine.cancel_all(
            call.account,
            call.category,
            self._symbol(call),
            now_ms=moment.now_ms,
            effect_delay_ms=moment.effect_delay_ms,
            only=only,
        )
        reached = (call.engine.order(order_id) for order_id in cancel.order_ids)
        return [order for order in reached if order is not None]

    def _order(self, call: _Call) -> Any:
        """Find the order that is asked for, in its book, whatever has become of it."""
        order_id = call.request.params.get("id") or call.fields.get("id", "")
        order = call.engine.order(order_id)
        if call.category == "spot" and call.book == "ordinary" and self._symbol(call) is None:
            raise Refusal("MISSING_REQUIRED_PARAM", "Missing required parameter: currency_pair")
        if (
            order is None
            or order.account_id != call.account.ids[call.category]
            or order.status is Status.PENDING
            or _book_of(order) != call.book
        ):
            raise Refusal("ORDER_NOT_FOUND", "Order not found", 404)
        row = _row(order, call)
        shown = row if order.status.is_open else _ended(row, call, order.status)
        wrapped: dict[str, Any] = {"order": shown}
        if call.book == "trail":
            wrapped = {"code": 0, "message": "ok", "data": wrapped, "timestamp": 0}
        return wrapped if call.book in ("trail", "chase") else shown

    # --- the rest -------------------------------------------------------------------------------

    def _keys(self, call: _Call) -> list[dict[str, Any]]:
        """Tell of every key of the account, its own among them, without its name."""
        read_only = "trade" not in call.account.permissions
        perms = ("spot", "futures", "options", "account")
        permitted = [{"name": name, "read_only": read_only} for name in perms]
        return [_detail(call) | {"state": 1, "mode": 1, "name": "test1", "perms": permitted}]

    def _countdown(self, call: _Call) -> dict[str, Any]:
        """Arm the switch of a category or a symbol; it reaches the ordinary book alone."""
        timeout, symbol = call.fields.get("timeout"), self._symbol(call)
        if type(timeout) is not int or 0 < timeout < _LEAST_COUNTDOWN or timeout < 0:
            raise Refusal("INVALID_PARAM_VALUE", "timeout must be 0 or at least 5")
        engine, account, category = call.engine, call.account, call.category
        scope, token = (account.ids[category], symbol or ""), object()
        self._countdowns[scope] = token

        def fire() -> None:
            if self._countdowns.get(scope) is token:
                del self._countdowns[scope]
                engine.cancel_all(account, category, symbol, now_ms=engine.now_ms, only=_ordinary)

        if timeout:
            engine.schedule(timeout * 1000, fire)
        else:
            del self._countdowns[scope]
        at = call.request.moment.venue_ms + timeout * 1000 if timeout else 0
        return {"triggerTime": str(at)}


def _authenticate(engine: Engine, request: Request, category: str) -> Account:
    """Tell whose request this is; check its time, its signature and what the key may do."""
    headers = request.headers
    for name in ("key", "sign", "timestamp"):
        if not headers.get(name):
            raise Refusal("MISSING_REQUIRED_HEADER", f"Missing required header: {name}", 401)
    account = engine.accounts.get(headers["key"])
    if account is None:
        raise Refusal("INVALID_KEY", "Invalid key provided", 401)
    stamp = headers["timestamp"]
    if not _SECONDS.fullmatch(stamp):
        raise Refusal("REQUEST_EXPIRED", "gap between request Timestamp and server time", 403)
    if abs(request.moment.venue_ms - Decimal(stamp) * 1000) > _STALE_MS + 1000:
        raise Refusal("REQUEST_EXPIRED", "gap between request Timestamp and server time", 403)
    expected = signature(account.api_secret, request)
    if not hmac.compare_digest(headers["sign"].encode(), expected.encode()):
        raise Refusal("INVALID_SIGNATURE", "Signature mismatch", 401)
    if request.method != "GET" and "trade" not in account.permissions:
        raise Refusal("READ_ONLY", "API key is read-only", 403)
    if category not in account.ids:
        raise Refusal("USER_NOT_FOUND", "please transfer funds first to create futures account")
    return account


def _clock(_engine: Engine, request: Request) -> Reply:
    return json_reply({"server_time": request.moment.venue_ms})


def _mode(call: _Call) -> dict[str, Any]:
    mode = call.account.extra.get(MODE, "classic")
    if mode == "hidden":
        raise Refusal("FORBIDDEN", "Account has no permission to request operation", 403)
    return {"mode": mode, "settings": {"spot_hedge": False}}


def _detail(call: _Call) -> dict[str, Any]:
    whitelist = {"ip_whitelist": ["127.0.0.1"], "currency_pairs": ["BTC_USDT"]}
    user_id = int.from_bytes(call.account.ids["spot"].encode()[:6], "big")
    return {"user_id": user_id, "key": {"mode": 1}, "tier": 2, **whitelist}


def _book_of(order: Order) -> str:
    return _BOOKS.get(order.order_type, "ordinary")


def _ordinary(order: Order) -> bool:
    return _book_of(order) == "ordinary"


def _page(orders: list[Order], call: _Call, *, most: int) -> list[Order]:
    """Cut a page out, by whichever words this endpoint has for it."""
    fields = call.fields
    most = 100 if call.book == "chase" else most
    limit = fields.get("page_size", fields.get("limit", "100"))
    offset, page = fields.get("offset", "0"), fields.get("page_num", fields.get("page", "1"))
    numbers = [limit, offset, page]
    if not all(_WHOLE.fullmatch(each) for each in numbers) or not 1 <= int(limit) <= most:
        raise Refusal("INVALID_PARAM_VALUE", "Invalid parameter `limit`")
    start = int(offset) + (int(page) - 1) * int(limit)
    return orders[start : start + int(limit)]


def _plain(number: Decimal) -> str:
    return format(number, "f")


def _row(order: Order, call: _Call) -> dict[str, Any]:
    """Show an order as its book's listing does."""
    if call.category == "spot":
        spots = {"ordinary": _spot_row, "stop": _spot_trigger, "pov": _pov_row}
        return spots[call.book](order, call)
    rows = {"ordinary": _contract_row, "stop": _trigger_row}
    return rows.get(call.book, _auto_row)(order, call)


def _spot_row(order: Order, call: _Call) -> dict[str, Any]:
    skew_ms = call.request.moment.skew_ms
    return {
        "id": order.order_id,
        "text": order.client_id or "apiv4",
        "create_time": str((order.placed_ms + skew_ms) // 1000),
        "update_time": str((order.changed_ms + skew_ms) // 1000),
        "create_time_ms": order.placed_ms + skew_ms,
        "currency_pair": order.symbol,
        "status": "open",
        "type": "limit",
        "account": call.kind(order),
        "side": order.side,
        "amount": _plain(order.quantity),
        "price": _plain(order.price),
        "time_in_force": "gtc",
        "left": _plain(order.quantity - order.filled_quantity),
        "filled_amount": _plain(order.filled_quantity),
        "gt_discount": False,
        "finish_as": "open",
    }


def _spot_trigger(order: Order, call: _Call) -> dict[str, Any]:
    return {
        "trigger": {"price": _plain(order.price), "rule": ">=", "expiration": 3600},
        "put": {
            "type": "limit",
            "side": order.side,
            "price": _plain(order.price),
            "amount": _plain(order.quantity),
            "account": call.kind(order),
            "time_in_force": "gtc",
            "text": "api",
        },
        "id": int(order.order_id),
        "user": 1234,
        "market": order.symbol,
        "ctime": order.placed_ms // 1000,
        "fired_order_id": 0,
        "status": "",
        "reason": "",
    }


def _pov_row(order: Order, _call: _Call) -> dict[str, Any]:
    return {
        "id": order.order_id,
        "currency_pair": order.symbol,
        "side": order.side,
        "amount": _plain(order.quantity),
        "participation_rate": 10,
        "ttl": "1h",
        "limit_price": _plain(order.price),
        "status": "RUNNING",
        "terminated_as": "",
        "create_time_ms": order.placed_ms,
    }


def _size(number: Decimal, order: Order, call: _Call) -> str | int:
    """Write a size, which is signed; as a number it is rounded down."""
    signed = number if order.side == "buy" else -number
    decimals = call.request.headers.get("x-gate-size-decimal") == "1"
    return _plain(signed) if decimals and call.category != "options" else int(signed)


def _contract_row(order: Order, call: _Call) -> dict[str, Any]:
    return {
        "id": int(order.order_id),
        "user": 100000,
        "contract": order.symbol,
        "create_time": order.placed_ms / 1000,
        "size": _size(order.quantity, order, call),
        "iceberg": "0",
        "left": _size(order.quantity - order.filled_quantity, order, call),
        "price": _plain(order.price),
        "fill_price": "0",
        "tif": "gtc",
        "is_close": False,
        "is_reduce_only": order.reduce_only,
        "text": order.client_id or "api",
        "status": "open",
    }


def _trigger_row(order: Order, call: _Call) -> dict[str, Any]:
    size = _size(order.quantity, order, call)
    initial = {"size": int(Decimal(size)), "amount": str(size), "price": _plain(order.price)}
    flags = {"is_reduce_only": order.reduce_only, "is_close": False}
    return {
        "initial": {"contract": order.symbol, **initial, **flags},
        "trigger": {"strategy_type": 0, "price_type": 0, "price": "3000", "rule": 1},
        "id": int(order.order_id),
        "id_string": order.order_id,
        "create_time": order.placed_ms / 1000,
        "trade_id": 0,
        "status": "open",
        "finish_as": "",
        "reason": "",
        "order_type": "",
    }


def _auto_row(order: Order, call: _Call) -> dict[str, Any]:
    size = _size(order.quantity, order, call)
    return {
        "id": order.order_id,
        "contract": order.symbol,
        "settle": call.category,
        "amount": str(size),
        "activation_price" if call.book == "trail" else "price_limit": _plain(order.price),
        "created_at": str(order.placed_ms // 1000),
        "reduce_only": order.reduce_only,
        "reason": "",
        "original_status": 1,
        "status": "open",
        "error_label": "",
    }


def _ended(row: dict[str, Any], call: _Call, status: Status = Status.CANCELED) -> dict[str, Any]:
    """Show an order that has ended, in its book's own words."""
    filled = status is Status.FILLED
    if call.book in ("trail", "chase"):
        return row | {"status": "finished", "reason": "success" if filled else "cancelled by user"}
    if call.book == "pov":
        return row | {"status": "COMPLETED" if filled else "TERMINATED"}
    if call.book == "stop":
        if call.category == "spot":
            return row | {"status": "finish" if filled else "cancelled"}
        return row | {"status": "finished", "finish_as": "succeeded" if filled else "cancelled"}
    finish_as = "filled" if filled else "cancelled"
    if call.category != "spot":
        return row | {"status": "finished", "finish_as": finish_as}
    ended = row | {"status": "closed" if filled else "cancelled", "finish_as": finish_as}
    cancels = call.request.method == "DELETE"
    return ended | ({"succeeded": True, "label": "", "message": ""} if cancels else {})
