"""Writes the report of a comparison: the overview, and what each model's page has in addition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from apptell.reports.html import ReportText
from apptell.reports.page import Cell, Section, write_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.evaluation import Evaluation
    from apptell.evaluation.pooled import Measured
    from apptell.evaluation.promises import Rule

MODELS_HEAD: Final = (
    "model", "names", "flows", "accuracy", "95 %", "macro-F1", "95 %", "macro-F1 by seed",
    "right at threshold", "coverage", "calibration error", "by provider: accuracy", "macro-F1",
    "without other: accuracy", "macro-F1", "training, s", "flows per s",
)  # fmt: skip
_RULES_HEAD: Final = ("promised", "right", "right, groups alike", "coverage", "thresholds by fold")
_SEED: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "accuracy_at_threshold": "right at threshold",
    "coverage": "coverage",
    "expected_calibration_error": "calibration error",
    "by_provider_accuracy": "by provider: accuracy",
    "by_provider_macro_f1": "by provider: macro-F1",
    "without_other_accuracy": "without other: accuracy",
    "without_other_macro_f1": "without other: macro-F1",
}
"""Figures of one seed, and what they are called."""


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One model of a comparison."""

    model: str
    names: str
    """Server names ``on`` or ``masked``."""
    measured: Measured
    n_flows: int
    """Flows that each seed tested."""
    train_s: float
    """Of one seed."""
    identify_s: float
    """Of one seed."""

    @property
    def place(self) -> str:
        """The folder of its page."""
        return f"{self.model}-names-{self.names}"

    @property
    def row(self) -> list[Cell]:
        """Its figures, as ``MODELS_HEAD`` calls them."""
        result, measured = self.measured.result, self.measured
        seeds = [each["macro_f1"] for each in measured.by_seed]
        return [
            self.model,
            self.names,
            self.n_flows,
            result.scores.accuracy,
            result.intervals.get("accuracy"),
            result.scores.macro_f1,
            result.intervals.get("macro_f1"),
            (min(seeds), max(seeds)) if len(seeds) > 1 else None,
            result.at_threshold.accuracy,
            result.coverage,
            result.calibration_error,
            *_two(measured.by_provider),
            *_two(measured.without_other),
            f"{self.train_s:.1f}",
            round(self.n_flows / self.identify_s) if self.identify_s else None,
        ]


def models_json(models: Sequence[ComparedModel]) -> list[dict[str, Any]]:
    """The figures of every model as plain numbers."""
    return [
        {
            "model": model.model,
            "names": model.names,
            "tested_flows": model.n_flows,
            "train_s": model.train_s,
            "identify_s": model.identify_s,
            **model.measured.result.to_json(),
            **model.measured.to_json(),
        }
        for model in models
    ]


def write_overview(
    folder: Path,
    models: Sequence[ComparedModel],
    facts: Mapping[str, Any],
    command: str = "",
    unlearned: Section | None = None,
) -> None:
    """Writes the overview of a comparison: report.html, metrics.json, a CSV for each table.

    Args:
        folder: created if it is missing.
        models: the figures of each.
        facts: what was compared on what, as ``Comparison.facts`` has it.
        command: the command that creates the report again.
        unlearned: a table of models that did not learn some apps.

    Raises:
        OutputError: the folder cannot be written.
    """
    last = facts["seed"] + facts["seeds"] - 1
    seeds = f"seed {last}" if facts["seeds"] == 1 else f"seeds {facts['seed']} to {last}"
    words = [
        (
            f"{_data(facts)}, {seeds}; models that learn in passes had {facts['epochs']} of the "
            "paper's 100 epochs. Intervals hold 95 % of 1,000 drawings of whole groups."
        ),
        "Without other: the flows of background are left out of the test, not of the training.",
    ]
    if "labels_warning" in facts:
        words.insert(0, facts["labels_warning"])
    if facts["optimistic"]:
        words.append("This split is random by flow, which is optimistic for every model.")
    title = f"Models compared on {facts['dataset']}"
    metrics = {**facts, "models": models_json(models)}
    if unlearned is not None:
        rows = [dict(zip(unlearned.head, row, strict=True)) for row in unlearned.rows]
        metrics["unlearned"] = rows
    sections = [*overview(models), *([] if unlearned is None else [unlearned])]
    write_page(folder, title, words, sections, metrics, command)


def _data(facts: Mapping[str, Any]) -> str:
    if facts.get("test_dataset"):
        return f"Learned from {facts['dataset']} and tested on {facts['test_dataset']}"
    return f"{facts['dataset']}, split {facts['split']}, {facts['folds']} folds"


