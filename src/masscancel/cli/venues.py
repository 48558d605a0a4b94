"""``venues``: what each venue can and can't do, from the venue's own data."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from rich.text import Text

from masscancel import ConfigurationError
from masscancel.cli.options import AsJson, load
from masscancel.cli.render import Cell, Column, Screen, Sheet, complain, print_json
from masscancel.cli.status import Status
from masscancel.venues import VENUES
from masscancel.venues.base import Abilities, Venue
from masscancel.venues.settings import settings_of

__all__ = ["venues"]

#: What each column shows of a category.
_Shown = tuple[str, Callable[[Abilities], object], bool]
_CANCELLED: Final[Sequence[_Shown]] = (
    ("symbol, such as", lambda can: can.symbols.example, True),
    ("all", lambda can: can.whole_account, False),
    ("one symbol", lambda can: can.one_symbol, False),
    ("Ack tells", lambda can: can.ack, True),
    ("id", lambda can: can.echoes_id, True),
    ("updates", lambda can: can.stream, True),
)
_COVERED: Final[Sequence[_Shown]] = (
    ("books", lambda can: ", ".join(can.books), False),
    ("--book", lambda can: can.separable, True),
    ("stops", lambda can: can.stop_orders, True),
    ("contains", lambda can: ", ".join(can.contains) or None, False),
    ("out of reach", lambda can: ", ".join(can.unreachable) or None, False),
    ("settle", lambda can: f"{can.settle:g} s", True),
    ("switch", lambda can: can.switch, True),
)


def venues(as_json: AsJson = False) -> int:
    """Show the venues, and what each can and can't do.

    all, one symbol: how they are cancelled. Ack tells: what the answer to a cancel says.
    id: whether a request's id comes back in it. updates: whether order updates can be followed.

    books: what a cancel covers. --book: whether some of them can be left out. stops: whether stop
    orders are cancelled too. contains: other categories whose orders are cancelled with it. out of
    reach: orders that no call cancels. settle: between the two listings of a proof. switch: what
    the venue's own dead man's switch covers. Settings: what -o takes.
    """
    kinds: list[type[Venue]] = []
    missing: dict[str, str] = {}
    for name in VENUES:
        try:
            kinds.append(load(name))
        except ConfigurationError as error:
            missing[name] = str(error)
    if as_json:
        unloaded = [{"venue": name, "error": problem} for name, problem in missing.items()]
        status = Status.FAILED if missing else Status.DONE
        found = [*map(_fields, kinds), *unloaded]
        print_json({"ok": not missing, "status": status, "venues": found})
    else:
        cancelled = _sheet("How they are cancelled", kinds, _CANCELLED)
        Screen().show(cancelled, _sheet("What that covers", kinds, _COVERED), _settings(kinds))
    for problem in missing.values():
        complain(problem)
    return Status.FAILED if missing else Status.DONE


def _sheet(title: str, kinds: Iterable[type[Venue]], shown: Sequence[_Shown]) -> Sheet:
    """A row for each category of each venue."""
    columns = [Column("venue", style="bold", whole=True), Column("category", whole=True)]
    columns += [Column(header, whole=whole) for header, _, whole in shown]
    rows: list[Sequence[Cell]] = [
        (kind.name, category, *(_word(read(abilities)) for _, read, _ in shown))
        for kind in kinds
        for category, abilities in kind.abilities.items()
    ]
    return Sheet(title=title, columns=columns, rows=rows)


def _settings(kinds: Iterable[type[Venue]]) -> Sheet:
    columns = (Column("venue", style="bold"), Column("-o"), Column("type"), Column("default"))
    rows = [
        (
            kind.name,
            f"{each.name}=",
            each.type,
            "must be given" if each.required else each.default or "-",
        )
        for kind in kinds
        for each in settings_of(kind)
    ]
    return Sheet(title="Settings", columns=columns, rows=rows)


def _word(value: object) -> Text:
    if value is None or value is False:
        return Text("no", "dim")
    return Text("yes", "green") if value is True else Text(str(value))


def _fields(kind: type[Venue]) -> dict[str, Any]:
    categories = {
        category: {**msgspec.structs.asdict(abilities), "symbols": abilities.symbols.example}
        for category, abilities in kind.abilities.items()
    }
    return {
        "venue": kind.name,
        "title": kind.title,
        "settings": settings_of(kind),
        "categories": categories,
    }
