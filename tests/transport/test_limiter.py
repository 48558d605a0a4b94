"""Places for requests in flight, and turns of a key whose nonces have an order."""

import asyncio
from collections.abc import Callable

import pytest

from masscancel.calls import Precedence
from masscancel.transport.limiter import Limiter, Ticket, turns_of

CANCEL, NEEDED, OTHER = Precedence.CANCEL, Precedence.NEEDED, Precedence.OTHER


def taker(taken: list[str], name: str) -> Callable[[], None]:
    """What notes that a place has been handed over."""
    return lambda: taken.append(name)


def test_places_are_taken_in_turn() -> None:
    """Whoever waits gets the next place that is given back, in the order of asking."""
    taken: list[str] = []
    limiter = Limiter(1)
    first = limiter.acquire(taker(taken, "first"))
    second = limiter.acquire(taker(taken, "second"))
    third = limiter.acquire(taker(taken, "third"))
    assert (first.held, second.held, third.held) == (True, False, False)
    first.release()
    assert taken == ["second"]
    second.release()
    assert (taken, third.held) == (["second", "third"], True)


def test_who_waits_no_longer_is_passed_over() -> None:
    """A ticket that is released while it waits gets no place, and gives none back."""
    taken: list[str] = []
    limiter = Limiter(1)
    first = limiter.acquire(taker(taken, "first"))
    second = limiter.acquire(taker(taken, "second"))
    third = limiter.acquire(taker(taken, "third"))
    second.release()
    first.release()
    assert taken == ["third"]
    third.release()
    assert limiter.acquire(taker(taken, "fourth")).held
    assert not limiter.acquire(taker(taken, "fifth")).held


def test_a_ticket_is_released_once() -> None:
    """To release a ticket again gives no second place."""
    limiter = Limiter(1)
    ticket = limiter.acquire(lambda: None)
    ticket.release()
    ticket.release()
    assert limiter.acquire(lambda: None).held
    assert not limiter.acquire(lambda: None).held


def test_starts_go_before_those_who_wait() -> None:
    """A fan-out starts the next target before anybody asks for a second request."""
    waiting = ["b", "c"]
    started: list[Ticket] = []

    def start_next() -> bool:
        if not waiting:
            return False
        waiting.pop(0)
        started.append(limiter.held())
        return True

    taken: list[str] = []
    limiter = Limiter(1, start_next)
    assert limiter.start_one()
    assert not limiter.start_one()
    again = limiter.acquire(taker(taken, "again"))
    started[0].release()
    assert (len(started), taken, again.held) == (2, [], False)
    started[1].release()
    assert (taken, again.held) == (["again"], True)


def test_a_cancel_waits_for_no_listing() -> None:
    """Listings of a key under way hold no cancel of it up; they wait for each other and for it."""
    loop = asyncio.new_event_loop()
    taken: list[str] = []
    turns = turns_of(loop, "key")
    listing = turns.acquire(taker(taken, "listing"), OTHER)
    other = turns.acquire(taker(taken, "other"), OTHER)
    needed = turns.acquire(taker(taken, "needed"), NEEDED)
    cancel = turns.acquire(taker(taken, "cancel"), CANCEL)
    held = (listing.held, other.held, needed.held, cancel.held)
    assert held == (True, False, True, True)
    listing.release()
    needed.release()
    assert taken == []  # a cancel is under way: a listing's nonce would come after it
    cancel.release()
    assert taken == ["other"]
    loop.close()


def test_cancels_of_a_key_go_one_after_another() -> None:
    """The next cancel of a key leaves when the one before it is answered; before any listing."""
    loop = asyncio.new_event_loop()
    taken: list[str] = []
    turns = turns_of(loop, "key")
    first = turns.acquire(taker(taken, "first"), CANCEL)
    turns.acquire(taker(taken, "listing"), OTHER)
    second = turns.acquire(taker(taken, "second"), CANCEL)
    first.release()
    assert taken == ["second"]
    second.release()
    assert taken == ["second", "listing"]
    loop.close()


def test_keys_have_turns_of_their_own() -> None:
    """A key that is busy holds no other key up."""
    loop = asyncio.new_event_loop()
    assert turns_of(loop, "one").acquire(lambda: None, CANCEL).held
    assert turns_of(loop, "two").acquire(lambda: None, CANCEL).held
    loop.close()


@pytest.mark.asyncio
async def test_a_turn_that_is_not_answered_passes_on() -> None:
    """An attempt that hangs holds the next up for a while only."""
    loop = asyncio.get_running_loop()
    turns = turns_of(loop, "hangs", patience=0.01)
    passed_on = asyncio.Event()
    first = turns.acquire(lambda: None, CANCEL)
    second = turns.acquire(passed_on.set, CANCEL)
    first.written(loop)
    await passed_on.wait()
    assert second.held
    first.release()  # too late: it is the second's turn
    assert not turns.acquire(lambda: None, CANCEL).held


def test_thousands_give_their_place_back_at_once() -> None:
    """A limit that leaves nobody anything to send: each gets the place, in turn, and gives it back.

    One after another, not one within another: there are more than the stack could hold.
    """
    taken: list[int] = []
    limiter = Limiter(1)
    first = limiter.acquire(list)

    def wait(number: int) -> None:
        def ready() -> None:
            taken.append(number)
            ticket.release()

        ticket = limiter.acquire(ready)

    for number in range(5_000):
        wait(number)
    first.release()
    assert taken == [*range(5_000)]
    assert limiter.acquire(list).held


@pytest.mark.asyncio
async def test_thousands_give_their_turn_back_at_once() -> None:
    """The same of the turns of a key; cancels come first all the same."""
    taken: list[int] = []
    turns = turns_of(asyncio.get_running_loop(), "a key of many")
    first = turns.acquire(list, CANCEL)

    def wait(number: int, precedence: Precedence) -> None:
        def ready() -> None:
            taken.append(number)
            turn.release()

        turn = turns.acquire(ready, precedence)

    for number in range(5_000):
        wait(number, OTHER if number % 2 else CANCEL)
    first.release()
    assert taken == [*range(0, 5_000, 2), *range(1, 5_000, 2)]
    assert turns.acquire(list, OTHER).held
