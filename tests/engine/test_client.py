"""The client, end to end: entry, scopes, arguments; what the exchange executed is the judge."""

import asyncio
import json
import re
from typing import Any

import pytest

from masscancel import (
    AscendEX,
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    ScopeError,
    SessionPool,
)
from masscancel.sim import SimulatedExchange
from masscancel.venues.binance import Binance
from support import account_of, client_of, raw_server, venue_of

pytestmark = pytest.mark.asyncio
SCOPES = [("cash", None), ("margin", "BTC/USDT"), ("futures", "BTC-PERP"), ("futures", None)]


def open_symbols(exchange: SimulatedExchange, account: Any) -> dict[str, set[str]]:
    """What is left in the account, by category."""
    return {
        category: {order.symbol for order in exchange.open_orders(account, category)}
        for category in ("cash", "margin", "futures")
    }


@pytest.mark.parametrize(("category", "symbol"), SCOPES)
async def test_cancels_exactly_the_scope(
    exchange: SimulatedExchange, category: str, symbol: str | None
) -> None:
    """The right orders are gone and no others, and the Ack says what was asked."""
    account = account_of(exchange)
    before = open_symbols(exchange, account)
    async with client_of(exchange, account) as client:
        ack = await client.cancel_all(category, symbol)

    expected = dict(before)
    expected[category] = before[category] - {symbol} if symbol else set()
    assert open_symbols(exchange, account) == expected
    assert (ack.account_category, ack.symbol, ack.action) == (category, symbol or "", "cancel-all")
    assert ack.account_id == account.ids[category]
    assert [attempt.fate for attempt in ack.attempts] == ["answered"]
    assert json.loads(ack.raw)["code"] == 0


async def test_ack_carries_id_and_timestamp(exchange: SimulatedExchange) -> None:
    """The id is echoed, and the timestamp is the server's."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        made_up = await client.cancel_all("cash")
        given = await client.cancel_all("cash", request_id="kill_1-a")
        another = await client.cancel_all("cash")
    assert re.fullmatch(r"\w{32}", made_up.request_id)
    assert given.request_id == "kill_1-a"
    assert another.request_id != made_up.request_id
    assert given.status == "Ack"
    assert given.timestamp_ms is not None
    expires = given.attempts[0].expires_at_ms
    assert expires == given.attempts[0].sent_at_ms + 30_000


async def test_open_orders(exchange: SimulatedExchange) -> None:
    """The listing is the exchange's, by category and by symbol."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        everything = await client.open_orders("cash")
        one = await client.open_orders("futures", "ETH-PERP")
    listed = {order.order_id for order in everything}
    assert listed == {order.order_id for order in exchange.open_orders(account, "cash")}
    assert [(order.symbol, order.side) for order in one] == [("ETH-PERP", "buy")]


async def test_the_symbol_of_a_listing_is_quoted(exchange: SimulatedExchange) -> None:
    """What goes into a query is percent-encoded, byte for byte."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        await client.open_orders("cash", "BTC/USDT")
    (request,) = exchange.operations("open-orders")
    assert request.raw_path == "/0/api/pro/v1/cash/order/open?symbol=BTC%2FUSDT"


async def test_discovers_the_group_on_entry_only(exchange: SimulatedExchange) -> None:
    """The group is asked for when the client is entered, once, and cancels then need no more."""
    account = account_of(exchange, number=7)
    async with client_of(exchange, account, discover=True) as client:
        assert isinstance(client.venue, AscendEX)
        assert client.venue.account_group == 7
        await client.cancel_all("cash")
        await client.cancel_all("margin")
    assert len(exchange.operations("info")) == 1
    assert not exchange.open_orders(account, "cash")


async def test_entry_needs_no_network_when_all_is_known() -> None:
    """With the group given, entering works even where nothing listens."""
    venue = AscendEX(rest_url="http://127.0.0.1:9", stream_url="ws://127.0.0.1:9", account_group=1)
    async with Client(Credentials("k", "s"), venue=venue) as client:
        assert client.venue is venue


async def test_what_is_opened_on_entry(exchange: SimulatedExchange) -> None:
    """Connections to the one host of a venue, or to all of those whose categories are named."""
    seen: list[str] = []
    enough = asyncio.Event()

    def answering(name: str) -> Any:
        def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
            seen.append(name)
            writer.close()
            if min(seen.count("spot"), seen.count("usdm")) == 4:
                enough.set()

        return answer

    async with (
        client_of(exchange, account_of(exchange)),
        raw_server(answering("spot")) as spot,
        raw_server(answering("usdm")) as usdm,
        SessionPool(warm=1) as one,
        SessionPool(warm=4) as other,
        asyncio.timeout(10),
    ):
        venue = Binance(spot_url=f"http://{spot}", usdm_url=f"http://{usdm}")
        unnamed = Client(Credentials("k", "s"), venue=venue, pool=one)
        named = Client(Credentials("k", "s"), venue=venue, pool=other, categories=venue.abilities)
        async with unnamed, named:
            await enough.wait()
            await exchange.until(lambda: exchange.operations("clock"))
            origins = [venue.origin(category) for category in ("spot", "usdm")]
            assert [one.warmth(origin) for origin in origins] == [0, 0]
            assert [other.warmth(origin) for origin in origins] == [4, 4]


async def test_an_origin_that_was_not_known_on_entry_is_warm_from_its_first_use_on(
    exchange: SimulatedExchange,
) -> None:
    """Connections are opened beside the first call's own, and its clock is read."""
    account = account_of(exchange)
    async with (
        SessionPool(warm=3) as pool,
        client_of(exchange, account, pool=pool, categories=()) as client,
    ):
        await client.cancel_all("cash")
        await exchange.until(lambda: len(exchange.operations("clock")) == 3)


