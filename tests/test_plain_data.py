"""Every public value, event and error can be written as JSON, and says all that it knows."""

import json
import typing
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import masscancel
from masscancel import Ack, FanOutReport, MassCancelError, NotFlat, Outcome, RateLimited, Target
from masscancel.errors import Halted, StampRefused
from masscancel.events import Event
from masscancel.models import OpenOrder, Value
from masscancel.sim import Answer, SimulatedExchange
from support import account_of, client_of


def kinds(root: type[Any]) -> Iterator[type[Any]]:
    """A class's public descendants that have none themselves."""
    children = root.__subclasses__()
    if not children and not root.__name__.startswith("_"):
        yield root
    for child in children:
        yield from kinds(child)


def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Anything of a type, structs included."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        fields = typing.get_type_hints(hint)
        parts = {name: any_of(fields[name]) for name in hint.__struct_fields__}
        return st.fixed_dictionaries(parts).map(lambda given: hint(**given))
    if typing.get_origin(hint) is tuple:
        return st.lists(any_of(typing.get_args(hint)[0]), max_size=3).map(tuple)
    return st.from_type(hint)


def is_plain(data: Any) -> bool:
    """Whether data is the same when it has been written as JSON and read."""
    return bool(json.loads(json.dumps(data, allow_nan=False)) == data)


@pytest.mark.parametrize("kind", [*kinds(Value)], ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(st.data())
def test_values_and_events(kind: type[Value], data: st.DataObject) -> None:
    """Whatever a value or an event holds, its plain data has every field."""
    value = data.draw(any_of(kind))
    written = value.to_dict()
    assert is_plain(written)
    assert {*written} == {*kind.__struct_fields__} | (
        {"type"} if issubclass(kind, Event) else set()
    )


def test_whatever_is_public_can_be_written() -> None:
    """What the package hands out has a `to_dict`, but for what has no end or holds a key."""
    structs = {
        name: kind
        for name in masscancel.__all__
        if isinstance(kind := getattr(masscancel, name), type)
        and issubclass(kind, msgspec.Struct | Exception)
    }
    without = {name for name, kind in structs.items() if not hasattr(kind, "to_dict")}
    assert without <= {"Accounts", "AscendEX", "Credentials", "ProofPolicy", "RetryPolicy"}


def test_errors_say_what_they_know() -> None:
    """What only their class has is there, too."""
    order = OpenOrder(
        order_id="1", symbol="BTC/USDT", side="buy", status="New", order_type="Limit",
        price=Decimal(1), quantity=Decimal(2), filled_quantity=Decimal(0),
    )  # fmt: skip
    stamp = StampRefused(7, "STAMP", http_status=400)
    stamp.date_ms = 5
    told: list[tuple[MassCancelError, dict[str, Any]]] = [
        (RateLimited(429, "SLOW", retry_after=2.5), {"code": 429, "retry_after": 2.5}),
        (stamp, {"code": 7, "http_status": 400, "date_ms": 5}),
        (Halted("shut", until=3), {"until": 3}),
        (NotFlat("no", residual=[order]), {"residual": [order.to_dict()]}),
    ]
    for error, facts in told:
        written = error.to_dict()
        assert is_plain(written)
        assert written["type"] == type(error).__name__
        assert written.items() >= facts.items()


@pytest.mark.asyncio
async def test_reports(exchange: SimulatedExchange) -> None:
    """Acks, proofs and errors of a whole fan-out, by the exchange's own answers."""
    exchange.faults.add(Answer(400, b'{"code":300012}'), operation="cancel-all", times=None)
    async with client_of(exchange, account_of(exchange)) as client:
        refused = await masscancel.cancel_many(Target(client, "cash", "BTC/USDT"))
        exchange.faults.clear()
        proven = await masscancel.cancel_many(Target(client, "cash"), confirm=True, settle=0.01)
    for report in (refused, proven, FanOutReport((), 0.0)):
        assert is_plain(report.to_dict())
    [failed] = refused.to_dict()["outcomes"]
    assert (failed["account"], failed["symbol"], failed["ok"]) == ("group-0", "BTC/USDT", False)
    assert failed["error"]["code"] == 300012
    [outcome] = proven.to_dict()["outcomes"]
    assert (outcome["ok"], outcome["error"]) == (True, None)
    assert outcome["confirmation"]["acks"][0]["account_category"] == "cash"


def test_an_outcome_of_nothing() -> None:
    """An outcome that has neither Ack nor error is not ok; bytes of an Ack become text."""
    target: Any = type("Client", (), {"account": "a"})()
    outcome = Outcome(target=Target(target, "spot"), ack=Ack(account_category="spot", raw=b"\xff"))
    written = outcome.to_dict()
    assert is_plain(written)
    assert (written["ack"]["raw"], written["symbol"]) == ("\N{REPLACEMENT CHARACTER}", None)
