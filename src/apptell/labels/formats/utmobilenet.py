"""UTMobileNetTraffic2021: tables of packets that tshark wrote, one for each run of an activity of an app.

``csvs/<partition>/<app>_<activity>_<date>_<time>_<device>.csv``. The rows are packets in order, without
payload.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import pyarrow as pa

from apptell.errors import LabelError
from apptell.flows.schema import MAX_SEQUENCE, FlowBatch
from apptell.labels import fields
from apptell.labels.format import Candidate, LabelFormat
from apptell.labels.naming import label_text
from apptell.labels.sequences import MALFORMED, SequenceFile, first_id, sequence_flows
from apptell.labels.text_files import TextFile, csv_records, text_lines

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FILE_NAME: Final = re.compile(
    r"(?P<app>[^_]+)(?:_(?P<activity>(?!\d{4}-)[^_]+))?"
    r"(?:_(?P<day>\d{4}-\d{2}-\d{2})_\d{2}-\d{2}-\d{2}(?:_(?P<device>[0-9A-Za-z]+))?)?(?:_.*)?"
)
_BY_HAND: Final = "man-"
_TIME: Final = re.compile(
    r"([A-Z][a-z]{2}) +(\d{1,2}), (\d{4}) (\d{2}):(\d{2}):(\d{2})\.(\d{1,9}) ([A-Z]{3,4})"
)
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
_ZONE_HOURS: Final = {
    "UTC": 0, "GMT": 0, "EDT": -4, "EST": -5, "CDT": -5, "CST": -6, "MDT": -6, "MST": -7, "PDT": -7,
    "PST": -8,
}  # fmt: skip
_NEEDED: Final = (
    "frame.time", "ip.proto", "ip.src", "ip.dst", "tcp.len", "tcp.srcport", "tcp.dstport",
    "udp.srcport", "udp.dstport", "udp.length",
)  # fmt: skip
_FROM_PHONE: Final = 4
"""``sll.pkttype`` of a packet that the capturing phone sent."""
_TCP: Final = 6
_UDP_HEADER: Final = 8
_IDLE_NS: Final = 90 * 10**9
_MAX_PAYLOAD: Final = 1 << 16


class UtMobileNet(LabelFormat):
    """A table of packets of one run."""

    name: ClassVar[str] = "utmobilenet"
    files: ClassVar[str] = (
        "the tables of UTMobileNetTraffic2021: csvs/PARTITION/APP_ACTIVITY_DATE_TIME_DEVICE.csv"
    )

    def detect(self, candidate: Candidate) -> bool:
        """Whether it is a CSV whose columns are these of tshark's."""
        if candidate.path.suffix != ".csv" or not candidate.path.is_file():
            return False
        return set(_NEEDED) <= set(TextFile(candidate.path).first_line.split(","))

    def read(self, candidate: Candidate) -> Iterator[SequenceFile]:
        """The file's flows."""
        path, options = candidate.path, candidate.options
        if path.suffix == ".csv" and path.is_file():
            yield SequenceFile(
                path, candidate.name, self.name, read_utmobilenet, options.groups, options.rename
            )


def read_utmobilenet(path: Path, dropped: Counter[str]) -> Iterator[FlowBatch]:
    """The flows of one table: packets of a 5-tuple, with less than 90 s between them.

    Raises:
        LabelError: the file cannot be read, or lacks a column.
    """
    records = csv_records(text_lines(path))
    names = next(records, [])
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise LabelError(f"{path}: no column {missing[0]!r} of UTMobileNetTraffic2021")
    at = {name: i for i, name in enumerate(names)}
    flows: list[_Flow] = []
    latest: dict[tuple[object, ...], _Flow] = {}
    for record in records:
        try:
            packet = _packet(record, at)
        except (ValueError, IndexError, OverflowError):
            dropped[MALFORMED] += 1
            continue
        if packet is None:
            continue
        ends = packet.source, packet.target
        key = (packet.protocol, *sorted(ends))
        flow = latest.get(key)
        if flow is None or packet.time_ns - flow.last_ns >= _IDLE_NS:
            client, server = ends if packet.is_from_phone in (None, True) else ends[::-1]
            flow = latest[key] = _Flow(
                packet.protocol, client, server, packet.time_ns, packet.place
            )
            flows.append(flow)
        flow.add(packet)
    if flows:
        yield _batch(path, flows)


