"""`--on-fire`: who is told of a kill and of a guard's end, when, and what that can't change."""

import json
import os
import select
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from desk_support import Desk, desk_of
from guard_here import Here, guarding_here
from masscancel.cli.on_fire import fire
from masscancel.cli.status import GuardStatus, KillStatus, Status
from masscancel.sim import Answer
from support import SECRETS

QUICK = ("--settle", "0.05", "--yes")

#: Writes down what it was told, and what it has inherited.
TOLD = """
import json, os, sys
with open(sys.argv[1], "w") as file:
    json.dump({"document": json.load(sys.stdin), "environment": dict(os.environ)}, file)
"""


def python(script: str, *arguments: str) -> str:
    """The command that runs a Python script."""
    return shlex.join([sys.executable, "-I", "-S", "-c", script, *arguments])


def told(path: Path) -> Any:
    """What the command was told, that writes it down there."""
    return json.loads(path.read_text())


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """The guard in this process."""
    with guarding_here(monkeypatch, capfd) as guarding:
        yield guarding


@pytest_asyncio.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> AsyncIterator[Desk]:
    """Two accounts at two venues."""
    async with desk_of(tmp_path, monkeypatch, capfd, venues=("binance", "kraken"), each=1) as found:
        yield found


class Webhook:
    """A server that is told, and what it was told."""

    def __init__(self, answer: web.StreamResponse | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self._answer = answer or web.Response()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._take)
        self._server = TestServer(application)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, {**request.headers}, await request.json()))
        return self._answer

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        """Its address, with a token in the path."""
        return f"http://127.0.0.1:{self._server.port}/hook/{SECRETS[0]}"


# A guard.


def test_a_guard_tells_its_outcome(here: Here, tmp_path: Path) -> None:
    """When the orders are gone: a command learns what became of them, and inherits no secret."""
    path = tmp_path / "told.json"
    ended = here.guard("--on-fire", python(TOLD, str(path)), "--", "sh", "-c", "exit 3")
    assert ended.status == 3
    document, environment = told(path)["document"], told(path)["environment"]
    assert (
        document.items()
        >= {
            "event": "fired",
            "by": "guard",
            "status": 3,
            "ok": True,
            "stalled": False,
            "how": "ended with status 3",
            "pid": os.getpid(),
        }.items()
    )
    [outcome] = document["outcomes"]
    assert (outcome["account_category"], outcome["ok"]) == ("cash", True)
    assert outcome["confirmation"]["sweeps"] == 1
    assert not any(secret in path.read_text() for secret in SECRETS)
    assert {"PATH", "HOME"} <= {*environment}
    assert not any(name.startswith("MASSCANCEL") for name in environment)


def test_not_before_the_cancel(here: Here, tmp_path: Path) -> None:
    """Flat is proven and said before a command is told."""
    path = tmp_path / "told.json"
    script = TOLD + "print('hello from the hook', file=sys.stderr)"
    status, out, err = here.raw("--on-fire", python(script, str(path)), "--", "true")
    assert (status, out) == (0, "")
    assert err.index("confirmed flat") < err.index("hello from the hook")
    assert told(path)["document"]["ok"] is True
    assert here.open_orders() == set()


def test_what_is_not_flat_is_told(here: Here, tmp_path: Path) -> None:
    """A guard that fails says so, and with which errors."""
    path = tmp_path / "told.json"
    here.ask(lambda it: it.faults.add(Answer(503), operation="cancel-all", times=None))
    status, _, err = here.raw(
        *("--cancel-timeout", "0.4", "--on-fire", python(TOLD, str(path)), "--", "true")
    )
    assert status == GuardStatus.NOT_FLAT
    document = told(path)["document"]
    assert (document["ok"], document["status"]) == (False, GuardStatus.NOT_FLAT)
    assert document["outcomes"][0]["error"]["may_have_executed"] is True
    assert "NOT confirmed flat" in err


def test_a_command_that_was_not_started_tells_nobody(here: Here, tmp_path: Path) -> None:
    """Nothing was cancelled then."""
    path = tmp_path / "told.json"
    ended = here.guard("--on-fire", python(TOLD, str(path)), "--", "/no/such/program")
    assert ended.status == GuardStatus.NOT_FOUND
    assert not path.exists()


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("", "a command or an https:// URL"),
        ("alert 'now", "as a shell does"),
        ("http://alerts.test/hook", "alerts.test in clear text"),
        ("http://localhost/hook", "localhost in clear text"),
        ("https://me:hush@alerts.test/", "without a user name or a password"),
        ("https://", "a URL such as"),
        ("https://alerts.test:http/", "a URL such as"),
    ],
)
def test_a_guard_checks_it_on_entry(here: Here, action: str, words: str) -> None:
    """Where nothing is at stake yet, what can't be used is refused."""
    ended = here.guard("--on-fire", action, "--", "true")
    assert ended.status == Status.USAGE
    assert words in ended.err
    assert "hush" not in ended.err
    assert here.operations("cancel-all") == 0


