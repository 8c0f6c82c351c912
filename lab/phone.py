"""Converts a recording from the gateway to the files that PCAPdroid writes on a phone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lab import pcap, pcapdroid, samples
from lab.ownership import Owned

if TYPE_CHECKING:
    from pathlib import Path

UIDS = {
    "irc": 10_211,
    "matrix": 10_187,
    "mqtt": 10_240,
    "mumble": 10_199,
    "other": 10_102,
    "websocketchat": 10_255,
    "xmpp": 10_170,
}


def make(
    recording: Path, target: Path, *, per_app: int = 5, n_packets: int = 14, seed: int = 5
) -> tuple[int, int]:
    """Write ``phone.pcap`` and ``phone.csv``; returns connections and packets."""
    link, packets = pcap.read(recording / "capture.pcap")
    if link != pcap.RAW:
        raise ValueError(f"{recording}: tapped on the device; whole IP packets are needed")
    rows = samples.read_csv(recording / "connections.csv")
    whole: dict[pcap.Key, list[pcap.TcpPacket]] = {}
    for p in packets:
        key = p.key if p.key in rows else p.back
        if (
            key in rows
            and len(rows[key]) == 1
            and len(found := whole.setdefault(key, [])) < n_packets
        ):
            found.append(p)
    by_app: dict[str, list[pcap.Key]] = {}
    for key, found in whole.items():
        if found[0].flags & pcap.SYN and sum(p.payload_bytes > 0 for p in found) >= 2:
            by_app.setdefault(rows[key][0].app, []).append(key)
    rng = random.Random(seed)
    chosen = {
        key: app
        for app, keys in sorted(by_app.items())
        for key in rng.sample(keys, min(per_app, len(keys)))
    }
    records = sorted(
        (
            (p.time_ns, p.data, UIDS.get(app, 10_300), app)
            for key, app in chosen.items()
            for p in whole[key]
        ),
        key=lambda r: r[0],
    )
    target.mkdir(parents=True, exist_ok=True)
    with (target / "phone.pcap").open("wb") as sink:
        number = pcapdroid.write_pcap(sink, records)
    lines = [
        _line(whole[key], key, app)
        for key, app in sorted(chosen.items(), key=lambda item: whole[item[0]][0].time_ns)
    ]
    (target / "phone.csv").write_text("\n".join([pcapdroid.HEADER, *lines]) + "\n")
    return len(chosen), number


def _line(found: list[pcap.TcpPacket], key: pcap.Key, app: str) -> str:
    sent, back = [p for p in found if p.key == key], [p for p in found if p.key != key]
    owned = Owned(6, *key, UIDS.get(app, 10_300), found[0].time_ns, found[-1].time_ns)
    totals = (sum(p.wire for p in sent), sum(p.wire for p in back), len(sent), len(back))
    return pcapdroid.csv_line(owned, app, f"test.lab.{app}", totals)
