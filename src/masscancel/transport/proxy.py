"""Find out which proxy is to be used, and what is said to it."""

import base64
import re
import urllib.request
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote, urlsplit

from masscancel.errors import ConfigurationError
from masscancel.transport.encoding import encode_head, split_origin

__all__ = ["Proxy", "environment_proxy"]

#: By NO_PROXY. typeshed does not know it.
_bypass: Callable[[str], bool] = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Proxy:
    """A proxy, and the credentials for it, which nothing shows.

    Args:
        url: such as ``http://user:password@host:3128``, or ``https://`` for TLS to the proxy.

    Attributes:
        origin: where it is; shown in messages.
        host: its name or address.
        port: its port.
        tls: whether the connection to it is encrypted.

    Raises:
        ConfigurationError: it is no such URL. The text does not repeat it.
    """

    __slots__ = ("_authorization", "host", "origin", "port", "tls")

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            bare = f"[{host}]" if ":" in host else host
            origin = f"{parts.scheme}://{bare}" + (f":{port}" if port else "")
            scheme, self.host, self.port = split_origin(origin)
        except ValueError:  # a ConfigurationError is one
            scheme = ""
        if scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query:
            raise ConfigurationError(
                "proxy must be such as http://host:3128 or http://user:password@host:3128"
            )
        self.origin = origin
        self.tls = scheme == "https"
        self._authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"

    def __repr__(self) -> str:
        return f"Proxy({self.origin})"

    def connect_request(self, target: str) -> bytes:
        """Encode the request for a tunnel to a target, such as ``host:443``."""
        extra = [f"Proxy-Authorization: {self._authorization}"] if self._authorization else []
        return encode_head(f"CONNECT {target} HTTP/1.1", target, {}, extra)


def environment_proxy(host: str, port: int) -> Proxy | None:
    """Return the proxy that ``HTTPS_PROXY`` names for a host, unless ``NO_PROXY`` excepts it."""
    url = urllib.request.getproxies_environment().get("https")
    if not url or _bypass(f"{host}:{port}"):
        return None
    return Proxy(url if _SCHEME.match(url) else f"http://{url}")
