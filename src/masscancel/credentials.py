"""Credentials: a key, a secret, and a label to tell one of a thousand accounts apart."""

import os
from dataclasses import dataclass, field
from typing import Self

from masscancel.errors import ConfigurationError

__all__ = ["Credentials"]


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Credentials:
    """An API key and its secret, whose repr shows the label and nothing else.

    Args:
        api_key: the key as the venue shows it; printable ASCII without spaces.
        api_secret: the secret as text, likewise.
        label: a name for errors and logs, such as ``"mm-17"``. Never put a secret here.

    Raises:
        ConfigurationError: either is empty or holds characters that no key has. Neither the message
            nor the frames of the traceback repeat them.
    """

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    label: str

    def __init__(self, api_key: str, api_secret: str, *, label: str = "") -> None:
        object.__setattr__(self, "label", label)  # first: the repr shows it
        problem = _problem("api_key", api_key) or _problem("api_secret", api_secret)
        if not isinstance(label, str) or not label.isprintable():
            problem = "label must be a printable string"
        if problem is not None:
            api_key = api_secret = ""  # so that no report of locals shows them
            raise ConfigurationError(problem)
        object.__setattr__(self, "api_key", api_key)
        object.__setattr__(self, "api_secret", api_secret)

    @classmethod
    def from_env(cls, prefix: str = "MASSCANCEL", *, label: str = "") -> Self:
        """Read ``<prefix>_API_KEY`` and ``<prefix>_API_SECRET`` from the environment.

        Raises:
            ConfigurationError: a variable is not set, or what it holds can't be a key.
        """
        names = f"{prefix}_API_KEY", f"{prefix}_API_SECRET"
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise ConfigurationError(f"set {' and '.join(missing)} in the environment")
        return cls(*(os.environ[name].strip() for name in names), label=label)

    def __repr__(self) -> str:
        return f"Credentials(label={self.label!r})"


def _problem(name: str, value: object) -> str | None:
    """What is wrong with a key or secret, without repeating it."""
    if not isinstance(value, str) or not value:
        return f"{name} must be a non-empty string"
    if not (value.isascii() and value.isprintable()) or " " in value:
        return f"{name} holds spaces, line breaks or characters outside printable ASCII"
    return None
