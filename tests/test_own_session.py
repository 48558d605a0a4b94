"""A session of the user's in place of the pool's own connections: mocks, tracing, connectors."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aioresponses import aioresponses

from masscancel import (
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    DeadMansSwitch,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    SessionPool,
    Target,
)
from masscancel.sim import Drop, SimulatedExchange
from masscancel.venues.ascendex import AscendEX
from support import account_of, client_of

pytestmark = pytest.mark.asyncio

URL = "http://127.0.0.1:1/6/api/pro/v1/cash/order/all"
VENUE = AscendEX(rest_url="http://127.0.0.1:1", stream_url="ws://127.0.0.1:1", account_group=6)
ACK = {
    "code": 0,
    "data": {
        "ac": "CASH",
        "accountId": "a",
        "action": "cancel-all",
        "info": {"id": "", "orderType": "", "symbol": "", "timestamp": 4102444800000},
        "status": "Ack",
    },
}


async def caught(call: Awaitable[Any]) -> MassCancelError:
    """The error that a call ends with."""
    with pytest.raises(MassCancelError) as found:
        await call
    return found.value


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The user's own."""
    async with aiohttp.ClientSession() as own:
        yield own


async def test_a_mock_sees_the_request(session: aiohttp.ClientSession) -> None:
    """A mock answers, and finds method, URL, headers and body as they would be sent."""
    async with (
        SessionPool(session=session, warm=0) as pool,
        Client(Credentials("key", "secret"), venue=VENUE, pool=pool) as client,
    ):
        with aioresponses() as mock:
            mock.delete(URL, payload=ACK)
            ack = await client.cancel_all("cash")
            ((_, calls),) = mock.requests.items()
    assert ack.account_id == "a"
    assert calls[0].kwargs["headers"]["x-auth-key"] == "key"
    assert b'"id"' in calls[0].kwargs["data"]


async def test_errors_mean_the_same(session: aiohttp.ClientSession) -> None:
    """A refusal, a lost connection and one that never was are what they are without a session."""
    async with (
        SessionPool(session=session, warm=0) as pool,
        Client(Credentials("key", "secret"), venue=VENUE, pool=pool) as client,
    ):
        with aioresponses() as mock:
            mock.delete(URL, payload={"code": 200001, "message": "no"})
            refused = await caught(client.cancel_all("cash"))
        with aioresponses() as mock:
            mock.delete(URL, exception=aiohttp.ServerDisconnectedError(), repeat=True)
            lost = await caught(client.cancel_all("cash", timeout=0.2))
        assert isinstance(refused, AuthenticationError)
        assert isinstance(lost, OutcomeUnknown)
        with pytest.raises(NotSent):
            await client.cancel_all("cash", timeout=0.2)


async def test_nothing_is_sent_twice_behind_our_back(
    exchange: SimulatedExchange, session: aiohttp.ClientSession
) -> None:
    """After a disconnect aiohttp would send again; each of ours leaves once, signed anew."""
    exchange.faults.add(Drop(), operation="cancel-all", times=2)
    async with (
        SessionPool(session=session, warm=0) as pool,
        client_of(exchange, account_of(exchange), pool=pool) as client,
    ):
        await client.open_orders("cash")  # so that there is a connection to be lost
        ack = await client.cancel_all("cash")
    sent = exchange.operations("cancel-all")
    assert len(sent) == len(ack.attempts) == 3


async def test_a_bug_in_the_users_own_middleware_is_an_error_that_names_it(
    exchange: SimulatedExchange,
) -> None:
    """What a session's middleware raises is known at once, and says nothing that is secret."""

    async def broken(_: aiohttp.ClientRequest, __: Any) -> aiohttp.ClientResponse:
        raise RuntimeError("with the key a-key in it")

    account = account_of(exchange)
    async with (
        aiohttp.ClientSession(middlewares=(broken,)) as own,
        SessionPool(session=own, warm=0) as pool,
        client_of(exchange, account, pool=pool) as client,
    ):
        error = await caught(client.cancel_all("cash", timeout=0.3))
    assert "the session raised RuntimeError" in str(error)
    assert "in it" not in str(error)
    assert isinstance(error, OutcomeUnknown)


async def test_another_thread_needs_a_function(
    exchange: SimulatedExchange, session: aiohttp.ClientSession
) -> None:
    """The switch refuses a session by name; with a function that makes one, it works."""
    account = account_of(exchange)
    async with (
        SessionPool(session=session, warm=0) as pool,
        client_of(exchange, account, pool=pool) as client,
    ):
        switch = DeadMansSwitch(Target(client, "cash"))
        with pytest.raises(ConfigurationError, match="function that makes one"):
            await switch.__aenter__()
    async with (
        SessionPool(session=aiohttp.ClientSession, warm=0) as pool,
        client_of(exchange, account, pool=pool) as client,
        DeadMansSwitch(Target(client, "cash")) as switch,
    ):
        pass
    assert switch.report is not None
    assert switch.report.all_ok
    assert exchange.open_orders(account, "cash") == []


async def test_it_says_what_is_not_promised(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """One WARNING on entry."""
    async with SessionPool(session=session):
        pass
    assert [record.levelname for record in caplog.records] == ["WARNING"]
