"""The sums that a history answers with: flows, packets and bytes by group and over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from apptell.verdicts.schema import OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

SECOND_NS: Final = 1_000_000_000
STEPS_S: Final = (
    1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 604_800, 2_592_000,
)  # fmt: skip
"""Widths of a step of time, s."""
SUM_NAMES: Final = ("flows", "named", "packets", "bytes_to_server", "bytes_to_client")
"""What is summed; each is a column of the SQL in ``SUMS`` and an attribute of ``FlowGroup``."""
SUMS: Final = (
    "count(*) AS flows, "
    f"count(CASE WHEN app <> '{OTHER}' THEN app END) AS named, "
    "CAST(sum(packets_to_server + packets_to_client) AS BIGINT) AS packets, "
    "CAST(sum(bytes_to_server) AS BIGINT) AS bytes_to_server, "
    "CAST(sum(bytes_to_client) AS BIGINT) AS bytes_to_client"
)


@dataclass(frozen=True, slots=True)
class FlowGroup:
    """The sums of the flows that share a value."""

    key: str | None
    """The value; None for flows without one."""
    label: str | None = None
    """For an app, its name as its vendor writes it."""
    flows: int = 0
    named: int = 0
    """Flows of apps; those of background (``other``) are not counted."""
    packets: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0

    @property
    def bytes(self) -> int:
        """Bytes in both directions."""
        return self.bytes_to_server + self.bytes_to_client


@dataclass(frozen=True, slots=True)
class Steps:
    """Equal steps of time."""

    start_ns: int
    """Where the first step begins, ns since 1970 UTC."""
    step_ns: int
    n: int

    @classmethod
    def over(cls, start_ns: int, end_ns: int, about: int) -> Steps:
        """Steps that cover a range of time; round widths, so that there are ``about`` of them or fewer."""
        span_s = max(end_ns - start_ns, 1) / SECOND_NS
        width_s = next((s for s in STEPS_S if span_s / s <= about), None)
        if width_s is None:
            width_s = STEPS_S[-1] * int(span_s / STEPS_S[-1] / about + 1)
        step_ns = width_s * SECOND_NS
        start_ns -= start_ns % step_ns
        return cls(start_ns, step_ns, max(-(-(end_ns - start_ns) // step_ns), 1))

    def sql(self, time_ns: str = "epoch_ns(time)") -> str:
        """The number of a time's step, as SQL."""
        return f"CAST(({time_ns} - {self.start_ns}) // {self.step_ns} AS INTEGER)"


@dataclass(frozen=True, slots=True)
class Overview:
    """Flows over time, and by group."""

    steps: Steps
    groups: Sequence[FlowGroup]
    """Most bytes first; at most as many as were asked for."""
    n_groups: int
    total: FlowGroup
    """The sums of all flows."""
    bytes: Sequence[Sequence[int]]
    """Bytes in each step for each of the first groups, and for all others last; shape (series, steps)."""
    flows: Sequence[Sequence[int]]
    """The same for flows."""


def overview_sql(pieces: str, kept: str | None, n_series: int, n_groups: int) -> str:
    """SQL of an overview; its rows are read by ``overview_of``.

    Sums of every key in every step would be millions for keys such as servers. So all steps are summed by key
    first, and then only the few keys with a series of their own are told apart within a step. ``kept`` is read
    twice for that.

    Args:
        pieces: SQL with the columns ``step``, ``key``, ``label`` and ``SUM_NAMES``; a key may occur in a step
            more than once. It is run once.
        kept: SQL with the same columns, which is run twice; None where there is nothing of that kind.
        n_series: groups that get a series of their own.
        n_groups: most groups that are listed.
    """
    sums = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in SUM_NAMES)
    names = ", ".join(SUM_NAMES)
    columns = f"step, key, label, {names}"
    more = "" if kept is None else f" UNION ALL SELECT {columns} FROM ({kept})"
    whole_pieces = f"pieces AS NOT MATERIALIZED (SELECT {columns} FROM summed{more}), "
    return (
        f"WITH summed AS MATERIALIZED ({pieces}), {whole_pieces}"
        f"whole AS MATERIALIZED (SELECT key, any_value(label) AS label, {sums} FROM pieces GROUP BY key), "
        "ranked AS MATERIALIZED (SELECT *, row_number() OVER "
        "(ORDER BY bytes_to_server + bytes_to_client DESC, key NULLS LAST) AS rank FROM whole) "
        f"SELECT 'group' AS kind, CAST(rank AS BIGINT) AS rank, NULL AS step, key, label, {names} "
        f"FROM ranked WHERE rank <= {int(n_groups)} "
        "UNION ALL SELECT 'total', (SELECT count(*) FROM whole), NULL, NULL, NULL, "
        + ", ".join(f"CAST(coalesce(sum({name}), 0) AS BIGINT)" for name in SUM_NAMES)
        + " FROM whole UNION ALL SELECT 'step', "
        f"coalesce(shown.rank, {int(n_series) + 1}) AS place, "
        "step, NULL, NULL, "
        + ", ".join(f"CAST(sum(pieces.{name}) AS BIGINT)" for name in SUM_NAMES)
        + f" FROM pieces LEFT JOIN (SELECT key, rank FROM ranked WHERE rank <= {int(n_series)}) AS shown "
        "ON pieces.key IS NOT DISTINCT FROM shown.key GROUP BY place, step"
    )


def overview_of(table: pa.Table, steps: Steps, n_series: int) -> Overview:
    """The overview in the rows of ``overview_sql``."""
    rows = table.to_pylist()
    groups = [row for row in rows if row["kind"] == "group"]
    groups.sort(key=lambda row: row["rank"])
    (total,) = (row for row in rows if row["kind"] == "total")
    n = min(n_series, len(groups)) + 1
    by_bytes = [[0] * steps.n for _ in range(n)]
    by_flows = [[0] * steps.n for _ in range(n)]
    for row in rows:
        if row["kind"] == "step":
            i, at = min(row["rank"], n) - 1, min(max(row["step"], 0), steps.n - 1)
            by_bytes[i][at] += row["bytes_to_server"] + row["bytes_to_client"]
            by_flows[i][at] += row["flows"]
    found = [_group(row) for row in groups]
    return Overview(steps, found, total["rank"], _group(total), by_bytes, by_flows)


def _group(row: Mapping[str, Any]) -> FlowGroup:
    return FlowGroup(row["key"], row["label"], *(row[name] for name in SUM_NAMES))
