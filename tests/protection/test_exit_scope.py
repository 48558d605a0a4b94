"""`cancel_on_exit`: many targets, nested blocks, other threads, the gate, and its arguments."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from guard_support import cancels, desk, raises, returns
from masscancel import (
    Client,
    ConfigurationError,
    Credentials,
    DeadMansSwitch,
    FanOutReport,
    Halted,
    OrderGate,
    ScopeError,
    Target,
    cancel_on_exit,
)
from masscancel.sim import HELD, Hold, Script, SimulatedExchange
from support import account_of, client_of
from venues_support import Trial, TrialDialect


@pytest.fixture
def calls() -> Iterator[list[int]]:
    """The user's own handler of SIGUSR1: the signals that it was called with."""
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    yield came
    signal.signal(signal.SIGUSR1, before)


# Many, nested, elsewhere.


@pytest.mark.asyncio
async def test_clients_and_venues_end_side_by_side(exchange: SimulatedExchange) -> None:
    """Targets of several accounts on two venues: every cancel leaves before one is answered."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        accounts, clients = zip(*[await enter(desk(exchange, n)) for n in range(3)], strict=True)
        trial = await enter(SimulatedExchange(TrialDialect()))
        trader = trial.add_account("key", "secret")
        trial.place(trader, "main", "XBTUSD")
        other = Client(Credentials("key", "secret"), venue=Trial(rest_url=trial.rest_url))
        await enter(other)
        exchange.faults.add(Hold("cancel"), operation="cancel-all", times=3)
        trial.faults.add(Hold("cancel"), operation="cancel-all")

        async def guarded() -> None:
            targets = [*Target.product(clients, ["cash"]), Target(other, "main")]
            async with cancel_on_exit(targets):
                pass

        task = asyncio.create_task(guarded())
        await exchange.until(lambda: exchange.waiting.count("cancel") == 3)
        await trial.until(lambda: "cancel" in trial.waiting)
        exchange.release("cancel")
        trial.release("cancel")
        await task
        for account in accounts:
            assert exchange.open_orders(account, "cash") == []
        assert trial.open_orders(trader, "main") == []


@pytest.mark.asyncio
async def test_nested(exchange: SimulatedExchange) -> None:
    """The inner block is flat before the outer one goes on; then that is flat, too."""
    async with desk(exchange) as (account, client):
        async with cancel_on_exit(Target(client, "margin"), confirm=False):
            with pytest.raises(LookupError):
                async with cancel_on_exit(Target(client, "cash")):
                    await raises()
            assert exchange.open_orders(account, "cash") == []
            assert len(exchange.open_orders(account, "margin")) == 2
        assert exchange.open_orders(account, "margin") == []


@pytest.mark.asyncio
async def test_outside_the_main_thread(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """All but the signals holds in another thread's loop, too."""
    account = account_of(exchange)

    async def strategy() -> None:
        async with client_of(exchange, account) as client, cancel_on_exit(Target(client, "cash")):
            await raises()

    with caplog.at_level(logging.DEBUG), pytest.raises(LookupError):
        await asyncio.to_thread(asyncio.run, strategy())
    assert "signals can't be taken over" in caplog.text
    assert exchange.open_orders(account, "cash") == []


@pytest.mark.asyncio
async def test_the_runner_ends_everything_while_a_block_is_left(
    exchange: SimulatedExchange,
) -> None:
    """A program that returns from main cancels all of its tasks: the cancel starts anew."""
    account = account_of(exchange)
    exchange.faults.add(Hold("cancel"), operation="cancel-all")
    left = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def strategy() -> None:
        client = client_of(exchange, account)
        async with client, cancel_on_exit(Target(client, "cash"), confirm=False):
            pass

    async def main() -> None:
        task = asyncio.create_task(strategy())
        waiting = asyncio.run_coroutine_threadsafe(left.wait(), loop)
        await asyncio.wrap_future(waiting)
        del task

    running = asyncio.create_task(asyncio.to_thread(asyncio.run, main()))
    await exchange.until(lambda: "cancel" in exchange.waiting)
    exchange.faults.clear()
    left.set()
    await running
    assert exchange.open_orders(account, "cash") == []


