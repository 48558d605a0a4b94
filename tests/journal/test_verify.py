"""The chain: whatever somebody does to the rows is found, or it is said that it can't be."""

from contextlib import closing
from pathlib import Path
from sqlite3 import IntegrityError, connect

import pytest

from journal_support import gates, tamper, written
from masscancel import ConfigurationError
from masscancel.journal import Head, Journal, rows, verify
from masscancel.journal.chain import link


def test_an_untouched_journal(tmp_path: Path) -> None:
    """Every link holds; with a head of now or of before, nothing is left unknown."""
    path = written(tmp_path / "journal.sqlite", 20)
    verdict = verify(path)
    assert (verdict.ok, verdict.first, verdict.head.count) == (True, 1, 21)
    assert "can't be known without a head" in str(verdict)
    assert "the head is in it" in str(verify(path, verdict.head))
    early = Head(5, next(row.hash for row in rows(path) if row.number == 5))
    assert str(verify(path, early)).endswith("the head is in it, and 16 more since")


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (
            ["UPDATE journal SET text = replace(text, 'gate 5', 'gate 9') WHERE number = 7"],
            "row 7 does",
        ),
        (["UPDATE journal SET text = text || ' ' WHERE number = 7"], "row 7 does not follow"),
        (["UPDATE journal SET text = x'00ff' WHERE number = 7"], "row 7 does not follow"),
        (["UPDATE journal SET text = 5 WHERE number = 7"], "row 7 does not follow"),
        (["UPDATE journal SET text = '' WHERE number = 7"], "row 7 does not follow"),
        (["UPDATE journal SET hash = x'00ff' WHERE number = 7"], "row 7 does not follow"),
        (["UPDATE journal SET text = text || ' ' WHERE number = 1"], "row 1 does not follow"),
        (["DELETE FROM journal WHERE number = 7"], "row 7 is missing"),
        (["DELETE FROM journal WHERE number IN (7, 8, 9)"], "rows 7 to 9 are missing"),
        (["DELETE FROM journal WHERE number < 7"], "rows 1 to 6 are missing"),
        (
            [
                "UPDATE journal SET number = -7 WHERE number = 7",
                "UPDATE journal SET number = 7 WHERE number = 8",
                "UPDATE journal SET number = 8 WHERE number = -7",
            ],
            "row 7 does not follow",
        ),
        (
            [
                "DELETE FROM journal WHERE number < 7",
                "UPDATE journal SET text = '' WHERE number = 7",
            ],
            "rows 1 to 7 are missing, and no row says that they have been retired",
        ),
        (
            ["INSERT INTO journal SELECT 0, text, hash FROM journal WHERE number = 7"],
            "row 0 is none",
        ),
        (
            ["INSERT INTO journal SELECT 22, text, hash FROM journal WHERE number = 7"],
            "row 22 does not",
        ),
        (
            [
                "CREATE TABLE other AS SELECT * FROM journal",
                "DROP TABLE journal",
                "ALTER TABLE other RENAME TO journal",
                "UPDATE journal SET number = 'seven' WHERE number = 7",
            ],
            "a row has no number",
        ),
        (["DROP TABLE journal"], "rows can't be read: no such table"),
    ],
)
def test_what_somebody_changes_is_found(tmp_path: Path, statements: list[str], words: str) -> None:
    """A row changed, removed, swapped, added: without any head."""
    path = written(tmp_path / "journal.sqlite", 20)
    tamper(path, *statements)
    verdict = verify(path)
    assert not verdict.ok
    assert words in str(verdict)


def test_a_tail_that_is_cut_off(tmp_path: Path) -> None:
    """It is found with a head, and without one it is said that it can't be."""
    path = written(tmp_path / "journal.sqlite", 20)
    head = verify(path).head
    tamper(path, "DELETE FROM journal WHERE number > 15")
    assert verify(path).ok
    assert "whether rows were cut off the end" in str(verify(path))
    cut = verify(path, head)
    assert cut.problems == ("the head has 21 rows, and there are 15: the end was cut off",)
    written(path, 20)  # whoever writes on hides the cut, but not from who has the head
    assert verify(path).ok
    assert "row 21 is not that of the head" in str(verify(path, head))


def test_a_chain_that_is_made_anew(tmp_path: Path) -> None:
    """Somebody changes a row and links all that follow: only a head tells."""
    path = written(tmp_path / "journal.sqlite", 20)
    head = verify(path).head
    known = Head(0, "0" * 64)
    links = []
    for row in rows(path):
        text = f'{{"time_ms":1,"actor":"nobody","event":{{"type":"GateShut","n":{row.number}}}}}'
        known = link(known, text.encode())
        links.append(
            f"UPDATE journal SET text = '{text}', hash = '{known.hash}' "  # noqa: S608  # ours
            f"WHERE number = {row.number}"
        )
    tamper(path, *links)
    assert verify(path).ok
    assert verify(path, head).problems == (
        "row 21 is not that of the head: the chain was made anew",
    )


