"""Reads the flows of a labelled source for a dataset, and counts those that are left out.

This package does not depend on the origin of labels: a source only has to satisfy ``LabelledSource``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from apptell.dataset.store import file_sha256
from apptell.errors import CaptureError
from apptell.flows.schema import FlowBatch

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Generator, Iterable, Iterator, MutableMapping, Sequence
    from pathlib import Path

MIN_PAYLOAD_PACKETS: Final = 2
"""A flow with fewer payload packets has too little information; the paper also removes it."""
TOO_SHORT: Final = "fewer than two payload packets"


class LabelledSource(Protocol):
    """A capture (or another origin of flows) with its ground truth."""

    @property
    def name(self) -> str:
        """Its name in messages, such as a path below the given folder."""

    @property
    def kind(self) -> str:
        """The ground truth's kind, such as ``folders``."""

    @property
    def files(self) -> Sequence[Path]:
        """The files whose content identifies this source; empty for a live source."""

    @property
    def dropped(self) -> Counter[str]:
        """Flows left out so far, by reason; complete when ``flows`` has ended."""

    @property
    def facts(self) -> MutableMapping[str, Any]:
        """Further facts for the record (clock offset, share of joinable flows); JSON values."""

    def flows(self) -> Iterator[FlowBatch]:
        """The labelled flows.

        Raises:
            CaptureError: the capture is damaged; what precedes the damage was yielded before.
        """


class SourceReading(Protocol):
    """What is read of a source, wherever it is read."""

    @property
    def digest(self) -> str:
        """Identifies the source's content; empty for a live source."""

    @property
    def damage(self) -> str | None:
        """What broke, or None; complete when ``batches`` has ended, like what follows."""

    @property
    def dropped(self) -> Counter[str]:
        """Flows left out, by reason."""

    @property
    def facts(self) -> MutableMapping[str, Any]:
        """What else is known of the source."""

    def batches(self) -> Iterator[FlowBatch]:
        """Its flows in the whole schema."""


class SourceReader(Protocol):
    """Reads the sources of a build, such as ``cluster.RaySourceReader``."""

    def __call__(
        self,
        sources: Iterable[LabelledSource],
        change: Callable[[FlowBatch], FlowBatch] | None,
        known: frozenset[str],
    ) -> Generator[tuple[LabelledSource, SourceReading]]:
        """Reads sources; yields them in their order.

        Args:
            sources: what to read; picklable.
            change: as for ``build``; picklable.
            known: digests of the dataset's content, which need not be read again.
        """


class Reading:
    """A source on its way into a dataset."""

    def __init__(
        self, source: LabelledSource, change: Callable[[FlowBatch], FlowBatch] | None = None
    ) -> None:
        """``change`` is applied to every batch; it may drop flows."""
        self._source = source
        self._change = change
        self.digest = content_hash(source.files)
        """Identifies the source's content; empty for a live source."""
        self.damage: str | None = None
        """What broke; what precedes the damage was given."""

    @property
    def dropped(self) -> Counter[str]:
        """Flows left out, by reason; complete at the end."""
        return self._source.dropped

    @property
    def facts(self) -> MutableMapping[str, Any]:
        """What else is known of the source; complete at the end."""
        return self._source.facts

    def batches(self) -> Iterator[FlowBatch]:
        """Its flows in the whole schema, those too short left out."""
        try:
            for batch in self._source.flows():
                long_enough = batch.payload_packets >= MIN_PAYLOAD_PACKETS
                n_short = len(batch) - int(long_enough.sum())
                kept = batch
                if n_short:
                    self.dropped[TOO_SHORT] += n_short
                    kept = batch.filter(long_enough)
                if self._change is not None:
                    kept = self._change(kept)
                if len(kept):
                    columns = {name: kept.column(name) for name in kept.columns}
                    yield FlowBatch.from_columns(columns, len(kept))
        except CaptureError as error:
            self.damage = str(error)


def content_hash(files: Sequence[Path]) -> str:
    """SHA-256 of one file, or of the digests of several, hexadecimal; of nothing for none."""
    digests = [file_sha256(file) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest() if digests else ""
