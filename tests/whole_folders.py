"""Many real captures as few long ones, and tables of rows in one order: for tests of whole folders."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.capture import open_capture
from apptell.errors import CaptureError
from tests.capture.crafted import pcap_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Record = tuple[int, int, bytes]
"""The time of a packet, ns, its link type, and its record of a pcap file in nanoseconds."""

LAST_S: Final = 2**32
"""Times of a pcap file are smaller, s."""
_JOINED: Final = 3000
"""Packets after which no further capture is joined."""
_BETWEEN_NS: Final = 1_000_000_000


def read_records(path: Path) -> tuple[list[Record], bool]:
    """The packets of a capture, and whether that is all that the capture is.

    That is not so for a damaged one, for one that has directions or owners, for several link types, and for
    times that a pcap file cannot hold.
    """
    records: list[Record] = []
    is_all = True
    try:
        with open_capture(path) as reader:
            for batch in reader:
                is_all &= not batch.owners and not batch.direction.any()
                for row in range(len(batch)):
                    time_ns = int(batch.time_ns[row])
                    record = _record(time_ns, int(batch.wire[row]), batch.frame(row))
                    if record is None:
                        return [], False
                    records.append((time_ns, int(batch.link_type[row]), record))
    except CaptureError:
        is_all = False
    return records, is_all and len({link_type for _, link_type, _ in records}) == 1


def _record(time_ns: int, wire: int, frame: bytes) -> bytes | None:
    seconds, rest = divmod(time_ns, 10**9)
    if not 0 <= seconds < LAST_S:
        return None
    return struct.pack("<IIII", seconds, rest, len(frame), wire) + frame


def joined(captures: Iterable[list[Record]]) -> Iterator[list[Record]]:
    """The packets of captures of one link type one after the other, with times that go on.

    The packets of a capture keep their distances. A capture of so many packets, or of a time so long that
    others do not fit behind it, is left as it is.
    """
    waiting: dict[int, tuple[list[Record], int]] = {}
    for records in captures:
        if not records:
            continue
        link_type = records[0][1]
        before, end_ns = waiting.pop(link_type, ([], 0))
        times = [time_ns for time_ns, _, _ in records]
        moved_ns = end_ns + _BETWEEN_NS - min(times) if before else 0
        if max(times) + moved_ns >= LAST_S * 10**9:
            yield before
            before, moved_ns = [], 0
        before += [_moved(record, moved_ns) for record in records]
        if len(before) < _JOINED:
            waiting[link_type] = before, max(times) + moved_ns
        else:
            yield before
    for records, _ in waiting.values():
        yield records


def _moved(record: Record, by_ns: int) -> Record:
    time_ns, link_type, data = record
    return (
        time_ns + by_ns,
        link_type,
        struct.pack("<II", *divmod(time_ns + by_ns, 10**9)) + data[8:],
    )


def write_records(path: Path, records: list[Record]) -> Path:
    """A pcap file of packets of one link type."""
    header = pcap_header(magic=0xA1B23C4D, link_type=records[0][1], snap_length=262144)
    path.write_bytes(header + b"".join(record for _, _, record in records))
    return path


def table_of(batches: Iterable[pa.RecordBatch], without: frozenset[str] = frozenset()) -> pa.Table:
    """The rows of batches, sorted by all columns that are not nested."""
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    if not tables:
        return pa.table({})
    names = [name for name in tables[0].schema.names if name not in without]
    table = pa.concat_tables([table.select(names) for table in tables])
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(field.type.value_type))
    keys = [
        (field.name, "ascending") for field in table.schema if not pa.types.is_nested(field.type)
    ]
    return table.sort_by(keys).combine_chunks()


def are_same(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables of ``table_of`` have the same rows, whatever the order of those with equal keys."""
    return bool(one.equals(other)) or _rows(one) == _rows(other)


def _rows(table: pa.Table) -> list[tuple[tuple[str, Any], ...]]:
    return sorted((tuple(row.items()) for row in table.to_pylist()), key=repr)
