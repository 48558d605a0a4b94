"""Gate (gate.com, formerly gate.io): spot with both margins, perpetual futures, options; API v4.

Sources: https://www.gate.com/docs/developers/apiv4 of 2026-05 ("Authentication", "Error Handling",
"Frequency limit rule", "Pagination", "Unified Account", and each endpoint's own section) and, where
they are silent, the official SDK ``gate-api`` 7.2 of 2026-10. The testnet is
``https://api-testnet.gateapi.io``, with keys of its own.

Each book is cancelled by one call, all of them in flight together, and nothing is listed first. A
price-triggered, trailing or chasing order whose moment comes while its cancel is on its way becomes
an ordinary one, perhaps after the ordinary book was cancelled: the Ack does not exclude that, two
listings of every book do.

What the documents leave open is taken for the worse:

- What ``account=`` covers where it is not given is said for a few calls, in two ways for the cancel
  of a unified account: there, the call goes out with and without. Listings are asked for by each
  account that there may be; a price-triggered order "must be set to ``unified``" there.
- POV orders of spot are in the SDK alone: a host that says ``NOT_FOUND`` has none.
- Whether ``status=open`` lists a take-profit or stop-loss that waits for its order (``inactive``).
- What a request is told that comes after its ``x-gate-exptime``: any label that says "expired".
- The unit of ``X-Gate-RateLimit-Reset-Timestamp``: both are understood. ``X-Gate-RateLimit-*`` tell
  of "the current endpoint" without its name, so that what was spent is only counted here.
- Whether the venue's own switch reaches more than the ordinary book, and whether a timer of all
  symbols goes on beside one of a symbol: neither is relied upon.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha512
from hmac import digest
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from masscancel import errors
from masscancel.calls import LISTING, Call, Flow, Limit, Probe, Reply, Request, Scope, Stamp
from masscancel.credentials import Credentials
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues import toolkit
from masscancel.venues.base import Abilities, Symbols, Venue
from masscancel.venues.gate import replies
from masscancel.venues.gate.books import (
    ALL_PAIRS,
    BOOKS,
    CLOCK,
    DETAIL,
    KEYS,
    LIMITS,
    MODE,
    SWITCHES,
    Book,
)
from masscancel.venues.gate.replies import FOREIGN_ADDRESS

__all__ = ["Gate"]

_ROOT: Final = "/api/v4"
_ID: Final = attrgetter("order_id")
#: A request's time has whole seconds, and so may the venue's: it is refused after this, in seconds.
_STALE: Final = 61
#: The time between the two listings of a proof, in seconds: no document bounds the delay.
SETTLE: Final = 0.5
#: How long it is worth asking, on entry, what kind the account is, in seconds.
_PATIENCE: Final = 3.0
#: What a kind of account may be refused with that there is not; no document says which it is.
_OF_THE_KIND: Final = (errors.VenueError, errors.InvalidRequest, errors.PermissionDenied)

#: No order has an id as large as this will be: ids are whole numbers of 64 bits, in turn.
_LAST_ID: Final = 2**63 - 1

#: The permission that a category needs ("perms").
_PERMISSIONS: Final = {"spot": "spot", "usdt": "futures", "btc": "futures", "options": "options"}

_TICKER: Final = r"[A-Z0-9\u0080-\U0010ffff]"
_FUTURES: Final = ("stop", "trail", "chase", "ordinary")


def _abilities(symbols: Symbols, books: tuple[str, ...], *unreachable: str) -> Abilities:
    return Abilities(
        symbols=symbols,
        whole_account="one call",  # to each of its books
        one_symbol="one call",
        ack="orders",
        books=books,
        separable=len(books) > 1,
        stop_orders=len(books) > 1,
        unreachable=unreachable,
        switch="both",
        switch_seconds=(5, 86_400),
        settle=SETTLE,
    )


class Gate(Venue, frozen=True, kw_only=True):
    """Gate: where it is, and how old a request may be when it is carried out.

    A category of futures is a settle coin; all categories are at one host. Whether the account is
    unified is asked for on entry (``GET /unified/unified_mode``, for which a key may lack the
    permission). Where that is not known, orders are cancelled and listed in both kinds of account,
    and a refusal of either is told: say ``unified=`` then.

    The venue's own switch covers the ordinary book of a category or of a symbol; no document says
    that it reaches the others. Nor is a longest time documented: a day is taken here.

    Args:
        rest_url: the origin, or that of the testnet.
        stream_url: the origin of the websocket; order updates are not followed yet.
        unified: whether the account is a unified one; ``None`` to find out on entry.
        recv_window_ms: for how long the venue may take a cancel of ordinary orders, 1 to 60000 ms:
            ``x-gate-exptime``, in which the clock's own uncertainty is allowed for. Everything else
            is good for a minute.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine; the window is out of range; ``unified`` is no bool.
    """

    name: ClassVar[str] = "gate"
    title: ClassVar[str] = "Gate"
    foreign_address: ClassVar[frozenset[int | str]] = FOREIGN_ADDRESS
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "spot": _abilities(
            Symbols(re.compile(rf"{_TICKER}{{1,40}}_{_TICKER}{{1,20}}"), "BTC_USDT"),
            ("stop", "pov", "ordinary"),
            "bots",
        ),
        "usdt": _abilities(
            Symbols(re.compile(rf"{_TICKER}{{1,40}}_USDT"), "BTC_USDT"),
            _FUTURES,
            "delivery contracts",
            "bots",
        ),
        "btc": _abilities(
            Symbols(re.compile(rf"{_TICKER}{{1,40}}_USD"), "BTC_USD"), _FUTURES, "bots"
        ),
        "options": _abilities(
            Symbols(
                re.compile(
                    r"[A-Z0-9]{1,20}_[A-Z0-9]{1,10}-[0-9]{8}-[0-9]{1,12}(\.[0-9]{1,8})?-[CP]"
                ),
                "BTC_USDT-20261225-100000-C",
            ),
            ("ordinary",),
        ),
    }

    rest_url: str = "https://api.gateio.ws"
    stream_url: str = "wss://api.gateio.ws"
    unified: bool | None = None
    recv_window_ms: int = 5_000

    def __post_init__(self) -> None:
        super().__post_init__()
        toolkit.check_recv_window(self.recv_window_ms)
        if self.unified is not None and not isinstance(self.unified, bool):
            raise errors.ConfigurationError("unified must be True, False or None")

    def ready(self) -> bool:
        """Whether the kind of account is known."""
        return self.unified is not None

    def prepare(self, categories: Sequence[str]) -> Flow[Self]:
        """Ask what kind of account it is, if spot may be cancelled."""
        if categories and "spot" not in categories:
            return self
        (mode,) = yield [self._call(*MODE, decode=replies.decode_mode, time_limit=_PATIENCE)]
        return msgspec.structs.replace(self, unified=mode if isinstance(mode, bool) else None)

    def origin(self, account_category: str) -> str:
        """One origin serves all."""
        self.ability(account_category)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /spot/time``: futures have none, so that one clock is taken to serve all."""
        return Probe(
            origin=origin,
            path=f"{_ROOT}{CLOCK[1]}",
            decode=replies.decode_clock,
            costs={" ".join(CLOCK): 1},
        )

    def limits(self, origin: str) -> Sequence[Limit]:
        """Those of "Frequency limit rule": by user and endpoint."""
        del origin
        return LIMITS

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """A call per book and, on spot, kind of account; all in flight together. No id is echoed.

        The books of orders that may become ordinary ones are written first.
        """
        del request_id
        cancels = [
            (book, account)
            for book in self._books(scope)
            for account in book.accounts.of(self.unified)
        ]
        results = yield [self._cancel(scope, *each) for each in cancels]
        left = []
        for (book, account), result in zip(cancels, results, strict=True):
            if isinstance(result, errors.MassCancelError):
                kind = f", account {account}" if account else ""
                left.append(f"{scope.symbol or scope.account_category} ({book.name}{kind})")
                self._advise(result, account)
        return toolkit.join(scope, [toolkit.Part(results, left)])

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """Every page of every listing, one page after the other, the listings side by side.

        What has several pages, which shift while orders end, is read until it is twice the same.
        Ids of the books but the ordinary one begin with the book, such as ``stop:``. An order that
        is triggered while they are listed may be in none.
        """
        parts = [
            (book, account)
            for book in self._books(scope)
            for account in book.listed_accounts.of(self.unified)
        ]
        results = yield [
            toolkit.steady_pages(partial(self._page, scope, *part), _ID) for part in parts
        ]
        for (_, account), result in zip(parts, results, strict=True):
            self._advise(result, account)
        listed = chain.from_iterable(toolkit.every(results))
        return list({order.order_id: order for order in listed}.values())

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """A request per order, a few together; the first of them only, if there are very many.

        An order of futures that was cancelled unfilled may be gone for good ("Zero-fill orders
        cannot be retrieved 10 minutes after order cancellation").
        """
        self.ability(account_category)
        return (yield from toolkit.states_of(orders, partial(self._state, account_category)))

    def key_info(self, categories: Sequence[str]) -> Flow[KeyInfo]:
        """``GET /account/detail`` and ``/account/main_keys``, which lists keys without their names.

        So it is certain only where all keys that can be this one may do the same. A key without the
        permission ``account`` is not told.
        """
        for category in categories:
            self.ability(category)
        detail, keys = yield [
            self._call(*DETAIL, decode=replies.decode_detail),
            self._call(*KEYS, decode=replies.decode_keys),
        ]
        for answer in (detail, keys):
            if isinstance(answer, errors.PermissionDenied):
                if answer.code in FOREIGN_ADDRESS:
                    raise answer
                return KeyInfo(cancels=dict.fromkeys(categories, "unknown"))
            if isinstance(answer, errors.MassCancelError):
                raise answer
        may = {each: replies.permission(detail, keys, _PERMISSIONS[each]) for each in categories}
        return KeyInfo(cancels=may, addresses=detail.ip_whitelist or ())

    def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
        """A batch of one id: ``ORDER_NOT_FOUND`` to a key that may. Options have no batches.

        Their only cancel of one order is a ``DELETE`` whose path, if it lost the id, would cancel
        everything.

        Raises:
            ConfigurationError: the category is options.
        """
        if account_category not in ("spot", "usdt", "btc"):
            return (yield from super().try_cancel(account_category, token))
        order_id = str(_LAST_ID - int(token[:8], 16))
        path, body = (
            f"/futures/{account_category}/batch_cancel_orders",
            msgspec.json.encode([order_id]),
        )
        if account_category == "spot":
            order = {"currency_pair": "BTC_USDT", "id": order_id}
            path, body = "/spot/cancel_batch_orders", msgspec.json.encode([order])
        call: Call[Permission] = self._call("POST", path, decode=replies.decode_tried, body=body)
        return (yield from toolkit.ask(call))

    def switch(self, scope: Scope, timeout_ms: int) -> Flow[int | None]:
        """``countdown_cancel_all``, of all symbols or of one, in whole seconds."""
        seconds = self.check_switch(scope, timeout_ms)
        path, named = SWITCHES[scope.account_category]
        body: dict[str, Any] = {"timeout": seconds}
        if scope.symbol is not None:
            body[named] = scope.symbol
        call: Call[int | None] = self._call(
            "POST",
            f"{path}/countdown_cancel_all",
            decode=partial(replies.decode_switch, timeout_ms=timeout_ms),
            body=msgspec.json.encode(body),
            cancels=seconds > 0,  # one that arrives late can arm it again
        )
        return (yield from toolkit.ask(call))

    def _advise(self, result: object, account: str) -> None:
        """Say what helps where a kind of account was refused that there may not be.

        It is in the message, which the error of a proof repeats.
        """
        unsure = bool(account) and self.unified is None
        if unsure and isinstance(result, errors.VenueError) and type(result) in _OF_THE_KIND:
            advice = "set unified: whether the account is a unified one is not known"
            result.message = f"{result.message or result.code} ({advice})"

    def _books(self, scope: Scope) -> list[Book]:
        """Choose the books that a scope is about."""
        books = BOOKS[scope.account_category]
        return [book for book in books if scope.books is None or book.name in scope.books]

    def _cancel(self, scope: Scope, book: Book, account: str) -> Call[toolkit.Answer]:
        named = {} if scope.symbol is None else {book.symbol: scope.symbol}
        fields = {"account": account} if account else {}
        call: Call[toolkit.Answer] = self._call(
            book.method,
            book.cancel,
            "" if book.wrapped else _query({**fields, **named}),
            decode=partial(replies.decode_answer, **_asked(scope, book)),
            body=msgspec.json.encode(named) if book.wrapped else b"",
            window_ms=self.recv_window_ms if book.expires else None,
            cancels=True,
            max_reply=LISTING,
        )
        return call

    def _page(
        self, scope: Scope, book: Book, account: str, cursor: str
    ) -> Call[toolkit.Page[OpenOrder]]:
        before = int(cursor or 0)
        page, size = book.page
        at = before if page == "offset" else before // replies.PAGE + 1
        path, query = book.listed, book.query
        if scope.symbol is not None and book.one:
            path, _, query = book.one.partition("?")
        fields = dict(parse_qsl(query))
        if scope.symbol is not None:
            fields[book.symbol] = scope.symbol
        if account:
            fields["account"] = account
        by_pair = path == ALL_PAIRS
        decode = partial(replies.decode_page, by_pair=by_pair, before=before, **_asked(scope, book))
        query = _query({**fields, page: str(at), size: str(replies.PAGE)})
        return self._call("GET", path, query, decode=decode, max_reply=LISTING)

    def _state(
        self, account_category: str, order: OpenOrder | OrderUpdate
    ) -> Call[OrderState | None]:
        """Ask what has become of an order. On spot, its pair has to be named."""
        (book,) = [each for each in BOOKS[account_category] if each.name == order.book]
        order_id = order.order_id.rpartition(":")[2]
        path, _, query = book.order.format(quote(order_id, safe="")).partition("?")
        if account_category == "spot" and book.name == "ordinary":
            query = _query({"currency_pair": order.symbol})
        return self._call(
            "GET",
            path,
            query,
            decode=partial(replies.decode_state, order_id=order_id),
            cost=book.order.partition("?")[0],
        )

    def _call(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        decode: Callable[[Reply, Stamp], Any],
        window_ms: int | None = None,
        cancels: bool = False,
        cost: str = "",
        **more: Any,
    ) -> Call[Any]:
        return Call(
            method=method,
            origin=self.rest_url,
            path=f"{_ROOT}{path}{'?' if query else ''}{query}",
            sign=partial(sign, window_ms=window_ms),
            decode=decode,
            cancels=cancels,
            costs={f"{method} {cost or path}": 1},
            **more,
        )


