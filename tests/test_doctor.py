"""The doctor: what would fail in a kill, found before it, at exchanges and broken servers."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
import trustme

from masscancel import AscendEX, Client, Credentials, ScopeError, SessionPool
from masscancel.calls import Scope
from masscancel.doctor import Checkup, Finding, descriptors, examine, examine_many
from masscancel.sim import (
    Account,
    Answer,
    BinanceDialect,
    BitgetDialect,
    BybitDialect,
    Dialect,
    GateDialect,
    Hang,
    KrakenDialect,
    KuCoinDialect,
    OKXDialect,
    SimulatedExchange,
    Skew,
)
from masscancel.venues import OKX, Binance, Bitget, Bybit, Gate, Kraken, KuCoin
from masscancel.venues.base import Venue
from support import QUICK_STREAMS, raw_server
from venues_support import KEY, OTHER_SECRET, PASSPHRASE, SECRET, Ledger

pytestmark = pytest.mark.asyncio

DAY_MS = 86_400_000
PROXY_PASSWORD = "a-password-of-the-tests"


@pytest.fixture(autouse=True)
def no_proxy_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy in the environment."""
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def venue_at(exchange: SimulatedExchange) -> Venue:
    """The venue that speaks to an exchange."""
    rest, stream = exchange.rest_url, exchange.stream_url
    venues: dict[str, Venue] = {
        "ascendex": AscendEX(rest_url=rest, stream_url=stream, account_group=6),
        "binance": Binance(spot_url=rest, usdm_url=rest),
        "bitget": Bitget(rest_url=rest),
        "bybit": Bybit(rest_url=rest),
        "gate": Gate(rest_url=rest),
        "kraken": Kraken(spot_url=rest, futures_url=rest),
        "kucoin": KuCoin(spot_url=rest, futures_url=rest),
        "okx": OKX(rest_url=rest),
    }
    return venues[exchange.dialect.name]


def client_of(exchange: SimulatedExchange, *categories: str, **options: Any) -> Client[Any]:
    """A client of the account, not entered."""
    secret = options.pop("secret", SECRET)
    credentials = Credentials(options.pop("key", KEY), secret, passphrase=PASSPHRASE, label="mm-1")
    venue = options.pop("venue", None) or venue_at(exchange)
    return Client(credentials, venue=venue, categories=categories, **options)


@asynccontextmanager
async def exchange_of(
    dialect: Dialect | None = None, *permissions: str, extra: dict[str, str] | None = None
) -> AsyncIterator[tuple[SimulatedExchange, Account]]:
    """An exchange, and an account there that has orders."""
    async with SimulatedExchange(dialect) as exchange:
        account = exchange.add_account(
            KEY,
            SECRET,
            group=6,
            permissions=permissions or ("view", "trade"),
            extra={"passphrase": PASSPHRASE, **(extra or {})},
        )
        yield exchange, account


def of(checkup: Checkup, name: str) -> Finding:
    """The one finding of a name."""
    [found] = [finding for finding in checkup.findings if finding.name == name]
    return found


def names(checkup: Checkup) -> list[str]:
    """The names of what was looked at."""
    return [finding.name for finding in checkup.findings]


# --- what is well -----------------------------------------------------------------------------


async def test_what_is_well() -> None:
    """Every finding is, nothing is cancelled or tried, and the client is left as it was."""
    async with exchange_of() as (exchange, account):
        exchange.place(account, "cash", "BTC/USDT")
        client = client_of(exchange, "cash", "futures")
        before = Ledger(exchange)
        checkup = await examine(client)
        assert checkup.status == "ok"
        assert checkup.ok
        assert (checkup.account, checkup.venue) == ("mm-1", "ascendex")
        assert names(checkup) == [
            *("name", "connection", "clock", "key", "key"),
            *("address", "may cancel", "may cancel", "stream", "stream"),
        ]
        keys = [finding for finding in checkup.findings if finding.name == "key"]
        assert {key.category: key.detail for key in keys} == {
            "cash": "accepted; 1 open order",
            "futures": "accepted",
        }
        assert not client.is_open
        assert not client.pool.is_open
        assert not before - Ledger(exchange)
        assert not exchange.operations("cancel-all", "cancel-order")
        async with client:  # it can still be entered
            assert await client.can_cancel("cash") == "yes"


