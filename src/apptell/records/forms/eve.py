"""Writes records as Suricata's EVE, one JSON object a line with ``event_type`` ``app_id``.

Field names: docs.suricata.io, "Eve JSON Format". Suricata has no ``app_id``; its content is defined by
    apptell. Flows without a verdict are events of Suricata's own type ``flow``.
"""

from __future__ import annotations

from typing import Any, Final

from apptell.records.forms.form import EventForm
from apptell.records.schema import END
from apptell.records.values import rfc3339

_APP_ID: Final = (
    "event", "outcome", "app", "app_name", "category", "service", "service_kind", "evidence", "dns_name",
    "best_guess", "confidence", "runner_up", "threshold", "model", "revised",
)  # fmt: skip


class Eve(EventForm):
    """EVE JSON."""

    name = "eve"

    def event(self, row: dict[str, Any]) -> dict[str, Any]:
        """One record as an EVE event."""
        is_decided = row["outcome"] is not None
        event: dict[str, Any] = {
            "timestamp": _timestamp(row["end_time"]),
            "flow_id": row["connection_id"] & (1 << 53) - 1,  # a number, exact to 53 bits in JSON
            "event_type": "app_id" if is_decided else "flow",
            "src_ip": row["client_address"],
            "src_port": row["client_port"],
            "dest_ip": row["server_address"],
            "dest_port": row["server_port"],
            "proto": (row["protocol"] or "").upper(),
            "community_id": row["community_id"],
        }
        if row["sensor"] is not None:
            event["host"] = row["sensor"]
        if row["conn_state"] is not None:
            event |= _link(row)
        if is_decided:
            event["app_id"] = {name: row[name] for name in _APP_ID}
            event["app_id"]["connection_id"] = str(row["connection_id"])
            if row["client_name"] is not None:
                event["app_id"]["client_name"] = row["client_name"]
        event["flow"] = {
            "pkts_toserver": row["packets_to_server"],
            "pkts_toclient": row["packets_to_client"],
            "bytes_toserver": row["bytes_to_server"],
            "bytes_toclient": row["bytes_to_client"],
            "start": _timestamp(row["time"]),
        }
        if row["event"] == END:
            event["flow"]["end"] = _timestamp(row["end_time"])
            if row["end_reason"] is not None:
                event["flow"]["reason"] = row["end_reason"]
        tls = {"sni": row["server_name"], "ja4": row["ja4"]}
        if row["http_host"]:
            event["http"] = {"hostname": row["http_host"]}
        if any(tls.values()):
            event["tls"] = {name: value for name, value in tls.items() if value}
        return event


def _link(row: dict[str, Any]) -> dict[str, Any]:
    """The link layer and TCP flags, under Suricata's names."""
    fields: dict[str, Any] = {}
    if vlans := [vlan for vlan in (row["vlan"], row["inner_vlan"]) if vlan is not None]:
        fields["vlan"] = vlans
    if row["client_mac"] is not None:
        fields["ether"] = {"src_mac": row["client_mac"], "dest_mac": row["server_mac"]}
    if row["tunnel"] is not None:
        fields["tunnel"] = row["tunnel"]
    if row["protocol"] == "tcp":
        flags = row["flags_to_server"], row["flags_to_client"]
        fields["tcp"] = {
            "tcp_flags": f"{flags[0] | flags[1]:02x}",
            "tcp_flags_ts": f"{flags[0]:02x}",
            "tcp_flags_tc": f"{flags[1]:02x}",
        }
    return fields


def _timestamp(time_ns: int) -> str:
    """As Suricata writes it: ``2026-01-31T12:00:00.000000+0000``."""
    return rfc3339(time_ns).removesuffix("Z") + "+0000"
