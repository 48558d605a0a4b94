"""Names are resolved beside everything else, and what was found is remembered."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from masscancel.transport.resolver import Address, Resolver

HOST = "venue.example"


def address(number: int) -> Address:
    """An address that tells which lookup found it."""
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{number}", 443)


class Names:
    """A name service: what each lookup finds, a number or an error; the last one stays."""

    def __init__(self, *found: int | Exception) -> None:
        self.found = [*found]
        self.asked: list[tuple[Any, ...]] = []
        self.threads: list[threading.Thread] = []
        self.hangs = False
        self.goes_on = threading.Event()

    def lookup(self, host: str, port: int, *, family: int, type: int) -> list[Address]:  # noqa: A002  # its name
        """Find the addresses of a name."""
        self.asked.append((host, port, family, type))
        self.threads.append(threading.current_thread())
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if self.hangs:
            self.goes_on.wait()
        if isinstance(found, Exception):
            raise found
        return [address(found)]


DOWN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.mark.asyncio
async def test_a_name_is_looked_up_once_while_it_is_fresh() -> None:
    """With the port, the family and for streams only."""
    names = Names(1, 2)
    resolver = Resolver(lookup=names.lookup)
    for _ in range(3):
        assert await resolver.resolve(HOST, 443, socket.AF_INET) == [address(1)]
    assert names.asked == [(HOST, 443, socket.AF_INET, socket.SOCK_STREAM)]


@pytest.mark.asyncio
async def test_addresses_that_are_not_fresh_are_looked_up_again() -> None:
    """After the time that they may be used for."""
    names = Names(1, 2)
    resolver = Resolver(ttl=0.0, patience=60.0, lookup=names.lookup)
    assert await resolver.resolve(HOST, 443) == [address(1)]
    assert await resolver.resolve(HOST, 443) == [address(2)]


@pytest.mark.asyncio
async def test_what_could_not_be_reached_is_looked_up_again() -> None:
    """A name that has moved is found where it is now."""
    names = Names(1, 2)
    resolver = Resolver(patience=60.0, lookup=names.lookup)
    await resolver.resolve(HOST, 443)
    resolver.forget("other.example")
    assert await resolver.resolve(HOST, 443) == [address(1)]
    resolver.forget(HOST)
    assert await resolver.resolve(HOST, 443) == [address(2)]


@pytest.mark.asyncio
async def test_when_the_name_service_is_down_the_last_addresses_are_used() -> None:
    """Even those that could not be reached: there are no others."""
    names = Names(1, DOWN)
    resolver = Resolver(patience=60.0, lookup=names.lookup)
    await resolver.resolve(HOST, 443)
    for _ in range(2):
        resolver.forget(HOST)
        assert await resolver.resolve(HOST, 443) == [address(1)]
    assert len(names.asked) == 3


@pytest.mark.asyncio
async def test_when_the_name_service_is_slow_the_last_addresses_are_used() -> None:
    """After the patience that there is; what it finds then is used by who comes later."""
    names = Names(1, 2)
    resolver = Resolver(patience=0.0, lookup=names.lookup)
    await resolver.resolve(HOST, 443)
    names.hangs = True
    resolver.forget(HOST)
    for _ in range(3):
        assert await resolver.resolve(HOST, 443) == [address(1)]
    assert len(names.asked) == 2  # the one that hangs is shared
    names.goes_on.set()
    names.threads[-1].join()
    await asyncio.sleep(0)
    assert await resolver.resolve(HOST, 443) == [address(2)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("problem", "raised"),
    [(DOWN, socket.gaierror), (UnicodeError("label too long"), OSError)],
)
async def test_a_name_that_was_never_found_is_an_error(
    problem: Exception, raised: type[Exception]
) -> None:
    """And is looked up anew the next time."""
    names = Names(problem, 1)
    resolver = Resolver(lookup=names.lookup)
    with pytest.raises(raised):
        await resolver.resolve(HOST, 443)
    assert await resolver.resolve(HOST, 443) == [address(1)]


@pytest.mark.asyncio
async def test_a_name_without_addresses_is_an_error() -> None:
    """As if it had not been found."""
    resolver = Resolver(lookup=lambda *_, **__: [])
    with pytest.raises(OSError, match="no address"):
        await resolver.resolve(HOST, 443)


@pytest.mark.asyncio
async def test_any_number_of_callers_share_a_lookup() -> None:
    """One that gives up takes it away from nobody."""
    names = Names(1)
    names.hangs = True
    resolver = Resolver(lookup=names.lookup)
    tasks = [asyncio.create_task(resolver.resolve(HOST, 443)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    names.goes_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [[address(1)]] * 2
    assert len(names.asked) == 1


@pytest.mark.asyncio
async def test_blocked_default_threads_do_not_matter() -> None:
    """A caller's own blocked work may fill the event loop's threads."""
    loop = asyncio.get_running_loop()
    ends = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        loop.set_default_executor(executor)
        blocked = loop.run_in_executor(None, ends.wait)
        try:
            assert await Resolver(lookup=Names(1).lookup).resolve(HOST, 443) == [address(1)]
        finally:
            ends.set()
            await blocked


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_needs_no_lookup(host: str) -> None:
    """Nobody is asked."""
    names = Names(DOWN)
    found = await Resolver(lookup=names.lookup).resolve(host, 443)
    assert [entry[4][:2] for entry in found] == [(host, 443)]
    assert names.asked == []


@pytest.mark.asyncio
async def test_closing_ends_the_wait_for_a_lookup_that_hangs() -> None:
    """Whoever waits for it gets an error, not a cancellation that nobody asked for."""
    names = Names(1)
    names.hangs = True
    resolver = Resolver(lookup=names.lookup)
    task = asyncio.create_task(resolver.resolve(HOST, 443))
    await asyncio.sleep(0)
    resolver.close()
    with pytest.raises(OSError, match="not resolved any more"):
        await task
    names.goes_on.set()
    names.threads[0].join()


@pytest.mark.asyncio
async def test_without_a_further_thread_the_last_addresses_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the name service is down."""
    resolver = Resolver(lookup=Names(1).lookup)
    await resolver.resolve(HOST, 443)
    resolver.forget(HOST)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert await resolver.resolve(HOST, 443) == [address(1)]
    with pytest.raises(OSError, match="no thread"):
        await resolver.resolve("other.example", 443)


def test_a_lookup_that_hangs_keeps_neither_loop_nor_process_from_ending() -> None:
    """The process ends by itself, with the lookup still on its way."""
    program = """
        import asyncio, contextlib, threading
        from masscancel.transport.resolver import Resolver

        async def main():
            resolver = Resolver(lookup=lambda *a, **k: threading.Event().wait())
            task = asyncio.create_task(resolver.resolve("venue.example", 443))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            resolver.close()

        asyncio.run(main())
        print("ended")
    """
    result = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("ended\n", "")
