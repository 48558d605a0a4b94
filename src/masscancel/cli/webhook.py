"""A webhook: JSON to a URL, by the standard library. Loaded only when there is one to tell."""

from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import masscancel

__all__ = ["tell"]


class _StayThere(HTTPRedirectHandler):
    """Follows no redirect: who is told is who was named."""

    def redirect_request(self, *_: Any) -> None:
        """None."""


def tell(url: str, text: bytes, timeout: float) -> str:
    """POST JSON to a URL.

    Args:
        url: ``https://``, or ``http://`` to this very machine, which no proxy is told of.
        text: the JSON.
        timeout: of each step on the wire, in seconds.

    Returns:
        Why that failed, without the URL; ``""`` if it did not.
    """
    proxies = [ProxyHandler({})] if url.lower().startswith("http://") else []
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"masscancel/{masscancel.__version__}",
    }
    request = Request(url, text, headers, method="POST")  # noqa: S310  # the caller checks it
    try:
        build_opener(_StayThere, *proxies).open(request, timeout=timeout).close()
    except HTTPError as error:
        error.close()
        return f"answered with HTTP {error.code}"
    except URLError as error:
        return f"could not be told: {error.reason}"
    except OSError as error:
        return f"could not be told: {error}"
    return ""
