"""Kraken's futures side: calls, signatures, replies and errors of ``/derivatives/api/v3``."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec

from masscancel.calls import LISTING, Call, Flow, Limit, Reply, Request, Scope, Slices, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
    InvalidRequest,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, Permission
from masscancel.venues.base import Symbols
from masscancel.venues.kraken.wire import BATCH, fires_at, mac
from masscancel.venues.toolkit import (
    OK,
    Refusal,
    RowDecoder,
    ask,
    batches,
    check_fresh,
    decimal,
    decode_json,
    every,
    is_true,
    kind_by_prefix,
    merged,
    milliseconds,
    one,
    open_envelope,
    readable,
    refusal_error,
    side,
    sliced,
    text_of,
    told_by_refusal,
    unsigned,
    whole,
)

#: Contracts are listed in upper case; some replies spell them in lower case.
SYMBOLS: Final = Symbols(
    re.compile(r"[A-Za-z]{2}_[A-Za-z0-9]{2,32}(_[A-Za-z0-9]{1,16}){0,3}"), "PF_XBTUSD"
)

#: "For /derivatives endpoints, clients can spend up to 500 every 10 seconds" ("Derivatives Rate
#: Limits"); public ones cost nothing.
LIMITS: Final = (Limit(name="derivatives", amount=500, seconds=10.0, per="key"),)
_COSTS: Final = {
    "cancelallorders": 25,
    "cancelallordersafter": 25,
    "cancelorder": 10,
    "openorders": 2,
    "orders/status": 1,
}

_ROOT: Final = "/derivatives"
_API: Final = "/api/v3"
_KEY_CHECK: Final = "/api/auth/v1/api-keys/v3/check"
#: For how long it is worth asking whether a contract exists, in seconds.
_PATIENCE: Final = 1.0

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
    """The flows of one origin.

    Attributes:
        origin: scheme, host and port.
        contracts: those that were listed on entry, in upper case; ``None`` if they are not known.
    """

    origin: str
    contracts: frozenset[str] | None

    def cancel_all(self, scope: Scope) -> Flow[Ack]:
        """``cancelallorders``, of all contracts or of one.

        The venue accepts any name. One that was not listed on entry is a slip, or was listed since:
        the cancel goes out, and the list is asked for beside it. What comes of that takes no Ack
        away but one of a contract that, by the new list, does not exist.
        """
        symbol = scope.symbol
        call: Call[Ack] = self._private(
            "POST",
            "cancelallorders",
            sliced(partial(read_ack, symbol=symbol)),
            {} if symbol is None else {"symbol": symbol.upper()},
            cancels=True,
            max_reply=LISTING,
        )
        if symbol is None or self.contracts is None or symbol.upper() in self.contracts:
            return (yield from ask(call))
        answer, contracts = yield [call, self.list_contracts(_PATIENCE)]
        ack: Ack = one([answer])
        if ack.status == "noOrdersToCancel":
            _check_listed(symbol, contracts)
        return ack

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """``openorders``: one listing, not paged, of all contracts; one is picked here."""
        call: Call[list[OpenOrder]] = self._private(
            "GET", "openorders", decode_open_orders, max_reply=LISTING
        )
        orders = yield from ask(call)
        if scope.symbol is None:
            return orders
        wanted = scope.symbol.upper()
        orders = [order for order in orders if order.symbol.upper() == wanted]
        if not orders and wanted not in (self.contracts or ()):
            (contracts,) = yield [self.list_contracts(_PATIENCE)]
            _check_listed(wanted, contracts)
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
            for batch in batches(ids, BATCH)
        ]
        return merged(every((yield calls))) if calls else {}

    def switch(self, seconds: int) -> Flow[int | None]:
        """``cancelallordersafter``: all of the account's orders."""
        call: Call[int | None] = self._private(
            "POST",
            "cancelallordersafter",
            partial(decode_switch, timeout_ms=seconds * 1000),
            {"timeout": seconds},
            cancels=seconds > 0,  # one that arrives late can arm it again
        )
        return (yield from ask(call))

    def key_info(self) -> Call[KeyInfo]:
        """``api-keys/v3/check``: none, read or full access; any key may ask."""
        call = self._private("GET", "", decode_key)
        return msgspec.structs.replace(call, path=_KEY_CHECK, costs={})

    def try_cancel(self, token: str) -> Flow[Permission]:
        """``cancelorder`` of a client's id: ``notFound`` to a key that may."""
        call: Call[Permission] = self._private(
            "POST", "cancelorder", decode_tried, {"cliOrdId": token}
        )
        return (yield from ask(call))

    def list_contracts(self, time_limit: float) -> Call[frozenset[str]]:
        """``instruments``, worth asking for so many seconds."""
        return Call(
            method="GET",
            origin=self.origin,
            path=f"{_ROOT}{_API}/instruments?contractType=all",
            sign=unsigned,
            decode=decode_contracts,
            cancels=False,
            max_reply=LISTING,
            time_limit=time_limit,
        )

    def _private(
        self,
        method: str,
        what: str,
        decode: Any,
        fields: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
        *,
        cancels: bool = False,
        **more: Any,
    ) -> Call[Any]:
        query = f"?{urlencode(fields)}" if fields else ""
        return Call(
            method=method,
            origin=self.origin,
            path=f"{_ROOT}{_API}/{what}{query}",
            sign=sign,
            decode=decode,
            cancels=cancels,
            costs={"derivatives": _COSTS.get(what, 0)},
            **more,
        )


