"""Cancel-all on the stream, by REST, or on both at once: the first valid Ack wins."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

import pytest

from masscancel import (
    Ack,
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    InvalidRequest,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    RetryPolicy,
    ScopeError,
)
from masscancel.engine.gate import OrderGate
from masscancel.models import Via
from masscancel.sim import (
    HELD,
    Account,
    Action,
    Answer,
    Drop,
    EffectDelay,
    ForeignId,
    Hang,
    Hold,
    Ignore,
    LateAck,
    SimulatedExchange,
    What,
)
from support import DENIED, UNKNOWN_KEY, account_of, client_of, cold_pool, streaming_client
from venues_support import Trial

pytestmark = pytest.mark.asyncio

BTC = "BTC/USDT"
CANCEL: dict[str, Any] = {"operation": "cancel-all"}


@asynccontextmanager
async def trader(
    exchange: SimulatedExchange, *, stream: bool = True, **options: Any
) -> AsyncIterator[tuple[Account, Client[Any]]]:
    """An account and its entered client; its stream is up if asked for."""
    account = account_of(exchange)
    async with streaming_client(exchange, account, **options) as client:
        if stream:
            updates = client.order_updates("cash")
            await exchange.until(
                lambda: any(r.answer == "answered" for r in exchange.operations("subscribe"))
            )
            exchange.place(account, "cash", "XRP/USDT")
            await anext(aiter(updates))
        yield account, client


def ways(exchange: SimulatedExchange) -> list[str]:
    """How the cancel-alls came, oldest first."""
    return [r.method for r in exchange.operations("cancel-all")]


def fates(ack: Ack) -> dict[str, list[str]]:
    """The fates of an Ack's attempts, by path."""
    found: dict[str, list[str]] = {}
    for attempt in ack.attempts:
        found.setdefault(attempt.path, []).append(attempt.fate)
    return found


@pytest.mark.parametrize("via", get_args(Via))
@pytest.mark.parametrize("category", ["cash", "margin", "futures"])
async def test_every_way_cancels(exchange: SimulatedExchange, via: Via, category: str) -> None:
    """Whichever way it goes: the scope is cancelled, and no other."""
    async with trader(exchange, stream=False) as (account, client):
        ack = await client.cancel_all(category, via=via)
    assert not exchange.open_orders(account, category)
    others = {"cash", "margin", "futures"} - {category}
    assert all(len(exchange.open_orders(account, other)) == 2 for other in others)
    assert ack.account_category == category
    assert ack.attempts


async def test_both_leave_at_once(exchange: SimulatedExchange) -> None:
    """One on each path, without waiting for either."""
    exchange.faults.add(Hold("held"), **CANCEL, times=None)
    async with trader(exchange, retry=RetryPolicy(hedge=5.0)) as (_, client):
        calling = asyncio.create_task(client.cancel_all("cash", via="both"))
        await exchange.until(lambda: exchange.waiting.count("held") == 2)
        assert sorted(ways(exchange)) == ["DELETE", "WS"]
        exchange.release("held")
        ack = await calling
    assert len(ack.attempts) == 2
    assert "answered" in fates(ack)["rest"] + fates(ack)["stream"]


