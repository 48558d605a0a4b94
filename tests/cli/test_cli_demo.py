"""``demo`` and ``sim``: the simulated exchange, played to an audience and run alone."""

import asyncio
import re
import signal
import socket
from pathlib import Path

import msgspec
import pytest

from cli_support import Ended, at_a_terminal, columns, finish, spawn
from masscancel import NotFlat
from masscancel.cli.app import run
from masscancel.cli.demo import Plan, play
from masscancel.cli.render import Screen
from masscancel.cli.status import Status
from masscancel.sim import Answer, OnCancel, Script, SimulatedExchange, What

SMALL = Plan(accounts=2, symbols=2, seed=7)
#: Long enough for everything but what never ends.
HASTY = Plan(accounts=2, symbols=2, seed=7, timeout=1.5)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed, as lines; plain, whatever it is."""
    return Ended(0, *capsys.readouterr()).out.splitlines()


@pytest.mark.asyncio
async def test_the_demo_ends_with_nothing_left(capsys: pytest.CaptureFixture[str]) -> None:
    """The book is full, every scope is acknowledged, then confirmed; the exchange agrees."""
    seen: list[SimulatedExchange] = []
    result = await play(SMALL, Screen(), tamper=seen.append)
    assert result.status == Status.DONE
    assert len(result.report.outcomes) == 2 * 3 * 2
    assert len(result.proof.outcomes) == 2 * 3
    placed = {each.order_id for each in seen[0].log if each.what is What.PLACED}
    cancelled = {each.order_id for each in seen[0].log if each.what is What.CANCELLED}
    filled = {each.order_id for each in seen[0].log if each.what is What.FILLED}
    assert cancelled | filled == placed
    assert len(filled) == 1
    assert result.orders == len(placed) > 30

    lines = lines_of(capsys)
    book = lines.index("Open orders")
    assert columns(lines[book + 1]) == ["account", "cash", "margin", "futures", "total"]
    assert columns(lines[book + 4])[-1] == str(len(placed) - 2)
    acks = lines.index("Answers, and ms from the call to each")
    assert len(re.findall(r"Ack +\d+\.\d", "\n".join(lines[acks:]))) == 12
    assert any(re.match(r"12 of 12 cancels acknowledged .*p50 .* max ", line) for line in lines)
    assert any(re.match(r"6 of 6 scopes confirmed flat .* 7 sweeps\.", line) for line in lines)
    assert lines[-1] == f"Nothing is left of {len(placed)} orders."


@pytest.mark.asyncio
async def test_the_orders_that_came_late(capsys: pytest.CaptureFixture[str]) -> None:
    """The exchange knew neither at the first sweep: one is swept up, one fills on the way out."""
    result = await play(SMALL, Screen())
    assert result.listed == 0
    swept, filled = result.late
    found = result.proof.outcomes[0].confirmation
    assert found is not None
    assert found.sweeps == 2
    assert found.cancelled is not None
    assert swept.order_id in found.cancelled
    assert found.filled == (filled.order_id,)
    lines = lines_of(capsys)
    late = lines.index("Late orders of mm-1 in cash: they came to light after the first sweep")
    assert columns(lines[late + 2])[-1] == "swept up: cancelled by sweep 2"
    assert columns(lines[late + 3])[-1] == "filled on the way out: a position now"


@pytest.mark.asyncio
async def test_an_order_that_survives(capsys: pytest.CaptureFixture[str]) -> None:
    """Acknowledged, and still there: that is no confirmation but a failure, and it is shown."""

    def keep_one(exchange: SimulatedExchange) -> None:
        order = exchange.engine.orders()[0]
        exchange.engine.rescript(order.order_id, Script(on_cancel=OnCancel.IGNORE))

    result = await play(HASTY, Screen(), tamper=keep_one)
    assert result.report.all_ok
    assert [type(outcome.error) for outcome in result.proof.failed] == [NotFlat]
    assert result.after["mm-1", "cash"] == 1
    assert result.status == Status.FAILED
    lines = lines_of(capsys)
    assert any(line.startswith("cash [mm-1]: ") and "still open" in line for line in lines)
    assert sum(columns(line)[-1:] == ["not known"] for line in lines) == 2
    assert lines[-1].startswith("Still open: 1 of ")


@pytest.mark.asyncio
async def test_a_cancel_that_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Its place in the table names the error, a line tells it, and the demo fails."""

    def refuse(exchange: SimulatedExchange) -> None:
        no = Answer(200, b'{"code":200015,"message":"not today"}')
        exchange.faults.add(no, operation="cancel-all", path="futures")

    result = await play(SMALL, Screen(), tamper=refuse)
    assert len(result.report.failed) == 1
    assert result.proof.all_ok
    assert result.status == Status.FAILED
    lines = lines_of(capsys)
    assert any("PermissionDenied" in columns(line) for line in lines)
    assert any("BTC-PERP [mm-1]: " in line and "not today" in line for line in lines)


