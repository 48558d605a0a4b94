"""The limits of the simulated venues: what each request weighs, who is refused, who is banned.

Written from the venues' documents alone, apart from what the client counts, so that the two can
disagree. Where a document leaves something open, the strictest reading is taken; what it does not
tell at all, such as after how many refusals a ban comes, is an option.

Binance: "IP Limits" of `rest-api.md`, "Rate limiters" of `enums.md`, -1003 of `errors.md`, and the
weight on each endpoint's page; "General Info" and the pages of USDⓈ-M futures. Kraken: "Spot REST
Rate Limits", "Derivatives Rate Limits", "Error messages", and the support page "What are the API
rate limits?".
"""

from __future__ import annotations

import math
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from masscancel.sim.dialect import JSON_HEADERS, Reply, Request, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from masscancel.sim.dialect import Dialect

_MINUTE: Final = 60.0
_DAY: Final = 86_400.0
_REMEMBERED: Final = 100_000


class Refusal(msgspec.Struct, frozen=True):
    """A request that was refused.

    `at` and `until` are seconds by the limiter's clock; `whom` is the address or key whose limit it
    was. `after_ban` says whether it came while its sender had been told to wait.
    """

    at: float
    whom: str
    method: str
    path: str
    until: float
    after_ban: bool = False


class Limiter(Protocol):
    """A venue's limits.

    `refusals` are the latest, in the order of arrival; `after_ban` counts the requests that came
    while their sender had been told to wait.
    """

    refusals: deque[Refusal]
    after_ban: int

    def admit(self, request: Request) -> Reply | None:
        """Count a request that has arrived; the refusal, if it is refused."""
        ...

    def settle(self, request: Request, reply: Reply) -> Reply:
        """Take back what an answered request turned out not to cost; add what replies tell."""
        ...


