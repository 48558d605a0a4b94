"""Credentials: a key, a secret, and a label to tell one of a thousand accounts apart."""

import os
from hashlib import sha256
from typing import Any, NoReturn, Self

from masscancel.errors import ConfigurationError

__all__ = ["Credentials"]


class Credentials:
    """An API key and its secret. Its repr shows the label; it can't be pickled or encoded.

    Args:
        api_key: the key as the venue shows it; printable ASCII without spaces.
        api_secret: the secret as text, likewise.
        passphrase: the third part of the key, where the venue has one; likewise.
        label: a name for errors and logs, such as ``"mm-17"``. Never put a secret here.

    Attributes:
        account: the label; without one, 8 hex digits of the key's SHA-256.

    Raises:
        ConfigurationError: a part is empty or holds characters that no key has. Neither the message
            nor the frames of the traceback repeat it.
    """

    __slots__ = ("account", "api_key", "api_secret", "label", "passphrase")

    account: str
    api_key: str
    api_secret: str
    label: str
    passphrase: str

    def __init__(
        self, api_key: str, api_secret: str, *, passphrase: str = "", label: str = ""
    ) -> None:
        set_once = super().__setattr__
        set_once("label", label)  # first: the repr shows it
        problem = _problem("api_key", api_key) or _problem("api_secret", api_secret)
        if problem is None and passphrase != "":
            problem = _problem("passphrase", passphrase)
        if not isinstance(label, str) or not label.isprintable():
            problem = "label must be a printable string"
        if problem is not None:
            api_key = api_secret = passphrase = ""  # so that no report of locals shows them
            raise ConfigurationError(problem)
        set_once("api_key", api_key)
        set_once("api_secret", api_secret)
        set_once("passphrase", passphrase)
        set_once("account", label or sha256(api_key.encode()).hexdigest()[:8])

    @classmethod
    def from_env(cls, prefix: str = "MASSCANCEL", *, label: str = "") -> Self:
        """Read ``<prefix>_API_KEY``, ``_API_SECRET`` and ``_PASSPHRASE`` from the environment.

        The passphrase may be missing: few venues have one.

        Raises:
            ConfigurationError: a variable is not set, or what it holds can't be a key.
        """
        names = f"{prefix}_API_KEY", f"{prefix}_API_SECRET"
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise ConfigurationError(f"set {' and '.join(missing)} in the environment")
        return cls(  # no local variable: a traceback would show it
            *(os.environ[name].strip() for name in names),
            passphrase=os.environ.get(f"{prefix}_PASSPHRASE", "").strip(),
            label=label,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The strings that no text may show."""
        return tuple(filter(None, (self.api_secret, self.api_key, self.passphrase)))

    def __repr__(self) -> str:
        return f"Credentials(label={self.label!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credentials) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[str, ...]:
        return self.api_key, self.api_secret, self.passphrase, self.label

    def __setattr__(self, name: str, _: object) -> NoReturn:
        raise AttributeError(f"{name} of Credentials can't be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name} of Credentials can't be deleted")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: Any) -> Self:
        return self

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise TypeError(
            "Credentials can't be pickled: a copy of the secret would lie about. Read them where "
            "they are needed, such as with Credentials.from_env()"
        )


def _problem(name: str, value: object) -> str | None:
    """Say what is wrong with a key or secret, without repeating it."""
    if not isinstance(value, str) or not value:
        return f"{name} must be a non-empty string"
    if not (value.isascii() and value.isprintable()) or " " in value:
        return f"{name} holds spaces, line breaks or characters outside printable ASCII"
    return None
