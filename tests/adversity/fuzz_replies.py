"""`make fuzz`: whatever a venue replies, it is never more than it says.

A coverage-guided run (atheris, libFuzzer) over every venue's flows and AscendEX's stream: replies
are made from the documents' samples, changed as JSON and as bytes, and handed to the flow's calls.
What comes out must be a value or an error of ours. An Ack must be one by a second reading of the
same bytes, by the standard library's parser and the words of each venue's documents; a listing
must hold every order that the reply holds; a message of the stream is an event or not understood.

Stops after `--seconds`. Exits 1 if anything else came out, or if handling the same replies over
again keeps memory. Needs the dependency group `fuzz`, which is for Linux.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence  # noqa: TC003  # NamedTuples
from contextlib import suppress
from importlib import import_module
from itertools import chain, repeat
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from figures import show_progress

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["masscancel"]):
    from masscancel import Ack, AscendEX, Credentials, MassCancelError, OpenOrder, ProtocolError
    from masscancel.venue import Answered, Call, Reply, Stamp
    from masscancel.venues import Binance, BitMEX, Kraken
    from masscancel.venues.ascendex.stream import AscendEXStream

DATA: Final = Path(__file__).parent.parent / "data"
NOW: Final = 1_700_000_000_000
STAMP: Final = Stamp(NOW, skew_ms=1_000, nonce=NOW)
#: AscendEX lets a timestamp in that is off by so much; with its own id, an Ack may be, too.
WINDOW_MS: Final = 30_000
ID: Final = "0123456789abcdef0123456789abcdef"
CREDENTIALS: Final = Credentials("key", "c2VjcmV0")
STATUSES: Final = (200, 200, 200, 200, 400, 401, 403, 404, 418, 429, 500, 502, 503, 201, 302, 408)
SEPARATOR: Final = b"\0\xff\0"
HOST: Final = "https://venue.test"
#: What may be kept of replies that have been handled before, in KiB.
KEPT_KIB: Final = 64

ASCENDEX: Final = AscendEX(rest_url=HOST, stream_url="wss://venue.test", account_group=6)
BINANCE: Final = Binance(spot_url=HOST, usdm_url=HOST)
BITMEX: Final = BitMEX(rest_url=HOST)
KRAKEN: Final = Kraken(spot_url=HOST, futures_url="https://futures.test")
STREAM: Final = AscendEXStream(url="wss://x", api_path="stream", clock_origin=HOST)


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


class Subject(NamedTuple):
    """Something that reads replies: a flow, what it may come to, and replies to begin with."""

    name: str
    flow: Callable[[], Any]
    right: Callable[[Any, Sequence[Asked]], bool]
    samples: Sequence[bytes]


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
    return isinstance(ack, Ack) and all(binance_cancelled(each) for each in asked if each.call.acts)


def bitmex(symbol: str | None) -> Callable[[Any, Sequence[Asked]], bool]:
    """HTTP 200 and a list of orders; if a symbol was asked for, none of another is cancelled."""

    def fits(row: Any) -> bool:
        named = row.get("symbol")
        return bool(row["orderID"]) and (
            symbol in (None, named) or (not named and row.get("ordStatus") != "Canceled")
        )

    def right(ack: Any, asked: Sequence[Asked]) -> bool:
        rows = asked[0].json
        return (
            isinstance(ack, Ack)
            and asked[0].reply.status == 200
            and (rows is ... or (isinstance(rows, list) and all(map(fits, rows))))
        )

    return right


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

    acting = [each for each in asked if each.call.acts]
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


def parse_message() -> Generator[Sequence[Call[Any]], Sequence[Any], Sequence[Any]]:
    """The stream's reader as a flow of one call, which every HTTP status suits."""

    def decode(reply: Reply, _: Stamp) -> Any:
        return STREAM.parse(reply.body)

    unsigned: Any = None
    call = Call(method="WS", origin=HOST, path="", sign=unsigned, decode=decode, acts=False)
    (events,) = yield [call]
    if not isinstance(events, MassCancelError):
        return list(events)
    assert isinstance(events, ProtocolError), f"the reader raised {events!r}"
    raise events


