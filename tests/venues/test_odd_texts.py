"""Half a surrogate pair, and bytes that are no UTF-8: what nobody needs costs nothing."""

import json
from typing import Any

import pytest

import ascendex_support as ascendex
import binance_support as binance
import kraken_support as kraken
from flows_support import Drive, calls_of, decoded
from masscancel import ProtocolError
from masscancel.calls import Answered, Reply, Scope, Updated
from masscancel.venues import OKX, Bybit, Gate
from masscancel.venues.base import Venue
from masscancel.venues.toolkit import SLICE, RowDecoder, Rows, finish, readable

BTC, PERP = kraken.BTC, kraken.PERP
ODD = [b"\\ud800", b"a\\udfffz", b"\\\\\\udc00", b"\\ud800\\ud800", b"\xff", b"\xed\xa0\x80"]
#: What stands where the odd text is to be.
HERE = "HERE"

odd_texts = pytest.mark.parametrize("odd", ODD, ids=ascii)


def with_odd(value: Any, odd: bytes) -> bytes:
    """The JSON of a value, with the odd text in it."""
    return json.dumps(value).encode().replace(HERE.encode(), odd)


@odd_texts
@pytest.mark.parametrize("many", [1, 1_000])
def test_kraken_spot_lists_and_cancels(odd: bytes, many: int) -> None:
    """In a field of the row, beside the rows, or in the name of a field."""
    rows = {f"O{n}": kraken.order() | {"userref": "r" * 300} for n in range(many)}
    rows["OX"] = kraken.order() | {"cl_ord_id": HERE, "misc" + HERE: "", "pad": HERE * 3}
    body = with_odd({"error": [], "note": HERE, "result": {"open": rows}}, odd)
    assert (len(body) > SLICE) is (many > 1)
    orders = kraken.listed().answer(body).value
    assert [order.order_id for order in orders] == [*rows]
    talk = kraken.cancel("spot", BTC).answer(body)
    assert sum(asked.count('"O') + asked.count("=O") for asked in talk.rounds[1]) == many + 1


@odd_texts
@pytest.mark.parametrize("where", ["id", "pair"])
def test_an_id_or_a_pair_of_kraken_that_can_not_be_read_is_named(odd: bytes, where: str) -> None:
    """The others are cancelled, and the listing proves nothing."""
    row = kraken.order(BTC + HERE) if where == "pair" else kraken.order()
    rows = {"O" + HERE if where == "id" else "OX": row, "O1": kraken.order()}
    body = with_odd(kraken.result({"open": rows}), odd)
    with pytest.raises(ProtocolError, match="can't be read"):
        kraken.listed().answer(body)
    talk = kraken.cancel("spot", BTC).answer(body)
    assert talk.rounds[1] == ["CancelOrder txid=O1"]
    with pytest.raises(ProtocolError, match="1 of the open orders were left alone"):
        talk.answer(kraken.result({"count": 1}))


@odd_texts
def test_kraken_futures_answer(odd: bytes) -> None:
    """Ids that can't be read are not told; a listing with one is none."""
    cancelled = [{"order_id": "a"}, {"order_id": "b", "cliOrdId": HERE}]
    answer: dict[str, Any] = {"status": "cancelled", "cancelledOrders": cancelled}
    body: dict[str, Any] = {"result": "success", "cancelStatus": answer}
    ack = kraken.cancel("futures").answer(with_odd(body, odd)).value
    assert ack.cancelled == ("a", "b")
    cancelled[0]["order_id"] = HERE
    assert kraken.cancel("futures").answer(with_odd(body, odd)).value.cancelled is None
    row = {"order_id": "x", "symbol": PERP, "side": "buy", "cliOrdId": HERE}
    listing: dict[str, Any] = {"result": "success", "openOrders": [row]}
    assert len(kraken.listed("futures").answer(with_odd(listing, odd)).value) == 1
    row["order_id"] = HERE
    with pytest.raises(ProtocolError, match="can't be read"):
        kraken.listed("futures").answer(with_odd(listing, odd))


@odd_texts
def test_binance_lists_and_cancels(odd: bytes) -> None:
    """A symbol that can't be read is named; what cancels is not taken from it."""
    rows = [binance.row("BTCUSDT") | {"clientOrderId": HERE, "note" + HERE: 1}]
    (call,) = calls_of(binance.VENUE.open_orders(Scope("spot")))
    assert len(binance.decoded(call, with_odd(rows, odd))) == 1
    drive = Drive(binance.VENUE.cancel_all(Scope("spot"), None))
    drive.answer("openOrders", with_odd([*rows, binance.row("ETH" + HERE)], odd))
    assert drive.cancels() == ["openOrders BTCUSDT"]
    done = [{"symbol": "BTCUSDT", "status": "CANCELED", "orderId": 1, "clientOrderId": HERE}]
    drive.answer("openOrders", with_odd(done, odd), "BTCUSDT")
    with pytest.raises(ProtocolError, match="1 orders whose symbol can't be read"):
        drive.ack()


