"""The books of Gate's categories, and the rates of their endpoints."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from masscancel.calls import Limit
from masscancel.venues.gate.replies import NO_ACCOUNT

#: A listing whose rows are pairs, each with the orders of a page of its own.
ALL_PAIRS: Final = "/spot/open_orders"


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


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A book, and how it is asked. Its paths follow the root.

    Attributes:
        name: as in ``books=``.
        cancel: the path of its cancel.
        wrapped: whether its rows are in an object, and its cancel is a ``POST``.
        expires: whether its cancel takes an expiry.
        accounts: which accounts it is cancelled in, each by a call.
        listed: the path of its listing.
        query: what that is always asked for.
        symbol: the parameter that names a symbol.
        page: the parameters that say which page, or after how many rows, and how many rows.
        listed_accounts: which accounts are listed, each by itself.
        one: its listing of a symbol, where that is another.
        order: the path of one of its orders.
        absent: the label that says that there is no such book, so that nothing is open.
    """

    name: str
    cancel: str
    wrapped: bool = False
    expires: bool = False
    accounts: Accounts = Accounts()
    listed: str
    query: str = "status=open"
    symbol: str = "contract"
    page: tuple[str, str] = ("offset", "limit")
    listed_accounts: Accounts = Accounts()
    one: str = ""
    order: str
    absent: str = ""

    @property
    def method(self) -> str:
        """The method of its cancel."""
        return "POST" if self.wrapped else "DELETE"


def _auto_book(name: str, root: str) -> Book:
    """The book of trailing, or of chasing orders."""
    root = f"{root}/autoorder/v1/{name}"
    return Book(
        name=name,
        cancel=f"{root}/stop_all",
        wrapped=True,
        listed=f"{root}/list",
        query="is_finished=false&sort_by=1",
        page=("page_num", "page_size"),
        order=f"{root}/detail?id={{}}",
        absent=NO_ACCOUNT,
    )


def _book(name: str, path: str, **more: Any) -> Book:
    """A book with one path for its cancel, its listing and its orders."""
    return Book(name=name, cancel=path, listed=path, order=f"{path}/{{}}", **more)


def _futures(settle: str) -> tuple[Book, ...]:
    """The books of a settle coin: what may become an ordinary order goes before those."""
    root = f"/futures/{settle}"
    return (
        _book("stop", f"{root}/price_orders", absent=NO_ACCOUNT),
        _auto_book("trail", root),
        _auto_book("chase", root),
        _book("ordinary", f"{root}/orders", expires=True, absent=NO_ACCOUNT),
    )


_SPOT_BOOKS: Final = (
    _book(
        "stop",
        "/spot/price_orders",
        symbol="market",
        accounts=_TRIGGERS_OF,
        listed_accounts=_TRIGGERS_OF,
    ),
    _book(
        "pov",
        "/spot/pov_orders",
        symbol="currency_pair",
        page=("page", "limit"),
        absent="NOT_FOUND",
    ),
    Book(
        name="ordinary",
        cancel="/spot/orders",
        expires=True,
        accounts=_ORDERS_OF,
        listed=ALL_PAIRS,
        query="",
        symbol="currency_pair",
        page=("page", "limit"),
        listed_accounts=_LISTED_OF,
        one="/spot/orders?status=open",
        order="/spot/orders/{}",
    ),
)
BOOKS: Final[Mapping[str, tuple[Book, ...]]] = {
    "spot": _SPOT_BOOKS,
    "usdt": _futures("usdt"),
    "btc": _futures("btc"),
    "options": (_book("ordinary", "/options/orders"),),
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
            limits.append(_limit(book.method, book.cancel, seconds=seconds))
            limits += [_limit("GET", path) for path in (book.listed, book.one, book.order) if path]
        limits.append(_limit("POST", f"{SWITCHES[category][0]}/countdown_cancel_all"))
    clock = Limit(name=" ".join(CLOCK), amount=200, seconds=10.0, of_cancels=False)
    return [*limits, clock]


LIMITS: Final = tuple({limit.name: limit for limit in _limits()}.values())
