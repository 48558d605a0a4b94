"""AscendEX's REST side, purely: signatures, and what its replies mean.

Source: "Authenticate a RESTful Request", "Cancel All Orders" and "Error Codes" of
``ascendex/ascendex-pro-api``, and ``ascendex/ascendex-futures-pro-api-v2``. The live shapes of the
acknowledgement are those that ccxt's maintainers published (pull request 22926).
"""

import re
from binascii import b2a_base64
from collections.abc import Mapping
from hmac import digest
from typing import Any, Final, Literal, TypeVar

import msgspec

from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.models import Ack, OpenOrder, OrderState
from masscancel.venue import (
    Call,
    Reply,
    Request,
    Stamp,
    decimal,
    decode_json,
    http_error,
)

T = TypeVar("T")

#: The server refuses a timestamp further than this from its own clock.
WINDOW_MS: Final = 30_000

#: What each documented code means to a caller. Codes that are not here are a plain ``VenueError``.
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
    300019: InvalidRequest,  # a duplicated request, or no open order
    300020: PermissionDenied,  # TRADING_RESTRICTED
    300021: PermissionDenied,  # TRADING_DISABLED
    510001: VenueUnavailable,  # SERVER_ERROR
    900001: PermissionDenied,  # HUMAN_CHALLENGE
}
_OK: Final = 200
_GROUP: Final = re.compile(r"[0-9]{1,9}")
_SYSTEM_GROUPS: Final = frozenset({50, 51})


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


def sign(call: Call[Any], credentials: Credentials, stamp: Stamp, *, api_path: str) -> Request:
    """Sign a call, as "Authenticate a RESTful Request" says."""
    headers = auth_headers(credentials, stamp, api_path)
    if call.body:
        headers["Content-Type"] = "application/json"
    return Request(call.method, call.path, headers, call.body, stamp.time_ms + WINDOW_MS)


class _Info(msgspec.Struct):
    """What an acknowledgement says of the request, or why there is none."""

    id: str | None = None
    symbol: str | None = None
    timestamp: int | None = None
    code: int | None = None
    reason: str | None = None
    message: str | None = None


class _Said(msgspec.Struct, rename="camel"):
    """Whose reply it is, and to what."""

    ac: str | None = None
    account_id: str | None = None
    action: str | None = None
    status: str | None = None
    info: _Info | None = None


class _Envelope(_Said, kw_only=True):
    """Every reply: ``code`` 0 is success. An error may well arrive with HTTP 200."""

    code: int
    info: _Info | str | list[Any] | None = None  # type: ignore[assignment]  # errors say it freely
    reason: str | None = None
    message: str | None = None
    data: msgspec.Raw = msgspec.Raw()


class _AccountData(msgspec.Struct, rename="camel"):
    account_group: int | str


class _ClockData(msgspec.Struct, rename="camel"):
    request_receive_at: int


class _OrderRow(msgspec.Struct, rename="camel"):
    order_id: str
    symbol: str
    side: Literal["Buy", "Sell"]
    order_qty: str
    price: str | None = None
    cum_filled_qty: str | None = None
    order_type: str = ""
    status: str = ""


class _StatusRow(msgspec.Struct, rename="camel"):
    order_id: str
    status: str


_NOTHING: Final = _Said()
_NO_INFO: Final = _Info()

_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_SAID: Final = msgspec.json.Decoder(_Said)
_ACCOUNT: Final = msgspec.json.Decoder(_AccountData, strict=False)
_CLOCK: Final = msgspec.json.Decoder(_ClockData)
_ROWS: Final = msgspec.json.Decoder(list[_OrderRow])
_STATUS: Final = msgspec.json.Decoder(_StatusRow | list[_StatusRow])


def _envelope(reply: Reply, now_ms: int) -> _Envelope:
    """The reply's envelope, if it is one and says success."""
    error: MassCancelError
    try:
        envelope = decode_json(_ENVELOPE, reply)
    except ProtocolError as unreadable:
        if reply.status == _OK:  # anything else speaks through its status
            raise
        error = http_error(reply, now_ms)
        error.add_note(unreadable.message)
    else:
        if envelope.code == 0 and reply.status == _OK and envelope.status != "Err":
            return envelope
        error = _refusal(reply, now_ms, envelope)
        error.may_have_executed |= envelope.code == 0 and envelope.status != "Err"  # contradictory
    raise error


def _refusal(reply: Reply, now_ms: int, said: _Envelope | _Info) -> MassCancelError:
    """The venue said no. What it does not say of itself may stand in its ``info``."""
    info = said.info if isinstance(said, _Envelope) and isinstance(said.info, _Info) else said
    code = said.code or info.code or None
    return http_error(
        reply,
        now_ms,
        kind=error_kind(code) or (VenueError if reply.status == _OK else None),
        code=code,
        reason=said.reason or info.reason or "",
        message=said.message or info.message or "",
    )


