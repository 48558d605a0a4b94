"""The simulated exchange: an aiohttp server on loopback over the engine, a dialect, and faults."""

from __future__ import annotations

import asyncio
import contextlib
import time
from decimal import Decimal
from email.utils import formatdate
from typing import TYPE_CHECKING, Self

from aiohttp import web
from msgspec.structs import replace

from masscancel.sim import wire
from masscancel.sim.ascendex import AscendEXDialect
from masscancel.sim.dialect import Dialect, Moment, Reply, Request, Router, Session
from masscancel.sim.engine import Engine
from masscancel.sim.host import Host
from masscancel.sim.limits import Limiter, limiter_of
from masscancel.sim.records import CountingServer, Received
from masscancel.sim.stream import Stream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from masscancel.sim.faults import Decision, FaultPlan
    from masscancel.sim.orders import Account, LogRecord, Order, Script

_SHUTDOWN_S = 0.5  # a bound for what does not end by itself; nothing that we know of


#: So many turns of the event loop a connection may take to end.
_LAST_TURNS = 5


class SimulatedExchange:
    """An exchange on loopback: an async context manager that listens while it is entered.

    `dialect` is the venue (None: AscendEX), `seed` fixes every made-up id and every random fault,
    `skew_ms` is how far the venue's clock is ahead, `port` 0 takes a free one. `ack_delay_ms` and
    `effect_delay_ms` are the engine's defaults. `ping_interval` is how often, in seconds,
    websockets are pinged and silent clients dropped (None: never). `clock` gives the time in
    seconds; `history` bounds how many requests, log records and ended orders are remembered, and
    `backlog` how many messages may wait for a client of a websocket: one that reads none of them is
    dropped then. `limits` has the venue count and refuse requests as it documents, by its own clock
    (True), or as a limiter of yours does; raises `ValueError` where its limits are not known.
    `dated` says whether replies tell the venue's time in their `Date`, in place of this machine's.
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
        ping_interval: float | None = None,
        clock: Callable[[], float] = time.time,
        history: int = 1_000_000,
        backlog: int = 100_000,
        limits: Limiter | bool = False,
        dated: bool = True,
    ) -> None:
        self.dialect: Dialect = AscendEXDialect() if dialect is None else dialect
        if isinstance(limits, bool):
            self._limits = limiter_of(self.dialect, clock) if limits else None
        else:
            self._limits = limits
        self.engine = Engine(
            seed=seed,
            ack_delay_ms=ack_delay_ms,
            effect_delay_ms=effect_delay_ms,
            new_order_id=self.dialect.order_id,
            id_prefixes=self.dialect.categories,
            history=history,
        )
        self._host = Host(
            self.engine,
            seed=seed,
            skew_ms=skew_ms,
            clock=clock,
            history=history,
            backlog=backlog,
        )
        self._router = Router(self.dialect.routes(), self.dialect.stream_routes())
        self._address = host
        self._port = port
        self._keepalive_timeout = keepalive_timeout
        self._ping_interval = ping_interval
        self._dated = dated
        self._streams: list[Stream] = []
        self._runner: web.ServerRunner | None = None

    # --- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        server = CountingServer(
            self._handle, access_log=None, keepalive_timeout=self._keepalive_timeout
        )
        server.connections_made = self._host.connections
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, self._port).start()
        self._port = self._runner.addresses[0][1]
        self._host.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop: end every waiting request and every connection. Harmless when closed."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._host.close()
        for stream in self._streams:
            stream.hang_up()
        await runner.cleanup()
        await self._host.settle()
        for _ in range(_LAST_TURNS):  # those that were being accepted, or had bytes left to write
            self.drop_connections()
            await asyncio.sleep(0)

    @property
    def port(self) -> int:
        """The port it listens on; before it is entered, the one it was given."""
        return self._port

    @property
    def rest_url(self) -> str:
        """The origin of its REST side, without a trailing slash."""
        return f"http://{self._address}:{self._port}"

    @property
    def stream_url(self) -> str:
        """The origin of its websocket side, without a trailing slash."""
        return f"ws://{self._address}:{self._port}"

    # --- scripting ------------------------------------------------------------------------------

    @property
    def faults(self) -> FaultPlan:
        """The scripted faults."""
        return self._host.faults

    @property
    def skew_ms(self) -> int:
        """How far the venue's clock is ahead, in ms; it may be set."""
        return self._host.skew_ms

    @skew_ms.setter
    def skew_ms(self, value: int) -> None:
        self._host.skew_ms = value

    @property
    def now_ms(self) -> int:
        """The engine's time, in ms: the clock's, without the skew."""
        return self._host.now_ms

    def advance(self) -> None:
        """Let the engine catch up with the clock, and wake again when its next event falls due."""
        self._host.advance()

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
        reduce_only: bool = False,
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
            reduce_only=reduce_only,
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
    def requests(self) -> list[Received]:
        """Every request that was received, oldest first."""
        return self._host.requests

    @property
    def log(self) -> list[LogRecord]:
        """What the venue has really done until now."""
        self.advance()
        return self.engine.log

    @property
    def limits(self) -> Limiter:
        """What counts and refuses requests. Raises `ValueError` if nothing does."""
        if self._limits is None:
            raise ValueError("this exchange was made without limits")
        return self._limits

    def release(self, tag: str = "") -> int:
        """Let go of every request that a `Hold` or `Hang` of this tag keeps; returns how many."""
        return self._host.waits.release(tag)

    @property
    def waiting(self) -> list[str]:
        """The tags of the requests that are kept now."""
        return self._host.waits.tags

    def operations(self, *names: str) -> list[Received]:
        """Pick the requests so far, of these operations if any are named."""
        return [r for r in self.requests if not names or r.operation in names]

    @property
    def connections(self) -> list[int]:
        """The numbers of the connections that are open."""
        return self._host.connections.numbers

    @property
    def connections_opened(self) -> int:
        """How many connections were ever opened."""
        return self._host.connections.opened

    def drop_connections(self, *, reset: bool = True) -> int:
        """End every open connection, by RST or by FIN; returns how many that were."""
        return self._host.connections.drop(reset=reset)

    def write_unsolicited(self, data: bytes, connection: int | None = None) -> int:
        """Write unasked bytes to one open connection, or to all; returns to how many."""
        return self._host.connections.write(data, connection)

    async def until(
        self,
        condition: Callable[[], object],
        *,
        timeout: float | None = 10.0,  # for its callers' comfort
    ) -> None:
        """Wait until `condition()` holds, looking whenever something happens here.

        That is: a connection or websocket opens or ends, a request arrives, waits, or is answered,
        an order changes. Raises `TimeoutError` after `timeout` seconds (None: never).
        """
        await self._host.until(condition, timeout)

    @property
    def streams(self) -> list[Stream]:
        """The websockets that are open, oldest first."""
        return list(self._streams)

    def push(self, message: bytes, *, api_key: str | None = None) -> int:
        """Send a message on every websocket (of one account); returns on how many."""
        chosen = [s for s in self._streams if api_key in (None, s.session.api_key)]
        for stream in chosen:
            stream.push(message)
        return len(chosen)

    def ping_streams(self) -> None:
        """Do on every websocket, now, what the venue does once per ping interval."""
        for stream in self.streams:
            stream.ping()

    # --- requests -------------------------------------------------------------------------------

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        transport = http.transport  # http forgets it once the client has gone
        try:
            body = await http.read()
        except (ConnectionError, web.RequestPayloadError):
            return web.Response()  # the client has gone in the middle of its request
        request, handler = self._parse(http, body)
        received = self._host.record(transport, request)
        decision = self._host.faults.decide(request)
        received.actions = decision.actions
        try:
            if not await self._host.wait_before(decision):
                wire.end_connection(transport, reset=True)
                received.answer = "hung"
                return web.Response()
            reply: Reply | Session = Reply()
            if decision.executed:
                reply, received.executed = self._execute(request, handler, decision)
            if not isinstance(reply, Reply):
                if decision.ending is None:
                    received.answer, received.status = "upgraded", 101
                    return await self._stream(http, reply, request, transport)
                reply = Reply()  # any ending spoils an upgrade
            response, received.answer = await wire.send_ending(
                http, reply, decision.ending, self._host.waits, self._host.later
            )
            received.status = response.status if response.prepared else None
        except ConnectionError:
            received.answer = "client gone"
            return web.Response()
        else:
            return response
        finally:
            self._host.advance()  # the reply is out: now what it set in motion may take effect
            self._host.stir()

    def _parse(
        self, http: web.BaseRequest, body: bytes
    ) -> tuple[Request, Callable[[Engine, Request], Reply | Session]]:
        request = Request(
            method=http.method,
            raw_path=http.raw_path,
            headers={name.lower(): value for name, value in http.headers.items()},
            body=body,
            remote=http.remote or "",
        )
        operation = ""
        params: dict[str, str] = {}
        handler: Callable[[Engine, Request], Reply | Session] = self._unknown
        if request.headers.get("upgrade", "").lower() == "websocket":
            if opening := self._router.stream(request.path):
                operation, handler, params = opening[0].operation, opening[0].open, opening[1]
        elif found := self._router.route(request.method, request.path):
            operation, handler, params = found[0].operation, found[0].handler, found[1]
        request = replace(
            request, operation=operation, params=params, api_key=self.dialect.api_key(request)
        )
        return request, handler

    def _unknown(self, _engine: Engine, request: Request) -> Reply:
        return self.dialect.unknown(request)

    def _execute(
        self,
        request: Request,
        handler: Callable[[Engine, Request], Reply | Session],
        decision: Decision,
    ) -> tuple[Reply | Session, bool]:
        """Answer a request; whether it was carried out, rather than refused by the limits."""
        # The time is told only now: a request that was held up is judged by when it gets here.
        moment = self._host.moment(decision)
        self.engine.advance(moment.now_ms)
        request = replace(request, moment=moment)
        limits = self._limits
        if limits is not None and (refusal := limits.admit(request)) is not None:
            return self._date(limits.settle(request, refusal), moment), False
        reply = handler(self.engine, request)
        if isinstance(reply, Reply):
            if limits is not None:
                reply = limits.settle(request, reply)
            reply = self._date(reply, moment)
        return reply, True

    def _date(self, reply: Reply, moment: Moment) -> Reply:
        """The reply with the venue's time in its `Date`, if replies have that."""
        if self._dated:
            with contextlib.suppress(ValueError, OverflowError, OSError):  # no date is so far off
                date = formatdate(moment.venue_ms / 1000, usegmt=True)
                return replace(reply, headers=(("Date", date), *reply.headers))
        return reply

    async def _stream(
        self,
        http: web.BaseRequest,
        session: Session,
        request: Request,
        transport: asyncio.Transport | None,
    ) -> web.StreamResponse:
        stream = Stream(self._host, session, request, transport)
        self._streams.append(stream)
        self._host.stir()
        try:
            return await stream.run(http, self._ping_interval)
        finally:
            self._streams.remove(stream)
            self._host.stir()
