"""``apptell inspect``: reports what a capture contains and what was skipped."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from apptell.cli.notes import note_left_out
from apptell.cli.screen import report
from apptell.cli.shared_options import (
    ActiveTimeout,
    Captures,
    IdleTimeout,
    Jobs,
    Json,
    MaxFlows,
    Mode,
    Transport,
    flow_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.capture import CaptureStats
    from apptell.flows import FlowBatch, FlowStats

_TOP_SERVERS = 10
_IP_PROTOCOLS = {
    1: "ICMP", 2: "IGMP", 4: "IPv4", 6: "TCP", 17: "UDP", 41: "IPv6", 47: "GRE", 50: "ESP", 51: "AH",
    58: "ICMPv6", 88: "EIGRP", 89: "OSPF", 103: "PIM", 112: "VRRP", 115: "L2TP", 132: "SCTP",
}  # fmt: skip
"""The most common ones of https://www.iana.org/assignments/protocol-numbers."""
_SUMS = (
    "flows",
    "with_handshake",
    "with_two_payload_packets",
    "payload_packets",
    "retransmissions",
    "out_of_order",
)


def inspect(
    captures: Captures,
    mode: Mode = "clean",
    transport: Transport = "tcp,udp",
    jobs: Jobs = 1,
    max_flows: MaxFlows = None,
    idle_timeout: IdleTimeout = 90.0,
    active_timeout: ActiveTimeout = None,
    as_json: Json = False,
) -> None:
    """Reports what a capture contains: packets, flows and servers, and what was skipped and why.

    Examples:
        apptell inspect phone.pcap
        apptell inspect captures/ --json
    """
    from apptell.errors import CaptureError
    from apptell.names import read_flows

    tally = _Tally()
    damage: CaptureError | None = None
    options = flow_options(
        mode,
        transport=transport,
        max_flows=max_flows,
        idle_timeout_s=idle_timeout,
        active_timeout_s=active_timeout,
    )
    with read_flows(captures, options, jobs=jobs) as reader:
        try:
            for batch in reader:
                tally.add(batch)
        except CaptureError as error:
            damage = error
    found = {**_packets(reader.stats.capture, reader.stats), **tally.found()}
    report(found, lambda console: _show(found, console), as_json=as_json)
    note_left_out(reader.stats)
    if damage is not None:
        raise damage


