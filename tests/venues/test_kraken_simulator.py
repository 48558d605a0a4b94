"""Kraken's flows against the simulated exchange's engine, without a socket."""

import json
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows_support import Part
from kraken_support import BTC, KEYS, NOW, PERP, SECRET, VENUE, decoded, orders_of
from masscancel import Ack, MassCancelError, ScopeError
from masscancel.calls import Call, Flow, Reply, Request, Scope, Stamp
from masscancel.sim.dialect import Moment, Router
from masscancel.sim.dialect import Request as SimRequest
from masscancel.sim.engine import Engine
from masscancel.sim.kraken import PAIRS, KrakenDialect
from masscancel.venues.kraken import futures, spot


class Floor:
    """A simulated Kraken that is driven by hand: calls are signed, routed and decoded."""

    def __init__(self, **options: Any) -> None:
        self.dialect = KrakenDialect(**options)
        self.engine = Engine(new_order_id=self.dialect.order_id)
        self.account = self.engine.add_account("key", SECRET, categories=self.dialect.categories)
        self.now_ms = NOW
        self.paths: list[str] = []
        self._router = Router(self.dialect.routes(), ())
        self._nonce = NOW

    def place(self, category: str, symbol: str, count: int = 1) -> list[str]:
        """Put orders into the book, acknowledged; returns their ids."""
        ids = [
            self.engine.place(
                self.account,
                category,
                symbol,
                side="buy",
                price=Decimal(1),
                quantity=Decimal(1),
                now_ms=self.now_ms,
            ).order_id
            for _ in range(count)
        ]
        self.engine.advance(self.now_ms)
        return ids

    def book(self, category: str = "spot") -> list[str]:
        """The symbols of what is open, one for each order."""
        self.engine.advance(self.now_ms)
        return [order.symbol for order in self.engine.open_orders(self.account, category)]

    def perform(self, call: Call[Any]) -> Any:
        """Carry a call out; its value, or its error."""
        self._nonce += 1
        request = call.sign(call, KEYS, Stamp(self.now_ms, nonce=self._nonce))
        self.paths.append(request.target.partition("?")[0])
        return decoded(call, self.handle(request))

    def handle(self, request: Request) -> Reply:
        """Answer a request, as the server does: what has fallen due comes first."""
        self.engine.advance(self.now_ms)
        raw = SimRequest(
            method=request.method,
            raw_path=request.target,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=request.body,
            moment=Moment(now_ms=self.now_ms),
        )
        if found := self._router.route(raw.method, raw.path):
            raw = msgspec.structs.replace(raw, params=found[1])
            answer = found[0].handler(self.engine, raw)
        else:
            answer = self.dialect.unknown(raw)
        return Reply(answer.status, dict(answer.headers), answer.body)

    def run(self, flow: Flow[Any]) -> Any:
        """Take a flow to its end."""
        root = Part(flow)
        while not root.done:
            self.step(root)
        if isinstance(root.value, MassCancelError):
            raise root.value
        return root.value

    def step(self, root: Part) -> None:
        """Carry out what a flow that has begun has under way."""
        for part in root.calls():
            part.end(self.perform(part.part))
        root.settle()

    def cancel(self, symbol: str | None, category: str = "spot") -> Ack:
        """Cancel a scope."""
        ack = self.run(VENUE.cancel_all(Scope(category, symbol), None))
        assert isinstance(ack, Ack)
        return ack


NAMES = {name: pair for pair in PAIRS for name in (pair.key, pair.altname, pair.wsname)}


@pytest.mark.unmeasured
@given(
    st.dictionaries(st.sampled_from([pair.altname for pair in PAIRS]), st.integers(1, 60)),
    st.sampled_from([*NAMES, "BTC/USD", "DOGE/USD", "XBTUSX", "XBT/USDX"]),
    st.booleans(),
)
def test_spot_with_a_symbol_never_sends_cancel_all(
    book: dict[str, int], symbol: str, refuse_stale: bool
) -> None:
    """Whatever is open and however the pair is spelled: exactly its orders go, or nothing does."""
    floor = Floor(refuse_stale=refuse_stale)
    for altname, count in book.items():
        floor.place("spot", altname, count)
    if symbol in NAMES:
        floor.cancel(symbol)
        gone = NAMES[symbol].altname
        assert sorted(floor.book()) == sorted(
            s for s, n in book.items() for _ in range(n) if s != gone
        )
    else:
        with pytest.raises(ScopeError):
            floor.cancel(symbol)
        assert len(floor.book()) == sum(book.values())
    assert not [path for path in floor.paths if path.endswith("CancelAll")]


@pytest.mark.parametrize("refuse_stale", [False, True])
def test_orders_that_go_between_listing_and_cancel(*, refuse_stale: bool) -> None:
    """Those that are left are cancelled, whether a stale batch is refused or not."""
    floor = Floor(refuse_stale=refuse_stale)
    ids = floor.place("spot", BTC, 60)
    root = Part(VENUE.cancel_all(Scope("spot", BTC), None))
    floor.step(root)
    for order_id in (ids[3], ids[55]):
        floor.engine.cancel(order_id, now_ms=NOW)
    floor.engine.advance(NOW)
    while not root.done:
        floor.step(root)
    assert root.value.status == "count 58"
    assert floor.book() == []


