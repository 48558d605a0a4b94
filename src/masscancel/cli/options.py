"""The options that commands share, and what they make: a venue, credentials, a client."""

import os
from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import typer

from masscancel import Client, ConfigurationError, Credentials
from masscancel.cli.render import named
from masscancel.cli.status import Known
from masscancel.venues import VENUES
from masscancel.venues import load as load_class
from masscancel.venues.base import Venue

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
    "settings_of",
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


class Setting(msgspec.Struct, frozen=True):
    """A setting of a venue that ``-o`` takes.

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
            _must_be_given(field),
            None if field.default in (None, "", msgspec.NODEFAULT) else str(field.default),
        )
        for field in _fields(venue)
    ]


def _must_be_given(field: msgspec.structs.FieldInfo) -> bool:
    """Whether there is no default: a URL that is empty is none."""
    return field.required or field.default == ""


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
        venue = make_venue(kind, settings or ())
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
    required = [name for name, field in fields.items() if _must_be_given(field)]
    if missing := [name for name in required if name not in values]:
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
    """List the fields of a venue that can be written on a command line."""
    return tuple(each for each in msgspec.structs.fields(kind) if _is_plain(each.type))


def _is_plain(kind: Any) -> bool:
    parts = get_args(kind)
    if get_origin(kind) is Literal or not parts:
        return get_origin(kind) is Literal or kind in (str, int, float, bool, NoneType)
    return all(_is_plain(part) for part in parts)
