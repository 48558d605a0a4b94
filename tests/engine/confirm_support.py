"""What the tests of the pure proof share."""

from decimal import Decimal
from typing import Any

from masscancel.engine.proof import Proof, ProofPolicy
from masscancel.models import OpenOrder, OrderState, OrderUpdate

SETTLE, DEADLINE = 0.25, 10.0
POLICY = ProofPolicy()


def order(order_id: str = "a") -> OpenOrder:
    """An order of a listing."""
    return OpenOrder(
        order_id=order_id,
        symbol="BTC/USDT",
        side="buy",
        price=Decimal(1),
        quantity=Decimal(1),
        filled_quantity=Decimal(0),
        order_type="Limit",
        status="New",
    )


def update(state: OrderState, order_id: str = "a") -> OrderUpdate:
    """An order's change."""
    return OrderUpdate(
        account_category="cash",
        order_id=order_id,
        symbol="BTC/USDT",
        side="buy",
        price=Decimal(1),
        quantity=Decimal(1),
        filled_quantity=Decimal(0),
        order_type="Limit",
        status=state,
        state=state,
    )


def proof(*, swept: bool = True, **options: Any) -> Proof:
    """A proof that begins at 0, with its first sweep sent and acknowledged."""
    begun = Proof(**{"settle": SETTLE, "deadline": DEADLINE} | options)
    if swept:
        begun.sweeping(0.0)
    return begun
