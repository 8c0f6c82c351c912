"""The last step before an output: selects records, and adds what the operator asked for.

``identify`` and ``live`` pass every record through one ``RecordStage``; it adds the columns ``client_name`` and
``sensor``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from apptell.flows.plain_columns import Coded, to_arrow
from apptell.records.record_filter import RecordFilter
from apptell.records.schema import Records

if TYPE_CHECKING:
    from collections.abc import Callable

    from apptell.packets import HeaderBatch
    from apptell.records.known_clients import ClientNames


_CLIENT_NAME, _SENSOR = (pa.field(name, pa.string()) for name in ("client_name", "sensor"))


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
        return pa.schema([*base, *self._fields], metadata=base.metadata)

    @property
    def _fields(self) -> list[pa.Field]:
        """The added columns."""
        names = [_CLIENT_NAME] if self.clients is not None else []
        return [*names, _SENSOR] if self.sensor is not None else names

    def __call__(self, batch: Any) -> Any:
        """The selected records, a record batch or ``Records``, with the added columns."""
        if isinstance(batch, Records):
            if self.wanted.is_empty:
                has_macs = "client_mac" in batch.fields.places
                added = self._added(batch.values, has_macs, batch.num_rows)
                if not added:
                    return batch
                columns = [*batch.plain_columns, *added]
                return Records(batch.fields.extended(*self._fields), columns, batch.num_rows)
            batch = batch.to_arrow()
        batch = self.wanted(batch)
        has_macs = batch.schema.get_field_index("client_mac") >= 0
        added = self._added(partial(_values, batch), has_macs, batch.num_rows)
        if not added:
            return batch
        arrays = [to_arrow(column, pa.string(), batch.num_rows) for column in added]
        return pa.RecordBatch.from_arrays(
            [*batch.columns, *arrays], schema=self.schema(batch.schema)
        )

    def _added(
        self, values: Callable[[str], list[Any]], has_macs: bool, n_records: int
    ) -> list[Any]:
        """The added columns (``flows.plain_columns``) of n records, whose values are given by column."""
        added: list[Any] = []
        if self.clients is not None and self.clients.is_empty:
            added.append(None)
        elif self.clients is not None:
            macs = values("client_mac") if has_macs else None
            added.append(self.clients.names(values("client_address"), values("end_time"), macs))
        if self.sensor is not None:
            added.append(Coded(np.zeros(n_records, dtype=np.int8), (self.sensor,)))
        return added


def _values(batch: pa.RecordBatch, name: str) -> list[Any]:
    """A column of records as Python has its values; timestamps are ns."""
    column = batch.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values
