"""Proxies: tunnels by CONNECT, on loopback."""

from __future__ import annotations

import asyncio
import base64
import socket
import traceback
from typing import Any

import pytest
import trustme

from masscancel.errors import ConfigurationError, NotSent
from masscancel.transport.connection import Connection
from masscancel.transport.dialer import Dialer
from masscancel.transport.proxy import Proxy, environment_proxy
from masscancel.transport.resolver import Address, Resolver
from transport_support import (
    LOOPS,
    Loop,
    answer,
    reply_of,
    request_head,
    server_context,
    serving,
    trusting,
)

HOST = "venue.example"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority of our own."""
    return trustme.CA()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy in the environment."""
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)


class Tunnels:
    """A proxy that sends every tunnel to one port, or answers what it is told."""

    def __init__(self, port: int = 0, *, refusal: bytes = b"", behind: bytes = b"") -> None:
        self.port = port
        self.refusal = refusal
        self.behind = behind
        self.heads: list[bytes] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Open a tunnel."""
        self.heads.append(await request_head(reader))
        if self.refusal:
            writer.write(self.refusal)
            await reader.read()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n" + self.behind)
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            far_writer.transport.abort()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes."""
    while data := await reader.read(65_536):
        writer.write(data)
    writer.transport.abort()


def proxies_at(port: int) -> Resolver:
    """A resolver that knows the proxy's name only."""

    def lookup(host: str, *_: Any, **__: Any) -> list[Address]:
        assert host == "proxy.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    return Resolver(lookup=lookup)


async def dial(dialer: Dialer, origin: str = f"https://{HOST}") -> Connection:
    """Open a connection."""
    return await dialer.dial(origin, lambda: Connection(origin))


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_inside_a_tunnel(run: Loop, scheme: str, authority: trustme.CA) -> None:
    """The proxy resolves the venue's name, and sees nothing of what is said inside."""

    async def main() -> None:
        proxy_tls = server_context(authority.issue_cert("proxy.example"))
        async with serving(answer, server_context(authority.issue_cert(HOST))) as port:
            tunnels = Tunnels(port)
            async with serving(tunnels.handle, proxy_tls if scheme == "https" else None) as at:
                dialer = Dialer(
                    resolver=proxies_at(at),
                    ssl_context=trusting(authority),
                    proxy=f"{scheme}://proxy.example:{at}",
                )
                connection = await dial(dialer)
                for _ in range(3):
                    assert (await reply_of(connection)).body == b"{}"
                assert connection.usable()
                connection.abort()
                await asyncio.sleep(0)
        (head,) = tunnels.heads
        assert head.startswith(b"CONNECT venue.example:443 HTTP/1.1\r\nHost: venue.example:443\r\n")
        assert b"Proxy-Authorization" not in head

    run(main())


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_plain_origin_of_this_machine_is_tunnelled_too(
    run: Loop, scheme: str, authority: trustme.CA
) -> None:
    """Nothing is sent to the proxy itself."""

    async def main() -> None:
        proxy_tls = server_context(authority.issue_cert("proxy.example"))
        async with serving(answer) as port:
            tunnels = Tunnels(port)
            async with serving(tunnels.handle, proxy_tls if scheme == "https" else None) as at:
                dialer = Dialer(
                    resolver=proxies_at(at),
                    ssl_context=trusting(authority),
                    proxy=f"{scheme}://proxy.example:{at}",
                )
                connection = await dial(dialer, "http://[::1]:8080")
                assert (await reply_of(connection)).body == b"{}"
                connection.abort()
                await asyncio.sleep(0)
        assert tunnels.heads[0].startswith(b"CONNECT [::1]:8080 HTTP/1.1\r\n")

    run(main())


@pytest.mark.asyncio
async def test_what_is_not_encrypted_does_not_leave_by_a_proxy_either() -> None:
    """Clear text is for this machine only."""
    dialer = Dialer(proxy="http://proxy.example:1")
    with pytest.raises(ConfigurationError, match="use https"):
        await dial(dialer, f"http://{HOST}")


@pytest.mark.asyncio
async def test_the_credentials_are_sent_and_shown_nowhere(authority: trustme.CA) -> None:
    """Percent-encoded ones, too."""
    async with serving(answer, server_context(authority.issue_cert(HOST))) as port:
        tunnels = Tunnels(port)
        async with serving(tunnels.handle) as at:
            url = f"http://us%40er:s3cr%3At@proxy.example:{at}"
            dialer = Dialer(resolver=proxies_at(at), ssl_context=trusting(authority), proxy=url)
            (await dial(dialer)).abort()
            await asyncio.sleep(0)
            assert "s3cr" not in repr(dialer)
    pair = base64.b64encode(b"us@er:s3cr:t")
    assert b"\r\nProxy-Authorization: Basic " + pair + b"\r\n" in tunnels.heads[0]
    assert repr(Proxy(url)) == f"Proxy(http://proxy.example:{at})"


