"""The simulated venues' limits: what is counted, who is refused and banned, and for how long."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from masscancel.sim import (
    BinanceDialect,
    BinanceLimits,
    KrakenLimits,
    Limiter,
    Reply,
    Request,
    SimulatedExchange,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

LISTING = ("GET", "/api/v3/openOrders")
CANCEL = ("DELETE", "/api/v3/openOrders?symbol=BTCUSDT")
NOON = 1_790_000_100.0 - 1_790_000_100.0 % 300


class Clock:
    """A clock in the test's hand, at the beginning of five minutes."""

    now = NOON

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The limiter's clock."""
    return Clock()


def ask(
    limits: Limiter,
    method: str,
    target: str,
    *,
    key: str = "k",
    remote: str = "10.0.0.1",
    answer: Reply | None = None,
) -> Reply:
    """Ask for something; the refusal, or the venue's answer with what is added to it."""
    request = Request(
        method=method, raw_path=target, headers={"api-key": key} if key else {}, remote=remote
    )
    refusal = limits.admit(request)
    return limits.settle(request, (answer or Reply(200, b"[]")) if refusal is None else refusal)


def header(reply: Reply, name: str) -> str | None:
    """A header of a reply."""
    return dict(reply.headers).get(name)


def used(reply: Reply) -> int:
    """What a reply says has been spent."""
    return int(header(reply, "X-MBX-USED-WEIGHT-1M") or -1)


def words(replies: Iterable[Reply]) -> list[Any]:
    """The errors that Kraken's replies hold; "" for none."""
    bodies = [json.loads(reply.body) or {} for reply in replies]
    return ["".join(body.get("error", "")) for body in bodies]


@pytest.mark.parametrize(
    ("method", "target", "weight"),
    [
        ("GET", "/api/v3/openOrders?timestamp=1", 80),
        ("GET", "/api/v3/openOrders?symbol=BTCUSDT", 6),
        ("GET", "/api/v3/order?symbol=BTCUSDT&orderId=1", 4),
        ("GET", "/api/v3/time", 1),
        ("GET", "/api/v3/exchangeInfo", 20),
        ("DELETE", "/api/v3/openOrders?symbol=BTCUSDT", 0),
        ("GET", "/fapi/v1/openOrders", 40),
        ("GET", "/fapi/v1/openAlgoOrders", 40),
        ("GET", "/fapi/v1/openAlgoOrders?symbol=BTCUSDT", 1),
        ("DELETE", "/fapi/v1/allOpenOrders?symbol=BTCUSDT", 1),
        ("POST", "/fapi/v1/countdownCancelAll", 10),
        ("GET", "/fapi/v1/time", 1),
    ],
)
def test_weights(clock: Clock, method: str, target: str, weight: int) -> None:
    """Each reply tells what the minute has cost the address until then."""
    limits = BinanceLimits(clock=clock)
    assert used(ask(limits, method, target)) == weight
    assert used(ask(limits, method, target)) == 2 * weight


def test_a_cancel_that_fails_costs_its_weight(clock: Clock) -> None:
    """Only what succeeds is free on spot."""
    limits = BinanceLimits(clock=clock)
    failed = Reply(400, b'{"code":-2011,"msg":"Unknown order sent."}')
    assert used(ask(limits, "DELETE", "/api/v3/openOrders?symbol=BTCUSDT", answer=failed)) == 1


@pytest.mark.parametrize(("side", "listings"), [("api/v3", 75), ("fapi/v1", 60)])
def test_a_minute_that_is_full(clock: Clock, side: str, listings: int) -> None:
    """6,000 on spot, 2,400 on futures; the next is refused until the next whole minute."""
    limits = BinanceLimits(clock=clock)
    clock.now += 12.5
    for _ in range(listings):
        assert ask(limits, "GET", f"/{side}/openOrders").status == 200
    refused = ask(limits, "GET", f"/{side}/openOrders")
    assert (refused.status, header(refused, "Retry-After")) == (429, "48")
    assert json.loads(refused.body)["code"] == -1003
    assert ask(limits, "GET", f"/{side}/time", remote="10.0.0.2").status == 200
    other = "api/v3" if side == "fapi/v1" else "fapi/v1"
    assert ask(limits, "GET", f"/{other}/time").status == 200
    assert limits.after_ban == 0
    clock.now = NOON + 60
    assert used(ask(limits, "GET", f"/{side}/time")) == 1


@pytest.mark.unmeasured
def test_raw_requests(clock: Clock) -> None:
    """61,000 in five minutes on spot, of those that weigh nothing, too."""
    limits = BinanceLimits(clock=clock)
    for _ in range(61_000):
        assert ask(limits, *CANCEL).status == 200
    assert ask(limits, *CANCEL).status == 429
    assert limits.refusals[-1].until == NOON + 300


def test_going_on_leads_to_a_ban_that_grows(clock: Clock) -> None:
    """After ten refusals two minutes, then four ... three days at most; a ban refuses all."""
    limits = BinanceLimits(clock=clock)
    lengths = []
    for _ in range(13):
        limits.spend("/api", 6_000, "10.0.0.1")
        refused = [ask(limits, "GET", "/api/v3/time") for _ in range(11)]
        assert [reply.status for reply in refused] == [429] * 10 + [418]
        lengths.append(int(header(refused[-1], "Retry-After") or 0))
        clock.now += lengths[-1] - 1
        still = ask(limits, "GET", "/api/v3/time")
        assert (still.status, header(still, "Retry-After")) == (418, "1")
        assert b"banned until" in still.body
        clock.now += 61
        assert ask(limits, "GET", "/api/v3/time").status == 200
    assert lengths[:3] == [120, 240, 480]
    assert lengths[-1] == 3 * 86_400
    assert limits.after_ban == 13 * (10 + 1)  # all but the first refusal of each round


