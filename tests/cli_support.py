"""What the tests of the command line share: running it here, and running it for real."""

import asyncio
import contextlib
import os
import pty
import signal
import sys
import termios
import threading
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import msgspec
import pytest

from masscancel.cli.app import run
from masscancel.sim import Account, SimulatedExchange
from support import SECRETS, account_of

T = TypeVar("T")

#: What would put colour, or more, into a pipe.
_LOUD = ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "TTY_COMPATIBLE")
#: How a line on standard error begins that is about the journal.
_JOURNAL = "masscancel: journal: "
PATIENCE = 30.0  # seconds, for a process that would never end


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # The tests run in the background, as of `make test &`; what they start does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def without_journal(err: str) -> str:
    """What a command said on standard error, but of its journal."""
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(_JOURNAL))


@dataclass
class Ended:
    """How a command ended. Whatever it printed, it is plain, on few lines, and holds no secret.

    What it said of its journal stands alone.
    """

    status: int
    out: str
    err: str
    journal: str = ""

    def __post_init__(self) -> None:
        lines = self.err.splitlines(keepends=True)
        self.journal = "".join(line for line in lines if line.startswith(_JOURNAL))
        self.err = without_journal(self.err)
        for text in (self.out, self.err):
            assert not any(secret in text for secret in SECRETS)
            assert "\x1b" not in text
            assert "Traceback" not in text
        assert self.err.count("\n") == (1 if self.err else 0), self.err

    @property
    def json(self) -> Any:
        """What it printed, which is one line of JSON."""
        assert self.out.count("\n") == 1
        return msgspec.json.decode(self.out)


def way_to(exchange: SimulatedExchange, group: int | None) -> list[str]:
    """The venue, and the ``-o`` options that lead to an exchange."""
    settings = [f"rest_url={exchange.rest_url}", f"stream_url={exchange.stream_url}"]
    if group is not None:
        settings.append(f"account_group={group}")
    return ["--venue", "ascendex", *(word for each in settings for word in ("-o", each))]


class Shell:
    """A shell with an account's credentials in its environment, and the way to its exchange."""

    def __init__(
        self,
        exchange: SimulatedExchange,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.exchange = exchange
        self.account: Account = account_of(exchange, 6)
        self._capsys = capsys
        for name in _LOUD:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("MASSCANCEL_API_KEY", self.account.api_key)
        monkeypatch.setenv("MASSCANCEL_API_SECRET", self.account.api_secret)

    def way(self, *, group: bool = True) -> list[str]:
        """The venue, and the ``-o`` options that lead to the exchange."""
        return way_to(self.exchange, self.account.group if group else None)

    async def call(self, *arguments: str) -> Ended:
        """Run a command in this process, beside the exchange."""
        self._capsys.readouterr()
        status = await asyncio.to_thread(run, arguments)
        return Ended(status, *self._capsys.readouterr())

    def open_orders(self, category: str) -> set[str]:
        """The symbols of the orders that are really open."""
        return {order.symbol for order in self.exchange.open_orders(self.account, category)}


async def spawn(
    *arguments: str,
    stdin: int = DEVNULL,
    stdout: int | IO[Any] = PIPE,
    stderr: int | IO[Any] = PIPE,
    env: dict[str, str] | None = None,
) -> asyncio.subprocess.Process:
    """Start the command in a process of its own, as a user would, with its output in pipes."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "default::ResourceWarning", "-m", "masscancel", *arguments),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=_environment(env or {}),
    )


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _LOUD} | more


async def finish(process: asyncio.subprocess.Process) -> Ended:
    """Wait for a process, and say how it ended."""
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, (out or b"").decode(), (err or b"").decode())


#: Takes the terminal on its standard input for its own, as a login shell's programs have it.
_TAKE_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
_TAKE_TERMINAL += "os.execvp(sys.argv[1], sys.argv[1:])"
#: A shell that runs a command in the foreground, and is used again afterwards.
_SHELL = '"$@"; echo "status $?"; read word; echo "again $word"'


async def at_a_terminal(
    *arguments: str,
    answer: bytes | signal.Signals = b"",
    when: bytes = b"[y/N]",
    typed: bytes = b"",
    in_shell: str = "",
) -> tuple[int, str]:
    """Run a command on a terminal; its status, and what the terminal saw.

    Args:
        arguments: the command.
        answer: what is typed, or sent to it, ...
        when: ... as soon as this was seen.
        typed: what is typed before it even runs.
        in_shell: start it from a shell, which says its status and then reads what is typed again;
            ``-m`` with job control, ``+m`` without, as from a script.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 80))
    modes = termios.tcgetattr(theirs)
    modes[3] |= termios.TOSTOP  # who writes from the background is stopped
    termios.tcsetattr(theirs, termios.TCSANOW, modes)
    command = ["sh", in_shell, "-c", _SHELL, "sh"] if in_shell else []
    command += [sys.executable, "-m", "masscancel", *arguments]
    answers = [(when, answer)] if answer else []
    if in_shell:
        answers.append((b"status ", b"more\n"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, *command),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=_environment({"TERM": "xterm-256color"}),
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, typed)
    loop = asyncio.get_running_loop()
    seen = b""
    with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
        while chunk := await loop.run_in_executor(None, os.read, ours, 65536):
            seen += chunk
            if answers and answers[0][0] in seen:
                _, what = answers.pop(0)
                if isinstance(what, signal.Signals):
                    process.send_signal(what)
                else:
                    os.write(ours, what)
    os.close(ours)
    async with asyncio.timeout(PATIENCE):
        return await process.wait(), seen.decode()


class ElsewhereExchange:
    """An exchange in a thread of its own, for commands that need this one: signals go there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.exchange = self._run(self._open())
        self.account: Account = self._run(self._make_account())

    async def _open(self) -> SimulatedExchange:
        return await SimulatedExchange().__aenter__()

    async def _make_account(self) -> Account:
        return account_of(self.exchange, 6)

    def close(self) -> None:
        """Close the exchange, then the thread."""
        self._run(self.exchange.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def ask(self, question: Callable[[SimulatedExchange], T]) -> T:
        """Ask the exchange, or tell it something, in its own thread."""

        async def answer() -> T:
            return question(self.exchange)

        return self._run(answer())

    @property
    def way(self) -> list[str]:
        """The venue, and the ``-o`` options that lead to it."""
        return way_to(self.exchange, self.account.group)


def columns(line: str) -> Sequence[str]:
    """The cells of a plain table's line."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]
