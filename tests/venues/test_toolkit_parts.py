"""Parts of a cancel: what they are together, and what goes on beside the next page."""

from typing import Any

import pytest

from flows_support import Drive
from masscancel.calls import Call, Flow, Scope
from masscancel.errors import InvalidRequest, MassCancelError, ProtocolError, VenueUnavailable
from masscancel.venues.toolkit import (
    Answer,
    Page,
    Part,
    act_on_pages,
    ask,
    every_page,
    join,
    steady_pages,
)
from masscancel.venues.toolkit.parts import NOTHING_OPEN

SCOPE = Scope("spot", "BTC")


def call(name: str) -> Call[Any]:
    """A call that is known by its path."""
    return Call(
        method="GET",
        origin="https://venue.test",
        path=name,
        sign=lambda *_: None,  # type: ignore[arg-type]
        decode=lambda *_: None,
        cancels=False,
    )


def play(flow: Flow[Any], pages: dict[str, Any]) -> tuple[Any, list[list[str]]]:
    """Take a flow to its end, its parts side by side; also the paths of each step."""
    steps: list[list[str]] = []

    def result(part: Any) -> Any:
        if isinstance(part, Call):
            steps[-1].append(part.path)
            return pages[part.path]
        try:
            value, inner = play(part, pages)
        except MassCancelError as error:
            return error
        steps[-1].append(str(inner))
        return value

    try:
        parts = next(flow)
        while True:
            steps.append([])
            parts = flow.send([result(part) for part in parts])
    except StopIteration as stop:
        return stop.value, steps


def refused(code: int) -> InvalidRequest:
    """A refusal."""
    return InvalidRequest(code, "NO", "no")


def test_parts_are_one_ack() -> None:
    """What is cancelled is known if every answer tells; the status is of what was there."""
    parts = [
        Part([Answer(raw=b"1", status=NOTHING_OPEN, cancelled=())]),
        Part([Answer(raw=b"2", status="done", cancelled=("a", "b"))]),
    ]
    ack = join(SCOPE, parts)
    assert (ack.status, ack.cancelled, ack.raw) == ("done", ("a", "b"), b"1\n2")
    assert (ack.account_category, ack.symbol) == ("spot", "BTC")
    silent = join(SCOPE, [*parts, Part([Answer(raw=b"3", status="done")])])
    assert silent.cancelled is None
    assert join(SCOPE, [Part([Answer(raw=b"", status=NOTHING_OPEN)])]).status == NOTHING_OPEN


def test_what_is_left_is_named() -> None:
    """Of orders that failed within a success, of calls that failed, and how many there are."""
    failing = [
        Part([Answer(raw=b"1", cancelled=("a",), failed={"b": refused(7), "c": refused(8)})]),
        Part([VenueUnavailable(None, "", "", 503)], ["ETH"]),
    ]
    with pytest.raises(VenueUnavailable) as caught:
        join(SCOPE, failing)
    assert "not acknowledged: ETH, b, c" in str(caught.value.__notes__)
    many = {str(number): refused(7) for number in range(60)}
    with pytest.raises(InvalidRequest) as caught_many:
        join(SCOPE, [Part([Answer(raw=b"1", failed=many)])])
    assert "and 10 more" in str(caught_many.value.__notes__)


def test_pages_are_listed_to_the_last() -> None:
    """Each is asked for with what the one before it says."""
    pages = {"/": Page([1, 2], "p2"), "/p2": Page([3], "p3"), "/p3": Page([])}
    rows, steps = play(every_page(lambda cursor: call(f"/{cursor}")), pages)
    assert rows == [1, 2, 3]
    assert steps == [["/"], ["/p2"], ["/p3"]]


def test_pages_without_end_are_no_listing() -> None:
    """A page that leads back would be listed for ever."""
    pages = {"/": Page([1], "p2"), "/p2": Page([2], "p2")}
    with pytest.raises(ProtocolError, match="without end"):
        play(every_page(lambda cursor: call(f"/{cursor}")), pages)


def test_pages_that_shift_are_read_until_two_passes_agree() -> None:
    """A single page can't shift, and is read once; one that never agrees is no listing."""
    passes: list[list[int]] = []

    def list_page(cursor: str) -> Call[Any]:
        if not cursor:
            passes.append([1])
        return call(f"/{cursor}")

    assert play(steady_pages(list_page, str), {"/": Page([7])})[0] == [7]
    assert len(passes) == 1
    pages = {"/": Page([1], "p2"), "/p2": Page([2])}
    assert play(steady_pages(list_page, str), pages)[0] == [1, 2]
    assert len(passes) == 3

    class Restless(dict[str, Any]):
        def __getitem__(self, path: str) -> Page[int]:
            return Page([len(passes)], "" if path == "/p2" else "p2")

    with pytest.raises(ProtocolError, match="changes"):
        play(steady_pages(list_page, str), Restless())


def test_a_page_that_comes_again_is_no_listing() -> None:
    """A venue that takes no notice of the page has a first one only; empty pages are no sign."""
    pages = {"/": Page([1], "p2", b"[1]"), "/p2": Page([1], "p3", b"[1]")}
    with pytest.raises(ProtocolError, match="same page twice"):
        play(every_page(lambda cursor: call(f"/{cursor}")), pages)
    empty = {"/": Page([], "p2"), "/p2": Page([], "p3"), "/p3": Page([1])}
    assert play(every_page(lambda cursor: call(f"/{cursor}")), empty)[0] == [1]


def end(drive: Drive, path: str, value: Any) -> None:
    """Answer the call to a path."""
    (part,) = [part for part in drive.root.calls() if part.part.path == path]
    part.end(value)
    drive.root.settle()


def test_a_page_is_cancelled_while_the_next_is_listed() -> None:
    """And what one page can't tell, or a cancel that hangs, holds up nothing of the others."""

    def act(page: Page[int]) -> Flow[Part]:
        answer = yield from ask(call(f"/cancel/{page.rows[0]}"))
        return Part([answer])

    drive = Drive(act_on_pages(lambda cursor: call(f"/{cursor}"), act, book="stops"))
    end(drive, "/", Page([1], "p2"))
    assert [each.path for each in drive.calls] == ["/cancel/1", "/p2"]
    end(drive, "/p2", Page([2], "p3"))
    assert [each.path for each in drive.calls] == ["/cancel/1", "/cancel/2", "/p3"]
    end(drive, "/p3", VenueUnavailable(None, "", "", 503))
    end(drive, "/cancel/2", refused(7))
    assert drive.value is None
    end(drive, "/cancel/1", Answer(raw=b"done", cancelled=()))
    parts = drive.result()
    assert [type(part.results[0]).__name__ for part in parts] == [
        "Answer",
        "InvalidRequest",
        "VenueUnavailable",
    ]
    assert parts[-1].left == ["orders of stops that could not be listed"]
