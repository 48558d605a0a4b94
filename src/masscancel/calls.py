"""The vocabulary between the venues and the engine: scopes, calls, stamps, flows. No I/O.

A venue says what it wants as a *flow*: a generator that yields a step, is sent one result for each
part of that step (the decoded value, or the final error), and returns a value or raises. A part is
a call, or a flow of its own; the parts of a step go on side by side, so that a part which is slow
holds up no other. The engine signs, writes and repeats calls; a flow never sees an attempt.

How three quite different venues cancel everything::

    def cancel_all(self, scope, request_id):  # AscendEX: one call
        [ack] = yield [call]
        return ack

    def cancel_all(self, scope, request_id):  # Binance: a flow per book, a call per symbol
        acks = yield [self._cancel_book(book, scope) for book in books]
        return combine(acks)

    def cancel_all(self, scope, request_id):  # Kraken spot, one pair: never wider than asked
        [orders] = yield [list_open_orders]
        acks = yield [cancel_batch(ids) for ids in batches(orders, scope.symbol)]
        return combine(acks)
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from enum import IntEnum, auto
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from masscancel.credentials import Credentials
from masscancel.errors import VenueError
from masscancel.models import Ack, OrderUpdate, Value

__all__ = [
    "Call",
    "Flow",
    "Limit",
    "Precedence",
    "Probe",
    "Reply",
    "Request",
    "Scope",
    "Slices",
    "Spent",
    "Stamp",
]

T = TypeVar("T")

#: The largest reply to anything but a listing, in bytes.
SMALL_REPLY: Final = 64 * 1024
#: The largest listing, in bytes: a hundred thousand open orders.
LISTING: Final = 64 * 1024 * 1024


class Scope(Value, frozen=True):
    """The orders that a cancel or a listing covers. Nobody widens or narrows a scope silently.

    Attributes:
        account_category: the venue's word, such as ``"spot"``.
        symbol: one symbol in the venue's spelling, ``None`` for all.
        books: the names of the books it is about, such as ``("ordinary",)``; ``None`` for every
            book of the category.
    """

    account_category: str
    symbol: str | None = None
    books: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """For people; what could break out of a line of text is left out."""
        books = None if self.books is None else f"({', '.join(map(str, self.books))})"
        words = (self.account_category, self.symbol, books)
        return " ".join(str(word) for word in words if word and str(word).isprintable())


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """The time and the nonce that a signature needs at the moment of writing.

    Attributes:
        time_ms: the venue's time, ms since the epoch, as well as it is known.
        skew_ms: how far ``time_ms`` may be off, in ms; large until the clock has been measured.
        nonce: greater than any before it for the same key; 0 where the call does not want one.
    """

    time_ms: int
    skew_ms: int = 0
    nonce: int = 0


class Request(msgspec.Struct, frozen=True, gc=False):
    """A signed request, ready to be written. Its repr holds nothing that was signed.

    Attributes:
        method: such as ``DELETE``.
        target: path and query, percent-encoded.
        headers: as they are written.
        body: ``b""`` for none.
        expires_at_ms: the venue's time from which on it no longer accepts the request; ``None`` if
            it always does.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
    expires_at_ms: int | None = None

    def __repr__(self) -> str:
        return f"Request({self.method} {self.target.partition('?')[0]})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", f"{self.method} {self.target.partition('?')[0]}")]


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An HTTP reply, complete and of bounded size. Its repr does not show the body.

    Attributes:
        status: the HTTP status.
        headers: case-insensitive.
        body: the bytes, as they came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Reply(HTTP {self.status}, {len(self.body)} bytes)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", f"HTTP {self.status}, {len(self.body)} bytes")]


