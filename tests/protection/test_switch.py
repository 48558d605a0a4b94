"""The dead man's switch: fires when the strategy falls silent, stalls or leaves, and only then."""

import asyncio
import contextlib
import logging
import ssl
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl

import pytest
import trustme

from masscancel import (
    AscendEX,
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    DeadlineExceeded,
    DeadMansSwitch,
    FanOutReport,
    OrderGate,
    SessionPool,
    Target,
    cancel_on_exit,
)
from masscancel.sim import Account, Answer, Hang, Hold, KrakenDialect, SimulatedExchange, What
from masscancel.venues import Kraken
from support import SECRETS, account_of, cancelled_on_its_way, client_of, cold_pool


def in_base64(text: str) -> str:
    """A secret as Kraken wants it."""
    return b64encode(text.encode()).decode()


#: A secret that no account has.
WRONG: Final = in_base64("another-secret-of-the-tests")
REFUSED = Answer(200, b'{"code":200001,"reason":"AUTHENTICATION_FAILED","message":"no"}')


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every switch ends its thread."""
    before = {*threading.enumerate()}
    yield
    for thread in {*threading.enumerate()} - before:
        if thread.name == "masscancel-switch":
            thread.join(10)
            assert not thread.is_alive()


@contextlib.asynccontextmanager
async def desk(exchange: SimulatedExchange, number: int = 0) -> AsyncIterator[tuple[Account, Any]]:
    """An account with open orders and a client of it."""
    account = account_of(exchange, number)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        yield account, client


@contextlib.asynccontextmanager
async def kraken(
    number: int = 0, exchange: SimulatedExchange | None = None, secret: str = ""
) -> AsyncIterator[tuple[SimulatedExchange, Account, Client[Any]]]:
    """An account with two open orders on a venue that has a switch of its own."""
    async with contextlib.AsyncExitStack() as stack:
        if exchange is None:
            exchange = await stack.enter_async_context(SimulatedExchange(KrakenDialect()))
        account = exchange.add_account(
            f"{SECRETS[1]}-{number}", in_base64(f"{SECRETS[0]}-{number}")
        )
        for symbol in ("PF_XBTUSD", "PF_ETHUSD"):
            exchange.place(account, "futures", symbol)
        venue = Kraken(futures_url=exchange.rest_url)
        credentials = Credentials(account.api_key, secret or account.api_secret)
        pool = await stack.enter_async_context(cold_pool())
        client = Client(credentials, venue=venue, pool=pool, rates={"derivatives": 10_000})
        await stack.enter_async_context(client)
        yield exchange, account, client


def settings(exchange: SimulatedExchange, account: Account) -> list[int]:
    """What the venue's own switch was set to, in seconds, oldest first."""
    return [
        int(dict(parse_qsl(request.raw_path.partition("?")[2]))["timeout"])
        for request in exchange.operations("switch")
        if request.api_key == account.api_key and request.answer == "answered"
    ]


async def fired(switch: DeadMansSwitch) -> FanOutReport:
    """Wait for the report of a switch; the exchange lives in this loop, so that must go on."""
    async with asyncio.timeout(10):
        while switch.report is None:  # noqa: ASYNC110  # it is set in another thread
            await asyncio.sleep(0.005)
    return switch.report


# Firing.


@pytest.mark.asyncio
async def test_silence_fires_it_once(exchange: SimulatedExchange) -> None:
    """No beat for the timeout: gate shut, orders gone and proven so; leaving does not repeat it."""
    gate = OrderGate()
    reports: list[FanOutReport] = []
    async with desk(exchange) as (account, client):
        target = Target(client, "cash")
        switch = DeadMansSwitch(target, timeout=0.05, gate=gate, on_fire=reports.append)
        async with switch:
            assert switch.kind == "emulated"
            assert not gate.is_shut
            report = await fired(switch)
            assert switch.fired
            assert gate.is_shut
            assert not switch.beat()
            assert exchange.open_orders(account, "cash") == []
            assert len(exchange.open_orders(account, "margin")) == 2
        assert reports == [report]
        assert switch.report is report
        assert report.outcomes[0].confirmation is not None
        assert len(exchange.operations("cancel-all")) == 1


