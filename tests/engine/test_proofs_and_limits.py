"""Proofs that go on for an hour, against a venue that counts: played without sockets, by one clock.

The proof, the ledger and the venue's own costs are the client's; what refuses is the simulator's.
"""

import heapq
import random
from collections.abc import Generator
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from confirm_support import order
from masscancel import Credentials
from masscancel.calls import Call, Flow, Precedence, Scope, Stamp
from masscancel.engine.proof import Do, Proof
from masscancel.sim import BinanceLimits, KrakenLimits, Limiter, Request
from masscancel.transport.ledger import Ledger
from masscancel.venues import Binance, Kraken
from masscancel.venues.base import Venue

pytestmark = pytest.mark.unmeasured

#: A playing account is resumed at the times that it yields.
Playing = Generator[float, None, None]

HOUR = 3600.0
BINANCE = Binance(spot_url="https://spot.invalid", usdm_url="https://usdm.invalid")


class Hour:
    """Accounts at one address, each with a proof of orders that never go; one clock for all.

    Args:
        venue: whose calls these are.
        category: the account category.
        latency: the longest that a request is on its way, and its answer likewise, in seconds.
    """

    def __init__(self, venue: Venue, category: str, latency: float = 0.0) -> None:
        self.now = 1_800_000_000.0
        self.venue = venue
        self.category = category
        self.origin = venue.origin(category)
        self.ledger = Ledger(lambda: self.now)
        kind = BinanceLimits if isinstance(venue, Binance) else KrakenLimits
        self.limits: Limiter = kind(clock=lambda: self.now)
        self.sweeps: list[list[float]] = []
        self.longest_wait = 0.0
        self.sent = 0
        self._latency = latency
        self._rng = random.Random(1)

    def play(self, accounts: int, seconds: float) -> None:
        """Let so many accounts prove for so long; they begin at once."""
        ends = self.now + seconds
        due = [(self.now, number, self._prove(number, ends)) for number in range(accounts)]
        self.sweeps = [[] for _ in range(accounts)]
        while due:
            self.now, number, playing = heapq.heappop(due)
            if (at := next(playing, None)) is not None:
                heapq.heappush(due, (max(at, self.now), number, playing))

    def _prove(self, number: int, ends: float) -> Playing:
        proof = Proof(settle=0.5, deadline=ends)
        scope = Scope(self.category)
        listing = self._calls(self.venue.open_orders(scope))
        symbol = "BTCUSDT" if isinstance(self.venue, Binance) else None
        first = listing if symbol else []
        cancels = self._calls(self.venue.cancel_all(Scope(self.category, symbol), None))
        while self.now < ends:
            step = proof.step(self.now)
            if step.do is Do.SWEEP:
                proof.sweeping(self.now)
                began = self.now
                yield from self._send(number, first, ends)
                self.sweeps[number].append(began)
                asked = self.now
                yield from self._send(number, cancels, ends)
                self.longest_wait = max(self.longest_wait, self.now - asked)
                proof.swept(self.now)
            elif step.do is Do.LIST:
                began = self.now
                yield from self._send(number, listing, ends)
                proof.listed(began, self.now, [order()])
            else:
                yield step.until

    def _calls(self, flow: Flow[object]) -> list[Call[object]]:
        return [part for part in next(flow) if isinstance(part, Call)]

    def _send(self, number: int, calls: list[Call[object]], ends: float) -> Playing:
        """Send calls one after another, each when the ledger has room."""
        keys = Credentials(f"key-{number}", "c2VjcmV0")
        for call in calls:
            costs, limits = call.costs, self.venue.limits(self.origin)
            precedence = Precedence.CANCEL if call.cancels else Precedence.AGAIN
            room = None
            while True:
                room = self.ledger.reserve(
                    *(self.origin, keys.api_key, costs, limits), precedence=precedence, again=room
                )
                if room.wait:
                    yield self.now + room.wait
                if room.counted or self.now >= ends:
                    break
            self.sent += 1
            yield self.now + self._rng.uniform(0, self._latency)
            request = call.sign(call, keys, Stamp(int(self.now * 1000), 0, self.sent))
            headers = {name.lower(): value for name, value in request.headers.items()}
            target = urlsplit(request.target)
            arrived = Request(
                method=request.method,
                raw_path=f"{target.path}?{target.query}",
                headers=headers,
                body=request.body,
                remote="10.0.0.1",
            )
            self.limits.admit(arrived)
            yield self.now + self._rng.uniform(0, self._latency)


