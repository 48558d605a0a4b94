"""Replies as JSON, and listings row by row.

A reply in which a name has two values is refused. Of a row, only what a cancel needs is strict; a
large listing is decoded in slices; one that a cache has answered proves nothing.
"""

import json
import re
from collections.abc import Callable
from functools import wraps
from itertools import islice
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

import msgspec

from masscancel.calls import Reply, Slices, Stamp
from masscancel.errors import ProtocolError
from masscancel.venues.toolkit.values import http_date

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")

OK: Final = 200

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
_NAME: Final = re.compile(rb'"([^"]*+)"\s*+:')


def check_names(text: bytes) -> None:
    """Check that in no object of a JSON text a name stands twice.

    Of two values msgspec would take the last, others the first: RFC 8259 section 4. Where all names
    of the text differ, which is quick to see, no object can have one twice.

    Raises:
        ValueError: one does.
    """
    names = _NAME.findall(text)
    if b"\\" in text or len(set(names)) != len(names):
        _ONE_VALUE_EACH.raw_decode(text.decode(errors="surrogateescape").lstrip())


#: Stands for what could not be read.
_LOST: Final = "\ufffd"
#: Half a surrogate pair, which JSON's grammar allows and no text holds; what else is escaped, a
#: pair among it, is the group.
_HALF_A_PAIR: Final = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|[^u]|u(?![dD][89a-fA-F]))"
    rb"|u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def decode_text(
    decoder: "msgspec.json.Decoder[T]", text: msgspec.Raw | bytes
) -> tuple[T, msgspec.Raw | bytes]:
    """Decode JSON in which there may be what no text holds: half a surrogate pair, or no UTF-8.

    ``U+FFFD`` stands for it then. Where a name decides something, :func:`readable` refuses it.

    Returns:
        The value, and the text that it was decoded from.

    Raises:
        ValueError: it is not JSON, or not of the decoder's type; msgspec's errors are such.
        RecursionError: it is nested too deeply.
    """
    try:
        return decoder.decode(text), text
    except (ValueError, RecursionError):
        came = bytes(text)
        mended = _mended(came)
        if mended == came:
            raise
    return decoder.decode(mended), mended


def _mended(text: bytes) -> bytes:
    """A text with ``U+FFFD`` in place of what no text holds."""
    text = _HALF_A_PAIR.sub(lambda found: found[0] if found[1] else _LOST.encode(), text)
    return text if text.isascii() else text.decode(errors="replace").encode()


def is_readable(name: str) -> bool:
    """Whether nothing in a name stands for what could not be read."""
    return _LOST not in name


def readable(name: str) -> str:
    """A name that decides something, such as an order's id, if it could be read.

    Raises:
        ProtocolError: there is something in it that no text holds.
    """
    if not is_readable(name):
        raise ProtocolError("a name in the reply can't be read, half a surrogate pair or no UTF-8")
    return name


def decode_json(
    decoder: "msgspec.json.Decoder[T]", reply: Reply, part: msgspec.Raw | bytes | None = None
) -> T:
    """Decode a reply's body; or a part of it, or all of it once more, after it has been decoded.

    Raises:
        ProtocolError: the reply is not the JSON that was expected, or a name in it has two values.
    """
    try:
        value, text = decode_text(decoder, reply.body if part is None else part)
        if len(reply.body) > SLICE:
            _check_payload_name(decoder.type, bytes(text))
        elif part is None:
            check_names(bytes(text))
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
#: Where msgspec says that a text is no JSON; it does not say so of one that ends too early.
_FAULT: Final = re.compile(r"\(byte ([0-9]+)\)$")