def error_kind(code: int | None) -> type[VenueError] | None:
    """What a code means; ``None`` if it is not documented."""
    if code is not None and code // 10_000 in _SYSTEM_GROUPS:
        return VenueUnavailable
    return _CODES.get(code) if code is not None else None


def _payload(decoder: "msgspec.json.Decoder[Any]", envelope: _Envelope, reply: Reply) -> Any:
    """The envelope's ``data``, decoded."""
    return decode_json(decoder, reply, envelope.data)


def _listing(reply: Reply, now_ms: int, account_category: str) -> _Envelope:
    """The envelope of a listing, if it is of the category."""
    envelope = _envelope(reply, now_ms)
    if envelope.ac is not None and envelope.ac != account_category.upper():
        raise ProtocolError(f"the reply lists the account category {envelope.ac!r}")
    return envelope


def decode_ack(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str, request_id: str | None
) -> Ack:
    """Take the three shapes of an acknowledgement, and nothing else.

    The documented one; the live one, with empty strings where nothing was sent; and that of
    futures, with neither status nor timestamp, or with no data at all.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no acknowledgement of this request.
    """
    envelope = _envelope(reply, stamp.time_ms)
    terse = account_category == "futures"
    data = _NOTHING
    if bytes(envelope.data):
        data = _payload(_SAID, envelope, reply)
    elif not terse:
        raise ProtocolError("the reply is no acknowledgement: it has no data")
    elif envelope.info is not None and not isinstance(envelope.info, _Info):
        raise ProtocolError("the reply is no acknowledgement: it has a text of its own")
    outer = envelope.info if isinstance(envelope.info, _Info) else _NO_INFO
    inner = data.info or _NO_INFO
    for info in (outer, inner):
        if info.code or info.reason:
            raise _refusal(reply, stamp.time_ms, info)
    if data.status == "Err":
        raise _refusal(reply, stamp.time_ms, _NO_INFO)
    status = _agreed("status", envelope.status, data.status)
    action = _agreed("action", envelope.action, data.action)
    ac = _agreed("ac", envelope.ac, data.ac)
    account_id = _agreed("accountId", envelope.account_id, data.account_id)
    echoed_symbol = _agreed("symbol", outer.symbol, inner.symbol)
    echoed_id = _agreed("id", outer.id, inner.id)
    timestamp = _agreed("timestamp", outer.timestamp, inner.timestamp)
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


def _agreed(name: str, outer: T | None, inner: T | None) -> T | None:
    """What the two parts of a reply say under a name, if they agree.

    Raises:
        ProtocolError: they contradict each other.
    """
    if outer is None or outer == inner:
        return inner
    if inner is not None:
        raise ProtocolError(f"the reply contradicts itself about its {name}")
    return outer


def decode_open_orders(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str | None
) -> list[OpenOrder]:
    """The rows of a listing.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing of this scope.
    """
    envelope = _listing(reply, stamp.time_ms, account_category)
    rows: list[_OrderRow] = _payload(_ROWS, envelope, reply)
    if symbol is not None and any(row.symbol != symbol for row in rows):
        raise ProtocolError(f"the reply lists other symbols than {symbol!r}")
    return [
        OpenOrder(
            order_id=row.order_id,
            symbol=row.symbol,
            side="buy" if row.side == "Buy" else "sell",
            price=decimal(row.price),
            quantity=decimal(row.order_qty),
            filled_quantity=decimal(row.cum_filled_qty),
            order_type=row.order_type,
            status=row.status,
        )
        for row in rows
    ]


#: What an order's status means; one that is not here is taken to be open.
STATES: Final[Mapping[str, OrderState]] = {
    "Filled": "filled",
    "Canceled": "cancelled",
    "Rejected": "rejected",
}


def decode_order_states(
    reply: Reply, stamp: Stamp, *, account_category: str
) -> dict[str, OrderState]:
    """What has become of orders, by id: one order's status, or a list of them.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no status of orders of this category.
    """
    envelope = _listing(reply, stamp.time_ms, account_category)
    rows: _StatusRow | list[_StatusRow] = _payload(_STATUS, envelope, reply)
    rows = rows if isinstance(rows, list) else [rows]
    return {row.order_id: STATES.get(row.status, "open") for row in rows}


def decode_account_group(reply: Reply, stamp: Stamp) -> int:
    """The account group in the account info.

    Raises:
        VenueError: the venue refused.
        ProtocolError: there is no group in it.
    """
    data: _AccountData = _payload(_ACCOUNT, _envelope(reply, stamp.time_ms), reply)
    group = str(data.account_group)
    if not _GROUP.fullmatch(group):
        raise ProtocolError("the account info names no account group")
    return int(group)


def decode_clock(reply: Reply) -> int:
    """The server's clock in ``exchange-info``, ms since the epoch.

    Raises:
        VenueError: the venue refused.
        ProtocolError: there is no clock in it.
    """
    data: _ClockData = _payload(_CLOCK, _envelope(reply, 0), reply)
    return data.request_receive_at
