"""The meanings of Bitget's codes, which classic and unified accounts share.

Sources: "REST API Error Code" of spot, futures, margin and UTA; "Request Interaction"; question 14
of the FAQ for what is answered while a release goes on. What is not here is a plain ``VenueError``.
"""

from collections.abc import Mapping
from typing import Final

from masscancel.errors import (
    AuthenticationError,
    InvalidRequest,
    MassCancelError,
    PermissionDenied,
    RateLimited,
    StampRefused,
    VenueError,
    VenueUnavailable,
)

__all__ = [
    "DONE",
    "FOREIGN_ADDRESS",
    "GONE",
    "KINDS",
    "NOTHING",
    "WRONG_MODE",
    "is_gone",
    "is_wrong_mode",
]

#: The code of success; of an order in a batch it is shorter, empty or missing.
DONE: Final = "00000"
#: "No order to cancel".
NOTHING: Final = frozenset({"22001", "31054"})
#: An order that does not exist, not any more.
GONE: Final = frozenset(
    {"43001", "43025", "40768", "40109", "31007", "25204", "24056", "25597", *NOTHING}
)
#: The same in the sentences of failures that have no code, as the documents' samples spell them.
_GONE_TEXTS: Final = frozenset(
    {
        "notexisted",
        "notexistend",
        "order does not exist",
        "the order does not exist",
        "plan order does not exist",
        "no order to cancel",
        "order cancelled",
    }
)
#: "Invalid IP", "The current ip is not in the apikey ip whitelist".
FOREIGN_ADDRESS: Final = frozenset[int | str]({"40018", "40038"})
#: The account is of the other kind: unified where classic was spoken, or the other way round.
WRONG_MODE: Final = frozenset({"40085", "25245"})

_BY_KIND: Final[Mapping[type[VenueError], str]] = {
    AuthenticationError: "40001 40002 40003 40006 40009 40011 40012 40036 40037 40041",
    # Of the key, its addresses, the account, the region.
    PermissionDenied: (
        "40013 40014 40016 40018 40022 40023 40024 40025 40026 40031 40035 40038 40040 40061 40068 "
        "40081 40085 40100 40101 40103 40104 22004 25002 25005 25006 25007 25008 25012 25013 25245 "
        "25620 95001"
    ),
    StampRefused: "40004 40005 40008 40078 40911",
    RateLimited: "429 25004 30014",
    InvalidRequest: (
        "40007 40017 40019 40020 40034 40053 40057 40058 40059 40064 40072 40079 40102 40306 40402 "
        "40404 40812 400172 25100 25101 25104 25200 31019"
    ),
    # Timeouts, of which it is not known what became; failures; what another cancel is in the way
    # of; and what the FAQ says to try again (40808 among them).
    VenueUnavailable: (
        "40010 40910 25001 40015 40200 40400 40725 40808 45001 25000 25102 25106 25003 25113 25114"
    ),
}
KINDS: Final[Mapping[str, type[VenueError]]] = {
    code: kind for kind, codes in _BY_KIND.items() for code in codes.split()
}


def is_wrong_mode(error: object) -> bool:
    """Whether an error says that the account is of the other kind."""
    return isinstance(error, VenueError) and error.code in WRONG_MODE


def is_gone(error: MassCancelError) -> bool:
    """Whether what was to be cancelled is not there: by the code, or by the text without one."""
    if not isinstance(error, VenueError):
        return False
    if error.code is not None:
        return error.code in GONE
    return error.message.strip().rstrip(".").lower() in _GONE_TEXTS
