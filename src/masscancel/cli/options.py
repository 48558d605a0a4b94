"""The options that commands share, and what they make: a venue, credentials, a client."""

import os
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from masscancel import Client, ConfigurationError, Credentials
from masscancel.cli.render import named
from masscancel.cli.status import Known
from masscancel.venues import VENUES
from masscancel.venues import load as load_class
from masscancel.venues.base import Venue
from masscancel.venues.settings import make_venue, settings_of

__all__ = [
    "Account",
    "AllCategories",
    "AsJson",
    "Books",
    "Categories",
    "Category",
    "EnvPrefix",
    "Seed",
    "Settings",
    "Settle",
    "Symbol",
    "Symbols",
    "Timeout",
    "VenueName",
    "credential_variables",
    "load",
]


def load(name: str) -> type[Venue]:
    """The class of the venue with that name.

    Raises:
        ConfigurationError: there is none, or what it needs is not installed.
    """
    try:
        return load_class(name)
    except ImportError as error:
        problem = f"{name} can't be loaded: {error}"
    raise ConfigurationError(problem)


def _complete_venue() -> list[str]:
    return list(VENUES)


def _complete_category(ctx: typer.Context) -> list[str]:
    name = ctx.params.get("venue")
    return [*load(name).abilities] if name in VENUES else []


def _note_json(ctx: typer.Context, wanted: bool) -> bool:
    """Have whatever goes wrong from here on told in JSON, too."""
    if isinstance(ctx.obj, Known):
        ctx.obj.as_json |= wanted
    return wanted


VenueName = Annotated[
    str | None,
    typer.Option(
        "--venue",
        metavar="NAME",
        help="Which exchange; see 'masscancel venues'.",
        show_default=False,
        autocompletion=_complete_venue,
    ),
]
Category = Annotated[
    str | None,
    typer.Option(
        "--category",
        metavar="NAME",
        help="The account category, in the venue's own words.",
        show_default=False,
        autocompletion=_complete_category,
    ),
]
Categories = Annotated[
    list[str] | None,
    typer.Option(
        "--category",
        metavar="NAME",
        help="An account category, in the venue's own words. Once for each.",
        show_default=False,
        autocompletion=_complete_category,
    ),
]
AllCategories = Annotated[
    bool, typer.Option("--all-categories", help="Every account category that the venue has.")
]
Symbol = Annotated[
    str | None,
    typer.Option("--symbol", metavar="SYMBOL", help="One symbol only.", show_default="all"),
]
Symbols = Annotated[
    list[str] | None,
    typer.Option(
        "--symbol",
        metavar="SYMBOL",
        help="This symbol only. Once for each; every category with every symbol.",
        show_default="all",
    ),
]
Books = Annotated[
    list[str] | None,
    typer.Option(
        "--book",
        metavar="NAME",
        help="This book only, such as ordinary, to leave stops alone. Once for each; "
        "'masscancel venues' lists them.",
        show_default="every book",
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="For everything, retries and all.")
]
Settle = Annotated[
    float | None,
    typer.Option(
        "--settle",
        metavar="SECONDS",
        help="Between the two empty listings of a proof; longer than an order needs to show up.",
        show_default="the venue's own",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        metavar="NAME=VALUE",
        help="A setting of the venue, such as its URL. Once for each; "
        "'masscancel venues' lists them.",
    ),
]
EnvPrefix = Annotated[
    str | None,
    typer.Option(
        "--env-prefix",
        metavar="PREFIX",
        help="Read PREFIX_API_KEY and PREFIX_API_SECRET, and PREFIX_PASSPHRASE if set.",
        show_default="MASSCANCEL_<VENUE> if set, else MASSCANCEL",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_note_json,
        is_eager=True,
        help="Print one JSON object, also when it fails.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Fixes what is made up.")]


