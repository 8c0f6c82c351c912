"""Every capture of the shared folder, counted by tshark and by apptell: docs/captures.csv and a summary.

    python benchmarks/captures_vs_tshark.py CAPTURES [--oracle-only]

Writes docs/captures.csv (all files) and the table of differences in docs/captures.md.

tshark reads each file once without reassembly of fragments; what it said is kept in out/ and not asked
again. TCP inside ICMP errors is not counted. Flows are formed from tshark's fields by the paper's rule.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

TSHARK = [
    "tshark", "-n", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE",
    "-o", "tcp.desegment_tcp_streams:FALSE", "-o", "tcp.analyze_sequence_numbers:FALSE",
    "-o", "gtp.dissect_tpdu_as:TPDU heuristic",
    "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=,",
    "-e", "frame.time_epoch", "-e", "frame.protocols", "-e", "tcp.len", "-e", "tcp.srcport",
    "-e", "tcp.dstport", "-e", "ip.src", "-e", "ip.dst", "-e", "ipv6.src", "-e", "ipv6.dst",
]  # fmt: skip
TIMEOUT_NS = 90 * 10**9
MARK = "## Differences, file by file (tshark / apptell)"
OURS_KEYS = ("packets", "tcp_packets", "tcp_flows", "payload_packets")


def ask_tshark(path: Path) -> dict[str, Any]:
    """Packets, TCP packets, TCP flows and TCP payload packets of one file."""
    try:
        run = subprocess.run(
            [*TSHARK, "-r", str(path)],
            capture_output=True,
            timeout=300,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return {"error": "timeout"}
    n_packets = tcp_packets = payload_packets = flows = 0
    last: dict[tuple[Any, ...], int] = {}
    for line in run.stdout.splitlines():
        fields = line.split("\t")
        if len(fields) < 9:
            continue
        n_packets += 1
        layers = fields[1].split(":")
        if "tcp" not in layers or not fields[3]:
            continue
        at = layers.index("tcp")
        if {"icmp", "icmpv6"} & set(layers[:at]):
            continue
        tcp_packets += 1
        seconds, _, fraction = fields[0].partition(".")
        time_ns = int(seconds or 0) * 10**9 + int((fraction + "0" * 9)[:9] or 0)
        inner = "ip"
        for layer in layers[:at]:
            if layer in ("ip", "ipv6"):
                inner = layer
        source, target = (fields[5], fields[6]) if inner == "ip" else (fields[7], fields[8])
        ends = sorted(
            (
                (source.split(",")[-1], fields[3].split(",")[0]),
                (target.split(",")[-1], fields[4].split(",")[0]),
            )
        )
        key = tuple(ends)
        if key not in last or time_ns - last[key] > TIMEOUT_NS:
            flows += 1
        last[key] = max(last.get(key, time_ns), time_ns)
        length = fields[2].split(",")[0]
        payload_packets += bool(length) and int(length) > 0
    said = [
        line
        for line in run.stderr.splitlines()
        if "running as" not in line.lower() and line.strip()
    ]
    return {
        "packets": n_packets,
        "tcp_packets": tcp_packets,
        "tcp_flows": flows,
        "payload_packets": payload_packets,
        "said": " ".join(said)[-200:],
    }


def ask_apptell(path: Path) -> dict[str, Any]:
    """The same of apptell's literal reading of the paper."""
    from apptell.errors import CaptureError
    from apptell.flows import FlowOptions, read_flows

    flows = payload = packets = 0
    said, stats = "", None
    try:
        reader = read_flows(path, FlowOptions(mode="paper", groups=("core",)))
        stats = reader.stats
        for batch in reader:
            flows += len(batch)
            payload += int(batch.payload_packets.sum())
            packets += int(
                batch.numpy("packets_to_server").sum() + batch.numpy("packets_to_client").sum()
            )
    except CaptureError as error:
        said = str(error)
    return {
        "packets": stats.packets if stats else 0,
        "tcp_packets": packets,
        "tcp_flows": flows,
        "payload_packets": payload,
        "said": said,
        "fragments": stats.fragments if stats else 0,
        "tcp": stats.protocols.get(6, 0) if stats else 0,
        "status": stats.status if stats else {},
    }


