"""The engine of the simulated exchange, without a socket or a clock."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from masscancel.sim import HELD, Account, Engine, OnCancel, Order, Script, Status, What

BTC = "BTC/USDT"
ETH = "ETH/USDT"


def new(**options: Any) -> tuple[Engine, Account]:
    """Make an engine with one account in two categories."""
    engine = Engine(**options)
    return engine, engine.add_account("key", "secret", categories=("cash", "margin"))


def place(
    engine: Engine,
    account: Account,
    symbol: str = BTC,
    *,
    category: str = "cash",
    now_ms: int = 0,
    script: Script | None = None,
) -> str:
    """Place an order and return its id."""
    return engine.place(
        account,
        category,
        symbol,
        side="buy",
        price=Decimal(100),
        quantity=Decimal(2),
        now_ms=now_ms,
        script=script,
    ).order_id


def status(engine: Engine, order_id: str) -> Status:
    """Look up where an order is in its life."""
    order = engine.order(order_id)
    assert order is not None
    return order.status


def whats(engine: Engine) -> list[What]:
    """List what the log tells."""
    return [record.what for record in engine.log]


def test_an_order_is_invisible_until_its_acknowledgement_falls_due() -> None:
    """A pending order is not listed; the acknowledgement comes when due, not when looked at."""
    engine, account = new(ack_delay_ms=50)
    order_id = place(engine, account, now_ms=1000)
    engine.advance(1049)
    assert status(engine, order_id) is Status.PENDING
    assert engine.open_orders(account, "cash") == []
    assert engine.next_event_ms() == 1050
    engine.advance(2000)
    assert [o.order_id for o in engine.open_orders(account, "cash")] == [order_id]
    assert engine.log[-1].what is What.ACKED
    assert engine.log[-1].time_ms == 1050
    assert engine.now_ms == 2000
    assert engine.next_event_ms() is None


def test_cancel_all_takes_effect_after_its_receipt_even_without_a_delay() -> None:
    """The receipt is recorded first; the next advance, at the same time, applies it."""
    engine, account = new()
    order_id = place(engine, account)
    request = engine.cancel_all(account, "cash", now_ms=5, request_id="r1")
    assert request.order_ids == (order_id,)
    assert status(engine, order_id) is Status.NEW
    engine.advance(5)
    assert status(engine, order_id) is Status.CANCELED
    assert whats(engine) == [
        What.PLACED,
        What.ACKED,
        What.CANCEL_ALL_RECEIVED,
        What.CANCEL_ALL_EFFECTIVE,
        What.CANCELLED,
    ]
    assert {record.request_id for record in engine.log[2:]} == {"r1"}


def test_cancel_all_leaves_orders_alone_that_were_not_acknowledged_when_it_arrived() -> None:
    """An order acknowledged between receipt and effect survives, as the venue's page warns."""
    engine, account = new()
    early = place(engine, account)
    late = place(engine, account, script=Script(ack_delay_ms=10))
    engine.cancel_all(account, "cash", now_ms=5, effect_delay_ms=20)
    after = place(engine, account, now_ms=6)
    engine.advance(100)
    assert [status(engine, i) for i in (early, late, after)] == [
        Status.CANCELED,
        Status.NEW,
        Status.NEW,
    ]


def test_cancel_all_keeps_to_its_category_symbol_and_account() -> None:
    """Nothing outside the scope is touched."""
    engine, account = new()
    other = engine.add_account("other", "secret", categories=("cash",))
    inside = place(engine, account, BTC)
    outside = [
        place(engine, account, ETH),
        place(engine, account, BTC, category="margin"),
        place(engine, other, BTC),
    ]
    engine.cancel_all(account, "cash", BTC, now_ms=0)
    engine.advance(0)
    assert status(engine, inside) is Status.CANCELED
    assert [status(engine, i) for i in outside] == [Status.NEW] * 3
    assert [o.symbol for o in engine.open_orders(account, "cash", ETH)] == [ETH]


def test_an_order_can_fill_on_the_way_out_or_never_cancel() -> None:
    """The script of an order decides what a cancel does to it."""
    engine, account = new(effect_delay_ms=7)
    fills = place(engine, account, script=Script(on_cancel=OnCancel.FILL))
    stays = place(engine, account)
    engine.rescript(stays, Script(on_cancel=OnCancel.IGNORE))
    engine.cancel_all(account, "cash", now_ms=0)
    engine.advance(7)
    assert status(engine, fills) is Status.FILLED
    assert status(engine, stays) is Status.NEW
    assert whats(engine)[-2:] == [What.FILLED, What.CANCEL_IGNORED]


def test_an_order_that_ended_before_the_effect_is_not_cancelled() -> None:
    """A fill between receipt and effect wins."""
    engine, account = new()
    order_id = place(engine, account)
    engine.cancel_all(account, "cash", now_ms=0, effect_delay_ms=10)
    engine.fill(order_id, now_ms=5)
    engine.advance(10)
    assert status(engine, order_id) is Status.FILLED
    assert What.CANCELLED not in whats(engine)


