"""AscendEX's websocket, purely: what is said on it, and what its messages mean.

Source: "WebSocket API" of ``ascendex/ascendex-pro-api`` (v1, cash and margin) and of
``ascendex/ascendex-futures-pro-api-v2`` (v2, futures).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

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
from masscancel.venue import (
    Answered,
    Ended,
    Greeting,
    LoggedIn,
    Pinged,
    Stamp,
    StreamEvent,
    Subscribed,
    Updated,
    decimal,
)
from masscancel.venues.ascendex.wire import STATES, auth_headers, error_kind, signature

__all__ = ["AscendEXStream"]

#: Ids that no cancel can have.
_LOGIN: Final = "login:"
_SUBSCRIBE: Final = "sub:"
_PONG: Final = '{"op":"pong"}'
_PING: Final = '{"op":"ping"}'


class _Wire(msgspec.Struct, rename="camel"):
    """Any message, as far as it matters which one it is."""

    m: str | None = None
    op: str | None = None
    type: str | None = None
    id: str | int | None = None
    code: int | None = None
    err: str | None = None
    reason: str | None = None
    ch: str | None = None
    ac: str | None = None
    account_id: str | None = None
    action: str | None = None
    status: str | None = None
    info: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class _Info(msgspec.Struct, rename="camel"):
    id: str | None = None
    symbol: str | None = None
    timestamp: int | None = None
    code: int | None = None
    reason: str | None = None
    message: str | None = None
    error_msg: str | None = None


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
    t: int | None = None


_WIRE: Final = msgspec.json.Decoder(_Wire)
_INFO: Final = msgspec.json.Decoder(_Info)
_ROW: Final = msgspec.json.Decoder(_Row)


def encode_cancel_all(
    account_category: str, symbol: str | None, request_id: str | None, stamp: Stamp
) -> str:
    """The message that cancels a scope.

    The id stands twice: the documents leave open which of the two comes back.
    """
    named = {} if request_id is None else {"id": request_id}
    args: dict[str, Any] = {**named, "time": stamp.time_ms}
    if symbol is not None:
        args["symbol"] = symbol
    who = "ac" if account_category == "futures" else "account"
    message = {
        "op": "req",
        **named,
        "action": "cancel-All",
        who: account_category,
        "args": args,
    }
    return msgspec.json.encode(message).decode()


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
        """What a message means.

        Raises:
            ProtocolError: it can't be understood.
        """
        try:
            event = _parse(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            event = None
        else:
            return () if event is None else (event,)
        raise ProtocolError("a message of the stream can't be understood")


def _parse(message: bytes) -> StreamEvent | None:
    wire = _WIRE.decode(message)
    kind = wire.m or wire.op
    if kind == "order":
        return _order(wire, message)
    if kind == "futures-order":
        return _updated(_ROW.decode(message), "futures")
    if kind == "ping":
        return Pinged(_PONG)
    if kind == "connected":
        return Greeting(logged_in=wire.type == "auth")
    if kind == "auth":
        # Only the login is answered so: whatever the code, it was not accepted.
        text = wire.err or wire.reason or ""
        meaning = error_kind(wire.code)
        passing = meaning in (StampRefused, RateLimited, VenueUnavailable)
        refused = (meaning if meaning and passing else AuthenticationError)(wire.code, "", text)
        return LoggedIn(None if wire.code == 0 else refused)
    if kind == "sub":
        return Subscribed(_category_of_channel(wire.ch or ""), _error(wire, _Info()))
    if kind == "error":
        return _refused(wire)
    if kind == "disconnected":
        return Ended(wire.reason or "disconnected")
    return None


def _order(wire: _Wire, message: bytes) -> StreamEvent | None:
    """Acks and updates share their name: an ack has an action, an update has data."""
    category = (wire.ac or "").lower()
    if wire.action is None:
        return _updated(_ROW.decode(wire.data), category) if bytes(wire.data) else None
    if wire.action.lower() != "cancel-all":
        return None
    info = _INFO.decode(wire.info) if bytes(wire.info) else _Info()
    request_id = info.id or str(wire.id or "")
    error = _error(wire, info)
    if error is not None:
        return Answered(request_id, error)
    if wire.status != "Ack" and not (category == "futures" and wire.code == 0):
        raise msgspec.ValidationError("an answer that is neither an Ack nor an error")
    ack = Ack(
        account_category=category,
        account_id=wire.account_id or "",
        symbol=info.symbol or "",
        request_id=request_id,
        timestamp_ms=info.timestamp,
        raw=message,
    )
    return Answered(request_id, ack)


def _refused(wire: _Wire) -> StreamEvent:
    text = ""
    if bytes(wire.info).startswith(b'"'):
        text = msgspec.json.decode(wire.info, type=str)
    error = (error_kind(wire.code) or VenueError)(wire.code, wire.reason or "", text)
    request_id = str(wire.id or "")
    if request_id == _LOGIN:
        return LoggedIn(error)
    if request_id.startswith(_SUBSCRIBE):
        return Subscribed(request_id.removeprefix(_SUBSCRIBE), error)
    return Answered(request_id, error)


def _error(wire: _Wire, info: _Info) -> VenueError | None:
    code = info.code or wire.code
    if not code and wire.status != "Err":
        return None
    text = info.message or info.error_msg or wire.err or ""
    return (error_kind(code) or VenueError)(code, info.reason or wire.reason or "", text)


def _category_of_channel(channel: str) -> str:
    return "futures" if channel == "futures-order" else channel.removeprefix("order:")


def _updated(row: _Row, account_category: str) -> Updated:
    return Updated(
        OrderUpdate(
            account_category=account_category,
            order_id=row.order_id,
            symbol=row.s,
            side="buy" if row.sd.lower() == "buy" else "sell",
            price=decimal(row.p),
            quantity=decimal(row.q),
            filled_quantity=decimal(row.cfq),
            order_type=row.ot or "",
            status=row.st,
            state=STATES.get(row.st, "open"),
            timestamp_ms=row.t,
        )
    )
