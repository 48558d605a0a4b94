"""For scripts and notebooks: the same calls without ``await``.

Each call opens a client in an event loop of its own thread and waits for it, so that it also works
where an event loop runs already, as in Jupyter. It costs a handshake: a strategy keeps a
:class:`~masscancel.Client` instead.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from masscancel.client import Client
from masscancel.credentials import Credentials
from masscancel.models import Ack, Confirmation, OpenOrder
from masscancel.venues.base import Venue

__all__ = ["cancel_all", "cancel_all_and_confirm", "open_orders"]

T = TypeVar("T")


def cancel_all(
    credentials: Credentials,
    venue: Venue,
    account_category: str,
    symbol: str | None = None,
    *,
    books: Iterable[str] | None = None,
    timeout: float = 5.0,
) -> Ack:
    """Ask the venue to cancel every open order in the scope, and wait for its Ack.

    Args:
        credentials: whose account.
        venue: which exchange, such as ``Binance()``.
        account_category: the venue's word, such as ``"spot"``.
        symbol: one symbol; ``None`` for all.
        books: as for :meth:`masscancel.Client.cancel_all`.
        timeout: seconds from now, covering the handshake and every retry.

    Raises:
        MassCancelError: as :meth:`masscancel.Client.cancel_all` does.

    Example:
        >>> import masscancel.sync
        >>> masscancel.sync.cancel_all(credentials, Binance(), "spot", "BTCUSDT")
    """

    async def call(client: Client[Any], left: float) -> Ack:
        return await client.cancel_all(account_category, symbol, books=books, timeout=left)

    return _run(credentials, venue, account_category, timeout, call)


def cancel_all_and_confirm(
    credentials: Credentials,
    venue: Venue,
    account_category: str,
    symbol: str | None = None,
    *,
    books: Iterable[str] | None = None,
    timeout: float = 10.0,
    settle: float | None = None,
) -> Confirmation:
    """Cancel every open order in the scope, and prove that it is flat.

    Args:
        credentials: whose account.
        venue: which exchange, such as ``Binance()``.
        account_category: the venue's word, such as ``"spot"``.
        symbol: one symbol; ``None`` for all.
        books: as for :meth:`masscancel.Client.cancel_all`.
        timeout: seconds from now, for all of it.
        settle: the time between the two listings, in seconds; ``None`` for the venue's own.

    Raises:
        MassCancelError: as :meth:`masscancel.Client.cancel_all_and_confirm` does.
    """

    async def call(client: Client[Any], left: float) -> Confirmation:
        return await client.cancel_all_and_confirm(
            account_category, symbol, books=books, timeout=left, settle=settle
        )

    return _run(credentials, venue, account_category, timeout, call)


def open_orders(
    credentials: Credentials,
    venue: Venue,
    account_category: str,
    symbol: str | None = None,
    *,
    books: Iterable[str] | None = None,
    timeout: float = 5.0,
) -> list[OpenOrder]:
    """List the open orders in the scope, as the venue says them now.

    Args:
        credentials: whose account.
        venue: which exchange, such as ``Binance()``.
        account_category: the venue's word, such as ``"spot"``.
        symbol: one symbol; ``None`` for all.
        books: as for :meth:`masscancel.Client.open_orders`.
        timeout: seconds from now, covering the handshake and every retry.

    Raises:
        MassCancelError: as :meth:`masscancel.Client.open_orders` does.
    """

    async def call(client: Client[Any], left: float) -> list[OpenOrder]:
        return await client.open_orders(account_category, symbol, books=books, timeout=left)

    return _run(credentials, venue, account_category, timeout, call)


def _run(
    credentials: Credentials,
    venue: Venue,
    account_category: str,
    timeout: float,
    call: Callable[[Client[Any], float], Coroutine[Any, Any, T]],
) -> T:
    """Make one call in an event loop of its own, with what is left of the time."""

    async def work() -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        client = Client(
            credentials, venue=venue, categories=[account_category], entry_timeout=timeout
        )
        async with client:
            return await call(client, max(deadline - loop.time(), 0.001))

    return _in_a_thread(work)


def _in_a_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(asyncio.run(work()))
        except BaseException as problem:  # noqa: BLE001  # it goes to the caller
            result.set_exception(problem)

    # in the caller's context: the call may be a part of a kill
    work_here = partial(copy_context().run, run)
    thread = threading.Thread(target=work_here, name="masscancel-sync", daemon=True)
    thread.start()
    return result.result()
