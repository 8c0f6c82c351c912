"""Writes records in the Elastic Common Schema, one JSON document a line.

The app is in ``network.application``. Field names: elastic.co/guide/en/ecs, version 8.11.
"""

from __future__ import annotations

from typing import Any, Final

from apptell._version import __version__
from apptell.records.forms.form import EventForm
from apptell.records.schema import END
from apptell.records.values import rfc3339

ECS_VERSION: Final = "8.11.0"
_OWN: Final = (
    "outcome", "app_name", "category", "service", "service_kind", "evidence", "dns_name", "best_guess",
    "confidence", "runner_up", "threshold", "model", "revised", "client_name", "conn_state", "tunnel",
)  # fmt: skip


class Ecs(EventForm):
    """ECS documents; unset fields are left out."""

    name = "ecs"

    def event(self, row: dict[str, Any]) -> dict[str, Any]:
        """One record as an ECS document."""
        ended = row["event"] == END
        client = {
            "ip": row["client_address"],
            "port": row["client_port"],
            "mac": _mac(row["client_mac"]),
        }
        server = {
            "ip": row["server_address"],
            "port": row["server_port"],
            "mac": _mac(row["server_mac"]),
        }
        to_server = {"packets": row["packets_to_server"], "bytes": row["bytes_to_server"]}
        to_client = {"packets": row["packets_to_client"], "bytes": row["bytes_to_client"]}
        document = {
            "@timestamp": rfc3339(row["end_time"]),
            "ecs": {"version": ECS_VERSION},
            "event": {
                "kind": "event",
                "category": ["network"],
                "type": ["connection", "end" if ended else "info"],
                "action": row["event"],
                "dataset": "apptell.flow",
                "start": rfc3339(row["time"]),
                "end": rfc3339(row["end_time"]) if ended else None,
                "duration": row["end_time"] - row["time"] if ended else None,
                "reason": row["end_reason"],
            },
            "network": {
                "application": row["app"],
                "transport": row["protocol"],
                "type": "ipv6" if ":" in row["client_address"] else "ipv4",
                "community_id": row["community_id"],
                "packets": row["packets_to_server"] + row["packets_to_client"],
                "bytes": row["bytes_to_server"] + row["bytes_to_client"],
                "vlan": _vlan(row["vlan"]),
                "inner": None if row["inner_vlan"] is None else {"vlan": _vlan(row["inner_vlan"])},
            },
            "client": client | to_server,
            "server": server | to_client,
            "source": client | to_server,
            "destination": server | to_client | {"domain": row["server_name"] or row["http_host"]},
            "tls": {"client": {"server_name": row["server_name"]}} if row["server_name"] else None,
            "observer": {
                "name": row["sensor"],
                "product": "apptell",
                "type": "sensor",
                "version": __version__,
            },
            "apptell": {
                **{name: row[name] for name in _OWN},
                "connection_id": str(row["connection_id"]),
            },
        }
        kept: dict[str, Any] = _without_nulls(document)
        return kept


def _vlan(number: int | None) -> dict[str, str] | None:
    return None if number is None else {"id": str(number)}


def _mac(text: str | None) -> str | None:
    """As ECS has it: upper case, with hyphens."""
    return None if text is None else text.upper().replace(":", "-")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return value
