"""Cancels on the stream: each is answered by its own Ack, or is unknown."""

import asyncio
import json
from typing import Any

import pytest

from masscancel import InvalidRequest, MassCancelError, OutcomeUnknown, RetryPolicy
from masscancel.engine.gate import OrderGate
from masscancel.models import Ack
from masscancel.sim import (
    Answer,
    AscendEXDialect,
    Drop,
    DuplicateAck,
    ForeignId,
    Ignore,
    LateAck,
    SimulatedExchange,
    WithoutId,
)
from stream_support import ACK, BTC, ETH, cancel, stream_of


@pytest.mark.asyncio
async def test_ack_by_its_id(exchange: SimulatedExchange) -> None:
    """On the stream alone: acknowledged, executed, and nothing went by REST."""
    async with stream_of(exchange) as (account, client):
        ack = await client.cancel_all("cash", BTC, via="stream", request_id="kill_1")
        assert (ack.request_id, ack.symbol, ack.account_category) == ("kill_1", BTC, "cash")
        assert [(a.path, a.fate) for a in ack.attempts] == [("stream", "answered")]
        assert not exchange.open_orders(account, "cash", BTC)
        assert exchange.open_orders(account, "cash", ETH)
    assert {r.method for r in exchange.operations("cancel-all")} == {"WS"}


@pytest.mark.asyncio
@pytest.mark.parametrize("echo", ["message", "args"])
@pytest.mark.parametrize("category", ["cash", "margin", "futures"])
async def test_either_id_comes_back(echo: Any, category: str) -> None:
    """Whichever of the two ids the venue echoes, the Ack is known by it."""
    async with (
        SimulatedExchange(AscendEXDialect(echo=echo)) as exchange,
        stream_of(exchange) as (account, client),
    ):
        ack = await client.cancel_all(category, via="stream", request_id="one-id")
        assert ack.request_id == "one-id"
        assert not exchange.open_orders(account, category)


