"""Kraken's spot side: the flows over ``/0/private`` and ``/0/public``, and their signature."""

import re
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from masscancel.calls import LISTING, Call, Flow, Limit, Request, Scope, Stamp
from masscancel.credentials import Credentials
from masscancel.errors import (
    InvalidRequest,
    MassCancelError,
    ProtocolError,
    ScopeError,
    VenueError,
    one_line,
)
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, Permission
from masscancel.venues.base import Symbols
from masscancel.venues.kraken.spot_replies import (
    Cancelled,
    Listing,
    Pair,
    decode_cancelled,
    decode_key,
    decode_listing,
    decode_open_orders,
    decode_pairs,
    decode_states,
    decode_sure_listing,
    decode_switch,
    decode_tried,
    index,
)
from masscancel.venues.kraken.wire import BATCH, mac
from masscancel.venues.toolkit import ask, batches, every, merged, one, unsigned

SYMBOLS: Final = Symbols(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}(/[A-Za-z0-9][A-Za-z0-9._-]{0,31})?"),
    "XBT/USD or XBTUSD",
)

#: How much the counter of a key may hold, and how fast it falls a second, by the account's tier
#: ("Spot REST Rate Limits").
TIERS: Final = {"starter": (15, 0.33), "intermediate": (20, 0.5), "pro": (20, 1.0)}
_COUNTER: Final = "counter"
_PUBLIC: Final = "public"
#: "All other API calls increase this counter by 1 (except AddOrder, CancelOrder which operate on a
#: different limiter": the matching engine's, which never refuses a cancel ("Spot Trading Limits").
_UNCOUNTED: Final = frozenset({"CancelOrder", "CancelOrderBatch"})
#: What a public request costs, the clock's too.
PUBLIC_COST: Final[Mapping[str, float]] = {_PUBLIC: 1}

_TOKENIZED: Final = "aclass_base=tokenized_asset"
#: An order in a cancel by id that is not open any more, or on its way out.
_GONE: Final = ("EOrder:Unknown order", "EOrder:Cancel pending")
#: The digits of a number as letters, as an order's id has them.
_LETTERS: Final = str.maketrans("0123456789", "GHIJKLMNOP")
#: What pairs are quoted in. None ends with another, so that no two pairs quoted in these have names
#: that are equal but for the place of the slash.
_QUOTES: Final = frozenset(
    {"AUD", "CAD", "CHF", "DAI", "ETH", "EUR", "GBP", "JPY", "USD", "USDC", "USDT", "XBT"}
)

#: So many names are told of what was not acknowledged.
_NAMES: Final = 50

#: What looks like the key of a pair in Kraken's list, such as ``XXBTZUSD``: no order is listed by
#: one.
_KEY: Final = re.compile(r"[XZ][A-Z]{3}[XZ][A-Z]{3}", re.ASCII)


