"""Training flows in, a rule for flows of TLS stacks that the model will not know out.

Devices are left out of training in turn (networks or sessions, where devices are not known). Their flows whose
JA4 the others do not have are what flows of new stacks will be like. The rule is the one by which most of them
are accepted and right, among those that hold on every device: at least PRECISION of what is accepted at the
threshold is right on each, and in all, with the chance of a small sample allowed for. Where none does, flows of
new stacks are declined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.learning.model_fitting import fit
from apptell.models.new_stacks import DECLINING, mixed
from apptell.models.temperature import NO_FLOOR, calibrate
from apptell.verdicts.pipeline import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from apptell.learning.forest import StatisticsForest
    from apptell.learning.labelled_inputs import LabelledInputs
    from apptell.learning.task import Task

PRECISION: Final = 0.9
"""Share of accepted flows of new stacks that must be right."""
SHARES: Final = (0.0, 0.5, 1.0)
"""Shares of the forest on lengths: the model alone, the mean of both, the forest alone."""
TEMPERATURES: Final = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
MOST_FOLDS: Final = 8
N_TREES: Final = 100
_LEAST_FLOWS: Final = 10
"""Accepted flows of a device that say whether a rule holds on it."""
_LEAST_DEVICES: Final = 2
"""Devices that must say so."""
_CONFIDENCE: Final = 0.9
"""Of the two-sided interval (Wilson's), so that the share in all is above its lower end in 95 % of samples."""


@dataclass(frozen=True, slots=True)
class StackRule:
    """A rule for flows of new stacks."""

    forest: bytes | None
    """ONNX; None where its share is 0."""
    facts: dict[str, Any]
    """``new_stacks`` of ``model.json``, without the hash of the forest."""


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """Flows of new stacks on one device that was left out."""

    by_model: NDArray[np.float32]
    by_lengths: NDArray[np.float32]
    target: NDArray[np.int64]


def fit_stack_rule(
    task: Task,
    flows: LabelledInputs,
    calibration: Mapping[str, Any] | None = None,
    threshold: float | None = None,
    *,
    show: Callable[[float, str], None] | None = None,
) -> StackRule:
    """Chooses how flows of new stacks are decided.

    Args:
        task: the model; it is trained once for each device.
        flows: the training flows, with lengths, JA4s and devices.
        calibration: temperature and floor of the model's probabilities, as in ``model.json``.
        threshold: the model's (default: 0.85).
        show: called with the share done, 0 to 1, and words.
    """
    limit = DEFAULT_THRESHOLD if threshold is None else threshold
    left_out = _leave_out(task, flows, calibration, show)
    share, temperature, found = 0.0, DECLINING, _counts(left_out, 0.0, DECLINING, limit)
    best = 0
    for one in SHARES:
        for other in TEMPERATURES:
            counts = _counts(left_out, one, other, limit)
            if _holds(counts) and int(counts[:, 2].sum()) > best:
                share, temperature, found = one, other, counts
                best = int(counts[:, 2].sum())
    forest = None
    if share:
        learner = make_forest(task)
        learner.fit(flows.lengths, flows.apps)
        forest = learner.to_onnx()
    decides = {0.0: "the model", 0.5: "the mean", 1.0: "lengths"}[share]
    total, accepted, right = (int(each) for each in found.sum(axis=0))
    return StackRule(
        forest,
        {
            "share": share,
            "temperature": temperature,
            "packets": flows.lengths.shape[1],
            "decides": "nobody" if temperature == DECLINING else decides,
            "devices": len(left_out),
            "flows": total,
            "accepted": accepted,
            "right": right,
            "threshold": limit,
        },
    )


def sentence_of(about: Mapping[str, Any]) -> str:
    """What was chosen, from ``new_stacks`` of ``model.json``."""
    seen = f"{about['flows']:,} flows of new TLS stacks on {about['devices']:,} devices left out"
    if about["decides"] == "nobody":
        return f"Flows of new TLS stacks are declined: no rule was right often enough on {seen}."
    return (
        f"Flows of new TLS stacks are decided by {about['decides']}: of {seen}, {about['accepted']:,} were "
        f"accepted, {about['right'] / max(about['accepted'], 1):.1%} of them right."
    )


def _leave_out(
    task: Task,
    flows: LabelledInputs,
    calibration: Mapping[str, Any] | None,
    show: Callable[[float, str], None] | None,
) -> list[_LeftOut]:
    """What models of the other devices say of each device's flows of new stacks."""
    if flows.ja4 is None:
        return []
    every = np.unique(flows.apps)
    fold = _folds(flows.groups if flows.devices is None else flows.devices, task.seed)
    n_folds = int(fold.max(initial=-1)) + 1
    found = []
    for number in range(n_folds if n_folds > 1 else 0):
        if show is not None:
            show(number / n_folds, f"new TLS stacks {number + 1} of {n_folds}")
        train = np.flatnonzero(fold != number)
        is_new = (flows.ja4 != "") & ~np.isin(flows.ja4, np.unique(flows.ja4[train]))
        test = np.flatnonzero((fold == number) & is_new & np.isin(flows.apps, flows.apps[train]))
        part, tested = flows.take(train), flows.take(test)
        if not len(test) or len(np.unique(part.apps)) < 2:
            continue
        model = fit(task.learner(), task, part)
        inputs = tested.inputs[:, 0] if task.views else tested.inputs
        p = np.asarray(model.predict_proba(inputs), dtype=np.float32)
        if calibration:
            p = calibrate(p, calibration["temperature"], calibration.get("floor", NO_FLOOR))
        forest = make_forest(task)
        forest.fit(part.lengths, part.apps)
        by_lengths = np.asarray(forest.predict_proba(tested.lengths), dtype=np.float32)
        found.append(
            _LeftOut(
                _wide(p, model.classes_, every),
                _wide(by_lengths, forest.classes_, every),
                np.searchsorted(every, tested.apps),
            )
        )
    return found


def make_forest(task: Task) -> StatisticsForest:
    """A forest on signed payload lengths, ungrown."""
    from apptell.learning.forest import StatisticsForest

    return StatisticsForest(N_TREES, n_jobs=-1, random_state=task.seed)


def _folds(devices: NDArray[np.str_], seed: int) -> NDArray[np.int64]:
    """The fold of each flow: one for each device, or MOST_FOLDS of about the same size."""
    names, of_flow = np.unique(devices, return_inverse=True)
    if len(names) <= MOST_FOLDS:
        return np.asarray(of_flow, dtype=np.int64)
    size = np.bincount(of_flow)
    order = np.random.default_rng(seed).permutation(len(size))
    order = order[np.argsort(-size[order], kind="stable")]
    fold_of, filled = np.zeros(len(size), dtype=np.int64), np.zeros(MOST_FOLDS)
    for each in order:
        fold_of[each] = int(filled.argmin())
        filled[fold_of[each]] += size[each]
    return np.asarray(fold_of[of_flow], dtype=np.int64)


def _wide(
    p: NDArray[np.float32], classes: NDArray[Any], every: NDArray[np.str_]
) -> NDArray[np.float32]:
    """Probabilities of all apps; 0 for those that were not learned."""
    found = np.zeros((len(p), len(every)), dtype=np.float32)
    found[:, np.searchsorted(every, classes)] = p
    return found


def _counts(
    left_out: list[_LeftOut], share: float, temperature: float, limit: float
) -> NDArray[np.int64]:
    """Flows, accepted ones and right ones of these, shape (devices, 3)."""
    found = np.zeros((len(left_out), 3), dtype=np.int64)
    for row, each in enumerate(left_out):
        p = mixed(each.by_model, each.by_lengths, share, temperature)
        accepted = p.max(axis=1) >= np.float32(limit)
        right = accepted & (p.argmax(axis=1) == each.target)
        found[row] = len(p), accepted.sum(), right.sum()
    return found


def _holds(counts: NDArray[np.int64]) -> bool:
    """Whether enough of what is accepted is right on each device, and surely in all."""
    telling = counts[counts[:, 1] >= _LEAST_FLOWS]
    if len(telling) < _LEAST_DEVICES or (telling[:, 2] < PRECISION * telling[:, 1]).any():
        return False
    from scipy.stats import binomtest

    _, accepted, right = (int(each) for each in counts.sum(axis=0))
    interval = binomtest(right, accepted).proportion_ci(_CONFIDENCE, method="wilson")
    return bool(interval.low >= PRECISION)
