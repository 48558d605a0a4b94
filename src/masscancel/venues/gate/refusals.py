"""The meanings of Gate's refusals: "Error Handling" of the documents."""

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
from masscancel.venues.toolkit import OK, Refusal, open_envelope, retry_after

#: "label list", and ccxt's ``AUTHENTICATION_FAILED`` and ``CLIENT_ID_NOT_FOUND``. What is missing
#: here is a plain ``VenueError``, or what its HTTP status says.
_KINDS: Final[Mapping[str, type[VenueError]]] = {
    "INVALID_KEY": AuthenticationError,
    "INVALID_SIGNATURE": AuthenticationError,
    "INVALID_CREDENTIALS": AuthenticationError,
    "AUTHENTICATION_FAILED": AuthenticationError,
    "MISSING_REQUIRED_HEADER": AuthenticationError,
    "IP_FORBIDDEN": PermissionDenied,
    "READ_ONLY": PermissionDenied,
    "FORBIDDEN": PermissionDenied,
    "ACCOUNT_LOCKED": PermissionDenied,
    "SUB_ACCOUNT_LOCKED": PermissionDenied,
    "ACCOUNT_EXCEPTION": PermissionDenied,
    "USER_NOT_FOUND": PermissionDenied,
    "REQUEST_EXPIRED": StampRefused,
    "TOO_MANY_REQUESTS": RateLimited,
    "TOO_FAST": RateLimited,
    "INVALID_PARAM_VALUE": InvalidRequest,
    "INVALID_PROTOCOL": InvalidRequest,
    "INVALID_ARGUMENT": InvalidRequest,
    "INVALID_REQUEST_BODY": InvalidRequest,
    "MISSING_REQUIRED_PARAM": InvalidRequest,
    "BAD_REQUEST": InvalidRequest,
    "INVALID_CONTENT_TYPE": InvalidRequest,
    "NOT_ACCEPTABLE": InvalidRequest,
    "METHOD_NOT_ALLOWED": InvalidRequest,
    "NOT_FOUND": InvalidRequest,
    "INVALID_CURRENCY": InvalidRequest,
    "INVALID_CURRENCY_PAIR": InvalidRequest,
    "CONTRACT_NOT_FOUND": InvalidRequest,
    "ORDER_NOT_OWNED": InvalidRequest,
    "MARGIN_NOT_SUPPORTED": InvalidRequest,
    "INTERNAL": VenueUnavailable,
    "SERVER_ERROR": VenueUnavailable,
    "INTERNAL_SERVER_ERROR": VenueUnavailable,
    "TOO_BUSY": VenueUnavailable,
    "SERVER_TIMEOUT": VenueUnavailable,
}
#: "Request IP not in whitelist".
FOREIGN_ADDRESS: Final = frozenset[int | str]({"IP_FORBIDDEN"})
#: What there is nothing left to cancel of.
GONE: Final = frozenset(
    {"ORDER_NOT_FOUND", "ORDER_CLOSED", "ORDER_CANCELLED", "ORDER_FINISHED", "CLIENT_ID_NOT_FOUND"}
)
#: No window of a limit is longer than this, in seconds.
_LONGEST_RESET: Final = 10.0


class _Data(msgspec.Struct):
    orders: msgspec.Raw = msgspec.Raw()
    order: msgspec.Raw = msgspec.Raw()


class Envelope(_Data):
    """An object: a refusal, if it has a label; some endpoints for trailing orders have a code."""

    label: str = ""
    message: Any = None
    detail: Any = None
    code: int | str = 0
    data: _Data | None = None


class _Fault(Envelope, kw_only=True):
    """The same beside another HTTP status than 200: what has no label there is not Gate's."""

    label: str


_ENVELOPE: Final = msgspec.json.Decoder(Envelope)
_FAULT: Final = msgspec.json.Decoder(_Fault)


def check_accepted(reply: Reply, now_ms: int) -> Envelope:
    """The object that a reply is, empty for rows, if the venue did not refuse."""
    if reply.status == OK and reply.body[:64].lstrip().startswith(b"["):
        return Envelope()
    decoder: msgspec.json.Decoder[Any] = _ENVELOPE if reply.status == OK else _FAULT
    try:
        envelope: Envelope = open_envelope(decoder, reply, now_ms, partial(_refusal, reply, now_ms))
    except RateLimited as error:
        error.of_key = error.code is not None  # "counted against each sub-account"
        raise
    return envelope


def _refusal(reply: Reply, now_ms: int, envelope: Envelope) -> Refusal | None:
    if reply.status == OK and not envelope.label and envelope.code in (0, "0", ""):
        return None
    label, message = envelope.label, envelope.message or envelope.detail
    kind = kind_of(label)
    return Refusal(
        kind=kind,
        code=label or envelope.code,
        message=message if isinstance(message, str) else "",
        retry_after=_reset_after(reply, now_ms) if kind is RateLimited else None,
        may_have_executed=True if label == "CANCEL_FAIL" else None,  # it does not say of which
    )


def kind_of(label: str) -> type[VenueError] | None:
    """The error that a label means; ``None`` if it is not documented."""
    return StampRefused if "EXPIRED" in label.upper() else _KINDS.get(label)


def _reset_after(reply: Reply, now_ms: int) -> float | None:
    """How long until the limit resets, in seconds, unless ``Retry-After`` says it, too."""
    until = reply.headers.get("X-Gate-RateLimit-Reset-Timestamp", "").strip()
    if retry_after(reply, now_ms) is not None or not re.fullmatch("[0-9]{10,13}", until):
        return None
    until_ms = int(until) * (1000 if len(until) == len("1700000000") else 1)
    return min(max(0.0, (until_ms - now_ms) / 1000), _LONGEST_RESET)


def is_nothing_open(error: VenueError) -> bool:
    """Whether there was nothing to cancel."""
    return error.code in GONE and (error.http_status or 0) < 500  # noqa: PLR2004  # RFC 9110, 15.6


def is_absent(error: VenueError, label: str) -> bool:
    """Whether there is no such book, as its label says, and so nothing open in it."""
    return bool(label) and error.code == label and error.http_status in (400, 401, 403, 404)
