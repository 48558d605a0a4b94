"""What the tests of proofs share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from masscancel import Client
from masscancel.sim import Account, Answer, OnCancel, Script, SimulatedExchange
from support import client_of

BTC = "BTC/USDT"
SETTLE = 0.03
STAYS = Script(on_cancel=OnCancel.IGNORE)
REFUSED = Answer(429, b"{}", (("Retry-After", "60"),))


@asynccontextmanager
async def trader(
    exchange: SimulatedExchange, account: Account, watch: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[Client[Any]]:
    """An entered client whose watched categories are followed already."""
    async with client_of(exchange, account, watch=watch, **options) as client:
        for category in watch:
            # What was subscribed to is trusted once the answer is read: a change shows that it is.
            updates = client.order_updates(category)
            await exchange.until(lambda: answered(exchange, "subscribe"))
            exchange.place(account, category, "XRP/USDT")
            await anext(updates)
        yield client


def answered(exchange: SimulatedExchange, operation: str) -> list[Any]:
    """The requests of an operation that have an answer."""
    return [r for r in exchange.operations(operation) if r.answer == "answered"]


def open_ids(exchange: SimulatedExchange, account: Account, category: str = "cash") -> set[str]:
    """The ids of what is open, as the exchange knows it."""
    return {order.order_id for order in exchange.open_orders(account, category)}
