"""Cancel on exit, within one process: however the block ends, the exchange shows the cancel."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

import masscancel.guard
from masscancel import (
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    DeadMansSwitch,
    FanOutReport,
    Halted,
    OrderGate,
    ScopeError,
    Target,
    cancel_many,
    cancel_on_exit,
)
from masscancel.sim import HELD, Account, Answer, Hang, Hold, Order, Script, SimulatedExchange, What
from masscancel.sim.bitmex import BitMEXDialect
from masscancel.venues.bitmex import BitMEX
from support import account_of, cancelled_on_its_way, client_of, cold_pool

SIGUSR1 = (signal.SIGUSR1,)
REFUSED = Answer(200, b'{"code":200001,"reason":"AUTHENTICATION_FAILED","message":"no"}')


@asynccontextmanager
async def desk(exchange: SimulatedExchange, number: int = 0) -> AsyncIterator[tuple[Account, Any]]:
    """An account with open orders and a client of it, which opens no connection by itself."""
    account = account_of(exchange, number)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        yield account, client


def cancelled(exchange: SimulatedExchange) -> int:
    """How many orders the exchange has cancelled."""
    return sum(record.what is What.CANCELLED for record in exchange.log)


def cancels(exchange: SimulatedExchange) -> int:
    """How many requests to cancel everything the exchange has seen."""
    return len(exchange.operations("cancel-all"))


@pytest.fixture
def calls() -> Iterator[list[int]]:
    """The user's own handler of SIGUSR1: the signals that it was called with."""
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    yield came
    signal.signal(signal.SIGUSR1, before)


# How the block ends.


async def returns() -> None:
    """End well."""


async def raises() -> None:
    """End badly."""
    raise LookupError("the strategy's own")


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
        assert "cash [group-0]: not cancelled for certain" in caplog.text
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


# Many, nested, elsewhere.


@pytest.mark.asyncio
async def test_clients_and_venues_end_side_by_side(exchange: SimulatedExchange) -> None:
    """Targets of several accounts on two venues: every cancel leaves before one is answered."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        accounts, clients = zip(*[await enter(desk(exchange, n)) for n in range(3)], strict=True)
        bitmex = await enter(SimulatedExchange(BitMEXDialect()))
        trader = bitmex.add_account("key", "secret")
        bitmex.place(trader, "account", "XBTUSD")
        other = Client(Credentials("key", "secret"), venue=BitMEX(rest_url=bitmex.rest_url))
        await enter(other)
        exchange.faults.add(Hold("cancel"), operation="cancel-all", times=3)
        bitmex.faults.add(Hold("cancel"), operation="cancel-all")

        async def guarded() -> None:
            targets = [*Target.product(clients, ["cash"]), Target(other, "account")]
            async with cancel_on_exit(targets):
                pass

        task = asyncio.create_task(guarded())
        await exchange.until(lambda: exchange.waiting.count("cancel") == 3)
        await bitmex.until(lambda: "cancel" in bitmex.waiting)
        exchange.release("cancel")
        bitmex.release("cancel")
        await task
        for account in accounts:
            assert exchange.open_orders(account, "cash") == []
        assert bitmex.open_orders(trader, "account") == []


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

    async def guarded(client: Client) -> FanOutReport | None:
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

    async def guarded(*clients: Client) -> None:
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
        {"timeout": 0.25},
        {"signals": signal.SIGINT},
        {"signals": (signal.SIGINT, signal.SIGKILL)},
    ],
)
def test_arguments_are_checked_at_once(options: dict[str, Any]) -> None:
    """What can't be used is refused when the guard is made, not when it is needed."""
    client = Client(Credentials("key", "secret"), venue=BitMEX(rest_url="https://host"))
    with pytest.raises(ConfigurationError):
        cancel_on_exit(Target(client, "account"), **options)


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


# Signals, as far as they can be seen from inside. The rest is in test_guard_signals.py.


