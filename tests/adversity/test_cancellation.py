"""A task that is cancelled at every await of a call: it ends, is re-raised, and leaves nothing."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from masscancel import Client, RetryPolicy, SessionPool, Target, cancel_many
from masscancel.events import AttemptEnded, AttemptSent, Event
from masscancel.sim import Answer, Drop, Hang, SimulatedExchange, Trickle
from peers import Peer, Seen, ack_bytes, http
from stages import client_at, in_use, ours, serving, trusting
from support import account_of, client_of

pytestmark = [pytest.mark.unmeasured, pytest.mark.asyncio]

Call = Callable[[Client[Any]], Awaitable[Any]]
MANY = 120


class CancelledAt:
    """Awaits something, and cancels the task that does at its n-th suspension."""

    def __init__(self, awaitable: Awaitable[Any], n: int) -> None:
        self._awaitable = awaitable
        self._left = n
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        """Hand every suspension on; ahead of the n-th, ask for the cancellation."""
        inner = self._awaitable.__await__()
        step: Callable[[], Any] = lambda: inner.send(None)  # noqa: E731  # replaced below
        while True:
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            self._left -= 1
            if self._left == 0:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield waits_for
            except BaseException as problem:  # noqa: BLE001  # handed on
                step = _throwing(inner, problem)
            else:
                step = lambda: inner.send(None)  # noqa: E731


def _throwing(inner: Any, problem: BaseException) -> Callable[[], Any]:
    return lambda: inner.throw(problem)


def plain(client: Client[Any]) -> Awaitable[Any]:
    """A direct cancel."""
    return client.cancel_all("cash", timeout=5)


def fan_out(client: Client[Any]) -> Awaitable[Any]:
    """Several at once, through few places."""
    return cancel_many(Target.product([client], ["cash", "margin", "futures"]), concurrency=2)


def listing(client: Client[Any]) -> Awaitable[Any]:
    """What passes the pool's places."""
    return client.open_orders("cash")


FAULTS: dict[str, list[Any]] = {
    "nothing wrong": [],
    "lost": [Drop(executed=True)],
    "page": [Answer(502, b"<html>")],
    "stamp": [Answer(200, b'{"code":100011,"reason":"INVALID_TIMESTAMP"}')],
    "hang": [Hang(executed=True)],
    "trickle": [Trickle(interval=0.0)],
}


class UnderWay(set[tuple[str, int]]):
    """The attempts that were sent, and that nobody has given up or had an answer to."""

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, AttemptSent):
            self.add((event.call_id, event.attempt))
        elif isinstance(event, AttemptEnded):
            self.discard((event.call_id, event.attempt))


@asynccontextmanager
async def scene(
    faults: list[Any], used: bool, times: int | None = 1
) -> AsyncIterator[tuple[Client[Any], SessionPool, UnderWay]]:
    """A client at an exchange with these faults, on a used connection or a new one."""
    async with SimulatedExchange() as exchange:
        account = account_of(exchange)
        pool = SessionPool(warm=0, connections=2)
        retry = RetryPolicy(patience=0.01, base=0.002)
        async with pool, client_of(exchange, account, pool=pool, retry=retry) as client:
            under_way = UnderWay()
            pool.subscribe(under_way)
            if used:
                await client.open_orders("cash")
            for fault in faults:
                exchange.faults.add(
                    fault, path="order/all" if times is None else "order/", times=times
                )
            yield client, pool, under_way


async def check_aftermath(client: Client[Any], pool: SessionPool, under_way: UnderWay) -> None:
    """Nothing is left of a call, and the next one works."""
    await asyncio.sleep(0)
    pool.chores.finish()  # connections of what was given up are ended when there is time
    ack = await client.cancel_all("cash")
    pool.chores.finish()
    assert in_use(pool) <= len(under_way)  # those that lost a race are left to be answered
    assert any(attempt.fate == "answered" for attempt in ack.attempts)
    assert free_places(client) == 2


