"""What has ended is free at once: none of a call is left for the garbage collector to find.

A thousand calls that hang used to leave sixty thousand objects that referred to each other, and the
collector held the event loop up for a tenth of a second to find them: in the next kill, maybe.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from masscancel import Client, MassCancelError, Target, cancel_many
from masscancel.sim import Action, Answer, Drop, Hang, SimulatedExchange
from support import account_of, client_of, cold_pool

pytestmark = pytest.mark.asyncio


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The collector does not run by itself."""
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def found_in_rings() -> set[str]:
    """The kinds of our own objects that only the collector could free; the exchange's are not."""
    gc.garbage.clear()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    kinds = {type(each) for each in gc.garbage}
    ours = {kind.__qualname__ for kind in kinds if kind.__module__.startswith("masscancel.")}
    exchange = {kind.__qualname__ for kind in kinds if kind.__module__.startswith("masscancel.sim")}
    gc.garbage.clear()
    return ours - exchange


async def direct(client: Client[Any]) -> None:
    """Calls of their own, whose errors are dropped."""

    async def call() -> None:
        with suppress(MassCancelError):
            await client.cancel_all("cash", "BTC/USDT", timeout=0.2)

    await asyncio.gather(*(call() for _ in range(3)))


async def listings(client: Client[Any]) -> None:
    """Listings, likewise."""
    with suppress(MassCancelError):
        await client.open_orders("cash", timeout=0.2)


async def fan_out(client: Client[Any]) -> None:
    """A fan-out whose report is dropped."""
    await cancel_many([Target(client, "cash", "BTC/USDT")] * 3, timeout=0.2, concurrency=2)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("call", [direct, listings, fan_out])
@pytest.mark.parametrize(
    "fault",
    [None, Hang(), Drop(), Answer(status=503), Answer(status=200, body=b"<html>")],
    ids=["answered", "hangs", "closed", "unavailable", "garbage"],
)
async def test_what_has_ended_is_free_at_once(
    exchange: SimulatedExchange,
    call: Callable[[Client[Any]], Awaitable[None]],
    fault: Action | None,
) -> None:
    """Calls, attempts, connections, errors, and what a fan-out has for all its targets."""
    if fault is not None:
        exchange.faults.add(fault, times=None)
    async with (
        cold_pool() as pool,
        client_of(exchange, account_of(exchange), pool=pool) as client,
    ):
        gc.collect()
        await call(client)
        await asyncio.sleep(0.15)  # sockets are closed when there is time
        assert not found_in_rings()
