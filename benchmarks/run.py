"""Measure masscancel beside what one would use instead, interleaved in one process.

Two processes that run the same code differ by 15 % and more, as their memory happens to lie, and a
machine is not as fast in every second. So all contenders live in this process, a round visits each
of them for some milliseconds, in a new order every time, and a ratio is the median of the rounds'
ratios. The loopback server is a process of its own, on a core of its own where there are two.

    python benchmarks/run.py                        everything, some five minutes
    python benchmarks/run.py --quick                tiny sizes: does it work?
    python benchmarks/run.py --only rest stream     some cases, printed only
"""

import argparse
import asyncio
import cProfile
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import pstats
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from common import HERE, Where, contender_of, cores, pin, pin_memory, processor, server, symbols
from report import judge, plot, show, write_page
from rich.console import Console
from rich.progress import Progress

#: Where the bytecode of what is imported afresh is kept.
BYTECODE = Path(sys.prefix) / "bench-bytecode"
#: Who is measured on uvloop, too.
ON_UVLOOP = {"ours", "ours-both", "ours-stream", "raw", "raw-stream", "aiohttp"}
#: Whose calls take several times as long; they make fewer.
SLOW = {"httpx", "demo"}
BURST = symbols(64)

Measured = dict[str, Any]
Measure = Callable[[], Awaitable[Measured]]


