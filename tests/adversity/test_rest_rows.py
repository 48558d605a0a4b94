"""Rows of the matrix that take more than one call: clocks, fan-outs, confirmations, ends."""

import asyncio
from typing import Any

import aiohttp
import pytest

from masscancel import (
    AuthenticationError,
    Client,
    Credentials,
    DeadlineExceeded,
    MassCancelError,
    NotFlat,
    NotSent,
    OutcomeUnknown,
    ProtocolError,
    RetryPolicy,
    SessionPool,
    Target,
    Unproven,
    VenueError,
    cancel_many,
)
from masscancel.sim import (
    HELD,
    Answer,
    Drop,
    Hang,
    HugeBody,
    OnCancel,
    Redirect,
    Script,
    SimulatedExchange,
)
from peers import Peer, Seen, ack_bytes, free_port, frozen_port, full_backlog, http
from proxy import Proxy, drop
from stages import ONCE, client_at, ours, serving, trusting
from support import account_of, client_of, cold_pool, venue_of

pytestmark = pytest.mark.asyncio


# --- the venue's word -----------------------------------------------------------------------------


async def test_a_redirect_takes_no_headers_along(exchange: SimulatedExchange) -> None:
    """Row: redirect. The place it names is never asked."""
    account = account_of(exchange)
    elsewhere: list[Seen] = []
    async with Peer(lambda seen, _: elsewhere.append(seen)) as thief, cold_pool() as pool:
        exchange.faults.add(Redirect(f"{thief.rest_url}/steal"), path="order", times=None)
        async with client_of(exchange, account, pool=pool, retry=ONCE) as client:
            for call in (client.cancel_all, client.open_orders):
                with pytest.raises(ProtocolError):
                    await call("cash")
        assert thief.accepted == 0
    assert not elsewhere


async def test_acknowledged_and_nothing_cancelled(exchange: SimulatedExchange) -> None:
    """Row: Ack, and nothing is cancelled. `NotFlat` with what is left, never a Confirmation."""
    account = account_of(exchange)
    stays = exchange.place(account, "cash", "BTC/USDT", script=Script(on_cancel=OnCancel.IGNORE))
    async with client_of(exchange, account) as client:
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("cash", timeout=0.3, settle=0.02)
    assert [order.order_id for order in caught.value.residual] == [stays.order_id]
    assert [order.order_id for order in exchange.open_orders(account, "cash")] == [stays.order_id]


async def test_an_order_sent_before_is_acknowledged_after(exchange: SimulatedExchange) -> None:
    """Row: an order sent before the cancel-all, acknowledged after it. It is swept as well."""
    account = account_of(exchange)
    order = exchange.place(account, "cash", "BTC/USDT", script=Script(ack_delay_ms=HELD))
    async with client_of(exchange, account) as client:
        await client.cancel_all("cash")
        exchange.engine.acknowledge(order.order_id, now_ms=exchange.now_ms)
        assert [o.order_id for o in await client.open_orders("cash")] == [order.order_id]
        confirmation = await client.cancel_all_and_confirm("cash", timeout=5, settle=0.02)
    assert confirmation.sweeps >= 1
    assert not exchange.open_orders(account, "cash")


async def test_a_lost_listing_proves_nothing(exchange: SimulatedExchange) -> None:
    """Row: silence. While the listing can't be read there is no Confirmation, whatever the Ack."""
    account = account_of(exchange)
    exchange.faults.add(Drop(), operation="open-orders", times=None)
    async with client_of(exchange, account) as client:
        with pytest.raises(MassCancelError) as caught:
            await client.cancel_all_and_confirm("cash", timeout=0.3, settle=0.02)
    assert caught.value.may_have_executed


