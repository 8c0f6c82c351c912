"""Builds a dataset of the embedded samples, recordings of real messaging servers and clients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apptell.dataset import build
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelOptions, LabelSearch

if TYPE_CHECKING:
    from collections.abc import Callable

    from apptell.dataset import Dataset


def embedded_recordings() -> list[Path]:
    """The folders of the embedded samples, a recording each, in order of name."""
    samples = Path(__file__).parents[1] / "samples"
    return sorted(path.parent for path in samples.glob("*/recording.json"))


def named_sample() -> Path:
    """The embedded capture of connections to servers that answer for the names of well-known apps."""
    return Path(__file__).parents[1] / "samples" / "named" / "named.pcap.xz"


def embedded_dataset(folder: Path, progress: Callable[[str], None] | None = None) -> Dataset:
    """Builds the dataset of the embedded samples; an earlier one of the same samples is replaced.

    Args:
        folder: the dataset's.
        progress: called with the name of each capture before it is read.

    Raises:
        DatasetError: the folder holds a dataset of other sources.
        OutputError: the folder cannot be written.
    """
    labelled = LabelSearch(
        embedded_recordings(),
        CaptureFlows(FlowOptions(groups=tuple(GROUPS))),
        LabelOptions(kind="folders"),
    )
    step = None if progress is None else (lambda source: progress(source.name))
    return build(labelled, folder, replace=True, only_same=True, progress=step).dataset
