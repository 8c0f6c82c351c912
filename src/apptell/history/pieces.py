"""Puts an overview's SQL together from records and from kept sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from apptell.history.flow_sums import SUM_NAMES, SUMS, Steps, overview_sql
from apptell.history.hourly_sums import HOUR_NS
from apptell.history.questions import ENDED, among, relation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from apptell.history.questions import Question
    from apptell.history.record_files import RecordFile

_NONE: Final = (
    "SELECT 0 AS step, CAST(NULL AS VARCHAR) AS key, CAST(NULL AS VARCHAR) AS label, "
    + ", ".join(f"CAST(0 AS BIGINT) AS {name}" for name in SUM_NAMES)
    + " WHERE false"
)


class Pieces:
    """The sources of an overview, which add up.

    Args:
        key: SQL of the grouping.
        steps: of time.
        by: name of the grouping.
    """

    def __init__(self, key: str, steps: Steps, by: str) -> None:
        self._key, self._steps, self._by = key, steps, by
        self._parts: list[str] = []
        self._values: list[Any] = []
        self._kept: tuple[str, list[Any]] | None = None

    def add_records(self, files: Sequence[RecordFile], question: Question) -> None:
        """Adds the flows of some files that a question means."""
        if not files:
            return
        columns = frozenset[str]().union(*(file.columns for file in files))
        where, values = question.where()
        label = "any_value(app_name)" if self._by == "app" else "CAST(NULL AS VARCHAR)"
        self._parts.append(
            f"SELECT {self._steps.sql()} AS step, {self._key} AS key, {label} AS label, {SUMS} "
            f"FROM ({relation(columns)}) WHERE {ENDED} AND {where} GROUP BY ALL"
        )
        self._values += [[str(file.path) for file in files], *values]

    def add_sums(self, paths: Sequence[Path], question: Question) -> None:
        """Adds kept sums of the whole hours of a question; only once."""
        terms, values = ["grouping = ?"], [self._by]
        for limit, sign in ((question.from_ns, ">="), (question.to_ns, "<")):
            if limit is not None:
                terms.append(f"hour {sign} ?")
                values.append(limit // HOUR_NS)  # type: ignore[arg-type]
        if self._by in question.filters:
            term, wanted = among("key", question.filters[self._by])
            terms.append(term)
            values += wanted
        step = self._steps.sql(f"hour * {HOUR_NS}")
        sql = (
            f"SELECT {step} AS step, key, label, {', '.join(SUM_NAMES)} FROM read_parquet(?) "
            f"WHERE {' AND '.join(terms)}"
        )
        self._kept = sql, [[str(path) for path in paths], *values]

    def whole(self, n_series: int, n_groups: int) -> tuple[str, list[Any]]:
        """The SQL of the overview, and its parameters."""
        kept, values = (None, []) if self._kept is None else self._kept
        pieces = " UNION ALL ".join(self._parts) or _NONE
        return overview_sql(pieces, kept, n_series, n_groups), [*self._values, *values]
