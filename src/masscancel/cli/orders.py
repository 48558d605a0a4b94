"""``cancel`` and ``orders``: one account, one scope."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from masscancel import Ack, ConfigurationError, OpenOrder
from masscancel.cli.options import (
    Account,
    AsJson,
    Category,
    EnvPrefix,
    Settings,
    Symbol,
    Timeout,
    VenueName,
)
from masscancel.cli.render import Column, Screen, Sheet, clean, complain, print_json
from masscancel.cli.status import Known, Status

__all__ = ["cancel", "orders"]

MEANING = (
    "An Ack says that the venue has received the request, not that the orders are gone: "
    "'masscancel orders' lists what is still open."
)


def cancel(
    ctx: typer.Context,
    venue: VenueName = "ascendex",
    category: Category = None,
    symbol: Symbol = None,
    timeout: Timeout = 5.0,
    settings: Settings = None,
    env_prefix: EnvPrefix = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before cancelling.")] = False,
    as_json: AsJson = False,
) -> int:
    """Cancel every open order of an account category, or of one symbol.

    The key and the secret come from the environment. Without --symbol it asks first, unless told
    --yes; where there is no terminal to ask on, it refuses.

    Try:

      export MASSCANCEL_API_KEY=... MASSCANCEL_API_SECRET=...
      masscancel cancel -o rest_url=https://HOST -o stream_url=wss://HOST
      masscancel cancel --category margin --symbol BTC/USDT -o ...
      masscancel cancel --yes --json -o ... | jq .timestamp_ms
    """
    known: Known = ctx.obj
    account = Account.of(venue, settings, env_prefix, category)
    if symbol is None and not yes and not _confirmed(account):
        complain("not confirmed; nothing was sent")
        return Status.FAILED
    ack, elapsed_ms = asyncio.run(_cancel(account, symbol, timeout, known))
    if as_json:
        print_json(_ack_fields(account, ack, elapsed_ms))
    else:
        Screen().show(_ack_line(account, ack, elapsed_ms), Text(MEANING, "dim"))
    return Status.DONE


def orders(
    ctx: typer.Context,
    venue: VenueName = "ascendex",
    category: Category = None,
    symbol: Symbol = None,
    timeout: Timeout = 5.0,
    settings: Settings = None,
    env_prefix: EnvPrefix = None,
    as_json: AsJson = False,
) -> int:
    """List the open orders of an account category, or of one symbol.

    The key and the secret come from the environment, as for 'masscancel cancel'.

    Try:

      masscancel orders -o rest_url=https://HOST -o stream_url=wss://HOST
      masscancel orders --category futures --symbol BTC-PERP --json -o ...
    """
    known: Known = ctx.obj
    account = Account.of(venue, settings, env_prefix, category)
    known.done("a listing changes nothing")
    listed = asyncio.run(_list(account, symbol, timeout))
    if as_json:
        scope = {"venue": account.venue.name, "account_category": account.category}
        print_json({**scope, "symbol": symbol or "", "orders": listed})
        return Status.DONE
    screen = Screen()
    if listed or not screen.lively:
        screen.show(_order_sheet(listed))
    if screen.lively:
        count = f"{len(listed) or 'No'} open {account.category} order{'s' * (len(listed) != 1)}"
        screen.show(Text(f"{count} on {account.venue.name}.", "bold"))
    return Status.DONE


async def _cancel(
    account: Account, symbol: str | None, timeout: float, known: Known
) -> tuple[Ack, float]:
    """The Ack, and how many milliseconds it took."""
    deadline = time.monotonic() + timeout
    async with account.client(timeout) as client:
        known.sending()
        started = time.monotonic()
        left = max(deadline - started, 0.001)
        ack = await client.cancel_all(account.category, symbol, timeout=left)
        elapsed_ms = round((time.monotonic() - started) * 1000, 1)
        known.done("the venue has acknowledged the cancel")
        return ack, elapsed_ms


async def _list(account: Account, symbol: str | None, timeout: float) -> list[OpenOrder]:
    deadline = time.monotonic() + timeout
    async with account.client(timeout) as client:
        left = max(deadline - time.monotonic(), 0.001)
        return await client.open_orders(account.category, symbol, timeout=left)


def _confirmed(account: Account) -> bool:
    """Ask the person at the terminal.

    Raises:
        ConfigurationError: there is no terminal.
    """
    scope = f"every open {account.category} order on {account.venue.name}"
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"this would cancel {scope}, and there is no terminal to ask on: "
            "say --yes, or name one --symbol"
        )
    origin = account.venue.origin(account.category)
    sys.stderr.write(f"Cancel {scope} ({origin})? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _ack_line(account: Account, ack: Ack, elapsed_ms: float) -> Text:
    count = len(ack.attempts)
    details = [f"in {elapsed_ms:.1f} ms", f"{count} attempt{'s' * (count != 1)}"]
    if ack.timestamp_ms is not None:
        details.append(f"at {_moment(ack.timestamp_ms)}")
    if ack.request_id:
        details.append(f"id {ack.request_id}")
    scope = f"{ack.action} of {ack.account_category} {ack.symbol or '(all symbols)'}"
    words = clean(f"{scope} on {account.venue.name}, {', '.join(details)}")
    return Text.assemble(("received: ", "bold green"), words)


def _moment(timestamp_ms: int) -> str:
    """Milliseconds since the epoch as a time of day, if they are one that a calendar has."""
    try:
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ms} ms"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{timestamp_ms % 1000:03} UTC"


def _ack_fields(account: Account, ack: Ack, elapsed_ms: float) -> dict[str, Any]:
    """The Ack as JSON: its own fields, the venue, the time it took, the reply as text."""
    fields = {"venue": account.venue.name, **msgspec.structs.asdict(ack)}
    return {**fields, "raw": ack.raw.decode("utf-8", "replace"), "elapsed_ms": elapsed_ms}


def _order_sheet(listed: list[OpenOrder]) -> Sheet:
    columns = (
        Column("symbol"),
        Column("side"),
        Column("price", "right"),
        Column("quantity", "right"),
        Column("filled", "right"),
        Column("type"),
        Column("status"),
        Column("order id", style="dim"),
    )
    rows = [
        (
            order.symbol,
            Text(order.side, "green" if order.side == "buy" else "red"),
            f"{order.price:f}",
            f"{order.quantity:f}",
            f"{order.filled_quantity:f}",
            order.order_type,
            order.status,
            order.order_id,
        )
        for order in sorted(listed, key=lambda order: (order.symbol, -order.price))
    ]
    return Sheet(columns=columns, rows=rows)
