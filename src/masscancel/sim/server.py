"""The simulated exchange: an aiohttp server on loopback over the engine, a dialect, and faults."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Self

from aiohttp import web
from msgspec.structs import replace

from masscancel.sim import wire
from masscancel.sim.ascendex import AscendEXDialect
from masscancel.sim.dialect import Dialect, Handler, Reply, Request, Router
from masscancel.sim.engine import Engine
from masscancel.sim.faults import Action, Decision, Delay, EffectDelay, FaultPlan, Hold, Skew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from masscancel.sim.orders import Account, LogRecord, Order, Script

_SHUTDOWN_S = 0.5  # a bound for what does not end by itself; nothing that we know of


@dataclass(slots=True)
class Received:
    """One request as it arrived, and how it was answered. The repr shows no header, body or key.

    `at` is in seconds by the exchange's clock, `connection` numbers the connection it came on, from
    1. `answer` is "open" until it is decided, then "answered", "dropped", "hung"…; `status` is the
    HTTP status that was sent, if one was; `executed` says whether the request reached the engine. A
    message on a stream is recorded too, with the method "WS".
    """

    at: float
    connection: int
    method: str
    raw_path: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    operation: str
    api_key: str = field(repr=False)
    actions: tuple[Action, ...] = ()
    executed: bool = False
    answer: str = "open"
    status: int | None = None

    def header(self, name: str) -> str | None:
        """Look a header up, whatever its case; None if it did not come."""
        name = name.lower()
        return next((value for key, value in self.headers if key.lower() == name), None)


class _Server(web.Server):
    """aiohttp's low-level server, which tells of every connection."""

    opened: Callable[[asyncio.Transport], None]
    lost: Callable[[asyncio.Transport], None]

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self.opened(transport)
        super().connection_made(handler, transport)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        if handler.transport is not None:
            self.lost(handler.transport)
        super().connection_lost(handler, exc)


