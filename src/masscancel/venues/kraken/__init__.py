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
from typing import ClassVar, Final, Literal

from msgspec.structs import force_setattr

from masscancel.errors import ConfigurationError, ScopeError
from masscancel.models import Ack, OpenOrder, OrderState, OrderUpdate
from masscancel.venue import Abilities, Flow, Probe, ReadyVenue, StreamDialect, check_origin
from masscancel.venues.kraken import futures, spot
from masscancel.venues.kraken.spot_replies import decode_clock

__all__ = ["Kraken"]

#: How often spot's clock is read, in seconds. "Calling the public endpoints at a frequency of 1 per
#: second (or less) would remain within the rate limits", by address (support page "What are the API
#: rate limits?"): three every 15 s are a quarter of it at most, and leave room for look-ups.
PROBE_INTERVAL: Final = 15.0

_NONCES_PER_SECOND: Final = {"ms": 10**3, "us": 10**6, "ns": 10**9}


class Kraken(ReadyVenue, frozen=True, kw_only=True):
    """Kraken: where it is, and how the key's nonces grow.

    A key serves one of the two categories, ``spot`` or ``futures``; only the host of the category
    in use is spoken to.

    A spot pair may be spelled as in the listing of orders (``XBTUSD``), as on the websocket
    (``XBT/USD``) or as the key of the list of pairs (``XXBTZUSD``), and as nothing else: Kraken
    understands ``BTC/USD``, but does not list it. The first is the quickest. The others have to be
    looked up by a public request, and those Kraken limits by address.

    Every private request of spot carries a nonce that must be greater than any that Kraken has
    accepted for the key, and a key's nonces can never be set back. So **the unit sticks to the
    key**: one nonce in ns locks every program that counts in ms out of the key for good. Use a key
    for this alone; where it is shared, choose what the others use (ccxt: ``"ms"``, kraken-cli:
    ``"ns"``), and expect refusals, since each process only orders its own.

    Args:
        spot_url: the origin of spot.
        futures_url: the origin of futures.
        nonce_unit: what the key's nonces count: ``"ms"``, ``"us"`` or ``"ns"`` since the epoch.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine; the unit is none of the three.
    """

    name: ClassVar[str] = "kraken"
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "spot": Abilities(
            whole_account="one call",
            one_symbol="a call per batch of ids",
            ack="count",
            echoes_id=False,
            stop_orders=True,
            stream=False,
            switch="account",
        ),
        "futures": Abilities(
            whole_account="one call",
            one_symbol="one call",
            ack="orders",
            echoes_id=False,
            stop_orders=True,
            stream=False,
            switch="account",
        ),
    }

    spot_url: str = "https://api.kraken.com"
    futures_url: str = "https://futures.kraken.com"
    nonce_unit: Literal["ms", "us", "ns"] = "ms"

    def __post_init__(self) -> None:
        for name in ("spot_url", "futures_url"):
            force_setattr(self, name, check_origin(getattr(self, name), name=name, scheme="http"))
        if self.nonce_unit not in tuple(_NONCES_PER_SECOND):
            raise ConfigurationError("nonce_unit must be one of: ms, us, ns")

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
            )
        path = "/derivatives/api/v3/tickers/PF_XBTUSD"
        return Probe(origin=origin, path=path, decode=futures.decode_clock)

    def cancel_all(
        self, account_category: str, symbol: str | None, request_id: str | None
    ) -> Flow[Ack]:
        """One call; on spot with a symbol, a listing and cancels by id. No id is echoed."""
        del request_id
        return (yield from self._side(account_category).cancel_all(symbol))

    def open_orders(self, account_category: str, symbol: str | None) -> Flow[list[OpenOrder]]:
        """One listing."""
        return (yield from self._side(account_category).open_orders(symbol))

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """By batches of ids; futures remember an order that has ended for five seconds."""
        ids = [order.order_id for order in orders]
        return (yield from self._side(account_category).order_states(ids))

    def stream(self, account_category: str) -> StreamDialect | None:
        """Order updates can't be followed here."""
        self._side(account_category)
        return None

    def switch(
        self, account_category: str, symbol: str | None, timeout_ms: int
    ) -> Flow[int | None]:
        """``CancelAllOrdersAfter``; it takes whole seconds, and covers the whole account."""
        side = self._side(account_category)
        if symbol is not None:
            raise ScopeError("Kraken's dead man's switch covers the whole account, not a symbol")
        return (yield from side.switch(timeout_ms))

    def _side(self, account_category: str) -> spot.Spot | futures.Futures:
        if account_category == "spot":
            return spot.Spot(self.spot_url, _NONCES_PER_SECOND[self.nonce_unit])
        if account_category == "futures":
            return futures.Futures(self.futures_url)
        raise ScopeError(
            f"no account category {account_category!r} on Kraken; there are: "
            + ", ".join(self.abilities)
        )
