"""What happens to the soak's exchange: faults of single requests, and everything else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from masscancel.sim import (
    Action,
    Answer,
    Delay,
    Disconnected,
    Drop,
    DuplicateAck,
    DuplicateReply,
    EffectDelay,
    ForeignId,
    Hang,
    Ignore,
    LateAck,
    OnCancel,
    Script,
    SimulatedExchange,
    Trickle,
    Truncate,
    Unsolicited,
    WithoutId,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from masscancel.sim import Fault

#: What an order takes to be acknowledged at most, and what a listing is late. In ms.
ACK_MS: Final = 60
LAG_MS: Final = 60

PAGE: Final = b"<html><body>502 Bad Gateway</body></html>"
#: What may happen to everything of a kind for a while.
OUTAGES: Final[list[Action]] = [
    Drop(executed=False),
    Drop(executed=True),
    Hang(tag="late"),
    Answer(503, PAGE),
]
#: What happens, to what, how often.
FAULTS: Final[list[tuple[Action, str, str | None, float]]] = [
    (Drop(executed=False), "cancel-all", None, 0.04),
    (Drop(executed=True), "cancel-all", None, 0.04),
    (Drop(executed=True, reset=False), "cancel-all", None, 0.02),
    (Hang(executed=False, tag="late"), "cancel-all", None, 0.01),
    (Hang(executed=True, tag="late"), "cancel-all", None, 0.01),
    (Answer(502, PAGE), "cancel-all", "DELETE", 0.02),
    (Answer(502, PAGE, executed=True), "cancel-all", "DELETE", 0.02),
    (Answer(429, b"{}", (("Retry-After", "0"),)), "cancel-all", "DELETE", 0.01),
    (Truncate(), "cancel-all", None, 0.01),
    (Trickle(0.0005), "cancel-all", "DELETE", 0.01),
    (DuplicateReply(), "cancel-all", None, 0.01),
    (Unsolicited(), "cancel-all", "DELETE", 0.01),
    (WithoutId(), "cancel-all", "WS", 0.05),
    (ForeignId(then_own=True), "cancel-all", "WS", 0.03),
    (DuplicateAck(), "cancel-all", "WS", 0.05),
    (LateAck("late"), "cancel-all", "WS", 0.05),
    (Ignore(executed=True), "cancel-all", "WS", 0.02),
    (Ignore(), "cancel-all", "WS", 0.02),
    (Disconnected(), "cancel-all", "WS", 0.02),
    (Delay(0.05), "cancel-all", None, 0.05),
    (EffectDelay(40), "cancel-all", None, 0.1),
    (EffectDelay(400), "cancel-all", None, 0.03),
    (Drop(), "open-orders", None, 0.04),
    (Hang(tag="late"), "open-orders", None, 0.01),
    (Answer(500, PAGE), "open-orders", None, 0.03),
    (Answer(200, b'{"code":0}'), "open-orders", None, 0.02),
    (Truncate(), "open-orders", None, 0.02),
    (Delay(0.03), "open-orders", None, 0.05),
    (Drop(), "order-status", None, 0.1),
    (Answer(500, PAGE), "order-status", None, 0.1),
    (Drop(), "clock", None, 0.05),
    (Answer(503, PAGE), "clock", None, 0.05),
    (Drop(executed=True), "place-order", None, 0.03),
    (Drop(executed=False), "place-order", None, 0.03),
    (Hang(executed=True, tag="late"), "place-order", None, 0.02),
    (Answer(500, PAGE, executed=True), "place-order", None, 0.03),
    (Delay(0.02), "place-order", None, 0.1),
    (Drop(), "stream", None, 0.1),
    (Answer(503, PAGE), "stream", None, 0.1),
    (Ignore(), "order-update", None, 0.02),
    (Truncate(3), "order-update", None, 0.005),
    (Drop(), "order-update", None, 0.005),
    (Ignore(), "subscribe", None, 0.05),
]


class Chaos:
    """What happens to the exchange besides the faults of single requests."""

    def __init__(self, exchange: SimulatedExchange, rng: Random) -> None:
        self.exchange = exchange
        self.rng = rng
        self.outage: Fault | None = None
        for action, operation, method, probability in FAULTS:
            exchange.faults.add(
                action, operation=operation, method=method, probability=probability, times=None
            )

    async def run(self) -> None:
        """Go on until cancelled."""
        rng, exchange, engine = self.rng, self.exchange, self.exchange.engine
        happens: list[tuple[float, Callable[[], object]]] = [
            (0.02, lambda: exchange.drop_connections(reset=rng.random() < 0.5)),
            (0.02, self.end_stream),
            (0.05, exchange.ping_streams),
            (0.10, lambda: exchange.release("late")),
            (0.01, self.give_in),
            (0.02, lambda: setattr(engine, "listing_lag_ms", rng.choice((0, 0, LAG_MS)))),
            (0.01, lambda: setattr(exchange, "skew_ms", rng.choice((0, 0, 35_000, -35_000)))),
            (0.02, self.begin_outage),
            (0.03, self.end),
        ]
        while True:
            engine.default_script = Script(
                ack_delay_ms=rng.randint(0, ACK_MS),
                on_cancel=rng.choices([*OnCancel], (88, 10, 2))[0],
                fill_delay_ms=rng.choice((None, None, None, rng.randint(0, 300))),
                reject=rng.choice(("",) * 19 + ("INVALID_BALANCE",)),
            )
            for probability, happen in happens:
                if rng.random() < probability:
                    happen()
            await asyncio.sleep(0.02)

    def begin_outage(self) -> None:
        """Everything of a kind fails until the outage ends."""
        action = self.rng.choice(OUTAGES)
        operation = self.rng.choice(("cancel-all", "cancel-all", "open-orders", "stream", None))
        if self.outage is None:
            self.outage = self.exchange.faults.add(action, operation=operation, times=None)

    def end(self) -> None:
        """The outage ends."""
        if self.outage is not None:
            self.exchange.faults.remove(self.outage)
            self.outage = None

    def end_stream(self) -> None:
        """One websocket drops."""
        if streams := self.exchange.streams:
            self.rng.choice(streams).end(reset=self.rng.random() < 0.5)

    def give_in(self) -> None:
        """Orders that did not cancel will."""
        for order in self.exchange.engine.orders():
            if not order.status.is_final and order.script.on_cancel is OnCancel.IGNORE:
                self.exchange.engine.rescript(order.order_id, Script())