def _check_listed(symbol: str, contracts: object) -> None:
    """Tell a contract with nothing open from a name of none, as far as the list could be had.

    Raises:
        ScopeError: the venue does not list it.
    """
    if isinstance(contracts, frozenset) and symbol.upper() not in contracts:
        raise ScopeError(f"Kraken lists no futures contract {symbol!r}")


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


class _Envelope(msgspec.Struct, rename="camel"):
    """Every reply. Success "merely means that the request has been received and assessed".

    What no cancel needs may be of any type.
    """

    result: str
    error: Any = None
    errors: Any = None
    server_time: Any = None


class _Cancel(_Envelope, rename="camel"):
    cancel_status: msgspec.Raw = msgspec.Raw()


class _Cancelled(msgspec.Struct, rename="camel"):
    status: str
    received_time: Any = None
    cancel_only: Any = None
    cancelled_orders: msgspec.Raw = msgspec.Raw()


class _Id(msgspec.Struct):
    order_id: str


class _OpenOrders(_Envelope, rename="camel"):
    open_orders: msgspec.Raw = msgspec.Raw()


class _Row(msgspec.Struct, rename="camel"):
    """An open order as it is documented. The whole size is never sent."""

    symbol: str
    side: str
    order_id: str = msgspec.field(name="order_id")
    order_type: str = ""
    status: str = ""
    limit_price: int | float | None = None
    filled_size: int | float | None = None
    unfilled_size: int | float | None = None
    reduce_only: Any = None


class _Named(msgspec.Struct, rename="camel"):
    order_id: str


class _Status(msgspec.Struct):
    order: _Named
    status: str


class _Statuses(_Envelope, rename="camel"):
    orders: list[_Status] = []


class _Times(msgspec.Struct, rename="camel"):
    current_time: str
    trigger_time: str


class _Switch(_Envelope, rename="camel"):
    status: msgspec.Raw = msgspec.Raw()


class _Contract(msgspec.Struct):
    symbol: str


class _Instruments(_Envelope, rename="camel"):
    instruments: msgspec.Raw = msgspec.Raw()


class _Levels(msgspec.Struct):
    general: str


class _KeyInfo(msgspec.Struct, rename="camel"):
    permissions: _Levels
    allowed_cidr_blocks: tuple[str, ...] | None = None