class Rows(msgspec.Struct, Generic[R, K]):
    """The rows of a listing.

    Attributes:
        whole: those that could be read.
        keys: what a cancel needs of the others.
        problem: what is wrong with the first of the others, for people; ``""`` if there are none.
            The listing is no proof then.
        broken: whether there is text in it that is no JSON, and may have been any number of rows.
    """

    whole: list[R]
    keys: list[K]
    problem: str = ""
    broken: bool = False


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
        self, reply: Reply, part: msgspec.Raw | bytes | None = None, *, salvage: bool = False
    ) -> Slices[Rows[Any, Any]]:
        """Decode a reply's body, or a part of it. Rows that have names become pairs.

        A row that can be read but in part is in ``keys``.

        Args:
            reply: the reply.
            part: the part of its body that is the rows.
            salvage: whether the rows before and after text that is no JSON will do.

        Raises:
            ProtocolError: the text is not rows in JSON, or a row lacks what a cancel needs.
        """
        text = memoryview(reply.body if part is None else part)
        found: Rows[Any, Any] = Rows([], [])
        stripped = bytes(text[:64]).lstrip()
        if not stripped.startswith(self._brackets[0]):
            raise _unreadable(reply, "it is not a list of rows")
        start = len(bytes(text[:64])) - len(stripped) + 1
        if start == len(text):
            raise _unreadable(reply, "it is not JSON")
        cut = _cut_before(bytes(text[start : start + 256]), named=self._named)
        while start < len(text):
            piece, after = self._piece(text, start, cut, patient=not salvage)
            if piece is not None and self._take(reply, piece, found):
                start = after
            elif not salvage:
                raise _unreadable(reply, "it is not JSON")
            else:
                found.broken = True
                start = self._salvage(reply, text, start, cut, found)
            if start < len(text):
                yield
        if found.broken and not (found.whole or found.keys):
            raise _unreadable(reply, "it is not JSON")
        return found

    def _piece(
        self, text: memoryview, start: int, cut: re.Pattern[bytes], *, patient: bool
    ) -> tuple[bytes | None, int]:
        """The next rows, and where those after them start; ``None`` if they are no JSON.

        A cut may fall into a string or into a row; what is before it is no JSON then, but only at
        its end. Who is ``patient`` waits for the end of a row that is as long as it likes.
        """
        size, tried = SLICE, 0
        while start + size < len(text):
            found = cut.search(text, start + size)
            if found is None:
                break
            piece = bytes(text[start : found.start() + 1])
            fault = self._fault(piece)
            if fault is None:
                return piece, found.end()
            tried += 1
            if fault < len(piece) or not (patient or tried < _CUTS):
                return None, start
            size = found.start() + 1 - start if tried % _CUTS else 2 * size
        rest = bytes(text[start:]).rstrip()
        return rest[:-1] if rest.endswith(self._brackets[1]) else None, len(text)

    def _fault(self, piece: bytes) -> int | None:
        """Where a piece is no rows in JSON; its length where that shows at its end only."""
        opening, closing = self._brackets
        try:
            decode_text(self._raw, opening + piece + closing)
        except (ValueError, RecursionError) as error:
            told = _FAULT.search(str(error))
            return int(told[1]) - 1 if told else len(piece)
        return None

    def _salvage(
        self,
        reply: Reply,
        text: memoryview,
        start: int,
        cut: re.Pattern[bytes],
        found: Rows[Any, Any],
    ) -> int:
        """Take the rows of a piece one by one, but for those that are no JSON.

        Returns:
            Where the rows after them start. No row can be made up: where a string ends there is a
            quote, and behind it no row begins.
        """
        until = min(start + SLICE, len(text))
        while start < until:
            cuts = [*islice(cut.finditer(text, start), _CUTS)]
            ends = [each.start() + 1 for each in cuts]
            if len(cuts) < _CUTS:  # behind the last row is the end of all that is around it
                last = start + len(bytes(text[start:]).rstrip())
                ends += range(last, max(start, last - _CUTS), -1)
            for number, end in enumerate(ends):
                if self._take(reply, bytes(text[start:end]), found):
                    start = cuts[number].end() if number < len(cuts) else len(text)
                    break
            else:
                start = cuts[0].end() if cuts else len(text)
        return start

    def _take(self, reply: Reply, piece: bytes, found: Rows[Any, Any]) -> bool:
        """Take the rows of a piece; whether it is rows in JSON.

        Raises:
            ProtocolError: one of them lacks what a cancel needs.
        """
        text = self._brackets[0] + piece + self._brackets[1]
        try:
            rows = self._rows.decode(text)
            values = [self._convert(row) for row in (rows.items() if self._named else rows)]
        except (ValueError, RecursionError, ProtocolError):
            values = None
        if values is None:
            return self._take_singly(reply, text, found)
        found.whole.extend(values)
        return True

    def _take_singly(self, reply: Reply, text: bytes, found: Rows[Any, Any]) -> bool:
        try:
            raws, _ = decode_text(self._raw, text)
        except (ValueError, RecursionError):
            return False
        why = ""
        for name, raw in raws.items() if self._named else enumerate(raws):
            try:
                row, _ = decode_text(self._row, raw)
                found.whole.append(self._convert((name, row) if self._named else row))
                continue
            except (ValueError, RecursionError, ProtocolError) as error:
                found.problem = found.problem or describe_json_error(error)
            try:
                key, _ = decode_text(self._key, raw)
                found.keys.append((name, key) if self._named else key)
            except (ValueError, RecursionError) as error:
                why = describe_json_error(error)
                break
        if why:
            raise _unreadable(reply, why)
        return True


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


