"""What the tests of Bitget share: how calls are signed, and a venue that answers by hand."""

import json
from collections.abc import Callable
from typing import Any

from flows_support import Drive, decoded
from masscancel import Credentials, MassCancelError
from masscancel.calls import Call, Flow, Request, Stamp
from masscancel.venues.bitget import Bitget

NOW = 1_700_000_000_000
STAMP = Stamp(NOW)
CREDENTIALS = Credentials("key", "secret", passphrase="phrase")
CLASSIC, UNIFIED = Bitget(unified=False), Bitget(unified=True)
BTC, ETH = "BTCUSDT", "ETHUSDT"
FUTURES = "usdt-futures"

WRONG = {
    "v2": {"code": "40085", "msg": "You are in Unified Account mode", "data": None},
    "v3": {"code": "25245", "msg": "The account is not the unified account mode", "data": None},
}


def signed(call: Call[Any], stamp: Stamp = STAMP) -> Request:
    """The call as it is written."""
    return call.sign(call, CREDENTIALS, stamp)


def described(call: Call[Any]) -> str:
    """Method, target without its root, and body."""
    request = signed(call)
    target = request.target.replace("%24", "$")
    return f"{request.method} {target.removeprefix('/api/')} {request.body.decode()}".rstrip()


def good(data: Any) -> dict[str, Any]:
    """A reply of success."""
    return {"code": "00000", "msg": "success", "requestTime": NOW, "data": data}


def lists(*done: str, failed: dict[str, dict[str, str]] | None = None) -> dict[str, Any]:
    """The answer of v2 to a cancel."""
    return good(
        {
            "successList": [{"orderId": each, "clientOid": f"c-{each}"} for each in done],
            "failureList": [{"orderId": i, **words} for i, words in (failed or {}).items()],
        }
    )


#: The whole of an empty account, by the beginnings of what is asked.
FLAT: dict[str, Any] = {
    "GET v2/spot/trade/unfilled-orders": good([]),
    "GET v2/spot/trade/current-plan-order": good({"nextFlag": False, "orderList": []}),
    "GET v2/mix/order": good({"entrustedList": None, "endId": None}),
    "GET v2/margin": good({"orderList": [], "maxId": None, "minId": None}),
    "GET v3/trade/unfilled-orders": good({"list": [], "cursor": None}),
    "GET v3/trade/unfilled-strategy-orders": good([]),
    "POST v2/spot/trade/cancel-symbol-order": good({"symbol": BTC}),
    "POST v2": lists(),
    "POST v3/trade/cancel-symbol-order": good({"list": []}),
    "POST v3/trade/cancel-strategy-order": good(None),
}

Answers = dict[str, Any]


def play(flow: Flow[Any], answers: Answers | None = None) -> tuple[Any, list[str]]:
    """Take a flow to its end: its value or error, and what was asked, in order.

    Each request is answered by the longest beginning of it in ``answers``, and else as an empty
    account is: with a body at 200, a body and a status, an error, or what a function returns.
    """
    table = FLAT | (answers or {})
    asked: list[str] = []
    drive = Drive(flow)
    while not drive.root.done:
        for part in drive.root.calls():
            what = described(part.part)
            asked.append(what)
            answer: Any = table[max((k for k in table if what.startswith(k)), key=len)]
            part.end(_answered(part.part, answer(what) if callable(answer) else answer))
        drive.root.settle()
    return drive.value, asked


def _answered(call: Call[Any], answer: Any) -> Any:
    if isinstance(answer, MassCancelError):
        return answer
    body, status = answer if isinstance(answer, tuple) else (answer, 200)
    return decoded(call, body, status)


def pages(*rows: list[dict[str, Any]], shape: Callable[[list[Any]], Any]) -> Callable[[str], Any]:
    """Answers a listing page by page: an empty one comes after the last of them."""
    left = [*rows, []]
    return lambda _: good(shape(left.pop(0)))


def ids_in(asked: list[str], beginning: str) -> list[list[str]]:
    """The ids in the bodies of what was asked of a path."""
    bodies = [json.loads(each.split(" ", 2)[2]) for each in asked if each.startswith(beginning)]
    return [
        [each["orderId"] for each in body.get("orderList") or body.get("orderIdList") or [body]]
        for body in bodies
    ]


def spot(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    """Rows of the listing of spot, as the documents' sample has them."""
    row = {
        "symbol": "btcusdt",
        "clientOid": "x",
        "priceAvg": "34829.12",
        "size": "1",
        "orderType": "limit",
        "side": "buy",
        "status": "new",
        "basePrice": "0",
        "baseVolume": "0",
        "cTime": "1622697148",
        "triggerPrice": None,
    }
    return [row | {"orderId": str(number)} | more for number in numbers]
