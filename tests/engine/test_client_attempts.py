"""The client's attempts: clocks that are off, lost replies, refusals, time limits."""

import asyncio
import re
import time
from email.utils import formatdate
from typing import Any

import pytest

from masscancel import (
    AscendEX,
    Client,
    Credentials,
    DeadlineExceeded,
    InvalidRequest,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    SessionPool,
    VenueUnavailable,
)
from masscancel.sim import Answer, Delay, Drop, Hang, Hold, Redirect, SimulatedExchange, Skew
from support import DENIED, account_of, client_of, cold_pool, raw_server

pytestmark = [pytest.mark.unmeasured, pytest.mark.asyncio]


@pytest.mark.parametrize("skew_ms", [95_000, -95_000, 31_000, -31_000])
async def test_clock_far_off_is_measured_and_acknowledged(skew_ms: int) -> None:
    """A venue whose clock is far from ours acknowledges at the second attempt at the latest."""
    async with SimulatedExchange(skew_ms=skew_ms) as exchange:
        account = account_of(exchange)
        async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
            ack = await client.cancel_all("cash")
            assert [attempt.fate for attempt in ack.attempts] == ["refused", "answered"]
            again = await client.cancel_all("cash")
            assert [attempt.fate for attempt in again.attempts] == ["answered"]
        assert not exchange.open_orders(account, "cash")
        assert len(exchange.operations("clock")) == 1


async def test_an_ack_does_not_wait_for_a_clock_that_is_being_measured(
    exchange: SimulatedExchange,
) -> None:
    """One attempt is refused for its time, and the clock hangs: the other's Ack counts at once."""
    account = account_of(exchange)
    exchange.faults.add(Hold("first"), operation="cancel-all", nth=1)
    exchange.faults.add(Skew(95_000), operation="cancel-all", nth=2)
    exchange.faults.add(Hold("clock"), operation="clock", times=None)
    retry = RetryPolicy(patience=0.02)
    async with (
        SessionPool(warm=0, connect_timeout=60) as pool,
        client_of(exchange, account, pool=pool, retry=retry) as client,
        asyncio.timeout(10),
    ):
        call = asyncio.create_task(client.cancel_all("cash", timeout=60))
        await exchange.until(lambda: "clock" in exchange.waiting)
        exchange.release("first")
        ack = await call
    assert [attempt.fate for attempt in ack.attempts][:2] == ["answered", "refused"]


async def test_a_clock_that_has_jumped_is_measured_anew(exchange: SimulatedExchange) -> None:
    """What was measured before the venue refused does not count, however much quicker it was."""
    account = account_of(exchange)
    exchange.skew_ms = 95_000
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        for skew_ms in (0, -95_000):
            await client.cancel_all("cash")
            exchange.skew_ms = skew_ms
            exchange.faults.add(Delay(0.05), operation="clock")
            ack = await client.cancel_all("cash")
            assert [attempt.fate for attempt in ack.attempts] == ["refused", "answered"]


@pytest.mark.parametrize("dated", [True, False])
async def test_the_date_of_a_refusal_serves_where_the_clock_is_silent(dated: bool) -> None:
    """A venue 95 s ahead whose clock hangs: the refusal's own date does, where it has one."""
    ahead = 95

    async def serve(request: bytes, writer: asyncio.StreamWriter) -> None:
        head = request.partition(b"\r\n\r\n")[0].decode()
        if not head.startswith("DELETE"):
            await asyncio.Event().wait()
        now = time.time() + ahead
        (stamped,) = re.findall(r"x-auth-timestamp: (\d+)", head)
        body = b'{"code":100011,"reason":"INVALID_TIMESTAMP"}'
        if abs(int(stamped) / 1000 - now) < 30:
            info = b'"info":{"symbol":"","timestamp":%d}' % (now * 1000)
            body = b'{"code":0,"data":{"ac":"CASH","action":"cancel-all","status":"Ack",%s}}' % info
        date = b"Date: %s\r\n" % formatdate(now, usegmt=True).encode() if dated else b""
        writer.write(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (date, len(body), body))

    async with raw_server(serve) as address, cold_pool() as pool:
        venue = AscendEX(
            rest_url=f"http://{address}", stream_url=f"ws://{address}", account_group=1
        )
        retry = RetryPolicy(patience=0.05)
        credentials = Credentials("key", "secret")
        async with Client(credentials, venue=venue, pool=pool, retry=retry) as client:
            cancel = client.cancel_all("cash", timeout=5 if dated else 0.3)
            if dated:
                ack = await cancel
                assert [attempt.fate for attempt in ack.attempts] == ["refused", "answered"]
            else:
                with pytest.raises(InvalidRequest):
                    await cancel


