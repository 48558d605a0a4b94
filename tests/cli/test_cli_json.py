"""``--json``: one object in every case, also when it fails, and nothing in it steers a terminal."""

import signal
import socket

import msgspec
import pytest

from cli_support import PATIENCE, Ended, finish, spawn
from masscancel import Client
from masscancel.cli.app import run
from masscancel.cli.render import Column, Sheet, clean
from masscancel.cli.status import Status
from masscancel.sim import Action, Answer, Hang, SimulatedExchange
from operator_support import NOWHERE, Operator

CASH = ("--category", "cash")
#: Turns a line around, ends it, colours it, hides itself.
NASTY = "no\u202esuch\u2066\u200f\x1b[31m\x9b1m\x7f\u200bthing"


@pytest.fixture
def operator(
    exchange: SimulatedExchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Operator:
    """An operator with an account's key."""
    return Operator(exchange, monkeypatch, capsys)


@pytest.mark.asyncio
async def test_an_ack(operator: Operator) -> None:
    """The outcome holds the Ack as it is, the reply as text; what is not touched is named."""
    found = (await operator.run("cancel", *CASH, "--yes", "--json", *operator.way)).json
    assert (found["ok"], found["status"], found["venue"]) == (True, 0, "ascendex")
    assert found["error"] is None
    assert found["not_touched"] == {
        "categories": ["margin", "futures"],
        "other_symbols": False,
        "books": {},
    }
    [outcome] = found["outcomes"]
    assert (outcome["outcome"], outcome["status"], outcome["account_category"]) == (
        "received",
        0,
        "cash",
    )
    assert [attempt["fate"] for attempt in outcome["ack"]["attempts"]] == ["answered"]
    assert msgspec.json.decode(outcome["ack"]["raw"])["data"]["status"] == "Ack"


@pytest.mark.asyncio
async def test_a_proof(operator: Operator) -> None:
    """The Confirmation with its Acks and its books."""
    command = ("cancel", *CASH, "--yes", "--confirm", "--settle", "0.05", "--json")
    [outcome] = (await operator.run(*command, *operator.way)).json["outcomes"]
    assert outcome["outcome"] == "flat"
    assert outcome["confirmation"]["books"] == ["ordinary", "stop"]
    assert outcome["confirmation"]["acks"][0]["status"] == "Ack"


def assert_failure(found: dict[str, object], status: int) -> None:
    """What each failure has: the status, and an error with the same fields always."""
    assert (found["ok"], found["status"]) == (False, status)
    error = found["error"]
    assert isinstance(error, dict)
    assert {"type", "code", "text", "may_have_executed", "attempts"} <= error.keys()
    assert error["text"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["cancel", "--nope"], Status.USAGE),
        (["nope"], Status.USAGE),
        (["cancel", "--timeout", "soon"], Status.USAGE),
        (["cancel"], Status.USAGE),
        (["cancel", "--venue", "nyse"], Status.USAGE),
        (["cancel", *NOWHERE], Status.USAGE),
        (["cancel", *NOWHERE, *CASH], Status.USAGE),  # no terminal to ask on
        (["cancel", *NOWHERE, *CASH, "--yes", "--timeout", "0"], Status.USAGE),
        (["cancel", *NOWHERE, *CASH, "--yes", "--env-prefix", "NOBODY"], Status.USAGE),
        (["cancel", *NOWHERE, *CASH, "--yes", "--timeout", "0.2"], Status.NOT_SENT),
        (["orders", *NOWHERE, *CASH, "--timeout", "0.2"], Status.NOT_SENT),
        (["watch", *NOWHERE], Status.USAGE),
        (["sim", "--venue", "nyse"], Status.USAGE),
        (["demo", "--accounts", "0"], Status.USAGE),
    ],
)
def test_whatever_fails(
    arguments: list[str],
    status: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One object on standard output, one line on standard error, the same status in both."""
    monkeypatch.setenv("MASSCANCEL_API_KEY", "key")
    monkeypatch.setenv("MASSCANCEL_API_SECRET", "hush-hush")
    assert run([*arguments, "--json"]) == status
    out, err = capsys.readouterr()
    assert out.count("\n") == err.count("\n") == 1
    assert err.startswith("masscancel: ")
    assert_failure(msgspec.json.decode(out), status)
    assert "hush-hush" not in out


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Answer(400, b'{"code":100006,"reason":"R"}'), Status.FAILED, 100006),
        (Hang(), Status.UNKNOWN, None),
        (Answer(503, b"oops"), Status.UNKNOWN, None),
    ],
)
async def test_what_the_venue_answers(
    operator: Operator, fault: Action, status: int, code: int | None
) -> None:
    """Its code, whether the cancel may have been carried out, and each attempt."""
    operator.exchange.faults.add(fault, operation="cancel-all", times=None)
    command = ("cancel", *CASH, "--yes", "--json", "--timeout", "0.3")
    ran = await operator.run(*command, *operator.way)
    assert ran.status == status
    assert_failure(ran.json, status)
    assert ran.json["error"] == ran.json["outcomes"][0]["error"]
    assert ran.json["error"]["code"] == code
    assert ran.json["error"]["may_have_executed"] == (status == Status.UNKNOWN)
    assert ran.json["error"]["attempts"]


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """What the system refuses is told in JSON, too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status = run(["sim", "--port", str(taken.getsockname()[1]), "--json"])
    ended = Ended(status, *capsys.readouterr())
    assert ended.status == Status.FAILED
    assert_failure(ended.json, Status.FAILED)


@pytest.mark.asyncio
async def test_a_bug(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a type and a place, and shows no value."""

    async def broken(*_: object) -> None:
        raise KeyError(operator.account.api_secret)

    monkeypatch.setattr(Client, "__aenter__", broken)
    ran = await operator.run("cancel", *CASH, "--yes", "--json", *operator.way)
    assert ran.status == Status.FAILED
    assert_failure(ran.json, Status.FAILED)
    assert ran.json["error"]["type"] == "KeyError"


@pytest.mark.adversity
@pytest.mark.asyncio
async def test_ctrl_c(operator: Operator) -> None:
    """The outcome says what is known of the scope."""
    operator.exchange.faults.add(Hang(tag="it"), operation="cancel-all", times=None)
    command = ("cancel", *CASH, "--yes", "--json", "--timeout", "60")
    process = await spawn(*command, *operator.way)
    await operator.exchange.until(lambda: "it" in operator.exchange.waiting, timeout=PATIENCE)
    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert ended.status == Status.INTERRUPTED
    assert_failure(ended.json, Status.INTERRUPTED)
    assert ended.json["outcomes"][0]["outcome"] == "unknown"


@pytest.mark.asyncio
async def test_a_full_disk(operator: Operator) -> None:
    """The object can't be written: the status and the line on standard error still tell."""
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123  # it is no real file
        command = ("cancel", *CASH, "--yes", "--json", *operator.way)
        ended = await finish(await spawn(*command, stdout=full))
    assert ended.status == Status.FAILED
    assert "No space left on device; the venue has acknowledged it" in ended.err


def test_what_belongs_to_the_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    """A ``--json`` behind guard's command is none of ours."""
    assert run(["guard", "--nope", "strategy", "--json"]) == Status.USAGE
    assert capsys.readouterr().out == ""


@pytest.mark.asyncio
async def test_what_a_peer_says_steers_nothing(operator: Operator) -> None:
    """In JSON it is escaped, and the same when it is read; elsewhere nothing odd is printed."""
    reply = msgspec.json.encode({"code": 300012, "message": NASTY})
    operator.exchange.faults.add(Answer(200, reply), operation="cancel-all", times=None)
    for more in ((), ("--json",)):
        ran = await operator.run("cancel", *CASH, "--yes", *more, *operator.way)
        assert ran.status == Status.FAILED
        assert all(char.isprintable() for char in ran.out.replace("\n", ""))
        assert all(char.isprintable() for char in ran.err.replace("\n", ""))

    operator.exchange.faults.clear()
    account = operator.account.ids["futures"]
    data = {"ac": "FUTURES", "accountId": account, "action": "cancel-all"}
    ack = msgspec.json.encode({"code": 0, "data": {**data, "info": {"symbol": "", "x": NASTY}}})
    operator.exchange.faults.add(Answer(200, ack), operation="cancel-all", times=None)
    ran = await operator.run("cancel", "--category", "futures", "--yes", "--json", *operator.way)
    assert all(char.isprintable() for char in ran.out.replace("\n", ""))
    [outcome] = ran.json["outcomes"]
    assert "\\u202e" in ran.out
    assert NASTY in msgspec.json.decode(outcome["ack"]["raw"])["data"]["info"]["x"]


def test_tables_escape_it() -> None:
    """A cell shows what was there, as an escape, on its line."""
    assert clean("a\u202eb\x1b[0m\x85c\nd") == "a\\u202eb\\x1b[0m c d"
    sheet = Sheet(columns=[Column("symbol")], rows=[[NASTY]])
    assert sheet.plain().splitlines()[1].startswith("no\\u202esuch\\u2066\\u200f\\x1b[31m")
