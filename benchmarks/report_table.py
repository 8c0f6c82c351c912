"""Prints a measurement as the JSON of a report's table, and writes it: see ``docs/make_report_tables.py``."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


def report_table(
    output: Path | None,
    command: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
    *,
    load: str | None = None,
    versions: str = "",
    **facts: Any,
) -> None:
    """Prints a table and writes it to a file.

    Args:
        output: the file; None writes none.
        command: that makes the measurement again.
        columns: the title of each column, and its number format.
        rows: one value for each column.
        load: of the machine while it measured; its three load averages by default.
        versions: of libraries besides Python, as in ``Ray 2.60``.
        facts: further values beside the table.
    """
    now = " ".join(f"{each:.0f}" for each in os.getloadavg())
    python = ", ".join(filter(None, [f"Python {platform.python_version()}", versions]))
    measured = {
        "measured": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, load {load or now}, {python}",
        "command": command,
        **facts,
        "columns": [{"title": title, "format": kind} for title, kind in columns.items()],
        "rows": list(rows),
    }
    text = json.dumps(measured, indent=1) + "\n"
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")