@pytest.mark.parametrize(("category", "symbol"), [("spot", BTC), ("futures", PERP)])
def test_the_simulator_tells_what_has_become_of_orders(category: str, symbol: str) -> None:
    """Cancelled, filled or open; futures forget what has ended."""
    floor = Floor()
    floor.place(category, symbol, 3)
    orders = floor.run(VENUE.open_orders(Scope(category, None)))
    cancelled, filled, still_open = (one.order_id for one in orders)
    floor.engine.cancel(cancelled, now_ms=NOW)
    floor.engine.fill(filled, now_ms=NOW)
    told = floor.run(VENUE.order_states(category, orders))
    assert told == {cancelled: "cancelled", filled: "filled", still_open: "open"}
    floor.now_ms += 5001
    told = floor.run(VENUE.order_states(category, orders))
    assert len(told) == {"spot": 3, "futures": 1}[category]
    assert floor.run(VENUE.order_states(category, orders_of("nobody's"))) == {}


def test_the_simulated_switch_fires() -> None:
    """It cancels everything of the account when its time has come, and not when it is off."""
    for category, symbol in (("spot", BTC), ("futures", PERP)):
        floor = Floor()
        floor.place(category, symbol)
        assert floor.run(VENUE.switch(Scope(category, None), 60_000)) // 1000 == NOW // 1000 + 60
        assert floor.run(VENUE.switch(Scope(category, None), 0)) is None
        floor.now_ms += 60_000
        assert floor.run(VENUE.open_orders(Scope(category, None)))
        floor.run(VENUE.switch(Scope(category, None), 1000))
        floor.now_ms += 1000
        assert floor.run(VENUE.open_orders(Scope(category, None))) == []
        assert floor.dialect.switches == {}


@pytest.mark.parametrize(
    ("path", "body", "content_type", "error"),
    [
        ("OpenOrders", b"nonce=0", "", "EAPI:Invalid nonce"),
        ("OpenOrders", b"nonce=x", "", "EAPI:Invalid nonce"),
        ("OpenOrders", b"", "", "EAPI:Invalid nonce"),
        ("OpenOrders", b"nonce=%d" % 2**64, "", "EAPI:Invalid nonce"),
        ("OpenOrders", b"{", "application/json", "EAPI:Bad request"),
        ("CancelOrderBatch", b"nonce=7&orders=a", "", "EAPI:Bad request"),
        (
            "CancelOrderBatch",
            b'{"nonce":7,"orders":[]}',
            "application/json",
            "EGeneral:Invalid arguments:orders",
        ),
        ("CancelAllOrdersAfter", b"nonce=7", "", "EGeneral:Invalid arguments:timeout"),
        (
            "CancelAllOrdersAfter",
            b"nonce=7&timeout=86400",
            "",
            "EGeneral:Invalid arguments:timeout",
        ),
    ],
)
def test_the_simulator_refuses_what_kraken_does(
    path: str, body: bytes, content_type: str, error: str
) -> None:
    """Each request is signed as it should be."""
    floor = Floor()
    fields = json.loads(body) if content_type and body != b"{" else parse_qs(body.decode())
    nonce = str(fields["nonce"]) if isinstance(fields.get("nonce"), int) else ""
    nonce = nonce or (fields["nonce"][0] if fields.get("nonce") else "")
    target = f"/0/private/{path}"
    headers = {
        "API-Key": "key",
        "API-Sign": spot.signature(SECRET, target, nonce, body),
        "Content-Type": content_type,
    }
    answer = floor.handle(Request("POST", target, headers, body))
    assert json.loads(answer.body) == {"error": [error]}


@pytest.mark.parametrize(
    ("method", "target", "status", "error"),
    [
        ("POST", "/0/private/Nothing", 200, ["EGeneral:Unknown method"]),
        ("POST", "/derivatives/api/v3/nothing", 404, "notFound"),
        ("GET", "/derivatives/api/v3/tickers/PF_NOUSD", 200, "notFound"),
        ("GET", "/derivatives/api/v3/openorders", 200, "authenticationError"),
        ("POST", "/derivatives/api/v3/cancelallordersafter?timeout=x", 200, "invalidArgument"),
    ],
)
def test_the_simulator_refuses_what_does_not_exist(
    method: str, target: str, status: int, error: Any
) -> None:
    """Each side in its own words."""
    path, _, query = target.partition("?")
    headers = {"APIKey": "key", "Authent": futures.signature(SECRET, path, query)}
    answer = Floor().handle(Request(method, target, headers if query else {}))
    assert (answer.status, json.loads(answer.body)["error"]) == (status, error)


def test_the_simulator_has_public_lists() -> None:
    """All pairs when asked for none, and a ticker that tells the time."""
    floor = Floor()
    pairs = json.loads(floor.handle(Request("GET", "/0/public/AssetPairs", {})).body)["result"]
    assert "XXBTZUSD" in pairs
    assert "AAPLxUSD" not in pairs
    probe = VENUE.probe(VENUE.origin("futures"))
    assert probe.decode(floor.handle(probe.request(0))) == NOW


def test_the_simulator_accepts_no_signature_for_a_secret_that_is_not_base64() -> None:
    """No client could make one."""
    floor = Floor()
    floor.engine.add_account("other", "odd", categories=["spot"])
    answer = floor.handle(Request("POST", "/0/private/CancelAll", {"API-Key": "other"}, b"nonce=1"))
    assert json.loads(answer.body) == {"error": ["EAPI:Invalid signature"]}
