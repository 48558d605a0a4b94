"""Every promise on every venue: the same tests, in each account category.

What the exchange executed is the judge. What only one venue has is tested in its own file.
"""

import ast
import asyncio
import inspect
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

import masscancel
import venues_support
from masscancel import (
    AuthenticationError,
    Client,
    Credentials,
    DeadlineExceeded,
    DeadMansSwitch,
    Halted,
    InvalidRequest,
    MassCancelError,
    NotFlat,
    NotSent,
    OrderGate,
    OutcomeUnknown,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    ScopeError,
    SessionPool,
    Target,
    Unproven,
    VenueUnavailable,
    cancel_many,
    cancel_on_exit,
)
from masscancel.cli.options import Account as Options
from masscancel.cli.options import settings_of
from masscancel.sim import (
    HELD,
    Answer,
    Drop,
    Hang,
    Hold,
    OnCancel,
    Received,
    Script,
    SimulatedExchange,
)
from masscancel.venue import Stamp
from masscancel.venues import VENUES, load
from venues_support import (
    KEY,
    KINDS,
    MARKETS,
    OTHER_SECRET,
    SECRET,
    SETTLE,
    Desk,
    Echo,
    Ledger,
    Market,
    Trial,
    TrialDialect,
    desk_of,
    signatures,
)

SCOPES = ("whole", "one")
STAYS = Script(on_cancel=OnCancel.IGNORE)
FILLS = Script(on_cancel=OnCancel.FILL)
LATE = Script(ack_delay_ms=HELD)
#: Nothing that any venue takes for a symbol.
BAD_SYMBOLS = ("", " ", "BTC USD", "../..", "BTC\r\nX: y", "BTC\n", "X" * 100, "?", "BTC&USD", 7)
#: Tries again soon, so that a test takes no long time.
QUICK = RetryPolicy(base=0.01, cap=0.02, rate_limited_base=0.01, early_sends=20)
#: Tries once: no attempt follows in the last ``base`` seconds of a call.
ONCE = RetryPolicy(base=60.0)
NONSENSE = (b"", b"<html>hello</html>", b"null")
BAD_CATEGORIES = ("", "nonsense", "CASH", None, 7)

#: How far from its beginning a venue's refusal has the key in it: two are so that what is cut to
#: the length of a message is cut within the key.
ECHOES = {"echo": 0, "cut echo": 285, "cut code": 278}

every_market = pytest.mark.parametrize("market", MARKETS, ids=str)
every_scope = pytest.mark.parametrize("scope", SCOPES)


@pytest_asyncio.fixture
async def desk(market: Market) -> AsyncIterator[Desk]:
    """A client of a filled account."""
    async with desk_of(market, options={"retry": QUICK}) as opened:
        yield opened


@pytest.fixture
def sweeps_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays listed is swept again soon, so that a test takes no long time."""
    monkeypatch.setattr("masscancel.confirm.SWEEP_AGAIN", 0.05)


@pytest.fixture
def settles_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listings of a proof that nobody gives a time for are close together."""
    for where in ("masscancel.guard", "masscancel.switch"):
        monkeypatch.setattr(f"{where}.cancel_many", partial(cancel_many, settle=SETTLE))


def symbol_of(market: Market, scope: str) -> str | None:
    """The symbol that a scope is about."""
    return market.symbols[0] if scope == "one" else None


def cancels_first(desk: Desk, scope: str) -> bool:
    """Whether the first request of a cancel is one that acts."""
    return scope not in desk.market.lists_first


def answered(desk: Desk, *operations: str) -> list[Received]:
    """The requests of these operations that have an answer."""
    return [each for each in desk.exchange.operations(*operations) if each.answer == "answered"]


# --- abilities ------------------------------------------------------------------------------------


def test_every_venue_is_here() -> None:
    """All that are registered, with all of their categories."""
    assert {name: load(name) for name in VENUES} == KINDS
    assert {(market.name, market.category) for market in MARKETS} == {
        (name, category) for name, kind in KINDS.items() for category in kind.abilities
    }


@every_market
@pytest.mark.asyncio
async def test_abilities_are_what_the_venue_can_do(desk: Desk, market: Market) -> None:
    """`stream` and `switch` are there exactly where the abilities say so, and send nothing else."""
    venue, abilities = desk.client.venue, market.abilities
    assert (venue.stream(market.category) is not None) is abilities.stream
    for scope, covered in (("whole", "account"), ("one", "symbol")):
        flow = venue.switch(market.category, symbol_of(market, scope), 60_000)
        if abilities.switch == covered:
            assert len(next(flow)) == 1
        else:
            with pytest.raises(ScopeError):
                next(flow)
    with pytest.raises(ScopeError):
        venue.stream("nonsense")


