"""Scripted faults of the simulated exchange: the plan, purely, and each fault on a real socket."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from masscancel.sim import (
    HELD,
    Account,
    Answer,
    Delay,
    Disconnected,
    Drop,
    DuplicateAck,
    DuplicateReply,
    EffectDelay,
    FaultPlan,
    GzipBomb,
    Hang,
    Hold,
    HugeBody,
    Ignore,
    LateAck,
    Redirect,
    Request,
    SimulatedExchange,
    Skew,
    Trickle,
    Truncate,
    TwoContentLengths,
    Unsolicited,
    What,
)
from masscancel.sim.ascendex_wire import signature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATH = "/0/api/pro/v1/cash/order/all"


def asked(operation: str = "cancel-all", method: str = "DELETE", api_key: str = "key") -> Request:
    """Make a request for a plan to judge."""
    return Request(method=method, raw_path=PATH, operation=operation, api_key=api_key)


def struck(plan: FaultPlan, *requests: Request) -> list[bool]:
    """Tell which of the requests meet a fault."""
    return [bool(plan.decide(request).actions) for request in requests]


def test_a_fault_strikes_what_matches_every_field() -> None:
    """Operation, method, path, key and body must all match."""
    plan = FaultPlan()
    fault = plan.add(
        Hang(),
        operation="cancel-all",
        method="DELETE",
        path=r"/order/all$",
        api_key="key",
        times=None,
    )
    assert struck(
        plan, asked(), asked("open-orders"), asked(method="GET"), asked(api_key="x"), asked()
    ) == [True, False, False, False, True]
    assert plan.applied(fault) == 2
    assert list(plan) == [fault]
    plan.add(Hang(), body='"USD."')
    named = Request(method="POST", raw_path="/x", body=b'{"coin":"USDT"}')
    assert struck(plan, asked(method="GET"), named) == [False, True]
    other = plan.add(Hang(), path="/nowhere")
    assert struck(plan, asked()) == [True]
    plan.remove(fault)
    plan.remove(fault)
    assert plan.applied(fault) == plan.applied(other) == 0
    assert struck(plan, asked()) == [False]
    plan.clear()
    assert list(plan) == []


def test_a_fault_strikes_the_nth_or_so_many_times() -> None:
    """By default it strikes once, the first time."""
    plan = FaultPlan()
    plan.add(Drop())
    assert struck(plan, asked(), asked()) == [True, False]
    plan.add(Drop(), times=2)
    assert struck(plan, asked(), asked(), asked()) == [True, True, False]
    plan.add(Drop(), nth=2)
    assert struck(plan, asked(), asked(), asked()) == [False, True, False]


def test_a_random_fault_repeats_under_its_seed() -> None:
    """The share is right, and the same seed strikes the same requests."""

    def run(seed: int) -> list[bool]:
        plan = FaultPlan(seed)
        plan.add(Hang(), probability=0.25, times=None)
        return struck(plan, *[asked()] * 400)

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 60 < sum(run(1)) < 140


def test_modifiers_add_up_and_the_oldest_ending_wins() -> None:
    """An ending that lost is not used up."""
    plan = FaultPlan()
    plan.add(Skew(5))
    plan.add(Drop(executed=True))
    plan.add(Hang())
    plan.add(Delay(0))
    decision = plan.decide(asked())
    assert decision.actions == (Skew(5), Delay(0), Drop(executed=True))
    assert decision.executed
    assert plan.decide(asked()).ending == Hang()
    assert plan.decide(asked()).executed


class Wire:
    """An exchange, an account, and a client whose every request is fresh and signed."""

    def __init__(self, exchange: SimulatedExchange, http: aiohttp.ClientSession) -> None:
        self.exchange = exchange
        self.http = http
        self.account: Account = exchange.add_account("key", "secret")
        exchange.place(self.account, "cash", "BTC/USDT")

    def headers(self) -> dict[str, str]:
        """Sign now."""
        stamp = str(int(time.time() * 1000))
        signed = signature("secret", stamp, "order/all")
        return {
            "x-auth-key": "key",
            "x-auth-timestamp": stamp,
            "x-auth-signature": signed,
            "Accept-Encoding": "identity",
        }

    async def cancel(self) -> tuple[int, bytes]:
        """Cancel all, without redirects and retries; returns status and body."""
        async with self.http.delete(
            self.exchange.rest_url + PATH, headers=self.headers(), allow_redirects=False
        ) as response:
            return response.status, await response.read()

    @property
    def left(self) -> int:
        """Count what is open."""
        return len(self.exchange.open_orders(self.account, "cash"))


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    """Run an exchange with one order; nothing that it started may be left behind."""

    async def no_resend(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:  # aiohttp sends a DELETE again, silently, unless the error is of another kind
            return await handler(request)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            raise aiohttp.ClientConnectionError from None

    async with (
        SimulatedExchange() as exchange,
        aiohttp.ClientSession(auto_decompress=False, middlewares=[no_resend]) as http,
    ):
        yield Wire(exchange, http)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_drops_before_or_after_executing(
    wire: Wire, *, executed: bool, reset: bool
) -> None:
    """The client sees no reply; the venue's log knows the truth."""
    wire.exchange.faults.add(Drop(executed=executed, reset=reset), operation="cancel-all")
    with pytest.raises(aiohttp.ClientConnectionError):
        await wire.cancel()
    (received,) = wire.exchange.requests
    assert (received.answer, received.status) == ("dropped", None)
    assert received.executed is executed
    assert received.actions == (Drop(executed=executed, reset=reset),)
    assert wire.left == (0 if executed else 1)
    assert (await wire.cancel())[0] == 200
    assert wire.exchange.connections_opened == 2
    assert wire.left == 0