@pytest.mark.parametrize(("slow", "winner"), [("DELETE", "stream"), ("WS", "rest")])
async def test_first_ack_wins_and_the_loser_is_left_to_answer(
    exchange: SimulatedExchange, slow: str, winner: str
) -> None:
    """The other attempt is not taken back: it is open, and its answer resolves it."""
    exchange.faults.add(Hold("slow"), **CANCEL, method=slow)
    gate = OrderGate()
    async with trader(exchange, retry=RetryPolicy(hedge=5.0)) as (_, client):
        ack = await client.cancel_all("cash", via="both", gate=gate)
        loser = "rest" if winner == "stream" else "stream"
        assert fates(ack) == {winner: ["answered"], loser: ["open"]}
        with pytest.raises(MassCancelError):
            gate.reopen()
        exchange.release("slow")
        await exchange.until(
            lambda: [r.answer for r in exchange.operations("cancel-all")] == ["answered"] * 2
        )
        # What is asked on the same connection later is answered later, so the loser is resolved.
        way: Via = "stream" if loser == "stream" else "rest"
        await client.cancel_all("margin", via=way)
        for _ in range(20):
            await asyncio.sleep(0)
        gate.reopen()
    received = [r for r in exchange.log if r.what is What.CANCEL_ALL_RECEIVED]
    assert len([r for r in received if r.category == "cash"]) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Answer(500),
        UNKNOWN_KEY,
        Answer(429, b"{}", (("Retry-After", "60"),)),
        Answer(200, b"<html>"),
        Drop(),
        Drop(executed=True),
        Hang(),
    ],
    ids=["500", "401", "429", "html", "reset", "executed", "hang"],
)
async def test_rest_in_trouble_is_no_matter(exchange: SimulatedExchange, fault: Action) -> None:
    """Whatever becomes of REST, the stream's Ack counts."""
    exchange.faults.add(fault, **CANCEL, method="DELETE", times=None)
    exchange.faults.add(Hold("stream"), **CANCEL, method="WS")
    async with trader(exchange) as (account, client):
        calling = asyncio.create_task(client.cancel_all("cash", via="both"))
        await exchange.until(
            lambda: (
                "stream" in exchange.waiting
                and any(r.method == "DELETE" for r in exchange.operations("cancel-all"))
            )
        )
        exchange.release("stream")
        ack = await calling
    assert fates(ack)["stream"] == ["answered"]
    assert not exchange.open_orders(account, "cash")


@pytest.mark.parametrize(
    "fault",
    [
        Answer(body=b'{"m":"error","code":100005,"reason":"X"}'),
        Answer(body=b"nonsense"),
        ForeignId(),
        Drop(),
        Hang(),
        Ignore(),
    ],
    ids=["error", "nonsense", "foreign", "reset", "hang", "ignored"],
)
async def test_stream_in_trouble_is_no_matter(exchange: SimulatedExchange, fault: Action) -> None:
    """Whatever becomes of the stream, REST's Ack counts."""
    exchange.faults.add(fault, **CANCEL, method="WS", times=None)
    exchange.faults.add(Hold("rest"), **CANCEL, method="DELETE", times=None)
    async with trader(exchange, retry=RetryPolicy(hedge=5.0)) as (account, client):
        calling = asyncio.create_task(client.cancel_all("cash", via="both"))
        await exchange.until(lambda: len(exchange.operations("cancel-all")) == 2)
        await exchange.until(lambda: exchange.operations("cancel-all"))
        exchange.release("rest")
        ack = await calling
    assert "answered" in fates(ack)["rest"]
    assert not exchange.open_orders(account, "cash")


async def test_stream_that_is_not_up(exchange: SimulatedExchange) -> None:
    """REST wins, and nothing is said on the stream afterwards."""
    exchange.faults.add(Hang(), operation="stream", times=None)
    async with trader(exchange, stream=False, retry=RetryPolicy(hedge=5.0)) as (account, client):
        ack = await client.cancel_all("cash", via="both")
    assert not exchange.open_orders(account, "cash")
    assert fates(ack) == {"stream": ["not sent"], "rest": ["answered"]}
    assert ways(exchange) == ["DELETE"]


async def test_both_down_is_not_sent(exchange: SimulatedExchange) -> None:
    """Where neither path reached the venue, the error says so."""
    async with trader(exchange, stream=False) as (_, client):
        await exchange.close()
        with pytest.raises(NotSent) as caught:
            await client.cancel_all("cash", via="both", timeout=0.2)
    assert not caught.value.may_have_executed


