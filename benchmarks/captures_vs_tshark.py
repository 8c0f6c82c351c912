"""Compares the counts of every shared capture by tshark, apptell and nfstream, file by file.

    python benchmarks/captures_vs_tshark.py CAPTURES --tshark tshark [--peers out/peers.jsonl]

Writes docs/reports/captures.csv (all files) and the table of differences in docs/reference/captures.md.
tshark's answers are kept (``oracle.py``); those of nfstream and scapy are read from the file of
``peer_counts.py`` if it exists.

From tshark's fields: packets are the records that are packets; copies of TCP headers inside ICMP errors
and sFlow samples do not count, nor incomplete TCP headers; the addresses of a packet are those of the IP
header before its first TCP header; flows are formed by 5-tuple and 90 s; a first fragment, for which tshark
gives no TCP length, has the payload that its IP and TCP header lengths leave.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from oracle import PREFERENCES, Answer, Tshark, captures_in

TIMEOUT_NS = 90 * 10**9
MARK = "## How the counts were compared"
KEYS = ("packets", "tcp_packets", "tcp_flows", "payload_packets")
NAMES = dict(zip(KEYS, ("packets", "TCP packets", "TCP flows", "payload packets"), strict=True))
UNREADABLE = "tshark does not know the link type or version"


def count(answer: Answer) -> dict[str, Any]:
    """Packets, TCP packets, TCP flows and TCP payload packets by tshark's fields."""
    counts: Counter[str] = Counter()
    last: dict[tuple[Any, ...], int] = {}
    layers_with_tcp: Counter[str] = Counter()
    for packet in answer.packets():
        counts["packets"] += 1
        layers = (packet["frame.protocols"] or [""])[0].split(":")
        if "tcp" not in layers or not packet["tcp.srcport"]:
            continue
        before = layers[: layers.index("tcp")]
        if {"icmp", "icmpv6", "sflow"} & set(before) or not _is_whole(packet):
            continue
        layers_with_tcp[":".join(before)] += 1
        counts["tcp_packets"] += 1
        ends = _ends(packet, before)
        now = _nanoseconds((packet["frame.time_epoch"] or ["0"])[0])
        if ends not in last or now - last[ends] > TIMEOUT_NS:
            counts["tcp_flows"] += 1
        last[ends] = max(last.get(ends, now), now)
        counts["payload_packets"] += _payload(packet, before) > 0
    return {key: counts[key] for key in KEYS} | {
        "said": answer.said[-200:],
        "layers": dict(layers_with_tcp),
    }


def _is_whole(packet: dict[str, list[str]]) -> bool:
    """Whether tshark finds a TCP header of 20 bytes or more, and does not call it malformed."""
    if any("Malformed Packet: TCP" in said for said in packet["_ws.malformed"]):
        if not packet["tcp.len"]:  # it has a length where only an option is malformed
            return False
    return bool(packet["tcp.hdr_len"]) and int(packet["tcp.hdr_len"][0]) >= 20


def _ends(packet: dict[str, list[str]], before: list[str]) -> tuple[Any, ...]:
    """Both ends of the first TCP header, addresses of the IP header before it."""
    version = next((layer for layer in reversed(before) if layer in ("ip", "ipv6")), "ip")
    place = before.count(version) - 1
    sources, targets = packet[f"{version}.src"], packet[f"{version}.dst"]
    source = sources[place] if place < len(sources) else ""
    target = targets[place] if place < len(targets) else ""
    return tuple(sorted(((source, packet["tcp.srcport"][0]), (target, packet["tcp.dstport"][0]))))


def _payload(packet: dict[str, list[str]], before: list[str]) -> int:
    if packet["tcp.len"]:
        return int(packet["tcp.len"][0])
    header = int(packet["tcp.hdr_len"][0])
    if before[-1] == "ip" or "ip" in before:
        place = before.count("ip") - 1
        return int(packet["ip.len"][place]) - int(packet["ip.hdr_len"][place]) - header
    return int(packet["ipv6.plen"][0]) - 8 - header


