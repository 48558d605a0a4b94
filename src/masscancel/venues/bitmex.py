"""BitMEX.

Sources: the explorer's own description, ``swagger.json`` of ``BitMEX/api-connectors``
(``Order.cancelAll``, ``Order.getOrders``, ``Order.cancelAllAfter``, ``Instrument.get``);
https://www.bitmex.com/app/apiKeysUsage (signature, permissions),
https://www.bitmex.com/app/restAPI (limits, overload) and
https://www.bitmex.com/app/restAPIMessages (errors). What these leave open was seen in replies that
others recorded; where it counts, that is said.

The exchange closed on 2026-09-23. There is no default host: its names may change hands, and a
default would send keys there. While it was open, they were ``https://www.bitmex.com`` (``www.`` is
part of it) and ``https://testnet.bitmex.com``. A key with the permission ``orderCancel`` suffices.
"""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from hmac import digest
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import quote

import msgspec
from msgspec import Meta, field
from msgspec.structs import force_setattr

from masscancel.credentials import Credentials
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
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
    decode_json,
    http_error,
    one,
    retry_after,
)

__all__ = ["BitMEX"]

#: What a page of open orders is asked to hold: the most that the explorer allows.
PAGE: Final = 500
#: A shorter page is the last one, even if the venue should cap pages at its default instead.
LAST_PAGE: Final = 100
#: How many pages one reading takes at most ...
PAGES: Final = 100
#: ... and how many readings are tried while orders end under them.
READINGS: Final = 3

#: "Retry after at least 500 milliseconds" (Overload), in seconds.
_OVERLOAD_WAIT: Final = 0.5
#: How exactly the switch's timer must be what was asked for, in ms.
_TIMER_MARGIN_MS: Final = 1_000

#: What a signature may be given to arrive, in seconds; of 1, rounding may leave nothing.
_WINDOWS: Final = range(2, 3601)
_SYMBOL: Final = re.compile(r"(?=.{3,32}\Z)[A-Z0-9]+(?:_[A-Z0-9]+)*")
_RETRY_IN: Final = re.compile(r"retry in (\d{1,6}) second", re.IGNORECASE)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)

#: What the beginning of an error's sentence means. Where none fits, its HTTP status decides.
_SENTENCES: Final[Mapping[str, type[VenueError]]] = {
    "this request has expired": StampRefused,
    "signature not valid": AuthenticationError,
    "invalid api key": AuthenticationError,
    "this key is disabled": PermissionDenied,
    "access denied": PermissionDenied,
    "rate limit exceeded": RateLimited,
}
_UNKNOWN_SYMBOL: Final = "unknown or expired symbol"
_OVERLOADED: Final = "the system is currently overloaded"


