"""The client, end to end: what the exchange executed is the judge."""

import asyncio
import gc
import json
import re
import time
from email.utils import formatdate
from typing import Any

import pytest
from aioresponses import CallbackResult, aioresponses

from masscancel import (
    AscendEX,
    AuthenticationError,
    Client,
    ConfigurationError,
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
    ScopeError,
    SessionPool,
    VenueUnavailable,
)
from masscancel.sim import Answer, Delay, Drop, Hang, Hold, Redirect, SimulatedExchange, Skew, What
from masscancel.venues.binance import Binance
from support import SECRETS, account_of, client_of, cold_pool, raw_server, venue_of

pytestmark = pytest.mark.asyncio

SCOPES = [("cash", None), ("margin", "BTC/USDT"), ("futures", "BTC-PERP"), ("futures", None)]
SIGN_HEADERS = ("x-auth-key", "x-auth-timestamp", "x-auth-signature")


def open_symbols(exchange: SimulatedExchange, account: Any) -> dict[str, set[str]]:
    """What is left in the account, by category."""
    return {
        category: {order.symbol for order in exchange.open_orders(account, category)}
        for category in ("cash", "margin", "futures")
    }


@pytest.mark.parametrize(("category", "symbol"), SCOPES)
async def test_cancels_exactly_the_scope(
    exchange: SimulatedExchange, category: str, symbol: str | None
) -> None:
    """The right orders are gone and no others, and the Ack says what was asked."""
    account = account_of(exchange)
    before = open_symbols(exchange, account)
    async with client_of(exchange, account) as client:
        ack = await client.cancel_all(category, symbol)

    expected = dict(before)
    expected[category] = before[category] - {symbol} if symbol else set()
    assert open_symbols(exchange, account) == expected
    assert (ack.account_category, ack.symbol, ack.action) == (category, symbol or "", "cancel-all")
    assert ack.account_id == account.ids[category]
    assert [attempt.fate for attempt in ack.attempts] == ["answered"]
    assert json.loads(ack.raw)["code"] == 0


async def test_ack_carries_id_and_timestamp(exchange: SimulatedExchange) -> None:
    """The id is echoed, and the timestamp is the server's."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        made_up = await client.cancel_all("cash")
        given = await client.cancel_all("cash", request_id="kill_1-a")
        another = await client.cancel_all("cash")
    assert re.fullmatch(r"\w{32}", made_up.request_id)
    assert given.request_id == "kill_1-a"
    assert another.request_id != made_up.request_id
    assert given.status == "Ack"
    assert given.timestamp_ms is not None
    expires = given.attempts[0].expires_at_ms
    assert expires == given.attempts[0].sent_at_ms + 30_000


async def test_open_orders(exchange: SimulatedExchange) -> None:
    """The listing is the exchange's, by category and by symbol."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        everything = await client.open_orders("cash")
        one = await client.open_orders("futures", "ETH-PERP")
    listed = {order.order_id for order in everything}
    assert listed == {order.order_id for order in exchange.open_orders(account, "cash")}
    assert [(order.symbol, order.side) for order in one] == [("ETH-PERP", "buy")]


async def test_the_symbol_of_a_listing_is_quoted(exchange: SimulatedExchange) -> None:
    """What goes into a query is percent-encoded, byte for byte."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        await client.open_orders("cash", "BTC/USDT")
    (request,) = exchange.operations("open-orders")
    assert request.raw_path == "/0/api/pro/v1/cash/order/open?symbol=BTC%2FUSDT"


async def test_discovers_the_group_on_entry_only(exchange: SimulatedExchange) -> None:
    """The group is asked for when the client is entered, once, and cancels then need no more."""
    account = account_of(exchange, number=7)
    async with client_of(exchange, account, discover=True) as client:
        assert isinstance(client.venue, AscendEX)
        assert client.venue.account_group == 7
        await client.cancel_all("cash")
        await client.cancel_all("margin")
    assert len(exchange.operations("info")) == 1
    assert not exchange.open_orders(account, "cash")


async def test_entry_needs_no_network_when_all_is_known() -> None:
    """With the group given, entering works even where nothing listens."""
    venue = AscendEX(rest_url="http://127.0.0.1:9", stream_url="ws://127.0.0.1:9", account_group=1)
    async with Client(Credentials("k", "s"), venue=venue) as client:
        assert client.venue is venue


async def test_what_is_opened_on_entry(exchange: SimulatedExchange) -> None:
    """Connections to the one host of a venue, or to all of those whose categories are named."""
    seen: list[str] = []
    enough = asyncio.Event()

    def answering(name: str) -> Any:
        def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
            seen.append(name)
            writer.close()
            if len(seen) == 8:
                enough.set()

        return answer

    async with (
        client_of(exchange, account_of(exchange)),
        raw_server(answering("spot")) as spot,
        raw_server(answering("usdm")) as usdm,
        SessionPool(warm=1) as one,
        SessionPool(warm=4) as other,
        asyncio.timeout(10),
    ):
        venue = Binance(spot_url=f"http://{spot}", usdm_url=f"http://{usdm}")
        unnamed = Client(Credentials("k", "s"), venue=venue, pool=one)
        named = Client(Credentials("k", "s"), venue=venue, pool=other, categories=venue.abilities)
        async with unnamed, named:
            await enough.wait()
            await exchange.until(lambda: exchange.operations("clock"))
    assert sorted(seen) == ["spot"] * 4 + ["usdm"] * 4


async def test_an_origin_that_was_not_known_on_entry_is_warm_from_its_first_use_on(
    exchange: SimulatedExchange,
) -> None:
    """Connections are opened beside the first call's own, and its clock is read."""
    account = account_of(exchange)
    async with (
        SessionPool(warm=3) as pool,
        client_of(exchange, account, pool=pool, categories=()) as client,
    ):
        await client.cancel_all("cash")
        await exchange.until(lambda: len(exchange.operations("clock")) == 3)


