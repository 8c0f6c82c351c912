"""An evaluation in, a report's folder out: report.html, metrics.json, per_app.csv, confusion.csv.

All four come from one set of numbers, so that they are identical in each.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apptell.errors import OutputError
from apptell.reports.html import Story, evaluation_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apptell.evaluation import Evaluation


def write_report(
    folder: Path, result: Evaluation, story: Story, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes a report; files of an earlier one are replaced.

    Args:
        folder: made when it is not there.
        result: the numbers.
        story: what the page says beside them.
        about: what was measured on what (model, dataset, split, seed), first in ``metrics.json``.

    Returns:
        The content of ``metrics.json``.

    Raises:
        OutputError: the folder cannot be written.
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
    files = {
        "report.html": evaluation_page(result, story),
        "metrics.json": json.dumps(metrics, indent=2, ensure_ascii=False) + "\n",
        "per_app.csv": _csv(
            ["app", *figures, *(f"{figure}_at_threshold" for figure in figures)], per_app
        ),
        "confusion.csv": _csv(
            ["true", *apps],
            [[app, *row] for app, row in zip(apps, metrics["confusion"], strict=True)],
        ),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            # All are written before the first takes its place.
            for file, text in files.items():
                (Path(name) / file).write_text(text, encoding="utf-8")
            for file in files:
                (Path(name) / file).replace(folder / file)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}") from error
    return metrics


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()
