"""KuCoin: books, pages and failures; by hand, and over real sockets, where the exchange judges."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from flows_support import Drive, decoded, value_of
from masscancel import (
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    InvalidRequest,
    MassCancelError,
    NotFlat,
    OutcomeUnknown,
    ProtocolError,
    SessionPool,
    VenueError,
    VenueUnavailable,
)
from masscancel.calls import Reply, Scope, Stamp
from masscancel.sim import Account, Answer, Hang, OnCancel, Script, SimulatedExchange
from masscancel.sim.kucoin import KuCoinDialect
from masscancel.venues.kucoin import KuCoin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VENUE = KuCoin()
BTC, ETH = "BTC-USDT", "ETH-USDT"
MARGIN = "/api/v3/hf/margin"
BOOKS = {"limit": "ordinary", "stop": "stop", "oco": "oco"}
NOT_THERE = Answer(404, b'{"code":"404000","msg":"Url Not Found"}')


def answer(data: Any) -> dict[str, Any]:
    """A reply that says success."""
    return {"code": "200000", "data": data}


def page(*items: Any, number: int = 1, total: int | None = None, size: int = 500) -> dict[str, Any]:
    """A page of a listing."""
    total = len(items) if total is None else total
    return answer(
        {
            "currentPage": number,
            "pageSize": size,
            "totalNum": total,
            "totalPage": -(-total // size),
            "items": items,
        }
    )


def stop(order_id: str, **more: Any) -> dict[str, Any]:
    """A row of the stop orders, as it is documented."""
    row = {
        "id": order_id,
        "symbol": BTC,
        "side": "buy",
        "type": "limit",
        "size": "0.01",
        "funds": None,
    }
    return {**row, "price": "0.0100000000", "stop": "loss", "status": "NEW", **more}


@asynccontextmanager
async def desk(**options: Any) -> AsyncIterator[tuple[SimulatedExchange, Account, Client[KuCoin]]]:
    """A client of an account that has two symbols in every book, ready to fail soon."""
    async with SimulatedExchange(KuCoinDialect(**options)) as exchange:
        account = exchange.add_account("a-key", "a-secret", extra={"passphrase": "a-phrase"})
        for category in ("spot", "margin", "isolated"):
            for symbol in (BTC, ETH):
                for order_type in BOOKS:
                    exchange.place(account, category, symbol, order_type=order_type)
        for symbol in ("XBTUSDTM", "ETHUSDTM"):
            for order_type in ("limit", "stop"):
                exchange.place(account, "futures", symbol, order_type=order_type)
        venue = KuCoin(spot_url=exchange.rest_url, futures_url=exchange.rest_url)
        keys = Credentials("a-key", "a-secret", passphrase="a-phrase")
        async with SessionPool(warm=0) as pool, Client(keys, venue=venue, pool=pool) as client:
            yield exchange, account, client


def left(exchange: SimulatedExchange, account: Account, category: str) -> list[tuple[str, str]]:
    """Symbol and type of what is open, in truth."""
    exchange.advance()
    orders = exchange.open_orders(account, category)
    return sorted((order.symbol, order.order_type) for order in orders)


# --- books ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", ["spot", "margin", "isolated"])
@pytest.mark.parametrize("symbol", [None, BTC])
@pytest.mark.parametrize(
    "books", [None, ("ordinary",), ("stop",), ("oco",), ("stop", "ordinary"), ("oco", "stop")]
)
@pytest.mark.asyncio
async def test_exactly_the_books_of_a_scope(
    category: str, symbol: str | None, books: tuple[str, ...] | None
) -> None:
    """OCO orders stay where stop orders alone are named; no other category is touched."""
    async with desk() as (exchange, account, client):
        others = [each for each in ("spot", "margin", "isolated", "futures") if each != category]
        before = [left(exchange, account, other) for other in others]
        expected = [
            (each, kind)
            for each, kind in left(exchange, account, category)
            if symbol not in (None, each) or (books is not None and BOOKS[kind] not in books)
        ]
        listed = await client.open_orders(category, symbol, books=books)
        assert {order.book for order in listed} == set(books or BOOKS.values())
        assert {order.symbol for order in listed} == ({symbol} if symbol else {BTC, ETH})
        proof = await client.cancel_all_and_confirm(category, symbol, books=books, settle=0.02)
        assert proof.books == (books or ("ordinary", "stop", "oco"))
        assert left(exchange, account, category) == expected
        assert [left(exchange, account, other) for other in others] == before


@pytest.mark.parametrize("order_type", BOOKS)
@pytest.mark.asyncio
async def test_no_proof_while_any_book_has_an_order(order_type: str) -> None:
    """Ended OCO orders, which stay listed, are none; one that is left in any book is named."""
    async with desk() as (exchange, account, client):
        stays = Script(on_cancel=OnCancel.IGNORE)
        order = exchange.place(account, "margin", BTC, order_type=order_type, script=stays)
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("margin", timeout=1.0, settle=0.02)
        residual = {
            each.order_id for each in caught.value.residual if each.book == BOOKS[order_type]
        }
        assert order.order_id in residual
        exchange.engine.rescript(order.order_id, Script())
        await client.cancel_all_and_confirm("margin", settle=0.02)
        assert left(exchange, account, "margin") == []


@pytest.mark.parametrize("path", ["hf/orders/active/symbols", "stop-order", "oco/orders"])
@pytest.mark.asyncio
async def test_a_book_that_hangs_keeps_nothing_alive(path: str) -> None:
    """Neither its listing nor another book's; nothing is proven, but all that can be is gone."""
    async with desk() as (exchange, account, client):
        exchange.faults.add(Hang(), path=path, method="GET", times=None)
        with pytest.raises(MassCancelError):
            await client.cancel_all_and_confirm("spot", timeout=0.4, settle=0.02)
        assert left(exchange, account, "spot") == []


