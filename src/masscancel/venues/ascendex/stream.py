"""AscendEX's websocket, purely: what is said on it, and what its messages mean.

Source: "WebSocket API" of ``ascendex/ascendex-pro-api`` (v1, cash and margin) and of
``ascendex/ascendex-futures-pro-api-v2`` (v2, futures).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from masscancel.calls import (
    Answered,
    Ended,
    Greeting,
    LoggedIn,
    Pinged,
    Scope,
    Stamp,
    StreamEvent,
    Subscribed,
    Updated,
)
from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
    ProtocolError,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.models import Ack, OrderUpdate
from masscancel.venues.ascendex.wire import (
    NO_INFO,
    STATES,
    Info,
    auth_headers,
    book_of,
    refusal_of,
    signature,
)
from masscancel.venues.toolkit import decimal, decode_text, readable, side, text_of, whole_of

__all__ = ["AscendEXStream"]

#: Ids that no cancel can have.
_LOGIN: Final = "login:"
_SUBSCRIBE: Final = "sub:"
_PONG: Final = '{"op":"pong"}'
_PING: Final = '{"op":"ping"}'


def encode_cancel_all(scope: Scope, request_id: str | None, stamp: Stamp) -> str:
    """The message that cancels a scope.

    The id stands twice: the documents leave open which of the two comes back.
    """
    named = {} if request_id is None else {"id": request_id}
    args: dict[str, Any] = {**named, "time": stamp.time_ms}
    if scope.symbol is not None:
        args["symbol"] = scope.symbol
    who = "ac" if scope.account_category == "futures" else "account"
    message = {"op": "req", **named, "action": "cancel-All", who: scope.account_category}
    return msgspec.json.encode({**message, "args": args}).decode()


class AscendEXStream(msgspec.Struct, frozen=True, kw_only=True):
    """One websocket: v1 for cash and margin, v2 for futures.

    Attributes:
        url: with the account group and the version.
        api_path: what is signed, ``stream`` or ``v2/stream``.
        clock_origin: the origin of the REST side.
    """

    url: str
    api_path: str
    clock_origin: str

    def login_headers(self, credentials: Credentials, stamp: Stamp) -> Mapping[str, str]:
        """The three headers of any signed request."""
        return auth_headers(credentials, stamp, self.api_path)

    def login(self, credentials: Credentials, stamp: Stamp) -> str:
        """``{"op":"auth"}``: the same, as a message."""
        message = {
            "op": "auth",
            "id": _LOGIN,
            "t": stamp.time_ms,
            "key": credentials.api_key,
            "sig": signature(credentials.api_secret, stamp.time_ms, self.api_path),
        }
        return msgspec.json.encode(message).decode()

    def subscribe(self, account_category: str) -> str:
        """``{"op":"sub"}`` to the category's order channel."""
        channel = "futures-order" if account_category == "futures" else f"order:{account_category}"
        message = {"op": "sub", "id": f"{_SUBSCRIBE}{account_category}", "ch": channel}
        return msgspec.json.encode(message).decode()

    def ping(self) -> str:
        """``{"op":"ping"}``; WebSocket's own pings do not count with this venue."""
        return _PING

    def parse(self, message: bytes) -> Sequence[StreamEvent]:
        """Translate a message into events.

        Raises:
            ProtocolError: it can't be understood.
        """
        try:
            event = _parse(message)
        except (ValueError, RecursionError):  # msgspec's, too, are ValueErrors
            pass
        else:
            return () if event is None else (event,)
        raise ProtocolError("a message of the stream can't be understood")


class _Wire(msgspec.Struct, rename="camel"):
    """Any message, as far as it matters which one it is."""

    m: str | None = None
    op: str | None = None
    type: str | None = None
    id: str | int | None = None
    code: int | None = None
    err: Any = None
    reason: Any = None
    ch: str | None = None
    ac: str | None = None
    account_id: Any = None
    action: str | None = None
    status: str | None = None
    info: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class _Row(msgspec.Struct, rename={"order_id": "orderId"}):
    """An order, in the stream's short field names."""

    s: str
    order_id: str
    st: str
    sd: str
    p: str | None = None
    q: str | None = None
    cfq: str | None = None
    ot: str | None = None
    t: Any = None


