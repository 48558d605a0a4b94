"""The simulated Binance itself: what it must not let in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from binance_support import BTC, ETH, NOW, asked
from masscancel.sim import SimulatedExchange
from masscancel.sim.binance import BinanceDialect
from masscancel.sim.binance import signature as sim_signature


def by_hand(query: str, path: str = "/api/v3/openOrders", of: str = "a-secret-0") -> str:
    """A target that is signed by hand."""
    return f"{path}?{query}&signature={sim_signature(of, query)}"


GOOD = f"symbol={BTC}&timestamp={NOW}"


@pytest.mark.parametrize(
    ("target", "code", "status"),
    [
        (by_hand(GOOD), 0, 200),
        (by_hand(GOOD) + "0", -1022, 400),
        (by_hand(GOOD).replace(BTC, ETH), -1022, 400),
        (by_hand(GOOD, of="another"), -1022, 400),
        (f"/api/v3/openOrders?signature={sim_signature('a-secret-0', GOOD)}&{GOOD}", -1022, 400),
        (f"/api/v3/openOrders?{GOOD}", -1102, 400),
        (by_hand(f"symbol={BTC}"), -1102, 400),
        (by_hand(f"symbol={BTC}&timestamp=soon"), -1102, 400),
        (by_hand(f"symbol={BTC}&timestamp={NOW - 5_000}"), 0, 200),
        (by_hand(f"symbol={BTC}&timestamp={NOW - 5_001}"), -1021, 400),
        (by_hand(f"symbol={BTC}&timestamp={NOW + 999}"), 0, 200),
        (by_hand(f"symbol={BTC}&timestamp={NOW + 1_000}"), -1021, 400),
        (by_hand(f"{GOOD}&recvWindow=60000"), 0, 200),
        (by_hand(f"{GOOD}&recvWindow=60001"), -1131, 400),
        (by_hand(f"{GOOD}&recvWindow=long"), -1102, 400),
        (by_hand(f"symbol={BTC}&timestamp={NOW - 7_000}&recvWindow=7000.5"), 0, 200),
        (by_hand(f"timestamp={NOW}"), -1102, 400),
        (by_hand(f"symbol=btc&timestamp={NOW}"), -1100, 400),
        (by_hand(f"symbol=XBTUSD&timestamp={NOW}"), -1121, 400),
        (by_hand(f"symbol=%E5%B8%81USDT&timestamp={NOW}"), -1121, 400),
        (by_hand(f"symbol=币USDT&timestamp={NOW}"), -1022, 400),
    ],
)
def test_the_simulator_checks_every_part(target: str, code: int, status: int) -> None:
    """Time, window, signature over the bytes as sent, and symbol: as the documents have them."""
    dialect = BinanceDialect(symbols=[BTC, ETH])
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.place(exchange.add_account("a-key-0", "a-secret-0"), "spot", BTC)
    reply = asked(dialect, exchange, target)
    assert reply.status == status
    answer = json.loads(reply.body)
    assert (answer["code"] if isinstance(answer, dict) else 0) == code


def test_the_simulator_knows_keys_and_paths() -> None:
    """No key, a key that is nobody's, one without futures, and an address that does not exist."""
    dialect = BinanceDialect()
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.add_account("a-key-0", "a-secret-0", categories=["spot"])
    futures = by_hand(GOOD, "/fapi/v1/allOpenOrders")

    def refusal(target: str, **options: Any) -> tuple[int, int, str]:
        reply = asked(dialect, exchange, target, **options)
        answer = json.loads(reply.body)
        return reply.status, answer["code"], answer["msg"]

    assert refusal(by_hand(GOOD), key="")[:2] == (401, -2014)
    assert refusal(by_hand(GOOD), key="nobody")[:2] == (401, -2015)
    assert refusal(futures)[:2] == (401, -2015)
    assert refusal(futures)[2].endswith("request ip: 192.0.2.1")
    assert asked(dialect, exchange, by_hand(GOOD, "/api/v3/allOpenOrders")).status == 404
    assert asked(dialect, exchange, "/api/v3/ping", method="GET").body == b"{}"


def test_the_simulator_takes_forms_and_prefers_the_query() -> None:
    """The signature covers the query and then the body; of a name in both, the query counts."""
    dialect = BinanceDialect()
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.add_account("a-key-0", "a-secret-0")
    path = "/fapi/v1/countdownCancelAll"

    def arm(query: str, form: str) -> Any:
        form += f"&signature={sim_signature('a-secret-0', query + form)}"
        target = f"{path}?{query}" if query else path
        return json.loads(asked(dialect, exchange, target, method="POST", body=form.encode()).body)

    armed = {"symbol": BTC, "countdownTime": "100"}
    assert arm("", f"{GOOD}&countdownTime=100") == armed
    assert arm(f"symbol={BTC}", f"symbol={ETH}&timestamp={NOW}&countdownTime=100") == armed
    assert arm("", f"{GOOD}&countdownTime=soon")["code"] == -1102
