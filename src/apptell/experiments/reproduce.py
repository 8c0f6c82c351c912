"""Reproduces the paper's Section 4 on flows of apps and of background.

Section 4: a random 80/20 split, the network and the forest with all 37 features (Tables 4 to 6), the
threshold 0.85 (4.2), and the network once more with the class Other (4.3). The report adds what the paper
does not give: several seeds, intervals, a paired test, accuracy by packets seen, calibration, times.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.compute as pc

from apptell.dataset.selection import Selection
from apptell.dataset.splits import method_of, split
from apptell.errors import DatasetError
from apptell.evaluation import Evaluation, evaluate_predictions, mcnemar
from apptell.evaluation.claims import Claim, claims_of
from apptell.evaluation.paper import THRESHOLD
from apptell.experiments.progress_meter import ProgressMeter, estimated_work
from apptell.experiments.trial_cache import Trial, TrialResult, run_trial
from apptell.flows.schema import DECISION_SEGMENTS, FlowBatch
from apptell.learning.task import Task
from apptell.reports.page import write_page
from apptell.reports.reproduction import paper_sections
from apptell.verdicts.schema import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.experiments.schedule import Schedule
    from apptell.experiments.trial_cache import Trainer
    from apptell.reports.page import Section

MIN_FLOWS: Final = 5
"""Minimum number of flows of an app: one for testing, four for training."""


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One model with one seed."""

    seed: int
    evaluation: Evaluation
    right: NDArray[np.bool_]
    """Whether each tested flow was identified correctly, in the split's order."""
    train_s: float
    identify_s: float
    passes: int
    """Passes over the training flows; 1 of a forest."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """Section 4 on one dataset."""

    schedule: Schedule
    flows: dict[str, int]
    """Table 1."""
    n_background: int
    n_train: int
    """Training flows of Section 4.1."""
    cnn: tuple[SeedResult, ...]
    """By seed (Tables 4 and 6, Fig. 3)."""
    forest: tuple[SeedResult, ...]
    """By seed (Tables 5 and 6)."""
    with_other: tuple[SeedResult, ...]
    """The network with Other (Section 4.3); empty without background."""
    after: tuple[float, ...]
    """Mean accuracy of the network after only 1, 2, ... 5 payload packets."""
    p_values: tuple[float, ...]
    """McNemar's test of network against forest, by seed."""
    claims: tuple[Claim, ...]
    limits: tuple[float, float]
    """Flows a second that this machine's arithmetic allows the network: of training, of identification."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""

        def results(some: tuple[SeedResult, ...]) -> list[dict[str, Any]]:
            return [
                {
                    "seed": result.seed,
                    "train_s": result.train_s,
                    "identify_s": result.identify_s,
                    "passes": result.passes,
                    **result.evaluation.to_json(),
                }
                for result in some
            ]

        return {
            "schedule": {**asdict(self.schedule), "words": self.schedule.words},
            "table_1": self.flows,
            "background_flows": self.n_background,
            "train_flows": self.n_train,
            "cnn": results(self.cnn),
            "forest": results(self.forest),
            "with_other": results(self.with_other),
            "accuracy_after_packets": list(self.after),
            "mcnemar_p": list(self.p_values),
            "claims": [asdict(claim) for claim in self.claims],
            "arithmetic_limits_flows_per_s": list(self.limits),
        }

    @property
    def sections(self) -> list[Section]:
        """Every table and figure of Section 4, beside the paper's numbers."""
        results = {
            "network": self.cnn, "forest": self.forest, "network with Other": self.with_other,
        }  # fmt: skip
        n_train = {"network with Other": self._n_train_with_other}
        times = [
            (
                title,
                some[0].train_s,
                some[0].identify_s,
                n_train.get(title, self.n_train) * some[0].passes,
                some[0].evaluation.scores.n_flows,
            )
            for title, some in results.items()
            if some
        ]
        return paper_sections(
            schedule=self.schedule.words,
            flows=self.flows,
            n_background=self.n_background,
            cnn=[result.evaluation for result in self.cnn],
            forest=[result.evaluation for result in self.forest],
            with_other=[result.evaluation for result in self.with_other],
            after=self.after,
            p_values=self.p_values,
            claims=[(claim.words, claim.holds, claim.found) for claim in self.claims],
            times=times,
            limits=self.limits,
            seeds=self.schedule.seeds,
        )

    @property
    def _n_train_with_other(self) -> int:
        """Training flows of Section 4.3: all but the tested ones."""
        total = sum(self.flows.values()) + self.n_background
        return total - (self.with_other[0].evaluation.scores.n_flows if self.with_other else 0)

    def write_report(
        self, folder: Path, data: str, metrics: Mapping[str, Any], command: str = ""
    ) -> None:
        """Writes a report's folder: report.html, metrics.json, a CSV for each table.

        Args:
            folder: created if it is missing; files of an earlier report are replaced.
            data: name of the data.
            metrics: the content of ``metrics.json``.
            command: the command that creates the report again.

        Raises:
            OutputError: the folder cannot be written.
        """
        words = [
            (
                "Section 4 of Zhao and Chen, Smartphone Application Identification by Convolutional "
                f"Neural Network, on {data}. {self.schedule.words}."
            ),
            "The split is the paper's, random by flow, which is optimistic (see apptell compare).",
        ]
        title = "The paper's Section 4, reproduced"
        write_page(folder, title, words, self.sections, metrics, command)


