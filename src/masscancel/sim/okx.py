"""The OKX dialect: one account with a category for each type of instrument, and one for all.

Written from https://www.okx.com/docs-v5/en ("REST Authentication", "Trade", "Algo Trading", "Spread
Trading", "Error Code"), sharing no code with the client.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from masscancel.sim.dialect import Reply, Request, Route, StreamRoute, json_reply
from masscancel.sim.orders import Account, Order, Status

if TYPE_CHECKING:
    import random

    from masscancel.sim.engine import Engine

ALGOS: Final = frozenset(
    {"conditional", "oco", "trigger", "move_order_stop", "chase", "iceberg", "twap"}
    | {"smart_iceberg"}
)
"""The `order_type` of algo orders; others are ordinary ones."""

_WINDOW_MS: Final = 30_000
_PAGE: Final = 100
_BATCH: Final = 20
_ALGO_BATCH: Final = 10
_LONGEST_COUNTDOWN_S: Final = 120
_SHORTEST_COUNTDOWN_S: Final = 10
_TYPES: Final = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION", "EVENTS")
_ALGO_TYPES: Final = ("SPOT", "MARGIN", "SWAP", "FUTURES")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_WHOLE: Final = re.compile(r"[0-9]{1,20}")
_STATES: Final = {
    Status.NEW: "live",
    Status.PARTIALLY_FILLED: "partially_filled",
    Status.FILLED: "filled",
    Status.CANCELED: "canceled",
    Status.REJECTED: "canceled",
}
_ALGO_STATES: Final = _STATES | {
    Status.PARTIALLY_FILLED: "partially_effective",
    Status.FILLED: "effective",
    Status.REJECTED: "order_failed",
}
_GONE: Final = "Order cancellation failed as the order has been filled, canceled or does not exist."


class Refusal(Exception):  # a refused request is an answer, not a failure of ours
    """The venue says no."""

    def __init__(self, code: int, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class _Call(msgspec.Struct, frozen=True):
    """A request that has been let in, and whose it is."""

    engine: Engine
    request: Request
    account: Account

    def orders(self) -> list[Order]:
        """List every open order of the account, the newest first."""
        found = [
            order
            for category in self.account.ids
            for order in self.engine.open_orders(self.account, category)
        ]
        return sorted(found, key=lambda order: int(order.order_id), reverse=True)

    def field(self, name: str) -> str:
        """Read a field of the query; refuse the request if it is not there."""
        value = self.request.query.get(name, "")
        if not value:
            raise Refusal(50014, f"Parameter {name} can not be empty.", 400)
        return value

    def body(self, kind: type[Any]) -> Any:
        """Read the body as JSON of a kind."""
        if self.request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise Refusal(50006, 'Invalid Content-Type. Please use "application/JSON".', 400)
        try:
            return msgspec.json.decode(self.request.body, type=kind)
        except msgspec.ValidationError:
            raise Refusal(51000, "Parameter body error", 400) from None
        except msgspec.DecodeError:
            raise Refusal(50002, "JSON syntax error", 400) from None


_Action = Callable[[_Call], list[dict[str, Any]]]


def signature(secret: str, time: str, request: Request) -> str:
    """Sign as the documents say: time, method, path with query, and body, one after the other."""
    text = f"{time}{request.method.upper()}{request.raw_path}".encode() + request.body
    return base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()


class OKXDialect:
    """OKX, as its documents describe it.

    `symbols` are those that exist (None: every one). `spreads` says whether the site has spread
    trading. Orders of the category `account` are those of spreads, and of whatever type their
    symbol has. An account's passphrase is in its `extra`; without one, any is right. One with
    `demo` in it is one of demo trading.
    """

    name: Final = "okx"
    categories: Final[Mapping[str, str]] = {
        "account": "all",
        "spot": "spt",
        "margin": "mgn",
        "swap": "swp",
        "futures": "fut",
        "option": "opt",
    }

    def __init__(self, *, symbols: Iterable[str] | None = None, spreads: bool = True) -> None:
        self.symbols = None if symbols is None else frozenset(symbols)
        self.spreads = spreads
        self._countdowns: dict[str, object] = {}  # the latest of each account

    # --- the dialect ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Offer what a cancel-all needs. The listings of orders share a name, their cancels too."""
        spread = self._spread
        return [
            Route("GET", "/api/v5/public/time", "clock", _clock),
            *(
                Route(method, f"/api/v5/{path}", operation, partial(_answer, needs, action))
                for method, path, operation, needs, action in (
                    ("GET", "account/config", "config", "view", _config),
                    ("GET", "trade/orders-pending", "open-orders", "view", self._orders),
                    ("GET", "trade/orders-algo-pending", "open-orders", "view", self._algos),
                    ("POST", "trade/cancel-batch-orders", "cancel-all", "trade", self._cancel),
                    ("POST", "trade/cancel-order", "cancel-order", "trade", self._cancel_one),
                    ("POST", "trade/cancel-algos", "cancel-all", "trade", self._cancel_algos),
                    ("POST", "trade/cancel-all-after", "switch", "trade", self._countdown),
                    ("GET", "trade/order", "order-status", "view", _order),
                    ("GET", "trade/order-algo", "order-status", "view", _algo_order),
                )
            ),
            Route("GET", "/api/v5/sprd/orders-pending", "spreads", spread("view", _spreads)),
            Route("GET", "/api/v5/sprd/order", "order-status", spread("view", _spread_order)),
            Route(
                "POST",
                "/api/v5/sprd/mass-cancel",
                "cancel-spreads",
                spread("trade", _cancel_spreads),
            ),
        ]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer none."""
        return []

    def api_key(self, request: Request) -> str:
        """Tell the key that the request claims."""
        return request.headers.get("ok-access-key", "")

    def unknown(self, _request: Request) -> Reply:
        """Answer 404, which is the gateway's."""
        return Reply(404, b"<html>404</html>", (("Content-Type", "text/html"),))

    def order_id(self, _rng: random.Random, serial: int) -> str:
        """Make an id, which grows with time."""
        return str(1_752_588_852_617_379_840 + serial)

    # --- orders ---------------------------------------------------------------------------------

    def _spread(self, needs: str, action: _Action) -> Callable[[Engine, Request], Reply]:
        def act(call: _Call) -> list[dict[str, Any]]:
            if not self.spreads:
                raise Refusal(50038, "This feature is unavailable in demo trading")
            return action(call)

        return partial(_answer, needs, act)

    def _orders(self, call: _Call) -> list[dict[str, Any]]:
        """List a page of ordinary orders."""
        orders = [order for order in call.orders() if _book(order) == "ordinary"]
        return [_row(order, call) for order in self._page(call, orders, _TYPES)]

    def _algos(self, call: _Call) -> list[dict[str, Any]]:
        """List a page of algo orders of one type, or of the two that may be asked for together."""
        types = call.field("ordType").split(",")
        if not ALGOS.issuperset(types) or (len(types) > 1 and set(types) != {"conditional", "oco"}):
            raise Refusal(51000, "Parameter ordType error", 400)
        orders = [order for order in call.orders() if order.order_type in types]
        return [_algo_row(order, call) for order in self._page(call, orders, _ALGO_TYPES)]

    def _page(self, call: _Call, orders: Iterable[Order], types: tuple[str, ...]) -> list[Order]:
        query = call.request.query
        kind, symbol = query.get("instType"), query.get("instId")
        if kind is not None and kind not in types:
            raise Refusal(51000, "Parameter instType error", 400)
        if symbol is not None:
            self._check_symbol(symbol)
        mine = [
            order
            for order in orders
            if kind in (None, _type(order)) and symbol in (None, order.symbol)
        ]
        return _cut(query, mine, "after")

    def _check_symbol(self, symbol: str) -> None:
        if self.symbols is not None and symbol not in self.symbols:
            message = "Instrument ID, Instrument ID code or Spread ID doesn't exist."
            raise Refusal(51001, message)

    def _cancel(self, call: _Call) -> list[dict[str, Any]]:
        return self._cancel_each(call, "ordId", _BATCH, lambda order: _book(order) == "ordinary")

    def _cancel_one(self, call: _Call) -> list[dict[str, Any]]:
        """Cancel one order, by its id or the client's."""
        asked = call.body(dict[str, str])
        order_id, client_id = asked.get("ordId", ""), asked.get("clOrdId", "")
        told = {"ordId": order_id, "clOrdId": client_id, "sCode": "0", "sMsg": ""}
        if not order_id and not client_id:
            message = "Either order ID or client order ID is required."
            return [told | {"sCode": "51407", "sMsg": message}]
        for order in call.orders():
            known = order_id == order.order_id or (not order_id and client_id == order.client_id)
            if known and _book(order) == "ordinary" and order.symbol == asked.get("instId"):
                call.engine.cancel(order.order_id, now_ms=call.request.moment.now_ms)
                return [told]
        return [told | {"sCode": "51400", "sMsg": _GONE}]

    def _cancel_algos(self, call: _Call) -> list[dict[str, Any]]:
        return self._cancel_each(call, "algoId", _ALGO_BATCH, lambda order: _book(order) == "algo")

    def _cancel_each(
        self, call: _Call, name: str, most: int, of_book: Callable[[Order], bool]
    ) -> list[dict[str, Any]]:
        wanted = call.body(list[dict[str, str]])
        if not wanted or any(not each.get("instId") for each in wanted):
            raise Refusal(50014, "Parameter instId can not be empty.", 400)
        if len(wanted) > most:
            raise Refusal(51406, f"Canceled - order count exceeds the limit {most}.", 400)
        moment = call.request.moment
        told = []
        for each in wanted:
            order_id, code, message = each.get(name, ""), "0", ""
            order = call.engine.order(order_id)
            mine = order is not None and order.account_id in call.account.ids.values()
            if not order_id:
                code, message = "51407", "Either order ID or client order ID is required."
            elif self.symbols is not None and each["instId"] not in self.symbols:
                code, message = "51001", "Instrument ID doesn't exist."
            elif (
                order is None
                or not (mine and of_book(order) and order.symbol == each["instId"])
                or not call.engine.cancel(
                    order_id, now_ms=moment.now_ms, effect_delay_ms=moment.effect_delay_ms
                )
            ):
                code, message = "51400", _GONE
            told.append({name: order_id, "clOrdId": "", "sCode": code, "sMsg": message})
        return told

    def _countdown(self, call: _Call) -> list[dict[str, Any]]:
        """Arm the switch: ordinary orders of all instruments, since no more is documented."""
        asked = call.body(dict[str, str]).get("timeOut", "")
        seconds = int(asked) if _WHOLE.fullmatch(asked) else -1
        if seconds and not _SHORTEST_COUNTDOWN_S <= seconds <= _LONGEST_COUNTDOWN_S:
            raise Refusal(51000, "Parameter timeOut error", 400)
        engine, account, token = call.engine, call.account, object()
        self._countdowns[account.api_key] = token

        def fire() -> None:
            if self._countdowns.get(account.api_key) is token:
                del self._countdowns[account.api_key]
                for category in account.ids:
                    engine.cancel_all(account, category, now_ms=engine.now_ms, only=_is_ordinary)

        if seconds:
            engine.schedule(seconds * 1000, fire)
        else:
            del self._countdowns[account.api_key]
        now = call.request.moment.venue_ms // 1000
        trigger = now + seconds if seconds else 0
        return [{"triggerTime": str(trigger), "tag": "", "ts": str(now)}]