@pytest.mark.asyncio
async def test_what_fails_within_a_success() -> None:
    """The symbol is named; the others, and the other books of the same symbol, are cancelled."""
    async with desk(suspended=[ETH]) as (exchange, account, client):
        with pytest.raises(VenueUnavailable, match="system timeout") as caught:
            await client.cancel_all("spot")
        assert caught.value.may_have_executed
        assert f"not acknowledged: {ETH}" in str(caught.value.__notes__)
        assert (BTC, "limit") not in left(exchange, account, "spot")
        with pytest.raises(VenueError, match=r"200002.*suspended"):
            await client.cancel_all("spot", ETH)
        with pytest.raises(VenueError, match="200002") as margin:
            await client.cancel_all("margin")
        assert f"{ETH} (ordinary)" in str(margin.value.__notes__)
        assert (BTC, "limit") not in left(exchange, account, "margin")


@pytest.mark.asyncio
async def test_paths_that_the_specification_lacks() -> None:
    """Margin's own stop and OCO paths may not be there; the official one has to be."""
    async with desk() as (exchange, account, client):
        for path in (f"{MARGIN}/stop-order", f"{MARGIN}/oco-order"):
            exchange.faults.add(NOT_THERE, path=path, times=None)
        await client.cancel_all_and_confirm("margin", settle=0.02)
        assert left(exchange, account, "margin") == []
        exchange.faults.add(NOT_THERE, path="/api/v1/stop-order", times=None)
        with pytest.raises(InvalidRequest, match="404000"):
            await client.cancel_all("isolated")
        assert (BTC, "limit") not in left(exchange, account, "isolated")


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("books", [None, ("stop",)])
@pytest.mark.asyncio
async def test_pages_to_the_last(books: tuple[str, ...] | None) -> None:
    """Whatever size is asked for; all are listed, and all are cancelled, by their ids too."""
    async with desk(largest_page=3) as (exchange, account, client):
        for number in range(7):
            exchange.place(account, "spot", (BTC, ETH)[number % 2], order_type="stop")
        listed = await client.open_orders("spot", books=("stop",))
        assert len(listed) == 9
        await client.cancel_all("spot", books=books)
        kinds = [kind for _, kind in left(exchange, account, "spot")]
        assert kinds == ([] if books is None else ["limit", "oco"] * 2)


def listing(category: str = "futures") -> Drive:
    """A listing of stop orders, by hand."""
    return Drive(VENUE.open_orders(Scope(category, None, ("stop",))))


def give(drive: Drive, reply: dict[str, Any]) -> Any:
    """Answer the call that is under way; what the flow has come to, if it has."""
    drive.round(decoded(drive.calls[0], reply))
    return drive.value


@pytest.mark.parametrize(
    "reply",
    [
        page(stop("1"), total=2),
        page(total=1),
        page(stop("1"), number=2),
        page({"id": "1"}),
        page({**stop("1"), "side": "both"}),
        page({**stop("1"), "size": "NaN"}),
        answer({"currentPage": 1, "items": []}),
        answer(None),
        answer([]),
    ],
)
def test_what_is_no_listing(reply: dict[str, Any]) -> None:
    """A page that is cut, another one, one that can't be read whole; `null` is none, not empty."""
    assert isinstance(give(listing(), reply), ProtocolError)


def test_a_listing_of_another_account_or_of_a_cache() -> None:
    """Orders of another trade type, or of before, are no answer."""
    drive = listing("spot")
    assert isinstance(give(drive, page(stop("1", tradeType="MARGIN_TRADE"))), ProtocolError)
    call, reply = listing().calls[0], b'{"code":"200000","data":null}'
    with pytest.raises(ProtocolError, match="cache"):
        value_of(call, Reply(200, {"Age": "3"}, reply), Stamp(1))


def test_odd_values_that_are_read() -> None:
    """A market order with funds alone; numbers for text; a leg of an OCO order; null for none."""
    rows = [stop("1", size=None, price=None), stop("2", size=3, filledSize=1, price=7.5)]
    found = give(listing(), page(*rows, stop("3", stop="l_s_o")))
    assert [(str(each.quantity), str(each.price), str(each.filled_quantity)) for each in found] == [
        ("0", "0", "0"),
        ("3", "7.5", "1"),
    ]
    none = {"currentPage": 1, "pageSize": 50, "totalNum": 0, "totalPage": 0, "items": None}
    assert give(listing(), answer(none)) == []


