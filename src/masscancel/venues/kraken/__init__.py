"""Kraken: spot, and futures by their REST API of version 3.

Sources, at https://docs.kraken.com. Spot: "Spot REST Authentication", "Error messages", "Rate
limits", "Cancel All Orders", "Cancel Order Batch", "Cancel Order", "Get Open Orders", "Query Orders
Info", "Get Tradable Asset Pairs", "Cancel All Orders After X". Futures: "Derivatives REST", "Cancel
all orders", "Get open orders", "Get Specific Orders' Status", "Dead man's switch", "Get
instruments". Where those are silent: the support pages "API error messages" and "What is a nonce
window?".

**The futures side ends on 1 March 2027**: Kraken switches its REST API of version 3 off that day.

There is no test network: the one of futures was retired in July 2026, spot has none in public.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Self

import msgspec

from masscancel.calls import Call, Flow, Limit, Probe, Scope
from masscancel.errors import ConfigurationError, MassCancelError
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues.base import Abilities, Venue
from masscancel.venues.kraken import futures, spot
from masscancel.venues.kraken.spot_replies import decode_clock
from masscancel.venues.kraken.wire import Found
from masscancel.venues.toolkit import every

__all__ = ["Kraken"]

#: How often spot's clock is read, in seconds. "Calling the public endpoints at a frequency of 1 per
#: second (or less) would remain within the rate limits", by address (support page "What are the API
#: rate limits?"): three every 15 s are a quarter of it at most, and leave room for look-ups.
PROBE_INTERVAL: Final = 15.0

#: For how long it is worth looking up names on entry, in seconds.
_PATIENCE: Final = 3.0

_NONCES_PER_SECOND: Final = {"ms": 10**3, "us": 10**6, "ns": 10**9}


class Kraken(Venue, frozen=True, kw_only=True):
    """Kraken: where it is, and how the key's nonces grow.

    A key serves one of the two categories, ``spot`` or ``futures``; only the host of the category
    in use is spoken to.

    A spot pair may be spelled as in the listing of orders (``XBTUSD``), as on the websocket
    (``XBT/USD``) or as the key of the list of pairs (``XXBTZUSD``), and as nothing else: Kraken
    understands ``BTC/USD``, but does not list it. What these mean is found out on entry, as are the
    futures contracts; what could not be had then, or was listed since, is looked up beside a cancel
    or after a listing that has none of it.

    Every private request of spot carries a nonce that must be greater than any that Kraken has
    accepted for the key, and a key's nonces can never be set back. So **the unit sticks to the
    key**: one nonce in ns locks every program that counts in ms out of the key for good. Use a key
    for this alone; where it is shared, choose what the others use (ccxt: ``"ms"``, kraken-cli:
    ``"ns"``), and expect refusals, since each process only orders its own.

    Args:
        spot_url: the origin of spot.
        futures_url: the origin of futures.
        nonce_unit: what the key's nonces count: ``"ms"``, ``"us"`` or ``"ns"`` since the epoch.
        tier: what spot's limits go by: ``"starter"``, ``"intermediate"`` or ``"pro"``.
        found: what entry found out; not to be given.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine; the unit or the tier is none of the three.
    """

    name: ClassVar[str] = "kraken"
    title: ClassVar[str] = "Kraken"
    nonces: ClassVar[tuple[str, ...]] = ("spot",)
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "spot": Abilities(
            symbols=spot.SYMBOLS,
            whole_account="one call",
            one_symbol="a call per batch of ids",
            ack="count",
            switch="account",
            switch_seconds=(1, 86_399),  # "< 86400" (Cancel All Orders After X)
        ),
        "futures": Abilities(
            symbols=futures.SYMBOLS,
            whole_account="one call",
            one_symbol="one call",
            ack="orders",
            switch="account",
            switch_seconds=(1, 2**32 - 1),  # "uint32" (Dead man's switch)
        ),
    }

    spot_url: str = "https://api.kraken.com"
    futures_url: str = "https://futures.kraken.com"
    nonce_unit: Literal["ms", "us", "ns"] = "ms"

    tier: Literal["starter", "intermediate", "pro"] = "starter"
    found: Found = Found()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, words in (("nonce_unit", _NONCES_PER_SECOND), ("tier", spot.TIERS)):
            if getattr(self, name) not in tuple(words):
                raise ConfigurationError(f"{name} must be one of: {', '.join(words)}")

    def __repr__(self) -> str:
        return f"Kraken({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        settings = [name for name in self.__struct_fields__ if name != "found"]
        return [(name, getattr(self, name)) for name in settings]

    def ready(self) -> bool:
        """Whether names have been looked up; what could not be had is no reason to try again."""
        return self.found.asked

    def prepare(self, categories: Sequence[str]) -> Flow[Self]:
        """Look up the names of pairs and contracts, as far as they can be had soon."""
        sides = [self._side(category) for category in categories]
        parts: list[Call[Any] | Flow[Any]] = [
            side.find_pairs(_PATIENCE)
            if isinstance(side, spot.Spot)
            else side.list_contracts(_PATIENCE)
            for side in sides
        ]
        if not parts:
            return self
        found = {
            "pairs" if isinstance(side, spot.Spot) else "contracts": names
            for side, names in zip(sides, (yield parts), strict=True)
            if not isinstance(names, MassCancelError)
        }
        return msgspec.structs.replace(self, found=Found(asked=True, **found))

    def origin(self, account_category: str) -> str:
        """Each category has a host of its own."""
        return self._side(account_category).origin

    def probe(self, origin: str) -> Probe:
        """Spot has ``Time``. Futures tell the time in every reply; one ticker is the smallest.

        Public requests of futures cost nothing ("Rate limits" of the derivatives' guide).
        """
        if origin == self.spot_url:
            return Probe(
                origin=origin,
                path="/0/public/Time",
                interval=PROBE_INTERVAL,
                decode=decode_clock,
                costs=spot.PUBLIC_COST,
            )
        path = "/derivatives/api/v3/tickers/PF_XBTUSD"
        return Probe(origin=origin, path=path, decode=futures.decode_clock)

    def limits(self, origin: str) -> Sequence[Limit]:
        """Spot's go by the account's tier."""
        of_spot = spot.limits(self.tier) if origin == self.spot_url else ()
        return (*of_spot, *(futures.LIMITS if origin == self.futures_url else ()))

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """One call; on spot with a symbol, a listing and cancels by id. No id is echoed."""
        del request_id
        return (yield from self._side(scope.account_category).cancel_all(scope))

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """One listing."""
        return (yield from self._side(scope.account_category).open_orders(scope))

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """By batches of ids; futures remember an order that has ended for five seconds."""
        ids = [order.order_id for order in orders]
        return (yield from self._side(account_category).order_states(ids))

    def switch(self, scope: Scope, timeout_ms: int) -> Flow[int | None]:
        """``CancelAllOrdersAfter``; it takes whole seconds, and covers the whole account."""
        seconds = self.check_switch(scope, timeout_ms)
        return (yield from self._side(scope.account_category).switch(seconds))

    def key_info(self, categories: Sequence[str]) -> Flow[KeyInfo]:
        """``GetApiKeyInfo`` on spot, ``api-keys/v3/check`` on futures, whose keys are apart."""
        sides = [self._side(category).key_info() for category in categories]
        infos: list[KeyInfo] = every((yield sides))
        return msgspec.structs.replace(
            infos[0], cancels={name: can for info in infos for name, can in info.cancels.items()}
        )

    def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
        """``CancelOrder`` on spot, ``cancelorder`` on futures."""
        return (yield from self._side(account_category).try_cancel(token))

    def _side(self, account_category: str) -> spot.Spot | futures.Futures:
        self.ability(account_category)
        if account_category == "spot":
            nonces = _NONCES_PER_SECOND[self.nonce_unit]
            return spot.Spot(self.spot_url, nonces, self.found.pairs)
        return futures.Futures(self.futures_url, self.found.contracts)
