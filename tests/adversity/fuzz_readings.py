"""A second reading of replies: what is an acknowledgement, a listing, a message, by the documents.

It goes by the standard library's parser and the words of each venue's documents, and knows nothing
of how the package reads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence  # NamedTuples
from contextlib import suppress
from importlib import import_module
from itertools import chain
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["masscancel"]):
    from masscancel import Ack, Credentials, OpenOrder
    from masscancel.calls import Answered, Call, Reply, Stamp

NOW: Final = 1_700_000_000_000
STAMP: Final = Stamp(NOW, skew_ms=1_000, nonce=NOW)
#: AscendEX lets a timestamp in that is off by so much; with its own id, an Ack may be, too.
WINDOW_MS: Final = 30_000
ID: Final = "0123456789abcdef0123456789abcdef"
CREDENTIALS: Final = Credentials("key", "c2VjcmV0")


class Asked(NamedTuple):
    """A call, and the reply that was taken for its answer."""

    call: Call[Any]
    reply: Reply

    @property
    def json(self) -> Any:
        """The reply's body by another parser, which is no stricter; ``...`` if it is too deep."""
        with suppress(ValueError):
            try:
                return json.loads(self.reply.body.decode(errors="replace"), strict=False)
            except RecursionError:
                return ...
        return None


# --- what is an acknowledgement, by each venue's documents ----------------------------------------


def fields(*parts: Any) -> Callable[[str], set[Any]]:
    """What the parts of a reply say under a name, as far as they are objects."""
    objects = [part for part in parts if isinstance(part, dict)]
    return lambda name: {str(part[name]) for part in objects if part.get(name) is not None}


def ascendex_acknowledges(said: Any, category: str, symbol: str) -> bool:
    """Code 0, no error anywhere, and nothing that names another request."""
    if not isinstance(said, dict) or type(said.get("code")) is not int or said["code"] != 0:
        return False
    terse = category == "futures"
    data = said.get("data", {} if terse else None)
    if not isinstance(data, dict):
        return False
    infos = said.get("info"), data.get("info")
    top, info = fields(said, data), fields(*infos)
    if any(part.get("code") or part.get("reason") for part in infos if isinstance(part, dict)):
        return False
    if "data" in said and data.get("action") != "cancel-all" and said.get("action") is None:
        return False
    missing: set[Any] = set() if terse else {None}
    allowed_ms = WINDOW_MS if ID in info("id") else STAMP.skew_ms
    return (
        (top("status") or missing) <= {"Ack"}
        and top("action") <= {"cancel-all"}
        and (top("ac") or missing) <= {category.upper()}
        and (info("symbol") or missing) <= {symbol}
        and info("id") <= {"", ID}
        and all(int(time) >= NOW - allowed_ms for time in info("timestamp"))
        and (terse or bool(info("timestamp")))
    )


def ascendex(category: str, symbol: str) -> Callable[[Any, Sequence[Asked]], bool]:
    """One reply, HTTP 200, that acknowledges."""

    def right(ack: Any, asked: Sequence[Asked]) -> bool:
        (only,) = asked
        return (
            isinstance(ack, Ack)
            and (ack.account_category, ack.symbol) == (category, symbol)
            and ack.raw == only.reply.body
            and only.reply.status == 200
            and (only.json is ... or ascendex_acknowledges(only.json, category, symbol))
        )

    return right


def binance_cancelled(asked: Asked) -> bool:
    """Each order named is of the symbol and over; futures say 200; or there was none (-2011)."""
    said, status = asked.json, asked.reply.status
    symbol = parse_qs(asked.call.sign(asked.call, CREDENTIALS, STAMP).target)["symbol"][0]
    if isinstance(said, dict):
        if "/fapi/" in asked.call.path and status == 200 and str(said.get("code")) == "200":
            return True
        return status in (200, 400) and str(said.get("code")) == "-2011"
    if "/fapi/" in asked.call.path or status != 200 or not isinstance(said, list):
        return said is ...
    reports = [*said, *chain.from_iterable(row.get("orderReports") or [] for row in said)]
    live = {"NEW", "PENDING_NEW", "PARTIALLY_FILLED"}
    return all(row["symbol"] == symbol and row.get("status") not in live for row in reports)


