"""Scenes for the fault matrix: a client, and what is at the other end of its wire.

A case is a scene and what is right in it. `judge` compares what a call came to with what the other
end saw, and lists what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import json
import socket
import ssl
import threading
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import trustme

from masscancel import (
    Ack,
    AscendEX,
    Client,
    Credentials,
    MassCancelError,
    OutcomeUnknown,
    ProtocolError,
    RetryPolicy,
    SessionPool,
)
from masscancel.sim import (
    Drop,
    SimulatedExchange,
    What,
)
from masscancel.transport.resolver import Resolver
from peers import Peer, Seen, ack_bytes, http
from proxy import Proxy
from support import SECRETS, account_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

#: One attempt and no more, so that a row's error comes at once and no clock decides.
ONCE = RetryPolicy(base=3600.0, patience=3600.0)


class Signed(NamedTuple):
    """What of a request at the other end says whether it is an attempt of its own."""

    connection: int
    timestamp: str
    signature: str


@dataclass
class Scene:
    """A client and what is at the other end of its wire.

    `sends` gives the cancel-alls that arrived there, `executed` whether any was carried out (None:
    nobody there carries anything out).
    """

    client: Client[Any]
    pool: SessionPool
    sends: Callable[[], list[Signed]]
    executed: Callable[[], bool | None]

    def in_use(self) -> int:
        """How many connections of the pool are taken."""
        return in_use(self.pool)


def in_use(pool: SessionPool) -> int:
    """How many open connections of a pool are taken (a look inside). A dial is nobody's own."""
    pool.chores.finish()
    hosts: list[Any] = [*pool._hosts.values()]
    idle = sum(len(stack) for host in hosts for stack in host._idle.values())
    return sum(len(host.open) for host in hosts) - idle


Stage: TypeAlias = "Callable[[RetryPolicy], AbstractAsyncContextManager[Scene]]"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row and what is right in it.

    `error` is what the call must raise (None: an Ack must come), `unknown` what the error must say
    in `may_have_executed` (None: either), `sends` how many requests may reach the other end.
    `persistent` cases are played with the usual retries, the others with one attempt.
    """

    name: str
    row: str
    stage: Stage
    error: type[MassCancelError] | tuple[type[MassCancelError], ...] | None = None
    unknown: bool | None = True
    sends: tuple[int, ...] = (1,)
    timeout: float = 5.0
    persistent: bool = False

    def __str__(self) -> str:
        return self.name


async def call(case: Case, scene: Scene, *, timeout: float | None = None) -> Ack | MassCancelError:
    """Make the call; its Ack, or its error of ours. Anything else is raised."""
    try:
        return await scene.client.cancel_all("cash", timeout=timeout or case.timeout)
    except MassCancelError as error:
        return error


def judge(case: Case, scene: Scene, result: Ack | MassCancelError) -> list[str]:
    """What is wrong, by what the other end saw; empty if nothing is."""
    wrong = []
    sends, executed = scene.sends(), scene.executed()
    reached = [attempt for attempt in result.attempts if attempt.fate != "not sent"]
    if isinstance(result, Ack):
        if case.error is not None:
            wrong.append(f"a false Ack: {result!r}")
        if executed is False:
            wrong.append("an Ack of what was never executed")
    else:
        if case.error is None or not isinstance(result, case.error):
            wrong.append(f"the wrong error: {type(result).__name__} {result}")
        elif case.unknown not in (None, result.may_have_executed):
            wrong.append(f"may_have_executed is {result.may_have_executed}")
        if executed and not result.may_have_executed:
            wrong.append("it was executed, and the error denies it")
    if len(sends) > len(reached):
        wrong.append(f"{len(sends)} sends of {len(reached)} attempts")
    if len(sends) not in case.sends:
        wrong.append(f"{len(sends)} sends, not {case.sends}")
    stamps = sorted(str(attempt.sent_at_ms) for attempt in reached)
    for send in sends:  # each has a timestamp of its own attempt
        if send.timestamp in stamps:
            stamps.remove(send.timestamp)
        else:
            wrong.append("a signature is used twice")
    if len({send.connection for send in sends}) < len(sends) and case.row.startswith("FIN or RST"):
        wrong.append("a connection that had failed was used again")
    return wrong


def ours() -> list[str]:
    """The tasks of the library that are left, apart from the simulator's."""
    left = [repr(task) for task in asyncio.all_tasks()]
    return [task for task in left if "/masscancel/" in task and "/masscancel/sim/" not in task]


# --- stages ---------------------------------------------------------------------------------------


def client_at(rest_url: str, pool: SessionPool, retry: RetryPolicy, number: int = 0) -> Client[Any]:
    """A client of the account of that number, not entered yet."""
    venue = AscendEX(
        rest_url=rest_url, stream_url=rest_url.replace("http", "ws"), account_group=number
    )
    credentials = Credentials(f"{SECRETS[1]}-{number}", f"{SECRETS[0]}-{number}", label="it")
    return Client(credentials, venue=venue, pool=pool, retry=retry)


