"""What is fuzzed: every venue's flows, and AscendEX's stream; each with replies to begin with."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence  # NamedTuples
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["masscancel"]):
    from fuzz_phrased import phrased
    from fuzz_readings import (
        ID,
        NOW,
        STAMP,
        Asked,
        ascendex,
        binance,
        kind,
        kraken_futures,
        kraken_listing,
        kraken_spot,
        listing,
        stream_is_right,
    )
    from fuzz_unified import unified
    from masscancel import AscendEX, MassCancelError, OpenOrder, ProtocolError
    from masscancel.calls import Call, Reply, Scope, Stamp
    from masscancel.venues import Binance, Kraken
    from masscancel.venues.ascendex.stream import AscendEXStream

DATA: Final = Path(__file__).parent.parent / "data"
HOST: Final = "https://venue.test"
ASCENDEX: Final = AscendEX(rest_url=HOST, stream_url="wss://venue.test", account_group=6)
BINANCE: Final = Binance(spot_url=HOST, usdm_url=HOST)
KRAKEN: Final = Kraken(spot_url=HOST, futures_url="https://futures.test")
STREAM: Final = AscendEXStream(url="wss://x", api_path="stream", clock_origin=HOST)


class Subject(NamedTuple):
    """Something that reads replies: a flow, what it may come to, and replies to begin with."""

    name: str
    flow: Callable[[], Any]
    right: Callable[[Any, Sequence[Asked]], bool]
    samples: Sequence[bytes]


def parse_message() -> Generator[Sequence[Call[Any]], Sequence[Any], Sequence[Any]]:
    """The stream's reader as a flow of one call, which every HTTP status suits."""

    def decode(reply: Reply, _: Stamp) -> Any:
        return STREAM.parse(reply.body)

    unsigned: Any = None
    call = Call(method="WS", origin=HOST, path="", sign=unsigned, decode=decode, cancels=False)
    (events,) = yield [call]
    if not isinstance(events, MassCancelError):
        return list(events)
    assert isinstance(events, ProtocolError), f"the reader raised {events!r}"
    raise events


def samples(*names: str) -> list[bytes]:
    """The documents' own replies."""
    return [path.read_bytes() for name in names for path in sorted(DATA.glob(f"{name}.json"))]


def acknowledgement(category: str, symbol: str) -> bytes:
    """A good Ack of AscendEX."""
    info = {"id": ID, "orderType": "NULL_VAL", "symbol": symbol, "timestamp": NOW}
    data = {"ac": category.upper(), "accountId": "a", "action": "cancel-all", "status": "Ack"}
    return json.dumps({"code": 0, "data": {**data, "info": info}}).encode()


KRAKEN_STATUSES: Final = (
    b'{"result":"success","serverTime":"2023-11-14T22:13:20.000Z","orders":['
    b'{"order":{"orderId":"A","symbol":"PF_XBTUSD"},"status":"CANCELLED","updateReason":null}]}'
)
MESSAGES: Final = [
    b'{"m":"order","ac":"CASH","action":"cancel-all","status":"Ack","info":{"id":"a1","symbol":""}}',
    b'{"m":"order","action":"cancel-all","ac":"FUTURES","code":0,"id":"f1","info":{"symbol":""}}',
    b'{"m":"order","ac":"CASH","action":"cancel-all","status":"Err","info":{"code":100008}}',
    b'{"m":"order","ac":"CASH","data":{"s":"B/U","sd":"Buy","p":"7","orderId":"a1","st":"New"}}',
    b'{"m":"futures-order","s":"BTC-PERP","sd":"Sell","p":"7","q":"1","orderId":"a1","st":"New"}',
    b'{"m":"error","id":"login:","code":100005,"reason":"X","info":"no"}',
    b'{"m":"auth","id":"login:","code":200006,"err":"no"}',
    b'{"m":"sub","id":"sub:cash","ch":"order:cash","code":0}',
    b'{"m":"ping","hp":3}',
    b'{"op":"connected","type":"unauth"}',
    b'{"m":"disconnected","code":100005,"reason":"X"}',
]
ASCENDEX_SCOPES: Final = (
    ("cash", None),
    ("cash", "BTC/USDT"),
    ("futures", None),
    ("futures", "BTC-PERP"),
)


