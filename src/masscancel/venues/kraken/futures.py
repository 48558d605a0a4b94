"""Kraken's futures side: calls, signatures, replies and errors of ``/derivatives/api/v3``."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
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
from masscancel.models import Ack, OpenOrder, OrderState
from masscancel.venue import (
    LISTING,
    Call,
    Flow,
    Reply,
    Request,
    Stamp,
    ask,
    decode_json,
    http_error,
)
from masscancel.venues.kraken.wire import (
    batches_of,
    fires_at,
    known,
    mac,
    merged,
    milliseconds,
    refusal,
    unsigned,
    whole_seconds,
)

_ROOT: Final = "/derivatives"
_API: Final = "/api/v3"
_MAX_TIMEOUT_S: Final = 2**32 - 1  # "uint32" (Dead man's switch)
_LARGEST: Final = 32  # decimal places before the point: what is larger is no quantity
_SYMBOL: Final = re.compile(r"[A-Za-z]{2}_[A-Za-z0-9]{2,32}(_[A-Za-z0-9]{1,16}){0,3}")

#: What each error means to a caller, by how its text begins. The words are those of each v3 page;
#: ``insufficientPrivileges``, ``contractNotFound`` and ``Bad Request`` are those that clients meet.
_KINDS: Final[Mapping[str, type[VenueError]]] = {
    "accountInactive": PermissionDenied,
    "apiLimitExceeded": RateLimited,
    "authenticationError": AuthenticationError,
    "Bad Request": InvalidRequest,
    "contractNotFound": InvalidRequest,
    "insufficientPrivileges": PermissionDenied,
    "invalidAccount": PermissionDenied,
    "invalidAmount": InvalidRequest,
    "invalidArgument": InvalidRequest,
    "invalidUnit": InvalidRequest,
    "Json Parse Error": InvalidRequest,
    "marketUnavailable": VenueUnavailable,
    "nonceBelowThreshold": StampRefused,
    "nonceDuplicate": StampRefused,
    "notFound": InvalidRequest,
    "requiredArgumentMissing": InvalidRequest,
    "Server Error": VenueUnavailable,
    "Unavailable": VenueUnavailable,
    "unknownError": VenueUnavailable,
}


#: What an order's status means; one that is not here is open.
_STATES: Final[Mapping[str, OrderState]] = {
    "FULLY_EXECUTED": "filled",
    "CANCELLED": "cancelled",
    "REJECTED": "rejected",
    "TRIGGER_ACTIVATION_FAILURE": "rejected",
}


class Futures(msgspec.Struct, frozen=True):
    """The flows of one origin."""

    origin: str

    def cancel_all(self, symbol: str | None) -> Flow[Ack]:
        """``cancelallorders``, of all contracts or of one; one with nothing open is looked up."""
        fields = {} if symbol is None else {"symbol": check_symbol(symbol)}
        decode = partial(decode_ack, symbol=symbol)
        call: Call[Ack] = self._private(
            "POST", "cancelallorders", decode, fields, acts=True, max_reply=LISTING
        )
        ack = yield from ask(call)
        if symbol is not None and ack.status == "noOrdersToCancel":
            yield from self._check_listed(symbol)
        return ack

    def open_orders(self, symbol: str | None) -> Flow[list[OpenOrder]]:
        """``openorders``: one listing, not paged, of all contracts; one is picked here."""
        wanted = None if symbol is None else check_symbol(symbol)
        call: Call[list[OpenOrder]] = self._private(
            "GET", "openorders", decode_open_orders, max_reply=LISTING
        )
        orders = yield from ask(call)
        if wanted is None:
            return orders
        orders = [order for order in orders if order.symbol.upper() == wanted]
        if not orders:
            yield from self._check_listed(wanted)
        return orders

    def order_states(self, ids: Sequence[str]) -> Flow[Mapping[str, OrderState]]:
        """``orders/status``; it tells of orders that ended within the last five seconds."""
        calls = [
            self._private(
                "POST",
                "orders/status",
                decode_states,
                [("orderIds", order_id) for order_id in batch],
                max_reply=LISTING,
            )
            for batch in batches_of(ids)
        ]
        return merged((yield calls))

    def switch(self, timeout_ms: int) -> Flow[int | None]:
        """``cancelallordersafter``: all of the account's orders."""
        seconds = whole_seconds(timeout_ms, _MAX_TIMEOUT_S)
        call: Call[int | None] = self._private(
            "POST",
            "cancelallordersafter",
            partial(decode_switch, timeout_ms=timeout_ms),
            {"timeout": seconds},
            acts=seconds > 0,  # one that arrives late can arm it again
        )
        return (yield from ask(call))

    def _check_listed(self, symbol: str) -> Flow[None]:
        """Make sure of a contract of which nothing is open: the venue accepts any.

        Raises:
            ScopeError: the venue does not list it.
        """
        call = Call(
            method="GET",
            origin=self.origin,
            path=f"{_ROOT}{_API}/instruments?contractType=all",
            sign=unsigned,
            decode=decode_contracts,
            acts=False,
            max_reply=LISTING,
        )
        if symbol.upper() not in (yield from ask(call)):
            raise ScopeError(f"Kraken lists no futures contract {symbol!r}")

    def _private(
        self,
        method: str,
        what: str,
        decode: Any,
        fields: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
        *,
        acts: bool = False,
        **more: Any,
    ) -> Call[Any]:
        query = f"?{urlencode(fields)}" if fields else ""
        return Call(
            method=method,
            origin=self.origin,
            path=f"{_ROOT}{_API}/{what}{query}",
            sign=sign,
            decode=decode,
            acts=acts,
            **more,
        )


