"""The simulated exchange: a pure engine, venues' dialects over it, an aiohttp server, and faults.

It stands in for the venue in the demo and in the tests, and shares no code with the client:
signatures are checked by code of its own. `SimulatedExchange` is where to start.
"""

from __future__ import annotations

from masscancel.sim.ascendex import AscendEXDialect
from masscancel.sim.dialect import Dialect, Reply, Request, Route, StreamRoute
from masscancel.sim.engine import Engine
from masscancel.sim.faults import (
    Answer,
    Delay,
    Drop,
    DuplicateReply,
    EffectDelay,
    Fault,
    FaultPlan,
    GzipBomb,
    Hang,
    Hold,
    HugeBody,
    Redirect,
    Skew,
    Trickle,
    Truncate,
    TwoContentLengths,
    Unsolicited,
)
from masscancel.sim.orders import (
    HELD,
    Account,
    CancelAll,
    LogRecord,
    OnCancel,
    Order,
    Script,
    Status,
    What,
)
from masscancel.sim.server import Received, SimulatedExchange

__all__ = [
    "HELD",
    "Account",
    "Answer",
    "AscendEXDialect",
    "CancelAll",
    "Delay",
    "Dialect",
    "Drop",
    "DuplicateReply",
    "EffectDelay",
    "Engine",
    "Fault",
    "FaultPlan",
    "GzipBomb",
    "Hang",
    "Hold",
    "HugeBody",
    "LogRecord",
    "OnCancel",
    "Order",
    "Received",
    "Redirect",
    "Reply",
    "Request",
    "Route",
    "Script",
    "SimulatedExchange",
    "Skew",
    "Status",
    "StreamRoute",
    "Trickle",
    "Truncate",
    "TwoContentLengths",
    "Unsolicited",
    "What",
]
