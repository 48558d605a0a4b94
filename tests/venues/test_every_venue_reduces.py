"""Every venue whose listing tells it: which orders can only make a position smaller."""

import re
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from every_venue_support import QUICK
from masscancel.sim import Dialect, Engine, Route
from masscancel.sim import Reply as SimReply
from masscancel.sim import Request as SimRequest
from masscancel.sim.dialect import Handler
from venues_support import KEY, MARKETS, Desk, Market, desk_of

pytestmark = pytest.mark.unmeasured

#: AscendEX documents no such field.
FUTURES = [
    market
    for market in MARKETS
    if market.name != "ascendex" and market.category not in ("spot", "margin", "isolated")
]
#: Bitget's triggers and strategies are listed without it.
TELLING = {str(market): market.orders[:1] for market in FUTURES if market.name == "bitget"}

FLAG = re.compile(rb'"(reduceOnly|reduce_only|is_reduce_only)": ?("\w+"|true|false)')


class Odd:
    """A market's dialect whose listings have another value for the flag."""

    def __init__(self, market: Market, value: bytes) -> None:
        self._dialect: Dialect = market.dialect()
        self._value = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def routes(self) -> list[Route]:
        """The same, with odd answers."""
        return [
            structs.replace(route, handler=partial(self._answer, route.handler))
            for route in self._dialect.routes()
        ]

    def _answer(self, handler: Handler, engine: Engine, request: SimRequest) -> SimReply:
        reply = handler(engine, request)
        return structs.replace(reply, body=FLAG.sub(rb'"\1":' + self._value, reply.body))


async def reducing(desk: Desk) -> set[str]:
    """The ids of the listed orders of a new account that only reduce."""
    orders = await desk.client.open_orders(desk.category)
    assert len(orders) == 2 * len(desk.market.orders)
    return {order.order_id for order in orders if order.reduce_only}


def place(desk: Desk) -> set[str]:
    """Place two orders of each type; the ids of those that only reduce, where it is told."""
    told: set[str] = set()
    for order_type in desk.market.orders:
        for only_reduces in (True, False):
            order = desk.exchange.place(
                desk.exchange.engine.accounts[KEY],
                desk.category,
                desk.market.symbols[0],
                order_type=order_type,
                reduce_only=only_reduces,
            )
            if only_reduces and order_type in TELLING.get(str(desk.market), desk.market.orders):
                told.add(desk.id_of(order))
    return told


@pytest.mark.parametrize("market", FUTURES, ids=str)
@pytest.mark.asyncio
async def test_tells_which_orders_only_reduce(market: Market) -> None:
    """Those, of each book that tells it, and no other."""
    async with desk_of(market, empty=True, options={"retry": QUICK}) as desk:
        told = place(desk)
        assert told
        assert await reducing(desk) == told


@pytest.mark.parametrize("market", FUTURES, ids=str)
@pytest.mark.parametrize("value", [b"null", b"7", b'""', b'"maybe"', b"[1]", b'{"a":1}'])
@pytest.mark.asyncio
async def test_an_odd_flag_costs_no_listing(market: Market, value: bytes) -> None:
    """What is no yes is no: the row is read all the same."""
    async with desk_of(market, empty=True, dialect=Odd(market, value)) as desk:
        place(desk)
        assert await reducing(desk) == set()
