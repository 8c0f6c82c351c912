"""Defines the columns of ``FlowBatch``, a table of finished flows, with their types and meanings.

One row is a bidirectional flow: Parquet on disk, an Arrow record batch in memory. A new column names its
consumer. ``SCHEMA_VERSION`` changes with every change of meaning and is checked on load.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
import pyarrow as pa

from apptell.errors import DatasetError
from apptell.flows.list_columns import (
    SegmentColumns,
    SequenceColumns,
    segment_columns,
    sequence_columns,
)
from apptell.flows.plain_columns import is_there, of_rows, to_arrow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

SCHEMA_VERSION: Final = 1
MAX_SEGMENTS: Final = 12
"""Payload segments whose bytes a flow keeps, and more only of a hello that is cut into more (``heads``)."""
MAX_SEGMENT_BYTES: Final = 4096
"""Bytes kept of each segment: a packet's 1,500, and of longer ones (offload) enough for a whole hello."""
MAX_HEAD_BYTES: Final = 1 << 14
"""A hello or request that goes on beyond those segments is kept until a flow has so many payload bytes ..."""
MAX_HEAD_SEGMENTS: Final = 1024
"""... or so many segments."""
MAX_SEQUENCE: Final = 32
"""Payload packets whose signed length and gap a flow keeps."""
DECISION_SEGMENTS: Final = 5
"""A verdict is due when this many payload packets were seen (paper, Section 3.1)."""

MAX_LATE_VIEWS: Final = 5
"""Late views of a connection at most (``FlowOptions.late_view_packets``)."""

CLIENT_RULES: Final = ("handshake", "signature", "local", "port", "private", "first")
"""How the client was determined: by a SYN or SYN-ACK; a hello or request; a network that was named
as the clients'; the lower service port; private
against public address; who spoke first.
"""
END_REASONS: Final = (
    "idle",
    "handshake",
    "capture",
    "evicted",
    "closed",
    "reset",
    "shutdown",
    "active",
)
"""Why a flow ended: no packet for the idle timeout; a SYN with a new sequence number; the capture ended; the
table was full; FIN in both directions, or RST, before any of these; a sensor was asked to
end; it lasted for the active timeout, or was cut for a late view."""

