"""``--on-fire``: what is run, or told, when a command has cancelled. Never before; never for long.

An action is a command, which reads the outcome as JSON on its standard input, or a URL, which is
sent it. Whatever becomes of an action is said, and changes nothing: neither the cancel nor the exit
status.
"""

import ipaddress
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from masscancel.arguments import check_timeout
from masscancel.cli.render import complain
from masscancel.errors import ConfigurationError

__all__ = ["VARIABLE", "OnFire", "OnFireTimeout", "actions_of", "check_actions", "fire"]

#: An action where no option names one: a webhook's URL is a secret, and options are in lists of
#: processes.
VARIABLE: Final = "MASSCANCEL_ON_FIRE"

OnFire = Annotated[
    list[str] | None,
    typer.Option(
        "--on-fire",
        metavar="COMMAND|URL",
        help="Afterwards, run this with the outcome as JSON on its standard input, or POST it to "
        "this https:// URL. Once for each.",
        show_default=f"${VARIABLE}",
    ),
]
OnFireTimeout = Annotated[
    float,
    typer.Option("--on-fire-timeout", metavar="SECONDS", help="For what --on-fire says."),
]

_STDERR: Final = 2
#: What a command inherits, and nothing else: keys are in variables of any name.
_INHERITED: Final = {
    *("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR"),
    *("TZ", "USER", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"),
}
_MOMENT: Final = 0.5  # seconds, for a command that is killed, beyond the time for all


def actions_of(given: Sequence[str] | None) -> tuple[str, ...]:
    """The actions that the options or the environment name."""
    return (*given,) if given else tuple(filter(None, (os.environ.get(VARIABLE),)))


def check_actions(actions: Iterable[str], timeout: float) -> None:
    """Check that actions can be understood. No message repeats what is secret in them.

    Raises:
        ConfigurationError: one can't, or the timeout is no positive number.
    """
    check_timeout(timeout)
    for action in actions:
        _shown(action)


def fire(actions: Sequence[str], document: Mapping[str, Any], *, by: str, timeout: float) -> None:
    """Do all actions, side by side, and say what failed. Never raises.

    Args:
        actions: commands and URLs.
        document: the outcome, as plain data for JSON.
        by: the command that has cancelled.
        timeout: seconds from now, after which nothing is waited for.
    """
    common = {"event": "fired", "by": by, "time_ms": time.time_ns() // 1_000_000}
    here = {"host": os.uname().nodename, "pid": os.getpid()}
    text = json.dumps({**common, **here, **document}, default=str).encode()
    problems: dict[int, str] = dict.fromkeys(range(len(actions)), f"not done within {timeout:g} s")

    def do(number: int, action: str) -> None:
        try:
            act = _post if _is_url(action) else _run
            problems[number] = act(action, text, timeout)
        except ConfigurationError as error:
            problems[number] = error.message.removeprefix("--on-fire ")
        except Exception as problem:  # noqa: BLE001  # its words may repeat what is secret
            problems[number] = f"unexpected {type(problem).__name__}"

    threads = [
        threading.Thread(target=do, args=each, name="on-fire", daemon=True)
        for each in enumerate(actions)
    ]
    until = time.monotonic() + timeout + _MOMENT
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
    except (KeyboardInterrupt, RuntimeError):  # the latter where there can be no more threads
        pass
    for number, problem in [*problems.items()]:
        name = "?"
        with suppress(ConfigurationError):
            name = _shown(actions[number])
        if problem:
            complain(f"--on-fire {name}: {problem}; what was cancelled stays as said")


def _is_url(action: str) -> bool:
    return action.lower().startswith(("https://", "http://"))


def _shown(action: str) -> str:
    """An action without what may be secret in it: the host, or the program.

    Raises:
        ConfigurationError: it is neither a URL to use, nor a command.
    """
    return _host(action) if _is_url(action) else _words(action)[0]


def _words(action: str) -> list[str]:
    """The words of a command, as a shell would split them.

    Raises:
        ConfigurationError: there is none, or a quotation does not end.
    """
    try:
        words = shlex.split(action)
    except ValueError as problem:
        raise ConfigurationError(f"--on-fire takes a command as a shell does: {problem}") from None
    if not words:
        raise ConfigurationError("--on-fire takes a command or an https:// URL")
    return words


def _host(action: str) -> str:
    """The host of a URL.

    Raises:
        ConfigurationError: the URL has none, or a password, or would be sent in clear text.
    """
    try:
        parts = urlsplit(action)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or "@" in parts.netloc:
        raise ConfigurationError(
            "--on-fire takes a URL such as https://host/path, without a user name or a password"
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigurationError(
            f"--on-fire would tell {host} in clear text: use https:// (http:// is for loopback "
            "addresses such as 127.0.0.1)"
        )
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _run(action: str, text: bytes, timeout: float) -> str:
    """Run a command, in a session of its own; why it failed, ``""`` if it did not."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith("LC_")
    }
    output = subprocess.DEVNULL if sys.stderr is None else _STDERR
    try:
        process = subprocess.Popen(  # noqa: S603  # to run what it is told is its job
            _words(action),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return error.strerror or type(error).__name__
    try:
        process.communicate(text, timeout)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"ended, since it took longer than {timeout:g} s"
    return f"ended with status {process.returncode}" if process.returncode else ""


def _post(action: str, text: bytes, timeout: float) -> str:
    """Send to a URL; why that failed, ``""`` if it did not."""
    _host(action)
    tell = import_module("masscancel.cli.webhook").tell  # no kill waits for what it loads
    answer: str = tell(action, text, timeout)
    return answer
