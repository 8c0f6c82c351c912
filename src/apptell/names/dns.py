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

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from apptell.flows.addresses import ADDRESS_TEXT, write_address
from apptell.kernels.compiled import kernel
from apptell.names.dns_message import MAX_ALIASES, MAX_ANSWERS, Room, read_responses
from apptell.names.dns_stream import DnsStreams
from apptell.packets.headers import TCP, UDP
from apptell.packets.order import next_place

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
_PLAIN: Final = pa.schema([field for field in ANSWERS if field.name != "aliases"])
_NO_ANSWERS: Final = {
    True: pa.RecordBatch.from_pylist([], schema=ANSWERS),
    False: pa.RecordBatch.from_pylist([], schema=_PLAIN),
}
"""With aliases and without."""

_Messages = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.uint8]"]
"""First byte of each message, what follows its last, and the bytes."""


_IN_BUFFER, _IN_WHOLE, _SEGMENT = range(3)


class _Listed(NamedTuple):
    """Packets from port 53 with room for n of them."""

    kind: NDArray[np.uint8]
    """_IN_BUFFER or _IN_WHOLE of a datagram, _SEGMENT of TCP; shape (n,)."""
    row: NDArray[np.int64]
    """Of the packet, shape (n,)."""
    start: NDArray[np.int64]
    """First byte of the payload, shape (n,)."""
    stop: NDArray[np.int64]
    """What follows its last captured byte, shape (n,)."""
    client: NDArray[np.uint64]
    """Address (high and low half) and IP version of the target, shape (n, 3)."""
    place: NDArray[np.int64]
    """In the order of packets, shape (n,)."""


@kernel(allocates=False)
def _list_packets(rows: Any, last: int, listed: _Listed) -> tuple[int, int]:
    """Lists the packets from port 53 that may have answers; how many, and the place of the last packet."""
    n = 0
    for row in range(len(rows)):
        packet = rows[row]
        last = next_place(last, packet.time_ns)
        if packet.source_port != PORT or packet.status != 0:
            continue
        if packet.protocol == UDP and packet.payload > 0:
            listed.kind[n] = _IN_WHOLE if packet.is_whole else _IN_BUFFER
        elif packet.protocol == TCP:
            listed.kind[n] = _SEGMENT
        else:
            continue
        start = packet.payload_at
        listed.row[n] = row
        listed.start[n] = start
        listed.stop[n] = start + max(min(packet.payload_captured, packet.payload), 0)
        listed.client[n, 0] = packet.target_high
        listed.client[n, 1] = packet.target_low
        listed.client[n, 2] = packet.ip_version
        listed.place[n] = last
        n += 1
    return n, last


@kernel(allocates=False)
def _write_texts(
    answers: NDArray[np.uint64],
    client: NDArray[np.uint64],
    name_ends: NDArray[np.int32],
    names: NDArray[np.uint8],
    ends: NDArray[np.int32],
    client_text: NDArray[np.uint8],
    address_text: NDArray[np.uint8],
    name_text: NDArray[np.uint8],
) -> None:
    """Client, address and name of each answer as text; the rows of ``ends`` are their ends, (3, n + 1)."""
    client_at = address_at = name_at = 0
    ends[:, 0] = 0
    for row in range(len(answers)):
        of = np.int64(answers[row, 0])
        client_at = write_address(
            client[of, 0], client[of, 1], client[of, 2], client_text, client_at
        )
        address_at = write_address(
            answers[row, 1], answers[row, 2], answers[row, 3], address_text, address_at
        )
        for byte in range(name_ends[of], name_ends[of + 1]):
            name_text[name_at] = names[byte]
            name_at += 1
        ends[0, row + 1], ends[1, row + 1], ends[2, row + 1] = client_at, address_at, name_at


def _strings(n: int, ends: NDArray[np.int32], text: NDArray[np.uint8]) -> pa.Array:
    return pa.StringArray.from_buffers(n, pa.py_buffer(ends[: n + 1]), pa.py_buffer(text))


