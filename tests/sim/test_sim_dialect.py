"""The seam for further venues: a dialect of a few lines, with a nonce that must grow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from masscancel.sim import (
    Engine,
    Moment,
    Reply,
    Request,
    Route,
    SimulatedExchange,
    StreamRoute,
    Truncate,
)
from masscancel.sim.dialect import Router, json_reply

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping


class Nonced:
    """A venue that wants form bodies, and of each key a nonce that only grows."""

    name: Final = "nonced"
    categories: Final[Mapping[str, str]] = {"spot": "s-"}

    def __init__(self) -> None:
        self.nonces: dict[str, int] = {}

    def routes(self) -> list[Route]:
        """Understand one request."""
        return [Route("POST", "/0/private/{what}", "cancel-all", self.cancel_all)]

    def stream_routes(self) -> list[StreamRoute]:
        """Offer no websocket."""
        return []

    def api_key(self, request: Request) -> str:
        """Tell the key."""
        return request.headers.get("api-key", "")

    def unknown(self, _request: Request) -> Reply:
        """Answer as a proxy that has lost its backend."""
        return Reply(520, b"<html>backend</html>", (("Content-Type", "text/html"),))

    def order_id(self, _rng: random.Random, serial: int) -> str:
        """Count."""
        return f"O{serial}"

    def cancel_all(self, engine: Engine, request: Request) -> Reply:
        """Cancel all, unless the nonce is old."""
        nonce = int(request.form["nonce"])
        if nonce <= self.nonces.get(request.api_key, 0):
            return json_reply({"error": ["EAPI:Invalid nonce"]})
        self.nonces[request.api_key] = nonce
        account = engine.accounts[request.api_key]
        receipt = engine.cancel_all(account, "spot", now_ms=request.moment.now_ms)
        result = {"count": len(receipt.order_ids), "what": request.params["what"]}
        return json_reply({"error": [], "result": result})


@pytest.mark.asyncio
async def test_a_further_venue_is_one_small_class() -> None:
    """The server, the engine and the faults serve it without knowing it."""
    async with SimulatedExchange(Nonced()) as exchange, aiohttp.ClientSession() as http:
        account = exchange.add_account("key")
        assert account.ids["spot"].startswith("s-")
        assert exchange.place(account, "spot", "XBTUSD").order_id.startswith("O")

        async def cancel(nonce: int) -> object:
            async with http.post(
                f"{exchange.rest_url}/0/private/Cancel%41ll",
                headers={"API-Key": "key"},
                data={"nonce": str(nonce)},
            ) as response:
                answer: object = await response.json()
                return answer

        done = {"error": [], "result": {"count": 1, "what": "CancelAll"}}
        assert await cancel(5) == done
        assert await cancel(5) == {"error": ["EAPI:Invalid nonce"]}
        assert exchange.open_orders(account, "spot") == []
        assert exchange.requests[0].api_key == "key"


@pytest.mark.asyncio
async def test_a_status_that_only_proxies_know_can_be_written_by_hand() -> None:
    """The raw reply of a fault has a reason phrase for it."""
    async with SimulatedExchange(Nonced()) as exchange:
        exchange.faults.add(Truncate(0))
        reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 520 Unknown\r\n")
        writer.close()


def test_a_request_shows_its_parts() -> None:
    """The query is there as it came, for signatures, and decoded."""
    request = Request(method="GET", raw_path="/a%20b?x=1%2C2&y=", body=b"n=1&m=%20", operation="o")
    assert (request.path, request.query_string) == ("/a%20b", "x=1%2C2&y=")
    assert request.query == {"x": "1,2", "y": ""}
    assert request.form == {"n": "1", "m": " "}
    assert Moment(now_ms=5, skew_ms=-2).venue_ms == 3


def test_templates_match_whole_paths() -> None:
    """A part never spans a slash, and dots are dots."""
    route = Route("GET", "/v1.0/{group}/x", "op", lambda _engine, _request: Reply())
    router = Router([route], [])
    assert router.route("GET", "/v1.0/a%2Fb/x") == (route, {"group": "a/b"})
    for method, path in (("PUT", "/v1.0/a/x"), ("GET", "/v1x0/a/x"), ("GET", "/v1.0/a/b/x")):
        assert router.route(method, path) is None
    assert router.stream("/") is None
