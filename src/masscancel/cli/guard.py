"""``guard``: run a strategy, and cancel its orders when it ends or stalls, however it does."""

import asyncio
import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import msgspec
import typer

from masscancel import (
    Client,
    ConfigurationError,
    FanOutReport,
    MassCancelError,
    NotFlat,
    Outcome,
    PermissionDenied,
    Target,
    cancel_many,
)
from masscancel.calls import Scope
from masscancel.cli.lines import JsonLines
from masscancel.cli.on_fire import (
    VARIABLE,
    OnFire,
    OnFireTimeout,
    actions_of,
    check_actions,
    fire,
)
from masscancel.cli.options import (
    Account,
    Category,
    EnvPrefix,
    Settings,
    Settle,
    Symbol,
    VenueName,
    credential_variables,
)
from masscancel.cli.records import JournalFile, NoJournal, journal_for
from masscancel.cli.render import complain, remark
from masscancel.cli.selection import AccountsFile, Tags, chosen
from masscancel.cli.status import GuardStatus, Known, Status, status_of
from masscancel.doctor import examine_many
from masscancel.errors import short
from masscancel.events import killing
from masscancel.models import Permission
from masscancel.protection.on_exit import check_scopes, warm_up
from masscancel.protection.process import FORWARDED, Child, LeftBehind
from masscancel.redaction import redact_text
from masscancel.transport.service_manager import VARIABLES, ServiceManager

__all__ = ["guard"]

_SHOWN: Final = 20  # orders that are still open, processes that were left behind
_STDERR: Final = 2
#: What a finding about the right to cancel says of it.
_RIGHTS: Final[Mapping[str, Permission]] = {"ok": "yes", "failed": "no", "unknown": "unknown"}


