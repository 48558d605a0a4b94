"""``orders``: what is open in every category with every symbol of one account."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import typer
from rich.text import Text

from masscancel import Client, MassCancelError, OpenOrder
from masscancel.calls import Scope
from masscancel.cli.failures import error_fields, gravest
from masscancel.cli.options import (
    Account,
    AllCategories,
    AsJson,
    Books,
    Categories,
    EnvPrefix,
    Settings,
    Symbols,
    Timeout,
    VenueName,
)
from masscancel.cli.progress import Progress
from masscancel.cli.render import Cell, Column, Screen, Sheet, complain, count, named, print_json
from masscancel.cli.scopes import Scopes
from masscancel.cli.status import Known, Status, status_of, worst_of

__all__ = ["order_sheet", "orders"]


class Listing(msgspec.Struct, frozen=True):
    """The open orders of a scope, or why they could not be listed."""

    scope: Scope
    orders: Sequence[OpenOrder]
    error: MassCancelError | None = None

    @property
    def status(self) -> Status:
        """The exit status of the command, by these listings."""
        return Status.DONE if self.error is None else status_of(self.error)


def orders(
    ctx: typer.Context,
    venue: VenueName = None,
    categories: Categories = None,
    all_categories: AllCategories = False,
    symbols: Symbols = None,
    books: Books = None,
    timeout: Timeout = 5.0,
    settings: Settings = None,
    env_prefix: EnvPrefix = None,
    as_json: AsJson = False,
) -> int:
    """List the open orders of one account: of the categories, symbols and books that are named.

    The key and the secret come from the environment, as for 'masscancel cancel'.

    Try:

      masscancel orders --venue binance --category spot --category usdm
      masscancel orders --venue kraken --category futures --symbol PF_XBTUSD --json
    """
    known: Known = ctx.obj
    account = Account.of(venue, settings, env_prefix, *categories or (), every=all_categories)
    scopes = Scopes.of(account, symbols, books)
    known.done("a listing changes nothing")
    listings = asyncio.run(_list(scopes, timeout))
    status = worst_of(each.status for each in listings)
    if as_json:
        print_json(_fields(scopes, listings, status))
    else:
        _show(scopes, listings)
    known.is_over = True
    for line in dict.fromkeys(str(each.error) for each in listings if each.error is not None):
        complain(line)
    return status


async def _list(scopes: Scopes, timeout: float) -> list[Listing]:
    """List every scope, at once; one that fails disturbs no other."""
    deadline = time.monotonic() + timeout
    client = scopes.account.client(timeout)
    progress = Progress("listing", deadline)
    client.pool.subscribe(progress.note)
    try:
        with progress.shown():
            async with client:
                return await asyncio.gather(
                    *(_list_one(client, scope, deadline) for scope in scopes.each)
                )
    except MassCancelError as error:  # before anything could be asked
        return [Listing(scope, (), error) for scope in scopes.each]


async def _list_one(client: Client[Any], scope: Scope, deadline: float) -> Listing:
    left = max(deadline - time.monotonic(), 0.001)
    try:
        found = await client.open_orders(
            scope.account_category, scope.symbol, books=scope.books, timeout=left
        )
    except MassCancelError as error:
        return Listing(scope, (), error)
    return Listing(scope, found)


def _show(scopes: Scopes, listings: Sequence[Listing]) -> None:
    """A line for each order; in words for who watches."""
    account, screen = scopes.account, Screen()
    if all(each.error is not None for each in listings):
        return  # an empty table would say that there are none
    found = [
        (each.scope.account_category, order) for each in listings for order in _sorted(each.orders)
    ]
    if found or not screen.lively:
        several = len(account.categories) > 1
        with_book = any(len(scopes.books_of(name)) > 1 for name in account.categories)
        screen.show(_sheet(found, with_category=several, with_book=with_book))
    listed = dict.fromkeys(each.scope.account_category for each in listings if each.error is None)
    if screen.lively and listed:
        words = count(len(found), f"open {named(listed)} order").capitalize()
        left_out = scopes.left_out("listed")
        screen.show(Text(f"{words} on {account.venue.name}.", "bold"), Text(left_out, "dim"))


def _fields(scopes: Scopes, listings: Sequence[Listing], status: Status) -> dict[str, Any]:
    is_known = any(each.error is None for each in listings)
    return {
        "ok": status is Status.DONE,
        "status": status,
        "venue": scopes.account.venue.name,
        "account": scopes.account.credentials.account,
        "orders": [
            {"account_category": each.scope.account_category, **order.to_dict()}
            for each in listings
            for order in each.orders
        ]
        if is_known
        else None,
        "outcomes": [
            {
                **msgspec.structs.asdict(each.scope),
                "ok": each.error is None,
                "status": each.status,
                "orders": len(each.orders) if each.error is None else None,
                "error": error_fields(each.error),
            }
            for each in listings
        ],
        "not_listed": scopes.left_out_fields(),
        "error": gravest((each.error for each in listings), status),
    }


def order_sheet(listed: Iterable[OpenOrder]) -> Sheet:
    """A row for each open order of one scope, with its book."""
    return _sheet([("", order) for order in _sorted(listed)], with_category=False, with_book=True)


def _sorted(listed: Iterable[OpenOrder]) -> list[OpenOrder]:
    return sorted(listed, key=lambda order: (order.symbol, -order.price))


def _sheet(
    listed: Iterable[tuple[str, OpenOrder]], *, with_category: bool, with_book: bool
) -> Sheet:
    columns = [
        *([Column("category")] if with_category else []),
        Column("symbol"),
        Column("side"),
        Column("price", "right"),
        Column("quantity", "right"),
        Column("filled", "right"),
        Column("type"),
        Column("status"),
        *([Column("book")] if with_book else []),
        Column("order id", style="dim"),
    ]
    rows: list[list[Cell]] = [
        [
            *([category] if with_category else []),
            order.symbol,
            Text(order.side, "green" if order.side == "buy" else "red"),
            f"{order.price:f}",
            f"{order.quantity:f}",
            f"{order.filled_quantity:f}",
            order.order_type,
            order.status,
            *([order.book] if with_book else []),
            order.order_id,
        ]
        for category, order in listed
    ]
    return Sheet(columns=columns, rows=rows)
