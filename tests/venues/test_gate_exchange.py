"""Gate over real sockets: what the exchange executed is the judge."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from msgspec import structs

from gate_support import BTC, ETH, OPTION, client_of
from masscancel import (
    ConfigurationError,
    DeadMansSwitch,
    InvalidRequest,
    MassCancelError,
    NotFlat,
    PermissionDenied,
    Target,
    Unproven,
    VenueError,
)
from masscancel.sim import (
    Account,
    Answer,
    GateDialect,
    Hang,
    OnCancel,
    Order,
    Request,
    Script,
    SimulatedExchange,
)
from masscancel.sim.dialect import Moment, Router
from masscancel.sim.gate import MODE, signature
from venues_support import SETTLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from masscancel.models import Permission

TYPES = {
    "spot": ("limit", "margin", "stop", "margin_stop", "pov"),
    "usdt": ("limit", "stop", "trail", "chase"),
    "btc": ("limit", "stop", "trail", "chase"),
    "options": ("limit",),
}
SYMBOLS = {
    "spot": (BTC, ETH),
    "usdt": (BTC, ETH),
    "btc": ("BTC_USD", "ETH_USD"),
    "options": (OPTION, "ETH_USDT-20261225-2500.5-P"),
}


@pytest_asyncio.fixture
async def gate() -> AsyncIterator[SimulatedExchange]:
    """The venue."""
    async with SimulatedExchange(GateDialect()) as exchange:
        yield exchange


def account_of(exchange: SimulatedExchange, mode: str = "classic", **options: Any) -> Account:
    """An account with an order of each type, in two symbols of each category."""
    account = exchange.add_account(extra={MODE: mode}, **options)
    for category, types in TYPES.items():
        for symbol in SYMBOLS[category]:
            for order_type in types if category in account.ids else ():
                place(exchange, account, category, symbol, order_type)
    return account


def place(
    exchange: SimulatedExchange, account: Account, category: str, symbol: str, order_type: str
) -> Order:
    """Put an order into a book; a unified account has no triggers of the margin account."""
    if account.extra[MODE] not in ("classic", "hidden") and order_type == "margin_stop":
        order_type = "stop"
    return exchange.place(account, category, symbol, order_type=order_type, side="sell")


def left(exchange: SimulatedExchange, account: Account) -> Counter[tuple[str, str, str]]:
    """Category, symbol and type of what is open."""
    return Counter(
        (order.category, order.symbol, order.order_type)
        for category in account.ids
        for order in exchange.open_orders(account, category)
    )


STAYS = Script(on_cancel=OnCancel.IGNORE)
MODES = ["classic", "hidden", "portfolio", "single_currency"]


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", MODES[2:])
@pytest.mark.parametrize("symbol", [None, BTC])
async def test_a_unified_account(gate: SimulatedExchange, mode: str, symbol: str | None) -> None:
    """Found out on entry; every order of every account is cancelled, listed and proven gone."""
    account = account_of(gate, mode)
    before = left(gate, account)
    async with client_of(gate, account) as client:
        listed = await client.open_orders("spot", symbol)
        proof = await client.cancel_all_and_confirm("spot", symbol, settle=SETTLE)
    assert len(listed) == sum(
        count
        for (kind, named, _), count in before.items()
        if kind == "spot" and named in (symbol or named)
    )
    assert set(proof.acks[0].cancelled or ()) == {order.order_id for order in listed}
    assert left(gate, account) == Counter(
        {
            each: n
            for each, n in before.items()
            if each[0] != "spot" or symbol not in (None, each[1])
        }
    )


@pytest.mark.asyncio
async def test_an_account_whose_kind_is_hidden(gate: SimulatedExchange) -> None:
    """All the same, everything is cancelled; the refusal of what it is not is told, with advice."""
    account = account_of(gate, "hidden")
    async with client_of(gate, account) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.cancel_all("spot")
        with pytest.raises(Unproven, match="set unified"):
            await client.cancel_all_and_confirm("spot", settle=SETTLE, timeout=0.5)
    assert "set unified" in str(caught.value)
    assert not [each for each in left(gate, account) if each[0] == "spot"]
    async with client_of(gate, account, unified=False) as client:
        await client.cancel_all_and_confirm("spot", settle=SETTLE)


@pytest.mark.asyncio
async def test_the_kind_is_not_asked_for_where_it_does_not_matter(gate: SimulatedExchange) -> None:
    """Nor where it was given; nor does a question that fails keep a client from being entered."""
    account = account_of(gate)
    for options in ({"categories": ["usdt"]}, {"unified": False}):
        async with client_of(gate, account, **options):
            assert not gate.operations("mode", "open-orders")
    gate.faults.add(Answer(404, b'{"label":"NOT_FOUND"}'), operation="mode")
    async with client_of(gate, account) as client:
        with pytest.raises(MassCancelError):
            await client.cancel_all("spot")
    assert not [each for each in left(gate, account) if each[0] == "spot"]


@pytest.mark.asyncio
async def test_a_host_without_pov_orders() -> None:
    """Has none open, and says so itself; a gateway's word on entry, or later, is none."""
    async with SimulatedExchange(GateDialect(pov=False)) as exchange:
        account = exchange.add_account(extra={MODE: "classic"})
        exchange.place(account, "spot", BTC)
        async with client_of(exchange, account) as client:
            await client.cancel_all_and_confirm("spot", settle=SETTLE)
            assert await client.open_orders("spot", books=("pov",)) == []
    async with SimulatedExchange(GateDialect()) as exchange:
        account = exchange.add_account(extra={MODE: "classic"})
        exchange.place(account, "spot", BTC, order_type="pov", script=STAYS)
        exchange.faults.add(Answer(404, b"404: Not Found"), path=".*/pov_orders", times=3)
        async with client_of(exchange, account) as client:
            with pytest.raises(NotFlat):
                await client.cancel_all_and_confirm("spot", settle=SETTLE, timeout=0.5)


