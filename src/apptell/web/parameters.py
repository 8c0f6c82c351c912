"""Reads the parameters of requests, with one clear sentence for each that is wrong."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from apptell.errors import UsageError
from apptell.history.questions import GROUPINGS, SORTS, Question

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

_SECOND_NS: Final = 1_000_000_000
_UNITS_S: Final = {"m": 60, "h": 3600, "d": 86_400}
_LAST: Final = re.compile(r"(\d{1,5})([mhd])")
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?"
)
MAX_ROWS: Final = 500
MAX_OFFSET: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a table."""

    sort: str
    is_descending: bool
    limit: int
    offset: int


def read_time(text: str) -> int:
    """A time as ns since 1970 UTC, from RFC 3339; without an offset it is UTC.

    Raises:
        UsageError: it is not a time.
    """
    found = _RFC3339.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text[:40]!r} is not a time such as 2026-01-31T12:00:00Z")
    day, clock, fraction, offset = found.groups()
    zone = "+00:00" if offset in (None, "Z", "z") else offset
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{text[:40]!r} is not a time such as 2026-01-31T12:00:00Z") from None
    whole = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    ns = whole * _SECOND_NS + int((fraction or "0").ljust(9, "0"))
    if not 0 <= ns < 1 << 62:
        raise UsageError(f"{text[:40]!r} is before 1970 or too late")
    return ns


def read_question(query: QueryParams, now_ns: int | None = None) -> Question:
    """The flows that a request means: ``from`` and ``to``, or ``last``; ``q``; and a filter for each grouping.

    Raises:
        UsageError: a value is not understood.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    from_ns = read_time(query["from"]) if query.get("from") else None
    to_ns = read_time(query["to"]) if query.get("to") else None
    last = query.get("last")
    if last and last != "all":
        found = _LAST.fullmatch(last)
        if found is None:
            raise UsageError(f"last={last[:20]!r} is not a time such as 24h, 7d or all")
        from_ns, to_ns = now_ns - int(found[1]) * _UNITS_S[found[2]] * _SECOND_NS, None
    if from_ns is not None and to_ns is not None and from_ns >= to_ns:
        raise UsageError("from is not before to")
    filters = {name: query.getlist(name) for name in GROUPINGS if name in query}
    return Question(
        max(from_ns, 0) if from_ns is not None else None, to_ns, filters, query.get("q", "")
    )


def read_number(query: QueryParams, name: str, default: int, most: int) -> int:
    """A whole number from 0 to ``most``.

    Raises:
        UsageError: it is not one.
    """
    text = query.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 20 or int(text) > most:
        raise UsageError(f"{name}={text[:20]!r} is not a number from 0 to {most:,}")
    return int(text)


def read_choice(query: QueryParams, name: str, choices: tuple[str, ...]) -> str:
    """One of some words; the first is the default.

    Raises:
        UsageError: it is none of them.
    """
    text = query.get(name) or choices[0]
    if text not in choices:
        raise UsageError(f"{name}={text[:40]!r} is none of {', '.join(choices)}")
    return text


def read_page(query: QueryParams) -> Page:
    """The page of a table: ``sort``, ``order``, ``limit`` and ``offset``.

    Raises:
        UsageError: a value is not understood.
    """
    return Page(
        read_choice(query, "sort", tuple(SORTS)),
        read_choice(query, "order", ("desc", "asc")) == "desc",
        max(read_number(query, "limit", 50, MAX_ROWS), 1),
        read_number(query, "offset", 0, MAX_OFFSET),
    )
