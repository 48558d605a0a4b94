"""The BitMEX dialect: cancel-all, the listing of orders, the dead man's switch, instruments, clock.

Written from `swagger.json` of `BitMEX/api-connectors` and https://www.bitmex.com/app/apiKeysUsage,
sharing no code with the client. What those leave open follows replies that others recorded.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from masscancel.sim.dialect import JSON_HEADERS, Reply, Request, Route, StreamRoute
from masscancel.sim.orders import Account, Order, Status

if TYPE_CHECKING:
    import random

    from masscancel.sim.engine import Engine

#: What is traded unless told: perpetuals, futures, the nearest first, and spot.
INSTRUMENTS: Final = (
    "XBTUSD",
    "ETHUSD",
    "SOLUSD",
    "XBTUSDT",
    "ETHUSDT",
    "XBTZ26",
    "XBTH27",
    "ETHZ26",
    "XBT_USDT",
    "ETH_USDT",
)

_CATEGORY: Final = "account"
_DEFAULT_COUNT: Final = 100
_DIGITS: Final = re.compile(r"[0-9]{1,15}")
_FUTURE: Final = r"[FGHJKMNQUVXZ][0-9]{2}"
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")

_Action = Callable[["Engine", Request, Account], Any]


class Refusal(Exception):  # a refused request is an answer, not a failure of ours
    """The venue says no: an HTTP status, a sentence, and the kind of error."""

    def __init__(self, status: int, message: str, name: str = "HTTPError") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.name = name


class BitMEXDialect:
    """BitMEX, as its documents and replies that others recorded describe it.

    `symbols` are those that are traded, of each series the nearest contract first. `max_count` is
    how many orders a page holds at most, whatever is asked for. A cancel-all takes effect before
    its reply, which lists the orders; what an effect delay keeps from that is `PendingCancel`.
    """

    name: Final = "bitmex"
    categories: Final[Mapping[str, str]] = {_CATEGORY: ""}

    def __init__(self, *, symbols: Iterable[str] = INSTRUMENTS, max_count: int = 500) -> None:
        self.symbols = tuple(symbols)
        self.max_count = max_count
        self._timers: dict[str, int] = {}  # account id -> number of the timer that runs
        self._timers_set = 0

    # --- the dialect ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """What a client of this library asks for."""
        return [
            Route("GET", "/api/v1", "clock", self._clock),
            Route("GET", "/api/v1/instrument", "instruments", self._instruments),
            self._route("DELETE", "/api/v1/order/all", "cancel-all", self._cancel_all),
            self._route("GET", "/api/v1/order", "open-orders", self._orders),
            self._route("POST", "/api/v1/order/cancelAllAfter", "switch", self._switch),
        ]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer no websocket."""
        return []

    def api_key(self, request: Request) -> str:
        """Tell the key that the request claims."""
        return request.headers.get("api-key", "")

    def unknown(self, _request: Request) -> Reply:
        """Answer 404."""
        return _error(Refusal(404, "Not Found"))

    def order_id(self, rng: random.Random, _serial: int) -> str:
        """Make a GUID."""
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    # --- letting requests in --------------------------------------------------------------------

    def _route(self, method: str, template: str, operation: str, action: _Action) -> Route:
        return Route(method, template, operation, partial(self._answer, action))

    def _answer(self, action: _Action, engine: Engine, request: Request) -> Reply:
        try:
            account = authenticate(engine, request)
            return _reply(action(engine, request, account))
        except Refusal as refusal:
            return _error(refusal)

    # --- orders ---------------------------------------------------------------------------------

    def _cancel_all(self, engine: Engine, request: Request, account: Account) -> Any:
        symbol = _parameters(request).get("symbol")
        if symbol is not None and symbol not in self.symbols:
            raise _unknown_symbol()
        moment = request.moment
        received = engine.cancel_all(
            account,
            _CATEGORY,
            symbol,
            now_ms=moment.now_ms,
            effect_delay_ms=moment.effect_delay_ms,
        )
        engine.advance(moment.now_ms)
        orders = [engine.order(order_id) for order_id in received.order_ids]
        return [cancelled_row(order, moment.skew_ms) for order in orders if order is not None]

    def _orders(self, engine: Engine, request: Request, account: Account) -> Any:
        query = request.query
        symbol = self._resolved(query["symbol"]) if "symbol" in query else None
        if _filter(query).get("open") is True:
            orders = engine.open_orders(account, _CATEGORY, symbol)
        else:  # every order that there ever was
            orders = [
                order
                for order in engine.orders()
                if order.account_id == account.ids[_CATEGORY]
                and order.status is not Status.PENDING
                and symbol in (None, order.symbol)
            ]
        if query.get("reverse") == "true":
            orders.reverse()
        start = _whole(query.get("start", "0"), "start")
        count = _whole(query.get("count", f"{_DEFAULT_COUNT}"), "count")
        if count == 0:
            raise Refusal(400, "count must be a positive integer", "ValidationError")
        page = orders[start : start + min(count, self.max_count)]
        return [order_row(order, request.moment.skew_ms) for order in page]

    def _switch(self, engine: Engine, request: Request, account: Account) -> Any:
        timeout_ms = _parameters(request).get("timeout")
        if isinstance(timeout_ms, str) and _DIGITS.fullmatch(timeout_ms):
            timeout_ms = int(timeout_ms)
        if type(timeout_ms) is not int or timeout_ms < 0:
            raise Refusal(400, "'timeout' must be a number", "ValidationError")
        self._timers_set += 1
        account_id = account.ids[_CATEGORY]
        now_ms = request.moment.venue_ms
        if timeout_ms == 0:
            self._timers.pop(account_id, None)
            return {"now": iso_time(now_ms), "cancelTime": 0}
        self._timers[account_id] = self._timers_set
        fire = partial(self._fire, engine, account, self._timers_set)
        engine.schedule(timeout_ms, fire)
        return {"now": iso_time(now_ms), "cancelTime": iso_time(now_ms + timeout_ms)}

    def _fire(self, engine: Engine, account: Account, timer: int) -> None:
        """Cancel everything, unless the timer was set anew or stopped meanwhile."""
        account_id = account.ids[_CATEGORY]
        if self._timers.get(account_id) == timer:
            del self._timers[account_id]
            engine.cancel_all(account, _CATEGORY, now_ms=engine.now_ms)

    # --- the rest -------------------------------------------------------------------------------

    def _clock(self, _engine: Engine, request: Request) -> Reply:
        about = {"name": "BitMEX API", "version": "2.0.0", "timestamp": request.moment.venue_ms}
        return _reply(about)

    def _instruments(self, _engine: Engine, request: Request) -> Reply:
        """List what is traded, or the one instrument that a symbol or series stands for."""
        symbols = self.symbols
        if "symbol" in request.query:
            try:
                symbols = (self._resolved(request.query["symbol"]),)
            except Refusal:
                symbols = ()
        return _reply([{"symbol": symbol, "state": "Open"} for symbol in symbols[:_DEFAULT_COUNT]])

    def _resolved(self, name: str) -> str:
        """Find the instrument: in any case, and of a bare series the nearest contract."""
        name = name.upper()
        if name in self.symbols:
            return name
        series = re.compile(re.escape(name) + _FUTURE)
        nearest = next((symbol for symbol in self.symbols if series.fullmatch(symbol)), None)
        if nearest is None:
            raise _unknown_symbol()
        return nearest


