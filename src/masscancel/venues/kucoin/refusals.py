"""The envelope of KuCoin's replies, and the meanings of its refusals.

Sources: "Request" and "Rate Limit" of ``Kucoin/kucoin-api-docs``, each endpoint's own page, and the
tables of ccxt. Codes that are not here are a plain ``VenueError``.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from masscancel.calls import Reply
from masscancel.errors import (
    AuthenticationError,
    InvalidRequest,
    PermissionDenied,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.venues.toolkit import Refusal, open_envelope

__all__ = [
    "FOREIGN_ADDRESS",
    "NO_SUCH_PATH",
    "POOL_HEADERS",
    "clean",
    "is_gone",
    "is_number",
    "open_reply",
    "says_gone",
]

#: What the headers tell of one pool: its size, what is left of it, and the ms until it is full.
POOL_HEADERS: Final = ("gw-ratelimit-limit", "gw-ratelimit-remaining", "gw-ratelimit-reset")

_SUCCESS: Final = "200000"
_TWO_MEANINGS: Final = "200002"
NO_SUCH_PATH: Final = "404000"

#: What each code means ("Errors"); one that is not here is never taken for success.
_KINDS: Final[Mapping[str, type[VenueError]]] = {
    **dict.fromkeys(("400001", "400003", "400004", "400005"), AuthenticationError),
    **dict.fromkeys(("400006", "400007", "411100", "400500", "40010"), PermissionDenied),
    **dict.fromkeys(("200009", "130201", "112010"), PermissionDenied),
    "400002": StampRefused,
    "429000": RateLimited,
    "1015": RateLimited,
    **dict.fromkeys(("400100", "404000", "415000"), InvalidRequest),
    **dict.fromkeys(("900001", "100003", "400600", "600203"), InvalidRequest),  # the symbol
    **dict.fromkeys(("102436", "126043", "100004", "order_not_exist"), VenueError),  # it is gone
    **dict.fromkeys(("126010", "300002"), VenueError),  # the pair's cancels are suspended
    "102428": VenueUnavailable,  # it is being processed
    **dict.fromkeys(("500000", "230005", "126038", "126039"), VenueUnavailable),
}
#: "The requested ip address is not in the api whitelist".
FOREIGN_ADDRESS: Final = frozenset[int | str]({"400006"})
#: The wait that some limits come with, in s: an endpoint is blocked for 10, an address for 30.
_WAITS: Final = {_TWO_MEANINGS: 10.0, "1015": 30.0}
#: The text of what stands before the venue, where it blocks an address.
_BLOCKED: Final = b"error code: 1015"
_GONE: Final = frozenset({"102436", "126043", "100004", "order_not_exist"})
_GONE_TEXT: Final = re.compile(r"order[ _]?not[ _]?exist", re.IGNORECASE)
_LIMIT_TEXT: Final = re.compile(r"too many|too frequent|rate.?limit", re.IGNORECASE)
_SUSPENDED_TEXT: Final = re.compile(r"suspen|cancel", re.IGNORECASE)
#: What a peer that repeats the headers must not put into our errors: 32 bytes in Base64.
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/]{43}=?")


class _Envelope(msgspec.Struct):
    """Every reply."""

    code: str | int
    data: msgspec.Raw = msgspec.Raw()
    msg: Any = None


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def open_reply(reply: Reply, now_ms: int, *, futures: bool) -> msgspec.Raw:
    """The payload, if the reply says success."""
    try:
        return open_envelope(_ENVELOPE, reply, now_ms, partial(_refused, futures=futures)).data
    except RateLimited as error:
        if error.retry_after is None and _BLOCKED in reply.body[:64]:
            error.retry_after = _WAITS["1015"]
        if error.retry_after is None:  # no header of HTTP's: the venue's own
            reset = reply.headers.get(POOL_HEADERS[2], "").strip()
            error.retry_after = int(reset[:9]) / 1000 if is_number(reset) else None
        error.of_key = error.code in ("429000", _TWO_MEANINGS)  # counted by the user's id
        raise


def _refused(envelope: _Envelope, *, futures: bool) -> Refusal | None:
    code, text = str(envelope.code), clean(envelope.msg or "")
    if code == _SUCCESS:
        return None
    kind = _KINDS.get(code)
    if code == _TWO_MEANINGS:  # "cancel for this pair suspended", or blocked for a while
        limited = bool(_LIMIT_TEXT.search(text)) or (futures and not _SUSPENDED_TEXT.search(text))
        kind = RateLimited if limited else VenueError
    wait = _WAITS.get(code) if kind is RateLimited else None
    return Refusal(kind=kind, code=clean(code), message=text, retry_after=wait)


def clean(text: Any) -> str:
    """A peer's words without anything that may be a signature."""
    return _SIGNATURE.sub("***", str(text))


def is_gone(error: VenueError) -> bool:
    """Whether a cancel or a question was refused because there is no such order any more.

    400100 is "parameter error" as well: its text decides.
    """
    return error.code in _GONE or (error.code == "400100" and says_gone(error.message))


def says_gone(text: str) -> bool:
    """Whether a text says that there is no such order."""
    return bool(_GONE_TEXT.search(text))


def is_number(text: str) -> bool:
    """Whether a header is a whole number."""
    return text.isascii() and text.isdigit()