# --- letting requests in ------------------------------------------------------------------------


def _answer(needs: str, action: _Action, engine: Engine, request: Request) -> Reply:
    """Answer with data: of a cancel, the code tells whether all, none or some were accepted."""
    try:
        data = action(_Call(engine, request, _authenticate(engine, request, needs)))
    except Refusal as refusal:
        body = {"code": str(refusal.code), "msg": refusal.message, "data": []}
        return json_reply(body, refusal.status)
    failed = [each.get("sCode", "0") != "0" for each in data]
    code = "0" if not any(failed) else "1" if all(failed) else "2"
    return json_reply(
        {"code": code, "msg": "" if code == "0" else "Operation failed.", "data": data}
    )


def _authenticate(engine: Engine, request: Request, needs: str) -> Account:
    """Tell whose request this is; check every header, its time, and what the key may do."""
    headers = request.headers
    for number, name in (
        (50103, "KEY"),
        (50104, "PASSPHRASE"),
        (50106, "SIGN"),
        (50107, "TIMESTAMP"),
    ):
        if not headers.get(f"ok-access-{name.lower()}"):
            raise Refusal(number, f'Request header "OK-ACCESS-{name}" cannot be empty.', 401)
    account = engine.accounts.get(headers["ok-access-key"])
    if account is None:
        raise Refusal(50111, "Invalid OK-ACCESS-KEY.", 401)
    if bool(account.extra.get("demo")) is not (headers.get("x-simulated-trading") == "1"):
        raise Refusal(50101, "APIKey does not match current environment.", 401)
    if headers["ok-access-passphrase"] != account.extra.get(
        "passphrase", headers["ok-access-passphrase"]
    ):
        raise Refusal(50105, 'Request header "OK-ACCESS-PASSPHRASE" incorrect.', 401)
    time = headers["ok-access-timestamp"]
    if not _TIME.fullmatch(time):
        raise Refusal(50112, "Invalid OK-ACCESS-TIMESTAMP.", 401)
    stamped_ms = round(datetime.fromisoformat(time).timestamp() * 1000)
    if abs(stamped_ms - request.moment.venue_ms) > _WINDOW_MS:
        raise Refusal(50102, "Timestamp request expired.", 401)
    expected = signature(account.api_secret, time, request)
    if not hmac.compare_digest(headers["ok-access-sign"].encode(), expected.encode()):
        raise Refusal(50113, "Invalid signature.", 401)
    if needs not in account.permissions:
        raise Refusal(50120, "This API key doesn't have permission to use this function")
    return account


