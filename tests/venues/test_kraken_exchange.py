"""Kraken over real sockets: what the exchange executed is the judge."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from urllib.parse import parse_qs

import pytest
import pytest_asyncio

from kraken_support import BTC, PERP, SECRET, account_of, client_of, dialect_of
from masscancel import (
    Ack,
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    PermissionDenied,
    RateLimited,
    RetryPolicy,
    ScopeError,
    SessionPool,
    Target,
    cancel_many,
)
from masscancel.calls import Limit
from masscancel.sim import HELD, Account, Answer, Delay, EffectDelay, Hang, Hold, SimulatedExchange
from masscancel.sim.kraken import KrakenDialect
from masscancel.venues.kraken import Kraken


@pytest_asyncio.fixture
async def kraken() -> AsyncIterator[SimulatedExchange]:
    """A simulated Kraken that listens on loopback, spot and futures on one port."""
    async with SimulatedExchange(KrakenDialect()) as running:
        yield running


def open_symbols(exchange: SimulatedExchange, account: Account, category: str) -> list[str]:
    """The symbols of what is open in truth."""
    return [order.symbol for order in exchange.open_orders(account, category)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("category", "symbol", "left"),
    [
        ("spot", None, []),
        ("spot", BTC, ["ETHUSD"] * 2),
        ("spot", "XBT/USD", ["ETHUSD"] * 2),
        ("spot", "XXBTZUSD", ["ETHUSD"] * 2),
        ("futures", None, []),
        ("futures", PERP, ["PF_ETHUSD"] * 2),
    ],
)
async def test_cancel_all(
    kraken: SimulatedExchange, category: str, symbol: str | None, left: list[str]
) -> None:
    """The scope's orders go, stop orders too; nothing else does."""
    account = account_of(kraken, "one")
    other = {"spot": "futures", "futures": "spot"}[category]
    async with client_of(kraken, account) as client:
        assert len(await client.open_orders(category, symbol)) == 4 - len(left)
        ack = await client.cancel_all(category, symbol)
        assert await client.open_orders(category, symbol) == []
    assert (ack.account_category, ack.symbol) == (category, symbol or "")
    assert ack.status == (f"count {4 - len(left)}" if category == "spot" else "cancelled")
    assert open_symbols(kraken, account, category) == left
    assert len(kraken.open_orders(account, other)) == 4


@pytest.mark.asyncio
async def test_only_the_host_of_the_category_is_touched(kraken: SimulatedExchange) -> None:
    """A key serves one of the two, and the other never hears of it."""
    async with SimulatedExchange(KrakenDialect()) as other:
        account = account_of(kraken, "spot", categories=["spot"])
        async with client_of(kraken, account, futures_url=other.rest_url) as client:
            await client.cancel_all("spot")
            await client.cancel_all("spot", "XBT/USD")
        assert (other.requests, other.connections_opened) == ([], 0)


@pytest.mark.asyncio
async def test_a_key_of_the_other_side_is_refused_once(kraken: SimulatedExchange) -> None:
    """Futures do not know a key of spot, nor spot one of futures."""
    for name, category in (("spot", "futures"), ("futures", "spot")):
        account = account_of(kraken, name, categories=[name])
        async with client_of(kraken, account) as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.cancel_all(category)
        assert len(caught.value.attempts) == 1
        assert not caught.value.may_have_executed


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["spot", "futures"])
async def test_a_wrong_secret_is_refused_once_and_shown_nowhere(
    kraken: SimulatedExchange, category: str
) -> None:
    """One request, and neither secret nor signature in what is raised."""
    account = account_of(kraken, "wrong")
    keys = Credentials(account.api_key, SECRET)
    venue = Kraken(spot_url=kraken.rest_url, futures_url=kraken.rest_url)
    async with Client(keys, venue=venue) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.cancel_all(category)
    (request,) = kraken.operations("cancel-all")
    signature = request.header("api-sign") or request.header("authent")
    assert signature
    assert not any(word in repr(caught.value) + str(caught.value) for word in (SECRET, signature))


