"""``journal``: what it lists, exports and verifies; and that ``guard`` writes one."""

import asyncio
import csv
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import msgspec
import pytest

from cli_support import finish, spawn
from guard_here import Here, guarding_here
from masscancel.calls import Scope
from masscancel.cli.app import run
from masscancel.cli.status import Status
from masscancel.events import CallEnded, CallStarted, GateShut, KillEnded, KillStarted
from masscancel.journal import Journal, default_path, rows, verify

#: A reason as a malicious client could choose it: colours, a line of its own, a text turned around.
NASTY = "loss\x1b[31m\nDONE\u202ex"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's journal: two kills, and a gate."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = default_path()
    assert path == tmp_path / "masscancel" / "journal.sqlite"
    with Journal(path, actor="anna@desk:7", linger=0) as journal:
        for name, reason in (("aa01", NASTY), ("bb02", "drill")):
            scope = Scope("cash", "BTC/USDT")
            journal(KillStarted(kill_id=name, reason=reason, actor="risk", what="the desk"))
            call = {"call_id": f"call-{name}", "name": "cancel_all", "venue": "ascendex"}
            more = {"account": f"mm-{name}", "scope": scope}
            journal(CallStarted(**call, **more, timeout=5.0, kill_id=name))  # type: ignore[arg-type]
            journal(
                CallEnded(
                    **call,  # type: ignore[arg-type]
                    **more,  # type: ignore[arg-type]
                    ok=True,
                    outcome="acknowledged",
                    attempts=1,
                    elapsed=0.1,
                    cancelled=("id-1", "id-2"),
                )
            )
            journal(KillEnded(kill_id=name, targets=1, failed=0, unknown=0, elapsed=0.1))
        journal(GateShut(gate="desk"))
    return path


class Printed:
    """Runs ``masscancel journal`` here."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, list[str], str]:
        """The status, the lines of standard output, and standard error."""
        self._capsys.readouterr()
        status = run(["journal", *arguments])
        out, err = self._capsys.readouterr()
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err
        return status, out.splitlines(), err


@pytest.fixture
def printed(path: Path, capsys: pytest.CaptureFixture[str]) -> Printed:
    """The command, beside a journal."""
    assert path.exists()
    return Printed(capsys)


def numbers(lines: list[str]) -> list[int]:
    """The numbers of the rows that are listed."""
    return [int(line.split()[0]) for line in lines]


def test_list(printed: Printed) -> None:
    """A row on each line: when, what, who, why, the orders; nothing steers the terminal."""
    status, lines, err = printed()
    assert (status, err) == (Status.DONE, "")
    assert numbers(lines) == [*range(1, 11)]
    assert "by anna@desk:7" in lines[0]
    assert lines[1].endswith("kill aa01 of the desk, by risk: loss\\x1b[31m DONE\\u202ex")
    assert "call call-aa01" in lines[2]
    assert lines[3].endswith(
        "cancel_all cash BTC/USDT on ascendex [mm-aa01]: acknowledged; cancelled: id-1, id-2"
    )
    assert lines[4].endswith("kill aa01: 1 targets, 0 failed, 0 unknown")
    assert lines[9].endswith("GateShut      gate desk")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--kill", "aa01"], [2, 3, 4, 5]),
        (["--kill", "bb"], [6, 7, 8, 9]),
        (["--account", "mm-bb02"], [7, 8]),
        (["--kind", "killended"], [5, 9]),
        (["--kind", "KillEnded", "--kill", "bb02"], [9]),
        (["--kind", "GateShut"], [10]),
        (["--since", "1h"], [*range(1, 11)]),
        (["--until", "2020-01-01"], []),
        (["--since", "2999-01-01T00:00+02:00"], []),
        (["--last", "2"], [9, 10]),
        (["--last", "0", "--kill", "aa01"], [2, 3, 4, 5]),
    ],
)
def test_filters(printed: Printed, options: list[str], found: list[int]) -> None:
    """By time, account, kind and kill; what is not shown is said."""
    status, lines, err = printed(*options)
    assert (status, numbers(lines)) == (Status.DONE, found)
    if not found:
        assert err == "masscancel: no row is so\n"
    elif options == ["--last", "2"]:
        assert err == "masscancel: the last 2 of 10 rows; --last 0 shows all\n"
    else:
        assert err == ""


def test_list_as_json(printed: Printed) -> None:
    """One object, with what was left out."""
    status, [line], _ = printed("--json", "--last", "1")
    read = msgspec.json.decode(line)
    assert (status, read["ok"], read["status"], read["left_out"]) == (0, True, 0, 9)
    assert [row["kind"] for row in read["rows"]] == ["GateShut"]


def test_export(printed: Printed, path: Path) -> None:
    """A JSON object on each line, or CSV: the same rows, with their hashes."""
    status, lines, err = printed("export")
    assert (status, err) == (Status.DONE, "")
    exported = [msgspec.json.decode(line) for line in lines]
    assert exported == [row.to_dict() for row in rows(path)]
    assert exported[1]["event"]["reason"] == NASTY

    status, lines, err = printed("export", "--format", "csv", "--kill", "aa01")
    assert (status, err) == (Status.DONE, "")
    table = [*csv.DictReader(lines)]
    assert [row["number"] for row in table] == ["2", "3", "4", "5"]
    assert table[0]["actor"] == "risk"
    assert table[0]["reason"] == "loss\\x1b[31m DONE\\u202ex"
    assert table[2]["account"] == "mm-aa01"
    assert msgspec.json.decode(table[2]["event"])["cancelled"] == ["id-1", "id-2"]
    assert [row["hash"] for row in table] == [row.hash for row in rows(path)][1:5]


def test_verify(printed: Printed, path: Path) -> None:
    """Status 0 and what is known; with a head, more is."""
    status, [words, head], err = printed("verify")
    assert (status, err) == (Status.DONE, "")
    assert "can't be known without a head" in words
    assert head == f"head {verify(path).head}"
    status, [words, _], _ = printed("verify", "--head", head.removeprefix("head "))
    assert (status, words) == (0, "rows 1 to 10: every link holds, and the head is in it")


def test_verify_finds(printed: Printed, path: Path) -> None:
    """Status 1 and a line for each problem: a row that was changed, a tail that was cut off."""
    head = str(verify(path).head)
    with closing(connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER no_DELETE")
        connection.execute("DELETE FROM journal WHERE number > 8")
    assert printed("verify")[0] == Status.DONE
    status, lines, err = printed("verify", "--head", head)
    assert (status, lines) == (Status.FAILED, [])
    assert err == (
        f"masscancel: {path}: the head has 10 rows, and there are 8: the end was cut off\n"
    )
    with closing(connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER no_UPDATE")
        connection.execute("UPDATE journal SET text = '{}' WHERE number = 3")
    status, [line], _ = printed("verify", "--json")
    read = msgspec.json.decode(line)
    assert (status, read["ok"], read["status"]) == (1, False, 1)
    assert read["problems"] == ["row 3 does not follow from the one before: one was changed"]
    status, lines, _ = printed()  # what can't be read is listed as such
    assert status == Status.DONE
    assert "Unreadable" in lines[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "nonsense"], "there is no kind 'nonsense'; there are: "),
        (["--since", "yesterday"], "--since takes 15m, 2h, 1d or a date"),
        (["verify", "--head", "12"], "a head is COUNT:HASH"),
        (["--head", "12"], "--head is for 'masscancel journal verify'"),
        (["--file", "/no/such/file"], "there is no journal at /no/such/file"),
        (["verify", "--file", "/no/such/file"], "there is no journal at /no/such/file"),
        (["shred"], "shred"),
    ],
)
def test_what_can_not_be_used(printed: Printed, arguments: list[str], words: str) -> None:
    """One line, and status 2."""
    status, lines, err = printed(*arguments)
    assert (status, lines) == (Status.USAGE, [])
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.asyncio
async def test_follow(path: Path) -> None:
    """Rows that are added are shown as they come; Ctrl-C ends it with status 0."""
    process = await spawn("journal", "--follow", "--last", "1", "--json")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        first = msgspec.json.decode(await process.stdout.readline())
        with Journal(path, linger=0) as journal:
            journal(GateShut(gate="new"))
        opened = msgspec.json.decode(await process.stdout.readline())
        new = msgspec.json.decode(await process.stdout.readline())
    assert [each["number"] for each in (first, opened, new)] == [10, 11, 12]
    assert new["event"]["gate"] == "new"
    process.send_signal(signal.SIGINT)
    assert (await finish(process)).status == Status.DONE


# What guard writes.


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Here]:
    """The guard in this process, with an empty folder for states."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with guarding_here(monkeypatch, capfd) as guarding:
        yield guarding