async def test_both_unanswered_is_unknown(exchange: SimulatedExchange) -> None:
    """Where neither path answered, every attempt's fate is on the error."""
    exchange.faults.add(Hang(executed=True), **CANCEL, times=None)
    async with trader(exchange) as (_, client):
        with pytest.raises(OutcomeUnknown) as caught:
            await client.cancel_all("cash", via="both", timeout=0.2)
    assert caught.value.may_have_executed
    assert {(a.path, a.fate) for a in caught.value.attempts} == {
        ("stream", "unknown"),
        ("rest", "unknown"),
    }
    assert all(a.expires_at_ms for a in caught.value.attempts)


async def test_hedge_follows_on_another_connection(exchange: SimulatedExchange) -> None:
    """If neither has answered soon, another REST attempt leaves on a connection of its own."""
    exchange.faults.add(Hang(), **CANCEL, times=2)
    async with trader(exchange, retry=RetryPolicy(hedge=0.2)) as (account, client):
        ack = await client.cancel_all("cash", via="both")
    assert not exchange.open_orders(account, "cash")
    assert sorted(ways(exchange)) == ["DELETE", "DELETE", "WS"]
    assert len({r.connection for r in exchange.operations("cancel-all")}) == 3
    assert fates(ack) == {"stream": ["open"], "rest": ["open", "answered"]}


async def test_no_storm_on_both(exchange: SimulatedExchange) -> None:
    """However silent both are: three at most in the early window, and few later."""
    exchange.faults.add(Hang(), **CANCEL, times=None)
    policy = RetryPolicy(early_window=0.3)  # three times the usual, so that a slow machine is fair
    assert (RetryPolicy().early_sends, RetryPolicy().early_window) == (3, 0.1)
    async with trader(exchange, retry=policy) as (_, client):
        with pytest.raises(OutcomeUnknown) as caught:
            await client.cancel_all("cash", via="both", timeout=0.6)
    sent = [attempt.sent_at_ms for attempt in caught.value.attempts]
    assert sum(at - sent[0] < 150 for at in sent) <= 3
    assert 3 < len(sent) < 8


@pytest.mark.parametrize("fault", [UNKNOWN_KEY, DENIED])
async def test_refused_keys_are_not_tried_again(exchange: SimulatedExchange, fault: Action) -> None:
    """REST refused for good while the stream is silent: REST is not asked again and again."""
    exchange.faults.add(fault, **CANCEL, method="DELETE", times=None)
    exchange.faults.add(Ignore(), **CANCEL, method="WS", times=None)
    async with trader(exchange) as (_, client):
        with pytest.raises(MassCancelError):
            await client.cancel_all("cash", via="both", timeout=0.5)
    assert ways(exchange).count("DELETE") <= 2


