"""An operator at the command line of the reference venue, and how its commands end."""

import asyncio
from typing import Any, NamedTuple

import msgspec
import pytest

from cli_support import way_to
from masscancel.cli.app import run
from masscancel.sim import Account, SimulatedExchange
from support import SECRETS, account_of

#: A host that nobody listens at.
NOWHERE = (
    *("--venue", "ascendex", "-o", "rest_url=http://127.0.0.1:1"),
    *("-o", "stream_url=ws://127.0.0.1:1", "-o", "account_group=6"),
)


class Ran(NamedTuple):
    """How a command ended: its status, and its lines."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of standard output."""
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """Its one line of standard output, which is JSON."""
        assert self.out.count("\n") == 1, self.out
        return msgspec.json.decode(self.out)

    def row(self, *cells: str) -> str:
        """The one line of the table that begins with these cells."""
        [line] = [each for each in self.lines if each.split()[: len(cells)] == [*cells]]
        return line


class Operator:
    """Runs commands in this process, with an account's key in the environment."""

    def __init__(
        self,
        exchange: SimulatedExchange,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.exchange = exchange
        self.account: Account = account_of(exchange, 6)
        self._capsys = capsys
        for name in ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "GITHUB_ACTIONS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("MASSCANCEL_API_KEY", self.account.api_key)
        monkeypatch.setenv("MASSCANCEL_API_SECRET", self.account.api_secret)

    @property
    def way(self) -> list[str]:
        """The options that lead to the exchange."""
        return way_to(self.exchange, self.account.group)

    async def run(self, *arguments: str) -> Ran:
        """Run a command; whatever it prints holds no secret and no traceback."""
        self._capsys.readouterr()
        status = await asyncio.to_thread(run, arguments)
        ran = Ran(status, *self._capsys.readouterr())
        for text in (ran.out, ran.err):
            assert not any(secret in text for secret in SECRETS)
            assert "\x1b" not in text
            assert "Traceback" not in text
        return ran

    def left(self) -> dict[str, set[str]]:
        """The symbols of the orders that are really open, by category."""
        return {
            category: {each.symbol for each in self.exchange.open_orders(self.account, category)}
            for category in ("cash", "margin", "futures")
        }
