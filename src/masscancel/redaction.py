"""Redact secrets: what a peer says may repeat what it was told."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl

from masscancel.errors import MassCancelError, VenueError

__all__ = ["redact", "redact_text", "secrets_in"]

#: No signature is shorter, in a query or a form.
_SIGNATURE: Final = 32
#: A header's value that is shorter is a setting; the parts of the key are redacted as they are.
_TELLING: Final = 8


def redact_text(text: str, secrets: Iterable[str]) -> str:
    """A peer's words without the secrets."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def redact(error: MassCancelError, secrets: Iterable[str]) -> None:
    """Redact secrets from an error, and drop the frames that saw them."""
    secrets = tuple(secrets)
    error.args = (redact_text(str(error.args[0]), secrets),)
    error.message = redact_text(error.message, secrets)
    if isinstance(error, VenueError):
        error.reason = redact_text(error.reason, secrets)
        error.code = redact_text(error.code, secrets) if isinstance(error.code, str) else error.code
    if notes := getattr(error, "__notes__", None):
        error.__notes__ = [redact_text(note, secrets) for note in notes]
    error.with_traceback(None)


def secrets_in(headers: Mapping[str, str], target: str, body: bytes) -> Iterator[str]:
    """List what no text may show of a signed request: its headers, and its signature.

    A header such as ``x-simulated-trading: 1`` is in every text, and no secret.
    """
    told = (value for name, value in headers.items() if name != "Content-Type")
    yield from (value for value in told if len(value) >= _TELLING)
    signed = f"{target.partition('?')[2]}&{body.decode('latin-1')}"
    yield from (value for _, value in parse_qsl(signed) if len(value) >= _SIGNATURE)
