"""AscendEX's REST side, purely: signatures, and what its replies mean.

Source: "Authenticate a RESTful Request", "Cancel All Orders" and "Error Codes" of
``ascendex/ascendex-pro-api``, and ``ascendex/ascendex-futures-pro-api-v2``. The live shapes of the
acknowledgement are those that ccxt's maintainers published (pull request 22926).
"""

import re
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from hmac import digest
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from masscancel.calls import Call, Reply, Request, Scope, Slices, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
    InvalidRequest,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, Permission
from masscancel.venues.toolkit import (
    Refusal,
    RowDecoder,
    check_fresh,
    decimal,
    decode_json,
    finish,
    open_envelope,
    readable,
    refusal_error,
    side,
    text_of,
    told_by_refusal,
    whole,
    whole_of,
)

T = TypeVar("T")

#: The server refuses a timestamp further than this from its own clock, in ms.
WINDOW_MS: Final = 30_000

# Signatures.


def signature(secret: str, timestamp_ms: int, api_path: str) -> str:
    """Base64 of HMAC-SHA256 over ``<timestamp>+<api-path>``; the key is the secret as text."""
    mac = digest(secret.encode(), f"{timestamp_ms}+{api_path}".encode(), "sha256")
    return b2a_base64(mac, newline=False).decode()


def auth_headers(credentials: Credentials, stamp: Stamp, api_path: str) -> dict[str, str]:
    """The three headers of a signed request."""
    return {
        "x-auth-key": credentials.api_key,
        "x-auth-timestamp": str(stamp.time_ms),
        "x-auth-signature": signature(credentials.api_secret, stamp.time_ms, api_path),
    }


def sign_timed(
    call: Call[Any], credentials: Credentials, stamp: Stamp, *, api_path: str, body: dict[str, str]
) -> Request:
    """Sign a call whose body says when it was made."""
    timed = msgspec.json.encode({**body, "time": stamp.time_ms})
    return sign(replace(call, body=timed), credentials, stamp, api_path=api_path)


def sign(call: Call[Any], credentials: Credentials, stamp: Stamp, *, api_path: str) -> Request:
    """Sign a call. Neither its query nor its body is signed."""
    headers = auth_headers(credentials, stamp, api_path)
    if call.body:
        headers["Content-Type"] = "application/json"
    return Request(call.method, call.path, headers, call.body, stamp.time_ms + WINDOW_MS)


# Refusals.

#: "Trying to cancel non-open order".
_NOT_OPEN: Final = 300019
#: What each documented code means to a caller; others are plain.
_CODES: Final[Mapping[int, type[VenueError]]] = {
    100001: InvalidRequest,  # INVALID_HTTP_INPUT
    100002: InvalidRequest,  # DATA_NOT_AVAILABLE
    100003: InvalidRequest,  # KEY_CONFLICT
    100004: InvalidRequest,  # INVALID_REQUEST_DATA
    100005: InvalidRequest,  # INVALID_WS_REQUEST_DATA
    100006: InvalidRequest,  # INVALID_ARGUMENT
    100008: InvalidRequest,  # SYMBOL_ERROR
    100009: AuthenticationError,  # AUTHORIZATION_NEEDED
    100010: InvalidRequest,  # INVALID_OPERATION
    100011: StampRefused,  # INVALID_TIMESTAMP
    100012: InvalidRequest,  # INVALID_STR_FORMAT
    100013: InvalidRequest,  # INVALID_NUM_FORMAT
    100101: VenueUnavailable,  # UNKNOWN_ERROR
    150001: InvalidRequest,  # INVALID_JSON_FORMAT
    200001: AuthenticationError,  # AUTHENTICATION_FAILED
    200002: RateLimited,  # TOO_MANY_ATTEMPTS
    200003: AuthenticationError,  # ACCOUNT_NOT_FOUND
    200004: PermissionDenied,  # ACCOUNT_NOT_SETUP
    200005: AuthenticationError,  # ACCOUNT_ALREADY_EXIST
    200006: PermissionDenied,  # ACCOUNT_ERROR
    200010: AuthenticationError,  # PASSWORD_ERROR
    200014: PermissionDenied,  # RESTRICTED_ACCOUNT
    200015: PermissionDenied,  # PERMISSION_DENIED
    300006: InvalidRequest,  # INVALID_ORDER_ID
    300012: InvalidRequest,  # INVALID_PRODUCT
    _NOT_OPEN: InvalidRequest,  # a duplicated request, or no open order
    300020: PermissionDenied,  # TRADING_RESTRICTED
    300021: PermissionDenied,  # TRADING_DISABLED
    510001: VenueUnavailable,  # SERVER_ERROR
    900001: PermissionDenied,  # HUMAN_CHALLENGE
}
#: The groups of system errors: a code's first two digits.
_SYSTEM: Final = frozenset({50, 51})


