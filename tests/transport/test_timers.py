"""Time limits on one timer of the event loop, and chores."""

import asyncio
from functools import partial

import pytest

from masscancel.transport.timers import Chores, Timers

pytestmark = pytest.mark.asyncio


async def test_timers_run_in_the_order_of_their_times() -> None:
    """However they were set, the earliest is first; one that was cancelled is never run."""
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    ran: list[str] = []
    done = loop.create_future()
    now = loop.time()
    timers.at(now + 0.02, lambda: ran.append("late"))
    timers.at(now + 0.03, lambda: done.set_result(None))
    timers.at(now + 0.01, lambda: ran.append("early"))
    timers.at(now + 0.005, lambda: ran.append("never")).cancel()
    await done
    assert ran == ["early", "late"]


async def test_what_has_arrived_by_then_is_first() -> None:
    """A callback that is due in the same turn of the loop runs before the time limit."""
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    ran: list[str] = []
    done = loop.create_future()

    def limit() -> None:
        ran.append("limit")
        done.set_result(None)

    timers.at(loop.time(), limit)
    loop.call_at(loop.time(), ran.append, "arrived")
    await done
    assert ran == ["arrived", "limit"]


async def test_one_that_sets_another_is_no_trouble() -> None:
    """A time limit may set the next, even one that is due at once."""
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    done = loop.create_future()
    timers.at(loop.time(), lambda: timers.at(loop.time() - 1, lambda: done.set_result("second")))
    assert await done == "second"


async def test_one_that_sets_itself_again_and_again_lets_the_loop_go_on() -> None:
    """Each is a turn of the loop later, also one whose time has passed."""
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    others: list[str] = []
    left = 1000

    def again() -> None:
        nonlocal left
        left -= 1
        if left and not others:
            timers.at(loop.time() - 1, again)

    timers.at(loop.time(), again)
    loop.call_later(0, loop.call_later, 0, others.append, "other")
    while left and not others:  # noqa: ASYNC110  # a turn of the loop is what is counted
        await asyncio.sleep(0)
    assert others == ["other"]
    assert left > 900


async def test_many_cancelled_ones_do_not_pile_up() -> None:
    """A process that makes calls for days keeps no trace of their limits."""
    timers = Timers(asyncio.get_running_loop())
    for _ in range(50_000):
        timers.at(1e12, lambda: None).cancel()
    assert len(timers) < 5_000


async def test_chores_are_done_in_pieces() -> None:
    """Much to do does not keep the loop from others; all of it is done in the end."""
    loop = asyncio.get_running_loop()
    chores = Chores(loop)
    done: list[int] = []
    turns = 0

    def work(index: int) -> None:
        assert sum(range(2000))  # takes a moment
        done.append(index)

    for index in range(2000):
        chores.add(partial(work, index))
    while len(done) < 2000:
        await asyncio.sleep(0)
        turns += 1
    assert done == [*range(2000)]
    assert turns > 3


async def test_chores_can_be_finished_at_once() -> None:
    """Whoever leaves does what is left."""
    chores = Chores(asyncio.get_running_loop())
    done: list[int] = []
    chores.add(lambda: done.append(1))
    chores.finish()
    assert done == [1]


async def test_a_crowd_of_timers_lets_the_loop_go_on() -> None:
    """Those that are due together are run a piece at a time, in their order."""
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    ran: list[int] = []
    turns = 0

    def work(index: int) -> None:
        assert sum(range(20_000))  # takes a moment
        ran.append(index)

    now = loop.time()
    for index in range(500):
        timers.at(now, partial(work, index))
    while len(ran) < 500:
        await asyncio.sleep(0)
        turns += bool(ran)
    assert ran == [*range(500)]
    assert turns > 3
