"""What REST and streams share: engine, faults, clock, timers, what waits, what is remembered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from masscancel.sim.dialect import Moment
from masscancel.sim.faults import Decision, Delay, EffectDelay, FaultPlan, Hold, Skew
from masscancel.sim.records import Connections, Received
from masscancel.sim.wire import Waits

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from masscancel.sim.dialect import Request
    from masscancel.sim.engine import Engine
    from masscancel.sim.orders import Order


class Host:
    """The part of an exchange that is behind its sockets. Its timers run from `open` to `close`."""

    def __init__(
        self,
        engine: Engine,
        *,
        seed: int,
        skew_ms: int,
        clock: Callable[[], float],
        history: int,
        backlog: int,
    ) -> None:
        self.engine = engine
        self.backlog = backlog
        self.faults = FaultPlan(seed)
        self.skew_ms = skew_ms
        self.clock = clock
        self.requests: list[Received] = []
        self.connections = Connections(self.stir)
        self.waits = Waits(self.stir)
        self._history = history
        self._happening = asyncio.Event()
        self._open = False
        self._engine_timer: asyncio.TimerHandle | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        engine.listen(self.stir)

    def open(self) -> None:
        """Let timers run."""
        self.waits = Waits(self.stir)
        self._open = True
        self._reschedule()

    def close(self) -> None:
        """End every wait and every timer."""
        self._open = False
        self.waits.close()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._reschedule()

    async def settle(self) -> None:
        """Wait for what `spawn` started; after `close` that ends by itself."""
        await asyncio.gather(*self._tasks)

    # --- time -----------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """The engine's time, in ms: the clock's, without the skew."""
        return int(self.clock() * 1000)

    def moment(self, decision: Decision | None = None) -> Moment:
        """Say when it is for a request, as its faults have it."""
        skew_ms = self.skew_ms
        effect_delay_ms = None
        for modifier in decision.modifiers if decision else ():
            if isinstance(modifier, Skew):
                skew_ms += modifier.ms
            elif isinstance(modifier, EffectDelay):
                effect_delay_ms = modifier.ms
        return Moment(now_ms=self.now_ms, skew_ms=skew_ms, effect_delay_ms=effect_delay_ms)

    def advance(self) -> None:
        """Let the engine catch up with the clock, and wake again when its next event falls due."""
        self.engine.advance(self.now_ms)
        self._reschedule()

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after `seconds`, unless the exchange closes first."""
        if not self._open:
            return

        def fire() -> None:
            self._timers.discard(timer)
            callback()

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run something beside the rest; it must end soon when its `waits` do."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _reschedule(self) -> None:
        if self._engine_timer is not None:
            self._engine_timer.cancel()
            self._engine_timer = None
        due_ms = self.engine.next_event_ms()
        if not self._open or due_ms is None:
            return
        # At least a millisecond, so that a clock that stands still costs a tick, not the loop.
        delay = max(due_ms - self.clock() * 1000, 1) / 1000
        self._engine_timer = asyncio.get_running_loop().call_later(delay, self.advance)

    # --- what happens ---------------------------------------------------------------------------

    def stir(self, _order: Order | None = None) -> None:
        """Have everyone look who waits in `until`."""
        happening, self._happening = self._happening, asyncio.Event()
        happening.set()

    async def until(
        self, condition: Callable[[], object], timeout: float | None
    ) -> None:  # for its callers' comfort
        """Wait until `condition()` holds, looking whenever something happens (`TimeoutError`)."""
        async with asyncio.timeout(timeout):
            while not condition():
                await self._happening.wait()

    def record(self, transport: asyncio.Transport | None, request: Request) -> Received:
        """Remember a request."""
        received = Received(
            at=self.clock(),
            connection=self.connections.number(transport),
            method=request.method,
            raw_path=request.raw_path,
            headers=tuple(request.headers.items()),
            body=request.body,
            operation=request.operation,
            api_key=request.api_key,
        )
        self.requests.append(received)
        if len(self.requests) > 2 * self._history:  # trimmed by halves, so that it costs nothing
            del self.requests[: -self._history]
        self.stir()
        return received

    async def wait_before(self, decision: Decision) -> bool:
        """Play what holds a request up; False if the exchange closed meanwhile."""
        for modifier in decision.modifiers:
            if isinstance(modifier, Delay):
                if not await self.waits.pause("delay", seconds=modifier.seconds):
                    return False
            elif isinstance(modifier, Hold) and not await self.waits.pause(modifier.tag):
                return False
        return True
