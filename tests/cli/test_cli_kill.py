"""`masscancel kill`: every account of the file, judged by the exchanges' own books."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from cli_support import at_a_terminal, finish, spawn
from desk_support import Desk, desk_of
from masscancel.cli.status import KillStatus
from masscancel.journal import Journal, rows, verify
from masscancel.sim import Answer, Hang, Hold

pytestmark = pytest.mark.asyncio

QUICK = ("--settle", "0.05")


@pytest_asyncio.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> AsyncIterator[Desk]:
    """Six accounts at three venues."""
    async with desk_of(tmp_path, monkeypatch, capfd) as found:
        yield found


async def test_all_of_it(desk: Desk) -> None:
    """Every account and category has a row, and nothing is left at any exchange."""
    ran = await desk.run("kill", "--yes", *QUICK)
    assert ran.status == KillStatus.FLAT
    assert desk.left() == dict.fromkeys(desk.seats, 0)
    rows = [line.split()[:4] for line in ran.lines[1:]]
    assert sorted(rows) == sorted(
        [name, name.partition("-")[0], category, "flat"]
        for name, seat in desk.seats.items()
        for category in seat.market.spellings
    )
    assert "10 flat, of 10 rows" in ran.err


async def test_what_it_has_still_seen(desk: Desk) -> None:
    """A listing beside the cancels says how many of the orders were in which book."""
    seat = desk.seats["binance-1"]
    exchange = seat.exchange
    exchange.place(seat.account, "usdm", "BTCUSDT", order_type="stop_market")
    exchange.faults.add(Hold("kill"), method="DELETE", times=None)
    process = await spawn("kill", "binance-1", "--yes", *QUICK, "--json")

    def looks() -> int:
        """How often its algo orders were listed: by the cancel, and beside it."""
        every = [each for each in exchange.requests if each.answer == "answered"]
        return sum(each.raw_path.startswith("/fapi/v1/openAlgoOrders") for each in every)

    await exchange.until(lambda: looks() > 1)
    exchange.faults.clear()
    exchange.release("kill")
    out, _ = await process.communicate()
    [row] = [
        each for each in msgspec.json.decode(out)["rows"] if each["account_category"] == "usdm"
    ]
    assert row["outcome"] == "flat"
    assert row["seen"]["algo"] == 1
    assert row["seen"]["open"] > 1
    assert seat.left() == 0


async def test_what_is_left_of_it_afterwards(desk: Desk) -> None:
    """The journal has who, why and what became of each; its head is said and verifies."""
    desk.write(more=desk.seats["okx-0"].text().replace("okx-0", "odd").replace("venue", "vnue"))
    ran = await desk.run("kill", "--yes", "--reason", "wrong prices", *QUICK, "--json")
    assert ran.status == KillStatus.NOT_FLAT
    head = ran.json["journal"]["head"]
    assert f"journal: head {head}" in ran.err
    verified = await desk.run("journal", "verify", "--head", head)
    assert verified.status == 0
    exported = await desk.run("journal", "export")
    rows = [msgspec.json.decode(line) for line in exported.lines]
    kinds = [row["kind"] for row in rows]
    [started] = [row["event"] for row in rows if row["kind"] == "KillStarted"]
    assert started["reason"] == "wrong prices"
    assert kinds.count("TargetEnded") == len(ran.json["rows"])
    assert kinds.count("KillEnded") == 1
    named = {row["event"]["account"] for row in rows if row["kind"] == "TargetEnded"}
    assert named == {*desk.seats, "odd"}


async def test_a_journal_that_is_locked_stops_nothing(desk: Desk, tmp_path: Path) -> None:
    """All is flat, and it is said that the journal is not whole; what is there verifies."""
    path = tmp_path / "own.sqlite"
    assert Journal(path).close(30)
    with closing(connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ran = await desk.run("kill", "--yes", "--journal", str(path), *QUICK)
    assert ran.status == KillStatus.FLAT
    assert desk.left() == dict.fromkeys(desk.seats, 0)
    assert f"journal: {path} is not whole: " in ran.err
    assert [row.kind for row in rows(path)] == ["JournalOpened"]
    assert verify(path).ok


async def test_no_journal_is_said_aloud(desk: Desk) -> None:
    """And nothing is written; a disk that can't be written stops no cancel."""
    ran = await desk.run("kill", "okx-*", "--yes", "--no-journal", *QUICK)
    assert "journal: none is written, as --no-journal says" in ran.err
    ran = await desk.run("kill", "binance-*", "--yes", "--journal", "/proc/nowhere/j", *QUICK)
    assert ran.status == KillStatus.FLAT
    assert "journal: /proc/nowhere/j is not whole" in ran.err
    assert desk.left()["binance-0"] == desk.left()["okx-0"] == 0


