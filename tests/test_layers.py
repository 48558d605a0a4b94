"""The rooms of the house: imports go downwards only, and each way out is in one room."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import masscancel

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(masscancel.__file__).parent

#: The rooms, from the ground up. A new one takes its place here when it is built.
ROOMS = [
    "errors",
    "models",
    "credentials",
    "venue",
    "venues",
    "retry",
    "alarms",
    "scrub",
    "shield",
    "lanes",
    "session",
    "stream",
    "confirm",
    "gate",
    "attempt",
    "job",
    "driver",
    "prove",
    "client",
    "fanout",
    "signals",
    "guard",
    "beat",
    "switch",
    "__init__",
    "cli",
    "__main__",
]
#: The simulated exchange stands beside the house, so that it shares no code with the client.
BESIDE = "sim"

#: Rooms that have no clock, no randomness and no way out, and what else they may use.
PURE: dict[str, set[str]] = {
    "errors": set(),
    "models": set(),
    "credentials": {"os"},  # the environment
    "venue": set(),
    "venues": set(),
    "retry": {"random"},  # the default draw, which is an argument
    "confirm": set(),
    "scrub": set(),
}
IMPURE = {
    "aiohttp", "asyncio", "concurrent", "http", "io", "logging", "multiprocessing",
    "os", "pathlib", "random", "requests", "secrets", "select", "selectors", "shutil", "signal",
    "socket", "socketserver", "ssl", "subprocess", "sys", "tempfile", "threading", "time",
    "urllib.request", "yarl",
}  # fmt: skip


class Import(NamedTuple):
    """One imported module, or name of a module, and where."""

    importer: str  # dotted, within the package: "venues.ascendex.wire"
    module: str
    name: str
    line: int

    @property
    def room(self) -> str:
        """The importer's room."""
        return self.importer.partition(".")[0]

    @property
    def target(self) -> str | None:
        """The room that is imported; None outside of the package."""
        parts = [*self.module.split("."), self.name]
        if parts[0] != "masscancel":
            return None
        return parts[1] if parts[1] in {*ROOMS, BESIDE} or self.module.count(".") else "__init__"

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.module} {self.name}".rstrip()


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package, dotted within it, parsed."""
    for file in sorted(ROOT.rglob("*.py")):
        parts = list(file.relative_to(ROOT).with_suffix("").parts)
        if len(parts) > 1 and parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), ast.parse(file.read_text(encoding="utf-8"), str(file))


def is_type_checking(node: ast.AST) -> bool:
    """Whether this is `if TYPE_CHECKING:`, which never runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that may run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and is_type_checking(node):
            for branch in node.orelse:
                yield branch
                yield from nodes(branch)
        else:
            yield node
            yield from nodes(node)


def imports() -> Iterator[Import]:
    """Every import that may run, those inside functions too."""
    for name, tree in modules():
        for node in nodes(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(name, alias.name, "", node.lineno)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}:{node.lineno}: a relative import"
                for alias in node.names:
                    yield Import(name, node.module or "", alias.name, node.lineno)


IMPORTS = list(imports())


def test_there_is_something_to_check() -> None:
    """The rules below hold for real files, not for none."""
    assert {name for name, _ in modules()} >= {"__init__", "errors", "session", "venues", "sim"}
    assert len(IMPORTS) > 200
    assert any(each.module == "aiohttp" for each in IMPORTS)


def test_every_room_has_its_place() -> None:
    """A file that is in no room of the plan needs a place in it first."""
    rooms = {name.partition(".")[0] for name, _ in modules()}
    assert rooms <= {*ROOMS, BESIDE}


def test_imports_go_downwards_only() -> None:
    """No room knows of one above it, nor of the simulated exchange beside the house."""
    assert [
        str(each)
        for each in IMPORTS
        if each.target not in (None, each.room, BESIDE)
        and each.room != BESIDE
        and ROOMS.index(str(each.target)) > ROOMS.index(each.room)
    ] == []


def test_the_simulated_exchange_shares_nothing_with_the_house() -> None:
    """It checks signatures with code of its own, and only the command line opens it."""
    assert [
        str(each)
        for each in IMPORTS
        if (each.room == BESIDE and each.target not in (None, BESIDE))
        or (each.target == BESIDE and each.room not in (BESIDE, "cli"))
    ] == []


