"""What a venue is: pure code that turns an intent into calls, and replies into values.

A venue does no I/O, has no clock and never retries. It says what it wants as a *flow*: a generator
that yields a list of calls which may be in flight together, is sent one result for each (the
decoded value, or the final error), and returns a value or raises. Whoever drives the flow writes,
retries and hedges the single calls; the flow never sees an attempt.

How three quite different venues say "cancel everything"::

    def cancel_all(self, category, symbol, request_id):      # AscendEX, BitMEX: one call
        [ack] = yield [call]
        return settle(ack)

    def cancel_all(self, category, symbol, request_id):      # Binance: one call per symbol
        [orders] = yield [list_open_orders]
        acks = yield [cancel(symbol) for symbol in symbols_of(orders)]
        return combine(acks)

    def cancel_all(self, category, symbol, request_id):      # Kraken spot: never wider than asked
        [orders] = yield [list_open_orders]
        acks = yield [cancel_batch(ids) for ids in batches(orders, symbol)]
        return combine(acks)
"""

import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

import msgspec

from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.models import Ack, OpenOrder, OrderState, OrderUpdate

__all__ = ["Call", "Flow", "ReadyVenue", "Reply", "Request", "Stamp", "Venue"]

T = TypeVar("T")

#: The largest reply to anything but a listing, in bytes.
SMALL_REPLY: Final = 64 * 1024
#: The largest listing, in bytes: some ten thousand open orders.
LISTING: Final = 8 * 1024 * 1024


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """What a signature needs at the moment of writing.

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
        expires_at_ms: the venue's time after which it lets this in no more; ``None`` if it always
            does.
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


class Saying(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call, said on the venue's stream instead: a cancel-all, and how its answer is known.

    Attributes:
        account_category: whose stream it goes to, and what its answer must name.
        symbol: what its answer must name, ``""`` for all.
        request_id: what its answer carries, if it carries an id.
        encode: from the stamp to the message.
        lifetime_ms: for how long after the stamp the venue may carry it out.
    """

    account_category: str
    symbol: str
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
        decode: from the reply and the stamp of its attempt to the value; raises a
            :class:`~masscancel.MassCancelError` where the venue refused or can't be understood.
        acts: whether it cancels anything. Listings do not.
        repeatable: whether it may be sent again when its outcome is unknown.
        nonces_per_second: how fast its nonces grow; 0 if it wants none. Nonces of one key are made
            to arrive in order.
        max_reply: the largest reply to be read, in bytes.
        limit: for how long it is worth asking, in seconds; ``None`` for as long as there is time.
            For a question beside an answer that is known already.
        saying: how to say the same on a stream; ``None`` where there is no way.
    """

    method: str
    origin: str
    path: str
    body: bytes = b""
    sign: Callable[["Call[Any]", Credentials, Stamp], Request]
    decode: Callable[[Reply, Stamp], T]
    acts: bool
    repeatable: bool = True
    nonces_per_second: int = 0
    max_reply: int = SMALL_REPLY
    limit: float | None = None
    saying: Saying | None = None


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A cheap unsigned request that reads a venue's clock and keeps connections warm.

    Attributes:
        origin: scheme, host and port.
        path: the path with its query; ``{now_ms}`` in it stands for this machine's time.
        interval: how long to wait between rounds of it at least, in seconds: venues count these
            requests, too.
        decode: from the reply to the venue's time, ms since the epoch.
    """

    origin: str
    path: str
    interval: float = 0.0
    decode: Callable[[Reply], int]

    def request(self, now_ms: int) -> Request:
        """The request itself."""
        return Request("GET", self.path.replace("{now_ms}", str(now_ms)), {})


#: Yields calls that may be in flight together, is sent one result each, returns a value or raises.
Flow: TypeAlias = Generator[Sequence[Call[Any]], Sequence[Any], T]


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
    """The venue wants to hear this from us."""

    answer: str


class Ended(msgspec.Struct, frozen=True):
    """The venue ends the session."""

    reason: str


StreamEvent: TypeAlias = Greeting | LoggedIn | Subscribed | Answered | Updated | Pinged | Ended


