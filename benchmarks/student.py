r"""How well a model that learned from names alone decides flows that show none: figures as JSON.

    OMP_NUM_THREADS=1 nice python benchmarks/student.py CAPTURES -o RESULTS [--models fast,fusion] [--seeds 3]

CAPTURES has the folders ``messengers`` (``<source>/<app>.pcap.gz``: every flow of a capture is the app's) and
``android/ma3`` (``<version>/*.pcap``). RESULTS keeps the datasets and every training: a run that was
interrupted goes on. ``student.json`` there has the figures.

*Messengers.* Sources are divided into five folds. The captures of the training side, and no others, are
labelled by names (``--labels names``: name, DNS, address, range and block). A model learns from the flows
labelled as one of the five providers (Teams and Skype are one) with names masked, and is tested on the
flows of the other sources, whose truth is the capture's name: flows that show a name (a server name or an
HTTP host), and flows that show none. Beside it stand a model that learned from true labels, and students
without blocks, without late views, and with labels by name alone. How each way of learning does on inner
folds is measured by labels from names, on late views of held-out sources: settings may be chosen by that
alone.

*Android.* The apps of one version are learned by name labels, and remainders of connections of the other
version (late views, which show no name) are named at coverage 1; the truth is the name at the connection's
beginning.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset import Dataset
from apptell.dataset.classes import OTHER, Classes
from apptell.dataset.groups import origins
from apptell.experiments.labelled import labelled_flows, late_views_of
from apptell.experiments.trial_cache import run_trial
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.learning.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from apptell.dataset import Selection

FIVE: Final = ("discord", "signal", "teams", "whatsapp", "zoom")
SAME: Final = {"skype": "teams"}
FOLDS: Final = 5
EPOCHS: Final = 100
ROUNDS: Final = 1000
"""Draws of the bootstrap."""
NOTHING: Final = ""


@dataclass(frozen=True)
class Rows:
    """Flows or late views, with the inputs of a model."""

    inputs: NDArray[np.uint16]
    app: NDArray[np.str_]
    source: NDArray[np.str_]
    capture: NDArray[np.str_]

    def take(self, keep: NDArray[np.bool_]) -> Rows:
        """Some of them."""
        return Rows(self.inputs[keep], self.app[keep], self.source[keep], self.capture[keep])

    @staticmethod
    def join(parts: list[Rows]) -> Rows:
        """All of several."""
        return Rows(
            np.concatenate([part.inputs for part in parts]),
            np.concatenate([part.app for part in parts]),
            np.concatenate([part.source for part in parts]),
            np.concatenate([part.capture for part in parts]),
        )


def provider(labels: Any) -> NDArray[np.str_]:
    """The labels, apps of one provider as one."""
    return np.array([SAME.get(label, label) for label in labels], dtype=np.str_)


def build(captures: list[Path], folder: Path, labels: str) -> Dataset:
    """The dataset in a folder, built where it is not there."""
    if (folder / "dataset.json").is_file():
        return Dataset.open(folder)
    flows = FlowOptions(transports=(6, 17), groups=tuple(GROUPS))
    return Dataset.build(captures, folder, labels=labels, views="late", flows=flows)


def rows_of(data: Dataset, task: Task) -> tuple[Rows, Rows, Selection]:
    """The flows and the late views of a dataset, and the flows with their columns."""
    chosen = labelled_flows(data)
    late = late_views_of(data, chosen, Classes())
    flows, views = (
        Rows(
            task.encode(each, views=True),
            provider(Classes().of(each.flows)),
            origins(each.flows),
            np.array(each.flows.column("capture").to_pylist(), dtype=np.str_),
        )
        for each in (chosen, late.views)
    )
    return flows, views, chosen


def keys(flows: Any) -> list[tuple[Any, ...]]:
    """What tells a flow, in whichever dataset it is."""
    names = ("connection_id", "part")
    columns = (flows.column(name).to_pylist() for name in names)
    return list(zip(origins(flows).tolist(), *columns, strict=True))


def shows_name(flows: Any) -> NDArray[np.bool_]:
    """Whether each flow has a server name or an HTTP host."""
    columns = (flows.column(name).is_valid() for name in ("server_name", "http_host"))
    first, second = (np.asarray(column.to_numpy(zero_copy_only=False)) for column in columns)
    return np.asarray(first | second, dtype=bool)


def fit(task: Task, learned: Rows, tested: Rows, cache: Path) -> NDArray[np.str_]:
    """The app that a model names for each tested flow, at coverage 1."""
    run = run_trial(task, learned.inputs, learned.app, tested.inputs, cache, None, learned.source)
    named: NDArray[np.str_] = np.array(run.apps, dtype=np.str_)[run.probabilities.argmax(axis=1)]
    return named


def figure(right: NDArray[np.bool_], group: NDArray[np.str_]) -> dict[str, Any]:
    """Accuracy with a 95 % interval from a bootstrap over groups."""
    if not len(right):
        return {"flows": 0}
    _, number = np.unique(group, return_inverse=True)
    n = np.bincount(number)
    hits = np.bincount(number, right)
    drawn = np.random.default_rng(0).integers(len(n), size=(ROUNDS, len(n)))
    low, high = np.quantile(hits[drawn].sum(axis=1) / n[drawn].sum(axis=1), [0.025, 0.975])
    return {
        "accuracy": round(float(right.mean()), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "flows": len(right),
        "groups": len(n),
    }


WAYS: Final = ("true labels", "student", "without blocks", "without late views", "names alone")


class Messengers:
    """Students of the messengers."""

    def __init__(self, folder: Path, results: Path, model: str) -> None:
        self.task = Task(model, EPOCHS, names="masked")
        self.folder, self.results = folder, results
        truth = build([folder], results / "messengers-truth", "folders")
        self.flows, self.views, self.chosen = rows_of(truth, self.task)
        self.place = {key: row for row, key in enumerate(keys(self.chosen.flows))}
        self.shows = shows_name(self.chosen.flows)
        self.is_tested = np.isin(self.flows.app, FIVE)
        self.sources = np.unique(self.flows.source[self.is_tested])
        self._labelled: dict[str, tuple[Rows, Rows, NDArray[np.str_]]] = {}
        """Of the training side that was asked for last."""

    def folds(self, seed: int) -> list[NDArray[np.str_]]:
        """The sources of each fold."""
        order = np.random.default_rng(seed).permutation(self.sources)
        return [order[fold::FOLDS] for fold in range(FOLDS)]

    def labels(self, tested: NDArray[np.str_], name: str) -> tuple[Rows, Rows, NDArray[np.str_]]:
        """Flows and late views of the other sources as names label them, and each flow's label source."""
        if name not in self._labelled:
            captures = self.results / f"{name}-captures"
            for path in sorted(self.folder.rglob("*.pcap*")):
                source = path.relative_to(self.folder).parts[0]
                link = captures / path.relative_to(self.folder)
                if source not in tested and not link.exists():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(path.resolve())
            flows, views, chosen = rows_of(
                build([captures], self.results / name, "names"), self.task
            )
            sources = np.array(chosen.flows.column("label_source").to_pylist())
            self._labelled = {name: (flows, views, sources)}
        return self._labelled[name]

    def learned(self, way: str, tested: NDArray[np.str_], name: str) -> Rows:
        """What a model learns from."""
        if way == "true labels":
            return self.flows.take(self.is_tested & ~np.isin(self.flows.source, tested))
        flows, views, sources = self.labels(tested, name)
        keep = np.isin(flows.app, FIVE)
        if way == "without blocks":
            keep &= sources != "block"
        if way == "names alone":
            keep &= sources == "name"
        if way in ("without late views", "names alone"):
            return flows.take(keep)
        return Rows.join([flows.take(keep), views.take(np.isin(views.app, FIVE))])

    def measure(self, seed: int) -> dict[str, Any]:
        """The figures of one seed."""
        guess = {way: np.full(len(self.flows.app), NOTHING, dtype="U64") for way in WAYS}
        task = self.task.with_seed(seed)
        sources: Counter[str] = Counter()
        for number, tested in enumerate(self.folds(seed)):
            name = f"messengers-names-{seed}-{number}"
            row = self.is_tested & np.isin(self.flows.source, tested)
            for way in WAYS:
                learned = self.learned(way, tested, name)
                guess[way][row] = fit(task, learned, self.flows.take(row), self.results / "cache")
            sources += self.label_quality(name)
        found: dict[str, Any] = {"labels_by_source_right_and_wrong": dict(sorted(sources.items()))}
        for way in WAYS:
            right = guess[way] == self.flows.app
            found[way] = {
                kind: figure(right[rows], self.flows.source[rows])
                for kind, rows in (
                    ("shows no name", self.is_tested & ~self.shows),
                    ("shows a name", self.is_tested & self.shows),
                    ("all", self.is_tested),
                )
            }
        rows = self.is_tested & ~self.shows
        pairs = Counter(zip(self.flows.app[rows], guess["student"][rows], strict=True))
        found["errors_of_the_student_without_a_name"] = {
            f"{true} as {said}": n for (true, said), n in pairs.most_common() if true != said
        }
        return found

    def label_quality(self, name: str) -> Counter[str]:
        """Of flows of the five providers, how many labels are right, by label source."""
        chosen = labelled_flows(Dataset.open(self.results / name))
        said = provider(chosen.flows.column("label").to_pylist())
        by = chosen.flows.column("label_source").to_pylist()
        found: Counter[str] = Counter()
        for key, label, source in zip(keys(chosen.flows), said, by, strict=True):
            row = self.place.get(key)
            if row is not None and (label in FIVE):
                is_right = self.flows.app[row] == label
                found[f"{source} {'right' if is_right else 'wrong'}"] += 1
        return found

    def inner(self, seed: int) -> dict[str, float]:
        """Accuracy of each way on late views of held-out sources of the first training side, by name labels."""
        outer = self.folds(seed)[0]
        inside = self.folds(seed)[1]
        both = np.concatenate([outer, inside])
        _, views, _ = self.labels(outer, f"messengers-names-{seed}-0")
        rows = views.take(np.isin(views.source, inside) & np.isin(views.app, FIVE))
        found = {}
        for way in WAYS[1:]:
            learned = self.learned(way, both, f"messengers-names-{seed}-inner")
            right = (
                fit(self.task.with_seed(seed), learned, rows, self.results / "cache") == rows.app
            )
            found[way] = round(float(right.mean()), 4)
        return {"views": len(rows.app), **found}