class _Tally:
    """Sums over flows."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter(dict.fromkeys(_SUMS, 0))
        self.client_by: Counter[str] = Counter()
        self.end_reason: Counter[str] = Counter()
        self.server_bytes: Counter[str] = Counter()
        self.server_flows: Counter[str] = Counter()

    def add(self, flows: "FlowBatch") -> None:
        """Counts some flows in."""
        self.sums["flows"] += len(flows)
        self.sums["with_handshake"] += int(flows.numpy("has_handshake").sum())
        self.sums["with_two_payload_packets"] += int((flows.payload_packets >= 2).sum())
        self.sums["payload_packets"] += int(flows.payload_packets.sum())
        self.sums["retransmissions"] += int(flows.numpy("retransmissions").sum())
        self.sums["out_of_order"] += int(flows.numpy("out_of_order").sum())
        self.client_by.update(flows.column("client_by").to_pylist())
        self.end_reason.update(flows.column("end_reason").to_pylist())
        both = flows.numpy("bytes_to_server") + flows.numpy("bytes_to_client")
        for name, address, n_bytes in zip(
            flows.column("server_name").to_pylist(),
            flows.column("server_address").to_pylist(),
            both.tolist(),
            strict=True,
        ):
            self.server_bytes[name or address] += n_bytes
            self.server_flows[name or address] += 1

    def found(self) -> dict[str, Any]:
        """What was counted, as JSON values."""
        return {
            "flows": dict(self.sums)
            | {
                "client_by": dict(self.client_by.most_common()),
                "ended_by": dict(self.end_reason.most_common()),
            },
            "top_servers": [
                {"server": server, "flows": self.server_flows[server], "bytes": n_bytes}
                for server, n_bytes in self.server_bytes.most_common(_TOP_SERVERS)
            ],
        }


def _packets(capture: "CaptureStats", stats: "FlowStats") -> dict[str, Any]:
    """Where every packet went, as JSON values."""
    not_ok = {reason: n for reason, n in stats.status.items() if reason != "ok"}
    others = {"protocol_not_asked_for": stats.not_asked, "after_close": stats.after_close}
    passed_over = not_ok | {reason: n for reason, n in others.items() if n}
    return {
        "captures": capture.names,
        "formats": capture.formats,
        "link_types": capture.link_types,
        "interfaces": capture.interfaces,
        "first_ns": capture.first_ns,
        "last_ns": capture.last_ns,
        "packets": {
            "read": capture.packets,
            "captured_bytes": capture.captured_bytes,
            "wire_bytes": capture.wire_bytes,
            "cut_by_snap_length": capture.cut_packets,
            "in_flows": stats.in_flows,
            "passed_over": dict(sorted(passed_over.items(), key=lambda item: -item[1])),
            "by_ip_protocol": {str(number): n for number, n in sorted(stats.protocols.items())},
            "fragments": stats.fragments,
            "reassembled": stats.reassembled,
            "in_tunnels": stats.tunnelled,
        },
        "blocks_passed_over": capture.skipped_blocks,
        "files_that_are_no_captures": capture.files_skipped,
        "flows_evicted": stats.evicted,
        "damage": capture.damage,
    }


def _show(found: dict[str, Any], console: "Console") -> None:
    from rich.table import Table

    from apptell.records.text_table import fit, human_bytes
    from apptell.records.values import rfc3339

    packets, flows = found["packets"], found["flows"]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        table.add_row(name, fit(text, max(console.width - 20, 20)), style=None)

    def counts(numbers: dict[str, int]) -> str:
        return ", ".join(f"{str(n).replace('_', ' ')} {v:,}" for n, v in numbers.items()) or "none"

    names = found["captures"]
    row("captures", ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else ""))
    row("format", f"{counts(found['formats'])}; link types: {counts(found['link_types'])}")
    if found["first_ns"] is not None:
        seconds = (found["last_ns"] - found["first_ns"]) / 1e9
        row("time", f"{rfc3339(found['first_ns'])}, {seconds:,.1f} s")
    row("packets", f"{packets['read']:,}, {human_bytes(packets['wire_bytes'])} on the wire")
    names_of = {n: _IP_PROTOCOLS.get(int(n), f"protocol {n}") for n in packets["by_ip_protocol"]}
    row("protocols", counts({names_of[n]: v for n, v in packets["by_ip_protocol"].items()}))
    row("in flows", f"{packets['in_flows']:,}")
    row("skipped", counts(packets["passed_over"]))
    also = ("cut_by_snap_length", "fragments", "reassembled", "in_tunnels")
    row("also", counts({name: packets[name] for name in also if packets[name]}))
    row(
        "flows",
        f"{flows['flows']:,}, {flows['with_handshake']:,} with handshake, "
        f"{flows['with_two_payload_packets']:,} with payload twice",
    )
    row("payload", counts({n: flows[n] for n in ("payload_packets", *_SUMS[4:])}))
    row("client determined by", counts(flows["client_by"]))
    row("ended by", counts(flows["ended_by"]))
    if found["blocks_passed_over"]:
        row("blocks skipped", counts(found["blocks_passed_over"]))
    if found["files_that_are_no_captures"]:
        row("other files", f"{found['files_that_are_no_captures']:,}")
    if found["damage"]:
        row("damage", found["damage"])
    console.print(table)
    if found["top_servers"]:
        servers = Table("server", box=None, pad_edge=False, header_style="bold")
        servers.add_column("flows", justify="right")
        servers.add_column("bytes", justify="right")
        for server in found["top_servers"]:
            name = fit(server["server"], 60)
            servers.add_row(name, f"{server['flows']:,}", human_bytes(server["bytes"]))
        console.print()
        console.print(servers)
