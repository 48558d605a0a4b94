"""Lanes: so many places, who goes first, and that no place is lost."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masscancel.lanes import Held, Lane, Lanes

pytestmark = pytest.mark.asyncio


async def turns() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def waiting(lane: Lane, names: str, entered: list[str]) -> dict[str, asyncio.Task[None]]:
    """A task for each name that waits for a place."""

    async def one(name: str) -> None:
        await lane.enter()
        entered.append(name)

    return {name: asyncio.create_task(one(name)) for name in names}


async def test_in_order_after_who_goes_ahead() -> None:
    """Every place is offered to who goes ahead, then to those who wait, in order."""
    entered: list[str] = []
    left = ["A", "B", "C"]

    def ahead() -> bool:
        entered.extend(left[:1])
        return bool(left and left.pop(0))

    lane = Lane(2, ahead)
    lane.offer()
    waiting(lane, "abc", entered)
    await turns()
    assert entered == ["A", "B"]
    lane.leave()
    lane.leave()
    await turns()
    assert entered == ["A", "B", "C", "a"]
    lane.leave()
    lane.leave()
    await turns()
    assert entered == ["A", "B", "C", "a", "b", "c"]


async def test_a_place_that_nobody_waits_for_is_free() -> None:
    """It is crowded while all places are taken, and only then."""
    lane = Lane(2)
    await lane.enter()
    assert not lane.crowded
    await lane.enter()
    assert lane.crowded
    lane.leave()
    assert not lane.crowded


async def test_places_that_are_free_are_taken_at_once() -> None:
    """In each lane, the held one first; then they are crowded, and left as any."""
    first, second = Lane(2), Lane(1)
    first.take()
    lanes = Lanes(Held(first), second)
    lanes.take()
    assert lanes.crowded
    assert not first.crowded
    lanes.leave()
    first.leave()
    assert not first.crowded
    assert not second.crowded


async def test_who_gives_up_waiting_is_passed_over() -> None:
    """A cancelled waiter takes no place."""
    lane, entered = Lane(1), list[str]()
    await lane.enter()
    tasks = waiting(lane, "ab", entered)
    await turns()
    tasks["a"].cancel()
    await turns()
    lane.leave()
    await turns()
    assert entered == ["b"]


async def test_a_place_handed_to_one_who_gives_up_goes_on() -> None:
    """Cancelled in the moment that the place is handed over: the next one has it."""
    lane, entered = Lane(1), list[str]()
    await lane.enter()
    tasks = waiting(lane, "ab", entered)
    await turns()
    lane.leave()
    tasks["a"].cancel()
    await turns()
    assert entered == ["b"]


@given(st.lists(st.sampled_from(["enter", "ahead", "leave", "cancel", "turn"]), max_size=60))
async def test_no_place_is_lost(steps: list[str]) -> None:
    """Whatever happens: never more inside than places, and in the end all are free again."""
    lane, inside = Lane(3), 0
    tasks: list[asyncio.Task[None]] = []

    async def one() -> None:
        nonlocal inside
        await lane.enter()
        inside += 1

    for step in steps:
        if step == "enter":
            tasks.append(asyncio.create_task(one()))
        elif step == "leave" and inside:
            inside -= 1
            lane.leave()
        elif step == "cancel" and tasks:
            tasks.pop(0).cancel()
        elif step == "turn":
            await turns()
        assert inside <= 3
    await turns()
    for task in tasks:
        task.cancel()
    await turns()
    for _ in range(inside):
        lane.leave()
    for _ in range(3):
        assert not lane.crowded
        await lane.enter()
    assert lane.crowded


async def test_a_place_that_is_held() -> None:
    """The first to enter has it at once; whoever comes after waits; unused, it is given back."""
    lane = Lane(1)
    await lane.enter()
    held = Held(lane)
    assert not held.crowded
    await held.enter()
    assert held.crowded
    held.forfeit()  # it is in use: nothing happens
    assert lane.crowded
    held.leave()
    assert not lane.crowded
    await lane.enter()
    unused = Held(lane)
    unused.forfeit()
    unused.forfeit()
    assert not lane.crowded


async def test_a_place_in_each() -> None:
    """Lanes are entered one after the other, and left together."""
    first, second = Lane(1), Lane(1)
    lanes = Lanes(first, second)
    await second.enter()
    assert lanes.crowded
    task = asyncio.create_task(lanes.enter())
    await turns()
    assert first.crowded
    second.leave()
    await task
    assert first.crowded
    assert second.crowded
    lanes.leave()
    assert not first.crowded
    assert not second.crowded


async def test_who_gives_up_in_the_second_leaves_the_first() -> None:
    """No place stays taken by one who is not inside."""
    first, second = Lane(1), Lane(1)
    await second.enter()
    task = asyncio.create_task(Lanes(first, second).enter())
    await turns()
    task.cancel()
    await turns()
    assert not first.crowded


async def test_who_goes_ahead_may_want_another_place_at_once() -> None:
    """As the calls of an eager task do: there is none that is not free."""
    crowded: list[bool] = []

    def ahead() -> bool:
        crowded.append(lane.crowded)
        return len(crowded) < 3

    lane = Lane(1, ahead)
    lane.offer()
    assert crowded == [True]