@pytest.mark.parametrize(
    "body",
    [
        b'{"code":0}',
        b'{"code":0,"data":null}',
        b'{"code":0,"data":{}}',
        b'{"code":0,"data":[{"orderId":1}]}',
        b"[]",
        b"",
        b"<html>",
        b'{"code":0,"ac":"MARGIN","data":[]}',
        b'{"code":100001,"data":[]}',
        b'{"code":0,"status":"Err","data":[]}',
    ],
)
async def test_what_is_no_listing_is_not_flat(exchange: SimulatedExchange, body: bytes) -> None:
    """Beyond the page: nothing but a listing of the scope is read as an empty one."""
    account = account_of(exchange)
    exchange.faults.add(Answer(200, body), operation="open-orders", times=None)
    async with client_of(exchange, account, retry=ONCE) as client:
        with pytest.raises((ProtocolError, VenueError)):
            await client.open_orders("cash")


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_ms", [31_000, -31_000])
async def test_a_clock_far_off(skew_ms: int) -> None:
    """Row: clock 31 s off. One refusal, one measurement, signed again, acknowledged."""
    async with SimulatedExchange(skew_ms=skew_ms) as exchange:
        account = account_of(exchange)
        async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
            ack = await client.cancel_all("cash")
        assert [attempt.fate for attempt in ack.attempts] == ["refused", "answered"]
        first, second = exchange.operations("cancel-all")
        moved = [int(each.header("x-auth-timestamp") or 0) for each in (first, second)]
        assert abs(moved[1] - moved[0] - skew_ms) < 10_000
        assert not exchange.open_orders(account, "cash")


@pytest.mark.parametrize(
    "answer",
    [
        Hang(),
        Drop(),
        Answer(502, b"<html>"),
        Answer(200, b'{"code":0,"data":{"requestReceiveAt":%s}}' % (b"9" * 400)),
        Answer(200, b'{"code":0,"data":{"requestReceiveAt":null}}'),
        HugeBody(),
    ],
    ids=lambda answer: type(answer).__name__,
)
async def test_a_clock_that_is_refused_and_does_not_tell(answer: Any) -> None:
    """Row: clock off, and the clock's own endpoint fails. The refusal is told, within the time."""
    async with SimulatedExchange(skew_ms=95_000, dated=False) as exchange:
        account = account_of(exchange)
        exchange.faults.add(answer, operation="clock", times=None)
        async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
            with pytest.raises(MassCancelError) as caught:
                await client.cancel_all("cash", timeout=0.3)
        assert not caught.value.may_have_executed
        assert len(exchange.operations("cancel-all")) <= 2


async def test_a_clock_that_is_refused_and_tells_by_its_date() -> None:
    """The date of the refusal is as good as the clock's own endpoint, which fails."""
    async with SimulatedExchange(skew_ms=95_000) as exchange:
        account = account_of(exchange)
        exchange.faults.add(Drop(), operation="clock", times=None)
        async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
            ack = await client.cancel_all("cash")
        assert [attempt.fate for attempt in ack.attempts] == ["refused", "answered"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"code":0,"data":{"requestReceiveAt":%s}}' % (b"9" * 400),
        b'{"code":0,"data":{"requestReceiveAt":-%s}}' % (b"9" * 400),
    ],
)
async def test_an_absurd_clock_ends_no_keeper(exchange: SimulatedExchange, body: bytes) -> None:
    """Beyond the page: whatever the clock says, connections are kept warm and cancels work."""
    account = account_of(exchange)
    exchange.faults.add(Answer(200, body), operation="clock", times=4)
    pool = SessionPool(warm=2, warm_interval=0.01)
    async with pool, client_of(exchange, account, pool=pool) as client:
        await exchange.until(lambda: len(exchange.operations("clock")) >= 8, timeout=2)
        ack = await client.cancel_all("cash")
        assert [attempt.fate for attempt in ack.attempts] == ["answered"]


@pytest.mark.parametrize("year_ms", [0, 253402300799999, -(10**14), 10**300])
async def test_one_absurd_clock_does_not_stop_a_cancel(year_ms: int) -> None:
    """Beyond the page: it is not believed, and what ends its connection ends no cancel on it."""
    async with SimulatedExchange() as exchange:
        account = account_of(exchange)
        said = b'{"code":0,"data":{"requestReceiveAt":%d}}' % year_ms
        exchange.faults.add(Answer(200, said), operation="clock", times=1)
        async with (
            SessionPool(warm=1, warm_interval=60) as pool,
            client_of(exchange, account, pool=pool) as client,
        ):
            await exchange.until(
                lambda: [r for r in exchange.operations("clock") if r.answer != "open"]
            )
            ack = await client.cancel_all("cash")
        assert [attempt.fate for attempt in ack.attempts] == ["answered"]
        assert not exchange.open_orders(account, "cash")


