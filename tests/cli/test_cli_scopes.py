"""Several categories, symbols and books in one command: all of them, and what is left is named."""

import asyncio
import signal
from collections.abc import Mapping
from typing import ClassVar

import pytest
from msgspec.structs import replace

from cli_support import at_a_terminal, finish, spawn
from masscancel import AscendEX, Credentials, subscribe
from masscancel.cli import cancel
from masscancel.cli.app import run
from masscancel.cli.options import Account
from masscancel.cli.scopes import Scopes
from masscancel.cli.status import Known, Status, worst_of
from masscancel.events import CallEnded
from masscancel.sim import Answer, Hang, OnCancel, Script, SimulatedExchange
from masscancel.venues import VENUES
from masscancel.venues.base import Abilities
from operator_support import NOWHERE, Operator
from support import venue_of

BOTH = {"BTC/USDT", "ETH/USDT"}
CONTRACTS = {"BTC-PERP", "ETH-PERP"}
REFUSED = Answer(200, b'{"code":300012,"message":"no"}')


@pytest.fixture
def operator(
    exchange: SimulatedExchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Operator:
    """An operator with an account's key."""
    return Operator(exchange, monkeypatch, capsys)


@pytest.mark.asyncio
async def test_every_category_that_is_named(operator: Operator) -> None:
    """Two categories, two proofs; the third is not touched, and the last line says so."""
    named = ("--category", "cash", "--category", "futures", "--settle", "0.05")
    ran = await operator.run("cancel", *named, "--yes", "--confirm", *operator.way)
    assert (ran.status, ran.err) == (Status.DONE, "")
    assert operator.left() == {"cash": set(), "margin": BOTH, "futures": set()}
    assert "flat" in ran.row("cash", "all")
    assert "flat" in ran.row("futures", "all")
    assert ran.lines[-1] == "margin was not touched."


@pytest.mark.asyncio
async def test_every_category_with_every_symbol(operator: Operator) -> None:
    """Two of each are four cancels; a category that is named twice is cancelled once."""
    operator.exchange.place(operator.account, "cash", "SOL/USDT")
    categories = ("--category", "cash", "--category", "margin", "--category", "cash")
    symbols = ("--symbol", "BTC/USDT", "--symbol", "ETH/USDT")
    ran = await operator.run("cancel", *categories, *symbols, *operator.way)
    assert ran.status == Status.DONE
    assert len(operator.exchange.operations("cancel-all")) == 4
    assert operator.left() == {"cash": {"SOL/USDT"}, "margin": set(), "futures": CONTRACTS}
    assert ran.lines[-1] == "futures was not touched. No other symbol was touched."


@pytest.mark.asyncio
async def test_all_categories(operator: Operator) -> None:
    """All of them have to be asked for by name, and then nothing is left to be named."""
    ran = await operator.run("cancel", "--all-categories", "--yes", *operator.way)
    assert ran.status == Status.DONE
    assert operator.left() == {"cash": set(), "margin": set(), "futures": set()}
    assert "not touched" not in ran.out


@pytest.mark.asyncio
@pytest.mark.parametrize("command", ["cancel", "orders", "watch"])
async def test_no_category_is_not_the_first(operator: Operator, command: str) -> None:
    """It is a usage error that names them; nothing is sent."""
    yes = ["--yes"] * (command == "cancel")
    ran = await operator.run(command, *yes, *operator.way)
    assert (ran.status, ran.out) == (Status.USAGE, "")
    assert (
        "say which account category of AscendEX: --category cash, --category margin or "
        "--category futures, or --all-categories" in ran.err
    )
    ran = await operator.run(command, *yes, "--all-categories", "--category", "cash", *operator.way)
    assert (ran.status, ran.out) == (Status.USAGE, "")
    assert "--all-categories takes the place of --category" in ran.err
    assert operator.exchange.requests == []


@pytest.mark.parametrize("command", ["cancel", "orders", "watch"])
def test_no_venue_is_not_the_first(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a usage error that names them."""
    assert run([command, "--category", "cash"]) == Status.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert all(f"--venue {name}" in err for name in VENUES)


@pytest.mark.asyncio
async def test_one_scope_that_does_not_exist_stops_them_all(operator: Operator) -> None:
    """A symbol that one of the categories can't have is refused before anything is sent."""
    categories = ("--category", "cash", "--category", "futures")
    for command in ("cancel", "orders"):
        ran = await operator.run(command, *categories, "--symbol", "BTC/USDT", *operator.way)
        assert (ran.status, ran.out) == (Status.USAGE, "")
        assert "futures: 'BTC/USDT' is not a futures symbol" in ran.err
    assert operator.exchange.requests == []


class Lonely(AscendEX, frozen=True, kw_only=True):
    """A venue with one category, whose books can be cancelled one by one."""

    name: ClassVar[str] = "lonely"
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "cash": replace(AscendEX.abilities["cash"], separable=True)
    }


@pytest.mark.asyncio
async def test_the_only_category_need_not_be_named(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a venue has one, there is nothing to choose."""
    monkeypatch.setitem(VENUES, "lonely", (__name__, "Lonely"))
    ran = await operator.run("cancel", "--yes", *operator.way, "--venue", "lonely")
    assert ran.status == Status.DONE
    assert operator.left()["cash"] == set()
    assert "not touched" not in ran.out


@pytest.mark.asyncio
async def test_books_that_are_left_out(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are named, in the table, in the last line and in JSON; or the scope is refused."""
    monkeypatch.setitem(VENUES, "lonely", (__name__, "Lonely"))
    command = ("cancel", "--yes", "--book", "ordinary", *operator.way)
    ran = await operator.run(*command, "--category", "cash")
    assert ran.status == Status.USAGE
    assert "cash: AscendEX can't leave out the book stop" in ran.err
    assert operator.exchange.requests == []

    ran = await operator.run(*command, "--venue", "lonely")
    assert ran.status == Status.DONE
    assert "stop" not in ran.row("cash", "all", "ordinary")
    assert ran.lines[-1] == "The book stop of cash was not touched."

    found = (await operator.run(*command, "--venue", "lonely", "--json")).json
    assert found["not_touched"]["books"] == {"cash": ["stop"]}
    assert found["outcomes"][0]["ack"]["left_out"] == ["stop"]


@pytest.mark.asyncio
async def test_one_that_fails_disturbs_no_other(operator: Operator) -> None:
    """Each has its own row; the status is that of the one that failed, and its error a line."""
    operator.exchange.faults.add(REFUSED, path="/margin/", times=None)
    ran = await operator.run("cancel", "--all-categories", "--yes", *operator.way)
    assert ran.status == Status.FAILED
    assert operator.left() == {"cash": set(), "margin": BOTH, "futures": set()}
    assert "received" in ran.row("cash", "all")
    assert "failed" in ran.row("margin", "all")
    assert "received" in ran.row("futures", "all")
    assert ran.err.count("\n") == 1
    assert "cancel_all margin on ascendex" in ran.err


@pytest.mark.asyncio
async def test_what_is_still_open_is_listed_by_scope(operator: Operator) -> None:
    """One category is flat, in another an order stays: it is listed, with the status for that."""
    stubborn = operator.exchange.place(
        operator.account, "margin", "BTC/USDT", script=Script(on_cancel=OnCancel.IGNORE)
    )
    named = ("--category", "cash", "--category", "margin", "--settle", "0.05", "--timeout", "0.5")
    ran = await operator.run("cancel", *named, "--yes", "--confirm", *operator.way)
    assert ran.status == Status.NOT_FLAT
    assert "flat" in ran.row("cash", "all")
    assert "not flat" in ran.row("margin", "all")
    title = ran.lines.index("Still open: 1 order of margin")
    assert ran.lines[title + 2].endswith(stubborn.order_id)


@pytest.mark.asyncio
async def test_a_proof_where_nobody_listens(operator: Operator) -> None:
    """Nothing was sent, and that is what the status says: not that nothing could be listed."""
    categories = ("--category", "cash", "--category", "margin", "--timeout", "0.3")
    ran = await operator.run(
        "cancel", *categories, "--yes", "--confirm", "--settle", "0.05", *NOWHERE
    )
    assert ran.status == Status.NOT_SENT
    assert "not sent" in ran.row("cash", "all")
    assert "not sent" in ran.row("margin", "all")


@pytest.mark.asyncio
async def test_an_entry_that_fails_has_outcomes_too(operator: Operator) -> None:
    """What has to be asked first can't be: each scope has a row that says so."""
    settings = NOWHERE[:-2]  # the account group has to be found out
    ran = await operator.run(
        "cancel", "--all-categories", "--yes", "--timeout", "0.2", "--json", *settings
    )
    assert ran.status == Status.NOT_SENT
    assert [each["status"] for each in ran.json["outcomes"]] == [Status.NOT_SENT] * 3
    assert ran.json["error"]["type"] == ran.json["outcomes"][0]["error"]["type"]


@pytest.mark.asyncio
async def test_several_on_the_stream(operator: Operator) -> None:
    """The other path takes them all as well."""
    ran = await operator.run(
        "cancel", "--category", "cash", "--category", "margin", "--yes", "--via", "stream",
        *operator.way,
    )  # fmt: skip
    assert ran.status == Status.DONE
    assert "on the stream" in ran.row("cash", "all")
    assert {each.method for each in operator.exchange.operations("cancel-all")} == {"WS"}
    assert operator.left() == {"cash": set(), "margin": set(), "futures": CONTRACTS}


@pytest.mark.asyncio
async def test_orders_of_several(operator: Operator) -> None:
    """Each line names its category; one that can't be listed costs the others nothing."""
    categories = ("--category", "cash", "--category", "futures")
    ran = await operator.run("orders", *categories, *operator.way)
    assert (ran.status, ran.err) == (Status.DONE, "")
    assert [line.split()[:2] for line in ran.lines] == [
        ["category", "symbol"],
        ["cash", "BTC/USDT"],
        ["cash", "ETH/USDT"],
        ["futures", "BTC-PERP"],
        ["futures", "ETH-PERP"],
    ]
    operator.exchange.faults.add(REFUSED, path="/futures/", times=None)
    ran = await operator.run("orders", *categories, "--json", *operator.way)
    assert ran.status == Status.FAILED
    found = ran.json
    assert {each["account_category"] for each in found["orders"]} == {"cash"}
    assert [each["ok"] for each in found["outcomes"]] == [True, False]
    assert found["outcomes"][1]["orders"] is None
    assert found["not_listed"]["categories"] == ["margin"]


@pytest.mark.asyncio
async def test_ctrl_c_between_two_outcomes(operator: Operator) -> None:
    """One was acknowledged, of the other nothing is known: each has an outcome that says so.

    The command's coroutine is cancelled here, as Ctrl-C does it, at a moment that is chosen.
    """
    operator.exchange.faults.add(Hang(tag="it"), path="/margin/", times=None)
    account = Account(
        venue_of(operator.exchange, operator.account.group),
        Credentials(operator.account.api_key, operator.account.api_secret),
        ("cash", "margin"),
    )
    scopes = Scopes.of(account, None, None)
    plan = cancel.Plan(scopes=scopes, timeout=60.0, via="rest", confirm=False, settle=None)
    one_has_ended = asyncio.Event()
    unsubscribe = subscribe(
        lambda event: one_has_ended.set() if isinstance(event, CallEnded) else None
    )
    task = asyncio.create_task(cancel._carry_out(plan, Known()))
    await one_has_ended.wait()
    await operator.exchange.until(lambda: "it" in operator.exchange.waiting)
    task.cancel()
    result = await task
    unsubscribe()
    assert result.status == Status.INTERRUPTED
    assert [cancel._word(each) for each in result.report.outcomes] == ["received", "unknown"]


@pytest.mark.cover_processes
@pytest.mark.asyncio
async def test_ctrl_c(operator: Operator) -> None:
    """Each scope has a row, and the last line says what is known."""
    operator.exchange.faults.add(Hang(tag="it"), operation="cancel-all", times=None)
    named = ("--category", "cash", "--category", "margin", "--timeout", "60")
    process = await spawn("cancel", *named, "--yes", *operator.way)
    await operator.exchange.until(lambda: operator.exchange.waiting == ["it", "it"])
    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert ended.status == Status.INTERRUPTED
    rows = [line.split() for line in ended.out.splitlines()]
    assert [row[0] for row in rows if "unknown" in row] == ["cash", "margin"]
    assert ended.err == (
        "masscancel: interrupted; the cancel may have been carried out: "
        "list the open orders to know\n"
    )


@pytest.mark.asyncio
async def test_no_at_the_prompt(operator: Operator) -> None:
    """It has a status of its own; the question names the categories and the host."""
    named = ("--category", "cash", "--category", "margin")
    status, seen = await at_a_terminal("cancel", *named, *operator.way, answer=b"n\n")
    assert status == Status.DECLINED
    assert f"every open cash and margin order on ascendex ({operator.exchange.rest_url})" in (
        " ".join(seen.split())
    )
    assert "not confirmed; nothing was sent" in seen
    assert operator.exchange.requests == []


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], Status.DONE),
        ([Status.DONE, Status.DONE], Status.DONE),
        ([Status.DONE, Status.NOT_SENT], Status.NOT_SENT),
        ([Status.NOT_SENT, Status.UNKNOWN], Status.UNKNOWN),
        ([Status.UNKNOWN, Status.NOT_FLAT, Status.DENIED], Status.NOT_FLAT),
        ([Status.UNKNOWN, Status.UNPROVEN], Status.UNPROVEN),
        ([Status.USAGE, Status.USAGE], Status.USAGE),
        ([Status.USAGE, Status.DENIED], Status.DENIED),
    ],
)
def test_the_gravest_status_counts(statuses: list[Status], expected: Status) -> None:
    """Nothing is half done with status 0."""
    assert worst_of(statuses) is expected


def test_half_done_is_no_usage_error() -> None:
    """Its words, that nothing was sent, would be wrong where another scope was cancelled."""
    assert worst_of([Status.DONE, Status.USAGE]) is Status.FAILED