CORE: Final = {
    "capture": pa.string(),  # name of the capture the flow began in
    "connection_id": pa.uint64(),  # one value for all parts of a connection that the timeout cut
    "part": pa.int32(),  # 0, 1, ... within the connection
    "community_id": pa.string(),  # Community ID v1, seed 0
    "protocol": pa.uint8(),  # IP protocol number: 6 TCP, 17 UDP
    "client_address": pa.string(),  # RFC 5952 text
    "client_port": pa.uint16(),
    "server_address": pa.string(),
    "server_port": pa.uint16(),
    "client_by": pa.dictionary(pa.int8(), pa.string()),  # one of CLIENT_RULES
    "has_handshake": pa.bool_(),  # a SYN opened it
    "start_ns": pa.int64(),  # first packet, ns since 1970 UTC
    "end_ns": pa.int64(),  # last packet
    "end_reason": pa.dictionary(pa.int8(), pa.string()),  # one of END_REASONS
    "packets_to_server": pa.int64(),
    "packets_to_client": pa.int64(),
    "bytes_to_server": pa.int64(),  # IP bytes on the wire, headers included
    "bytes_to_client": pa.int64(),
    "payload_packets_to_server": pa.int64(),  # under the flow mode's reading of a payload packet
    "payload_packets_to_client": pa.int64(),
    "payload_bytes_to_server": pa.int64(),
    "payload_bytes_to_client": pa.int64(),
    "retransmissions": pa.int64(),  # packets with payload that brought nothing new
    "out_of_order": pa.int64(),  # payload packets that filled an earlier gap
    # The same totals when the deciding payload packet had arrived (or at the end, when it never did):
    # what a live verdict sees. It is the fifth unless the model asks for more.
    # Consumers: encoding.statistics, verdicts.
    "decided_ns": pa.int64(),
    "decided_packets_to_server": pa.int64(),
    "decided_packets_to_client": pa.int64(),
    "decided_bytes_to_server": pa.int64(),
    "decided_bytes_to_client": pa.int64(),
}
SEGMENTS: Final = {
    "segment_length": pa.list_(pa.int32()),  # payload bytes on the wire (up to 64 kB with offload)
    "segment_to_server": pa.list_(pa.bool_()),
    "segment_time_ns": pa.list_(pa.int64()),  # ns since 1970 UTC
    # Place of its first byte in the stream of its side, bytes from that of the side's first kept segment on:
    # by TCP's sequence numbers, so below 0 for a segment that came late; of UDP the bytes before it.
    # Consumers: names, encoding.structure.
    "segment_offset": pa.list_(pa.int32()),
    "segment_bytes": pa.list_(pa.binary()),  # the first MAX_SEGMENT_BYTES bytes that were captured
    "sequence_length": pa.list_(pa.int32()),  # + to server, - to client, payload packets in order
    "sequence_gap_us": pa.list_(pa.int64()),  # since the payload packet before, 0 first
}
NAMES: Final = {
    "server_name": pa.string(),  # TLS or QUIC server name; null when none was seen
    "alpn": pa.string(),  # protocols the client offered, joined by commas
    "ja4": pa.string(),
    "http_host": pa.string(),
    "dns_name": pa.string(),  # a name the capture's DNS answers gave for the server's address
}
LABELS: Final = {
    "label": pa.string(),  # "app" or "app/activity", lower case; null when unknown
    "label_from": pa.string(),  # which ground truth said so
    "label_source": pa.string(),  # of labels by names, one of verdicts.name_labels.LABEL_SOURCES
    # Of a late view (a connection seen from later packets on), the connection_id of its connection; null of a
    # flow. Consumers: experiments, dataset.change.
    "part_of": pa.uint64(),
    "groups": pa.map_(
        pa.string(), pa.string()
    ),  # source, session, device, network, day, version, ...
    "owner_uid": pa.int32(),  # where the capture itself names an owner. Consumer: labels
    "owner_package": pa.string(),
    "owner_name": pa.string(),
    "owner_conflict": pa.bool_(),  # packets of two owners in one flow
}
AUDIT: Final = {  # never an input. Consumer: the leak audit
    "client_ttl": pa.uint8(),
    "server_ttl": pa.uint8(),
    "client_sequence": pa.uint32(),  # first TCP sequence number seen from the client
    "server_sequence": pa.uint32(),
    "client_checksum": pa.uint16(),  # TCP or UDP checksum of the first packet from the client
    "server_checksum": pa.uint16(),
}
ORDER: Final = {  # what was known when. Consumer: verdicts.evidence; never stored
    "start_place": pa.int64(),  # of the first packet in the capture's order (packets.order), ns since 1970 UTC
    "known_place": pa.int64(),  # from which on later flows may know this one's names
}
LINK: Final = {  # of the first packet, but for flags and state; filled on request, never stored
    "client_mac": pa.string(),
    "server_mac": pa.string(),
    "vlan": pa.int32(),  # outermost VLAN id
    "inner_vlan": pa.int32(),
    "tunnel": pa.string(),  # the outermost tunnel with its number, such as vxlan:5001
    "interface": pa.int32(),  # number within the capture
    "flags_to_server": pa.uint8(),  # TCP flags of all packets, joined by or
    "flags_to_client": pa.uint8(),
    "conn_state": pa.string(),  # as Zeek's conn.log has it; of this flow's packets
}
GROUPS: Final = {
    "core": CORE,
    "segments": SEGMENTS,
    "names": NAMES,
    "labels": LABELS,
    "audit": AUDIT,
}
SCHEMA: Final = pa.schema(
    [pa.field(name, kind) for group in GROUPS.values() for name, kind in group.items()],
    metadata={"apptell.flow_schema": str(SCHEMA_VERSION)},
)
COLUMNS: Final = {**GROUPS, "link": LINK}
"""Groups that flows can be asked for; those of GROUPS are stored."""
_FIELDS: Final = {field.name: field for field in (*SCHEMA, *pa.schema({**ORDER, **LINK}))}


