"""AscendEX Pro (formerly BitMax).

Source: the exchange's public API documents, ``ascendex/ascendex-pro-api`` ("Cancel All Orders",
"Authenticate a RESTful Request", "Error Codes") and ``ascendex/ascendex-futures-pro-api-v2``. The
live shapes of the acknowledgement are those that ccxt's maintainers published (pull request 22926).

The exchange has closed. There are no default hosts: its names may change hands.
"""

import re
from binascii import b2a_base64
from collections.abc import Mapping
from functools import partial
from hmac import digest
from typing import Any, ClassVar, Final, Literal, Self
from urllib.parse import quote
from uuid import uuid4

import msgspec
from msgspec.structs import force_setattr, replace

from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.models import Ack, OpenOrder
from masscancel.venue import (
    LISTING,
    Abilities,
    Call,
    Flow,
    Probe,
    Reply,
    Request,
    Stamp,
    check_origin,
    decimal,
    decode_json,
    http_error,
    one,
)

__all__ = ["AscendEX"]

#: The server refuses a timestamp further than this from its own clock.
WINDOW_MS: Final = 30_000

_SYMBOLS: Final[Mapping[str, re.Pattern[str]]] = {
    "cash": re.compile(r"[A-Z0-9$][A-Z0-9$._]{0,31}/[A-Z0-9][A-Z0-9._]{0,31}"),
    "margin": re.compile(r"[A-Z0-9$][A-Z0-9$._]{0,31}/[A-Z0-9][A-Z0-9._]{0,31}"),
    "futures": re.compile(r"[A-Z0-9$][A-Z0-9$._]{0,31}-PERP"),
}
_EXAMPLES: Final[Mapping[str, str]] = {
    "cash": "BTC/USDT",
    "margin": "BTC/USDT",
    "futures": "BTC-PERP",
}
_REQUEST_ID: Final = re.compile(r"\w[\w\-]{0,30}\w", re.ASCII)

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
_SYSTEM_GROUPS: Final = frozenset({50, 51})


