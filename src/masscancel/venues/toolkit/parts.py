"""Cancels of several calls: the parts, page after page, and the one Ack that they are together."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Generic, TypeVar

import msgspec

from masscancel.calls import Call, Flow, Scope
from masscancel.errors import MassCancelError, ProtocolError
from masscancel.models import Ack
from masscancel.venues.toolkit.steps import ask

T = TypeVar("T")

#: The status of an Ack where there was nothing to cancel.
NOTHING_OPEN: Final = "nothing open"
#: So many names are told of what was not acknowledged.
_NAMES: Final = 50


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one call of a cancel.

    Attributes:
        raw: the bytes of the reply.
        status: the venue's word for it, or :data:`NOTHING_OPEN`.
        cancelled: the ids that the answer says are cancelled; ``None`` where it does not tell.
        failed: the orders that it says are not, and why; those that are gone already are no
            failure.
    """

    raw: bytes
    status: str = ""
    cancelled: tuple[str, ...] | None = None
    failed: Mapping[str, MassCancelError] = {}


class Part(msgspec.Struct, frozen=True):
    """The end of one part of a cancel.

    Attributes:
        results: of its calls; of a listing that shows nothing, an answer that says so.
        left: what was not acknowledged, for people; orders that failed are named by themselves.
    """

    results: Sequence[Answer | MassCancelError]
    left: Sequence[str] = ()


def join(scope: Scope, parts: Sequence[Part]) -> Ack:
    """Join the parts of a cancel into one Ack.

    Raises:
        MassCancelError: the first that failed, with a note that names all that is left.
    """
    answers: list[Answer] = []
    errors: list[MassCancelError] = []  # of calls, then of single orders
    failed: dict[str, MassCancelError] = {}
    left: list[str] = []
    for part in parts:
        left += part.left
        for result in part.results:
            if isinstance(result, Answer):
                answers.append(result)
                failed.update(result.failed)
            else:
                errors.append(result)
    calls = len(answers) + len(errors)
    errors += failed.values()
    left += failed
    if errors:
        error = errors[0]
        if left and left != [scope.symbol]:
            more = f" and {len(left) - _NAMES} more" if len(left) > _NAMES else ""
            error.add_note(f"not acknowledged: {', '.join(left[:_NAMES])}{more}")
        if calls > 1:
            error.add_note(f"{len(errors)} failed; of {calls} calls, {len(answers)} succeeded")
        raise error
    ids = [each.cancelled for each in answers if each.cancelled is not None]
    least_told = sorted(answers, key=lambda each: each.cancelled is not None)
    status = next((each.status for each in least_told if each.status != NOTHING_OPEN), NOTHING_OPEN)
    return Ack(
        account_category=scope.account_category,
        symbol=scope.symbol or "",
        status=status,
        cancelled=tuple(chain.from_iterable(ids)) if len(ids) == len(answers) else None,
        raw=b"\n".join(each.raw for each in answers),
    )


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A page of a listing.

    Attributes:
        rows: what it shows.
        next: what the next page is asked for with; ``""`` after the last.
        raw: the bytes of the reply.
        problem: why it may not show all that is open, for people; ``""`` if nothing says so. Only
            what acts on its rows may go on with it.
    """

    rows: Sequence[T]
    next: str = ""
    raw: bytes = b""
    problem: str = ""


#: A listing has no more pages than this: a hundred thousand orders, fifty at a time.
_PAGES: Final = 2_000


def every_page(list_page: Callable[[str], Call[Page[T]]]) -> Flow[list[T]]:
    """List page after page.

    Args:
        list_page: makes the call of a page, from what it is asked for with; ``""`` for the first.

    Raises:
        MassCancelError: a page could not be had.
        ProtocolError: the pages do not end, or the same one comes again.
    """
    rows: list[T] = []
    cursors = {""}
    page = yield from ask(list_page(""))
    while True:
        rows.extend(page.rows)
        if not page.next:
            return rows
        _check_goes_on(page, cursors)
        before, page = page, (yield from ask(list_page(page.next)))
        if page.rows and page.raw and page.raw == before.raw:
            raise ProtocolError("the listing has the same page twice")


#: So often the pages of a listing are read, for two passes to agree.
_PASSES: Final = 4


def steady_pages(
    list_page: Callable[[str], Call[Page[T]]], key: Callable[[T], str]
) -> Flow[list[T]]:
    """List pages that have numbers, which shift while orders end, until two passes agree.

    Args:
        list_page: as for :func:`every_page`. A single page can't shift: it is read once.
        key: the id of a row.

    Raises:
        MassCancelError: a page could not be had.
        ProtocolError: the pages do not end, or no two passes show the same rows.
    """
    asked: list[str] = []

    def counted(cursor: str) -> Call[Page[T]]:
        asked.append(cursor)
        return list_page(cursor)

    before: set[str] | None = None
    for number in range(1, _PASSES + 1):
        rows = yield from every_page(counted)
        keys = set(map(key, rows))
        if len(asked) == number or keys == before:
            return rows
        before = keys
    raise ProtocolError("the listing has several pages, and changes while they are read")


def act_on_pages(
    list_page: Callable[[str], Call[Page[T]]],
    act: Callable[[Page[T]], Flow[Part]],
    *,
    book: str = "",
) -> Flow[list[Part]]:
    """List page after page; what is done about one holds up none of those after it.

    Args:
        list_page: as for :func:`every_page`.
        act: cancels what a page shows.
        book: the name of what is listed, to say what could not be.

    Returns:
        The parts; one of a page that could not be had is its error alone.
    """
    of = f" of {book}" if book else ""
    return (yield from _act_from("", {""}, list_page, act, of))


def _act_from(
    cursor: str,
    cursors: set[str],
    list_page: Callable[[str], Call[Page[T]]],
    act: Callable[[Page[T]], Flow[Part]],
    of: str,
) -> Flow[list[Part]]:
    """Act on the pages from one on; what lists the further ones goes on beside what acts on it."""
    result: Page[T] | MassCancelError
    (result,) = yield [list_page(cursor)]
    if isinstance(result, MassCancelError):
        return [Part([result], [f"orders{of} that could not be listed"])]
    steps: list[Flow[Any]] = [act(result)]
    parts: list[Part] = []
    if result.problem:
        error = ProtocolError(f"the listing can't be understood; {result.problem}")
        parts.append(Part([error], [f"orders{of} that the listing may lack"]))
    if result.next:
        try:
            _check_goes_on(result, cursors)
        except ProtocolError as endless:
            parts.append(Part([endless], [f"pages{of} that can't be told apart"]))
        else:
            steps.append(_act_from(result.next, cursors, list_page, act, of))
    part, *following = yield steps
    parts.append(Part([part], []) if isinstance(part, MassCancelError) else part)
    return [*parts, *chain.from_iterable(following)]


def _check_goes_on(page: Page[Any], cursors: set[str]) -> None:
    """Check that the next page is another than those before, and that there is an end."""
    if page.next in cursors or len(cursors) >= _PAGES:
        raise ProtocolError("the listing has pages without end")
    cursors.add(page.next)