def _cut(query: Mapping[str, str], orders: list[Order], older: str) -> list[Order]:
    """Cut a page out of orders, the newest of which come first."""
    limit, after = query.get("limit", str(_PAGE)), query.get(older)
    if not _WHOLE.fullmatch(limit) or not 1 <= int(limit) <= _PAGE:
        raise Refusal(51000, "Parameter limit error", 400)
    if after is not None and not _WHOLE.fullmatch(after):
        raise Refusal(51000, f"Parameter {older} error", 400)
    return [each for each in orders if after is None or int(each.order_id) < int(after)][
        : int(limit)
    ]


def _clock(_engine: Engine, request: Request) -> Reply:
    data = [{"ts": str(request.moment.venue_ms)}]
    return json_reply({"code": "0", "msg": "", "data": data})


def _config(call: _Call) -> list[dict[str, Any]]:
    words = {"view": "read_only", "trade": "trade"}
    granted = ",".join(word for name, word in words.items() if name in call.account.permissions)
    return [
        {
            "uid": "44705892343619584",
            "acctLv": "2",
            "label": call.account.label,
            "perm": granted,
            "ip": call.account.extra.get("addresses", "").replace(" ", ","),
        }
    ]


def _spreads(call: _Call) -> list[dict[str, Any]]:
    wanted = call.request.query.get("sprdId")
    orders = [each for each in call.orders() if _book(each) == "spread"]
    mine = [each for each in orders if wanted in (None, each.symbol)]
    return [_spread_row(each, call) for each in _cut(call.request.query, mine, "endId")]


