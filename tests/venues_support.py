"""Every venue in every account category, described as data, for the tests of every venue."""

import re
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import structs

from masscancel import (
    Ack,
    AscendEX,
    Client,
    Credentials,
    OpenOrder,
    SessionPool,
    Target,
)
from masscancel.calls import Call, Flow, Probe, Request, Scope
from masscancel.sim import (
    Account,
    AscendEXDialect,
    BinanceDialect,
    BitgetDialect,
    BybitDialect,
    Dialect,
    Engine,
    GateDialect,
    KrakenDialect,
    KuCoinDialect,
    OKXDialect,
    Order,
    Received,
    Route,
    Script,
    SimulatedExchange,
    StreamRoute,
)
from masscancel.sim import Reply as SimReply
from masscancel.sim import Request as SimRequest
from masscancel.sim.dialect import Handler, json_reply
from masscancel.venues import OKX, Binance, Bitget, Bybit, Gate, Kraken, KuCoin
from masscancel.venues.base import Abilities, Symbols, Venue
from masscancel.venues.toolkit import ask

T = TypeVar("T")

KEY: Final = "a-key-of-the-tests"
#: Of Base64, since one venue's are; the others take it as it is.
SECRET: Final = b64encode(b"a-secret-of-the-tests-that-is-long").decode()
OTHER_SECRET: Final = b64encode(b"another-secret-that-nobody-has-got").decode()
#: For the venues whose keys have one; the others do not look at it.
PASSPHRASE: Final = "a-phrase-of-the-tests"
SETTLE: Final = 0.02


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """A venue and one of its account categories.

    `orders` are the types of order to fill a book with. `acting` are the operations that cancel, of
    everything and of one symbol; where one of them lists first, it is in `lists_first`.
    `stamped` says whether its requests carry a time or a nonce, which tells moments apart that are
    `tick_ms` from each other. Orders of the types `apart` are in
    a book of their own, which the venue's own dead man's switch may not reach; their ids have a
    prefix, ``algo:`` where ``prefixes`` has no other.
    """

    name: str
    category: str
    symbols: tuple[str, str]
    unknown: str
    dialect: Callable[[], Dialect]
    venue: Callable[[SimulatedExchange, Account], Venue]
    refusal: Callable[[str], Any]
    orders: Sequence[str] = ("limit", "stop")
    acting: tuple[str, ...] = ("cancel-all",)
    lists_first: tuple[str, ...] = ()
    stamped: bool = True
    tick_ms: int = 400
    apart: tuple[str, ...] = ()
    prefixes: Mapping[str, str] = {}

    def __str__(self) -> str:
        return f"{self.name}-{self.category}"

    @property
    def abilities(self) -> Abilities:
        """What the venue says that it can do here."""
        return KINDS[self.name].abilities[self.category]


KINDS: Final[dict[str, type[Venue]]] = {
    "ascendex": AscendEX,
    "binance": Binance,
    "bitget": Bitget,
    "bybit": Bybit,
    "gate": Gate,
    "kraken": Kraken,
    "kucoin": KuCoin,
    "okx": OKX,
}


def _ascendex(category: str, *symbols: str) -> Market:
    return Market(
        name="ascendex",
        category=category,
        symbols=(symbols[0], symbols[1]),
        unknown=symbols[2],
        dialect=lambda: AscendEXDialect(symbols=["BTC/USDT", "ETH/USDT", "BTC-PERP", "ETH-PERP"]),
        venue=lambda exchange, account: AscendEX(
            rest_url=exchange.rest_url,
            stream_url=exchange.stream_url,
            account_group=account.group,
        ),
        refusal=lambda text: {"code": 100002, "reason": text, "message": text},
    )


def _binance(category: str, *orders: str, **more: Any) -> Market:
    return Market(
        name="binance",
        category=category,
        symbols=("BTCUSDT", "ETHUSDT"),
        unknown="XBTUSD",
        dialect=lambda: BinanceDialect(symbols=["BTCUSDT", "ETHUSDT"]),
        venue=lambda exchange, _: Binance(spot_url=exchange.rest_url, usdm_url=exchange.rest_url),
        refusal=lambda text: {"code": -10_000, "msg": text},
        orders=orders,
        lists_first=("whole",),
        **more,
    )


