"""The Bitget dialect: classic accounts by the API v2, unified ones by v3. One origin serves both.

Written from the venue's documents (https://www.bitget.com/api-doc), sharing no code with the
client. An order's `order_type` says which book it is in; see `BOOKS`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from masscancel.sim.bitget_rows import (
    STATUSES,
    margin_row,
    mix_row,
    named,
    plan_row,
    spot_row,
    strategy_row,
    unified_row,
)
from masscancel.sim.dialect import Reply, Request, Route, StreamRoute, json_reply
from masscancel.sim.orders import Account, Order

if TYPE_CHECKING:
    import random

    from masscancel.sim.engine import Engine

PLAN_TYPES: Final = ("normal_plan", "profit_plan", "loss_plan", "pos_profit", "pos_loss")
TRAILING: Final = ("moving_plan", "track_plan")
STRATEGIES: Final = ("tpsl", "trigger")
BOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    "tpsl": ("tpsl",),  # classic spot
    "plan": ("plan",),  # classic spot
    "futures plan": (*PLAN_TYPES, *TRAILING),  # classic futures
    "isolated": ("isolated",),  # classic margin; the others are crossed
    "strategy": STRATEGIES,  # unified
}
"""The `order_type` of the orders in each book that is not the ordinary one."""

_FUTURES: Final = ("usdt-futures", "coin-futures", "usdc-futures")
_LISTED_TOGETHER: Final = {"profit_loss": {*PLAN_TYPES, "moving_plan"} - {"normal_plan"}}
_PAGE: Final = 100
_BATCH: Final = 50
_WIDTH_MS: Final = 30_000


class Refusal(Exception):  # a refused request is an answer, not a failure of ours
    """The venue says no."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class _Call(msgspec.Struct, frozen=True):
    """A request that has been let in: whose it is, and its parameters."""

    engine: Engine
    request: Request
    account: Account
    fields: Mapping[str, Any]

    def need(self, name: str) -> Any:
        value = self.fields.get(name)
        if not value:
            raise Refusal("40019", f"Parameter {name} cannot be empty")
        return value


_Action = Callable[[_Call], Any]
_Only = Callable[[Order], bool]


def signature(secret: str, text: str) -> str:
    """Sign as the documents say: Base64 of HMAC-SHA256, the key being the secret as text."""
    return base64.b64encode(
        hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    ).decode()


