"""Values in the venues' own spellings: decimals, sides, times."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from masscancel.calls import Reply
from masscancel.errors import ProtocolError

#: Decimal places before or after the point: what has more is no price and no quantity, and sums of
#: such numbers overflow.
_LARGEST: Final = 32


def decimal(value: str | float | None) -> Decimal:
    """A number that a venue wrote as text or as a number; zero for none, or for empty text.

    Raises:
        ProtocolError: the text is no finite number, or one beyond any price or quantity.
    """
    if value is None or value == "":
        return Decimal(0)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > _LARGEST:
        raise ProtocolError("the reply can't be understood: a price or quantity is no number")
    return number


def side(word: str) -> Literal["buy", "sell"]:
    """A side, however a venue spells it.

    Raises:
        ProtocolError: the word is neither.
    """
    match word.lower():
        case "buy" | "b":
            return "buy"
        case "sell" | "s":
            return "sell"
    raise ProtocolError("the reply can't be understood: a side in it is neither buy nor sell")


def text_of(value: object) -> str:
    """A text that is for people alone; ``""`` for anything else."""
    return value if isinstance(value, str) else ""


def is_true(value: object) -> bool:
    """Whether a venue says yes: ``true``, or a word for that; anything else is no."""
    return value is True or (isinstance(value, str) and value.lower() in ("true", "yes"))


def whole_of(value: object) -> int | None:
    """A whole number that is for people alone; ``None`` for anything else, a bool too."""
    return value if type(value) is int else None


#: Of longer numbers in headers, none means anything.
_DIGITS: Final = 15


def header_number(reply: Reply, name: str) -> int | None:
    """A whole number in a header; ``None`` where there is none."""
    text = reply.headers.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def milliseconds(text: str | None) -> int:
    """An RFC 3339 time, in ms since the epoch.

    Raises:
        ProtocolError: the text is none.
    """
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        moment = None
    if moment is None:
        raise ProtocolError("the reply can't be understood: a time in it is none")
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)


#: The longest wait that is believed, in seconds: no documented ban is longer (Binance, "Limits").
LONGEST_WAIT: Final = 3 * 86_400.0


def wait_until(until_ms: float, now_ms: int, longest: float = LONGEST_WAIT) -> float:
    """The wait until a time of the venue's, in seconds; never longer than the longest."""
    return min(max(0.0, (until_ms - now_ms) / 1000), longest)


def retry_after(reply: Reply, now_ms: int) -> float | None:
    """The wait that a reply asks for, in seconds: RFC 9110 section 10.2.3, both forms."""
    value = reply.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), LONGEST_WAIT)
    until_ms = http_date(value)
    return None if until_ms is None else wait_until(until_ms, now_ms)


def http_date(value: str) -> int | None:
    """A date of HTTP's, ms since the epoch: RFC 9110 section 5.6.7."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:  # all of HTTP's dates are in UTC
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
