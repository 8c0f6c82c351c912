"""Chooses a temperature and a threshold that promise a precision, from training flows.

Models that learned from a part of the flows name the rest, whole groups at a time; on these verdicts
both are chosen (``apptell.verdicts.calibration``). Only training flows are used.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apptell.dataset.groups import origins
from apptell.dataset.selection import Selection
from apptell.dataset.splits import Split, method_of
from apptell.errors import DatasetError
from apptell.experiments.plan import plan_of
from apptell.experiments.progress_meter import ProgressMeter, estimated_work
from apptell.experiments.trial_cache import run_trial
from apptell.models.temperature import calibrate
from apptell.verdicts.calibration import FLOOR, fit_temperature, threshold_for_precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apptell.experiments.labelled import LateViews
    from apptell.flows.schema import FlowBatch
    from apptell.learning.task import Task


@dataclass(frozen=True, slots=True)
class PrecisionPromise:
    """The temperature and threshold for a precision, from held-out verdicts."""

    precision: float
    """The requested share of right verdicts among the accepted."""
    temperature: float
    threshold: float | None
    """None if the groups are too few, or the model is too inaccurate, to promise that precision."""
    n_flows: int
    """Number of held-out verdicts."""
    n_groups: int
    """Number of their groups."""
    coverage: float
    """Share of the held-out verdicts that the threshold accepts; 0 if nothing can be promised."""

    @property
    def sentence(self) -> str:
        """The result as a sentence."""
        held = f"{self.n_flows:,} held-out verdicts of {self.n_groups} group{'' if self.n_groups == 1 else 's'}"
        if self.threshold is None:
            return (
                f"{held} cannot promise {100 * self.precision:g}%: the model is the same as without a "
                "requested precision; neither its threshold nor its confidences are changed."
            )
        return (
            f"{held} promise {self.precision:.0%} at threshold {self.threshold:.3f}, which accepts "
            f"{self.coverage:.1%} of them; temperature {self.temperature:.2f}."
        )


def promise_precision(
    flows: FlowBatch | Selection,
    apps: Sequence[str],
    task: Task,
    precision: float | Sequence[float],
    *,
    method: str,
    n_folds: int = 5,
    level: str = "app",
    late: LateViews | None = None,
    show: Callable[[float, str], None] | None = None,
) -> PrecisionPromise:
    """Chooses a temperature, and a threshold whose accepted verdicts are right that often.

    Args:
        flows: the training side of a split.
        apps: the class of each.
        task: the model that is to be trained on all of them.
        precision: share of right verdicts among the accepted, above 0, below 1; of several, the first that can
            be promised.
        method: the split method, which determines what differs in the held-out flows.
        n_folds: folds of the training side; as many models are trained.
        level: ``app`` or ``activity``.
        late: late views of the flows, which the models learn from as well; none is a verdict.
        show: called with the share done, 0 to 1, and words.

    Raises:
        DatasetError: there are too few groups to hold some out.
        UsageError: the precision is not between 0 and 1.
    """
    chosen = Selection.of(flows)
    everything = Split(np.arange(len(chosen)), np.zeros(0, np.int64), method, optimistic=False)
    plan = plan_of(chosen.flows, [everything], task.seed, n_folds, level)
    if not plan.inner:
        raise DatasetError(f"split {method}: the training side has too few groups to hold some out")
    (parts,) = plan.inner
    truth = np.asarray(apps, dtype=np.str_)
    every = tuple(sorted(set(truth.tolist())))
    inputs, origin = task.encode(chosen, views=True), origins(chosen.flows)
    if late is not None:
        late_inputs = task.encode(late.views, views=True)
        late_origin = origins(late.views.flows)
    meter = ProgressMeter(sum(estimated_work(task, len(part.train)) for part in parts), show)
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for number, part in enumerate(parts, 1):
            words = f"held out {number} of {len(parts)}"
            watch = meter.watch(words, estimated_work(task, len(part.train)))
            learned, tested = inputs[part.train], inputs[part.test]
            apps_learned, groups = truth[part.train], origin[part.train]
            if late is not None:
                more = np.isin(late.of_row, part.train)
                learned = np.concatenate([learned, late_inputs[more]])
                apps_learned = np.concatenate([apps_learned, late.apps[more]])
                groups = np.concatenate([groups, late_origin[more]])
            run = run_trial(task, learned, apps_learned, tested, Path(cache), watch, groups)
            meter.finish()
            found.append(run.spread(every))
    rows = np.concatenate([part.test for part in parts])
    probabilities = np.concatenate(found)
    targets = np.searchsorted(np.array(every), truth[rows])
    groups = method_of(parts[0].method).interval_groups(chosen.flows)[rows]
    temperature = fit_temperature(probabilities, targets, FLOOR, groups)
    softened = calibrate(probabilities, temperature, FLOOR)
    confidence, right = softened.max(axis=1), softened.argmax(axis=1) == targets
    wanted = [precision] if isinstance(precision, int | float) else list(precision)
    promised, threshold = wanted[0], None
    for each in wanted:
        threshold = threshold_for_precision(confidence, right, each, groups)
        if threshold is not None:
            promised = each
            break
    accepted = 0.0 if threshold is None else float((confidence >= threshold).mean())
    return PrecisionPromise(
        promised, temperature, threshold, len(rows), len(np.unique(groups)), accepted
    )
