"""Read an accounts file. What is wrong is said with the file, the line and what would be right."""

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from masscancel.accounts.account import Account, UnreadableAccount
from masscancel.accounts.secrets import OTHERS, Place, source_of
from masscancel.errors import ConfigurationError, MassCancelError
from masscancel.venues import VENUES, load
from masscancel.venues.settings import make_venue

__all__ = ["find", "read"]

_FILE: Final = "masscancel.toml"


def find() -> Path:
    """Find the accounts file.

    Raises:
        ConfigurationError: there is none.
    """
    if given := os.environ.get("MASSCANCEL_ACCOUNTS"):
        return Path(given)
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    places = Path(_FILE), Path(config) / "masscancel" / _FILE
    for place in places:
        if place.exists():
            return place
    raise ConfigurationError(
        f"no accounts file: neither {places[0]} in this folder nor {places[1]}; name it with "
        "--accounts or $MASSCANCEL_ACCOUNTS"
    )


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An ``[[account]]`` as the file has it."""

    name: str
    venue: str
    categories: list[str] | None = None
    api_key: str | Place
    api_secret: str | Place
    passphrase: str | Place | None = None
    tags: dict[str, str] = {}
    keep: list[str] = []
    rates: dict[str, float] = {}
    options: dict[str, Any] = {}


class _Problem(Exception):  # it never leaves this module
    """What is wrong with an account, and which of its keys it is about."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


def read(
    path: Path, *, strict: bool, discover: bool
) -> tuple[Path, tuple[Account, ...], tuple[UnreadableAccount, ...]]:
    """Read a file. What is wrong comes back as text, out of frames in which secrets are.

    Raises:
        ConfigurationError: it can't be read, or is no TOML.
    """
    text, private, problem = _text_of(path)
    document: dict[str, Any] = {}
    if not problem:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            problem = f"{path} is no TOML: {error}"
    lines, text = _Lines(path, text), ""
    rows = document.pop("account", [])
    if not problem and not isinstance(rows, list):
        problem = f"{path}: write [[account]], with two brackets, above each account"
    if problem:
        document, rows, lines = {}, [], _Lines(path, "")
        raise ConfigurationError(problem)
    accounts: list[Account] = []
    unreadable = [
        UnreadableAccount(
            name="", problem=lines.locate(f"there is no {name!r}: write [[account]]", -1, name)
        )
        for name in document
    ]
    for index, row in enumerate(rows):
        try:
            account = _account(
                row, path.parent, private=private, discover=discover, line=lines.of(index)
            )
            if strict:
                _check(account, [each.name for each in accounts])
        except _Problem as wrong:
            unreadable.append(_unreadable(row, lines.locate(str(wrong), index, wrong.key)))
        else:
            accounts.append(account)
    return path, tuple(accounts), tuple(unreadable)


def _text_of(path: Path) -> tuple[str, bool, str]:
    """A file's text, whether its owner alone may read it, and what went wrong."""
    try:
        with path.open(encoding="utf-8") as file:
            private = not os.fstat(file.fileno()).st_mode & OTHERS
            return file.read(), private, ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        return "", False, f"{path} can't be read: {reason}"


def _account(raw: Any, folder: Path, *, private: bool, discover: bool, line: int) -> Account:
    """Make an account of what the file has; to discover its categories, of all its venue's.

    Raises:
        _Problem: it can't be used.
    """
    row = _row(raw)
    if not row.name or not row.name.isprintable():
        raise _Problem("name", 'a name is printable text, such as "mm-1"')
    try:
        kind = load(row.venue)
    except ConfigurationError as error:
        raise _Problem("venue", error.message) from None
    except ImportError as error:
        raise _Problem("venue", f"{row.venue} can't be loaded: {error}") from None
    try:
        venue = make_venue(kind, row.options)
    except ConfigurationError as error:
        raise _Problem("options", f"options: {error.message}") from None
    categories = [*kind.abilities] if discover else row.categories
    if not categories:
        missing = "categories is missing:" if categories is None else "categories are"
        raise _Problem("categories", f"{missing} some of {', '.join(kind.abilities)}")
    if kind.passphrase and row.passphrase is None:
        raise _Problem("passphrase", f"passphrase is missing: a key of {kind.title} has one")
    places = {"api_key": row.api_key, "api_secret": row.api_secret, "passphrase": row.passphrase}
    secrets = {}
    for name, place in places.items():
        try:
            if place is not None:
                secrets[name] = source_of(place, folder, private=private)
        except ConfigurationError as error:
            raise _Problem(name, f"{name}: {error.message}") from None
    return Account(
        name=row.name,
        venue=venue,
        categories=tuple(dict.fromkeys(categories)),
        secrets=secrets,
        tags=row.tags,
        keep=tuple(row.keep),
        rates=row.rates,
        line=line,
    )


