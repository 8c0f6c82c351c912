"""Divides flows by source for judging models, and computes figures with intervals over sources.

A source is a network or a person. A model is judged on a source from which it learned nothing, also where
two collections hold captures of the same person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.evaluation.providers import by_provider, provider_of
from apptell.evaluation.scores import confusion_matrix, score
from apptell.evaluation.uncertainty import bootstrap_intervals

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLD: Final = 0.85
N_BINS: Final = 15
"""Bins of equal width of the calibration error."""
_MOST_PAIRS: Final = 12


class Turn(NamedTuple):
    """One training and the flows that it is tested on."""

    learned: NDArray[np.int64]
    """Rows of the training flows, sorted."""
    tested: NDArray[np.int64]
    """Rows of the tested flows, sorted; none is of a source with learned flows."""


def link_sources(
    source: NDArray[np.str_], connection: NDArray[np.str_]
) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Makes sources that share a connection one source, and finds each connection once.

    Args:
        source: of each flow, shape (n,).
        connection: names the connection of each flow, the same wherever it was recorded, shape (n,).

    Returns:
        The source of each flow, shape (n,), named by the first of the linked ones in sorted order, and the
        first row of each connection, sorted.
    """
    names, number = np.unique(source, return_inverse=True)
    root = np.arange(len(names))
    _, first, place = np.unique(connection, return_index=True, return_inverse=True)
    for row, leader in enumerate(first[place]):
        a, b = root[number[row]], root[number[leader]]
        if a != b:
            root[root == max(a, b)] = min(a, b)
    return names[root[number]], np.sort(first)


def source_folds(
    source: NDArray[np.str_], app: NDArray[np.str_], n: int, seed: int
) -> NDArray[np.int64]:
    """The fold of each flow, shape (n,): whole sources, those of one app spread over the folds.

    Args:
        source: of each flow, shape (n,).
        app: of each flow, shape (n,).
        n: number of folds.
        seed: of the order of the sources of one app.
    """
    names = np.unique(source)
    random = np.random.default_rng(seed)
    main_app = []
    for each in names:
        apps, count = np.unique(app[source == each], return_counts=True)
        main_app.append(str(apps[np.flatnonzero(count == count.max())[-1]]))
    order = sorted(range(len(names)), key=lambda i: (main_app[i], random.random()))
    fold = np.zeros(len(names), dtype=np.int64)
    fold[order] = np.arange(len(names)) % n
    return np.asarray(fold[np.searchsorted(names, source)])


def turns(
    source: NDArray[np.str_],
    tested: NDArray[np.bool_],
    learnable: NDArray[np.bool_],
    fold: NDArray[np.int64] | None = None,
) -> list[Turn]:
    """The trainings by which every tested flow is judged by a model without its source.

    Args:
        source: of each flow, shape (n,).
        tested: flows to judge, shape (n,).
        learnable: flows that a model may learn from, shape (n,). A flow that is not learnable is in no
            training, whatever is tested.
        fold: of each flow, shape (n,), the same for all flows of a source: a whole fold is left out at a time.
            None leaves out one source at a time.

    Returns:
        One turn for each training. Sources that leave the same training flows have one turn together.
    """
    unit = np.unique(source, return_inverse=True)[1] if fold is None else fold
    found: dict[bytes, Turn] = {}
    for each in np.unique(unit[tested]):
        is_out = unit == each
        rows, learned = np.flatnonzero(tested & is_out), np.flatnonzero(learnable & ~is_out)
        key = learned.tobytes()
        if key in found:
            rows = np.sort(np.concatenate([found[key].tested, rows]))
        found[key] = Turn(learned, rows)
    return list(found.values())


def source_figures(
    app: NDArray[np.str_],
    source: NDArray[np.str_],
    p: NDArray[np.float32],
    apps: tuple[str, ...],
    background: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Figures of tested flows by ``app`` and by ``provider``, with 95 % bootstrap intervals over sources.

    Args:
        app: the truth of each flow, shape (n,).
        source: of each flow, shape (n,).
        p: probabilities, shape (n, k).
        apps: the k apps.
        background: the one of them that is no app; its verdicts do not count as verdicts of apps.

    Returns:
        For each level: ``flows`` and ``sources``; ``accuracy`` and ``macro_f1`` with both ends of their
        intervals; ``accuracy_by_source``, the mean over sources; ``ece``; ``precision_at_85`` of verdicts of
        apps with a confidence of at least 0.85 (None where there is none), and ``coverage_at_85``, the share
        of the apps' flows that have such a verdict (None without flows of apps); accuracy and flows of each
        source; the most frequent errors.
    """
    found: dict[str, dict[str, Any]] = {}
    for level in ("app", "provider"):
        truth, shares, columns = app, p, apps
        if level == "provider":
            truth = np.array([provider_of(each) for each in app.tolist()])
            shares, columns = by_provider(p.astype(np.float32), apps)
        target = np.array([columns.index(each) for each in truth.tolist()], dtype=np.int64)
        guess, confidence = shares.argmax(axis=1), shares.max(axis=1)
        right = guess == target
        scores = score(confusion_matrix(target, guess, len(columns)), columns)
        ends = bootstrap_intervals(target, guess, len(columns), source)
        names, number, size = np.unique(source, return_inverse=True, return_counts=True)
        each = np.bincount(number, right) / size
        is_app = truth != background
        named = (confidence >= THRESHOLD) & (np.array(columns)[guess] != background)
        found[level] = {
            "flows": len(app),
            "sources": len(names),
            "accuracy": [scores.accuracy, *ends.get("accuracy", ())],
            "macro_f1": [scores.macro_f1, *ends.get("macro_f1", ())],
            "accuracy_by_source": float(each.mean()),
            "ece": _calibration_error(confidence, right),
            "precision_at_85": float(right[named].mean()) if named.any() else None,
            "coverage_at_85": float(named[is_app].mean()) if is_app.any() else None,
            "by_source": {
                name: [float(share), int(n)]
                for name, share, n in zip(names.tolist(), each, size, strict=True)
            },
            "errors": _pairs(np.array(columns), target[~right], guess[~right]),
        }
    return found


def _calibration_error(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = np.abs(np.bincount(bins, confidence.astype(np.float64)) - np.bincount(bins, right))
    return float(gaps.sum() / max(len(right), 1))


def _pairs(
    columns: NDArray[np.str_], target: NDArray[np.int64], guess: NDArray[np.int64]
) -> dict[str, int]:
    """The most frequent errors, such as ``teams as signal``, and their numbers."""
    words = [f"{columns[t]} as {columns[g]}" for t, g in zip(target, guess, strict=True)]
    pairs, n = np.unique(np.array(words, dtype=np.str_), return_counts=True)
    ranked = sorted(zip(pairs.tolist(), n.tolist(), strict=True), key=lambda each: -each[1])
    return dict(ranked[:_MOST_PAIRS])
