"""Scenes at a venue that counts and refuses: accounts on one address, each with open orders."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import msgspec

from masscancel import Client, Credentials, SessionPool, Target
from masscancel.sim import (
    Account,
    BinanceDialect,
    BinanceLimits,
    Dialect,
    KrakenDialect,
    KrakenLimits,
    Limiter,
    SimulatedExchange,
)
from masscancel.venues import Binance, Kraken
from masscancel.venues.base import Venue
from venues_support import SECRET

#: The other side of a venue, which is not asked.
NOWHERE: Final = "http://127.0.0.1:9"


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """A venue and category with limits.

    `limits` makes its limiter, from a clock.
    """

    name: str
    category: str
    symbols: tuple[str, str]
    dialect: Callable[[], Dialect]
    venue: Callable[[str], Venue]
    limits: Callable[..., Any]

    def __str__(self) -> str:
        return f"{self.name}-{self.category}"

    @property
    def side(self) -> str:
        """The side of Binance, by its limiter's word."""
        return "/fapi" if self.category == "usdm" else "/api"


SPOT: Final = Counted(
    name="binance",
    category="spot",
    symbols=("BTCUSDT", "ETHUSDT"),
    dialect=BinanceDialect,
    venue=lambda url: Binance(spot_url=url, usdm_url=NOWHERE),
    limits=BinanceLimits,
)
USDM: Final = msgspec.structs.replace(
    SPOT, category="usdm", venue=lambda url: Binance(spot_url=NOWHERE, usdm_url=url)
)
KRAKEN: Final = Counted(
    name="kraken",
    category="spot",
    symbols=("XBTUSD", "ETHUSD"),
    dialect=KrakenDialect,
    venue=lambda url: Kraken(spot_url=url, futures_url=NOWHERE),
    limits=KrakenLimits,
)
KRAKEN_FUTURES: Final = msgspec.structs.replace(
    KRAKEN,
    category="futures",
    symbols=("PF_XBTUSD", "PF_ETHUSD"),
    venue=lambda url: Kraken(spot_url=NOWHERE, futures_url=url),
)
COUNTED: Final = (SPOT, USDM, KRAKEN, KRAKEN_FUTURES)


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts at a venue that counts, the clients of each, and the exchange that is the judge."""

    counted: Counted
    exchange: SimulatedExchange
    limits: Any
    accounts: list[Account]
    clients: list[Client[Any]]

    @property
    def category(self) -> str:
        """The account category."""
        return self.counted.category

    def targets(self, symbol: str | None = None) -> list[Target]:
        """A target of each account."""
        return [Target(client, self.category, symbol) for client in self.clients]

    def open(self) -> int:
        """How many orders are open, in truth."""
        return sum(
            len(self.exchange.open_orders(account, self.category)) for account in self.accounts
        )

    def end_of_patience(self, number: int = 0) -> float:
        """Ban the address, or lock the account's key out; returns when that ends."""
        limits = self.limits
        if isinstance(limits, BinanceLimits):
            return limits.ban(self.counted.side)
        assert isinstance(limits, KrakenLimits)
        return limits.lock_out(self.accounts[number].api_key)


class StandingClock:
    """A clock in the test's hand, ten seconds into a minute."""

    def __init__(self) -> None:
        self.now = time.time() // 300 * 300 + 10.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@asynccontextmanager
async def crowd_of(
    counted: Counted,
    accounts: int = 12,
    *,
    limits: Limiter | None = None,
    venue: Callable[[str], Venue] | None = None,
    pool: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Crowd]:
    """Entered clients of so many accounts, with an order in each of two symbols.

    The limiter's clock stands still, unless it is another one: what is spent stays spent.
    """
    async with AsyncExitStack() as stack:
        chosen = limits or counted.limits(clock=StandingClock())
        exchange = await stack.enter_async_context(
            SimulatedExchange(counted.dialect(), limits=chosen)
        )
        shared = await stack.enter_async_context(SessionPool(**(pool or {"warm": 0})))
        opened, clients = [], []
        for number in range(accounts):
            account = exchange.add_account(f"a-key-of-the-crowd-{number}", SECRET)
            for symbol in counted.symbols:
                exchange.place(account, counted.category, symbol)
            client = Client(
                Credentials(account.api_key, SECRET, label=f"desk-{number}"),
                venue=(venue or counted.venue)(exchange.rest_url),
                pool=shared,
                **options,
            )
            opened.append(account)
            clients.append(await stack.enter_async_context(client))
        yield Crowd(
            counted=counted, exchange=exchange, limits=chosen, accounts=opened, clients=clients
        )