def _signed(seen: Any, connection: int) -> Signed:
    return Signed(connection, seen.header("x-auth-timestamp"), seen.header("x-auth-signature"))


def exchange(*arrange: Any, times: int | None = 1, used: bool = False, stale: int = 0) -> Stage:
    """The simulated exchange, with faults on its cancel-alls.

    `used`: on a connection that has served before. `stale`: after so many connections in the pool
    have been ended by the exchange.
    """

    @asynccontextmanager
    async def stage(retry: RetryPolicy) -> AsyncIterator[Scene]:
        async with SimulatedExchange() as venue, SessionPool(warm=0) as pool:
            account_of(venue)
            async with client_at(venue.rest_url, pool, retry) as client:
                before = max(stale, int(used))
                await asyncio.gather(*(client.cancel_all("margin") for _ in range(before)))
                for fault in arrange:
                    venue.faults.add(fault, operation="cancel-all", times=times)
                if stale:
                    venue.drop_connections(reset=bool(stale % 2))

                def executed() -> bool:
                    return any(
                        record.what is What.CANCELLED and record.category == "cash"
                        for record in venue.log
                    ) or any(r.executed for r in venue.operations("cancel-all")[before:])

                def sends() -> list[Signed]:
                    requests = venue.operations("cancel-all")[before:]
                    return [_signed(request, request.connection) for request in requests]

                yield Scene(client, pool, sends, executed)

    return stage


def peer(
    answer: Callable[[Seen, asyncio.StreamWriter], Any],
    *,
    greet: Callable[[asyncio.StreamWriter], Any] | None = None,
    tls: Callable[[], tuple[ssl.SSLContext | None, ssl.SSLContext | None]] = lambda: (None, None),
) -> Stage:
    """A raw server, over TLS if given the server's and the client's contexts."""

    @asynccontextmanager
    async def stage(retry: RetryPolicy) -> AsyncIterator[Scene]:
        servers, clients = tls()
        async with (
            Peer(answer, greet=greet, tls=servers) as other,
            SessionPool(warm=0, ssl_context=clients) as pool,
            client_at(other.rest_url, pool, retry) as client,
        ):
            yield Scene(
                client,
                pool,
                lambda: [_signed(seen, seen.connection) for seen in other.seen],
                lambda: None,
            )

    return stage


def says(reply: Callable[[Seen], bytes] | bytes, *, close: bool = False) -> Stage:
    """A raw server that answers every request with this."""

    def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(reply if isinstance(reply, bytes) else reply(seen))
        if close:
            writer.close()

    return peer(answer)


def acks(**changes: Any) -> Stage:
    """A raw server whose acknowledgements are true apart from the changes."""
    return says(lambda seen: http(ack_bytes(seen, **changes)))


def proxied(arrange: Callable[[Proxy], Any], *, used: int = 0) -> Stage:
    """The exchange behind the proxy; `arrange` breaks it once `used` connections are pooled."""

    @asynccontextmanager
    async def stage(retry: RetryPolicy) -> AsyncIterator[Scene]:
        async with SimulatedExchange() as venue, SessionPool(warm=0) as pool:
            account_of(venue)
            async with Proxy(venue.port) as proxy, client_at(proxy.rest_url, pool, retry) as client:
                await asyncio.gather(*(client.cancel_all("margin") for _ in range(used)))
                arrange(proxy)

                def requests() -> list[Any]:
                    return venue.operations("cancel-all")[used:]

                yield Scene(
                    client,
                    pool,
                    lambda: [_signed(request, request.connection) for request in requests()],
                    lambda: any(request.executed for request in requests()),
                )

    return stage


def nobody(port: Callable[[], Any], scheme: str = "http", host: str = "127.0.0.1") -> Stage:
    """A port where no server is."""

    @asynccontextmanager
    async def stage(retry: RetryPolicy) -> AsyncIterator[Scene]:
        async with contextlib.AsyncExitStack() as stack:
            manager = port()
            if hasattr(manager, "__aenter__"):
                number = await stack.enter_async_context(manager)
            else:
                number = stack.enter_context(manager)
            pool = await stack.enter_async_context(SessionPool(warm=0))
            url = f"{scheme}://{host}:{number}"
            client = await stack.enter_async_context(client_at(url, pool, retry))
            yield Scene(client, pool, list, lambda: False)

    return stage


def names(mode: str) -> Stage:
    """A name that does not resolve: the name service fails or hangs."""

    @asynccontextmanager
    async def stage(retry: RetryPolicy) -> AsyncIterator[Scene]:
        ends = threading.Event()

        def lookup(*_: Any, **__: Any) -> Any:
            if mode == "hangs":
                ends.wait()
            if mode == "label":
                raise UnicodeError("label too long")
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        pool = SessionPool(warm=0)
        async with pool, client_at("https://venue.test", pool, retry) as client:
            pool._dialer.resolver = Resolver(lookup=lookup)  # in place of the system's
            try:
                yield Scene(client, pool, list, lambda: False)
            finally:
                ends.set()

    return stage


# --- TLS ------------------------------------------------------------------------------------------


@lru_cache
def authority() -> trustme.CA:
    """A certificate authority of the tests' own."""
    return trustme.CA()


