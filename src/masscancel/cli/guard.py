"""``guard``: run a strategy, and cancel its orders when it ends or stalls, however it does."""

import asyncio
import math
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import typer

from masscancel import (
    Client,
    ConfigurationError,
    FanOutReport,
    MassCancelError,
    NotFlat,
    Outcome,
    Target,
    cancel_many,
)
from masscancel.cli.child import Child
from masscancel.cli.options import (
    Account,
    Category,
    EnvPrefix,
    Settings,
    Settle,
    Symbol,
    VenueName,
)
from masscancel.cli.render import complain, remark
from masscancel.cli.status import GuardStatus, Known, status_of

__all__ = ["guard"]

_SHOWN: Final = 20  # orders that are still open

Scope = tuple[str, str | None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is guarded, and how: times in seconds."""

    account: Account
    scopes: Sequence[Scope]
    command: Sequence[str]
    timeout: float
    cancel_timeout: float
    settle: float
    check: bool


def guard(
    ctx: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The strategy, and its arguments.")
    ],
    venue: VenueName = "ascendex",
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
    cancel_timeout: Annotated[
        float,
        typer.Option("--cancel-timeout", metavar="SECONDS", help="For the cancel and its proof."),
    ] = 10.0,
    settle: Settle = 0.25,
    settings: Settings = None,
    env_prefix: EnvPrefix = None,
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="List the open orders first, to try the key."),
    ] = True,
) -> int:
    """Run a strategy; when it ends or stalls, cancel its orders and confirm that none is left.

    Try:

      export MASSCANCEL_API_KEY=... MASSCANCEL_API_SECRET=...
      masscancel guard --category cash -o ... -- python strategy.py
      masscancel guard --target cash --target margin:BTC/USDT -o ... -- ...

    The strategy runs as a child of the guard, in a process group of its own. However it ends,
    SIGKILL included, everything in scope is cancelled and confirmed. It tells that it is alive with
    one line, where being stuck would show:

      from masscancel import beat
      beat()   # sends nothing, never blocks; does nothing without a guard

    A program in another language writes a byte to the file descriptor in MASSCANCEL_BEAT_FD. If no
    beat comes for --timeout seconds, or none ever did, the whole group is ended (SIGTERM, a second
    later SIGKILL), so that it can't send more, and then everything is cancelled. So is a group
    whose first process has ended. Wrappers that close file descriptors, such as sudo, cut the
    beats; whoever leaves the process group is out of reach.

    Signals: SIGINT, SIGTERM, SIGHUP (but under nohup), SIGQUIT, SIGUSR1 and SIGUSR2 are passed on
    to the group, each once; while it cancels, the guard ignores them. At a terminal the strategy is
    in the foreground: it reads what is typed and gets Ctrl-C itself. Ctrl-Z stops it, which is a
    stall. A strategy that ignores SIGTERM and goes on beating goes on.

    A key of its own: on venues that want a nonce that only grows (Kraken), the strategy's requests
    and the guard's spoil each other if they share a key. Put the guard's own into GUARD_API_KEY and
    GUARD_API_SECRET, and say --env-prefix GUARD.

    systemd: set KillMode=mixed, so that a stop sends SIGTERM to the guard alone; otherwise the
    strategy gets it twice. TimeoutStopSec must leave time for the strategy to end, then 2 s, then
    --cancel-timeout: after it, everything is killed, the guard too. Containers: the same holds for
    'docker stop --time' (10 s if not set) and terminationGracePeriodSeconds; start the guard as the
    container's own process (CMD ["masscancel", "guard", ...]), not under a shell, which passes no
    signals on.

    What it can't survive: its own SIGKILL, and the machine's end. beat() returns False then, which
    is a reason to stop trading; a switch of the venue's own may help. Several venues take a guard
    each, one inside the other; the outer one needs a longer --timeout than the inner one's with
    --cancel-timeout and 2 s added.
    """
    known: Known = ctx.obj
    if not (beat_timeout > 0 and (beat_timeout == math.inf or math.isfinite(beat_timeout))):
        raise ConfigurationError(f"--timeout must be positive, not {beat_timeout}")
    scoped = _scopes(category, symbol, scopes)
    account = Account.of(venue, settings, env_prefix, *(name for name, _ in scoped))
    plan = Plan(
        account=account,
        scopes=[(name if name is not None else account.category, one) for name, one in scoped],
        command=command,
        timeout=beat_timeout,
        cancel_timeout=cancel_timeout,
        settle=settle,
        check=check,
    )
    try:
        return asyncio.run(_guard(plan, known))
    except Exception as error:
        if known.may_have_executed:
            odd = f"unexpected {type(error).__name__}, please report it"
            complain(f"{odd}; NOT confirmed flat: list the open orders to know")
            return GuardStatus.NOT_FLAT
        if not isinstance(error, MassCancelError):
            raise
        complain(f"{error}; the command was not started")
        return status_of(error)


def _scopes(
    category: str | None, symbol: str | None, scopes: Sequence[str] | None
) -> list[tuple[str | None, str | None]]:
    """Categories and symbols; ``None`` for the venue's first category, and for every symbol.

    Raises:
        ConfigurationError: both ways of naming them were used.
    """
    if not scopes:
        return [(category, symbol)]
    if category is not None or symbol is not None:
        raise ConfigurationError("--target takes the place of --category and --symbol")
    parts = [scope.partition(":") for scope in dict.fromkeys(scopes)]
    return [(name, one if colon else None) for name, colon, one in parts]


async def _guard(plan: Plan, known: Known) -> int:
    """Run the command, then cancel; what the guard ends with.

    Raises:
        MassCancelError: something is wrong with the venue, the key, the scope or the times; the
            command was not started.
    """
    async with plan.account.client(plan.cancel_timeout) as client:
        await _check(plan, client)
        try:
            child = Child(plan.command)
        except OSError as error:
            return _not_started(plan.command[0], error)
        known.sending()
        targets = [Target(client, category, symbol) for category, symbol in plan.scopes]
        try:
            has_ended = await child.stay(plan.timeout)
        finally:  # whatever goes wrong here, the cancel must not be lost
            await child.end()
            report = await _cancel(plan, targets)
    known.is_over = True
    return _tell(plan, child, report, has_ended=has_ended)


async def _check(plan: Plan, client: Client) -> None:
    """Find out what would make the cancel fail, while nothing is at stake yet.

    Raises:
        MassCancelError: it would.
    """
    await cancel_many((), confirm=True, timeout=plan.cancel_timeout, settle=plan.settle)
    for category, symbol in plan.scopes:
        flow = client.venue.cancel_all(category, symbol, None)
        next(flow)  # which checks the scope, and sends nothing
        flow.close()
        if plan.check:
            await client.open_orders(category, symbol, timeout=plan.cancel_timeout)


async def _cancel(plan: Plan, targets: Sequence[Target]) -> FanOutReport:
    return await cancel_many(targets, confirm=True, timeout=plan.cancel_timeout, settle=plan.settle)


def _not_started(program: str, error: OSError) -> int:
    complain(f"{program}: {error.strerror or error}; the command was not started")
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return GuardStatus.NOT_FOUND if missing else GuardStatus.NO_EXEC


def _tell(plan: Plan, child: Child, report: FanOutReport, *, has_ended: bool) -> int:
    """Say how it went, and with what to end. Not before all is done: a terminal may block."""
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
    if child.status is None or not report.all_ok:
        return GuardStatus.NOT_FLAT
    return child.status if has_ended else GuardStatus.STALLED


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