@odd_texts
def test_an_answer_of_binance_whose_state_can_not_be_read_is_no_ack(odd: bytes) -> None:
    """The order may be live."""
    call = binance.cancel_call("spot")
    rows = [{"symbol": "BTCUSDT", "status": "N" + HERE, "orderId": 1}]
    with pytest.raises(ProtocolError):
        binance.decoded(call, with_odd(rows, odd))
    done = {"code": 200, "msg": HERE}
    assert binance.decoded(binance.cancel_call("usdm"), with_odd(done, odd)).status == "done"


@odd_texts
def test_ascendex_answers(odd: bytes) -> None:
    """Its Ack, its listing and its stream."""
    body = ascendex.acknowledgement()
    body["data"]["note"] = HERE
    if odd.isascii():
        assert ascendex.decoded(ascendex.cancel(), with_odd(body, odd)).status == "Ack"
    else:  # damaged on the way, perhaps
        said = ascendex.decoded(ascendex.cancel(), with_odd(body, odd))
        assert isinstance(said, ProtocolError)
    ack = {"m": "order", "action": "cancel-all", "status": "Ack", "ac": "CASH", "accountId": HERE}
    stream = ascendex.VENUE.stream("cash")
    assert isinstance(stream.parse(with_odd(ack, odd))[0], Answered)
    order = {"s": "BTC/USDT", "orderId": "1", "st": "New", "sd": "Buy", "ot": HERE}
    update = {"m": "order", "ac": "CASH", "data": order}
    assert isinstance(stream.parse(with_odd(update, odd))[0], Updated)
    with pytest.raises(ProtocolError):
        stream.parse(with_odd(update | {"data": order | {"orderId": HERE}}, odd))


#: A listing's first page, on which a row has two names that decide something, and others.
LISTINGS: list[tuple[Venue, str, Any, tuple[str, str]]] = [
    (
        Bybit(),
        "spot",
        lambda row: {"retCode": 0, "result": {"list": [row], "nextPageCursor": ""}, "note": HERE},
        ("orderId", "symbol"),
    ),
    (OKX(), "spot", lambda row: {"code": "0", "msg": HERE, "data": [row]}, ("ordId", "instId")),
    (Gate(), "options", lambda row: [row], ("id", "contract")),
]


@odd_texts
@pytest.mark.parametrize(
    ("venue", "category", "page", "names"), LISTINGS, ids=["bybit", "okx", "gate"]
)
def test_names_that_decide(
    odd: bytes, venue: Venue, category: str, page: Any, names: tuple[str, str]
) -> None:
    """An id or a symbol that can't be read: no proof. Of what is only shown, anything."""
    (call, *_) = calls_of(venue.open_orders(Scope(category)))
    row = {"side": "buy", "qty": "1", "sz": "1", "size": "1", names[0]: "a", names[1]: "b"}
    assert len(decoded(call, with_odd(page(row | {"text": HERE, "more" + HERE: 1}), odd)).rows) == 1
    for name in names:
        assert isinstance(decoded(call, with_odd(page(row | {name: HERE}), odd)), ProtocolError)


@odd_texts
def test_what_could_be_read_is_cancelled(odd: bytes) -> None:
    """Where a cancel begins with a listing; the row that could not be is told."""
    for venue, scope, page, row, lost in (
        (Bybit(), Scope("inverse"), LISTINGS[0][2], {"symbol": "BTCUSD"}, {"symbol": HERE}),
        (
            OKX(),
            Scope("spot", None, ("ordinary",)),
            LISTINGS[1][2],
            {"instId": "BTC-USDT", "ordId": "1"},
            {"instId": "BTC-USDT", "ordId": HERE},
        ),
    ):
        drive = Drive(venue.cancel_all(scope, None))
        both = json.dumps(page(row)).replace(json.dumps(row), json.dumps([row, lost])[1:-1])
        drive.round(decoded(drive.calls[0], both.encode().replace(HERE.encode(), odd)))
        (call,) = drive.calls
        assert call.cancels
        assert HERE.encode() not in call.body
        drive.round(ProtocolError("no answer"))
        assert "may lack" in str(drive.value.__notes__)


@odd_texts
def test_what_is_no_json_stays_none(odd: bytes) -> None:
    """An odd text makes no answer of a broken one; a whole pair is a text like any other."""
    with pytest.raises(ProtocolError):
        kraken.listed().answer(b'{"error": [], "result": {"open": {' + odd)
    decoder: RowDecoder[Any, Any] = RowDecoder(str, str, convert=readable)
    reply = Reply(200, {}, b'["\\ud83d\\ude00", "\xf0\x9f\x98\x80"]')
    assert finish(decoder.decode(reply), reply) == Rows(["\U0001f600"] * 2, [])
