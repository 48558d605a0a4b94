"""Credentials: what is accepted, and that nothing shows them."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import rich.console
import rich.pretty
from hypothesis import given
from hypothesis import strategies as st

from masscancel import ConfigurationError, Credentials

if TYPE_CHECKING:
    from collections.abc import Callable

KEY, SECRET = "k3y-of-the-account", "s3cret/of+the=account"
GOOD = Credentials(KEY, SECRET, label="mm-17")


def by_rich(value: object) -> str:
    """What rich prints of a value, as in its tracebacks with locals."""
    console = rich.console.Console(file=io.StringIO(), width=200)
    console.print(rich.pretty.Pretty(value, expand_all=True))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    return text


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        format,
        "{0!s} {0!r} {0}".format,
        lambda value: "%s %r" % (value, value),  # noqa: UP031  # as logging does it
        lambda value: repr([{value: (value,)}]),
        by_rich,
        lambda value: by_rich([{"credentials": value}]),
        lambda value: repr(rich.pretty.traverse(value)),
        lambda value: repr(copy.deepcopy(value)),
        lambda value: logging.makeLogRecord({"msg": "%s", "args": (value,)}).getMessage(),
    ],
)
def test_nothing_that_prints_shows_more_than_the_label(show: Callable[[object], str]) -> None:
    """The label is there, the key and the secret are not."""
    text = show(GOOD)
    assert "mm-17" in text
    assert KEY not in text
    assert SECRET not in text


def frames_with_the_secret(error: BaseException) -> list[str]:
    """Which frames below the test's own show the secret to a tool that reports locals."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    return [frame.name for frame in report.stack[1:] if SECRET in str(frame.locals)]


def test_the_fields_are_what_was_given() -> None:
    """Key and secret are kept as text, to the byte; the label is by name only."""
    assert (GOOD.api_key, GOOD.api_secret, GOOD.label) == (KEY, SECRET, "mm-17")
    assert Credentials(KEY, SECRET).label == ""
    wrong: Any = Credentials
    with pytest.raises(TypeError):
        wrong(KEY, SECRET, "mm-17")


def test_credentials_are_frozen() -> None:
    """No field can be set, and none added."""
    for name in ("api_key", "api_secret", "label", "another"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(GOOD, name, "x")


def test_credentials_are_comparable_and_survive_copying() -> None:
    """Equal when all fields are; a copy is the same value."""
    assert Credentials(KEY, SECRET, label="mm-17") == GOOD
    assert Credentials(KEY, "another", label="mm-17") != GOOD
    assert hash(Credentials(KEY, SECRET, label="mm-17")) == hash(GOOD)
    assert copy.copy(GOOD) is GOOD
    assert copy.deepcopy(GOOD) is GOOD


@pytest.mark.parametrize(
    "encode", [pickle.dumps, msgspec.json.encode, msgspec.to_builtins, json.dumps]
)
def test_a_secret_is_not_written_anywhere(encode: Callable[[object], object]) -> None:
    """Pickles and encoders are refused, and the error does not hold it."""
    with pytest.raises(TypeError) as caught:
        encode(GOOD)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["api_key", "api_secret", "label", "account"])
def test_credentials_can_not_be_changed(name: str) -> None:
    """No part is set or deleted afterwards."""
    with pytest.raises(AttributeError):
        setattr(GOOD, name, "another")
    with pytest.raises(AttributeError):
        delattr(GOOD, name)


def test_the_account_has_a_name_without_a_label() -> None:
    """Without a label it is told apart by 8 hex digits of its key's SHA-256."""
    assert Credentials("key", "secret", label="mm-1").account == "mm-1"
    assert Credentials("key", "secret").account == "2c70e12b"


def test_a_passphrase_is_as_secret() -> None:
    """It is read from the environment where it is set, checked, and shown nowhere."""
    credentials = Credentials("key", "secret", passphrase="phrase")
    assert credentials.secrets == ("secret", "key", "phrase")
    assert "phrase" not in repr(credentials)
    with pytest.raises(ConfigurationError, match="passphrase"):
        Credentials("key", "secret", passphrase="two words")


BAD = [
    "",
    " ",
    f"{SECRET} ",
    f" {SECRET}",
    f"{SECRET}\n",
    f"{SECRET}\r\nx-evil: 1",
    f"{SECRET}\0",
    f"{SECRET}\t",
    f"{SECRET}\x7f",
    f"{SECRET}\N{NO-BREAK SPACE}",
    f"{SECRET}é",
    f"{SECRET}\N{ZERO WIDTH SPACE}",
    f"{SECRET}\ud800",
    None,
    0,
    True,
    SECRET.encode(),
    [SECRET],
]


