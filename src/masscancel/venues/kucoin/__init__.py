"""KuCoin: spot, cross and isolated margin, and futures of classic accounts.

Sources: the official SDK and its specification (``Kucoin/kucoin-universal-sdk``, ``spec/rest/api``:
spot order, margin order, futures order) and the older official documents, at
``Kucoin/kucoin-api-docs`` ("Signing a Message", "Request", "Rate Limit", each endpoint's own page).
The margin's stop and OCO paths, the account's mode and futures' switch are those of
``tiagosiebler/kucoin-api`` and ccxt. There is no test network.

Spot and margin have three books: the ordinary orders, the stop orders and the OCO orders; futures
have two. All of them are cancelled side by side. Parameters of a DELETE stand in the query: one in
a body is ignored, and the whole account is cancelled. What the documents leave open is read here as
the worse of two:

* The legs of an OCO order may be among the stop orders as well, and whatever cancels all of those
  may cancel them. So where ``books`` names the stop orders alone, those are listed, and cancelled
  by their ids.
* The margin's stop orders may be behind either of two paths: both are cancelled and listed. Where
  the venue says that the path which its own specification lacks is not there, nothing is behind it.
* The list of OCO orders may show those that have ended. One that was triggered counts as open.
* Page numbers shift while orders end: a listing of several pages is read until two passes agree.
* An answer to a cancel means "received": "The results of the requests must be obtained by checking
  the order status". A stop order that is triggered meanwhile becomes an ordinary one, which the Ack
  does not exclude; two listings of all books do.

Unified accounts have endpoints of their own, which this does not speak: their orders are in none of
these books. What an account is, is asked on entry; one that is unified is refused by name. Where
that could not be had, it is taken for a classic one. Orders of trading bots have no API at all.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from hmac import digest
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote

import msgspec

from masscancel.calls import LISTING, Call, Flow, Limit, Probe, Reply, Request, Scope, Spent, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import (
    ConfigurationError,
    MassCancelError,
    ProtocolError,
    RateLimited,
    VenueError,
)
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues.base import Abilities, Symbols, Venue
from masscancel.venues.kucoin.books import SIDES, Book, Side
from masscancel.venues.kucoin.replies import (
    FOREIGN_ADDRESS,
    NO_SUCH_PATH,
    POOL_HEADERS,
    WINDOW,
    OrderKey,
    check_symbol,
    decode_clock,
    is_gone,
    open_reply,
    read_active,
    read_key,
    read_keys,
    read_mode,
    read_orders,
    read_page,
    read_state,
    read_switch,
)
from masscancel.venues.toolkit import (
    NOTHING_OPEN,
    Answer,
    Page,
    Part,
    act_on_pages,
    ask,
    batches,
    every,
    finish,
    header_number,
    is_whole,
    join,
    states_of,
    steady_pages,
    told_by_refusal,
)

__all__ = ["KuCoin"]

#: The time between the two listings of a proof, in seconds: see :class:`KuCoin`.
SETTLE: Final = 0.5
#: So many ids go into one cancel; the documents bound only those of a listing, by 500.
_IDS: Final = 50
#: So often pages are read for a cancel, for no further orders to be found.
_PASSES: Final = 4
#: For how long it is worth asking what kind an account is, in seconds.
_PATIENCE: Final = 1.0
#: A cancel of more weight may find no room where others still do.
_DEAR: Final = 100
#: The switch's time that disarms it.
_OFF: Final = -1
#: Codes by which a question may be answered that is about an order which is not there.
_NO_SUCH_ORDER: Final = frozenset({NO_SUCH_PATH, "400100"})

#: "The request must be initiated within 5 seconds": for how long a signature is good, in ms.
_GOOD_FOR_MS: Final = 5_000
#: "Request Rate Limit", VIP 0: what each pool holds.
_POOLS: Final = {"spot": 4_000, "futures": 2_000}
#: By the user's id, which the key stands for; public ones by address. Two cancels of all futures
#: take 1600 of the 2000, so that a part is kept for the listings of a proof.
_LIMITS: Final = (
    Limit(name="spot", amount=4_000, seconds=WINDOW, per="key"),
    Limit(name="futures", amount=1_800, seconds=WINDOW, per="key"),
    Limit(name="futures listings", amount=200, seconds=WINDOW, per="key", of_cancels=False),
    Limit(name="management", amount=2_000, seconds=WINDOW, per="key", of_cancels=False),
    Limit(name="public", amount=2_000, seconds=WINDOW, of_cancels=False),
)

_SPOT_SYMBOLS: Final = Symbols(re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}"), "BTC-USDT")
#: ``XBTUSDTM``, ``XBTUSDM``, and with a month and a year ``XBTMZ26``.
_CONTRACTS: Final = Symbols(re.compile(r"[A-Z0-9]{1,30}M([A-Z][0-9]{2})?"), "XBTUSDTM")
_BOTS: Final = ("orders of trading bots (grid, TWAP)",)


def _of_margin() -> Abilities:
    return Abilities(
        symbols=_SPOT_SYMBOLS,
        whole_account="a call per symbol",
        one_symbol="one call",
        ack="received",
        books=("ordinary", "stop", "oco"),
        separable=True,
        unreachable=_BOTS,
        settle=SETTLE,
    )


class KuCoin(Venue, frozen=True, kw_only=True):
    """KuCoin: where it is, and which version its keys have.

    A proof lists twice, half a second apart, unless the caller asks for more: the documents bound
    no delay between an order and the listing that shows it. On spot and margin a listing begins
    with the symbols that have orders; one that gets its first order in between is seen by the next.

    The switch of spot covers all symbols of spot, the one of futures all contracts; margin's would
    cover cross and isolated margin together, so that it is not offered. A symbol's is not either: a
    second symbol would take the place of the first. Whether it reaches stop and OCO orders is not
    documented: rely on it for the ordinary ones. Its orders go up to 10 s after its time, and by
    one reading of the documents any request of the user puts it off.

    Args:
        spot_url: the origin of spot and margin.
        futures_url: the origin of futures.
        key_version: the version that KuCoin shows beside the key: 2 or 3. Keys of version 1 are no
            longer made.
        unified: whether the account is a unified one; ``None`` to find it out on entry.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine; the version is neither; the account is a unified one.
    """

    name: ClassVar[str] = "kucoin"
    title: ClassVar[str] = "KuCoin"
    foreign_address: ClassVar[frozenset[int | str]] = FOREIGN_ADDRESS
    passphrase: ClassVar[bool] = True
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "spot": Abilities(
            symbols=_SPOT_SYMBOLS,
            whole_account="one call",
            one_symbol="one call",
            ack="received",
            books=("ordinary", "stop", "oco"),
            separable=True,
            unreachable=_BOTS,
            switch="account",
            switch_seconds=(5, 86_400),
            settle=SETTLE,
        ),
        "margin": _of_margin(),
        "isolated": _of_margin(),
        "futures": Abilities(
            symbols=_CONTRACTS,
            whole_account="one call",
            one_symbol="one call",
            ack="orders",
            books=("ordinary", "stop"),
            separable=True,
            unreachable=_BOTS,
            switch="account",
            switch_seconds=(5, 86_400),
            settle=SETTLE,
        ),
    }

    spot_url: str = "https://api.kucoin.com"
    futures_url: str = "https://api-futures.kucoin.com"
    key_version: int = 3
    unified: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.key_version, 2, 3):
            raise ConfigurationError("key_version must be 2 or 3, as KuCoin shows beside the key")
        if self.unified:
            raise ConfigurationError(
                "this key belongs to a unified account of KuCoin, whose orders are in none of the "
                "books that are cancelled here: only classic accounts are spoken to"
            )

    def ready(self) -> bool:
        """Whether it is known what kind the account is."""
        return self.unified is not None

    def prepare(self, categories: Sequence[str]) -> Flow[Self]:
        """Ask what kind the account is, by ``GET /api/ua/v1/account/mode``.

        Raises:
            ConfigurationError: it is a unified one.
        """
        del categories
        call = self._ask("spot", "/api/ua/v1/account/mode", read_mode, time_limit=_PATIENCE)
        (mode,) = yield [call]
        known = {"UNIFIED": True, "CLASSIC": False}.get(mode) if isinstance(mode, str) else None
        return msgspec.structs.replace(self, unified=known)

    def origin(self, account_category: str) -> str:
        """Spot and margin have one host, futures another."""
        self.ability(account_category)
        return self._origin(SIDES[account_category])

    def probe(self, origin: str) -> Probe:
        """``GET /api/v1/timestamp``: each host has a clock of its own."""
        costs = {"public": 3}
        return Probe(origin=origin, path="/api/v1/timestamp", decode=decode_clock, costs=costs)

    def limits(self, origin: str) -> Sequence[Limit]:
        """The pools of a host; where both sides are at one origin, those of both."""
        pools = {side.pool for side in SIDES.values() if self._origin(side) == origin}
        if origin == self.spot_url:
            pools.add("management")
        wanted = {"public", *pools, *(f"{pool} listings" for pool in pools)}
        return tuple(limit for limit in _LIMITS if limit.name in wanted)

    def spent(self, origin: str, reply: Reply) -> Mapping[str, Spent]:
        """What has been spent of a pool, if the reply tells.

        The headers do not name the pool: it is told by its size, and users of a higher rank have
        larger ones.
        """
        size, left, reset_ms = (header_number(reply, name) for name in POOL_HEADERS)
        if size is None or left is None or reset_ms is None:
            return {}
        spent = Spent(max(0, size - left), reset_ms / 1000)
        names = {limit.name for limit in self.limits(origin)}
        return {name: spent for name, all_ in _POOLS.items() if name in names and size == all_}

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """One cancel for each book, side by side; of margin's ordinary orders one per symbol.

        What failed is raised when all the rest is done.
        """
        del request_id  # the venue takes none
        books = SIDES[scope.account_category].books_of(scope.books)
        ends = yield [self._begin(scope, book) for book in books]
        return join(scope, [_ended(scope, *each) for each in zip(books, ends, strict=True)])

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """Every book's listing, side by side, each to its last page."""
        books = SIDES[scope.account_category].books_of(scope.books)
        listings: list[list[OpenOrder]] = every((yield [self._list(scope, each) for each in books]))
        orders = {(order.book, order.order_id): order for order in chain.from_iterable(listings)}
        wanted = self.ability(scope.account_category).books if scope.books is None else scope.books
        return [order for order in orders.values() if order.book in wanted]

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """A question per order, a few together; of the first only, if there are very many."""
        self.ability(account_category)
        return (yield from states_of(orders, partial(self._state, account_category)))

    def key_info(self, categories: Sequence[str]) -> Flow[KeyInfo]:
        """``GET /api/v1/user/api-key``: what the key may do.

        Of older keys it says ``Trade``, which leaves open what that covers.
        """
        for category in categories:
            self.ability(category)
        words, addresses = yield from ask(self._ask("spot", "/api/v1/user/api-key", read_key))
        unsure: Permission = "unknown" if not words or "Trade" in words else "no"
        return KeyInfo(
            cancels={
                category: "yes" if SIDES[category].permission in words else unsure
                for category in categories
            },
            addresses=addresses,
        )

    def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
        """``DELETE .../orders/client-order/{id}``: "order not exist" to a key that may.

        Not by an id of the venue's: a path that lost that one would cancel a symbol.
        """
        symbol = self.ability(account_category).symbols.example
        side = SIDES[account_category]
        (ordinary,) = side.books_of(("ordinary",))
        path = ordinary.state.format(id=f"client-order/{token}", symbol=symbol)
        path = f"{path.partition('?')[0]}?symbol={symbol}"
        call = self._call("DELETE", account_category, path, read_state, {side.pool: 5})
        decode = told_by_refusal(
            lambda reply, stamp: open_reply(reply, stamp.time_ms, futures=side.futures),
            unknown_order=is_gone,
            foreign_address=FOREIGN_ADDRESS,
        )
        permission: Permission = yield from ask(msgspec.structs.replace(call, decode=decode))
        return permission

    def switch(self, scope: Scope, timeout_ms: int) -> Flow[int | None]:
        """``dead-cancel-all`` of spot, ``dcp/set`` of futures: ordinary orders of all symbols."""
        seconds = self.check_switch(scope, timeout_ms)
        path, fields = SIDES[scope.account_category].switch
        body = msgspec.json.encode({**fields, "timeout": seconds or _OFF})
        read = partial(read_switch, seconds=seconds)
        call = self._call("POST", "spot", path, read, {"spot": 2}, body=body, cancels=seconds > 0)
        fires_at_ms: int | None = yield from ask(call)
        return fires_at_ms

    # --- cancels --------------------------------------------------------------------------------

    def _begin(self, scope: Scope, book: Book) -> Call[Answer] | Flow[Part]:
        """Make the cancel of a book: one call, or what takes a listing first."""
        if book.has_legs and scope.books is not None and "oco" not in scope.books:
            return self._cancel_listed(scope, book, self._cancel_ids)
        if scope.symbol is not None or (book.cancel_everything and book.costs[2] <= _DEAR):
            return self._cancel(scope, book, scope.symbol)
        if not book.cancel_everything:
            return self._cancel_by_symbols(scope, book)
        return self._cancel_everything(scope, book)

    def _cancel_by_symbols(self, scope: Scope, book: Book) -> Flow[Part]:
        """List the symbols that have orders, then cancel each."""
        pages = act_on_pages(
            lambda _: self._active(scope, book),
            lambda page: self._cancel_symbols(scope, book, page),
            book=f"the {book.name} book",
        )
        return _joined((yield from pages))

    def _cancel_everything(self, scope: Scope, book: Book) -> Flow[Part]:
        """Cancel everything; where the limits have no room for that, symbol by symbol."""
        (end,) = yield [self._cancel(scope, book, None)]
        if not isinstance(end, RateLimited):
            return _ended(scope, book, end)
        part = yield from self._cancel_listed(scope, book, self._cancel_symbols_of)
        answered = any(isinstance(each, Answer) for each in part.results)
        return part if answered else Part([end], part.left)

    def _cancel_symbols_of(self, scope: Scope, book: Book, keys: Sequence[OrderKey]) -> Flow[Part]:
        symbols = list(dict.fromkeys(key.symbol for key in keys))
        return (yield from self._cancel_symbols(scope, book, Page(symbols)))

    def _cancel_symbols(self, scope: Scope, book: Book, page: Page[str]) -> Flow[Part]:
        if not page.rows:
            return Part([_nothing(page.raw)])
        results = yield [self._cancel(scope, book, symbol) for symbol in page.rows]
        named = zip(page.rows, results, strict=True)
        left = [f"{each} ({book.name})" for each, end in named if not isinstance(end, Answer)]
        return Part(results, left)

    def _cancel_ids(self, scope: Scope, book: Book, keys: Sequence[OrderKey]) -> Flow[Part]:
        """Cancel stop orders by their ids, so that no OCO order is touched.

        The symbol goes with them: of one of the paths it is not documented that it takes ids.
        """
        some = batches([key.id for key in keys], _IDS)
        results = yield [self._cancel(scope, book, scope.symbol, ids) for ids in some]
        ends = zip(some, results, strict=True)
        left = [each for ids, end in ends if not isinstance(end, Answer) for each in ids]
        return Part(results, left)

    def _cancel_listed(
        self,
        scope: Scope,
        book: Book,
        cancel: Callable[[Scope, Book, Sequence[OrderKey]], Flow[Part]],
    ) -> Flow[Part]:
        """Cancel what the pages of a listing show, page after page.

        Several of them, which shift while orders end, are read until they show no further orders.
        """
        trade_type = book.query.partition("=")[2]
        seen: set[str] = set()
        asked: list[str] = []

        def list_page(cursor: str) -> Call[Page[OrderKey]]:
            asked.append(cursor)
            return self._page(scope, book, cursor, read_keys)

        def act(page: Page[OrderKey]) -> Flow[Part]:
            new = [key for key in page.rows if key.id not in seen]
            seen.update(key.id for key in new)
            new = [key for key in new if key.is_of(trade_type, scope.symbol)]
            return (yield from cancel(scope, book, new)) if new else Part([_nothing(page.raw)])

        parts: list[Part] = []
        for number in range(1, _PASSES + 1):
            known = len(seen)
            parts += yield from act_on_pages(list_page, act, book=f"the {book.name} book")
            if len(asked) == number or len(seen) == known:
                break
        return _joined(parts)

    def _cancel(
        self, scope: Scope, book: Book, symbol: str | None, ids: Sequence[str] = ()
    ) -> Call[Answer]:
        """Cancel everything of a book, a symbol, or some ids of either."""
        all_of_it = symbol is None and not ids
        return self._call(
            "DELETE",
            scope.account_category,
            _target(
                book.cancel_everything if all_of_it else book.cancel,
                _of_symbol(symbol),
                book.query,
                "orderIds=" + ",".join(quote(each, safe="") for each in ids) if ids else "",
            ),
            book.read_everything if all_of_it else book.read,
            {SIDES[scope.account_category].pool: book.costs[2 if all_of_it else 1]},
            none=lambda error: is_gone(error) or error.code in book.absent,
            instead=lambda reply: _nothing(reply.body),
            cancels=True,
            max_reply=LISTING,
        )

    # --- listings -------------------------------------------------------------------------------

    def _list(self, scope: Scope, book: Book) -> Flow[list[OpenOrder]]:
        """List a book: of every symbol that has orders, or page after page."""
        if book.symbols:
            symbols: Sequence[str] = (scope.symbol,) if scope.symbol else ()
            if not symbols:
                found = yield from ask(self._active(scope, book))
                if found.problem:
                    raise ProtocolError(f"not all symbols could be listed: {found.problem}")
                symbols = found.rows
            calls = [self._orders(scope, book, symbol) for symbol in symbols]
            return list(chain.from_iterable(every((yield calls)))) if calls else []
        read = partial(read_page, rows=book.rows, legs=book.legs)
        pages = steady_pages(
            lambda cursor: self._page(scope, book, cursor, read), attrgetter("order_id")
        )
        orders: list[OpenOrder] = yield from pages
        check_symbol(orders, scope.symbol)
        return orders

    def _page(self, scope: Scope, book: Book, cursor: str, read: Callable[..., Any]) -> Call[Any]:
        number = int(cursor or 1)
        page = f"currentPage={number}&pageSize={book.page_size}"
        path = _target(book.listing, book.list_query, _of_symbol(scope.symbol), book.query, page)
        return self._ask(
            *(scope.account_category, path, partial(read, number=number), book.costs[0]),
            none=lambda error: error.code in book.absent,
            instead=lambda _: Page([]),
            max_reply=LISTING,
        )

    def _orders(self, scope: Scope, book: Book, symbol: str) -> Call[list[OpenOrder]]:
        path = _target(book.listing, _of_symbol(symbol), book.query)
        read = partial(read_orders, rows=book.rows, symbol=symbol)
        cost = book.costs[0]
        return self._ask(scope.account_category, path, read, cost, max_reply=LISTING)

    def _active(self, scope: Scope, book: Book) -> Call[Page[str]]:
        path, cost = _target(book.symbols, book.query), book.costs[0]
        return self._ask(scope.account_category, path, read_active, cost, max_reply=LISTING)

    def _state(
        self, account_category: str, order: OpenOrder | OrderUpdate
    ) -> Call[OrderState | None]:
        """Ask what has become of one order."""
        book = SIDES[account_category].books_of((order.book,))[0]
        names = {"id": quote(order.order_id, safe=""), "symbol": quote(order.symbol, safe="")}
        return self._ask(
            *(account_category, book.state.format(**names), read_state, book.costs[3]),
            none=lambda error: is_gone(error) or error.code in _NO_SUCH_ORDER,
        )

    # --- requests -------------------------------------------------------------------------------

    def _ask(
        self, account_category: str, path: str, read: Callable[..., Any], cost: int = 0, **more: Any
    ) -> Call[Any]:
        """A question; without a cost, one of the account's management."""
        side = SIDES[account_category]
        pool = "futures listings" if side.futures else side.pool
        costs = {pool: cost} if cost else {"management": 20}
        return self._call("GET", account_category, path, read, costs, **more)

    def _call(
        self,
        method: str,
        account_category: str,
        path: str,
        read: Callable[..., Any],
        costs: Mapping[str, float],
        *,
        none: Callable[[VenueError], bool] = lambda _: False,
        instead: Callable[[Reply], Any] = lambda _: None,
        cancels: bool = False,
        **more: Any,
    ) -> Call[Any]:
        side = SIDES[account_category]
        return Call(
            method=method,
            origin=self._origin(side),
            path=path,
            sign=partial(sign, key_version=self.key_version),
            decode=partial(decode, read, side.futures, none, instead),
            cancels=cancels,
            costs=costs,
            **more,
        )

    def _origin(self, side: Side) -> str:
        origin: str = getattr(self, side.url)
        return origin


