"""The matching engine of the simulated exchange: pure, deterministic, with the time handed in.

Every method that takes `now_ms` first applies whatever has fallen due by then. What a method itself
sets in motion, even with a delay of nothing, is applied by the next call: so the acknowledgement of
a cancel-all is always out before the cancel-all takes effect.
"""

from __future__ import annotations

import heapq
import random
import string
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

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

if TYPE_CHECKING:
    from decimal import Decimal

OrderListener = Callable[[Order], None]
OrderIds = Callable[[random.Random, int], str]

_ALPHANUMERIC = string.ascii_letters + string.digits


def random_id(rng: random.Random, prefix: str = "", length: int = 32) -> str:
    """Make up an id of `length` letters and digits that starts with `prefix`."""
    return prefix + "".join(rng.choices(_ALPHANUMERIC, k=length - len(prefix)))


def _default_order_id(rng: random.Random, _serial: int) -> str:
    return random_id(rng, "a")


class Engine:
    """Accounts, their orders, and what happens to them.

    `ack_delay_ms` is how long an order takes from placing to acknowledgement, `effect_delay_ms` how
    long a cancel or cancel-all takes from its receipt to its effect; both can be set per order and
    per request. `listing_lag_ms` makes `open_orders` show the book as it was that long ago.
    `new_order_id` makes order ids from the seeded generator and a serial number, `id_prefixes` are
    what the account ids of each category start with. `history` bounds what is remembered: log
    records, and orders that have ended.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        ack_delay_ms: int = 0,
        effect_delay_ms: int = 0,
        listing_lag_ms: int = 0,
        new_order_id: OrderIds = _default_order_id,
        id_prefixes: Mapping[str, str] | None = None,
        history: int = 1_000_000,
    ) -> None:
        self.ack_delay_ms = ack_delay_ms
        self.effect_delay_ms = effect_delay_ms
        self.listing_lag_ms = listing_lag_ms
        self.default_script = Script()
        self.now_ms = 0
        self.log: list[LogRecord] = []
        self.accounts: dict[str, Account] = {}
        self._random = random.Random(seed)
        self._new_order_id = new_order_id
        self._id_prefixes = dict(id_prefixes or {})
        self._history = history
        self._serial = 0
        self._sequence = 0
        self._orders: dict[str, Order] = {}
        self._books: dict[str, dict[str, None]] = {}  # account id -> live order ids, as placed
        self._closed: deque[str] = deque()
        self._cancels: dict[str, CancelAll] = {}  # received, not yet effective
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._listeners: list[OrderListener] = []

    # --- accounts -------------------------------------------------------------------------------

    def add_account(
        self,
        api_key: str = "",
        api_secret: str = "",
        *,
        group: int = 0,
        categories: Mapping[str, str] | Iterable[str] = ("cash",),
        label: str = "",
        permissions: Iterable[str] = ("view", "trade"),
        extra: Mapping[str, str] | None = None,
    ) -> Account:
        """Open an account; an empty key or secret is made up.

        `categories` maps each category to an account id, or names the categories, and the ids are
        made up. Raises `ValueError` if the key or an account id is taken.
        """
        given = (
            dict(categories) if isinstance(categories, Mapping) else dict.fromkeys(categories, "")
        )
        account = Account(
            api_key=api_key or random_id(self._random),
            api_secret=api_secret or random_id(self._random, length=64),
            group=group,
            ids={name: id_ or self._account_id(name) for name, id_ in given.items()},
            label=label,
            permissions=frozenset(permissions),
            extra=dict(extra or {}),
        )
        if account.api_key in self.accounts:
            raise ValueError("an account with this key exists")
        if taken := self._books.keys() & set(account.ids.values()):
            raise ValueError(f"account ids are taken: {sorted(taken)}")
        self.accounts[account.api_key] = account
        self._books.update({account_id: {} for account_id in account.ids.values()})
        return account

    def _account_id(self, category: str) -> str:
        return random_id(self._random, self._id_prefixes.get(category, category[:3]))

    # --- time -----------------------------------------------------------------------------------

    def advance(self, now_ms: int) -> None:
        """Apply, in order, every event due by `now_ms`. Time never runs backwards."""
        while self._events and self._events[0][0] <= now_ms:
            due, _, event = heapq.heappop(self._events)
            self.now_ms = max(self.now_ms, due)
            event()
        self.now_ms = max(self.now_ms, now_ms)

    def next_event_ms(self) -> int | None:
        """When the next event falls due (ms), or None if nothing is under way."""
        return self._events[0][0] if self._events else None

    def schedule(self, delay_ms: int, event: Callable[[], None]) -> None:
        """Have `event` called when `delay_ms` have passed (`HELD`: never), such as a venue's timer.

        Of two that fall due at the same time, the older goes first.
        """
        if delay_ms >= HELD:
            return
        self._serial += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._serial, event))

    def listen(self, listener: OrderListener) -> Callable[[], None]:
        """Call `listener` with every order that is placed or changes; returns what ends that."""
        self._listeners.append(listener)
        return partial(self._listeners.remove, listener)

    # --- what clients do ------------------------------------------------------------------------

    def place(
        self,
        account: Account,
        category: str,
        symbol: str,
        *,
        side: str,
        price: Decimal,
        quantity: Decimal,
        now_ms: int,
        order_type: str = "limit",
        client_id: str = "",
        reduce_only: bool = False,
        script: Script | None = None,
    ) -> Order:
        """Take an order in. It is pending until its acknowledgement falls due.

        Raises `KeyError` if the account has no such category.
        """
        account_id = account.ids[category]
        self.advance(now_ms)
        self._serial += 1
        script = script or self.default_script
        order = Order(
            order_id=self._new_order_id(self._random, self._serial),
            account_id=account_id,
            category=category,
            symbol=symbol,
            side=side,
            price=price,
            quantity=quantity,
            order_type=order_type,
            client_id=client_id,
            status=Status.PENDING,
            placed_ms=self.now_ms,
            changed_ms=self.now_ms,
            sequence=0,
            reduce_only=reduce_only,
            script=script,
        )
        self._books[account_id][order.order_id] = None
        order = self._change(order, What.PLACED, quantity=quantity)
        delay = self.ack_delay_ms if script.ack_delay_ms is None else script.ack_delay_ms
        self.schedule(delay, partial(self._acknowledge, order.order_id))
        return order

    def cancel(
        self,
        order_id: str,
        *,
        now_ms: int,
        effect_delay_ms: int | None = None,
        request_id: str = "",
    ) -> bool:
        """Take in the cancel of one order; False, and nothing happens, if it is not open."""
        self.advance(now_ms)
        order = self._orders.get(order_id)
        if order is None or not order.status.is_open:
            return False
        self._record(What.CANCEL_RECEIVED, order, request_id=request_id)
        delay = self.effect_delay_ms if effect_delay_ms is None else effect_delay_ms
        self.schedule(delay, partial(self._cancel, order_id, request_id))
        return True

    def cancel_all(
        self,
        account: Account,
        category: str,
        symbol: str | None = None,
        *,
        now_ms: int,
        effect_delay_ms: int | None = None,
        request_id: str = "",
        only: Callable[[Order], bool] | None = None,
    ) -> CancelAll:
        """Take in a cancel-all of a category, or of one symbol in it, or of `only` some orders.

        It will reach exactly the orders acknowledged by now, when it takes effect `effect_delay_ms`
        later (None: the engine's default; `HELD`: not before `take_effect`). Raises `KeyError` if
        the account has no such category.
        """
        account_id = account.ids[category]
        self.advance(now_ms)
        self._serial += 1
        delay = self.effect_delay_ms if effect_delay_ms is None else effect_delay_ms
        request = CancelAll(
            cancel_id=str(self._serial),
            account_id=account_id,
            category=category,
            symbol=symbol,
            request_id=request_id,
            received_ms=self.now_ms,
            due_ms=self.now_ms + delay,
            order_ids=tuple(
                order.order_id
                for order in self._live(account_id, symbol)
                if order.status.is_open and (only is None or only(order))
            ),
        )
        self._cancels[request.cancel_id] = request
        self._record(What.CANCEL_ALL_RECEIVED, request)
        self.schedule(delay, partial(self._take_effect, request.cancel_id))
        return request

    # --- what the script does -------------------------------------------------------------------

    def acknowledge(self, order_id: str, *, now_ms: int) -> None:
        """Acknowledge a pending order now, whatever its delay; harmless if it is not pending."""
        self.advance(now_ms)
        self._acknowledge(order_id)

    def take_effect(self, *, now_ms: int, cancel_id: str | None = None) -> None:
        """Let one cancel-all that is under way, or all of them, take effect now."""
        self.advance(now_ms)
        for pending in list(self._cancels) if cancel_id is None else [cancel_id]:
            self._take_effect(pending)

    def fill(
        self, order_id: str, quantity: Decimal | None = None, *, now_ms: int, delay_ms: int = 0
    ) -> None:
        """Fill an open order, by `quantity` at most (None: all that is left), after `delay_ms`."""
        self.advance(now_ms)
        self.schedule(delay_ms, partial(self._fill, order_id, quantity))
        self.advance(now_ms)

    def rescript(self, order_id: str, script: Script) -> None:
        """Give an order another script; a delay that already runs is not changed."""
        self._orders[order_id] = replace(self._orders[order_id], script=script)

    # --- queries --------------------------------------------------------------------------------

    def order(self, order_id: str) -> Order | None:
        """The order as it stands, ended or not; None if unknown (or long forgotten)."""
        return self._orders.get(order_id)

    def orders(self) -> list[Order]:
        """Every order that is remembered, pending and ended ones too, as they were placed."""
        return list(self._orders.values())

    def open_orders(
        self, account: Account, category: str, symbol: str | None = None
    ) -> list[Order]:
        """The listing: acknowledged orders that have not ended, as they were placed.

        Shows the book of `listing_lag_ms` ago. Raises `KeyError` if the account has no such
        category.
        """
        account_id = account.ids[category]
        if not self.listing_lag_ms:
            return [order for order in self._live(account_id, symbol) if order.status.is_open]
        then = self.now_ms - self.listing_lag_ms
        return [
            order
            for order in self._orders.values()
            if order.account_id == account_id
            and (symbol is None or order.symbol == symbol)
            and order.opened_ms is not None
            and order.opened_ms <= then
            and (order.closed_ms is None or order.closed_ms > then)
        ]

    # --- events ---------------------------------------------------------------------------------

    def _acknowledge(self, order_id: str) -> None:
        order = self._orders.get(order_id)
        if order is None or order.status is not Status.PENDING:
            return
        script = order.script
        if script.reject:
            order = replace(order, status=Status.REJECTED, reason=script.reject)
            self._change(order, What.REJECTED)
            return
        self._change(replace(order, status=Status.NEW, opened_ms=self.now_ms), What.ACKED)
        if script.fill_delay_ms is not None:
            self.schedule(script.fill_delay_ms, partial(self._fill, order_id, script.fill_quantity))

    def _fill(self, order_id: str, quantity: Decimal | None) -> None:
        order = self._orders.get(order_id)
        if order is None or not order.status.is_open:
            return
        left = order.quantity - order.filled_quantity
        filled = left if quantity is None else min(quantity, left)
        status = Status.FILLED if filled == left else Status.PARTIALLY_FILLED
        order = replace(order, status=status, filled_quantity=order.filled_quantity + filled)
        self._change(order, What.FILLED, quantity=filled)

    def _take_effect(self, cancel_id: str) -> None:
        request = self._cancels.pop(cancel_id, None)
        if request is None:
            return
        self._record(What.CANCEL_ALL_EFFECTIVE, request)
        for order_id in request.order_ids:
            self._cancel(order_id, request.request_id)

    def _cancel(self, order_id: str, request_id: str) -> None:
        order = self._orders.get(order_id)
        if order is None or not order.status.is_open:
            return
        if order.script.on_cancel is OnCancel.FILL:
            self._fill(order_id, None)
        elif order.script.on_cancel is OnCancel.IGNORE:
            self._record(What.CANCEL_IGNORED, order, request_id=request_id)
        else:
            order = replace(order, status=Status.CANCELED)
            self._change(order, What.CANCELLED, request_id=request_id)

    # --- bookkeeping ----------------------------------------------------------------------------

    def _live(self, account_id: str, symbol: str | None) -> list[Order]:
        book = (self._orders[order_id] for order_id in self._books[account_id])
        return [order for order in book if symbol is None or order.symbol == symbol]

    def _change(
        self, order: Order, what: What, *, request_id: str = "", quantity: Decimal | None = None
    ) -> Order:
        self._sequence += 1
        closed_ms = self.now_ms if order.status.is_final else None
        order = replace(order, sequence=self._sequence, changed_ms=self.now_ms, closed_ms=closed_ms)
        self._orders[order.order_id] = order
        self._record(what, order, request_id=request_id, quantity=quantity)
        if order.status.is_final:
            del self._books[order.account_id][order.order_id]
            self._closed.append(order.order_id)
            if len(self._closed) > self._history:
                del self._orders[self._closed.popleft()]
        for listener in tuple(self._listeners):
            listener(order)
        return order

    def _record(
        self,
        what: What,
        subject: Order | CancelAll,
        *,
        request_id: str = "",
        quantity: Decimal | None = None,
    ) -> None:
        order_id = ""
        order_ids: tuple[str, ...] = ()
        if isinstance(subject, CancelAll):
            order_ids, request_id = subject.order_ids, subject.request_id
        else:
            order_id = subject.order_id
        self.log.append(
            LogRecord(
                time_ms=self.now_ms,
                what=what,
                account_id=subject.account_id,
                category=subject.category,
                symbol=subject.symbol or "",
                order_id=order_id,
                request_id=request_id,
                quantity=quantity,
                order_ids=order_ids,
            )
        )
        if len(self.log) > 2 * self._history:  # trimmed by halves, so that it costs nothing
            del self.log[: -self._history]
