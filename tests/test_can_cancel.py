"""``can_cancel``: the venue is asked whether the key may cancel; nothing is cancelled for it."""

import pytest

from masscancel import AscendEX, AuthenticationError, Client, Credentials, ScopeError
from masscancel.models import Permission
from masscancel.sim import Answer, SimulatedExchange
from masscancel.venues.base import Venue
from support import account_of, client_of, venue_of


@pytest.mark.asyncio
@pytest.mark.parametrize("category", ["cash", "margin", "futures"])
@pytest.mark.parametrize(
    ("permissions", "expected"), [(("view", "trade"), "yes"), (("view",), "no")]
)
async def test_ascendex_tells(
    exchange: SimulatedExchange, category: str, permissions: tuple[str, ...], expected: Permission
) -> None:
    """As its account info says; a key that may only read is found out without a cancel."""
    categories = ("cash", "margin", "futures")
    account = exchange.add_account(permissions=permissions, categories=categories)
    async with client_of(exchange, account) as client:
        assert await client.can_cancel(category) == expected
    assert exchange.operations("cancel-all") == []


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [b"{}", b'{"tradePermission":null}'])
async def test_an_answer_that_leaves_it_open(exchange: SimulatedExchange, data: bytes) -> None:
    """An account info without the permission says nothing of it."""
    exchange.faults.add(Answer(200, b'{"code":0,"data":%s}' % data), operation="info")
    async with client_of(exchange, account_of(exchange)) as client:
        assert await client.can_cancel("cash") == "unknown"


@pytest.mark.asyncio
async def test_a_venue_without_such_a_question(exchange: SimulatedExchange) -> None:
    """By default, nobody is asked, and nothing is known."""

    class Silent(AscendEX, frozen=True, kw_only=True):
        """One that has no way of asking."""

        key_info = Venue.key_info

    account = account_of(exchange)
    venue = Silent(rest_url=exchange.rest_url, stream_url=exchange.stream_url, account_group=0)
    credentials = Credentials(account.api_key, account.api_secret)
    async with Client(credentials, venue=venue) as client:
        assert await client.can_cancel("cash") == "unknown"
    assert exchange.operations("info") == []


@pytest.mark.asyncio
async def test_what_can_not_be_asked(exchange: SimulatedExchange) -> None:
    """No such category; a key that the venue does not know."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        with pytest.raises(ScopeError, match="no account category 'spot'"):
            await client.can_cancel("spot")
    stranger = Client(Credentials("unknown", "x"), venue=venue_of(exchange, 0))
    async with stranger as client:
        with pytest.raises(AuthenticationError, match="can_cancel cash on ascendex"):
            await client.can_cancel("cash")
