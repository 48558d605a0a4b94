"""Runs one websocket: a dialect's session here, aiohttp's frames there, and faults between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import WSMsgType, web
from msgspec.structs import replace

from masscancel.sim.faults import (
    Answer,
    Decision,
    Delay,
    Disconnected,
    Drop,
    DuplicateAck,
    DuplicateReply,
    Ending,
    ForeignId,
    Hang,
    Hold,
    HugeBody,
    Ignore,
    LateAck,
    Truncate,
    WithoutId,
)
from masscancel.sim.wire import end_connection, write_raw

if TYPE_CHECKING:
    from masscancel.sim.dialect import Request, Session
    from masscancel.sim.host import Host
    from masscancel.sim.orders import Order
    from masscancel.sim.records import Received

_CLOSE_S: Final = 1.0  # how long a client may take to answer our close
_GOING_AWAY: Final = b"\x88\x02\x03\xe9"  # a close frame with code 1001
_SHORT_FRAME: Final = 126

_End: TypeAlias = Drop | Disconnected
"""How a websocket ends once what is queued before is sent; `Disconnected`: by an orderly close."""


class Stream:
    """One websocket, from its upgrade to its end. `upgrade` is the request that opened it."""

    def __init__(
        self, host: Host, session: Session, upgrade: Request, transport: asyncio.Transport | None
    ) -> None:
        self.session = session
        self._host = host
        self._transport = transport
        self._message = replace(upgrade, method="WS", headers={}, body=b"")
        self._socket = web.WebSocketResponse(
            timeout=_CLOSE_S, autoclose=False, compress=False, max_msg_size=2**20
        )
        self._outgoing: asyncio.Queue[bytes | _End] = asyncio.Queue()
        self._ending = False
        self._frozen = False

    async def run(self, http: web.BaseRequest, ping_interval: float | None) -> web.StreamResponse:
        """Talk until either side ends it, or the exchange closes."""
        await self._socket.prepare(http)
        leave = self._host.engine.listen(self._order_changed)
        writer = asyncio.get_running_loop().create_task(self._write())
        if ping_interval is not None:
            self._ping_every(ping_interval)
        self._send(None, self.session.greet())
        try:
            await self._read()
        finally:
            leave()
            self._ending = True
            writer.cancel()
            await asyncio.wait([writer])
        return self._socket

    # --- what the exchange does -----------------------------------------------------------------

    def push(self, message: bytes) -> None:
        """Send any message, such as a balance, a ping, or nonsense."""
        self._put(message)

    def ping(self) -> None:
        """Do what the venue does once per ping interval: ping the client, or end a silent one."""
        self._send(None, self.session.ping(self._host.moment()))

    def end(self, *, reset: bool) -> None:
        """End it now, by RST or by FIN."""
        self._ending = True
        end_connection(self._transport, reset=reset)

    def hang_up(self) -> None:
        """End it now, with a close frame."""
        write_raw(self._transport, _GOING_AWAY)
        self.end(reset=False)

    def _ping_every(self, seconds: float) -> None:
        def tick() -> None:
            if not self._ending:
                self.ping()
                self._host.later(seconds, tick)

        self._host.later(seconds, tick)

    def _order_changed(self, order: Order) -> None:
        for update in self.session.order_changed(order, self._host.moment()):
            about = replace(self._message, operation="order-update", api_key=self.session.api_key)
            self._send(self._host.faults.decide(about).ending, [update])

    # --- reading --------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                await self._process(message.data.encode())
            elif message.type is WSMsgType.BINARY:
                await self._process(message.data)
            elif message.type is WSMsgType.CLOSE:
                await self._client_closes()
                return
            else:
                return

    async def _process(self, body: bytes) -> None:
        received, decision = self._admit(self.session.operation(body), body)
        if any(isinstance(modifier, Delay | Hold) for modifier in decision.modifiers):
            self._host.spawn(self._carry_out(received, decision))  # others need not wait for it
        else:
            await self._carry_out(received, decision)

    def _admit(self, operation: str, body: bytes) -> tuple[Received, Decision]:
        about = replace(self._message, operation=operation, api_key=self.session.api_key, body=body)
        received = self._host.record(self._transport, about)
        decision = self._host.faults.decide(about)
        received.actions = decision.actions
        return received, decision

    async def _carry_out(self, received: Received, decision: Decision) -> None:
        if not await self._host.wait_before(decision):
            return
        answers: list[bytes] = []
        if decision.executed:
            moment = self._host.moment(decision)
            self._host.engine.advance(moment.now_ms)
            answers = self.session.receive(received.body, moment)
            received.executed = True
        ending = decision.ending
        if isinstance(ending, LateAck):
            received.answer = "late"
            self._host.spawn(self._answer_late(ending.tag, answers))
        else:
            received.answer = "answered" if ending is None else type(ending).__name__
            self._send(ending, answers)
        self._host.advance()  # the answer is out: now what it set in motion may take effect
        self._host.stir()
        if isinstance(ending, Hang):
            await self._host.waits.pause(ending.tag)  # deaf and dumb until then
            self.end(reset=True)

    async def _answer_late(self, tag: str, answers: list[bytes]) -> None:
        if await self._host.waits.pause(tag):
            self._send(None, answers)

    async def _client_closes(self) -> None:
        received, decision = self._admit("close", b"")
        if isinstance(decision.ending, Ignore | Hang):
            received.answer = "Ignore"
            self._host.stir()
            await self._host.waits.pause("close")
            self.end(reset=True)
        else:
            received.answer = "answered"
            await self._socket.close()

    # --- writing --------------------------------------------------------------------------------

    def _send(self, ending: Ending | None, messages: list[bytes]) -> None:
        """Queue messages as an ending has them; then the end, if the session is over."""
        session = self.session
        match ending:
            case Ignore():
                messages = []
            case Hang():
                self._frozen = True
                messages = []
            case Drop():
                messages = []
                self._put(ending)
            case Answer():
                messages = [ending.body]
            case HugeBody():
                messages = [m + b" " * (ending.size - len(m)) for m in messages]
            case WithoutId():
                messages = [session.readdress(m, "") for m in messages]
            case ForeignId():
                foreign = [session.readdress(m, ending.request_id) for m in messages]
                messages = foreign + messages if ending.then_own else foreign
            case DuplicateAck() | DuplicateReply():
                messages = messages * 2
            case Truncate():
                self._cut(messages, ending.keep)
                messages = []
            case Disconnected():
                messages = [*messages, *session.disconnect()]
            case _:
                pass
        for message in messages:
            self._put(message)
        if session.closed:
            self._put(Disconnected())

    def _put(self, item: bytes | _End) -> None:
        if self._ending:
            return
        if not isinstance(item, bytes):
            self._ending = True
        elif self._outgoing.qsize() >= self._host.backlog:
            self.end(reset=True)
        self._outgoing.put_nowait(item)

    def _cut(self, messages: list[bytes], keep: int | None) -> None:
        """Write part of a frame, and end the connection in the middle of it."""
        message = b"".join(messages[:1])
        size = len(message)
        length = bytes([size]) if size < _SHORT_FRAME else b"\x7e" + size.to_bytes(2)
        write_raw(
            self._transport, b"\x81" + length + message[: size // 2 if keep is None else keep]
        )
        self.end(reset=False)

    async def _write(self) -> None:
        while True:
            item = await self._outgoing.get()
            if self._frozen:
                continue
            if isinstance(item, bytes):
                try:
                    await self._socket.send_frame(item, WSMsgType.TEXT)
                except ConnectionError:
                    return
            elif isinstance(item, Drop):
                self.end(reset=item.reset)
            else:
                await self._socket.close()
