"""No Confirmation that is not so: random histories of a venue, a stream, a gate and a proof.

The simulator's pure engine is the venue, its session and AscendEX's dialect are the stream; time
goes in ticks of 1/1024 s, so that no sum of times is rounded. The engine's own book is the oracle:

    When the proof says that the scope is flat, there have been two empty listings which the venue
    read at ``first`` and ``second``, at least ``settle`` apart; between them nothing told of an
    open order, no updates were missed, no sweep was sent, and no order was under way through the
    gate. Every order in the scope that was sent by ``first``, and that the venue makes visible
    within ``settle`` of its sending (or of its leaving the gate), has ended.

``MASSCANCEL_SEQUENCES=100000`` tries so many sequences instead of some hundred.
"""

from __future__ import annotations

import os
from collections import deque
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from masscancel.calls import Updated
from masscancel.engine.proof import Do, Proof
from masscancel.engine.streams import Watch
from masscancel.models import Gap, OpenOrder
from masscancel.sim import HELD, Engine, Moment, OnCancel, Order, Script, Status
from masscancel.sim.ascendex_stream import AscendEXSession, StreamRules
from masscancel.venues.ascendex.stream import AscendEXStream

pytestmark = pytest.mark.unmeasured

SEQUENCES: Final = int(os.environ.get("MASSCANCEL_SEQUENCES", "150"))
TICKS: Final = 1024
BTC, ETH = "BTC/USDT", "ETH/USDT"
DIALECT: Final = AscendEXStream(url="ws://x", api_path="stream", clock_origin="http://x")
LATENCY: Final = st.sampled_from([0, 1, 3, 20, 100])
OUTCOME: Final = st.sampled_from(["fine", "fine", "fine", "executed", "not executed"])
EFFECT: Final = st.sampled_from([0, 0, 3, 50, HELD])
#: How many orders somebody sends past the gate at most: else no scope is ever flat.
STRAYS: Final = 4