async def test_a_client_that_is_entered_stays_so() -> None:
    """The guard's check: by the very client that will cancel."""
    async with exchange_of() as (exchange, _), client_of(exchange, "cash") as client:
        checkup = await examine(client, scopes=[Scope("cash", "BTC/USDT")], streams=False)
        assert checkup.ok
        assert "stream" not in names(checkup)
        assert client.is_open
        assert await client.open_orders("cash") == []


async def test_a_scope_that_there_is_not() -> None:
    """It is refused, and nothing is sent."""
    async with exchange_of() as (exchange, _):
        with pytest.raises(ScopeError, match="no account category 'spot'"):
            await examine(client_of(exchange, "cash"), scopes=[Scope("spot")])
        assert not exchange.requests


async def test_nothing_in_it_is_secret() -> None:
    """Neither in a finding, nor in its JSON."""
    async with exchange_of(KrakenDialect()) as (exchange, _):
        checkup = await examine(client_of(exchange, "spot", secret=OTHER_SECRET))
        shown = f"{checkup!r}{msgspec.json.encode(checkup.to_dict()).decode()}"
        assert checkup.to_dict()["status"] == "failed"
        for secret in (KEY, SECRET, OTHER_SECRET, PASSPHRASE):
            assert secret not in shown


# --- the way ----------------------------------------------------------------------------------


async def test_a_name_that_nobody_has() -> None:
    """What depends on it is not looked at."""
    venue = Kraken(spot_url="https://venue.invalid")
    checkup = await examine(Client(Credentials(KEY, SECRET), venue=venue, categories=["spot"]))
    assert names(checkup) == ["name"]
    assert checkup.status == "failed"
    assert "venue.invalid" in of(checkup, "name").detail
    assert "name service" in of(checkup, "name").advice


async def test_nobody_listens() -> None:
    """The name is found, and the connection refused."""
    venue = Kraken(spot_url="http://127.0.0.1:1")
    checkup = await examine(Client(Credentials(KEY, SECRET), venue=venue, categories=["spot"]))
    assert [(each.name, each.status) for each in checkup.findings] == [
        ("name", "ok"),
        ("connection", "failed"),
    ]
    assert "refused" in of(checkup, "connection").detail
    assert "firewall" in of(checkup, "connection").advice


@pytest.mark.parametrize("served", ["another name", "an unknown authority", "no TLS"])
async def test_tls_that_is_not_right(served: str) -> None:
    """A certificate for another host or of an authority unknown; no TLS at all."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    if served == "another name":
        authority.configure_trust(context)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(
        "localhost" if served != "another name" else "other.example"
    ).configure_cert(tls)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(
        serve, "127.0.0.1", 0, ssl=None if served == "no TLS" else tls
    )
    async with server, SessionPool(ssl_context=context) as pool:
        port = server.sockets[0].getsockname()[1]
        venue = Kraken(spot_url=f"https://localhost:{port}")
        client = Client(Credentials(KEY, SECRET), venue=venue, categories=["spot"], pool=pool)
        checkup = await examine(client)
    this = asyncio.current_task()
    handshakes = [task for task in asyncio.all_tasks() if task is not this]
    if handshakes:  # whose end the server has yet to see
        await asyncio.wait(handshakes, timeout=5)
    for _ in range(3):  # a transport ends a turn after it was closed
        await asyncio.sleep(0)
    assert names(checkup) == ["name", "connection"]
    words = "TLS failed" if served == "no TLS" else "certificate not accepted"
    assert words in of(checkup, "connection").detail


async def test_a_proxy_that_is_named_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said; its password is not."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PROXY_PASSWORD}@proxy.example:3128")
    async with exchange_of() as (exchange, _):
        checkup = await examine(client_of(exchange, "cash"))
        assert checkup.status == "warning"
        assert checkup.ok
        assert "http://proxy.example:3128" in of(checkup, "proxy").detail
        assert 'proxy="env"' in of(checkup, "proxy").advice
        assert PROXY_PASSWORD not in repr(checkup)


async def test_a_proxy_that_wants_other_credentials() -> None:
    """No tunnel is opened; nothing is asked without one."""

    def refuse(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(refuse) as address, exchange_of() as (exchange, _):
        proxy = f"http://me:{PROXY_PASSWORD}@{address}"
        async with SessionPool(proxy=proxy) as pool:
            checkup = await examine(client_of(exchange, "cash", pool=pool))
        assert of(checkup, "connection").status == "failed"
        assert "407" in of(checkup, "connection").detail
        assert address in of(checkup, "proxy").detail
        assert PROXY_PASSWORD not in repr(checkup)
        assert not exchange.requests


# --- clocks and nonces ------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "where"), [(2, "ahead of"), (-2, "behind")])
async def test_a_clock_that_is_off(hours: int, where: str) -> None:
    """The requests follow it; other programs would not."""
    async with exchange_of(BinanceDialect()) as (exchange, _):
        exchange.skew_ms = hours * 3_600_000
        checkup = await examine(client_of(exchange, "spot"))
        clock = of(checkup, "clock")
        assert clock.status == "warning"
        assert where in clock.detail
        assert "7200" in clock.detail or "7199" in clock.detail
        assert "NTP" in clock.advice
        assert of(checkup, "key").status == "ok"


async def test_a_clock_that_is_not_told() -> None:
    """How far it is off can't be known; the rest can."""
    async with exchange_of(BinanceDialect()) as (exchange, _):
        exchange.faults.add(Answer(500, b"{}"), operation="clock", times=None)
        checkup = await examine(client_of(exchange, "spot"))
        assert of(checkup, "clock").status == "unknown"
        assert checkup.status == "unknown"
        assert of(checkup, "may cancel").status == "ok"


