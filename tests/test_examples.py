"""The examples, run as one would run them."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from masscancel.sim import SimulatedExchange, What

MARKET_MAKER = Path(__file__).parent.parent / "examples" / "market_maker.py"


async def start(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """Start the market maker."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(MARKET_MAKER),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )


async def until_it_quotes(process: asyncio.subprocess.Process) -> None:
    """Wait for its first line."""
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"quoting")


def test_it_is_short() -> None:
    """It stays under a hundred lines."""
    assert len(MARKET_MAKER.read_text().splitlines()) < 100


@pytest.mark.asyncio
async def test_market_maker_by_itself() -> None:
    """With an exchange of its own, ended by Ctrl-C: nothing is left."""
    process = await start()
    await until_it_quotes(process)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert out.decode().splitlines()[-1] == "the exchange says: 0 orders left"
    assert err == b""
    assert process.returncode == 0


@pytest.mark.sample
@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, None, signal.SIGINT])
async def test_market_maker_elsewhere(number: signal.Signals | None) -> None:
    """On an exchange whose effects lag behind its acks, whatever ends it: nothing is left."""
    async with SimulatedExchange(effect_delay_ms=50) as exchange:
        account = exchange.add_account("key", "secret-of-the-example")
        process = await start(
            exchange.rest_url,
            MASSCANCEL_API_KEY=account.api_key,
            MASSCANCEL_API_SECRET=account.api_secret,
        )
        await until_it_quotes(process)
        if number is not None:
            process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 20)
        placed = [record.what for record in exchange.log].count(What.ACKED)
        assert placed >= 2
        assert [record.what for record in exchange.log].count(What.CANCELLED) == placed
        assert exchange.open_orders(account, "cash") == []
        assert err == b""
        assert b"secret" not in out
        if number is signal.SIGTERM:  # the shell sees that it was killed
            assert process.returncode == -signal.SIGTERM
        else:
            assert process.returncode == 0
            assert out.decode().splitlines()[-1] == "the exchange says: 0 orders left"
