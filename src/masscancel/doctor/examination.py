"""The examination of one account: one thing after the other, as one depends on the other."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final

from masscancel.calls import Scope
from masscancel.client import Client
from masscancel.doctor.findings import Checkup, Finding, Status, in_order
from masscancel.doctor.ways import Way, Ways
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    MassCancelError,
    PermissionDenied,
    RateLimited,
    ScopeError,
    StampRefused,
    VenueError,
)
from masscancel.events import AttemptEnded, CallStarted, Event
from masscancel.models import KeyInfo, Permission
from masscancel.transport.clock import ClockReading
from masscancel.transport.reach import Reach
from masscancel.venues.base import Abilities

__all__ = ["Examination"]

#: How far clocks may be apart without a word, in ms; venues whose clocks count whole seconds are
#: off by one of them.
_APART_MS: Final = 2_000
#: A limit of which less is left than this share is worth a word.
_SHORT: Final = 0.5
#: A limit of a shorter window is no limit to think about beforehand, in seconds.
_LASTING: Final = 5.0
#: So long before it expires, a key is worth a word, in seconds.
_SOON: Final = 14 * 86_400
#: The share of the time that is left for a question, so that the ones after it get some, too.
_SHARE: Final = 0.5
#: The time that a question has at least, in seconds.
_LEAST: Final = 0.01

_ASK_ANOTHER_WAY: Final = (
    "examine it with a probe (--probe; in code, probe=True): one order that can't exist is "
    "cancelled then"
)
_MORE_TIME: Final = "give it more time (--timeout)"
_CHECK_NAME: Final = "check the URL of the venue, and the name service of this machine"
_SYNC: Final = "synchronise this machine's clock (NTP)"
_NONCE: Final = (
    "use the key for this alone; or choose the unit that its other programs count nonces in "
    "(nonce_unit), or make a new key"
)
_ADDRESS: Final = (
    "add the address that this machine goes out by to the key's list, or go out by one that is on "
    "it (local_addr, proxy)"
)
_TRADE: Final = "give the key the permission to trade, or take another key"


class Examination:
    """The examination of one account.

    Args:
        client: of the account, entered or not.
        scopes: what a kill would cancel.
        ways: to the venues' origins.
        probe: whether to try whether the key may cancel, where nothing tells.
        streams: whether to log in to streams.
    """

    def __init__(
        self,
        client: Client[Any],
        scopes: Sequence[Scope],
        ways: Ways,
        *,
        probe: bool,
        streams: bool,
    ) -> None:
        self._client = client
        self._venue = client.venue
        self._scopes = scopes
        self._ways = ways
        self._probe = probe
        self._streams = streams
        self._findings: list[Finding] = []

    async def checkup(self) -> Checkup:
        """Look at everything, until the time is up."""
        started = time.monotonic()
        try:
            async with asyncio.timeout_at(self._ways.deadline):
                await self._look()
        except TimeoutError:
            self._add("time", "unknown", "the time was up before all was looked at", _MORE_TIME)
        except MassCancelError as error:
            self._refused(error, "entry")
        except Exception as problem:  # noqa: BLE001  # one account's trouble is its own
            words = f"unexpected {type(problem).__name__}, please report it"
            self._add("entry", "unknown", words)
        return Checkup(
            account=self._client.account,
            venue=self._venue.name,
            findings=in_order(self._findings),
            elapsed=time.monotonic() - started,
        )

    async def _look(self) -> None:
        """Look at one thing after the other; what depends on something that failed is left out."""
        pool = self._client.pool
        async with AsyncExitStack() as stack:
            if not pool.is_open:  # the client's own: a twin may share it
                await stack.enter_async_context(pool)
                self._client = self._client.twin(pool)
            origins = dict.fromkeys(self._origin(scope) for scope in self._scopes)
            ways = await asyncio.gather(
                *(self._ways.to(pool, self._venue.probe(origin)) for origin in origins)
            )
            for origin, way in zip(origins, ways, strict=True):
                self._judge_way(origin, way)
            is_open = {origin for origin, way in zip(origins, ways, strict=True) if way.is_open}
            self._scopes = [each for each in self._scopes if self._origin(each) in is_open]
            if not self._scopes or not await self._enter(stack):
                return
            refusals: list[str] = []
            stack.callback(pool.subscribe(self._noting_refused_nonces(refusals)))
            accepted = await asyncio.gather(*map(self._list, self._scopes))
            categories = dict.fromkeys(
                scope.account_category
                for scope, known in zip(self._scopes, accepted, strict=True)
                if known
            )
            self._judge_nonces(categories, refusals)
            await self._ask_of_the_key([*categories])
            self._judge_limits()
            if self._streams:
                await asyncio.gather(*map(self._log_in, categories))

    def _origin(self, scope: Scope) -> str:
        origin: str = self._venue.origin(scope.account_category)
        return origin

    def _left(self, share: float = 1.0) -> float:
        """A share of the time that is left, in seconds; never nothing, so that a call can fail."""
        return max(self._ways.left() * share, _LEAST)

    def _add(
        self,
        name: str,
        status: Status,
        detail: str,
        advice: str = "",
        *,
        category: str = "",
        error: MassCancelError | None = None,
    ) -> None:
        if error is not None:
            error = error.with_traceback(None)  # nobody needs what its frames hold
        self._findings.append(
            Finding(
                name=name,
                status=status,
                detail=detail,
                advice=advice,
                category=category,
                error=error,
            )
        )

    # --- the way --------------------------------------------------------------------------------

    def _judge_way(self, origin: str, way: Way) -> None:
        if way.reach is not None:
            self._judge_reach(origin, way.reach)
        if way.reading is not None:
            self._judge_clock(origin, way.reading)
        elif way.error is not None:
            words = f"{origin} does not tell the time: {way.error.summary}"
            self._add("clock", "unknown", words, way.error.advice)

    def _judge_reach(self, origin: str, reach: Reach) -> None:
        if reach.ignored_proxy:
            self._add(
                "proxy",
                "warning",
                f"HTTPS_PROXY names {reach.ignored_proxy}, which is not used for {origin}",
                'use it by SessionPool(proxy="env"), or name the host in NO_PROXY',
            )
        if reach.proxy:
            self._add("proxy", "ok", f"{origin} is reached through {reach.proxy}")
        error = reach.error
        if reach.addresses:
            what = "the proxy" if reach.proxy else origin
            self._add("name", "ok", f"{what} is at {', '.join(reach.addresses)}")
        if error is not None:
            found = bool(reach.addresses) or isinstance(error, ConfigurationError)
            name, advice = ("connection", error.advice) if found else ("name", _CHECK_NAME)
            self._add(name, "failed", error.summary, advice, error=error)
        elif reach.connected_in is not None:
            layers = "TCP and TLS" if origin.startswith("https") else "TCP, not encrypted,"
            ms = reach.connected_in * 1000
            self._add("connection", "ok", f"{layers} to {origin} in {ms:.0f} ms")

    def _judge_clock(self, origin: str, reading: ClockReading) -> None:
        apart = abs(reading.ahead_ms) > _APART_MS + reading.trip_ms / 2
        seconds = f"{abs(reading.ahead_ms) / 1000:.1f} s"
        where = "ahead of" if reading.ahead_ms > 0 else "behind"
        self._add(
            "clock",
            "warning" if apart else "ok",
            f"the clock of {origin} is {seconds} {where} this machine's"
            + (": requests follow the venue's, other programs do not" if apart else ""),
            _SYNC if apart else "",
        )

    # --- the key --------------------------------------------------------------------------------

    async def _enter(self, stack: AsyncExitStack) -> bool:
        """Enter the client if it is not; whether it is then."""
        if self._client.is_open:
            return True
        try:
            async with asyncio.timeout(self._left()):
                await stack.enter_async_context(self._client)
        except MassCancelError as error:
            self._refused(error, "entry")
            return False
        except TimeoutError:
            what = "what a cancel needs to know could not be had from the venue within the time"
            self._add("entry", "unknown", what)
            return False
        self._venue = self._client.venue
        return True

    def _noting_refused_nonces(self, refusals: list[str]) -> Callable[[Event], None]:
        """A listener that keeps what was refused at first in categories that have nonces."""
        calls: set[str] = set()

        def note(event: Event) -> None:
            match event:
                case CallStarted(account=self._client.account):
                    if event.scope.account_category in self._venue.nonces:
                        calls.add(event.call_id)
                case AttemptEnded(fate="refused") if event.call_id in calls:
                    refusals.append(event.error)

        return note

    async def _list(self, scope: Scope) -> bool:
        """List the open orders; whether the key is known to the venue."""
        category = scope.account_category
        symbol = scope.symbol or _light(self._venue.ability(category))
        try:
            orders = await self._client.open_orders(
                category, symbol, books=scope.books, timeout=self._left(_SHARE)
            )
        except MassCancelError as error:
            self._refused(error, "key", category)
            foreign = self._venue.foreign_address
            return isinstance(error, PermissionDenied) and error.code not in foreign
        of = f" of {symbol}" if symbol else ""
        found = f"{len(orders)} open order{'s' * (len(orders) != 1)}{of}" if orders else ""
        self._add("key", "ok", f"accepted{'; ' * bool(found)}{found}", category=category)
        return True

    def _refused(self, error: MassCancelError, name: str, category: str = "") -> None:
        """Add what an error says: of the key, of what it is used from, or of nothing."""
        status: Status = "failed"
        advice = error.advice
        if isinstance(error, VenueError) and error.code in self._venue.foreign_address:
            name, advice = "address", _ADDRESS
        elif isinstance(error, StampRefused):
            numbered = category in self._venue.nonces
            name, advice = ("nonces", _NONCE) if numbered else ("clock", _SYNC)
        elif isinstance(error, RateLimited):
            name = "limits"
        elif not isinstance(
            error, AuthenticationError | PermissionDenied | ConfigurationError | ScopeError
        ):
            status = "unknown"  # the venue, or the way to it: it says nothing of the account
        self._add(name, status, error.summary, advice, category=category, error=error)

    def _judge_nonces(self, categories: Iterable[str], refusals: Sequence[str]) -> None:
        for category in categories:
            if category not in self._venue.nonces:
                continue
            if refusals:
                again = f"accepted after {len(refusals)} refusals, as if another program used it"
                self._add("nonces", "warning", again, _NONCE, category=category)
            else:
                self._add("nonces", "ok", "accepted in their order", category=category)

    async def _ask_of_the_key(self, categories: Sequence[str]) -> None:
        """Ask of each origin what the key may do."""
        origins = dict.fromkeys(map(self._client.origin, categories))
        groups = [
            [category for category in categories if self._client.origin(category) == origin]
            for origin in origins
        ]
        infos = await asyncio.gather(*map(self._ask, groups))
        for group, info in zip(groups, infos, strict=True):
            if info is None:
                continue
            await asyncio.gather(
                *(self._judge_right(category, info.cancels[category]) for category in group)
            )
            self._judge_bounds(info)

    async def _ask(self, categories: Sequence[str]) -> KeyInfo | None:
        try:
            return await self._client.key_info(categories, timeout=self._left(_SHARE))
        except MassCancelError as error:
            for category in categories:
                self._add(
                    "may cancel",
                    "unknown",
                    f"{self._venue.title} was asked, and did not tell: {error.summary}",
                    error.advice,
                    category=category,
                    error=error,
                )
            return None

    async def _judge_right(self, category: str, told: Permission) -> None:
        """Say whether the key may cancel in a category; try it, where nothing tells."""
        by, title = "says", self._venue.title
        advice = ""
        if told == "unknown":
            documented = self._has_probe(category)
            if documented and self._probe:
                try:
                    told = await self._client.try_cancel(category, timeout=self._left(_SHARE))
                except MassCancelError as error:
                    self._refused(error, "may cancel", category)
                    return
                by = "said, of an order that can't exist,"
            advice = _ASK_ANOTHER_WAY if documented and not self._probe else ""
        details: dict[Permission, tuple[Status, str]] = {
            "yes": ("ok", f"{title} {by} that the key may"),
            "no": ("failed", f"{title} {by} that the key may not trade, so it can't cancel"),
            "unknown": ("unknown", f"it can't be known from {title} whether the key may"),
        }
        status, detail = details[told]
        denied = PermissionDenied(message=f"{detail}: {category}") if told == "no" else None
        advice = _TRADE if told == "no" else advice
        self._add("may cancel", status, detail, advice, category=category, error=denied)

    def _has_probe(self, category: str) -> bool:
        """Whether the venue documents a cancel that tells; nothing is sent to find that out."""
        flow = self._venue.try_cancel(category, "0" * 32)
        try:
            next(flow)
        except ConfigurationError:
            return False
        finally:
            flow.close()
        return True

    def _judge_bounds(self, info: KeyInfo) -> None:
        """Say from where the key may be used, and until when, as far as the venue tells."""
        if info.addresses is not None:
            bound = f"the key is bound to {', '.join(info.addresses)}"
            self._add("address", "ok", bound if info.addresses else "the key is bound to none")
        if info.expires_at_ms is not None:
            left = info.expires_at_ms / 1000 - time.time()
            soon = left < _SOON
            self._add(
                "expiry",
                "warning" if soon else "ok",
                f"the key expires on {_day(info.expires_at_ms)}",
                "make a new key before, or bind this one to addresses" if soon else "",
            )

    # --- the rest -------------------------------------------------------------------------------

    def _judge_limits(self) -> None:
        """Say what is left of the scarcest limit of each origin, or for how long there is a ban."""
        origins = {self._client.origin(each.account_category): each for each in self._scopes}
        for origin, scope in origins.items():
            category = scope.account_category
            if (blocked := self._client.blocked_for(category)) > 0:
                self._add(
                    "limits",
                    "failed",
                    f"{origin} wants nothing for {blocked:.0f} s",
                    "wait; until then, no cancel goes out to it from this process",
                )
                continue
            rates = [
                each
                for each in self._client.rates_left(category)
                if each.of_cancels and each.seconds >= _LASTING
            ]
            if not rates:
                continue
            rate = min(rates, key=lambda rate: rate.left / rate.amount)
            short = rate.left < rate.amount * _SHORT
            self._add(
                "limits",
                "warning" if short else "ok",
                f"{rate.left:.0f} of {rate.amount:.0f} {rate.name} in {rate.seconds:.0f} s left at "
                f"{origin}",
                "find out what else spends it, from this address or with this key" if short else "",
            )

    async def _log_in(self, category: str) -> None:
        """Log in to the category's stream, where there is one."""
        if not self._venue.ability(category).stream:
            return
        try:
            await self._client.log_in(category, timeout=self._left())
        except MassCancelError as error:
            advice = error.advice or "check the venue's stream URL, and the way to it"
            self._add("stream", "failed", error.summary, advice, category=category, error=error)
        else:
            self._add("stream", "ok", "logged in; updates come", category=category)


def _light(abilities: Abilities) -> str | None:
    """A symbol to list in place of everything, where everything is heavy."""
    symbols = abilities.symbols
    heavy = abilities.whole_account in ("a call per symbol", "one by one")
    return symbols.example if heavy and symbols.pattern.fullmatch(symbols.example) else None


def _day(at_ms: int) -> str:
    """A day of UTC, if a calendar has it."""
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