class _Refusals:
    """The refusals of a venue, for every limiter."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.refusals: deque[Refusal] = deque(maxlen=_REMEMBERED)
        self.after_ban = 0
        self._clock = clock

    def _note(self, request: Request, whom: str, until: float, *, after_ban: bool) -> None:
        self.after_ban += after_ban
        self.refusals.append(
            Refusal(self._clock(), whom, request.method, request.path, until, after_ban)
        )


# --- Binance --------------------------------------------------------------------------------------


class _Weight(msgspec.Struct, frozen=True):
    """What an endpoint weighs: of one symbol, and without a symbol."""

    one: int
    every: int


_LIGHT: Final = _Weight(1, 1)
_WEIGHTS: Final = {
    ("GET", "/api/v3/openOrders"): _Weight(6, 80),
    ("GET", "/api/v3/order"): _Weight(4, 4),
    ("GET", "/api/v3/exchangeInfo"): _Weight(20, 20),
    ("GET", "/fapi/v1/openOrders"): _Weight(1, 40),
    ("GET", "/fapi/v1/openAlgoOrders"): _Weight(1, 40),
    ("POST", "/fapi/v1/countdownCancelAll"): _Weight(10, 10),
}
"""Those that weigh more than 1."""
_FREE_IF_ANSWERED: Final = frozenset({("DELETE", "/api/v3/openOrders")})
"""What costs nothing when it succeeds, since 2026-04-02 (`CHANGELOG.md`)."""


class _Rate(msgspec.Struct, frozen=True):
    """So much in each interval; intervals begin at whole multiples of their length.

    "A 1 MINUTE interval starts every minute": `rate-limits` of the websocket API.
    """

    amount: float
    seconds: float


_WEIGHT_RATES: Final = {"/api": _Rate(6_000, _MINUTE), "/fapi": _Rate(2_400, _MINUTE)}
"""REQUEST_WEIGHT, by address."""
_RAW_RATES: Final = {"/api": _Rate(61_000, 5 * _MINUTE)}
"""RAW_REQUESTS, by address."""
_SHORTEST_BAN: Final = 2 * _MINUTE
_LONGEST_BAN: Final = 3 * _DAY


class _Interval:
    """What has been spent in the interval that is now."""

    def __init__(self, rate: _Rate) -> None:
        self.rate = rate
        self.spent = 0.0
        self.number = -1

    def spend(self, cost: float, now: float) -> float:
        """Count so much; returns what has been spent in the interval by then."""
        number = math.floor(now / self.rate.seconds)
        if number != self.number:
            self.number, self.spent = number, 0.0
        self.spent += cost
        return self.spent

    def ends(self) -> float:
        """When it ends."""
        return (self.number + 1) * self.rate.seconds


class _Address:
    """An address, as one of the sides knows it."""

    def __init__(self, side: str, share: float) -> None:
        weight = _WEIGHT_RATES[side]
        self.weight = _Interval(_Rate(weight.amount * share, weight.seconds))
        raw = _RAW_RATES.get(side)
        self.raw = _Interval(raw) if raw else None
        self.told_until = -math.inf  # by a 429
        self.banned_until = -math.inf
        self.offences = 0  # since the last ban
        self.offended_at = -math.inf
        self.bans = 0


class BinanceLimits(_Refusals):
    """The limits of spot and of USDⓈ-M futures, which count by address and each for itself.

    A request above the limit is refused by 429, with the seconds until the interval ends in
    `Retry-After`; so is every further one until then. The `forbearance`-th of those is answered by
    418: the address is banned, for two minutes the first time, twice as long each further time, for
    three days at most. Offences are forgotten after a day without one. Refused requests count, as
    in the documents' own sample (`"limit": 1200, "count": 2411`).

    Args:
        clock: the time in seconds; minutes begin at its whole multiples of 60.
        share: a share of the documented weights per minute to go by, for short tests.
        forbearance: how many requests above a limit are answered by 429 before the ban.
    """

    def __init__(
        self, *, clock: Callable[[], float], share: float = 1.0, forbearance: int = 10
    ) -> None:
        super().__init__(clock)
        self._share = share
        self._forbearance = forbearance
        self._addresses: dict[tuple[str, str], _Address] = {}

    def spend(self, side: str, weight: float, address: str = "127.0.0.1") -> None:
        """Spend weight as another program at the address does; `side` is "/api" or "/fapi"."""
        self._address(side, address).weight.spend(weight, self._clock())

    def ban(self, side: str, address: str = "127.0.0.1") -> float:
        """Ban an address; returns when that ends."""
        known = self._address(side, address)
        seconds = min(_SHORTEST_BAN * 2**known.bans, _LONGEST_BAN)
        known.bans += 1
        known.offences = 0
        known.banned_until = known.offended_at = self._clock() + seconds
        return known.banned_until

    def spent(self, side: str, address: str = "127.0.0.1") -> float:
        """What has been spent in this minute."""
        return self._address(side, address).weight.spend(0, self._clock())

    def admit(self, request: Request) -> Reply | None:
        """Count a request; refuse it by 429 or 418."""
        now, side = self._clock(), _side(request)
        known = self._address(side, request.remote)
        if now < known.banned_until:
            return self._refuse(request, 418, known.banned_until, after_ban=True)
        above = [
            interval
            for interval, cost in ((known.weight, _weight(request)), (known.raw, 1))
            if interval is not None and interval.spend(cost, now) > interval.rate.amount
        ]
        if not above:
            return None
        if now - known.offended_at > _DAY:
            known.offences = known.bans = 0
        known.offences += 1
        known.offended_at = now
        told = now < known.told_until
        if known.offences > self._forbearance:
            return self._refuse(request, 418, self.ban(side, request.remote), after_ban=told)
        known.told_until = max(interval.ends() for interval in above)
        return self._refuse(request, 429, known.told_until, after_ban=told)

    def settle(self, request: Request, reply: Reply) -> Reply:
        """Tell the weight that has been spent in this minute, as every reply does."""
        weight = self._address(_side(request), request.remote).weight
        free = (request.method, request.path) in _FREE_IF_ANSWERED and reply.status == 200  # noqa: PLR2004  # HTTP's own
        spent = weight.spend(-_weight(request) if free else 0, self._clock())
        told = ("X-MBX-USED-WEIGHT-1M", str(max(0, round(spent))))
        return msgspec.structs.replace(reply, headers=(*reply.headers, told))

    def _address(self, side: str, address: str) -> _Address:
        known = self._addresses.get((side, address))
        if known is None:
            known = self._addresses[side, address] = _Address(side, self._share)
        return known

    def _refuse(self, request: Request, status: int, until: float, *, after_ban: bool) -> Reply:
        left = until - self._clock()
        self._note(request, request.remote, until, after_ban=after_ban)
        if status == 418:  # noqa: PLR2004  # as documented
            ends_ms = request.moment.venue_ms + math.ceil(left * 1000)
            text = f"Way too much request weight used; IP banned until {ends_ms}. Please use "
            text += "WebSocket Streams for live updates to avoid bans."
        else:
            most = round(_WEIGHT_RATES[_side(request)].amount * self._share)
            text = f"Too much request weight used; current limit is {most} request weight per "
            text += "1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the "
            text += "API."
        body = msgspec.json.encode({"code": -1003, "msg": text})
        return Reply(status, body, (*JSON_HEADERS, ("Retry-After", str(math.ceil(left)))))


def _side(request: Request) -> str:
    return "/fapi" if request.path.startswith("/fapi/") else "/api"


def _weight(request: Request) -> int:
    weight = _WEIGHTS.get((request.method, request.path), _LIGHT)
    return weight.one if "symbol" in request.query else weight.every


# --- Kraken ---------------------------------------------------------------------------------------

_TIERS: Final = {"starter": (15, 0.33), "intermediate": (20, 0.5), "pro": (20, 1.0)}
"""What a key's counter holds at most, and by how much it falls a second."""
_ENGINE_ONLY: Final = frozenset({"AddOrder", "CancelOrder", "CancelOrderBatch"})
"""What only the matching engine limits. The document names the first two; the third is one of the
calls that "Spot Trading Limits" counts, by the order."""
_HISTORY: Final = frozenset({"Ledgers", "QueryLedgers", "TradesHistory", "QueryTrades"})
_LOCKOUT: Final = 15 * _MINUTE
_POOL: Final = _Rate(500, 10.0)
_COSTS: Final = {
    **dict.fromkeys(("sendorder", "editorder", "cancelorder", "transfer"), 10),
    **dict.fromkeys(("accounts", "openpositions", "fills", "openorders"), 2),
    **dict.fromkeys(("cancelallorders", "cancelallordersafter"), 25),
    "orders/status": 1,
}
"""What endpoints of futures cost; public ones cost nothing."""