def signature(secret: str, method: str, path: str, query: str, body: bytes, timestamp: str) -> str:
    """``SIGN``: hex of HMAC-SHA512 over five lines; the query is not percent-encoded."""
    text = "\n".join((method, path, unquote(query), sha512(body).hexdigest(), timestamp))
    return digest(secret.encode(), text.encode(), "sha512").hex()


def sign(
    call: Call[Any], credentials: Credentials, stamp: Stamp, *, window_ms: int | None
) -> Request:
    """Sign a call, with the time in whole seconds; an expiry is in ms, and is not signed.

    Sizes are asked for as text: as numbers, they would be rounded down.
    """
    path, _, query = call.path.partition("?")
    seconds = stamp.time_ms // 1000
    secret, timestamp = credentials.api_secret, str(seconds)
    headers = {
        "KEY": credentials.api_key,
        "Timestamp": timestamp,
        "SIGN": signature(secret, call.method, path, query, call.body, timestamp),
        "Content-Type": "application/json",
        "X-Gate-Size-Decimal": "1",
    }
    expires_at_ms = (seconds + _STALE) * 1000
    if window_ms is not None:
        until_ms = stamp.time_ms + stamp.skew_ms + window_ms
        headers["x-gate-exptime"] = str(until_ms)
        expires_at_ms = min(expires_at_ms, until_ms)
    return Request(call.method, call.path, headers, call.body, expires_at_ms)


def _asked(scope: Scope, book: Book) -> dict[str, Any]:
    """What a reply is read by."""
    return {
        "book": book.name,
        "symbol": scope.symbol,
        "wrapped": book.wrapped,
        "absent": book.absent,
    }


def _query(fields: Mapping[str, str]) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
