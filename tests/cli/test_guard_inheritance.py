"""``guard``: what the strategy inherits, what the key may do, and what the guard says in JSON."""

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from guard_here import Here, guarding_here
from masscancel.cli.status import GuardStatus, Status
from masscancel.protection.heartbeat import FD, PIPE
from masscancel.sim import Account, Answer, SimulatedExchange

ENVIRONMENT = ("sh", "-c", "env >&2")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """The guard in this process."""
    with guarding_here(monkeypatch, capfd) as guarding:
        yield guarding


def names(said: str) -> set[str]:
    """The names of the variables that the strategy has."""
    return {line.partition("=")[0] for line in said.splitlines()}


# The guard's own key.


def test_its_own_key_is_not_passed_on(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guard has read is nothing of the strategy's; the rest is."""
    monkeypatch.setenv("MASSCANCEL_PASSPHRASE", "of-the-guard")
    monkeypatch.setenv("STRATEGY_API_KEY", "of-the-strategy")
    status, _, err = here.raw("--", *ENVIRONMENT)
    assert status == 0
    assert {name for name in names(err) if name.startswith("MASSCANCEL_")} == {FD, PIPE}
    assert "STRATEGY_API_KEY" in names(err)


def test_another_prefix(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for the guard alone leaves the strategy's where it is."""
    for part in ("API_KEY", "API_SECRET"):
        monkeypatch.setenv(f"GUARD_{part}", os.environ[f"MASSCANCEL_{part}"])
        monkeypatch.setenv(f"MASSCANCEL_{part}", "of-the-strategy")
    status, _, err = here.raw("--env-prefix", "GUARD", "--", *ENVIRONMENT)
    assert status == 0
    assert {"MASSCANCEL_API_KEY", "MASSCANCEL_API_SECRET"} <= names(err)
    assert not {"GUARD_API_KEY", "GUARD_API_SECRET"} & names(err)


def test_it_is_passed_on_if_asked_for(here: Here) -> None:
    """For a strategy that shares it."""
    status, _, err = here.raw("--pass-key", "--", *ENVIRONMENT)
    assert status == 0
    assert {"MASSCANCEL_API_KEY", "MASSCANCEL_API_SECRET"} <= names(err)


# Whether the key can cancel.


def reader(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a key that may only read."""

    def add(exchange: SimulatedExchange) -> Account:
        return exchange.add_account(group=6, permissions=("view",), categories=("cash", "margin"))

    account = here.ask(add)
    monkeypatch.setenv("MASSCANCEL_API_KEY", account.api_key)
    monkeypatch.setenv("MASSCANCEL_API_SECRET", account.api_secret)


def test_a_key_that_can_not_cancel(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lists the open orders, and would fail in the end: the command is not started."""
    reader(here, monkeypatch)
    ended = here.guard("--target", "cash", "--target", "margin", "--", "echo", "started")
    assert (ended.status, ended.out) == (Status.DENIED, "")
    assert "AscendEX says that the key may not trade, so it can't cancel: cash, margin" in ended.err
    assert ended.err.endswith("; the command was not started\n")


def test_that_is_not_asked_without_a_check(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it shows when the key is needed."""
    reader(here, monkeypatch)
    status, out, _ = here.raw("--no-check", "--", "echo", "started")
    assert (status, out) == (GuardStatus.NOT_FLAT, "started\n")
    assert here.operations("info") == 0


def test_where_it_can_not_be_known(here: Here) -> None:
    """The guard says so, and goes on."""
    here.ask(lambda it: it.faults.add(Answer(200, b'{"code":0,"data":{}}'), operation="info"))
    status, out, err = here.raw("--", "echo", "started")
    assert (status, out) == (0, "started\n")
    assert "whether it may cancel can't be known there: cash\n" in err


# JSON.


def events(out: str) -> list[dict[str, Any]]:
    """What was said, line by line."""
    return [msgspec.json.decode(line) for line in out.splitlines()]


def test_json(here: Here) -> None:
    """An object on each line; what the command prints is not among them."""
    script = "echo from the command; exit 3"
    targets = ("--target", "cash", "--target", "margin:BTC/USDT")
    status, out, err = here.raw("--json", *targets, "--", "sh", "-c", script)
    started, ended, *outcomes, end = events(out)
    assert status == 3
    assert "from the command\n" in err
    assert started["event"] == "started"
    assert started["can_cancel"] == {"cash": "yes", "margin": "yes"}
    assert started["targets"][1] == {"account_category": "margin", "symbol": "BTC/USDT"}
    assert (ended["event"], ended["status"], ended["left_behind"]) == ("ended", 3, [])
    assert [each["event"] for each in outcomes] == ["outcome", "outcome"]
    assert all(each["ok"] and each["confirmation"] for each in outcomes)
    assert (end["event"], end["status"], end["started"], end["error"]) == ("end", 3, True, None)
    assert here.account.api_secret not in out


def test_json_of_a_stall(here: Here) -> None:
    """It is an event of its own, before the end of the command."""
    status, out, _ = here.raw("--json", "--timeout", "0.3", "--", "sleep", "60")
    assert status == GuardStatus.STALLED
    kinds = [each["event"] for each in events(out)]
    assert kinds == ["started", "stalled", "ended", "outcome", "end"]
    assert events(out)[1]["has_beaten"] is False
    assert events(out)[-1]["status"] == GuardStatus.STALLED


def test_json_without_a_time_limit(here: Here) -> None:
    """Infinity is nothing that JSON has."""
    status, out, _ = here.raw("--json", "--timeout", "inf", "--", "true")
    assert status == 0
    assert events(out)[0]["timeout"] is None


def test_json_of_a_command_that_is_not_started(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error, and the status for it."""
    reader(here, monkeypatch)
    status, out, _ = here.raw("--json", "--", "true")
    [end] = events(out)
    assert status == end["status"] == Status.DENIED
    assert (end["started"], end["error"]["type"]) == (False, "PermissionDenied")


def test_json_of_a_failure(here: Here) -> None:
    """Each outcome has its error; the last line has the status."""
    no = Answer(403, b'{"code":200015}')
    here.ask(lambda it: it.faults.add(no, operation="cancel-all", times=None))
    status, out, _ = here.raw("--json", "--", "true")
    *_, outcome, end = events(out)
    assert outcome["error"]["type"] == "PermissionDenied"
    assert status == end["status"] == GuardStatus.NOT_FLAT