class _Clock(msgspec.Struct, rename="camel"):
    server_time: str


def _open_order(row: _Row) -> OpenOrder:
    """A row. Since 18 May 2026 a side may be ``unknown``.

    Raises:
        ProtocolError: it has no side, or its size is no size.
    """
    filled = decimal(row.filled_size)
    return OpenOrder(
        order_id=readable(row.order_id),
        symbol=readable(row.symbol),
        side="unknown" if row.side == "unknown" else side(row.side),
        price=decimal(row.limit_price),
        quantity=filled + decimal(row.unfilled_size),
        filled_quantity=filled,
        order_type=row.order_type,
        status=row.status,
        book="stop" if row.order_type in _TRIGGERED else "ordinary",
        reduce_only=is_true(row.reduce_only),
    )


_TRIGGERED: Final = frozenset({"stop", "stp", "stop_loss", "take_profit", "trailing_stop"})
_CANCEL: Final = msgspec.json.Decoder(_Cancel)
_CANCELLED: Final = msgspec.json.Decoder(_Cancelled)
_IDS: Final = RowDecoder(_Id, msgspec.Raw, convert=lambda row: readable(row.order_id))
_OPEN_ORDERS: Final = msgspec.json.Decoder(_OpenOrders)
_ROWS: Final = RowDecoder(_Row, msgspec.Raw, convert=_open_order)
_STATUSES: Final = msgspec.json.Decoder(_Statuses)
_SWITCH: Final = msgspec.json.Decoder(_Switch)
_TIMES: Final = msgspec.json.Decoder(_Times)
_INSTRUMENTS: Final = msgspec.json.Decoder(_Instruments)
_CONTRACTS: Final = RowDecoder(
    _Contract, msgspec.Raw, convert=lambda row: readable(row.symbol).upper()
)
_KEY_INFO: Final = msgspec.json.Decoder(_KeyInfo)
#: What each level of access lets a key do.
_LEVELS: Final[Mapping[str, Permission]] = {
    "FULL_ACCESS": "yes",
    "READ_ONLY": "no",
    "NO_ACCESS": "no",
}
#: The order "had already been cancelled or it never existed"; as an error, it is of the request.
_NOT_FOUND: Final = "notFound"
_CLOCK: Final = msgspec.json.Decoder(_Clock)

E = TypeVar("E", bound=_Envelope)


def _answer(decoder: "msgspec.json.Decoder[E]", reply: Reply, now_ms: int) -> E:
    """The envelope, if it says success."""
    return open_envelope(decoder, reply, now_ms, _refused)


def _refused(envelope: _Envelope) -> Refusal | None:
    """Read the refusal of an envelope: ``error``, or the first of ``errors``, of two shapes."""
    if envelope.result == "success":
        return None
    faults = envelope.errors if isinstance(envelope.errors, list) else []
    fault: Any = envelope.error or next(iter(faults), "")
    code, text = fault, ""
    if isinstance(fault, dict):
        code, text = fault.get("code"), text_of(fault.get("message"))
    kind = kind_by_prefix(code if isinstance(code, str) else text, _KINDS)
    if code == "" or type(code) not in (int, str):
        code = text or f"result {envelope.result}"
    return Refusal(kind=kind, code=code, message=text)


def read_ack(reply: Reply, stamp: Stamp, *, symbol: str | None) -> Slices[Ack]:
    """Read what became of a cancel-all.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer to this cancel-all.
    """
    envelope = _answer(_CANCEL, reply, stamp.time_ms)
    yield
    answer: _Cancelled = decode_json(_CANCELLED, reply, envelope.cancel_status)
    scope = (symbol or "all").upper()
    if answer.status not in ("cancelled", "noOrdersToCancel"):
        raise ProtocolError(f"the reply has the unknown status {answer.status!r}")
    about = text_of(answer.cancel_only) or scope
    if about.upper() != scope:
        raise ProtocolError(f"the reply is about {about!r}, not {scope!r}")
    times = (_moment(each) for each in (answer.received_time, envelope.server_time))
    return Ack(
        account_category="futures",
        symbol=symbol or "",
        status=answer.status,
        timestamp_ms=next((at for at in times if at is not None), None),
        raw=reply.body,
        cancelled=(yield from _ids(reply, answer.cancelled_orders)),
    )


