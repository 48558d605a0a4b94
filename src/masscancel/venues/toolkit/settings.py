"""Checks of what a user gives: origins and whole numbers."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from masscancel.errors import ConfigurationError

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ORIGIN: Final = re.compile(
    rf"(?P<scheme>[a-z]+)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?P<port>:[1-9]\d{{0,4}})?/?",
    re.IGNORECASE | re.ASCII,
)


def check_origin(value: object, *, name: str, scheme: str) -> str:
    """Check that a URL is a bare origin, and encrypted unless it is a loopback address.

    Returns:
        The origin in its one spelling.

    Args:
        value: what the user gave, such as ``https://ascendex.com``.
        name: the setting's name, for the message.
        scheme: ``"http"`` or ``"ws"``; with an ``s`` where it leaves this machine.

    Raises:
        ConfigurationError: it is anything else. Keys are not sent in clear text.
    """
    found = _ORIGIN.fullmatch(value) if isinstance(value, str) else None
    host = found["host"].lower() if found else ""
    if (
        found is None
        or found["scheme"].lower() not in (scheme, f"{scheme}s")
        or not _is_host(host)
        or int((found["port"] or ":1")[1:]) > 65_535  # noqa: PLR2004  # RFC 9293
    ):
        raise ConfigurationError(
            f"{name} must be an origin such as {scheme}s://host, with nothing after the host"
        )
    if found["scheme"].lower() == scheme and not _is_loopback(host):
        raise ConfigurationError(
            f"{name} would send keys to {host} in clear text: use {scheme}s:// ({scheme}:// is for "
            "loopback addresses such as 127.0.0.1; a name may lead anywhere)"
        )
    return f"{found['scheme'].lower()}://{host}{found['port'] or ''}"


def _is_host(host: str) -> bool:
    """Whether a host is a name or an address, and does not only look like an address."""
    if host.startswith("[") or re.fullmatch(r"[\d.]+", host):
        return _address(host) is not None
    return True


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether a value is an integer within bounds; a bool is none."""
    return type(value) is int and least <= value <= most


#: The longest window of a venue whose requests say how old they may be, in ms.
MAX_RECV_WINDOW_MS: Final = 60_000


def check_recv_window(value: object) -> None:
    """Check ``recv_window_ms``: how old a request may be when it is carried out.

    Raises:
        ConfigurationError: it is no whole number of ms, or out of range.
    """
    if not is_whole(value, 1, MAX_RECV_WINDOW_MS):
        raise ConfigurationError(
            f"recv_window_ms must be an integer from 1 to {MAX_RECV_WINDOW_MS}"
        )
