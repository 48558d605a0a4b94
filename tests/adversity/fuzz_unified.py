"""Bybit, OKX and Gate as they are fuzzed: replies to begin with, and a second reading of each.

As `fuzz_readings`, the readings go by the words of the documents alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence  # type aliases
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["masscancel"]):
    from fuzz_readings import NOW, Asked, kind, listing
    from masscancel import Ack
    from masscancel.calls import Flow, Scope
    from masscancel.venues import OKX, Bybit, Gate

HOST: Final = "https://venue.test"
BYBIT: Final = Bybit(rest_url=HOST, settle_coins=())
OKX_VENUE: Final = OKX(rest_url=HOST)
GATE: Final = Gate(rest_url=HOST, unified=False)
DATA: Final = Path(__file__).parent.parent / "data" / "gate"
#: A name, a flow, what is right, replies to begin with.
Row: TypeAlias = tuple[
    str, Callable[[], Flow[Any]], Callable[[Any, Sequence[Asked]], bool], Sequence[bytes]
]


def acked(reading: Callable[[Asked], bool]) -> Callable[[Any, Sequence[Asked]], bool]:
    """An Ack, and each cancel was answered by what is one by a second reading."""
    return lambda ack, asked: (
        isinstance(ack, Ack)
        and all(each.json is ... or reading(each) for each in asked if each.call.cancels)
    )


# --- Bybit ----------------------------------------------------------------------------------------

BYBIT_GONE: Final = {110001, 110008, 110010, 170139, 170142, 170143, 170190, 170213}


def bybit_accepts(asked: Asked) -> bool:
    """Code 0, no failure, and of each order that it names none that says otherwise."""
    said: Any = asked.json
    result = said["result"]
    fates = (said.get("retExtInfo") or {}).get("list") or []
    return (
        asked.reply.status == 200
        and int(said["retCode"]) == 0
        and str(result.get("success", "1")) in ("1", "True", "None")
        and ("list" in result or "success" in result)
        and all(row["orderId"] not in (None, "") for row in result.get("list", []))
        and all(int(each.get("code", 0)) in {0, *BYBIT_GONE} for each in fates)
    )


def bybit_said(result: Any, **more: Any) -> bytes:
    """A reply of Bybit."""
    return json.dumps({"retCode": 0, "retMsg": "OK", "result": result, "time": NOW} | more).encode()


BYBIT_REPLIES: Final = [
    bybit_said({"list": [{"orderId": "a", "orderLinkId": ""}], "success": "1"}, retExtInfo={}),
    bybit_said({"list": [{"orderId": "a"}]}, retExtInfo={"list": [{"code": 110001, "msg": ""}]}),
    bybit_said({"success": "0"}),
    bybit_said({}, retCode=10001),
    bybit_said(
        {
            "category": "spot",
            "nextPageCursor": "",
            "list": [
                {
                    "orderId": "a",
                    "symbol": "BTCUSDT",
                    "side": "Buy",
                    "qty": "1",
                    "price": "",
                    "orderStatus": "New",
                }
            ],
        }
    ),
]
# --- OKX ------------------------------------------------------------------------------------------

OKX_GONE: Final = {"51400", "51401", "51402", "51405", "51410", "51412", "51416", "51603"}
#: What a site without spreads says of them.
OKX_ABSENT: Final = {"50005", "50038"}


def okx_accepts(asked: Asked) -> bool:
    """Every order that was named is accepted or gone; of spreads, the request is received."""
    said: Any = asked.json
    code, status = str(said["code"]), asked.reply.status
    if "mass-cancel" in asked.call.path:
        absent = code in OKX_GONE | OKX_ABSENT or status in (404, 410)
        return absent or (status == 200 and code == "0" and said["data"][0]["result"] is True)
    wanted = json.loads(asked.call.body)
    if code in OKX_GONE:
        return len(wanted) == 1
    fine = {"0", *OKX_GONE}
    told = {str(row["sCode"]) for row in said["data"]}
    return status == 200 and len(said["data"]) >= len(wanted) and told <= fine


def okx_said(*rows: Any, code: str = "0") -> bytes:
    """A reply of OKX."""
    return json.dumps({"code": code, "msg": "", "data": rows}).encode()


OKX_ORDER: Final = {
    "instId": "BTC-USDT",
    "instType": "SPOT",
    "ordId": "7",
    "side": "buy",
    "sz": "1",
    "px": "2",
    "accFillSz": "0",
    "ordType": "limit",
    "state": "live",
}
OKX_REPLIES: Final = [
    okx_said(OKX_ORDER),
    okx_said({"ordId": "7", "sCode": "0", "sMsg": ""}),
    okx_said({"ordId": "7", "sCode": "51400", "sMsg": "gone"}, code="1"),
    okx_said({"result": True}),
    okx_said({"triggerTime": str(NOW // 1000 + 60), "tag": "", "ts": str(NOW // 1000)}),
    okx_said(code="50038"),
    okx_said(),
]
# --- Gate -----------------------------------------------------------------------------------------

GATE_GONE: Final = {"ORDER_NOT_FOUND", "ORDER_CLOSED", "ORDER_CANCELLED", "ORDER_FINISHED"}
GATE_NONE: Final = {*GATE_GONE, "CLIENT_ID_NOT_FOUND", "USER_NOT_FOUND", "NOT_FOUND"}


def gate_accepts(asked: Asked) -> bool:
    """Rows with an id, none of which failed; or a label that says that there is nothing."""
    said: Any = asked.json
    if isinstance(said, dict) and (said.get("label") or said.get("code")):
        return said.get("label") in GATE_NONE
    if asked.reply.status != 200:
        return False
    held = said if isinstance(said, list) else (said.get("data") or said)["orders"] or []
    return all(
        row["id"] is not None
        and (
            row.get("succeeded") is not False
            or {row.get("label"), row.get("error_label")} & GATE_NONE
        )
        for row in held
    )


GATE_REPLIES: Final = [
    path.read_bytes()
    for path in sorted(DATA.glob("*.json"))
    if path.stem not in ("ccxt_requests", "vectors")
]
GATE_REPLIES.append(json.dumps({"triggerTime": str(NOW + 60_000)}).encode())


def unified() -> list[Row]:
    """Everything of the three that is tried."""
    found: list[Row] = []
    bybit, okx, gate = acked(bybit_accepts), acked(okx_accepts), acked(gate_accepts)
    for category, symbol in (("spot", None), ("linear", "BTCUSDT"), ("inverse", None)):
        scope = Scope(category, symbol)
        cancel = flow_of(BYBIT.cancel_all, scope, None)
        found.append((f"bybit cancel_all {scope}", cancel, bybit, BYBIT_REPLIES))
    for scope in (Scope("spot", None, ("ordinary",)), Scope("account", None, ("spread",))):
        cancel = flow_of(OKX_VENUE.cancel_all, scope, None)
        found.append((f"okx cancel_all {scope}", cancel, okx, OKX_REPLIES))
    for scope in (
        Scope("spot"),
        Scope("usdt", "BTC_USDT", ("ordinary",)),
        Scope("usdt", None, ("trail",)),
    ):
        cancel = flow_of(GATE.cancel_all, scope, None)
        found.append((f"gate cancel_all {scope}", cancel, gate, GATE_REPLIES))
    switch = flow_of(OKX_VENUE.switch, Scope("account"), 60_000)
    times = kind(int, type(None))
    return [
        *found,
        (
            "bybit open_orders spot",
            flow_of(BYBIT.open_orders, Scope("spot")),
            listing(lambda said: said["result"]["list"], "orderId"),
            BYBIT_REPLIES,
        ),
        (
            "okx open_orders spot",
            flow_of(OKX_VENUE.open_orders, Scope("spot", None, ("ordinary",))),
            listing(lambda said: said["data"], "ordId"),
            OKX_REPLIES,
        ),
        (
            "gate open_orders options",
            flow_of(GATE.open_orders, Scope("options")),
            listing(still_open, "id"),
            GATE_REPLIES,
        ),
        ("okx switch", switch, times, OKX_REPLIES),
        ("gate switch", flow_of(GATE.switch, Scope("spot"), 60_000), times, GATE_REPLIES),
    ]


def still_open(said: Any) -> list[Any]:
    """Rows of a listing that do not say that they have ended."""
    return [row for row in said if row.get("status") not in ("finished", "closed", "cancelled")]


def flow_of(make: Callable[..., Flow[Any]], *args: Any) -> Callable[[], Flow[Any]]:
    """A flow, made anew each time."""
    return lambda: make(*args)
