"""Listings that may lack an order: what they have is cancelled, and they prove nothing."""

import json
from typing import Any

import pytest

import kraken_support as kraken
from binance_support import BTC, ETH, VENUE, row
from flows_support import Drive, decoded
from masscancel import Client, Credentials, MassCancelError, ProtocolError
from masscancel.calls import Call, Scope
from masscancel.sim import Answer, SimulatedExchange
from masscancel.sim.binance import BinanceDialect
from masscancel.sim.kraken import KrakenDialect
from masscancel.venues.binance import Binance

CACHED: list[dict[str, Any]] = [{"Age": "0"}, {"Age": ""}, {"Warning": "110 - stale"}]
JSON = ("Content-Type", "application/json")


def answer(drive: Drive, *replies: Any) -> None:
    """Answer what is under way, in order: with rows, with rows and headers, or with an error."""
    results = []
    for call, reply in zip(drive.calls, replies, strict=True):
        rows, headers = reply if isinstance(reply, tuple) else (reply, None)
        named: Any = headers or {}
        known = isinstance(rows, MassCancelError)
        results.append(rows if known else decoded(call, rows, **named))
    drive.round(*results)


def paths(calls: list[Call[Any]]) -> list[str]:
    """What is under way, by the last part of its path."""
    return [f"{call.method} {call.path.rpartition('/')[2]}" for call in calls]


@pytest.mark.parametrize("headers", CACHED, ids=str)
def test_binance_cancels_what_a_doubtful_listing_has(headers: dict[str, Any]) -> None:
    """And lists again beside that, until a listing has all; each symbol is cancelled once."""
    drive = Drive(VENUE.cancel_all(Scope("spot"), None))
    answer(drive, ([row(BTC)], headers))
    assert paths(drive.calls) == ["DELETE openOrders", "GET openOrders"]
    again = drive.calls[1]
    assert isinstance(decoded(again, [], **headers), ProtocolError)  # which is tried again
    answer(drive, [], [row(BTC), row(ETH)])
    assert drive.cancels() == [f"openOrders {ETH}"]
    answer(drive, [])
    assert drive.ack().status == "nothing open"


def test_binance_names_the_book_that_could_not_be_listed() -> None:
    """Cancelled is what was seen; that is no Ack."""
    drive = Drive(VENUE.cancel_all(Scope("spot"), None))
    answer(drive, ([row(BTC)], {"Age": "0"}))
    answer(drive, [], decoded(drive.calls[1], [row(BTC)], Age="0"))
    with pytest.raises(ProtocolError, match="cache") as caught:
        drive.ack()
    assert "the book ordinary/stop, which could not be listed" in caught.value.__notes__[0]


@pytest.mark.parametrize("headers", CACHED, ids=str)
def test_kraken_cancels_what_a_doubtful_listing_has(headers: dict[str, Any]) -> None:
    """And lists again beside that; each order is cancelled once."""
    more = {name.replace("-", "_"): value for name, value in headers.items()}
    stale = kraken.reply(kraken.listing(kraken.BTC), 200, **more)
    talk = kraken.cancel("spot", kraken.BTC).answer(stale)
    assert talk.rounds[1] == ["CancelOrder txid=O0", "OpenOrders"]
    again = talk.root.calls()[1].part
    assert isinstance(kraken.decoded(again, stale), ProtocolError)
    talk.answer(kraken.result({"count": 1}), kraken.listing(kraken.BTC, kraken.BTC))
    assert talk.rounds[2] == ["CancelOrder txid=O1"]
    assert talk.answer(kraken.result({"count": 1})).value.status == "count 2"


def test_kraken_takes_no_doubtful_listing_for_nothing_open() -> None:
    """Nor an order for gone that it does not show."""
    stale = kraken.reply(kraken.listing(), Age="0")
    talk = kraken.cancel("spot", kraken.BTC).answer(stale)
    talk.answer(kraken.sample(f"spot_asset_pairs_{kraken.BTC}"))
    with pytest.raises(ProtocolError, match="cache"):
        talk.answer(ProtocolError("the listing proves nothing: it comes from a cache"))
    talk = kraken.cancel("spot", kraken.BTC).answer(kraken.listing(kraken.BTC, kraken.BTC))
    talk.answer({"error": ["EOrder:Unknown order"]}).answer(stale)
    assert talk.rounds[-1] == ["CancelOrder txid=O0", "CancelOrder txid=O1"]