def signature(secret: str, verb: str, path: str, expires: str, data: bytes) -> str:
    """Sign as the documents say: hex of HMAC-SHA256 over verb + path + expires + data."""
    signing = hmac.new(secret.encode(), verb.encode(), hashlib.sha256)
    for part in (path.encode(), expires.encode(), data):
        signing.update(part)
    return signing.hexdigest()


def authenticate(engine: Engine, request: Request) -> Account:
    """Tell whose request this is.

    Raises `Refusal` if a part is missing, expired or wrong, or the key may not do this.
    """
    headers = request.headers
    key, expires = headers.get("api-key"), headers.get("api-expires", "")
    if not key or not expires or "api-signature" not in headers:
        raise Refusal(401, "Authorization Required")
    account = engine.accounts.get(key)
    if account is None:
        raise Refusal(401, "Invalid API Key.")
    now_s = request.moment.venue_ms // 1000
    if not _DIGITS.fullmatch(expires) or int(expires) < now_s:
        raise Refusal(
            400, f"This request has expired - `expires` is in the past. Current time: {now_s}"
        )
    expected = signature(
        account.api_secret, request.method, request.raw_path, expires, request.body
    )
    if not hmac.compare_digest(headers["api-signature"].encode(), expected.encode()):
        raise Refusal(401, "Signature not valid.")
    if ("view" if request.method == "GET" else "trade") not in account.permissions:
        raise Refusal(403, "Access Denied")
    return account


