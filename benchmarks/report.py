"""From what was measured to targets, tables and plots."""

import importlib
import importlib.util
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common import CONTENDERS
from rich.console import Console
from rich.table import Table

Outcome = dict[str, Any]
Rows = list[list[str]]
Figure = Callable[[Outcome], float]
#: What is compared, how it must compare, the figure, the profile that explains it.
Target = tuple[str, str, float, Figure, str]


def _median(case: str, who: str, key: str) -> Figure:
    return lambda outcome: float(
        statistics.median(each[key] for each in outcome["cases"][case][who])
    )


def _ratio(case: str, key: str, ours: str, theirs: str, their_case: str = "") -> Figure:
    """The median of the rounds' ratios."""

    def ratio(outcome: Outcome) -> float:
        mine = outcome["cases"][case][ours]
        other = outcome["cases"][their_case or case][theirs]
        return float(statistics.median(a[key] / b[key] for a, b in zip(mine, other, strict=True)))

    return ratio


def _times_faster(case: str, ours: str, theirs: str) -> Figure:
    return _ratio(case, "wall", theirs, ours)


def _tail(outcome: Outcome) -> float:
    tails = outcome["quantiles"]["tail"]
    return float(tails["ours-both"][99] / tails["ours"][99])


def _fan_outs(outcome: Outcome) -> list[str]:
    return [case for case in outcome["cases"] if case.startswith("fan-out")]


def _largest_fan_out(key: str) -> Figure:
    return lambda outcome: _ratio(_fan_outs(outcome)[-1], key, "ours", "aiohttp")(outcome)


#: "Plain" is idiomatic aiohttp, "the floor" a hand-written asyncio protocol.
TARGETS: list[Target] = [
    ("REST, CPU of a call, of plain", "≤", 0.50, _ratio("rest", "cpu", "ours", "aiohttp"), "rest"),
    ("REST, latency, of plain", "≤", 0.60, _ratio("rest", "median", "ours", "aiohttp"), "rest"),
    (
        "burst of 64 by REST, times as fast as plain",
        "≥",
        2.5,
        _times_faster("burst", "ours", "aiohttp"),
        "burst: ours",
    ),
    (
        "the same over TLS",
        "≥",
        2.0,
        _times_faster("burst, TLS", "ours", "aiohttp"),
        "burst, TLS: ours",
    ),
    (
        "stream, latency, of the floor by REST",
        "≤",
        1.10,
        _ratio("stream", "median", "ours-stream", "raw"),
        "stream",
    ),
    (
        "burst of 64 on the stream, times as fast as plain by REST",
        "≥",
        6.0,
        _times_faster("burst", "ours-stream", "aiohttp"),
        "burst: ours-stream",
    ),
    (
        "largest fan-out, CPU, of a bare semaphore and gather",
        "≤",
        0.50,
        _largest_fan_out("cpu"),
        "fan-out",
    ),
    (
        "TLS, handshakes in a first burst of the 64 that were declared",
        "≤",
        0.0,
        _median("first burst, TLS", "ours-ready", "handshakes"),
        "",
    ),
    (
        "TLS, from nothing to the first Ack, of plain",
        "≤",
        1.25,
        _ratio("cold, TLS", "ms", "ours", "aiohttp"),
        "cold, TLS",
    ),
    (
        "`import masscancel`, of `import aiohttp, msgspec`",
        "≤",
        1.15,
        _ratio("import", "ms", "masscancel", "aiohttp, msgspec"),
        "",
    ),
    ('p99 of `via="both"`, of REST alone, 2 % stalled', "≤", 0.10, _tail, ""),
    (
        "a cancel's way to the venue behind 1,000 listings, of an idle one's",
        "≤",
        3.0,
        lambda outcome: (
            _median("behind others", "behind listings", "us")(outcome)
            / _median("behind others", "idle", "us")(outcome)
        ),
        "",
    ),
]


def judge(outcome: Outcome) -> list[dict[str, Any]]:
    """Each target that could be measured: the figure, and whether it is reached."""
    judged = []
    for what, sign, target, figure, profile in TARGETS:
        try:
            measured = figure(outcome)
        except (KeyError, IndexError):  # that case was not run
            continue
        reached = measured <= target if sign == "≤" else measured >= target
        judged.append(
            {
                "what": what,
                "target": f"{sign} {target:.2f}",
                "measured": measured,
                "reached": reached,
                "profile": "" if reached else profile,
            }
        )
    return judged


#: How each kind of case was made, by how its name begins: title, text, columns of what is measured.
_KINDS: list[tuple[str, str, str, dict[str, str]]] = [
    (
        "rest",
        "One call after the other, REST",
        "One symbol of one account.",
        {"median µs": "median", "CPU µs": "cpu"},
    ),
    (
        "stream",
        "… on the stream",
        "The floor by REST is beside it.",
        {"median µs": "median", "CPU µs": "cpu"},
    ),
    (
        "burst",
        "A burst of 64",
        (
            "64 symbols of one account at once, on connections that are there; the time of one of "
            "them. The demo blocks, so its calls follow one another."
        ),
        {"µs": "wall", "CPU µs": "cpu"},
    ),
    (
        "fan-out",
        "Fan-out",
        (
            "10 symbols of many accounts: `cancel_many` over clients that share a pool, beside a "
            "bare `asyncio.Semaphore(64)` and `gather` over one session; the time of one target."
        ),
        {"µs": "wall", "CPU µs": "cpu"},
    ),
    (
        "cold",
        "Cold start",
        "From nothing to the first Ack, in a process that has imported everything.",
        {"ms": "ms"},
    ),
    (
        "first burst",
        "A client's first burst over TLS",
        (
            "64 at once, the first that the client does. `ours-ready` has declared `burst=64`; "
            "`ours` keeps three connections warm."
        ),
        {"handshakes": "handshakes", "ms": "ms"},
    ),
    ("import", "Imports", "Each in a fresh interpreter; modules compiled.", {"ms": "ms"}),
    (
        "tail",
        "The tail",
        "2 % of the requests, REST or stream alike, are answered 200 ms late.",
        {"median µs": "median"},
    ),
    (
        "behind others",
        "Behind others",
        (
            "A cancel every 10 ms while 1,000 tasks list open orders of a venue that takes a "
            "second: from the call until the request has arrived."
        ),
        {"µs": "us"},
    ),
]


