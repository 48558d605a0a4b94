"""OKX, by its REST API of version 5: one account, with a category for each type of instrument.

Sources, at https://www.okx.com/docs-v5/en: "REST Authentication", "Rate Limits", "Error Code";
"GET / Order list", "POST / Cancel multiple orders", "GET / Algo order list", "POST / Cancel algo
order", "POST / Cancel All After", "Get account configuration"; of spread trading, which is an API
of its own, "Get active orders" and "Cancel All orders".

No call cancels everything. Each book is listed by itself, page after page, and what a page shows is
cancelled by its ids, in batches, while the next page is listed. Algo orders have a listing for each
of their types; spreads alone have a cancel-all.

The answer to a cancel says that it was accepted, not that the order is cancelled, and nothing
bounds when that is. An algo order that is triggered while its cancel is on its way becomes an
ordinary one, and may do so after the ordinary book was listed: the Ack does not exclude that, two
listings of all books do. The documents do not say whether the orders that bots have placed are
listed.
"""

import re
from binascii import b2a_base64
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from hmac import digest
from itertools import chain
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from masscancel.calls import LISTING, Call, Flow, Limit, Probe, Request, Scope, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import MassCancelError
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues.base import Abilities, Symbols, Venue
from masscancel.venues.okx.replies import (
    ALGOS,
    BOOKS,
    FOREIGN_ADDRESS,
    ORDINARY,
    PAGE,
    SPREADS,
    Book,
    Found,
    read_cancelled,
    read_clock,
    read_key,
    read_page,
    read_spreads_cancelled,
    read_state,
    read_switch,
    read_tried,
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
    every_page,
    join,
    states_of,
)

__all__ = ["OKX"]

#: A request whose time is further off than this is refused, in ms; ``expTime`` holds for orders
#: alone.
LIFETIME_MS: Final = 30_000
#: The time between the two listings of a proof, in seconds. The documents bound no delay.
SETTLE: Final = 0.5
#: So much in so many seconds: of an address where it is public; else of a user, each of whose keys
#: is taken for a user here. Cancels of orders are counted by instrument.
_RATES: Final = {
    "public/time": (10, 2.0),
    "account/config": (5, 2.0),
    "trade/orders-pending": (60, 2.0),
    "trade/orders-algo-pending": (20, 2.0),
    "sprd/orders-pending": (10, 2.0),
    "trade/cancel-order": (60, 2.0),
    "trade/cancel-batch-orders": (300, 2.0),
    "trade/cancel-algos": (20, 2.0),
    "sprd/mass-cancel": (10, 2.0),
    "trade/cancel-all-after": (1, 1.0),
    "trade/order": (60, 2.0),
    "trade/order-algo": (20, 2.0),
    "sprd/order": (20, 2.0),
}

#: A request that waited for a connection arrives so much later than it was counted, in seconds.
_LATE: Final = 0.1

_PAIR: Final = r"[A-Z0-9]{1,24}-[A-Z0-9]{1,24}"
_FAMILY: Final = rf"{_PAIR}(?:_UM)?"
#: What has two parts at least: spreads, and instruments of further types, are of this form, too.
_ANY: Final = r"[A-Z0-9_.]{1,32}(?:-[A-Z0-9_.]{1,32}){1,8}"
_LEG: Final = rf"{_FAMILY}(?:-[A-Z0-9]{{1,24}})?"
#: Two legs, and not one instrument of a family that ends in ``_UM``.
_SPREAD: Final = re.compile(rf"(?!{_LEG}$){_LEG}_{_LEG}")
_OPTION: Final = re.compile(rf"({_FAMILY})-\d{{6}}-[0-9.]{{1,16}}-[CP]")


def _category(pattern: str, example: str, **more: Any) -> Abilities:
    return Abilities(
        symbols=Symbols(re.compile(pattern), example),
        whole_account="a call per batch of ids",
        one_symbol="a call per batch of ids",
        ack="received",
        separable=True,
        settle=SETTLE,
        **{
            "books": tuple(book.name for book in (ORDINARY, *ALGOS)),
            "unreachable": ("orders of bots",),
            **more,
        },
    )