@pytest.mark.asyncio
async def test_nothing_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    """There is no latency to show then, and it still ends in good order."""

    def refuse_all(exchange: SimulatedExchange) -> None:
        no = Answer(200, b'{"code":200015}')
        exchange.faults.add(no, operation="cancel-all", times=None)

    result = await play(SMALL, Screen(), tamper=refuse_all)
    assert (len(result.report.failed), len(result.proof.failed)) == (12, 6)
    assert result.status == Status.FAILED
    lines = lines_of(capsys)
    assert any(re.fullmatch(r"0 of 12 .* ms\.", line) for line in lines)
    assert any(line.startswith("0 of 6 scopes confirmed flat") for line in lines)


def test_the_seed_fixes_the_orders(capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed, the same book; another, another."""
    books = []
    for seed in ("1", "1", "2"):
        assert run(["demo", "--accounts", "2", "--symbols", "1", "--seed", seed]) == Status.DONE
        books.append(lines_of(capsys)[3:7])
    assert books[0] == books[1] != books[2]


def test_demo_as_json_with_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One object and nothing else; the picture shows what would have been printed."""
    picture = tmp_path / "demo.svg"
    arguments = ["demo", "--accounts", "2", "--symbols", "2", "--json", "--svg", str(picture)]
    assert run(arguments) == Status.DONE
    ended = Ended(0, *capsys.readouterr())
    assert ended.json["orders_before"] > 0
    assert (ended.json["targets"], ended.json["acknowledged"]) == (12, 12)
    assert (ended.json["scopes"], ended.json["confirmed"]) == (6, 6)
    assert [len(each["filled"] or ()) for each in ended.json["confirmations"]] == [1, 0, 0, 0, 0, 0]
    assert ended.json["orders_left"] == 0
    assert {outcome["status"] for outcome in ended.json["outcomes"]} == {"Ack"}
    svg = picture.read_text()
    assert svg.startswith("<svg")
    for words in (
        "Open&#160;orders&#160;now",
        "Cancelling",
        "Confirming",
        "Nothing&#160;is&#160;left",
    ):
        assert words in svg
    assert "url(" not in svg.replace("url(#", "")  # it asks no other machine for anything


def test_a_picture_that_can_not_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One line that names the file."""
    picture = tmp_path / "nowhere" / "demo.svg"
    arguments = ["demo", "--accounts", "1", "--symbols", "1", "--json", "--svg", str(picture)]
    assert run(arguments) == Status.FAILED
    ended = Ended(1, *capsys.readouterr())
    assert f"{picture}: No such file or directory" in ended.err


@pytest.mark.asyncio
async def test_the_demo_at_a_terminal_of_80_columns() -> None:
    """In colour, with a bar that moves, and no line is too long."""
    status, seen = await at_a_terminal("demo")
    assert status == Status.DONE
    assert "\x1b[?25l" in seen  # the cursor is hidden while the bar moves
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert "60/60" in text
    assert "15/15" in text
    assert max(len(line.rpartition("\r")[2]) for line in text.split("\r\n")) <= 80


@pytest.mark.cover_processes
@pytest.mark.asyncio
async def test_sim_can_be_pasted_into_a_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it prints are shell lines: keys, and commands that list and cancel; SIGINT ends it."""
    process = await spawn("sim", "--accounts", "2", "--orders", "6")
    assert process.stdout is not None
    lines: list[str] = []
    while len([line for line in lines if line.startswith("masscancel cancel")]) < 2:
        lines.append((await process.stdout.readline()).decode().rstrip())
    assert all(re.match(r"#|export |masscancel |$", line) for line in lines)
    assert "# mm-2; open orders: 2 cash, 2 margin, 2 futures" in lines

    for line in lines:
        if "export" in line:
            monkeypatch.setenv(*line.removeprefix("export ").split("=", 1))
    cancel = [line for line in lines if line.startswith("masscancel cancel")][-1]
    listing = [line for line in lines if line.startswith("masscancel orders")][-1]
    for command, printed in ((listing, 7), (cancel, 5)):
        status = await asyncio.to_thread(run, command.split()[1:])
        ended = Ended(status, *capsys.readouterr())
        assert (ended.status, ended.err) == (Status.DONE, "")
        assert ended.out.count("\n") == printed

    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert (ended.status, ended.out, ended.err) == (Status.DONE, "", "")


@pytest.mark.asyncio
async def test_sim_as_json_until_sigterm() -> None:
    """One line of JSON when it is ready; a service manager's way to end it is as good."""
    process = await spawn("sim", "--json")
    assert process.stdout is not None
    found = msgspec.json.decode(await process.stdout.readline())
    assert found["venue"] == "ascendex"
    assert found["accounts"][0]["settings"]["rest_url"] == found["rest_url"]
    process.send_signal(signal.SIGTERM)
    ended = await finish(process)
    assert (ended.status, ended.err) == (Status.DONE, "")


def test_sim_on_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """That is one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status = run(["sim", "--port", str(taken.getsockname()[1])])
    ended = Ended(status, *capsys.readouterr())
    assert ended.status == Status.FAILED
    assert "in use" in ended.err
