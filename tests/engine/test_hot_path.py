"""What one call costs, as it is seen from outside: when its bytes leave, and when it ends.

How long a call takes, and how much work it makes, is measured by ``benchmarks/``.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest

from masscancel import Client, MassCancelError, Target, cancel_many
from masscancel.models import Via
from masscancel.sim import Hang, SimulatedExchange
from support import account_of, client_of, cold_pool

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def quiet_client(exchange: SimulatedExchange, **options: Any) -> AsyncIterator[Client[Any]]:
    """A client that does nothing in the background; its connection is open."""
    async with (
        cold_pool() as pool,
        client_of(exchange, account_of(exchange), pool=pool, **options) as client,
    ):
        await client.cancel_all("cash", "BTC/USDT")
        yield client


class Ear:
    """The exchange's end of every connection: what has arrived there and not been read yet."""

    def __init__(self, exchange: SimulatedExchange) -> None:
        self._sockets = [
            socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            for transport in exchange._host.connections._numbers
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()

    def heard(self) -> bytes:
        """All of it; the exchange, which is in the same loop, will read it later."""
        found = b""
        for each in self._sockets:
            try:
                found += each.recv(65536, socket.MSG_PEEK)
            except BlockingIOError:
                continue
        return found


async def test_a_call_by_rest_is_written_before_it_waits(exchange: SimulatedExchange) -> None:
    """All of the request has left by the time the call first gives the loop to others."""
    async with quiet_client(exchange) as client:
        with Ear(exchange) as ear:
            calling = asyncio.create_task(client.cancel_all("cash", "BTC/USDT"))
            await asyncio.sleep(0)
            heard = ear.heard()
            await calling
    body = exchange.operations("cancel-all")[-1].body
    assert heard.startswith(b"DELETE ")
    assert heard.endswith(b"\r\n\r\n" + body)
    assert body


async def test_a_call_on_the_stream_is_written_before_it_waits(exchange: SimulatedExchange) -> None:
    """All of the message's frame has left by the time the call first gives the loop to others."""
    async with quiet_client(exchange, watch=("cash",)) as client:
        await client.cancel_all("cash", via="stream")
        with Ear(exchange) as ear:
            calling = asyncio.create_task(client.cancel_all("cash", via="stream"))
            await asyncio.sleep(0)
            heard = ear.heard()
            await calling
    body = exchange.operations("cancel-all")[-1].body
    mask = heard[4:8]
    assert heard[:2] == b"\x81\xfe"  # a text, masked, whose length is in the next two bytes
    assert bytes(byte ^ mask[n % 4] for n, byte in enumerate(heard[8:])) == body


async def test_a_fan_out_is_written_before_any_of_it_is_read(exchange: SimulatedExchange) -> None:
    """On connections that are open, every target's request has left before the venue reads one."""
    async with quiet_client(exchange) as client:
        targets = [Target(client, "cash", "BTC/USDT")] * 5
        await cancel_many(targets)  # opens as many connections
        before = len(exchange.requests)
        with Ear(exchange) as ear:
            calling = asyncio.create_task(cancel_many(targets))
            while (heard := ear.heard()).count(b"DELETE ") < len(targets):
                assert not calling.done()
                assert len(exchange.requests) == before
                await asyncio.sleep(0)
            await calling
    assert heard.count(b"\r\n\r\n") == len(targets)
    assert len(exchange.requests) == before + len(targets)


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
