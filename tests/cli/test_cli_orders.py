"""``cancel`` and ``orders`` against the simulated exchange: what is done, said, and returned."""

import os
import signal
from collections.abc import Sequence

import pytest

from cli_support import Ended, Shell, at_a_terminal, columns, finish, spawn
from masscancel import Client
from masscancel.cli.options import Account as CommandAccount
from masscancel.cli.status import Status
from masscancel.sim import Action, Answer, Drop, Hang, SimulatedExchange

pytestmark = pytest.mark.asyncio

CASH = ("--category", "cash")


@pytest.fixture
def shell(
    exchange: SimulatedExchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """A shell with an account's credentials."""
    return Shell(exchange, monkeypatch, capsys)


async def test_cancel_one_symbol(shell: Shell) -> None:
    """One symbol's orders are gone, the others stay, and the line says "received"."""
    ended = await shell.call("cancel", "--symbol", "BTC/USDT", *CASH, *shell.way())
    assert ended.status == Status.DONE
    assert ended.err == ""
    _, row, meaning, left_out = ended.out.splitlines()
    assert columns(row)[:5] == ["cash", "BTC/USDT", "ordinary, stop", "received", "1"]
    assert "not that the orders are gone" in meaning
    assert left_out == "margin and futures were not touched. No other symbol was touched."
    assert shell.open_orders("cash") == {"ETH/USDT"}


async def test_cancel_a_category_in_a_process_of_its_own(shell: Shell) -> None:
    """``python -m masscancel`` does it too, finds the account group out, and is plain in a pipe."""
    ended = await finish(
        await spawn("cancel", "--category", "margin", "--yes", *shell.way(group=False))
    )
    assert ended.status == Status.DONE
    assert ended.err == ""
    assert columns(ended.out.splitlines()[1])[:4] == ["margin", "all", "ordinary, stop", "received"]
    assert shell.open_orders("margin") == set()
    assert shell.open_orders("cash") == {"BTC/USDT", "ETH/USDT"}


async def test_a_venue_that_echoes_little_and_a_strange_clock(shell: Shell) -> None:
    """Futures have no timestamp to show; one that no calendar has is shown as it is."""
    ended = await shell.call("cancel", "--category", "futures", "--yes", *shell.way())
    assert ended.status == Status.DONE
    assert " UTC" not in ended.out
    shell.exchange.skew_ms = 10**15
    shell.exchange.dialect.window_ms = 10**16  # type: ignore[attr-defined]  # AscendEX's own
    ended = await shell.call("cancel", "--yes", *CASH, *shell.way())
    assert ended.status == Status.DONE
    assert " ms, id " in ended.out


async def test_orders(shell: Shell) -> None:
    """A header, and a line for each order; with ``--json`` one object."""
    ended = await shell.call("orders", *CASH, *shell.way())
    header, *rows = ended.out.splitlines()
    assert columns(header)[-1] == "order id"
    assert [columns(row)[0] for row in rows] == ["BTC/USDT", "ETH/USDT"]
    real = {order.order_id for order in shell.exchange.open_orders(shell.account, "cash")}
    assert {columns(row)[-1] for row in rows} == real

    only = await shell.call("orders", "--symbol", "ETH/USDT", "--json", *CASH, *shell.way())
    assert [each["symbol"] for each in only.json["outcomes"]] == ["ETH/USDT"]
    assert [order["quantity"] for order in only.json["orders"]] == ["1"]


async def test_no_orders(shell: Shell) -> None:
    """Nothing is a header alone, for a pipe, and no error."""
    await shell.call("cancel", "--yes", *CASH, *shell.way())
    ended = await shell.call("orders", *CASH, *shell.way())
    assert (ended.status, ended.out.count("\n")) == (Status.DONE, 1)


async def test_without_a_terminal_it_does_not_ask(shell: Shell) -> None:
    """A whole category needs ``--yes`` where nobody can be asked: nothing is sent."""
    ended = await finish(await spawn("cancel", *CASH, *shell.way()))
    assert ended.status == Status.USAGE
    assert "say --yes" in ended.err
    assert shell.exchange.requests == []


@pytest.mark.cover_processes
@pytest.mark.sample
@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (signal.SIGINT, Status.INTERRUPTED, "interrupted; nothing was sent"),
        (b"\n", Status.DECLINED, "not confirmed; nothing was sent"),
    ],
)
async def test_at_a_terminal_it_asks(
    shell: Shell, answer: bytes | signal.Signals, status: Status, words: str
) -> None:
    """It names the scope and the host. Anything but yes, and Ctrl-C, send nothing."""
    ended, seen = await at_a_terminal("cancel", *CASH, *shell.way(), answer=answer)
    assert ended == status
    assert f"Cancel every open cash order on ascendex ({shell.exchange.rest_url})" in seen
    assert words in seen
    assert shell.exchange.requests == []


@pytest.mark.cover_processes
async def test_yes_at_a_terminal(shell: Shell) -> None:
    """It is done, and told in colour."""
    ended, seen = await at_a_terminal("cancel", *CASH, *shell.way(), answer=b"y\n")
    assert ended == Status.DONE
    assert "\x1b[" in seen
    assert "received" in seen
    assert shell.open_orders("cash") == set()


