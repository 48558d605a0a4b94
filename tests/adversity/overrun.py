"""`make adversity`: play every row of the fault matrix, and report what came of it.

Each row is played twice: once as the tests do, to be judged by what the other end saw, and once
with the usual retries and a short time limit, to be timed against a bare `asyncio.timeout` in the
same run. Prints a table, or JSON with `--json` or where there is no rich. Exits 1 if a row is
wrong, an Ack is false or a secret is found; an overrun is reported, not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent))

from figures import Ticker, bare, show_progress
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
            gc.collect()  # what earlier rows have left is not to be collected in this one's time
            late = await bare(loop.time() + timeout)
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
        "overrun_ms": round(max(0.0, (elapsed - timeout) * 1000 - late), 2),
        "stall_ms": round(ticker.worst, 2),
        "sends": sends,
        "attempts": len(result.attempts),
        "false_acks": int(false) + sum("false Ack" in each for each in wrong),
        "secrets": len({secret for text in said for secret in secrets_in(text)}),
    }


async def play_all(timeout: float) -> dict[str, Any]:
    """Every row, and what they come to together."""
    gc.freeze()
    cases = []
    for number, case in enumerate(MATRIX, 1):
        show_progress(f"{number} of {len(MATRIX)}: {case.name!r:.60}")
        cases.append(await play(case, timeout))
    show_progress()
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


def worst(report: dict[str, Any], name: str) -> str:
    """The highest of a figure in ms, and the case that it was in."""
    case = max(report["cases"], key=lambda case: case[name])
    return f"{case[name]} ms ({case['case']!r:.60})"


def verdict(report: dict[str, Any]) -> str:
    """What is wrong; empty if nothing is."""
    wrong = [case["case"] for case in report["cases"] if case["wrong"]]
    said = [f"{len(wrong)} cases are wrong: {wrong}"] if wrong else []
    said += [f"{report[name]} {name}" for name in ("false_acks", "secrets") if report[name]]
    return "; ".join(said)


def print_table(report: dict[str, Any]) -> None:
    """For people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="The fault matrix, REST", box=None, title_justify="left")
    console = Console(width=None if sys.stdout.isatty() else 120)
    figures = 34  # what the other columns take
    table.add_column("case", no_wrap=True, max_width=console.width - figures)
    for name in ("right", "overrun ms", "stall ms", "sends"):
        table.add_column(name.replace(" ", "\n"), justify="right")
    for case in report["cases"]:
        right = "[red]no" if case["wrong"] or case["false_acks"] or case["secrets"] else "yes"
        numbers = ("overrun_ms", "stall_ms", "sends")
        table.add_row(
            escape(repr(case["case"])[1:-1]), right, *(str(case[name]) for name in numbers)
        )
    console.print(table)
    for case in report["cases"]:
        for each in case["wrong"]:
            console.print(f"{case['case']!r}: {each}", style="red", markup=False)


def main() -> int:
    """Play, print, and say by the exit status whether all was right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--timeout", type=float, default=0.1, help="of each timed call, in seconds (default: 0.1)"
    )
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.DEBUG)
    report = asyncio.run(play_all(options.timeout))
    wrong = verdict(report)
    try:
        if options.json:
            raise ImportError  # noqa: TRY301  # as if rich were not there
        print_table(report)
    except ImportError:
        print(json.dumps(report, indent=1))  # noqa: T201  # it is a script
    else:
        print(  # noqa: T201  # likewise
            "\n{tried} cases of {rows} rows, {right} right; {sends_per_call} sends per call, at "
            "most {most_sends}; {false_acks} false Acks, {secrets} secrets".format(**report),
            f"worst overrun beyond a bare asyncio.timeout: {worst(report, 'overrun_ms')}",
            f"worst stall of the loop, servers included: {worst(report, 'stall_ms')}",
            f"WRONG: {wrong}" if wrong else "All right.",
            sep="\n",
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
