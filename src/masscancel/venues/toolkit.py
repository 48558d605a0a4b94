"""Tools that venues share: origins, envelopes and error tables, rows, numbers, times, batches.

Every venue's reply is read in the same way: :func:`open_envelope` decodes it, and raises the
refusal that it holds; the venue's own code goes before the HTTP status, and what is not the venue's
own JSON says nothing of the key.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from masscancel.calls import Call, Flow, Reply, Request, Slices, Stamp
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

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")

OK: Final = 200

# Flows.


def ask(call: Call[T]) -> Flow[T]:
    """Make a single call: as a flow of its own or, after ``yield from``, as a step of one."""
    value: T = one((yield [call]))
    return value


def one(results: Sequence[T | MassCancelError]) -> T:
    """The single result of a step of one part; its error is raised."""
    (result,) = results
    if isinstance(result, MassCancelError):
        raise result
    return result


def every(results: Sequence[T | MassCancelError]) -> list[T]:
    """All results of a step; the first error is raised, with a note that counts the rest."""
    values = [result for result in results if not isinstance(result, MassCancelError)]
    errors = [result for result in results if isinstance(result, MassCancelError)]
    if errors:
        error = errors[0]
        error.add_note(f"{len(errors)} of {len(results)} calls failed, {len(values)} succeeded")
        raise error
    return values


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Items, so many at a time as one request may name."""
    return [items[at : at + size] for at in range(0, len(items), size)]


def unsigned(call: Call[Any], _credentials: Credentials, _stamp: Stamp) -> Request:
    """A public request: no key, no signature."""
    return Request(call.method, call.path, {})


# Settings.

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ORIGIN: Final = re.compile(
    rf"(?P<scheme>[a-z]+)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?P<port>:[1-9]\d{{0,4}})?/?",
    re.IGNORECASE | re.ASCII,
)


def check_origin(value: object, *, name: str, scheme: str) -> str:
    """Check that a URL is a bare origin, and encrypted unless it is a loopback address.

    Returns:
        The origin in its one spelling.

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
            f"{name} would send keys to {host} in clear text: use {scheme}s:// ({scheme}:// is for "
            "loopback addresses such as 127.0.0.1; a name may lead anywhere)"
        )
    return f"{found['scheme'].lower()}://{host}{found['port'] or ''}"


def _is_host(host: str) -> bool:
    """Whether a host is a name or an address, and does not only look like an address."""
    if host.startswith("[") or re.fullmatch(r"[\d.]+", host):
        return _address(host) is not None
    return True


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether a value is an integer within bounds; a bool is none."""
    return type(value) is int and least <= value <= most


# JSON.

_CONTENT_TYPES: Final = frozenset({"application/json", "text/html", "text/plain"})