#: What each origin allows in a minute, by address, in the unit that a probe costs one of; the
#: sources stand beside the venues' probes. Where nothing is documented, or it is free: none.
ALLOWED = {
    "binance-spot": 6000,
    "binance-usdm": 2400,
    "bitmex-account": 30,
    "kraken-spot": 60,
}


@every_market
@pytest.mark.asyncio
async def test_keeping_warm_is_well_under_the_limits(desk: Desk, market: Market) -> None:
    """Three probes a round, and the shortest wait in between, are at most half of what may be."""
    pool = inspect.signature(SessionPool).parameters
    probe = desk.client.venue.probe(desk.client.venue.origin(market.category))
    interval = 0.8 * max(pool["warm_interval"].default, probe.interval)
    per_minute = pool["warm"].default * 60 / interval
    assert per_minute <= ALLOWED.get(str(market), 1000) / 2
    assert 1.2 * interval < 45  # well before idle connections are closed


# --- the cancel and the listing -------------------------------------------------------------------


@every_market
@every_scope
@pytest.mark.asyncio
async def test_cancels_exactly_the_scope(desk: Desk, scope: str) -> None:
    """Orders of the scope, of each type, and nothing else of anybody's."""
    symbol = symbol_of(desk.market, scope)
    expected = {order.order_id for order in desk.open(symbol)}
    before = Ledger(desk.exchange)
    ack = await desk.client.cancel_all(desk.category, symbol)
    assert before - Ledger(desk.exchange) == expected
    assert len(expected) == len(desk.market.orders) * (1 if symbol else 2)
    assert (ack.account_category, ack.symbol) == (desk.category, symbol or "")
    assert {attempt.fate for attempt in ack.attempts} == {"answered"}
    assert any(attempt.acts for attempt in ack.attempts)
    assert ack.raw
    assert not desk.exchange.operations("")


@every_market
@every_scope
@pytest.mark.asyncio
async def test_nothing_open_is_acknowledged(market: Market, scope: str) -> None:
    """An account that is flat is no failure; others' orders stay."""
    async with desk_of(market, empty=True) as desk:
        before = Ledger(desk.exchange)
        ack = await desk.client.cancel_all(market.category, symbol_of(market, scope))
        assert not before - Ledger(desk.exchange)
        assert ack.account_category == market.category


@every_market
@every_scope
@pytest.mark.asyncio
async def test_lists_exactly_the_scope(desk: Desk, scope: str) -> None:
    """Every open order of the scope, by the ids that later proofs are about."""
    symbol = symbol_of(desk.market, scope)
    listed = await desk.client.open_orders(desk.category, symbol)
    assert {order.order_id for order in listed} == {desk.id_of(o) for o in desk.open(symbol)}
    assert {order.symbol for order in listed} == {order.symbol for order in desk.open(symbol)}
    assert all(order.side == "buy" and order.quantity == 1 for order in listed)
    assert not desk.acting()


@every_market
@pytest.mark.asyncio
async def test_more_orders_than_a_small_reply_holds(desk: Desk) -> None:
    """An answer that lists what was cancelled is read whole."""
    for _ in range(300):
        desk.place(desk.market.symbols[0])
    assert len(await desk.client.open_orders(desk.category)) > 300
    ack = await desk.client.cancel_all(desk.category)
    assert {attempt.fate for attempt in ack.attempts} == {"answered"}
    assert desk.open() == []


@every_market
@pytest.mark.asyncio
async def test_bad_scopes_send_nothing(desk: Desk) -> None:
    """Neither a category nor a symbol that can't be one gets near a request."""
    client, symbol = desk.client, desk.market.symbols[0]
    bad: list[tuple[Any, Any]] = [(desk.category, each) for each in BAD_SYMBOLS]
    bad += [(category, each) for category in BAD_CATEGORIES for each in (None, symbol)]
    for scope in bad:
        for call in (client.cancel_all, client.open_orders, client.cancel_all_and_confirm):
            with pytest.raises(ScopeError) as caught:
                await call(*scope)
            assert not caught.value.may_have_executed
        with pytest.raises(ScopeError):
            await client.set_switch(*scope, timeout_ms=60_000)
    assert desk.exchange.requests == []


