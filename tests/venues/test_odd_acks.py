"""Odd types in an answer to a cancel: what decides nothing costs no Ack, and claims nothing."""

import json
from typing import Any

import pytest

import ascendex_support as ascendex
import binance_support as binance
import kraken_support as kraken
from masscancel import Ack, ProtocolError, VenueError
from masscancel.calls import Answered, Updated

PERP = kraken.PERP
ODD: list[Any] = [None, 5, 1.5, -3, True, "", "text", "\ud800", [], ["a"], {}, {"a": [{}]}]


def json_of(value: Any) -> bytes:
    """The value as JSON."""
    return json.dumps(value).encode()


odd_values = pytest.mark.parametrize("odd", ODD, ids=ascii)


@odd_values
@pytest.mark.parametrize("where", ["receivedTime", "serverTime", "error", "errors", "note"])
@pytest.mark.parametrize("symbol", [None, PERP])
def test_kraken_futures(odd: Any, where: str, symbol: str | None) -> None:
    """Times and errors beside a success; a time that can't be read is not told."""
    status: dict[str, Any] = {"status": "cancelled", "cancelledOrders": []}
    body: dict[str, Any] = {"result": "success", "cancelStatus": status}
    (status if where == "receivedTime" else body)[where] = odd
    ack = kraken.cancel("futures", symbol).answer(body).value
    assert (ack.status, ack.timestamp_ms, ack.cancelled) == ("cancelled", None, ())


@odd_values
def test_kraken_futures_says_which_contract_as_far_as_it_can_be_read(odd: Any) -> None:
    """Another contract is another answer; what is no name says nothing."""
    status = {"status": "cancelled", "cancelOnly": odd}
    talk = kraken.cancel("futures", PERP)
    body = {"result": "success", "cancelStatus": status}
    if isinstance(odd, str) and odd:
        with pytest.raises(ProtocolError):
            talk.answer(body)
    else:
        assert talk.answer(body).value.status == "cancelled"


@odd_values
def test_kraken_futures_takes_no_odd_error_for_a_success(odd: Any) -> None:
    """What the error is may not be known; that it is one, is."""
    for body in ({"error": odd}, {"errors": odd}, {"errors": [odd]}, {"errors": [{"code": odd}]}):
        with pytest.raises(VenueError):
            kraken.cancel("futures").answer({"result": "error"} | body)


@odd_values
def test_kraken_spot_counts_what_it_can(odd: Any) -> None:
    """A count that can't be read is not known; pending is what says so."""
    known = odd if type(odd) is int and odd >= 0 else "unknown"
    assert kraken.cancel().answer(kraken.result({"count": odd})).value.status == f"count {known}"
    body = kraken.result({"count": 2, "pending": odd})
    assert kraken.cancel().answer(body).value.status.endswith(", pending") is (odd is True)


def test_kraken_spot_adds_up_no_count_that_it_does_not_know() -> None:
    """Of several batches, one is enough."""
    talk = kraken.cancel("spot", kraken.BTC).answer(kraken.listing(*[kraken.BTC] * 52))
    talk.answer(kraken.result({"count": 50}), kraken.result({"count": "2"}))
    assert talk.value.status == "count unknown"


@odd_values
@pytest.mark.parametrize("where", ["orderId", "orderReports", "clientOrderId"])
def test_binance_spot(odd: Any, where: str) -> None:
    """Ids that can't be read are not told, not even in part."""
    row = {"symbol": binance.BTC, "status": "CANCELED", "orderId": 7, "orderReports": []}
    answer = binance.listing(binance.cancel_call("spot"), row, row | {where: odd})
    assert answer.status == "CANCELED"
    ids = ("7", str(odd)) if where == "orderId" else ("7", "7")
    readable = {"orderId": type(odd) is int or odd == "text", "orderReports": odd == []}
    assert answer.cancelled == (ids if readable.get(where, True) else None)


@odd_values
def test_binance_spot_takes_no_odd_state_for_cancelled(odd: Any) -> None:
    """Of an order, or of an order in a list: it may be live."""
    row = {"symbol": binance.BTC, "status": odd, "orderId": 7}
    lists = {"symbol": binance.BTC, "orderReports": [row | {"orderId": []}]}
    for each in (row, lists):
        if odd == "text":  # a state that is not known; it is none of those that are live
            assert binance.listing(binance.cancel_call("spot"), each).cancelled == ()
        else:
            with pytest.raises(ProtocolError):
                binance.listing(binance.cancel_call("spot"), each)


@odd_values
def test_binance_futures(odd: Any) -> None:
    """The code decides, not the sentence; of a refusal, too."""
    body = json_of({"code": 200, "msg": odd})
    assert binance.decoded(binance.cancel_call("usdm"), body).status == "done"
    refused = binance.refused(binance.cancel_call("usdm"), {"code": -2015, "msg": odd})
    assert getattr(refused, "code", None) == -2015


@odd_values
@pytest.mark.parametrize("where", ["accountId", "info_message", "info_errorMsg"])
def test_ascendex(odd: Any, where: str) -> None:
    """The account and the sentences, by REST."""
    ack = ascendex.decoded(ascendex.cancel(), ascendex.acknowledgement(**{where: odd}))
    assert isinstance(ack, Ack)
    if where == "accountId":
        assert ack.account_id == (odd.replace("\ud800", "\ufffd") if isinstance(odd, str) else "")
    else:
        assert ack.account_id == "csh1"


@odd_values
def test_ascendex_takes_no_odd_time_for_one(odd: Any) -> None:
    """Futures need none; elsewhere it is what tells an answer from an older one."""
    body = ascendex.acknowledgement("futures", info_timestamp=odd)
    ack = ascendex.decoded(ascendex.cancel("futures"), body)
    if type(odd) is int:
        assert isinstance(ack, ProtocolError)  # of an earlier request
    else:
        assert ack.timestamp_ms is None
    cash = ascendex.decoded(ascendex.cancel(), ascendex.acknowledgement(info_timestamp=odd))
    assert isinstance(cash, ProtocolError)


@odd_values
def test_ascendex_stream(odd: Any) -> None:
    """An Ack and an update; what people alone look at is left out."""
    stream = ascendex.VENUE.stream("cash")
    ack = {"m": "order", "action": "cancel-all", "status": "Ack", "ac": "CASH"}
    info = {"message": odd, "timestamp": odd}
    event = stream.parse(json_of(ack | {"accountId": odd, "err": odd, "info": info}))[0]
    assert isinstance(event, Answered)
    assert isinstance(event.result, Ack)
    assert event.result.timestamp_ms == (odd if type(odd) is int else None)
    order = {"s": "BTC/USDT", "orderId": "1", "st": "New", "sd": "Buy", "t": odd}
    (update,) = stream.parse(json_of({"m": "order", "ac": "CASH", "data": order}))
    assert isinstance(update, Updated)
