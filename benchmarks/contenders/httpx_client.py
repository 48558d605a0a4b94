"""httpx: an ``AsyncClient`` with its defaults."""

import asyncio
import base64
import hashlib
import hmac
import importlib
import time
from collections.abc import Sequence
from typing import Any

from common import SECRET, Where, key_of

httpx: Any = importlib.import_module("httpx")  # installed for benchmarks only


class Httpx:
    """One client."""

    async def open(self, where: Where) -> None:
        """Open the client."""
        self._rest = where.rest
        self._client = httpx.AsyncClient()

    async def call(self, symbol: str) -> None:
        """Cancel one symbol. ``delete`` takes no body, so it is ``request``."""
        timestamp = str(int(time.time() * 1000))
        mac = hmac.new(SECRET.encode(), f"{timestamp}+order/all".encode(), hashlib.sha256)
        headers = {
            "x-auth-key": key_of(0),
            "x-auth-timestamp": timestamp,
            "x-auth-signature": base64.b64encode(mac.digest()).decode(),
        }
        url = f"{self._rest}/0/api/pro/v1/cash/order/all"
        reply = await self._client.request("DELETE", url, headers=headers, json={"symbol": symbol})
        assert reply.json()["code"] == 0

    async def burst(self, symbols: Sequence[str]) -> None:
        """Cancel all of them at once."""
        await asyncio.gather(*map(self.call, symbols))

    async def close(self) -> None:
        """Close the client."""
        await self._client.aclose()
