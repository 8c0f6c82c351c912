"""Renders an evaluation as one self-contained HTML page."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markupsafe import Markup

from apptell.reports.page import Section, page_html
from apptell.reports.png import paint, png
from apptell.reports.svg import (
    confusion_figure,
    coverage_figure,
    histogram_figure,
    reliability_figure,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from apptell.evaluation import Evaluation, Scores


@dataclass(frozen=True, slots=True)
class ReportText:
    """The text of a report."""

    title: str
    """The heading."""
    paragraphs: Sequence[str]
    """What was done, in plain sentences, one a line."""
    command: str = ""
    """The command that creates this report again."""
    examples: Sequence[tuple[str, NDArray[np.uint8]]] = field(default_factory=tuple)
    """Flow images with a caption each; images as ``encoding.images`` makes them, shape (87, 87)."""
    sections: Sequence[Section] = field(default_factory=tuple)
    """More tables, each with its own CSV."""


def evaluation_page(result: Evaluation, text: ReportText) -> str:
    """The report of one evaluation as an HTML page."""
    scores, accepted = result.scores, result.at_threshold
    figures = [
        Figure(
            "Confusion",
            "True app by row, given app by column; blue is right, orange is wrong, the shade is "
            "the share of the row.",
            Markup(confusion_figure(scores.apps, scores.confusion.tolist())),
        ),
        Figure(
            "Confidence of right and wrong verdicts",
            "Right verdicts should have high confidence and wrong ones low confidence, so that a threshold "
            "can separate them.",
            Markup(histogram_figure(result.histogram)),
        ),
        Figure(
            "Coverage and precision at each threshold",
            f"The dot is the threshold in use, {result.threshold:g}: it accepts "
            f"{result.coverage:.1%} of the flows and is right on {accepted.accuracy:.1%} of them.",
            Markup(coverage_figure(result.coverage_precision, result.coverage, accepted.accuracy)),
        ),
        Figure(
            "Calibration of the confidence",
            "On the diagonal, confidence equals accuracy. Expected calibration error: "
            f"{result.calibration_error:.3f}.",
            Markup(reliability_figure(result.reliability)),
        ),
    ]
    return page_html(
        "evaluation.html",
        text.title,
        text.paragraphs,
        text.sections,
        text.command,
        tiles=_tiles(result),
        per_app=_per_app(scores, accepted),
        per_app_words=(
            "Precision: how many of the flows given to the app are its own. Recall: how many of "
            "its flows were found. F: the harmonic mean of both. On the right the same over the "
            f"flows accepted at confidence {result.threshold:g} or more."
        ),
        confusion=figures[0],
        figures=[figure for figure in figures[1:] if figure.content],
        slices=_slices(result.slices),
        examples=[
            (caption, b64encode(png(paint(image))).decode()) for caption, image in text.examples
        ],
        examples_words=(
            "A flow of each app as the paper's 87 × 87 image: the first five packets with payload, "
            "one after the other, 1,500 bytes each. Blue: client to server. Orange: server to "
            "client. The darker, the higher the byte; white is padding."
        ),
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a page."""

    title: str
    words: str
    """The caption."""
    content: Markup
    """Inline SVG."""


def _tiles(result: Evaluation) -> list[tuple[str, str, str]]:
    """Name, value and note of the figures that a page begins with."""
    scores, accepted = result.scores, result.at_threshold
    drawn = f"{result.n_groups} groups" if result.n_groups else "flows"

    def interval(name: str) -> str:
        if name not in result.intervals:
            return "flows of a single group: no interval can be given"
        low, high = result.intervals[name]
        return f"95 % interval over {drawn}: {low:.1%} to {high:.1%}"

    return [
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
    ]


_Half = tuple[int, float, float, float]
"""Flows, precision, recall and F-measure."""


def _per_app(scores: Scores, accepted: Scores) -> list[tuple[str, list[_Half]]]:
    """Each app, then the mean, with its figures over all flows and over the accepted ones."""
    both = (scores, accepted)
    rows: list[tuple[str, list[_Half]]] = [
        (
            app,
            [(int(s.confusion[i].sum()), s.precision[i], s.recall[i], s.f1[i]) for s in both],
        )
        for i, app in enumerate(scores.apps)
    ]
    means = [(s.n_flows, s.macro_precision, s.macro_recall, s.macro_f1) for s in both]
    return [*rows, ("mean", means)]


def _slices(
    slices: dict[str, dict[str, dict[str, float]]],
) -> list[tuple[str, list[tuple[str, float, float]]]]:
    """For each property of flows, its values with the number of flows and the accuracy."""
    titles = {
        "payload_packets": "payload packets seen",
        "client_by": "client told by",
        "hello": "the client begins with",
    }
    said = {"hello": "a TLS hello", "mid-session": "TLS in mid-session", "none": "no TLS"}
    return [
        (
            titles.get(name, name),
            [
                (said.get(value, value), row["flows"], row["accuracy"])
                for value, row in values.items()
            ],
        )
        for name, values in slices.items()
    ]
