"""Completion, and where the exit statuses stand."""

import asyncio
import sys
from pathlib import Path

import pytest

from cli_support import finish, spawn
from masscancel.cli.app import run
from masscancel.cli.status import Status


async def completed(words: str) -> list[str]:
    """What bash is offered behind the last of these words."""
    process = await spawn(
        env={
            "_MASSCANCEL_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
    )
    return (await finish(process)).out.split()


@pytest.mark.asyncio
async def test_commands_venues_and_categories() -> None:
    """Commands, options, venues, and the categories of the venue that was named before."""
    assert "cancel" in await completed("masscancel ca")
    assert "--category" in await completed("masscancel cancel --cat")
    assert await completed("masscancel cancel --venue kr") == ["kraken"]
    assert await completed("masscancel cancel --venue ascendex --category f") == ["futures"]
    assert await completed("masscancel cancel --category f") == []


@pytest.mark.asyncio
@pytest.mark.parametrize(("option", "where"), [("--install", ".bashrc"), ("--show", "")])
async def test_the_script(tmp_path: Path, option: str, where: str) -> None:
    """It is shown, or put where bash reads it."""
    command = f"{sys.executable} -m masscancel {option}-completion; exit $?"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    ended = await finish(process)
    assert (ended.status, ended.err) == (Status.DONE, "")
    script = ended.out
    if where:
        script = (tmp_path / ".bash_completions" / "masscancel.sh").read_text()
        assert "masscancel.sh" in (tmp_path / where).read_text()
    assert "_MASSCANCEL_COMPLETE=complete_bash" in script


@pytest.mark.parametrize("command", ["demo", "cancel", "orders", "watch", "sim", "venues"])
def test_the_statuses_stand_once(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of the whole has the table; that of a command says where it is."""
    assert run(["--help"]) == Status.DONE
    whole = capsys.readouterr().out
    assert run([command, "--help"]) == Status.DONE
    out = capsys.readouterr().out
    for status in Status:
        assert f"{status.value}  {status.meaning}" in whole
        assert status.meaning not in " ".join(out.split())
    assert "'masscancel --help' has the table of exit statuses" in " ".join(out.split())
    assert max(map(len, whole.splitlines())) <= 80
