"""Every venue: a scope of one book reaches that book and no other, of its symbols and no others."""

import pytest

from every_venue_support import QUICK, every_market, every_scope, symbol_of
from support import SWEEPS_OFTEN
from venues_support import Ledger, Market, desk_of


@every_market
@every_scope
@pytest.mark.asyncio
async def test_one_book_is_cancelled_and_no_other(market: Market, scope: str) -> None:
    """By itself and with a proof: what the listing shows in that book, and nothing beside it."""
    symbol, names = symbol_of(market, scope), market.abilities.books
    for book in names if market.abilities.separable else ():
        if str(market) == "bitget-margin" and book == "stop":
            continue  # classic accounts have none
        async with desk_of(market, options={"retry": QUICK, "proof": SWEEPS_OFTEN}) as desk:
            rows = await desk.client.open_orders(desk.category)
            ids = {desk.id_of(order): order.order_id for order in desk.open()}
            expected = {
                ids[row.order_id]
                for row in rows
                if row.book == book and symbol in (None, row.symbol)
            }
            before = Ledger(desk.exchange)
            ack = await desk.client.cancel_all(desk.category, symbol, books=(book,))
            assert before - Ledger(desk.exchange) == expected
            assert (ack.books, {*ack.left_out}) == ((book,), {*names} - {book})
            proof = await desk.client.cancel_all_and_confirm(desk.category, symbol, books=(book,))
            assert before - Ledger(desk.exchange) == expected
            assert proof.books == (book,)
