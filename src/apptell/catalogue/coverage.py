"""Finds the names of flows that the catalogue lacks, by traffic."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from apptell.names.domains import comparable_name

if TYPE_CHECKING:
    from apptell.catalogue.lookup import Catalogue
    from apptell.flows.schema import FlowBatch

COVERAGE_SCHEMA: Final = pa.schema(
    {
        "domain": pa.string(),  # registered domain that the catalogue has no row for
        "flows": pa.int64(),
        "bytes": pa.int64(),  # IP bytes in both directions
        "clients": pa.int64(),  # distinct client addresses
        "names": pa.int64(),  # distinct names under the domain
        "example": pa.string(),  # the name with the most flows
    }
)
_NAME_COLUMNS: Final = ("server_name", "http_host", "dns_name")


class Coverage:
    """Counts flows by what the catalogue says about their names.

    Args:
        catalogue: the catalogue to look the names up in.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.flows: Counter[str] = Counter()
        """Flows by the kind of the row that their name matches; ``missing`` where there is no row, ``unnamed``
        where there is no name."""
        self.apps: set[str] = set()
        """Apps that were identified by name."""
        self._names: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._bytes: Counter[str] = Counter()
        self._clients: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, flows: FlowBatch) -> None:
        """Counts a batch of flows.

        Args:
            flows: n flows with the core and names groups.
        """
        there = flows.columns
        columns = [flows.column(name) for name in _NAME_COLUMNS if name in there]
        names = pc.coalesce(*columns)
        found = self._catalogue.lookup_all(names)
        kinds = pc.if_else(
            pc.is_null(found["service"]), "unnamed", pc.coalesce(found["kind"], "missing")
        )
        for kind in pc.value_counts(kinds).to_pylist():
            self.flows[kind["values"]] += kind["counts"]
        self.apps.update(pc.unique(found["app"].drop_null()).to_pylist())
        both = flows.numpy("bytes_to_server") + flows.numpy("bytes_to_client")
        table = pa.table(
            {
                "domain": found["service"],
                "name": names,
                "client": flows.column("client_address"),
                "bytes": both,
            }
        ).filter(pc.equal(kinds, "missing"))
        sums = table.group_by(["domain", "name", "client"]).aggregate(
            [("bytes", "sum"), ("bytes", "count")]
        )
        for row in sums.to_pylist():
            name = comparable_name(row["name"]) or row["name"]
            self._names[row["domain"]][name] += row["bytes_count"]
            self._bytes[row["domain"]] += row["bytes_sum"]
            self._clients[row["domain"]].add(row["client"])

    def missing(self) -> pa.RecordBatch:
        """The domains that the catalogue lacks, those with the most flows first: rows of COVERAGE_SCHEMA."""
        rows: list[dict[str, Any]] = [
            {
                "domain": domain,
                "flows": names.total(),
                "bytes": self._bytes[domain],
                "clients": len(self._clients[domain]),
                "names": len(names),
                "example": names.most_common(1)[0][0],
            }
            for domain, names in self._names.items()
        ]
        rows.sort(key=lambda row: (-row["flows"], -row["bytes"], row["domain"]))
        return pa.RecordBatch.from_pylist(rows, COVERAGE_SCHEMA)