def test_the_strategy_does_not_inherit_it(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable names an action, too; what is in it is for the guard alone."""
    path = tmp_path / "told.json"
    monkeypatch.setenv("MASSCANCEL_ON_FIRE", python(TOLD, str(path)))
    ended = here.guard("--", "sh", "-c", 'test -z "$MASSCANCEL_ON_FIRE"')
    assert ended.status == 0
    assert told(path)["document"]["by"] == "guard"


# Its failures.


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("/no/such/hook --token a-secret-of-the-tests", "/no/such/hook: No such file or directory"),
        (python("raise SystemExit(7)"), "ended with status 7"),
        ("http://127.0.0.1:1/a-secret-of-the-tests", "127.0.0.1: could not be told"),
    ],
)
def test_its_failure_is_said(here: Here, action: str, words: str) -> None:
    """And changes no status; what may be secret in it is not repeated."""
    status, _, err = here.raw("--on-fire", action, "--", "sh", "-c", "exit 3")
    assert status == 3
    assert words in err
    assert "what was cancelled stays as said" in err
    assert SECRETS[0] not in err


def test_it_is_bounded(here: Here, tmp_path: Path) -> None:
    """A command that hangs is ended, with all that it has started."""
    held = tmp_path / "held"
    os.mkfifo(held)
    reading = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    hang = shlex.join(["sh", "-c", f"sleep 600 > {held} & wait"])
    status, _, err = here.raw("--on-fire", hang, "--on-fire-timeout", "0.5", "--", "true")
    assert status == 0
    assert "sh: ended, since it took longer than 0.5 s" in err
    ready, _, _ = select.select([reading], [], [], 20)  # nobody holds the other end any more
    assert ready
    assert os.read(reading, 1) == b""
    os.close(reading)


# A kill, and webhooks.


@pytest.mark.asyncio
async def test_a_kill_tells_a_url_and_a_command(desk: Desk, tmp_path: Path) -> None:
    """Both get the document that --json prints; the URL is told with no credentials."""
    path = tmp_path / "told.json"
    async with Webhook() as hook:
        actions = ("--on-fire", hook.url, "--on-fire", python(TOLD, str(path)))
        ran = await desk.run("kill", "--json", "--reason", "drill", *QUICK, *actions)
    assert ran.status == KillStatus.FLAT
    assert desk.left() == dict.fromkeys(desk.seats, 0)
    [(_, headers, document)] = hook.requests
    assert document["by"] == "kill"
    assert document.items() >= ran.json.items()
    assert (document["reason"], len(document["rows"])) == ("drill", len(ran.json["rows"]))
    assert told(path)["document"].items() >= ran.json.items()
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("masscancel/")
    assert "Authorization" not in headers
    text = json.dumps([headers, document]) + path.read_text()
    assert not any(secret in text for secret in desk.variables.values())


@pytest.mark.asyncio
async def test_a_kill_is_never_refused_for_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """However wrong the action is, everything is cancelled first; then its failure is said."""
    monkeypatch.setenv("MASSCANCEL_ON_FIRE", "http://alerts.test/hook")
    ran = await desk.run("kill", *QUICK)
    assert ran.status == KillStatus.FLAT
    assert desk.left() == dict.fromkeys(desk.seats, 0)
    assert "would tell alerts.test in clear text" in ran.err


@pytest.mark.asyncio
async def test_what_does_not_fire_tells_nobody(desk: Desk, tmp_path: Path) -> None:
    """A dry run, and a kill that nobody agreed to."""
    path = tmp_path / "told.json"
    action = ("--on-fire", python(TOLD, str(path)))
    assert (await desk.run("kill", "--dry-run", *action)).status == KillStatus.FLAT
    assert (await desk.run("kill", *action)).status == KillStatus.USAGE
    assert not path.exists()


@pytest.mark.asyncio
async def test_redirects_are_not_followed(desk: Desk) -> None:
    """Who is told is who was named."""
    async with Webhook() as other, Webhook(web.Response(status=307)) as hook:
        hook._answer.headers["Location"] = other.url
        ran = await desk.run("kill", "--on-fire", hook.url, *QUICK)
    assert ran.status == KillStatus.FLAT
    assert "127.0.0.1: answered with HTTP 307" in ran.err
    assert (len(hook.requests), other.requests) == (1, [])


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_no_proxy_hears_what_stays_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """What is for this machine is not handed to a proxy in clear text."""
    monkeypatch.setenv(name, "http://proxy.test:3128")
    fire(("http://127.0.0.1:1/",), {}, by="a test", timeout=5)
    assert "Connection refused" in capsys.readouterr().err
