"""The client: a venue, credentials and a session pool, joined."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from random import getrandbits
from types import TracebackType
from typing import Any, Final, Self, TypeVar, get_args

from msgspec.structs import replace

from masscancel.credentials import Credentials
from masscancel.driver import Driver
from masscancel.errors import ConfigurationError
from masscancel.gate import OrderGate
from masscancel.job import Job
from masscancel.lanes import Held, Lane, Lanes
from masscancel.models import Ack, Confirmation, Gap, OpenOrder, OrderState, OrderUpdate, Via
from masscancel.prove import Prover
from masscancel.retry import RetryPolicy
from masscancel.session import SessionPool
from masscancel.shield import through
from masscancel.stream import Streams
from masscancel.venue import Flow, Venue

__all__ = ["Client"]

T = TypeVar("T")

_VIAS: Final = get_args(Via)


class Client:
    """One account at one venue.

    An async context manager. Entering it opens connections in the background and does not wait
    for the network, unless the venue has to be asked for something that a cancel needs, such as
    AscendEX for the account group.

    Args:
        credentials: whose account.
        venue: which exchange, and where, such as ``AscendEX(rest_url=..., stream_url=...)``.
        pool: an entered pool to share with other clients; by default the client has its own.
        categories: the account categories it will use, so that connections to their hosts are
            opened on entry. By default, that is done where one host serves all of the venue's.
        watch: the account categories whose order updates are followed from entry on, on a stream
            that is opened in the background: confirmations then see what happens between listings.
        retry: how persistent to be.
        entry_timeout: how long entering may take where the venue has to be asked, in seconds.

    Raises:
        ConfigurationError: an argument is of the wrong kind.

    Example:
        >>> async with Client(credentials, venue=venue) as client:
        ...     ack = await client.cancel_all("cash", "BTC/USDT")
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        venue: Venue,
        pool: SessionPool | None = None,
        categories: Iterable[str] | None = None,
        watch: Iterable[str] = (),
        retry: RetryPolicy | None = None,
        entry_timeout: float = 10.0,
    ) -> None:
        for name, value, kind in (
            ("credentials", credentials, Credentials),
            ("pool", pool, SessionPool | None),
            ("retry", retry, RetryPolicy | None),
        ):
            if not isinstance(value, kind):
                raise ConfigurationError(f"{name} can't be {type(value).__name__}")
        if not hasattr(venue, "abilities"):
            raise ConfigurationError("venue must be a venue, such as those in masscancel.venues")
        if isinstance(categories, str) or isinstance(watch, str):
            raise ConfigurationError('categories and watch are several: write ("cash",)')
        self._credentials = credentials
        self._venue = venue
        self._explicit = categories is not None
        self._categories = tuple(venue.abilities if categories is None else categories)
        self._watched = tuple(watch)
        self._policy = retry or RetryPolicy()
        self._entry_timeout = check_timeout(entry_timeout)
        self._pool = pool or SessionPool()
        self._owns_pool = pool is None
        self._entered = False
        self._time: Callable[[], float] = _time
        self._driver: Driver | None = None
        self._holders: dict[object, Callable[[], Coroutine[Any, Any, None]]] = {}

    def __repr__(self) -> str:
        return f"Client({self._venue.name}, label={self.label!r})"

    @property
    def label(self) -> str:
        """The credentials' label: how the account is told apart."""
        return self._credentials.label

    @property
    def venue(self) -> Venue:
        """The venue; once entered, with what had to be found out."""
        return self._venue

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError(f"{self!r} is entered already")
        if self._owns_pool:
            await self._pool.__aenter__()
        elif not self._pool.is_open:
            raise ConfigurationError("enter the session pool before the clients that share it")
        self._entered = True
        self._time = self._pool.loop.time
        self._driver = driver = self._new_driver()
        try:
            if not self._venue.ready():
                job = self._job("account info", None, None, self._deadline(self._entry_timeout))
                self._venue = await self._run(self._venue.prepare(), job)
                self._driver = driver = self._new_driver()
            for origin in self._origins():
                self._pool.keep_warm(self._venue.probe(origin))
            self._watches = [driver.streams.watch(category) for category in self._watched]
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await through(self._close())

    async def _close(self) -> None:
        # Guards whose block has not ended in time for this do their work now.
        for finish in [*self._holders.values()]:
            await finish()
        self._entered = False
        try:
            if self._driver is not None:
                await self._driver.streams.close()
        finally:
            if self._owns_pool:
                await self._pool.close()

    def hold(self, holder: object, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have something done before the client closes, unless :meth:`let_go` comes first.

        :class:`~masscancel.cancel_on_exit` does this by itself: its block may be in another task.
        """
        self._holders[holder] = finish

    def let_go(self, holder: object) -> None:
        """What was to be done has been done."""
        self._holders.pop(holder, None)

    @property
    def pool(self) -> SessionPool:
        """The pool, shared or its own."""
        return self._pool

    def twin(self, pool: SessionPool | None = None) -> "Client":
        """A client of the same account and settings, not entered yet, for another pool or loop."""
        return Client(
            self._credentials,
            venue=self._venue,
            pool=pool,
            categories=self._categories if self._explicit else None,
            retry=self._policy,
            entry_timeout=self._entry_timeout,
        )

    def _origins(self) -> set[str]:
        """The origins that are sure to be used."""
        origins = {self._venue.origin(category) for category in self._categories}
        return origins if self._explicit or len(origins) == 1 else set()

    async def cancel_all(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        request_id: str | None = None,
        timeout: float = 5.0,
        via: Via = "rest",
        gate: OrderGate | None = None,
    ) -> Ack:
        """Ask the venue to cancel every open order in the scope.

        The Ack says that the request was received. It does not say that anything was cancelled,
        and orders that were sent but not yet acknowledged when it arrived are not.

        Never queues behind other requests. Sent again within the time limit, with a new timestamp
        and signature each, while the outcome is unknown: cancelling twice is harmless.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            symbol: one symbol, such as ``"BTC/USDT"``; ``None`` for all.
            request_id: an id for the venue to echo, where it does; made up if not given.
            timeout: seconds from now, covering every retry.
            via: ``"rest"``; ``"stream"``, on the account's websocket, which is opened if need be;
                or ``"both"`` at once, where the first valid Ack wins and another REST attempt
                follows soon if there is none.
            gate: is shut at once, even if the scope then proves wrong, and stays so until every
                attempt is resolved.

        Raises:
            ScopeError: the venue has no such scope; nothing was sent.
            ConfigurationError: another argument can't be used; nothing was sent.
            VenueError: the venue said no; see its subclasses.
            NotSent: nothing reached the venue within the time.
            OutcomeUnknown: something may have, and no answer came back.
            ProtocolError: the only answers could not be understood.
        """
        deadline = self._deadline(timeout)
        self._check_via(account_category, via)
        if gate is not None:
            gate.shut()
        job = self._job("cancel_all", account_category, symbol, deadline, gate=gate, via=via)
        return await self._acknowledge(account_category, symbol, job, request_id)

    def check_scope(self, account_category: str, symbol: str | None = None) -> None:
        """Check that a scope could be cancelled; sends nothing.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            symbol: one symbol, ``None`` for all.

        Raises:
            ScopeError: the venue has no such scope.
            ConfigurationError: the client is not entered.
        """
        self._entered_driver()
        flow = self._venue.cancel_all(account_category, symbol, None)
        try:
            next(flow, None)
        finally:
            flow.close()

    async def cancel_all_and_confirm(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        timeout: float = 10.0,
        settle: float = 0.25,
        gate: OrderGate | None = None,
    ) -> Confirmation:
        """Cancel every open order in the scope, again if need be, and prove that it is flat.

        The proof is two empty listings at least ``settle`` apart, with no order update in between
        that opens an order in the scope, and no order of the gate unresolved. It holds for orders
        that the venue makes visible within ``settle``: choose it longer than it takes the venue to
        acknowledge an order.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            symbol: one symbol, ``None`` for all.
            timeout: seconds from now, for all of it.
            settle: the time between the two listings, in seconds.
            gate: is shut before anything is sent; its orders under way are waited for.

        Raises:
            NotFlat: the time was up and orders were still listed: ``residual``.
            Unproven: the time was up and no listing since the last sweep could be read.
            DeadlineExceeded: the time was up before a second empty listing could follow the first.
            MassCancelError: the cancel was refused, as :meth:`cancel_all` raises it.
        """
        deadline = self._deadline(timeout)
        settle = check_settle(settle, timeout)
        if gate is not None:
            gate.shut()
        job = self._job("cancel_all_and_confirm", account_category, symbol, deadline, gate=gate)
        return await self._confirm(account_category, symbol, job, settle)

    async def open_orders(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        timeout: float = 5.0,
    ) -> list[OpenOrder]:
        """List the open orders in the scope, as the venue says them now.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            symbol: one symbol, ``None`` for all.
            timeout: seconds from now, covering every retry.

        Raises:
            MassCancelError: as :meth:`cancel_all` does; nothing is changed by a listing.
        """
        deadline = self._deadline(timeout)
        lane = self._entered_driver().pool.lane
        job = self._job("open_orders", account_category, symbol, deadline, lane)
        job.urgent = False
        return await self._list(account_category, symbol, job)

    async def set_switch(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        timeout_ms: int,
        timeout: float = 5.0,
    ) -> int | None:
        """Arm the venue's own dead man's switch, or renew it; ``timeout_ms=0`` disarms it.

        :class:`~masscancel.DeadMansSwitch` does this by itself.

        Args:
            account_category: the venue's word, such as ``"futures"``.
            symbol: one symbol, ``None`` for all.
            timeout_ms: when it is to fire, in ms from when the venue receives this.
            timeout: seconds from now, covering every retry.

        Returns:
            When it will fire, in the venue's time, ms since the epoch; ``None`` if it won't.

        Raises:
            ScopeError: the venue has no switch that covers exactly this scope.
            MassCancelError: as :meth:`cancel_all` does.
        """
        job = self._job("set_switch", account_category, symbol, self._deadline(timeout))
        return await self._run(self._venue.switch(account_category, symbol, timeout_ms), job)

    def order_updates(self, account_category: str) -> AsyncIterator[OrderUpdate | Gap]:
        """Follow the order updates of a category, from now on.

        The stream is opened if need be, and kept up. Any number of iterations may run; one that
        does not keep up is told of a gap and holds nobody up. They end when the client is left.

        Args:
            account_category: the venue's word, such as ``"cash"``.

        Returns:
            An iterator of updates; a :class:`~masscancel.Gap` says that some may be missing before
            it, because the stream dropped or the consumer did not keep up.

        Raises:
            ScopeError: the venue has no such category.
            ConfigurationError: the venue has no stream.
            AuthenticationError: from the iteration, if the login is refused.
        """
        return self._entered_driver().streams.watch(account_category)

    async def _cancel_target(
        self,
        account_category: str,
        symbol: str | None,
        *,
        deadline: float,
        lane: Held,
        settle: float | None,
        gate: OrderGate | None,
    ) -> Ack | Confirmation:
        """What a fan-out does with one target: bounded by its own lane and the pool's."""
        call = "cancel_all" if settle is None else "cancel_all_and_confirm"
        lanes = lane, self._entered_driver().pool.lane
        job = self._job(call, account_category, symbol, deadline, *lanes, gate=gate)
        if settle is None:
            return await self._acknowledge(account_category, symbol, job)
        return await self._confirm(account_category, symbol, job, settle)

    async def _confirm(
        self, account_category: str, symbol: str | None, job: Job, settle: float
    ) -> Confirmation:
        prover = Prover(
            job,
            settle=settle,
            sweep=partial(self._acknowledge, account_category, symbol),
            list_orders=partial(self._list, account_category, symbol),
            find_states=partial(self._find_states, account_category),
            watch=self._entered_driver().streams.trusted(account_category),
            symbol=symbol,
        )
        return await prover.prove()

    async def _find_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate], job: Job
    ) -> Mapping[str, OrderState]:
        return await self._run(self._venue.order_states(account_category, orders), job)

    async def _list(self, account_category: str, symbol: str | None, job: Job) -> list[OpenOrder]:
        return await self._run(self._venue.open_orders(account_category, symbol), job)

    async def _acknowledge(
        self,
        account_category: str,
        symbol: str | None,
        job: Job,
        request_id: str | None = None,
    ) -> Ack:
        if request_id is None:
            request_id = f"{getrandbits(128):032x}"  # it has to be unique, not secret
        flow = self._venue.cancel_all(account_category, symbol, request_id)
        ack = await self._entered_driver().run(flow, job)
        return replace(ack, attempts=job.attempts())

    async def _run(self, flow: Flow[T], job: Job) -> T:
        return await self._entered_driver().run(flow, job)

    def _new_driver(self) -> Driver:
        streams = Streams(self._credentials, self._venue, self._pool)
        return Driver(self._credentials, self._venue, self._pool, streams, self._policy)

    def _entered_driver(self) -> Driver:
        if not self._entered or self._driver is None:
            raise ConfigurationError(f"enter {self!r} first: async with Client(...) as client")
        return self._driver

    def _job(
        self,
        call: str,
        account_category: object,
        symbol: object,
        deadline: float,
        *lanes: Lane | Held,
        gate: OrderGate | None = None,
        via: Via = "rest",
    ) -> Job:
        words = (call, account_category, symbol, self._venue.name, self.label)
        return Job(words, deadline, Lanes(*lanes) if lanes else None, gate, via)

    def _check_via(self, account_category: str, via: Via) -> None:
        if via not in _VIAS:
            raise ConfigurationError(f"via must be one of {_VIAS}, not {via!r}")
        ability = None if via == "rest" else self._venue.abilities.get(account_category)
        if ability is not None and not ability.stream:  # of no such category, its flow tells
            raise ConfigurationError(f"{self._venue.name} has no stream to cancel on: via='rest'")

    def _deadline(self, timeout: float) -> float:
        return self._time() + check_timeout(timeout)


def _time() -> float:
    return asyncio.get_running_loop().time()


def check_timeout(timeout: object) -> float:
    """Check a time limit, in seconds.

    Raises:
        ConfigurationError: it is not a positive, finite number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ConfigurationError(f"timeout must be a number of seconds, not {timeout!r}")
    if not (math.isfinite(timeout) and timeout > 0):
        raise ConfigurationError(f"timeout must be positive and finite, not {timeout!r}")
    return float(timeout)


def check_settle(settle: object, timeout: float) -> float:
    """Check the time between two listings, in seconds.

    Raises:
        ConfigurationError: it is not a number, negative, or leaves no time for the proof.
    """
    if isinstance(settle, bool) or not isinstance(settle, int | float) or not settle >= 0:
        raise ConfigurationError(f"settle must be a number of seconds, not {settle!r}")
    if settle >= timeout:
        raise ConfigurationError(
            f"with settle={settle} nothing can be proven within timeout={timeout}"
        )
    return float(settle)
