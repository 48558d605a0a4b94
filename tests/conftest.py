"""What the tests share: the settings of hypothesis, a patch for aioresponses, fixtures."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import aioresponses.core
import pytest
import pytest_asyncio
from hypothesis import settings

from masscancel.sim import SimulatedExchange
from masscancel.transport.ledger import LEDGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# A red run can be repeated; `pytest --hypothesis-profile=explore` looks further afield.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("repeatable")


class _Written:
    """Stands for a request that has been written whole."""

    output_size = 0


class _Response(aiohttp.ClientResponse):
    """A response that can be made as aioresponses makes them, without a `stream_writer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", _Written())
        super().__init__(*args, **kwargs)


# aioresponses 0.7.9 does not know the argument, which aiohttp requires since 3.14 (its issue 289).
# To be deleted when a release does.
aioresponses.core.ClientResponse = _Response  # type: ignore[attr-defined]  # it imports the name


@pytest.fixture(autouse=True)
def _forget_limits() -> None:
    """Forget what the process has learnt of limits: another test's server had the same port."""
    LEDGER.clear()


@pytest_asyncio.fixture
async def exchange() -> AsyncIterator[SimulatedExchange]:
    """A simulated exchange that listens on loopback."""
    async with SimulatedExchange() as running:
        yield running


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every switch ends its thread."""
    before = {*threading.enumerate()}
    yield
    for thread in {*threading.enumerate()} - before:
        if thread.name == "masscancel-switch":
            thread.join(10)
            assert not thread.is_alive()