@pytest.mark.asyncio
async def test_a_secret_that_is_not_base64_sends_nothing(kraken: SimulatedExchange) -> None:
    """It is our error, before anything is written."""
    venue = Kraken(spot_url=kraken.rest_url, futures_url=kraken.rest_url)
    async with Client(Credentials("key", "no-base64"), venue=venue) as client:
        with pytest.raises(ConfigurationError) as caught:
            await client.cancel_all("spot")
    assert "no-base64" not in str(caught.value)
    assert kraken.operations("cancel-all") == []


@pytest.mark.asyncio
async def test_a_key_that_may_not_cancel(kraken: SimulatedExchange) -> None:
    """It may list; one that may only cancel can't cancel one symbol, which needs the listing."""
    viewer = account_of(kraken, "viewer", permissions=["view"])
    canceller = account_of(kraken, "canceller", permissions=["trade"])
    async with client_of(kraken, viewer) as client:
        assert len(await client.open_orders("spot")) == 4
        for category in ("spot", "futures"):
            with pytest.raises(PermissionDenied):
                await client.cancel_all(category)
    async with client_of(kraken, canceller) as client:
        with pytest.raises(PermissionDenied):
            await client.cancel_all("spot", BTC)
        assert (await client.cancel_all("spot")).status == "count 4"


@pytest.mark.asyncio
async def test_an_unknown_symbol_cancels_nothing(kraken: SimulatedExchange) -> None:
    """``BTC/USD`` against ``XBTUSD``, and a contract that does not exist."""
    account = account_of(kraken, "typo")
    async with client_of(kraken, account, categories=["spot", "futures"]) as client:
        for category, symbol in (("spot", "BTC/USD"), ("spot", "NOUSD"), ("futures", "PF_NOUSD")):
            with pytest.raises(ScopeError):
                await client.cancel_all(category, symbol)
            with pytest.raises(ScopeError):
                await client.open_orders(category, symbol)
    assert [len(kraken.open_orders(account, c)) for c in ("spot", "futures")] == [4, 4]


@pytest.mark.asyncio
async def test_pending_cancels_are_only_acknowledged(kraken: SimulatedExchange) -> None:
    """The Ack says that they are pending, and the orders are still there."""
    dialect_of(kraken).pending = True
    account = account_of(kraken, "pending")
    kraken.faults.add(EffectDelay(HELD), operation="cancel-all")
    async with client_of(kraken, account) as client:
        assert (await client.cancel_all("spot")).status == "count 4, pending"
        assert len(await client.open_orders("spot")) == 4


@pytest.mark.asyncio
async def test_a_refused_nonce_is_followed_by_a_greater_one(kraken: SimulatedExchange) -> None:
    """A refusal is not an execution; the next nonce is accepted."""
    account = account_of(kraken, "nonce")
    refusal = Answer(200, b'{"error":["EAPI:Invalid nonce"]}')
    kraken.faults.add(refusal, operation="cancel-all")
    async with client_of(kraken, account) as client:
        ack = await client.cancel_all("spot")
    assert [attempt.fate for attempt in ack.attempts] == ["refused", "answered"]
    sent = [int(parse_qs(r.body.decode())["nonce"][0]) for r in kraken.operations("cancel-all")]
    assert sent == sorted(set(sent))


@pytest.mark.asyncio
async def test_a_lockout_is_not_asked_again(kraken: SimulatedExchange) -> None:
    """Each further request would prolong it."""
    account = account_of(kraken, "locked")
    refusal = Answer(200, b'{"error":["EGeneral:Temporary lockout"]}')
    kraken.faults.add(refusal, operation="cancel-all", times=None)
    async with client_of(kraken, account) as client:
        with pytest.raises(RateLimited):
            await client.cancel_all("spot", timeout=60)
    assert len(kraken.operations("cancel-all")) == 1


