"""Binance: spot, and USDⓈ-M futures.

Sources: ``binance/binance-spot-api-docs`` (``rest-api.md``, ``errors.md``, ``enums.md``,
``CHANGELOG.md``) for spot;
https://developers.binance.com/docs/derivatives/usds-margined-futures ("General Info", "Error Code",
and each endpoint's own page) for futures, and its change log of 2025-11-06, by which conditional
orders live in a book of their own. Testnets: ``https://testnet.binance.vision`` and
``https://demo-fapi.binance.com``. Margin and portfolio-margin accounts have other endpoints, which
this does not speak.

Neither side cancels without a symbol. Everything is cancelled by listing, then one cancel per
symbol and book, in flight together; orders in symbols that were not listed are not covered. On
futures each book is listed by itself, and the symbols of a listing are cancelled in both books as
soon as it is in. A conditional order that is triggered while its cancel is on its way becomes an
ordinary one, and may do so after the ordinary book was cancelled: the Ack does not exclude that,
two listings of both books do.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hmac import digest
from itertools import chain
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from masscancel.calls import (
    LISTING,
    Call,
    Flow,
    Limit,
    Probe,
    Reply,
    Request,
    Scope,
    Spent,
    Stamp,
)
from masscancel.credentials import Credentials
from masscancel.errors import MassCancelError, ProtocolError
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues.base import Abilities, Symbols, Venue
from masscancel.venues.binance.refusals import (
    FOREIGN_ADDRESS,
    REJECTED_KEY,
    check_accepted,
    is_nothing_open,
)
from masscancel.venues.binance.replies import (
    ALGO,
    OrdersDecoder,
    decode_algo_orders,
    decode_algo_state,
    decode_cancelled,
    decode_clock,
    decode_countdown,
    decode_done,
    decode_futures_orders,
    decode_key,
    decode_spot_orders,
    decode_state,
    decode_symbols,
)
from masscancel.venues.toolkit import (
    NOTHING_OPEN,
    Answer,
    Part,
    ask,
    check_recv_window,
    every,
    header_number,
    http_date,
    join,
    states_of,
    told_by_refusal,
)

__all__ = ["Binance"]

#: The time between the two listings of a proof, in seconds: see :class:`Binance`.
SETTLE: Final = 0.5
#: Where it is, unless it is a testnet.
_SPOT_URL: Final = "https://api.binance.com"
_USDM_URL: Final = "https://fapi.binance.com"
#: The header that tells how much weight an address has spent in the running minute.
_USED_WEIGHT: Final = "X-MBX-USED-WEIGHT-1M"

#: Upper-case letters, digits, and _ before a delivery date; and beyond ASCII whatever is printable,
#: since there are symbols such as 币安人生USDT. All of it is percent-encoded.
_SYMBOLS: Final = Symbols(re.compile(r"[A-Z0-9_\u0080-\U0010ffff]{1,50}"), "BTCUSDT")


class _Book(msgspec.Struct, frozen=True):
    """A book: listed by one request and, of a symbol, cancelled by one.

    Attributes:
        names: which of the category's books it is.
        listing: the path of its listing.
        decode_orders: what the listing says.
        cancel: the path of its cancel.
        decode_cancel: what the answer says.
    """

    names: tuple[str, ...]
    listing: str
    decode_orders: OrdersDecoder
    cancel: str
    decode_cancel: Callable[..., Any]


class _Side(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an account category.

    Attributes:
        url: the setting that says where it is.
        clock: the path of its clock.
        order: the path that tells of one order.
        books: in the order in which they are asked.
        list_one: the weight of listing a symbol.
        list_all: the weight of listing everything.
        state: the weight of asking about an order.
        limits: its documented rates, of which a request costs 1 where they count no weight.
    """

    url: str
    clock: str
    order: str
    books: tuple[_Book, ...]
    list_one: int
    list_all: int
    state: int
    limits: tuple[Limit, ...]

    def costs(self, weight: int) -> Mapping[str, float]:
        """The costs of a request of some weight, by the limits' names."""
        return {limit.name: weight if limit.name.endswith("weight") else 1 for limit in self.limits}


