"""`make soak`: strategies trade while an exchange fails at random, and are killed again and again.

For `--seconds`, in phases with clients of their own: strategies send orders by HTTP through an
`OrderGate`; then a kill cancels and confirms, or only cancels, by REST, on the stream or both.
Requests, replies, orders and messages are dropped, hung, delayed, doubled and spoilt; acks and
effects lag, listings are stale, the clock jumps, connections break, all of a kind fail for a while.
A `--seed` fixes what is drawn; how the draws meet is up to the machine.

The judge is the exchange's own engine, which shares the loop: at the moment of a Confirmation, and
for twice `settle` after it, nothing may be open or on its way in the scope. An Ack's request must
have been received; where an error says that nothing was carried out, nothing may have been; orders
that are said to have ended must have ended so; orders of another category must still be there.
After each phase no task and no socket may be left, and memory must not grow from phase to phase.

What ends after its time is measured beside a bare `asyncio.timeout_at` of the same time in the same
loop. The difference is a few turns of the loop, in which a call ends what it has begun: what a turn
costs is the loop's load. All that is reported, not judged.

Prints a table, or JSON with `--json` or where there is no rich. Exits 1 on anything false or left.
Reads /proc, so it is for Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import ctypes
import gc
import hashlib
import hmac
import json
import logging
import os
import sys
import time
import tracemalloc
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import aiohttp

from figures import Ticker, bare, show_progress
from masscancel import (
    Ack,
    AscendEX,
    Client,
    Confirmation,
    Credentials,
    Halted,
    MassCancelError,
    NotFlat,
    OrderGate,
    SessionPool,
    Target,
    Unproven,
    cancel_many,
)
from masscancel.models import Gap
from masscancel.sim import (
    Account,
    Action,
    Answer,
    Delay,
    Disconnected,
    Drop,
    DuplicateAck,
    DuplicateReply,
    EffectDelay,
    ForeignId,
    Hang,
    Ignore,
    LateAck,
    OnCancel,
    Script,
    SimulatedExchange,
    Status,
    Trickle,
    Truncate,
    Unsolicited,
    What,
    WithoutId,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from masscancel.models import Via
    from masscancel.sim import Fault, Order

#: The time between the two listings of a proof, in seconds ...
SETTLE: Final = 0.2
#: ... which what an order takes to be acknowledged, and what a listing is late, keep well within.
ACK_MS: Final = 60
LAG_MS: Final = 60
#: How long a strategy waits for the answer to an order, in seconds.
ORDER_TIMEOUT: Final = 0.4
PHASE: Final = 10.0
#: How many orders a desk remembers.
REMEMBERED: Final = 100
SYMBOLS: Final = {"cash": ("BTC/USDT", "ETH/USDT"), "futures": ("BTC-PERP", "ETH-PERP")}
#: What may be more in the second half, in KiB: caches that fill up.
GROWTH_KIB: Final = 256

PAGE: Final = b"<html><body>502 Bad Gateway</body></html>"
#: What may happen to everything of a kind for a while.
OUTAGES: Final[list[Action]] = [
    Drop(executed=False),
    Drop(executed=True),
    Hang(tag="late"),
    Answer(503, PAGE),
]
#: What happens, to what, how often.
FAULTS: Final[list[tuple[Action, str, str | None, float]]] = [
    (Drop(executed=False), "cancel-all", None, 0.04),
    (Drop(executed=True), "cancel-all", None, 0.04),
    (Drop(executed=True, reset=False), "cancel-all", None, 0.02),
    (Hang(executed=False, tag="late"), "cancel-all", None, 0.01),
    (Hang(executed=True, tag="late"), "cancel-all", None, 0.01),
    (Answer(502, PAGE), "cancel-all", "DELETE", 0.02),
    (Answer(502, PAGE, executed=True), "cancel-all", "DELETE", 0.02),
    (Answer(429, b"{}", (("Retry-After", "0"),)), "cancel-all", "DELETE", 0.01),
    (Truncate(), "cancel-all", None, 0.01),
    (Trickle(0.0005), "cancel-all", "DELETE", 0.01),
    (DuplicateReply(), "cancel-all", None, 0.01),
    (Unsolicited(), "cancel-all", "DELETE", 0.01),
    (WithoutId(), "cancel-all", "WS", 0.05),
    (ForeignId(then_own=True), "cancel-all", "WS", 0.03),
    (DuplicateAck(), "cancel-all", "WS", 0.05),
    (LateAck("late"), "cancel-all", "WS", 0.05),
    (Ignore(executed=True), "cancel-all", "WS", 0.02),
    (Ignore(), "cancel-all", "WS", 0.02),
    (Disconnected(), "cancel-all", "WS", 0.02),
    (Delay(0.05), "cancel-all", None, 0.05),
    (EffectDelay(40), "cancel-all", None, 0.1),
    (EffectDelay(400), "cancel-all", None, 0.03),
    (Drop(), "open-orders", None, 0.04),
    (Hang(tag="late"), "open-orders", None, 0.01),
    (Answer(500, PAGE), "open-orders", None, 0.03),
    (Answer(200, b'{"code":0}'), "open-orders", None, 0.02),
    (Truncate(), "open-orders", None, 0.02),
    (Delay(0.03), "open-orders", None, 0.05),
    (Drop(), "order-status", None, 0.1),
    (Answer(500, PAGE), "order-status", None, 0.1),
    (Drop(), "clock", None, 0.05),
    (Answer(503, PAGE), "clock", None, 0.05),
    (Drop(executed=True), "place-order", None, 0.03),
    (Drop(executed=False), "place-order", None, 0.03),
    (Hang(executed=True, tag="late"), "place-order", None, 0.02),
    (Answer(500, PAGE, executed=True), "place-order", None, 0.03),
    (Delay(0.02), "place-order", None, 0.1),
    (Drop(), "stream", None, 0.1),
    (Answer(503, PAGE), "stream", None, 0.1),
    (Ignore(), "order-update", None, 0.02),
    (Truncate(3), "order-update", None, 0.005),
    (Drop(), "order-update", None, 0.005),
    (Ignore(), "subscribe", None, 0.05),
]


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

    async def run(self, client: Client, http: aiohttp.ClientSession, until: float) -> None:
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

    async def kill(self, client: Client) -> None:
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

    async def fan_out(self, client: Client, timeout: float) -> None:
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

    async def acknowledge(self, client: Client, timeout: float) -> None:
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


class Chaos:
    """What happens to the exchange besides the faults of single requests."""

    def __init__(self, exchange: SimulatedExchange, rng: Random) -> None:
        self.exchange = exchange
        self.rng = rng
        self.outage: Fault | None = None
        for action, operation, method, probability in FAULTS:
            exchange.faults.add(
                action, operation=operation, method=method, probability=probability, times=None
            )

    async def run(self) -> None:
        """Go on until cancelled."""
        rng, exchange, engine = self.rng, self.exchange, self.exchange.engine
        happens: list[tuple[float, Callable[[], object]]] = [
            (0.02, lambda: exchange.drop_connections(reset=rng.random() < 0.5)),
            (0.02, self.end_stream),
            (0.05, exchange.ping_streams),
            (0.10, lambda: exchange.release("late")),
            (0.01, self.give_in),
            (0.02, lambda: setattr(engine, "listing_lag_ms", rng.choice((0, 0, LAG_MS)))),
            (0.01, lambda: setattr(exchange, "skew_ms", rng.choice((0, 0, 35_000, -35_000)))),
            (0.02, self.begin_outage),
            (0.03, self.end),
        ]
        while True:
            engine.default_script = Script(
                ack_delay_ms=rng.randint(0, ACK_MS),
                on_cancel=rng.choices([*OnCancel], (88, 10, 2))[0],
                fill_delay_ms=rng.choice((None, None, None, rng.randint(0, 300))),
                reject=rng.choice(("",) * 19 + ("INVALID_BALANCE",)),
            )
            for probability, happen in happens:
                if rng.random() < probability:
                    happen()
            await asyncio.sleep(0.02)

    def begin_outage(self) -> None:
        """Everything of a kind fails until the outage ends."""
        action = self.rng.choice(OUTAGES)
        operation = self.rng.choice(("cancel-all", "cancel-all", "open-orders", "stream", None))
        if self.outage is None:
            self.outage = self.exchange.faults.add(action, operation=operation, times=None)

    def end(self) -> None:
        """The outage ends."""
        if self.outage is not None:
            self.exchange.faults.remove(self.outage)
            self.outage = None

    def end_stream(self) -> None:
        """One websocket drops."""
        if streams := self.exchange.streams:
            self.rng.choice(streams).end(reset=self.rng.random() < 0.5)

    def give_in(self) -> None:
        """Orders that did not cancel will."""
        for order in self.exchange.engine.orders():
            if not order.status.is_final and order.script.on_cancel is OnCancel.IGNORE:
                self.exchange.engine.rescript(order.order_id, Script())


#: The exchange remembers what it was asked, and so does this file.
NOT_OURS: Final = [
    tracemalloc.Filter(inclusive=False, filename_pattern=f"*{name}")
    for name in ("/masscancel/sim/*.py", "/aiohttp/web_*.py", "/soak.py", "/tracemalloc.py")
]


class Left:
    """What there is of tasks, sockets and memory, when nothing should be going on."""

    def __init__(self) -> None:
        gc.collect()
        self.tasks = {task for task in asyncio.all_tasks() if not task.done()}
        self.sockets = sum(is_socket(fd) for fd in Path("/proc/self/fd").iterdir())
        taken = tracemalloc.take_snapshot().filter_traces(NOT_OURS)
        self.heap_kib = sum(trace.size for trace in taken.traces) // 1024
        self.c_heap_kib = c_heap() // 1024
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rss_kib = pages * os.sysconf("SC_PAGE_SIZE") // 1024


class MallocInfo(ctypes.Structure):
    """What glibc's `mallinfo2` fills in, as far as it matters here."""

    _fields_ = (
        ("_before", ctypes.c_size_t * 4),
        ("mapped", ctypes.c_size_t),
        ("_between", ctypes.c_size_t * 2),
        ("used", ctypes.c_size_t),
        ("_after", ctypes.c_size_t * 2),
    )