class BitgetDialect:
    """Bitget, as its documents describe it.

    `unified` says which kind of account all of them are. `symbols` are those that exist (None:
    every one). Futures refuse a cancel-all where nothing is open, unless `flat_is_an_error` is
    false; spot's cancel of a symbol leaves TP/SL orders alone, unless `sweeps_tpsl`: the documents
    say neither.
    """

    name: Final = "bitget"
    categories: Final[Mapping[str, str]] = {
        "spot": "sp",
        "margin": "ma",
        "usdt-futures": "uf",
        "coin-futures": "cf",
        "usdc-futures": "df",
    }

    def __init__(
        self,
        *,
        unified: bool = False,
        symbols: Iterable[str] | None = None,
        flat_is_an_error: bool = True,
        sweeps_tpsl: bool = False,
    ) -> None:
        self.unified = unified
        self.symbols = None if symbols is None else frozenset(symbols)
        self.flat_is_an_error = flat_is_an_error
        self.sweeps_tpsl = sweeps_tpsl

    # --- the dialect ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Offer what a cancel-all needs, to both kinds of account."""
        spot, mix, margin = "/api/v2/spot/trade", "/api/v2/mix/order", "/api/v2/margin"
        trade, cancel, listing, state = "/api/v3/trade", "cancel-all", "open-orders", "order-status"
        modes = [(f"{margin}/{mode}", mode) for mode in ("crossed", "isolated")]
        return [
            Route("GET", "/api/v2/public/time", "clock", _clock),
            Route("GET", "/api/v3/public/time", "clock", _clock),
            Route("GET", f"{margin}/currencies", "pairs", self._pairs),
            self._route("GET", "/api/v2/spot/account/info", "info", _info),
            self._route("GET", f"{spot}/unfilled-orders", listing, self._spot_orders),
            self._route("GET", f"{spot}/current-plan-order", listing, self._spot_plans),
            self._route("POST", f"{spot}/cancel-symbol-order", cancel, self._cancel_symbol),
            self._route("POST", f"{spot}/batch-cancel-order", cancel, self._cancel_on_spot),
            self._route("POST", f"{spot}/batch-cancel-plan-order", cancel, self._cancel_spot_plans),
            self._route("GET", f"{spot}/orderInfo", state, self._spot_order),
            self._route("GET", f"{spot}/history-plan-order", state, self._spot_history),
            self._route("GET", f"{mix}/orders-pending", listing, self._futures_orders),
            self._route("GET", f"{mix}/orders-plan-pending", listing, self._futures_plans),
            self._route("POST", f"{mix}/cancel-all-orders", cancel, self._cancel_futures),
            self._route("POST", f"{mix}/batch-cancel-orders", cancel, self._cancel_futures),
            self._route("POST", f"{mix}/cancel-plan-order", cancel, self._cancel_futures_plans),
            self._route("GET", f"{mix}/detail", state, self._futures_order),
            self._route("GET", f"{mix}/orders-plan-history", state, self._futures_history),
            *(
                route
                for path, mode in modes
                for route in (
                    self._route("GET", f"{path}/open-orders", listing, self._margin(mode)),
                    self._route(
                        "POST", f"{path}/batch-cancel-order", cancel, self._margin_cancel(mode)
                    ),
                    self._route("GET", f"{path}/history-orders", state, self._margin_history(mode)),
                )
            ),
            *(
                self._route("POST", f"{root}/cancel-order", "cancel-order", self._cancel_one)
                for root in (spot, mix, f"{margin}/crossed", trade)
            ),
            self._route("GET", f"{trade}/unfilled-orders", listing, self._orders),
            self._route("GET", f"{trade}/unfilled-strategy-orders", listing, self._strategies),
            self._route("POST", f"{trade}/cancel-symbol-order", cancel, self._cancel),
            self._route("POST", f"{trade}/cancel-strategy-order", cancel, self._cancel_strategy),
            self._route("GET", f"{trade}/order-info", state, self._order),
            self._route("GET", f"{trade}/history-strategy-orders", state, self._history),
        ]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer none."""
        return []

    def api_key(self, request: Request) -> str:
        """Tell the key that the request claims."""
        return request.headers.get("access-key", "")

    def unknown(self, _request: Request) -> Reply:
        """Answer that there is no such address."""
        return json_reply({"code": "40404", "msg": "Request URL NOT FOUND", "data": None}, 404)

    def order_id(self, _rng: random.Random, serial: int) -> str:
        """Make an id, which is a number, and greater than those before."""
        return str(1_300_000_000_000_000_000 + serial)

    # --- letting requests in --------------------------------------------------------------------

    def _route(self, method: str, path: str, operation: str, action: _Action) -> Route:
        return Route(method, path, operation, partial(self._answer, action))

    def _answer(self, action: _Action, engine: Engine, request: Request) -> Reply:
        try:
            account = self._authenticate(engine, request)
            fields = _body(request) if request.method == "POST" else request.query
            data = action(_Call(engine, request, account, fields))
        except Refusal as refusal:
            return _reply(None, refusal.code, refusal.message, request, refusal.status)
        return _reply(data, "00000", "success", request)

    def _authenticate(self, engine: Engine, request: Request) -> Account:
        """Tell whose request this is; check time, signature, passphrase, permission and kind."""
        headers = request.headers
        for code, name in (
            ("40001", "access-key"),
            ("40003", "access-sign"),
            ("40005", "access-timestamp"),
            ("40011", "access-passphrase"),
        ):
            if not headers.get(name):
                raise Refusal(code, f"{name.upper()} cannot be empty")
        stamp = headers["access-timestamp"]
        if not (stamp.isascii() and stamp.isdigit()):
            raise Refusal("40005", "Invalid ACCESS_TIMESTAMP")
        if abs(int(stamp) - request.moment.venue_ms) > _WIDTH_MS:
            raise Refusal("40008", "Request timestamp expired")
        account = engine.accounts.get(headers["access-key"])
        if account is None:
            raise Refusal("40006", "Invalid ACCESS_KEY")
        query = f"?{unquote(request.query_string)}" if request.query_string else ""
        text = f"{stamp}{request.method}{request.path}{query}{request.body.decode()}"
        expected = signature(account.api_secret, text)
        if not hmac.compare_digest(headers["access-sign"].encode(), expected.encode()):
            raise Refusal("40009", "sign signature error")
        if headers["access-passphrase"] != account.extra.get("passphrase", ""):
            raise Refusal("40012", "apikey/password is incorrect")
        needed = "view" if request.method == "GET" else "trade"
        if needed not in account.permissions:
            raise Refusal("40014", f"Incorrect permissions, need {needed} permissions")
        if request.path.startswith("/api/v3/") and not self.unified:
            raise Refusal("25245", "The account is not the unified account mode")
        if request.path.startswith("/api/v2/") and self.unified:
            message = (
                "You are in Unified Account mode, and the Classic Account API is not supported"
            )
            raise Refusal("40085", message)
        return account

    def _symbol(self, call: _Call) -> str | None:
        """The symbol that is asked for, if one is; it has to exist."""
        symbol = call.fields.get("symbol")
        if symbol and self.symbols is not None and symbol not in self.symbols:
            if self.unified:
                raise Refusal("25100", f"Trading pair {symbol} does not exist")
            raise Refusal("40034", f"Parameter {symbol} does not exist")
        return symbol or None

    # --- books ----------------------------------------------------------------------------------

    def _open(self, call: _Call, category: str, only: _Only) -> list[Order]:
        """List the orders of a book, the newest first, and of a symbol if one is asked for."""
        if category not in call.account.ids:
            raise Refusal("40014", "Incorrect permissions, need trade permissions")
        orders = call.engine.open_orders(call.account, category, self._symbol(call))
        return [order for order in reversed(orders) if only(order)]

    def _take(self, call: _Call, category: str, only: _Only, symbol: str | None) -> tuple[str, ...]:
        """Cancel the orders of a book; returns the ids of what it reaches."""
        if category not in call.account.ids:
            raise Refusal("40014", "Incorrect permissions, need trade permissions")
        moment = call.request.moment
        return call.engine.cancel_all(
            call.account,
            category,
            symbol,
            now_ms=moment.now_ms,
            effect_delay_ms=moment.effect_delay_ms,
            only=only,
        ).order_ids

    def _take_ids(
        self, call: _Call, category: str, only: _Only, ids: Sequence[str], **words: str
    ) -> dict[str, Any]:
        """Cancel orders by their ids; those that are not in the book are failures."""
        if len(ids) > _BATCH:
            raise Refusal("40058", f"Parameter orderIdList Only a maximum of {_BATCH} is allowed")
        done = self._take(call, category, lambda o: only(o) and o.order_id in ids, None)
        return {
            "successList": [named(order_id) for order_id in ids if order_id in done],
            "failureList": [named(i) | words for i in ids if i not in done],
        }

    def _cancel_one(self, call: _Call) -> dict[str, Any]:
        """Cancel one order, by its id or the client's, in whatever family it is."""
        order_id, client_id = (call.fields.get(name) or "" for name in ("orderId", "clientOid"))
        if not order_id and not client_id:
            raise Refusal("40019", "Parameter orderId cannot be empty")
        self._symbol(call)
        for category in call.account.ids:
            for order in call.engine.open_orders(call.account, category):
                if order_id == order.order_id or (not order_id and client_id == order.client_id):
                    call.engine.cancel(order.order_id, now_ms=call.request.moment.now_ms)
                    return {"orderId": order.order_id, "clientOid": order.client_id}
        code = "25204" if self.unified else "40768" if "/mix/" in call.request.path else "43001"
        raise Refusal(code, "The order does not exist")

    # --- classic: spot --------------------------------------------------------------------------

    def _spot_orders(self, call: _Call) -> list[dict[str, Any]]:
        kind = call.fields.get("tpslType") or "normal"
        only = partial(_in_book, "tpsl") if kind == "tpsl" else _is_ordinary
        return [spot_row(order, kind) for order in _page(call, self._open(call, "spot", only))]

    def _spot_plans(self, call: _Call) -> dict[str, Any]:
        orders = self._open(call, "spot", partial(_in_book, "plan"))
        page = _page(call, orders, least=20)
        return {
            "nextFlag": bool(page) and page[-1] is not orders[-1],
            "idLessThan": page[-1].order_id if page else "",
            "orderList": [plan_row(order, "not_trigger") for order in page],
        }

    def _cancel_symbol(self, call: _Call) -> dict[str, str]:
        call.need("symbol")
        symbol = self._symbol(call)
        reaches = ("tpsl",) if self.sweeps_tpsl else ()
        self._take(call, "spot", lambda o: _is_ordinary(o) or o.order_type in reaches, symbol)
        return {"symbol": symbol or ""}

    def _cancel_on_spot(self, call: _Call) -> dict[str, Any]:
        if call.fields.get("batchMode") != "multiple":
            raise Refusal("40019", "Parameter symbol cannot be empty")
        wanted = {(each.get("symbol"), each.get("orderId")) for each in call.need("orderList")}
        ids = [order_id for _, order_id in sorted(wanted)]
        return self._take_ids(
            call,
            "spot",
            lambda o: not _in_book("plan", o) and (o.symbol, o.order_id) in wanted,
            ids,
            errorMsg="The order does not exist",
            errorCode="43001",
        )

    def _cancel_spot_plans(self, call: _Call) -> dict[str, Any]:
        symbols = call.fields.get("symbolList") or []
        for symbol in symbols:
            self._symbol(msgspec.structs.replace(call, fields={"symbol": symbol}))
        chosen = partial(_in_book, "plan")
        done = self._take(
            call, "spot", lambda o: chosen(o) and (not symbols or o.symbol in symbols), None
        )
        return {"successList": [named(order_id) for order_id in done], "failureList": []}

    def _spot_order(self, call: _Call) -> list[dict[str, Any]]:
        order = _find(call, "spot", call.need("orderId"))
        if order is None or _in_book("plan", order):
            return []
        return [spot_row(order, "normal") | {"status": STATUSES[order.status]}]

    def _spot_history(self, call: _Call) -> dict[str, Any]:
        rows = [
            plan_row(o, STATUSES[o.status]) for o in _ended(call, "spot") if o.order_type == "plan"
        ]
        return {"nextFlag": False, "idLessThan": "1", "orderList": rows}

    # --- classic: futures -----------------------------------------------------------------------

    def _product(self, call: _Call) -> str:
        category = str(call.need("productType")).lower()
        if category not in _FUTURES:
            raise Refusal("40020", "Parameter productType error")
        return category

    def _futures_orders(self, call: _Call) -> dict[str, Any]:
        status = call.fields.get("status") or "live"
        orders = self._open(call, self._product(call), _is_ordinary)
        return _entrusted(call, [o for o in orders if STATUSES[o.status] == status], mix_row)

    def _futures_plans(self, call: _Call) -> dict[str, Any]:
        kind = call.need("planType")
        kinds = _LISTED_TOGETHER.get(kind, {kind})
        orders = self._open(call, self._product(call), lambda o: o.order_type in kinds)
        return _entrusted(call, orders, partial(plan_row, status="live"))

    def _cancel_futures(self, call: _Call) -> dict[str, Any]:
        category, symbol = self._product(call), self._symbol(call)
        if listed := call.fields.get("orderIdList"):
            ids = [each["orderId"] for each in listed]
            call.need("symbol")
            return self._take_ids(call, category, _is_ordinary, ids, errorMsg="notExistend")
        done = self._take(call, category, _is_ordinary, symbol)
        if not done and self.flat_is_an_error:
            raise Refusal("22001", "No order to cancel")
        return {"successList": [named(order_id) for order_id in done], "failureList": []}

    def _cancel_futures_plans(self, call: _Call) -> dict[str, Any]:
        category, symbol = self._product(call), self._symbol(call)
        kind = call.fields.get("planType") or "normal_plan"
        if listed := call.fields.get("orderIdList"):
            ids = [each["orderId"] for each in listed]
            call.need("symbol")
            chosen = partial(_in_book, "futures plan")
            return self._take_ids(call, category, chosen, ids, errorMsg="notExistend")
        if kind not in (*PLAN_TYPES, "moving_plan"):
            raise Refusal("40020", "Parameter planType error")
        done = self._take(call, category, lambda o: o.order_type == kind, symbol)
        return {"successList": [named(order_id) for order_id in done], "failureList": []}

    def _futures_order(self, call: _Call) -> dict[str, Any]:
        order = _find(call, self._product(call), call.need("orderId"))
        if order is None or not _is_ordinary(order):
            raise Refusal(
                "40109", "The data of the order cannot be found, please confirm the order"
            )
        row = mix_row(order)
        return row | {"state": row.pop("status").replace("cancelled", "canceled")}

    def _futures_history(self, call: _Call) -> dict[str, Any]:
        kind = call.need("planType")
        kinds = _LISTED_TOGETHER.get(kind, {kind})
        orders = [o for o in _ended(call, self._product(call)) if o.order_type in kinds]
        rows = [plan_row(o, STATUSES[o.status]) for o in orders]
        wanted = call.fields.get("orderId")
        rows = [row for row in rows if wanted in (None, row["orderId"])]
        return {"entrustedList": rows or None, "endId": rows[-1]["orderId"] if rows else None}

    # --- classic: margin ------------------------------------------------------------------------

    def _pairs(self, engine: Engine, request: Request) -> Reply:
        symbols = self.symbols or {order.symbol for order in engine.orders()}
        return _reply([{"symbol": name} for name in sorted(symbols)], "00000", "success", request)

    def _margin(self, mode: str) -> _Action:
        def listing(call: _Call) -> dict[str, Any]:
            call.need("symbol")
            since = int(call.need("startTime"))
            orders = self._open(call, "margin", partial(_in_mode, mode))
            skew_ms = call.request.moment.skew_ms
            orders = [order for order in orders if order.placed_ms + skew_ms >= since]
            pages = mode == "crossed"
            page = _page(call, orders) if pages else orders[: int(call.fields.get("limit", _PAGE))]
            ids = [order.order_id for order in page]
            ends = {"maxId": ids[0], "minId": ids[-1]} if ids else {"maxId": None, "minId": None}
            return {"orderList": [margin_row(order) for order in page], **ends}

        return listing

    def _margin_cancel(self, mode: str) -> _Action:
        def cancel(call: _Call) -> dict[str, Any]:
            call.need("symbol")
            symbol = self._symbol(call)
            ids = [each["orderId"] for each in call.need("orderIdList")]
            answer = self._take_ids(
                call, "margin", lambda o: _in_mode(mode, o) and o.symbol == symbol, ids
            )
            for failure in answer["failureList"]:
                failure["errorMsg"] = "Order Cancelled"
                if mode == "isolated":  # which documents no more than these two
                    del failure["orderId"]
            return answer

        return cancel

    def _margin_history(self, mode: str) -> _Action:
        def history(call: _Call) -> dict[str, Any]:
            call.need("startTime")
            order = _find(call, "margin", call.need("orderId"))
            found = order is not None and _in_mode(mode, order)
            return {"orderList": [margin_row(order)] if found and order else [], "maxId": "1"}

        return history

    # --- unified --------------------------------------------------------------------------------

    def _category(self, call: _Call) -> str:
        category = str(call.need("category")).lower()
        if category not in self.categories:
            raise Refusal("25200", "category validation error")
        return category

    def _orders(self, call: _Call) -> dict[str, Any]:
        orders = self._open(call, self._category(call), _is_no_strategy)
        page = _page(call, orders, cursor="cursor")
        rows = [unified_row(order) for order in page]
        return {"list": rows, "cursor": page[-1].order_id if page else None}

    def _strategies(self, call: _Call) -> list[dict[str, Any]]:
        kind = call.fields.get("type") or "tpsl"
        call = msgspec.structs.replace(call, fields={**call.fields, "symbol": ""})  # takes none
        orders = self._open(call, self._category(call), lambda o: o.order_type == kind)
        return [strategy_row(order) for order in orders]

    def _cancel(self, call: _Call) -> dict[str, Any]:
        done = self._take(call, self._category(call), _is_no_strategy, self._symbol(call))
        return {"list": [named(order_id) for order_id in done]}

    def _cancel_strategy(self, call: _Call) -> None:
        wanted = call.need("orderId")

        def only(order: Order) -> bool:
            return _in_book("strategy", order) and order.order_id == wanted

        if not any(self._take(call, category, only, None) for category in call.account.ids):
            raise Refusal("25597", "Strategy does not exist or has already been stopped")

    def _order(self, call: _Call) -> dict[str, Any]:
        wanted = call.need("orderId")
        found = [_find(call, category, wanted) for category in call.account.ids]
        order = next((each for each in found if each and _is_no_strategy(each)), None)
        if order is None:
            raise Refusal("25204", "Order does not exist")
        return unified_row(order)

    def _history(self, call: _Call) -> dict[str, Any]:
        kind = call.fields.get("type") or "tpsl"
        orders = [o for o in _ended(call, self._category(call)) if o.order_type == kind]
        return {"list": [strategy_row(order) for order in orders]}