#: Weights are those of each endpoint's page; limits those of ``enums.md`` and ``exchangeInfo``,
#: which count by address.
_SIDES: Final[Mapping[str, _Side]] = {
    "spot": _Side(
        url="spot_url",
        clock="/api/v3/time",
        order="/api/v3/order",
        books=(
            _Book(
                ("ordinary", "stop"),
                "/api/v3/openOrders",
                decode_spot_orders,
                "/api/v3/openOrders",
                decode_cancelled,
            ),
        ),
        list_one=6,
        list_all=80,
        state=4,
        limits=(
            Limit(name="weight", amount=6_000, seconds=60.0),
            Limit(name="requests", amount=61_000, seconds=300.0),
        ),
    ),
    # The conditional book is written first: an order that is triggered in between moves to the
    # other one, which comes after it then. Nothing guarantees that they arrive in this order.
    "usdm": _Side(
        url="usdm_url",
        clock="/fapi/v1/time",
        order="/fapi/v1/order",
        books=(
            _Book(
                ("algo",),
                "/fapi/v1/openAlgoOrders",
                decode_algo_orders,
                "/fapi/v1/algoOpenOrders",
                decode_done,
            ),
            _Book(
                ("ordinary",),
                "/fapi/v1/openOrders",
                decode_futures_orders,
                "/fapi/v1/allOpenOrders",
                decode_done,
            ),
        ),
        list_one=1,
        list_all=40,
        state=1,
        limits=(Limit(name="usdm_weight", amount=2_400, seconds=60.0),),
    ),
}
#: A cancel, and a clock. On spot a cancel that succeeds has cost nothing since 2026-04-02 (change
#: log), which is not known when it is sent.
_LIGHT: Final = 1
#: ``countdownCancelAll``.
_SWITCH: Final = 10


