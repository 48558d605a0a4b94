"""Twins: targets like others, whose clients live in another thread's event loop."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, runtime_checkable

from msgspec.structs import replace

from masscancel.engine.gate import OrderGate
from masscancel.fanout import Cancellable, Target
from masscancel.transport.pool import SessionPool
from masscancel.venues.base import Venue

__all__ = ["Twinned", "twins_of"]


@runtime_checkable
class Twinned(Cancellable, Protocol):
    """A client that another thread can have one like. A :class:`~masscancel.Client` is one."""

    @property
    def venue(self) -> Venue:
        """The venue, whose own switch may cover the target."""

    @property
    def pool(self) -> SessionPool:
        """The pool, of which the thread has one like it."""

    def twin(self, pool: SessionPool | None = None) -> Any:
        """A client of the same account, not entered yet."""

    async def set_switch(
        self,
        account_category: str,
        symbol: str | None = None,
        *,
        timeout_ms: int,
        timeout: float = 5.0,
        gate: OrderGate | None = None,
    ) -> int | None:
        """Arm the venue's own switch."""


@asynccontextmanager
async def twins_of(targets: Iterable[Target]) -> AsyncIterator[list[Target]]:
    """The same targets, of entered clients of this event loop, whose pools are like the originals'.

    They know what the originals had found out (addresses, pairs, ids, the clock), so that nothing
    is looked up. Targets whose client is not :class:`Twinned` are left out.
    """
    async with AsyncExitStack() as stack:
        pools: dict[SessionPool, SessionPool] = {}
        twins: dict[int, Cancellable] = {}
        found = []
        for target in targets:
            client = target.client
            if not isinstance(client, Twinned):
                continue
            if client.pool not in pools:
                pools[client.pool] = await stack.enter_async_context(client.pool.twin())
            if id(client) not in twins:
                twin = client.twin(pools[client.pool])
                twins[id(client)] = await stack.enter_async_context(twin)
            found.append(replace(target, client=twins[id(client)]))
        yield found
