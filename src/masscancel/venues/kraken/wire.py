"""What spot and futures share: the key of the signature, times, and errors told by their text."""

from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hmac import digest
from typing import Any, Final

from masscancel.credentials import Credentials
from masscancel.errors import ConfigurationError, MassCancelError, ProtocolError, VenueError
from masscancel.models import OrderState
from masscancel.venue import Call, Reply, Request, Stamp, every, http_error

#: "maximum 50 total unique IDs" ("Cancel Order Batch"), "up to 50 ids" ("Query Orders Info").
BATCH: Final = 50

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def mac(api_secret: str, message: bytes) -> str:
    """Base64 of HMAC-SHA512 over the message; the key is the secret, decoded from base64.

    Raises:
        ConfigurationError: the secret is not base64. The message does not repeat it.
    """
    try:
        key = b64decode(api_secret, validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ConfigurationError("the API secret is not base64, as Kraken's secrets are")
    return b2a_base64(digest(key, message, "sha512"), newline=False).decode()


def unsigned(call: Call[Any], _credentials: Credentials, _stamp: Stamp) -> Request:
    """A public request: no key, no signature."""
    return Request(call.method, call.path, {})


def batches_of(ids: Sequence[str]) -> list[Sequence[str]]:
    """Ids, so many at a time as one request may name."""
    return [ids[at : at + BATCH] for at in range(0, len(ids), BATCH)]


def merged(
    results: Sequence[Mapping[str, OrderState] | MassCancelError],
) -> Mapping[str, OrderState]:
    """The answers about batches, as one; the first error, if any, raised."""
    return {key: state for states in every(results) for key, state in states.items()}


def milliseconds(text: str | None) -> int:
    """An RFC 3339 time, in ms since the epoch.

    Raises:
        ProtocolError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        moment = None
    if moment is None:
        raise ProtocolError("the reply can't be understood: a time in it is none")
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)


def fires_at(timeout_ms: int, trigger: str, current: str) -> int | None:
    """When a dead man's switch fires, ms since the epoch; ``None`` if it is off.

    Args:
        timeout_ms: what was asked for; 0 is off.
        trigger: when it fires; ``"0"`` (documented for futures) or ``""`` if it won't.
        current: the venue's time.

    Raises:
        ProtocolError: the reply does not say what was asked for.
    """
    at = None if trigger in ("", "0") else milliseconds(trigger)
    if timeout_ms and at is None:
        raise ProtocolError("the switch was to be armed, and the reply says that it is off")
    if not timeout_ms:
        if at is not None and at > milliseconds(current):
            raise ProtocolError("the switch was to be off, and the reply says that it is armed")
        return None
    return at


def whole_seconds(timeout_ms: object, most: int) -> int:
    """A switch's time limit in the unit of the venue.

    Raises:
        ConfigurationError: it is no whole number of seconds up to ``most``. Rounding could disarm.
    """
    if not isinstance(timeout_ms, int) or isinstance(timeout_ms, bool):
        raise ConfigurationError(f"timeout_ms must be whole milliseconds, not {timeout_ms!r}")
    if timeout_ms % 1000 or not 0 <= timeout_ms <= most * 1000:
        raise ConfigurationError(
            f"Kraken's switch takes whole seconds, 0 to {most}, not {timeout_ms} ms"
        )
    return timeout_ms // 1000


def known(text: str, kinds: Mapping[str, type[MassCancelError]]) -> str | None:
    """The longest of the known errors that a text begins with."""
    return max((name for name in kinds if text.startswith(name)), key=len, default=None)


def refusal(
    reply: Reply, now_ms: int, code: str | int, message: str, kind: type[VenueError] | None
) -> MassCancelError:
    """The error that a reply spells out. What nobody knows may mean anything, done included."""
    if kind is None and reply.status == 200:  # noqa: PLR2004  # HTTP's own
        return VenueError(code, message=message, http_status=200, may_have_executed=True)
    return http_error(reply, now_ms, kind=kind, code=code, message=message)
