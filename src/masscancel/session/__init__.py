"""The session pool: warm connections, clocks and nonces, and what each failure of aiohttp means.

This is the only place where REST meets the network. What stands behind each setting was measured:

- aiohttp resends an idempotent request once after a disconnect, with the old signature. We own the
  retries, so aiohttp is done with a request once it is written, and never learns of a disconnect.
- Bytes that arrive on an idle connection would be taken for the next request's response. An idle
  connection is watched, and closed when it receives anything.
- Nobody queues behind a connection limit: the connector has none. ``connections`` bounds, with a
  lane of ours, what is not a directly awaited cancel.
- Verification of certificates can't be switched off.
"""

from masscancel.session.clock import NONCES, Clock, Nonces, Turn, Turns
from masscancel.session.connections import NoneOpen, Sending, Wants
from masscancel.session.failures import MEANING, translate
from masscancel.session.pool import SessionPool, Written

__all__ = [
    "MEANING",
    "NONCES",
    "Clock",
    "Nonces",
    "NoneOpen",
    "Sending",
    "SessionPool",
    "Turn",
    "Turns",
    "Wants",
    "Written",
    "translate",
]