async def test_a_time_that_is_refused() -> None:
    """The venue tells one time and goes by another."""
    async with exchange_of(BinanceDialect()) as (exchange, _):
        exchange.faults.add(Skew(3_600_000), operation="open-orders", times=None)
        checkup = await examine(client_of(exchange, "spot"))
        [refused] = [each for each in checkup.findings if each.category == "spot"]
        assert (refused.name, refused.status) == ("clock", "failed")
        assert "-1021" in refused.detail
        assert "may cancel" not in names(checkup)


async def test_nonces_that_another_program_has_outrun() -> None:
    """One that counts in ns has locked out all that count in ms; the way out is said."""
    async with exchange_of(KrakenDialect()) as (exchange, _):
        other = Kraken(spot_url=exchange.rest_url, nonce_unit="ns")
        credentials = Credentials(KEY, SECRET)
        exchange.dialect._last[KEY] = time.time_ns()  # type: ignore[attr-defined]  # as if so
        checkup = await examine(client_of(exchange, "spot"), timeout=1.0)
        nonces = of(checkup, "nonces")
        assert nonces.status == "failed"
        assert "EAPI:Invalid nonce" in nonces.detail
        assert "nonce_unit" in nonces.advice
        checkup = await examine(Client(credentials, venue=other, categories=["spot"]))
        assert of(checkup, "nonces").status == "ok"


async def test_nonces_that_are_refused_now_and_then() -> None:
    """They went through in the end: somebody else uses the key."""
    async with exchange_of(KrakenDialect()) as (exchange, _):
        refusal = Answer(200, b'{"error":["EAPI:Invalid nonce"]}')
        exchange.faults.add(refusal, operation="open-orders")
        checkup = await examine(client_of(exchange, "spot"))
        assert of(checkup, "key").status == "ok"
        assert of(checkup, "nonces").status == "warning"
        assert "another program" in of(checkup, "nonces").detail


async def test_a_clock_that_there_is_no_room_to_read() -> None:
    """Kraken's public requests are few: a client that has just been entered has spent them."""
    async with exchange_of(KrakenDialect()) as (exchange, _), client_of(exchange, "spot") as client:
        checkup = await examine(client)
        assert checkup.ok
        assert of(checkup, "key").status == "ok"


# --- the key ----------------------------------------------------------------------------------


async def test_a_key_that_is_refused() -> None:
    """Nothing more is asked with it."""
    async with exchange_of(BybitDialect()) as (exchange, _):
        checkup = await examine(client_of(exchange, "spot", "linear", secret=OTHER_SECRET))
        keys = [each for each in checkup.findings if each.name == "key"]
        assert {each.category for each in keys} == {"spot", "linear"}
        assert {each.status for each in keys} == {"failed"}
        assert "may cancel" not in names(checkup)
        assert not exchange.operations("key")


async def test_a_key_that_may_only_read() -> None:
    """It lists orders, and would fail when it matters."""
    async with exchange_of(OKXDialect(), "view") as (exchange, _):
        checkup = await examine(client_of(exchange, "account"))
        assert of(checkup, "key").status == "ok"
        assert of(checkup, "may cancel").status == "failed"
        assert "permission to trade" in of(checkup, "may cancel").advice


