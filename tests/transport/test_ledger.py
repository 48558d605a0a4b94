"""The ledger of limits, bans and lockouts."""

import math

import pytest

from masscancel.calls import Limit, Precedence, Spent
from masscancel.transport.ledger import Ledger, Reservation, affordable

CANCEL, NEEDED, AGAIN, OTHER, PROBE, SPARE = Precedence
WEIGHT = Limit(name="weight", amount=100, seconds=60)
ORDERS = Limit(name="orders", amount=10, seconds=10, per="key")


class Clock:
    """A clock in the test's hand."""

    now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The ledger's clock."""
    return Clock()


def reserve(ledger: Ledger, cost: float, precedence: Precedence = CANCEL) -> float:
    """How long a request of that weight has to wait, in seconds."""
    room = ledger.reserve("o", "k", {"weight": cost}, [WEIGHT], precedence=precedence)
    if not room.counted:
        room.give_back()
    return room.wait


def test_no_window_holds_more_than_the_limit(clock: Clock) -> None:
    """Whatever is asked when, no stretch of the limit's length holds more than its amount."""
    ledger = Ledger(clock)
    sent: list[float] = []
    for step in range(60):
        clock.now = 1000.0 + 3 * step
        sent.append(clock.now + reserve(ledger, 10))
    for start in sent:
        assert sum(10 for at in sent if start <= at < start + WEIGHT.seconds) <= WEIGHT.amount


def test_cancels_go_first(clock: Clock) -> None:
    """Each spends up to its share: cancels all, what they need less, repeats less, others half."""
    ledger = Ledger(clock)
    for precedence, room in ((OTHER, 5), (AGAIN, 2), (NEEDED, 2), (CANCEL, 1)):
        waits = [reserve(ledger, 10, precedence) for _ in range(room + 1)]
        assert waits[:-1] == [0] * room
        assert waits[-1] > 0


def test_a_counter_that_decays(clock: Clock) -> None:
    """Full after fifteen, it has room for one more every three seconds; listings leave it half."""
    counter = Limit(name="counter", amount=15, seconds=45, per="key", decays=True)
    ledger = Ledger(clock)

    def wait(precedence: Precedence = CANCEL, within: float = math.inf) -> float:
        costs = {"counter": 1}
        return ledger.reserve("o", "k", costs, [counter], precedence=precedence, within=within).wait

    assert [wait(OTHER) for _ in range(9)] == pytest.approx([0.0] * 7 + [1.5, 4.5])
    assert [wait() for _ in range(10)] == pytest.approx([0.0] * 8 + [3.0, 6.0])
    assert wait(within=1) == pytest.approx(9.0)  # not counted
    clock.now += 9
    assert [wait(), wait()] == pytest.approx([0.0, 3.0])
    ledger.note_spent("o", "k", {"counter": Spent(15)}, [counter])
    clock.now += 45
    assert wait(OTHER) == 0


def test_the_clock_is_read_with_what_nobody_needs(clock: Clock) -> None:
    """Three looks at public lists in three seconds, whatever is read of the clock beside them."""
    ledger, limit = Ledger(clock), Limit(name="weight", amount=3, seconds=3, of_cancels=False)

    def look(precedence: Precedence = OTHER) -> float:
        return ledger.reserve("o", "", {"weight": 1}, [limit], precedence=precedence).wait

    assert look(PROBE) == 0 < look(PROBE)
    assert look() == look() == 0 < look()
    clock.now += 3.1
    assert look() == 0 < look(PROBE)


def test_what_is_only_good_to_know_takes_a_tenth(clock: Clock) -> None:
    """Of every limit; what a proof needs has room beside it."""
    limit = Limit(name="weight", amount=100, seconds=60)
    ledger = Ledger(clock)

    def look(precedence: Precedence) -> float:
        return ledger.reserve("o", "", {"weight": 10}, [limit], precedence=precedence).wait

    assert look(SPARE) == 0 < look(SPARE)
    assert [look(AGAIN) for _ in range(6)] == [0.0] * 6


def test_cancels_that_wait_keep_their_order(clock: Clock) -> None:
    """Each cancel that has to wait gets a time of its own, none before another that asked first."""
    ledger = Ledger(clock)
    waits = [reserve(ledger, 50) for _ in range(6)]
    assert waits == sorted(waits)
    assert waits[1] == 0 < waits[2] < waits[4]


