"""Binance: spot, and USDⓈ-M futures.

Sources: ``binance/binance-spot-api-docs`` (``rest-api.md``, ``errors.md``, ``enums.md``) for spot;
https://developers.binance.com/docs/derivatives/usds-margined-futures ("General Info", "Error Code",
and each endpoint's own page) for futures, and its change log of 2025-11-06, by which conditional
orders live in a book of their own. Testnets: ``https://testnet.binance.vision`` and
``https://demo-fapi.binance.com``. Margin and portfolio-margin accounts have other endpoints, which
this does not speak.

Neither side cancels without a symbol. Everything is cancelled by listing, then one cancel per
symbol and book, in flight together; orders in symbols that were not listed are not covered. On
futures both books of each symbol are cancelled, whichever the listing found it in. A conditional
order that is triggered while its cancel is on its way becomes an ordinary one, and may do so after
the ordinary book was cancelled: the Ack does not exclude that, two listings of both books do.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hmac import digest
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec
from msgspec.structs import force_setattr

from masscancel.credentials import Credentials
from masscancel.errors import ConfigurationError, MassCancelError, ScopeError
from masscancel.models import Ack, OpenOrder, OrderState, OrderUpdate
from masscancel.venue import (
    LISTING,
    Abilities,
    Call,
    Flow,
    Probe,
    ReadyVenue,
    Request,
    Stamp,
    ask,
    check_origin,
    every,
)
from masscancel.venues.binance.replies import (
    ALGO,
    NOTHING_OPEN,
    Answer,
    Listing,
    decode_algo_orders,
    decode_algo_state,
    decode_cancelled,
    decode_clock,
    decode_countdown,
    decode_done,
    decode_orders,
    decode_state,
)

__all__ = ["Binance"]

#: The longest window that spot documents, in ms; futures document none.
MAX_RECV_WINDOW_MS: Final = 60_000
#: How many orders are asked about together ...
STATES_TOGETHER: Final = 8
#: ... and in all, at most: each costs a weight of 4 on spot, of 6000 a minute and address that
#: cancels and listings share.
STATES_ASKED: Final = 64

# Upper-case letters, digits, and _ before a delivery date; and beyond ASCII whatever is printable,
# since there are symbols such as 币安人生USDT. All of it is percent-encoded.
_SYMBOL: Final = re.compile(r"[A-Z0-9_\u0080-\U0010ffff]{1,50}")


class _Book(msgspec.Struct, frozen=True):
    """One of a category's order books: where it is listed and cancelled, and what comes back."""

    listing: str
    decode_listing: Callable[..., Listing]
    cancel: str
    decode_cancel: Callable[..., Answer]


_BOOKS: Final[Mapping[str, Sequence[_Book]]] = {
    "spot": (_Book("/api/v3/openOrders", decode_orders, "/api/v3/openOrders", decode_cancelled),),
    # The conditional book is written first: an order that is triggered in between moves to the
    # other one, which comes after it then. Nothing guarantees that they arrive in this order.
    "usdm": (
        _Book(
            "/fapi/v1/openAlgoOrders", decode_algo_orders, "/fapi/v1/algoOpenOrders", decode_done
        ),
        _Book("/fapi/v1/openOrders", decode_orders, "/fapi/v1/allOpenOrders", decode_done),
    ),
}


