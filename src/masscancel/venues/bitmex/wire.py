"""BitMEX's REST side, purely: signatures, and what its replies mean.

Sources: as the package says. What was only seen in replies that others recorded is marked so.
"""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hmac import digest
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, field

from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
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
from masscancel.venue import Call, Reply, Request, Stamp, decode_json, http_error, retry_after

#: "Retry after at least 500 milliseconds" (Overload), in seconds.
_OVERLOAD_WAIT: Final = 0.5
#: How exactly the switch's timer must be what was asked for, in ms.
_TIMER_MARGIN_MS: Final = 1_000

_RETRY_IN: Final = re.compile(r"retry in (\d{1,6}) second", re.IGNORECASE)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)

#: What the beginning of an error's sentence means. Where none fits, its HTTP status decides.
_SENTENCES: Final[Mapping[str, type[VenueError]]] = {
    "this request has expired": StampRefused,
    "signature not valid": AuthenticationError,
    "invalid api key": AuthenticationError,
    "this key is disabled": PermissionDenied,
    "rate limit exceeded": RateLimited,
}
_UNKNOWN_SYMBOL: Final = "unknown or expired symbol"
_OVERLOADED: Final = "the system is currently overloaded"

#: What has become of an order. Any other word is one of an order that may still trade.
_STATES: Final[Mapping[str, OrderState]] = {
    "Filled": "filled",
    "Canceled": "cancelled",
    "Rejected": "rejected",
}


def signature(secret: str, method: str, target: str, expires: int, body: bytes) -> str:
    """Hex of HMAC-SHA256 over method, path with query, expiry in seconds, and body."""
    message = f"{method}{target}{expires}".encode() + body
    return digest(secret.encode(), message, "sha256").hex()


def sign(
    call: Call[Any], credentials: Credentials, stamp: Stamp, *, expires_seconds: int
) -> Request:
    """Sign a call, as "API Key Usage" says. It is refused if it has not been let in by its expiry.

    Being let in is not being carried out: a request that waits in the engine's queue does not
    expire any more.
    """
    expires = stamp.time_ms // 1000 + expires_seconds
    headers = {
        "api-expires": str(expires),
        "api-key": credentials.api_key,
        "api-signature": signature(
            credentials.api_secret, call.method, call.path, expires, call.body
        ),
    }
    if call.body:
        headers["Content-Type"] = "application/json"
    return Request(call.method, call.path, headers, call.body, expires * 1000)


class _Problem(msgspec.Struct):
    message: str = ""
    name: str = ""


class _Refusal(msgspec.Struct):
    """An error. Some come as a plain sentence."""

    error: _Problem | str


class _Clock(msgspec.Struct):
    timestamp: Annotated[int, Meta(ge=0, lt=2**53)]


class _Instrument(msgspec.Struct):
    symbol: str


class _PastOrder(msgspec.Struct):
    """An order that may have ended; only its id is certain to be there."""

    order_id: Annotated[str, Meta(min_length=1)] = field(name="orderID")
    symbol: str | None = None
    status: Annotated[str, Meta(pattern=r"\A[A-Za-z]{0,32}\Z")] | None = field(
        name="ordStatus", default=None
    )
    account: int | str | None = None


class _Order(msgspec.Struct):
    """An open order. Numbers are read as they are written, digit for digit."""

    order_id: Annotated[str, Meta(min_length=1)] = field(name="orderID")
    symbol: Annotated[str, Meta(min_length=1)]
    side: Literal["Buy", "Sell"]
    price: Decimal | None = None
    quantity: Decimal | None = field(name="orderQty", default=None)
    filled_quantity: Decimal | None = field(name="cumQty", default=None)
    order_type: str | None = field(name="ordType", default=None)
    status: str | None = field(name="ordStatus", default=None)


class _Timer(msgspec.Struct):
    now: str
    cancel_time: str | int | None = field(name="cancelTime", default=None)


_REFUSAL: Final = msgspec.json.Decoder(_Refusal)
_CLOCK: Final = msgspec.json.Decoder(_Clock)
_INSTRUMENTS: Final = msgspec.json.Decoder(list[_Instrument])
_PAST_ORDERS: Final = msgspec.json.Decoder(list[_PastOrder])
_ORDERS: Final = msgspec.json.Decoder(list[_Order])
_TIMER: Final = msgspec.json.Decoder(_Timer)


def _payload(decoder: "msgspec.json.Decoder[Any]", reply: Reply, now_ms: int) -> Any:
    """What the reply holds, if it is a success."""
    if reply.status != 200:  # noqa: PLR2004  # the only success that the documents know
        raise _refusal(reply, now_ms)
    return decode_json(decoder, reply)


def _refusal(reply: Reply, now_ms: int) -> MassCancelError:
    """The error that a reply is: by its sentence where that is known, else by its HTTP status."""
    try:
        problem = decode_json(_REFUSAL, reply).error
    except ProtocolError as unreadable:
        error = http_error(reply, now_ms)
        error.add_note(unreadable.message)
        return error
    if isinstance(problem, str):
        problem = _Problem(message=problem)
    name, text = problem.name, problem.message
    sentence = text.casefold()
    if reply.status == 503 and sentence.startswith(_OVERLOADED):  # noqa: PLR2004  # as documented
        # "The request will not have reached the engine": it is known that it was not carried out.
        wait = max(_OVERLOAD_WAIT, retry_after(reply, now_ms) or 0.0)
        return VenueUnavailable(
            None, name, text, reply.status, retry_after=wait, may_have_executed=False
        )
    if not 400 <= reply.status < 500:  # noqa: PLR2004  # RFC 9110 section 15.5: refused
        return http_error(reply, now_ms, reason=name, message=text)
    if sentence.startswith(_UNKNOWN_SYMBOL):
        return ScopeError("BitMEX has no such symbol, or it has expired")
    kind = next((kind for start, kind in _SENTENCES.items() if sentence.startswith(start)), None)
    error = http_error(reply, now_ms, kind=kind, reason=name, message=text)
    if isinstance(error, RateLimited) and error.retry_after is None:
        told = _RETRY_IN.search(text)
        error.retry_after = float(told[1]) if told else None
    return error


