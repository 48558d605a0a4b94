"""The client's connections: stale ones, idle ones, crowds, and what leaks."""

import asyncio
import gc
import json
import re
from typing import Any

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses

from masscancel import (
    AscendEX,
    Client,
    Credentials,
    InvalidRequest,
    MassCancelError,
    ProtocolError,
    RetryPolicy,
    SessionPool,
)
from masscancel.engine.proof import ProofPolicy
from masscancel.sim import Answer, Hang, SimulatedExchange, What
from support import SECRETS, account_of, client_of, cold_pool, raw_server

pytestmark = pytest.mark.asyncio
SIGN_HEADERS = ("x-auth-key", "x-auth-timestamp", "x-auth-signature")


async def test_cancellation_is_obeyed_and_leaves_no_task(exchange: SimulatedExchange) -> None:
    """A plain cancel_all obeys task cancellation at once and leaves nothing behind."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="cancel-all", times=None)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        before = asyncio.all_tasks()
        call = asyncio.create_task(client.cancel_all("cash"))
        await exchange.until(lambda: exchange.waiting)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not {t for t in asyncio.all_tasks() - before if "masscancel/driver" in repr(t)}


async def test_an_answer_waiting_on_an_idle_connection_is_no_ack(
    exchange: SimulatedExchange,
) -> None:
    """Bytes that nobody asked for close their connection; they are never the next call's Ack."""
    account = account_of(exchange)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        first = await client.cancel_all("cash")
        forged = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(first.raw), first.raw)
        exchange.place(account, "cash", "BTC/USDT")
        exchange.write_unsolicited(forged)
        ack = await client.cancel_all("cash")
        assert ack.raw != first.raw
        assert not exchange.open_orders(account, "cash")
    one, other = exchange.operations("cancel-all")
    assert one.connection != other.connection


async def test_half_an_answer_on_an_idle_connection_is_no_ack(
    exchange: SimulatedExchange,
) -> None:
    """Even a part of a reply that arrives while idle ends the connection."""
    account = account_of(exchange)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        await client.cancel_all("cash")
        exchange.write_unsolicited(b"HTTP/1.1 200 OK\r\nContent-")
        await exchange.until(lambda: not exchange.connections)
        await client.cancel_all("cash")
    one, other = exchange.operations("cancel-all")
    assert one.connection != other.connection


async def test_all_pooled_connections_stale(exchange: SimulatedExchange) -> None:
    """When every kept connection has died, the cancel still gets through within its time."""
    account = account_of(exchange)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        await asyncio.gather(*(client.cancel_all("cash") for _ in range(8)))
        exchange.drop_connections(reset=True)
        ack = await client.cancel_all("margin")
        assert ack.attempts[-1].fate == "answered"
        assert len(ack.attempts) <= 2


async def test_a_cancel_does_not_queue_behind_others(exchange: SimulatedExchange) -> None:
    """With the pool's every place taken by stuck requests, a direct cancel goes out at once."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="open-orders", times=None)
    pool = SessionPool(connections=2, warm=0)
    async with pool, client_of(exchange, account, pool=pool) as client:
        stuck = [asyncio.create_task(client.open_orders("cash")) for _ in range(10)]
        await exchange.until(lambda: len(exchange.operations("open-orders")) == 2)
        ack = await client.cancel_all("cash")
        assert len(exchange.operations("open-orders")) == 2
        assert ack.attempts[0].fate == "answered"
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_listings_take_no_connection_of_a_cancel(exchange: SimulatedExchange) -> None:
    """However many hang, the warm connections wait for a cancel, and it opens none."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="open-orders", times=None)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        await client.cancel_all("cash")
        stuck = [asyncio.create_task(client.open_orders("cash")) for _ in range(5)]
        await exchange.until(lambda: len(exchange.operations("open-orders")) == 5)
        opened = exchange.connections_opened
        await client.cancel_all("cash")
        assert exchange.connections_opened == opened
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_cancel_leaves_before_the_call_yields(exchange: SimulatedExchange) -> None:
    """On a warm connection: a call that is ended at its first wait has reached the venue."""
    account = account_of(exchange)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        await client.cancel_all("cash")
        before = len(exchange.operations("cancel-all"))
        call = client.cancel_all("cash")
        call.send(None)  # runs to its first wait
        call.close()
        await exchange.until(lambda: len(exchange.operations("cancel-all")) == before + 1)


async def test_oversized_reply_is_refused(exchange: SimulatedExchange) -> None:
    """A reply larger than any Ack is not read to its end."""
    account = account_of(exchange)
    exchange.faults.add(Answer(200, b" " * 100_000), operation="cancel-all", times=None)
    once = RetryPolicy(base=60.0)  # so that no later attempt is cut short by the deadline
    async with client_of(exchange, account, retry=once) as client:
        with pytest.raises(ProtocolError, match="larger"):
            await client.cancel_all("cash")


