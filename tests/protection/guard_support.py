"""What the tests of `cancel_on_exit` share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from masscancel.sim import Account, SimulatedExchange
from support import account_of, client_of, cold_pool


@asynccontextmanager
async def desk(exchange: SimulatedExchange, number: int = 0) -> AsyncIterator[tuple[Account, Any]]:
    """An account with open orders and a client of it, which opens no connection by itself."""
    account = account_of(exchange, number)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        yield account, client


def cancels(exchange: SimulatedExchange) -> int:
    """How many requests to cancel everything the exchange has seen."""
    return len(exchange.operations("cancel-all"))


async def returns() -> None:
    """End well."""


async def raises() -> None:
    """End badly."""
    raise LookupError("the strategy's own")
