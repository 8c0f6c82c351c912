"""Records in, Suricata's EVE out: one JSON object a line with ``event_type`` ``app_id``.

Field names: docs.suricata.io, "Eve JSON Format". Suricata knows no ``app_id``; what is within is ours.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from apptell.records.live import END, rows
from apptell.records.writers import rfc3339
from apptell.service.outputs.lines import LineFile

if TYPE_CHECKING:
    import pyarrow as pa


def eve_event(row: dict[str, Any]) -> dict[str, Any]:
    """One record as an EVE event."""
    event: dict[str, Any] = {
        "timestamp": _timestamp(row["end_time"]),
        "flow_id": row["connection_id"] & (1 << 53) - 1,  # JSON's numbers are exact to 53 bits
        "event_type": "app_id",
        "src_ip": row["client_address"],
        "src_port": row["client_port"],
        "dest_ip": row["server_address"],
        "dest_port": row["server_port"],
        "proto": (row["protocol"] or "").upper(),
        "community_id": row["community_id"],
        "app_id": {
            name: row[name]
            for name in (
                "event",
                "outcome",
                "app",
                "best_guess",
                "confidence",
                "runner_up",
                "threshold",
                "model",
                "revised",
            )
        },
        "flow": {
            "pkts_toserver": row["packets_to_server"],
            "pkts_toclient": row["packets_to_client"],
            "bytes_toserver": row["bytes_to_server"],
            "bytes_toclient": row["bytes_to_client"],
            "start": _timestamp(row["time"]),
        },
    }
    if row["event"] == END:
        event["flow"] |= {"end": _timestamp(row["end_time"]), "reason": row["end_reason"]}
    tls = {"sni": row["server_name"], "ja4": row["ja4"]}
    if any(tls.values()):
        event["tls"] = {name: value for name, value in tls.items() if value}
    return event


def _timestamp(time_ns: int) -> str:
    """As Suricata writes it: ``2026-01-31T12:00:00.000000+0000``."""
    return rfc3339(time_ns).removesuffix("Z") + "+0000"


def _render(batch: pa.RecordBatch) -> str:
    return "".join(json.dumps(eve_event(row), ensure_ascii=False) + "\n" for row in rows(batch))


def open_eve(place: str) -> LineFile:
    """EVE in a file or, for ``-``, on standard output; raises as ``LineFile`` does."""
    return LineFile(place, _render)
