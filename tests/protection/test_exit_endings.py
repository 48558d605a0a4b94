"""`cancel_on_exit`: however the block ends, the scope is flat, and what ended it goes on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from guard_support import desk, raises, returns
from masscancel import AuthenticationError, Target, cancel_on_exit
from masscancel.sim import Answer, Hold, SimulatedExchange
from support import cancelled_on_its_way

REFUSED = Answer(200, b'{"code":200001,"reason":"AUTHENTICATION_FAILED","message":"no"}')


# How the block ends.


async def waits_for_who_is_cancelled() -> None:
    """End with a cancellation that is not of this task."""
    other = asyncio.create_task(asyncio.Event().wait())
    other.cancel()
    await other


async def is_cancelled() -> None:
    """End as a task does that somebody cancels."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel("by its owner")
    await asyncio.Event().wait()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (returns, None),
        (raises, LookupError),
        (is_cancelled, asyncio.CancelledError),
        (waits_for_who_is_cancelled, asyncio.CancelledError),
    ],
)
async def test_every_end_is_flat(
    exchange: SimulatedExchange,
    body: Callable[[], Awaitable[None]],
    error: type[BaseException] | None,
) -> None:
    """The scope is flat and proven so, and what ended the block goes on unchanged."""

    async def guarded() -> None:
        async with cancel_on_exit(Target(client, "cash")) as guard:
            guards.append(guard)
            assert guard.report is None
            await body()

    guards: list[cancel_on_exit] = []
    async with desk(exchange) as (account, client):
        (result,) = await asyncio.gather(guarded(), return_exceptions=True)
        assert (result is None) if error is None else isinstance(result, error)
        assert not getattr(result, "__notes__", [])
        assert exchange.open_orders(account, "cash") == []
        assert len(exchange.open_orders(account, "margin")) == 2
        report = guards[0].report
        assert report is not None
        assert report.all_ok
        assert report.outcomes[0].confirmation is not None


@pytest.mark.asyncio
@pytest.mark.parametrize("confirm", [False, True])
async def test_a_loop_that_is_held_up_for_all_of_the_time(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, confirm: bool
) -> None:
    """The time is over before anything could begin: the cancel goes out all the same."""
    loop = asyncio.get_running_loop()
    real = loop.time

    def held_up() -> None:
        monkeypatch.setattr(loop, "time", lambda: real() + 3600)

    async with desk(exchange) as (account, client):
        async with cancel_on_exit(Target(client, "cash"), timeout=5, confirm=confirm) as guard:
            loop.call_soon(loop.call_soon, held_up)  # once the fan-out has begun
        assert exchange.open_orders(account, "cash") == []
    assert guard.report is not None
    assert guard.report.all_ok


@pytest.mark.asyncio
async def test_a_timeout_around_the_block(exchange: SimulatedExchange) -> None:
    """It is still a TimeoutError, and the orders are gone."""
    async with desk(exchange) as (account, client):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), cancel_on_exit(Target(client, "cash")):
                await asyncio.Event().wait()
        assert exchange.open_orders(account, "cash") == []
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


@pytest.mark.asyncio
async def test_a_timeout_that_comes_while_the_block_is_left(exchange: SimulatedExchange) -> None:
    """The cancel is finished first; then it is a TimeoutError."""
    exchange.faults.add(Hold("cancel"), operation="cancel-all")
    limit = asyncio.timeout(None)

    async def expire() -> None:
        await exchange.until(lambda: "cancel" in exchange.waiting)
        limit.reschedule(asyncio.get_running_loop().time())
        while not limit.expired():  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0)
        exchange.release("cancel")

    async with desk(exchange) as (account, client), asyncio.TaskGroup() as group:
        group.create_task(expire())
        with pytest.raises(TimeoutError):
            async with limit, cancel_on_exit(Target(client, "cash")):
                pass
        assert exchange.open_orders(account, "cash") == []


@pytest.mark.asyncio
async def test_cancelled_again_and_again_while_leaving(exchange: SimulatedExchange) -> None:
    """No cancellation stops the cancel on its way, and none is lost."""
    exchange.faults.add(Hold("cancel"), operation="cancel-all")

    async def guarded() -> None:
        async with cancel_on_exit(Target(client, "cash")):
            pass

    async with desk(exchange) as (account, client):
        with pytest.raises(asyncio.CancelledError):
            await cancelled_on_its_way(exchange, guarded(), times=5)
        assert exchange.open_orders(account, "cash") == []


@pytest.mark.asyncio
async def test_an_exception_outranks_a_later_cancellation(exchange: SimulatedExchange) -> None:
    """What ended the block is raised, even if the task is cancelled while it is left."""
    exchange.faults.add(Hold("cancel"), operation="cancel-all")

    async def guarded() -> None:
        async with cancel_on_exit(Target(client, "cash")):
            await raises()

    async with desk(exchange) as (account, client):
        with pytest.raises(LookupError):
            await cancelled_on_its_way(exchange, guarded(), times=1)
        assert exchange.open_orders(account, "cash") == []


# What failed.


@pytest.mark.asyncio
async def test_failures_after_a_return_are_a_group(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is nothing to attach it to, a failed cancel is raised; the others were done."""
    exchange.faults.add(REFUSED, path="/cash/", times=None)
    async with desk(exchange) as (account, client):
        guard = cancel_on_exit(Target.product([client], ["cash", "margin"]))
        with pytest.raises(ExceptionGroup) as caught, caplog.at_level(logging.ERROR):
            async with guard:
                pass
        (error,) = caught.value.exceptions
        assert isinstance(error, AuthenticationError)
        assert "cash [group-0]: the cancel failed" in caplog.text
        assert guard.report is not None
        assert [outcome.ok for outcome in guard.report.outcomes] == [False, True]
        assert exchange.open_orders(account, "margin") == []


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [raises, is_cancelled])
async def test_failures_are_noted_on_what_ended_the_block(
    exchange: SimulatedExchange, body: Callable[[], Awaitable[None]]
) -> None:
    """The original exception or cancellation is raised, with a note of what failed."""
    exchange.faults.add(REFUSED, times=None)

    async def guarded() -> list[str]:
        try:
            async with cancel_on_exit(Target(client, "cash")):
                await body()
        except (LookupError, asyncio.CancelledError) as error:
            return error.__notes__
        pytest.fail("what ended the block was lost")

    async with desk(exchange) as (_, client):
        (note,) = await asyncio.create_task(guarded())
        assert "cancel_all_and_confirm cash on ascendex [group-0]" in note
        assert "AUTHENTICATION_FAILED" in note


@pytest.mark.asyncio
async def test_a_failure_does_not_hide_a_cancellation(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """Cancelled while it is left, and the cancel fails: a CancelledError that tells of it."""
    exchange.faults.add(Hold("cancel"), operation="cancel-all")
    exchange.faults.add(REFUSED, operation="cancel-all", times=None)

    async def guarded() -> None:
        async with cancel_on_exit(Target(client, "cash")):
            pass

    async with desk(exchange) as (_, client):
        task = asyncio.create_task(guarded())
        await exchange.until(lambda: "cancel" in exchange.waiting)
        task.cancel()
        await asyncio.sleep(0)
        exchange.release("cancel")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "AUTHENTICATION_FAILED" in caplog.text