@pytest.mark.asyncio
async def test_a_client_that_is_left_before_the_block(exchange: SimulatedExchange) -> None:
    """The block is in another task: its cancel is sent and proven before the client closes."""
    account = account_of(exchange)
    leave = asyncio.Event()

    async def guarded(client: Client[Any]) -> FanOutReport | None:
        async with cancel_on_exit(Target(client, "cash")) as guard:
            await leave.wait()
        return guard.report

    async with client_of(exchange, account) as client:
        task = asyncio.create_task(guarded(client))
        await asyncio.sleep(0)
    assert exchange.open_orders(account, "cash") == []
    leave.set()
    report = await task
    assert report is not None
    assert report.all_ok
    assert report.outcomes[0].confirmation is not None


@pytest.mark.asyncio
async def test_clients_that_are_left_before_the_block(exchange: SimulatedExchange) -> None:
    """What the first one's leaving has begun covers all targets, and is done once."""
    accounts = [account_of(exchange, number) for number in range(2)]
    leave = asyncio.Event()

    async def guarded(*clients: Client[Any]) -> None:
        async with cancel_on_exit(Target.product(clients, ["cash"]), confirm=False):
            await leave.wait()

    async with client_of(exchange, accounts[0]) as one, client_of(exchange, accounts[1]) as other:
        task = asyncio.create_task(guarded(one, other))
        await asyncio.sleep(0)
    leave.set()
    await task
    assert [exchange.open_orders(account, "cash") for account in accounts] == [[], []]
    assert cancels(exchange) == 2


@pytest.mark.asyncio
async def test_a_client_that_is_left_after_the_block(exchange: SimulatedExchange) -> None:
    """Nothing is cancelled again: what the block held has been let go."""
    async with desk(exchange) as (_, client):
        async with cancel_on_exit(Target(client, "cash"), confirm=False):
            pass
        assert cancels(exchange) == 1
    assert cancels(exchange) == 1


# The gate, and what else may be asked for.


@pytest.mark.asyncio
@pytest.mark.parametrize("signals", [(), (signal.SIGUSR1,)], ids=["end", "signal"])
async def test_the_gate_is_shut_before_anything_else_runs(
    exchange: SimulatedExchange, calls: list[int], signals: tuple[int, ...]
) -> None:
    """What is to run next when the block ends, or a signal comes, finds the gate shut already."""
    gate = OrderGate()
    shut: list[bool] = []

    async def guarded() -> None:
        async with cancel_on_exit(Target(client, "cash"), gate=gate, signals=signals):
            for number in signals:
                signal.raise_signal(number)
            asyncio.get_running_loop().call_soon(lambda: shut.append(gate.is_shut))
            if signals:
                await asyncio.Event().wait()

    async with desk(exchange) as (_, client):
        await asyncio.wait((asyncio.create_task(guarded()),))
    assert shut == [True]


@pytest.mark.asyncio
@pytest.mark.parametrize("protection", [cancel_on_exit, DeadMansSwitch])
async def test_no_proof_while_an_order_is_under_way(
    exchange: SimulatedExchange, protection: Any
) -> None:
    """It is waited for, however many listings are empty; another sweep takes it when it arrives."""
    gate = OrderGate()
    arrive = asyncio.Event()

    async def order() -> None:
        async with gate.order():
            await arrive.wait()

    async def guarded() -> FanOutReport | None:
        async with protection(Target(client, "cash"), gate=gate) as guard:
            pass
        report: FanOutReport | None = guard.report
        return report

    async with desk(exchange) as (account, client):
        late = exchange.place(account, "cash", "BTC/USDT", script=Script(ack_delay_ms=HELD))
        ordering = asyncio.create_task(order())
        await asyncio.sleep(0)
        leaving = asyncio.create_task(guarded())
        await exchange.until(lambda: len(exchange.operations("open-orders")) >= 3)
        assert not leaving.done()
        exchange.engine.acknowledge(late.order_id, now_ms=exchange.now_ms)
        arrive.set()
        report = await leaving
        await ordering
        assert exchange.open_orders(account, "cash") == []
    assert report is not None
    assert report.outcomes[0].confirmation is not None
    assert report.outcomes[0].confirmation.sweeps == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [returns, raises])
