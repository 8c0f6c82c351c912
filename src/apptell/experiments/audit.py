"""Finds shortcuts that a model could learn from a dataset, in order of harm.

For each field that does not describe an app's behaviour, a probe is trained on only that field and tested on
the other side: a table of its values, and for numbers also a tree. Its gain over always naming the most
frequent app is what a model that sees the field could gain. The kept audit columns (TTL, sequence number,
checksum) come from packets and are never an input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.store import Dataset
from apptell.errors import DatasetError, needs_extra
from apptell.evaluation.leaks import (
    Finding,
    fingerprints,
    near_duplicates,
    shared_share,
)
from apptell.experiments.evaluate import hash_of, name_of
from apptell.experiments.labelled import apps_of, labelled_flows, open_flows, split_of
from apptell.flows.schema import GROUPS
from apptell.learning.task import NEIGHBOUR, Task
from apptell.reports.page import Section, write_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.dataset.splits import Split
    from apptell.experiments.labelled import Flows
    from apptell.flows.schema import FlowBatch

LIMIT: Final = 0.05
"""Gain above which a field is a leak (default)."""
HEAD: Final = ("field", "leak", "gain", "accuracy", "shared", "by chance", "what to do")
"""Columns of the table of findings."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit of one split.

    Example:
        >>> found = apptell.audit("dataset/", "source")
        >>> found.n_train, found.n_test, found.findings[0].field != ""
        (32, 8, True)
    """

    findings: tuple[Finding, ...]
    """Every probed field, the most harmful first."""
    limit: float
    """Gain above which a field is a leak."""
    n_train: int
    n_test: int
    majority: float
    """Share of the test side that its most frequent app has."""
    exact_duplicates: float
    """Share of tested flows whose bytes are on the training side too."""
    near_duplicates: float
    """Share of tested flows with nearly the same bytes on the training side."""
    nearest_neighbour: float
    """Accuracy of the nearest training flow by the statistics without ports, as a baseline without
    learning.
    """
    permuted: float
    """Mean accuracy of a forest on the statistics that learned permuted labels."""
    permuted_leaks: bool
    """Whether permuted labels gave more than chance, which means that the procedure itself is faulty."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The dataset, split and seed of the audit."""

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The fields that are leaks."""
        return tuple(finding for finding in self.findings if finding.is_leak)

    @property
    def is_clean(self) -> bool:
        """Whether nothing above the limit was found."""
        return not self.leaks and not self.permuted_leaks

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.facts,
            "clean": self.is_clean,
            "limit": self.limit,
            "train_flows": self.n_train,
            "test_flows": self.n_test,
            "majority": self.majority,
            "leaks": [finding.field for finding in self.leaks],
            "findings": [finding.to_json() for finding in self.findings],
            "exact_duplicates": self.exact_duplicates,
            "near_duplicates": self.near_duplicates,
            "nearest_neighbour_accuracy": self.nearest_neighbour,
            "permuted_labels_accuracy": self.permuted,
            "permuted_labels_leak": self.permuted_leaks,
        }

    @property
    def sentences(self) -> list[str]:
        """The findings that do not concern fields, as sentences."""
        chance = "more than chance" if self.permuted_leaks else "no more than chance"
        return [
            (
                f"{self.n_train:,} flows to learn from, {self.n_test:,} to test on; the most "
                f"frequent app is {self.majority:.1%} of these."
            ),
            (
                f"Duplicates: {self.exact_duplicates:.1%} of the tested flows have the same bytes in "
                f"training, {self.near_duplicates:.1%} nearly the same."
            ),
            f"A nearest neighbour names {self.nearest_neighbour:.1%} of the tested flows correctly.",
            f"A forest that learned permuted labels names {self.permuted:.1%}: {chance}.",
        ]

    @property
    def rows(self) -> list[tuple[str | float, ...]]:
        """A row for each field, with the columns ``HEAD``."""
        return [
            (
                finding.field,
                "leak" if finding.is_leak else "no",
                finding.gain,
                finding.accuracy,
                finding.shared,
                f"{finding.p_value:.1g}",
                finding.advice if finding.is_leak else "",
            )
            for finding in self.findings
        ]

    def write_report(self, folder: str | Path, *, command: str = "") -> None:
        """Writes a report's folder: report.html, metrics.json, findings.csv.

        Args:
            folder: created if it is missing; files of an earlier report are replaced.
            command: the command that creates the report again.

        Raises:
            OutputError: the folder cannot be written.
        """
        section = Section(
            "findings",
            "Shortcuts that a model could learn",
            "Gain: how much more often a probe of the field names the app of a tested flow than always "
            "naming the most frequent app. Shared: tested flows whose value is in training too.",
            HEAD,
            self.rows,
        )
        title = f"Leaks in {self.facts['dataset']}, split {self.facts['split']}"
        write_page(Path(folder), title, self.sentences, [section], self.to_json(), command)


def audit(
    dataset: Flows,
    split: str | Path = "paper",
    *,
    limit: float = LIMIT,
    apps: Sequence[str] | None = None,
    seed: int = 0,
) -> Audit:
    """Finds the shortcuts that a model could learn across a split, in order of harm.

    Args:
        dataset: a dataset or its folder, or some flows of one with all column groups.
        split: a split by name, or a file that holds a split.
        limit: gain in accuracy above which a field is a leak.
        apps: only flows of these apps (default: all).
        seed: seed of a split by name, of the probes and of the permutations.

    Raises:
        DatasetError: a side of the split is empty, or the training side has only one app.
        UsageError: there is no such split or app.
        MissingError: the training libraries are not installed.

    Example:
        >>> found = apptell.audit("dataset/", "source")
        >>> found.is_clean, [leak.field for leak in found.leaks]
        (True, [])
    """
    opened = open_flows(dataset)
    whole = opened.read(tuple(GROUPS)) if isinstance(opened, Dataset) else opened
    flows = labelled_flows(whole, apps=apps).flows
    sides = split_of(flows, split, seed)
    found = audit_split(flows, apps_of(flows), sides, limit=limit, seed=seed)
    facts = {"dataset": name_of(opened), "dataset_hash": hash_of(opened)}
    return replace(found, facts={**facts, "split": sides.method, "seed": seed})


def audit_split(
    flows: FlowBatch, apps: Sequence[str], split: Split, *, limit: float = LIMIT, seed: int = 0
) -> Audit:
    """Looks for leaks across one split.

    Args:
        flows: n flows in the dataset's own order, with all groups, audit included.
        apps: the true app of each.
        split: rows to learn from and to test on.
        limit: gain above which a field is a leak.
        seed: seed of the probes and permutations.

    Raises:
        DatasetError: a side is empty, or the training side has only one app.
    """
    truth = np.asarray(apps, dtype=np.str_)
    train, test = split.train, split.test
    if not len(test) or len(np.unique(truth[train])) < 2:
        raise DatasetError(
            "audit: the test side needs flows, and the training side at least two apps"
        )
    with needs_extra("train", "an audit"):
        from apptell.experiments import probes
    content, shape = fingerprints(flows)
    near = near_duplicates(flows, shape, train, test)
    findings = [
        probes.probe(field, columns, truth, split, limit, seed)
        for field, columns in probes.fields_of(flows).items()
        if any(value is not None for column in columns for value in column.tolist())
    ]
    findings.append(probes.duplicates(near, truth, split, limit))
    inputs = Task(NEIGHBOUR).encode(flows)
    permuted, permuted_leaks = probes.permuted_accuracy(inputs, truth, split, seed)
    return Audit(
        tuple(sorted(findings, key=lambda finding: (not finding.is_leak, -finding.gain))),
        limit,
        len(train),
        len(test),
        float(np.unique(truth[test], return_counts=True)[1].max() / len(test)),
        shared_share(content[train], content[test]),
        float((near >= 0).mean()),
        probes.nearest_accuracy(inputs, truth, split),
        permuted,
        permuted_leaks,
    )
