"""A strategy in a process of its own, for test_guard_signals: ``guard_child.py URL RUNNER MODE``.

A fourth argument, ``bare``, leaves the guard away. It says ``in`` when it is inside the block, and
``out`` when main has come to its end.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from masscancel import AscendEX, Client, Credentials, Target, cancel_on_exit
from support import SECRETS

_, URL, RUNNER, MODE, *MORE = sys.argv
BARE = "bare" in MORE


def say(*words: object) -> None:
    """Tell the test."""
    print(*words, flush=True)  # noqa: T201  # how it is heard


def make_client() -> Client[Any]:
    """A client of the test's account, or of one with another secret."""
    secret = f"{SECRETS[0]}-0" if MODE != "refused" else SECRETS[0]
    venue = AscendEX(rest_url=f"http://{URL}", stream_url=f"ws://{URL}", account_group=0)
    return Client(Credentials(f"{SECRETS[1]}-0", secret), venue=venue)


async def trade(client: Client[Any]) -> None:
    """What is guarded."""
    loop, stop, forever = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    if MODE in ("handler", "loop-handler"):

        def handler(*_: object) -> None:
            say("handled")
            loop.call_soon_threadsafe(stop.set)

        if MODE == "handler":
            signal.signal(signal.SIGTERM, handler)
        else:
            loop.add_signal_handler(signal.SIGTERM, handler)
        forever = stop
    elif MODE == "exit-handler":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    timeout = 1.0 if MODE == "deaf" else 5.0
    guard: Any = cancel_on_exit(Target(client, "cash"), timeout=timeout)
    async with contextlib.nullcontext() if BARE else guard:
        say("in")
        if MODE == "return":
            pass
        elif MODE == "raise":
            raise ValueError("the strategy's own")
        elif MODE == "exit":
            sys.exit(3)
        elif MODE == "graceful":
            with contextlib.suppress(asyncio.CancelledError):
                await forever.wait()
        elif MODE == "deaf":
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await forever.wait()
        else:
            await forever.wait()
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    say("restored" if before == after else "not restored")


async def orphaned() -> None:
    """Main stops by a handler of its own and returns; the strategy runs in a task beside it."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def strategy() -> None:
        async with make_client() as client:
            await trade(client)

    task = asyncio.create_task(strategy())
    await stop.wait()
    del task


async def main() -> None:
    """Run the strategy as the mode wants it."""
    if MODE == "orphan":
        await orphaned()
        return
    async with make_client() as client:
        if MODE == "timeout":
            async with asyncio.timeout(0.05):
                await trade(client)
        elif MODE == "task":
            await asyncio.create_task(trade(client))
        elif MODE == "nested":
            async with cancel_on_exit(Target(client, "margin"), timeout=5.0):
                await trade(client)
        else:
            try:
                await trade(client)
            finally:
                if MODE == "tidy":
                    await asyncio.sleep(0)
                    say("tidied up")
    say("out")


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it as programs do."""
    if RUNNER == "uvloop":
        import uvloop

        uvloop.run(work)
    elif RUNNER == "loop":  # without asyncio.run, Ctrl-C raises KeyboardInterrupt anywhere
        asyncio.new_event_loop().run_until_complete(work)
    else:
        asyncio.run(work)


run(main())
