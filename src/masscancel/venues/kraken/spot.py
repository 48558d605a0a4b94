"""Kraken's spot side: the flows over ``/0/private`` and ``/0/public``, and their signature."""

import re
from collections.abc import Container, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from masscancel.credentials import Credentials
from masscancel.errors import MassCancelError, ScopeError
from masscancel.models import Ack, OpenOrder, OrderState
from masscancel.venue import LISTING, Call, Flow, Request, Stamp, ask, every, one
from masscancel.venues.kraken.spot_replies import (
    Cancelled,
    Listing,
    decode_cancelled,
    decode_listing,
    decode_pairs,
    decode_states,
    decode_switch,
    open_order,
)
from masscancel.venues.kraken.wire import batches_of, mac, merged, unsigned, whole_seconds

_MAX_TIMEOUT_S: Final = 86_399  # "< 86400" (Cancel All Orders After X)
_SYMBOL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}(/[A-Za-z0-9][A-Za-z0-9._-]{0,31})?")
#: An order in a cancel by id that is not open any more, or on its way out.
_GONE: Final = ("EOrder:Unknown order", "EOrder:Cancel pending")


class Spot(msgspec.Struct, frozen=True):
    """The flows of one origin; nonces grow by so many a second."""

    origin: str
    nonces_per_second: int

    def cancel_all(self, symbol: str | None) -> Flow[Ack]:
        """``CancelAll``, or for one pair, its open orders by id: ``CancelAll`` takes no pair."""
        if symbol is None:
            call = self._private("CancelAll", decode_cancelled, acts=True)
            return _ack([(yield from ask(call))], "")
        listing = yield from self._listing_of(check_symbol(symbol))
        if not listing.rows:
            return Ack(
                account_category="spot", symbol=symbol, status="nothing open", raw=listing.raw
            )
        return _ack((yield from self._cancel_by_id([*listing.rows])), symbol)

    def open_orders(self, symbol: str | None) -> Flow[list[OpenOrder]]:
        """``OpenOrders``: one listing, not paged, of all pairs; one pair is picked here."""
        if symbol is None:
            listing = yield from ask(self._open_orders())
        else:
            listing = yield from self._listing_of(check_symbol(symbol))
        return [open_order(order_id, row) for order_id, row in listing.rows.items()]

    def order_states(self, ids: Sequence[str]) -> Flow[Mapping[str, OrderState]]:
        """``QueryOrders``, by batches of ids."""
        calls = [
            self._private(
                "QueryOrders", decode_states, {"txid": ",".join(batch)}, max_reply=LISTING
            )
            for batch in batches_of(ids)
        ]
        return merged((yield calls))

    def switch(self, timeout_ms: int) -> Flow[int | None]:
        """``CancelAllOrdersAfter``: all of the account's orders."""
        seconds = whole_seconds(timeout_ms, _MAX_TIMEOUT_S)
        call: Call[int | None] = self._private(
            "CancelAllOrdersAfter",
            partial(decode_switch, timeout_ms=timeout_ms),
            {"timeout": seconds},
            acts=seconds > 0,  # one that arrives late can arm it again
        )
        return (yield from ask(call))

    def _listing_of(self, symbol: str) -> Flow[Listing]:
        """The open orders of one pair, which may be spelled in any of its three ways.

        Orders are listed by the pair's ``altname``. Asked by that, the listing is enough. Only
        another spelling, and one of which nothing is open, has to be looked up: beside the
        listing where a ``/`` tells that it is a ``wsname``.
        """
        calls: list[Call[Any]] = [self._open_orders()]
        if "/" in symbol:
            calls.append(self._pairs(symbol))
        results = yield calls
        listing: Listing = one(results[:1])
        if literal := listing.of({symbol}):
            return literal
        names = one(results[1:] or (yield [self._pairs(symbol)]))
        if not names:
            names = yield from ask(self._pairs(symbol, "&aclass_base=tokenized_asset"))
        for spellings in names:
            if symbol in spellings:
                return listing.of(spellings) or Listing({}, listing.raw)
        resolved = f"; it takes it for {' or '.join(sorted(names[0]))}" if len(names) == 1 else ""
        raise ScopeError(f"Kraken lists no pair by the name of {symbol!r}{resolved}")

    def _cancel_by_id(self, ids: Sequence[str]) -> Flow[list[Cancelled]]:
        """Cancel in batches, in flight together.

        It is not documented what becomes of a batch in which one order is gone. One that is
        refused as a whole is sent again without what another listing does not show any more; where
        that shows them all, or can't be had, in halves. So it ends when what is gone stands alone.
        """
        batches = batches_of(ids)
        answers: list[Cancelled | MassCancelError] = []
        while batches:
            results = yield [self._cancel(batch) for batch in batches]
            answers += results
            refused = [
                batch
                for batch, result in zip(batches, results, strict=True)
                if isinstance(result, Cancelled) and result.refused and len(batch) > 1
            ]
            if not refused:
                break
            (listing,) = yield [self._open_orders()]
            live = listing.rows if isinstance(listing, Listing) else set(ids)
            batches = [part for batch in refused for part in _without_stale(batch, live)]
        return every(answers)

    def _cancel(self, ids: Sequence[str]) -> Call[Cancelled]:
        decode = partial(decode_cancelled, tolerated=_GONE)
        if len(ids) == 1:  # the websocket's twin of the batch wants two at least
            return self._private("CancelOrder", decode, {"txid": ids[0]}, acts=True)
        return self._private("CancelOrderBatch", decode, {"orders": ids}, as_json=True, acts=True)

    def _open_orders(self) -> Call[Listing]:
        return self._private("OpenOrders", decode_listing, max_reply=LISTING)

    def _private(
        self,
        what: str,
        decode: Any,
        fields: Mapping[str, Any] | None = None,
        *,
        as_json: bool = False,
        acts: bool = False,
        **more: Any,
    ) -> Call[Any]:
        return Call(
            method="POST",
            origin=self.origin,
            path=f"/0/private/{what}",
            sign=partial(sign, fields=fields or {}, as_json=as_json),
            decode=decode,
            acts=acts,
            nonces_per_second=self.nonces_per_second,
            **more,
        )

    def _pairs(self, symbol: str, more: str = "") -> Call[list[set[str]]]:
        return Call(
            method="GET",
            origin=self.origin,
            path=f"/0/public/AssetPairs?pair={quote(symbol, safe='')}{more}",
            sign=unsigned,
            decode=decode_pairs,
            acts=False,
            max_reply=LISTING,
        )