async def test_failed_entry_raises_and_closes(exchange: SimulatedExchange) -> None:
    """A key that is not accepted fails the entry, and nothing stays open."""
    account_of(exchange)
    client = Client(Credentials("nobody", "x"), venue=venue_of(exchange))
    with pytest.raises(AuthenticationError):
        await client.__aenter__()
    await exchange.until(lambda: not exchange.connections)
    with pytest.raises(ConfigurationError, match="enter"):
        await client.cancel_all("cash")


async def test_wrong_secret_is_one_request(exchange: SimulatedExchange) -> None:
    """An authentication error is never retried."""
    account = account_of(exchange)
    credentials = Credentials(account.api_key, "not-the-secret")
    async with Client(credentials, venue=venue_of(exchange, account.group)) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.cancel_all("cash")
    assert len(exchange.operations("cancel-all")) == 1
    assert not caught.value.may_have_executed
    assert [attempt.fate for attempt in caught.value.attempts] == ["refused"]


@pytest.mark.parametrize(
    ("category", "symbol"),
    [
        ("spot", None),
        ("CASH", None),
        ("", None),
        (None, None),
        ("cash", ""),
        ("cash", "BTC-PERP"),
        ("cash", "BTC/USDT\r\nx-evil: 1"),
        ("cash", "BTC/USDT\n"),
        ("cash", "BTC /USDT"),
        ("cash", "btc/usdt"),
        ("futures", "BTC/USDT"),
        ("cash", 7),
        ("cash", "../../7/USDT"),
    ],
)
async def test_bad_scope_sends_nothing(
    exchange: SimulatedExchange, category: Any, symbol: Any
) -> None:
    """A bad category or symbol is a ScopeError before anything is sent."""
    account = account_of(exchange)
    async with client_of(exchange, account, pool=None) as client:
        for call in (client.cancel_all, client.open_orders):
            with pytest.raises(ScopeError) as caught:
                await call(category, symbol)
            assert caught.value.attempts == ()
            assert not caught.value.may_have_executed
    assert not exchange.operations("cancel-all", "open-orders")


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": None},
        {"timeout": "5"},
        {"timeout": True},
        {"request_id": ""},
        {"request_id": "a"},
        {"request_id": "-ab"},
        {"request_id": "a b"},
        {"request_id": "a" * 33},
        {"request_id": "äää"},
        {"request_id": "ab\n"},
        {"request_id": 12},
    ],
)
async def test_bad_arguments_send_nothing(
    exchange: SimulatedExchange, options: dict[str, Any]
) -> None:
    """A time limit or an id that can't be used is refused before anything is sent."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        with pytest.raises(ConfigurationError):
            await client.cancel_all("cash", **options)
    assert not exchange.operations("cancel-all")


async def test_not_entered_is_said() -> None:
    """A client that was not entered says so."""
    client = Client(
        Credentials("k", "s"),
        venue=AscendEX(rest_url="https://a.test", stream_url="wss://a.test", account_group=0),
    )
    with pytest.raises(ConfigurationError, match="enter"):
        await client.cancel_all("cash")


async def test_can_be_entered_again(exchange: SimulatedExchange) -> None:
    """Leaving and entering again works; entering twice at once is refused."""
    account = account_of(exchange)
    client = client_of(exchange, account)
    for _ in range(2):
        async with client:
            await client.cancel_all("cash")
            with pytest.raises(ConfigurationError, match="already"):
                await client.__aenter__()
    assert len(exchange.operations("cancel-all")) == 2


async def test_pool_must_be_entered_first(exchange: SimulatedExchange) -> None:
    """A client refuses a pool that is not open."""
    account = account_of(exchange)
    with pytest.raises(ConfigurationError, match="pool"):
        await client_of(exchange, account, pool=SessionPool()).__aenter__()


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
            cancel = client.cancel_all("cash", timeout=5)
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
    exchange.faults.add(Answer(403, b"{}"), operation="cancel-all", times=None)
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
    exchange.faults.add(Answer(403, b"{}"), operation="cancel-all", nth=1)
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
        cold_pool() as pool,
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
