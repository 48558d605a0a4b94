"""``cancel --confirm`` and ``--via``: the proof, what is said without one, the other path."""

import asyncio
from collections.abc import Callable

import pytest

from cli_support import Shell, columns
from masscancel.cli.status import Status
from masscancel.sim import HELD, Answer, Hang, OnCancel, Script, SimulatedExchange

pytestmark = pytest.mark.asyncio

CASH = ("--category", "cash")


@pytest.fixture
def shell(
    exchange: SimulatedExchange,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    """A shell with an account's credentials."""
    return Shell(exchange, monkeypatch, capsys)


async def effective_after_a_listing(exchange: SimulatedExchange) -> None:
    """Cancels take effect when the open orders have been listed once, so that they were seen."""
    exchange.engine.effect_delay_ms = HELD
    await exchange.until(
        lambda: any(each.answer == "answered" for each in exchange.operations("open-orders"))
    )
    exchange.engine.effect_delay_ms = 0
    exchange.engine.take_effect(now_ms=exchange.now_ms)


NOWHERE = "http://127.0.0.1:1"
CONFIRM = ("cancel", "--yes", "--confirm", "--settle", "0.05")


async def test_confirmed_flat(shell: Shell) -> None:
    """What is flat, by what evidence; what nobody could observe is not called none."""
    ended = await shell.call(*CONFIRM, *CASH, *shell.way())
    assert (ended.status, ended.err) == (Status.DONE, "")
    _, row, evidence, left_out = ended.out.splitlines()
    assert columns(row)[:4] == ["cash", "all", "ordinary, stop", "flat"]
    assert columns(row)[4:7] == ["1", "not observable", "not observable"]
    assert evidence == "flat: two empty listings, 0.05 s apart"
    assert left_out == "margin and futures were not touched."
    assert shell.open_orders("cash") == set()
    assert shell.open_orders("margin") == {"BTC/USDT", "ETH/USDT"}


async def test_what_was_cancelled_and_what_filled(shell: Shell) -> None:
    """Where a listing still shows the orders, their ends are found out and named."""
    effect = asyncio.create_task(effective_after_a_listing(shell.exchange))
    filling = shell.exchange.place(
        shell.account, "cash", "BTC/USDT", script=Script(on_cancel=OnCancel.FILL)
    )
    others = {o.order_id for o in shell.exchange.open_orders(shell.account, "cash", "BTC/USDT")}
    others.discard(filling.order_id)
    ended = await shell.call(*CONFIRM, "--symbol", "BTC/USDT", "--json", *CASH, *shell.way())
    await effect
    assert ended.status == Status.DONE
    [outcome] = ended.json["outcomes"]
    found = outcome["confirmation"]
    assert (outcome["outcome"], outcome["symbol"], found["streamed"]) == ("flat", "BTC/USDT", False)
    assert set(found["cancelled"]) == others
    assert found["filled"] == [filling.order_id]
    assert found["sweeps"] == len(found["acks"]) >= 1
    assert found["acks"][0]["status"] == "Ack"
    assert shell.open_orders("cash") == {"ETH/USDT"}


async def test_the_ids_for_people(shell: Shell) -> None:
    """How many, and which; an order that is seen and did not fill is none that filled."""
    effect = asyncio.create_task(effective_after_a_listing(shell.exchange))
    ids = [order.order_id for order in shell.exchange.open_orders(shell.account, "cash")]
    ended = await shell.call(*CONFIRM, *CASH, *shell.way())
    await effect
    _, row, _, cancelled, _ = ended.out.splitlines()
    assert columns(row)[5:7] == ["2", "0"]
    assert cancelled == f"cash, cancelled: {', '.join(sorted(ids))}"


@pytest.mark.parametrize("as_json", [False, True])
async def test_not_flat(shell: Shell, as_json: bool) -> None:
    """When the time is up, what is still open is listed, with an exit status of its own."""
    stubborn = shell.exchange.place(
        shell.account, "cash", "BTC/USDT", script=Script(on_cancel=OnCancel.IGNORE)
    )
    ended = await shell.call(
        *CONFIRM, "--timeout", "0.4", *CASH, *shell.way(), *(["--json"] if as_json else [])
    )
    assert ended.status == Status.NOT_FLAT
    assert "1 order is still open" in ended.err
    assert "cancel them by other means" in ended.err
    if as_json:
        [outcome] = ended.json["outcomes"]
        assert outcome["outcome"] == "not flat"
        residual = outcome["error"]["residual"]
        assert [order["order_id"] for order in residual] == [stubborn.order_id]
    else:
        header, row = ended.out.splitlines()[4:6]
        assert columns(header)[0] == "symbol"
        assert columns(row)[-1] == stubborn.order_id


@pytest.mark.parametrize("fault", [Hang, lambda: Answer(503, b"oops")])
async def test_unproven(shell: Shell, fault: Callable[[], Hang | Answer]) -> None:
    """No listing can be read: nothing is proven, and it says so, with a status of its own."""
    shell.exchange.faults.add(fault(), operation="open-orders", times=None)
    ended = await shell.call(*CONFIRM, "--timeout", "0.4", *CASH, *shell.way())
    assert ended.status == Status.UNPROVEN
    assert columns(ended.out.splitlines()[1])[3] == "unproven"
    assert "could not be listed" in ended.err
    assert shell.open_orders("cash") == set()  # which nobody could know


async def test_a_refused_confirmation_is_no_different(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong secret has the status that it has everywhere."""
    monkeypatch.setenv("MASSCANCEL_API_SECRET", shell.account.api_secret + "x")
    ended = await shell.call(*CONFIRM, *CASH, *shell.way())
    assert ended.status == Status.DENIED
    assert columns(ended.out.splitlines()[1])[3] == "denied"


async def test_via_stream(shell: Shell) -> None:
    """The cancel goes over the websocket and nowhere else; the line says so."""
    ended = await shell.call("cancel", "--yes", "--via", "stream", *CASH, *shell.way())
    assert (ended.status, ended.err) == (Status.DONE, "")
    assert "on the stream" in ended.out
    assert [each.method for each in shell.exchange.operations("cancel-all")] == ["WS"]
    assert shell.open_orders("cash") == set()


async def test_via_both(shell: Shell) -> None:
    """Without an answer over REST, the stream's counts."""
    shell.exchange.faults.add(Hang(), operation="cancel-all", method="DELETE", times=None)
    ended = await shell.call("cancel", "--yes", "--via", "both", "--json", *CASH, *shell.way())
    assert ended.status == Status.DONE
    attempts = ended.json["outcomes"][0]["ack"]["attempts"]
    answered = [each["path"] for each in attempts if each["fate"] == "answered"]
    assert answered == ["stream"]


async def test_via_a_stream_that_is_not_there(shell: Shell) -> None:
    """A venue without one refuses by name; nothing is sent."""
    nowhere = [word for name in ("spot", "futures") for word in ("-o", f"{name}_url={NOWHERE}")]
    command = ("cancel", "--yes", "--via", "stream", "--venue", "kraken", "--category", "spot")
    ended = await shell.call(*command, *nowhere)
    assert ended.status == Status.USAGE
    assert "Kraken has no stream to cancel on in spot" in ended.err
