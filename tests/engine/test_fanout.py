"""The fan-out: many targets, one outcome each, nobody disturbs another."""

import asyncio
import json
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from masscancel import (
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    DeadlineExceeded,
    FanOutReport,
    MassCancelError,
    Outcome,
    RetryPolicy,
    ScopeError,
    Target,
    cancel_as_completed,
    cancel_many,
)
from masscancel.sim import Hang, Hold, SimulatedExchange
from support import account_of, client_of, cold_pool

pytestmark = pytest.mark.asyncio


async def test_outcomes_in_the_order_of_the_targets(exchange: SimulatedExchange) -> None:
    """Whatever ends first, the report has the targets' order, and everything is gone."""
    accounts = [account_of(exchange, number) for number in range(3)]
    exchange.faults.add(Hold("slow"), operation="cancel-all", api_key=accounts[0].api_key)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(cold_pool())
        clients = [
            await stack.enter_async_context(client_of(exchange, account, pool=pool))
            for account in accounts
        ]
        targets = Target.product(clients, ["cash", "margin"], ["BTC/USDT", "ETH/USDT"])
        ended: list[Outcome] = []

        def note(outcome: Outcome) -> None:
            ended.append(outcome)
            if len(ended) == len(targets) - 1:
                exchange.release("slow")

        report = await cancel_many(targets, on_outcome=note)
    assert [outcome.target for outcome in report.outcomes] == targets
    assert report.all_ok
    assert ended[-1].target.client is clients[0]
    assert not report.failed
    assert len(report.succeeded) == len(targets) == 12
    report.raise_for_failures()
    for account in accounts:
        assert not exchange.open_orders(account, "cash")
        assert not exchange.open_orders(account, "margin")
        assert exchange.open_orders(account, "futures")


async def test_one_hangs_one_is_refused_198_are_good(exchange: SimulatedExchange) -> None:
    """The judge's own case: 200 targets over 20 accounts, two of them in trouble."""
    symbols = [f"S{number}/USDT" for number in range(10)]
    accounts = [exchange.add_account(f"key-{n}", f"secret-{n}", group=n) for n in range(20)]
    for account in accounts:
        for symbol in symbols:
            exchange.place(account, "cash", symbol)
    exchange.faults.add(Hang(), operation="cancel-all", api_key="key-3", nth=1)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(cold_pool())
        clients = [
            await stack.enter_async_context(client_of(exchange, account, pool=pool))
            for account in accounts
        ]
        liar = Client(Credentials("key-5", "wrong"), venue=clients[5].venue, pool=pool)
        await stack.enter_async_context(liar)
        targets = Target.product(clients, ["cash"], symbols)
        targets[55] = Target(liar, "cash", symbols[5])
        # The one that hangs does so in every attempt: its first is the fault's, the rest follow.
        exchange.faults.add(Hang(), path="/3/api/pro", times=None)
        targets = [t for i, t in enumerate(targets) if not (30 <= i < 40) or i == 30]
        async with cancel_as_completed(targets, timeout=30, concurrency=8) as outcomes:
            good = 0
            refused = []
            async for outcome in outcomes:
                good += outcome.ok
                if outcome.error is not None:
                    refused.append(outcome.error)
                if good == 189:
                    break
    assert good == 189
    assert [type(error) for error in refused] == [AuthenticationError]