@pytest.mark.asyncio
async def test_beats_hold_it_off(exchange: SimulatedExchange) -> None:
    """It does not fire while beats come, from any thread, and they send nothing."""
    async with desk(exchange) as (account, client):
        async with DeadMansSwitch(Target(client, "cash"), timeout=0.4) as switch:
            for _ in range(30):  # half as long again as the timeout
                assert switch.beat()
                assert await asyncio.to_thread(switch.beat)
                await asyncio.sleep(0.02)
            assert not switch.fired
            await switch.disarm()
            assert not switch.beat()
        assert switch.report is None
        assert {request.operation for request in exchange.requests} <= {"clock"}
        assert len(exchange.open_orders(account, "cash")) == 2


@pytest.mark.asyncio
async def test_disarmed_without_waiting(exchange: SimulatedExchange) -> None:
    """disarm() holds from the call on; waiting for it is optional, and may be done twice."""
    async with desk(exchange) as (account, client):
        async with DeadMansSwitch(Target(client, "cash"), timeout=0.05) as switch:
            switch.disarm()
        await switch.disarm()
        assert not switch.fired
        assert len(exchange.open_orders(account, "cash")) == 2


@pytest.mark.asyncio
async def test_giving_up_on_a_disarm(exchange: SimulatedExchange) -> None:
    """Whoever waits for the disarming may be cancelled: the switch ends in order all the same."""
    del exchange
    async with kraken() as (venue, account, client):
        async with DeadMansSwitch(Target(client, "futures"), timeout=5) as switch:
            venue.faults.add(Hold("disarm"), operation="switch")

            async def disarm() -> None:
                await switch.disarm()

            task = asyncio.create_task(disarm())
            await venue.until(lambda: "disarm" in venue.waiting)
            task.cancel()
            await asyncio.wait((task,))
            venue.release("disarm")
        assert settings(venue, account)[-1] == 0
        assert not switch.fired


@pytest.mark.asyncio
async def test_leaving_fires_it(exchange: SimulatedExchange) -> None:
    """Leaving without disarm() means that something is wrong."""
    async with desk(exchange) as (account, client):
        async with DeadMansSwitch(Target(client, "cash")) as switch:
            pass
        assert switch.fired
        assert exchange.open_orders(account, "cash") == []


@pytest.mark.asyncio
async def test_an_exception_fires_it(exchange: SimulatedExchange) -> None:
    """The exception goes on when the orders are gone."""
    async with desk(exchange) as (account, client):
        with pytest.raises(LookupError) as caught:
            async with DeadMansSwitch(Target(client, "cash")):
                raise LookupError
        assert not getattr(caught.value, "__notes__", [])
        assert exchange.open_orders(account, "cash") == []


@pytest.mark.asyncio
async def test_cancelled_while_leaving(exchange: SimulatedExchange) -> None:
    """The cancel is finished; then the cancellation is raised."""
    exchange.faults.add(Hold("cancel"), operation="cancel-all")

    async def guarded() -> None:
        async with DeadMansSwitch(Target(client, "cash")):
            pass

    async with desk(exchange) as (account, client):
        with pytest.raises(asyncio.CancelledError):
            await cancelled_on_its_way(exchange, guarded(), times=3)
        assert exchange.open_orders(account, "cash") == []