def _batch(path: Path, flows: Sequence[_Flow]) -> FlowBatch:
    n = len(flows)
    match = _FILE_NAME.fullmatch(path.stem)
    said = match.groupdict() if match else {"app": path.stem.partition("_")[0]}
    activity = (said.get("activity") or "").removeprefix(_BY_HAND)
    label = label_text(f"{said['app']}/{activity}" if activity else str(said["app"]))
    partition = path.resolve().parent.name
    groups: dict[str, list[str | None]] = {
        "session": [path.stem] * n,
        "partition": [partition] * n,
        "source": [partition] * n,
        "day": [said.get("day")] * n,
        "device": [said.get("device")] * n,
        "location": [flow.location or None for flow in flows],
    }
    return sequence_flows(
        path.stem,
        UtMobileNet.name,
        first_id(path) + np.arange(n, dtype=np.uint64),
        np.array([flow.start_ns for flow in flows], dtype=np.int64),
        pa.array([flow.length for flow in flows], pa.list_(pa.int32())),
        pa.array([flow.gap_us for flow in flows], pa.list_(pa.int64())),
        pa.array([label] * n, pa.string()),
        {key: pa.array(values, pa.string()) for key, values in groups.items() if any(values)},
        ((*flow.client, *flow.server, flow.protocol) for flow in flows),
    )


@dataclass(frozen=True, slots=True)
class _Packet:
    time_ns: int
    protocol: int
    source: tuple[str, int]
    target: tuple[str, int]
    payload_bytes: int
    sequence: int | None
    is_from_phone: bool | None
    place: str


@dataclass(slots=True)
class _Flow:
    protocol: int
    client: tuple[str, int]
    server: tuple[str, int]
    start_ns: int
    location: str
    last_ns: int = 0
    length: list[int] = field(default_factory=list)
    gap_us: list[int] = field(default_factory=list)
    last_payload_ns: int = 0
    next_sequence: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, packet: _Packet) -> None:
        """Adds a packet; one without payload, or with payload that was seen, only keeps the flow alive."""
        self.last_ns = max(self.last_ns, packet.time_ns)
        if not packet.payload_bytes or len(self.length) == MAX_SEQUENCE:
            return
        if packet.sequence is not None:
            end = packet.sequence + packet.payload_bytes
            if end <= self.next_sequence.get(packet.source, 0):
                return
            self.next_sequence[packet.source] = end
        is_up = packet.source == self.client
        gap_ns = packet.time_ns - self.last_payload_ns if self.length else 0
        self.length.append(packet.payload_bytes if is_up else -packet.payload_bytes)
        self.gap_us.append(max(gap_ns, 0) // 1000)
        self.last_payload_ns = packet.time_ns


def _packet(record: Sequence[str], at: dict[str, int]) -> _Packet | None:
    """A row; None for one that is neither TCP nor UDP over IPv4."""

    def cell(name: str) -> str:
        return record[at[name]].strip() if name in at else ""

    if cell("ip.proto") not in ("6", "6.0", "17", "17.0"):
        fields.enough(
            record, len(at)
        )  # a row that is cut short is not a packet of another protocol
        return None
    protocol = int(float(cell("ip.proto")))
    word = "tcp" if protocol == _TCP else "udp"
    source, target = (
        (
            str(ip_address(cell(f"ip.{end}"))),
            fields.integer(cell(f"{word}.{end}port"), 0, fields.MAX_PORT),
        )
        for end in ("src", "dst")
    )
    if protocol == _TCP:
        payload = fields.integer(cell("tcp.len"), 0, _MAX_PAYLOAD)
    else:
        payload = fields.integer(cell("udp.length"), _UDP_HEADER, _MAX_PAYLOAD) - _UDP_HEADER
    sequence = cell("tcp.seq") if protocol == _TCP else ""
    kind = cell("sll.pkttype")
    return _Packet(
        _time_ns(cell("frame.time")),
        protocol,
        source,
        target,
        payload,
        fields.integer(sequence, 0, 2**48) if sequence else None,
        fields.integer(kind, 0, 255) == _FROM_PHONE if kind else None,
        cell("location"),
    )


def _time_ns(text: str) -> int:
    """``Apr 30, 2019 19:07:17.184823000 CDT`` in ns since 1970."""
    match = _TIME.fullmatch(text)
    if match is None or match[1] not in _MONTHS or match[8] not in _ZONE_HOURS:
        raise ValueError(f"{text[:40]!r} is not a time of tshark's")
    month = _MONTHS.index(match[1]) + 1
    day, year, hour, minute, second = (int(match[i]) for i in (2, 3, 4, 5, 6))
    whole = fields.moment_ns(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
    return whole + int(match[7].ljust(9, "0")) - _ZONE_HOURS[match[8]] * 3600 * 10**9