@pytest.mark.asyncio
async def test_an_abrupt_end_is_a_reset_and_an_orderly_one_is_not(wire: Wire) -> None:
    """RST and FIN are told apart by a bare socket."""
    for reset in (True, False):
        wire.exchange.faults.add(Drop(reset=reset))
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.exchange.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        if reset:
            with pytest.raises(ConnectionResetError):
                await reader.read()
        else:
            assert await reader.read() == b""
        writer.close()


@pytest.mark.asyncio
async def test_closing_ends_a_hung_request_at_once(wire: Wire) -> None:
    """A hung request never answers; the close of the exchange is what ends it."""
    wire.exchange.faults.add(Hang(executed=True))
    task = asyncio.create_task(wire.cancel())
    await wire.exchange.until(lambda: wire.exchange.waiting)
    assert wire.exchange.requests[0].answer == "open"
    assert wire.left == 0
    async with asyncio.timeout(10):
        await wire.exchange.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await task
    assert wire.exchange.requests[0].answer == "hung"


@pytest.mark.asyncio
async def test_a_held_request_is_executed_when_released_even_if_its_client_has_gone(
    wire: Wire,
) -> None:
    """What was given up may be carried out later."""
    wire.exchange.faults.add(Hold("late"))
    task = asyncio.create_task(wire.cancel())
    await wire.exchange.until(lambda: wire.exchange.waiting)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wire.left == 1
    await wire.exchange.until(lambda: not wire.exchange.connections)
    assert wire.exchange.release("other") == 0
    assert wire.exchange.release("late") == 1
    await wire.exchange.until(lambda: wire.exchange.requests[0].answer != "open")
    assert wire.exchange.requests[0].answer == "client gone"
    assert wire.left == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("action", [Hold(), Delay(3600)])
async def test_closing_ends_what_is_held_up_without_executing(
    wire: Wire, action: Hold | Delay
) -> None:
    """Neither a hold nor a delay outlives the exchange."""
    wire.exchange.faults.add(action)
    task = asyncio.create_task(wire.cancel())
    await wire.exchange.until(lambda: wire.exchange.waiting)
    await wire.exchange.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await task
    assert not wire.exchange.requests[0].executed
    assert wire.left == 1


@pytest.mark.asyncio
async def test_modifiers_change_how_a_request_is_executed(wire: Wire) -> None:
    """A delay, a clock of another opinion, and an Ack that nothing follows."""
    wire.exchange.faults.add(Skew(40_000))
    assert b"INVALID_TIMESTAMP" in (await wire.cancel())[1]
    wire.exchange.faults.add(Delay(0))
    wire.exchange.faults.add(EffectDelay(HELD))
    assert b'"Ack"' in (await wire.cancel())[1]
    assert wire.left == 1
    assert wire.exchange.log[-1].what is What.CANCEL_ALL_RECEIVED
    wire.exchange.engine.take_effect(now_ms=wire.exchange.now_ms)
    assert wire.left == 0


@pytest.mark.asyncio
async def test_an_answer_can_be_given_instead(wire: Wire) -> None:
    """Status, headers and body are the script's; the request is executed only if it says so."""
    headers = (("Content-Type", "text/html"), ("Retry-After", "1"))
    wire.exchange.faults.add(Answer(520, b"<html>", headers))
    assert await wire.cancel() == (520, b"<html>")
    assert wire.left == 1
    wire.exchange.faults.add(Answer(200, b"{}", executed=True))
    assert await wire.cancel() == (200, b"{}")
    assert wire.left == 0
    assert [r.answer for r in wire.exchange.requests] == ["faked", "faked"]
    wire.exchange.faults.add(Redirect("http://127.0.0.1:1/elsewhere"))
    assert (await wire.cancel())[0] == 307


