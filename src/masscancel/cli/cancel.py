"""``cancel``: every category with every symbol of one account, an outcome for each."""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.text import Text

from masscancel import (
    Ack,
    Client,
    ConfigurationError,
    Confirmation,
    FanOutReport,
    MassCancelError,
    NotFlat,
    NotSent,
    OrderGate,
    Outcome,
    OutcomeUnknown,
    Target,
    cancel_many,
)
from masscancel.arguments import check_settle, check_timeout
from masscancel.calls import Scope
from masscancel.cli.failures import error_fields, failure, gravest
from masscancel.cli.options import (
    Account,
    AllCategories,
    AsJson,
    Books,
    Categories,
    EnvPrefix,
    Settings,
    Settle,
    Symbols,
    Timeout,
    VenueName,
)
from masscancel.cli.orders import order_sheet
from masscancel.cli.progress import Progress
from masscancel.cli.render import (
    Cell,
    Column,
    Screen,
    Sheet,
    clean,
    complain,
    count,
    moment,
    named,
    print_json,
)
from masscancel.cli.scopes import Scopes
from masscancel.cli.status import Known, Status, status_of, worst_of
from masscancel.models import Via
from masscancel.transport.limiter import Limiter, Ticket

__all__ = ["cancel"]

MEANING = (
    "An Ack says that the venue has received the request, not that the orders are gone: "
    "'masscancel orders' lists what is still open."
)
_STYLES = {Status.DONE: "green", Status.NOT_FLAT: "bold red", Status.UNKNOWN: "bold red"}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A request to cancel: scopes, way, and times in seconds."""

    scopes: Scopes
    timeout: float
    via: Via
    confirm: bool
    settle: float | None


class Result(msgspec.Struct, frozen=True):
    """The outcomes of a request, one for each scope, also where Ctrl-C came first."""

    report: FanOutReport
    interrupted: bool

    @property
    def status(self) -> Status:
        """The exit status of the command."""
        if self.interrupted:
            return Status.INTERRUPTED
        return worst_of(map(_status, self.report.outcomes))


def cancel(
    ctx: typer.Context,
    venue: VenueName = None,
    categories: Categories = None,
    all_categories: AllCategories = False,
    symbols: Symbols = None,
    books: Books = None,
    timeout: Timeout = 5.0,
    settings: Settings = None,
    env_prefix: EnvPrefix = None,
    via: Annotated[
        Literal["rest", "stream", "both"],
        typer.Option("--via", help="How the cancel goes; both: the first answer counts."),
    ] = "rest",
    confirm: Annotated[
        bool,
        typer.Option("--confirm", help="Cancel again if need be, and prove that nothing is left."),
    ] = False,
    settle: Settle = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before cancelling.")] = False,
    as_json: AsJson = False,
) -> int:
    """Cancel every open order of one account: of the categories, symbols and books that are named.

    The key and the secret come from the environment. Without --symbol it asks first, unless told
    --yes; where there is no terminal to ask on, it refuses. All scopes are cancelled at once, each
    has an outcome of its own, and what is not touched is named.

    With --confirm it goes on until two listings, --settle apart, are empty, and says what was
    cancelled and what filled on the way out, where that can be observed. If orders are still open
    when the time is up, it lists them and ends with 6; if no listing could be read, with 7.

    Try:

      export MASSCANCEL_API_KEY=... MASSCANCEL_API_SECRET=...
      masscancel cancel --venue binance --category spot --symbol BTCUSDT
      masscancel cancel --venue kraken --all-categories --yes --confirm
      masscancel cancel --venue binance --category usdm --book ordinary --yes
      masscancel cancel --venue kraken --category spot --yes --json | jq .ok
    """
    known: Known = ctx.obj
    account = Account.of(venue, settings, env_prefix, *categories or (), every=all_categories)
    scopes = Scopes.of(account, symbols, books)
    check_timeout(timeout)
    if confirm:
        check_settle(settle, timeout)
        if via != "rest":
            raise ConfigurationError("--confirm cancels over REST: it can't be given with --via")
    scopes.check_stream(via)
    if scopes.whole and not yes and not _agreed(scopes):
        words = "not confirmed; nothing was sent"
        complain(words)
        if as_json:
            print_json(failure(Status.DECLINED, "Declined", words))
        return Status.DECLINED
    plan = Plan(scopes=scopes, timeout=timeout, via=via, confirm=confirm, settle=settle)
    result = asyncio.run(_carry_out(plan, known))
    _tell(plan, result, known, as_json=as_json)
    return result.status


def _agreed(scopes: Scopes) -> bool:
    """Ask the person at the terminal.

    Raises:
        ConfigurationError: there is no terminal.
    """
    account = scopes.account
    what = f"every open {named(account.categories)} order on {account.venue.name}"
    if scopes.books is not None:
        what += f" in the books {named(scopes.books)}"
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"this would cancel {what}, and there is no terminal to ask on: "
            "say --yes, or name a --symbol"
        )
    origins = named(dict.fromkeys(map(account.venue.origin, account.categories)))
    sys.stderr.write(f"Cancel {what} ({origins})? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _carry_out(plan: Plan, known: Known) -> Result:
    """Cancel all scopes at once; an outcome for each, whatever happens."""
    deadline = time.monotonic() + plan.timeout
    client = plan.scopes.account.client(plan.timeout)
    way = client if plan.via == "rest" else _OnStream(client, plan.via)
    targets = [
        Target(way, scope.account_category, scope.symbol, scope.books) for scope in plan.scopes.each
    ]
    progress = Progress("confirming" if plan.confirm else "cancelling", deadline)
    client.pool.subscribe(known.note)
    client.pool.subscribe(progress.note)
    ended: dict[Scope, Outcome] = {}
    started = time.monotonic()
    try:
        with progress.shown():
            async with client:
                left = max(deadline - time.monotonic(), 0.001)
                await cancel_many(
                    targets,
                    timeout=left,
                    confirm=plan.confirm,
                    settle=plan.settle,
                    on_outcome=lambda outcome: ended.update({outcome.target.scope: outcome}),
                )
    except asyncio.CancelledError:  # Ctrl-C
        stopped = _report(targets, ended, started, lambda scope: _interrupted(scope, known))
        return Result(stopped, interrupted=True)
    except MassCancelError as error:  # before anything could be sent
        entry = error
        return Result(_report(targets, ended, started, lambda _: entry), interrupted=False)
    report = _report(targets, ended, started, lambda scope: _interrupted(scope, known))
    return Result(report, interrupted=False)


def _report(
    targets: Iterable[Target],
    ended: dict[Scope, Outcome],
    started: float,
    reason: Callable[[Scope], MassCancelError],
) -> FanOutReport:
    """The outcomes that there are, and for each other scope one that says why it has none."""
    elapsed = time.monotonic() - started
    outcomes = []
    for target in targets:
        outcome = ended.get(target.scope)
        if outcome is None:
            error = reason(target.scope)
            outcome = Outcome(target=target, error=error, elapsed=elapsed)
        outcomes.append(outcome)
    return FanOutReport(tuple(outcomes), elapsed)


def _interrupted(scope: Scope, known: Known) -> MassCancelError:
    """Make the error of a scope that Ctrl-C left without an outcome."""
    if not known.has_sent(scope):
        return NotSent("interrupted")
    after = ", when a cancel had been acknowledged" if known.is_answered(scope) else ""
    return OutcomeUnknown(f"interrupted{after}")


class _OnStream:
    """A client whose cancels go over its stream, or both ways."""

    def __init__(self, client: Client[Any], via: Via) -> None:
        self._client = client
        self._via = via
        self.origin = client.origin
        self.check_scope = client.check_scope
        self.warm = client.warm

    @property
    def account(self) -> str:
        return self._client.account

    def before_close(
        self, holder: object, finish: Callable[[], Coroutine[Any, Any, None]] | None
    ) -> None:
        self._client.before_close(holder, finish)

    async def cancel(
        self,
        scope: Scope,
        *,
        deadline: float,
        confirm: bool,
        settle: float | None,
        gate: OrderGate | None,
        limiters: tuple[Limiter, Limiter],
        place: Ticket,
    ) -> Ack | Confirmation:
        """Cancel a scope, in what is left of the time."""
        del confirm, settle, limiters, place
        left = deadline - asyncio.get_running_loop().time()
        return await self._client.cancel_all(
            *(scope.account_category, scope.symbol),
            books=scope.books,
            timeout=max(left, 0.001),
            via=self._via,
            gate=gate,
        )


def _status(outcome: Outcome) -> Status:
    return Status.DONE if outcome.error is None else status_of(outcome.error)


def _tell(plan: Plan, result: Result, known: Known, *, as_json: bool) -> None:
    """Show each outcome and what was not touched; what failed is a line on standard error each."""
    outcomes = result.report.outcomes
    words = known.words
    if not result.interrupted and result.status is Status.DONE:
        known.done("it was confirmed flat" if plan.confirm else "the venue has acknowledged it")
    if as_json:
        print_json(_fields(plan, result))
    else:
        things: list[Sheet | Text] = [_sheet(plan, outcomes)]
        if plan.confirm:
            things += _evidence(outcomes)
            things += _residuals(outcomes)
        elif any(outcome.ok for outcome in outcomes):
            things.append(Text(MEANING, "dim"))
        if left_out := plan.scopes.left_out("touched"):
            things.append(Text(clean(left_out), "bold"))
        Screen().show(*things)
    known.is_over = True
    if result.interrupted:
        complain(f"interrupted; {words}")
        return
    for line in dict.fromkeys(str(outcome.error) for outcome in result.report.failed):
        complain(line)


def _fields(plan: Plan, result: Result) -> dict[str, Any]:
    """The whole as JSON."""
    report = result.report
    return {
        "ok": report.all_ok and not result.interrupted,
        "status": result.status,
        "venue": plan.scopes.account.venue.name,
        "account": plan.scopes.account.credentials.account,
        "confirm": plan.confirm,
        "elapsed": report.elapsed,
        "outcomes": [_outcome_fields(outcome) for outcome in report.outcomes],
        "not_touched": plan.scopes.left_out_fields(),
        "error": gravest(
            (outcome.error for outcome in report.outcomes),
            worst_of(map(_status, report.outcomes)),
        ),
    }


def _outcome_fields(outcome: Outcome) -> dict[str, Any]:
    words = {"status": _status(outcome), "outcome": _word(outcome)}
    return {**outcome.to_dict(), **words, "error": error_fields(outcome.error)}


def _word(outcome: Outcome) -> str:
    """An outcome in a word or two."""
    if outcome.error is not None:
        return _status(outcome).name.lower().replace("_", " ")
    return "flat" if outcome.confirmation is not None else "received"


def _sheet(plan: Plan, outcomes: Iterable[Outcome]) -> Sheet:
    """A row for each scope."""
    columns = [Column("category"), Column("symbol"), Column("books"), Column("outcome", whole=True)]
    if plan.confirm:
        columns += [Column("sweeps", "right"), Column("cancelled"), Column("filled")]
        columns.append(Column("ms", "right", whole=True))
        rest: Callable[[Outcome], list[Cell]] = _proof_cells
    else:
        columns += [Column("attempts", "right"), Column("ms", "right", whole=True)]
        columns.append(Column("the venue said"))
        rest = _ack_cells
    rows = [_scope_cells(plan, outcome) + rest(outcome) for outcome in outcomes]
    return Sheet(columns=columns, rows=rows)


def _scope_cells(plan: Plan, outcome: Outcome) -> list[Cell]:
    target = outcome.target
    style = _STYLES.get(_status(outcome), "red")
    return [
        target.account_category,
        target.symbol or "all",
        ", ".join(plan.scopes.books_of(target.account_category)),
        Text(_word(outcome), style),
    ]


def _milliseconds(outcome: Outcome) -> str:
    return f"{outcome.elapsed * 1000:.1f}"


def _ack_cells(outcome: Outcome) -> list[Cell]:
    if outcome.ack is None:
        attempts = outcome.error.attempts if outcome.error is not None else ()
        return [str(len(attempts) or "-"), _milliseconds(outcome), "-"]
    ack = outcome.ack
    details = [ack.status]
    if ack.cancelled is not None:
        details.append(f"{len(ack.cancelled)} cancelled")
    if any(each.path == "stream" for each in ack.attempts if each.fate == "answered"):
        details.append("on the stream")
    if ack.timestamp_ms is not None:
        details.append(f"at {moment(ack.timestamp_ms)}")
    if ack.request_id:
        details.append(f"id {ack.request_id}")
    return [str(len(ack.attempts)), _milliseconds(outcome), ", ".join(details)]


def _proof_cells(outcome: Outcome) -> list[Cell]:
    proof = outcome.confirmation
    if proof is None:
        return ["-", "-", "-", _milliseconds(outcome)]
    numbers = [_number(proof.cancelled), _number(proof.filled)]
    return [str(proof.sweeps), *numbers, _milliseconds(outcome)]


def _number(order_ids: tuple[str, ...] | None) -> str:
    """Say how many orders; what can't be observed is not called none."""
    return "not observable" if order_ids is None else str(len(order_ids))


def _evidence(outcomes: Iterable[Outcome]) -> list[Text]:
    """Tell how the flat scopes were proven flat, and how their orders ended."""
    lines: dict[str, Text] = {}
    for outcome in outcomes:
        proof, where = outcome.confirmation, str(outcome.target.scope)
        if proof is None:
            continue
        words = f"two empty listings, {proof.settle:g} s apart"
        words += ", and order updates throughout" if proof.streamed else ""
        lines.setdefault(words, Text.assemble(("flat: ", "green"), words))
        for fate, ids, style in (
            ("cancelled", proof.cancelled, ""),
            ("filled on the way out", proof.filled, "bold yellow"),
        ):
            if ids:
                text = clean(f"{where}, {fate}: {', '.join(ids)}")
                lines[text] = Text(text, style)
    return [*lines.values()]


def _residuals(outcomes: Iterable[Outcome]) -> list[Sheet | Text]:
    """The orders that are still open, by scope."""
    found: list[Sheet | Text] = []
    for outcome in outcomes:
        if isinstance(outcome.error, NotFlat):
            residual = outcome.error.residual
            title = f"Still open: {count(len(residual), 'order')} of {outcome.target.scope}"
            found.append(msgspec.structs.replace(order_sheet(residual), title=title))
    return found