async def test_a_failure_is_its_own_and_can_be_raised(exchange: SimulatedExchange) -> None:
    """Errors of ours and of anybody's become outcomes; raise_for_failures groups them."""
    account = account_of(exchange)

    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:

        class Broken:
            """Anything that has what a target needs, and a bug."""

            account = "broken"
            origin = client.origin
            check_scope = client.check_scope
            warm = client.warm
            before_close = client.before_close

            async def cancel(self, *_: Any, **__: Any) -> Any:
                raise RuntimeError("a bug")

        targets = [
            Target(client, "cash"),
            Target(client, "nonsense"),
            Target(Broken(), "cash"),
            Target(client, "margin", "BTC/USDT"),
        ]
        report = await cancel_many(targets)
    assert [outcome.ok for outcome in report.outcomes] == [True, False, False, True]
    assert isinstance(report.outcomes[1].error, ScopeError)
    broken = report.outcomes[2].error
    assert isinstance(broken, MassCancelError)
    assert "a bug" in str(broken)
    with pytest.raises(ExceptionGroup) as caught:
        report.raise_for_failures()
    assert caught.value.exceptions == tuple(outcome.error for outcome in report.failed)


async def test_what_could_not_start_says_so(exchange: SimulatedExchange) -> None:
    """With one place and one that hangs, the others fail with nothing sent."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="cancel-all", times=None)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        targets = Target.product([client], ["cash"], ["BTC/USDT", "ETH/USDT"])
        report = await cancel_many(targets, concurrency=1, timeout=0.1)
    first, second = (outcome.error for outcome in report.outcomes)
    assert isinstance(first, DeadlineExceeded)
    assert first.may_have_executed
    assert isinstance(second, DeadlineExceeded)
    assert not second.may_have_executed
    assert second.attempts == ()
    assert len(exchange.operations("cancel-all")) == 1


async def test_one_that_hangs_gives_its_place_up(exchange: SimulatedExchange) -> None:
    """Even with a single place, one that is not answered does not keep the others from starting."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="cancel-all", nth=1)
    retry = RetryPolicy(patience=0.02)
    async with client_of(exchange, account, retry=retry) as client:
        targets = Target.product([client], ["cash"], ["BTC/USDT", "ETH/USDT"])
        report = await cancel_many(targets, concurrency=1)
    assert report.all_ok
    hung = report.outcomes[0].ack
    assert hung is not None
    assert [attempt.fate for attempt in hung.attempts] == ["open", "answered"]


async def test_concurrency_bounds_requests_in_flight(exchange: SimulatedExchange) -> None:
    """Never more than ``concurrency`` requests of the fan-out are with the exchange."""
    account = account_of(exchange)
    exchange.faults.add(Hold("all"), operation="cancel-all", times=None)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        targets = Target.product([client], ["cash"], [f"S{n}/USDT" for n in range(20)])

        def arrived(expected: int) -> bool:
            return len(exchange.requests) >= expected and len(exchange.waiting) >= 4

        running = asyncio.create_task(cancel_many(targets, concurrency=4))
        for expected in range(4, 24, 4):
            await exchange.until(partial(arrived, expected))
            assert (len(exchange.requests), len(exchange.waiting)) == (expected, 4)
            exchange.release("all")
        report = await running
    assert report.all_ok


async def test_connections_bound_what_does_not_cancel(exchange: SimulatedExchange) -> None:
    """An account's listings keep to the pool's ``connections``; its cancels wait for none."""
    account = account_of(exchange)
    exchange.faults.add(Hold("all"), operation="open-orders", times=None)
    async with (
        cold_pool(connections=4) as pool,
        client_of(exchange, account, pool=pool, retry=RetryPolicy(patience=60)) as client,
    ):
        listing = [asyncio.create_task(client.open_orders("cash", timeout=60)) for _ in range(12)]
        for turn in range(1, 4):
            await exchange.until(lambda: len(exchange.waiting) == 4)
            await client.cancel_all("cash")
            assert len(exchange.operations("open-orders")) == 4 * turn
            exchange.release("all")
        await asyncio.gather(*listing)


