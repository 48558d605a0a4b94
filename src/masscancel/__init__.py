"""Cancel every open order, at once: an asyncio client SDK for the kill switch of a strategy."""

from masscancel.beat import beat
from masscancel.client import Client
from masscancel.credentials import Credentials
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
from masscancel.fanout import cancel_as_completed, cancel_many
from masscancel.gate import OrderGate
from masscancel.guard import cancel_on_exit
from masscancel.models import (
    Ack,
    Attempt,
    Confirmation,
    FanOutReport,
    Gap,
    OpenOrder,
    OrderUpdate,
    Outcome,
    Target,
)
from masscancel.retry import RetryPolicy
from masscancel.session import SessionPool
from masscancel.switch import DeadMansSwitch
from masscancel.venues.ascendex import AscendEX

__all__ = [
    "Ack",
    "AscendEX",
    "Attempt",
    "AuthenticationError",
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
]
