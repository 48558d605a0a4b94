"""Kills that wait for a venue's limits: minutes pass, and what was told to wait goes on then."""

import time
from collections.abc import Sequence

import pytest

from limits_support import KRAKEN, KRAKEN_FUTURES, NOWHERE, SPOT, USDM, crowd_of
from masscancel import cancel_many
from masscancel.calls import Limit
from masscancel.sim import BinanceLimits, KrakenLimits
from masscancel.venues import Binance

pytestmark = [pytest.mark.asyncio, pytest.mark.adversity]

#: How many times as fast minutes pass, here and there.
FAST = 10


class Fast(Binance, frozen=True, kw_only=True):
    """A venue whose minutes last six seconds."""

    def limits(self, origin: str) -> Sequence[Limit]:
        """As documented, in less time."""
        limits = Binance.limits(self, origin)
        return [
            Limit(name=each.name, amount=each.amount, seconds=each.seconds / FAST)
            for each in limits
        ]


@pytest.mark.xfail(
    strict=True, reason="weight that a header tells is held against the next sixty seconds"
)
async def test_a_minute_that_is_full_is_waited_for() -> None:
    """Another program has used it up: the kill goes out when the venue's next minute begins."""
    began = time.monotonic()

    def clock() -> float:
        return 58.5 + time.monotonic() - began

    async with crowd_of(SPOT, 1, limits=BinanceLimits(clock=clock)) as crowd:
        crowd.limits.spend("/api", 6_000)
        await crowd.clients[0].cancel_all("spot", "BTCUSDT", timeout=10.0)
        assert len(crowd.limits.refusals) == 1


async def test_twelve_accounts_of_futures_are_proven_in_time() -> None:
    """2,400 a minute do not prove twelve at once; some minutes do, and nothing is refused."""
    limits = BinanceLimits(clock=lambda: time.time() * FAST)
    async with crowd_of(
        USDM, 12, limits=limits, venue=lambda url: Fast(spot_url=NOWHERE, usdm_url=url)
    ) as crowd:
        report = await cancel_many(crowd.targets(), timeout=60.0, confirm=True)
        report.raise_for_failures()
        assert crowd.open() == 0
    assert not limits.refusals


async def test_kills_of_one_key_in_a_row() -> None:
    """More than Kraken's counter holds: the rest leave as it falls, and none is refused."""
    async with crowd_of(KRAKEN, 1, limits=KrakenLimits(clock=time.time)) as crowd:
        report = await cancel_many(crowd.targets() * 22, timeout=40.0)
        report.raise_for_failures()
    assert not crowd.limits.refusals
    assert len(crowd.exchange.operations("cancel-all")) == 22


async def test_kills_of_one_key_of_futures() -> None:
    """Twenty in ten seconds, then the others."""
    async with crowd_of(KRAKEN_FUTURES, 1, limits=KrakenLimits(clock=time.time)) as crowd:
        report = await cancel_many(crowd.targets() * 45, timeout=40.0)
        report.raise_for_failures()
    assert len(crowd.exchange.operations("cancel-all")) == 45
    assert not crowd.limits.refusals
