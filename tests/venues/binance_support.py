"""What the tests of Binance share: samples, keys, and how calls are signed and decoded."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest

from flows_support import calls_of, value_of
from masscancel import Credentials, MassCancelError, OpenOrder
from masscancel.calls import Call, Reply, Request, Scope, Stamp
from masscancel.sim import Reply as SimReply
from masscancel.sim import Request as SimRequest
from masscancel.sim import SimulatedExchange
from masscancel.sim.dialect import Moment
from masscancel.venues.binance import Binance

if TYPE_CHECKING:
    from masscancel.sim.binance import BinanceDialect


DATA = Path(__file__).parent.parent / "data" / "binance"
NOW = 1_700_000_000_000
STAMP = Stamp(NOW)
CREDENTIALS = Credentials("key", "secret")
VENUE = Binance()
BTC, ETH = "BTCUSDT", "ETHUSDT"
UNKNOWN_ORDER = (DATA / "error_cancel_rejected_unknown_order.json").read_bytes()
DONE = (DATA / "usdm_delete_allOpenOrders.json").read_bytes()


def sample(name: str) -> bytes:
    """A sample of the documents."""
    return (DATA / f"{name}.json").read_bytes()


def signed(call: Call[Any], stamp: Stamp = STAMP) -> Request:
    """The call as it is written."""
    return call.sign(call, CREDENTIALS, stamp)


def decoded(call: Call[Any], body: bytes, status: int = 200, **headers: str) -> Any:
    """What the call makes of a reply."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return value_of(call, Reply(status, named, body), STAMP)


def refused(
    call: Call[Any], body: bytes | str | dict[str, Any], status: int = 400, **headers: str
) -> MassCancelError:
    """The error that the call makes of a reply."""
    if isinstance(body, dict):
        body = json.dumps(body)
    with pytest.raises(MassCancelError) as caught:
        decoded(call, body.encode() if isinstance(body, str) else body, status, **headers)
    return caught.value


def cancel_call(category: str, symbol: str = BTC) -> Call[Any]:
    """The (first) cancel of a symbol."""
    scope = Scope(category, symbol)
    VENUE.check_scope(scope)
    return calls_of(VENUE.cancel_all(scope, None))[0]


def described(call: Call[Any]) -> tuple[str, str, str]:
    """Method, path, and the symbol that is asked for."""
    request = signed(call)
    query = dict(parse_qsl(request.target.partition("?")[2]))
    return request.method, request.target.partition("?")[0], query.get("symbol", "")


def row(symbol: str, order_id: int = 1) -> dict[str, Any]:
    """An order of the ordinary book, as it is listed."""
    listed: dict[str, Any] = json.loads(sample("spot_openOrders"))[0]
    return listed | {"symbol": symbol, "orderId": order_id}


def algo_row(symbol: str, algo_id: int = 1) -> dict[str, Any]:
    """A conditional order, as it is listed."""
    listed: dict[str, Any] = json.loads(sample("usdm_openAlgoOrders"))[0]
    return listed | {"symbol": symbol, "algoId": algo_id}


def listing(call: Call[Any], *rows: dict[str, Any]) -> Any:
    """What a listing's call makes of these rows."""
    return decoded(call, json.dumps(rows).encode())


CANCELLED = json.loads(sample("spot_delete_openOrders"))
SPOT_ROW, ORDER_LIST = CANCELLED[0], CANCELLED[2]


def order_of(order_id: str, symbol: str = BTC) -> OpenOrder:
    """An order that was open."""
    return OpenOrder(
        order_id=order_id,
        symbol=symbol,
        side="buy",
        price=Decimal(1),
        quantity=Decimal(1),
        filled_quantity=Decimal(0),
        order_type="LIMIT",
        status="NEW",
    )


def asked(
    dialect: BinanceDialect,
    exchange: SimulatedExchange,
    target: str,
    *,
    method: str = "DELETE",
    body: bytes = b"",
    key: str = "a-key-0",
) -> SimReply:
    """What the dialect answers to a request that arrives at `NOW`."""
    request = SimRequest(
        method=method,
        raw_path=target,
        headers={"x-mbx-apikey": key} if key else {},
        body=body,
        remote="192.0.2.1",
        moment=Moment(now_ms=NOW),
    )
    for route in dialect.routes():
        if (route.method, route.template) == (method, request.path):
            return route.handler(exchange.engine, request)
    return dialect.unknown(request)
