"""``venues``: what each venue can and can't do, from the venue's own data."""

from typing import Any, Final

import msgspec
from rich.text import Text

from masscancel.cli.options import AsJson, settings_of
from masscancel.cli.render import Cell, Column, Screen, Sheet, print_json
from masscancel.cli.status import Status
from masscancel.venue import Abilities, Venue
from masscancel.venues import VENUES, load

__all__ = ["venues"]

#: Short headers for a narrow terminal; an ability without one goes by its own name.
_HEADERS: Final = {
    "whole_account": "all",
    "one_symbol": "one symbol",
    "ack": "Ack tells",
    "echoes_id": "id",
    "stop_orders": "stops",
    "switch": "switch",
}
#: Those told in several words, which may be broken.
_WORDY: Final = frozenset({"whole_account", "one_symbol"})


def venues(as_json: AsJson = False) -> int:
    """Show the venues, and what each can and can't do.

    all, one symbol: how they are cancelled. Ack tells: what the answer to a cancel says.
    id: whether a request's id comes back in it. stops: whether stop orders are cancelled too.
    stream: whether order updates can be followed. switch: what the venue's own dead man's switch
    covers. Settings: what -o takes.
    """
    kinds = [load(name) for name in VENUES]
    if as_json:
        print_json([_fields(kind) for kind in kinds])
        return Status.DONE
    Screen().show(_abilities(kinds), _settings(kinds))
    return Status.DONE


def _abilities(kinds: list[type[Venue]]) -> Sheet:
    names = Abilities.__struct_fields__
    columns = [Column("venue", style="bold", whole=True), Column("category", whole=True)]
    columns += [
        Column(_HEADERS.get(name, name.replace("_", " ")), whole=name not in _WORDY)
        for name in names
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            kind.name,
            category,
            *(_word(value) for value in msgspec.structs.asdict(abilities).values()),
        )
        for kind in kinds
        for category, abilities in kind.abilities.items()
    ]
    return Sheet(columns=columns, rows=rows)


def _settings(kinds: list[type[Venue]]) -> Sheet:
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
    return {"venue": kind.name, "settings": settings_of(kind), "categories": kind.abilities}