@pytest.mark.asyncio
@pytest.mark.parametrize("category", TYPES)
async def test_books_are_left_out_by_name(gate: SimulatedExchange, category: str) -> None:
    """Each book alone: no order of another is touched or listed. Options have but one."""
    books = {"margin": "ordinary", "limit": "ordinary", "margin_stop": "stop"}
    account = account_of(gate)
    async with client_of(gate, account) as client:
        for book in client.venue.abilities[category].books:
            before = left(gate, account)
            listed = await client.open_orders(category, books=(book,))
            assert {order.book for order in listed} == {book}
            ack = await client.cancel_all(category, books=(book,))
            gone = before - left(gate, account)
            assert {books.get(each[2], each[2]) for each in gone} == {book}
            assert gone.total() == len(listed) == len(ack.cancelled or ())
    assert not [each for each in left(gate, account) if each[0] == category]


@pytest.mark.asyncio
@pytest.mark.parametrize("order_type", ["limit", "margin", "stop", "pov", "trail", "chase"])
async def test_every_page(gate: SimulatedExchange, order_type: str) -> None:
    """Of each book, and on spot of each pair, to the last; a full last page is not taken for it."""
    category = "usdt" if order_type in ("trail", "chase") else "spot"
    account = gate.add_account(extra={MODE: "classic"})
    expected = {place(gate, account, category, BTC, order_type).order_id for _ in range(200)}
    expected |= {place(gate, account, category, ETH, order_type).order_id for _ in range(3)}
    async with client_of(gate, account) as client:
        for symbol, count in ((None, 203), (BTC, 200)):
            listed = await client.open_orders(category, symbol)
            ids = {order.order_id.rpartition(":")[2] for order in listed}
            assert len(ids) == len(listed) == count
            assert ids <= expected


@pytest.mark.asyncio
async def test_a_page_that_is_cut_proves_nothing(gate: SimulatedExchange) -> None:
    """Fewer rows than the total says are no end."""
    account = gate.add_account()
    total = (("X-Pagination-Total", "1"),)
    gate.faults.add(Answer(200, b"[]", total), operation="open-orders", times=None)
    async with client_of(gate, account) as client:
        with pytest.raises(Unproven, match="cut"):
            await client.cancel_all_and_confirm("options", settle=SETTLE, timeout=0.5)