class AscendEX(msgspec.Struct, frozen=True, kw_only=True):
    """AscendEX Pro: where it is, and which account group is spoken for.

    Args:
        rest_url: the origin of its REST side, such as ``https://ascendex.com``.
        stream_url: the origin of its websocket side, such as ``wss://ascendex.com``.
        account_group: the group in the URL path. Without it, the client asks the venue's account
            info for it when it is entered.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine; the group is not a non-negative integer.
    """

    name: ClassVar[str] = "ascendex"
    abilities: ClassVar[Mapping[str, Abilities]] = {
        category: Abilities(
            whole_account="one call",
            one_symbol="one call",
            ack="received",
            echoes_id=category != "futures",
            stop_orders=True,
            stream=True,
            switch=None,
        )
        for category in ("cash", "margin", "futures")
    }

    rest_url: str
    stream_url: str
    account_group: int | None = None

    def __post_init__(self) -> None:
        rest_url = check_origin(self.rest_url, name="rest_url", scheme="http")
        stream_url = check_origin(self.stream_url, name="stream_url", scheme="ws")
        force_setattr(self, "rest_url", rest_url)
        force_setattr(self, "stream_url", stream_url)
        group: object = self.account_group
        if group is not None and (
            not isinstance(group, int) or isinstance(group, bool) or group < 0
        ):
            raise ConfigurationError("account_group must be a non-negative integer, or None")

    def ready(self) -> bool:
        """Whether the account group is known."""
        return self.account_group is not None

    def prepare(self) -> Flow[Self]:
        """Find the account group out: ``GET /api/pro/v1/info``."""
        group = one((yield [self._call("GET", "/api/pro/v1/info", "info", decode_account_group)]))
        return replace(self, account_group=group)

    def origin(self, account_category: str) -> str:
        """One origin serves every category."""
        check_scope(account_category, None)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /api/pro/v1/exchange-info``."""
        path = "/api/pro/v1/exchange-info?requestTime={now_ms}"
        return Probe(origin=origin, path=path, decode=decode_clock)

    def cancel_all(
        self, account_category: str, symbol: str | None, request_id: str | None
    ) -> Flow[Ack]:
        """``DELETE <group>/api/pro/v1/{category}/order/all``; futures have a path of their own."""
        check_scope(account_category, symbol)
        request_id = _check_request_id(request_id)
        path, api_path = self._order_path(account_category, "all")
        body = {"id": request_id} if symbol is None else {"id": request_id, "symbol": symbol}
        call = self._call(
            "DELETE",
            path,
            api_path,
            partial(
                decode_ack,
                account_category=account_category,
                symbol=symbol or "",
                request_id=request_id,
            ),
            body=msgspec.json.encode(body),
            acts=True,
        )
        ack: Ack = one((yield [call]))
        return ack

    def open_orders(self, account_category: str, symbol: str | None) -> Flow[list[OpenOrder]]:
        """``GET <group>/api/pro/v1/{category}/order/open``: one listing, not paged."""
        check_scope(account_category, symbol)
        path, api_path = self._order_path(account_category, "open")
        if symbol is not None:
            path += f"?symbol={quote(symbol, safe='')}"
        decode = partial(decode_open_orders, account_category=account_category, symbol=symbol)
        return one((yield [self._call("GET", path, api_path, decode, max_reply=LISTING)]))

    def switch(
        self,
        account_category: str,
        symbol: str | None,
        timeout_ms: int,  # noqa: ARG002  # what it would be does not matter
    ) -> Flow[int | None]:
        """The venue has no dead man's switch.

        Raises:
            ScopeError: always.
        """
        check_scope(account_category, symbol)
        raise ScopeError("AscendEX has no dead man's switch of its own")
        yield

    def _order_path(self, account_category: str, what: str) -> tuple[str, str]:
        """The URL path and the api-path that is signed, which is not the same."""
        if self.account_group is None:
            raise ConfigurationError("the account group is not known: enter the client first")
        root = f"/{self.account_group}/api/pro"
        if account_category == "futures":
            api_path = f"v2/futures/order/{what}"
            return f"{root}/{api_path}", api_path
        return f"{root}/v1/{account_category}/order/{what}", f"order/{what}"

    def _call(
        self, method: str, path: str, api_path: str, decode: Any, *, acts: bool = False, **more: Any
    ) -> Call[Any]:
        return Call(
            method=method,
            origin=self.rest_url,
            path=path,
            sign=partial(sign, api_path=api_path),
            decode=decode,
            acts=acts,
            **more,
        )


def signature(secret: str, timestamp_ms: int, api_path: str) -> str:
    """Base64 of HMAC-SHA256 over ``<timestamp>+<api-path>``; the key is the secret as text."""
    mac = digest(secret.encode(), f"{timestamp_ms}+{api_path}".encode(), "sha256")
    return b2a_base64(mac, newline=False).decode()


def sign(call: Call[Any], credentials: Credentials, stamp: Stamp, *, api_path: str) -> Request:
    """Sign a call, as "Authenticate a RESTful Request" says."""
    headers = {
        "x-auth-key": credentials.api_key,
        "x-auth-timestamp": str(stamp.time_ms),
        "x-auth-signature": signature(credentials.api_secret, stamp.time_ms, api_path),
    }
    if call.body:
        headers["Content-Type"] = "application/json"
    return Request(call.method, call.path, headers, call.body, stamp.time_ms + WINDOW_MS)


def check_scope(account_category: str, symbol: str | None) -> None:
    """Refuse what the venue can't scope to, before it gets near a URL.

    Raises:
        ScopeError: no such category, or nothing that is a symbol of it.
    """
    pattern = _SYMBOLS.get(account_category) if isinstance(account_category, str) else None
    if pattern is None:
        raise ScopeError(
            f"no account category {account_category!r} on AscendEX; there are: "
            + ", ".join(AscendEX.abilities)
        )
    if symbol is not None and not (isinstance(symbol, str) and pattern.fullmatch(symbol)):
        raise ScopeError(
            f"{symbol!r} is not a {account_category} symbol of AscendEX, which look like "
            f"{_EXAMPLES[account_category]}; None means all"
        )


def _check_request_id(request_id: str | None) -> str:
    if request_id is None:
        return uuid4().hex
    if not (isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id)):
        raise ConfigurationError(
            f"request_id {request_id!r} must be 2 to 32 letters, digits, _ and -, "
            "with no - at either end"
        )
    return request_id


class _Info(msgspec.Struct):
    """What an acknowledgement says of the request, or why there is none."""

    id: str | None = None
    symbol: str | None = None
    timestamp: int | None = None
    code: int | None = None
    reason: str | None = None
    message: str | None = None


class _AckData(msgspec.Struct, rename="camel"):
    ac: str | None = None
    account_id: str | None = None
    action: str | None = None
    status: str | None = None
    info: _Info | None = None


class _Envelope(msgspec.Struct, rename="camel"):
    """Every reply: ``code`` 0 is success. An error may well arrive with HTTP 200."""

    code: int
    reason: str | None = None
    message: str | None = None
    status: str | None = None
    ac: str | None = None
    account_id: str | None = None
    info: Any = None
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


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_ACK: Final = msgspec.json.Decoder(_AckData)
_ACCOUNT: Final = msgspec.json.Decoder(_AccountData, strict=False)
_CLOCK: Final = msgspec.json.Decoder(_ClockData)
_ROWS: Final = msgspec.json.Decoder(list[_OrderRow])


def _envelope(reply: Reply, now_ms: int) -> _Envelope:
    """The reply's envelope, if it is one and says success."""
    error: MassCancelError | None = None
    try:
        envelope = decode_json(_ENVELOPE, reply)
    except ProtocolError as unreadable:
        if reply.status == 200:  # noqa: PLR2004  # anything else speaks through its status
            raise
        error = http_error(reply, now_ms)
        error.add_note(unreadable.message)
    else:
        if envelope.code == 0 and reply.status == 200 and envelope.status != "Err":  # noqa: PLR2004
            return envelope
        error = _refusal(reply, now_ms, envelope)
    raise error


