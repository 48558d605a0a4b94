"""The accounts that a command acts on: the options that choose them from the accounts file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from masscancel import Accounts, ConfigurationError
from masscancel.venues import VENUES

__all__ = ["AccountsFile", "OnlyVenue", "Selectors", "Tags", "chosen"]

Selectors = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SELECTOR",
        help="Names of accounts, such as 'mm-*'; all that match any.",
        show_default="every account",
    ),
]
AccountsFile = Annotated[
    Path | None,
    typer.Option(
        "--accounts",
        metavar="FILE",
        help="The accounts file.",
        show_default="$MASSCANCEL_ACCOUNTS, ./masscancel.toml, the user's",
    ),
]
OnlyVenue = Annotated[
    str | None,
    typer.Option(
        "--venue",
        metavar="NAME",
        help="Accounts of this exchange only.",
        show_default=False,
        autocompletion=lambda: list(VENUES),
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="NAME=VALUE",
        help="Accounts with this tag only. Once for each; all of them.",
        show_default=False,
    ),
]


def chosen(
    path: Path | None,
    selectors: Sequence[str] | None,
    venue: str | None,
    tags: Sequence[str] | None,
    *,
    strict: bool,
    discover: bool = False,
) -> tuple[Accounts, tuple[str, ...]]:
    """The accounts that the options choose, and the names of those that they leave out.

    Raises:
        ConfigurationError: there is no such file, it can't be read, or an option matches nothing.
    """
    wanted: dict[str, str] = {}
    for tag in tags or ():
        name, equals, value = tag.partition("=")
        if not equals or not name:
            raise ConfigurationError("--tag takes NAME=VALUE, such as --tag desk=mm")
        if wanted.setdefault(name, value) != value:
            raise ConfigurationError(f"--tag {name} is given twice: no account has both")
    every = Accounts.load(path, strict=strict, discover=discover)
    accounts = every.select(*selectors or (), venue=venue, tags=wanted)
    names = {each.name for each in accounts} | {each.name for each in accounts.unreadable}
    others = [each.name for each in (*every, *every.unreadable) if each.name not in names]
    return accounts, tuple(dict.fromkeys(others))
