"""Count the instructions of one call: they repeat on a noisy machine, where times do not.

    python benchmarks/profile_call.py                         ours and idiomatic aiohttp
    python benchmarks/profile_call.py --contenders ours raw   others
    python benchmarks/profile_call.py --protections           what each protection costs

By callgrind (valgrind), for the whole process with few and with many calls; the difference, divided
by the calls, is what one call executes in user space. The kernel's work is not in it.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import msgspec
from common import CONTENDERS, Where, contender_of, server

from masscancel.calls import Reply, Scope, Stamp
from masscancel.models import Ack
from masscancel.transport.connection import Connection
from masscancel.transport.timers import Timer, Timers
from masscancel.venues import ascendex
from masscancel.venues.toolkit import rows


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
    """Instructions per call, in user space."""
    few, many = (_callgrind(name, port, count, without) for count in (50, 50 + calls))
    return (many - few) / calls


def _callgrind(name: str, port: int, calls: int, without: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        run = [sys.executable, __file__, "--run", name, "--port", str(port)]
        options = ["--calls", str(calls), "--without", without]
        done = subprocess.run([*tool, *run, *options], capture_output=True, text=True, check=False)  # noqa: S603
        collected = re.search(r"Collected : (\d+)", done.stderr)
        if collected is None or done.returncode:
            raise SystemExit(done.stderr[-2000:])
        return int(collected[1])


async def calls(name: str, port: int, count: int) -> None:
    """Nothing but the calls, for callgrind to count."""
    contender = contender_of(name)
    await contender.open(Where(port))
    await asyncio.sleep(0.1)  # its background connections are there
    for _ in range(count):
        await contender.call("S0/USDT")
    await contender.close()


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=["ours", "aiohttp"])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--protections", action="store_true", help="ours, with each left out")
    parser.add_argument("--without", default="", help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.without:
        PROTECTIONS[options.without]()
    if options.run:
        asyncio.run(calls(options.run, options.port, options.calls))
        return
    with server() as (where, *_):
        for name in options.contenders:
            print(f"{instructions(name, where.port, options.calls):10,.0f}  a call of {name}")
        if options.protections:
            whole = instructions("ours", where.port, options.calls)
            for name in PROTECTIONS:
                less = instructions("ours", where.port, options.calls, name)
                print(f"{whole - less:10,.0f}  {name}")


if __name__ == "__main__":
    main()
