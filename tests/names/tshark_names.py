"""Server names and ALPN lists as tshark reads them: a capture in, name sets of 5-tuples out."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = (
    "ip.src",
    "ipv6.src",
    "ip.dst",
    "ipv6.dst",
    "tcp.srcport",
    "udp.srcport",
    "tcp.dstport",
    "udp.dstport",
    "tls.handshake.extensions_server_name",
    "tls.handshake.extensions_alpn_str",
    "gquic.tag.sni",
)
FILTER = "(tls.handshake.type == 1 && !dtls) || gquic.tag.sni"

Key = tuple[int, tuple[tuple[str, int], ...]]


def tshark_names(capture: Path) -> dict[Key, list[tuple[str, str]]]:
    """(server name, ALPN joined by commas) of each hello, by protocol and both ends.

    Preferences: tshark's own (TCP and TLS desegmentation on, no fragments of IP put together here).
    """
    command = ["tshark", "-r", str(capture), "-n", "-Y", FILTER, "-T", "fields"]
    command += ["-E", "aggregator=|", "-E", "occurrence=a", "-o", "ip.defragment:FALSE"]
    for field in FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, check=False)
    found: dict[Key, list[tuple[str, str]]] = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        values = [value.split("|") if value else [] for value in line.split("\t")]
        if len(values) != len(FIELDS):
            continue
        sources, targets = values[0] + values[1], values[2] + values[3]
        if not sources or not (values[4] or values[5]):
            continue
        protocol = 6 if values[4] else 17
        ports = (values[4] or values[5])[-1], (values[6] or values[7])[-1]
        # the innermost address: IPv6 within IPv4 or the other way round is told by both being there
        ends = sorted(((sources[-1], int(ports[0])), (targets[-1], int(ports[1]))))
        name = (values[8] or values[10] or [""])[0]
        found.setdefault((protocol, tuple(ends)), []).append((name, ",".join(values[9])))
    return found
