"""Records in, a Zeek log out: tab-separated with Zeek's header, or one JSON object a line.

Field names as in conn.log; form: docs.zeek.org, "Zeek Log Formats and Inspection".
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from apptell.records.live import rows
from apptell.service.outputs.lines import LineFile

if TYPE_CHECKING:
    import pyarrow as pa

_FIELDS: Final = (
    ("ts", "time"),
    ("uid", "string"),
    ("id.orig_h", "addr"),
    ("id.orig_p", "port"),
    ("id.resp_h", "addr"),
    ("id.resp_p", "port"),
    ("proto", "enum"),
    ("community_id", "string"),
    ("event", "string"),
    ("outcome", "string"),
    ("app", "string"),
    ("best_guess", "string"),
    ("confidence", "double"),
    ("duration", "interval"),
    ("orig_pkts", "count"),
    ("resp_pkts", "count"),
    ("orig_ip_bytes", "count"),
    ("resp_ip_bytes", "count"),
    ("server_name", "string"),
    ("ja4", "string"),
    ("model", "string"),
    ("revised", "bool"),
)
_ESCAPES: Final = str.maketrans({"\t": "\\x09", "\n": "\\x0a", "\r": "\\x0d", "\\": "\\x5c"})


def zeek_fields(row: dict[str, Any]) -> dict[str, Any]:
    """One record under Zeek's names; times in s."""
    part = f".{row['part']}" if row["part"] else ""
    return {
        "ts": row["time"] / 1e9,
        "uid": f"C{row['connection_id']:016x}{part}",
        "id.orig_h": row["client_address"],
        "id.orig_p": row["client_port"],
        "id.resp_h": row["server_address"],
        "id.resp_p": row["server_port"],
        "proto": row["protocol"],
        "duration": (row["end_time"] - row["time"]) / 1e9,
        "orig_pkts": row["packets_to_server"],
        "resp_pkts": row["packets_to_client"],
        "orig_ip_bytes": row["bytes_to_server"],
        "resp_ip_bytes": row["bytes_to_client"],
    } | {
        name: row[name]
        for name in (
            "community_id",
            "event",
            "outcome",
            "app",
            "best_guess",
            "confidence",
            "server_name",
            "ja4",
            "model",
            "revised",
        )
    }


def _header() -> str:
    opened = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M-%S")
    names, kinds = zip(*_FIELDS, strict=True)
    lines = (
        "#separator \\x09",
        "#set_separator\t,",
        "#empty_field\t(empty)",
        "#unset_field\t-",
        "#path\tapptell",
        f"#open\t{opened}",
        "\t".join(("#fields", *names)),
        "\t".join(("#types", *kinds)),
    )
    return "\n".join(lines) + "\n"


def _value(value: Any, kind: str) -> str:
    if value is None:
        return "-"
    if kind in ("time", "interval", "double"):
        return f"{value:.6f}"
    if kind == "bool":
        return "T" if value else "F"
    text = str(value).translate(_ESCAPES)
    if text == "":
        return "(empty)"
    return "\\x2d" if text == "-" else text


def _tabbed(batch: pa.RecordBatch) -> str:
    lines = []
    for row in rows(batch):
        values = zeek_fields(row)
        lines.append("\t".join(_value(values[name], kind) for name, kind in _FIELDS) + "\n")
    return "".join(lines)


def _json(batch: pa.RecordBatch) -> str:
    lines = []
    for row in rows(batch):
        values = zeek_fields(row)
        # Zeek's JSON leaves unset fields out
        there = {name: values[name] for name, _ in _FIELDS if values[name] is not None}
        lines.append(json.dumps(there, ensure_ascii=False) + "\n")
    return "".join(lines)


def open_zeek(place: str) -> LineFile:
    """A tab-separated Zeek log; raises as ``LineFile`` does."""
    return LineFile(place, _tabbed, _header)


def open_zeek_json(place: str) -> LineFile:
    """A Zeek log of JSON lines; raises as ``LineFile`` does."""
    return LineFile(place, _json)