async def test_failed_entry_raises_and_closes(exchange: SimulatedExchange) -> None:
    """A key that is not accepted fails the entry, and nothing stays open."""
    account_of(exchange)
    client = Client(Credentials("nobody", "x"), venue=venue_of(exchange))
    with pytest.raises(AuthenticationError):
        await client.__aenter__()
    await exchange.until(lambda: not exchange.connections)
    with pytest.raises(ConfigurationError, match="enter"):
        await client.cancel_all("cash")


async def test_wrong_secret_is_one_request(exchange: SimulatedExchange) -> None:
    """An authentication error is never retried."""
    account = account_of(exchange)
    credentials = Credentials(account.api_key, "not-the-secret")
    async with Client(credentials, venue=venue_of(exchange, account.group)) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.cancel_all("cash")
    assert len(exchange.operations("cancel-all")) == 1
    assert not caught.value.may_have_executed
    assert [attempt.fate for attempt in caught.value.attempts] == ["refused"]


@pytest.mark.parametrize(
    ("category", "symbol"),
    [
        ("spot", None),
        ("CASH", None),
        ("", None),
        (None, None),
        ("cash", ""),
        ("cash", "BTC-PERP"),
        ("cash", "BTC/USDT\r\nx-evil: 1"),
        ("cash", "BTC/USDT\n"),
        ("cash", "BTC /USDT"),
        ("cash", "btc/usdt"),
        ("futures", "BTC/USDT"),
        ("cash", 7),
        ("cash", "../../7/USDT"),
    ],
)
async def test_bad_scope_sends_nothing(
    exchange: SimulatedExchange, category: Any, symbol: Any
) -> None:
    """A bad category or symbol is a ScopeError before anything is sent."""
    account = account_of(exchange)
    async with client_of(exchange, account, pool=None) as client:
        for call in (client.cancel_all, client.open_orders):
            with pytest.raises(ScopeError) as caught:
                await call(category, symbol)
            assert caught.value.attempts == ()
            assert not caught.value.may_have_executed
    assert not exchange.operations("cancel-all", "open-orders")


@pytest.mark.parametrize(
    ("rates", "why"),
    [
        ({"wieght": 100}, "no limit 'wieght'; there are: requests, usdm_weight, weight"),
        ({"weight": -5}, "positive number"),
        ({"weight": 0}, "positive number"),
        ({"weight": float("nan")}, "positive number"),
        ({"weight": "100"}, "positive number"),
        ({"weight": True}, "positive number"),
        (["weight"], "amounts by name"),
    ],
)
async def test_bad_rates(rates: Any, why: str) -> None:
    """A rate that would hold up every cancel, or none, is refused when the client is made."""
    with pytest.raises(ConfigurationError, match=why):
        Client(Credentials("key", "secret"), venue=Binance(), rates=rates)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": None},
        {"timeout": "5"},
        {"timeout": True},
        {"request_id": ""},
        {"request_id": "a"},
        {"request_id": "-ab"},
        {"request_id": "a b"},
        {"request_id": "a" * 33},
        {"request_id": "äää"},
        {"request_id": "ab\n"},
        {"request_id": 12},
    ],
)
async def test_bad_arguments_send_nothing(
    exchange: SimulatedExchange, options: dict[str, Any]
) -> None:
    """A time limit or an id that can't be used is refused before anything is sent."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        with pytest.raises(ConfigurationError):
            await client.cancel_all("cash", **options)
    assert not exchange.operations("cancel-all")


async def test_not_entered_is_said() -> None:
    """A client that was not entered says so."""
    client = Client(
        Credentials("k", "s"),
        venue=AscendEX(rest_url="https://a.test", stream_url="wss://a.test", account_group=0),
    )
    with pytest.raises(ConfigurationError, match="enter"):
        await client.cancel_all("cash")


async def test_can_be_entered_again(exchange: SimulatedExchange) -> None:
    """Leaving and entering again works; entering twice at once is refused."""
    account = account_of(exchange)
    client = client_of(exchange, account)
    for _ in range(2):
        async with client:
            await client.cancel_all("cash")
            with pytest.raises(ConfigurationError, match="already"):
                await client.__aenter__()
    assert len(exchange.operations("cancel-all")) == 2


async def test_pool_must_be_entered_first(exchange: SimulatedExchange) -> None:
    """A client refuses a pool that is not open."""
    account = account_of(exchange)
    with pytest.raises(ConfigurationError, match="pool"):
        await client_of(exchange, account, pool=SessionPool()).__aenter__()