def why(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """The reason of a difference, told from what both programs said."""
    said = theirs.get("said", "")
    bad = ours["status"].get("bad_transport", 0) + ours["status"].get("cut_in_headers", 0)
    if "support" in said or "unsupported" in said:
        return "tshark does not know the link type or version"
    if ours["packets"] == 0 and theirs["packets"] == 1:
        return "the first header is broken; tshark shows it as one malformed frame"
    if ours["packets"] < theirs["packets"]:
        return "tshark counts pcapng blocks that hold no packet (custom blocks, events)"
    if ours["tcp_packets"] == theirs["tcp_packets"] and ours["fragments"]:
        return "first fragments: tshark gives no TCP length for them"
    if ours["tcp_packets"] > theirs["tcp_packets"]:
        return "BIG TCP: total length 0, which this tshark does not read"
    if theirs["tcp_packets"] - ours["tcp_packets"] <= bad:
        return "TCP header length that cannot be, or header cut off; tshark counts the packet"
    if ours["status"].get("unknown_link_type"):
        return "link type that is not decoded (named and counted)"
    if ours["tcp_packets"] == theirs["tcp_packets"]:
        return "flow rule: addresses inside a payload in tshark's fields, or a time below zero"
    return "TCP inside a layer that is not opened (IPComp, CAPWAP, sFlow)"


def main() -> None:
    """Compares file by file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", type=Path)
    parser.add_argument("--oracle-only", action="store_true")
    parser.add_argument("--csv", type=Path, default=Path("docs/captures.csv"))
    arguments = parser.parse_args()
    kept = Path("out/tshark.jsonl")
    kept.parent.mkdir(exist_ok=True)
    known = {}
    if kept.exists():
        known = {row["file"]: row for row in map(json.loads, kept.read_text().splitlines())}
    files = [
        path
        for folder in ("messengers", "android", "ndpi", "edge")
        for path in sorted((arguments.captures / folder).rglob("*"))
        if path.is_file()
    ]
    with kept.open("a") as out:
        for path in files:
            name = str(path.relative_to(arguments.captures))
            if name not in known:
                known[name] = {"file": name, **ask_tshark(path)}
                out.write(json.dumps(known[name]) + "\n")
                out.flush()
    if arguments.oracle_only:
        return
    equal: Counter[str] = Counter()
    rows: defaultdict[str, list[str]] = defaultdict(list)
    with arguments.csv.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(
            [
                "file",
                *(f"tshark_{key}" for key in OURS_KEYS),
                *(f"apptell_{key}" for key in OURS_KEYS),
            ]
        )
        for path in files:
            name = str(path.relative_to(arguments.captures))
            theirs, ours = known[name], ask_apptell(path)
            table.writerow(
                [name, *(theirs.get(k, "") for k in OURS_KEYS), *(ours[k] for k in OURS_KEYS)]
            )
            for key in OURS_KEYS:
                equal[key] += theirs.get(key) == ours[key]
            if any(theirs.get(key) != ours[key] for key in OURS_KEYS):
                rows[why(theirs, ours)].append(
                    f"| {name} | "
                    + " | ".join(f"{theirs.get(key)} / {ours[key]}" for key in OURS_KEYS)
                    + " |"
                )
    page = Path("docs/captures.md")
    head = page.read_text().split(MARK)[0] if page.exists() else ""
    lines = [
        MARK,
        "",
        f"{len(files)} files. Equal: "
        + ", ".join(
            f"{key.replace('_', ' ')} {equal[key]} ({equal[key] / len(files):.2%})"
            for key in OURS_KEYS
        )
        + ".",
        "",
    ]
    for reason, some in sorted(rows.items(), key=lambda item: -len(item[1])):
        lines += [
            f"### {reason[0].upper()}{reason[1:]} ({len(some)})",
            "",
            "| file | packets | TCP packets | TCP flows | payload packets |",
            "| --- | --- | --- | --- | --- |",
            *some,
            "",
        ]
    page.write_text(head + "\n".join(lines))
    print(lines[2], {reason: len(some) for reason, some in rows.items()})


if __name__ == "__main__":
    main()