def _reply(data: Any, code: str, message: str, request: Request, status: int = 200) -> Reply:
    body = {"code": code, "msg": message, "requestTime": request.moment.venue_ms, "data": data}
    return json_reply(body, status)


def _body(request: Request) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(request.body, type=dict[str, Any])
    except msgspec.DecodeError:
        raise Refusal("40017", "Parameter verification failed") from None
    return body


def _clock(_engine: Engine, request: Request) -> Reply:
    data = {"serverTime": str(request.moment.venue_ms)}
    return _reply(data, "00000", "success", request)


def _info(call: _Call) -> dict[str, Any]:
    writes = ["stow", "coow", "smow"] if "trade" in call.account.permissions else []
    ips = call.account.extra.get("addresses", "").replace(" ", ",")
    return {"userId": "**********", "ips": ips, "authorities": ["stor", "coor", "smor", *writes]}


def _in_book(book: str, order: Order) -> bool:
    return order.order_type in BOOKS[book]


def _is_ordinary(order: Order) -> bool:
    """Tell whether an order of a classic account is in no other book than the ordinary one."""
    return not any(_in_book(book, order) for book in ("tpsl", "plan", "futures plan"))


def _in_mode(mode: str, order: Order) -> bool:
    return _in_book("isolated", order) is (mode == "isolated")


