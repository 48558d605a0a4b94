"""The look of things: tables and lines on a terminal, plain text in a pipe, JSON, a picture."""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

__all__ = [
    "Cell",
    "Column",
    "Screen",
    "Sheet",
    "clean",
    "complain",
    "count",
    "moment",
    "named",
    "print_json",
    "remark",
    "write",
]

Cell = str | Text

_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7e]")


class Column(msgspec.Struct, frozen=True):
    """One column of a sheet: its header, its side, its style, whether its cells stay whole."""

    header: str
    justify: Literal["left", "right"] = "left"
    style: str = ""
    whole: bool = False


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A table as data: a title, columns, rows, and perhaps a row of totals."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    total: Sequence[Cell] = ()
    title: str = ""

    def plain(self) -> str:
        """Aligned columns, a row on each line; a title stands alone above them."""
        table = [[column.header for column in self.columns]]
        table += [[clean(str(cell)) for cell in row] for row in (*self.rows, self.total) if row]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        right = [column.justify == "right" for column in self.columns]
        lines = [
            "  ".join(
                cell.rjust(width) if is_right else cell.ljust(width)
                for cell, width, is_right in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in table
        ]
        return "\n".join(["", self.title] * bool(self.title) + lines)

    def table(self) -> RenderableType:
        """A table for a terminal."""
        table = Table(
            box=box.SIMPLE,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            header_style="bold",
            footer_style="bold",
            border_style="dim",
            show_footer=bool(self.total),
        )
        for index, column in enumerate(self.columns):
            table.add_column(
                column.header,
                self.total[index] if self.total else "",
                justify=column.justify,
                style=column.style,
                no_wrap=column.whole,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
        return Group(Text(), Text(self.title, "bold cyan"), table) if self.title else table


class Screen:
    """The output of a command: standard output, and a picture if one is wanted.

    Args:
        picture: the file that :meth:`save_picture` writes, ``None`` for none.
        quiet: print nothing (but paint the picture).
    """

    def __init__(self, picture: Path | None = None, *, quiet: bool = False) -> None:
        self.console = Console(highlight=False)
        self._quiet = quiet
        self._picture = picture
        self._painter = Console(
            record=True,
            width=80,
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
            legacy_windows=False,
            highlight=False,
        )

    @property
    def lively(self) -> bool:
        """Whether somebody watches: only then is anything shown that moves."""
        return not self._quiet and sys.stdout.isatty() and not self.console.is_dumb_terminal

    def show(self, *things: Sheet | Text | str) -> bool:
        """Show things below each other; whether somebody still reads."""
        shown = [self._show(thing) for thing in things]  # each, so that the picture is whole
        return all(shown)

    def _show(self, thing: Sheet | Text | str) -> bool:
        self._paint(thing)
        if self._quiet:
            return True
        if self.console.is_terminal:
            with self.console.capture() as captured:
                self.console.print(_rich(thing))
            return write(captured.get())
        return write((thing.plain() if isinstance(thing, Sheet) else str(thing)) + "\n")

    @contextmanager
    def progress(self, words: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar that advances with each call, where somebody watches; else only its end."""
        bar = Progress(
            TextColumn(f"[bold]{words}"),
            BarColumn(bar_width=48),
            MofNCompleteColumn(),
            console=self.console,
            disable=not self.lively,
        )
        task = bar.add_task("", total=total)
        with bar:
            yield lambda: bar.advance(task)
        self._paint(bar.get_renderable())
        if not self.lively and not self._quiet:
            write(f"{words} {bar.tasks[0].completed:.0f}/{total}\n")

    def _paint(self, thing: Sheet | RenderableType) -> None:
        if self._picture is not None:
            self._painter.print(_rich(thing))

    def save_picture(self, title: str) -> None:
        """Write what was shown as an SVG that asks no other machine for fonts."""
        if self._picture is not None:
            svg = self._painter.export_svg(title=title, unique_id="masscancel")
            self._picture.write_text(_FONTS.sub("", svg), encoding="utf-8")


def _rich(thing: Sheet | RenderableType) -> RenderableType:
    """Make of a value what rich prints. Text is never taken for markup."""
    if isinstance(thing, str):
        return Text(thing)
    return thing.table() if isinstance(thing, Sheet) else thing


def clean(text: str) -> str:
    """A peer's text on one line; what would steer a terminal, or turn a line around, is escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in " ".join(text.split())
    )


def count(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number or 'no'} {noun}{'s' * (number != 1)}"


def named(names: Iterable[str], *, last: str = "and") -> str:
    """Names in a sentence: ``cash, margin and futures``."""
    *first, final = names
    return f"{', '.join(first)} {last} {final}" if first else final


def moment(timestamp_ms: int) -> str:
    """Milliseconds since the epoch as date and time in UTC, if they are one a calendar has."""
    try:
        when = datetime.fromtimestamp(timestamp_ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ms} ms"
    return f"{when:%Y-%m-%d %H:%M:%S}.{timestamp_ms % 1000:03} UTC"


def write(text: str) -> bool:
    """Write to standard output. If its reader has gone, or it is full, the rest is for nobody.

    Returns:
        Whether somebody still reads.

    Raises:
        OSError: it can't be written, though somebody may read.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return False
        raise
    return True


def print_json(value: Any) -> bool:
    """One JSON value on one line; whether somebody still reads.

    What would steer a terminal, or turn a line around, is escaped: outside of ASCII, JSON has it
    only in strings.
    """
    return write(_BEYOND_ASCII.sub(_escaped, msgspec.json.encode(value).decode()) + "\n")


def _escaped(match: re.Match[str]) -> str:
    """A character as it is if it is printable, or else as JSON escapes it."""
    char = match[0]
    return char if char.isprintable() else json.dumps(char)[1:-1]


def complain(text: str) -> None:
    """One line on standard error, of something that went wrong."""
    _say(text, "bold red")


def remark(text: str) -> None:
    """One line on standard error, of something that went well."""
    _say(text, "bold")


def _say(text: str, style: str) -> None:
    """A line on standard error. Where it can't be written, the exit status has to tell."""
    console = Console(stderr=True, highlight=False)
    with console.capture() as captured:
        console.print(Text.assemble(("masscancel: ", style), clean(text)), soft_wrap=True)
    try:
        sys.stderr.write(captured.get())
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Let what is still to come vanish, so that the interpreter does not fail on it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
