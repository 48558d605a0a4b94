"""What the system does between two lines of ours: forks, process 1, no descriptors left."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

import pytest

from masscancel.sim import SimulatedExchange
from support import account_of

pytestmark = pytest.mark.asyncio

STRATEGY = """
import asyncio, os, resource, signal, sys, threading, time
from masscancel import AscendEX, Client, Credentials, Target, cancel_on_exit

async def main():
    venue = AscendEX(rest_url=sys.argv[1], stream_url=sys.argv[2], account_group=0)
    keys = Credentials(sys.argv[3], sys.argv[4])
    async with Client(keys, venue=venue) as client:
        async with cancel_on_exit(Target(client, "cash"), confirm=False, timeout=1.0):
            {body}

asyncio.run(main())
"""
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child")
READY = "print('ready', flush=True)"

#: A child that is told to end before it has run a single line, as `Process.terminate` may do.
FORK = f"""
            for _ in range(200):
                child = os.fork()
                if not child:
                    signal.pause()
                os.kill(child, signal.SIGTERM)
                assert os.waitpid(child, 0)[1] == signal.SIGTERM
            {READY}
            await asyncio.sleep(60)"""
#: The block has used up all descriptors, and stands still: a thread has to do without.
NO_DESCRIPTORS = f"""
            used = len(os.listdir("/proc/self/fd")) + 2
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
            try:
                while True:
                    os.open(os.devnull, os.O_RDONLY)
            except OSError:
                {READY}
            time.sleep(60)"""
#: The block never ends, whatever is cancelled.
ENDLESS = f"""
            {READY}
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass"""


async def run(exchange: SimulatedExchange, body: str, *, inside: Sequence[str] = ()) -> int:
    """Run a strategy until it is ready, send it SIGTERM; what it has ended with."""
    account = account_of(exchange)
    keys = account.api_key, account.api_secret
    command = [*inside, sys.executable, "-c", STRATEGY.replace("{body}", body)]
    process = await asyncio.create_subprocess_exec(
        *(*command, exchange.rest_url, exchange.stream_url, *keys),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"ready\n"
            pid = process.pid
            if inside:
                children = f"/proc/{pid}/task/{pid}/children"
                with open(children) as file:  # noqa: ASYNC230, PTH123  # of the kernel's
                    pid = int(file.read().split()[0])
            os.kill(pid, signal.SIGTERM)
            status = await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children, too
        await process.wait()
    assert exchange.open_orders(account, "cash") == []
    return status


@pytest.mark.parametrize("body", [FORK, NO_DESCRIPTORS, ENDLESS], ids=["fork", "full", "endless"])
async def test_a_signal(exchange: SimulatedExchange, body: str) -> None:
    """The cancel goes out, and the process ends by the signal."""
    assert await run(exchange, body) == -signal.SIGTERM


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs a namespace of processes"
)
async def test_process_1_whose_block_never_ends(exchange: SimulatedExchange) -> None:
    """No signal ends it, and an exception would wait for the block."""
    assert await run(exchange, ENDLESS, inside=CONTAINER) == 128 + signal.SIGTERM
