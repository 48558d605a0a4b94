"""The simulated exchange: a pure engine, venues' dialects over it, an aiohttp server, and faults.

It stands in for the venue in the demo and in the tests, and shares no code with the client:
signatures are checked by code of its own. `SimulatedExchange` is where to start.
"""

from __future__ import annotations

from masscancel.sim.ascendex import AscendEXDialect
from masscancel.sim.binance import BinanceDialect
from masscancel.sim.bitget import BitgetDialect
from masscancel.sim.bybit import BybitDialect
from masscancel.sim.dialect import Dialect, Moment, Reply, Request, Route, Session, StreamRoute
from masscancel.sim.engine import Engine
from masscancel.sim.faults import (
    Action,
    Answer,
    Delay,
    Disconnected,
    Drop,
    DuplicateAck,
    DuplicateReply,
    EffectDelay,
    Fault,
    FaultPlan,
    ForeignId,
    GzipBomb,
    Hang,
    Hold,
    HugeBody,
    Ignore,
    LateAck,
    Redirect,
    Skew,
    Trickle,
    Truncate,
    TwoContentLengths,
    Unsolicited,
    WithoutId,
)
from masscancel.sim.gate import GateDialect
from masscancel.sim.kraken import KrakenDialect
from masscancel.sim.kucoin import KuCoinDialect
from masscancel.sim.limits import BinanceLimits, KrakenLimits, Limiter, Refusal
from masscancel.sim.okx import OKXDialect
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
from masscancel.sim.records import Received
from masscancel.sim.server import SimulatedExchange

__all__ = [
    "HELD",
    "Account",
    "Action",
    "Answer",
    "AscendEXDialect",
    "BinanceDialect",
    "BinanceLimits",
    "BitgetDialect",
    "BybitDialect",
    "CancelAll",
    "Delay",
    "Dialect",
    "Disconnected",
    "Drop",
    "DuplicateAck",
    "DuplicateReply",
    "EffectDelay",
    "Engine",
    "Fault",
    "FaultPlan",
    "ForeignId",
    "GateDialect",
    "GzipBomb",
    "Hang",
    "Hold",
    "HugeBody",
    "Ignore",
    "KrakenDialect",
    "KrakenLimits",
    "KuCoinDialect",
    "LateAck",
    "Limiter",
    "LogRecord",
    "Moment",
    "OKXDialect",
    "OnCancel",
    "Order",
    "Received",
    "Redirect",
    "Refusal",
    "Reply",
    "Request",
    "Route",
    "Script",
    "Session",
    "SimulatedExchange",
    "Skew",
    "Status",
    "StreamRoute",
    "Trickle",
    "Truncate",
    "TwoContentLengths",
    "Unsolicited",
    "What",
    "WithoutId",
]
