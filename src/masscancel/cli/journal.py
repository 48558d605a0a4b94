"""``journal``: what was done, by whom, why and when; and whether somebody has changed that."""

import csv
import io
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import typer
from rich.text import Text

from masscancel import ConfigurationError
from masscancel.calls import Scope
from masscancel.cli.options import AsJson
from masscancel.cli.render import Screen, clean, complain, moment, print_json, remark, write
from masscancel.cli.status import Known, Status
from masscancel.events import Event
from masscancel.journal import Head, Row, Selection, default_path, rows, verify

__all__ = ["journal"]

#: How often to look for new rows, in seconds.
_LOOK: Final = 0.2
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COLUMNS: Final = (
    *("number", "time_ms", "time", "actor", "kind", "account", "kill_id", "call_id", "reason"),
    *("event", "hash"),
)


def journal(
    ctx: typer.Context,
    action: Annotated[
        Literal["list", "export", "verify"],
        typer.Argument(metavar="[list|export|verify]", help="What to do."),
    ] = "list",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="The journal.",
            show_default="in the user's state folder",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Not before: 15m, 2h, 1d ago, or 2026-01-31T03:00, UTC."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Not after; likewise.")
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            "--account", metavar="SELECTOR", help="Of these accounts only, such as 'mm-*'."
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="NAME", help="This kind only, as KillEnded.")
    ] = None,
    kill: Annotated[
        str | None, typer.Option("--kill", metavar="ID", help="Of this kill only: all its rows.")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=0, help="list: no more than these; 0: all.")
    ] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="list: go on as rows are added, until Ctrl-C.")
    ] = False,
    layout: Annotated[
        Literal["jsonl", "csv"], typer.Option("--format", help="export: as which text.")
    ] = "jsonl",
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="COUNT:HASH",
            help="verify: a head that was printed after a kill, to find what was cut off.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List, export or verify the journal: every kill, call, attempt, outcome, gate and switch.

    'guard' and 'kill' write it. Each row is chained to the one before by SHA-256. 'verify' ends
    with status 1 if a row was changed, removed or swapped. Only with --head does it find that rows
    were cut off the end, or that the whole was made anew: keep heads where nobody can change them.

    Try:

      masscancel journal --since 1h
      masscancel journal --kind KillEnded --last 1
      masscancel journal export --format csv --kill 82ef5c49 > kill.csv
      masscancel journal verify --head 3003:95db...
    """
    known: Known = ctx.obj
    known.done("reading a journal changes nothing")
    path = file or default_path()
    if action == "verify":
        return _verify(path, None if head is None else Head.parse(head), as_json=as_json)
    if head is not None:
        raise ConfigurationError("--head is for 'masscancel journal verify'")
    chosen = Selection(
        account=account,
        kind=_kind(kind),
        kill=kill,
        since_ms=float("-inf") if since is None else _time_ms("--since", since),
        until_ms=float("inf") if until is None else _time_ms("--until", until),
    )
    if action == "export":
        return _export(path, chosen, layout)
    return _list(path, chosen, last, follow=follow, as_json=as_json)


def _kind(kind: str | None) -> str | None:
    """Check the name of a kind of event.

    Raises:
        ConfigurationError: there is none.
    """
    names = sorted(_kinds(Event))
    if kind is not None and kind.lower() not in map(str.lower, names):
        raise ConfigurationError(f"there is no kind {kind!r}; there are: {', '.join(names)}")
    return kind


def _kinds(of: type[Event]) -> Iterator[str]:
    """The names of the kinds of events that there are."""
    for each in of.__subclasses__():
        if not each.__name__.startswith("_"):
            yield each.__name__
        yield from _kinds(each)


def _time_ms(option: str, text: str) -> float:
    """Read a time, in ms since the epoch.

    Raises:
        ConfigurationError: it is none.
    """
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip()):
        return (time.time() - float(match[1]) * _UNITS[match[2]]) * 1000
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        problem = f"{option} takes 15m, 2h, 1d or a date with or without a time, not {text!r}"
        raise ConfigurationError(problem) from None
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp() * 1000


# Listing.


def _list(path: Path, chosen: Selection, last: int, *, follow: bool, as_json: bool) -> int:
    found: deque[Row] = deque(maxlen=last or None)
    number = matching = 0
    for row in rows(path):
        number = row.number
        if chosen.takes(row):
            matching += 1
            found.append(row)
    if as_json and not follow:
        listed = [row.to_dict() for row in found]
        left_out = matching - len(listed)
        print_json({"ok": True, "status": Status.DONE, "left_out": left_out, "rows": listed})
        return Status.DONE
    show: Callable[[Row], bool] = _json_line if as_json else _line
    if matching > len(found):
        remark(f"the last {len(found)} of {matching} rows; --last 0 shows all")
    elif not matching:
        remark("no row is so" if number else "the journal has no rows")
    try:
        for row in found:
            if not show(row):
                return Status.DONE
        while follow:
            for row in rows(path, number):
                number = row.number
                if chosen.takes(row) and not show(row):
                    return Status.DONE
            time.sleep(_LOOK)
    except KeyboardInterrupt:  # how following ends
        if not follow:
            raise
    return Status.DONE


def _json_line(row: Row) -> bool:
    return print_json(row.to_dict())


def _line(row: Row) -> bool:
    """Show a row on a line; whether somebody still reads."""
    event = row.event
    failed = event.get("ok") is False or event.get("failed") or event.get("error")
    when = "-" if row.time_ms is None else moment(row.time_ms).removesuffix(" UTC")
    return Screen().show(
        Text.assemble(
            (f"{row.number:>6} {when} ", "dim"),
            (f"{clean(row.kind):<13} ", "bold red" if failed else "bold"),
            clean(_words(row)),
        )
    )


def _words(row: Row) -> str:
    """What happened. Who tampers may have written anything."""
    event = defaultdict(lambda: "?", row.event)
    attempt = f"attempt {event['attempt']} of call {event['call_id']}"
    call = f"{event['name']} {_scope(event)} on {event['venue']} [{event['account']}]"
    match row.kind:
        case "KillStarted":
            who = event["actor"] or row.actor
            of = f" of {event['what']}" if event["what"] else ""
            reason = f": {event['reason']}" if event["reason"] else ""
            return f"kill {event['kill_id']}{of}, by {who}{reason}"
        case "KillEnded":
            of_these = f"{event['failed']} failed, {event['unknown']} unknown"
            ended = f", ended by {event['error']}" if event["error"] else ""
            return f"kill {event['kill_id']}: {event['targets']} targets, {of_these}{ended}"
        case "TargetEnded":
            return f"{_scope(event)} [{event['account']}]: {event['outcome']}"
        case "CallStarted":
            return f"{call}, call {event['call_id']}"
        case "CallEnded":
            ids = [
                f"{name}: {', '.join(map(str, event[name]))}"
                for name in ("cancelled", "filled", "residual", "left_out")
                if isinstance(event[name], list) and event[name]
            ]
            return "; ".join([f"{call}: {event['outcome']}", *ids])
        case "AttemptSent":
            return f"{attempt} to {event['origin']}, {_moment(event['sent_at_ms'])} of the venue"
        case "AttemptEnded":
            why = event["reason"]
            return f"{attempt}: {event['fate']}{f', {why}' if why else ''}"
        case "JournalOpened":
            return f"{event['program']}, by {row.actor}"
    return ", ".join(f"{name} {value}" for name, value in row.event.items())


def _scope(event: Mapping[str, Any]) -> str:
    try:
        return str(msgspec.convert(event["scope"], Scope))
    except msgspec.ValidationError:
        return "?"


def _moment(time_ms: object) -> str:
    return moment(time_ms).removesuffix(" UTC") if isinstance(time_ms, int) else "?"


# Exporting and verifying.


def _export(path: Path, chosen: Selection, layout: str) -> int:
    """Write rows out, in order, as long as somebody reads."""
    if layout == "csv" and not write(_csv(_COLUMNS)):
        return Status.DONE
    for row in rows(path):
        if chosen.takes(row) and not (
            _json_line(row) if layout == "jsonl" else write(_csv_of(row))
        ):
            break
    return Status.DONE


def _csv_of(row: Row) -> str:
    event = row.event
    when = "" if row.time_ms is None else moment(row.time_ms)
    named = [event.get(name, "") for name in ("account", "kill_id", "call_id", "reason")]
    actor = event.get("actor") or row.actor
    whole = msgspec.json.encode(event).decode()
    return _csv([row.number, row.time_ms, when, actor, row.kind, *named, whole, row.hash])


def _csv(cells: Iterable[object]) -> str:
    """A line of CSV; what would steer a terminal, or turn a line around, is escaped."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(clean(str(cell)) for cell in cells)
    return line.getvalue()


def _verify(path: Path, head: Head | None, *, as_json: bool) -> int:
    verdict = verify(path, head)
    status = Status.DONE if verdict.ok else Status.FAILED
    if as_json:
        print_json({"status": status, "path": str(path), **verdict.to_dict()})
    elif verdict.ok:
        Screen().show(Text(f"{clean(str(verdict))}\nhead {verdict.head}"))
    for problem in verdict.problems:
        complain(f"{path}: {problem}")
    return status