class OKX(Venue, frozen=True, kw_only=True):
    """OKX: where it is, and whether it is a demo.

    A key works at its own site only: www.okx.com, or my.okx.com and eea.okx.com in Europe,
    us.okx.com in the United States and Australia.

    ``account`` is everything, spreads among it; ``margin`` and ``spot`` have the same symbols and
    different orders. Where several categories are meant, ``account`` is the quick way: seven
    listings of algo orders are made for each category, and twenty are allowed within 2 s.

    A site without spread trading says so, and has nothing open there.

    Args:
        rest_url: the origin of the key's site.
        stream_url: the origin of its websockets, which are not used yet.
        demo: whether the key is one of demo trading, at the same origin.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine.
    """

    name: ClassVar[str] = "okx"
    title: ClassVar[str] = "OKX"
    foreign_address: ClassVar[frozenset[int | str]] = FOREIGN_ADDRESS
    passphrase: ClassVar[bool] = True
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "account": _category(
            _ANY,
            "BTC-USDT, BTC-USDT-SWAP or BTC-USDT_BTC-USDT-SWAP",
            books=tuple(BOOKS),
            contains=("spot", "margin", "swap", "futures", "option"),
            unreachable=("orders of bots", "block trading"),
            switch="account",
            switch_seconds=(10, 120),
        ),
        "spot": _category(_PAIR, "BTC-USDT"),
        "margin": _category(_PAIR, "BTC-USDT"),
        "swap": _category(rf"{_FAMILY}-SWAP", "BTC-USDT-SWAP"),
        "futures": _category(rf"{_FAMILY}-\d{{6}}", "BTC-USDT-261225"),
        "option": _category(_OPTION.pattern, "BTC-USD-261225-60000-C"),
    }

    rest_url: str = "https://openapi.okx.com"
    stream_url: str = "wss://ws.okx.com:8443"
    demo: bool = False

    def origin(self, account_category: str) -> str:
        """One origin serves all."""
        self.ability(account_category)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /api/v5/public/time``."""
        path = "public/time"
        return Probe(origin=origin, path=f"/api/v5/{path}", decode=read_clock, costs={path: 1})

    def limits(self, origin: str) -> Sequence[Limit]:
        """The documented rates, by the paths that they hold for. No header tells what is spent."""
        del origin
        return tuple(
            Limit(
                name=path,
                amount=amount,
                seconds=seconds + _LATE,
                per="origin" if path.startswith("public/") else "key",
                of_cancels="cancel" in path,
            )
            for path, (amount, seconds) in _RATES.items()
        )

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """Every book by itself: its listing, then batches of ids; spreads by one call.

        A page, a book or an order that can't be had holds up nothing else, and is named at the end.
        The venue takes no id of a request.
        """
        del request_id
        books = self._books(scope)
        ends: Sequence[Sequence[Part] | MassCancelError]
        ends = yield [self._cancel_book(scope, book) for book in books]
        parts = [
            [Part([end], [book.name])] if isinstance(end, MassCancelError) else end
            for book, end in zip(books, ends, strict=True)
        ]
        return join(scope, [*chain.from_iterable(parts)])

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """One listing per book, together, each to its last page.

        Ids begin with ``algo:`` and ``spread:`` where they are not those of ordinary orders. An
        order that is triggered in between may be in neither listing.
        """
        books = self._books(scope)
        rows: list[list[Found]] = every(
            (yield [every_page(partial(self._list, scope, book, whole=True)) for book in books])
        )
        return [found.order for found in chain.from_iterable(rows) if found.order is not None]

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """A request per order, a few together; the first of them only, if there are very many.

        Of an algo order that was triggered it is not known what became of its order.
        """
        self.ability(account_category)
        return (yield from states_of(orders, self._state))

    def key_info(self, categories: Sequence[str]) -> Flow[KeyInfo]:
        """``GET /api/v5/account/config``: a key may trade everywhere, or nowhere."""
        for category in categories:
            self.ability(category)
        decode = partial(read_key, categories=tuple(categories))
        call: Call[KeyInfo] = self._call("GET", "account/config", decode)
        return (yield from ask(call))

    def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
        """``POST /api/v5/trade/cancel-order`` of a client's id, on a pair: all categories alike."""
        self.ability(account_category)
        path, pair = "trade/cancel-order", "BTC-USDT"
        call: Call[Permission] = self._call(
            "POST",
            path,
            read_tried,
            body={"instId": pair, "clOrdId": token},
            costs={f"{path}:{pair}": 1},
        )
        return (yield from ask(call))

    def switch(self, scope: Scope, timeout_ms: int) -> Flow[int | None]:
        """``POST /api/v5/trade/cancel-all-after``, 10 to 120 s: all orders of the account.

        Spreads are not among them. The documents do not say whether algo orders are: rely on it for
        the ordinary ones. Orders are cancelled one by one, within "a few seconds".
        """
        seconds = self.check_switch(scope, timeout_ms)
        call: Call[int | None] = self._call(
            "POST",
            "trade/cancel-all-after",
            partial(read_switch, timeout_ms=timeout_ms),
            body={"timeOut": str(seconds)},
            cancels=seconds > 0,  # one that arrives late can arm it again
        )
        return (yield from ask(call))

    def _books(self, scope: Scope) -> list[Book]:
        """Choose the books that a scope is about."""
        is_spread = bool(scope.symbol and _SPREAD.fullmatch(scope.symbol))
        names = scope.books or self.ability(scope.account_category).books
        return [
            BOOKS[name]
            for name in names
            if scope.symbol is None or is_spread is (name == SPREADS.name)
        ]

    def _cancel_book(self, scope: Scope, book: Book) -> Flow[Sequence[Part]]:
        if book is SPREADS:
            call: Call[Answer] = self._call(
                "POST",
                book.cancel,
                read_spreads_cancelled,
                body={} if scope.symbol is None else {book.symbol: scope.symbol},
                cancels=True,
            )
            return [Part([(yield from ask(call))])]
        pages = partial(self._list, scope, book, whole=False)
        act = partial(self._cancel_page, book)
        return (yield from act_on_pages(pages, act, book=book.name))

    def _cancel_page(self, book: Book, page: Page[Found]) -> Flow[Part]:
        """Cancel what a page shows."""
        if not page.rows:
            return Part([Answer(raw=page.raw, status=NOTHING_OPEN, cancelled=())])
        flows = [self._cancel_batch(book, some) for some in batches(page.rows, book.batch)]
        parts: list[Part] = every((yield flows))
        results = chain.from_iterable(part.results for part in parts)
        return Part([*results], [name for part in parts for name in part.left])

    def _cancel_batch(self, book: Book, orders: Sequence[Found]) -> Flow[Part]:
        """Cancel some orders; those that could not be seen to are sent again, by themselves."""
        [answer] = yield [self._cancel(book, orders)]
        if not isinstance(answer, Answer):
            return Part([answer], [f"{book.prefix}{order.id}" for order in orders])
        failed = dict(answer.failed)
        again = [
            order
            for order in orders
            if (error := failed.get(f"{book.prefix}{order.id}")) and error.worth_retrying
        ]
        if not again:
            return Part([answer])
        names = [f"{book.prefix}{order.id}" for order in again]
        first = msgspec.structs.replace(
            answer, failed={name: error for name, error in failed.items() if name not in names}
        )
        [second] = yield [self._cancel(book, again, insist=True)]
        return Part([first, second], [] if isinstance(second, Answer) else names)

    def _cancel(self, book: Book, orders: Sequence[Found], *, insist: bool = False) -> Call[Answer]:
        alone = len(orders) == 1 and book is ORDINARY  # it counts as a cancel of one order then
        limit = "trade/cancel-order" if alone else book.cancel
        counts = Counter(_counted_by(order.symbol) for order in orders)
        return self._call(
            "POST",
            book.cancel,
            partial(read_cancelled, book=book, ids=[each.id for each in orders], insist=insist),
            body=[{book.symbol: order.symbol, book.id: order.id} for order in orders],
            cancels=True,
            costs={f"{limit}:{name}": count for name, count in counts.items()},
        )

    def _list(self, scope: Scope, book: Book, older: str, *, whole: bool) -> Call[Page[Found]]:
        """List a page of a book: the newest, or those that are older."""
        kind = _TYPES.get(scope.account_category, "")
        # The listing of algo orders can't be asked for options: they are picked from all.
        picked = kind == _OPTIONS and book is not ORDINARY
        query = {
            "instType": "" if picked else kind,
            book.symbol: scope.symbol or "",
            book.older: quote(older, safe=""),
            "limit": str(PAGE),
        }
        asked = [book.query, *(f"{name}={value}" for name, value in query.items() if value)]
        read = partial(read_page, kind=kind, symbol=scope.symbol, picked=picked, whole=whole)
        return self._call(
            "GET",
            f"{book.listing}?{'&'.join(filter(None, asked))}",
            partial(read, book=book),
            max_reply=LISTING,
        )

    def _state(self, order: OpenOrder | OrderUpdate) -> Call[OrderState | None]:
        prefix, _, order_id = order.order_id.rpartition(":")
        book = next(book for book in BOOKS.values() if book.prefix.rstrip(":") == prefix)
        query = f"{book.id}={quote(order_id, safe='')}"
        if book is ORDINARY:
            query = f"instId={quote(order.symbol, safe='')}&{query}"
        decode = partial(read_state, book=book, order_id=order_id)
        return self._call("GET", f"{book.order}?{query}", decode)

    def _call(
        self,
        method: str,
        path: str,
        decode: Any,
        *,
        body: Any = None,
        cancels: bool = False,
        costs: Mapping[str, float] | None = None,
        **more: Any,
    ) -> Call[Any]:
        return Call(
            method=method,
            origin=self.rest_url,
            path=f"/api/v5/{path}",
            body=b"" if body is None else msgspec.json.encode(body),
            sign=partial(sign, demo=self.demo),
            decode=decode,
            cancels=cancels,
            costs=costs or {path.partition("?")[0]: 1},
            **more,
        )