def model_text(
    model: ComparedModel,
    facts: Mapping[str, Any],
    command: str = "",
    examples: Sequence[tuple[str, NDArray[Any]]] = (),
) -> ReportText:
    """The text of one model's page."""
    seeds = facts["seeds"]
    by_seeds = f" by each of {seeds} seeds; all figures count verdicts of all seeds"
    test = facts.get("test_dataset")
    learned = (
        f"{model.model} learned from {facts['dataset']} and was tested on {test}"
        if test
        else f"{model.model} learned and was tested on {facts['dataset']} in {facts['folds']} folds "
        f"of the split {facts['split']}"
    )
    return ReportText(
        title=f"{model.model}, names {model.names}, split {facts['split']}",
        paragraphs=[
            *([facts["labels_warning"]] if "labels_warning" in facts else []),
            (
                f"{learned}; each of the {model.n_flows:,} flows was tested once"
                f"{by_seeds * (seeds > 1)}, by a model that saw nothing of its group."
            ),
            (
                "Server names, HTTP hosts and the names in certificates were overwritten with zeros."
                if model.names == "masked"
                else "Server names were left as they were."
            ),
            *(["A random split is optimistic for every model."] if facts["optimistic"] else []),
        ],
        command=command,
        examples=examples,
        sections=own_page(model.measured),
    )


def overview(models: Sequence[ComparedModel]) -> list[Section]:
    """The tables of the overview."""
    first = models[0].measured
    columns = [name for name in _SEED if name in first.by_seed[0]]
    sections = [
        Section(
            "models", "Models side by side",
            "Pooled over folds and seeds. Each model has a page of its own, below.",
            MODELS_HEAD, [model.row for model in models],
        ),
        Section(
            "seeds", "By seed",
            "Each seed has its own folds, where the protocol leaves a choice, and its own training.",
            ("model", "names", "seed", *(_SEED[name] for name in columns)),
            [
                (model.model, model.names, str(each["seed"]), *(each[name] for name in columns))
                for model in models
                for each in model.measured.by_seed
            ],
        ),
    ]  # fmt: skip
    kept = [model for model in models if model.measured.promise is not None]
    if kept:
        sections.append(
            Section(
                "promises", "What was promised, and what was got", _promise_words(),
                ("model", "names", *_RULES_HEAD),
                [
                    (model.model, model.names, *_rule(rule))
                    for model in kept
                    if model.measured.promise
                    for rule in model.measured.promise.rules
                ],
            )
        )  # fmt: skip
    sections.append(
        Section(
            "pages", "Pages", "", ("page", "model", "names"),
            [(model.place, model.model, model.names) for model in models],
            link={model.place: f"{model.place}/report.html" for model in models},
        )
    )  # fmt: skip
    return sections


def own_page(measured: Measured) -> list[Section]:
    """The tables of one model's page, beside those of every evaluation."""
    columns = [name for name in _SEED if name in measured.by_seed[0]]
    sections = [
        Section(
            "hardest", "Hardest confusions",
            "Verdicts of all seeds. The examples are the ones it was surest of.",
            ("true", "given", "verdicts", "such as"),
            [(c.true, c.given, c.flows, ", ".join(c.examples)) for c in measured.hardest],
        ),
        Section(
            "seeds", "By seed", "",
            ("seed", *(_SEED[name] for name in columns)),
            [(str(each["seed"]), *(each[name] for name in columns)) for each in measured.by_seed],
        ),
    ]  # fmt: skip
    if (kept := measured.promise) is not None:
        words = (
            f"{_promise_words()} Calibration error {kept.error_before:.3f} as the probabilities "
            f"came, {kept.error_after:.3f} after temperature scaling."
        )
        sections.append(
            Section(
                "promises", "What was promised, and what was got", words, _RULES_HEAD,
                [_rule(rule) for rule in kept.rules],
            )
        )  # fmt: skip
    for name, title, result in (
        ("by_provider", "By provider: apps that share their servers, as one", measured.by_provider),
        ("without_other", "Without other: background left out of the test", measured.without_other),
    ):
        if result is not None:
            sections.append(_table(name, title, result))
    return sections


def _promise_words() -> str:
    return (
        "Of the first seed. Temperature and threshold were chosen on groups held out of each fold's "
        "training side; nothing of its test side was seen. The promise counts every group alike. A "
        "fold whose held-out groups cannot promise that much accepts nothing. The fixed threshold "
        "is the paper's, and promises nothing."
    )


def _rule(rule: Rule) -> tuple[Cell, ...]:
    limits = ", ".join("none" if each is None else f"{each:.3f}" for each in rule.thresholds)
    what = "nothing (fixed)" if rule.promised is None else f"{rule.promised:.0%}"
    return (what, rule.got, rule.got_by_group, rule.coverage, limits)


def _table(name: str, title: str, result: Evaluation) -> Section:
    scores = result.scores
    rows: list[Sequence[Any]] = [
        (app, int(scores.confusion[i].sum()), float(scores.precision[i]), float(scores.recall[i]),
         float(scores.f1[i]))
        for i, app in enumerate(scores.apps)
    ]  # fmt: skip
    rows.append(
        ("mean", scores.n_flows, scores.macro_precision, scores.macro_recall, scores.macro_f1)
    )
    words = (
        f"Accuracy {scores.accuracy:.2%}; at threshold {result.threshold:g} "
        f"{result.at_threshold.accuracy:.2%} right at coverage {result.coverage:.2%}."
    )
    return Section(name, title, words, ("app", "verdicts", "precision", "recall", "F"), rows)


def _two(result: Evaluation | None) -> tuple[float | None, float | None]:
    return (None, None) if result is None else (result.scores.accuracy, result.scores.macro_f1)