async def test_attempts_with_one_wrong_clock_are_refused_once(
    exchange: SimulatedExchange,
) -> None:
    """Two left before the clock was known to be wrong: the second refusal is no news."""
    account = account_of(exchange)
    exchange.skew_ms = 95_000
    for nth in (1, 2):
        exchange.faults.add(Hold(f"refusal {nth}"), operation="cancel-all", nth=nth)
    exchange.faults.add(Hold("clock"), operation="clock")
    retry = RetryPolicy(patience=0.02)
    async with (
        SessionPool(warm=0) as pool,
        client_of(exchange, account, pool=pool, retry=retry) as client,
        asyncio.timeout(10),
    ):
        call = asyncio.create_task(client.cancel_all("cash"))
        await exchange.until(lambda: {"refusal 1", "refusal 2"} <= {*exchange.waiting})
        exchange.release("refusal 1")
        exchange.release("refusal 2")
        await exchange.until(lambda: "clock" in exchange.waiting)
        exchange.release("clock")
        ack = await call
    assert [attempt.fate for attempt in ack.attempts][:2] == ["refused", "refused"]


async def test_clock_is_measured_in_the_background(exchange: SimulatedExchange) -> None:
    """From entry on the clock is read, so that even the first cancel is stamped right."""
    exchange.skew_ms = 95_000
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        clocks = exchange.operations
        await exchange.until(lambda: [r for r in clocks("clock") if r.answer == "answered"][2:3])
        await asyncio.sleep(0)  # the replies are on their way; let them be read
        ack = await client.cancel_all("cash")
    assert ack.attempts[-1].fate == "answered"


async def test_second_refusal_of_the_clock_is_raised(exchange: SimulatedExchange) -> None:
    """A venue that never accepts a timestamp is not asked for ever."""
    account = account_of(exchange)
    exchange.faults.add(Skew(95_000), operation="cancel-all", times=None)
    async with client_of(exchange, account) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.cancel_all("cash")
    assert caught.value.code == 100011
    assert len(exchange.operations("cancel-all")) == 2
    assert not caught.value.may_have_executed


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("reset", [True, False])
async def test_lost_reply_is_sent_again_signed_anew(
    exchange: SimulatedExchange, executed: bool, reset: bool
) -> None:
    """A connection that ends instead of an answer leads to exactly one more, fresh attempt."""
    account = account_of(exchange)
    exchange.faults.add(Drop(executed=executed, reset=reset), operation="cancel-all")
    async with client_of(exchange, account) as client:
        ack = await client.cancel_all("cash")
    first, second = exchange.operations("cancel-all")
    assert [attempt.fate for attempt in ack.attempts] == ["unknown", "answered"]
    assert first.connection != second.connection
    assert first.header("x-auth-timestamp") != second.header("x-auth-timestamp") or (
        first.header("x-auth-signature") == second.header("x-auth-signature")
    )
    assert not exchange.open_orders(account, "cash")


