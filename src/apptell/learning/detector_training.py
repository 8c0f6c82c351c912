"""Training flows in, a detector of flows of unlearned apps out.

Models are trained on parts of the training flows. In each fold one set of apps is left out: its flows play
unlearned apps, held-out flows of the other apps play known ones, and logistic regression learns a score that
tells them apart. Models of all apps then give the scores of held-out flows, which are the reference for ranks
and for the rate of flows of known apps that are called unknown. Groups of flows (networks, sessions) are held
out whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import DatasetError
from apptell.learning.model_fitting import fit
from apptell.learning.registry import recipe_of
from apptell.models.nearest_tokens import MOST_REFERENCES, NearestTokens
from apptell.models.temperature import NO_FLOOR, calibrate
from apptell.models.unknown_detector import (
    FEATURES,
    LEVELS,
    Description,
    LengthTable,
    UnknownDetector,
    cutoff_of,
    rank,
    share_of,
)
from apptell.verdicts.context import ContextOptions
from apptell.verdicts.novelty import unknown_in_context
from apptell.verdicts.pipeline import DEFAULT_THRESHOLD
from apptell.verdicts.unlearned import UNKNOWN_PRIOR
from apptell.watch.drift import app_shares
from apptell.watch.observations import Observations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from apptell.learning.labelled_inputs import LabelledInputs
    from apptell.learning.task import Task

N_FOLDS: Final = 5
MOST_SIMULATED: Final = 20_000
"""Flows of a fold that play unlearned apps at most."""
RATES: Final = (0.01, 0.02, 0.05, 0.1)
"""Stated rates whose realised rates are kept."""
_STRENGTH: Final = 100.0
"""Inverse strength of the regularisation of the score."""
_LEAST_HELD: Final = 20
"""Held-out flows that a class needs for quantiles of its own; with fewer it gets those of all classes."""
_LEAST_CLASSES: Final = 3
"""Classes of which one can be left out and two are still learned."""


@dataclass(frozen=True, slots=True)
class FittedDetector:
    """A detector, and what the training flows say of it."""

    detector: UnknownDetector
    facts: dict[str, Any]
    """For ``model.json``: held-out flows and groups, the realised rates, and the figures on simulated apps."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What a model of a part of the flows says of others."""

    rows: NDArray[np.int64]
    features: NDArray[np.float64]
    best: NDArray[np.int64]
    """Number of the predicted class among all."""
    probabilities: NDArray[np.float32]
    """Of all classes; 0 for one that was not learned."""


def fit_detector(
    task: Task,
    flows: LabelledInputs,
    calibration: Mapping[str, Any] | None = None,
    *,
    n_folds: int = N_FOLDS,
    show: Callable[[float, str], None] | None = None,
) -> FittedDetector:
    """Learns to tell flows of unlearned apps from flows of known ones.

    Args:
        task: the model; it is trained ``2 * n_folds`` times on parts of the flows.
        flows: the training flows.
        calibration: temperature and floor of the model's probabilities, as in ``model.json``.
        n_folds: folds.
        show: called with the share done, 0 to 1, and words.

    Raises:
        DatasetError: there are too few flows, or too few groups that have several apps, to hold some out.
    """
    every = np.unique(flows.apps)
    fold, groups = _divide(flows, n_folds, task.seed)
    n_folds = int(fold.max()) + 1
    sets = _left_out(len(every), n_folds, task.seed)
    steps = n_folds + (n_folds if sets else 0)
    done = 0

    def step(words: str) -> None:
        nonlocal done
        if show is not None:
            show(done / steps, words)
        done += 1

    weight = np.zeros(len(FEATURES))
    weight[-1 if flows.inputs.dtype == np.uint16 else 0] = 1.0  # the best single one
    simulated: list[_Simulated] = []
    for number, left_out in enumerate(sets):
        step(f"unknown apps {number + 1} of {n_folds}")
        found = _simulate(task, flows, every, fold == number, left_out, calibration)
        simulated += [] if found is None else [found]
    bias = 0.0
    if simulated:
        weight, bias = _learn(simulated)
    held: list[_Held] = []
    for number in range(n_folds):
        step(f"held out {number + 1} of {n_folds}")
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        one = _hold(task, flows, every, train, test, calibration)
        held += [] if one is None else [one]
    if len(held) < 2:
        raise DatasetError(
            "too few groups have two apps or more to learn to recognise unknown apps"
        )
    target = np.searchsorted(every, flows.apps)
    description = describe(flows, target, len(every), task)
    prior = _prior(task, flows, every)
    part = UnknownDetector(description, weight, *_no_ranks(len(every)), bias, np.zeros(len(LEVELS)))
    in_context = _in_context(part, flows, held, prior)
    detector, realised, ranks = _calibrated(replace(part, in_context=in_context), held, len(every))
    facts = {
        "flows": len(flows.apps),
        "groups": len(np.unique(groups)),
        "weights": dict(zip(FEATURES, np.round(weight, 4).tolist(), strict=True)),
        "realised": realised,
        "simulated": _figures(simulated, detector),
        "apps": _by_app(flows, every, held, ranks, detector.cutoff(0.05), prior),
    }
    return FittedDetector(detector, facts)


