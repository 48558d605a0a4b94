"""KuCoin's requests and replies as such: the signature, and the envelope around every payload."""

from base64 import b64encode
from collections.abc import Callable, Generator
from hmac import digest
from typing import Any, Final

from masscancel.calls import Call, Reply, Request, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import VenueError
from masscancel.venues.kucoin.refusals import open_reply
from masscancel.venues.toolkit import finish

#: "The request must be initiated within 5 seconds": for how long a signature is good, in ms.
WINDOW_MS: Final = 5_000


def signature(secret: str, text: bytes) -> str:
    """Base64 of HMAC-SHA256; the key is the secret as text."""
    return b64encode(digest(secret.encode(), text, "sha256")).decode()


def sign(call: Call[Any], credentials: Credentials, stamp: Stamp, *, key_version: int) -> Request:
    """Sign time, method, path with query, and body; the passphrase is signed by itself.

    "Signing a Message" of the documents; keys of version 1 sent the passphrase as it is.
    """
    text = f"{stamp.time_ms}{call.method}{call.path}".encode() + call.body
    headers = {
        "KC-API-KEY": credentials.api_key,
        "KC-API-SIGN": signature(credentials.api_secret, text),
        "KC-API-TIMESTAMP": str(stamp.time_ms),
        "KC-API-PASSPHRASE": signature(credentials.api_secret, credentials.passphrase.encode()),
        "KC-API-KEY-VERSION": str(key_version),
    }
    if call.body:
        headers["Content-Type"] = "application/json"
    expires_at_ms = stamp.time_ms + WINDOW_MS
    return Request(call.method, call.path, headers, call.body, expires_at_ms)


def decode(
    read: Callable[..., Any],
    futures: bool,
    none: Callable[[VenueError], bool],
    instead: Callable[[Reply], Any],
    reply: Reply,
    stamp: Stamp,
) -> Any:
    """Read a reply; a refusal that is ``none`` has the value ``instead``."""
    try:
        data = open_reply(reply, stamp.time_ms, futures=futures)
    except VenueError as error:
        if none(error):
            return instead(reply)
        raise
    value = read(reply, stamp, data)
    return finish(value, reply) if isinstance(value, Generator) else value