def android(folder: Path, results: Path, model: str) -> dict[str, Any]:
    """Remainders of connections of one version, by a model of the other."""
    task = Task(model, EPOCHS, names="masked")
    flows, views, _ = rows_of(build([folder], results / "android-names", "names"), task)
    found: dict[str, Any] = {}
    for kind, keeps in (
        ("apps", lambda app: app != OTHER),
        ("apps and other", lambda app: app != NOTHING),
    ):
        for way, uses_views in (("student", True), ("without late views", False)):
            found.setdefault(kind, {})[way] = _versions(
                flows, views, task, results, keeps, uses_views=uses_views
            )
    return found


def _versions(
    flows: Rows,
    views: Rows,
    task: Task,
    results: Path,
    keeps: Callable[[NDArray[np.str_]], NDArray[np.bool_]],
    *,
    uses_views: bool,
) -> dict[str, Any]:
    right, captures, pairs = [], [], Counter[str]()
    for tested in np.unique(flows.source):
        learned = flows.take((flows.source != tested) & keeps(flows.app))
        if uses_views:
            learned = Rows.join([learned, views.take((views.source != tested) & keeps(views.app))])
        rows = views.take((views.source == tested) & keeps(views.app))
        said = fit(task, learned, rows, results / "cache")
        right.append(said == rows.app)
        captures.append(rows.capture)
        pairs.update(
            f"{true} as {named}"
            for true, named in zip(rows.app, said, strict=True)
            if true != named
        )
    return {
        **figure(np.concatenate(right), np.concatenate(captures)),
        "each version": [round(float(each.mean()), 4) for each in right],
        "errors": dict(pairs.most_common()),
    }


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--models", default="fast,fusion")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for model in given.models.split(","):
        messengers = Messengers(given.captures / "messengers", given.output, model)
        found[model] = {
            "messengers": {f"seed {seed}": messengers.measure(seed) for seed in range(given.seeds)},
            "inner folds": messengers.inner(0),
            "android": android(given.captures / "android" / "ma3", given.output, model),
        }
        text = json.dumps(found, indent=1) + "\n"
        (given.output / "student.json").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