def tables(outcome: Outcome) -> list[tuple[str, str, list[str], Rows]]:
    """Title, how it was made, header and rows of each table."""
    made = []
    for kind, title, how, columns in _KINDS:
        cases = [case for case in outcome["cases"] if case.startswith(kind)]
        rows = []
        for case in cases:
            part = case.removeprefix(kind).lstrip(":, ")
            for who in _by(outcome, case, next(iter(columns.values()))):
                cuts = outcome["quantiles"].get(case, {}).get(who)
                rows.append(
                    [f"{who}, {part}" if part else who]
                    + [_text(_median(case, who, key)(outcome)) for key in columns.values()]
                    + ([_text(cuts[99])] if cuts else [])
                )
        p99 = ["p99 µs"] if any(outcome["quantiles"].get(case) for case in cases) else []
        if rows:
            made.append((title, how, ["", *columns, *p99], rows))
    return made


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _by(outcome: Outcome, case: str, key: str) -> list[str]:
    return sorted(outcome["cases"][case], key=lambda who: _median(case, who, key)(outcome))


def _target_rows(outcome: Outcome) -> Rows:
    return [
        [
            each["what"],
            each["target"],
            f"{each['measured']:.2f}",
            "reached" if each["reached"] else "**not reached**",
        ]
        for each in outcome["targets"]
    ]


def _profiles(outcome: Outcome) -> list[tuple[str, Rows]]:
    """Where the time goes in what is not reached."""
    wanted = {each["profile"]: None for each in outcome["targets"] if each["profile"]}
    return [
        (case, [[f"`{name}`", f"{calls:.1f}", f"{own:.1f}"] for name, calls, own in rows])
        for case in wanted
        for rows in [outcome["profiles"].get(case, [])]
    ]


_TARGETS = ["", "target", "measured", ""]
_PROFILE = ["function", "calls", "own µs"]


def show(outcome: Outcome, console: Console) -> None:
    """Print everything."""
    printed = [(title, header, rows) for title, _, header, rows in tables(outcome)]
    printed += [(case, _PROFILE, rows) for case, rows in _profiles(outcome)]
    printed.append(("Targets", _TARGETS, _target_rows(outcome)))
    for title, header, rows in printed:
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(header):
            table.add_column(column, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for who, why in outcome["skipped"].items():
        console.print(f"skipped: {who}, {why}")


def write_page(outcome: Outcome, path: Path) -> None:
    """Write RESULTS.md."""
    machine = outcome["machine"]
    lines = [
        "# Speed, side by side",
        "",
        "Made by `make bench` (`benchmarks/run.py`); not edited by hand. All contenders live in",
        "one process, and a server in a process of its own answers them over loopback, each on a",
        f"core of its own. Each of {outcome['rounds']} rounds visits every contender for some",
        "milliseconds, in a new order. A ratio is the median of the rounds' ratios; other figures",
        "are medians of the rounds, and hold for this machine only. CPU is the client's process's.",
        "",
        *_markdown(["", ""], [[name, str(value)] for name, value in machine.items()]),
        "## Targets",
        "",
        "*Plain* is idiomatic aiohttp (`session.delete`, `hmac`, `json`), *the floor* a",
        "hand-written asyncio protocol that trusts everything.",
        "",
        *_markdown(_TARGETS, _target_rows(outcome)),
    ]
    for title, how, header, rows in tables(outcome):
        lines += [f"## {title}", "", how, "", *_markdown(header, rows)]
    lines += [
        "![latency](latency.svg)",
        "",
        "## Where the time goes, in what is not reached",
        "",
        "By cProfile, which makes calls of Python's look more expensive than they are; for one",
        "call, and for all of a cold start.",
        "",
    ]
    for case, rows in _profiles(outcome):
        lines += [f"### {case}", "", *_markdown(_PROFILE, rows)]
    lines += [f"Skipped: {who}, {why}.\n" for who, why in outcome["skipped"].items()]
    path.write_text("\n".join(lines).rstrip() + "\n")


def _markdown(header: list[str], rows: Iterable[list[str]]) -> list[str]:
    aligned = ["---", *("---:" for _ in header[1:])]
    return [f"| {' | '.join(row)} |" for row in (header, aligned, *rows)] + [""]


def plot(outcome: Outcome, path: Path) -> None:
    """Draw the latencies as SVG; nothing without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "masscancel"  # the same file for the same figures
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(9, 5))
    series = {**outcome["quantiles"]["stream"], **outcome["quantiles"]["rest"]}
    shares = [0.1, *range(1, 100), 99.9]
    for who in sorted(series):
        color = f"C{list(CONTENDERS).index(who.partition(' ')[0])}"  # the same on both loops
        dashed = "--" if "uvloop" in who else "-"
        axes.plot(series[who], shares, dashed, color=color, label=who, linewidth=1.2)
    axes.set(
        xscale="log",
        xlabel="µs per call",
        ylabel="% of the calls",
        title="One call after the other",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
