"""A desk of several accounts at several simulated venues, and the accounts file that names them."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from masscancel.cli.app import run
from masscancel.cli.market import (
    COINS,
    Market,
    market_of,
    open_accounts,
    place_orders,
    settings_for,
)
from masscancel.sim import Account, SimulatedExchange
from masscancel.venues import load
from operator_support import Ran

_LOUD = ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "TTY_COMPATIBLE")


class Seat(msgspec.Struct, frozen=True):
    """One account of the desk."""

    name: str
    exchange: SimulatedExchange
    account: Account
    market: Market

    def left(self) -> int:
        """How many orders are really open."""
        return sum(
            len(self.exchange.open_orders(self.account, category))
            for category in self.market.spellings
        )

    def text(self, categories: Sequence[str] = ()) -> str:
        """What the accounts file says of it."""
        prefix = self.name.upper().replace("-", "_")
        kind = load(self.exchange.dialect.name)
        settings = {
            name: int(value) if name == "account_group" else value
            for name, value in settings_for(self.exchange, self.account).items()
        }
        lines = [
            "[[account]]",
            f'name = "{self.name}"',
            f'venue = "{kind.name}"',
            f"categories = {[*(categories or self.market.spellings)]}",
            f'api_key = {{ env = "{prefix}_KEY" }}',
            f'api_secret = {{ env = "{prefix}_SECRET" }}',
            f'tags = {{ desk = "{self.name.rpartition("-")[2]}" }}',
            *([f'passphrase = {{ env = "{prefix}_PHRASE" }}'] if kind.passphrase else []),
            "[account.options]",
            *(f"{name} = {value!r}" for name, value in settings.items()),
        ]
        return "\n".join(lines) + "\n\n"

    def variables(self) -> dict[str, str]:
        """Where its secrets are."""
        prefix = self.name.upper().replace("-", "_")
        return {
            f"{prefix}_KEY": self.account.api_key,
            f"{prefix}_SECRET": self.account.api_secret,
            f"{prefix}_PHRASE": self.account.extra.get("passphrase", ""),
        }


class Desk:
    """Seats, the file that names them, and commands that are run there."""

    def __init__(
        self,
        seats: Sequence[Seat],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.seats = {seat.name: seat for seat in seats}
        self.file = folder / "masscancel.toml"
        self._capsys = capsys
        for name in _LOUD:
            monkeypatch.delenv(name, raising=False)
        self.variables = {k: v for seat in seats for k, v in seat.variables().items() if v}
        for name, value in self.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MASSCANCEL_ACCOUNTS", str(self.file))
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        self.write()

    def write(self, *, more: str = "", **texts: str) -> None:
        """Write the file; `texts` in place of what is said of these (``-`` written ``_``)."""
        parts = [
            texts.get(name.replace("-", "_"), seat.text()) for name, seat in self.seats.items()
        ]
        self.file.write_text("".join(parts) + more)

    def left(self) -> dict[str, int]:
        """How many orders are really open, by account."""
        return {name: seat.left() for name, seat in self.seats.items()}

    async def run(self, *arguments: str) -> Ran:
        """Run a command; whatever it prints holds no secret and no traceback."""
        self._capsys.readouterr()
        status = await asyncio.to_thread(run, arguments)
        # What a thread of its own has written is not captured in Python, but by descriptor.
        ran = Ran(status, *self._capsys.readouterr())
        for text in (ran.out, ran.err):
            assert not any(secret in text for secret in self.variables.values())
            assert "\x1b" not in text
            assert "Traceback" not in text
        return ran


@asynccontextmanager
async def desk_of(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    *,
    venues: Sequence[str] = ("binance", "kraken", "okx"),
    each: int = 2,
) -> AsyncIterator[Desk]:
    """A desk with accounts ``binance-0``, ``binance-1``, ``kraken-0`` ..., each full of orders."""
    async with AsyncExitStack() as stack:
        seats = []
        for venue in venues:
            market = market_of(venue)
            exchange = await stack.enter_async_context(
                SimulatedExchange(market.open(market), seed=1)
            )
            for index, account in enumerate(open_accounts(exchange, each)):
                coins = [*COINS][:3]
                place_orders(exchange, account, coins, 6, random.Random(index), market)
                seats.append(Seat(f"{venue}-{index}", exchange, account, market))
        yield Desk(seats, folder, monkeypatch, capsys)
