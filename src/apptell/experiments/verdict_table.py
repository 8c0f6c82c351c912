"""A table of verdicts on labelled flows, one row for each verdict.

The columns are those of ``apptell identify``, then the true class, the probability of every class
(``probability_signal``), and the seed and fold of a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from apptell.records.forms import form_of_name
from apptell.records.schema import VERDICT_RECORD, verdict_records
from apptell.records.writers import open_writer
from apptell.reports.report_files import report_file
from apptell.verdicts import decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

_CHUNK: Final = 65_536
"""Maximum number of verdicts in memory as a table."""


@dataclass(frozen=True, slots=True)
class VerdictTable:
    """The verdicts of one model on n flows, or on some of them once per seed."""

    flows: FlowBatch
    """n flows with the group core."""
    truth: Sequence[str]
    """The class of each flow."""
    apps: Sequence[str]
    """The k classes of the probabilities."""
    threshold: float
    """Smallest accepted confidence."""
    model: str
    """Name and hash, or only the name."""
    probabilities: NDArray[np.float32]
    """Of each verdict, shape (m, k)."""
    rows: NDArray[np.int64] | None = None
    """The flow of each verdict, shape (m,); None for all in order."""
    seed: NDArray[np.int64] | None = None
    """Of each verdict, shape (m,)."""
    fold: NDArray[np.int64] | None = None
    """The fold of each verdict, shape (m,)."""

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        fields = [*VERDICT_RECORD, pa.field("true_class", pa.string())]
        fields += [pa.field(f"probability_{app}", pa.float32()) for app in self.apps]
        for name, values in (("seed", self.seed), ("fold", self.fold)):
            if values is not None:
                fields.append(pa.field(name, pa.int32()))
        return pa.schema(fields, metadata=VERDICT_RECORD.metadata)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The table, a bounded number of rows at a time."""
        schema = self.schema
        truth = np.asarray(self.truth, dtype=np.str_)
        rows = np.arange(len(self)) if self.rows is None else self.rows
        for start in range(0, len(self), _CHUNK):
            part = slice(start, start + _CHUNK)
            probabilities = self.probabilities[part]
            verdicts = decide(
                self.flows.take(rows[part]), probabilities, self.apps, self.threshold, self.model
            )
            columns = [*verdict_records(verdicts).columns, pa.array(truth[rows[part]].tolist())]
            columns += [pa.array(column) for column in probabilities.T.copy()]
            columns += [
                pa.array(values[part].astype(np.int32))
                for values in (self.seed, self.fold)
                if values is not None
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def to_arrow(self) -> pa.Table:
        """The whole table."""
        return pa.Table.from_batches(list(self.batches()), schema=self.schema)

    def write(self, path: Path) -> None:
        """Writes the table as Parquet, whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        with report_file(path), open_writer(path, form_of_name("parquet"), self.schema) as writer:
            for batch in self.batches():
                writer.write(batch)
