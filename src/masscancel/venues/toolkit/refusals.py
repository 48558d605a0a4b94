"""Envelopes and refusals: the one way in which every venue's reply is read.

:func:`open_envelope` decodes a reply, and raises the refusal that it holds; the venue's own code
goes before the HTTP status, and what is not the venue's own JSON says nothing of the key.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from masscancel.calls import Reply, Stamp
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
from masscancel.models import Permission
from masscancel.venues.toolkit.rows import OK, decode_json
from masscancel.venues.toolkit.values import http_date, retry_after

T = TypeVar("T")
C = TypeVar("C", int, str)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The refusal that a reply holds.

    Attributes:
        kind: what the venue's code means, from its table; ``None`` if the code is not documented.
        code: the venue's code, ``None`` if it gives none.
        reason: the venue's short word.
        message: the venue's sentence.
        retry_after: how long it asks to wait, in seconds, beside the header.
        of_key: whether that binds the key alone, and not everybody at the origin.
        may_have_executed: whether it may have been carried out all the same; ``None`` leaves that
            to the kind.
    """

    kind: type[VenueError] | None = None
    code: int | str | None = None
    reason: str = ""
    message: str = ""
    retry_after: float | None = None
    may_have_executed: bool | None = None
    of_key: bool = False


def open_envelope(
    decoder: "msgspec.json.Decoder[T]",
    reply: Reply,
    now_ms: int,
    refused: Callable[[T], Refusal | None],
) -> T:
    """Decode what every reply of a venue has, if it says success.

    Args:
        decoder: of the envelope.
        reply: the reply.
        now_ms: the venue's time, for a ``Retry-After`` that names a date.
        refused: from the envelope to the refusal that it holds, ``None`` if it says success.

    Raises:
        VenueError: the venue refused.
        ProtocolError: the reply is no envelope, or one of success with another status than 200.
    """
    try:
        envelope = decode_json(decoder, reply)
    except ProtocolError as unreadable:
        if reply.status == OK:  # anything else speaks through its status
            raise
        error = foreign_error(reply, now_ms)
        error.add_note(unreadable.message)
    else:
        refusal = refused(envelope)
        if refusal is None and reply.status == OK:
            return envelope
        if refusal is None and reply.status < 400:  # noqa: PLR2004  # RFC 9110 section 15.5
            error = foreign_error(reply, now_ms)
        else:  # success under a status of failure contradicts itself: either may be true
            error = refusal_error(reply, now_ms, refusal or Refusal(may_have_executed=True))
    raise error


def refusal_error(reply: Reply, now_ms: int, refusal: Refusal) -> MassCancelError:
    """The error that a venue's own refusal is: by its code, then by the HTTP status.

    A code that is not documented may mean anything, at HTTP 200 even that it was carried out.
    """
    kind = refusal.kind or _kind_of(reply.status, has_code=refusal.code is not None)
    asked = refusal.retry_after if refusal.retry_after is not None else retry_after(reply, now_ms)
    error = kind(refusal.code, refusal.reason, refusal.message, reply.status, retry_after=asked)
    if refusal.of_key:
        error.of_key = True
    if refusal.may_have_executed is not None:
        error.may_have_executed = refusal.may_have_executed
    elif refusal.kind is None and reply.status == OK:
        error.may_have_executed = True
    if isinstance(error, StampRefused):
        error.date_ms = http_date(reply.headers.get("Date", ""))
    return error


def foreign_error(reply: Reply, now_ms: int) -> MassCancelError:
    """The error that a reply is which is not the venue's own: a proxy's, a CDN's, a firewall's.

    It says nothing of the key or of the request, so that asking again may help.
    """
    if reply.status in _RATE_LIMITED:
        kind: type[VenueError] = RateLimited
    elif reply.status >= 400:  # noqa: PLR2004  # RFC 9110 sections 15.5 and 15.6
        kind = VenueUnavailable
    else:
        return ProtocolError(f"HTTP {reply.status} is no answer to a cancel or a listing")
    return kind(None, "", "", reply.status, retry_after=retry_after(reply, now_ms))


_RATE_LIMITED: Final = frozenset({418, 429})
#: A load balancer's and a proxy's: nobody waited for the venue's answer.
_UNANSWERED: Final = frozenset({408, 460, 499})
_OF_THE_KEY: Final[Mapping[int, type[VenueError]]] = {
    401: AuthenticationError,
    403: PermissionDenied,
}


def _kind_of(status: int, *, has_code: bool) -> type[VenueError]:
    if status in _RATE_LIMITED:
        return RateLimited
    if status >= 500 or status in _UNANSWERED:  # noqa: PLR2004  # RFC 9110 section 15.6
        return VenueUnavailable
    if status in _OF_THE_KEY:
        return _OF_THE_KEY[status]
    return VenueError if has_code or status < 400 else InvalidRequest  # noqa: PLR2004  # likewise


def kind_by_prefix(text: str, kinds: Mapping[str, type[VenueError]]) -> type[VenueError] | None:
    """Look up an error's class by the longest known beginning of its text."""
    name = max((name for name in kinds if text.startswith(name)), key=len, default=None)
    return None if name is None else kinds[name]


def kinds_of(*groups: tuple[type[VenueError], Iterable[C]]) -> Mapping[C, type[VenueError]]:
    """Make the table of what codes mean from each error's class and its codes."""
    return {code: kind for kind, codes in groups for code in codes}


def told_by_refusal(
    read: Callable[[Reply, Stamp], object],
    *,
    unknown_order: Callable[[VenueError], bool],
    denied: Container[int | str | None] = (),
    foreign_address: Container[int | str | None] = (),
) -> Callable[[Reply, Stamp], Permission]:
    """Make the ``decode`` of a cancel of an order that can't exist: whether the key may cancel.

    Args:
        read: raises the refusal that a reply holds.
        unknown_order: whether a refusal says that there is no such order, so that the key may.
        denied: codes of no :class:`~masscancel.PermissionDenied` that say that the key may not.
        foreign_address: the codes that are about where the key is used, not about what it may do.
    """

    def decode(reply: Reply, stamp: Stamp) -> Permission:
        try:
            read(reply, stamp)
        except VenueError as error:
            if unknown_order(error):
                return "yes"
            may_not = isinstance(error, PermissionDenied) or error.code in denied
            if may_not and error.code not in foreign_address:
                return "no"
            raise
        return "unknown"  # nobody documents a success here

    return decode