def describe(
    flows: LabelledInputs, target: NDArray[np.int64], n_classes: int, task: Task
) -> Description:
    """What flows of the learned apps look like."""
    neighbours = None
    if flows.inputs.dtype == np.uint16:  # tokens
        tokens = flows.inputs if flows.inputs.ndim == 2 else flows.inputs[:, 0]
        neighbours = NearestTokens.of(tokens[_references(target, task.seed)])
    return Description(LengthTable.of(flows.lengths, target, n_classes), neighbours)


def _references(target: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Rows of reference flows, of every class as many as there are or as its share allows."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(target))
    number = np.zeros(len(target), dtype=np.int64)
    for each in np.unique(target):
        rows = order[target[order] == each]
        number[rows] = np.arange(len(rows))
    return np.sort(np.argsort(number, kind="stable")[:MOST_REFERENCES])


def _divide(
    flows: LabelledInputs, n_folds: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The fold and the group of each flow; without two groups every flow is its own."""
    group = np.unique(flows.groups, return_inverse=True)[1]
    if group.max(initial=0) < 1:
        group = np.arange(len(flows.apps))
    size = np.bincount(group)
    n_folds = min(n_folds, len(size))
    if n_folds < 2:
        raise DatasetError("there are too few flows to hold some out")
    order = np.random.default_rng(seed).permutation(len(size))
    order = order[np.argsort(-size[order], kind="stable")]
    fold_of, filled = np.zeros(len(size), dtype=np.int64), np.zeros(n_folds)
    for each in order:
        fold_of[each] = int(filled.argmin())
        filled[fold_of[each]] += size[each]
    return fold_of[group], group


def _left_out(n_classes: int, n_folds: int, seed: int) -> list[NDArray[np.int64]]:
    """The classes that each fold leaves out; none where too few would be left."""
    if n_classes < _LEAST_CLASSES:
        return []
    order = np.random.default_rng(seed).permutation(n_classes)
    sets = np.array_split(order, min(n_folds, n_classes))
    if n_classes - max(map(len, sets)) < 2:
        sets = [order[number : number + 1] for number in range(n_classes)]
    return [sets[number % len(sets)] for number in range(n_folds)]


def _hold(
    task: Task,
    flows: LabelledInputs,
    every: NDArray[np.str_],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    calibration: Mapping[str, Any] | None,
) -> _Held | None:
    """What a model of some flows says of others; None where there is one app only to learn."""
    part, others = flows.take(train), flows.take(test)
    present = np.unique(part.apps)
    if len(present) < 2:
        return None
    learner = fit(task.learner(), task, part)
    description = describe(part, np.searchsorted(present, part.apps), len(present), task)
    p = np.asarray(learner.predict_proba(others.inputs), dtype=np.float32)
    if calibration:
        p = calibrate(p, calibration["temperature"], calibration.get("floor", NO_FLOOR))
    similarity = None
    if description.neighbours is not None:
        tokens = others.inputs if others.inputs.ndim == 2 else others.inputs[:, 0]
        similarity = description.neighbours.similarity(tokens)
    features = description.features(p, others.lengths, similarity)
    best = np.searchsorted(every, learner.classes_)[np.round(p, 5).argmax(axis=1)]
    wide = np.zeros((len(p), len(every)), dtype=np.float32)
    wide[:, np.searchsorted(every, learner.classes_)] = p
    return _Held(test, features, best, wide)


def _simulate(
    task: Task,
    flows: LabelledInputs,
    every: NDArray[np.str_],
    is_test: NDArray[np.bool_],
    left_out: NDArray[np.int64],
    calibration: Mapping[str, Any] | None,
) -> _Simulated | None:
    """Held-out flows of known apps and all flows of the apps left out; which are unknown; all apps' numbers."""
    target = np.searchsorted(every, flows.apps)
    is_unknown = np.isin(target, left_out)
    unknown = np.flatnonzero(is_unknown)
    if len(unknown) > MOST_SIMULATED:
        unknown = np.random.default_rng(task.seed).choice(unknown, MOST_SIMULATED, replace=False)
    test = np.concatenate([np.flatnonzero(is_test & ~is_unknown), unknown])
    held = _hold(task, flows, every, np.flatnonzero(~is_test & ~is_unknown), test, calibration)
    return None if held is None else (held, is_unknown[test], target[test])


_Simulated = tuple[_Held, "NDArray[np.bool_]", "NDArray[np.int64]"]


def _learn(simulated: list[_Simulated]) -> tuple[NDArray[np.float64], float]:
    """The weight of each feature, and the bias where UNKNOWN_PRIOR of the flows are unknown.

    Known and unknown flows count alike, and every unknown app alike.

    Logistic regression without negative weights: the features are correlated, and with few apps to leave out
    free weights cancel each other and fit those apps alone.
    """
    from scipy.optimize import minimize

    features = np.concatenate([held.features for held, _, _ in simulated])
    is_unknown = np.concatenate([flags for _, flags, _ in simulated])
    app = np.concatenate([numbers for _, _, numbers in simulated])
    share = 1.0 / np.maximum(np.bincount(app[is_unknown], minlength=app.max() + 1), 1)
    counts = np.where(is_unknown, share[app], 1.0)
    for side in (is_unknown, ~is_unknown):
        counts[side] /= counts[side].sum()
    spread = features[~is_unknown].std(axis=0)
    scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0.0)
    x = (features - features[~is_unknown].mean(axis=0)) * scale
    sign = np.where(is_unknown, 1.0, -1.0)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = values[:-1], values[-1]
        margin = sign * (x @ weight + bias)
        slope = -counts * sign / (1 + np.exp(np.minimum(margin, 500)))
        penalty = (weight**2).sum() / (2 * _STRENGTH)
        total = float((counts * np.logaddexp(0, -margin)).sum() + penalty)
        return total, np.append(x.T @ slope + weight / _STRENGTH, slope.sum())

    bounds = [(0.0, None)] * len(scale) + [(None, None)]
    found = minimize(loss, np.zeros(len(scale) + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    weight = np.asarray(found[:-1] * scale, dtype=np.float64)
    bias = float(found[-1] - features[~is_unknown].mean(axis=0) @ weight)
    return weight, bias + float(np.log(UNKNOWN_PRIOR / (1 - UNKNOWN_PRIOR)))


def _no_ranks(
    n_classes: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """What a detector has before held-out flows are ranked."""
    levels = np.zeros(len(LEVELS))
    return np.zeros((n_classes, len(LEVELS))), np.zeros(n_classes, dtype=np.int64), levels


def _prior(task: Task, flows: LabelledInputs, every: NDArray[np.str_]) -> NDArray[np.float64]:
    """How common each app is by the model, as its folder will say."""
    counts = np.bincount(np.searchsorted(every, flows.apps), minlength=len(every)) + 1.0
    prior = np.full(len(every), 1.0) if recipe_of(task.model).balanced else counts
    return np.asarray(prior / prior.sum())


def _in_context(
    detector: UnknownDetector,
    flows: LabelledInputs,
    held: list[_Held],
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Probabilities of an unlearned app of held-out flows, at LEVELS; in context where times are known."""
    share = np.concatenate(
        [share_of(detector.scores(each.features) + detector.bias) for each in held]
    )
    if flows.times_ns is not None:
        rows = np.concatenate([each.rows for each in held])
        clients = flows.groups if flows.clients is None else flows.clients
        share = unknown_in_context(
            np.concatenate([each.probabilities for each in held]),
            share,
            clients[rows].tolist(),
            flows.times_ns[rows],
            prior,
            ContextOptions(),
        )
    return np.asarray(np.quantile(np.round(share.astype(np.float64), 5), LEVELS))


def _calibrated(
    detector: UnknownDetector, held: list[_Held], n_classes: int
) -> tuple[UnknownDetector, dict[str, float], NDArray[np.float32]]:
    """The detector, the rates at which held-out flows are called unknown, and their ranks, by other folds."""
    score = [detector.scores(each.features) for each in held]
    best = [each.best for each in held]
    ranks = []
    for number in range(len(held)):
        quantiles, n_held = _quantiles(*_joined(score, best, number), n_classes)
        ranks.append(rank(score[number], best[number], quantiles, n_held))
    quantiles, n_held = _quantiles(np.concatenate(score), np.concatenate(best), n_classes)
    called = _called(np.concatenate(ranks))
    detector = replace(detector, quantiles=quantiles, n_held=n_held, called=called)
    realised = {}
    for rate in RATES:
        flags = [
            each >= np.float32(cutoff_of(_called(np.concatenate(ranks[:i] + ranks[i + 1 :])), rate))
            for i, each in enumerate(ranks)
        ]
        realised[f"{rate:g}"] = round(float(np.concatenate(flags).mean()), 4)
    return detector, realised, np.concatenate(ranks)


def _joined(
    one: list[NDArray[Any]], other: list[NDArray[Any]], left_out: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both of all folds but one."""
    kept = [number for number in range(len(one)) if number != left_out]
    return np.concatenate([one[n] for n in kept]), np.concatenate([other[n] for n in kept])


def _quantiles(
    score: NDArray[np.float64], best: NDArray[np.int64], n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores by predicted class at LEVELS, shape (classes, levels), and how many each rests on."""
    found = np.tile(np.quantile(score, LEVELS), (n_classes, 1))
    n_held = np.full(n_classes, len(score), dtype=np.int64)
    for number in range(n_classes):
        own = score[best == number]
        if len(own) >= _LEAST_HELD:
            found[number], n_held[number] = np.quantile(own, LEVELS), len(own)
    return found, n_held


def _called(ranks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of flows whose rank is at least each of LEVELS, shape (levels,)."""
    at_least = len(ranks) - np.searchsorted(np.sort(ranks), LEVELS.astype(np.float32), "left")
    return np.asarray(at_least / len(ranks))


def _by_app(
    flows: LabelledInputs,
    every: NDArray[np.str_],
    held: list[_Held],
    ranks: NDArray[np.float32],
    cutoff: float,
    prior: NDArray[np.float64],
) -> dict[str, dict[str, float]]:
    """What verdicts on held-out flows of each app were like (``apptell.watch.measure_drift``)."""
    if flows.times_ns is None:
        return {}
    rows = np.concatenate([each.rows for each in held])
    seen = Observations.of_probabilities(
        np.concatenate([each.probabilities for each in held]),
        (flows.groups if flows.clients is None else flows.clients)[rows].astype(object),
        flows.times_ns[rows],
        threshold=DEFAULT_THRESHOLD,
        p_unknown=ranks,
        cutoff=cutoff,
    )
    target = np.searchsorted(every, flows.apps[rows])
    verdict = seen.window_verdicts(prior)
    found = {}
    for number, share in enumerate(app_shares(seen, verdict, len(every))):
        own = target == number
        if share and own.any():
            share["recall"] = float((seen.guess[own] == number).mean())
            found[str(every[number])] = {name: round(value, 4) for name, value in share.items()}
    return found


def _figures(simulated: list[_Simulated], detector: UnknownDetector) -> dict[str, float]:
    """How well the apps that were left out are told from the others, by the score they are also learned on."""
    if not simulated:
        return {}
    caught, total = 0, 0
    cutoff = detector.cutoff(0.05)
    for held, is_unknown, _ in simulated:
        scores = detector.scores(held.features)
        found = rank(scores, held.best, detector.quantiles, detector.n_held)
        caught += int((found[is_unknown] >= np.float32(cutoff)).sum())
        total += int(is_unknown.sum())
    return {"flows": total, "caught_at_0.05": round(caught / max(total, 1), 4)}