def _cancel_spreads(call: _Call) -> list[dict[str, Any]]:
    moment = call.request.moment
    call.engine.cancel_all(
        call.account,
        "account",
        call.body(dict[str, str]).get("sprdId"),
        now_ms=moment.now_ms,
        effect_delay_ms=moment.effect_delay_ms,
        only=lambda order: _book(order) == "spread",
    )
    return [{"result": True}]


def _order(call: _Call) -> list[dict[str, Any]]:
    order = _named(call, "ordId", "ordinary")
    if order.symbol != call.field("instId"):
        raise Refusal(51603, "Order does not exist.")
    return [_row(order, call)]


def _algo_order(call: _Call) -> list[dict[str, Any]]:
    return [_algo_row(_named(call, "algoId", "algo"), call)]


def _spread_order(call: _Call) -> list[dict[str, Any]]:
    return [_spread_row(_named(call, "ordId", "spread"), call)]


def _named(call: _Call, name: str, book: str) -> Order:
    """Find the order that is asked for, in its book, whatever has become of it."""
    order = call.engine.order(call.field(name))
    if (
        order is None
        or order.account_id not in call.account.ids.values()
        or order.status is Status.PENDING
        or _book(order) != book
    ):
        raise Refusal(51603, "Order does not exist.")
    return order


