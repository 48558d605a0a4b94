"""Steps of flows: single calls, batches, and what their results are together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from masscancel.calls import Call, Flow, Request, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import MassCancelError

T = TypeVar("T")


def ask(call: Call[T]) -> Flow[T]:
    """Make a single call: as a flow of its own or, after ``yield from``, as a step of one."""
    value: T = one((yield [call]))
    return value


def one(results: Sequence[T | MassCancelError]) -> T:
    """The single result of a step of one part; its error is raised."""
    (result,) = results
    if isinstance(result, MassCancelError):
        raise result
    return result


def every(results: Sequence[T | MassCancelError]) -> list[T]:
    """All results of a step; the first error is raised, with a note that counts the rest."""
    values = [result for result in results if not isinstance(result, MassCancelError)]
    errors = [result for result in results if isinstance(result, MassCancelError)]
    if errors:
        error = errors[0]
        error.add_note(f"{len(errors)} of {len(results)} calls failed, {len(values)} succeeded")
        raise error
    return values


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Items, so many at a time as one request may name."""
    return [items[at : at + size] for at in range(0, len(items), size)]


def unsigned(call: Call[Any], _credentials: Credentials, _stamp: Stamp) -> Request:
    """A public request: no key, no signature."""
    return Request(call.method, call.path, {})


def merged(results: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """The answers about several batches, as one."""
    return {key: value for result in results for key, value in result.items()}
