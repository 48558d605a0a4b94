"""``demo``: the main job against the simulated exchange, from a full book to a proof of none.

The first act cancels everything through the fan-out, and shows the Acks. The second confirms it:
two orders of the first account were on their way to the exchange all the time, and come to light
only after its first sweep there; one of them is filled before the next can cancel it.
"""

import asyncio
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from masscancel import (
    AscendEX,
    Client,
    Confirmation,
    Credentials,
    FanOutReport,
    Outcome,
    SessionPool,
    Target,
    cancel_many,
)
from masscancel.cli.market import COINS, SPELLINGS, open_accounts, place_orders, venue_of
from masscancel.cli.options import AsJson, Seed
from masscancel.cli.render import Cell, Column, Screen, Sheet, clean, count, print_json
from masscancel.cli.status import Known, Status
from masscancel.sim import HELD, Account, OnCancel, Order, Script, SimulatedExchange, What

__all__ = ["Plan", "demo", "play"]

Counts = dict[tuple[str, str], int]

#: Where the late orders are.
_LATE_CATEGORY: Final = "cash"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The size of the demo, and the seed of its orders."""

    accounts: int = 5
    symbols: int = 4
    seed: int = 0
    timeout: float = 60.0  # seconds: hundreds of accounts are slow where one core does everything

    @property
    def coins(self) -> list[str]:
        """The coins that are traded."""
        return list(COINS)[: self.symbols]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of the demo.

    Attributes:
        before: open orders per account and category, before the cancels.
        report: the Acks.
        listed: open orders after them.
        proof: the Confirmations.
        late: the orders that came to light late, as the exchange knows them in the end.
        after: open orders per account and category, at last.
    """

    before: Counts
    report: FanOutReport
    listed: int
    proof: FanOutReport
    late: tuple[Order, ...]
    after: Counts

    @property
    def status(self) -> Status:
        """Done only if nothing is left, and no cancel failed."""
        fine = self.report.all_ok and self.proof.all_ok
        return Status.DONE if fine and not any(self.after.values()) else Status.FAILED

    @property
    def orders(self) -> int:
        """The number of orders, the late ones included."""
        return sum(self.before.values()) + len(self.late)


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
    them all at once and shows each Ack. Then it confirms: two orders were still on their way, and
    come to light late; one fills on the way out. Needs no network and no keys. Ends with 0 only if
    the exchange has nothing left.

    Try:

      masscancel demo
      masscancel demo --accounts 100 --symbols 6
      masscancel demo --json | jq .orders_left
    """
    known: Known = ctx.obj
    known.done("the simulated exchange is gone, with all its orders")
    screen = Screen(svg, quiet=as_json)
    result = asyncio.run(play(Plan(accounts=accounts, symbols=symbols, seed=seed), screen))
    screen.save_picture("masscancel demo")
    if as_json:
        print_json(_fields(result))
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
        late = _send_late(exchange, accounts[0], plan)
        if tamper is not None:
            tamper(exchange)
        pool = await stack.enter_async_context(SessionPool())
        clients = [
            await stack.enter_async_context(_client(exchange, account, pool, watch))
            for account, watch in zip(accounts, _watches(), strict=False)
        ]
        before = await _count(clients, plan)
        screen.show(_welcome(exchange, plan), _book("Open orders", before), "")
        targets = [
            target
            for client in clients
            for category, spelling in SPELLINGS.items()
            for target in Target.product([client], [category], map(spelling.format, plan.coins))
        ]
        with screen.progress("Cancelling", len(targets)) as advance:
            report = await cancel_many(
                targets, timeout=plan.timeout, on_outcome=lambda _: advance()
            )
        listed = sum((await _count(clients, plan)).values())
        screen.show(*_answers(report, plan), "", *_summary(report, listed), "")
        targets = Target.product(clients, SPELLINGS)
        surfacing = asyncio.create_task(_surface(exchange, accounts[0], late))
        with screen.progress("Confirming", len(targets)) as advance:
            proof = await cancel_many(
                targets, timeout=plan.timeout, confirm=True, on_outcome=lambda _: advance()
            )
        surfacing.cancel()
        result = Result(
            before=before,
            report=report,
            listed=listed,
            proof=proof,
            late=tuple(order for order in map(exchange.engine.order, late) if order is not None),
            after=await _count(clients, plan),
        )
        screen.show(*_proof(result), *_verdict(result))
        return result


def _fill(exchange: SimulatedExchange, plan: Plan) -> list[Account]:
    """Open the accounts, each with some three orders of every symbol in every category."""
    rng = random.Random(plan.seed)  # noqa: S311  # a demo's orders are no secret
    accounts = open_accounts(exchange, plan.accounts)
    for account in accounts:
        count = 3 * len(SPELLINGS) * plan.symbols + rng.randint(-plan.symbols, plan.symbols)
        place_orders(exchange, account, plan.coins, count, rng)
    return accounts


def _send_late(exchange: SimulatedExchange, account: Account, plan: Plan) -> list[str]:
    """Put two orders on their way that the exchange does not know yet; their ids.

    The second one fills when it is to be cancelled.
    """
    symbol = SPELLINGS[_LATE_CATEGORY].format(plan.coins[0])
    price = COINS[plan.coins[0]]
    late = [
        exchange.place(
            account,
            _LATE_CATEGORY,
            symbol,
            side=side,
            price=f"{price * away:.5g}",
            quantity=f"{quantity / price:.3g}",
            script=Script(ack_delay_ms=HELD, on_cancel=on_cancel),
        )
        for side, away, quantity, on_cancel in (
            ("sell", Decimal("1.004"), 9000, OnCancel.CANCEL),
            ("buy", Decimal("0.999"), 4000, OnCancel.FILL),
        )
    ]
    return [order.order_id for order in late]


async def _surface(exchange: SimulatedExchange, account: Account, late: Sequence[str]) -> None:
    """Let the late orders arrive when the exchange has answered the next cancel there."""
    engine, account_id = exchange.engine, account.ids[_LATE_CATEGORY]
    records = exchange.log
    seen = len(records)

    def is_swept() -> bool:
        nonlocal seen
        new = records[seen:]
        seen += len(new)
        return any(
            each.what is What.CANCEL_ALL_EFFECTIVE and each.account_id == account_id for each in new
        )

    await exchange.until(is_swept, timeout=None)
    for order_id in late:
        engine.acknowledge(order_id, now_ms=exchange.now_ms)
    exchange.advance()


def _watches() -> Iterator[Sequence[str]]:
    """Choose what each client watches: the first account's stream tells of its late orders."""
    return chain([(_LATE_CATEGORY,)], repeat(()))


