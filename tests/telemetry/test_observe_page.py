"""The snippets of docs/observe.md run as they stand there."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from masscancel import MassCancelError
from masscancel.sim import Hang, SimulatedExchange
from support import account_of, client_of

PAGE = Path(__file__).parents[2] / "docs" / "observe.md"
_SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def snippets() -> Iterator[dict[str, Any]]:
    """What all of them together define; listeners are taken away afterwards."""
    logger = logging.getLogger("masscancel")
    handlers, level = [*logger.handlers], logger.level
    told: list[dict[str, Any]] = []
    names: dict[str, Any] = {"alert": told.append, "told": told}
    enders = []
    for snippet in _SNIPPET.findall(PAGE.read_text()):
        names.pop("unsubscribe", None)
        exec(snippet, names)  # noqa: S102  # our own page
        enders.append(names.get("unsubscribe"))
    yield names
    for unsubscribe in filter(None, enders):
        unsubscribe()
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.asyncio
async def test_the_page(exchange: SimulatedExchange, snippets: dict[str, Any]) -> None:
    """An alert for what is unknown, a page for Prometheus, JSON in the log."""
    log = io.StringIO()
    snippets["handler"].setStream(log)
    async with client_of(exchange, account_of(exchange)) as client:
        await client.cancel_all("cash")
        exchange.faults.add(Hang(), operation="cancel-all", times=None)
        with pytest.raises(MassCancelError):
            await client.cancel_all("cash", timeout=0.05)
    [alert] = snippets["told"]
    assert (alert["type"], alert["error"]) == ("CallEnded", "UnansweredInTime")
    application = web.Application()
    application.router.add_get("/metrics", snippets["serve"])
    async with TestClient(TestServer(application)) as scraper:
        reply = await scraper.get("/metrics")
        families = text_string_to_metric_families(await reply.text())
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    counts = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "masscancel_call_duration_seconds_count"
    ]
    assert counts == [1, 1]
    ends = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [each["event.name"] for each in ends] == ["masscancel.call_ended"] * 2
