"""Factories of packets, captures, flows and models for tests, including those of users.

Only functions with a seed are random; the same call gives the same bytes. Layouts: RFC 791 (IPv4), RFC 8200
(IPv6), RFC 9293 (TCP), RFC 768 (UDP), RFC 8446 (client hello), the classic pcap.
"""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.flows.schema import MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_SEQUENCE, FlowBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
"""TCP flags, to be added up."""
LINKTYPE_ETHERNET: Final = 1
START_NS: Final = 1_700_000_000_000_000_000
"""When everything here begins by default: 2023-11-14 22:13:20 UTC."""

Endpoint = tuple[str, int]
"""An address and a port."""
Packet = tuple[int, bytes]
"""Capture time in ns since 1970 UTC, and the frame's bytes."""


def tcp_frame(
    source: Endpoint,
    target: Endpoint,
    payload: bytes = b"",
    *,
    sequence: int = 0,
    acknowledgement: int = 0,
    flags: int = ACK,
    ttl: int = 64,
) -> bytes:
    """An Ethernet frame with one TCP segment, IPv4 or IPv6 by its addresses, checksums right."""
    header = struct.pack(
        ">HHIIBBHHH",
        source[1],
        target[1],
        sequence % 2**32,
        acknowledgement % 2**32,
        5 << 4,
        flags,
        65535,
        0,
        0,
    )
    return _ethernet(source[0], target[0], 6, header + payload, checksum_at=16, ttl=ttl)


def udp_frame(source: Endpoint, target: Endpoint, payload: bytes = b"", *, ttl: int = 64) -> bytes:
    """An Ethernet frame with one UDP datagram, IPv4 or IPv6 by its addresses, checksums right."""
    header = struct.pack(">HHHH", source[1], target[1], 8 + len(payload), 0)
    return _ethernet(source[0], target[0], 17, header + payload, checksum_at=6, ttl=ttl)


def conversation(
    client: Endpoint,
    server: Endpoint,
    messages: Sequence[tuple[bool, bytes]],
    *,
    start_ns: int = START_NS,
    gap_ns: int = 10_000_000,
    handshake: bool = True,
    close: bool = True,
) -> list[Packet]:
    """The packets of a TCP connection that sends these messages, ``gap_ns`` apart.

    Args:
        client: the endpoint that opens the connection.
        server: the endpoint that accepts it.
        messages: for each, whether it goes to the server, and its bytes (one packet each).
        start_ns: time of the first packet.
        gap_ns: from each packet to the next.
        handshake: begin with SYN, SYN-ACK, ACK.
        close: end with FIN in both directions.
    """
    frames: list[bytes] = []
    next_sequence = {True: 1000, False: 5000}

    def send(to_server: bool, payload: bytes, flags: int) -> None:
        source, target = (client, server) if to_server else (server, client)
        frames.append(
            tcp_frame(
                source,
                target,
                payload,
                sequence=next_sequence[to_server],
                acknowledgement=next_sequence[not to_server] if flags & ACK else 0,
                flags=flags,
            )
        )
        next_sequence[to_server] += len(payload) + (flags & SYN > 0) + (flags & FIN > 0)

    if handshake:
        send(True, b"", SYN)
        send(False, b"", SYN | ACK)
        send(True, b"", ACK)
    for to_server, payload in messages:
        send(to_server, payload, PSH | ACK)
    if close:
        send(True, b"", FIN | ACK)
        send(False, b"", FIN | ACK)
        send(True, b"", ACK)
    return [(start_ns + i * gap_ns, frame) for i, frame in enumerate(frames)]


