"""Makes folders of made-up records for tests of the history and the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from apptell.records.schema import END, LIVE_RECORD, VERDICT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

START_NS = 1_795_000_000_000_000_000
"""2026-11-18 11:06:40 UTC."""
SECOND_NS = 1_000_000_000


def flow(i: int, at_s: float = 0.0, **values: Any) -> dict[str, Any]:
    """The end record of a made-up flow.

    Args:
        i: makes the flow different from others.
        at_s: seconds after ``START_NS`` at which it begins.
        values: columns that differ.
    """
    at_ns = START_NS + int(at_s * SECOND_NS)
    return {
        "event": END,
        "time": at_ns,
        "community_id": f"1:flow{i}+/=",
        "protocol": "tcp",
        "client_address": f"10.0.0.{i % 3 + 1}",
        "client_port": 40_000 + i,
        "server_address": "203.0.113.9",
        "server_port": 443,
        "app": "signal",
        "app_name": "Signal",
        "category": "messaging",
        "evidence": "name",
        "outcome": "named",
        "server_name": "chat.signal.example",
        "payload_packets_seen": 5,
        "end_time": at_ns + SECOND_NS,
        "packets_to_server": 3,
        "packets_to_client": 4,
        "bytes_to_server": 100,
        "bytes_to_client": 900 + i,
        "connection_id": (1 << 63) + i,
        "part": 0,
        "revised": False,
        "end_reason": "fin",
        **values,
    }


def verdict_of(end: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict record that came before an end record."""
    early = {"event": VERDICT, "end_reason": None, "packets_to_client": 1, "bytes_to_client": 200}
    return {**end, **early, "end_time": end["time"] + SECOND_NS // 10}


def write_records(
    file: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema = LIVE_RECORD
) -> Path:
    """Writes a file of records, and the folder that it is in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), file)
    return file


def mixed_records(folder: Path) -> list[dict[str, Any]]:
    """Writes two files with flows of several apps, clients and outcomes; returns the end records."""
    ends = [flow(i, 10 * i) for i in range(6)]
    ends += [
        flow(6, 100, app="zoom", app_name="Zoom", category="conferencing", evidence="model", server_name=None,
             best_guess="zoom", confidence=0.97, runner_up="signal", runner_up_confidence=0.02, threshold=0.85,
             model="fast@abc", bytes_to_client=50_000, client_address="10.0.0.9"),
        flow(7, 200, app=None, app_name=None, category=None, service="Google Fonts", service_kind="cdn",
             outcome="shared service", server_name="fonts.example"),
        flow(8, 300, app=None, app_name=None, category=None, evidence=None, outcome="below threshold",
             server_name=None, best_guess="zoom", confidence=0.4, threshold=0.85, model="fast@abc"),
    ]  # fmt: skip
    rows = [row for end in ends for row in (verdict_of(end), end)]
    write_records(folder / "apptell-1.parquet", rows[:8])
    write_records(folder / "apptell-2.parquet", rows[8:])
    return ends
