"""The command line's options, its help, its exit statuses, and what it says without an exchange."""

import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import msgspec
import pytest
from typer.main import get_command

import masscancel
from masscancel import AscendEX, ConfigurationError
from masscancel.cli import main
from masscancel.cli.app import app, run
from masscancel.cli.options import read_credentials
from masscancel.cli.status import (
    DOCTOR_EPILOG,
    GUARD_EPILOG,
    KILL_EPILOG,
    STATUSES_ELSEWHERE,
    GuardStatus,
    KillStatus,
    Status,
    status_of,
)
from masscancel.errors import MassCancelError
from masscancel.venues import VENUES, load
from masscancel.venues.base import Abilities, Venue
from masscancel.venues.settings import make_venue, settings_of

_GROUP: Any = get_command(app)
COMMANDS: Mapping[str, Any] = {
    name: _GROUP.get_command(None, name) for name in _GROUP.list_commands(None)
}
VENUE = ("--venue", "ascendex")
URLS = ("-o", "rest_url=http://127.0.0.1:1", "-o", "stream_url=ws://127.0.0.1:1")
CASH = ("--category", "cash")
WAY = (*VENUE, *CASH, *URLS)


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line sees of a venue: a struct with a name and abilities."""

    name: ClassVar[str] = "elsewhere"
    title: ClassVar[str] = "Elsewhere"
    abilities: ClassVar[Mapping[str, Abilities]] = AscendEX.abilities

    url: str
    port: int | None = None
    sandbox: bool = False
    unit: Literal["ms", "us"] = "ms"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials and no colour from this machine's environment."""
    for name in ("MASSCANCEL_API_KEY", "MASSCANCEL_API_SECRET", "FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


def test_every_command_is_there() -> None:
    """Those of the plan, each with help, and with the exit statuses or where they stand."""
    names = "demo kill accounts doctor cancel orders watch guard journal sim venues"
    assert list(COMMANDS) == names.split()
    epilogs = {"guard": GUARD_EPILOG, "kill": KILL_EPILOG, "doctor": DOCTOR_EPILOG}
    for name, command in COMMANDS.items():
        assert command.help
        assert command.epilog == epilogs.get(name, STATUSES_ELSEWHERE)


def test_options_are_spelled_alike() -> None:
    """An option that several commands have takes the same kind of value, and the same letters."""
    spellings = defaultdict(set)
    for command in COMMANDS.values():
        for option in command.params:
            spellings[max(option.opts, key=len)].add((*option.opts, option.metavar))
    # an accounts file where accounts are real; how many, where they are made up
    assert spellings.pop("--accounts") == {("--accounts", "FILE"), ("--accounts", "N")}
    assert {name: found for name, found in spellings.items() if len(found) > 1} == {}
    assert {"--venue", "--category", "--symbol", "--timeout", "-o", "--json", "--env-prefix"} <= {
        word for found in spellings.values() for words in found for word in words
    }


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is plain where nobody watches, fits 80 columns, and lists the statuses once."""
    assert run([*command.split(), "--help"]) == Status.DONE
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    for status in {"guard": GuardStatus, "kill": KillStatus, "": Status}.get(command, ()):
        assert f"{status.value}  {status.meaning}" in out


def test_the_help_of_guard_has_what_an_operator_must_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """How to beat, systemd, containers, nonces, and what it can't survive."""
    assert run(["guard", "--help"]) == Status.DONE
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "from masscancel import beat",
        "MASSCANCEL_BEAT_FD",
        "KillMode=mixed",
        "TimeoutStopSec",
        "docker stop",
        "a nonce that only grows",
        "--env-prefix GUARD",
        "its own SIGKILL",
        "128+N",
    ):
        assert words in out


def test_no_command_says_where_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    """A screen of lines to type, each a command that there is; it is not taken for success."""
    assert run([]) == Status.USAGE
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert ".env files are not read" in out
    assert "--install-completion" in out
    named = [line.split("masscancel ")[1].split()[0] for line in lines if line.startswith("  ")]
    assert {"demo", "sim", "cancel", "accounts", "kill", "guard"} <= {*named}
    for name in named:
        assert run([name, "--help"]) == Status.DONE


