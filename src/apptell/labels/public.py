"""Public data sets that hold no packets enter (FG-Net, MIRAGE); flows of lengths and gaps leave.

Such flows have no addresses, no payload and no names: ``sequence_length`` and ``sequence_gap_us`` are
what a model can use.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apptell.errors import LabelError
from apptell.flows.schema import DECISION_SEGMENTS, MAX_SEQUENCE, FlowBatch
from apptell.labels.table import label_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

FGNET_COLUMNS: Final = (
    "period", "app", "app_version", "session", "start_ns", "packet_length", "gap_us",
)  # fmt: skip
_BATCH: Final = 16_384


@dataclass(slots=True)
class PublicSource:
    """A file of a public data set, as a dataset's build takes it."""

    path: Path
    name: str
    kind: str
    """``fgnet`` or ``mirage``."""
    dropped: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """The file."""
        return [self.path]

    def flows(self) -> Iterator[FlowBatch]:
        """Its flows.

        Raises:
            LabelError: the file is not of the data set's form.
        """
        return _fgnet(self.path) if self.kind == "fgnet" else _mirage(self.path)


def is_fgnet(path: Path) -> bool:
    """Whether a Parquet file has FG-Net's columns."""
    try:
        return set(FGNET_COLUMNS) <= set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return False


def is_mirage(head: str) -> bool:
    """Whether a file's beginning is that of MIRAGE's JSON."""
    return head.lstrip().startswith("{") and '"packet_data"' in head


def _fgnet(path: Path) -> Iterator[FlowBatch]:
    first_id = _first_id(path)
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=list(FGNET_COLUMNS)):
                app = pc.utf8_lower(batch.column("app"))
                session = pc.binary_join_element_wise(app, batch.column("session"), "/")
                groups = {
                    "session": session,
                    "version": batch.column("app_version"),
                    "period": batch.column("period"),
                }
                length = batch.column("packet_length").cast(pa.list_(pa.int32()))
                gap = batch.column("gap_us").cast(pa.list_(pa.int64()))
                start = batch.column("start_ns").to_numpy()
                ids = first_id + np.arange(row, row + len(batch), dtype=np.uint64)
                yield _sequences(path.stem, "fgnet", ids, start, length, gap, app, groups)
                row += len(batch)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise LabelError(f"{path}: not FG-Net's Parquet: {error}") from error


def _mirage(path: Path) -> Iterator[FlowBatch]:
    """Biflows of one JSON file; packets without payload are left out, their gaps added up."""
    try:
        biflows = json.loads(path.read_text(encoding="utf-8"))
        rows = [_biflow(value) for value in biflows.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise LabelError(f"{path}: not MIRAGE's JSON: {error!r}") from error
    if not rows:
        return
    start, lengths, gaps, labels = zip(*rows, strict=True)
    n = len(rows)
    ids = _first_id(path) + np.arange(n, dtype=np.uint64)
    session = pa.array([path.stem] * n, pa.string())
    device = pa.array([path.parent.name or path.stem] * n, pa.string())
    yield _sequences(
        path.stem,
        "mirage",
        ids,
        np.array(start, dtype=np.int64),
        pa.array(lengths, pa.list_(pa.int32())),
        pa.array(gaps, pa.list_(pa.int64())),
        pa.array(labels, pa.string()),
        {"session": session, "device": device},
    )


def _biflow(biflow: dict[str, Any]) -> tuple[int, list[int], list[int], str | None]:
    packets, facts = biflow["packet_data"], biflow["flow_metadata"]
    payload = np.array(packets["L4_payload_bytes"], dtype=np.int64)
    down = np.array(packets["packet_dir"], dtype=np.int64)  # 0 from the phone, 1 to it
    time_us = np.cumsum(np.array(packets["iat"], dtype=np.float64) * 1e6)
    if not len(payload) == len(down) == len(time_us):
        raise ValueError("columns of packet_data differ in length")
    kept = np.flatnonzero(payload > 0)[:MAX_SEQUENCE]
    length = np.where(down[kept] == 1, -payload[kept], payload[kept])
    gap = np.diff(time_us[kept], prepend=time_us[kept][:1]).round().astype(np.int64)
    stamps = packets.get("timestamp") or [0.0]
    label = label_text(str(facts["BF_label"]))
    activity = facts.get("BF_activity")
    if label and activity:
        label = label_text(f"{label}/{activity}")
    return int(float(stamps[0]) * 1e6) * 1000, length.tolist(), gap.tolist(), label


def _sequences(
    capture: str,
    kind: str,
    ids: NDArray[np.uint64],
    start_ns: NDArray[np.int64],
    length: pa.ListArray,
    gap_us: pa.ListArray,
    label: pa.Array,
    groups: dict[str, pa.Array],
) -> FlowBatch:
    """Flows of which lengths and gaps alone are known; counts are those of the kept packets."""
    n = len(ids)
    first = np.asarray(length.offsets)[: n + 1].astype(np.int64)
    flow = np.repeat(np.arange(n), np.diff(first))
    signed = np.asarray(length.values)[first[0] : first[-1]].astype(np.int64)
    gap = np.asarray(gap_us.values)[first[0] : first[-1]].astype(np.int64)
    at = np.arange(len(flow)) - (first - first[0])[flow]
    up = signed > 0

    def total(weight: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(flow[where], weight[where], n).round().astype(np.int64)

    one = np.ones(len(signed))
    every, early = np.ones(len(signed), dtype=bool), at < DECISION_SEGMENTS
    keys = pa.array(list(groups) * n, pa.string())
    k = len(groups)
    table = np.empty((n, k), dtype=object)
    for i, values in enumerate(groups.values()):
        table[:, i] = values.to_pylist()
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * k)
    return FlowBatch.from_columns(
        {
            "capture": [capture] * n,
            "connection_id": ids,
            "part": np.zeros(n, dtype=np.int32),
            "start_ns": start_ns,
            "end_ns": start_ns + total(gap, every) * 1000,
            "decided_ns": start_ns + total(gap, early) * 1000,
            "payload_packets_to_server": total(one, up),
            "payload_packets_to_client": total(one, ~up),
            "payload_bytes_to_server": total(signed, up),
            "payload_bytes_to_client": total(-signed, ~up),
            "sequence_length": length,
            "sequence_gap_us": gap_us,
            "label": label,
            "label_from": [kind] * n,
            "groups": pa.MapArray.from_arrays(offsets, keys, pa.array(table.ravel(), pa.string())),
        }
    )


def _first_id(path: Path) -> np.uint64:
    """Where a file's connection ids begin: by its name, far apart for different files."""
    digest = hashlib.blake2b(path.name.encode(), digest_size=4).digest()
    return np.uint64(int.from_bytes(digest, "big") << 32)
