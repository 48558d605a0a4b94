"""Which cases are played every day, of a test that has very many."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import pytest


def leave_to_adversity(items: Iterable[pytest.Item]) -> None:
    """Mark the cases that ``make test`` leaves out, of tests with the marker ``sample``.

    The marker names parameters, or attributes of them (``"market.name"``). Of a test's cases, as
    few as have every value of these are played every day, the first ones that do; the others have
    the marker ``adversity``. Parameters that a test does not have are passed over; a test that has
    none of them is played whole. Without names, it is the first case alone.
    """
    families: dict[str, list[pytest.Function]] = defaultdict(list)
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and item.get_closest_marker("sample")
            and not item.get_closest_marker("adversity")
        ):
            families[item.nodeid.partition("[")[0]].append(item)
    for cases in families.values():
        chosen = _chosen([_values(case) for case in cases])
        for number, case in enumerate(cases):
            if number not in chosen:
                case.add_marker(pytest.mark.adversity)


def _values(case: pytest.Function) -> set[Any] | None:
    """The values that it has of what the marker names; None if that is nothing of its own."""
    marker = case.get_closest_marker("sample")
    assert marker is not None
    if not marker.args:
        return set()
    has: dict[str, Any] = case.callspec.params if hasattr(case, "callspec") else {}
    values = set()
    for name in marker.args:
        parameter, _, attribute = name.partition(".")
        if parameter in has:
            value = has[parameter]
            values.add((name, str(attrgetter(attribute)(value) if attribute else value)))
    return values or None


def _chosen(cases: Sequence[set[Any] | None]) -> set[int]:
    """The numbers of cases that have every value between them; greedily, the first of equals."""
    if None in cases:
        return {*range(len(cases))}
    sets = [each or set() for each in cases]
    wanted = set().union(*sets)
    chosen = {0} if not wanted else set()
    while wanted:
        best = max(range(len(sets)), key=lambda number: len(sets[number] & wanted))
        chosen.add(best)
        wanted -= sets[best]
    return chosen