def trusting() -> ssl.SSLContext:
    """A context that trusts the tests' authority."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


def serving(*hosts: str, **options: Any) -> ssl.SSLContext:
    """A server's context, with a certificate for the hosts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert(*hosts, **options).configure_cert(context)
    return context


def expired() -> ssl.SSLContext:
    """A server's context whose certificate has run out."""
    return serving("127.0.0.1", not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))


def cut_without_goodbye(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """The head and half of the body, then a FIN of TCP, without TLS's own goodbye."""
    body = ack_bytes(seen)
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body[: len(body) // 2])
    sock = writer.get_extra_info("socket")
    sock.shutdown(socket.SHUT_RDWR)


def hang_up_in_handshake(writer: asyncio.StreamWriter) -> None:
    """Close before any handshake."""
    writer.close()


async def alerts(writer: asyncio.StreamWriter) -> None:
    """Answer a handshake with a fatal alert."""
    writer.write(b"\x15\x03\x03\x00\x02\x02\x28")  # a fatal alert: handshake failure
    await writer.drain()


def tls_over_plain(greet: Callable[[asyncio.StreamWriter], Any]) -> Stage:
    """A server that speaks no TLS where TLS is expected."""

    @asynccontextmanager
    async def stage(retry: RetryPolicy) -> AsyncIterator[Scene]:
        async with (
            Peer(lambda *_: None, greet=greet) as other,
            SessionPool(warm=0, ssl_context=trusting()) as pool,
            client_at(other.rest_url.replace("http", "https"), pool, retry) as client,
        ):
            yield Scene(client, pool, list, lambda: False)

    return stage


# --- answers --------------------------------------------------------------------------------------


def floods(chunk: bytes, first: bytes = b"") -> Callable[[Seen, asyncio.StreamWriter], Any]:
    """Writes without end."""

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)

    return answer


@lru_cache
def bomb() -> bytes:
    """A few dozen KiB that unpack to 64 MiB."""
    return gzip.compress(bytes(2**26))


def drips(chunks: Callable[[Seen], list[bytes]]) -> Callable[[Seen, asyncio.StreamWriter], Any]:
    """Writes a little at a time, then nothing more."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        for chunk in chunks(seen):
            writer.write(chunk)
            await asyncio.sleep(0.0005)

    return answer


def chunked(seen: Seen, *, trailers: bytes = b"", ext: bytes = b"") -> bytes:
    """An Ack in one chunk, with an extension and trailers."""
    body = ack_bytes(seen)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x%s\r\n%s\r\n0\r\n%s\r\n" % (len(body), ext, body, trailers)


def json_is(text: str) -> Stage:
    """A raw server that answers this."""
    return says(http(text.encode()))


def acks_in_http(*headers: str, **options: Any) -> Stage:
    """A raw server of true acknowledgements, in HTTP that is odd."""
    return says(lambda seen: http(ack_bytes(seen), *headers, **options))


def acks_with(text: str) -> Stage:
    """A raw server of acknowledgements in whose info this text stands as well, at its end."""
    more = f", {text}}}}}}}"
    return says(lambda seen: http(ack_bytes(seen).decode().replace("}}}", more).encode()))


def echoes(status: str) -> Callable[[Seen], bytes]:
    """Whatever was asked, said back in every place that there is."""

    def reply(seen: Seen) -> bytes:
        head = seen.head.decode("latin-1")
        key, sig = seen.header("x-auth-key"), seen.header("x-auth-signature")
        body = json.dumps({"code": 100001, "reason": f"{key} {sig}", "message": head}).encode()
        return http(body, f"Content-Type: {key} {sig}", status=status)

    return reply


def echoes_in_a_page(seen: Seen) -> bytes:
    """Whatever was asked, said back as a page and in headers."""
    key, sig = seen.header("x-auth-key"), seen.header("x-auth-signature")
    page = f"<html>{seen.head.decode('latin-1')}</html>".encode()
    return http(page, f"Content-Type: x/{key}", f"X-Echo: {sig}", status="502 Bad Gateway")


HTML = b"<html><body><h1>It works no more</h1></body></html>"
#: A refusal in the venue's own envelope: what is not in it is a page of who knows whom.
REFUSED = b'{"code":200015,"reason":"PERMISSION_DENIED","message":"no"}'
EITHER = (ProtocolError, OutcomeUnknown)
RETRIED = tuple(range(1, 13))  # within the 0.2 s that such a case has


def page(status: str, *headers: str) -> Stage:
    """A raw server that answers a page of HTML."""
    return says(http(HTML, "Content-Type: text/html", *headers, status=status))


def lost(executed: bool, reset_: bool, used: bool) -> Case:
    """A connection that ends instead of a reply."""
    how = "RST" if reset_ else "FIN"
    where = "reused" if used else "fresh"
    return Case(
        name=f"{how} on a {where} connection, {'' if executed else 'not '}executed",
        row=f"FIN or RST on a {where} connection",
        stage=exchange(Drop(executed=executed, reset=reset_), used=used),
        sends=(2,),
        persistent=True,
    )