class Binance(Venue, frozen=True, kw_only=True):
    """Binance: where it is, and how old a request may be when it is carried out.

    A proof lists twice, half a second apart, unless the caller asks for more. The documents bound
    no delay: "some delay in the response is normal and expected", and a listing comes from a
    server's memory, not from the matching engine ("Data Sources" of ``rest-api.md``). Half a second
    outlasts a listing that lags by 400 ms; one that lags for longer can still be taken for flat.

    Args:
        spot_url: the origin of spot, or of its testnet.
        usdm_url: the origin of USDⓈ-M futures, or of its testnet.
        recv_window_ms: ``recvWindow``, 1 to 60000 ms. The venue refuses a request that is older
            by its own clock; a late one can't cancel what was placed after that.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine; the window is out of range.
    """

    name: ClassVar[str] = "binance"
    title: ClassVar[str] = "Binance"
    foreign_address: ClassVar[frozenset[int | str]] = FOREIGN_ADDRESS
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "spot": Abilities(
            symbols=_SYMBOLS,
            whole_account="a call per symbol",
            one_symbol="one call",
            ack="orders",
            settle=SETTLE,
        ),
        "usdm": Abilities(
            symbols=_SYMBOLS,
            whole_account="a call per symbol",
            one_symbol="one call",  # to each of its two books
            ack="received",
            books=("ordinary", "algo"),
            separable=True,
            switch="symbol",
            settle=SETTLE,
        ),
    }

    spot_url: str = _SPOT_URL
    usdm_url: str = _USDM_URL
    recv_window_ms: int = 5_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_recv_window(self.recv_window_ms)

    def origin(self, account_category: str) -> str:
        """Spot and futures have a host each."""
        self.ability(account_category)
        return self._origin(_SIDES[account_category])

    def probe(self, origin: str) -> Probe:
        """``GET /api/v3/time`` or ``GET /fapi/v1/time``: each host has a clock of its own."""
        side = self._sides(origin)[0]
        return Probe(origin=origin, path=side.clock, decode=decode_clock, costs=side.costs(_LIGHT))

    def limits(self, origin: str) -> Sequence[Limit]:
        """The rates of an address; where both sides are at one origin, those of both."""
        return tuple(chain.from_iterable(side.limits for side in self._sides(origin)))

    def spent(self, origin: str, reply: Reply) -> Mapping[str, Spent]:
        """The weight that the address has spent in the running minute, if the reply tells.

        The minute is one of the venue's clock ("General Info on Limits"), which a reply tells in
        its ``Date``. Where both sides are at one origin, it may be that of either.
        """
        used = header_number(reply, _USED_WEIGHT)
        if used is None:
            return {}
        date_ms = http_date(reply.headers.get("Date", ""))
        ends_in = math.inf if date_ms is None else 60 - date_ms // 1000 % 60
        names = [limit.name for limit in self.limits(origin) if limit.name.endswith("weight")]
        return dict.fromkeys(names, Spent(used, ends_in))

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """One cancel per symbol and book, in flight together; without a symbol, after a listing.

        A book whose listing is late or can't be read holds up nothing else: the symbols of the
        other one are cancelled in both. What failed is raised when all the rest is done.
        """
        del request_id  # the venue takes none
        if scope.symbol is not None:
            return join(scope, [(yield from self._cancel(scope, [scope.symbol]))])
        seen: set[str] = set()
        books = _books(scope)
        ends = yield [self._cancel_listed(scope, book, seen) for book in books]
        parts = [
            _unlisted(book, end) if isinstance(end, MassCancelError) else end
            for book, end in zip(books, ends, strict=True)
        ]
        return join(scope, parts)

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """One listing per book, together; none is paged. Conditional orders are ``algo:<algoId>``.

        An order that is triggered while futures are listed may be in neither listing.
        """
        calls: list[Call[list[OpenOrder]]] = [
            self._list(scope, book, partial(book.decode_orders, symbol=scope.symbol))
            for book in _books(scope)
        ]
        listings: list[list[OpenOrder]] = every((yield calls))
        return list(chain.from_iterable(listings))

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """A request per order, a few together; the first of them only, if there are very many.

        ``GET /api/v3/order`` on spot; ``GET /fapi/v1/order`` on futures, ``GET /fapi/v1/algoOrder``
        for conditional orders. Of one that was triggered, and whose order has ended since, it is
        not known how.
        """
        self.ability(account_category)
        return (yield from states_of(orders, partial(self._state, account_category)))

    def key_info(self, categories: Sequence[str]) -> Flow[KeyInfo]:
        """``GET /sapi/v1/account/apiRestrictions`` of spot's host, which tells of futures, too.

        Where one of the URLs is the venue's own and the other is not, futures' key is another
        environment's, and is not sent to spot's. Testnets have no such path.
        """
        for category in categories:
            self.ability(category)
        apart = (self.spot_url == _SPOT_URL) is not (self.usdm_url == _USDM_URL)
        if apart and "usdm" in categories:
            return KeyInfo(cancels=dict.fromkeys(categories, "unknown"))
        path = "/sapi/v1/account/apiRestrictions"
        decode = partial(decode_key, categories=tuple(categories))
        call = self._call("GET", "spot", path, decode, weight=_LIGHT, symbol=None)
        info: KeyInfo = yield from ask(call)
        return info

    def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
        """``DELETE /api/v3/order``, ``/fapi/v1/order``: "Unknown order sent" to a key that may.

        One that may not is told -2015, as one that is not known at all is.
        """
        symbol = self.ability(account_category).symbols.example
        call: Call[Permission] = self._call(
            "DELETE",
            account_category,
            _SIDES[account_category].order,
            _decode_tried,
            weight=_LIGHT,
            symbol=symbol,
            query=f"&origClientOrderId={token}",
        )
        return (yield from ask(call))

    def switch(self, scope: Scope, timeout_ms: int) -> Flow[int | None]:
        """``POST /fapi/v1/countdownCancelAll``: the open orders of one futures symbol.

        The documents do not say whether it reaches the conditional orders: rely on it for the
        ordinary ones. The time that is returned is the earliest, counted from the request's stamp.

        Raises:
            ScopeError: the scope is anything but one symbol of futures, all books of it.
            ConfigurationError: the time is no whole number of seconds, too short or too long.
        """
        self.check_switch(scope, timeout_ms)
        assert scope.symbol is not None  # noqa: S101  # it covers a symbol
        call: Call[int | None] = self._call(
            "POST",
            scope.account_category,
            "/fapi/v1/countdownCancelAll",
            partial(decode_countdown, symbol=scope.symbol, timeout_ms=timeout_ms),
            weight=_SWITCH,
            symbol=scope.symbol,
            query=f"&countdownTime={timeout_ms}",
            cancels=timeout_ms > 0,
        )
        return (yield from ask(call))

    def _cancel_listed(
        self, scope: Scope, book: _Book, seen: set[str], *, sure: bool = False
    ) -> Flow[Part]:
        """List a book, then cancel its symbols in every book, but for those that are seen to.

        Where the listing may lack an order, what it has is cancelled, and beside that it is made
        again, until it is ``sure`` to have all.
        """
        [listing] = yield [self._list(scope, book, partial(decode_symbols, sure=sure))]
        if isinstance(listing, MassCancelError):
            return _unlisted(book, listing)
        symbols = [symbol for symbol in listing.symbols if symbol not in seen]
        seen.update(symbols)
        if listing.doubt:
            again = self._cancel_listed(scope, book, seen, sure=True)
            parts: list[Part] = every((yield [self._cancel(scope, symbols), again]))
            return Part(
                [result for part in parts for result in part.results],
                [name for part in parts for name in part.left],
            )
        part = yield from self._cancel(scope, symbols)
        if listing.nameless:
            left = f"{listing.nameless} orders whose symbol can't be read"
            error = ProtocolError(f"the listing has {left}: {listing.problem}")
            return Part([error, *part.results], [*part.left, left])
        if symbols:
            return part
        tells = () if self.ability(scope.account_category).ack == "orders" else None
        return Part([Answer(raw=listing.raw, status=NOTHING_OPEN, cancelled=tells)])

    def _cancel(self, scope: Scope, symbols: Sequence[str]) -> Flow[Part]:
        """Cancel symbols in the books of a scope, all in flight together."""
        books = _books(scope)
        cancels = [(symbol, book) for symbol in symbols for book in books]
        if not cancels:
            return Part([], [])
        answers: Sequence[Answer | MassCancelError] = yield [
            self._call(
                "DELETE",
                scope.account_category,
                book.cancel,
                partial(book.decode_cancel, symbol=symbol),
                weight=_LIGHT,
                symbol=symbol,
                cancels=True,
                max_reply=LISTING,  # spot answers with all that it cancelled
            )
            for symbol, book in cancels
        ]
        left = [
            symbol if len(book.names) > 1 else f"{symbol} ({book.names[0]})"
            for (symbol, book), answer in zip(cancels, answers, strict=True)
            if isinstance(answer, MassCancelError)
        ]
        return Part(answers, left)

    def _state(
        self, account_category: str, order: OpenOrder | OrderUpdate
    ) -> Call[OrderState | None]:
        """Ask what has become of one order; ids of conditional ones are unique in all symbols."""
        side = _SIDES[account_category]
        algo_id = order.order_id.removeprefix(ALGO)
        if algo_id != order.order_id:
            path, decode, symbol = "/fapi/v1/algoOrder", decode_algo_state, None
            query = f"&algoId={quote(algo_id, safe='')}"
        else:
            path, decode, symbol = side.order, decode_state, order.symbol
            query = f"&orderId={quote(order.order_id, safe='')}"
        return self._call(
            "GET",
            account_category,
            path,
            partial(decode, order_id=order.order_id),
            weight=side.state,
            symbol=symbol,
            query=query,
        )

    def _list(self, scope: Scope, book: _Book, decode: Callable[..., Any]) -> Call[Any]:
        side = _SIDES[scope.account_category]
        return self._call(
            "GET",
            scope.account_category,
            book.listing,
            decode,
            weight=side.list_all if scope.symbol is None else side.list_one,
            symbol=scope.symbol,
            max_reply=LISTING,
        )

    def _call(
        self,
        method: str,
        account_category: str,
        path: str,
        decode: Callable[..., Any],
        *,
        weight: int,
        symbol: str | None,
        query: str = "",
        cancels: bool = False,
        **more: Any,
    ) -> Call[Any]:
        side = _SIDES[account_category]
        named = "" if symbol is None else f"&symbol={quote(symbol, safe='')}"
        return Call(
            method=method,
            origin=self._origin(side),
            path=path,
            sign=partial(sign, query=named + query, recv_window_ms=self.recv_window_ms),
            decode=partial(decode, account_category=account_category),
            cancels=cancels,
            costs=side.costs(weight),
            **more,
        )

    def _origin(self, side: _Side) -> str:
        origin: str = getattr(self, side.url)
        return origin

    def _sides(self, origin: str) -> list[_Side]:
        """Choose the sides that an origin serves."""
        return [side for side in _SIDES.values() if self._origin(side) == origin]


