"""Parts of Bitget's flows: steps that go on side by side, and what they come to."""

from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

from masscancel.calls import Call, Flow, Scope
from masscancel.errors import MassCancelError
from masscancel.models import OpenOrder
from masscancel.venues.bitget.codes import is_wrong_mode
from masscancel.venues.toolkit import Answer, Part, every

#: A call that cancels without a listing, or the flow of one that lists first; and what is left if
#: it fails.
Step: TypeAlias = tuple[str, Call[Answer] | Flow[list[Part]]]


def has_book(scope: Scope, name: str) -> bool:
    """Whether a scope covers a book."""
    return scope.books is None or name in scope.books


def parts_of(steps: Sequence[Step]) -> Flow[list[Part]]:
    """Let the steps of a cancel go on side by side; each comes to a part, or to several."""
    ends: Sequence[Answer | list[Part] | MassCancelError] = ()
    if steps:
        ends = yield [step for _, step in steps]
    parts: list[Part] = []
    for (name, _), end in zip(steps, ends, strict=True):
        if isinstance(end, list):
            parts += end
        else:
            parts.append(Part([end], [name] if isinstance(end, MassCancelError) else []))
    return parts


def wrong_mode(parts: Sequence[Part]) -> bool:
    """Whether the venue said that the account is of the other kind: it is so for every part."""
    return any(is_wrong_mode(result) for part in parts for result in part.results)


def orders_of(flows: Sequence[Flow[list[OpenOrder]]]) -> Flow[list[OpenOrder]]:
    """Let listings go on side by side.

    Raises:
        MassCancelError: one failed; that the account is of the other kind goes before all else.
    """
    results: Sequence[list[OpenOrder] | MassCancelError] = (yield flows) if flows else ()
    for result in results:
        if isinstance(result, MassCancelError) and is_wrong_mode(result):
            raise result
    return list(chain.from_iterable(every(results)))