def error_kind(code: int | None) -> type[VenueError] | None:
    """Look up the error of a code; ``None`` if it is not documented."""
    if code is not None and code // 10_000 in _SYSTEM:
        return VenueUnavailable
    return _CODES.get(code) if code is not None else None


class Info(msgspec.Struct, rename="camel"):
    """The part of an acknowledgement that tells of the request, or why there is none.

    What only people look at may be of any type.
    """

    id: str | None = None
    symbol: str | None = None
    timestamp: Any = None
    code: int | None = None
    reason: Any = None
    message: Any = None
    error_msg: Any = None


class _Said(msgspec.Struct, rename="camel"):
    """The account and the action that a reply names."""

    ac: str | None = None
    account_id: Any = None
    action: str | None = None
    status: str | None = None
    info: Info | None = None


class _Envelope(_Said, kw_only=True):
    """Every reply: ``code`` 0 is success. An error may well arrive with HTTP 200."""

    code: int
    info: Info | str | list[Any] | None = None  # type: ignore[assignment]  # errors say it freely
    reason: Any = None
    message: Any = None
    data: msgspec.Raw = msgspec.Raw()


_NOTHING: Final = _Said()
NO_INFO: Final = Info()
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_SAID: Final = msgspec.json.Decoder(_Said)


def _open(reply: Reply, now_ms: int) -> _Envelope:
    """The reply's envelope, if it says success."""
    return open_envelope(_ENVELOPE, reply, now_ms, _refused)


def _refused(envelope: _Envelope) -> Refusal | None:
    if envelope.code == 0 and envelope.status != "Err":
        return None
    info = _info_of(envelope)
    return refusal_of(
        envelope.status,
        envelope.code or info.code,
        envelope.reason or info.reason,
        envelope.message or info.message or info.error_msg,
    )


def _info_of(envelope: _Envelope) -> Info:
    return envelope.info if isinstance(envelope.info, Info) else NO_INFO


def refusal_of(status: str | None, code: int | None, reason: object, message: object) -> Refusal:
    """A refusal, by REST or on the stream; what is no text in it is left out.

    A status of ``Err`` says that nothing was carried out, whatever the code; one of ``Ack`` that it
    may have been all the same.
    """
    kind = error_kind(code)
    may_have_executed = None
    if status == "Ack" or (status == "Err" and kind is None):
        may_have_executed = status == "Ack"
    return Refusal(
        kind=kind,
        code=code or None,
        reason=text_of(reason),
        message=text_of(message),
        may_have_executed=may_have_executed,
    )


# Acknowledgements.