@pytest.mark.parametrize(
    "answer",
    [
        b'{"m":"error","id":"mine","code":100005,"reason":"INVALID_WS_REQUEST_DATA"}',
        b'{"m":"error","id":"mine","code":200002,"reason":"TOO_MANY_ATTEMPTS"}',
        b'{"m":"error","id":"mine","code":510001,"reason":"SERVER_ERROR"}',
    ],
    ids=["refused", "rate limited", "unavailable"],
)
async def test_trouble_on_the_stream_does_not_hold_up_the_hedge(
    exchange: SimulatedExchange, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream fails at once and REST hangs: the hedge leaves when it would have."""
    monkeypatch.setattr("random.random", lambda: 1.0)
    exchange.faults.add(Answer(body=answer), **CANCEL, method="WS", times=None)
    exchange.faults.add(Hang(), **CANCEL, method="DELETE")
    policy = RetryPolicy(base=60.0, rate_limited_base=60.0, cap=60.0, hedge=0.05)
    async with trader(exchange, retry=policy) as (account, client):
        with contextlib.suppress(MassCancelError):
            await client.cancel_all("cash", via="both", request_id="mine", timeout=0.4)
        assert not exchange.open_orders(account, "cash")


async def test_stream_refuses_and_rest_is_unanswered(exchange: SimulatedExchange) -> None:
    """A refusal on one path does not hide that the other may have been carried out."""
    refusal = b'{"m":"error","id":"mine","code":100005,"reason":"X"}'
    exchange.faults.add(Answer(body=refusal), **CANCEL, method="WS", times=None)
    exchange.faults.add(Hang(executed=True), **CANCEL, method="DELETE", times=None)
    async with trader(exchange) as (_, client):
        with pytest.raises(MassCancelError) as caught:
            await client.cancel_all("cash", via="both", request_id="mine", timeout=0.3)
    assert caught.value.may_have_executed


async def test_refused_on_both_paths(exchange: SimulatedExchange) -> None:
    """Where both say no, that is what is raised, and nothing was cancelled."""
    refusal = b'{"m":"error","id":"mine","code":100008,"reason":"SYMBOL_ERROR"}'
    exchange.faults.add(Answer(body=refusal), **CANCEL, method="WS", times=None)
    exchange.faults.add(
        Answer(200, b'{"code":100008,"reason":"SYMBOL_ERROR"}'),
        **CANCEL,
        method="DELETE",
        times=None,
    )
    async with trader(exchange) as (_, client):
        with pytest.raises(InvalidRequest) as caught:
            await client.cancel_all("cash", via="both", request_id="mine", timeout=2.0)
    assert not caught.value.may_have_executed
    assert {a.fate for a in caught.value.attempts} == {"refused"}


async def test_an_invalid_ack_does_not_win(exchange: SimulatedExchange) -> None:
    """An answer on the stream that is not for what was asked leaves the race to REST."""
    wrong = (
        b'{"m":"order","ac":"MARGIN","action":"cancel-all","status":"Ack",'
        b'"info":{"id":"mine","symbol":"","timestamp":%d}}' % (exchange.now_ms + 1000)
    )
    exchange.faults.add(Answer(body=wrong), **CANCEL, method="WS")
    exchange.faults.add(Hold("rest"), **CANCEL, method="DELETE", times=None)
    async with trader(exchange) as (_, client):
        calling = asyncio.create_task(
            client.cancel_all("cash", via="both", request_id="mine", timeout=5.0)
        )
        await exchange.until(
            lambda: (
                "rest" in exchange.waiting and any(r.answer == "Answer" for r in exchange.requests)
            )
        )
        assert not calling.done()
        exchange.faults.clear()
        exchange.release("rest")
        ack = await calling
    assert ack.account_category == "cash"
    assert "answered" in fates(ack)["rest"]
    assert fates(ack)["stream"] == ["unknown"]


@pytest.mark.parametrize("via", ["stream", "both"])
async def test_venue_without_a_stream(via: Via) -> None:
    """Asking for a stream where there is none is an error, before anything is sent or shut."""
    venue = Trial(rest_url="http://127.0.0.1:9")
    gate = OrderGate()
    async with Client(Credentials("k", "s"), venue=venue) as client:
        (category, *_) = venue.abilities
        with pytest.raises(ConfigurationError):
            await client.cancel_all(category, via=via, gate=gate)
        with pytest.raises(ConfigurationError):
            client.order_updates(category)
    assert not gate.is_shut


@pytest.mark.parametrize("via", ["rest", "stream", "both"])
async def test_a_scope_that_is_none_shuts_the_gate(exchange: SimulatedExchange, via: Via) -> None:
    """Whoever kills in a hurry and misspells it has stopped trading all the same."""
    gate = OrderGate()
    async with trader(exchange, stream=False) as (_, client):
        with pytest.raises(ScopeError):
            await client.cancel_all("nonsense", via=via, gate=gate)
    assert gate.is_shut


@pytest.mark.parametrize("via", ["", "REST", None, 1, "websocket"])
async def test_ways_that_do_not_exist(exchange: SimulatedExchange, via: Any) -> None:
    """Anything else is refused, and nothing is sent."""
    async with trader(exchange, stream=False) as (_, client):
        with pytest.raises(ConfigurationError):
            await client.cancel_all("cash", via=via)
    assert not exchange.operations("cancel-all")


@pytest.mark.parametrize("via", get_args(Via))
async def test_bad_scope_on_every_way(exchange: SimulatedExchange, via: Via) -> None:
    """A symbol that is none of the category's is refused, and nothing is sent."""
    async with trader(exchange, stream=False) as (_, client):
        for category, symbol in (("cash", "BTC-PERP"), ("nonsense", None)):
            with pytest.raises(ScopeError):
                await client.cancel_all(category, symbol, via=via)
    assert not exchange.operations("cancel-all")


async def test_one_symbol_on_both(exchange: SimulatedExchange) -> None:
    """The scope is the same on both paths."""
    async with trader(exchange) as (account, client):
        await client.cancel_all("cash", BTC, via="both")
        await exchange.until(lambda: len(exchange.operations("cancel-all")) == 2)
        await exchange.until(lambda: not exchange.open_orders(account, "cash", BTC))
        assert exchange.open_orders(account, "cash", "ETH/USDT")


async def test_effects_of_both_are_one(exchange: SimulatedExchange) -> None:
    """Both are executed, orders are cancelled once, and one id names both."""
    exchange.faults.add(EffectDelay(HELD), **CANCEL, times=None)
    async with trader(exchange, retry=RetryPolicy(hedge=5.0)) as (_, client):
        await client.cancel_all("cash", via="both", request_id="one")
        await exchange.until(lambda: len(exchange.operations("cancel-all")) == 2)
        await exchange.until(lambda: all(r.executed for r in exchange.operations("cancel-all")))
        exchange.engine.take_effect(now_ms=exchange.now_ms)
        log = exchange.log
    received = [r for r in log if r.what is What.CANCEL_ALL_RECEIVED]
    cancelled = [r.order_id for r in log if r.what is What.CANCELLED]
    assert [r.request_id for r in received] == ["one", "one"]
    assert len(cancelled) == len(set(cancelled)) == 3


async def test_cancelled_task(exchange: SimulatedExchange) -> None:
    """Task cancellation is obeyed at once, on both paths, and leaves no task."""
    exchange.faults.add(Hang(), **CANCEL, times=None)
    async with trader(exchange) as (_, client):
        before = asyncio.all_tasks()
        calling = asyncio.create_task(client.cancel_all("cash", via="both"))
        await exchange.until(lambda: len(exchange.operations("cancel-all")) >= 2)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        left = asyncio.all_tasks() - before
        assert not [t for t in left if "driver" in repr(t) or "Client" in repr(t)]


async def test_bad_key_on_both(exchange: SimulatedExchange) -> None:
    """A key that is not accepted is told as such, promptly."""
    account = account_of(exchange)
    async with (
        cold_pool() as pool,
        client_of(exchange, account, pool=pool) as good,
    ):
        bad = Client(Credentials(account.api_key, "wrong"), venue=good.venue, pool=pool)
        async with bad:
            with pytest.raises(AuthenticationError) as caught:
                await bad.cancel_all("cash", via="both", timeout=3.0)
    assert not caught.value.may_have_executed
    assert len(exchange.open_orders(account, "cash")) == 2


async def test_late_ack_of_the_loser_changes_nothing(exchange: SimulatedExchange) -> None:
    """The stream's Ack comes long after REST won: the next call has its own."""
    exchange.faults.add(LateAck("late"), **CANCEL, method="WS")
    async with trader(exchange) as (_, client):
        first = await client.cancel_all("cash", via="both", request_id="first")
        await exchange.until(lambda: "late" in exchange.waiting)
        exchange.release("late")
        second = await client.cancel_all("cash", via="stream", request_id="second")
    assert (first.request_id, second.request_id) == ("first", "second")
