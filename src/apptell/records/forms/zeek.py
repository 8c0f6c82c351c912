r"""Writes records as a Zeek log: tab-separated with Zeek's header, or one JSON object a line.

Field names as in conn.log; form: docs.zeek.org, "Zeek Log Formats and Inspection". Values are escaped as
Zeek's ASCII writer does (src/threading/formatters/Ascii.cc, src/util.cc): a text that could be taken for the
marks of unset and empty fields, or for a header line, has its first byte written as ``\xHH``; separators,
backslashes and the UTF-8 bytes of what is not printable are written so wherever they stand.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from apptell.names.text import unescape
from apptell.records.forms.form import EventForm, LineForm
from apptell.records.values import event_rows

if TYPE_CHECKING:
    import pyarrow as pa

_NAME: Final = "name"
"""A string that the network sent."""
FIELDS: Final = (
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
    ("app_name", "string"),
    ("category", "string"),
    ("service", "string"),
    ("service_kind", "string"),
    ("evidence", "string"),
    ("best_guess", "string"),
    ("confidence", "double"),
    ("duration", "interval"),
    ("orig_pkts", "count"),
    ("resp_pkts", "count"),
    ("orig_ip_bytes", "count"),
    ("resp_ip_bytes", "count"),
    ("server_name", _NAME),
    ("http_host", _NAME),
    ("dns_name", _NAME),
    ("ja4", "string"),
    ("model", "string"),
    ("revised", "bool"),
    ("conn_state", "string"),
    ("orig_l2_addr", "string"),
    ("resp_l2_addr", "string"),
    ("vlan", "int"),
    ("inner_vlan", "int"),
    ("tunnel", "string"),
    ("client_name", _NAME),
    ("sensor", "string"),
)
"""The log's fields and their types, in order."""
_AS_THEY_ARE: Final = (
    "community_id", "event", "outcome", "app", "app_name", "category", "service", "service_kind", "evidence",
    "best_guess", "confidence", "server_name", "http_host", "dns_name", "ja4", "model", "revised",
    "conn_state", "vlan", "inner_vlan", "tunnel", "client_name", "sensor",
)  # fmt: skip
_EMPTY, _UNSET, _COMMENT = "(empty)", "-", "#"


class Zeek(LineForm):
    """A tab-separated Zeek log."""

    name = "zeek"
    has_own_fields = True

    def header(self, schema: pa.Schema) -> str:
        """Zeek's header: separators, names and types of the fields."""
        del schema
        opened = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M-%S")
        names = [name for name, _ in FIELDS]
        kinds = ["string" if kind == _NAME else kind for _, kind in FIELDS]
        lines = (
            "#separator \\x09",
            "#set_separator\t,",
            f"#empty_field\t{_EMPTY}",
            f"#unset_field\t{_UNSET}",
            "#path\tapptell",
            f"#open\t{opened}",
            "\t".join(("#fields", *names)),
            "\t".join(("#types", *kinds)),
        )
        return "\n".join(lines) + "\n"

    def lines(self, batch: pa.RecordBatch) -> list[str]:
        """The fields of each record."""
        return [
            "\t".join(_value(values[name], kind) for name, kind in FIELDS)
            for values in map(zeek_values, event_rows(batch))
        ]


class ZeekJson(EventForm):
    """A Zeek log of JSON lines."""

    name = "zeek-json"

    def event(self, row: dict[str, Any]) -> dict[str, Any]:
        """One record; as in Zeek's JSON, unset fields are left out."""
        values = zeek_values(row)
        return {name: values[name] for name, _ in FIELDS if values[name] is not None}


def zeek_values(row: dict[str, Any]) -> dict[str, Any]:
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
        "orig_l2_addr": row["client_mac"],
        "resp_l2_addr": row["server_mac"],
    } | {name: row[name] for name in _AS_THEY_ARE}


def _value(value: Any, kind: str) -> str:
    if value is None:
        return _UNSET
    if kind in ("time", "interval", "double"):
        return f"{value:.6f}"
    if kind == "bool":
        return "T" if value else "F"
    # a name's text is its bytes, escaped (apptell.names.text): they are escaped once, as Zeek does it
    data = unescape(value) if kind == _NAME else str(value).encode("utf-8", "surrogateescape")
    return _escaped(data.decode("utf-8", "surrogateescape"))


def _escaped(text: str) -> str:
    if not text:
        return _EMPTY
    escapes_first = text in (_UNSET, _EMPTY) or text.startswith(_COMMENT)
    return "".join(
        _escape(char)
        if char == "\\" or not char.isprintable() or (escapes_first and not at)
        else char
        for at, char in enumerate(text)
    )


def _escape(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
