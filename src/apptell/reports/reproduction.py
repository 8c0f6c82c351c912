"""Sections of the report that compares a reproduction of Section 4 with the paper's own numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.evaluation import paper
from apptell.reports.page import Cell, Section
from apptell.reports.svg import (
    confusion_figure,
    coverage_figure,
    histogram_figure,
    reliability_figure,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apptell.evaluation import Evaluation

Numbers = tuple[float, float, float]
_THRESHOLDS: Final = (0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
"""The points of the curve that are in its table."""


def paper_sections(
    *,
    schedule: str,
    flows: Mapping[str, int],
    n_background: int,
    cnn: Sequence[Evaluation],
    forest: Sequence[Evaluation],
    with_other: Sequence[Evaluation],
    after: Sequence[float],
    p_values: Sequence[float],
    claims: Sequence[tuple[str, bool, str]],
    times: Sequence[tuple[str, float, float, int, int]],
    limits: tuple[float, float],
    seeds: Sequence[int],
) -> list[Section]:
    """The sections of the report, in the paper's order.

    Args:
        schedule: epochs and seeds as text, which begins the caption of each table.
        flows: Table 1, flows per app.
        n_background: flows of the class Other.
        cnn: the network by seed.
        forest: the forest by seed.
        with_other: the network with Other by seed; empty without background.
        after: mean accuracy after 1, 2, ... 5 payload packets.
        p_values: of the paired test, by seed.
        claims: the paper's words, whether they hold, what was found.
        times: name, seconds of training, seconds of identification, flows trained on times passes,
            flows identified.
        limits: flows a second that the machine's arithmetic allows the network, of training and of
            identification.
        seeds: in the order of the evaluations.
    """
    first, trees = cnn[0], forest[0]
    beside = f"{schedule}. Ours: mean over the seeds."
    one = f"{schedule}. Shown: seed {seeds[0]}."
    sections = [
        Section(
            "claims", "The paper's claims, tested", schedule,
            ("claim", "holds", "found"),
            [(words, "true" if holds else "false", found) for words, holds, found in claims],
        ),
        _table_1(flows, n_background),
        _per_app("table4", "Table 4: the network", beside, cnn, paper.TABLE_4_CNN),
        _per_app("table5", "Table 5: the random forest", beside, forest, paper.TABLE_5_FOREST),
        _accuracy(cnn, forest, p_values, seeds, schedule),
        _confusion("table6-network", "Table 6: confusion of the network", one, first),
        _confusion("table6-forest", "Table 6: confusion of the forest", one, trees),
        Section(
            "table6-paper", "Table 6 as the paper has it: network/forest",
            "It has 8,897 flows, but 20 % of Table 1 is 8,971.",
            ("true", *paper.APPS),
            [
                (app, *(f"{a}/{b}" for a, b in zip(ours, theirs, strict=True)))
                for app, ours, theirs in zip(
                    paper.APPS, paper.TABLE_6_CNN, paper.TABLE_6_FOREST, strict=True
                )
            ],
        ),
        Section(
            "fig3", "Fig. 3: confidence of right and wrong verdicts", one,
            ("confidence from", "to", "right verdicts", "wrong verdicts"),
            _histogram(first), histogram_figure(first.histogram),
        ),
        _threshold("threshold", "Section 4.2: the threshold 0.85", beside, cnn,
                   paper.AT_THRESHOLD, paper.COVERAGE),
        _coverage(first, one),
    ]  # fmt: skip
    if with_other:
        sections += [
            _threshold("other", "Section 4.3: with the class Other", beside, with_other,
                       paper.WITH_OTHER_AT_THRESHOLD, paper.WITH_OTHER_COVERAGE),
            _per_app("other-per-app", "With the class Other, per class", beside, with_other, {}),
            _confusion("fig4", "Fig. 4: confusion with the class Other", one, with_other[0]),
        ]  # fmt: skip
    sections += [
        Section(
            "packets", "Accuracy after 1 to 5 payload packets",
            f"{beside} The network learned from five packets and is tested on fewer. The paper has "
            "no such table.",
            ("payload packets seen", "accuracy"),
            [(str(i), share) for i, share in enumerate(after, 1)],
        ),
        Section(
            "calibration", "Calibration of the confidence",
            f"{one} Expected calibration error {first.calibration_error:.4f}. The paper has no such "
            "figure.",
            ("confidence", "share right", "flows"),
            [(b["confidence"], b["accuracy"], int(b["flows"])) for b in first.reliability],
            reliability_figure(first.reliability),
        ),
        Section(
            "times", "Time",
            f"{schedule}. Of the first seed, on this machine; the paper gives no times. Its measured "
            f"matrix products would allow the network {limits[0]:,.0f} flows a second of training (as "
            f"three passes forward) and {limits[1]:,.0f} of identification.",
            ("model", "training, s", "flows learned from a second, all passes", "flows named a second"),
            [
                (name, f"{train_s:.1f}", round(learned / train_s) if train_s else None,
                 round(named / named_s) if named_s else None)
                for name, train_s, named_s, learned, named in times
            ],
        ),
    ]  # fmt: skip
    return sections


def _coverage(result: Evaluation, words: str) -> Section:
    rows = [
        (f"{point['threshold']:.2f}", point["coverage"], point["precision"])
        for point in result.coverage_precision
        if round(point["threshold"], 2) in _THRESHOLDS
    ]
    return Section(
        "coverage",
        "Coverage and precision at each threshold",
        words,
        ("threshold", "coverage", "right among the accepted"),
        rows,
        coverage_figure(result.coverage_precision, result.coverage, result.at_threshold.accuracy),
    )


def _table_1(flows: Mapping[str, int], n_background: int) -> Section:
    apps = list(dict.fromkeys([*flows, *paper.TABLE_1_FLOWS]))
    rows: list[tuple[Cell, ...]] = [
        (app, paper.TABLE_1_FLOWS.get(app), flows.get(app)) for app in apps
    ]
    rows.append(("all", sum(paper.TABLE_1_FLOWS.values()), sum(flows.values())))
    rows.append(("background (4.3)", paper.BACKGROUND_FLOWS, n_background))
    words = "Apps that only one side has are without a number on the other."
    return Section("table1", "Table 1: flows", words, ("app", "the paper", "ours"), rows)


def _means(results: Sequence[Evaluation]) -> Numbers:
    return (
        float(np.mean([each.scores.macro_precision for each in results])),
        float(np.mean([each.scores.macro_recall for each in results])),
        float(np.mean([each.scores.macro_f1 for each in results])),
    )


def _per_app(
    name: str,
    title: str,
    words: str,
    results: Sequence[Evaluation],
    published: Mapping[str, Numbers],
) -> Section:
    apps = results[0].scores.apps
    figures = [
        np.mean([getattr(each.scores, figure) for each in results], axis=0)
        for figure in ("precision", "recall", "f1")
    ]
    ours: dict[str, Sequence[Cell]] = {
        app: [float(figure[i]) for figure in figures] for i, app in enumerate(apps)
    }
    ours["mean"] = _means(results)
    nothing = (None, None, None)
    order = [*dict.fromkeys([*apps, *(app for app in published if app != "mean")]), "mean"]
    rows = [(app, *published.get(app, nothing), *ours.get(app, nothing)) for app in order]
    head = ("app", *(f"{who}: {what}" for who in ("paper", "ours") for what in "PRF"))
    return Section(name, title, words, head, rows)


def _accuracy(
    cnn: Sequence[Evaluation],
    forest: Sequence[Evaluation],
    p_values: Sequence[float],
    seeds: Sequence[int],
    schedule: str,
) -> Section:
    """Accuracy by seed, with intervals and the paired test."""
    rows: list[tuple[Cell, ...]] = [
        ("the paper", paper.CNN_ACCURACY, None, paper.FOREST_ACCURACY, None, None, None, None)
    ]
    rows += [
        (
            f"ours, seed {seed}", a.scores.accuracy, a.intervals["accuracy"], b.scores.accuracy,
            b.intervals["accuracy"], f"{p:.2g}", a.app_coverage, a.calibration_error,
        )
        for seed, a, b, p in zip(seeds, cnn, forest, p_values, strict=True)
    ]  # fmt: skip
    words = (
        f"{schedule}. Each seed has its own random split. Intervals hold 95 % of 1,000 drawings of "
        "whole groups (source, session or capture; of flows where there is one group only). "
        "McNemar: how likely network and forest differ this much by chance. App coverage: share of "
        "the apps in a capture with an accepted, right flow."
    )
    head = (
        "", "network: accuracy", "95 %", "forest: accuracy", "95 %", "McNemar p", "app coverage",
        "calibration error",
    )  # fmt: skip
    return Section("accuracy", "Section 4.1: accuracy, network and forest", words, head, rows)


def _threshold(
    name: str,
    title: str,
    words: str,
    results: Sequence[Evaluation],
    published: Numbers,
    coverage: float,
) -> Section:
    accepted = [each.at_threshold for each in results]
    ours = [
        float(np.mean([getattr(each, figure) for each in accepted]))
        for figure in ("macro_precision", "macro_recall", "macro_f1")
    ]
    return Section(
        name,
        title,
        f"{words} Means over the accepted flows.",
        ("", "precision", "recall", "F", "coverage"),
        [
            ("the paper", *published, coverage),
            ("ours", *ours, float(np.mean([each.coverage for each in results]))),
        ],
    )


def _confusion(name: str, title: str, words: str, result: Evaluation) -> Section:
    scores = result.scores
    rows: list[tuple[Any, ...]] = [
        (app, *row) for app, row in zip(scores.apps, scores.confusion.tolist(), strict=True)
    ]
    figure = confusion_figure(scores.apps, scores.confusion.tolist())
    return Section(name, title, words, ("true", *scores.apps), rows, figure)


def _histogram(result: Evaluation) -> list[tuple[Cell, ...]]:
    edges, parts = result.histogram["edges"], result.histogram
    return [
        (f"{edges[i]:.2f}", f"{edges[i + 1]:.2f}", parts["right"][i], parts["wrong"][i])
        for i in range(len(parts["right"]))
        if parts["right"][i] or parts["wrong"][i]
    ]