class _Counter:
    """A key's counter on spot: it falls by one at a time, "every couple of seconds".

    The steps come at whole multiples of their length, whenever the counter began to rise.
    """

    def __init__(self, most: float, per_second: float) -> None:
        self._most = most
        self._step = 1 / per_second
        self._level = 0.0
        self._number = 0
        self.refused = 0  # in a row
        self.locked_until = -math.inf

    def level(self, now: float) -> float:
        """Where it is."""
        number = math.floor(now / self._step)
        self._level = max(0.0, self._level - (number - self._number))
        self._number = number
        return self._level

    def rise(self, cost: float, now: float) -> bool:
        """Let it rise; whether it is above the most then."""
        self._level = self.level(now) + cost
        return self._level > self._most

    def has_room_at(self, now: float) -> float:
        """When there will be room for one more."""
        steps = max(0, math.ceil(self.level(now) + 1 - self._most))
        return (self._number + steps) * self._step if steps else now


class KrakenLimits(_Refusals):
    """The limits of both sides: of each key a counter on spot, a pool of 500 in 10 s on futures.

    On spot every call raises the key's counter, by 2 where it asks for history; one that lifts it
    above the most is refused by `EAPI:Rate limit exceeded`. Refused calls count: "additional calls
    will be restricted for a few seconds (or possibly longer if calls continue to be made while the
    rate limits are active)". After `forbearance` in a row the key is locked out for fifteen
    minutes (`EGeneral:Temporary lockout`), which each further call begins anew. Public calls are
    limited by address: one a second, `public_burst` at once.

    On futures, no stretch of ten seconds may hold more than 500 of what was accepted.

    Args:
        clock: the time in seconds.
        tier: of all accounts: "starter", "intermediate" or "pro".
        forbearance: how many calls in a row are refused before the lockout.
        public_burst: how many public calls may come at once; the documents do not say.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        tier: str = "starter",
        forbearance: int = 10,
        public_burst: int = 5,
    ) -> None:
        super().__init__(clock)
        self._tier = _TIERS[tier]
        self._forbearance = forbearance
        self._public_burst = public_burst
        self._counters: dict[str, _Counter] = {}
        self._public: dict[str, _Counter] = {}
        self._pools: dict[str, deque[tuple[float, float]]] = {}

    def lock_out(self, api_key: str) -> float:
        """Lock a key of spot out; returns when that ends."""
        counter = self._counter(api_key)
        counter.locked_until = self._clock() + _LOCKOUT
        return counter.locked_until

    def spend(self, api_key: str, calls: int) -> None:
        """Make so many calls of spot, as another program with the key does."""
        self._counter(api_key).rise(calls, self._clock())

    def spend_pool(self, api_key: str, cost: float) -> None:
        """Spend so much of futures, as another program with the key does."""
        self._pools.setdefault(api_key, deque()).append((self._clock(), cost))

    def level(self, api_key: str) -> float:
        """Where a key's counter is."""
        return self._counter(api_key).level(self._clock())

    def admit(self, request: Request) -> Reply | None:
        """Count a request; refuse it in the words of its side."""
        root, _, what = request.path.partition("/private/")
        if root == "/0":
            return self._admit_private(request, what)
        if request.path.startswith("/0/public/"):
            return self._admit_public(request)
        return self._admit_derivatives(request)

    def settle(self, _request: Request, reply: Reply) -> Reply:
        """Replies tell nothing of it."""
        return reply

    def _admit_private(self, request: Request, what: str) -> Reply | None:
        now, key = self._clock(), _key(request)
        counter = self._counter(key)
        if now < counter.locked_until:
            self._note(request, key, self.lock_out(key), after_ban=True)
            return json_reply({"error": ["EGeneral:Temporary lockout"]})
        if what in _ENGINE_ONLY:
            return None
        if not counter.rise(2 if what in _HISTORY else 1, now):
            counter.refused = 0
            return None
        counter.refused += 1
        if counter.refused > self._forbearance:
            self._note(request, key, self.lock_out(key), after_ban=False)
            return json_reply({"error": ["EGeneral:Temporary lockout"]})
        self._note(request, key, counter.has_room_at(now), after_ban=False)
        return json_reply({"error": ["EAPI:Rate limit exceeded"]})

    def _admit_public(self, request: Request) -> Reply | None:
        now, address = self._clock(), request.remote
        counter = self._public.setdefault(address, _Counter(self._public_burst, 1.0))
        if not counter.rise(1, now):
            return None
        self._note(request, address, counter.has_room_at(now), after_ban=False)
        return json_reply({"error": ["EGeneral:Too many requests"]})

    def _admit_derivatives(self, request: Request) -> Reply | None:
        now, key = self._clock(), _key(request)
        cost = _COSTS.get(request.path.partition("/api/v3/")[2], 0) if key else 0
        pool = self._pools.setdefault(key, deque())
        while pool and pool[0][0] <= now - _POOL.seconds:
            pool.popleft()
        if sum(each for _, each in pool) + cost <= _POOL.amount:
            if cost:
                pool.append((now, cost))
            return None
        self._note(request, key, pool[0][0] + _POOL.seconds, after_ban=False)
        at = datetime.fromtimestamp(request.moment.venue_ms / 1000, UTC)
        server_time = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
        return json_reply(
            {"result": "error", "error": "apiLimitExceeded", "serverTime": server_time}
        )

    def _counter(self, api_key: str) -> _Counter:
        counter = self._counters.get(api_key)
        if counter is None:
            counter = self._counters[api_key] = _Counter(*self._tier)
        return counter


def _key(request: Request) -> str:
    return request.headers.get("api-key") or request.headers.get("apikey", "")


def limiter_of(dialect: Dialect, clock: Callable[[], float]) -> Limiter:
    """Make the limiter of a venue. Raises `ValueError` if its limits are not known here."""
    if dialect.name == "binance":
        return BinanceLimits(clock=clock)
    if dialect.name == "kraken":
        return KrakenLimits(clock=clock)
    raise ValueError(f"the limits of {dialect.name} are not simulated")