async def test_a_dry_run_cancels_nothing(desk: Desk) -> None:
    """It lists what a kill would cancel, and needs no --yes."""
    before = desk.left()
    ran = await desk.run("kill", "--dry-run", "--json")
    assert ran.status == KillStatus.FLAT
    assert desk.left() == before
    document = ran.json
    assert sum(len(row["orders"]) for row in document["rows"]) == sum(before.values())
    assert {row["outcome"] for row in document["rows"]} == {"listed"}


async def test_the_selected_alone(desk: Desk) -> None:
    """What is not selected stays, and is named."""
    ran = await desk.run("kill", "binance-*", "--tag", "desk=1", "--yes", *QUICK)
    assert ran.status == KillStatus.FLAT
    left = desk.left()
    assert left.pop("binance-1") == 0
    assert all(left.values())
    assert "not selected: binance-0, kraken-0, kraken-1, okx-0 and okx-1" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody",), "has the name 'nobody': binance-0, "),
        (("--venue", "gate"), "has the venue 'gate': binance, kraken, okx"),
        (("--tag", "desk=7"), "has the tag 'desk=7': desk=0, desk=1"),
        (("--tag", "desk"), "--tag takes NAME=VALUE"),
        (("--keep", "sotp"), "--keep sotp: no account has such a book; there are: ordinary, stop"),
        (("--timeout", "0"), "timeout must be positive"),
        (("--accounts", "/nowhere.toml"), "/nowhere.toml can't be read: No such file"),
    ],
)
async def test_what_matches_nothing(desk: Desk, arguments: tuple[str, ...], words: str) -> None:
    """A usage error with what there is, before anything is sent."""
    before = desk.left()
    ran = await desk.run("kill", "--yes", *arguments)
    assert ran.status == KillStatus.USAGE
    assert words in ran.err
    assert desk.left() == before


async def test_without_a_terminal_it_wants_to_be_told(desk: Desk) -> None:
    """It refuses, and says what to say."""
    before = desk.left()
    ran = await desk.run("kill")
    assert ran.status == KillStatus.USAGE
    assert "6 accounts on binance, kraken and okx" in ran.err
    assert "say --yes" in ran.err
    assert desk.left() == before


