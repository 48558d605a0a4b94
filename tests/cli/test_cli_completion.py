"""Completion, and where the exit statuses stand."""

import asyncio
import sys
from pathlib import Path

import pytest

from cli_support import finish
from masscancel.cli.app import run
from masscancel.cli.status import Status


def test_commands_venues_and_categories(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands, options, venues, and the categories of the venue that was named before."""
    monkeypatch.setenv("_MASSCANCEL_COMPLETE", "complete_bash")

    def completed(words: str) -> list[str]:
        """What bash is offered behind the last of these words."""
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        with pytest.raises(SystemExit, match="0"):
            run(())
        return capsys.readouterr().out.split()

    assert "cancel" in completed("masscancel ca")
    assert "--category" in completed("masscancel cancel --cat")
    assert completed("masscancel cancel --venue kr") == ["kraken"]
    assert completed("masscancel cancel --venue ascendex --category f") == ["futures"]
    assert completed("masscancel cancel --category f") == []


@pytest.mark.sample
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


@pytest.mark.unmeasured
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