def test_nobody_imports_the_command_line() -> None:
    """It is on top, and needs an extra; `python -m masscancel` starts it."""
    assert [
        str(each)
        for each in IMPORTS
        if each.target in ("cli", "__main__") and each.room not in ("cli", "__main__")
    ] == []


def test_nobody_imports_the_public_names_from_within() -> None:
    """But for the command line, which uses the package as its users do."""
    assert [str(each) for each in IMPORTS if each.target == "__init__" and each.room != "cli"] == []


def test_only_two_rooms_speak_http_and_websocket() -> None:
    """Aiohttp's client is used in `session` and `stream`, its server in `sim`, and no other way."""
    wrong = []
    for each in IMPORTS:
        top, _, below = each.module.partition(".")
        if top not in ("aiohttp", "yarl"):
            continue
        server = "web" in (below, each.name) or below.startswith(("web", "test_utils"))
        shared = each.name in ("WSMsgType", "WSCloseCode", "WSMessage", "hdrs")
        if server or (each.room == BESIDE and shared):
            fine = each.room == BESIDE
        else:
            fine = each.room in ("session", "stream")
        if not fine:
            wrong.append(str(each))
    assert wrong == []


def test_only_the_command_line_needs_its_extra() -> None:
    """Typer and rich are not installed with the package."""
    assert [
        str(each)
        for each in IMPORTS
        if each.module.partition(".")[0] in ("typer", "click", "rich") and each.room != "cli"
    ] == []


@pytest.mark.parametrize("room", PURE)
def test_a_pure_room_has_no_clock_and_no_way_out(room: str) -> None:
    """No I/O, no time, no threads, no log, no randomness: values in, values out."""
    assert [
        str(each)
        for each in IMPORTS
        if each.room == room
        for banned in IMPURE - PURE[room]
        if f"{each.module}.{each.name}.".startswith(f"{banned}.")
    ] == []


@pytest.mark.parametrize("room", PURE)
def test_a_pure_room_does_not_go_around_its_imports(room: str) -> None:
    """It opens and prints nothing, and asks no one for the time."""
    banned = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}
    banned |= {"now", "utcnow", "today"}
    banned |= set() if room == "venues" else {"import_module"}  # the registry loads on demand
    assert [
        f"{name}:{node.lineno} calls {called}"
        for name, tree in modules()
        if name.partition(".")[0] == room
        for node in nodes(tree)
        if isinstance(node, ast.Call)
        and (called := ast.unparse(node.func).rpartition(".")[2]) in banned
    ] == []


def test_venues_do_not_know_of_each_other() -> None:
    """A further venue is one file; taking one away breaks no other."""
    wrong = []
    for each in IMPORTS:
        if each.room == "venues" and each.target == "venues":
            own = each.importer.split(".")[1:2]
            other = f"{each.module}.{each.name}".split(".")[2:3]
            if own != other:
                wrong.append(str(each))
    assert wrong == []


def test_nothing_above_the_venues_knows_one_by_name() -> None:
    """But for the public names; so a further venue changes no client, fan-out or guard."""
    assert [
        str(each)
        for each in IMPORTS
        if each.target == "venues"
        and each.module.count(".") > 1
        and each.room not in ("venues", "__init__", "cli")
    ] == []


FRESH = """
import sys
import masscancel
loaded = {name for name in sys.modules if name.startswith(("masscancel", "typer", "rich"))}
unwanted = {"masscancel.cli", "masscancel.sim", "typer", "rich"}
venues = {name for name in loaded if name.startswith("masscancel.venues.")}
own = {name for name in venues if not name.startswith("masscancel.venues.ascendex")}
print(*sorted(loaded & unwanted | own | {"aiohttp.web"} & set(sys.modules)))
"""


def test_importing_the_package_loads_neither_the_simulator_nor_other_venues() -> None:
    """In a fresh interpreter: what a bot imports is what it needs."""
    ran = subprocess.run(  # noqa: S603  # the text above, and nothing else
        [sys.executable, "-W", "error", "-c", FRESH], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    # aiohttp itself may load its server; what counts is that the package does not need it
    assert set(ran.stdout.split()) <= {"aiohttp.web"}
