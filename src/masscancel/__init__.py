"""Cancel every open order, at once: an asyncio client SDK for the kill switch of a strategy."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from masscancel.client import Client
from masscancel.credentials import Credentials
from masscancel.engine.gate import OrderGate
from masscancel.engine.proof import ProofPolicy
from masscancel.engine.retry import RetryPolicy
from masscancel.errors import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    Halted,
    InvalidRequest,
    MassCancelError,
    NotFlat,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    TransportError,
    Unproven,
    VenueError,
    VenueUnavailable,
)
from masscancel.events import killing, subscribe
from masscancel.fanout import (
    Cancellable,
    FanOutReport,
    Outcome,
    Target,
    cancel_as_completed,
    cancel_many,
)
from masscancel.models import Ack, Attempt, Confirmation, Gap, OpenOrder, OrderUpdate
from masscancel.protection.dead_man import DeadMansSwitch
from masscancel.protection.heartbeat import beat
from masscancel.protection.on_exit import cancel_on_exit
from masscancel.transport.pool import SessionPool

if TYPE_CHECKING:  # for what ``__getattr__`` loads
    from masscancel.accounts import Accounts as Accounts
    from masscancel.venues.ascendex import AscendEX as AscendEX

__all__ = [
    "Accounts",
    "Ack",
    "AscendEX",
    "Attempt",
    "AuthenticationError",
    "Cancellable",
    "Client",
    "ConfigurationError",
    "Confirmation",
    "Credentials",
    "DeadMansSwitch",
    "DeadlineExceeded",
    "FanOutReport",
    "Gap",
    "Halted",
    "InvalidRequest",
    "MassCancelError",
    "NotFlat",
    "NotSent",
    "OpenOrder",
    "OrderGate",
    "OrderUpdate",
    "Outcome",
    "OutcomeUnknown",
    "PermissionDenied",
    "ProofPolicy",
    "ProtocolError",
    "RateLimited",
    "RetryPolicy",
    "ScopeError",
    "SessionPool",
    "Target",
    "TransportError",
    "Unproven",
    "VenueError",
    "VenueUnavailable",
    "beat",
    "cancel_as_completed",
    "cancel_many",
    "cancel_on_exit",
    "killing",
    "subscribe",
]

#: What few programs need is loaded when it is wanted.
_ON_DEMAND: Final = {"Accounts": "masscancel.accounts", "AscendEX": "masscancel.venues.ascendex"}


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return getattr(import_module(_ON_DEMAND[name]), name)
    if name == "__version__":
        metadata = import_module("importlib.metadata")
        try:
            return metadata.version("masscancel")
        except metadata.PackageNotFoundError:  # a source tree that was never installed
            return "0"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
