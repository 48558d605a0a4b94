"""Cancel on exit, with real signals sent to real processes.

Each child is a strategy (guard_child.py); the exchange is here, and its effects lag behind its
acks. Whatever ends the child, the exchange's log shows the cancel, and the child's status is what
it would have been without the guard.
"""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from msgspec import Struct

from masscancel.sim import Hold, SimulatedExchange, What
from support import SECRETS, account_of

CHILD = Path(__file__).parent.parent / "guard_child.py"
RUNNERS = ("asyncio", "uvloop")

INT, TERM = signal.SIGINT, signal.SIGTERM


class Ended(Struct):
    """How a child ended: its status, what it said, and what the exchange saw of it."""

    status: int
    out: list[str]
    err: str
    cancelled: int
    left: int


async def run(
    runner: str,
    mode: str,
    *signals: signal.Signals,
    bare: bool = False,
    patience: float = 20.0,
) -> Ended:
    """Run a child, send it the signals, and wait for its end.

    The first signal is sent when it is inside its block; the others while its cancel is under way,
    whose proof is held up until they are sent. A child that outlives the patience is killed.
    """
    async with SimulatedExchange(effect_delay_ms=50) as exchange:
        account = account_of(exchange)
        if len(signals) > 1:
            exchange.faults.add(Hold("listing"), operation="open-orders")
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(CHILD),
            exchange.rest_url.removeprefix("http://"),
            runner,
            mode,
            *(["bare"] if bare else []),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert child.stdout is not None
            first = await child.stdout.readline()
            for number, each in enumerate(signals):
                if number == 1:
                    await exchange.until(lambda: "listing" in exchange.waiting)
                child.send_signal(each)
            exchange.release("listing")
            async with asyncio.timeout(patience):
                out, err = await child.communicate()
        except TimeoutError:
            child.kill()
            out, err = await child.communicate()
        for text in (out, err):
            assert not any(secret in text.decode() for secret in SECRETS)
        assert child.returncode is not None
        return Ended(
            status=child.returncode,
            out=[line.decode() for line in (first + out).splitlines()],
            err=err.decode(),
            cancelled=sum(record.what is What.CANCELLED for record in exchange.log),
            left=len(exchange.open_orders(account, "cash")),
        )


#: How a strategy may end, with the signals that it gets; once it has a loop that it runs itself.
ENDS: list[tuple[str, str, tuple[signal.Signals, ...]]] = [
    *(
        (runner, mode, (each,))
        for runner in RUNNERS
        for mode in ("wait", "task")
        for each in (INT, TERM)
    ),
    *((runner, mode, ()) for runner in RUNNERS for mode in ("return", "raise", "exit", "timeout")),
    ("loop", "wait", (INT,)),
]


@pytest.mark.sample("signals")
@pytest.mark.asyncio
@pytest.mark.parametrize(("runner", "mode", "signals"), ENDS)
async def test_the_status_is_what_it_would_have_been(
    runner: str, mode: str, signals: tuple[signal.Signals, ...]
) -> None:
    """Return, raise, exit, timeout, one Ctrl-C, one SIGTERM: flat, and nothing else changes."""
    would_be, ended = await asyncio.gather(
        run("asyncio", mode, *signals, bare=True), run(runner, mode, *signals)
    )
    assert (ended.status, ended.out) == (would_be.status, would_be.out)
    assert ended.err.splitlines()[-1:] == would_be.err.splitlines()[-1:]
    assert (ended.left, ended.cancelled) == (0, 2)
    assert (would_be.left, would_be.cancelled) == (2, 0)
    if mode == "return":
        assert would_be.out == ["in", "restored", "out"]


@pytest.mark.cover_processes
@pytest.mark.sample("deadliest")
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("mode", "row", "deadliest"),
    [
        ("wait", (INT, INT), INT),
        ("wait", (TERM, INT), TERM),
        ("wait", (TERM, TERM, TERM), TERM),
        ("wait", (INT, TERM), TERM),
        ("wait", (INT, INT, TERM), TERM),
        ("task", (INT, INT), INT),
        ("nested", (TERM, INT), TERM),
    ],
)
@pytest.mark.parametrize("runner", RUNNERS)
async def test_signals_in_a_row(
    runner: str, mode: str, row: tuple[signal.Signals, ...], deadliest: signal.Signals
) -> None:
    """More of them change nothing: the cancel is proven, then the deadliest has its way."""
    ended = await run(runner, mode, *row)
    assert ended.status == -deadliest
    assert (ended.left, ended.cancelled) == (0, 4 if mode == "nested" else 2)
    assert ended.out == ["in"]


@pytest.mark.cover_processes
@pytest.mark.sample
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("mode", "number"),
    [
        ("handler", TERM),
        ("loop-handler", TERM),
        ("exit-handler", TERM),
        ("graceful", INT),
        ("graceful", TERM),
        ("tidy", INT),
        ("orphan", TERM),
    ],
)
@pytest.mark.parametrize("runner", RUNNERS)
async def test_handlers_of_ones_own(runner: str, mode: str, number: signal.Signals) -> None:
    """A strategy that sees to signals itself does so as before, once, and is flat when it ends."""
    would_be, ended = await asyncio.gather(
        run("asyncio", mode, number, bare=True), run(runner, mode, number)
    )
    assert (ended.left, ended.cancelled) == (0, 2)
    assert (ended.status, ended.out) == (would_be.status, would_be.out)


@pytest.mark.sample
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("runner", "number"), [("uvloop", TERM), ("asyncio", TERM), ("asyncio", INT), ("loop", INT)]
)
async def test_a_failed_cancel_is_told_before_the_end(runner: str, number: signal.Signals) -> None:
    """Whatever ends the process, what could not be cancelled is on stderr."""
    ended = await run(runner, "refused", number)
    assert ended.status == -number
    assert ended.left == 2
    assert "the cancel failed" in ended.err


@pytest.mark.sample
@pytest.mark.asyncio
@pytest.mark.parametrize("runner", RUNNERS)
async def test_a_block_that_ignores_its_cancellation(runner: str) -> None:
    """The cancel leaves all the same, and when the time is up, the signal has its way."""
    ended = await run(runner, "deaf", TERM, patience=4.0)
    assert (ended.left, ended.cancelled) == (0, 2)
    assert ended.status == -TERM
