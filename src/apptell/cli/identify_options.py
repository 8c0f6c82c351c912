"""Checks options of ``identify`` for a dataset in place of captures, and for probabilities in records."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.dataset import Dataset
    from apptell.models import Model
    from apptell.records.forms import Form

_OF_CAPTURES = {
    "follow": "--follow",
    "out": "--out",
    "transport": "--transport",
    "active_timeout": "--active-timeout",
    "local": "--local",
    "all_flows": "--all-flows",
    "extract": "--extract",
    "explain": "--explain",
}
"""Options that only captures have, by their parameters; their defaults are not true."""


def find_stored(typed: dict[str, Any]) -> "tuple[Dataset | None, str | None]":
    """The dataset that stands in place of captures, if one does, and the kinds of evidence to ask for.

    Args:
        typed: the options of the verb, by parameter.

    Raises:
        DatasetError: the dataset is damaged.
        UsageError: an option or a kind of evidence that a dataset does not have.
    """
    from apptell.errors import UsageError
    from apptell.verdicts import find_dataset, stored_evidence

    stored, kinds = find_dataset(typed["captures"]), typed["evidence"]
    if stored is None:
        return None, kinds
    used = [option for name, option in _OF_CAPTURES.items() if typed[name]]
    used += ["--flows"] * (typed["mode"] != "clean")
    used += ["--idle-timeout"] * (typed["idle_timeout"] != 90)
    if used:
        raise UsageError(f"{used[0]} reads captures, and {stored.path} is a dataset")
    asked = stored_evidence(kinds, typed["model"], typed["context"])
    return stored, ",".join(sorted(asked.kinds))


def probability_apps(form: "Form", model: "Model | None", *, is_other: bool) -> "Sequence[str]":
    """The classes whose probabilities records have.

    Args:
        form: of the output.
        model: that is asked; None for only evidence.
        is_other: whether something other than the records of ``identify`` is written.

    Raises:
        UsageError: there is no model, or no room for them in the output.
    """
    from apptell.errors import UsageError

    if is_other:
        raise UsageError("--probabilities is not for --out or --summary")
    if model is None:
        raise UsageError("--probabilities are those of a model: give one with -m")
    if form.has_own_fields or form.name == "table":
        raise UsageError(
            f"--probabilities: the form {form.name} has no columns for them; use jsonl, csv or parquet"
        )
    return model.apps
