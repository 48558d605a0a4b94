"""Bybit by its API of version 5: spot, linear, inverse and option.

Sources: https://bybit-exchange.github.io/docs/v5, "Cancel All Orders", "Get Open & Closed Orders",
"Get Order History", "Get Instruments Info", "Get API Key Information", "Get Bybit Server Time",
"Integration Guidance", "Rate Limit Rules", "Error Codes", "Enums Definitions". Testnet:
``https://api-testnet.bybit.com``; demo trading, with keys of its own:
``https://api-demo.bybit.com``.

A cancel-all is accepted, not done, when it is answered. Without a filter it leaves spot's
conditional orders alone, so that each book of spot has a call. Linear wants a settle coin: there is
a call for USDT, one for USDC, and one for any other that the list of instruments has. Inverse has
as many settle coins as base coins: it is listed, and what is listed is cancelled by symbol. **A
call cancels 500 futures orders at most, picked at random**; one that names so many is repeated, and
the Ack says if more may be open.

Not documented, and taken for the worse:

- Whether linear is settled in more than USDT and USDC: where the list of instruments can't be had,
  nothing is proven, and the error of a cancel says what may be left.
- Whether a last page has a cursor: it is followed until a page is empty.
- Which spelling of a cursor with ``%`` in it is right: it is sent back so that the venue reads what
  it wrote.
- What a cancel-all means by "order does not exist", which single cancels say: the outcome is
  unknown, and it is asked again.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hmac import digest
from itertools import chain
from typing import Any, ClassVar, Final, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from masscancel import errors
from masscancel.calls import LISTING, Call, Flow, Limit, Probe, Reply, Request, Scope, Spent, Stamp
from masscancel.credentials import Credentials
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues import toolkit
from masscancel.venues.base import Abilities, Symbols, Venue
from masscancel.venues.bybit.replies import (
    FOREIGN_ADDRESS,
    FUTURES_FILTERS,
    PAGE,
    SPOT_FILTERS,
    Accepted,
    decode_cancelled,
    decode_clock,
    decode_coins,
    decode_key,
    decode_page,
    decode_state,
    decode_symbols,
    decode_tried,
    tell,
)
from masscancel.venues.toolkit import NOTHING_OPEN, Page, Part

__all__ = ["Bybit"]

T = TypeVar("T")

#: The time between the two listings of a proof, in seconds. Cancels are asynchronous, and listings
#: "may experience increased latency or temporary delays"; neither is bounded by the documents.
SETTLE: Final = 0.5
#: How often a cancel-all is repeated at most, while each answer names as many as it can.
_ROUNDS: Final = 20
#: For how long it is worth looking up settle coins on entry, in seconds.
_PATIENCE: Final = 3.0
#: What linear is settled in ("Enums Definitions", category).
_SETTLE_COINS: Final = ("USDT", "USDC")
_LIMITS: Final = (
    Limit(name="requests", amount=600, seconds=5.0),
    Limit(name="cancels of futures", amount=10, seconds=1.0, per="key"),
    Limit(name="cancels of options", amount=1, seconds=1.0, per="key"),
    Limit(name="cancels of spot", amount=20, seconds=1.0, per="key"),
    Limit(name="listings", amount=50, seconds=1.0, per="key", of_cancels=False),
)
_CANCELS: Final = {
    "spot": "cancels of spot",
    "linear": "cancels of futures",
    "inverse": "cancels of futures",
    "option": "cancels of options",
}
_LISTINGS: Final = "listings"
#: Replies do not say of which limit they are; by the second, no two are of the same amount.
_BY_AMOUNT: Final = {int(limit.amount): limit.name for limit in _LIMITS if limit.per == "key"}

_SPOT: Final = Symbols(re.compile(r"[A-Z0-9\u0080-\U0010ffff]{2,40}"), "BTCUSDT")
_FUTURES: Final = re.compile(r"[A-Z0-9\u0080-\U0010ffff]{2,40}(-\d{1,2}[A-Z]{3}\d{2})?", re.ASCII)
_OPTIONS: Final = re.compile(
    r"[A-Z0-9]{2,20}-\d{1,2}[A-Z]{3}\d{2}-[0-9.]{1,16}-[CP](-[A-Z]{3,5})?", re.ASCII
)
#: A symbol of each category that has been listed for years; options come and go.
_LISTED: Final = {
    "spot": "BTCUSDT",
    "linear": "BTCUSDT",
    "inverse": "BTCUSD",
    "option": "BTC-26DEC25-100000-C",
}
_STRATEGIES: Final = "strategies (TWAP, iceberg, chase), which may place their orders again"


def _ability(
    symbols: Symbols,
    whole_account: Any,
    *unreachable: str,
    books: tuple[str, ...] = ("ordinary", "stop"),
) -> Abilities:
    return Abilities(
        symbols=symbols,
        whole_account=whole_account,
        one_symbol="one call",  # to each of its books, on spot
        ack="count",
        books=books,
        separable=True,
        unreachable=unreachable,
        settle=SETTLE,
    )


class Bybit(Venue, frozen=True, kw_only=True):
    """Bybit: where it is, and how old a request may be when it is carried out.

    It has no dead man's switch that could be used here: its DCP is for institutional clients, and
    is kept from firing by websockets alone.

    Args:
        rest_url: the origin of the API; a region has its own, such as ``https://api.bybit.nl``.
        stream_url: the origin of the private websocket; order updates are not followed yet.
        recv_window_ms: ``X-BAPI-RECV-WINDOW``, 1 to 60000 ms. The venue refuses a request that is
            older by its own clock; a late one can't cancel what was placed after that.
        settle_coins: what linear is settled in beside USDT and USDC; ``None`` to find out on entry,
            unless the client is of other categories alone.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine; the window is out of range.
    """

    name: ClassVar[str] = "bybit"
    title: ClassVar[str] = "Bybit"
    foreign_address: ClassVar[frozenset[int | str]] = FOREIGN_ADDRESS
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "spot": _ability(
            _SPOT,
            "one call",
            *("spread orders", _STRATEGIES),
            books=("ordinary", "stop", "tpsl", "oco", "bidirectional"),
        ),
        "linear": _ability(
            Symbols(_FUTURES, "BTCUSDT, BTCPERP or BTC-26DEC25"),
            "a call per settle coin",
            *("spread orders", _STRATEGIES),
        ),
        "inverse": _ability(
            Symbols(_FUTURES, "BTCUSD or BTCUSDZ25"), "a call per symbol", _STRATEGIES
        ),
        "option": _ability(Symbols(_OPTIONS, "BTC-26DEC25-100000-C"), "one call"),
    }

    rest_url: str = "https://api.bybit.com"
    stream_url: str = "wss://stream.bybit.com"
    recv_window_ms: int = 5_000
    settle_coins: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        toolkit.check_recv_window(self.recv_window_ms)

    def ready(self) -> bool:
        """Whether it is known what linear is settled in."""
        return self.settle_coins is not None

    def prepare(self, categories: Sequence[str]) -> Flow[Self]:
        """Look up what linear is settled in; where that can't be had soon, a cancel asks again."""
        if categories and "linear" not in categories:
            return self
        (coins,) = yield [self._look_up()]
        if isinstance(coins, errors.MassCancelError):
            return self
        return msgspec.structs.replace(self, settle_coins=coins)

    def origin(self, account_category: str) -> str:
        """One origin serves all."""
        self.ability(account_category)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /v5/market/time``."""
        path = "/v5/market/time"
        return Probe(origin=origin, path=path, decode=decode_clock, costs={"requests": 1})

    def limits(self, origin: str) -> Sequence[Limit]:
        """The rates of an address, and of a key by the second ("Rate Limit Rules")."""
        del origin
        return _LIMITS

    def spent(self, origin: str, reply: Reply) -> Mapping[str, Spent]:
        """``X-Bapi-Limit`` less ``X-Bapi-Limit-Status``, the requests that remain."""
        del origin
        amount = toolkit.header_number(reply, "X-Bapi-Limit")
        left = toolkit.header_number(reply, "X-Bapi-Limit-Status")
        name = _BY_AMOUNT.get(amount or 0)
        if name is None or amount is None or left is None or left > amount:
            return {}
        return {name: Spent(amount - left, 1.0)}

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """``POST /v5/order/cancel-all``, by book, settle coin or symbol; all in flight together.

        Inverse without a symbol is listed first: what a page shows is cancelled while the next one
        is listed. The venue repeats no ids.
        """
        del request_id
        spot = scope.account_category == "spot"
        ends = yield from self._each(scope, partial(self._cancel, scope), by_filter=spot)
        parts: list[Part] = []
        for end in ends:
            if isinstance(end, errors.MassCancelError):
                parts.append(Part([end], ["orders settled in other coins"]))
            else:
                parts += end
        ack = toolkit.join(scope, parts)
        answers = [each for part in parts for each in part.results if isinstance(each, Accepted)]
        return tell(ack, answers)

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """``GET /v5/order/realtime``, to the last page, and once per settle coin of linear.

        Books that are asked for by name are listed by the filter by which they are cancelled.
        """
        listings = yield from self._each(scope, partial(self._list, scope), by_filter=False)
        orders = chain.from_iterable(toolkit.every(listings))
        return list({order.order_id: order for order in orders}.values())

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """``GET /v5/order/realtime`` by id, and ``/v5/order/history`` for what that has forgotten.

        A few orders together; the first of them only, if there are very many.
        """
        self.ability(account_category)
        return (yield from toolkit.states_of(orders, partial(self._state, account_category)))

    def key_info(self, categories: Sequence[str]) -> Flow[KeyInfo]:
        """``GET /v5/user/query-api``: what the key may do. USDC contracts go by that of options."""
        for category in categories:
            self.ability(category)
        decode = partial(decode_key, categories=tuple(categories))
        call: Call[KeyInfo] = self._get("/v5/user/query-api", {}, decode)
        return (yield from toolkit.ask(call))

    def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
        """``POST /v5/order/cancel`` of a client's id: "Order does not exist" to a key that may."""
        self.ability(account_category)
        order = {"category": account_category, "symbol": _LISTED[account_category]}
        call: Call[Permission] = Call(
            method="POST",
            origin=self.rest_url,
            path="/v5/order/cancel",
            body=msgspec.json.encode({**order, "orderLinkId": token}),
            sign=partial(sign, recv_window_ms=self.recv_window_ms),
            decode=decode_tried,
            cancels=False,
            costs={"requests": 1},
        )
        return (yield from toolkit.ask(call))

    def _each(
        self,
        scope: Scope,
        act: Callable[[Mapping[str, str]], Flow[list[T]]],
        *,
        by_filter: bool,
    ) -> Flow[Sequence[list[T] | errors.MassCancelError]]:
        """Act on the books, settle coins or symbol of a scope, side by side.

        Args:
            scope: the scope.
            act: takes what its calls ask for beside the category.
            by_filter: whether every book needs a call of its own, even where all are meant.
        """
        filters = SPOT_FILTERS if scope.account_category == "spot" else FUTURES_FILTERS
        words = [word for book, word in filters.items() if book in (scope.books or filters)]
        narrowed: list[dict[str, str]] = [{"orderFilter": word} for word in words]
        if len(words) == len(filters) and not by_filter:
            narrowed = [{}]

        def in_coins(coins: Iterable[str]) -> list[Flow[list[T]]]:
            return [act({"settleCoin": coin, **each}) for each in narrowed for coin in coins]

        def in_others() -> Flow[list[T]]:
            coins = yield from self._look_up()
            others = [coin for coin in coins if coin not in _SETTLE_COINS]
            return [*chain.from_iterable(toolkit.every((yield in_coins(others))))]

        if scope.symbol is not None:
            flows = [act({"symbol": scope.symbol, **each}) for each in narrowed]
        elif scope.account_category != "linear":
            flows = [act(each) for each in narrowed]
        elif self.settle_coins is None:
            flows = [*in_coins(_SETTLE_COINS), in_others()]
        else:
            flows = in_coins(dict.fromkeys((*_SETTLE_COINS, *self.settle_coins)))
        return (yield flows)

    def _look_up(self) -> Flow[tuple[str, ...]]:
        """Look up what linear is settled in, as far as it can be had soon."""
        coins = yield from toolkit.every_page(self._instruments)
        if not coins:
            raise errors.ProtocolError("the list of instruments names no settle coin")
        return tuple(dict.fromkeys(coins))

    def _cancel(self, scope: Scope, fields: Mapping[str, str]) -> Flow[list[Part]]:
        """Cancel, again and again while an answer may be about a part of the orders alone."""
        if scope.account_category == "inverse" and "symbol" not in fields:
            return (yield from self._cancel_listed(scope, fields))
        category = scope.account_category
        call: Call[Accepted] = Call(
            method="POST",
            origin=self.rest_url,
            path="/v5/order/cancel-all",
            body=msgspec.json.encode({"category": category, **fields}),
            sign=partial(sign, recv_window_ms=self.recv_window_ms),
            decode=partial(decode_cancelled, capped=category in ("linear", "inverse")),
            cancels=True,
            max_reply=LISTING,
            costs={"requests": 1, _CANCELS[category]: 1},
        )
        name = " ".join(fields.values()) or category
        answers: list[Accepted] = []
        seen: set[str] = set()
        while True:
            (result,) = yield [call]
            if not isinstance(result, Accepted):
                beyond = f" beyond the {len(seen)} that were named" if answers else ""
                return [Part([*answers, result], [f"{name}{beyond}"])]
            answers.append(result)
            if seen.issuperset(result.ids) or len(answers) == _ROUNDS or not result.more:
                # Only what the last answer leaves open is open.
                replies = [msgspec.structs.replace(each, more=False) for each in answers[:-1]]
                return [Part([*replies, result])]
            seen.update(result.ids)

    def _cancel_listed(self, scope: Scope, fields: Mapping[str, str]) -> Flow[list[Part]]:
        """List, and cancel the symbols that are listed.

        A cursor names an order, which may be cancelled before the next page is asked for. So what
        has a full page is listed again, until no other symbol is found.
        """
        seen: set[str] = set()
        sizes: list[int] = []

        def cancel(page: Page[str]) -> Flow[Part]:
            sizes.append(len(page.rows))
            new = [symbol for symbol in dict.fromkeys(page.rows) if symbol not in seen]
            seen.update(new)
            if not new:
                return Part([Accepted(raw=page.raw, status=NOTHING_OPEN)])
            flows = [self._cancel(scope, {"symbol": symbol, **fields}) for symbol in new]
            parts: Sequence[list[Part]] = toolkit.every((yield flows))
            results = [result for (part,) in parts for result in part.results]
            return Part(results, [name for (part,) in parts for name in part.left])

        listing = partial(self._page, scope, fields, partial(decode_symbols, category="inverse"))
        parts: list[Part] = []
        while True:
            before = len(seen)
            sizes.clear()
            parts += yield from toolkit.act_on_pages(listing, cancel)
            if len(seen) == before or max(sizes, default=0) < PAGE:
                return parts

    def _list(self, scope: Scope, fields: Mapping[str, str]) -> Flow[list[OpenOrder]]:
        decode = partial(decode_page, scope=scope, word=fields.get("orderFilter"))
        return (yield from toolkit.every_page(partial(self._page, scope, fields, decode)))

    def _state(
        self, account_category: str, order: OpenOrder | OrderUpdate
    ) -> Flow[OrderState | None]:
        fields = {"category": account_category, "symbol": order.symbol, "orderId": order.order_id}
        decode = partial(decode_state, order_id=order.order_id)
        state: OrderState | None = None
        for path in ("/v5/order/realtime", "/v5/order/history"):
            state = yield from toolkit.ask(self._get(path, fields, decode))
            if state is not None:
                break
        return state

    def _page(
        self, scope: Scope, fields: Mapping[str, str], decode: Any, cursor: str
    ) -> Call[Page[Any]]:
        asked = {"category": scope.account_category, **fields, "limit": str(PAGE)}
        asked |= {"cursor": cursor} if cursor else {}
        return self._get("/v5/order/realtime", asked, decode)

    def _instruments(self, cursor: str) -> Call[Page[str]]:
        asked = {"category": "linear", "limit": "1000"} | ({"cursor": cursor} if cursor else {})
        return Call(
            method="GET",
            origin=self.rest_url,
            path=f"/v5/market/instruments-info?{urlencode(asked)}",
            sign=toolkit.unsigned,
            decode=decode_coins,
            cancels=False,
            max_reply=LISTING,
            time_limit=_PATIENCE,
            costs={"requests": 1},
        )

    def _get(self, path: str, fields: Mapping[str, str], decode: Any) -> Call[Any]:
        query = urlencode(fields, quote_via=quote, safe="")
        costs = {"requests": 1, _LISTINGS: 1} if path.startswith("/v5/order/") else {"requests": 1}
        return Call(
            method="GET",
            origin=self.rest_url,
            path=path,
            sign=partial(sign, query=query, recv_window_ms=self.recv_window_ms),
            decode=decode,
            cancels=False,
            max_reply=LISTING,
            costs=costs,
        )


