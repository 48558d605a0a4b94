"""The simulated exchange's own signature check, against the published vectors."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from masscancel.sim import Engine
from masscancel.sim.ascendex_wire import (
    Refusal,
    authenticate,
    checked_id,
    checked_symbol,
    checked_time,
    json_object,
    plain,
    positive,
    signature,
)

VECTORS: list[dict[str, Any]] = msgspec.json.decode(
    (Path(__file__).parent.parent / "data" / "ascendex" / "vectors.json").read_bytes()
)
NOW = 1_700_000_000_000


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["api_path"])
def test_published_vectors(vector: dict[str, Any]) -> None:
    """The signature is the one that the exchange's documents publish."""
    assert (
        signature(vector["secret"], str(vector["timestamp"]), vector["api_path"])
        == vector["signature"]
    )


def refusal(**changes: str | None) -> int:
    """Authenticate a good request with some parts changed; returns the code of the refusal."""
    engine = Engine()
    engine.add_account("key", "secret")
    parts = {
        "key": "key",
        "timestamp": str(NOW),
        "signed": signature("secret", str(NOW), "order/all"),
        "api_path": "order/all",
    } | changes
    try:
        account = authenticate(engine, venue_ms=NOW, window_ms=30_000, **parts)  # type: ignore[arg-type]  # parts are strings
    except Refusal as error:
        return error.code
    assert account.api_key == "key"
    return 0


def test_a_good_request_is_let_in() -> None:
    """Key, timestamp and signature belong together."""
    assert refusal() == 0


@pytest.mark.parametrize("part", ["key", "timestamp", "signed"])
def test_every_part_is_needed(part: str) -> None:
    """A missing or empty header is no authorization at all."""
    assert refusal(**{part: None}) == refusal(**{part: ""}) == 100009


@pytest.mark.parametrize("offset", [-30_001, 30_001])
def test_a_stale_timestamp_is_refused_even_if_well_signed(offset: int) -> None:
    """The window is 30 s, either way."""
    stamp = str(NOW + offset)
    assert refusal(timestamp=stamp, signed=signature("secret", stamp, "order/all")) == 100011
    edge = str(NOW + offset + (1 if offset < 0 else -1))
    assert refusal(timestamp=edge, signed=signature("secret", edge, "order/all")) == 0


@pytest.mark.parametrize("stamp", ["abc", "-1", "1e12", "\uff11\uff12", "9" * 30])
def test_a_malformed_timestamp_is_refused(stamp: str) -> None:
    """Only digits count."""
    assert refusal(timestamp=stamp) == 100011


def test_wrong_key_secret_and_path_are_refused() -> None:
    """Each is a failed authentication."""
    assert refusal(key="other") == 200001
    assert refusal(signed=signature("Secret", str(NOW), "order/all")) == 200001
    assert refusal(signed=signature("secret", str(NOW), "order/open")) == 200001
    assert refusal(signed="ünïcode") == 200001


def test_fields_are_checked() -> None:
    """Each malformed field has its code."""

    def code(check: Any, *args: Any) -> int:
        with pytest.raises(Refusal) as caught:
            check(*args)
        return caught.value.code

    assert json_object(b" ") == {}
    assert json_object(b'{"a":1}') == {"a": 1}
    assert code(json_object, b"{") == code(json_object, b"\xff") == 150001
    assert code(json_object, b"[]") == 100004
    assert checked_symbol("BTC/USDT", "cash", None) == "BTC/USDT"
    assert checked_symbol("BTC-PERP", "futures", frozenset({"BTC-PERP"})) == "BTC-PERP"
    for symbol, category in (
        ("", "cash"),
        ("BTC-PERP", "margin"),
        ("BTC/USDT", "futures"),
        (1, "cash"),
    ):
        assert code(checked_symbol, symbol, category, None) == 100008
    assert code(checked_symbol, "ETH/USDT", "cash", frozenset({"BTC/USDT"})) == 100008
    assert checked_id(None) == ""
    assert checked_id("a-b_c") == "a-b_c"
    for bad in ("", "-a", "a" * 33, 5, "a b"):
        assert code(checked_id, bad) == 300006
    checked_time(None, NOW, 30_000)
    checked_time(NOW, NOW, 30_000)
    assert code(checked_time, NOW - 30_001, NOW, 30_000) == 100011
    assert code(checked_time, "1", NOW, 30_000) == 100013
    assert positive("1.50", 300001, "price") == Decimal("1.50")
    for number in ("x", "0", "-1", "NaN", "Infinity", None):
        assert code(positive, number, 300001, "price") == 300001
    assert plain(Decimal("1E+3")) == "1000"
