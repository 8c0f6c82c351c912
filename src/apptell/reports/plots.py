"""Draws figures with matplotlib: functions that take results and return axes, for notebooks and papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.encoding import images
from apptell.errors import UsageError, needs_extra
from apptell.reports.png import paint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike

    from apptell.evaluation import Evaluation
    from apptell.flows import FlowBatch
    from apptell.verdicts import Verdict

_NS: Final = 1_000_000_000
_RIGHT, _WRONG = "#1f5fbf", "#d9650f"


def plot_confusion(evaluation: Evaluation, ax: Any = None) -> Any:
    """Draws flows of each true app (row) by the app that they were given to (column), as shares of the row.

    Args:
        evaluation: of ``evaluate(...).evaluation``.
        ax: matplotlib axes to draw on (default: new ones).

    Returns:
        The axes.

    Raises:
        MissingError: matplotlib is not installed.

    Example:
        >>> axes = apptell.plot_confusion(apptell.evaluate("model/", "dataset/").evaluation)
        >>> axes.get_xlabel()
        'given app'
    """
    axes = _axes(ax)
    scores = evaluation.scores
    totals = scores.confusion.sum(axis=1, keepdims=True)
    shares = scores.confusion / np.maximum(totals, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(scores.apps))
    axes.set_xticks(places, scores.apps, rotation=90)
    axes.set_yticks(places, scores.apps)
    if len(scores.apps) <= 20:
        for row, column in np.argwhere(scores.confusion):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{scores.confusion[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xlabel("given app")
    axes.set_ylabel("true app")
    return axes


def plot_reliability(evaluation: Evaluation, ax: Any = None) -> Any:
    """Draws accuracy against confidence; of a calibrated model the points lie on the diagonal.

    Args:
        evaluation: of ``evaluate(...).evaluation``.
        ax: matplotlib axes to draw on (default: new ones).

    Returns:
        The axes.

    Example:
        >>> axes = apptell.plot_reliability(apptell.evaluate("model/", "dataset/").evaluation)
        >>> axes.get_ylabel()
        'share right'
    """
    axes = _axes(ax)
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    bins = evaluation.reliability
    sizes = [20 + 180 * each["flows"] / max(evaluation.scores.n_flows, 1) for each in bins]
    axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], color=_RIGHT)
    axes.scatter(
        [b["confidence"] for b in bins], [b["accuracy"] for b in bins], s=sizes, color=_RIGHT
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share right")
    axes.set_title(f"expected calibration error {evaluation.calibration_error:.3f}")
    return axes


def plot_coverage(evaluation: Evaluation, ax: Any = None) -> Any:
    """Draws the share of right flows among the accepted ones against the share that is accepted.

    Args:
        evaluation: of ``evaluate(...).evaluation``.
        ax: matplotlib axes to draw on (default: new ones).

    Returns:
        The axes.

    Example:
        >>> axes = apptell.plot_coverage(apptell.evaluate("model/", "dataset/").evaluation)
        >>> axes.get_xlabel()
        'coverage'
    """
    axes = _axes(ax)
    points = evaluation.coverage_precision
    axes.plot([p["coverage"] for p in points], [p["precision"] for p in points], color=_RIGHT)
    accepted = evaluation.at_threshold
    if accepted.n_flows:
        axes.plot(evaluation.coverage, accepted.accuracy, "o", color=_WRONG)
        axes.annotate(f" {evaluation.threshold:.2f}", (evaluation.coverage, accepted.accuracy))
    axes.set(xlim=(0, 1.02), xlabel="coverage", ylabel="share right of the accepted")
    return axes


def plot_sources(right: ArrayLike, sources: Sequence[str], ax: Any = None) -> Any:
    """Draws the accuracy of each source (network, phone, person) as a strip of points, sized by flows.

    Args:
        right: whether each flow was given to its app, shape (n,).
        sources: where each flow came from, n texts.
        ax: matplotlib axes to draw on (default: new ones).

    Returns:
        The axes.

    Raises:
        UsageError: the two are not of one length.

    Example:
        >>> axes = apptell.plot_sources([True, False, True], ["home", "home", "cafe"])
        >>> [text.get_text() for text in axes.get_yticklabels()]
        ['home', 'cafe']
    """
    hits, names = np.asarray(right, dtype=bool), np.asarray(list(sources), dtype=np.str_)
    if hits.shape != names.shape:
        raise UsageError(
            f"{len(hits)} flows are right or wrong, but there are {len(names)} sources"
        )
    axes = _axes(ax)
    known, at = np.unique(names, return_inverse=True)
    flows = np.bincount(at, minlength=len(known))
    accuracy = np.bincount(at, hits, minlength=len(known)) / np.maximum(flows, 1)
    order = np.argsort(accuracy, kind="stable")
    sizes = 15 + 120 * flows[order] / max(int(flows.max(initial=1)), 1)
    axes.scatter(accuracy[order], np.arange(len(known)), s=sizes, color=_RIGHT)
    if len(hits):
        axes.axvline(float(hits.mean()), color="grey", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(known)), known[order].tolist())
    axes.set(xlim=(-0.02, 1.02), xlabel="share right")
    return axes


def plot_flow_image(flows: FlowBatch, row: int = 0, ax: Any = None) -> Any:
    """Draws the paper's image of a flow: what the client sent blue, what the server sent orange.

    Args:
        flows: flows with the group *segments*.
        row: which of them.
        ax: matplotlib axes to draw on (default: new ones).

    Returns:
        The axes.

    Example:
        >>> flows = apptell.read_flows("phone.pcap").to_flows()
        >>> apptell.plot_flow_image(flows).images[0].get_array().shape
        (87, 87, 3)
    """
    axes = _axes(ax)
    axes.imshow(paint(images(flows[row : row + 1])[0]), interpolation="nearest")
    axes.set_axis_off()
    return axes


def plot_timeline(verdicts: Iterable[Verdict], client: str | None = None, ax: Any = None) -> Any:
    """Draws when each app talked: a line for each flow from its first to its last packet, a row for each app.

    Args:
        verdicts: of ``identify``.
        client: the address of the only client to show (default: all).
        ax: matplotlib axes to draw on (default: new ones).

    Returns:
        The axes.

    Example:
        >>> axes = apptell.plot_timeline(apptell.identify("phone.pcap", "model/", evidence="model"))
        >>> [text.get_text() for text in axes.get_yticklabels()]
        ['signal', 'zoom']
    """
    axes = _axes(ax)
    spans: dict[str, list[tuple[int, int]]] = {}
    for verdict in verdicts:
        if client is None or verdict.client_address == client:
            name = verdict.app_name or verdict.app or verdict.service or "?"
            spans.setdefault(name, []).append((verdict.start_ns, verdict.end_ns))
    begin = min((start for each in spans.values() for start, _ in each), default=0)
    names = sorted(spans, key=lambda name: (name == "?", name))
    for at, name in enumerate(names):
        bars = [((s - begin) / _NS, max((e - s) / _NS, 0.05)) for s, e in spans[name]]
        axes.broken_barh(bars, (at - 0.35, 0.7), color=_WRONG if name == "?" else _RIGHT, alpha=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("seconds")
    return axes


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    with needs_extra("plots", "a plot"):
        from matplotlib.figure import Figure
    return Figure(layout="constrained").subplots()