# --- the subjects ---------------------------------------------------------------------------------


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
                lambda c=category, s=symbol: ASCENDEX.cancel_all(c, s, ID),  # type: ignore[misc]
                ascendex(category, symbol or ""),
                [acknowledgement(category, symbol or ""), *replies],
            )
        )
    order = ASCENDEX_ORDER
    found += [
        Subject(
            "ascendex open_orders",
            lambda: ASCENDEX.open_orders("cash", None),
            listing(lambda said: said["data"], "orderId"),
            replies,
        ),
        Subject("ascendex states", lambda: ASCENDEX.order_states("cash", [order]), DICT, replies),
        Subject("ascendex prepare", ASCENDEX.prepare, kind(AscendEX), replies),
    ]
    replies = samples("binance/[!cv]*")
    for category, symbol in (("spot", "BTCUSDT"), ("spot", None), ("usdm", "BTCUSDT")):
        found.append(
            Subject(
                f"binance cancel_all {category} {symbol}",
                lambda c=category, s=symbol: BINANCE.cancel_all(c, s, None),  # type: ignore[misc]
                binance,
                replies,
            )
        )
    found += [
        Subject(
            "binance open_orders spot",
            lambda: BINANCE.open_orders("spot", None),
            listing(lambda said: said, "orderId"),
            replies,
        ),
        Subject(
            "binance open_orders usdm",
            lambda: BINANCE.open_orders("usdm", None),
            listing(lambda said: said, "orderId", "algoId"),
            replies,
        ),
        Subject("binance states", lambda: BINANCE.order_states("usdm", [order]), DICT, replies),
        Subject(
            "binance switch", lambda: BINANCE.switch("usdm", "BTCUSDT", 100_000), TIME, replies
        ),
    ]
    replies = samples("bitmex/[!cv]*", "bitmex/cancel*")
    found += [
        Subject(
            f"bitmex cancel_all {symbol}",
            lambda s=symbol: BITMEX.cancel_all("account", s, None),  # type: ignore[misc]
            bitmex(symbol),
            replies,
        )
        for symbol in (None, "XBTUSD")
    ]
    found += [
        Subject(
            "bitmex open_orders",
            lambda: BITMEX.open_orders("account", None),
            listing(lambda said: said, "orderID"),
            replies,
        ),
        Subject("bitmex states", lambda: BITMEX.order_states("account", [order]), DICT, replies),
        Subject("bitmex switch", lambda: BITMEX.switch("account", None, 60_000), TIME, replies),
    ]
    replies = samples("kraken/spot_*")
    found += [
        Subject(
            f"kraken cancel_all spot {symbol}",
            lambda s=symbol: KRAKEN.cancel_all("spot", s, None),  # type: ignore[misc]
            kraken_spot,
            replies,
        )
        for symbol in (None, "XBTUSD")
    ]
    found += [
        Subject(
            "kraken open_orders spot",
            lambda: KRAKEN.open_orders("spot", None),
            kraken_listing,
            replies,
        ),
        Subject("kraken states spot", lambda: KRAKEN.order_states("spot", [order]), DICT, replies),
        Subject("kraken switch spot", lambda: KRAKEN.switch("spot", None, 60_000), TIME, replies),
    ]
    replies = [*samples("kraken/futures_*"), KRAKEN_STATUSES]
    found += [
        Subject(
            f"kraken cancel_all futures {symbol}",
            lambda s=symbol: KRAKEN.cancel_all("futures", s, None),  # type: ignore[misc]
            kraken_futures(symbol),
            replies,
        )
        for symbol in (None, "PF_XBTUSD")
    ]
    found += [
        Subject(
            "kraken open_orders futures",
            lambda: KRAKEN.open_orders("futures", None),
            listing(lambda said: said["openOrders"], "order_id"),
            replies,
        ),
        Subject(
            "kraken states futures", lambda: KRAKEN.order_states("futures", [order]), DICT, replies
        ),
        Subject(
            "kraken switch futures", lambda: KRAKEN.switch("futures", None, 60_000), TIME, replies
        ),
    ]
    return found


DICT: Final = kind(dict)
TIME: Final = kind(int, type(None))
(ASCENDEX_ORDER,) = next(ASCENDEX.open_orders("cash", None))[0].decode(
    Reply(200, {}, samples("ascendex/open_orders_cash")[0]), STAMP
)
SUBJECTS: Final = subjects()


# --- one input ------------------------------------------------------------------------------------


def unpack(data: bytes) -> tuple[Subject, int, list[bytes]]:
    """Bytes as libFuzzer has them: the subject, the HTTP status, then bodies."""
    head, bodies = data[:2].ljust(2, b"\0"), data[2:].split(SEPARATOR)[:4]
    return SUBJECTS[head[0] % len(SUBJECTS)], STATUSES[head[1] % len(STATUSES)], bodies


