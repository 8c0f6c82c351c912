"""Counts packets and TCP flows of captures with other Python readers, as JSON lines.

    PEERS/bin/python benchmarks/peer_counts.py CAPTURES --out out/peers.jsonl

Runs in an interpreter that has nfstream and scapy. nfstream reads every file (packed ones are unpacked
first, which it cannot) by the paper's rule as far as it allows: 90 s idle, no end by age, one meter, no
dissection, tunnels opened; scapy counts the records of a file whatever its link type. Answers that are
already in the file are not computed again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import signal
import tempfile
from pathlib import Path
from typing import Any

from nfstream import NFPlugin, NFStreamer
from scapy.utils import RawPcapReader

from oracle import captures_in

TIMEOUT_S = 120


class Payload(NFPlugin):
    """Counts a flow's packets with payload."""

    def on_init(self, packet: Any, flow: Any) -> None:
        """The flow's first packet."""
        flow.udps.payload = int(packet.payload_size > 0)

    def on_update(self, packet: Any, flow: Any) -> None:
        """Each of the others."""
        flow.udps.payload += int(packet.payload_size > 0)


def ask_nfstream(path: Path) -> dict[str, Any]:
    """TCP packets, TCP flows and TCP packets with payload."""
    counts = {"tcp_packets": 0, "tcp_flows": 0, "payload_packets": 0}
    for flow in NFStreamer(
        source=str(path),
        idle_timeout=90,
        active_timeout=2**31 - 1,
        n_dissections=0,
        n_meters=1,
        decode_tunnels=True,
        udps=Payload(),
    ):
        if flow.protocol == 6:
            counts["tcp_packets"] += flow.bidirectional_packets
            counts["tcp_flows"] += 1
            counts["payload_packets"] += flow.udps.payload
    return counts


def ask_scapy(path: Path) -> int:
    """Records of a file."""
    with RawPcapReader(str(path)) as reader:  # of pcapng too: scapy tells it by content
        return sum(1 for _ in reader)


def _interrupt(*_: object) -> None:
    raise TimeoutError(f"no end after {TIMEOUT_S} s")


def main() -> None:
    """Asks about every file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/peers.jsonl"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(exist_ok=True)
    known = set()
    if arguments.out.exists():
        known = {json.loads(line)["file"] for line in arguments.out.read_text().splitlines()}
    signal.signal(signal.SIGALRM, _interrupt)
    with arguments.out.open("a") as out, tempfile.TemporaryDirectory() as folder:
        for name, path in captures_in(arguments.captures):
            if name in known:
                continue
            row: dict[str, Any] = {"file": name}
            file = path
            if path.read_bytes()[:2] == b"\x1f\x8b":
                file = Path(folder, "unpacked.pcap")
                try:
                    file.write_bytes(gzip.decompress(path.read_bytes()))
                except (OSError, EOFError) as error:
                    row["nfstream_said"] = row["scapy_said"] = str(error)[:120]
            for key, ask in (("nfstream", ask_nfstream), ("scapy", ask_scapy)):
                signal.alarm(TIMEOUT_S)
                try:
                    row[key] = ask(file)
                except BaseException as error:  # what a peer cannot read is part of the answer
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    row[f"{key}_said"] = str(error)[:120]
                finally:
                    signal.alarm(0)
            out.write(json.dumps(row) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