@every_market
@pytest.mark.parametrize("call", ["cancel_all", "open_orders", "cancel_all_and_confirm"])
@pytest.mark.asyncio
async def test_an_unknown_symbol_is_never_a_silent_success(desk: Desk, call: str) -> None:
    """One that is well-formed, but not on the venue's list, is an error, and cancels nothing."""
    before = Ledger(desk.exchange)
    with pytest.raises((ScopeError, InvalidRequest)):
        await getattr(desk.client, call)(desk.category, desk.market.unknown)
    assert not before - Ledger(desk.exchange)


# --- refusals -------------------------------------------------------------------------------------


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_wrong_secret_is_refused_once(market: Market, scope: str) -> None:
    """Nothing is asked twice, and no order is touched."""
    async with desk_of(market, secret=OTHER_SECRET) as desk:
        before = Ledger(desk.exchange)
        with pytest.raises(AuthenticationError) as caught:
            await desk.client.cancel_all(market.category, symbol_of(market, scope))
        assert not before - Ledger(desk.exchange)
        assert not caught.value.may_have_executed
        asked = [(each.method, each.raw_path.partition("?")[0]) for each in desk.signed()]
        assert len(asked) == len(set(asked))
        assert len({each.operation for each in desk.signed()}) == 1


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_rate_limit_that_outlasts_the_deadline(desk: Desk, scope: str) -> None:
    """It is told at once, with how long to wait; nothing was cancelled."""
    before = Ledger(desk.exchange)
    limit = Answer(429, b"{}", (("Retry-After", "60"),))
    desk.fault(limit, times=None)
    with pytest.raises(RateLimited) as caught:
        await desk.client.cancel_all(desk.category, symbol_of(desk.market, scope))
    assert caught.value.retry_after == 60
    assert not before - Ledger(desk.exchange)
    assert {each.fate for each in caught.value.attempts if each.acts} == {"refused"}
    assert not caught.value.may_have_executed


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_rate_limit_within_the_deadline(desk: Desk, scope: str) -> None:
    """It is waited for, and the cancel goes out again."""
    symbol = symbol_of(desk.market, scope)
    desk.fault(Answer(429, b"{}", (("Retry-After", "0"),)))
    ack = await desk.client.cancel_all(desk.category, symbol)
    assert "refused" in {attempt.fate for attempt in ack.attempts}
    assert desk.open(symbol) == []


# --- trouble on the way ---------------------------------------------------------------------------


class Ticking(SessionPool):
    """A pool whose stamps are a second apart, so that two of them can be told apart."""

    stamped = 0

    def stamp(self, origin: str, api_key: str = "", nonces_per_second: int = 0) -> Stamp:
        """One more second with each, and never ahead of the time."""
        stamp = super().stamp(origin, api_key, nonces_per_second)
        self.stamped += 1
        return msgspec.structs.replace(stamp, time_ms=stamp.time_ms + 1000 * self.stamped - 4000)


@every_market
@pytest.mark.asyncio
async def test_a_lost_reply_is_asked_for_again(desk: Desk) -> None:
    """With a stamp and a signature of its own; the error before it is told by its fate."""
    symbol = desk.market.symbols[0]
    desk.fault(Drop(executed=True))
    async with (
        Ticking(warm=0) as pool,
        Client(Credentials(KEY, SECRET), venue=desk.client.venue, pool=pool) as client,
    ):
        ack = await client.cancel_all(desk.category, symbol)
    assert desk.open(symbol) == []
    assert "unknown" in {attempt.fate for attempt in ack.attempts if attempt.acts}
    lost = next(each for each in desk.acting() if each.answer == "dropped")
    same = [
        each for each in desk.acting() if (lost.method, path(lost)) == (each.method, path(each))
    ]
    assert len(same) >= 2
    if desk.market.stamped:
        assert len({frozenset(signatures(each)) for each in same}) == len(same)
        assert all(signatures(each) for each in same)


def path(request: Received) -> str:
    """The path of a request, without the query."""
    return request.raw_path.partition("?")[0]


@every_market
@every_scope
@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.asyncio
async def test_a_failing_venue_is_asked_again(desk: Desk, scope: str, status: int) -> None:
    """A 5xx says nothing about the outcome, and is followed by another attempt."""
    symbol = symbol_of(desk.market, scope)
    desk.fault(Answer(status, b"<html>oops</html>", (("Content-Type", "text/html"),)))
    ack = await desk.client.cancel_all(desk.category, symbol)
    assert {"unknown", "answered"} <= {attempt.fate for attempt in ack.attempts if attempt.acts}
    assert desk.open(symbol) == []


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_venue_that_keeps_failing(desk: Desk, scope: str) -> None:
    """If it will not be asked again in time, the error says that it may have been carried out."""
    desk.fault(Answer(503, b"", (("Retry-After", "60"),)), times=None)
    with pytest.raises(VenueUnavailable) as caught:
        await desk.client.cancel_all(desk.category, symbol_of(desk.market, scope))
    assert caught.value.may_have_executed