class Proving(RuleBasedStateMachine):
    """One scope, from the call to its proof or to the end of its time."""

    @initialize(
        settle=st.sampled_from([0, 1, 10, 64, 256]),
        symbol=st.sampled_from([None, BTC]),
        streamed=st.booleans(),
        resting=st.lists(st.sampled_from(OnCancel), max_size=3),
        sent=st.lists(st.integers(0, 256), max_size=2),
        gated=st.integers(0, 2),
    )
    def begin(
        self,
        settle: int,
        symbol: str | None,
        streamed: bool,
        resting: list[OnCancel],
        sent: list[int],
        gated: int,
    ) -> None:
        """Some orders rest, some are on their way, some are in the gate; then the call."""
        self.now = 1_000_000
        self.settle, self.symbol = settle, symbol
        self.strays = 0
        self.engine = Engine()
        self.account = self.engine.add_account("key", "secret", categories=("cash", "margin"))
        for on_cancel in resting:
            self.send(Script(on_cancel=on_cancel))
        for delay in sent:
            self.send(Script(ack_delay_ms=min(delay, settle)))
        self.in_gate = deque(self.send(Script(ack_delay_ms=HELD)) for _ in range(gated))
        self.arrived = 0
        self.proof = Proof(
            settle=settle / TICKS, deadline=(self.now + 200 * TICKS) / TICKS, streamed=streamed
        )
        self.watch = Watch("cash") if streamed else None
        self.messages: deque[bytes] = deque()
        self.session = AscendEXSession(
            self.engine, StreamRules(), futures=False, group="0", account=self.account
        )
        self.session.receive(b'{"op":"sub","ch":"order:cash"}', self.moment())
        self.engine.listen(self.order_changed)
        self.doing: Do | None = None
        self.began = 0
        self.read: tuple[int, list[Order], set[str]] | None = None
        #: When the venue read the empty listings that still count, and the orders sent by then.
        self.empty: list[tuple[int, set[str]]] = []
        self.latest: list[str] = []
        self.done = False

    # --- the venue ------------------------------------------------------------------------------

    def moment(self) -> Moment:
        """Now, as dialects are told it."""
        return Moment(now_ms=self.now)

    def send(self, script: Script, symbol: str = BTC, category: str = "cash") -> Order:
        """An order leaves for the venue."""
        order = self.engine.place(
            self.account,
            category,
            symbol,
            side="buy",
            price=Decimal(1),
            quantity=Decimal(2),
            now_ms=self.now,
            script=script,
        )
        self.engine.advance(self.now)
        return order

    def order_changed(self, order: Order) -> None:
        """The stream's side of a change."""
        self.messages.extend(self.session.order_changed(order, self.moment()))

    def pass_time(self, ticks: int) -> None:
        """Let what falls due happen."""
        self.now += ticks
        self.engine.advance(self.now)

    def book(self) -> list[Order]:
        """What is open in the scope, now and truly."""
        self.engine.advance(self.now)
        return self.engine.open_orders(self.account, "cash", self.symbol)

    @rule(ticks=st.sampled_from([0, 1, 5, 50, 300]))
    def time_passes(self, ticks: int) -> None:
        """Nothing happens but time."""
        self.pass_time(ticks)

    @rule(
        delay=st.integers(0, 256),
        on_cancel=st.sampled_from(OnCancel),
        where=st.sampled_from([("cash", BTC), ("cash", ETH), ("margin", BTC)]),
        fill_after=st.none() | st.sampled_from([0, 3, 50]),
    )
    @precondition(lambda self: self.strays < STRAYS and not self.done)
    def send_past_the_gate(
        self, delay: int, on_cancel: OnCancel, where: tuple[str, str], fill_after: int | None
    ) -> None:
        """Somebody goes on trading; the venue shows each order within ``settle``."""
        script = Script(
            ack_delay_ms=min(delay, self.settle), on_cancel=on_cancel, fill_delay_ms=fill_after
        )
        self.strays += 1
        self.send(script, where[1], where[0])

    @rule(partly=st.booleans())
    @precondition(lambda self: self.book())
    def fill(self, partly: bool) -> None:
        """An open order trades."""
        quantity = Decimal("0.1") if partly else None
        self.engine.fill(self.book()[0].order_id, quantity, now_ms=self.now)

    @rule()
    @precondition(lambda self: self.book())
    def give_in(self) -> None:
        """An order that did not cancel will."""
        self.engine.rescript(self.book()[0].order_id, Script())

    @rule()
    def take_effect(self) -> None:
        """Cancels that were acknowledged and lag behind take effect."""
        self.engine.take_effect(now_ms=self.now)

    @rule()
    @precondition(lambda self: self.in_gate)
    def leave_gate(self) -> None:
        """An order of the gate is acknowledged, and its block is left."""
        self.engine.acknowledge(self.in_gate.popleft().order_id, now_ms=self.now)
        self.arrived += 1

    @rule(delay=st.integers(0, 256))
    @precondition(lambda self: self.in_gate)
    def raise_in_gate(self, delay: int) -> None:
        """A block raises; its order may still show, within ``settle``."""
        order_id = self.in_gate.popleft().order_id
        self.arrived += 1
        self.engine.schedule(
            min(delay, self.settle),
            lambda: self.engine.acknowledge(order_id, now_ms=self.engine.now_ms),
        )

    # --- the stream -----------------------------------------------------------------------------

    @rule(count=st.integers(1, 5))
    @precondition(lambda self: self.watch is not None and self.messages)
    def deliver(self, count: int) -> None:
        """Some messages arrive, in order."""
        assert self.watch is not None
        for _ in range(min(count, len(self.messages))):
            for event in DIALECT.parse(self.messages.popleft()):
                assert isinstance(event, Updated)
                self.watch.push(event.update)

    @rule()
    @precondition(lambda self: self.watch is not None)
    def deliver_all(self) -> None:
        """All that is on its way arrives."""
        if self.watch is not None and self.messages:
            self.deliver(len(self.messages))

    @rule()
    @precondition(lambda self: self.watch is not None)
    def drop_stream(self) -> None:
        """The stream drops; what was on its way is lost."""
        assert self.watch is not None
        self.watch.gap("dropped")
        self.messages.clear()

    # --- the prover -----------------------------------------------------------------------------

    def take_news(self) -> None:
        """Hand over what has happened, as the prover does before each step."""
        for item in self.watch.drain() if self.watch is not None else ():
            if isinstance(item, Gap):
                self.empty.clear()
                self.proof.missed(self.now / TICKS)
            elif self.symbol in (None, item.symbol):
                if item.is_open:
                    self.empty.clear()
                self.proof.updated(item, self.now / TICKS)
        if self.in_gate or self.arrived:
            self.empty.clear()
        self.proof.gated(under_way=len(self.in_gate), arrived=self.arrived)
        self.arrived = 0

    @rule(moves=st.integers(1, 8), latency=LATENCY, outcome=OUTCOME, effect=EFFECT)
    @precondition(lambda self: not self.done)
    def go_on(self, moves: int, latency: int, outcome: str, effect: int) -> None:
        """The prover makes some moves: a step, the venue's part of it, its end."""
        for _ in range(moves):
            if self.doing is Do.SWEEP:
                self.end_sweep(latency, effect, outcome)
            elif self.doing is Do.LIST and outcome != "fine":
                self.pass_time(latency)
                self.doing = None
                self.proof.unreadable(self.began / TICKS, self.now / TICKS)
            elif self.doing is Do.LIST and self.read is None:
                self.pass_time(latency)
                self.read = self.now, self.book(), {o.order_id for o in self.engine.orders()}
            elif self.doing is Do.LIST:
                self.end_listing(latency)
            else:
                self.step()
            if self.done:
                return
            outcome = "fine"

    def step(self) -> None:
        """Ask what comes next, and begin it; a wait is waited to its end."""
        self.take_news()
        step = self.proof.step(self.now / TICKS)
        if step.do is Do.DONE:
            self.done = True
            self.check_flat()
        elif step.do is Do.WAIT:
            ticks = -int(-step.until * TICKS // 1) - self.now
            assert ticks > 0, "a wait that is over already"
            self.pass_time(ticks)
        else:
            self.doing, self.began, self.read = step.do, self.now, None
            if step.do is Do.SWEEP:
                self.empty.clear()
                self.proof.sweeping(self.now / TICKS)

    def end_sweep(self, latency: int, effect: int, outcome: str) -> None:
        """The sweep is acknowledged; or it is not, and may have been executed all the same."""
        self.pass_time(latency)
        if outcome != "not executed":
            self.engine.cancel_all(
                self.account, "cash", self.symbol, now_ms=self.now, effect_delay_ms=effect
            )
        self.pass_time(latency)
        self.doing = None
        if outcome != "fine":
            self.proof.sweep_failed(self.now / TICKS)

    def end_listing(self, latency: int) -> None:
        """The listing is there."""
        assert self.read is not None
        self.pass_time(latency)
        when, orders, sent = self.read
        self.doing = None
        self.latest = [order.order_id for order in orders]
        if orders:
            self.empty.clear()
        else:
            self.empty.append((when, sent))
        self.proof.listed(self.began / TICKS, self.now / TICKS, [as_listed(o) for o in orders])

    # --- what must hold -------------------------------------------------------------------------

    def check_flat(self) -> None:
        """The property in the module's docstring."""
        second = self.empty[-1][0] if self.empty else 0
        firsts = [sent for when, sent in self.empty[:-1] if second - when >= self.settle]
        assert firsts, "no two empty listings that far apart, with nothing in between"
        assert not self.in_gate
        for order in self.engine.orders():
            in_scope = order.category == "cash" and self.symbol in (None, order.symbol)
            if in_scope and order.order_id in firsts[-1]:
                assert order.status.is_final, f"{order.status} order of {order.placed_ms}"

    @invariant()
    def residual_is_the_latest_listing(self) -> None:
        """What would be reported as residual is what was listed last."""
        if hasattr(self, "proof"):
            assert [order.order_id for order in self.proof.residual] == self.latest

    def teardown(self) -> None:
        """When all is calm, the proof comes to its end: nothing is waited for in vain."""
        if not hasattr(self, "proof") or self.done:
            return
        self.take_effect()
        while self.in_gate:
            self.leave_gate()
        self.pass_time(300)
        for order in self.engine.orders():
            if order.status is not Status.PENDING:
                self.engine.rescript(order.order_id, Script())
        for _ in range(200):
            self.deliver_all()
            self.go_on(1, 1, "fine", 0)
            if self.done:
                return
        raise AssertionError("the scope is calm, and never proven flat")


def as_listed(order: Order) -> OpenOrder:
    """An order as a listing shows it."""
    return OpenOrder(
        order_id=order.order_id,
        symbol=order.symbol,
        side="buy",
        price=order.price,
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        order_type="Limit",
        status=order.status,
    )


def run(machine: Any, sequences: int, **more: Any) -> None:
    """Try so many sequences."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            **more,
        ),
    )


def test_no_false_confirmation() -> None:
    """The property in the module's docstring, over random sequences of whatever may happen."""
    run(Proving, SEQUENCES)


def test_the_oracle_sees_a_false_confirmation() -> None:
    """A proof that forgets ``settle`` is caught: the machine reaches such states, and judges."""

    class Hasty(Proving):
        """Proves with no time between the two listings, and is judged with some."""

        @initialize(sent=st.integers(1, 256))
        def hurry(self, sent: int) -> None:
            """Begin again, with a proof of another settle."""
            self.begin(256, None, streamed=False, resting=[], sent=[sent], gated=0)
            self.proof = Proof(settle=0, deadline=(self.now + 200 * TICKS) / TICKS, streamed=False)

    with pytest.raises(AssertionError, match="no two empty listings that far apart"):
        run(Hasty, 200, phases=[Phase.generate])