@contextlib.asynccontextmanager
async def elsewhere() -> AsyncIterator[tuple[SimulatedExchange, Account]]:
    """An exchange that runs in another thread, so that this loop may be stalled."""
    opened: asyncio.Future[tuple[SimulatedExchange, Account]]
    loop = asyncio.get_running_loop()
    opened = loop.create_future()
    close = threading.Event()

    async def serve() -> None:
        async with SimulatedExchange() as exchange:
            loop.call_soon_threadsafe(opened.set_result, (exchange, account_of(exchange)))
            await asyncio.to_thread(close.wait)

    running = asyncio.create_task(asyncio.to_thread(asyncio.run, serve()))
    try:
        yield await opened
    finally:
        close.set()
        await running


@pytest.mark.asyncio
async def test_a_stalled_loop() -> None:
    """It fires while the strategy's own event loop stands still."""
    stalled = threading.Event()
    async with elsewhere() as (exchange, account), client_of(exchange, account) as client:
        target = Target(client, "cash")
        switch = DeadMansSwitch(target, timeout=0.05, on_fire=lambda _: stalled.set())
        async with switch:
            assert stalled.wait(10)  # in the loop's thread, on purpose
            assert exchange.open_orders(account, "cash") == []
            assert switch.report is not None
            assert switch.report.all_ok


@pytest.mark.asyncio
async def test_many_targets(exchange: SimulatedExchange) -> None:
    """Several accounts, one of which fails: the others are flat, and that one is told."""
    async with desk(exchange) as (good, client), desk(exchange, 1) as (bad, other):
        exchange.faults.add(REFUSED, api_key=bad.api_key, times=None)
        switch = DeadMansSwitch(Target.product([client, other], ["cash", "margin"]))
        with pytest.raises(ExceptionGroup) as caught:
            async with switch:
                pass
        assert len(caught.value.exceptions) == 2
        assert switch.report is not None
        assert [outcome.ok for outcome in switch.report.outcomes] == [True, True, False, False]
        assert exchange.open_orders(good, "cash") == exchange.open_orders(good, "margin") == []


@pytest.mark.asyncio
async def test_a_failure_is_noted_on_what_ended_the_block(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """The original exception is raised, with a note of what failed."""
    exchange.faults.add(REFUSED, times=None)
    async with desk(exchange) as (_, client):
        with pytest.raises(LookupError) as caught:
            async with DeadMansSwitch(Target(client, "cash")):
                raise LookupError
        (note,) = caught.value.__notes__
        assert "AUTHENTICATION_FAILED" in note
        assert "cash [group-0]: not cancelled for certain" in caplog.text


@pytest.mark.asyncio
async def test_on_fire_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the callback is told, and does not keep the venue's own switch armed."""

    def on_fire(_: FanOutReport) -> None:
        raise LookupError("the callback's own")

    async with kraken() as (venue, account, client):
        async with DeadMansSwitch(Target(client, "futures"), timeout=5, on_fire=on_fire):
            pass
        assert "the callback's own" in caplog.text
        assert venue.open_orders(account, "futures") == []
        assert settings(venue, account)[-1] == 0


@pytest.mark.asyncio
async def test_within_cancel_on_exit(exchange: SimulatedExchange) -> None:
    """The two go together: the exit's cancel follows the switch's."""
    async with desk(exchange) as (account, client):
        target = Target(client, "cash")
        with pytest.raises(LookupError):
            async with cancel_on_exit(target), DeadMansSwitch(target):
                raise LookupError
        assert exchange.open_orders(account, "cash") == []
        assert len(exchange.operations("cancel-all")) == 2


# Arguments.


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": "soon"},
        {"cancel_timeout": -1},
        {"timeout": 15_000},  # milliseconds, as ccxt wants them
    ],
)
def test_arguments_are_checked_at_once(options: dict[str, Any]) -> None:
    """What can't be used is refused when the switch is made, not when it is needed."""
    client = Client(Credentials("key", "c2VjcmV0"), venue=Kraken())
    with pytest.raises(ConfigurationError):
        DeadMansSwitch(Target(client, "futures"), **options)