@every_market
@every_scope
@pytest.mark.asyncio
async def test_the_deadline(desk: Desk, scope: str) -> None:
    """A venue that never answers: unknown where a cancel was written, nothing done where not."""
    desk.exchange.faults.add(Hang(), api_key=KEY, times=None)
    before = Ledger(desk.exchange)
    with pytest.raises(DeadlineExceeded) as caught:
        await desk.client.cancel_all(desk.category, symbol_of(desk.market, scope), timeout=0.2)
    assert isinstance(caught.value, OutcomeUnknown)
    assert caught.value.may_have_executed is cancels_first(desk, scope)
    assert not before - Ledger(desk.exchange)


@every_market
@every_scope
@pytest.mark.parametrize("skew_ms", [95_000, -95_000])
@pytest.mark.asyncio
async def test_a_clock_that_is_off(desk: Desk, scope: str, skew_ms: int) -> None:
    """By 95 s either way, and never measured before: still acknowledged."""
    symbol = symbol_of(desk.market, scope)
    desk.exchange.skew_ms = skew_ms
    await desk.client.cancel_all(desk.category, symbol)
    assert desk.open(symbol) == []


@every_market
@every_scope
@pytest.mark.asyncio
async def test_an_answer_that_is_not_understood(desk: Desk, scope: str) -> None:
    """Is unknown, and tried again within the time; never taken for an Ack."""
    symbol = symbol_of(desk.market, scope)
    for body in NONSENSE:
        desk.fault(Answer(200, body))
    ack = await desk.client.cancel_all(desk.category, symbol)
    fates = [attempt.fate for attempt in ack.attempts if attempt.acts]
    assert fates.count("unknown") == len(NONSENSE)
    assert desk.open(symbol) == []


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_venue_that_makes_no_sense(market: Market, scope: str) -> None:
    """If there is no time to ask again, the error says that it may have been carried out."""
    async with desk_of(market, options={"retry": ONCE}) as desk:
        desk.fault(Answer(200, b"{}"), times=None)
        with pytest.raises(ProtocolError) as caught:
            await desk.client.cancel_all(market.category, symbol_of(market, scope))
        assert caught.value.may_have_executed


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_listing_that_is_not_understood(desk: Desk, scope: str) -> None:
    """Is never taken for an empty one."""
    symbol = symbol_of(desk.market, scope)
    for body in (*NONSENSE, b"{}"):
        desk.fault(Answer(200, body), acting=False)
    listed = await desk.client.open_orders(desk.category, symbol)
    assert {order.order_id for order in listed} == {desk.id_of(o) for o in desk.open(symbol)}
    assert len(desk.exchange.operations("open-orders")) > len(NONSENSE) + 1


@pytest.mark.parametrize("market", [m for m in MARKETS if m.asks_after_ack], ids=str)
@pytest.mark.asyncio
async def test_a_side_question_does_not_hold_the_ack_up(market: Market) -> None:
    """An Ack that has come is not lost, and not kept back, where the check of a symbol hangs."""
    async with desk_of(market, empty=True) as desk:
        desk.exchange.faults.add(Hang(), operation=market.asks_after_ack, times=None)
        async with asyncio.timeout(3):
            ack = await desk.client.cancel_all(market.category, market.symbols[0], timeout=30)
        assert ack.symbol == market.symbols[0]


# --- secrets --------------------------------------------------------------------------------------


def shown(problem: BaseException) -> Iterator[str]:
    """What a person or a tool sees of an error."""
    yield from (str(problem), repr(problem), str(problem.args), str(vars(problem)))
    yield from getattr(problem, "__notes__", ())
    frames = traceback.TracebackException.from_exception(problem, capture_locals=True)
    yield from frames.format()