@pytest.mark.asyncio
async def test_a_signal_ends_the_block_and_is_delivered_again(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """Gate and first cancel at once, proof after the block, then whose signal it was, once."""
    gate = OrderGate()
    mine = signal.getsignal(signal.SIGUSR1)

    async def guarded() -> None:
        target = Target(client, "cash")
        async with cancel_on_exit(target, gate=gate, signals=(signal.SIGUSR1,)):
            assert signal.getsignal(signal.SIGUSR1) is not mine
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            try:
                await asyncio.Event().wait()
            finally:
                assert gate.is_shut
                assert calls == []
                await exchange.until(lambda: cancelled(exchange) == 2)  # before the block has ended

    async with desk(exchange) as (account, client):
        task = asyncio.create_task(guarded())
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelling() == 0
        assert calls == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is mine
        assert exchange.open_orders(account, "cash") == []


@pytest.mark.asyncio
async def test_nothing_is_left_of_a_block_that_a_signal_has_ended(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """One early cancel, however many signals come; what it waits for ends with the block."""
    exchange.faults.add(Hang(), operation="cancel-all", nth=1)

    async def guarded() -> None:
        target = Target(client, "cash")
        async with cancel_on_exit(target, confirm=False, signals=(signal.SIGUSR1,)):
            try:
                signal.raise_signal(signal.SIGUSR1)
                await asyncio.Event().wait()
            finally:
                await exchange.until(lambda: cancels(exchange) == 1)
                signal.raise_signal(signal.SIGUSR1)
                for _ in range(20):  # nothing can be seen that is not to happen
                    await asyncio.sleep(0)

    async with desk(exchange) as (_, client):
        await asyncio.wait((asyncio.create_task(guarded()),))
        for _ in range(20):  # what has been cancelled comes to its end
            await asyncio.sleep(0)
        assert not [each for each in asyncio.all_tasks() if "masscancel/guard" in repr(each)]
        assert cancels(exchange) == 2


@pytest.mark.asyncio
async def test_a_block_that_does_not_end_is_proven_flat_before_the_signal_goes_on(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """An order that came after the early cancel is swept as well, once the time is up, once."""

    async def guarded() -> None:
        target = Target(client, "cash")
        async with asyncio.timeout(10), cancel_on_exit(target, timeout=0.3, signals=SIGUSR1):
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            for _ in range(2):
                with contextlib.suppress(asyncio.CancelledError):
                    await exchange.until(lambda: cancelled(exchange) == 2)
            exchange.place(account, "cash", "BTC/USDT")
            while not calls:  # noqa: ASYNC110  # it is a signal's handler that tells
                await asyncio.sleep(0.01)
            left.append((cancels(exchange), exchange.open_orders(account, "cash")))

    left: list[tuple[int, list[Order]]] = []
    async with desk(exchange) as (account, client):
        await asyncio.gather(asyncio.create_task(guarded()), return_exceptions=True)
    assert left == [(2, [])]
    assert calls == [signal.SIGUSR1]


@pytest.mark.asyncio
async def test_a_signal_does_not_hide_that_the_owner_cancelled_as_well(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """Two cancellations of the block, of which one is the signal's: the other goes on."""
    inside = asyncio.Event()

    async def guarded() -> None:
        async with cancel_on_exit(Target(client, "cash"), confirm=False, signals=SIGUSR1):
            inside.set()
            await asyncio.Event().wait()

    async with desk(exchange) as (account, client):
        task = asyncio.create_task(guarded())
        await inside.wait()
        signal.raise_signal(signal.SIGUSR1)
        asyncio.get_running_loop().call_soon(task.cancel)  # right after the signal's
        await asyncio.wait((task,))
        assert task.cancelled()
        assert calls == [signal.SIGUSR1]
        assert exchange.open_orders(account, "cash") == []


@pytest.mark.asyncio
async def test_a_signal_ends_all_blocks_that_asked_for_it(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """Two tasks share the handler: it is put back, and the signal delivered, after the last."""
    inside = asyncio.Barrier(3)
    seen: list[list[int]] = []

    async def guarded(category: str) -> None:
        target = Target(client, category)
        async with cancel_on_exit(target, confirm=False, signals=(signal.SIGUSR1,)):
            try:
                await inside.wait()
                await asyncio.Event().wait()
            finally:
                seen.append([*calls])

    async with desk(exchange) as (account, client):
        mine = signal.getsignal(signal.SIGUSR1)
        tasks = [asyncio.create_task(guarded(each)) for each in ("cash", "margin")]
        await inside.wait()
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.wait(tasks)
        assert seen == [[], []]
        assert calls == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is mine
        assert exchange.open_orders(account, "cash") == []
        assert exchange.open_orders(account, "margin") == []


@pytest.mark.asyncio
async def test_a_signal_leaves_other_blocks_alone(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """A block whose guard was not asked to take the signal over is not ended by it."""
    done = asyncio.Event()

    async def guarded() -> str:
        async with cancel_on_exit(Target(client, "margin"), confirm=False, signals=()):
            await done.wait()
        return "undisturbed"

    async with desk(exchange) as (_, client):
        other = asyncio.create_task(guarded())
        await asyncio.sleep(0)
        with contextlib.suppress(asyncio.CancelledError):
            target = Target(client, "cash")
            async with cancel_on_exit(target, confirm=False, signals=(signal.SIGUSR1,)):
                signal.raise_signal(signal.SIGUSR1)
                await asyncio.Event().wait()
        done.set()
        (result,) = await asyncio.gather(other, return_exceptions=True)
        assert result == "undisturbed"


@pytest.mark.asyncio
async def test_a_block_that_begins_after_the_signal_ends_too(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """A signal is not kept waiting by a block that began while another was being left."""
    exchange.faults.add(Hold("cancel"), operation="cancel-all")
    options: dict[str, Any] = {"confirm": False, "signals": (signal.SIGUSR1,)}
    inside = asyncio.Event()

    async def guarded(category: str) -> None:
        async with cancel_on_exit(Target(client, category), **options):
            inside.set()
            await asyncio.Event().wait()

    async with desk(exchange) as (_, client):
        first = asyncio.create_task(guarded("cash"))
        await inside.wait()
        signal.raise_signal(signal.SIGUSR1)
        await exchange.until(lambda: "cancel" in exchange.waiting)
        second = asyncio.create_task(guarded("margin"))
        await asyncio.sleep(0)
        exchange.release("cancel")
        await asyncio.wait((first,))
        _, stuck = await asyncio.wait((second,), timeout=0.5)
        second.cancel()
        await asyncio.wait((second,))
        assert not stuck
        assert calls == [signal.SIGUSR1]


@pytest.mark.asyncio
async def test_the_last_block_may_be_in_another_thread(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """The main thread's handlers come back, whichever block is the last to be left."""
    account = account_of(exchange)
    mine = signal.getsignal(signal.SIGUSR1)
    inside, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def strategy() -> None:
        client = client_of(exchange, account)
        async with client, cancel_on_exit(Target(client, "cash"), confirm=False):
            loop.call_soon_threadsafe(inside.set)
            waiting = asyncio.run_coroutine_threadsafe(leave.wait(), loop)
            await asyncio.wrap_future(waiting)

    async with client_of(exchange, account) as client:
        target = Target(client, "margin")
        async with cancel_on_exit(target, confirm=False, signals=(signal.SIGUSR1,)):
            running = asyncio.create_task(asyncio.to_thread(asyncio.run, strategy()))
            await inside.wait()
        leave.set()
        await running
        assert signal.getsignal(signal.SIGUSR1) is mine


@pytest.mark.asyncio
async def test_a_handler_set_inside_the_block_stays(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """Only our own handler is taken away: the strategy's newer one is not overwritten."""

    def newer(*_: object) -> None:
        """Do nothing, in a way that can be told from other handlers."""

    async with desk(exchange) as (_, client):
        target = Target(client, "cash")
        async with cancel_on_exit(target, confirm=False, signals=(signal.SIGUSR1,)):
            signal.signal(signal.SIGUSR1, newer)
        assert signal.getsignal(signal.SIGUSR1) is newer


@pytest.mark.asyncio
async def test_an_ignored_signal_stays_ignored(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """As after ``nohup`` or in the background of a shell: the block goes on."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    async with desk(exchange) as (_, client):
        target = Target(client, "cash")
        async with cancel_on_exit(target, confirm=False, signals=(signal.SIGUSR1,)):
            signal.raise_signal(signal.SIGUSR1)
            for _ in range(5):
                await asyncio.sleep(0)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


@pytest.mark.asyncio
async def test_a_signal_while_leaving_starts_nothing_anew(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """The cancel that is under way keeps its time limit."""
    exchange.faults.add(Hold("cancel"), operation="cancel-all", times=None)

    async def guarded() -> None:
        target = Target(client, "cash")
        async with cancel_on_exit(target, confirm=False, signals=(signal.SIGUSR1,)):
            pass

    async with desk(exchange) as (_, client):
        task = asyncio.create_task(guarded())
        await exchange.until(lambda: "cancel" in exchange.waiting)
        signal.raise_signal(signal.SIGUSR1)
        with contextlib.suppress(TimeoutError):
            await exchange.until(lambda: exchange.waiting.count("cancel") > 1, timeout=0.1)
        seen = cancels(exchange)
        exchange.release("cancel")
        await asyncio.wait((task,))
        assert seen == 1
        assert calls == [signal.SIGUSR1]


@pytest.mark.asyncio
async def test_a_signal_while_leaving_does_not_become_a_cancellation(
    exchange: SimulatedExchange, calls: list[int]
) -> None:
    """The block had returned, and nobody else cancelled the task: only the handler is called."""
    exchange.faults.add(Hold("cancel"), operation="cancel-all")

    async def guarded() -> str:
        target = Target(client, "cash")
        async with cancel_on_exit(target, confirm=False, signals=(signal.SIGUSR1,)):
            pass
        return "went on"

    async with desk(exchange) as (_, client):
        task = asyncio.create_task(guarded())
        await exchange.until(lambda: "cancel" in exchange.waiting)
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.sleep(0)
        exchange.release("cancel")
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert calls == [signal.SIGUSR1]
        assert result == "went on"


# A cancellation at every step.


async def step_through(
    exchange: SimulatedExchange,
    work: Callable[[Client], Awaitable[Any]],
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
            ours = ("masscancel/guard", "masscancel/driver", "masscancel/fanout", "masscancel/pro")
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

    monkeypatch.setattr(masscancel.guard, "cancel_many", at_once)

    async def work(client: Client) -> None:
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
        assert options["settle"] < options["timeout"]
        if len(limits) == 1:
            await asyncio.sleep(0.06)  # so that less is left than the usual settling time
        if len(limits) < 4:
            raise asyncio.CancelledError
        return await cancel_many(targets, **options)

    monkeypatch.setattr(masscancel.guard, "cancel_many", ended)
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

    async def work(client: Client) -> None:
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
