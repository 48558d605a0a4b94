"""The soak's strategies, their hand on the switch, and the judge of what a kill came to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import aiohttp

from figures import bare
from masscancel import (
    Ack,
    Client,
    Confirmation,
    Halted,
    MassCancelError,
    NotFlat,
    OrderGate,
    Target,
    Unproven,
    cancel_many,
)
from masscancel.sim import Account, SimulatedExchange, Status, What
from soak_chaos import LAG_MS

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from random import Random

    from masscancel.models import Via
    from masscancel.sim import Order

#: The time between the two listings of a proof, in seconds; what an order takes to be acknowledged,
#: and what a listing is late, keep well within it.
SETTLE: Final = 0.2
#: How long a strategy waits for the answer to an order, in seconds.
ORDER_TIMEOUT: Final = 0.4
#: How many orders a desk remembers.
REMEMBERED: Final = 100
SYMBOLS: Final = {"cash": ("BTC/USDT", "ETH/USDT"), "futures": ("BTC-PERP", "ETH-PERP")}


class Tally:
    """What has come of it so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        #: What ended after its time: by how many ms, by how many a bare time limit did, and after
        #: how many turns of the loop more.
        self.overruns: list[tuple[float, float, int]] = []
        #: How long the loop was held up at worst, while clients were at work.
        self.stall_ms = 0.0
        #: What must not be, in words; the first few.
        self.wrong: list[str] = []

    def false(self, what: str, detail: str) -> None:
        """Something must not be."""
        self.counts[what] += 1
        if len(self.wrong) < 20:
            self.wrong.append(f"{what}: {detail}")


async def bare_and_turns(due: float, ended: asyncio.Event) -> tuple[float, int]:
    """By how many ms a bare time limit is late; how many turns of the loop later all has ended."""
    late, turns = await bare(due), 0
    while not ended.is_set():
        await asyncio.sleep(0)
        turns += 1
    return late, turns


