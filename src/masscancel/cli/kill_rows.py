"""The rows of a kill: an account and a category each, and what is known of it."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from masscancel import Accounts, MassCancelError, NotFlat, OpenOrder, Outcome, Target
from masscancel.accounts.account import Account, UnreadableAccount
from masscancel.accounts.opening import Entry
from masscancel.cli.failures import error_fields
from masscancel.cli.render import clean, count
from masscancel.cli.status import KillStatus, Status, status_of
from masscancel.events import AttemptEnded, AttemptSent, CallStarted, Event

__all__ = ["Row", "Rows", "tally"]

_UNKNOWN = (Status.UNKNOWN, Status.UNPROVEN)


class Row:
    """What is known of one account's category, or of an account that can't be read."""

    def __init__(self, account: Account | UnreadableAccount, category: str = "") -> None:
        self.name = account.name or "?"
        self.venue = account.venue if isinstance(account.venue, str) else account.venue.name
        self.category = category
        self.problem = account.problem if isinstance(account, UnreadableAccount) else ""
        self.kept: tuple[str, ...] = ()
        if isinstance(account, Account) and category in account.venue.abilities:
            books = account.venue.ability(category).books
            self.kept = tuple(book for book in books if book in account.keep)
        self.target: Target | None = None
        self.outcome: Outcome | None = None
        #: The open orders: that a dry run has listed, or that were left when the time was up.
        self.orders: Sequence[OpenOrder] | None = None
        #: The orders that a listing beside the cancel has still seen.
        self.seen: Sequence[OpenOrder] | None = None
        self.error: MassCancelError | None = None
        #: Whether a cancel has left, and when the first was answered, in seconds from the start.
        self.sent = False
        self.acked: float | None = None
        self.elapsed: float | None = None
        self._fates: dict[tuple[str, int], str] = {}

    async def look(self, timeout: float) -> None:
        """See what is open while it is being cancelled, where the venue's rates leave room."""
        target, entry = self._target_and_entry()
        with suppress(MassCancelError):
            self.seen = await entry.look(target.scope, timeout=timeout)

    async def list(self, timeout: float) -> None:
        """List what is open, within so many seconds."""
        started = time.monotonic()
        target, entry = self._target_and_entry()
        try:
            self.orders = await entry.open_orders(target.scope, timeout=timeout)
        except MassCancelError as error:
            self.error = error
        self.elapsed = time.monotonic() - started

    def _target_and_entry(self) -> tuple[Target, Entry]:
        target = self.target
        assert target is not None  # noqa: S101  # rows with a target only
        assert isinstance(target.client, Entry)  # noqa: S101  # as the accounts file opens them
        return target, target.client

    def end(self, outcome: Outcome) -> None:
        """Learn what became of it."""
        self.outcome, self.error, self.elapsed = outcome, outcome.error, outcome.elapsed
        if isinstance(outcome.error, NotFlat):
            self.orders = outcome.error.residual

    def note(self, event: AttemptSent | AttemptEnded, elapsed: float) -> None:
        """Learn of an attempt to cancel."""
        attempt = event.call_id, event.attempt
        if isinstance(event, AttemptSent):
            if event.cancels:
                self._fates[attempt] = "sent"
        elif attempt in self._fates:
            self._fates[attempt] = event.fate
            if event.fate == "answered" and self.acked is None:
                self.acked = elapsed
        self.sent = bool({*self._fates.values()} - {"not sent", "refused"})

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will become of it."""
        return bool(self.problem) or self.elapsed is not None

    @property
    def status(self) -> KillStatus:
        """The exit status, by this row alone."""
        if self.problem:
            return KillStatus.NOT_FLAT
        if self.error is not None:
            is_unknown = status_of(self.error) in _UNKNOWN
            return KillStatus.UNKNOWN if is_unknown else KillStatus.NOT_FLAT
        if self.has_ended:
            return KillStatus.FLAT
        return KillStatus.UNKNOWN if self.sent else KillStatus.NOT_FLAT

    @property
    def word(self) -> str:
        """What is known, in a word or two."""
        if self.problem:
            return "unreadable"
        if self.error is not None:
            status = status_of(self.error)
            return "refused" if status is Status.USAGE else status.name.lower().replace("_", " ")
        if self.outcome is not None:
            return "flat"
        if self.has_ended:
            return "listed"
        return "received" if self.acked is not None else "sent" if self.sent else "waiting"

    @property
    def complaint(self) -> str:
        """What is wrong, in a line; nothing if nothing is."""
        if self.problem:
            return self.problem
        if self.error is not None:
            text = str(self.error)
            return text if self.name in text else f"{self.name} {self.category}: {text}"
        left = "a cancel may have been carried out" if self.sent else "nothing was sent"
        return "" if self.has_ended else f"{self.name} {self.category}: not waited for; {left}"

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data for JSON."""
        ended = self.outcome.to_dict() if self.outcome is not None else {}
        return {
            "account": self.name,
            "venue": self.venue,
            "account_category": self.category or None,
            "status": self.status,
            "outcome": self.word,
            "ok": self.status is KillStatus.FLAT,
            "problem": self.problem or None,
            "ack": ended.get("ack"),
            "confirmation": ended.get("confirmation"),
            "error": error_fields(self.error),
            "acked": self.acked,
            "elapsed": self.elapsed,
            "books_kept": self.kept,
            "tally": None if self.orders is None else tally(self.orders),
            "seen": None if self.seen is None else tally(self.seen),
            "orders": None if self.orders is None else [each.to_dict() for each in self.orders],
        }