def read_messages(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    data: NDArray[np.uint8],
    client: NDArray[np.uint64],
    place: NDArray[np.int64],
    *,
    with_aliases: bool = True,
) -> pa.RecordBatch:
    """The addresses in m DNS messages, of the schema ``ANSWERS``.

    Args:
        start: first byte of each message in ``data``, shape (m,).
        stop: what follows its last byte.
        data: the messages.
        client: who got each message: address (high and low half) and IP version, shape (m, 3).
        place: of the packet that completed it, in the order of packets, shape (m,).
        with_aliases: whether there is a column ``aliases``.
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
        count = read_responses(start, stop, data, with_aliases, room)
        if 0 <= count <= n_answers:
            break
        n_text, n_answers = (4 * n_text, n_answers) if count < 0 else (n_text, count)
    if not count:
        return _NO_ANSWERS[with_aliases]
    answers = room.answers[:count]
    of = answers[:, 0].astype(np.int64)
    ends = np.empty((3, count + 1), dtype=np.int32)
    names_size = int(np.diff(room.name_ends)[of].sum())
    texts = [np.empty(n, np.uint8) for n in (*[ADDRESS_TEXT * count] * 2, names_size)]
    _write_texts(answers, client, room.name_ends, room.text, ends, *texts)
    columns = [
        *(_strings(count, each, text) for each, text in zip(ends, texts, strict=True)),
        pa.array(answers[:, 4].astype(np.uint32)),
        pa.array(place[of]),
    ]
    if not with_aliases:
        return pa.RecordBatch.from_arrays(columns, schema=_PLAIN)
    aliases = _strings(int(room.alias_counts[m]), room.alias_ends, room.alias_text)
    lists = pa.ListArray.from_arrays(pa.array(room.alias_counts), aliases)
    return pa.RecordBatch.from_arrays(
        [*columns[:3], lists.take(pa.array(of)), *columns[3:]], schema=ANSWERS
    )


class DnsReader:
    """Reads the DNS answers of a capture's packets; see the module's text.

    Args:
        max_connections: TCP directions joined at once; the one longest without a packet is dropped first.
        with_aliases: whether the answers have the column ``aliases``.
    """

    def __init__(self, max_connections: int = 256, *, with_aliases: bool = True) -> None:
        self._with_aliases = with_aliases
        self._streams = DnsStreams(max_connections)
        self._last = 0

    def __call__(self, headers: HeaderBatch) -> pa.RecordBatch:
        """The answers in these packets, with those whose last bytes come with them; schema ``ANSWERS``.

        Args:
            headers: packets in capture order; each batch once, in order.
        """
        m = len(headers.rows)
        listed = _Listed(
            np.empty(m, np.uint8),
            np.empty(m, np.int64),
            np.empty(m, np.int64),
            np.empty(m, np.int64),
            np.empty((m, 3), np.uint64),
            np.empty(m, np.int64),
        )
        n, self._last = _list_packets(headers.rows, self._last, listed)
        if not n:
            return _NO_ANSWERS[self._with_aliases]
        kind, row, start, stop, client, place = (column[:n] for column in listed)
        batches = []
        for wanted, data in ((_IN_BUFFER, headers.buffer), (_IN_WHOLE, headers.whole)):
            chosen = kind == wanted
            if chosen.any():
                messages = (start[chosen], np.minimum(stop[chosen], len(data)), data)
                batches.append((*messages, client[chosen], place[chosen]))
        is_tcp = kind == _SEGMENT
        if is_tcp.any():
            messages, of = self._join(headers.rows[row[is_tcp]], headers)
            if of:
                batches.append((*messages, client[is_tcp][of], place[is_tcp][of]))
        found = [read_messages(*batch, with_aliases=self._with_aliases) for batch in batches]
        if not found:
            return _NO_ANSWERS[self._with_aliases]
        return found[0] if len(found) == 1 else pa.concat_batches(found)

    def _join(self, segments: NDArray[Any], headers: HeaderBatch) -> tuple[_Messages, list[int]]:
        """The messages that TCP segments complete, and the segment that completes each."""
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
        return (bounds[:-1], bounds[1:], np.frombuffer(joined, dtype=np.uint8)), of
