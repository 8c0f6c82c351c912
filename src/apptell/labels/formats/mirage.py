"""MIRAGE-2019, MIRAGE-2022 and later ones: JSON files of biflows with lengths, gaps and addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from apptell.errors import LabelError
from apptell.flows.schema import MAX_SEQUENCE, FlowBatch
from apptell.labels import fields
from apptell.labels.format import Candidate, LabelFormat
from apptell.labels.naming import label_text, plain_text
from apptell.labels.sequences import (
    MALFORMED,
    MAX_GAP_US,
    MAX_LENGTH,
    SequenceFile,
    first_id,
    sequence_flows,
)
from apptell.labels.text_files import TextFile, json_object

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_MIRAGE_NAME: Final = re.compile(
    r"(?P<start>\d{9,10})_(?:(?P<device>(?:[0-9a-f]{2}[:_-]){5}[0-9a-f]{2})_)?", re.IGNORECASE
)
_PARTS: Final = ("packet_data", "flow_features", "flow_metadata")


class Mirage(LabelFormat):
    """A file of one capture of one app on one device."""

    name: ClassVar[str] = "mirage"
    files: ClassVar[str] = "MIRAGE's JSON files of biflows (.json)"

    def detect(self, candidate: Candidate) -> bool:
        """Whether it is a JSON file that begins as MIRAGE's do."""
        if candidate.path.suffix != ".json" or not candidate.path.is_file():
            return False
        return is_mirage(TextFile(candidate.path).head)

    def read(self, candidate: Candidate) -> Iterator[SequenceFile]:
        """The file's biflows."""
        if candidate.path.suffix == ".json" and candidate.path.is_file():
            options = candidate.options
            yield SequenceFile(
                candidate.path,
                candidate.name,
                self.name,
                read_mirage,
                options.groups,
                options.rename,
            )


def is_mirage(head: str) -> bool:
    """Whether a file's beginning is that of MIRAGE's JSON."""
    return head.lstrip().startswith("{") and any(f'"{part}"' in head for part in _PARTS)


def read_mirage(path: Path, dropped: Counter[str]) -> Iterator[FlowBatch]:
    """Biflows of one JSON file, keyed by 5-tuple; packets without payload are left out, their gaps added up.

    A file is one capture of one app on one device, ``<start>_[<device>_]<package>_...json``. That of 2019 has
    no times but the one in its name; that of 2022 has activities, devices and versions.
    """
    try:
        biflows = json_object(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabelError(f"{path}: not MIRAGE's JSON: {error}") from error
    rows = []
    for key, value in biflows.items():
        try:
            rows.append(_biflow(key, value))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
            dropped[MALFORMED] += 1
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
    yield sequence_flows(
        path.stem,
        "mirage",
        first_id(path) + np.arange(n, dtype=np.uint64),
        np.array([begin if row.start_ns is None else row.start_ns for row in rows], dtype=np.int64),
        pa.array([row.length for row in rows], pa.list_(pa.int32())),
        pa.array([row.gap_us for row in rows], pa.list_(pa.int64())),
        pa.array([row.label for row in rows], pa.string()),
        {key: pa.array(values, pa.string()) for key, values in said.items() if any(values)},
        (row.ends for row in rows),
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
    payload = _numbers(packets["L4_payload_bytes"], np.int64, MAX_LENGTH)
    down = _numbers(packets["packet_dir"], np.int64, 1)  # 0 from the phone, 1 to it
    gap_s = np.nan_to_num(_numbers(packets["iat"], np.float64, MAX_GAP_US / 1e6))
    if not len(payload) == len(down) == len(gap_s):
        raise ValueError("columns of packet_data differ in length")
    time_us = np.cumsum(gap_s * 1e6)
    kept = np.flatnonzero(payload > 0)[:MAX_SEQUENCE]
    length = np.where(down[kept] == 1, -payload[kept], payload[kept])
    gap = np.diff(time_us[kept], prepend=time_us[kept][:1]).round().astype(np.int64)
    stamps = packets.get("timestamp")
    label = label_text(str(facts["BF_label"] or ""))
    activity = facts.get("BF_activity")
    if label and activity:
        label = label_text(f"{label}/{activity}")
    return _Biflow(
        (
            str(ip_address(source)),
            fields.integer(source_port, 0, fields.MAX_PORT),
            str(ip_address(target)),
            fields.integer(target_port, 0, fields.MAX_PORT),
            fields.integer(protocol, 0, fields.MAX_PROTOCOL),
        ),
        fields.moment_ns(datetime.fromtimestamp(float(stamps[0]), UTC)) if stamps else None,
        length.tolist(),
        gap.tolist(),
        None if label in (None, "unknown") else label,
        plain_text(facts.get("BF_device")),
        plain_text(facts.get("BF_label_version_name")),
        plain_text(facts.get("BF_labeling_type")),
    )


def _numbers(values: Any, kind: Any, most: float) -> NDArray[Any]:
    """A list of numbers between 0 and ``most``, or not numbers, as an array."""
    array = np.array(values, dtype=kind)
    if array.ndim != 1 or (array < 0).any() or (array > most).any():
        raise ValueError("packet_data holds something else than lists of numbers in their range")
    return array
