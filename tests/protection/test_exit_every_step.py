"""`cancel_on_exit`, cancelled at every step of the exit."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest

import masscancel.protection.on_exit as guard
from guard_support import desk
from masscancel import Client, FanOutReport, Target, cancel_many, cancel_on_exit
from masscancel.sim import Account, Hang, Script, SimulatedExchange
from support import client_of, cold_pool

pytestmark = pytest.mark.unmeasured


async def step_through(
    exchange: SimulatedExchange,
    work: Callable[[Client[Any]], Awaitable[Any]],
    check: Callable[[Account, asyncio.Task[Any]], None],
) -> int:
    """Cancel the work after 0, 1, 2... turns of the loop, until it ends before its cancellation.

    Each time, there must be no task and no connection left of it. Returns the number of turns.
    """
    for turns in count():
        account = exchange.add_account(f"key-{turns}", "secret", group=turns)
        exchange.place(account, "cash", "BTC/USDT", script=Script())
        async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
            task = asyncio.ensure_future(work(client))
            for _ in range(turns + 1):
                await asyncio.sleep(0)
            in_time = task.cancel()
            await asyncio.wait((task,))
            ours = ("masscancel/protection", "masscancel/engine", "masscancel/fanout")
            tasks = [repr(task) for task in asyncio.all_tasks()]
            assert not [each for each in tasks if any(name in each for name in ours)]
        await exchange.until(lambda: not exchange.connections)
        if not in_time:
            assert task.exception() is None
            return turns
        assert task.cancelled()
        check(account, task)
    raise AssertionError


@pytest.mark.asyncio
@pytest.mark.parametrize("confirm", [True, False])
async def test_cancelled_at_every_step_of_the_exit(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, confirm: bool
) -> None:
    """Wherever a cancellation strikes: the orders are cancelled, and it is raised again."""

    async def at_once(targets: list[Target], **options: Any) -> FanOutReport:
        return await cancel_many(targets, **(options | {"settle": 0}))

    monkeypatch.setattr(guard, "cancel_many", at_once)

    async def work(client: Client[Any]) -> None:
        async with cancel_on_exit(Target(client, "cash"), confirm=confirm):
            pass

    def check(account: Account, _: asyncio.Task[Any]) -> None:
        assert exchange.open_orders(account, "cash") == []

    assert await step_through(exchange, work, check) > 10


@pytest.mark.asyncio
async def test_a_cancel_that_is_started_again_has_the_time_that_is_left(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends all tasks, again and again, does not prolong it; and a proof still fits in."""
    limits: list[float] = []

    async def ended(targets: list[Target], **options: Any) -> FanOutReport:
        limits.append(options["timeout"])
        assert options["timeout"] <= 10
        if len(limits) == 1:
            await asyncio.sleep(0.06)  # so that less is left than the usual settling time
        if len(limits) < 4:
            raise asyncio.CancelledError
        return await cancel_many(targets, **options)

    monkeypatch.setattr(guard, "cancel_many", ended)
    async with desk(exchange) as (account, client):
        with contextlib.suppress(ExceptionGroup):  # it may have been too short for the proof
            async with cancel_on_exit(Target(client, "cash"), timeout=0.3):
                pass
        assert exchange.open_orders(account, "cash") == []
    assert limits == sorted(limits, reverse=True)
    assert max(limits[1:]) < 0.25


@pytest.mark.asyncio
async def test_cancelled_at_every_step_of_a_confirmed_cancel(exchange: SimulatedExchange) -> None:
    """A plain cancel obeys a cancellation at once, and leaves nothing behind."""

    async def work(client: Client[Any]) -> None:
        await client.cancel_all_and_confirm("cash", settle=0)

    def check(_account: Account, _: asyncio.Task[Any]) -> None:
        """Whether it was in time to cancel anything is open."""

    assert await step_through(exchange, work, check) > 10


@pytest.mark.asyncio
async def test_time_is_up(exchange: SimulatedExchange) -> None:
    """A venue that never answers costs the time limit, and what is known is told."""
    exchange.faults.add(Hang(), operation="cancel-all", times=None)
    async with desk(exchange) as (_, client):
        with pytest.raises(ExceptionGroup) as caught:
            async with cancel_on_exit(Target(client, "cash"), confirm=False, timeout=0.05):
                pass
        (error,) = caught.value.exceptions
        assert isinstance(error, TimeoutError)
        assert getattr(error, "may_have_executed", False)