def _client(
    exchange: SimulatedExchange, account: Account, pool: SessionPool, watch: Sequence[str]
) -> Client[AscendEX]:
    credentials = Credentials(account.api_key, account.api_secret, label=account.label)
    return Client(credentials, venue=venue_of(exchange, account), pool=pool, watch=watch)


async def _count(clients: Sequence[Client[AscendEX]], plan: Plan) -> Counts:
    """Ask the exchange how many orders are open, per account and category."""
    scopes = [(client, category) for client in clients for category in SPELLINGS]
    listings = await asyncio.gather(
        *(client.open_orders(category, timeout=plan.timeout) for client, category in scopes)
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
        label = target.client.account if first else ""
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


def _summary(report: FanOutReport, listed: int) -> list[Text]:
    """The Acks in numbers, and what they do not say."""
    words = f"{len(report.succeeded)} of {len(report.outcomes)} cancels acknowledged in "
    words += f"{report.elapsed * 1000:.0f} ms"
    if latencies := _latencies(report):
        words += f" (p50 {statistics.median(latencies):.1f} ms, max {max(latencies):.1f} ms)"
    return [
        Text(words + ".", "bold"),
        Text(
            f'An Ack says "received", not "cancelled". The exchange lists {count(listed, "order")} '
            "now,\nbut orders may be on their way that it does not know yet: cancel and confirm."
        ),
    ]


def _proof(result: Result) -> list[Sheet | Text | str]:
    """The Confirmations in numbers, and what became of the orders that came late."""
    proof = result.proof
    sweeps = sum(outcome.confirmation.sweeps for outcome in proof.succeeded if outcome.confirmation)
    words = f"{len(proof.succeeded)} of {len(proof.outcomes)} scopes confirmed flat in "
    words += f"{proof.elapsed * 1000:.0f} ms, with {count(sweeps, 'sweep')}."
    columns = [Column("symbol"), Column("side"), Column("price", "right")]
    columns += [Column("quantity", "right"), Column("what became of it")]
    rows = [
        (
            order.symbol,
            Text(order.side, "green" if order.side == "buy" else "red"),
            f"{order.price:f}",
            f"{order.quantity:f}",
            _fate(order, proof),
        )
        for order in result.late
    ]
    label = proof.outcomes[0].target.client.account
    title = f"Late orders of {label} in {_LATE_CATEGORY}: they came to light after the first sweep"
    lines = [Text(clean(f"{outcome.target}: {outcome.error}"), "red") for outcome in proof.failed]
    return [Sheet(title=title, columns=columns, rows=rows), "", Text(words, "bold"), *lines]


def _fate(order: Order, proof: FanOutReport) -> Text:
    """Say what became of a late order, by the Confirmation of its scope, not by the exchange."""
    found = proof.outcomes[list(SPELLINGS).index(_LATE_CATEGORY)].confirmation
    if found is not None and order.order_id in (found.cancelled or ()):
        return Text(f"swept up: cancelled by sweep {found.sweeps}", "green")
    if found is not None and order.order_id in (found.filled or ()):
        return Text("filled on the way out: a position now", "yellow")
    return Text("not known", "bold red")


def _verdict(result: Result) -> list[Sheet | Text | str]:
    """Show the orders that the exchange itself still has."""
    left = sum(result.after.values())
    if left:
        last = Text(f"Still open: {left} of {result.orders} orders.", "bold red")
    else:
        last = Text(f"Nothing is left of {result.orders} orders.", "bold green")
    return [_book("Open orders now, says the exchange", result.after), "", last]


def _latencies(report: FanOutReport) -> list[float]:
    """From the call to each answer, in ms."""
    return [outcome.elapsed * 1000 for outcome in report.succeeded]


def _fields(result: Result) -> dict[str, Any]:
    report, proof, latencies = result.report, result.proof, _latencies(result.report)
    return {
        "ok": result.status is Status.DONE,
        "status": result.status,
        "orders_before": result.orders,
        "targets": len(report.outcomes),
        "acknowledged": len(report.succeeded),
        "failed": len(report.failed),
        "elapsed_ms": round(report.elapsed * 1000, 1),
        "p50_ms": round(statistics.median(latencies), 1) if latencies else None,
        "max_ms": round(max(latencies), 1) if latencies else None,
        "scopes": len(proof.outcomes),
        "confirmed": len(proof.succeeded),
        "confirmed_ms": round(proof.elapsed * 1000, 1),
        "orders_left": sum(result.after.values()),
        "outcomes": [
            {**_outcome_fields(outcome), "status": outcome.ack.status if outcome.ack else None}
            for outcome in report.outcomes
        ],
        "confirmations": [
            {**_outcome_fields(outcome), **_proof_fields(outcome.confirmation)}
            for outcome in proof.outcomes
        ],
    }


def _outcome_fields(outcome: Outcome) -> dict[str, Any]:
    return {
        "account": outcome.target.client.account,
        "account_category": outcome.target.account_category,
        "symbol": outcome.target.symbol,
        "error": str(outcome.error) if outcome.error else None,
        "elapsed_ms": round(outcome.elapsed * 1000, 1),
    }


def _proof_fields(found: Confirmation | None) -> dict[str, Any]:
    names = ("sweeps", "cancelled", "filled", "streamed")
    return {name: getattr(found, name, None) for name in names}
