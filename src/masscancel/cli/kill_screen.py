"""What a kill shows: a table that fills while it runs, or a line for each row that has ended."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from masscancel import OpenOrder
from masscancel.cli.kill_rows import Row, Rows, tally
from masscancel.cli.lines import Lines
from masscancel.cli.render import Cell, Column, Screen, Sheet, clean
from masscancel.cli.status import KillStatus
from masscancel.cli.verbosity import is_verbose

__all__ = ["Watched", "say_rows"]

_STYLES: Final = {"flat": "green", "listed": "green", "waiting": "dim", "sent": "", "received": ""}


class Watched:
    """Shows rows while they fill: a table on a terminal; in a pipe, a line for each that ends.

    Args:
        rows: the rows.
        dry_run: whether nothing is cancelled.
        quiet: whether to show nothing.
    """

    def __init__(self, rows: Rows, *, dry_run: bool, quiet: bool) -> None:
        self._rows = rows
        self._dry_run = dry_run
        self._screen = Screen(quiet=quiet)
        self._is_lively = self._screen.lively and not is_verbose()
        self._lines: Lines | None = None
        if not quiet and not self._is_lively:
            self._lines = Lines()
        columns = sheet_of(rows, dry_run=dry_run).columns
        self._headers = [column.header for column in columns]
        who = [self._headers[:3], *map(_who, rows.each)]
        self._widths = [max(map(len, cells)) for cells in zip(*who, strict=True)]

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show them meanwhile. What can't be shown stops nothing."""
        if self._lines is not None:
            self._write(self._headers)
            for row in self._rows.each:
                if row.problem:
                    self.tell(row)
            try:
                yield
            finally:
                self._lines.close()
        elif self._is_lively:
            live = Live(
                console=self._screen.console,
                get_renderable=self._table,
                refresh_per_second=10,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            with suppress(OSError):
                live.start()
            try:
                yield
            finally:
                with suppress(OSError):
                    live.stop()
        else:
            yield

    def _table(self) -> RenderableType:
        return sheet_of(self._rows, dry_run=self._dry_run).table()

    def tell(self, row: Row) -> None:
        """Say in a line what became of a row, where nobody watches a table."""
        self._write([*_who(row), *map(str, _cells(row, dry_run=self._dry_run))])

    def _write(self, cells: Sequence[str]) -> None:
        if self._lines is not None:
            widths = [*self._widths, 10, *[8] * (len(cells) - len(self._widths) - 2), 0]
            padded = [clean(cell).ljust(width) for cell, width in zip(cells, widths, strict=True)]
            self._lines.write("  ".join(padded).rstrip())


def say_rows(rows: Rows, *, dry_run: bool) -> None:
    """Show the whole table at the end, on a terminal; a pipe has had its lines."""
    if sys.stdout.isatty():
        with suppress(OSError):
            Screen().show(sheet_of(rows, dry_run=dry_run))


def sheet_of(rows: Rows, *, dry_run: bool) -> Sheet:
    """A line for each row."""
    columns = [*map(Column, ("account", "venue", "category")), Column("outcome", whole=True)]
    columns += [Column("Ack ms", "right"), Column("proof ms", "right"), Column("orders")]
    if dry_run:
        columns[4:6] = [Column("ms", "right")]
    cells = [[*_who(row), *_cells(row, dry_run=dry_run)] for row in rows.each]
    return Sheet(columns=columns, rows=cells)


def _who(row: Row) -> tuple[str, str, str]:
    return row.name, row.venue or "?", row.category or "-"


def _cells(row: Row, *, dry_run: bool) -> Sequence[Cell]:
    unknown = "bold red" if row.status is KillStatus.UNKNOWN or row.word == "not flat" else "red"
    word = Text(row.word, _STYLES.get(row.word, unknown))
    ends = [_ms(row.elapsed)] if dry_run else [_ms(row.acked), _ms(row.elapsed)]
    return [word, *ends, _orders(row)]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"


def _orders(row: Row) -> str:
    """How many orders are open, or were cancelled, as far as that is known."""
    if row.orders is not None:
        return _counted(row.orders)
    proof = row.outcome.confirmation if row.outcome is not None else None
    if proof is None:
        return "-"
    cancelled = proof.cancelled
    if cancelled is None:  # where no order was seen to go, an answer may have said so
        told = [ack.cancelled for ack in proof.acks if ack.cancelled is not None]
        cancelled = tuple({each: None for ids in told for each in ids}) if told else None
    said = [("cancelled", cancelled), ("filled", proof.filled)]
    words = [f"{len(ids)} {word}" for word, ids in said if ids is not None]
    if row.seen:
        words.append(f"seen: {_counted(row.seen)}")
    return ", ".join(words) or "-"


def _counted(orders: Sequence[OpenOrder]) -> str:
    return ", ".join(f"{number} {word}" for word, number in tally(orders).items())
