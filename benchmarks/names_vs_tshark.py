"""Compares server names, ALPN and JA4 of every hello in the shared captures with those of tshark.

    python benchmarks/names_vs_tshark.py CAPTURES --tshark tshark

A hello is one that tshark shows in TLS over TCP, in QUIC or in DTLS; what is compared is a 5-tuple with at
least one of them. It is equal when every flow that apptell makes of the tuple and finds a hello in has what
one of the tuple's hellos has in tshark, and there is such a flow. Prints the shares and every difference.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from oracle import Answer, Tshark, captures_in

Key = tuple[int, tuple[tuple[str, int], ...]]
Hello = tuple[str, str, str]
"""Server name, ALPN by commas, JA4; empty where there is none."""


def hellos_of(answer: Answer) -> dict[Key, list[Hello]]:
    """Hellos of each 5-tuple as tshark shows them."""
    found: defaultdict[Key, list[Hello]] = defaultdict(list)
    for packet in answer.packets():
        kinds = packet["tls.handshake.type"] + packet["dtls.handshake.type"]
        if "1" not in kinds and not packet["gquic.tag.sni"]:
            continue
        layers = packet["frame.protocols"][0].split(":")
        protocol = 6 if "tcp" in layers else 17
        place = len(layers) - layers[::-1].index("tcp" if protocol == 6 else "udp")
        before = [layer for layer in layers[:place] if layer in ("ip", "ipv6")]
        transport = "tcp" if protocol == 6 else "udp"
        if not before or {"icmp", "icmpv6"} & set(layers[:place]):
            continue
        version, nth = before[-1], before.count(before[-1]) - 1
        ends = sorted(
            (packet[f"{version}.{role}"][nth], int(packet[f"{transport}.{role}port"][-1]))
            for role in ("src", "dst")
        )
        names = packet["tls.handshake.extensions_server_name"]
        names += packet["dtls.handshake.extensions_server_name"] + packet["gquic.tag.sni"]
        alpn = packet["tls.handshake.extensions_alpn_str"]
        alpn += packet["dtls.handshake.extensions_alpn_str"]
        ja4 = packet["tls.handshake.ja4"]
        found[(protocol, tuple(ends))].append(
            (names[0] if names else "", ",".join(alpn), ja4[0] if ja4 else "")
        )
    return found


def ours_of(path: Path) -> dict[Key, list[Hello]]:
    """The same as apptell's flows have it."""
    from apptell.errors import CaptureError
    from apptell.flows import FlowOptions
    from apptell.names import read_flows

    found: defaultdict[Key, list[Hello]] = defaultdict(list)
    wanted = ["protocol", "client_address", "client_port", "server_address", "server_port"]
    wanted += ["server_name", "alpn", "ja4"]
    try:
        for batch in read_flows(path, FlowOptions(transports=(6, 17), groups=("core", "names"))):
            for row in batch.to_arrow().select(wanted).to_pylist():
                if row["server_name"] or row["alpn"] or row["ja4"]:
                    client = (row["client_address"], row["client_port"])
                    ends = sorted((client, (row["server_address"], row["server_port"])))
                    found[(row["protocol"], tuple(ends))].append(
                        (row["server_name"] or "", row["alpn"] or "", row["ja4"] or "")
                    )
    except CaptureError:
        pass  # what precedes the damage is compared
    return found


def main() -> None:
    """Compares file by file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", type=Path)
    parser.add_argument("--tshark", default="tshark")
    parser.add_argument("--kept", type=Path, default=Path("out"), help="folder of kept answers")
    arguments = parser.parse_args()
    tshark = Tshark(arguments.tshark, arguments.kept)
    counts: Counter[str] = Counter()
    for name, path in captures_in(arguments.captures):
        theirs = hellos_of(tshark(path, name))
        if not theirs:
            continue
        counts["files"] += 1
        ours = ours_of(path)
        for key, hellos in theirs.items():
            _compare(name, key, hellos, ours.get(key, []), counts)
        for key in set(ours) - set(theirs):
            counts["only apptell"] += 1
            print("only apptell", name, key, ours[key][:2])
    for kind in ("TCP", "UDP"):
        n = counts[kind]
        print(f"{kind}: {n} 5-tuples with a hello")
        for what in ("name and ALPN", "JA4"):
            n = counts[f"{kind} {what} compared"]
            equal = counts[f"{kind} {what}"]
            print(f"  {what}: {equal} of {n} equal ({equal / max(n, 1):.3%})")
    n, equal = (
        sum(counts[f"{k} name and ALPN{e}"] for k in ("TCP", "UDP")) for e in (" compared", "")
    )
    print(
        f"{counts['files']} files, {n} 5-tuples: name and ALPN equal in {equal} ({equal / max(n, 1):.3%})"
    )
    print(f"{counts['only apptell']} more with a hello that tshark does not show")


def _compare(
    name: str, key: Key, theirs: list[Hello], ours: list[Hello], counts: Counter[str]
) -> None:
    kind = "TCP" if key[0] == 6 else "UDP"
    counts[kind] += 1
    parts: list[tuple[str, Any]] = [("name and ALPN", lambda hello: hello[:2])]
    if any(hello[2] for hello in theirs):
        parts.append(("JA4", lambda hello: hello[2]))
    for what, part in parts:
        known = set(map(part, theirs))
        mine = list(map(part, ours)) or [part(("", "", ""))]
        counts[f"{kind} {what} compared"] += 1
        if all(hello in known for hello in mine):
            counts[f"{kind} {what}"] += 1
        else:
            print(f"{what}:", name, key, "tshark", sorted(known)[:3], "apptell", mine[:3])


if __name__ == "__main__":
    main()
