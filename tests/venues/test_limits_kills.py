"""Kills at a venue that counts, locks out and bans: what holds them up, and what does not."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import pytest

from limits_support import COUNTED, KRAKEN, KRAKEN_FUTURES, NOWHERE, SPOT, USDM, Counted, crowd_of
from masscancel import Client, Credentials, MassCancelError, RateLimited, SessionPool, cancel_many
from masscancel.calls import Limit
from masscancel.sim import BinanceLimits, KrakenLimits
from masscancel.venues import Binance

pytestmark = pytest.mark.asyncio


class Brisk(Binance, frozen=True, kw_only=True):
    """A venue whose minutes last half a second, so that a cancel waits for one no longer."""

    def limits(self, origin: str) -> Sequence[Limit]:
        """Ten in half a second."""
        del origin
        return (Limit(name="weight", amount=10, seconds=0.5),)


async def test_a_lockout_of_one_key_holds_no_other_up() -> None:
    """Kraken locks keys out, not addresses: another account's kill goes out at once."""
    async with crowd_of(KRAKEN, 2) as crowd:
        crowd.end_of_patience(0)
        with pytest.raises(RateLimited):
            await crowd.clients[0].cancel_all("spot", timeout=1.0)
        await crowd.clients[1].cancel_all("spot", timeout=1.0)


async def test_a_cancel_that_waits_for_room_is_not_sent_into_a_ban() -> None:
    """The ban was told while it waited: nothing more is sent."""
    async with crowd_of(USDM, 2, venue=lambda url: Brisk(spot_url=NOWHERE, usdm_url=url)) as crowd:
        one = crowd.clients[0]
        for _ in range(5):
            await one.cancel_all("usdm", "BTCUSDT", timeout=5.0)
        waiting = asyncio.create_task(one.cancel_all("usdm", "BTCUSDT", timeout=5.0))
        await asyncio.sleep(0)
        crowd.end_of_patience()
        async with SessionPool(warm=0) as pool:
            account = crowd.accounts[1]
            keys = Credentials(account.api_key, account.api_secret)
            venue = Binance(spot_url=NOWHERE, usdm_url=crowd.exchange.rest_url)
            async with Client(keys, venue=venue, pool=pool) as told:
                with pytest.raises(RateLimited):
                    await told.cancel_all("usdm", "BTCUSDT", timeout=1.0)
        received = len(crowd.exchange.requests)
        with pytest.raises(RateLimited):
            await waiting
        assert len(crowd.exchange.requests) == received


@pytest.mark.parametrize("counted", [KRAKEN, KRAKEN_FUTURES], ids=str)
async def test_a_limit_that_names_no_time_is_waited_for(counted: Counted) -> None:
    """Another program has used the key's counter up: asked again when it has fallen, no sooner.

    A kill that goes on is locked out for a quarter of an hour.
    """
    async with crowd_of(counted, 1, limits=KrakenLimits(clock=time.monotonic)) as crowd:
        key = crowd.accounts[0].api_key
        if counted is KRAKEN:
            crowd.limits.spend(key, 15)
        else:
            crowd.limits.spend_pool(key, 500)
        with pytest.raises(MassCancelError):
            await crowd.clients[0].cancel_all(counted.category, timeout=1.2)
        assert len(crowd.limits.refusals) == 1


async def test_cancels_that_were_given_up_take_no_room() -> None:
    """A hundred that waited were cancelled: the next kill waits for those that were sent only."""
    async with crowd_of(USDM, 1, rates={"usdm_weight": 10}) as crowd:
        client = crowd.clients[0]
        given_up = [
            asyncio.create_task(client.cancel_all("usdm", "BTCUSDT", timeout=3600.0))
            for _ in range(100)
        ]
        await crowd.exchange.until(lambda: len(crowd.exchange.requests) == 10)
        for task in given_up:
            task.cancel()
        await asyncio.wait(given_up)
        with pytest.raises(RateLimited) as caught:
            await client.cancel_all("usdm", "BTCUSDT", timeout=1.0)
        assert (caught.value.retry_after or 0) <= 62


@pytest.mark.parametrize("counted", [SPOT, USDM], ids=str)
async def test_listings_of_others_leave_room_for_a_kill(counted: Counted) -> None:
    """A strategy lists as often as the limit allows; half of it is left, and a kill goes out."""
    async with crowd_of(counted, 2) as crowd:
        with contextlib.suppress(RateLimited):
            while True:
                await crowd.clients[0].open_orders(counted.category, timeout=1.0)
        await crowd.clients[1].cancel_all(counted.category, timeout=5.0)


async def test_twelve_accounts_of_futures_are_proven_as_far_as_there_is_room() -> None:
    """2,400 a minute: 960 find out what to cancel, and eight proofs of 160 fit in what is left."""
    async with crowd_of(USDM, 12) as crowd:
        report = await cancel_many(crowd.targets(), timeout=1.5, confirm=True, settle=0.05)
    assert len(report.succeeded) >= 1


@pytest.mark.parametrize("counted", COUNTED[:3], ids=str)
async def test_a_proof_says_when_a_ban_ends(counted: Counted) -> None:
    """It is no use to wait for the deadline, and none to hide why."""
    async with crowd_of(counted, 1) as crowd:
        crowd.end_of_patience()
        client = crowd.clients[0]
        with pytest.raises(RateLimited):
            await client.open_orders(counted.category, timeout=0.5)
        with pytest.raises(MassCancelError) as caught:
            await client.cancel_all_and_confirm(counted.category, timeout=0.5, settle=0.05)
        assert caught.value.retry_after is not None


async def test_accounts_with_other_rates_share_the_address() -> None:
    """One desk states 24 a minute and the other 23: together they spend no more than 24."""
    limits = BinanceLimits(clock=time.monotonic, share=0.01)
    async with crowd_of(USDM, 1, limits=limits, rates={"usdm_weight": 24}) as crowd:
        url, account = crowd.exchange.rest_url, crowd.accounts[0]
        async with SessionPool(warm=0) as pool:
            other = Client(
                Credentials(account.api_key, account.api_secret),
                venue=Binance(spot_url=NOWHERE, usdm_url=url),
                pool=pool,
                rates={"usdm_weight": 23},
            )
            async with other:
                calls = [
                    client.cancel_all("usdm", "BTCUSDT", timeout=0.5)
                    for client in (crowd.clients[0], other)
                    for _ in range(11)
                ]
                await asyncio.gather(*calls, return_exceptions=True)
    assert not limits.refusals
