"""`python tests/adversity/crowds.py`: how late a time limit is in a crowd, and what holds it up.

The scenes: a thousand targets that hang, all at once; five thousand, of which 64 are under way at a
time; and a call that hangs beside ten accounts with 8,000 open orders each, which are listed and
confirmed without end. The other ends are processes of their own, which answer what was made before.

Each call that hangs is measured beside a bare `asyncio.timeout_at` of the same time in the same
loop. What is beyond that is ours; what makes the bare one late is what the loop was busy with, and
the machine: a process that does nothing but look at the clock says how much of it, in the same
milliseconds. `--profile` has a thread look where the loop is from the moment that the time is up,
and prints what was found there most often; it makes all else slower.

Prints a table, or JSON with `--json` or where there is no rich. Judges nothing: Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import AsyncExitStack, contextmanager, suppress
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Self

from figures import Ticker, bare, show_progress
from masscancel import Client, Credentials, MassCancelError, SessionPool, Target, cancel_many
from masscancel.venues import Binance, Kraken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from masscancel.venues.base import Venue

ORDERS: Final = 8_000
SECRET: Final = "c2VjcmV0LW9mLXRoZS1jcm93ZA=="
#: How long the control's clock may be late before it says so, in ms.
NOTED: Final = 1.0


# --- the other ends -------------------------------------------------------------------------------


def binance_rows() -> bytes:
    """A listing of spot."""
    row = {
        "symbol": "BTCUSDT",
        "orderListId": -1,
        "price": "64000.10000000",
        "origQty": "0.50000000",
        "executedQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000",
        "status": "NEW",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "side": "BUY",
        "stopPrice": "0.0",
        "icebergQty": "0.0",
        "time": 1_795_000_000_000,
        "updateTime": 1_795_000_000_000,
        "isWorking": True,
        "origQuoteOrderQty": "0.000000",
        "workingTime": 1_795_000_000_000,
        "selfTradePreventionMode": "NONE",
    }
    orders = [{"orderId": n, "clientOrderId": f"x-{n}", **row} for n in range(ORDERS)]
    return json.dumps(orders, separators=(",", ":")).encode()


def kraken_rows() -> bytes:
    """A listing of spot."""
    descr = {
        "pair": "XBTUSD",
        "type": "buy",
        "ordertype": "limit",
        "price": "64000.1",
        "price2": "0",
        "leverage": "none",
        "order": "buy 0.50000000 XBTUSD @ limit 64000.1",
        "close": "",
    }
    row = {
        "refid": None,
        "userref": 0,
        "status": "open",
        "opentm": 1_795_000_000.1,
        "starttm": 0,
        "expiretm": 0,
        "descr": descr,
        "vol": "0.50000000",
        "vol_exec": "0.00000000",
        "cost": "0.00000",
        "fee": "0.00000",
        "price": "0.00000",
        "stopprice": "0.00000",
        "limitprice": "0.00000",
        "misc": "",
        "oflags": "fciq",
    }
    orders = {f"O{n:05}-ABCDE-FGHIJK": row for n in range(ORDERS)}
    return json.dumps({"error": [], "result": {"open": orders}}, separators=(",", ":")).encode()


def serve() -> None:
    """Listen on three ports, which are printed: one that hangs, Binance's and Kraken's."""
    answers = {
        b"GET /api/v3/openOrders": binance_rows(),
        b"DELETE /api/v3/openOrders": b"[]",
        b"POST /0/private/OpenOrders": kraken_rows(),
        b"POST /0/private/CancelAll": b'{"error":[],"result":{"count":1}}',
        b"GET /0/public/AssetPairs": b'{"error":[],"result":{}}',
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0].strip()
                await reader.readexactly(int(length or 0))
                path = b" ".join(head.split(b"?")[0].split(b" ")[:2])
                now_ms = int(time.time() * 1000)
                clock = b'{"serverTime":%d}' % now_ms
                if b"/0/public/Time" in path:
                    clock = b'{"error":[],"result":{"unixtime":%d}}' % (now_ms // 1000)
                body = answers.get(path, clock)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
                await writer.drain()
        writer.close()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()

    async def run() -> None:
        servers = [
            await asyncio.start_server(each, "127.0.0.1", 0, backlog=8192)
            for each in (hang, answer, answer)
        ]
        print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)  # noqa: T201
        await asyncio.Event().wait()

    asyncio.run(run())


def watch_the_clock() -> None:
    """Print when, and by how many ms, a bare timer is late in a process that does nothing else."""
    while True:
        before = time.monotonic()
        time.sleep(0.001)
        now = time.monotonic()
        if (late := (now - before) * 1000 - 1) > NOTED:
            print(f"{now} {late}", flush=True)  # noqa: T201


class Control:
    """The control's readings, of the process above."""

    def __init__(self) -> None:
        self._readings: list[tuple[float, float]] = []

    def __enter__(self) -> Self:
        self._process = helper("--watch")
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now, late = line.split()
            self._readings.append((float(now), float(late)))

    def worst(self, since: float, until: float) -> float:
        """By how many ms it was late at worst, of what ended then or overlapped it."""
        return max(
            (late for now, late in self._readings if since <= now <= until + 0.05), default=0
        )


