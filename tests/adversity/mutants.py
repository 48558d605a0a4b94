"""`make mutants`: change the code that decides, a little each time, and see that a test notices.

mutmut does the changing, in a copy of the package and of the tests that are about it, so that
nothing here is touched. Prints what was killed, file by file, and the change that each survivor is.
Exits 1 where less than `--least` of a hundred are killed. Properties and what stands outside of
functions are not changed: mutmut can't.

A survivor is either a gap in the tests or a change that changes nothing; `SAME` has those of the
second kind that have been looked at, with the reason. They are counted like the others.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from figures import show_progress

ROOT: Final = Path(__file__).parent.parent.parent
#: What is changed, and the tests that are about it: of these, the ones that need no event loop.
FILES: Final = {
    "engine/retry.py": "engine/test_retry*.py",
    "engine/proof.py": "engine/test_confirm*.py",
    "venues/ascendex/wire.py": "venues/test_ascendex_[!s]*.py",
    "venues/ascendex/stream.py": "venues/test_ascendex_stream.py",
}
#: Why a change changes nothing: by function, and the line that it makes of another.
SAME: Final = (
    (r"", r"= None\b", r'= (False\b|""$)', "None is as false as what was there"),
    (r"", r'float\("-INF"\)', r'float\("-inf"\)', "the same number"),
    (
        r"Proof.__init__",
        r"",
        r"self\._(?!last_listed|longest|seen|ended|covered)",
        "the first sweep sets it",
    ),
    (r"Proof.__init__", r"_last_listed", r"", "the first listing is not waited for"),
    (r"Proof.updated", r"setdefault", r"", "of an order that has ended, only the id counts"),
    (r"_doubled", r"33", r"", "a wait of 2**32 times base is beyond any cap"),
    (r"signature", r"SHA256", r"", "hmac takes either spelling"),
    (r"error_kind", r"or True", r"", "the table has no None"),
    (r"AscendEXStream.parse", r'event = ""', r"", "it is not looked at any more"),
    (r"_order", r"ValidationError", r"ValidationError", "the text is not passed on"),
    (r"_refused", r"decode\(wire.info, \)", r"", "what begins with a quote is a string"),
    (
        r"decode_clock",
        r"_envelope\(reply, 1\)",
        r"",
        "a millisecond of Retry-After, not waited for",
    ),
)
SETTINGS: Final = """\
[mutmut]
source_paths=src/masscancel
only_mutate=
{only}
also_copy=
    pytest.ini
