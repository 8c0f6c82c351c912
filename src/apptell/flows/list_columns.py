"""Reads Arrow's lists and binary columns (kept segments, signed lengths) as flat NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.flows.plain_columns import Lists

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch


@dataclass(frozen=True, slots=True)
class SegmentColumns:
    """The kept segments of n flows as flat arrays; views, nothing is copied.

    Segment s of flow i is row ``first[i] + s``; it is there when that is below ``first[i + 1]``. Its kept
    bytes are ``data[start[row] : start[row + 1]]``.
    """

    first: NDArray[np.int64]
    """Row of each flow's first segment, shape (n + 1,)."""
    length: NDArray[np.int32]
    """Payload bytes on the wire, shape (m,)."""
    to_server: NDArray[np.bool_]
    """Direction, shape (m,)."""
    time_ns: NDArray[np.int64]
    """Time, ns since 1970 UTC, shape (m,)."""
    offset: NDArray[np.int32]
    """Place of the first byte in the stream of its side (column ``segment_offset``), shape (m,)."""
    start: NDArray[np.int64]
    """First byte of each segment in ``data``, shape (m + 1,)."""
    data: NDArray[np.uint8]
    """Kept bytes, shape (b,)."""


@dataclass(frozen=True, slots=True)
class SequenceColumns:
    """Signed lengths and gaps of n flows as flat arrays; flow i has rows first[i] to first[i + 1]."""

    first: NDArray[np.int64]
    """Shape (n + 1,)."""
    length: NDArray[np.int32]
    """Payload bytes, + to server, - to client, shape (m,)."""
    gap_us: NDArray[np.int64]
    """Time since the payload packet before, us, shape (m,)."""


_SEGMENTS: Final = (
    "segment_length",
    "segment_to_server",
    "segment_time_ns",
    "segment_offset",
    "segment_bytes",
)


def segment_columns(flows: FlowBatch) -> SegmentColumns:
    """The kept segments of flows as flat arrays."""
    made = [flows.plain(name) for name in _SEGMENTS if flows.has(name)]
    if len(made) == len(_SEGMENTS) and all(isinstance(each, Lists) for each in made):
        lengths, to_server, time_ns, offset, parts = (each.values for each in made)
        first, start = made[0].ends.astype(np.int64), parts.ends.astype(np.int64)
        return SegmentColumns(first, lengths, to_server, time_ns, offset, start, parts.data)
    lengths = flows.column("segment_length")
    first = list_offsets(lengths) - list_offsets(lengths)[0]
    length = list_numbers(lengths, np.int32)
    to_server = list_numbers(flows.column("segment_to_server"), np.bool_)
    start, buffer = binary_parts(list_values(flows.column("segment_bytes")))
    return SegmentColumns(
        first,
        length,
        to_server,
        list_numbers(flows.column("segment_time_ns"), np.int64),
        _segment_offsets(
            flows.column("segment_offset") if flows.has("segment_offset") else None,
            first,
            length,
            to_server,
        ),
        start,
        buffer,
    )


def sequence_columns(flows: FlowBatch) -> SequenceColumns:
    """Signed lengths and gaps of flows as flat arrays."""
    made, gaps = flows.plain("sequence_length"), flows.plain("sequence_gap_us")
    if isinstance(made, Lists) and isinstance(gaps, Lists):
        return SequenceColumns(made.ends.astype(np.int64), made.values, gaps.values)
    length = flows.column("sequence_length")
    first = list_offsets(length)
    return SequenceColumns(
        first - first[0],
        list_numbers(length, np.int32),
        list_numbers(flows.column("sequence_gap_us"), np.int64),
    )


def list_offsets(lists: pa.ListArray) -> NDArray[np.int64]:
    """List offsets, shape (n + 1,), int64; a null list counts as empty."""
    if lists.null_count:
        lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.asarray(lists.offsets.to_numpy(zero_copy_only=False), dtype=np.int64)


def list_values(lists: pa.ListArray) -> pa.Array:
    """The elements of all lists without a copy if no list is null, which is faster than ``flatten``."""
    if lists.null_count or not len(lists):
        return lists.flatten()
    offsets = lists.offsets
    begin = offsets[0].as_py()
    return lists.values.slice(begin, offsets[len(lists)].as_py() - begin)


def list_numbers(lists: pa.ListArray, dtype: Any) -> NDArray[Any]:
    """The elements of all lists as one array."""
    return np.asarray(list_values(lists).to_numpy(zero_copy_only=False), dtype=dtype)


def binary_parts(blobs: pa.BinaryArray) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets and bytes of a binary array, offsets from 0; views of its buffers."""
    n = len(blobs)
    _, offsets, data = blobs.buffers()
    if n == 0 or offsets is None:
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
    at = np.frombuffer(offsets, dtype=np.int32)[blobs.offset : blobs.offset + n + 1].astype(
        np.int64
    )
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
    return at - at[0], raw[at[0] : at[-1]]


def _segment_offsets(
    column: pa.ListArray | None,
    first: NDArray[np.int64],
    length: NDArray[np.int32],
    to_server: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """The column ``segment_offset``; flows without it (earlier datasets) count as sent in order.

    Args:
        column: offsets of n flows; a flow without them has an empty list. None where no flow has any.
        first: as in ``SegmentColumns``, like the following.
        length: payload bytes of each segment.
        to_server: its direction.
    """
    known: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
    is_known = np.zeros(len(first) - 1, dtype=bool)
    if column is not None:
        known = list_numbers(column, np.int32)
        is_known = np.diff(list_offsets(column)) == np.diff(first)
        if is_known.all():
            return known
        known = known[np.repeat(is_known, np.diff(list_offsets(column)))]
    offsets = np.zeros(len(length), dtype=np.int64)
    for side in (True, False):
        before = np.concatenate([[0], np.cumsum(np.where(to_server == side, length, 0))])
        at = before[:-1] - np.repeat(before[first[:-1]], np.diff(first))
        offsets[to_server == side] = at[to_server == side]
    offsets[np.repeat(is_known, np.diff(first))] = known
    return offsets.astype(np.int32)
