"""How things look: tables and lines on a terminal, plain text in a pipe, JSON, a picture."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

__all__ = ["Cell", "Column", "Screen", "Sheet", "clean", "complain", "print_json", "write"]

Cell = str | Text

_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


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
    """Where a command's output goes: standard output, and a picture if one is wanted.

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

    def show(self, *things: Sheet | Text | str) -> None:
        """Show things below each other."""
        for thing in things:
            self._paint(thing)
            if self._quiet:
                continue
            if self.console.is_terminal:
                with self.console.capture() as captured:
                    self.console.print(_rich(thing))
                write(captured.get())
            else:
                write((thing.plain() if isinstance(thing, Sheet) else str(thing)) + "\n")

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
    """What rich can print. Text is never taken for markup."""
    if isinstance(thing, str):
        return Text(thing)
    return thing.table() if isinstance(thing, Sheet) else thing


def clean(text: str) -> str:
    """A peer's text on one line, without what would steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def write(text: str) -> None:
    """Write to standard output. If its reader has gone, the rest is for nobody."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any) -> None:
    """One JSON value on one line."""
    write(msgspec.json.encode(value).decode() + "\n")


def complain(text: str) -> None:
    """One line on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("masscancel: ", "bold red"), clean(text)), soft_wrap=True)
