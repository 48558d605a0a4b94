"""Measure masscancel beside what one would use instead, in one interleaved run.

A loopback server runs in its own process, on a core of its own where there are two. A round visits
every contender of a case in a new order, each in a fresh process that is pinned to the other core:
two processes that run the same code differ by 15 % or more, as their memory happens to lie, so a
figure from one process says little. A ratio is the median of the rounds' ratios, so that what else
the machine does meanwhile falls on all contenders alike.

    python benchmarks/run.py                        everything, some fifteen minutes
    python benchmarks/run.py --quick                tiny sizes: does it work?
    python benchmarks/run.py --only rest stream     some cases, printed only
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

from common import HERE, Where, cores, processor
from report import judge, plot, show, write_page
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

#: The last release of ccxt that has this exchange.
CCXT = "ccxt==4.5.63"
CCXT_HOME = Path(sys.prefix) / "bench-ccxt"
#: Where the cold starts' bytecode is kept.
BYTECODE = Path(sys.prefix) / "bench-bytecode"


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    rounds: int
    calls: int
    bursts: int
    accounts: int
    colds: int
    hedges: int
    queued: int
    clients: int


FULL = Sizes(
    rounds=10, calls=500, bursts=10, accounts=1000, colds=15, hedges=200, queued=1000, clients=1000
)
QUICK = Sizes(rounds=2, calls=60, bursts=3, accounts=20, colds=1, hedges=50, queued=100, clients=50)


@dataclass(frozen=True, order=True)
class Who:
    """A contender on an event loop."""

    name: str
    uvloop: bool = False

    def __str__(self) -> str:
        return f"{self.name} (uvloop)" if self.uvloop else self.name


class Process:
    """A child that answers one line of JSON to each line of JSON."""

    def __init__(self, *command: str) -> None:
        self._command = command
        self._child = subprocess.Popen(  # noqa: S603  # our own scripts
            command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self) -> Any:
        """The next answer."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise SystemExit(f"{Path(self._command[1]).name} ended unexpectedly")
        return json.loads(line)

    def do(self, what: str, **arguments: Any) -> Any:
        """One command and its answer."""
        assert self._child.stdin is not None
        print(json.dumps({"do": what, **arguments}), file=self._child.stdin, flush=True)
        answer = self.read()
        if "error" in answer:
            raise SystemExit(f"{' '.join(self._command[1:3])}: {what}: {answer['error']}")
        return answer["ok"]

    def end(self) -> None:
        """Let it end."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(timeout=30)


@dataclass
class Bench:
    """The server, the workers, and what has been measured so far."""

    sizes: Sizes
    progress: Progress
    results: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        available = cores()
        self.server_core = available[-1] if len(available) > 1 else None
        self.client_core = available[0]
        self.versions: dict[str, str] = {}
        self._server = Process(sys.executable, "server.py", str(self.server_core))
        hello = self._server.read()
        self.where = Where(hello["port"])
        self.server_loop = "uvloop" if hello["uvloop"] else "asyncio"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.end()

    def python(self, name: str) -> str | None:
        """The interpreter for a contender; ``None`` if what it needs is not installed."""
        if name == "ccxt":
            return ccxt_python(self.skipped)
        needs = {"httpx": "httpx", "demo": "requests"}.get(name)
        if needs is not None and importlib.util.find_spec(needs) is None:
            self.skipped[name] = f"{needs} is not installed"
            return None
        return sys.executable

    @contextmanager
    def worker(self, who: Who) -> Iterator[Process | None]:
        """A fresh process of the contender; ``None`` if what it needs is not installed."""
        python = self.python(who.name)
        if who.uvloop and importlib.util.find_spec("uvloop") is None:
            self.skipped[str(who)] = "uvloop is not installed"
            python = None
        if python is None:
            yield None
            return
        loop = ["--uvloop"] if who.uvloop else []
        worker = Process(python, "worker.py", who.name, *loop, "--core", str(self.client_core))
        versions = worker.do("open", port=self.where.port)
        prefix = "with ccxt: " if who.name == "ccxt" else ""
        self.versions.update({prefix + library: version for library, version in versions.items()})
        yield worker
        worker.do("close")
        worker.end()

    def control(self, **command: Any) -> Any:
        """Tell the server something."""
        body = json.dumps(command).encode()
        request = Request(f"{self.where.rest}/control", body, method="POST")  # noqa: S310  # loopback
        with urlopen(request) as reply:  # noqa: S310  # loopback
            return json.load(reply)

    @contextmanager
    def server_set(self, **settings: float) -> Iterator[None]:
        """The server behaves so within the block."""
        self.control(settings=settings)
        yield
        self.control(settings={})

    def interleaved(
        self,
        case: str,
        contenders: list[Who],
        measure: Callable[[Process, Who], Any],
        *,
        rounds: int | None = None,
        calls: Callable[[Any], int] | None = None,
    ) -> None:
        """Visit every contender once a round, in a new order each; keep what was measured.

        Args:
            case: the name to keep it under.
            contenders: who takes part.
            measure: measures one.
            rounds: how often, if not as often as everything.
            calls: from what was measured to how many cancels the server must have seen at least.
        """
        rounds = rounds or self.sizes.rounds
        task = self.progress.add_task(case, total=rounds * len(contenders))
        kept: dict[str, list[Any]] = {}
        order = random.Random(len(case))  # noqa: S311  # only to shuffle
        for _ in range(rounds):
            order.shuffle(contenders)
            for who in contenders:
                with self.worker(who) as worker:
                    if worker is not None:
                        self.control(reset=True)
                        measured = measure(worker, who)
                        seen = self.control()["counts"]
                        assert not seen.get("refused"), f"{who}: refused calls: {seen}"
                        if calls is not None:
                            assert seen["cancel"] >= calls(measured), f"{who}: arrived: {seen}"
                        kept.setdefault(str(who), []).append(measured)
                self.progress.advance(task)
        self.results[case] = kept


BOTH_LOOPS = (False, True)


def rest(bench: Bench) -> None:
    """One REST call after the other."""
    names = ["ours", "ours-both", "raw", "aiohttp"]
    contenders = [Who(name, uvloop) for name in names for uvloop in BOTH_LOOPS]
    contenders += [Who("httpx"), Who("demo"), Who("ccxt")]
    bench.interleaved("rest", contenders, _sequential(bench), calls=_latencies)


def stream(bench: Bench) -> None:
    """One call on the websocket after the other."""
    contenders = [
        Who(name, uvloop) for name in ("ours-stream", "raw-stream") for uvloop in BOTH_LOOPS
    ]
    contenders += [Who("raw"), Who("raw", uvloop=True)]
    bench.interleaved("stream", contenders, _sequential(bench), calls=_latencies)


def _sequential(bench: Bench) -> Callable[[Process, Who], Any]:
    calls = bench.sizes.calls

    def measure(worker: Process, who: Who) -> Any:
        slow = who.name in ("httpx", "demo")
        return worker.do("sequential", calls=calls // 4 if slow else calls, warm=calls // 10)

    return measure


def _latencies(measured: Any) -> int:
    return len(measured["latencies"])


def burst(bench: Bench) -> None:
    """64 symbols of one account at once."""
    names = ["ours", "ours-stream", "ours-both", "raw", "raw-stream", "aiohttp"]
    contenders = [Who(name, uvloop) for name in names for uvloop in BOTH_LOOPS]
    contenders += [Who("httpx"), Who("demo"), Who("ccxt")]

    def measure(worker: Process, who: Who) -> Any:
        slow = who.name in ("httpx", "demo")
        bursts = max(2, bench.sizes.bursts // 5) if slow else bench.sizes.bursts
        return worker.do("burst", bursts=bursts, size=64)

    bench.interleaved(
        "burst", contenders, measure, calls=lambda measured: 64 * len(measured["rates"])
    )


def fan_out(bench: Bench) -> None:
    """10 symbols of many accounts, 64 requests at a time; and of few, for the cost per target."""
    contenders = [Who(name, uvloop) for name in ("ours", "aiohttp") for uvloop in BOTH_LOOPS]
    many, few = bench.sizes.accounts, 10

    def measure(worker: Process, _: Who) -> Any:
        return {
            str(accounts * 10): worker.do("fan_out", accounts=accounts, each=10, repeat=repeat)
            for accounts, repeat in (
                (few, max(1, many // few // 5)),
                (max(few, many // 10), 1),
                (many, 1),
            )
        }

    bench.interleaved("fan-out", contenders, measure)


def cold(bench: Bench) -> None:
    """From starting a process to its first Ack; and imports in fresh interpreters."""
    names = ("ours", "ours-stream", "raw", "aiohttp", "httpx", "demo", "ccxt")
    kept: dict[str, list[Any]] = {}
    imports: dict[str, list[Any]] = {}
    colds = bench.sizes.colds
    task = bench.progress.add_task("cold", total=(colds + 1) * (len(names) + len(IMPORTS)))
    for once in range(-1, colds):  # the first time compiles, and does not count
        for name in names:
            python = bench.python(name)
            if python is not None:
                measured = {"ms": _cold_start(python, name, bench.where)}
                kept.setdefault(name, []).extend([measured] if once >= 0 else [])
            bench.progress.advance(task)
        for what, name in IMPORTS.items():
            python = bench.python(name)
            if python is not None:
                measured = {"ms": _import_time(python, what)}
                imports.setdefault(f"import {what}", []).extend([measured] if once >= 0 else [])
            bench.progress.advance(task)
    bench.results["cold start"], bench.results["imports"] = kept, imports


#: What is imported, and by which contender's interpreter.
IMPORTS = {
    "masscancel": "ours",
    "aiohttp, msgspec": "aiohttp",
    "httpx": "httpx",
    "requests": "demo",
    "ccxt.async_support": "ccxt",
}


def _cold_start(python: str, name: str, where: Where) -> float:
    started = time.monotonic_ns()
    return (int(_with_bytecode(python, "cold.py", name, str(where.port))) - started) / 1e6


def _import_time(python: str, what: str) -> float:
    code = f"import time; t = time.perf_counter(); import {what}; print(time.perf_counter() - t)"
    return float(_with_bytecode(python, "-c", code)) * 1000


def _with_bytecode(*command: str) -> str:
    """What a program prints that finds everything compiled, as an installed one does."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(BYTECODE)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(  # noqa: S603  # our own scripts
        command, cwd=HERE, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def queued(bench: Bench) -> None:
    """A cancel while 1,000 listings of the same program wait for the pool's 64 places.

    Once with a venue that takes a second for a listing, and once with one that answers at once, so
    that the event loop never has nothing to do.
    """
    calls = max(5, bench.sizes.calls // 20)
    for case, tasks, hold in (
        ("queued: idle", 0, 0.0),
        ("queued: slow venue", bench.sizes.queued, 1.0),
        ("queued: busy loop", bench.sizes.queued, 0.0),
    ):
        with bench.server_set(hold_listings=hold):
            bench.interleaved(
                case,
                [Who("ours")],
                lambda worker, _, tasks=tasks: worker.do("first_byte", calls=calls, queued=tasks),  # type: ignore[misc]  # a default
            )


def confirm(bench: Bench) -> None:
    """From the call to the Confirmation, with effects that lag behind their acks."""
    for lag in (0.0, 0.05, 0.2):
        with bench.server_set(lag=lag):
            bench.interleaved(
                f"confirm: lag {lag * 1000:.0f} ms",
                [Who("ours")],
                lambda worker, _: worker.do("confirm", calls=3, settle=0.1),
            )


def hedge(bench: Bench) -> None:
    """2 % of the requests, REST or stream, are answered 200 ms late."""
    calls = bench.sizes.hedges
    with bench.server_set(stall_share=0.02, stall=0.2):
        bench.interleaved(
            "hedge",
            [Who("ours"), Who("ours-both"), Who("aiohttp")],
            lambda worker, _: worker.do("sequential", calls=calls, warm=10),
            calls=_latencies,
        )


def memory(bench: Bench) -> None:
    """Clients that share a pool, and targets of a fan-out."""

    def measure(worker: Process, who: Who) -> Any:
        measured: dict[str, Any] = {}
        if who.name == "ours":
            measured["per idle client"] = worker.do("memory_idle", clients=bench.sizes.clients)
        measured["per target"] = worker.do("memory_target", accounts=bench.sizes.accounts, each=10)
        return measured

    bench.interleaved("memory", [Who("ours"), Who("aiohttp")], measure, rounds=1)


CASES: dict[str, Callable[[Bench], None]] = {
    "rest": rest,
    "stream": stream,
    "burst": burst,
    "fan-out": fan_out,
    "cold": cold,
    "queued": queued,
    "confirm": confirm,
    "hedge": hedge,
    "memory": memory,
}


def ccxt_python(skipped: dict[str, str]) -> str | None:
    """The interpreter of an environment with ccxt, which is made if it is not there."""
    python = CCXT_HOME / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (CCXT_HOME / ".ready").exists():
        return str(python)
    if "ccxt" in skipped:
        return None
    venv.create(CCXT_HOME, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", CCXT]
    done = subprocess.run(install, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        skipped["ccxt"] = f"{CCXT} could not be installed"
        return None
    (CCXT_HOME / ".ready").touch()
    return str(python)


def machine(bench: Bench) -> dict[str, Any]:
    """What this was measured on; nothing that names the machine."""
    available = cores()
    return {
        "processor": processor(),
        "cores": len(available),
        "pinned": bench.server_core is not None and hasattr(os, "sched_setaffinity"),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"on {bench.server_loop}",
        "masscancel": importlib.metadata.version("masscancel"),
        **dict(sorted(bench.versions.items())),
    }


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Replace each round's latencies by their quantiles: 101 percentiles and the 99.9th."""
    for kept in results.values():
        for rounds in kept.values():
            for measured in rounds:
                if "latencies" in measured:
                    cuts = statistics.quantiles(measured.pop("latencies"), n=1000)
                    measured["quantiles"] = [round(cuts[i], 1) for i in (0, *range(9, 990, 10), -1)]
                    measured["median"], measured["p99"] = cuts[499], cuts[989]
    return results


def main() -> None:
    """Measure, print, and write the page, the plots and the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help="how often each contender is visited")
    parser.add_argument(
        "--only", nargs="+", choices=CASES, metavar="CASE", help=f"of {', '.join(CASES)}"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument(
        "--out",
        type=Path,
        help="where RESULTS.md, results.json and the plots go; by default beside this file if "
        "everything was measured, and nowhere otherwise",
    )
    options = parser.parse_args()
    console = Console()
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = Sizes(**{**vars(sizes), "rounds": options.rounds})
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with (
        Progress(*columns, console=console, transient=True) as progress,
        Bench(sizes, progress) as bench,
    ):
        for case in options.only or CASES:
            CASES[case](bench)
        described = machine(bench)
    pooled = {
        who: [value for measured in rounds for value in measured["latencies"]]
        for who, rounds in bench.results.get("hedge", {}).items()
    }
    outcome: dict[str, Any] = {
        "machine": described,
        "sizes": vars(sizes),
        "skipped": bench.skipped,
        "tails": {who: statistics.quantiles(values, n=100)[98] for who, values in pooled.items()},
        "cases": summarise(bench.results),
    }
    outcome["targets"] = judge(outcome)
    show(outcome, console)
    out = options.out or (None if options.only or options.quick else HERE)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(outcome, separators=(",", ":")) + "\n")
        plots = plot(outcome, out)
        write_page(outcome, out / "RESULTS.md", plots)
        console.print(f"written: RESULTS.md, results.json{''.join(f', {name}' for name in plots)}")


if __name__ == "__main__":
    main()
