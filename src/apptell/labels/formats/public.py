"""Public data sets that hold no packets enter (FG-Net, MIRAGE); flows of lengths and gaps leave.

Such flows have no payload and no names: ``sequence_length`` and ``sequence_gap_us`` are what a model can
use. MIRAGE's have addresses and ports.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apptell.errors import LabelError
from apptell.flows.schema import DECISION_SEGMENTS, MAX_SEQUENCE, FlowBatch
from apptell.labels.formats.table import label_text
from apptell.labels.source import UNKNOWN_OWNER, with_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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
    groups: Mapping[str, str] = field(default_factory=dict)
    """Groups of all its flows, such as network."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Lower-case app to label."""
    dropped: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """The file."""
        return [self.path]

    def flows(self) -> Iterator[FlowBatch]:
        """Its flows that have a label.

        Raises:
            LabelError: the file is not of the data set's form.
        """
        for batch in _fgnet(self.path) if self.kind == "fgnet" else _mirage(self.path):
            known = batch.column("label").is_valid()
            if n_unknown := len(batch) - known.true_count:
                self.dropped[UNKNOWN_OWNER] += n_unknown
            flows = batch.filter(np.asarray(known)) if n_unknown else batch
            if self.rename:
                names = [self.rename.get(name, name) for name in flows.column("label").to_pylist()]
                flows = flows.with_columns(label=pa.array(names, pa.string()))
            yield with_groups(flows, self.groups) if self.groups else flows


def is_fgnet(path: Path) -> bool:
    """Whether a Parquet file has FG-Net's columns."""
    try:
        return set(FGNET_COLUMNS) <= set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return False


def is_mirage(head: str) -> bool:
    """Whether a file's beginning is that of MIRAGE's JSON."""
    return head.lstrip().startswith("{") and any(
        f'"{key}"' in head for key in ("packet_data", "flow_features", "flow_metadata")
    )


def _fgnet(path: Path) -> Iterator[FlowBatch]:
    first_id = _first_id(path)
    row = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
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
    """Biflows of one JSON file, keyed by 5-tuple; packets without payload are left out, their gaps added up.

    A file is one capture of one app on one device, ``<start>_[<device>_]<package>_...json``. That of 2019 has
    no times but the one in its name; that of 2022 has activities, devices and versions.
    """
    try:
        biflows = json.loads(path.read_text(encoding="utf-8"))
        rows = [_biflow(key, value) for key, value in biflows.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise LabelError(f"{path}: not MIRAGE's JSON: {error!r}") from error
    if not rows:
        return
    n = len(rows)
    name = _MIRAGE_NAME.match(path.name)
    begin = int(name["start"]) * 1_000_000_000 if name else 0
    place = (name and name["device"]) or path.resolve().parent.name
    said = {
        "session": [path.stem] * n,
        "device": [row.device or place for row in rows],
        "version": [row.version for row in rows],
        "labelling": [row.labelling for row in rows],
    }
    flows = _sequences(
        path.stem,
        "mirage",
        _first_id(path) + np.arange(n, dtype=np.uint64),
        np.array([begin if row.start_ns is None else row.start_ns for row in rows], dtype=np.int64),
        pa.array([row.length for row in rows], pa.list_(pa.int32())),
        pa.array([row.gap_us for row in rows], pa.list_(pa.int64())),
        pa.array([row.label for row in rows], pa.string()),
        {key: pa.array(values, pa.string()) for key, values in said.items() if any(values)},
    )
    ends = zip(*(row.ends for row in rows), strict=True)
    names = ("client_address", "client_port", "server_address", "server_port", "protocol")
    yield flows.with_columns(**dict(zip(names, map(list, ends), strict=True)))


_MIRAGE_NAME: Final = re.compile(
    r"(?P<start>\d{9,10})_(?:(?P<device>(?:[0-9a-f]{2}[:_-]){5}[0-9a-f]{2})_)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Biflow:
    ends: tuple[str, int, str, int, int]
    start_ns: int | None
    length: list[int]
    gap_us: list[int]
    label: str | None
    device: str | None
    version: str | None
    labelling: str | None
    """``exact`` where the phone's list of connections had it, else ``most-common``: by experiment."""


def _biflow(key: str, biflow: dict[str, Any]) -> _Biflow:
    packets, facts = biflow["packet_data"], biflow["flow_metadata"]
    source, source_port, target, target_port, protocol = key.split(",")
    payload = np.array(packets["L4_payload_bytes"], dtype=np.int64)
    down = np.array(packets["packet_dir"], dtype=np.int64)  # 0 from the phone, 1 to it
    time_us = np.cumsum(np.nan_to_num(np.array(packets["iat"], dtype=np.float64)) * 1e6)
    if not len(payload) == len(down) == len(time_us):
        raise ValueError("columns of packet_data differ in length")
    kept = np.flatnonzero(payload > 0)[:MAX_SEQUENCE]
    length = np.where(down[kept] == 1, -payload[kept], payload[kept])
    gap = np.diff(time_us[kept], prepend=time_us[kept][:1]).round().astype(np.int64)
    stamps = packets.get("timestamp")
    label = label_text(str(facts["BF_label"] or ""))
    activity = facts.get("BF_activity")
    if label and activity:
        label = label_text(f"{label}/{activity}")
    device, version = facts.get("BF_device"), facts.get("BF_label_version_name")
    return _Biflow(
        (source, int(source_port), target, int(target_port), int(protocol)),
        int(float(stamps[0]) * 1e6) * 1000 if stamps else None,
        length.tolist(),
        gap.tolist(),
        None if label in (None, "unknown") else label,
        str(device) if device else None,
        str(version) if version else None,
        facts.get("BF_labeling_type"),
    )


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
    k = len(groups)
    table = np.empty((n, k), dtype=object)
    for i, values in enumerate(groups.values()):
        table[:, i] = values.to_pylist()
    there = table != None  # noqa: E711  # element by element
    keys = pa.array(np.tile(np.array(list(groups), dtype=object), (n, 1))[there], pa.string())
    offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32))
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
            "groups": pa.MapArray.from_arrays(offsets, keys, pa.array(table[there], pa.string())),
        }
    )


def _first_id(path: Path) -> np.uint64:
    """Where a file's connection ids begin: by its name, far apart for different files."""
    digest = hashlib.blake2b(path.name.encode(), digest_size=4).digest()
    return np.uint64(int.from_bytes(digest, "big") << 32)
