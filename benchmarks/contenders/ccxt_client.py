"""ccxt's asyncio side, with its markets and account given, so that only the call is measured."""

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any

from common import SECRET, Where, key_of, symbols

ccxt: Any = importlib.import_module("ccxt.async_support")  # in an environment of its own


def _market(symbol: str) -> dict[str, Any]:
    base, quote = symbol.split("/")
    return {
        "id": symbol,
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "baseId": base,
        "quoteId": quote,
        "type": "spot",
        "spot": True,
        "margin": False,
        "swap": False,
        "future": False,
        "option": False,
        "contract": False,
        "active": True,
        "precision": {"amount": 1e-8, "price": 1e-8},
        "limits": {},
        "info": {},
    }


class Ccxt:
    """One exchange object; its rate limiter is off."""

    async def open(self, where: Where) -> None:
        """Make the exchange object."""
        self._exchange = ccxt.ascendex(
            {"apiKey": key_of(0), "secret": SECRET, "enableRateLimit": False}
        )
        self._exchange.urls["api"]["rest"] = where.rest
        self._exchange.set_markets([_market(symbol) for symbol in symbols(64)])
        self._exchange.accounts = [{"id": "0", "type": None, "code": None, "info": {}}]

    async def call(self, symbol: str) -> None:
        """Cancel one symbol."""
        await self._exchange.cancel_all_orders(symbol)

    async def burst(self, symbols: Sequence[str]) -> None:
        """Cancel all of them at once."""
        await asyncio.gather(*map(self.call, symbols))

    async def close(self) -> None:
        """Close the exchange object."""
        await self._exchange.close()
