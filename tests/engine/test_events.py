"""Events: who listens learns of calls and attempts, and harms nothing."""

import asyncio
import logging
from collections.abc import Iterator
from typing import TypeVar

import msgspec
import pytest

import masscancel
import masscancel.sync
from masscancel import (
    Credentials,
    DeadMansSwitch,
    MassCancelError,
    NotFlat,
    OrderGate,
    RetryPolicy,
    ScopeError,
    Target,
    cancel_as_completed,
    cancel_many,
    cancel_on_exit,
    killing,
)
from masscancel.events import (
    AttemptEnded,
    AttemptSent,
    CallEnded,
    CallStarted,
    Event,
    GateOpened,
    GateShut,
    KillEnded,
    KillStarted,
    SwitchFired,
    TargetEnded,
)
from masscancel.sim import Answer, Hang, OnCancel, Script, SimulatedExchange
from support import SECRETS, account_of, client_of

T = TypeVar("T", bound=Event)

pytestmark = pytest.mark.asyncio


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    """All that is published in the process during the test."""
    events: list[Event] = []
    unsubscribe = masscancel.subscribe(events.append)
    yield events
    unsubscribe()


def kinds(events: list[Event], *wanted: type[Event]) -> list[type[Event]]:
    """The kinds of the events, of some kinds only."""
    return [type(event) for event in events if isinstance(event, wanted or (Event,))]


async def test_a_call_tells_its_story(exchange: SimulatedExchange, heard: list[Event]) -> None:
    """Started, sent, ended, ended: with one id, the account, the scope, the fates."""
    exchange.faults.add(Answer(503), operation="cancel-all")
    async with client_of(exchange, account_of(exchange)) as client:
        await client.cancel_all("cash", "BTC/USDT")
    started = next(event for event in heard if isinstance(event, CallStarted))
    story = [event for event in heard if getattr(event, "call_id", "") == started.call_id]
    sent_and_ended = [AttemptSent, AttemptEnded]
    assert kinds(story) == [CallStarted, *sent_and_ended, *sent_and_ended, CallEnded]
    assert (started.account, str(started.scope)) == ("group-0", "cash BTC/USDT")
    fates = [event.fate for event in story if isinstance(event, AttemptEnded)]
    assert fates == ["unknown", "answered"]
    end = story[-1]
    assert isinstance(end, CallEnded)
    assert (end.ok, end.outcome, end.attempts) == (True, "acknowledged", 2)


async def test_the_end_of_a_lost_race_is_told(exchange: SimulatedExchange) -> None:
    """An attempt that another has overtaken ends, too: at the deadline, if nobody answers."""
    exchange.faults.add(Hang(), operation="cancel-all")
    ended: asyncio.Queue[AttemptEnded | CallEnded] = asyncio.Queue()
    quick = RetryPolicy(patience=0.01)
    async with client_of(exchange, account_of(exchange), retry=quick) as client:

        def listen(event: Event) -> None:
            if isinstance(event, AttemptEnded | CallEnded):
                ended.put_nowait(event)

        client.pool.subscribe(listen)
        await client.cancel_all("cash", timeout=0.3)
        events = [await ended.get() for _ in range(3)]
    second, call, first = events
    assert isinstance(second, AttemptEnded)
    assert isinstance(call, CallEnded)
    assert isinstance(first, AttemptEnded)
    assert [(each.attempt, each.fate) for each in (second, first)] == [
        (2, "answered"),
        (1, "unknown"),
    ]
    assert (second.http_status, second.origin, second.cancels) == (200, exchange.rest_url, True)
    assert (first.http_status, first.path, first.error) == (None, "rest", "")


async def test_the_end_of_an_attempt_says_why(
    exchange: SimulatedExchange, heard: list[Event]
) -> None:
    """The class of the error, its sentence, the status of the reply."""
    exchange.faults.add(Answer(503), operation="cancel-all")
    async with client_of(exchange, account_of(exchange)) as client:
        await client.cancel_all("cash")
    first, _ = [each for each in heard if isinstance(each, AttemptEnded) and each.cancels]
    assert (first.error, first.http_status) == ("VenueUnavailable", 503)
    assert "503" in first.reason
    assert first.elapsed > 0


async def test_a_failure_is_told(exchange: SimulatedExchange, heard: list[Event]) -> None:
    """The end of a call that failed says what is known."""
    async with client_of(exchange, account_of(exchange)) as client:
        with pytest.raises(ScopeError):
            await client.cancel_all("nonsense")
    end = heard[-1]
    assert isinstance(end, CallEnded)
    assert (end.ok, end.error, end.attempts, end.may_have_executed) == (
        False,
        "ScopeError",
        0,
        False,
    )


