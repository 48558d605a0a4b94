"""Clocks of origins, by this machine's monotonic clock; nonces that only grow."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masscancel.transport.clock import Clock, Nonces, monotonic_ms


def test_clock_prefers_the_quickest_sample() -> None:
    """Of several readings the one with the shortest round trip counts."""
    clock = Clock()
    unmeasured = clock.stamp()
    assert unmeasured.skew_ms == 30_000
    assert abs(unmeasured.time_ms - time.time() * 1000) < 1_000
    now, wall = monotonic_ms(), time.time() * 1000
    clock.add(now, now + 10, int(wall + 5) + 50_000)
    clock.add(now, now + 900, int(wall + 450) + 50_400)
    stamp = clock.stamp()
    assert abs(stamp.time_ms - (time.time() * 1000 + 50_000)) < 1_000
    assert stamp.skew_ms == 1_005


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """Once measured, the venue's time goes on with the monotonic clock, and so do nonces."""
    clock = Clock()
    now = monotonic_ms()
    clock.add(now, now + 2, 1_700_000_000_000)
    before = clock.stamp("key-of-steps", 1000)
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + step)
    after = clock.stamp("key-of-steps", 1000)
    assert 0 <= after.time_ms - before.time_ms < 1_000
    assert 0 < after.nonce - before.nonce < 1_000


def test_until_it_is_measured_again_the_venues_date_serves() -> None:
    """A clock that the venue refused goes by the refusal's own date, to the second."""
    clock = Clock()
    now = monotonic_ms()
    clock.add(now, now + 2, 1_700_000_000_000)
    clock.forget(1_800_000_000_000)
    stamp = clock.stamp()
    assert abs(stamp.time_ms - 1_800_000_000_500) < 1_000
    assert stamp.skew_ms == 2_000


@given(st.lists(st.sampled_from([10**3, 10**6, 10**9]), min_size=2, max_size=50))
def test_nonces_only_grow(units: list[int]) -> None:
    """Whatever the unit and however fast, each nonce is greater than all before it for the key."""
    nonces = Nonces()
    unit = units[0]
    drawn = [nonces.next("a", time.time() * 1000, unit) for _ in units]
    assert drawn == sorted(set(drawn))
    assert nonces.next("b", time.time() * 1000, unit) <= time.time_ns() * unit // 10**9 + 1


def test_nonces_only_grow_across_threads() -> None:
    """Threads that share a key draw no number twice, even where the clock stands still."""
    nonces = Nonces()
    started = threading.Barrier(4)

    def draw(_: int) -> list[int]:
        started.wait()
        return [nonces.next("key", 10**12, 1_000) for _ in range(200)]

    with ThreadPoolExecutor(4) as threads:
        drawn = [*threads.map(draw, range(4))]
    assert all(sorted(each) == each for each in drawn)
    everything = sorted(number for each in drawn for number in each)
    assert everything == [*range(10**12, 10**12 + 800)]


def test_a_later_nonce_that_was_accepted_supersedes() -> None:
    """What the venue has accepted, it has accepted nothing before any more."""
    nonces = Nonces()
    nonces.accept("key", 7)
    assert nonces.superseded("key", 6)
    assert not nonces.superseded("key", 7)
    assert not nonces.superseded("other", 1)