def signature(secret: str, path: str, nonce: str, body: bytes) -> str:
    """``API-Sign``: over the path and the SHA-256 of the nonce and the body, as it is sent."""
    return mac(secret, path.encode() + sha256(nonce.encode() + body).digest())


def sign(
    call: Call[Any],
    credentials: Credentials,
    stamp: Stamp,
    *,
    fields: Mapping[str, Any],
    as_json: bool,
) -> Request:
    """Put the nonce before the fields, and sign. A nonce never expires by time."""
    nonce = str(stamp.nonce)
    fields = {"nonce": nonce, **fields}
    body = msgspec.json.encode(fields) if as_json else urlencode(fields).encode()
    headers = {
        "API-Key": credentials.api_key,
        "API-Sign": signature(credentials.api_secret, call.path, nonce, body),
        "Content-Type": "application/json" if as_json else "application/x-www-form-urlencoded",
    }
    return Request(call.method, call.path, headers, body)


def check_symbol(symbol: object) -> str:
    """Refuse what can't be a pair, before it gets near a URL.

    Raises:
        ScopeError: it can't be one.
    """
    if isinstance(symbol, str) and _SYMBOL.fullmatch(symbol):
        return symbol
    raise ScopeError(
        f"{symbol!r} is not a spot pair of Kraken, which look like XBT/USD or XBTUSD; "
        "None means all"
    )


def _without_stale(batch: Sequence[str], live: Container[str]) -> list[Sequence[str]]:
    """A batch that was refused, without what is not live; in halves if that is nothing."""
    left = [order_id for order_id in batch if order_id in live]
    if len(left) < len(batch):
        return [left] if left else []
    half = len(batch) // 2
    return [batch[:half], batch[half:]]


def _ack(answers: Sequence[Cancelled], symbol: str) -> Ack:
    status = f"count {sum(answer.count for answer in answers)}"
    if any(answer.pending for answer in answers):
        status += ", pending"
    return Ack(
        account_category="spot",
        symbol=symbol,
        status=status,
        raw=b"\n".join(answer.raw for answer in answers),
    )
