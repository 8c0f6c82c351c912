"""Reads DNS answers from decoded packets: which name a client asked for before it used an address.

``DnsReader`` is called with each ``HeaderBatch``, after reassembly and before the flow table gets it. It
returns a record batch of the schema ``ANSWERS``: a row for each address in a response that came from port 53
over UDP or TCP::

    client: string          who got the response (RFC 5952)
    address: string         an address in the response
    name: string the requested name, lower case, without the last dot, as in ``names.text``
    aliases: list<string>   the names to which the CNAME chain leads, in order; empty without a chain
    ttl_s: uint32           the smallest TTL of the address record and of the chain that leads to it, s
    place: int64            of the packet that completed the response, in the order of packets
                            (``packets.order``): its time, ns since 1970 UTC, where times increase

The reader sees packets and not the kept segments of flows, for three reasons. A flow keeps its first segments,
while the socket of a resolver may carry any number of responses. A DNS flow is handed out 90 s after its last
packet, when the flows that follow from it may be long gone. And where only TCP flows are made, no UDP flow
exists to be read. Its memory is bounded: UDP needs none, and of TCP ``max_connections`` directions are joined,
each with at most one message that is not whole and 64 KiB behind a gap.

A response is read as far as it goes. One with other than one question gives nothing, and an address counts only
if its record belongs to the requested name or to a name in the chain of aliases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from apptell.flows.addresses import ADDRESS_TEXT, write_address
from apptell.kernels.compiled import kernel
from apptell.names.dns_message import MAX_ALIASES, MAX_ANSWERS, Room, read_responses
from apptell.names.dns_stream import DnsStreams
from apptell.packets.headers import TCP, UDP, Status
from apptell.packets.order import PacketOrder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.packets.headers import HeaderBatch

ANSWERS: Final = pa.schema(
    [
        ("client", pa.string()),
        ("address", pa.string()),
        ("name", pa.string()),
        ("aliases", pa.list_(pa.string())),
        ("ttl_s", pa.uint32()),
        ("place", pa.int64()),
    ]
)
"""What ``DnsReader`` returns."""
PORT: Final = 53
_ENDS: Final = [
    f"{end}_{part}" for end in ("source", "target") for part in ("high", "low", "port")
] + ["ip_version"]
"""What tells a direction of TCP from others."""
_NO_ANSWERS: Final = pa.RecordBatch.from_pylist([], schema=ANSWERS)

_Messages = tuple[
    "NDArray[np.int64]",
    "NDArray[np.int64]",
    "NDArray[np.uint8]",
    "NDArray[np.uint64]",
]
"""What ``read_messages`` takes, but for the places."""


@kernel
def _write_addresses(
    values: NDArray[np.uint64], text: NDArray[np.uint8], ends: NDArray[np.int32]
) -> None:
    """Addresses as text (RFC 5952); ``values`` has high and low half and IP version, shape (n, 3)."""
    at = 0
    for row in range(len(values)):
        at = write_address(values[row, 0], values[row, 1], np.int64(values[row, 2]), text, at)
        ends[row + 1] = at


def _address_array(values: NDArray[np.uint64]) -> pa.Array:
    n = len(values)
    text = np.empty(n * ADDRESS_TEXT, dtype=np.uint8)
    ends = np.zeros(n + 1, dtype=np.int32)
    _write_addresses(np.ascontiguousarray(values), text, ends)
    return _strings(n, ends, text)


def _strings(n: int, ends: NDArray[np.int32], text: NDArray[np.uint8]) -> pa.Array:
    used = pa.py_buffer(text[: ends[n]].copy())
    return pa.StringArray.from_buffers(n, pa.py_buffer(ends[: n + 1]), used)


def read_messages(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    data: NDArray[np.uint8],
    client: NDArray[np.uint64],
    place: NDArray[np.int64],
) -> pa.RecordBatch:
    """The addresses in m DNS messages, of the schema ``ANSWERS``.

    Args:
        start: first byte of each message in ``data``, shape (m,).
        stop: what follows its last byte.
        data: the messages.
        client: who got each message: address (high and low half) and IP version, shape (m, 3).
        place: of the packet that completed it, in the order of packets, shape (m,).
    """
    m = len(start)
    n_text, n_answers = 64 * m + 1024, 4 * m + MAX_ANSWERS
    while True:
        room = Room(
            np.empty(m + 1, dtype=np.int32),
            np.empty(m + 1, dtype=np.int32),
            np.empty(MAX_ALIASES * m + 1, dtype=np.int32),
            np.empty(n_text, dtype=np.uint8),
            np.empty(2 * n_text, dtype=np.uint8),
            np.empty((n_answers, 5), dtype=np.uint64),
        )
        count = read_responses(start, stop, data, room)
        if 0 <= count <= n_answers:
            break
        n_text, n_answers = (4 * n_text, n_answers) if count < 0 else (n_text, count)
    answers = room.answers[:count]
    of = answers[:, 0].astype(np.int64)
    aliases = _strings(int(room.alias_counts[m]), room.alias_ends, room.alias_text)
    rows = pa.array(of)
    return pa.RecordBatch.from_arrays(
        [
            _address_array(client).take(rows),
            _address_array(answers[:, 1:4]),
            _strings(m, room.name_ends, room.text).take(rows),
            pa.ListArray.from_arrays(pa.array(room.alias_counts), aliases).take(rows),
            pa.array(answers[:, 4].astype(np.uint32)),
            pa.array(place[of]),
        ],
        schema=ANSWERS,
    )


class DnsReader:
    """Reads the DNS answers of a capture's packets; see the module's text.

    Args:
        max_connections: TCP directions joined at once; the one longest without a packet is dropped first.
    """

    def __init__(self, max_connections: int = 256) -> None:
        self._streams = DnsStreams(max_connections)
        self._order = PacketOrder()

    def __call__(self, headers: HeaderBatch) -> pa.RecordBatch:
        """The answers in these packets, with those whose last bytes come with them; schema ``ANSWERS``.

        Args:
            headers: packets in capture order; each batch once, in order.
        """
        rows = headers.rows
        places = self._order(rows["time_ns"])
        listed = np.flatnonzero((rows["source_port"] == PORT) & (rows["status"] == Status.OK))
        if not len(listed):
            return _NO_ANSWERS
        found, places = rows[listed], places[listed]
        is_udp = (found["protocol"] == UDP) & (found["payload"] > 0)
        is_whole = found["is_whole"] != 0
        batches = [
            read_messages(*_datagrams(found[chosen], data), places[chosen])
            for chosen, data in (
                (is_udp & ~is_whole, headers.buffer),
                (is_udp & is_whole, headers.whole),
            )
            if chosen.any()
        ]
        is_tcp = found["protocol"] == TCP
        if is_tcp.any():
            batches.append(read_messages(*self._join(found[is_tcp], headers, places[is_tcp])))
        return pa.concat_batches(batches) if batches else _NO_ANSWERS

    def _join(
        self, segments: NDArray[Any], headers: HeaderBatch, places: NDArray[np.int64]
    ) -> tuple[*_Messages, NDArray[np.int64]]:
        """The messages that TCP segments complete."""
        joined = bytearray()
        ends, of = [0], []
        for row, segment in enumerate(segments):
            data = headers.whole if segment["is_whole"] else headers.buffer
            at, captured = int(segment["payload_at"]), int(segment["payload_captured"])
            for message in self._streams.add(
                tuple(segment[_ENDS].tolist()),
                int(segment["sequence"]),
                int(segment["flags"]),
                data[at : at + captured].tobytes() if captured > 0 else b"",
                is_cut=captured < segment["payload"],
            ):
                joined += message
                ends.append(len(joined))
                of.append(row)
        bounds = np.array(ends, dtype=np.int64)
        data = np.frombuffer(joined, dtype=np.uint8)
        return bounds[:-1], bounds[1:], data, _targets(segments[of]), places[of]


def _datagrams(rows: NDArray[Any], data: NDArray[np.uint8]) -> _Messages:
    """A message in each datagram."""
    start = rows["payload_at"].astype(np.int64)
    stop = start + np.maximum(np.minimum(rows["payload_captured"], rows["payload"]), 0)
    return start, np.minimum(stop, len(data)), data, _targets(rows)


def _targets(rows: NDArray[Any]) -> NDArray[np.uint64]:
    return np.stack(
        [rows[name].astype(np.uint64) for name in ("target_high", "target_low", "ip_version")],
        axis=1,
    )
