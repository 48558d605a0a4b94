"""Every venue: what it tells of a key, and the cancel of an order that can't exist."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from every_venue_support import every_market
from flows_support import calls_of
from masscancel import Client, ConfigurationError, Credentials, SessionPool
from masscancel.calls import Flow
from masscancel.models import Permission
from masscancel.sim import Account, Answer, BitgetDialect, SimulatedExchange
from masscancel.venues.base import Venue
from venues_support import KEY, PASSPHRASE, SECRET, Ledger, Market, fill

pytestmark = [pytest.mark.unmeasured, pytest.mark.asyncio]

MAY = ("view", "trade")
READS = ("view",)
ADDRESSES = ("192.0.2.1", "192.0.2.2")

both_rights = pytest.mark.parametrize(
    ("rights", "expected"), [(MAY, "yes"), (READS, "no")], ids=["trades", "reads"]
)


@asynccontextmanager
async def account_at(
    market: Market, rights: tuple[str, ...], **extra: str
) -> AsyncIterator[tuple[SimulatedExchange, Account]]:
    """A filled account whose key has these rights, and a stranger's."""
    dialect = market.dialect()
    if isinstance(dialect, BitgetDialect):  # where any symbol exists
        dialect = BitgetDialect(unified=dialect.unified)
    async with SimulatedExchange(dialect) as exchange:
        account = exchange.add_account(
            KEY, SECRET, group=6, permissions=rights, extra={"passphrase": PASSPHRASE, **extra}
        )
        stranger = exchange.add_account("somebody-else", SECRET, group=7)
        for each in (account, stranger):
            fill(exchange, each, market)
        yield exchange, account


@asynccontextmanager
async def client_at(
    market: Market, exchange: SimulatedExchange, account: Account, venue: Venue | None = None
) -> AsyncIterator[Client[Any]]:
    """An entered client of the account."""
    async with (
        SessionPool(warm=0) as pool,
        Client(
            Credentials(KEY, SECRET, passphrase=PASSPHRASE),
            venue=venue or market.venue(exchange, account),
            pool=pool,
            categories=(market.category,),
        ) as client,
    ):
        yield client


def tells(market: Market, client: Client[Any]) -> bool:
    """Whether the venue tells of a key at all: of unified accounts, Bitget does not."""
    return market.name != "bitget" or client.venue.unified is not True


def has_no_probe(market: Market) -> bool:
    """Whether the venue has no such cancel in the category."""
    return (market.name, market.category) == ("gate", "options")


@every_market
@both_rights
async def test_a_key_is_told_of(market: Market, rights: Any, expected: Permission) -> None:
    """By the venue's own way of asking; nothing is cancelled, nor tried."""
    async with account_at(market, rights) as (exchange, account):
        before = Ledger(exchange)
        async with client_at(market, exchange, account) as client:
            wanted = expected if tells(market, client) else "unknown"
            assert await client.can_cancel(market.category) == wanted
        assert not before - Ledger(exchange)
        assert not exchange.operations(*market.acting, "cancel-order")


@every_market
async def test_addresses_are_told_of(market: Market) -> None:
    """What a key is bound to, where its venue says that."""
    async with (
        account_at(market, MAY, addresses=" ".join(ADDRESSES)) as (exchange, account),
        client_at(market, exchange, account) as client,
    ):
        info = await client.key_info([market.category])
        if market.name == "gate":
            assert info.addresses == ("127.0.0.1",)  # all keys' there
        elif market.name == "binance" or not tells(market, client):
            assert info.addresses is None  # bound, to what is not told
        else:
            assert info.addresses == ADDRESSES


@every_market
@both_rights
async def test_an_order_that_can_not_exist(
    market: Market, rights: Any, expected: Permission
) -> None:
    """Its cancel tells a key that may from one that may not, and every order stays."""
    async with account_at(market, rights) as (exchange, account):
        before = Ledger(exchange)
        async with client_at(market, exchange, account) as client:
            if has_no_probe(market):
                with pytest.raises(ConfigurationError, match="documents no cancel of a single"):
                    await client.try_cancel(market.category)
                assert not exchange.operations("cancel-order")
                return
            assert await client.try_cancel(market.category) == expected
        assert not before - Ledger(exchange)
        assert len(exchange.operations("cancel-order")) == 1
        assert not exchange.operations("cancel-all", "cancel-batch")


@every_market
async def test_an_order_whose_id_was_lost(market: Market) -> None:
    """If the id is lost on the way, the venue still cancels nothing: there is no wider request."""
    async with account_at(market, MAY) as (exchange, account):
        right = market.venue(exchange, account)
        if has_no_probe(market):
            return

        class Losing(type(right), frozen=True, kw_only=True):  # type: ignore[misc, call-arg]
            """The venue, whose probe has no id."""

            def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
                """Without the id, or in an empty list of ids."""
                lost = "" if market.name != "gate" else token
                (call,) = calls_of(super().try_cancel(account_category, lost))
                if market.name == "gate":
                    call = msgspec.structs.replace(call, body=b"[]")
                yield [call]
                return "unknown"

        fields = {name: getattr(right, name) for name in right.__struct_fields__}
        before = Ledger(exchange)
        async with client_at(market, exchange, account, Losing(**fields)) as client:
            await client.try_cancel(market.category)
        assert [each for each in exchange.requests if each.operation != "clock"]
        assert not before - Ledger(exchange)
        assert not exchange.operations("cancel-all", "cancel-batch")


@every_market
async def test_an_answer_that_says_done(market: Market) -> None:
    """No venue documents a success here: then nothing is known."""
    if has_no_probe(market):
        return
    said = {
        "ascendex": b'{"code":0,"data":{}}',
        "binance": b'{"orderId":1,"status":"CANCELED"}',
        "bitget": b'{"code":"00000","msg":"success","data":{}}',
        "bybit": b'{"retCode":0,"retMsg":"OK","result":{}}',
        "gate": b'[{"id":"1","succeeded":true}]',
        "kraken": b'{"error":[],"result":"success","cancelStatus":{"status":"cancelled"}}',
        "kucoin": b'{"code":"200000","data":{"cancelledOrderIds":[]}}',
        "okx": b'{"code":"0","msg":"","data":[{"sCode":"0","sMsg":""}]}',
    }[market.name]
    async with account_at(market, MAY) as (exchange, account):
        exchange.faults.add(Answer(200, said), operation="cancel-order")
        async with client_at(market, exchange, account) as client:
            assert await client.try_cancel(market.category) == "unknown"