async def test_the_gate_is_shut_first(
    exchange: SimulatedExchange, body: Callable[[], Awaitable[None]]
) -> None:
    """No order passes from the end of the block on, and nothing opens the gate by itself."""
    gate = OrderGate()
    exchange.faults.add(Hold("cancel"), operation="cancel-all")

    async def release() -> None:
        await exchange.until(lambda: "cancel" in exchange.waiting)
        with pytest.raises(Halted):
            async with gate.order():
                pytest.fail("an order passed a gate that is shut")
        exchange.release("cancel")

    async with desk(exchange) as (account, client), asyncio.TaskGroup() as group:
        group.create_task(release())
        with contextlib.suppress(LookupError):
            async with cancel_on_exit(Target(client, "cash"), gate=gate):
                async with gate.order():
                    exchange.place(account, "cash", "BTC/USDT")
                await body()
        assert gate.is_shut
        assert exchange.open_orders(account, "cash") == []
        gate.reopen()


@pytest.mark.asyncio
async def test_orders_under_way_are_waited_for(exchange: SimulatedExchange) -> None:
    """An order that was inside the gate when the block ended leads to another sweep."""
    gate = OrderGate()
    passed = asyncio.Event()

    async def order() -> None:
        async with gate.order():
            passed.set()
            await exchange.until(lambda: exchange.operations("open-orders"))
            exchange.place(account, "cash", "BTC/USDT")

    async with desk(exchange) as (account, client):
        ordering = asyncio.create_task(order())
        async with cancel_on_exit(Target(client, "cash"), gate=gate) as guard:
            await passed.wait()
        await ordering
        assert exchange.open_orders(account, "cash") == []
        assert guard.report is not None
        confirmation = guard.report.outcomes[0].confirmation
        assert confirmation is not None
        assert confirmation.sweeps > 1


@pytest.mark.asyncio
async def test_an_ack_is_enough_without_confirm(exchange: SimulatedExchange) -> None:
    """With confirm=False nothing is listed, and nothing is claimed to be proven."""
    async with desk(exchange) as (_, client):
        async with cancel_on_exit(Target(client, "cash"), confirm=False, timeout=0.2) as guard:
            pass
        assert guard.report is not None
        (outcome,) = guard.report.outcomes
        assert outcome.ack is not None
        assert outcome.confirmation is None
        assert not exchange.operations("open-orders")


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": "soon"},
        {"signals": signal.SIGINT},
        {"signals": (signal.SIGINT, signal.SIGKILL)},
    ],
)
def test_arguments_are_checked_at_once(options: dict[str, Any]) -> None:
    """What can't be used is refused when the guard is made, not when it is needed."""
    client = Client(Credentials("key", "secret"), venue=Trial(rest_url="https://host"))
    with pytest.raises(ConfigurationError):
        cancel_on_exit(Target(client, "main"), **options)


@pytest.mark.parametrize("targets", [[], ["cash"], "cash", None])
def test_targets_are_checked_at_once(targets: Any) -> None:
    """There must be something to cancel."""
    with pytest.raises(ConfigurationError):
        cancel_on_exit(targets)


@pytest.mark.asyncio
async def test_a_guard_guards_one_block(exchange: SimulatedExchange) -> None:
    """It can't be entered again, neither inside its block nor afterwards."""
    async with desk(exchange) as (account, client):
        guard = cancel_on_exit(Target(client, "cash"), confirm=False)
        async with guard:
            with pytest.raises(ConfigurationError):
                async with guard:
                    pytest.fail("entered twice")
        assert exchange.open_orders(account, "cash") == []
        with pytest.raises(ConfigurationError):
            async with guard:
                pytest.fail("entered twice")


@pytest.mark.asyncio
@pytest.mark.parametrize("protection", [cancel_on_exit, DeadMansSwitch])
async def test_a_target_that_can_not_be_cancelled_is_found_on_entering(
    exchange: SimulatedExchange, protection: Any
) -> None:
    """A typo in a scope, or a client that is not entered, shows before it matters."""
    async with desk(exchange) as (account, client):
        for target in (Target(client, "spot"), Target(client, "cash", "BTC-PERP")):
            with pytest.raises(ScopeError):
                async with protection(target):
                    pytest.fail("entered")
        with pytest.raises(ConfigurationError, match="enter"):
            async with protection(Target(client_of(exchange, account), "cash")):
                pytest.fail("entered")
        assert not exchange.operations("cancel-all")
