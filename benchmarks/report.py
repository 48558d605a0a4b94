"""From what was measured to targets, tables and plots."""

import importlib
import importlib.util
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import CONTENDERS
from rich.console import Console
from rich.table import Table

Outcome = dict[str, Any]
Row = list[str]


def _rounds(outcome: Outcome, case: str, who: str, *path: str) -> list[float]:
    """One number per round; raises ``KeyError`` if it was not measured."""
    values = []
    for measured in outcome["cases"][case][who]:
        value = measured
        for step in path:
            value = value[step]
        values.append(statistics.median(value) if isinstance(value, list) else value)
    return values


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def _against(case: str, path: Sequence[str], ours: str, theirs: str) -> Callable[[Outcome], float]:
    return lambda outcome: _ratio(
        _rounds(outcome, case, ours, *path), _rounds(outcome, case, theirs, *path)
    )


def _per_target(outcome: Outcome) -> float:
    few, *_, many = sorted(outcome["cases"]["fan-out"]["ours"][0], key=int)
    return _ratio(
        _rounds(outcome, "fan-out", "ours", many, "wall"),
        _rounds(outcome, "fan-out", "ours", few, "wall"),
    )


def _whole(outcome: Outcome) -> float:
    *_, many = sorted(outcome["cases"]["fan-out"]["ours"][0], key=int)
    return _against("fan-out", (many, "seconds"), "ours", "aiohttp")(outcome)


def _tail(outcome: Outcome) -> float:
    tails = outcome["tails"]
    return float(tails["ours-both"] / tails["ours"])


def _queue(case: str) -> Callable[[Outcome], float]:
    return lambda outcome: (
        statistics.median(_rounds(outcome, case, "ours", "written"))
        / statistics.median(_rounds(outcome, "queued: idle", "ours", "written"))
    )


def _burst(outcome: Outcome) -> float:
    return _ratio(
        _rounds(outcome, "burst", "ours-stream", "rates"),
        _rounds(outcome, "burst", "aiohttp", "rates"),
    )


#: What is compared, how it must compare, and the figure itself.
TARGETS: list[tuple[str, str, float, Callable[[Outcome], float]]] = [
    (
        "REST, sequential, CPU per call, against idiomatic aiohttp",
        "≤",
        1.00,
        _against("rest", ("cpu",), "ours", "aiohttp"),
    ),
    (
        "REST, sequential median, against ccxt 4.5.63, both on asyncio",
        "≤",
        0.80,
        _against("rest", ("median",), "ours", "ccxt"),
    ),
    (
        "REST, burst of 64, throughput against idiomatic aiohttp",
        "≥",
        1.0,
        _against("burst", ("rates",), "ours", "aiohttp"),
    ),
    (
        "stream, sequential median, against the raw floor (REST), asyncio",
        "≤",
        1.30,
        _against("stream", ("median",), "ours-stream", "raw"),
    ),
    (
        "the same on uvloop",
        "≤",
        1.30,
        _against("stream", ("median",), "ours-stream (uvloop)", "raw (uvloop)"),
    ),
    (
        "stream, sequential median, against the raw floor (websocket), asyncio",
        "≤",
        1.30,
        _against("stream", ("median",), "ours-stream", "raw-stream"),
    ),
    ("stream, burst of 64, throughput against idiomatic aiohttp over REST", "≥", 5.0, _burst),
    (
        "fan-out, wall time against a bare semaphore and gather over aiohttp",
        "≤",
        1.10,
        _whole,
    ),
    ("cost per target, the largest fan-out against the smallest", "≤", 1.15, _per_target),
    (
        "`import masscancel` against `import aiohttp, msgspec`",
        "≤",
        1.15,
        _against("imports", ("ms",), "import masscancel", "import aiohttp, msgspec"),
    ),
    ("hedged p99 against plain p99, 2 % stalled", "≤", 0.10, _tail),
    (
        "first byte of a cancel, 1,000 listings waiting on a slow venue, against idle",
        "≤",
        3.0,
        _queue("queued: slow venue"),
    ),
    (
        "the same while a venue answers them at once, so that the loop is never idle",
        "≤",
        3.0,
        _queue("queued: busy loop"),
    ),
]


def judge(outcome: Outcome) -> list[dict[str, Any]]:
    """Each target that could be measured: the ratio, and whether it is reached."""
    judged = []
    for what, sign, target, measure in TARGETS:
        try:
            ratio = measure(outcome)
        except (KeyError, ValueError):  # that case was not run, or somebody was skipped
            continue
        reached = ratio <= target if sign == "≤" else ratio >= target
        judged.append(
            {"what": what, "target": f"{sign} {target:.2f}", "ratio": ratio, "reached": reached}
        )
    return judged


