"""Attributes: what an event says, by OpenTelemetry's names where it has one, else by ours.

Source of the names: OpenTelemetry's semantic conventions for HTTP, servers and errors.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from masscancel.calls import Scope
from masscancel.events import AttemptEnded, Event

__all__ = ["Attributes", "attributes_of", "error_type", "name_of", "server"]

Attributes: TypeAlias = dict[str, str | bool | int | float | tuple[str, ...]]

#: OpenTelemetry's names, and those where the field's own would not say enough.
_NAMES: Final = {
    "attempt": "masscancel.attempt.number",
    "attempts": "masscancel.call.attempts",
    "call_id": "masscancel.call.id",
    "error": "error.type",
    "http_status": "http.response.status_code",
    "name": "masscancel.operation",
}
#: Ids of orders: there may be thousands, so they are counted.
_COUNTED: Final = frozenset({"cancelled", "filled", "residual"})
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def name_of(event: Event) -> str:
    """The event's name, such as ``masscancel.call_ended``."""
    words = re.findall("[A-Z][a-z]*", type(event).__name__)
    return f"masscancel.{'_'.join(words).lower()}"


def attributes_of(event: Event, without: Collection[str] = ()) -> Attributes:
    """All that an event says, but for what is empty; ids of orders are counted only.

    Args:
        event: any.
        without: fields that are left out.
    """
    found: Attributes = {}
    for field in event.__struct_fields__:
        if field in without:
            continue
        value = getattr(event, field)
        if isinstance(value, Scope):
            found["masscancel.account_category"] = value.account_category
            found |= {
                f"masscancel.{name}": part
                for name, part in (("symbol", value.symbol), ("books", value.books))
                if part
            }
        elif field == "origin":
            found |= server(value)
        elif value is None or value in ("", ()):
            continue
        elif field in _COUNTED:
            found[f"masscancel.{field}.count"] = len(value)
        else:
            found[_NAMES.get(field, f"masscancel.{field}")] = value
    if kind := error_type(event):
        found["error.type"] = kind
    return found


def error_type(event: Event) -> str:
    """The class of the error that an event tells of, ``""`` for none.

    Of an attempt that was given up there is no error: then the word for what is known of it.
    """
    error: str = getattr(event, "error", "")
    if not error and isinstance(event, AttemptEnded) and event.fate != "answered":
        return event.fate.replace(" ", "_")
    return error


@lru_cache(maxsize=1024)
def server(origin: str) -> Attributes:
    """The address and the port of an origin; empty where there is none."""
    parts = urlsplit(origin)
    if parts.hostname is None:
        return {}
    port = parts.port or _PORTS.get(parts.scheme)
    found: Attributes = {"server.address": parts.hostname}
    if port is not None:
        found["server.port"] = port
    return found