@pytest.mark.asyncio
async def test_one_sick_book_costs_the_others_nothing(gate: SimulatedExchange) -> None:
    """One that hangs, and one that fails: the other two are cancelled at once."""
    account = account_of(gate)
    gate.faults.add(Hang(), path=r".*/trail/stop_all", times=None)
    gate.faults.add(Answer(400, b'{"label":"CANCEL_FAIL"}'), path=r".*/price_orders", times=None)
    async with client_of(gate, account) as client:
        with pytest.raises(VenueError, match="CANCEL_FAIL") as caught:
            await client.cancel_all("usdt", timeout=0.5)
    note = "\n".join(caught.value.__notes__)
    assert "usdt (stop), usdt (trail)" in note
    assert "2 failed; of 4 calls" in note
    assert caught.value.may_have_executed
    assert {each[2] for each in left(gate, account) if each[0] == "usdt"} == {"stop", "trail"}


@pytest.mark.asyncio
async def test_a_failure_within_a_success(gate: SimulatedExchange) -> None:
    """The orders that are left are named; a proof tells what is still listed."""
    account = account_of(gate)
    stays = {"id": "7", "currency_pair": BTC, "succeeded": False, "label": "CANCEL_FAIL"}
    answer = Answer(200, json.dumps([stays]).encode())
    gate.faults.add(answer, path="/api/v4/spot/orders", operation="cancel-all", times=None)
    async with client_of(gate, account) as client:
        with pytest.raises(VenueError) as caught:
            await client.cancel_all("spot")
        assert "not acknowledged: 7" in caught.value.__notes__
        assert caught.value.may_have_executed
        with pytest.raises(NotFlat) as unproven:
            await client.cancel_all_and_confirm("spot", settle=SETTLE, timeout=0.5)
    assert {order.book for order in unproven.value.residual} == {"ordinary"}


@pytest.mark.asyncio
async def test_an_account_that_was_never_opened(gate: SimulatedExchange) -> None:
    """A settle coin without an account has nothing open, and that is proven."""
    account = account_of(gate, categories=["spot", "usdt"])
    async with client_of(gate, account) as client:
        proof = await client.cancel_all_and_confirm("btc", settle=SETTLE)
    assert proof.acks[0].status == "nothing open"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("permissions", "expected"), [(("view", "trade"), "yes"), (("view",), "no")]
)
async def test_the_venue_tells_what_a_key_may_do(
    gate: SimulatedExchange, permissions: tuple[str, ...], expected: Permission
) -> None:
    """Nothing is cancelled to find it out; where keys can't be told apart, it is not known."""
    account = account_of(gate, permissions=permissions)
    async with client_of(gate, account) as client:
        for category in TYPES:
            assert await client.can_cancel(category) == expected
        for body in (b"[]", b'[{"user_id":1,"perms":[{"name":"spot","read_only":false}]}]'):
            gate.faults.add(Answer(200, body), path=".*/main_keys")
            assert await client.can_cancel("spot") == "unknown"
        gate.faults.add(Answer(403, b'{"label":"FORBIDDEN"}'), path=".*/detail")
        assert await client.can_cancel("spot") == "unknown"
        if expected == "no":
            with pytest.raises(PermissionDenied, match="read-only"):
                await client.cancel_all("options")
    assert len(gate.operations("cancel-all")) == (1 if expected == "no" else 0)


@pytest.mark.asyncio
async def test_a_switch_of_less_than_the_venue_takes(gate: SimulatedExchange) -> None:
    """Is refused before it is sent; a dead man's switch sets the least that there is."""
    account = account_of(gate)
    async with client_of(gate, account) as client:
        for timeout_ms in (1000, 4000, 5500, 86_401_000):
            with pytest.raises(ConfigurationError, match="5 to 86400"):
                await client.set_switch("spot", timeout_ms=timeout_ms)
        assert not gate.operations("switch")
        async with DeadMansSwitch(Target(client, "usdt", BTC), timeout=2) as switch:
            await switch.disarm()
    bodies = [json.loads(each.body) for each in gate.operations("switch")]
    assert bodies[0] == {"timeout": 5, "contract": BTC}
    assert bodies[-1] == {"timeout": 0, "contract": BTC}


