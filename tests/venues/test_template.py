"""The venue to copy: by hand, and as a client's, against a small exchange."""

import json
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from hmac import digest
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from flows_support import CREDENTIALS, NOW
from masscancel import (
    Ack,
    AuthenticationError,
    Client,
    ConfigurationError,
    Credentials,
    DeadMansSwitch,
    MassCancelError,
    OpenOrder,
    ProtocolError,
    RateLimited,
    ScopeError,
    Target,
    VenueError,
    VenueUnavailable,
    cancel_many,
    cancel_on_exit,
)
from masscancel.calls import Call, Reply, Scope, Stamp
from masscancel.errors import InvalidRequest, StampRefused
from masscancel.sim import Account, Answer, Engine, SimulatedExchange
from masscancel.sim import Reply as SimReply
from masscancel.sim import Request as SimRequest
from masscancel.sim.dialect import json_reply
from masscancel.venues import template
from masscancel.venues.template import Template
from venues_support import ThreeRequests

VENUE = Template(rest_url="https://venue.test")
SPOT, ONE = Scope("spot"), Scope("spot", "BTC-USD")
ROW = {"id": "1", "symbol": "BTC-USD", "side": "sell", "price": "7.5", "quantity": "2"} | {
    "filled": "0.5",
    "type": "stop",
}


class TemplateDialect(ThreeRequests):
    """The venue from the other side: three requests, two of them signed."""

    name: Final = "template"
    categories: Final[Mapping[str, str]] = {"spot": "t-"}
    key_header = "x-key"

    def _time(self, engine: Engine, request: SimRequest) -> SimReply:
        return json_reply({"ok": True, "result": request.moment.venue_ms})

    def _cancel(self, engine: Engine, request: SimRequest) -> SimReply:
        account = self._account(engine, request)
        if isinstance(account, str):
            return json_reply({"ok": False, "code": account}, 401)
        cancel = engine.cancel_all(
            account, "spot", request.query.get("symbol"), now_ms=request.moment.now_ms
        )
        return json_reply({"ok": True, "result": cancel.order_ids})

    def _list(self, engine: Engine, request: SimRequest) -> SimReply:
        account = self._account(engine, request)
        if isinstance(account, str):
            return json_reply({"ok": False, "code": account}, 401)
        rows = [
            {
                "id": order.order_id,
                "symbol": order.symbol,
                "side": order.side,
                "price": str(order.price),
                "quantity": str(order.quantity),
                "filled": str(order.filled_quantity),
                "type": order.order_type,
            }
            for order in engine.open_orders(account, "spot", request.query.get("symbol"))
        ]
        return json_reply({"ok": True, "result": rows})

    def _account(self, engine: Engine, request: SimRequest) -> Account | str:
        """Whose request it is, or the code of why it is refused."""
        account, sent = engine.accounts.get(request.api_key), request.headers["x-time"]
        text = f"{sent}{request.method}{request.raw_path}".encode()
        if account is None:
            return "BAD_KEY"
        if digest(account.api_secret.encode(), text, "sha256").hex() != request.headers["x-sign"]:
            return "BAD_KEY"
        return "BAD_TIME" if abs(request.moment.venue_ms - int(sent)) > 5_000 else account


# By hand.


def call_of(flow: Any) -> Call[Any]:
    """The single call that a flow makes."""
    (call,) = next(flow)
    assert isinstance(call, Call)
    return call


