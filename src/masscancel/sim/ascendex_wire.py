"""AscendEX's words: error codes, signatures, symbols and the shapes of orders, for REST and stream.

Written from the exchange's public API documents (`ascendex/ascendex-pro-api` and
`ascendex/ascendex-futures-pro-api-v2` on GitHub), sharing no code with the client.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from masscancel.sim.engine import Engine
    from masscancel.sim.orders import Account, Order

REASONS: Final[Mapping[int, str]] = {
    100001: "INVALID_HTTP_INPUT",
    100004: "INVALID_REQUEST_DATA",
    100005: "INVALID_WS_REQUEST_DATA",
    100006: "INVALID_ARGUMENT",
    100008: "SYMBOL_ERROR",
    100009: "AUTHORIZATION_NEEDED",
    100011: "INVALID_TIMESTAMP",
    100013: "INVALID_NUM_FORMAT",
    150001: "INVALID_JSON_FORMAT",
    200001: "AUTHENTICATION_FAILED",
    200003: "ACCOUNT_NOT_FOUND",
    200004: "ACCOUNT_NOT_SETUP",
    200015: "PERMISSION_DENIED",
    300001: "INVALID_PRICE",
    300002: "INVALID_QTY",
    300003: "INVALID_SIDE",
    300005: "INVALID_TYPE",
    300006: "INVALID_ORDER_ID",
    300012: "INVALID_PRODUCT",
    300019: "INVALID_CANCEL",  # the documents give its messages, not its name
}

_SYMBOLS: Final = {
    "cash": re.compile(r"[A-Z0-9]+/[A-Z0-9]+"),
    "margin": re.compile(r"[A-Z0-9]+/[A-Z0-9]+"),
    "futures": re.compile(r"[A-Z0-9]+-PERP"),
}
_REQUEST_ID: Final = re.compile(r"\w[\w\-]*\w", re.ASCII)
_REQUEST_ID_LENGTH: Final = 32
_TIMESTAMP: Final = re.compile(r"[0-9]{1,18}")


class Refusal(Exception):  # a refused request is an answer, not a failure of ours
    """The venue says no: an error code of `REASONS`, and a message for people."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = REASONS[code]
        self.message = message


def simple_error(refusal: Refusal) -> dict[str, Any]:
    """Show a refusal in the form that every error has at least."""
    return {"code": refusal.code, "reason": refusal.reason, "message": refusal.message}


def risk_limits(ip: str) -> dict[str, Any]:
    """Show the limits of the documents' sample; nothing here enforces them."""
    web_socket = {
        "status": {"isBanned": False, "bannedUntil": -1, "violationCode": 0, "reason": ""},
        "limits": {
            "maxWebSocketSessionsPerIpAccountGroup": 20,
            "maxWebSocketSessionsPerIpTotal": 300,
        },
        "messageThreshold": {
            "level1OpThreshold": {"auth": 800, "ping": 800, "pong": 800, "req": 10000},
            "level2OpThreshold": {"auth": 1000, "ping": 1000, "pong": 1000, "req": 10000},
            "level1ReqThreshold": {"cancel_all": 8000, "open_order": 10000},
            "level2ReqThreshold": {"cancel_all": 10000, "open_order": 10000},
        },
    }
    return {"ip": ip, "webSocket": web_socket}


def signature(secret: str, timestamp: str, api_path: str) -> str:
    """Sign as the documents say: base64 of HMAC-SHA256 over `<timestamp>+<api-path>`.

    The key is the secret as text, not what it would be if it were base64.
    """
    message = f"{timestamp}+{api_path}".encode()
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def authenticate(
    engine: Engine,
    *,
    key: str | None,
    timestamp: str | None,
    signed: str | None,
    api_path: str,
    venue_ms: int,
    window_ms: int,
) -> Account:
    """Tell whose request this is. Raises `Refusal` if a part is missing, stale, or wrong."""
    if not key or not timestamp or not signed:
        raise Refusal(100009, "Authorization is required")
    account = engine.accounts.get(key)
    if account is None:
        raise Refusal(200001, "Invalid API key")
    if not _TIMESTAMP.fullmatch(timestamp) or abs(int(timestamp) - venue_ms) > window_ms:
        raise Refusal(100011, "Timestamp is out of the accepted window")
    expected = signature(account.api_secret, timestamp, api_path)
    if not hmac.compare_digest(signed.encode(), expected.encode()):
        raise Refusal(200001, "Signature does not match")
    return account


