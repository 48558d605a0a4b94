"""A whole venue to copy: one category, requests signed by HMAC, a cancel-all of one call.

Name the class of your copy in ``VENUES``. :class:`Venue` says what the methods promise.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from hmac import digest
from typing import Any, ClassVar, Final, Literal

import msgspec

from masscancel import errors
from masscancel.calls import LISTING, Call, Flow, Limit, Probe, Reply, Request, Scope, Slices, Stamp
from masscancel.credentials import Credentials
from masscancel.models import Ack, OpenOrder
from masscancel.venues import toolkit
from masscancel.venues.base import Abilities, Symbols, Venue

#: What each documented code means; one that is missing here is never taken for success.
_KINDS: Final[Mapping[str, type[errors.VenueError]]] = {
    "BAD_KEY": errors.AuthenticationError,
    "BAD_TIME": errors.StampRefused,
    "NO_SYMBOL": errors.InvalidRequest,
    "TOO_FAST": errors.RateLimited,
    "BUSY": errors.VenueUnavailable,
}


class Template(Venue, frozen=True, kw_only=True):
    """The exchange, with its settings."""

    name: ClassVar[str] = "template"
    title: ClassVar[str] = "Template"
    abilities: ClassVar[Mapping[str, Abilities]] = {
        "spot": Abilities(
            symbols=Symbols(re.compile(r"[A-Z0-9]{2,16}-[A-Z0-9]{2,16}"), "BTC-USD"),
            whole_account="one call",
            one_symbol="one call",
            ack="orders",
        )
    }
    rest_url: str

    def origin(self, account_category: str) -> str:
        """One origin serves all."""
        self.ability(account_category)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /time``."""
        return Probe(
            origin=origin,
            path="/time",
            decode=lambda reply: toolkit.decode_json(_TIME, reply, _result(reply, 0)),
            costs={"requests": 1},
        )

    def limits(self, origin: str) -> Sequence[Limit]:
        """600 requests a minute from one address."""
        del origin
        return (Limit(name="requests", amount=600, seconds=60.0),)

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """``DELETE /orders``, of all symbols or of one. The venue repeats no ids."""
        del request_id
        call: Call[Ack] = self._call("DELETE", scope, partial(_ack, scope=scope))
        return (yield from toolkit.ask(call))

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """``GET /orders``: one listing, not paged."""
        call: Call[list[OpenOrder]] = self._call("GET", scope, _orders)
        return (yield from toolkit.ask(call))

    def _call(self, method: str, scope: Scope, decode: Any) -> Call[Any]:
        return Call(
            method=method,
            origin=self.rest_url,
            path="/orders" if scope.symbol is None else f"/orders?symbol={scope.symbol}",
            sign=_sign,
            decode=decode,
            cancels=method == "DELETE",
            max_reply=LISTING,
            costs={"requests": 1},
        )


def _sign(call: Call[Any], credentials: Credentials, stamp: Stamp) -> Request:
    """Sign time, method and path: HMAC-SHA256 in hex. What is older than 5 s is refused."""
    text = f"{stamp.time_ms}{call.method}{call.path}".encode()
    signature = digest(credentials.api_secret.encode(), text, "sha256").hex()
    headers = {"X-Key": credentials.api_key, "X-Time": str(stamp.time_ms), "X-Sign": signature}
    return Request(call.method, call.path, headers, b"", stamp.time_ms + 5_000)


class _Envelope(msgspec.Struct):  # what every reply has
    ok: bool
    code: str = ""
    result: msgspec.Raw = msgspec.Raw()

    def refusal(self) -> toolkit.Refusal | None:
        refusal = toolkit.Refusal(kind=_KINDS.get(self.code), code=self.code or None)
        return None if self.ok else refusal


class _Row(msgspec.Struct):  # as it is documented; what only people look at has a default
    id: str
    symbol: str
    side: Literal["buy", "sell"]
    price: str | None
    quantity: str
    filled: str
    type: str = ""

    def convert(self) -> OpenOrder:
        return OpenOrder(
            order_id=toolkit.readable(self.id),
            symbol=toolkit.readable(self.symbol),
            side=self.side,
            price=toolkit.decimal(self.price),
            quantity=toolkit.decimal(self.quantity),
            filled_quantity=toolkit.decimal(self.filled),
            order_type=self.type,
            status="open",
            book="stop" if self.type == "stop" else "ordinary",
        )


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_IDS: Final = msgspec.json.Decoder(tuple[str, ...])
_TIME: Final = msgspec.json.Decoder(int)
_ROWS: Final = toolkit.RowDecoder(_Row, msgspec.Raw, convert=_Row.convert)


def _result(reply: Reply, now_ms: int) -> msgspec.Raw:
    return toolkit.open_envelope(_ENVELOPE, reply, now_ms, _Envelope.refusal).result


def _ack(reply: Reply, stamp: Stamp, *, scope: Scope) -> Ack:
    ids = toolkit.decode_json(_IDS, reply, _result(reply, stamp.time_ms))
    category, symbol = scope.account_category, scope.symbol or ""
    return Ack(account_category=category, symbol=symbol, cancelled=ids, raw=reply.body)


def _orders(reply: Reply, stamp: Stamp) -> Slices[list[OpenOrder]]:
    """Read a listing; the event loop has a turn between two pieces of a large one."""
    toolkit.check_fresh(reply, stamp)
    return toolkit.whole((yield from _ROWS.decode(reply, _result(reply, stamp.time_ms))))
