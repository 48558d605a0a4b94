"""``cancel`` and ``orders``: one account, one scope."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import typer
from rich.text import Text

from masscancel import Ack, Client, ConfigurationError, Confirmation, NotFlat, OpenOrder
from masscancel.cli.options import (
    Account,
    AsJson,
    Category,
    EnvPrefix,
    Settings,
    Settle,
    Symbol,
    Timeout,
    VenueName,
)
from masscancel.cli.render import Column, Screen, Sheet, clean, complain, count, moment, print_json
from masscancel.cli.status import Known, Status

__all__ = ["cancel", "orders"]

MEANING = (
    "An Ack says that the venue has received the request, not that the orders are gone: "
    "'masscancel orders' lists what is still open."
)


T = TypeVar("T")


def cancel(
    ctx: typer.Context,
    venue: VenueName = "ascendex",
    category: Category = None,
    symbol: Symbol = None,
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
    settle: Settle = 0.25,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before cancelling.")] = False,
    as_json: AsJson = False,
) -> int:
    """Cancel every open order of an account category, or of one symbol.

    The key and the secret come from the environment. Without --symbol it asks first, unless told
    --yes; where there is no terminal to ask on, it refuses.

    With --confirm it goes on until two listings, --settle apart, are empty, and says what was
    cancelled and what filled on the way out, where that can be observed. If orders are still open
    when the time is up, it lists them and ends with 6; if no listing could be read, with 7.

    Try:

      export MASSCANCEL_API_KEY=... MASSCANCEL_API_SECRET=...
      masscancel cancel -o rest_url=https://HOST -o stream_url=wss://HOST
      masscancel cancel --category margin --symbol BTC/USDT -o ...
      masscancel cancel --yes --confirm --settle 1 --timeout 10 -o ...
      masscancel cancel --yes --json -o ... | jq .timestamp_ms
    """
    known: Known = ctx.obj
    account = Account.of(venue, settings, env_prefix, category)
    if confirm and via != "rest":
        raise ConfigurationError("--confirm cancels over REST: it can't be given with --via")
    if symbol is None and not yes and not _confirmed(account):
        complain("not confirmed; nothing was sent")
        return Status.FAILED
    if confirm:
        _cancel_and_confirm(account, symbol, timeout, settle, known, as_json=as_json)
    else:
        _cancel(account, symbol, timeout, via, known, as_json=as_json)
    return Status.DONE


def _cancel(
    account: Account,
    symbol: str | None,
    timeout: float,
    via: Literal["rest", "stream", "both"],
    known: Known,
    *,
    as_json: bool,
) -> None:
    """Cancel, and show the Ack."""

    async def act(client: Client, left: float) -> Ack:
        return await client.cancel_all(account.category, symbol, timeout=left, via=via)

    ack, elapsed_ms = asyncio.run(_act(account, timeout, act, known))
    known.done("the venue has acknowledged the cancel")
    if as_json:
        print_json(
            {"venue": account.venue.name, **_ack_fields(ack), "elapsed_ms": round(elapsed_ms, 1)}
        )
    else:
        Screen().show(_ack_line(account, ack, elapsed_ms), Text(MEANING, "dim"))


def _cancel_and_confirm(
    account: Account,
    symbol: str | None,
    timeout: float,
    settle: float,
    known: Known,
    *,
    as_json: bool,
) -> None:
    """Cancel until it is proven flat, and show the proof.

    Raises:
        NotFlat: what is still open has been shown.
    """

    async def act(client: Client, left: float) -> Confirmation:
        return await client.cancel_all_and_confirm(
            account.category, symbol, timeout=left, settle=settle
        )

    scope = {
        "venue": account.venue.name,
        "account_category": account.category,
        "symbol": symbol or "",
    }
    try:
        proof, elapsed_ms = asyncio.run(_act(account, timeout, act, known))
    except NotFlat as error:
        if as_json:
            print_json({**scope, "flat": False, "residual": error.residual})
        else:
            Screen().show(_order_sheet(error.residual))
        raise
    known.done("it was confirmed flat")
    if as_json:
        print_json({**scope, "flat": True, **_proof_fields(proof, elapsed_ms)})
    else:
        Screen().show(*_proof_lines(account, symbol, proof, elapsed_ms))


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
        words = count(len(listed), f"open {account.category} order")
        screen.show(Text(f"{words.capitalize()} on {account.venue.name}.", "bold"))
    return Status.DONE


async def _act(
    account: Account,
    timeout: float,
    act: Callable[[Client, float], Awaitable[T]],
    known: Known,
) -> tuple[T, float]:
    """Do what cancels, in what is left of the time; its value, and how many ms it took."""
    deadline = time.monotonic() + timeout
    async with account.client(timeout) as client:
        known.sending()
        started = time.monotonic()
        value = await act(client, max(deadline - started, 0.001))
        return value, (time.monotonic() - started) * 1000


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


def _scope(account: Account, symbol: str | None) -> str:
    return f"{account.category} {symbol or '(all symbols)'} on {account.venue.name}"


def _ack_line(account: Account, ack: Ack, elapsed_ms: float) -> Text:
    details = [f"in {elapsed_ms:.1f} ms", count(len(ack.attempts), "attempt")]
    if any(attempt.path == "stream" for attempt in ack.attempts if attempt.fate == "answered"):
        details.append("on the stream")
    if ack.timestamp_ms is not None:
        details.append(f"at {moment(ack.timestamp_ms)}")
    if ack.request_id:
        details.append(f"id {ack.request_id}")
    words = clean(f"{ack.action} of {_scope(account, ack.symbol)}, {', '.join(details)}")
    return Text.assemble(("received: ", "bold green"), words)


def _ack_fields(ack: Ack) -> dict[str, Any]:
    """The Ack as JSON: its own fields, the reply as text."""
    return {**msgspec.structs.asdict(ack), "raw": ack.raw.decode("utf-8", "replace")}


def _proof_lines(
    account: Account, symbol: str | None, proof: Confirmation, elapsed_ms: float
) -> list[Text]:
    """The proof for people: what is flat, by what evidence, and what became of the orders."""
    words = f"{_scope(account, symbol)}, in {elapsed_ms:.1f} ms, {count(proof.sweeps, 'sweep')}"
    evidence = f"two empty listings, {proof.settle:g} s apart"
    if proof.streamed:
        evidence += ", and order updates throughout"
    return [
        Text.assemble(("flat: ", "bold green"), clean(words)),
        Text.assemble("evidence: ", evidence),
        Text.assemble("cancelled: ", clean(_ids(proof.cancelled))),
        Text.assemble("filled on the way out: ", clean(_ids(proof.filled))),
    ]


def _ids(order_ids: tuple[str, ...] | None) -> str:
    """Orders by number and id; what can't be observed is not called none."""
    if order_ids is None:
        return "not observable"
    return f"{len(order_ids)} ({', '.join(order_ids)})" if order_ids else "none"


def _proof_fields(proof: Confirmation, elapsed_ms: float) -> dict[str, Any]:
    """The proof as JSON."""
    fields = msgspec.structs.asdict(proof)
    del fields["elapsed"]
    acks = [_ack_fields(ack) for ack in proof.acks]
    return {**fields, "acks": acks, "elapsed_ms": round(elapsed_ms, 1)}


def _order_sheet(listed: Iterable[OpenOrder]) -> Sheet:
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