@pytest.mark.asyncio
async def test_binance_is_flat_behind_a_cache() -> None:
    """What the exchange executed: the cached symbol at once, the other by the next listing."""
    async with SimulatedExchange(BinanceDialect(symbols=[BTC, ETH])) as exchange:
        account = exchange.add_account("a-key", "a-secret")
        for symbol in (BTC, ETH):
            exchange.place(account, "spot", symbol)
        url = exchange.rest_url
        venue = Binance(spot_url=url, usdm_url=url)
        async with Client(Credentials("a-key", "a-secret"), venue=venue) as client:
            body = json.dumps([row(BTC)]).encode()
            cached = Answer(200, body, (JSON, ("Age", "0")))
            exchange.faults.add(cached, operation="open-orders", times=2)
            await client.cancel_all("spot")
        assert exchange.open_orders(account, "spot") == []


@pytest.mark.asyncio
async def test_kraken_is_flat_behind_a_cache() -> None:
    """The same for one pair."""
    async with SimulatedExchange(KrakenDialect()) as exchange:
        account = kraken.account_of(exchange, "a")
        order = exchange.open_orders(account, "spot")[0]
        rows = kraken.result({"open": {order.order_id: kraken.order()}})
        async with kraken.client_of(exchange, account) as client:
            body = json.dumps(rows).encode()
            cached = Answer(200, body, (JSON, ("Age", "0")))
            exchange.faults.add(cached, operation="open-orders", times=2)
            await client.cancel_all("spot", kraken.BTC)
        assert {order.symbol for order in exchange.open_orders(account, "spot")} == {"ETHUSD"}


@pytest.mark.unmeasured
def test_binance_cancels_what_it_can_read_of_a_broken_listing() -> None:
    """One row of 20,000 is no JSON: what is around it is cancelled, and nothing is proven."""
    rows = [json.dumps(row(f"S{n // 40}USDT", n) | {"pad": "p" * 60}) for n in range(20_000)]
    rows[9_000] = rows[9_000][:100]
    body = f"[{','.join(rows)}]".encode()
    assert len(body) > 8_000_000
    drive = Drive(VENUE.cancel_all(Scope("spot"), None))
    drive.round(decoded(drive.calls[0], body))
    names = {name.split()[1] for name in drive.cancels()}
    assert names == {f"S{n}USDT" for n in range(500)}
    assert isinstance(decoded(drive.calls[-1], body), ProtocolError)


@pytest.mark.parametrize(
    "broken", ['"O2": {"descr": {"pair": }}', '"O2', '"O2": {"descr": {"pair"']
)
def test_kraken_cancels_what_it_can_read_of_a_broken_listing(broken: str) -> None:
    """The listing beside the cancels is to have every order."""
    rows = [f'"O{n}": {json.dumps(kraken.order())}' for n in range(20)]
    rows[2] = broken
    body = f'{{"error": [], "result": {{"open": {{{",".join(rows)}}}}}}}'.encode()
    talk = kraken.cancel("spot", kraken.BTC).answer(body)
    batch, again = talk.rounds[1]
    assert again == "OpenOrders"
    ids = set(json.loads(batch.partition(" ")[2])["orders"])
    assert (
        {f"O{n}" for n in range(20)} - {"O2", "O3"} <= ids <= {f"O{n}" for n in range(20)} - {"O2"}
    )
    with pytest.raises(ProtocolError, match="not JSON"):
        talk.answer(kraken.result({"count": len(ids)}), body)


def test_a_refusal_of_kraken_is_no_broken_listing() -> None:
    """Nor is anything that begins in another way."""
    for body in (b'{"error": ["EAPI:x"], "result": {"open": {"O1": ', b'{"result": {"open": {}'):
        with pytest.raises(ProtocolError):
            kraken.cancel("spot", kraken.BTC).answer(body)
