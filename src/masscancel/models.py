"""The values that callers get: immutable, comparable, and honest about what is not known."""

import math
from decimal import Decimal
from typing import Any, Literal

import msgspec

__all__ = [
    "Ack",
    "Attempt",
    "Confirmation",
    "Gap",
    "KeyInfo",
    "OpenOrder",
    "OrderUpdate",
    "RateLeft",
    "Value",
    "plain",
]

# ``gc=False`` where nothing that a value holds can lead back to it: ten thousand open orders are
# none of the garbage collector's business.

Fate = Literal["answered", "refused", "not sent", "unknown", "open"]
Path = Literal["rest", "stream"]
Via = Literal["rest", "stream", "both"]
OrderState = Literal["open", "filled", "cancelled", "rejected"]
#: Whether a key may do something; ``"unknown"`` where the venue has no way of asking.
Permission = Literal["yes", "no", "unknown"]


class Value(msgspec.Struct, frozen=True, gc=False):
    """A value that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The value as plain data for JSON; nothing in it is secret."""
        written: dict[str, Any] = plain(self)
        return written


def plain(value: Any) -> Any:
    """Values, and collections of them, as plain data for JSON.

    Decimals and bytes become text, tuples lists, and a number that JSON does not have ``None``.
    """
    return _finite(msgspec.to_builtins(value, builtin_types=(bytes,)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else value


class Attempt(Value, frozen=True, kw_only=True, gc=False):
    """One writing of a call to the wire, and its fate.

    Attributes:
        path: ``"rest"`` or ``"stream"``.
        sent_at_ms: when it was stamped, in the venue's time, ms since the epoch.
        fate: ``"answered"`` (understood), ``"refused"`` (the venue said no), ``"not sent"``
            (nothing reached the venue), ``"unknown"`` (it may have been carried out) or ``"open"``
            (another attempt was answered first; this one is still on its way).
        expires_at_ms: the venue's time after which it lets this in no more, ms since the epoch;
            ``None`` where the venue sets no such time.
        acts: whether it would cancel anything; false for a listing.
        local_sent_at_ms: when it was stamped, by this machine's clock: a venue's time may have
            whole seconds only.
    """

    path: Path
    sent_at_ms: int
    fate: Fate
    expires_at_ms: int | None = None
    acts: bool = True
    local_sent_at_ms: int | None = None


class Ack(Value, frozen=True, kw_only=True, gc=False):
    """The venue says that it has **received** the request. It proves nothing else.

    Attributes:
        account_category: as it was asked for, such as ``"cash"``.
        account_id: the venue's id of the account; empty where it names none.
        action: the venue's word for what was asked, such as ``"cancel-all"``.
        status: the venue's word for its answer, ``"Ack"`` on AscendEX.
        symbol: the one symbol that was asked for, ``""`` for all.
        request_id: what the venue echoed of the request's id, ``""`` if nothing.
        timestamp_ms: when the server received it, ms since the epoch; ``None`` where it sends none.
        attempts: every attempt of the call, oldest first, up to this answer.
        raw: the reply's own bytes.
        cancelled: ids that the answer itself says are cancelled; ``None`` where it does not tell.
        books: the books that the request covered.
        left_out: the books of the category that it left out, since it was asked to.
    """

    account_category: str
    account_id: str = ""
    action: str = "cancel-all"
    status: str = "Ack"
    symbol: str = ""
    request_id: str = ""
    timestamp_ms: int | None = None
    attempts: tuple[Attempt, ...] = ()
    raw: bytes = b""
    cancelled: tuple[str, ...] | None = None
    books: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class OpenOrder(Value, frozen=True, kw_only=True, gc=False):
    """One open order, as a venue lists it.

    Attributes:
        order_id: the venue's id.
        symbol: the venue's own spelling.
        side: ``"buy"`` or ``"sell"``; ``"unknown"`` where the venue itself says so.
        price: limit price in quote currency; zero where the order has none.
        quantity: the whole quantity of the order.
        filled_quantity: how much of it has been filled.
        order_type: the venue's word, such as ``"Limit"``.
        status: the venue's word, such as ``"New"``.
        book: the book that it is in.
        reduce_only: whether the venue says that it can only make a position smaller.
    """

    order_id: str
    symbol: str
    side: Literal["buy", "sell", "unknown"]
    price: Decimal
    quantity: Decimal
    filled_quantity: Decimal
    order_type: str
    status: str
    book: str = "ordinary"
    reduce_only: bool = False


class OrderUpdate(Value, frozen=True, kw_only=True, gc=False):
    """One order has changed, as the venue's stream tells it.

    Attributes:
        account_category: such as ``"cash"``.
        order_id: the venue's id.
        symbol: the venue's own spelling.
        side: ``"buy"`` or ``"sell"``; ``"unknown"`` where the venue itself says so.
        price: limit price in quote currency; zero where the order has none.
        quantity: the whole quantity of the order.
        filled_quantity: how much of it has been filled.
        order_type: the venue's word, such as ``"Limit"``.
        status: the venue's word, such as ``"PartiallyFilled"``.
        state: what that means: ``"open"``, ``"filled"``, ``"cancelled"`` or ``"rejected"``.
        timestamp_ms: when it changed, ms since the epoch; ``None`` if the venue does not say.
        book: the book that it is in.
    """

    account_category: str
    order_id: str
    symbol: str
    side: Literal["buy", "sell", "unknown"]
    price: Decimal
    quantity: Decimal
    filled_quantity: Decimal
    order_type: str
    status: str
    state: OrderState
    timestamp_ms: int | None = None
    book: str = "ordinary"

    @property
    def is_open(self) -> bool:
        """Whether the order may still trade."""
        return self.state == "open"


class KeyInfo(Value, frozen=True, kw_only=True):
    """The rights of a key, as far as its venue tells them.

    Attributes:
        cancels: whether it may cancel, by account category.
        addresses: the addresses that it may be used from, ``()`` for any; ``None`` where the venue
            does not tell.
        expires_at_ms: when it expires, ms since the epoch; ``None`` if it does not, or where the
            venue does not tell.
    """

    cancels: dict[str, Permission]
    addresses: tuple[str, ...] | None = None
    expires_at_ms: int | None = None


class RateLeft(Value, frozen=True, kw_only=True):
    """The room in one of a venue's documented limits.

    Attributes:
        name: the limit's name, such as ``"weight"``.
        left: how much of it is left now, in the venue's own unit.
        amount: how much there is of it in all.
        seconds: the length of its window.
        of_cancels: whether cancels spend of it.
    """

    name: str
    left: float
    amount: float
    seconds: float
    of_cancels: bool = True


class Gap(Value, frozen=True, kw_only=True):
    """Updates of a category may be missing from here on back to the last one.

    Attributes:
        account_category: such as ``"cash"``.
        reason: why, for people.
    """

    account_category: str
    reason: str


class Confirmation(Value, frozen=True, kw_only=True):
    """Proof that the scope was flat: two empty listings, and nothing opened in between.

    It holds for orders that the venue makes visible within ``settle``.

    Attributes:
        acks: one per sweep, oldest first.
        sweeps: how many cancel-alls were acknowledged on the way.
        cancelled: ids of orders seen to be cancelled; ``None`` where that can't be observed.
        filled: ids of orders seen to fill on the way out; ``None`` where that can't be observed.
        settle: the time between the two listings, in seconds.
        streamed: whether order updates were watched throughout, beside the listings.
        elapsed: from the call to the proof, in seconds.
        books: the books that are proven flat.
        left_out: the books of the category that were left out, as was asked; nothing is known of
            them.
    """

    acks: tuple[Ack, ...]
    sweeps: int
    cancelled: tuple[str, ...] | None
    filled: tuple[str, ...] | None
    settle: float
    streamed: bool
    elapsed: float
    books: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
