"""A made-up market on the simulated exchange: accounts, orders, and the way in to each account."""

import random
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from masscancel import ConfigurationError
from masscancel.cli.options import load
from masscancel.cli.render import named
from masscancel.sim import (
    Account,
    AscendEXDialect,
    BinanceDialect,
    BitgetDialect,
    BybitDialect,
    Dialect,
    GateDialect,
    KrakenDialect,
    KuCoinDialect,
    OKXDialect,
    SimulatedExchange,
)
from masscancel.sim.kraken import Pair
from masscancel.venues.ascendex import AscendEX
from masscancel.venues.settings import settings_of

__all__ = [
    "COINS",
    "MARKETS",
    "SPELLINGS",
    "Market",
    "market_of",
    "open_accounts",
    "place_orders",
    "settings_for",
    "venue_of",
]

#: Where each coin's price lies, in dollars.
COINS: Final = {
    "BTC": Decimal(64000),
    "ETH": Decimal(3100),
    "SOL": Decimal(150),
    "LTC": Decimal(84),
    "XRP": Decimal("0.52"),
    "ADA": Decimal("0.38"),
}


class Market(msgspec.Struct, frozen=True):
    """A venue's market: what is traded there, and how it is spelled.

    Attributes:
        spellings: how each account category spells a coin's symbol.
        open: makes the venue's dialect, in which these symbols exist and no others do.
        coins: the venue's own names of coins, where they are others.
    """

    spellings: Mapping[str, str]
    open: Callable[["Market"], Dialect]
    coins: Mapping[str, str] = {}

    def symbol(self, category: str, coin: str) -> str:
        """A coin's symbol."""
        return self.spellings[category].format(self.coins.get(coin, coin))

    def symbols(self, category: str) -> list[str]:
        """Every symbol of a category."""
        return [self.symbol(category, coin) for coin in COINS]

    def every_symbol(self) -> set[str]:
        """Every symbol of every category."""
        return {symbol for category in self.spellings for symbol in self.symbols(category)}


def _open_kraken(market: Market) -> Dialect:
    """Kraken's oldest coins have an ``X`` in the keys of their pairs, and dollars a ``Z``."""
    pairs = []
    for name in market.symbols("spot"):
        coin = name[:-3]
        key = f"X{coin}ZUSD" if coin in ("XBT", "ETH", "LTC", "XRP") else name
        pairs.append(Pair(key, name, f"{coin}/USD"))
    return KrakenDialect(pairs=pairs, contracts=market.symbols("futures"))


#: How each account category of the reference venue spells a coin's symbol.
SPELLINGS: Final = {"cash": "{}/USDT", "margin": "{}/USDT", "futures": "{}-PERP"}
#: The markets, by the venues' names.
MARKETS: Final = {
    "ascendex": Market(SPELLINGS, lambda market: AscendEXDialect(symbols=market.every_symbol())),
    "binance": Market(
        {"spot": "{}USDT", "usdm": "{}USDT"},
        lambda market: BinanceDialect(symbols=market.every_symbol()),
    ),
    "bitget": Market(
        {
            "spot": "{}USDT",
            "margin": "{}USDT",
            "usdt-futures": "{}USDT",
            "coin-futures": "{}USD",
            "usdc-futures": "{}PERP",
        },
        lambda market: BitgetDialect(symbols=market.every_symbol()),
    ),
    "bybit": Market(
        {
            "spot": "{}USDT",
            "linear": "{}USDT",
            "inverse": "{}USD",
            "option": "{}-26DEC25-100000-C-USDT",
        },
        lambda market: BybitDialect(symbols=market.every_symbol()),
    ),
    "gate": Market(
        {
            "spot": "{}_USDT",
            "usdt": "{}_USDT",
            "btc": "{}_USD",
            "options": "{}_USDT-20261225-1000-C",
        },
        lambda market: GateDialect(symbols=market.every_symbol()),
    ),
    "kraken": Market({"spot": "{}USD", "futures": "PF_{}USD"}, _open_kraken, {"BTC": "XBT"}),
    "kucoin": Market(
        {"spot": "{}-USDT", "margin": "{}-USDT", "isolated": "{}-USDT", "futures": "{}USDTM"},
        lambda market: KuCoinDialect(symbols=market.every_symbol()),
    ),
    "okx": Market(
        {"account": "{}-USDT-SWAP"}, lambda market: OKXDialect(symbols=market.every_symbol())
    ),
}

_NOTIONAL: Final = 2000


def market_of(venue_name: str) -> Market:
    """The market of a venue.

    Raises:
        ConfigurationError: the venue is not simulated.
    """
    market = MARKETS.get(venue_name)
    if market is None:
        there_are = named(MARKETS, last="and")
        raise ConfigurationError(f"no simulated venue {venue_name!r}; there are: {there_are}")
    return market


def open_accounts(exchange: SimulatedExchange, count: int) -> list[Account]:
    """Open accounts ``mm-1``, ``mm-2`` ... in a few account groups; keys are made up."""
    return [
        exchange.add_account(
            group=1 + index % 7,
            label=f"mm-{index + 1}",
            extra={"passphrase": f"phrase-{index + 1}"},  # where the venue's keys have one
        )
        for index in range(count)
    ]


def place_orders(
    exchange: SimulatedExchange,
    account: Account,
    coins: Sequence[str],
    count: int,
    rng: random.Random,
    market: Market | None = None,
) -> None:
    """Put so many orders into an account's book, in turn over its categories and the coins."""
    market = market or MARKETS["ascendex"]
    scopes = [(category, coin) for coin in coins for category in market.spellings]
    for index in range(count):
        category, coin = scopes[index % len(scopes)]
        side = rng.choice(("buy", "sell"))
        away = Decimal(rng.randint(2, 200)) / 10_000
        price = COINS[coin] * (1 - away if side == "buy" else 1 + away)
        exchange.place(
            account,
            category,
            market.symbol(category, coin),
            side=side,
            price=f"{price:.5g}",
            quantity=f"{_NOTIONAL * rng.randint(1, 10) / COINS[coin]:.3g}",
        )


def venue_of(exchange: SimulatedExchange, account: Account) -> AscendEX:
    """Make the venue that speaks to the simulated exchange for an account."""
    return AscendEX(
        rest_url=exchange.rest_url,
        stream_url=exchange.stream_url,
        account_group=account.group,
    )


def settings_for(exchange: SimulatedExchange, account: Account) -> dict[str, str]:
    """List the ``-o`` settings that lead to the simulated exchange: every URL of the venue."""
    found: dict[str, str] = {}
    for setting in settings_of(load(exchange.dialect.name)):
        if setting.name.endswith("_url"):
            streams = "stream" in setting.name
            found[setting.name] = exchange.stream_url if streams else exchange.rest_url
        elif setting.name == "account_group":
            found[setting.name] = str(account.group)
    return found
