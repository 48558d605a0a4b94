"""``guard``: however its command ends, its orders are cancelled, and the status is as documented.

Where the signals of a real process matter, the guard is one; elsewhere it runs in this process, and
the exchange in a thread.
"""

import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cli_support import PATIENCE, Shell, at_a_terminal, finish, spawn, without_journal
from guard_here import QUICK, Here, guarding_here
from masscancel import FanOutReport
from masscancel.cli.status import GuardStatus, Status
from masscancel.protection.heartbeat import FD, PIPE, identify
from masscancel.protection.process import FORWARDED
from masscancel.sim import Answer, Hang, Hold, OnCancel, Script, SimulatedExchange, What

#: Beats without the library, which takes longer to import than some stalls here take.
BEAT = "import os; os.write(int(os.environ['MASSCANCEL_BEAT_FD']), b'.')\n"


@pytest.fixture
def shell(
    exchange: SimulatedExchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """A shell with an account's credentials."""
    return Shell(exchange, monkeypatch, capsys)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """The guard in this process."""
    with guarding_here(monkeypatch, capfd) as guarding:
        yield guarding


def is_cancelled(shell: Shell) -> bool:
    """Whether the exchange has cancelled everything in scope, and nothing else."""
    log = [each.what for each in shell.exchange.log]
    return (
        What.CANCEL_ALL_EFFECTIVE in log
        and shell.open_orders("cash") == set()
        and shell.open_orders("margin") == {"BTC/USDT", "ETH/USDT"}
    )


async def until_line(process: Process, words: bytes) -> bytes:
    """Read what it prints up to a line with these words; that line."""
    assert process.stdout is not None
    while words not in (line := await process.stdout.readline()):
        assert line, "it has ended"
    return line


# How the command ends, and what the guard then ends with.


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ("exit 0", 0, "ended with status 0"),
        ("exit 3", 3, "ended with status 3"),
        ("kill -KILL $$", 137, "was ended by SIGKILL"),
        ("kill -TERM $$", 143, "was ended by SIGTERM"),
    ],
)
def test_the_command_ends(here: Here, script: str, status: int, words: str) -> None:
    """Everything in scope is cancelled and confirmed, and the command's own status goes through."""
    ended = here.guard("--category", "cash", "--", "sh", "-c", script)
    assert (ended.status, ended.out) == (status, "")
    assert ended.err.startswith(
        f"masscancel: the command {words}; cash {here.who} confirmed flat in "
    )
    assert here.open_orders("cash") == set()
    assert here.open_orders("margin") == {"BTC/USDT", "ETH/USDT"}


def test_targets(here: Here) -> None:
    """Several scopes; options after the command are the command's own."""
    targets = ["--target", "margin", "--target", "cash:BTC/USDT"]
    ended = here.guard(*targets, "sh", "-c", "exit $#", "sh", "--timeout", "--", "x")
    assert ended.status == 3
    assert f"margin {here.who}, cash BTC/USDT {here.who} confirmed flat" in ended.err
    assert here.open_orders("margin") == set()
    assert here.open_orders("cash") == {"ETH/USDT"}
    assert here.open_orders("futures") == {"BTC-PERP", "ETH-PERP"}


def test_orders_that_fill_on_the_way_out(here: Here) -> None:
    """They are positions now: the line names them."""

    def fill_one(exchange: SimulatedExchange) -> str:
        order = exchange.place(
            here.account, "cash", "BTC/USDT", script=Script(on_cancel=OnCancel.FILL)
        )
        exchange.engine.effect_delay_ms = 150
        return order.order_id

    order_id = here.ask(fill_one)
    ended = here.guard("--", "true")
    assert ended.status == 0
    assert ended.err.endswith(f"; filled on the way out: {order_id}\n")


def test_a_command_that_is_not_there(here: Here) -> None:
    """As a shell has it: 127, or 126 where it can't be run; nothing is cancelled then."""
    handlers = [signal.getsignal(number) for number in FORWARDED]
    for program, status in (
        ("/no/such/program", GuardStatus.NOT_FOUND),
        ("/", GuardStatus.NO_EXEC),
    ):
        ended = here.guard("--", program)
        assert ended.status == status
        assert ended.err.startswith(f"masscancel: {program}: ")
        assert ended.err.endswith("; the command was not started\n")
    assert here.operations("cancel-all") == 0
    assert [signal.getsignal(number) for number in FORWARDED] == handlers


