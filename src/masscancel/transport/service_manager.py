"""Messages to a service manager: systemd's protocol of ``sd_notify``, datagrams on a unix socket.

Source: the manual page ``sd_notify(3)`` of systemd. Nothing here blocks or raises: a service that
nobody hears does its work all the same.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

__all__ = ["VARIABLES", "ServiceManager"]

_SOCKET: Final = "NOTIFY_SOCKET"
_WATCHDOG: Final = "WATCHDOG_USEC"
_WATCHDOG_PID: Final = "WATCHDOG_PID"
#: What concerns the service alone, and none of the processes that it starts.
VARIABLES: Final = (_SOCKET, _WATCHDOG, _WATCHDOG_PID)
_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """The service manager that started this process, if there is one.

    Args:
        environment: where it says how it is reached.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get(_SOCKET, "")
        if self._address.startswith("@"):  # the abstract namespace
            self._address = "\0" + self._address[1:]
        #: How often it wants to hear that this process is well, in seconds; ``None`` for never.
        self.watchdog = _watchdog(environment) if self._address else None

    def tell(self, *lines: str) -> None:
        """Tell it how this process is doing, such as ``READY=1`` or ``STATUS=...``."""
        if not self._address:
            return
        text = "\n".join(" ".join(line.splitlines()) for line in lines)
        with (
            suppress(OSError, ValueError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours,
        ):
            ours.setblocking(False)
            ours.sendto(text.encode(errors="replace"), self._address)


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """The time after which it takes this process for dead, in seconds."""
    if environment.get(_WATCHDOG_PID, str(os.getpid())) != str(os.getpid()):
        return None  # it means another process
    text = environment.get(_WATCHDOG, "")
    if not (text.isascii() and text.isdigit()) or not int(text):
        return None
    return int(text) / _MICROSECONDS
