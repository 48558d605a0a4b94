"""Several processes write one chain, and may be killed at any moment: every link holds."""

import signal
from pathlib import Path

import pytest

from journal_support import PATIENCE, child, gates, of_kind
from masscancel.journal import Head, rows, verify

_WRITE = """
import sys
from masscancel.events import GateShut
from masscancel.journal import Journal
journal = Journal(sys.argv[1], linger=0, segment=int(sys.argv[4]))
for number in range(int(sys.argv[3])):
    journal(GateShut(gate=f"{sys.argv[2]} {number}"))
    if number % 7 == 6:
        print(journal.head(60), flush=True)
assert journal.close(60)
"""
_LARGE, _ENDLESS = "1000000", "1000000"


@pytest.mark.parametrize("segment", [_LARGE, "60"])
def test_three_processes_write_one_chain(tmp_path: Path, segment: str) -> None:
    """Each row is there once, those of a process in order, whoever begins a segment."""
    path = tmp_path / "journal.sqlite"
    processes = [child(_WRITE, path, name, "100", segment) for name in "abc"]
    heads: list[Head] = []
    for process in processes:
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        heads += map(Head.parse, out.split())
    verdict = verify(path)
    assert verdict.ok, verdict
    for name in "abc":
        own = [gate for gate in gates(path) if gate.startswith(name)]
        assert own == [f"{name} {number}" for number in range(100)]
    segments = len(of_kind(path, "SegmentEnded"))
    assert (segments > 0) == (segment != _LARGE)
    assert verdict.head.count == 303 + segments
    hashes = {row.number: row.hash for row in rows(path)}
    assert all(hashes[head.count] == head.hash for head in heads)


def kill_in_the_middle(path: Path, times: int) -> None:
    """Kill a process again and again while it writes, each time a little later."""
    for turn in range(times):
        with child(_WRITE, path, f"{turn}", _ENDLESS, "150") as process:
            assert process.stdout is not None
            heads = [Head.parse(process.stdout.readline()) for _ in range(1 + turn % 5)]
            process.send_signal(signal.SIGKILL)
        verdict = verify(path, heads[-1])
        assert verdict.ok, verdict
        told = [gate for gate in gates(path) if gate.startswith(f"{turn} ")]
        assert told == [f"{turn} {number}" for number in range(len(told))]
        assert len(told) >= 7 * len(heads)  # what was said to be written is there


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    """The chain that it leaves verifies, with all that was said to be in it; others go on."""
    kill_in_the_middle(tmp_path / "journal.sqlite", 3)


@pytest.mark.adversity
@pytest.mark.unmeasured
def test_two_hundred_processes_that_are_killed(tmp_path: Path) -> None:
    """The same, two hundred times in one journal, with segments that begin in between."""
    path = tmp_path / "journal.sqlite"
    kill_in_the_middle(path, 200)
    assert of_kind(path, "SegmentEnded")
