"""What one call costs, in counts rather than times: they repeat on a noisy machine.

    python benchmarks/profile_call.py                    counts per call, ours and idiomatic aiohttp
    python benchmarks/profile_call.py --functions ours   where the time goes, by function (cProfile)
    python benchmarks/profile_call.py --instructions     callgrind's instruction counts (valgrind)
    python benchmarks/profile_call.py --protections      what each protection costs, likewise

Instructions are counted for the whole process with few and with many calls; the difference, divided
by the calls, is what one call executes in user space. The kernel's work is not in it: that follows
the system calls, of which the event loop's turns are one each, sends and receives the others.
"""

import argparse
import asyncio
import cProfile
import gc
import json
import pstats
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from common import CONTENDERS, HERE, Where, contender_of

from masscancel.calls import Reply, Scope, Stamp
from masscancel.models import Ack
from masscancel.transport.connection import Connection
from masscancel.transport.timers import Timer, Timers
from masscancel.venues import ascendex
from masscancel.venues.toolkit import rows

WARM = 60


@contextmanager
def server() -> Iterator[int]:
    """A server in a process of its own; its port."""
    command = [sys.executable, "server.py"]
    with subprocess.Popen(  # noqa: S603  # our own script
        command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        yield json.loads(child.stdout.readline())["port"]
        child.stdin.close()


async def warmed(name: str, port: int, calls: int = WARM) -> Any:
    """A contender that has made some calls."""
    contender = contender_of(name)
    await contender.open(Where(port))
    await asyncio.sleep(0.1)  # its background connections are there
    for _ in range(calls):
        await contender.call("S0/USDT")
    return contender


async def counts(name: str, port: int, calls: int) -> dict[str, float]:
    """Per call: loop turns, callbacks run, tasks, sends, receives, Python calls, blocks."""
    contender = await warmed(name, port)
    loop: Any = asyncio.get_running_loop()
    seen: Counter[str] = Counter()

    def profiler(_: Any, event: str, what: Any) -> None:
        if event == "call":
            seen["Python calls"] += 1
        elif event == "c_call":
            seen["C calls"] += 1
            if isinstance(getattr(what, "__self__", None), (socket.socket, select.epoll)):
                seen[f"{what.__name__} system calls"] += 1

    original_soon, original_task = loop.call_soon, loop.create_task

    def call_soon(*args: Any, **options: Any) -> Any:
        seen["callbacks scheduled"] += 1
        return original_soon(*args, **options)

    def create_task(*args: Any, **options: Any) -> Any:
        seen["tasks"] += 1
        return original_task(*args, **options)

    loop.call_soon, loop.create_task = call_soon, create_task
    gc.collect()
    sys.setprofile(profiler)
    for _ in range(calls):
        await contender.call("S0/USDT")
    sys.setprofile(None)
    del loop.call_soon, loop.create_task
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    peak = 0
    for _ in range(20):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        await contender.call("S0/USDT")
        peak += tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    await contender.close()
    per_call = {key: value / calls for key, value in seen.items()}
    return {**per_call, "peak bytes": peak / 20}


async def functions(name: str, port: int, calls: int) -> None:
    """Print where the time goes."""
    contender = await warmed(name, port)
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(calls):
        await contender.call("S0/USDT")
    profile.disable()
    await contender.close()
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(45)


def _no_limit() -> None:
    """No time limit, so that no second attempt would ever follow the first."""
    never = Timer(Timers(asyncio.new_event_loop()), 0.0, lambda: None)
    _put(Timers, "at", lambda *_: never)


def _no_look() -> None:
    """An idle connection is used without asking the kernel what has arrived on it."""
    _put(Connection, "has_unread", property(lambda _: False))


def _no_names() -> None:
    """A name may stand twice in an object of a reply."""
    _put(rows, "check_names", lambda _: None)


def _no_check() -> None:
    """Whatever is JSON with code 0 is an Ack."""
    decoder = msgspec.json.Decoder()

    def decode(reply: Reply, _: Stamp, *, scope: Scope, request_id: str | None) -> Ack:
        assert decoder.decode(reply.body)["code"] == 0
        return Ack(
            account_category=scope.account_category,
            symbol=scope.symbol or "",
            request_id=request_id or "",
            raw=reply.body,
        )

    _put(ascendex, "decode_ack", decode)


def _put(owner: Any, name: str, value: Any) -> None:
    """Put something in another's place, which has to be there: no switch turns it off."""
    assert hasattr(owner, name)
    setattr(owner, name, value)


#: What can be left out of a REST call, to see what it costs.
PROTECTIONS: dict[str, Callable[[], None]] = {
    "time limit, and a second attempt when it is over": _no_limit,
    "an idle connection is looked at before it is used": _no_look,
    "no name stands twice in a reply": _no_names,
    "the Ack is checked, field by field (and names, as above)": _no_check,
}


def instructions(name: str, port: int, calls: int, without: str = "") -> float:
    """Instructions per call, in user space, by callgrind."""
    few, many = (_callgrind(name, port, count, without) for count in (50, 50 + calls))
    return (many - few) / calls


def _callgrind(name: str, port: int, calls: int, without: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/out",
            sys.executable,
            __file__,
            "--run",
            name,
            "--port",
            str(port),
            "--calls",
            str(calls),
            "--without",
            without,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        collected = re.search(r"Collected : (\d+)", done.stderr)
        if collected is None or done.returncode:
            raise SystemExit(done.stderr[-2000:])
        return int(collected[1])


def protections(port: int, calls: int) -> None:
    """Print what each protection of a REST call costs."""
    whole = instructions("ours", port, calls)
    print(f"{whole:10,.0f}  a call, with every protection on")
    print(f"{instructions('aiohttp', port, calls):10,.0f}  a call of idiomatic aiohttp")
    for name in PROTECTIONS:
        print(f"{whole - instructions('ours', port, calls, name):10,.0f}  {name}")


async def bare(name: str, port: int, calls: int) -> None:
    """Nothing but the calls, for another program to count."""
    contender = await warmed(name, port, 0)
    for _ in range(calls):
        await contender.call("S0/USDT")
    await contender.close()


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--functions", choices=CONTENDERS, metavar="CONTENDER", help="profile one")
    parser.add_argument("--instructions", action="store_true", help="count instructions (slow)")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=["ours", "aiohttp"])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--protections", action="store_true", help="and with each left out")
    parser.add_argument("--without", default="", help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.without:
        PROTECTIONS[options.without]()
    if options.run:
        asyncio.run(bare(options.run, options.port, options.calls))
        return
    with server() as port:
        if options.functions:
            asyncio.run(functions(options.functions, port, options.calls))
            return
        if options.protections:
            protections(port, options.calls)
            return
        for name in options.contenders:
            started = time.monotonic()
            if options.instructions:
                if shutil.which("valgrind") is None:
                    raise SystemExit("valgrind is not installed")
                figures = {"instructions": instructions(name, port, options.calls)}
            else:
                figures = asyncio.run(counts(name, port, options.calls))
            print(f"{name} ({time.monotonic() - started:.0f} s)")
            for what, value in sorted(figures.items()):
                print(f"  {value:14,.1f}  {what} per call")


if __name__ == "__main__":
    main()
