"""KuCoin and Bitget, whose keys have a passphrase, as they are fuzzed.

As `fuzz_unified`: replies to begin with, and a second reading of each by the documents' words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence  # type aliases
from importlib import import_module
from typing import Any, Final, TypeAlias

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["masscancel"]):
    from fuzz_readings import NOW, Asked, kind, listing
    from fuzz_unified import Row, acked, flow_of
    from masscancel.calls import Scope
    from masscancel.venues import Bitget, KuCoin

HOST: Final = "https://venue.test"
Right: TypeAlias = Callable[[Any, Sequence[Asked]], bool]
KUCOIN: Final = KuCoin(spot_url=HOST, futures_url=HOST)
CLASSIC: Final = Bitget(rest_url=HOST, unified=False)
UNIFIED: Final = Bitget(rest_url=HOST, unified=True)

# --- KuCoin ---------------------------------------------------------------------------------------

KUCOIN_GONE: Final = {"102436", "126043", "100004", "order_not_exist"}


def kucoin_accepts(asked: Asked) -> bool:
    """A success of which no symbol failed, or a refusal that says that the order is gone."""
    said: Any = asked.json
    code, text = str(said["code"]), gone_text(said.get("msg"))
    if code in KUCOIN_GONE or (code == "400100" and text):
        return True
    if asked.reply.status != 200 or code != "200000":
        return False
    data = said["data"]
    if "cancelAll" in asked.call.path:
        rows = data.get("failedSymbols") or []
        return "succeedSymbols" in data and all(
            isinstance(row, dict) and gone_text(row.get("error")) for row in rows
        )
    return data == "success" or "cancelledOrderIds" in data


def gone_text(text: Any) -> bool:
    """Whether a text says that there is no such order."""
    plain = str(text).lower().replace("_", "").replace(" ", "")
    return "ordernotexist" in plain


def kucoin_said(data: Any, code: str = "200000", **more: Any) -> bytes:
    """A reply of KuCoin."""
    return json.dumps({"code": code, "data": data, **more}).encode()


KUCOIN_ORDER: Final = {
    "id": "a",
    "symbol": "XBTUSDTM",
    "side": "buy",
    "type": "limit",
    "price": "1",
    "size": 2,
    "filledSize": 0,
    "status": "open",
    "stop": "",
    "reduceOnly": False,
}
KUCOIN_PAGE: Final = {"currentPage": 1, "pageSize": 50, "totalNum": 1, "totalPage": 1}
KUCOIN_REPLIES: Final = [
    kucoin_said({"succeedSymbols": ["BTC-USDT"], "failedSymbols": []}),
    kucoin_said({"succeedSymbols": [], "failedSymbols": [{"symbol": "A-B", "error": "timeout"}]}),
    kucoin_said({"cancelledOrderIds": ["a", "b"]}),
    kucoin_said("success"),
    kucoin_said({**KUCOIN_PAGE, "items": [KUCOIN_ORDER]}),
    kucoin_said({**KUCOIN_PAGE, "totalNum": 0, "totalPage": 0, "items": []}),
    kucoin_said(None, "400100", msg="order_not_exist_or_not_allow_to_cancel"),
    kucoin_said(None, "200002", msg="cancel for this pair suspended"),
    kucoin_said({"currentTime": NOW // 1000, "triggerTime": NOW // 1000 + 60}),
]

# --- Bitget ---------------------------------------------------------------------------------------

BITGET_NONE: Final = {"22001", "31054"}
BITGET_GONE: Final = {
    *BITGET_NONE,
    *("43001", "43025", "40768", "40109", "31007", "25204", "24056", "25597"),
}
BITGET_TEXTS: Final = {
    *("notexisted", "notexistend", "order does not exist", "the order does not exist"),
    *("plan order does not exist", "no order to cancel", "order cancelled"),
}
WRONG_KIND: Final = {"40085", "25245"}


def bitget_accepts(asked: Asked) -> bool:
    """A success in which no order failed that is not gone; or that there is nothing to cancel."""
    said: Any = asked.json
    code = str(said["code"])
    if code in BITGET_GONE:
        return asked.reply.status in (200, 400)
    if asked.reply.status != 200 or code != "00000":
        return False
    data = said.get("data")
    if "cancel-strategy-order" in asked.call.path:
        return True
    if "/v3/" in asked.call.path:
        return all(
            row.get("code") in (None, "", 0, "0", "00000") or left(row) for row in data["list"]
        )
    return "symbol" in data or all(map(left, data["failureList"] or []))


def of_its_kind(asked: Sequence[Asked]) -> list[Asked]:
    """The answers of an API that has not said that the account is of the other kind."""
    versions = {each.call.path[:7] for each in asked if says_wrong_kind(each)}
    return [each for each in asked if each.call.path[:7] not in versions]


def says_wrong_kind(asked: Asked) -> bool:
    """Whether a reply says that the account is of the other kind."""
    said: Any = asked.json
    return isinstance(said, dict) and str(said.get("code")) in WRONG_KIND


def left(row: Any) -> bool:
    """Whether an order that failed is gone."""
    code = row.get("code") or row.get("errorCode") or ""
    text = row.get("errorMsg") or row.get("msg") or ""
    return str(code) in BITGET_GONE if code else text.strip().rstrip(".").lower() in BITGET_TEXTS


def bitget_said(data: Any, code: str = "00000", text: str = "success") -> bytes:
    """A reply of Bitget."""
    return json.dumps({"code": code, "msg": text, "requestTime": NOW, "data": data}).encode()


BITGET_ORDER: Final = {
    "orderId": "7",
    "clientOid": "c",
    "symbol": "BTCUSDT",
    "side": "buy",
    "price": "1",
    "qty": "2",
    "size": "2",
    "cumExecQty": "0",
    "orderStatus": "new",
    "reduceOnly": "NO",
}
BITGET_DONE: Final = {"orderId": "7", "clientOid": "c"}
BITGET_FAILED: Final = BITGET_DONE | {"errorCode": "43001", "errorMsg": "The order does not exist"}
BITGET_REPLIES: Final = [
    bitget_said({"successList": [BITGET_DONE], "failureList": []}),
    bitget_said({"successList": [], "failureList": [BITGET_FAILED]}),
    bitget_said({"symbol": "BTCUSDT"}),
    bitget_said({"list": [BITGET_DONE | {"code": "24056", "msg": "notExisted"}]}),
    bitget_said({"list": [BITGET_ORDER], "cursor": None}),
    bitget_said({"entrustedList": None, "endId": None}),
    bitget_said([]),
    bitget_said(None),
    bitget_said(None, "22001", "No order to cancel"),
    bitget_said(None, "40085", "You are in Unified Account mode"),
    bitget_said(None, "25245", "The account is not the unified account mode"),
]


def phrased() -> list[Row]:
    """Everything of the two that is tried."""
    found: list[Row] = []
    for scope in (Scope("spot"), Scope("futures", "XBTUSDTM"), Scope("margin", "BTC-USDT")):
        cancel = flow_of(KUCOIN.cancel_all, scope, None)
        found.append((f"kucoin cancel_all {scope}", cancel, acked(kucoin_accepts), KUCOIN_REPLIES))
    for venue, name in ((CLASSIC, "classic"), (UNIFIED, "unified")):
        for scope in (Scope("usdt-futures"), Scope("spot", "BTCUSDT")):
            cancel = flow_of(venue.cancel_all, scope, None)
            what = f"bitget {name} cancel_all {scope}"
            found.append((what, cancel, of_kind(acked(bitget_accepts)), BITGET_REPLIES))
    return [
        *found,
        (
            "kucoin open_orders futures",
            flow_of(KUCOIN.open_orders, Scope("futures", None, ("ordinary",))),
            listing(lambda said: said["data"]["items"] or [], "id"),
            KUCOIN_REPLIES,
        ),
        (
            "bitget open_orders unified",
            flow_of(UNIFIED.open_orders, Scope("spot", None, ("ordinary",))),
            of_kind(listing(bitget_rows, "orderId")),
            BITGET_REPLIES,
        ),
        (
            "kucoin switch",
            flow_of(KUCOIN.switch, Scope("spot"), 60_000),
            kind(int, type(None)),
            KUCOIN_REPLIES,
        ),
    ]


def of_kind(right: Right) -> Right:
    """What is right by the answers of the API that the account belongs to."""
    return lambda value, asked: bool(of_its_kind(asked)) and right(value, of_its_kind(asked))


def bitget_rows(said: Any) -> Any:
    """The rows of a listing: v2's data is the rows, v3's has them."""
    data = said["data"]
    return data if isinstance(data, list) else data["list"]