@pytest.mark.asyncio
async def test_many_accounts_of_both_sides_at_once(kraken: SimulatedExchange) -> None:
    """In one fan-out, with one that is refused."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(SessionPool())
        targets = []
        for n in range(6):
            account = account_of(kraken, f"many-{n}")
            client = await stack.enter_async_context(client_of(kraken, account, pool=pool))
            targets += Target.product([client], ["spot"], [BTC, "ETH/USD"])
            targets += Target.product([client], ["futures"])
        targets.append(Target(client, "spot", "NOUSD"))
        report = await cancel_many(targets)
    assert [type(outcome.error) for outcome in report.failed] == [ScopeError]
    assert [o for o in kraken.engine.orders() if o.status.is_open] == []


# --- nonces arrive in order -----------------------------------------------------------------------


class Unlimited(Kraken, frozen=True, kw_only=True):
    """Kraken to whom no limits are known, so that twenty nonces are under way at once."""

    def limits(self, _: str) -> tuple[Limit, ...]:
        """None."""
        return ()


def slow_half(exchange: SimulatedExchange) -> None:
    """Every other request takes a while to be looked at, so that what is not in order shows."""
    exchange.faults.add(Delay(0.005), path="/0/private/", probability=0.5, times=None)


def assert_in_order(exchange: SimulatedExchange, at_least: int) -> None:
    """No nonce was refused, and each was greater than the one before it."""
    seen = list(dialect_of(exchange).nonces)
    nonces = [nonce.nonce for nonce in seen]
    assert len(nonces) >= at_least
    assert all(nonce.accepted for nonce in seen)
    assert nonces == sorted(set(nonces))


async def twenty(clients: Sequence[Client[Kraken]], symbol: str | None) -> list[Ack]:
    """Twenty cancel-alls at once, from the clients in turn."""
    return await asyncio.gather(
        *(clients[n % len(clients)].cancel_all("spot", symbol, timeout=30) for n in range(20))
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("symbol", [None, BTC, "XBT/USD"])
@pytest.mark.parametrize("pools", [1, 2])
async def test_nonces_of_two_clients_arrive_in_order(
    kraken: SimulatedExchange, symbol: str | None, pools: int
) -> None:
    """They share a key, over many connections: of one pool, or of one each."""
    account = account_of(kraken, "shared")
    slow_half(kraken)
    async with SessionPool() as pool, SessionPool() as another:
        clients = [
            client_of(kraken, account, Unlimited, pool=pool),
            client_of(kraken, account, Unlimited, pool=another if pools == 2 else pool),
        ]
        async with clients[0], clients[1]:
            acks = await twenty(clients, symbol)
    assert len(acks) == 20
    assert_in_order(kraken, 20)
    assert open_symbols(kraken, account, "spot") == (["ETHUSD"] * 2 if symbol else [])


@pytest.mark.asyncio
async def test_an_unanswered_nonce_gives_way_to_the_next(kraken: SimulatedExchange) -> None:
    """Attempts of one call never overtake each other: one that is slow keeps no other waiting."""
    account = account_of(kraken, "turns")
    kraken.faults.add(Hold("first"), operation="cancel-all", nth=1)
    async with client_of(kraken, account, retry=RetryPolicy(patience=0.01)) as client:
        ack = await client.cancel_all("spot")
    *slow, last = (attempt.fate for attempt in ack.attempts)
    assert {"open", "unknown"} & {*slow}
    assert {*slow} <= {"open", "unknown", "not sent"}  # the patience may end before it is connected
    assert last == "answered"
    sent = [int(parse_qs(r.body.decode())["nonce"][0]) for r in kraken.operations("cancel-all")]
    assert sent == sorted(set(sent))
    connections = [each.connection for each in kraken.operations("cancel-all")]
    assert 2 <= len({*connections}) == len(connections) <= len(ack.attempts)


@pytest.mark.asyncio
async def test_a_cancel_of_a_pair_waits_for_no_listing_of_others(
    kraken: SimulatedExchange,
) -> None:
    """Its own listing goes before those that nothing depends on, though they asked first."""
    account = account_of(kraken, "one")
    async with client_of(kraken, account) as client:
        kraken.faults.add(Hang(), operation="open-orders", times=1)
        hung = [asyncio.create_task(client.open_orders("spot", timeout=60)) for _ in range(6)]
        await kraken.until(lambda: len(kraken.operations("open-orders")) == 1)
        await client.cancel_all("spot", BTC)
        assert len(kraken.operations("open-orders")) == 2
        assert open_symbols(kraken, account, "spot") == ["ETHUSD"] * 2
        for task in hung:
            task.cancel()
        await asyncio.wait(hung)
