"""``accounts``: what the accounts file says, strictly read; what its categories might be."""

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from masscancel import Accounts, MassCancelError, SessionPool, VenueError
from masscancel.accounts import Account
from masscancel.accounts.opening import Entry
from masscancel.calls import Scope
from masscancel.cli.failures import error_fields
from masscancel.cli.options import AsJson, Timeout
from masscancel.cli.render import Column, Screen, Sheet, complain, print_json
from masscancel.cli.selection import AccountsFile, OnlyVenue, Selectors, Tags, chosen
from masscancel.cli.status import Known, Status, status_of, worst_of

__all__ = ["accounts"]


class Found(msgspec.Struct, frozen=True):
    """What a venue answers when a category is listed."""

    account: Account
    category: str
    orders: int = 0
    error: MassCancelError | None = None


def accounts(
    ctx: typer.Context,
    selectors: Selectors = None,
    tags: Tags = None,
    venue: OnlyVenue = None,
    accounts_file: AccountsFile = None,
    discover: Annotated[
        bool,
        typer.Option(
            "--discover",
            help="Ask each venue which categories the key can list; propose a line for the file.",
        ),
    ] = False,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> int:
    """Show what the accounts file says, strictly read: in one line, what is wrong with it.

    No secret is shown, only where it is. The file looks like this; 'masscancel venues' has the
    venues, their categories, books and options:

      [[account]]
      name = "mm-1"
      venue = "binance"
      categories = ["spot", "usdm"]
      api_key = { env = "MM1_KEY" }         # or { file = "mm-1.key" },
      api_secret = { env = "MM1_SECRET" }   # or { keyring = "service/user" }
      tags = { desk = "mm" }                # for: masscancel kill --tag desk=mm
      keep = ["algo"]                       # books that no kill touches
      [account.options]                     # settings of the venue
      recv_window_ms = 3000
    """
    known: Known = ctx.obj
    known.done("nothing is cancelled here")
    found, _ = chosen(accounts_file, selectors, venue, tags, strict=True, discover=discover)
    if discover:
        return _discover(found, timeout, as_json=as_json)
    if as_json:
        print_json({"ok": True, "accounts_file": str(found.path), "accounts": _fields(found)})
    else:
        Screen().show(_sheet(found))
    for account in found:
        for name, source in account.secrets.items():
            if source.exposed:
                complain(f"{account.name}: others can read {name}: chmod 600 {source.where}")
    return Status.DONE


def _fields(found: Accounts) -> list[dict[str, Any]]:
    return [account.to_dict() for account in found]


def _sheet(found: Accounts) -> Sheet:
    columns = ["account", "venue", "categories", "keeps", "tags", "key", "secret"]
    rows = [
        [
            account.name,
            account.venue.name,
            ", ".join(account.categories),
            ", ".join(account.keep) or "-",
            ", ".join(f"{name}={value}" for name, value in account.tags.items()) or "-",
            account.secrets["api_key"].where,
            account.secrets["api_secret"].where,
        ]
        for account in found
    ]
    return Sheet(columns=[*map(Column, columns)], rows=rows)


def _discover(found: Accounts, timeout: float, *, as_json: bool) -> Status:
    """Ask for the open orders of every category, and propose those that answer."""
    every = asyncio.run(_ask(found, timeout))
    status = worst_of(map(_status, every))
    by_account = [
        (account, [each for each in every if each.account is account]) for account in found
    ]
    if as_json:
        print_json(
            {
                "ok": status is Status.DONE,
                "status": status,
                "accounts_file": str(found.path),
                "accounts": [
                    {
                        "name": account.name,
                        "categories": [each.category for each in ones if each.error is None],
                        "refused": {
                            each.category: error_fields(each.error) for each in ones if each.error
                        },
                        "open": {each.category: each.orders for each in ones if not each.error},
                    }
                    for account, ones in by_account
                ],
            }
        )
        return status
    screen = Screen()
    for account, ones in by_account:
        categories = [each.category for each in ones if each.error is None]
        screen.show(f"{account.name}: categories = {json.dumps(categories)}")
        for each in ones:
            if each.error is not None:
                complain(f"{account.name}: not {each.category}: {each.error.message or each.error}")
    return status


def _status(found: Found) -> Status:
    """The exit status by one category: that the venue refuses it is an answer, too."""
    if found.error is None or (
        isinstance(found.error, VenueError) and not found.error.worth_retrying
    ):
        return Status.DONE
    return status_of(found.error)


async def _ask(found: Accounts, timeout: float) -> Sequence[Found]:
    async with SessionPool() as pool:
        entries = [(account, Entry(account, pool, timeout)) for account in found]
        try:
            return await asyncio.gather(
                *(
                    _ask_one(account, entry, category, timeout)
                    for account, entry in entries
                    for category in account.covering
                )
            )
        finally:
            await asyncio.gather(*(entry.leave() for _, entry in entries))


async def _ask_one(account: Account, entry: Entry, category: str, timeout: float) -> Found:
    try:
        orders = await entry.open_orders(Scope(category), timeout=timeout)
    except MassCancelError as error:
        return Found(account, category, error=error)
    return Found(account, category, len(orders))