# --- rows ---------------------------------------------------------------------------------------


def _type(order: Order) -> str:
    """Tell the type of an order's instrument: its category, or in `account`, what it looks like."""
    if order.category != "account":
        return order.category.upper()
    parts = order.symbol.split("-")
    by_parts = {2: "SPOT", 3: "SWAP" if parts[-1] == "SWAP" else "FUTURES", 5: "OPTION"}
    return by_parts.get(len(parts), "EVENTS")


def _book(order: Order) -> str:
    if order.category == "account" and "_" in order.symbol:
        return "spread"
    return "algo" if order.order_type in ALGOS else "ordinary"


def _is_ordinary(order: Order) -> bool:
    return _book(order) == "ordinary"


def _plain(number: Decimal) -> str:
    return format(number, "f")


def _times(order: Order, call: _Call) -> dict[str, str]:
    skew_ms = call.request.moment.skew_ms
    return {"cTime": str(order.placed_ms + skew_ms), "uTime": str(order.changed_ms + skew_ms)}


def _row(order: Order, call: _Call) -> dict[str, Any]:
    """Show an order as "GET / Order list" does: all is text, and "" where there is nothing."""
    return {
        "accFillSz": _plain(order.filled_quantity),
        "algoId": "",
        "attachAlgoOrds": [],
        "avgPx": "",
        "category": "normal",
        "clOrdId": order.client_id,
        "fee": "0",
        "instId": order.symbol,
        "instType": _type(order),
        "isTpLimit": "false",
        "linkedAlgoOrd": {"algoId": ""},
        "ordId": order.order_id,
        "ordType": order.order_type,
        "px": "" if order.order_type == "market" else _plain(order.price),
        "pxUsd": "",
        "reduceOnly": str(order.reduce_only).lower(),
        "side": order.side,
        "state": _STATES[order.status],
        "sz": _plain(order.quantity),
        "tdMode": "cash" if order.category == "spot" else "cross",
        "tgtCcy": "",
        **_times(order, call),
    }


def _algo_row(order: Order, call: _Call) -> dict[str, Any]:
    """Show an order as "GET / Algo order list" does."""
    stop = order.order_type in ("conditional", "oco")
    return {
        "actualPx": "",
        "actualSz": "0",
        "algoClOrdId": order.client_id,
        "algoId": order.order_id,
        "closeFraction": "",
        "instId": order.symbol,
        "instType": _type(order),
        "linkedOrd": {"ordId": ""},
        "ordId": "",
        "ordIdList": [],
        "ordPx": _plain(order.price) if order.order_type == "trigger" else "",
        "ordType": order.order_type,
        "reduceOnly": str(order.reduce_only).lower(),
        "side": order.side,
        "slOrdPx": "-1" if stop else "",
        "slTriggerPx": _plain(order.price) if stop else "",
        "state": _ALGO_STATES[order.status],
        "sz": _plain(order.quantity),
        "tpOrdPx": "",
        "triggerPx": _plain(order.price) if order.order_type == "trigger" else "",
        **_times(order, call),
    }


def _spread_row(order: Order, call: _Call) -> dict[str, Any]:
    """Show an order as "Get active orders" of spread trading does."""
    return {
        "sprdId": order.symbol,
        "ordId": order.order_id,
        "clOrdId": order.client_id,
        "tag": "",
        "px": _plain(order.price),
        "sz": _plain(order.quantity),
        "ordType": order.order_type,
        "side": order.side,
        "fillSz": "0",
        "accFillSz": _plain(order.filled_quantity),
        "pendingFillSz": _plain(order.quantity - order.filled_quantity),
        "canceledSz": "0",
        "state": _STATES[order.status],
        "avgPx": "0",
        **_times(order, call),
    }