def decoded(call: Call[Any], body: Any, status: int = 200, **headers: str) -> Any:
    """What a call makes of a reply, its slices taken; our errors as values."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        value = call.decode(Reply(status, headers, raw), Stamp(NOW))
        while hasattr(value, "send"):
            try:
                next(value)
            except StopIteration as stop:
                value = stop.value
    except MassCancelError as error:
        return error
    return value


def test_a_newcomer_reads_it_in_a_minute() -> None:
    """It is a page and a half."""
    assert len(Path(template.__file__).read_text().splitlines()) < 150


@pytest.mark.parametrize(
    ("scope", "path"), [(SPOT, "/orders"), (ONE, "/orders?symbol=BTC-USD")], ids=str
)
def test_the_requests(scope: Scope, path: str) -> None:
    """Signed over time, method and path; what they cost; when they expire."""
    for flow, method in (
        (VENUE.cancel_all(scope, "an-id"), "DELETE"),
        (VENUE.open_orders(scope), "GET"),
    ):
        call = call_of(flow)
        assert (call.origin, call.method, call.path) == ("https://venue.test", method, path)
        assert (call.cancels, dict(call.costs)) == (method == "DELETE", {"requests": 1})
        request = call.sign(call, CREDENTIALS, Stamp(NOW))
        expected = digest(b"secret", f"{NOW}{method}{path}".encode(), "sha256").hex()
        assert request.headers == {"X-Key": "key", "X-Time": str(NOW), "X-Sign": expected}
        assert (request.target, request.expires_at_ms) == (path, NOW + 5_000)
    assert [limit.name for limit in VENUE.limits(VENUE.rest_url)] == ["requests"]


def test_an_ack_tells_what_is_cancelled() -> None:
    """By the ids in the answer; nothing at all is an answer, too."""
    call = call_of(VENUE.cancel_all(ONE, None))
    ack = decoded(call, {"ok": True, "result": ["1", "2"]})
    assert ack == Ack(account_category="spot", symbol="BTC-USD", cancelled=("1", "2"), raw=ack.raw)
    assert decoded(call, {"ok": True, "result": []}).cancelled == ()
    for wrong in (
        {},
        {"ok": True},
        {"ok": True, "result": [1]},
        {"ok": 1, "result": []},
        b"",
        b"[",
    ):
        assert type(decoded(call, wrong)) is ProtocolError


def test_a_listing() -> None:
    """Numbers are exact; an odd row, or a cache, makes it none."""
    call = call_of(VENUE.open_orders(SPOT))
    order = OpenOrder(
        order_id="1",
        symbol="BTC-USD",
        side="sell",
        price=Decimal("7.5"),
        quantity=Decimal(2),
        filled_quantity=Decimal("0.5"),
        order_type="stop",
        status="open",
        book="stop",
    )
    many = {"ok": True, "result": [ROW] * 3_000}
    assert decoded(call, many) == [order] * 3_000
    assert decoded(call, {"ok": True, "result": []}) == []
    for odd in ({"side": "both"}, {"price": "NaN"}, {"id": None}):
        error = decoded(call, {"ok": True, "result": [ROW, ROW | odd]})
        assert type(error) is ProtocolError
        assert "a row of the listing can't be understood" in str(error)
    assert type(decoded(call, {"ok": True, "result": []}, Age="3")) is ProtocolError


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("BAD_KEY", 401, AuthenticationError),
        ("BAD_TIME", 401, StampRefused),
        ("NO_SYMBOL", 400, InvalidRequest),
        ("TOO_FAST", 200, RateLimited),
        ("BUSY", 200, VenueUnavailable),
        ("NEW", 200, VenueError),
        ("", 429, RateLimited),
    ],
)
def test_refusals(code: str, status: int, kind: type[VenueError]) -> None:
    """By the venue's code, then by the status; of a cancel and of a listing alike."""
    for flow in (VENUE.cancel_all(SPOT, None), VENUE.open_orders(SPOT)):
        error = decoded(call_of(flow), {"ok": False, "code": code}, status)
        assert type(error) is kind
        assert error.code == (code or None)


def test_a_page_of_a_cdn_says_nothing_of_the_key() -> None:
    """It is asked again."""
    assert type(decoded(call_of(VENUE.cancel_all(SPOT, None)), b"<html>", 403)) is VenueUnavailable


def test_scopes_and_settings() -> None:
    """What the base checks by the table of abilities."""
    for scope in (Scope("margin"), Scope("spot", "btc"), Scope("spot", None, ("stop",))):
        with pytest.raises(ScopeError):
            VENUE.check_scope(scope)
    VENUE.check_scope(ONE)
    with pytest.raises(ConfigurationError, match="rest_url"):
        Template(rest_url="http://localhost:8080")


# As a client's.


@pytest_asyncio.fixture
async def exchange() -> AsyncIterator[SimulatedExchange]:
    """The exchange, with an account that has orders."""
    async with SimulatedExchange(TemplateDialect()) as running:
        fill(running, running.add_account("key", "secret"))
        yield running


def fill(exchange: SimulatedExchange, account: Account) -> None:
    """Two orders in each of two symbols."""
    for symbol in ("BTC-USD", "ETH-USD"):
        for order_type in ("limit", "stop"):
            exchange.place(account, "spot", symbol, order_type=order_type)


@pytest.mark.asyncio
async def test_everything_that_a_client_does(exchange: SimulatedExchange) -> None:
    """Cancel, list, prove, fan out, on exit, by the switch; the exchange is the judge."""
    account = exchange.engine.accounts["key"]
    async with Client(CREDENTIALS, venue=Template(rest_url=exchange.rest_url)) as client:
        assert len(await client.open_orders("spot")) == 4
        ack = await client.cancel_all("spot", "BTC-USD")
        assert len(ack.cancelled or ()) == 2
        assert {order.symbol for order in exchange.open_orders(account, "spot")} == {"ETH-USD"}
        proof = await client.cancel_all_and_confirm("spot", settle=0.02)
        assert (proof.sweeps, proof.books) == (1, ("ordinary", "stop"))
        fill(exchange, account)
        targets = Target.product([client], ["spot"], ["BTC-USD", "ETH-USD"])
        assert (await cancel_many(targets)).all_ok
        fill(exchange, account)
        async with cancel_on_exit(Target(client, "spot"), signals=()):
            assert len(exchange.open_orders(account, "spot")) == 4
        assert exchange.open_orders(account, "spot") == []
        async with DeadMansSwitch(Target(client, "spot"), timeout=30) as switch:
            assert switch.kind == "emulated"
            switch.disarm()


@pytest.mark.asyncio
async def test_what_goes_wrong_on_the_way(exchange: SimulatedExchange) -> None:
    """A CDN's page is asked again after; a wrong secret is told at once."""
    venue = Template(rest_url=exchange.rest_url)
    exchange.faults.add(Answer(403, b"<html>"), operation="cancel-all")
    async with Client(CREDENTIALS, venue=venue) as client:
        ack = await client.cancel_all("spot", timeout=10)
        assert len(ack.cancelled or ()) == 4
    async with Client(Credentials("key", "another"), venue=venue) as client:
        with pytest.raises(AuthenticationError):
            await client.cancel_all("spot")
