"""Requests through an ``aiohttp.ClientSession`` of the user's, behind the same seam.

Slower, and less is promised: what arrives on an idle connection may be taken for an answer, and the
user's own tracing sees signatures. What can be promised is: nothing is sent twice (aiohttp sends a
request again after a disconnect, with the old signature), and nothing is redirected.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

import aiohttp
from yarl import URL

from masscancel.calls import Reply, Request
from masscancel.errors import MassCancelError, NotSent, OutcomeUnknown, ProtocolError
from masscancel.transport.failures import not_sent, why
from masscancel.transport.host import Waiter

__all__ = ["WARNING", "BorrowedConnection", "BorrowedHost"]

#: What is said once where a session of the user's is used.
WARNING: Final = (
    "requests go through a session of your own: stray bytes on its connections may be taken for "
    "answers, and its tracing sees signatures"
)
_NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientProxyConnectionError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
)

OnEnd = Callable[[Reply | MassCancelError], object]


async def send_once(request: Any, handler: Any) -> Any:
    """Keep aiohttp from sending a request again: it does so after a disconnect it knows."""
    try:
        return await handler(request)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as problem:
        if isinstance(problem, aiohttp.ClientConnectorError):
            raise
        raise aiohttp.ClientConnectionError(why(problem)) from None


class BorrowedConnection:
    """One request through a user's session; what stands for a connection there.

    Args:
        session: the user's.
        origin: where it goes.
    """

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self._session = session
        self._origin = origin
        self._task: asyncio.Task[None] | None = None
        self._on_end: OnEnd | None = None

    def send(self, request: Request, *, max_reply: int, on_end: OnEnd) -> None:
        """Send a request in a task of its own; ``on_end`` is called with what comes of it."""
        self._on_end = on_end
        work = self._run(request, max_reply)
        self._task = asyncio.get_running_loop().create_task(work)

    def abort(self) -> None:
        """Wait for no answer any more; aiohttp closes the connection then."""
        self._on_end = None
        if self._task is not None:
            self._task.cancel()

    def lose(self, reason: str) -> None:
        """The same; who waits for the answer is told why there won't be one."""
        on_end = self._on_end
        self.abort()
        if on_end is not None:
            on_end(OutcomeUnknown(f"{self._origin} gave no usable answer: {reason}"))

    async def _run(self, request: Request, max_reply: int) -> None:
        try:
            result: Reply | MassCancelError = await self._ask(request, max_reply)
        except aiohttp.ClientError as problem:
            result = self._translated(problem)
        except OSError as problem:
            result = OutcomeUnknown(f"{self._origin} gave no usable answer: {why(problem)}")
        except Exception as problem:  # noqa: BLE001  # the user's own middlewares may raise any
            result = OutcomeUnknown(
                f"{self._origin} gave no usable answer: the session raised {type(problem).__name__}"
            )
        self._task = None
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(result)

    async def _ask(self, request: Request, max_reply: int) -> Reply | MassCancelError:
        own = getattr(self._session, "_middlewares", ())  # to keep them: ours goes innermost
        async with self._session.request(
            request.method,
            URL(self._origin + request.target, encoded=True),
            headers={"Accept-Encoding": "identity", **request.headers},
            data=request.body or None,
            allow_redirects=False,
            middlewares=(*own, send_once),
        ) as response:
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > max_reply:
                    return ProtocolError(
                        f"the reply of {self._origin} is larger than {max_reply} bytes"
                    )
            return Reply(response.status, response.headers, bytes(body))

    def _translated(self, problem: aiohttp.ClientError) -> MassCancelError:
        if isinstance(problem, _NEVER_SENT):
            cause = getattr(problem, "os_error", problem)
            return not_sent(self._origin, cause)
        if isinstance(problem, aiohttp.ClientResponseError):
            return ProtocolError(f"{self._origin} gave no usable answer: it is not valid HTTP")
        if isinstance(problem, aiohttp.NonHttpUrlClientError):
            return NotSent(f"{self._origin} could not be reached: it is no URL of HTTP")
        reason = str(problem) if type(problem) is aiohttp.ClientConnectionError else why(problem)
        return OutcomeUnknown(f"{self._origin} gave no usable answer: {reason}")


class BorrowedHost:
    """An origin that is reached through a user's session, as a :class:`Host` is used.

    aiohttp keeps the connections; here there is always one.

    Args:
        session: the user's.
        origin: which one.
    """

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self._session = session
        self._origin = origin
        self._under_way: WeakSet[BorrowedConnection] = WeakSet()
        self.size = 0
        self.on_lost: Callable[[], object] = _ignore
        self.calm = asyncio.Event()
        self.calm.set()

    def take(self, *, cancels: bool) -> BorrowedConnection:
        """A connection, as aiohttp has them."""
        del cancels
        connection = BorrowedConnection(self._session, self._origin)
        self._under_way.add(connection)
        return connection

    def take_oldest(self) -> BorrowedConnection:
        """The same."""
        return self.take(cancels=True)

    async def dial(self, *, cancels: bool) -> BorrowedConnection:
        """The same."""
        return self.take(cancels=cancels)

    def wait(
        self,
        ready: Callable[[BorrowedConnection], object],
        *,
        cancels: bool,
        fresh: bool = False,
    ) -> Waiter:
        """Call ``ready`` with one: that it is fresh is aiohttp's affair."""
        ready(self.take(cancels=cancels))
        return Waiter(_ignore_it, fresh=fresh, on_end=_ignore)

    def give_back(self, connection: Any, *, cancels: bool) -> None:
        """Take one back on which nothing was sent."""

    def idle_for_cancels(self) -> int:
        """One: aiohttp keeps the rest."""
        return 1

    def close_old(self) -> None:
        """Do nothing: aiohttp closes what has been idle for long."""

    async def close(self) -> None:
        """End what is under way; the session stays the user's."""
        for connection in [*self._under_way]:
            connection.lose("the session pool was closed")


def _ignore() -> None:
    """Nobody asks."""


def _ignore_it(_: object) -> None:
    """Nobody waits."""
