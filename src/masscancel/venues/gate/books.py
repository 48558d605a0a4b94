"""The books of Gate's categories, and the rates of their endpoints."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from masscancel.calls import Limit
from masscancel.venues import toolkit
from masscancel.venues.gate import replies

#: "User has no futures account": so there is no order either. Each settle coin has its own.
NO_ACCOUNT: Final = "USER_NOT_FOUND"
#: The book of orders that take a share of the volume. The official SDK alone knows of it, and a
#: testnet may not: "Request URL not exists" is ``NOT_FOUND``.
POV: Final = "pov"
POV_ORDERS: Final = "/spot/pov_orders"


class Accounts(msgspec.Struct, frozen=True):
    """The values of ``account=`` that a request is made with, ``""`` for none.

    Attributes:
        classic: of a classic account.
        unified: of a unified one.
    """

    classic: tuple[str, ...] = ("",)
    unified: tuple[str, ...] = ("",)

    def of(self, unified: bool | None) -> tuple[str, ...]:
        """Choose them; all, where it is not known which it is."""
        if unified is None:
            return tuple(dict.fromkeys((*self.classic, *self.unified)))
        return self.unified if unified else self.classic


#: "Classic account: All are included if not specified. Unified account: Specify `unified`".
_ORDERS_OF: Final = Accounts(("",), ("", "unified"))
_LISTED_OF: Final = Accounts(("", "margin"), ("", "margin", "unified"))
#: "Unified account must be set to `unified`".
_TRIGGERS_OF: Final = Accounts(("normal", "margin"), ("unified",))


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A listing.

    Attributes:
        path: without the root.
        query: what is always asked for.
        symbol: the parameter that names a symbol.
        rows: what reads a row.
        page: the parameter that says which page, or after how many rows.
        size: the parameter that says how many rows.
        accounts: which accounts are listed, each by itself.
    """

    path: str
    query: str = "status=open"
    symbol: str = "contract"
    rows: toolkit.RowDecoder[Any, Any]
    page: Literal["page", "page_num", "offset"] = "offset"
    size: Literal["limit", "page_size"] = "limit"
    accounts: Accounts = Accounts()


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A book.

    Attributes:
        name: as in ``books=``.
        cancel: the path of its cancel, without the root.
        wrapped: whether its rows are in an object, and its cancel is a ``POST``.
        expires: whether its cancel takes an expiry.
        accounts: which accounts it is cancelled in, each by a call.
        all: its listing.
        one: its listing of a symbol, where that is another.
        order: the path of one of its orders.
        absent: the label that says that there is no such book, so that nothing is open.
    """

    name: str
    cancel: str
    wrapped: bool = False
    expires: bool = False
    accounts: Accounts = Accounts()
    all: Listing
    one: Listing | None = None
    order: str
    absent: str = ""

    @property
    def call(self) -> tuple[str, str]:
        """Method and path of its cancel."""
        return "POST" if self.wrapped else "DELETE", self.cancel


def _auto_book(name: str, root: str, rows: toolkit.RowDecoder[Any, Any]) -> Book:
    """The book of trailing, or of chasing orders."""
    root = f"{root}/autoorder/v1/{name}"
    listing = Listing(
        path=f"{root}/list",
        query="is_finished=false&sort_by=1",
        rows=rows,
        page="page_num",
        size="page_size",
    )
    cancel, order = f"{root}/stop_all", f"{root}/detail?id={{}}"
    return Book(name=name, cancel=cancel, wrapped=True, all=listing, order=order, absent=NO_ACCOUNT)


def _futures(settle: str) -> tuple[Book, ...]:
    """The books of a settle coin: what may become an ordinary order goes before those."""
    root = f"/futures/{settle}"
    orders, triggers = f"{root}/orders", f"{root}/price_orders"
    return (
        Book(
            name="stop",
            cancel=triggers,
            all=Listing(path=triggers, rows=replies.TRIGGERS),
            order=f"{triggers}/{{}}",
            absent=NO_ACCOUNT,
        ),
        _auto_book("trail", root, replies.TRAILS),
        _auto_book("chase", root, replies.CHASES),
        Book(
            name="ordinary",
            cancel=orders,
            expires=True,
            all=Listing(path=orders, rows=replies.CONTRACTS),
            order=f"{orders}/{{}}",
            absent=NO_ACCOUNT,
        ),
    )


_SPOT_BOOKS: Final = (
    Book(
        name="stop",
        cancel="/spot/price_orders",
        accounts=_TRIGGERS_OF,
        all=Listing(
            path="/spot/price_orders",
            symbol="market",
            rows=replies.SPOT_TRIGGERS,
            accounts=_TRIGGERS_OF,
        ),
        order="/spot/price_orders/{}",
    ),
    Book(
        name=POV,
        cancel=POV_ORDERS,
        all=Listing(
            path=POV_ORDERS,
            symbol="currency_pair",
            rows=replies.POVS,
            page="page",
        ),
        order=f"{POV_ORDERS}/{{}}",
        absent="NOT_FOUND",
    ),
    Book(
        name="ordinary",
        cancel="/spot/orders",
        expires=True,
        accounts=_ORDERS_OF,
        all=Listing(
            path="/spot/open_orders",
            query="",
            rows=replies.PAIRS,
            page="page",
            accounts=_LISTED_OF,
        ),
        one=Listing(
            path="/spot/orders",
            symbol="currency_pair",
            rows=replies.SPOT,
            page="page",
            accounts=_LISTED_OF,
        ),
        order="/spot/orders/{}",
    ),
)
_OPTIONS: Final = Book(
    name="ordinary",
    cancel="/options/orders",
    all=Listing(path="/options/orders", rows=replies.CONTRACTS),
    order="/options/orders/{}",
)
BOOKS: Final[Mapping[str, tuple[Book, ...]]] = {
    "spot": _SPOT_BOOKS,
    "usdt": _futures("usdt"),
    "btc": _futures("btc"),
    "options": (_OPTIONS,),
}
#: How the switch of a category is set, and what names a symbol there.
SWITCHES: Final = {
    "spot": ("/spot", "currency_pair"),
    "usdt": ("/futures/usdt", "contract"),
    "btc": ("/futures/btc", "contract"),
    "options": ("/options", "contract"),
}
MODE: Final = ("GET", "/unified/unified_mode")
DETAIL: Final = ("GET", "/account/detail")
KEYS: Final = ("GET", "/account/main_keys")
CLOCK: Final = ("GET", "/spot/time")


def _limit(method: str, path: str, amount: float = 200, seconds: float = 10.0) -> Limit:
    cancels = method != "GET"
    return Limit(
        name=f"{method} {path.partition('?')[0]}",
        amount=amount,
        seconds=seconds,
        per="key",
        of_cancels=cancels,
    )


def _limits() -> list[Limit]:
    """The rates of the endpoints: cancels 200 a second, others 200 in ten, by user.

    The cancels of price-triggered, trailing and chasing orders are counted among the others.
    """
    limits = [_limit(*each, amount=150) for each in (DETAIL, KEYS, MODE)]
    for category, books in BOOKS.items():
        for book in books:
            seconds = 1.0 if book.name == "ordinary" else 10.0
            listings = {each.path for each in (book.all, book.one) if each is not None}
            limits += [_limit(*book.call, seconds=seconds), _limit("GET", book.order)]
            limits += [_limit("GET", path) for path in sorted(listings)]
        limits.append(_limit("POST", f"{SWITCHES[category][0]}/countdown_cancel_all"))
    clock = Limit(name=" ".join(CLOCK), amount=200, seconds=10.0, of_cancels=False)
    return [*limits, clock]


LIMITS: Final = tuple({limit.name: limit for limit in _limits()}.values())