async def test_broken_neighbours_are_rows(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without categories, one without a key, one of no venue, one with a wrong key."""
    text = desk.seats["okx-0"].text()
    monkeypatch.setenv("BINANCE_0_SECRET", "another-secret-that-nobody-has-got")
    more = text.replace("okx-0", "no-venue").replace('"okx"', '"okxx"')
    more += text.replace("okx-0", "no-key").replace("OKX_0_KEY", "NOWHERE")
    desk.write(more=more, kraken_1=desk.seats["kraken-1"].text().replace("categories", "cats"))
    ran = await desk.run("kill", "--yes", *QUICK, "--json")
    assert ran.status == KillStatus.NOT_FLAT
    left = desk.left()
    assert left.pop("binance-0")
    assert left.pop("kraken-1")
    assert not any(left.values())
    words = {row["account"]: row["outcome"] for row in ran.json["rows"] if not row["ok"]}
    assert words == {
        "binance-0": "denied",
        "kraken-1": "unreadable",
        "no-venue": "unreadable",
        "no-key": "refused",
    }
    assert "set NOWHERE in the environment" in ran.err
    assert "there is no 'cats'; there are: name, venue, categories" in ran.err


async def test_a_sick_venue_holds_up_no_other(desk: Desk) -> None:
    """What hangs is unknown, which goes before what is not flat; the others are flat."""
    desk.seats["binance-0"].exchange.faults.add(Hang(), times=None)
    desk.seats["kraken-0"].exchange.faults.add(
        Answer(403, b"no"), operation="cancel-all", times=None
    )
    ran = await desk.run("kill", "--yes", "--timeout", "3", *QUICK, "--json")
    assert ran.status == KillStatus.UNKNOWN
    left = desk.left()
    assert left["okx-0"] == left["okx-1"] == 0
    for row in ran.json["rows"]:
        assert row["ok"] == (row["venue"] == "okx"), row


async def test_books_that_are_kept(desk: Desk) -> None:
    """Where a venue can't leave one out, the row is refused, and nothing there is cancelled."""
    seat = desk.seats["okx-0"]
    seat.exchange.place(seat.account, "account", "BTC-USDT-SWAP", order_type="trigger")
    ran = await desk.run("kill", "*-0", "--keep", "trigger", "--yes", *QUICK, "--json")
    assert ran.status == KillStatus.NOT_FLAT
    assert seat.left() == 1
    assert desk.left()["kraken-0"] == 6
    assert ran.json["not_touched"]["books"] == {"okx-0 account": ["trigger"]}
    assert "trigger can't be kept in spot of Kraken, whose books are ordinary, stop" in ran.err
    listed = await desk.run("kill", "okx-0", "--dry-run", "--json")
    assert listed.json["rows"][0]["tally"] == {"open": 1, "trigger": 1}


async def test_at_a_terminal_it_asks(desk: Desk) -> None:
    """The table fills, and stands there at the end; no is no."""
    status, seen = await at_a_terminal("kill", "okx-*", *QUICK, answer=b"n\n")
    assert status == KillStatus.DECLINED
    assert desk.left()["okx-0"]
    status, seen = await at_a_terminal("kill", "okx-*", *QUICK, answer=b"y\n")
    assert status == KillStatus.FLAT
    assert "2 accounts on okx? [y/N]" in seen
    assert "okx-1 (account)" in seen
    assert desk.left()["okx-0"] == desk.left()["okx-1"] == 0


async def _held(desk: Desk, *arguments: str) -> asyncio.subprocess.Process:
    """Start a kill of one account whose cancels the exchange holds; wait until it has one."""
    exchange = desk.seats["kraken-0"].exchange
    exchange.faults.add(Hold("kill"), operation="cancel-all", times=None)
    process = await spawn("kill", "kraken-0", "--yes", *QUICK, *arguments)
    await exchange.until(lambda: "kill" in exchange.waiting)
    return process


async def test_a_first_ctrl_c_changes_nothing(desk: Desk) -> None:
    """The cancels go on to the proof, and the status is theirs."""
    process = await _held(desk)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    said = await process.stderr.readline()
    assert b"SIGINT: the cancels go on" in said
    exchange = desk.seats["kraken-0"].exchange
    exchange.faults.clear()
    exchange.release("kill")
    out, _ = await process.communicate()
    assert process.returncode == KillStatus.FLAT
    assert b"flat" in out
    assert desk.left()["kraken-0"] == 0


async def test_a_second_ctrl_c_ends_with_what_is_known(desk: Desk) -> None:
    """A cancel is on its way: that is unknown, and no traceback."""
    process = await _held(desk, "--json")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    await process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()
    assert process.returncode == KillStatus.UNKNOWN
    assert {row["outcome"] for row in msgspec.json.decode(out)["rows"]} == {"sent"}
    assert b"not waited for; a cancel may have been carried out" in err
    assert b"Traceback" not in err


async def test_a_reader_that_has_gone_stops_nothing(desk: Desk) -> None:
    """As in `kill | head -1`; the accounts are flat."""
    process = await spawn("kill", "--yes", *QUICK)
    assert process.stdout is not None
    process.stdout._transport.close()  # type: ignore[attr-defined]  # as head does
    ended = await finish(process)
    assert ended.status == KillStatus.FLAT
    assert not any(desk.left().values())
