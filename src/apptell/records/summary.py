"""Verdicts in; flows, packets and bytes per app and per client out: which app uses the bandwidth.

Paper, Section 1: what an operator wants to know first.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from apptell.verdicts.schema import VerdictBatch

SUMMARY_RECORD: Final = pa.schema(
    {
        "client": pa.string(),  # null: all clients
        "app": pa.string(),  # null: declined
        "flows": pa.int64(),
        "packets": pa.int64(),
        "bytes": pa.int64(),  # IP bytes on the wire, headers included
    }
)
"""The columns of a summary's record."""


class Summary:
    """Sums verdicts up as they come."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str | None, str | None], list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(self, verdicts: VerdictBatch) -> None:
        """Counts some verdicts in."""
        table = pa.table(
            {
                "client": verdicts.column("client_address"),
                "app": verdicts.column("app"),
                "packets": _both(verdicts, "packets"),
                "bytes": _both(verdicts, "bytes"),
            }
        )
        sums = table.group_by(["client", "app"]).aggregate(
            [
                ("packets", "sum"),
                ("bytes", "sum"),
                ("app", "count", pc.CountOptions(mode="all")),
            ]
        )
        for row in sums.to_pylist():
            for client in (row["client"], None):
                total = self._sums[client, row["app"]]
                total[0] += row["app_count"]
                total[1] += row["packets_sum"]
                total[2] += row["bytes_sum"]

    def records(self) -> pa.RecordBatch:
        """One record for each app, then one for each client and app; most bytes first."""
        client_bytes: dict[str | None, int] = defaultdict(int)
        for (client, _), (_, _, n_bytes) in self._sums.items():
            client_bytes[client] += n_bytes
        keys = sorted(
            self._sums,
            key=lambda key: (
                key[0] is not None,
                -client_bytes[key[0]],
                key[0] or "",
                -self._sums[key][2],
                key[1] or "",
            ),
        )
        rows = [[*key, *self._sums[key]] for key in keys]
        columns = [
            pa.array([row[i] for row in rows], field.type) for i, field in enumerate(SUMMARY_RECORD)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SUMMARY_RECORD)


def _both(verdicts: VerdictBatch, what: str) -> pa.Array:
    return pc.add(verdicts.column(f"{what}_to_server"), verdicts.column(f"{what}_to_client"))