def play(subject: Subject, status: int, bodies: Sequence[bytes]) -> tuple[Any, list[Asked]]:
    """Take the flow to its end: each call gets the next body, and the last one again and again.

    Only the first reply has the status: others are fine.
    """
    statuses = chain([status], repeat(200))
    left = chain(bodies, repeat(bodies[-1]))
    asked: list[Asked] = []

    def answer(call: Call[Any]) -> Any:
        reply = Reply(next(statuses), {"Retry-After": "1"}, next(left))
        asked.append(Asked(call, reply))
        try:
            return call.decode(reply, STAMP)
        except MassCancelError as error:
            return error

    flow = subject.flow()
    try:
        calls = next(flow)
        while True:
            calls = flow.send([answer(call) for call in calls])
    except StopIteration as stop:
        return stop.value, asked
    except MassCancelError as error:
        return error, asked


class Report:
    """What has come of it so far."""

    def __init__(self, seconds: float, corpus: str, *, as_json: bool) -> None:
        self.corpus = corpus
        self.as_json = as_json
        self.began = time.monotonic()
        self.ends = self.began + seconds
        self.inputs = 0
        self.values: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.wrong: dict[str, str] = {}
        self.recent: list[bytes] = []
        self.rss = resident()

    def try_one(self, data: bytes) -> None:
        """Play an input and judge what comes out; when the time is up, report and end."""
        if time.monotonic() > self.ends:
            self.finish()
        self.inputs += 1
        if self.inputs % 64 == 0:
            self.recent = [*self.recent[-511:], data]
        if self.inputs % 8192 == 0:
            left = max(0.0, self.ends - time.monotonic())
            show_progress(f"{left:.0f} s left: {self.inputs:,} inputs, {len(self.wrong)} wrong")
        if self.inputs == 10_000:
            self.rss = resident()
        subject, status, bodies = unpack(data)
        try:
            value, asked = play(subject, status, bodies)
            if isinstance(value, MassCancelError):
                self.errors[type(value).__name__] += 1
                assert str(value).isprintable()
                return
            self.values[subject.name] += 1
            assert subject.right(value, asked), f"{subject.name} made {value!r} of it"
        except Exception as problem:  # noqa: BLE001  # this is what is looked for
            where = traceback.extract_tb(problem.__traceback__)[-1]
            key = f"{subject.name}: {type(problem).__name__} at {where.name}:{where.lineno}"
            self.wrong.setdefault(key, f"{problem!r:.300} of HTTP {status} {bodies!r:.600}")

    def finish(self) -> None:
        """Report, and leave."""
        self.ends = float("inf")
        kept = self.kept_kib()
        report = {
            "inputs": self.inputs,
            "inputs_per_second": round(self.inputs / (time.monotonic() - self.began)),
            "subjects": len(SUBJECTS),
            "values": sum(self.values.values()),
            "values_of": dict(self.values.most_common()),
            "never_a_value": [each.name for each in SUBJECTS if each.name not in self.values],
            "errors": dict(self.errors.most_common()),
            "wrong": self.wrong,
            "kept_kib": kept,
            "rss_mib": [self.rss, resident()],
        }
        said = [f"{len(self.wrong)} kinds of wrong values or errors"] if self.wrong else []
        said += [f"{kept} KiB kept"] if kept > KEPT_KIB else []
        show_progress()
        if self.as_json:
            print(json.dumps(report, indent=1), flush=True)  # noqa: T201  # it is a script
        else:
            show(report)
            print(  # noqa: T201  # likewise
                f"WRONG: {', '.join(said)}"
                if said
                else "All right: nothing was more than it says.",
                flush=True,
            )
        shutil.rmtree(self.corpus)
        os._exit(1 if said else 0)

    def kept_kib(self) -> float:
        """What handling the latest inputs a second and a third time keeps in memory."""
        if not self.recent:
            return 0.0

        def again() -> None:
            for data in self.recent:
                with suppress(Exception):
                    play(*unpack(data))

            gc.collect()

        tracemalloc.start()
        again()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            again()
        return round((tracemalloc.get_traced_memory()[0] - before) / 1024, 1)


