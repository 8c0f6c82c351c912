"""An evaluation and a few flows in, one HTML page out that needs nothing else."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apptell._version import __version__
from apptell.reports.page import Section, section_html
from apptell.reports.png import paint, png
from apptell.reports.svg import (
    confusion_figure,
    coverage_figure,
    histogram_figure,
    reliability_figure,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from apptell.evaluation import Evaluation, Scores


@dataclass(frozen=True, slots=True)
class ReportText:
    """What a report says beside its numbers."""

    title: str
    """The heading."""
    paragraphs: Sequence[str]
    """What was done, in plain sentences, one a line."""
    command: str = ""
    """The command that makes this report again."""
    examples: Sequence[tuple[str, NDArray[np.uint8]]] = field(default_factory=tuple)
    """Flow images with a caption each; images as ``encoding.images`` makes them, shape (87, 87)."""
    sections: Sequence[Section] = field(default_factory=tuple)
    """More tables, each with a CSV of its own."""


def evaluation_page(result: Evaluation, text: ReportText) -> str:
    """The report of one evaluation as an HTML page."""
    scores, accepted = result.scores, result.at_threshold
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    sections = [
        f"<h1>{escape(text.title)}</h1>",
        "".join(f"<p>{escape(line)}</p>" for line in text.paragraphs),
        f"<pre>{escape(text.command)}</pre>" if text.command else "",
        _tiles(result),
        _figure_of(
            "Per app",
            "Precision: how many of the flows given to the app are its own. Recall: how many of "
            "its flows were found. F: the harmonic mean of both. On the right the same over the "
            f"flows accepted at confidence {result.threshold:g} or more.",
            _per_app(scores, accepted),
        ),
        _figure_of(
            "Confusion",
            "True app by row, given app by column; blue is right, orange is wrong, the shade is "
            "the share of the row.",
            confusion_figure(scores.apps, scores.confusion.tolist()),
        ),
        '<div class="pair">',
        _figure_of(
            "Confidence of right and wrong verdicts",
            "Right verdicts should stand at the right, wrong ones to their left: then a threshold "
            "can tell them apart.",
            histogram_figure(result.histogram),
        ),
        _figure_of(
            "What a threshold costs and brings",
            f"The dot is the threshold in use, {result.threshold:g}: it accepts "
            f"{result.coverage:.1%} of the flows and is right on {accepted.accuracy:.1%} of them.",
            coverage_figure(result.coverage_precision, result.coverage, accepted.accuracy),
        ),
        _figure_of(
            "Can the confidence be believed?",
            "On the diagonal the model is as often right as it says. Expected calibration error: "
            f"{result.calibration_error:.3f}.",
            reliability_figure(result.reliability),
        ),
        _figure_of(
            "Where it is right", "Accuracy by what was seen of the flow.", _slices(result.slices)
        ),
        "</div>",
        *map(section_html, text.sections),
        _examples(text.examples),
        (
            f"<footer>apptell {escape(__version__)}. The same numbers, for programs: metrics.json and "
            "the CSV files.</footer>"
        ),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(text.title)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _tiles(result: Evaluation) -> str:
    scores, accepted = result.scores, result.at_threshold
    drawn = f"{result.n_groups} groups" if result.n_groups else "flows"

    def interval(name: str) -> str:
        if name not in result.intervals:
            return "flows of one group alone: no interval can be given"
        low, high = result.intervals[name]
        return f"95 % interval over {drawn}: {low:.1%} to {high:.1%}"

    tiles: Iterable[tuple[str, str, str]] = (
        ("accuracy", f"{scores.accuracy:.1%}", interval("accuracy")),
        ("mean F-measure", f"{scores.macro_f1:.1%}", interval("macro_f1")),
        (
            f"right at threshold {result.threshold:g}",
            f"{accepted.accuracy:.1%}",
            f"mean precision {accepted.macro_precision:.1%}, recall {accepted.macro_recall:.1%}",
        ),
        (
            "coverage",
            f"{result.coverage:.1%}",
            (
                f"{accepted.n_flows:,} of {scores.n_flows:,} flows; "
                f"apps found per capture: {result.app_coverage:.1%}"
            ),
        ),
    )
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{value}</b><span>{name}</span><small>{note}</small></div>'
            for name, value, note in tiles
        )
        + "</div>"
    )


def _per_app(scores: Scores, accepted: Scores) -> str:
    rows = []
    for i, app in enumerate(scores.apps):
        flows, kept = int(scores.confusion[i].sum()), int(accepted.confusion[i].sum())
        rows.append(
            f"<tr><th>{escape(app)}</th><td>{flows:,}</td>"
            f"{_share(scores.precision[i])}{_share(scores.recall[i])}{_share(scores.f1[i])}"
            f"<td>{kept:,}</td>{_share(accepted.precision[i])}{_share(accepted.recall[i])}"
            f"{_share(accepted.f1[i])}</tr>"
        )
    rows.append(
        f'<tr class="mean"><th>mean</th><td>{scores.n_flows:,}</td>'
        f"{_share(scores.macro_precision)}{_share(scores.macro_recall)}{_share(scores.macro_f1)}"
        f"<td>{accepted.n_flows:,}</td>{_share(accepted.macro_precision)}"
        f"{_share(accepted.macro_recall)}{_share(accepted.macro_f1)}</tr>"
    )
    head = "<td>flows</td><td>precision</td><td>recall</td><td>F</td>"
    return (
        f'<table><thead><tr><td></td><td colspan="4">all flows</td><td colspan="4">accepted flows'
        f"</td></tr><tr><td></td>{head}{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _share(value: float) -> str:
    return f'<td class="share" style="--share:{value:.4f}">{value:.1%}</td>'


def _slices(slices: dict[str, dict[str, dict[str, float]]]) -> str:
    titles = {
        "payload_packets": "payload packets seen",
        "client_by": "client told by",
        "hello": "the client begins with",
    }
    said = {"hello": "a TLS hello", "mid-session": "TLS in mid-session", "none": "no TLS"}
    rows = []
    for name, values in slices.items():
        rows.append(
            f'<tr class="mean"><th>{titles.get(name, name)}</th><td>flows</td><td></td></tr>'
        )
        rows += [
            f"<tr><th>{escape(said.get(value, value))}</th><td>{row['flows']:,}</td>"
            f"{_share(row['accuracy'])}</tr>"
            for value, row in values.items()
        ]
    return f"<table><tbody>{''.join(rows)}</tbody></table>" if rows else ""


def _examples(examples: Sequence[tuple[str, NDArray[np.uint8]]]) -> str:
    if not examples:
        return ""
    pictures = "".join(
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,'
        f'{b64encode(png(paint(image))).decode()}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, image in examples
    )
    return _figure_of(
        "What the network sees",
        "A flow of each app as the paper's 87 × 87 image: the first five packets with payload, one "
        "after the other, 1,500 bytes each. Blue: client to server. Orange: server to client. The "
        "darker, the higher the byte; white is padding.",
        f'<div class="images">{pictures}</div>',
    )


def _figure_of(title: str, words: str, content: Any) -> str:
    if not content:
        return ""
    return (
        f"<section><h2>{escape(title)}</h2><p>{escape(words)}</p>"
        f'<div class="scroll">{content}</div></section>'
    )
