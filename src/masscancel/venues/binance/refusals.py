"""What Binance's refusals mean.

Sources: ``errors.md`` and "HTTP Return Codes" of ``rest-api.md`` for spot; "Error Code" and "HTTP
Return Codes" of "General Info" for futures. Codes that are not here are a plain ``VenueError``.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from masscancel.errors import (
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)
from masscancel.venue import Reply, decode_json, http_error

__all__ = ["Sentence", "is_nothing_open", "refusal", "sentence"]


class Sentence(msgspec.Struct):
    """A code and a sentence: every error, and what a cancel of futures is answered with."""

    code: int
    msg: str = ""


_SENTENCE: Final = msgspec.json.Decoder(Sentence, strict=False)

_THROTTLED: Final = -1008
_SHUTTING_DOWN: Final = -1016
_CANCEL_REJECTED: Final = -2011

#: Codes that mean the same on both sides. The 11xx are issues of the request: see :func:`_kind`.
_CODES: Final[Mapping[int, type[VenueError]]] = {
    -1000: VenueUnavailable,  # UNKNOWN
    -1001: VenueUnavailable,  # DISCONNECTED
    -1002: PermissionDenied,  # UNAUTHORIZED
    -1003: RateLimited,  # TOO_MANY_REQUESTS
    -1006: VenueUnavailable,  # UNEXPECTED_RESP: "execution status unknown"
    -1007: VenueUnavailable,  # TIMEOUT: likewise
    _THROTTLED: VenueUnavailable,  # SERVER_BUSY on spot
    -1013: InvalidRequest,  # INVALID_MESSAGE: it did not reach the matching engine
    -1014: InvalidRequest,  # UNKNOWN_ORDER_COMPOSITION
    -1015: RateLimited,  # TOO_MANY_ORDERS
    _SHUTTING_DOWN: VenueUnavailable,  # SERVICE_SHUTTING_DOWN
    -1020: InvalidRequest,  # UNSUPPORTED_OPERATION
    -1021: StampRefused,  # INVALID_TIMESTAMP
    -1022: AuthenticationError,  # INVALID_SIGNATURE
    -2008: AuthenticationError,  # an unknown key; seen, not documented
    -2014: AuthenticationError,  # BAD_API_KEY_FMT
    -2015: AuthenticationError,  # REJECTED_MBX_KEY: key, address or permission, it does not say
}
#: Codes that only one side has, or that differ.
_OWN_CODES: Final[Mapping[str, Mapping[int, type[VenueError]]]] = {
    "spot": {},
    "usdm": {
        -1004: PermissionDenied,  # the address list
        -1005: PermissionDenied,  # NO_SUCH_IP: likewise
        -1011: PermissionDenied,  # "this IP cannot access this route"
        -1099: AuthenticationError,  # "not found, unauthenticated, or unauthorized"
        -1109: PermissionDenied,  # INVALID_ACCOUNT
        -2012: VenueUnavailable,  # CANCEL_ALL_FAIL: it does not say how much was cancelled
        -2017: AuthenticationError,  # API_KEYS_LOCKED
        -4109: PermissionDenied,  # INACTIVE_ACCOUNT
        -5028: StampRefused,  # ME_RECVWINDOW_REJECT
    },
}
#: The matching engine's refusals: one code for many sentences.
_OF_THE_ENGINE: Final = frozenset({-1010, -2010, _CANCEL_REJECTED})
_OF_THE_ACCOUNT: Final = frozenset(
    {
        "This action is disabled on this account",
        "This account may not place or cancel orders",
        "This symbol is not permitted for this account",
        "This symbol is restricted for this account",
        "Rest API trading is not enabled",
    }
)
#: Of a 503 on futures these are documented as failures, beside -1008; any other may have succeeded.
_FAILED: Final = frozenset(
    {"Service Unavailable", "Internal error; unable to process your request. Please try again"}
)
_BANNED: Final = re.compile(r"banned until ([0-9]{1,16})")
_SIGNATURE: Final = re.compile(r"[0-9A-Fa-f]{64}")


def sentence(reply: Reply) -> Sentence | None:
    """The code and sentence that a reply consists of, if it does."""
    try:
        return decode_json(_SENTENCE, reply)
    except ProtocolError:
        return None


def refusal(
    reply: Reply, said: Sentence | None, now_ms: int, account_category: str
) -> MassCancelError:
    """The error that a reply is.

    Args:
        reply: the reply.
        said: its code and sentence, if it has any; it may well be HTML.
        now_ms: the venue's time, to tell how long a ban lasts.
        account_category: whose code it is.
    """
    code = said.code if said else None
    # A peer that echoes the query must not put the signature into our error.
    text = _SIGNATURE.sub("***", said.msg) if said else ""
    kind = _kind(reply.status, code, text, account_category)
    error = http_error(reply, now_ms, kind=kind, code=code, message=text)
    if isinstance(error, VenueError) and error.retry_after is None:
        error.retry_after = _banned_for(text, now_ms)
    if _has_failed(reply.status, code, text, account_category):
        error.may_have_executed = False
    return error


def _kind(
    status: int, code: int | None, text: str, account_category: str
) -> type[VenueError] | None:
    """What a refusal is; ``None`` leaves it to the HTTP status."""
    if status in (418, 429):
        return RateLimited
    if status >= 500:  # noqa: PLR2004  # "the execution status is UNKNOWN", whatever the code
        return VenueUnavailable
    if code is None:  # 403 is the firewall's: "a rate limit violation or a security block"
        return RateLimited if status == 403 else None  # noqa: PLR2004  # HTTP's own
    if code in _OF_THE_ENGINE:
        return PermissionDenied if text.rstrip(".") in _OF_THE_ACCOUNT else VenueError
    kind = _OWN_CODES[account_category].get(code) or _CODES.get(code)
    if kind is None and -1199 <= code <= -1100:  # noqa: PLR2004  # "11xx - Request issues"
        return InvalidRequest
    return kind


def _has_failed(status: int, code: int | None, text: str, account_category: str) -> bool:
    """Whether a :class:`VenueUnavailable` is documented not to have been carried out."""
    if status < 500:  # noqa: PLR2004  # RFC 9110 section 15.6
        return code in (_THROTTLED, _SHUTTING_DOWN)
    documented = account_category == "usdm" and status == 503  # noqa: PLR2004  # "General Info"
    return documented and (code == _THROTTLED or text.rstrip(".") in _FAILED)


def _banned_for(text: str, now_ms: int) -> float | None:
    """How long the ban lasts whose end the text gives, in seconds."""
    banned = _BANNED.search(text)
    return max(0.0, (int(banned[1]) - now_ms) / 1000) if banned else None


def is_nothing_open(error: VenueError) -> bool:
    """Whether a cancel was refused because there was nothing to cancel.

    The code alone does not say so: it also stands for "Market is closed." and others. Futures'
    documents have the sentence without its full stop.
    """
    return (
        error.code == _CANCEL_REJECTED
        and error.message.rstrip(".") == "Unknown order sent"
        and error.http_status in (200, 400)
    )
