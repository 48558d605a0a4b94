"""BitMEX.

Sources: the explorer's own description, ``swagger.json`` of ``BitMEX/api-connectors``
(``Order.cancelAll``, ``Order.getOrders``, ``Order.cancelAllAfter``, ``Instrument.get``);
https://www.bitmex.com/app/apiKeysUsage (signature, permissions),
https://www.bitmex.com/app/restAPI (limits, overload) and
https://www.bitmex.com/app/restAPIMessages (errors). What these leave open was seen in replies that
others recorded; where it counts, that is said.

The exchange closed on 2026-09-23. There is no default host: its names may change hands, and a
default would send keys there. While it was open, its hosts were ``https://www.bitmex.com``, of
which ``www.`` is part, and ``https://testnet.bitmex.com``. A key with the permission
``orderCancel`` may do every cancel here; whether it may list orders is not documented.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec
from msgspec.structs import force_setattr

from masscancel.errors import ConfigurationError, ProtocolError, ScopeError
from masscancel.models import Ack, OpenOrder, OrderState, OrderUpdate
from masscancel.venue import LISTING, Abilities, Call, Flow, Probe, ReadyVenue, ask, check_origin
from masscancel.venues.bitmex.wire import (
    decode_ack,
    decode_clock,
    decode_exists,
    decode_orders,
    decode_states,
    decode_timer,
    sign,
)

__all__ = ["BitMEX"]

#: What a page of orders is asked to hold: the most there is, by the newer explorer.
PAGE: Final = 500
#: A shorter page is the last one, even if the venue should cap pages at its default instead.
LAST_PAGE: Final = 100
#: How many pages one reading takes at most ...
PAGES: Final = 100
#: ... and how many readings are tried while orders end under them.
READINGS: Final = 3
#: How many pages of past orders are searched at most.
PAST_PAGES: Final = 4

#: How often the clock is read, in seconds: an address may send 30 unsigned requests a minute, and
#: one that goes on after a 429 is shut out for an hour (app/restAPI, "Limits"). Three every 20 s
#: are 9 to 11 a minute, so that two or three programs fit; idle connections last 90 s.
PROBE_INTERVAL: Final = 20.0

#: How long an answer that has come is kept back by the check of its symbol, in seconds.
CHECK_LIMIT: Final = 1.0

#: What a signature may be given to arrive, in seconds; of 1, rounding may leave nothing.
_WINDOWS: Final = range(2, 3601)
_SYMBOL: Final = re.compile(r"(?=.{3,32}\Z)[A-Z0-9]+(?:_[A-Z0-9]+)*")


class BitMEX(ReadyVenue, frozen=True, kw_only=True):
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

    def origin(self, account_category: str) -> str:
        """One origin serves everything."""
        check_scope(account_category, None)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /api/v1``."""
        return Probe(origin=origin, path="/api/v1", interval=PROBE_INTERVAL, decode=decode_clock)

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
        call: Call[tuple[Ack, set[str | None]]] = self._call(
            "DELETE", "/api/v1/order/all", decode, body=body, acts=True, max_reply=LISTING
        )
        ack, named = yield from ask(call)
        if symbol is not None and symbol not in named:
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

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """``GET /api/v1/order``, newest first, as far back as a few pages reach.

        Its filter takes one id at a time ("simple equality"), and a request for each would soon
        meet the limit of requests.
        """
        check_scope(account_category, None)
        wanted = {order.order_id for order in orders}
        symbols = {order.symbol for order in orders}
        scope = {"symbol": symbols.pop()} if len(symbols) == 1 else {}
        states: dict[str, OrderState] = {}
        start = 0
        for _ in range(PAST_PAGES):
            if states.keys() >= wanted:
                break
            query = {**scope, "count": f"{PAGE}", "reverse": "true", "start": f"{start}"}
            target = _target("/api/v1/order", query)
            page = yield from ask(self._call("GET", target, decode_states, max_reply=LISTING))
            states.update((each, page[each]) for each in wanted & page.keys())
            if len(page) < LAST_PAGE:
                break
            start += len(page)
        return states

    def stream(self, account_category: str) -> None:
        """Order updates are not followed here."""
        check_scope(account_category, None)

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
        call: Call[int | None] = self._call(
            "POST",
            "/api/v1/order/cancelAllAfter",
            partial(decode_timer, timeout_ms=timeout_ms),
            body=msgspec.json.encode({"timeout": timeout_ms}),
            acts=True,
        )
        return (yield from ask(call))

    def _read_pages(self, symbol: str | None) -> Flow[list[OpenOrder] | None]:
        """The open orders; ``None`` if the listing moved between two of its pages.

        Each page begins with the last order of the page before, which shows that nothing moved.
        """
        orders: dict[str, OpenOrder] = {}
        last, start = "", 0
        for _ in range(PAGES):
            page = yield from ask(self._page(symbol, start))
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
        target = _target("/api/v1/instrument", query)
        call = self._call("GET", target, decode, max_reply=LISTING, limit=CHECK_LIMIT)
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


def _target(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
