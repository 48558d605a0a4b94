"""The values that callers get: immutable, comparable, and honest."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from masscancel import (
    Ack,
    Attempt,
    Confirmation,
    FanOutReport,
    Gap,
    MassCancelError,
    NotSent,
    OpenOrder,
    OrderUpdate,
    Outcome,
    OutcomeUnknown,
    Target,
)


class Stub:
    """What a target shows of a client."""

    def __init__(self, account: str) -> None:
        self.account = account


def client(account: str) -> Any:
    """Something with a name, where a target wants a client."""
    return Stub(account)


TARGET = Target(client("mm-17"), "cash", "BTC/USDT")
ORDER = OpenOrder(
    order_id="1",
    symbol="BTC/USDT",
    side="buy",
    price=Decimal(7105),
    quantity=Decimal("0.0083"),
    filled_quantity=Decimal(0),
    order_type="Limit",
    status="New",
)
UPDATE = OrderUpdate(
    account_category="cash",
    order_id="1",
    symbol="BTC/USDT",
    side="sell",
    price=Decimal(7105),
    quantity=Decimal(1),
    filled_quantity=Decimal(0),
    order_type="Limit",
    status="New",
    state="open",
)
VALUES: list[Any] = [
    UPDATE,
    Gap(account_category="cash", reason="the stream dropped"),
    Ack(account_category="cash"),
    Attempt(path="rest", sent_at_ms=1, fate="answered"),
    Confirmation(
        acks=(),
        sweeps=1,
        cancelled=None,
        filled=None,
        settle=0.25,
        streamed=False,
        elapsed=0.5,
    ),
    ORDER,
    Outcome(target=TARGET),
    FanOutReport((), 0.0),
    TARGET,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_immutable_hashable_and_comparable(value: Any) -> None:
    """No field can be set; an equal copy is equal and hashes alike."""
    for field in msgspec.structs.fields(value):
        with pytest.raises(AttributeError):
            setattr(value, field.name, None)
    twin = msgspec.structs.replace(value)
    assert twin == value
    assert twin is not value
    assert hash(twin) == hash(value)


@pytest.mark.parametrize(
    "kind",
    [Ack, Attempt, Confirmation, Gap, OpenOrder, OrderUpdate, Outcome],
    ids=lambda kind: kind.__name__,
)
def test_values_of_many_fields_take_them_by_name(kind: Any) -> None:
    """So a field may be added without moving the others."""
    with pytest.raises(TypeError, match="positional"):
        kind("cash")


def test_an_ack_claims_nothing_that_was_not_said() -> None:
    """What the venue does not send is empty or None, never made up."""
    ack = Ack(account_category="futures")
    assert ack.timestamp_ms is None
    assert (ack.account_id, ack.symbol, ack.request_id, ack.raw) == ("", "", "", b"")
    assert ack.attempts == ()


def test_an_attempt_counts_as_a_cancel_unless_it_says_otherwise() -> None:
    """The cautious reading is the default."""
    attempt = Attempt(path="rest", sent_at_ms=1, fate="unknown")
    assert attempt.acts is True
    assert attempt.expires_at_ms is None


@pytest.mark.parametrize(
    ("state", "is_open"),
    [("open", True), ("filled", False), ("cancelled", False), ("rejected", False)],
)
def test_an_order_is_open_in_one_state_only(state: Any, *, is_open: bool) -> None:
    """Whatever the venue's own word for it is."""
    update = msgspec.structs.replace(UPDATE, state=state)
    assert update.is_open is is_open
    assert update.timestamp_ms is None


def test_product_makes_every_target_in_order() -> None:
    """Clients first, then categories, then symbols."""
    one, two = client("one"), client("two")
    targets = Target.product([one, two], ["cash", "margin"], ["BTC/USDT", None])
    assert [(t.client, t.account_category, t.symbol) for t in targets] == [
        (one, "cash", "BTC/USDT"),
        (one, "cash", None),
        (one, "margin", "BTC/USDT"),
        (one, "margin", None),
        (two, "cash", "BTC/USDT"),
        (two, "cash", None),
        (two, "margin", "BTC/USDT"),
        (two, "margin", None),
    ]


def test_product_of_no_symbols_is_the_whole_account() -> None:
    """Left out, it is all symbols; given and empty, it is none: never wider than asked."""
    assert [t.symbol for t in Target.product([client("2c70e12b")], ["cash"])] == [None]
    assert Target.product([client("2c70e12b")], ["cash"], []) == []


def test_product_takes_iterators() -> None:
    """Each of its arguments may be read once only."""
    targets = Target.product(iter([client("2c70e12b")]), iter(["cash"]), iter(["A/B", "C/D"]))
    assert [t.symbol for t in targets] == ["A/B", "C/D"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target(client("2c70e12b"), "cash"), "cash [2c70e12b]"),
        (Target(client("2c70e12b"), "cash", books=("a", "b")), "cash (a, b) [2c70e12b]"),
        (Target(client("mm-17"), "futures"), "futures [mm-17]"),
        (Target(client("mm-17"), "cash", "BTC/USDT"), "cash BTC/USDT [mm-17]"),
    ],
)
def test_a_target_as_text_is_its_scope_and_whose(target: Target, text: str) -> None:
    """One line that tells one of a thousand apart."""
    assert str(target) == text


def outcome(error: MassCancelError | None = None) -> Outcome:
    """An outcome with that error, or with an Ack."""
    ack = None if error else Ack(account_category="cash")
    return Outcome(target=TARGET, ack=ack, error=error)


def test_a_report_splits_its_outcomes_in_order() -> None:
    """Those that succeeded and those that failed, each in the targets' order."""
    outcomes = (outcome(), outcome(NotSent("a")), outcome(), outcome(OutcomeUnknown("b")))
    report = FanOutReport(outcomes, 0.5)
    assert report.succeeded == (outcomes[0], outcomes[2])
    assert report.failed == (outcomes[1], outcomes[3])
    assert [each.ok for each in outcomes] == [True, False, True, False]
    assert not report.all_ok


def test_a_report_raises_every_failure_once_in_order() -> None:
    """An ExceptionGroup that `except*` takes apart, and that counts."""
    first, second = NotSent("a"), OutcomeUnknown("b")
    report = FanOutReport((outcome(first), outcome(), outcome(second)), 0.5)
    with pytest.raises(ExceptionGroup, match="2 of 3 targets failed") as caught:
        report.raise_for_failures()
    assert caught.value.exceptions == (first, second)
    matched, rest = caught.value.split(OutcomeUnknown)
    assert matched is not None
    assert matched.exceptions == (second,)
    assert rest is not None
    assert rest.exceptions == (first,)


@pytest.mark.parametrize("outcomes", [(), (outcome(), outcome())], ids=["empty", "all ok"])
def test_a_report_without_failures_raises_nothing(outcomes: tuple[Outcome, ...]) -> None:
    """Nothing failed, an empty fan-out included."""
    report = FanOutReport(outcomes, 0.5)
    report.raise_for_failures()
    assert report.all_ok
    assert report.succeeded == outcomes
    assert report.failed == ()