class Scoped(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts and scopes that a guard cancels.

    Attributes:
        open: enters the clients of them, and leaves them.
        variables: where their keys are in the environment.
        secrets: reads what no text may show.
        several: whether there may be several accounts.
    """

    open: Callable[[], AbstractAsyncContextManager[list[Target]]]
    variables: Sequence[str]
    secrets: Callable[[], Sequence[str]]
    several: bool = False

    def name(self, target: Target) -> str:
        """A target's category, with its account where there are several."""
        name = target.account_category
        return f"{target.client.account} {name}" if self.several else name


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a guard: accounts and scopes, command and times in seconds."""

    scoped: Scoped
    command: Sequence[str]
    timeout: float
    cancel_timeout: float
    settle: float | None
    check: bool
    hidden: Sequence[str]
    leave_descendants: bool
    as_json: bool
    #: What became of the command and of its orders, for ``--on-fire``.
    outcome: dict[str, Any]

    def shown(self, command: str) -> str:
        """A command line as far as it is of use, without this account's secrets."""
        return short(redact_text(command, self.scoped.secrets()))


def guard(
    ctx: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The strategy, and its arguments.")
    ],
    venue: VenueName = None,
    category: Category = None,
    symbol: Symbol = None,
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="CATEGORY[:SYMBOL]",
            help="In place of --category and --symbol: what to cancel. Once for each.",
        ),
    ] = None,
    beat_timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="Without a beat for so long, the command has stalled; inf: it can't.",
        ),
    ] = 15.0,
    accounts_file: AccountsFile = None,
    selectors: Annotated[
        list[str] | None,
        typer.Option(
            "--account",
            metavar="SELECTOR",
            help="In place of all that: accounts of the accounts file, such as 'mm-*'. Once for "
            "each; with --accounts alone, all of them.",
            show_default=False,
        ),
    ] = None,
    tags: Tags = None,
    cancel_timeout: Annotated[
        float,
        typer.Option("--cancel-timeout", metavar="SECONDS", help="For the cancel and its proof."),
    ] = 10.0,
    settle: Settle = None,
    settings: Settings = None,
    env_prefix: EnvPrefix = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="First list the open orders, and ask the venue whether the key may cancel.",
        ),
    ] = True,
    pass_key: Annotated[
        bool, typer.Option("--pass-key", help="Pass the guard's own key on to the command.")
    ] = False,
    leave_descendants: Annotated[
        bool,
        typer.Option(
            "--leave-descendants",
            help="Name the processes that the command leaves behind; do not end them.",
        ),
    ] = False,
    on_fire: OnFire = None,
    on_fire_timeout: OnFireTimeout = 10.0,
    journal: JournalFile = None,
    no_journal: NoJournal = False,
    json_lines: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print a JSON object on each line; the command's own standard output then goes to "
            "standard error.",
        ),
    ] = False,
) -> int:
    """Run a strategy; when it ends or stalls, cancel its orders and confirm that none is left.

    Try:

      export GUARD_API_KEY=... GUARD_API_SECRET=...
      masscancel guard --env-prefix GUARD --venue kraken --category spot -- python strategy.py
      masscancel guard --venue ascendex --target cash --target margin:BTC/USDT -o ... -- ...
      masscancel guard --accounts masscancel.toml --account 'mm-*' -- python strategy.py

    The strategy tells that it is alive with one line, where being stuck would show:

      from masscancel import beat
      beat()   # sends nothing, never blocks; does nothing without a guard

    A program in another language writes a byte to the file descriptor in MASSCANCEL_BEAT_FD. If no
    beat comes for --timeout seconds, or none ever did, the strategy is ended, its process group and
    what it left behind outside of it (that on Linux): SIGTERM, a second later SIGKILL. Then
    everything in scope is cancelled and confirmed. So it is if the strategy ends, however it does.

    Signals are passed on to the strategy; while it cancels, the guard ignores them. Under systemd,
    set KillMode=mixed. TimeoutStopSec, or 'docker stop --time', must leave time for the strategy to
    end, then 4 s, then --cancel-timeout, then --on-fire-timeout if that is used.

    The strategy does not inherit the key that the guard has read, unless --pass-key says so. On
    venues that want a nonce that only grows (Kraken), two who share a key spoil each other's
    requests.

    What it can't survive: its own SIGKILL, and the machine's end. beat() returns False then.
    docs/guard.md has more: systemd, containers, JSON, what is out of reach. What happens is written
    into the journal; at the end, its head is said.
    """
    known: Known = ctx.obj
    _open_standard_streams()
    lines = JsonLines(wanted=json_lines)
    status: int = Status.INTERRUPTED
    error = written = None
    actions = actions_of(on_fire)
    outcome: dict[str, Any] = {"ok": False}
    try:
        _check_timeout(beat_timeout)
        check_actions(actions, on_fire_timeout)
        scoped: Scoped
        if accounts_file is not None or selectors or tags:
            _check_alone(category, symbol, scopes, settings, env_prefix)
            scoped = _scoped_by_file(accounts_file, selectors, venue, tags, cancel_timeout)
        else:
            named = _scopes(category, symbol, scopes)
            account = Account.of(venue, settings, env_prefix, *(name for name, _ in named))
            variables = credential_variables(account.venue.name, env_prefix)
            scoped = _scoped_to(account, named, variables, cancel_timeout)
        plan = Plan(
            scoped=scoped,
            command=command,
            timeout=beat_timeout,
            cancel_timeout=cancel_timeout,
            settle=settle,
            check=check,
            hidden=(*(() if pass_key else scoped.variables), *VARIABLES, VARIABLE),
            leave_descendants=leave_descendants,
            as_json=json_lines,
            outcome=outcome,
        )
        with journal_for(journal, no_journal=no_journal) as record:
            try:
                record.check()
                status = asyncio.run(_guard(plan, known, lines))
            finally:
                if known.may_have_executed:
                    written = record.say()
    except Exception as problem:
        if known.may_have_executed:
            odd = f"unexpected {type(problem).__name__}, please report it"
            complain(f"{odd}; NOT confirmed flat: list the open orders to know")
            status = GuardStatus.NOT_FLAT
        elif not isinstance(problem, MassCancelError):
            status = Status.FAILED
            raise
        else:
            error = problem.to_dict()
            complain(f"{problem}; the command was not started")
            status = status_of(problem)
    finally:
        started = known.may_have_executed
        lines.say("end", status=int(status), started=started, error=error, journal=written)
        lines.close()
        if known.may_have_executed:
            fire(actions, {"status": status, **outcome}, by="guard", timeout=on_fire_timeout)
    known.is_over = known.may_have_executed
    return status


