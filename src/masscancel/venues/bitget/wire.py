"""The wire that classic and unified accounts share: signature, envelope, answers to cancels.

Sources: "Signature", "Request Interaction" and "Get Server Time" of https://www.bitget.com/api-doc,
and each endpoint's own page.
"""

from binascii import b2a_base64
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from hmac import digest
from types import MappingProxyType
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from masscancel.calls import LISTING, Call, Limit, Reply, Request, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import MassCancelError, ProtocolError, VenueError
from masscancel.models import OrderState, Permission
from masscancel.venues.bitget.codes import DONE, FOREIGN_ADDRESS, GONE, KINDS, NOTHING, is_gone
from masscancel.venues.toolkit import (
    NOTHING_OPEN,
    OK,
    Answer,
    Refusal,
    decode_json,
    open_envelope,
    told_by_refusal,
    unsigned,
)

T = TypeVar("T")

#: "The timestamp of the request must be within 30 seconds of the API server time" ("Request
#: Interaction").
ACCEPTED_MS: Final = 30_000
#: "The overall rate limit is 6000/IP/Min" (question 10 of the FAQ).
OVERALL: Final = Limit(name="requests", amount=6_000, seconds=60.0)

_REFUSED: Final = frozenset({OK, 400})


class Wire(msgspec.Struct, frozen=True):
    """The way to one origin.

    Attributes:
        origin: scheme, host and port.
    """

    origin: str

    def get(
        self,
        path: str,
        query: Mapping[str, str],
        decode: Callable[[Reply, Stamp], Any],
        *,
        since_ms: int = 0,
        time_limit: float | None = None,
    ) -> Call[Any]:
        """Ask something. With ``since_ms``, of the time that began so many ms before."""
        return Call(
            method="GET",
            origin=self.origin,
            path=path,
            sign=partial(sign, query=query, since_ms=since_ms),
            decode=decode,
            cancels=False,
            max_reply=LISTING,
            time_limit=time_limit,
            costs=costs(path),
        )

    def ask(
        self, path: str, decode: Callable[[Reply, Stamp], Any], time_limit: float | None
    ) -> Call[Any]:
        """Ask something that is public, without a signature."""
        call = self.get(path, {}, decode, time_limit=time_limit)
        return msgspec.structs.replace(call, sign=unsigned)

    def cancel(
        self, path: str, body: Mapping[str, Any], decode: Callable[[Reply, Stamp], T]
    ) -> Call[T]:
        """Cancel something; the answer may name every order."""
        return Call(
            method="POST",
            origin=self.origin,
            path=path,
            body=msgspec.json.encode(body),
            sign=sign,
            decode=decode,
            cancels=True,
            max_reply=LISTING,
            costs=costs(path),
        )

    def try_cancel(self, path: str, body: Mapping[str, Any]) -> Call[Permission]:
        """Cancel an order that can't exist; what is said of it tells whether the key may cancel."""
        call = self.cancel(path, body, decode_tried)
        return msgspec.structs.replace(call, cancels=False)


def name_of(path: str) -> str:
    """The name of a path's rate."""
    return path.removeprefix("/api/")


#: Reads what became of the cancel of an order that can't exist.
decode_tried: Final = told_by_refusal(
    lambda reply, stamp: data_of(reply, stamp.time_ms),
    unknown_order=lambda error: error.code in GONE,
    foreign_address=FOREIGN_ADDRESS,
)


def costs(path: str) -> Mapping[str, float]:
    """The costs of a request: one of the path's own rate, one of the address's."""
    return {name_of(path): 1, OVERALL.name: 1}


def signature(secret: str, prehash: str) -> str:
    """Base64 of HMAC-SHA256 over time, method, path, ``?`` and query, body ("Signature")."""
    mac = digest(secret.encode(), prehash.encode(), "sha256")
    return b2a_base64(mac, newline=False).decode()