def test_many_problems_are_counted(tmp_path: Path) -> None:
    """Some are named, and of the others, how many."""
    path = written(tmp_path / "journal.sqlite", 40)
    tamper(path, "UPDATE journal SET text = text || ' '")
    problems = verify(path).problems
    assert len(problems) == 21
    assert problems[-1] == "and 21 more"


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    """It is a problem, not a crash; one that is not there is an error."""
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no database at all" * 1000)
    assert "rows can't be read: file is not a database" in str(verify(path))
    with pytest.raises(ConfigurationError, match="can't be read as a journal"):
        list(rows(path))
    with pytest.raises(ConfigurationError, match="there is no journal at"):
        verify(tmp_path / "nowhere")


def test_pages_that_are_overwritten(tmp_path: Path) -> None:
    """Bytes of the file itself: no link holds there, or SQLite can't read it."""
    path = written(tmp_path / "journal.sqlite", 200)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 4096)
    assert not verify(path).ok


@pytest.mark.parametrize("change", ["UPDATE journal SET text = ''", "DELETE FROM journal"])
def test_the_file_resists_a_mistake(tmp_path: Path, change: str) -> None:
    """A plain UPDATE or DELETE is refused by the database itself."""
    path = written(tmp_path / "journal.sqlite", 5)
    with closing(connect(path)) as connection, pytest.raises(IntegrityError, match="only added"):
        connection.execute(change)
    assert verify(path).ok


@pytest.mark.parametrize("text", ["", "12", "12:abc", "x:" + "0" * 64, "1:" + "g" * 64])
def test_a_head_that_is_none(text: str) -> None:
    """It is refused; what was printed is read, capitals or not."""
    with pytest.raises(ConfigurationError, match="COUNT:HASH"):
        Head.parse(text)
    assert Head.parse(f" 12:{'AB' * 32}\n") == Head(12, "ab" * 32)
    assert Head.parse(str(Head(12, "ab" * 32))) == Head(12, "ab" * 32)


# Segments.


def segments(path: Path) -> list[Path]:
    """The files with the rows of before."""
    return sorted(path.parent.glob("journal-*.sqlite"))


def test_segments_go_on_in_one_chain(tmp_path: Path) -> None:
    """Rows are read over all files, and every link holds across them."""
    path = written(tmp_path / "journal.sqlite", 100, segment=25)
    assert len(segments(path)) >= 3
    assert all(each.stat().st_mode & 0o777 == 0o600 for each in segments(path))
    assert gates(path) == [f"gate {number}" for number in range(100)]
    assert [row.number for row in rows(path)] == [*range(1, verify(path).head.count + 1)]
    verdict = verify(path)
    assert (verdict.ok, verdict.first) == (True, 1)
    segment = segments(path)[1]
    assert verify(segment).first > 1  # one by itself has no beginning
    tamper(segment, "UPDATE journal SET text = text || ' ' WHERE number = 40")
    assert "row 40 does not follow" in str(verify(path))


def test_a_segment_that_somebody_removes(tmp_path: Path) -> None:
    """The first, or one in between: no row says that it was to go."""
    path = written(tmp_path / "journal.sqlite", 100, segment=25)
    first, second, *_ = segments(path)
    hidden = second.rename(tmp_path / "hidden")
    assert "are missing" in str(verify(path))
    hidden.rename(second)
    assert verify(path).ok
    first.unlink()
    assert "and no row says that they have been retired" in str(verify(path))


def test_the_oldest_segments_retire(tmp_path: Path) -> None:
    """Two are kept; the rows that went are told, and what is left verifies with its head."""
    path = written(tmp_path / "journal.sqlite", 100, segment=10, keep=2)
    assert len(segments(path)) == 2
    verdict = verify(path)
    assert verdict.ok, verdict
    assert verdict.first > 50
    assert verify(path, verdict.head).ok
    assert "has been retired" in str(verify(path, Head(5, "0" * 64)))
    retired = [row for row in rows(path) if row.kind == "SegmentRetired"]
    assert retired[-1].event["last"] == verdict.first - 1
    tamper(
        segments(path)[0],
        "UPDATE journal SET hash = replace(hash, substr(hash, 1, 1), 'x') WHERE text = ''",
    )
    assert not verify(path).ok


def test_a_segment_that_can_not_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows are written on, into the same file, and it is logged."""
    path = tmp_path / "journal.sqlite"
    for last in range(10, 30):  # whatever rows it would have, its name is taken
        (tmp_path / f".journal-000000000001-{last:012}.sqlite.part").mkdir()
    written(path, 20, segment=10)
    assert gates(path) == [f"gate {number}" for number in range(20)]
    assert segments(path) == []
    assert "can't begin a segment" in caplog.text
    assert verify(path).ok


def test_numbers_that_make_no_journal(tmp_path: Path) -> None:
    """They are refused before anything is made."""
    for options in ({"segment": 0}, {"keep": 0}, {"limit": 0}, {"linger": 2.0}):
        with pytest.raises(ConfigurationError):
            Journal(tmp_path / "journal.sqlite", **options)
    assert [*tmp_path.iterdir()] == []
