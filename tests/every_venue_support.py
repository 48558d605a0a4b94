"""What the tests of every venue share: a client of a filled account in each market."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from masscancel import RetryPolicy
from masscancel.sim import Received
from venues_support import MARKETS, Desk, Market

SCOPES = ("whole", "one")

#: Tries again soon, so that a test takes no long time.
QUICK = RetryPolicy(base=0.01, cap=0.02, rate_limited_base=0.01, early_sends=20)


Test = TypeVar("Test", bound=Callable[..., Any])


def every_market(test: Test) -> Test:
    """Play a test in every market: one of each venue every day, with each scope among them."""
    pytest.mark.sample("market.name", "scope")(test)
    pytest.mark.parametrize("market", MARKETS, ids=str)(test)
    return test


every_scope = pytest.mark.parametrize("scope", SCOPES)


def symbol_of(market: Market, scope: str) -> str | None:
    """The symbol that a scope is about."""
    return market.symbols[0] if scope == "one" else None


def answered(desk: Desk, *operations: str) -> list[Received]:
    """The requests of these operations that have an answer."""
    return [each for each in desk.exchange.operations(*operations) if each.answer == "answered"]
