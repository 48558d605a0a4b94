"""What the tests of retries share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from masscancel import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    RetryPolicy,
    ScopeError,
    VenueError,
    VenueUnavailable,
)
from masscancel.engine.retry import Retry
from masscancel.errors import NotSentInTime, StampRefused, UnansweredInTime
from masscancel.transport.ledger import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable


POLICY = RetryPolicy()


def make(
    *,
    policy: RetryPolicy = POLICY,
    budget: RetryBudget | None = None,
    started: float = 0.0,
    deadline: float = 5.0,
    urgent: bool = True,
    repeatable: bool = True,
    cancels: bool = True,
    patience: float | None = None,
    draw: Callable[[], float] = lambda: 0.5,
) -> Retry:
    """Decisions for one call, by default with half of every draw."""
    return Retry(
        policy,
        budget or RetryBudget(),
        started=started,
        deadline=deadline,
        urgent=urgent,
        repeatable=repeatable,
        cancels=cancels,
        patience=patience,
        draw=draw,
    )


TWICE = [  # the error, what happens if the call may be repeated, and if it may not
    (NotSent("x"), True, True),
    (NotSentInTime("x"), True, True),
    (OutcomeUnknown("x"), True, False),
    (UnansweredInTime("x"), True, False),
    (ProtocolError("x"), True, False),
    (VenueUnavailable(510001), True, False),
    (VenueUnavailable(510001, retry_after=0.2), True, False),
    (RateLimited(200002), True, True),
    (RateLimited(200002, retry_after=0.2), True, True),
    (StampRefused(100011), True, True),
    (VenueError(999999), False, False),
    (AuthenticationError(200001), False, False),
    (PermissionDenied(200015), False, False),
    (InvalidRequest(100008), False, False),
    (ConfigurationError("x"), False, False),
    (ScopeError("x"), False, False),
    (DeadlineExceeded("x"), False, False),
    (MassCancelError("x"), False, False),
]
