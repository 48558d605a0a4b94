"""Checks of what callers give: scopes, kinds, time limits. Nothing is sent with bad ones."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from masscancel.calls import Scope
from masscancel.errors import ConfigurationError

__all__ = ["check_kind", "check_rates", "check_settle", "check_timeout", "scope_of"]


def scope_of(
    account_category: str, symbol: str | None, books: Iterable[str] | None = None
) -> Scope:
    """Make the scope that a caller names.

    Raises:
        ConfigurationError: the books are a string, which has several letters and is no book.
    """
    if isinstance(books, str):
        raise ConfigurationError(f'books are several: write ("{books}",)')
    return Scope(account_category, symbol, None if books is None else tuple(books))


def check_kind(name: str, value: object, kind: Any, expected: str) -> None:
    """Check that an argument is of a kind.

    Args:
        name: the argument's name, for the message.
        value: what was given.
        kind: a class, or a union of some.
        expected: what to give instead, in words.

    Raises:
        ConfigurationError: it is of another kind.
    """
    if not isinstance(value, kind):
        shown = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise ConfigurationError(f"{name} can't be {shown}: give {expected}")


def check_rates(rates: object, known: Iterable[str]) -> dict[str, float]:
    """Check what an account may spend in place of the venue's documented limits.

    Args:
        rates: amounts by the limits' names, in the venue's own units.
        known: the names of the venue's limits.

    Raises:
        ConfigurationError: the venue has no such limit, or an amount is not a positive number.
    """
    if not isinstance(rates, Mapping):
        raise ConfigurationError('rates are amounts by name: {"weight": 12_000}')
    allowed = sorted({*known})
    if unknown := [name for name in rates if name not in allowed]:
        names = ", ".join(allowed) or "none"
        raise ConfigurationError(f"the venue has no limit {unknown[0]!r}; there are: {names}")
    for name, amount in rates.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount > 0:
            raise ConfigurationError(f"the rate {name!r} must be a positive number, not {amount!r}")
    return dict(rates)


def check_timeout(timeout: object) -> float:
    """Check a time limit, in seconds.

    Raises:
        ConfigurationError: it is not a positive, finite number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ConfigurationError(f"timeout must be a number of seconds, not {timeout!r}")
    if not (math.isfinite(timeout) and timeout > 0):
        raise ConfigurationError(f"timeout must be positive and finite, not {timeout!r}")
    return float(timeout)


def check_settle(settle: object, timeout: float) -> None:
    """Check the time between two listings, in seconds; ``None`` is the venue's own.

    Raises:
        ConfigurationError: it is not a number, negative, or leaves no time for the proof.
    """
    if settle is None:
        return
    if isinstance(settle, bool) or not isinstance(settle, int | float) or not settle >= 0:
        raise ConfigurationError(f"settle must be a number of seconds, not {settle!r}")
    if settle >= timeout:
        raise ConfigurationError(
            f"with settle={settle} nothing can be proven within timeout={timeout}"
        )