def pcap_bytes(packets: Iterable[Packet], *, link_type: int = LINKTYPE_ETHERNET) -> bytes:
    """A classic capture with nanosecond times, little-endian."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, link_type)]
    for time_ns, frame in packets:
        seconds, rest = divmod(time_ns, 1_000_000_000)
        out += [struct.pack("<IIII", seconds, rest, len(frame), len(frame)), frame]
    return b"".join(out)


def write_pcap(
    path: Path, packets: Iterable[Packet], *, link_type: int = LINKTYPE_ETHERNET
) -> Path:
    """Writes ``pcap_bytes`` to a file and returns its path."""
    path = Path(path)
    path.write_bytes(pcap_bytes(packets, link_type=link_type))
    return path


def client_hello(
    server_name: str, *, alpn: Sequence[str] = ("h2", "http/1.1"), seed: int = 0
) -> bytes:
    """A TLS 1.3 client hello in one record, with server name and ALPN; its random bytes seeded."""
    noise = np.random.default_rng(seed)
    host = server_name.encode("idna")
    names = b"".join(_sized(1, protocol.encode()) for protocol in alpn)
    key = _sized(2, noise.bytes(32))
    extensions = b"".join(
        struct.pack(">H", kind) + _sized(2, body)
        for kind, body in (
            (0, _sized(2, b"\x00" + _sized(2, host))),
            (10, _sized(2, struct.pack(">HH", 0x001D, 0x0017))),
            (13, _sized(2, struct.pack(">HH", 0x0403, 0x0804))),
            (16, _sized(2, names)),
            (43, _sized(1, struct.pack(">HH", 0x0304, 0x0303))),
            (51, _sized(2, struct.pack(">H", 0x001D) + key)),
        )
    )
    body = (
        struct.pack(">H", 0x0303)
        + noise.bytes(32)
        + _sized(1, noise.bytes(32))
        + _sized(2, struct.pack(">HHH", 0x1301, 0x1302, 0xC02F))
        + _sized(1, b"\x00")
        + _sized(2, extensions)
    )
    return struct.pack(">BH", 22, 0x0301) + _sized(2, b"\x01" + _sized(3, body))


def app_messages(app: str, seed: int = 0, n_messages: int = 6) -> list[tuple[bool, bytes]]:
    """The messages of an invented app in one connection: a hello to ``<app>.example``, then its own pattern.

    Lengths and bytes depend on the app's name and vary with the seed, so that a model can learn to
    distinguish apps, but not trivially.
    """
    habit = np.random.default_rng(list(app.encode()))
    usual = habit.integers(60, 1400, n_messages)
    noise = np.random.default_rng([seed, *app.encode()])
    messages = [(True, client_hello(f"{app}.example", seed=int(noise.integers(2**31))))]
    for i in range(1, n_messages):
        length = int(usual[i] + noise.integers(-20, 21))
        header = struct.pack(">BHH", 23, 0x0303, length)
        messages.append((i % 2 == 0, header + noise.bytes(length)))
    return messages


def app_capture(
    apps: Sequence[str], flows_per_app: int = 3, *, seed: int = 0, start_ns: int = START_NS
) -> list[Packet]:
    """The packets of a phone on which these invented apps talk, one connection a second."""
    packets: list[Packet] = []
    for i in range(flows_per_app):
        for j, app in enumerate(apps):
            number = i * len(apps) + j
            packets += conversation(
                ("192.168.1.2", 40_000 + number),
                (f"203.0.113.{10 + j}", 443),
                app_messages(app, seed=seed + number),
                start_ns=start_ns + number * 1_000_000_000,
            )
    return packets


def flow_batch(
    labels: Sequence[str | None],
    *,
    messages: Sequence[Sequence[tuple[bool, bytes]]] | None = None,
    groups: Sequence[dict[str, str]] | None = None,
    seed: int = 0,
    gap_ns: int = 10_000_000,
) -> FlowBatch:
    """Finished flows as the flow table would return them, without any packets.

    Args:
        labels: the app of each flow; None for one without a label (its messages are those of ``unknown``).
        messages: the messages of each flow; default: ``app_messages`` of its label.
        groups: the groups of each flow; default: ``{"source": "s0"}`` to ``s4`` in turn.
        seed: of the messages.
        gap_ns: from one packet with payload to the next.
    """
    n = len(labels)
    if messages is None:
        messages = [
            app_messages(label or "unknown", seed=seed + i) for i, label in enumerate(labels)
        ]
    if groups is None:
        groups = [{"source": f"s{i % 5}"} for i in range(n)]
    start = [START_NS + i * 1_000_000_000 for i in range(n)]
    times = [[start[i] + j * gap_ns for j in range(len(said))] for i, said in enumerate(messages)]
    columns: dict[str, object] = {
        "capture": [f"{group.get('source', 'capture')}.pcap" for group in groups],
        "connection_id": np.arange(n, dtype=np.uint64),
        "part": np.zeros(n, np.int32),
        "community_id": [f"1:flow{i}" for i in range(n)],
        "protocol": np.full(n, 6, np.uint8),
        "client_address": ["192.168.1.2"] * n,
        "client_port": 40_000 + np.arange(n) % 20_000,
        "server_address": ["203.0.113.10"] * n,
        "server_port": [443] * n,
        "client_by": ["handshake"] * n,
        "has_handshake": [True] * n,
        "start_ns": start,
        "end_ns": [flow[-1] if flow else begin for flow, begin in zip(times, start, strict=True)],
        "end_reason": ["closed"] * n,
        "retransmissions": np.zeros(n, np.int64),
        "out_of_order": np.zeros(n, np.int64),
        "decided_ns": [flow[:5][-1] if flow else start[i] for i, flow in enumerate(times)],
        "segment_length": [[len(data) for _, data in said][:MAX_SEGMENTS] for said in messages],
        "segment_to_server": [[way for way, _ in said][:MAX_SEGMENTS] for said in messages],
        "segment_time_ns": [flow[:MAX_SEGMENTS] for flow in times],
        "segment_bytes": [
            [data[:MAX_SEGMENT_BYTES] for _, data in said][:MAX_SEGMENTS] for said in messages
        ],
        "sequence_length": [
            [len(data) if way else -len(data) for way, data in said][:MAX_SEQUENCE]
            for said in messages
        ],
        "sequence_gap_us": [
            [gap_ns // 1000 if j else 0 for j in range(len(said))][:MAX_SEQUENCE]
            for said in messages
        ],
        "label": list(labels),
        "label_from": ["testing" if label else None for label in labels],
        "groups": [list(group.items()) for group in groups],
    }
    for side, to_server in (("server", True), ("client", False)):
        sizes = [[len(data) for way, data in said if way == to_server] for said in messages]
        early = [[len(data) for way, data in said[:5] if way == to_server] for said in messages]
        columns[f"packets_to_{side}"] = [len(flow) + 3 for flow in sizes]
        columns[f"bytes_to_{side}"] = [sum(flow) + 40 * (len(flow) + 3) for flow in sizes]
        columns[f"payload_packets_to_{side}"] = [len(flow) for flow in sizes]
        columns[f"payload_bytes_to_{side}"] = [sum(flow) for flow in sizes]
        columns[f"decided_packets_to_{side}"] = [len(flow) + 2 for flow in early]
        columns[f"decided_bytes_to_{side}"] = [sum(flow) + 40 * (len(flow) + 2) for flow in early]
    return FlowBatch.from_columns(columns, n_flows=n)


def tiny_model(
    folder: Path,
    apps: Sequence[str] = ("signal", "zoom"),
    *,
    flows_per_app: int = 12,
    seed: int = 0,
) -> Path:
    """Trains the paper's forest, without ports, on invented flows; the model's folder.

    Raises:
        MissingError: the ``train`` extra is not installed.
    """
    from apptell.learning import train_model  # needed by no other factory

    labels = [app for app in apps for _ in range(flows_per_app)]
    flows = flow_batch(labels, seed=seed)
    train_model(flows, labels, model="paper-rf", ports=False, seed=seed, out=folder, replace=True)
    return Path(folder)


def _sized(width: int, body: bytes) -> bytes:
    return len(body).to_bytes(width, "big") + body


def _ethernet(
    source: str, target: str, protocol: int, segment: bytes, *, checksum_at: int, ttl: int
) -> bytes:
    """Link header, IP header and a segment whose checksum field lies at ``checksum_at``."""
    a, b = ipaddress.ip_address(source), ipaddress.ip_address(target)
    if a.version != b.version:
        raise ValueError(f"{source} and {target} are not of one IP version")
    if a.version == 4:
        ether_type = 0x0800
        pseudo = a.packed + b.packed + struct.pack(">HH", protocol, len(segment))
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, ttl, protocol, 0)
        head += a.packed + b.packed
        head = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
    else:
        ether_type = 0x86DD
        pseudo = a.packed + b.packed + struct.pack(">II", len(segment), protocol)
        head = struct.pack(">IHBB", 0x60000000, len(segment), protocol, ttl) + a.packed + b.packed
    total = _checksum(pseudo + segment)
    segment = segment[:checksum_at] + struct.pack(">H", total) + segment[checksum_at + 2 :]
    macs = bytes.fromhex("020000000002020000000001")
    return macs + struct.pack(">H", ether_type) + head + segment


def _checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\x00" * (len(data) % 2))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
