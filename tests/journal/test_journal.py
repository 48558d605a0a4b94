"""The journal: what happens is written down beside it, and nothing that ails it stops a cancel."""

import logging
import os
import threading
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest

from journal_support import (
    PATIENCE,
    child,
    gates,
    kinds,
    locked,
    of_kind,
    recording,
    until_problem,
    written,
)
from masscancel import DeadlineExceeded, Target, cancel_many, killing
from masscancel.events import Event, GateShut, KillStarted, SwitchFired
from masscancel.journal import Journal, rows, verify
from masscancel.sim import Answer, Hang, SimulatedExchange
from support import SECRETS, account_of, client_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal is to be, in a folder that is not there yet."""
    return tmp_path / "state" / "journal.sqlite"


# What is in it.


@pytest.mark.asyncio
async def test_a_kill_from_its_reason_to_its_end(exchange: SimulatedExchange, path: Path) -> None:
    """Why, who, each call and attempt with the venue's time, each outcome, in one chain."""
    exchange.skew_ms = 3_600_000
    exchange.faults.add(Answer(503), operation="cancel-all", path="cash")
    with recording(path) as journal:
        async with client_of(exchange, account_of(exchange)) as client:
            targets = [Target(client, "cash"), Target(client, "margin")]
            with killing("drawdown limit", actor="risk-engine", what="the desk"):
                report = await cancel_many(targets)
            await client.cancel_all("futures")
        assert journal.flush(PATIENCE)
    assert report.all_ok
    story = kinds(path)
    assert story[:2] == ["JournalOpened", "KillStarted"]
    assert story.count("CallStarted") == story.count("CallEnded") == 3
    sent, ended = (
        {(row.event["call_id"], row.event["attempt"]) for row in of_kind(path, kind)}
        for kind in ("AttemptSent", "AttemptEnded")
    )
    assert len(sent) == len(exchange.operations("cancel-all"))
    assert sent <= ended
    (begun,) = of_kind(path, "KillStarted")
    assert (begun.event["reason"], begun.event["actor"]) == ("drawdown limit", "risk-engine")
    assert f":{os.getpid()}" in begun.actor
    in_it = [row.event["kill_id"] == begun.event["kill_id"] for row in of_kind(path, "CallStarted")]
    assert in_it == [True, True, False]
    assert {row.event["outcome"] for row in of_kind(path, "TargetEnded")} == {"acknowledged"}
    (end,) = of_kind(path, "KillEnded")
    assert (end.event["targets"], end.event["failed"]) == (2, 0)
    ahead = [row.event["sent_at_ms"] - (row.time_ms or 0) for row in of_kind(path, "AttemptSent")]
    assert 3_000_000 < max(ahead) < 4_000_000  # as the venue's clock, once it is known
    venue_times = {each.time_ms + exchange.skew_ms for each in exchange.log}
    received = [row.event["received_at_ms"] for row in of_kind(path, "CallEnded")]
    assert {time for time in received if time is not None} <= venue_times
    assert any(received)
    assert verify(path).ok


@pytest.mark.asyncio
async def test_nothing_secret_is_in_any_file(exchange: SimulatedExchange, path: Path) -> None:
    """Neither key, secret nor signature, whatever fails; and only the owner may read."""
    exchange.faults.add(Answer(401, b'{"code":200001,"message":"no"}'), operation="cancel-all")
    with recording(path) as journal:
        async with client_of(exchange, account_of(exchange)) as client:
            await cancel_many([Target(client, "cash"), Target(client, "nonsense")])
        assert journal.flush(PATIENCE)
        files = [*path.parent.iterdir()]
        assert path in files
        for file in files:
            assert not any(secret.encode() in file.read_bytes() for secret in SECRETS)
            assert file.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "AttemptEnded" in kinds(path)


def test_what_can_not_be_written_as_json(path: Path) -> None:
    """Half a character in a reason, an object that is no event: there is a row nevertheless."""
    with Journal(path, linger=0) as journal:
        journal(KillStarted(kill_id="1", reason="caf\udce9", actor="", what=""))
        journal(SwitchFired(targets=(object(),), silent_for=float("inf")))  # type: ignore[arg-type]
        journal("what?")  # type: ignore[arg-type]  # of a careless program
        journal(GateShut(gate="after"))
        assert journal.flush(PATIENCE)
    started, fired, odd, after = [*rows(path)][1:]
    assert (started.event["kill_id"], started.event["reason"]) == ("1", "caf\\udce9")
    assert "object at" in fired.event["targets"]
    assert odd.kind == "Unreadable"
    assert after.event == {"gate": "after"}
    assert verify(path).ok