def test_what_would_come_too_late_is_not_counted(clock: Clock) -> None:
    """A cancel that gives up leaves the room to others."""
    ledger = Ledger(clock)
    assert reserve(ledger, 100) == 0
    for _ in range(5):
        assert (
            ledger.reserve("o", "k", {"weight": 100}, [WEIGHT], precedence=CANCEL, within=1).wait
            > 1
        )
    assert reserve(ledger, 100) < WEIGHT.seconds + 2


def test_limits_of_keys_are_apart(clock: Clock) -> None:
    """What one key spends of its own limit costs another key nothing."""
    ledger = Ledger(clock)
    for _ in range(10):
        ledger.reserve("o", "a", {"orders": 1}, [ORDERS], precedence=CANCEL)
    assert ledger.reserve("o", "a", {"orders": 1}, [ORDERS], precedence=CANCEL).wait > 0
    assert ledger.reserve("o", "b", {"orders": 1}, [ORDERS], precedence=CANCEL).wait == 0


def tell(ledger: Ledger, amount: float, ends_in: float = math.inf) -> None:
    """Have the venue say so, in a header."""
    ledger.note_spent("o", "k", {"weight": Spent(amount, ends_in)}, [WEIGHT])


def listings(ledger: Ledger) -> int:
    """How many listings of weight 1 may leave at once, with no more than the first that may not."""
    return next(n for n in range(1_000) if reserve(ledger, 1, OTHER) > 0)


def test_what_others_spend_slows_down_what_does_not_cancel(clock: Clock) -> None:
    """By what the venue says, until its own window ends; our part of it is not counted twice."""
    ledger = Ledger(clock)
    clock.now += 55.5
    tell(ledger, 20, ends_in=4)
    assert listings(ledger) == 30
    tell(ledger, 50, ends_in=4)  # 30 of it is ours
    tell(ledger, 3, ends_in=4)  # an answer that was overtaken
    assert reserve(ledger, 1, OTHER) == pytest.approx(4)
    clock.now += 4.5
    assert listings(ledger) == 20
    tell(ledger, 20, ends_in=60)  # a minute that has nothing of others
    clock.now += 62
    assert listings(ledger) == 50


def test_a_burst_at_the_end_of_a_minute_ends_with_it(clock: Clock) -> None:
    """Where the end is not known, after the limit's own length at the latest."""
    for ends_in, wait in ((2, 2), (math.inf, 60), (1e9, 60), (-5, 0)):
        ledger = Ledger(clock)
        tell(ledger, 25, ends_in)
        assert listings(ledger) == (50 if wait == 0 else 25)
        if wait:
            clock.now += wait - 0.01
            assert reserve(ledger, 1, OTHER) > 0
            clock.now += 60.1
            assert reserve(ledger, 1, OTHER) == 0


@pytest.mark.parametrize("amount", [99, 100, 101, 1_000, 1e12, math.inf, -1, -1e12])
def test_a_header_alone_refuses_nothing(clock: Clock, amount: float) -> None:
    """Neither a cancel nor the listing that it may need; what the venue wants it says by 429."""
    ledger = Ledger(clock)
    for _ in range(2):
        tell(ledger, amount, ends_in=30)
        assert reserve(ledger, 5, NEEDED) == 0
        assert reserve(ledger, 2) == 0


def test_a_ban_binds_everybody(clock: Clock) -> None:
    """A ban of the origin holds every key back until its end, and nobody longer."""
    ledger = Ledger(clock)
    ledger.block("o", "", 30)
    ledger.block("o", "", 5)
    assert ledger.blocked_for("o", "any") == 30
    assert reserve(ledger, 1) == 30
    assert ledger.blocked_for("elsewhere", "any") == 0
    clock.now += 31
    assert ledger.blocked_for("o", "any") == 0


def test_a_lockout_binds_its_key(clock: Clock) -> None:
    """A lockout of one key leaves the others alone."""
    ledger = Ledger(clock)
    ledger.block("o", "a", 900)
    assert ledger.blocked_for("o", "a") == 900
    assert ledger.blocked_for("o", "b") == 0


def test_warmth_has_its_price() -> None:
    """How many probes a second cost no more than a share of every limit."""
    assert affordable([WEIGHT], {"weight": 1}, 0.05) == pytest.approx(100 / 60 * 0.05)
    assert affordable([WEIGHT], {}, 0.05) == math.inf
    assert affordable([], {"weight": 1}, 0.05) == math.inf


