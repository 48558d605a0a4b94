"""``demo``: the main job against the simulated exchange, from a full book to an empty one."""

import asyncio
import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from masscancel import Client, Credentials, FanOutReport, Outcome, SessionPool, Target, cancel_many
from masscancel.cli.market import COINS, SPELLINGS, open_accounts, place_orders, venue_of
from masscancel.cli.options import AsJson, Seed
from masscancel.cli.render import Cell, Column, Screen, Sheet, clean, print_json
from masscancel.cli.status import Known, Status
from masscancel.sim import Account, SimulatedExchange

__all__ = ["Plan", "demo", "play"]

Counts = dict[tuple[str, str], int]

_PATIENCE: Final = 60.0  # seconds: hundreds of accounts are slow where one core does everything


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How large the demo is, and what fixes its orders."""

    accounts: int = 5
    symbols: int = 4
    seed: int = 0

    @property
    def coins(self) -> list[str]:
        """The coins that are traded."""
        return list(COINS)[: self.symbols]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo found: open orders per account and category, before and after, and the Acks."""

    before: Counts
    report: FanOutReport
    after: Counts

    @property
    def status(self) -> Status:
        """Done only if nothing is left, and no cancel failed."""
        flat = not any(self.after.values())
        return Status.DONE if flat and self.report.all_ok else Status.FAILED

    @property
    def latencies(self) -> list[float]:
        """From the call to each Ack, in ms."""
        return [outcome.elapsed * 1000 for outcome in self.report.succeeded]


def demo(
    ctx: typer.Context,
    accounts: Annotated[
        int, typer.Option(metavar="N", min=1, max=500, help="How many accounts.")
    ] = 5,
    symbols: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=len(COINS), help="How many symbols in each category."),
    ] = 4,
    seed: Seed = 0,
    as_json: AsJson = False,
    svg: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Also paint what is shown, as an SVG."),
    ] = None,
) -> int:
    """Cancel everything on an exchange that is simulated on this machine.

    Starts the exchange, fills several accounts with orders in cash, margin and futures, cancels
    them all at once, shows each Ack, and asks the exchange what is left. Needs no network and no
    keys. Ends with 0 only if nothing is left.

    Try:

      masscancel demo
      masscancel demo --accounts 100 --symbols 6
      masscancel demo --json | jq .orders_left
    """
    known: Known = ctx.obj
    known.done("the simulated exchange is gone, with all its orders")
    screen = Screen(svg, quiet=as_json)
    result = asyncio.run(play(Plan(accounts=accounts, symbols=symbols, seed=seed), screen))
    if as_json:
        print_json(_fields(result))
    screen.save_picture("masscancel demo")
    return result.status


async def play(
    plan: Plan, screen: Screen, *, tamper: Callable[[SimulatedExchange], object] | None = None
) -> Result:
    """Play the demo, and show it.

    Args:
        plan: how large.
        screen: where it is shown.
        tamper: is called with the exchange once its book is full.
    """
    async with SimulatedExchange(seed=plan.seed) as exchange, AsyncExitStack() as stack:
        accounts = _fill(exchange, plan)
        if tamper is not None:
            tamper(exchange)
        pool = await stack.enter_async_context(SessionPool())
        clients = [
            await stack.enter_async_context(_client(exchange, account, pool))
            for account in accounts
        ]
        targets = [
            target
            for client in clients
            for category, spelling in SPELLINGS.items()
            for target in Target.product([client], [category], map(spelling.format, plan.coins))
        ]
        before = await _count(clients)
        screen.show(_welcome(exchange, plan), _book("Open orders", before), "")
        with screen.progress("Cancelling", len(targets)) as advance:
            report = await cancel_many(targets, timeout=_PATIENCE, on_outcome=lambda _: advance())
        screen.show(*_answers(report, plan))
        result = Result(before=before, report=report, after=await _count(clients))
        screen.show(*_verdict(result))
        return result


def _fill(exchange: SimulatedExchange, plan: Plan) -> list[Account]:
    """Open the accounts, each with some three orders of every symbol in every category."""
    rng = random.Random(plan.seed)  # noqa: S311  # a demo's orders are no secret
    accounts = open_accounts(exchange, plan.accounts)
    for account in accounts:
        count = 3 * len(SPELLINGS) * plan.symbols + rng.randint(-plan.symbols, plan.symbols)
        place_orders(exchange, account, plan.coins, count, rng)
    return accounts


def _client(exchange: SimulatedExchange, account: Account, pool: SessionPool) -> Client:
    credentials = Credentials(account.api_key, account.api_secret, label=account.label)
    return Client(credentials, venue=venue_of(exchange, account), pool=pool)


