"""AscendEX's websocket sessions, purely: v1 for cash and margin, v2 for futures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

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
    short_row,
)
from masscancel.sim.orders import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from masscancel.sim.dialect import Moment
    from masscancel.sim.engine import Engine
    from masscancel.sim.orders import Account, Order

_HEALTH: Final = 3
_MISSED_PINGS: Final = 2
_OPERATIONS: Final = {
    "auth": "auth",
    "ping": "ping",
    "pong": "pong",
    "sub": "subscribe",
    "unsub": "unsubscribe",
    "cancel-all": "cancel-all",
    "open-order": "open-orders",
    "futures-open-orders": "open-orders",
}

Message = dict[str, Any]


class StreamRules(msgspec.Struct, frozen=True, kw_only=True):
    """How the venue's streams behave where its documents leave room.

    `greeting` is the name of the field that says "connected". `echo` is which of the two ids of a
    request comes back in an Ack: that of the message, or the one in its `args`. After a ping of the
    client's own, the venue sends none for `quiet_ms`.
    """

    symbols: frozenset[str] | None = None
    window_ms: int = 30_000
    greeting: Literal["op", "m"] = "op"
    echo: Literal["message", "args"] = "message"
    quiet_ms: int = 30_000


class AscendEXSession:
    """One websocket session.

    `group` is the account group in its path; `account` is whose session it is, if the upgrade was
    signed.
    """

    def __init__(
        self,
        engine: Engine,
        rules: StreamRules,
        *,
        futures: bool,
        group: str,
        account: Account | None,
    ) -> None:
        self.closed = False
        self.account = account
        self._engine = engine
        self._rules = rules
        self._futures = futures
        self._group = group
        self._ready_acks = False
        self._channels: dict[str, str] = {}  # channel, as subscribed -> account id
        self._missed_pings = 0
        self._pinged = False
        self._quiet_until_ms = 0
        self._operations: dict[str, Callable[[Message, Moment], list[Message]]] = {
            "auth": self._auth,
            "ping": self._client_ping,
            "pong": lambda _message, _moment: [],
            "sub": self._subscribe,
            "unsub": self._unsubscribe,
            "req": self._request,
        }

    # --- what the server asks for ---------------------------------------------------------------

    @property
    def api_key(self) -> str:
        """Whose session it is; "" before the login."""
        return self.account.api_key if self.account else ""

    def greet(self) -> list[bytes]:
        """Say whether the session is logged in."""
        kind = "auth" if self.account else "unauth"
        return _encoded([{self._rules.greeting: "connected", "type": kind}])

    def operation(self, message: bytes) -> str:
        """Name what a message asks for."""
        try:
            asked = json_object(message)
        except Refusal:
            return ""
        name = _action(asked) if asked.get("op") == "req" else str(asked.get("op"))
        return _OPERATIONS.get(name, "")

    def receive(self, message: bytes, moment: Moment) -> list[bytes]:
        """Carry a message out and answer it."""
        self._missed_pings = 0
        self._pinged = False
        asked: Message = {}
        try:
            asked = json_object(message)
            carry_out = self._operations.get(str(asked.get("op")), self._unknown)
            return _encoded(carry_out(asked, moment))
        except Refusal as refusal:
            return _encoded([_error(asked, refusal)])

    def readdress(self, answer: bytes, request_id: str) -> bytes:
        """Put another id into an answer, wherever it has one."""
        message = json_object(answer)
        if "id" in message:
            message["id"] = request_id
        if "id" in message.get("info", ()):
            message["info"]["id"] = request_id
        return msgspec.json.encode(message)

    def ping(self, moment: Moment) -> list[bytes]:
        """Ping the client, with its health; end the session if it missed two pings in a row."""
        if moment.now_ms < self._quiet_until_ms:
            return []
        if self._pinged:
            self._missed_pings += 1
        if self._missed_pings == _MISSED_PINGS:
            return self.disconnect()
        self._pinged = True
        return _encoded([{"m": "ping", "hp": _HEALTH - self._missed_pings}])

    def disconnect(self) -> list[bytes]:
        """End the session, with the notice that the documents show."""
        self.closed = True
        info = "Session is disconnected due to missing pong message from the client"
        notice = {"m": "disconnected", "code": 100005, "reason": "INVALID_WS_REQUEST_DATA"}
        return _encoded([notice | {"info": info}])

    def order_changed(self, order: Order, moment: Moment) -> list[bytes]:
        """Tell of a change, if it is subscribed to. Nothing is told of an order that is pending."""
        if order.status is Status.PENDING or order.account_id not in self._channels.values():
            return []
        row = short_row(order, moment.skew_ms)
        rows = [row]
        if self._ready_acks and order.status is Status.NEW:
            rows = [row | {"st": "Ready"}, row]
        if not self._futures:
            about = {"accountId": order.account_id, "ac": order.category.upper()}
            return _encoded([{"m": "order"} | about | {"data": row} for row in rows])
        more = {
            "m": "futures-order",
            "e": "ExecutionReport",
            "a": order.account_id,
            "ac": "FUTURES",
            "ct": order.placed_ms + moment.skew_ms,
            "spb": "",
        }
        return _encoded([more | row for row in rows])

    # --- what clients say -----------------------------------------------------------------------

    def _unknown(self, asked: Message, _moment: Moment) -> list[Message]:
        raise Refusal(100005, f"Invalid op: {asked.get('op')}")

    def _auth(self, asked: Message, moment: Moment) -> list[Message]:
        answer: Message = {"m": "auth", "id": asked.get("id", "")}
        try:
            account = authenticate(
                self._engine,
                key=_text(asked.get("key")),
                timestamp=str(asked.get("t", "")),
                signed=_text(asked.get("sig")),
                api_path="v2/stream" if self._futures else "stream",
                venue_ms=moment.venue_ms,
                window_ms=self._rules.window_ms,
            )
            check_group(account, self._group)
        except Refusal as refusal:
            return [answer | {"code": refusal.code, "err": refusal.message}]
        self.account = account
        self._ready_acks = asked.get("ack") == "ready"
        return [answer | {"code": 0} | ({"ack": "ready"} if self._ready_acks else {})]

    def _client_ping(self, _asked: Message, moment: Moment) -> list[Message]:
        self._quiet_until_ms = moment.now_ms + self._rules.quiet_ms
        return [{"m": "pong", "code": 0, "ts": moment.venue_ms, "hp": _HEALTH}]

    def _subscribe(self, asked: Message, _moment: Moment) -> list[Message]:
        channel = str(asked.get("ch"))
        self._channels[channel] = self._account_of_channel(channel)
        return [{"m": "sub", "id": asked.get("id", ""), "ch": channel, "code": 0}]

    def _unsubscribe(self, asked: Message, _moment: Moment) -> list[Message]:
        channel = str(asked.get("ch"))
        self._channels.pop(channel, None)
        return [{"m": "unsub", "id": asked.get("id", ""), "ch": channel, "code": 0}]

    def _account_of_channel(self, channel: str) -> str:
        account = self._logged_in()
        kind, _, name = channel.partition(":")
        if self._futures:
            if channel == "futures-order" and "futures" in account.ids:
                return account.ids["futures"]
        elif kind == "order" and (category := self._category(name)):
            return account.ids[category]
        raise Refusal(100005, f"Invalid channel: {channel}")

    def _request(self, asked: Message, moment: Moment) -> list[Message]:
        action = _action(asked)
        args = asked.get("args")
        args = {} if args is None else args
        if not isinstance(args, dict):
            raise Refusal(100005, "Invalid args")
        if action == "cancel-all":
            return [self._cancel_all(asked, args, moment)]
        if action == ("futures-open-orders" if self._futures else "open-order"):
            return [self._open_orders(asked, args, moment)]
        raise Refusal(100005, f"Invalid request action: {asked.get('action')}")

    def _cancel_all(self, asked: Message, args: Message, moment: Moment) -> Message:
        account, category = self._scope(asked, "ac" if self._futures else "account")
        request_id = asked.get("id") if self._rules.echo == "message" else args.get("id")
        symbol = args.get("symbol")
        try:
            check_permission(account, "trade")
            checked_time(args.get("time"), moment.venue_ms, self._rules.window_ms)
            request_id = checked_id(request_id)
            if symbol is not None:
                code = 300012 if self._futures else 100008
                symbol = checked_symbol(symbol, category, self._rules.symbols, code)
        except Refusal as refusal:
            return self._cancel_all_refused(account, category, request_id, symbol, refusal)
        self._engine.cancel_all(
            account,
            category,
            symbol,
            now_ms=moment.now_ms,
            effect_delay_ms=moment.effect_delay_ms,
            request_id=request_id,
        )
        about = {"m": "order", "action": "cancel-all", "ac": category.upper()}
        if self._futures:
            return about | {"code": 0, "id": request_id, "info": {"symbol": symbol or ""}}
        info = {
            "symbol": symbol or "",
            "orderType": "NULL_VAL",
            "timestamp": moment.venue_ms,
            "id": request_id,
            "orderId": "",
        }
        return about | {"accountId": account.ids[category], "status": "Ack", "info": info}

    def _cancel_all_refused(
        self, account: Account, category: str, request_id: object, symbol: object, refusal: Refusal
    ) -> Message:
        about = {"m": "order", "action": "cancel-all", "ac": category.upper()}
        info = {"symbol": symbol or "", "reason": refusal.reason}
        if self._futures:
            info["errorMsg"] = refusal.message
            return about | {"code": refusal.code, "id": request_id or "", "info": info}
        info |= {"code": refusal.code, "id": request_id or "", "message": refusal.message}
        return about | {"accountId": account.ids[category], "status": "Err", "info": info}

    def _open_orders(self, asked: Message, args: Message, moment: Moment) -> Message:
        account, category = self._scope(asked, "" if self._futures else "account")
        wanted = args.get("symbol" if self._futures else "symbols", "*")
        symbols = None
        if wanted != "*":
            names = wanted.split(",") if isinstance(wanted, str) else [wanted]
            symbols = [checked_symbol(name, category, self._rules.symbols) for name in names]
        orders = [
            order
            for order in self._engine.open_orders(account, category)
            if symbols is None or order.symbol in symbols
        ]
        row = futures_row if self._futures else short_row
        rows = [row(order, moment.skew_ms) for order in orders]
        answer: Message = {"id": asked.get("id", ""), "data": rows}
        if self._futures:
            return {"m": "futures-open-orders", "code": 0} | answer
        about = {"accountId": account.ids[category], "ac": category.upper()}
        return {"m": "open-order"} | about | answer

    # --- whose session it is --------------------------------------------------------------------

    def _logged_in(self) -> Account:
        if self.account is None:
            raise Refusal(100009, "Authorization is required")
        return self.account

    def _scope(self, asked: Message, field: str) -> tuple[Account, str]:
        """Tell the account and category of a request; `field` names it ("": futures is implied)."""
        account = self._logged_in()
        name = str(asked.get(field, "")).lower() if self._futures else str(asked.get(field, ""))
        if self._futures:
            if (field and name != "futures") or "futures" not in account.ids:
                raise Refusal(100005, f"Invalid account category: {name}")
            return account, "futures"
        category = self._category(name)
        if category is None:
            raise Refusal(100005, f"Missing or invalid parameter: {field}")
        return account, category

    def _category(self, name: str) -> str | None:
        """Find the category that is named, by itself or by its account id."""
        ids = {c: i for c, i in self._logged_in().ids.items() if c != "futures"}
        return next((c for c, account_id in ids.items() if name in (c, account_id)), None)


def _action(asked: Message) -> str:
    """Tell the action, which the documents spell in more ways than one."""
    return str(asked.get("action")).lower()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _error(asked: Message, refusal: Refusal) -> Message:
    return {
        "m": "error",
        "id": asked.get("id", ""),
        "code": refusal.code,
        "reason": refusal.reason,
        "info": refusal.message,
    }


def _encoded(messages: list[Message]) -> list[bytes]:
    return [msgspec.json.encode(message) for message in messages]