def free_places(client: Client[Any]) -> int:
    """How many places there are for what does not cancel (a look inside)."""
    assert client._executor is not None
    return min((place._free for place in client._executor.account._places.values()), default=2)


def of_every_day(fault: str, call: Call) -> bool:
    """Whether every day: a direct cancel with each fault, the others where all is well."""
    return call is plain or fault == "nothing wrong"


@pytest.mark.parametrize(
    ("fault", "used", "call"),
    [
        pytest.param(
            fault, used, call, marks=[] if of_every_day(fault, call) else pytest.mark.adversity
        )
        for fault, used in (("nothing wrong", False), *((fault, True) for fault in FAULTS))
        for call in (plain, fan_out, listing)
    ],
)
async def test_cancelled_at_every_turn_of_the_loop(fault: str, used: bool, call: Call) -> None:
    """Row: cancelled at every await. After k turns of the loop, for every k until it is done."""
    for turns in range(MANY):
        async with scene(FAULTS[fault], used) as (client, pool, under_way):
            task = asyncio.ensure_future(call(client))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                await task
                break
            task.cancel()
            async with asyncio.timeout(5):
                with pytest.raises(asyncio.CancelledError):
                    await task
            await check_aftermath(client, pool, under_way)
        assert not ours()
    else:
        assert fault in ("hang", "trickle")  # these end by the clock, not after so many turns
    assert turns > 5


@pytest.mark.adversity
@pytest.mark.parametrize("call", [plain, fan_out, listing])
@pytest.mark.parametrize("fault", FAULTS)
async def test_cancelled_at_every_suspension(fault: str, call: Call) -> None:
    """Row: cancelled at every await. At the n-th suspension of the call's own task, for every n."""
    for n in range(1, MANY):
        async with scene(FAULTS[fault], used=False) as (client, pool, under_way):
            steps = CancelledAt(call(client), n)
            task = asyncio.ensure_future(_await(steps))
            async with asyncio.timeout(5):
                await asyncio.wait({task})
            if steps.suspensions < n:
                assert not task.cancelled()
                break
            assert task.cancelled()
            await check_aftermath(client, pool, under_way)
        assert not ours()
    assert n > 1


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def test_cancelled_twice() -> None:
    """Row: cancelled at every await. A second cancellation during the first does not hang it."""
    for turns in range(40):
        async with scene(FAULTS["hang"], used=True, times=None) as (client, pool, _):
            task = asyncio.ensure_future(client.cancel_all("cash"))
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert not in_use(pool)


@pytest.mark.adversity
async def test_cancelled_in_the_middle_of_tls() -> None:
    """Row: cancelled at every await. Over TLS, handshake and all; no connection stays behind."""

    def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(http(ack_bytes(seen)))

    async with Peer(answer, tls=serving("127.0.0.1")) as peer:
        for turns in range(MANY):
            async with (
                SessionPool(warm=0, ssl_context=trusting()) as pool,
                client_at(peer.rest_url, pool, RetryPolicy()) as client,
            ):
                task = asyncio.ensure_future(client.cancel_all("cash"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                if task.done():
                    break
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert not ours()
        else:
            pytest.fail("it never ended")
        await peer.until(lambda: not peer.open)
    gc.collect()


async def test_cancelled_at_every_turn_of_a_whole_life() -> None:
    """Row: cancelled at every await. Entry, call and exit of a client with a pool of its own."""
    async with SimulatedExchange() as exchange:
        account = account_of(exchange)

        async def life() -> None:
            async with client_of(exchange, account, discover=True) as client:
                await client.cancel_all("cash")

        for turns in range(MANY):
            task = asyncio.create_task(life())
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await exchange.until(lambda: not exchange.connections, timeout=2)
            assert not ours()
        else:
            pytest.fail("it never ended")
        gc.collect()  # an unclosed session would be said now