async def test_a_key_that_may_only_cancel() -> None:
    """Nothing could be proven, though cancels would go through."""
    async with exchange_of(KrakenDialect(), "trade") as (exchange, _):
        checkup = await examine(client_of(exchange, "spot"))
        assert of(checkup, "key").status == "failed"
        assert "Permission denied" in of(checkup, "key").detail
        assert of(checkup, "may cancel").status == "ok"


@pytest.mark.parametrize(
    ("dialect", "category", "answer"),
    [
        (BybitDialect, "spot", Answer(200, b'{"retCode":10010,"retMsg":"Unmatched IP"}')),
        (OKXDialect, "account", Answer(401, b'{"code":"50110","msg":"Your IP is not included"}')),
        (GateDialect, "usdt", Answer(403, b'{"label":"IP_FORBIDDEN","message":"not listed"}')),
        (KuCoinDialect, "futures", Answer(401, b'{"code":"400006","msg":"the ip is not listed"}')),
        (BitgetDialect, "spot", Answer(400, b'{"code":"40038","msg":"not in the whitelist"}')),
    ],
)
async def test_an_address_that_is_not_on_the_list(
    dialect: type[Dialect], category: str, answer: Answer
) -> None:
    """Not a key that may not trade: other advice."""
    async with exchange_of(dialect()) as (exchange, _):
        exchange.faults.add(answer, operation="open-orders", times=None)
        checkup = await examine(client_of(exchange, category))
        assert of(checkup, "address").status == "failed"
        assert "local_addr" in of(checkup, "address").advice
        assert "key" not in names(checkup)
        assert "may cancel" not in names(checkup)


async def test_addresses_and_expiry() -> None:
    """What the key is bound to; that it expires soon."""
    now_ms = int(time.time() * 1000)
    for days, status in ((3, "warning"), (300, "ok")):
        extra = {"addresses": "192.0.2.1", "expires_ms": str(now_ms + days * DAY_MS)}
        async with exchange_of(extra=extra) as (exchange, _):
            checkup = await examine(client_of(exchange, "cash"))
            assert of(checkup, "address").detail == "the key is bound to 192.0.2.1"
            assert of(checkup, "expiry").status == status


@pytest.mark.parametrize(("permission", "expected"), [("trade", "ok"), ("view", "failed")])
async def test_only_a_probe_tells(permission: str, expected: str) -> None:
    """Without one it can't be known, which is said with the way to know it; every order stays."""
    async with exchange_of(BitgetDialect(unified=True), "view", permission) as (exchange, account):
        exchange.place(account, "spot", "BTCUSDT")
        before = Ledger(exchange)
        checkup = await examine(client_of(exchange, "spot"))
        assert of(checkup, "may cancel").status == "unknown"
        assert "--probe" in of(checkup, "may cancel").advice
        assert not exchange.operations("cancel-order")
        checkup = await examine(client_of(exchange, "spot"), probe=True)
        assert of(checkup, "may cancel").status == expected
        assert not before - Ledger(exchange)
        assert not exchange.operations("cancel-all")


async def test_a_probe_that_there_is_not() -> None:
    """Gate's options: can't be known, and nothing is advised that would not help."""
    async with exchange_of(GateDialect()) as (exchange, _):
        denied = Answer(403, b'{"label":"FORBIDDEN","message":"no permission of account"}')
        exchange.faults.add(denied, operation="info", times=None)
        checkup = await examine(client_of(exchange, "options", "usdt"), probe=True)
        rights = {each.category: each for each in checkup.findings if each.name == "may cancel"}
        assert rights["usdt"].status == "ok"
        assert (rights["options"].status, rights["options"].advice) == ("unknown", "")


async def test_what_was_asked_and_not_told() -> None:
    """A question that fails is not an answer."""
    async with exchange_of(BybitDialect()) as (exchange, _):
        exchange.faults.add(Answer(200, b'{"retCode":10016}'), operation="key", times=None)
        checkup = await examine(client_of(exchange, "spot"), timeout=1.0)
        assert of(checkup, "may cancel").status == "unknown"
        assert "did not tell" in of(checkup, "may cancel").detail


async def test_what_entering_fails_with() -> None:
    """A unified account of KuCoin has orders that nobody here can reach."""
    async with exchange_of(KuCoinDialect(mode="UNIFIED")) as (exchange, _):
        checkup = await examine(client_of(exchange, "spot"))
        assert of(checkup, "entry").status == "failed"
        assert "unified account" in of(checkup, "entry").detail
        assert "key" not in names(checkup)