def test_guard_writes_into_the_user_s_journal(here: Here) -> None:
    """Why it killed, and what was cancelled; the head that it says verifies."""
    ended = here.guard("--", "sh", "-c", "exit 3")
    assert (ended.status, here.open_orders()) == (3, set())
    (begun,) = [row for row in rows(default_path()) if row.kind == "KillStarted"]
    assert begun.event["reason"] == "guard: the command ended with status 3"
    assert begun.event["what"] == f"cash {here.who}"
    (end,) = [row for row in rows(default_path()) if row.kind == "KillEnded"]
    assert (end.event["targets"], end.event["failed"]) == (1, 0)
    head = ended.journal.strip().removeprefix("masscancel: journal: head ")
    assert run(["journal", "verify", "--head", head]) == Status.DONE


def test_guard_without_a_journal(here: Here) -> None:
    """It says so aloud, and there is none."""
    ended = here.guard("--no-journal", "--", "true")
    assert (ended.status, here.open_orders()) == (0, set())
    assert ended.journal == "masscancel: journal: none is written, as --no-journal says\n"
    assert not default_path().exists()


def test_guard_where_no_journal_can_be_written(here: Here, tmp_path: Path) -> None:
    """It says so before and after, and guards all the same."""
    (tmp_path / "file").write_text("")
    where = str(tmp_path / "file" / "journal.sqlite")
    ended = here.guard("--journal", where, "--", "true")
    assert (ended.status, here.open_orders()) == (0, set())
    before, after = ended.journal.splitlines()
    assert "is not written: " in before
    assert before.endswith("; going on without")
    assert "is not whole: " in after


def test_guard_says_in_json_where_its_journal_is(here: Here, tmp_path: Path) -> None:
    """In its last line: the file, the head, and what is wrong."""
    where = tmp_path / "own.sqlite"
    status, out, _ = here.raw("--json", "--journal", str(where), "--", "true")
    end = msgspec.json.decode(out.splitlines()[-1])
    assert (status, end["event"]) == (0, "end")
    assert end["journal"] == {"path": str(where), "head": str(verify(where).head), "problem": None}


def test_guard_with_contradicting_options(here: Here) -> None:
    """They are refused before the command is started."""
    ended = here.guard("--no-journal", "--journal", "x", "--", "touch", "/no/such/file")
    assert ended.status == Status.USAGE
    assert "contradict" in ended.err
    assert here.open_orders() != set()


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, here: Here) -> None:
    """The guard says that none is written, and guards."""

    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    monkeypatch.setattr(Path, "home", no_home)
    ended = here.guard("--", "true")
    assert (ended.status, here.open_orders()) == (0, set())
    assert "none is written: the user has no home folder" in ended.journal
