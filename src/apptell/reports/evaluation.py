"""Writes the report of an evaluation: report.html, metrics.json, per_app.csv, confusion.csv.

All four are written from one set of numbers, so that the numbers are identical in each.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from apptell.reports.html import ReportText, evaluation_page
from apptell.reports.page import csv_text
from apptell.reports.report_files import write_report_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from apptell.evaluation import Evaluation


def write_report(
    folder: Path, result: Evaluation, text: ReportText, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes a report; files of an earlier report are replaced, a user's are not.

    Args:
        folder: created if it is missing.
        result: the numbers.
        text: the text of the page.
        about: what was measured on what (model, dataset, split, seed), first in ``metrics.json``.

    Returns:
        The content of ``metrics.json``.

    Raises:
        OutputError: the folder cannot be written, or holds files of these names that no report wrote.
    """
    metrics = {**about, **result.to_json()}
    apps = metrics["apps"]
    figures = ("flows", "precision", "recall", "f1")
    per_app = [
        [app]
        + [metrics["per_app"][app][figure] for figure in figures]
        + [metrics["at_threshold"]["per_app"][app][figure] for figure in figures]
        for app in apps
    ]
    write_report_files(
        folder,
        {
            "report.html": evaluation_page(result, text),
            "metrics.json": json.dumps(metrics, indent=2, ensure_ascii=False) + "\n",
            "per_app.csv": csv_text(
                ["app", *figures, *(f"{figure}_at_threshold" for figure in figures)], per_app
            ),
            "confusion.csv": csv_text(
                ["true", *apps],
                [[app, *row] for app, row in zip(apps, metrics["confusion"], strict=True)],
            ),
            **{f"{s.name}.csv": csv_text(s.head, s.rows) for s in text.sections if s.rows},
        },
    )
    return metrics
