"""Labelled sources enter, one dataset leaves: what is new is added, what is too short is counted.

Where labels come from is none of this module's business; a source only has to look like
``LabelledSource``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from apptell.dataset.store import Dataset, file_sha256
from apptell.dataset.writer import DatasetWriter
from apptell.errors import CaptureError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
    from pathlib import Path

    from apptell.flows.schema import FlowBatch

MIN_PAYLOAD_PACKETS: Final = 2
"""A flow with fewer payload packets says nothing; the paper passes over it too."""
TOO_SHORT: Final = "fewer than two payload packets"


class LabelledSource(Protocol):
    """A capture (or another origin of flows) with its ground truth."""

    @property
    def name(self) -> str:
        """How people know it, such as a path below the folder given."""

    @property
    def kind(self) -> str:
        """The ground truth's kind, such as ``folders``."""

    @property
    def files(self) -> Sequence[Path]:
        """The files whose content tells this source from others; none for a live source."""

    @property
    def dropped(self) -> Counter[str]:
        """Flows left out so far, by reason; complete when ``flows`` has ended."""

    @property
    def facts(self) -> MutableMapping[str, Any]:
        """What else is worth keeping (clock offset, share of joinable flows); JSON values."""

    def flows(self) -> Iterator[FlowBatch]:
        """The labelled flows.

        Raises:
            CaptureError: the capture is damaged; what precedes the damage was yielded before.
        """


@dataclass(slots=True)
class BuildReport:
    """What a build did."""

    dataset: Dataset
    n_added: int = 0
    """Flows that are new."""
    added: list[str] = field(default_factory=list)
    """Names of the sources that are new."""
    skipped: list[str] = field(default_factory=list)
    """Names of the sources whose content the dataset had already."""
    damaged: list[str] = field(default_factory=list)
    """One line per damaged source; what precedes its damage is in the dataset."""


def build(
    sources: Iterable[LabelledSource],
    path: str | Path,
    *,
    replace: bool = False,
    change: Callable[[FlowBatch], FlowBatch] | None = None,
    deeds: Sequence[str] = (),
    progress: Callable[[LabelledSource], None] | None = None,
) -> BuildReport:
    """Makes a dataset, or adds to the one that is there; a source that it has already changes nothing.

    Args:
        sources: where labelled flows come from, one after the other.
        path: the dataset's folder.
        replace: drop what is there; the old dataset stays whole until the new one is.
        change: applied to every batch before it is written (anonymising); may drop flows.
        deeds: lines for ``dataset.json`` that say what ``change`` did.
        progress: called with each new source before it is read.

    Raises:
        DatasetError: the folder cannot be written, or is not a dataset.
        LabelError: a source of ground truth does not fit its capture; nothing was changed.
    """
    with DatasetWriter(path, replace=replace) as writer:
        before = writer.n_flows
        added, skipped, damaged = [], [], []
        for source in sources:
            digest = content_hash(source.files)
            if source.files and writer.has(digest):
                skipped.append(source.name)
                continue
            if progress is not None:
                progress(source)
            damage = _add(writer, source, change)
            entry: dict[str, Any] = {"name": source.name, "sha256": digest, "labels": source.kind}
            entry["dropped"] = dict(sorted(source.dropped.items()))
            entry.update({key: value for key, value in source.facts.items() if key not in entry})
            if damage is not None:
                entry["damage"] = damage
                damaged.append(damage)
            writer.end_source(entry)
            added.append(source.name)
        if not added and not replace and writer.is_old:
            return BuildReport(Dataset.open(path), 0, added, skipped, damaged)
        for deed in deeds:
            writer.note(deed)
        n_added = writer.n_flows - before
        return BuildReport(writer.commit(), n_added, added, skipped, damaged)


def content_hash(files: Sequence[Path]) -> str:
    """SHA-256 of one file, or of the digests of several, hexadecimal; of nothing for none."""
    digests = [file_sha256(file) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest() if digests else ""


def _add(
    writer: DatasetWriter, source: LabelledSource, change: Callable[[FlowBatch], FlowBatch] | None
) -> str | None:
    """Writes a source's flows; the message of its damage, if it is damaged."""
    try:
        for batch in source.flows():
            long_enough = batch.payload_packets >= MIN_PAYLOAD_PACKETS
            n_short = len(batch) - int(long_enough.sum())
            kept = batch
            if n_short:
                source.dropped[TOO_SHORT] += n_short
                kept = batch.filter(long_enough)
            writer.write(kept if change is None else change(kept))
    except CaptureError as error:
        return str(error)
    return None
