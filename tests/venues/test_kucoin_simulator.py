"""The simulated KuCoin itself: what it must not let in, and what it leaves out unless told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from masscancel.sim import Account, SimulatedExchange
from masscancel.sim import Request as SimRequest
from masscancel.sim.dialect import Moment, Router
from masscancel.sim.kucoin import KuCoinDialect, signature

NOW = 1_700_000_000_000
BTC = "BTC-USDT"


@pytest.fixture
def exchange() -> SimulatedExchange:
    """An exchange at `NOW`, with an account that has an order in each book of spot."""
    exchange = SimulatedExchange(KuCoinDialect(symbols=[BTC, "XBTUSDTM"]), clock=lambda: NOW / 1000)
    account = exchange.add_account("a-key", "a-secret", extra={"passphrase": "a-phrase"})
    for order_type in ("limit", "stop", "oco"):
        exchange.place(account, "spot", BTC, order_type=order_type)
    exchange.place(account, "futures", "XBTUSDTM")
    exchange.advance()
    return exchange


def asked(
    exchange: SimulatedExchange, target: str, *, method: str = "GET", body: str = "", **headers: str
) -> tuple[int, Any]:
    """The status of what is answered to a request that arrives at `NOW`, and its JSON."""
    signed = {
        "kc-api-key": "a-key",
        "kc-api-sign": signature("a-secret", f"{NOW}{method}{target}{body}"),
        "kc-api-timestamp": str(NOW),
        "kc-api-passphrase": signature("a-secret", "a-phrase"),
        "kc-api-key-version": "3",
        **{f"kc-api-{name}": value for name, value in headers.items()},
    }
    found = Router(exchange.dialect.routes(), ()).route(method, target.partition("?")[0])
    assert found is not None
    route, params = found
    request = SimRequest(
        method=method,
        raw_path=target,
        params=params,
        headers=signed,
        body=body.encode(),
        moment=Moment(now_ms=NOW),
    )
    reply = route.handler(exchange.engine, request)
    return reply.status, json.loads(reply.body)


STOPS = "/api/v1/stop-order?tradeType=TRADE"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "200000"),
        ({"key": ""}, "400001"),
        ({"key": "nobody"}, "400003"),
        ({"sign": "AAAA"}, "400005"),
        ({"sign": signature("another", f"{NOW}GET{STOPS}")}, "400005"),
        ({"sign": signature("a-secret", f"{NOW}GET/api/v1/stop-order")}, "400005"),
        ({"timestamp": str(NOW - 5_000)}, "400002"),
        ({"timestamp": "soon"}, "400002"),
        ({"passphrase": "a-phrase"}, "400004"),
        ({"key-version": "1"}, "400004"),
    ],
)
def test_the_simulator_checks_every_part(
    exchange: SimulatedExchange, headers: dict[str, str], code: str
) -> None:
    """Key, signature over the query as sent, time, passphrase and version."""
    status, answer = asked(exchange, STOPS, **headers)
    assert (answer["code"], status) == (code, 200 if code == "200000" else 401)


def open_types(exchange: SimulatedExchange, account: Account) -> list[str]:
    """The types of what is open on spot."""
    exchange.advance()
    return [order.order_type for order in exchange.open_orders(account, "spot")]


def test_the_simulator_has_the_venues_traps(exchange: SimulatedExchange) -> None:
    """A symbol in a body is ignored; stop orders go with all legs; listings have their defaults."""
    account = exchange.engine.accounts["a-key"]
    assert asked(exchange, "/api/v1/orders")[1]["data"]["items"] == []  # those that are done
    assert len(asked(exchange, "/api/v1/orders?status=active")[1]["data"]["items"]) == 1
    kinds = [row["stop"] for row in asked(exchange, STOPS)[1]["data"]["items"]]
    assert kinds == ["loss", "l_l_o", "l_s_o"]
    assert asked(exchange, "/api/v1/hf/orders", method="DELETE")[1]["code"] == "400100"
    assert asked(exchange, "/api/v3/orders", method="DELETE")[1]["code"] == "400100"
    assert asked(exchange, "/api/v1/hf/orders/active?symbol=A-B")[1]["code"] == "900001"
    body = '{"symbol":"ETH-USDT"}'
    asked(exchange, "/api/v1/stop-order/cancel", method="DELETE", body=body)
    assert open_types(exchange, account) == ["limit"]
