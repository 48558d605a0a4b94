"""The engine's values: accounts, orders, scripts and log records. All frozen; all times in ms."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

HELD: Final = 2**62
"""A delay in ms that never ends by itself: what is held waits for `Engine.acknowledge`,
or for `Engine.take_effect`."""


class Status(StrEnum):
    """Where an order is in its life. A dialect translates these into its venue's words."""

    PENDING = "Pending"
    """Sent, not acknowledged: invisible, and out of a cancel-all's reach."""
    NEW = "New"
    PARTIALLY_FILLED = "PartiallyFilled"
    FILLED = "Filled"
    CANCELED = "Canceled"
    REJECTED = "Rejected"

    @property
    def is_open(self) -> bool:
        """Whether the order rests, acknowledged, in the book."""
        return self in (Status.NEW, Status.PARTIALLY_FILLED)

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen to the order any more."""
        return self in (Status.FILLED, Status.CANCELED, Status.REJECTED)


class OnCancel(StrEnum):
    """What an order does when a cancel takes effect on it."""

    CANCEL = "cancel"
    FILL = "fill"
    """It fills on the way out: the cancel comes too late."""
    IGNORE = "ignore"
    """It stays: the venue acknowledged the request, and nothing is cancelled."""


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """How one order behaves.

    `ack_delay_ms`: from placing to acknowledgement; None is the engine's default, `HELD` waits for
    `Engine.acknowledge`. `on_cancel`: what a cancel does to it. `reject`: if not empty, the reason
    for which the venue rejects the order instead of acknowledging it. `fill_delay_ms`: if not None,
    the order fills that long after its acknowledgement, by `fill_quantity` (None: all of it).
    """

    ack_delay_ms: int | None = None
    on_cancel: OnCancel = OnCancel.CANCEL
    reject: str = ""
    fill_delay_ms: int | None = None
    fill_quantity: Decimal | None = None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account of the venue: its key, its secret, and an account id for each of its categories.

    `group` is AscendEX's account group; `permissions` are what the key may do ("view", "trade").
    `extra` holds what only one venue has, such as a passphrase. The repr shows no key and no
    secret.
    """

    api_key: str
    api_secret: str
    group: int = 0
    ids: dict[str, str] = msgspec.field(default_factory=dict)
    label: str = ""
    permissions: frozenset[str] = frozenset({"view", "trade"})
    extra: dict[str, str] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Account(label={self.label!r}, group={self.group}, ids={self.ids!r})"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One order as it stands; each change makes a new value.

    `sequence` counts all changes of the engine. `opened_ms` and `closed_ms` are when it was
    acknowledged and when it ended, None if not yet.
    """

    order_id: str
    account_id: str
    category: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    order_type: str
    client_id: str
    status: Status
    placed_ms: int
    changed_ms: int
    sequence: int
    filled_quantity: Decimal = Decimal(0)
    opened_ms: int | None = None
    closed_ms: int | None = None
    reason: str = ""
    reduce_only: bool = False
    script: Script = Script()


class CancelAll(msgspec.Struct, frozen=True, kw_only=True):
    """A cancel-all that was received.

    `order_ids` are the orders it will reach: those of its scope, or of one book of it, that were
    acknowledged when it arrived. `due_ms` is when it takes effect; `symbol` is None for the whole
    category.
    """

    cancel_id: str
    account_id: str
    category: str
    symbol: str | None
    request_id: str
    received_ms: int
    due_ms: int
    order_ids: tuple[str, ...]


class What(StrEnum):
    """What a log record tells."""

    PLACED = "placed"
    ACKED = "acked"
    REJECTED = "rejected"
    FILLED = "filled"
    CANCEL_RECEIVED = "cancel received"
    CANCEL_ALL_RECEIVED = "cancel-all received"
    CANCEL_ALL_EFFECTIVE = "cancel-all effective"
    CANCELLED = "cancelled"
    CANCEL_IGNORED = "cancel ignored"


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the venue really did, and when (ms). A cancel-all of every symbol has symbol ""."""

    time_ms: int
    what: What
    account_id: str
    category: str
    symbol: str = ""
    order_id: str = ""
    request_id: str = ""
    quantity: Decimal | None = None
    order_ids: tuple[str, ...] = ()