def _row(raw: Any) -> _Row:
    """Decode an account; the message of what is wrong shows no value.

    Raises:
        _Problem: a key is missing, unknown, or of another type.
    """
    try:
        return msgspec.convert(raw, _Row)
    except msgspec.ValidationError as error:
        words = str(error)
    if named := re.fullmatch(r"Object missing required field `(\w+)`", words):
        hint = f", such as one of: {', '.join(VENUES)}" if named[1] == "venue" else ""
        raise _Problem(named[1], f"{named[1]} is missing{hint}")
    if named := re.match(r"Object contains unknown field `(.*?)`(?: - at `\$\.(\w+))?", words):
        place = Place if named[2] else _Row
        known = ", ".join(place.__struct_fields__)
        raise _Problem(named[2] or named[1], f"there is no {named[1]!r}; there are: {known}")
    found = re.match(r"(?P<words>.*?)(?: - at `\$\.(?P<key>\w+).*`)?$", words)
    key = (found["key"] if found else None) or ""
    problem = (found["words"] if found else words).replace("object", "table").replace("`", "")
    raise _Problem(key, f"{key or 'the account'}: {problem[:1].lower()}{problem[1:]}")


def _check(account: Account, before: Iterable[str]) -> None:
    """Check an account strictly.

    Raises:
        _Problem: it can't be used as it stands there.
    """
    if account.name in before:
        raise _Problem("name", "the name stands there twice")
    for category in account.categories:
        try:
            account.scope(category)
        except MassCancelError as error:
            key = "categories" if category not in account.venue.abilities else "keep"
            raise _Problem(key, error.message) from None
    for name, source in account.secrets.items():
        try:
            source.read()
        except ConfigurationError as error:
            raise _Problem(name, f"{name}: {error.message}") from None
    try:
        account.client()
    except MassCancelError as error:
        raise _Problem("rates", error.message) from None


def _unreadable(row: Any, problem: str) -> UnreadableAccount:
    """An account that can't be read, with what can be read of it."""
    found = row if isinstance(row, dict) else {}
    name, venue, tags = (found.get(key) for key in ("name", "venue", "tags"))
    is_mapping = isinstance(tags, dict) and all(isinstance(each, str) for each in tags.values())
    return UnreadableAccount(
        name=name if isinstance(name, str) and name.isprintable() else "",
        problem=problem,
        venue=venue if isinstance(venue, str) else "",
        tags=tags if is_mapping else None if "tags" in found else {},
    )


class _Lines:
    """The lines on which the accounts of a file begin, and their keys stand."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = [line.strip() for line in text.splitlines()]  # names of keys, no values
        for index, line in enumerate(self._lines):
            self._lines[index] = line.partition("=")[0].strip().replace(" ", "")
        self._starts = [at for at, line in enumerate(self._lines) if line.startswith("[[account]]")]

    def of(self, index: int) -> int:
        """The line on which an account begins, from 1; 0 if that can't be said."""
        return self._starts[index] + 1 if index < len(self._starts) else 0

    def locate(self, problem: str, index: int, key: str) -> str:
        """A problem with the file, and the line of an account's key; index -1: of no account."""
        begin = self._starts[index] if 0 <= index < len(self._starts) else 0
        end = self._starts[index + 1] if 0 <= index < len(self._starts) - 1 else len(self._lines)
        heads = (key, f"[account.{key}]", f"[[{key}]]", f"[{key}]")
        at = next((at for at in range(begin, end) if self._lines[at] in heads), begin)
        return f"{self._path}, line {at + 1}: {problem}"
