"""The command that ``guard`` runs: its process group, its beats, its signals, its end."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress
from types import FrameType
from typing import Final, Literal

import msgspec

from masscancel.protection.descendants import Descendant, adopt_orphans, descendants, reap
from masscancel.protection.heartbeat import FD, PIPE, beat, identify

__all__ = ["FORWARDED", "Child", "LeftBehind"]

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
#: How long what is to end may take over SIGTERM, and then over SIGKILL. Seconds.
GRACE: Final = 1.0
_LOOK_AGAIN: Final = 0.02  # seconds
#: How often to look whether it has ended, even if nobody says so. Seconds.
_TICK: Final = 0.5


class LeftBehind(msgspec.Struct, frozen=True):
    """A process that the command started, and that lived on when the command's group had ended.

    Attributes:
        pid: its process id.
        command: its command line; ``?`` if that could not be read.
        fate: ``"ended"``; ``"left alone"``, as was asked for; or ``"could not be ended"``.
    """

    pid: int
    command: str
    fate: Literal["ended", "left alone", "could not be ended"]


class Child:
    """A process that was started in a group of its own, and the pipe that it beats on.

    Takes the signals of this process over, for good: they are passed on while the child lives, and
    ignored from then on, so that nothing disturbs what follows its end. None stays blocked, here
    or there. Adopts what the child leaves behind, where the system has that.

    Args:
        command: the program and its arguments.
        without: the names of environment variables that it does not inherit.
        stdout: the file descriptor of its standard output; ``None`` for this process's own.

    Raises:
        OSError: it can't be started; then nothing was taken over.
    """

    def __init__(
        self, command: Sequence[str], *, without: Collection[str] = (), stdout: int | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._group: int | None = None
        self._early: list[int] = []
        self._has_terminal = False
        self._left_behind: dict[tuple[int, int], LeftBehind] = {}
        #: When it last beat, in the loop's time; to begin with, when it was started.
        self._beat_at = self._loop.time()
        #: Whether it ever has.
        self.has_beaten = False
        self._beats_from, beats_to = os.pipe()
        before = {number: signal.getsignal(number) for number in FORWARDED}
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        adopt_orphans()
        self._bystanders = frozenset(each.key for each in descendants())
        try:
            os.set_blocking(self._beats_from, False)
            os.set_blocking(beats_to, False)
            for number, handler in before.items():
                if number != signal.SIGHUP or handler != signal.SIG_IGN:
                    signal.signal(number, self._forward)
            self._loop.add_signal_handler(signal.SIGCHLD, self._look)
            self._loop.add_reader(self._beats_from, self._read_beats)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the child inherits it
            self._process = _start(command, beats_to, without, stdout)
        except OSError:
            self._loop.remove_reader(self._beats_from)
            os.close(self._beats_from)
            self._loop.remove_signal_handler(signal.SIGCHLD)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for number, handler in before.items():
                signal.signal(number, handler)
            raise
        finally:
            os.close(beats_to)
        self._adopt()

    def _adopt(self) -> None:
        """Let the running child have the terminal, and the signals that came for it meanwhile."""
        self._group = self._process.pid
        for number in _JOB_CONTROL:
            signal.signal(number, signal.SIG_IGN)
        self._give_terminal()
        while self._early:
            self._send(self._early.pop(0))
        self._beat_at = self._loop.time()

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status of the child, 128 + N if signal N ended it; ``None`` if it lives."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    @property
    def death(self) -> str:
        """The end of the child, in words."""
        code = self._process.returncode
        if code is None:
            return "could not be ended"
        if code >= 0:
            return f"ended with status {code}"
        name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
        return f"was ended by {name}"

    @property
    def left_behind(self) -> Sequence[LeftBehind]:
        """The processes that the child left behind; known when it was ended."""
        return [*self._left_behind.values()]

    async def stay(self, timeout: float) -> bool:
        """Wait for its end as long as it beats at least every ``timeout`` seconds.

        Time in which this process was stopped does not count: the child may have been, too.

        Returns:
            Whether it has ended; false if it stalled.
        """
        while not self._ended.is_set():
            now = self._loop.time()
            left = self._beat_at + timeout - now
            if left <= 0:
                return False
            pause = min(left, _TICK)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ended.wait()
            self._look()
            over = self._loop.time() - now - pause
            if over > _TICK:
                self._beat_at = min(self._beat_at + over, self._loop.time())
            self._read_beats()  # those that have come meanwhile count, late as they are read
        return True

    async def end(self, *, leave_descendants: bool = False) -> None:
        """End it, and whatever else is left of its group: SIGTERM, a short grace, SIGKILL.

        Then in the same way what it started outside of its group. A stopped process is not
        continued: it dies of SIGKILL without a further word. Returns after four graces at the
        latest, even if something can't be killed.

        Args:
            leave_descendants: find what is outside of its group, and leave it alone.
        """
        try:
            await self._end_group()
            await self._end_descendants(leave=leave_descendants)
        finally:
            self._group = None
            self._loop.remove_reader(self._beats_from)
            os.close(self._beats_from)
            self._take_terminal()

    async def _end_group(self) -> None:
        if self._is_anybody_left():
            self._send(signal.SIGTERM)
        for _ in range(round(GRACE / _LOOK_AGAIN)):  # nobody tells of grandchildren's ends
            if not self._is_anybody_left():
                break
            await asyncio.sleep(_LOOK_AGAIN)
        else:
            self._send(signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                while not self._ended.is_set():
                    await asyncio.sleep(_LOOK_AGAIN)
                    self._look()

    # What it leaves behind.

    async def _end_descendants(self, *, leave: bool) -> None:
        """End what has left the group, and once more what is still in it, process by process."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            until = self._loop.time() + GRACE
            told: set[tuple[int, int]] = set()
            while (found := self._find(leave=leave)) and self._loop.time() < until:
                for each in found:
                    if each.key not in told:
                        if each.group != self._group:
                            self._note(each, "ended")
                        told.add(each.key)
                        with suppress(ProcessLookupError, PermissionError):
                            os.kill(each.pid, number)
                await asyncio.sleep(_LOOK_AGAIN)
                self._look()
        for each in self._find():
            is_left = leave and each.group != self._group
            self._note(each, "left alone" if is_left else "could not be ended")

    def _find(self, *, leave: bool = False) -> list[Descendant]:
        """List the descendants through the child; of its group only, if told to leave others.

        Looks twice before there is nothing: what changes its parent meanwhile may be missed.
        """
        found = descendants(apart_from=self._bystanders)
        found = found or descendants(apart_from=self._bystanders)
        return [each for each in found if not leave or each.group == self._group]

    def _note(
        self, each: Descendant, fate: Literal["ended", "left alone", "could not be ended"]
    ) -> None:
        known = self._left_behind.get(each.key)
        command = each.command if known is None else known.command
        self._left_behind[each.key] = LeftBehind(each.pid, command, fate)

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
        """Whether the child's group has members, dead ones that nobody has reaped included."""
        self._look()
        return self._send(0)

    def _look(self) -> None:
        """Some child of this process may have ended."""
        reap(self._process.pid, self._process.poll)
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


def _start(
    command: Sequence[str], beats_to: int, without: Collection[str], stdout: int | None
) -> "subprocess.Popen[bytes]":
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    variables = {FD: str(beats_to), PIPE: identify(os.fstat(beats_to))}
    return subprocess.Popen(  # noqa: S603  # to run what it is told is its job
        command,
        process_group=0,
        pass_fds=(beats_to,),
        stdout=stdout,
        env={**inherited, **variables},
    )