def test_parts_of_a_limit_are_apart(clock: Clock) -> None:
    """What is counted by instrument costs another instrument nothing."""
    ledger = Ledger(clock)

    def cancel(**costs: float) -> float:
        named = {f"orders:{part}": cost for part, cost in costs.items()}
        return ledger.reserve("o", "a", named, [ORDERS], precedence=CANCEL).wait

    most = ORDERS.amount
    assert cancel(btc=most) == cancel(eth=most - 1) == cancel(eth=1) == 0
    assert cancel(btc=1) > 0
    assert cancel(sol=1) == 0
    assert cancel(sol=1, eth=1) > 0
    assert ledger.reserve("o", "a", {"orders": 1}, [ORDERS], precedence=CANCEL).wait == 0


def test_what_waits_no_longer_takes_no_room(clock: Clock) -> None:
    """Whoever gives up, for a ban or for the time, leaves no trace among those that wait."""
    ledger = Ledger(clock)

    def wait(again: Reservation | None = None, within: float = math.inf) -> Reservation:
        return ledger.reserve(
            *("o", "k", {"weight": 10}, [WEIGHT]), precedence=OTHER, within=within, again=again
        )

    for _ in range(5):
        assert wait().wait == 0
    waiting = [wait() for _ in range(20)]
    assert all(room.wait > 0 for room in waiting)
    ledger.block("o", "", 30)
    for room in waiting:
        wait(again=room, within=5).give_back()
    clock.now += WEIGHT.seconds + 2
    assert [wait().wait for _ in range(5)] == [0.0] * 5


def test_those_that_wait_keep_their_place(clock: Clock) -> None:
    """However often they ask again."""
    ledger = Ledger(clock)

    def wait(again: Reservation | None = None) -> Reservation:
        return ledger.reserve(*("o", "k", {"weight": 50}, [WEIGHT]), precedence=OTHER, again=again)

    assert wait().wait == 0
    first, second = wait(), wait()
    wait(again=second)
    wait(again=first)
    clock.now += WEIGHT.seconds + 2
    assert wait(again=second).wait > 0
    assert wait(again=first).wait == 0


def test_what_is_left() -> None:
    """By what was spent within the window, by whom it is counted, and of the fullest part."""
    now = [0.0]
    ledger = Ledger(clock=lambda: now[0])
    limits = (
        Limit(name="weight", amount=100, seconds=10.0),
        Limit(name="cancels", amount=20, seconds=2.0, per="key"),
        Limit(name="counter", amount=10, seconds=10.0, per="key", decays=True),
        Limit(name="asks", amount=5, seconds=1.0, of_cancels=False),
    )

    def left(key: str) -> dict[str, float]:
        return {each.name: each.left for each in ledger.left("here", key, limits)}

    assert left("a") == {"weight": 100, "cancels": 20, "counter": 10, "asks": 5}
    for part, count in (("BTC", 3), ("ETH", 8)):
        costs = {"weight": 10, f"cancels:{part}": count, "counter": 2}
        ledger.reserve("here", "a", costs, limits, precedence=Precedence.CANCEL)
    assert left("a") == {"weight": 80, "cancels": 12, "counter": 6, "asks": 5}
    assert left("b") == {"weight": 80, "cancels": 20, "counter": 10, "asks": 5}
    now[0] = 5.0
    assert left("a") == {"weight": 80, "cancels": 20, "counter": 10, "asks": 5}
    now[0] = 20.0
    assert left("a")["weight"] == 100
    ledger.note_spent("here", "a", {"weight": Spent(60)}, limits)
    assert left("a")["weight"] == 40
    assert [each.name for each in ledger.left("here", "a", limits) if not each.of_cancels] == [
        "asks"
    ]


def test_a_refusal_without_a_wait_is_of_the_fullest_limit(clock: Clock) -> None:
    """A full second's rate keeps a cancel for a part of a second, not for a part of a minute."""
    path = Limit(name="path", amount=10, seconds=1, per="key")
    overall = Limit(name="overall", amount=6_000, seconds=60)
    both, limits = {"path": 1.0, "overall": 1.0}, [overall, path]
    ledger = Ledger(clock)
    for _ in range(10):
        ledger.reserve("o", "k", both, limits, precedence=CANCEL)
    ledger.refused("o", "k", both, limits)
    assert 0 < ledger.reserve("o", "k", both, limits, precedence=CANCEL).wait < 1.2
    other = Ledger(clock)  # what others have spent can't be seen: the shortest is the likeliest
    other.refused("o", "k", both, limits)
    assert 0 < other.reserve("o", "k", both, limits, precedence=CANCEL).wait < 0.5
    full = Ledger(clock)
    for _ in range(600):
        full.reserve("o", "k", {"overall": 10.0}, limits, precedence=CANCEL)
    full.refused("o", "k", both, limits)
    assert full.reserve("o", "k", both, limits, precedence=CANCEL).wait > 10
