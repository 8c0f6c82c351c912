"""Prints an evaluation on a terminal: a table of apps and their means."""

from typing import TYPE_CHECKING, Any

from apptell.cli.screen import print_table

if TYPE_CHECKING:
    from rich.console import Console

    from apptell.evaluation import Evaluation
    from apptell.evaluation.open_set import OpenSetFigures


def print_evaluation(
    result: "Evaluation", console: "Console", open_set: "OpenSetFigures | None" = None
) -> None:
    """Prints the per-app table and the means of an evaluation, and how unlearned apps were recognised."""
    from rich.table import Table

    scores, accepted = result.scores, result.at_threshold
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("app")
    limit = f"{result.threshold:g}"
    for title in (
        "flows",
        "precision",
        "recall",
        "F",
        f"at {limit}: flows",
        "precision",
        "recall",
        "F",
    ):
        table.add_column(title, justify="right")

    def shares(*values: float) -> list[str]:
        return [f"{value:.1%}" for value in values]

    for i, app in enumerate(scores.apps):
        table.add_row(
            app,
            f"{scores.confusion[i].sum():,}",
            *shares(scores.precision[i], scores.recall[i], scores.f1[i]),
            f"{accepted.confusion[i].sum():,}",
            *shares(accepted.precision[i], accepted.recall[i], accepted.f1[i]),
        )
    table.add_row(
        "mean",
        f"{scores.n_flows:,}",
        *shares(scores.macro_precision, scores.macro_recall, scores.macro_f1),
        f"{accepted.n_flows:,}",
        *shares(accepted.macro_precision, accepted.macro_recall, accepted.macro_f1),
        style="bold",
    )
    print_table(table, console)
    console.print(
        f"accuracy {scores.accuracy:.1%}; at threshold {limit}: {accepted.accuracy:.1%} of the "
        f"accepted flows correct, coverage {result.coverage:.1%}"
    )
    if open_set is not None:
        console.print(open_set.sentence)


def print_evidence(
    figures: "dict[str, Any]", console: "Console", title: str = "Evidence, in the order asked"
) -> None:
    """Prints what each kind of evidence is worth, from ``EvidenceFigures.to_json``."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    table.add_column("evidence")
    for name in ("flows", "share of all", "accuracy"):
        table.add_column(name, justify="right")
    for kind, each in figures["kinds"].items():
        table.add_row(kind, f"{each['flows']:,}", f"{each['share']:.1%}", f"{each['accuracy']:.1%}")
    n_named = sum(each["flows"] for each in figures["kinds"].values())
    shares = f"{figures['coverage']:.1%}", f"{figures['accuracy']:.1%}"
    table.add_row("all", f"{n_named:,}", *shares, style="bold")
    print_table(table, console)
