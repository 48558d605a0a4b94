"""The way to an origin: its name, what is in between, the connection."""

import time

import msgspec

from masscancel.errors import MassCancelError
from masscancel.transport.dialer import Dialer
from masscancel.transport.host import Host

__all__ = ["Reach", "trace"]


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How an origin is reached, as far as it was.

    Attributes:
        addresses: what its name was resolved to, or that of the proxy; empty if it was not.
        proxy: where the proxy on the way is; ``""`` where there is none.
        ignored_proxy: where a proxy is that the environment names and nobody uses; ``""`` if none.
        connected_in: how long the connection took, in seconds; ``None`` if there is none.
        error: why there is none.
    """

    addresses: tuple[str, ...] = ()
    proxy: str = ""
    ignored_proxy: str = ""
    connected_in: float | None = None
    error: MassCancelError | None = None


async def trace(origin: str, dialer: Dialer, host: Host) -> Reach:
    """Go the way to an origin; the connection is then kept for cancels."""
    ignored, proxy = dialer.ignored_proxy(origin), None
    addresses: tuple[str, ...] = ()
    took: float | None = None
    error: MassCancelError | None = None
    try:
        proxy = dialer.proxy_of(origin)
        found = await dialer.find(origin)
        addresses = tuple(dict.fromkeys(each[4][0] for each in found))
        began = time.monotonic()
        connection = await host.dial(cancels=True)
        took = time.monotonic() - began
        host.give_back(connection, cancels=True)
    except MassCancelError as problem:
        error = problem.with_traceback(None)
    return Reach(
        addresses=addresses,
        proxy="" if proxy is None else proxy.origin,
        ignored_proxy="" if ignored is None else ignored.origin,
        connected_in=took,
        error=error,
    )