@pytest.mark.parametrize("value", BAD, ids=ascii)
@pytest.mark.parametrize("name", ["api_key", "api_secret"])
def test_what_can_not_be_a_key_is_refused_and_not_repeated(name: str, value: Any) -> None:
    """The message names the field, and holds no part of either value."""
    fields: dict[str, Any] = {"api_key": "another-key", "api_secret": "another-s3cret", name: value}
    with pytest.raises(ConfigurationError) as caught:
        Credentials(**fields)
    text = "".join(traceback.format_exception_only(caught.value))
    assert name in text
    for secret in (KEY, SECRET, "another-key", "another-s3cret"):
        assert secret not in text


@pytest.mark.parametrize("value", [f"{SECRET}\n", f"{SECRET} "], ids=ascii)
def test_a_refused_secret_is_not_in_the_frames_of_its_error(value: str) -> None:
    """Tools that report a traceback with its locals find nothing in frames that are not the user's.

    A secret with a line break at its end is still the secret.
    """
    with pytest.raises(ConfigurationError) as caught:
        Credentials(KEY, value)
    assert frames_with_the_secret(caught.value) == []


@pytest.mark.parametrize("label", ["line\nbreak", "\x1b[31m", None, 17, b"mm-17"])
def test_a_label_is_one_line_of_text(label: Any) -> None:
    """It goes into logs and errors, so it can't hold what would break them."""
    with pytest.raises(ConfigurationError, match="label"):
        Credentials(KEY, SECRET, label=label)


@given(key=st.text(), secret=st.text())
def test_whatever_is_accepted_can_stand_in_a_header(key: str, secret: str) -> None:
    """Accepted or refused, and if accepted, visible ASCII through and through."""
    try:
        made = Credentials(key, secret)
    except ConfigurationError:
        assert not all(
            text and all("!" <= letter <= "~" for letter in text) for text in (key, secret)
        )
        return
    for text in (made.api_key, made.api_secret):
        assert text
        assert all("!" <= letter <= "~" for letter in text)


@given(text=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_every_text_of_visible_ascii_is_accepted(text: str) -> None:
    """Venues make their keys of different alphabets."""
    assert Credentials(text, text).api_secret == text


# From the environment


def test_from_env_reads_two_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """`MASSCANCEL_API_KEY` and `MASSCANCEL_API_SECRET`, unless another prefix is given."""
    monkeypatch.setenv("MASSCANCEL_API_KEY", KEY)
    monkeypatch.setenv("MASSCANCEL_API_SECRET", SECRET)
    monkeypatch.setenv("DESK_7_API_KEY", "other")
    monkeypatch.setenv("DESK_7_API_SECRET", "another")
    assert Credentials.from_env() == Credentials(KEY, SECRET)
    assert Credentials.from_env("MASSCANCEL", label="mm-17") == GOOD
    assert Credentials.from_env("DESK_7") == Credentials("other", "another")


def test_from_env_forgives_what_a_shell_leaves_at_the_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line break after `$(cat file)` is no part of the key."""
    monkeypatch.setenv("MASSCANCEL_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("MASSCANCEL_API_SECRET", f"{SECRET}\r\n")
    assert Credentials.from_env() == Credentials(KEY, SECRET)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, ["DESK_API_KEY", "DESK_API_SECRET"]),
        ({"DESK_API_KEY": KEY}, ["DESK_API_SECRET"]),
        ({"DESK_API_SECRET": SECRET}, ["DESK_API_KEY"]),
        ({"DESK_API_KEY": KEY, "DESK_API_SECRET": ""}, ["DESK_API_SECRET"]),
    ],
)
def test_from_env_names_what_is_missing_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: list[str]
) -> None:
    """The message says which variables to set; it repeats no value."""
    for name in ("DESK_API_KEY", "DESK_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Credentials.from_env("DESK")
    text = str(caught.value)
    assert [name for name in ("DESK_API_KEY", "DESK_API_SECRET") if name in text] == named
    assert KEY not in text
    assert SECRET not in text


@pytest.mark.parametrize("value", [f"{SECRET} {SECRET}", " ", f"{SECRET}é"], ids=ascii)
def test_from_env_refuses_what_can_not_be_a_key(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """A bad value in the environment is not repeated either, nor left in our frames."""
    monkeypatch.setenv("MASSCANCEL_API_KEY", KEY)
    monkeypatch.setenv("MASSCANCEL_API_SECRET", value)
    with pytest.raises(ConfigurationError) as caught:
        Credentials.from_env()
    assert SECRET not in str(caught.value)
    assert frames_with_the_secret(caught.value) == []