class Rows:
    """All rows of a kill; a listener of events.

    Args:
        each: the rows, in the file's order; those that can't be read come last.
    """

    def __init__(self, each: Sequence[Row]) -> None:
        self.each = each
        self._started = time.monotonic()
        self._by_scope = {(row.name, row.category): row for row in each if not row.problem}
        self._by_target: dict[int, Row] = {}
        self._by_call: dict[str, Row] = {}

    @classmethod
    def of(cls, accounts: Accounts) -> "Rows":
        """A row for each account and category, and for what can't be read."""
        rows = [Row(account, category) for account in accounts for category in account.covering]
        return cls(rows + [Row(each) for each in accounts.unreadable])

    def begin(self, targets: Sequence[Target]) -> None:
        """Learn the targets, in the order of the rows."""
        rows = [row for row in self.each if not row.problem]
        for row, target in zip(rows, targets, strict=True):
            row.target = target
            self._by_target[id(target)] = row

    def of_target(self, target: Target) -> Row:
        """The row of a target."""
        return self._by_target[id(target)]

    def end(self, outcome: Outcome) -> None:
        """Learn what became of a target."""
        self.of_target(outcome.target).end(outcome)

    def note(self, event: Event) -> None:
        """Learn from an event what becomes of the cancels."""
        match event:
            case CallStarted():
                row = self._by_scope.get((event.account, event.scope.account_category))
                if row is not None:
                    self._by_call[event.call_id] = row
            case AttemptSent() | AttemptEnded() if event.call_id in self._by_call:
                self._by_call[event.call_id].note(event, time.monotonic() - self._started)

    @property
    def status(self) -> KillStatus:
        """The exit status of the command: the gravest."""
        return max((row.status for row in self.each), default=KillStatus.FLAT)

    def summary(self, *, dry_run: bool) -> str:
        """Say how it went, in a line."""
        words: dict[str, int] = {}
        for row in self.each:
            words[row.word] = words.get(row.word, 0) + 1
        text = ", ".join(f"{number} {word}" for word, number in words.items())
        if dry_run:
            listed = [order for row in self.each for order in row.orders or ()]
            return f"{text}: {count(len(listed), 'open order')}; nothing was cancelled"
        return f"{text}, of {count(len(self.each), 'row')}"

    def kept(self) -> dict[str, tuple[str, ...]]:
        """The books that are left alone, by account and category."""
        return {f"{row.name} {row.category}": row.kept for row in self.each if row.kept}

    def complaints(self) -> Iterable[str]:
        """A line for each row with which something is wrong."""
        return dict.fromkeys(row.complaint for row in self.each if row.complaint)


def tally(orders: Sequence[OpenOrder]) -> dict[str, int]:
    """Count orders: all, and those of each book but the ordinary one."""
    found = {"open": len(orders)}
    for order in orders:
        if order.book != "ordinary":
            found[clean(order.book)] = found.get(clean(order.book), 0) + 1
    if reducing := sum(order.reduce_only for order in orders):
        found["reduce-only"] = reducing
    return found
