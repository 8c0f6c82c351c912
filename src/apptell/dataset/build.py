"""Builds a dataset from labelled sources, or adds new sources to one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apptell.dataset.manifest import INFO_FILE, read_info
from apptell.dataset.reading import Reading, content_hash
from apptell.dataset.spool import spool
from apptell.dataset.store import Dataset
from apptell.dataset.writer import DatasetWriter
from apptell.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from apptell.dataset.reading import LabelledSource, SourceReader, SourceReading
    from apptell.flows.schema import FlowBatch


@dataclass(slots=True)
class BuildReport:
    """The result of a build."""

    dataset: Dataset
    n_added: int = 0
    """Flows that are new."""
    added: list[str] = field(default_factory=list)
    """Names of the sources that are new."""
    skipped: list[str] = field(default_factory=list)
    """Names of the sources whose content the dataset had already."""
    damaged: list[str] = field(default_factory=list)
    """One line per damaged source; the flows before the damage are in the dataset."""
    unused: Mapping[Path, str] = field(default_factory=dict)
    """Files that look like label logs and were not used, with the reason."""

    def notices(self) -> list[str]:
        """A sentence for each damaged source, each unused log, and each log with unreadable lines."""
        bad = [
            f"{entry['name']}: {entry['bad_log_lines']:,} lines of its log cannot be read, the first of them: "
            f"{entry['first_bad_log_line']}"
            for entry in self.dataset.info["sources"]
            if entry["name"] in self.added and entry.get("bad_log_lines")
        ]
        unused = [f"{path}: not used: {why}" for path, why in self.unused.items()]
        return [*self.damaged, *unused, *bad]


def build(
    sources: Iterable[LabelledSource],
    path: str | Path,
    *,
    replace: bool = False,
    only_same: bool = False,
    change: Callable[[FlowBatch], FlowBatch] | None = None,
    applied_edits: Sequence[str] = (),
    jobs: int = 1,
    reader: SourceReader | None = None,
    progress: Callable[[LabelledSource], None] | None = None,
) -> BuildReport:
    """Creates a dataset, or adds to an existing one; a source that it already has changes nothing.

    Args:
        sources: the sources of labelled flows, in order.
        path: the dataset's folder.
        replace: replace the existing dataset, which stays intact until the new one is complete.
        only_same: with ``replace``, only a dataset that was made of these sources and no others.
        change: applied to every batch before it is written (anonymising); may drop flows.
        applied_edits: lines for ``dataset.json`` that describe what ``change`` does to these sources.
        jobs: processes that read sources, a whole source each; sources and ``change`` are then pickled.
        reader: reads the sources instead, such as ``cluster.RaySourceReader``; default: ``jobs`` processes.
        progress: called with each new source before its flows are written.

    Raises:
        DatasetError: the folder cannot be written, or is not a dataset.
        LabelError: a source of ground truth does not fit its capture; nothing was changed.
        UsageError: the existing flows have edits (such as anonymisation) that the new ones would not have.
    """
    if only_same:
        sources = list(sources)
        _refuse_other_sources(Path(path), sources)
    with DatasetWriter(path, "replace" if replace else "add") as writer:
        _check_edits(writer, applied_edits)
        before = writer.n_flows
        added, skipped, damaged = [], [], []
        found: Generator[tuple[LabelledSource, SourceReading]]
        if reader is not None:
            found = reader(sources, change, writer.known)
        elif jobs > 1:
            found = spool(sources, writer.folder, jobs, change, writer.known)
        else:
            found = ((source, Reading(source, change)) for source in sources)
        with closing(found):  # an error ends what is being read elsewhere, too
            for source, reading in found:
                if writer.has(reading.digest):
                    skipped.append(source.name)
                    continue
                if progress is not None:
                    progress(source)
                for batch in reading.batches():
                    writer.write(batch)
                writer.end_source(_entry(source, reading, applied_edits))
                added.append(source.name)
                if reading.damage is not None:
                    damaged.append(reading.damage)
        if not added and not replace and writer.is_old:
            return BuildReport(Dataset.open(path), 0, added, skipped, damaged)
        n_added = writer.n_flows - before
        return BuildReport(writer.commit(), n_added, added, skipped, damaged)


def _refuse_other_sources(path: Path, sources: Sequence[LabelledSource]) -> None:
    if not (path / INFO_FILE).exists():
        return
    ours = {content_hash(source.files) for source in sources}
    for source in read_info(path, any_version=True)["sources"]:
        if source["sha256"] not in ours:
            raise DatasetError(
                f"{path}: holds a dataset of other sources ({source['name']}), which is not replaced; "
                "choose another folder"
            )


def _check_edits(writer: DatasetWriter, applied_edits: Sequence[str]) -> None:
    """Refuses edits that differ: one flow that is not anonymised would spoil an anonymised dataset."""
    for edit in writer.source_edits:
        if edit not in applied_edits:
            raise UsageError(
                f"{writer.path}: this dataset was built with: {edit}. Pass the same options, "
                "or choose another folder"
            )


def _entry(
    source: LabelledSource, reading: SourceReading, applied_edits: Sequence[str]
) -> dict[str, Any]:
    """The entry of a source in ``dataset.json``."""
    entry: dict[str, Any] = {"name": source.name, "sha256": reading.digest, "labels": source.kind}
    entry["dropped"] = dict(sorted(reading.dropped.items()))
    entry.update({key: value for key, value in reading.facts.items() if key not in entry})
    if applied_edits:
        entry["done"] = list(applied_edits)
    if reading.damage is not None:
        entry["damage"] = reading.damage
    return entry