async def test_a_cancel_on_a_connection_that_a_probe_gives_up() -> None:
    """Beyond the page: whenever it is sent, it is not ended with the probe before it."""
    for turns in range(20):
        async with SimulatedExchange() as exchange:
            account = account_of(exchange)
            said = b'{"code":0,"data":{"requestReceiveAt":0}}'
            exchange.faults.add(Answer(200, said), operation="clock", times=1)
            async with (
                SessionPool(warm=1, warm_interval=60) as pool,
                client_of(exchange, account, pool=pool) as client,
            ):
                await exchange.until(lambda: exchange.operations("clock"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                ack = await client.cancel_all("cash")
            assert [attempt.fate for attempt in ack.attempts] == ["answered"], turns


async def test_a_clock_that_was_far_off_once_is_put_right() -> None:
    """Beyond the page: one reading far off (a cache's, say) is put right by the next refusal."""
    async with SimulatedExchange() as exchange:
        account = account_of(exchange)
        said = b'{"code":0,"data":{"requestReceiveAt":20000000000000}}'
        exchange.faults.add(Answer(200, said), operation="clock", times=1)
        async with (
            SessionPool(warm=1, warm_interval=60) as pool,
            client_of(exchange, account, pool=pool) as client,
        ):
            while pool.clock(exchange.rest_url).measured_at < 0:  # noqa: ASYNC110  # the client's
                await asyncio.sleep(0)
            ack = await client.cancel_all("cash")
        assert [attempt.fate for attempt in ack.attempts] == ["refused", "answered"]
        assert not exchange.open_orders(account, "cash")


async def test_an_absurd_group_is_a_protocol_error(exchange: SimulatedExchange) -> None:
    """Beyond the page: entering a client raises one of our errors, whatever the account info."""
    account = account_of(exchange)
    info = b'{"code":0,"data":{"accountGroup":"%s"}}' % (b"9" * 5000)
    exchange.faults.add(Answer(200, info), operation="info", times=None)
    client = client_of(exchange, account, discover=True, retry=ONCE)
    with pytest.raises(ProtocolError):
        await client.__aenter__()


# --- what a peer says, in our words ---------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        http(b"<html>", "Content-Type: text/\xff\x9b2Jhtml", status="502 Bad"),
        http(b"<html>", "Content-Type: text/\xff\x9b2Jhtml"),
        http(b'{"code":1,"reason":"A\\u001b[2J","message":"b\\r\\nERROR all is well"}'),
        http(b'{"code":1,"message":"\\u202e\\u0000\\u2028"}'),
        http(b'{"code":1,"message":"%s"}' % (b"x" * 60_000)),
        http(
            b'{"code":0,"ac":"CASH","data":[{"orderId":"1","symbol":"A","orderQty":"1",'
            b'"side":"%s"}]}' % (b"x" * 60_000)
        ),
    ],
    ids=["header", "header of a 200", "escape", "control", "long", "long value"],
)
async def test_what_a_peer_says_is_one_printable_line(reply: bytes) -> None:
    """Beyond the page: a peer's words can't forge log lines, drive a terminal or fill a disk."""
    async with (
        Peer(lambda _, writer: writer.write(reply)) as peer,
        cold_pool() as pool,
        client_at(peer.rest_url, pool, ONCE) as client,
    ):
        with pytest.raises(MassCancelError) as caught:
            await client.open_orders("cash")
    lines = [str(caught.value), *getattr(caught.value, "__notes__", ())]
    for line in lines:
        assert line.isprintable()
        assert line.encode()
        assert len(line) < 2_000


# --- fan-outs -------------------------------------------------------------------------------------


