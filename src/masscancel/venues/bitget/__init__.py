"""Bitget: spot, margin, and USDT, USDC and coin futures; of classic and of unified accounts.

Sources: https://www.bitget.com/api-doc (v2 for classic accounts, v3 for unified ones: "UTA"), as of
2025-12-05; each module beside this one names its pages.

**An account is either classic or unified, and each API refuses the other's accounts** (codes 40085
and 25245). Which it is, is found out on entry where it is not given. While that is not known, both
APIs are asked side by side, and the one whose account it is not says so and cancels nothing.

What is not documented is taken for the worse of its readings:

- An Ack tells what is cancelled only where v2's answer lists it; v3's does not say whether an order
  that did not fail is gone by then, and spot's cancel of a symbol is executed later.
- A listing ends with an empty page, or where it says that there is none.
- Listings may reach back three months only (margin: 89 days are asked for). Older orders are
  cancelled where a cancel needs no listing, but no listing shows them.
- ``x-mbx-used-remain-limit`` tells what is left of an endpoint's rate within the second; which
  endpoint a reply is of can't be seen in it, so that it is not read.

The venue's own dead man's switch (v3, ``countdown-cancel-all``) covers all categories of a unified
account, wants an application, and does not say when it fires: none of the categories has it.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Final, Self, TypeVar

import msgspec
from msgspec.structs import replace

from masscancel.calls import Call, Flow, Limit, Probe, Reply, Scope, Stamp
from masscancel.errors import ConfigurationError, MassCancelError, ScopeError, VenueError
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues.base import Abilities, Symbols, Venue
from masscancel.venues.bitget import classic, unified
from masscancel.venues.bitget.classic import Classic
from masscancel.venues.bitget.codes import FOREIGN_ADDRESS, is_wrong_mode
from masscancel.venues.bitget.parts import wrong_mode
from masscancel.venues.bitget.unified import Unified
from masscancel.venues.bitget.wire import OVERALL, Wire, costs, data_of, decode_clock, name_of
from masscancel.venues.toolkit import Part, batches, decode_json, every, join, merged, one

__all__ = ["Bitget"]

T = TypeVar("T")

_TIME: Final = "/api/v2/public/time"
_ACCOUNT: Final = "/api/v2/spot/account/info"
#: For how long it is worth finding things out on entry, in seconds.
_PATIENCE: Final = 3.0
#: How many orders are asked about together, and in all, at most: futures take 10 a second.
STATES_TOGETHER: Final = 8
STATES_ASKED: Final = 40
#: The time between the two listings of a proof, in seconds: cancels are executed asynchronously,
#: and no page says how soon a listing shows it.
SETTLE: Final = 0.5

#: Upper-case letters and digits, as in all samples that are no misprints; ``$`` in some coins,
#: ``r`` and ``pre`` before tokenised stocks, and beyond ASCII whatever is printable.
_SYMBOL: Final = re.compile(r"(?:r|pre)?[A-Z0-9$\u0080-\U0010ffff]{2,40}")

_LIMITS: Final = (
    OVERALL,
    Limit(name=name_of(_TIME), amount=20, seconds=1.0, of_cancels=False),
    Limit(name=name_of(_ACCOUNT), amount=1, seconds=1.0, per="key", of_cancels=False),
    *(
        Limit(
            name=name_of(path),
            amount=amount,
            seconds=1.0,
            per="key",
            of_cancels="cancel" in path,
        )
        for path, amount in {**classic.RATES, **unified.RATES}.items()
    ),
)


class Found(msgspec.Struct, frozen=True):
    """What entry found out.

    Attributes:
        asked: whether anything was asked for; what could not be had then is not asked for again.
        pairs: the pairs of margin; ``None`` if they are not known.
    """

    asked: bool = False
    pairs: tuple[str, ...] | None = None


def _can(example: str, *unreachable: str) -> Abilities:
    """The abilities of a category: of either kind of account, the less."""
    return Abilities(
        symbols=Symbols(_SYMBOL, example),
        whole_account="one by one",  # a unified account's strategies
        one_symbol="one by one",
        ack="received",
        separable=True,
        unreachable=("TWAP, iceberg and grid bots", *unreachable),
        settle=SETTLE,
    )


_OLD: Final = "orders older than three months, which listings may leave out"


class Bitget(Venue, frozen=True, kw_only=True):
    """Bitget: where it is, and which kind of account it is spoken to for.

    Args:
        rest_url: the origin of its REST side.
        unified: whether the account is a unified one; ``None`` to find it out on entry.
        found: what entry found out; not to be given.

    Raises:
        ConfigurationError: the URL is not an origin, or would send keys in clear text to another
            machine; ``unified`` is neither true, false nor ``None``.
    """

    name: ClassVar[str] = "bitget"
    title: ClassVar[str] = "Bitget"
    foreign_address: ClassVar[frozenset[int | str]] = FOREIGN_ADDRESS
    passphrase: ClassVar[bool] = True
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "spot": _can("BTCUSDT", _OLD),
        "margin": _can("BTCUSDT", "orders of classic accounts that are older than 89 days"),
        "usdt-futures": _can("BTCUSDT", _OLD),
        "coin-futures": _can("BTCUSD", _OLD),
        "usdc-futures": _can("BTCPERP", _OLD),
    }

    rest_url: str = "https://api.bitget.com"
    unified: bool | None = None
    found: Found = Found()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unified not in (True, False, None):
            raise ConfigurationError("unified must be True, False, or None to find it out")

    def ready(self) -> bool:
        """Whether entry has asked; what could not be had is no reason to try again."""
        return self.found.asked

    def prepare(self, categories: Sequence[str]) -> Flow[Self]:
        """Find out which kind of account it is, and margin's pairs, as far as can be had soon.

        The listing of one open order is asked for in both APIs: it wants no other permission than
        a cancel's own family has, and the one that refuses the kind says which it is.
        """
        asks: dict[str, Call[Any]] = {}
        if self.unified is None:
            asks["classic"] = self._whose("/api/v2/spot/trade/unfilled-orders", {"limit": "1"})
            query = {"category": "SPOT", "limit": "1"}
            asks["unified"] = self._whose("/api/v3/trade/unfilled-orders", query)
        if "margin" in categories and self.unified is not True:
            asks["pairs"] = self._classic.find_pairs(_PATIENCE)
        results = (yield list(asks.values())) if asks else ()
        told = {
            name: result
            for name, result in zip(asks, results, strict=True)
            if not isinstance(result, MassCancelError)
        }
        found = Found(asked=True, pairs=told.get("pairs"))
        return replace(self, unified=_kind(self.unified, told), found=found)

    def check_scope(self, scope: Scope) -> None:
        """Refuse what can't be scoped to; a spelling of another venue's, with the right one.

        Raises:
            ScopeError: there is no such category, symbol or book here.
        """
        symbol = scope.symbol
        if isinstance(symbol, str):
            right = re.sub(r"(_(SP|S?[UDC]MC)BL|:.*)$|[-/_]", "", symbol.upper())
            if right != symbol and not _SYMBOL.fullmatch(symbol) and _SYMBOL.fullmatch(right):
                self.ability(scope.account_category)
                raise ScopeError(
                    f"{symbol!r} is not how {self.title} spells a symbol: write {right!r}"
                )
        super().check_scope(scope)

    def origin(self, account_category: str) -> str:
        """One origin serves all."""
        self.ability(account_category)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /api/v2/public/time``, which both kinds of account have."""
        return Probe(origin=origin, path=_TIME, decode=decode_clock, costs=costs(_TIME))

    def limits(self, origin: str) -> Sequence[Limit]:
        """A rate of each path for an account, and one of the address for all of them."""
        del origin
        return _LIMITS

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """Cancel the books of a scope side by side; no id is echoed.

        Raises:
            ScopeError: the kind of account has no such book (classic margin: ``stop``).
        """
        del request_id
        right: list[list[Part]] = []
        for kinds in self._kinds(scope):
            results = yield from self._each([kind.cancel(scope) for kind in kinds])
            parts = [[Part([r])] if isinstance(r, MassCancelError) else r for r in results]
            right = [each for each in parts if not wrong_mode(each)]
            if right:
                break
        if not right:
            self._check_classic(scope)
        return join(scope, list(chain.from_iterable(right or parts)))

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """List the books of a scope side by side, page after page."""
        results: Sequence[list[OpenOrder] | MassCancelError] = ()
        for kinds in self._kinds(scope):
            results = yield from self._each([kind.open_orders(scope) for kind in kinds])
            right = [each for each in results if not is_wrong_mode(each)]
            if right:
                orders = chain.from_iterable(every(right))
                return list({order.order_id: order for order in orders}.values())
        self._check_classic(scope)
        return one(results[:1])

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """Requests for each order, some together; for the first of them, if there are very many.

        Of a conditional order that has become an ordinary one, it is not known how that ended.
        """
        self.ability(account_category)
        states: dict[str, OrderState] = {}
        for some in batches(orders[:STATES_ASKED], STATES_TOGETHER):
            kinds = self._kinds(Scope(account_category))[0]
            calls = [call for kind in kinds for call in kind.states(account_category, some)]
            answers = yield calls
            states |= merged(each for each in answers if not isinstance(each, MassCancelError))
        return states

    def key_info(self, categories: Sequence[str]) -> Flow[KeyInfo]:
        """``GET /api/v2/spot/account/info`` tells of a classic key; nothing of a unified one."""
        for category in categories:
            self.ability(category)
        nothing = KeyInfo(cancels=dict.fromkeys(categories, "unknown"))
        if self.unified is True:
            return nothing
        decode = partial(_decode_key, categories=tuple(categories))
        (answer,) = yield [self._wire.get(_ACCOUNT, {}, decode)]
        if is_wrong_mode(answer):
            return nothing
        if isinstance(answer, MassCancelError):
            raise answer
        info: KeyInfo = answer
        return info

    def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
        """``cancel-order`` of a client's id, of each family its own; "does not exist" if it may."""
        symbol = self.ability(account_category).symbols.example
        for kinds in self._kinds(Scope(account_category)):
            calls = [kind.try_cancel(account_category, symbol, token) for kind in kinds]
            answers: Sequence[Permission | MassCancelError] = yield calls
            right = [each for each in answers if not is_wrong_mode(each)]
            if right:
                break
        permission: Permission = one((right or answers)[:1])
        return permission

    @property
    def _wire(self) -> Wire:
        return Wire(self.rest_url)

    @property
    def _classic(self) -> Classic:
        return Classic(self._wire, self.found.pairs)

    def _kinds(self, scope: Scope) -> list[list[Classic | Unified]]:
        """The kinds of account to speak to: first the one that is known, or both.

        The other one follows if the venue says that it is wrong: an account can be upgraded. So
        what a classic one has not got is asked of the other API alone, which refuses it by name.
        """
        both: list[Classic | Unified] = [self._classic, Unified(self._wire)]
        if not self._classic.has(scope):
            return [both[1:]]
        if self.unified is None:
            return [both]
        return [both[::-1][:1], both[:1]] if self.unified else [both[:1], both[1:]]

    def _check_classic(self, scope: Scope) -> None:
        """Refuse what a classic account has not got; each API has said that it is not its account.

        Raises:
            ScopeError: it has no such book.
        """
        if not self._classic.has(scope):
            raise ScopeError(f"a classic account of {self.title} has no stop orders on margin")

    def _each(self, flows: Sequence[Flow[T]]) -> Flow[Sequence[T | MassCancelError]]:
        """The results of flows, side by side where there are several."""
        if len(flows) > 1:
            return (yield flows)
        try:
            return [(yield from flows[0])]
        except MassCancelError as error:
            return [error]

    def _whose(self, path: str, query: Mapping[str, str]) -> Call[bool]:
        return self._wire.get(path, query, _decode_whose, time_limit=_PATIENCE)