async def test_a_pool_tells_its_own(exchange: SimulatedExchange) -> None:
    """A listener of one pool hears nothing of another's, and nothing after it has left."""
    account = account_of(exchange)
    events: list[Event] = []
    async with client_of(exchange, account) as one, client_of(exchange, account) as two:
        unsubscribe = one.pool.subscribe(events.append)
        await two.cancel_all("cash")
        assert events == []
        await one.cancel_all("cash")
        assert CallEnded in kinds(events)
        unsubscribe()
        unsubscribe()
        events.clear()
        await one.cancel_all("cash")
        assert events == []


async def test_a_listener_that_raises_harms_nothing(
    exchange: SimulatedExchange, heard: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Its bug is logged; the call goes on, and others are told."""

    def broken(_: Event) -> None:
        raise RuntimeError("a bug")

    async with client_of(exchange, account_of(exchange)) as client:
        client.pool.subscribe(broken)
        await client.cancel_all("cash")
    assert CallEnded in kinds(heard)
    assert "a listener has failed" in caplog.text


async def test_events_are_plain_data(exchange: SimulatedExchange, heard: list[Event]) -> None:
    """Each can be written as JSON, and none holds a secret."""
    exchange.faults.add(Answer(401, b'{"code":200001,"message":"no"}'), operation="cancel-all")
    async with client_of(exchange, account_of(exchange)) as client:
        with pytest.raises(MassCancelError):
            await client.cancel_all("cash")
    text = msgspec.json.encode(heard).decode()
    assert '"type":"CallEnded"' in text
    assert not any(secret in text for secret in SECRETS)


async def test_logging_says_what_a_person_wants_to_read(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """INFO: one line for each call, with who, scope, outcome; DEBUG: each attempt. No secret."""
    caplog.set_level(logging.DEBUG, "masscancel")
    async with client_of(exchange, account_of(exchange)) as client:
        await client.cancel_all("cash", "BTC/USDT")
    lines = [record.message for record in caplog.records if record.levelno == logging.INFO]
    assert any("cancel_all cash BTC/USDT on ascendex [group-0]" in line for line in lines)
    assert any("AttemptSent" in record.message for record in caplog.records)
    assert not any(secret in caplog.text for secret in SECRETS)


async def test_failures_that_nobody_raises_are_logged(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """A report that is dropped unread leaves an ERROR for each target that failed."""
    exchange.faults.add(Answer(400, b'{"code":300012}'), operation="cancel-all", times=None)
    async with client_of(exchange, account_of(exchange)) as client:
        await cancel_many(Target(client, "cash"))
    lines = [
        r.levelname for r in caplog.records if "cash [group-0]: the cancel failed" in r.message
    ]
    assert lines == ["ERROR"]


async def test_a_call_that_its_caller_ends_is_told(
    exchange: SimulatedExchange, heard: list[Event]
) -> None:
    """Whoever follows calls by their ids sees each end; what had been sent may be carried out."""
    exchange.faults.add(Hang(), operation="cancel-all")
    async with client_of(exchange, account_of(exchange)) as client:
        call = asyncio.create_task(client.cancel_all("cash"))
        await exchange.until(lambda: exchange.operations("cancel-all"))
        call.cancel()
        await asyncio.wait((call,))
    (end,) = [event for event in heard if isinstance(event, CallEnded)]
    assert (end.ok, end.error, end.may_have_executed) == (False, "CancelledError", True)


async def test_gates_are_told(heard: list[Event]) -> None:
    """A gate says once that it is shut, and that it has opened."""
    gate = OrderGate("desk")
    gate.shut()
    gate.shut()
    gate.reopen()
    assert heard == [GateShut(gate="desk"), GateOpened(gate="desk")]


async def test_the_gate_is_told_before_anybody_else(exchange: SimulatedExchange) -> None:
    """When a listener hears that an attempt leaves, the gate knows of it already."""
    gate = OrderGate()
    unresolved: list[float] = []
    async with client_of(exchange, account_of(exchange)) as client:
        client.pool.subscribe(lambda _: unresolved.append(gate.unresolved_for()))
        await client.cancel_all("cash", gate=gate)
        await asyncio.sleep(0)
    assert unresolved[1] > 0  # at AttemptSent
    assert unresolved[-1] == 0


# Kills.


def of_type(heard: list[Event], kind: type[T]) -> list[T]:
    """The events of one kind."""
    return [event for event in heard if isinstance(event, kind)]


async def test_a_fan_out_is_a_kill(exchange: SimulatedExchange, heard: list[Event]) -> None:
    """Its beginning, each target, its end; and its calls carry its id."""
    no = Answer(403, b'{"code":200015}')
    exchange.faults.add(no, operation="cancel-all", path="margin", times=None)
    async with client_of(exchange, account_of(exchange)) as client:
        targets = [Target(client, name) for name in ("cash", "margin", "nonsense")]
        await cancel_many(targets)
        await client.cancel_all("cash")
    (begun,), (ended,) = of_type(heard, KillStarted), of_type(heard, KillEnded)
    assert (begun.what, begun.reason) == ("3 targets", "")
    assert (ended.targets, ended.failed, ended.unknown) == (3, 2, 0)
    assert {each.error for each in of_type(heard, TargetEnded)} == {
        *("", "PermissionDenied", "ScopeError")
    }
    ids = [each.kill_id for each in of_type(heard, CallStarted)]
    assert ids == [begun.kill_id, begun.kill_id, ""]


async def test_what_is_cancelled_for_one_reason_is_one_kill(
    exchange: SimulatedExchange, heard: list[Event]
) -> None:
    """Fan-outs, single calls, calls without await, a block within the block."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        with killing("drawdown", actor="risk", what="the desk") as kill:
            await cancel_many(Target(client, "cash"))
            async for _ in cancel_as_completed(Target(client, "margin")):
                pass
            with killing("another reason"):
                await client.cancel_all("futures")
            await asyncio.to_thread(
                masscancel.sync.cancel_all,
                *(Credentials(account.api_key, account.api_secret), client.venue, "cash"),
            )
        await client.cancel_all("cash")
    (begun,) = of_type(heard, KillStarted)
    assert (begun.kill_id, begun.reason, begun.actor) == (kill.id, "drawdown", "risk")
    ids = [each.kill_id for each in of_type(heard, CallStarted)]
    assert ids == [kill.id] * 4 + [""]
    (ended,) = of_type(heard, KillEnded)
    assert (ended.targets, ended.error) == (2, "")


async def test_a_kill_that_an_exception_ends(heard: list[Event]) -> None:
    """It goes on to its owner, and the end says its name."""
    with pytest.raises(RuntimeError), killing("a test"):
        raise RuntimeError
    with killing("the next"):
        pass
    assert [each.error for each in of_type(heard, KillEnded)] == ["RuntimeError", ""]
    assert len(of_type(heard, KillStarted)) == 2


async def test_protections_say_why_they_kill(
    exchange: SimulatedExchange, heard: list[Event]
) -> None:
    """The end of a block, and silence."""
    async with client_of(exchange, account_of(exchange)) as client:
        async with cancel_on_exit(Target(client, "cash")):
            pass
        async with DeadMansSwitch(Target(client, "margin")):
            pass  # left without being disarmed
    reasons = [each.reason for each in of_type(heard, KillStarted)]
    assert reasons[0] == "cancel_on_exit: the block has ended"
    assert reasons[1].startswith("the dead man's switch: ")
    assert of_type(heard, SwitchFired)
    assert all(each.kill_id for each in of_type(heard, CallStarted))


async def test_the_end_of_a_call_names_orders(
    exchange: SimulatedExchange, heard: list[Event]
) -> None:
    """Ids that were cancelled, those that are still open, books that were left out."""
    account = account_of(exchange)
    ids = {order.order_id for order in exchange.open_orders(account, "cash")}
    exchange.engine.effect_delay_ms = 60  # so that a listing sees them first
    async with client_of(exchange, account) as client:
        await client.cancel_all_and_confirm("cash", settle=0.01)
        exchange.place(account, "margin", "BTC/USDT", script=Script(on_cancel=OnCancel.IGNORE))
        with pytest.raises(NotFlat) as caught:
            await client.cancel_all_and_confirm("margin", settle=0.01, timeout=0.5)
    flat, not_flat = of_type(heard, CallEnded)
    assert {*(flat.cancelled or ())} == ids
    assert (flat.filled, flat.residual, flat.books) == ((), (), ("ordinary", "stop"))
    assert flat.received_at_ms
    assert not_flat.residual == tuple(order.order_id for order in caught.value.residual) != ()