def limits(tier: str) -> tuple[Limit, ...]:
    """The documented rates; public requests are limited by address, private ones by key.

    "Calling the public endpoints at a frequency of 1 per second (or less) would remain within the
    rate limits" (support page "What are the API rate limits?"); three at once, in three seconds,
    leave room for the clock's readings.
    """
    amount, decay = TIERS[tier]
    return (
        Limit(name=_COUNTER, amount=amount, seconds=amount / decay, per="key", decays=True),
        Limit(name=_PUBLIC, amount=3, seconds=3.0, of_cancels=False),
    )


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one part of a cancel by id.

    Attributes:
        answers: to its cancels.
        errors: what failed.
        left: what was not acknowledged for that, for people.
        raw: the bytes of the listing, where there was one.
    """

    answers: list[Cancelled] = []
    errors: list[MassCancelError] = []
    left: list[str] = []
    raw: bytes = b""


class Spot(msgspec.Struct, frozen=True):
    """The flows of one origin.

    Attributes:
        origin: scheme, host and port.
        nonces_per_second: how fast the key's nonces grow.
        pairs: the pairs by their spellings, ``None`` if they are not known.
    """

    origin: str
    nonces_per_second: int
    pairs: Mapping[str, frozenset[str]] | None

    def cancel_all(self, scope: Scope) -> Flow[Ack]:
        """``CancelAll``, or for one pair, its open orders by id: ``CancelAll`` takes no pair."""
        symbol = scope.symbol
        if symbol is None:
            call = self._private("CancelAll", decode_cancelled, cancels=True)
            return _ack([(yield from ask(call))], "")
        part = yield from self._cancel_pair(symbol, frozenset())
        if part.errors:
            error = part.errors[0]
            error.add_note(f"not acknowledged: {_some(part.left)}")
            error.add_note(f"{len(part.errors)} parts failed; {len(part.answers)} were answered")
            raise error
        if part.answers:
            return _ack(part.answers, symbol)
        return Ack(account_category="spot", symbol=symbol, status="nothing open", raw=part.raw)

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """``OpenOrders``: one listing, not paged, of all pairs; one pair is picked here."""
        call: Call[list[OpenOrder]] = self._open_orders(decode_open_orders)
        if scope.symbol is None:
            return (yield from ask(call))
        _, orders = yield from self._of_pair(
            scope.symbol, call, lambda orders, names: [o for o in orders if o.symbol in names]
        )
        return orders

    def order_states(self, ids: Sequence[str]) -> Flow[Mapping[str, OrderState]]:
        """``QueryOrders``, by batches of ids."""
        calls = [
            self._private(
                "QueryOrders", decode_states, {"txid": ",".join(batch)}, max_reply=LISTING
            )
            for batch in batches(ids, BATCH)
        ]
        return merged(every((yield calls))) if calls else {}

    def switch(self, seconds: int) -> Flow[int | None]:
        """``CancelAllOrdersAfter``: all of the account's orders."""
        call: Call[int | None] = self._private(
            "CancelAllOrdersAfter",
            partial(decode_switch, timeout_ms=seconds * 1000),
            {"timeout": seconds},
            cancels=seconds > 0,  # one that arrives late can arm it again
        )
        return (yield from ask(call))

    def key_info(self) -> Call[KeyInfo]:
        """``GetApiKeyInfo``, for which a key needs no permission."""
        return self._private("GetApiKeyInfo", decode_key)

    def try_cancel(self, token: str) -> Flow[Permission]:
        """``CancelOrder`` of an id of an order's form: "Unknown order" to a key that may."""
        letters = token.translate(_LETTERS)[:16].upper()
        txid = f"O{letters[:5]}-{letters[5:10]}-{letters[10:]}"
        call: Call[Permission] = self._private("CancelOrder", decode_tried, {"txid": txid})
        return (yield from ask(call))

    def find_pairs(self, time_limit: float) -> Flow[Mapping[str, frozenset[str]]]:
        """Every pair by its spellings; tokenized assets have a list of their own.

        Raises:
            MassCancelError: the list of the others could not be had within so many seconds.
        """
        calls = [self._pairs(time_limit=time_limit), self._pairs(_TOKENIZED, time_limit=time_limit)]
        currencies, tokenized = yield calls
        pairs = one([currencies])
        return index([*tokenized, *pairs] if isinstance(tokenized, list) else pairs)

    def _cancel_pair(
        self, symbol: str, asked: frozenset[str], *, sure: bool = False
    ) -> Flow[_Part]:
        """List the orders, and cancel those of a pair but for what has been ``asked`` already.

        Where the listing may lack an order, what it has is cancelled, and beside that it is made
        again, until it is ``sure`` to have all.
        """
        rows: Call[Listing] = self._open_orders(decode_sure_listing if sure else decode_listing)
        listing, listed = yield from self._of_pair(symbol, rows, Listing.of)
        ids = [order_id for order_id in listed if order_id not in asked]
        flows: list[Flow[_Part]] = [self._cancel_by_id(batch) for batch in batches(ids, BATCH)]
        if listing.doubt:
            flows.append(self._cancel_pair(symbol, frozenset(ids), sure=True))
        ends: Sequence[_Part | MassCancelError] = (yield flows) if flows else []
        parts = [
            _Part(errors=[end], left=["what could not be listed"])
            if isinstance(end, MassCancelError)
            else end
            for end in ends
        ]
        if listing.lost and not listing.doubt:
            lost = f"{listing.lost} of the open orders"
            error = ProtocolError(
                f"{lost} were left alone: their pairs can't be read ({listing.problem}); those of "
                f"{symbol} that can were asked for: {len(ids)}"
            )
            parts.append(_Part(errors=[error], left=[lost]))
        return _joined(parts, listing.raw)

    def _of_pair(
        self, symbol: str, call: Call[Any], pick: Callable[[Any, frozenset[str]], list[Any]]
    ) -> Flow[tuple[Any, list[Any]]]:
        """Make a listing, and pick what is of one pair, which may be spelled in any of three ways.

        Nothing has to be looked up where the pair is known, or where something is listed by the
        very spelling, or by what it is sure to mean. Otherwise it is looked up: after a listing
        that has none of it or, where only the look-up can tell what to pick, beside the listing.

        Returns:
            The listing, and what was picked of it.
        """
        pairs = self.pairs or {}
        known = pairs.get(symbol)
        names = {symbol, *(known or ())}
        if known is None and (guess := _altname(symbol)) and guess not in pairs:
            names.add(guess)
        beside = len(names) == 1 and bool("/" in symbol or _KEY.fullmatch(symbol))
        results = yield [call, self._resolve(symbol)] if beside else [call]
        listing = one(results[:1])
        picked = pick(listing, frozenset(names))
        if not picked and known is None:
            found = one(results[1:]) if beside else (yield from self._resolve(symbol))
            picked = pick(listing, found)
        return listing, picked

    def _resolve(self, symbol: str) -> Flow[frozenset[str]]:
        """Look up the names that a pair's orders may be listed by.

        Raises:
            ScopeError: Kraken lists no pair by that name.
        """
        asked = f"pair={quote(symbol, safe='')}"
        pairs = yield from ask(self._pairs(asked))
        if not pairs:
            pairs = yield from ask(self._pairs(f"{asked}&{_TOKENIZED}"))
        if found := index(pairs).get(symbol):
            return found
        hint = ""
        if len(pairs) == 1:
            hint = f"; it takes it for {' or '.join(sorted({*msgspec.structs.astuple(pairs[0])}))}"
        raise ScopeError(f"Kraken lists no pair by the name of {symbol!r}{hint}")

    def _cancel_by_id(self, ids: Sequence[str]) -> Flow[_Part]:
        """Cancel a batch.

        It is not documented what becomes of a batch in which one order is gone. One that is
        refused as a whole is sent again without what another listing does not show any more; where
        that shows them all, or can't be had, in halves. So it ends when what is gone stands alone.
        A batch of which the venue does not say that, but that it won't have it, is halved at once,
        until what it won't have stands alone.
        """
        (answer,) = yield [self._cancel(ids)]
        if isinstance(answer, MassCancelError):
            if len(ids) == 1 or not _is_of_ids(answer):
                return _Part(errors=[answer], left=[*ids])
            return _joined((yield [self._cancel_by_id(half) for half in _halves(ids)]))
        if not answer.refused or len(ids) == 1:
            return _Part(answers=[answer])
        (listing,) = yield [self._open_orders(decode_listing)]
        live: Container[str] = ids
        if isinstance(listing, Listing) and not listing.lost and not listing.doubt:
            live = {order_id for order_id, _ in listing.rows}
        flows = [self._cancel_by_id(part) for part in _without_stale(ids, live)]
        return _joined([_Part(answers=[answer]), *((yield flows) if flows else [])])

    def _cancel(self, ids: Sequence[str]) -> Call[Cancelled]:
        decode = partial(decode_cancelled, tolerated=_GONE)
        if len(ids) == 1:  # the websocket's twin of the batch wants two at least
            return self._private("CancelOrder", decode, {"txid": ids[0]}, cancels=True)
        fields = {"orders": ids}
        return self._private("CancelOrderBatch", decode, fields, as_json=True, cancels=True)

    def _open_orders(self, decode: Any) -> Call[Any]:
        return self._private("OpenOrders", decode, max_reply=LISTING)

    def _private(
        self,
        what: str,
        decode: Any,
        fields: Mapping[str, Any] | None = None,
        *,
        as_json: bool = False,
        cancels: bool = False,
        **more: Any,
    ) -> Call[Any]:
        return Call(
            method="POST",
            origin=self.origin,
            path=f"/0/private/{what}",
            sign=partial(sign, fields=fields or {}, as_json=as_json),
            decode=decode,
            cancels=cancels,
            nonces_per_second=self.nonces_per_second,
            costs={} if what in _UNCOUNTED else {_COUNTER: 1},
            **more,
        )

    def _pairs(self, query: str = "", time_limit: float | None = None) -> Call[list[Pair]]:
        return Call(
            method="GET",
            origin=self.origin,
            path=f"/0/public/AssetPairs?{query}".rstrip("?"),
            sign=unsigned,
            decode=decode_pairs,
            cancels=False,
            max_reply=LISTING,
            time_limit=time_limit,
            costs=PUBLIC_COST,
        )


