"""``watch``: order updates as they come, gaps, and a clean end."""

import asyncio
import os
import signal
from asyncio.subprocess import Process

import msgspec
import pytest

from cli_support import Shell, finish, spawn
from masscancel.cli.app import run
from masscancel.cli.status import Status
from masscancel.sim import Hang, OnCancel, Script, SimulatedExchange

CASH = ("--category", "cash")


@pytest.fixture
def shell(
    exchange: SimulatedExchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """A shell with an account's credentials."""
    return Shell(exchange, monkeypatch, capsys)


async def is_subscribed(shell: Shell, count: int) -> None:
    """Wait until so many subscriptions were answered."""
    await shell.exchange.until(
        lambda: sum(r.answer == "answered" for r in shell.exchange.operations("subscribe")) == count
    )


async def line_of(process: Process) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode().rstrip("\n")


@pytest.mark.cover_processes
@pytest.mark.asyncio
async def test_two_categories_as_json(shell: Shell) -> None:
    """An object on a line for each update of either, a gap when the stream drops; Ctrl-C ends."""
    categories = ["--category", "cash", "--category", "futures"]
    process = await spawn("watch", *categories, "--json", *shell.way())
    await is_subscribed(shell, 2)
    order = shell.exchange.place(shell.account, "cash", "BTC/USDT", price="7000", quantity="0.5")
    update = msgspec.json.decode(await line_of(process))
    assert (update["event"], update["account_category"]) == ("update", "cash")
    assert (update["order_id"], update["state"]) == (order.order_id, "open")
    assert (update["price"], update["quantity"]) == ("7000", "0.5")

    shell.exchange.place(shell.account, "futures", "BTC-PERP", script=Script(reject="NO"))
    update = msgspec.json.decode(await line_of(process))
    assert (update["account_category"], update["state"]) == ("futures", "rejected")

    shell.exchange.drop_connections()
    gaps = [msgspec.json.decode(await line_of(process)) for _ in categories[::2]]
    assert {gap["event"] for gap in gaps} == {"gap"}
    assert {gap["account_category"] for gap in gaps} == {"cash", "futures"}
    await is_subscribed(shell, 4)  # it came back by itself

    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert (ended.status, ended.out, ended.err) == (Status.DONE, "", "")


@pytest.mark.cover_processes
@pytest.mark.asyncio
async def test_lines_for_people_until_nobody_reads(shell: Shell) -> None:
    """One line each; when the reader has gone, as with ``head``, it ends well."""
    read, write = os.pipe()
    process = await spawn("watch", *CASH, *shell.way(), stdout=write)
    os.close(write)
    lines = os.fdopen(read)
    await is_subscribed(shell, 1)
    order = shell.exchange.place(
        shell.account, "cash", "BTC/USDT", quantity="3", script=Script(on_cancel=OnCancel.FILL)
    )
    line = await asyncio.to_thread(lines.readline)
    time_of_day, words = line.rstrip("\n").split(" ", 1)
    assert time_of_day.count(":") == 2
    assert words == f"cash    open      buy  3 BTC/USDT at 1, id {order.order_id}"

    shell.exchange.engine.fill(order.order_id, now_ms=shell.exchange.now_ms)
    line = await asyncio.to_thread(lines.readline)
    assert f"cash    filled    buy  3 BTC/USDT at 1, 3 filled, id {order.order_id}" in line

    shell.exchange.drop_connections()
    line = await asyncio.to_thread(lines.readline)
    assert line.startswith("-            cash    gap       updates may be missing: ")

    await is_subscribed(shell, 2)
    lines.close()
    shell.exchange.place(shell.account, "cash", "BTC/USDT")
    ended = await finish(process)
    assert (ended.status, ended.err) == (Status.DONE, "")


@pytest.mark.asyncio
async def test_a_login_that_is_refused(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong secret ends it at once, with one line."""
    monkeypatch.setenv("MASSCANCEL_API_SECRET", shell.account.api_secret + "x")
    ended = await finish(await spawn("watch", *CASH, *shell.way()))
    assert (ended.status, ended.out) == (Status.DENIED, "")
    assert "check the API key and secret" in ended.err


@pytest.mark.asyncio
async def test_sigterm_while_it_is_being_entered(shell: Shell) -> None:
    """It ends then, too."""
    shell.exchange.faults.add(Hang(tag="it"), operation="info", times=None)
    process = await spawn("watch", "--timeout", "60", *CASH, *shell.way(group=False))
    await shell.exchange.until(lambda: "it" in shell.exchange.waiting)
    process.send_signal(signal.SIGTERM)
    ended = await finish(process)
    assert (ended.status, ended.out, ended.err) == (Status.DONE, "", "")


def test_a_venue_without_a_stream(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names it."""
    monkeypatch.setenv("MASSCANCEL_API_KEY", "key")
    monkeypatch.setenv("MASSCANCEL_API_SECRET", "aHVzaA==")
    nowhere = ["-o", "spot_url=http://127.0.0.1:1", "-o", "futures_url=http://127.0.0.1:1"]
    assert run(["watch", "--venue", "kraken", "--category", "spot", *nowhere]) == Status.USAGE
    out, err = capsys.readouterr()
    assert (out, err) == ("", "masscancel: Kraken has no order updates in spot\n")