class BitMEX(msgspec.Struct, frozen=True, kw_only=True):
    """BitMEX: where it is, and how it is spoken to.

    It has one book of orders per account, derivatives and spot alike: the category ``account``.

    Args:
        rest_url: the origin of the REST API, such as ``https://host``.
        expires_seconds: how long a signed request may take to be let in, in whole seconds. An
            attempt that was given up may still be carried out for so long, and a clock that is
            further behind costs a second attempt.

    Raises:
        ConfigurationError: the URL is not an origin, or would send keys in clear text to another
            machine; ``expires_seconds`` is not between 2 and 3600.
    """

    name: ClassVar[str] = "bitmex"
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "account": Abilities(
            whole_account="one call",
            one_symbol="one call",
            ack="orders",
            echoes_id=False,
            stop_orders=True,
            stream=False,
            switch="account",
        )
    }

    rest_url: str
    expires_seconds: int = 5

    def __post_init__(self) -> None:
        rest_url = check_origin(self.rest_url, name="rest_url", scheme="http")
        force_setattr(self, "rest_url", rest_url)
        window: object = self.expires_seconds
        if type(window) is not int or window not in _WINDOWS:
            raise ConfigurationError("expires_seconds must be a whole number from 2 to 3600")

    def ready(self) -> bool:
        """There is nothing to find out."""
        return True

    def prepare(self) -> Flow[Self]:
        """Nothing is asked."""
        return self
        yield

    def origin(self, account_category: str) -> str:
        """One origin serves everything."""
        check_scope(account_category, None)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /api/v1``."""
        return Probe(origin=origin, path="/api/v1", decode=decode_clock)

    def cancel_all(
        self,
        account_category: str,
        symbol: str | None,
        request_id: str | None,  # noqa: ARG002  # nothing would echo it
    ) -> Flow[Ack]:
        """``DELETE /api/v1/order/all``, a symbol in its JSON body.

        Orders that await their trigger are in the same book, and the documents except none. The
        reply lists the orders; its ``status`` counts them, such as ``1 Canceled, 1 Rejected``.
        """
        check_scope(account_category, symbol)
        body = b"" if symbol is None else msgspec.json.encode({"symbol": symbol})
        decode = partial(decode_ack, account_category=account_category, symbol=symbol)
        call = self._call(
            "DELETE", "/api/v1/order/all", decode, body=body, acts=True, max_reply=LISTING
        )
        ack: Ack
        ack, named = one((yield [call]))
        if symbol is not None and not named:
            yield from self._check_exists(symbol)
        return ack

    def open_orders(self, account_category: str, symbol: str | None) -> Flow[list[OpenOrder]]:
        """``GET /api/v1/order``, those that are open, oldest first, to the last page.

        Every order that was open throughout is in the list; it is read again if orders of earlier
        pages ended between two pages, which moves those that follow.

        Raises:
            ScopeError: the venue has no such category or symbol.
            ProtocolError: it could not be read unchanged, or has no end.
        """
        check_scope(account_category, symbol)
        for _ in range(READINGS):
            orders = yield from self._read_pages(symbol)
            if orders is not None:
                break
        else:
            raise ProtocolError(f"the open orders changed while they were read, {READINGS} times")
        if symbol is not None and not orders:
            yield from self._check_exists(symbol)
        return orders

    def switch(
        self, account_category: str, symbol: str | None, timeout_ms: int
    ) -> Flow[int | None]:
        """``POST /api/v1/order/cancelAllAfter``: all symbols of the account; fires once.

        The venue advises against less than 5 s. A renewal that arrives after the request to disarm
        arms it anew, so disarm only when each is answered or past its ``expires_at_ms``.

        Raises:
            ScopeError: a symbol was given, or the venue has no such category.
            ConfigurationError: the timeout is not a whole number of ms, 0 or more.
        """
        check_scope(account_category, symbol)
        if symbol is not None:
            raise ScopeError("BitMEX's dead man's switch covers the account, not one symbol")
        if type(timeout_ms) is not int or timeout_ms < 0:
            raise ConfigurationError("timeout_ms must be a whole number of ms, 0 or more")
        call = self._call(
            "POST",
            "/api/v1/order/cancelAllAfter",
            partial(decode_timer, timeout_ms=timeout_ms),
            body=msgspec.json.encode({"timeout": timeout_ms}),
            acts=True,
        )
        fires_at_ms: int | None = one((yield [call]))
        return fires_at_ms

    def _read_pages(self, symbol: str | None) -> Flow[list[OpenOrder] | None]:
        """The open orders; ``None`` if the listing moved between two of its pages.

        Each page begins with the last order of the page before, which shows that nothing moved.
        """
        orders: dict[str, OpenOrder] = {}
        last, start = "", 0
        for _ in range(PAGES):
            page: list[OpenOrder] = one((yield [self._page(symbol, start)]))
            if last and (not page or page[0].order_id != last):
                return None
            orders.update((order.order_id, order) for order in page)
            if len(page) < LAST_PAGE:
                return list(orders.values())
            last = page[-1].order_id
            start += len(page) - 1
        raise ProtocolError(f"the open orders fill more than {PAGES} pages")

    def _page(self, symbol: str | None, start: int) -> Call[list[OpenOrder]]:
        query = {"count": f"{PAGE}", "filter": '{"open":true}'}
        if symbol is not None:
            query = {"symbol": symbol, **query}
        if start:
            query["start"] = str(start)
        decode = partial(decode_orders, symbol=symbol)
        return self._call("GET", _target("/api/v1/order", query), decode, max_reply=LISTING)

    def _check_exists(self, symbol: str) -> Flow[None]:
        """After an answer without an order of the symbol: refuse one that the venue does not list.

        The venue refuses unknown symbols by itself (seen, not documented), but reads a bare series
        such as ``XBT`` as its next contract. It is asked only once it has answered, so no cancel
        waits for this. If it does not tell, its first answer stands.

        Raises:
            ScopeError: there is no such symbol.
        """
        query = {"symbol": symbol, "columns": '["symbol"]'}
        decode = partial(decode_exists, symbol=symbol)
        call = self._call("GET", _target("/api/v1/instrument", query), decode, max_reply=LISTING)
        (exists,) = yield [call]
        if exists is False or isinstance(exists, ScopeError):
            raise ScopeError(f"BitMEX has no symbol {symbol!r}")

    def _call(
        self, method: str, path: str, decode: Any, *, acts: bool = False, **more: Any
    ) -> Call[Any]:
        return Call(
            method=method,
            origin=self.rest_url,
            path=path,
            sign=partial(sign, expires_seconds=self.expires_seconds),
            decode=decode,
            acts=acts,
            **more,
        )


def _target(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())


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


def check_scope(account_category: str, symbol: str | None) -> None:
    """Refuse what the venue can't scope to, before it gets near a body.

    Raises:
        ScopeError: no such category, or nothing that is a symbol.
    """
    if not isinstance(account_category, str) or account_category not in BitMEX.abilities:
        raise ScopeError(
            f"no account category {account_category!r} on BitMEX; there are: "
            + ", ".join(BitMEX.abilities)
        )
    if symbol is not None and not (isinstance(symbol, str) and _SYMBOL.fullmatch(symbol)):
        raise ScopeError(
            f"{symbol!r} is not a symbol of BitMEX, which look like XBTUSD, XBTZ26 or XBT_USDT; "
            "None means all"
        )


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


class _CancelledOrder(msgspec.Struct):
    """An order in the reply of a cancel-all; only its id is certain to be there."""

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
_CANCELLED: Final = msgspec.json.Decoder(list[_CancelledOrder])
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
) -> tuple[Ack, bool]:
    """The orders that a cancel-all found, as an Ack; and whether one of them names the symbol.

    Not every order listed was cancelled. One that ended meanwhile is listed as ``Rejected``, with
    no symbol (seen, not documented); one may be ``PendingCancel``. ``status`` tells how many of
    which there are, and none of these is an error: the request was received.

    Raises:
        ScopeError: the venue knows no such symbol.
        VenueError: the venue refused.
        ProtocolError: it is no acknowledgement of this request.
    """
    rows: list[_CancelledOrder] = _payload(_CANCELLED, reply, stamp.time_ms)
    for row in rows:
        unnamed = not row.symbol and row.status != "Canceled"
        if symbol is not None and row.symbol != symbol and not unnamed:
            raise ProtocolError(
                "the reply is no acknowledgement of this request: "
                f"it has an order of {row.symbol!r:.40}, not {symbol!r}"
            )
    statuses = {row.order_id: row.status or "unknown" for row in rows}
    counts = Counter(statuses.values())
    others = [f"{count} {status}" for status, count in counts.items() if status != "Canceled"]
    accounts = {str(row.account) for row in rows if row.account is not None}
    ack = Ack(
        account_category=account_category,
        account_id=accounts.pop() if len(accounts) == 1 else "",
        status=", ".join([f"{counts['Canceled']} Canceled", *others]),
        symbol=symbol or "",
        raw=reply.body,
    )
    return ack, any(row.symbol == symbol for row in rows)


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
