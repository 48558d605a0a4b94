"""One account of the file: a venue, the places of its secrets, categories, tags."""

from collections.abc import Mapping
from typing import Any

import msgspec

from masscancel.accounts.secrets import SecretSource
from masscancel.calls import Scope
from masscancel.client import Client
from masscancel.credentials import Credentials
from masscancel.errors import ScopeError
from masscancel.transport.pool import SessionPool
from masscancel.venues.base import Venue

__all__ = ["Account", "UnreadableAccount"]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account of the file.

    Attributes:
        name: the label of its credentials.
        venue: which exchange, and where.
        categories: the account categories that a kill is to reach.
        secrets: where ``api_key``, ``api_secret`` and ``passphrase`` are.
        tags: for selecting it, such as ``{"desk": "mm"}``.
        keep: the books that no kill touches, such as ``("stop",)``.
        rates: what it may spend in place of the venue's documented limits.
        line: where it stands in the file; 0 if that can't be said.
    """

    name: str
    venue: Venue
    categories: tuple[str, ...]
    secrets: Mapping[str, SecretSource]
    tags: Mapping[str, str] = {}
    keep: tuple[str, ...] = ()
    rates: Mapping[str, float] = {}
    line: int = 0

    def credentials(self) -> Credentials:
        """Read its key and secret.

        Raises:
            ConfigurationError: one is not there, or can't be a key.
        """
        return Credentials(  # no local variable: a traceback would show it
            self.secrets["api_key"].read(),
            self.secrets["api_secret"].read(),
            passphrase=self.secrets["passphrase"].read() if "passphrase" in self.secrets else "",
            label=self.name,
        )

    def client(
        self, pool: SessionPool | None = None, *, entry_timeout: float = 10.0
    ) -> Client[Any]:
        """A client of it, to be entered.

        Raises:
            ConfigurationError: a secret or a rate can't be used.
        """
        return self.client_of(self.credentials(), pool, entry_timeout=entry_timeout)

    def client_of(
        self, credentials: Credentials, pool: SessionPool | None, *, entry_timeout: float
    ) -> Client[Any]:
        """The same with credentials that have been read already."""
        return Client(
            credentials,
            venue=self.venue,
            pool=pool,
            categories=[name for name in self.categories if name in self.venue.abilities],
            rates=self.rates,
            entry_timeout=entry_timeout,
        )

    @property
    def covering(self) -> tuple[str, ...]:
        """The smallest set of its categories that covers them all, so that each book comes once."""
        found = self.venue.abilities
        contained = {
            part for name in self.categories if name in found for part in found[name].contains
        }
        return tuple(name for name in self.categories if name not in contained)

    def scope(self, account_category: str) -> Scope:
        """What a kill is to cancel of a category: all but the books that it keeps.

        Raises:
            ScopeError: there is no such category; what is to be kept has another name there, or
                the venue can't leave it out.
        """
        ability = self.venue.ability(account_category)
        left = tuple(book for book in ability.books if book not in self.keep)
        if not self.keep or (len(ability.books) == 1 and left):
            return Scope(account_category)
        if len(left) in (0, len(ability.books)):
            raise ScopeError(
                f"{', '.join(self.keep)} can't be kept in {account_category} of "
                f"{self.venue.title}, whose books are {', '.join(ability.books)}"
            )
        scope = Scope(account_category, None, left)
        self.venue.check_scope(scope)
        return scope

    def to_dict(self) -> dict[str, Any]:
        """The account as plain data for JSON, without its secrets."""
        return {
            "name": self.name,
            "venue": self.venue.name,
            "categories": self.categories,
            "secrets": {name: source.where for name, source in self.secrets.items()},
            "tags": {**self.tags},
            "keep": self.keep,
            "line": self.line,
        }


class UnreadableAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the file that can't be read, and what would be right.

    Attributes:
        name: the account's name, ``""`` if that can't be read either.
        problem: what is wrong, with the file and the line.
        venue: the venue's name, as far as it can be read.
        tags: its tags, ``None`` if they can't be read.
    """

    name: str
    problem: str
    venue: str = ""
    tags: Mapping[str, str] | None = None
