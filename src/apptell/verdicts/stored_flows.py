"""Flows of a labelled dataset as input of identification, in place of captures.

A dataset stores the names of flows and, where they were known, the names that were asked in DNS. It does not
store the packets between flows, so evidence from other flows (``address``, ``context``) is not available.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute as pc

from apptell.encoding import encoding_of
from apptell.errors import ModelError, UsageError
from apptell.verdicts.evidence import EvidenceOptions
from apptell.verdicts.schema import EVIDENCE_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apptell.dataset import Dataset
    from apptell.flows.schema import FlowBatch
    from apptell.models import Model

STORED_KINDS: Final = ("name", "dns", "range", "model")
"""Kinds of evidence that stored flows can be asked for."""
_INFO_FILE: Final = "dataset.json"
_GROUPS: Final = ("core", "segments", "names", "labels")
_BATCH_FLOWS: Final = 1024


def find_dataset(source: Any) -> Dataset | None:
    """The dataset that a source of flows names; None if it names captures.

    Args:
        source: a dataset, its folder, or a list with one of them; anything else is captures.

    Raises:
        DatasetError: the dataset in the folder is damaged.
        UsageError: a dataset is among other sources.
    """
    several = list(source) if isinstance(source, list | tuple) else [source]
    if all(isinstance(each, str | Path) and not _is_folder_of_one(each) for each in several):
        return None  # without the package for datasets, which takes long to load

    from apptell.dataset import Dataset

    if isinstance(source, Dataset):
        return source
    stored = [each for each in several if isinstance(each, Dataset) or _is_folder_of_one(each)]
    if not stored:
        return None
    if len(several) > 1:
        raise UsageError(
            f"{stored[0]} is a dataset: identify it by itself, or merge datasets (apptell dataset merge)"
        )
    return stored[0] if isinstance(stored[0], Dataset) else Dataset.open(stored[0])


def stored_evidence(
    kinds: EvidenceOptions | str | None, model: object | None = None, context: object | None = None
) -> EvidenceOptions:
    """The kinds of evidence to ask stored flows for.

    Args:
        kinds: as they were requested: options, text such as ``name,model``, ``all``, or None for every kind
            that there is, the model only if one was given.
        model: the model that was given, if any.
        context: the window of context that was given, if any.

    Raises:
        UsageError: an unknown kind, or one that needs packets that a dataset does not store.
    """
    if context is not None:
        raise UsageError("context rests on all flows of a client, which a dataset does not store")
    if kinds is None:
        return EvidenceOptions(frozenset(STORED_KINDS if model is not None else STORED_KINDS[:-1]))
    if isinstance(kinds, str) and kinds.strip().lower() == "all":
        return EvidenceOptions(frozenset(STORED_KINDS))
    options = EvidenceOptions.parse(kinds) if isinstance(kinds, str) else kinds
    refused = [kind for kind in EVIDENCE_KINDS if kind in options.kinds - set(STORED_KINDS)]
    if refused:
        raise UsageError(
            f"evidence {refused[0]!r} rests on other flows of a capture, which a dataset does not "
            f"store; available: {', '.join(STORED_KINDS)}"
        )
    return options


def stored_batches(dataset: Dataset, model: Model | None = None) -> Iterator[FlowBatch]:
    """The flows of a dataset in its order, for ``identify_flows``; late views are left out.

    Args:
        dataset: where the flows are.
        model: the model that is asked; None for only evidence.

    Raises:
        DatasetError: a shard is damaged.
        ModelError: the model reads payload, and no flow of the dataset has any.
    """
    needs_payload = model is not None and encoding_of(model.info["inputs"]).reads_payload
    waiting: list[FlowBatch] = []
    for batch in dataset.batches(_GROUPS, _BATCH_FLOWS):
        if "part_of" in batch.columns:
            is_late = pc.is_valid(batch.column("part_of"))
            if pc.any(is_late).as_py():
                batch = batch.filter(~is_late.to_numpy(zero_copy_only=False))
        if needs_payload:
            waiting.append(batch)
            if not _has_payload(batch):
                continue
            needs_payload = False
            yield from waiting
            waiting = []
        else:
            yield batch
    if waiting and model is not None and any(len(batch) for batch in waiting):
        raise ModelError(
            f"model {model.name} reads payload bytes, and the flows of {dataset.path} have none: "
            "use a model on lengths, such as sequence or lengths-rf"
        )


def _has_payload(batch: FlowBatch) -> bool:
    lengths = pc.binary_length(pc.list_flatten(batch.column("segment_bytes")))
    return bool(pc.any(pc.greater(lengths, 0)).as_py())


def _is_folder_of_one(source: Any) -> bool:
    if not isinstance(source, str | Path) or str(source) == "-":
        return False
    try:
        return (Path(source) / _INFO_FILE).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