def sign(
    call: Call[Any],
    credentials: Credentials,
    stamp: Stamp,
    *,
    query: Mapping[str, str] = MappingProxyType({}),
    since_ms: int = 0,
) -> Request:
    """Sign a call. The query is sorted by name, and signed as it is before it is percent-encoded.

    That is how the documents' samples and the official SDK do it; for characters that have to be
    encoded, the documents do not say so.
    """
    if since_ms:
        query = {**query, "startTime": str(stamp.time_ms - since_ms)}
    fields = sorted(query.items())
    plain = "&".join(f"{name}={value}" for name, value in fields)
    encoded = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields)
    mark = "?" if fields else ""
    prehash = f"{stamp.time_ms}{call.method}{call.path}{mark}{plain}{call.body.decode()}"
    headers = {
        "ACCESS-KEY": credentials.api_key,
        "ACCESS-SIGN": signature(credentials.api_secret, prehash),
        "ACCESS-TIMESTAMP": str(stamp.time_ms),
        "ACCESS-PASSPHRASE": credentials.passphrase,
        "Content-Type": "application/json",
        "locale": "en-US",  # the language of the sentences that failures are told by
    }
    target = f"{call.path}{mark}{encoded}"
    expires_at_ms = stamp.time_ms + ACCEPTED_MS
    return Request(call.method, target, headers, call.body, expires_at_ms)


class _Envelope(msgspec.Struct):
    """Every reply. What it is about is in ``data``."""

    code: str | int
    msg: str | None = None
    data: msgspec.Raw = msgspec.Raw()

    def refusal(self) -> Refusal | None:
        code = str(self.code)
        if code == DONE:
            return None
        return Refusal(kind=KINDS.get(code), code=code, message=self.msg or "")


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def data_of(reply: Reply, now_ms: int) -> msgspec.Raw:
    """What a reply is about.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no reply of the venue's.
    """
    return open_envelope(_ENVELOPE, reply, now_ms, _Envelope.refusal).data


# --- answers to cancels -------------------------------------------------------------------------


class _Result(msgspec.Struct, rename="camel"):
    """What became of one order; v2 says ``errorCode`` and ``errorMsg``, v3 ``code`` and ``msg``."""

    order_id: str | int | None = None
    client_oid: str | int | None = None
    code: str | int | None = None
    msg: str | None = None
    error_code: str | int | None = None
    error_msg: str | None = None

    @property
    def name(self) -> str:
        return str(self.order_id or self.client_oid or "an order without an id")

    def failure(self) -> VenueError:
        """The error of one that failed; margin and the plans of spot give no code at all."""
        code = self.error_code if self.code in (None, "") else self.code
        code = None if code in (None, "") else str(code)
        return KINDS.get(code or "", VenueError)(code, "", self.error_msg or self.msg or "")


class _Lists(msgspec.Struct, rename="camel"):
    success_list: tuple[_Result, ...] | None
    failure_list: tuple[_Result, ...] | None


class _List(msgspec.Struct):
    list: tuple[_Result, ...]


class _Symbol(msgspec.Struct):
    symbol: str


class _Time(msgspec.Struct, rename="camel"):
    server_time: int


_LISTS: Final = msgspec.json.Decoder(_Lists)
_LIST: Final = msgspec.json.Decoder(_List)
_SYMBOL: Final = msgspec.json.Decoder(_Symbol)
_TIME: Final = msgspec.json.Decoder(_Time, strict=False)  # its number is a string
#: What an order in v3's list has where it is none that failed: the page of a batch shows none,
#: the websocket's ``"0"``.
_SUCCEEDED: Final = (None, "", 0, "0", DONE)


def _data_or_nothing(reply: Reply, stamp: Stamp, asked: Collection[str] = ()) -> msgspec.Raw | None:
    """The answer to a cancel; ``None`` where the venue says that there is nothing to cancel.

    Of several ids that were asked for, one alone may be gone.
    """
    try:
        return data_of(reply, stamp.time_ms)
    except VenueError as error:
        gone = NOTHING if len(asked) > 1 else GONE
        if error.http_status in _REFUSED and error.code in gone:
            return None
        raise


def _nothing(reply: Reply) -> Answer:
    return Answer(raw=reply.body, status=NOTHING_OPEN, cancelled=())


def decode_lists(reply: Reply, stamp: Stamp, *, asked: Mapping[str, str] | None = None) -> Answer:
    """The answer of v2: "successfully cancelled orders", and those that are not.

    Args:
        reply: the reply.
        stamp: when it was asked for.
        asked: the ids that were named, with those of the client; one that the answer does not name
            is left.
    """
    data = _data_or_nothing(reply, stamp, asked or ())
    if data is None:
        return _nothing(reply)
    lists: _Lists = decode_json(_LISTS, reply, data)
    done = tuple(result.name for result in lists.success_list or ())
    results = lists.failure_list or ()
    failed = _failures(results)
    if asked is not None:
        named = {*done, *(result.name for result in results)}
        silent = ProtocolError("the answer does not say what became of an order")
        left = {i for i, client_id in asked.items() if named.isdisjoint((i, client_id))}
        failed |= dict.fromkeys(left, silent)
        done = tuple(order_id for order_id in done if order_id in asked)
    status = "success" if done or failed else NOTHING_OPEN
    return Answer(raw=reply.body, status=status, cancelled=done, failed=failed)