def _is_no_strategy(order: Order) -> bool:
    return not _in_book("strategy", order)


def _page(
    call: _Call, orders: list[Order], *, cursor: str = "idLessThan", least: int = _PAGE
) -> list[Order]:
    """Cut a page out of orders, which begins after the one that it is asked for with."""
    before = call.fields.get(cursor)
    limit = min(int(call.fields.get("limit", least)), _PAGE)
    return [o for o in orders if not before or int(o.order_id) < int(before)][:limit]


def _entrusted(
    call: _Call, orders: list[Order], row: Callable[[Order], dict[str, Any]]
) -> dict[str, Any]:
    """Show a page of futures; no orders at all are `null`."""
    page = _page(call, orders)
    rows = [row(order) for order in page] or None
    return {"entrustedList": rows, "endId": page[-1].order_id if page else None}


def _find(call: _Call, category: str, order_id: str) -> Order | None:
    """Find an order of the account, whatever has become of it."""
    order = call.engine.order(order_id)
    mine = order is not None and order.account_id == call.account.ids.get(category)
    return order if mine else None


def _ended(call: _Call, category: str) -> list[Order]:
    """List the orders of a category that are open no more, the newest first."""
    mine = call.account.ids[category]
    orders = [o for o in call.engine.orders() if o.account_id == mine and o.status.is_final]
    return orders[::-1]
