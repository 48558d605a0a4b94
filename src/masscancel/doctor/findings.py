"""Findings: what was looked at, how it is, and what to do about it."""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from masscancel.errors import MassCancelError

__all__ = ["Checkup", "Finding", "Status", "in_order"]

#: ``"warning"``: nothing fails now, and it is worth a look. ``"unknown"``: it can't be known.
Status: TypeAlias = Literal["ok", "warning", "failed", "unknown"]

#: The names of findings, in the order of what depends on what.
_NAMES: Final = (
    *("time", "proxy", "name", "connection", "clock", "entry", "key", "nonces"),
    *("address", "expiry", "may cancel", "limits", "stream", "descriptors"),
)
#: What a checkup comes to: the first of these that one of its findings has.
_GRAVEST_FIRST: Final[Sequence[Status]] = ("unknown", "failed", "warning", "ok")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        name: what: ``"time"``, ``"proxy"``, ``"name"``, ``"connection"``, ``"clock"``,
            ``"entry"``, ``"key"``, ``"nonces"``, ``"address"``, ``"expiry"``, ``"may cancel"``,
            ``"limits"``, ``"stream"`` or ``"descriptors"``.
        status: ``"ok"``, ``"warning"``, ``"failed"`` or ``"unknown"``.
        detail: what was found.
        advice: what to do about it; ``""`` if nothing.
        category: the account category that it is about; ``""`` for all of the account.
        error: what was raised, if that was it.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""
    category: str = ""
    error: MassCancelError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain data for JSON; nothing in it is secret."""
        return {
            "name": self.name,
            "category": self.category,
            "status": self.status,
            "detail": self.detail,
            "advice": self.advice,
            "error": None if self.error is None else self.error.to_dict(),
        }


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """The findings about one account.

    Attributes:
        account: its label.
        venue: the venue's name.
        findings: in the order of what depends on what.
        elapsed: how long it took, in seconds.
    """

    account: str
    venue: str
    findings: tuple[Finding, ...]
    elapsed: float

    @property
    def status(self) -> Status:
        """The gravest: ``"unknown"``, then ``"failed"``, ``"warning"``, ``"ok"``."""
        found = {finding.status for finding in self.findings}
        return next((each for each in _GRAVEST_FIRST if each in found), "ok")

    @property
    def ok(self) -> bool:
        """Whether nothing would fail, and all of that is known."""
        return self.status in ("ok", "warning")

    def to_dict(self) -> dict[str, Any]:
        """The checkup as plain data for JSON; nothing in it is secret."""
        return {
            "account": self.account,
            "venue": self.venue,
            "ok": self.ok,
            "status": self.status,
            "elapsed": self.elapsed,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings in the order of what depends on what."""
    return tuple(sorted(findings, key=lambda each: _NAMES.index(each.name)))