_WIRE: Final = msgspec.json.Decoder(_Wire)
_TEXT: Final = msgspec.json.Decoder(str)
_INFO: Final = msgspec.json.Decoder(Info)
_ROW: Final = msgspec.json.Decoder(_Row)


def _parse(message: bytes) -> StreamEvent | None:
    wire, _ = decode_text(_WIRE, message)
    match readable(wire.m or wire.op or ""):
        case "order":
            return _order(wire, message)
        case "futures-order":
            return _updated(decode_text(_ROW, message)[0], "futures")
        case "ping":
            return Pinged(_PONG)
        case "connected":
            return Greeting(logged_in=wire.type == "auth")
        case "auth":
            return LoggedIn(None if wire.code == 0 else _refused_login(wire))
        case "sub":
            channel = wire.ch or ""
            category = "futures" if channel == "futures-order" else channel.removeprefix("order:")
            return Subscribed(category, _error(wire) if wire.code or wire.status == "Err" else None)
        case "error":
            return _failed(wire)
        case "disconnected":
            return Ended(text_of(wire.reason) or "disconnected")
    return None


def _order(wire: _Wire, message: bytes) -> StreamEvent | None:
    """Acks and updates share their name: an ack has an action, an update has data."""
    category = (wire.ac or "").lower()
    if wire.action is None:
        return _updated(decode_text(_ROW, wire.data)[0], category) if bytes(wire.data) else None
    if wire.action.lower() != "cancel-all":
        return None
    info = decode_text(_INFO, wire.info)[0] if bytes(wire.info) else NO_INFO
    request_id = info.id or str(wire.id or "")
    if info.code or wire.code or wire.status == "Err":
        error = _error(wire, info)
        if (
            type(error) is VenueError and wire.status != "Err"
        ):  # not documented: it may mean anything
            error.may_have_executed = True
        return Answered(request_id, error)
    if wire.status != "Ack" and not (category == "futures" and wire.code == 0):
        raise msgspec.ValidationError("an answer that is neither an Ack nor an error")
    ack = Ack(
        account_category=category,
        account_id=text_of(wire.account_id),
        symbol=info.symbol or "",
        request_id=request_id,
        timestamp_ms=whole_of(info.timestamp),
        raw=message,
    )
    return Answered(request_id, ack)


def _error(wire: _Wire, info: Info = NO_INFO) -> VenueError:
    refusal = refusal_of(
        wire.status,
        info.code or wire.code,
        info.reason or wire.reason,
        info.message or info.error_msg or wire.err,
    )
    error = (refusal.kind or VenueError)(refusal.code, refusal.reason, refusal.message)
    if refusal.may_have_executed is not None:
        error.may_have_executed = refusal.may_have_executed
    return error


def _refused_login(wire: _Wire) -> VenueError:
    """Only the login is answered so: whatever the code, it was not accepted."""
    error = _error(wire)
    if isinstance(error, StampRefused | RateLimited | VenueUnavailable):  # it passes
        return error
    return AuthenticationError(wire.code, "", text_of(wire.err or wire.reason))


def _failed(wire: _Wire) -> StreamEvent:
    """``{"m":"error"}``: its id says what it answers, its info is a text."""
    text = decode_text(_TEXT, wire.info)[0] if bytes(wire.info).startswith(b'"') else ""
    error = _error(wire, Info(message=text))
    request_id = str(wire.id or "")
    if request_id == _LOGIN:
        return LoggedIn(error)
    if request_id.startswith(_SUBSCRIBE):
        return Subscribed(request_id.removeprefix(_SUBSCRIBE), error)
    return Answered(request_id, error)


def _updated(row: _Row, account_category: str) -> Updated:
    order_type = row.ot or ""
    return Updated(
        OrderUpdate(
            account_category=account_category,
            order_id=readable(row.order_id),
            symbol=readable(row.s),
            side=side(row.sd),
            price=decimal(row.p),
            quantity=decimal(row.q),
            filled_quantity=decimal(row.cfq),
            order_type=order_type,
            status=row.st,
            state=STATES.get(row.st, "open"),
            timestamp_ms=whole_of(row.t),
            book=book_of(order_type),
        )
    )