@pytest.mark.asyncio
@pytest.mark.parametrize("at", [b'"0"', b"1700000000", b"null"])
async def test_a_switch_that_is_not_armed(gate: SimulatedExchange, at: bytes) -> None:
    """A reply with another time than that asked for, or in another unit, is no success."""
    account = account_of(gate)
    body = b'{"triggerTime":%s}' % at
    gate.faults.add(Answer(200, body), operation="switch", times=None)
    async with client_of(gate, account) as client:
        with pytest.raises(MassCancelError, match=r"the switch|the reply"):
            await client.set_switch("usdt", timeout_ms=30_000, timeout=0.3)


KEY, SECRET, ROOT = "a-key-0", "a-secret-0", "/api/v4"
NOW = 1_700_000_000_123


@pytest.mark.parametrize(
    ("method", "target", "changes", "status", "label"),
    [
        ("GET", "/spot/open_orders?limit=100", {}, 200, ""),
        ("GET", "/spot/open_orders?limit=101", {}, 400, "INVALID_PARAM_VALUE"),
        ("GET", "/spot/orders?status=open", {}, 400, "MISSING_REQUIRED_PARAM"),
        ("GET", "/futures/btc/orders", {}, 400, "INVALID_PARAM_VALUE"),
        ("GET", "/futures/btc/autoorder/v1/chase/list", {}, 400, "INVALID_PARAM_VALUE"),
        ("GET", "/spot/price_orders?status=open&account=unified", {}, 400, "INVALID_PARAM_VALUE"),
        ("GET", "/spot/orders/1?currency_pair=BTC_USDT", {}, 404, "ORDER_NOT_FOUND"),
        ("GET", "/spot/nothing", {}, 404, "NOT_FOUND"),
        ("DELETE", "/spot/orders?currency_pair=XBT_USD", {}, 400, "INVALID_CURRENCY_PAIR"),
        ("DELETE", "/futures/usdt/orders?contract=XBT_USD", {}, 400, "CONTRACT_NOT_FOUND"),
        ("DELETE", "/options/orders", {"sign": "0" * 128}, 401, "INVALID_SIGNATURE"),
        ("DELETE", "/options/orders", {"key": "nobody"}, 401, "INVALID_KEY"),
        ("DELETE", "/options/orders", {"key": ""}, 401, "MISSING_REQUIRED_HEADER"),
        ("DELETE", "/options/orders", {"timestamp": "1699999938"}, 403, "REQUEST_EXPIRED"),
        ("DELETE", "/options/orders", {"timestamp": "1700000062"}, 403, "REQUEST_EXPIRED"),
        ("DELETE", "/options/orders", {"timestamp": "soon"}, 403, "REQUEST_EXPIRED"),
        ("DELETE", "/spot/orders", {"x-gate-exptime": str(NOW)}, 200, ""),
        ("DELETE", "/spot/orders", {"x-gate-exptime": str(NOW - 1)}, 400, "REQUEST_EXPIRED"),
        (
            "POST",
            "/spot/countdown_cancel_all",
            {"body": '{"timeout":4}'},
            400,
            "INVALID_PARAM_VALUE",
        ),
        ("POST", "/spot/countdown_cancel_all", {"body": "{"}, 400, "INVALID_REQUEST_BODY"),
    ],
)
def test_the_simulator_checks_every_part(
    method: str, target: str, changes: dict[str, str], status: int, label: str
) -> None:
    """Key, time, signature, expiry, parameters, symbols: as the documents have them."""
    dialect = GateDialect(symbols=[BTC])
    exchange = SimulatedExchange(dialect, clock=lambda: NOW / 1000)
    exchange.add_account(KEY, SECRET)
    body = changes.pop("body", "").encode()
    timestamp = changes.get("timestamp", str(NOW // 1000))
    headers = {"key": KEY, "timestamp": timestamp} | changes
    raw_path = ROOT + target
    moment = Moment(now_ms=NOW)
    request = Request(method=method, raw_path=raw_path, headers=headers, body=body, moment=moment)
    sign = {"sign": signature(SECRET, request)} | changes
    found = Router(dialect.routes(), ()).route(method, request.path)
    reply = dialect.unknown(request)
    if found is not None:
        route, params = found
        request = structs.replace(request, headers=headers | sign, params=params)
        reply = route.handler(exchange.engine, request)
    answer = json.loads(reply.body)
    assert reply.status == status, answer
    assert (answer["label"] if isinstance(answer, dict) else "") == label
