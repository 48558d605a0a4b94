"""One more venue, on trial: one file and one line, and no code that names a venue."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import masscancel
from masscancel import DeadMansSwitch, ScopeError, Target, cancel_many, cancel_on_exit
from masscancel.cli.options import Account as Options
from masscancel.sim import SimulatedExchange
from masscancel.venues import VENUES, load
from masscancel.venues.base import Venue
from masscancel.venues.settings import settings_of
from venues_support import KEY, SECRET, SETTLE, Trial, TrialDialect

pytestmark = pytest.mark.unmeasured


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial venue, with the one line that registers it."""
    monkeypatch.setitem(VENUES, "trial", ("venues_support", "Trial"))


@pytest.mark.usefixtures("registered")
@pytest.mark.asyncio
async def test_one_file_and_one_line_make_a_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Client, prover, fan-out, exit, switch and the options of the command line know it at once."""
    assert load("trial") is Trial
    assert masscancel.venues.Trial is Trial
    assert len(inspect.getsource(Trial).splitlines()) < 100
    monkeypatch.setenv("MASSCANCEL_TRIAL_API_KEY", KEY)
    monkeypatch.setenv("MASSCANCEL_TRIAL_API_SECRET", SECRET)
    async with SimulatedExchange(TrialDialect()) as exchange:
        account = exchange.add_account(KEY, SECRET)
        options = Options.of("trial", [f"rest_url={exchange.rest_url}"], None, None)
        assert [(each.name, each.required) for each in settings_of(Trial)] == [("rest_url", True)]
        assert options.category == "main"
        async with options.client(5.0) as client:

            def fill() -> None:
                for symbol in ("AB", "CD"):
                    exchange.place(account, "main", symbol)

            fill()
            assert len(await client.open_orders("main")) == 2
            ack = await client.cancel_all("main", "AB")
            assert ack.status == "1 gone"
            assert len(exchange.open_orders(account, "main")) == 1
            proof = await client.cancel_all_and_confirm("main", settle=SETTLE)
            assert proof.sweeps == 1
            fill()
            report = await cancel_many(Target.product([client], ["main"], ["AB", "CD"]))
            assert report.all_ok
            fill()
            async with cancel_on_exit(Target(client, "main"), signals=()):
                assert exchange.open_orders(account, "main")
            assert exchange.open_orders(account, "main") == []
            async with DeadMansSwitch(Target(client, "main"), timeout=30) as switch:
                assert switch.kind == "emulated"
                await switch.disarm()
            with pytest.raises(ScopeError):
                await client.cancel_all("spot")


#: Where a venue is named outside of `venues/`, `sim/` and the table of the demo's made-up markets:
#: the public name that the plan fixes, defaults of the command line, the exchange that the demo
#: plays, and the example in a message.
NAMED = {
    ("__init__", "masscancel.venues.ascendex"),
    ("__init__", "AscendEX"),
    ("cli.simulate", "ascendex"),
    ("cli.demo", "AscendEX"),
    ("client", "a venue of masscancel.venues, such as Binance()"),
}


def words_of(tree: ast.Module) -> Iterator[str]:
    """Every identifier and every text in a module's code, its docstrings apart."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str | bytes) and id(node) not in docstrings:
                yield str(node.value)
            continue
        for field in ("id", "attr", "name", "asname", "arg", "module"):
            if isinstance(word := getattr(node, field, None), str):
                yield word
        yield from getattr(node, "names", ()) if isinstance(node, ast.Global | ast.Nonlocal) else ()


def names_a_venue(word: str) -> bool:
    """Whether a word names one. ``gate`` is a word of the house: it is one as class or module."""
    names = [*(name for name in VENUES if name != "gate"), "venues.gate"]
    return word == "Gate" or any(name in word.lower() for name in names)


def test_no_code_names_a_venue() -> None:
    """Elsewhere, but for the list above: nothing branches on a name."""
    root = Path(masscancel.__file__).parent
    named = set()
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        if parts[0] in ("venues", "sim") or parts == ("cli", "market"):
            continue
        for word in words_of(ast.parse(file.read_text())):
            if names_a_venue(word):
                named.add((".".join(parts), word))
    assert named == NAMED


def test_the_search_for_names_finds_them() -> None:
    """Control: a comparison, an attribute, an import and an argument are all seen."""
    code = "import kraken.x as y\nif x.name == 'binance': use(Binance, x.ascendex, kraken=1)"
    assert {"binance", "Binance", "ascendex", "kraken"} <= set(words_of(ast.parse(code)))
    assert list(words_of(ast.parse('"""Of Kraken."""'))) == []


def test_the_venue_on_trial_has_what_a_venue_needs() -> None:
    """It says itself whatever the base class leaves to each venue, and nothing but that."""
    needed = {
        name
        for name, value in vars(Venue).items()
        if inspect.isfunction(value) and "raise NotImplementedError" in inspect.getsource(value)
    }
    assert {"origin", "probe", "cancel_all", "open_orders"} == needed
    assert needed <= vars(Trial).keys()
