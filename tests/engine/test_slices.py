"""Large listings that are decoded in turn: none holds up another, whatever becomes of it."""

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from masscancel.engine.slices import Decoding, decode_in_turn
from masscancel.errors import ProtocolError


def slices(
    log: list[str], name: str, raised: BaseException | None = None
) -> Generator[None, None, None]:
    """Three slices; the second may be struck by an exception."""
    for number in range(3):
        if number == 1 and raised is not None:
            raise raised
        log.append(f"{name}{number}")
        yield


@pytest.mark.asyncio
async def test_one_slice_a_turn() -> None:
    """Two listings take turns; one that is given up is decoded no further."""
    log: list[str] = []
    ended = asyncio.Event()
    given_up = Decoding(slices(log, "c"), log.append)
    for decoding in (
        Decoding(slices(log, "a"), lambda _: None),
        Decoding(slices(log, "b"), lambda _: ended.set()),
        given_up,
    ):
        decode_in_turn(asyncio.get_running_loop(), decoding)
    given_up.abandon()
    await ended.wait()
    assert log == ["a0", "b0", "a1", "b1", "a2", "b2"]


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3), ValueError("odd")])
def test_an_exception_in_one_ends_no_other(raised: BaseException) -> None:
    """A signal's handler may raise in the middle of a slice: the loop goes on with the others."""
    log: list[str] = []
    ends: list[Any] = []
    loop = asyncio.new_event_loop()
    decode_in_turn(loop, Decoding(slices(log, "a", raised), ends.append))
    decode_in_turn(loop, Decoding(slices(log, "b"), lambda _: loop.stop()))
    for _ in range(2):
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            continue
        break
    loop.close()
    assert log[-1] == "b2"
    assert [type(end) for end in ends] == [
        ValueError if isinstance(raised, ValueError) else ProtocolError
    ]