def signature(secret: str, text: bytes) -> str:
    """Base64 of HMAC-SHA256; the key is the secret as text."""
    return b64encode(digest(secret.encode(), text, "sha256")).decode()


def sign(call: Call[Any], credentials: Credentials, stamp: Stamp, *, key_version: int) -> Request:
    """Sign time, method, path with query, and body; the passphrase is signed by itself.

    "Signing a Message" of the documents; keys of version 1 sent the passphrase as it is.
    """
    text = f"{stamp.time_ms}{call.method}{call.path}".encode() + call.body
    headers = {
        "KC-API-KEY": credentials.api_key,
        "KC-API-SIGN": signature(credentials.api_secret, text),
        "KC-API-TIMESTAMP": str(stamp.time_ms),
        "KC-API-PASSPHRASE": signature(credentials.api_secret, credentials.passphrase.encode()),
        "KC-API-KEY-VERSION": str(key_version),
    }
    if call.body:
        headers["Content-Type"] = "application/json"
    return Request(call.method, call.path, headers, call.body, stamp.time_ms + _GOOD_FOR_MS)


def decode(
    read: Callable[..., Any],
    futures: bool,
    none: Callable[[VenueError], bool],
    instead: Callable[[Reply], Any],
    reply: Reply,
    stamp: Stamp,
) -> Any:
    """Read a reply; a refusal that is ``none`` has the value ``instead``."""
    try:
        data = open_reply(reply, stamp.time_ms, futures=futures)
    except VenueError as error:
        if none(error):
            return instead(reply)
        raise
    value = read(reply, stamp, data)
    return finish(value, reply) if isinstance(value, Generator) else value


def _nothing(raw: bytes) -> Answer:
    """The answer that there is nothing to cancel."""
    return Answer(raw=raw, status=NOTHING_OPEN, cancelled=())


def _ended(scope: Scope, book: Book, end: Part | Answer | MassCancelError) -> Part:
    """The part that the cancel of a book has come to."""
    if isinstance(end, Part):
        return end
    what = "orders" if scope.symbol is None else f"orders of {scope.symbol}"
    return Part([end], [f"the {book.name} {what}"] if isinstance(end, MassCancelError) else [])


def _joined(parts: Sequence[Part]) -> Part:
    """The parts of one book as one."""
    results = [result for part in parts for result in part.results]
    return Part(results, [name for part in parts for name in part.left])


def _of_symbol(symbol: str | None) -> str:
    return "" if symbol is None else f"symbol={quote(symbol, safe='')}"


def _target(path: str, *queries: str) -> str:
    """A path and its query; parts of the query that are empty are left out."""
    query = "&".join(filter(None, queries))
    return f"{path}?{query}" if query else path