async def _count(clients: Sequence[Client]) -> Counts:
    """Ask the exchange how many orders are open, per account and category."""
    scopes = [(client, category) for client in clients for category in SPELLINGS]
    listings = await asyncio.gather(
        *(client.open_orders(category, timeout=_PATIENCE) for client, category in scopes)
    )
    return {
        (client.label, category): len(listing)
        for (client, category), listing in zip(scopes, listings, strict=True)
    }


def _welcome(exchange: SimulatedExchange, plan: Plan) -> Text:
    return Text.assemble(
        "A simulated exchange listens on ",
        (exchange.rest_url, "cyan"),
        ".\nIt checks every signature. ",
        f"Accounts: {plan.accounts}, trading {', '.join(plan.coins)}.",
    )


def _book(title: str, counts: Counts) -> Sheet:
    """Open orders: a row per account, a column per category."""
    labels = list(dict.fromkeys(label for label, _ in counts))
    sums = Counter[str]()
    rows: list[tuple[Cell, ...]] = []
    for label in labels:
        row = {category: counts[label, category] for category in SPELLINGS}
        sums.update(row)
        rows.append((label, *map(_number, row.values()), _number(sum(row.values()))))
    total: tuple[Cell, ...] = (
        "total",
        *(_number(sums[category]) for category in SPELLINGS),
        _number(sums.total()),
    )
    headers = [*SPELLINGS, "total"]
    columns = [Column("account"), *(Column(header, "right") for header in headers)]
    return Sheet(title=title, columns=columns, rows=rows, total=total)


def _number(count: int) -> Text:
    return Text(str(count), "" if count else "dim")


def _answers(report: FanOutReport, plan: Plan) -> list[Sheet | Text | str]:
    """Each Ack with its latency: a row per account and category, a column per symbol."""
    cells = [_ack_cell(outcome) for outcome in report.outcomes]
    rows: list[list[Cell]] = []
    for start in range(0, len(cells), plan.symbols):
        target = report.outcomes[start].target
        first = target.account_category == next(iter(SPELLINGS))
        label = target.client.label if first else ""
        rows.append([label, target.account_category, *cells[start : start + plan.symbols]])
    columns = [Column("account"), Column("category")]
    columns += [Column(coin, "right") for coin in plan.coins]
    sheet = Sheet(title="Answers, and ms from the call to each", columns=columns, rows=rows)
    lines = [Text(clean(f"{outcome.target}: {outcome.error}"), "red") for outcome in report.failed]
    return [sheet, *lines]


def _ack_cell(outcome: Outcome) -> Text:
    if outcome.ack is None:
        return Text(type(outcome.error).__name__, "bold red")
    return Text.assemble((clean(outcome.ack.status), "green"), f" {outcome.elapsed * 1000:.1f}")


def _verdict(result: Result) -> list[Sheet | Text | str]:
    """The summary, and what the exchange says is left."""
    report = result.report
    count, left = sum(result.before.values()), sum(result.after.values())
    summary = f"{len(report.succeeded)} of {len(report.outcomes)} cancels acknowledged in "
    summary += f"{report.elapsed * 1000:.0f} ms"
    if latencies := result.latencies:
        summary += f" (p50 {statistics.median(latencies):.1f} ms, max {max(latencies):.1f} ms)"
    if left:
        last = Text(f"Still open: {left} of {count} orders.", "bold red")
    else:
        last = Text(f"Nothing is left of {count} orders.", "bold green")
    return [
        "",
        Text(summary + ".", "bold"),
        'An Ack says "received", not "cancelled". The exchange now lists:',
        _book("Open orders now", result.after),
        "",
        last,
    ]


def _fields(result: Result) -> dict[str, Any]:
    report, latencies = result.report, result.latencies
    return {
        "orders_before": sum(result.before.values()),
        "targets": len(report.outcomes),
        "acknowledged": len(report.succeeded),
        "failed": len(report.failed),
        "elapsed_ms": round(report.elapsed * 1000, 1),
        "p50_ms": round(statistics.median(latencies), 1) if latencies else None,
        "max_ms": round(max(latencies), 1) if latencies else None,
        "orders_left": sum(result.after.values()),
        "outcomes": [
            {
                "account": outcome.target.client.label,
                "account_category": outcome.target.account_category,
                "symbol": outcome.target.symbol,
                "status": outcome.ack.status if outcome.ack else None,
                "error": str(outcome.error) if outcome.error else None,
                "elapsed_ms": round(outcome.elapsed * 1000, 1),
            }
            for outcome in report.outcomes
        ],
    }
