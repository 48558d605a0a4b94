"""What the tests of the command line share: running it here, and running it for real."""

import asyncio
import contextlib
import os
import pty
import signal
import sys
import termios
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import msgspec
import pytest

from masscancel.cli.app import run
from masscancel.sim import Account, SimulatedExchange
from support import SECRETS, account_of

#: What would put colour, or more, into a pipe.
_LOUD = ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "TTY_COMPATIBLE")
_PATIENCE = 30.0  # seconds, for a process that would never end


@dataclass
class Ended:
    """How a command ended. Whatever it printed, it is plain, on few lines, and holds no secret."""

    status: int
    out: str
    err: str

    def __post_init__(self) -> None:
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
        """The ``-o`` options that lead to the exchange."""
        settings = [
            f"rest_url={self.exchange.rest_url}",
            f"stream_url={self.exchange.stream_url}",
            *([f"account_group={self.account.group}"] if group else []),
        ]
        return [word for setting in settings for word in ("-o", setting)]

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
    stderr: int = PIPE,
    env: dict[str, str] | None = None,
) -> asyncio.subprocess.Process:
    """Start the command in a process of its own, as a user would, with its output in pipes."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "default::ResourceWarning", "-m", "masscancel", *arguments),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={name: value for name, value in os.environ.items() if name not in _LOUD} | (env or {}),
    )


async def finish(process: asyncio.subprocess.Process) -> Ended:
    """Wait for a process, and say how it ended."""
    async with asyncio.timeout(_PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, (out or b"").decode(), (err or b"").decode())


async def at_a_terminal(*arguments: str, answer: bytes | signal.Signals = b"") -> tuple[int, str]:
    """Run a command on a terminal, answer its question; its status, and what the terminal saw."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 80))
    process = await spawn(
        *arguments, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm-256color"}
    )
    os.close(theirs)
    loop = asyncio.get_running_loop()
    seen = b""
    with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
        while chunk := await loop.run_in_executor(None, os.read, ours, 65536):
            seen += chunk
            if answer and b"[y/N]" in seen:
                if isinstance(answer, signal.Signals):
                    process.send_signal(answer)
                else:
                    os.write(ours, answer)
                answer = b""
    os.close(ours)
    async with asyncio.timeout(_PATIENCE):
        return await process.wait(), seen.decode()


def columns(line: str) -> Sequence[str]:
    """The cells of a plain table's line."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]