def _one_value_each(pairs: list[tuple[str, object]]) -> None:
    """Refuse an object in which a name stands twice."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in one object")


_ONE_VALUE_EACH: Final = json.JSONDecoder(
    object_pairs_hook=_one_value_each, parse_int=str, parse_float=str
)


#: A name in a text without escapes; perhaps more than that, never less.
_NAME: Final = re.compile(rb'"([^"]*)"\s*:')


def check_names(text: bytes) -> None:
    """Check that in no object of a JSON text a name stands twice.

    Of two values msgspec would take the last, others the first: RFC 8259 section 4. Where all names
    of the text differ, which is quick to see, no object can have one twice.

    Raises:
        ValueError: one does.
    """
    names = _NAME.findall(text)
    if b"\\" in text or len(set(names)) != len(names):
        _ONE_VALUE_EACH.raw_decode(text.decode().lstrip())


def decode_json(
    decoder: "msgspec.json.Decoder[T]", reply: Reply, part: msgspec.Raw | bytes | None = None
) -> T:
    """Decode a reply's body; or a part of it, or all of it once more, after it has been decoded.

    Raises:
        ProtocolError: the reply is not the JSON that was expected, or a name in it has two values.
    """
    try:
        text = reply.body if part is None else part
        value = decoder.decode(text)
        if len(reply.body) > SLICE:
            _check_payload_name(decoder.type, bytes(text))
        elif part is None:
            check_names(reply.body)
    except (ValueError, RecursionError) as error:  # msgspec's, too, are ValueErrors
        why = describe_json_error(error)
    else:
        return value
    kind = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    raise ProtocolError(
        f"the reply can't be understood: HTTP {reply.status}, {len(reply.body)} bytes of "
        f"{kind if kind in _CONTENT_TYPES else 'another content type'}; {why}"
    )


def _check_payload_name(kind: Any, text: bytes) -> None:
    """Check the names in a large text as far as they decide which rows count.

    To look at all of them would stop the event loop for longer than a cancel may wait.
    """
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    for field in msgspec.structs.fields(kind) if is_struct else ():
        if field.type is msgspec.Raw:
            name = b'"' + field.encode_name.encode() + b'"'
            # Counting takes a tenth of the time of searching.
            if text.count(name) > 1 and len(re.findall(re.escape(name) + rb"\s*:", text)) > 1:
                check_names(text)


def describe_json_error(error: Exception) -> str:
    """Why JSON could not be decoded. Of what the peer said, nothing is repeated."""
    if isinstance(error, msgspec.ValidationError):
        return re.sub("'.*'", "", str(error), flags=re.DOTALL)
    if isinstance(error, ProtocolError):
        return error.message.rpartition(": ")[2]
    return str(error) if type(error) is ValueError else "it is not JSON"


# Rows.

#: How much of a listing is decoded in a piece, in bytes: a millisecond's work.
SLICE: Final = 128 * 1024
#: So many cuts are tried before a piece is made larger.
_CUTS: Final = 8
#: Half a surrogate pair, which JSON's grammar allows and no text holds; what else is escaped, a
#: pair among it, is the group.
_HALF_A_PAIR: Final = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|[^u]|u(?![dD][89a-fA-F]))"
    rb"|u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


class Rows(msgspec.Struct, Generic[R, K]):
    """The rows of a listing.

    Attributes:
        whole: those that could be read.
        keys: what a cancel needs of the others.
        problem: what is wrong with the first of the others, for people; ``""`` if there are none.
            The listing is no proof then.
    """

    whole: list[R]
    keys: list[K]
    problem: str = ""


class RowDecoder(Generic[R, K]):
    """Decodes rows piece by piece. Only what a cancel needs of a row is needed of it.

    Args:
        row: the type of a row as it is documented.
        key: the type of what a cancel needs of it.
        named: whether the rows are the values of an object, by their ids, in place of an array's.
        convert: from a row to the value that is to be listed, made piece by piece, too. A row of
            which it raises a ``ProtocolError`` can't be read whole.
    """

    def __init__(
        self,
        row: type[R],
        key: type[K],
        *,
        named: bool = False,
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        self._convert = convert or (lambda row: row)
        self._brackets = (b"{", b"}") if named else (b"[", b"]")
        self._named = named
        self._rows: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            dict[str, row] if named else list[row]  # type: ignore[valid-type]
        )
        self._raw: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            dict[str, msgspec.Raw] if named else list[msgspec.Raw]
        )
        self._row = msgspec.json.Decoder(row)
        self._key = msgspec.json.Decoder(key)

    def decode(
        self, reply: Reply, part: msgspec.Raw | bytes | None = None
    ) -> Slices[Rows[Any, Any]]:
        """Decode a reply's body, or a part of it. Rows that have names become pairs.

        A row that can be read but in part is in ``keys``.

        Raises:
            ProtocolError: the text is not rows in JSON, or a row lacks what a cancel needs.
        """
        text = memoryview(reply.body if part is None else part)
        found: Rows[Any, Any] = Rows([], [])
        opening, closing = self._brackets
        stripped = bytes(text[:64]).lstrip()
        if not stripped.startswith(opening):
            raise _unreadable(reply, "it is not a list of rows")
        start = len(bytes(text[:64])) - len(stripped) + 1
        if start == len(text):
            raise _unreadable(reply, "it is not JSON")
        cut = _cut_before(bytes(text[start : start + 256]), named=self._named)
        while start < len(text):
            piece, start = self._piece(reply, text, start, cut)
            self._take(reply, opening + piece + closing, found)
            if start < len(text):
                yield
        return found

    def _piece(
        self, reply: Reply, text: memoryview, start: int, cut: re.Pattern[bytes]
    ) -> tuple[bytes, int]:
        """The next rows, and where those after them start.

        A cut may fall into a string or into a row; what is before it is no JSON then.
        """
        opening, closing = self._brackets
        size, tried = SLICE, 0
        while start + size < len(text):
            found = cut.search(text, start + size)
            if found is None:
                break
            piece = bytes(text[start : found.start() + 1])
            try:
                self._raws(opening + piece + closing)
            except (ValueError, RecursionError):
                tried += 1
                size = found.start() + 1 - start if tried % _CUTS else 2 * size
            else:
                return piece, found.end()
        rest = bytes(text[start:]).rstrip()
        if not rest.endswith(closing):
            raise _unreadable(reply, "it is not JSON")
        return rest[:-1], len(text)

    def _take(self, reply: Reply, piece: bytes, found: Rows[Any, Any]) -> None:
        try:
            rows = self._rows.decode(piece)
            values = [self._convert(row) for row in (rows.items() if self._named else rows)]
        except (ValueError, RecursionError, ProtocolError):
            values = None
        if values is None:
            self._take_singly(reply, piece, found)
        else:
            found.whole.extend(values)

    def _raws(self, piece: bytes) -> tuple[Any, str]:
        """The rows as they came, and what had to be mended before they could be told apart."""
        try:
            return self._raw.decode(piece), ""
        except (ValueError, RecursionError):
            mended = _HALF_A_PAIR.sub(lambda found: found[0] if found[1] else rb"\ufffd", piece)
            if mended == piece:
                raise
        return self._raw.decode(mended), "half a surrogate pair"

    def _take_singly(self, reply: Reply, piece: bytes, found: Rows[Any, Any]) -> None:
        try:
            raws, mended = self._raws(piece)
            found.problem = found.problem or mended
            for name, raw in raws.items() if self._named else enumerate(raws):
                try:
                    row = self._row.decode(raw)
                    found.whole.append(self._convert((name, row) if self._named else row))
                except (ValueError, RecursionError, ProtocolError) as error:
                    found.problem = found.problem or describe_json_error(error)
                    key = self._key.decode(raw)
                    found.keys.append((name, key) if self._named else key)
        except (ValueError, RecursionError) as error:
            why = describe_json_error(error)
        else:
            return
        raise _unreadable(reply, why)


def _cut_before(beginning: bytes, *, named: bool) -> re.Pattern[bytes]:
    """Make the pattern of where a row may begin: in an array, at the first row's first name.

    A string holds no quotes but escaped ones, so that a cut in one is rare.
    """
    if named:
        return re.compile(rb'\}\s*,\s*(?=")')
    first = re.match(rb'\s*\{\s*("(?:[^"\\]|\\.)*")', beginning)
    return re.compile(rb"\}\s*,\s*(?=\{\s*" + (re.escape(first[1]) if first else b'"') + b")")


def whole(rows: Rows[R, K]) -> list[R]:
    """Every row of a listing, for a proof or for a caller.

    Raises:
        ProtocolError: one could be read in part only.
    """
    if rows.problem:
        raise ProtocolError(f"a row of the listing can't be understood: {rows.problem}")
    return rows.whole


#: Where caches say whether they have answered themselves: RFC 9211, and what is in use beside it.
_CACHES: Final = ("Cache-Status", "X-Cache", "X-Cache-Status", "X-Proxy-Cache", "CF-Cache-Status")
#: ``HIT``, ``MISS, HIT``, ``TCP_MEM_HIT from …``, ``Hit from cloudfront``, ``…; hit; ttl=30``. A
#: host's name after ``from``, or ``fwd=stale``, is none; ``RefreshHit`` has asked the venue.
_FROM_CACHE: Final = re.compile(
    r"(?:^|[,;])\s*(?:tcp_(?:\w+_)?)?(?:hit|stale|updating)\b", re.IGNORECASE
)


def check_fresh(reply: Reply) -> None:
    """Refuse a listing that a cache has answered: it says nothing of the orders of now.

    Call it first, on what is to be a proof. A refusal is left to be read as one.

    Raises:
        ProtocolError: the reply has an age (RFC 9111 section 5.1), or a cache says that it is its.
    """
    age = reply.headers.get("Age", "").strip().strip("0")
    says = ", ".join(reply.headers.get(name, "") for name in _CACHES)
    if reply.status == OK and (age or _FROM_CACHE.search(says)):
        raise ProtocolError("the listing comes from a cache, and proves nothing")


def _unreadable(reply: Reply, why: str) -> ProtocolError:
    return ProtocolError(f"the listing can't be understood: {len(reply.body)} bytes; {why}")


def finish(slices: Slices[T], reply: Reply) -> T | Slices[T]:
    """The value at once where the reply is small, otherwise the slices, for the engine to take."""
    if len(reply.body) > SLICE:
        return slices
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            value: T = stop.value
            return value


# Numbers, times, sides.

#: Decimal places before or after the point: what has more is no price and no quantity, and sums of
#: such numbers overflow.
_LARGEST: Final = 32


def decimal(value: str | float | None) -> Decimal:
    """A number that a venue wrote as text or as a number; zero for none, or for empty text.

    Raises:
        ProtocolError: the text is no finite number, or one beyond any price or quantity.
    """
    if value is None or value == "":
        return Decimal(0)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > _LARGEST:
        raise ProtocolError("the reply can't be understood: a price or quantity is no number")
    return number


def side(word: str) -> Literal["buy", "sell"]:
    """A side, however a venue spells it.

    Raises:
        ProtocolError: the word is neither.
    """
    match word.lower():
        case "buy" | "b":
            return "buy"
        case "sell" | "s":
            return "sell"
    raise ProtocolError("the reply can't be understood: a side in it is neither buy nor sell")


_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def milliseconds(text: str | None) -> int:
    """An RFC 3339 time, in ms since the epoch.

    Raises:
        ProtocolError: the text is none.
    """
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        moment = None
    if moment is None:
        raise ProtocolError("the reply can't be understood: a time in it is none")
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)


def retry_after(reply: Reply, now_ms: int) -> float | None:
    """The wait that a reply asks for, in seconds: RFC 9110 section 10.2.3, both forms."""
    value = reply.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    until_ms = http_date(value)
    return None if until_ms is None else max(0.0, (until_ms - now_ms) / 1000)


def http_date(value: str) -> int | None:
    """A date of HTTP's, ms since the epoch: RFC 9110 section 5.6.7."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:  # all of HTTP's dates are in UTC
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


