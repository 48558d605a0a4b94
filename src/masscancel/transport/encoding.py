"""Encode requests as HTTP/1.1, in one piece."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from masscancel.calls import Request
from masscancel.errors import ConfigurationError

__all__ = ["encode_head", "encode_request", "host_header", "split_origin"]

_ORIGIN: Final = re.compile(
    r"(https?|wss?)://(\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::(\d+))?", re.ASCII
)
_TARGET: Final = re.compile(r"/[!\"$-~]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LAST_PORT: Final = 65_535
#: What is ours to say: two of these would be read differently by different peers.
_OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
        "user-agent",
    }
)


@lru_cache(maxsize=1_024)
def split_origin(origin: str) -> tuple[str, str, int]:
    """Split an origin into scheme, host (an IPv6 address without its brackets) and port.

    Raises:
        ConfigurationError: it is no origin.
    """
    found = _ORIGIN.fullmatch(origin)
    port = int(found[3]) if found and found[3] else 0
    if found is None or port > _LAST_PORT:
        raise ConfigurationError("an origin is such as https://host or https://host:8443")
    scheme, host = found[1], found[2]
    return scheme, host.strip("[]").lower(), port or _PORTS[scheme]


def host_header(origin: str) -> str:
    """Say what ``Host`` is for an origin: the port only where it is not the scheme's own."""
    scheme, host, port = split_origin(origin)
    name = f"[{host}]" if ":" in host else host
    return name if port == _PORTS[scheme] else f"{name}:{port}"


def encode_request(request: Request, host: str) -> bytes:
    """Encode a request, head and body.

    Args:
        request: what to send.
        host: the value of ``Host``; see :func:`host_header`.

    Raises:
        ConfigurationError: something in it can't be written. The text does not repeat it, since it
            may be a secret.
    """
    method, body = request.method, request.body
    if method not in _METHODS:
        raise ConfigurationError("the method of a request is GET, POST, PUT, PATCH or DELETE")
    if _TARGET.fullmatch(request.target) is None:
        raise ConfigurationError(
            "the target of a request begins with / and holds no space, # or control character"
        )
    extra = ["Cache-Control: no-cache"] if method == "GET" else []
    if body or method in _WITH_BODY:
        extra.append(f"Content-Length: {len(body)}")
    head = encode_head(f"{method} {request.target} HTTP/1.1", host, request.headers, extra)
    return head + body if body else head


def encode_head(
    line: str, host: str, headers: Mapping[str, str], extra: Iterable[str] = ()
) -> bytes:
    """Encode a head: the request line, what every request says, ``extra`` lines, the headers.

    Raises:
        ConfigurationError: a line break, a NUL or anything outside of latin-1 is in it, or one of
            the headers is one that is written here.
    """
    for name in headers:
        if not _is_writable(name):
            raise ConfigurationError(
                "the name of a header can't be written, or is one that the connection sets itself"
            )
    lines = [line, _constant(host), *extra]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    breaks = len(lines) + 1  # the constant lines are three
    if (
        text.count("\r") == text.count("\n") == breaks
        and "\0" not in text
        and (head := _latin_1(text)) is not None
    ):
        return head + b"\r\n\r\n"
    raise ConfigurationError(
        "a header or the target holds a line break, a NUL or a character outside of latin-1"
    )


@lru_cache(maxsize=1_024)
def _constant(host: str) -> str:
    return f"Host: {host}\r\nUser-Agent: masscancel\r\nAccept-Encoding: identity"


@lru_cache(maxsize=1_024)
def _is_writable(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None and name.lower() not in _OURS


def _latin_1(text: str) -> bytes | None:
    """Encode text. The error of ``str.encode`` would hold all of it, secrets too."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return None