# What is wrong is seen before the command is started.


@pytest.mark.parametrize(
    ("spoil", "arguments", "status"),
    [
        ("secret", (), Status.DENIED),
        ("listing", ("--cancel-timeout", "0.4"), Status.NOT_SENT),
        ("", ("--symbol", "BTCUSDT"), Status.USAGE),
        ("", ("--no-check", "--symbol", "BTCUSDT"), Status.USAGE),
        ("", ("--settle", "10"), Status.USAGE),
    ],
)
def test_what_is_wrong_from_the_start(
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    spoil: str,
    arguments: Sequence[str],
    status: Status,
) -> None:
    """A wrong key, an exchange that does not answer, a bad scope: the command is not started."""
    if spoil == "secret":
        monkeypatch.setenv("MASSCANCEL_API_SECRET", here.account.api_secret + "x")
    if spoil == "listing":
        here.ask(lambda it: it.faults.add(Hang(), operation="open-orders", times=None))
    ended = here.guard(*arguments, "--", "echo", "started")
    assert (ended.status, ended.out) == (status, "")
    assert ended.err.endswith("; the command was not started\n")
    assert here.operations("cancel-all") == 0


def test_no_check(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a wrong key shows only when it is needed, with the status for that."""
    monkeypatch.setenv("MASSCANCEL_API_SECRET", here.account.api_secret + "x")
    status, err = raw(here, "--no-check", "--", "true")
    assert status == GuardStatus.NOT_FLAT
    assert "check the API key and secret" in err
    assert "the command ended with status 0; NOT confirmed flat: cash" in err
    assert here.account.api_secret not in err
    assert here.operations("open-orders") == 0


def raw(here: Here, *arguments: str) -> tuple[int, str]:
    """The guard's status and what it said, on as many lines as it takes, but of its journal."""
    status, _, err = here.raw(*arguments)
    return status, without_journal(err)


# The cancel fails, although the command ended well.


def test_not_flat(here: Here) -> None:
    """What is still open is named, as far as a terminal can take it; the status tells."""

    def stay(exchange: SimulatedExchange) -> None:
        for _ in range(22):
            script = Script(on_cancel=OnCancel.IGNORE)
            exchange.place(here.account, "cash", "BTC/USDT", script=script)

    here.ask(stay)
    status, err = raw(here, "--cancel-timeout", "0.5", "--", "true")
    assert status == GuardStatus.NOT_FLAT
    lines = err.splitlines()
    assert "22 orders are still open" in lines[0]
    assert len(lines) == 1 + 20 + 2
    assert lines[1].startswith("masscancel: still open: buy 1 BTC/USDT at 1, id ")
    assert "and 2 more" in lines[-2]
    assert lines[-1].endswith(f"ended with status 0; NOT confirmed flat: cash {here.who}")


def test_a_refused_cancel(here: Here) -> None:
    """One that is refused for good is no different; the other target is confirmed all the same."""
    no = Answer(403, b'{"code":200015}')
    here.ask(lambda it: it.faults.add(no, operation="cancel-all", path="cash", times=None))
    status, err = raw(here, "--target", "cash", "--target", "margin", "--", "sh", "-c", "exit 3")
    assert status == GuardStatus.NOT_FLAT
    assert err.endswith(f"ended with status 3; NOT confirmed flat: cash {here.who}\n")
    assert here.open_orders("margin") == set()


def test_a_bug_does_not_pass_for_success(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the command was started, what nobody thought of has that status, too."""

    async def broken(*_: Any) -> FanOutReport:
        raise KeyError(here.account.api_secret)

    monkeypatch.setattr("masscancel.cli.guard._cancel", broken)
    ended = here.guard("--", "true")
    assert ended.status == GuardStatus.NOT_FLAT
    assert "unexpected KeyError" in ended.err
    assert "NOT confirmed flat: list the open orders" in ended.err


@pytest.mark.filterwarnings("ignore:subprocess .* is still running")
def test_a_command_that_can_not_be_ended(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """The orders are cancelled nevertheless; that it lives is said, and shows in the status."""

    def refuse(_group: int, _number: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", refuse)
        patch.setattr(os, "kill", refuse)
        script = "echo $$ >&2; exec sleep 60"
        status, err = raw(here, "--timeout", "0.5", "--", "sh", "-c", script)
    pid, words = err.split("\n", 1)
    os.kill(int(pid), signal.SIGKILL)
    os.waitpid(int(pid), 0)
    assert status == GuardStatus.NOT_FLAT
    assert "left behind by the command: process " in words
    stalled = "stalled: it never beat for 0.5 s, and could not be ended"
    assert f"{stalled}; cash {here.who} confirmed flat" in words
    assert here.open_orders("cash") == set()


# Beats.


def test_the_library_beats(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """``beat()`` in the command reaches the guard, and a guard around this one, too."""
    read, write = os.pipe()
    monkeypatch.setenv(FD, str(write))
    monkeypatch.setenv(PIPE, identify(os.fstat(write)))
    script = "from masscancel import beat; raise SystemExit(0 if beat() else 9)"
    assert here.guard("--", sys.executable, "-c", script).status == 0
    os.close(write)
    assert os.read(read, 10) == b"."
    os.close(read)


def test_inf_is_for_commands_that_can_not_beat(here: Here) -> None:
    """Only the end of such a command counts."""
    assert here.guard("--timeout", "inf", "--", "true").status == 0


@pytest.mark.sample("words")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import time; time.sleep(60)", "never beat for 0.6 s, and was ended by SIGTERM"),
        (
            BEAT + "import time; time.sleep(60)",
            "stopped beating for 0.6 s, and was ended by SIGTERM",
        ),
        (
            BEAT + "os.kill(0, 19)",  # SIGSTOP to all of its group
            "stopped beating for 0.6 s, and was ended by SIGKILL",
        ),
        (
            "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)",
            "never beat for 0.6 s, and was ended by SIGKILL",
        ),
        (
            "import os, time; os.close(int(os.environ['MASSCANCEL_BEAT_FD'])); time.sleep(60)",
            "never beat for 0.6 s, and was ended by SIGTERM",
        ),
    ],
)
def test_a_stall(here: Here, script: str, words: str) -> None:
    """It is ended, whatever it does about it, then everything is cancelled."""
    ended = here.guard("--timeout", "0.6", "--", sys.executable, "-I", "-S", "-c", script)
    assert ended.status == GuardStatus.STALLED
    assert f"the command stalled: it {words}; cash {here.who} confirmed flat" in ended.err
    assert here.open_orders("cash") == set()


def test_beats_keep_it_alive(here: Here) -> None:
    """For longer than the time after which it would have stalled."""
    script = "import os, time\nfor _ in range(22):\n  time.sleep(0.05)\n"
    script += "  os.write(int(os.environ['MASSCANCEL_BEAT_FD']), b'.')\n"
    ended = here.guard("--timeout", "1", "--", sys.executable, "-I", "-S", "-c", script)
    assert ended.status == 0


# Signals.


def test_nohup(here: Here) -> None:
    """A hangup that is to be ignored is not passed on; an interrupt is, even in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    script = "import os, signal, sys\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(9))\n"
    script += "for number in (signal.SIGHUP, signal.SIGINT): os.kill(os.getppid(), number)\n"
    script += "while True: signal.pause()\n"
    assert here.guard("--", sys.executable, "-I", "-S", "-c", script).status == 9


@pytest.mark.cover_processes
@pytest.mark.asyncio
@pytest.mark.sample
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_one_signal(shell: Shell, number: signal.Signals) -> None:
    """It reaches the command, which dies of it; then everything is cancelled."""
    process = await spawn("guard", *shell.way(), *QUICK, "--", "sh", "-c", "echo up; exec sleep 60")
    await until_line(process, b"up")
    process.send_signal(number)
    ended = await finish(process)
    assert ended.status == 128 + number
    assert f"was ended by {number.name}" in ended.err
    assert is_cancelled(shell)


COUNTING = (
    "import os, signal, sys, time\n"
    "came = []\n"
    "def note(number, _):\n"
    "    came.append(number)\n"
    "    os.write(1, b'came %d: %d\\n' % (len(came), number))\n"
    "for number in (1, 2, 15):\n"
    "    signal.signal(number, note)\n"
    "os.write(1, b'up %d\\n' % os.getpid())\n"
    "while len(came) < 2:\n"
    "    time.sleep(0.01)\n"
    "sys.exit(len(came))\n"
)


@pytest.mark.sample
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)]
)
async def test_two_signals(shell: Shell, numbers: Sequence[signal.Signals]) -> None:
    """Each is passed on once; the command, not the guard, decides what they mean."""
    process = await spawn(
        "guard", *shell.way(), *QUICK, "--", sys.executable, "-I", "-S", "-c", COUNTING
    )
    await until_line(process, b"up")
    for count, number in enumerate(numbers, 1):
        process.send_signal(number)
        assert await until_line(process, b"came") == b"came %d: %d\n" % (count, number)
    ended = await finish(process)
    assert (ended.status, ended.out) == (2, "")
    assert is_cancelled(shell)


