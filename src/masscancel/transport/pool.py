"""The session pool: warm connections to every origin, their clocks, and who may send when."""

import asyncio
import logging
import random
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

import aiohttp

from masscancel.calls import SMALL_REPLY, Limit, Precedence, Probe, Reply, Stamp
from masscancel.errors import (
    ConfigurationError,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    ProtocolError,
    RateLimited,
)
from masscancel.events import PROCESS, Listener, OriginBlocked, Publisher
from masscancel.transport.borrowed import WARNING, BorrowedConnection, BorrowedHost
from masscancel.transport.clock import Clock, ClockReading, monotonic_ms
from masscancel.transport.connection import Connection
from masscancel.transport.dialer import Dialer
from masscancel.transport.host import MOST_RESERVED, Host
from masscancel.transport.ledger import LEDGER, RetryBudgets, affordable
from masscancel.transport.reach import Reach, trace
from masscancel.transport.resolver import Resolver
from masscancel.transport.settings import StreamSettings
from masscancel.transport.timers import Chores, Timers
from masscancel.transport.waiting import run_to_end
from masscancel.transport.websocket import WebSocket, open_websocket

__all__ = ["SessionPool", "most_connections"]

log = logging.getLogger("masscancel")

#: The year 3000: no clock is further ahead.
_LATEST_MS: Final = 32_503_680_000_000
#: The share of a documented limit that keeping warm may cost.
_WARMTH_SHARE: Final = 0.05
#: How long a connection may be idle before it has to be used to stay open, in seconds.
_LONGEST_IDLE: Final = 45.0
#: The wait before what was lost is opened again, in seconds: it doubles up to the interval.
_REOPEN: Final = 0.2


_Connection = Connection | BorrowedConnection


