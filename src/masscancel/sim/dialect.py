"""The seam between the server and a venue: a dialect answers parsed requests, purely.

A further venue is one file with one class that satisfies `Dialect`. The server knows nothing of any
venue; a dialect knows nothing of sockets. State that a venue keeps between requests, such as the
last nonce of a key, lives in the dialect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec

from masscancel.sim.engine import Engine

if TYPE_CHECKING:
    import random

    from masscancel.sim.orders import Order

JSON_HEADERS: Final = (("Content-Type", "application/json; charset=utf-8"),)


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """When a request is carried out, and how.

    `now_ms` is the engine's time, and the venue's own clock is `skew_ms` ahead of it.
    `effect_delay_ms` is handed to the engine with a cancel (None: the engine's default).
    """

    now_ms: int = 0
    skew_ms: int = 0
    effect_delay_ms: int | None = None

    @property
    def venue_ms(self) -> int:
        """The time by the venue's own clock, in ms."""
        return self.now_ms + self.skew_ms


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a dialect sees it.

    `raw_path` is the target as it came, with its query; `params` are the parts of the path that the
    route names, unquoted; header names are lower case.
    """

    method: str
    raw_path: str
    operation: str = ""
    api_key: str = ""
    params: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    remote: str = ""
    moment: Moment = Moment()

    @property
    def path(self) -> str:
        """The path as it came, without its query."""
        return self.raw_path.partition("?")[0]

    @property
    def query_string(self) -> str:
        """The query as it came, "" if there is none (for venues that sign it)."""
        return self.raw_path.partition("?")[2]

    @property
    def query(self) -> dict[str, str]:
        """The query, decoded; of a name that comes twice the last value counts."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The body, decoded as a form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


class Reply(msgspec.Struct, frozen=True):
    """What a dialect answers: status, body and headers."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = JSON_HEADERS


def json_reply(payload: Any, status: int = 200) -> Reply:
    """Answer with `payload` as JSON."""
    return Reply(status, msgspec.json.encode(payload))


Handler = Callable[[Engine, Request], Reply]


class Route(msgspec.Struct, frozen=True):
    """A method and a path template (`/{group}/order/all`), their name, and what answers them.

    `operation` is the name by which faults and the record of requests know it; routes may share
    one.
    """

    method: str
    template: str
    operation: str
    handler: Handler


class Session(Protocol):
    """One websocket session of a dialect: messages in, messages out, no I/O.

    Each method returns what is to be sent, in order; after that the session ends if `closed` is
    true.
    """

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        ...

    @property
    def api_key(self) -> str:
        """Whose session it is; "" while it is nobody's."""
        ...

    def greet(self) -> list[bytes]:
        """Say what a new session is told first."""
        ...

    def operation(self, message: bytes) -> str:
        """Name what a message asks for, for faults and the record; "" if it can't be told."""
        ...

    def receive(self, message: bytes, moment: Moment) -> list[bytes]:
        """Carry a message out and answer it."""
        ...

    def readdress(self, answer: bytes, request_id: str) -> bytes:
        """Put another request id into an answer; "" takes it out."""
        ...

    def order_changed(self, order: Order, moment: Moment) -> list[bytes]:
        """Tell what the session's subscriptions have it told of a change to an order."""
        ...

    def ping(self, moment: Moment) -> list[bytes]:
        """Do what the venue does once per ping interval."""
        ...

    def disconnect(self) -> list[bytes]:
        """End the session with the venue's own notice."""
        ...


class StreamRoute(msgspec.Struct, frozen=True):
    """A path template for websockets; `open` accepts an upgrade, or refuses it with a reply."""

    template: str
    operation: str
    open: Callable[[Engine, Request], Session | Reply]


class Dialect(Protocol):
    """One venue's way of talking."""

    @property
    def name(self) -> str:
        """The venue's name, lower case."""
        ...

    @property
    def categories(self) -> Mapping[str, str]:
        """The account categories, each with the prefix of its account ids."""
        ...

    def routes(self) -> Iterable[Route]:
        """Every request that is understood."""
        ...

    def stream_routes(self) -> Iterable[StreamRoute]:
        """Every websocket that is offered; none for most."""
        ...

    def api_key(self, request: Request) -> str:
        """Tell whose request it claims to be, unverified; "" if it does not say."""
        ...

    def unknown(self, request: Request, /) -> Reply:
        """Answer a request that no route matches."""
        ...

    def order_id(self, rng: random.Random, serial: int, /) -> str:
        """Make the id of the `serial`-th order."""
        ...


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[Route], stream_routes: Iterable[StreamRoute]) -> None:
        self._routes = [(route.method, _pattern(route.template), route) for route in routes]
        self._streams = [(_pattern(route.template), route) for route in stream_routes]

    def route(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Find the route of a request, and the parts that its template names."""
        for wanted, pattern, route in self._routes:
            if wanted == method and (match := pattern.fullmatch(path)):
                return route, _unquoted(match)
        return None

    def stream(self, path: str) -> tuple[StreamRoute, dict[str, str]] | None:
        """Find the route of a websocket upgrade."""
        for pattern, route in self._streams:
            if match := pattern.fullmatch(path):
                return route, _unquoted(match)
        return None


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)))


def _unquoted(match: re.Match[str]) -> dict[str, str]:
    return {name: unquote(value) for name, value in match.groupdict().items()}
