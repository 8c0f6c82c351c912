"""Collects the headline figures of the reports into docs/reports/data/scorecard.json: ``make scorecard``.

A headline names a measurement in ``docs/reports/data``, a row and a column of it. The figure is copied, never
typed. Its commit is the last one that changed it; the figure before that change, where there is one, stands
beside it. Needs the project's git history.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
DATA = Path("docs/reports/data")
PAGE = ROOT / DATA / "scorecard.json"


class Headline(NamedTuple):
    """A figure of the score card, and where it is measured."""

    figure: str
    file: str
    row: dict[str, Any]
    """Values by column title that tell the row."""
    column: str
    data: str
    split: str
    seeds: str


HEADLINES = (
    Headline("paper's network, accuracy", "paper_section_4", {"figure": "network: accuracy"}, "seed 0",
             "traffic lab", "random by flow (`paper`)", "first of 2"),
    Headline("paper's forest, mean F", "paper_section_4", {"figure": "forest: mean F (95 %)"}, "seed 0",
             "traffic lab", "random by flow (`paper`)", "first of 2"),
    Headline("paper's forest, macro-F1", "lab_folds", {"folds by": "`network`"}, "macro-F1 (95 %)",
             "traffic lab", "folds by network", "1"),
    Headline("paper's forest, macro-F1", "messengers_seeds", {"model": "paper-rf", "split": "paper"},
             "macro-F1 (95 %)", "six messengers", "random by flow (`paper`)", "5"),
    Headline("paper's forest, macro-F1", "messengers_seeds", {"model": "paper-rf", "split": "source"},
             "macro-F1 (95 %)", "six messengers", "other networks (`source`)", "5"),
    Headline("paper's network, macro-F1", "messengers_source", {"model": "paper-cnn", "names": "on"},
             "macro-F1 (95 %)", "six messengers", "other networks (`source`)", "1"),
    Headline("`fast`, names masked, accuracy by provider", "models_sources",
             {"part": "TCP", "model": "fast"}, "accuracy (95 %)", "six messengers, TCP",
             "each source left out", "1"),
    Headline("`fast`, names on, accuracy by provider", "models_sources",
             {"part": "`messengers`, TCP", "model": "fast"}, "accuracy (95 %)", "six messengers, TCP",
             "each source left out", "1"),
    Headline("`fast`, names masked, accuracy by provider", "models_untouched",
             {"classes": "six apps", "part": "new flows", "model": "fast"}, "accuracy (95 %)",
             "untouched half, new flows", "looked at once", "1"),
    Headline("paper's forest, accuracy", "android_version", {"model": "paper-rf"}, "accuracy",
             "four Android apps", "the other version of Android (`version`)", "5"),
    Headline("`sequence`, accuracy by flow", "fgnet_context", {"context": "none"}, "accuracy (95 %)",
             "FG-Net, month 1", "learned on month 0", "1"),
    Headline("`sequence`, accuracy in context", "fgnet_context",
             {"context": "30 s before", "apps at once": 1}, "accuracy (95 %)", "FG-Net, month 1",
             "learned on month 0, one app at a time", "1"),
    Headline("unlearned apps, AUROC", "open_world_flows", {"data": "FG-Net, month 0, seed 0"}, "AUROC",
             "FG-Net, month 0", "other sessions, apps left out", "first of 3"),
    Headline("learned from names, flows without a name", "student_messengers",
             {"learned from": "name labels, blocks and late views (`apptell learn`)"}, "no name: mean",
             "five providers", "other networks (`source`)", "3"),
    Headline("flows from packets, million packets/s", "flow_engine",
             {"program": "apptell, TCP with segments"}, "million packets/s", "captures of several kinds",
             "none", "none"),
    Headline("`live`, packets/s read without loss", "live_throughput", {"program": "`apptell live`"},
             "highest rate without loss, packets/s", "messengers, sent over a virtual interface", "none", "none"),
    Headline("start of `identify`, processor s", "start", {"what": "`identify`, kernels compiled"},
             "processor s, this version", "one capture", "none", "none"),
)  # fmt: skip
"""What a release is judged by: figures of both kinds, also those that are bad."""
COLUMNS = (
    ("figure", "text"), ("data", "text"), ("split", "text"), ("seeds", "text"), ("value (95 %)", "measure"),
    ("before", "measure"), ("measured", "text"), ("commit", "text"), ("command", "text"),
)  # fmt: skip


def value(headline: Headline, measurement: dict[str, Any]) -> Any:
    """The figure in a measurement.

    Raises:
        ValueError: no row or several rows are the headline's.
        KeyError: there is no such column.
    """
    titles = [column["title"] for column in measurement["columns"]]
    rows = [dict(zip(titles, row, strict=True)) for row in measurement["rows"]]
    found = [
        row for row in rows if all(row.get(name) == each for name, each in headline.row.items())
    ]
    if len(found) != 1:
        raise ValueError(f"{headline.file}: {len(found)} rows are {headline.row}")
    return found[0][headline.column]


def current(headline: Headline) -> tuple[Any, dict[str, Any]]:
    """The figure of today, and its measurement."""
    measurement = json.loads((ROOT / DATA / f"{headline.file}.json").read_text(encoding="utf-8"))
    return value(headline, measurement), measurement


def history(headline: Headline) -> tuple[str, Any]:
    """The commit that gave the figure of today, and the figure before it; None where there is none."""
    path = f"{DATA}/{headline.file}.json"
    now, _ = current(headline)
    since = "not committed"
    for commit in _git("log", "--format=%h", "--", path).split():
        try:
            then = value(headline, json.loads(_git("show", f"{commit}:{path}")))
        except (KeyError, ValueError):
            return since, None
        if then != now:
            return since, then
        since = commit
    return since, None


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def scorecard() -> dict[str, Any]:
    """The whole card, in the form of a measurement."""
    rows, dates = [], []
    for headline in HEADLINES:
        now, measurement = current(headline)
        commit, before = history(headline)
        dates.append(measurement["measured"])
        rows.append([
            headline.figure, headline.data, headline.split, headline.seeds, now, before,
            measurement["measured"], commit, f"`{measurement['command']}`",
        ])  # fmt: skip
    return {
        "measured": max(dates),
        "machine": "the machine of each measurement, in its own file",
        "command": "make scorecard",
        "columns": [{"title": title, "format": kind} for title, kind in COLUMNS],
        "rows": rows,
    }


if __name__ == "__main__":
    text = json.dumps(scorecard(), indent=1, ensure_ascii=False) + "\n"
    PAGE.write_text(text, encoding="utf-8")
