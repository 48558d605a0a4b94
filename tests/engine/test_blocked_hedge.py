"""A second attempt that a ban forbids leaves the event loop alone until the first has ended."""

import asyncio

import pytest

from masscancel import Client, Credentials, MassCancelError, RetryPolicy
from masscancel.venues.binance import Binance

BANNED = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 23\r\n\r\n"
    b'{"code":-1003,"msg":""}'
)


@pytest.mark.asyncio
async def test_a_forbidden_second_attempt_does_not_make_the_loop_spin() -> None:
    """One book's cancel hangs and the other's is refused for a minute: others get their turns."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"/allOpenOrders" in head:
                    writer.write(BANNED)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    venue = Binance(spot_url="http://127.0.0.1:9", usdm_url=url)
    retry = RetryPolicy(patience=0.02)
    credentials = Credentials("k" * 16, "s" * 16)
    async with Client(credentials, venue=venue, categories=("usdm",), retry=retry) as client:
        counting = asyncio.create_task(count_turns())
        with pytest.raises(MassCancelError):
            await client.cancel_all("usdm", "BTCUSDT", timeout=1)
        counting.cancel()
    server.close()
    assert turns > 100
