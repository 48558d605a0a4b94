"""What the tests of AscendEX share: samples, keys, and how calls are decoded."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import strategies as st

from masscancel import AscendEX, Credentials, MassCancelError, OpenOrder
from masscancel.calls import Call, Reply, Request, Scope, Stamp

if TYPE_CHECKING:
    from collections.abc import Generator


DATA = Path(__file__).parent.parent / "data" / "ascendex"
KEY, SECRET = "k3y-of-the-account", "s3cret-of-the-account"
CREDENTIALS = Credentials(KEY, SECRET)
VENUE = AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test", account_group=6)
NOW = 1_700_000_000_000
STAMP = Stamp(NOW, skew_ms=1_000)
ID = "0123456789abcdef0123456789abcdef"
SYMBOLS = {"cash": "BTC/USDT", "margin": "BTC/USDT", "futures": "BTC-PERP"}


def sample(name: str) -> Any:
    """One of the sample replies."""
    return json.loads((DATA / f"{name}.json").read_bytes())


def only_call(flow: Generator[Any, Any, Any]) -> Call[Any]:
    """The single call that a flow wants first."""
    (call,) = next(flow)
    assert isinstance(call, Call)
    return call


def cancel(
    category: str = "cash", symbol: str | None = None, request_id: str | None = ID
) -> Call[Any]:
    """The call that cancels this scope."""
    return only_call(VENUE.cancel_all(Scope(category, symbol), request_id))


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    """A reply with this body: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def decoded(call: Call[Any], body: object, *, stamp: Stamp = STAMP, status: int = 200) -> Any:
    """What the call makes of a reply; our errors as values, and any other is the test's failure.

    An error of ours never drags another along, whose frames might hold what was signed.
    """
    try:
        return call.decode(reply(body, status), stamp)
    except MassCancelError as problem:
        error = problem
    if (error.__context__, error.__cause__) != (None, None):
        pytest.fail(f"{error!r} drags {error.__context__!r} along")
    return error


def acknowledgement(
    category: str = "cash", symbol: str | None = None, **changes: Any
) -> dict[str, Any]:
    """A good Ack of this scope; changes go to `data`, those that begin with `info_` to its info."""
    info: dict[str, Any] = {
        "id": ID,
        "orderId": "",
        "orderType": "NULL_VAL",
        "symbol": symbol or "",
        "timestamp": NOW,
    }
    data: dict[str, Any] = {
        "ac": category.upper(),
        "accountId": "csh1",
        "action": "cancel-all",
        "info": info,
        "status": "Ack",
    }
    for name, value in changes.items():
        part, key = (info, name.removeprefix("info_")) if name.startswith("info_") else (data, name)
        if value is ...:
            del part[key]
        else:
            part[key] = value
    return {"code": 0, "data": data}


def expected_signature(timestamp: str, api_path: str) -> str:
    """The signature by the documents' words, written a second time."""
    message = f"{timestamp}+{api_path}".encode()
    return base64.b64encode(hmac.new(SECRET.encode(), message, hashlib.sha256).digest()).decode()


REQUESTS = [
    ("cash", "v1/cash/order", "order"),
    ("margin", "v1/margin/order", "order"),
    ("futures", "v2/futures/order", "v2/futures/order"),
]


def check_signed(request: Request, api_path: str, stamp: Stamp) -> None:
    """The three headers, by the documents' words."""
    headers = dict(request.headers)
    headers.pop("Content-Type", None)
    assert headers == {
        "x-auth-key": KEY,
        "x-auth-timestamp": str(stamp.time_ms),
        "x-auth-signature": expected_signature(str(stamp.time_ms), api_path),
    }
    assert request.expires_at_ms == stamp.time_ms + 30_000


PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"


def loads(body: bytes) -> Any:
    """JSON, whatever the text in it: it is not looked at where nobody asks for it."""
    return json.loads(body.decode(errors="replace"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


def list_orders(category: str = "cash", symbol: str | None = None) -> Call[Any]:
    """The call that lists this scope."""
    return only_call(VENUE.open_orders(Scope(category, symbol)))


def orders(*ids: str) -> list[OpenOrder]:
    """Open orders with these ids."""
    listed: Any = list_orders().decode(reply(sample("open_orders_cash")), STAMP)
    (order,) = listed
    return [msgspec.structs.replace(order, order_id=each) for each in ids]
