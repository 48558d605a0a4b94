"""Failures as plain data for JSON: every failure has the same fields."""

from collections.abc import Iterable
from typing import Any

from masscancel.cli.status import Status, status_of
from masscancel.errors import MassCancelError

__all__ = ["error_fields", "failure", "gravest"]


def error_fields(error: MassCancelError | None) -> dict[str, Any] | None:
    """An error's fields, with a ``code`` also where no venue gave one; ``None`` for none."""
    return None if error is None else {"code": None, **error.to_dict()}


def gravest(errors: Iterable[MassCancelError | None], status: Status) -> dict[str, Any] | None:
    """The fields of the first error that leads to the status that a command ends with."""
    found = (error for error in errors if error is not None)
    return error_fields(next((error for error in found if status_of(error) is status), None))


def failure(
    status: int, kind: str, text: str, *, may_have_executed: bool = False
) -> dict[str, Any]:
    """A whole command's failure that is no error of the library's."""
    error = {"type": kind, "code": None, "text": text, "may_have_executed": may_have_executed}
    return {"ok": False, "status": status, "error": {**error, "attempts": []}}