def _parameters(request: Request) -> dict[str, Any]:
    """Read the body as what it says it is: JSON, or else a form."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return dict(request.form)
    try:
        return msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refusal(400, "Invalid JSON", "SyntaxError") from None


def _filter(query: Mapping[str, str]) -> dict[str, Any]:
    try:
        return msgspec.json.decode(query.get("filter", "{}"), type=dict[str, Any])
    except msgspec.DecodeError:
        raise Refusal(400, "Value in 'filter' must be valid JSON", "ValidationError") from None


def _whole(text: str, name: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise Refusal(400, f"{name} must be a positive integer", "ValidationError")
    return int(text)


def _unknown_symbol() -> Refusal:
    return Refusal(400, "Unknown or expired symbol.", "ValidationError")


def _reply(payload: Any, status: int = 200) -> Reply:
    return Reply(status, _ENCODER.encode(payload), JSON_HEADERS)


def _error(refusal: Refusal) -> Reply:
    error = {"message": refusal.message, "name": refusal.name}
    return _reply({"error": error}, refusal.status)


def iso_time(time_ms: int) -> str:
    """Write a time as BitMEX does."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"


def _account_number(order: Order) -> int:
    """The account as a number: its id, or one that stands for it."""
    account_id = order.account_id
    return int(account_id) if _DIGITS.fullmatch(account_id) else zlib.crc32(account_id.encode())


def order_row(order: Order, skew_ms: int) -> dict[str, Any]:
    """Show an order as a listing does. Numbers are bare."""
    stop = "Stop" in order.order_type or "Touched" in order.order_type
    left = 0 if order.status.is_final else order.quantity - order.filled_quantity
    return {
        "orderID": order.order_id,
        "clOrdID": order.client_id,
        "account": _account_number(order),
        "symbol": order.symbol,
        "side": order.side.capitalize(),
        "orderQty": order.quantity,
        "price": None if stop and "Limit" not in order.order_type else order.price,
        "stopPx": order.price if stop else None,
        "ordType": order.order_type[:1].upper() + order.order_type[1:],
        "timeInForce": "GoodTillCancel",
        "ordStatus": order.status.value,
        "triggered": "",
        "workingIndicator": order.status.is_open and not stop,
        "ordRejReason": order.reason,
        "leavesQty": left,
        "cumQty": order.filled_quantity,
        "avgPx": order.price if order.filled_quantity else None,
        "text": "",
        "transactTime": iso_time(order.placed_ms + skew_ms),
        "timestamp": iso_time(order.changed_ms + skew_ms),
    }


def cancelled_row(order: Order, skew_ms: int) -> dict[str, Any]:
    """Show an order in the reply of a cancel-all.

    One that could not be cancelled any more has neither symbol nor quantity, as recorded in 2026.
    """
    row = order_row(order, skew_ms)
    if order.status is Status.CANCELED:
        return row
    if order.status.is_open:
        return row | {"ordStatus": "PendingCancel"}
    kept = ("orderID", "account", "transactTime", "timestamp", "workingIndicator")
    ended = {"ordStatus": "Rejected", "ordRejReason": "Invalid orderID", "text": ""}
    return {name: row[name] for name in kept} | ended
