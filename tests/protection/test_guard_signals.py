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
#: The first is tried every day; each is many processes.
SOME_RUNNERS = [
    RUNNERS[0],
    *(pytest.param(each, marks=pytest.mark.adversity) for each in RUNNERS[1:]),
]

INT, TERM = signal.SIGINT, signal.SIGTERM

Case = tuple[str, str, tuple[signal.Signals, ...]]


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


async def run_all(*cases: Case, bare: bool) -> list[Ended]:
    """Run the cases side by side, a few at a time."""
    places = asyncio.Semaphore(4)

    async def one(runner: str, mode: str, signals: tuple[signal.Signals, ...]) -> Ended:
        async with places:
            return await run(runner, mode, *signals, bare=bare)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(*case)) for case in cases]
    return [task.result() for task in tasks]


@pytest.mark.asyncio
@pytest.mark.parametrize("runner", SOME_RUNNERS)
async def test_the_status_is_what_it_would_have_been(runner: str) -> None:
    """Return, raise, exit, timeout, one Ctrl-C, one SIGTERM: flat, and nothing else changes."""
    ends: list[tuple[str, tuple[signal.Signals, ...]]] = [
        *((mode, ()) for mode in ("return", "raise", "exit", "timeout")),
        *((mode, (each,)) for mode in ("wait", "task") for each in (INT, TERM)),
    ]
    without = dict(
        zip(ends, await run_all(*[("asyncio", *end) for end in ends], bare=True), strict=True)
    )
    cases = [(runner, *end) for end in ends]
    cases.append(("loop", "wait", (INT,)))
    for case, ended in zip(cases, await run_all(*cases, bare=False), strict=True):
        would_be = without[case[1:]]
        assert (ended.status, ended.out) == (would_be.status, would_be.out), case
        assert ended.err.splitlines()[-1:] == would_be.err.splitlines()[-1:], case
        assert (ended.left, ended.cancelled) == (0, 2), case
        assert (would_be.left, would_be.cancelled) == (2, 0), case
    assert without["return", ()].out == ["in", "restored", "out"]


@pytest.mark.asyncio
@pytest.mark.parametrize("runner", SOME_RUNNERS)
async def test_signals_in_a_row(runner: str) -> None:
    """More of them change nothing: the cancel is proven, then the deadliest has its way."""
    rows = {
        (INT, INT): -INT,
        (TERM, INT): -TERM,
        (TERM, TERM, TERM): -TERM,
        (INT, TERM): -TERM,
        (INT, INT, TERM): -TERM,
    }
    cases: list[Case] = [(runner, "wait", row) for row in rows]
    cases += [(runner, "task", (INT, INT)), (runner, "nested", (TERM, INT))]
    for case, ended in zip(cases, await run_all(*cases, bare=False), strict=True):
        assert ended.status == rows[case[2]], case
        assert (ended.left, ended.cancelled) == (0, 4 if case[1] == "nested" else 2), case
        assert ended.out == ["in"], case


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
@pytest.mark.parametrize("runner", SOME_RUNNERS)
async def test_handlers_of_ones_own(runner: str, mode: str, number: signal.Signals) -> None:
    """A strategy that sees to signals itself does so as before, once, and is flat when it ends."""
    would_be, ended = await asyncio.gather(
        run("asyncio", mode, number, bare=True), run(runner, mode, number)
    )
    assert (ended.left, ended.cancelled) == (0, 2)
    assert (ended.status, ended.out) == (would_be.status, would_be.out)


@pytest.mark.asyncio
async def test_a_failed_cancel_is_told_before_the_end() -> None:
    """Whatever ends the process, what could not be cancelled is on stderr."""
    cases: list[Case] = [(runner, "refused", (TERM,)) for runner in RUNNERS]
    cases += [("asyncio", "refused", (INT,)), ("loop", "refused", (INT,))]
    for case, ended in zip(cases, await run_all(*cases, bare=False), strict=True):
        assert ended.status == -case[2][0].value, case
        assert ended.left == 2, case
        assert "the cancel failed" in ended.err, case


@pytest.mark.asyncio
async def test_a_block_that_ignores_its_cancellation() -> None:
    """The cancel leaves all the same, and when the time is up, the signal has its way."""
    for ended in await asyncio.gather(*(run(each, "deaf", TERM, patience=4.0) for each in RUNNERS)):
        assert (ended.left, ended.cancelled) == (0, 2)
        assert ended.status == -TERM