class SimulatedExchange:
    """An exchange on loopback: an async context manager that listens while it is entered.

    `dialect` is the venue (None: AscendEX), `seed` fixes every made-up id and every random fault,
    `skew_ms` is how far the venue's clock is ahead, `port` 0 takes a free one. `ack_delay_ms` and
    `effect_delay_ms` are the engine's defaults. `clock` gives the time in seconds; `history` bounds
    how many requests, log records and ended orders are remembered.
    """

    def __init__(
        self,
        dialect: Dialect | None = None,
        *,
        seed: int = 0,
        skew_ms: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        ack_delay_ms: int = 0,
        effect_delay_ms: int = 0,
        keepalive_timeout: float = 75.0,
        clock: Callable[[], float] = time.time,
        history: int = 1_000_000,
    ) -> None:
        self.dialect: Dialect = AscendEXDialect() if dialect is None else dialect
        self.engine = Engine(
            seed=seed,
            ack_delay_ms=ack_delay_ms,
            effect_delay_ms=effect_delay_ms,
            new_order_id=self.dialect.order_id,
            id_prefixes=self.dialect.categories,
            history=history,
        )
        self.faults = FaultPlan(seed)
        self.skew_ms = skew_ms
        self.requests: list[Received] = []
        self.connections_opened = 0
        self._router = Router(self.dialect.routes(), self.dialect.stream_routes())
        self._clock = clock
        self._host = host
        self._port = port
        self._keepalive_timeout = keepalive_timeout
        self._history = history
        self._waits = wire.Waits()
        self._connections: dict[asyncio.Transport, int] = {}
        self._runner: web.ServerRunner | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timers: set[asyncio.TimerHandle] = set()

    # --- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        server = _Server(self._handle, access_log=None, keepalive_timeout=self._keepalive_timeout)
        server.opened = self._connected
        server.lost = self._disconnected
        self._waits = wire.Waits()
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]
        self._reschedule()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop: end every waiting request and every connection. Harmless when closed."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._waits.close()
        for timer in [*self._timers, *([self._timer] if self._timer else [])]:
            timer.cancel()
        self._timers.clear()
        self._timer = None
        await runner.cleanup()
        self._connections.clear()

    @property
    def port(self) -> int:
        """The port it listens on; before it is entered, the one it was given."""
        return self._port

    @property
    def rest_url(self) -> str:
        """The origin of its REST side, without a trailing slash."""
        return f"http://{self._host}:{self._port}"

    @property
    def stream_url(self) -> str:
        """The origin of its websocket side, without a trailing slash."""
        return f"ws://{self._host}:{self._port}"

    # --- scripting ------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """The engine's time, in ms: the clock's, without the skew."""
        return int(self._clock() * 1000)

    def advance(self) -> None:
        """Let the engine catch up with the clock."""
        self.engine.advance(self.now_ms)
        self._reschedule()

    def add_account(
        self,
        api_key: str = "",
        api_secret: str = "",
        *,
        group: int = 0,
        categories: Mapping[str, str] | Iterable[str] | None = None,
        label: str = "",
        permissions: Iterable[str] = ("view", "trade"),
        extra: Mapping[str, str] | None = None,
    ) -> Account:
        """Open an account, with every category of the venue unless told; what is empty is made up.

        Raises `ValueError` if the key is taken.
        """
        return self.engine.add_account(
            api_key,
            api_secret,
            group=group,
            categories=tuple(self.dialect.categories) if categories is None else categories,
            label=label,
            permissions=permissions,
            extra=extra,
        )

    def place(
        self,
        account: Account,
        category: str,
        symbol: str,
        *,
        side: str = "buy",
        price: str | Decimal = "1",
        quantity: str | Decimal = "1",
        order_type: str = "limit",
        script: Script | None = None,
    ) -> Order:
        """Put an order into the book directly, and return it as it then stands.

        That is acknowledged, unless a delay says otherwise. Raises `KeyError` if the account has no
        such category.
        """
        order = self.engine.place(
            account,
            category,
            symbol,
            side=side,
            price=Decimal(price),
            quantity=Decimal(quantity),
            order_type=order_type,
            now_ms=self.now_ms,
            script=script,
        )
        self.advance()
        return self.engine.order(order.order_id) or order

    def open_orders(
        self, account: Account, category: str, symbol: str | None = None
    ) -> list[Order]:
        """List what is open now. Raises `KeyError` if the account has no such category."""
        self.advance()
        return self.engine.open_orders(account, category, symbol)

    @property
    def log(self) -> list[LogRecord]:
        """What the venue has really done until now."""
        self.advance()
        return self.engine.log

    def release(self, tag: str = "") -> int:
        """Let go of every request that a `Hold` or `Hang` of this tag keeps; returns how many."""
        return self._waits.release(tag)

    @property
    def waiting(self) -> list[str]:
        """The tags of the requests that are kept now."""
        return self._waits.tags

    def operations(self, *names: str) -> list[Received]:
        """Pick the requests so far, of these operations if any are named."""
        return [r for r in self.requests if not names or r.operation in names]

    @property
    def connections(self) -> list[int]:
        """The numbers of the connections that are open."""
        return list(self._connections.values())

    def drop_connections(self, *, reset: bool = True) -> int:
        """End every open connection, by RST or by FIN; returns how many that were."""
        dropped = list(self._connections)
        for transport in dropped:
            wire.end_connection(transport, reset=reset)
        return len(dropped)

    def write_unsolicited(self, data: bytes, connection: int | None = None) -> int:
        """Write unasked bytes to one open connection, or to all; returns to how many."""
        chosen = [t for t, number in self._connections.items() if connection in (None, number)]
        for transport in chosen:
            wire.write_raw(transport, data)
        return len(chosen)

    # --- requests -------------------------------------------------------------------------------

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        transport = http.transport  # http forgets it once the client has gone
        body = await http.read()
        request, handler = self._parse(http, body)
        received = self._record(transport, request)
        decision = self.faults.decide(request)
        received.actions = decision.actions
        try:
            if not await self._wait_before(decision):
                wire.end_connection(transport, reset=True)
                received.answer = "hung"
                return web.Response()
            reply = Reply()
            if decision.executed:
                reply = self._execute(request, handler, decision)
                received.executed = True
            response, received.answer = await wire.send_ending(
                http, reply, decision.ending, self._waits, self._later
            )
            received.status = response.status if response.prepared else None
        except ConnectionError:
            received.answer = "client gone"
            return web.Response()
        else:
            return response
        finally:
            self.advance()  # the reply is out: now what it set in motion may take effect

    def _parse(self, http: web.BaseRequest, body: bytes) -> tuple[Request, Handler]:
        request = Request(
            method=http.method,
            raw_path=http.raw_path,
            headers={name.lower(): value for name, value in http.headers.items()},
            body=body,
            remote=http.remote or "",
        )
        operation = ""
        params: dict[str, str] = {}
        handler: Handler = self._unknown
        if found := self._router.route(request.method, request.path):
            route, params = found
            operation, handler = route.operation, route.handler
        request = replace(
            request, operation=operation, params=params, api_key=self.dialect.api_key(request)
        )
        return request, handler

    def _unknown(self, _engine: Engine, request: Request) -> Reply:
        return self.dialect.unknown(request)

    def _record(self, transport: asyncio.Transport | None, request: Request) -> Received:
        received = Received(
            at=self._clock(),
            connection=self._connections.get(transport, 0) if transport else 0,
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
        return received

    async def _wait_before(self, decision: Decision) -> bool:
        """Play what holds a request up; False if the exchange closed meanwhile."""
        for modifier in decision.modifiers:
            if isinstance(modifier, Delay):
                if not await self._waits.pause("delay", seconds=modifier.seconds):
                    return False
            elif isinstance(modifier, Hold) and not await self._waits.pause(modifier.tag):
                return False
        return True

    def _execute(self, request: Request, handler: Handler, decision: Decision) -> Reply:
        skew_ms = self.skew_ms
        effect_delay_ms = None
        for modifier in decision.modifiers:
            if isinstance(modifier, Skew):
                skew_ms += modifier.ms
            elif isinstance(modifier, EffectDelay):
                effect_delay_ms = modifier.ms
        now_ms = self.now_ms  # only now: a request that was held up is judged by when it gets here
        self.engine.advance(now_ms)
        return handler(
            self.engine,
            replace(request, now_ms=now_ms, skew_ms=skew_ms, effect_delay_ms=effect_delay_ms),
        )

    # --- connections and timers -----------------------------------------------------------------

    def _connected(self, transport: asyncio.Transport) -> None:
        self.connections_opened += 1
        self._connections[transport] = self.connections_opened

    def _disconnected(self, transport: asyncio.Transport) -> None:
        self._connections.pop(transport, None)

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after `seconds`, unless the exchange closes first."""
        if self._runner is None:
            return

        def fire() -> None:
            self._timers.discard(timer)
            callback()

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)

    def _reschedule(self) -> None:
        """Have the engine advanced when its next event falls due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self.engine.next_event_ms()
        if self._runner is None or due_ms is None:
            return
        # At least a millisecond, so that a clock that stands still costs a tick, not the loop.
        delay = max(due_ms - self._clock() * 1000, 1) / 1000
        self._timer = asyncio.get_running_loop().call_later(delay, self.advance)
