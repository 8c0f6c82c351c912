"""Sums flows, packets and bytes per app, category and service.

Source of the question: paper, Section 1.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from apptell.verdicts.schema import OTHER

if TYPE_CHECKING:
    from apptell.records.schema import Records
    from apptell.verdicts.schema import VerdictBatch

APP, SERVICE, BACKGROUND, UNKNOWN = "app", "service", "background", "unknown"
"""What traffic is: of an app; of a service that many apps use or that is not listed; of the phone itself, of
advertising and of the libraries inside apps; and what nothing is known of."""
BACKGROUND_KINDS: Final = ("ads", "sdk", "network")
"""Kinds of services whose flows run in the background."""
SYSTEM: Final = "system"
"""The category of apps that belong to the phone."""
SUMMARY_RECORD: Final = pa.schema(
    {
        "client": pa.string(),  # null: all clients
        "app": pa.string(),  # null: no app is named
        "app_name": pa.string(),
        "category": pa.string(),
        "service": pa.string(),  # null: an app is named, or nothing is known
        "service_kind": pa.string(),
        "flows": pa.int64(),
        "packets": pa.int64(),
        "bytes": pa.int64(),  # IP bytes on the wire, headers included
    }
)
"""The columns of a summary's record."""
_WHAT: Final = ("app", "app_name", "category", "service", "service_kind")
_KIND_COLUMNS: Final = ["app", "category", "service", "service_kind"]
_COUNTED_TOGETHER: Final = 4_096
_Key = tuple[str | None, ...]


def traffic_kinds(batch: pa.RecordBatch) -> pa.Array:
    """Whether each flow is of an app, a service, the background or unknown.

    Args:
        batch: verdicts or records, with app, category, service and service_kind.
    """
    is_app = batch.column("app").is_valid()
    is_background = pc.or_(
        pc.fill_null(pc.equal(batch.column("app"), OTHER), False),
        pc.or_(
            pc.fill_null(pc.equal(batch.column("category"), SYSTEM), False),
            pc.and_(
                pc.invert(is_app),
                pc.is_in(batch.column("service_kind"), pa.array(BACKGROUND_KINDS)),
            ),
        ),
    )
    is_service = batch.column("service").is_valid()
    return pc.case_when(
        pc.make_struct(is_background, is_app, is_service), BACKGROUND, APP, SERVICE, UNKNOWN
    )


class FlowCounts:
    """Counts flows by kind of traffic, for a summary in one line."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._apps: set[str] = set()
        self._waiting: list[pa.RecordBatch] = []
        self._n_waiting = 0

    def add(self, batch: pa.RecordBatch | Records) -> None:
        """Counts some verdicts or records; small batches are counted together, as each costs the same."""
        self._waiting.append(batch.select(_KIND_COLUMNS))
        self._n_waiting += batch.num_rows
        if self._n_waiting >= _COUNTED_TOGETHER:
            self._count()

    @property
    def kinds(self) -> Counter[str]:
        """Flows by what their traffic is."""
        self._count()
        return self._kinds

    @property
    def apps(self) -> set[str]:
        """The apps that were named."""
        self._count()
        return self._apps

    def _count(self) -> None:
        if not self._waiting:
            return
        batch = pa.concat_batches(self._waiting)
        self._waiting, self._n_waiting = [], 0
        kinds = traffic_kinds(batch)
        for entry in kinds.value_counts().to_pylist():
            self._kinds[entry["values"]] += entry["counts"]
        apps = batch.column("app").filter(pc.equal(kinds, APP))
        self._apps.update(apps.unique().to_pylist())

    @property
    def total(self) -> int:
        """All flows."""
        return self.kinds.total()

    def __str__(self) -> str:
        apps = f"{self.kinds[APP]:,} app flows"
        if self.apps:
            apps += f" of {len(self.apps):,} {'app' if len(self.apps) == 1 else 'apps'}"
        return (
            f"{apps}, {self.kinds[SERVICE]:,} of services, {self.kinds[BACKGROUND]:,} background, "
            f"{self.kinds[UNKNOWN]:,} not named"
        )


class Summary:
    """Sums verdicts up."""

    def __init__(self) -> None:
        self._sums: dict[_Key, list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(self, verdicts: VerdictBatch) -> None:
        """Counts some verdicts."""
        batch = verdicts.to_arrow()
        is_named = batch.column("app").is_valid()
        columns: dict[str, Any] = {"client": batch.column("client_address")}
        columns |= {name: batch.column(name) for name in _WHAT}
        for name in ("service", "service_kind"):  # an app's flows stand in one row
            columns[name] = pc.if_else(is_named, pa.scalar(None, pa.string()), columns[name])
        columns |= {what: _both(verdicts, what) for what in ("packets", "bytes")}
        sums = (
            pa.table(columns)
            .group_by(["client", *_WHAT])
            .aggregate([("packets", "sum"), ("bytes", "sum"), ([], "count_all")])
        )
        for row in sums.to_pylist():
            for client in (row["client"], None):
                total = self._sums[(client, *(row[name] for name in _WHAT))]
                total[0] += row["count_all"]
                total[1] += row["packets_sum"]
                total[2] += row["bytes_sum"]

    def records(self) -> pa.RecordBatch:
        """A record for each app or service, then one for each client and app or service; most bytes first."""
        client_bytes: dict[str | None, int] = defaultdict(int)
        for key, (_, _, n_bytes) in self._sums.items():
            client_bytes[key[0]] += n_bytes
        keys = sorted(
            self._sums,
            key=lambda key: (
                key[0] is not None,
                -client_bytes[key[0]],
                key[0] or "",
                -self._sums[key][2],
                tuple(text or "" for text in key),
            ),
        )
        rows = [[*key, *self._sums[key]] for key in keys]
        columns = [
            pa.array([row[i] for row in rows], field.type) for i, field in enumerate(SUMMARY_RECORD)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SUMMARY_RECORD)


def _both(verdicts: VerdictBatch, what: str) -> pa.Array:
    return pc.add(verdicts.column(f"{what}_to_server"), verdicts.column(f"{what}_to_client"))