def tables(outcome: Outcome) -> list[tuple[str, str, Row, list[Row]]]:
    """Title, how it was made, header and rows of each table."""
    cases, sizes = outcome["cases"], outcome["sizes"]
    made = []
    for case, title in (("rest", "One call after the other, REST"), ("stream", "… on the stream")):
        if case in cases:
            rows = [
                [
                    who,
                    _us(outcome, case, who, "median"),
                    _us(outcome, case, who, "p99"),
                    _us(outcome, case, who, "cpu"),
                ]
                for who in _by(outcome, case, "median")
            ]
            how = (
                f"{sizes['calls']} calls a round (a quarter for httpx and the demo), "
                f"{sizes['rounds']} rounds, one symbol of one account. Medians over the rounds; "
                "CPU is `time.process_time` of the client's process."
            )
            made.append((title, how, ["contender", "median µs", "p99 µs", "CPU µs/call"], rows))
    if "burst" in cases:
        rows = [
            [
                who,
                f"{statistics.median(_rounds(outcome, 'burst', who, 'rates')):,.0f}",
                _us(outcome, "burst", who, "cpu"),
            ]
            for who in reversed(_by(outcome, "burst", "rates"))
        ]
        how = (
            f"64 symbols of one account at once, {sizes['bursts']} bursts a round, "
            f"{sizes['rounds']} rounds. The demo blocks, so its calls follow one another."
        )
        made.append(("A burst of 64", how, ["contender", "calls/s", "CPU µs/call"], rows))
    if "fan-out" in cases:
        rows = [
            [who, f"{int(count):,}"]
            + [
                f"{statistics.median(_rounds(outcome, 'fan-out', who, count, k)):.0f}"
                for k in ("wall", "cpu")
            ]
            + [f"{statistics.median(_rounds(outcome, 'fan-out', who, count, 'seconds')):.2f}"]
            for who in sorted(cases["fan-out"])
            for count in sorted(cases["fan-out"][who][0], key=int)
        ]
        how = (
            "10 symbols of many accounts, 64 requests in flight: `cancel_many` over clients that "
            "share a pool, beside a bare `asyncio.Semaphore` and `gather` over one session."
        )
        header = ["contender", "targets", "µs/target", "CPU µs/target", "seconds"]
        made.append(("Fan-out", how, header, rows))
    for case, title, how in (
        (
            "cold start",
            "Cold start",
            "From starting the process, its modules compiled, to the first acknowledgement.",
        ),
        (
            "imports",
            "Imports",
            "In fresh interpreters, around the import statement; modules compiled.",
        ),
    ):
        if case in cases:
            rows = [[who, _us(outcome, case, who, "ms")] for who in _by(outcome, case, "ms")]
            made.append((title, f"{how} Median of {sizes['colds']}.", ["", "ms"], rows))
    queue = [case for case in cases if case.startswith("queued")]
    if queue:
        rows = [
            [
                case.partition(": ")[2],
                _us(outcome, case, "ours", "written"),
                _us(outcome, case, "ours", "answered"),
            ]
            for case in queue
        ]
        how = (
            f"A cancel every 10 ms while {sizes['queued']:,} tasks list open orders over and over "
            "on the same pool (64 in flight). *Written*: from the call to the socket's `send` of "
            "the request, by the client's clock."
        )
        made.append(("Behind others", how, ["", "written µs", "answered µs"], rows))
    confirms = [case for case in cases if case.startswith("confirm")]
    if confirms:
        rows = [
            [case.partition(": ")[2]]
            + [_us(outcome, case, "ours", key) for key in ("elapsed", "sweeps")]
            for case in confirms
        ]
        how = "From the call to the Confirmation, settle 100 ms, two orders open before."
        made.append(("Confirmation", how, ["", "ms", "sweeps"], rows))
    if "hedge" in cases:
        rows = [
            [who, _us(outcome, "hedge", who, "median"), f"{outcome['tails'][who]:,.0f}"]
            for who in sorted(cases["hedge"])
        ]
        how = (
            "2 % of the requests, REST or stream alike, are answered 200 ms late; "
            f"{sizes['hedges']} calls a round, {sizes['rounds']} rounds, p99 of all together."
        )
        made.append(("The tail", how, ["contender", "median µs", "p99 µs"], rows))
    if "memory" in cases:
        rows = [
            [
                who,
                what,
                *(
                    f"{measured[key]:,.0f}" if key in measured else ""
                    for key in ("traced", "resident")
                ),
            ]
            for who, (kinds,) in sorted(cases["memory"].items())
            for what, measured in kinds.items()
        ]
        how = (
            "Idle clients that share a pool; the peak of a fan-out above what there was before. "
            "By `tracemalloc` and, for clients, the growth of resident memory."
        )
        made.append(("Memory", how, ["contender", "", "bytes traced", "bytes resident"], rows))
    return made


