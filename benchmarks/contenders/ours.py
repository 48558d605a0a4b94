"""masscancel, as its own documents say to use it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from common import SECRET, Where, key_of

from masscancel import AscendEX, Client, Credentials, SessionPool, Target, cancel_many
from masscancel.models import Via


class Ours:
    """One client, or a thousand that share a pool."""

    via: Via = "rest"

    async def open(self, where: Where) -> None:
        """Enter one client, and open its stream where calls go that way."""
        self._where = where
        watch = () if self.via == "rest" else ("cash",)
        self.client = self.client_of(0, watch=watch)
        await self.client.__aenter__()
        self._many: list[Client[Any]] = []
        if watch:
            await self.client.cancel_all("cash", via="stream")

    def client_of(self, group: int, **options: Any) -> Client[Any]:
        """A client of the account with this group."""
        venue = AscendEX(
            rest_url=self._where.rest, stream_url=self._where.stream, account_group=group
        )
        return Client(Credentials(key_of(group), SECRET), venue=venue, **options)

    async def call(self, symbol: str) -> None:
        """Cancel one symbol."""
        await self.client.cancel_all("cash", symbol, via=self.via)

    async def burst(self, symbols: Sequence[str]) -> None:
        """Cancel all of them at once."""
        await asyncio.gather(*map(self.call, symbols))

    async def clients(self, count: int) -> list[Client[Any]]:
        """So many entered clients that share a pool."""
        if not self._many:
            self._pool = SessionPool()
            await self._pool.__aenter__()
        while len(self._many) < count:
            client = self.client_of(len(self._many), pool=self._pool)
            self._many.append(await client.__aenter__())
        return self._many[:count]

    async def fan_out(self, accounts: int, symbols: Sequence[str]) -> None:
        """Cancel each symbol of each account, 64 at a time."""
        clients = await self.clients(accounts)
        targets = Target.product(clients, ["cash"], symbols)
        report = await cancel_many(targets, concurrency=64, timeout=300)
        report.raise_for_failures()

    async def close(self) -> None:
        """Leave."""
        for client in self._many:
            await client.__aexit__(None, None, None)
        if self._many:
            await self._pool.close()
        await self.client.__aexit__(None, None, None)


class OursStream(Ours):
    """The same, on the websocket."""

    via = "stream"


class OursBoth(Ours):
    """The same, both ways at once."""

    via = "both"
