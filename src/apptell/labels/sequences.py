"""Flows of public datasets that consist only of lengths and gaps, and the files that they come from.

Such flows have no payload and no names: ``sequence_length`` and ``sequence_gap_us`` are what a model can
use.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from apptell.errors import LabelError
from apptell.flows.schema import DECISION_SEGMENTS, FlowBatch
from apptell.labels.fields import MAX_TIME_NS
from apptell.labels.labelled_capture import with_groups
from apptell.labels.labellers import UNKNOWN_OWNER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Ends = tuple[str | None, int | None, str | None, int | None, int | None]
    """Client address and port, server address and port, protocol number."""

MALFORMED: Final = "malformed record"
MAX_LENGTH: Final = 2**31 - 1
"""Payload bytes of one packet, as the flow schema holds them."""
MAX_GAP_US: Final = 10**12
"""A longer time between two packets (12 days) is invalid."""


@dataclass(slots=True)
class SequenceFile:
    """A file of a public data set, as a dataset's build takes it."""

    path: Path
    name: str
    kind: str
    """The format's name."""
    read: Callable[[Path, Counter[str]], Iterator[FlowBatch]]
    """Reads the file's flows; counts records that it leaves out, by reason. Pickled with the source."""
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
            LabelError: the file is not of the data set's form, or none of its records is.
        """
        n_read = 0
        for batch in self.read(self.path, self.dropped):
            n_read += len(batch)
            known = batch.column("label").is_valid()
            if n_unknown := len(batch) - known.true_count:
                self.dropped[UNKNOWN_OWNER] += n_unknown
            flows = batch.filter(np.asarray(known)) if n_unknown else batch
            if self.rename:
                names = [self.rename.get(name, name) for name in flows.column("label").to_pylist()]
                flows = flows.with_columns(label=pa.array(names, pa.string()))
            yield with_groups(flows, self.groups) if self.groups else flows
        if not n_read and self.dropped[MALFORMED]:
            raise LabelError(
                f"{self.path}: none of its {self.dropped[MALFORMED]} records is in the format {self.kind}"
            )


def sequence_flows(
    capture: str,
    kind: str,
    ids: NDArray[np.uint64],
    start_ns: NDArray[np.int64],
    length: pa.ListArray,
    gap_us: pa.ListArray,
    label: pa.Array,
    groups: dict[str, pa.Array],
    ends: Iterable[Ends] | None = None,
) -> FlowBatch:
    """Flows of which only lengths and gaps are known; counts are those of the kept packets.

    Args:
        capture: name of their source.
        kind: what labelled them.
        ids: identifiers, shape (n,).
        start_ns: times of their first packets, shape (n,).
        length: signed lengths of payload packets.
        gap_us: times since the packet before.
        label: the app of each.
        groups: columns of n texts by the name of the group.
        ends: addresses, ports and protocol number of each; default: unknown.
    """
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
    left_us = (MAX_TIME_NS - start_ns) // 1000
    every, early = np.ones(len(signed), dtype=bool), at < DECISION_SEGMENTS
    k = len(groups)
    table = np.empty((n, k), dtype=object)
    for i, values in enumerate(groups.values()):
        table[:, i] = values.to_pylist()
    there = table != None  # noqa: E711  # element by element
    keys = pa.array(np.tile(np.array(list(groups), dtype=object), (n, 1))[there], pa.string())
    offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32))
    names = ("client_address", "client_port", "server_address", "server_port", "protocol")
    said = {} if ends is None else dict(zip(names, map(list, zip(*ends, strict=True)), strict=True))
    return FlowBatch.from_columns(
        {
            **said,
            "capture": [capture] * n,
            "connection_id": ids,
            "part": np.zeros(n, dtype=np.int32),
            "start_ns": start_ns,
            "end_ns": start_ns + np.minimum(total(gap, every), left_us) * 1000,
            "decided_ns": start_ns + np.minimum(total(gap, early), left_us) * 1000,
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


def first_id(path: Path) -> np.uint64:
    """Where a file's connection ids begin: by its name, far apart for different files."""
    digest = hashlib.blake2b(os.fsencode(path.name), digest_size=4).digest()
    return np.uint64(int.from_bytes(digest, "big") << 32)