def signature(secret: str, text: bytes) -> str:
    """Hex of HMAC-SHA256 over time, key, window, and the query or the body as they are sent."""
    return digest(secret.encode(), text, "sha256").hex()


def sign(
    call: Call[Any],
    credentials: Credentials,
    stamp: Stamp,
    *,
    query: str = "",
    recv_window_ms: int,
) -> Request:
    """Sign a call ("Integration Guidance").

    Args:
        call: the call.
        credentials: whose key and secret.
        stamp: the time.
        query: the call's parameters, percent-encoded, in the order in which they are sent.
        recv_window_ms: how long the request is good for.
    """
    before = f"{stamp.time_ms}{credentials.api_key}{recv_window_ms}{query}".encode()
    headers = {
        "X-BAPI-API-KEY": credentials.api_key,
        "X-BAPI-TIMESTAMP": str(stamp.time_ms),
        "X-BAPI-RECV-WINDOW": str(recv_window_ms),
        "X-BAPI-SIGN": signature(credentials.api_secret, before + call.body),
    }
    if call.body:
        headers["Content-Type"] = "application/json"
    target = f"{call.path}?{query}" if query else call.path
    expires_at_ms = stamp.time_ms + recv_window_ms + 1  # "server_time - recv_window <= timestamp"
    return Request(call.method, target, headers, call.body, expires_at_ms)
