"""Every venue: the cancel and the listing, refusals, trouble on the way, secrets."""

import asyncio
import inspect
import re
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from every_venue_support import QUICK, every_market, every_scope, symbol_of
from flows_support import calls_of
from masscancel import (
    Ack,
    AuthenticationError,
    Client,
    Credentials,
    DeadlineExceeded,
    InvalidRequest,
    MassCancelError,
    OutcomeUnknown,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    ScopeError,
    SessionPool,
    VenueUnavailable,
)
from masscancel.calls import Call, Flow, Scope, Stamp
from masscancel.sim import Answer, Drop, Hang, Received, SimulatedExchange
from masscancel.venues import VENUES, load
from support import SWEEPS_OFTEN
from venues_support import (
    KEY,
    KINDS,
    MARKETS,
    OTHER_SECRET,
    PASSPHRASE,
    SECRET,
    Desk,
    Echo,
    Ledger,
    Market,
    Trial,
    TrialDialect,
    desk_of,
    signatures,
)

pytestmark = pytest.mark.unmeasured

#: Nothing that any venue takes for a symbol.
BAD_SYMBOLS = ("", " ", "BTC USD", "../..", "BTC\r\nX: y", "BTC\n", "X" * 100, "?", "BTC&USD", 7)

#: Tries once: no attempt follows in the last ``base`` seconds of a call.
ONCE = RetryPolicy(base=60.0)
NONSENSE = (b"", b"<html>hello</html>", b"null")
BAD_CATEGORIES = ("", "nonsense", "CASH", None, 7)

#: What differs between two requests for the same, where it is in the query.
STAMPS = re.compile(r"(timestamp|signature)=[^&]*")

#: How far from its beginning a venue's refusal has the key in it: two are so that what is cut to
#: the length of a message is cut within the key.
ECHOES = {"echo": 0, "cut echo": 285, "cut code": 278}


@pytest_asyncio.fixture
async def desk(market: Market) -> AsyncIterator[Desk]:
    """A client of a filled account; what stays listed there is swept again soon."""
    async with desk_of(market, options={"retry": QUICK, "proof": SWEEPS_OFTEN}) as opened:
        yield opened


def cancels_first(desk: Desk, scope: str) -> bool:
    """Whether the first request of a cancel is one that acts."""
    return scope not in desk.market.lists_first


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
        flow = venue.switch(Scope(market.category, symbol_of(market, scope)), 60_000)
        if abilities.switch in (covered, "both"):
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
    asked_on_entry = len(desk.exchange.requests)
    bad: list[tuple[Any, Any]] = [(desk.category, each) for each in BAD_SYMBOLS]
    bad += [(category, each) for category in BAD_CATEGORIES for each in (None, symbol)]
    for scope in bad:
        for call in (client.cancel_all, client.open_orders, client.cancel_all_and_confirm):
            with pytest.raises(ScopeError) as caught:
                await call(*scope)
            assert not caught.value.may_have_executed
        with pytest.raises(ScopeError):
            await client.set_switch(*scope, timeout_ms=60_000)
    assert len(desk.exchange.requests) == asked_on_entry


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
        before, on_entry = Ledger(desk.exchange), len(desk.signed())
        with pytest.raises(AuthenticationError) as caught:
            await desk.client.cancel_all(market.category, symbol_of(market, scope))
        assert not before - Ledger(desk.exchange)
        assert not caught.value.may_have_executed
        signed = desk.signed()[on_entry:]
        assert signed
        flow = desk.client.venue.cancel_all(Scope(market.category, symbol_of(market, scope)), None)
        assert len(signed) <= len(calls_of(flow))


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
    fates = {each.fate for each in caught.value.attempts if each.acts}
    # Those still to be sent were not; OKX without spreads has answered that there are none.
    assert fates - {"not sent", "answered"} == {"refused"}
    assert caught.value.may_have_executed is ("answered" in fates)


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
    """A pool whose stamps are far apart, so that two of them can be told apart."""

    stamped = 0
    tick_ms = 400

    def stamp(self, origin: str, api_key: str = "", nonces_per_second: int = 0) -> Stamp:
        """Another 0.4 s with each, and not ahead of the time for the first ten."""
        stamp = super().stamp(origin, api_key, nonces_per_second)
        self.stamped += 1
        return msgspec.structs.replace(
            stamp, time_ms=stamp.time_ms + self.tick_ms * self.stamped - 4000
        )


@every_market
@pytest.mark.asyncio
async def test_a_lost_reply_is_asked_for_again(desk: Desk) -> None:
    """With a stamp and a signature of its own; the error before it is told by its fate."""
    symbol = desk.market.symbols[0]
    desk.fault(Drop(executed=True))
    async with (
        Ticking(warm=0) as pool,
        Client(
            Credentials(KEY, SECRET, passphrase=PASSPHRASE), venue=desk.client.venue, pool=pool
        ) as client,
    ):
        pool.tick_ms = desk.market.tick_ms
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


class Asking(Trial, frozen=True, kw_only=True):
    """The trial venue, with a question after the Ack whose answer is not needed."""

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """The cancel, then the question."""
        ack = yield from Trial.cancel_all(self, scope, request_id)
        question: Call[int] = self._call("GET", scope, int)
        yield [msgspec.structs.replace(question, path="/time", time_limit=0.1)]
        return ack


@pytest.mark.asyncio
async def test_a_side_question_does_not_hold_the_ack_up() -> None:
    """An Ack that has come is not lost, and not kept back, where what is asked after it hangs."""
    async with SimulatedExchange(TrialDialect()) as exchange:
        exchange.add_account(KEY, SECRET)
        exchange.faults.add(Hang(), operation="clock", times=None)
        venue = Asking(rest_url=exchange.rest_url)
        async with (
            SessionPool(warm=0) as pool,
            Client(Credentials(KEY, SECRET), venue=venue, pool=pool) as client,
            asyncio.timeout(10),
        ):
            ack = await client.cancel_all("main", "AB", timeout=30)
        assert ack.symbol == "AB"
        assert exchange.operations("clock")


# --- secrets --------------------------------------------------------------------------------------


def shown(problem: BaseException) -> Iterator[str]:
    """What a person or a tool sees of an error."""
    yield from (str(problem), repr(problem), str(problem.args), str(vars(problem)))
    yield from getattr(problem, "__notes__", ())
    frames = traceback.TracebackException.from_exception(problem, capture_locals=True)
    yield from frames.format()


@pytest.mark.sample("market.name", "scope", "trouble")
@pytest.mark.parametrize("market", MARKETS, ids=str)
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
        secrets = {KEY, SECRET, OTHER_SECRET, PASSPHRASE}.union(*map(signatures, desk.signed()))
        requests = len(desk.signed())
    assert requests
    assert len(secrets) > 4
    assert not [text for text in seen if any(secret[:12] in text for secret in secrets)]


async def failure(desk: Desk, scope: str) -> MassCancelError:
    """The error of a cancel; what is caught here has no frame of a test in it."""
    try:
        await desk.client.cancel_all(desk.category, symbol_of(desk.market, scope))
    except MassCancelError as error:
        return error
    pytest.fail("it went well")