def _open_standard_streams() -> None:
    """Open what is closed: else a socket of ours would become the command's standard error."""
    for descriptor in range(_STDERR + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w")  # noqa: SIM115  # until the process ends
            setattr(sys, name, nowhere)


def _check_timeout(timeout: float) -> None:
    """Check after how long a command has stalled, in seconds; infinity is never.

    Raises:
        ConfigurationError: it is not positive.
    """
    if not timeout > 0:
        raise ConfigurationError(f"--timeout must be positive, not {timeout}")


def _check_alone(*options: object) -> None:
    """Check that nothing is said that the accounts file says.

    Raises:
        ConfigurationError: something is.
    """
    if any(options):
        raise ConfigurationError(
            "with an accounts file, no --category, --symbol, --target, -o or --env-prefix: it "
            "says all of that"
        )


def _scoped_by_file(
    path: Path | None,
    selectors: Sequence[str] | None,
    venue: str | None,
    tags: Sequence[str] | None,
    timeout: float,
) -> Scoped:
    """The accounts of a file, which is read strictly.

    Raises:
        ConfigurationError: something is wrong with it, or nothing matches.
    """
    accounts, _ = chosen(path, selectors, venue, tags, strict=True)
    places = [source for account in accounts for source in account.secrets.values()]
    return Scoped(
        open=partial(accounts.open, timeout=timeout),
        variables=[place.variable for place in places if place.variable],
        secrets=lambda: [place.read() for place in places],
        several=True,
    )


def _scoped_to(
    account: Account,
    scopes: Sequence[tuple[str | None, str | None]],
    variables: Sequence[str],
    timeout: float,
) -> Scoped:
    """One account, as the options say.

    Raises:
        ScopeError: the venue has no such scope.
    """
    named = [Scope(account.category if name is None else name, symbol) for name, symbol in scopes]
    for scope in named:
        account.venue.check_scope(scope)

    @asynccontextmanager
    async def enter() -> AsyncIterator[list[Target]]:
        async with account.client(timeout) as client:
            yield [Target(client, scope.account_category, scope.symbol) for scope in named]

    return Scoped(open=enter, variables=variables, secrets=lambda: account.credentials.secrets)


def _scopes(
    category: str | None, symbol: str | None, scopes: Sequence[str] | None
) -> list[tuple[str | None, str | None]]:
    """Categories and symbols; ``None`` for the venue's only category, and for every symbol.

    Raises:
        ConfigurationError: both ways of naming them were used.
    """
    if not scopes:
        return [(category, symbol)]
    if category is not None or symbol is not None:
        raise ConfigurationError("--target takes the place of --category and --symbol")
    parts = [scope.partition(":") for scope in dict.fromkeys(scopes)]
    return [(name, one if colon else None) for name, colon, one in parts]


async def _guard(plan: Plan, known: Known, lines: JsonLines) -> int:
    """Run the command, then cancel; what the guard ends with.

    Raises:
        MassCancelError: something is wrong with the venue, the key, the scope or the times; the
            command was not started.
    """
    early: list[int] = []
    try:
        with _stopped_by_signals(early):
            async with plan.scoped.open() as targets:
                return await _run(plan, targets, known, lines)
    except asyncio.CancelledError:
        if not early:
            raise
        name = signal.Signals(early[0]).name
        complain(f"{name} came before all was checked; the command was not started")
        return 128 + early[0]


@contextmanager
def _stopped_by_signals(came: list[int]) -> Iterator[None]:
    """Be cancelled by what is to end this process, until the command takes the signals over.

    As process 1, it would not end by itself. What the parent had blocked counts, too.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  # for the type checker: this runs in one

    def stop(number: int, _: FrameType | None) -> None:
        came.append(number)
        loop.call_soon_threadsafe(task.cancel)

    taken = [each for each in FORWARDED if signal.getsignal(each) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    try:
        yield
    finally:
        for number in taken:
            if signal.getsignal(number) is stop:
                signal.signal(number, signal.SIG_DFL)


async def _run(plan: Plan, targets: Sequence[Target], known: Known, lines: JsonLines) -> int:
    permissions = await _check(plan, targets)
    scopes = ", ".join(map(str, targets))
    stdout = _STDERR if plan.as_json else None
    manager = ServiceManager(os.environ)
    pulse = asyncio.create_task(_keep_pulse(manager))  # it begins with the first wait
    try:
        child = Child(plan.command, without=plan.hidden, stdout=stdout)
    except OSError as error:
        pulse.cancel()
        return _not_started(plan.command[0], error)
    known.sending()
    has_ended = True
    try:
        manager.tell("READY=1", f"STATUS=guarding {scopes}: the command is process {child.pid}")
        lines.say(
            "started",
            pid=child.pid,
            command=[plan.shown(word) for word in plan.command],
            targets=[
                ({"account": target.client.account} if plan.scoped.several else {})
                | {"account_category": target.account_category, "symbol": target.symbol}
                for target in targets
            ],
            timeout=plan.timeout if math.isfinite(plan.timeout) else None,
            cancel_timeout=plan.cancel_timeout,
            can_cancel=permissions,
        )
        has_ended = await child.stay(plan.timeout)
    except asyncio.CancelledError:  # a signal has come while it was being started
        pass
    finally:  # whatever goes wrong here, the cancel must not be lost
        try:
            manager.tell("STOPPING=1", f"STATUS=cancelling {scopes}")
            if not has_ended:
                lines.say("stalled", has_beaten=child.has_beaten, timeout=plan.timeout)
            await child.end(leave_descendants=plan.leave_descendants)
            lines.say(
                "ended",
                status=child.status,
                how=child.death,
                left_behind=[
                    {"pid": each.pid, "command": plan.shown(each.command), "fate": each.fate}
                    for each in child.left_behind
                ],
            )
        finally:
            report = await _cancel(plan, child, targets, lines)
    outcomes = report.to_dict()["outcomes"]
    plan.outcome.update(ok=report.all_ok, stalled=not has_ended, how=child.death, outcomes=outcomes)
    pulse.cancel()
    is_flat = "all" if report.all_ok else "NOT"
    manager.tell(f"STATUS={is_flat} confirmed flat: {scopes}; the command {child.death}")
    return _tell(plan, child, report, has_ended=has_ended)


async def _keep_pulse(manager: ServiceManager) -> None:
    """Tell the service manager, twice as often as it wants to hear it, that this process is well.

    The guard ends a command that stalls by itself; until then, and while it cancels, it is well.
    """
    while manager.watchdog is not None:
        manager.tell("WATCHDOG=1")
        await asyncio.sleep(manager.watchdog / 2)


async def _check(plan: Plan, targets: Sequence[Target]) -> Mapping[str, Permission]:
    """Find out what would make the cancel fail, while nothing is at stake yet.

    Returns:
        Whether the key may cancel, by category; empty if that is not to be asked.

    Raises:
        MassCancelError: it would.
    """
    await cancel_many((), confirm=True, timeout=plan.cancel_timeout, settle=plan.settle)
    check_scopes(targets)
    await warm_up(targets)
    await asyncio.sleep(0)  # raises, if a signal has come meanwhile: the command is not started
    if not plan.check:
        return {}
    scopes: dict[Client[Any], list[Scope]] = {}
    for target in targets:
        scopes.setdefault(_client(target), []).append(target.scope)
    asked = {(target.client, target.account_category): target for target in targets}
    limit = plan.cancel_timeout
    checkups = await examine_many(scopes, scopes=scopes, streams=False, timeout=limit)
    rights: dict[Target, Permission] = {}
    for client, checkup in zip(scopes, checkups, strict=True):
        for finding in checkup.findings:
            right = _RIGHTS.get(finding.status) if finding.name == "may cancel" else None
            if finding.error is not None and right != "no":
                raise finding.error
            if right is not None:
                rights[asked[client, finding.category]] = right
            elif finding.status != "ok":
                remark("; ".join(filter(None, (finding.detail, finding.advice))))
    if denied := [target for target, can in rights.items() if can == "no"]:
        words = f"{_titles(denied)} says that the key may not trade, so it can't cancel"
        raise PermissionDenied(message=f"{words}: {', '.join(map(plan.scoped.name, denied))}")
    if unknown := [target for target, can in rights.items() if can == "unknown"]:
        words = f"the key lists open orders on {_titles(unknown)}; whether it may cancel"
        remark(f"{words} can't be known there: {', '.join(map(plan.scoped.name, unknown))}")
    return {plan.scoped.name(target): can for target, can in rights.items()}


def _titles(targets: Iterable[Target]) -> str:
    return " and ".join(dict.fromkeys(_client(target).venue.title for target in targets))


def _client(target: Target) -> Client[Any]:
    assert isinstance(target.client, Client)  # noqa: S101  # as it was entered here
    return target.client


async def _cancel(
    plan: Plan, child: Child, targets: Sequence[Target], lines: JsonLines
) -> FanOutReport:
    with killing(f"guard: the command {child.death}", what=", ".join(map(str, targets))):
        return await cancel_many(
            targets,
            confirm=True,
            timeout=plan.cancel_timeout,
            settle=plan.settle,
            on_outcome=lambda outcome: lines.say("outcome", **outcome.to_dict()),
        )


def _not_started(program: str, error: OSError) -> int:
    complain(f"{program}: {error.strerror or error}; the command was not started")
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return GuardStatus.NOT_FOUND if missing else GuardStatus.NO_EXEC


def _tell(plan: Plan, child: Child, report: FanOutReport, *, has_ended: bool) -> int:
    """Say how it went, and with what to end. Not before all is done: a terminal may block."""
    left = child.left_behind
    for line in _leftovers(plan, left):
        complain(line)
    words = f"the command {child.death}"
    if not has_ended:
        missed = f"{'stopped beating' if child.has_beaten else 'never beat'}"
        words = f"the command stalled: it {missed} for {plan.timeout:g} s, and {child.death}"
    scopes = ", ".join(str(outcome.target) for outcome in report.outcomes)
    if report.all_ok:
        filled = [each for outcome in report.outcomes for each in _filled(outcome)]
        note = f"; filled on the way out: {', '.join(filled)}" if filled else ""
        say = complain if child.status is None else remark
        say(f"{words}; {scopes} confirmed flat in {report.elapsed:.2f} s{note}")
    else:
        for outcome in report.failed:
            for line in _failure(outcome):
                complain(line)
        failed = ", ".join(str(outcome.target) for outcome in report.failed)
        complain(f"{words}; NOT confirmed flat: {failed}")
    fates = {each.fate for each in left}
    if child.status is None or not report.all_ok or "could not be ended" in fates:
        return GuardStatus.NOT_FLAT
    if "left alone" in fates:
        return GuardStatus.LEFT
    return child.status if has_ended else GuardStatus.STALLED


def _leftovers(plan: Plan, left: Sequence[LeftBehind]) -> list[str]:
    """Say which processes the command left behind, and what became of them."""
    lines = [
        f"left behind by the command: process {each.pid}, {plan.shown(each.command)}: {each.fate}"
        for each in left[:_SHOWN]
    ]
    if len(left) > _SHOWN:
        lines.append(f"and {len(left) - _SHOWN} more processes")
    return lines


def _filled(outcome: Outcome) -> Sequence[str]:
    return outcome.confirmation.filled or () if outcome.confirmation is not None else ()


def _failure(outcome: Outcome) -> list[str]:
    """Why a target is not confirmed, and what is open there."""
    lines = [str(outcome.error)]
    if isinstance(outcome.error, NotFlat):
        residual = outcome.error.residual
        lines += [
            f"still open: {order.side} {order.quantity:f} {order.symbol} at {order.price:f}, "
            f"id {order.order_id}"
            for order in residual[:_SHOWN]
        ]
        if len(residual) > _SHOWN:
            lines.append(f"and {len(residual) - _SHOWN} more: 'masscancel orders' lists them")
    return lines