def show(report: dict[str, Any]) -> None:
    """For people: a count a line, then what was wrong."""
    lines = [
        "{inputs:,} inputs for {subjects} subjects, {inputs_per_second:,} a second".format(
            **report
        ),
        f"{report['values']:,} became a value:",
        *(f"  {count:>9,}  {name}" for name, count in report["values_of"].items()),
        *(f"      never  {name}" for name in report["never_a_value"]),
        "the others an error of ours:",
        *(f"  {count:>9,}  {name}" for name, count in report["errors"].items()),
        f"kept {report['kept_kib']} KiB; resident MiB, from then to now: {report['rss_mib']}",
        *(f"{key}\n  {what}" for key, what in report["wrong"].items()),
    ]
    print("\n".join(lines))  # noqa: T201  # it is a script


def resident() -> int:
    """This process's resident memory, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


# --- new inputs -----------------------------------------------------------------------------------

ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 0.5, 2**64, 10**400, NOW, [], {}),
    *("", "0", ID, "1e999999", "NaN", "\x1b[2J", "\ud800"),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: what holds it, and the key or index."""
    if isinstance(value, dict | list):
        for key in [*value] if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


class Pool:
    """What a change may put in: names and values of a subject's samples, and what is odd."""

    def __init__(self, subject: Subject) -> None:
        self.of_name: defaultdict[str, list[Any]] = defaultdict(list)
        self.values: list[Any] = [*ODD]
        for body in subject.samples:
            for holder, key in places(json.loads(body)):
                if isinstance(key, str):
                    self.of_name[key].append(holder[key])
                if not isinstance(holder[key], dict | list):
                    self.values.append(holder[key])
        self.names = sorted(self.of_name)

    def value(self, name: Any, old: Any, rng: Random) -> Any:
        """A value for a field: one that it has elsewhere, one near it, or any."""
        how = rng.randrange(4)
        if how == 0 and type(old) is int:
            return rng.choice((-old, old + 1, old - 1, old + rng.randint(-2_000, 2_000)))
        if how < 2 and self.of_name.get(name):
            return copy.deepcopy(rng.choice(self.of_name[name]))
        return copy.deepcopy(rng.choice(self.values))


POOLS: Final = [Pool(subject) for subject in SUBJECTS]


def changed(body: bytes, pool: Pool, rng: Random) -> bytes:
    """A body with a field replaced, taken out, added or doubled, if it is JSON."""
    value: Any = None
    with suppress(ValueError, RecursionError):
        value = json.loads(body)
    for _ in range(rng.randint(1, 3)):
        found = [*places(value)]
        if not found:
            value = copy.deepcopy(rng.choice(pool.values))
            continue
        holder, key = rng.choice(found)
        what = rng.randrange(6)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif what == 1:
            name = rng.choice(pool.names)
            holder[name] = pool.value(name, None, rng)
        else:
            holder[key] = pool.value(key, holder[key], rng)
    return json.dumps(value).encode()


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """An input made of another, as bytes or as JSON; or a new one, made of a sample or two."""
    rng = Random(seed)
    how = rng.random()
    if how < 0.2:
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated
    head, bodies = bytearray(data[:2].ljust(2, b"\0")), data[2:].split(SEPARATOR)[:3]
    if how < 0.7:
        head = bytearray((rng.randrange(len(SUBJECTS)), rng.randrange(4 if how < 0.6 else 16)))
        bodies = rng.choices(SUBJECTS[head[0]].samples, k=rng.randint(1, 2))
    elif how < 0.75:
        bodies.insert(0, rng.choice(SUBJECTS[head[0] % len(SUBJECTS)].samples))
    at = rng.randrange(len(bodies))
    bodies[at] = changed(bodies[at], POOLS[head[0] % len(SUBJECTS)], rng)
    return (bytes(head) + SEPARATOR.join(bodies))[:max_size]


def main() -> None:
    """Begin with the samples, and go on until the time is up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=180, help="how long (default: 180)")
    parser.add_argument("--seed", type=int, default=1, help="of the random changes (default: 1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    sys.set_int_max_str_digits(0)
    corpus = tempfile.mkdtemp()
    for number, subject in enumerate(SUBJECTS):
        for index, body in enumerate(subject.samples):
            Path(corpus, f"{number}-{index}").write_bytes(bytes([number, 0]) + body)
    report = Report(options.seconds, corpus, as_json=options.json)
    flags = [f"-seed={options.seed}", "-max_len=65536", "-verbosity=0", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *flags, corpus], report.try_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
