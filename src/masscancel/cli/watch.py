"""``watch``: what happens to an account's orders, as it happens."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

import typer
from rich.text import Text

from masscancel import ConfigurationError
from masscancel.cli.options import (
    Account,
    AllCategories,
    AsJson,
    Categories,
    EnvPrefix,
    Settings,
    Timeout,
    VenueName,
)
from masscancel.cli.render import Screen, clean, moment, print_json, remark
from masscancel.cli.status import Known, Status
from masscancel.models import Gap, OrderUpdate

__all__ = ["watch"]

_STYLES: Final = {"open": "", "filled": "green", "cancelled": "yellow", "rejected": "red"}


def watch(
    ctx: typer.Context,
    venue: VenueName = None,
    categories: Categories = None,
    all_categories: AllCategories = False,
    timeout: Timeout = 5.0,
    settings: Settings = None,
    env_prefix: EnvPrefix = None,
    as_json: AsJson = False,
) -> int:
    """Follow the order updates of one account category or more, until Ctrl-C.

    Each update is a line; with --json, a JSON object on a line. A gap says that updates may be
    missing, because the stream dropped: it is opened again, and 'masscancel orders' tells how
    things are. --timeout is for what has to be asked before the stream can be opened. Ctrl-C ends
    it with status 0.

    Try:

      masscancel watch --venue ascendex --category cash -o rest_url=... -o stream_url=...
      masscancel watch --venue ascendex --all-categories --json -o ...
    """
    known: Known = ctx.obj
    account = Account.of(venue, settings, env_prefix, *categories or (), every=all_categories)
    for category in account.categories:
        if not account.venue.ability(category).stream:
            raise ConfigurationError(f"{account.venue.title} has no order updates in {category}")
    known.done("watching changes nothing")
    asyncio.run(_watch(account, timeout, _json_line if as_json else _plain_line))
    return Status.DONE


async def _watch(
    account: Account, timeout: float, show: Callable[[OrderUpdate | Gap], bool]
) -> None:
    """Show what comes until SIGINT or SIGTERM, or until nobody reads it any more.

    Raises:
        ConfigurationError: the venue has no stream for a category.
        AuthenticationError: the login was refused.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # noqa: S101  # for the type checker: a coroutine that runs has one
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        async with account.client(timeout) as client:
            updates = [client.order_updates(category) for category in account.categories]
            if sys.stdout.isatty():
                remark(f"following {', '.join(account.categories)}; press Ctrl-C to end it")
            followers = [asyncio.create_task(_follow(each, show)) for each in updates]
            try:
                ended, _ = await asyncio.wait(followers, return_when=asyncio.FIRST_COMPLETED)
                ended.pop().result()
            finally:
                for follower in followers:
                    follower.cancel()
                await asyncio.gather(*followers, return_exceptions=True)
    if sys.stderr.isatty():
        sys.stderr.write("\n")  # after the terminal's own ^C


async def _follow(
    updates: AsyncIterator[OrderUpdate | Gap], show: Callable[[OrderUpdate | Gap], bool]
) -> None:
    """Show updates as long as somebody reads them."""
    async for item in updates:
        if not show(item):
            return


def _plain_line(item: OrderUpdate | Gap) -> bool:
    """A line for people; whether somebody still reads."""
    category = f"{clean(item.account_category):<7}"
    if isinstance(item, Gap):
        words = f"{'-':<12} {category} gap       updates may be missing: {clean(item.reason)}"
        return Screen().show(Text(words, "bold red"))
    filled = f", {item.filled_quantity:f} filled" if item.filled_quantity else ""
    order = f"{item.quantity:f} {item.symbol} at {item.price:f}{filled}, id {item.order_id}"
    line = Text.assemble(
        (f"{_time_of_day(item.timestamp_ms):<12} ", "dim"),
        f"{category} ",
        (f"{item.state:<9} ", _STYLES[item.state]),
        (f"{item.side:<4} ", "green" if item.side == "buy" else "red"),
        clean(order),
    )
    return Screen().show(line)


def _time_of_day(timestamp_ms: int | None) -> str:
    if timestamp_ms is None:
        return "-"
    return moment(timestamp_ms).removesuffix(" UTC").rpartition(" ")[2]


def _json_line(item: OrderUpdate | Gap) -> bool:
    """A JSON object on a line; whether somebody still reads."""
    event = "gap" if isinstance(item, Gap) else "update"
    return print_json({"event": event, **item.to_dict()})
