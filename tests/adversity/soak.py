"""`make soak`: strategies trade while an exchange fails at random, and are killed again and again.

For `--seconds`, in phases with clients of their own: strategies send orders by HTTP through an
`OrderGate`; then a kill cancels and confirms, or only cancels, by REST, on the stream or both.
Requests, replies, orders and messages are dropped, hung, delayed, doubled and spoilt; acks and
effects lag, listings are stale, the clock jumps, connections break, all of a kind fail for a while.
A `--seed` fixes what is drawn; how the draws meet is up to the machine.

The judge is the exchange's own engine, which shares the loop: at the moment of a Confirmation, and
for twice `settle` after it, nothing may be open or on its way in the scope. An Ack's request must
have been received; where an error says that nothing was carried out, nothing may have been; orders
that are said to have ended must have ended so; orders of another category must still be there.
After each phase no task and no socket may be left, and memory must not grow from phase to phase.

What ends after its time is measured beside a bare `asyncio.timeout_at` of the same time in the same
loop. The difference is a few turns of the loop, in which a call ends what it has begun: what a turn
costs is the loop's load. All that is reported, not judged.

`--day` compresses a day into minutes: as many kills as one a minute makes, most of them proven, and
connections that are used as often as a day's warmth uses them. Of these requests there are many
more than of all others; the client's objects and memory are to be as many at the end as early on.

Prints a table, or JSON with `--json` or where there is no rich. Exits 1 on anything false or left.
Reads /proc, so it is for Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
import tracemalloc
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from figures import Ticker, show_progress
from masscancel import AscendEX, Client, Credentials, SessionPool
from masscancel.models import Gap
from masscancel.sim import AscendEXDialect, SimulatedExchange
from soak_chaos import Chaos
from soak_desk import SYMBOLS, Desk, Tally
from soak_left import Left

if TYPE_CHECKING:
    from collections.abc import Iterable

    from masscancel.sim import Request

PHASE: Final = 10.0
#: What may be more in the second half, in KiB: caches that fill up.
GROWTH_KIB: Final = 256
#: The same of what is resident, the exchange's part of it and free blocks included, in KiB ...
RSS_GROWTH_KIB: Final = 4096
#: ... and of objects, the exchange's included.
OBJECTS_GROWTH: Final = 5_000
#: The kills of a day, and how often its connections are used while it is compressed, in seconds.
DAY_OF_KILLS: Final = 24 * 60
DAY_OF_WARMTH: Final = 0.05


class Counting(AscendEXDialect):
    """A venue that counts its requests; the exchange itself remembers the last few only."""

    requests = 0

    def api_key(self, request: Request) -> str:
        """Asked once about each request."""
        self.requests += 1
        return super().api_key(request)


async def follow(client: Client[Any], tally: Tally) -> None:
    """A consumer of order updates, until its client is left."""
    async for item in client.order_updates("cash"):
        tally.counts["gaps" if isinstance(item, Gap) else "updates"] += 1


async def phase(
    chaos: Chaos, desks: list[Desk], tally: Tally, seconds: float, warm_interval: float
) -> None:
    """One life of the clients: entered, used, left. Some share a pool, some follow the stream."""
    exchange, loop = chaos.exchange, asyncio.get_running_loop()
    until = loop.time() + seconds
    playing = loop.create_task(chaos.run())
    following: list[asyncio.Task[None]] = []
    clients: dict[str, Client[Any]] = {}
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(SessionPool(warm_interval=warm_interval))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for number, key in enumerate(dict.fromkeys(desk.account.api_key for desk in desks)):
            account = exchange.engine.accounts[key]
            pool = shared if number % 2 else None
            if pool is None and warm_interval == DAY_OF_WARMTH:  # not one that the client makes
                pool = await stack.enter_async_context(SessionPool(warm_interval=warm_interval))
            client = Client(
                Credentials(key, account.api_secret),
                venue=AscendEX(
                    rest_url=exchange.rest_url,
                    stream_url=exchange.stream_url,
                    account_group=account.group,
                ),
                pool=pool,
                watch=("cash", "futures") if number else (),
            )
            clients[key] = await stack.enter_async_context(client)
            if number:
                following.append(loop.create_task(follow(client, tally)))
        async with Ticker(0.005) as ticker, asyncio.TaskGroup() as group:
            for desk in desks:
                group.create_task(desk.run(clients[desk.account.api_key], http, until))
        tally.stall_ms = max(tally.stall_ms, ticker.worst)
        playing.cancel()
        await asyncio.wait((playing,))
        chaos.end()
    await asyncio.gather(*following)


async def calm(exchange: SimulatedExchange) -> Left:
    """Let go of what hangs, and wait until the exchange has seen its clients leave."""
    while exchange.waiting:
        for tag in set(exchange.waiting):
            exchange.release(tag)
        await asyncio.sleep(0.01)
    await exchange.until(lambda: not exchange.connections)
    for _ in range(10):
        await asyncio.sleep(0.01)
    return Left()


async def soak(seconds: float, seed: int, accounts: int, *, day: bool = False) -> dict[str, Any]:
    """All phases, and what they come to; where it is a day, for as long as its kills take."""
    tally = Tally()
    marks: list[Left] = []
    began = time.monotonic()
    ends = began + seconds
    wanted, warm_interval = (DAY_OF_KILLS, DAY_OF_WARMTH) if day else (0, 7.0)
    tracemalloc.start()
    dialect = Counting()
    async with SimulatedExchange(dialect, seed=seed, history=300) as exchange:
        rng = Random(seed)
        chaos = Chaos(exchange, rng)
        desks, bystanders = [], []
        for number in range(accounts):
            account = exchange.add_account(group=number, label=f"desk-{number}")
            bystanders.append(exchange.place(account, "margin", "BTC/USDT").order_id)
            desks += [Desk(exchange, account, category, rng, tally) for category in SYMBOLS]
        baseline = await calm(exchange)
        while True:
            kills, confirmed = tally.counts["kills"], tally.counts["confirmations"]
            left = ends - time.monotonic()
            if len(marks) >= 6 and kills >= wanted and (day or left <= 1):
                break
            show_progress(
                f"phase {len(marks) + 1}, {max(0.0, left):.0f} s left: {kills} kills, "
                f"{confirmed} Confirmations, {sum(tally.counts[name] for name in FALSE)} wrong"
            )
            length = PHASE if day else max(1.0, min(PHASE, seconds / 12, left))
            await phase(chaos, desks, tally, length, warm_interval)
            marks.append(await calm(exchange))
        show_progress()
        for order_id in bystanders:
            order = exchange.engine.order(order_id)
            if order is None or not order.status.is_open:
                tally.false("bystanders hit", order_id)
        received = len(exchange.requests)
    tasks = {task for mark in marks for task in mark.tasks} - baseline.tasks
    return {
        "seconds": round(time.monotonic() - began),
        "seed": seed,
        "phases": len(marks),
        "requests": dialect.requests,
        "remembered requests": received,
        **{name: tally.counts[name] for name in COUNTED},
        **{name: n for name, n in sorted(tally.counts.items()) if name not in (*COUNTED, *FALSE)},
        **{name: tally.counts[name] for name in FALSE},
        "overruns": len(tally.overruns),
        "worst overrun ms": worst(ours for ours, *_ in tally.overruns),
        "worst of a bare timeout beside ms": worst(other for _, other, _ in tally.overruns),
        "worst beyond it ms": worst(ours - other for ours, other, _ in tally.overruns),
        "most turns of the loop beyond it": max((turns for *_, turns in tally.overruns), default=0),
        "longest stall of the loop ms": round(tally.stall_ms, 1),
        "leaked tasks": len(tasks),
        "leaked sockets": max(mark.sockets for mark in marks) - baseline.sockets,
        "heap KiB by phase": [mark.heap_kib for mark in marks],
        "heap growth KiB": growth([mark.heap_kib for mark in marks]),
        "C heap KiB by phase": [mark.c_heap_kib for mark in marks],
        "RSS KiB by phase": [mark.rss_kib for mark in marks],
        "RSS growth KiB": growth([mark.rss_kib for mark in marks]),
        "objects by phase": [mark.objects for mark in marks],
        "objects growth": growth([mark.objects for mark in marks]),
        "wrong": tally.wrong + [repr(task) for task in tasks][:10],
    }


def worst(figures: Iterable[float]) -> float:
    """The highest, and never below nothing."""
    return round(max(figures, default=0.0), 1)


def growth(by_phase: list[int]) -> int:
    """From the first to the second half, the first phase apart: a leak lifts the least of each."""
    half = 1 + len(by_phase) // 2
    return min(by_phase[half:]) - min(by_phase[1:half])


COUNTED: Final = (
    *("orders", "orders unknown", "kills", "confirmations", "streamed", "sweeps", "acks"),
    *("unknown", "NotFlat", "Unproven", "DeadlineExceeded", "halted", "updates", "gaps"),
)
FALSE: Final = (
    *("false confirmations", "false acks", "false denials", "given up early", "wrong ends"),
    *("wrong residuals", "bystanders hit", "crashes"),
)


def verdict(report: dict[str, Any]) -> str:
    """What was false, is left or has grown; empty if nothing."""
    none = (*FALSE, "leaked tasks", "leaked sockets")
    said = [f"{report[name]} {name}" for name in none if report[name]]
    for name, most in (
        ("heap growth KiB", GROWTH_KIB),
        ("RSS growth KiB", RSS_GROWTH_KIB),
        ("objects growth", OBJECTS_GROWTH),
    ):
        if report[name] > most:
            said.append(f"{name}: {report[name]}")
    return ", ".join(said)


def print_table(report: dict[str, Any]) -> None:
    """For people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Soak", show_header=False, box=None, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for name, value in report.items():
        if name != "wrong":
            table.add_row(
                name, " ".join(map(str, value)) if isinstance(value, list) else str(value)
            )
    console = Console()
    console.print(table)
    for line in report["wrong"]:
        console.print(line, style="red", markup=False)


def main() -> int:
    """Soak, print, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="how long (default: 120)")
    parser.add_argument(
        "--day", action="store_true", help="a day of kills, one a minute, in place of --seconds"
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (default: 1)")
    parser.add_argument("--accounts", type=int, default=3, help="with two desks each (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # the exchange breaks on purpose
    report = asyncio.run(soak(options.seconds, options.seed, options.accounts, day=options.day))
    wrong = verdict(report)
    try:
        if options.json:
            raise ImportError  # noqa: TRY301  # as if rich were not there
        print_table(report)
    except ImportError:
        print(json.dumps(report, indent=1))  # noqa: T201  # it is a script
    else:
        print(f"WRONG: {wrong}" if wrong else "All right: nothing was false, nothing is left.")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
