"""What the tests of OKX share: the documents' rows, and how flows are driven and replies read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from flows_support import Drive, value_of
from masscancel import MassCancelError
from masscancel.calls import Call, Reply, Scope, Stamp
from masscancel.credentials import Credentials
from masscancel.venues import OKX

NOW = 1_700_000_000_000
STAMP = Stamp(NOW)
CREDENTIALS = Credentials("key", "test_api_secret", passphrase="phrase")
VENUE = OKX()
BTC, ETH, SWAP = "BTC-USDT", "ETH-USDT", "BTC-USDT-SWAP"
SPREAD = "BTC-USDT_BTC-USDT-SWAP"

#: "GET / Order list", as far as it has values.
ORDER: Mapping[str, Any] = {
    "accFillSz": "0",
    "algoId": "",
    "attachAlgoOrds": [],
    "cTime": "1724733617998",
    "instId": BTC,
    "instType": "SPOT",
    "isTpLimit": "false",
    "linkedAlgoOrd": {"algoId": ""},
    "ordId": "1752588852617379840",
    "ordType": "post_only",
    "px": "13013.5",
    "pxUsd": "",
    "reduceOnly": "false",
    "side": "buy",
    "state": "live",
    "sz": "0.001",
    "tgtCcy": "",
    "uTime": "1724733617998",
}
#: "GET / Algo order list", likewise.
ALGO: Mapping[str, Any] = {
    "actualSz": "0",
    "algoId": "1753184812254216192",
    "closeFraction": "",
    "instId": BTC,
    "instType": "SPOT",
    "ordId": "",
    "ordIdList": [],
    "ordPx": "",
    "ordType": "conditional",
    "reduceOnly": "false",
    "side": "buy",
    "slOrdPx": "",
    "state": "live",
    "sz": "10",
    "tgtCcy": "quote_ccy",
    "tpOrdPx": "-1",
    "tpTriggerPx": "10000",
    "triggerPx": "",
}
#: "Get active orders" of spread trading, likewise.
SPREAD_ORDER: Mapping[str, Any] = {
    "sprdId": SPREAD,
    "ordId": "312269865356374016",
    "px": "-999",
    "sz": "3",
    "ordType": "limit",
    "side": "buy",
    "accFillSz": "1",
    "pendingFillSz": "2",
    "state": "partially_filled",
}
EMPTY: Mapping[str, Any] = {"code": "0", "msg": "", "data": []}


def good(*rows: Mapping[str, Any], code: str = "0") -> dict[str, Any]:
    """A reply with rows."""
    return {"code": code, "msg": "", "data": [dict(row) for row in rows]}


def orders(count: int, first: int = 10_000, row: Mapping[str, Any] = ORDER) -> list[dict[str, Any]]:
    """So many rows, the newest first; the oldest has this id."""
    key = "algoId" if row.get("algoId") else "ordId"
    return [{**row, key: str(first + count - 1 - number)} for number in range(count)]


def told(*ids: str, key: str = "ordId", **codes: str) -> dict[str, Any]:
    """The answer to a batch; ``codes`` are those of the orders that failed, as ``o<id>=code``."""
    of = {name.removeprefix("o"): code for name, code in codes.items()}
    rows = [{"clOrdId": "", key: i, "sCode": of.get(i, "0"), "sMsg": ""} for i in ids]
    failed = [row["sCode"] != "0" for row in rows]
    return good(*rows, code="0" if not any(failed) else "1" if all(failed) else "2")


def reads(call: Call[Any], reply: Any, status: int = 200, **headers: str) -> Any:
    """What the call makes of a reply: the value, or the error."""
    body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        return value_of(call, Reply(status, named, body), STAMP)
    except MassCancelError as error:
        return error


class Driven(Drive):
    """A flow whose calls are answered by what they ask for, in any order."""

    def reply(self, asked: str, reply: Any, status: int = 200) -> None:
        """Answer the one call whose path, query or body has this in it."""
        found = [part for part in self.root.calls() if asked in shown(part.part)]
        assert len(found) == 1, [shown(part.part) for part in self.root.calls()]
        error = isinstance(reply, MassCancelError)
        found[0].end(reply if error else reads(found[0].part, reply, status))
        self.root.settle()

    def rest(self, reply: Any) -> None:
        """Answer all calls that are under way alike."""
        for part in self.root.calls():
            part.end(reads(part.part, reply))
        self.root.settle()

    def accept(self) -> None:
        """Accept every cancel that is under way."""
        for part in [part for part in self.root.calls() if part.part.method == "POST"]:
            key = "algoId" if "algos" in part.part.path else "ordId"
            part.end(reads(part.part, told(*ids_of(part.part), key=key)))
        self.root.settle()

    @property
    def shown(self) -> list[str]:
        """The calls that are under way."""
        return [shown(call) for call in self.calls]


def shown(call: Call[Any]) -> str:
    """A call in a line: method, path after the version, body."""
    return f"{call.method} {call.path.removeprefix('/api/v5/')} {call.body.decode()}".rstrip()


def cancelling(category: str, symbol: str | None = None, *books: str, venue: OKX = VENUE) -> Driven:
    """A cancel that has begun."""
    scope = Scope(category, symbol, books or None)
    venue.check_scope(scope)
    return Driven(venue.cancel_all(scope, None))


def listing(category: str, symbol: str | None = None, *books: str) -> Driven:
    """A listing that has begun."""
    scope = Scope(category, symbol, books or None)
    VENUE.check_scope(scope)
    return Driven(VENUE.open_orders(scope))


def batch(count: int = 3) -> Driven:
    """A cancel that has come to one batch, of the orders 5, 6, 7 ..."""
    drive = cancelling("spot", None, "ordinary")
    drive.rest(good(*reversed(orders(count, 5))))
    return drive


def query_of(call: Call[Any]) -> dict[str, str]:
    """The query of a call."""
    return dict(parse_qsl(call.path.partition("?")[2]))


def ids_of(call: Call[Any]) -> Sequence[str]:
    """The ids that a cancel names."""
    return [each.get("ordId") or each["algoId"] for each in json.loads(call.body)]