def _us(outcome: Outcome, case: str, who: str, key: str) -> str:
    value = statistics.median(_rounds(outcome, case, who, key))
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _by(outcome: Outcome, case: str, key: str) -> list[str]:
    kept = outcome["cases"][case]
    return sorted(kept, key=lambda who: statistics.median(_rounds(outcome, case, who, key)))


def show(outcome: Outcome, console: Console) -> None:
    """Print everything."""
    for title, how, header, rows in tables(outcome):
        table = Table(title=title, caption=how, title_justify="left", caption_justify="left")
        for number, column in enumerate(header):
            table.add_column(column, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    table = Table(title="Targets", title_justify="left")
    for column in ("what", "target", "measured", ""):
        table.add_column(column)
    for each in outcome["targets"]:
        mark = "[green]reached" if each["reached"] else "[red]not reached"
        table.add_row(each["what"], each["target"], f"{each['ratio']:.2f}", mark)
    console.print(table)
    for who, why in outcome["skipped"].items():
        console.print(f"skipped: {who}, {why}")


def write_page(outcome: Outcome, path: Path, plots: Sequence[str]) -> None:
    """Write RESULTS.md."""
    machine = outcome["machine"]
    lines = [
        "# Speed, side by side",
        "",
        "Made by `make bench` (`benchmarks/run.py`); not edited by hand. The server is a process "
        "of its own"
        + (", pinned to one core, and the clients to another" if machine["pinned"] else "")
        + "; everything goes over loopback, without TLS. Each round visits all contenders in a new "
        "order, one at a time and each in a fresh process. A ratio is the median of the rounds' "
        "ratios. Absolute figures hold for this machine only.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in machine.items() if key != "pinned"),
        "",
        "## Targets",
        "",
        *_markdown(
            ["", "target", "measured", ""],
            [
                [
                    each["what"],
                    each["target"],
                    f"{each['ratio']:.2f}",
                    "reached" if each["reached"] else "**not reached**",
                ]
                for each in outcome["targets"]
            ],
        ),
    ]
    for title, how, header, rows in tables(outcome):
        lines += [f"## {title}", "", how, "", *_markdown(header, rows)]
    lines += [f"![{Path(name).stem}]({name})\n" for name in plots]
    lines += [f"Skipped: {who}, {why}.\n" for who, why in outcome["skipped"].items()]
    path.write_text("\n".join(lines).rstrip() + "\n")


def _markdown(header: Row, rows: Sequence[Row]) -> list[str]:
    aligned = ["---", *("---:" for _ in header[1:])]
    return [f"| {' | '.join(row)} |" for row in (header, aligned, *rows)] + [""]


def plot(outcome: Outcome, out: Path) -> list[str]:
    """Draw the latencies and the fan-out's cost as SVG; nothing without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "masscancel"  # the same file for the same figures
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    drawn = []
    cases = outcome["cases"]
    if "rest" in cases:
        figure, axes = pyplot.subplots(figsize=(9, 5))
        series = {**cases["rest"], **cases.get("stream", {})}
        for who in sorted(series):
            quantiles = [
                statistics.median(each)
                for each in zip(*(r["quantiles"] for r in series[who]), strict=True)
            ]
            shares = [0.1, *range(1, 100), 99.9]
            dashed = "--" if "uvloop" in who else "-"
            axes.plot(quantiles, shares, dashed, color=_color(who), label=who, linewidth=1.2)
        axes.set(
            xscale="log",
            xlabel="µs per call",
            ylabel="% of the calls",
            title="One call after the other",
        )
        drawn.append(_save(pyplot, figure, axes, out / "latency.svg"))
    if "fan-out" in cases:
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for who in sorted(cases["fan-out"]):
            counts = sorted(cases["fan-out"][who][0], key=int)
            costs = [
                statistics.median(_rounds(outcome, "fan-out", who, count, "wall"))
                for count in counts
            ]
            line = "o--" if "uvloop" in who else "o-"
            axes.plot([int(count) for count in counts], costs, line, color=_color(who), label=who)
        axes.set(
            xscale="log", ylim=(0, None), xlabel="targets", ylabel="µs per target", title="Fan-out"
        )
        drawn.append(_save(pyplot, figure, axes, out / "fan-out.svg"))
    return drawn


def _color(who: str) -> str:
    """One for each contender, on whichever loop."""
    return f"C{list(CONTENDERS).index(who.partition(' ')[0])}"


def _save(pyplot: Any, figure: Any, axes: Any, path: Path) -> str:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path.name