@pytest.mark.asyncio
async def test_acks_out_of_order(exchange: SimulatedExchange) -> None:
    """Each call gets its own Ack, in whatever order they come."""
    exchange.faults.add(LateAck("first"), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        first = cancel(client, BTC, request_id="first")
        await exchange.until(lambda: "first" in exchange.waiting)
        second = await cancel(client, BTC, request_id="second")
        assert not first.done()
        exchange.release("first")
        assert (await first).request_id == "first"
        assert second.request_id == "second"


@pytest.mark.asyncio
async def test_ack_without_an_id(exchange: SimulatedExchange) -> None:
    """It is taken for the request of that scope, never for one of another."""
    exchange.faults.add(LateAck("btc"), operation="cancel-all")
    exchange.faults.add(WithoutId(), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        btc = cancel(client, BTC)
        await exchange.until(lambda: "btc" in exchange.waiting)
        eth = await cancel(client, ETH)
        assert (eth.symbol, eth.request_id) == (ETH, "")
        assert not btc.done()
        exchange.release("btc")
        assert (await btc).symbol == BTC


@pytest.mark.asyncio
async def test_refusal_without_an_id_is_not_taken_for_another_request(
    exchange: SimulatedExchange,
) -> None:
    """With two requests on their way, a refusal that names neither refuses neither."""
    exchange.faults.add(LateAck("btc"), operation="cancel-all")
    refusal = {"m": "error", "id": "", "code": 100005, "reason": "INVALID_WS_REQUEST_DATA"}
    exchange.faults.add(Answer(body=json.dumps(refusal).encode()), operation="cancel-all")
    async with stream_of(exchange) as (account, client):
        btc = cancel(client, BTC)
        await exchange.until(lambda: "btc" in exchange.waiting)
        eth = cancel(client, ETH, timeout=0.2)
        with pytest.raises(MassCancelError):
            await eth
        exchange.release("btc")
        (result,) = await asyncio.gather(btc, return_exceptions=True)
        assert not exchange.open_orders(account, "cash", BTC)
        assert isinstance(result, Ack) or (
            isinstance(result, MassCancelError) and result.may_have_executed
        )


@pytest.mark.asyncio
async def test_foreign_and_duplicate_acks_are_ignored(exchange: SimulatedExchange) -> None:
    """An Ack with another id is nobody's; a second one changes nothing."""
    exchange.faults.add(ForeignId(then_own=True), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        assert (await cancel(client, request_id="mine")).request_id == "mine"
        exchange.faults.add(DuplicateAck(), operation="cancel-all")
        assert (await cancel(client, request_id="twice")).request_id == "twice"
        assert (await cancel(client, request_id="third")).request_id == "third"
        assert len(exchange.operations("stream")) == 1


@pytest.mark.asyncio
async def test_only_a_foreign_ack(exchange: SimulatedExchange) -> None:
    """Nothing but another request's Ack: the outcome is unknown."""
    exchange.faults.add(ForeignId(), operation="cancel-all", times=None)
    async with stream_of(exchange) as (_, client):
        with pytest.raises(OutcomeUnknown) as caught:
            await cancel(client, timeout=0.1)
        assert caught.value.may_have_executed


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "wrong",
    [
        {"ac": "MARGIN"},
        {"info": ACK["info"] | {"id": "mine", "symbol": ETH}},  # type: ignore[operator]  # a dict
        {"info": ACK["info"] | {"id": "mine", "timestamp": 1}},  # type: ignore[operator]  # a dict
    ],
    ids=["category", "symbol", "time"],
)
async def test_ack_of_another_scope_is_refused(
    exchange: SimulatedExchange, wrong: dict[str, Any]
) -> None:
    """The right id on an answer to something else is no Ack."""
    info = ACK["info"] | {"id": "mine", "timestamp": exchange.now_ms}  # type: ignore[operator]
    body = json.dumps(ACK | {"info": info} | wrong).encode()
    exchange.faults.add(Answer(body=body), operation="cancel-all", times=None)
    async with stream_of(exchange, retry=RetryPolicy(early_sends=1)) as (_, client):
        with pytest.raises(MassCancelError) as caught:
            await cancel(client, BTC, request_id="mine", timeout=0.15)
        assert caught.value.may_have_executed


@pytest.mark.asyncio
async def test_ignored_request_replaces_the_socket(exchange: SimulatedExchange) -> None:
    """Silence until the time is up: unknown, and the next request goes on another connection."""
    exchange.faults.add(Ignore(), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        with pytest.raises(OutcomeUnknown):
            await cancel(client, timeout=0.1)
        ack = await cancel(client)
        ignored, served = exchange.operations("cancel-all")
        assert ignored.connection != served.connection
        assert ack.attempts[0].fate == "answered"


@pytest.mark.asyncio
async def test_late_ack_is_never_the_next_requests(exchange: SimulatedExchange) -> None:
    """An Ack without an id that comes too late finds its socket gone."""
    exchange.faults.add(LateAck("late"), operation="cancel-all")
    exchange.faults.add(Ignore(), operation="cancel-all", times=None)
    async with stream_of(exchange) as (_, client):
        first = cancel(client)
        await exchange.until(lambda: "late" in exchange.waiting)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = cancel(client, timeout=0.3)
        exchange.release("late")
        info = ACK["info"] | {"id": "", "symbol": "", "timestamp": exchange.now_ms}  # type: ignore[operator]
        exchange.push(json.dumps(ACK | {"info": info}).encode())  # on every open socket
        await exchange.until(lambda: len(exchange.operations("cancel-all")) == 2)
        with pytest.raises(OutcomeUnknown):
            await second
        one, two = exchange.operations("cancel-all")[:2]
        assert one.connection != two.connection


@pytest.mark.asyncio
async def test_next_request_never_leaves_on_a_socket_to_be_replaced(
    exchange: SimulatedExchange,
) -> None:
    """Given up and asked again in the same moment: the second one waits for the new socket."""
    exchange.faults.add(LateAck("late"), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        first = cancel(client)
        await exchange.until(lambda: "late" in exchange.waiting)
        first.cancel()
        second = await cancel(client)
        assert [attempt.fate for attempt in second.attempts] == ["answered"]
        one, two = exchange.operations("cancel-all")
        assert one.connection != two.connection


@pytest.mark.asyncio
async def test_sent_again_on_the_stream_and_both_are_answered(exchange: SimulatedExchange) -> None:
    """A slow answer leads to a second message; both are answered, and so both are resolved."""
    gate = OrderGate()
    exchange.faults.add(LateAck("slow"), operation="cancel-all", times=2)
    async with stream_of(exchange, retry=RetryPolicy(patience=0.02)) as (_, client):
        calling = cancel(client, gate=gate)
        await exchange.until(lambda: exchange.waiting.count("slow") == 2)
        exchange.release("slow")
        await calling
        await client.cancel_all("cash", via="stream")  # what was said before has been read by now
        gate.reopen()


@pytest.mark.asyncio
async def test_request_ids_of_the_callers_own(exchange: SimulatedExchange) -> None:
    """A caller's id is never mistaken for one of the stream's own."""
    async with stream_of(exchange) as (_, client):
        for request_id in ("login", "sub-cash"):
            refusal = {"m": "error", "id": request_id, "code": 100005, "reason": "X"}
            exchange.faults.add(Answer(body=json.dumps(refusal).encode()), operation="cancel-all")
            with pytest.raises(InvalidRequest):
                await cancel(client, request_id=request_id, timeout=0.2)


@pytest.mark.asyncio
async def test_drop_while_waiting(exchange: SimulatedExchange) -> None:
    """The stream breaks before the answer: said again on a new one, with both fates told."""
    exchange.faults.add(Drop(executed=True), operation="cancel-all")
    async with stream_of(exchange) as (_, client):
        ack = await cancel(client)
        assert [a.fate for a in ack.attempts] == ["unknown", "answered"]


@pytest.mark.asyncio
async def test_typed_refusal(exchange: SimulatedExchange) -> None:
    """What the venue says no to is raised at once, as what it is."""
    exchange.faults.add(
        Answer(body=json.dumps({"m": "error", "id": "mine", "code": 100008}).encode()),
        operation="cancel-all",
    )
    async with stream_of(exchange) as (_, client):
        with pytest.raises(InvalidRequest) as caught:
            await cancel(client, request_id="mine")
        assert not caught.value.may_have_executed
        assert [a.fate for a in caught.value.attempts] == ["refused"]