def _bitget(category: str, *orders: str, unified: bool = False, **more: Any) -> Market:
    return Market(
        name="bitget",
        category=category,
        symbols=("BTCUSDT", "ETHUSDT"),
        unknown="XBTUSD",
        dialect=lambda: BitgetDialect(unified=unified, symbols=["BTCUSDT", "ETHUSDT"]),
        venue=lambda exchange, _: Bitget(rest_url=exchange.rest_url, unified=unified),
        refusal=lambda text: {"code": "99999", "msg": text},
        orders=orders,
        **more,
    )


def _bybit(category: str, *symbols: str, orders: Sequence[str], **more: Any) -> Market:
    return Market(
        name="bybit",
        category=category,
        symbols=(symbols[0], symbols[1]),
        unknown=symbols[2],
        dialect=lambda: BybitDialect(symbols=symbols[:2]),
        venue=lambda exchange, _: Bybit(rest_url=exchange.rest_url, stream_url=exchange.stream_url),
        refusal=lambda text: {"retCode": 1, "retMsg": text, "result": {}},
        orders=orders,
        **more,
    )


def _gate(category: str, *symbols: str, apart: Sequence[str]) -> Market:
    return Market(
        name="gate",
        category=category,
        symbols=(symbols[0], symbols[1]),
        unknown=symbols[2],
        dialect=lambda: GateDialect(symbols=[*symbols[:2]]),
        venue=lambda exchange, _: Gate(
            rest_url=exchange.rest_url, stream_url=exchange.stream_url, unified=False
        ),
        refusal=lambda text: {"label": "FUNNY", "message": text},
        orders=("limit", *apart),
        tick_ms=1_000,
        apart=(*apart,),
        prefixes={"margin_stop": "stop:"}
        | {name: f"{name}:" for name in apart if name != "margin_stop"},
    )


def _kraken(category: str, *symbols: str, refusal: Callable[[str], Any], **more: Any) -> Market:
    return Market(
        name="kraken",
        category=category,
        symbols=(symbols[0], symbols[1]),
        unknown=symbols[2],
        dialect=KrakenDialect,
        venue=lambda exchange, _: Kraken(spot_url=exchange.rest_url, futures_url=exchange.rest_url),
        refusal=refusal,
        **more,
    )


def _kucoin(category: str, *symbols: str) -> Market:
    known = ["BTC-USDT", "ETH-USDT", "XBTUSDTM", "ETHUSDTM"]
    return Market(
        name="kucoin",
        category=category,
        symbols=(symbols[0], symbols[1]),
        unknown=symbols[2],
        dialect=lambda: KuCoinDialect(symbols=known),
        venue=lambda exchange, _: KuCoin(spot_url=exchange.rest_url, futures_url=exchange.rest_url),
        refusal=lambda text: {"code": "999999", "msg": text},
        apart=("stop",),
        prefixes={"stop": ""},
    )


def _okx(category: str, *symbols: str, **more: Any) -> Market:
    return Market(
        name="okx",
        category=category,
        symbols=(symbols[0], symbols[1]),
        unknown=symbols[2],
        dialect=lambda: OKXDialect(symbols=symbols[:2], spreads=False),
        venue=lambda exchange, _: OKX(rest_url=exchange.rest_url, stream_url=exchange.stream_url),
        refusal=lambda text: {"code": "59999", "msg": text, "data": []},
        # Spreads, which the account has, are cancelled without a listing.
        lists_first=("one",) if category == "account" else ("whole", "one"),
        **{"orders": ("limit", "conditional"), "apart": ("conditional",), **more},
    )


