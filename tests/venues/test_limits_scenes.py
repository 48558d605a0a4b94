"""Kills at a venue that counts: what it documents is kept to, and a ban binds everybody."""

import asyncio
from typing import Any

import pytest

from limits_support import (
    COUNTED,
    KRAKEN,
    KRAKEN_FUTURES,
    SPOT,
    USDM,
    Counted,
    Crowd,
    StandingClock,
    crowd_of,
)
from masscancel import (
    Client,
    Credentials,
    MassCancelError,
    RateLimited,
    SessionPool,
    Target,
    cancel_many,
    subscribe,
)
from masscancel.events import OriginBlocked
from masscancel.sim import BinanceLimits

pytestmark = pytest.mark.asyncio
SETTLE = 0.05


@pytest.mark.parametrize("counted", COUNTED, ids=str)
async def test_twelve_accounts_on_one_address_are_killed(counted: Counted) -> None:
    """The venue refuses none of it; in truth every account is flat."""
    async with crowd_of(counted) as crowd:
        await cancel_many(crowd.targets(), timeout=2.0 if counted is USDM else 10.0, confirm=True)
        assert crowd.open() == 0
    assert not crowd.limits.refusals


@pytest.mark.parametrize("counted", [SPOT, KRAKEN, KRAKEN_FUTURES], ids=str)
async def test_twelve_accounts_on_one_address_are_proven(counted: Counted) -> None:
    """Where their listings fit into the limits of a minute, all are proven at once."""
    async with crowd_of(counted) as crowd:
        report = await cancel_many(crowd.targets(), timeout=10.0, confirm=True, settle=SETTLE)
    report.raise_for_failures()
    assert not crowd.limits.refusals


@pytest.mark.parametrize(
    ("counted", "targets", "fit", "window"),
    [
        pytest.param(SPOT, 100, 60, 61.1, id="binance-spot"),
        pytest.param(USDM, 30, 18, 61.1, id="binance-usdm"),  # two books each
        pytest.param(KRAKEN, 25, 15, 30.4, id="kraken-spot"),
        pytest.param(KRAKEN_FUTURES, 30, 20, 10.2, id="kraken-futures"),
    ],
)
async def test_more_targets_than_the_rate(
    counted: Counted, targets: int, fit: int, window: float
) -> None:
    """What fits is cancelled; the rest is told at once when there will be room; nothing is refused.

    Binance at a hundredth or so of its limits.
    """
    options: dict[str, Any] = {}
    if counted.name == "binance":
        share, weight = (0.01, 60) if counted is SPOT else (0.015, 36)
        options["limits"] = BinanceLimits(clock=StandingClock(), share=share)
        options["rates"] = {"weight" if counted is SPOT else "usdm_weight": weight}
    whole = counted is KRAKEN  # of one pair, a cancel begins with a listing
    async with crowd_of(counted, 1, **options) as crowd:
        client = crowd.clients[0]
        symbols = [None if whole else f"{counted.symbols[0]}{n or ''}" for n in range(targets)]
        report = await cancel_many(
            [Target(client, counted.category, symbol) for symbol in symbols], timeout=2.0
        )
    assert len(report.succeeded) == fit
    errors = [outcome.error for outcome in report.failed]
    assert {type(error) for error in errors} == {RateLimited}
    assert all(0 < (error.retry_after or 0) <= window for error in errors if error)
    assert not crowd.limits.refusals


async def callers(crowd: Crowd) -> list[MassCancelError]:
    """What every kind of caller is told, all at once, whatever their account."""
    clients, category = crowd.clients, crowd.category
    symbol = crowd.counted.symbols[0]
    told = await asyncio.gather(
        *(client.cancel_all(category, timeout=0.5) for client in clients),
        *(client.cancel_all(category, symbol, timeout=0.5) for client in clients),
        *(client.open_orders(category, timeout=0.5) for client in clients),
        return_exceptions=True,
    )
    report = await cancel_many(crowd.targets(), timeout=0.5)
    told += [outcome.error for outcome in report.outcomes]
    proven = await cancel_many(crowd.targets(), timeout=0.5, confirm=True, settle=SETTLE)
    assert not proven.succeeded
    return [error for error in told if isinstance(error, MassCancelError)]