class Desk:
    """One account and category: strategies, and a hand on the switch."""

    def __init__(
        self,
        exchange: SimulatedExchange,
        account: Account,
        category: str,
        rng: Random,
        tally: Tally,
    ) -> None:
        self.exchange = exchange
        self.account = account
        self.category = category
        self.rng = rng
        self.tally = tally
        self.gate = OrderGate()
        #: By client id, when the latest orders left the gate, in ms since the epoch.
        self.left_ms: dict[str, float] = {}

    async def run(self, client: Client[Any], http: aiohttp.ClientSession, until: float) -> None:
        """Trade, kill, judge, resume; until the time (loop's) is up."""
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            strategies = [asyncio.create_task(self.trade(http)) for _ in range(3)]
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            try:
                await self.kill(client)
            finally:
                self.gate.shut()
                await asyncio.gather(*strategies)
            try:
                self.gate.reopen()
            except Halted:
                self.tally.counts["halted"] += 1
                self.gate = OrderGate()  # a strategy would wait; what comes late only cancels

    async def trade(self, http: aiohttp.ClientSession) -> None:
        """Send orders through the gate until it is shut."""
        while True:
            client_id = UUID(int=self.rng.getrandbits(128)).hex
            try:
                async with self.gate.order():
                    self.tally.counts["orders"] += 1
                    if self.rng.random() < 0.05:  # a slow one: the proof has to wait for it
                        await asyncio.sleep(1.5 * SETTLE)
                    await self.place(http, client_id)
            except Halted:
                return
            except (aiohttp.ClientError, TimeoutError):
                self.tally.counts["orders unknown"] += 1
            self.left_ms[client_id] = time.time() * 1000
            if len(self.left_ms) > REMEMBERED:
                del self.left_ms[next(iter(self.left_ms))]
            await asyncio.sleep(self.rng.uniform(0.0, 0.03))

    async def place(self, http: aiohttp.ClientSession, client_id: str) -> None:
        """One limit order, signed by hand."""
        futures = self.category == "futures"
        now_ms = int(time.time() * 1000) + self.exchange.skew_ms
        api_path = "v2/futures/order" if futures else "order"
        path = "v2/futures/order" if futures else f"v1/{self.category}/order"
        secret, text = self.account.api_secret.encode(), f"{now_ms}+{api_path}".encode()
        mac = hmac.new(secret, text, hashlib.sha256).digest()
        order = {
            "id": client_id,
            "time": now_ms,
            "symbol": self.rng.choice(SYMBOLS[self.category]),
            "orderPrice": "100",
            "orderQty": "1",
            "orderType": "limit",
            "side": self.rng.choice(("buy", "sell")),
        }
        async with asyncio.timeout(ORDER_TIMEOUT):
            async with http.post(
                f"{self.exchange.rest_url}/{self.account.group}/api/pro/{path}",
                json=order,
                headers={
                    "x-auth-key": self.account.api_key,
                    "x-auth-timestamp": str(now_ms),
                    "x-auth-signature": base64.b64encode(mac).decode(),
                },
            ) as response:
                await response.read()

    # --- the kill, and what it must be true to ----------------------------------------------------

    async def kill(self, client: Client[Any]) -> None:
        """Cancel in one of the ways there are, and judge what came of it."""
        how = self.rng.choices(("confirm", "symbol", "fan-out", "ack"), (6, 1, 1, 2))[0]
        timeout = self.rng.choice((0.4, 0.8, 1.5, 3.0))
        symbol = self.rng.choice(SYMBOLS[self.category]) if how == "symbol" else None
        self.tally.counts["kills"] += 1
        if how == "ack":
            await self.acknowledge(client, timeout)
        elif how == "fan-out":
            await self.fan_out(client, timeout)
        else:
            confirming = client.cancel_all_and_confirm(
                self.category, symbol, timeout=timeout, settle=SETTLE, gate=self.gate
            )
            result = await self.result_of(confirming, timeout)
            if isinstance(result, Confirmation):
                await self.judge(result, symbol)
            elif isinstance(result, NotFlat):
                self.judge_residual(result)

    async def timed(self, calling: Awaitable[Any], timeout: float) -> Any:
        """Await a call; if it ends after its time, note by how much, beside a bare time limit."""
        loop = asyncio.get_running_loop()
        due, ended = loop.time() + timeout, asyncio.Event()
        beside = loop.create_task(bare_and_turns(due, ended))
        try:
            return await calling
        finally:
            ended.set()
            if (late := loop.time() - due) > 0:
                self.tally.overruns.append((late * 1000, *await beside))
            beside.cancel()

    async def result_of(self, calling: Awaitable[Any], timeout: float) -> Any:
        """What a call comes to: its value or our error, which is counted."""
        loop = asyncio.get_running_loop()
        due = loop.time() + timeout
        try:
            return await self.timed(calling, timeout)
        except MassCancelError as error:
            self.tally.counts[type(error).__name__] += 1
            if isinstance(error, NotFlat | Unproven) and loop.time() < due:
                self.tally.false("given up early", f"{due - loop.time():.3f} s: {error}")
            return error
        except Exception as crash:  # noqa: BLE001  # this is what is looked for
            self.tally.false("crashes", repr(crash))
            return crash

    async def fan_out(self, client: Client[Any], timeout: float) -> None:
        """The same through a fan-out."""
        report = await self.timed(
            cancel_many(
                [Target(client, self.category)],
                timeout=timeout,
                confirm=True,
                settle=SETTLE,
                gate=self.gate,
            ),
            timeout,
        )
        (outcome,) = report.outcomes
        if outcome.confirmation is not None:
            await self.judge(outcome.confirmation, None)
        else:
            self.tally.counts[type(outcome.error).__name__] += 1

    async def acknowledge(self, client: Client[Any], timeout: float) -> None:
        """Only ask for it; whether it was received is judged by the request's id."""
        via: Via = self.rng.choice(("rest", "stream", "both"))
        request_id = UUID(int=self.rng.getrandbits(128)).hex
        result = await self.result_of(
            client.cancel_all(
                self.category, request_id=request_id, via=via, timeout=timeout, gate=self.gate
            ),
            timeout,
        )
        received = any(
            record.request_id == request_id and record.what is What.CANCEL_ALL_RECEIVED
            for record in reversed(self.exchange.log)
        )
        if isinstance(result, Ack):
            self.tally.counts["acks"] += 1
            if not received:
                self.tally.false("false acks", f"{via} {request_id}")
        elif isinstance(result, MassCancelError):
            self.tally.counts["unknown"] += result.may_have_executed
            if received and not result.may_have_executed:
                self.tally.false("false denials", f"{via} {result}")

    def live(self, symbol: str | None) -> list[str]:
        """What is open in the scope, or on its way there, in truth, and how it came to be.

        Not those that the venue made visible, or has yet to, later than ``settle`` after they left
        the gate: a Confirmation does not hold for them, and says so. They are counted.
        """
        self.exchange.advance()
        account_id = self.account.ids[self.category]
        found = []
        for order in self.exchange.engine.orders():
            in_scope = order.account_id == account_id and symbol in (None, order.symbol)
            if not in_scope or order.status.is_final:
                continue
            left_ms = self.left_ms.get(order.client_id, float("inf"))
            listed_ms = (order.opened_ms or self.exchange.now_ms) + LAG_MS
            if listed_ms - left_ms > SETTLE * 1000:
                self.tally.counts["orders too late"] += 1
            else:
                found.append(f"{order.status} {order.symbol}, {self.story_of(order, left_ms)}")
        return found

    def story_of(self, order: Order, left_ms: float) -> str:
        """When it was placed, opened, left its gate, and what was asked; in ms before now."""
        now_ms = self.exchange.now_ms
        asked = [
            f"{each.operation} {each.answer} {now_ms - each.at * 1000:.0f}"
            for each in self.exchange.requests
            if each.api_key == self.account.api_key
            and each.operation in ("cancel-all", "open-orders", "order-status")
            and each.at * 1000 > now_ms - 2000
        ]
        opened = "never" if order.opened_ms is None else now_ms - order.opened_ms
        return (
            f"placed {now_ms - order.placed_ms}, opened {opened}, left its gate "
            f"{now_ms - left_ms:.0f} ms ago; asked were {asked}"
        )

    async def judge(self, confirmation: Confirmation, symbol: str | None) -> None:
        """The engine's word at the moment of the Confirmation, and for a while after it."""
        self.tally.counts["confirmations"] += 1
        self.tally.counts["streamed"] += confirmation.streamed
        self.tally.counts["sweeps"] += confirmation.sweeps
        live = self.live(symbol)
        for _ in range(4):
            if live:
                break
            await asyncio.sleep(SETTLE / 2)
            live = self.live(symbol)
        if live:
            self.tally.false(
                "false confirmations", f"{self.category} {symbol} {live} {confirmation}"
            )
        for ids, status in (
            (confirmation.cancelled, Status.CANCELED),
            (confirmation.filled, Status.FILLED),
        ):
            for order_id in ids or ():
                order = self.exchange.engine.order(order_id)
                if order is not None and order.status is not status:
                    self.tally.false("wrong ends", f"{order.status} is said to be {status}")

    def judge_residual(self, error: NotFlat) -> None:
        """What is said to be open has been, and is known by its id."""
        for order in error.residual:
            known = self.exchange.engine.order(order.order_id)
            if known is None or known.opened_ms is None:
                self.tally.false("wrong residuals", order.order_id)