class Account(msgspec.Struct, frozen=True):
    """The account that a command acts on: a venue, credentials there, account categories."""

    venue: Venue
    credentials: Credentials
    categories: tuple[str, ...]

    @classmethod
    def of(
        cls,
        venue_name: str | None,
        settings: Sequence[str] | None,
        env_prefix: str | None,
        *categories: str | None,
        every: bool | None = None,
    ) -> "Account":
        """Make it of what the options say.

        Args:
            venue_name: the venue's name.
            settings: each ``NAME=VALUE``.
            env_prefix: what the names of the environment's variables begin with.
            categories: the account categories; none, or ``None``, where the venue has but one.
            every: whether all of the venue's are meant; ``None`` where that can't be said.

        Raises:
            ConfigurationError: no venue was named, or there is no such venue; a setting can't be
                used; no category was named; there are no credentials.
            ScopeError: the venue has no such category.
        """
        if venue_name is None:
            known = named((f"--venue {name}" for name in sorted(VENUES)), last="or")
            raise ConfigurationError(f"say which exchange: {known}")
        kind = load(venue_name)
        written = _read_settings(kind, settings or ())
        venue = make_venue(kind, written, spelling="-o {}", texts=True)
        chosen = _choose(kind, [name for name in categories if name is not None], every=every)
        for category in chosen:
            venue.ability(category)
        return cls(venue, read_credentials(kind.name, env_prefix), chosen)

    @property
    def category(self) -> str:
        """The first of its categories, for commands that act on one."""
        return self.categories[0]

    @property
    def other_categories(self) -> tuple[str, ...]:
        """The venue's categories that are none of its own."""
        return tuple(name for name in self.venue.abilities if name not in self.categories)

    def client(self, timeout: float) -> Client[Any]:
        """A client for it, to be entered within that many seconds."""
        return Client(
            self.credentials,
            venue=self.venue,
            categories=self.categories,
            entry_timeout=timeout,
        )


def _choose(kind: type[Venue], named_ones: list[str], *, every: bool | None) -> tuple[str, ...]:
    """The categories that are meant. No venue's first is taken for all of them.

    Raises:
        ConfigurationError: none was named, though there are several; or both ways were used.
    """
    there_are = tuple(kind.abilities)
    if every and named_ones:
        raise ConfigurationError("--all-categories takes the place of --category")
    if every or (not named_ones and len(there_are) == 1):
        return there_are
    if named_ones:
        return tuple(dict.fromkeys(named_ones))
    or_all = "" if every is None else ", or --all-categories"
    raise ConfigurationError(
        f"say which account category of {kind.title}: "
        f"{named((f'--category {name}' for name in there_are), last='or')}{or_all}"
    )


def _read_settings(kind: type[Venue], settings: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=VALUE`` settings. No message repeats a value.

    Raises:
        ConfigurationError: one has no name, or a name is given twice.
    """
    values: dict[str, str] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            example = next((f"{each.name}=..." for each in settings_of(kind)), "NAME=VALUE")
            raise ConfigurationError(f"-o takes NAME=VALUE, such as -o {example}")
        if name in values:
            raise ConfigurationError(f"-o {name} is given twice")
        values[name] = text
    return values


def read_credentials(venue_name: str, env_prefix: str | None) -> Credentials:
    """Read a venue's key and secret from the environment.

    Without a prefix, ``MASSCANCEL_<VENUE>_API_KEY`` and ``..._API_SECRET`` count if either is set;
    else ``MASSCANCEL_API_KEY`` and ``MASSCANCEL_API_SECRET``.

    Raises:
        ConfigurationError: a variable is not set, or holds no key.
    """
    return Credentials.from_env(_prefix(venue_name, env_prefix))


def credential_variables(venue_name: str, env_prefix: str | None) -> tuple[str, ...]:
    """The names of the variables that :func:`read_credentials` reads."""
    prefix = _prefix(venue_name, env_prefix)
    return tuple(f"{prefix}_{part}" for part in ("API_KEY", "API_SECRET", "PASSPHRASE"))


def _prefix(venue_name: str, env_prefix: str | None) -> str:
    """Choose the prefix of the names of the environment variables."""
    if env_prefix is not None:
        return env_prefix
    own = f"MASSCANCEL_{venue_name.upper()}"
    names = f"{own}_API_KEY", f"{own}_API_SECRET"
    return own if any(os.environ.get(name) for name in names) else "MASSCANCEL"
