"""OKX over real sockets: what the exchange executed is the judge; and what it must not let in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from masscancel import (
    AuthenticationError,
    Client,
    Credentials,
    DeadMansSwitch,
    InvalidRequest,
    NotFlat,
    PermissionDenied,
    SessionPool,
    Target,
    VenueError,
    VenueUnavailable,
)
from masscancel.models import Permission
from masscancel.sim import Account, Answer, Drop, OKXDialect, OnCancel, Script, SimulatedExchange
from masscancel.sim.dialect import Moment
from masscancel.sim.dialect import Request as SimRequest
from masscancel.sim.okx import ALGOS, signature
from masscancel.venues import OKX
from okx_support import BTC, ETH, SPREAD, SWAP
from venues_support import SETTLE, unlimited

CATEGORIES = {"spot": BTC, "margin": BTC, "swap": SWAP, "futures": "BTC-USDT-261225"}
OPTION = "BTC-USD-261225-60000-C"
BOOKS = {"ordinary": "limit", **{book: book for book in sorted(ALGOS - {"oco"})}, "spread": "limit"}
STAYS = Script(on_cancel=OnCancel.IGNORE)
UNIVERSE = [*CATEGORIES.values(), ETH, OPTION, SPREAD]


@asynccontextmanager
async def desk(
    dialect: OKXDialect | None = None, *, demo: bool = False, **options: Any
) -> AsyncIterator[tuple[SimulatedExchange, Account, Client[OKX]]]:
    """An exchange, an account at it, and its client, whose rates are without end."""
    async with SimulatedExchange(dialect or OKXDialect(symbols=UNIVERSE)) as exchange:
        extra = {"passphrase": "phrase", **({"demo": "1"} if demo else {})}
        account = exchange.add_account("a-key", "a-secret", extra=extra)
        venue = OKX(rest_url=exchange.rest_url, demo=demo)
        credentials = Credentials("a-key", "a-secret", passphrase="phrase")
        client = Client(credentials, venue=venue, **{"rates": unlimited(venue), **options})
        async with client:
            yield exchange, account, client


def fill(exchange: SimulatedExchange, account: Account, count: int = 1) -> None:
    """Put orders of every kind into every book of every category."""
    for category, symbol in (*CATEGORIES.items(), ("option", OPTION)):
        for order_type in ("limit", *sorted(ALGOS)):
            for _ in range(count):
                exchange.place(account, category, symbol, order_type=order_type)
    exchange.place(account, "spot", ETH, order_type="oco")
    exchange.place(account, "account", SPREAD)


def left(exchange: SimulatedExchange, account: Account) -> set[tuple[str, str, str]]:
    """Category, symbol and type of what is open."""
    return {
        (category, order.symbol, order.order_type)
        for category in exchange.dialect.categories
        for order in exchange.open_orders(account, category)
    }


@pytest.mark.asyncio
async def test_the_account_is_everything() -> None:
    """Every book of every category, spreads, several pages: listed, cancelled; nobody else's."""
    async with desk() as (exchange, account, client):
        stranger = exchange.add_account("somebody", "else")
        for each in (account, stranger):
            fill(exchange, each, 3)
        for _ in range(230):
            exchange.place(account, "swap", SWAP)
        theirs = left(exchange, stranger)
        assert len(await client.open_orders("account")) == 3 * 5 * 9 + 2 + 230
        ack = await client.cancel_all("account")
        assert (ack.status, ack.cancelled, ack.books) == ("accepted", None, tuple(BOOKS_OF_ALL))
        assert left(exchange, account) == set()
        assert left(exchange, stranger) == theirs
        assert (await client.cancel_all("account")).status == "accepted"  # spreads: received
        assert await client.open_orders("account") == []


BOOKS_OF_ALL = OKX.abilities["account"].books


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("category", "symbol"),
    [*CATEGORIES.items(), *((each, None) for each in CATEGORIES), ("option", None)],
)
async def test_a_category_is_no_other(category: str, symbol: str | None) -> None:
    """Orders of the same symbol in another category stay, and so do those of another symbol."""
    async with desk(categories=[category]) as (exchange, account, client):
        fill(exchange, account)
        before = left(exchange, account)
        await client.cancel_all(category, symbol)
        assert before - left(exchange, account) == {
            each for each in before if each[0] == category and symbol in (None, each[1])
        }
        assert await client.open_orders(category, symbol) == []


@pytest.mark.asyncio
async def test_one_symbol_of_the_account() -> None:
    """In all categories that have it; a spread by its own id."""
    async with desk() as (exchange, account, client):
        fill(exchange, account)
        before = left(exchange, account)
        await client.cancel_all("account", BTC)
        assert before - left(exchange, account) == {each for each in before if each[1] == BTC}
        assert [order.symbol for order in await client.open_orders("account", SPREAD)] == [SPREAD]
        await client.cancel_all("account", SPREAD)
        assert SPREAD not in {symbol for _, symbol, _ in left(exchange, account)}
        with pytest.raises(InvalidRequest, match="doesn't exist"):
            await client.cancel_all("account", "BTC-USDT-SWP")


