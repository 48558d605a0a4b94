"""The scopes that a command is about: every category with every symbol, and what is left out."""

from collections.abc import Sequence
from typing import Any

import msgspec

from masscancel import ConfigurationError
from masscancel.calls import Scope
from masscancel.cli.options import Account
from masscancel.cli.render import named
from masscancel.errors import ScopeError

__all__ = ["Scopes"]


class Scopes(msgspec.Struct, frozen=True):
    """Every category of an account with every symbol.

    Attributes:
        account: whose.
        symbols: the symbols, ``(None,)`` for all.
        books: the books, ``None`` for every book.
    """

    account: Account
    symbols: tuple[str | None, ...] = (None,)
    books: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, account: Account, symbols: Sequence[str] | None, books: Sequence[str] | None
    ) -> "Scopes":
        """Make them of what the options say.

        Raises:
            ScopeError: the venue has no such scope; nothing was sent, not even for the others.
        """
        scopes = cls(
            account,
            tuple(dict.fromkeys(symbols or (None,))),
            tuple(dict.fromkeys(books)) if books else None,
        )
        for scope in scopes.each:
            try:
                account.venue.check_scope(scope)
            except ScopeError as error:
                raise ScopeError(f"{scope.account_category}: {error.message}") from None
        return scopes

    @property
    def each(self) -> list[Scope]:
        """The scopes, one by one."""
        return [
            Scope(category, symbol, self.books)
            for category in self.account.categories
            for symbol in self.symbols
        ]

    @property
    def whole(self) -> bool:
        """Whether every symbol is meant."""
        return self.symbols == (None,)

    def books_of(self, category: str) -> tuple[str, ...]:
        """The books that are meant in a category."""
        return self.account.venue.ability(category).books if self.books is None else self.books

    def left_out_of(self, category: str) -> tuple[str, ...]:
        """The books of a category that are left out."""
        books = self.account.venue.ability(category).books
        return tuple(book for book in books if book not in self.books_of(category))

    def left_out(self, done: str) -> str:
        """Say what is left out, in a sentence for each kind; nothing if all is covered.

        Args:
            done: what was not done with these, such as ``touched``.
        """
        sentences = []
        if others := self.account.other_categories:
            verb = "were" if len(others) > 1 else "was"
            sentences.append(f"{named(others)} {verb} not {done}.")
        if not self.whole:
            sentences.append(f"No other symbol was {done}.")
        for category in self.account.categories:
            if books := self.left_out_of(category):
                word, verb = ("books", "were") if len(books) > 1 else ("book", "was")
                sentences.append(f"The {word} {named(books)} of {category} {verb} not {done}.")
        return " ".join(sentences)

    def left_out_fields(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        books = {category: self.left_out_of(category) for category in self.account.categories}
        return {
            "categories": self.account.other_categories,
            "other_symbols": not self.whole,
            "books": {category: left for category, left in books.items() if left},
        }

    def check_stream(self, via: str) -> None:
        """Check that each category has a stream, if the cancel is to go that way.

        Raises:
            ConfigurationError: one has none.
        """
        venue = self.account.venue
        for category in self.account.categories if via != "rest" else ():
            if not venue.ability(category).stream:
                raise ConfigurationError(
                    f"{venue.title} has no stream to cancel on in {category}: say --via rest"
                )
