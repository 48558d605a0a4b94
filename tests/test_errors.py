"""The errors: the tree, what each says, and what is known of the outcome."""

from __future__ import annotations

import builtins
import copy
import inspect
import pickle
import re
from typing import TYPE_CHECKING, Any

import pytest

import masscancel
from masscancel import (
    Attempt,
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    Halted,
    InvalidRequest,
    MassCancelError,
    NotFlat,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    ScopeError,
    TransportError,
    Unproven,
    VenueError,
    VenueUnavailable,
    errors,
)
from masscancel.errors import StampRefused

pytestmark = pytest.mark.unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from masscancel.models import Fate

_BRANCH = re.compile(r"^(?P<indent>(?:│   |    )*)(?:├── |└── )(?P<name>\w+)(?P<words>.*)$")


def drawn() -> dict[str, tuple[str | None, str]]:
    """Read the tree in the module's docstring: name to parent and words."""
    tree: dict[str, tuple[str | None, str]] = {}
    path: list[str] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        if line.strip() == "MassCancelError":
            path = ["MassCancelError"]
            tree["MassCancelError"] = (None, "")
        elif match := _BRANCH.match(line.removeprefix("    ")):
            depth = len(match["indent"]) // 4 + 1
            path = [*path[:depth], match["name"]]
            tree[match["name"]] = (path[depth - 1], match["words"])
    return tree


