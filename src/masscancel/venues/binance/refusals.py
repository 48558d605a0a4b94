"""The meanings of Binance's refusals.

Sources: ``errors.md`` and "HTTP Return Codes" of ``rest-api.md`` for spot; "Error Code" and "HTTP
Return Codes" of "General Info" for futures. Codes that are not here are a plain ``VenueError``.
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
from masscancel.venues.toolkit import OK, Refusal, open_envelope, retry_after, text_of, wait_until

__all__ = ["FOREIGN_ADDRESS", "REJECTED_KEY", "Sentence", "check_accepted", "is_nothing_open"]


class Sentence(msgspec.Struct, kw_only=True):
    """A code and a sentence: every error, and what a cancel of futures is answered with.

    The sentence may be of any type, since the code decides.
    """

    code: int = 0
    msg: Any = None


class _Refused(Sentence, kw_only=True):
    """The same beside another HTTP status than 200: what has no code there is not Binance's."""

    code: int


_SENTENCE: Final = msgspec.json.Decoder(Sentence, strict=False)  # a code has been seen as a string
_REFUSED: Final = msgspec.json.Decoder(_Refused, strict=False)

#: "REJECTED_MBX_KEY": the key, its address or its permission, it does not say which.
REJECTED_KEY: Final = -2015
#: The key may not be used from this address; futures alone say so.
FOREIGN_ADDRESS: Final = frozenset[int | str]({-1004, -1005, -1011})
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
    REJECTED_KEY: AuthenticationError,
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


def check_accepted(reply: Reply, now_ms: int, account_category: str) -> Sentence:
    """Check that a reply is no refusal; return its code and sentence, 0 where it has none.

    Args:
        reply: the reply.
        now_ms: the venue's time, to tell how long a ban lasts.
        account_category: whose codes they are.

    Raises:
        VenueError: the venue refused, or something before it did.
        ProtocolError: the reply is not JSON.
    """
    if reply.status == OK and not reply.body[:64].lstrip().startswith(b"{"):
        return Sentence()  # rows, which are read in slices: every refusal is an object
    decoder: msgspec.json.Decoder[Any] = _SENTENCE if reply.status == OK else _REFUSED
    refused = partial(_refusal, reply, now_ms, account_category)
    sentence: Sentence = open_envelope(decoder, reply, now_ms, refused)
    return sentence


def _refusal(
    reply: Reply, now_ms: int, account_category: str, sentence: Sentence
) -> Refusal | None:
    if reply.status == OK and sentence.code >= 0:
        return None
    # A peer that echoes the query must not put the signature into our error.
    text = _SIGNATURE.sub("***", text_of(sentence.msg))
    failed = _has_failed(reply.status, sentence.code, text, account_category)
    return Refusal(
        kind=_kind(reply.status, sentence.code, text, account_category),
        code=sentence.code,
        message=text,
        retry_after=_banned_for(text, now_ms) if retry_after(reply, now_ms) is None else None,
        may_have_executed=False if failed else None,
    )


def _kind(status: int, code: int, text: str, account_category: str) -> type[VenueError] | None:
    """Choose the error of a refusal; ``None`` leaves that to the HTTP status."""
    if status in (418, 429):
        return RateLimited
    if status >= 500:  # noqa: PLR2004  # "the execution status is UNKNOWN", whatever the code
        return VenueUnavailable
    if code in _OF_THE_ENGINE:
        return PermissionDenied if text.rstrip(".") in _OF_THE_ACCOUNT else VenueError
    kind = _OWN_CODES[account_category].get(code) or _CODES.get(code)
    if kind is None and -1199 <= code <= -1100:  # noqa: PLR2004  # "11xx - Request issues"
        return InvalidRequest
    if kind is None and status == 403:  # noqa: PLR2004  # "the WAF Limit has been violated"
        return RateLimited
    return kind


def _has_failed(status: int, code: int, text: str, account_category: str) -> bool:
    """Whether a :class:`VenueUnavailable` is documented not to have been carried out."""
    if status < 500:  # noqa: PLR2004  # RFC 9110 section 15.6
        return code in (_THROTTLED, _SHUTTING_DOWN)
    documented = account_category == "usdm" and status == 503  # noqa: PLR2004  # "General Info"
    return documented and (code == _THROTTLED or text.rstrip(".") in _FAILED)


def _banned_for(text: str, now_ms: int) -> float | None:
    """Read how long a ban lasts, in seconds, from a text that gives its end."""
    banned = _BANNED.search(text)
    return wait_until(int(banned[1]), now_ms) if banned else None


def is_nothing_open(error: VenueError) -> bool:
    """Whether a cancel was refused because there was nothing to cancel.

    The code alone does not say so: it also stands for "Market is closed." and others. Futures'
    documents have the sentence without its full stop.
    """
    return (
        error.code == _CANCEL_REJECTED
        and error.message.rstrip(".") == "Unknown order sent"
        and error.http_status in (OK, 400)
    )
