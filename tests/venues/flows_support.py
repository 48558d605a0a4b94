"""Driving a venue's flows by hand: no socket, no engine, any order of answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from masscancel.calls import Call, Flow, Reply, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import MassCancelError

if TYPE_CHECKING:
    from masscancel.models import Ack

NOW = 1_700_000_000_000
CREDENTIALS = Credentials("key", "secret")


class Part:
    """A call that waits for its answer, or a flow whose parts do."""

    def __init__(self, part: Call[Any] | Flow[Any]) -> None:
        self.part: Any = part
        self.done = False
        self.value: Any = None
        self.parts: list[Part] = []
        if not isinstance(part, Call):
            self._step(partial(next, part))

    def calls(self) -> list[Part]:
        """The calls that are under way, in order."""
        if isinstance(self.part, Call):
            return [] if self.done else [self]
        return [call for part in self.parts for call in part.calls()]

    def settle(self) -> None:
        """Let the flows go on whose parts have all been answered."""
        for part in self.parts:
            part.settle()
        while not self.done and self.parts and all(part.done for part in self.parts):
            results = [part.value for part in self.parts]
            self._step(partial(self.part.send, results))

    def end(self, value: Any) -> None:
        """This is its value, or its error."""
        self.done, self.value = True, value

    def _step(self, step: Callable[[], Sequence[Any]]) -> None:
        try:
            self.parts = [Part(part) for part in step()]
        except StopIteration as stop:
            self.end(stop.value)
        except MassCancelError as error:
            self.end(error)
        else:
            self.settle()


class Drive:
    """Takes a flow to its end; the test answers its calls, in any order."""

    def __init__(self, flow: Flow[Any]) -> None:
        self.root = Part(flow)

    @property
    def calls(self) -> list[Call[Any]]:
        """The calls that have no answer yet, in order."""
        return [part.part for part in self.root.calls()]

    @property
    def value(self) -> Any:
        """What the flow returned or raised; ``None`` while it goes on."""
        return self.root.value

    def answer(self, path: str, reply: Any, symbol: str = "", status: int = 200) -> None:
        """Answer the call to a path; with bytes, with rows, or with an error."""
        (part,) = [
            part
            for part in self.root.calls()
            if part.part.path.endswith(f"/{path}") and symbol_of(part.part) == symbol
        ]
        part.end(reply if isinstance(reply, MassCancelError) else decoded(part.part, reply, status))
        self.root.settle()

    def round(self, *results: Any) -> Drive:
        """End every call that is under way: with these values or errors, in order."""
        for part, result in zip(self.root.calls(), results, strict=True):
            part.end(result)
        self.root.settle()
        return self

    def cancels(self) -> list[str]:
        """The cancels that are under way, in the order in which they were written."""
        return [
            f"{call.path.rpartition('/')[2]} {symbol_of(call)}"
            for call in self.calls
            if call.method == "DELETE"
        ]

    def all_cancelled(self, body: bytes) -> None:
        """Answer every cancel that is under way."""
        for name in self.cancels():
            path, symbol = name.split()
            self.answer(path, body, symbol)

    def result(self) -> Any:
        """What the flow has come to; its error is raised."""
        assert self.root.done
        if isinstance(self.value, MassCancelError):
            raise self.value
        return self.value

    def ack(self) -> Ack:
        """The Ack that the flow has come to; its error is raised."""
        ack: Ack = self.result()
        return ack


def symbol_of(call: Call[Any]) -> str:
    """The symbol in the query of a call."""
    return asked(call).partition("symbol=")[2].partition("&")[0]


def asked(call: Call[Any]) -> str:
    """The query of a call."""
    request = call.sign(call, CREDENTIALS, Stamp(NOW))
    return (request.target + request.body.decode()).partition("?")[2]


def value_of(call: Call[Any], reply: Reply, stamp: Stamp) -> Any:
    """What the call makes of a reply, however many slices it is decoded in; errors are raised."""
    value = call.decode(reply, stamp)
    return taken(value)[0] if isinstance(value, Generator) else value


def decoded(call: Call[Any], body: Any, status: int = 200, **headers: str) -> Any:
    """What the call makes of a reply: the value, or the error."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        return value_of(call, Reply(status, named, content), Stamp(NOW))
    except MassCancelError as error:
        return error


def taken(slices: Generator[None, None, Any]) -> tuple[Any, list[float]]:
    """The value of slices, and how long each of them took, in seconds."""
    lasted: list[float] = []
    while True:
        start = time.perf_counter()
        try:
            next(slices)
        except StopIteration as stop:
            return stop.value, [*lasted, time.perf_counter() - start]
        lasted.append(time.perf_counter() - start)


def calls_of(flow: Flow[Any]) -> list[Call[Any]]:
    """The calls that a flow begins with; what it refuses to begin with is raised."""
    drive = Drive(flow)
    return drive.calls if not drive.root.done else drive.result()[:0]