class SessionPool:
    """Warm connections, shared by any number of clients of one event loop.

    An async context manager. It is one pool of its own, apart from any other traffic of the
    program: nothing that patches aiohttp's sessions can break or read a cancel.

    Args:
        connections: how many requests of one account may be in flight to one origin, those that
            cancel apart, which never queue behind others.
        warm: how many connections to each origin are kept open while idle.
        burst: the same, for a kill of that many requests at once without a handshake; the larger
            of the two counts. Where that would cost more than a twentieth of a limit that the venue
            documents, fewer are kept: :meth:`warmth` says how many.
        warm_interval: how often they are used to stay so, in seconds.
        connect_timeout: how long one attempt may take to connect, TLS included, in seconds.
        ssl_context: a context of your own, such as for a private certificate authority. It must
            verify certificates and host names.
        proxy: the URL of an HTTP proxy, such as ``"http://user:password@host:3128"``; ``"env"``
            takes it from ``HTTPS_PROXY``. Requests go through a tunnel (CONNECT), encrypted.
        local_addr: the address of this machine to connect from.
        family: ``socket.AF_INET`` or ``socket.AF_INET6``, to use one of them alone.
        dns_ttl: how long the addresses of a name are used before they are looked up again, in
            seconds. Those that can't be reached are looked up again at once.
        dns_patience: how long a look-up may take before the last known addresses are used, in
            seconds.
        streams: how websockets are kept.
        session: an ``aiohttp.ClientSession`` of your own, or a function that makes one, to send
            through in place of the pool's own connections, such as for a mock in tests. Slower, and
            less is promised: see the documentation. What needs a pool in another thread, such as
            the dead man's switch, needs the function.

    Raises:
        ConfigurationError: an argument is out of range, or the context does not verify.
    """

    def __init__(
        self,
        *,
        connections: int = 64,
        warm: int = 3,
        burst: int = 0,
        warm_interval: float = 7.0,
        connect_timeout: float = 3.0,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        local_addr: str | None = None,
        family: int = 0,
        dns_ttl: float = 60.0,
        dns_patience: float = 0.5,
        streams: StreamSettings | None = None,
        session: aiohttp.ClientSession | Callable[[], aiohttp.ClientSession] | None = None,
    ) -> None:
        if not isinstance(connections, int) or connections < 1:
            raise ConfigurationError("connections must be a positive integer")
        if not isinstance(warm, int) or warm < 0 or not isinstance(burst, int) or burst < 0:
            raise ConfigurationError("warm and burst must be whole numbers, 0 or more")
        if not (warm_interval > 0 and connect_timeout > 0):
            raise ConfigurationError("warm_interval and connect_timeout must be positive seconds")
        if not (dns_ttl >= 0 and dns_patience > 0):
            raise ConfigurationError("dns_ttl and dns_patience are seconds, the latter above 0")
        if ssl_context is not None and not (
            isinstance(ssl_context, ssl.SSLContext)
            and ssl_context.verify_mode == ssl.CERT_REQUIRED
            and ssl_context.check_hostname
        ):
            raise ConfigurationError("ssl_context must verify certificates and host names")
        #: As given, by their names.
        self.settings: dict[str, Any] = {
            "connections": connections,
            "warm": warm,
            "burst": burst,
            "warm_interval": warm_interval,
            "connect_timeout": connect_timeout,
            "ssl_context": ssl_context,
            "proxy": proxy,
            "local_addr": local_addr,
            "family": family,
            "dns_ttl": dns_ttl,
            "dns_patience": dns_patience,
            "streams": streams,
            "session": session,
        }
        #: How websockets are kept.
        self.streams = streams or StreamSettings()
        #: How many requests of one account that do not cancel may be in flight to one origin.
        self.connections = connections
        self._warm = max(warm, burst)
        self._warm_interval = warm_interval
        self._connect_timeout = connect_timeout
        self._open = False
        self._dialer: Dialer
        self._session: aiohttp.ClientSession | None = None
        self._original: SessionPool | None = None  # whose twin it is
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Tells the pool's own listeners, and those of the process.
        self.events = Publisher(PROCESS)
        self._new_dialer()  # refuses what can't be used

    def _new_dialer(self) -> Dialer:
        settings = self.settings
        return Dialer(
            resolver=Resolver(ttl=settings["dns_ttl"], patience=settings["dns_patience"]),
            ssl_context=settings["ssl_context"],
            proxy=settings["proxy"],
            local_addr=settings["local_addr"],
            family=settings["family"],
            connect_timeout=self._connect_timeout,
        )

    async def __aenter__(self) -> Self:
        if self._open:
            raise ConfigurationError("the session pool is open already")
        #: Whose it is. To ask for the running one costs a system call, up to Python 3.11.
        self.loop = _running_loop()
        #: The time limits of all calls.
        self.timers = Timers(self.loop)
        #: What can wait.
        self.chores = Chores(self.loop)
        #: What retries draw from.
        self.budgets = RetryBudgets()
        self._hosts: dict[str, Host | BorrowedHost] = {}
        self._warmed: dict[str, int] = {}
        self._tried: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._limits: dict[str, Sequence[Limit]] = {}
        self._clocks: defaultdict[str, Clock] = defaultdict(Clock)
        self._measuring: dict[str, asyncio.Task[None]] = {}
        self._dialer = self._new_dialer()
        session = self.settings["session"]
        if session is not None:
            self._session = session() if callable(session) else session
            log.warning(WARNING)
        if self._original is not None and self._original.is_open:  # what it has found out
            self._clocks.update(self._original._clocks)  # noqa: SLF001  # of the same kind
            self._dialer.resolver.learn(self._original._dialer.resolver)  # noqa: SLF001  # likewise
        self._open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def twin(self) -> "SessionPool":
        """A pool with the same settings, not entered yet, for another event loop.

        Its events reach this one's listeners.

        Raises:
            ConfigurationError: the pool sends through a session, which another loop can't use.
        """
        session = self.settings["session"]
        if session is not None and not callable(session):
            raise ConfigurationError(
                "a session belongs to one event loop: give SessionPool a function that makes one"
            )
        twin = SessionPool(**self.settings)
        twin.events = Publisher(self.events)
        twin._original = self  # of the same kind
        return twin

    @property
    def is_open(self) -> bool:
        """Whether the pool has been entered and not been closed."""
        return self._open

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a listener with every event of this pool's clients from now on.

        Args:
            listener: a plain function of one event. It is called from any thread and may not block.

        Returns:
            What ends that.
        """
        return self.events.subscribe(listener)

    async def close(self) -> None:
        """End what runs in the background, then close the connections. Idempotent.

        A cancellation does not stop it half way; it is raised afterwards.
        """
        await run_to_end(self._close())

    async def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.chores.finish()
        hosts = [*self._hosts.values()]
        self._hosts.clear()  # there are none any more, for calls that are still under way
        for host in hosts:
            await host.close()
        self.timers.finish()
        self._dialer.close()
        if self._session is not None and callable(self.settings["session"]):
            await self._session.close()

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task until it has ended, or the pool is closed."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Connections.

    def host(self, origin: str) -> Host | BorrowedHost:
        """The connections to an origin.

        Raises:
            NotSent: the pool is not open.
        """
        host = self._hosts.get(origin)
        if host is None:
            if not self._open:
                raise NotSent("the session pool is not open")
            if self._session is not None:
                host = BorrowedHost(self._session, origin)
            else:
                reserved = max(self._warm, MOST_RESERVED)
                host = Host(origin, self._dialer.dial, self._may_open, self.loop, reserved)
            self._hosts[origin] = host
        return host

    def _may_open(self) -> bool:
        """Whether the process has descriptors left for another connection, with some to spare."""
        return self.connections_open < most_connections()

    @property
    def connections_open(self) -> int:
        """The number of connections that are open, or about to be."""
        return sum(host.size for host in self._hosts.values())

    async def open_websocket(
        self, url: str, headers: Mapping[str, str], **options: Any
    ) -> WebSocket:
        """Open a websocket on a connection of its own.

        Args:
            url: where to.
            headers: of the upgrade request.
            options: as :func:`~masscancel.transport.websocket.open_websocket` takes them.

        Raises:
            VenueError: the upgrade was refused.
            NotSent: there is no connection, or no answer on it: nothing was asked yet.
        """
        if not self._open:
            raise NotSent("the session pool is not open")
        return await open_websocket(self._dialer, url, headers, **options)

    async def reach(self, origin: str) -> Reach | None:
        """Find out how an origin is reached, by a connection that is kept for cancels.

        Returns:
            What was found; ``None`` where a session sends, which keeps that to itself.
        """
        host = self.host(origin)
        if isinstance(host, BorrowedHost):
            return None
        return await trace(origin, self._dialer, host)

    # Clocks.

    async def read_clock(self, probe: Probe, *, patience: float) -> ClockReading:
        """Tell how far an origin's clock is off: as it was measured last, or by a reading now.

        Args:
            probe: reads it.
            patience: how long to wait for leave to read it, in seconds.

        Raises:
            RateLimited: the origin, or its limits, leave no room for a reading within that time.
            MassCancelError: it was not told.
        """
        clock = self._clocks[probe.origin]
        if clock.is_measured:
            return ClockReading(ahead_ms=clock.now_ms() - time.time() * 1000, trip_ms=0.0)
        try:
            async with asyncio.timeout(patience):
                await self._wait_for_leave(probe)
        except TimeoutError:
            raise RateLimited(message=f"{probe.origin} leaves no room to read its clock") from None
        try:
            return await self._read(probe, self.host(probe.origin).take(cancels=True))
        except TimeoutError:
            raise OutcomeUnknown(f"{probe.origin} does not tell the time: no answer") from None

    def clock(self, origin: str) -> Clock:
        """The origin's clock."""
        return self._clocks[origin]

    def stamp(self, origin: str, api_key: str = "", nonces_per_second: int = 0) -> Stamp:
        """The origin's time now, and a nonce for the key if one is asked for."""
        return self._clocks[origin].stamp(api_key, nonces_per_second)

    def measure(
        self, probe: Probe, *, since: float, date_ms: int | None = None
    ) -> asyncio.Task[None]:
        """Measure an origin's clock, unless that was done after ``since`` (``time.monotonic``).

        Any number of callers share one measurement. Until it has ended, the clock goes by
        ``date_ms``, the venue's time now, to the second, if that is known.
        """
        task = self._measuring.get(probe.origin)
        if task is None:
            clock = self._clocks[probe.origin]
            if clock.measured_at <= since:
                clock.forget(date_ms)
            task = self.loop.create_task(self._measure(probe, since))
            self._measuring[probe.origin] = task
            task.add_done_callback(lambda _: self._measuring.pop(probe.origin, None))
            self.keep(task)
        return task

    async def _measure(self, probe: Probe, since: float) -> None:
        clock = self._clocks[probe.origin]
        for _ in range(3):
            if clock.measured_at > since:
                return
            await self._probe(probe, partial(self.host(probe.origin).take, cancels=True))

    async def _probe(self, probe: Probe, take: Callable[[], _Connection | None]) -> None:
        """Read an origin's clock once, when that is allowed: on an idle connection or a new one."""
        await self._wait_for_leave(probe)
        try:
            await self._read(probe, take())
        except (MassCancelError, TimeoutError) as error:
            log.debug("%s does not tell the time: %s", probe.origin, str(error) or "no answer")

    async def _read(self, probe: Probe, connection: _Connection | None) -> ClockReading:
        """Read an origin's clock on a connection, or on a new one."""
        try:
            async with asyncio.timeout(self._connect_timeout):
                if connection is None:
                    connection = await self.host(probe.origin).dial(cancels=True)
                sent_ms = monotonic_ms()
                venue_ms = await self._ask(probe, connection)
        except MassCancelError as error:
            self.note_refusal(probe.origin, "", error)
            raise
        received_ms, now_ms = monotonic_ms(), time.time() * 1000
        self._clocks[probe.origin].add(sent_ms, received_ms, venue_ms)
        trip_ms = received_ms - sent_ms
        return ClockReading(ahead_ms=venue_ms - now_ms + trip_ms / 2, trip_ms=trip_ms)

    async def _ask(self, probe: Probe, connection: _Connection) -> int:
        """Send a probe, and wait for the time that it is answered with.

        Once it has been answered, the connection may be another's: whether to end it is decided
        before anybody can take it.
        """
        answered: asyncio.Future[int] = self.loop.create_future()
        ended = False

        def end(result: Reply | MassCancelError) -> None:
            nonlocal ended
            ended = True
            try:
                venue_ms = _time_in(probe, result)
            except Exception as problem:  # noqa: BLE001  # handed to who waits
                connection.abort()  # what came may be the answer to another request
                if not answered.done():
                    answered.set_exception(problem)
            else:
                if not answered.done():
                    answered.set_result(venue_ms)

        request = probe.request(int(self._clocks[probe.origin].now_ms()))
        try:
            connection.send(request, max_reply=SMALL_REPLY, on_end=end)
            return await answered
        finally:
            if not ended:
                connection.abort()

    # Warmth.

    def keeps_warm(self, origin: str) -> bool:
        """Whether connections to the origin are kept warm, or none are to be."""
        return origin in self._warmed or not self._warm

    def warmth(self, origin: str) -> int:
        """The number of connections to an origin that are kept warm."""
        return self._warmed.get(origin, 0)

    async def warmed(self, origin: str) -> None:
        """Wait until a connection to an origin that is kept warm is open, or could not be had."""
        if origin in self._warmed:
            await self._tried[origin].wait()

    def keep_warm(self, probe: Probe, limits: Sequence[Limit] = ()) -> None:
        """Open connections to an origin in the background, keep them warm, read its clock.

        Args:
            probe: what they are kept warm with.
            limits: the origin's documented limits.
        """
        if not self._open or self.keeps_warm(probe.origin):
            return
        wanted = self._warm if self._session is None else 1  # aiohttp keeps its own
        rate = affordable(limits, probe.costs, _WARMTH_SHARE)
        count = wanted if rate >= wanted else max(1, min(wanted, int(rate * _LONGEST_IDLE)))
        if count < wanted:
            log.info("%s: %d of %d connections are kept warm", probe.origin, count, wanted)
        self._warmed[probe.origin] = count
        self._limits[probe.origin] = limits
        interval = max(self._warm_interval, probe.interval, count / rate)
        self.keep(self.loop.create_task(self._keep_warm(probe, count, interval)))

    async def _keep_warm(self, probe: Probe, count: int, interval: float) -> None:
        """Open what is missing, one after another, behind everybody who waits; use what is idle."""
        host = self.host(probe.origin)
        lost = asyncio.Event()
        host.on_lost = lost.set
        wait = _REOPEN
        if not host.idle_for_cancels():  # the first, for which no limit has to be waited for
            try:
                host.give_back(await host.dial(cancels=True), cancels=True)
            except MassCancelError as error:
                log.debug("%s: %s", probe.origin, error)
        self._tried[probe.origin].set()
        while True:
            lost.clear()
            host.close_old()
            idle = host.idle_for_cancels()
            for _ in range(min(idle, count)):
                await self._probe(probe, host.take_oldest)
            for _ in range(count - host.idle_for_cancels()):
                await host.calm.wait()
                await self._probe(probe, _none)
            missing = host.idle_for_cancels() < count
            wait = min(2 * wait, interval) if missing else _REOPEN
            pause = wait if missing else interval
            try:
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311  # jitter
                    await lost.wait()
                await asyncio.sleep(wait * random.random())  # noqa: S311  # jitter
            except TimeoutError:
                pass

    async def _wait_for_leave(self, probe: Probe) -> None:
        """Wait while the origin wants nothing, or its limits leave no room for a probe."""
        limits = self._limits.get(probe.origin, ())
        while True:
            room = LEDGER.reserve(
                probe.origin, "", probe.costs, limits, precedence=Precedence.PROBE
            )
            if room.wait <= 0:
                return
            room.give_back()
            await asyncio.sleep(room.wait)

    def note_refusal(
        self, origin: str, api_key: str, error: MassCancelError, account: str = ""
    ) -> None:
        """Have everybody wait where a venue has said for how long."""
        seconds = error.retry_after
        if seconds is None or seconds <= 0:
            return
        LEDGER.block(origin, api_key if error.of_key else "", seconds)
        if self.events.active:
            self.events.publish(
                OriginBlocked(
                    origin=origin,
                    account=account if error.of_key else "",
                    seconds=seconds,
                    reason=error.message,
                )
            )


def _running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs.

    Raises:
        ConfigurationError: none does.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "masscancel runs on asyncio, and no asyncio event loop is running here; from trio, or "
            "without a loop, use masscancel.sync"
        ) from None


def _none() -> None:
    """No connection that there is: a new one is wanted."""


def _time_in(probe: Probe, result: Reply | MassCancelError) -> int:
    """A venue's time, if a clock may show it."""
    if isinstance(result, MassCancelError):
        raise result
    venue_ms = probe.decode(result)
    if 0 < venue_ms < _LATEST_MS:
        return venue_ms
    raise ProtocolError("no time that a clock may show")


def most_connections() -> int:
    """So many connections a pool may open: most of the descriptors that the process may have."""
    if resource is None:
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 65_536 if soft == resource.RLIM_INFINITY else max(8, soft * 3 // 4)