def family(root: type[Any]) -> Iterator[type[Any]]:
    """Every class under the root that the module defines, the root first."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from family(child)


def test_the_drawn_tree_is_the_real_one() -> None:
    """Each class that is drawn stands under its parent, and nothing that is exported is missing."""
    tree = drawn()
    assert len(tree) == 18
    assert sorted(tree) == sorted(errors.__all__)
    for name, (parent, _) in tree.items():
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        assert [base for base in bases if base in tree] == ([parent] if parent else [])


def test_what_is_not_drawn_is_what_the_text_below_the_tree_says() -> None:
    """Only an attempt cut short by the deadline has a class that is not in the tree."""
    tree = drawn()
    hidden = {cls for cls in family(MassCancelError) if cls.__name__ not in tree}
    assert {cls.__bases__ for cls in hidden} == {
        (NotSent, DeadlineExceeded),
        (OutcomeUnknown, DeadlineExceeded),
    }
    assert len(hidden) == 2


@pytest.mark.parametrize("name", sorted(drawn()))
def test_what_each_error_also_is(name: str) -> None:
    """Where the tree says "also a ValueError", that is what an `except` finds, and vice versa."""
    said = {getattr(builtins, also) for also in re.findall(r"also an? (\w+)", drawn()[name][1])}
    is_also = {
        base
        for base in (ValueError, TimeoutError, LookupError, ConnectionError, RuntimeError)
        if issubclass(getattr(errors, name), base)
    }
    assert is_also == said


def test_the_root_catches_everything_that_is_exported() -> None:
    """No exception class of the package is outside the tree, nor derives from BaseException."""
    for name in masscancel.__all__:
        member = getattr(masscancel, name)
        if isinstance(member, type) and issubclass(member, BaseException):
            assert issubclass(member, MassCancelError)
            assert issubclass(member, Exception)


@pytest.mark.parametrize(
    ("error", "may_have_executed"),
    [
        (MassCancelError("x"), False),
        (ConfigurationError("x"), False),
        (ScopeError("x"), False),
        (VenueError(1), False),
        (AuthenticationError(1), False),
        (PermissionDenied(1), False),
        (RateLimited(1), False),
        (InvalidRequest(1), False),
        (StampRefused(1), False),
        (VenueUnavailable(1), True),
        (TransportError("x"), False),
        (NotSent("x"), False),
        (OutcomeUnknown("x"), True),
        (ProtocolError("x"), True),
        (DeadlineExceeded("x"), False),
        (errors.NotSentInTime("x"), False),
        (errors.UnansweredInTime("x"), True),
        (NotFlat("x"), False),
        (Unproven("x"), False),
        (Halted("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_an_error_knows_before_any_attempt_is_told(
    error: MassCancelError, *, may_have_executed: bool
) -> None:
    """Only what came back without an answer that says something may have been carried out."""
    assert error.may_have_executed is may_have_executed
    assert error.attempts == ()


def test_a_deadline_is_caught_as_a_timeout_and_as_what_is_known() -> None:
    """`except TimeoutError` works, and so does `except OutcomeUnknown`."""
    for cut, known in (
        (errors.NotSentInTime("x"), NotSent),
        (errors.UnansweredInTime("x"), OutcomeUnknown),
    ):
        assert isinstance(cut, TimeoutError)
        assert isinstance(cut, DeadlineExceeded)
        assert isinstance(cut, known)


# Attempts


def attempts(*fates: Fate, acts: bool = True) -> list[Attempt]:
    """Attempts with these fates."""
    return [
        Attempt(path="rest", sent_at_ms=1_000 + number, fate=fate, acts=acts)
        for number, fate in enumerate(fates)
    ]


@pytest.mark.parametrize(
    ("tried", "may_have_executed"),
    [
        ([], False),
        (attempts("refused"), False),
        (attempts("not sent"), False),
        (attempts("not sent", "not sent", "refused"), False),
        (attempts("unknown"), True),
        (attempts("open"), True),
        (attempts("answered"), True),
        (attempts("unknown", "refused"), True),
        (attempts("refused", "unknown"), True),
        (attempts("unknown", "not sent"), True),
        (attempts("not sent", "open", "refused"), True),
        (attempts("answered", "refused"), True),
        (attempts("unknown", "open", "answered", acts=False), False),
        (attempts("unknown", acts=False) + attempts("refused"), False),
        (attempts("answered", acts=False) + attempts("unknown"), True),
        (attempts("answered", acts=False) + attempts("not sent", "refused"), False),
    ],
    ids=lambda value: (
        " ".join(f"{one.fate}{'' if one.acts else ' listing'}" for one in value) or "none"
        if isinstance(value, list)
        else ""
    ),
)
@pytest.mark.parametrize(
    "kind", [MassCancelError, NotSent, OutcomeUnknown, ProtocolError, DeadlineExceeded, NotFlat]
)
def test_the_attempts_decide_what_may_have_been_carried_out(
    kind: type[Any], tried: list[Attempt], *, may_have_executed: bool
) -> None:
    """Any attempt that may have been carried out counts, whatever the last one saw."""
    error = kind("x")
    error.describe(iter(tried), context="cancel_all cash")
    assert error.may_have_executed is may_have_executed
    assert error.attempts == tuple(tried)
    assert ("may have been carried out" in str(error)) is may_have_executed


def test_the_text_says_whose_call_what_was_tried_and_what_is_known() -> None:
    """Context, message, attempts and consequence, in that order, on one line."""
    error = OutcomeUnknown("the connection was closed")
    error.describe(attempts("not sent", "unknown"), context="cancel_all cash BTC/USDT [mm-17]")
    assert str(error) == (
        "cancel_all cash BTC/USDT [mm-17]: the connection was closed; "
        "attempts: 1 not sent, 1 unknown; "
        "the cancel may have been carried out: list the open orders to know"
    )


def test_the_text_of_a_refusal_says_that_nothing_was_cancelled() -> None:
    """One attempt, refused: nothing happened, and the advice follows."""
    error = AuthenticationError(200001, "AUTHENTICATION_FAILED", "Authorization failed", 200)
    error.describe(attempts("refused"), context="cancel_all cash")
    assert str(error) == (
        "cancel_all cash: 200001 AUTHENTICATION_FAILED: Authorization failed; "
        "attempts: 1 refused; nothing was cancelled by this call; "
        "check the API key and secret, and that they belong to this venue"
    )


def test_the_text_of_a_failed_listing_does_not_speak_of_a_cancel() -> None:
    """A listing cancels nothing, so whether it arrived is of no consequence."""
    error = OutcomeUnknown("the connection was closed")
    error.describe(attempts("unknown", acts=False), context="open_orders cash")
    assert str(error) == "open_orders cash: the connection was closed; attempts: 1 unknown"


def test_the_text_stays_short_however_much_was_tried() -> None:
    """A venue without a cancel-all takes a call per symbol: thousands of attempts in one error."""
    error = OutcomeUnknown("the connection was closed")
    tried = attempts("unknown", "answered") + attempts("answered", acts=False) * 5_000
    error.describe(tried + attempts("not sent") * 300, context="cancel_all spot")
    assert len(error.attempts) == 5_302
    assert "attempts: 1 unknown, 5001 answered, 300 not sent" in str(error)
    assert len(str(error)) < 300


def test_a_bare_error_says_its_message_and_nothing_else() -> None:
    """Without context, attempts or advice, the text is the message."""
    assert str(ConfigurationError("no such thing")) == "no such thing"
    assert ConfigurationError("no such thing").message == "no such thing"


@pytest.mark.parametrize(
    "kind", [AuthenticationError, PermissionDenied, RateLimited, StampRefused, NotFlat, Unproven]
)
def test_errors_that_a_person_can_act_on_say_how(kind: type[Any]) -> None:
    """The advice is the end of the text."""
    assert kind.advice
    assert str(kind("x")).endswith(f"; {kind.advice}")


# What a venue said


@pytest.mark.parametrize("kind", sorted(family(VenueError), key=str))
def test_a_venue_error_keeps_what_the_venue_said(kind: type[VenueError]) -> None:
    """Code, reason, message and status are fields, as they were given."""
    error = kind(900123, "SOME_REASON", "Some sentence.", 418, retry_after=2.5)
    assert (error.code, error.reason, error.http_status) == (900123, "SOME_REASON", 418)
    assert error.retry_after == 2.5
    assert "900123 SOME_REASON: Some sentence. (HTTP 418)" in str(error)


def test_the_message_of_a_venue_error_is_the_venues_sentence() -> None:
    """`VenueError(code, reason, message, http_status)` has fields of these names."""
    error = VenueError(900123, "SOME_REASON", "Some sentence.", 400)
    assert error.message == "Some sentence."


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((), "refused"),
        ((None, "", "", 200), "refused"),
        ((7,), "7"),
        ((0,), "0"),
        (("EAPI:Invalid key",), "EAPI:Invalid key"),
        ((7, "WHY"), "7 WHY"),
        ((None, "WHY"), "WHY"),
        ((None, "", "A sentence."), "A sentence."),
        ((7, "", "A sentence."), "7: A sentence."),
        ((7, "the same", "the same"), "7 the same"),
        ((None, "", "", 502), "HTTP 502"),
        ((7, "WHY", "A sentence.", 200), "7 WHY: A sentence."),
        ((7, "WHY", "A sentence.", 503), "7 WHY: A sentence. (HTTP 503)"),
    ],
)
def test_the_words_of_a_venue_error(fields: tuple[Any, ...], text: str) -> None:
    """Whatever the venue gave is said once; nothing is made up."""
    assert str(VenueError(*fields)) == text


def test_what_a_peer_says_does_not_break_out_of_its_line() -> None:
    """Line breaks and terminal escapes in a venue's words can't forge a line of a log."""
    error = VenueError("1\n", "WHY\r\n", "ok\n2026-01-01 INFO all flat\x1b[2K", 200)
    assert str(error).isprintable()


def test_fields_of_the_other_errors() -> None:
    """`residual` is a tuple, whatever it was made from; `until` may be unknown."""
    assert NotFlat("x", residual=iter(())).residual == ()
    assert Halted("x").until is None
    assert Halted("x", until=1_700_000_000_000).until == 1_700_000_000_000


@pytest.mark.parametrize(
    "error",
    [
        VenueError(1, "WHY", "A sentence.", 503),
        RateLimited(retry_after=1.5),
        VenueUnavailable(510001, "SERVER_ERROR"),
        OutcomeUnknown("x"),
        errors.NotSentInTime("x"),
        errors.UnansweredInTime("x"),
        DeadlineExceeded("x"),
        NotFlat("x"),
        Halted("x", until=3),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301  # its own pickle
    ],
)
def test_errors_survive_copying_and_pickling(duplicate: Any, error: MassCancelError) -> None:
    """So they cross processes, with everything they know."""
    error.describe(attempts("unknown", "refused"), context="cancel_all cash")
    error.add_note("a note")
    again = duplicate(error)
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_an_error_does_not_retell_the_attempts_of_another() -> None:
    """Two errors of one class share nothing."""
    first, second = NotSent("x"), NotSent("x")
    first.describe(attempts("unknown"), context="cancel_all cash")
    assert (second.attempts, second.context, second.may_have_executed) == ((), "", False)
