"""The last step before an output: selects records, and adds what the operator asked for.

``identify`` and ``live`` pass every record through one ``RecordStage``; it adds the columns ``client_name`` and
``sensor``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from apptell.records.record_filter import RecordFilter
from apptell.records.schema import Records

if TYPE_CHECKING:
    from collections.abc import Callable

    from apptell.packets import HeaderBatch
    from apptell.records.known_clients import ClientNames


@dataclass(frozen=True, slots=True)
class RecordStage:
    """What happens to records before they are written."""

    wanted: RecordFilter = field(default_factory=RecordFilter)
    """Which records are written."""
    clients: ClientNames | None = None
    """Fills the column ``client_name``; None leaves it out."""
    sensor: str | None = None
    """The value of the column ``sensor``; None leaves it out."""

    @property
    def watch(self) -> Callable[[HeaderBatch], None] | None:
        """What has to be called with the packets before their records come; None for nothing."""
        return None if self.clients is None else self.clients.watch

    def schema(self, base: pa.Schema) -> pa.Schema:
        """The columns of records that had those of ``base``."""
        names = ["client_name"] if self.clients is not None else []
        names += ["sensor"] if self.sensor is not None else []
        added = [pa.field(name, pa.string()) for name in names]
        return pa.schema([*base, *added], metadata=base.metadata)

    def __call__(self, batch: Any) -> Any:
        """The selected records, a record batch or ``Records``, with the added columns."""
        if isinstance(batch, Records):
            if self.wanted.is_empty and self.clients is None and self.sensor is None:
                return batch
            batch = batch.to_arrow()
        batch = self.wanted(batch)
        added: list[pa.Array] = []
        if self.clients is not None:
            until_ns = batch.column("end_time").cast(pa.int64())
            macs = batch.column("client_mac") if "client_mac" in batch.schema.names else None
            added.append(self.clients.names(batch.column("client_address"), until_ns, macs))
        if self.sensor is not None:
            added.append(pa.repeat(pa.scalar(self.sensor, pa.string()), batch.num_rows))
        if not added:
            return batch
        return pa.RecordBatch.from_arrays(
            [*batch.columns, *added], schema=self.schema(batch.schema)
        )