async def test_no_target_disturbs_another(exchange: SimulatedExchange) -> None:
    """Row: one target hangs, is refused, raises or is not there; each outcome says so."""
    accounts = [account_of(exchange, number) for number in range(6)]
    exchange.faults.add(Hang(), api_key=accounts[1].api_key, times=None)
    exchange.faults.add(Drop(), api_key=accounts[2].api_key, times=None)
    async with cold_pool() as pool, Proxy(exchange.port) as proxy:
        clients = [client_of(exchange, account, pool=pool) for account in accounts]
        clients[3] = Client(Credentials("wrong", "wrong"), venue=venue_of(exchange, 3), pool=pool)
        proxy.up = drop
        clients[4] = client_at(proxy.rest_url, pool, RetryPolicy(), 4)
        for client in clients:
            await client.__aenter__()
        targets = [*Target.product(clients, ["cash", "margin"]), Target(clients[0], "spot")]
        with free_port() as port:
            nowhere = client_at(f"http://127.0.0.1:{port}", pool, RetryPolicy())
            async with nowhere:
                targets.append(Target(nowhere, "cash"))
                report = await cancel_many(targets, timeout=0.4, concurrency=8)
    kinds = [type(outcome.error) for outcome in report.outcomes]
    assert [i for i, kind in enumerate(kinds) if kind is type(None)] == [0, 1, 10, 11]
    errors = [outcome.error for outcome in report.outcomes]
    assert all(isinstance(error, OutcomeUnknown) for error in errors[2:6] + errors[8:10])
    assert all(isinstance(error, AuthenticationError) for error in errors[6:8])
    assert isinstance(errors[13], NotSent)
    assert not exchange.open_orders(accounts[5], "margin")
    assert not ours()