class Bench:
    """What has been measured, by case and contender: one dict of figures a round.

    Args:
        rounds: how often each contender is visited.
        calls: how many calls a visit is, where one follows the other.
        targets: the largest fan-out.
        plain: the server in clear text.
        tls: the server with TLS.
        progress: shows how far it is.
    """

    def __init__(
        self, rounds: int, calls: int, targets: int, plain: Where, tls: Where, progress: Progress
    ) -> None:
        self.rounds, self.calls, self.targets = rounds, calls, targets
        self.plain, self.tls = plain, tls
        self.uvloop = False
        self.results: dict[str, dict[str, list[Measured]]] = defaultdict(dict)
        #: All of a case's, in µs; those of the rounds are not kept apart.
        self.latencies: dict[str, dict[str, list[float]]] = defaultdict(dict)
        #: Where the time of ours goes, by case: function, calls and own µs per operation.
        self.profiles: dict[str, list[tuple[str, float, float]]] = {}
        self.skipped: dict[str, str] = {}
        self._progress = progress

    @asynccontextmanager
    async def opened(
        self, *names: str, where: Where | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Contenders that are open within the block, by name."""
        contenders = {}
        async with AsyncExitStack() as stack:
            for name in names:
                if self.uvloop and name not in ON_UVLOOP:
                    continue
                try:
                    contender = contender_of(name)
                except ImportError as problem:
                    self.skipped[name] = str(problem)
                    continue
                await contender.open(where or self.plain)
                stack.push_async_callback(contender.close)
                contenders[name] = contender
            yield contenders

    async def interleave(
        self, case: str, measures: Mapping[str, Measure], rounds: int | None = None
    ) -> None:
        """Visit everybody once a round; the first round warms up, and is not kept."""
        rounds = rounds or self.rounds
        order = [*measures]
        task = self._progress.add_task(case, total=(rounds + 1) * len(order))
        gc.collect()
        gc.freeze()  # what there is by now is not looked through in every collection
        for number in range(rounds + 1):
            random.shuffle(order)
            for name in order:
                gc.collect()
                measured = await measures[name]()
                self._progress.advance(task)
                if number:
                    who = f"{name} (uvloop)" if self.uvloop else name
                    self.latencies[case].setdefault(who, []).extend(measured.pop("latencies", ()))
                    self.results[case].setdefault(who, []).append(measured)
        gc.unfreeze()
        assert not self.plain.control()["counts"].get("refused"), "refused calls"

    async def profile(
        self, case: str, work: Callable[[], Awaitable[object]], operations: int
    ) -> None:
        """Note where the time of so many operations goes, by function."""
        if self.uvloop:
            return
        profile = cProfile.Profile()
        profile.enable()
        await work()
        profile.disable()
        stats: Any = pstats.Stats(profile)
        own = [
            (_name(*where), calls / operations, seconds / operations * 1e6)
            for where, (_, calls, seconds, _, _) in stats.stats.items()
        ]
        self.profiles[case] = sorted(own, key=lambda row: -row[2])[:15]


def _name(file: str, _: int, function: str) -> str:
    if file == "~":
        return function.strip("<>").replace("built-in method ", "")
    return f"{'/'.join(Path(file).parts[-2:])}: {function}"


async def sequential(contender: Any, calls: int) -> Measured:
    """One call after the other, in µs."""
    latencies = []
    cpu = time.process_time_ns()
    for _ in range(calls):
        started = time.perf_counter_ns()
        await contender.call("S0/USDT")
        latencies.append((time.perf_counter_ns() - started) / 1000)
    cpu = time.process_time_ns() - cpu
    return {
        "latencies": latencies,
        "median": statistics.median(latencies),
        "cpu": cpu / calls / 1000,
    }


async def timed(work: Callable[[], Awaitable[object]], count: int) -> Measured:
    """Work on so many at once: µs, and µs of CPU, for one of them."""
    cpu, started = time.process_time(), time.perf_counter()
    await work()
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"wall": wall / count * 1e6, "cpu": cpu / count * 1e6}


async def rest(bench: Bench) -> None:
    """One call after the other."""
    names = ("ours", "ours-both", "raw", "aiohttp", "httpx", "demo", "ccxt")
    await _sequential(bench, "rest", names, "ours")


async def stream(bench: Bench) -> None:
    """One call after the other, on the websocket."""
    await _sequential(bench, "stream", ("ours-stream", "raw-stream", "raw"), "ours-stream")


async def _sequential(bench: Bench, case: str, names: Iterable[str], ours: str) -> None:
    async with bench.opened(*names) as opened:
        measures = {
            name: partial(sequential, contender, bench.calls // (5 if name in SLOW else 1))
            for name, contender in opened.items()
        }
        await bench.interleave(case, measures)
        await bench.profile(case, partial(sequential, opened[ours], 1000), 1000)


async def burst(bench: Bench) -> None:
    """64 symbols of one account at once; over TLS, too."""
    names = (
        "ours",
        "ours-stream",
        "ours-both",
        "raw",
        "raw-stream",
        "aiohttp",
        "httpx",
        "demo",
        "ccxt",
    )
    await _burst(bench, "burst", bench.plain, names)
    await _burst(bench, "burst, TLS", bench.tls, ("ours", "ours-stream", "aiohttp"))


async def _burst(bench: Bench, case: str, where: Where, names: Iterable[str]) -> None:
    async def bursts(contender: Any, times: int = 3) -> None:
        for _ in range(times):
            await contender.burst(BURST)

    async with bench.opened(*names, where=where) as opened:
        measures = {
            name: partial(timed, partial(bursts, contender), 3 * len(BURST))
            for name, contender in opened.items()
        }
        await bench.interleave(case, measures)
        for name in ("ours", "ours-stream"):
            work = partial(bursts, opened[name], 20)
            await bench.profile(f"{case}: {name}", work, 20 * len(BURST))


async def fan_out(bench: Bench) -> None:
    """10 symbols of many accounts; and of few, for the cost per target."""
    async with bench.opened("ours", "aiohttp") as opened:
        for part in (100, 10, 1):
            targets = bench.targets // part
            measures = {
                name: partial(
                    timed, partial(contender.fan_out, targets // 10, symbols(10)), targets
                )
                for name, contender in opened.items()
            }
            await bench.interleave(f"fan-out: {targets:,}", measures, max(2, bench.rounds // 5))
        work = partial(opened["ours"].fan_out, targets // 10, symbols(10))
        await bench.profile("fan-out", work, targets)


async def cold(bench: Bench) -> None:
    """From nothing to the first Ack, in a process that has imported everything."""

    async def first_ack(name: str, where: Where) -> Measured:
        started = time.perf_counter()
        async with bench.opened(name, where=where) as opened:
            await opened[name].call("S0/USDT")
            return {"ms": (time.perf_counter() - started) * 1000}

    for case, where, names in (
        ("cold", bench.plain, ("ours", "ours-stream", "raw", "aiohttp", "httpx", "demo")),
        ("cold, TLS", bench.tls, ("ours", "ours-stream", "aiohttp")),
    ):
        await bench.interleave(case, {name: partial(first_ack, name, where) for name in names})
    await bench.profile("cold, TLS", partial(first_ack, "ours", bench.tls), 1)


async def handshakes(bench: Bench) -> None:
    """A client's first burst over TLS: how many handshakes it takes, and how long."""

    async def first_burst(name: str, ready: int) -> Measured:
        async with bench.opened(name, where=bench.tls) as opened:
            bench.plain.control(reset=True)
            while _handshakes(bench) < ready:  # noqa: ASYNC110  # another process does them
                await asyncio.sleep(0.1)
            bench.plain.control(reset=True)
            started = time.perf_counter()
            await opened[name].burst(BURST)
            took = (time.perf_counter() - started) * 1000
            return {"handshakes": _handshakes(bench), "ms": took}

    measures = {
        name: partial(first_burst, name, ready)
        for name, ready in (("ours", 3), ("ours-ready", len(BURST)), ("aiohttp", 0))
    }
    await bench.interleave("first burst, TLS", measures, max(2, bench.rounds // 4))


def _handshakes(bench: Bench) -> int:
    return int(bench.plain.control()["counts"].get("handshakes", 0))


async def imports(bench: Bench) -> None:
    """Imports, each in a fresh interpreter that finds everything compiled."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(BYTECODE)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    async def once(what: str) -> Measured:
        code = (
            f"import time; t = time.perf_counter(); import {what}; print(time.perf_counter() - t)"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(  # noqa: ASYNC221, S603  # nothing else runs here; our own code
            command, env=environment, capture_output=True, text=True, check=True
        )
        return {"ms": float(done.stdout) * 1000}

    whats = ("masscancel", "aiohttp, msgspec", "httpx", "requests")
    await bench.interleave("import", {what: partial(once, what) for what in whats})


async def tail(bench: Bench) -> None:
    """2 % of the requests, REST or stream alike, are answered 200 ms late."""
    bench.plain.control(settings={"stall_share": 0.02, "stall": 0.2})
    async with bench.opened("ours", "ours-both", "aiohttp") as opened:
        measures = {name: partial(sequential, each, 100) for name, each in opened.items()}
        await bench.interleave("tail", measures, max(2, bench.rounds // 3))
    bench.plain.control(settings={})


async def behind(bench: Bench) -> None:
    """A cancel while 1,000 listings of the same program wait for a venue that takes a second."""

    async def listing(client: Any) -> None:
        while True:
            await client.open_orders("cash", timeout=300)

    async def cancels(client: Any, tasks: int) -> Measured:
        running = [asyncio.create_task(listing(client)) for _ in range(tasks)]
        await asyncio.sleep(0.2)
        bench.plain.control(reset=True)
        started = []
        for _ in range(20):
            await asyncio.sleep(0.01)
            started.append(time.monotonic_ns())
            await client.cancel_all("cash", "S0/USDT")
        arrived = bench.plain.control()["arrivals"]
        assert not any(task.done() for task in running), "a listing failed"
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return {
            "us": statistics.median((b - a) / 1000 for a, b in zip(started, arrived, strict=True))
        }

    bench.plain.control(settings={"hold_listings": 1.0})
    async with bench.opened("ours") as opened:
        measures = {
            name: partial(cancels, opened["ours"].client, tasks)
            for name, tasks in (("idle", 0), ("behind listings", 1000))
        }
        await bench.interleave("behind others", measures, max(2, bench.rounds // 5))
    bench.plain.control(settings={})


CASES = (rest, stream, burst, fan_out, cold, handshakes, imports, tail, behind)
#: Those that are measured on uvloop, too.
ON_BOTH_LOOPS = (rest, stream, burst, fan_out)


def measure(bench: Bench, names: Iterable[str]) -> None:
    """Measure the cases of these names, on asyncio's loop and then on uvloop."""
    uvloop: Any = importlib.import_module("uvloop")
    for factory, cases in ((None, CASES), (uvloop.new_event_loop, ON_BOTH_LOOPS)):
        bench.uvloop = factory is not None
        with asyncio.Runner(loop_factory=factory) as runner:
            for case in cases:
                if case.__name__ in names:
                    runner.run(case(bench))


def machine(server_on_uvloop: bool) -> dict[str, Any]:
    """What this was measured on; nothing that names the machine."""
    libraries = ("masscancel", "aiohttp", "msgspec", "uvloop", "httpx", "requests", "ccxt")
    return {
        "processor": processor(),
        "cores": len(cores()),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"on {'uvloop' if server_on_uvloop else 'asyncio'}",
        **{name: importlib.metadata.version(name) for name in libraries if name in sys.modules},
    }


def main() -> None:
    """Measure, print, and write the page, the plots and the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.__name__ for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, metavar="CASE", help=f"of {names}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    options = parser.parse_args()
    sizes = (3, 20, 1000) if options.quick else (30, 100, 10_000)
    available = cores()
    pin_memory()
    console = Console()
    with (
        server(available[1] if len(available) > 1 else None) as (plain, tls, server_on_uvloop),
        Progress(console=console, transient=True) as progress,
    ):
        pin(available[0])
        bench = Bench(*sizes, plain, tls, progress)
        measure(bench, options.only or names)
    quantiles = {
        case: {who: statistics.quantiles(each, n=1000) for who, each in kept.items() if each}
        for case, kept in bench.latencies.items()
    }
    outcome: dict[str, Any] = {
        "machine": {**machine(server_on_uvloop), "cores": len(available)},
        "rounds": bench.rounds,
        "skipped": bench.skipped,
        "cases": bench.results,
        "quantiles": {
            case: {
                who: [round(cut, 1) for cut in (cuts[0], *cuts[9::10], cuts[-1])]
                for who, cuts in kept.items()
            }
            for case, kept in quantiles.items()
        },
        "profiles": bench.profiles,
    }
    outcome["targets"] = judge(outcome)
    show(outcome, console)
    if not (options.only or options.quick):
        (HERE / "results.json").write_text(json.dumps(outcome, separators=(",", ":")) + "\n")
        plot(outcome, HERE / "latency.svg")
        write_page(outcome, HERE / "RESULTS.md")
        console.print("written: RESULTS.md, results.json, latency.svg")


if __name__ == "__main__":
    main()