@pytest.mark.asyncio
async def test_signals_while_it_cancels(shell: Shell, tmp_path: Path) -> None:
    """By then the whole group is dead, and nothing disturbs the cancel."""
    held = tmp_path / "held"  # open for as long as any process of the group lives
    os.mkfifo(held)
    end = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    shell.exchange.faults.add(Hold(tag="cancel"), operation="cancel-all")
    script = f"exec 3>{held}; echo up >&3; sleep 60 & kill -KILL $$"
    process = await spawn("guard", *shell.way(), *QUICK, "--", "sh", "-c", script)
    await shell.exchange.until(lambda: "cancel" in shell.exchange.waiting, timeout=PATIENCE)
    assert [os.read(end, 10), os.read(end, 10)] == [b"up\n", b""]
    os.close(end)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        process.send_signal(number)
    shell.exchange.release("cancel")
    ended = await finish(process)
    assert ended.status == 137
    assert is_cancelled(shell)


@pytest.mark.adversity
@pytest.mark.asyncio
async def test_nobody_takes_what_it_says(shell: Shell) -> None:
    """Its standard error has gone, as with a ``tee`` that Ctrl-C has ended: no cancel is lost."""
    read, write = os.pipe()
    os.close(read)
    process = await spawn("guard", *shell.way(), *QUICK, "--", "sh", "-c", "exit 3", stderr=write)
    os.close(write)
    assert (await finish(process)).status == 3
    assert is_cancelled(shell)


