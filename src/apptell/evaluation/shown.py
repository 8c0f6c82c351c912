"""Shows an evaluation where people try things out: as text, and as HTML in notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from apptell.templates import render

if TYPE_CHECKING:
    from apptell.evaluation.figures import Evaluation

_MOST_APPS: Final = 30
_TEMPLATE: Final = Path(__file__).parent / "shown.html"


def evaluation_text(found: Evaluation) -> str:
    """The means with their intervals, then a line for each app."""
    width = max([4, *(len(app) for app, *_ in _rows(found))])
    lines = [*(f"{name:<{width}}  {value}" for name, value in _means(found)), ""]
    lines.append(f"{'app':<{width}}  {'flows':>7}  precision  recall     F1")
    lines += [
        f"{app:<{width}}  {flows:>7,}  {precision:>9.3f}  {recall:>6.3f}  {f1:>5.3f}"
        for app, flows, precision, recall, f1 in _rows(found)
    ]
    more = len(found.scores.apps) - _MOST_APPS
    if more > 0:
        lines.append(f"and {more} more apps")
    return "\n".join(lines)


def evaluation_html(found: Evaluation) -> str:
    """The same as a piece of HTML, names escaped."""
    more = max(0, len(found.scores.apps) - _MOST_APPS)
    return render(_TEMPLATE, means=_means(found), rows=_rows(found), more=more)


def _means(found: Evaluation) -> list[tuple[str, str]]:
    scores = found.scores
    means = [
        ("flows", f"{scores.n_flows:,}"),
        ("accuracy", _with_interval(found, "accuracy", scores.accuracy)),
        ("macro F1", _with_interval(found, "macro_f1", scores.macro_f1)),
        (f"coverage at {found.threshold:.2f}", f"{found.coverage:.3f}"),
        ("accuracy of the accepted", f"{found.at_threshold.accuracy:.3f}"),
        ("calibration error", f"{found.calibration_error:.3f}"),
    ]
    if found.unknown_apps:
        means.append(("apps that the model does not know", ", ".join(found.unknown_apps)))
    return means


def _with_interval(found: Evaluation, name: str, value: float) -> str:
    if name not in found.intervals:
        return f"{value:.3f}"
    low, high = found.intervals[name]
    return f"{value:.3f} (95 % interval {low:.3f} to {high:.3f})"


def _rows(found: Evaluation) -> list[tuple[str, int, float, float, float]]:
    scores = found.scores
    return [
        (app, int(flows), float(precision), float(recall), float(f1))
        for app, flows, precision, recall, f1 in list(
            zip(
                scores.apps,
                scores.confusion.sum(axis=1),
                scores.precision,
                scores.recall,
                scores.f1,
                strict=True,
            )
        )[:_MOST_APPS]
    ]