def test_pages_that_shift_are_read_until_two_passes_agree() -> None:
    """An order that has moved to a page which was read already is found by the next pass."""
    drive, ids = listing(), ("1", "2", "4")
    rows = [stop(each) for each in ids]
    give(drive, page(rows[0], total=2, size=1))
    give(drive, page(rows[2], number=2, total=2, size=1))
    for _ in range(2):
        for number, row in enumerate(rows, 1):
            give(drive, page(row, number=number, total=3, size=1))
    assert [order.order_id for order in drive.result()] == [*ids]
    restless = listing()
    for number in range(8):
        give(restless, page(stop(str(number)), number=number % 2 + 1, total=2, size=1))
    assert isinstance(restless.value, ProtocolError)


def test_a_cancel_by_ids_takes_what_it_can() -> None:
    """No leg, no other symbol, no other kind of account; an id that can't be read is named."""
    drive = Drive(VENUE.cancel_all(Scope("spot", BTC, ("stop",)), None))
    rows = [stop("1", size="?"), stop("2", stop="e_l_o"), stop("3", symbol=ETH), {"symbol": BTC}]
    give(drive, page(*rows, stop("4", tradeType="MARGIN_TRADE")))
    (call,) = drive.calls
    assert call.path == "/api/v1/stop-order/cancel?symbol=BTC-USDT&tradeType=TRADE&orderIds=1"
    error = give(drive, answer({"cancelledOrderIds": ["1"]}))
    assert isinstance(error, ProtocolError)
    assert "orders of the stop book that the listing may lack" in str(error.__notes__)
    nothing = give(Drive(VENUE.cancel_all(Scope("spot", None, ("stop",)), None)), page())
    assert (nothing.status, nothing.cancelled) == ("nothing open", ())


@pytest.mark.parametrize(
    ("data", "cancelled"),
    [
        ({"symbols": [BTC, None, 7]}, [BTC]),
        ({"symbols": [BTC], "symbolSize": 2}, [BTC]),
        ({"symbols": None}, []),
        (None, []),
    ],
)
def test_symbols_that_can_not_all_be_read(data: Any, cancelled: list[str]) -> None:
    """Those that can are cancelled; the error says that there are others, and nothing is proven."""
    scope = Scope("margin", None, ("ordinary",))
    drive = Drive(VENUE.cancel_all(scope, None))
    give(drive, answer(data))
    assert [call.path.partition("&")[0] for call in drive.calls] == [
        f"{MARGIN}/orders?symbol={symbol}" for symbol in cancelled
    ]
    if cancelled:
        give(drive, answer("success"))
    assert isinstance(drive.value, ProtocolError)
    listed = Drive(VENUE.open_orders(scope))
    assert isinstance(give(listed, answer(data)), ProtocolError)


# --- the account ----------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_unified_account_is_refused_on_entry() -> None:
    """Its orders are in none of the books: nothing could ever be proven of them."""
    with pytest.raises(ConfigurationError, match="unified account"):
        async with desk(mode="UNIFIED"):
            pass


@pytest.mark.asyncio
async def test_keys_have_a_passphrase() -> None:
    """Without one nothing is sent; a wrong one is told."""
    async with desk() as (exchange, _, client):
        before = len(exchange.requests)
        open_client = partial(Client, venue=client.venue, pool=client.pool)
        with pytest.raises(ConfigurationError, match="passphrase"):
            open_client(Credentials("a-key", "a-secret"))
        assert len(exchange.requests) == before
        wrong = Credentials("a-key", "a-secret", passphrase="another")
        async with open_client(wrong) as other:
            with pytest.raises(AuthenticationError, match="400004"):
                await other.cancel_all("futures")


@pytest.mark.parametrize("category", ["spot", "margin", "isolated", "futures"])
@pytest.mark.asyncio
async def test_whether_a_key_can_cancel(category: str) -> None:
    """As the key's own page says; nothing is cancelled for it."""
    async with desk() as (exchange, _, client):
        exchange.add_account(
            "reads", "a-secret", permissions=["view"], extra={"passphrase": "a-phrase"}
        )
        assert await client.can_cancel(category) == "yes"
        reads = Credentials("reads", "a-secret", passphrase="a-phrase")
        async with Client(reads, venue=client.venue, pool=client.pool) as other:
            assert await other.can_cancel(category) == "no"
        assert not exchange.operations("cancel-all")


@pytest.mark.asyncio
async def test_a_lost_answer_is_unknown() -> None:
    """A book whose cancel is never answered is named; the others' answers are there."""
    async with desk() as (exchange, account, client):
        exchange.faults.add(Hang(), path="cancelAll", times=None)
        with pytest.raises(OutcomeUnknown) as caught:
            await client.cancel_all("spot", timeout=0.2)
        assert caught.value.may_have_executed
        assert "the ordinary orders" in str(caught.value.__notes__)
        assert left(exchange, account, "spot") == [(BTC, "limit"), (ETH, "limit")]
