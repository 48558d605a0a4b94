"""The dead man's switch where the venue has one of its own: armed, renewed, disarmed in time."""

import asyncio
import contextlib
import logging
import threading

import pytest

from masscancel import (
    AuthenticationError,
    DeadlineExceeded,
    DeadMansSwitch,
    Target,
)
from masscancel.sim import Answer, Hang, Hold, KrakenDialect, SimulatedExchange, What
from support import SECRETS
from switch_support import WRONG, desk, fired, kraken, settings


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
async def test_a_venue_that_is_silent_keeps_no_other_from_being_renewed() -> None:
    """Of two targets, one is never answered again; the other is pushed on all the same."""
    async with kraken() as (silent, _, one), kraken(1) as (well, account, other):
        targets = [Target(one, "futures"), Target(other, "futures")]
        async with DeadMansSwitch(targets, timeout=1.2, cancel_timeout=1) as switch:
            silent.faults.add(Hang(), operation="switch", times=None)
            async with asyncio.timeout(10):
                await silent.until(lambda: silent.waiting)
                renewed = len(settings(well, account))
                while silent.waiting and len(settings(well, account)) < renewed + 2:
                    switch.beat()
                    await asyncio.sleep(0.01)
            assert len(silent.waiting) == 1, "the first renewal is still under way"
            assert len(settings(well, account)) >= renewed + 2
            silent.faults.clear()
            silent.release("")
            await switch.disarm()


@pytest.mark.asyncio
async def test_a_venue_that_is_silent_keeps_no_other_from_being_disarmed() -> None:
    """An armed switch would cancel the orders of a strategy that has ended well."""
    async with kraken() as (silent, _, one), kraken(1) as (well, account, other):
        targets = [Target(one, "futures"), Target(other, "futures")]
        async with DeadMansSwitch(targets, timeout=300, cancel_timeout=60) as switch:
            silent.faults.add(Hang(), operation="switch", times=None)
            ended = switch.disarm()
            async with asyncio.timeout(10):
                await silent.until(lambda: silent.waiting)
                await well.until(lambda: settings(well, account)[-1] == 0)
            assert silent.waiting, "the other disarming is still under way"
            silent.faults.clear()
            silent.release("")
            await ended
        assert not switch.fired


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
