"""Enter the clients of accounts, all at once; a cancel waits for its own client alone."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from masscancel.accounts.account import Account
from masscancel.calls import Scope
from masscancel.client import Client
from masscancel.engine.gate import OrderGate
from masscancel.errors import DeadlineExceeded, MassCancelError
from masscancel.fanout import Target
from masscancel.models import Ack, Confirmation, OpenOrder
from masscancel.transport.limiter import Limiter, Ticket
from masscancel.transport.pool import SessionPool

__all__ = ["Entry"]

T = TypeVar("T")


class Entry:
    """A client of one account that is being entered; cancels as soon as it is."""

    def __init__(self, account: Account, pool: SessionPool, timeout: float) -> None:
        self._account = account
        self._pool = pool
        self._timeout = timeout
        self._refusals: dict[str, MassCancelError] = {}
        self._task = asyncio.get_running_loop().create_task(self._enter())

    async def _enter(self) -> Client[Any]:
        account = self._account
        if any(source.slow for source in account.secrets.values()):
            credentials = await _in_thread(account.credentials)
        else:
            credentials = account.credentials()
        client = account.client_of(credentials, self._pool, entry_timeout=self._timeout)
        return await client.__aenter__()

    async def client(self) -> Client[Any]:
        """The client, once it is entered."""
        return await asyncio.shield(self._task)

    async def leave(self) -> None:
        """Leave the client, if it was entered; stop entering it otherwise."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled() and self._task.exception() is None:
            await self._task.result().__aexit__(None, None, None)

    def targets(self) -> list[Target]:
        """A target for each category, which waits for the client; one that can't be, says why."""
        found = []
        for category in self._account.covering:
            try:
                books = self._account.scope(category).books
            except MassCancelError as error:
                books, self._refusals[category] = None, error
            found.append(Target(self, category, None, books))
        return found

    def targets_of_client(self) -> list[Target]:
        """A target for each category, of the client itself."""
        scopes = map(self._account.scope, self._account.covering)
        client = self._task.result()
        return [Target(client, each.account_category, None, each.books) for each in scopes]

    @property
    def account(self) -> str:
        """The account's name."""
        return self._account.name

    def origin(self, account_category: str) -> str:
        """The origin of a category's requests.

        Raises:
            ScopeError: the category can't be cancelled as the account wants it.
        """
        if account_category in self._refusals:
            raise self._refusals[account_category]
        return self._account.venue.origin(account_category)

    def check_scope(self, scope: Scope, *, proven_within: float | None = None) -> None:
        """Check that a scope could be cancelled; sends nothing."""
        del proven_within
        self._account.venue.check_scope(scope)

    async def warm(self, account_category: str) -> None:
        """Do nothing: entering the client does that."""

    def before_close(
        self, holder: object, finish: Callable[[], Coroutine[Any, Any, None]] | None
    ) -> None:
        """Have something done before the client closes."""
        if self._task.done() and not self._task.cancelled() and self._task.exception() is None:
            self._task.result().before_close(holder, finish)

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
        """Cancel a scope, once the client is entered."""
        client = await self._entered(deadline)
        return await client.cancel(
            scope,
            deadline=deadline,
            confirm=confirm,
            settle=settle,
            gate=gate,
            limiters=limiters,
            place=place,
        )

    async def open_orders(self, scope: Scope, *, timeout: float) -> list[OpenOrder]:
        """List a scope, once the client is entered; within so many seconds."""
        client, left = await self._entered_within(scope, timeout)
        return await client.open_orders(
            *(scope.account_category, scope.symbol), books=scope.books, timeout=left
        )

    async def look(self, scope: Scope, *, timeout: float) -> list[OpenOrder]:
        """List a scope where there is room to spare, once the client is entered."""
        client, left = await self._entered_within(scope, timeout)
        return await client.look(scope, timeout=left)

    async def _entered_within(self, scope: Scope, timeout: float) -> tuple[Client[Any], float]:
        """The client for a scope that can be cancelled, and how many seconds are left."""
        self.origin(scope.account_category)
        now = asyncio.get_running_loop().time
        deadline = now() + timeout
        return await self._entered(deadline), max(deadline - now(), 0.001)

    async def _entered(self, deadline: float) -> Client[Any]:
        """The client, once it is entered.

        Raises:
            MassCancelError: it could not be, or not in time.
        """
        if not self._task.done():
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait((self._task,), timeout=max(left, 0.0))
        if not self._task.done():
            raise DeadlineExceeded(
                f"{self.account}: its key could not be read, or the venue could not be asked for "
                "what a cancel needs, within the time; nothing was sent"
            )
        return self._task.result()


async def _in_thread(work: Callable[[], T]) -> T:
    """Do work that may hang in a daemon thread of its own, which keeps nothing from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(set_: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_(value)

    def run() -> None:
        outcome: tuple[Callable[[Any], None], Any]
        try:
            outcome = future.set_result, work()
        except Exception as error:  # noqa: BLE001  # whatever it is, who waits wants to know
            outcome = future.set_exception, error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=run, name="masscancel-secret", daemon=True).start()
    return await future
