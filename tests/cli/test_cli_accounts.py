"""`masscancel accounts`: what the file says, and what its categories might be."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from desk_support import Desk, desk_of
from masscancel.cli.status import Status
from masscancel.sim import Hang
from support import DENIED

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> AsyncIterator[Desk]:
    """Three accounts at three venues."""
    async with desk_of(
        tmp_path, monkeypatch, capfd, venues=("binance", "okx", "ascendex"), each=1
    ) as found:
        yield found


async def test_what_the_file_says(desk: Desk) -> None:
    """Where the secrets are, and no secret."""
    ran = await desk.run("accounts")
    assert ran.status == Status.DONE
    row = ran.row("binance-0", "binance")
    for words in ("spot, usdm", "desk=0", "env BINANCE_0_KEY", "env BINANCE_0_SECRET"):
        assert words in row
    plain = await desk.run("accounts", "--json", "okx-*")
    [account] = plain.json["accounts"]
    assert account["categories"] == ["account"]
    assert account["secrets"]["passphrase"] == "env OKX_0_PHRASE"


async def test_it_is_strict(desk: Desk) -> None:
    """One line with the file, the line and what would be right, and nothing shown."""
    desk.write(okx_0=desk.seats["okx-0"].text(categories=("acount",)))
    ran = await desk.run("accounts")
    assert ran.status == Status.USAGE
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert "masscancel.toml, line 15: no account category 'acount' on OKX; there are:" in ran.err


async def test_a_secret_that_others_can_read_is_said(desk: Desk, tmp_path: Path) -> None:
    """The file counts all the same: containers mount secrets that way."""
    secret = tmp_path / "okx.secret"
    secret.write_text(desk.seats["okx-0"].account.api_secret)
    secret.chmod(0o644)
    place = '{ file = "okx.secret" }'
    desk.write(okx_0=desk.seats["okx-0"].text().replace('{ env = "OKX_0_SECRET" }', place))
    ran = await desk.run("accounts")
    assert ran.status == Status.DONE
    assert "okx-0: others can read api_secret: chmod 600 file okx.secret" in ran.err


async def test_categories_are_proposed(desk: Desk) -> None:
    """Those that answer, for accounts that name none yet; the line can be pasted into the file."""
    text = desk.seats["ascendex-0"].text()
    lines = [line for line in text.splitlines() if "categories" not in line]
    desk.write(ascendex_0="\n".join(lines))
    exchange = desk.seats["ascendex-0"].exchange
    exchange.faults.add(DENIED, operation="open-orders", path="futures", times=None)
    ran = await desk.run("accounts", "--discover")
    assert ran.status == Status.DONE
    assert 'binance-0: categories = ["spot", "usdm"]' in ran.lines
    assert 'okx-0: categories = ["account"]' in ran.lines
    assert 'ascendex-0: categories = ["cash", "margin"]' in ran.lines
    assert "ascendex-0: not futures: " in ran.err


async def test_an_exchange_that_is_silent_is_no_answer(desk: Desk) -> None:
    """Nothing is proposed of it, and the status says so."""
    desk.seats["okx-0"].exchange.faults.add(Hang(), times=None)
    ran = await desk.run("accounts", "--discover", "--timeout", "1", "--json")
    assert ran.status == Status.NOT_SENT
    found = {each["name"]: each["categories"] for each in ran.json["accounts"]}
    assert found["okx-0"] == []
    assert found["binance-0"] == ["spot", "usdm"]