def signature(secret: str, path: str, post_data: str, nonce: str = "") -> str:
    """``Authent``: over the SHA-256 of the parameters as they are sent, the nonce and the path.

    The path is the one after ``/derivatives``. Without a ``Nonce`` header the nonce is empty.
    """
    return mac(secret, sha256(f"{post_data}{nonce}{path.removeprefix(_ROOT)}".encode()).digest())


def sign(call: Call[Any], credentials: Credentials, _stamp: Stamp) -> Request:
    """Sign a call. No nonce: it is optional, and without one no request can overtake another."""
    path, _, query = call.path.partition("?")
    headers = {
        "APIKey": credentials.api_key,
        "Authent": signature(credentials.api_secret, path, query),
    }
    return Request(call.method, call.path, headers)


def check_symbol(symbol: object) -> str:
    """Refuse what can't be a contract, before it gets near a URL; returns it in upper case.

    Contracts are listed in upper case; some replies spell them in lower case.

    Raises:
        ScopeError: it can't be one.
    """
    if isinstance(symbol, str) and _SYMBOL.fullmatch(symbol):
        return symbol.upper()
    raise ScopeError(
        f"{symbol!r} is not a futures contract of Kraken, which look like PF_XBTUSD; None means all"
    )


class _Fault(msgspec.Struct):
    code: int | str | None = None
    message: str = ""


class _Envelope(msgspec.Struct, rename="camel"):
    """Every reply. Success "merely means that the request has been received and assessed"."""

    result: str
    error: str | None = None
    errors: list[str | _Fault] = []


class _ClockData(msgspec.Struct, rename="camel"):
    server_time: str


class _Cancelled(msgspec.Struct, rename="camel"):
    status: str
    received_time: str | None = None
    cancel_only: str | None = None


class _CancelData(msgspec.Struct, rename="camel"):
    cancel_status: _Cancelled
    server_time: str | None = None


class _Row(msgspec.Struct, rename="camel"):
    symbol: str
    side: str
    order_id: str = msgspec.field(name="order_id")
    order_type: str = ""
    status: str = ""
    limit_price: Decimal | None = None
    filled_size: Decimal | None = None
    unfilled_size: Decimal | None = None


class _Rows(msgspec.Struct, rename="camel"):
    open_orders: list[_Row]


class _Named(msgspec.Struct, rename="camel"):
    order_id: str


class _Status(msgspec.Struct):
    order: _Named
    status: str


class _Statuses(msgspec.Struct):
    orders: list[_Status]


class _Switch(msgspec.Struct, rename="camel"):
    current_time: str
    trigger_time: str


class _SwitchData(msgspec.Struct):
    status: _Switch


class _Contract(msgspec.Struct):
    symbol: str


class _Contracts(msgspec.Struct):
    instruments: list[_Contract]


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_CLOCK: Final = msgspec.json.Decoder(_ClockData)
_CANCEL: Final = msgspec.json.Decoder(_CancelData)
_ROWS: Final = msgspec.json.Decoder(_Rows)
_STATUSES: Final = msgspec.json.Decoder(_Statuses)
_SWITCH: Final = msgspec.json.Decoder(_SwitchData)
_CONTRACTS: Final = msgspec.json.Decoder(_Contracts)


