"""The command that ``guard`` runs: its process group, its beats, its signals, its end."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

from masscancel.beat import FD, PIPE, beat, identify

__all__ = ["Child"]

#: What the guard passes on; SIGHUP only if it is not to be ignored, as under ``nohup``.
FORWARDED: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
#: What would stop a guard that writes to, or is suspended from, a terminal it has given away.
_JOB_CONTROL: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
#: How long a group that is to end may take over SIGTERM, and then over SIGKILL. Seconds.
GRACE: Final = 1.0
_LOOK_AGAIN: Final = 0.02  # seconds


class Child:
    """A process that was started in a group of its own, and the pipe that it beats on.

    Takes the signals of this process over, for good: they are passed on while the child lives, and
    ignored from then on, so that nothing disturbs what follows its end.

    Args:
        command: the program and its arguments.

    Raises:
        OSError: it can't be started; then nothing was taken over.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._group: int | None = None
        self._early: list[int] = []
        self._has_terminal = False
        self._beats_from, beats_to = os.pipe()
        before = {number: signal.getsignal(number) for number in FORWARDED}
        try:
            os.set_blocking(self._beats_from, False)
            os.set_blocking(beats_to, False)
            for number, handler in before.items():
                if number != signal.SIGHUP or handler != signal.SIG_IGN:
                    signal.signal(number, self._forward)
            self._loop.add_signal_handler(signal.SIGCHLD, self._look)
            self._process = _start(command, beats_to)
        except OSError:
            os.close(self._beats_from)
            self._loop.remove_signal_handler(signal.SIGCHLD)
            for number, handler in before.items():
                signal.signal(number, handler)
            raise
        finally:
            os.close(beats_to)
        self._adopt()

    def _adopt(self) -> None:
        """It runs: let it have the terminal and what came for it meanwhile; listen to its beats."""
        self._group = self._process.pid
        for number in _JOB_CONTROL:
            signal.signal(number, signal.SIG_IGN)
        self._give_terminal()
        while self._early:
            self._send(self._early.pop(0))
        #: When it last beat, in the loop's time; to begin with, when it was started.
        self._beat_at = self._loop.time()
        #: Whether it ever has.
        self.has_beaten = False
        self._loop.add_reader(self._beats_from, self._read_beats)

    @property
    def status(self) -> int | None:
        """Its exit status, 128 + N if it died of signal N; ``None`` if it lives."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    @property
    def death(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode
        if code is None:
            return "could not be ended"
        if code >= 0:
            return f"ended with status {code}"
        name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
        return f"was ended by {name}"

    async def stay(self, timeout: float) -> bool:
        """Wait for its end as long as it beats at least every ``timeout`` seconds.

        Returns:
            Whether it has ended; false if it stalled.
        """
        while not self._ended.is_set():
            left = self._beat_at + timeout - self._loop.time()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._ended.wait()
        return True

    async def end(self) -> None:
        """End it, and whatever else is left of its group: SIGTERM, a short grace, SIGKILL.

        A stopped process is not continued: it dies of SIGKILL without a further word. Returns after
        two graces at the latest, even if something can't be killed.
        """
        if self._is_anybody_left():
            self._send(signal.SIGTERM)
        for _ in range(round(GRACE / _LOOK_AGAIN)):  # nobody tells of grandchildren's ends
            if not self._is_anybody_left():
                break
            await asyncio.sleep(_LOOK_AGAIN)
        self._send(signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._ended.wait()
        self._group = None
        self._loop.remove_reader(self._beats_from)
        os.close(self._beats_from)
        self._take_terminal()

    # Signals.

    def _forward(self, number: int, _: FrameType | None) -> None:
        if self._group is not None:
            self._send(number)
        else:
            self._early.append(number)  # not started yet, or ended: then nobody asks for them

    def _send(self, number: int) -> bool:
        """Send a signal to its group, 0 for none; whether there was anybody to take it."""
        if self._group is None:
            return False
        try:
            os.killpg(self._group, number)
        except (ProcessLookupError, PermissionError):  # macOS: the latter for zombies, too
            return False
        return True

    def _is_anybody_left(self) -> bool:
        """Whether its group has members, dead ones that nobody has reaped included."""
        if self._group is not None and self._ended.is_set():
            with suppress(ChildProcessError):  # where this is process 1, orphans become its own
                while os.waitpid(-self._group, os.WNOHANG)[0]:
                    pass
        return self._send(0)

    def _look(self) -> None:
        """Some child of this process has changed its state."""
        if self._process.poll() is not None:
            self._ended.set()

    # Beats.

    def _read_beats(self) -> None:
        try:
            beats = os.read(self._beats_from, 65536)
        except BlockingIOError:
            return
        if not beats:  # nobody has the other end any more: it may live, and can't beat
            self._loop.remove_reader(self._beats_from)
            return
        self._beat_at = self._loop.time()
        self.has_beaten = True
        beat()  # for a guard around this one

    # The terminal: its foreground group gets what is typed, Ctrl-C too.

    def _give_terminal(self) -> None:
        """If we have it, let the child read from it, and get its Ctrl-C directly."""
        assert self._group is not None  # noqa: S101  # for the type checker: it was just set
        with suppress(OSError):  # no terminal, or not ours
            if os.tcgetpgrp(0) == os.getpgrp():
                os.tcsetpgrp(0, self._group)
                self._has_terminal = True
                self._send(signal.SIGCONT)  # it may have read too early

    def _take_terminal(self) -> None:
        """Take it back, unless somebody else has taken it from the child."""
        if self._has_terminal:
            with suppress(OSError):
                if os.tcgetpgrp(0) == self._process.pid:
                    os.tcsetpgrp(0, os.getpgrp())


def _start(command: Sequence[str], beats_to: int) -> "subprocess.Popen[bytes]":
    variables = {FD: str(beats_to), PIPE: identify(os.fstat(beats_to))}
    return subprocess.Popen(  # noqa: S603  # to run what it is told is its job
        command, process_group=0, pass_fds=(beats_to,), env={**os.environ, **variables}
    )
