"""A job: what one public call is doing, by when, and where its requests wait for their turn."""

from typing import Final

from masscancel.attempt import Try
from masscancel.errors import MassCancelError
from masscancel.gate import OrderGate
from masscancel.lanes import Lanes
from masscancel.models import Attempt, Via
from masscancel.session import Turn

__all__ = ["NOWHERE", "TOO_LATE", "Job", "Places"]

#: Of what was never tried.
TOO_LATE: Final = "the time was up before anything could be sent"


class Places:
    """The places that one attempt holds."""

    __slots__ = ("_lanes", "turn")

    def __init__(self, lanes: Lanes | None = None, turn: Turn | None = None) -> None:
        self._lanes = lanes
        self.turn = turn

    def leave(self) -> None:
        """Give them back. Once for each that entered."""
        if self._lanes is not None:
            self._lanes.leave()
        if self.turn is not None:
            self.turn.leave()


NOWHERE: Final = Places()


class Job:
    """What one public call is doing.

    Args:
        words: the call, the category and symbol of its scope, the venue's name, the label.
        deadline: when its time is up, in the loop's time.
        lanes: where its requests wait for their turn; ``None`` if they never queue.
        gate: what learns of each attempt to cancel.
        via: which way a cancel goes, where its venue has more than one.
        urgent: whether it is there to cancel; its listings then are as urgent as its cancels.
    """

    __slots__ = ("_tries", "_whole", "_words", "deadline", "gate", "lanes", "urgent", "via")

    def __init__(
        self,
        words: tuple[str, object, object, str, str],
        deadline: float,
        lanes: Lanes | None = None,
        gate: OrderGate | None = None,
        via: Via = "rest",
        *,
        urgent: bool = True,
    ) -> None:
        self._words = words
        self.urgent = urgent
        self.via = via
        self.deadline = deadline
        self.lanes = lanes
        self.gate = gate
        self._whole: Job | None = None
        self._tries: list[Try] = []

    def within(self, deadline: float) -> "Job":
        """A part of this job, with a deadline of its own; its attempts are this job's, too."""
        part = Job(
            self._words,
            min(deadline, self.deadline),
            self.lanes,
            self.gate,
            self.via,
            urgent=self.urgent,
        )
        part._whole = self  # of the same kind
        return part

    @property
    def what(self) -> str:
        """Its words for errors, such as ``cancel_all cash BTC/USDT on ascendex [mm-1]``."""
        call, account_category, symbol, venue, label = self._words
        scope = [str(word) for word in (account_category, symbol) if word not in (None, "")]
        said = [call, *(word for word in scope if word.isprintable()), "on", venue]
        return " ".join([*said, f"[{label}]"] if label else said)

    def begin(self, attempt: Try) -> None:
        """Take note of an attempt, before it is made."""
        self._note(attempt)
        if attempt.call.acts and self.gate is not None:
            self.gate.register(attempt)

    def _note(self, attempt: Try) -> None:
        self._tries.append(attempt)
        if self._whole is not None:
            self._whole._note(attempt)  # noqa: SLF001  # of the same kind

    def attempts(self) -> tuple[Attempt, ...]:
        """What has been tried so far, oldest first."""
        return tuple(attempt.freeze() for attempt in self._tries)

    def describe(self, error: MassCancelError) -> None:
        """Tell an error whose it is, and what had been tried."""
        error.describe(self.attempts(), context=self.what)