@pytest.mark.asyncio
async def test_a_time_in_which_nothing_can_be_proven_is_refused(
    exchange: SimulatedExchange,
) -> None:
    """On entry, while nothing is at stake: the venue's listings lie further apart."""
    async with desk(exchange) as (_, client):
        switch = DeadMansSwitch(Target(client, "cash"), cancel_timeout=0.25)
        with pytest.raises(ConfigurationError, match="nothing can be proven"):
            await switch.__aenter__()


@pytest.mark.parametrize("targets", [[], ["cash"], Target(object(), "cash")])  # type: ignore[arg-type]  # on purpose
def test_targets_are_checked_at_once(targets: Any) -> None:
    """There must be something to cancel, of clients that the switch can make another of."""
    with pytest.raises(ConfigurationError):
        DeadMansSwitch(targets)


@pytest.mark.asyncio
async def test_entered_once(exchange: SimulatedExchange) -> None:
    """A switch serves one block."""
    async with desk(exchange) as (_, client):
        async with DeadMansSwitch(Target(client, "cash")) as switch:
            await switch.disarm()
        with pytest.raises(ConfigurationError):
            await switch.__aenter__()


@pytest.mark.asyncio
async def test_it_trusts_whom_the_client_trusts() -> None:
    """The settings of the client's pool, such as a private authority, are the switch's, too."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with SimulatedExchange() as exchange:

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    writer.write(data)
            writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back, forth = await asyncio.open_connection("127.0.0.1", exchange.port)
            await asyncio.gather(pipe(reader, forth), pipe(back, writer))

        account = account_of(exchange)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        venue = AscendEX(
            rest_url=f"https://127.0.0.1:{port}",
            stream_url=f"wss://127.0.0.1:{port}",
            account_group=account.group,
        )
        credentials = Credentials(account.api_key, account.api_secret)
        pool = SessionPool(warm=0, ssl_context=trusting)
        client = Client(credentials, venue=venue, pool=pool)
        switch = DeadMansSwitch(Target(client, "cash"), cancel_timeout=1)
        async with server, pool, client, switch:
            pass
        assert exchange.open_orders(account, "cash") == []


# The venue's own switch.


@pytest.mark.asyncio
async def test_native() -> None:
    """It is armed on entry, disarmed at the end, and still fired from here on leaving."""
    async with kraken() as (venue, account, client):
        async with DeadMansSwitch(Target(client, "futures"), timeout=4.2) as switch:
            assert switch.kind == "native"
            assert settings(venue, account) == [5]  # whole seconds, rounded up
        assert switch.fired
        assert venue.open_orders(account, "futures") == []
        assert venue.operations("cancel-all")
        assert settings(venue, account) == [5, 0]


@pytest.mark.asyncio
async def test_the_time_runs_from_the_entry_on() -> None:
    """However long ago the switch was made."""
    async with kraken() as (venue, account, client):
        switch = DeadMansSwitch(Target(client, "futures"), timeout=4.2)
        switch._last_beat -= 60  # as if that had been a minute ago
        async with switch:
            await switch.disarm()
        assert settings(venue, account) == [5, 0]
        assert not switch.fired


@pytest.mark.asyncio
async def test_native_disarmed() -> None:
    """After disarm(), the venue's switch is off and the orders stay."""
    async with kraken() as (venue, account, client):
        async with DeadMansSwitch(Target(client, "futures"), timeout=5) as switch:
            await switch.disarm()
            assert settings(venue, account) == [5, 0]
        assert len(venue.open_orders(account, "futures")) == 2
        assert not venue.operations("cancel-all")


@pytest.mark.asyncio
async def test_native_is_renewed_while_beats_are_fresh() -> None:
    """With beats, the venue's timer is pushed on; without, it is left to run out."""
    async with kraken() as (venue, account, client):
        async with DeadMansSwitch(Target(client, "futures"), timeout=0.4) as switch:
            while len(settings(venue, account)) < 6:  # 0.1 s apart: longer than the timeout
                switch.beat()
                await asyncio.sleep(0.01)
            assert not switch.fired
            renewed = len(settings(venue, account))
            assert (await fired(switch)).all_ok
        assert len(settings(venue, account)) <= renewed + 4 + 1  # RENEWALS of the last beat, off
        assert settings(venue, account)[-1] == 0