MARKETS: Final = (
    _ascendex("cash", "BTC/USDT", "ETH/USDT", "XBT/USD"),
    _ascendex("margin", "BTC/USDT", "ETH/USDT", "XBT/USD"),
    _ascendex("futures", "BTC-PERP", "ETH-PERP", "XBT-PERP"),
    _binance("spot", "limit", "stop_loss_limit"),
    _binance("usdm", "limit", "stop_market", apart=("stop_market",)),
    _bitget("spot", "limit", "tpsl", "plan"),
    _bitget("margin", "limit", "isolated", lists_first=("whole", "one")),
    _bitget("usdt-futures", "limit", "normal_plan", "pos_loss", "track_plan"),
    _bitget("coin-futures", "limit", "moving_plan"),
    _bitget("usdc-futures", "limit", "loss_plan"),
    _bitget("spot", "limit", "trigger", unified=True),
    _bitget("usdt-futures", "limit", "trigger", unified=True),
    _bybit(
        "spot",
        *("BTCUSDT", "ETHUSDT", "XBTUSD"),
        orders=("limit", "stop", "tpsl", "oco", "bidirectional"),
    ),
    _bybit("linear", "BTCUSDT", "ETHPERP", "XBTUSD", orders=("limit", "stop")),
    _bybit(
        "inverse",
        *("BTCUSD", "ETHUSDZ25", "XBTUSD"),
        orders=("limit", "stop"),
        lists_first=("whole",),
    ),
    _bybit(
        "option",
        *("BTC-26DEC25-100000-C", "ETH-26DEC25-3000-P-USDT", "BTC-26DEC25-1-C"),
        orders=("limit", "stop"),
    ),
    _gate("spot", "BTC_USDT", "ETH_USDT", "XBT_USD", apart=("stop", "margin_stop", "pov")),
    _gate("usdt", "BTC_USDT", "ETH_USDT", "XBT_USDT", apart=("stop", "trail", "chase")),
    _gate("btc", "BTC_USD", "ETH_USD", "XBT_USD", apart=("stop", "trail", "chase")),
    _gate(
        "options",
        "BTC_USDT-20261225-100000-C",
        "ETH_USDT-20261225-2500.5-P",
        "XBT_USDT-20261225-100000-C",
        apart=(),
    ),
    _kraken(
        "spot",
        "XBTUSD",
        "ETHUSD",
        "BTC/USD",
        refusal=lambda text: {"error": [f"EFunny:{text}"]},
        orders=("limit", "stop-loss"),
        acting=("cancel-all", "cancel-batch", "cancel-order"),
        lists_first=("one",),
    ),
    _kraken(
        "futures",
        "PF_XBTUSD",
        "PF_ETHUSD",
        "PF_BTCUSD",
        refusal=lambda text: {"result": "error", "error": text},
        stamped=False,
    ),
    _kucoin("spot", "BTC-USDT", "ETH-USDT", "XBT-USDT"),
    _kucoin("margin", "BTC-USDT", "ETH-USDT", "XBT-USDT"),
    _kucoin("isolated", "BTC-USDT", "ETH-USDT", "XBT-USDT"),
    _kucoin("futures", "XBTUSDTM", "ETHUSDTM", "BTCUSDTM"),
    _okx(
        "account",
        *("BTC-USDT", "ETH-USDT-SWAP", "XBT-USDT"),
        orders=("limit", "trigger", "twap"),
        apart=("trigger", "twap"),
    ),
    _okx("spot", "BTC-USDT", "ETH-USDT", "XBT-USDT"),
    _okx("margin", "BTC-USDT", "ETH-USDT", "XBT-USDT"),
    _okx("swap", "BTC-USDT-SWAP", "ETH-USD_UM-SWAP", "XBT-USDT-SWAP"),
    _okx("futures", "BTC-USDT-261225", "ETH-USD-261225", "XBT-USDT-261225"),
    _okx(
        "option",
        *("BTC-USD-261225-60000-C", "ETH-USD-261225-1200.5-P", "XBT-USD-261225-60000-C"),
        orders=("limit", "conditional"),
    ),
)


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """A client of an account in a market, and the exchange that is the judge."""

    market: Market
    exchange: SimulatedExchange
    account: Account
    client: Client[Any]
    pool: SessionPool

    @property
    def category(self) -> str:
        """The account category."""
        return self.market.category

    def target(self, symbol: str | None = None) -> Target:
        """A target of it."""
        return Target(self.client, self.category, symbol)

    def open(self, symbol: str | None = None) -> list[Order]:
        """What is open in the category, in truth."""
        return self.exchange.open_orders(self.account, self.category, symbol)

    def place(self, symbol: str, script: Script | None = None, *, order_type: str = "") -> Order:
        """Put an order into the book."""
        return self.exchange.place(
            self.account,
            self.category,
            symbol,
            order_type=order_type or self.market.orders[0],
            script=script,
        )

    def signed(self) -> list[Received]:
        """The requests that carry a key."""
        return [request for request in self.exchange.requests if request.api_key]

    def acting(self) -> list[Received]:
        """Those that cancel."""
        return self.exchange.operations(*self.market.acting)

    def fault(self, action: Any, *, acting: bool = True, **options: Any) -> None:
        """Add a fault to whatever cancels, or else to the listing."""
        for operation in self.market.acting if acting else ("open-orders",):
            self.exchange.faults.add(action, operation=operation, **options)

    def id_of(self, order: Order) -> str:
        """The id by which the client knows an order."""
        if order.order_type not in self.market.apart:
            return order.order_id
        return f"{self.market.prefixes.get(order.order_type, 'algo:')}{order.order_id}"


