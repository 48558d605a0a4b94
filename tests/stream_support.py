"""What the tests of streams share: AscendEX's messages, and clients whose stream is followed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from masscancel import Client, Credentials
from masscancel.models import Ack, OrderUpdate
from masscancel.sim import Account, SimulatedExchange
from support import account_of, streaming_client

BTC, ETH = "BTC/USDT", "ETH/USDT"
LOGIN = Credentials("the-key", "the-secret")

ACK = {
    "m": "order",
    "accountId": "cshF5SlR9ukAXoDOuXbND4dVpBMw9gzH",
    "ac": "CASH",
    "action": "cancel-all",
    "status": "Ack",
    "info": {
        "symbol": BTC,
        "orderType": "NULL_VAL",
        "timestamp": 1608133910000,
        "id": "abc123",
        "orderId": "",
    },
}

ROW = {
    "s": BTC,
    "sn": 8159711,
    "sd": "Buy",
    "ap": "0",
    "cfq": "0.25",
    "p": "7000.5",
    "q": "1",
    "ot": "Limit",
    "orderId": "a1",
    "st": "PartiallyFilled",
    "t": 1576019215402,
}

UPDATE = {"m": "order", "accountId": "csh1", "ac": "CASH", "data": ROW}


def done(exchange: SimulatedExchange, operation: str, answer: str = "answered") -> int:
    """How many requests of the operation were answered so."""
    return sum(r.answer == answer for r in exchange.operations(operation))


async def following(
    exchange: SimulatedExchange, client: Client[Any], account: Account, category: str = "cash"
) -> Any:
    """A consumer of a category that is subscribed to, for sure."""
    before = done(exchange, "subscribe")
    updates = client.order_updates(category)
    if not before:
        await exchange.until(lambda: done(exchange, "subscribe") > before)
    exchange.place(account, category, "BTC-PERP" if category == "futures" else BTC)
    assert isinstance(await anext(updates), OrderUpdate)
    return updates


@asynccontextmanager
async def stream_of(
    exchange: SimulatedExchange, **options: Any
) -> AsyncIterator[tuple[Account, Client[Any]]]:
    """An account and its entered client, whose stream is opened by nobody yet."""
    account = account_of(exchange)
    async with streaming_client(exchange, account, **options) as client:
        yield account, client


def cancel(client: Client[Any], symbol: str | None = None, **options: Any) -> asyncio.Task[Ack]:
    """A cancel-all on the stream, as a task."""
    return asyncio.create_task(client.cancel_all("cash", symbol, via="stream", **options))