class StreamDialect(Protocol):
    """How a venue's websocket is spoken to; pure. One serves all categories with the same URL."""

    @property
    def url(self) -> str:
        """Where it is, such as ``wss://host/6/api/pro/v1/stream``."""

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
        """What a message means; empty for what does not matter here.

        Raises:
            ProtocolError: it can't be understood.
        """


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue can and can't do in one account category.

    Attributes:
        whole_account: how everything is cancelled: ``"one call"``, or ``"a call per symbol"`` after
            a listing, so that orders of symbols that appear in between are not covered.
        one_symbol: how one symbol is cancelled: ``"one call"``, or ``"a call per batch of ids"``
            after a listing.
        ack: what the venue's answer tells: ``"received"``, ``"count"`` or ``"orders"``.
        echoes_id: whether a request's id comes back in the answer.
        stop_orders: whether stop and other conditional orders are cancelled too.
        stream: whether order updates can be followed here.
        switch: what the venue's own dead man's switch covers, ``None`` if it has none.
    """

    whole_account: Literal["one call", "a call per symbol"]
    one_symbol: Literal["one call", "a call per batch of ids"]
    ack: Literal["received", "count", "orders"]
    echoes_id: bool
    stop_orders: bool
    stream: bool
    switch: Literal["account", "symbol"] | None


class ReadyVenue(msgspec.Struct, frozen=True, kw_only=True):
    """The venues of which nothing has to be found out before the first cancel."""

    def ready(self) -> bool:
        """Everything is known."""
        return True

    def prepare(self) -> Flow[Self]:
        """Nothing is asked."""
        return self
        yield


class Venue(Protocol):
    """An exchange's dialect. Each is a frozen value that says where it is and how it is spoken to.

    Attributes:
        name: as in ``--venue``, such as ``ascendex``.
        abilities: by account category, in the venue's own words, what it can do there.
    """

    name: ClassVar[str]
    abilities: ClassVar[Mapping[str, Abilities]]

    def ready(self) -> bool:
        """Whether everything is known that a cancel needs; if not, :meth:`prepare` finds it out."""

    def prepare(self) -> Flow[Self]:
        """Find out what the account's first cancel needs; returns the venue that knows it."""

    def origin(self, account_category: str) -> str:
        """Where the category's requests go.

        Raises:
            ScopeError: the venue has no such category.
        """

    def probe(self, origin: str) -> Probe:
        """How to read the clock of one of its origins."""

    def cancel_all(
        self, account_category: str, symbol: str | None, request_id: str | None
    ) -> Flow[Ack]:
        """Cancel every open order in the scope.

        ``request_id`` is what the venue is to echo, where it does; ``None`` for nothing.

        Raises:
            ScopeError: before anything is yielded, if the venue has no such scope.
        """

    def open_orders(self, account_category: str, symbol: str | None) -> Flow[list[OpenOrder]]:
        """Every open order in the scope, read to the last page.

        Raises:
            ScopeError: before anything is yielded, if the venue has no such scope.
        """

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """What has become of orders that are listed no more, by id; unknown ones are left out."""

    def stream(self, account_category: str) -> StreamDialect | None:
        """How the category's order updates can be followed; ``None`` if they can't."""

    def switch(
        self, account_category: str, symbol: str | None, timeout_ms: int
    ) -> Flow[int | None]:
        """Arm the venue's own dead man's switch, or renew it; 0 ms disarms it.

        Returns the venue's time at which it will fire, ms since the epoch, ``None`` if it won't.

        Raises:
            ScopeError: before anything is yielded, if its switch does not cover exactly the scope.
        """


def one(results: Sequence[T | MassCancelError]) -> T:
    """The single result of a flow's only call, or its error raised."""
    (result,) = results
    if isinstance(result, MassCancelError):
        raise result
    return result


def ask(call: Call[T]) -> Flow[T]:
    """A single call, as a flow of its own or, after ``yield from``, as a step of one."""
    value: T = one((yield [call]))
    return value


def every(results: Sequence[T | MassCancelError]) -> list[T]:
    """All results of calls in flight together; the first error, if any, with a note of the rest."""
    values = [result for result in results if not isinstance(result, MassCancelError)]
    errors = [result for result in results if isinstance(result, MassCancelError)]
    if errors:
        error = errors[0]
        error.add_note(f"{len(errors)} of {len(results)} calls failed, {len(values)} succeeded")
        raise error
    return values


_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ORIGIN: Final = re.compile(
    rf"(?P<scheme>[a-z]+)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?P<port>:[1-9]\d{{0,4}})?/?",
    re.IGNORECASE | re.ASCII,
)


def check_origin(value: object, *, name: str, scheme: str) -> str:
    """Check that a URL is a bare origin, encrypted unless it is loopback; return it normalized.

    Args:
        value: what the user gave, such as ``https://ascendex.com``.
        name: the setting's name, for the message.
        scheme: ``"http"`` or ``"ws"``; with an ``s`` where it leaves this machine.

    Raises:
        ConfigurationError: it is anything else. Keys are not sent in clear text.
    """
    found = _ORIGIN.fullmatch(value) if isinstance(value, str) else None
    host = found["host"].lower() if found else ""
    if (
        found is None
        or found["scheme"].lower() not in (scheme, f"{scheme}s")
        or not _is_host(host)
        or int((found["port"] or ":1")[1:]) > 65_535  # noqa: PLR2004  # RFC 9293
    ):
        raise ConfigurationError(
            f"{name} must be an origin such as {scheme}s://host, with nothing after the host"
        )
    if found["scheme"].lower() == scheme and not _is_loopback(host):
        raise ConfigurationError(
            f"{name} would send keys to {host} in clear text: use {scheme}s:// "
            f"({scheme}:// is for loopback)"
        )
    return f"{found['scheme'].lower()}://{host}{found['port'] or ''}"


