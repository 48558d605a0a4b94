"""What the tests of telemetry share: events that are made up, and trouble with secrets in it."""

from typing import Any, Final

from masscancel import Client, MassCancelError, RetryPolicy, Target, cancel_many
from masscancel.calls import Scope
from masscancel.events import AttemptEnded, AttemptSent, CallEnded, CallStarted
from masscancel.sim import Answer, Drop, Hang, SimulatedExchange
from support import SECRETS, account_of, client_of

#: What a peer may say: what it was told, and what would break out of a line.
TELLTALE: Final = Answer(
    400, f'{{"code":300012,"message":"{SECRETS[0]}-0 {SECRETS[1]}-0\\r\\nforged"}}'.encode()
)


def started(call_id: str = "a", **fields: Any) -> CallStarted:
    """A call that begins."""
    common = {"name": "cancel_all", "venue": "v", "account": "mm", "scope": Scope("spot")}
    return CallStarted(**{**common, "call_id": call_id, "timeout": 5.0, **fields})


def sent(call_id: str = "a", attempt: int = 1, origin: str = "https://venue.test") -> AttemptSent:
    """An attempt that leaves."""
    return AttemptSent(
        call_id=call_id, attempt=attempt, path="rest", origin=origin, cancels=True, sent_at_ms=0
    )


def attempt_ended(call_id: str = "a", **fields: Any) -> AttemptEnded:
    """An attempt that ends."""
    common = {"attempt": 1, "path": "rest", "origin": "https://venue.test", "cancels": True}
    more = {"call_id": call_id, "fate": "answered", "elapsed": 0.004, "http_status": 200}
    return AttemptEnded(**{**common, **more, **fields})


def ended(call_id: str = "a", **fields: Any) -> CallEnded:
    """A call that ends."""
    common = {"name": "cancel_all", "venue": "v", "account": "mm", "scope": Scope("spot")}
    more = {"call_id": call_id, "ok": True, "outcome": "acknowledged", "attempts": 1}
    return CallEnded(**{**common, **more, "elapsed": 0.004, **fields})


async def trouble(exchange: SimulatedExchange, listener: Any) -> None:
    """Calls that end in every way, while a listener listens: well, refused, lost, at the deadline.

    The venue's refusals repeat the key and the secret.
    """
    account = account_of(exchange)
    retry = RetryPolicy(patience=0.02, base=0.002)

    async def fail(client: Client[Any], *arguments: str, timeout: float = 5.0) -> None:
        try:
            await client.cancel_all(*arguments, timeout=timeout)
        except MassCancelError:
            return
        raise AssertionError

    async with client_of(exchange, account, retry=retry) as client:
        client.pool.subscribe(listener)
        await client.cancel_all("cash", "BTC/USDT")
        for fault in (Answer(503), Drop(), Hang()):
            exchange.faults.add(fault, operation="cancel-all")
            await client.cancel_all("cash", timeout=0.4)
        exchange.faults.add(TELLTALE, operation="cancel-all")
        await fail(client, "cash")
        await fail(client, "nonsense")
        exchange.faults.add(Hang(), operation="cancel-all", times=None)
        await fail(client, "margin", timeout=0.1)
        exchange.faults.clear()
        report = await cancel_many(
            Target.product([client], ["cash", "margin"]), confirm=True, settle=0.01
        )
        assert report.all_ok
        assert await client.open_orders("cash") == []