def _refusal(reply: Reply, now_ms: int, envelope: _Envelope | _Info) -> MassCancelError:
    code = envelope.code or None
    return http_error(
        reply,
        now_ms,
        kind=_kind(code),
        code=code,
        reason=envelope.reason or "",
        message=envelope.message or "",
    )


def _kind(code: int | None) -> type[VenueError] | None:
    if code is not None and code // 10_000 in _SYSTEM_GROUPS:
        return VenueUnavailable
    return _CODES.get(code) if code is not None else None


def _payload(decoder: "msgspec.json.Decoder[Any]", envelope: _Envelope, reply: Reply) -> Any:
    """The envelope's ``data``, decoded."""
    return decode_json(decoder, replace(reply, body=bytes(envelope.data)))


def decode_ack(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str, request_id: str
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
    if not bytes(envelope.data):
        if not terse:
            raise ProtocolError("the reply is no acknowledgement: it has no data")
        data = _AckData(action="cancel-all", ac=envelope.ac, account_id=envelope.account_id)
    else:
        data = _payload(_ACK, envelope, reply)
    info = data.info or _Info()
    if data.status == "Err":
        raise _refusal(reply, stamp.time_ms, info)
    ac = data.ac or envelope.ac or ("FUTURES" if terse else "")
    echoed_symbol = info.symbol if info.symbol is not None or not terse else symbol
    oldest = stamp.time_ms - stamp.skew_ms
    for right, what in (
        (data.status == "Ack" or (terse and data.status is None), f"status {data.status!r}"),
        (data.action == "cancel-all", f"action {data.action!r}"),
        (ac == account_category.upper(), f"account category {ac!r}"),
        (echoed_symbol == symbol, f"symbol {echoed_symbol!r}, not {symbol!r}"),
        (not info.id or info.id == request_id, "the id of another request"),
        (info.timestamp is not None or terse, "no timestamp"),
        (info.timestamp is None or info.timestamp >= oldest, "a timestamp before the request's"),
    ):
        if not right:
            raise ProtocolError(f"the reply is no acknowledgement of this request: it has {what}")
    return Ack(
        account_category=account_category,
        account_id=data.account_id or envelope.account_id or "",
        symbol=symbol,
        request_id=info.id or "",
        timestamp_ms=info.timestamp,
        raw=reply.body,
    )


def decode_open_orders(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str | None
) -> list[OpenOrder]:
    """The rows of a listing.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing of this scope.
    """
    envelope = _envelope(reply, stamp.time_ms)
    if envelope.ac is not None and envelope.ac != account_category.upper():
        raise ProtocolError(f"the reply lists the account category {envelope.ac!r}")
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


def decode_account_group(reply: Reply, stamp: Stamp) -> int:
    """The account group in the account info.

    Raises:
        VenueError: the venue refused.
        ProtocolError: there is no group in it.
    """
    data: _AccountData = _payload(_ACCOUNT, _envelope(reply, stamp.time_ms), reply)
    group = str(data.account_group)
    if not (group.isascii() and group.isdigit()):
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
