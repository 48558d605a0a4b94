"""Resolve names in threads of our own, and remember what was found."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

__all__ = ["Address", "Resolver"]

log = logging.getLogger("masscancel")

#: As ``socket.getaddrinfo`` gives them.
Address: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
_Key: TypeAlias = tuple[str, int, int]

_MOST_NAMES: Final = 1_024


class _Known:
    """The addresses of a name, and until when they are fresh, in the loop's time."""

    __slots__ = ("addresses", "fresh_until")

    def __init__(self, addresses: list[Address], fresh_until: float) -> None:
        self.addresses = addresses
        self.fresh_until = fresh_until


class _Lookup:
    """A lookup on its way, which any number of callers share."""

    __slots__ = ("future", "started")

    def __init__(self, future: asyncio.Future[list[Address]], started: float) -> None:
        self.future = future
        self.started = started


class Resolver:
    """Addresses of names, for one event loop.

    Each lookup has a daemon thread of its own: the event loop's default threads may all be taken by
    the caller's work, and one that hangs keeps neither the loop nor the process from ending. One
    name is looked up once at a time.

    Args:
        ttl: for how long addresses are used without another lookup, in seconds.
        patience: how long a lookup may take before the last known addresses are used, in seconds.
        lookup: what asks the name service; as ``socket.getaddrinfo``.
    """

    def __init__(
        self,
        *,
        ttl: float = 60.0,
        patience: float = 0.5,
        lookup: Callable[..., Any] = socket.getaddrinfo,
    ) -> None:
        self._ttl = ttl
        self._patience = patience
        self._lookup = lookup
        self._known: dict[_Key, _Known] = {}
        self._lookups: dict[_Key, _Lookup] = {}

    async def resolve(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> list[Address]:
        """Return the addresses of a host; the last known ones if the name service fails.

        Args:
            host: a name, or an address, which needs no lookup.
            port: is put into the addresses.
            family: which kind of address.

        Raises:
            OSError: there is no such name, or no answer and nothing is known.
        """
        if _is_address(host):
            return _numeric(host, port, family)
        key = host, port, family
        known = self._known.get(key)
        now = asyncio.get_running_loop().time()
        if known is not None and now < known.fresh_until:
            return known.addresses
        try:
            lookup = self._lookups.get(key) or self._start(key, now)
            if known is None:
                return await asyncio.shield(lookup.future)
            async with asyncio.timeout(lookup.started + self._patience - now):
                return await asyncio.shield(lookup.future)
        except OSError:  # a TimeoutError is one
            if known is None:
                raise
            log.debug("the name service does not answer for %s: using the last addresses", host)
            return known.addresses

    def forget(self, host: str) -> None:
        """Look the host up again at the next call: its addresses could not be reached.

        They are still used if the name service fails then.
        """
        for (name, _, _), known in self._known.items():
            if name == host:
                known.fresh_until = 0.0

    def learn(self, other: "Resolver") -> None:
        """Know what another resolver knows, which may be another thread's; look nothing up now."""
        fresh_until = time.monotonic() + self._ttl
        for key, known in [*other._known.items()]:  # noqa: SLF001  # of the same kind
            self._known[key] = _Known(known.addresses, fresh_until)

    def close(self) -> None:
        """Wait for no lookup any more."""
        lookups, self._lookups = self._lookups, {}
        for lookup in lookups.values():
            _fail(lookup, OSError(None, "names are not resolved any more"))

    def _start(self, key: _Key, now: float) -> _Lookup:
        loop = asyncio.get_running_loop()
        lookup = _Lookup(loop.create_future(), now)
        thread = threading.Thread(
            target=self._run, args=(key, loop), name=f"masscancel names {key[0]}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as problem:  # no further thread, or the process is ending
            raise OSError(None, "no thread is left to resolve the name") from problem
        self._lookups[key] = lookup
        return lookup

    def _run(self, key: _Key, loop: asyncio.AbstractEventLoop) -> None:
        """Ask the name service, in a thread."""
        host, port, family = key
        done: Callable[[], None]
        try:
            found = self._lookup(host, port, family=family, type=socket.SOCK_STREAM)
            done = partial(self._found, key, list(found))
        except Exception as problem:  # noqa: BLE001  # whoever awaits the lookup handles it
            done = partial(self._failed, key, problem)
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(done)

    def _found(self, key: _Key, addresses: list[Address]) -> None:
        if not addresses:
            self._failed(key, OSError(None, "the name has no address"))
            return
        if len(self._known) >= _MOST_NAMES:
            self._known.clear()
        now = asyncio.get_running_loop().time()
        self._known[key] = _Known(addresses, now + self._ttl)
        lookup = self._lookups.pop(key, None)
        if lookup is not None and not lookup.future.done():
            lookup.future.set_result(addresses)

    def _failed(self, key: _Key, problem: Exception) -> None:
        lookup = self._lookups.pop(key, None)
        if lookup is not None:
            if not isinstance(problem, OSError):  # such as a name that can't be encoded
                problem = OSError(None, f"the name can't be resolved, {type(problem).__name__}")
            _fail(lookup, problem)


def _fail(lookup: _Lookup, problem: OSError) -> None:
    if not lookup.future.done():
        lookup.future.set_exception(problem)
        lookup.future.exception()  # nobody may be awaiting it any more


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _numeric(host: str, port: int, family: int) -> list[Address]:
    found = socket.getaddrinfo(
        host, port, family, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    return list(found)