class Precedence(IntEnum):
    """Who goes first where a limit, a key's turn or a budget is short."""

    CANCEL = auto()
    NEEDED = auto()  # by a cancel, such as the listing that it begins with; or to arm a switch
    AGAIN = auto()  # what is needed, once more; and the listings of a proof but its last
    OTHER = auto()
    PROBE = auto()  # reads a clock
    SPARE = auto()  # good to know, and needed for nothing


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A rate that a venue documents: so much within so many seconds.

    Attributes:
        name: what :attr:`Call.costs` refers to, such as ``"weight"``.
        amount: how much may be spent within ``seconds``, in the venue's own unit.
        seconds: the length of the window; for a counter that decays, the time in which it falls
            from ``amount`` to nothing.
        per: whether each origin has one, or each key at an origin.
        of_cancels: whether cancels spend of it, so that a share of it is kept for them.
        decays: whether it is a counter that falls all the time, rather than a window.
    """

    name: str
    amount: float
    seconds: float
    per: Literal["origin", "key"] = "origin"
    of_cancels: bool = True
    decays: bool = False


class Spent(msgspec.Struct, frozen=True, gc=False):
    """The amount that a venue says has been spent of a limit, by everybody whom it counts together.

    Attributes:
        amount: in the venue's own unit.
        ends_in: when the window ends that it counts in, in seconds at most; endless where that is
            not known, which is no longer than the limit's own length.
    """

    amount: float
    ends_in: float = math.inf


#: Decodes a large listing piece by piece: yields between two pieces, so that the event loop can do
#: something else, and returns the value.
Slices: TypeAlias = Generator[None, None, T]


class StreamMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A cancel-all as a message on the venue's stream, and how to recognise its answer.

    Attributes:
        scope: whose stream it goes to, and what its answer must name.
        request_id: what its answer carries, if the venue repeats ids.
        encode: from the stamp to the message.
        lifetime_ms: for how long after the stamp the venue may carry it out.
    """

    scope: Scope
    request_id: str
    encode: Callable[[Stamp], str]
    lifetime_ms: int


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request that is not signed yet, and how to understand its reply.

    Attributes:
        method: such as ``DELETE``.
        origin: scheme, host and port, such as ``https://ascendex.com``.
        path: the path, percent-encoded, with the query if the query is not signed into it.
        body: ``b""`` for none.
        sign: from the call, the credentials and the stamp to the request; pure.
        decode: from the reply and the stamp of its attempt to the value, or to :data:`Slices` of
            it; raises a :class:`~masscancel.MassCancelError` where the venue refused or the reply
            can't be understood.
        cancels: whether it cancels anything. Listings do not, and never go before a cancel.
        repeatable: whether it may be sent again when its outcome is unknown.
        nonces_per_second: how fast its nonces grow; 0 if it wants none. Nonces of one key are made
            to arrive in order.
        max_reply: the largest reply to be read, in bytes.
        time_limit: for how long it is worth asking, in seconds; ``None`` for as long as there is
            time. For a question beside an answer that is known already.
        costs: what it spends of the venue's documented limits, by their names. What follows a
            colon in a name is counted by itself, such as an instrument: ``"cancels:BTC-USDT"``.
        on_stream: the same as a message on the venue's stream; ``None`` where there is none.
    """

    method: str
    origin: str
    path: str
    body: bytes = b""
    sign: Callable[["Call[Any]", Credentials, Stamp], Request]
    decode: Callable[[Reply, Stamp], T | Slices[T]]
    cancels: bool
    repeatable: bool = True
    nonces_per_second: int = 0
    max_reply: int = SMALL_REPLY
    time_limit: float | None = None
    costs: Mapping[str, float] = {}
    on_stream: StreamMessage | None = None


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A cheap unsigned request that reads a venue's clock and keeps connections warm.

    Attributes:
        origin: scheme, host and port.
        path: the path with its query; ``{now_ms}`` in it stands for this machine's time.
        interval: how long to wait between rounds of it at least, in seconds: venues count these
            requests, too.
        decode: from the reply to the venue's time, ms since the epoch.
        costs: as :attr:`Call.costs`.
    """

    origin: str
    path: str
    interval: float = 0.0
    decode: Callable[[Reply], int]
    costs: Mapping[str, float] = {}

    def request(self, now_ms: int) -> Request:
        """The request itself."""
        return Request("GET", self.path.replace("{now_ms}", str(now_ms)), {})


#: Yields the parts of a step, is sent one result each, returns a value or raises. The parts are
#: calls, or flows, which go on side by side.
Flow: TypeAlias = Generator[Sequence["Call[Any] | Flow[Any]"], Sequence[Any], T]


class Greeting(msgspec.Struct, frozen=True):
    """The stream is open; it is logged in already, or not."""

    logged_in: bool


class LoggedIn(msgspec.Struct, frozen=True):
    """The answer to a login; ``error`` if it was refused."""

    error: VenueError | None = None


class Subscribed(msgspec.Struct, frozen=True):
    """The answer to a subscription; ``error`` if it was refused."""

    account_category: str
    error: VenueError | None = None


class Answered(msgspec.Struct, frozen=True):
    """The answer to a cancel-all, whose id is ``""`` where the venue gives none."""

    request_id: str
    result: Ack | VenueError


class Updated(msgspec.Struct, frozen=True):
    """An order has changed."""

    update: OrderUpdate


class Pinged(msgspec.Struct, frozen=True):
    """The venue expects this answer from the client."""

    answer: str


class Ended(msgspec.Struct, frozen=True):
    """The venue ends the session."""

    reason: str


StreamEvent: TypeAlias = Greeting | LoggedIn | Subscribed | Answered | Updated | Pinged | Ended


class StreamDialect(Protocol):
    """The language of a venue's websocket; pure. One serves all categories with the same URL."""

    @property
    def url(self) -> str:
        """The URL, such as ``wss://host/6/api/pro/v1/stream``."""

    @property
    def clock_origin(self) -> str:
        """The origin whose clock its stamps follow."""

    def login_headers(self, credentials: Credentials, stamp: Stamp) -> Mapping[str, str]:
        """Headers that log in with the upgrade request."""

    def login(self, credentials: Credentials, stamp: Stamp) -> str:
        """The message that logs in where the headers did not."""

    def subscribe(self, account_category: str) -> str:
        """The message that asks for a category's order updates."""

    def ping(self) -> str:
        """The message that keeps the session alive; anything may answer it."""

    def parse(self, message: bytes) -> Sequence[StreamEvent]:
        """Translate a message into events; none for what does not matter here.

        Raises:
            ProtocolError: the message can't be understood.
        """
