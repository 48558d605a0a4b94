"""The exchange's own demo, ``order_cancel_all.py``: ``requests.delete``, a connection per call.

Two things differ from it: it prints nothing, and it takes the secret as text, as the documents say.
"""

import base64
import hashlib
import hmac
import importlib
import json
import time
from collections.abc import Sequence
from typing import Any

from common import SECRET, Where, key_of

requests: Any = importlib.import_module("requests")  # installed for benchmarks only


class Demo:
    """It blocks: a burst is one call after the other."""

    async def open(self, where: Where) -> None:
        """There is nothing to open."""
        self._rest = where.rest

    async def call(self, symbol: str) -> None:
        """Cancel one symbol."""
        timestamp = str(round(time.time() * 1e3))
        mac = hmac.new(SECRET.encode(), f"{timestamp}+order/all".encode(), hashlib.sha256)
        headers = {
            "x-auth-key": key_of(0),
            "x-auth-signature": base64.b64encode(mac.digest()).decode(),
            "x-auth-timestamp": timestamp,
        }
        url = f"{self._rest}/0/api/pro/v1/cash/order/all"
        reply = requests.delete(url, headers=headers, json={"symbol": symbol})
        assert reply.status_code == 200
        assert json.loads(reply.text)["code"] == 0

    async def burst(self, symbols: Sequence[str]) -> None:
        """Cancel them one after the other."""
        for symbol in symbols:
            await self.call(symbol)

    async def close(self) -> None:
        """There is nothing to close."""
