"""`make adversity`: play every row of the fault matrix, and report what came of it.

Each row is played twice: once as the tests do, to be judged by what the other end saw, and once
with the usual retries and a short time limit, to be timed against a bare `asyncio.timeout` in the
same run. Prints a table, or JSON with `--json` or where there is no rich. Exits 1 if a row is
wrong, an Ack is false or a secret is found; an overrun is reported, not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any, Self

sys.path.append(str(Path(__file__).parent.parent))

from masscancel import Ack, RetryPolicy
from matrix import MATRIX
from stages import ONCE, Case, call, judge
from test_secrets import secrets_in, shown


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Format it at once, as a file would hold it."""
        self.lines.append(self.format(record))


class Ticker:
    """How long the loop was held up at worst, in ms, while this was entered."""

    async def __aenter__(self) -> Self:
        self.worst = 0.0
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, (loop.time() - before - 0.001) * 1000)


async def bare(timeout: float) -> float:
    """By how much a bare `asyncio.timeout` is late, in ms."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(timeout):
            await loop.create_future()
    except TimeoutError:
        pass
    return (loop.time() - started - timeout) * 1000


async def play(case: Case, timeout: float) -> dict[str, Any]:
    """One row: what was wrong with it, how late it was, how often it was sent."""
    lines = Lines()
    logging.getLogger().addHandler(lines)
    try:
        async with case.stage(RetryPolicy() if case.persistent else ONCE) as scene:
            judged = await call(case, scene)
            wrong = judge(case, scene, judged)
            said = [] if isinstance(judged, Ack) else [*shown(judged)]
        async with case.stage(RetryPolicy()) as scene:
            loop = asyncio.get_running_loop()
            due = await bare(timeout)
            async with Ticker() as ticker:
                started = loop.time()
                result = await call(case, scene, timeout=timeout)
                elapsed = loop.time() - started
            sends = len(scene.sends())
            executed = scene.executed()
    finally:
        logging.getLogger().removeHandler(lines)
    said += lines.lines
    false = isinstance(result, Ack) and (case.error is not None or executed is False)
    return {
        "row": case.row,
        "case": case.name,
        "right": not wrong,
        "wrong": [each[:300] for each in wrong],
        "overrun_ms": round(max(0.0, (elapsed - timeout) * 1000 - due), 2),
        "stall_ms": round(ticker.worst, 2),
        "sends": sends,
        "attempts": len(result.attempts),
        "false_acks": int(false) + sum("false Ack" in each for each in wrong),
        "secrets": len({secret for text in said for secret in secrets_in(text)}),
    }


async def play_all(timeout: float) -> dict[str, Any]:
    """Every row, and what they come to together."""
    cases = [await play(case, timeout) for case in MATRIX]
    return {
        "rows": len({case.row for case in MATRIX}),
        "tried": len(cases),
        "right": sum(case["right"] for case in cases),
        "worst_overrun_ms": max(case["overrun_ms"] for case in cases),
        "worst_stall_ms": max(case["stall_ms"] for case in cases),
        "most_sends": max(case["sends"] for case in cases),
        "sends_per_call": round(sum(case["sends"] for case in cases) / len(cases), 2),
        "false_acks": sum(case["false_acks"] for case in cases),
        "secrets": sum(case["secrets"] for case in cases),
        "cases": cases,
    }


def print_table(report: dict[str, Any]) -> None:
    """For people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="The fault matrix, REST")
    for name in ("case", "right", "overrun ms", "stall ms", "sends", "false Acks", "secrets"):
        table.add_column(name, justify="left" if name == "case" else "right")
    for case in report["cases"]:
        right = "yes" if case["right"] else "[red]no"
        numbers = ("overrun_ms", "stall_ms", "sends", "false_acks", "secrets")
        table.add_row(repr(case["case"])[1:-1], right, *(str(case[name]) for name in numbers))
    console = Console()
    console.print(table)
    for name, value in report.items():
        if name != "cases":
            console.print(f"{name.replace('_', ' ')}: {value}")


def main() -> int:
    """Play, print, and say by the exit status whether all was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--timeout", type=float, default=0.1, help="of each timed call, in seconds")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.DEBUG)
    report = asyncio.run(play_all(options.timeout))
    try:
        if options.json:
            raise ImportError  # noqa: TRY301  # as if rich were not there
        print_table(report)
    except ImportError:
        print(json.dumps(report, indent=1))  # noqa: T201  # it is a script
    good = report["right"] == report["tried"] and not report["false_acks"] and not report["secrets"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
