"""What is said while a command works: progress on a terminal, the log with ``-v``, else nothing."""

import asyncio
import logging
import signal
import time

import msgspec
import pytest

from cli_support import at_a_terminal, spawn
from masscancel.calls import Scope
from masscancel.cli.app import run
from masscancel.cli.progress import Progress
from masscancel.cli.status import Known, Status
from masscancel.events import AttemptEnded, AttemptSent, CallStarted
from masscancel.sim import Drop, SimulatedExchange
from operator_support import NOWHERE, Operator

CASH = ("--category", "cash")
DEAD = ("cancel", *NOWHERE, *CASH, "--yes")


@pytest.fixture
def operator(
    exchange: SimulatedExchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Operator:
    """An operator with an account's key."""
    return Operator(exchange, monkeypatch, capsys)


def sent(attempt: int, *, call: str = "a", cancels: bool = True) -> AttemptSent:
    """An attempt that leaves."""
    return AttemptSent(
        call_id=call, attempt=attempt, path="rest", origin="", cancels=cancels, sent_at_ms=0
    )


def ended(attempt: int, fate: str, *, call: str = "a") -> AttemptEnded:
    """An attempt that ends."""
    common = {"path": "rest", "origin": "", "cancels": True, "elapsed": 0.0}
    return msgspec.convert(
        {"type": "AttemptEnded", "call_id": call, "attempt": attempt, "fate": fate, **common},
        AttemptEnded,
    )


def test_the_line_counts_attempts() -> None:
    """How many, what became of the last one, and how much time is left."""
    progress = Progress("cancelling", time.monotonic() + 4.2)
    assert str(progress) == "cancelling: connecting, 4 s left"
    progress.note(sent(1))
    assert str(progress) == "cancelling: attempt 1, under way, 4 s left"
    progress.note(ended(1, "unknown"))
    progress.note(ended(2, "not sent"))  # it never left
    assert str(progress) == "cancelling: attempt 2, not sent, 4 s left"
    assert "0 s left" in str(Progress("listing", time.monotonic() - 9))


@pytest.mark.cover_processes
@pytest.mark.asyncio
async def test_at_a_terminal(operator: Operator) -> None:
    """It moves while the host is not there, and is gone at the end."""
    status, seen = await at_a_terminal(*DEAD, "--timeout", "1.5")
    assert status == Status.NOT_SENT
    assert "cancelling: attempt " in seen
    assert "not sent, 1 s left" in seen
    assert "cancelling" not in seen[seen.index("the venue said") :]


@pytest.mark.asyncio
async def test_quiet_in_a_pipe(operator: Operator) -> None:
    """Nothing moves where nobody watches."""
    ran = await operator.run(*DEAD, "--timeout", "0.6")
    assert ran.status == Status.NOT_SENT
    assert "cancelling" not in ran.out + ran.err


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("before", "after", "info", "debug"),
    [
        ((), (), False, False),
        ((), ("-v",), True, False),
        (("-v",), (), True, False),
        (("--verbose",), ("--log-level", "warning"), True, False),
        ((), ("-vv",), True, True),
        (("-vv",), ("-v",), True, True),
        (("--log-level", "DEBUG"), (), True, True),
        ((), ("--log-level", "error"), False, False),
    ],
)
async def test_the_log(
    operator: Operator, before: tuple[str, ...], after: tuple[str, ...], info: bool, debug: bool
) -> None:
    """It goes to standard error, before or behind the command; ``-vv`` tells of each attempt."""
    ran = await operator.run(*before, "cancel", *CASH, "--yes", *operator.way, *after)
    assert ran.status == Status.DONE
    assert ("INFO cancel_all cash on ascendex" in ran.err) == info
    assert ("DEBUG AttemptSent(" in ran.err) == debug
    assert "INFO" not in ran.out
    again = await operator.run("orders", *CASH, *operator.way)
    assert again.err == ""  # the next command is as quiet as ever
    assert not logging.getLogger("masscancel").handlers


@pytest.mark.asyncio
@pytest.mark.parametrize("command", ["orders", "venues"])
async def test_every_command_can_be_verbose(operator: Operator, command: str) -> None:
    """Those that send nothing take the option as well."""
    more = [*CASH, *operator.way] if command == "orders" else []
    assert (await operator.run(command, "-v", *more)).status == Status.DONE


@pytest.mark.asyncio
async def test_a_failure_is_said_once(operator: Operator) -> None:
    """The library logs it, too: without ``-v`` that is not printed beside the error itself."""
    operator.exchange.faults.add(Drop(executed=True), operation="cancel-all", times=None)
    ran = await operator.run("cancel", *CASH, "--yes", "--timeout", "0.3", *operator.way)
    assert ran.status == Status.UNKNOWN
    assert ran.err.count("\n") == 1


@pytest.mark.adversity
@pytest.mark.asyncio
async def test_ctrl_c_while_nothing_was_sent() -> None:
    """Each attempt was refused a connection: that is known, and said."""
    process = await spawn(
        *("-vv", *DEAD, "--timeout", "60"),
        env={"MASSCANCEL_API_KEY": "key", "MASSCANCEL_API_SECRET": "hush-hush"},
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while b"not sent" not in (line := await process.stderr.readline()):
            assert line, "it ended"
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == Status.INTERRUPTED
    assert err.decode().splitlines()[-1] == "masscancel: interrupted; nothing was sent"
    assert "not sent" in out.decode()


@pytest.mark.parametrize(
    ("fates", "words", "may_have_executed"),
    [
        ([], "nothing was sent", False),
        (["not sent", "not sent"], "nothing was sent", False),
        (["refused"], "the venue refused what was sent", False),
        (["not sent", "unknown"], "may have been carried out", True),
        (["refused", ""], "may have been carried out", True),
        (["answered"], "the venue has acknowledged what was sent", True),
        (["answered", "open"], "may have been carried out", True),
    ],
)
def test_what_is_known_by_the_events(fates: list[str], words: str, may_have_executed: bool) -> None:
    """An attempt that left and has not ended is not known; a listing is none that matters."""
    known = Known()
    scope = Scope("cash")
    known.note(CallStarted(
        call_id="a", name="cancel_all", venue="", account="", scope=scope, timeout=1.0
    ))  # fmt: skip
    known.note(sent(99, cancels=False))
    for number, fate in enumerate(fates, start=1):
        known.note(sent(number))
        if fate:
            known.note(ended(number, fate))
    assert words in known.words
    assert known.may_have_executed == may_have_executed
    assert known.has_sent(scope) == may_have_executed
    assert not known.has_sent(Scope("margin"))


def test_what_a_command_says_itself_goes_before_events() -> None:
    """It knows better."""
    known = Known()
    known.sending()
    assert (known.may_have_executed, "may have been" in known.words) == (True, True)
    known.done("all is well")
    known.note(sent(1))
    assert (known.may_have_executed, known.words) == (False, "all is well")


def test_the_log_cannot_be_broken_out_of(capsys: pytest.CaptureFixture[str]) -> None:
    """A peer's line break, or what turns a line around, is escaped there, too."""
    from masscancel.cli import verbosity

    with verbosity.quiet():
        verbosity.speak(1, None)
        logging.getLogger("masscancel").info("a\u202eb\nc\x1b[0m")
    assert capsys.readouterr().err.endswith("INFO a\\u202eb c\\x1b[0m\n")


def test_an_unknown_level(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a usage error."""
    assert run(["venues", "--log-level", "loud"]) == Status.USAGE
    assert "--log-level" in capsys.readouterr().err
