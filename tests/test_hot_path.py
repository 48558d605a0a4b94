"""What one call costs, in counts: a steady guard, so that the hot path can't grow unnoticed.

Times differ from run to run, and counts do not. Where one rises on purpose, raise the limit here,
and say in the change what is bought with it. ``benchmarks/profile_call.py`` counts more.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import pytest

from masscancel import Client, MassCancelError, Target, cancel_many
from masscancel.models import Via
from masscancel.sim import Hang, SimulatedExchange
from support import account_of, client_of, cold_pool

pytestmark = pytest.mark.asyncio

CALLS = 10
#: What is counted of the event loop.
LOOP = ("create_task", "create_future", "call_at")


@asynccontextmanager
async def quiet_client(exchange: SimulatedExchange, **options: Any) -> AsyncIterator[Client]:
    """A client that does nothing in the background; its connection is open."""
    async with (
        cold_pool() as pool,
        client_of(exchange, account_of(exchange), pool=pool, **options) as client,
    ):
        await client.cancel_all("cash", "BTC/USDT")
        yield client


def is_clients(frame: FrameType) -> bool:
    """Whether it is code of ours or of aiohttp's client: the exchange runs in the same loop."""
    path = frame.f_code.co_filename.replace("\\", "/")
    ours = "/masscancel/" in path and "/masscancel/sim/" not in path
    return ours or "/aiohttp/client" in path


async def count(call: Callable[[], Awaitable[object]], *, per: int = 1) -> dict[str, float]:
    """What happens on the client's side per call, or per part of it, after one to warm up."""
    await call()
    seen: Counter[str] = Counter()
    loop: Any = asyncio.get_running_loop()

    def counting(name: str) -> Callable[..., Any]:
        original = getattr(loop, name)

        def counted(*args: Any, **options: Any) -> Any:
            caller = sys._getframe(1)
            while "/asyncio/" in caller.f_code.co_filename and caller.f_back is not None:
                caller = caller.f_back
            seen[name] += is_clients(caller)
            return original(*args, **options)

        return counted

    def profiler(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "/masscancel/" in frame.f_code.co_filename and is_clients(frame):
            seen["python_calls"] += 1

    for name in LOOP:
        setattr(loop, name, counting(name))
    sys.setprofile(profiler)
    try:
        for _ in range(CALLS):
            await call()
    finally:
        sys.setprofile(None)
        for name in LOOP:
            delattr(loop, name)
    return {name: seen[name] / CALLS / per for name in (*LOOP, "python_calls")}


def within(seen: dict[str, float], **limits: float) -> None:
    """Check that something was counted, and that nothing is above its limit."""
    assert seen["python_calls"] > limits["python_calls"] / 2, "the counting does not work"
    assert {name: seen[name] for name in limits if seen[name] > limits[name]} == {}


async def test_a_call_by_rest(exchange: SimulatedExchange) -> None:
    """No task, of ours or of aiohttp's, and no timer of its own."""
    async with quiet_client(exchange) as client:
        before = len(exchange.operations("cancel-all"))
        seen = await count(lambda: client.cancel_all("cash", "BTC/USDT"))
    assert len(exchange.operations("cancel-all")) - before == CALLS + 1
    within(seen, create_task=0, create_future=0, call_at=0, python_calls=103)


async def test_a_call_on_the_stream(exchange: SimulatedExchange) -> None:
    """No task, and no timer of its own."""
    async with quiet_client(exchange, watch=("cash",)) as client:
        seen = await count(lambda: client.cancel_all("cash", "BTC/USDT", via="stream"))
    within(seen, create_task=0, create_future=2, call_at=0, python_calls=91)


async def test_a_target_of_a_fan_out(exchange: SimulatedExchange) -> None:
    """A target costs what a call costs, its own task and its places in the lanes."""
    async with quiet_client(exchange) as client:
        targets = [Target(client, "cash", "BTC/USDT")] * 20
        seen = await count(lambda: cancel_many(targets), per=20)
    within(seen, create_task=1, create_future=0.1, call_at=0.1, python_calls=129)


async def turns_after(task: asyncio.Future[Any], timeout: float) -> int:
    """How many turns of the loop it takes to end what waits, once its time is up.

    The clock is put forward, so that nothing has to be waited for.
    """
    loop: Any = asyncio.get_running_loop()
    real, turns = loop.time, 0
    loop.time = lambda: real() + timeout
    try:
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
    finally:
        del loop.time
    assert isinstance(task.exception(), MassCancelError | TimeoutError)
    return turns


async def more_turns(exchange: SimulatedExchange, call: Awaitable[object]) -> int:
    """How many more than a bare time limit a call takes, which hangs, and has 60 seconds."""

    async def bare() -> None:
        async with asyncio.timeout(60.0):
            await asyncio.Event().wait()

    waiting = asyncio.ensure_future(bare())
    await asyncio.sleep(0)
    expected = await turns_after(waiting, 60.0)
    task = asyncio.ensure_future(call)
    await exchange.until(lambda: exchange.waiting)
    return await turns_after(task, 60.0) - expected


@pytest.mark.parametrize("via", ["rest", "stream", "both"])
async def test_a_call_that_ends_at_its_deadline(exchange: SimulatedExchange, via: Via) -> None:
    """It ends its attempts and waits until they have: three turns of the loop more.

    Each is as long as the loop is busy: with more of them, it would end later under load.
    """
    exchange.faults.add(Hang(), operation="cancel-all", times=None)
    async with client_of(exchange, account_of(exchange), watch=("cash",)) as client:
        await exchange.until(lambda: exchange.streams)
        call = client.cancel_all("cash", timeout=60.0, via=via)
        assert await more_turns(exchange, call) <= 3


async def test_a_proof_that_ends_at_its_deadline(exchange: SimulatedExchange) -> None:
    """Likewise where a listing hangs."""
    exchange.faults.add(Hang(), operation="open-orders", times=None)
    async with client_of(exchange, account_of(exchange)) as client:
        call = client.cancel_all_and_confirm("cash", timeout=60.0)
        assert await more_turns(exchange, call) <= 3