@pytest.mark.asyncio
async def test_protective_stops_are_kept() -> None:
    """Books are left out by name, and said to be."""
    async with desk() as (exchange, account, client):
        fill(exchange, account)
        ack = await client.cancel_all("swap", books=("ordinary", "iceberg", "twap"))
        kept = {kind for category, _, kind in left(exchange, account) if category == "swap"}
        assert kept == ALGOS - {"iceberg", "twap"}
        assert "conditional" in ack.left_out


@pytest.mark.asyncio
@pytest.mark.parametrize("book", BOOKS)
async def test_no_proof_while_an_order_is_left_in_any_book(book: str) -> None:
    """One that stays, whichever book it is in, is the residual."""
    async with desk() as (exchange, account, client):
        symbol = SPREAD if book == "spread" else SWAP
        order_type = BOOKS[book]
        order = exchange.place(account, "account", symbol, order_type=order_type, script=STAYS)
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("account", settle=SETTLE, timeout=0.3)
        (residual,) = caught.value.residual
        assert (residual.order_id.rpartition(":")[2], residual.book) == (order.order_id, book)


@pytest.mark.asyncio
async def test_a_lost_reply_is_asked_for_again() -> None:
    """What was cancelled before is gone, which is no failure."""
    async with desk() as (exchange, account, client):
        fill(exchange, account)
        exchange.faults.add(Drop(executed=True), operation="cancel-all", times=3)
        ack = await client.cancel_all("futures")
        assert "unknown" in {attempt.fate for attempt in ack.attempts}
        assert not {each for each in left(exchange, account) if each[0] == "futures"}


@pytest.mark.asyncio
@pytest.mark.parametrize(("timeout", "kind"), [(5, "native"), (120, "native"), (121, "emulated")])
async def test_the_switch_has_bounds(timeout: float, kind: str) -> None:
    """Below the least the venue's own fires at that; beyond the most it is not used at all."""
    async with (
        desk() as (exchange, _, client),
        DeadMansSwitch(Target(client, "account"), timeout=timeout) as switch,
    ):
        assert switch.kind == kind
        armed = [json.loads(each.body)["timeOut"] for each in exchange.operations("switch")]
        assert armed == ([str(max(timeout, 10))] if kind == "native" else [])
        await switch.disarm()


@pytest.mark.asyncio
async def test_a_site_without_spreads() -> None:
    """Has nothing open there, and says so itself; a proxy's word on entry is forgotten."""
    async with desk(OKXDialect(spreads=False)) as (exchange, account, client):
        exchange.place(account, "swap", SWAP)
        await client.cancel_all_and_confirm("account", settle=SETTLE)
    async with desk() as (exchange, account, client):
        exchange.faults.add(Answer(404, b"<html>"), operation="spreads")
        exchange.place(account, "account", SPREAD, script=STAYS)
        with pytest.raises(NotFlat):
            await client.cancel_all_and_confirm("account", settle=SETTLE, timeout=0.3)


@pytest.mark.asyncio
async def test_a_sick_book_costs_the_others_nothing() -> None:
    """Its error comes at the end, with its name; every other order is gone."""
    async with desk() as (exchange, account, client):
        fill(exchange, account)
        exchange.faults.add(Answer(503, b""), operation="cancel-spreads", times=None)
        with pytest.raises(VenueUnavailable) as caught:
            await client.cancel_all("account", timeout=0.5)
        assert "not acknowledged: spread" in str(caught.value.__notes__)
        assert left(exchange, account) == {("account", SPREAD, "limit")}


@pytest.mark.asyncio
async def test_demo_keys() -> None:
    """A demo key is known by a header, and to the demo alone; errors are told as they are."""
    async with desk(demo=True) as (exchange, account, client):
        exchange.place(account, "spot", BTC)
        await client.cancel_all("spot")
        assert left(exchange, account) == set()
        exchange.faults.add(
            Answer(400, b'{"code":"51111","msg":"1 of 1","data":[]}'), operation="open-orders"
        )
        with pytest.raises(VenueError, match="51111: 1 of 1"):
            await client.cancel_all("spot", books=("ordinary",))
        real = Client(
            Credentials("a-key", "a-secret", passphrase="phrase"),
            venue=OKX(rest_url=exchange.rest_url),
        )
        async with real:
            with pytest.raises(AuthenticationError, match="50101"):
                await real.cancel_all("spot")