def _nanoseconds(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    fraction = "".join(letter for letter in fraction[:9] if letter.isdigit())
    return int(seconds or 0) * 10**9 + int((fraction + "0" * 9)[:9])


def ask_apptell(path: Path) -> dict[str, Any]:
    """The same counts by apptell in the mode ``paper``."""
    from apptell.errors import CaptureError
    from apptell.flows import FlowOptions
    from apptell.names import read_flows

    counts: Counter[str] = Counter()
    said, stats = "", None
    try:
        reader = read_flows(path, FlowOptions(mode="paper", groups=("core",)))
        stats = reader.stats
        for batch in reader:
            counts["tcp_flows"] += len(batch)
            counts["payload_packets"] += int(batch.payload_packets.sum())
            counts["tcp_packets"] += int(
                batch.numpy("packets_to_server").sum() + batch.numpy("packets_to_client").sum()
            )
    except CaptureError as error:
        said = str(error)
    counts["packets"] = stats.packets if stats else 0
    return {key: counts[key] for key in KEYS} | {
        "said": said,
        "status": dict(stats.status) if stats else {},
    }


def why(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """The reason of a difference, derived from the output of both programs."""
    status = Counter(ours["status"])
    if "doesn't support" in theirs["said"]:
        return UNREADABLE
    if 0 < theirs["tcp_packets"] < ours["tcp_packets"]:
        return "TCP headers that tshark calls malformed and apptell does not"
    if theirs["tcp_packets"] < ours["tcp_packets"]:
        return "TCP that tshark does not reach (BIG TCP behind a length of 0)"
    layers = {layer for stack in theirs["layers"] for layer in stack.split(":")}
    closed = sorted(layers & {"ipcomp", "capwap.data", "arcnet", "juniper"})
    if closed:
        return f"TCP inside a layer that is not opened ({', '.join(closed)})"
    if theirs["tcp_packets"] - ours["tcp_packets"] > 0:
        if theirs["tcp_packets"] - ours["tcp_packets"] <= (
            status["bad_transport"] + status["cut_in_headers"] + status["bad_ip"]
        ):
            return "a header that is cut off or cannot be; tshark counts the packet as TCP"
        return "TCP that is not reached"
    if theirs["payload_packets"] != ours["payload_packets"]:
        return "a length that cannot be"
    return "flow rule alone: times that cannot be or step back"


def main() -> None:
    """Compares file by file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", type=Path)
    parser.add_argument("--tshark", default="tshark")
    parser.add_argument("--kept", type=Path, default=Path("out"), help="folder of kept answers")
    parser.add_argument("--peers", type=Path, default=Path("out/peers.jsonl"))
    parser.add_argument("--csv", type=Path, default=Path("docs/reports/captures.csv"))
    parser.add_argument("--page", type=Path, default=Path("docs/reference/captures.md"))
    arguments = parser.parse_args()
    tshark = Tshark(arguments.tshark, arguments.kept)
    peers: dict[str, dict[str, Any]] = {}
    if arguments.peers.exists():
        rows = map(json.loads, arguments.peers.read_text().splitlines())
        peers = {row["file"]: row for row in rows}
    files: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for name, path in captures_in(arguments.captures):
        files.append((name, count(tshark(path, name)), ask_apptell(path)))
    _write_csv(arguments.csv, files, peers)
    lines = _page(files, peers, tshark.version)
    page = arguments.page
    head = page.read_text().split(MARK)[0] if page.exists() else ""
    page.write_text(head + "\n".join(lines) + "\n")
    print("\n".join(line for line in lines if not line.startswith("| edge")))


def _write_csv(path: Path, files: list[Any], peers: dict[str, dict[str, Any]]) -> None:
    with path.open("w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        names = [f"{who}_{key}" for who in ("tshark", "apptell") for key in KEYS]
        names += [f"nfstream_{key}" for key in KEYS[1:]]
        table.writerow(["file", *names])
        for name, theirs, ours in files:
            nfstream = peers.get(name, {}).get("nfstream", {})
            table.writerow(
                [
                    name,
                    *(theirs[key] for key in KEYS),
                    *(ours[key] for key in KEYS),
                    *(nfstream.get(key, "") for key in KEYS[1:]),
                ]
            )


METHOD = """\
    python benchmarks/captures_vs_tshark.py ../shared/captures --tshark tshark

tshark {version} (Debian 13) reads each file once with {preferences}: no fragments put together.
Copies of TCP headers inside ICMP errors and sFlow samples are not counted, nor are TCP headers that
tshark calls malformed or shorter than 20 bytes. Of its records those count that are packets: not
the blocks of pcapng that hold none (custom, journal), which it numbers too, nor the single frame as
which it shows a file that it takes for no capture. Flows are formed from its fields by 5-tuple and 90 s,
with the addresses of the IP header before the first TCP header. It gives no TCP length for a first
fragment; the payload is what the fragment's length leaves behind its headers. apptell reads with
`--flows paper`. Every file's counts are in [captures.csv](captures.csv), with those of nfstream
where it reads the file.

{n_files} files, {n_opened} that tshark opens. Of these are equal:
"""
APART = """\
Their link type or version is none that this tshark knows. apptell names and counts the link type
and goes on; the packets are compared with the records that scapy finds in the file.
"""
NFSTREAM = """\
nfstream 6.6.0 with 90 s idle, no end by age, tunnels opened, no dissection
(`benchmarks/peer_counts.py`; packed files are unpacked for it). It reads {files} of the files that
tshark opens, {with_tcp} of them with TCP. So many of these have tshark's counts:
"""


def _page(files: list[Any], peers: dict[str, dict[str, Any]], version: str) -> list[str]:
    equal: Counter[str] = Counter()
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    apart: list[str] = []
    for name, theirs, ours in files:
        reason = why(theirs, ours)
        if reason == UNREADABLE:
            scapy = peers.get(name, {}).get("scapy", "none")
            refusal = theirs["said"].rsplit("(", 1)[-1].rstrip(") ")
            apart.append(f"| {name} | {refusal} | {scapy} / {ours['packets']} |")
            continue
        equal["files"] += 1
        for key in KEYS:
            equal[key] += theirs[key] == ours[key]
        if any(theirs[key] != ours[key] for key in KEYS):
            counts = " | ".join(f"{theirs[key]} / {ours[key]}" for key in KEYS)
            by_reason[reason].append(f"| {name} | {counts} |")
    n_opened = equal["files"]
    preferences = ", ".join(f"`{preference}`" for preference in PREFERENCES)
    lines = [
        MARK,
        "",
        METHOD.format(
            version=version, preferences=preferences, n_files=len(files), n_opened=n_opened
        ),
        "| | files | share |",
        "| --- | --- | --- |",
        *(f"| {NAMES[key]} | {equal[key]} | {equal[key] / max(n_opened, 1):.2%} |" for key in KEYS),
        "",
        "## Differences, file by file (tshark / apptell)",
        "",
    ]
    for reason, some in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        lines += [
            f"### {reason[0].upper()}{reason[1:]} ({len(some)})",
            "",
            "| file | packets | TCP packets | TCP flows | payload packets |",
            "| --- | --- | --- | --- | --- |",
            *some,
            "",
        ]
    lines += [f"## Files that tshark does not open ({len(apart)})", "", APART]
    lines += ["| file | tshark says | packets: scapy / apptell |", "| --- | --- | --- |", *apart]
    return lines + _beside_nfstream(files, peers)


def _beside_nfstream(files: list[Any], peers: dict[str, dict[str, Any]]) -> list[str]:
    """How often nfstream's counts are tshark's, and apptell's, over the files that it reads."""
    same: Counter[str] = Counter()
    for name, theirs, ours in files:
        nfstream = peers.get(name, {}).get("nfstream")
        if nfstream is None or why(theirs, ours) == UNREADABLE:
            continue
        same["files"] += 1
        if not theirs["tcp_packets"]:
            continue
        same["with_tcp"] += 1
        for key in KEYS[1:]:
            same[f"nfstream {key}"] += nfstream[key] == theirs[key]
            same[f"apptell {key}"] += ours[key] == theirs[key]
    if not same["files"]:
        return []
    rows = [
        f"| {NAMES[key]} | {same[f'nfstream {key}']} | {same[f'apptell {key}']} |"
        for key in KEYS[1:]
    ]
    said = NFSTREAM.format(files=same["files"], with_tcp=same["with_tcp"])
    return [
        "",
        "## nfstream beside",
        "",
        said,
        "| | nfstream | apptell |",
        "| --- | --- | --- |",
        *rows,
    ]


if __name__ == "__main__":
    main()
