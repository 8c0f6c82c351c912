"""What can be asked of a history: a range of time, filters, a text, a grouping and an order.

A question becomes SQL whose text depends only on the names of columns that are listed here; every value of a
user is a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import UsageError
from apptell.records.schema import END, LIVE_RECORD

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

GROUPINGS: Final[Mapping[str, str]] = {
    "app": "app",
    "category": "category",
    "client": "client_address",
    "server": "coalesce(server_name, http_host, dns_name, server_address)",
    "service": "CASE WHEN app IS NULL THEN service END",
    "evidence": "evidence",
    "model": "model",
    "outcome": "outcome",
    "protocol": "protocol",
}
"""Name of a grouping, which is also a filter, to its SQL."""
ENDED: Final = f"(event = '{END}' OR event IS NULL)"
"""Records of whole flows; those of ``identify`` have no event."""
SEARCHED: Final = (
    "app",
    "app_name",
    "service",
    "server_name",
    "http_host",
    "dns_name",
    "client_address",
    "server_address",
    "community_id",
    "ja4",
)
"""Columns in which a text is searched."""
SORTS: Final[Mapping[str, str]] = {
    "time": "time",
    "app": "app",
    "client": "client_address",
    "server": GROUPINGS["server"],
    "confidence": "confidence",
    "packets": "packets_to_server + packets_to_client",
    "bytes": "bytes_to_server + bytes_to_client",
    "duration": "epoch_ns(end_time) - epoch_ns(time)",
}
"""Name of an order to its SQL."""
MAX_VALUES: Final = 100
"""Values of one filter."""
MAX_TEXT: Final = 200
"""Characters of a filter's value or of a search."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which flows are meant. A flow is counted once it has ended.

    Raises:
        UsageError: a filter is not known, or a value is too long.
    """

    from_ns: int | None = None
    """Earliest start of a flow, ns since 1970 UTC; None for no limit."""
    to_ns: int | None = None
    """The start of a flow is before this time."""
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Grouping to the values that are wanted; an empty text stands for flows without a value."""
    text: str = ""
    """Occurs in one of the columns ``SEARCHED``, in any case."""

    def __post_init__(self) -> None:
        for name, values in self.filters.items():
            if name not in GROUPINGS:
                raise UsageError(f"no filter {name!r}; available: {', '.join(GROUPINGS)}")
            if len(values) > MAX_VALUES or any(len(value) > MAX_TEXT for value in values):
                raise UsageError(
                    f"filter {name}: more than {MAX_VALUES} values, or one of over {MAX_TEXT} characters"
                )
        if len(self.text) > MAX_TEXT:
            raise UsageError(f"a search has at most {MAX_TEXT} characters")

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its parameters in order."""
        terms: list[str] = []
        values: list[Any] = []
        for limit, sign in ((self.from_ns, ">="), (self.to_ns, "<")):
            if limit is not None:
                terms.append(f"time {sign} make_timestamp_ns(?)::TIMESTAMPTZ_NS")
                values.append(limit)
        for name, wanted in self.filters.items():
            term, parameters = among(GROUPINGS[name], wanted)
            terms.append(term)
            values += parameters
        if self.text:
            found = " OR ".join(f"contains(lower({column}), ?)" for column in SEARCHED)
            terms.append(f"({found})")
            values += [self.text.lower()] * len(SEARCHED)
        return " AND ".join(terms) or "true", values


def among(column: str, wanted: Sequence[str]) -> tuple[str, list[Any]]:
    """The condition in SQL that a column has one of some values, and its parameters; an empty text is null."""
    there = [value for value in wanted if value]
    terms = []
    if there:
        terms.append(f"{column} IN ({', '.join('?' * len(there))})")
    if len(there) < len(wanted) or not wanted:
        terms.append(f"{column} IS NULL")
    return f"({' OR '.join(terms)})", list(there)


def grouping(name: str) -> str:
    """The SQL of a grouping.

    Raises:
        UsageError: there is no such grouping.
    """
    if name not in GROUPINGS:
        raise UsageError(f"no grouping {name!r}; available: {', '.join(GROUPINGS)}")
    return GROUPINGS[name]


def ordering(name: str, *, descending: bool) -> str:
    """The SQL of an order; flows of equal rank stand in the order of their start.

    Raises:
        UsageError: there is no such order.
    """
    if name not in SORTS:
        raise UsageError(f"no order {name!r}; available: {', '.join(SORTS)}")
    way = "DESC" if descending else "ASC"
    tie = "" if name == "time" else f", time {way}"
    return f"{SORTS[name]} {way} NULLS LAST{tie}"


SQL_TYPES: Final = {
    "string": "VARCHAR",
    "bool": "BOOLEAN",
    "double": "DOUBLE",
    "int64": "BIGINT",
    "int32": "INTEGER",
    "uint16": "USMALLINT",
    "uint64": "UBIGINT",
    "timestamp[ns, tz=UTC]": "TIMESTAMPTZ_NS",
}
"""The type of a record's column to its type in SQL."""


def relation(columns: Collection[str]) -> str:
    """The records of some files as SQL, with every column of a live record; the files are a parameter.

    Args:
        columns: those that at least one of the files has; others are null.
    """
    chosen = []
    for record_field in LIVE_RECORD:
        kind = SQL_TYPES[str(record_field.type)]
        name = f'"{record_field.name}"'
        value = (
            f"CAST({name} AS {kind})" if record_field.name in columns else f"CAST(NULL AS {kind})"
        )
        chosen.append(f"{value} AS {name}")
    return f"SELECT {', '.join(chosen)} FROM read_parquet(?, union_by_name=true)"