@pytest.mark.asyncio
async def test_a_wrong_passphrase() -> None:
    """Is refused, and not repeated in the error."""
    async with desk() as (exchange, _, client):
        wrong = Credentials("a-key", "a-secret", passphrase="another-phrase")
        async with Client(wrong, venue=client.venue) as stranger:
            with pytest.raises(AuthenticationError, match="50105") as caught:
                await stranger.cancel_all("spot")
        assert "another-phrase" not in f"{caught.value!r} {caught.value.__notes__}"
        assert exchange.operations("cancel-all") == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("permissions", "expected"), [(("view", "trade"), "yes"), (("view",), "no")]
)
async def test_whether_a_key_may_cancel(permissions: tuple[str, ...], expected: Permission) -> None:
    """The venue tells, without a cancel; one that may not is refused."""
    async with SimulatedExchange(OKXDialect()) as exchange, SessionPool(warm=0) as pool:
        account = exchange.add_account("a-key", "a-secret", permissions=permissions)
        exchange.place(account, "spot", BTC)
        credentials = Credentials("a-key", "a-secret", passphrase="any")
        async with Client(credentials, venue=OKX(rest_url=exchange.rest_url), pool=pool) as client:
            assert await client.can_cancel("spot") == expected
            assert exchange.operations("cancel-all") == []
            if expected == "no":
                with pytest.raises(PermissionDenied):
                    await client.cancel_all("spot")


# The exchange itself.

NOW = 1_700_000_000_000
TIME = "2023-11-14T22:13:20.000Z"
LISTING = "/api/v5/trade/orders-pending"


def answered(
    target: str = LISTING, body: Any = None, *, of: str = "a-secret", **headers: str
) -> tuple[int, str]:
    """The status and code of what the dialect answers to a request that arrives at ``NOW``."""
    dialect = OKXDialect(symbols=[BTC])
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.add_account("a-key", "a-secret", extra={"passphrase": "phrase"})
    sent = {"key": "a-key", "passphrase": "phrase", "timestamp": TIME, **headers}
    request = SimRequest(
        method="GET" if body is None else "POST",
        raw_path=target,
        body=b"" if body is None else json.dumps(body).encode(),
        moment=Moment(now_ms=NOW),
    )
    sent.setdefault("sign", signature(of, sent["timestamp"], request))
    named = {f"ok-access-{name}": value for name, value in sent.items()}
    named |= {"content-type": sent.get("kind", "application/json")}
    named |= {"x-simulated-trading": sent.get("demo", "0")}
    route = next(
        route
        for route in dialect.routes()
        if (route.method, route.template) == (request.method, request.path)
    )
    reply = route.handler(exchange.engine, SimRequest(**{**as_dict(request), "headers": named}))
    return reply.status, json.loads(reply.body)["code"]


def as_dict(request: SimRequest) -> dict[str, Any]:
    """The fields of a request."""
    return {name: getattr(request, name) for name in request.__struct_fields__}


CANCEL = "/api/v5/trade/cancel-batch-orders"
NOTHING = {"instId": BTC, "ordId": "1"}


@pytest.mark.parametrize(
    ("expected", "arguments", "headers"),
    [
        ((200, "0"), (), {}),
        ((401, "50103"), (), {"key": ""}),
        ((401, "50111"), (), {"key": "nobody"}),
        ((401, "50104"), (), {"passphrase": ""}),
        ((401, "50105"), (), {"passphrase": "another"}),
        ((401, "50106"), (), {"sign": ""}),
        ((401, "50113"), (), {"of": "another"}),
        ((401, "50107"), (), {"timestamp": ""}),
        ((401, "50112"), (), {"timestamp": "1700000000000"}),
        ((401, "50102"), (), {"timestamp": "2023-11-14T22:12:49.999Z"}),
        ((401, "50102"), (), {"timestamp": "2023-11-14T22:13:50.001Z"}),
        ((200, "0"), (), {"timestamp": "2023-11-14T22:12:50.000Z"}),
        ((401, "50101"), (), {"demo": "1"}),
        ((400, "51000"), (f"{LISTING}?limit=101",), {}),
        ((400, "51000"), (f"{LISTING}?instType=BONDS",), {}),
        ((200, "51001"), (f"{LISTING}?instId=XBT-USDT",), {}),
        ((400, "50014"), ("/api/v5/trade/orders-algo-pending",), {}),
        ((400, "51000"), ("/api/v5/trade/orders-algo-pending?ordType=twap,chase",), {}),
        ((400, "51000"), ("/api/v5/trade/orders-algo-pending?ordType=oco&instType=OPTION",), {}),
        ((200, "1"), (CANCEL, [NOTHING]), {}),
        ((200, "1"), (CANCEL, [NOTHING] * 20), {}),
        ((400, "51406"), (CANCEL, [NOTHING] * 21), {}),
        ((400, "51000"), (CANCEL, NOTHING), {}),
        ((400, "50006"), (CANCEL, [NOTHING]), {"kind": "text/plain"}),
        ((400, "51000"), ("/api/v5/trade/cancel-all-after", {"timeOut": "9"}), {}),
        ((200, "0"), ("/api/v5/trade/cancel-all-after", {"timeOut": "10"}), {}),
    ],
)
def test_the_simulator_checks_every_part(
    expected: tuple[int, str], arguments: tuple[Any, ...], headers: dict[str, str]
) -> None:
    """Headers, time, signature over the bytes as sent, parameters, sizes: as documented."""
    assert answered(*arguments, **headers) == expected
