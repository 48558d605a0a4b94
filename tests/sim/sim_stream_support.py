"""What the tests of the simulated streams share: a trader who opens websockets by hand."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from masscancel.sim.ascendex_wire import signature

if TYPE_CHECKING:
    from masscancel.sim import Account, SimulatedExchange

BTC = "BTC/USDT"


class Desk:
    """A trader at one exchange, who opens websockets by hand."""

    def __init__(self, exchange: SimulatedExchange, http: aiohttp.ClientSession) -> None:
        self.exchange = exchange
        self.http = http
        self.account: Account = exchange.add_account("key", "secret", group=6)

    def url(self, version: str = "v1") -> str:
        """Make the address of a stream."""
        return f"{self.exchange.stream_url}/6/api/pro/{version}/stream"

    def signed(self, api_path: str = "stream") -> tuple[str, str]:
        """Make a timestamp and a signature."""
        stamp = str(int(time.time() * 1000))
        return stamp, signature("secret", stamp, api_path)

    def headers(self, api_path: str = "stream") -> dict[str, str]:
        """Make the headers of a signed upgrade."""
        stamp, sig = self.signed(api_path)
        return {"x-auth-key": "key", "x-auth-timestamp": stamp, "x-auth-signature": sig}

    async def connect(self, version: str = "v1") -> Talk:
        """Open a websocket that is logged in by its upgrade, and take its greeting."""
        api_path = "stream" if version == "v1" else "v2/stream"
        socket = await self.http.ws_connect(self.url(version), headers=self.headers(api_path))
        talk = Talk(socket)
        assert await talk.hear() == {"op": "connected", "type": "auth"}
        return talk

    @property
    def left(self) -> int:
        """Count what is open in the cash account."""
        return len(self.exchange.open_orders(self.account, "cash"))


class Talk:
    """One websocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        """Send a message."""
        await self.socket.send_str(msgspec.json.encode(message).decode())

    async def hear(self) -> Any:
        """Receive one message, decoded; None if the websocket ended."""
        async with asyncio.timeout(10):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        return msgspec.json.decode(message.data)

    async def ask(self, **message: Any) -> Any:
        """Send a message and receive one."""
        await self.say(**message)
        return await self.hear()

    async def cancel_all(self, request_id: str = "abc1", **more: Any) -> None:
        """Ask to cancel all of the cash account."""
        await self.say(op="req", id=request_id, action="cancel-All", account="cash", **more)