def test_a_share_of_the_limits(clock: Clock) -> None:
    """Short tests go by a share of the weight."""
    limits = BinanceLimits(clock=clock, share=0.01)
    assert [ask(limits, *LISTING).status for _ in range(2)] == [429, 429]
    clock.now += 60
    limits.spend("/fapi", 23, "10.0.0.1")
    statuses = [ask(limits, "GET", "/fapi/v1/time").status for _ in range(2)]
    assert statuses == [200, 429]


@pytest.mark.parametrize(
    ("tier", "most", "step"), [("starter", 15, 3.0303), ("intermediate", 20, 2.0), ("pro", 20, 1.0)]
)
def test_the_counter_of_a_key(clock: Clock, tier: str, most: int, step: float) -> None:
    """So many calls at once; then one more with each step that it falls."""
    limits = KrakenLimits(clock=clock, tier=tier)
    answers = words(ask(limits, "POST", "/0/private/OpenOrders") for _ in range(most + 1))
    assert answers == [""] * most + ["EAPI:Rate limit exceeded"]
    assert words([ask(limits, "POST", "/0/private/OpenOrders", key="other")]) == [""]
    clock.now += 2.01 * step  # one for the call that was refused, too
    assert words([ask(limits, "POST", "/0/private/CancelAll")]) == [""]


def test_history_costs_two_and_cancels_by_id_nothing(clock: Clock) -> None:
    """As "Spot REST Rate Limits" has it: cancels by id are the matching engine's to count."""
    limits = KrakenLimits(clock=clock)
    for what, level in (("Ledgers", 2), ("CancelOrder", 2), ("CancelOrderBatch", 2)):
        ask(limits, "POST", f"/0/private/{what}")
        assert limits.level("k") == level


def test_a_key_that_goes_on_is_locked_out(clock: Clock) -> None:
    """For fifteen minutes, which each further call begins anew; other keys are not."""
    limits = KrakenLimits(clock=clock)
    limits.spend("k", 15)
    answers = words(ask(limits, "POST", "/0/private/OpenOrders") for _ in range(11))
    assert answers == ["EAPI:Rate limit exceeded"] * 10 + ["EGeneral:Temporary lockout"]
    assert limits.after_ban == 0
    clock.now += 899
    assert words([ask(limits, "POST", "/0/private/CancelOrder")]) == ["EGeneral:Temporary lockout"]
    assert limits.after_ban == 1
    clock.now += 899
    assert words([ask(limits, "POST", "/0/private/OpenOrders", key="other")]) == [""]
    assert words([ask(limits, "POST", "/0/private/OpenOrders")]) == ["EGeneral:Temporary lockout"]
    clock.now += 901
    assert words([ask(limits, "POST", "/0/private/OpenOrders")]) == [""]


def test_public_calls_are_counted_by_address(clock: Clock) -> None:
    """One a second, whatever the key."""
    limits = KrakenLimits(clock=clock, public_burst=2)
    answers = words(ask(limits, "GET", "/0/public/Time", key=str(n)) for n in range(3))
    assert answers == ["", "", "EGeneral:Too many requests"]
    assert words([ask(limits, "GET", "/0/public/Time", remote="10.0.0.2")]) == [""]
    clock.now += 3
    assert words([ask(limits, "GET", "/0/public/Time")]) == [""]


def test_the_pool_of_futures(clock: Clock) -> None:
    """500 in any ten seconds, by key; public calls cost nothing."""
    limits, root = KrakenLimits(clock=clock), "/derivatives/api/v3"
    cancels = [ask(limits, "POST", f"{root}/cancelallorders") for _ in range(21)]
    assert words(cancels) == [""] * 20 + ["apiLimitExceeded"]
    assert words([ask(limits, "GET", f"{root}/tickers/PF_XBTUSD", key="")]) == [""]
    assert words([ask(limits, "GET", f"{root}/openorders", key="other")]) == [""]
    clock.now += 9.9
    assert words([ask(limits, "GET", f"{root}/openorders")]) == ["apiLimitExceeded"]
    clock.now += 0.2
    assert words([ask(limits, "GET", f"{root}/openorders")]) == [""]


@pytest.mark.asyncio
async def test_an_exchange_with_limits() -> None:
    """What is refused is not carried out; every reply tells the weight; without limits none does.

    A venue whose limits are not simulated can't have them.
    """
    async with (
        SimulatedExchange(BinanceDialect(), limits=True) as limited,
        SimulatedExchange(BinanceDialect()) as free,
        aiohttp.ClientSession() as session,
    ):
        assert isinstance(limited.limits, BinanceLimits)
        async with session.get(f"{limited.rest_url}/api/v3/time") as reply:
            assert reply.headers["X-MBX-USED-WEIGHT-1M"] == "1"
        limited.limits.ban("/api")
        async with session.get(f"{limited.rest_url}/api/v3/time") as reply:
            assert reply.status == 418
            assert "X-MBX-USED-WEIGHT-1M" in reply.headers
        async with session.get(f"{free.rest_url}/api/v3/time") as reply:
            assert "X-MBX-USED-WEIGHT-1M" not in reply.headers
        await asyncio.sleep(0)
        assert [request.executed for request in limited.requests] == [True, False]
        assert limited.limits.after_ban == 1
        with pytest.raises(ValueError, match="without limits"):
            _ = free.limits
    with pytest.raises(ValueError, match="ascendex"):
        SimulatedExchange(limits=True)
