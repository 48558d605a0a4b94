"""The venues, by name, each loaded only when it is asked for.

A further venue is one file in this package and one line in ``VENUES``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from masscancel.errors import ConfigurationError

if TYPE_CHECKING:  # for what ``__getattr__`` loads
    from masscancel.venues.ascendex import AscendEX as AscendEX
    from masscancel.venues.base import Venue
    from masscancel.venues.binance import Binance as Binance
    from masscancel.venues.bitget import Bitget as Bitget
    from masscancel.venues.bybit import Bybit as Bybit
    from masscancel.venues.gate import Gate as Gate
    from masscancel.venues.kraken import Kraken as Kraken
    from masscancel.venues.kucoin import KuCoin as KuCoin
    from masscancel.venues.okx import OKX as OKX

#: Name on the command line: module and class.
VENUES: Final = {
    "binance": ("masscancel.venues.binance", "Binance"),
    "bitget": ("masscancel.venues.bitget", "Bitget"),
    "bybit": ("masscancel.venues.bybit", "Bybit"),
    "gate": ("masscancel.venues.gate", "Gate"),
    "kraken": ("masscancel.venues.kraken", "Kraken"),
    "kucoin": ("masscancel.venues.kucoin", "KuCoin"),
    "okx": ("masscancel.venues.okx", "OKX"),
    "ascendex": ("masscancel.venues.ascendex", "AscendEX"),  # closed
}


def load(name: str) -> "type[Venue]":
    """The class of the venue with that name.

    Raises:
        ConfigurationError: there is none; the message lists those there are.
    """
    try:
        module, attribute = VENUES[name]
    except KeyError:
        known = ", ".join(sorted(VENUES))
    else:
        venue: type[Venue] = getattr(import_module(module), attribute)
        return venue
    raise ConfigurationError(f"no venue {name!r}; there are: {known}")


def __getattr__(name: str) -> Any:
    for module, attribute in VENUES.values():
        if attribute == name:
            return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(attribute for _, attribute in VENUES.values())})
