"""Parses single fields of logs: numbers, ports, user ids and times, each within its range.

Phones write logs in their owner's language, so decimal digits of every script are accepted. Values that are
out of range raise ``ValueError`` here, so that no later code meets a port of 70,000 or a time that fits no
column.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

MAX_PORT: Final = 65_535
MAX_PROTOCOL: Final = 255
MAX_TIME_NS: Final = 2**63 - 1
_INT32: Final = 2**31
_MS: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MAX_NUMBER_CHARS: Final = 40
_MAX_DIGITS: Final = 20
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}(?:\.0{0,9})?")
_SCALES: Final = (1_000_000_000, 1_000_000, 1000, 1)
"""Nanoseconds of a second, a millisecond, a microsecond and a nanosecond."""
_LATEST_NS: Final = Decimal(10) ** 19
"""A number of seconds beyond this many ns (the year 2286) is one of a smaller unit."""


def ascii_digits(text: str) -> str:
    """The text with decimal digits of every script (``٤٤٣``) as those of ASCII (``443``)."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(character, character)) for character in text)


def integer(value: Any, least: int, most: int) -> int:
    """A whole number within a range.

    Args:
        value: text, or a number as JSON has it.
        least: the smallest value that is allowed.
        most: the largest.

    Raises:
        ValueError: it is no whole number, or out of range.
    """
    text = value if isinstance(value, str) else str(value)
    text = ascii_digits(text.strip())
    if len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit():
        number = int(text)
    elif _INTEGER.fullmatch(text):
        number = int(text.partition(".")[0])
    else:
        raise ValueError(f"{text[:_MAX_NUMBER_CHARS]!r} is not a whole number")
    if not least <= number <= most:
        raise ValueError(f"{number} is not between {least} and {most}")
    return number


def enough(cells: Sequence[str], n: int) -> Sequence[str]:
    """The cells of a row that has at least so many.

    Raises:
        ValueError: the row is cut short.
    """
    if len(cells) < n:
        raise ValueError(f"{len(cells)} fields, not {n}")
    return cells


def port(value: Any) -> int:
    """A port; 0 where the field is empty."""
    return integer(value, 0, MAX_PORT) if value not in ("", None) else 0


def uid(value: Any) -> int:
    """An Android uid, 32 bits with sign."""
    return integer(value, -_INT32, _INT32 - 1)


def milliseconds_ns(value: Any) -> int:
    """Milliseconds since 1970 as ns."""
    return integer(value, 0, MAX_TIME_NS // _MS) * _MS


def iso_ns(text: str, zone: tzinfo | None = None) -> int:
    """A time of ISO 8601 in ns since 1970 UTC, exact to a microsecond.

    Args:
        text: ``2023-11-14T22:13:20.000+01:00``, with or without its parts behind the day.
        zone: of a time that names none; None refuses such a time.

    Raises:
        ValueError: it is not such a time, has no zone although one is needed, or lies before 1970.
    """
    parsed = datetime.fromisoformat(ascii_digits(text.strip()))
    if parsed.tzinfo is None:
        if zone is None:
            raise ValueError(f"the time {text[:_MAX_NUMBER_CHARS]!r} has no zone")
        parsed = parsed.replace(tzinfo=zone)
    return moment_ns(parsed)


def moment_ns(moment: datetime) -> int:
    """An aware datetime in ns since 1970 UTC, exact to a microsecond.

    Raises:
        ValueError: it lies before 1970 or after 2262.
    """
    try:
        microseconds = (moment - _EPOCH) // _MICROSECOND
    except OverflowError as error:
        raise ValueError(str(error)) from error
    if not 0 <= microseconds * 1000 <= MAX_TIME_NS:
        raise ValueError(f"the time {moment.isoformat()} is not between 1970 and 2262")
    return microseconds * 1000


def time_ns(value: Any, zone: tzinfo | None = None) -> int:
    """A time in ns since 1970 UTC, from s, ms, us or ns since then (detected by size) or from ISO 8601.

    Args:
        value: text, or a number as JSON has it.
        zone: of a time of ISO 8601 that names none; None takes UTC.

    Raises:
        ValueError: it is none of these, or out of range.
    """
    text = ascii_digits(str(value).strip())
    number = _decimal(text)
    if number is None:
        return iso_ns(text, zone or UTC)
    for scale in _SCALES:
        if 0 <= number * scale < _LATEST_NS:
            found = int(number * scale)
            if found <= MAX_TIME_NS:
                return found
    raise ValueError(f"{text[:_MAX_NUMBER_CHARS]!r} is not a time since 1970")


def duration_ns(value: Any) -> int:
    """Seconds as ns, 0 to 292 years.

    Raises:
        ValueError: it is no number, or out of range.
    """
    number = _decimal(ascii_digits(str(value).strip()))
    if number is None or not 0 <= number * _SCALES[0] <= MAX_TIME_NS:
        raise ValueError(f"{str(value)[:_MAX_NUMBER_CHARS]!r} is not a duration")
    return int(number * _SCALES[0])


def _decimal(text: str) -> Decimal | None:
    """A finite number of reasonable length, exactly; None for anything else.

    Decimal keeps an exponent as it is, where a fraction would multiply 1e9999999 out.
    """
    if len(text) > _MAX_NUMBER_CHARS:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < _MAX_NUMBER_CHARS else None
