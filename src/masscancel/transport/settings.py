"""Settings of what stays open: how long to wait, how much to keep."""

import random
from collections.abc import Callable

import msgspec

__all__ = ["StreamSettings", "full_jitter"]


def full_jitter(longest: float) -> float:
    """Draw a wait evenly between nothing and the longest, in seconds."""
    return random.uniform(0.0, longest)  # noqa: S311  # nothing secret


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of websockets. All times are in seconds.

    Attributes:
        reconnect: the wait before a new connection is between nothing and the first of these, and
            doubles up to the second.
        jitter: draws the wait itself, from the longest that it may be.
        patience: how long a login may take.
        ping: how often a ping is sent.
        silent_pings: after so many pings without a word from the venue the connection is replaced.
        close: how long a goodbye may take.
        backlog: how many updates wait for a consumer before it is told of a gap instead.
        max_message: the largest message to be read, in bytes.
    """

    reconnect: tuple[float, float] = (0.1, 5.0)
    jitter: Callable[[float], float] = full_jitter
    patience: float = 3.0
    ping: float = 5.0
    silent_pings: int = 2
    close: float = 0.5
    backlog: int = 10_000
    max_message: int = 1024 * 1024
