"""A small market maker that can't leave orders behind.

Run it, and end it as you like: wait, Ctrl-C (twice), ``kill``. It quotes on a simulated exchange of
its own, or on the one at the URL that it is given, such as that of ``masscancel sim``.
"""

import asyncio
import hmac
import random
import sys
import time
from base64 import b64encode
from contextlib import AsyncExitStack, suppress

import aiohttp

from masscancel import (
    AscendEX,
    Client,
    Credentials,
    DeadMansSwitch,
    Halted,
    OrderGate,
    Target,
    cancel_on_exit,
)
from masscancel.sim import SimulatedExchange

SYMBOL, SECONDS = "BTC/USDT", 2.0


async def place(
    http: aiohttp.ClientSession, credentials: Credentials, side: str, price: float
) -> None:
    """Send one limit order, signed, to the account's group at the exchange."""
    now = str(time.time_ns() // 1_000_000)
    digest = hmac.digest(credentials.api_secret.encode(), f"{now}+order".encode(), "sha256")
    order = {"time": int(now), "symbol": SYMBOL, "side": side, "orderType": "limit"}
    order |= {"orderPrice": f"{price:.2f}", "orderQty": "0.01"}
    headers = {"x-auth-key": credentials.api_key, "x-auth-timestamp": now}
    headers["x-auth-signature"] = b64encode(digest).decode()
    async with http.post("api/pro/v1/cash/order", json=order, headers=headers) as reply:
        if (await reply.json())["code"] != 0:
            raise RuntimeError("the order was refused")


async def make_market(
    http: aiohttp.ClientSession, credentials: Credentials, gate: OrderGate, switch: DeadMansSwitch
) -> None:
    """Quote both sides of a price that wanders, until the time is up or the gate is shut."""
    price, end = 50_000.0, time.monotonic() + SECONDS
    with suppress(Halted):
        while time.monotonic() < end and switch.beat():
            price += random.uniform(-5, 5)  # noqa: S311  # a price, not a secret
            for side, quote in (("buy", price - 10), ("sell", price + 10)):
                async with gate.order():  # Halted, once a cancel has begun
                    await place(http, credentials, side, quote)
            print(f"quoting {SYMBOL} around {price:.2f}", flush=True)
            await asyncio.sleep(0.2)


async def trade(url: str, credentials: Credentials) -> None:
    """Make a market, protected; then ask the exchange what is left."""
    venue = AscendEX(rest_url=url, stream_url=url.replace("http", "ws", 1))
    gate = OrderGate()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(credentials, venue=venue))
        root = f"{url}/{client.venue.account_group}/"
        http = await stack.enter_async_context(aiohttp.ClientSession(root))
        cash = Target(client, "cash")  # every symbol of the account
        try:
            # However this block ends, all is cancelled, and proven so. If it ends not at all,
            # but no beat comes for 5 s, the switch sees to it, from a thread of its own.
            async with (
                cancel_on_exit(cash, gate=gate),
                DeadMansSwitch(cash, timeout=5, gate=gate) as switch,
            ):
                await make_market(http, credentials, gate, switch)
                switch.disarm()
        finally:
            left = await client.open_orders("cash")
            print(f"the exchange says: {len(left)} orders left", flush=True)


async def main() -> None:
    """Trade where the first argument says, or on an exchange of our own."""
    async with AsyncExitStack() as stack:
        if len(sys.argv) > 1:
            url, credentials = sys.argv[1], Credentials.from_env("MASSCANCEL")
        else:
            exchange = await stack.enter_async_context(SimulatedExchange())
            account = exchange.add_account()
            url, credentials = exchange.rest_url, Credentials(account.api_key, account.api_secret)
        await trade(url, credentials)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