def test_held_acknowledgements_and_effects_wait_to_be_told() -> None:
    """`HELD` never falls due by itself."""
    engine, account = new()
    held = place(engine, account, script=Script(ack_delay_ms=HELD))
    engine.advance(10**12)
    assert engine.next_event_ms() is None
    assert status(engine, held) is Status.PENDING
    engine.acknowledge(held, now_ms=10**12)
    engine.acknowledge(held, now_ms=10**12)
    assert status(engine, held) is Status.NEW
    first = engine.cancel_all(account, "cash", now_ms=10**12, effect_delay_ms=HELD)
    engine.advance(10**13)
    assert status(engine, held) is Status.NEW
    engine.take_effect(now_ms=10**13, cancel_id=first.cancel_id)
    assert status(engine, held) is Status.CANCELED
    engine.cancel_all(account, "cash", now_ms=10**13, effect_delay_ms=HELD)
    engine.take_effect(now_ms=10**13)
    engine.take_effect(now_ms=10**13, cancel_id=first.cancel_id)
    assert whats(engine).count(What.CANCEL_ALL_EFFECTIVE) == 2


def test_a_scripted_order_fills_in_part_or_is_rejected() -> None:
    """Fills and rejections come after the acknowledgement, as scripted."""
    engine, account = new()
    filled = place(engine, account, script=Script(fill_delay_ms=3, fill_quantity=Decimal(1)))
    rejected = place(engine, account, script=Script(reject="INVALID_BALANCE"))
    engine.advance(3)
    order = engine.order(filled)
    assert order is not None
    assert (order.status, order.filled_quantity) == (Status.PARTIALLY_FILLED, Decimal(1))
    assert status(engine, rejected) is Status.REJECTED
    engine.fill(filled, Decimal(5), now_ms=3)
    assert status(engine, filled) is Status.FILLED
    engine.fill(filled, now_ms=3)
    engine.fill("unknown", now_ms=3)
    assert [r.quantity for r in engine.log if r.what is What.FILLED] == [Decimal(1), Decimal(1)]


def test_cancel_takes_one_open_order_and_refuses_any_other() -> None:
    """A pending, ended or unknown order can't be cancelled."""
    engine, account = new()
    pending = place(engine, account, script=Script(ack_delay_ms=HELD))
    open_id = place(engine, account)
    assert not engine.cancel(pending, now_ms=0)
    assert not engine.cancel("unknown", now_ms=0)
    assert engine.cancel(open_id, now_ms=0, request_id="c", effect_delay_ms=5)
    assert engine.cancel(open_id, now_ms=0)
    engine.advance(5)
    assert not engine.cancel(open_id, now_ms=5)
    assert whats(engine).count(What.CANCELLED) == 1


def test_listeners_hear_every_change_in_order_until_they_leave() -> None:
    """Each change is a new value with a higher sequence number."""
    engine, account = new()
    heard: list[Order] = []
    leave = engine.listen(heard.append)
    place(engine, account)
    engine.cancel_all(account, "cash", now_ms=0)
    engine.advance(0)
    assert [o.status for o in heard] == [Status.PENDING, Status.NEW, Status.CANCELED]
    assert [o.sequence for o in heard] == [1, 2, 3]
    leave()
    place(engine, account)
    assert len(heard) == 3


def test_the_listing_can_lag_behind_the_book() -> None:
    """With a lag, new orders are not listed yet and ended ones still are."""
    engine, account = new(listing_lag_ms=100)
    order_id = place(engine, account, now_ms=1000)
    engine.advance(1099)
    assert engine.open_orders(account, "cash") == []
    engine.advance(1100)
    assert [o.order_id for o in engine.open_orders(account, "cash", BTC)] == [order_id]
    assert engine.open_orders(account, "cash", ETH) == []
    engine.cancel_all(account, "cash", now_ms=1100)
    engine.advance(1199)
    assert len(engine.open_orders(account, "cash")) == 1
    engine.advance(1200)
    assert engine.open_orders(account, "cash") == []


def test_the_same_seed_makes_the_same_ids() -> None:
    """Ids come from the seeded generator alone."""

    def ids(seed: int) -> list[str]:
        engine = Engine(seed=seed)
        account = engine.add_account(categories=("cash",))
        return [account.api_key, account.ids["cash"], place(engine, account)]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)
    assert ids(1)[1].startswith("cas")


def test_what_is_remembered_is_bounded() -> None:
    """Ended orders and log records are forgotten beyond the history; live orders never are."""
    engine, account = new(history=3)
    live = place(engine, account, ETH)
    acked = place(engine, account, script=Script(ack_delay_ms=100))
    engine.acknowledge(acked, now_ms=0)
    for _ in range(10):
        place(engine, account)
    engine.cancel_all(account, "cash", BTC, now_ms=0)
    engine.advance(0)
    engine.advance(100)  # the acknowledgement that was due falls on a forgotten order
    assert status(engine, live) is Status.NEW
    assert len(engine.orders()) == 4
    assert len(engine.log) <= 6


def test_time_never_runs_backwards() -> None:
    """A clock that steps back changes nothing."""
    engine, account = new()
    engine.advance(100)
    place(engine, account, now_ms=50)
    assert engine.now_ms == 100
    assert engine.log[-1].time_ms == 100


def test_keys_and_account_ids_are_unique() -> None:
    """An account can't take another's key or id, and its repr shows neither key nor secret."""
    engine, account = new()
    with pytest.raises(ValueError, match="key exists"):
        engine.add_account("key")
    with pytest.raises(ValueError, match="taken"):
        engine.add_account("key2", categories={"cash": account.ids["cash"]})
    assert "secret" not in repr(account)
    assert "'key'" not in repr(account)
    with pytest.raises(KeyError):
        engine.cancel_all(account, "futures", now_ms=0)