def helper(option: str) -> subprocess.Popen[str]:
    """Start this script as another process."""
    command = [sys.executable, __file__, option]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # our own


# --- the crowds -----------------------------------------------------------------------------------


class Profile:
    """Where the loop is after a time is up, and before what it limits has ended, by a thread."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        #: When the time is up; nothing is noted before, nor while it is not known.
        self.due = float("inf")
        self._loop_thread = threading.get_ident()
        self._over = threading.Event()

    def _look(self) -> None:
        while not self._over.wait(0.001):
            if time.monotonic() > self.due:
                frame = sys._current_frames().get(self._loop_thread)  # documented
                stack = traceback.extract_stack(frame, limit=7)
                calls = [
                    f"{call.filename.rpartition('/')[2]}:{call.lineno} {call.name}"
                    for call in reversed(stack)
                ]
                self.found[" < ".join(calls)] += 1

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look while the block runs."""
        self._over.clear()
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


PROFILE: Final = Profile()


class Collected:
    """How long the garbage collector held everything up, in ms."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = 0.0

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        """What gc.callbacks call."""
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.longest = max(self.longest, (time.perf_counter() - self._began) * 1000)


def client_of(venue: Venue, number: int, pool: SessionPool) -> Client[Any]:
    """A client whom no limit holds up: only work does."""
    names = {
        limit.name for category in venue.abilities for limit in venue.limits(venue.origin(category))
    }
    return Client(
        Credentials(f"a-key-of-the-crowd-{number}", SECRET),
        venue=venue,
        pool=pool,
        rates=dict.fromkeys(names, 1e9),
    )


async def timed(calling: Awaitable[Any], due: float, control: Control) -> dict[str, float]:
    """Await what ends at its time; by how many ms it and a bare time limit were late."""
    loop = asyncio.get_running_loop()
    beside = loop.create_task(bare(due))
    PROFILE.due = due
    with suppress(MassCancelError):
        await calling
    PROFILE.due, ended = float("inf"), loop.time()
    late, bare_late = (ended - due) * 1000, await beside
    await asyncio.sleep(0.05)  # the control's word takes a moment
    return {
        "late": late,
        "bare": bare_late,
        "beyond": late - bare_late,
        "machine": control.worst(due - 0.001, max(ended, due)),
    }


async def at_once(
    ports: list[int], control: Control, *, targets: int, concurrency: int
) -> list[dict[str, float]]:
    """Targets that hang, in one fan-out; several times."""
    loop = asyncio.get_running_loop()
    venue = Binance(spot_url=f"http://127.0.0.1:{ports[0]}", usdm_url="http://127.0.0.1:9")
    measured = []
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(SessionPool(warm=0))
        clients = [client_of(venue, number, pool) for number in range(10)]
        for client in clients:
            await stack.enter_async_context(client)
        chosen = [Target(clients[n % 10], "spot", f"S{n}USDT") for n in range(targets)]
        for _ in range(4):
            due = loop.time() + 4.0
            calling = cancel_many(chosen, timeout=4.0, concurrency=concurrency)
            measured.append(await timed(calling, due, control))
    return measured


async def beside_listings(
    ports: list[int], control: Control, *, kraken: bool, confirm: bool
) -> list[dict[str, float]]:
    """A call that hangs, beside ten accounts whose orders are listed, or confirmed, without end."""
    loop = asyncio.get_running_loop()
    hung = Binance(spot_url=f"http://127.0.0.1:{ports[0]}", usdm_url="http://127.0.0.1:9")
    venue: Venue = Binance(spot_url=f"http://127.0.0.1:{ports[1]}", usdm_url="http://127.0.0.1:9")
    if kraken:
        venue = Kraken(spot_url=f"http://127.0.0.1:{ports[2]}", futures_url="http://127.0.0.1:9")
    measured = []

    async def go_on(client: Client[Any]) -> None:
        while True:
            with suppress(MassCancelError):
                if confirm:
                    await client.cancel_all_and_confirm("spot", timeout=3.0)
                else:
                    await client.open_orders("spot", timeout=30.0)
            await asyncio.sleep(0)

    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(SessionPool(warm=0))
        waiting = await stack.enter_async_context(client_of(hung, 99, pool))
        busy = [client_of(venue, number, pool) for number in range(10)]
        for client in busy:
            await stack.enter_async_context(client)
        going = [loop.create_task(go_on(client)) for client in busy]
        await asyncio.sleep(1.0)
        for _ in range(10):
            due = loop.time() + 0.5
            calling = waiting.cancel_all("spot", "BTCUSDT", timeout=0.5)
            measured.append(await timed(calling, due, control))
        assert not any(task.done() for task in going)
        for task in going:
            task.cancel()
        await asyncio.wait(going)
    return measured


async def nothing(_ports: list[int], control: Control) -> list[dict[str, float]]:
    """No call at all: what this machine does to a bare time limit by itself."""
    loop = asyncio.get_running_loop()
    return [await timed(asyncio.sleep(0.5), loop.time() + 0.5, control) for _ in range(10)]


SCENES: Final[dict[str, Callable[[list[int], Control], Awaitable[list[dict[str, float]]]]]] = {
    "nothing": nothing,
    "1,000 targets at once": lambda p, c: at_once(p, c, targets=1_000, concurrency=1_000),
    "5,000 targets, 64 at a time": lambda p, c: at_once(p, c, targets=5_000, concurrency=64),
    "beside Binance listings": lambda p, c: beside_listings(p, c, kraken=False, confirm=False),
    "beside Binance proofs": lambda p, c: beside_listings(p, c, kraken=False, confirm=True),
    "beside Kraken listings": lambda p, c: beside_listings(p, c, kraken=True, confirm=False),
    "beside Kraken proofs": lambda p, c: beside_listings(p, c, kraken=True, confirm=True),
}


async def measure(wanted: str, *, profile: bool) -> list[dict[str, Any]]:
    """Every scene whose name has the word in it."""
    other = helper("--serve")
    assert other.stdout is not None
    rows = []
    try:
        ports = [int(port) for port in other.stdout.readline().split()]
        with Control() as control:
            for name, scene in SCENES.items():
                if wanted not in name:
                    continue
                show_progress(name)
                gc.collect()
                collected = Collected()
                PROFILE.found.clear()
                gc.callbacks.append(collected)
                async with AsyncExitStack() as stack:
                    ticker = await stack.enter_async_context(Ticker())
                    if profile:
                        stack.enter_context(PROFILE.looking())
                    measured = await scene(ports, control)
                gc.callbacks.remove(collected)
                rows.append(
                    {
                        "scene": name,
                        **{
                            f"{figure}_ms": round(max(each[figure] for each in measured), 1)
                            for figure in ("beyond", "late", "bare", "machine")
                        },
                        "usual_ms": round(median(each["beyond"] for each in measured), 1),
                        "stall_ms": round(ticker.worst, 1),
                        "collector_ms": round(collected.longest, 1),
                        "profile": PROFILE.found.most_common(8),
                    }
                )
    finally:
        other.kill()
        other.wait()
    show_progress()
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """For people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="A time limit in a crowd, ms at worst", box=None, title_justify="left")
    heads: tuple[str, ...] = ("beyond a bare one", "late", "a bare one", "the machine's")
    heads += ("beyond, usually", "stall", "collector")
    for head in ("scene", *heads):
        table.add_column(head, justify="left" if head == "scene" else "right")
    for row in rows:
        table.add_row(row["scene"], *(str(row[name]) for name in row if name.endswith("_ms")))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for row in rows:
        for stack, count in row["profile"]:
            console.print(f"{row['scene']}: {count} {stack}", markup=False, soft_wrap=True)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--profile", action="store_true", help="say where the loop stood still")
    parser.add_argument("--scene", default="", help="only those with this in their name")
    for inner in ("--serve", "--watch"):
        parser.add_argument(inner, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    if options.watch:
        watch_the_clock()
    logging.getLogger("masscancel").setLevel(logging.CRITICAL)  # thousands fail on purpose
    rows = asyncio.run(measure(options.scene, profile=options.profile))
    try:
        if options.json:
            raise ImportError  # noqa: TRY301  # as if rich were not there
        print_table(rows)
    except ImportError:
        print(json.dumps(rows, indent=1))  # noqa: T201  # it is a script
    return 0


if __name__ == "__main__":
    sys.exit(main())
