"""What the tests of Kraken share: samples, keys, and a flow that is played without a socket."""

import json
from base64 import b64encode
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from flows_support import Part, value_of
from masscancel import Client, Credentials, MassCancelError, OpenOrder
from masscancel.calls import Call, Flow, Reply, Request, Scope, Stamp
from masscancel.sim import Account, SimulatedExchange
from masscancel.sim.kraken import KrakenDialect
from masscancel.venues.kraken import Kraken

DATA = Path(__file__).parent.parent / "data" / "kraken"
CCXT = json.loads((DATA / "ccxt_requests.json").read_bytes())
NOW = 1616492376594
STAMP = Stamp(NOW, nonce=NOW)
SECRET = CCXT["secret_b64"]
KEYS = Credentials("key", SECRET)
VENUE = Kraken()
BTC = "XBTUSD"
PERP = "PF_XBTUSD"
IDS = ["OQCLML-BW3P3-BUCMWZ", "OB5VMB-B4U2U-DK2WRW"]


def sample(name: str) -> bytes:
    """A reply of the documents."""
    return (DATA / f"{name}.json").read_bytes()


def reply(value: Any, status: int = 200, **headers: str) -> Reply:
    """A reply with that JSON, or those bytes."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Reply(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def result(value: Any) -> dict[str, Any]:
    """A successful reply of spot."""
    return {"error": [], "result": value}


def order(pair: str = BTC, **descr: str) -> dict[str, Any]:
    """A row of spot's listing."""
    about = {"pair": pair, "type": "buy", "ordertype": "limit", "price": "1", "price2": "0"}
    return {"status": "open", "descr": about | descr, "vol": "2", "vol_exec": "0.5"}


def listing(*pairs: str) -> dict[str, Any]:
    """A listing of spot with an order of each pair, ids O0, O1 and so on."""
    return result({"open": {f"O{n}": order(pair) for n, pair in enumerate(pairs)}})


def decoded(call: Call[Any], answer: Reply) -> Any:
    """A call's value, or its error."""
    try:
        return value_of(call, answer, STAMP)
    except MassCancelError as error:
        return error


def signed(call: Call[Any], stamp: Stamp = STAMP) -> Request:
    """The request that a call becomes."""
    return call.sign(call, KEYS, stamp)


def asked(call: Call[Any]) -> str:
    """What a call asks for, in short: its path's last part, its query and body, no nonce."""
    request = signed(call)
    body = request.body.replace(b"nonce=%d" % NOW, b"").replace(b'"nonce":"%d",' % NOW, b"")
    return f"{request.target.rpartition('/')[2]} {body.decode().lstrip('&')}".strip()


class Talk:
    """A flow that is answered by hand; remembers what it asked, round by round.

    The flow's error is raised by what leads to it.
    """

    def __init__(self, flow: Flow[Any]) -> None:
        self.root = Part(flow)
        self.rounds: list[list[str]] = []
        self._note()

    @property
    def value(self) -> Any:
        """The flow's value; ``None`` while it goes on."""
        return self.root.value

    def answer(self, *answers: Any) -> "Talk":
        """Answer the calls of one round: with JSON, bytes, a reply, or an error as it is."""
        for part, answer in zip(self.root.calls(), answers, strict=True):
            part.end(result_of(part.part, answer))
        self.root.settle()
        self._note()
        return self

    def _note(self) -> None:
        if isinstance(self.root.value, MassCancelError):
            raise self.root.value
        if not self.root.done:
            self.rounds.append([asked(part.part) for part in self.root.calls()])


def result_of(call: Call[Any], answer: Any) -> Any:
    """What a call comes to with JSON, bytes, a reply, or an error as it is."""
    if isinstance(answer, MassCancelError):
        return answer
    return decoded(call, answer if isinstance(answer, Reply) else reply(answer))


def checked(category: str, symbol: str | None) -> Scope:
    """A scope that the venue has accepted, as it is before every flow."""
    scope = Scope(category, symbol)
    VENUE.check_scope(scope)
    return scope


def cancel(category: str = "spot", symbol: str | None = None, *, venue: Kraken = VENUE) -> Talk:
    """A cancel-all that has begun."""
    return Talk(venue.cancel_all(checked(category, symbol), None))


def listed(category: str = "spot", symbol: str | None = None, *, venue: Kraken = VENUE) -> Talk:
    """A listing that has begun."""
    return Talk(venue.open_orders(checked(category, symbol)))


def orders_of(*ids: str) -> list[OpenOrder]:
    """Orders with these ids."""
    return [
        OpenOrder(
            order_id=order_id,
            symbol=BTC,
            side="buy",
            price=Decimal(1),
            quantity=Decimal(1),
            filled_quantity=Decimal(0),
            order_type="limit",
            status="open",
        )
        for order_id in ids
    ]


def outcome(what: str, category: str, about: Any, answers: Iterable[Reply]) -> Any:
    """What a flow comes to when each of its calls gets the next answer."""
    flow: Flow[Any]
    if what == "cancel_all":
        flow = VENUE.cancel_all(Scope(category, about), None)
    elif what == "open_orders":
        flow = VENUE.open_orders(Scope(category, about))
    elif what == "states":
        flow = VENUE.order_states(category, orders_of("A", "B"))
    else:
        flow = VENUE.switch(Scope(category, None), about)
    root, left = Part(flow), iter(answers)
    while calls := root.calls():
        for part in calls:
            part.end(decoded(part.part, next(left)))
        root.settle()
    return root.value


def dialect_of(exchange: SimulatedExchange) -> KrakenDialect:
    """What the exchange speaks."""
    assert isinstance(exchange.dialect, KrakenDialect)
    return exchange.dialect


def account_of(exchange: SimulatedExchange, name: str, **options: Any) -> Account:
    """An account with orders of two pairs and two contracts, as far as it has the category."""
    secret = b64encode(f"the secret of {name}".encode()).decode()
    account = exchange.add_account(f"key-of-{name}", secret, **options)
    for category, symbols in {"spot": (BTC, "ETHUSD"), "futures": (PERP, "PF_ETHUSD")}.items():
        for symbol in symbols * (category in account.ids):
            exchange.place(account, category, symbol)
            exchange.place(account, category, symbol, order_type="stop-loss")
    return account


def client_of(
    exchange: SimulatedExchange, account: Account, kind: type[Kraken] = Kraken, **options: Any
) -> Client[Kraken]:
    """A client of the account, not entered yet, that need not wait for public requests."""
    settings: dict[str, Any] = {"futures_url": exchange.rest_url}
    settings |= {key: options.pop(key) for key in ("nonce_unit", "futures_url") if key in options}
    venue = kind(spot_url=exchange.rest_url, **settings)
    limited = {limit.name for limit in venue.limits(venue.spot_url)}
    rates = {"public": 1_000} if "public" in limited else {}
    credentials = Credentials(account.api_key, account.api_secret)
    return Client(credentials, venue=venue, **{"rates": rates, **options})