_OPTIONS: Final = "OPTION"
#: Each category's ``instType``; ``account`` has all of them, ``EVENTS`` too.
_TYPES: Final = {name: name.upper() for name in OKX.abilities if name != "account"}


def _counted_by(symbol: str) -> str:
    """Tell what a cancel is counted by: the family of an option, any other instrument itself."""
    option = _OPTION.fullmatch(symbol)
    return option[1] if option else symbol


def signature(secret: str, payload: bytes) -> str:
    """Base64 of HMAC-SHA256 over time, method, path with query, and body."""
    return b2a_base64(digest(secret.encode(), payload, "sha256"), newline=False).decode()


def sign(call: Call[Any], credentials: Credentials, stamp: Stamp, *, demo: bool) -> Request:
    """Sign a call; its time is ISO 8601, UTC, with ms. The passphrase goes as it is."""
    seconds, ms = divmod(stamp.time_ms, 1000)
    time = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
    payload = f"{time}{call.method}{call.path}".encode() + call.body
    headers = {
        "OK-ACCESS-KEY": credentials.api_key,
        "OK-ACCESS-SIGN": signature(credentials.api_secret, payload),
        "OK-ACCESS-TIMESTAMP": time,
        "OK-ACCESS-PASSPHRASE": credentials.passphrase,
        "Content-Type": "application/json",
    }
    if demo:
        headers["x-simulated-trading"] = "1"
    return Request(call.method, call.path, headers, call.body, stamp.time_ms + LIFETIME_MS)