def decode_ack(reply: Reply, stamp: Stamp, *, scope: Scope, request_id: str | None) -> Ack:
    """Take the three shapes of an acknowledgement, and nothing else.

    The documented one; the live one, with empty strings where nothing was sent; and that of
    futures, with neither status nor timestamp, or with no data at all.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no acknowledgement of this request.
    """
    envelope = _open(reply, stamp.time_ms)
    account_category, symbol = scope.account_category, scope.symbol or ""
    terse = account_category == "futures"
    data = _NOTHING
    if bytes(envelope.data):
        data = decode_json(_SAID, reply, envelope.data)
    elif not terse:
        raise ProtocolError("the reply is no acknowledgement: it has no data")
    elif envelope.info is not None and not isinstance(envelope.info, Info):
        raise ProtocolError("the reply is no acknowledgement: it has a text of its own")
    outer, inner = _info_of(envelope), data.info or NO_INFO
    if data.status == "Err" or outer.code or outer.reason or inner.code or inner.reason:
        refusal = refusal_of(
            data.status or envelope.status,
            outer.code or inner.code,
            outer.reason or inner.reason,
            outer.message or inner.message or inner.error_msg,
        )
        raise refusal_error(reply, stamp.time_ms, refusal)
    status = _agreed("status", envelope.status, data.status)
    action = _agreed("action", envelope.action, data.action)
    ac = _agreed("ac", envelope.ac, data.ac)
    account_id = _agreed(
        "accountId", text_of(envelope.account_id) or None, text_of(data.account_id) or None
    )
    echoed_symbol = _agreed("symbol", outer.symbol, inner.symbol)
    echoed_id = _agreed("id", outer.id, inner.id)
    timestamp = _agreed("timestamp", whole_of(outer.timestamp), whole_of(inner.timestamp))
    # With an id of this call's own, a clock may be off by as much as the venue lets it.
    skew_ms = max(stamp.skew_ms, WINDOW_MS) if echoed_id else stamp.skew_ms
    wrong = ""
    if status != "Ack" and not (terse and status is None):
        wrong = "another status"
    elif action != "cancel-all" and not (data is _NOTHING and action is None):
        wrong = "another action"
    elif ac != account_category.upper() and not (terse and ac is None):
        wrong = "another account category"
    elif echoed_symbol != symbol and not (terse and echoed_symbol is None):
        wrong = "another symbol"
    elif echoed_id and echoed_id != request_id:
        wrong = "the id of another request"
    elif timestamp is None and not terse:
        wrong = "no timestamp"
    elif timestamp is not None and timestamp < stamp.time_ms - skew_ms:
        wrong = "a timestamp before the request's"
    elif not _is_utf8(reply.body):  # what else may have been damaged on the way?
        wrong = "bytes that are no UTF-8"
    if wrong:
        raise ProtocolError(f"the reply is no acknowledgement of this request: it has {wrong}")
    return Ack(
        account_category=account_category,
        account_id=account_id or "",
        symbol=symbol,
        request_id=echoed_id or "",
        timestamp_ms=timestamp,
        raw=reply.body,
    )


def _is_utf8(body: bytes) -> bool:
    try:
        return body.isascii() or bool(body.decode())
    except UnicodeDecodeError:
        return False


def _agreed(name: str, outer: T | None, inner: T | None) -> T | None:
    """Read what the two parts of a reply say under a name, if they agree.

    Raises:
        ProtocolError: they contradict each other.
    """
    if outer is None or outer == inner:
        return inner
    if inner is not None:
        raise ProtocolError(f"the reply contradicts itself about its {name}")
    return outer


# Orders.


class _Order(msgspec.Struct, rename="camel"):
    """A row of a listing, as it is documented."""

    order_id: str
    symbol: str
    side: Literal["Buy", "Sell"]
    order_qty: str
    price: str | None = None
    cum_filled_qty: str | None = None
    order_type: str = ""
    status: str = ""


class _Status(msgspec.Struct, rename="camel"):
    order_id: str
    status: str


#: What an order's status means; one that is not here is taken to be open.
STATES: Final[Mapping[str, OrderState]] = {
    "Filled": "filled",
    "Canceled": "cancelled",
    "Rejected": "rejected",
}


def book_of(order_type: str) -> str:
    """``StopMarket`` and ``StopLimit`` are stops ("Placing Order")."""
    return "stop" if order_type.lower().startswith("stop") else "ordinary"


def _open_order(row: _Order) -> OpenOrder:
    return OpenOrder(
        order_id=readable(row.order_id),
        symbol=readable(row.symbol),
        side=side(row.side),
        price=decimal(row.price),
        quantity=decimal(row.order_qty),
        filled_quantity=decimal(row.cum_filled_qty),
        order_type=row.order_type,
        status=row.status,
        book=book_of(row.order_type),
    )