def signature(secret: str, payload: str) -> str:
    """Hex of HMAC-SHA256 over the parameters as they are sent, that is percent-encoded."""
    return digest(secret.encode(), payload.encode(), "sha256").hex()


def sign(
    call: Call[Any], credentials: Credentials, stamp: Stamp, *, query: str, recv_window_ms: int
) -> Request:
    """Sign a call: the signature comes last, in the query, or in the form that a POST sends.

    Args:
        call: the call.
        credentials: whose key and secret.
        stamp: the time.
        query: the call's own parameters, percent-encoded, each with an ``&`` before it.
        recv_window_ms: how long the request is good for.
    """
    payload = f"timestamp={stamp.time_ms}{query}&recvWindow={recv_window_ms}"
    signed = f"{payload}&signature={signature(credentials.api_secret, payload)}"
    headers = {"X-MBX-APIKEY": credentials.api_key}
    expires_at_ms = stamp.time_ms + recv_window_ms
    if call.method != "POST":
        return Request(call.method, f"{call.path}?{signed}", headers, b"", expires_at_ms)
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return Request(call.method, call.path, headers, signed.encode(), expires_at_ms)


def _decode_tried(reply: Reply, stamp: Stamp, *, account_category: str) -> Permission:
    """Read what became of the cancel of an order that can't exist."""
    return told_by_refusal(
        lambda reply, stamp: check_accepted(reply, stamp.time_ms, account_category),
        unknown_order=is_nothing_open,
        denied=(REJECTED_KEY,),
    )(reply, stamp)


def _unlisted(book: _Book, error: MassCancelError) -> Part:
    """A part that could not even begin."""
    return Part([error], [f"the book {'/'.join(book.names)}, which could not be listed"])


def _books(scope: Scope) -> list[_Book]:
    """Choose the books that a scope is about."""
    books = _SIDES[scope.account_category].books
    if scope.books is None:
        return list(books)
    return [book for book in books if not set(book.names).isdisjoint(scope.books)]