@pytest.mark.asyncio
async def test_ctrl_c_before_it_has_started(shell: Shell) -> None:
    """Nothing was started, and nothing is cancelled."""
    shell.exchange.faults.add(Hang(tag="it"), operation="open-orders", times=None)
    process = await spawn("guard", *shell.way(), *QUICK, "--", "echo", "started")
    await shell.exchange.until(lambda: "it" in shell.exchange.waiting, timeout=PATIENCE)
    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert (ended.status, ended.out) == (Status.INTERRUPTED, "")
    assert ended.err == "masscancel: interrupted; nothing was sent\n"
    assert shell.exchange.operations("cancel-all") == []


# At a terminal.


@pytest.mark.sample
@pytest.mark.asyncio
@pytest.mark.parametrize("in_shell", ["-m", "", "+m"])
async def test_ctrl_c_at_a_terminal(shell: Shell, in_shell: str) -> None:
    """The command reads what is typed, and Ctrl-C is its own; then everything is cancelled.

    The shell that the guard was started from has its terminal back afterwards.
    """
    script = "read word; echo said $word; exec sleep 60"
    status, seen = await at_a_terminal(
        *("guard", *shell.way(), *QUICK, "--", "sh", "-c", script),
        typed=b"hello\n",
        when=b"said hello",
        answer=b"\x03",
        in_shell=in_shell,
    )
    if in_shell:
        assert status == 0
        assert "status 130" in seen
        assert "again more" in seen
    else:
        assert status == 128 + signal.SIGINT
    assert "was ended by SIGINT" in seen
    assert "interrupted" not in seen
    assert not any(secret in seen for secret in (shell.account.api_key, shell.account.api_secret))
    assert is_cancelled(shell)


@pytest.mark.asyncio
async def test_ctrl_c_at_a_terminal_that_the_command_ignores(shell: Shell) -> None:
    """It gets it once, and goes on, until it stalls."""
    script = "trap 'echo came' INT; echo up; while :; do sleep 0.02; done"
    guard = ["guard", *shell.way(), *QUICK, "--timeout", "2", "--", "sh", "-c", script]
    status, seen = await at_a_terminal(*guard, when=b"up", answer=b"\x03")
    assert status == GuardStatus.STALLED
    assert seen.count("came") == 1
    assert is_cancelled(shell)