def c_heap() -> int:
    """How many bytes C has allocated, which tracemalloc does not see; 0 where glibc is older.

    Its own tables are among them, and those of the exchange. What is resident is more: it has what
    is free between these, too.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = MallocInfo
    info = mallinfo()
    return int(info.used + info.mapped)


def is_socket(descriptor: Path) -> bool:
    """Whether a descriptor of this process is a socket."""
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except OSError:  # that of the listing itself
        return False


async def follow(client: Client, tally: Tally) -> None:
    """A consumer of order updates, until its client is left."""
    async for item in client.order_updates("cash"):
        tally.counts["gaps" if isinstance(item, Gap) else "updates"] += 1


async def phase(chaos: Chaos, desks: list[Desk], tally: Tally, seconds: float) -> None:
    """One life of the clients: entered, used, left. Some share a pool, some follow the stream."""
    exchange, loop = chaos.exchange, asyncio.get_running_loop()
    until = loop.time() + seconds
    playing = loop.create_task(chaos.run())
    following: list[asyncio.Task[None]] = []
    clients: dict[str, Client] = {}
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(SessionPool())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for number, key in enumerate(dict.fromkeys(desk.account.api_key for desk in desks)):
            account = exchange.engine.accounts[key]
            client = Client(
                Credentials(key, account.api_secret),
                venue=AscendEX(
                    rest_url=exchange.rest_url,
                    stream_url=exchange.stream_url,
                    account_group=account.group,
                ),
                pool=shared if number % 2 else None,
                watch=("cash", "futures") if number else (),
            )
            clients[key] = await stack.enter_async_context(client)
            if number:
                following.append(loop.create_task(follow(client, tally)))
        async with Ticker(0.005) as ticker, asyncio.TaskGroup() as group:
            for desk in desks:
                group.create_task(desk.run(clients[desk.account.api_key], http, until))
        tally.stall_ms = max(tally.stall_ms, ticker.worst)
        playing.cancel()
        await asyncio.wait((playing,))
        chaos.end()
    await asyncio.gather(*following)


async def calm(exchange: SimulatedExchange) -> Left:
    """Let go of what hangs, and wait until the exchange has seen its clients leave."""
    while exchange.waiting:
        for tag in set(exchange.waiting):
            exchange.release(tag)
        await asyncio.sleep(0.01)
    await exchange.until(lambda: not exchange.connections)
    for _ in range(10):
        await asyncio.sleep(0.01)
    return Left()


async def soak(seconds: float, seed: int, accounts: int) -> dict[str, Any]:
    """All phases, and what they come to."""
    tally = Tally()
    marks: list[Left] = []
    ends = time.monotonic() + seconds
    tracemalloc.start()
    async with SimulatedExchange(seed=seed, history=300) as exchange:
        rng = Random(seed)
        chaos = Chaos(exchange, rng)
        desks, bystanders = [], []
        for number in range(accounts):
            account = exchange.add_account(group=number, label=f"desk-{number}")
            bystanders.append(exchange.place(account, "margin", "BTC/USDT").order_id)
            desks += [Desk(exchange, account, category, rng, tally) for category in SYMBOLS]
        baseline = await calm(exchange)
        while (left := ends - time.monotonic()) > 1 or len(marks) < 6:
            kills, confirmed = tally.counts["kills"], tally.counts["confirmations"]
            show_progress(
                f"phase {len(marks) + 1}, {max(0.0, left):.0f} s left: {kills} kills, "
                f"{confirmed} Confirmations, {sum(tally.counts[name] for name in FALSE)} wrong"
            )
            await phase(chaos, desks, tally, max(1.0, min(PHASE, seconds / 12, left)))
            marks.append(await calm(exchange))
        show_progress()
        for order_id in bystanders:
            order = exchange.engine.order(order_id)
            if order is None or not order.status.is_open:
                tally.false("bystanders hit", order_id)
        received = len(exchange.requests)
    tasks = {task for mark in marks for task in mark.tasks} - baseline.tasks
    return {
        "seconds": round(seconds),
        "seed": seed,
        "phases": len(marks),
        "remembered requests": received,
        **{name: tally.counts[name] for name in COUNTED},
        **{name: n for name, n in sorted(tally.counts.items()) if name not in (*COUNTED, *FALSE)},
        **{name: tally.counts[name] for name in FALSE},
        "overruns": len(tally.overruns),
        "worst overrun ms": worst(ours for ours, *_ in tally.overruns),
        "worst of a bare timeout beside ms": worst(other for _, other, _ in tally.overruns),
        "worst beyond it ms": worst(ours - other for ours, other, _ in tally.overruns),
        "most turns of the loop beyond it": max((turns for *_, turns in tally.overruns), default=0),
        "longest stall of the loop ms": round(tally.stall_ms, 1),
        "leaked tasks": len(tasks),
        "leaked sockets": max(mark.sockets for mark in marks) - baseline.sockets,
        "heap KiB by phase": [mark.heap_kib for mark in marks],
        "heap growth KiB": growth([mark.heap_kib for mark in marks]),
        "C heap KiB by phase": [mark.c_heap_kib for mark in marks],
        "RSS KiB by phase": [mark.rss_kib for mark in marks],
        "wrong": tally.wrong + [repr(task) for task in tasks][:10],
    }


def worst(figures: Iterable[float]) -> float:
    """The highest, and never below nothing."""
    return round(max(figures, default=0.0), 1)


def growth(by_phase: list[int]) -> int:
    """From the first to the second half, the first phase apart: a leak lifts the least of each."""
    half = 1 + len(by_phase) // 2
    return min(by_phase[half:]) - min(by_phase[1:half])


COUNTED: Final = (
    *("orders", "orders unknown", "kills", "confirmations", "streamed", "sweeps", "acks"),
    *("unknown", "NotFlat", "Unproven", "DeadlineExceeded", "halted", "updates", "gaps"),
)
FALSE: Final = (
    *("false confirmations", "false acks", "false denials", "given up early", "wrong ends"),
    *("wrong residuals", "bystanders hit", "crashes"),
)


def verdict(report: dict[str, Any]) -> str:
    """What was false, is left or has grown; empty if nothing."""
    none = (*FALSE, "leaked tasks", "leaked sockets")
    said = [f"{report[name]} {name}" for name in none if report[name]]
    if report["heap growth KiB"] > GROWTH_KIB:
        said.append(f"memory grew by {report['heap growth KiB']} KiB")
    return ", ".join(said)


def print_table(report: dict[str, Any]) -> None:
    """For people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Soak", show_header=False, box=None, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for name, value in report.items():
        if name != "wrong":
            table.add_row(
                name, " ".join(map(str, value)) if isinstance(value, list) else str(value)
            )
    console = Console()
    console.print(table)
    for line in report["wrong"]:
        console.print(line, style="red", markup=False)


def main() -> int:
    """Soak, print, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="how long (default: 120)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (default: 1)")
    parser.add_argument("--accounts", type=int, default=3, help="with two desks each (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # the exchange breaks on purpose
    report = asyncio.run(soak(options.seconds, options.seed, options.accounts))
    wrong = verdict(report)
    try:
        if options.json:
            raise ImportError  # noqa: TRY301  # as if rich were not there
        print_table(report)
    except ImportError:
        print(json.dumps(report, indent=1))  # noqa: T201  # it is a script
    else:
        print(f"WRONG: {wrong}" if wrong else "All right: nothing was false, nothing is left.")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
