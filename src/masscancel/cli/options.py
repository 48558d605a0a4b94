"""The options that commands share, and what they make: a venue, credentials, a client."""

import os
from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, cast, get_args

import msgspec
import typer

from masscancel import Client, ConfigurationError, Credentials
from masscancel.venue import Venue
from masscancel.venues import load

__all__ = [
    "Account",
    "AsJson",
    "Category",
    "EnvPrefix",
    "Seed",
    "Settings",
    "Settle",
    "Symbol",
    "Timeout",
    "VenueName",
    "settings_of",
]

VenueName = Annotated[
    str, typer.Option("--venue", metavar="NAME", help="Which exchange; see 'masscancel venues'.")
]
Category = Annotated[
    str | None,
    typer.Option(
        "--category",
        metavar="NAME",
        help="The account category, in the venue's own words.",
        show_default="the venue's first",
    ),
]
Symbol = Annotated[
    str | None,
    typer.Option("--symbol", metavar="SYMBOL", help="One symbol only.", show_default="all"),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="For everything, retries and all.")
]
Settle = Annotated[
    float,
    typer.Option(
        "--settle",
        metavar="SECONDS",
        help="Between the two empty listings of a proof; longer than an order needs to show up.",
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
        help="Read PREFIX_API_KEY and PREFIX_API_SECRET.",
        show_default="MASSCANCEL_<VENUE> if set, else MASSCANCEL",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Fixes what is made up.")]


class Setting(msgspec.Struct, frozen=True):
    """What ``-o`` takes for a venue: a name, its type in words, and what holds without it.

    Attributes:
        name: the setting's name.
        type: its type in words.
        required: whether it must be given.
        default: what holds if it is not, as text; ``None`` for nothing in particular.
    """

    name: str
    type: str
    required: bool
    default: str | None


def settings_of(venue: type[Venue]) -> list[Setting]:
    """The settings of a venue's value."""
    return [
        Setting(
            field.name,
            _type_name(field.type),
            field.required,
            None if field.default in (None, msgspec.NODEFAULT) else str(field.default),
        )
        for field in _fields(venue)
    ]


class Account(msgspec.Struct, frozen=True):
    """What a command acts on: a venue, the credentials there, account categories."""

    venue: Venue
    credentials: Credentials
    categories: tuple[str, ...]

    @classmethod
    def of(
        cls,
        venue_name: str,
        settings: Sequence[str] | None,
        env_prefix: str | None,
        *categories: str | None,
    ) -> "Account":
        """Make it of what the options say; ``None`` stands for the venue's first category.

        Raises:
            ConfigurationError: no such venue, an unusable setting, no credentials.
            ScopeError: the venue has no such category.
        """
        kind = load(venue_name)
        venue = make_venue(kind, settings or ())
        first = next(iter(venue.abilities))
        named = [first if category is None else category for category in categories or (None,)]
        for category in named:
            venue.origin(category)
        return cls(venue, read_credentials(kind.name, env_prefix), tuple(dict.fromkeys(named)))

    @property
    def category(self) -> str:
        """The first of its categories, for commands that act on one."""
        return self.categories[0]

    def client(self, timeout: float) -> Client:
        """A client for it, to be entered within that many seconds."""
        return Client(
            self.credentials,
            venue=self.venue,
            categories=self.categories,
            entry_timeout=timeout,
        )


def make_venue(kind: type[Venue], settings: Sequence[str]) -> Venue:
    """Make a venue's value of ``NAME=VALUE`` settings. No message repeats a value.

    Raises:
        ConfigurationError: a name is unknown or given twice, a value can't be used, or one that is
            needed is missing.
    """
    fields = {field.name: field for field in _fields(kind)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigurationError("-o takes NAME=VALUE, such as -o " + _example(kind))
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise ConfigurationError(f"{kind.name} has no setting {name!r}; there are: {known}")
        if name in values:
            raise ConfigurationError(f"-o {name} is given twice")
        values[name] = _convert(name, text, fields[name].type)
    if missing := [name for name, field in fields.items() if field.required and name not in values]:
        needed = " ".join(f"-o {name}=..." for name in missing)
        raise ConfigurationError(f"{kind.name} needs {needed}")
    return kind(**values)


def read_credentials(venue_name: str, env_prefix: str | None) -> Credentials:
    """Read a venue's key and secret from the environment.

    Without a prefix, ``MASSCANCEL_<VENUE>_API_KEY`` and ``..._API_SECRET`` count if either is set;
    else ``MASSCANCEL_API_KEY`` and ``MASSCANCEL_API_SECRET``.

    Raises:
        ConfigurationError: a variable is not set, or holds no key.
    """
    if env_prefix is None:
        own = f"MASSCANCEL_{venue_name.upper()}"
        names = f"{own}_API_KEY", f"{own}_API_SECRET"
        env_prefix = own if any(os.environ.get(name) for name in names) else "MASSCANCEL"
    return Credentials.from_env(env_prefix)


def _convert(name: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        problem = f"-o {name} must be {_type_name(kind)}"
    raise ConfigurationError(problem)


def _type_name(kind: Any) -> str:
    """A type in words, without what can't be written on a command line."""
    kinds = [arg for arg in get_args(kind) if arg is not NoneType] or [kind]
    return " or ".join(getattr(each, "__name__", str(each)) for each in kinds)


def _example(kind: type[Venue]) -> str:
    return next((f"{field.name}=..." for field in _fields(kind)), "NAME=VALUE")


def _fields(kind: type[Venue]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """What a venue's value is made of: every venue is a struct."""
    return msgspec.structs.fields(cast("type[msgspec.Struct]", kind))
