"""Settings of a venue's value as they are written down, and a venue made of them."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import msgspec

from masscancel.errors import ConfigurationError
from masscancel.venues.base import Venue

__all__ = ["Setting", "make_venue", "settings_of"]


class Setting(msgspec.Struct, frozen=True):
    """A setting of a venue that can be written down.

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


def make_venue(
    kind: type[Venue], settings: Mapping[str, Any], *, spelling: str = "{}", texts: bool = False
) -> Venue:
    """Make a venue's value of settings. No message repeats a value.

    Args:
        kind: the venue's class.
        settings: the values by name.
        spelling: how a setting is named to the person who wrote it, such as ``"-o {}"``.
        texts: whether a number or a bool may be written as text, too.

    Raises:
        ConfigurationError: a name is unknown, a value can't be used, or one that is needed is
            missing.
    """
    fields = {field.name: field for field in _fields(kind)}
    if unknown := [name for name in settings if name not in fields]:
        known = ", ".join(fields) or "none"
        raise ConfigurationError(f"{kind.name} has no setting {unknown[0]!r}; there are: {known}")
    values = {
        name: _convert(spelling.format(name), value, fields[name].type, texts=texts)
        for name, value in settings.items()
    }
    required = [name for name, field in fields.items() if _must_be_given(field)]
    if missing := [name for name in required if name not in values]:
        needed = " ".join(f"{spelling.format(name)}=..." for name in missing)
        raise ConfigurationError(f"{kind.name} needs {needed}")
    return kind(**values)


def _must_be_given(field: msgspec.structs.FieldInfo) -> bool:
    """Whether there is no default: a URL that is empty is none."""
    return field.required or field.default == ""


def _convert(name: str, value: Any, kind: Any, *, texts: bool) -> Any:
    try:
        return msgspec.convert(value, kind, strict=not texts)
    except msgspec.ValidationError:
        problem = f"{name} must be {_type_name(kind)}"
    raise ConfigurationError(problem)


def _type_name(kind: Any) -> str:
    """A type in words, without what can't be written down."""
    kinds = [arg for arg in get_args(kind) if arg is not NoneType] or [kind]
    return " or ".join(getattr(each, "__name__", str(each)) for each in kinds)


def _fields(kind: type[Venue]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """List the fields of a venue that can be written down."""
    return tuple(each for each in msgspec.structs.fields(kind) if _is_plain(each.type))


def _is_plain(kind: Any) -> bool:
    parts = get_args(kind)
    if get_origin(kind) is Literal or not parts:
        return get_origin(kind) is Literal or kind in (str, int, float, bool, NoneType)
    return all(_is_plain(part) for part in parts)