async def test_a_fan_out_that_starts_too_late_says_so(exchange: SimulatedExchange) -> None:
    """Row: one target hangs. What could not be started for it was not sent, and says that."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="cancel-all", times=None)
    async with client_of(exchange, account, retry=ONCE) as client:
        targets = Target.product([client], ["cash", "margin", "futures"])
        report = await cancel_many(targets, timeout=0.1, concurrency=1)
    unknown, *late = [outcome.error for outcome in report.outcomes]
    assert isinstance(unknown, OutcomeUnknown)
    for error in late:
        assert isinstance(error, DeadlineExceeded)
        assert error.attempts == ()
        assert not error.may_have_executed
    assert len(exchange.operations("cancel-all")) == 1


@pytest.mark.unmeasured
async def test_a_venue_that_is_down_gets_no_storm(exchange: SimulatedExchange) -> None:
    """Issue 6, item 3: a thousand calls in trouble share the budget of their retries."""
    account = account_of(exchange)
    exchange.faults.add(Answer(503, b"down"), times=None)
    async with client_of(exchange, account) as client:
        targets = [Target(client, "cash", "BTC/USDT")] * 400
        report = await cancel_many(targets, timeout=1.0, concurrency=400)
    assert not report.succeeded
    errors = [outcome.error for outcome in report.failed if outcome.error is not None]
    retries = sum(len(error.attempts) - 1 for error in errors if error.attempts)
    assert retries <= 128 + 64  # what the budget holds, and what drips in within a second
    assert len(exchange.operations("cancel-all")) <= 400 + retries


async def test_a_slow_venue_holds_nobody_up(exchange: SimulatedExchange) -> None:
    """Row: pool exhausted. Stuck listings and a stuck fan-out keep a direct cancel from nothing."""
    account = account_of(exchange)
    exchange.faults.add(Hang(), operation="open-orders", times=None)
    exchange.faults.add(Hang(), operation="cancel-all", path="margin", times=None)
    pool = SessionPool(connections=1, warm=0)
    async with pool, client_of(exchange, account, pool=pool) as client:
        stuck = [asyncio.create_task(client.open_orders("cash")) for _ in range(5)]
        fan_out = asyncio.create_task(cancel_many([Target(client, "margin")] * 5))
        await exchange.until(lambda: exchange.waiting)
        ack = await client.cancel_all("cash")
        assert [attempt.fate for attempt in ack.attempts] == ["answered"]
        for task in (*stuck, fan_out):
            task.cancel()
        await asyncio.wait({*stuck, fan_out})


# --- the ends of pools and clients ----------------------------------------------------------------


@pytest.mark.parametrize("borrowed", [False, True])
async def test_a_closed_pool_ends_calls_under_way(
    exchange: SimulatedExchange, borrowed: bool
) -> None:
    """Beyond the page: a pool that closes under calls ends them at once, and honestly."""
    account = account_of(exchange)
    exchange.faults.add(Hang(executed=True), times=None)
    session = aiohttp.ClientSession if borrowed else None
    with free_port() as port:
        async with SessionPool(connections=1, warm=0, session=session) as pool:
            client = client_of(exchange, account, pool=pool)
            nowhere = client_at(f"http://127.0.0.1:{port}", pool, RetryPolicy(base=3600.0))
            for each in (client, nowhere):
                await each.__aenter__()
            sent = [
                asyncio.create_task(client.cancel_all("cash", timeout=30)),
                asyncio.create_task(client.open_orders("cash", timeout=30)),
                asyncio.create_task(client.cancel_all_and_confirm("cash", timeout=0.3)),
            ]
            unsent = [
                asyncio.create_task(client.open_orders("margin", timeout=30)),  # waits for a place
                asyncio.create_task(nowhere.cancel_all("cash", timeout=30)),  # will try again
            ]
            await exchange.until(lambda: len(exchange.requests) == 3)
        async with asyncio.timeout(2):
            errors = await asyncio.gather(*sent, *unsent, return_exceptions=True)
    kinds = [type(error) for error in errors]
    assert kinds == [OutcomeUnknown, OutcomeUnknown, Unproven, NotSent, NotSent]
    unknown = [isinstance(error, MassCancelError) and error.may_have_executed for error in errors]
    assert unknown == [True, False, True, False, False]
    assert not ours()
    with pytest.raises(NotSent):
        await client.cancel_all("cash")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_closed_pool_ends_calls_that_wait_for_a_connection(scheme: str) -> None:
    """Beyond the page: likewise, in the middle of TCP's handshake or of TLS's."""
    async with full_backlog() if scheme == "http" else frozen_port() as port:
        async with SessionPool(warm=0) as pool:
            client = client_at(f"{scheme}://127.0.0.1:{port}", pool, RetryPolicy())
            await client.__aenter__()
            calling = asyncio.create_task(client.cancel_all("cash", timeout=30))
            await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            with pytest.raises(NotSent):
                await calling
    assert not ours()


async def test_a_frozen_tls_peer_leaves_no_socket() -> None:
    """Row: frozen peer, over TLS. A connection that is given up is gone, not saying goodbye."""

    async def freeze(_: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with Peer(freeze, tls=serving("127.0.0.1")) as peer, Proxy(peer.port) as proxy:
        url = proxy.rest_url.replace("http", "https")
        async with (
            SessionPool(warm=0, ssl_context=trusting()) as pool,
            client_at(url, pool, ONCE) as client,
        ):
            task = asyncio.create_task(client.cancel_all("cash"))
            await peer.until(lambda: peer.seen)
            proxy.black_hole()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with asyncio.timeout(1):
            await proxy.until(lambda: proxy.wires[0].client_has_gone)


async def test_a_tls_reply_is_acknowledged_through_the_proxy() -> None:
    """Control of the row above: without the black hole, there is an Ack."""
    answer = lambda seen, writer: writer.write(http(ack_bytes(seen)))  # noqa: E731  # one line
    async with Peer(answer, tls=serving("127.0.0.1")) as peer, Proxy(peer.port) as proxy:
        url = proxy.rest_url.replace("http", "https")
        async with (
            SessionPool(warm=0, ssl_context=trusting()) as pool,
            client_at(url, pool, ONCE) as client,
        ):
            await client.cancel_all("cash")
        await proxy.until(lambda: proxy.wires[0].client_has_gone)


async def test_memory_is_bounded(exchange: SimulatedExchange) -> None:
    """Row: reply is huge. Of a reply without end, no more than the limit is kept."""
    import tracemalloc

    async def flood(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _each in range(2_000):
            writer.write(b" " * 65536)
            await writer.drain()

    async with (
        Peer(flood) as peer,
        cold_pool() as pool,
        client_at(peer.rest_url, pool, ONCE) as client,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError, match="larger"):
                await client.cancel_all("cash")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 4 * 2**20