"""
PYTEST: Final = """\
[pytest]
asyncio_mode = strict
asyncio_default_fixture_loop_scope = function
testpaths = tests
addopts = -m "not asyncio"
filterwarnings = error
"""


def copy_to(place: Path, files: list[str]) -> None:
    """Copy the package, the tests, and mutmut's settings."""
    shutil.copytree(
        ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    (place / "tests").mkdir()
    needed = ("conftest.py", "*support.py", "*/*support.py", *(FILES[file] for file in files))
    for pattern in needed:
        for found in (ROOT / "tests").glob(pattern):
            copy = place / found.relative_to(ROOT)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(found, copy)
    shutil.copytree(ROOT / "tests" / "data", place / "tests" / "data")
    only = "\n".join(f"    src/masscancel/{file}" for file in files)
    (place / "setup.cfg").write_text(SETTINGS.format(only=only))
    (place / "pytest.ini").write_text(PYTEST)


def mutmut(place: Path, *arguments: str, seconds: float) -> str:
    """Run mutmut there, and say how far it has got; returns what it printed.

    Raises:
        subprocess.TimeoutExpired: the seconds were over; it has been ended.
    """
    ends = time.monotonic() + seconds
    with (place / "said").open("w+") as said:
        running = subprocess.Popen(  # noqa: S603  # our own arguments
            [sys.executable, "-m", "mutmut", *arguments],
            cwd=place,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            while running.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    running.wait(min(1.0, max(0.0, ends - time.monotonic())))
                said.seek(0)
                if found := re.findall(r"\d+/\d+", said.read()):
                    show_progress(f"{found[-1]} changes tried")
                if time.monotonic() > ends:
                    raise subprocess.TimeoutExpired("mutmut", seconds)
        finally:
            running.kill()
            running.wait()
            show_progress()
        said.seek(0)
        return said.read()


def change_of(place: Path, mutant: str) -> tuple[str, str]:
    """The line that was, and the line that a mutant makes of it."""
    shown = mutmut(place, "show", mutant, seconds=60)
    lines = [line for line in shown.splitlines() if re.match(r"[-+][^-+]", line)]
    before = " / ".join(line[1:].strip() for line in lines if line[0] == "-")
    return before, " / ".join(line[1:].strip() for line in lines if line[0] == "+")


def reason(function: str, before: str, after: str) -> str:
    """Why a survivor changes nothing; empty if nobody has said."""
    for where, made, was, why in SAME:
        if all(re.search(*each) for each in ((where, function), (made, after), (was, before))):
            return why
    return ""


def result_of(place: Path, file: str) -> dict[str, Any]:
    """What became of a file's mutants."""
    meta = json.loads((place / "mutants" / "src" / "masscancel" / f"{file}.meta").read_text())
    codes: dict[str, int | None] = meta["exit_code_by_key"]
    tried = {mutant: code for mutant, code in codes.items() if code is not None}
    survivors = []
    for mutant in (each for each, code in tried.items() if code in (0, 5, 33)):
        name = mutant.rpartition(".")[2].replace("xǁ", "").replace("ǁ", ".").removeprefix("x_")
        function = name.partition("__mutmut_")[0]
        before, after = change_of(place, mutant)
        survivors.append(
            {
                "function": function,
                "before": before,
                "after": after,
                "same": reason(function, before, after),
            }
        )
    killed = len(tried) - len(survivors)
    return {
        "file": file,
        "mutants": len(codes),
        "tried": len(tried),
        "killed": killed,
        "percent": round(100 * killed / max(1, len(tried)), 1),
        "survivors": survivors,
    }


def main() -> int:
    """Change, test, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", default=[*FILES], help=f"of {', '.join(FILES)}")
    parser.add_argument("--seconds", type=float, default=1800, help="at most (default: 1800)")
    parser.add_argument("--workers", type=int, default=1, help="at a time (default: 1)")
    parser.add_argument("--least", type=float, default=90, help="percent killed (default: 90)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if unknown := set(options.files) - FILES.keys():
        parser.error(f"there are no tests for {', '.join(sorted(unknown))}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        copy_to(place, options.files)
        try:
            said = mutmut(
                place, "run", "--max-children", f"{options.workers}", seconds=options.seconds
            )
        except subprocess.TimeoutExpired:
            said = "the time was up"
        try:
            results = [result_of(place, file) for file in options.files]
        except FileNotFoundError:
            sys.exit(f"mutmut did not come to its end:\n{said[-3000:]}")
    finished = all(result["tried"] == result["mutants"] for result in results)
    enough = finished and all(result["percent"] >= options.least for result in results)
    if options.json:
        print(json.dumps(results, indent=1))  # noqa: T201  # it is a script
    else:
        for result in results:
            show(result)
        if not finished:
            print(f"mutmut said:\n{said[-2000:]}")  # noqa: T201  # likewise
        print(verdict(results, options.least, time.monotonic() - began))  # noqa: T201  # likewise
    return 0 if enough else 1


def verdict(results: list[dict[str, Any]], least: float, seconds: float) -> str:
    """All of it in a line."""
    survivors = [survivor for result in results for survivor in result["survivors"]]
    unexplained = sum(not survivor["same"] for survivor in survivors)
    killed, tried = (sum(result[name] for result in results) for name in ("killed", "tried"))
    low = [result["file"] for result in results if result["percent"] < least]
    late = [result["file"] for result in results if result["tried"] < result["mutants"]]
    said = f"{killed} of {tried} killed in {seconds:.0f} s, {unexplained} survivors not explained. "
    if low or late:
        wrong = [f"below {least:g} %: {low}"] * bool(low) + [f"not finished: {late}"] * bool(late)
        return f"{said}WRONG: {'; '.join(wrong)}"
    return f"{said}All right: {least:g} % or more in each file."


def show(result: dict[str, Any]) -> None:
    """One file's figures and its survivors, for people."""
    lines = ["{file}: {killed} of {tried} killed, {percent} %".format(**result)]
    if result["tried"] < result["mutants"]:
        lines.append(f"  NOT FINISHED: there are {result['mutants']} mutants")
    for survivor in sorted(result["survivors"], key=lambda each: bool(each["same"])):
        lines.append("  {function}: {after}".format(**survivor))
        lines.append(f"      was: {survivor['before']}")
        lines.append(f"      {survivor['same'] or 'NOT EXPLAINED'}")
    print("\n".join(lines))  # noqa: T201  # it is a script


if __name__ == "__main__":
    sys.exit(main())