@pytest.mark.asyncio
async def test_native_fires_without_us() -> None:
    """What the switch is for: the venue cancels by itself when nobody renews it."""
    now = [1_700_000_000.0]
    exchange = SimulatedExchange(KrakenDialect(), clock=lambda: now[0])
    async with exchange, kraken(exchange=exchange) as (_, account, client):
        exchange.skew_ms = 0
        async with DeadMansSwitch(Target(client, "futures"), timeout=5) as switch:
            exchange.faults.add(Hang(), operation="cancel-all", times=None)
            now[0] += 4.9
            assert len(exchange.open_orders(account, "futures")) == 2
            now[0] += 0.2
            assert exchange.open_orders(account, "futures") == []
            assert not exchange.operations("cancel-all")
            await switch.disarm()
        assert [r.what for r in exchange.log].count(What.CANCELLED) == 2


@pytest.mark.asyncio
async def test_native_stays_armed_where_the_cancel_has_failed() -> None:
    """Of two accounts, one can't be cancelled from here: there, the venue's own must fire."""
    async with kraken() as (venue, good, client), kraken(1, venue) as (_, bad, other):
        venue.faults.add(Hang(), operation="cancel-all", api_key=bad.api_key, times=None)
        targets = Target.product([client, other], ["futures"])
        with pytest.raises(ExceptionGroup):
            async with asyncio.timeout(10), DeadMansSwitch(targets, timeout=5, cancel_timeout=0.4):
                pass
        assert settings(venue, good) == [5, 0]
        assert settings(venue, bad) == [5]


@pytest.mark.asyncio
async def test_a_renewal_under_way_does_not_arm_it_anew() -> None:
    """One renewal at a time, however slow it is; the switch is set to 0 when that has arrived."""
    async with kraken() as (venue, account, client):
        async with DeadMansSwitch(Target(client, "futures"), timeout=0.8) as switch:
            venue.faults.add(Hold("renewal"), operation="switch", times=None)
            await venue.until(lambda: "renewal" in venue.waiting)
            for _ in range(30):  # longer than from one renewal to the next
                switch.beat()
                await asyncio.sleep(0.01)
            switch.disarm()
            with contextlib.suppress(TimeoutError):
                await venue.until(lambda: len(venue.waiting) > 1, timeout=0.1)
            assert venue.waiting.count("renewal") == 1
            venue.faults.clear()
            venue.release("renewal")
        assert settings(venue, account) == [1, 1, 0]


@pytest.mark.asyncio
async def test_mixed(exchange: SimulatedExchange) -> None:
    """A switch of the account is not one of a symbol; each target gets what its venue has."""
    async with kraken() as (venue, account, client), desk(exchange) as (other, ascendex):
        one = Target(client, "futures", "PF_XBTUSD")
        async with DeadMansSwitch(one, timeout=5) as switch:
            assert switch.kind == "emulated"
        assert not venue.operations("switch")
        assert [order.symbol for order in venue.open_orders(account, "futures")] == ["PF_ETHUSD"]
        both = [Target(client, "futures"), Target(ascendex, "cash")]
        async with DeadMansSwitch(both, timeout=5) as switch:
            assert switch.kind == "mixed"
        assert settings(venue, account) == [5, 0]
        assert venue.open_orders(account, "futures") == []
        assert exchange.open_orders(other, "cash") == []


@pytest.mark.asyncio
async def test_a_wrong_key_is_told_on_entry() -> None:
    """A native switch that can't be armed is no switch: the block is not entered."""
    async with kraken(secret=WRONG) as (venue, account, client):
        with pytest.raises(AuthenticationError) as caught:
            async with DeadMansSwitch(Target(client, "futures")):
                pytest.fail("entered without a switch")
        assert not any(secret in str(caught.value) for secret in (*SECRETS, WRONG))
        assert len(venue.open_orders(account, "futures")) == 2


