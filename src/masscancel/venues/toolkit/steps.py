"""Steps of flows: single calls, batches, and what their results are together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from masscancel.calls import Call, Flow, Request, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import MassCancelError
from masscancel.models import OpenOrder, OrderState, OrderUpdate

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


#: How many orders are asked about together, and in all.
_TOGETHER: Final = 8
_ASKED: Final = 64


def states_of(
    orders: Sequence[OpenOrder | OrderUpdate],
    ask_one: Callable[[Any], Call[OrderState | None] | Flow[OrderState | None]],
) -> Flow[Mapping[str, OrderState]]:
    """Ask for each order by itself, a few together; for the first only, if there are very many.

    Args:
        orders: the orders.
        ask_one: makes what asks for one of them; ``None`` says that its state is not known.

    Raises:
        MassCancelError: one could not be asked for.
    """
    states: dict[str, OrderState] = {}
    for some in batches(orders[:_ASKED], _TOGETHER):
        found: list[OrderState | None] = every((yield [ask_one(order) for order in some]))
        pairs = zip(some, found, strict=True)
        states |= {order.order_id: state for order, state in pairs if state is not None}
    return states
