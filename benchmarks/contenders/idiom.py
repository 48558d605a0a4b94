"""Idiomatic aiohttp: what one writes in ten minutes. No protection of any kind."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Sequence

import aiohttp
from common import SECRET, Where, key_of


class Idiom:
    """One ``ClientSession`` with its defaults."""

    async def open(self, where: Where) -> None:
        """Open the session."""
        self._rest = where.rest
        connector = aiohttp.TCPConnector(ssl=where.context or True)
        self._session = aiohttp.ClientSession(connector=connector)

    async def call(self, symbol: str, group: int = 0) -> None:
        """Cancel one symbol of one account."""
        timestamp = str(int(time.time() * 1000))
        mac = hmac.new(SECRET.encode(), f"{timestamp}+order/all".encode(), hashlib.sha256)
        headers = {
            "x-auth-key": key_of(group),
            "x-auth-timestamp": timestamp,
            "x-auth-signature": base64.b64encode(mac.digest()).decode(),
        }
        url = f"{self._rest}/{group}/api/pro/v1/cash/order/all"
        async with self._session.delete(url, headers=headers, json={"symbol": symbol}) as reply:
            answer = await reply.json()
        assert answer["code"] == 0

    async def burst(self, symbols: Sequence[str]) -> None:
        """Cancel all of them at once."""
        await asyncio.gather(*map(self.call, symbols))

    async def fan_out(self, accounts: int, symbols: Sequence[str]) -> None:
        """A bare semaphore and gather, 64 at a time."""
        lane = asyncio.Semaphore(64)

        async def one(group: int, symbol: str) -> None:
            async with lane:
                await self.call(symbol, group)

        await asyncio.gather(*(one(g, s) for g in range(accounts) for s in symbols))

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()
