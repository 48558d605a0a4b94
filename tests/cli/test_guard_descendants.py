"""``guard``: what the strategy leaves behind outside of its process group is ended, and named."""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path

import pytest

from cli_support import Shell, spawn, without_journal
from masscancel.cli.status import GuardStatus
from masscancel.sim import SimulatedExchange

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers"),
]

QUICK = ("--category", "cash", "--settle", "0.05", "--timeout", "30")
#: Starts a process in a session of its own, and ends when that is ready.
LEAVE = """
import os, signal, sys, time
ready, done = os.pipe()
if os.fork() == 0:
    os.setsid()
    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(done, b".")
    time.sleep(60)
os.read(ready, 1)
if "stay" in sys.argv:
    time.sleep(60)
"""
#: Has an orphan that ends at once; waits until it is no zombie any more.
ORPHAN = """
import os, time
ready, done = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        while os.getppid() != GUARD:
            time.sleep(0.01)
        os.write(done, b"%d" % os.getpid())
    os._exit(0)
os.wait()
orphan = int(os.read(ready, 20))
while os.path.exists("/proc/%d" % orphan):
    time.sleep(0.01)
"""


@pytest.fixture
def shell(
    exchange: SimulatedExchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """A shell with an account's credentials."""
    return Shell(exchange, monkeypatch, capsys)


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """What the guard says goes into this file: who is left behind keeps a pipe open."""
    return tmp_path / "said"


async def run(shell: Shell, said: Path, *arguments: str, script: str, words: str = "") -> int:
    """Run a guard of a Python script; its status."""
    command = (sys.executable, "-I", "-S", "-c", script, words)
    with said.open("wb") as stderr:
        guard = ("guard", *shell.way(), *QUICK, *arguments, "--", *command)
        process = await spawn(*guard, stdout=asyncio.subprocess.DEVNULL, stderr=stderr)
    async with asyncio.timeout(30):
        return await process.wait()


def is_alive(pid: int) -> bool:
    """Whether a process lives, and is no zombie."""
    with suppress(OSError):
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    return False


def text_of(said: Path) -> str:
    """What the guard has said, but of its journal."""
    return without_journal(said.read_text(encoding="utf-8"))


def named(said: str) -> tuple[int, str]:
    """The process that is said to be left behind, and what is said of it."""
    head = "masscancel: left behind by the command: process "
    [line] = [line.removeprefix(head) for line in said.splitlines() if line.startswith(head)]
    pid, _, words = line.partition(", ")
    return int(pid), words


@pytest.mark.cover_processes
@pytest.mark.sample
@pytest.mark.parametrize("words", ["", "deaf", "stay"])
async def test_it_is_ended_before_the_cancel(shell: Shell, said: Path, words: str) -> None:
    """By SIGTERM, or else by SIGKILL; also when a stall has ended the strategy itself."""
    more = ("--timeout", "0.5") if words == "stay" else ()
    status = await run(shell, said, *more, script=LEAVE, words=words)
    pid, told = named(text_of(said))
    assert not is_alive(pid)
    assert told.endswith(": ended")
    assert sys.executable in told
    assert status == (GuardStatus.STALLED if more else 0)
    assert "confirmed flat" in text_of(said).splitlines()[-1]
    assert shell.open_orders("cash") == set()


async def test_it_is_left_alone(shell: Shell, said: Path) -> None:
    """If asked for; it is named, and the status is never 0."""
    status = await run(shell, said, "--leave-descendants", script=LEAVE)
    pid, told = named(text_of(said))
    is_left = is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    assert is_left
    assert told.endswith(": left alone")
    assert status == GuardStatus.LEFT
    assert "confirmed flat" in text_of(said).splitlines()[-1]
    assert shell.open_orders("cash") == set()


async def test_nothing_is_left(shell: Shell, said: Path) -> None:
    """Then the option changes nothing."""
    assert await run(shell, said, "--leave-descendants", script="raise SystemExit(0)") == 0
    assert text_of(said).count("\n") == 1


async def test_secrets_in_a_command_line_are_not_shown(shell: Shell, said: Path) -> None:
    """Those of the guard's own key, wherever they stand."""
    await run(shell, said, script=f"# {shell.account.api_secret}\n{LEAVE}")
    _, told = named(text_of(said))
    assert shell.account.api_secret not in text_of(said)
    assert "***" in told


@pytest.mark.cover_processes
async def test_an_orphan_that_ends_is_reaped(shell: Shell, said: Path) -> None:
    """While the strategy runs: no process that has ended stays a zombie of the guard's."""
    script = f"import os; guard = os.getppid()\n{ORPHAN.replace('GUARD', 'guard')}"
    assert await run(shell, said, "--timeout", "10", script=script) == 0


async def test_who_was_there_before_is_no_descendant(
    shell: Shell, said: Path, tmp_path: Path
) -> None:
    """A child that the guard's process has from before it was the guard, as under a script."""
    script = 'sleep 60 & echo $! > "$0"; exec "$@"'
    line = [sys.executable, "-m", "masscancel", "guard", *shell.way(), *QUICK, "--", "true"]
    with said.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", script, str(tmp_path / "pid"), *line),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
        )
    assert await process.wait() == 0
    pid = int((tmp_path / "pid").read_text())
    was_alive = is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    assert was_alive
    assert "left behind" not in text_of(said)


CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs a namespace of processes"
)
class TestAsProcessOne:
    """The guard is a container's own process."""

    async def start(self, shell: Shell, *command: str) -> Process:
        """Start a guard of a command as process 1."""
        line = [sys.executable, "-m", "masscancel", "guard", *shell.way(), *QUICK, "--", *command]
        return await asyncio.create_subprocess_exec(
            *(*CONTAINER, *line),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def test_zombies_are_reaped(self, shell: Shell) -> None:
        """And what is left behind is ended; the status goes through."""
        script = f"{ORPHAN.replace('GUARD', '1')}\n{LEAVE}\nsys.exit(3)"
        process = await self.start(shell, sys.executable, "-I", "-S", "-c", script)
        _, err = await process.communicate()
        assert process.returncode == 3
        assert named(err.decode())[1].endswith(": ended")
        assert shell.open_orders("cash") == set()

    async def test_sigterm(self, shell: Shell) -> None:
        """It reaches the strategy, as from ``docker stop``."""
        process = await self.start(shell, "sh", "-c", "echo up; exec sleep 60")
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n"
        os.kill(child_of(process.pid), signal.SIGTERM)
        _, err = await process.communicate()
        assert process.returncode == 128 + signal.SIGTERM
        assert b"was ended by SIGTERM" in err
        assert shell.open_orders("cash") == set()


def child_of(pid: int) -> int:
    """The only child of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
