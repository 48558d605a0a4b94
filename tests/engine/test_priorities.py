"""A cancel waits for nothing that it does not need: no listing, account, origin, hung request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from masscancel import Client, RetryPolicy, SessionPool, Target, cancel_many, cancel_on_exit
from masscancel.sim import Answer, Delay, Hang, SimulatedExchange
from masscancel.venues.ascendex import AscendEX
from support import SECRETS, account_of, client_of

pytestmark = pytest.mark.asyncio


def key_of(number: int) -> str:
    """The key of an account."""
    return f"{SECRETS[1]}-{number}"


@asynccontextmanager
async def two_accounts(
    exchange: SimulatedExchange, **options: Any
) -> AsyncIterator[tuple[Client[AscendEX], Client[AscendEX]]]:
    """Clients of two accounts at one exchange, in one pool."""
    async with SessionPool() as pool:
        one = client_of(exchange, account_of(exchange, 0), pool=pool, **options)
        two = client_of(exchange, account_of(exchange, 1), pool=pool, **options)
        async with one, two:
            yield one, two


async def test_hung_listings_of_another_account_hold_no_cancel_up(
    exchange: SimulatedExchange,
) -> None:
    """With hundreds of listings of one account hanging, another's guard cancels and proves."""
    async with two_accounts(exchange) as (one, two):
        exchange.faults.add(Hang(), operation="open-orders", api_key=key_of(1), times=None)
        hung = [asyncio.create_task(two.open_orders("cash", timeout=60)) for _ in range(300)]
        await exchange.until(lambda: len(exchange.operations("open-orders")) >= 64)
        async with cancel_on_exit(Target(one, "cash"), timeout=5) as guard:
            pass
        assert guard.report is not None
        assert guard.report.all_ok
        for task in hung:
            task.cancel()
        await asyncio.wait(hung)


async def test_hung_listings_of_ones_own_hold_no_cancel_up(exchange: SimulatedExchange) -> None:
    """Nor do an account's own listings hold up its cancels."""
    async with client_of(exchange, account_of(exchange)) as client:
        exchange.faults.add(Hang(), operation="open-orders", times=None)
        hung = [asyncio.create_task(client.open_orders("cash", timeout=60)) for _ in range(100)]
        await exchange.until(lambda: len(exchange.operations("open-orders")) >= 64)
        report = await cancel_many(Target(client, "cash"), timeout=5)
        assert report.all_ok
        for task in hung:
            task.cancel()
        await asyncio.wait(hung)


async def test_a_sick_venue_starves_no_well_one(exchange: SimulatedExchange) -> None:
    """In one fan-out, the targets of a venue that hangs keep no place from those of another."""
    async with (
        SimulatedExchange() as sick,
        SessionPool() as pool,
        client_of(sick, account_of(sick), pool=pool) as ill,
        client_of(exchange, account_of(exchange), pool=pool) as well,
    ):
        sick.faults.add(Hang(), operation="cancel-all", times=None)
        acked = asyncio.Event()
        fan_out = asyncio.create_task(
            cancel_many(
                [*[Target(ill, "cash")] * 200, Target(well, "cash")],
                timeout=30,
                on_outcome=lambda outcome: acked.set() if outcome.ok else None,
            )
        )
        await asyncio.wait_for(acked.wait(), 10)
        assert not fan_out.done()
        fan_out.cancel()
        await asyncio.wait((fan_out,))


async def test_a_slow_answer_is_waited_for(exchange: SimulatedExchange) -> None:
    """In a fan-out, too, a second attempt goes beside one that is slow, and either may answer."""
    exchange.faults.add(Delay(0.2), operation="cancel-all", times=None)
    quick = RetryPolicy(patience=0.1)
    async with client_of(exchange, account_of(exchange), retry=quick) as client:
        report = await cancel_many(Target(client, "cash"), timeout=5)
    assert report.all_ok
    ack = report.outcomes[0].ack
    assert ack is not None
    assert [attempt.fate for attempt in ack.attempts] == ["answered", "open"]


async def test_a_slow_target_gives_its_place_up(exchange: SimulatedExchange) -> None:
    """With one place, a target that hangs keeps the next one waiting for its patience only."""
    async with client_of(exchange, account_of(exchange), retry=RetryPolicy(patience=0.1)) as client:
        exchange.faults.add(Hang(), operation="cancel-all", path="cash", times=None)
        report = await cancel_many(
            [Target(client, "cash"), Target(client, "margin")], timeout=1, concurrency=1
        )
    assert [outcome.ok for outcome in report.outcomes] == [False, True]


async def test_a_sick_account_starves_no_well_one(exchange: SimulatedExchange) -> None:
    """In one fan-out, hung targets of many accounts keep no place from those of another."""
    patient = RetryPolicy(patience=60)  # nobody gives a place up meanwhile
    async with SessionPool(warm=0) as pool, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                client_of(exchange, account_of(exchange, number), pool=pool, retry=patient)
            )
            for number in range(100)
        ]
        for number in range(99):
            exchange.faults.add(Hang(), operation="cancel-all", api_key=key_of(number), times=None)
        acked = asyncio.Event()
        targets = [*[Target(clients[0], "cash")] * 200, *(Target(c, "cash") for c in clients)]
        fan_out = asyncio.create_task(
            cancel_many(
                targets,
                timeout=60,
                on_outcome=lambda outcome: acked.set() if outcome.ok else None,
            )
        )
        await asyncio.wait_for(acked.wait(), 30)
        fan_out.cancel()
        await asyncio.wait((fan_out,))


@pytest.mark.unmeasured
async def test_failing_targets_of_one_account_use_up_no_other_ones_retries(
    exchange: SimulatedExchange,
) -> None:
    """While 300 targets of one account fail, another gets its one retry."""
    async with two_accounts(exchange) as (one, two):
        exchange.faults.add(Answer(503), operation="cancel-all", api_key=key_of(0), times=None)
        failing = asyncio.create_task(
            cancel_many([Target(one, "cash")] * 300, timeout=30, concurrency=300)
        )
        await exchange.until(lambda: len(exchange.operations("cancel-all")) > 330)
        exchange.faults.add(Answer(503), operation="cancel-all", api_key=key_of(1))
        ack = await two.cancel_all("cash", timeout=10)
        assert len(ack.attempts) == 2
        failing.cancel()
        await asyncio.wait((failing,))
