"""Examine accounts before it matters: what would fail in a kill, and what to do about it.

::

    async with SessionPool() as pool:
        clients = [account.client(pool) for account in Accounts.load()]
        for checkup in await examine_many(clients):
            print(checkup.account, checkup.status)

Nothing is cancelled. With ``probe=True``, where a venue has no way of asking whether a key may
cancel, one order is cancelled that can't exist: see :meth:`~masscancel.Client.try_cancel`.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import msgspec

from masscancel.arguments import check_timeout
from masscancel.calls import Scope
from masscancel.client import Client
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
from masscancel.transport.pool import SessionPool, most_connections
from masscancel.transport.reach import Reach
from masscancel.venues.base import Abilities

__all__ = ["Checkup", "Finding", "descriptors", "examine", "examine_many"]

#: ``"warning"``: nothing fails now, and it is worth a look. ``"unknown"``: it can't be known.
Status: TypeAlias = Literal["ok", "warning", "failed", "unknown"]

#: The names of findings, in the order of what depends on what.
_NAMES: Final = (
    *("proxy", "name", "connection", "clock", "entry", "key", "nonces"),
    *("address", "expiry", "may cancel", "limits", "stream", "descriptors"),
)
#: What a checkup comes to: the first of these that one of its findings has.
_GRAVEST_FIRST: Final[Sequence[Status]] = ("unknown", "failed", "warning", "ok")
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
_LEAST: Final = 0.05

_ASK_ANOTHER_WAY: Final = (
    "examine it with a probe (--probe; in code, probe=True): one order that can't exist is "
    "cancelled then"
)
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


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        name: what: ``"proxy"``, ``"name"``, ``"connection"``, ``"clock"``, ``"entry"``, ``"key"``,
            ``"nonces"``, ``"address"``, ``"expiry"``, ``"may cancel"``, ``"limits"``, ``"stream"``
            or ``"descriptors"``.
        status: ``"ok"``, ``"warning"``, ``"failed"`` or ``"unknown"``.
        detail: what was found.
        advice: what to do about it; ``""`` if nothing.
        category: the account category that it is about; ``""`` for all of the account.
        error: what was raised, if that was it.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""
    category: str = ""
    error: MassCancelError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain data for JSON; nothing in it is secret."""
        return {
            "name": self.name,
            "category": self.category,
            "status": self.status,
            "detail": self.detail,
            "advice": self.advice,
            "error": None if self.error is None else self.error.to_dict(),
        }


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """The findings about one account.

    Attributes:
        account: its label.
        venue: the venue's name.
        findings: in the order of what depends on what.
        elapsed: how long it took, in seconds.
    """

    account: str
    venue: str
    findings: tuple[Finding, ...]
    elapsed: float

    @property
    def status(self) -> Status:
        """The gravest: ``"unknown"``, then ``"failed"``, ``"warning"``, ``"ok"``."""
        found = {finding.status for finding in self.findings}
        return next((each for each in _GRAVEST_FIRST if each in found), "ok")

    @property
    def ok(self) -> bool:
        """Whether nothing would fail, and all of that is known."""
        return self.status in ("ok", "warning")

    def to_dict(self) -> dict[str, Any]:
        """The checkup as plain data for JSON; nothing in it is secret."""
        return {
            "account": self.account,
            "venue": self.venue,
            "ok": self.ok,
            "status": self.status,
            "elapsed": self.elapsed,
            "findings": [finding.to_dict() for finding in self.findings],
        }


async def examine(
    client: Client[Any],
    *,
    scopes: Iterable[Scope] | None = None,
    probe: bool = False,
    streams: bool = True,
    timeout: float = 10.0,
) -> Checkup:
    """Find out what would fail in a kill of an account; nothing is cancelled.

    Args:
        client: of the account. One that is not entered is entered for it, and left; what entering
            fails with is a finding.
        scopes: what a kill would cancel; ``None`` for all of the client's categories. Of a scope
            that takes many requests to list, one symbol is listed.
        probe: whether to cancel one order that can't exist, where the venue has no way of asking
            whether the key may cancel.
        streams: whether to log in to the streams that the venue has. They stay open.
        timeout: seconds from now, for all of it.

    Raises:
        ConfigurationError: the time limit can't be used.
        ScopeError: the venue has no such scope; nothing was sent.
    """
    chosen = _check_scopes(client, scopes)
    examination = _Examination(client, chosen, check_timeout(timeout), probe=probe, streams=streams)
    started = time.monotonic()
    await examination.run()
    return Checkup(
        account=client.account,
        venue=client.venue.name,
        findings=tuple(sorted(examination.findings, key=lambda each: _NAMES.index(each.name))),
        elapsed=time.monotonic() - started,
    )