#: A cancel needs nothing of a row: one call cancels them all.
_ORDERS: Final = RowDecoder(_Order, msgspec.Raw, convert=_open_order)
_STATUS: Final = msgspec.json.Decoder(_Status | list[_Status])


def decode_open_orders(
    reply: Reply, stamp: Stamp, *, scope: Scope
) -> list[OpenOrder] | Slices[list[OpenOrder]]:
    """The rows of a listing.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing of this scope, comes from a cache, or a row of it can't be
            understood.
    """
    return finish(_listed(reply, stamp, scope), reply)


def _listed(reply: Reply, stamp: Stamp, scope: Scope) -> Slices[list[OpenOrder]]:
    envelope = _listing(reply, stamp, scope.account_category)
    yield
    orders: list[OpenOrder] = whole((yield from _ORDERS.decode(reply, envelope.data)))
    if scope.symbol is not None and any(order.symbol != scope.symbol for order in orders):
        raise ProtocolError(f"the reply lists other symbols than {scope.symbol!r}")
    return orders


def _listing(reply: Reply, stamp: Stamp, account_category: str) -> _Envelope:
    """The envelope of a listing, if it is of the category and of now."""
    check_fresh(reply, stamp)
    envelope = _open(reply, stamp.time_ms)
    if envelope.ac is not None and envelope.ac != account_category.upper():
        raise ProtocolError(f"the reply lists the account category {envelope.ac!r}")
    return envelope


def decode_order_states(
    reply: Reply, stamp: Stamp, *, account_category: str
) -> dict[str, OrderState]:
    """Read what has become of orders, by id: one order's status, or a list of them.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no status of orders of this category, or comes from a cache.
    """
    envelope = _listing(reply, stamp, account_category)
    rows = decode_json(_STATUS, reply, envelope.data)
    rows = rows if isinstance(rows, list) else [rows]
    return {row.order_id: STATES.get(row.status, "open") for row in rows}


# The account group, the clock.


class _Account(msgspec.Struct, rename="camel"):
    account_group: int | str


class _Clock(msgspec.Struct, rename="camel"):
    request_receive_at: int


_GROUP: Final = re.compile(r"[0-9]{1,9}")
_ACCOUNT: Final = msgspec.json.Decoder(_Account)


class _Permissions(msgspec.Struct, rename="camel"):
    trade_permission: bool | None = None
    allowed_ips: tuple[str, ...] | None = None
    expire_time: Any = None


_PERMISSION: Final = msgspec.json.Decoder(_Permissions)
_CLOCK: Final = msgspec.json.Decoder(_Clock)


def decode_account_group(reply: Reply, stamp: Stamp) -> int:
    """The account group in the account info.

    Raises:
        VenueError: the venue refused.
        ProtocolError: there is no group in it.
    """
    account = decode_json(_ACCOUNT, reply, _open(reply, stamp.time_ms).data)
    group = str(account.account_group)
    if not _GROUP.fullmatch(group):
        raise ProtocolError("the account info names no account group")
    return int(group)


def decode_key(reply: Reply, stamp: Stamp, *, categories: Sequence[str]) -> KeyInfo:
    """Read from the account info whether the key may trade; cancelling is trading.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no account info.
    """
    data = decode_json(_PERMISSION, reply, _open(reply, stamp.time_ms).data)
    words: Mapping[bool | None, Permission] = {True: "yes", False: "no", None: "unknown"}
    expires = whole_of(data.expire_time)
    return KeyInfo(
        cancels=dict.fromkeys(categories, words[data.trade_permission]),
        addresses=data.allowed_ips,
        expires_at_ms=expires if expires is not None and expires > 0 else None,
    )


#: Reads what became of the cancel of an order that can't exist.
decode_tried: Final = told_by_refusal(
    lambda reply, stamp: _open(reply, stamp.time_ms),
    unknown_order=lambda error: error.code == _NOT_OPEN,
)


def decode_clock(reply: Reply) -> int:
    """The server's clock in ``exchange-info``, ms since the epoch.

    Raises:
        VenueError: the venue refused.
        ProtocolError: there is no clock in it.
    """
    return decode_json(_CLOCK, reply, _open(reply, 0).data).request_receive_at
