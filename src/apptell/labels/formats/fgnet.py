"""FG-Net's Parquet: 53 apps, lengths and gaps of payload packets, apps' versions and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apptell.errors import LabelError
from apptell.labels.format import Candidate, LabelFormat
from apptell.labels.sequences import (
    MALFORMED,
    MAX_GAP_US,
    MAX_LENGTH,
    SequenceFile,
    first_id,
    sequence_flows,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

_KINDS: Final = {
    "period": pa.string(),
    "app": pa.string(),
    "app_version": pa.string(),
    "session": pa.string(),
    "start_ns": pa.int64(),
    "packet_length": pa.list_(pa.int32()),
    "gap_us": pa.list_(pa.int64()),
}
_COLUMNS: Final = tuple(_KINDS)
_BATCH: Final = 16_384


class Fgnet(LabelFormat):
    """A Parquet file with FG-Net's columns."""

    name: ClassVar[str] = "fgnet"
    files: ClassVar[str] = "FG-Net's Parquet files (.parquet)"

    def detect(self, candidate: Candidate) -> bool:
        """Whether it is a Parquet file with these columns."""
        if candidate.path.suffix != ".parquet" or not candidate.path.is_file():
            return False
        try:
            with candidate.path.open("rb") as stream:  # Arrow takes no path that is not UTF-8
                return set(_COLUMNS) <= set(pq.read_schema(stream).names)
        except (pa.ArrowException, OSError):
            return False

    def read(self, candidate: Candidate) -> Iterator[SequenceFile]:
        """The file's flows."""
        if candidate.path.suffix == ".parquet" and candidate.path.is_file():
            options = candidate.options
            yield SequenceFile(
                candidate.path,
                candidate.name,
                self.name,
                read_fgnet,
                options.groups,
                options.rename,
            )


def read_fgnet(path: Path, dropped: Counter[str]) -> Iterator[FlowBatch]:
    """The flows of a file; rows with an absent value, or with lengths and gaps that do not fit, are counted.

    Raises:
        LabelError: the file cannot be read, or a column is of another kind.
    """
    begin = first_id(path)
    row = 0
    try:
        with path.open("rb") as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
            for read in file.iter_batches(_BATCH, columns=list(_COLUMNS)):
                whole = pa.RecordBatch.from_arrays(
                    [read.column(name).cast(kind) for name, kind in _KINDS.items()], list(_KINDS)
                )
                sound = _is_sound(whole)
                batch = whole if sound.all() else whole.filter(pa.array(sound))
                if n_bad := len(whole) - len(batch):
                    dropped[MALFORMED] += n_bad
                ids = begin + np.arange(row, row + len(whole), dtype=np.uint64)[sound]
                row += len(whole)
                if len(batch):
                    yield _flows(path.stem, ids, batch)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise LabelError(f"{path}: not FG-Net's Parquet: {error}") from error


def _flows(capture: str, ids: NDArray[np.uint64], batch: pa.RecordBatch) -> FlowBatch:
    app = pc.utf8_lower(batch.column("app"))
    groups = {
        "session": pc.binary_join_element_wise(app, batch.column("session"), "/"),
        "version": batch.column("app_version"),
        "period": batch.column("period"),
    }
    start, length, gap = (batch.column(name) for name in ("start_ns", "packet_length", "gap_us"))
    return sequence_flows(capture, "fgnet", ids, start.to_numpy(), length, gap, app, groups)


def _is_sound(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Whether each row has every value, and as many gaps as lengths, within their ranges; shape (n,)."""
    sound = np.ones(len(batch), dtype=bool)
    for column in batch.columns:
        sound &= column.is_valid().to_numpy(zero_copy_only=False)
    start = batch.column("start_ns").fill_null(0).to_numpy()
    sound &= start >= 0
    length, gap = batch.column("packet_length"), batch.column("gap_us")
    sizes = [pc.list_value_length(lists).fill_null(0).to_numpy() for lists in (length, gap)]
    sound &= sizes[0] == sizes[1]
    for lists, least, most in ((length, -MAX_LENGTH, MAX_LENGTH), (gap, 0, MAX_GAP_US)):
        values = lists.flatten()
        fits = pc.and_(pc.greater_equal(values, least), pc.less_equal(values, most)).fill_null(
            False
        )
        wrong = ~fits.to_numpy(zero_copy_only=False)
        sound[pc.list_parent_indices(lists).to_numpy()[wrong]] = False
    return sound
