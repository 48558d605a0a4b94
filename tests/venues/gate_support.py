"""What the tests of Gate share: samples, keys, and how calls are signed and decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flows_support import Drive, calls_of, decoded
from masscancel import Client, Credentials
from masscancel.calls import Call, Request, Scope, Stamp
from masscancel.sim import Account, SimulatedExchange
from masscancel.venues.gate import Gate

DATA = Path(__file__).parent.parent / "data" / "gate"
CCXT: dict[str, Any] = json.loads((DATA / "ccxt_requests.json").read_bytes())
NOW: int = CCXT["milliseconds"]
CREDENTIALS = Credentials("key", "secret")
CLASSIC, UNIFIED, UNKNOWN = Gate(unified=False), Gate(unified=True), Gate()
BTC, ETH = "BTC_USDT", "ETH_USDT"
OPTION = "BTC_USDT-20261225-100000-C"


def sample(name: str) -> Any:
    """A reply of the documents."""
    return json.loads((DATA / f"{name}.json").read_bytes())


def signed(call: Call[Any], stamp: Stamp | None = None) -> Request:
    """The call as it is written."""
    return call.sign(call, CREDENTIALS, stamp or Stamp(NOW))


def cancels(
    category: str,
    symbol: str | None = None,
    *,
    venue: Gate = CLASSIC,
    books: tuple[str, ...] | None = None,
) -> list[Call[Any]]:
    """The calls of a cancel."""
    scope = Scope(category, symbol, books)
    venue.check_scope(scope)
    return calls_of(venue.cancel_all(scope, None))


def listings(
    category: str,
    symbol: str | None = None,
    *,
    venue: Gate = CLASSIC,
    books: tuple[str, ...] | None = None,
) -> Drive:
    """A listing that is under way."""
    return Drive(venue.open_orders(Scope(category, symbol, books)))


def asked(calls: list[Call[Any]]) -> list[str]:
    """Method, path after the root, and body of calls."""
    return [
        f"{call.method} {call.path.removeprefix('/api/v4')} {call.body.decode()}".strip()
        for call in calls
    ]


def answer_all(drive: Drive, reply: Any) -> None:
    """Give every call that is under way the same reply."""
    drive.round(*[decoded(call, reply) for call in drive.calls])


def venue_of(exchange: SimulatedExchange, **options: Any) -> Gate:
    """The venue at the simulated exchange."""
    return Gate(rest_url=exchange.rest_url, stream_url=exchange.stream_url, **options)


def client_of(
    exchange: SimulatedExchange, account: Account, *, unified: bool | None = None, **options: Any
) -> Client[Gate]:
    """A client of the account, whose pool opens no connection by itself."""
    return Client(
        Credentials(account.api_key, account.api_secret),
        venue=venue_of(exchange, unified=unified),
        **options,
    )
