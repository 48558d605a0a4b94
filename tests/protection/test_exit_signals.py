"""`cancel_on_exit` and signals, as far as they can be seen from inside the process."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from guard_support import cancels, desk
from masscancel import OrderGate, Target, cancel_on_exit
from masscancel.sim import Hang, Hold, Order, SimulatedExchange, What
from support import account_of, client_of

SIGUSR1 = (signal.SIGUSR1,)


def cancelled(exchange: SimulatedExchange) -> int:
    """How many orders the exchange has cancelled."""
    return sum(record.what is What.CANCELLED for record in exchange.log)


@pytest.fixture
def calls() -> Iterator[list[int]]:
    """The user's own handler of SIGUSR1: the signals that it was called with."""
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    yield came
    signal.signal(signal.SIGUSR1, before)


# The rest is in test_guard_signals.py.


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