class Binance(ReadyVenue, frozen=True, kw_only=True):
    """Binance: where it is, and how old a request may be when it is carried out.

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
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "spot": Abilities(
            whole_account="a call per symbol",
            one_symbol="one call",
            ack="orders",
            echoes_id=False,
            stop_orders=True,
            stream=False,
            switch=None,
        ),
        "usdm": Abilities(
            whole_account="a call per symbol",
            one_symbol="one call",  # to each of its two books
            ack="received",
            echoes_id=False,
            stop_orders=True,
            stream=False,
            switch="symbol",
        ),
    }

    spot_url: str = "https://api.binance.com"
    usdm_url: str = "https://fapi.binance.com"
    recv_window_ms: int = 5_000

    def __post_init__(self) -> None:
        for name in ("spot_url", "usdm_url"):
            force_setattr(self, name, check_origin(getattr(self, name), name=name, scheme="http"))
        if not _is_whole(self.recv_window_ms, 1, MAX_RECV_WINDOW_MS):
            raise ConfigurationError(
                f"recv_window_ms must be an integer from 1 to {MAX_RECV_WINDOW_MS}"
            )

    def origin(self, account_category: str) -> str:
        """Spot and futures have a host each."""
        check_scope(account_category, None)
        return self.spot_url if account_category == "spot" else self.usdm_url

    def probe(self, origin: str) -> Probe:
        """``GET /api/v3/time`` or ``GET /fapi/v1/time``: each host has a clock of its own.

        Each has a weight of 1; an address may spend 6000 a minute on spot and 2400 on futures
        (``exchangeInfo``). Kept warm as any, a pool spends some thirty.
        """
        path = "/api/v3/time" if origin == self.spot_url else "/fapi/v1/time"
        return Probe(origin=origin, path=path, decode=decode_clock)

    def cancel_all(
        self,
        account_category: str,
        symbol: str | None,
        request_id: str | None,  # noqa: ARG002  # the venue takes none
    ) -> Flow[Ack]:
        """One cancel per symbol and book, in flight together; without a symbol, after a listing.

        What is listed is cancelled even if the listing of the other book fails; that error is
        raised afterwards.
        """
        check_scope(account_category, symbol)
        listings: Sequence[Listing | MassCancelError] = ()
        symbols: Iterable[str] = [symbol] if symbol is not None else []
        if symbol is None:
            listings = yield self._listings(account_category, None)
            symbols = _symbols(listings)
        cancels = [(each, book) for each in symbols for book in _BOOKS[account_category]]
        answers: Sequence[Answer | MassCancelError] = ()
        if cancels:
            answers = yield [
                self._call(
                    "DELETE",
                    account_category,
                    book.cancel,
                    partial(book.decode_cancel, account_category=account_category, symbol=each),
                    symbol=each,
                    acts=True,
                    max_reply=LISTING,  # spot answers with all that it cancelled
                )
                for each, book in cancels
            ]
            _name_failures([each for each, _ in cancels], answers)
        every([*listings, *answers])
        said = every(answers) or [Answer(NOTHING_OPEN, each.raw) for each in every(listings)]
        return Ack(
            account_category=account_category,
            status=next((a.status for a in said if a.status != NOTHING_OPEN), NOTHING_OPEN),
            symbol=symbol or "",
            raw=b"\n".join(answer.raw for answer in said),
        )

    def open_orders(self, account_category: str, symbol: str | None) -> Flow[list[OpenOrder]]:
        """One listing per book, together; none is paged. Conditional orders are ``algo:<algoId>``.

        An order that is triggered while futures are listed may be in neither listing.
        """
        check_scope(account_category, symbol)
        listings: list[Listing] = every((yield self._listings(account_category, symbol)))
        return [order for listing in listings for order in listing.orders]

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """A request per order, a few together; the first of them only, if there are very many.

        ``GET /api/v3/order`` on spot; ``GET /fapi/v1/order`` on futures, ``GET /fapi/v1/algoOrder``
        for conditional orders. Of one that was triggered, and whose order has ended since, it is
        not known how.
        """
        check_scope(account_category, None)
        asked = orders[:STATES_ASKED]
        states: dict[str, OrderState] = {}
        for start in range(0, len(asked), STATES_TOGETHER):
            some = asked[start : start + STATES_TOGETHER]
            answers = every((yield [self._state(account_category, order) for order in some]))
            for order, state in zip(some, answers, strict=True):
                if state is not None:
                    states[order.order_id] = state
        return states

    def stream(self, account_category: str) -> None:
        """Order updates are not followed here."""
        check_scope(account_category, None)

    def switch(
        self, account_category: str, symbol: str | None, timeout_ms: int
    ) -> Flow[int | None]:
        """``POST /fapi/v1/countdownCancelAll``: the open orders of one futures symbol.

        The documents do not say whether it reaches the conditional orders: rely on it for the
        ordinary ones. The time that is returned is the earliest, counted from the request's stamp.

        Raises:
            ScopeError: the scope is anything but one symbol of futures.
            ConfigurationError: ``timeout_ms`` is not a whole number, 0 or more.
        """
        check_scope(account_category, symbol)
        if symbol is None or self.abilities[account_category].switch is None:
            raise ScopeError("the dead man's switch of Binance covers one symbol of usdm, no more")
        if not _is_whole(timeout_ms, 0, 2**53):
            raise ConfigurationError("timeout_ms must be a whole number of ms, 0 or more")
        call: Call[int | None] = self._call(
            "POST",
            account_category,
            "/fapi/v1/countdownCancelAll",
            partial(
                decode_countdown,
                account_category=account_category,
                symbol=symbol,
                timeout_ms=timeout_ms,
            ),
            symbol=symbol,
            query=f"&countdownTime={timeout_ms}",
            acts=True,
        )
        return (yield from ask(call))

    def _state(
        self, account_category: str, order: OpenOrder | OrderUpdate
    ) -> Call[OrderState | None]:
        """What has become of one order; ids of conditional ones are their own, in all symbols."""
        algo_id = order.order_id.removeprefix(ALGO)
        if algo_id != order.order_id:
            path, decode, symbol = "/fapi/v1/algoOrder", decode_algo_state, None
            query = f"&algoId={quote(algo_id, safe='')}"
        else:
            path = "/api/v3/order" if account_category == "spot" else "/fapi/v1/order"
            decode, symbol = decode_state, order.symbol
            query = f"&orderId={quote(order.order_id, safe='')}"
        return self._call(
            "GET",
            account_category,
            path,
            partial(decode, account_category=account_category, order_id=order.order_id),
            symbol=symbol,
            query=query,
            acts=False,
        )

    def _listings(self, account_category: str, symbol: str | None) -> list[Call[Listing]]:
        return [
            self._call(
                "GET",
                account_category,
                book.listing,
                partial(book.decode_listing, account_category=account_category, symbol=symbol),
                symbol=symbol,
                acts=False,
                max_reply=LISTING,
            )
            for book in _BOOKS[account_category]
        ]

    def _call(
        self,
        method: str,
        account_category: str,
        path: str,
        decode: Any,
        *,
        symbol: str | None,
        query: str = "",
        **more: Any,
    ) -> Call[Any]:
        named = "" if symbol is None else f"&symbol={quote(symbol, safe='')}"
        return Call(
            method=method,
            origin=self.origin(account_category),
            path=path,
            sign=partial(sign, query=named + query, recv_window_ms=self.recv_window_ms),
            decode=decode,
            **more,
        )


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


def check_scope(account_category: str, symbol: str | None) -> None:
    """Refuse what the venue can't scope to, before it gets near a URL.

    Raises:
        ScopeError: no such category, or nothing that is a symbol of it.
    """
    if not isinstance(account_category, str) or account_category not in _BOOKS:
        raise ScopeError(
            f"no account category {account_category!r} on Binance; there are: " + ", ".join(_BOOKS)
        )
    if symbol is not None and not (
        isinstance(symbol, str) and symbol.isprintable() and _SYMBOL.fullmatch(symbol)
    ):
        raise ScopeError(
            f"{symbol!r} is not a symbol of Binance, which look like BTCUSDT; None means all"
        )


def _symbols(listings: Sequence[Listing | MassCancelError]) -> list[str]:
    """Each symbol in the listings that could be read, in their order."""
    readable = (each for each in listings if isinstance(each, Listing))
    return list(dict.fromkeys(order.symbol for each in readable for order in each.orders))


def _name_failures(symbols: Sequence[str], answers: Sequence[Answer | MassCancelError]) -> None:
    """Note on each error which symbols, of all, have not been acknowledged."""
    errors = [
        (symbol, answer)
        for symbol, answer in zip(symbols, answers, strict=True)
        if isinstance(answer, MassCancelError)
    ]
    names = ", ".join(dict.fromkeys(symbol for symbol, _ in errors))
    for _, error in errors:
        error.add_note(f"not acknowledged: {names}")


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