@LOOPS
def test_a_proxy_that_wants_other_credentials(run: Loop) -> None:
    """That is for a person to mend; no text shows those that were used."""

    async def main() -> None:
        refusal = b"HTTP/1.1 407 Their Words\r\nContent-Length: 3\r\n\r\nno!"
        async with serving(Tunnels(refusal=refusal).handle) as at:
            dialer = Dialer(resolver=proxies_at(at), proxy=f"http://user:s3cret@proxy.example:{at}")
            with pytest.raises(ConfigurationError, match="other credentials") as caught:
                await dial(dialer)
        shown = "".join(traceback.format_exception(caught.value))
        assert f"http://proxy.example:{at}" in shown
        assert "s3cret" not in shown
        assert "Their Words" not in shown

    run(main())


@LOOPS
@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "HTTP 403"),
        (b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n", "HTTP 502"),
        (b"SSH-2.0-OpenSSH\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "spoke before it was asked"),
    ],
)
def test_a_proxy_that_opens_no_tunnel(run: Loop, refusal: bytes, why: str) -> None:
    """Nothing reached the venue."""

    async def main() -> None:
        async with serving(Tunnels(refusal=refusal).handle) as at:
            dialer = Dialer(resolver=proxies_at(at), proxy=f"http://proxy.example:{at}")
            with pytest.raises(NotSent, match=why) as caught:
                await dial(dialer)
            assert not caught.value.may_have_executed

    run(main())


@pytest.mark.asyncio
async def test_a_proxy_that_hangs_up() -> None:
    """Nothing reached the venue."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)

    async with serving(hang_up) as at:
        dialer = Dialer(resolver=proxies_at(at), proxy=f"http://proxy.example:{at}")
        with pytest.raises(NotSent, match="opened no tunnel"):
            await dial(dialer)


@LOOPS
def test_a_proxy_that_does_not_answer(run: Loop) -> None:
    """The time to connect covers the proxy."""

    async def main() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            await reader.read()

        async with serving(silent) as at:
            dialer = Dialer(
                resolver=proxies_at(at),
                proxy=f"http://proxy.example:{at}",
                connect_timeout=0.05,
            )
            with pytest.raises(NotSent, match="no connection in time"):
                await dial(dialer)

    run(main())


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example:3128",
        "socks5://user:s3cret@proxy.example:1080",
        "http://",
        "http://user:s3cret@proxy.example:99999",
        "http://user:s3cret@proxy.example/path",
        "http://user:s3cret@pro xy.example",
        "",
    ],
)
def test_what_is_no_proxy_is_refused(url: str) -> None:
    """At once, without repeating it."""
    with pytest.raises(ConfigurationError) as caught:
        Dialer(proxy=url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
async def test_the_environment_is_read_where_that_is_asked_for(
    name: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With or without a scheme, at each dial."""
    async with serving(answer, server_context(authority.issue_cert(HOST))) as port:
        tunnels = Tunnels(port)
        async with serving(tunnels.handle) as at:
            dialer = Dialer(resolver=proxies_at(at), ssl_context=trusting(authority), proxy="env")
            for url in (f"http://proxy.example:{at}", f"proxy.example:{at}"):
                monkeypatch.setenv(name, url)
                (await dial(dialer)).abort()
                await asyncio.sleep(0)
    assert len(tunnels.heads) == 2


def test_no_proxy_excepts_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does for everything else on the machine."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,.example")
    assert environment_proxy(HOST, 443) is None
    found = environment_proxy("venue.test", 443)
    assert found is not None
    assert found.origin == "http://proxy.example:3128"


@pytest.mark.asyncio
@pytest.mark.parametrize("set_", [False, True])
async def test_a_direct_way_that_fails_mentions_the_proxy_of_the_environment(
    set_: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not used unasked, but it may be what is missing."""
    if set_:
        monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cret@proxy.example:3128")

    def lookup(*_: Any, **__: Any) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NotSent) as caught:
        await dial(Dialer(resolver=Resolver(lookup=lookup)))
    assert ("HTTPS_PROXY" in str(caught.value)) is set_
    assert "s3cret" not in str(caught.value)


@LOOPS
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whoever_gives_up_leaves_no_socket_open(
    run: Loop, scheme: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled after any number of turns of the event loop, until it comes too late."""
    made: list[socket.socket] = []
    make: Any = Dialer._socket  # every socket is made there

    def keep(dialer: Dialer, address: Address) -> socket.socket:
        made.append(make(dialer, address))
        return made[-1]

    monkeypatch.setattr(Dialer, "_socket", keep)

    async def main() -> None:
        proxy_tls = server_context(authority.issue_cert("proxy.example"))
        async with serving(answer, server_context(authority.issue_cert(HOST))) as port:
            tunnels = Tunnels(port)
            async with serving(tunnels.handle, proxy_tls if scheme == "https" else None) as at:
                dialer = Dialer(
                    resolver=proxies_at(at),
                    ssl_context=trusting(authority),
                    proxy=f"{scheme}://proxy.example:{at}",
                )
                turns, late = 0, False
                while not late:
                    task = asyncio.create_task(dial(dialer))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    (result,) = await asyncio.gather(task, return_exceptions=True)
                    turns += 1
                    if isinstance(result, Connection):
                        late = True
                        result.abort()
                    for _ in range(10):
                        await asyncio.sleep(0)
                    assert [sock for sock in made if sock.fileno() != -1] == []

    run(main())
