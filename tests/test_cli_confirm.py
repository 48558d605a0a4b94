"""``cancel --confirm`` and ``--via``: the proof, what is said without one, the other path."""

import asyncio
from collections.abc import Callable

import pytest

from cli_support import Shell, columns
from masscancel.cli.status import Status
from masscancel.sim import HELD, Answer, Hang, OnCancel, Script, SimulatedExchange

pytestmark = pytest.mark.asyncio


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
    ended = await shell.call(*CONFIRM, *shell.way())
    assert (ended.status, ended.err) == (Status.DONE, "")
    flat, evidence, cancelled, filled = ended.out.splitlines()
    assert flat.startswith("flat: cash (all symbols) on ascendex, in ")
    assert flat.endswith(" ms, 1 sweep")
    assert evidence == "evidence: two empty listings, 0.05 s apart"
    assert (cancelled, filled) == (
        "cancelled: not observable",
        "filled on the way out: not observable",
    )
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
    ended = await shell.call(*CONFIRM, "--symbol", "BTC/USDT", "--json", *shell.way())
    await effect
    assert ended.status == Status.DONE
    found = ended.json
    assert (found["flat"], found["symbol"], found["streamed"]) == (True, "BTC/USDT", False)
    assert set(found["cancelled"]) == others
    assert found["filled"] == [filling.order_id]
    assert found["sweeps"] == len(found["acks"]) >= 1
    assert found["acks"][0]["status"] == "Ack"
    assert shell.open_orders("cash") == {"ETH/USDT"}


async def test_the_ids_for_people(shell: Shell) -> None:
    """How many, and which; an order that is seen and did not fill is none that filled."""
    effect = asyncio.create_task(effective_after_a_listing(shell.exchange))
    ids = [order.order_id for order in shell.exchange.open_orders(shell.account, "cash")]
    ended = await shell.call(*CONFIRM, *shell.way())
    await effect
    _, _, cancelled, filled = ended.out.splitlines()
    assert cancelled == f"cancelled: 2 ({', '.join(sorted(ids))})"
    assert filled == "filled on the way out: none"


@pytest.mark.parametrize("as_json", [False, True])
async def test_not_flat(shell: Shell, as_json: bool) -> None:
    """When the time is up, what is still open is listed, with an exit status of its own."""
    stubborn = shell.exchange.place(
        shell.account, "cash", "BTC/USDT", script=Script(on_cancel=OnCancel.IGNORE)
    )
    ended = await shell.call(
        *CONFIRM, "--timeout", "0.4", *shell.way(), *(["--json"] if as_json else [])
    )
    assert ended.status == Status.NOT_FLAT
    assert "1 order is still open" in ended.err
    assert "cancel them by other means" in ended.err
    if as_json:
        assert ended.json["flat"] is False
        assert [order["order_id"] for order in ended.json["residual"]] == [stubborn.order_id]
    else:
        header, row = ended.out.splitlines()
        assert columns(header)[0] == "symbol"
        assert columns(row)[-1] == stubborn.order_id


@pytest.mark.parametrize("fault", [Hang, lambda: Answer(503, b"oops")])
async def test_unproven(shell: Shell, fault: Callable[[], Hang | Answer]) -> None:
    """No listing can be read: nothing is proven, and it says so, with a status of its own."""
    shell.exchange.faults.add(fault(), operation="open-orders", times=None)
    ended = await shell.call(*CONFIRM, "--timeout", "0.4", *shell.way())
    assert (ended.status, ended.out) == (Status.UNPROVEN, "")
    assert "could not be listed" in ended.err
    assert shell.open_orders("cash") == set()  # which nobody could know


async def test_a_refused_confirmation_is_no_different(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong secret has the status that it has everywhere."""
    monkeypatch.setenv("MASSCANCEL_API_SECRET", shell.account.api_secret + "x")
    ended = await shell.call(*CONFIRM, *shell.way())
    assert (ended.status, ended.out) == (Status.DENIED, "")


async def test_via_stream(shell: Shell) -> None:
    """The cancel goes over the websocket and nowhere else; the line says so."""
    ended = await shell.call("cancel", "--yes", "--via", "stream", *shell.way())
    assert (ended.status, ended.err) == (Status.DONE, "")
    assert "on the stream" in ended.out
    assert [each.method for each in shell.exchange.operations("cancel-all")] == ["WS"]
    assert shell.open_orders("cash") == set()


async def test_via_both(shell: Shell) -> None:
    """Without an answer over REST, the stream's counts."""
    shell.exchange.faults.add(Hang(), operation="cancel-all", method="DELETE", times=None)
    ended = await shell.call("cancel", "--yes", "--via", "both", "--json", *shell.way())
    assert ended.status == Status.DONE
    answered = [each["path"] for each in ended.json["attempts"] if each["fate"] == "answered"]
    assert answered == ["stream"]


async def test_via_a_stream_that_is_not_there(shell: Shell) -> None:
    """A venue without one refuses by name; nothing is sent."""
    nowhere = [word for name in ("spot", "futures") for word in ("-o", f"{name}_url={NOWHERE}")]
    ended = await shell.call("cancel", "--yes", "--via", "stream", "--venue", "kraken", *nowhere)
    assert ended.status == Status.USAGE
    assert "kraken has no stream" in ended.err