def binance(ack: Any, asked: Sequence[Asked]) -> bool:
    """Every cancel was answered by one."""
    return isinstance(ack, Ack) and all(
        binance_cancelled(each) for each in asked if each.call.cancels
    )


def kraken_spot(ack: Any, asked: Sequence[Asked]) -> bool:
    """Each cancel: a count, or an order that was gone; by id, never more than was asked for."""

    def cancelled(each: Asked) -> bool:
        said = each.json
        if said is ...:
            return True
        faults = [text.replace(": ", ":") for text in said["error"] if text[:1] != "W"]
        by_id = each.call.path != "/0/private/CancelAll"
        gone = ("EOrder:Unknown order", "EOrder:Cancel pending")
        if faults:
            return by_id and all(text.startswith(gone) for text in faults)
        return type(said["result"]["count"]) is int and said["result"]["count"] >= 0

    acting = [each for each in asked if each.call.cancels]
    return isinstance(ack, Ack) and all(e.reply.status == 200 and cancelled(e) for e in acting)


def kraken_futures(symbol: str | None) -> Callable[[Any, Sequence[Asked]], bool]:
    """Success, a status that the page names, and no other scope."""

    def right(ack: Any, asked: Sequence[Asked]) -> bool:
        said = asked[0].json
        if said is ...:
            return True
        about = said["cancelStatus"]
        return (
            isinstance(ack, Ack)
            and asked[0].reply.status == 200
            and said["result"] == "success"
            and about["status"] in ("cancelled", "noOrdersToCancel")
            and (about.get("cancelOnly") or symbol or "all").upper() == (symbol or "all").upper()
        )

    return right


# --- what is a listing ----------------------------------------------------------------------------


def listing(
    rows: Callable[[Any], Any], id_of: str, id_of_algo: str = ""
) -> Callable[[Any, Sequence[Asked]], bool]:
    """Each reply's orders are all there, and nothing that no reply has."""

    def right(orders: Any, asked: Sequence[Asked]) -> bool:
        if any(each.json is ... for each in asked):
            return True
        listed = [
            f"algo:{row[id_of_algo]}"
            if id_of_algo and "Algo" in each.call.path
            else str(row[id_of])
            for each in asked
            for row in rows(each.json)
        ]
        return (
            all(each.reply.status == 200 for each in asked)
            and all(isinstance(order, OpenOrder) for order in orders)
            and {order.order_id for order in orders} == set(listed)
        )

    return right


def kraken_listing(orders: Any, asked: Sequence[Asked]) -> bool:
    """The same where rows are keyed by their id."""
    said = asked[0].json
    return said is ... or [order.order_id for order in orders] == [*said["result"]["open"]]


def kind(*kinds: type) -> Callable[[Any, Sequence[Asked]], bool]:
    """Nothing but values of these types."""
    return lambda value, _: isinstance(value, kinds)


# --- the stream -----------------------------------------------------------------------------------


def stream_is_right(events: Any, asked: Sequence[Asked]) -> bool:
    """One event at most; an Ack only of a message that says so and has no error in it."""
    answers = [event for event in events if isinstance(event, Answered)]
    acks = [each.result for each in answers if isinstance(each.result, Ack)]
    if not acks or asked[0].json is ...:
        return len(events) <= 1
    (ack,) = acks
    said = asked[0].json
    info = said.get("info") or {}
    futures = str(said.get("ac")).lower() == "futures" and said.get("code") == 0
    return (
        (said.get("m") or said.get("op")) == "order"
        and said["action"].lower() == "cancel-all"
        and (said.get("status") == "Ack" or futures)
        and not said.get("code")
        and not info.get("code")
        and said.get("status") != "Err"
        and ack.raw == asked[0].reply.body
        and ack.request_id == (info.get("id") or str(said.get("id") or ""))
    )