@every_market
@every_scope
@pytest.mark.parametrize("trouble", ["refused", *ECHOES, "lost", "nonsense"])
@pytest.mark.asyncio
async def test_no_error_shows_a_secret(
    market: Market, scope: str, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither key nor secret nor signature, wherever it travels, even if the venue quotes it."""
    caplog.set_level("DEBUG")
    async with desk_of(
        market,
        secret=OTHER_SECRET if trouble == "refused" else SECRET,
        dialect=Echo(market, ECHOES[trouble]) if trouble in ECHOES else None,
        options={"retry": ONCE},
    ) as desk:
        if trouble == "lost":
            desk.exchange.faults.add(Drop(), api_key=KEY, times=None)
        elif trouble == "nonsense":
            desk.exchange.faults.add(Answer(200, b'{"a":'), api_key=KEY, times=None)
        error = await failure(desk, scope)
        seen = [*shown(error), caplog.text, repr(desk.client), repr(desk.client.venue)]
        secrets = {KEY, SECRET, OTHER_SECRET}.union(*map(signatures, desk.signed()))
        requests = len(desk.signed())
    assert requests
    assert len(secrets) > 3
    assert not [text for text in seen if any(secret[:12] in text for secret in secrets)]


async def failure(desk: Desk, scope: str) -> MassCancelError:
    """The error of a cancel; what is caught here has no frame of a test in it."""
    try:
        await desk.client.cancel_all(desk.category, symbol_of(desk.market, scope))
    except MassCancelError as error:
        return error
    pytest.fail("it went well")


# --- proof ----------------------------------------------------------------------------------------


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_late_order_is_swept(desk: Desk, scope: str) -> None:
    """One that is acknowledged after the first sweep is found, and swept."""
    symbol = symbol_of(desk.market, scope)
    late = desk.place(desk.market.symbols[0], LATE)

    async def surface() -> None:
        await desk.exchange.until(lambda: answered(desk, *desk.market.acting))
        swept_at = len(desk.exchange.requests)
        await desk.exchange.until(
            lambda: any(
                each.operation == "open-orders" and each.answer == "answered"
                for each in desk.exchange.requests[swept_at:]
            )
        )
        desk.exchange.engine.acknowledge(late.order_id, now_ms=desk.exchange.now_ms)

    surfacing = asyncio.create_task(surface())
    proof = await desk.client.cancel_all_and_confirm(desk.category, symbol, settle=SETTLE)
    await surfacing
    assert desk.open(symbol) == []
    assert proof.sweeps >= 2
    order = desk.exchange.engine.order(late.order_id)
    assert order is not None
    assert order.status.is_final


@every_market
@every_scope
@pytest.mark.asyncio
async def test_an_order_that_never_cancels(desk: Desk, scope: str, sweeps_often: None) -> None:
    """Every type of it is in the residual, by its id, when the time is up."""
    symbol = symbol_of(desk.market, scope)
    stays = [
        desk.place(desk.market.symbols[0], STAYS, order_type=each) for each in desk.market.orders
    ]
    with pytest.raises(NotFlat) as caught:
        await desk.client.cancel_all_and_confirm(desk.category, symbol, timeout=0.3, settle=SETTLE)
    residual = {order.order_id for order in caught.value.residual}
    assert residual == {desk.id_of(order) for order in stays}
    assert caught.value.may_have_executed


@every_market
@every_scope
@pytest.mark.asyncio
async def test_effects_that_lag(desk: Desk, scope: str) -> None:
    """The proof waits for what the Ack does not say."""
    symbol = symbol_of(desk.market, scope)
    desk.exchange.engine.effect_delay_ms = 30
    proof = await desk.client.cancel_all_and_confirm(desk.category, symbol, settle=SETTLE)
    assert desk.open(symbol) == []
    assert proof.acks
    assert not proof.streamed


@every_market
@every_scope
@pytest.mark.asyncio
async def test_a_list_that_can_not_be_read(desk: Desk, scope: str) -> None:
    """Nothing is proven without it, whatever has been acknowledged."""
    symbol = symbol_of(desk.market, scope)
    desk.fault(Answer(503, b""), acting=False, times=None)
    with pytest.raises(Unproven):
        await desk.client.cancel_all_and_confirm(desk.category, symbol, timeout=0.1, settle=SETTLE)


@every_market
@every_scope
@pytest.mark.asyncio
async def test_fills_on_the_way_out(desk: Desk, scope: str, sweeps_often: None) -> None:
    """What was listed, and then filled under the cancel, is reported as filled."""
    symbol = symbol_of(desk.market, scope)
    expected = {desk.id_of(order) for order in desk.open(symbol)}
    fills = desk.place(desk.market.symbols[0], FILLS)
    desk.exchange.engine.effect_delay_ms = HELD  # until the orders have been listed

    async def let_go() -> None:
        await desk.exchange.until(lambda: answered(desk, *desk.market.acting))
        before = len(desk.exchange.requests)
        await desk.exchange.until(
            lambda: any(
                each.operation == "open-orders" and each.answer == "answered"
                for each in desk.exchange.requests[before:]
            )
        )
        desk.exchange.engine.effect_delay_ms = 0

    letting = asyncio.create_task(let_go())
    proof = await desk.client.cancel_all_and_confirm(desk.category, symbol, settle=SETTLE)
    await letting
    assert proof.filled == (fills.order_id,)
    assert proof.cancelled is not None
    assert set(proof.cancelled) == expected
    assert desk.open(symbol) == []


@every_market
@every_scope
@pytest.mark.asyncio
async def test_the_gate(desk: Desk, scope: str) -> None:
    """It is shut at once, and what is under way through it is waited for, and swept."""
    symbol, gate = symbol_of(desk.market, scope), OrderGate()
    order = desk.place(desk.market.symbols[0], LATE)
    arriving = asyncio.Event()

    async def send() -> None:
        async with gate.order():
            await arriving.wait()

    sending = asyncio.create_task(send())
    await asyncio.sleep(0)
    proving = asyncio.create_task(
        desk.client.cancel_all_and_confirm(desk.category, symbol, settle=SETTLE, gate=gate)
    )
    await desk.exchange.until(lambda: len(answered(desk, "open-orders")) >= 3)
    assert gate.is_shut
    assert not proving.done()
    desk.exchange.engine.acknowledge(order.order_id, now_ms=desk.exchange.now_ms)
    arriving.set()
    await proving
    await sending
    assert desk.open(symbol) == []
    assert gate.is_shut
    gate.reopen()  # every attempt has been answered
    assert not gate.is_shut


@every_market
@pytest.mark.asyncio
async def test_the_gate_stays_shut_while_a_cancel_may_be_about(desk: Desk) -> None:
    """An attempt that was never answered may yet arrive, unless its nonce has been passed."""
    gate = OrderGate()
    desk.fault(Drop())
    await desk.client.cancel_all(desk.category, desk.market.symbols[0], gate=gate)
    nonces = next(desk.client.venue.cancel_all(desk.category, None, None))[0].nonces_per_second
    if nonces:
        gate.reopen()
        assert not gate.is_shut
        return
    with pytest.raises(Halted) as caught:
        gate.reopen()
    assert gate.is_shut
    assert (caught.value.until is not None) is desk.market.stamped


# --- protection -----------------------------------------------------------------------------------


@every_market
@every_scope
@pytest.mark.asyncio
async def test_cancel_on_exit(desk: Desk, scope: str, settles_soon: None) -> None:
    """An exception in the block: the scope is flat, and the exception goes on."""
    symbol = symbol_of(desk.market, scope)
    expected = {order.order_id for order in desk.open(symbol)}
    before = Ledger(desk.exchange)
    guard = cancel_on_exit(desk.target(symbol), signals=())
    with pytest.raises(ZeroDivisionError):
        async with guard:
            raise ZeroDivisionError
    assert before - Ledger(desk.exchange) == expected
    assert guard.report is not None
    assert guard.report.all_ok


def has_switch(market: Market, scope: str) -> bool:
    """Whether the venue has a dead man's switch of its own for the scope."""
    return market.abilities.switch == ("account" if scope == "whole" else "symbol")


@every_market
@every_scope
@pytest.mark.asyncio
async def test_the_dead_mans_switch_fires(desk: Desk, scope: str, settles_soon: None) -> None:
    """Without a beat the scope is proven flat; the venue's own is used where it fits exactly."""
    symbol = symbol_of(desk.market, scope)
    expected = {order.order_id for order in desk.open(symbol)}
    before, loop, fired = Ledger(desk.exchange), asyncio.get_running_loop(), asyncio.Event()
    switch = DeadMansSwitch(
        desk.target(symbol),
        timeout=0.05,
        on_fire=lambda _: loop.call_soon_threadsafe(fired.set),
    )
    async with switch:
        assert switch.kind == ("native" if has_switch(desk.market, scope) else "emulated")
        async with asyncio.timeout(10):
            await fired.wait()
    assert switch.fired
    assert switch.report is not None
    assert switch.report.all_ok
    assert before - Ledger(desk.exchange) == expected
    assert len(answered(desk, "switch")) >= (2 if has_switch(desk.market, scope) else 0)


@every_market
@every_scope
@pytest.mark.asyncio
async def test_the_dead_mans_switch_is_disarmed(market: Market, scope: str) -> None:
    """After a good end nothing is cancelled, not even by the venue, much later."""
    ahead = 0.0
    async with desk_of(market, clock=lambda: time.time() + ahead) as desk:
        before = Ledger(desk.exchange)
        async with DeadMansSwitch(desk.target(symbol_of(market, scope)), timeout=30) as switch:
            assert switch.beat()
            await switch.disarm()
        assert not switch.fired
        ahead = 3600
        assert not before - Ledger(desk.exchange)
        assert not desk.acting()


def venue_ms(desk: Desk) -> int:
    """The time by the venue's own clock."""
    return desk.exchange.now_ms + desk.exchange.skew_ms


@every_market
@every_scope
@pytest.mark.asyncio
async def test_the_venues_own_switch(market: Market, scope: str) -> None:
    """It fires with nobody there; renewed it waits; another scope than its own is refused."""
    ahead = 0.0
    async with desk_of(market, clock=lambda: time.time() + ahead) as desk:
        before, symbol = Ledger(desk.exchange), symbol_of(market, scope)
        expected = {o.order_id for o in desk.open(symbol) if o.order_type not in market.apart}
        arm = partial(desk.client.set_switch, market.category, symbol)
        if not has_switch(market, scope):
            with pytest.raises(ScopeError):
                await arm(timeout_ms=60_000)
            assert desk.exchange.requests == []
            return
        for _ in range(2):
            fires_at_ms = await arm(timeout_ms=60_000)
            assert fires_at_ms is not None
            assert abs(fires_at_ms - 60_000 - venue_ms(desk)) < 5000
            ahead += 40
            assert not before - Ledger(desk.exchange)
            desk.exchange.skew_ms -= 40_000  # the venue's clock is what it was
        ahead += 40
        assert before - Ledger(desk.exchange) == expected
        desk.place(market.symbols[0])
        ahead += 3600
        assert desk.open(market.symbols[0])  # it fires once


# --- many at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("down", "confirm"), [("ascendex", False), ("binance", False), ("kraken", True)]
)
@pytest.mark.asyncio
async def test_four_venues_in_one_call_with_one_of_them_down(down: str, confirm: bool) -> None:
    """All scopes of those that are up are cancelled; of the other's, nothing was sent."""
    async with AsyncExitStack() as stack:
        desks = [await stack.enter_async_context(desk_of(market)) for market in MARKETS]
        before = [Ledger(desk.exchange) for desk in desks]
        for desk in desks:
            if desk.market.name == down:
                await desk.exchange.close()
        targets = [desk.target(each) for desk in desks for each in (None, desk.market.symbols[0])]
        report = await cancel_many(targets, timeout=0.8, confirm=confirm, settle=SETTLE)
        for outcome in report.outcomes:
            market = outcome.target.client.venue.name
            assert outcome.ok is (market != down), outcome
            if outcome.error is not None:
                causes = (outcome.error, outcome.error.__cause__)
                assert any(isinstance(cause, NotSent) for cause in causes)
                assert not outcome.error.may_have_executed
        for desk, ledger in zip(desks, before, strict=True):
            gone = ledger - Ledger(desk.exchange)
            assert len(gone) == (0 if desk.market.name == down else 2 * len(desk.market.orders))


