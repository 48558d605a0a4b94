"""``doctor``: what would fail in a kill, account by account, before it matters."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import typer
from rich.text import Text

from masscancel import Accounts, SessionPool
from masscancel.arguments import check_timeout
from masscancel.cli.options import AsJson, Timeout
from masscancel.cli.render import Cell, Column, Screen, Sheet, complain, count, print_json, remark
from masscancel.cli.selection import AccountsFile, OnlyVenue, Selectors, Tags, chosen
from masscancel.cli.status import DoctorStatus, Known
from masscancel.doctor import Checkup, Finding, Status, descriptors, examine_many

__all__ = ["doctor"]

_STYLES: Final[dict[Status, str]] = {
    "ok": "green",
    "warning": "yellow",
    "failed": "bold red",
    "unknown": "bold magenta",
}
_HERE: Final = "(this machine)"


class Examined(msgspec.Struct, frozen=True):
    """The findings about the accounts, and about this machine."""

    checkups: Sequence[Checkup]
    here: Finding

    @property
    def status(self) -> DoctorStatus:
        """What the command ends with."""
        found = {each.status for each in self.checkups}
        if "unknown" in found:
            return DoctorStatus.UNKNOWN
        return DoctorStatus.FAILS if "failed" in found else DoctorStatus.WELL


def doctor(
    ctx: typer.Context,
    selectors: Selectors = None,
    tags: Tags = None,
    venue: OnlyVenue = None,
    accounts_file: AccountsFile = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Where a venue can't be asked whether a key may cancel: cancel one order that "
            "can't exist, and read the answer.",
        ),
    ] = False,
    timeout: Timeout = 10.0,
    every: Annotated[
        bool, typer.Option("--all", help="Show what is well, too, and not only that it is.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Find out what would fail in a kill, account by account, and what to do about it.

    Nothing is cancelled. Of each account in the accounts file: whether its venue is reached (names,
    proxies, TCP and TLS), how far its clock is off, whether the key is accepted, from this address,
    and until when, whether it may cancel, whether its nonces are in order, what is left of the
    venue's limits, whether its stream takes the login. Of this machine: its open files.

    Whether a key may cancel is asked in the venue's own way. Where there is none, --probe cancels
    one order whose id was just made up, never more, and tells "unknown order" from "no permission".
    """
    known: Known = ctx.obj
    known.done("nothing is cancelled here")
    check_timeout(timeout)
    accounts, others = chosen(accounts_file, selectors, venue, tags, strict=True)
    examined = asyncio.run(_examine(accounts, timeout, probe=probe))
    status = examined.status
    if as_json:
        print_json(
            {
                "ok": status is DoctorStatus.WELL,
                "status": status,
                "accounts_file": str(accounts.path),
                "accounts": [checkup.to_dict() for checkup in examined.checkups],
                "machine": [examined.here.to_dict()],
                "not_examined": others,
            }
        )
    else:
        Screen().show(_sheet(examined, every=every))
        _say_the_end(examined)
    known.is_over = True
    return status


async def _examine(accounts: Accounts, timeout: float, *, probe: bool) -> Examined:
    """Examine all accounts at once, by one pool."""
    async with SessionPool() as pool:
        clients = [account.client(pool, entry_timeout=timeout) for account in accounts]
        scopes = {
            client: [account.scope(category) for category in account.covering]
            for account, client in zip(accounts, clients, strict=True)
        }
        checkups = await examine_many(clients, scopes=scopes, probe=probe, timeout=timeout)
        return Examined(checkups, descriptors(pool, sum(map(len, scopes.values()))))


def _sheet(examined: Examined, *, every: bool) -> Sheet:
    """A row for each finding; one for an account in which nothing is worth a word."""
    columns = [
        Column("account", style="bold", whole=True),
        Column("venue", whole=True),
        Column("category", whole=True),
        Column("check", whole=True),
        Column("", whole=True),
        Column("found, and what to do"),
    ]
    rows: list[Sequence[Cell]] = []
    for checkup in examined.checkups:
        names = (checkup.account, checkup.venue)
        shown = [each for each in checkup.findings if every or each.status != "ok"]
        rows += [_row(*names, each) for each in shown]
        if not shown:
            rights = [each.category for each in checkup.findings if each.name == "may cancel"]
            well = f"{count(len(checkup.findings), 'check')}; may cancel {', '.join(rights)}"
            rows.append((*names, "", "all", _word("ok"), well))
    if every or examined.here.status != "ok":
        rows.append(_row(_HERE, "", examined.here))
    return Sheet(columns=columns, rows=rows)


def _row(account: str, venue: str, finding: Finding) -> Sequence[Cell]:
    found = "; ".join(filter(None, (finding.detail, finding.advice)))
    return (account, venue, finding.category, finding.name, _word(finding.status), found)


def _word(status: Status) -> Text:
    return Text(status, _STYLES[status])


def _say_the_end(examined: Examined) -> None:
    """Say in a line how many accounts are how."""
    found = Counter(checkup.status for checkup in examined.checkups)
    words: dict[Status, str] = {
        "ok": "well",
        "warning": "well, with warnings",
        "failed": "would fail",
        "unknown": "can't be known",
    }
    told = ", ".join(f"{found[key]} {word}" for key, word in words.items() if found[key])
    say = remark if examined.status is DoctorStatus.WELL else complain
    say(f"{count(len(examined.checkups), 'account')}: {told}")
