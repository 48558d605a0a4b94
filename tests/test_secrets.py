"""No key, secret or signature in anything that is shown, of every failure in the fault matrix."""

import asyncio
import gc
import io
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from rich.console import Console
from rich.traceback import Traceback

from masscancel import Ack, Client, Credentials, MassCancelError, Target, cancel_many
from masscancel.sim import Hang, SimulatedExchange
from support import SECRETS, account_of, client_of, cold_pool

sys.path.append(str(Path(__file__).parent / "adversity"))

from matrix import MATRIX  # found through the line above
from stages import ONCE, Case, Scene  # likewise

pytestmark = pytest.mark.asyncio

#: What is secret: the tests' keys, and whatever looks like Base64 of 32 bytes.
_SECRET = re.compile("|".join([*SECRETS, r"[A-Za-z0-9+/]{43}="]))
_MARGIN = 40


def secrets_in(text: str) -> list[str]:
    """Where in the text a secret stands, with what is around it, and the secret itself masked."""
    return [
        text[max(0, match.start() - _MARGIN) : match.start()] + "<SECRET>"
        for match in _SECRET.finditer(text)
    ]


def chain(problem: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that hang on it."""
    todo, seen = [problem], set()
    while todo:
        error = todo.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        todo += [error.__cause__, error.__context__]
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions


def one_level(value: Any) -> Iterator[str]:
    """The repr of a value, of what it contains, and of its attributes.

    Not those of `Credentials`: the secrets have to be somewhere.
    """
    yield repr(value)
    if isinstance(value, Credentials):
        return
    inside: list[Any] = []
    if isinstance(value, Mapping):
        inside += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inside += value
    names = [*getattr(value, "__dict__", {}), *getattr(type(value), "__struct_fields__", ())]
    inside += [getattr(value, name, None) for name in names]
    for each in inside:
        yield repr(each)


def shown(problem: BaseException) -> Iterator[str]:
    """Everything that a program, a person or a tool would see of an exception."""
    for error in chain(problem):
        yield from map(str, (error, error.args, getattr(error, "__notes__", ()), repr(error)))
        for value in vars(error).values():
            yield from one_level(value)
        for frame, _ in traceback.walk_tb(error.__traceback__):
            for value in frame.f_locals.values():
                yield from one_level(value)
    yield "".join(
        traceback.TracebackException.from_exception(problem, capture_locals=True).format()
    )
    yield by_rich(problem, problem.__traceback__)


def by_rich(problem: BaseException, trace: TracebackType | None) -> str:
    """What rich prints of it and of its locals; without the source, which takes its time."""
    extracted = Traceback.extract(
        type(problem),
        problem,
        trace,
        show_locals=True,
        locals_max_length=1000,
        locals_max_string=100_000,
    )
    said = []
    for stack in extracted.stacks:
        said.append(f"{stack.exc_type} {stack.exc_value} {stack.notes}")
        for frame in stack.frames:
            said += [f"{name} = {node}" for name, node in (frame.locals or {}).items()]
    return "\n".join(said)


async def cancel(scene: Scene, timeout: float) -> Ack | MassCancelError:
    """Make the call; what is caught here has no frame of a test in it."""
    try:
        return await scene.client.cancel_all("cash", timeout=timeout)
    except MassCancelError as error:
        return error


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What every logger says at DEBUG, formatted."""
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []
    yield lines
    formatter = logging.Formatter()
    lines += [formatter.format(record) for record in caplog.records]
    found = [secret for line in lines for secret in secrets_in(line)]
    assert not found


@pytest.mark.unmeasured
@pytest.mark.sample("case.row")
@pytest.mark.parametrize("case", MATRIX, ids=str)
async def test_no_failure_shows_a_secret(case: Case, logged: list[str]) -> None:
    """Error, chain, notes, attributes, tracebacks with locals, logs: of every row."""
    async with case.stage(ONCE) as scene:
        result = await cancel(scene, min(case.timeout, 0.2) if case.persistent else case.timeout)
        seen = [repr(scene.client), repr(scene.pool), repr(scene.client.venue)]
        if isinstance(result, Ack):
            seen.append(repr(result.attempts))
        else:
            seen += shown(result)
    found = {secret for text in seen for secret in secrets_in(text)}
    assert not found
    del result
    gc.collect(0)


async def test_the_search_finds_what_is_there() -> None:
    """Control: secrets in a local, an attribute, a note, an argument and a cause are found."""
    secret = SECRETS[0]

    def fail() -> None:
        headers = {"x-auth-key": secret}
        raise ValueError(len(headers))

    with pytest.raises(ValueError, match="1") as caught:
        fail()
    assert any(secrets_in(text) for text in shown(caught.value))
    for plant in (
        lambda error: error.add_note(secret),
        lambda error: setattr(error, "text", [secret]),
        lambda error: setattr(error, "__context__", KeyError(secret)),
    ):
        error = MassCancelError("no")
        plant(error)
        assert any(secrets_in(text) for text in shown(error))


@pytest.mark.parametrize("used", [False, True])
async def test_a_cancellation_shows_no_secret(
    exchange: SimulatedExchange, logged: list[str], used: bool
) -> None:
    """The traceback of a cancelled call, and of its task, holds no secret either.

    On a used connection, it is the caller's own task that waits for the answer.
    """
    account = account_of(exchange)
    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        if used:
            await client.cancel_all("cash")
        exchange.faults.add(Hang(), operation="cancel-all", times=None)
        task = asyncio.create_task(client.cancel_all("cash"))
        await exchange.until(lambda: exchange.waiting)
        inner = [each for each in asyncio.all_tasks() if "driver.py" in repr(each)]
        seen = [repr(each) for each in asyncio.all_tasks()]
        for each in inner:  # what a debugger shows of a task that hangs
            out = io.StringIO()
            each.print_stack(file=out)
            seen.append(out.getvalue())
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as problem:
            error = problem
    found = {secret for text in [*seen, *frames_below(error)] for secret in secrets_in(text)}
    assert not found


def frames_below(problem: BaseException) -> Iterator[str]:
    """What frames of the library hold; those of the tests know the secrets by right."""
    for error in chain(problem):
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                for value in frame.f_locals.values():
                    yield from one_level(value)


@pytest.mark.parametrize(
    "where",
    [
        "masscancel.transport.connection.encode_request",
        "masscancel.transport.parser.Reply",
        "masscancel.venues.ascendex.wire.signature",
    ],
)
async def test_a_crash_shows_no_secret(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, logged: list[str], where: str
) -> None:
    """Even of a bug of ours, or of a library's, the fan-out's outcome shows no secret."""
    account = account_of(exchange)

    def crash(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    async with cold_pool() as pool, client_of(exchange, account, pool=pool) as client:
        monkeypatch.setattr(where, crash)
        report = await cancel_many([Target(client, "cash")], timeout=0.2)
    assert report.outcomes[0].error is not None
    found = {s for text in shown(report.outcomes[0].error) for s in secrets_in(text)}
    assert not found


async def test_reprs_show_no_secret(exchange: SimulatedExchange) -> None:
    """Of whatever a program may hold of ours, down to two levels of attributes."""
    account = account_of(exchange)
    async with client_of(exchange, account) as client:
        ack = await client.cancel_all("cash")
        report = await cancel_many([Target(client, "cash")])
        values: list[Any] = [client, client.venue, ack, report, *report.outcomes]
        seen = [text for value in values for text in one_level(value)]
        for value in vars(client).values():
            seen += one_level(value)
    assert not {secret for text in seen for secret in secrets_in(text)}
    out = io.StringIO()
    Console(file=out, width=400).print(*values)
    assert not secrets_in(out.getvalue())


async def test_a_bad_credential_is_not_repeated() -> None:
    """What is refused as a key is not said again."""
    for key, secret in ((f"{SECRETS[1]} x", "y"), ("y", f"{SECRETS[0]}\n"), ("", SECRETS[0])):
        with pytest.raises(MassCancelError) as caught:
            Credentials(key, secret)
        assert not secrets_in(f"{caught.value} {caught.value!r} {caught.value.args}")
    with pytest.raises(MassCancelError) as caught:
        Client(SECRETS, venue=None)  # type: ignore[arg-type, type-var]  # the mistake is the point
    assert not secrets_in(f"{caught.value} {caught.value!r}")
