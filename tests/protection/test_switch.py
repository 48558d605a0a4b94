"""The dead man's switch: fires when the strategy falls silent, stalls or leaves, and only then."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme

from masscancel import (
    AscendEX,
    Client,
    ConfigurationError,
    Credentials,
    DeadMansSwitch,
    FanOutReport,
    OrderGate,
    SessionPool,
    Target,
    cancel_on_exit,
)
from masscancel.sim import Account, Hold, SimulatedExchange
from masscancel.venues import Kraken
from support import account_of, cancelled_on_its_way, client_of
from switch_support import REFUSED, desk, fired, kraken, settings

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
        assert "cash [group-0]: the cancel failed" in caplog.text


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