@pytest.mark.cover_processes
async def test_no_orders_at_a_terminal(shell: Shell) -> None:
    """There it is a sentence."""
    await shell.call("cancel", "--yes", *CASH, *shell.way())
    ended, seen = await at_a_terminal("orders", *CASH, *shell.way())
    assert ended == Status.DONE
    assert "\x1b[1mNo open cash orders on ascendex.\x1b[0m" in seen
    assert "margin and futures were not listed." in seen


LOST = ("cancel", "--yes", "--timeout", "0.4")


@pytest.mark.parametrize(
    ("fault", "command", "status", "words"),
    [
        (Drop(executed=True), LOST, Status.UNKNOWN, "may have been carried out"),
        (Hang(), LOST, Status.UNKNOWN, "list the open orders to know"),
        (Answer(503, b"oops"), LOST, Status.UNKNOWN, "HTTP 503"),
        (Answer(200, b"<html>"), LOST, Status.UNKNOWN, "can't be understood"),
        (
            Answer(403, b'{"code":200015,"reason":"PERMISSION_DENIED"}'),
            LOST,
            Status.DENIED,
            "nothing was cancelled by this call",
        ),
        (
            Answer(200, b'{"code":300012,"message":"no\\nsuch \\u001b[31mproduct"}'),
            LOST,
            Status.FAILED,
            "no such [31mproduct",
        ),
        (Hang(), ("orders", "--timeout", "0.4"), Status.NOT_SENT, "no answer from"),
        (Answer(400, b'{"code":100006}'), ("orders",), Status.FAILED, "100006"),
    ],
)
async def test_what_goes_wrong_at_the_venue(
    shell: Shell, fault: Action, command: Sequence[str], status: Status, words: str
) -> None:
    """Each kind of failure has its exit status, and one line that says what is known."""
    shell.exchange.faults.add(fault, path="/order/", times=None)
    ended = await shell.call(*command, *CASH, *shell.way())
    assert ended.status == status
    assert ("received" in ended.out, command[0] in ended.out) == (False, False)
    assert words in ended.err


async def test_a_wrong_secret(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused once, and neither the secret nor the key is shown."""
    monkeypatch.setenv("MASSCANCEL_API_SECRET", shell.account.api_secret + "x")
    ended = await shell.call("cancel", "--yes", *CASH, *shell.way())
    assert ended.status == Status.DENIED
    assert "check the API key and secret" in ended.err
    assert len(shell.exchange.operations("cancel-all")) == 1


async def test_a_venue_that_is_not_there(shell: Shell) -> None:
    """Nothing reached it: that is known, and it has a status of its own."""
    nowhere = [
        *CASH,
        "--venue",
        "ascendex",
        "-o",
        "rest_url=http://127.0.0.1:1",
        "-o",
        "stream_url=ws://127.0.0.1:1",
    ]
    for settings in (nowhere, [*nowhere, "-o", "account_group=6"]):
        ended = await shell.call("cancel", "--yes", "--timeout", "0.2", *settings)
        assert ended.status == Status.NOT_SENT
        assert "could not be reached" in ended.err


@pytest.mark.cover_processes
@pytest.mark.sample
@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("cancel-all", "the cancel may have been carried out: list the open orders to know"),
        ("info", "nothing was sent"),
    ],
)
async def test_ctrl_c(shell: Shell, operation: str, words: str) -> None:
    """It ends at once, with what is known by then."""
    shell.exchange.faults.add(Hang(tag="it"), operation=operation, times=None)
    process = await spawn("cancel", "--yes", "--timeout", "60", *CASH, *shell.way(group=False))
    await shell.exchange.until(lambda: "it" in shell.exchange.waiting)
    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert ended.status == Status.INTERRUPTED
    assert ended.err == f"masscancel: interrupted; {words}\n"


async def test_output_that_nobody_takes(shell: Shell) -> None:
    """A reader that has gone is no failure; a full disk is, and the cancel is still known."""
    read, write = os.pipe()
    os.close(read)
    ended = await finish(await spawn("orders", *CASH, *shell.way(), stdout=write))
    os.close(write)
    assert (ended.status, ended.err) == (Status.DONE, "")

    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123  # it is no real file
        ended = await finish(await spawn("cancel", "--yes", *CASH, *shell.way(), stdout=full))
    assert ended.status == Status.FAILED
    assert "No space left on device; the venue has acknowledged it" in ended.err


async def test_a_bug_shows_where_and_no_value(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody thought of is one line too: its type and its place, and what is known."""

    def broken(_self: CommandAccount, _timeout: float) -> None:
        raise KeyError(shell.account.api_secret)

    monkeypatch.setattr(CommandAccount, "client", broken)
    ended = await shell.call("cancel", "--yes", *CASH, *shell.way())
    assert ended.status == Status.FAILED
    assert "unexpected KeyError at test_cli_orders.py:" in ended.err
    assert "nothing was sent" in ended.err


async def test_a_bug_after_sending_is_unknown(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the cancel is on its way, a bug does not hide that it may have been carried out."""

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Client, "cancel", broken)
    ended: Ended = await shell.call("cancel", "--yes", *CASH, *shell.way())
    assert ended.status == Status.UNKNOWN
    assert "ZeroDivisionError" in ended.err