async def test_exactly_one_write_per_attempt(exchange: SimulatedExchange) -> None:
    """The resend of aiohttp stays off: as many requests arrive as there were attempts."""
    account = account_of(exchange)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        await client.cancel_all("cash")  # so that the next is on a reused connection
        exchange.faults.add(Drop(), operation="cancel-all", times=None)
        with pytest.raises(OutcomeUnknown) as caught:
            await client.cancel_all("cash", timeout=0.3)
    seen = len(exchange.operations("cancel-all")) - 1
    tried = len(caught.value.attempts)
    assert tried - 1 <= seen <= tried  # the last one may have been cut short by the deadline
    assert caught.value.may_have_executed


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(502, b"<html>Bad Gateway</html>"), VenueUnavailable),
        (Answer(200, b"<html>maintenance</html>"), ProtocolError),
        (Answer(200, b'{"code":0,"da'), ProtocolError),
        (Answer(200, b""), ProtocolError),
        (Answer(200, b'{"code":100101,"reason":"UNKNOWN_ERROR"}'), VenueUnavailable),
        (Answer(200, b'{"code":510001,"reason":"SERVER_ERROR"}'), VenueUnavailable),
        (Redirect("http://127.0.0.1:9/"), ProtocolError),
    ],
)
async def test_unknown_outcomes_are_retried_then_said(
    exchange: SimulatedExchange, answer: Any, error: type[MassCancelError]
) -> None:
    """What says nothing about the orders is tried again; at the end the error says unknown."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        fault = exchange.faults.add(answer, operation="cancel-all", times=1)
        ack = await client.cancel_all("cash")
        assert [attempt.fate for attempt in ack.attempts] == ["unknown", "answered"]
        exchange.faults.remove(fault)

        exchange.faults.add(answer, operation="cancel-all", times=None)
        with pytest.raises((error, DeadlineExceeded)) as caught:
            await client.cancel_all("margin", timeout=0.3)
    assert caught.value.may_have_executed
    assert len(caught.value.attempts) > 1


async def test_rate_limit_beyond_the_deadline_is_raised_at_once(
    exchange: SimulatedExchange,
) -> None:
    """A Retry-After that does not fit is not waited for, and is told."""
    account = account_of(exchange)
    exchange.faults.add(Answer(429, b"{}", (("Retry-After", "30"),)), times=None, method="DELETE")
    async with client_of(exchange, account) as client:
        with pytest.raises(RateLimited) as caught:
            await client.cancel_all("cash")
    assert caught.value.retry_after == 30
    assert len(exchange.operations("cancel-all")) == 1
    assert not caught.value.may_have_executed


async def test_rate_limit_within_the_deadline_is_waited_for(exchange: SimulatedExchange) -> None:
    """A Retry-After that fits leads to another attempt."""
    account = account_of(exchange)
    exchange.faults.add(Answer(429, b"slow down", (("Retry-After", "0"),)), method="DELETE")
    async with client_of(exchange, account) as client:
        ack = await client.cancel_all("cash")
    assert [attempt.fate for attempt in ack.attempts] == ["refused", "answered"]


async def test_hang_ends_at_the_deadline_as_unknown(exchange: SimulatedExchange) -> None:
    """No answer: bounded, unknown, and both kinds of error that one may look for."""
    account = account_of(exchange)
    exchange.faults.add(Hang(executed=True), operation="cancel-all", times=None)
    async with client_of(exchange, account) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.cancel_all("cash", timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, DeadlineExceeded)
    assert caught.value.may_have_executed
    assert [attempt.fate for attempt in caught.value.attempts] == ["unknown"]


async def test_another_attempt_goes_beside_one_that_is_not_answered(
    exchange: SimulatedExchange,
) -> None:
    """Patience over, a second attempt on another connection is answered; the first is left open."""
    account = account_of(exchange)
    exchange.faults.add(Hold("first"), operation="cancel-all", nth=1)
    retry = RetryPolicy(patience=0.02)
    async with client_of(exchange, account, retry=retry) as client:
        ack = await client.cancel_all("cash")
        assert [attempt.fate for attempt in ack.attempts] == ["open", "answered"]
        first, second = exchange.operations("cancel-all")
        assert first.connection != second.connection
        exchange.release("first")
        await exchange.until(lambda: first.answer == "answered")


async def test_what_was_said_before_the_time_was_up(exchange: SimulatedExchange) -> None:
    """The last attempt is not answered: the error says so, and what the one before came to."""
    account = account_of(exchange)
    exchange.faults.add(Answer(502, b"<html>Bad Gateway</html>"), operation="cancel-all", nth=1)
    exchange.faults.add(Hang(), operation="cancel-all", times=None)
    async with client_of(exchange, account) as client:
        with pytest.raises(OutcomeUnknown, match="; before, HTTP 502; ") as caught:
            await client.cancel_all("cash", timeout=0.3)
    assert isinstance(caught.value, DeadlineExceeded)
    assert isinstance(caught.value.__cause__, VenueUnavailable)
    assert caught.value.__cause__.http_status == 502
    assert caught.value.may_have_executed


@pytest.mark.parametrize("other", [Hang(executed=True), Hold("other")], ids=["silent", "dropped"])
async def test_a_refusal_that_ends_the_call_is_raised(
    exchange: SimulatedExchange, other: Any
) -> None:
    """Whatever becomes of an attempt beside it: that is not known, and the error says so, too."""
    account = account_of(exchange)
    exchange.faults.add(other, operation="cancel-all", nth=1)
    exchange.faults.add(Drop(executed=True), operation="cancel-all", nth=1)
    exchange.faults.add(DENIED, operation="cancel-all", times=None)
    retry = RetryPolicy(patience=0.02)
    async with client_of(exchange, account, retry=retry) as client:
        call = asyncio.create_task(client.cancel_all("cash", timeout=0.3))
        await exchange.until(lambda: [r for r in exchange.requests if r.status == 403])
        exchange.release("other")
        with pytest.raises(PermissionDenied) as caught:
            await call
    assert caught.value.http_status == 403
    assert caught.value.may_have_executed
    assert [attempt.fate for attempt in caught.value.attempts] == ["unknown", "refused"]


async def test_an_ack_that_comes_together_with_a_refusal_counts(
    exchange: SimulatedExchange,
) -> None:
    """Two attempts are answered at the same moment, one with a final refusal: the Ack counts."""
    account = account_of(exchange)
    exchange.faults.add(Hold("both"), operation="cancel-all", times=2)
    exchange.faults.add(DENIED, operation="cancel-all", nth=1)
    retry = RetryPolicy(patience=0.02)
    async with client_of(exchange, account, retry=retry) as client:
        call = asyncio.create_task(client.cancel_all("cash"))
        await exchange.until(lambda: exchange.waiting.count("both") == 2)
        exchange.release("both")
        ack = await call
    assert [attempt.fate for attempt in ack.attempts][:2] == ["refused", "answered"]


async def test_nothing_listens_is_not_sent() -> None:
    """A refused connection is tried again within the time, and nothing can have been executed."""
    venue = AscendEX(rest_url="http://127.0.0.1:9", stream_url="ws://127.0.0.1:9", account_group=1)
    async with Client(Credentials("k", "s"), venue=venue) as client:
        with pytest.raises(NotSent) as caught:
            await client.cancel_all("cash", timeout=0.2)
    assert not caught.value.may_have_executed
    assert {attempt.fate for attempt in caught.value.attempts} == {"not sent"}


async def test_not_sent_never_hides_an_earlier_unknown(exchange: SimulatedExchange) -> None:
    """An attempt that was lost after it was written decides, whatever the later ones saw."""
    account = account_of(exchange)

    async def executes_then_dies() -> None:
        await exchange.until(lambda: exchange.operations("cancel-all"))
        await exchange.close()

    exchange.faults.add(Hang(executed=True), operation="cancel-all", times=None)
    async with client_of(exchange, account) as client:
        dying = asyncio.create_task(executes_then_dies())
        with pytest.raises(OutcomeUnknown) as caught:
            await client.cancel_all("cash", timeout=0.4)
        await dying
    fates = [attempt.fate for attempt in caught.value.attempts]
    assert fates[0] == "unknown"
    assert fates[-1] == "not sent"
    assert caught.value.may_have_executed
