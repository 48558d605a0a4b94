"""The frames of a websocket, without a socket."""

from __future__ import annotations

import pytest

from masscancel.transport.frames import (
    BINARY,
    CLOSE,
    PARTIAL,
    PING,
    PONG,
    TEXT,
    FrameError,
    FrameReader,
    encode_frame,
)
from transport_support import frame


def messages(wire: bytes, *, step: int = 0, max_message: int = 100_000) -> list[tuple[int, bytes]]:
    """Parse, in segments of a size; without the frames that are parts."""
    reader = FrameReader(max_message)
    found = []
    for at in range(0, len(wire), step or len(wire)):
        reader.feed(wire[at : at + (step or len(wire))])
        while (message := reader.next()) is not None:
            found.append(message)
    return [message for message in found if message[0] != PARTIAL]


@pytest.mark.unmeasured
@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 1_000, 65_535, 65_536])
def test_messages_of_any_size_in_segments_of_any_size(size: int, step: int) -> None:
    """Each of the three ways to say a length."""
    wire = frame(BINARY, b"x" * size) + frame(TEXT, b"end")
    assert messages(wire, step=step) == [(BINARY, b"x" * size), (TEXT, b"end")]


@pytest.mark.parametrize("step", [0, 1])
def test_control_frames_come_between_the_parts_of_a_message(step: int) -> None:
    """The parts are put together; the ping does not wait for them."""
    wire = (
        frame(TEXT, "é".encode()[:1], fin=False)
        + frame(PING, b"p")
        + frame(PARTIAL, "é".encode()[1:], fin=False)
        + frame(PONG, b"")
        + frame(PARTIAL, b"!")
        + frame(TEXT, b"next")
    )
    assert messages(wire, step=step) == [
        (PING, b"p"),
        (PONG, b""),
        (TEXT, "é!".encode()),
        (TEXT, b"next"),
    ]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (frame(TEXT, b"a", reserved=0x40), 1002),
        (frame(3, b"a"), 1002),
        (frame(11, b"a"), 1002),
        (frame(PING, b"a", fin=False), 1002),
        (frame(PING, b"a" * 126), 1002),
        (frame(PARTIAL, b"a"), 1002),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
        (frame(TEXT, b"", fin=False) + frame(TEXT, b"b"), 1002),
        (b"\x81\x81mask\x0c", 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, (999).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(PARTIAL, b"a"), 1007),
        (frame(TEXT, b"x" * 11), 1009),
        (frame(TEXT, b"x" * 6, fin=False) + frame(PARTIAL, b"x" * 5), 1009),
        (frame(TEXT, b"")[:1] + b"\x7f" + b"\xff" * 8, 1009),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_told_how(wire: bytes, code: int) -> None:
    """By a code; the text holds nothing of what came."""
    with pytest.raises(FrameError) as caught:
        messages(wire, max_message=10)
    assert caught.value.code == code


def test_a_large_message_is_refused_before_it_has_come() -> None:
    """Its length says enough."""
    with pytest.raises(FrameError):
        messages(frame(BINARY, b"x" * 1_000)[:4], max_message=999)
    assert messages(frame(BINARY, b"x" * 1_000), max_message=1_000)


def test_what_came_before_a_broken_frame_is_not_lost() -> None:
    """Messages are returned one by one."""
    reader = FrameReader(100)
    reader.feed(frame(TEXT, b"good") + frame(3, b"bad"))
    assert reader.next() == (TEXT, b"good")
    with pytest.raises(FrameError):
        reader.next()


@pytest.mark.parametrize("size", [0, 1, 4, 125, 126, 65_535, 65_536])
def test_what_a_client_sends_is_masked(size: int) -> None:
    """Whole, in one frame, under a mask of its own each time."""
    payload = bytes(range(256)) * 256 + b"x"
    payload = payload[:size]
    written = encode_frame(TEXT, payload)
    assert written[0] == 0x81
    assert written[1] & 0x80
    head = {126: 4, 127: 10}.get(written[1] & 0x7F, 2)
    mask, masked = written[head : head + 4], written[head + 4 :]
    assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked)) == payload
    if head == 2:
        assert written[1] & 0x7F == size
    else:
        assert int.from_bytes(written[2:head], "big") == size
    assert len({encode_frame(TEXT, payload)[head : head + 4] for _ in range(9)}) > 1