async def test_leaving_early_ends_what_is_under_way(exchange: SimulatedExchange) -> None:
    """Breaking out of the iteration leaves no task behind."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="cancel-all", times=None, path="cash")
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        targets = [Target(client, "cash"), Target(client, "margin")]
        async with cancel_as_completed(targets) as outcomes:
            async for outcome in outcomes:
                assert outcome.target.account_category == "margin"
                break
        assert not [t for t in asyncio.all_tasks() if "masscancel/fanout" in repr(t)]


async def test_cancelling_a_fan_out_ends_it(exchange: SimulatedExchange) -> None:
    """Task cancellation of the whole is obeyed and leaves nothing."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="cancel-all", times=None)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        running = asyncio.create_task(cancel_many(Target.product([client], ["cash", "margin"])))
        await exchange.until(lambda: len(exchange.waiting) == 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not [t for t in asyncio.all_tasks() if "masscancel/fanout" in repr(t)]


async def test_what_on_outcome_raises_reaches_the_caller(exchange: SimulatedExchange) -> None:
    """A broken callback is not swallowed."""
    account = account_of(exchange)

    def broken(_: Outcome) -> None:
        raise LookupError("mine")

    async with client_of(exchange, account) as client:
        with pytest.raises(LookupError, match="mine"):
            await cancel_many([Target(client, "cash")], on_outcome=broken)


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"concurrency": True}, {"concurrency": 1.5}, {"timeout": 0}],
)
async def test_bad_arguments(exchange: SimulatedExchange, options: dict[str, Any]) -> None:
    """A bound or a time limit that can't be used is refused before anything is sent."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        with pytest.raises(ConfigurationError):
            await cancel_many([Target(client, "cash")], **options)
        with pytest.raises(ConfigurationError, match="Target"):
            await cancel_many([("cash", None)])  # type: ignore[list-item]
    assert not exchange.operations("cancel-all")


async def test_no_targets_is_no_failure() -> None:
    """An empty fan-out is an empty report."""
    report = await cancel_many([])
    assert report == FanOutReport((), report.elapsed)
    assert report.all_ok


@pytest.mark.unmeasured
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.adversity)])
async def test_very_many_targets(exchange: SimulatedExchange, count: int) -> None:
    """Size alone breaks nothing: each has its outcome, in order."""
    account = exchange.add_account(group=1)
    exchange.engine.log.clear()
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        targets = Target.product([client], ["cash"], [f"S{n}/USDT" for n in range(count)])
        report = await cancel_many(targets, timeout=300)
    assert report.all_ok
    assert [outcome.target.symbol for outcome in report.outcomes] == [t.symbol for t in targets]


async def test_nobody_is_asked_twice_before_all_were_asked_once(
    exchange: SimulatedExchange,
) -> None:
    """Targets that hang give their places up, and wait until the others have had their turn."""
    symbols = [f"T{number}/USDT" for number in range(8)]
    for nth in (1, 2):
        exchange.faults.add(Hang(), operation="cancel-all", nth=nth)
    retry = RetryPolicy(patience=0.25)
    async with client_of(exchange, account_of(exchange), retry=retry) as client:
        targets = Target.product([client], ["cash"], symbols)
        report = await cancel_many(targets, concurrency=2)
    assert report.all_ok
    asked = [json.loads(request.body)["symbol"] for request in exchange.operations("cancel-all")]
    assert {*asked[:8]} == {*symbols}


async def test_targets_that_wait_have_no_task(exchange: SimulatedExchange) -> None:
    """However many there are, tasks are as many as places, and a few."""
    exchange.faults.add(Hang(), operation="cancel-all", times=None)
    async with cold_pool() as pool, client_of(exchange, account_of(exchange), pool=pool) as client:
        before = asyncio.all_tasks()
        targets = Target.product([client], ["cash"], [f"T{number}/USDT" for number in range(200)])
        fan_out = asyncio.create_task(cancel_many(targets, concurrency=4))
        await exchange.until(lambda: len(exchange.waiting) == 4)
        mine = {task for task in asyncio.all_tasks() - before if "masscancel/sim" not in repr(task)}
        assert len(mine) < 20
        fan_out.cancel()
        await asyncio.wait({fan_out})
