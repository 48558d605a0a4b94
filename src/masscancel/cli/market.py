"""A made-up market on the simulated exchange: accounts, orders, and the way in to each account."""

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from masscancel import AscendEX
from masscancel.sim import Account, SimulatedExchange

__all__ = ["COINS", "SPELLINGS", "open_accounts", "place_orders", "venue_of"]

#: Where each coin's price lies, in USDT.
COINS: Final = {
    "BTC": Decimal(64000),
    "ETH": Decimal(3100),
    "SOL": Decimal(150),
    "LTC": Decimal(84),
    "XRP": Decimal("0.52"),
    "ADA": Decimal("0.38"),
}
#: How each account category spells a coin's symbol.
SPELLINGS: Final = {"cash": "{}/USDT", "margin": "{}/USDT", "futures": "{}-PERP"}

_NOTIONAL: Final = 2000


def open_accounts(exchange: SimulatedExchange, count: int) -> list[Account]:
    """Open accounts ``mm-1``, ``mm-2`` ... in a few account groups; keys are made up."""
    return [
        exchange.add_account(group=1 + index % 7, label=f"mm-{index + 1}") for index in range(count)
    ]


def place_orders(
    exchange: SimulatedExchange,
    account: Account,
    coins: Sequence[str],
    count: int,
    rng: random.Random,
) -> None:
    """Put so many orders into an account's book, in turn over its categories and the coins."""
    scopes = [(category, coin) for coin in coins for category in SPELLINGS]
    for index in range(count):
        category, coin = scopes[index % len(scopes)]
        side = rng.choice(("buy", "sell"))
        away = Decimal(rng.randint(2, 200)) / 10_000
        price = COINS[coin] * (1 - away if side == "buy" else 1 + away)
        exchange.place(
            account,
            category,
            SPELLINGS[category].format(coin),
            side=side,
            price=f"{price:.5g}",
            quantity=f"{_NOTIONAL * rng.randint(1, 10) / COINS[coin]:.3g}",
        )


def venue_of(exchange: SimulatedExchange, account: Account) -> AscendEX:
    """How the simulated exchange is spoken to for an account."""
    return AscendEX(
        rest_url=exchange.rest_url,
        stream_url=exchange.stream_url,
        account_group=account.group,
    )
