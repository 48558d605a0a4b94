"""The values that callers get: immutable, comparable, and honest about what is not known."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import product
from typing import Any, Literal, Protocol, Self

import msgspec

from masscancel.errors import MassCancelError

__all__ = [
    "Ack",
    "Attempt",
    "Confirmation",
    "FanOutReport",
    "Gap",
    "OpenOrder",
    "OrderUpdate",
    "Outcome",
    "Target",
]

# ``gc=False`` where nothing that a value holds can lead back to it: ten thousand open orders are
# none of the garbage collector's business.

Fate = Literal["answered", "refused", "not sent", "unknown", "open"]
Path = Literal["rest", "stream"]
Via = Literal["rest", "stream", "both"]
OrderState = Literal["open", "filled", "cancelled", "rejected"]


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    """

    path: Path
    sent_at_ms: int
    fate: Fate
    expires_at_ms: int | None = None
    acts: bool = True


class Ack(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One open order, as a venue lists it.

    Attributes:
        order_id: the venue's id.
        symbol: the venue's own spelling.
        side: ``"buy"`` or ``"sell"``.
        price: limit price in quote currency; zero where the order has none.
        quantity: the whole quantity of the order.
        filled_quantity: how much of it has been filled.
        order_type: the venue's word, such as ``"Limit"``.
        status: the venue's word, such as ``"New"``.
    """

    order_id: str
    symbol: str
    side: Literal["buy", "sell"]
    price: Decimal
    quantity: Decimal
    filled_quantity: Decimal
    order_type: str
    status: str


class OrderUpdate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order has changed, as the venue's stream tells it.

    Attributes:
        account_category: such as ``"cash"``.
        order_id: the venue's id.
        symbol: the venue's own spelling.
        side: ``"buy"`` or ``"sell"``.
        price: limit price in quote currency; zero where the order has none.
        quantity: the whole quantity of the order.
        filled_quantity: how much of it has been filled.
        order_type: the venue's word, such as ``"Limit"``.
        status: the venue's word, such as ``"PartiallyFilled"``.
        state: what that means: ``"open"``, ``"filled"``, ``"cancelled"`` or ``"rejected"``.
        timestamp_ms: when it changed, ms since the epoch; ``None`` if the venue does not say.
    """

    account_category: str
    order_id: str
    symbol: str
    side: Literal["buy", "sell"]
    price: Decimal
    quantity: Decimal
    filled_quantity: Decimal
    order_type: str
    status: str
    state: OrderState
    timestamp_ms: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the order may still trade."""
        return self.state == "open"


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Updates of a category may be missing from here on back to the last one.

    Attributes:
        account_category: such as ``"cash"``.
        reason: why, for people.
    """

    account_category: str
    reason: str


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
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
    """

    acks: tuple[Ack, ...]
    sweeps: int
    cancelled: tuple[str, ...] | None
    filled: tuple[str, ...] | None
    settle: float
    streamed: bool
    elapsed: float


class Canceller(Protocol):
    """What a target needs of a client."""

    @property
    def label(self) -> str:
        """How the account is told apart from others."""

    @property
    def venue(self) -> Any:
        """The venue that it speaks to."""

    async def _cancel_target(
        self,
        account_category: str,
        symbol: str | None,
        *,
        deadline: float,
        lane: Any,
        settle: float | None,
        gate: Any,
    ) -> "Ack | Confirmation": ...


class Target(msgspec.Struct, frozen=True):
    """One client and one scope: what a fan-out cancels.

    Attributes:
        client: an entered :class:`~masscancel.Client`.
        account_category: such as ``"cash"``.
        symbol: one symbol, or ``None`` for all.
    """

    client: Canceller
    account_category: str
    symbol: str | None = None

    @classmethod
    def product(
        cls,
        clients: Iterable[Canceller],
        account_categories: Iterable[str],
        symbols: Iterable[str | None] = (None,),
    ) -> list[Self]:
        """Every client with every category with every symbol, in that order.

        >>> Target.product(clients, ["cash", "margin"], ["BTC/USDT", "ETH/USDT"])
        """
        return [cls(*each) for each in product(clients, account_categories, symbols)]

    def __str__(self) -> str:
        scope = f"{self.account_category} {self.symbol}" if self.symbol else self.account_category
        return f"{scope} [{self.client.label}]" if self.client.label else scope


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one target.

    Attributes:
        target: the target.
        ack: the venue's acknowledgement, the last one if there were several sweeps.
        confirmation: the proof, where one was asked for and reached.
        error: why not, otherwise.
        elapsed: from the fan-out's call to this outcome, in seconds.
    """

    target: Target
    ack: Ack | None = None
    confirmation: Confirmation | None = None
    error: MassCancelError | None = None
    elapsed: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it was acknowledged, or confirmed where that was asked for."""
        return self.error is None and (self.ack is not None or self.confirmation is not None)


class FanOutReport(msgspec.Struct, frozen=True):
    """The outcomes of a fan-out, in the order of its targets.

    Attributes:
        outcomes: one per target.
        elapsed: the whole fan-out, in seconds.
    """

    outcomes: tuple[Outcome, ...]
    elapsed: float

    @property
    def succeeded(self) -> tuple[Outcome, ...]:
        """The outcomes without an error."""
        return tuple(outcome for outcome in self.outcomes if outcome.ok)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The outcomes with an error."""
        return tuple(outcome for outcome in self.outcomes if not outcome.ok)

    @property
    def all_ok(self) -> bool:
        """Whether no target failed; true of an empty fan-out."""
        return all(outcome.ok for outcome in self.outcomes)

    def raise_for_failures(self) -> None:
        """Raise the errors of the targets that failed, if any.

        Raises:
            ExceptionGroup: holds each :class:`~masscancel.MassCancelError`, in the targets' order.
        """
        errors: Sequence[MassCancelError] = [
            outcome.error for outcome in self.outcomes if outcome.error is not None
        ]
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {len(self.outcomes)} targets failed", errors)