async def test_echoed_secrets_are_scrubbed(exchange: SimulatedExchange) -> None:
    """A peer that repeats the key or the signature does not get them into our errors."""

    def echo(request: bytes, writer: asyncio.StreamWriter) -> None:
        head = json.dumps(request.decode())
        body = f'{{"code":100001,"reason":"X","message":{head}}}'.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with raw_server(echo) as address, cold_pool() as pool:
        venue = AscendEX(
            rest_url=f"http://{address}", stream_url=f"ws://{address}", account_group=1
        )
        async with Client(Credentials(SECRETS[1], SECRETS[0]), venue=venue, pool=pool) as client:
            with pytest.raises(InvalidRequest) as caught:
                await client.cancel_all("cash")
    said = f"{caught.value} {caught.value.message} {caught.value!r} {caught.value.args}"
    assert "x-auth-signature" in said  # the echo is there ...
    assert not any(secret in said for secret in SECRETS)  # ... and what was secret is not
    assert not re.search(r"x-auth-signature: [A-Za-z0-9+/]{20}", said)


async def test_request_shapes() -> None:
    """Method, URL, body and headers, as the venue's documents have them."""
    venue = AscendEX(
        rest_url="https://ascendex.test", stream_url="wss://ascendex.test", account_group=6
    )
    seen: list[tuple[str, dict[str, Any]]] = []

    def reply(url: Any, **kwargs: Any) -> CallbackResult:
        seen.append((str(url), kwargs))
        return CallbackResult(payload={"code": 0, "data": []})

    async with (
        aiohttp.ClientSession() as session,
        cold_pool(session=session) as pool,
        Client(Credentials("key", "secret"), venue=venue, pool=pool) as client,
    ):
        with aioresponses() as mocked:
            base = "https://ascendex.test/6/api/pro"
            for url in (f"{base}/v1/cash/order/all", f"{base}/v2/futures/order/all"):
                mocked.delete(url, callback=reply, payload={}, repeat=True)
            mocked.get(re.compile(".*/order/open.*"), callback=reply, repeat=True)
            await client.open_orders("cash", "BTC/USDT")
            await client.open_orders("futures")
            for scope in (("cash", "BTC/USDT"), ("futures", None)):
                with pytest.raises(MassCancelError):
                    await client.cancel_all(*scope, request_id="ab", timeout=0.01)

    by_url = {url.removeprefix(base): kwargs for url, kwargs in seen}
    assert set(by_url) == {
        "/v1/cash/order/open?symbol=BTC/USDT",  # aioresponses unquotes what it shows
        "/v2/futures/order/open",
        "/v1/cash/order/all",
        "/v2/futures/order/all",
    }
    assert json.loads(by_url["/v1/cash/order/all"]["data"]) == {"id": "ab", "symbol": "BTC/USDT"}
    assert json.loads(by_url["/v2/futures/order/all"]["data"]) == {"id": "ab"}
    for kwargs in by_url.values():
        assert set(SIGN_HEADERS) <= set(kwargs["headers"])
        assert kwargs["allow_redirects"] is False


async def test_nothing_leaks(exchange: SimulatedExchange) -> None:
    """After a client has been left, no task and no connection of it remains."""
    account = account_of(exchange)
    before = asyncio.all_tasks()
    async with client_of(exchange, account) as client:
        await client.cancel_all("cash")
    await exchange.until(lambda: not exchange.connections)
    assert {t for t in asyncio.all_tasks() if "masscancel/session" in repr(t)} <= before
    gc.collect()


async def test_truth_is_in_the_log(exchange: SimulatedExchange) -> None:
    """The Ack and the exchange's own record agree."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        ack = await client.cancel_all("cash", "BTC/USDT")
    cancelled = [record for record in exchange.log if record.what is What.CANCELLED]
    assert {record.symbol for record in cancelled} == {"BTC/USDT"}
    assert all(record.account_id == ack.account_id for record in cancelled)


async def test_a_twin_has_the_same_settings() -> None:
    """Every setting of a client is the twin's, too; it follows no updates by itself."""
    pool = SessionPool()
    client = Client(
        Credentials("key", "secret"),
        venue=AscendEX(rest_url="https://host", stream_url="wss://host", account_group=0),
        pool=pool,
        categories=["cash"],
        retry=RetryPolicy(base=0.1),
        proof=ProofPolicy(sweep_again=0.1),
        entry_timeout=1.0,
    )
    assert vars(client.twin(pool)) == vars(client)