def _altname(symbol: str) -> str | None:
    """Guess the name that orders of ``XBT/USD`` are listed by, where it is sure without a look-up.

    The name without the slash is that pair's, and no other's: a pair that has the same would have
    to be quoted in something else that ends with ``USD``, and its base would be what is left of an
    asset's name.
    """
    base, slash, quoted = symbol.partition("/")
    return base + quoted if slash and quoted in _QUOTES else None


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


def _without_stale(batch: Sequence[str], live: Container[str]) -> list[Sequence[str]]:
    """A batch that was refused, without what is not live; in halves if that is nothing."""
    left = [order_id for order_id in batch if order_id in live]
    if len(left) < len(batch):
        return [left] if left else []
    return _halves(batch)


def _halves(batch: Sequence[str]) -> list[Sequence[str]]:
    half = len(batch) // 2
    return [batch[:half], batch[half:]]


def _is_of_ids(error: MassCancelError) -> bool:
    """Whether an error may be about one id of a batch: by its code, or one that nobody knows."""
    return type(error) in (InvalidRequest, VenueError)


def _joined(parts: Sequence[_Part], raw: bytes = b"") -> _Part:
    """Several parts as one; the last listing counts."""
    return _Part(
        answers=[answer for part in parts for answer in part.answers],
        errors=[error for part in parts for error in part.errors],
        left=[name for part in parts for name in part.left],
        raw=next((part.raw for part in reversed(parts) if part.raw), raw),
    )


def _some(names: Sequence[str]) -> str:
    """Names for people, and how many more there are."""
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return one_line(", ".join(f"{name:.40}" for name in names[:_NAMES])) + more


def _ack(answers: Sequence[Cancelled], symbol: str) -> Ack:
    counts = [answer.count for answer in answers]
    known = [count for count in counts if count is not None]
    status = f"count {sum(known) if len(known) == len(counts) else 'unknown'}"
    if any(answer.pending for answer in answers):
        status += ", pending"
    return Ack(
        account_category="spot",
        symbol=symbol,
        status=status,
        raw=b"\n".join(answer.raw for answer in answers),
    )
