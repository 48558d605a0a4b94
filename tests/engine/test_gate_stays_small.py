"""A gate that stays shut for days: what it keeps is what may still be carried out, no more."""

import gc
import weakref

import pytest

from masscancel import Halted
from masscancel.engine.gate import OrderGate

pytestmark = pytest.mark.unmeasured


class Clock:
    """A clock in the test's hand."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


class Attempt:
    """An attempt as a gate knows it."""

    def __init__(self, expires_at: float | None) -> None:
        self.resolved = False
        self.expires_at = expires_at
        self.expires_at_ms = None if expires_at is None else round(expires_at * 1000)


def kept(attempts: "weakref.WeakSet[Attempt]") -> int:
    """How many attempts there still are; nobody but the gate has them."""
    gc.collect()
    return len(attempts)


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "expired"])
def test_what_is_over_is_forgotten(answered: bool) -> None:
    """A hundred thousand kills, one each second: answered at once, or good for thirty seconds."""
    clock = Clock()
    gate = OrderGate(clock=clock)
    gate.shut()
    attempts: weakref.WeakSet[Attempt] = weakref.WeakSet()
    most = 0
    for number in range(100_000):
        clock.now = float(number)
        attempt = Attempt(clock.now + 30.0)
        attempts.add(attempt)
        gate.register(attempt)
        attempt.resolved = answered
        del attempt
        most = max(most, len(attempts))
    assert most <= 200
    clock.now += 31.0
    assert gate.unresolved_for() == 0
    gate.reopen()
    assert kept(attempts) == 0


def test_what_may_still_be_carried_out_is_not() -> None:
    """A thousand whose end is not known stay, among a hundred thousand that were answered."""
    gate = OrderGate(clock=Clock())
    gate.shut()
    attempts: weakref.WeakSet[Attempt] = weakref.WeakSet()
    unknown = [Attempt(None) for _ in range(1_000)]
    for number in range(100_000):
        attempt = unknown[number // 100] if number % 100 == 0 else Attempt(None)
        attempts.add(attempt)
        gate.register(attempt)
        attempt.resolved = number % 100 != 0
        del attempt
    assert 1_000 <= kept(attempts) <= 3_000
    with pytest.raises(Halted, match="1000 attempts"):
        gate.reopen()
    for attempt in unknown:
        attempt.resolved = True
    gate.reopen()
