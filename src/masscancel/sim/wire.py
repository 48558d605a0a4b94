"""Puts replies on the wire, whole or broken, as a fault's ending says."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from masscancel.sim.dialect import Reply
from masscancel.sim.faults import (
    Answer,
    Disconnected,
    Drop,
    DuplicateReply,
    Ending,
    GzipBomb,
    Hang,
    HugeBody,
    Ignore,
    LateAck,
    Redirect,
    Trickle,
    Truncate,
    TwoContentLengths,
    Unsolicited,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDLESS: Final = 2**40
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class Waits:
    """Everything that waits: until it is released, until its time is up, or until the close."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._waiting: dict[asyncio.Future[bool], str] = {}
        self._closed = False

    @property
    def tags(self) -> list[str]:
        """The tags of all that wait now."""
        return list(self._waiting.values())

    async def pause(self, tag: str = "", *, seconds: float | None = None) -> bool:
        """Wait for `release(tag)`, or for `seconds`; False if `close` came instead."""
        if self._closed:
            return False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting[future] = tag
        self._changed()
        timer = None if seconds is None else loop.call_later(seconds, _set, future, True)
        try:
            return await future
        finally:
            del self._waiting[future]
            if timer is not None:
                timer.cancel()

    def release(self, tag: str = "") -> int:
        """Let everything go that waits under `tag`; returns how many that is."""
        waiting = [future for future, its_tag in self._waiting.items() if its_tag == tag]
        for future in waiting:
            _set(future, True)
        return len(waiting)

    def close(self) -> None:
        """End every wait, now and from now on."""
        self._closed = True
        for future in self._waiting:
            _set(future, False)


def _set(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


def raw(reply: Reply, *extra: tuple[str, str], length: int | None = None) -> bytes:
    """Serialise a reply by hand; `length` is what Content-Length claims (None: the truth)."""
    claimed = len(reply.body) if length is None else length
    headers = (*reply.headers, ("Content-Length", str(claimed)), *extra)
    lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + reply.body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 520 and its like, which only proxies know
        return "Unknown"


def end_connection(transport: asyncio.Transport | None, *, reset: bool) -> None:
    """End a connection, by RST or by FIN; harmless if it has ended."""
    if transport is None or transport.is_closing():
        return
    if reset:
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()
    else:
        transport.close()


def write_raw(transport: asyncio.Transport | None, data: bytes) -> None:
    """Write bytes past aiohttp; harmless if the connection has ended."""
    if transport is not None and not transport.is_closing():
        transport.write(data)


async def send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send a whole reply, and return when it is written."""
    response = web.Response(status=reply.status, body=reply.body, headers=dict(reply.headers))
    await response.prepare(request)
    await response.write_eof()
    return response


async def send_ending(
    request: web.BaseRequest,
    reply: Reply,
    ending: Ending | None,
    waits: Waits,
    later: Callable[[float, Callable[[], None]], None],
) -> tuple[web.StreamResponse, str]:
    """Play an ending; `reply` is the venue's own answer, empty if the request was not executed.

    `later(seconds, callback)` is the server's timer. Returns the response for aiohttp, and in a
    word how the request was answered. What has no response ends its connection, so that aiohttp
    sends nothing of its own.
    """
    transport = request.transport
    over = web.Response()  # never written: the connection has ended by then
    match ending:
        case Hang() | Ignore():
            await waits.pause(ending.tag if isinstance(ending, Hang) else "")
            end_connection(transport, reset=True)
            return over, "hung"
        case Drop() | Disconnected():
            end_connection(transport, reset=isinstance(ending, Drop) and ending.reset)
            return over, "dropped"
        case LateAck():
            await waits.pause(ending.tag)
            return await send(request, reply), "late"
        case Answer():
            return await send(request, Reply(ending.status, ending.body, ending.headers)), "faked"
        case Redirect():
            return await send(
                request, Reply(ending.status, b"", (("Location", ending.location),))
            ), ("redirected")
        case Trickle():
            await _trickle(transport, reply, ending, waits)
            return over, "trickled"
        case Truncate():
            keep = len(reply.body) // 2 if ending.keep is None else ending.keep
            cut = Reply(reply.status, reply.body[:keep], reply.headers)
            write_raw(transport, raw(cut, length=len(reply.body)))
            end_connection(transport, reset=False)
            return over, "truncated"
        case TwoContentLengths():
            write_raw(transport, raw(reply, ("Content-Length", str(len(reply.body) + 1))))
            end_connection(transport, reset=False)
            return over, "two content lengths"
        case HugeBody():
            padded = reply.body + b" " * (ending.size - len(reply.body))
            return await send(request, Reply(reply.status, padded, reply.headers)), "huge"
        case GzipBomb():
            packed = gzip.compress(reply.body + b" " * (ending.size - len(reply.body)), 9)
            headers = (*reply.headers, ("Content-Encoding", "gzip"))
            return await send(request, Reply(reply.status, packed, headers)), "bomb"
        case DuplicateReply():
            write_raw(transport, raw(reply) * 2)
            end_connection(transport, reset=False)
            return over, "duplicated"
        case Unsolicited():
            response = await send(request, reply)
            data = raw(reply) if ending.data is None else ending.data
            later(ending.after, lambda: write_raw(transport, data))
            return response, "answered, and more"
        case _:
            return await send(request, reply), "answered"


async def _trickle(
    transport: asyncio.Transport | None, reply: Reply, ending: Trickle, waits: Waits
) -> None:
    head, _, body = raw(reply, length=_ENDLESS if ending.forever else None).partition(b"\r\n\r\n")
    write_raw(transport, head + b"\r\n\r\n")
    sent = 0
    while ending.forever or sent < len(body):
        if not await waits.pause("trickle", seconds=ending.interval) or _gone(transport):
            break
        write_raw(transport, body[sent : sent + 1] or b" ")
        sent += 1
    end_connection(transport, reset=False)


def _gone(transport: asyncio.Transport | None) -> bool:
    return transport is None or transport.is_closing()
