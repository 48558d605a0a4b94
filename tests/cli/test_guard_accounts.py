"""`masscancel guard --accounts`: one guard for every account of a file."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from cli_support import spawn
from desk_support import Desk, desk_of
from masscancel.cli.status import GuardStatus, Status
from masscancel.sim import Hang
from operator_support import Ran

pytestmark = pytest.mark.asyncio

GUARD = ("guard", "--settle", "0.05", "--timeout", "inf")


@pytest_asyncio.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> AsyncIterator[Desk]:
    """Four accounts at two venues."""
    async with desk_of(tmp_path, monkeypatch, capfd, venues=("binance", "okx")) as found:
        yield found


async def guarded(desk: Desk, *arguments: str) -> Ran:
    """Run a guard, in a process of its own; whatever it prints holds no secret."""
    process = await spawn(*GUARD, *arguments)
    out, err = await process.communicate()
    ran = Ran(process.returncode or 0, out.decode(), err.decode())
    for text in (ran.out, ran.err):
        assert not any(secret in text for secret in desk.variables.values())
        assert "Traceback" not in text
    return ran


async def test_every_account_of_the_file(desk: Desk) -> None:
    """All are flat when the command has ended; its status is the command's."""
    ran = await guarded(desk, "--accounts", str(desk.file), "--json", "--", "sh", "-c", "exit 3")
    assert ran.status == 3
    assert not any(desk.left().values())
    events = [msgspec.json.decode(line) for line in ran.lines]
    started = events[0]
    assert started["can_cancel"]["okx-1 account"] == "yes"
    assert {each["account"] for each in started["targets"]} == {*desk.seats}
    assert len([each for each in events if each["event"] == "outcome"]) == 6


async def test_some_of_them(desk: Desk) -> None:
    """By name, tag and venue; the others keep their orders."""
    await guarded(desk, "--account", "*-0", "--venue", "okx", "--tag", "desk=0", "--", "true")
    left = desk.left()
    assert left.pop("okx-0") == 0
    assert all(left.values())


async def test_the_command_inherits_none_of_their_keys(desk: Desk) -> None:
    """What the file reads from the environment is taken out of the command's."""
    names = " ".join(f"${{{name}-gone}}" for name in desk.variables)
    out = desk.file.parent / "out"
    script = f'echo {names} > "{out}"'
    await guarded(desk, "--accounts", str(desk.file), "--", "sh", "-c", script)
    said = out.read_text().split()
    kept = [name for name, word in zip(desk.variables, said, strict=True) if word != "gone"]
    assert kept == [name for name in desk.variables if "BINANCE" in name and "PHRASE" in name]
    assert os.environ["OKX_0_KEY"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--account", "nobody"), Status.USAGE, "has the name 'nobody': binance-0"),
        (("--account", "okx-0", "--category", "account"), Status.USAGE, "it says all of that"),
        (("--accounts", "/nowhere.toml"), Status.USAGE, "No such file"),
    ],
)
async def test_what_is_wrong_is_said_before_it_starts(
    desk: Desk, arguments: tuple[str, ...], status: Status, words: str
) -> None:
    """The command is not started."""
    ran = await guarded(desk, *arguments, "--", "echo", "started")
    assert ran.status == status
    assert words in ran.err
    assert "started" not in ran.out
    assert all(desk.left().values())


async def test_one_account_that_is_not_well_keeps_it_from_starting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is at stake, all of them have to be right."""
    monkeypatch.setenv("BINANCE_1_SECRET", "another-secret-that-nobody-has-got")
    ran = await guarded(desk, "--accounts", str(desk.file), "--", "echo", "started")
    assert ran.status == Status.DENIED
    assert "binance-1" in ran.err


async def test_a_sick_venue_at_the_end(desk: Desk) -> None:
    """The others are flat, and the status says that not all are."""
    hanging = desk.seats["okx-0"].exchange.faults
    hanging.add(Hang(), operation="cancel-all", times=None)
    ran = await guarded(desk, "--cancel-timeout", "3", "--accounts", str(desk.file), "--", "true")
    assert ran.status == GuardStatus.NOT_FLAT
    left = desk.left()
    assert left["binance-0"] == left["binance-1"] == 0
    assert left["okx-0"]
    assert "NOT confirmed flat: account [okx-0], account [okx-1]" in ran.err