@pytest.mark.parametrize("market", [m for m in MARKETS if "whole" in m.lists_first], ids=str)
@pytest.mark.asyncio
async def test_concurrency_bounds_requests_of_a_target_that_makes_many(desk: Desk) -> None:
    """Of a cancel per symbol and book, never more than ``concurrency`` are with the venue."""
    symbols = [f"S{number}USDT" for number in range(6)]
    desk.exchange.dialect.symbols = frozenset(symbols)  # type: ignore[attr-defined]  # of this one
    for order in desk.open():
        desk.exchange.engine.cancel(order.order_id, now_ms=desk.exchange.now_ms)
    desk.exchange.advance()
    for symbol in symbols:
        desk.place(symbol)
    desk.fault(Hold("all"), times=None)
    expected = len(symbols) * (2 if desk.market.apart else 1)

    def arrived(count: int) -> bool:
        return len(desk.acting()) >= count and len(desk.exchange.waiting) >= 3

    running = asyncio.create_task(cancel_many([desk.target()], concurrency=3))
    for count in range(3, expected + 1, 3):
        await desk.exchange.until(partial(arrived, count))
        assert (len(desk.acting()), len(desk.exchange.waiting)) == (count, 3)
        desk.exchange.release("all")
    report = await running
    assert report.all_ok
    assert desk.open() == []


