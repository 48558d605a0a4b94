"""``guard``: what its own surroundings do to it, as a process: signals, pauses, closed streams."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from cli_support import PATIENCE, Shell, finish, spawn
from masscancel.sim import Hang, Hold, SimulatedExchange, What

pytestmark = pytest.mark.asyncio

QUICK = ("--category", "cash", "--settle", "0.05", "--timeout", "30")
#: A strategy that beats while it sleeps.
BEATING = """
import os, signal, time
guard, pipe = os.getppid(), int(os.environ["MASSCANCEL_BEAT_FD"])
def sleep(times, beats=True):
    for _ in range(times):
        if beats:
            os.write(pipe, b".")
        time.sleep(0.05)
"""


@pytest.fixture
def shell(
    exchange: SimulatedExchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """A shell with an account's credentials."""
    return Shell(exchange, monkeypatch, capsys)


async def under(launcher: Sequence[str], shell: Shell, *arguments: str) -> Process:
    """Start a guard by another program, which becomes it."""
    line = [sys.executable, "-m", "masscancel", "guard", *shell.way(), *QUICK, *arguments]
    return await asyncio.create_subprocess_exec(
        *(*launcher, *line),
        stdin=DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def python(script: str) -> tuple[str, ...]:
    """The command that runs a Python script."""
    return (sys.executable, "-I", "-S", "-c", script)


def is_cancelled(shell: Shell) -> bool:
    """Whether the exchange has cancelled everything in scope."""
    log = [each.what for each in shell.exchange.log]
    return What.CANCEL_ALL_EFFECTIVE in log and shell.open_orders("cash") == set()


# Signals.

BLOCKING = python(
    "import os, signal, sys\n"
    "signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
IGNORING = python(
    "import os, signal, sys\n"
    "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


async def test_what_the_parent_has_blocked_is_passed_on(shell: Shell) -> None:
    """SIGTERM reaches the strategy, and blocks nothing there."""
    mask = "import signal; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True)"
    script = f"{mask}; import time; time.sleep(60)"
    process = await under(BLOCKING, shell, "--", *python(script))
    assert process.stdout is not None
    assert await process.stdout.readline() == b"0\n"
    process.send_signal(signal.SIGTERM)
    ended = await finish(process)
    assert ended.status == 128 + signal.SIGTERM
    assert is_cancelled(shell)


@pytest.mark.sample
@pytest.mark.parametrize("launcher", [BLOCKING, IGNORING])
async def test_the_end_of_the_strategy_is_seen(shell: Shell, launcher: Sequence[str]) -> None:
    """With its status, though the parent has blocked SIGCHLD, or ignores it."""
    process = await under(launcher, shell, "--", "sh", "-c", "exit 3")
    assert (await finish(process)).status == 3
    assert is_cancelled(shell)


CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
AS_PROCESS_ONE = pytest.param(
    CONTAINER, marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs a namespace of processes")
)


@pytest.mark.cover_processes
@pytest.mark.sample
@pytest.mark.parametrize("launcher", [BLOCKING, AS_PROCESS_ONE])
async def test_sigterm_before_all_is_checked(shell: Shell, launcher: Sequence[str]) -> None:
    """Nothing is started, and nothing is cancelled."""
    shell.exchange.faults.add(Hang(tag="it"), operation="open-orders", times=None)
    process = await under(launcher, shell, "--", "echo", "started")
    await shell.exchange.until(lambda: "it" in shell.exchange.waiting, timeout=PATIENCE)
    os.kill(process.pid if launcher is BLOCKING else child_of(process.pid), signal.SIGTERM)
    ended = await finish(process)
    assert (ended.status, ended.out) == (128 + signal.SIGTERM, "")
    assert ended.err.endswith("SIGTERM came before all was checked; the command was not started\n")
    assert shell.exchange.operations("cancel-all") == []


def child_of(pid: int) -> int:
    """The only child of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii"))


# Stopped, and continued.


@pytest.mark.sample
@pytest.mark.parametrize("beats", [True, False])
async def test_the_guard_is_stopped_for_a_while(shell: Shell, beats: bool) -> None:
    """The strategy has beaten meanwhile, or stood still, too, as a whole container may."""
    script = f"""{BEATING}
sleep(4)
os.kill(guard, signal.SIGSTOP)
sleep(30, beats={beats})
os.kill(guard, signal.SIGCONT)
sleep(4, beats=False)
sleep(4)
"""
    process = await under((), shell, "--timeout", "1", "--", *python(script))
    ended = await finish(process)
    assert "the command ended with status 0" in ended.err
    assert ended.status == 0


# Its streams.

CLOSING = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")


async def test_closed_streams(shell: Shell) -> None:
    """No cancel is lost, and what the strategy prints goes into no connection of the guard's."""
    shell.exchange.faults.add(Hold(tag="cancel"), operation="cancel-all")
    process = await under(CLOSING, shell, "--", "sh", "-c", "echo noise; echo noise >&2; exit 3")
    await shell.exchange.until(lambda: "cancel" in shell.exchange.waiting, timeout=PATIENCE)
    shell.exchange.release("cancel")
    assert (await finish(process)).status == 3
    assert is_cancelled(shell)


async def test_nobody_reads_the_json(shell: Shell) -> None:
    """Its pipe is full, and stays so: the cancel goes out all the same, and the guard ends."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    process = await spawn(
        "guard", *shell.way(), *QUICK, "--json", "--", "sh", "-c", "exit 3", stdout=write
    )
    os.close(write)
    ended = await finish(process)
    os.close(read)
    assert ended.status == 3
    assert is_cancelled(shell)


# The service manager.


@asynccontextmanager
async def service_manager(address: str) -> AsyncIterator["asyncio.Queue[str]"]:
    """What a service manager hears."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(address.replace("@", "\0"))
        ours.setblocking(False)
        loop.add_reader(ours, lambda: heard.put_nowait(ours.recv(4096).decode()))
        yield heard
        loop.remove_reader(ours)


@pytest.mark.cover_processes
@pytest.mark.sample
@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_a_service_manager_is_told(shell: Shell, tmp_path: Path, kind: str) -> None:
    """Ready when the strategy runs, well while it has not stalled, stopping before the cancel."""
    address = f"@masscancel-{os.getpid()}" if kind == "abstract" else str(tmp_path / "notify")
    service = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000"}
    shell.exchange.faults.add(Hold(tag="check"), operation="open-orders")
    async with service_manager(address) as heard, asyncio.timeout(30):
        script = "env | grep -c -e NOTIFY -e WATCHDOG; read line; exit 3"
        arguments = ("guard", *shell.way(), *QUICK, "--", "sh", "-c", script)
        process = await spawn(*arguments, stdin=asyncio.subprocess.PIPE, env=service)
        await shell.exchange.until(lambda: "check" in shell.exchange.waiting, timeout=PATIENCE)
        assert heard.empty()
        shell.exchange.release("check")
        assert (await heard.get()).startswith("READY=1\nSTATUS=guarding cash")
        for _ in range(5):
            assert await heard.get() == "WATCHDOG=1"
        assert process.stdin is not None
        process.stdin.write(b"\n")
        while (line := await heard.get()) == "WATCHDOG=1":
            pass
        assert line.startswith("STOPPING=1\nSTATUS=cancelling cash")
        while (line := await heard.get()) == "WATCHDOG=1":
            pass
        assert line.startswith("STATUS=all confirmed flat: cash")
        ended = await finish(process)
    assert (ended.status, ended.out) == (3, "0\n")
    assert heard.empty()


async def test_a_watchdog_of_another_process(shell: Shell, tmp_path: Path) -> None:
    """One that was set for the process that started the guard is not the guard's."""
    address = str(tmp_path / "notify")
    service = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    async with service_manager(address) as heard:
        process = await spawn("guard", *shell.way(), *QUICK, "--", "sleep", "0.1", env=service)
        assert (await finish(process)).status == 0
        assert [heard.get_nowait().partition("=")[0] for _ in range(heard.qsize())] == [
            "READY",
            "STOPPING",
            "STATUS",
        ]


async def test_a_service_manager_that_has_gone(shell: Shell, tmp_path: Path) -> None:
    """Nobody hears it, and nothing is lost."""
    service = {"NOTIFY_SOCKET": str(tmp_path / "nowhere"), "WATCHDOG_USEC": "1000"}
    process = await spawn("guard", *shell.way(), *QUICK, "--", "sh", "-c", "exit 3", env=service)
    assert (await finish(process)).status == 3
    assert is_cancelled(shell)
