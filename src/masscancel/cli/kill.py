"""``kill``: every account of the accounts file, all at once, proven flat."""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any, Final

import msgspec
import typer
from msgspec.structs import replace

from masscancel import Accounts, ConfigurationError, Outcome, SessionPool, cancel_many
from masscancel.arguments import check_settle, check_timeout
from masscancel.calls import Scope
from masscancel.cli.failures import failure
from masscancel.cli.kill_rows import Row, Rows
from masscancel.cli.kill_screen import Watched, say_rows
from masscancel.cli.on_fire import OnFire, OnFireTimeout, actions_of, fire
from masscancel.cli.options import AsJson, Settle
from masscancel.cli.records import JournalFile, NoJournal, journal_for
from masscancel.cli.render import complain, count, named, print_json, remark
from masscancel.cli.selection import AccountsFile, OnlyVenue, Selectors, Tags, chosen
from masscancel.cli.status import KillStatus, Known
from masscancel.events import killing

__all__ = ["kill"]

#: So many listings beside the cancels go on at once: none has time to take from these.
_LOOKS: Final = 8
_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A kill: accounts, what is left out, times in seconds, and why."""

    accounts: Accounts
    not_selected: Sequence[str]
    timeout: float
    settle: float | None
    reason: str


def kill(
    ctx: typer.Context,
    selectors: Selectors = None,
    tags: Tags = None,
    venue: OnlyVenue = None,
    accounts_file: AccountsFile = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            metavar="BOOK",
            help="Leave this book alone, such as stop, in every account. Once for each.",
            show_default="what the file says",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="For everything, proof and all.")
    ] = 30.0,
    settle: Settle = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List the open orders that it would cancel; cancel none."),
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before cancelling.")] = False,
    on_fire: OnFire = None,
    on_fire_timeout: OnFireTimeout = 10.0,
    journal: JournalFile = None,
    no_journal: NoJournal = False,
    as_json: AsJson = False,
) -> int:
    """Cancel every open order of every account in the accounts file, at once, and prove it.

    Each account has a row of its own: one that is sick, banned, or can't even be read holds up no
    other. It asks first, unless told --yes; where there is no terminal to ask on, it refuses. Books
    that the file or --keep names are left alone; where a venue can't leave one out, that row is
    refused, not widened.

    Ctrl-C once changes nothing: the cancels go on. Twice ends it with what is known.

    What happens is written to the journal, beside the cancels; the last line has its head, which
    shows later that nothing was changed: 'masscancel journal verify --head HEAD'.

    Try:

      masscancel kill --dry-run
      masscancel kill --yes --reason "wrong prices"
      masscancel kill 'mm-*' --tag desk=mm --venue binance
    """
    known: Known = ctx.obj
    check_timeout(timeout)
    check_settle(settle, timeout)
    check_timeout(on_fire_timeout)
    accounts, others = chosen(accounts_file, selectors, venue, tags, strict=False)
    if keep:
        accounts = replace(accounts, accounts=_keeping(accounts, keep))
    plan = Plan(
        accounts=accounts, not_selected=others, timeout=timeout, settle=settle, reason=reason
    )
    if dry_run:
        known.done("a listing changes nothing")
    elif not yes and not _agreed(plan):
        words = "not confirmed; nothing was sent"
        complain(words)
        if as_json:
            print_json(failure(KillStatus.DECLINED, "Declined", words))
        return KillStatus.DECLINED
    rows = Rows.of(accounts)
    watched = Watched(rows, dry_run=dry_run, quiet=as_json)
    document: dict[str, Any] = {"ok": False, "rows": []}
    if dry_run:
        elapsed = asyncio.run(_list(plan, rows, watched))
    else:
        actions, within = actions_of(on_fire), on_fire_timeout
        ctx.call_on_close(lambda: fire(actions, document, by="kill", timeout=within))
        with journal_for(journal, no_journal=no_journal) as record:
            elapsed = asyncio.run(_kill(plan, rows, watched, known))
            known.done("the table says what is known")
            document["journal"] = record.end()
    document |= _fields(plan, rows, elapsed, dry_run=dry_run)
    if as_json:
        print_json(document)
    else:
        say_rows(rows, dry_run=dry_run)
        _say_the_end(plan, rows, elapsed, dry_run=dry_run)
    known.is_over = True
    for line in rows.complaints():
        complain(line)
    if not dry_run:
        record.say()
    return rows.status


def _keeping(accounts: Accounts, keep: Sequence[str]) -> tuple[Any, ...]:
    """The accounts, which keep these books, too.

    Raises:
        ConfigurationError: no account has such a book.
    """
    there_are = dict.fromkeys(
        book
        for account in accounts
        for category in account.categories
        if category in account.venue.abilities
        for book in account.venue.ability(category).books
    )
    if unknown := [book for book in keep if book not in there_are]:
        raise ConfigurationError(
            f"--keep {unknown[0]}: no account has such a book; there are: {', '.join(there_are)}"
        )
    return tuple(replace(each, keep=tuple(dict.fromkeys((*each.keep, *keep)))) for each in accounts)


def _agreed(plan: Plan) -> bool:
    """Ask the person at the terminal.

    Raises:
        ConfigurationError: there is no terminal.
    """
    accounts = plan.accounts
    venues = named(dict.fromkeys(each.venue.name for each in accounts)) if len(accounts) else "none"
    what = f"every open order of {count(len(accounts), 'account')} on {venues}"
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"this would cancel {what}, and there is no terminal to ask on: say --yes"
        )
    names = ", ".join(
        f"{each.name} ({', '.join(each.covering)}{_kept(each.keep)})" for each in accounts
    )
    sys.stderr.write(f"{accounts.path}: {names}\nCancel {what}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _kept(books: Sequence[str]) -> str:
    return f" but {named(books)}" if books else ""


async def _kill(plan: Plan, rows: Rows, watched: Watched, known: Known) -> float:
    """Cancel everything; the seconds that it took. Each row learns what became of it."""
    started = time.monotonic()
    what = f"{count(len(rows.each), 'row')} of {plan.accounts.path}"
    async with SessionPool() as pool:
        pool.subscribe(known.note)
        pool.subscribe(rows.note)
        with (
            killing(plan.reason, what=what) as kill_,
            watched.shown(),
            _ended_by_the_second_signal() as ended,
        ):
            async with plan.accounts.open(pool=pool, timeout=plan.timeout, wait=False) as targets:
                rows.begin(targets)
                for each in plan.accounts.unreadable:
                    kill_.target_ended(
                        each.name, Scope(""), each.problem, error="ConfigurationError", elapsed=0.0
                    )

                def note(outcome: Outcome) -> None:
                    rows.end(outcome)
                    watched.tell(rows.of_target(outcome.target))

                work = asyncio.create_task(
                    cancel_many(
                        targets,
                        timeout=plan.timeout,
                        confirm=True,
                        settle=plan.settle,
                        on_outcome=note,
                    )
                )
                looks = asyncio.create_task(_look(plan, rows))
                await ended(work)  # which has begun first
                looks.cancel()
                await asyncio.gather(looks, return_exceptions=True)
                elapsed = time.monotonic() - started
    return elapsed


async def _look(plan: Plan, rows: Rows) -> None:
    """See what is open while it is being cancelled: a few rows, before the cancel is through."""
    places = asyncio.Semaphore(_LOOKS)

    async def look(row: Row) -> None:
        async with places:
            if row.target is not None and row.acked is None:
                await row.look(plan.timeout)

    await asyncio.gather(*map(look, rows.each))


async def _list(plan: Plan, rows: Rows, watched: Watched) -> float:
    """List everything that a kill would cancel; the seconds that it took."""
    started = time.monotonic()

    async def list_one(row: Row) -> None:
        await row.list(plan.timeout - (time.monotonic() - started))
        watched.tell(row)

    async with SessionPool() as pool:
        with watched.shown():
            async with plan.accounts.open(pool=pool, timeout=plan.timeout, wait=False) as targets:
                rows.begin(targets)
                await asyncio.gather(*(list_one(row) for row in rows.each if row.target))
                return time.monotonic() - started


@contextmanager
def _ended_by_the_second_signal() -> Iterator[Callable[[Any], Any]]:
    """Let a first Ctrl-C or SIGTERM, and a terminal that closes, change nothing.

    Yields:
        What awaits a coroutine, until it ends or a second signal comes.
    """
    loop = asyncio.get_running_loop()
    came: list[str] = []
    second = asyncio.Event()

    def stop(name: str) -> None:
        came.append(name)
        if len(came) > 1:
            second.set()
        else:
            complain(f"{name}: the cancels go on; once more ends this with what is known")

    async def ended(work: Any) -> None:
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(second.wait())
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        for each in (task, stopped):
            each.cancel()
            with suppress(asyncio.CancelledError):
                await each

    if threading.current_thread() is not threading.main_thread():  # signals are not for this one
        yield ended
        return
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in _STOPS:
        loop.add_signal_handler(number, stop, signal.Signals(number).name)
    try:
        yield ended
    finally:
        for number in _STOPS:
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGHUP, hangup)


def _say_the_end(plan: Plan, rows: Rows, elapsed: float, *, dry_run: bool) -> None:
    """Say in a line how it went, and what was not touched."""
    words = f"{rows.summary(dry_run=dry_run)}, in {elapsed:.2f} s"
    say = remark if rows.status is KillStatus.FLAT else complain
    say(words)
    if left_out := _left_out(plan, rows, "listed" if dry_run else "touched"):
        remark(left_out)


def _left_out(plan: Plan, rows: Rows, done: str) -> str:
    """Say what was left out, in a sentence for each kind."""
    sentences = []
    if plan.not_selected:
        sentences.append(f"Not {done}, since not selected: {named(plan.not_selected)}.")
    if others := _other_categories(plan):
        words = "; ".join(f"{', '.join(found)} of {name}" for name, found in others.items())
        sentences.append(f"Not {done}, since the file does not name them: {words}.")
    if kept := rows.kept():
        words = "; ".join(f"{', '.join(books)} of {where}" for where, books in kept.items())
        sentences.append(f"Books kept: {words}.")
    return " ".join(sentences)


def _other_categories(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The categories of each account's venue that the file does not name, and none contains."""
    found = {}
    for account in plan.accounts:
        abilities = account.venue.abilities
        covered = {*account.categories}
        for name in account.categories:
            covered.update(abilities[name].contains if name in abilities else ())
        if others := tuple(name for name in abilities if name not in covered):
            found[account.name] = others
    return found


def _fields(plan: Plan, rows: Rows, elapsed: float, *, dry_run: bool) -> dict[str, Any]:
    """The whole as JSON."""
    return {
        "ok": rows.status is KillStatus.FLAT,
        "status": rows.status,
        "dry_run": dry_run,
        "accounts_file": str(plan.accounts.path),
        "reason": plan.reason,
        "elapsed": elapsed,
        "rows": [row.to_dict() for row in rows.each],
        "not_touched": {
            "accounts": plan.not_selected,
            "categories": _other_categories(plan),
            "books": rows.kept(),
        },
    }
