"""Credentials: a key, a secret, and a label to tell one of a thousand accounts apart."""

import os
from dataclasses import dataclass, field
from typing import Self

from masscancel.errors import ConfigurationError

__all__ = ["Credentials"]


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """An API key and its secret, whose repr shows the label and nothing else.

    Args:
        api_key: the key as the venue shows it; printable ASCII without spaces.
        api_secret: the secret as text, likewise.
        label: a name for errors and logs, such as ``"mm-17"``. Never put a secret here.

    Raises:
        ConfigurationError: either is empty or holds characters that no key has. The message does
            not repeat them.
    """

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    label: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        for name, value in (("api_key", self.api_key), ("api_secret", self.api_secret)):
            if not isinstance(value, str) or not value:
                raise ConfigurationError(f"{name} must be a non-empty string")
            if not (value.isascii() and value.isprintable()) or " " in value:
                raise ConfigurationError(
                    f"{name} holds spaces, line breaks or characters outside printable ASCII"
                )
        if not isinstance(self.label, str) or not (self.label.isprintable()):
            raise ConfigurationError("label must be a printable string")

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
        api_key, api_secret = (os.environ[name].strip() for name in names)
        return cls(api_key, api_secret, label=label)

    def __repr__(self) -> str:
        return f"Credentials(label={self.label!r})"
