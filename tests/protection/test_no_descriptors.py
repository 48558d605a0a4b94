"""The strategy uses up every descriptor as soon as it is guarded: what was got on entry will do."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from every_venue_support import every_market
from masscancel import (
    AscendEX,
    Client,
    Credentials,
    DeadMansSwitch,
    SessionPool,
    Target,
    cancel_on_exit,
)
from masscancel.sim import SimulatedExchange
from support import account_of, client_of, raw_server
from venues_support import KEY, PASSPHRASE, SECRET, Market, fill

pytestmark = pytest.mark.asyncio


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process can open no file, no socket and no connection any more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("scope", ["whole"])
@every_market
async def test_a_block(market: Market, scope: str) -> None:
    """At every venue, of a client whose categories were not named: nothing was warm before."""
    assert scope
    async with SimulatedExchange(market.dialect()) as exchange:
        account = exchange.add_account(KEY, SECRET, group=6, extra={"passphrase": PASSPHRASE})
        fill(exchange, account, market)
        assert exchange.open_orders(account, market.category)
        keys = Credentials(KEY, SECRET, passphrase=PASSPHRASE)
        async with Client(keys, venue=market.venue(exchange, account)) as client:
            guard = cancel_on_exit(Target(client, market.category), confirm=False)
            await guard.__aenter__()
            with no_descriptors():
                await guard.__aexit__(None, None, None)
            assert exchange.open_orders(account, market.category) == []


async def test_a_proof_after_it(exchange: SimulatedExchange) -> None:
    """One connection is enough: a listing that wants one of its own takes what there is."""
    account = account_of(exchange)
    async with SessionPool(warm=1) as pool, client_of(exchange, account, pool=pool) as client:
        guard = cancel_on_exit(Target(client, "cash"))
        await guard.__aenter__()
        with no_descriptors():
            await guard.__aexit__(None, None, None)
        assert guard.report is not None
        assert guard.report.all_ok


async def test_a_switch(exchange: SimulatedExchange) -> None:
    """The thread of the switch has connections of its own, from its entry on."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        switch = DeadMansSwitch(Target(client, "cash"), timeout=30.0)
        await switch.__aenter__()
        with no_descriptors():
            await switch.__aexit__(None, None, None)
        assert switch.report is not None
        assert switch.report.all_ok


async def test_an_entry_does_not_wait_for_long() -> None:
    """Of a venue that answers nothing, or can't be reached: the block begins all the same."""

    def hang(_: bytes, __: asyncio.StreamWriter) -> None:
        """Answer nothing."""

    async with raw_server(hang) as address:
        for host in (address, "127.0.0.1:9"):
            venue = AscendEX(rest_url=f"http://{host}", stream_url=f"ws://{host}", account_group=1)
            async with Client(Credentials("k", "s"), venue=venue) as client, asyncio.timeout(5):
                guard = cancel_on_exit(Target(client, "cash"), confirm=False, timeout=0.1)
                await guard.__aenter__()
                with pytest.raises(ExceptionGroup):
                    await guard.__aexit__(None, None, None)


async def test_a_cancellation_while_it_enters_is_for_the_block(
    exchange: SimulatedExchange,
) -> None:
    """The waiting ends; the block is entered, and left as if it had been cancelled: all is flat."""
    account = account_of(exchange)

    async def work() -> None:
        async with cancel_on_exit(Target(client, "cash"), confirm=False):
            await asyncio.Event().wait()

    async with client_of(exchange, account) as client:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel("by its owner")
        await asyncio.wait((task,))
        assert task.cancelled()
        assert exchange.open_orders(account, "cash") == []
