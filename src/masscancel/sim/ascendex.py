"""The AscendEX dialect: REST v1 for cash and margin, v2 for futures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from masscancel.sim.ascendex_stream import AscendEXSession, StreamRules
from masscancel.sim.ascendex_wire import (
    Refusal,
    authenticate,
    check_group,
    check_permission,
    checked_id,
    checked_symbol,
    checked_time,
    futures_row,
    json_object,
    order_row,
    positive,
    risk_limits,
    simple_error,
)
from masscancel.sim.dialect import Reply, Request, Route, StreamRoute, json_reply
from masscancel.sim.engine import Engine, random_id
from masscancel.sim.orders import Account, Order, Script

if TYPE_CHECKING:
    import random

_V1: Final = "/{group}/api/pro/v1/{category}"
_V2: Final = "/{group}/api/pro/v2/futures"
_V1_CATEGORIES: Final = ("cash", "margin")
_MARKET: Final = Script(fill_delay_ms=0)


class _Call(msgspec.Struct, frozen=True):
    """A request that has been let in: whose it is, and what it asks for."""

    engine: Engine
    request: Request
    account: Account
    category: str

    @property
    def account_id(self) -> str:
        return self.account.ids[self.category]

    @property
    def futures(self) -> bool:
        return self.category == "futures"


_Action = Callable[[_Call], dict[str, Any]]


class AscendEXDialect:
    """AscendEX Pro, as its documents and a published live reply describe it.

    `symbols` are those that exist (None: every well-formed one). `live_acks` makes a cancel-all's
    Ack as it was seen live, with an empty `orderType`; else as the documents have it.
    `documented_futures` makes the futures Ack the documents' bare `{"code":0}`; else as it was seen
    live, without status and timestamp. `window_ms` is how far a timestamp may be from the venue's
    clock, either way. Errors arrive with the HTTP status `error_status`. `greeting`, `echo` and
    `quiet_ms` are those of `StreamRules`.
    """

    name: Final = "ascendex"
    categories: Final[Mapping[str, str]] = {"cash": "csh", "margin": "mar", "futures": "fut"}

    def __init__(
        self,
        *,
        symbols: Iterable[str] | None = None,
        live_acks: bool = False,
        documented_futures: bool = False,
        window_ms: int = 30_000,
        error_status: int = 200,
        greeting: Literal["op", "m"] = "op",
        echo: Literal["message", "args"] = "message",
        quiet_ms: int = 30_000,
    ) -> None:
        self.symbols = None if symbols is None else frozenset(symbols)
        self.live_acks = live_acks
        self.documented_futures = documented_futures
        self.window_ms = window_ms
        self.error_status = error_status
        self.stream_rules = StreamRules(
            symbols=self.symbols,
            window_ms=window_ms,
            greeting=greeting,
            echo=echo,
            quiet_ms=quiet_ms,
        )

    # --- the dialect ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Every request of the reference page."""
        routes = [
            Route("GET", "/api/pro/v1/exchange-info", "clock", self._clock),
            Route("GET", "/api/pro/v2/risk-limit-info", "limits", self._limits),
            self._route("GET", "/api/pro/v1/info", "info", "info", self._info),
            self._route(
                "GET", "/api/pro/v2/account/info", "v2/account/info", "info", self._info_v2
            ),
        ]
        for prefix, signed in ((_V1, ""), (_V2, "v2/futures/")):
            routes += [
                self._route(method, f"{prefix}/{path}", signed + path, operation, action)
                for method, path, operation, action in (
                    ("DELETE", "order/all", "cancel-all", self._cancel_all),
                    ("GET", "order/open", "open-orders", self._open_orders),
                    ("GET", "order/status", "order-status", self._order_status),
                    ("POST", "order", "place-order", self._place_order),
                    ("DELETE", "order", "cancel-order", self._cancel_order),
                )
            ]
        return routes

    def stream_routes(self) -> list[StreamRoute]:
        """Offer the websockets: one for cash and margin, one for futures."""
        return [
            StreamRoute(
                f"/{{group}}/api/pro/{version}/stream",
                "stream",
                partial(self._open_stream, version),
            )
            for version in ("v1", "v2")
        ]

    def api_key(self, request: Request) -> str:
        """Tell the key that the request claims."""
        return request.headers.get("x-auth-key", "")

    def unknown(self, _request: Request) -> Reply:
        """Answer 404, with an error of the usual form."""
        return json_reply(simple_error(Refusal(100001, "No such endpoint")), 404)

    def order_id(self, rng: random.Random, _serial: int) -> str:
        """Make an id of 32 letters and digits."""
        return random_id(rng, "r")

    # --- letting requests in --------------------------------------------------------------------

    def _route(
        self, method: str, template: str, api_path: str, operation: str, action: _Action
    ) -> Route:
        return Route(
            method, template, operation, partial(self._answer, api_path, operation, action)
        )

    def _answer(
        self, api_path: str, operation: str, action: _Action, engine: Engine, request: Request
    ) -> Reply:
        category = (
            "futures" if api_path.startswith("v2/futures") else request.params.get("category")
        )
        about: dict[str, Any] = {}
        try:
            account = self._account(engine, request, api_path)
            if category is None:
                return json_reply({"code": 0} | action(_Call(engine, request, account, "cash")))
            about = {"ac": category.upper(), "accountId": account.ids.get(category, "")}
            self._let_in(account, request, category)
            return json_reply({"code": 0} | action(_Call(engine, request, account, category)))
        except Refusal as refusal:
            envelope = simple_error(refusal) | {"status": "Err", "action": operation}
            return json_reply(envelope | about, self.error_status)

    def _account(self, engine: Engine, request: Request, api_path: str) -> Account:
        headers = request.headers
        return authenticate(
            engine,
            key=headers.get("x-auth-key"),
            timestamp=headers.get("x-auth-timestamp"),
            signed=headers.get("x-auth-signature"),
            api_path=api_path,
            venue_ms=request.moment.venue_ms,
            window_ms=self.window_ms,
        )

    def _open_stream(
        self, version: str, engine: Engine, request: Request
    ) -> AscendEXSession | Reply:
        futures = version == "v2"
        group = request.params["group"]
        account = None
        if "x-auth-key" in request.headers:  # else the login may follow as a message
            try:
                account = self._account(engine, request, "v2/stream" if futures else "stream")
                check_group(account, group)
            except Refusal as refusal:
                return json_reply(simple_error(refusal), 401)
        return AscendEXSession(
            engine, self.stream_rules, futures=futures, group=group, account=account
        )

    def _let_in(self, account: Account, request: Request, category: str) -> None:
        check_group(account, request.params["group"])
        if "category" in request.params and category not in _V1_CATEGORIES:
            raise Refusal(100006, f"Invalid account category: {category}")
        if category not in account.ids:
            raise Refusal(200004, f"No {category} account")
        check_permission(account, "view" if request.method == "GET" else "trade")

    # --- orders ---------------------------------------------------------------------------------

    def _cancel_all(self, call: _Call) -> dict[str, Any]:
        body = self._body(call)
        symbol = body.get("symbol")
        if symbol is not None:
            symbol = checked_symbol(symbol, call.category, self.symbols)
        request_id = checked_id(body.get("id"))
        call.engine.cancel_all(
            call.account,
            call.category,
            symbol,
            now_ms=call.request.moment.now_ms,
            effect_delay_ms=call.request.moment.effect_delay_ms,
            request_id=request_id,
        )
        if not call.futures:
            order_type = "" if self.live_acks else "NULL_VAL"
            return self._ack(call, "cancel-all", request_id, "", order_type, symbol or "")
        if self.documented_futures:
            return {}
        return {
            "data": {
                "ac": "FUTURES",
                "accountId": call.account_id,
                "action": "cancel-all",
                "info": {"symbol": symbol or ""},
            }
        }

    def _open_orders(self, call: _Call) -> dict[str, Any]:
        symbol = call.request.query.get("symbol")
        if symbol is not None:
            symbol = checked_symbol(symbol, call.category, self.symbols)
        orders = call.engine.open_orders(call.account, call.category, symbol)
        rows = [self._row(call, order) for order in orders]
        if call.futures:
            return {"data": rows}
        return {"ac": call.category.upper(), "accountId": call.account_id, "data": rows}

    def _order_status(self, call: _Call) -> dict[str, Any]:
        wanted = call.request.query.get("orderId", "")
        orders = [self._known(call, order_id) for order_id in wanted.split(",")]
        rows = [self._row(call, order) for order in orders if order is not None]
        head = {"accountId": call.account_id}
        head["ac" if call.futures else "accountCategory"] = call.category.upper()
        if "," in wanted:
            return head | {"data": rows}
        if not rows:
            raise Refusal(300006, f"Invalid order id: {wanted}")
        return head | {"data": rows[0]}

    def _place_order(self, call: _Call) -> dict[str, Any]:
        body = self._body(call)
        order_type = str(body.get("orderType")).lower()
        side = str(body.get("side")).lower()
        if order_type not in ("limit", "market"):
            raise Refusal(300005, f"Invalid order type: {body.get('orderType')}")
        if side not in ("buy", "sell"):
            raise Refusal(300003, f"Invalid side: {body.get('side')}")
        market = order_type == "market"
        now_ms = call.request.moment.now_ms
        order = call.engine.place(
            call.account,
            call.category,
            checked_symbol(body.get("symbol"), call.category, self.symbols),
            side=side,
            price=positive(1 if market else body.get("orderPrice"), 300001, "price"),
            quantity=positive(body.get("orderQty"), 300002, "quantity"),
            order_type=order_type,
            client_id=checked_id(body.get("id")),
            now_ms=now_ms,
            script=_MARKET if market else None,
        )
        wants = str(body.get("respInst", "ACK")).upper()
        if wants != "ACK":  # ACCEPT and DONE wait for the matching engine
            call.engine.advance(now_ms)
            order = call.engine.order(order.order_id) or order
        if call.futures:
            return {
                "data": {
                    "meta": {"action": "place-order", "id": order.client_id, "respInst": wants},
                    "order": self._row(call, order),
                }
            }
        if order.status.is_open or order.status.is_final:
            return self._done(call, wants, self._row(call, order))
        return self._ack(
            call,
            "place-order",
            order.client_id,
            order.order_id,
            order_type.capitalize(),
            order.symbol,
        )

    def _cancel_order(self, call: _Call) -> dict[str, Any]:
        body = self._body(call)
        symbol = checked_symbol(body.get("symbol"), call.category, self.symbols)
        request_id = checked_id(body.get("id"))
        order_id = body.get("orderId")
        if not isinstance(order_id, str) or not order_id:
            raise Refusal(300006, f"Invalid order id: {order_id}")
        order = self._known(call, order_id)
        if (
            order is None
            or order.symbol != symbol
            or not call.engine.cancel(
                order_id,
                now_ms=call.request.moment.now_ms,
                effect_delay_ms=call.request.moment.effect_delay_ms,
                request_id=request_id,
            )
        ):
            raise Refusal(300019, "Trying to cancel non-open order")
        if call.futures:
            return {
                "data": {
                    "meta": {"action": "cancel-order", "id": request_id, "respInst": "ACK"},
                    "order": self._row(call, order),
                }
            }
        return self._ack(call, "cancel-order", request_id, order_id, "", symbol)

    def _body(self, call: _Call) -> dict[str, Any]:
        body = json_object(call.request.body)
        checked_time(body.get("time"), call.request.moment.venue_ms, self.window_ms)
        return body

    def _known(self, call: _Call, order_id: str) -> Order | None:
        """Find an order of this account that has been acknowledged, or rejected."""
        order = call.engine.order(order_id)
        if order is None or order.account_id != call.account_id:
            return None
        return order if order.status.is_open or order.status.is_final else None

    def _row(self, call: _Call, order: Order) -> dict[str, Any]:
        return (futures_row if call.futures else order_row)(order, call.request.moment.skew_ms)

    def _done(self, call: _Call, status: str, info: dict[str, Any]) -> dict[str, Any]:
        data = {"ac": call.category.upper(), "accountId": call.account_id, "action": "place-order"}
        return {"data": data | {"status": status, "info": info}}

    def _ack(
        self,
        call: _Call,
        action: str,
        request_id: str,
        order_id: str,
        order_type: str,
        symbol: str,
    ) -> dict[str, Any]:
        return {
            "data": {
                "ac": call.category.upper(),
                "accountId": call.account_id,
                "action": action,
                "info": {
                    "id": request_id,
                    "orderId": order_id,
                    "orderType": order_type,
                    "symbol": symbol,
                    "timestamp": call.request.moment.venue_ms,
                },
                "status": "Ack",
            }
        }

    # --- the rest -------------------------------------------------------------------------------

    def _info(self, call: _Call) -> dict[str, Any]:
        account = call.account
        data = {
            "accountGroup": account.group,
            "email": "someone@example.com",
            "expireTime": int(account.extra.get("expires_ms", -1)),
            "allowedIps": account.extra.get("addresses", "").split(),
            "userUID": "U0000000000",
            "tradePermission": "trade" in account.permissions,
            "transferPermission": False,
            "viewPermission": "view" in account.permissions,
        }
        for category in _V1_CATEGORIES:
            data[f"{category}Account"] = [i for c, i in account.ids.items() if c == category]
        return {"data": data}

    def _info_v2(self, call: _Call) -> dict[str, Any]:
        futures = [i for c, i in call.account.ids.items() if c == "futures"]
        data = self._info(call)["data"]
        return {"data": data | {"futuresAccount": futures, "limitQuota": 1000}}

    def _clock(self, _engine: Engine, request: Request) -> Reply:
        asked = request.query.get("requestTime", "")
        if not asked.isascii() or not asked.isdigit():
            refusal = Refusal(100006, "requestTime must be a number of milliseconds")
            return json_reply(simple_error(refusal), self.error_status)
        times = {"requestTimeEcho": int(asked), "requestReceiveAt": request.moment.venue_ms}
        latency = request.moment.venue_ms - int(asked)
        return json_reply({"code": 0, "data": times | {"latency": latency}})

    def _limits(self, _engine: Engine, request: Request) -> Reply:
        return json_reply({"code": 0, "data": risk_limits(request.remote)})
