"""Writes the first packets of chosen flows as ``<recording>/<app>.pcap.xz``."""

from __future__ import annotations

import io
import json
import lzma
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import pcap

if TYPE_CHECKING:
    from pathlib import Path

N_PAYLOAD = 8


@dataclass(frozen=True)
class Row:
    """One line of the connections CSV."""

    local: str
    local_port: int
    remote: str
    remote_port: int
    app: str
    first: str


def read_csv(path: Path) -> dict[pcap.Key, list[Row]]:
    """Connections by tuple, in order of their first sight.

    App and info may hold commas, so read from both ends.
    """
    rows: dict[pcap.Key, list[Row]] = {}
    for line in path.read_text().splitlines()[1:]:
        fields = line.split(",")
        row = Row(fields[1], int(fields[2]), fields[3], int(fields[4]), fields[6], fields[-2])
        rows.setdefault((row.local, row.local_port, row.remote, row.remote_port), []).append(row)
    return rows


def labelled(
    folder: Path, n_payload: int = N_PAYLOAD
) -> tuple[int, dict[str, list[list[pcap.TcpPacket]]], int]:
    """Link type, app → flows of at least two payload packets.

    And how many connections had no label.
    """
    link, packets = pcap.read(folder / "capture.pcap")
    rows = read_csv(folder / "connections.csv")
    flows: dict[str, list[list[pcap.TcpPacket]]] = {}
    unknown = 0
    for (key, use), head in pcap.flow_heads(packets, n_payload).items():
        owners = rows.get(key, [])
        if sum(p.payload_bytes > 0 for p in head) < 2:
            continue
        if use >= len(owners):
            unknown += 1
            continue
        flows.setdefault(owners[use].app, []).append(head)
    return link, flows, unknown


def cut(
    folder: Path, target: Path, quotas: dict[str, int], seed: int, n_payload: int = N_PAYLOAD
) -> dict[str, int]:
    """Write one recording's samples; returns flows per app."""
    link, flows, _ = labelled(folder, n_payload)
    target.mkdir(parents=True, exist_ok=True)
    counts = {}
    for app, quota in sorted(quotas.items()):
        found = flows.get(app, [])
        chosen = random.Random(f"{seed}/{app}").sample(found, min(quota, len(found)))
        packets = sorted((p for head in chosen for p in head), key=lambda p: p.time_ns)
        buffer = io.BytesIO()
        pcap.write(buffer, link, packets)
        packed = lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)
        (target / f"{app}.pcap.xz").write_bytes(packed)
        counts[app] = len(chosen)
    content = json.loads((folder / "recording.json").read_text())
    content["flows"] = counts
    (target / "recording.json").write_text(json.dumps(content, indent=1) + "\n")
    return counts