#: Where a reply tells whether it is of now: RFC 9110, RFC 9111, Varnish and Akamai. A header
#: that has "cache" in its name does, too, such as RFC 9211's, but for these: what is wanted of
#: caches, and what one had that did not answer.
_TELLING: Final = frozenset({"age", "warning", "x-varnish", "server-timing"})
_NOT_TELLING: Final = re.compile("cache-control$|^x-cache-lookup$")
#: ``HIT``, ``MISS, HIT``, ``TCP_MEM_HIT from …``, ``Hit from cloudfront``, ``…; hit; ttl=30``. A
#: host's name after ``from``, or ``fwd=stale``, is none; ``RefreshHit`` has asked the venue.
_FROM_CACHE: Final = re.compile(
    r"(?:^|[,;])\s*(?:tcp_(?:\w+_)?)?(?:hit|stale|updating|fresh)\b"
    r"|cdn-cache\s*;\s*desc=\"?hit\b",
    re.IGNORECASE,
)
#: How often each cache has answered so; the request that stored a reply, behind this one.
_HITS: Final = re.compile(r"(?:^|,)\s*[1-9]", re.ASCII)
_STORED_BY: Final = re.compile(r"\d+ +\d+", re.ASCII)
#: Stale, not validated, disconnected, or of an age that was guessed (RFC 7234 section 5.5).
_STALE: Final = re.compile(r"(?:^|,)\s*11[0-3]\b", re.ASCII)
#: How far a ``Date`` may lie before the request, beside what the clock may be off: it is cut to the
#: second, and a venue's machines do not agree to the millisecond.
_DATE_MS: Final = 2_000
#: A clock that may be off by more was never measured: no date contradicts it.
_MEASURED_MS: Final = 10_000


def why_stale(reply: Reply, stamp: Stamp) -> str:
    """Why a reply may tell of another time than now, for people; ``""`` if nothing says so.

    An ``Age``, whatever it is, says that the venue has neither made nor validated the reply for
    this request (RFC 9111 section 5.1). A refusal is left to be read as one.
    """
    if reply.status != OK:
        return ""
    told: dict[str, str] = {}
    for name, value in reply.headers.items():
        lower = name.lower()
        if lower in _TELLING or ("cache" in lower and not _NOT_TELLING.search(lower)):
            told[lower] = f"{told[lower]}, {value}" if lower in told else value
    warned = _STALE.search(re.sub(r'"[^"]*"', "", told.pop("warning", "")))
    measured = stamp.skew_ms <= _MEASURED_MS
    date_ms = http_date(reply.headers.get("Date", "")) if measured else None
    hits = _HITS.search(told.pop("x-cache-hits", ""))
    stored = _STORED_BY.search(told.pop("x-varnish", ""))
    if "age" in told or warned or hits or stored or any(map(_FROM_CACHE.search, told.values())):
        return "it comes from a cache"
    late_ms = 0 if date_ms is None else stamp.time_ms - stamp.skew_ms - _DATE_MS - date_ms
    return "its date is from before the request" if late_ms > 0 else ""


def check_fresh(reply: Reply, stamp: Stamp) -> None:
    """Refuse a listing that a cache may have answered: it says nothing of the orders of now.

    Call it first, on what is to be a proof. What a cancel finds in such a listing can be cancelled
    all the same: see :func:`why_stale`.

    Args:
        reply: the reply.
        stamp: that of its request.

    Raises:
        ProtocolError: the reply has an age, a cache says that it is its, or its date is older than
            the request.
    """
    if why := why_stale(reply, stamp):
        raise ProtocolError(f"the listing proves nothing: {why}")


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


def sliced(
    read: Callable[Concatenate[Reply, P], Slices[T]],
) -> Callable[Concatenate[Reply, P], T | Slices[T]]:
    """Make a call's ``decode`` of what reads a reply in slices: a small one is read at once."""

    @wraps(read)
    def decode(reply: Reply, /, *args: P.args, **more: P.kwargs) -> T | Slices[T]:
        return finish(read(reply, *args, **more), reply)

    return decode
