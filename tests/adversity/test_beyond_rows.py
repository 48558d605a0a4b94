"""Faults that the page does not list, which take more than one reply, or the local machine."""

import asyncio
import contextlib
import errno
import json
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from masscancel import (
    Ack,
    AuthenticationError,
    Client,
    InvalidRequest,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    RetryPolicy,
    SessionPool,
    Target,
    cancel_many,
)
from masscancel.engine.streams import wait_after
from masscancel.models import Gap
from masscancel.sim import Answer, SimulatedExchange
from masscancel.transport import dialer
from masscancel.transport.clock import Clock, monotonic_ms
from peers import Peer, Seen, ack, ack_bytes, http
from stages import ONCE, client_at, serving, trusting
from support import SECRETS, account_of, client_of
from test_secrets import secrets_in, shown

pytestmark = pytest.mark.asyncio

REFUSED_STAMP = http(b'{"code":100011,"reason":"INVALID_TIMESTAMP","message":"no"}')


# --- replies out of step --------------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [False, True])
async def test_what_is_said_before_anything_was_asked_is_no_ack(
    encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new connection that greets with an Ack of futures is not used: nothing was sent."""
    greeted = asyncio.Event()

    def greet(writer: asyncio.StreamWriter) -> None:
        writer.write(http(b'{"code":0}'))
        greeted.set()

    settle = dialer._settle

    async def slowly(*args: Any) -> Any:
        await greeted.wait()
        return await settle(*args)

    monkeypatch.setattr(dialer, "_settle", slowly)
    async with (
        Peer(
            lambda *_: None, greet=greet, tls=serving("127.0.0.1") if encrypted else None
        ) as other,
        SessionPool(warm=0, ssl_context=trusting()) as pool,
        client_at(other.rest_url, pool, ONCE) as client,
    ):
        with pytest.raises(NotSent) as caught:
            await client.cancel_all("futures")
    assert not caught.value.may_have_executed
    assert not other.seen


async def test_a_connection_that_answers_out_of_step_is_not_used_again() -> None:
    """Its next answer would be the last one's, too: an old listing is no proof."""
    before: dict[int, bytes] = {}

    def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        own = http(ack_bytes(seen, ac="MARGIN" if b"margin" in seen.head else "CASH"))
        writer.write(before.get(seen.connection, own))
        before[seen.connection] = own

    async with (
        Peer(answer) as other,
        SessionPool(warm=0) as pool,
        client_at(other.rest_url, pool, RetryPolicy(base=0.001)) as client,
    ):
        await client.cancel_all("margin")
        ack = await client.cancel_all("cash")
        await other.until(lambda: 1 not in other.open)
    assert [seen.connection for seen in other.seen] == [1, 1, 2]
    assert [attempt.fate for attempt in ack.attempts] == ["unknown", "answered"]


async def test_an_ack_within_another_status_is_not_denied() -> None:
    """HTTP says no and the body says yes: whatever it was, it is not known."""
    async with (
        Peer(lambda seen, writer: writer.write(http(ack_bytes(seen), status="409 No"))) as other,
        SessionPool(warm=0) as pool,
        client_at(other.rest_url, pool, ONCE) as client,
    ):
        with pytest.raises(InvalidRequest) as caught:
            await client.cancel_all("cash")
    assert caught.value.may_have_executed


# --- clocks ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def measuring_for_ever(answer: Any) -> Any:
    """A client of a peer whose clock hangs; a second attempt follows soon."""

    async def reply(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if b"exchange-info" not in seen.head:
            await answer(seen, writer)

    async with (
        Peer(reply) as other,
        SessionPool(warm=0) as pool,
        client_at(other.rest_url, pool, RetryPolicy(patience=0.001)) as client,
    ):
        yield other, client


async def test_an_ack_that_comes_while_the_clock_is_measured_counts() -> None:
    """The first attempt is slow, the second's timestamp refused, and the clock hangs."""
    measuring = asyncio.Event()

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.connection == 1:
            await measuring.wait()
            writer.write(http(ack_bytes(seen)))
        else:
            writer.write(REFUSED_STAMP)

    async with measuring_for_ever(answer) as (other, client):
        calling = asyncio.create_task(client.cancel_all("cash", timeout=30))
        await other.until(lambda: any(b"exchange-info" in seen.head for seen in other.seen))
        measuring.set()
        assert isinstance(await asyncio.wait_for(calling, 5), Ack)


async def test_a_clock_that_repeats_what_was_refused_is_not_believed() -> None:
    """A cache that tells an old time, say. This machine's clock is the next best."""
    clock = Clock()
    now, hour_ago = monotonic_ms(), int(time.time() * 1000) - 3_600_000
    clock.add(now, now + 2, hour_ago)
    assert clock.stamp().time_ms < hour_ago + 60_000
    clock.forget()
    clock.add(now + 10, now + 12, hour_ago + 10)
    stamp = clock.stamp()
    assert abs(stamp.time_ms - time.time() * 1000) < 60_000
    assert stamp.skew_ms >= 30_000
    clock.forget()
    clock.add(now + 20, now + 22, hour_ago + 60_000)
    assert clock.stamp().time_ms < hour_ago + 120_000


@pytest.mark.parametrize("step_s", [5, 20, 29])
async def test_a_clock_that_has_stepped_does_not_hide_the_ack(step_s: int) -> None:
    """The venue still lets such a timestamp in, and its answer carries the request's own id."""

    def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        stamp = int(seen.header("x-auth-timestamp"))
        body = ack(seen, info={"timestamp": stamp - step_s * 1000})
        writer.write(http(json.dumps(body).encode()))

    async with (
        Peer(answer) as other,
        SessionPool(warm=0) as pool,
        client_at(other.rest_url, pool, ONCE) as client,
    ):
        pool._clocks[other.rest_url].add(monotonic_ms(), monotonic_ms(), time_ms())
        assert isinstance(await client.cancel_all("cash"), Ack)


def time_ms() -> int:
    """Now."""
    return int(time.time() * 1000)


# --- the local machine, and crowds ----------------------------------------------------------------


async def test_an_open_connection_serves_when_no_other_can_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No file descriptor is left and the first attempt hangs: an idle connection takes the next."""

    def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if b"margin" in seen.head:
            writer.write(http(ack_bytes(seen, ac="MARGIN")))
        elif len([each for each in other.seen if b"cash" in each.head]) > 1:
            writer.write(http(ack_bytes(seen)))

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async with (
        Peer(answer) as other,
        SessionPool(warm=0) as pool,
        client_at(other.rest_url, pool, ONCE) as opening,
        client_at(other.rest_url, pool, RetryPolicy(base=0.001, patience=0.001)) as client,
    ):
        await asyncio.gather(*(opening.cancel_all("margin") for _ in range(2)))
        monkeypatch.setattr(dialer.Dialer, "_socket", fail)
        ack = await client.cancel_all("cash")
    assert other.accepted == 2
    assert [attempt.fate for attempt in ack.attempts].count("answered") >= 1


async def test_what_was_given_up_for_others_is_not_denied() -> None:
    """One lane, two targets that hang: the text tells that something was sent."""
    async with (
        Peer(lambda *_: None) as other,
        SessionPool(warm=0) as pool,
        client_at(other.rest_url, pool, RetryPolicy(patience=0.01)) as client,
    ):
        targets = Target.product([client], ["cash", "margin"])
        report = await cancel_many(targets, concurrency=1, timeout=0.2)
    for outcome in report.failed:
        assert isinstance(outcome.error, OutcomeUnknown)
        assert "before anything could be sent" not in str(outcome.error)


# --- streams --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def stream_of(exchange: SimulatedExchange) -> Any:
    """A client of an account."""
    async with client_of(exchange, account_of(exchange)) as client:
        yield client


async def following(exchange: SimulatedExchange, client: Client[Any]) -> Any:
    """A consumer that is subscribed."""
    updates = client.order_updates("cash")
    await exchange.until(lambda: exchange.operations("subscribe"))
    await client.cancel_all("cash", via="stream")
    return updates


async def error_of(call: Awaitable[Any]) -> MassCancelError | None:
    """What a call raises, with no frame of a test in it, which knows the secrets."""
    try:
        await call
    except MassCancelError as error:
        return error
    return None


ECHO = f"your key {SECRETS[1]}-0 is\\u001b[31m\\nnot known"


async def test_a_refused_login_does_not_show_the_key(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """The venue repeats the key and the signature: not to consumers, callers or the log."""
    caplog.set_level("DEBUG")
    exchange.faults.add(Answer(401), operation="stream")
    words = f'{{"m":"auth","id":"login:","code":200001,"err":"{ECHO}"}}'
    exchange.faults.add(Answer(body=words.encode()), operation="auth", times=None)
    async with stream_of(exchange) as client:
        for call in (anext(client.order_updates("cash")), client.cancel_all("cash", via="stream")):
            error = await error_of(call)
            assert isinstance(error, AuthenticationError)
            assert "***" in str(error)
            assert not [where for text in shown(error) for where in secrets_in(text)]
    assert not secrets_in(caplog.text)


async def test_a_refused_subscription_does_not_show_the_key(exchange: SimulatedExchange) -> None:
    """Likewise."""
    words = f'{{"m":"error","id":"sub:cash","code":100005,"reason":"NO","info":"{ECHO}"}}'
    exchange.faults.add(Answer(body=words.encode()), operation="subscribe")
    async with stream_of(exchange) as client:
        error = await error_of(anext(client.order_updates("cash")))
        assert isinstance(error, InvalidRequest)
        assert "***" in str(error)
        assert not [where for text in shown(error) for where in secrets_in(text)]


async def test_a_gap_does_not_show_what_a_peer_wants_to_show(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """One short line without secrets, whatever reason the venue gives."""
    caplog.set_level("DEBUG")
    async with stream_of(exchange) as client:
        updates = await following(exchange, client)
        words = f'{{"m":"disconnected","reason":"{ECHO}{"z" * 100_000}"}}'
        exchange.push(words.encode())
        async for item in updates:
            if isinstance(item, Gap):
                break
    assert item.reason.isprintable()
    assert len(item.reason) < 400
    assert not secrets_in(item.reason)
    assert not secrets_in(caplog.text)


async def test_a_refusal_of_nothing_in_particular_proves_nothing(
    exchange: SimulatedExchange,
) -> None:
    """An error without an id may be of a ping: the cancel beside it was carried out."""
    words = b'{"m":"error","code":100005,"reason":"INVALID_WS_REQUEST_DATA"}'
    exchange.faults.add(Answer(body=words, executed=True), operation="cancel-all")
    async with stream_of(exchange) as client:
        with pytest.raises(MassCancelError) as caught:
            await client.cancel_all("cash", via="stream")
    assert caught.value.may_have_executed


async def test_a_login_that_is_taken_back_ends_the_connection(exchange: SimulatedExchange) -> None:
    """There will be no updates any more: consumers are told, and a new login follows."""
    async with stream_of(exchange) as client:
        updates = await following(exchange, client)
        before = len(exchange.operations("stream"))
        exchange.push(b'{"m":"auth","code":200001,"err":"the session has expired"}')
        async with asyncio.timeout(5):
            async for item in updates:
                if isinstance(item, Gap):
                    break
        await exchange.until(lambda: len(exchange.operations("stream")) > before)


async def test_one_greeting_after_another_is_one_login(exchange: SimulatedExchange) -> None:
    """Each would cost a signature and a message."""
    async with stream_of(exchange) as client:
        await following(exchange, client)
        for _ in range(10):
            exchange.push(b'{"m":"connected","type":"unauth"}')
        await client.cancel_all("cash", via="stream")
        await client.cancel_all("cash", via="stream")
        assert len(exchange.operations("auth")) <= 1


async def test_a_stream_that_ends_as_soon_as_it_is_up_is_not_tried_in_a_storm() -> None:
    """The wait doubles on, unless the connection lived for longer than the longest wait."""
    waits = [0.0]
    while len(waits) < 9:
        waits.append(wait_after(waits[-1], lived=0.5, reconnect=(0.1, 5.0)))
    assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert wait_after(5.0, lived=6.0, reconnect=(0.1, 5.0)) == 0.1
