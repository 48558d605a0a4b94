"""What a peer says may repeat what it was told: here the secrets are taken out of it."""

from collections.abc import Iterable

from masscancel.errors import MassCancelError, VenueError

__all__ = ["masked", "scrub"]


def masked(text: str, secrets: Iterable[str]) -> str:
    """A peer's words without the secrets."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def scrub(error: MassCancelError, secrets: Iterable[str]) -> None:
    """Take what is secret out of an error, and the frames that saw it off it."""
    secrets = tuple(secrets)
    error.args = (masked(str(error.args[0]), secrets),)
    error.message = masked(error.message, secrets)
    if isinstance(error, VenueError):
        error.reason = masked(error.reason, secrets)
        error.code = masked(error.code, secrets) if isinstance(error.code, str) else error.code
    if notes := getattr(error, "__notes__", None):
        error.__notes__ = [masked(note, secrets) for note in notes]
    error.with_traceback(None)
