"""One account at one venue, as the engine sees it: its keys, its limits, and where it sends."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from masscancel.calls import Limit, Reply
from masscancel.credentials import Credentials
from masscancel.engine.retry import RetryPolicy
from masscancel.engine.streams import Streams
from masscancel.transport.ledger import LEDGER
from masscancel.transport.limiter import Limiter
from masscancel.transport.pool import SessionPool
from masscancel.venues.base import Venue

__all__ = ["Account"]


class Account:
    """The things that all calls of one account share.

    Args:
        credentials: what to sign with.
        venue: which exchange.
        pool: where to send.
        streams: where to write what goes on a stream.
        policy: how persistent to be.
        rates: amounts in place of the venue's documented limits, by their names.
    """

    def __init__(
        self,
        credentials: Credentials,
        venue: Venue,
        pool: SessionPool,
        streams: Streams,
        policy: RetryPolicy,
        rates: Mapping[str, float],
    ) -> None:
        self.credentials = credentials
        self.venue = venue
        self.pool = pool
        self.streams = streams
        self.policy = policy
        self._rates = rates
        self._limits: dict[str, Sequence[Limit]] = {}
        #: Where what does not cancel waits for a place, by origin.
        self._places: dict[str, Limiter] = {}

    def limits(self, origin: str) -> Sequence[Limit]:
        """The limits of an origin: as documented, or as the account states."""
        limits = self._limits.get(origin)
        if limits is None:
            limits = self._limits[origin] = [
                replace(limit, amount=self._rates.get(limit.name, limit.amount))
                for limit in self.venue.limits(origin)
            ]
        return limits

    def note_spent(self, origin: str, reply: Reply) -> None:
        """Go by what the venue says, in a reply, has been spent of its limits."""
        if spent := self.venue.spent(origin, reply):
            LEDGER.note_spent(origin, self.credentials.api_key, spent, self.limits(origin))

    def keep_warm(self, origin: str) -> None:
        """Keep connections to an origin warm from now on."""
        self.pool.keep_warm(self.venue.probe(origin), self.limits(origin))

    def places(self, origin: str) -> Limiter:
        """The places of this account's requests to an origin that do not cancel."""
        limiter = self._places.get(origin)
        if limiter is None:
            limiter = self._places[origin] = Limiter(self.pool.connections)
        return limiter