def _payload(decoder: "msgspec.json.Decoder[Any]", reply: Reply, now_ms: int) -> Any:
    """The reply, decoded, if its envelope says success."""
    error: MassCancelError | None = None
    try:
        envelope = decode_json(_ENVELOPE, reply)
    except ProtocolError as unreadable:
        if reply.status == 200:  # noqa: PLR2004  # anything else speaks through its status
            raise
        error = http_error(reply, now_ms)
        error.add_note(unreadable.message)
    else:
        if reply.status == 200 and envelope.result == "success":  # noqa: PLR2004
            return decode_json(decoder, reply, reply.body)
        error = _refusal(reply, now_ms, envelope)
    raise error


def _refusal(reply: Reply, now_ms: int, envelope: _Envelope) -> MassCancelError:
    """The error of an envelope: ``error``, or the first of ``errors``, which has two shapes."""
    fault: str | _Fault = envelope.error or next(iter(envelope.errors), "")
    if isinstance(fault, _Fault):
        code, text = fault.code, fault.message
    else:
        code, text = fault, ""
    name = known(str(code) if isinstance(code, str) else text, _KINDS)
    if code in (None, ""):
        code = text or f"result {envelope.result}"
    return refusal(reply, now_ms, code or "", text, _KINDS.get(name or ""))


def decode_ack(reply: Reply, stamp: Stamp, *, symbol: str | None) -> Ack:
    """What became of a cancel-all.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer to this cancel-all.
    """
    data: _CancelData = _payload(_CANCEL, reply, stamp.time_ms)
    cancelled = data.cancel_status
    scope = (symbol or "all").upper()
    if cancelled.status not in ("cancelled", "noOrdersToCancel"):
        raise ProtocolError(f"the reply has the unknown status {cancelled.status!r}")
    if (cancelled.cancel_only or scope).upper() != scope:
        raise ProtocolError(f"the reply is about {cancelled.cancel_only!r}, not {scope!r}")
    received = cancelled.received_time or data.server_time
    return Ack(
        account_category="futures",
        symbol=symbol or "",
        status=cancelled.status,
        timestamp_ms=None if received is None else milliseconds(received),
        raw=reply.body,
    )


def decode_open_orders(reply: Reply, stamp: Stamp) -> list[OpenOrder]:
    """The open orders of all contracts.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing.
    """
    data: _Rows = _payload(_ROWS, reply, stamp.time_ms)
    return [_open_order(row) for row in data.open_orders]


def decode_contracts(reply: Reply, stamp: Stamp) -> set[str]:
    """The contracts that are listed, in upper case.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no list of contracts.
    """
    data: _Contracts = _payload(_CONTRACTS, reply, stamp.time_ms)
    return {contract.symbol.upper() for contract in data.instruments}


def decode_states(reply: Reply, stamp: Stamp) -> Mapping[str, OrderState]:
    """What has become of orders, by id.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer about orders.
    """
    data: _Statuses = _payload(_STATUSES, reply, stamp.time_ms)
    return {row.order.order_id: _STATES.get(row.status, "open") for row in data.orders}


def decode_switch(reply: Reply, stamp: Stamp, *, timeout_ms: int) -> int | None:
    """When the switch fires, ms since the epoch.

    Raises:
        VenueError: the venue refused.
        ProtocolError: the reply does not say what was asked for.
    """
    data: _SwitchData = _payload(_SWITCH, reply, stamp.time_ms)
    return fires_at(timeout_ms, data.status.trigger_time, data.status.current_time)


def decode_clock(reply: Reply) -> int:
    """``serverTime``, in ms since the epoch; every reply has it, an error too.

    Raises:
        ProtocolError: there is no clock in it.
    """
    return milliseconds(decode_json(_CLOCK, reply).server_time)


def _open_order(row: _Row) -> OpenOrder:
    """A row. The whole size is never sent: it is what is filled and what is not."""
    if row.side not in ("buy", "sell"):
        raise ProtocolError(f"the reply can't be understood: side {row.side!r}")
    filled = _number(row.filled_size)
    return OpenOrder(
        order_id=row.order_id,
        symbol=row.symbol,
        side="buy" if row.side == "buy" else "sell",
        price=_number(row.limit_price),
        quantity=filled + _number(row.unfilled_size),
        filled_quantity=filled,
        order_type=row.order_type,
        status=row.status,
    )


def _number(value: Decimal | None) -> Decimal:
    """A price or quantity; zero for none."""
    if value is None:
        return Decimal(0)
    if not value.is_finite() or abs(value.adjusted()) > _LARGEST:
        raise ProtocolError("the reply can't be understood: a price or quantity is no number")
    return value