@pytest.mark.asyncio
async def test_a_reply_can_be_cut_short(wire: Wire) -> None:
    """Half of the body, or as much as is kept, and then the end."""
    for keep in (None, 0):
        wire.exchange.faults.add(Truncate(keep))
        with pytest.raises(aiohttp.ClientPayloadError):
            await wire.cancel()
        assert wire.left == 0


@pytest.mark.asyncio
async def test_a_reply_can_trickle_to_its_end(wire: Wire) -> None:
    """Byte by byte, it is still the whole Ack."""
    wire.exchange.faults.add(Trickle(interval=0))
    assert b'"Ack"' in (await wire.cancel())[1]
    assert wire.exchange.requests[0].answer == "trickled"


@pytest.mark.asyncio
async def test_a_reply_can_trickle_forever(wire: Wire) -> None:
    """It ends when the client goes, or when the exchange closes."""
    for way_out in ("client", "exchange"):
        wire.exchange.faults.add(Trickle(interval=0, forever=True))
        async with wire.http.delete(
            wire.exchange.rest_url + PATH, headers=wire.headers()
        ) as response:
            assert await response.content.readexactly(1000)
            if way_out == "exchange":
                await wire.exchange.close()
            response.close()
        await wire.exchange.until(lambda: wire.exchange.requests[-1].answer != "open")
    assert [r.answer for r in wire.exchange.requests] == ["trickled", "trickled"]


@pytest.mark.asyncio
async def test_malformed_and_oversized_replies(wire: Wire) -> None:
    """Two lengths, five MiB, and a bomb that packs many into few KiB."""
    wire.exchange.faults.add(TwoContentLengths())
    with pytest.raises(aiohttp.ClientError):
        await wire.cancel()
    wire.exchange.faults.add(HugeBody())
    assert len((await wire.cancel())[1]) == 5 * 2**20
    wire.exchange.faults.add(GzipBomb(size=2**24))
    assert len((await wire.cancel())[1]) < 2**16


@pytest.mark.asyncio
async def test_bytes_arrive_that_nobody_asked_for(wire: Wire) -> None:
    """A second reply follows the first, at once, later, or when the test says so."""

    async def talk() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.exchange.port)
        writer.write(b"GET /api/pro/v1/exchange-info?requestTime=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        return reader, writer, head

    def length(head: bytes) -> int:
        return int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])

    faults: list[Any] = [DuplicateReply(), Unsolicited(), Unsolicited(b"HTTP/1.1 200 OK\r\n\r\n")]
    for fault in faults:
        wire.exchange.faults.add(fault)
        reader, writer, head = await talk()
        first = await reader.readexactly(length(head))
        again = await reader.readuntil(b"\r\n\r\n")
        assert again.startswith(b"HTTP/1.1 200 OK\r\n")
        if b"content-length" in again.lower():
            assert await reader.readexactly(length(again)) == first
        writer.close()
    reader, writer, head = await talk()
    await reader.readexactly(length(head))
    number = wire.exchange.connections[-1]
    assert wire.exchange.write_unsolicited(b"boo", number) == 1
    assert await reader.readexactly(3) == b"boo"
    assert wire.exchange.write_unsolicited(b"boo", 10**6) == 0
    wire.exchange.faults.add(Unsolicited(after=3600))
    assert (await wire.cancel())[0] == 200
    writer.close()


@pytest.mark.asyncio
async def test_endings_that_are_meant_for_streams_have_a_meaning_on_rest(wire: Wire) -> None:
    """Ignored is never answered, disconnected is dropped, late is late."""
    for fault in (Ignore(), LateAck("")):
        wire.exchange.faults.add(fault)
        task = asyncio.create_task(wire.cancel())
        await wire.exchange.until(lambda: wire.exchange.waiting)
        wire.exchange.release()
        if isinstance(fault, LateAck):
            assert (await task)[0] == 200
        else:
            with pytest.raises(aiohttp.ClientConnectionError):
                await task
    wire.exchange.faults.add(Disconnected())
    with pytest.raises(aiohttp.ClientConnectionError):
        await wire.cancel()
    wire.exchange.faults.add(DuplicateAck())
    assert (await wire.cancel())[0] == 200
    assert [r.answer for r in wire.exchange.requests] == ["hung", "late", "dropped", "answered"]
    assert [r.executed for r in wire.exchange.requests] == [False, True, False, True]


@pytest.mark.asyncio
async def test_a_request_that_breaks_off_is_no_request(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that goes in the middle of its body leaves neither a record nor a traceback."""
    _, writer = await asyncio.open_connection("127.0.0.1", wire.exchange.port)
    writer.write(b"DELETE / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await wire.exchange.until(lambda: wire.exchange.connections)
    await asyncio.sleep(0)
    writer.transport.abort()
    await wire.exchange.until(lambda: not wire.exchange.connections)
    await asyncio.sleep(0)
    assert wire.exchange.requests == []
    assert caplog.records == []