@pytest.mark.parametrize("counted", [SPOT, USDM, KRAKEN], ids=str)
async def test_a_ban_seen_by_one_binds_all(counted: Counted) -> None:
    """One caller is told; no other of the address (on Kraken, of the key) sends anything.

    Each is told when it ends.
    """
    accounts = 1 if counted is KRAKEN else 4
    async with crowd_of(counted, accounts) as crowd:
        ends = crowd.end_of_patience()
        with pytest.raises(RateLimited):
            await crowd.clients[0].open_orders(counted.category, timeout=0.5)
        received = len(crowd.exchange.requests)
        told = await callers(crowd)
        assert len(crowd.exchange.requests) == received
    # On futures both books are listed side by side: both listings had left when one was refused.
    assert crowd.limits.after_ban == (2 if counted is USDM else 1)
    left = ends - crowd.limits._clock()
    assert len(told) == 4 * accounts
    assert all(isinstance(error, RateLimited) for error in told)
    assert all(left - 15 <= (error.retry_after or 0) <= left for error in told)


async def test_a_ban_that_a_probe_sees_binds_the_cancels() -> None:
    """The connections that are kept warm learn of it, too; then they are left alone themselves."""
    learnt = asyncio.Event()

    def note(event: object) -> None:
        if isinstance(event, OriginBlocked):
            learnt.set()

    warm = {"warm": 1, "warm_interval": 0.1}
    async with crowd_of(SPOT, 2, pool=warm, categories=("spot",)) as crowd:
        exchange = crowd.exchange
        unsubscribe = subscribe(note)
        crowd.end_of_patience()
        await asyncio.wait_for(learnt.wait(), 10)
        unsubscribe()
        received = len(exchange.requests)
        told = await callers(crowd)
        assert len(told) == 8
        assert len(exchange.requests) == received
    assert crowd.limits.after_ban == 1


async def test_pools_of_one_process_share_what_is_known() -> None:
    """An account in a pool of its own is bound by a ban that another pool was told of."""
    async with crowd_of(SPOT, 1) as crowd, SessionPool(warm=0) as other:
        crowd.end_of_patience()
        with pytest.raises(RateLimited):
            await crowd.clients[0].open_orders("spot", timeout=0.5)
        credentials = Credentials(crowd.accounts[0].api_key, crowd.accounts[0].api_secret)
        venue = SPOT.venue(crowd.exchange.rest_url)
        async with Client(credentials, venue=venue, pool=other) as stranger:
            with pytest.raises(RateLimited):
                await stranger.cancel_all("spot", timeout=0.5)
    assert crowd.limits.after_ban == 1


async def test_what_others_on_the_address_spend_is_seen() -> None:
    """Another program has spent nearly all of the minute: the headers say so, and no 429 comes."""
    async with crowd_of(SPOT, 2) as crowd:
        crowd.limits.spend("/api", 5_900)
        assert len(await crowd.clients[0].open_orders("spot", timeout=1.0)) == 2
        with pytest.raises(RateLimited):
            await crowd.clients[1].open_orders("spot", timeout=1.0)
        ack = await crowd.clients[1].cancel_all("spot", "BTCUSDT", timeout=1.0)
        assert len(ack.cancelled or ()) == 1
    assert not crowd.limits.refusals


@pytest.mark.unmeasured
async def test_hundreds_that_wait_for_a_place_are_told_of_a_limit() -> None:
    """Each in turn and at once, though the room is used up while they wait for their second place.

    Nothing is left hanging until the time is up.
    """
    loop = asyncio.get_running_loop()
    limits = BinanceLimits(clock=StandingClock(), share=0.5)
    problems: list[Any] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    async with crowd_of(USDM, 2, limits=limits, rates={"weight": 700}) as crowd:
        targets = [
            Target(crowd.clients[number % 2], "usdm", f"S{number}USDT") for number in range(600)
        ]
        report = await cancel_many(targets, timeout=50.0)
    assert not problems
    assert len(report.succeeded) >= 100
    assert all(isinstance(outcome.error, RateLimited) for outcome in report.failed)
