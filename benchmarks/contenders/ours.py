"""masscancel, as its own documents say to use it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from common import SECRET, Where, key_of

from masscancel import AscendEX, Client, Credentials, SessionPool, Target, cancel_many
from masscancel.models import Via


class Ours:
    """One client, or a thousand that share its pool."""

    via: Via = "rest"
    burst_size = 0

    async def open(self, where: Where) -> None:
        """Enter one client, and open its stream where calls go that way."""
        self._where = where
        self._pool = SessionPool(ssl_context=where.context, burst=self.burst_size)
        await self._pool.__aenter__()
        self._clients: list[Client[Any]] = []
        (self.client,) = await self._entered(1)
        if self.via != "rest":
            await self.client.cancel_all("cash", via="stream")

    async def _entered(self, count: int) -> list[Client[Any]]:
        """So many clients, each of an account of its own."""
        where = self._where
        while (group := len(self._clients)) < count:
            venue = AscendEX(rest_url=where.rest, stream_url=where.stream, account_group=group)
            client = Client(Credentials(key_of(group), SECRET), venue=venue, pool=self._pool)
            self._clients.append(await client.__aenter__())
        return self._clients[:count]

    async def call(self, symbol: str) -> None:
        """Cancel one symbol."""
        await self.client.cancel_all("cash", symbol, via=self.via)

    async def burst(self, symbols: Sequence[str]) -> None:
        """Cancel all of them at once."""
        await asyncio.gather(*map(self.call, symbols))

    async def fan_out(self, accounts: int, symbols: Sequence[str]) -> None:
        """Cancel each symbol of each account."""
        targets = Target.product(await self._entered(accounts), ["cash"], symbols)
        report = await cancel_many(targets, timeout=300)
        report.raise_for_failures()

    async def close(self) -> None:
        """Leave."""
        for client in self._clients:
            await client.__aexit__(None, None, None)
        await self._pool.close()


class OursReady(Ours):
    """The same, with as many connections kept warm as a burst needs."""

    burst_size = 64


class OursStream(Ours):
    """The same, on the websocket."""

    via = "stream"


class OursBoth(Ours):
    """The same, both ways at once."""

    via = "both"
