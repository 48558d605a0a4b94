"""Time limits on one timer: they ring when they should, and a cancellation stays one."""

import asyncio
from typing import Any

import pytest

from masscancel.alarms import Alarms

pytestmark = pytest.mark.asyncio

FOREVER = 3600.0


def soon(seconds: float) -> float:
    """That much later, in the loop's time."""
    return asyncio.get_running_loop().time() + seconds


async def wait_for(alarms: Alarms, seconds: float) -> str:
    """What comes of waiting for ever within a limit."""
    try:
        with alarms.at(soon(seconds)):
            await asyncio.Event().wait()
    except TimeoutError:
        return "rang"
    return "ended"


async def test_it_rings() -> None:
    """At its time, the block is left with a `TimeoutError`, and the task can go on."""
    alarms = Alarms(asyncio.get_running_loop())
    assert await wait_for(alarms, 0.001) == "rang"
    await asyncio.sleep(0)  # nothing of the cancellation is left
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_it_does_not_ring_for_a_block_that_has_ended() -> None:
    """Not even where the timer comes for it."""
    alarms = Alarms(asyncio.get_running_loop())
    with alarms.at(soon(0.001)):
        pass
    assert await wait_for(alarms, 0.002) == "rang"


async def test_each_rings_in_its_own_time() -> None:
    """In whatever order they were set, and a later one rings after an earlier one has."""
    alarms, rang = Alarms(asyncio.get_running_loop()), list[float]()

    async def one(seconds: float) -> None:
        await wait_for(alarms, seconds)
        rang.append(seconds)

    await asyncio.gather(*map(one, (0.03, 0.01, 0.04, 0.02)))
    assert rang == [0.01, 0.02, 0.03, 0.04]


async def test_a_time_that_is_past() -> None:
    """It rings as soon as the block waits."""
    assert await wait_for(Alarms(asyncio.get_running_loop()), -1) == "rang"


async def test_many_have_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what they are for: a thousand limits that are not reached set one or two."""
    loop = asyncio.get_running_loop()
    alarms, timers, call_at = Alarms(asyncio.get_running_loop()), list[float](), loop.call_at

    def counted(when: float, *args: Any, **options: Any) -> Any:
        timers.append(when)
        return call_at(when, *args, **options)

    monkeypatch.setattr(loop, "call_at", counted)
    for _ in range(1000):
        with alarms.at(soon(FOREVER)):
            await asyncio.sleep(0)
    assert len(timers) == 1
    with alarms.at(soon(FOREVER / 2)):
        await asyncio.sleep(0)
    assert len(timers) == 2


async def test_a_cancellation_stays_one() -> None:
    """From elsewhere, within the limit."""
    task = asyncio.create_task(wait_for(Alarms(asyncio.get_running_loop()), FOREVER))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_in_the_same_moment_stays_one() -> None:
    """It rings, and before the task can see it, it is cancelled as well: that counts."""
    alarms = Alarms(asyncio.get_running_loop())
    task = asyncio.create_task(wait_for(alarms, FOREVER))
    await asyncio.sleep(0)
    (alarm,) = alarms._set
    alarm.ring()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_within_another() -> None:
    """The outer one ends both, the inner one only its own block."""
    alarms = Alarms(asyncio.get_running_loop())
    with alarms.at(soon(FOREVER)):
        assert await wait_for(alarms, 0.001) == "rang"
    with pytest.raises(TimeoutError), alarms.at(soon(0.001)):
        assert await wait_for(alarms, FOREVER) == "never"


async def test_with_a_time_limit_of_asyncio_around_it() -> None:
    """`asyncio.timeout` sees a cancellation of its own, and makes it its own error."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            assert await wait_for(Alarms(asyncio.get_running_loop()), FOREVER) == "never"


async def test_errors_go_through() -> None:
    """What the block raises is not touched."""
    with (
        pytest.raises(ValueError, match="mine"),
        Alarms(asyncio.get_running_loop()).at(soon(FOREVER)),
    ):
        raise ValueError("mine")