@pytest.mark.asyncio
async def test_a_venue_that_is_silent_is_told_on_entry() -> None:
    """Arming, and the attempt to take that back, have their time limits."""
    async with kraken() as (venue, _, client):
        venue.faults.add(Hang(), operation="switch", times=None)
        with pytest.raises(DeadlineExceeded):
            async with DeadMansSwitch(Target(client, "futures"), timeout=0.2, cancel_timeout=0.3):
                pytest.fail("entered without a switch")
        # The exchange is in this loop, and the switch is not: what that has sent is yet to be read.
        await venue.until(lambda: len(venue.operations("switch")) == 2)


@pytest.mark.asyncio
async def test_nothing_stays_armed_when_entry_fails() -> None:
    """Of two accounts, the second has a wrong key: the first one's switch is off again."""
    async with kraken() as (venue, account, good):
        async with kraken(1, venue, secret=WRONG) as (_, _, bad):
            with pytest.raises(AuthenticationError):
                async with DeadMansSwitch(Target.product([good, bad], ["futures"]), timeout=5):
                    pytest.fail("entered without a switch")
            await venue.until(lambda: settings(venue, account))
        assert [*settings(venue, account), 0][:2] == [5, 0]
        assert settings(venue, account)[-1] == 0


@pytest.mark.asyncio
async def test_cancelled_on_entry(caplog: pytest.LogCaptureFixture) -> None:
    """Cancelled while the venue's switch is being armed: it is switched off again, and no fuss."""
    async with kraken() as (venue, account, client):
        venue.faults.add(Hold("arm"), operation="switch")
        task = asyncio.create_task(
            DeadMansSwitch(Target(client, "futures"), timeout=5).__aenter__()
        )
        await venue.until(lambda: "arm" in venue.waiting)
        task.cancel()
        await asyncio.sleep(0)
        venue.release("arm")
        with pytest.raises(asyncio.CancelledError):
            await task
        with contextlib.suppress(TimeoutError):
            await venue.until(lambda: len(settings(venue, account)) == 2, timeout=0.5)
        for thread in threading.enumerate():
            if thread.name == "masscancel-switch":
                await asyncio.to_thread(thread.join)
        assert settings(venue, account) == [5, 0]
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.asyncio
async def test_a_renewal_that_hangs_does_not_hold_it_up() -> None:
    """It fires while the venue does not answer a renewal."""
    async with kraken() as (venue, _, client):
        switch = DeadMansSwitch(Target(client, "futures"), timeout=2, cancel_timeout=1)
        async with switch:
            venue.faults.add(Hang(), operation="switch", times=1)
            await venue.until(lambda: venue.waiting)
            venue.faults.add(Hold("cancel"), operation="cancel-all")
            switch._want("fire")  # what leaving does, while this test goes on
            with contextlib.suppress(TimeoutError):
                await venue.until(lambda: "cancel" in venue.waiting, timeout=1)
            fired_in_time = "cancel" in venue.waiting
            venue.faults.clear()
            venue.release("cancel")
            venue.release("")
        assert fired_in_time


@pytest.mark.asyncio
async def test_a_renewal_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The strategy goes on, and the next renewal may succeed."""
    async with kraken() as (venue, account, client):
        async with DeadMansSwitch(Target(client, "futures"), timeout=0.4) as switch:
            refused = Answer(200, b'{"result":"error","error":"invalidArgument"}')
            fault = venue.faults.add(refused, operation="switch")
            while len(settings(venue, account)) < 3:
                switch.beat()
                await asyncio.sleep(0.01)
            assert venue.faults.applied(fault)
            await switch.disarm()
        assert "the venue's own dead man's switch" in caplog.text
        assert not switch.fired