def reproduce_paper(
    flows: FlowBatch | Selection,
    labels: Sequence[str],
    schedule: Schedule,
    *,
    cache: Path,
    trainer: Trainer | None = None,
    show: Callable[[float, str], None] | None = None,
) -> Reproduction:
    """Runs Section 4.

    Args:
        flows: flows of the apps and of background, of two or more payload packets each, with all
            column groups but audit; of a selection, payload is read and encoded a batch at a time.
        labels: the app of each, ``other`` for background.
        schedule: epochs, seeds, device.
        cache: the folder of kept results, from which an interrupted run continues.
        trainer: trains everything ahead; default: one training after the other.
        show: called with the share done, 0 to 1, and a description.

    Raises:
        DatasetError: fewer than two apps, or an app with too few flows.
        MissingError: the training libraries are not installed.
    """
    truth = np.asarray(labels, dtype=np.str_)
    counts = Counter(truth[truth != OTHER].tolist())
    if len(counts) < 2:
        raise DatasetError(f"{len(counts)} apps besides {OTHER!r}; at least two are needed")
    app, fewest = min(counts.items(), key=lambda item: (item[1], item[0]))
    if fewest < MIN_FLOWS:
        raise DatasetError(f"app {app} has {fewest} flows; at least {MIN_FLOWS} are needed")
    has_other = bool((truth == OTHER).any())
    alone = np.flatnonzero(truth != OTHER)
    section = _Section4(Selection.of(flows), truth, schedule, cache)
    everything = np.arange(len(truth)) if has_other else None
    if trainer is not None:
        trainer(section.trials(alone, everything), cache)
    section.meter = ProgressMeter(section.work(len(alone), len(truth) if has_other else 0), show)
    cnn, forest, other, after = [], [], [], []
    n_train = 0
    for seed in schedule.seeds:
        train, test = section.sides(alone, seed)
        n_train = len(train)
        by_packets, result = section.network(train, test, seed)
        cnn.append(result)
        after.append(by_packets)
        forest.append(section.forest(train, test, seed))
        if everything is not None:
            train, test = section.sides(everything, seed)
            other.append(section.network(train, test, seed)[1])
    return Reproduction(
        schedule,
        dict(sorted(counts.items())),
        int((truth == OTHER).sum()),
        n_train,
        tuple(cnn),
        tuple(forest),
        tuple(other),
        tuple(np.mean(after, axis=0).tolist()),
        tuple(mcnemar(a.right, b.right) for a, b in zip(cnn, forest, strict=True)),
        claims_of(
            [result.evaluation for result in cnn],
            [result.evaluation for result in forest],
            [result.evaluation for result in other],
        ),
        _limits(schedule.device, len(counts)),
    )


def _limits(device: str, n_apps: int) -> tuple[float, float]:
    from apptell.experiments.arithmetic import flow_limits
    from apptell.learning.network_training import used

    return flow_limits(*used(device), n_apps)