@every_market
@pytest.mark.asyncio
async def test_one_place_is_enough(desk: Desk) -> None:
    """With a single place, every target is cancelled and proven, one request after the other."""
    targets = [desk.target(each) for each in (None, *desk.market.symbols)]
    report = await cancel_many(targets, concurrency=1, confirm=True, settle=SETTLE)
    assert report.all_ok
    assert desk.open() == []


# --- a fifth venue, on trial ----------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial venue, with the one line that registers it."""
    monkeypatch.setitem(VENUES, "trial", ("venues_support", "Trial"))


@pytest.mark.usefixtures("registered")
@pytest.mark.asyncio
async def test_one_file_and_one_line_make_a_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Client, prover, fan-out, exit, switch and the options of the command line know it at once."""
    assert load("trial") is Trial
    assert masscancel.venues.Trial is Trial
    assert len(inspect.getsource(Trial).splitlines()) < 100
    monkeypatch.setenv("MASSCANCEL_TRIAL_API_KEY", KEY)
    monkeypatch.setenv("MASSCANCEL_TRIAL_API_SECRET", SECRET)
    async with SimulatedExchange(TrialDialect()) as exchange:
        account = exchange.add_account(KEY, SECRET)
        options = Options.of("trial", [f"url={exchange.rest_url}"], None, None)
        assert [(each.name, each.required) for each in settings_of(Trial)] == [("url", True)]
        assert options.category == "main"
        async with options.client(5.0) as client:

            def fill() -> None:
                for symbol in ("AB", "CD"):
                    exchange.place(account, "main", symbol)

            fill()
            assert len(await client.open_orders("main")) == 2
            ack = await client.cancel_all("main", "AB")
            assert ack.status == "1 gone"
            assert len(exchange.open_orders(account, "main")) == 1
            proof = await client.cancel_all_and_confirm("main", settle=SETTLE)
            assert proof.sweeps == 1
            fill()
            report = await cancel_many(Target.product([client], ["main"], ["AB", "CD"]))
            assert report.all_ok
            fill()
            async with cancel_on_exit(Target(client, "main"), signals=()):
                assert exchange.open_orders(account, "main")
            assert exchange.open_orders(account, "main") == []
            async with DeadMansSwitch(Target(client, "main"), timeout=30) as switch:
                assert switch.kind == "emulated"
                switch.disarm()
            with pytest.raises(ScopeError):
                await client.cancel_all("spot")


#: Where a venue is named outside of `venues/` and `sim/`: the public name that the plan fixes, the
#: default of the command line, and the exchange that the demo plays.
NAMED = {
    ("__init__", "masscancel.venues.ascendex"),
    ("__init__", "AscendEX"),
    ("cli.guard", "ascendex"),
    ("cli.orders", "ascendex"),
    ("cli.watch", "ascendex"),
    ("cli.market", "AscendEX"),
}


def words_of(tree: ast.Module) -> Iterator[str]:
    """Every identifier and every text in a module's code, its docstrings apart."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str | bytes) and id(node) not in docstrings:
                yield str(node.value)
            continue
        for field in ("id", "attr", "name", "asname", "arg", "module"):
            if isinstance(word := getattr(node, field, None), str):
                yield word
        yield from getattr(node, "names", ()) if isinstance(node, ast.Global | ast.Nonlocal) else ()


def test_no_code_names_a_venue() -> None:
    """Outside of ``venues/`` and ``sim/``, but for the list above: nothing branches on a name."""
    root = Path(masscancel.__file__).parent
    named = set()
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        if parts[0] in ("venues", "sim"):
            continue
        for word in words_of(ast.parse(file.read_text())):
            if any(name in word.lower() for name in VENUES):
                named.add((".".join(parts), word))
    assert named == NAMED


def test_the_search_for_names_finds_them() -> None:
    """Control: a comparison, an attribute, an import and an argument are all seen."""
    code = "import kraken.x as y\nif venue.name == 'bitmex': use(Binance, venue.ascendex, kraken=1)"
    assert {"bitmex", "Binance", "ascendex", "kraken"} <= set(words_of(ast.parse(code)))
    assert list(words_of(ast.parse('"""Of Kraken."""'))) == []


def test_support_describes_what_is_there() -> None:
    """The trial venue is told by the same protocol as the others."""
    assert set(dir(venues_support.Trial)) >= {
        name for name in vars(masscancel.venue.Venue) if not name.startswith("_")
    }
