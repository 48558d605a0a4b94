"""One contender in a process of its own: takes commands, one JSON object a line, and answers so.

    {"do": "open", "port": 40001}
    {"do": "sequential", "calls": 500, "warm": 50}
    {"do": "close"}

Each answer is ``{"ok": ...}`` or ``{"error": "..."}``. It needs nothing but the standard library
and what its contender needs.
"""

import argparse
import asyncio
import gc
import importlib
import json
import resource
import socket
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from common import CONTENDERS, Where, contender_of, pin, symbols


def resident() -> int:
    """The process's resident memory, in bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux: the peak will do
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


class Worker:
    """What the commands do; each measures its contender only."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._contender: Any = None

    async def open(self, port: int) -> dict[str, str]:
        """Open the contender; tells the versions of what it runs on."""
        self._where = Where(port)
        self._contender = contender_of(self._name)
        await self._contender.open(self._where)
        versions = {}
        for library in ("aiohttp", "httpx", "requests", "ccxt", "uvloop", "msgspec", "orjson"):
            module = sys.modules.get(library)
            if module is not None:
                versions[library] = str(getattr(module, "__version__", "?"))
        return versions

    async def close(self) -> None:
        """Close the contender."""
        await self._contender.close()

    async def sequential(self, calls: int, warm: int) -> dict[str, Any]:
        """One call after the other. Latencies in µs, CPU in µs per call."""
        call = self._contender.call
        for _ in range(warm):
            await call("S0/USDT")
        gc.collect()
        latencies = []
        cpu = time.process_time_ns()
        for _ in range(calls):
            started = time.perf_counter_ns()
            await call("S0/USDT")
            latencies.append(time.perf_counter_ns() - started)
        cpu = time.process_time_ns() - cpu
        return {"latencies": [ns / 1000 for ns in latencies], "cpu": cpu / calls / 1000}

    async def burst(self, bursts: int, size: int) -> dict[str, Any]:
        """Bursts, after two to warm up. Calls per second of each, CPU in µs per call."""
        names = symbols(size)
        for _ in range(2):
            await self._contender.burst(names)
        gc.collect()
        rates = []
        cpu = time.process_time_ns()
        for _ in range(bursts):
            started = time.perf_counter()
            await self._contender.burst(names)
            rates.append(size / (time.perf_counter() - started))
        cpu = time.process_time_ns() - cpu
        return {"rates": rates, "cpu": cpu / bursts / size / 1000}

    async def fan_out(self, accounts: int, each: int, repeat: int) -> dict[str, float]:
        """Accounts times symbols, after a small one to warm up. µs per target."""
        await self._contender.fan_out(min(accounts, 64), symbols(1))
        await self._contender.fan_out(accounts, [])  # opens what it needs
        gc.collect()
        cpu = time.process_time_ns()
        started = time.perf_counter()
        for _ in range(repeat):
            await self._contender.fan_out(accounts, symbols(each))
        wall = time.perf_counter() - started
        targets = accounts * each * repeat
        return {
            "wall": wall / targets * 1e6,
            "cpu": (time.process_time_ns() - cpu) / targets / 1000,
            "seconds": wall / repeat,
        }

    async def first_byte(self, calls: int, queued: int) -> dict[str, Any]:
        """Cancels made while listings of the same program are queued. µs.

        ``written`` is from the call to the socket's ``send`` that holds the request, by this
        process's clock; ``answered`` is until the acknowledgement.
        """
        writes: list[int] = []
        restore = _spy_on_sends(writes)
        written, answered = [], []
        try:
            async with self._contender.client_of(0) as client:
                await asyncio.sleep(0.2)  # its connections are warm
                async with _listing(client, queued):
                    for _ in range(calls):
                        await asyncio.sleep(0.01)
                        writes.clear()
                        started = time.monotonic_ns()
                        await client.cancel_all("cash", "S0/USDT")
                        answered.append((time.monotonic_ns() - started) / 1000)
                        written.append((writes[0] - started) / 1000)
        finally:
            restore()
        return {"written": written, "answered": answered}

    async def confirm(self, calls: int, settle: float) -> dict[str, Any]:
        """Cancel and confirm, with two orders open before each. ms, and sweeps per call."""
        elapsed, sweeps = [], []
        for _ in range(calls):
            place = json.dumps({"place": {"group": "0", "orders": 2}}).encode()
            await asyncio.to_thread(_control, self._where, place)
            started = time.perf_counter()
            proof = await self._contender.client.cancel_all_and_confirm(
                "cash", settle=settle, timeout=20
            )
            elapsed.append((time.perf_counter() - started) * 1000)
            sweeps.append(proof.sweeps)
        return {"elapsed": elapsed, "sweeps": sweeps}

    async def memory_idle(self, clients: int) -> dict[str, float]:
        """Enter so many clients that share a pool, twice. Bytes per client."""
        await self._contender.clients(10)
        gc.collect()
        before = resident()
        await self._contender.clients(10 + clients)
        gc.collect()
        grown = resident() - before
        tracemalloc.start()
        await self._contender.clients(10 + 2 * clients)
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return {"traced": traced / clients, "resident": grown / clients}

    async def memory_target(self, accounts: int, each: int) -> dict[str, float]:
        """The peak of a fan-out above what there was before it. Bytes per target."""
        await self._contender.fan_out(accounts, symbols(1))
        gc.collect()
        tracemalloc.start()
        await self._contender.fan_out(accounts, symbols(each))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return {"traced": peak / accounts / each}


@asynccontextmanager
async def _listing(client: Any, tasks: int) -> AsyncIterator[None]:
    """So many tasks that each list the open orders over and over."""

    async def listing() -> None:
        while True:
            await client.open_orders("cash", timeout=300)

    running = [asyncio.create_task(listing()) for _ in range(tasks)]
    await asyncio.sleep(0.3 if tasks else 0)
    yield
    assert not any(task.done() for task in running), "a listing failed"
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _control(where: Where, command: bytes) -> None:
    request = Request(f"{where.rest}/control", command, method="POST")  # noqa: S310  # loopback
    with urlopen(request) as reply:  # noqa: S310  # loopback
        reply.read()


def _spy_on_sends(writes: list[int]) -> Any:
    """Note when a cancel is written: asyncio calls ``send`` on the pool's own sockets."""
    # Not at the top: another's contender runs where masscancel is not installed.
    from masscancel.transport.dialer import Dialer  # noqa: PLC0415

    original = Dialer._socket  # noqa: SLF001  # there is no other way to see the write

    class Spy(socket.socket):
        def send(self, data: Any, flags: int = 0) -> int:
            if bytes(data[:6]) == b"DELETE":
                writes.append(time.monotonic_ns())
            return super().send(data, flags)

    def make(dialer: Dialer, address: Any) -> socket.socket:
        return Spy(fileno=original(dialer, address).detach())

    def use(make_socket: Any) -> None:
        Dialer._socket = make_socket  # type: ignore[method-assign]  # noqa: SLF001  # as above

    use(make)

    def restore() -> None:
        use(original)

    return restore


async def serve(name: str) -> None:
    """Carry out commands until there are no more."""
    worker = Worker(name)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        work: Coroutine[Any, Any, Any] = getattr(worker, command.pop("do"))(**command)
        try:
            answer = {"ok": await work}
        except Exception as error:  # noqa: BLE001  # the harness reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Run one contender, on one loop, on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    pin(options.core)
    if options.uvloop:
        uvloop = importlib.import_module("uvloop")
        uvloop.run(serve(options.contender))
    else:
        asyncio.run(serve(options.contender))


if __name__ == "__main__":
    main()
