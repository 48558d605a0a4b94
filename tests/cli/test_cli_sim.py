"""``sim``: every simulated venue, for the commands to be tried on; a typo is none that succeeds."""

import asyncio
import signal
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

import aiohttp
import msgspec
import pytest

from cli_support import finish, spawn
from masscancel.cli.app import run
from masscancel.cli.market import COINS, MARKETS, open_accounts, place_orders, settings_for
from masscancel.cli.status import Status
from masscancel.sim import SimulatedExchange
from masscancel.venues import VENUES

#: A well-formed symbol that nobody trades, for each category.
TYPOS = {
    "ascendex": {"cash": "NOSUCH/USDT", "margin": "NOSUCH/USDT", "futures": "NOSUCH-PERP"},
    "binance": {"spot": "NOSUCHUSDT", "usdm": "NOSUCHUSDT"},
    "bitget": {
        "spot": "NOSUCHUSDT",
        "margin": "NOSUCHUSDT",
        "usdt-futures": "NOSUCHUSDT",
        "coin-futures": "NOSUCHUSD",
        "usdc-futures": "NOSUCHPERP",
    },
    "bybit": {
        "spot": "NOSUCHUSDT",
        "linear": "NOSUCHUSDT",
        "inverse": "NOSUCHUSD",
        "option": "NOSUCH-26DEC25-100000-C-USDT",
    },
    "gate": {
        "spot": "NOSUCH_USDT",
        "usdt": "NOSUCH_USDT",
        "btc": "NOSUCH_USD",
        "options": "NOSUCH_USDT-20261225-1000-C",
    },
    "kraken": {"spot": "NOSUCHUSD", "futures": "PF_NOSUCHUSD"},
    "kucoin": {
        **dict.fromkeys(("spot", "margin", "isolated"), "NOSUCH-USDT"),
        "futures": "NOSUCHUSDTM",
    },
    "okx": {"account": "NOSUCH-USDT-SWAP"},
}


class Commands:
    """Commands for an account at a simulated exchange, run in this process."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        venue: str,
        keys: tuple[str, str, str],
        settings: Mapping[str, Any],
    ) -> None:
        self._capsys = capsys
        monkeypatch.setenv("MASSCANCEL_API_KEY", keys[0])
        monkeypatch.setenv("MASSCANCEL_API_SECRET", keys[1])
        monkeypatch.setenv("MASSCANCEL_PASSPHRASE", keys[2])
        self._way = ["--venue", venue]
        for name, value in settings.items():
            self._way += ["-o", f"{name}={value}"]

    async def cancel_everything(self, categories: Iterable[str]) -> None:
        """The twelve orders are listed, cancelled, and gone."""
        named = [word for category in categories for word in ("--category", category)]
        status, listed = await self.run("orders", *named)
        assert (status, len(listed["orders"])) == (Status.DONE, 12)
        assert {each["account_category"] for each in listed["orders"]} == {*named[1::2]}
        command = ("cancel", *named, "--yes", "--confirm", "--settle", "0.05", "--timeout", "10")
        status, found = await self.run(*command)
        assert (status, found["ok"]) == (Status.DONE, True)
        assert (await self.run("orders", *named))[1]["orders"] == []

    async def run(self, *arguments: str) -> tuple[int, Any]:
        """Run a command there; its status, and its object."""
        status = await asyncio.to_thread(run, [*arguments, *self._way, "--json"])
        return status, msgspec.json.decode(self._capsys.readouterr().out)


@pytest.mark.sample
@pytest.mark.asyncio
@pytest.mark.parametrize("venue", MARKETS)
async def test_a_market_to_be_cancelled(
    venue: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it prints leads there: the orders are listed, cancelled, and gone; SIGINT ends it."""
    process = await spawn("sim", "--venue", venue, "--orders", "12", "--json")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            fields = msgspec.json.decode(await process.stdout.readline())
        assert fields["symbols"].keys() == MARKETS[venue].spellings.keys()
        account = fields["accounts"][0]
        keys = (account["api_key"], account["api_secret"], account["passphrase"])
        there = Commands(monkeypatch, capsys, venue, keys, account["settings"])
        await there.cancel_everything(MARKETS[venue].spellings)
    finally:
        process.send_signal(signal.SIGINT)
        ended = await finish(process)
    assert ended.status == Status.DONE


