"""With what users have in their processes, a cancel goes out, and nothing of ours is shown."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from venues_support import KEY, MARKETS, PASSPHRASE, SECRET, Market, desk_of

pytestmark = pytest.mark.asyncio

STRATEGY = Path(__file__).with_name("instrumented_strategy.py")
ONE_EACH = {market.name: market for market in reversed(MARKETS)}.values()


@pytest.mark.sample("instrumentation")
@pytest.mark.parametrize("market", ONE_EACH, ids=str)
@pytest.mark.parametrize("instrumentation", ["sentry", "opentelemetry", "ddtrace", "elastic"])
async def test_instrumentation(instrumentation: str, market: Market) -> None:
    """In a process of its own, instrumented: proven flat, and no key or secret in a span."""
    async with desk_of(market) as desk:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(STRATEGY), instrumentation, market.name, market.category),
            *(desk.exchange.rest_url, desk.exchange.stream_url),
            env={
                **os.environ,
                "MASSCANCEL_API_KEY": KEY,
                "MASSCANCEL_API_SECRET": SECRET,
                "MASSCANCEL_PASSPHRASE": PASSPHRASE,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        result = json.loads(out)
        assert result["shown"] == []
        assert desk.open() == []
    assert KEY not in err.decode()
    assert SECRET not in err.decode()
