"""`masscancel doctor`: what it shows, and what it ends with; nothing is cancelled."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from desk_support import Desk, desk_of
from masscancel.cli.status import DoctorStatus
from masscancel.sim import Answer, Hang

pytestmark = pytest.mark.asyncio

WRONG_KEY = Answer(401, b'{"code":"50111","msg":"Invalid OK-ACCESS-KEY"}')
READ_ONLY = Answer(200, b'{"code":"0","data":[{"perm":"read_only","ip":"192.0.2.1"}]}')


@pytest_asyncio.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> AsyncIterator[Desk]:
    """Four accounts at three venues, all full of orders; they stay so."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with desk_of(
        tmp_path, monkeypatch, capfd, venues=("binance", "okx", "bitget"), each=1
    ) as found:
        before = found.left()
        yield found
        assert found.left() == before
        for seat in found.seats.values():
            assert not seat.exchange.operations("cancel-all")


def hide_the_permissions(desk: Desk) -> None:
    """Have Bitget tell nothing of the key, as it does of unified accounts."""
    answer = Answer(200, b'{"code":"00000","data":{"authorities":[]}}')
    desk.seats["bitget-0"].exchange.faults.add(answer, operation="info", times=None)


async def test_all_is_well(desk: Desk) -> None:
    """A row for each account, and status 0."""
    ran = await desk.run("doctor")
    assert ran.status == DoctorStatus.WELL
    assert "may cancel spot, usdm" in ran.row("binance-0", "binance")
    assert "may cancel account" in ran.row("okx-0", "okx")
    assert ran.err == "masscancel: 3 accounts: 3 well\n"
    assert not any(seat.exchange.operations("cancel-order") for seat in desk.seats.values())


async def test_each_check_can_be_seen(desk: Desk) -> None:
    """Those that are well, too, and this machine's."""
    ran = await desk.run("doctor", "--all", "okx-0")
    assert ran.status == DoctorStatus.WELL
    for check in ("name", "connection", "clock"):
        ran.row("okx-0", "okx", check, "ok")
    ran.row("okx-0", "okx", "account", "key", "ok")
    ran.row("okx-0", "okx", "account", "may", "cancel", "ok")
    ran.row("(this", "machine)", "descriptors", "ok")


async def test_what_would_fail(desk: Desk) -> None:
    """Its own rows with what to do; the others are not touched by it."""
    desk.seats["okx-0"].exchange.faults.add(READ_ONLY, operation="config", times=None)
    ran = await desk.run("doctor")
    assert ran.status == DoctorStatus.FAILS
    row = ran.row("okx-0", "okx", "account", "may", "cancel", "failed")
    assert "give the key the permission to trade" in row
    assert "all" in ran.row("binance-0", "binance")
    assert ran.err == "masscancel: 3 accounts: 2 well, 1 would fail\n"


async def test_what_can_not_be_known_goes_before_what_fails(desk: Desk) -> None:
    """Status 4; a probe, which cancels nothing, makes it known: 3."""
    hide_the_permissions(desk)
    desk.seats["okx-0"].exchange.faults.add(WRONG_KEY, operation="open-orders", times=None)
    ran = await desk.run("doctor")
    assert ran.status == DoctorStatus.UNKNOWN
    assert "--probe" in ran.row("bitget-0", "bitget", "spot", "may", "cancel", "unknown")
    assert "50111" in ran.row("okx-0", "okx", "account", "key", "failed")
    ran = await desk.run("doctor", "--probe")
    assert ran.status == DoctorStatus.FAILS
    assert "all" in ran.row("bitget-0", "bitget")
    assert desk.seats["bitget-0"].exchange.operations("cancel-order")


async def test_one_document(desk: Desk) -> None:
    """Every finding of every account, this machine's, and who was not examined."""
    hide_the_permissions(desk)
    ran = await desk.run("doctor", "--json", "okx-*", "bitget-*")
    assert ran.status == DoctorStatus.UNKNOWN
    assert not ran.json["ok"]
    assert ran.json["status"] == DoctorStatus.UNKNOWN
    assert ran.json["accounts_file"] == str(desk.file)
    assert ran.json["not_examined"] == ["binance-0"]
    okx, bitget = ran.json["accounts"]
    assert (okx["account"], okx["venue"], okx["status"]) == ("okx-0", "okx", "ok")
    assert bitget["status"] == "unknown"
    rights = {each["category"] for each in bitget["findings"] if each["name"] == "may cancel"}
    assert rights == {*desk.seats["bitget-0"].market.spellings}
    assert [each["name"] for each in ran.json["machine"]] == ["descriptors"]
    assert {*okx["findings"][0]} == {"name", "category", "status", "detail", "advice", "error"}


async def test_a_venue_that_hangs(desk: Desk) -> None:
    """It is examined for no longer than the time limit; the others are well."""
    desk.seats["okx-0"].exchange.faults.add(Hang(), times=None)
    ran = await desk.run("doctor", "--timeout", "1")
    assert ran.status == DoctorStatus.UNKNOWN
    ran.row("okx-0", "okx", "clock", "unknown")
    assert "all" in ran.row("binance-0", "binance")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mm-*"], "has the name 'mm-*': binance-0, okx-0, bitget-0"),
        (["--tag", "desk=9"], "has the tag 'desk=9'"),
        (["--venue", "kraken"], "has the venue 'kraken'"),
        (["--timeout", "0"], "timeout"),
        (["--accounts", "nowhere.toml"], "nowhere.toml"),
    ],
)
async def test_usage(desk: Desk, arguments: list[str], words: str) -> None:
    """A selector that matches nothing, a time limit that is none, no file: nothing is sent."""
    ran = await desk.run("doctor", *arguments)
    assert ran.status == DoctorStatus.USAGE
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert not any(seat.exchange.requests for seat in desk.seats.values())


async def test_the_file_is_read_strictly(desk: Desk) -> None:
    """The first thing that is wrong, in one line: file, line, what would be right."""
    desk.write(okx_0=desk.seats["okx-0"].text(categories=("acount",)))
    ran = await desk.run("doctor")
    assert ran.status == DoctorStatus.USAGE
    assert "masscancel.toml, line 15: no account category 'acount' on OKX; there are:" in ran.err
    assert not any(seat.exchange.requests for seat in desk.seats.values())