def test_who_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """User, host and process; who has become root by sudo; or what the program gives."""
    written(path, 0)
    monkeypatch.setenv("SUDO_USER", "anna")
    written(path, 0)
    written(path, 0, actor="the desk")
    plain, by_sudo, given = [row.actor for row in rows(path)]
    assert plain.endswith(f":{os.getpid()}")
    assert "@" in plain
    assert by_sudo == f"anna as {plain}"
    assert given == "the desk"


def test_the_folder_of_the_process_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path is what it was when the journal was made."""
    monkeypatch.chdir(tmp_path)
    with Journal("journal.sqlite", linger=0) as journal:
        monkeypatch.chdir("/")
        assert journal.flush(PATIENCE)
    assert kinds(tmp_path / "journal.sqlite") == ["JournalOpened"]


# The head.


def test_the_head(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is of all that has happened before, is logged after each kill, and outlives the end."""
    caplog.set_level(logging.INFO, "masscancel")
    with recording(path) as journal:
        with killing("a test") as kill:
            pass
        head = journal.head(PATIENCE)
        assert head is not None
        assert f"the journal's head after kill {kill.id} is {head}" in caplog.text
        assert journal.verify(head).head == head
    assert journal.head() == head
    assert verify(path, head).head == head


# Trouble with the file.


