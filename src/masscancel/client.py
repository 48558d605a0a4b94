"""The client: a venue, credentials and a session pool, joined."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from random import getrandbits
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, get_args

from msgspec.structs import replace

from masscancel.arguments import check_kind, check_rates, check_settle, check_timeout, scope_of
from masscancel.calls import Flow, Precedence, Scope
from masscancel.credentials import Credentials
from masscancel.engine.account import Account
from masscancel.engine.executor import Executor
from masscancel.engine.gate import OrderGate
from masscancel.engine.operation import Operation
from masscancel.engine.proof import ProofPolicy
from masscancel.engine.prover import Prover
from masscancel.engine.retry import RetryPolicy
from masscancel.engine.streams import Streams
from masscancel.errors import ConfigurationError, MassCancelError
from masscancel.models import (
    Ack,
    Confirmation,
    Gap,
    KeyInfo,
    OpenOrder,
    OrderState,
    OrderUpdate,
    Permission,
    RateLeft,
    Via,
)
from masscancel.transport.forks import check_not_forked, forks
from masscancel.transport.ledger import LEDGER
from masscancel.transport.limiter import Limiter, Ticket
from masscancel.transport.pool import SessionPool
from masscancel.transport.waiting import run_to_end
from masscancel.venues.base import Venue

__all__ = ["Client"]

T = TypeVar("T")
if TYPE_CHECKING:  # so that a plain ``Client`` is one of any venue; a type parameter's default
    from typing_extensions import TypeVar as TypeVarWithDefault  # is Python's own from 3.13 on

    V = TypeVarWithDefault("V", bound=Venue, default=Any)
else:
    V = TypeVar("V", bound=Venue)

_VIAS: Final = get_args(Via)


class Client(Generic[V]):
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
        proof: how a confirmation sweeps and lists.
        rates: what the account may spend in place of the venue's documented limits, by their names,
            such as ``{"weight": 12_000}``: more where the venue has granted that, less where others
            share the account or the address.
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
        venue: V,
        pool: SessionPool | None = None,
        categories: Iterable[str] | None = None,
        watch: Iterable[str] = (),
        retry: RetryPolicy | None = None,
        proof: ProofPolicy | None = None,
        rates: Mapping[str, float] | None = None,
        entry_timeout: float = 10.0,
    ) -> None:
        check_kind("credentials", credentials, Credentials, "Credentials(key, secret)")
        check_kind("venue", venue, Venue, "a venue of masscancel.venues, such as Binance()")
        if venue.passphrase and not credentials.passphrase:
            raise ConfigurationError(
                f"a key of {venue.title} has a passphrase, too: Credentials(key, secret, "
                "passphrase=...), or PREFIX_PASSPHRASE in the environment, beside PREFIX_API_KEY"
            )
        check_kind("pool", pool, SessionPool | None, "an entered SessionPool")
        check_kind("retry", retry, RetryPolicy | None, "a RetryPolicy")
        check_kind("proof", proof, ProofPolicy | None, "a ProofPolicy")
        if isinstance(categories, str) or isinstance(watch, str):
            raise ConfigurationError('categories and watch are several: write ("cash",)')
        self._credentials = credentials
        self._venue = venue
        self._explicit = categories is not None
        self._categories = tuple(venue.abilities if categories is None else categories)
        self._watched = tuple(watch)
        self._policy = retry or RetryPolicy()
        self._proof = proof or ProofPolicy()
        self._rates = check_rates(rates or {}, _limits_of(venue))
        self._entry_timeout = check_timeout(entry_timeout)
        self._pool = pool or SessionPool()
        self._owns_pool = pool is None
        self._executor: Executor | None = None
        self._entered_at = 0  # how many forks had been made by then
        self._before_close: dict[object, Callable[[], Coroutine[Any, Any, None]]] = {}

    def __repr__(self) -> str:
        return f"Client({self._venue.name}, label={self.label!r})"

    @property
    def label(self) -> str:
        """The credentials' label: how the account is told apart."""
        return self._credentials.label

    @property
    def account(self) -> str:
        """The label; without one, 8 hex digits of the key's SHA-256."""
        return self._credentials.account

    @property
    def venue(self) -> V:
        """The venue; once entered, with what had to be found out."""
        return self._venue

    @property
    def pool(self) -> SessionPool:
        """The pool, shared or its own."""
        return self._pool

    @property
    def is_open(self) -> bool:
        """Whether the client has been entered and not been left."""
        return self._executor is not None

    @property
    def categories(self) -> tuple[str, ...]:
        """The account categories that were named; all of the venue's if none were."""
        return self._categories

    async def __aenter__(self) -> Self:
        if self._executor is not None:
            raise ConfigurationError(f"{self!r} is entered already")
        if self._owns_pool:
            await self._pool.__aenter__()
        elif not self._pool.is_open:
            raise ConfigurationError("enter the session pool before the clients that share it")
        self._entered_at = forks()
        self._executor = executor = self._new_executor()
        try:
            if not self._venue.ready():
                deadline = self._deadline(self._entry_timeout)
                categories = self._categories if self._explicit else ()
                operation = self._operation("entry", Scope(""), deadline)
                self._venue = await executor.run(self._venue.prepare(categories), operation)
                self._executor = executor = self._new_executor()
            for origin in self._origins():
                executor.account.keep_warm(origin)
            self._watches = [executor.account.streams.watch(category) for category in self._watched]
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
        await run_to_end(self._close())

    async def _close(self) -> None:
        # Guards whose block has not ended in time for this do their work now.
        for finish in [*self._before_close.values()]:
            await finish()
        executor, self._executor = self._executor, None
        try:
            if executor is not None:
                await executor.account.streams.close()
        finally:
            if self._owns_pool:
                await self._pool.close()

    def before_close(
        self, holder: object, finish: Callable[[], Coroutine[Any, Any, None]] | None
    ) -> None:
        """Have something done before the client closes; ``None`` when it is done already.

        :class:`~masscancel.cancel_on_exit` does this by itself: its block may be in another task.
        """
        if finish is None:
            self._before_close.pop(holder, None)
        else:
            self._before_close[holder] = finish

    def twin(self, pool: SessionPool | None = None) -> "Client[V]":
        """A client of the same account and settings, not entered yet, for another pool or loop."""
        return Client(
            self._credentials,
            venue=self._venue,
            pool=pool,
            categories=self._categories if self._explicit else None,
            retry=self._policy,
            proof=self._proof,
            rates=self._rates,
            entry_timeout=self._entry_timeout,
        )

    def _origins(self) -> set[str]:
        """The origins that are sure to be used."""
        origins = {self._venue.origin(category) for category in self._categories}
        return origins if self._explicit or len(origins) == 1 else set()

    def origin(self, account_category: str) -> str:
        """The origin that the category's requests go to.

        Raises:
            ScopeError: the venue has no such category.
        """
        return self._venue.origin(account_category)

    async def warm(self, account_category: str, *, timeout: float = 5.0) -> None:
        """Keep connections to the category's origin warm from now on; wait for the first.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            timeout: how long to wait, in seconds; that there is none by then is no error.

        Raises:
            ScopeError: the venue has no such category.
        """
        origin = self._venue.origin(account_category)
        self._entered().account.keep_warm(origin)
        with suppress(TimeoutError):
            async with asyncio.timeout(check_timeout(timeout)):
                await self._pool.warmed(origin)

    async def cancel_all(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        books: Iterable[str] | None = None,
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
            books: the books to cancel, such as ``("ordinary",)`` to keep protective stops; ``None``
                for every book of the category.
            request_id: an id for the venue to repeat, where it does; made up if not given.
            timeout: seconds from now, covering every retry.
            via: ``"rest"``; ``"stream"``, on the account's websocket, which is opened if need be;
                or ``"both"`` at once, where the first valid Ack wins and another REST attempt
                follows soon if there is none.
            gate: is shut at once, even if the scope then proves wrong, and stays so until every
                attempt is resolved.

        Raises:
            ScopeError: the venue has no such scope, or can't leave books out; nothing was
                cancelled.
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
        scope = scope_of(account_category, symbol, books)
        operation = self._operation("cancel_all", scope, deadline, gate=gate, via=via)
        return await self._publish(
            self._acknowledge(operation, request_id), operation, "acknowledged"
        )

    async def cancel_all_and_confirm(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        books: Iterable[str] | None = None,
        timeout: float = 10.0,
        settle: float | None = None,
        gate: OrderGate | None = None,
    ) -> Confirmation:
        """Cancel every open order in the scope, again if need be, and prove that it is flat.

        The proof is two empty listings at least ``settle`` apart, with no order update in between
        that opens an order in the scope, and no order of the gate unresolved. It holds for orders
        that the venue makes visible within ``settle``.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            symbol: one symbol, ``None`` for all.
            books: as for :meth:`cancel_all`; the proof is about these.
            timeout: seconds from now, for all of it.
            settle: the time between the two listings, in seconds; ``None`` for the venue's own, by
                its documents. Choose it longer than it takes the venue to list an order.
            gate: is shut before anything is sent; its orders under way are waited for.

        Raises:
            NotFlat: the time was up and orders were still listed: ``residual``.
            Unproven: the time was up and no listing since the last sweep could be read.
            DeadlineExceeded: the time was up before a second empty listing could follow the first.
            MassCancelError: the cancel was refused, as :meth:`cancel_all` raises it.
        """
        deadline = self._deadline(timeout)
        check_settle(settle, timeout)
        abilities = self._venue.abilities.get(account_category)
        if settle is None and abilities is not None:
            check_settle(abilities.settle, timeout)
        if gate is not None:
            gate.shut()
        scope = scope_of(account_category, symbol, books)
        operation = self._operation("cancel_all_and_confirm", scope, deadline, gate=gate)
        return await self._publish(self._confirm(operation, settle), operation, "proven flat")

    async def cancel(
        self,
        scope: Scope,
        *,
        deadline: float,
        confirm: bool,
        settle: float | None,
        gate: OrderGate | None,
        limiters: tuple[Limiter, Limiter],
        place: Ticket,
    ) -> Ack | Confirmation:
        """Cancel as a part of a fan-out: as :class:`~masscancel.fanout.Cancellable` says."""
        name = "cancel_all_and_confirm" if confirm else "cancel_all"
        operation = self._operation(
            name, scope, deadline, gate=gate, limiters=limiters, place=place
        )
        if confirm:
            return await self._publish(self._confirm(operation, settle), operation, "proven flat")
        return await self._publish(self._acknowledge(operation), operation, "acknowledged")

    def check_scope(self, scope: Scope, *, proven_within: float | None = None) -> None:
        """Check that a scope could be cancelled; sends nothing.

        Args:
            scope: what is to be cancelled.
            proven_within: the time in which it is to be proven flat, in seconds, if it is.

        Raises:
            ScopeError: the venue has no such scope.
            ConfigurationError: the client is not entered, or nothing can be proven in so short a
                time: the two listings of the venue's proof lie further apart.
        """
        self._entered()
        self._venue.check_scope(scope)
        if proven_within is not None:
            check_settle(self._venue.ability(scope.account_category).settle, proven_within)

    def _check(self, operation: Operation) -> None:
        try:
            self.check_scope(operation.scope)
        except MassCancelError as error:
            operation.describe(error)
            raise

    async def open_orders(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        books: Iterable[str] | None = None,
        timeout: float = 5.0,
    ) -> list[OpenOrder]:
        """List the open orders in the scope, as the venue says them now.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            symbol: one symbol, ``None`` for all.
            books: the books to list; ``None`` for every book of the category.
            timeout: seconds from now, covering every retry.

        Raises:
            MassCancelError: as :meth:`cancel_all` does; nothing is changed by a listing.
        """
        deadline = self._deadline(timeout)
        scope = scope_of(account_category, symbol, books)
        operation = self._operation("open_orders", scope, deadline)
        return await self._publish(self._list(operation), operation, "listed")

    async def look(self, scope: Scope, *, timeout: float = 5.0) -> list[OpenOrder]:
        """List a scope where there is room to spare: it takes a tenth of a rate at the most.

        Beside a kill, whose cancels and proofs go before it.

        Args:
            scope: what to list.
            timeout: seconds from now, covering every retry.

        Raises:
            MassCancelError: as :meth:`open_orders`.
        """
        operation = self._operation("look", scope, self._deadline(timeout))
        operation.precedence = Precedence.SPARE
        return await self._publish(self._list(operation), operation, "listed")

    async def can_cancel(self, account_category: str, *, timeout: float = 5.0) -> Permission:
        """Ask the venue whether the key may cancel; nothing is cancelled to find it out.

        A key that may only read lists open orders, and fails when it matters.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            timeout: seconds from now, covering every retry.

        Returns:
            ``"yes"`` or ``"no"``, as the venue says; ``"unknown"`` where it has no way of asking.

        Raises:
            MassCancelError: the venue could not be asked, as :meth:`open_orders` raises it.
        """
        flow = self._venue.key_info((account_category,))
        info = await self._question("can_cancel", account_category, flow, timeout)
        return info.cancels[account_category]

    async def key_info(self, categories: Iterable[str], *, timeout: float = 5.0) -> KeyInfo:
        """Ask the venue what the key may do, and from where; nothing is cancelled to find it out.

        Args:
            categories: the account categories that matter, which have one origin: see
                :meth:`origin`.
            timeout: seconds from now, covering every retry.

        Raises:
            MassCancelError: the venue could not be asked, as :meth:`open_orders` raises it.
        """
        asked = tuple(dict.fromkeys(categories))
        if len({self.origin(each) for each in asked}) != 1:
            raise ConfigurationError("key_info asks one origin: give it categories of one")
        flow = self._venue.key_info(asked)
        return await self._question("key_info", asked[0], flow, timeout)

    async def try_cancel(self, account_category: str, *, timeout: float = 5.0) -> Permission:
        """Find out whether the key may cancel by cancelling one order that can't exist.

        For venues that have no way of asking: see :meth:`can_cancel`. The order's id is made up, so
        that no order has it; what the venue says then tells whether the key may cancel. Ask after
        :meth:`open_orders` has succeeded: a key that is not accepted at all is refused, too.

        Args:
            account_category: the venue's word, such as ``"spot"``.
            timeout: seconds from now, covering every retry.

        Returns:
            ``"yes"`` or ``"no"``; ``"unknown"`` where the answer is not as documented.

        Raises:
            ConfigurationError: the venue documents no such way; nothing was sent.
            MassCancelError: the venue could not be asked, as :meth:`open_orders` raises it.
        """
        flow = self._venue.try_cancel(account_category, f"{getrandbits(128):032x}")
        return await self._question("try_cancel", account_category, flow, timeout)

    async def _question(self, name: str, account_category: str, flow: Flow[T], timeout: float) -> T:
        operation = self._operation(name, Scope(account_category), self._deadline(timeout))
        self._check(operation)
        return await self._publish(self._run(flow, operation), operation, "answered")

    def rates_left(self, account_category: str) -> list[RateLeft]:
        """The room in the limits that the category's requests are counted by, as far as is known.

        What others have spent counts where the venue tells it, and it tells it with its replies.

        Args:
            account_category: the venue's word, such as ``"spot"``.

        Raises:
            ScopeError: the venue has no such category.
        """
        origin = self.origin(account_category)
        account = self._entered().account
        return LEDGER.left(origin, self._credentials.api_key, account.limits(origin))

    def blocked_for(self, account_category: str) -> float:
        """How long the category's origin wants to be sent nothing, in seconds; 0 if it does not.

        Args:
            account_category: the venue's word, such as ``"spot"``.

        Raises:
            ScopeError: the venue has no such category.
        """
        return LEDGER.blocked_for(self.origin(account_category), self._credentials.api_key)

    async def log_in(self, account_category: str, *, timeout: float = 5.0) -> None:
        """Open the stream of a category, and wait until its order updates are complete.

        Args:
            account_category: the venue's word, such as ``"cash"``.
            timeout: seconds from now.

        Raises:
            ScopeError: the venue has no such category.
            ConfigurationError: the venue has no stream.
            VenueError: the login or the subscription was refused.
            DeadlineExceeded: the time was up; it says what was wrong last.
        """
        deadline = self._deadline(timeout)
        await self._entered().account.streams.log_in(account_category, deadline)

    async def set_switch(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        timeout_ms: int,
        timeout: float = 5.0,
        gate: OrderGate | None = None,
    ) -> int | None:
        """Arm the venue's own dead man's switch, or renew it; ``timeout_ms=0`` disarms it.

        :class:`~masscancel.DeadMansSwitch` does this by itself.

        Args:
            account_category: the venue's word, such as ``"futures"``.
            symbol: one symbol, ``None`` for all.
            timeout_ms: when it is to fire, in ms from when the venue receives this.
            timeout: seconds from now, covering every retry.
            gate: learns of each attempt, which the venue may carry out late; is not shut.

        Returns:
            When it will fire, in the venue's time, ms since the epoch; ``None`` if it won't.

        Raises:
            ScopeError: the venue has no switch that covers exactly this scope.
            MassCancelError: as :meth:`cancel_all` does.
        """
        scope = Scope(account_category, symbol)
        operation = self._operation("set_switch", scope, self._deadline(timeout), gate=gate)
        operation.precedence = Precedence.NEEDED
        self._check(operation)
        flow = self._venue.switch(scope, timeout_ms)
        return await self._publish(self._run(flow, operation), operation, "set")

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
        return self._entered().account.streams.watch(account_category)

    async def _publish(self, work: Coroutine[Any, Any, T], operation: Operation, outcome: str) -> T:
        """Do the work of a public call, and publish its beginning and its end."""
        events = self._pool.events
        if not events.active:
            return await work
        loop = asyncio.get_running_loop()
        operation.started(events, loop.time())
        try:
            value = await work
        except MassCancelError as error:
            operation.finished(str(error), loop.time(), error)
            raise
        except BaseException as problem:
            operation.finished("ended by its caller", loop.time(), problem)
            raise
        operation.finished(outcome, loop.time(), value=value)
        return value

    async def _confirm(self, operation: Operation, settle: float | None) -> Confirmation:
        self._check(operation)
        category = operation.scope.account_category
        abilities = self._venue.ability(category)
        prover = Prover(
            operation,
            settle=abilities.settle if settle is None else settle,
            policy=self._proof,
            books=self._books(operation.scope),
            sweep=self._acknowledge,
            list_orders=self._list,
            find_states=partial(self._find_states, category),
            watch=self._entered().account.streams.trusted(category),
        )
        return await prover.prove()

    async def _find_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate], operation: Operation
    ) -> Mapping[str, OrderState]:
        return await self._run(self._venue.order_states(account_category, orders), operation)

    async def _list(self, operation: Operation) -> list[OpenOrder]:
        self._check(operation)
        return await self._run(self._venue.open_orders(operation.scope), operation)

    async def _acknowledge(self, operation: Operation, request_id: str | None = None) -> Ack:
        if request_id is None:
            request_id = f"{getrandbits(128):032x}"  # it has to be unique, not secret
        scope = operation.scope
        operation.precedence = Precedence.CANCEL
        self._check(operation)
        flow = self._venue.cancel_all(scope, request_id)
        ack = await self._entered().run(flow, operation)
        books, left_out = self._books(scope)
        return replace(ack, attempts=operation.attempts(), books=books, left_out=left_out)

    def _books(self, scope: Scope) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The books that a scope covers, and those of its category that it leaves out."""
        books = self._venue.ability(scope.account_category).books
        if scope.books is None:
            return books, ()
        return scope.books, tuple(book for book in books if book not in scope.books)

    async def _run(self, flow: Flow[T], operation: Operation) -> T:
        return await self._entered().run(flow, operation)

    def _new_executor(self) -> Executor:
        streams = Streams(self._credentials, self._venue, self._pool)
        settings = self._policy, self._rates
        return Executor(Account(self._credentials, self._venue, self._pool, streams, *settings))

    def _entered(self) -> Executor:
        if self._executor is None:
            raise ConfigurationError(f"enter {self!r} first: async with Client(...) as client")
        return self._executor

    def _operation(self, name: str, scope: Scope, deadline: float, **options: Any) -> Operation:
        return Operation(name, scope, self._venue.name, self.account, deadline, **options)

    def _check_via(self, account_category: str, via: Via) -> None:
        if via not in _VIAS:
            raise ConfigurationError(f"via must be one of {_VIAS}, not {via!r}")
        abilities = None if via == "rest" else self._venue.abilities.get(account_category)
        if abilities is not None and not abilities.stream:  # an unknown category is found out later
            raise ConfigurationError(f"{self._venue.name} has no stream to cancel on: via='rest'")

    def _deadline(self, timeout: float) -> float:
        return self._loop().time() + check_timeout(timeout)

    def _loop(self) -> asyncio.AbstractEventLoop:
        """The client's event loop, if that is the one that runs.

        Raises:
            ConfigurationError: the client is not entered, was in another event loop, or before this
                process was forked.
        """
        self._entered()
        check_not_forked(self._entered_at, self)
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self._pool.loop:
            raise ConfigurationError(
                f"{self!r} was entered in another event loop: call it there, such as with "
                "asyncio.run_coroutine_threadsafe"
            )
        return self._pool.loop


def _limits_of(venue: Venue) -> set[str]:
    """The names of all limits of a venue."""
    origins = {venue.origin(category) for category in venue.abilities}
    return {limit.name for origin in origins for limit in venue.limits(origin)}