def _is_host(host: str) -> bool:
    """Whether it is a name or an address, and not something that only looks like an address."""
    if host.startswith("[") or re.fullmatch(r"[\d.]+", host):
        return _address(host) is not None
    return True


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


_CONTENT_TYPES: Final = frozenset({"application/json", "text/html", "text/plain"})


def _one_value_each(pairs: list[tuple[str, object]]) -> None:
    """Refuse an object in which a name stands twice."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in one object")


_ONE_VALUE_EACH: Final = json.JSONDecoder(
    object_pairs_hook=_one_value_each, parse_int=str, parse_float=str
)


def check_names(text: bytes) -> None:
    """Check that in no object of a JSON text a name stands twice.

    Of two values msgspec would take the last, others the first: RFC 8259 section 4.

    Raises:
        ValueError: one does.
    """
    _ONE_VALUE_EACH.raw_decode(text.decode().lstrip())


def decode_json(
    decoder: "msgspec.json.Decoder[T]", reply: Reply, part: msgspec.Raw | bytes | None = None
) -> T:
    """Decode a reply's body; or a part of it, or all of it, once more, after it has been decoded.

    Raises:
        ProtocolError: it is not the JSON that was expected, or a name in it has two values.
    """
    try:
        value = decoder.decode(reply.body if part is None else part)
        if part is None:
            check_names(reply.body)
    except (ValueError, RecursionError) as error:  # msgspec's, too, are ValueErrors
        # Of what the peer said, nothing is repeated.
        why = "it is not JSON"
        if isinstance(error, msgspec.ValidationError):
            why = re.sub("'.*'", "", str(error), flags=re.DOTALL)
        elif type(error) is ValueError:
            why = str(error)
    else:
        return value
    kind = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    raise ProtocolError(
        f"the reply can't be understood: HTTP {reply.status}, {len(reply.body)} bytes of "
        f"{kind if kind in _CONTENT_TYPES else 'another content type'}; {why}"
    )


def decimal(text: str | None) -> Decimal:
    """A number that a venue wrote as text; zero for none, or for empty text.

    Raises:
        ProtocolError: it is no finite number.
    """
    if not text:
        return Decimal(0)
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ProtocolError("the reply can't be understood: a price or quantity is no number")
    return number


def retry_after(reply: Reply, now_ms: int) -> float | None:
    """How long the reply asks to wait, in seconds: RFC 9110 section 10.2.3, both forms."""
    value = reply.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    until_ms = _http_date(value)
    return None if until_ms is None else max(0.0, (until_ms - now_ms) / 1000)


def _http_date(value: str) -> int | None:
    """A date of HTTP's, ms since the epoch: RFC 9110 section 5.6.7."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:  # all of HTTP's dates are in UTC
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def http_error(
    reply: Reply,
    now_ms: int,
    *,
    kind: type[VenueError] | None = None,
    code: int | str | None = None,
    reason: str = "",
    message: str = "",
) -> MassCancelError:
    """The error that a reply is.

    Args:
        reply: the reply.
        now_ms: the venue's time, for a ``Retry-After`` that names a date.
        kind: what the venue's own code says, where it is known; it goes before the HTTP status.
        code: the venue's code.
        reason: the venue's short word.
        message: the venue's sentence.
    """
    kind = kind or _kind_of_status(reply.status, has_code=code is not None)
    if kind is None:
        return ProtocolError(f"HTTP {reply.status} is no answer to a cancel or a listing")
    error = kind(code, reason, message, reply.status, retry_after=retry_after(reply, now_ms))
    if isinstance(error, StampRefused):
        error.date_ms = _http_date(reply.headers.get("Date", ""))
    return error


_KINDS: Final[Mapping[int, type[VenueError]]] = {
    401: AuthenticationError,
    403: PermissionDenied,
    408: VenueUnavailable,
    418: RateLimited,
    429: RateLimited,
    460: VenueUnavailable,  # a load balancer's, as the next
    499: VenueUnavailable,  # a proxy's: it did not wait for the answer
}


def _kind_of_status(status: int, *, has_code: bool) -> type[VenueError] | None:
    if status >= 500:  # noqa: PLR2004  # RFC 9110 section 15.6
        return VenueUnavailable
    if status in _KINDS:
        return _KINDS[status]
    if has_code:
        return VenueError
    return InvalidRequest if 400 <= status < 500 else None  # noqa: PLR2004  # RFC 9110 section 15.5
