"""The accounts file: every account that a kill is to reach, and where its key and secret are.

::

    [[account]]
    name = "mm-1"
    venue = "binance"
    categories = ["spot", "usdm"]
    api_key = { env = "MM1_KEY" }
    api_secret = { file = "mm-1.secret" }  # or { keyring = "service/user" }
    tags = { desk = "mm" }
    keep = ["algo"]                        # books that no kill touches

    [account.options]                      # settings of the venue
    recv_window_ms = 3000

Where nothing is at stake, the file is read strictly: :meth:`Accounts.load`. A kill reads it with
``strict=False`` and goes on with every account that can be read.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
from msgspec.structs import replace

from masscancel.accounts.account import Account, UnreadableAccount
from masscancel.accounts.file import find, read
from masscancel.accounts.opening import Entry
from masscancel.accounts.secrets import SecretSource
from masscancel.errors import ConfigurationError
from masscancel.fanout import Target
from masscancel.transport.pool import SessionPool

__all__ = ["Account", "Accounts", "SecretSource", "UnreadableAccount"]


class Accounts(msgspec.Struct, frozen=True):
    """The accounts of a file, or some of them.

    Attributes:
        path: the file.
        accounts: those that can be read, in the file's order.
        unreadable: the others. None if the file was read strictly.
    """

    path: Path
    accounts: tuple[Account, ...]
    unreadable: tuple[UnreadableAccount, ...] = ()

    def __iter__(self) -> Iterator[Account]:
        return iter(self.accounts)

    def __len__(self) -> int:
        return len(self.accounts)

    @classmethod
    def load(
        cls, path: str | Path | None = None, *, strict: bool = True, discover: bool = False
    ) -> "Accounts":
        """Read an accounts file.

        Args:
            path: the file; ``None`` for ``$MASSCANCEL_ACCOUNTS``, ``masscancel.toml`` in the
                current folder, or that in the user's config folder, whichever there is first.
            strict: whether each account has to be right, its secrets included. A kill goes on
                with those that can be read, and names the others: ``unreadable``.
            discover: whether to give each account every category of its venue, whichever it names.

        Raises:
            ConfigurationError: there is no such file, it is no TOML, or names no account; if
                strict, also the first thing that is wrong: in one line, with the file, the line
                and what would be right.
        """
        found = cls(
            *read(Path(path) if path is not None else find(), strict=strict, discover=discover)
        )
        if not found.accounts and not found.unreadable:
            raise ConfigurationError(f"{found.path} names no account: write [[account]]")
        if strict and found.unreadable:
            first, *others = found.unreadable
            more = f" (and {len(others)} more)" if others else ""
            raise ConfigurationError(first.problem + more)
        return found

    def select(
        self,
        *patterns: str,
        venue: str | None = None,
        category: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> "Accounts":
        """Choose some of them.

        What can't be read stays, unless what can be read of it says that it is not meant.

        Args:
            patterns: names, such as ``"mm-*"``: all that match any. None for every name.
            venue: the venue's name.
            category: an account category; of the accounts that have it, only that one.
            tags: all of these.

        Raises:
            ConfigurationError: one of these matches no account; the message has those there are.
        """
        wanted = dict(tags or {})
        self._check_selectors(patterns, venue, category, wanted)

        def matches(name: str, its_venue: str, its_tags: Mapping[str, str]) -> bool:
            return (
                (not patterns or any(fnmatchcase(name, pattern) for pattern in patterns))
                and venue in (None, its_venue)
                and wanted.items() <= its_tags.items()
            )

        accounts = [
            each if category is None else replace(each, categories=(category,))
            for each in self.accounts
            if matches(each.name, each.venue.name, each.tags)
            and (category is None or category in each.categories)
        ]
        unreadable = [
            each
            for each in self.unreadable
            if not each.name
            or matches(
                each.name, each.venue or venue or "", wanted if each.tags is None else each.tags
            )
        ]
        if not accounts and not unreadable:
            raise ConfigurationError(f"no account of {self.path} is all of that at once")
        return replace(self, accounts=tuple(accounts), unreadable=tuple(unreadable))

    def _check_selectors(
        self,
        patterns: Iterable[str],
        venue: str | None,
        category: str | None,
        tags: Mapping[str, str],
    ) -> None:
        """Check that each selector by itself matches something."""
        every: list[Account | UnreadableAccount] = [*self.accounts, *self.unreadable]
        names = [each.name for each in every if each.name]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise self._matches_nothing("name", pattern, names)
        venues = [each.venue.name for each in self.accounts]
        venues += [each.venue for each in self.unreadable if each.venue]
        if venue is not None and venue not in venues:
            raise self._matches_nothing("venue", venue, venues)
        categories = [name for each in self.accounts for name in each.categories]
        if category is not None and category not in categories:
            raise self._matches_nothing("category", category, categories)
        known = [f"{name}={value}" for each in every for name, value in (each.tags or {}).items()]
        for tag in (f"{name}={value}" for name, value in tags.items()):
            if tag not in known:
                raise self._matches_nothing("tag", tag, known)

    def _matches_nothing(self, kind: str, given: str, there_are: Iterable[str]) -> Exception:
        known = ", ".join(dict.fromkeys(there_are)) or "none"
        return ConfigurationError(f"no account of {self.path} has the {kind} {given!r}: {known}")

    @asynccontextmanager
    async def open(
        self, *, pool: SessionPool | None = None, timeout: float = 10.0, wait: bool = True
    ) -> AsyncIterator[list[Target]]:
        """Enter a client for each account, all at once; leave them at the end.

        Args:
            pool: an entered pool to share; by default they have one of their own.
            timeout: how long entering may take, in seconds.
            wait: whether to wait until every client is entered. If not, each target waits for its
                own client alone, and fails by itself where that can't be entered: for a kill.

        Returns:
            A target for each account and category, without the books that the account keeps.

        Raises:
            ConfigurationError: a secret can't be read.
            MassCancelError: an account could not be entered, such as by a wrong key.
        """
        if pool is None:
            async with (
                SessionPool() as own,
                self.open(pool=own, timeout=timeout, wait=wait) as targets,
            ):
                yield targets
            return
        entries = [Entry(account, pool, timeout) for account in self.accounts]
        try:
            if wait:
                for entry in entries:
                    await entry.client()
            yield [
                target
                for entry in entries
                for target in (entry.targets_of_client() if wait else entry.targets())
            ]
        finally:
            await asyncio.gather(*(entry.leave() for entry in entries))
