"""``sim``: the simulated exchange alone, for other programs to try themselves on."""

import asyncio
import random
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from masscancel import ConfigurationError
from masscancel.cli.market import (
    COINS,
    MARKETS,
    Market,
    market_of,
    open_accounts,
    place_orders,
    settings_for,
)
from masscancel.cli.options import AsJson, Seed, load
from masscancel.cli.render import print_json, write
from masscancel.cli.status import Known, Status
from masscancel.sim import Account, SimulatedExchange

__all__ = ["sim"]

_REMEMBERED = 10_000  # requests and ended orders: it may run for weeks


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A simulated exchange with its accounts."""

    market: Market
    port: int
    accounts: int
    orders: int
    seed: int
    limits: bool


def sim(
    ctx: typer.Context,
    venue: Annotated[
        str,
        typer.Option(
            "--venue",
            metavar="NAME",
            help=f"Which exchange is simulated: {', '.join(MARKETS)}.",
            autocompletion=lambda: list(MARKETS),
        ),
    ] = "ascendex",
    port: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=65535, help="Where to listen on 127.0.0.1; 0: a free port."
        ),
    ] = 0,
    accounts: Annotated[
        int, typer.Option(metavar="N", min=1, max=500, help="How many accounts.")
    ] = 1,
    orders: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many open orders in each account.")
    ] = 12,
    seed: Seed = 0,
    limits: Annotated[
        bool,
        typer.Option(
            "--limits", help="Count and refuse requests, and ban, as the venue documents it."
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Run the simulated exchange alone, until Ctrl-C.

    Prints where it listens, and for each account the key, the secret and the commands that try
    them: shell lines, to be pasted into another terminal. Keys are made up, the same for the same
    --seed, and open nothing else. Symbols that are not listed are refused, as the venue would.
    Nothing is kept when it ends.

    Try:

      masscancel sim
      masscancel sim --venue binance --port 8080 --accounts 3 --orders 100
    """
    known: Known = ctx.obj
    plan = _Plan(
        market=market_of(venue),
        port=port,
        accounts=accounts,
        orders=orders,
        seed=seed,
        limits=limits,
    )
    known.done("the simulated exchange is gone, with all its orders")
    asyncio.run(_serve(plan, as_json=as_json))
    return Status.DONE


async def _serve(plan: _Plan, *, as_json: bool) -> None:
    """Listen, say so, and wait for SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    market = plan.market
    async with _exchange(plan) as exchange:
        opened = open_accounts(exchange, plan.accounts)
        rng = random.Random(plan.seed)  # noqa: S311  # a simulation's orders are no secret
        for account in opened:
            place_orders(exchange, account, list(COINS), plan.orders, rng, market)
        if as_json:
            print_json(_fields(exchange, opened, market))
        else:
            write("\n".join(_shell_lines(exchange, opened, market)) + "\n")
        if sys.stdout.isatty():
            sys.stderr.write("\nPress Ctrl-C to end it.\n")
        await stopped.wait()
    if sys.stderr.isatty():
        sys.stderr.write("\n")  # after the terminal's own ^C


def _exchange(plan: _Plan) -> SimulatedExchange:
    """Make the exchange, not entered yet.

    Raises:
        ConfigurationError: it is to refuse what the venue would, and the venue's limits are not
            known to it.
    """
    dialect = plan.market.open(plan.market)
    try:
        return SimulatedExchange(
            dialect, port=plan.port, seed=plan.seed, history=_REMEMBERED, limits=plan.limits
        )
    except ValueError as unknown:
        raise ConfigurationError(f"--limits: {unknown}") from None


def _shell_lines(
    exchange: SimulatedExchange, accounts: Sequence[Account], market: Market
) -> list[str]:
    """Make the shell lines that another terminal needs; the rest are comments."""
    lines = [
        f"# {exchange.dialect.name}, simulated: {exchange.rest_url} {exchange.stream_url}",
        "# Its keys are made up and open nothing else. It forgets all when it ends.",
    ]
    lines += [
        f"# Symbols of {category}: {' '.join(market.symbols(category))}"
        for category in market.spellings
    ]
    for account in accounts:
        counts = ", ".join(
            f"{len(exchange.open_orders(account, category))} {category}"
            for category in market.spellings
        )
        options = f" --venue {exchange.dialect.name}"
        options += "".join(f" --category {category}" for category in market.spellings)
        options += "".join(
            f" -o {name}={shlex.quote(value)}"
            for name, value in settings_for(exchange, account).items()
        )
        lines += [
            "",
            f"# {account.label}; open orders: {counts}",
            f"export MASSCANCEL_API_KEY={shlex.quote(account.api_key)}",
            f"export MASSCANCEL_API_SECRET={shlex.quote(account.api_secret)}",
            *_passphrase(exchange, account),
            f"masscancel orders{options}",
            f"masscancel cancel --yes{options}",
        ]
    return lines


def _passphrase(exchange: SimulatedExchange, account: Account) -> list[str]:
    """Make the line that exports the third part of a key, where the venue's keys have one."""
    if not load(exchange.dialect.name).passphrase:
        return []
    return [f"export MASSCANCEL_PASSPHRASE={shlex.quote(account.extra['passphrase'])}"]


def _fields(
    exchange: SimulatedExchange, accounts: Sequence[Account], market: Market
) -> dict[str, object]:
    return {
        "venue": exchange.dialect.name,
        "rest_url": exchange.rest_url,
        "stream_url": exchange.stream_url,
        "symbols": {category: market.symbols(category) for category in market.spellings},
        "accounts": [
            {
                "label": account.label,
                "api_key": account.api_key,
                "api_secret": account.api_secret,
                "passphrase": account.extra["passphrase"],
                "settings": settings_for(exchange, account),
            }
            for account in accounts
        ],
    }