def decode_list(reply: Reply, stamp: Stamp) -> Answer:
    """The answer of v3. It has a code for an order that failed; not whether others are cancelled.

    What an order carries that did not fail is not documented, nor whether it is gone by then.
    """
    data = _data_or_nothing(reply, stamp)
    if data is None:
        return _nothing(reply)
    orders = decode_json(_LIST, reply, data).list
    if not orders:
        return _nothing(reply)
    failed = _failures(each for each in orders if each.code not in _SUCCEEDED)
    return Answer(raw=reply.body, status="success", failed=failed)


def decode_symbol(reply: Reply, stamp: Stamp, *, symbol: str) -> Answer:
    """The answer of spot's cancel of a symbol: it "is executed asynchronously"."""
    data = _data_or_nothing(reply, stamp)
    if data is None:
        return _nothing(reply)
    answer = decode_json(_SYMBOL, reply, data)
    if answer.symbol.upper() != symbol.upper():
        raise ProtocolError(f"the answer is about {answer.symbol:.40}, not {symbol}")
    return Answer(raw=reply.body, status="received")


def decode_done(reply: Reply, stamp: Stamp) -> Answer:
    """The answer about one order, which is its code alone."""
    data = _data_or_nothing(reply, stamp)
    return _nothing(reply) if data is None else Answer(raw=reply.body, status="success")


def _failures(results: Iterable[_Result]) -> dict[str, MassCancelError]:
    """Those that failed by their ids, without those that are gone already."""
    failures = {result.name: result.failure() for result in results}
    return {name: error for name, error in failures.items() if not is_gone(error)}


# --- the rest -----------------------------------------------------------------------------------


def decode_clock(reply: Reply) -> int:
    """The server's clock, ms since the epoch."""
    time: _Time = decode_json(_TIME, reply, data_of(reply, 0))
    return time.server_time


class _State(msgspec.Struct, rename="camel"):
    """What an order's own page, or a row of a history, says of it: each in another field."""

    order_id: str | int = ""
    status: str | None = None
    state: str | None = None
    plan_status: str | None = None
    order_status: str | None = None

    @property
    def word(self) -> str:
        return self.status or self.state or self.plan_status or self.order_status or ""


class _States(_State, rename="camel"):
    """One order, or a history of them."""

    list: tuple[_State, ...] | None = None
    order_list: tuple[_State, ...] | None = None
    entrusted_list: tuple[_State, ...] | None = None


_STATES: Final = msgspec.json.Decoder(tuple[_State, ...] | _States | None)
#: What a status means. ``executed`` and ``success`` are of conditional orders that became ordinary
#: ones: how these ended is not known. What is not here may be anything.
_MEANINGS: Final[Mapping[str, OrderState]] = {
    "filled": "filled",
    "cancelled": "cancelled",
    "canceled": "cancelled",  # futures
    "reject": "rejected",
    "fail_execute": "rejected",
    "failed": "rejected",
    "live": "open",
    "new": "open",
    "partially_filled": "open",
    "partial_fill": "open",
    "not_trigger": "open",
    "pending": "open",
    "submitting": "open",
}


def decode_states(reply: Reply, stamp: Stamp, *, ids: Sequence[str]) -> Mapping[str, OrderState]:
    """Read what has become of these orders, as far as the reply knows them."""
    try:
        data = data_of(reply, stamp.time_ms)
    except VenueError as error:
        if error.http_status in _REFUSED and is_gone(error):
            return {}
        raise
    found: tuple[_State, ...] | _States | None = decode_json(_STATES, reply, data)
    if isinstance(found, _States):
        found = found.list or found.order_list or found.entrusted_list or (found,)
    told = {str(row.order_id): _MEANINGS.get(row.word) for row in found or ()}
    return {name: state for name, state in told.items() if state is not None and name in ids}
