"""What the server remembers: the requests it received, and the connections they came on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from masscancel.sim.wire import end_connection, write_raw

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from masscancel.sim.faults import Action


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


class Connections:
    """The connections that are open, numbered from 1 as they were opened."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.opened = 0
        self._numbers: dict[asyncio.Transport, int] = {}
        self._changed = changed

    @property
    def numbers(self) -> list[int]:
        """The numbers of those that are open, oldest first."""
        return list(self._numbers.values())

    def number(self, transport: asyncio.Transport | None) -> int:
        """Tell a connection's number; 0 if it has gone."""
        return 0 if transport is None else self._numbers.get(transport, 0)

    def add(self, transport: asyncio.Transport) -> None:
        """Number a new connection."""
        self.opened += 1
        self._numbers[transport] = self.opened
        self._changed()

    def remove(self, transport: asyncio.Transport) -> None:
        """Forget a connection that has ended."""
        self._numbers.pop(transport, None)
        self._changed()

    def drop(self, *, reset: bool) -> int:
        """End every one, by RST or by FIN; returns how many that were."""
        dropped = list(self._numbers)
        for transport in dropped:
            end_connection(transport, reset=reset)
        return len(dropped)

    def write(self, data: bytes, number: int | None) -> int:
        """Write bytes to one, or to all; returns to how many."""
        chosen = [t for t, its_number in self._numbers.items() if number in (None, its_number)]
        for transport in chosen:
            write_raw(transport, data)
        return len(chosen)


class CountingServer(web.Server):
    """aiohttp's low-level server, which tells of every connection."""

    connections_made: Connections

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Number it."""
        self.connections_made.add(transport)
        super().connection_made(handler, transport)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget it."""
        if handler.transport is not None:
            self.connections_made.remove(handler.transport)
        super().connection_lost(handler, exc)