class Ledger:
    """All that is open anywhere at an exchange, to be compared before and after."""

    def __init__(self, exchange: SimulatedExchange) -> None:
        exchange.advance()
        self.orders = {
            order.order_id: order for order in exchange.engine.orders() if order.status.is_open
        }

    def __sub__(self, later: "Ledger") -> set[str]:
        """The ids of what is open no more."""
        return self.orders.keys() - later.orders.keys()


def fill(exchange: SimulatedExchange, account: Account, market: Market) -> None:
    """Fill an account: in its category both symbols with each type of order; something elsewhere.

    What is elsewhere, in the account's other categories, is nobody's business here. One that
    contains the other has the same orders, and gets none.
    """
    kinds = KINDS[market.name].abilities
    for symbol in market.symbols:
        for order_type in market.orders:
            exchange.place(account, market.category, symbol, order_type=order_type)
    for category in exchange.dialect.categories:
        same = {market.category, *kinds[market.category].contains}
        if category not in same and market.category not in kinds[category].contains:
            exchange.place(account, category, market.symbols[0])


def unlimited(venue: Venue) -> dict[str, float]:
    """Rates without end: tests do in a second what a strategy does in an hour."""
    origins = {venue.origin(category) for category in venue.abilities}
    return {limit.name: 1e9 for origin in origins for limit in venue.limits(origin)}


@asynccontextmanager
async def desk_of(
    market: Market,
    *,
    secret: str = SECRET,
    dialect: Dialect | None = None,
    empty: bool = False,
    options: dict[str, Any] | None = None,
    **exchange_options: Any,
) -> AsyncIterator[Desk]:
    """An entered client of a filled account, at an exchange of its own; a stranger's is filled too.

    Its connections are opened when they are needed, so that a test sees every request.
    """
    async with AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(
            SimulatedExchange(dialect or market.dialect(), **exchange_options)
        )
        account = exchange.add_account(KEY, SECRET, group=6, extra={"passphrase": PASSPHRASE})
        stranger = exchange.add_account("somebody-else", OTHER_SECRET, group=7)
        for each in (stranger,) if empty else (stranger, account):
            fill(exchange, each, market)
        pool = await stack.enter_async_context(SessionPool(warm=0))
        venue = market.venue(exchange, account)
        client = Client(
            Credentials(KEY, secret, passphrase=PASSPHRASE, label=f"{market}"),
            venue=venue,
            pool=pool,
            categories=[market.category],
            **{"rates": unlimited(venue), **(options or {})},
        )
        await stack.enter_async_context(client)
        yield Desk(market=market, exchange=exchange, account=account, client=client, pool=pool)


def signatures(request: Received) -> set[str]:
    """What in a request is as long as a signature: in its headers, its query or its form."""
    query = request.raw_path.partition("?")[2]
    fields = [*request.headers, *parse_qsl(query), *parse_qsl(request.body.decode("latin-1"))]
    return {value for _, value in fields if len(value) >= 40 and " " not in value}


# --- one more venue, on trial: all it takes ---------------------------------------------------