@lru_cache(maxsize=64)
def _schema_of(names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([_FIELDS[name] for name in names], SCHEMA.metadata)


class Flow:
    """One flow for interactive use: a view of one row with the columns as attributes."""

    __slots__ = ("_row", "_table")

    def __init__(self, table: pa.RecordBatch, row: int) -> None:
        self._table = table
        self._row = row

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._table.schema.names:
            raise AttributeError(f"a flow has no column {name!r}")
        return self._table.column(name)[self._row].as_py()

    def __dir__(self) -> list[str]:
        return list(self._table.schema.names)

    def __repr__(self) -> str:
        there = set(self._table.schema.names)
        if not {"client_address", "server_address", "client_port", "server_port"} <= there:
            return f"<Flow {self._row}>"
        name = self.server_name if "server_name" in there else None
        tail = f" {name}" if name else ""
        return (
            f"<Flow {self.client_address}:{self.client_port} -> "
            f"{self.server_address}:{self.server_port}{tail}>"
        )


class FlowBatch:
    """Some flows: an Arrow record batch with the columns of ``SCHEMA`` or of some of its groups.

    Example:
        >>> flows = apptell.read_flows("phone.pcap").to_flows()
        >>> flows[0].server_name, flows.column("server_port").to_pylist()
        ('signal.example', [443, 443])
    """

    __slots__ = ("_arrays", "_batch", "_columns", "_n")

    def __init__(self, batch: pa.RecordBatch) -> None:
        """Wraps a record batch whose columns are those of ``SCHEMA`` in name and type.

        Raises:
            DatasetError: a column is unknown or has another type.
        """
        for column in batch.schema:
            field = _FIELDS.get(column.name)
            if field is None:
                raise DatasetError(f"flows: unknown column {column.name!r}")
            if field.type != column.type:
                raise DatasetError(
                    f"flows: column {column.name!r} is {column.type}, not {field.type}"
                )
        self._wrap(batch)

    def _wrap(self, batch: pa.RecordBatch) -> None:
        self._batch: pa.RecordBatch | None = batch
        self._columns: dict[str, Any] = {}
        """All columns as they were made (``plain_columns``), in order, where there is no record batch yet."""
        self._arrays: dict[str, pa.Array] = {}
        """The columns that were asked for as arrays."""
        self._n = int(batch.num_rows)

    @classmethod
    def trusted(cls, batch: pa.RecordBatch) -> FlowBatch:
        """Wraps a record batch that was made by ``SCHEMA`` without checking its columns."""
        flows = cls.__new__(cls)
        flows._wrap(batch)  # noqa: SLF001 - its own
        return flows

    @classmethod
    def of_columns(cls, columns: dict[str, Any], n_flows: int) -> FlowBatch:
        """Columns (``plain_columns``) that were made by ``SCHEMA``, in their order, without checking them."""
        flows = cls.__new__(cls)
        flows._batch, flows._columns, flows._arrays, flows._n = None, columns, {}, n_flows  # noqa: SLF001 - its own
        return flows

    @classmethod
    def from_columns(cls, columns: dict[str, Any], n_flows: int | None = None) -> FlowBatch:
        """A batch from any columns of the schema (arrays or lists); absent ones become nulls.

        Args:
            columns: name to values, each of one length.
            n_flows: the number of rows, needed only when ``columns`` is empty.
        """
        unknown = set(columns) - set(SCHEMA.names)
        if unknown:
            raise DatasetError(f"flows: unknown column {sorted(unknown)[0]!r}")
        n = n_flows if n_flows is not None else len(next(iter(columns.values()), ()))
        arrays = []
        for column in SCHEMA:
            if column.name not in columns:
                arrays.append(pa.nulls(n, column.type))
                continue
            values = columns[column.name]
            arrays.append(
                values.cast(column.type)
                if isinstance(values, (pa.Array, pa.ChunkedArray))
                else pa.array(values, column.type)
            )
        return cls(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, row: int) -> Flow: ...
    @overload
    def __getitem__(self, row: slice) -> FlowBatch: ...
    def __getitem__(self, row: int | slice) -> Flow | FlowBatch:
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return Flow(self.to_arrow(), row % len(self))

    def __iter__(self) -> Iterator[Flow]:
        batch = self.to_arrow()
        return (Flow(batch, row) for row in range(len(self)))

    def __repr__(self) -> str:
        return f"<FlowBatch of {len(self)} flows>"

    @property
    def columns(self) -> list[str]:
        """Names of the columns in the batch."""
        return list(self._columns) if self._batch is None else list(self._batch.schema.names)

    def to_arrow(self) -> pa.RecordBatch:
        """The record batch itself."""
        if self._batch is None:
            names = tuple(self._columns)
            arrays = [self.column(name) for name in names]
            self._batch = pa.RecordBatch.from_arrays(arrays, schema=_schema_of(names))
        return self._batch

    def to_pandas(self) -> pd.DataFrame:
        """A pandas table; needs pandas (``pip install 'apptell[pandas]'``)."""
        table: pd.DataFrame = self.to_arrow().to_pandas()
        return table

    def column(self, name: str) -> pa.Array:
        """One column as an Arrow array.

        Raises:
            DatasetError: the batch does not have the column.
        """
        found = self._arrays.get(name)
        if found is None:
            made = self.plain(name)
            found = self._arrays[name] = to_arrow(made, _FIELDS[name].type, self._n)
        return found

    def plain(self, name: str) -> Any:
        """One column as it was made (``plain_columns``).

        Raises:
            DatasetError: the batch does not have the column.
        """
        if self._batch is None:
            if name in self._columns:
                return self._columns[name]
        else:
            at = self._batch.schema.get_field_index(name)
            if at >= 0:
                return self._batch.column(at)
        raise DatasetError(f"flows: column {name!r} is missing")

    def has(self, name: str) -> bool:
        """Whether the batch has a column."""
        if self._batch is None:
            return name in self._columns
        return bool(self._batch.schema.get_field_index(name) >= 0)

    def numpy(self, name: str) -> NDArray[Any]:
        """One column as a NumPy array (dictionary columns decoded to objects)."""
        if self._batch is None and isinstance(self._columns.get(name), np.ndarray):
            made: NDArray[Any] = self._columns[name]
            return made
        column = self.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def is_there(self, name: str) -> NDArray[np.bool_]:
        """Which values of a column are not null, shape (n,)."""
        return is_there(self.plain(name), self._n)

    def with_columns(self, **columns: Any) -> FlowBatch:
        """The same flows with some columns added or replaced (arrays or lists of the same length)."""
        arrays: dict[str, pa.Array] = {}
        for name, values in columns.items():
            field = _FIELDS.get(name)
            if field is None:
                raise DatasetError(f"flows: unknown column {name!r}")
            array = values if isinstance(values, pa.Array) else pa.array(values, field.type)
            if array.type != field.type:
                raise DatasetError(f"flows: column {name!r} is {array.type}, not {field.type}")
            if len(array) != self._n:
                raise DatasetError(f"flows: column {name!r} has {len(array)} of {self._n} values")
            arrays[name] = array
        return self.with_plain(arrays)

    def with_plain(self, columns: dict[str, Any]) -> FlowBatch:
        """The same flows with some columns (``plain_columns``) added or replaced, without checking them."""
        return FlowBatch.of_columns(self._all() | columns, self._n)

    def without(self, names: Collection[str]) -> FlowBatch:
        """The same flows without some columns."""
        kept = {name: column for name, column in self._all().items() if name not in names}
        return FlowBatch.of_columns(kept, self._n)

    def _all(self) -> dict[str, Any]:
        """All columns, in order; a copy."""
        if self._batch is None:
            return dict(self._columns)
        return dict(zip(self._batch.schema.names, self._batch.columns, strict=True))

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> FlowBatch:
        """Some rows, in the order given."""
        return FlowBatch.trusted(self.to_arrow().take(pa.array(np.asarray(rows, dtype=np.int64))))

    def filter(self, keep: NDArray[np.bool_]) -> FlowBatch:
        """The rows where ``keep``, shape (n,), is true; the batch itself when that is all of them."""
        keep = np.asarray(keep, dtype=bool)
        if keep.all():
            return self
        if self._batch is not None:
            return FlowBatch.trusted(self._batch.filter(pa.array(keep)))
        kept = {
            name: of_rows(column, keep, _FIELDS[name].type)
            for name, column in self._columns.items()
        }
        return FlowBatch.of_columns(kept, int(np.count_nonzero(keep)))

    @property
    def payload_packets(self) -> NDArray[np.int64]:
        """Payload packets in both directions, shape (n,)."""
        total = self.numpy("payload_packets_to_server") + self.numpy("payload_packets_to_client")
        return np.asarray(total, dtype=np.int64)

    def segments(self) -> SegmentColumns:
        """The kept segments as flat NumPy arrays."""
        return segment_columns(self)

    def sequences(self) -> SequenceColumns:
        """Signed lengths and gaps as flat NumPy arrays."""
        return sequence_columns(self)

    @staticmethod
    def concat(batches: Sequence[FlowBatch]) -> FlowBatch:
        """Several batches of the same columns as one; an empty batch of all columns for none."""
        if not batches:
            return FlowBatch.from_columns({}, n_flows=0)
        if len(batches) == 1:
            return batches[0]
        table = pa.Table.from_batches([batch.to_arrow() for batch in batches]).combine_chunks()
        merged = table.to_batches()
        return FlowBatch(merged[0] if merged else batches[0].to_arrow().slice(0, 0))
