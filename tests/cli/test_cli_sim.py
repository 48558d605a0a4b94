"""``sim``: every simulated venue, for the commands to be tried on; a typo is none that succeeds."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from cli_support import finish, spawn
from masscancel.cli.market import MARKETS, settings_for
from masscancel.cli.status import Status
from masscancel.sim import SimulatedExchange
from masscancel.venues import VENUES

#: A well-formed symbol that nobody trades, for each category.
TYPOS = {
    "ascendex": {"cash": "NOSUCH/USDT", "margin": "NOSUCH/USDT", "futures": "NOSUCH-PERP"},
    "binance": {"spot": "NOSUCHUSDT", "usdm": "NOSUCHUSDT"},
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
}


class Running:
    """A simulated exchange in a process of its own, and commands for its first account."""

    def __init__(self, venue: str, fields: dict[str, Any]) -> None:
        self.fields = fields
        account = fields["accounts"][0]
        self._env = {
            "MASSCANCEL_API_KEY": account["api_key"],
            "MASSCANCEL_API_SECRET": account["api_secret"],
            "MASSCANCEL_PASSPHRASE": account["passphrase"],
        }
        self._way = ["--venue", venue]
        for name, value in account["settings"].items():
            self._way += ["-o", f"{name}={value}"]

    async def run(self, *arguments: str) -> tuple[int, Any]:
        """Run a command there; its status, and its object."""
        process = await spawn(*arguments, *self._way, "--json", env=self._env)
        async with asyncio.timeout(30):
            out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, msgspec.json.decode(out)


@asynccontextmanager
async def running(venue: str, *options: str) -> AsyncIterator[Running]:
    """Run one until the block ends; then it ends well."""
    process = await spawn("sim", "--venue", venue, "--orders", "12", "--json", *options)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            fields = msgspec.json.decode(await process.stdout.readline())
        yield Running(venue, fields)
    finally:
        process.send_signal(signal.SIGINT)
        ended = await finish(process)
    assert ended.status == Status.DONE


@pytest.mark.asyncio
@pytest.mark.parametrize("venue", MARKETS)
async def test_a_market_to_be_cancelled(venue: str) -> None:
    """What it prints leads there: the orders are listed, cancelled, and gone."""
    async with running(venue) as simulated:
        assert simulated.fields["symbols"].keys() == MARKETS[venue].spellings.keys()
        named = [w for category in MARKETS[venue].spellings for w in ("--category", category)]
        status, listed = await simulated.run("orders", *named)
        assert (status, len(listed["orders"])) == (Status.DONE, 12)
        assert {each["account_category"] for each in listed["orders"]} == {*named[1::2]}
        command = ("cancel", *named, "--yes", "--confirm", "--settle", "0.05", "--timeout", "10")
        status, found = await simulated.run(*command)
        assert (status, found["ok"]) == (Status.DONE, True)
        assert (await simulated.run("orders", *named))[1]["orders"] == []


@pytest.mark.asyncio
@pytest.mark.parametrize("venue", MARKETS)
async def test_a_typo_is_no_success(venue: str) -> None:
    """A symbol that is not traded is refused, as the venue would; its orders stay."""
    async with running(venue) as simulated:
        for category, symbol in TYPOS[venue].items():
            command = ("cancel", "--category", category, "--symbol", symbol, "--timeout", "3")
            status, found = await simulated.run(*command)
            assert status != Status.DONE
            assert not found["ok"]
            _, listed = await simulated.run("orders", "--category", category)
            assert listed["orders"]


@pytest.mark.asyncio
async def test_limits_as_the_venue_has_them() -> None:
    """With `--limits` it tells what has been spent, as the venue does; otherwise it does not."""
    for options in (("--limits",), ()):
        async with running("binance", *options) as simulated, aiohttp.ClientSession() as session:
            url = simulated.fields["rest_url"]
            async with session.get(f"{url}/api/v3/time") as reply:
                assert ("X-MBX-USED-WEIGHT-1M" in reply.headers) == bool(options)


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