class Flood(Hour):
    """The same of accounts that cancel again and again, as fast as their limits allow."""

    def _prove(self, number: int, ends: float) -> Playing:
        symbol = "BTCUSDT" if isinstance(self.venue, Binance) else None
        cancels = self._calls(self.venue.cancel_all(Scope(self.category, symbol), None))
        while self.now < ends:
            yield from self._send(number, cancels, ends)


CASES = [
    pytest.param(BINANCE, "spot", 12, id="binance-spot"),
    pytest.param(BINANCE, "usdm", 12, id="binance-usdm"),
    pytest.param(Kraken(tier="starter"), "spot", 2, id="kraken-spot"),
    pytest.param(Kraken(), "futures", 2, id="kraken-futures"),
]


@pytest.mark.sample("venue.name", "category", "latency")
@pytest.mark.parametrize("latency", [0.0, 0.3])
@pytest.mark.parametrize(("venue", "category", "accounts"), CASES)
def test_an_hour_of_proofs_is_never_refused(
    venue: Venue, category: str, accounts: int, latency: float
) -> None:
    """Accounts on one address, orders that stay: the venue refuses nothing, no cancel waits."""
    hour = Hour(venue, category, latency)
    hour.play(accounts, HOUR)
    assert not hour.limits.refusals
    assert hour.longest_wait <= 4 * latency  # two cancels, there and back


@pytest.mark.sample("category")
@pytest.mark.parametrize(
    ("category", "latency"),
    [
        ("spot", 0.0),
        ("spot", 0.3),
        ("usdm", 0.3),
    ],
)
def test_every_account_gets_its_turn(category: str, latency: float) -> None:
    """Where the address's limit leaves room for a few accounts at a time, none goes without."""
    hour = Hour(BINANCE, category, latency)
    hour.play(12, HOUR)
    assert min(len(sweeps) for sweeps in hour.sweeps) >= 20


@pytest.mark.parametrize(("venue", "category", "accounts"), CASES)
def test_what_stays_is_swept_less_and_less_often(
    venue: Venue, category: str, accounts: int
) -> None:
    """A second after the first sweep, then two, then every four, or as seldom as the limit wants.

    Ten seconds of it cost less than half of the address's minute.
    """
    hour = Hour(venue, category)
    hour.play(1, 10.0)
    gaps = [round(later - earlier, 1) for earlier, later in pairwise(hour.sweeps[0])]
    assert gaps == sorted(gaps)
    assert 1 <= len(gaps) <= 5
    if isinstance(hour.limits, BinanceLimits):
        side, amount = ("/api", 6_000) if category == "spot" else ("/fapi", 2_400)
        assert hour.limits.spent(side, "10.0.0.1") < amount / 2


@pytest.mark.sample("venue.name", "category")
@pytest.mark.parametrize(("venue", "category", "accounts"), CASES)
def test_cancels_at_the_full_rate_are_not_refused(
    venue: Venue, category: str, accounts: int
) -> None:
    """Cancels may use the whole of a limit; what arrives as it left does not go above it."""
    flood = Flood(venue, category)
    flood.play(accounts, 150.0)
    assert not flood.limits.refusals
    assert flood.sent > 50


def test_a_way_that_varies_takes_no_cancel_above_the_limit() -> None:
    """Up to 20 ms there: one that left late and arrived soon falls into the window before."""
    flood = Flood(Kraken(), "futures", latency=0.02)
    flood.play(1, 60.0)
    assert not flood.limits.refusals
