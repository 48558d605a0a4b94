"""Type-checked by mypy, never run: every public name, used as a user would use it."""  # noqa: INP001  # no package: it is never imported

import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Literal, assert_type

from masscancel import (
    Accounts,
    Ack,
    AscendEX,
    Attempt,
    AuthenticationError,
    Cancellable,
    Client,
    ConfigurationError,
    Confirmation,
    Credentials,
    DeadlineExceeded,
    DeadMansSwitch,
    FanOutReport,
    Gap,
    Halted,
    InvalidRequest,
    MassCancelError,
    NotFlat,
    NotSent,
    OpenOrder,
    OrderGate,
    OrderUpdate,
    Outcome,
    OutcomeUnknown,
    PermissionDenied,
    ProofPolicy,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    ScopeError,
    SessionPool,
    Target,
    TransportError,
    Unproven,
    VenueError,
    VenueUnavailable,
    cancel_as_completed,
    cancel_many,
    cancel_on_exit,
    killing,
    subscribe,
)
from masscancel.events import CallEnded, Event
from masscancel.journal import Head, Journal, Row, rows

credentials = Credentials("key", "secret")
assert_type(Credentials("key", "secret", label="mm-17"), Credentials)
assert_type(Credentials.from_env(), Credentials)
assert_type(Credentials.from_env("DESK", label="mm-17"), Credentials)
assert_type(credentials.label, str)
Credentials("key", "secret", "mm-17")  # type: ignore[call-arg]  # the label is by name only

venue = AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test")
assert_type(venue, AscendEX)
assert_type(venue.account_group, int | None)
AscendEX(rest_url="https://venue.test", stream_url="wss://venue.test", account_group=6)

policy = RetryPolicy(base=0.05, cap=1.0, early_sends=3, patience=1.0)


async def one_account() -> None:
    """What a strategy pastes."""
    async with Client(credentials, venue=venue) as client:
        assert_type(client, Client[AscendEX])
        assert_type(client.venue.account_group, int | None)
        assert_type(client.label, str)
        ack = await client.cancel_all("cash")
        assert_type(ack, Ack)
        assert_type(await client.cancel_all("margin", "BTC/USDT"), Ack)
        assert_type(
            await client.cancel_all("futures", "BTC-PERP", request_id="abc", timeout=2.5), Ack
        )
        await client.cancel_all()  # type: ignore[call-arg]  # there is no default category
        await client.cancel_all("cash", None, "an-id")  # type: ignore[call-arg]  # by name only
        confirmation = await client.cancel_all_and_confirm("cash", timeout=10.0, settle=0.25)
        assert_type(confirmation, Confirmation)
        assert_type(await client.open_orders("cash", "BTC/USDT", timeout=1), list[OpenOrder])
        assert_type(await client.can_cancel("cash", timeout=1), Literal["yes", "no", "unknown"])
        assert_type(await client.try_cancel("cash", timeout=1), Literal["yes", "no", "unknown"])
        assert_type((await client.key_info(["cash"])).addresses, tuple[str, ...] | None)

    assert_type(ack.account_category, str)
    assert_type(ack.account_id, str)
    assert_type(ack.action, str)
    assert_type(ack.status, str)
    assert_type(ack.symbol, str)
    assert_type(ack.request_id, str)
    assert_type(ack.timestamp_ms, int | None)
    assert_type(ack.attempts, tuple[Attempt, ...])
    assert_type(ack.raw, bytes)
    ack.status = "Ack"  # type: ignore[misc]  # values are immutable


def an_attempt(attempt: Attempt) -> None:
    """What is known of one writing to the wire."""
    assert_type(attempt.path, Literal["rest", "stream"])
    assert_type(attempt.sent_at_ms, int)
    assert_type(attempt.fate, Literal["answered", "refused", "not sent", "unknown", "open"])
    assert_type(attempt.expires_at_ms, int | None)
    assert_type(attempt.acts, bool)


def an_order(order: OpenOrder) -> None:
    """Prices and quantities are exact."""
    assert_type(order.order_id, str)
    assert_type(order.symbol, str)
    assert_type(order.side, Literal["buy", "sell", "unknown"])
    assert_type(order.book, str)
    assert_type(order.price, Decimal)
    assert_type(order.quantity - order.filled_quantity, Decimal)
    assert_type(order.order_type, str)
    assert_type(order.status, str)


def a_confirmation(confirmation: Confirmation) -> None:
    """None is not the same as empty."""
    assert_type(confirmation.acks, tuple[Ack, ...])
    assert_type(confirmation.sweeps, int)
    assert_type(confirmation.cancelled, tuple[str, ...] | None)
    assert_type(confirmation.filled, tuple[str, ...] | None)
    assert_type(confirmation.settle, float)
    assert_type(confirmation.streamed, bool)
    assert_type(confirmation.elapsed, float)


