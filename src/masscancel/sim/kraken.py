"""The Kraken dialect: the REST sides of spot and futures, on one port.

Its signatures are checked by code of its own, after "Spot REST Authentication" and "Derivatives
REST" of docs.kraken.com. Of each key it accepts only nonces greater than the last.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import msgspec

from masscancel.sim.dialect import Reply, Request, Route, StreamRoute, json_reply
from masscancel.sim.orders import Account, Order, Status

if TYPE_CHECKING:
    import random

    from masscancel.sim.engine import Engine

_BATCH: Final = 50
_MAX_NONCE: Final = 2**64
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_ALIASES: Final = {"BTC": "XBT", "DOGE": "XDG"}
_REMEMBERED_MS: Final = 5_000
_DAY_S: Final = 86_400
_SPOT_STATES: Final = {
    Status.NEW: "open",
    Status.PARTIALLY_FILLED: "open",
    Status.FILLED: "closed",
    Status.CANCELED: "canceled",
    Status.REJECTED: "canceled",
}
_STATES: Final = {
    Status.NEW: "ENTERED_BOOK",
    Status.PARTIALLY_FILLED: "ENTERED_BOOK",
    Status.FILLED: "FULLY_EXECUTED",
    Status.CANCELED: "CANCELLED",
    Status.REJECTED: "REJECTED",
}
_V3: Final = "/derivatives/api/v3"


class Pair(msgspec.Struct, frozen=True):
    """A spot pair by its three names; orders are placed and listed by `altname`."""

    key: str
    altname: str
    wsname: str
    tokenized: bool = False


PAIRS: Final = (
    Pair("XXBTZUSD", "XBTUSD", "XBT/USD"),
    Pair("XETHZUSD", "ETHUSD", "ETH/USD"),
    Pair("XETHXXBT", "ETHXBT", "ETH/XBT"),
    Pair("XDGUSD", "XDGUSD", "XDG/USD"),
    Pair("SOLUSD", "SOLUSD", "SOL/USD"),
    Pair("AAPLxUSD", "AAPLxUSD", "AAPLx/USD", tokenized=True),
)
CONTRACTS: Final = ("PF_XBTUSD", "PF_ETHUSD", "PI_XBTUSD", "FI_XBTUSD_261225")


class Nonce(msgspec.Struct, frozen=True):
    """A nonce as it arrived, with a signature that was right."""

    api_key: str
    nonce: int
    accepted: bool


class _Refusal(Exception):
    """An error of the venue, in its own words."""


_Action = Callable[["Engine", Account, Request, Mapping[str, Any]], dict[str, Any]]


class KrakenDialect:
    """Kraken, as its documents describe it.

    `pairs` and `contracts` are those that exist. `refuse_stale` has a batch of ids refused as a
    whole if one of them is not open; else that one is skipped. `pending` has `CancelAll` say that
    the orders are still pending cancellation. `history` bounds the nonces that are remembered.

    `nonces` holds every nonce in the order of arrival. `switches` holds when each dead man's switch
    fires, in the engine's ms, by account id.
    """

    name: Final = "kraken"
    categories: Final[Mapping[str, str]] = {"spot": "spot", "futures": "fut"}

    def __init__(
        self,
        *,
        pairs: Iterable[Pair] = PAIRS,
        contracts: Iterable[str] = CONTRACTS,
        refuse_stale: bool = False,
        pending: bool = False,
        history: int = 1_000_000,
    ) -> None:
        self.pairs = tuple(pairs)
        self.contracts = tuple(contracts)
        self.refuse_stale = refuse_stale
        self.pending = pending
        self.nonces: deque[Nonce] = deque(maxlen=history)
        self.switches: dict[str, int] = {}
        self._last: dict[str, int] = {}

    # --- the dialect ----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """Every request that is understood."""
        private = [
            Route("POST", f"/0/private/{path}", operation, partial(self._spot, needs, action))
            for path, operation, needs, action in (
                ("CancelAll", "cancel-all", "trade", self._cancel_all),
                ("CancelOrderBatch", "cancel-batch", "trade", self._cancel_batch),
                ("CancelOrder", "cancel-order", "trade", self._cancel_order),
                ("CancelAllOrdersAfter", "switch", "trade", self._cancel_after),
                ("GetApiKeyInfo", "key", "", self._key_info),
                ("OpenOrders", "open-orders", "view", self._open_orders),
                ("QueryOrders", "order-status", "view", self._query_orders),
            )
        ]
        derivatives = [
            Route(method, f"{_V3}/{path}", operation, partial(self._futures, needs, action))
            for method, path, operation, needs, action in (
                ("POST", "cancelallorders", "cancel-all", "trade", self._cancel_contracts),
                ("POST", "cancelorder", "cancel-order", "trade", self._cancel_contract),
                ("POST", "cancelallordersafter", "switch", "trade", self._cancel_contracts_after),
                ("GET", "openorders", "open-orders", "view", self._open_contracts),
                ("POST", "orders/status", "order-status", "view", self._query_contracts),
            )
        ]
        return [
            *private,
            *derivatives,
            Route("GET", "/api/auth/v1/api-keys/v3/check", "key", self._key_check),
            Route("GET", "/0/public/Time", "clock", self._time),
            Route("GET", "/0/public/AssetPairs", "symbols", self._asset_pairs),
            Route("GET", f"{_V3}/tickers/{{symbol}}", "clock", self._ticker),
            Route("GET", f"{_V3}/instruments", "symbols", self._instruments),
        ]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer no websockets."""
        return []

    def api_key(self, request: Request) -> str:
        """Tell the key that the request claims."""
        return request.headers.get("api-key") or request.headers.get("apikey", "")

    def unknown(self, request: Request) -> Reply:
        """Answer as each side does."""
        if request.path.startswith("/0/"):
            return json_reply({"error": ["EGeneral:Unknown method"]})
        return _error("notFound", request, 404)

    def order_id(self, rng: random.Random, _serial: int) -> str:
        """Make an id of spot's form."""
        letters = "".join(rng.choices(_LETTERS, k=16))
        return f"O{letters[:5]}-{letters[5:10]}-{letters[10:]}"

    # --- spot -----------------------------------------------------------------------------------

    def _spot(self, needs: str, action: _Action, engine: Engine, request: Request) -> Reply:
        try:
            account = self._account(engine, request, "spot", "EAPI:Invalid key")
            fields = self._verified(account, request, needs)
            return json_reply({"error": [], "result": action(engine, account, request, fields)})
        except _Refusal as refusal:
            return json_reply({"error": [str(refusal)]})

    def _verified(self, account: Account, request: Request, needs: str) -> Mapping[str, Any]:
        """Check signature, nonce and permission; returns what the request asks for."""
        fields = _fields(request)
        nonce = str(fields.get("nonce", ""))
        digest = hashlib.sha256(nonce.encode() + request.body).digest()
        if not _signed(account, request.path.encode() + digest, "api-sign", request):
            raise _Refusal("EAPI:Invalid signature")
        self._accept(account.api_key, nonce)
        if needs and needs not in account.permissions:
            raise _Refusal("EGeneral:Permission denied")
        return fields

    def _accept(self, api_key: str, text: str) -> None:
        nonce = int(text) if text.isascii() and text.isdigit() else -1
        accepted = self._last.get(api_key, 0) < nonce < _MAX_NONCE
        self.nonces.append(Nonce(api_key, nonce, accepted))
        if not accepted:
            raise _Refusal("EAPI:Invalid nonce")
        self._last[api_key] = nonce

    def _cancel_all(
        self, engine: Engine, account: Account, request: Request, _: Mapping[str, Any]
    ) -> dict[str, Any]:
        moment = request.moment
        cancel = engine.cancel_all(
            account, "spot", now_ms=moment.now_ms, effect_delay_ms=moment.effect_delay_ms
        )
        count = {"count": len(cancel.order_ids)}
        return count | {"pending": True} if self.pending else count

    def _cancel_order(
        self, engine: Engine, account: Account, request: Request, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {"count": self._cancel_ids(engine, account, request, [fields.get("txid", "")])}

    def _cancel_batch(
        self, engine: Engine, account: Account, request: Request, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        if "json" not in request.headers.get("content-type", ""):
            raise _Refusal("EAPI:Bad request")
        ids = fields.get("orders")
        if not isinstance(ids, list) or not 0 < len(set(map(str, ids))) <= _BATCH:
            raise _Refusal("EGeneral:Invalid arguments:orders")
        return {"count": self._cancel_ids(engine, account, request, ids)}

    def _cancel_ids(
        self, engine: Engine, account: Account, request: Request, ids: list[str]
    ) -> int:
        account_id = account.ids["spot"]
        orders = [engine.order(order_id) for order_id in ids]
        live = [o for o in orders if o and o.account_id == account_id and o.status.is_open]
        if len(live) < len(ids) and (self.refuse_stale or not live):
            raise _Refusal("EOrder:Unknown order")
        for order in live:
            engine.cancel(
                order.order_id,
                now_ms=request.moment.now_ms,
                effect_delay_ms=request.moment.effect_delay_ms,
            )
        return len(live)

    def _open_orders(
        self, engine: Engine, account: Account, _: Request, __: Mapping[str, Any]
    ) -> dict[str, Any]:
        orders = engine.open_orders(account, "spot")
        return {"open": {order.order_id: _spot_row(order) for order in orders}}

    def _key_info(
        self, _: Engine, account: Account, __: Request, ___: Mapping[str, Any]
    ) -> dict[str, Any]:
        words = {"view": "query-open-trades", "trade": "modify-trades"}
        return {
            "apiKeyName": "a-key",
            "apiKey": account.api_key,
            "nonce": str(self._last.get(account.api_key, 0)),
            "nonceWindow": 0,
            "permissions": [word for may, word in words.items() if may in account.permissions],
            "iban": "AA88 N84G WOAK NMOI",
            "validUntil": account.extra.get("valid_until", "0"),
            "queryFrom": "0",
            "queryTo": "0",
            "createdTime": "1772542900",
            "modifiedTime": "1772543095",
            "ipAllowlist": account.extra.get("addresses", "").split(),
            "lastUsed": None,
        }

    def _query_orders(
        self, engine: Engine, account: Account, _: Request, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        orders = _named(engine, account.ids["spot"], str(fields.get("txid")).split(","))
        if not orders:
            raise _Refusal("EOrder:Unknown order")
        return {order.order_id: _spot_row(order) for order in orders}

    def _cancel_after(
        self, engine: Engine, account: Account, request: Request, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        seconds = str(fields.get("timeout", ""))
        if not seconds.isdigit() or int(seconds) >= _DAY_S:
            raise _Refusal("EGeneral:Invalid arguments:timeout")
        return self._arm(engine, account, "spot", request, int(seconds), "seconds")

    def _time(self, _: Engine, request: Request) -> Reply:
        return json_reply({"error": [], "result": {"unixtime": request.moment.venue_ms // 1000}})

    def _asset_pairs(self, _: Engine, request: Request) -> Reply:
        tokenized = request.query.get("aclass_base") == "tokenized_asset"
        pairs = [pair for pair in self.pairs if pair.tokenized == tokenized]
        if wanted := request.query.get("pair"):
            names = {wanted, "/".join(_ALIASES.get(part, part) for part in wanted.split("/"))}
            pairs = [pair for pair in pairs if names & {pair.key, pair.altname, pair.wsname}]
            if not pairs:
                return json_reply({"error": ["EQuery:Unknown asset pair"]})
        rows = {pair.key: {"altname": pair.altname, "wsname": pair.wsname} for pair in pairs}
        return json_reply({"error": [], "result": rows})

    # --- futures --------------------------------------------------------------------------------

    def _futures(self, needs: str, action: _Action, engine: Engine, request: Request) -> Reply:
        try:
            account = self._account(engine, request, "futures", "authenticationError")
            _verify(account, request, needs)
            answer = action(engine, account, request, request.query | request.form)
        except _Refusal as refusal:
            return _error(str(refusal), request)
        return json_reply({"result": "success", "serverTime": _now(request)} | answer)

    def _cancel_contracts(
        self, engine: Engine, account: Account, request: Request, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        symbol = fields.get("symbol")  # any will do: it is not documented that one is refused
        cancel = engine.cancel_all(
            account,
            "futures",
            symbol,
            now_ms=request.moment.now_ms,
            effect_delay_ms=request.moment.effect_delay_ms,
        )
        return {
            "cancelStatus": {
                "receivedTime": _now(request),
                "cancelOnly": symbol or "all",
                "status": "cancelled" if cancel.order_ids else "noOrdersToCancel",
                "cancelledOrders": [{"order_id": order_id} for order_id in cancel.order_ids],
                "orderEvents": [_event(o) for o in map(engine.order, cancel.order_ids) if o],
            }
        }

    def _cancel_contract(
        self, engine: Engine, account: Account, request: Request, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        order_id, client_id = fields.get("order_id", ""), fields.get("cliOrdId", "")
        if not order_id and not client_id:
            raise _Refusal("requiredArgumentMissing")
        for order in engine.open_orders(account, "futures"):
            if order_id == order.order_id or (not order_id and client_id == order.client_id):
                engine.cancel(order.order_id, now_ms=request.moment.now_ms)
                return {"cancelStatus": {"order_id": order.order_id, "status": "cancelled"}}
        return {"cancelStatus": {"status": "notFound", "receivedTime": _now(request)}}

    def _key_check(self, engine: Engine, request: Request) -> Reply:
        try:
            account = self._account(engine, request, "futures", "authenticationError")
            _verify(account, request, "")
        except _Refusal as refusal:
            return json_reply({"error": str(refusal), "message": "", "suberror": None}, 401)
        general = "FULL_ACCESS" if "trade" in account.permissions else "READ_ONLY"
        return json_reply(
            {
                "apiKey": account.api_key,
                "accountUid": "00000000-0000-0000-0000-000000000000",
                "iiban": "AA08 N84G CPAR UN7A",
                "createdAt": "2019-08-24T14:15:22Z",
                "permissions": {"general": general, "transfer": "NO_ACCESS"},
                "allowedCidrBlock": None,
                "allowedCidrBlocks": account.extra.get("addresses", "").split(),
            }
        )

    def _cancel_contracts_after(
        self, engine: Engine, account: Account, request: Request, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        seconds = str(fields.get("timeout", ""))
        if not seconds.isdigit():
            raise _Refusal("invalidArgument")
        status = self._arm(engine, account, "futures", request, int(seconds), "milliseconds")
        return {"status": status}

    def _open_contracts(
        self, engine: Engine, account: Account, _: Request, __: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {"openOrders": [_row(o) for o in engine.open_orders(account, "futures")]}

    def _query_contracts(
        self, engine: Engine, account: Account, request: Request, _: Mapping[str, Any]
    ) -> dict[str, Any]:
        ids = parse_qs(request.query_string).get("orderIds", [])
        recently_ms = request.moment.now_ms - _REMEMBERED_MS
        return {
            "orders": [
                {"order": {"orderId": o.order_id, "symbol": o.symbol}, "status": _STATES[o.status]}
                for o in _named(engine, account.ids["futures"], ids)
                if o.closed_ms is None or o.closed_ms >= recently_ms
            ]
        }

    def _ticker(self, _: Engine, request: Request) -> Reply:
        if request.params["symbol"] not in self.contracts:
            return _error("notFound", request)
        ticker = {"symbol": request.params["symbol"]}
        return json_reply({"result": "success", "ticker": ticker, "serverTime": _now(request)})

    def _instruments(self, _: Engine, request: Request) -> Reply:
        rows = [{"symbol": symbol, "tradeable": True} for symbol in self.contracts]
        return json_reply({"result": "success", "instruments": rows, "serverTime": _now(request)})

    # --- both -----------------------------------------------------------------------------------

    def _account(self, engine: Engine, request: Request, category: str, refusal: str) -> Account:
        """Find the account that the key claims; a key of the other side is as good as none."""
        account = engine.accounts.get(self.api_key(request))
        if account is None or category not in account.ids:
            raise _Refusal(refusal)
        return account

    def _arm(
        self,
        engine: Engine,
        account: Account,
        category: str,
        request: Request,
        seconds: int,
        precision: str,
    ) -> dict[str, Any]:
        """Set the switch of a side anew, or off."""
        account_id = account.ids[category]
        current = _rfc3339(request.moment.venue_ms, precision)
        if not seconds:
            self.switches.pop(account_id, None)
            return {"currentTime": current, "triggerTime": "0"}
        fires_ms = engine.now_ms + seconds * 1000
        self.switches[account_id] = fires_ms

        def fire() -> None:
            if self.switches.get(account_id) == fires_ms:  # not renewed, nor set off
                del self.switches[account_id]
                engine.cancel_all(account, category, now_ms=engine.now_ms)

        engine.schedule(seconds * 1000, fire)
        fires = _rfc3339(request.moment.venue_ms + seconds * 1000, precision)
        return {"currentTime": current, "triggerTime": fires}


def _named(engine: Engine, account_id: str, ids: Iterable[str]) -> list[Order]:
    """Find the orders of an account by their ids, pending ones apart."""
    orders = [engine.order(order_id) for order_id in ids]
    return [
        o for o in orders if o and o.account_id == account_id and o.status is not Status.PENDING
    ]


def _fields(request: Request) -> Mapping[str, Any]:
    """Read the body, as JSON or as a form."""
    if "json" not in request.headers.get("content-type", ""):
        return request.form
    try:
        return msgspec.json.decode(request.body, type=dict[str, Any])
    except msgspec.DecodeError:
        raise _Refusal("EAPI:Bad request") from None


def _verify(account: Account, request: Request, needs: str) -> None:
    """Check signature and permission of a request to the futures side."""
    parameters = request.query_string or request.body.decode("utf-8", "replace")
    nonce = request.headers.get("nonce", "")
    path = request.path.removeprefix("/derivatives")
    digest = hashlib.sha256(f"{parameters}{nonce}{path}".encode()).digest()
    if not _signed(account, digest, "authent", request):
        raise _Refusal("authenticationError")
    if needs and needs not in account.permissions:
        raise _Refusal("insufficientPrivileges")


def _signed(account: Account, message: bytes, header: str, request: Request) -> bool:
    """Verify a signature: HMAC-SHA512 under the secret, which is base64, in base64."""
    try:
        key = base64.b64decode(account.api_secret)
    except ValueError:  # no client can sign with it
        return False
    expected = base64.b64encode(hmac.new(key, message, hashlib.sha512).digest()).decode()
    return hmac.compare_digest(expected, request.headers.get(header, ""))


def _error(word: str, request: Request, status: int = 200) -> Reply:
    return json_reply({"result": "error", "error": word, "serverTime": _now(request)}, status)


def _now(request: Request) -> str:
    return _rfc3339(request.moment.venue_ms)


def _rfc3339(at_ms: int, precision: str = "milliseconds") -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec=precision).replace("+00:00", "Z")


def _spot_row(order: Order) -> dict[str, Any]:
    price = str(order.price)
    return {
        "refid": None,
        "userref": 0,
        "status": _SPOT_STATES[order.status],
        "opentm": order.placed_ms / 1000,
        "starttm": 0,
        "expiretm": 0,
        "descr": {
            "pair": order.symbol,
            "type": order.side,
            "ordertype": order.order_type,
            "price": price,
            "price2": price if order.order_type.endswith("-limit") else "0",
            "leverage": "none",
            "order": f"{order.side} {order.quantity} {order.symbol} @ {order.order_type} {price}",
            "close": "",
        },
        "vol": str(order.quantity),
        "vol_exec": str(order.filled_quantity),
        "cost": "0.00000",
        "fee": "0.00000",
        "price": "0.00000",
        "stopprice": "0.00000",
        "limitprice": "0.00000",
        "misc": "",
        "oflags": "fciq",
    }


def _event(order: Order) -> dict[str, Any]:
    """Show an order in the reply of a cancel-all of futures."""
    about = {
        "orderId": order.order_id,
        "type": order.order_type if order.order_type != "limit" else "lmt",
        "symbol": order.symbol,
        "side": order.side,
        "quantity": float(order.quantity),
        "filled": float(order.filled_quantity),
        "limitPrice": float(order.price),
        "reduceOnly": order.reduce_only,
        "timestamp": _rfc3339(order.placed_ms),
        "lastUpdateTimestamp": _rfc3339(order.changed_ms),
    }
    return {"type": "CANCEL", "uid": order.order_id, "order": about}


def _row(order: Order) -> dict[str, Any]:
    trigger = order.order_type != "limit"
    return {
        "order_id": order.order_id,
        "symbol": order.symbol,
        "side": order.side,
        "orderType": order.order_type if trigger else "lmt",
        "stopPrice" if trigger else "limitPrice": float(order.price),
        "unfilledSize": float(order.quantity - order.filled_quantity),
        "filledSize": float(order.filled_quantity),
        "receivedTime": _rfc3339(order.placed_ms),
        "status": "partiallyFilled" if order.filled_quantity else "untouched",
        "reduceOnly": order.reduce_only,
        "lastUpdateTime": _rfc3339(order.changed_ms),
    }