def check_group(account: Account, group: str) -> None:
    """Check the account group of a path (`Refusal`)."""
    if group != str(account.group):
        raise Refusal(200003, "Account group does not match")


def check_permission(account: Account, needed: str) -> None:
    """Check that a key may do what is `needed`, "view" or "trade" (`Refusal`)."""
    if needed not in account.permissions:
        raise Refusal(200015, f"No {needed} permission")


def json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object; an empty body is an empty one. Raises `Refusal`."""
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refusal(150001, "Require a valid json object") from None
    if not isinstance(value, dict):
        raise Refusal(100004, "Require a json object")
    return value


def checked_symbol(
    value: object, category: str, listed: frozenset[str] | None, code: int = 100008
) -> str:
    """Check a symbol against the form of its category, and the list if there is one (`Refusal`)."""
    if (
        not isinstance(value, str)
        or not _SYMBOLS[category].fullmatch(value)
        or (listed is not None and value not in listed)
    ):
        raise Refusal(code, f"Invalid symbol: {value}")
    return value


def checked_id(value: object) -> str:
    """Check a request's own id; None is the empty one (`Refusal`)."""
    if value is None:
        return ""
    if (
        not isinstance(value, str)
        or len(value) > _REQUEST_ID_LENGTH
        or not _REQUEST_ID.fullmatch(value)
    ):
        raise Refusal(300006, f"Invalid Client Order Id: {value}")
    return value


def checked_time(value: object, venue_ms: int, window_ms: int) -> None:
    """Check the optional time of a request, in ms, against the venue's clock (`Refusal`)."""
    if value is None:
        return
    if type(value) is not int:
        raise Refusal(100013, "Invalid time")
    if abs(value - venue_ms) > window_ms:
        raise Refusal(100011, "Request is placed more than 30 seconds ago")


def positive(value: object, code: int, name: str) -> Decimal:
    """Read a positive decimal from a string or number (`Refusal` with `code`)."""
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise Refusal(code, f"Invalid {name}: {value}") from None
    if not number.is_finite() or number <= 0:
        raise Refusal(code, f"Invalid {name}: {value}")
    return number


def plain(number: Decimal) -> str:
    """Write a decimal without an exponent."""
    return format(number, "f")


def _average(order: Order) -> str:
    return plain(order.price) if order.filled_quantity else "0"


def order_row(order: Order, skew_ms: int) -> dict[str, Any]:
    """Show an order as REST does for cash and margin."""
    return {
        "avgPx": _average(order),
        "cumFee": "0",
        "cumFilledQty": plain(order.filled_quantity),
        "errorCode": order.reason,
        "feeAsset": "USDT",
        "lastExecTime": order.changed_ms + skew_ms,
        "orderId": order.order_id,
        "orderQty": plain(order.quantity),
        "orderType": order.order_type.capitalize(),
        "price": plain(order.price),
        "seqNum": order.sequence,
        "side": order.side.capitalize(),
        "status": order.status.value,
        "stopPrice": "",
        "symbol": order.symbol,
        "execInst": "NULL_VAL",
    }


def futures_row(order: Order, skew_ms: int) -> dict[str, Any]:
    """Show an order as REST does for futures."""
    row = order_row(order, skew_ms)
    row["avgFilledPx"] = row.pop("avgPx")
    return row | {
        "ac": "FUTURES",
        "accountId": order.account_id,
        "time": order.placed_ms + skew_ms,
        "stopPrice": "0",
        "stopBy": "market",
        "lastPx": "0",
        "lastQty": "0",
        "fee": "0",
    }


def short_row(order: Order, skew_ms: int) -> dict[str, Any]:
    """Show an order as the stream does: short names, the same for an update and a listing."""
    return {
        "s": order.symbol,
        "sn": order.sequence,
        "orderId": order.order_id,
        "st": order.status.value,
        "sd": order.side.capitalize(),
        "p": plain(order.price),
        "q": plain(order.quantity),
        "cfq": plain(order.filled_quantity),
        "ap": _average(order),
        "ot": order.order_type.capitalize(),
        "t": order.changed_ms + skew_ms,
        "err": order.reason,
        "ei": "NULL_VAL",
        "sp": "",
        "fa": "USDT",
        "cf": "0",
    }