# Envelopes and refusals.


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The refusal that a reply holds.

    Attributes:
        kind: what the venue's code means, from its table; ``None`` if the code is not documented.
        code: the venue's code, ``None`` if it gives none.
        reason: the venue's short word.
        message: the venue's sentence.
        retry_after: how long it asks to wait, in seconds, beside the header.
        may_have_executed: whether it may have been carried out all the same; ``None`` leaves that
            to the kind.
    """

    kind: type[VenueError] | None = None
    code: int | str | None = None
    reason: str = ""
    message: str = ""
    retry_after: float | None = None
    may_have_executed: bool | None = None


def open_envelope(
    decoder: "msgspec.json.Decoder[T]",
    reply: Reply,
    now_ms: int,
    refused: Callable[[T], Refusal | None],
) -> T:
    """Decode what every reply of a venue has, if it says success.

    Args:
        decoder: of the envelope.
        reply: the reply.
        now_ms: the venue's time, for a ``Retry-After`` that names a date.
        refused: from the envelope to the refusal that it holds, ``None`` if it says success.

    Raises:
        VenueError: the venue refused.
        ProtocolError: the reply is no envelope, or one of success with another status than 200.
    """
    try:
        envelope = decode_json(decoder, reply)
    except ProtocolError as unreadable:
        if reply.status == OK:  # anything else speaks through its status
            raise
        error = foreign_error(reply, now_ms)
        error.add_note(unreadable.message)
    else:
        refusal = refused(envelope)
        if refusal is None and reply.status == OK:
            return envelope
        if refusal is None and reply.status < 400:  # noqa: PLR2004  # RFC 9110 section 15.5
            error = foreign_error(reply, now_ms)
        else:  # success under a status of failure contradicts itself: either may be true
            error = refusal_error(reply, now_ms, refusal or Refusal(may_have_executed=True))
    raise error


def refusal_error(reply: Reply, now_ms: int, refusal: Refusal) -> MassCancelError:
    """The error that a venue's own refusal is: by its code, then by the HTTP status.

    A code that is not documented may mean anything, at HTTP 200 even that it was carried out.
    """
    kind = refusal.kind or _kind_of(reply.status, has_code=refusal.code is not None)
    asked = refusal.retry_after if refusal.retry_after is not None else retry_after(reply, now_ms)
    error = kind(refusal.code, refusal.reason, refusal.message, reply.status, retry_after=asked)
    if refusal.may_have_executed is not None:
        error.may_have_executed = refusal.may_have_executed
    elif refusal.kind is None and reply.status == OK:
        error.may_have_executed = True
    if isinstance(error, StampRefused):
        error.date_ms = http_date(reply.headers.get("Date", ""))
    return error


def foreign_error(reply: Reply, now_ms: int) -> MassCancelError:
    """The error that a reply is which is not the venue's own: a proxy's, a CDN's, a firewall's.

    It says nothing of the key or of the request, so that asking again may help.
    """
    if reply.status in _RATE_LIMITED:
        kind: type[VenueError] = RateLimited
    elif reply.status >= 400:  # noqa: PLR2004  # RFC 9110 sections 15.5 and 15.6
        kind = VenueUnavailable
    else:
        return ProtocolError(f"HTTP {reply.status} is no answer to a cancel or a listing")
    return kind(None, "", "", reply.status, retry_after=retry_after(reply, now_ms))


_RATE_LIMITED: Final = frozenset({418, 429})
#: A load balancer's and a proxy's: nobody waited for the venue's answer.
_UNANSWERED: Final = frozenset({408, 460, 499})
_OF_THE_KEY: Final[Mapping[int, type[VenueError]]] = {
    401: AuthenticationError,
    403: PermissionDenied,
}


def _kind_of(status: int, *, has_code: bool) -> type[VenueError]:
    if status in _RATE_LIMITED:
        return RateLimited
    if status >= 500 or status in _UNANSWERED:  # noqa: PLR2004  # RFC 9110 section 15.6
        return VenueUnavailable
    if status in _OF_THE_KEY:
        return _OF_THE_KEY[status]
    return VenueError if has_code or status < 400 else InvalidRequest  # noqa: PLR2004  # likewise


def kind_by_prefix(text: str, kinds: Mapping[str, type[VenueError]]) -> type[VenueError] | None:
    """Look up an error's class by the longest known beginning of its text."""
    name = max((name for name in kinds if text.startswith(name)), key=len, default=None)
    return None if name is None else kinds[name]


def merged(results: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """The answers about several batches, as one."""
    return {key: value for result in results for key, value in result.items()}