async def examine_many(
    clients: Iterable[Client[Any]],
    *,
    scopes: Mapping[Client[Any], Iterable[Scope]] = MappingProxyType({}),
    probe: bool = False,
    streams: bool = True,
    timeout: float = 10.0,
    on_checkup: Callable[[Checkup], object] | None = None,
) -> list[Checkup]:
    """Examine many accounts at once; what is wrong with one is a row of its own.

    Args:
        clients: of the accounts, such as those of an accounts file. They may share a pool.
        scopes: what a kill would cancel of each; of one that is not in it, all of its categories.
        probe: as for :func:`examine`.
        streams: likewise.
        timeout: seconds from now, for each and for all.
        on_checkup: is called with each when it is done.

    Returns:
        The checkups, in the clients' order.

    Raises:
        ConfigurationError: as :func:`examine`.
        ScopeError: as :func:`examine`.
    """

    async def one(client: Client[Any]) -> Checkup:
        wanted = scopes.get(client)
        checkup = await examine(
            client, scopes=wanted, probe=probe, streams=streams, timeout=timeout
        )
        if on_checkup is not None:
            on_checkup(checkup)
        return checkup

    return [*await asyncio.gather(*map(one, clients))]


def descriptors(pool: SessionPool, cancels: int) -> Finding:
    """Compare the connections that a kill would have open with what this process may open.

    Args:
        pool: an entered pool, by which the accounts have been examined.
        cancels: how many requests the kill would begin with, at least one for each scope.
    """
    wanted, most = pool.connections_open + cancels, most_connections()
    enough = wanted <= most
    return Finding(
        name="descriptors",
        status="ok" if enough else "warning",
        detail=f"{wanted} connections at once, of {most} that this process may open",
        advice=""
        if enough
        else "the others would wait for those: raise the limit of open files (ulimit -n; under "
        "systemd, LimitNOFILE=)",
    )


def _check_scopes(client: Client[Any], scopes: Iterable[Scope] | None) -> tuple[Scope, ...]:
    wanted = map(Scope, client.categories) if scopes is None else scopes
    chosen = tuple(dict.fromkeys(wanted))
    for scope in chosen:
        client.venue.check_scope(scope)
    return chosen


class _Examination:
    """The examination of one account."""

    def __init__(
        self,
        client: Client[Any],
        scopes: Sequence[Scope],
        timeout: float,
        *,
        probe: bool,
        streams: bool,
    ) -> None:
        self._client = client
        self._venue = client.venue
        self._scopes = scopes
        self._probe = probe
        self._streams = streams
        self._deadline = asyncio.get_running_loop().time() + timeout
        #: So far.
        self.findings: list[Finding] = []

    async def run(self) -> None:
        """Look at one thing after the other; what depends on something that failed is left out."""
        pool = self._client.pool
        async with AsyncExitStack() as stack:
            if not pool.is_open:  # the client's own: a twin may share it
                await stack.enter_async_context(pool)
                self._client = self._client.twin(pool)
            origins = dict.fromkeys(self._origin(scope) for scope in self._scopes)
            ways = await asyncio.gather(*(self._way(pool, origin) for origin in origins))
            reached = {origin for origin, is_open in zip(origins, ways, strict=True) if is_open}
            self._scopes = [each for each in self._scopes if self._origin(each) in reached]
            if not self._scopes or not await self._enter(stack):
                return
            refusals: list[str] = []
            unsubscribe = pool.subscribe(self._noting_refused_nonces(refusals))
            accepted = await asyncio.gather(*map(self._list, self._scopes))
            unsubscribe()
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
        left = self._deadline - asyncio.get_running_loop().time()
        return max(left * share, _LEAST)

    def _add(self, name: str, status: Status, detail: str, advice: str = "", **more: Any) -> None:
        self.findings.append(
            Finding(name=name, status=status, detail=detail, advice=advice, **more)
        )

    # --- the way --------------------------------------------------------------------------------

    async def _way(self, pool: SessionPool, origin: str) -> bool:
        """Look at the way to an origin, and at its clock; whether there is a way."""
        try:
            async with asyncio.timeout_at(self._deadline):
                reach = await pool.reach(origin)
                if reach is not None:
                    self._judge_way(origin, reach)
                if reach is None or reach.error is None:
                    reading = await pool.read_clock(self._venue.probe(origin))
                    self._judge_clock(origin, reading)
        except TimeoutError:
            self._add("clock", "unknown", f"{origin} did not tell the time in time")
        except MassCancelError as error:
            self._add("clock", "unknown", f"{origin} does not tell the time: {error.summary}")
        else:
            return reach is None or reach.error is None
        return True

    def _judge_way(self, origin: str, reach: Reach) -> None:
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
        elif error is not None:
            of_setting = isinstance(error, ConfigurationError)
            name = "connection" if of_setting else "name"
            advice = error.advice if of_setting else _CHECK_NAME
            self._add(name, "failed", error.summary, advice, error=error)
            return
        if error is not None:
            self._add("connection", "failed", error.summary, error.advice, error=error)
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