def subjects() -> list[Subject]:
    """Everything that is tried."""
    found = [Subject("ascendex stream", parse_message, stream_is_right, MESSAGES)]
    replies = samples("ascendex/*")
    for category, symbol in ASCENDEX_SCOPES:
        found.append(
            Subject(
                f"ascendex cancel_all {category} {symbol}",
                lambda c=category, s=symbol: ASCENDEX.cancel_all(Scope(c, s), ID),  # type: ignore[misc]
                ascendex(category, symbol or ""),
                [acknowledgement(category, symbol or ""), *replies],
            )
        )
    order = ASCENDEX_ORDER
    found += [
        Subject(
            "ascendex open_orders",
            lambda: ASCENDEX.open_orders(Scope("cash")),
            listing(lambda said: said["data"], "orderId"),
            replies,
        ),
        Subject("ascendex states", lambda: ASCENDEX.order_states("cash", [order]), DICT, replies),
        Subject("ascendex prepare", lambda: ASCENDEX.prepare(["cash"]), kind(AscendEX), replies),
    ]
    own = msgspec.structs.replace(order, order_id="1", symbol="LTCBTC")
    replies = samples("binance/[!cv]*")
    for category, symbol in (("spot", "BTCUSDT"), ("spot", None), ("usdm", "BTCUSDT")):
        found.append(
            Subject(
                f"binance cancel_all {category} {symbol}",
                lambda c=category, s=symbol: BINANCE.cancel_all(Scope(c, s), None),  # type: ignore[misc]
                binance,
                replies,
            )
        )
    found += [
        Subject(
            "binance open_orders spot",
            lambda: BINANCE.open_orders(Scope("spot")),
            listing(lambda said: said, "orderId"),
            replies,
        ),
        Subject(
            "binance open_orders usdm",
            lambda: BINANCE.open_orders(Scope("usdm")),
            listing(lambda said: said, "orderId", "algoId"),
            replies,
        ),
        Subject("binance states", lambda: BINANCE.order_states("spot", [own]), DICT, replies),
        Subject(
            "binance switch",
            lambda: BINANCE.switch(Scope("usdm", "BTCUSDT"), 100_000),
            TIME,
            replies,
        ),
    ]
    replies = samples("kraken/spot_*")
    found += [
        Subject(
            f"kraken cancel_all spot {symbol}",
            lambda s=symbol: KRAKEN.cancel_all(Scope("spot", s), None),  # type: ignore[misc]
            kraken_spot,
            replies,
        )
        for symbol in (None, "XBTUSD")
    ]
    found += [
        Subject(
            "kraken open_orders spot",
            lambda: KRAKEN.open_orders(Scope("spot")),
            kraken_listing,
            replies,
        ),
        Subject("kraken states spot", lambda: KRAKEN.order_states("spot", [order]), DICT, replies),
        Subject("kraken switch spot", lambda: KRAKEN.switch(Scope("spot"), 60_000), TIME, replies),
    ]
    replies = [*samples("kraken/futures_*"), KRAKEN_STATUSES]
    found += [
        Subject(
            f"kraken cancel_all futures {symbol}",
            lambda s=symbol: KRAKEN.cancel_all(Scope("futures", s), None),  # type: ignore[misc]
            kraken_futures(symbol),
            replies,
        )
        for symbol in (None, "PF_XBTUSD")
    ]
    found += [
        Subject(
            "kraken open_orders futures",
            lambda: KRAKEN.open_orders(Scope("futures")),
            listing(lambda said: said["openOrders"], "order_id"),
            replies,
        ),
        Subject(
            "kraken states futures", lambda: KRAKEN.order_states("futures", [order]), DICT, replies
        ),
        Subject(
            "kraken switch futures", lambda: KRAKEN.switch(Scope("futures"), 60_000), TIME, replies
        ),
    ]
    found += [Subject(*each) for each in (*unified(), *phrased())]
    return found


DICT: Final = kind(dict)
TIME: Final = kind(int, type(None))
_LIST_ORDERS: Any = next(ASCENDEX.open_orders(Scope("cash")))[0]
ASCENDEX_ORDER: OpenOrder
(ASCENDEX_ORDER,) = _LIST_ORDERS.decode(
    Reply(200, {}, samples("ascendex/open_orders_cash")[0]), STAMP
)
SUBJECTS: Final = subjects()