def _moment(value: object) -> int | None:
    """A time that is for people alone, ms since the epoch; ``None`` if it can't be read."""
    try:
        return milliseconds(text_of(value))
    except ProtocolError:
        return None


def _ids(reply: Reply, rows: msgspec.Raw) -> Slices[tuple[str, ...] | None]:
    """The ids that were cancelled; ``None`` where they can't be told, which costs no Ack."""
    try:
        found = yield from _IDS.decode(reply, rows)
    except ProtocolError:
        return None
    return None if found.problem else tuple(found.whole)


@sliced
def decode_open_orders(reply: Reply, stamp: Stamp) -> Slices[list[OpenOrder]]:
    """The open orders of all contracts.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing, it comes from a cache, or a row of it can't be read.
    """
    envelope = _answer(_OPEN_ORDERS, reply, stamp.time_ms)
    check_fresh(reply, stamp)
    yield
    return whole((yield from _ROWS.decode(reply, envelope.open_orders)))


@sliced
def decode_contracts(reply: Reply, stamp: Stamp) -> Slices[frozenset[str]]:
    """The contracts that are listed, in upper case.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no list of contracts, or one of them can't be read.
    """
    envelope = _answer(_INSTRUMENTS, reply, stamp.time_ms)
    yield
    return frozenset(whole((yield from _CONTRACTS.decode(reply, envelope.instruments))))


def decode_states(reply: Reply, stamp: Stamp) -> Mapping[str, OrderState]:
    """Read what has become of orders, by id.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer about orders.
    """
    rows = _answer(_STATUSES, reply, stamp.time_ms).orders
    return {row.order.order_id: _STATES.get(row.status, "open") for row in rows}


def decode_switch(reply: Reply, stamp: Stamp, *, timeout_ms: int) -> int | None:
    """Read when the switch fires, ms since the epoch.

    Raises:
        VenueError: the venue refused.
        ProtocolError: the reply does not say what was asked for.
    """
    envelope = _answer(_SWITCH, reply, stamp.time_ms)
    times: _Times = decode_json(_TIMES, reply, envelope.status)
    return fires_at(timeout_ms, times.trigger_time, times.current_time)


def decode_key(reply: Reply, stamp: Stamp) -> KeyInfo:
    """Read what a key may do.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no answer about a key.
    """
    if reply.status != OK:
        raise refusal_error(reply, stamp.time_ms, Refusal())
    key: _KeyInfo = decode_json(_KEY_INFO, reply)
    return KeyInfo(
        cancels={"futures": _LEVELS.get(key.permissions.general, "unknown")},
        addresses=key.allowed_cidr_blocks,
    )


def _check_tried(reply: Reply, stamp: Stamp) -> None:
    status: _Cancelled = decode_json(
        _CANCELLED, reply, _answer(_CANCEL, reply, stamp.time_ms).cancel_status
    )
    if status.status == _NOT_FOUND:
        raise VenueError(_NOT_FOUND)


#: Reads what became of the cancel of an order that can't exist.
decode_tried: Final = told_by_refusal(
    _check_tried, unknown_order=lambda error: error.code == _NOT_FOUND
)


def decode_clock(reply: Reply) -> int:
    """``serverTime``, in ms since the epoch; every reply has it, an error too.

    Raises:
        ProtocolError: there is no clock in it.
    """
    return milliseconds(decode_json(_CLOCK, reply).server_time)
