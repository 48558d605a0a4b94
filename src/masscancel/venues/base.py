"""The base of all venues: pure code that turns an intent into calls, and replies into values.

A venue does no I/O, has no clock and never retries. Subclass :class:`Venue`; ``template`` beside
this module is a whole one to copy.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeAlias

import msgspec
from msgspec.structs import force_setattr

from masscancel.calls import Flow, Limit, Probe, Reply, Scope, Spent, StreamDialect
from masscancel.errors import ConfigurationError, ScopeError
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues.toolkit import check_origin, is_whole

__all__ = ["Abilities", "Symbols", "Venue"]


#: How a scope is cancelled; all but the first begin with a listing, unless settle coins are known.
Way: TypeAlias = Literal[
    "one call",
    "a call per symbol",
    "a call per settle coin",
    "a call per batch of ids",
    "one by one",
]


class Symbols(msgspec.Struct, frozen=True):
    """The spelling of a category's symbols.

    Attributes:
        pattern: what matches a whole symbol; nothing else gets near a URL.
        example: one, for people.
    """

    pattern: re.Pattern[str]
    example: str


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """The abilities of a venue in one account category.

    Attributes:
        symbols: how the category spells its symbols.
        whole_account: how everything is cancelled: ``"one call"`` (to each of its books), or what
            takes a listing first, so that orders that appear in between are not covered.
        one_symbol: how one symbol is cancelled, likewise.
        ack: what the venue's answer tells: ``"received"``, ``"count"`` or ``"orders"``.
        echoes_id: whether a request's id comes back in the answer.
        books: the sets of orders that the category has, all of which a cancel covers by default.
        separable: whether ``books=`` may leave some of them out; otherwise the venue's call can't.
        stop_orders: whether stop and other conditional orders are cancelled too.
        contains: the categories whose orders are this one's, too.
        unreachable: kinds of orders that belong here and that no call cancels, for people.
        stream: whether order updates can be followed here.
        switch: what the venue's own dead man's switch covers: ``"account"`` (all of the category),
            ``"symbol"``, ``"both"`` (either); ``None`` if it has none.
        switch_seconds: the least and the most that it may be set to.
        settle: how long an order may take from its acknowledgement to the listing, in seconds: the
            time between the two listings of a proof, unless the caller asks for more.
    """

    symbols: Symbols
    whole_account: Way
    one_symbol: Way
    ack: Literal["received", "count", "orders"]
    echoes_id: bool = False
    books: tuple[str, ...] = ("ordinary", "stop")
    separable: bool = False
    stop_orders: bool = True
    contains: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    stream: bool = False
    switch: Literal["account", "symbol", "both"] | None = None
    switch_seconds: tuple[int, int] = (1, 86_400)
    settle: float = 0.25


class Venue(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange's dialect: a frozen value that says where the exchange is and how it is asked.

    Settings whose names end in ``_url`` are checked to be origins, ``https`` or ``wss`` unless
    they are loopback addresses.

    Attributes:
        name: as in ``--venue``, such as ``ascendex``.
        title: for people, such as ``AscendEX``.
        passphrase: whether its keys have a third part.
        abilities: what it can do, by account category.
        nonces: the account categories whose requests have nonces, which must arrive in order.
        foreign_address: the codes by which it says that a key may not be used from this address.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    passphrase: ClassVar[bool] = False
    abilities: ClassVar[Mapping[str, Abilities]]
    nonces: ClassVar[tuple[str, ...]] = ()
    foreign_address: ClassVar[frozenset[int | str]] = frozenset()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if name.endswith("_url"):
                scheme = "ws" if "stream" in name else "http"
                origin = check_origin(getattr(self, name), name=name, scheme=scheme)
                force_setattr(self, name, origin)

    def ready(self) -> bool:
        """Whether everything is known that a cancel needs; if not, :meth:`prepare` finds it out."""
        return True

    def prepare(self, categories: Sequence[str]) -> Flow[Self]:
        """Find out what the first cancel in these categories needs.

        Returns:
            The venue that knows it.
        """
        del categories
        return self
        yield

    def check_scope(self, scope: Scope) -> None:
        """Refuse what the venue can't scope to, before anything gets near a URL.

        Raises:
            ScopeError: there is no such category, symbol or book, or the venue's call can't leave
                the other books out.
        """
        abilities = self.ability(scope.account_category)
        symbol, symbols = scope.symbol, abilities.symbols
        if symbol is not None and not (
            isinstance(symbol, str) and symbol.isprintable() and symbols.pattern.fullmatch(symbol)
        ):
            raise ScopeError(
                f"{symbol!r} is not a {scope.account_category} symbol of {self.title}, which look "
                f"like {symbols.example}; None means all"
            )
        if scope.books is not None:
            self._check_books(scope.books, abilities)

    def _check_books(self, books: Any, abilities: Abilities) -> None:
        known = ", ".join(abilities.books)
        if not isinstance(books, tuple) or not books or not set(books) <= set(abilities.books):
            raise ScopeError(f"books must be a tuple of some of: {known}; not {books!r}")
        left_out = [book for book in abilities.books if book not in books]
        if left_out and not abilities.separable:
            raise ScopeError(
                f"{self.title} can't leave out the book {', '.join(left_out)}: one call cancels "
                f"all of {known}"
            )

    def ability(self, account_category: object) -> Abilities:
        """Look up the abilities of the venue in a category.

        Raises:
            ScopeError: the venue has no such category; the message names those there are.
        """
        found = None
        if isinstance(account_category, str):
            found = self.abilities.get(account_category)
        if found is None:
            raise ScopeError(
                f"no account category {account_category!r} on {self.title}; there are: "
                + ", ".join(self.abilities)
            )
        return found

    def check_switch(self, scope: Scope, timeout_ms: int) -> int:
        """Check what the venue's own dead man's switch is to be set to.

        Returns:
            The whole seconds that it is set to; 0 disarms it.

        Raises:
            ScopeError: the switch does not cover exactly the scope.
            ConfigurationError: the time is no whole number of seconds, too short or too long.
                Rounding could disarm it.
        """
        abilities = self.ability(scope.account_category)
        covers, wanted = abilities.switch, "account" if scope.symbol is None else "symbol"
        if covers not in (wanted, "both") or scope.books is not None:
            what = {
                None: "has none",
                "account": "covers the whole account, in all books",
                "symbol": "covers one symbol, in all books",
                "both": "covers all books",
            }[covers]
            raise ScopeError(
                f"the dead man's switch of {self.title} does not cover this scope: for "
                f"{scope.account_category} it {what}"
            )
        least, most = abilities.switch_seconds
        if (
            not is_whole(timeout_ms, 0, most * 1000)
            or timeout_ms % 1000
            or 0 < timeout_ms < least * 1000
        ):
            raise ConfigurationError(
                f"the dead man's switch of {self.title} takes {least} to {most} whole seconds, or "
                f"0 to disarm it, not {timeout_ms!r} ms"
            )
        return timeout_ms // 1000

    def origin(self, account_category: str) -> str:
        """The origin that the category's requests go to.

        Raises:
            ScopeError: the venue has no such category.
        """
        raise NotImplementedError

    def probe(self, origin: str) -> Probe:
        """Make the probe that reads the clock of an origin."""
        raise NotImplementedError

    def limits(self, origin: str) -> Sequence[Limit]:
        """The rates that the venue documents for one of its origins."""
        del origin
        return ()

    def spent(self, origin: str, reply: Reply) -> Mapping[str, Spent]:
        """Read what has been spent of the limits, by their names, from a reply's headers."""
        del origin, reply
        return {}

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """Cancel every open order in a scope that :meth:`check_scope` has accepted.

        ``request_id`` is what the venue is to repeat, where it does; ``None`` for nothing.
        """
        raise NotImplementedError

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """List every open order in a scope that has been accepted, to the last page."""
        raise NotImplementedError

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """Find out what has become of orders that are listed no more.

        Returns:
            Their states by id; those that the venue does not know are left out.
        """
        del account_category, orders
        return {}
        yield

    def key_info(self, categories: Sequence[str]) -> Flow[KeyInfo]:
        """Ask what the key may do, by the venue's own way of asking; nothing is cancelled for it.

        Override it where the venue tells a key's permissions.

        Args:
            categories: the account categories that matter, all at one origin.

        Returns:
            What it tells; of each category ``"no"``, if the venue says that the key may not cancel,
            and ``"unknown"`` where there is no such question, or the answer leaves it open.

        Raises:
            ScopeError: the venue has no such category.
        """
        for category in categories:
            self.ability(category)
        return KeyInfo(cancels=dict.fromkeys(categories, "unknown"))
        yield

    def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
        """Cancel one order that can't exist, and read from the refusal whether the key may cancel.

        Override it where the venue documents what it says then: "unknown order" to a key that may,
        something else to one that may not. No call of it may become one that cancels more if the
        venue, or what is before it, loses the id.

        Args:
            account_category: the venue's word.
            token: 32 random hexadecimal digits, for an id that nobody has given to an order.

        Raises:
            ConfigurationError: the venue documents no such way.
        """
        del token
        self.ability(account_category)
        raise ConfigurationError(
            f"{self.title} documents no cancel of a single order by which it would tell of "
            f"{account_category} whether a key may cancel"
        )
        yield

    def stream(self, account_category: str) -> StreamDialect | None:
        """The dialect of the category's order updates; ``None`` if they can't be followed.

        Raises:
            ScopeError: the venue has no such category.
        """
        self.ability(account_category)
        return None

    def switch(self, scope: Scope, timeout_ms: int) -> Flow[int | None]:
        """Arm the venue's own dead man's switch, or renew it; 0 ms disarms it.

        Returns:
            The venue's time at which it will fire, ms since the epoch; ``None`` if it won't.

        Raises:
            ScopeError: before anything is yielded: as :meth:`check_switch`.
        """
        self.check_switch(scope, timeout_ms)
        raise ScopeError(f"{self.title} has no dead man's switch")
        yield
