"""The client: a venue, credentials and a session pool, joined."""

import asyncio
import math
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TypeVar

from msgspec.structs import replace

from masscancel.credentials import Credentials
from masscancel.driver import Driver, Job, Lanes
from masscancel.errors import ConfigurationError
from masscancel.models import Ack, OpenOrder
from masscancel.retry import RetryPolicy
from masscancel.session import SessionPool
from masscancel.venue import Flow, Venue

__all__ = ["Client"]

T = TypeVar("T")


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
        retry: RetryPolicy | None = None,
        entry_timeout: float = 10.0,
    ) -> None:
        if not isinstance(credentials, Credentials):
            raise ConfigurationError("credentials must be Credentials")
        self._credentials = credentials
        self._venue = venue
        self._explicit = categories is not None
        self._categories = tuple(venue.abilities if categories is None else categories)
        self._policy = retry or RetryPolicy()
        self._entry_timeout = check_timeout(entry_timeout)
        self._pool = pool or SessionPool()
        self._owns_pool = pool is None
        self._entered = False

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
        try:
            if not self._venue.ready():
                job = Job("enter the account", self._deadline(self._entry_timeout))
                self._venue = await self._run(self._venue.prepare(), job)
            for origin in self._origins():
                self._pool.keep_warm(self._venue.probe(origin))
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
        self._entered = False
        if self._owns_pool:
            await self._pool.close()

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

        Raises:
            ScopeError: the venue has no such scope; nothing was sent.
            ConfigurationError: another argument can't be used; nothing was sent.
            VenueError: the venue said no; see its subclasses.
            NotSent: nothing reached the venue within the time.
            OutcomeUnknown: something may have, and no answer came back.
            ProtocolError: the only answers could not be understood.
        """
        deadline = self._deadline(timeout)
        return await self._acknowledge(account_category, symbol, request_id, deadline)

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
        what = _what("open_orders", account_category, symbol)
        job = Job(what, self._deadline(timeout), Lanes(self._pool.lane))
        return await self._run(self._venue.open_orders(account_category, symbol), job)

    async def _cancel_target(
        self,
        account_category: str,
        symbol: str | None,
        *,
        deadline: float,
        lane: asyncio.Semaphore,
    ) -> Ack:
        """What a fan-out does with one target: bounded by its own lane and the pool's."""
        lanes = Lanes(lane, self._pool.lane)
        return await self._acknowledge(account_category, symbol, None, deadline, lanes)

    async def _acknowledge(
        self,
        account_category: str,
        symbol: str | None,
        request_id: str | None,
        deadline: float,
        lanes: Lanes | None = None,
    ) -> Ack:
        job = Job(_what("cancel_all", account_category, symbol), deadline, lanes)
        flow = self._venue.cancel_all(account_category, symbol, request_id)
        ack = await self._run(flow, job)
        return replace(ack, attempts=job.attempts())

    async def _run(self, flow: Flow[T], job: Job) -> T:
        if not self._entered:
            raise ConfigurationError(f"enter {self!r} first: async with Client(...) as client")
        driver = Driver(self._credentials, self._venue, self._pool, self._policy)
        return await driver.run(flow, job)

    def _deadline(self, timeout: float) -> float:
        return asyncio.get_running_loop().time() + check_timeout(timeout)


def _what(call: str, account_category: object, symbol: object) -> str:
    words = [str(word) for word in (call, account_category, symbol) if word not in (None, "")]
    return " ".join(word for word in words if word.isprintable())


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