@pytest.mark.asyncio
@pytest.mark.parametrize("venue", MARKETS)
async def test_a_market_of_each_venue(
    venue: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A symbol that is not traded is refused, as the venue would; those that are, cancelled."""
    market = MARKETS[venue]
    async with SimulatedExchange(market.open(market)) as exchange:
        (account,) = open_accounts(exchange, 1)
        place_orders(exchange, account, list(COINS), 12, Random(1), market)
        keys = (account.api_key, account.api_secret, account.extra["passphrase"])
        there = Commands(monkeypatch, capsys, venue, keys, settings_for(exchange, account))
        for category, symbol in TYPOS[venue].items():
            command = ("cancel", "--category", category, "--symbol", symbol, "--timeout", "3")
            status, found = await there.run(*command)
            assert status != Status.DONE
            assert not found["ok"]
            assert exchange.open_orders(account, category)
        await there.cancel_everything(market.spellings)
        assert not any(exchange.open_orders(account, category) for category in market.spellings)
        await exchange.until(
            lambda: not exchange.connections
        )  # the commands' own have come, and gone


@pytest.mark.asyncio
@pytest.mark.parametrize("symbol", ["XXBTZUSD", "XBTUSD", "XBT/USD"])
async def test_kraken_pairs_by_each_of_their_names(
    symbol: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pair is cancelled by its key, too, which ccxt gives as its id."""
    market = MARKETS["kraken"]
    async with SimulatedExchange(market.open(market)) as exchange:
        (account,) = open_accounts(exchange, 1)
        for name in ("XBTUSD", "SOLUSD"):
            exchange.place(account, "spot", name)
        keys = (account.api_key, account.api_secret, account.extra["passphrase"])
        there = Commands(monkeypatch, capsys, "kraken", keys, settings_for(exchange, account))
        status, _ = await there.run("cancel", "--category", "spot", "--symbol", symbol)
        assert status == Status.DONE
        assert [order.symbol for order in exchange.open_orders(account, "spot")] == ["SOLUSD"]


@pytest.mark.asyncio
async def test_limits_as_the_venue_has_them() -> None:
    """With `--limits` it tells what has been spent, as the venue does; otherwise it does not."""
    for options in (("--limits",), ()):
        process = await spawn("sim", "--venue", "binance", "--json", *options)
        assert process.stdout is not None
        fields = msgspec.json.decode(await process.stdout.readline())
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{fields['rest_url']}/api/v3/time") as reply,
        ):
            assert ("X-MBX-USED-WEIGHT-1M" in reply.headers) == bool(options)
        process.send_signal(signal.SIGINT)
        await finish(process)


@pytest.mark.asyncio
async def test_limits_that_are_not_known() -> None:
    """A venue whose limits are not simulated is not run as if they were."""
    process = await spawn("sim", "--venue", "ascendex", "--limits")
    _, errors = await process.communicate()
    assert process.returncode == Status.USAGE
    assert b"ascendex" in errors


def test_every_url_leads_to_the_simulation() -> None:
    """None of a venue's own hosts is left, so that no made-up key reaches a real exchange."""
    for name, market in MARKETS.items():
        exchange = SimulatedExchange(market.open(market), port=1)
        account = exchange.add_account()
        settings = settings_for(exchange, account)
        urls = {key: value for key, value in settings.items() if key.endswith("_url")}
        assert urls
        assert {value.partition("//")[2] for value in urls.values()} == {"127.0.0.1:1"}
        assert name in VENUES
