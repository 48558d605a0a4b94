"""The public face: the exported names, their docstrings, and aiohttp's errors, all of them."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import masscancel
from masscancel import errors, events, fanout, models, venues

pytestmark = pytest.mark.unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [
    "Accounts",
    "Ack",
    "AscendEX",
    "Attempt",
    "AuthenticationError",
    "Cancellable",
    "Client",
    "ConfigurationError",
    "Confirmation",
    "Credentials",
    "DeadMansSwitch",
    "DeadlineExceeded",
    "FanOutReport",
    "Gap",
    "Halted",
    "InvalidRequest",
    "MassCancelError",
    "NotFlat",
    "NotSent",
    "OpenOrder",
    "OrderGate",
    "OrderUpdate",
    "Outcome",
    "OutcomeUnknown",
    "PermissionDenied",
    "ProofPolicy",
    "ProtocolError",
    "RateLimited",
    "RetryPolicy",
    "ScopeError",
    "SessionPool",
    "Target",
    "TransportError",
    "Unproven",
    "VenueError",
    "VenueUnavailable",
    "beat",
    "cancel_as_completed",
    "cancel_many",
    "cancel_on_exit",
    "killing",
    "subscribe",
]


def test_the_exported_names() -> None:
    """Exactly these, sorted: a name that comes or goes is a decision."""
    assert list(masscancel.__all__) == NAMES
    assert sorted(masscancel.__all__) == NAMES
    for name in NAMES:
        assert hasattr(masscancel, name)


def test_a_star_import_brings_the_exported_names() -> None:
    """And nothing else."""
    namespace: dict[str, Any] = {}
    exec("from masscancel import *", namespace)  # noqa: S102  # as a user would
    assert sorted(set(namespace) - {"__builtins__"}) == NAMES


@pytest.mark.parametrize("name", sorted(errors.__all__))
def test_every_error_of_the_plan_is_exported(name: str) -> None:
    """One that is drawn in the tree can be caught by name; a refused stamp as InvalidRequest."""
    if name == "StampRefused":
        assert issubclass(errors.StampRefused, masscancel.InvalidRequest)
    else:
        assert getattr(masscancel, name) is getattr(errors, name)


@pytest.mark.parametrize("name", sorted(venues.VENUES))
def test_every_venue_can_be_imported_by_its_name(name: str) -> None:
    """From `masscancel.venues`, and by the name that the command line knows."""
    venue = venues.load(name)
    assert venue.name == name
    assert getattr(venues, venues.VENUES[name][1]) is venue
    assert venue.abilities
    assert inspect.getdoc(venue)


def test_an_unknown_venue_is_a_configuration_error_that_lists_those_there_are() -> None:
    """As an attribute it is simply not there."""
    with pytest.raises(masscancel.ConfigurationError, match="ascendex") as caught:
        venues.load("mtgox")
    assert caught.value.__context__ is None
    with pytest.raises(AttributeError, match="MtGox"):
        _ = venues.MtGox


def test_the_package_is_typed_and_needs_two_libraries() -> None:
    """`py.typed` is there; nothing is required at run time but aiohttp and msgspec."""
    assert (Path(masscancel.__file__).parent / "py.typed").exists()
    needed = [each for each in requires("masscancel") or [] if "extra ==" not in each]
    names = [re.split("[<>=!~ ]", each)[0] for each in needed]
    assert sorted(names) == ["aiohttp", "msgspec"]


def test_every_exported_name_is_type_checked_as_a_user_would_use_it() -> None:
    """In `typing/api.py`, which mypy reads and nobody runs; beyond its import."""
    text = (Path(__file__).parent / "typing" / "api.py").read_text(encoding="utf-8")
    used = text.partition("\n)\n")[2]
    assert [name for name in NAMES if not re.search(rf"\b{name}\b", used)] == []


# Docstrings


def documented() -> Iterator[tuple[str, Any]]:
    """Each public class and function, and each public method and property of theirs."""
    for name in NAMES:
        member = getattr(masscancel, name)
        yield name, member
        if not isinstance(member, type):
            continue
        for cls in member.__mro__:
            if not cls.__module__.startswith("masscancel"):
                continue
            for part, value in vars(cls).items():
                inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if not part.startswith("_") and (
                    inspect.isroutine(inner) or isinstance(inner, property)
                ):
                    yield f"{name}.{part}", inner


DOCUMENTED = dict(documented())


def test_methods_are_among_what_is_documented() -> None:
    """The walk finds what a user calls."""
    assert {
        "Client",
        "Client.cancel_all",
        "Client.open_orders",
        "Client.venue",
        "Credentials.from_env",
        "Target.product",
        "FanOutReport.raise_for_failures",
        "SessionPool.close",
        "cancel_many",
    } <= set(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_everything_public_has_a_docstring_of_its_own(name: str) -> None:
    """A sentence or more, not the one that a base class left."""
    member = DOCUMENTED[name]
    text = member.__doc__ or ""
    assert text.strip()
    assert text.strip().splitlines()[0].endswith((".", "!", "``", ":"))
    if isinstance(member, type):
        inherited = [base.__doc__ for base in member.__mro__[1:]]
        assert text not in inherited


COROUTINES = [
    name
    for name, member in DOCUMENTED.items()
    if inspect.iscoroutinefunction(member)
    and not name.startswith(("SessionPool.", "Cancellable."))
    and name != "Client.cancel"  # a fan-out has its deadline already
]


@pytest.mark.parametrize("name", [*COROUTINES, "cancel_as_completed"])
def test_every_public_coroutine_takes_a_timeout(name: str) -> None:
    """In seconds, by name, with a default, and told of in the docstring."""
    timeout = inspect.signature(DOCUMENTED[name]).parameters["timeout"]
    if name != "OrderGate.drained":  # which takes nothing else
        assert timeout.kind is inspect.Parameter.KEYWORD_ONLY
    assert timeout.default > 0
    assert "timeout: " in (DOCUMENTED[name].__doc__ or "")


VALUES = [
    value
    for module in (models, fanout, events)
    for value in map(vars(module).get, module.__all__)
    if getattr(value, "__struct_fields__", ())
]


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_every_field_of_a_value_is_described(kind: Any) -> None:
    """Under `Attributes:` in the docstring of its class."""
    described = inspect.getdoc(kind) or ""
    assert [field for field in kind.__struct_fields__ if f"\n    {field}: " not in described] == []