def _kind(given: bool | None, told: Mapping[str, Any]) -> bool | None:
    """Whether an account is unified: as given, or as both APIs say without a contradiction."""
    if given is not None:
        return given
    says = {told["unified"]} if "unified" in told else set()
    says |= {not told["classic"]} if "classic" in told else set()
    return says.pop() if len(says) == 1 else None


def _decode_whose(reply: Reply, stamp: Stamp) -> bool:
    """Whether the account is of the kind that the API is for."""
    try:
        data_of(reply, stamp.time_ms)
    except VenueError as error:
        if is_wrong_mode(error):
            return False
        raise
    return True


class _Info(msgspec.Struct):
    authorities: tuple[str, ...]
    ips: str | None = None


_INFO: Final = msgspec.json.Decoder(_Info)
#: The authority to write orders of each family; the sample has ``trade`` instead.
_WRITES: Final = {"spot": "stow", "margin": "smow"}


def _decode_key(reply: Reply, stamp: Stamp, *, categories: tuple[str, ...]) -> KeyInfo:
    info: _Info = decode_json(_INFO, reply, data_of(reply, stamp.time_ms))
    addresses = None if info.ips is None else tuple(filter(None, info.ips.split(",")))
    may = {category: _may_cancel(info.authorities, category) for category in categories}
    return KeyInfo(cancels=may, addresses=addresses)


def _may_cancel(authorities: Sequence[str], account_category: str) -> Permission:
    if {_WRITES.get(account_category, "coow"), "trade"}.isdisjoint(authorities):
        return "no" if authorities else "unknown"
    return "yes"