class _Section4:
    """Runs the trainings of Section 4."""

    meter: ProgressMeter

    def __init__(
        self, flows: Selection, truth: NDArray[np.str_], schedule: Schedule, cache: Path
    ) -> None:
        self.flows = flows
        self.truth = truth
        self.schedule = schedule
        self.cache = cache
        self.cnn = Task(
            "paper-cnn", schedule.epochs, device=schedule.device,
            hyperparameters=schedule.hyperparameters,
        )  # fmt: skip
        self.trees = Task("paper-rf", ports=True)
        self.images = self.cnn.encode(flows)
        self.statistics = self.trees.encode(flows)
        self.groups = method_of("paper").interval_groups(flows.flows)
        self.captures = flows.flows.numpy("capture")

    def work(self, n_alone: int, n_with_other: int) -> float:
        """The work of all seeds, as ``ProgressMeter`` counts it."""
        share = 0.8
        each = estimated_work(self.cnn, round(share * (n_alone + n_with_other)))
        each += estimated_work(self.trees, round(share * n_alone))
        return each * len(self.schedule.seeds)

    def sides(
        self, rows: NDArray[np.int64], seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The paper's random 80/20 split of some rows."""
        sides = split(self.flows.flows.take(rows), "paper", seed=seed)
        return rows[sides.train], rows[sides.test]

    def trials(
        self, alone: NDArray[np.int64], everything: NDArray[np.int64] | None
    ) -> Iterator[Trial]:
        """Every training: of flows of apps, and of all flows where there is background."""
        for seed in self.schedule.seeds:
            sides = self.sides(alone, seed)
            yield self._network_trial(*sides, seed)
            yield self._forest_trial(*sides, seed)
            if everything is not None:
                yield self._network_trial(*self.sides(everything, seed), seed)

    def _network_trial(self, train: NDArray[np.int64], test: NDArray[np.int64], seed: int) -> Trial:
        """The network is tested on whole flows, then on their first 1 to 4 payload packets."""
        tested = self.flows.take(test)
        steps = [
            self.cnn.encode(tested, partial(first_packets, n_packets=n))
            for n in range(1, DECISION_SEGMENTS)
        ]
        inputs = np.concatenate([self.images[test], *steps])
        return Trial(self.cnn.with_seed(seed), self.images[train], self.truth[train], inputs)

    def _forest_trial(self, train: NDArray[np.int64], test: NDArray[np.int64], seed: int) -> Trial:
        task, inputs = self.trees.with_seed(seed), self.statistics
        return Trial(task, inputs[train], self.truth[train], inputs[test])

    def network(
        self, train: NDArray[np.int64], test: NDArray[np.int64], seed: int
    ) -> tuple[list[float], SeedResult]:
        """The paper's network: accuracy after 1 to 5 payload packets, and all figures after 5."""
        n_apps = len(np.unique(self.truth[train]))
        words = f"paper-cnn on {n_apps} classes, seed {seed}"
        run = self._run(self._network_trial(train, test, seed), words)
        whole, *early = np.split(run.probabilities, DECISION_SEGMENTS)
        apps = np.array(run.apps)
        shares = [float((apps[p.argmax(axis=1)] == self.truth[test]).mean()) for p in early]
        # The truncated flows were named too: a fifth of the time is the whole flows'.
        seconds = run.identify_s / DECISION_SEGMENTS
        passes = run.passes or self.schedule.epochs
        result = self._result(seed, run.apps, whole, test, run.train_s, seconds, passes)
        return [*shares, result.evaluation.scores.accuracy], result

    def forest(self, train: NDArray[np.int64], test: NDArray[np.int64], seed: int) -> SeedResult:
        """The paper's forest with all 37 features."""
        run = self._run(self._forest_trial(train, test, seed), f"paper-rf, seed {seed}")
        return self._result(seed, run.apps, run.probabilities, test, run.train_s, run.identify_s)

    def _run(self, trial: Trial, words: str) -> TrialResult:
        watch = self.meter.watch(words, estimated_work(trial.task, len(trial.learned)))
        run = run_trial(
            trial.task, trial.learned, trial.apps, trial.tested, self.cache, watch, trial.groups
        )
        self.meter.finish(cached=run.cached)
        return run

    def _result(
        self,
        seed: int,
        apps: tuple[str, ...],
        probabilities: NDArray[np.float32],
        test: NDArray[np.int64],
        train_s: float,
        identify_s: float,
        passes: int = 1,
    ) -> SeedResult:
        truth = self.truth[test]
        result = evaluate_predictions(
            truth.tolist(),
            probabilities,
            apps,
            THRESHOLD,
            self.groups[test],
            captures=self.captures[test],
            seed=seed,
        )
        right = np.array(apps)[probabilities.argmax(axis=1)] == truth
        return SeedResult(seed, result, right, train_s, identify_s, passes)


def first_packets(flows: FlowBatch, n_packets: int) -> FlowBatch:
    """The flows as they were after their first payload packets, with the columns for images cut.

    Args:
        flows: with the group segments.
        n_packets: number of payload packets to keep, 1 or more.
    """
    names = ("segment_length", "segment_to_server", "segment_time_ns", "segment_bytes")
    cut = {
        name: pc.list_slice(flows.column(name), 0, n_packets, return_fixed_size_list=False)
        for name in names
    }
    return flows.with_columns(**cut)