class Trial(Venue, frozen=True, kw_only=True):
    """A venue as small as they come: one category, no stream, no switch."""

    name: ClassVar[str] = "trial"
    title: ClassVar[str] = "Trial"
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "main": Abilities(
            symbols=Symbols(re.compile("[A-Za-z0-9]+"), "BTC"),
            whole_account="one call",
            one_symbol="one call",
            ack="count",
        )
    }

    rest_url: str

    def origin(self, account_category: str) -> str:
        """One origin serves it."""
        self.ability(account_category)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /time``."""
        return Probe(origin=origin, path="/time", decode=lambda reply: int(reply.body))

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """``DELETE /orders``."""
        count = yield from ask(self._call("DELETE", scope, int))
        return Ack(
            account_category=scope.account_category,
            symbol=scope.symbol or "",
            status=f"{count} gone",
        )

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """``GET /orders``."""
        return (yield from ask(self._call("GET", scope, _rows)))

    def _call(self, method: str, scope: Scope, decode: Callable[[bytes], T]) -> Call[T]:
        return Call(
            method=method,
            origin=self.rest_url,
            path=f"/orders?symbol={scope.symbol or ''}",
            sign=lambda call, keys, _: Request(call.method, call.path, {"key": keys.api_key}),
            decode=lambda reply, _: decode(reply.body),
            cancels=method == "DELETE",
        )


def _rows(body: bytes) -> list[OpenOrder]:
    return msgspec.json.decode(body, type=list[OpenOrder])


class ThreeRequests(ABC):
    """The other side of a venue of three requests; the key stands in a header."""

    key_header: ClassVar[str]

    def routes(self) -> list[Route]:
        """Understand three requests."""
        return [
            Route("GET", "/time", "clock", self._time),
            Route("DELETE", "/orders", "cancel-all", self._cancel),
            Route("GET", "/orders", "open-orders", self._list),
        ]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer no websocket."""
        return []

    def api_key(self, request: SimRequest) -> str:
        """Tell the key."""
        return request.headers.get(self.key_header, "")

    def unknown(self, _request: SimRequest) -> SimReply:
        """Answer 404."""
        return SimReply(404)

    def order_id(self, _rng: Random, serial: int) -> str:
        """Count."""
        return f"t{serial}"

    @abstractmethod
    def _time(self, engine: Engine, request: SimRequest) -> SimReply: ...

    @abstractmethod
    def _cancel(self, engine: Engine, request: SimRequest) -> SimReply: ...

    @abstractmethod
    def _list(self, engine: Engine, request: SimRequest) -> SimReply: ...


class TrialDialect(ThreeRequests):
    """The same venue, from the other side."""

    name: Final = "trial"
    categories: Final[Mapping[str, str]] = {"main": "t-"}
    key_header = "key"

    def _time(self, engine: Engine, request: SimRequest) -> SimReply:
        return SimReply(200, str(request.moment.venue_ms).encode())

    def _cancel(self, engine: Engine, request: SimRequest) -> SimReply:
        account, symbol = engine.accounts[request.api_key], request.query["symbol"] or None
        cancel = engine.cancel_all(account, "main", symbol, now_ms=request.moment.now_ms)
        return SimReply(200, str(len(cancel.order_ids)).encode())

    def _list(self, engine: Engine, request: SimRequest) -> SimReply:
        account, symbol = engine.accounts[request.api_key], request.query["symbol"] or None
        names = [name for name in OpenOrder.__struct_fields__ if hasattr(Order, name)]
        return json_reply(
            [
                {name: getattr(order, name) for name in names}
                for order in engine.open_orders(account, "main", symbol)
            ]
        )


# --- a venue that repeats, in its error, all that it was told -------------------------------------


class Echo:
    """A market's dialect that refuses every signed request and quotes it in full.

    So many dots stand before the key, so that whatever is cut off is cut within it.
    """

    def __init__(self, market: Market, before_the_key: int) -> None:
        self._market = market
        self._before_the_key = before_the_key
        self._dialect = market.dialect()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def routes(self) -> list[Route]:
        """The same, and the same answer to all that carry a key."""
        return [
            structs.replace(route, handler=self._over(route)) for route in self._dialect.routes()
        ]

    def _over(self, route: Route) -> Handler:
        def answer(engine: Engine, request: SimRequest) -> SimReply:
            if not request.api_key:
                return route.handler(engine, request)
            told = [*(f"{name}={value}" for name, value in request.headers.items())]
            body = request.body.decode("latin-1")
            dots = "." * self._before_the_key
            text = f"no {dots}{request.api_key} {request.raw_path} {' '.join(told)} {body}"
            return json_reply(self._market.refusal(text), 400)

        return answer
