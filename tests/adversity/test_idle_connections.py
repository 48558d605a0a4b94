"""Connections between requests: what arrives on them, what ends them, and who may take them."""

import asyncio
import socket
from typing import Any

import pytest

from masscancel import (
    Ack,
    AuthenticationError,
    Client,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    RetryPolicy,
    SessionPool,
)
from masscancel.sim import Answer, Drop, Hang, Hold, SimulatedExchange, Unsolicited
from masscancel.transport.connection import Connection
from masscancel.transport.host import SLOW_DIAL
from masscancel.transport.resolver import Resolver
from peers import Peer, Seen, ack_bytes, http
from proxy import Proxy
from stages import client_at, serving, trusting
from support import account_of, client_of, cold_pool

TIMEOUT_408 = b"HTTP/1.0 408 Request Time-out\r\nConnection: close\r\n\r\n<html>Time-out</html>"


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [None, TIMEOUT_408, b"\x00", b"\r\n", b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("settled", [True, False])
async def test_a_reply_to_nothing(
    exchange: SimulatedExchange, data: bytes | None, settled: bool
) -> None:
    """Row: a response on an idle connection. Dropped, whether it has been read yet or not."""
    account = account_of(exchange)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        first = await client.cancel_all("cash")
        exchange.place(account, "cash", "BTC/USDT")
        exchange.write_unsolicited(http(first.raw) if data is None else data)
        if settled:
            await exchange.until(lambda: not exchange.connections)
        ack = await client.cancel_all("cash")
        assert len(ack.attempts) == 1
        assert ack.raw != first.raw
        assert not exchange.open_orders(account, "cash")
    one, other = exchange.operations("cancel-all")
    assert one.connection != other.connection


@pytest.mark.asyncio
@pytest.mark.parametrize("idle", [True, False])
async def test_a_reply_to_nothing_while_a_request_is_signed(
    exchange: SimulatedExchange, idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row: a response on an idle connection. Nothing was sent on it; another is used, at once."""
    account = account_of(exchange)
    retry = RetryPolicy(patience=3600.0, base=0.001)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool, retry=retry) as client:
        await client.cancel_all("margin")
        taken = None if idle else pool.host(exchange.rest_url).take(cancels=True)
        stamp: Any = pool.stamp

        def interrupted(*args: Any) -> Any:
            monkeypatch.undo()
            exchange.write_unsolicited(TIMEOUT_408)
            return stamp(*args)

        monkeypatch.setattr(pool, "stamp", interrupted)
        ack = await client.cancel_all("cash", timeout=1)
        assert [attempt.fate for attempt in ack.attempts] == ["not sent", "answered"]
        if taken is not None:
            taken.abort()
    assert len(exchange.operations("cancel-all")) == 2


@pytest.mark.asyncio
async def test_a_reply_to_nothing_under_load(exchange: SimulatedExchange) -> None:
    """Row: a response on an idle connection. Every Ack of fifty calls at once is its own."""
    account = account_of(exchange)
    exchange.faults.add(Unsolicited(), operation="cancel-all", times=None)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        for _ in range(5):
            calls = [client.cancel_all("cash", request_id=f"id{n:03}") for n in range(10)]
            acks = await asyncio.gather(*calls)
            assert [ack.request_id for ack in acks] == [f"id{n:03}" for n in range(10)]


@pytest.mark.asyncio
async def test_half_closed_while_idle() -> None:
    """Beyond the page: FIN after a reply; the server still reads. A new connection is used."""

    def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(http(ack_bytes(seen)))
        writer.write_eof()

    async with Peer(answer) as peer, cold_pool() as pool, _client(peer.rest_url, pool) as client:
        for _ in range(3):
            ack = await client.cancel_all("cash")
            assert len(ack.attempts) == 1
        assert peer.accepted == 3


@pytest.mark.asyncio
async def test_connections_cut_while_idle(exchange: SimulatedExchange) -> None:
    """Row: every pooled connection is stale. Cut behind the proxy, all at once, again and again."""
    account = account_of(exchange)
    async with (
        Proxy(exchange.port) as proxy,
        cold_pool() as pool,
        _client(proxy.rest_url, pool, account.group) as client,
    ):
        for round_ in range(3):
            await asyncio.gather(*(client.cancel_all("cash") for _ in range(6)))
            proxy.cut()
            ack = await client.cancel_all("cash")
            assert len(ack.attempts) <= 2, round_
    assert not exchange.open_orders(account, "cash")


@pytest.mark.asyncio
async def test_a_parallel_path_gets_through_a_black_hole(exchange: SimulatedExchange) -> None:
    """Row: black hole. Every warm connection swallows packets; one beside it is acknowledged."""
    account = account_of(exchange)
    retry = RetryPolicy(patience=0.02)
    async with Proxy(exchange.port) as proxy, cold_pool() as pool:
        async with _client(proxy.rest_url, pool, account.group, retry=retry) as client:
            await asyncio.gather(*(client.cancel_all("margin") for _ in range(3)))
            proxy.black_hole()
            ack = await client.cancel_all("cash")
            fates = [attempt.fate for attempt in ack.attempts]
            assert (fates[0], fates[-1]) == ("open", "answered")
            assert len(proxy.wires) > 3  # a path of its own, beside those that are dead
        assert not exchange.open_orders(account, "cash")
        assert [r for r in exchange.requests if "/cash/" in r.raw_path]


@pytest.mark.asyncio
async def test_an_attempt_given_up_is_executed_later(exchange: SimulatedExchange) -> None:
    """Row: executed after we gave up. The error says so, and until when it may still happen."""
    account = account_of(exchange)
    exchange.faults.add(Hold("late"), operation="cancel-all", times=None)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.cancel_all("cash", timeout=0.1)
    assert caught.value.may_have_executed
    (attempt,) = caught.value.attempts
    assert (attempt.fate, attempt.acts) == ("unknown", True)
    assert attempt.expires_at_ms == attempt.sent_at_ms + 30_000
    exchange.release("late")
    await exchange.until(lambda: not exchange.open_orders(account, "cash"))


@pytest.mark.asyncio
async def test_idle_connections_serve_others_while_one_connects(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row: pool exhausted. A call that wants a fresh connection takes no idle one from the rest."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="cancel-all", path="futures", times=None)
    retry = RetryPolicy(patience=0.01)
    connecting = asyncio.Event()

    async def hangs(*_: Any, **__: Any) -> Any:
        connecting.set()
        await asyncio.Event().wait()

    async with cold_pool() as pool, client_of(exchange, account, pool=pool, retry=retry) as client:
        await asyncio.gather(*(client.cancel_all("margin") for _ in range(4)))
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "sock_connect", hangs)
        stuck = asyncio.create_task(client.cancel_all("futures"))
        await connecting.wait()  # its second attempt, on a fresh connection
        ack = await client.cancel_all("cash", timeout=0.3)
        assert ack.attempts[0].fate == "answered"
        stuck.cancel()
        await asyncio.wait({stuck})


@pytest.mark.asyncio
async def test_a_dial_that_hangs_on_holds_up_no_later_call(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row: connect hangs. Once the venue can be reached again, no dial of before is waited for."""
    account = account_of(exchange)
    connecting: list[Any] = []

    async def hangs(*address: Any) -> Any:
        connecting.append(address)
        await asyncio.Event().wait()

    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.get_running_loop(), "sock_connect", hangs)
            with pytest.raises(NotSent):
                await client.cancel_all("cash", timeout=2 * SLOW_DIAL)
        ack = await client.cancel_all("cash", timeout=0.5)
        assert [attempt.fate for attempt in ack.attempts] == ["answered"]
    assert len(connecting) == 1
    assert exchange.connections_opened == 1


@pytest.mark.asyncio
async def test_a_dial_that_hangs_hides_no_earlier_attempt(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row: request executed, response lost. What a later attempt waits for makes it no NotSent."""
    exchange.faults.add(Drop(executed=True), operation="cancel-all", times=None)

    async def hangs(*_: Any) -> Any:
        await asyncio.Event().wait()

    account = account_of(exchange)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        await client.open_orders("cash")  # opens the one connection that there will be
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", hangs)
        with pytest.raises(OutcomeUnknown) as caught:
            await client.cancel_all("cash", timeout=0.3)
    assert not isinstance(caught.value, NotSent)
    assert [attempt.fate for attempt in caught.value.attempts][:1] == ["unknown"]
    assert caught.value.may_have_executed


@pytest.mark.asyncio
async def test_no_send_after_a_refusal(exchange: SimulatedExchange) -> None:
    """Row: authentication errors are never retried, not even while an earlier attempt hangs."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="cancel-all", nth=1)
    refusal = Answer(200, b'{"code":200001,"reason":"AUTHENTICATION_FAILED"}')
    exchange.faults.add(refusal, operation="cancel-all", times=None)
    retry = RetryPolicy(patience=0.02)
    async with client_of(exchange, account, retry=retry) as client:
        with pytest.raises(MassCancelError) as caught:
            await client.cancel_all("cash", timeout=0.3)
    assert len(exchange.operations("cancel-all")) == 2
    assert isinstance(caught.value, AuthenticationError | OutcomeUnknown)
    assert caught.value.may_have_executed


@pytest.mark.asyncio
async def test_the_name_of_a_warm_origin_is_not_asked_again() -> None:
    """Row: resolver hangs. Calls on warm connections ask no name service."""
    asked: list[Any] = []

    def lookup(*args: Any, **options: Any) -> Any:
        asked.append(args)
        return socket.getaddrinfo("127.0.0.1", *args[1:], **options)

    answer = lambda seen, writer: writer.write(http(ack_bytes(seen)))  # noqa: E731  # one line
    async with (
        Peer(answer, tls=serving("venue.test")) as peer,
        cold_pool(ssl_context=trusting()) as pool,
        _client(f"https://venue.test:{peer.port}", pool) as client,
    ):
        pool._dialer.resolver = Resolver(ttl=0.001, lookup=lookup)  # in place of the system's
        for _ in range(3):
            await client.cancel_all("cash")
            await asyncio.sleep(0.002)
    assert len(asked) == 1
    assert peer.accepted == 1


def _client(url: str, pool: SessionPool, group: int = 0, **options: Any) -> Client[Any]:
    return client_at(url, pool, options.get("retry", RetryPolicy()), group)


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_leaves_the_connection_of_another_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the page: in one turn its answer ends, another takes the connection, it is ended."""
    begun, ends, news = asyncio.Event(), asyncio.Event(), asyncio.Event()
    real = Connection.data_received

    def data_received(self: Connection, data: bytes) -> None:
        (news if ends.is_set() else begun).set()  # news: something else has come just before
        real(self, data)

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        whole = http(ack_bytes(seen))
        if len(peer.seen) == 2:
            writer.write(whole[:-1])
            await ends.wait()
            whole = whole[-1:]
        writer.write(whole)

    async with Peer(answer) as peer, cold_pool() as pool, _client(peer.rest_url, pool) as client:
        await client.cancel_all("cash")
        monkeypatch.setattr(Connection, "data_received", data_received)
        first = asyncio.create_task(client.cancel_all("cash"))
        await begun.wait()

        async def kill() -> Ack:
            await news.wait()
            first.cancel()
            return await client.cancel_all("cash")

        second = asyncio.create_task(kill())
        await asyncio.sleep(0)
        ends.set()
        assert len((await second).attempts) == 1
        assert first.cancelled()
        assert peer.accepted == 1