@pytest.mark.asyncio
async def test_a_locked_database_stops_no_cancel(
    exchange: SimulatedExchange, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The cancel is done while another process holds the lock; later, all is written, in order."""
    written(path, 3)
    account = account_of(exchange)
    with recording(path) as journal:
        with locked(path):
            async with client_of(exchange, account) as client:
                report = await cancel_many(Target(client, "cash"))
            assert report.all_ok
            assert exchange.open_orders(account, "cash") == []
            until_problem(journal)
            assert not journal.flush(0.01)
        assert "database is locked" in caplog.text
        assert journal.flush(PATIENCE)
        assert journal.problem == ""
    assert kinds(path)[-2:] == ["TargetEnded", "KillEnded"]
    assert verify(path).ok


@pytest.mark.asyncio
async def test_a_place_where_nothing_can_be_written(
    exchange: SimulatedExchange, tmp_path: Path
) -> None:
    """It is said, and stops nothing; and once it can be, what has happened is written."""
    folder = tmp_path / "folder"
    folder.write_text("this is a file")
    account = account_of(exchange)
    with recording(folder / "journal.sqlite") as journal:
        async with client_of(exchange, account) as client:
            await cancel_many(Target(client, "cash"))
        assert exchange.open_orders(account, "cash") == []
        until_problem(journal)
        assert "folder" in journal.problem
        assert journal.head(0.01) is None
        folder.unlink()
        assert journal.flush(PATIENCE)
    assert "KillEnded" in kinds(folder / "journal.sqlite")


_FULL = """
import resource, sys
from masscancel.events import GateShut
from masscancel.journal import Journal
journal = Journal(sys.argv[1], linger=0)
assert journal.flush(60)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # from here on, the disk is full
for number in range(3000):
    journal(GateShut(gate=f"gate {number}"))
while not journal.problem:
    journal.flush(0.01)
print(journal.problem, flush=True)
sys.stdin.readline()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # somebody has made room
assert journal.flush(60)
print(journal.problem or "well", flush=True)
"""


def test_a_full_disk(path: Path) -> None:
    """What is there verifies; it is said; and when there is room again, nothing is missing."""
    with child(_FULL, path) as process:
        assert process.stdout is not None
        assert "disk" in process.stdout.readline()
        assert verify(path).ok
        assert len(gates(path)) < 3000
        out, _ = process.communicate("\n", timeout=PATIENCE)
    assert (process.returncode, out) == (0, "well\n")
    assert gates(path) == [f"gate {number}" for number in range(3000)]
    assert verify(path).ok


def test_more_than_the_queue_holds(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What does not fit is counted, in the log and in a row; the rest is written."""
    written(path, 1)
    with Journal(path, limit=10, linger=0) as journal:
        with locked(path):
            journal(GateShut(gate="first"))
            until_problem(journal)
            for number in range(50):
                journal(GateShut(gate=f"more {number}"))
        assert journal.flush(PATIENCE)
    written_ones = gates(path)[2:]
    lost = sum(row.event["count"] for row in of_kind(path, "EventsLost"))
    assert written_ones[:5] == [f"more {number}" for number in range(5)]
    assert len(written_ones) + lost == 50
    assert lost == journal.lost > 0
    assert f"has lost {lost} events" in caplog.text
    assert verify(path).ok


def test_a_file_of_another_kind(path: Path) -> None:
    """What somebody else has in that place is left as it is."""
    path.parent.mkdir()
    with closing(connect(path)) as other:
        other.execute("PRAGMA user_version = 77")
    with Journal(path, linger=0) as journal:
        until_problem(journal)
        assert journal.problem == "it is of version 77, not 1"
        assert not journal.close(0.0)


# The end.


def test_closing_is_bounded(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A lock that is never let go: what is missing is said, and once only."""
    written(path, 1)
    journal = Journal(path, linger=0)
    with locked(path):
        journal(GateShut(gate="late"))
        assert not journal.close(0.05)
        assert not journal.close(0.05)
        journal(GateShut(gate="too late"))
    assert "lacks the last" in caplog.text
    assert "late" not in gates(path)[:1]
    assert "too late" not in gates(path)


_EXIT = """
import sys
from masscancel.events import GateShut
from masscancel.journal import Journal
journal = Journal(sys.argv[1])
for number in range(500):
    journal(GateShut(gate=f"gate {number}"))
"""


def test_the_end_of_the_interpreter(path: Path) -> None:
    """What is in the queue is written, though nobody has closed anything."""
    with child(_EXIT, path) as process:
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert gates(path) == [f"gate {number}" for number in range(500)]


# Forks.

_FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")  # of threads: that is the point
from masscancel.events import GateShut
from masscancel.journal import Journal
journal = Journal(sys.argv[1])
journal(GateShut(gate="parent"))
if (pid := os.fork()) == 0:
    journal(GateShut(gate="child"))
    sys.exit(0 if journal.flush(60) else 3)
_, status = os.waitpid(pid, 0)
journal(GateShut(gate="parent again"))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_writes_rows_of_its_own(path: Path) -> None:
    """Each row once, and who wrote it, in one chain."""
    with child(_FORK, path) as process:
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert sorted(gates(path)) == ["child", "parent", "parent again"]
    writers = {row.event["gate"]: row.actor for row in of_kind(path, "GateShut")}
    assert writers["parent"] == writers["parent again"] != writers["child"]
    assert verify(path).ok


_FORK_WHILE_IT_WRITES = """
import os, sys, warnings
warnings.simplefilter("ignore")
from masscancel.events import GateShut
from masscancel.journal import Journal
journal = Journal(sys.argv[1], linger=0)
journal(GateShut(gate="parent"))
status = 1
while status:  # until it is in SQLite, where it waits for the lock nearly all the time
    if (pid := os.fork()) == 0:
        journal(GateShut(gate="child"))
        os._exit("while its parent wrote" not in journal.problem)
    _, status = os.waitpid(pid, 0)
print("forked", flush=True)
sys.stdin.readline()
sys.exit(0 if journal.flush(60) else 3)
"""


def test_a_fork_in_the_middle_of_a_write(path: Path) -> None:
    """The child leaves SQLite alone, and says so; the parent writes on."""
    written(path, 1)
    with child(_FORK_WHILE_IT_WRITES, path) as process:
        assert process.stdout is not None
        with locked(path):
            assert process.stdout.readline() == "forked\n"
        process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == 0
    assert gates(path)[1:] == ["parent"]
    assert verify(path).ok


# Many who write.


def test_events_of_many_threads(path: Path) -> None:
    """Each is there once; those of a thread in their order."""
    with recording(path) as journal:

        def publish(name: str) -> None:
            for number in range(200):
                journal(GateShut(gate=f"{name} {number}"))

        threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.flush(PATIENCE)
    for name in "abcd":
        own = [gate for gate in gates(path) if gate.startswith(name)]
        assert own == [f"{name} {number}" for number in range(200)]


@pytest.mark.asyncio
async def test_a_listener_of_one_pool(exchange: SimulatedExchange, path: Path) -> None:
    """Its calls are written, and no other's."""
    heard: list[Event] = []
    account = account_of(exchange)
    with Journal(path, linger=0) as journal:
        async with client_of(exchange, account) as one, client_of(exchange, account) as two:
            unsubscribe = one.pool.subscribe(journal)
            one.pool.subscribe(heard.append)
            await two.cancel_all("cash")
            await one.cancel_all("cash")
            unsubscribe()
            await one.cancel_all("margin")
        assert journal.flush(PATIENCE)
    assert kinds(path) == ["JournalOpened", *(type(event).__name__ for event in heard[:4])]


@pytest.mark.asyncio
async def test_targets_that_were_too_late(exchange: SimulatedExchange, path: Path) -> None:
    """A target that no call was made for has its row, too."""
    exchange.faults.add(Hang(), operation="cancel-all", times=None)
    with recording(path) as journal:
        async with client_of(exchange, account_of(exchange)) as client:
            targets = [Target(client, "cash"), Target(client, "margin")]
            report = await cancel_many(targets, concurrency=1, timeout=0.1)
        assert journal.flush(PATIENCE)
    assert isinstance(report.outcomes[1].error, DeadlineExceeded)
    ends = {
        row.event["scope"]["account_category"]: row.event for row in of_kind(path, "TargetEnded")
    }
    assert ends["margin"]["error"] == "DeadlineExceeded"
    assert (ends["margin"]["ok"], ends["margin"]["may_have_executed"]) == (False, False)
