"""What several test files use: clients of a simulated exchange, and what such a test looks for."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from masscancel import AscendEX, Client, Credentials, SessionPool
from masscancel.engine.proof import ProofPolicy
from masscancel.sim import Account, Answer, SimulatedExchange
from masscancel.transport.settings import StreamSettings

#: Streams that come back and give up soon, so that a test takes no long time.
QUICK_STREAMS: Final = StreamSettings(reconnect=(0.001, 0.01), close=0.05)
#: What stays listed is swept again soon, so that a test takes no long time.
SWEEPS_OFTEN: Final = ProofPolicy(sweep_again=0.05)

#: AscendEX's own refusals: what is not the venue's own JSON says nothing of the key.
DENIED: Final = Answer(403, b'{"code":200015,"reason":"PERMISSION_DENIED"}')
UNKNOWN_KEY: Final = Answer(401, b'{"code":200001,"reason":"AUTHENTICATION_FAILED"}')

SECRETS = ("a-secret-of-the-tests", "a-key-of-the-tests")


def account_of(exchange: SimulatedExchange, number: int = 0) -> Account:
    """An account with a book of its own: two symbols in each category."""
    account = exchange.add_account(f"{SECRETS[1]}-{number}", f"{SECRETS[0]}-{number}", group=number)
    for category, symbols in (
        ("cash", ("BTC/USDT", "ETH/USDT")),
        ("margin", ("BTC/USDT", "ETH/USDT")),
        ("futures", ("BTC-PERP", "ETH-PERP")),
    ):
        for symbol in symbols:
            exchange.place(account, category, symbol)
    return account


def venue_of(exchange: SimulatedExchange, group: int | None = None) -> AscendEX:
    """Where the exchange listens."""
    return AscendEX(rest_url=exchange.rest_url, stream_url=exchange.stream_url, account_group=group)


def client_of(
    exchange: SimulatedExchange, account: Account, *, discover: bool = False, **options: Any
) -> Client[Any]:
    """A client of the account, not entered yet; it asks for its group if told to discover."""
    return Client(
        Credentials(account.api_key, account.api_secret, label=f"group-{account.group}"),
        venue=venue_of(exchange, None if discover else account.group),
        **options,
    )


def cold_pool(**options: Any) -> SessionPool:
    """A pool that opens no connection by itself, so that a test sees every one."""
    return SessionPool(warm=0, **options)


@asynccontextmanager
async def streaming_client(
    exchange: SimulatedExchange,
    account: Account,
    *,
    streams: StreamSettings = QUICK_STREAMS,
    **options: Any,
) -> AsyncIterator[Client[Any]]:
    """An entered client of the account, with a pool of its own that keeps its streams so."""
    async with (
        SessionPool(streams=streams) as pool,
        client_of(exchange, account, pool=pool, **options) as client,
    ):
        yield client


async def cancelled_on_its_way(
    exchange: SimulatedExchange, leaving: Coroutine[Any, Any, None], times: int
) -> None:
    """Run what leaves with a cancel, which the exchange holds (`Hold("cancel")`); cancel its task.

    Each time the task is seen to go on. Ends as the task does, once the cancel is let go.
    """
    task = asyncio.create_task(leaving)
    await exchange.until(lambda: "cancel" in exchange.waiting)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    exchange.release("cancel")
    await task


@asynccontextmanager
async def raw_server(
    answer: Callable[[bytes, asyncio.StreamWriter], Any],
) -> AsyncIterator[str]:
    """A server that hands each request's bytes to ``answer``; yields its address.

    ``answer`` may be a plain function or a coroutine function; it writes what it likes.
    """
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0].strip()
                body = await reader.readexactly(int(length or 0))
                result = answer(head + body, writer)
                if asyncio.iscoroutine(result):
                    await result
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for task in [*tasks]:
            task.cancel()
        if tasks:
            await asyncio.wait([*tasks])
        await server.wait_closed()
