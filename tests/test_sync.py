"""The same calls without `await`, for scripts and notebooks."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

import masscancel.sync
from masscancel import AuthenticationError, Credentials, ScopeError
from masscancel.sim import Account, SimulatedExchange
from support import account_of, venue_of


class Running:
    """An exchange in a thread of its own, as another machine would be."""

    def __init__(self) -> None:
        self.exchange: SimulatedExchange
        self.account: Account
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        self._ready.wait()

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with SimulatedExchange() as self.exchange:
            self.account = account_of(self.exchange)
            self._ready.set()
            await self._end.wait()

    def stop(self) -> None:
        """End the exchange."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


@pytest.fixture
def running() -> Iterator[Running]:
    """The exchange."""
    running = Running()
    yield running
    running.stop()


def test_cancel_and_prove(running: Running) -> None:
    """A script cancels, lists and proves without an event loop."""
    account, venue = running.account, venue_of(running.exchange, 0)
    keys = Credentials(account.api_key, account.api_secret)
    assert len(masscancel.sync.open_orders(keys, venue, "cash")) == 2
    ack = masscancel.sync.cancel_all(keys, venue, "cash", "BTC/USDT")
    assert ack.symbol == "BTC/USDT"
    assert masscancel.sync.cancel_all_and_confirm(keys, venue, "cash", settle=0.01).sweeps == 1
    assert running.exchange.open_orders(account, "cash") == []
    assert len(running.exchange.open_orders(account, "margin")) == 2


def test_within_a_running_loop(running: Running) -> None:
    """A notebook's own event loop is no obstacle."""
    account, venue = running.account, venue_of(running.exchange, 0)
    keys = Credentials(account.api_key, account.api_secret)

    async def cell() -> str:
        return masscancel.sync.cancel_all(keys, venue, "cash").account_category

    assert asyncio.run(cell()) == "cash"


def test_errors_reach_the_caller(running: Running) -> None:
    """What `await` would raise is raised here."""
    account, venue = running.account, venue_of(running.exchange, 0)
    with pytest.raises(ScopeError):
        masscancel.sync.cancel_all(
            Credentials(account.api_key, account.api_secret), venue, "nonsense"
        )
    with pytest.raises(AuthenticationError):
        masscancel.sync.cancel_all(Credentials(account.api_key, "wrong"), venue, "cash")
