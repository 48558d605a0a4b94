"""The guard in the process of the tests, and the exchange in a thread."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli_support import ElsewhereExchange, Ended
from masscancel import Credentials
from masscancel.cli.app import run
from masscancel.protection.process import FORWARDED

_TIMES = ("--settle", "0.05", "--timeout", "30")
#: What most guards here are told: their scope, and not to take long.
QUICK = ("--category", "cash", *_TIMES)


class Here:
    """Runs the guard in this process, against an exchange in a thread."""

    def __init__(self, elsewhere: ElsewhereExchange, capfd: pytest.CaptureFixture[str]) -> None:
        self.ask = elsewhere.ask
        self.account = elsewhere.account
        self.way = elsewhere.way
        #: How the account is told apart in what is said.
        self.who = f"[{Credentials(self.account.api_key, self.account.api_secret).account}]"
        self._capfd = capfd

    def guard(self, *arguments: str) -> Ended:
        """``masscancel guard`` with these arguments; the way, and cash if need be, are added."""
        return Ended(*self.raw(*arguments))

    def open_orders(self, category: str = "cash") -> set[str]:
        """The symbols of the orders that are really open."""
        return self.ask(lambda it: {o.symbol for o in it.open_orders(self.account, category)})

    def raw(self, *arguments: str) -> tuple[int, str, str]:
        """Its status and what it printed, on as many lines as it takes."""
        self._capfd.readouterr()
        options = _TIMES if {"--category", "--target"} & {*arguments} else QUICK
        return run(["guard", *self.way, *options, *arguments]), *self._capfd.readouterr()

    def operations(self, name: str) -> int:
        """How many requests of a kind there were."""
        return self.ask(lambda it: len(it.operations(name)))


@contextmanager
def guarding_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Here]:
    """Guard in this process; the signal handlers of the guard are taken away afterwards."""
    elsewhere = ElsewhereExchange()
    monkeypatch.setenv("MASSCANCEL_API_KEY", elsewhere.account.api_key)
    monkeypatch.setenv("MASSCANCEL_API_SECRET", elsewhere.account.api_secret)
    numbers = (*FORWARDED, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
    before = {number: signal.getsignal(number) for number in numbers}
    yield Here(elsewhere, capfd)
    for number, handler in before.items():
        signal.signal(number, handler)
    elsewhere.close()
