"""Where the secrets of an account are, and how they are read."""

import os
import stat
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec

from masscancel.errors import ConfigurationError

__all__ = ["OTHERS", "Place", "SecretSource", "source_of"]

#: The bits of a file's mode that let others in.
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_LARGEST: Final = 64 * 1024  # bytes


class SecretSource(msgspec.Struct, frozen=True):
    """The place of a key, a secret or a passphrase; not the thing itself.

    Attributes:
        where: the place in words, such as ``env MM1_KEY``.
        read: reads it. Raises ``ConfigurationError``.
        exposed: whether others can read the place, too.
        slow: whether reading it may take long, such as from a keyring that asks a person.
        variable: the environment's variable that it is in, if it is in one.
    """

    where: str
    read: Callable[[], str]
    exposed: bool = False
    slow: bool = False
    variable: str = ""


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is, as the file says."""

    env: str | None = None
    file: str | None = None
    keyring: str | None = None


def source_of(place: str | Place, folder: Path, *, private: bool) -> SecretSource:
    """Where a secret is, and how it is read. A closure holds a literal one: no repr shows it.

    Args:
        place: what the file says: the place, or the secret itself.
        folder: where relative files are.
        private: whether the owner of the accounts file alone can read it.

    Raises:
        ConfigurationError: it says no place, or several; or it stands in a file that others can
            read.
    """
    if isinstance(place, str):
        if not private:
            raise ConfigurationError(
                "it stands in this file, which others can read: make the file yours alone "
                '(chmod 600), or write { env = "..." } or { file = "..." }'
            )
        return SecretSource("this file", lambda: place)
    given = [(kind, at) for kind in place.__struct_fields__ if (at := getattr(place, kind))]
    if len(given) != 1:
        raise ConfigurationError("write one of { env = }, { file = } and { keyring = }")
    [(kind, at)] = given
    if kind == "env":
        return SecretSource(f"env {at}", lambda: _from_env(at), variable=at)
    if kind == "file":
        path = folder / Path(at).expanduser()
        exposed = path.exists() and bool(path.stat().st_mode & OTHERS)
        return SecretSource(f"file {at}", lambda: _from_file(path), exposed=exposed, slow=True)
    if "/" not in at:
        raise ConfigurationError('a keyring is named "service/user"')
    return SecretSource(f"keyring {at}", lambda: _from_keyring(at), slow=True)


def _from_env(name: str) -> str:
    if not os.environ.get(name):
        raise ConfigurationError(f"set {name} in the environment")
    return os.environ[name].strip()


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is no text"
    raise ConfigurationError(f"the file {path} can't be read: {problem}")


def _from_keyring(place: str) -> str:
    service, _, user = place.rpartition("/")
    try:
        found = import_module("keyring").get_password(service, user)
    except ImportError:
        problem = "to read a keyring: pip install 'masscancel[keyring]'"
    except Exception as error:  # noqa: BLE001  # each backend has its own
        problem = f"the keyring can't be read for {place}: {type(error).__name__}"
    else:
        if found is not None:
            return str(found)
        problem = f"the keyring has nothing for {place}"
    raise ConfigurationError(problem)
