"""Turns a report of ``apptell compare`` into a measurement for the tables of docs/reports/.

    python benchmarks/results_table.py REPORT COMMAND > docs/reports/data/NAME.json
    python docs/make_report_tables.py

COMMAND is the command that made the report.
"""

from __future__ import annotations

import datetime as dt
import json
import platform
import sys
from pathlib import Path
from typing import Any

COLUMNS = (
    ("model", "text"),
    ("names", "text"),
    ("accuracy (95 %)", "share"),
    ("macro-F1 (95 %)", "share"),
    ("macro-F1 by seed", "share"),
    ("by provider: accuracy", "share"),
    ("by provider: macro-F1", "share"),
    ("without other: accuracy", "share"),
    ("without other: macro-F1", "share"),
    ("accuracy at 0.85", "share"),
    ("coverage at 0.85", "share"),
    ("calibration error", "share"),
)


def main() -> None:
    """Prints the measurement as JSON."""
    folder, command = Path(sys.argv[1]), sys.argv[2]
    file = folder / "metrics.json"
    report = json.loads(file.read_text(encoding="utf-8"))
    measured = dt.datetime.fromtimestamp(file.stat().st_mtime, dt.UTC).date()
    result = {
        "measured": measured.isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "command": command,
        "columns": [{"title": title, "format": form} for title, form in COLUMNS],
        "rows": [_row(model) for model in report["models"]],
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))


def _row(model: dict[str, Any]) -> list[Any]:
    seeds = [each["macro_f1"] for each in model["by_seed"]]
    return [
        model["model"],
        model["names"],
        _with_interval(model, "accuracy"),
        _with_interval(model, "macro_f1"),
        [min(seeds), max(seeds)] if len(seeds) > 1 else None,
        *_pair(model["by_provider"]),
        *_pair(model["without_other"]),
        model["at_threshold"]["accuracy"],
        model["coverage"],
        model["calibration"]["expected_calibration_error"],
    ]


def _with_interval(model: dict[str, Any], name: str) -> Any:
    interval = model["intervals_95"].get(name)
    return model[name] if interval is None else [model[name], *interval]


def _pair(found: dict[str, Any] | None) -> list[float | None]:
    return [None, None] if found is None else [found["accuracy"], found["macro_f1"]]


if __name__ == "__main__":
    main()
