"""Parts that spot and futures share: the signature's key, the dead man's switch, found names."""

from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Mapping
from hmac import digest
from typing import Final

import msgspec

from masscancel.errors import ConfigurationError, ProtocolError
from masscancel.venues.toolkit import milliseconds

#: "maximum 50 total unique IDs" ("Cancel Order Batch"), "up to 50 ids" ("Query Orders Info").
BATCH: Final = 50


class Found(msgspec.Struct, frozen=True, eq=False):
    """The names found on entry. Two venues are the same venue whatever they have found.

    These lists only save look-ups: what is listed since is in neither of them.

    Attributes:
        asked: whether anything was asked for; what could not be had then is not asked for again.
        pairs: from each spelling of a spot pair to those that its orders may be listed by;
            ``None`` if that is not known.
        contracts: the futures contracts in upper case; ``None`` if they are not known.
    """

    asked: bool = False
    pairs: Mapping[str, frozenset[str]] | None = None
    contracts: frozenset[str] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Found)

    def __hash__(self) -> int:
        return hash(Found)


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


def fires_at(timeout_ms: int, trigger: str, current: str) -> int | None:
    """Read when a dead man's switch fires, ms since the epoch; ``None`` if it is off.

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
