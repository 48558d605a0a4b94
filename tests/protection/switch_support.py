"""Helpers of the dead man's switch's tests: desks, keys, the venue's own switch."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import parse_qsl

from masscancel import (
    Client,
    Credentials,
    DeadMansSwitch,
    FanOutReport,
)
from masscancel.sim import Account, Answer, KrakenDialect, SimulatedExchange
from masscancel.venues import Kraken
from support import SECRETS, account_of, client_of, cold_pool


def in_base64(text: str) -> str:
    """A secret as Kraken wants it."""
    return b64encode(text.encode()).decode()


#: A secret that no account has.
WRONG: Final = in_base64("another-secret-of-the-tests")
REFUSED = Answer(200, b'{"code":200001,"reason":"AUTHENTICATION_FAILED","message":"no"}')


@contextlib.asynccontextmanager
async def desk(exchange: SimulatedExchange, number: int = 0) -> AsyncIterator[tuple[Account, Any]]:
    """An account with open orders and a client of it."""
    account = account_of(exchange, number)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        yield account, client


@contextlib.asynccontextmanager
async def kraken(
    number: int = 0, exchange: SimulatedExchange | None = None, secret: str = ""
) -> AsyncIterator[tuple[SimulatedExchange, Account, Client[Any]]]:
    """An account with two open orders on a venue that has a switch of its own."""
    async with contextlib.AsyncExitStack() as stack:
        if exchange is None:
            exchange = await stack.enter_async_context(SimulatedExchange(KrakenDialect()))
        account = exchange.add_account(
            f"{SECRETS[1]}-{number}", in_base64(f"{SECRETS[0]}-{number}")
        )
        for symbol in ("PF_XBTUSD", "PF_ETHUSD"):
            exchange.place(account, "futures", symbol)
        venue = Kraken(futures_url=exchange.rest_url)
        credentials = Credentials(account.api_key, secret or account.api_secret)
        pool = await stack.enter_async_context(cold_pool())
        client = Client(credentials, venue=venue, pool=pool, rates={"derivatives": 10_000})
        await stack.enter_async_context(client)
        yield exchange, account, client


def settings(exchange: SimulatedExchange, account: Account) -> list[int]:
    """What the venue's own switch was set to, in seconds, oldest first."""
    return [
        int(dict(parse_qsl(request.raw_path.partition("?")[2]))["timeout"])
        for request in exchange.operations("switch")
        if request.api_key == account.api_key and request.answer == "answered"
    ]


async def fired(switch: DeadMansSwitch) -> FanOutReport:
    """Wait for the report of a switch; the exchange lives in this loop, so that must go on."""
    async with asyncio.timeout(10):
        while switch.report is None:  # noqa: ASYNC110  # it is set in another thread
            await asyncio.sleep(0.005)
    return switch.report