async def many_accounts(accounts: list[Credentials]) -> None:
    """One pool, many clients, one fan-out."""
    async with SessionPool(connections=64, warm=3) as pool:
        assert_type(pool, SessionPool)
        clients = [
            Client(each, venue=venue, pool=pool, categories=("cash",), retry=policy)
            for each in accounts
        ]
        targets = Target.product(clients, ["cash", "margin"], ["BTC/USDT", None])
        assert_type(targets, list[Target])
        targets += [Target(clients[0], "futures"), Target(clients[0], "futures", "BTC-PERP")]
        assert_type(targets[0].symbol, str | None)

        report = await cancel_many(targets, concurrency=64, timeout=10.0, on_outcome=print)
        assert_type(report, FanOutReport)
        assert_type(report.outcomes, tuple[Outcome, ...])
        assert_type(report.succeeded, tuple[Outcome, ...])
        assert_type(report.failed, tuple[Outcome, ...])
        assert_type(report.all_ok, bool)
        assert_type(report.elapsed, float)
        try:
            report.raise_for_failures()
        except* NotSent as group:
            assert_type(group, ExceptionGroup[NotSent])

        async with cancel_as_completed(iter(targets), timeout=10) as outcomes:
            assert_type(outcomes, AsyncIterator[Outcome])
            async for outcome in outcomes:
                assert_type(outcome.target, Target)
                assert_type(outcome.ack, Ack | None)
                assert_type(outcome.confirmation, Confirmation | None)
                assert_type(outcome.error, MassCancelError | None)
                assert_type(outcome.elapsed, float)
                assert_type(outcome.ok, bool)


async def a_strategy(client: Client[Any], gate: OrderGate) -> None:
    """Cancelled on exit, watched by a switch; every order passes the gate."""
    target = Target(client, "cash")
    async with cancel_on_exit(target, gate=gate, signals=(signal.SIGTERM,)) as guard:
        assert_type(guard, cancel_on_exit)
    async with DeadMansSwitch([target], timeout=15.0, cancel_timeout=10.0) as switch:
        assert_type(switch.kind, Literal["native", "emulated", "mixed"])
        async with gate.order():
            assert_type(switch.beat(), bool)
        await switch.disarm()
    assert_type(guard.report, FanOutReport | None)

    await client.cancel_all("cash", via="both", gate=gate)
    await client.cancel_all("cash", via="fax")  # type: ignore[arg-type]  # there is no such way
    gate.shut()
    await gate.drained(5.0)
    gate.reopen()


async def what_happens_to_orders(client: Client[Any]) -> None:
    """Updates, and gaps where some may be missing."""
    async for update in client.order_updates("cash"):
        if isinstance(update, Gap):
            assert_type(update.reason, str)
        else:
            assert_type(update, OrderUpdate)
            assert_type(update.state, Literal["open", "filled", "cancelled", "rejected"])
            assert_type(update.is_open, bool)
            assert_type(update.filled_quantity, Decimal)


async def what_can_go_wrong(client: Client[Any]) -> None:
    """Every error, with what it carries."""
    try:
        await client.cancel_all("cash")
    except (AuthenticationError, PermissionDenied, InvalidRequest, VenueUnavailable) as error:
        assert_type(error.code, int | str | None)
        assert_type(error.reason, str)
        assert_type(error.message, str)
        assert_type(error.http_status, int | None)
    except RateLimited as error:
        assert_type(error.retry_after, float | None)
    except VenueError as error:
        assert_type(error, VenueError)
    except (ConfigurationError, ScopeError) as error:
        bad_value: ValueError = error
        assert_type(bad_value, ValueError)
    except DeadlineExceeded as error:
        too_late: TimeoutError = error
        assert_type(too_late, TimeoutError)
    except (NotSent, OutcomeUnknown) as error:
        on_the_wire: TransportError = error
        assert_type(on_the_wire, TransportError)
    except NotFlat as error:
        assert_type(error.residual, tuple[OpenOrder, ...])
    except Halted as error:
        assert_type(error.until, int | None)
    except (ProtocolError, Unproven) as error:
        assert_type(error.may_have_executed, bool)
    except MassCancelError as error:
        assert_type(error.attempts, tuple[Attempt, ...])
        assert_type(error.may_have_executed, bool)
        assert_type(error.context, str)


def a_listener(event: Event) -> None:
    """What happens, as values."""
    if isinstance(event, CallEnded):
        assert_type(event.scope.symbol, str | None)
        assert_type(event.ok, bool)


unsubscribe = subscribe(a_listener)
unsubscribe()

with Journal("kills.sqlite", actor="risk-engine") as journal:
    unsubscribe = subscribe(journal)
    with killing("drawdown limit", actor="risk-engine", what="the desk") as kill:
        assert_type(kill.id, str)
    head = journal.head()
    assert_type(head, Head | None)
    assert_type(journal.verify(head).problems, tuple[str, ...])
    assert_type(next(rows(journal.path)), Row)


async def anything_cancellable(client: Cancellable) -> None:
    """A target takes whatever has what a fan-out needs; books may be left out by name."""
    target = Target(client, "usdm", books=("ordinary",))
    assert_type(await cancel_many(target), FanOutReport)
    async for outcome in cancel_as_completed([target]):
        assert_type(outcome, Outcome)
    Client(credentials, venue=venue, proof=ProofPolicy(sweep_again=1.0), rates={"weight": 100})


async def every_account() -> None:
    """The accounts file, and a fan-out over all of it."""
    accounts = Accounts.load("masscancel.toml", strict=False)
    assert_type(accounts.select("mm-*", venue="okx", tags={"desk": "mm"}), Accounts)
    for account in accounts:
        assert_type(account.credentials(), Credentials)
    async with accounts.open(wait=False) as targets:
        assert_type(targets, list[Target])
        await cancel_many(targets, confirm=True)