def test_env_files_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that lies about in the current folder is not used; the help says so."""
    (tmp_path / ".env").write_text("MASSCANCEL_API_KEY=k\nMASSCANCEL_API_SECRET=s\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASSCANCEL_API_KEY", raising=False)
    monkeypatch.delenv("MASSCANCEL_API_SECRET", raising=False)
    assert run(["orders", *WAY]) == Status.USAGE
    assert "MASSCANCEL_API_KEY" in capsys.readouterr().err
    assert run(["--help"]) == Status.DONE
    assert ".env files are not read" in " ".join(capsys.readouterr().out.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version of the package."""
    assert run(["--version"]) == Status.DONE
    assert capsys.readouterr().out.startswith("masscancel 0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "No such command 'nope'; see 'masscancel --help'"),
        (["orders", "--nope"], "No such option"),
        (["orders", "--timeout", "soon"], "--timeout"),
        (["cancel", "--yes", *WAY, "--timeout", "0"], "timeout must be positive"),
        (["demo", "--accounts", "0"], "--accounts"),
        (["orders", "--venue", "nyse"], "no venue 'nyse'; there are: ascendex"),
        (["orders", *VENUE], "ascendex needs -o rest_url=... -o stream_url=..."),
        (["orders", *VENUE, "-o", "rest_url"], "-o takes NAME=VALUE, such as -o rest_url=..."),
        (
            ["orders", *VENUE, "-o", "group=6"],
            "ascendex has no setting 'group'; there are: rest_url, stream_url, account_group",
        ),
        (["orders", *WAY, *WAY], "-o rest_url is given twice"),
        (["orders", *WAY, "-o", "account_group=six"], "-o account_group must be int"),
        (["orders", *WAY, "-o", "account_group=-1"], "account_group must be"),
        (["orders", *VENUE, "-o", "rest_url=http://h.example", *URLS[2:]], "in clear text"),
        (["orders", *WAY, "--category", "spot"], "there are: cash, margin, futures"),
        (["orders", *WAY, "--env-prefix", "NOBODY"], "set NOBODY_API_KEY and NOBODY_API_SECRET"),
        (["cancel", "--yes", *WAY, "--confirm", "--via", "both"], "--confirm cancels over REST"),
        (["cancel", "--yes", *WAY, "--via", "post"], "'--via'"),
        (
            ["cancel", "--yes", *WAY, "-o", "account_group=6", "--confirm", "--settle", "9"],
            "nothing can be proven",
        ),
        (["watch", *WAY, "--category", "cash", "--category", "spot"], "there are: cash, margin"),
        (["guard", *WAY], "Missing argument 'COMMAND'"),
        (["guard", *WAY, "--target", "margin", "true"], "--target takes"),
        (
            ["guard", *VENUE, *URLS, "--target", "spot:BTC/USDT", "true"],
            "no account category 'spot'",
        ),
        (["guard", *WAY, "--timeout", "0", "true"], "--timeout must be positive, not 0"),
        (["guard", *WAY, "--timeout", "nan", "true"], "--timeout must be positive, not nan"),
    ],
)
def test_usage_errors(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is one line that says what to do, and the usage exit status; nothing is sent."""
    monkeypatch.setenv("MASSCANCEL_API_KEY", "key")
    monkeypatch.setenv("MASSCANCEL_API_SECRET", "hush-hush")
    assert run(arguments) == Status.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("masscancel: ")
    assert words in err
    assert "hush-hush" not in err


@pytest.mark.parametrize("symbol", ["", "BTCUSDT"])
@pytest.mark.parametrize("command", ["cancel", "orders", "guard"])
def test_a_bad_symbol(
    command: str,
    symbol: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is never taken for all; an empty one neither."""
    monkeypatch.setenv("MASSCANCEL_API_KEY", "key")
    monkeypatch.setenv("MASSCANCEL_API_SECRET", "hush-hush")
    argument = ["true"] * (command == "guard")
    status = run([command, *WAY, "--symbol", symbol, *argument])
    assert status == Status.USAGE
    assert "is not a cash symbol" in capsys.readouterr().err


def test_settings_come_from_the_venue() -> None:
    """Names, types and needs are those of the venue's own value, whichever venue it is."""
    elsewhere = cast("type[Venue]", Elsewhere)
    written = {"url": "a=b", "port": "7", "sandbox": "true"}
    venue: object = make_venue(elsewhere, written, texts=True)
    assert venue == Elsewhere(url="a=b", port=7, sandbox=True)
    with pytest.raises(ConfigurationError, match=r"elsewhere needs -o url=\.\.\."):
        make_venue(elsewhere, {}, spelling="-o {}")
    with pytest.raises(ConfigurationError, match="sandbox must be bool"):
        make_venue(elsewhere, {"sandbox": "maybe"}, texts=True)
    with pytest.raises(ConfigurationError, match="port must be int"):
        make_venue(elsewhere, written)
    found = settings_of(elsewhere)
    assert [msgspec.structs.astuple(each) for each in found] == [
        ("url", "str", True, None),
        ("port", "int", False, None),
        ("sandbox", "bool", False, "False"),
        ("unit", "ms or us", False, "ms"),
    ]


def test_credentials_of_a_venue_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A venue's own variables, if any is set; a half-set pair is not completed from another."""
    monkeypatch.setenv("MASSCANCEL_API_KEY", "general")
    monkeypatch.setenv("MASSCANCEL_API_SECRET", "hush-hush")
    assert read_credentials("kraken", None).api_key == "general"
    monkeypatch.setenv("MASSCANCEL_KRAKEN_API_SECRET", "kraken's")
    with pytest.raises(ConfigurationError, match="set MASSCANCEL_KRAKEN_API_KEY in"):
        read_credentials("kraken", None)
    monkeypatch.setenv("MASSCANCEL_KRAKEN_API_KEY", "own")
    assert read_credentials("kraken", None).api_key == "own"
    assert read_credentials("kraken", "MASSCANCEL").api_key == "general"


def every_error(kind: type[MassCancelError] = MassCancelError) -> list[type[MassCancelError]]:
    """The tree of errors."""
    return [kind, *(leaf for branch in kind.__subclasses__() for leaf in every_error(branch))]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_status(kind: type[MassCancelError]) -> None:
    """What may have been carried out is unknown, unless more is known; else the kind decides."""
    error = kind("x")
    error.may_have_executed = True
    certain = {masscancel.NotFlat: Status.NOT_FLAT, masscancel.Unproven: Status.UNPROVEN}
    assert status_of(error) is certain.get(kind, Status.UNKNOWN)
    error.may_have_executed = False
    groups = {
        Status.NOT_FLAT: masscancel.NotFlat,
        Status.UNPROVEN: masscancel.Unproven,
        Status.USAGE: masscancel.ConfigurationError | masscancel.ScopeError,
        Status.DENIED: masscancel.AuthenticationError | masscancel.PermissionDenied,
        Status.NOT_SENT: masscancel.TransportError | masscancel.DeadlineExceeded,
    }
    expected = [status for status, kinds in groups.items() if isinstance(error, kinds)]
    assert [status_of(error)] == (expected or [Status.FAILED])


def test_venues(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every venue of the registry, with what its own data says, and what ``-o`` takes."""
    assert run(["venues"]) == Status.DONE
    out = capsys.readouterr().out
    for name in VENUES:
        kind = load(name)
        for category, abilities in kind.abilities.items():
            row = next(line for line in out.splitlines() if line.split()[:2] == [name, category])
            assert abilities.whole_account in row
    assert re.search(r"^ascendex +stream_url= +str +must be given$", out, re.MULTILINE)
    assert re.search(r"^ascendex +account_group= +int +-$", out, re.MULTILINE)

    monkeypatch.setitem(VENUES, "elsewhere", (__name__, "Elsewhere"))
    assert run(["venues", "--json"]) == Status.DONE
    listed = msgspec.json.decode(capsys.readouterr().out)["venues"]
    found = {each["venue"]: each for each in listed}
    assert set(found) == set(VENUES)
    assert [setting["name"] for setting in found["elsewhere"]["settings"]] == [
        "url",
        "port",
        "sandbox",
        "unit",
    ]
    assert found["ascendex"]["categories"]["cash"]["ack"] == "received"


def test_without_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where typer is not installed, one line says what to install."""
    monkeypatch.delitem(sys.modules, "masscancel.cli.app")
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("masscancel: the command line needs typer: pip install 'masscancel[cli]'\n")


def test_an_import_that_is_broken_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the absence of the extra is explained by it."""
    monkeypatch.delitem(sys.modules, "masscancel.cli.app")
    monkeypatch.setitem(sys.modules, "masscancel.cli.verbosity", None)
    with pytest.raises(ModuleNotFoundError, match="verbosity"):
        main()


def test_main_takes_the_arguments_of_the_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script's entry point."""
    monkeypatch.setattr(sys, "argv", ["masscancel", "--version"])
    assert main() == Status.DONE
    assert capsys.readouterr().out.startswith("masscancel ")