def decode_ack(
    reply: Reply, stamp: Stamp, *, account_category: str, symbol: str | None
) -> tuple[Ack, set[str | None]]:
    """The orders that a cancel-all found, as an Ack; and the symbols that they name.

    Not every order listed was cancelled. One that ended meanwhile is listed as ``Rejected``, with
    no symbol (seen, not documented); one may be ``PendingCancel``. ``status`` tells how many of
    which there are, and none of these is an error: the request was received.

    Raises:
        ScopeError: the venue knows no such symbol.
        VenueError: the venue refused.
        ProtocolError: it is no acknowledgement of this request.
    """
    rows: list[_PastOrder] = _payload(_PAST_ORDERS, reply, stamp.time_ms)
    for row in rows:
        unnamed = not row.symbol and row.status != "Canceled"
        if symbol is not None and row.symbol != symbol and not unnamed:
            raise ProtocolError(
                "the reply is no acknowledgement of this request: "
                f"it has an order of {row.symbol!r:.40}, not {symbol!r}"
            )
    words = {row.order_id: row.status or "unknown" for row in rows}
    counted = [f"{count} {word}" for word, count in sorted(Counter(words.values()).items())]
    accounts = {str(row.account) for row in rows if row.account is not None}
    ack = Ack(
        account_category=account_category,
        account_id=accounts.pop() if len(accounts) == 1 else "",
        status=", ".join(counted) or "nothing open",
        symbol=symbol or "",
        raw=reply.body,
    )
    return ack, {row.symbol for row in rows}


def decode_orders(reply: Reply, stamp: Stamp, *, symbol: str | None) -> list[OpenOrder]:
    """A page of the listing. Quantities are contracts, or on spot the currency's smallest unit.

    Raises:
        ScopeError: the venue knows no such symbol.
        VenueError: the venue refused.
        ProtocolError: it is no listing of this scope.
    """
    rows: list[_Order] = _payload(_ORDERS, reply, stamp.time_ms)
    if symbol is not None and any(row.symbol != symbol for row in rows):
        raise ProtocolError(f"the reply lists other symbols than {symbol!r}")
    return [
        OpenOrder(
            order_id=row.order_id,
            symbol=row.symbol,
            side="buy" if row.side == "Buy" else "sell",
            price=_number(row.price),
            quantity=_number(row.quantity),
            filled_quantity=_number(row.filled_quantity),
            order_type=row.order_type or "",
            status=row.status or "",
        )
        for row in rows
    ]


def decode_states(reply: Reply, stamp: Stamp) -> dict[str, OrderState]:
    """What has become of the orders of a page, by id.

    Raises:
        VenueError: the venue refused.
        ProtocolError: it is no listing.
    """
    rows: list[_PastOrder] = _payload(_PAST_ORDERS, reply, stamp.time_ms)
    return {row.order_id: _STATES.get(row.status or "", "open") for row in rows}


def _number(value: Decimal | None) -> Decimal:
    """Zero for none: no limit price, or no quantity, where a stop closes the whole position."""
    if value is None:
        return Decimal(0)
    if not value.is_finite():
        raise ProtocolError("the reply can't be understood: a price or quantity is no number")
    return value


def decode_exists(reply: Reply, stamp: Stamp, *, symbol: str) -> bool:
    """Whether the venue lists a symbol, in exactly this spelling.

    Raises:
        ScopeError: the venue says itself that it does not.
        VenueError: the venue refused.
        ProtocolError: it is no list of instruments.
    """
    rows: list[_Instrument] = _payload(_INSTRUMENTS, reply, stamp.time_ms)
    return any(row.symbol == symbol for row in rows)


def decode_timer(reply: Reply, stamp: Stamp, *, timeout_ms: int) -> int | None:
    """When the switch will fire, ms since the epoch by the venue's clock; ``None`` if disarmed.

    Raises:
        VenueError: the venue refused.
        ProtocolError: the reply does not say that the timer is what was asked for.
    """
    timer: _Timer = _payload(_TIMER, reply, stamp.time_ms)
    now_ms = _time_ms(timer.now)
    if not timer.cancel_time:  # 0 on the websocket; REST is not documented
        if timeout_ms:
            raise ProtocolError("the reply names no time at which the switch fires")
        return None
    fires_at_ms = _time_ms(timer.cancel_time)
    if abs(fires_at_ms - now_ms - timeout_ms) > _TIMER_MARGIN_MS:
        raise ProtocolError(
            f"the switch was set to fire in {fires_at_ms - now_ms} ms, not {timeout_ms} ms"
        )
    return fires_at_ms if timeout_ms else None


def _time_ms(text: str | int) -> int:
    """A time as the venue writes it, such as ``2024-04-09T09:01:56.560Z``."""
    try:
        moment: datetime = msgspec.convert(text, Annotated[datetime, Meta(tz=True)])
    except msgspec.ValidationError:
        pass
    else:
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    raise ProtocolError("the reply can't be understood: a time is no time")


def decode_clock(reply: Reply) -> int:
    """The server's clock, ms since the epoch.

    Raises:
        VenueError: the venue refused.
        ProtocolError: there is no clock in it.
    """
    clock: _Clock = _payload(_CLOCK, reply, 0)
    return clock.timestamp