# --- limits, streams, this machine --------------------------------------------------------------


async def test_an_address_that_is_banned() -> None:
    """For how long, and what to do: wait."""
    async with exchange_of(BinanceDialect()) as (exchange, _):
        ban = Answer(418, b'{"code":-1003,"msg":"banned"}', headers=(("Retry-After", "60"),))
        exchange.faults.add(ban, operation="open-orders", times=None)
        checkup = await examine(client_of(exchange, "spot"))
        limits = [each for each in checkup.findings if each.name == "limits"]
        assert {each.status for each in limits} == {"failed"}
        assert any("wants nothing for 60 s" in each.detail for each in limits)


async def test_a_limit_that_others_spend() -> None:
    """What the venue's own header tells."""
    async with exchange_of(BinanceDialect()) as (exchange, _):
        used = Answer(200, b"[]", headers=(("X-MBX-USED-WEIGHT-1M", "5900"),))
        exchange.faults.add(used, operation="open-orders", times=None)
        checkup = await examine(client_of(exchange, "spot"))
        assert of(checkup, "limits").status == "warning"
        assert (
            "of 6000 weight" in of(checkup, "limits").detail
            or "of 2400" in of(checkup, "limits").detail
        )


async def test_a_stream_that_takes_no_login() -> None:
    """The REST side is well."""
    async with exchange_of() as (exchange, _), SessionPool(streams=QUICK_STREAMS) as pool:
        exchange.faults.add(Hang(), operation="stream", times=None)
        checkup = await examine(client_of(exchange, "cash", pool=pool), timeout=1.5)
        assert of(checkup, "may cancel").status == "ok"
        assert of(checkup, "stream").status == "failed"
        assert "the stream is not up" in of(checkup, "stream").detail


async def test_a_login_that_is_refused() -> None:
    """By the venue, in its words; it is not asked again and again."""
    async with exchange_of() as (exchange, _), SessionPool(streams=QUICK_STREAMS) as pool:
        refusal = b'{"m":"auth","id":"x","code":200006,"err":"no stream for this key"}'
        exchange.faults.add(Answer(401), operation="stream")
        exchange.faults.add(Answer(body=refusal), operation="auth", times=None)
        checkup = await examine(client_of(exchange, "cash", pool=pool), timeout=5.0)
        assert of(checkup, "stream").status == "failed"
        assert "200006" in of(checkup, "stream").detail


async def test_through_a_session() -> None:
    """How it gets there is the session's own matter; the rest is looked at."""
    async with exchange_of(BinanceDialect()) as (exchange, _), aiohttp.ClientSession() as session:
        async with SessionPool(session=session) as pool:
            checkup = await examine(client_of(exchange, "spot", pool=pool))
        assert checkup.ok
        assert names(checkup)[:2] == ["clock", "key"]


async def test_no_more_time_than_there_is() -> None:
    """What was not looked at by then is said not to be known; it ends all the same."""
    async with exchange_of(KrakenDialect()) as (exchange, _):
        exchange.faults.add(Hang(), operation="clock", times=None)
        checkup = await examine(client_of(exchange, "spot"), timeout=0.2)
        assert checkup.status == "unknown"
        assert of(checkup, "clock").status == "unknown"


async def test_more_connections_than_descriptors() -> None:
    """A kill of a million scopes at once would wait for its own connections."""
    async with exchange_of() as (exchange, _), SessionPool() as pool:
        assert (await examine(client_of(exchange, "cash", pool=pool))).ok
        assert descriptors(pool, 1).status == "ok"
        found = descriptors(pool, 1_000_000)
        assert found.status == "warning"
        assert "LimitNOFILE" in found.advice


async def test_a_sick_account_holds_nobody_up() -> None:
    """The others are done while it still hangs; its own rows say what is not known."""
    async with exchange_of() as (sick, _), exchange_of(BinanceDialect()) as (well, _):
        sick.faults.add(Hang(), times=None)
        order: list[str] = []
        async with SessionPool() as pool:
            clients = [client_of(sick, "cash", pool=pool), client_of(well, "spot", pool=pool)]
            checkups = await examine_many(
                clients, timeout=1.0, on_checkup=lambda checkup: order.append(checkup.venue)
            )
        assert order == ["binance", "ascendex"]
        assert [checkup.venue for checkup in checkups] == ["ascendex", "binance"]
        assert [checkup.status for checkup in checkups] == ["unknown", "ok"]
